//! What the fence is in nftables: per family a table with two sets and a chain.
//!
//! ```text
//! table arp edgevip {
//!     set ours4 { type ipv4_addr; flags timeout }
//!     set live4 { type ipv4_addr; flags timeout }
//!     chain output {
//!         type filter hook output priority 0; policy accept
//!         arp htype 1 arp ptype ip arp hlen 6 arp plen 4 \
//!             arp saddr ip @ours4 arp saddr ip != @live4 drop
//!     }
//! }
//! table ip6 edgevip {
//!     …
//!         icmpv6 type nd-neighbor-solicit ip6 saddr @ours6 ip6 saddr != @live6 drop
//!         icmpv6 type nd-neighbor-advert ip6 saddr @ours6 ip6 saddr != @live6 drop
//! }
//! ```
//!
//! The kernel sends an advertisement of an address it has from that address. A solicitation
//! sent from a VIP carries our MAC and would be learnt from, as an ARP request is. Rules are
//! of the kind that every `nft` prints so that it can read them again: who saves the ruleset
//! saves these, too, and a saved ruleset that does not load protects nobody.

use std::net::IpAddr;
use std::time::Duration;

use crate::io::netlink::message::{Attributes, Message, Writer};
use crate::io::nft::{
    ARP, Base, DATA_VALUE, ELEMENT_KEY, ELEMENTS, ELEMENTS_SET, IP4_KEY, IP6, IP6_KEY, LIST_ITEM,
    REGISTER, Set as NftSet, Transaction, data, is, load, look_up, protocol, verdict,
};

const SET_FLAGS: u16 = 3;
const SET_GC_INTERVAL: u16 = 12;
const ELEMENT_TIMEOUT: u16 = 4;

/// So many elements in a message: an attribute is no longer than 64 KiB.
const A_MESSAGE: usize = 1_000;
/// An expired element takes part in nothing; its memory need not be freed each second.
const GC_INTERVAL_MS: u32 = 30_000;
const OUTPUT: &str = "output";
/// ICMPv6 types, RFC 4861 §4.3 and §4.4.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const LOOKUP_INVERTED: u32 = 1;

/// The family of a table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// `arp`: for IPv4.
    Arp,
    /// `ip6`.
    Ip6,
}

/// The two sets of a table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Set {
    /// Addresses that are ours: silent unless live.
    Ours,
    /// Addresses to answer for.
    Live,
}

impl Family {
    /// The one that guards this address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::Arp,
            IpAddr::V6(_) => Self::Ip6,
        }
    }

    /// How many rules its chain has.
    pub fn rules(self) -> usize {
        match self {
            Self::Arp => 1,
            Self::Ip6 => 2,
        }
    }

    /// `NFPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Self::Arp => ARP,
            Self::Ip6 => IP6,
        }
    }

    /// `NF_ARP_OUT`, `NF_INET_LOCAL_OUT`.
    fn hook(self) -> u32 {
        match self {
            Self::Arp => 1,
            Self::Ip6 => 3,
        }
    }

    /// What an address is to a set.
    fn key(self) -> (u32, u32) {
        match self {
            Self::Arp => IP4_KEY,
            Self::Ip6 => IP6_KEY,
        }
    }
}

impl Set {
    fn of(self, family: Family) -> NftSet {
        let (name, id) = match (self, family) {
            (Self::Ours, Family::Arp) => ("ours4", 1),
            (Self::Live, Family::Arp) => ("live4", 2),
            (Self::Ours, Family::Ip6) => ("ours6", 1),
            (Self::Live, Family::Ip6) => ("live6", 2),
        };
        NftSet { name, id, key: family.key() }
    }
}

/// Builds the table, empty, in place of whatever has its name.
pub fn build(to: &mut Transaction, family: Family) {
    let number = family.number();
    to.renew(number);
    for set in [Set::Ours, Set::Live] {
        to.set(number, set.of(family), |it| {
            it.number(SET_FLAGS, libc::NFT_SET_TIMEOUT as u32);
            it.number(SET_GC_INTERVAL, GC_INTERVAL_MS);
        });
    }
    to.chain(number, OUTPUT, family.hook());
    match family {
        Family::Arp => to.rule(number, OUTPUT, |it| {
            // Ethernet, IPv4, and the lengths of their addresses.
            field_is(it, Base::Network, 0, &[0, 1, 8, 0, 6, 4]);
            drop_if_silent(it, family, 14);
        }),
        Family::Ip6 => {
            for kind in [SOLICITATION, ADVERTISEMENT] {
                to.rule(number, OUTPUT, |it| {
                    protocol(it, REGISTER);
                    is(it, &[libc::IPPROTO_ICMPV6 as u8]);
                    field_is(it, Base::Transport, 0, &[kind]);
                    drop_if_silent(it, family, 8);
                });
            }
        }
    }
}

/// Adds an element that ends by itself.
pub fn add(to: &mut Transaction, set: Set, ip: IpAddr, timeout: Duration) {
    add_all(to, set, &[(ip, timeout)]);
}

/// Adds many elements of one family that end by themselves.
pub fn add_all(to: &mut Transaction, set: Set, elements: &[(IpAddr, Duration)]) {
    for some in elements.chunks(A_MESSAGE) {
        let Some((first, _)) = some.first() else { return };
        let family = Family::of(*first);
        to.add(family.number(), set.of(family).name, |it| {
            for (ip, timeout) in some {
                element(it, *ip, Some(timeout.as_millis() as u64));
            }
        });
    }
}

/// Removes an element that is there. Returns the number of the message.
pub fn remove(from: &mut Transaction, set: Set, ip: IpAddr) -> u32 {
    let family = Family::of(ip);
    from.remove(family.number(), set.of(family).name, |it| element(it, ip, None))
}

fn element(it: &mut Writer, ip: IpAddr, timeout_ms: Option<u64>) {
    it.nested(LIST_ITEM, |it| {
        match ip {
            IpAddr::V4(ip) => data(it, ELEMENT_KEY, &ip.octets()),
            IpAddr::V6(ip) => data(it, ELEMENT_KEY, &ip.octets()),
        }
        if let Some(millis) = timeout_ms {
            it.attribute(ELEMENT_TIMEOUT, &millis.to_be_bytes());
        }
    });
}

fn field_is(it: &mut Writer, base: Base, offset: u32, value: &[u8]) {
    load(it, base, offset, value.len() as u32, REGISTER);
    is(it, value);
}

fn drop_if_silent(it: &mut Writer, family: Family, offset: u32) {
    let (_, length) = family.key();
    load(it, Base::Network, offset, length, REGISTER);
    look_up(it, Set::Ours.of(family), REGISTER, 0);
    look_up(it, Set::Live.of(family), REGISTER, LOOKUP_INVERTED);
    verdict(it, libc::NF_DROP);
}

/// That the addresses that are ours are asked for: in the body of a dump.
pub fn of_ours(it: &mut Writer, family: Family) {
    it.text(ELEMENTS_SET, Set::Ours.of(family).name);
}

/// The addresses in a message about elements.
pub fn addresses(message: &Message<'_>) -> Option<Vec<IpAddr>> {
    let (_, attributes) = message.split::<4>()?;
    let list = Attributes(attributes.get(ELEMENTS)?);
    Some(list.filter_map(|(_, element)| key(element)).collect())
}

fn key(element: &[u8]) -> Option<IpAddr> {
    let bytes = Attributes(Attributes(element).get(ELEMENT_KEY)?).get(DATA_VALUE)?;
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}
