//! What members of a quorum say to each other, as datagrams.
//!
//! ```text
//! "EV" version │ from, life, echo, count │ section … │ tag
//!                                          number, length, value
//! ```
//!
//! Supported: version 1. Numbers are LEB128 in their shortest form, durations are whole
//! microseconds, a name is written once and then meant by its place in the list of names.
//! The tag is HMAC-SHA-256 (RFC 2104) over all that is before it. There is one way to write
//! an [`Envelope`], and what is written in another is refused. What a later version has to
//! add goes into sections of its own behind those known here, where it is skipped; anything
//! else is a new version. Left out on purpose: secrecy, and the scope of an IPv6 address,
//! which means something on one host only.

mod hello;
mod holds;
mod keys;
mod orders;
mod raft;
mod reader;
mod said;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::keys::Keys;
use self::reader::{Names, Reader};
use self::writer::Writer;
use crate::model::Envelope;

/// No datagram is longer, tag included.
pub const LONGEST: usize = 60_000;

const MAGIC: [u8; 2] = *b"EV";
const VERSION: u8 = 1;
/// Bytes of a tag.
const TAG: usize = 32;

/// A datagram with its tag, made with the current key.
pub fn seal(keys: &Keys, it: &Envelope) -> Vec<u8> {
    let mut bytes = encode(it);
    let tag = keys.tag(&bytes);
    bytes.extend(tag.as_ref());
    bytes
}

/// What a datagram says, if it was made with one of the keys.
pub fn open(keys: &Keys, bytes: &[u8]) -> Result<Envelope, BadDatagram> {
    if bytes.len() > LONGEST {
        return Err(BadDatagram::TooLong);
    }
    let Some((body, tag)) = bytes.split_last_chunk::<TAG>() else {
        return Err(BadDatagram::Short);
    };
    version(&mut Reader::header(body))?;
    if !keys.made(body, tag) {
        return Err(BadDatagram::Key);
    }
    decode(body).map(|(envelope, _)| envelope)
}

/// A datagram without its tag.
pub fn encode(it: &Envelope) -> Vec<u8> {
    let mut sections = Writer::new(&it.from);
    if let Some(message) = &it.message {
        said::write(&mut sections, message);
    }
    if let Some(hello) = &it.hello {
        sections.section(said::HELLO, |to| to.put(&**hello));
    }
    let mut whole = Writer::new(&it.from);
    whole.bytes(&MAGIC);
    whole.bytes(&[VERSION]);
    whole.text(&it.from);
    whole.put(&it.life);
    whole.put(&it.echo);
    whole.put(&it.count);
    let (names, sections) = sections.finish();
    if !names.is_empty() {
        whole.section(said::NAMES, |to| names.iter().for_each(|it| to.text(it)));
    }
    whole.bytes(&sections);
    whole.finish().1
}

/// What a datagram without its tag says, and whether all of it was understood: `false` where
/// sections of a later version were skipped.
pub fn decode(body: &[u8]) -> Result<(Envelope, bool), BadDatagram> {
    let mut header = Reader::header(body);
    version(&mut header)?;
    let from = header.text("from")?;
    let life = header.get("life")?;
    let echo = header.get("echo")?;
    let count = header.get("count")?;
    let (sections, understood) = said::sections(header)?;
    let names = Names::read(&from, sections[usize::from(said::NAMES)])?;
    let message = said::read(&sections, &names)?.map(Box::new);
    let hello = said::hello(&sections, &names)?.map(Box::new);
    if understood && !names.all_met() {
        return Err(BadDatagram::Malformed("names"));
    }
    Ok((Envelope { from, life, echo, count, message, hello }, understood))
}

fn version(header: &mut Reader<'_>) -> Result<(), BadDatagram> {
    let Some([one, two, version]) = header.chunk() else {
        return Err(BadDatagram::Short);
    };
    if [one, two] != MAGIC {
        return Err(BadDatagram::Malformed("magic"));
    }
    if version == VERSION { Ok(()) } else { Err(BadDatagram::Version) }
}

/// Why a datagram is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadDatagram {
    /// It was made with another key, or broken on the way.
    Key,
    /// This part of it is not as it must be.
    Malformed(&'static str),
    /// There is no room for a tag in it.
    Short,
    /// Longer than [`LONGEST`].
    TooLong,
    /// Of a version that is not known.
    Version,
}

impl BadDatagram {
    /// The code that log, metric and status share.
    pub fn code(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Malformed(_) => "malformed",
            Self::Short => "short",
            Self::TooLong => "too-long",
            Self::Version => "version",
        }
    }
}

impl fmt::Display for BadDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("made with another key, or broken on the way"),
            Self::Malformed(field) => write!(f, "malformed: {field}"),
            Self::Short => f.write_str("too short for a tag"),
            Self::TooLong => write!(f, "longer than {LONGEST} bytes"),
            Self::Version => f.write_str("of a version that is not known"),
        }
    }
}
