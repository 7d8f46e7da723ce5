//! The NAT Port Mapping Protocol.
//!
//! Supported: RFC 6886, version 0: the address outside (§3.2), mapping a port and ending that
//! (§3.3, §3.4). Left out on purpose: what a gateway tells all of its own accord (§3.2.1).

use std::net::Ipv4Addr;

use super::{GarbledAnswer, part};
use crate::model::{Exposed, GatewayFault, GatewayNo, Protocol};

const VERSION: u8 = 0;
/// §3.5: the bit of an answer.
const ANSWER: u8 = 0x80;
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const MAP_TCP: u8 = 2;

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// §3.5: 0 is success.
    pub result: u16,
    /// §3.6: seconds since the gateway lost its mappings, if it ever did.
    pub epoch: u32,
    /// What it says; nothing if it is no success.
    pub said: Option<Said>,
}

/// What an answer says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// The address outside.
    Address(Ipv4Addr),
    /// A mapping.
    Mapped {
        /// Of UDP, rather than TCP.
        udp: bool,
        /// The port inside.
        internal: u16,
        /// The port outside.
        external: u16,
        /// Seconds that it holds.
        lifetime: u32,
    },
}

/// Asks for the address outside (§3.2).
pub fn address() -> Vec<u8> {
    vec![VERSION, ADDRESS]
}

/// Asks for a mapping of a port to the same port outside (§3.3); `lifetime` 0 ends one (§3.4).
/// `None`: there is no word for the protocol.
pub fn map(exposed: &Exposed, lifetime: u32) -> Option<Vec<u8>> {
    let opcode = match exposed.port.protocol {
        Protocol::Sctp => return None,
        Protocol::Tcp => MAP_TCP,
        Protocol::Udp => MAP_UDP,
    };
    let mut bytes = vec![VERSION, opcode, 0, 0];
    bytes.extend(exposed.port.port.to_be_bytes());
    let suggested = if lifetime == 0 { 0 } else { exposed.port.port };
    bytes.extend(suggested.to_be_bytes());
    bytes.extend(lifetime.to_be_bytes());
    Some(bytes)
}

/// Whether these are the bytes of an answer in this version.
pub fn is_answer(bytes: &[u8]) -> bool {
    bytes.first() == Some(&VERSION) && bytes.get(1).is_some_and(|it| it & ANSWER != 0)
}

/// Reads an answer. What follows it is left alone.
pub fn read(bytes: &[u8]) -> Result<Answer, GarbledAnswer> {
    let [version, opcode] = part(bytes, 0, "header")?;
    if version != VERSION {
        return Err(GarbledAnswer { field: "version", why: "not 0" });
    }
    if opcode & ANSWER == 0 {
        return Err(GarbledAnswer { field: "opcode", why: "not of an answer" });
    }
    let result = u16::from_be_bytes(part(bytes, 2, "result")?);
    // §3.5: an answer to what the gateway does not know may be as short as eight bytes.
    let epoch = u32::from_be_bytes(part(bytes, 4, "seconds since start")?);
    if result != 0 {
        return Ok(Answer { result, epoch, said: None });
    }
    let said = match opcode & !ANSWER {
        ADDRESS => {
            let address: [u8; 4] = part(bytes, 8, "external address")?;
            Said::Address(address.into())
        }
        kind @ (MAP_UDP | MAP_TCP) => Said::Mapped {
            udp: kind == MAP_UDP,
            internal: u16::from_be_bytes(part(bytes, 8, "internal port")?),
            external: u16::from_be_bytes(part(bytes, 10, "external port")?),
            lifetime: u32::from_be_bytes(part(bytes, 12, "lifetime")?),
        },
        _ => return Err(GarbledAnswer { field: "opcode", why: "none that was asked" }),
    };
    Ok(Answer { result, epoch, said: Some(said) })
}

/// What a result that is not success means (§3.5).
pub fn fault(result: u16) -> GatewayFault {
    let (no, words) = match result {
        1 => (GatewayNo::Unsupported, "unsupported version"),
        2 => (GatewayNo::NotAllowed, "not authorized"),
        3 => (GatewayNo::Other, "network failure"),
        4 => (GatewayNo::Other, "out of resources"),
        5 => (GatewayNo::Unsupported, "unsupported opcode"),
        _ => (GatewayNo::Other, "a result without a name"),
    };
    GatewayFault { no, code: result, words: words.to_owned() }
}
