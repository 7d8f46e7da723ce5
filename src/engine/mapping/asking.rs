//! What a Service says about the gateway: the peer's annotations `forwardUPNP` and
//! `upnp-lease-duration`, and our own, by which its status is told from its addresses.

use std::net::IpAddr;

use super::Wish;
use crate::engine::draw::{BEGIN, fnv};
use crate::model::{Nonce, Service, ServicePort};

/// The addresses in its status that are the gateway's.
pub(crate) const OUTSIDE: &str = "edgevip.io/gateway-addresses";
const FORWARD: &str = "kube-vip.io/forwardUPNP";
const LEASE: &str = "kube-vip.io/upnp-lease-duration";
/// What the peer asks for where nothing is said, or nothing sensible.
const USUAL: u32 = 3_600;
/// The peer takes no more than ten years.
const LONGEST: u64 = 3_650 * 24 * 3_600;
/// WANIPConnection:2 §2.3.22 lets a description be as long as it likes; gateways do not.
const LONGEST_NAME: usize = 60;

/// Whether its ports are to be open on the gateway.
pub(crate) fn is_asked(service: &Service) -> bool {
    service.annotations.get(FORWARD).is_some_and(|it| it.trim() == "true")
}

/// What is wanted of the gateway for one of its ports.
pub(crate) fn wish(service: &Service, ip: IpAddr, port: ServicePort) -> Wish {
    let name = format!("edgevip {}", service.name);
    Wish {
        lease: service.annotations.get(LEASE).and_then(|it| lease(it.trim())).unwrap_or(USUAL),
        nonce: nonce(service, ip, port),
        name: name.chars().filter(|it| !it.is_control()).take(LONGEST_NAME).collect(),
    }
}

/// The addresses in its status that it does not have itself.
pub(crate) fn outside(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let text = service.annotations.get(OUTSIDE).map_or("", String::as_str);
    text.split(',').filter_map(|it| it.trim().parse().ok())
}

/// A duration of Go, in whole seconds.
fn lease(text: &str) -> Option<u32> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut nanos) = (text.strip_prefix('+').unwrap_or(text), 0_f64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let end = tail.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale = match unit {
            "h" => 3_600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" | "μs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        nanos += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    let seconds = nanos / 1e9;
    (seconds <= LONGEST as f64).then_some(seconds as u32)
}

/// Each node comes to the same for the same Service, so that it can renew what another asked
/// for; who does not know the Service's uid cannot (RFC 6887 §11.2).
fn nonce(service: &Service, ip: IpAddr, port: ServicePort) -> Nonce {
    let text = format!("{} {ip} {} {}", service.uid, port.port, port.protocol.name());
    let mut nonce = Nonce::default();
    for (number, part) in (0_u64..).zip(nonce.chunks_mut(4)) {
        let sum = fnv(BEGIN ^ number, text.as_bytes()).to_be_bytes();
        part.copy_from_slice(&sum[..4]);
    }
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_durations_of_go() {
        let cases = [
            ("30s", Some(30)),
            ("1h", Some(3_600)),
            ("1h30m", Some(5_400)),
            ("1.5m", Some(90)),
            ("1999ms", Some(1)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("87600h", Some(315_360_000)),
            ("87601h", None),
            ("-1h", None),
            ("60", None),
            ("", None),
            ("1d", None),
            ("h", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(lease(text), seconds, "{text:?}");
        }
    }
}
