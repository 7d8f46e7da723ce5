//! The messages that the guard's tables are made of.

use std::net::IpAddr;

use crate::io::fence::table::{
    Base, SUBSYSTEM, boundary, compare_register, data, expression, verdict,
};
use crate::io::netlink::message::Writer;
use crate::model::{Protocol, ServicePort, Vip};

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// The kind of a dump of rules.
pub const GET_RULES: u16 = SUBSYSTEM | libc::NFT_MSG_GETRULE as u16;

/// `NFTA_TABLE_NAME`, and the same in every other message.
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const SET_NAME: u16 = 2;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_ID: u16 = 10;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ITEM: u16 = 1;

const INPUT: &str = "input";
/// `NF_INET_LOCAL_IN`.
const LOCAL_IN: u32 = 1;
/// `NFT_REG_1`.
const REGISTER: u32 = 1;
/// `NFT_REG32_00`: registers of four bytes, one behind another.
const FIRST: u32 = 8;
const META_PROTOCOL: u32 = 16;
/// `NFT_CT_STATE` and `NFT_CT_DIRECTION`.
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
/// `NF_CT_STATE_BIT(IP_CT_RELATED)`, and `IP_CT_DIR_REPLY`.
const RELATED: u32 = 1 << 2;
const REPLY: u8 = 1;
/// ICMPv6 types of neighbour discovery: RFC 4861 §4.
const DISCOVERY: [u8; 2] = [133, 137];
/// Types as the `nft` command knows them, six bits each in a concatenation.
const INET_PROTO: u32 = 12;
const INET_SERVICE: u32 = 13;
/// So many elements in a message: an attribute is no longer than 64 KiB.
const A_MESSAGE: usize = 500;

/// The family of a table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// `ip`.
    Ip4,
    /// `ip6`.
    Ip6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ip4, Self::Ip6];

    /// The one that this VIP belongs to.
    pub fn of(vip: Vip) -> Self {
        match vip.0 {
            IpAddr::V4(_) => Self::Ip4,
            IpAddr::V6(_) => Self::Ip6,
        }
    }

    /// How many rules its chain has.
    pub fn rules(self) -> usize {
        match self {
            Self::Ip4 => 4,
            Self::Ip6 => 5,
        }
    }

    /// `NFPROTO_*`.
    fn number(self) -> u8 {
        match self {
            Self::Ip4 => 2,
            Self::Ip6 => 10,
        }
    }

    /// The type of an address as the `nft` command knows it, its length, and where a packet
    /// has its destination.
    fn address(self) -> (u32, u32, u32) {
        match self {
            Self::Ip4 => (7, 4, 16),
            Self::Ip6 => (8, 16, 24),
        }
    }
}

/// The two sets of a table.
#[derive(Clone, Copy, Debug)]
enum Set {
    Guarded,
    Open,
}

impl Set {
    fn name(self) -> &'static str {
        match self {
            Self::Guarded => "guarded",
            Self::Open => "open",
        }
    }

    fn id(self) -> u32 {
        match self {
            Self::Guarded => 1,
            Self::Open => 2,
        }
    }

    fn key(self, family: Family) -> (u32, u32) {
        let (kind, length, _) = family.address();
        match self {
            Self::Guarded => (kind, length),
            Self::Open => ((kind << 12) | (INET_PROTO << 6) | INET_SERVICE, length + 8),
        }
    }
}

/// Messages that take effect together, or not at all.
#[derive(Debug)]
pub struct Transaction<'a> {
    writer: Writer,
    table: &'a str,
    family: Family,
    awaited: u32,
}

impl<'a> Transaction<'a> {
    /// Begins one about the table of this name.
    pub fn new(mut writer: Writer, table: &'a str, family: Family) -> Self {
        let awaited = boundary(&mut writer, BATCH_BEGIN);
        Self { writer, table, family, awaited }
    }

    /// Ends it: what to send, and which message to await an answer to.
    pub fn end(mut self) -> (Writer, u32) {
        self.writer.ask_for_answer();
        boundary(&mut self.writer, BATCH_END);
        (self.writer, self.awaited)
    }

    /// Builds the table, empty, in place of whatever has its name.
    pub fn build(&mut self) {
        self.delete();
        self.message(libc::NFT_MSG_NEWTABLE, CREATE, |_| {});
        let family = self.family;
        for set in [Set::Guarded, Set::Open] {
            let (kind, length) = set.key(family);
            self.message(libc::NFT_MSG_NEWSET, CREATE, |it| {
                it.text(SET_NAME, set.name());
                it.number(SET_KEY_TYPE, kind);
                it.number(SET_KEY_LENGTH, length);
                it.number(SET_ID, set.id());
            });
        }
        self.message(libc::NFT_MSG_NEWCHAIN, CREATE, |it| {
            it.text(CHAIN_NAME, INPUT);
            it.nested(CHAIN_HOOK, |it| {
                it.number(HOOK_NUMBER, LOCAL_IN);
                it.number(HOOK_PRIORITY, 0);
            });
            it.number(CHAIN_POLICY, libc::NF_ACCEPT as u32);
            it.text(CHAIN_TYPE, "filter");
        });
        self.rule(|it| {
            destination_protocol_and_port(it, family);
            look_up(it, Set::Open, FIRST);
            verdict(it, libc::NF_ACCEPT);
        });
        self.rule(|it| {
            connection(it, CT_DIRECTION);
            compare_register(it, &[REPLY]);
            verdict(it, libc::NF_ACCEPT);
        });
        self.rule(|it| {
            connection(it, CT_STATE);
            has_bit(it, RELATED);
            verdict(it, libc::NF_ACCEPT);
        });
        if family == Family::Ip6 {
            self.rule(|it| {
                protocol(it, REGISTER);
                compare_register(it, &[libc::IPPROTO_ICMPV6 as u8]);
                let [first, last] = DISCOVERY;
                load(it, Base::Transport, 0, 1, REGISTER);
                compare_by(it, libc::NFT_CMP_GTE, &[first]);
                compare_by(it, libc::NFT_CMP_LTE, &[last]);
                verdict(it, libc::NF_ACCEPT);
            });
        }
        self.rule(|it| {
            let (_, length, offset) = family.address();
            load(it, Base::Network, offset, length, REGISTER);
            look_up(it, Set::Guarded, REGISTER);
            verdict(it, libc::NF_DROP);
        });
    }

    /// Deletes the table, if it is there: to create what is there already is no error.
    pub fn delete(&mut self) {
        self.message(libc::NFT_MSG_NEWTABLE, CREATE, |_| {});
        self.message(libc::NFT_MSG_DELTABLE, 0, |_| {});
    }

    /// Guards a VIP, but for these ports.
    pub fn add(&mut self, vip: Vip, ports: &[ServicePort]) {
        self.elements(libc::NFT_MSG_NEWSETELEM, CREATE, vip, ports);
    }

    /// Guards a VIP that is guarded so no longer.
    pub fn remove(&mut self, vip: Vip, ports: &[ServicePort]) {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, vip, ports);
    }

    fn elements(&mut self, kind: i32, flags: u16, vip: Vip, ports: &[ServicePort]) {
        let address = match vip.0 {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let keys = |port: &ServicePort| {
            let mut key = address.clone();
            key.extend([number(port.protocol), 0, 0, 0]);
            key.extend(port.port.to_be_bytes());
            key.extend([0, 0]);
            key
        };
        let open: Vec<_> = ports.iter().map(keys).collect();
        let guarded = [address.clone()];
        for (set, keys) in [(Set::Guarded, &guarded[..]), (Set::Open, &open[..])] {
            for some in keys.chunks(A_MESSAGE) {
                self.message(kind, flags, |it| {
                    it.text(ELEMENTS_SET, set.name());
                    it.nested(ELEMENTS, |it| {
                        for key in some {
                            it.nested(LIST_ITEM, |it| data(it, ELEMENT_KEY, key));
                        }
                    });
                });
            }
        }
    }

    fn rule(&mut self, expressions: impl FnOnce(&mut Writer)) {
        self.message(libc::NFT_MSG_NEWRULE, CREATE | APPEND, |it| {
            it.text(RULE_CHAIN, INPUT);
            it.nested(RULE_EXPRESSIONS, expressions);
        });
    }

    fn message(&mut self, kind: i32, flags: u16, body: impl FnOnce(&mut Writer)) {
        let (family, table) = (self.family, self.table);
        self.awaited = self.writer.message(SUBSYSTEM | kind as u16, flags, |it| {
            about(it, family, table);
            body(it);
        });
    }
}

/// The head that all but the boundaries share; also the body of a dump.
pub fn about(it: &mut Writer, family: Family, table: &str) {
    it.put(&[family.number(), 0, 0, 0]);
    it.text(TABLE, table);
}

/// Asks for the table.
pub fn ask_for_table(writer: &mut Writer, family: Family, table: &str) {
    let kind = SUBSYSTEM | libc::NFT_MSG_GETTABLE as u16;
    writer.message(kind, 0, |it| about(it, family, table));
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Sctp => libc::IPPROTO_SCTP as u8,
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
    }
}

/// TCP, UDP and SCTP have their ports at the same place.
fn destination_protocol_and_port(it: &mut Writer, family: Family) {
    let (_, length, offset) = family.address();
    load(it, Base::Network, offset, length, FIRST);
    protocol(it, FIRST + length / 4);
    load(it, Base::Transport, 2, 2, FIRST + length / 4 + 1);
}

fn load(it: &mut Writer, base: Base, offset: u32, length: u32, register: u32) {
    expression(it, "payload", |it| {
        for (kind, value) in [(1, register), (2, base as u32), (3, offset), (4, length)] {
            it.number(kind, value);
        }
    });
}

fn protocol(it: &mut Writer, register: u32) {
    expression(it, "meta", |it| {
        it.number(1, register);
        it.number(2, META_PROTOCOL);
    });
}

fn connection(it: &mut Writer, key: u32) {
    expression(it, "ct", |it| {
        it.number(1, REGISTER);
        it.number(2, key);
    });
}

fn has_bit(it: &mut Writer, bit: u32) {
    expression(it, "bitwise", |it| {
        for (kind, value) in [(1, REGISTER), (2, REGISTER), (3, 4)] {
            it.number(kind, value);
        }
        data(it, 4, &bit.to_ne_bytes());
        data(it, 5, &[0; 4]);
    });
    compare_by(it, libc::NFT_CMP_NEQ, &[0; 4]);
}

fn compare_by(it: &mut Writer, how: i32, value: &[u8]) {
    expression(it, "cmp", |it| {
        it.number(1, REGISTER);
        it.number(2, how as u32);
        data(it, 3, value);
    });
}

fn look_up(it: &mut Writer, set: Set, register: u32) {
    expression(it, "lookup", |it| {
        it.text(1, set.name());
        it.number(2, register);
        it.number(4, set.id());
    });
}
