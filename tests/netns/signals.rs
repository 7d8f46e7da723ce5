//! A daemon is told to read its settings again, or to say what it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;
use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::daemon::log_of;
use crate::lab::gap::{Gap, reachable};
use crate::lab::net::has_address;
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::outcome::{Lost, SLACK, never_two, takeover};

pub const SCENARIOS: &[Scenario] =
    &[("sighup", sighup), ("sighup_log_level", sighup_log_level), ("sigusr1", sigusr1)];

const SOON: Duration = Duration::from_secs(10);
/// The end of every dump.
const DUMPED: &str = "===== END OF CONFIGURATION DUMP =====";

/// A second VIP comes, a bad file changes nothing, and the second VIP goes.
fn sighup(cluster: &mut Cluster<'_>) -> String {
    let file = from_file(cluster);
    let (vip, vip6) = (cluster.vip, cluster.vip6);
    let one = format!("address = \"{vip}\"\n");
    write(&file, &one);
    let (watch, watch6) = (Watch::begin(vip), Watch::begin(vip6));
    for node in ["n1", "n2"] {
        cluster.start(node);
        watch.only("n1", SOON);
    }
    cluster.follows("n2", "n1");
    reachable(vip, SLACK);
    let gap = Gap::begin(vip);
    let since = clock::now();

    write(&file, &format!("address = \"{vip},{vip6}\"\nvip_arpRate = 700\n"));
    for node in ["n1", "n2"] {
        cluster.signal(node, Signal::SIGHUP);
    }
    watch6.only("n1", SOON);
    let dump = dumped(cluster, "n1");
    assert!(dump.contains("ARP Broadcast Rate: 700 ms\n"), "{dump}");

    for (bad, named) in [
        (format!("{one}vip_arpRate = \"soon\"\n"), "vip_arpRate=soon"),
        ("address = \"nowhere at all\"\n".into(), "address=nowhere at all"),
        ("address = \n".into(), "config_file="),
    ] {
        write(&file, &bad);
        cluster.signal("n1", Signal::SIGHUP);
        said(cluster, "n1", &["configuration not read again, the old one stays", named]);
    }
    fs::remove_file(&file).expect("it was written");
    cluster.signal("n1", Signal::SIGHUP);
    said(cluster, "n1", &["the old one stays", "config_file=", "No such file"]);
    cluster.renewed(3);
    assert!(cluster.all_run(), "a daemon has ended");
    watch6.only("n1", SLACK);

    write(&file, &format!("{one}port = 7443\n"));
    cluster.signal("n1", Signal::SIGHUP);
    said(cluster, "n1", &["the rest needs a restart"]);
    watch6.nobody(SOON);
    let gone = wait_for(SLACK, || !has_address("n1", &vip6.to_string()));
    assert!(gone, "the second VIP stays");
    watch.only("n1", SLACK);
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}\n{}", Lost(seen), watch.story(since));

    let outcome = takeover_both(cluster, &watch, &watch6);
    for watch in [&watch, &watch6] {
        never_two(watch, since);
    }
    format!("{}; then SIGTERM: {outcome}", Lost(seen))
}

/// The heir was told of the second VIP while it was a follower.
fn takeover_both(cluster: &mut Cluster<'_>, watch: &Watch, watch6: &Watch) -> String {
    let (watched, both) = (cluster.vip.to_string(), "the heir has both");
    cluster.set("address", &watched);
    let outcome = takeover(cluster, watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    assert_eq!(outcome.seen.lost, 0, "{outcome}\n{}", watch.story(outcome.since));
    watch6.only("n2", SOON);
    cluster.status_is("n2", both, |it| it["vips"].as_array().is_some_and(|it| it.len() == 2));
    outcome.to_string()
}

/// Why a daemon that stops does not answer is told to those who debug.
const STOPS: &str = " DEBUG not answering for ";

fn sighup_log_level(cluster: &mut Cluster<'_>) -> String {
    let file = from_file(cluster);
    let address = format!("address = \"{}\"\n", cluster.vip);
    for (node, before, after) in [("n1", 0, -4), ("n2", -4, 0)] {
        cluster.set("vip_loglevel", "");
        write(&file, &format!("{address}vip_loglevel = {before}\n"));
        let watch = Watch::begin(cluster.vip);
        cluster.start(node);
        watch.only(node, SOON);
        write(&file, &format!("{address}vip_loglevel = {after}\n"));
        cluster.signal(node, Signal::SIGHUP);
        cluster.renewed(1);
        let lines = cluster.daemon(node).log().lines().count();
        cluster.signal(node, Signal::SIGTERM);
        cluster.ended(node, Duration::from_secs(5));
        let log = log_of(node);
        let told = log.lines().skip(lines).any(|it| it.contains(STOPS));
        assert_eq!(told, after < 0, "{node}, level {before}, then {after}: {log}");
    }
    "more is told, and less".into()
}

fn sigusr1(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2"]);
    let (gap, since) = (Gap::begin(cluster.vip), clock::now());
    let lease = format!("kube-system/{}", cluster.lease);
    for (node, does) in [("n1", "leads"), ("n2", "follows")] {
        let dump = dumped(cluster, node);
        let pid = cluster.daemon(node).pid();
        for line in [
            "===== KUBE-VIP CONFIGURATION DUMP =====".into(),
            format!("Node Name: {node}"),
            format!("PID: {pid}"),
            format!("VIP: {}", cluster.vip),
            format!("Lease Name: {}", cluster.lease),
            "Lease Duration: 3 seconds".into(),
        ] {
            assert!(dump.lines().any(|it| it == line), "{node}: no line {line:?}:\n{dump}");
        }
        assert!(dump.contains(&format!("{node} {does} {lease}")), "{node}: {does}?\n{dump}");
    }
    cluster.renewed(2);
    assert!(cluster.all_run(), "a daemon has ended");
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}\n{}", Lost(seen), watch.story(since));
    never_two(&watch, since);
    format!("holder and follower say what they do; {}", Lost(seen))
}

/// Lets a daemon dump; returns the newest dump.
fn dumped(cluster: &Cluster<'_>, node: &str) -> String {
    let log = || cluster.daemon(node).log();
    let before = log().matches(DUMPED).count();
    let since: Instant = cluster.signal(node, Signal::SIGUSR1);
    let fine = wait_for(SOON, || log().matches(DUMPED).count() > before);
    assert!(fine, "{node} has not dumped since {since:?}: {}", log());
    let log = log();
    log[log.rfind("===== KUBE-VIP").expect("a dump has a beginning")..].to_string()
}

/// Waits until a daemon's log has a line with all these words.
fn said(cluster: &Cluster<'_>, node: &str, words: &[&str]) {
    let log = || cluster.daemon(node).log();
    let has = |line: &str| words.iter().all(|it| line.contains(it));
    let fine = wait_for(SOON, || log().lines().any(has));
    assert!(fine, "{node} does not say {words:?}: {}", log());
}

/// Moves the address from the environment, which a process keeps, to a file.
fn from_file(cluster: &mut Cluster<'_>) -> PathBuf {
    let file = PathBuf::from(format!("/run/{}.toml", cluster.lease));
    cluster.set("address", "").set("config_file", &file.display().to_string());
    file
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("/run is ours");
}
