//! Something happens to the node that answers.

use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap::{Gap, reachable};
use crate::lab::net::{self, Lan, NODES, has_address};
use crate::lab::watch::Watch;
use crate::lab::{millis, wait_for};
use crate::outcome::{
    LEASE, LIFETIME, Lost, SLACK, never_two, silent_since, takeover, takeover_within, two_at_most,
};

pub const SCENARIOS: &[Scenario] = &[
    ("first_claim", first_claim),
    ("term", term),
    ("term_ipv6", term_ipv6),
    ("term_dual", term_dual),
    ("term_unfenced", term_unfenced),
    ("term_of_the_last", term_of_the_last),
    ("kill", kill),
    ("kill_unfenced", kill_unfenced),
    ("stop_and_cont", stop_and_cont),
    ("stop_unfenced", stop_unfenced),
    ("partition", partition),
    ("partition_unfenced", partition_unfenced),
    ("lan_cut", lan_cut),
    ("api_cut", api_cut),
    ("carrier", carrier),
];

fn first_claim(cluster: &mut Cluster<'_>) -> String {
    let watch = Watch::begin(cluster.vip);
    let since = clock::now();
    for node in NODES {
        cluster.start(node);
    }
    let holder = watch.someone(Duration::from_secs(10));
    for node in NODES.into_iter().filter(|it| *it != holder) {
        cluster.follows(node, &holder);
    }
    never_two(&watch, since);
    let heard = watch.heard(since);
    let burst = heard.iter().position(|it| it.kind != "probe").expect("the holder announces");
    let probes = heard[..burst].iter().filter(|it| it.by == holder).count();
    assert_eq!(probes, 3, "a first claim asks three times: {heard:?}");
    for kind in ["request", "reply"] {
        assert!(heard.iter().any(|it| it.kind == kind), "no {kind}: {heard:?}");
    }
    assert!(heard[burst..].iter().all(|it| it.by == holder), "strange frames: {heard:?}");
    let first = watch.first(since).expect("somebody has answered");
    format!("{holder} answers after {} ms", millis(first.saturating_since(since)))
}

fn term(cluster: &mut Cluster<'_>) -> String {
    planned(cluster)
}

fn term_ipv6(cluster: &mut Cluster<'_>) -> String {
    let vip = cluster.vip6.to_string();
    cluster.set("address", &vip);
    planned(cluster)
}

fn planned(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    let status = cluster.ended("n1", Duration::from_secs(5));
    assert!(status.success(), "n1 ends with {status}");
    assert!(outcome.took < LEASE / 2, "the Lease was not released: {outcome}");
    assert!(outcome.seen.lost == 0, "{outcome}\n{}", watch.story(outcome.since));
    assert!(!has_address("n1", &cluster.watched().to_string()), "n1 leaves its address");
    never_two(&watch, outcome.since);
    outcome.to_string()
}

fn term_dual(cluster: &mut Cluster<'_>) -> String {
    let both = format!("{},{}", cluster.vip, cluster.vip6);
    cluster.set("address", &both);
    let watch6 = Watch::begin(cluster.vip6);
    let watch = cluster.settle("n1", &["n2"]);
    watch6.only("n1", SLACK);
    reachable(cluster.vip6, SLACK);
    let gap6 = Gap::begin(cluster.vip6);
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    watch6.only("n2", SLACK);
    let seen6 = gap6.end();
    let good = outcome.seen.lost == 0 && seen6.lost == 0;
    assert!(good, "{outcome}; IPv6: {}", Lost(seen6));
    for watch in [&watch, &watch6] {
        never_two(watch, outcome.since);
    }
    format!("{outcome}; IPv6: {}", Lost(seen6))
}

fn term_unfenced(cluster: &mut Cluster<'_>) -> String {
    without_fence(cluster);
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    assert!(outcome.took < LEASE / 2, "the Lease was not released: {outcome}");
    never_two(&watch, outcome.since);
    outcome.to_string()
}

fn term_of_the_last(cluster: &mut Cluster<'_>) -> String {
    let _watch = cluster.settle("n1", &[]);
    let since = cluster.signal("n1", Signal::SIGTERM);
    let status = cluster.ended("n1", Duration::from_secs(5));
    let took = clock::now().saturating_since(since);
    assert!(status.success(), "n1 ends with {status}");
    assert!(!has_address("n1", &cluster.vip.to_string()), "n1 leaves its address");
    let lease = cluster.lab.api.lease(&cluster.lease).expect("the Lease stays");
    let holder = lease["holderIdentity"].as_str().unwrap_or_default();
    assert_eq!(holder, "", "the Lease was not released");
    format!("ended after {} ms", millis(took))
}

fn kill(cluster: &mut Cluster<'_>) -> String {
    killed(cluster, Duration::ZERO)
}

fn kill_unfenced(cluster: &mut Cluster<'_>) -> String {
    without_fence(cluster);
    killed(cluster, LIFETIME)
}

fn killed(cluster: &mut Cluster<'_>, bound: Duration) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.kill("n1"));
    let vip = cluster.vip.to_string();
    assert!(wait_for(SLACK, || !has_address("n1", &vip)), "the address outlives its lifetime");
    two_at_most(&watch, outcome.since, bound);
    watch.only(&outcome.heir, SLACK);
    outcome.to_string()
}

fn stop_and_cont(cluster: &mut Cluster<'_>) -> String {
    stopped(cluster, Duration::ZERO)
}

fn stop_unfenced(cluster: &mut Cluster<'_>) -> String {
    without_fence(cluster);
    stopped(cluster, LIFETIME)
}

fn stopped(cluster: &mut Cluster<'_>, bound: Duration) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGSTOP));
    let again = cluster.signal("n1", Signal::SIGCONT);
    cluster.follows("n1", &outcome.heir);
    watch.only(&outcome.heir, SLACK);
    silent_since(&watch, "n1", again);
    two_at_most(&watch, outcome.since, bound);
    outcome.to_string()
}

fn partition(cluster: &mut Cluster<'_>) -> String {
    partitioned(cluster, Duration::ZERO)
}

fn partition_unfenced(cluster: &mut Cluster<'_>) -> String {
    without_fence(cluster);
    partitioned(cluster, LIFETIME)
}

fn partitioned(cluster: &mut Cluster<'_>, bound: Duration) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let outcome = takeover(cluster, &watch, "n1", |_| {
        net::cut("n1", Lan::Clients);
        net::cut("n1", Lan::Management);
    });
    let vip = cluster.vip.to_string();
    assert!(wait_for(SLACK, || !has_address("n1", &vip)), "the lonely node keeps the address");
    let healed = clock::now();
    net::mend("n1", Lan::Clients);
    net::mend("n1", Lan::Management);
    cluster.follows("n1", &outcome.heir);
    watch.only(&outcome.heir, SLACK);
    silent_since(&watch, "n1", healed);
    two_at_most(&watch, outcome.since, bound);
    outcome.to_string()
}

/// A LAN cut that leaves the carrier cannot be seen by the node, so it stays the holder;
/// what counts is that nobody else answers and that it is back with the LAN.
fn lan_cut(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let since = clock::now();
    net::cut("n1", Lan::Clients);
    watch.nobody(SLACK);
    cluster.renewed(6);
    net::mend("n1", Lan::Clients);
    let healed = clock::now();
    let heir = watch.someone(LEASE + SLACK);
    let back = watch.first(healed).expect("somebody has answered");
    never_two(&watch, since);
    format!("{heir} answers {} ms after the LAN is back", millis(back.saturating_since(healed)))
}

fn api_cut(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let outcome = takeover(cluster, &watch, "n1", |_| net::cut("n1", Lan::Management));
    net::mend("n1", Lan::Management);
    cluster.follows("n1", &outcome.heir);
    never_two(&watch, outcome.since);
    outcome.to_string()
}

fn carrier(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let outcome = takeover_within(cluster, &watch, "n1", LEASE, |_| {
        net::unplug("n1", Lan::Clients);
    });
    assert!(outcome.took < LEASE / 2, "the Lease was not handed over: {outcome}");
    let healed = clock::now();
    net::mend("n1", Lan::Clients);
    cluster.follows("n1", &outcome.heir);
    watch.only(&outcome.heir, SLACK);
    silent_since(&watch, "n1", healed);
    never_two(&watch, outcome.since);
    outcome.to_string()
}

/// Without the fence the Lease needs slack for the kernel's coarse lifetimes.
fn without_fence(cluster: &mut Cluster<'_>) {
    cluster.set("edgevip_fence", "off").lease_times("3", "1600ms", "400ms");
}
