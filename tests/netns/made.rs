//! Links that are made for Services.

use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::dhcp::dnsmasq;
use crate::lab::gap;
use crate::lab::net::{command_in, ip_in};
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::leases::{address_of, asking};
use crate::outcome::{LEASE, LIFETIME, SLACK};
use crate::services::{SOON, at, forget, service, serving, told, told_of};

pub const SCENARIOS: &[Scenario] =
    &[("svc_vlan", svc_vlan), ("dhcp_macvlan", dhcp_macvlan), ("dhcp_macvlan_refused", refused)];

fn has_link(node: &str, link: &str) -> bool {
    command_in(node, "ip").args(["link", "show", link]).output().expect("ip runs").status.success()
}

/// Whether that link of the node has an address.
fn has_on(node: &str, link: &str, ip: &str) -> bool {
    has_link(node, link) && ip_in(node, &format!("-o addr show dev {link}")).contains(ip)
}

/// A Service on a VLAN; where the kernel has none, that is said of it and of no other. So is
/// that a link is another than is asked for, and what cannot be read.
fn svc_vlan(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    ip_in("n1", "link add link eth0 name eth0.8 type macvlan");
    cluster.start("n1");
    let on = |cluster: &Cluster<'_>, name: &str, vlan: &str, ip: &str| {
        let it = service(cluster, name, "", &["n2"]);
        let annotation = "annotations: {";
        assert!(it.contains(annotation), "{it}");
        let with = format!("{annotation} kube-vip.io/serviceVLAN: \"{vlan}\", ");
        at(&it.replace(annotation, &with), ip, cluster.vip)
    };
    for (name, vlan, ip) in [
        ("tagged", "eth0.7", "10.77.0.191"),
        ("differs", "eth0.8", "10.77.0.192"),
        ("bad", "eth0.4095", "10.77.0.193"),
    ] {
        cluster.lab.api.apply(&on(cluster, name, vlan, ip));
    }
    let watch = Watch::begin(cluster.vip);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    watch.only("n1", SOON);
    told(cluster, "web", "n1");
    let code = |it: &serde_json::Value, ip: &str| {
        let all = it["vips"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|it| it["vip"] == ip).map(|it| it["code"].clone())
    };
    cluster.status_is("n1", "says what differs", |it| {
        code(it, "10.77.0.192").is_some_and(|it| it == "link-differs")
    });
    cluster.status_is("n1", "says what is unreadable", |it| {
        let all = it["services"]["services"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|it| it["code"] == "unreadable").count() == 1
    });
    let knows = command_in("n2", "ip")
        .args("link add link eth0 name eth0.9 type vlan id 9".split(' '))
        .output()
        .expect("ip runs")
        .status
        .success();
    if knows {
        ip_in("n2", "link del eth0.9");
        assert!(wait_for(SOON, || has_on("n1", "eth0.7", "10.77.0.191")));
        forget(cluster, &["tagged"]);
        assert!(wait_for(SOON, || !has_link("n1", "eth0.7")));
    } else {
        cluster.status_is("n1", "says why", |it| {
            code(it, "10.77.0.191").is_some_and(|it| it == "link-not-made")
        });
    }
    forget(cluster, &["tagged", "differs", "bad", "web"]);
    assert!(has_link("n1", "eth0.8"), "what others made stays");
    ip_in("n1", "link del eth0.8");
    let outcome = if knows { "made and removed" } else { "refused: this kernel has no VLANs" };
    format!("{outcome}; the other Service answers")
}

/// A lease on a link of its own, which goes with it.
fn dhcp_macvlan(cluster: &mut Cluster<'_>) -> String {
    let server = dnsmasq("dnsmasq-macvlan", 20, 29);
    serving(cluster);
    cluster.set("edgevip_dhcp_mac", "macvlan");
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let more = ", kube-vip.io/macvlanName: front, kube-vip.io/hwaddr: \"02:00:00:07:07:07\"";
    cluster.lab.api.apply(&asking(cluster, "web", "0.0.0.0", more));
    let ip = address_of(cluster, "web", "ipv4");
    told_of(cluster, "web", "n1", ip);
    let text = ip.to_string();
    assert!(has_on("n1", "front", &text));
    let link = ip_in("n1", "-d link show front");
    let words = ["alias edgevip:n1", "macvlan", "02:00:00:07:07:07"];
    assert!(words.iter().all(|it| link.contains(it)), "{link}");
    assert!(server.leases().contains("02:00:00:07:07:07"), "{}", server.leases());
    gap::reachable(ip, SOON);
    cluster.start("n2");
    cluster.follows("n2", "n1");
    assert!(!has_link("n2", "front"), "who only follows has none");
    cluster.status_is("n2", "says why", |it| it["vips"][0]["code"] == "not-leader");
    cluster.kill("n1");
    assert!(has_link("n1", "front"), "nobody removes it yet");
    let within = LEASE + LIFETIME + SLACK;
    assert!(wait_for(within, || has_on("n2", "front", &text)), "{}", cluster.daemon("n2").log());
    told_of(cluster, "web", "n2", ip);
    gap::reachable(ip, SOON);
    assert_eq!(server.said("DHCPDISCOVER("), 1, "{}", server.log());
    cluster.start("n1");
    assert!(wait_for(SOON, || !has_link("n1", "front")), "{}", cluster.daemon("n1").log());
    let seen = gap::Gap::begin(ip);
    cluster.signal("n2", Signal::SIGTERM);
    assert!(wait_for(SOON, || has_on("n1", "front", &text)), "{}", cluster.daemon("n1").log());
    assert!(wait_for(SOON, || !has_link("n2", "front")), "a stop leaves it");
    gap::reachable(ip, SOON);
    let seen = seen.end();
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || !has_link("n1", "front")), "{}", cluster.daemon("n1").log());
    assert!(wait_for(SOON, || server.leases().is_empty()), "{}", server.log());
    server.forget();
    format!("made, moved and removed with its lease; a stop: {}", crate::outcome::Lost(seen))
}

/// A link that carries no other hardware address is refused by name.
fn refused(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.set("edgevip_dhcp_mac", "macvlan");
    ip_in("n1", "link add br7 type bridge");
    ip_in("n1", "link add p7 type veth peer name q7");
    ip_in("n1", "link set p7 master br7");
    for link in ["br7", "p7", "q7"] {
        ip_in("n1", &format!("link set {link} up"));
    }
    cluster.start("n1");
    let more = ", kube-vip.io/serviceInterface: p7";
    cluster.lab.api.apply(&asking(cluster, "web", "0.0.0.0", more));
    let status = cluster
        .status_is("n1", "says why", |it| it["services"]["services"][0]["code"] == "dhcp-no-link");
    let why = status["services"]["services"][0]["why"].to_string();
    forget(cluster, &["web"]);
    ip_in("n1", "link del br7");
    ip_in("n1", "link del p7");
    assert!(why.contains("does not make the link vip-"), "{why}");
    why
}
