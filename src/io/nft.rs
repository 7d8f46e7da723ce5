//! nftables by netlink: the tables of one name, and the messages that they are made of. What is
//! in them is the business of the fence and of the guard.

use std::sync::Arc;

use super::netlink::message::{Message, Writer};
use super::netlink::socket::{Refused, Socket};

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
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_ID: u16 = 10;
/// `NFTA_SET_ELEM_LIST_SET`: of which set elements are.
pub const ELEMENTS_SET: u16 = 2;
/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
pub const ELEMENTS: u16 = 3;
/// `NFTA_SET_ELEM_KEY`.
pub const ELEMENT_KEY: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
/// `NFTA_LIST_ELEM`.
pub const LIST_ITEM: u16 = 1;
/// `NFTA_DATA_VALUE`.
pub const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFT_META_L4PROTO`.
const META_PROTOCOL: u32 = 16;

/// `NFPROTO_ARP`.
pub const ARP: u8 = 3;
/// `NFPROTO_IPV4`.
pub const IP4: u8 = 2;
/// `NFPROTO_IPV6`.
pub const IP6: u8 = 10;
/// The type of an IPv4 address as the `nft` command knows it, and its length.
pub const IP4_KEY: (u32, u32) = (7, 4);
/// The same of an IPv6 address.
pub const IP6_KEY: (u32, u32) = (8, 16);
/// `NFT_REG_1`.
pub const REGISTER: u32 = 1;

/// Where a field of a packet is counted from.
#[derive(Clone, Copy, Debug)]
pub enum Base {
    /// The header of the network layer.
    Network = 1,
    /// That of the layer above.
    Transport = 2,
}

/// A set of a table.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// Its number within the transaction that builds it.
    pub id: u32,
    /// The type of its keys as the `nft` command knows it, and their length.
    pub key: (u32, u32),
}

/// The name of the tables of an instance. What nftables does not take in a name, and the mark
/// that stands for it, is written in hexadecimal, so that two instances never share one.
pub fn table_name(instance: Option<&str>) -> String {
    let mut name = "edgevip".to_owned();
    let Some(instance) = instance else { return name };
    name.push('_');
    for byte in instance.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' => name.push(byte.into()),
            _ => name.push_str(&format!(".{byte:02x}")),
        }
    }
    // NFT_TABLE_MAXNAMELEN is 256, and the probe adds a few letters.
    name.truncate(200);
    name
}

/// The tables of one name, one of each family.
#[derive(Debug)]
pub struct Tables {
    socket: Socket,
    name: Arc<str>,
}

impl Tables {
    /// Those of this name, whether they are there or not.
    pub fn new(socket: Socket, name: &str) -> Self {
        Self { socket, name: name.into() }
    }

    /// Begins a transaction about them.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.socket.compose(), self.name.clone())
    }

    /// Tries whether the kernel takes what is built: it gets another name, and is deleted in the
    /// same transaction, so that nothing is ever there.
    pub fn probe(
        &mut self,
        family: u8,
        build: impl FnOnce(&mut Transaction),
    ) -> Result<(), Refused> {
        let name = format!("{}-probe", self.name);
        let mut it = Transaction::new(self.socket.compose(), name.into());
        build(&mut it);
        it.delete(family);
        self.send(it)
    }

    /// Sends it. Returns what the kernel refused of it: nothing is done, if it did.
    pub fn send_all(&mut self, transaction: Transaction) -> Vec<Refused> {
        let (writer, awaited) = transaction.end();
        self.socket.exchange(&writer, Some(awaited), &mut |_| ())
    }

    /// Sends it.
    pub fn send(&mut self, transaction: Transaction) -> Result<(), Refused> {
        self.send_all(transaction).into_iter().next().map_or(Ok(()), Err)
    }

    /// The number of the table of a family, if there is one: each table gets its own.
    pub fn handle(&mut self, family: u8) -> Option<[u8; 8]> {
        let mut writer = self.socket.compose();
        let kind = SUBSYSTEM | libc::NFT_MSG_GETTABLE as u16;
        writer.message(kind, 0, |it| about(it, family, &self.name));
        let number = |message: &Message<'_>| {
            let (_, attributes) = message.split::<4>()?;
            attributes.get(TABLE_HANDLE)?.try_into().ok()
        };
        let mut handle = None;
        self.socket.exchange(&writer, None, &mut |it| handle = handle.or(number(&it)));
        handle
    }

    /// Whether the table of a family is the one that got this number, with all of its rules.
    pub fn stands(&mut self, family: u8, handle: [u8; 8], rules: usize) -> bool {
        self.handle(family) == Some(handle)
            && self.dump(libc::NFT_MSG_GETRULE, family, &|_| (), &|_| Some(())).len() == rules
    }

    /// Everything of a kind in the table of a family; nothing if there is no table.
    pub fn dump<T>(
        &mut self,
        kind: i32,
        family: u8,
        more: &dyn Fn(&mut Writer),
        parse: &dyn Fn(&Message<'_>) -> Option<T>,
    ) -> Vec<T> {
        let body = |it: &mut Writer| {
            about(it, family, &self.name);
            more(it);
        };
        self.socket.dump(SUBSYSTEM | kind as u16, &body, parse).unwrap_or_default()
    }
}

/// Messages that take effect together, or not at all.
#[derive(Debug)]
pub struct Transaction {
    writer: Writer,
    table: Arc<str>,
    first: u32,
    awaited: u32,
}

impl Transaction {
    fn new(mut writer: Writer, table: Arc<str>) -> Self {
        let first = boundary(&mut writer, BATCH_BEGIN);
        Self { writer, table, first, awaited: first }
    }

    /// Ends it: what to send, and which message to await an answer to.
    fn end(mut self) -> (Writer, u32) {
        self.writer.ask_for_answer();
        boundary(&mut self.writer, BATCH_END);
        (self.writer, self.awaited)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.writer.next() == self.first + 1
    }

    /// A table, empty, in place of whatever has its name.
    pub fn renew(&mut self, family: u8) {
        self.delete(family);
        self.message(libc::NFT_MSG_NEWTABLE, CREATE, family, |_| {});
    }

    /// Deletes the table, if it is there: to create what is there already is no error.
    pub fn delete(&mut self, family: u8) {
        self.message(libc::NFT_MSG_NEWTABLE, CREATE, family, |_| {});
        self.message(libc::NFT_MSG_DELTABLE, 0, family, |_| {});
    }

    /// Makes a set. `more`: what else is said of it.
    pub fn set(&mut self, family: u8, set: Set, more: impl FnOnce(&mut Writer)) {
        self.message(libc::NFT_MSG_NEWSET, CREATE, family, |it| {
            it.text(SET_NAME, set.name);
            it.number(SET_KEY_TYPE, set.key.0);
            it.number(SET_KEY_LENGTH, set.key.1);
            it.number(SET_ID, set.id);
            more(it);
        });
    }

    /// Makes a chain that accepts what no rule of it drops.
    pub fn chain(&mut self, family: u8, name: &str, hook: u32) {
        self.message(libc::NFT_MSG_NEWCHAIN, CREATE, family, |it| {
            it.text(CHAIN_NAME, name);
            it.nested(CHAIN_HOOK, |it| {
                it.number(HOOK_NUMBER, hook);
                it.number(HOOK_PRIORITY, 0);
            });
            it.number(CHAIN_POLICY, libc::NF_ACCEPT as u32);
            it.text(CHAIN_TYPE, "filter");
        });
    }

    /// Makes a rule, the last one of its chain.
    pub fn rule(&mut self, family: u8, chain: &str, expressions: impl FnOnce(&mut Writer)) {
        self.message(libc::NFT_MSG_NEWRULE, CREATE | APPEND, family, |it| {
            it.text(RULE_CHAIN, chain);
            it.nested(RULE_EXPRESSIONS, expressions);
        });
    }

    /// Adds elements to a set. Returns the number of the message.
    pub fn add(&mut self, family: u8, set: &str, elements: impl FnOnce(&mut Writer)) -> u32 {
        self.elements(libc::NFT_MSG_NEWSETELEM, CREATE, family, set, elements)
    }

    /// Removes elements that are there. Returns the number of the message.
    pub fn remove(&mut self, family: u8, set: &str, elements: impl FnOnce(&mut Writer)) -> u32 {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, family, set, elements)
    }

    fn elements(
        &mut self,
        kind: i32,
        flags: u16,
        family: u8,
        set: &str,
        elements: impl FnOnce(&mut Writer),
    ) -> u32 {
        self.message(kind, flags, family, |it| {
            it.text(ELEMENTS_SET, set);
            it.nested(ELEMENTS, elements);
        })
    }

    fn message(
        &mut self,
        kind: i32,
        flags: u16,
        family: u8,
        body: impl FnOnce(&mut Writer),
    ) -> u32 {
        self.awaited = self.writer.message(SUBSYSTEM | kind as u16, flags, |it| {
            about(it, family, &self.table);
            body(it);
        });
        self.awaited
    }
}

/// The head that all but the boundaries share.
fn about(it: &mut Writer, family: u8, table: &str) {
    it.put(&[family, 0, 0, 0]);
    it.text(TABLE, table);
}

/// The beginning, or the end, of what takes effect together.
fn boundary(writer: &mut Writer, kind: u16) -> u32 {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    writer.message(kind, 0, |it| it.put(&[0, 0, high, low]))
}

/// A value.
pub fn data(it: &mut Writer, kind: u16, value: &[u8]) {
    it.nested(kind, |it| it.attribute(DATA_VALUE, value));
}

/// A part of a rule.
pub fn expression(it: &mut Writer, name: &str, body: impl FnOnce(&mut Writer)) {
    it.nested(LIST_ITEM, |it| {
        it.text(1, name);
        it.nested(2, body);
    });
}

/// Loads a part of the packet.
pub fn load(it: &mut Writer, base: Base, offset: u32, length: u32, register: u32) {
    expression(it, "payload", |it| {
        for (kind, value) in [(1, register), (2, base as u32), (3, offset), (4, length)] {
            it.number(kind, value);
        }
    });
}

/// Loads the protocol of the layer above the network's.
pub fn protocol(it: &mut Writer, register: u32) {
    expression(it, "meta", |it| {
        it.number(1, register);
        it.number(2, META_PROTOCOL);
    });
}

/// Goes on only if [`REGISTER`] compares so (`NFT_CMP_*`).
pub fn compare(it: &mut Writer, how: i32, value: &[u8]) {
    expression(it, "cmp", |it| {
        it.number(1, REGISTER);
        it.number(2, how as u32);
        data(it, 3, value);
    });
}

/// Goes on only if [`REGISTER`] says this.
pub fn is(it: &mut Writer, value: &[u8]) {
    compare(it, libc::NFT_CMP_EQ, value);
}

/// Goes on only if what is in the register is in the set; or is not, as the flags say.
pub fn look_up(it: &mut Writer, set: Set, register: u32, flags: u32) {
    expression(it, "lookup", |it| {
        it.text(1, set.name);
        it.number(2, register);
        it.number(4, set.id);
        it.number(5, flags);
    });
}

/// What becomes of the packet.
pub fn verdict(it: &mut Writer, verdict: i32) {
    expression(it, "immediate", |it| {
        it.number(1, libc::NFT_REG_VERDICT as u32);
        it.nested(2, |it| it.nested(DATA_VERDICT, |it| it.number(1, verdict as u32)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_instances_share_a_table() {
        let table = [
            (None, "edgevip"),
            (Some("one"), "edgevip_one"),
            (Some("a b"), "edgevip_a.20b"),
            (Some("a_b"), "edgevip_a_b"),
            (Some("a.20b"), "edgevip_a.2e20b"),
            (Some("ä\"; flush ruleset"), "edgevip_.c3.a4.22.3b.20flush.20ruleset"),
        ];
        for (instance, name) in table {
            assert_eq!(table_name(instance), name);
        }
        assert_eq!(table_name(Some(&"x".repeat(1_000))).len(), 200);
    }
}
