//! Members that nobody has listed find each other on the link.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use edgevip::io::clock;
use serde_json::Value;

use super::{LONG, nothing_lost};
use crate::RaftScenario;
use crate::lab::gap::{Gap, reachable};
use crate::lab::net::{self, ALL_NODES, NODES, host, ip_in};
use crate::lab::quorum::{PORT, Quorum, Roles};
use crate::lab::wait_for;
use crate::lab::watch::Watch;

pub const SCENARIOS: &[RaftScenario] = &[
    ("raft_discovery", found_and_join),
    ("raft_discovery_wrong_key", wrong_key),
    ("raft_discovery_restarts", restarts),
    ("raft_discovery_lost_store", lost_store),
    ("raft_discovery_new_addresses", new_addresses),
    ("raft_discovery_ipv6", ipv6_only),
];

impl Quorum<'_> {
    /// Nobody is listed: so many that find each other found.
    fn discover(&mut self, voters: u8) -> &mut Self {
        for node in ALL_NODES {
            self.set_on(node, "vip_localpeer", "");
        }
        self.set("vip_peers", "").set("vip_raft_discover", &voters.to_string()).patient()
    }

    fn found(&mut self) -> (Watch, Roles) {
        self.discover(3).settle()
    }

    fn cluster_of(&self, node: &str) -> Value {
        self.status(node).unwrap_or_default()["quorum"]["cluster"].clone()
    }
}

fn waits(status: &Value, words: &str) -> bool {
    status["quorum"]["discovery"]["waiting"].as_str().is_some_and(|it| it.contains(words))
}

fn members(status: &Value, role: &str) -> BTreeSet<String> {
    let all = status["quorum"]["members"].as_array().into_iter().flatten();
    let these = all.filter(|it| it["role"] == role);
    these.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
}

/// Three find each other, a fourth joins them, and none of that costs a packet or, once all
/// is done, anything else.
fn found_and_join(quorum: &mut Quorum<'_>) -> String {
    quorum.discover(3);
    let watch = Watch::begin(quorum.watched());
    quorum.start_all(&["n1", "n2"]);
    let missing = "waiting for 1 more member on eth0: heard n2";
    let status = quorum.status_is("n1", missing, |it| waits(it, missing));
    assert_eq!(
        (&status["vips"][0]["code"], &status["vips"][0]["why"]),
        (&Value::from("not-member"), &Value::from(missing))
    );
    let began = clock::now();
    quorum.start("n3");
    watch.only(&quorum.settled().holder, LONG);
    let founded = clock::now().saturating_since(began);
    reachable(quorum.vip, LONG);
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    quorum.start("n4");
    quorum.status_is("n1", "n4 is a member", |it| {
        members(it, "voter").contains("n4") || members(it, "learner").contains("n4")
    });
    quorum.status_is("n4", "four voters", |it| members(it, "voter").len() == 4);
    quorum.settled();
    quorum
        .status_is("n4", "waits for nothing", |it| it["quorum"]["discovery"]["waiting"].is_null());
    quorum.wait(Duration::from_secs(2));
    let hellos = hellos_heard(Duration::from_secs(3));
    assert!(hellos <= 1, "{hellos} hellos in 3 s although nobody waits");
    let lost = nothing_lost(gap, &watch, since);
    format!("founded {} ms after the third started; {lost}", founded.as_millis())
}

/// How many datagrams for the group a host that is no member sees.
fn hellos_heard(within: Duration) -> usize {
    let group = std::net::Ipv4Addr::new(224, 0, 0, 254);
    net::inside("stranger", || {
        let socket = std::net::UdpSocket::bind((group, PORT)).expect("nobody else listens");
        let own = std::net::Ipv4Addr::new(10, 77, 0, host("stranger").number);
        socket.join_multicast_v4(&group, &own).expect("it has a link");
        socket.set_nonblocking(true).expect("a socket");
        let (mut count, end) = (0, clock::now() + within);
        wait_for(within * 2, || {
            while socket.recv(&mut [0; 2_000]).is_ok() {
                count += 1;
            }
            clock::now() >= end
        });
        count
    })
}

/// Who has another key is nobody's member, and is counted.
fn wrong_key(quorum: &mut Quorum<'_>) -> String {
    let (watch, roles) = quorum.found();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    let key = quorum.key_file("other", "a key that nobody else has");
    quorum.set_on("n4", "vip_keyfile", &key);
    quorum.start("n4");
    let status = quorum.status_is("n1", "counts", |it| {
        let refused = &it["quorum"]["discovery"]["refused"]["10.77.0.14"]["key"];
        refused.as_u64().is_some_and(|it| it > 10)
    });
    assert!(!status["quorum"]["discovery"]["heard"].to_string().contains("n4"), "{status}");
    quorum.status_is("n4", "hears nobody", |it| {
        waits(it, "waiting for 2 more members on eth0: heard nobody")
    });
    quorum.kill("n4");
    assert_eq!(quorum.settled().leader, roles.leader);
    let expected = NODES.map(str::to_owned).into_iter().collect();
    assert_eq!(members(&quorum.status("n2").unwrap_or_default(), "voter"), expected);
    let refused = status["quorum"]["discovery"]["refused"].to_string();
    format!("{refused}; {}", nothing_lost(gap, &watch, since))
}

/// Members that were founded stay what they are: one by one, and all at once.
fn restarts(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.found();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    let cluster = quorum.cluster_of("n1");
    for node in NODES {
        quorum.renew(node);
        assert_eq!(quorum.cluster_of(node), cluster, "{node}");
    }
    let lost = nothing_lost(gap, &watch, since);
    for node in NODES {
        quorum.kill(node);
    }
    let began = clock::now();
    quorum.start("n2");
    quorum.wait(Duration::from_secs(3));
    assert_eq!(quorum.cluster_of("n2"), cluster, "it founds anew");
    quorum.start_all(&["n1", "n3"]);
    watch.only(&quorum.settled().holder, LONG);
    assert_eq!(NODES.map(|it| quorum.cluster_of(it)), [(); 3].map(|()| cluster.clone()));
    let took = clock::now().saturating_since(began);
    format!("{lost}; after a power cut of all in {} ms", took.as_millis())
}

fn lost_store(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.found();
    let roles = quorum.hold_apart();
    let cluster = quorum.cluster_of("n1");
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    for node in NODES.into_iter().filter(|it| *it != roles.holder) {
        quorum.kill(node);
        fs::remove_dir_all(quorum.state(node)).expect("it keeps something");
        quorum.start(node);
        quorum.settled_on(&roles.holder);
        assert_eq!(quorum.cluster_of(node), cluster, "{node}");
        assert!(quorum.store(node).exists(), "{node} has learnt nothing");
    }
    nothing_lost(gap, &watch, since)
}

/// A DHCP server has given them others: to one, and after a power cut to all.
fn new_addresses(quorum: &mut Quorum<'_>) -> String {
    let (watch, roles) = quorum.found();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    let one = NODES.into_iter().find(|it| *it != roles.holder).expect("three");
    renumber(one, 30);
    quorum.readdressed(&[one], 30);
    let lost = nothing_lost(gap, &watch, since);
    for node in NODES {
        quorum.kill(node);
        ip_in(node, "-4 addr flush dev eth0");
    }
    for node in NODES {
        renumber(node, 60);
    }
    quorum.start_all(&NODES);
    watch.only(&quorum.settled().holder, LONG);
    quorum.readdressed(&NODES, 60);
    format!("{lost}, when {one} moved")
}

impl Quorum<'_> {
    /// Waits until all know these by their new addresses.
    fn readdressed(&self, nodes: &[&str], by: u8) {
        for (node, other) in NODES.iter().flat_map(|it| nodes.iter().map(move |other| (it, other)))
        {
            let address = format!("10.77.0.{}:{PORT}", host(other).number + by);
            self.status_is(node, &format!("{other} is at {address}"), |it| {
                let all = it["quorum"]["members"].as_array().into_iter().flatten();
                all.filter(|it| it["name"] == **other).any(|it| it["address"] == *address)
            });
        }
        self.settled();
    }
}

fn renumber(node: &str, by: u8) {
    let number = host(node).number;
    let was = format!("10.77.0.{number}");
    // A second address of a subnet would go with the first.
    if net::has_address(node, &was) {
        ip_in(node, &format!("addr del {was}/24 dev eth0"));
    }
    ip_in(node, &format!("addr add 10.77.0.{}/24 dev eth0", number + by));
}

/// A link without IPv4.
fn ipv6_only(quorum: &mut Quorum<'_>) -> String {
    for node in NODES {
        ip_in(node, "-4 addr flush dev eth0");
    }
    let vip = quorum.vip6.to_string();
    quorum.set("address", &vip).discover(3);
    let (_watch, roles) = quorum.settle_within(LONG * 3);
    let at = quorum.seen_by("n1", "n2")["address"].clone();
    assert_eq!(at, format!("[fd77::12]:{PORT}"));
    format!("{} holds {vip}", roles.holder)
}
