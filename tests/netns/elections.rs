//! Who may lead, where candidates differ or are not ours.

use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap::Gap;
use crate::lab::net::has_address;
use crate::lab::watch::Watch;
use crate::lab::{millis, wait_for};
use crate::outcome::{LEASE, Lost, SLACK, never_two, takeover, takeover_within};

pub const SCENARIOS: &[Scenario] = &[
    ("foreign_leader", foreign_leader),
    ("foreign_leader_releases", foreign_leader_releases),
    ("foreign_leader_steals", foreign_leader_steals),
    ("mixed_durations", mixed_durations),
    ("two_processes_on_a_node", two_processes_on_a_node),
    ("two_hosts_with_one_name", two_hosts_with_one_name),
    ("killed_and_restarted", killed_and_restarted),
];

fn foreign_leader(cluster: &mut Cluster<'_>) -> String {
    foreign_holds(cluster, 5);
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    cluster.follows("n1", "elsewhere");
    let mut last = clock::now();
    let until = last + Duration::from_secs(6);
    while clock::now() < until {
        last = clock::now();
        foreign_holds(cluster, 5);
    }
    assert_eq!(watch.first(Instant::from_nanos(0)), None, "n1 does not wait");
    watch.only("n1", Duration::from_secs(5) + SLACK);
    let first = watch.first(last).expect("n1 has answered");
    let waited = first.saturating_since(last);
    assert!(waited >= Duration::from_secs(5), "n1 waits only {} ms", millis(waited));
    format!("takes over {} ms after the last renewal of 5 s", millis(waited))
}

fn foreign_leader_releases(cluster: &mut Cluster<'_>) -> String {
    foreign_holds(cluster, 30);
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    cluster.follows("n1", "elsewhere");
    let since = clock::now();
    foreign_writes(cluster, "", 1);
    watch.only("n1", SLACK);
    let first = watch.first(since).expect("n1 has answered");
    format!("takes over {} ms after the release was sent", millis(first.saturating_since(since)))
}

fn foreign_leader_steals(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &[]);
    let since = clock::now();
    foreign_holds(cluster, 4);
    watch.nobody(Duration::from_secs(1));
    let spans = watch.spans(since);
    let quiet = spans.iter().find(|it| it.by.is_empty()).expect("nobody answered").from;
    cluster.follows("n1", "elsewhere");
    watch.only("n1", Duration::from_secs(4) + SLACK);
    format!("silent {} ms after the theft was sent", millis(quiet.saturating_since(since)))
}

/// Whoever waits less than the record says would answer beside a holder that trusts it.
fn mixed_durations(cluster: &mut Cluster<'_>) -> String {
    let long = Duration::from_secs(6);
    let watch = Watch::begin(cluster.vip);
    cluster.lease_times("6", "4", "1").start("n2");
    watch.only("n2", Duration::from_secs(10));
    cluster.lease_times("3", "2", "500ms").start("n1");
    cluster.follows("n1", "n2");
    let first = takeover_within(cluster, &watch, "n2", long + SLACK, |it| _ = it.kill("n2"));
    assert!(first.took > long - Duration::from_secs(2), "n1 does not heed the record: {first}");
    cluster.lease_times("6", "4", "1").start("n2");
    cluster.follows("n2", "n1");
    let second = takeover_within(cluster, &watch, "n1", long + SLACK, |it| _ = it.kill("n1"));
    assert!(second.took > long - Duration::from_secs(1), "n2 does not heed its own: {second}");
    never_two(&watch, first.since);
    format!("{} and {} ms", millis(first.took), millis(second.took))
}

fn two_processes_on_a_node(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &[]);
    cluster.start_as("n1-second", "n1", "n1");
    cluster.status_is("n1-second", "refuses because of the first", |it| {
        it["vips"][0]["code"] == "another-process"
    });
    let gap = Gap::begin(cluster.vip);
    cluster.kill("n1");
    cluster.status_is("n1-second", "leads", |it| it["vips"][0]["state"] == "answering");
    watch.only("n1", LEASE + SLACK);
    assert!(has_address("n1", &cluster.vip.to_string()));
    Lost(gap.end()).to_string()
}

fn two_hosts_with_one_name(cluster: &mut Cluster<'_>) -> String {
    let watch = Watch::begin(cluster.vip);
    let since = clock::now();
    cluster.start_as("n1", "n1", "same");
    watch.only("n1", Duration::from_secs(10));
    cluster.start_as("n2", "n2", "same");
    let clash = |it: &serde_json::Value| it["vips"][0]["code"] == "name-clash";
    let named = wait_for(Duration::from_secs(10), || {
        ["n1", "n2"].iter().any(|it| cluster.status(it).as_ref().is_some_and(clash))
    });
    assert!(named, "nobody names the clash: {:?} {:?}", cluster.status("n1"), cluster.status("n2"));
    let holder = watch.someone(LEASE + SLACK);
    never_two(&watch, since);
    let outcome = takeover(cluster, &watch, &holder, |it| _ = it.kill(&holder));
    never_two(&watch, since);
    format!("named; after a kill: {outcome}")
}

/// The new process is on the node of the old one, whose address and fence are still there.
fn killed_and_restarted(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let gap = Gap::begin(cluster.vip);
    let since = cluster.kill("n1");
    cluster.start("n1");
    cluster.status_is("n1", "knows its place", |it| it["holder"].is_string());
    let heir = watch.someone(LEASE + SLACK);
    let vip = cluster.vip.to_string();
    let alone = |it: &&str| *it == heir || !has_address(it, &vip);
    let clean = wait_for(LEASE + SLACK, || ["n1", "n2", "n3"].iter().all(alone));
    assert!(clean, "a second node has the address");
    never_two(&watch, since);
    format!("{}, then {heir} answers", Lost(gap.end()))
}

fn foreign_holds(cluster: &Cluster<'_>, seconds: u32) {
    foreign_writes(cluster, "elsewhere", seconds);
}

/// As client-go writes it: every field of the spec, nothing of ours.
fn foreign_writes(cluster: &Cluster<'_>, holder: &str, seconds: u32) {
    let now = clock::micro_time(clock::wall());
    let (name, lease) = (&cluster.lease, "coordination.k8s.io/v1");
    cluster.lab.api.apply(&format!(
        "{{apiVersion: {lease}, kind: Lease, metadata: {{name: {name}, namespace: kube-system}}, \
         spec: {{holderIdentity: '{holder}', leaseDurationSeconds: {seconds}, \
         acquireTime: '{now}', renewTime: '{now}', leaseTransitions: 7}}}}"
    ));
}
