//! The form all netlink messages share: a header, a body, attributes in attributes.

use std::iter;

const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_F_NESTED`, which strict kernels want to see.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: the number without the two flags above it.
const KIND: u16 = 0x3fff;

/// Messages being written, one after another.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    next: u32,
    last: usize,
}

impl Writer {
    /// Begins; the first message gets this number.
    pub fn new(next: u32) -> Self {
        Self { bytes: Vec::with_capacity(256), next, last: 0 }
    }

    /// Writes a message and returns its number.
    pub fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Self)) -> u32 {
        self.last = self.bytes.len();
        let number = self.next;
        self.next += 1;
        self.put(&[0; 4]);
        self.put(&kind.to_ne_bytes());
        self.put(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.put(&number.to_ne_bytes());
        self.put(&[0; 4]);
        body(self);
        let length = (self.bytes.len() - self.last) as u32;
        self.bytes[self.last..][..4].copy_from_slice(&length.to_ne_bytes());
        number
    }

    /// Asks for an answer to the last message even if all is well.
    pub fn ask_for_answer(&mut self) -> u32 {
        let low = usize::from(cfg!(target_endian = "big"));
        self.bytes[self.last + 6 + low] |= libc::NLM_F_ACK as u8;
        self.next - 1
    }

    /// Appends bytes as they are.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Appends an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.put(&((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes());
        self.put(&kind.to_ne_bytes());
        self.put(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Appends an attribute that is a string.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// Appends an attribute that is a number in network order, as netfilter wants it.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Appends an attribute made of attributes.
    pub fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        body(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..][..2].copy_from_slice(&length.to_ne_bytes());
    }

    /// The number that the next message would get.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A message as received.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub number: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The fixed part of the body, and the attributes after it.
    pub fn split<const N: usize>(&self) -> Option<(&'a [u8; N], Attributes<'a>)> {
        let (fixed, rest) = self.body.split_first_chunk::<N>()?;
        Some((fixed, Attributes(rest)))
    }
}

/// The messages in what was received, up to the first that is malformed.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let whole = bytes.get(..length)?;
        let message = Message {
            kind: u16_at(whole, 4)?,
            flags: u16_at(whole, 6)?,
            number: u32_at(whole, 8)?,
            body: whole.get(HEADER..)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes, one after another, up to the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of that kind.
    pub fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(it, _)| *it == kind).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & KIND;
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A number in the machine's order.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A number in the machine's order.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut writer = Writer::new(7);
        writer.message(20, 0x500, |it| {
            it.put(&[2, 32, 0, 254]);
            it.attribute(2, &[10, 0, 0, 1]);
            it.nested(3, |it| it.text(1, "vips"));
            it.number(4, 1);
        });
        assert_eq!(writer.message(21, 0, |it| it.put(&[9; 4])), 8);
        assert_eq!(writer.ask_for_answer(), 8);
        let [first, second] = messages(writer.bytes()).collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!((first.kind, first.flags, first.number), (20, 0x501, 7));
        let (fixed, attributes) = first.split::<4>().unwrap();
        assert_eq!(fixed, &[2, 32, 0, 254]);
        assert_eq!(attributes.get(2).unwrap(), [10, 0, 0, 1]);
        assert_eq!(Attributes(attributes.get(3).unwrap()).get(1).unwrap(), b"vips\0");
        assert_eq!(attributes.get(4).unwrap(), [0, 0, 0, 1]);
        assert_eq!((second.kind, second.flags, second.number), (21, 5, 8));
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let mut writer = Writer::new(1);
        writer.message(16, 0, |it| it.attribute(3, b"eth0\0"));
        let good = writer.bytes().to_vec();
        for cut in 0..good.len() {
            assert_eq!(messages(&good[..cut]).count(), 0, "cut at {cut}");
        }
        for lie in [0_u32, 1, 15, 1_000, u32::MAX] {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&lie.to_ne_bytes());
            assert_eq!(messages(&bad).count(), 0, "length {lie}");
        }
        for lie in [0_u16, 3, 100, u16::MAX] {
            let mut bad = good.clone();
            bad[16..18].copy_from_slice(&lie.to_ne_bytes());
            let message = messages(&bad).next().unwrap();
            assert_eq!(Attributes(message.body).count(), 0, "length {lie}");
        }
    }
}
