//! Addresses of Services that a real DHCPv6 server leases.

use edgevip::io::clock;
use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::dhcp::{Server, dhcpd6, dnsmasq_dual, dnsmasq6, kea6};
use crate::lab::net::has_address;
use crate::lab::watch::Watch;
use crate::lab::{gap, wait_for};
use crate::leases::{
    LEASE_ANNOTATION, address_of, asking, lease_is, nodes_own_is_refused, settle_with,
};
use crate::outcome::{LEASE, LIFETIME, Lost, SLACK, never_two};
use crate::services::{
    ADDRESSES, SOON, forget, full, no_pools, object, pools, serving, told_of, unasked,
};

pub const SCENARIOS: &[Scenario] = &[
    ("dhcp6_begins_and_ends", begins_and_ends),
    ("dhcp6_killed", killed),
    ("dhcp6_handed_over", handed_over),
    ("dhcp6_numbered_anew", numbered_anew),
    ("dhcp6_server_vanishes", server_vanishes),
    ("dhcp6_forgotten", forgotten),
    ("dhcp6_in_use", in_use),
    ("dhcp6_address_of_a_node", address_of_a_node),
    ("dhcp6_kea", with_kea),
    ("dhcp6_dual_pool", dual_pool),
];

const FAMILY: &str = "ipv6";

/// The node's kernel has told the server that nobody hears the port of clients.
fn is_denied(cluster: &Cluster<'_>, node: &str) {
    let counts = cluster.run_on(node, "cat /proc/net/snmp6");
    let line = counts.lines().find(|it| it.starts_with("Icmp6OutDestUnreachs"));
    let count = line.and_then(|it| it.split_whitespace().nth(1)).unwrap_or("0");
    assert_ne!(count, "0", "{counts}");
}

fn begins_and_ends(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq6("dnsmasq6-begins", "2:20", "2:29");
    serving(cluster);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let more = ", kube-vip.io/loadbalancerHostname: web.example.org, kube-vip.io/requestedIP: 'fd77::2:25'";
    let since = clock::now();
    cluster.lab.api.apply(&asking(cluster, "web", "::", more));
    let ip = address_of(cluster, "web", FAMILY);
    assert_eq!(ip.to_string(), "fd77::2:25", "what is asked for first is leased");
    let watch = Watch::begin(ip);
    watch.only("n1", SOON);
    let took = clock::now().saturating_since(since);
    told_of(cluster, "web", "n1", ip);
    gap::reachable(ip, SOON);
    is_denied(cluster, "n1");
    let it = object(cluster, "web");
    let annotations = &it["metadata"]["annotations"];
    assert_eq!(annotations["kube-vip.io/requestedIP"], "fd77::2:25", "{annotations}");
    assert!(annotations["kube-vip.io/hwaddr"].is_null(), "{annotations}");
    assert!(server.leases().contains("fd77::2:25 web"), "{}", server.leases());
    let log = server.log();
    assert!(log.contains("client provides name: web.example.org"), "{log}");
    let status = lease_is(cluster, "n1", "bound");
    let lease = &status["services"]["services"][0]["leases"][0];
    let by = lease["server"].as_str().unwrap_or_default();
    assert!(by.starts_with("fe80::"), "{lease}");
    let shown =
        cluster.run_on("n1", &format!("{} status --instance n1", cluster.lab.program.display()));
    assert!(shown.contains("DHCP bound by fe80::"), "{shown}");
    forget(cluster, &["web"]);
    watch.nobody(SOON);
    assert!(wait_for(SOON, || server.said("DHCPRELEASE(") == 1), "{}", server.log());
    assert!(wait_for(SOON, || server.leased6() == 0), "{}", server.leases());
    assert!(!has_address("n1", "fd77::2:25"));

    // A Service that stops to ask gives its lease back, and goes on with what it asks for.
    cluster.lab.api.apply(&asking(cluster, "web", "::", ""));
    let ip = address_of(cluster, "web", FAMILY);
    let name = full("web", cluster);
    let other = format!("{ADDRESSES}={}", cluster.vip);
    cluster.lab.api.kubectl(&["annotate", "--overwrite", "service", &name, &other]);
    told_of(cluster, "web", "n1", cluster.vip);
    assert!(wait_for(SOON, || server.said("DHCPRELEASE(") == 2), "{}", server.log());
    let told = || !object(cluster, "web")["metadata"]["annotations"][LEASE_ANNOTATION].is_null();
    assert!(wait_for(SOON, || !told()), "{}", object(cluster, "web"));
    assert!(wait_for(SOON, || !has_address("n1", &ip.to_string())));
    forget(cluster, &["web"]);
    server.forget();
    format!("as asked for, {} ms after it was made; given back", crate::lab::millis(took))
}

fn killed(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq6("dnsmasq6-killed", "2:20", "2:29");
    let (ip, watch) = settle_with(cluster, "::", FAMILY);
    assert_eq!(server.said("DHCPSOLICIT("), 1, "{}", server.log());
    let since = cluster.kill("n1");
    watch.only("n2", LEASE + LIFETIME + SLACK);
    never_two(&watch, since);
    lease_is(cluster, "n2", "bound");
    told_of(cluster, "web", "n2", ip);
    assert_eq!(server.said("DHCPSOLICIT("), 1, "{}", server.log());
    assert_eq!(server.said("DHCPREBIND("), 1, "{}", server.log());
    // A daemon that begins again goes on with it as well.
    cluster.kill("n2");
    cluster.start("n2");
    lease_is(cluster, "n2", "bound");
    watch.only("n2", SOON);
    assert_eq!(server.said("DHCPSOLICIT("), 1, "{}", server.log());
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.leased6() == 0), "{}", server.log());
    server.forget();
    "the next holder has the same address and asks once whether it still may".into()
}

fn handed_over(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq6("dnsmasq6-over", "2:20", "2:29");
    let (ip, watch) = settle_with(cluster, "::", FAMILY);
    let gap = gap::Gap::begin(ip);
    let since = cluster.signal("n1", Signal::SIGTERM);
    watch.only("n2", SOON);
    lease_is(cluster, "n2", "bound");
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}", Lost(seen));
    never_two(&watch, since);
    assert_eq!(server.said("DHCPRELEASE("), 0, "{}", server.log());
    forget(cluster, &["web"]);
    server.forget();
    format!("{}, nothing given back", Lost(seen))
}

/// The network is numbered anew: what the server takes back is dropped at once.
fn numbered_anew(cluster: &mut Cluster<'_>) -> String {
    let server = kea6("kea6-before", ("2:20", "2:29"), 80);
    let (old, watch) = settle_with(cluster, "::", FAMILY);
    server.forget();
    let server = kea6("kea6-anew", ("2:40", "2:49"), 80);
    cluster.kill("n1");
    // The next one carries it until it is told.
    assert!(wait_for(SOON, || server.said("REBIND") > 0), "{}", server.log());
    watch.nobody(SOON);
    let anew = wait_for(SOON, || address_of(cluster, "web", FAMILY) != old);
    assert!(anew, "{}\n{}", object(cluster, "web"), server.log());
    let ip = address_of(cluster, "web", FAMILY);
    told_of(cluster, "web", "n2", ip);
    Watch::begin(ip).only("n2", SOON);
    assert!(!has_address("n2", &old.to_string()));
    forget(cluster, &["web"]);
    server.forget();
    format!("{old} was taken back, {ip} is leased and told")
}

/// A lease that nobody renews ends, and its address with it; when the server is back it begins
/// again.
fn server_vanishes(cluster: &mut Cluster<'_>) -> String {
    let server = dhcpd6("dhcpd6-vanishes", 9);
    let (ip, watch) = settle_with(cluster, "::", FAMILY);
    let renewed = |it: &Server| it.said("Renew message from");
    assert!(wait_for(SOON + SOON, || renewed(&server) > 2), "{}", server.log());
    watch.only("n1", SOON);
    is_denied(cluster, "n1");
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
    let server = dhcpd6("dhcpd6-vanishes", 9);
    assert!(wait_for(SOON * 6, || has_address("n1", &ip.to_string())), "{}", server.log());
    watch.only("n1", SOON);
    // The next holder asks this server too.
    cluster.kill("n1");
    watch.only("n2", LEASE + LIFETIME + SLACK);
    lease_is(cluster, "n2", "bound");
    assert!(server.said("Rebind message from") > 0, "{}", server.log());
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.said("Release message from") > 0), "{}", server.log());
    server.forget();
    "renewed, ended with its lease, again when the server is back, and taken over".into()
}

/// A server that has lost what it knew is asked for the same anew, and nobody notices.
fn forgotten(cluster: &mut Cluster<'_>) -> String {
    let server = dhcpd6("dhcpd6-forgets", 15);
    let (ip, watch) = settle_with(cluster, "::", FAMILY);
    let gap = gap::Gap::begin(ip);
    server.forget();
    let server = dhcpd6("dhcpd6-forgets", 15);
    // Its log goes on.
    let asked = |it: &Server| it.said("Request message from");
    assert!(wait_for(SOON, || asked(&server) > 1), "{}", server.log());
    assert!(server.said("Renew message from") > 0, "{}", server.log());
    lease_is(cluster, "n1", "bound");
    watch.only("n1", SOON);
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}", Lost(seen));
    assert_eq!((server.said("Solicit message from"), address_of(cluster, "web", FAMILY)), (1, ip));
    forget(cluster, &["web"]);
    server.forget();
    format!("{}, by a request after the renewal", Lost(seen))
}

fn in_use(cluster: &mut Cluster<'_>) -> String {
    // The client's own address is all that the server has.
    let server = dnsmasq6("dnsmasq6-in-use", "100", "100");
    serving(cluster);
    cluster.start("n1");
    cluster.lab.api.apply(&asking(cluster, "web", "::", ""));
    assert!(wait_for(SOON, || server.said("DHCPDECLINE(") > 0), "{}", server.log());
    cluster
        .status_is("n1", "says why", |it| it["services"]["services"][0]["code"] == "dhcp-conflict");
    assert!(!has_address("n1", "fd77::100"));
    forget(cluster, &["web"]);
    server.forget();
    "declined".into()
}

fn address_of_a_node(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq6("dnsmasq6-of-node", "11", "11");
    let asks = asking(cluster, "web", "::", "");
    nodes_own_is_refused(cluster, server, &asks, "fd77::11")
}

fn with_kea(cluster: &mut Cluster<'_>) -> String {
    let server = kea6("kea6", ("2:20", "2:29"), 9);
    let (ip, watch) = settle_with(cluster, "::", FAMILY);
    let renewed = |it: &Server| it.said("DHCP6_LEASE_RENEW");
    assert!(wait_for(SOON + SOON, || renewed(&server) > 2), "{}", server.log());
    is_denied(cluster, "n1");
    cluster.kill("n1");
    watch.only("n2", LEASE + LIFETIME + SLACK);
    lease_is(cluster, "n2", "bound");
    told_of(cluster, "web", "n2", ip);
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.said("DHCP6_RELEASE_NA ") > 0), "{}", server.log());
    server.forget();
    "renewed, taken over and given back".into()
}

/// A pool of both families has its Services ask for both, and they move together.
fn dual_pool(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq_dual("dnsmasq-dual");
    serving(cluster);
    pools(cluster, "cidr-global: 0.0.0.0/32,::/128");
    for node in ["n1", "n2"] {
        cluster.start(node);
    }
    let single = unasked(cluster, "web");
    let dual = single
        .replace("  type: LoadBalancer", "  type: LoadBalancer\n  ipFamilyPolicy: PreferDualStack");
    assert_ne!(single, dual);
    cluster.lab.api.apply(&dual);
    let (v4, v6) = (address_of(cluster, "web", "ipv4"), address_of(cluster, "web", FAMILY));
    let watches = [Watch::begin(v4), Watch::begin(v6)];
    let holder = watches[0].someone(SOON);
    watches[1].only(&holder, SOON);
    let told = || {
        let ingress = object(cluster, "web")["status"]["loadBalancer"]["ingress"].clone();
        [v4, v6].iter().all(|ip| {
            let all = ingress.as_array().into_iter().flatten();
            all.filter(|it| it["ip"] == ip.to_string()).count() == 1
        })
    };
    assert!(wait_for(SOON, told), "{}", object(cluster, "web"));
    let heir = if holder == "n1" { "n2" } else { "n1" };
    cluster.kill(&holder);
    for watch in &watches {
        watch.only(heir, LEASE + LIFETIME + SLACK);
    }
    cluster.status_is(heir, "has both", |it| {
        let leases = it["services"]["services"][0]["leases"].as_array().cloned();
        leases.is_some_and(|all| all.len() == 2 && all.iter().all(|it| it["phase"] == "bound"))
    });
    assert_eq!(address_of(cluster, "web", "ipv4"), v4);
    assert_eq!(address_of(cluster, "web", FAMILY), v6);
    let counts = ["DHCPDISCOVER(", "DHCPSOLICIT(", "DHCPREBIND("].map(|it| server.said(it));
    assert_eq!(counts, [1, 1, 1], "{}", server.log());
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || server.said("DHCPRELEASE(") == 2), "{}", server.log());
    no_pools(cluster);
    server.forget();
    "a lease of each family, and both move with their VIPs".into()
}
