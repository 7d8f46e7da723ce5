//! Something happens to the API server.

use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::api::RELAY;
use crate::lab::cluster::Cluster;
use crate::lab::gap::Gap;
use crate::lab::liar::{Liar, Lie};
use crate::lab::net::NODES;
use crate::lab::relay::Relay;
use crate::lab::watch::Watch;
use crate::lab::{millis, wait_for};
use crate::outcome::{LEASE, LIFETIME, Lost, SLACK, never_two, takeover, takeover_within};

pub const SCENARIOS: &[Scenario] = &[
    ("api_hung", api_hung),
    ("api_hung_lapse", api_hung_lapse),
    ("api_restarted", api_restarted),
    ("api_slow", api_slow),
    ("api_denies_at_start", api_denies_at_start),
    ("api_lies_500", api_lies_500),
    ("api_lies_garbage", api_lies_garbage),
    ("api_lies_2gb_line", api_lies_2gb_line),
];

const SLOW: Duration = Duration::from_millis(2_500);

fn api_hung(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let gap = Gap::begin(cluster.vip);
    let since = clock::now();
    cluster.lab.api.pause();
    watch.nobody(LEASE + LIFETIME);
    cluster.lab.api.resume();
    let back = clock::now();
    let heir = watch.someone(LEASE + SLACK);
    let first = watch.first(back).expect("the heir has answered");
    assert!(cluster.all_run(), "a daemon has ended");
    never_two(&watch, since);
    let after = millis(first.saturating_since(back));
    format!("{}, {heir} answers {after} ms after the API", Lost(gap.end()))
}

/// Until its leadership ends, a holder that is not renewed has its address all the time.
fn api_hung_lapse(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &[]);
    cluster.lab.api.pause();
    watch.nobody(LEASE + LIFETIME);
    let status = cluster.status_is("n1", "knows", |it| it["role"] == "follower");
    let log = cluster.daemon("n1").log();
    assert_eq!(status["readded"], 0, "the kernel let go of it first: {log}");
    assert!(!log.contains("somebody removed"), "nobody did: {log}");
    "nothing is put back".into()
}

fn api_restarted(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let gap = Gap::begin(cluster.vip);
    let since = clock::now();
    cluster.lab.api.kill();
    cluster.lab.api.restart();
    let back = clock::now();
    let heir = watch.someone(LEASE + SLACK);
    let first = watch.first(back).expect("the heir has answered");
    assert!(cluster.all_run(), "a daemon has ended");
    for node in NODES.into_iter().filter(|it| *it != heir) {
        cluster.follows(node, &heir);
    }
    never_two(&watch, since);
    let down = millis(back.saturating_since(since));
    let after = millis(first.saturating_since(back));
    format!("down {down} ms, {}, {heir} answers {after} ms after it", Lost(gap.end()))
}

/// An answer takes longer than a retry period, but not as long as a renew deadline.
fn api_slow(cluster: &mut Cluster<'_>) -> String {
    let relay = Relay::begin();
    let config = cluster.lab.api.kubeconfig("slow", RELAY, relay.port).display().to_string();
    cluster.set("k8s_config_file", &config).lease_times("15", "10", "2");
    relay.delay(SLOW);
    let (watch, since) = (Watch::begin(cluster.vip), clock::now());
    cluster.start("n1");
    watch.only("n1", Duration::from_secs(40));
    let first = watch.first(since).expect("n1 has answered");
    cluster.start("n2");
    cluster.follows_within("n2", "n1", Duration::from_secs(40));
    let gap = Gap::begin(cluster.vip);
    cluster.renewed(3);
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}\n{}", Lost(seen), watch.story(since));
    let within = Duration::from_secs(15) + SLOW * 3 + SLACK;
    let outcome = takeover_within(cluster, &watch, "n1", within, |it| {
        it.signal("n1", Signal::SIGTERM);
    });
    never_two(&watch, since);
    format!("first claim after {} ms; SIGTERM: {outcome}", millis(first.saturating_since(since)))
}

/// The account gets its rights after the daemon has started: "not yet", not "never".
fn api_denies_at_start(cluster: &mut Cluster<'_>) -> String {
    let binding = "system:kube-vip-binding";
    let api = &cluster.lab.api;
    api.kubectl(&["delete", "clusterrolebinding", binding]);
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    cluster.status_is("n1", "the API denies", |it| it["api"]["fault"].is_string());
    api.grant();
    let granted = clock::now();
    watch.only("n1", Duration::from_secs(20));
    let first = watch.first(granted).expect("n1 has answered");
    format!("answers {} ms after it may", millis(first.saturating_since(granted)))
}

fn api_lies_500(cluster: &mut Cluster<'_>) -> String {
    lied_to(cluster, Lie::Refusal)
}

fn api_lies_garbage(cluster: &mut Cluster<'_>) -> String {
    lied_to(cluster, Lie::Garbage)
}

fn api_lies_2gb_line(cluster: &mut Cluster<'_>) -> String {
    lied_to(cluster, Lie::LineWithoutEnd)
}

/// No daemon ever needs more, whatever it is told.
const MEMORY: u64 = 32 << 20;
/// So many lies at least are told to each.
const LIES: usize = 4;

/// First the holder alone is lied to, then everybody, then nobody.
fn lied_to(cluster: &mut Cluster<'_>, lie: Lie) -> String {
    let liar = Liar::begin();
    let config = cluster.lab.api.kubeconfig("lied-to", RELAY, liar.port).display().to_string();
    cluster.set("k8s_config_file", &config);
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let since = clock::now();
    let outcome = takeover(cluster, &watch, "n1", |_| liar.lie(lie, &["n1"]));
    enough(&liar, &["n1"]);

    liar.lie(lie, &NODES);
    watch.nobody(LEASE + LIFETIME);
    enough(&liar, &NODES);
    for node in NODES {
        cluster.status_is(node, "knows that it is lied to", |it| it["api"]["fault"].is_string());
    }
    liar.repent();
    let honest = clock::now();
    let heir = watch.someone(LEASE + SLACK);
    for node in NODES.into_iter().filter(|it| *it != heir) {
        cluster.follows(node, &heir);
    }
    let first = watch.first(honest).expect("the heir has answered");
    let mut most = 0;
    for node in NODES {
        let daemon = cluster.daemon(node);
        assert!(!daemon.log().contains("panicked"), "{node}: {}", daemon.log());
        most = most.max(daemon.most_memory());
    }
    assert!(cluster.all_run(), "a daemon has ended");
    assert!(most < MEMORY, "{} KiB in use", most >> 10);
    never_two(&watch, since);
    let after = millis(first.saturating_since(honest));
    format!("{outcome}; {heir} answers {after} ms after the truth; {} KiB at most", most >> 10)
}

fn enough(liar: &Liar, nodes: &[&str]) {
    let told = wait_for(Duration::from_secs(20), || nodes.iter().all(|it| liar.told(it) >= LIES));
    assert!(told, "lies told: {:?}", nodes.iter().map(|it| liar.told(it)).collect::<Vec<_>>());
}
