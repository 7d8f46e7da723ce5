//! Something happens to the API server.

use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::api::RELAY;
use crate::lab::cluster::Cluster;
use crate::lab::gap::Gap;
use crate::lab::millis;
use crate::lab::net::NODES;
use crate::lab::relay::Relay;
use crate::lab::watch::Watch;
use crate::outcome::{LEASE, LIFETIME, Lost, SLACK, never_two, takeover_within};

pub const SCENARIOS: &[Scenario] = &[
    ("api_hung", api_hung),
    ("api_restarted", api_restarted),
    ("api_slow", api_slow),
    ("api_denies_at_start", api_denies_at_start),
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
