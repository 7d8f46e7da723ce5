use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::BadDatagram;
use super::writer::Write;
use crate::model::{Epoch, Life, NodeName, Vip};

/// RFC 1035 §2.3.4, in text: no longer name is a node's.
const LONGEST_NAME: usize = 253;

/// What can be said in a datagram and understood again.
pub(super) trait Coded: Write + Sized {
    /// Understands it.
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram>;
}

/// Bytes that are read from the front.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    names: Option<&'a Names>,
    field: &'static str,
}

impl<'a> Reader<'a> {
    /// What names nobody by place.
    pub fn header(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, names: None, field: "header" }
    }

    /// The value of a section.
    pub fn section(bytes: &'a [u8], names: &'a Names) -> Self {
        Self { rest: bytes, names: Some(names), field: "section" }
    }

    /// What is called `field` if it is not as it must be.
    pub fn get<T: Coded>(&mut self, field: &'static str) -> Result<T, BadDatagram> {
        self.field = field;
        T::read(self)
    }

    /// A name, spelt out.
    pub fn text(&mut self, field: &'static str) -> Result<NodeName, BadDatagram> {
        self.field = field;
        let bytes = self.counted()?;
        let text = str::from_utf8(bytes).map_err(|_| self.bad())?;
        if text.is_empty() || text.len() > LONGEST_NAME || text.contains(char::is_control) {
            return Err(self.bad());
        }
        Ok(NodeName(text.into()))
    }

    /// Words for people.
    pub fn words(&mut self) -> Result<String, BadDatagram> {
        let bytes = self.counted()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.bad())
    }

    /// A length, and as many bytes.
    pub fn counted(&mut self) -> Result<&'a [u8], BadDatagram> {
        let length = self.number()?;
        let length = usize::try_from(length).map_err(|_| self.bad())?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(self.bad())?;
        self.rest = rest;
        Ok(taken)
    }

    /// So many bytes, if there are.
    pub fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, BadDatagram> {
        let [byte] = self.chunk().ok_or(self.bad())?;
        Ok(byte)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The fault of what is being read.
    pub fn bad(&self) -> BadDatagram {
        BadDatagram::Malformed(self.field)
    }

    fn number(&mut self) -> Result<u64, BadDatagram> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part || (byte == 0 && shift > 0) {
                return Err(self.bad());
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.bad())
    }

    /// Each is at least a byte long, so a count above what is left is a lie.
    fn length(&mut self) -> Result<u64, BadDatagram> {
        let length = self.number()?;
        if length > self.rest.len() as u64 { Err(self.bad()) } else { Ok(length) }
    }
}

/// The names of a datagram: the sender's, and then in the order in which they are met.
pub(super) struct Names {
    list: Vec<NodeName>,
    met: Cell<usize>,
}

impl Names {
    /// From the section of that name.
    pub fn read(sender: &NodeName, section: Option<&[u8]>) -> Result<Self, BadDatagram> {
        let mut list = vec![sender.clone()];
        if let Some(bytes) = section {
            let mut from = Reader::header(bytes);
            list.push(from.text("names")?);
            while !from.is_empty() {
                list.push(from.text("names")?);
            }
        }
        if list.iter().collect::<BTreeSet<_>>().len() < list.len() {
            return Err(BadDatagram::Malformed("names"));
        }
        Ok(Self { list, met: Cell::new(1) })
    }

    /// Whether each is of use.
    pub fn all_met(&self) -> bool {
        self.met.get() == self.list.len()
    }

    fn at(&self, place: u64) -> Option<NodeName> {
        let place = usize::try_from(place).ok()?;
        if place > self.met.get() {
            return None;
        }
        let name = self.list.get(place)?.clone();
        self.met.set(self.met.get().max(place + 1));
        Some(name)
    }
}

impl Coded for u64 {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        from.number()
    }
}

impl Coded for u32 {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Self::try_from(from.number()?).map_err(|_| from.bad())
    }
}

impl Coded for u8 {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        from.byte()
    }
}

impl Coded for bool {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(from.bad()),
        }
    }
}

impl Coded for Life {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        let bytes = from.chunk().ok_or(from.bad())?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

impl Coded for Duration {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self::from_micros(from.number()?))
    }
}

impl Coded for NodeName {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        let place = from.number()?;
        from.names.and_then(|it| it.at(place)).ok_or(from.bad())
    }
}

impl Coded for Vip {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        let address = match from.byte()? {
            4 => from.chunk::<4>().map(IpAddr::from),
            6 => from.chunk::<16>().map(IpAddr::from),
            _ => None,
        };
        address.map(Self).ok_or(from.bad())
    }
}

impl Coded for SocketAddr {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        let Vip(address) = Vip::read(from)?;
        let port = from.chunk().ok_or(from.bad())?;
        Ok(Self::new(address, u16::from_be_bytes(port)))
    }
}

impl Coded for Epoch {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self { term: from.number()?, count: u32::read(from)? })
    }
}

impl<T: Coded> Coded for Option<T> {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        bool::read(from)?.then(|| T::read(from)).transpose()
    }
}

impl<A: Coded, B: Coded> Coded for (A, B) {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

impl<T: Coded> Coded for Vec<T> {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        (0..from.length()?).map(|_| T::read(from)).collect()
    }
}

impl<T: Coded + Ord> Coded for BTreeSet<T> {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        let mut set = Self::new();
        for _ in 0..from.length()? {
            let item = T::read(from)?;
            if set.last().is_some_and(|it| *it >= item) {
                return Err(from.bad());
            }
            set.insert(item);
        }
        Ok(set)
    }
}

impl<K: Coded + Ord, V: Coded> Coded for BTreeMap<K, V> {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        let mut map = Self::new();
        for _ in 0..from.length()? {
            let (key, value) = <(K, V)>::read(from)?;
            if map.last_key_value().is_some_and(|(it, _)| *it >= key) {
                return Err(from.bad());
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}
