//! DHCPv6 in Ethernet frames.
//!
//! Supported: of RFC 8415 what clients and servers say to each other about one IA_NA; the name
//! of RFC 4704. Left out on purpose: relays, temporary addresses, prefixes, options that
//! configure a host, authentication, Reconfigure, checksums of what comes in, which a server on
//! this machine leaves to hardware that there is not.

use std::net::Ipv6Addr;

use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, ORO, OptionCode, Status,
    StatusCode, UnknownOption,
};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use etherparse::{Ethernet2Slice, IpNumber, Ipv6Slice, PacketBuilder, UdpSlice};

use crate::model::{
    Dhcp6Address, Dhcp6Code, Dhcp6Ia, Dhcp6Kind, Dhcp6Message, Dhcp6Packet, Dhcp6Status,
};

/// The port of clients.
pub const CLIENT: u16 = 546;
/// The port of servers and relays.
pub const SERVER: u16 = 547;
/// RFC 8415 §7.1: all servers and relays of the link.
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// RFC 2464 §7: the same, as an address of Ethernet.
const ALL_SERVERS_MAC: [u8; 6] = [0x33, 0x33, 0, 1, 0, 2];
/// Nobody forwards what is said on the link.
const HOPS: u8 = 1;

const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const PREFERENCE: u16 = 7;
const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
const SOL_MAX_RT: u16 = 82;
/// §11.1: the longest DUID, with its type.
const LONGEST_DUID: usize = 130;
/// Of a server's words, so many are kept.
const LONGEST_WORDS: usize = 200;
/// RFC 4704 §4.1: the server is to see to the name's address.
const SERVER_UPDATES: u8 = 1;

/// The whole frame, to all servers and relays of the link.
pub fn encode(packet: &Dhcp6Packet) -> Vec<u8> {
    let payload = encode_message(&packet.message);
    let builder = PacketBuilder::ethernet2(packet.from_mac.0, ALL_SERVERS_MAC)
        .ipv6(packet.from.octets(), ALL_SERVERS.octets(), HOPS)
        .udp(CLIENT, SERVER);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // A vector takes all, and the message is shorter than a packet may be.
    let _ = builder.write(&mut frame, &payload);
    frame
}

fn encode_message(it: &Dhcp6Message) -> Vec<u8> {
    let [_, xid @ ..] = it.xid.to_be_bytes();
    let mut message = Message::new_with_id(message_type(it.kind), xid);
    let options = message.opts_mut();
    let mut put = |it: Option<DhcpOption>| {
        if let Some(it) = it {
            options.insert(it);
        }
    };
    let id = |it: &Vec<u8>| Some(it.clone()).filter(|it| !it.is_empty());
    put(id(&it.client).map(DhcpOption::ClientId));
    put(id(&it.server).map(DhcpOption::ServerId));
    put(it.ia.as_ref().map(ia_option));
    put(Some(it.preference).filter(|it| *it > 0).map(DhcpOption::Preference));
    put(it.elapsed.map(DhcpOption::ElapsedTime));
    put(it.status.as_ref().map(status_option));
    let unknown = |code, data| DhcpOption::Unknown(UnknownOption::new(code, data));
    put(it.patience.map(|it| unknown(OptionCode::SolMaxRt, it.to_be_bytes().to_vec())));
    if asks(it.kind) {
        let mut opts = vec![OptionCode::SolMaxRt];
        if let Some(name) = name(&it.host_name) {
            opts.insert(0, OptionCode::ClientFqdn);
            put(Some(unknown(OptionCode::ClientFqdn, name)));
        }
        // RFC 8415 §21.24: asked for wherever options are.
        put(Some(DhcpOption::ORO(ORO { opts })));
    }
    let mut bytes = Vec::new();
    // A vector takes all.
    let _ = message.encode(&mut Encoder::new(&mut bytes));
    bytes
}

fn asks(kind: Dhcp6Kind) -> bool {
    match kind {
        Dhcp6Kind::Rebind | Dhcp6Kind::Renew | Dhcp6Kind::Request | Dhcp6Kind::Solicit => true,
        Dhcp6Kind::Advertise | Dhcp6Kind::Decline | Dhcp6Kind::Release | Dhcp6Kind::Reply => false,
    }
}

/// RFC 4704 §4: a name of one label is not complete, and ends without the root.
fn name(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('.');
    let mut bytes = vec![SERVER_UPDATES];
    for label in text.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|it| (1..=63).contains(it))?;
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    if text.contains('.') {
        bytes.push(0);
    }
    Some(bytes)
}

fn ia_option(it: &Dhcp6Ia) -> DhcpOption {
    let mut opts = DhcpOptions::new();
    // Each is put before those of its kind.
    for it in it.addresses.iter().rev() {
        let none = DhcpOptions::new();
        let (preferred_life, valid_life) = (it.preferred, it.valid);
        let address = IAAddr { addr: it.ip, preferred_life, valid_life, opts: none };
        opts.insert(DhcpOption::IAAddr(address));
    }
    if let Some(it) = &it.status {
        opts.insert(status_option(it));
    }
    DhcpOption::IANA(IANA { id: it.id, t1: it.t1, t2: it.t2, opts })
}

fn status_option(it: &Dhcp6Status) -> DhcpOption {
    let status = match it.code {
        Dhcp6Code::Success => Status::Success,
        Dhcp6Code::NoAddrsAvail => Status::NoAddrsAvail,
        Dhcp6Code::NoBinding => Status::NoBinding,
        Dhcp6Code::NotOnLink => Status::NotOnLink,
        Dhcp6Code::Other(it) => it.into(),
    };
    DhcpOption::StatusCode(StatusCode { status, msg: it.words.clone() })
}

/// Who sent a frame to a client of DHCPv6, and what it says; `None`: it is none, or no good.
pub fn decode(frame: &[u8]) -> Option<(Ipv6Addr, Dhcp6Message)> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    let ip = Ipv6Slice::from_slice(ethernet.payload_slice()).ok()?;
    if ip.payload().ip_number != IpNumber::UDP || ip.is_payload_fragmented() {
        return None;
    }
    let udp = UdpSlice::from_slice(ip.payload().payload).ok()?;
    if (udp.source_port(), udp.destination_port()) != (SERVER, CLIENT) {
        return None;
    }
    let message = decode_message(udp.payload())?;
    matches!(message.kind, Dhcp6Kind::Advertise | Dhcp6Kind::Reply)
        .then(|| (ip.header().source_addr(), message))
}

/// A message, whoever sent it. What cannot be an option of its kind is none.
pub fn decode_message(bytes: &[u8]) -> Option<Dhcp6Message> {
    let mut plain = bytes.get(..4)?.to_vec();
    copy_options(bytes.get(4..)?, &mut plain, false);
    let it = Message::decode(&mut Decoder::new(&plain)).ok()?;
    let mut message = Dhcp6Message::new(kind(it.msg_type())?, it.xid_num(), Vec::new());
    for option in it.opts().iter() {
        match option {
            DhcpOption::ClientId(it) => message.client.clone_from(it),
            DhcpOption::ElapsedTime(it) => message.elapsed = Some(*it),
            DhcpOption::IANA(it) => message.ia = Some(ia(it)),
            DhcpOption::Preference(it) => message.preference = *it,
            DhcpOption::ServerId(it) => message.server.clone_from(it),
            DhcpOption::StatusCode(it) => message.status = Some(status(it)),
            DhcpOption::Unknown(it) if it.code() == OptionCode::SolMaxRt => {
                message.patience = it.data().try_into().ok().map(u32::from_be_bytes);
            }
            _ => {}
        }
    }
    Some(message)
}

/// Copies what is of interest and well-formed; a later option of the same kind does not count,
/// but for addresses. What is left is read by a decoder that stops, and says nothing, at the
/// first option that it does not like.
fn copy_options(mut from: &[u8], to: &mut Vec<u8>, inside: bool) {
    let mut seen = Vec::new();
    while let [a, b, c, d, ref rest @ ..] = *from {
        let (code, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let Some((value, rest)) = rest.split_at_checked(length.into()) else { return };
        from = rest;
        if seen.contains(&code) {
            continue;
        }
        let value = match (code, value) {
            (CLIENT_ID | SERVER_ID, value) if !inside => {
                Some(value.to_vec()).filter(|it| (3..=LONGEST_DUID).contains(&it.len()))
            }
            (IA_NA, value) if !inside => value.split_at_checked(12).map(|(head, options)| {
                let mut value = head.to_vec();
                copy_options(options, &mut value, true);
                value
            }),
            // What stands in an address is a status, which a lifetime of nought says as well.
            (IA_ADDRESS, value) if inside => value.get(..24).map(<[u8]>::to_vec),
            (PREFERENCE, [_]) | (ELAPSED, [_, _]) | (SOL_MAX_RT, [_, _, _, _]) if !inside => {
                Some(value.to_vec())
            }
            (STATUS, [a, b, words @ ..]) => {
                let fits = |it: &&u8| it.is_ascii_graphic() || **it == b' ';
                let words = words.iter().filter(fits).take(LONGEST_WORDS);
                Some([*a, *b].iter().chain(words).copied().collect())
            }
            _ => None,
        };
        let Some(value) = value else { continue };
        if code != IA_ADDRESS {
            seen.push(code);
        }
        // No longer than the option it is out of.
        let length = u16::try_from(value.len()).unwrap_or(0);
        to.extend(code.to_be_bytes());
        to.extend(length.to_be_bytes());
        to.extend(value);
    }
}

fn ia(it: &IANA) -> Dhcp6Ia {
    let mut found =
        Dhcp6Ia { id: it.id, t1: it.t1, t2: it.t2, addresses: Vec::new(), status: None };
    for option in it.opts.iter() {
        match option {
            DhcpOption::IAAddr(it) => found.addresses.push(Dhcp6Address {
                ip: it.addr,
                preferred: it.preferred_life,
                valid: it.valid_life,
            }),
            DhcpOption::StatusCode(it) => found.status = Some(status(it)),
            _ => {}
        }
    }
    found
}

fn status(it: &StatusCode) -> Dhcp6Status {
    let code = match it.status {
        Status::Success => Dhcp6Code::Success,
        Status::NoAddrsAvail => Dhcp6Code::NoAddrsAvail,
        Status::NoBinding => Dhcp6Code::NoBinding,
        Status::NotOnLink => Dhcp6Code::NotOnLink,
        other => Dhcp6Code::Other(other.into()),
    };
    Dhcp6Status { code, words: it.msg.clone() }
}

fn message_type(kind: Dhcp6Kind) -> MessageType {
    match kind {
        Dhcp6Kind::Advertise => MessageType::Advertise,
        Dhcp6Kind::Decline => MessageType::Decline,
        Dhcp6Kind::Rebind => MessageType::Rebind,
        Dhcp6Kind::Release => MessageType::Release,
        Dhcp6Kind::Renew => MessageType::Renew,
        Dhcp6Kind::Reply => MessageType::Reply,
        Dhcp6Kind::Request => MessageType::Request,
        Dhcp6Kind::Solicit => MessageType::Solicit,
    }
}

fn kind(it: MessageType) -> Option<Dhcp6Kind> {
    Some(match it {
        MessageType::Advertise => Dhcp6Kind::Advertise,
        MessageType::Decline => Dhcp6Kind::Decline,
        MessageType::Rebind => Dhcp6Kind::Rebind,
        MessageType::Release => Dhcp6Kind::Release,
        MessageType::Renew => Dhcp6Kind::Renew,
        MessageType::Reply => Dhcp6Kind::Reply,
        MessageType::Request => Dhcp6Kind::Request,
        MessageType::Solicit => Dhcp6Kind::Solicit,
        _ => return None,
    })
}
