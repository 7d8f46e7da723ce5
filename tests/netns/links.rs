//! The link of the VIP goes and comes.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::net::{Lan, host, ip, ip_in, plug};
use crate::lab::watch::Watch;
use crate::outcome::{LEASE, Outcome, SLACK, never_two, takeover};

pub const SCENARIOS: &[Scenario] = &[
    ("link_flap", link_flap),
    ("link_removed", link_removed),
    ("link_renamed", link_renamed),
    ("link_missing_at_start", link_missing_at_start),
];

fn link_flap(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2"]);
    let outcome = takeover(cluster, &watch, "n1", |_| _ = ip_in("n1", "link set eth0 down"));
    ip_in("n1", "link set eth0 up");
    back(cluster, &watch, &outcome);
    outcome.to_string()
}

fn link_removed(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2"]);
    let outcome = takeover(cluster, &watch, "n1", |_| _ = ip("link del n1-lan"));
    plug(host("n1"), Lan::Clients);
    back(cluster, &watch, &outcome);
    outcome.to_string()
}

fn link_renamed(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2"]);
    let outcome = takeover(cluster, &watch, "n1", |_| {
        ip_in("n1", "link set eth0 down");
        ip_in("n1", "link set eth0 name other0");
        ip_in("n1", "link set other0 up");
    });
    cluster.status_is("n1", "has no link", |it| it["vips"][0]["code"] == "no-link");
    ip_in("n1", "link set other0 down");
    ip_in("n1", "link set other0 name eth0");
    ip_in("n1", "link set eth0 up");
    back(cluster, &watch, &outcome);
    outcome.to_string()
}

fn link_missing_at_start(cluster: &mut Cluster<'_>) -> String {
    ip("link del n1-lan");
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    cluster.status_is("n1", "has no link", |it| it["vips"][0]["code"] == "no-link");
    plug(host("n1"), Lan::Clients);
    watch.only("n1", Duration::from_secs(10));
    "waits for it".into()
}

/// The node with the link that was gone takes over again when the other stops.
fn back(cluster: &mut Cluster<'_>, watch: &Watch, outcome: &Outcome) {
    cluster.follows("n1", "n2");
    cluster.signal("n2", Signal::SIGTERM);
    watch.only("n1", LEASE + SLACK);
    never_two(watch, outcome.since);
}
