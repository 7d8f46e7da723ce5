//! Addresses of Services that a real DHCP server leases.

use std::net::IpAddr;
use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::dhcp::{Server, dhcpd, dnsmasq, kea};
use crate::lab::net::has_address;
use crate::lab::watch::Watch;
use crate::lab::{gap, millis, wait_for};
use crate::outcome::{LEASE, LIFETIME, SLACK, never_two};
use crate::services::{
    ADDRESSES, SOON, forget, full, no_pools, object, pools, service, serving, told_of, unasked,
};

pub const SCENARIOS: &[Scenario] = &[
    ("dhcp_begins_and_ends", dhcp_begins_and_ends),
    ("dhcp_registered", dhcp_registered),
    ("dhcp_killed", dhcp_killed),
    ("dhcp_handed_over", dhcp_handed_over),
    ("dhcp_refused", dhcp_refused),
    ("dhcp_server_vanishes", dhcp_server_vanishes),
    ("dhcp_in_use", dhcp_in_use),
    ("dhcp_address_of_a_node", dhcp_address_of_a_node),
    ("dhcp_unanswered", dhcp_unanswered),
    ("dhcp_kea", dhcp_kea),
    ("dhcp_pool", dhcp_pool),
    ("dhcp_many", dhcp_many),
    ("dhcp_elected_each", dhcp_elected_each),
    ("dhcp_mac_of_the_link", dhcp_mac_of_the_link),
];

pub const LEASE_ANNOTATION: &str = "edgevip.io/dhcp-lease";

/// A Service that asks for a lease.
fn leased(cluster: &Cluster<'_>, name: &str, more: &str) -> String {
    asking(cluster, name, "0.0.0.0", more)
}

/// A Service that asks for these.
pub fn asking(cluster: &Cluster<'_>, name: &str, addresses: &str, more: &str) -> String {
    let asks = format!("{ADDRESSES}: \"{}\"", cluster.vip);
    let leased = format!("{ADDRESSES}: \"{addresses}\"{more}");
    service(cluster, name, "", &["n1", "n2"]).replace(&asks, &leased)
}

fn address(cluster: &Cluster<'_>, name: &str) -> IpAddr {
    address_of(cluster, name, "ipv4")
}

/// Waits until the Service says that it has a lease of that family; returns the address.
pub fn address_of(cluster: &Cluster<'_>, name: &str, family: &str) -> IpAddr {
    let mut ip = None;
    let fine = wait_for(SOON, || {
        let it = object(cluster, name);
        let text = it["metadata"]["annotations"][LEASE_ANNOTATION].as_str().unwrap_or_default();
        let lease: Value = serde_json::from_str(text).unwrap_or_default();
        ip = lease[family]["address"].as_str().and_then(|it| it.parse().ok());
        ip.is_some()
    });
    let names: Vec<_> = cluster.names();
    let logs: String = names.iter().map(|it| cluster.daemon(it).log()).collect();
    assert!(fine, "{name} has no lease: {}\n{logs}", object(cluster, name));
    ip.expect("it was there")
}

fn settle(cluster: &mut Cluster<'_>) -> (IpAddr, Watch) {
    settle_with(cluster, "0.0.0.0", "ipv4")
}

/// n1 answers for an address of that family that is leased for a Service that asks with this;
/// n2 follows.
pub fn settle_with(cluster: &mut Cluster<'_>, asks: &str, family: &str) -> (IpAddr, Watch) {
    serving(cluster);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    cluster.lab.api.apply(&asking(cluster, "web", asks, ""));
    let ip = address_of(cluster, "web", family);
    let watch = Watch::begin(ip);
    watch.only("n1", SOON);
    told_of(cluster, "web", "n1", ip);
    cluster.start("n2");
    cluster.follows("n2", "n1");
    gap::reachable(ip, SOON);
    (ip, watch)
}

pub fn lease_is(cluster: &Cluster<'_>, node: &str, phase: &str) -> Value {
    cluster
        .status_is(node, phase, |it| it["services"]["services"][0]["leases"][0]["phase"] == phase)
}

fn dhcp_begins_and_ends(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-begins", 20, 29);
    serving(cluster);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let more =
        ", kube-vip.io/loadbalancerHostname: web.example.org, kube-vip.io/requestedIP: 10.77.0.25";
    cluster.lab.api.apply(&leased(cluster, "web", more));
    let ip = address(cluster, "web");
    assert_eq!(ip.to_string(), "10.77.0.25", "what is asked for first is leased");
    let watch = Watch::begin(ip);
    watch.only("n1", SOON);
    told_of(cluster, "web", "n1", ip);
    let it = object(cluster, "web");
    let annotations = &it["metadata"]["annotations"];
    assert_eq!(annotations["kube-vip.io/requestedIP"], "10.77.0.25", "{annotations}");
    let mac = annotations["kube-vip.io/hwaddr"].as_str().expect("it is told").to_owned();
    let leases = server.leases();
    assert!(leases.contains(&mac) && leases.contains("10.77.0.25 web"), "{leases}");
    let log = server.log();
    assert!(log.contains("vendor class: edgevip"), "{log}");
    assert!(log.contains("client provides name: web.example.org"), "{log}");
    let status = lease_is(cluster, "n1", "bound");
    let lease = &status["services"]["services"][0]["leases"][0];
    assert_eq!(lease["server"], Server::address(), "{lease}");
    let shown =
        cluster.run_on("n1", &format!("{} status --instance n1", cluster.lab.program.display()));
    assert!(shown.contains("DHCP bound by 10.77.0.66"), "{shown}");
    forget(cluster, &["web"]);
    watch.nobody(SOON);
    assert!(wait_for(SOON, || server.said("DHCPRELEASE") == 1), "{}", server.log());
    assert!(wait_for(SOON, || server.leases().is_empty()), "{}", server.leases());
    assert!(!has_address("n1", "10.77.0.25"));

    // A Service that stops to ask gives its lease back, and goes on with what it asks for.
    cluster.lab.api.apply(&leased(cluster, "web", ""));
    let ip = address(cluster, "web");
    let name = full("web", cluster);
    let other = format!("{ADDRESSES}={}", cluster.vip);
    cluster.lab.api.kubectl(&["annotate", "--overwrite", "service", &name, &other]);
    told_of(cluster, "web", "n1", cluster.vip);
    assert!(wait_for(SOON, || server.said("DHCPRELEASE") == 2), "{}", server.log());
    let told = || !object(cluster, "web")["metadata"]["annotations"][LEASE_ANNOTATION].is_null();
    assert!(wait_for(SOON, || !told()), "{}", object(cluster, "web"));
    assert!(wait_for(SOON, || !has_address("n1", &ip.to_string())));
    forget(cluster, &["web"]);
    server.forget();
    "as asked for; given back with its object, and when it asks for another".into()
}

/// A name whose address the server leases and registers.
fn dhcp_registered(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-registers", 20, 29);
    serving(cluster);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let more = ", kube-vip.io/ddns: \"true\"";
    cluster.lab.api.apply(&asking(cluster, "web", "web.example.org", more));
    let ip = address(cluster, "web");
    Watch::begin(ip).only("n1", SOON);
    told_of(cluster, "web", "n1", ip);
    assert!(server.leases().contains(&format!("{ip} web")), "{}", server.leases());
    let log = server.log();
    assert!(log.contains("client provides name: web.example.org"), "{log}");
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.leases().is_empty()), "{}", server.leases());
    server.forget();
    format!("{ip} is leased to it, under its name")
}

fn dhcp_killed(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-killed", 20, 29);
    let (ip, watch) = settle(cluster);
    assert_eq!(server.said("DHCPDISCOVER("), 1, "{}", server.log());
    let since = cluster.kill("n1");
    watch.only("n2", LEASE + LIFETIME + SLACK);
    never_two(&watch, since);
    lease_is(cluster, "n2", "bound");
    told_of(cluster, "web", "n2", ip);
    // It was asked for as after a reboot.
    assert_eq!(server.said("DHCPDISCOVER("), 1, "{}", server.log());
    assert_eq!(server.said("DHCPACK("), 2, "{}", server.log());
    // A daemon that begins again goes on with it as well.
    cluster.kill("n2");
    cluster.start("n2");
    lease_is(cluster, "n2", "bound");
    watch.only("n2", SOON);
    assert_eq!(server.said("DHCPDISCOVER("), 1, "{}", server.log());
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.leases().is_empty()), "{}", server.log());
    server.forget();
    "the next holder has the same address and asks once whether it still may".into()
}

fn dhcp_handed_over(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-over", 20, 29);
    let (ip, watch) = settle(cluster);
    let gap = gap::Gap::begin(ip);
    let since = cluster.signal("n1", Signal::SIGTERM);
    watch.only("n2", SOON);
    lease_is(cluster, "n2", "bound");
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}", crate::outcome::Lost(seen));
    never_two(&watch, since);
    assert_eq!(server.said("DHCPRELEASE("), 0, "{}", server.log());
    forget(cluster, &["web"]);
    server.forget();
    "nothing lost, nothing given back".into()
}

/// The network is numbered anew: what the server refuses is dropped at once.
fn dhcp_refused(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-refuses", 20, 29);
    let (old, watch) = settle(cluster);
    server.forget();
    let server = dnsmasq("dnsmasq-anew", 40, 49);
    cluster.kill("n1");
    // The next one carries it until it is told.
    assert!(wait_for(SOON, || server.said("DHCPNAK(") > 0), "{}", server.log());
    watch.nobody(SOON);
    let anew = wait_for(SOON, || address(cluster, "web") != old);
    assert!(anew, "{}", object(cluster, "web"));
    let ip = address(cluster, "web");
    told_of(cluster, "web", "n2", ip);
    Watch::begin(ip).only("n2", SOON);
    assert!(!has_address("n2", &old.to_string()));
    forget(cluster, &["web"]);
    server.forget();
    format!("{old} was refused, {ip} is leased and told")
}

/// A lease that nobody renews ends, and its address with it; when the server is back it begins
/// again.
fn dhcp_server_vanishes(cluster: &mut Cluster<'_>) -> String {
    let server = dhcpd("dhcpd-vanishes", 20, 29, 8);
    let (ip, watch) = settle(cluster);
    let renewed = |it: &Server| it.said("DHCPACK on");
    let before = renewed(&server);
    assert!(wait_for(SOON + SOON, || renewed(&server) > before + 1), "{}", server.log());
    watch.only("n1", SOON);
    drop(server);
    watch.nobody(SOON + SOON);
    assert!(!has_address("n1", &ip.to_string()));
    let fine = wait_for(SOON, || {
        object(cluster, "web")["metadata"]["annotations"][LEASE_ANNOTATION].is_null()
    });
    assert!(fine, "{}", object(cluster, "web"));
    cluster.status_is("n1", "says why", |it| {
        let code = &it["services"]["services"][0]["code"];
        code == "dhcp-expired" || code == "dhcp-unanswered"
    });
    let server = dhcpd("dhcpd-vanishes", 20, 29, 8);
    assert!(wait_for(SOON * 6, || has_address("n1", &ip.to_string())), "{}", server.log());
    watch.only("n1", SOON);
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.said("DHCPRELEASE of") > 0), "{}", server.log());
    server.forget();
    "renewed, ended with its lease, and again when the server is back".into()
}

fn dhcp_in_use(cluster: &mut Cluster<'_>) -> String {
    // The client's own address is all that the server has, but for one more.
    let server = dnsmasq("dnsmasq-in-use", 100, 100);
    serving(cluster);
    cluster.start("n1");
    cluster.lab.api.apply(&leased(cluster, "web", ""));
    assert!(wait_for(SOON, || server.said("DHCPDECLINE(") > 0), "{}", server.log());
    cluster
        .status_is("n1", "says why", |it| it["services"]["services"][0]["code"] == "dhcp-conflict");
    assert!(!has_address("n1", "10.77.0.100"));
    forget(cluster, &["web"]);
    server.forget();
    "declined".into()
}

fn dhcp_address_of_a_node(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-of-node", 11, 11);
    let asks = leased(cluster, "web", "");
    nodes_own_is_refused(cluster, server, &asks, "10.77.0.11")
}

/// A server that leases what a node has is not believed, and the node's lease not given back.
pub fn nodes_own_is_refused(
    cluster: &mut Cluster<'_>,
    server: Server,
    asks: &str,
    own: &str,
) -> String {
    serving(cluster);
    cluster.start("n1");
    cluster.lab.api.apply(asks);
    let status = cluster.status_is("n1", "says why", |it| {
        it["services"]["services"][0]["code"] == "dhcp-address-of-node"
    });
    let why = status["services"]["services"][0]["why"].to_string();
    assert!(why.contains(own) && why.contains("n1"), "{why}");
    forget(cluster, &["web"]);
    std::thread::sleep(Duration::from_millis(500));
    for never in ["DHCPDECLINE(", "DHCPRELEASE(", "DHCPREQUEST("] {
        assert_eq!(server.said(never), 0, "{}", server.log());
    }
    assert!(has_address("n1", own));
    server.forget();
    "refused, and neither declined nor given back".into()
}

/// A Service that waits for a server stops no other.
fn dhcp_unanswered(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.start("n1");
    cluster.lab.api.apply(&leased(cluster, "waits", ""));
    let watch = Watch::begin(cluster.vip);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    watch.only("n1", SOON);
    told_of(cluster, "web", "n1", cluster.vip);
    cluster.status_within("n1", "says why", SOON + SOON, |it| {
        let all = it["services"]["services"].as_array().cloned().unwrap_or_default();
        all.iter().any(|it| it["code"] == "dhcp-unanswered")
    });
    forget(cluster, &["waits", "web"]);
    "says so; the other Service answers meanwhile".into()
}

fn dhcp_kea(cluster: &mut Cluster<'_>) -> String {
    let server = kea("kea", 20, 29, 6);
    let (ip, watch) = settle(cluster);
    let allocated = |it: &Server| it.said("DHCP4_LEASE_ALLOC");
    let before = allocated(&server);
    assert!(wait_for(SOON + SOON, || allocated(&server) > before + 2), "{}", server.log());
    cluster.kill("n1");
    watch.only("n2", LEASE + LIFETIME + SLACK);
    lease_is(cluster, "n2", "bound");
    told_of(cluster, "web", "n2", ip);
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.said("DHCP4_RELEASE ") > 0), "{}", server.log());
    server.forget();
    "renewed, taken over and given back".into()
}

/// A pool `0.0.0.0/32` has its Services ask.
fn dhcp_pool(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-pool", 20, 29);
    serving(cluster);
    pools(cluster, "cidr-global: 0.0.0.0/32");
    cluster.start("n1");
    cluster.lab.api.apply(&unasked(cluster, "one"));
    cluster.lab.api.apply(&unasked(cluster, "two"));
    let (one, two) = (address(cluster, "one"), address(cluster, "two"));
    assert_ne!(one, two);
    told_of(cluster, "one", "n1", one);
    told_of(cluster, "two", "n1", two);
    forget(cluster, &["one"]);
    assert!(wait_for(SOON, || server.said("DHCPRELEASE(") == 1), "{}", server.log());
    Watch::begin(two).only("n1", SOON);
    forget(cluster, &["two"]);
    no_pools(cluster);
    server.forget();
    "each Service of the pool has a lease of its own".into()
}

/// Many at once: a lease for each, and none is left when all are deleted at once.
fn dhcp_many(cluster: &mut Cluster<'_>) -> String {
    const MANY: usize = 40;
    let server = dnsmasq("dnsmasq-many", 20, 60);
    serving(cluster);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let name = |number: usize| format!("many{number}");
    let all: Vec<_> = (0..MANY).map(|it| leased(cluster, &name(it), "")).collect();
    cluster.lab.api.apply(&all.join("---\n"));
    let since = clock::now();
    cluster.status_within("n1", "answers for all", SOON * 2, |it| {
        let all = it["vips"].as_array().cloned().unwrap_or_default();
        all.len() == MANY && all.iter().all(|it| it["state"] == "answering")
    });
    let took = millis(clock::now().saturating_since(since));
    assert_eq!(server.leases().lines().count(), MANY, "{}", server.leases());
    let names: Vec<_> = (0..MANY).map(name).collect();
    forget(cluster, &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(wait_for(SOON, || server.leases().is_empty()), "{}", server.leases());
    cluster.status_is("n1", "has none", |it| it["vips"] == Value::Array(Vec::new()));
    assert!((20..=60).all(|it| !has_address("n1", &format!("10.77.0.{it}"))));
    server.forget();
    format!("{MANY} leased and answered for {took} ms after the last was made; none left")
}

/// As Wi-Fi needs it: all leases have the link's hardware address, each a client of its own.
fn dhcp_mac_of_the_link(cluster: &mut Cluster<'_>) -> String {
    let server = dhcpd("dhcpd-link", 20, 29, 8);
    cluster.set("edgevip_dhcp_mac", "link");
    let (ip, watch) = settle(cluster);
    cluster.lab.api.apply(&leased(cluster, "two", ""));
    let two = address(cluster, "two");
    assert_ne!(ip, two);
    told_of(cluster, "two", "n1", two);
    assert!(object(cluster, "web")["metadata"]["annotations"]["kube-vip.io/hwaddr"].is_null());
    assert!(server.log().contains("from 02:00:00:77:00:0b"), "{}", server.log());
    // The next node has another; the server goes by the identifier.
    cluster.kill("n1");
    watch.only("n2", LEASE + LIFETIME + SLACK);
    told_of(cluster, "web", "n2", ip);
    lease_is(cluster, "n2", "bound");
    assert!(server.log().contains("from 02:00:00:77:00:0c"), "{}", server.log());
    let renewed = |it: &Server| it.said(&format!("DHCPACK on {ip}"));
    let before = renewed(&server);
    assert!(wait_for(SOON + SOON, || renewed(&server) > before), "{}", server.log());
    watch.only("n2", SOON);
    forget(cluster, &["web", "two"]);
    assert!(wait_for(SOON, || server.said("DHCPRELEASE of") == 2), "{}", server.log());
    server.forget();
    "two leases on one hardware address, and on another node's after that".into()
}

/// With a Lease for each Service, whoever wins it has the address that was leased before.
fn dhcp_elected_each(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-each", 20, 29);
    serving(cluster);
    cluster.set("svc_election", "true");
    for node in ["n1", "n2"] {
        cluster.start(node);
    }
    cluster.lab.api.apply(&leased(cluster, "web", ""));
    let ip = address(cluster, "web");
    let watch = Watch::begin(ip);
    let holder = watch.someone(SOON + SOON);
    told_of(cluster, "web", &holder, ip);
    let heir = if holder == "n1" { "n2" } else { "n1" };
    let since = cluster.kill(&holder);
    watch.only(heir, SOON + SOON);
    never_two(&watch, since);
    told_of(cluster, "web", heir, ip);
    lease_is(cluster, heir, "bound");
    assert_eq!(server.said("DHCPDISCOVER("), 1, "{}", server.log());
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.leases().is_empty()), "{}", server.log());
    server.forget();
    "one lease, whoever carries it".into()
}
