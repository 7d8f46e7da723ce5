use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::{Epoch, Life, NodeName, Vip};

/// What can be said in a datagram.
pub(super) trait Write {
    /// Says it.
    fn write<'a>(&'a self, to: &mut Writer<'a>);
}

/// Bytes that are written, and the names that were met.
pub(super) struct Writer<'a> {
    bytes: Vec<u8>,
    names: Vec<&'a NodeName>,
    places: BTreeMap<&'a NodeName, u64>,
}

impl<'a> Writer<'a> {
    /// Nothing yet, and the sender's name.
    pub fn new(sender: &'a NodeName) -> Self {
        Self { bytes: Vec::new(), names: Vec::new(), places: BTreeMap::from([(sender, 0)]) }
    }

    /// Says it.
    pub fn put(&mut self, it: &'a impl Write) {
        it.write(self);
    }

    /// These bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// A name, spelt out.
    pub fn text(&mut self, name: &NodeName) {
        self.words(&name.0);
    }

    /// Words for people.
    pub fn words(&mut self, words: &str) {
        self.number(words.len() as u64);
        self.bytes(words.as_bytes());
    }

    /// A section, whose length is known at its end.
    pub fn section(&mut self, number: u8, value: impl FnOnce(&mut Self)) {
        let before = mem::take(&mut self.bytes);
        value(self);
        let value = mem::replace(&mut self.bytes, before);
        self.bytes(&[number]);
        self.number(value.len() as u64);
        self.bytes(&value);
    }

    /// The names that were met, without the sender's; all bytes.
    pub fn finish(self) -> (Vec<&'a NodeName>, Vec<u8>) {
        (self.names, self.bytes)
    }

    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }
}

impl Write for u64 {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.number(*self);
    }
}

impl Write for u32 {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.number(u64::from(*self));
    }
}

impl Write for u8 {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.bytes(&[*self]);
    }
}

impl Write for bool {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.bytes(&[u8::from(*self)]);
    }
}

impl Write for Life {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.bytes(&self.0.to_be_bytes());
    }
}

impl Write for Duration {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        // A promise is not to be shorter than what was asked for.
        let micros = self.as_nanos().div_ceil(1000);
        to.number(u64::try_from(micros).unwrap_or(u64::MAX));
    }
}

impl Write for NodeName {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        let next = to.places.len() as u64;
        let place = *to.places.entry(self).or_insert(next);
        if place == next {
            to.names.push(self);
        }
        to.number(place);
    }
}

impl Write for Vip {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        address(self.0, to);
    }
}

impl Write for SocketAddr {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        address(self.ip(), to);
        to.bytes(&self.port().to_be_bytes());
    }
}

fn address(ip: IpAddr, to: &mut Writer<'_>) {
    match ip {
        IpAddr::V4(it) => {
            to.bytes(&[4]);
            to.bytes(&it.octets());
        }
        IpAddr::V6(it) => {
            to.bytes(&[6]);
            to.bytes(&it.octets());
        }
    }
}

impl Write for Epoch {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.term);
        to.put(&self.count);
    }
}

impl<T: Write> Write for Option<T> {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.bytes(&[u8::from(self.is_some())]);
        if let Some(it) = self {
            to.put(it);
        }
    }
}

impl<A: Write, B: Write> Write for (A, B) {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.0);
        to.put(&self.1);
    }
}

impl<T: Write> Write for Vec<T> {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.number(self.len() as u64);
        self.iter().for_each(|it| to.put(it));
    }
}

impl<T: Write> Write for BTreeSet<T> {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.number(self.len() as u64);
        self.iter().for_each(|it| to.put(it));
    }
}

impl<K: Write, V: Write> Write for BTreeMap<K, V> {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.number(self.len() as u64);
        for (key, value) in self {
            to.put(key);
            to.put(value);
        }
    }
}
