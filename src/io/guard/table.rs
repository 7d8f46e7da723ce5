//! The messages that the guard's tables are made of.

use std::net::IpAddr;

use crate::io::netlink::message::Writer;
use crate::io::nft::{
    Base, ELEMENT_KEY, IP4, IP4_KEY, IP6, IP6_KEY, LIST_ITEM, REGISTER, Set, Transaction, compare,
    data, expression, is, load, look_up, protocol, verdict,
};
use crate::model::{Protocol, ServicePort, Vip};

const INPUT: &str = "input";
/// `NF_INET_LOCAL_IN`.
const LOCAL_IN: u32 = 1;
/// `NFT_REG32_00`: registers of four bytes, one behind another.
const FIRST: u32 = 8;
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
    pub fn number(self) -> u8 {
        match self {
            Self::Ip4 => IP4,
            Self::Ip6 => IP6,
        }
    }

    /// What an address is to a set.
    fn key(self) -> (u32, u32) {
        match self {
            Self::Ip4 => IP4_KEY,
            Self::Ip6 => IP6_KEY,
        }
    }

    /// Loads where a packet goes to. Returns how long that is.
    fn load_destination(self, it: &mut Writer, register: u32) -> u32 {
        let offset = match self {
            Self::Ip4 => 16,
            Self::Ip6 => 24,
        };
        let (_, length) = self.key();
        load(it, Base::Network, offset, length, register);
        length
    }

    /// The addresses that are guarded.
    fn guarded(self) -> Set {
        Set { name: "guarded", id: 1, key: self.key() }
    }

    /// What of them is let through: an address, a protocol and a port.
    fn open(self) -> Set {
        let (kind, length) = self.key();
        let kind = (kind << 12) | (INET_PROTO << 6) | INET_SERVICE;
        Set { name: "open", id: 2, key: (kind, length + 8) }
    }
}

/// Builds the table, empty, in place of whatever has its name.
pub fn build(to: &mut Transaction, family: Family) {
    let number = family.number();
    to.renew(number);
    for set in [family.guarded(), family.open()] {
        to.set(number, set, |_| {});
    }
    to.chain(number, INPUT, LOCAL_IN);
    to.rule(number, INPUT, |it| {
        destination_protocol_and_port(it, family);
        look_up(it, family.open(), FIRST, 0);
        verdict(it, libc::NF_ACCEPT);
    });
    to.rule(number, INPUT, |it| {
        connection(it, CT_DIRECTION);
        is(it, &[REPLY]);
        verdict(it, libc::NF_ACCEPT);
    });
    to.rule(number, INPUT, |it| {
        connection(it, CT_STATE);
        has_bit(it, RELATED);
        verdict(it, libc::NF_ACCEPT);
    });
    if family == Family::Ip6 {
        to.rule(number, INPUT, |it| {
            protocol(it, REGISTER);
            is(it, &[libc::IPPROTO_ICMPV6 as u8]);
            let [first, last] = DISCOVERY;
            load(it, Base::Transport, 0, 1, REGISTER);
            compare(it, libc::NFT_CMP_GTE, &[first]);
            compare(it, libc::NFT_CMP_LTE, &[last]);
            verdict(it, libc::NF_ACCEPT);
        });
    }
    to.rule(number, INPUT, |it| {
        family.load_destination(it, REGISTER);
        look_up(it, family.guarded(), REGISTER, 0);
        verdict(it, libc::NF_DROP);
    });
}

/// Guards a VIP, but for these ports.
pub fn add(to: &mut Transaction, vip: Vip, ports: &[ServicePort]) {
    let number = Family::of(vip).number();
    for (set, keys) in elements(vip, ports) {
        for some in keys.chunks(A_MESSAGE) {
            to.add(number, set.name, |it| list(it, some));
        }
    }
}

/// Guards a VIP that is guarded so no longer.
pub fn remove(from: &mut Transaction, vip: Vip, ports: &[ServicePort]) {
    let number = Family::of(vip).number();
    for (set, keys) in elements(vip, ports) {
        for some in keys.chunks(A_MESSAGE) {
            from.remove(number, set.name, |it| list(it, some));
        }
    }
}

/// What stands for it in each set.
fn elements(vip: Vip, ports: &[ServicePort]) -> [(Set, Vec<Vec<u8>>); 2] {
    let address = match vip.0 {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let key = |port: &ServicePort| {
        let mut key = address.clone();
        key.extend([number(port.protocol), 0, 0, 0]);
        key.extend(port.port.to_be_bytes());
        key.extend([0, 0]);
        key
    };
    let open = ports.iter().map(key).collect();
    let family = Family::of(vip);
    [(family.guarded(), vec![address]), (family.open(), open)]
}

fn list(it: &mut Writer, keys: &[Vec<u8>]) {
    for key in keys {
        it.nested(LIST_ITEM, |it| data(it, ELEMENT_KEY, key));
    }
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
    let next = FIRST + family.load_destination(it, FIRST) / 4;
    protocol(it, next);
    load(it, Base::Transport, 2, 2, next + 1);
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
    compare(it, libc::NFT_CMP_NEQ, &[0; 4]);
}
