//! DHCP: what is said, what is leased, and why nothing is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Dhcp6Lease, Dhcp6Message, Dhcp6Packet, IpFamily, LinkIndex, Mac};

/// What a message of DHCPv4 is (RFC 2131 §3, option 53).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Dhcp4Kind {
    /// A server agrees.
    Ack,
    /// The client has found the address in use.
    Decline,
    /// Who leases addresses?
    Discover,
    /// A server refuses.
    Nak,
    /// A server would lease this one.
    Offer,
    /// The client gives the address back.
    Release,
    /// The client asks for this one.
    Request,
}

/// A message of DHCPv4, as far as an address is concerned.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp4Message {
    /// What it is.
    pub kind: Dhcp4Kind,
    /// Ties an answer to its question.
    pub xid: u32,
    /// Seconds since the client began to ask.
    pub seconds: u16,
    /// Answers are to be broadcast.
    pub broadcast: bool,
    /// `ciaddr`: the client's address, where it can be reached by it.
    pub client: Option<Ipv4Addr>,
    /// `yiaddr`: the address that is leased, or would be.
    pub yours: Option<Ipv4Addr>,
    /// `chaddr`: the hardware address that the lease is for.
    pub mac: Mac,
    /// Option 61: who the client is, whatever its hardware address.
    pub client_id: Vec<u8>,
    /// Options 12 and 81: the name that the client would have; empty for none.
    pub host_name: String,
    /// Option 50: the address that the client asks for.
    pub requested: Option<Ipv4Addr>,
    /// Option 54: which server.
    pub server: Option<Ipv4Addr>,
    /// Option 51: for how many seconds; `u32::MAX` for ever.
    pub lease: Option<u32>,
    /// Option 58: when to renew it.
    pub renew_after: Option<u32>,
    /// Option 59: when to ask any server.
    pub rebind_after: Option<u32>,
    /// Option 56: why not, in the server's words.
    pub words: Option<String>,
}

impl Dhcp4Message {
    /// A message that says nothing but what it is and who the client is.
    pub fn new(kind: Dhcp4Kind, xid: u32, mac: Mac) -> Self {
        Self {
            kind,
            xid,
            seconds: 0,
            broadcast: false,
            client: None,
            yours: None,
            mac,
            client_id: Vec::new(),
            host_name: String::new(),
            requested: None,
            server: None,
            lease: None,
            renew_after: None,
            rebind_after: None,
            words: None,
        }
    }
}

/// A message of ours on its way to a server, or to all.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp4Packet {
    /// The source of the frame.
    pub from_mac: Mac,
    /// Its destination.
    pub to_mac: Mac,
    /// The source of the packet.
    pub from: Ipv4Addr,
    /// Its destination.
    pub to: Ipv4Addr,
    /// What it says.
    pub message: Dhcp4Message,
}

/// A message of a server, and who sent it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DhcpHeard {
    /// Of DHCPv4, from this hardware address.
    V4(Mac, Dhcp4Message),
    /// Of DHCPv6, from this address of the link.
    V6(Ipv6Addr, Dhcp6Message),
}

/// A message of ours on its way.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DhcpPacket {
    /// Of DHCPv4.
    V4(Dhcp4Packet),
    /// Of DHCPv6.
    V6(Dhcp6Packet),
}

/// What is asked of the edge.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DhcpJob {
    /// Hear servers of this family on these links, and on no others.
    Listen(IpFamily, Vec<LinkIndex>),
    /// Send this on a link. Nobody is told whether it arrived.
    Send {
        /// Where.
        link: LinkIndex,
        /// What.
        packet: Box<DhcpPacket>,
    },
}

/// What is leased for a Service, of either family.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Leases {
    /// By DHCPv4.
    pub v4: Option<Dhcp4Lease>,
    /// By DHCPv6.
    pub v6: Option<Dhcp6Lease>,
}

impl Leases {
    /// Such a part of a lease is carried although nobody has confirmed it to who does.
    pub const KEPT: u32 = 8;

    /// For so long whoever knows no more than this may use the address; `None`: for ever, or there
    /// is none.
    pub fn kept(&self, family: IpFamily) -> Option<Duration> {
        let seconds = match family {
            IpFamily::V4 => self.v4.as_ref().map(|it| it.seconds),
            IpFamily::V6 => self.v6.as_ref().map(|it| it.seconds),
        };
        let ends = seconds.filter(|it| *it != Dhcp4Lease::FOR_EVER);
        ends.map(|it| Duration::from_secs(it.into()) / Self::KEPT)
    }

    /// The address of a family.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        match family {
            IpFamily::V4 => self.v4.as_ref().map(|it| it.address.into()),
            IpFamily::V6 => self.v6.as_ref().map(|it| it.address.into()),
        }
    }
}

/// A lease, as whoever carries its address next has to know it. There is no shared clock,
/// so it does not say when it ends.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dhcp4Lease {
    /// What is leased.
    pub address: Ipv4Addr,
    /// Which server leases it.
    pub server: Ipv4Addr,
    /// For how many seconds each time; `u32::MAX` for ever.
    pub seconds: u32,
    /// The hardware address it is leased to.
    pub mac: Mac,
    /// The client identifier it is leased to.
    pub client_id: Vec<u8>,
}

impl Dhcp4Lease {
    /// Seconds of a lease without an end.
    pub const FOR_EVER: u32 = u32::MAX;
}

/// Why an address is not leased.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DhcpRefusal {
    /// A server leases an address that a node has: by DHCPv4, it goes by hardware addresses.
    AddressOfNode {
        /// The address.
        ip: IpAddr,
        /// Who has it.
        by: String,
        /// Which server.
        server: IpAddr,
    },
    /// Somebody uses the leased address.
    Conflict {
        /// The address.
        ip: IpAddr,
        /// Who does.
        mac: Mac,
    },
    /// No server renewed the lease to its end.
    Expired {
        /// The address that was leased.
        ip: IpAddr,
    },
    /// There is no link to ask on.
    NoLink {
        /// In words.
        why: String,
    },
    /// A server refuses what was asked for.
    Refused {
        /// Which.
        server: Option<IpAddr>,
        /// In its words.
        words: String,
    },
    /// No server answers.
    Unanswered,
}

impl DhcpRefusal {
    /// The code that log, metric and status share.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AddressOfNode { .. } => "dhcp-address-of-node",
            Self::Conflict { .. } => "dhcp-conflict",
            Self::Expired { .. } => "dhcp-expired",
            Self::NoLink { .. } => "dhcp-no-link",
            Self::Refused { .. } => "dhcp-refused",
            Self::Unanswered => "dhcp-unanswered",
        }
    }
}

impl fmt::Display for DhcpRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressOfNode { ip, by, server } => write!(
                f,
                "the DHCP server {server} leases {ip}, which is an address of {by}{}",
                match ip {
                    IpAddr::V4(_) =>
                        ": it goes by hardware addresses; have it go by client identifiers, or \
                         give an address",
                    IpAddr::V6(_) => "; have it lease others, or give an address",
                }
            ),
            Self::Conflict { ip, mac } => {
                write!(f, "the host with MAC {mac} uses {ip}, which was leased; it is declined")
            }
            Self::Expired { ip } => {
                write!(f, "no DHCP server renewed the lease of {ip}, and it has ended")
            }
            Self::NoLink { why } => write!(f, "no DHCP server can be asked: {why}"),
            Self::Refused { server, words } => {
                write!(f, "the DHCP server")?;
                if let Some(server) = server {
                    write!(f, " {server}")?;
                }
                write!(f, " refuses: {}", if words.is_empty() { "no reason given" } else { words })
            }
            Self::Unanswered => write!(f, "no DHCP server answers"),
        }
    }
}

/// A lease as an operator wants to see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeaseStatus {
    /// What is being done about it, in the words of the RFC.
    pub phase: String,
    /// What is leased.
    pub address: Option<IpAddr>,
    /// Which server leases it, if it has been heard.
    pub server: Option<IpAddr>,
    /// Milliseconds until more is asked of a server.
    pub next_ms: Option<u64>,
    /// Milliseconds until it ends, if it does.
    pub ends_ms: Option<u64>,
}
