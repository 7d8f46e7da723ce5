//! DHCPv4 in Ethernet frames.
//!
//! Supported: RFC 2131 §2; of RFC 2132 the options that are about an address, overloaded ones
//! (option 52) included; the name of RFC 4702 in wire format. Left out on purpose: options that
//! configure a host, long ones in parts (RFC 3396), checksums of what comes in, which a server
//! on this machine leaves to hardware that there is not.

use std::net::Ipv4Addr;

use dhcproto::v4::fqdn::{ClientFQDN, FqdnFlags};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use etherparse::{Ethernet2Slice, IpNumber, Ipv4Slice, PacketBuilder, UdpSlice};

use crate::model::{Dhcp4Kind, Dhcp4Message, Dhcp4Packet, Mac};

/// The port of clients.
pub const CLIENT: u16 = 68;
/// The port of servers and relays.
pub const SERVER: u16 = 67;
/// Option 60: what kind of client this is.
const VENDOR: &[u8] = b"edgevip";
/// Option 57: the longest message that is taken.
const LONGEST: u16 = 1_472;
/// RFC 1542 §2.1: what is shorter may be dropped.
const SHORTEST: usize = 300;
const HOPS: u8 = 64;

/// Where the fields of RFC 2131 §2 are.
const NAME: usize = 44;
const FILE: usize = 108;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;
/// `htype` and `hlen`.
const ETHERNET: [u8; 2] = [1, 6];
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// The options that are of interest; no others are decoded at all.
const WANTED: [u8; 9] = [12, 50, 51, 53, 54, 56, 58, 59, 61];
const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const END: u8 = 255;

/// The whole frame.
pub fn encode(packet: &Dhcp4Packet) -> Vec<u8> {
    let payload = encode_message(&packet.message);
    let builder = PacketBuilder::ethernet2(packet.from_mac.0, packet.to_mac.0)
        .ipv4(packet.from.octets(), packet.to.octets(), HOPS)
        .udp(CLIENT, SERVER);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // A vector takes all, and the message is shorter than a packet may be.
    let _ = builder.write(&mut frame, &payload);
    frame
}

fn encode_message(it: &Dhcp4Message) -> Vec<u8> {
    let ip = |it: Option<Ipv4Addr>| it.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message =
        Message::new_with_id(it.xid, ip(it.client), ip(it.yours), none, none, &it.mac.0);
    let of_server = matches!(it.kind, Dhcp4Kind::Ack | Dhcp4Kind::Nak | Dhcp4Kind::Offer);
    message.set_opcode(if of_server { Opcode::BootReply } else { Opcode::BootRequest });
    message.set_secs(it.seconds);
    if it.broadcast {
        message.set_flags(Flags::default().set_broadcast());
    }
    let options = message.opts_mut();
    let mut put = |it: Option<DhcpOption>| {
        if let Some(it) = it {
            options.insert(it);
        }
    };
    put(Some(DhcpOption::MessageType(message_type(it.kind))));
    let id = Some(&it.client_id).filter(|it| !it.is_empty());
    put(id.map(|it| DhcpOption::ClientIdentifier(it.clone())));
    put(it.requested.map(DhcpOption::RequestedIpAddress));
    put(it.server.map(DhcpOption::ServerIdentifier));
    put(it.lease.map(DhcpOption::AddressLeaseTime));
    put(it.renew_after.map(DhcpOption::Renewal));
    put(it.rebind_after.map(DhcpOption::Rebinding));
    put(it.words.clone().map(DhcpOption::Message));
    if matches!(it.kind, Dhcp4Kind::Discover | Dhcp4Kind::Request) {
        put(Some(DhcpOption::ClassIdentifier(VENDOR.to_vec())));
        put(Some(DhcpOption::MaxMessageSize(LONGEST)));
        put(Some(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
            OptionCode::AddressLeaseTime,
            OptionCode::ServerIdentifier,
            OptionCode::Renewal,
            OptionCode::Rebinding,
        ])));
        let name = Some(&it.host_name).filter(|it| !it.is_empty());
        put(name.map(|it| DhcpOption::Hostname(it.clone())));
        put(name.filter(|it| it.contains('.')).and_then(|it| fqdn(it)));
    }
    let mut bytes = Vec::with_capacity(SHORTEST);
    // A vector takes all.
    let _ = message.encode(&mut Encoder::new(&mut bytes));
    bytes.resize(bytes.len().max(SHORTEST), PAD);
    bytes
}

/// RFC 4702 §2.1: the server is to see to both names, which come in wire format.
fn fqdn(name: &str) -> Option<DhcpOption> {
    let flags = FqdnFlags::default().set_e(true).set_s(true);
    let mut option =
        ClientFQDN::new(flags, format!("{}.", name.trim_end_matches('.')).parse().ok()?);
    // §2.2: what a client sends there is nought.
    option.set_r1(0).set_r2(0);
    Some(DhcpOption::ClientFQDN(option))
}

/// Who sent a frame to a client of DHCP, and what it says; `None`: it is none, or no good.
pub fn decode(frame: &[u8]) -> Option<(Mac, Dhcp4Message)> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    let ip = Ipv4Slice::from_slice(ethernet.payload_slice()).ok()?;
    if ip.payload_ip_number() != IpNumber::UDP || ip.is_payload_fragmented() {
        return None;
    }
    let udp = UdpSlice::from_slice(ip.payload().payload).ok()?;
    if (udp.source_port(), udp.destination_port()) != (SERVER, CLIENT) {
        return None;
    }
    let message = decode_message(udp.payload())?;
    matches!(message.kind, Dhcp4Kind::Ack | Dhcp4Kind::Nak | Dhcp4Kind::Offer)
        .then_some((Mac(ethernet.source()), message))
}

/// A message, whoever sent it.
pub fn decode_message(bytes: &[u8]) -> Option<Dhcp4Message> {
    // Of another length of hardware addresses than Ethernet's, nothing else may be read.
    if bytes.get(COOKIE..OPTIONS)? != MAGIC || bytes.get(1..3)? != ETHERNET {
        return None;
    }
    let mut plain = bytes.get(..NAME)?.to_vec();
    plain.resize(COOKIE, 0);
    plain.extend(MAGIC);
    let mut overload = 0;
    copy_options(bytes.get(OPTIONS..)?, &mut plain, &mut overload);
    // RFC 2131 §4.1: the file before the name.
    for (flag, field) in [(1, FILE..COOKIE), (2, NAME..FILE)] {
        if overload & flag != 0 {
            copy_options(bytes.get(field)?, &mut plain, &mut 0);
        }
    }
    plain.push(END);
    let it = Message::decode(&mut Decoder::new(&plain)).ok()?;
    let kind = kind(it.opts().msg_type()?)?;
    let ip = |it: Ipv4Addr| Some(it).filter(|it| !it.is_unspecified());
    let mut message = Dhcp4Message::new(kind, it.xid(), Mac(it.chaddr().try_into().ok()?));
    message.seconds = it.secs();
    message.broadcast = it.flags().broadcast();
    (message.client, message.yours) = (ip(it.ciaddr()), ip(it.yiaddr()));
    for (_, option) in it.opts().iter() {
        match option {
            DhcpOption::AddressLeaseTime(it) => message.lease = Some(*it),
            DhcpOption::ClientIdentifier(it) => message.client_id.clone_from(it),
            DhcpOption::Hostname(it) => message.host_name.clone_from(it),
            DhcpOption::Message(it) => message.words = Some(it.clone()),
            DhcpOption::Rebinding(it) => message.rebind_after = Some(*it),
            DhcpOption::Renewal(it) => message.renew_after = Some(*it),
            DhcpOption::RequestedIpAddress(it) => message.requested = ip(*it),
            DhcpOption::ServerIdentifier(it) => message.server = ip(*it),
            _ => {}
        }
    }
    Some(message)
}

/// Copies what is of interest; a later option of the same kind does not count.
fn copy_options(mut from: &[u8], to: &mut Vec<u8>, overload: &mut u8) {
    loop {
        from = match *from {
            [PAD, ref rest @ ..] => rest,
            [] | [END, ..] | [_] => return,
            [code, length, ref rest @ ..] => {
                let Some((value, rest)) = rest.split_at_checked(length.into()) else { return };
                match value {
                    [it] if code == OVERLOAD => *overload = *it,
                    _ if WANTED.contains(&code) => {
                        to.extend([code, length]);
                        to.extend(value);
                    }
                    _ => {}
                }
                rest
            }
        };
    }
}

fn message_type(kind: Dhcp4Kind) -> MessageType {
    match kind {
        Dhcp4Kind::Ack => MessageType::Ack,
        Dhcp4Kind::Decline => MessageType::Decline,
        Dhcp4Kind::Discover => MessageType::Discover,
        Dhcp4Kind::Nak => MessageType::Nak,
        Dhcp4Kind::Offer => MessageType::Offer,
        Dhcp4Kind::Release => MessageType::Release,
        Dhcp4Kind::Request => MessageType::Request,
    }
}

fn kind(it: MessageType) -> Option<Dhcp4Kind> {
    Some(match it {
        MessageType::Ack => Dhcp4Kind::Ack,
        MessageType::Decline => Dhcp4Kind::Decline,
        MessageType::Discover => Dhcp4Kind::Discover,
        MessageType::Nak => Dhcp4Kind::Nak,
        MessageType::Offer => Dhcp4Kind::Offer,
        MessageType::Release => Dhcp4Kind::Release,
        MessageType::Request => Dhcp4Kind::Request,
        _ => return None,
    })
}
