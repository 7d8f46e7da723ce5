//! The annotation that a lease travels by, from the node that has it to the next one.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{Dhcp4Lease, Dhcp6Lease, Leases, Mac};

/// The annotation of a Service with the leases of its addresses.
pub const LEASE: &str = "edgevip.io/dhcp-lease";

#[derive(Serialize)]
struct LeasesJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv4: Option<Lease4Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<Lease6Json>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lease4Json {
    address: Ipv4Addr,
    server: Ipv4Addr,
    seconds: u32,
    mac: String,
    client_id: String,
}

#[derive(Deserialize, Serialize)]
struct Lease6Json {
    address: Ipv6Addr,
    server: String,
    seconds: u32,
    iaid: u32,
    duid: String,
}

/// What the annotation says; `None`: there is nothing to say.
pub fn encode(leases: &Leases) -> Option<String> {
    let ipv4 = leases.v4.as_ref().map(|it| Lease4Json {
        address: it.address,
        server: it.server,
        seconds: it.seconds,
        mac: it.mac.to_string(),
        client_id: hex(&it.client_id),
    });
    let ipv6 = leases.v6.as_ref().map(|it| Lease6Json {
        address: it.address,
        server: hex(&it.server),
        seconds: it.seconds,
        iaid: it.iaid,
        duid: hex(&it.duid),
    });
    let is_empty = ipv4.is_none() && ipv6.is_none();
    (!is_empty).then(|| serde_json::to_string(&LeasesJson { ipv4, ipv6 }).unwrap_or_default())
}

/// The leases that the annotation speaks of. What somebody wrote there is no lease unless
/// every part of it can be one.
pub fn decode(text: &str) -> Leases {
    let Ok(it) = serde_json::from_slice::<serde_json::Value>(text.as_bytes()) else {
        return Leases::default();
    };
    let (v4, v6) = (part(&it, "ipv4").and_then(decode4), part(&it, "ipv6").and_then(decode6));
    Leases { v4, v6 }
}

/// One that is spoiled takes no other with it.
fn part<T: DeserializeOwned>(it: &serde_json::Value, key: &str) -> Option<T> {
    serde_json::from_slice(it.get(key)?.to_string().as_bytes()).ok()
}

fn decode4(it: Lease4Json) -> Option<Dhcp4Lease> {
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

fn decode6(it: Lease6Json) -> Option<Dhcp6Lease> {
    let (server, duid) = (bytes(&it.server)?, bytes(&it.duid)?);
    let (address, seconds, iaid) = (it.address, it.seconds, it.iaid);
    // RFC 8415 §11.1.
    let are_duids = [&server, &duid].iter().all(|it| (3..=130).contains(&it.len()));
    let is_good = is_host6(address) && seconds > 0 && are_duids;
    is_good.then_some(Dhcp6Lease { address, server, seconds, iaid, duid })
}

/// Whether one node can have the address.
pub fn is_host(ip: Ipv4Addr) -> bool {
    let reserved = ip.is_multicast() || ip.octets()[0] >= 240 || ip.octets()[0] == 0;
    !(ip.is_loopback() || ip.is_broadcast() || reserved)
}

/// Whether one node can have the address, for others than its own link.
pub fn is_host6(ip: Ipv6Addr) -> bool {
    let narrow = ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local();
    !(narrow || ip.is_multicast() || ip.to_ipv4_mapped().is_some())
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
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
    fn leases_come_back_as_they_were_written_and_nothing_else_is_one() {
        let v4 = Dhcp4Lease {
            address: Ipv4Addr::new(10, 0, 0, 9),
            server: Ipv4Addr::new(10, 0, 0, 1),
            seconds: 120,
            mac: Mac([2, 0, 0, 0, 0, 9]),
            client_id: vec![255, 0, 1],
        };
        let v6 = Dhcp6Lease {
            address: "fd00::9".parse().unwrap(),
            server: vec![0, 3, 0, 1],
            seconds: 130,
            iaid: 7,
            duid: vec![0, 4, 9],
        };
        let (one, other) = (Some(v4), Some(v6));
        let texts = [
            "{\"address\":\"10.0.0.9\",\"server\":\"10.0.0.1\",\"seconds\":120,\
             \"mac\":\"02:00:00:00:00:09\",\"clientId\":\"ff0001\"}",
            "{\"address\":\"fd00::9\",\"server\":\"00030001\",\"seconds\":130,\
             \"iaid\":7,\"duid\":\"000409\"}",
        ];
        let both = format!("{{\"ipv4\":{},\"ipv6\":{}}}", texts[0], texts[1]);
        let table = [
            (one.clone(), None, Some(format!("{{\"ipv4\":{}}}", texts[0]))),
            (None, other.clone(), Some(format!("{{\"ipv6\":{}}}", texts[1]))),
            (one.clone(), other.clone(), Some(both.clone())),
            (None, None, None),
        ];
        for (v4, v6, text) in table {
            let leases = Leases { v4, v6 };
            assert_eq!(encode(&leases), text);
            assert_eq!(decode(&text.unwrap_or_default()), leases);
        }
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
            ("{\"ipv4\":", "{\"ipv5\":"),
        ];
        for (from, to) in spoiled {
            let expected = Leases { v4: None, v6: other.clone() };
            assert_eq!(decode(&both.replace(from, to)), expected, "{from} {to}");
        }
        let spoiled = [
            ("fd00::9", "::"),
            ("fd00::9", "fe80::1"),
            ("fd00::9", "ff02::1"),
            ("fd00::9", "10.0.0.1"),
            (":130", ":0"),
            (":7", ":-7"),
            ("000409", "0004"),
            ("00030001", ""),
            ("00030001", "0003000x"),
        ];
        for (from, to) in spoiled {
            let expected = Leases { v4: one.clone(), v6: None };
            assert_eq!(decode(&both.replace(from, to)), expected, "{from} {to}");
        }
        assert_eq!(decode(""), Leases::default());
        assert_eq!(decode(&both.replace("{\"ipv4\":", "[")), Leases::default());
    }
}
