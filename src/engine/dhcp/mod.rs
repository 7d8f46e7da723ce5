//! Leases of addresses, one machine each: what to say to servers, and what may be carried
//! until when. They know no Services and no links.

mod v4;

use std::net::Ipv4Addr;

pub(crate) use v4::{Dhcp4, Dhcp4Config};

use super::Rng;
use crate::model::{Dhcp4Message, Instant, Mac};

/// What a machine is handed: the time, chance, what it may look at, and where its words go.
pub(crate) struct Turn<'a> {
    pub now: Instant,
    pub rng: &'a mut Rng,
    pub out: &'a mut Vec<Said>,
    /// Which node has the address, if one does.
    pub node_of: &'a dyn Fn(Ipv4Addr) -> Option<String>,
    /// The address is answered for, so that servers can send to it.
    pub answered: bool,
}

/// A message on its way.
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
