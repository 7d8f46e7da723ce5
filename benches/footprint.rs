//! What it costs to run: size, memory, wakeups and requests of an idle leader and its
//! followers; keepalived beside it.
//!
//! `EDGEVIP_BIN=target/dist/x86_64-unknown-linux-musl/edgevip cargo bench --bench footprint --
//! [--seconds 30] [--vips 200]`; with so many VIPs, it is only a quorum that is looked at.

#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "each includer uses its own part")]
mod lab;

use std::fs;
use std::path::Path;
use std::time::Duration;

use edgevip::io::clock;
use lab::cluster::Cluster;
use lab::net::NODES;
use lab::quorum::Quorum;
use lab::watch::Watch;
use lab::{Lab, keepalived, program, require, sandbox, wait_for};
use nix::unistd::Pid;

/// Bursts and first renewals are no part of idling.
const SETTLE: Duration = Duration::from_secs(5);

/// What a set of processes has used so far.
#[derive(Clone, Copy, Default)]
struct Usage {
    rss: u64,
    pss: u64,
    anonymous: u64,
    threads: u64,
    switches: u64,
    cpu: u64,
}

fn main() {
    sandbox::enter();
    require(&["ip", "nft", "openssl", "curl", "keepalived"]);
    let option = |name: &str| std::env::args().skip_while(|it| it != name).nth(1);
    let seconds = option("--seconds").map_or(30, |it| it.parse().expect("--seconds is a number"));
    let window = Duration::from_secs(seconds);
    let vips = option("--vips").map_or(1, |it| it.parse().expect("--vips is a number"));

    let lab = Lab::start(program(env!("CARGO_BIN_EXE_edgevip")));
    let size = fs::metadata(&lab.program).expect("it was started").len();
    println!("{} {size} bytes", lab.program.display());
    println!(
        "{:<34} {:>8} {:>8} {:>8} {:>8} {:>10} {:>8}",
        "", "RSS kB", "PSS kB", "anon kB", "threads", "wakeups/s", "CPU %"
    );
    for profile in ["default", "fast"] {
        by_quorum(&lab, profile, vips, window);
        lab.restore();
    }
    if vips > 1 {
        return;
    }
    // The API server has a Lease of its own.
    let own = requests(&lab, || _ = wait_for(window, || false));
    for (duration, renew, retry) in [("15", "10", "2"), ("3", "2", "500ms")] {
        edgevip(&lab, [duration, renew, retry], window, own);
        lab.restore();
    }
    beside(&lab, window);
}

fn edgevip(lab: &Lab, [duration, renew, retry]: [&str; 3], window: Duration, own: u64) {
    let mut cluster = Cluster::new(lab, &format!("footprint-{duration}"));
    cluster.lease_times(duration, renew, retry);
    let watch = cluster.settle("n1", &["n2", "n3"]);
    // The witness asks a hundred times a second, which an idle node would not hear.
    drop(watch);
    wait_for(SETTLE, || false);
    let pids: Vec<_> = NODES.iter().map(|it| cluster.daemon(it).pid()).collect();
    let mut rows = Vec::new();
    let asked = requests(lab, || rows = measure(&pids, window)).saturating_sub(own);
    for (row, node) in rows.iter().zip(["leader", "follower", "follower"]) {
        println!("{:<34} {row}", format!("edgevip {duration}/{renew}/{retry}, {node}"));
    }
    println!("{:<34} {asked} requests about the Lease in {window:?}, all nodes together", "");
}

fn by_quorum(lab: &Lab, profile: &str, vips: u16, window: Duration) {
    let mut quorum = Quorum::new(lab, &format!("footprint-{profile}"));
    quorum.set("vip_raft_profile", profile);
    if vips > 1 {
        quorum.carry(vips);
    }
    let (watch, roles) = quorum.settle();
    // A node that is asked a hundred times a second is not idle.
    drop(watch);
    let roles = if vips > 1 { roles } else { quorum.hold_apart() };
    wait_for(SETTLE, || false);
    let pids: Vec<_> = NODES.iter().map(|it| quorum.daemon(it).pid()).collect();
    let before: Vec<_> = pids.iter().map(|it| written(*it)).collect();
    let rows = measure(&pids, window);
    let bytes: u64 = pids.iter().zip(before).map(|(pid, before)| written(*pid) - before).sum();
    for (row, node) in rows.iter().zip(NODES) {
        let role = match (node == roles.leader, node == roles.holder) {
            (true, _) => "leader",
            (false, true) => "holder",
            (false, false) => "follower",
        };
        println!("{:<34} {row}", format!("edgevip, quorum {profile}, {role}"));
    }
    println!("{:<34} {bytes} bytes written to disks in {window:?}, all nodes together", "");
}

/// What a process has had written to disks.
fn written(pid: Pid) -> u64 {
    field(Path::new(&format!("/proc/{pid}/io")), "write_bytes:")
}

/// Requests about Leases meanwhile.
fn requests(lab: &Lab, work: impl FnOnce()) -> u64 {
    let before = lab.api.lease_requests();
    work();
    lab.api.lease_requests() - before
}

fn beside(lab: &Lab, window: Duration) {
    for interval in ["1", "0.1"] {
        let (vip, _) = lab.fresh_vips();
        let nodes = NODES.into_iter().zip([100, 90, 80]);
        let all: Vec<_> = nodes.map(|(it, n)| keepalived::start(it, n, interval, vip)).collect();
        let watch = Watch::begin(vip);
        watch.someone(Duration::from_secs(20));
        drop(watch);
        wait_for(SETTLE, || false);
        let pids: Vec<_> = all.iter().map(lab::daemon::Daemon::pid).collect();
        for (row, node) in measure(&pids, window).iter().zip(["active", "backup", "backup"]) {
            println!("{:<34} {row}", format!("keepalived {interval} s, {node}"));
        }
        drop(all);
        lab.restore();
    }
}

fn measure(pids: &[Pid], window: Duration) -> Vec<String> {
    let began = clock::now();
    let before: Vec<_> = pids.iter().map(|it| usage(*it)).collect();
    wait_for(window, || false);
    let took = clock::now().saturating_since(began).as_secs_f64();
    let rows = pids.iter().zip(before).map(|(pid, before)| {
        let Usage { rss, pss, anonymous, threads, switches, cpu } = usage(*pid);
        let wakeups = (switches - before.switches) as f64 / took;
        let cpu = (cpu - before.cpu) as f64 / 1e9 / took * 100.0;
        format!("{rss:>8} {pss:>8} {anonymous:>8} {threads:>8} {wakeups:>10.2} {cpu:>8.3}")
    });
    rows.collect()
}

/// Of the process and its children: keepalived is two.
fn usage(pid: Pid) -> Usage {
    let mut usage = Usage::default();
    add(&mut usage, pid.as_raw());
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        add(&mut usage, child.parse().expect("a process id"));
    }
    usage
}

fn add(usage: &mut Usage, pid: i32) {
    let process = format!("/proc/{pid}");
    let process = Path::new(&process);
    usage.rss += field(&process.join("status"), "VmRSS:");
    usage.anonymous += field(&process.join("status"), "RssAnon:");
    usage.pss += field(&process.join("smaps_rollup"), "Pss:");
    for task in fs::read_dir(process.join("task")).expect("it runs").flatten() {
        usage.threads += 1;
        usage.switches += field(&task.path().join("status"), "voluntary_ctxt_switches:");
        let schedule = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let cpu = schedule.split_whitespace().next().and_then(|it| it.parse::<u64>().ok());
        usage.cpu += cpu.expect("the kernel counts CPU time");
    }
}

fn field(file: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|it| it.strip_prefix(name));
    let number = line.and_then(|it| it.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{}: no {name}", file.display()))
}
