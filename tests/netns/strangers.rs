//! A host that is not ours uses the VIP.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use edgevip::io::clock;
use serde_json::Value;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap::Gap;
use crate::lab::net::{command_in, inside, ip_in, run};
use crate::lab::packet::claim;
use crate::lab::socket::Socket;
use crate::lab::watch::Watch;
use crate::lab::{wait_for, with_path};
use crate::outcome::{Lost, never_two};

pub const SCENARIOS: &[Scenario] = &[
    ("stranger_first", stranger_first),
    ("stranger_first_ipv6", stranger_first_ipv6),
    ("stranger_later", stranger_later),
    ("beside_kube_proxy", beside_kube_proxy),
    ("beside_another_daemon", beside_another_daemon),
];

const STRANGER: [u8; 6] = [2, 0, 0, 0x77, 0, 66];

fn stranger_first(cluster: &mut Cluster<'_>) -> String {
    refused(cluster)
}

fn stranger_first_ipv6(cluster: &mut Cluster<'_>) -> String {
    let vip = cluster.vip6.to_string();
    cluster.set("address", &vip);
    refused(cluster)
}

fn refused(cluster: &mut Cluster<'_>) -> String {
    let vip = cluster.watched();
    let address = format!("{vip}/{} dev eth0", if vip.is_ipv4() { 32 } else { 128 });
    let dad = if vip.is_ipv4() { "" } else { "nodad" };
    ip_in("stranger", &format!("addr add {address} {dad}"));
    let watch = Watch::begin(vip);
    let since = clock::now();
    cluster.start("n1");
    let status =
        cluster.status_is("n1", "refused by a stranger", |it| it["vips"][0]["code"] == "conflict");
    let why = status["vips"][0]["why"].as_str().unwrap_or_default().to_string();
    assert!(why.contains("02:00:00:77:00:42"), "the MAC is not named: {why}");
    watch.only("stranger", Duration::from_secs(1));
    let heard = watch.heard(since);
    assert!(heard.iter().all(|it| it.by != "n1" || it.kind == "probe"), "n1 claims it: {heard:?}");
    ip_in("stranger", &format!("addr del {address}"));
    watch.only("n1", Duration::from_secs(15));
    never_two(&watch, since);
    why
}

fn stranger_later(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2"]);
    let IpAddr::V4(vip) = cluster.vip else { unreachable!("the first VIP is of IPv4") };
    let gap = Gap::begin(cluster.vip);
    let since = clock::now();
    inside("stranger", || {
        let socket = Socket::on_link("eth0").expect("packet sockets are allowed");
        let mut sent = clock::now();
        wait_for(Duration::from_secs(3), || {
            if clock::now().saturating_since(sent) > Duration::from_millis(50) {
                socket.send(&claim(STRANGER, vip));
                sent = clock::now();
            }
            false
        });
    });
    let status = cluster.status_is("n1", "counts them", |it| it["conflicts"].as_u64() > Some(10));
    let heard = watch.heard(since);
    let defence = heard.iter().filter(|it| it.by == "n1").count();
    assert!(defence > 0, "n1 does not defend the VIP");
    watch.only("n1", Duration::from_secs(5));
    never_two(&watch, since);
    let conflicts = &status["conflicts"];
    format!("{conflicts} claims in 3 s, {defence} frames in defence, {}", Lost(gap.end()))
}

/// kube-proxy in IPVS mode has the addresses of Services on a link of each node; a bridge stands
/// for that link, whose kind every kernel has.
fn beside_kube_proxy(cluster: &mut Cluster<'_>) -> String {
    let vip = cluster.vip;
    cluster.settle("n1", &["n2"]);
    let says = |node: &str| checked(cluster, node).contains("kube-proxy in IPVS mode");
    assert!(!says("n2"), "there is none");
    cluster.run_on("n2", "ip link add kube-ipvs0 type bridge");
    assert!(!says("n2"), "it has nothing");
    cluster.run_on("n2", &format!("ip addr add {vip}/32 dev kube-ipvs0"));
    let report = checked(cluster, "n2");
    let why = report.lines().find(|it| it.contains("kube-proxy in IPVS mode"));
    let why = why.expect("it is named").to_owned();
    assert!(why.contains(&format!("has {vip}")) && why.contains("strictARP"), "{why}");
    assert!(why.starts_with("FAULT"), "{why}");
    let status = told(cluster, "n2");
    assert!(status["beside"][0].as_str().is_some_and(|it| it.contains("strictARP")), "{status}");
    cluster.run_on("n2", "sysctl -qw net.ipv4.conf.all.arp_ignore=1");
    assert!(!says("n2"), "the kernel answers for nothing that is not the link's");
    assert!(told(cluster, "n2")["beside"].is_null());
    cluster.run_on("n2", "sysctl -qw net.ipv4.conf.all.arp_ignore=0");
    cluster.run_on("n2", "ip link del kube-ipvs0");
    why
}

fn beside_another_daemon(cluster: &mut Cluster<'_>) -> String {
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    assert!(told(cluster, "n1")["beside"].is_null(), "its own process is none");
    let folder = Path::new("/run/other");
    fs::create_dir_all(folder).expect("/run is ours");
    let program = folder.join("kube-vip");
    if !program.exists() {
        symlink("/bin/sleep", &program).expect("/run is ours");
    }
    let mut other =
        command_in("n1", program.to_str().expect("text")).arg("60").spawn().expect("it runs");
    let named = |it: &str| it.contains("another VIP daemon runs here: kube-vip");
    let fine = wait_for(Duration::from_secs(10), || named(&checked(cluster, "n1")));
    let status = told(cluster, "n1");
    other.kill().expect("it is ours");
    other.wait().expect("it is ours");
    assert!(fine, "check does not name it");
    let why = status["beside"][0].as_str().unwrap_or_default().to_owned();
    assert!(named(&why), "{status}");
    why
}

/// What `edgevip check` says on a node, with the settings that count here.
fn checked(cluster: &Cluster<'_>, node: &str) -> String {
    let mut command = command_in(node, "sh");
    command.args(["-c", "\"$0\" check 2>&1; true"]).arg(&cluster.lab.program);
    let vip = cluster.vip.to_string();
    let settings =
        [("vip_arp", "true"), ("cp_enable", "true"), ("address", &vip), ("vip_interface", "eth0")];
    run(with_path(&mut command).envs(settings))
}

/// What `edgevip status` says on a node.
fn told(cluster: &Cluster<'_>, node: &str) -> Value {
    let mut command = command_in(node, cluster.lab.program.to_str().expect("text"));
    let answer = run(command.args(["status", "--json", "--instance", node]));
    serde_json::from_str(&answer).expect("JSON")
}
