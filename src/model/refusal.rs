use std::fmt;

use serde::{Deserialize, Serialize};

use super::{DhcpRefusal, Hardware, LinkName, Mac, NodeName, ObjectName, PoolRefusal};

/// Why a VIP may not be answered for here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Refusal {
    /// Another process of this host campaigns for the same Lease.
    AnotherProcess,
    /// Leftovers of an earlier process are being removed.
    Cleaning,
    /// Another host uses the address.
    Conflict {
        /// Its hardware address.
        mac: Mac,
    },
    /// The link that the Service asks for is being made.
    LinkAwaited {
        /// Which link.
        link: LinkName,
    },
    /// There is a link of that name, and it is another than the Service asks for.
    LinkDiffers {
        /// Which link.
        link: LinkName,
        /// What it would have to be.
        right: String,
    },
    /// The kernel would not make the link that the Service asks for.
    LinkNotMade {
        /// Which link.
        link: LinkName,
        /// In its words.
        why: String,
    },
    /// The kernel would not take the address.
    Kernel {
        /// In its words.
        why: String,
    },
    /// The link is there but has no carrier.
    NoCarrier {
        /// Which link.
        link: LinkName,
    },
    /// The Service has nobody who would serve it.
    NoEndpoints,
    /// Frames cannot be sent on this kind of link.
    NoFrames {
        /// Which link.
        link: LinkName,
        /// What kind it is.
        hardware: Hardware,
    },
    /// There is no such link, or none to choose.
    NoLink {
        /// The one that was asked for; `None`: the one of the default route.
        link: Option<LinkName>,
    },
    /// Another node holds the Lease, or nobody does.
    NotLeader {
        /// Who does.
        holder: Option<NodeName>,
    },
    /// Another host writes the Lease under this node's name.
    NameClash,
    /// No majority of the members promises it to this one.
    NoMajority {
        /// How many of the voters have answered.
        answered: usize,
        /// How many there are.
        voters: usize,
    },
    /// This node is not to carry Services.
    NotEligible {
        /// In words.
        why: String,
    },
    /// The Service is to be reached where it is served, and it is not here.
    NotServedHere,
    /// The quorum has another member carry it, or none yet.
    NotAssigned {
        /// Which.
        holder: Option<NodeName>,
    },
    /// This member is not to take part yet, or any more.
    NotMember {
        /// In words.
        why: String,
    },
    /// It is there, silent, and will be answered for next.
    Preparing,
    /// Asking the link whether the address is free.
    Probing,
    /// The process was asked to stop.
    Stopping,
    /// What reaches the address is to be filtered, and cannot be.
    Unguarded {
        /// Why not.
        why: String,
    },
    /// Leadership must be confirmed first: the machine was suspended, or another host
    /// claimed the address.
    Unconfirmed,
}

impl Refusal {
    /// The code that log, Event, metric and status share.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AnotherProcess => "another-process",
            Self::Cleaning => "cleaning",
            Self::Conflict { .. } => "conflict",
            Self::Kernel { .. } => "kernel",
            Self::LinkAwaited { .. } => "link-awaited",
            Self::LinkDiffers { .. } => "link-differs",
            Self::LinkNotMade { .. } => "link-not-made",
            Self::NameClash => "name-clash",
            Self::NoCarrier { .. } => "no-carrier",
            Self::NoEndpoints => "no-endpoints",
            Self::NoFrames { .. } => "no-frames",
            Self::NoLink { .. } => "no-link",
            Self::NoMajority { .. } => "no-majority",
            Self::NotAssigned { .. } => "not-assigned",
            Self::NotEligible { .. } => "not-eligible",
            Self::NotLeader { .. } => "not-leader",
            Self::NotMember { .. } => "not-member",
            Self::NotServedHere => "not-served-here",
            Self::Preparing => "preparing",
            Self::Probing => "probing",
            Self::Stopping => "stopping",
            Self::Unconfirmed => "unconfirmed",
            Self::Unguarded { .. } => "unguarded",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherProcess => {
                write!(f, "another edgevip on this host campaigns for the same Lease")
            }
            Self::Cleaning => write!(f, "removing what an earlier process left"),
            Self::Conflict { mac } => write!(f, "the host with MAC {mac} uses the address"),
            Self::Kernel { why } => write!(f, "the kernel refuses: {why}"),
            Self::LinkAwaited { link } => write!(f, "{link} is being made"),
            Self::LinkDiffers { link, right } => {
                write!(f, "there is a link {link}, and it is not {right}")
            }
            Self::LinkNotMade { link, why } => {
                write!(f, "the kernel does not make the link {link}: {why}")
            }
            Self::NameClash => write!(f, "another host writes the Lease under this node's name"),
            Self::NoCarrier { link } => write!(f, "{link} has no carrier"),
            Self::NoEndpoints => write!(f, "the Service has no endpoints"),
            Self::NoFrames { link, hardware: Hardware::InfiniBand } => {
                write!(f, "{link} is InfiniBand, whose 20-byte addresses are not in this version")
            }
            Self::NoFrames { link, hardware } => {
                write!(f, "{link} takes no ARP or NDP frames ({hardware:?})")
            }
            Self::NoLink { link: Some(link) } => write!(f, "there is no link {link}"),
            Self::NoLink { link: None } => {
                write!(f, "no link has the VIP's subnet, and there is no default route")
            }
            Self::NotLeader { holder: Some(holder) } => write!(f, "{holder} holds the Lease"),
            Self::NotLeader { holder: None } => write!(f, "this node does not hold the Lease"),
            Self::NoMajority { answered, voters } => {
                write!(f, "no majority promises it: {answered} of {voters} voters answer")
            }
            Self::NotAssigned { holder: Some(holder) } => write!(f, "{holder} carries it"),
            Self::NotAssigned { holder: None } => write!(f, "no member carries it yet"),
            Self::NotEligible { why } => write!(f, "this node does not carry Services: {why}"),
            Self::NotMember { why } => write!(f, "{why}"),
            Self::NotServedHere => {
                write!(f, "externalTrafficPolicy is Local, and no endpoint serves on this node")
            }
            Self::Preparing => write!(f, "there, silent, and about to take over"),
            Self::Probing => write!(f, "asking whether the address is free"),
            Self::Stopping => write!(f, "stopping"),
            Self::Unconfirmed => write!(f, "leadership is being confirmed"),
            Self::Unguarded { why } => {
                write!(f, "enable_service_security cannot keep anything away from it: {why}")
            }
        }
    }
}

/// Why a Service that is ours has no address, or none that anybody may answer for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ServiceRefusal {
    /// The address is one of a node, or a VIP of the control plane.
    AddressInUse {
        /// The address.
        ip: std::net::IpAddr,
        /// Who has it.
        by: String,
    },
    /// Another Service has the address, and they cannot share it.
    AddressShared {
        /// The address.
        ip: std::net::IpAddr,
        /// Which has it.
        with: ObjectName,
        /// Why they cannot share.
        why: String,
    },
    /// Nobody gave it an address.
    Addressless {
        /// Why not.
        why: String,
    },
    /// No DHCP server leases one.
    Dhcp(DhcpRefusal),
    /// No pool has one for it.
    Pool(PoolRefusal),
    /// Its DNS name stands for no address.
    Unresolved {
        /// The name.
        name: String,
        /// Why not.
        why: String,
    },
    /// What is written on it cannot be understood.
    Unreadable {
        /// The annotation, without its prefix, or the field.
        setting: String,
        /// What is written.
        value: String,
        /// What would be right.
        right: String,
    },
}

impl ServiceRefusal {
    /// The code that log, metric and status share.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AddressInUse { .. } => "address-in-use",
            Self::AddressShared { .. } => "address-shared",
            Self::Addressless { .. } => "no-address",
            Self::Dhcp(it) => it.code(),
            Self::Pool(it) => it.code(),
            Self::Unresolved { .. } => "name-unresolved",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// The same, as Kubernetes spells the reason of an Event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AddressInUse { .. } => "AddressInUse",
            Self::AddressShared { .. } => "AddressShared",
            Self::Addressless { .. } => "NoAddress",
            Self::Dhcp(_) => "NoLease",
            Self::Pool(_) => "PoolRefused",
            Self::Unresolved { .. } => "NameUnresolved",
            Self::Unreadable { .. } => "Unreadable",
        }
    }
}

impl fmt::Display for ServiceRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressInUse { ip, by } => write!(f, "{ip} is an address of {by}"),
            Self::AddressShared { ip, with, why } => write!(f, "{with} has {ip}: {why}"),
            Self::Addressless { why } => write!(f, "{why}"),
            Self::Dhcp(it) => write!(f, "{it}"),
            Self::Pool(it) => write!(f, "{it}"),
            Self::Unresolved { name, why } => write!(f, "{name} stands for no address: {why}"),
            Self::Unreadable { setting, value, right } => write!(f, "{setting}={value}: {right}"),
        }
    }
}
