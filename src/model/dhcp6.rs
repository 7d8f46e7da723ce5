//! DHCPv6: what is said, and what is leased.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::Mac;

/// What a message of DHCPv6 is (RFC 8415 §7.3).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Dhcp6Kind {
    /// A server would lease something.
    Advertise,
    /// The client has found the address in use.
    Decline,
    /// The client asks any server to go on with a lease.
    Rebind,
    /// The client gives the address back.
    Release,
    /// The client asks its server to go on with a lease.
    Renew,
    /// A server answers.
    Reply,
    /// The client asks for what was advertised.
    Request,
    /// Who leases addresses?
    Solicit,
}

/// What became of a message, or of a part of it (RFC 8415 §21.13).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Dhcp6Code {
    /// It was done.
    Success,
    /// The server has no addresses for this client.
    NoAddrsAvail,
    /// The server knows no such lease.
    NoBinding,
    /// The address is not one of this link.
    NotOnLink,
    /// Whatever else, by its number.
    Other(u16),
}

/// A status, with the server's words for it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp6Status {
    /// What became of it.
    pub code: Dhcp6Code,
    /// In the server's words.
    pub words: String,
}

/// An address of an [`Dhcp6Ia`] (RFC 8415 §21.6).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp6Address {
    /// It.
    pub ip: Ipv6Addr,
    /// For how many seconds it is preferred; `u32::MAX` for ever.
    pub preferred: u32,
    /// For how many seconds it may be used; `u32::MAX` for ever; 0: not any more.
    pub valid: u32,
}

/// An identity association for addresses that are not temporary (RFC 8415 §21.4).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp6Ia {
    /// What tells it from others of the same client.
    pub id: u32,
    /// Seconds until it is to be renewed; 0: as the client likes.
    pub t1: u32,
    /// Seconds until any server is to be asked; 0: as the client likes.
    pub t2: u32,
    /// Its addresses.
    pub addresses: Vec<Dhcp6Address>,
    /// What became of it, if that is said.
    pub status: Option<Dhcp6Status>,
}

/// A message of DHCPv6, as far as one address is concerned.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp6Message {
    /// What it is.
    pub kind: Dhcp6Kind,
    /// Ties an answer to its question; 24 bits.
    pub xid: u32,
    /// The DUID of the client.
    pub client: Vec<u8>,
    /// The DUID of the server; empty for any, or none.
    pub server: Vec<u8>,
    /// Hundredths of a second since the client began to ask.
    pub elapsed: Option<u16>,
    /// What is leased, would be, or is asked for.
    pub ia: Option<Dhcp6Ia>,
    /// How much the server wants to be chosen; 255: above all.
    pub preference: u8,
    /// What became of the message as a whole.
    pub status: Option<Dhcp6Status>,
    /// The longest wait between two solicitations, in seconds, if the server has a say.
    pub patience: Option<u32>,
    /// The name that the client would have; empty for none.
    pub host_name: String,
}

impl Dhcp6Message {
    /// A message that says nothing but what it is and who the client is.
    pub fn new(kind: Dhcp6Kind, xid: u32, client: Vec<u8>) -> Self {
        Self {
            kind,
            xid,
            client,
            server: Vec::new(),
            elapsed: None,
            ia: None,
            preference: 0,
            status: None,
            patience: None,
            host_name: String::new(),
        }
    }
}

/// A message of ours on its way to all servers and relays of a link.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp6Packet {
    /// The source of the frame.
    pub from_mac: Mac,
    /// The source of the packet, which is answered to.
    pub from: Ipv6Addr,
    /// What it says.
    pub message: Dhcp6Message,
}

/// A lease, as whoever carries its address next has to know it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp6Lease {
    /// What is leased.
    pub address: Ipv6Addr,
    /// The DUID of the server that leases it.
    pub server: Vec<u8>,
    /// For how many seconds each time; `u32::MAX` for ever.
    pub seconds: u32,
    /// The IAID it is leased by.
    pub iaid: u32,
    /// The DUID it is leased to.
    pub duid: Vec<u8>,
}

impl Dhcp6Lease {
    /// Seconds of a lease without an end.
    pub const FOR_EVER: u32 = u32::MAX;
}
