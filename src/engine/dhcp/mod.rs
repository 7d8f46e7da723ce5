//! Leases of addresses, one machine each: what to say to servers, and what may be carried
//! until when. They know no Services and no links.

mod v4;
mod v6;

use std::net::{IpAddr, Ipv4Addr};

pub(crate) use v4::{Dhcp4, Dhcp4Config};
pub(crate) use v6::{Dhcp6, Dhcp6Config, Parting};

use super::Rng;
use crate::model::{Dhcp4Message, Instant, Leases, Mac};

/// What is carried although nobody has confirmed it, of the lease: as much as is left of it
/// when a renewal at T2 of DHCPv4 fails.
const KEPT: u32 = Leases::KEPT;

/// What a machine is handed: the time, chance, what it may look at, and where its words go.
pub(crate) struct Turn<'a, S = Said> {
    pub now: Instant,
    pub rng: &'a mut Rng,
    pub out: &'a mut Vec<S>,
    /// Which node has the address, if one does.
    pub node_of: &'a dyn Fn(IpAddr) -> Option<String>,
    /// The address is answered for, so that servers can send to it. For DHCPv4.
    pub answered: bool,
}

/// A message of DHCPv4 on its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Said {
    pub to: Whom,
    pub message: Dhcp4Message,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whom {
    /// All on the link.
    All,
    /// One server, by the way its last message came.
    Server(Ipv4Addr, Option<Mac>),
}

#[cfg(test)]
mod tests;
