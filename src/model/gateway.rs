//! What is asked of the gateway of a site, and what is known of it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{LinkName, ServicePort, Vip};

/// A port of a VIP that is to be reached through the gateway, under the same number.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Exposed {
    /// Whose.
    pub vip: Vip,
    /// Which.
    pub port: ServicePort,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} of {}", self.port.port, self.port.protocol.name(), self.vip)
    }
}

/// How one speaks with a gateway.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum WayKind {
    /// UPnP, WANIPConnection or WANPPPConnection.
    Igd,
    /// RFC 6886.
    NatPmp,
    /// RFC 6887.
    Pcp,
    /// UPnP, WANIPv6FirewallControl.
    Pinholes,
}

impl WayKind {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Igd => "UPnP",
            Self::NatPmp => "NAT-PMP",
            Self::Pcp => "PCP",
            Self::Pinholes => "UPnP pinholes",
        }
    }
}

/// How to speak with one gateway.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Way {
    /// UPnP, port mappings of IPv4.
    Igd(UpnpControl),
    /// NAT-PMP, with this server.
    NatPmp(SocketAddr),
    /// PCP, with this server.
    Pcp(SocketAddr),
    /// UPnP, pinholes of IPv6.
    Pinholes(UpnpControl),
}

impl Way {
    /// Which kind it is.
    pub fn kind(&self) -> WayKind {
        match self {
            Self::Igd(_) => WayKind::Igd,
            Self::NatPmp(_) => WayKind::NatPmp,
            Self::Pcp(_) => WayKind::Pcp,
            Self::Pinholes(_) => WayKind::Pinholes,
        }
    }

    /// Where the gateway is.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Igd(it) | Self::Pinholes(it) => it.address.ip(),
            Self::NatPmp(it) | Self::Pcp(it) => it.ip(),
        }
    }
}

/// A service of a UPnP device.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct UpnpControl {
    /// Where its HTTP server listens.
    pub address: SocketAddr,
    /// The path of its control URL.
    pub path: String,
    /// Its type, with the version.
    pub service: String,
}

/// By this a PCP server knows whose mapping is renewed (RFC 6887 §11.1).
pub type Nonce = [u8; 12];

/// A request to the gateway. Each has exactly one answer; nothing waits for it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum GatewayCall {
    /// Find the gateway, and the best way to speak with it.
    Find {
        /// Speaking from this address.
        from: Vip,
        /// The link that it is on.
        link: Option<LinkName>,
        /// Ways that did not help.
        without: BTreeSet<WayKind>,
    },
    /// Ask how it is.
    Look {
        /// How.
        way: Way,
        /// Speaking from this address.
        from: Vip,
    },
    /// Open a port, or keep it open.
    Map {
        /// How.
        way: Way,
        /// Which.
        exposed: Exposed,
        /// For so many seconds; 0: for good.
        lease: u32,
        /// The same for as long as the Service is.
        nonce: Nonce,
        /// What people read on the gateway.
        name: String,
    },
    /// Ask what the gateway has written down.
    Read {
        /// How.
        way: Way,
        /// Of which port.
        exposed: Exposed,
    },
    /// Close a port.
    Unmap {
        /// How.
        way: Way,
        /// Which.
        exposed: Exposed,
        /// As it was opened with.
        nonce: Nonce,
        /// The gateway's number for it.
        pinhole: Option<u16>,
    },
}

/// What became of a [`GatewayCall`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum GatewayReply {
    /// No usable answer. It may have happened all the same.
    Failed(String),
    /// There is one.
    Found(Way),
    /// It is there.
    Looked {
        /// Its address outside, if it said.
        external: Option<IpAddr>,
        /// Its clock, which begins anew when it forgets.
        epoch: Option<u32>,
    },
    /// The port is open, says the gateway.
    Mapped(Granted),
    /// What it has written down; `None`: nothing.
    Read(Option<MappingEntry>),
    /// It answered, and does not.
    Refused(GatewayFault),
    /// The port is not open, or no longer.
    Unmapped,
}

/// What a gateway grants.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Granted {
    /// The port outside.
    pub port: u16,
    /// For so many seconds; 0: for good.
    pub lease: u32,
    /// The address outside, if it said.
    pub external: Option<IpAddr>,
    /// Its clock, which begins anew when it forgets.
    pub epoch: Option<u32>,
    /// Its number for a pinhole.
    pub pinhole: Option<u16>,
}

/// What a gateway has written down of a port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MappingEntry {
    /// To whom it leads: an address, or what stands there.
    pub client: String,
    /// To which port of that.
    pub port: u16,
    /// It is in force.
    pub enabled: bool,
    /// Seconds that are left; 0: for good.
    pub left: u32,
}

/// A gateway's no.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GatewayFault {
    /// What it means.
    pub no: GatewayNo,
    /// Its number in the protocol that was spoken.
    pub code: u16,
    /// In words.
    pub words: String,
}

/// What a gateway's no means.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum GatewayNo {
    /// This client may not, or not this way.
    NotAllowed,
    /// There is no such entry.
    NotThere,
    /// Mappings are for good, or not at all.
    OnlyPermanent,
    /// Anything else: perhaps later.
    Other,
    /// Somebody else has the port.
    Taken,
    /// It does not speak this, or not of this.
    Unsupported,
}

/// Why a port that is to be reached through the gateway is not.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum GatewayRefusal {
    /// There is no gateway that could be asked.
    NoGateway {
        /// In words.
        why: String,
    },
    /// Gateways have no word for this protocol.
    NotMappable {
        /// Its name.
        protocol: String,
    },
    /// The gateway says yes, and does not.
    NotKept,
    /// The Service asks for it, and the setting is off.
    Off,
    /// Somebody else has the port on the gateway.
    Taken {
        /// Who, where the gateway tells.
        by: Option<String>,
        /// The gateway would give this one.
        offered: Option<u16>,
    },
    /// The gateway refuses.
    Unwilling {
        /// How it was asked.
        way: WayKind,
        /// Its number.
        code: u16,
        /// In its words.
        words: String,
    },
}

impl GatewayRefusal {
    /// The code that log, Event, metric and status share.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoGateway { .. } => "no-gateway",
            Self::NotKept => "mapping-not-kept",
            Self::NotMappable { .. } => "not-mappable",
            Self::Off => "gateway-off",
            Self::Taken { .. } => "port-taken",
            Self::Unwilling { .. } => "gateway-refuses",
        }
    }

    /// The same, as Kubernetes spells the reason of an Event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoGateway { .. } => "NoGateway",
            Self::NotKept => "MappingNotKept",
            Self::NotMappable { .. } => "NotMappable",
            Self::Off => "GatewayOff",
            Self::Taken { .. } => "PortTaken",
            Self::Unwilling { .. } => "GatewayRefuses",
        }
    }
}

impl fmt::Display for GatewayRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGateway { why } => write!(f, "no gateway to ask: {why}"),
            Self::NotKept => write!(f, "the gateway says that the port is open, and has it not"),
            Self::NotMappable { protocol } => {
                write!(f, "gateways map TCP and UDP, and not {protocol}")
            }
            Self::Off => write!(f, "forwardUPNP=true: enable_upnp is off"),
            Self::Taken { by: Some(by), .. } => {
                write!(f, "on the gateway the port leads to {by} already")
            }
            Self::Taken { offered: Some(port), .. } => {
                write!(f, "somebody else has the port on the gateway, which would give {port}")
            }
            Self::Taken { .. } => write!(f, "somebody else has the port on the gateway"),
            Self::Unwilling { way, code, words } => {
                write!(f, "the gateway refuses by {}: {code} {words}", way.name())
            }
        }
    }
}

/// A port of a VIP on the gateway, for operators.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MappingStatus {
    /// Whose.
    pub vip: Vip,
    /// Which.
    pub port: u16,
    /// Of which protocol.
    pub protocol: String,
    /// The gateway has it.
    pub mapped: bool,
    /// How the gateway is spoken with.
    pub way: Option<String>,
    /// Where it is reached from outside.
    pub external: Option<IpAddr>,
    /// Milliseconds for which the gateway keeps it; `None`: for good, or it has it not.
    pub left_ms: Option<u64>,
    /// The code of why it is not mapped, or not to be reached all the same.
    pub code: Option<String>,
    /// The same in words.
    pub why: Option<String>,
}
