//! Leases of Services that the quorum places: the member that carries the VIP has the lease.

use std::net::IpAddr;

use edgevip::io::clock;
use serde_json::Value;

use super::LONG;
use super::api::with_api;
use crate::RaftScenario;
use crate::lab::dhcp::dnsmasq;
use crate::lab::net::NODES;
use crate::lab::quorum::Quorum;
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::outcome::never_two;

pub const SCENARIOS: &[RaftScenario] = &[("raft_dhcp", leases)];

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
