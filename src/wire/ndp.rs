//! Neighbour discovery for IPv6 on Ethernet.
//!
//! Supported: unsolicited neighbour advertisements (RFC 4861 §7.2.6), the solicitations
//! of duplicate address detection (RFC 4862 §5.4.2), the validation of both (RFC 4861
//! §7.1). Left out on purpose: ordinary solicitations, routers, SEND (RFC 3971).

use std::net::{IpAddr, Ipv6Addr};

use etherparse::icmpv6::{NdpOptionSlice, NdpOptionsIterator, NeighborAdvertisementHeader};
use etherparse::{Icmpv6Header, Icmpv6Slice, Icmpv6Type, IpNumber, Ipv6Header, Ipv6HeaderSlice};

use crate::model::Mac;

/// RFC 4861 §4.3 and §4.4: what no router has forwarded.
const HOP_LIMIT: u8 = 255;
/// RFC 4861 §4.6.1: type and length of a target link-layer address of six bytes.
const TARGET_ADDRESS_OPTION: [u8; 2] = [2, 1];
/// RFC 4291 §2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Who has this? Asked by nobody, so that no cache changes. With the MAC to send it to.
pub fn probe(ip: Ipv6Addr) -> (Mac, Vec<u8>) {
    let [.., a, b, c] = ip.octets();
    // RFC 4291 §2.7.1: the solicited-node address.
    let destination =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    packet(Ipv6Addr::UNSPECIFIED, destination, Icmpv6Type::NeighborSolicitation, &ip.octets())
}

/// An unsolicited neighbour advertisement that overrides what caches have. With the MAC
/// to send it to.
pub fn announcement(mac: Mac, ip: Ipv6Addr) -> (Mac, Vec<u8>) {
    let flags = NeighborAdvertisementHeader { router: false, solicited: false, r#override: true };
    let mut body = ip.octets().to_vec();
    body.extend(TARGET_ADDRESS_OPTION);
    body.extend(mac.0);
    packet(ip, ALL_NODES, Icmpv6Type::NeighborAdvertisement(flags), &body)
}

fn packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: Icmpv6Type,
    body: &[u8],
) -> (Mac, Vec<u8>) {
    let (source, destination) = (source.octets(), destination.octets());
    let icmp = Icmpv6Header::with_checksum(kind, source, destination, body)
        .expect("two dozen bytes are not too long");
    let header = Ipv6Header {
        payload_length: (icmp.header_len() + body.len()) as u16,
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: HOP_LIMIT,
        source,
        destination,
        ..Ipv6Header::default()
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend(&icmp.to_bytes());
    bytes.extend(body);
    // RFC 2464 §7.
    let [.., a, b, c, d] = destination;
    (Mac([0x33, 0x33, a, b, c, d]), bytes)
}

/// The address claimed, or only asked about, and by whom: (address, MAC, only asked).
pub fn decode(from: Mac, bytes: &[u8]) -> Option<(IpAddr, Mac, bool)> {
    let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
    if header.next_header() != IpNumber::IPV6_ICMP || header.hop_limit() != HOP_LIMIT {
        return None;
    }
    let end = Ipv6Header::LEN + usize::from(header.payload_length());
    let icmp = Icmpv6Slice::from_slice(bytes.get(Ipv6Header::LEN..end)?).ok()?;
    if icmp.code_u8() != 0 || !icmp.is_checksum_valid(header.source(), header.destination()) {
        return None;
    }
    let (target, options) = icmp.payload().split_first_chunk::<16>()?;
    let target = Ipv6Addr::from(*target);
    if target.is_multicast() {
        return None;
    }
    let mac = target_address(options)?.unwrap_or(from);
    match icmp.icmp_type() {
        Icmpv6Type::NeighborAdvertisement(_) => Some((target.into(), mac, false)),
        Icmpv6Type::NeighborSolicitation if header.source_addr().is_unspecified() => {
            Some((target.into(), from, true))
        }
        _ => None,
    }
}

/// The MAC that neighbours learn, if one is given; `None` if the options are malformed.
fn target_address(options: &[u8]) -> Option<Option<Mac>> {
    let mut mac = None;
    for option in NdpOptionsIterator::from_slice(options) {
        if let NdpOptionSlice::TargetLinkLayerAddress(it) = option.ok()? {
            mac = Some(Mac(it.link_layer_address().try_into().ok()?));
        }
    }
    Some(mac)
}
