//! Who the client is, for servers: a Service, on whatever node.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::engine::dhcp::{Said, Whom};
use crate::engine::draw::{BEGIN, fnv};
use crate::engine::network::Usable;
use crate::model::{Dhcp4Packet, Dhcp6Message, Dhcp6Packet, DhcpPacket, Mac};

/// What was said, as packets: to all from the client's own hardware address, to a server from
/// the link's, which is what the VIP is answered for with.
pub(super) fn packets4(on: Usable, said: Vec<Said>) -> Vec<DhcpPacket> {
    let packet = |Said { to, message }| {
        let client = message.client.unwrap_or(Ipv4Addr::UNSPECIFIED);
        DhcpPacket::V4(match to {
            Whom::All => Dhcp4Packet {
                from_mac: message.mac,
                to_mac: EVERYBODY,
                from: client,
                to: Ipv4Addr::BROADCAST,
                message,
            },
            Whom::Server(server, mac) => Dhcp4Packet {
                from_mac: on.mac,
                to_mac: mac.unwrap_or(EVERYBODY),
                from: client,
                to: server,
                message,
            },
        })
    };
    said.into_iter().map(packet).collect()
}

/// RFC 8415 §13.1: from the link's own address, which servers answer to. One that it has not
/// yet is what it will most likely be (RFC 4291, appendix A).
pub(super) fn packets6(
    on: Usable,
    local: Option<Ipv6Addr>,
    said: Vec<Dhcp6Message>,
) -> Vec<DhcpPacket> {
    let Mac([a, b, c, d, e, f]) = on.mac;
    let likely = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let from = local.unwrap_or_else(|| likely.into());
    let packet = |message| DhcpPacket::V6(Dhcp6Packet { from_mac: on.mac, from, message });
    said.into_iter().map(packet).collect()
}

const EVERYBODY: Mac = Mac([0xff; 6]);

/// RFC 4361 §6.1, RFC 6355: the Service itself is the client, on whatever node.
pub(super) fn client_id(uid: &str) -> Vec<u8> {
    let digits: Vec<u8> = uid.bytes().filter(u8::is_ascii_hexdigit).collect();
    let text = String::from_utf8_lossy(&digits);
    let uuid = u128::from_str_radix(&text, 16).ok().filter(|_| digits.len() == 32);
    let uuid = uuid.unwrap_or_else(|| (u128::from(hash(uid, 0)) << 64) | u128::from(hash(uid, 1)));
    let mut id = vec![255];
    id.extend((hash(uid, 0) as u32).to_be_bytes());
    id.extend([0, 4]);
    id.extend(uuid.to_be_bytes());
    id
}

/// IAID and DUID of the same client (RFC 4361 §6.1 has them in its identifier).
pub(super) fn iaid_and_duid(uid: &str) -> (u32, Vec<u8>) {
    let id = client_id(uid);
    let (head, duid) = id.split_at(id.len().min(5));
    let iaid = head.get(1..).and_then(|it| it.try_into().ok());
    (iaid.map_or(0, u32::from_be_bytes), duid.to_vec())
}

/// A hardware address that is administered locally, and the same for a Service on any node.
pub(super) fn own_mac(uid: &str) -> Mac {
    let [a, b, c, d, e, f, ..] = hash(uid, 0).to_be_bytes();
    Mac([(a & 0xfc) | 2, b, c, d, e, f])
}

/// FNV-1a, stirred.
fn hash(text: &str, seed: u8) -> u64 {
    let sum = fnv(fnv(BEGIN, text.as_bytes()), &[seed]);
    (sum ^ (sum >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}
