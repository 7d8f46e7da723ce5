//! Leases of Services that the quorum places: the member that carries the VIP has the lease.

use std::collections::BTreeMap;
use std::net::IpAddr;

use edgevip::io::clock;
use serde_json::Value;

use super::LONG;
use super::api::with_api;
use crate::RaftScenario;
use crate::lab::dhcp::{dnsmasq, dnsmasq_dual};
use crate::lab::net::NODES;
use crate::lab::quorum::Quorum;
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::outcome::never_two;

pub const SCENARIOS: &[RaftScenario] = &[("raft_dhcp", leases), ("raft_dhcp_dual", dual)];

const NAME: &str = "quorum-leased";

/// A Service that asks for a lease, and the node that serves it.
fn service(node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {NAME}\n  \
         annotations: {{ kube-vip.io/loadbalancerIPs: \"0.0.0.0\" }}\nspec:\n  \
         type: LoadBalancer\n  externalTrafficPolicy: Local\n  ports: [{{ port: 80 }}]\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
         name: {NAME}-1\n  labels: {{ kubernetes.io/service-name: {NAME} }}\n\
         addressType: IPv4\nendpoints:\n- addresses: [10.244.0.1]\n  nodeName: {node}\n  \
         conditions: {{ ready: true }}\n"
    )
}

/// Waits until the Service says that this node answers; returns the address.
fn told(quorum: &Quorum<'_>, node: &str) -> IpAddr {
    let words = ["get", "service", NAME, "-o", "json"];
    let mut ip = None;
    let fine = wait_for(LONG, || {
        let it: Value = serde_json::from_str(&quorum.lab.api.kubectl(&words)).unwrap_or_default();
        let text = it["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().unwrap_or_default();
        ip = text.parse().ok();
        it["metadata"]["annotations"]["kube-vip.io/vipHost"] == node && ip.is_some()
    });
    assert!(fine, "{NAME} is not on {node}: {}", quorum.lab.api.kubectl(&words));
    ip.expect("it was there")
}

/// Waits until this node, and no other, sees to the lease.
fn held(quorum: &Quorum<'_>, node: &str) {
    let lease = |it: &str| {
        let status = quorum.status(it).unwrap_or_default();
        status["services"]["services"][0]["leases"][0].clone()
    };
    let fine = wait_for(LONG, || {
        let others = NODES.iter().filter(|it| **it != node);
        lease(node)["phase"] == "bound" && others.clone().all(|it| lease(it).is_null())
    });
    let all: Vec<_> = NODES.iter().map(|it| lease(it)).collect();
    assert!(fine, "{node} has not the lease alone: {all:?}");
}

fn leases(quorum: &mut Quorum<'_>) -> String {
    let server = dnsmasq("dnsmasq-raft", 20, 29);
    with_api(quorum, "raft-dhcp");
    quorum.set("svc_enable", "true");
    let (_watch, _) = quorum.settle();
    quorum.lab.api.apply(&service("n2"));
    let ip = told(quorum, "n2");
    let watch = Watch::begin(ip);
    watch.only("n2", LONG);
    held(quorum, "n2");
    let since = clock::now();
    quorum.lab.api.apply(&service("n3"));
    assert_eq!(told(quorum, "n3"), ip, "it has another address");
    watch.only("n3", LONG);
    held(quorum, "n3");
    // Nobody serves it, and still the lease is somebody's.
    quorum.lab.api.kubectl(&["delete", "endpointslice", &format!("{NAME}-1")]);
    watch.nobody(LONG);
    let anybody = || {
        NODES.iter().any(|it| {
            let status = quorum.status(it).unwrap_or_default();
            status["services"]["services"][0]["leases"][0]["phase"] == "bound"
        })
    };
    assert!(wait_for(LONG, anybody), "nobody has the lease: {}", server.log());
    quorum.lab.api.apply(&service("n1"));
    assert_eq!(told(quorum, "n1"), ip, "it has another address");
    held(quorum, "n1");
    never_two(&watch, since);
    assert_eq!(server.said("DHCPDISCOVER("), 1, "{}", server.log());
    assert_eq!(server.said("DHCPRELEASE("), 0, "{}", server.log());
    quorum.lab.api.kubectl(&["delete", "service", NAME]);
    quorum.lab.api.kubectl(&["delete", "endpointslice", &format!("{NAME}-1")]);
    assert!(wait_for(LONG, || server.leases().is_empty()), "{}", server.log());
    assert_eq!(server.said("DHCPRELEASE("), 1, "{}", server.log());
    watch.nobody(LONG);
    server.forget();
    "one lease, on each node that serves it in turn, given back in the end".into()
}

/// A lease of each family, which the quorum places each for itself; both are told by one
/// annotation, whoever has them.
fn dual(quorum: &mut Quorum<'_>) -> String {
    let server = dnsmasq_dual("dnsmasq-raft-dual");
    with_api(quorum, "raft-dhcp-dual");
    quorum.set("svc_enable", "true");
    quorum.settle();
    let asks = service("n2").replace("\"0.0.0.0\"", "\"0.0.0.0,::\"").replace("Local", "Cluster");
    quorum.lab.api.apply(&asks);
    let leased = |quorum: &Quorum<'_>| {
        let words = ["get", "service", NAME, "-o", "json"];
        let it: Value = serde_json::from_str(&quorum.lab.api.kubectl(&words)).unwrap_or_default();
        let text = it["metadata"]["annotations"]["edgevip.io/dhcp-lease"].as_str();
        let leases: Value = serde_json::from_str(text.unwrap_or_default()).unwrap_or_default();
        let ip = |family: &str| leases[family]["address"].as_str()?.parse::<IpAddr>().ok();
        Some([ip("ipv4")?, ip("ipv6")?])
    };
    // Each address and who has its lease.
    let bound = |quorum: &Quorum<'_>| {
        let of = |node: &'static str| {
            let status = quorum.status(node).unwrap_or_default();
            let leases = status["services"]["services"][0]["leases"].as_array().cloned();
            let bound = leases.unwrap_or_default().into_iter().filter(|it| it["phase"] == "bound");
            bound.filter_map(move |it| Some((it["address"].as_str()?.to_owned(), node)))
        };
        NODES.iter().flat_map(|it| of(it)).collect::<BTreeMap<_, _>>()
    };
    assert!(wait_for(LONG, || leased(quorum).is_some()), "{}", server.log());
    let ips = leased(quorum).expect("it was there");
    let watches = ips.map(Watch::begin);
    let holders = watches.each_ref().map(|it| it.someone(LONG));
    assert!(wait_for(LONG, || bound(quorum).len() == 2), "{:?}", bound(quorum));
    let since = clock::now();
    quorum.kill(&holders[1]);
    let heir = watches[1].other_than(&[&holders[1]], LONG);
    let told = |quorum: &Quorum<'_>| {
        let all = bound(quorum);
        all.len() == 2 && all.get(&ips[1].to_string()).is_some_and(|it| *it == heir)
    };
    assert!(wait_for(LONG, || told(quorum)), "{:?}", bound(quorum));
    never_two(&watches[1], since);
    assert_eq!(leased(quorum), Some(ips));
    let counts = ["DHCPDISCOVER(", "DHCPSOLICIT("].map(|it| server.said(it));
    assert_eq!(counts, [1, 1], "{}", server.log());
    quorum.lab.api.kubectl(&["delete", "service", NAME]);
    quorum.lab.api.kubectl(&["delete", "endpointslice", &format!("{NAME}-1")]);
    assert!(wait_for(LONG, || server.said("DHCPRELEASE(") == 2), "{}", server.log());
    server.forget();
    format!("on {} and {}, then the latter on {heir}", holders[0], holders[1])
}
