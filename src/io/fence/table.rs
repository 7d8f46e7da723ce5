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

/// The messages of nftables.
pub const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;

/// `NFTA_TABLE_NAME`, and the same in every other message.
const TABLE: u16 = 1;
const TABLE_HANDLE: u16 = 4;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_ID: u16 = 10;
const SET_GC_INTERVAL: u16 = 12;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ITEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// So many elements in a message: an attribute is no longer than 64 KiB.
const A_MESSAGE: usize = 1_000;
/// An expired element takes part in nothing; its memory need not be freed each second.
const GC_INTERVAL_MS: u32 = 30_000;
const OUTPUT: &str = "output";
/// `NFT_REG_1`.
const REGISTER: u32 = 1;
/// `NFT_META_L4PROTO`.
const META_PROTOCOL: u32 = 16;
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

/// Where a field of a packet is counted from.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) enum Base {
    /// The header of the network layer.
    Network = 1,
    /// That of the layer above.
    Transport = 2,
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
    fn number(self) -> u8 {
        match self {
            Self::Arp => 3,
            Self::Ip6 => 10,
        }
    }

    /// `NF_ARP_OUT`, `NF_INET_LOCAL_OUT`.
    fn hook(self) -> u32 {
        match self {
            Self::Arp => 1,
            Self::Ip6 => 3,
        }
    }

    /// The type as the `nft` command knows it, and its length.
    fn key(self) -> (u32, u32) {
        match self {
            Self::Arp => (7, 4),
            Self::Ip6 => (8, 16),
        }
    }
}

impl Set {
    fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Ours, Family::Arp) => "ours4",
            (Self::Live, Family::Arp) => "live4",
            (Self::Ours, Family::Ip6) => "ours6",
            (Self::Live, Family::Ip6) => "live6",
        }
    }

    fn id(self) -> u32 {
        match self {
            Self::Ours => 1,
            Self::Live => 2,
        }
    }
}

/// Messages that take effect together, or not at all.
#[derive(Debug)]
pub struct Transaction<'a> {
    writer: Writer,
    table: &'a str,
    first: u32,
    awaited: u32,
}

impl<'a> Transaction<'a> {
    /// Begins one about the tables of this name.
    pub fn new(mut writer: Writer, table: &'a str) -> Self {
        let first = boundary(&mut writer, BATCH_BEGIN);
        Self { writer, table, first, awaited: first }
    }

    /// Ends it: what to send, and which message to await an answer to.
    pub fn end(mut self) -> (Writer, u32) {
        self.writer.ask_for_answer();
        boundary(&mut self.writer, BATCH_END);
        (self.writer, self.awaited)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.writer.next() == self.first + 1
    }

    /// Builds the table, empty, in place of whatever has its name.
    pub fn build(&mut self, family: Family) {
        self.delete(family);
        self.message(libc::NFT_MSG_NEWTABLE, CREATE, family, |_| {});
        for set in [Set::Ours, Set::Live] {
            self.set(family, set);
        }
        self.message(libc::NFT_MSG_NEWCHAIN, CREATE, family, |it| {
            it.text(CHAIN_NAME, OUTPUT);
            it.nested(CHAIN_HOOK, |it| {
                it.number(HOOK_NUMBER, family.hook());
                it.number(HOOK_PRIORITY, 0);
            });
            it.number(CHAIN_POLICY, libc::NF_ACCEPT as u32);
            it.text(CHAIN_TYPE, "filter");
        });
        match family {
            Family::Arp => self.rule(family, |it| {
                // Ethernet, IPv4, and the lengths of their addresses.
                compare(it, Base::Network, 0, &[0, 1, 8, 0, 6, 4]);
                drop_if_silent(it, family, 14);
            }),
            Family::Ip6 => {
                for kind in [SOLICITATION, ADVERTISEMENT] {
                    self.rule(family, |it| {
                        neighbour_message(it, kind);
                        drop_if_silent(it, family, 8);
                    });
                }
            }
        }
    }

    /// Deletes the table, if it is there: to create what is there already is no error.
    pub fn delete(&mut self, family: Family) {
        self.message(libc::NFT_MSG_NEWTABLE, CREATE, family, |_| {});
        self.message(libc::NFT_MSG_DELTABLE, 0, family, |_| {});
    }

    /// Adds an element that ends by itself.
    pub fn add(&mut self, set: Set, ip: IpAddr, timeout: Duration) -> u32 {
        let millis = timeout.as_millis() as u64;
        self.element(libc::NFT_MSG_NEWSETELEM, CREATE, set, ip, Some(millis))
    }

    /// Adds many elements of one family that end by themselves.
    pub fn add_all(&mut self, set: Set, elements: &[(IpAddr, Duration)]) {
        for some in elements.chunks(A_MESSAGE) {
            let Some((first, _)) = some.first() else { return };
            let family = Family::of(*first);
            self.message(libc::NFT_MSG_NEWSETELEM, CREATE, family, |it| {
                it.text(ELEMENTS_SET, set.name(family));
                it.nested(ELEMENTS, |it| {
                    for (ip, timeout) in some {
                        element(it, *ip, Some(timeout.as_millis() as u64));
                    }
                });
            });
        }
    }

    /// Removes an element that is there.
    pub fn remove(&mut self, set: Set, ip: IpAddr) -> u32 {
        self.element(libc::NFT_MSG_DELSETELEM, 0, set, ip, None)
    }

    fn set(&mut self, family: Family, set: Set) {
        let (kind, length) = family.key();
        self.message(libc::NFT_MSG_NEWSET, CREATE, family, |it| {
            it.text(SET_NAME, set.name(family));
            it.number(SET_FLAGS, libc::NFT_SET_TIMEOUT as u32);
            it.number(SET_KEY_TYPE, kind);
            it.number(SET_KEY_LENGTH, length);
            it.number(SET_ID, set.id());
            it.number(SET_GC_INTERVAL, GC_INTERVAL_MS);
        });
    }

    fn rule(&mut self, family: Family, expressions: impl FnOnce(&mut Writer)) {
        self.message(libc::NFT_MSG_NEWRULE, CREATE | APPEND, family, |it| {
            it.text(RULE_CHAIN, OUTPUT);
            it.nested(RULE_EXPRESSIONS, expressions);
        });
    }

    fn element(
        &mut self,
        kind: i32,
        flags: u16,
        set: Set,
        ip: IpAddr,
        timeout_ms: Option<u64>,
    ) -> u32 {
        self.message(kind, flags, Family::of(ip), |it| {
            it.text(ELEMENTS_SET, set.name(Family::of(ip)));
            it.nested(ELEMENTS, |it| element(it, ip, timeout_ms));
        })
    }

    fn message(
        &mut self,
        kind: i32,
        flags: u16,
        family: Family,
        body: impl FnOnce(&mut Writer),
    ) -> u32 {
        let table = self.table;
        self.awaited = self.writer.message(SUBSYSTEM | kind as u16, flags, |it| {
            about(it, family, table);
            body(it);
        });
        self.awaited
    }
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

/// The head that all but the boundaries share.
fn about(it: &mut Writer, family: Family, table: &str) {
    it.put(&[family.number(), 0, 0, 0]);
    it.text(TABLE, table);
}

/// The beginning, or the end, of what takes effect together.
pub(in crate::io) fn boundary(writer: &mut Writer, kind: u16) -> u32 {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    writer.message(kind, 0, |it| it.put(&[0, 0, high, low]))
}

/// A part of a rule.
pub(in crate::io) fn expression(it: &mut Writer, name: &str, body: impl FnOnce(&mut Writer)) {
    it.nested(LIST_ITEM, |it| {
        it.text(1, name);
        it.nested(2, body);
    });
}

fn load(it: &mut Writer, base: Base, offset: u32, length: u32) {
    expression(it, "payload", |it| {
        for (kind, value) in [(1, REGISTER), (2, base as u32), (3, offset), (4, length)] {
            it.number(kind, value);
        }
    });
}

/// Goes on only if the first register says this.
pub(in crate::io) fn compare_register(it: &mut Writer, value: &[u8]) {
    expression(it, "cmp", |it| {
        it.number(1, REGISTER);
        it.number(2, libc::NFT_CMP_EQ as u32);
        data(it, 3, value);
    });
}

fn compare(it: &mut Writer, base: Base, offset: u32, value: &[u8]) {
    load(it, base, offset, value.len() as u32);
    compare_register(it, value);
}

fn neighbour_message(it: &mut Writer, kind: u8) {
    expression(it, "meta", |it| {
        it.number(1, REGISTER);
        it.number(2, META_PROTOCOL);
    });
    compare_register(it, &[libc::IPPROTO_ICMPV6 as u8]);
    compare(it, Base::Transport, 0, &[kind]);
}

fn drop_if_silent(it: &mut Writer, family: Family, offset: u32) {
    let (_, length) = family.key();
    load(it, Base::Network, offset, length);
    for (set, flags) in [(Set::Ours, 0), (Set::Live, LOOKUP_INVERTED)] {
        expression(it, "lookup", |it| {
            it.text(1, set.name(family));
            it.number(2, REGISTER);
            it.number(4, set.id());
            it.number(5, flags);
        });
    }
    verdict(it, libc::NF_DROP);
}

/// What becomes of the packet.
pub(in crate::io) fn verdict(it: &mut Writer, verdict: i32) {
    expression(it, "immediate", |it| {
        it.number(1, libc::NFT_REG_VERDICT as u32);
        it.nested(2, |it| it.nested(DATA_VERDICT, |it| it.number(1, verdict as u32)));
    });
}

/// A value.
pub(in crate::io) fn data(it: &mut Writer, kind: u16, value: &[u8]) {
    it.nested(kind, |it| it.attribute(DATA_VALUE, value));
}

/// Asks for the table.
pub fn ask_for_table(writer: &mut Writer, family: Family, table: &str) {
    let kind = SUBSYSTEM | libc::NFT_MSG_GETTABLE as u16;
    writer.message(kind, 0, |it| about(it, family, table));
}

/// Asks for the rules of the table: the body of a dump.
pub fn ask_for_rules(it: &mut Writer, family: Family, table: &str) {
    about(it, family, table);
}

/// Asks for the addresses that are ours: the body of a dump.
pub fn ask_for_ours(it: &mut Writer, family: Family, table: &str) {
    about(it, family, table);
    it.text(ELEMENTS_SET, Set::Ours.name(family));
}

/// The number of the table that a message is about: each table gets its own.
pub fn handle(message: &Message<'_>) -> Option<[u8; 8]> {
    let (_, attributes) = message.split::<4>()?;
    attributes.get(TABLE_HANDLE)?.try_into().ok()
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
