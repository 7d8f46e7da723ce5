//! Others write to the kernel of a node too.

use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap::Gap;
use crate::lab::net::{command_in, has_address, ip_in, run_with};
use crate::lab::watch::Watch;
use crate::lab::{millis, sandbox};
use crate::outcome::{Lost, SLACK, never_two, takeover};

pub const SCENARIOS: &[Scenario] = &[
    ("flushed_address", flushed_address),
    ("flushed_ruleset", flushed_ruleset),
    ("ruleset_churn", ruleset_churn),
    ("foreign_address", foreign_address),
    ("foreign_vip_on_a_node", foreign_vip_on_a_node),
    ("own_address_later", own_address_later),
];

fn flushed_address(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let gap = Gap::begin(cluster.vip);
    let since = clock::now();
    for round in 1..=5 {
        // A flush of ip's would go on until nobody puts the address back.
        ip_in("n1", &format!("addr del {}/32 dev eth0", cluster.vip));
        cluster.status_is("n1", "put back", |it| it["readded"].as_u64() >= Some(round));
        watch.only("n1", SLACK);
    }
    let seen = gap.end();
    assert!(seen.longest < Duration::from_secs(1), "{}", Lost(seen));
    never_two(&watch, since);
    format!("five times: {}", Lost(seen))
}

fn flushed_ruleset(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let gap = Gap::begin(cluster.vip);
    let since = clock::now();
    cluster.run_on("n1", "nft flush ruleset");
    cluster.status_is("n1", "rebuilt", |it| it["fence_rebuilds"].as_u64() >= Some(1));
    watch.only("n1", SLACK);
    let seen = gap.end();
    assert!(seen.longest < Duration::from_secs(1), "{}", Lost(seen));
    let rules = cluster.run_on("n1", "nft list ruleset");
    assert!(rules.contains("edgevip"), "no fence:\n{rules}");
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.kill("n1"));
    never_two(&watch, since);
    format!("{}; then killed: {outcome}", Lost(seen))
}

/// 30 000 rules, in one transaction where that is allowed, as kube-proxy likes to do.
fn ruleset_churn(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2", "n3"]);
    // The kernel takes a batch this long from the machine's administrator only.
    let at_once = if sandbox::is_privileged() { 30_000 } else { 250 };
    let rules: Vec<_> =
        (0..30_000).map(|it| format!("ip daddr 10.200.{}.{} accept", it / 250, it % 250)).collect();
    let loads = rules
        .chunks(at_once)
        .map(|rules| format!("table inet load {{ chain many {{\n{}\n}}; }}", rules.join("\n")));
    let loads: Vec<_> = loads.collect();
    let gap = Gap::begin(cluster.vip);
    let since = clock::now();
    for _ in 0..3 {
        for load in &loads {
            run_with(command_in("n1", "nft").args(["-f", "-"]), load);
        }
        cluster.run_on("n1", "nft delete table inet load");
    }
    let took = clock::now().saturating_since(since);
    let seen = gap.end();
    let holder = watch.someone(Duration::from_secs(5));
    never_two(&watch, since);
    let late = cluster.status("n1").map(|it| it["fence_late"].clone()).unwrap_or_default();
    format!("{} in {} ms of loads, then {holder}; late {late}", Lost(seen), millis(took))
}

fn foreign_address(cluster: &mut Cluster<'_>) -> String {
    for mine in
        ["10.77.0.180/32", "10.77.0.181/24 valid_lft 300 preferred_lft 300", "fd77::1:99/128"]
    {
        ip_in("n1", &format!("addr add {mine} dev eth0"));
    }
    cluster.run_on("n1", "nft add table arp theirs");
    let watch = cluster.settle("n1", &["n2"]);
    takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    cluster.ended("n1", Duration::from_secs(5));
    cluster.start("n1");
    cluster.follows("n1", "n2");
    cluster.kill("n1");
    for mine in ["10.77.0.11", "10.77.0.180", "10.77.0.181", "fd77::1:99", "fd77::11"] {
        assert!(has_address("n1", mine), "{mine} is gone");
    }
    let rules = cluster.run_on("n1", "nft list tables");
    assert!(rules.contains("theirs"), "a foreign table is gone: {rules}");
    "five addresses and a table survive start, stop, start and kill".into()
}

fn foreign_vip_on_a_node(cluster: &mut Cluster<'_>) -> String {
    let vip = cluster.vip.to_string();
    ip_in("n1", &format!("addr add {vip}/32 dev eth0"));
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    cluster.start("n2");
    cluster.status_is("n2", "sees another host", |it| {
        let code = &it["vips"][0]["code"];
        code == "conflict" || code == "not-leader"
    });
    let told = cluster.status_is("n1", "refuses", |it| it["vips"][0]["code"].is_string());
    watch.only("n1", SLACK);
    for node in ["n1", "n2"] {
        cluster.signal(node, Signal::SIGTERM);
        cluster.ended(node, Duration::from_secs(5));
    }
    assert!(has_address("n1", &vip), "an address that was not ours is gone");
    watch.only("n1", SLACK);
    format!("left alone: {}", told["vips"][0]["why"].as_str().unwrap_or_default())
}

/// A VIP that stood first in a subnet would take the node's own address with it.
fn own_address_later(cluster: &mut Cluster<'_>) -> String {
    ip_in("n1", "addr flush dev eth0");
    cluster.set("vip_subnet", "24");
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    watch.only("n1", Duration::from_secs(10));
    let alone = ip_in("n1", "-4 -o addr show dev eth0");
    ip_in("n1", "addr add 10.77.0.11/24 dev eth0");
    cluster.signal("n1", Signal::SIGTERM);
    cluster.ended("n1", Duration::from_secs(5));
    assert!(!has_address("n1", &cluster.vip.to_string()), "n1 leaves its address");
    assert!(has_address("n1", "10.77.0.11"), "the node's own address went with the VIP");
    let routes = ip_in("n1", "route show 10.77.0.0/24");
    assert!(routes.contains("eth0"), "the node's own route went with the VIP: {routes:?}");
    assert!(alone.contains(&format!("{}/32", cluster.vip)), "not a /32: {alone}");
    "held as a /32; own address and route stay".into()
}
