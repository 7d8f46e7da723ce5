//! What many Services cost one node: from its start to the last address announced, memory, CPU;
//! and, with all of them there, how long one that is new or has another address waits.
//!
//! `cargo bench --bench services -- [--services 10000] [--events 200] [--idle 60] [--quick]`
//!
//! A real API server and etcd, which share the machine. The program measured is `EDGEVIP_BIN`
//! where that is set. Most of the time it takes is to create the Services and to write the status of
//! each, which `--quick` does not wait for.

mod cluster;
mod ear;
#[path = "../../tests/lab/mod.rs"]
#[allow(dead_code, reason = "each includer uses its own part")]
mod lab;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use cluster::{Admin, address, name};
use ear::Ear;
use edgevip::io::clock;
use edgevip::model::Instant;
use lab::daemons::Daemons;
use lab::net::{self, HOSTS, Lan};
use lab::{Lab, program, require, sandbox, wait_for};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than anything here needs.
const LONG: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);
const NODE: &str = "n1";
const EAR: &str = "watch";

/// The rights that `edgevip manifest rbac` would give, and some.
const RIGHTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: { name: edge, namespace: kube-system }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: bench }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects: [{ kind: ServiceAccount, name: edge, namespace: kube-system }]
";

const ABOUT: &str = "
start: from before the process is spawned. last page: from when the API server had sent the last page
  of the last list that the start needs, by its audit log. announced: its first frame on the LAN.
told: the status of all of them is written.
answer, request: from when the API server had answered the write, or was sent it; this has the API
  server's time to the watch in it. The first frame about an address that nobody is known to have
  had asks whether it is free, and the third of them is sent 100 ms before it is announced.
RSS is what the kernel counts, own what is of this process alone; most is the highest RSS so far.
";

fn main() {
    sandbox::enter();
    require(&["ip", "nft", "openssl", "curl"]);
    let option = |name: &str| std::env::args().skip_while(|it| it != name).nth(1);
    let number = |name: &str, usual: usize| {
        option(name).map_or(usual, |it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (services, events) = (number("--services", 10_000), number("--events", 200));
    let idle = Duration::from_secs(number("--idle", 60) as u64);
    let quick = std::env::args().any(|it| it == "--quick");

    let lab = Lab::start(program(env!("CARGO_BIN_EXE_edgevip")));
    // Each of them would get a copy of every frame.
    for host in HOSTS.iter().filter(|it| ![NODE, EAR].contains(&it.name)) {
        net::unplug_for_good(host.name, Lan::Clients);
    }
    lab.api.apply(RIGHTS);
    let admin = Admin::new();
    let took = admin.create(services);
    println!("{} on {}", edgevip::VERSION, lab.program.display());
    println!("{services} Services and their EndpointSlices created in {took:.1?}");

    let ear = Ear::begin(EAR);
    let mut daemons = Daemons::new(&lab.program);
    _ = lab.api.audited();
    let settings = settings(&lab);
    let before = clock::now();
    daemons.launch(NODE, NODE, &lab.program, &settings);
    let pid = daemons.daemon(NODE).pid();
    let all = wait_for(LONG, || ear.count() >= services);
    assert!(all, "{} announced: {}", ear.count(), daemons.daemon(NODE).log());
    let (first, last) = ear.span().expect("some were announced");
    let listed = last_page(&lab, last);
    let since = |at: Instant, from: Instant| at.saturating_since(from).as_secs_f64();
    println!("\n{:<44} {:>10}", "seconds", "");
    println!("{:<44} {:>10.3}", "start to the first announced", since(first, before));
    println!("{:<44} {:>10.3}", "start to the last announced", since(last, before));
    println!("{:<44} {:>10.3}", "last page to the last announced", since(last, listed));
    println!("{:<44} {:>10.3}", "CPU until then, user and system", cpu(pid).as_secs_f64());
    memory(pid, services, "all announced");

    if !quick {
        let line = admin.line();
        wait_for(LONG, || {
            wait_for(Duration::from_secs(1), || false);
            line.told() >= services
        });
        let told = clock::now();
        println!("{:<44} {:>10.1}", "start to all told", since(told, before));
        println!("{:<44} {:>10.3}", "CPU until then", cpu(pid).as_secs_f64());
        memory(pid, services, "all told");
    }

    let (began, used, frames) = (clock::now(), cpu(pid), ear.frames());
    wait_for(idle, || false);
    let took = since(clock::now(), began);
    let per_minute = (cpu(pid) - used).as_secs_f64() / took * 60.0;
    println!("{:<44} {:>10.3}", "CPU in a minute of nothing", per_minute);
    let frames = (ear.frames() - frames) as f64 / took;
    println!("{:<44} {:>10.0}", "frames a second then", frames);

    let waits = appear(&admin, &ear, services, events);
    table("a Service is created", waits);
    let waits = readdress(&admin, &ear, services, events);
    table("a Service gets another address", waits);
    memory(pid, services, "after that");
    let log = daemons.daemon(NODE).log();
    let lost = log.lines().filter(|it| it.contains("no longer answering")).count();
    println!("{:<44} {:>10}", "addresses given up unasked", lost.saturating_sub(events));
    println!("{ABOUT}");
}

fn settings(lab: &Lab) -> BTreeMap<String, String> {
    let config = lab.api.kubeconfig_of_audited("services").display().to_string();
    let mut settings: BTreeMap<String, String> = [
        ("cp_enable", "false"),
        ("k8s_config_file", &config),
        ("prometheus_server", ""),
        ("svc_enable", "true"),
        ("vip_arp", "true"),
        ("vip_interface", "eth0"),
        ("vip_leaderelection", "true"),
        ("vip_nodename", NODE),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    // Whoever looks into something wants other settings.
    let own =
        std::env::vars().filter(|it| it.0.starts_with("vip_") || it.0.starts_with("edgevip_"));
    settings.extend(own);
    settings
}

/// When the API server had sent the last page of a list before then.
fn last_page(lab: &Lab, before: Instant) -> Instant {
    let (wall, now) = (clock::wall(), clock::now());
    let micros = |it: &Value| {
        let text = it["stageTimestamp"].as_str()?.trim_end_matches('Z').to_owned();
        let (_, time) = text.split_once('T')?;
        let mut parts = time.split(':').map(|it| it.parse::<f64>().ok());
        let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
        Some(((hours * 60.0 + minutes) * 60.0 + seconds) * 1e6)
    };
    let today = (wall.as_micros() % 86_400_000_000) as f64;
    let ago = |at: f64| Duration::from_micros((today - at).rem_euclid(86_400e6) as u64);
    let audited = lab.api.audited();
    let lists =
        audited.iter().filter(|it| it["verb"] == "list" && it["stage"] == "ResponseComplete");
    let ends = lists.filter_map(micros).map(|it| now - ago(it));
    ends.filter(|it| *it < before).max().expect("something was listed")
}

/// How long new Services wait, from the answer and from the request.
fn appear(admin: &Admin, ear: &Ear, services: usize, events: usize) -> Vec<[Duration; 3]> {
    let line = admin.line();
    let one = |number| {
        let (name, ip) = (name(number), address(number));
        line.create_slice(&name);
        let asked = clock::now();
        let answered = line.create_service(&name, ip);
        waits(ear, ip, asked, answered)
    };
    (services..services + events).map(one).collect()
}

/// How long a Service waits for another address.
fn readdress(admin: &Admin, ear: &Ear, services: usize, events: usize) -> Vec<[Duration; 3]> {
    let line = admin.line();
    let one = |number| {
        let ip = address(services + events + number);
        let asked = clock::now();
        let answered = line.readdress(&name(number % services), ip);
        waits(ear, ip, asked, answered)
    };
    (0..events).map(one).collect()
}

fn waits(ear: &Ear, ip: Ipv4Addr, asked: Instant, answered: Instant) -> [Duration; 3] {
    let fine = wait_for(SOON, || ear.announced(ip).is_some());
    assert!(fine, "{ip} is not announced: {}", lab::logs());
    let heard = [ear.first(ip), ear.announced(ip)];
    let [first, announced] = heard.map(|it| it.expect("just seen"));
    // Not in step with anything that happens every so many milliseconds.
    let pause = u64::from(ip.octets()[3]) * 7 % 40;
    wait_for(Duration::from_millis(10 + pause), || false);
    let waits = [(first, answered), (announced, answered), (announced, asked)];
    waits.map(|(at, from)| at.saturating_since(from))
}

fn table(what: &str, waits: Vec<[Duration; 3]>) {
    println!("\n{:<44} {:>10} {:>10} {:>10}", format!("{what}, ms"), "p50", "p99", "most");
    let kinds = ["answer to first frame", "answer to announced", "request to announced"];
    for (at, kind) in kinds.into_iter().enumerate() {
        let mut all: Vec<_> = waits.iter().map(|it| it[at]).collect();
        all.sort();
        let Some(last) = all.len().checked_sub(1) else { continue };
        let [half, most, worst] =
            [last / 2, last * 99 / 100, last].map(|it| all[it].as_secs_f64() * 1e3);
        println!("{:<44} {half:>10.1} {most:>10.1} {worst:>10.1}", kind);
    }
}

fn memory(pid: Pid, services: usize, when: &str) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let lines = text.lines().filter_map(|it| it.strip_prefix(name));
        let kib = lines.filter_map(|it| it.split_whitespace().next()?.parse::<f64>().ok());
        kib.sum::<f64>() / 1024.0
    };
    let (rss, most) = (field(&status, "VmRSS:"), field(&status, "VmHWM:"));
    let own = field(&rollup, "Private_Clean:") + field(&rollup, "Private_Dirty:");
    let per = own * 1000.0 / services as f64;
    println!(
        "MiB, {when}: RSS {rss:.1}, own {own:.1} ({per:.2} for 1 000 Services), most {most:.1}"
    );
}

/// What the process has used so far, its ended threads too.
fn cpu(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks: u64 = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split(' ').skip(11).take(2).flat_map(str::parse::<u64>).sum())
        .unwrap_or_default();
    // USER_HZ is 100 everywhere.
    Duration::from_millis(ticks * 10)
}
