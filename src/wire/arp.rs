//! ARP for IPv4 on Ethernet.
//!
//! Supported: RFC 826; probe and announcement of RFC 5227 §1.1; the reply form of an
//! announcement. Left out on purpose: any hardware but Ethernet, IP over InfiniBand
//! (RFC 4391) included.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType};

use crate::model::Mac;

/// Who has this? Asked by nobody, so that no cache changes.
pub fn probe(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    packet(ArpOperation::REQUEST, mac, Ipv4Addr::UNSPECIFIED, Mac([0; 6]), ip)
}

/// A gratuitous ARP in request form.
pub fn announcement(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    packet(ArpOperation::REQUEST, mac, ip, Mac([0; 6]), ip)
}

/// A gratuitous ARP in reply form: some hosts and switches heed only this one.
pub fn reply(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    packet(ArpOperation::REPLY, mac, ip, mac, ip)
}

fn packet(
    operation: ArpOperation,
    sender_mac: Mac,
    sender: Ipv4Addr,
    target_mac: Mac,
    target: Ipv4Addr,
) -> Vec<u8> {
    ArpEthIpv4Packet {
        operation,
        sender_mac: sender_mac.0,
        sender_ipv4: sender.octets(),
        target_mac: target_mac.0,
        target_ipv4: target.octets(),
    }
    .to_bytes()
    .to_vec()
}

/// The address claimed, or only asked about, and by whom: (address, MAC, only asked).
/// An ordinary question is a claim of the address of the one who asks.
pub fn decode(bytes: &[u8]) -> Option<(IpAddr, Mac, bool)> {
    let packet = ArpPacketSlice::from_slice(bytes).ok()?;
    if packet.hw_addr_type() != ArpHardwareId::ETHERNET
        || packet.proto_addr_type() != EtherType::IPV4
    {
        return None;
    }
    let mac = Mac(packet.sender_hw_addr().try_into().ok()?);
    let sender: [u8; 4] = packet.sender_protocol_addr().try_into().ok()?;
    if sender != [0; 4] {
        return Some((IpAddr::from(sender), mac, false));
    }
    if packet.operation() != ArpOperation::REQUEST {
        return None;
    }
    let target: [u8; 4] = packet.target_protocol_addr().try_into().ok()?;
    Some((IpAddr::from(target), mac, true))
}
