//! Netlink: links, addresses and routes of the kernel, read, written and followed.
//!
//! One writer and one reader serve both families that are spoken: `NETLINK_ROUTE` here,
//! `NETLINK_NETFILTER` in [`super::fence`].

pub mod addresses;
mod known;
pub mod links;
pub mod made;
pub mod message;
pub mod monitor;
pub mod parse;
pub mod socket;
pub mod survey;

use crate::model::LinkIndex;

/// `IFA_PROTO`: who added an address.
const IFA_PROTO: u16 = 11;

/// The tag of every address that edgevip adds: a mark that others can see, too.
/// The kernel knows it from 5.18 on; an older one ignores it.
pub const OURS: u8 = 237;

/// `IFLA_VLAN_ID`.
const VLAN_ID: u16 = 1;

/// What links that edgevip makes are tagged with, as an alias (`IFLA_IFALIAS`) that `ip link`
/// shows: each instance with its own.
pub fn tag(instance: Option<&str>) -> String {
    match instance {
        None => "edgevip".to_owned(),
        Some(instance) => format!("edgevip:{instance}"),
    }
}

/// The name of a link, or its number if it has none by now: for messages to people.
pub fn name(link: LinkIndex) -> String {
    match nix::net::if_::if_indextoname(link.0) {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("link {}", link.0),
    }
}
