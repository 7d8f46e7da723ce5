//! What should be told of a Service.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU64;

use crate::engine::mapping::{self, OUTSIDE};
use crate::model::{Ingress, Service};

/// What the annotation should say, where it does not: which addresses of the status are the
/// gateway's, as long as they are there.
pub(super) fn outside_annotation(service: &Service, outside: &[IpAddr]) -> Option<Option<String>> {
    let stands = |ip: &IpAddr| service.status_names(*ip);
    let stay = mapping::outside(service).filter(stands);
    let all: BTreeSet<_> = stay.chain(outside.iter().copied()).collect();
    let text = all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let before = service.annotations.get(OUTSIDE).map_or("", String::as_str);
    (before != text).then(|| Some(text).filter(|it| !it.is_empty()))
}

pub(super) fn hash(it: &impl Hash) -> NonZeroU64 {
    let mut hasher = DefaultHasher::new();
    it.hash(&mut hasher);
    NonZeroU64::MIN | hasher.finish()
}

/// In any order.
pub(super) fn is_same(one: &[Ingress], other: &[Ingress]) -> bool {
    one.len() == other.len() && one.iter().all(|it| other.contains(it))
}

/// What the status should say: the addresses, each with the ports there are now.
pub(super) fn ingress(service: &Service, answered: &[IpAddr]) -> Vec<Ingress> {
    let before = |ip: IpAddr| service.ingress.iter().find(|it| it.ip == Some(ip));
    answered
        .iter()
        .map(|ip| Ingress {
            ip: Some(*ip),
            hostname: None,
            ip_mode: before(*ip).and_then(|it| it.ip_mode.clone()),
            ports: service.ports.clone(),
        })
        .collect()
}
