//! Ethernet frames about a VIP: ours as bytes, and what those of others mean.

use std::net::IpAddr;

use etherparse::{EtherType, Ethernet2Header, Ethernet2Slice};

use super::{arp, ndp};
use crate::model::{Frame, Heard, LinkIndex, Mac};

/// IEEE 802.3 §3.2.8: a frame is at least this long, without its check sequence.
const SHORTEST: usize = 60;

/// The whole frame, padded.
pub fn encode(frame: &Frame) -> Vec<u8> {
    let (mac, ether_type, destination, payload) = match *frame {
        Frame::Probe { mac, ip: IpAddr::V4(ip) } => v4(mac, arp::probe(mac, ip)),
        Frame::Announce { mac, ip: IpAddr::V4(ip) } => v4(mac, arp::announcement(mac, ip)),
        Frame::AnnounceReply { mac, ip: IpAddr::V4(ip) } => v4(mac, arp::reply(mac, ip)),
        Frame::Probe { mac, ip: IpAddr::V6(ip) } => v6(mac, ndp::probe(ip)),
        Frame::Announce { mac, ip: IpAddr::V6(ip) }
        | Frame::AnnounceReply { mac, ip: IpAddr::V6(ip) } => v6(mac, ndp::announcement(mac, ip)),
    };
    let header = Ethernet2Header { source: mac.0, destination: destination.0, ether_type };
    let mut bytes = Vec::with_capacity(96);
    bytes.extend(header.to_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().max(SHORTEST), 0);
    bytes
}

fn v4(mac: Mac, packet: Vec<u8>) -> (Mac, EtherType, Mac, Vec<u8>) {
    (mac, EtherType::ARP, Mac([0xff; 6]), packet)
}

fn v6(mac: Mac, (destination, packet): (Mac, Vec<u8>)) -> (Mac, EtherType, Mac, Vec<u8>) {
    (mac, EtherType::IPV6, destination, packet)
}

/// What a frame says about who has an address; `None` if it says nothing of the kind.
pub fn decode(link: LinkIndex, bytes: &[u8]) -> Option<Heard> {
    let frame = Ethernet2Slice::from_slice_without_fcs(bytes).ok()?;
    let (ip, mac, probe) = match frame.ether_type() {
        EtherType::ARP => arp::decode(frame.payload_slice())?,
        EtherType::IPV6 => ndp::decode(Mac(frame.source()), frame.payload_slice())?,
        _ => return None,
    };
    Some(Heard { link, ip, mac, probe })
}
