//! What a Service says of addresses, and what it is called.

use std::net::IpAddr;

use crate::engine::mapping;
use crate::model::{FamilyPolicy, Instant, IpFamily, ObjectName, Service, ServicePort};

/// The annotation with the addresses of a Service: `a` or `a,b`.
pub const ADDRESSES: &str = "kube-vip.io/loadbalancerIPs";
/// The annotation with the link that a Service is to be on.
pub const INTERFACE: &str = "kube-vip.io/serviceInterface";
/// The annotation that says which value of [`ADDRESSES`] came out of a pool of ours.
pub const ALLOCATED: &str = "edgevip.io/allocated";
/// The label, and its value, of Services that have been seen to.
pub const IMPLEMENTATION: (&str, &str) = ("implementation", "kube-vip");
/// A label that early versions of the peer wrote.
pub const IPAM_ADDRESS: &str = "ipam-address";
/// The finalizer of the peer's framework.
pub const CLEANUP: &str = "service.kubernetes.io/load-balancer-cleanup";

/// A Service that asks for addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// Which.
    pub name: ObjectName,
    /// Of which families, the first one first.
    pub families: Vec<IpFamily>,
    /// How many families.
    pub policy: FamilyPolicy,
    /// What it serves.
    pub ports: Vec<ServicePort>,
    /// Its traffic policy is `Local`: it shares with nobody.
    pub local: bool,
    /// When.
    pub now: Instant,
}

impl Request {
    /// What a Service asks for.
    pub fn of(service: &Service, now: Instant) -> Self {
        Self {
            name: service.name.clone(),
            families: service.families.clone(),
            policy: service.family_policy,
            ports: service.ports.clone(),
            local: service.local,
            now,
        }
    }
}

/// Every address that a Service is known by: in its annotation, its field, its status.
/// What is none is somebody's DNS name, or nobody's business but the Service's own.
pub(super) fn addresses(service: &Service) -> Vec<IpAddr> {
    let annotation = service.annotations.get(ADDRESSES).map_or("", String::as_str);
    let field = service.load_balancer_ip.as_deref().unwrap_or("");
    let outside: Vec<_> = mapping::outside(service).collect();
    let status = service.ingress.iter().filter_map(|it| it.ip);
    let status = status.filter(|it| !outside.contains(it)).map(|it| it.to_canonical());
    let mut known = Vec::new();
    for ip in list(annotation).chain(list(field)).chain(status) {
        // Of DHCP, the leased address is in the status.
        if !ip.is_unspecified() && !known.contains(&ip) {
            known.push(ip);
        }
    }
    known
}

/// The addresses of a comma list. Blanks, scopes and what is no address are left out.
pub(super) fn list(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    let addresses = text.split(',').map(|it| it.split('%').next().unwrap_or(it).trim());
    addresses.filter_map(|it| it.parse::<IpAddr>().ok()).map(|it| it.to_canonical())
}
