//! The annotation that a lease travels by, from the node that has it to the next one.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::model::{Dhcp4Lease, Mac};

/// The annotation of a Service with the leases of its addresses.
pub const LEASE: &str = "edgevip.io/dhcp-lease";

#[derive(Deserialize, Serialize)]
struct LeasesJson {
    ipv4: Option<LeaseJson>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseJson {
    address: Ipv4Addr,
    server: Ipv4Addr,
    seconds: u32,
    mac: String,
    client_id: String,
}

/// What the annotation says.
pub fn encode(lease: &Dhcp4Lease) -> String {
    let ipv4 = Some(LeaseJson {
        address: lease.address,
        server: lease.server,
        seconds: lease.seconds,
        mac: lease.mac.to_string(),
        client_id: lease.client_id.iter().map(|it| format!("{it:02x}")).collect(),
    });
    serde_json::to_string(&LeasesJson { ipv4 }).unwrap_or_default()
}

/// The lease that the annotation speaks of. What somebody wrote there is no lease unless
/// every part of it can be one.
pub fn decode(text: &str) -> Option<Dhcp4Lease> {
    let it = serde_json::from_str::<LeasesJson>(text).ok()?.ipv4?;
    let lease = Dhcp4Lease {
        address: it.address,
        server: it.server,
        seconds: it.seconds,
        mac: mac(&it.mac)?,
        client_id: bytes(&it.client_id)?,
    };
    let is_good = is_host(lease.address) && lease.seconds > 0 && lease.client_id.len() <= 255;
    is_good.then_some(lease)
}

/// Whether one node can have the address.
pub fn is_host(ip: Ipv4Addr) -> bool {
    let reserved = ip.is_multicast() || ip.octets()[0] >= 240 || ip.octets()[0] == 0;
    !(ip.is_loopback() || ip.is_broadcast() || reserved)
}

/// A hardware address of one host, as people write it.
pub fn mac(text: &str) -> Option<Mac> {
    let parts: Vec<&str> = text.trim().split([':', '-']).collect();
    let byte = |it: &&str| {
        let plain = it.len() == 2 && it.bytes().all(|it| it.is_ascii_hexdigit());
        plain.then(|| u8::from_str_radix(it, 16).ok()).flatten()
    };
    let all: Option<Vec<u8>> = parts.iter().map(byte).collect();
    let bytes: [u8; 6] = all?.try_into().ok()?;
    (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Mac(bytes))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_comes_back_as_it_was_written_and_nothing_else_is_one() {
        let lease = Dhcp4Lease {
            address: Ipv4Addr::new(10, 0, 0, 9),
            server: Ipv4Addr::new(10, 0, 0, 1),
            seconds: 120,
            mac: Mac([2, 0, 0, 0, 0, 9]),
            client_id: vec![255, 0, 1],
        };
        let text = encode(&lease);
        assert_eq!(
            text,
            "{\"ipv4\":{\"address\":\"10.0.0.9\",\"server\":\"10.0.0.1\",\"seconds\":120,\
             \"mac\":\"02:00:00:00:00:09\",\"clientId\":\"ff0001\"}}"
        );
        assert_eq!(decode(&text), Some(lease));
        let spoiled = [
            ("10.0.0.9", "224.0.0.1"),
            ("10.0.0.9", "0.0.0.0"),
            ("10.0.0.9", "127.0.0.1"),
            ("10.0.0.9", "fd00::1"),
            (":120", ":0"),
            (":120", ":-1"),
            ("02:", "03:"),
            ("02:", "+2:"),
            ("ff0001", "ff000"),
            ("ff0001", "fé"),
            ("{\"ipv4\":", "["),
        ];
        for (from, to) in spoiled {
            assert_eq!(decode(&text.replace(from, to)), None, "{from} {to}");
        }
        assert_eq!(decode(""), None);
    }
}
