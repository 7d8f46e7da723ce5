//! The few packets that the witnesses ask with and listen for, byte by byte: on purpose not
//! by the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a frame on the LAN says about an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said {
    /// Somebody answers a question.
    Answer {
        /// The address asked about.
        ip: IpAddr,
        /// Who has it.
        mac: [u8; 6],
        /// The last part of the address that asked.
        asker: u8,
    },
    /// Somebody announces unasked.
    Announcement {
        /// The address.
        ip: IpAddr,
        /// Who has it.
        mac: [u8; 6],
        /// In the form of a reply, where there are two forms.
        reply: bool,
    },
    /// Somebody asks whether the address is free.
    Probe {
        /// The address.
        ip: IpAddr,
        /// Who asks.
        mac: [u8; 6],
    },
}

/// A broadcast ARP request or a neighbour solicitation. Both addresses are of one family, and
/// `from` is made for it, so that no cache that matters changes.
pub fn question(mac: [u8; 6], ip: IpAddr, from: IpAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    match (ip, from) {
        (IpAddr::V4(ip), IpAddr::V4(from)) => {
            frame.extend([0xff; 6]);
            frame.extend(mac);
            frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(mac);
            frame.extend(from.octets());
            frame.extend([0; 6]);
            frame.extend(ip.octets());
        }
        (IpAddr::V6(ip), IpAddr::V6(from)) => {
            let last = &ip.octets()[13..];
            let mut to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
            to[13..].copy_from_slice(last);
            let mut solicitation = vec![135, 0, 0, 0, 0, 0, 0, 0];
            solicitation.extend(ip.octets());
            solicitation.extend([1, 1]);
            solicitation.extend(mac);
            let sum = checksum(&pseudo_header(from, to.into(), &solicitation));
            solicitation[2..4].copy_from_slice(&sum.to_be_bytes());
            frame.extend([0x33, 0x33, 0xff]);
            frame.extend(last);
            frame.extend(mac);
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, solicitation.len() as u8, 58, 255]);
            frame.extend(from.octets());
            frame.extend(to);
            frame.extend(solicitation);
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
    frame
}

/// A gratuitous ARP request, such as a stranger may send.
pub fn claim(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend([0xff; 6]);
    frame.extend(mac);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame
}

/// What an Ethernet frame says about an address, if anything.
pub fn listen(frame: &[u8]) -> Option<Said> {
    match frame.get(12..14)? {
        [0x08, 0x06] => listen_to_arp(frame.get(14..42)?.try_into().ok()?),
        [0x86, 0xdd] => listen_to_ipv6(frame),
        _ => None,
    }
}

fn listen_to_arp(arp: &[u8; 28]) -> Option<Said> {
    let mac = arp[8..14].try_into().ok()?;
    let from = Ipv4Addr::new(arp[14], arp[15], arp[16], arp[17]);
    let to = Ipv4Addr::new(arp[24], arp[25], arp[26], arp[27]);
    let reply = arp[7] == 2;
    match (from, to) {
        _ if from == to => Some(Said::Announcement { ip: from.into(), mac, reply }),
        _ if from.is_unspecified() => Some(Said::Probe { ip: to.into(), mac }),
        _ if reply => Some(Said::Answer { ip: from.into(), mac, asker: arp[27] }),
        _ => None,
    }
}

fn listen_to_ipv6(frame: &[u8]) -> Option<Said> {
    let mac = frame.get(6..12)?.try_into().ok()?;
    if frame.get(20) != Some(&58) {
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets))
    };
    let (from, to) = (address(22)?, address(38)?);
    let ip = IpAddr::V6(address(62)?);
    match frame.get(54)? {
        135 if from.is_unspecified() => Some(Said::Probe { ip, mac }),
        136 if to.is_multicast() => Some(Said::Announcement { ip, mac, reply: true }),
        136 => Some(Said::Answer { ip, mac, asker: to.octets()[15] }),
        _ => None,
    }
}

/// An echo request that carries its number.
pub fn echo_request(ip: IpAddr, number: u64) -> Vec<u8> {
    let mut packet = vec![if ip.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0xed, 0x9e];
    packet.extend((number as u16).to_be_bytes());
    packet.extend(number.to_be_bytes());
    if ip.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// The number in an answer to [`echo_request`], as a raw socket hands it over.
pub fn echo_number(ip: IpAddr, packet: &[u8]) -> Option<u64> {
    let (icmp, kind) = match ip {
        IpAddr::V4(_) => (packet.get(20..)?, 0),
        IpAddr::V6(_) => (packet, 129),
    };
    if icmp.first() != Some(&kind) || icmp.get(4..6) != Some(&[0xed, 0x9e]) {
        return None;
    }
    Some(u64::from_be_bytes(icmp.get(8..16)?.try_into().ok()?))
}

fn pseudo_header(from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    all.extend(from.octets());
    all.extend(to.octets());
    all.extend((payload.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, 58]);
    all.extend(payload);
    all
}

fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes
        .chunks(2)
        .map(|it| u32::from(it[0]) << 8 | it.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksummed_packet_sums_to_nought() {
        let echo = echo_request("10.0.0.1".parse().unwrap(), 0x0102_0304_0506_0708);
        assert_eq!(checksum(&echo), 0);
        let frame = question([2; 6], "fd77::50".parse().unwrap(), "fd77::82".parse().unwrap());
        let (from, to) = ("fd77::82".parse().unwrap(), "ff02::1:ff00:50".parse().unwrap());
        assert_eq!(checksum(&pseudo_header(from, to, &frame[54..])), 0);
    }

    #[test]
    fn questions_and_announcements_are_told_apart() {
        let ip = "10.77.0.50".parse().unwrap();
        let asked = question([2; 6], ip, "10.77.0.130".parse().unwrap());
        assert_eq!(listen(&asked), None);
        let mut answer = asked.clone();
        answer[21] = 2;
        answer[28..32].copy_from_slice(&[10, 77, 0, 50]);
        answer[38..42].copy_from_slice(&[10, 77, 0, 130]);
        assert_eq!(listen(&answer), Some(Said::Answer { ip, mac: [2; 6], asker: 130 }));
        answer[41] = 50;
        assert_eq!(listen(&answer), Some(Said::Announcement { ip, mac: [2; 6], reply: true }));
        answer[28..32].copy_from_slice(&[0; 4]);
        assert_eq!(listen(&answer), Some(Said::Probe { ip, mac: [2; 6] }));
        assert_eq!(listen(&answer[..30]), None);
    }
}
