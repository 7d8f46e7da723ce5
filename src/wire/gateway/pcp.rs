//! The Port Control Protocol.
//!
//! Supported: RFC 6887, version 2: ANNOUNCE (§14.1) and MAP (§11) of the client, with the option
//! PREFER_FAILURE (§13.2). Left out on purpose: PEER, the options THIRD_PARTY and FILTER.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{GarbledAnswer, part};
use crate::model::{Exposed, GatewayFault, GatewayNo, Nonce, Protocol};

/// RFC 6887 §19: where servers listen.
pub const PORT: u16 = 5351;

/// Where a mapping is wanted for good, it is asked for so many seconds: it can be renewed only.
pub const FOR_GOOD: u32 = 7 * 24 * 3_600;

const VERSION: u8 = 2;
/// §7: the R bit of an answer.
const ANSWER: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
/// §13.2.
const PREFER_FAILURE: u8 = 2;
const HEADER: usize = 24;
/// §7: no message is longer.
const LONGEST: usize = 1100;

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// §7.4: 0 is success.
    pub result: u8,
    /// Seconds that a mapping, or the error, holds.
    pub lifetime: u32,
    /// §8.5: seconds since the server lost its mappings, if it ever did.
    pub epoch: u32,
    /// What a MAP says.
    pub map: Option<Mapped>,
}

/// What the answer to MAP says of a mapping.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mapped {
    /// The request's own.
    pub nonce: Nonce,
    /// IANA's number.
    pub protocol: u8,
    /// The port inside.
    pub internal: u16,
    /// The port outside.
    pub external: u16,
    /// The address outside.
    pub address: IpAddr,
}

/// Asks how the server is, from this address (§14.1).
pub fn announce(from: IpAddr) -> Vec<u8> {
    header(ANNOUNCE, 0, from)
}

/// Asks for a mapping of a port to the same port outside, or to none (§11.1); `lifetime` 0 ends
/// one. `None`: there is no word for the protocol.
pub fn map(exposed: &Exposed, nonce: &Nonce, lifetime: u32) -> Option<Vec<u8>> {
    let protocol = number(exposed.port.protocol)?;
    let mut bytes = header(MAP, lifetime, exposed.vip.0);
    bytes.extend(nonce);
    bytes.extend([protocol, 0, 0, 0]);
    bytes.extend(exposed.port.port.to_be_bytes());
    // §15: what is ended has neither port nor address to suggest.
    let suggested = if lifetime == 0 { 0 } else { exposed.port.port };
    bytes.extend(suggested.to_be_bytes());
    let any: IpAddr = match exposed.vip.0 {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    bytes.extend(sixteen(any));
    if lifetime > 0 {
        bytes.extend([PREFER_FAILURE, 0, 0, 0]);
    }
    Some(bytes)
}

/// Whether these are the bytes of an answer in this version: others are for others to read.
pub fn is_answer(bytes: &[u8]) -> bool {
    bytes.first() == Some(&VERSION) && bytes.get(1).is_some_and(|it| it & ANSWER != 0)
}

/// Reads an answer (§8.3).
pub fn read(bytes: &[u8]) -> Result<Answer, GarbledAnswer> {
    let garbled = |field, why| Err(GarbledAnswer { field, why });
    let [version, opcode, _, result] = part(bytes, 0, "header")?;
    if version != VERSION {
        return garbled("version", "not 2");
    }
    if opcode & ANSWER == 0 {
        return garbled("opcode", "not of an answer");
    }
    if bytes.len() > LONGEST || !bytes.len().is_multiple_of(4) {
        return garbled("length", "not one that there is");
    }
    let lifetime = u32::from_be_bytes(part(bytes, 4, "lifetime")?);
    let epoch = u32::from_be_bytes(part(bytes, 8, "epoch time")?);
    let _: [u8; 12] = part(bytes, 12, "reserved")?;
    let map = match opcode & !ANSWER {
        MAP => Some(mapped(bytes)?),
        ANNOUNCE => None,
        _ => return garbled("opcode", "neither ANNOUNCE nor MAP"),
    };
    Ok(Answer { result, lifetime, epoch, map })
}

fn mapped(bytes: &[u8]) -> Result<Mapped, GarbledAnswer> {
    let nonce = part(bytes, HEADER, "nonce")?;
    let [protocol] = part(bytes, HEADER + 12, "protocol")?;
    let internal = u16::from_be_bytes(part(bytes, HEADER + 16, "internal port")?);
    let external = u16::from_be_bytes(part(bytes, HEADER + 18, "external port")?);
    let address: [u8; 16] = part(bytes, HEADER + 20, "external address")?;
    let address = IpAddr::V6(address.into()).to_canonical();
    Ok(Mapped { nonce, protocol, internal, external, address })
}

impl Mapped {
    /// Whether it is about this port.
    pub fn is_of(&self, exposed: &Exposed, nonce: &Nonce) -> bool {
        self.nonce == *nonce
            && self.internal == exposed.port.port
            && number(exposed.port.protocol) == Some(self.protocol)
    }
}

/// What a result that is not success means (§7.4).
pub fn fault(result: u8) -> GatewayFault {
    let (no, words) = match result {
        1 => (GatewayNo::Unsupported, "UNSUPP_VERSION"),
        2 => (GatewayNo::NotAllowed, "NOT_AUTHORIZED"),
        3 => (GatewayNo::Unsupported, "MALFORMED_REQUEST"),
        4 => (GatewayNo::Unsupported, "UNSUPP_OPCODE"),
        5 => (GatewayNo::Unsupported, "UNSUPP_OPTION"),
        6 => (GatewayNo::Unsupported, "MALFORMED_OPTION"),
        7 => (GatewayNo::Other, "NETWORK_FAILURE"),
        8 => (GatewayNo::Other, "NO_RESOURCES"),
        9 => (GatewayNo::Unsupported, "UNSUPP_PROTOCOL"),
        10 => (GatewayNo::Other, "USER_EX_QUOTA"),
        11 => (GatewayNo::Taken, "CANNOT_PROVIDE_EXTERNAL"),
        12 => (GatewayNo::NotAllowed, "ADDRESS_MISMATCH"),
        13 => (GatewayNo::Other, "EXCESSIVE_REMOTE_PEERS"),
        _ => (GatewayNo::Other, "a result without a name"),
    };
    GatewayFault { no, code: result.into(), words: words.to_owned() }
}

fn header(opcode: u8, lifetime: u32, from: IpAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend([VERSION, opcode, 0, 0]);
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend(sixteen(from));
    bytes
}

/// §5: IPv4 as IPv4-mapped IPv6.
fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn number(protocol: Protocol) -> Option<u8> {
    match protocol {
        Protocol::Sctp => None,
        Protocol::Tcp => Some(6),
        Protocol::Udp => Some(17),
    }
}
