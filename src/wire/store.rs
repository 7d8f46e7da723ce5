//! The file that a member of a quorum keeps: a line about it, and the record as JSON.
//!
//! ```text
//! edgevip-store 1 6c3f0a9be1d25478 243 5f70bf18…4a57
//! {"floor":100,"entry":{…},"committed":{…}}
//! ```
//!
//! The words of the line: what this is, the format's version, the machine's id folded, how
//! many bytes follow the line, and the SHA-256 of all else, which is of the line before it
//! and of what follows.
//!
//! *Supported:* version 1. A later version keeps the first two words.

use std::fmt;

use ring::digest::{Context, SHA256};

use crate::model::StoreRecord;

/// The longest file that is read: many times what a datagram can carry of an entry.
pub const LONGEST: usize = 1 << 20;

/// What is wrong with a file that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreFlaw {
    /// What it says is not what was written.
    Corrupt(String),
    /// Another machine wrote it.
    Foreign {
        /// The machine that wrote it.
        theirs: u64,
        /// This one.
        ours: u64,
    },
    /// In the format of a later version.
    Newer(u32),
    /// Its end is missing.
    Torn,
}

impl StoreFlaw {
    /// The code that log, metric and status share.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt(_) => "corrupt",
            Self::Foreign { .. } => "foreign",
            Self::Newer(_) => "newer",
            Self::Torn => "torn",
        }
    }
}

impl fmt::Display for StoreFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(why) => write!(f, "is damaged: {why}"),
            Self::Foreign { theirs, ours } => {
                write!(f, "is of machine {theirs:016x}, and this is {ours:016x}")
            }
            Self::Newer(version) => {
                write!(f, "has format {version}; this version reads {VERSION}")
            }
            Self::Torn => write!(f, "is cut short"),
        }
    }
}

/// The file for this record on this machine.
pub fn encode(record: &StoreRecord, machine: u64) -> Vec<u8> {
    let mut body = serde_json::to_vec(record).expect("plain values with string keys");
    body.push(b'\n');
    sealed(&body, machine)
}

/// A file with this content, whatever it is.
pub fn sealed(body: &[u8], machine: u64) -> Vec<u8> {
    let head = format!("{MAGIC}{VERSION} {machine:016x} {} ", body.len());
    let checksum = checksum(head.as_bytes(), body);
    [head.as_bytes(), checksum.as_bytes(), b"\n", body].concat()
}

/// The record in a file that this machine wrote.
pub fn decode(file: &[u8], machine: u64) -> Result<StoreRecord, StoreFlaw> {
    let Some(after) = file.strip_prefix(MAGIC.as_bytes()) else {
        let torn = MAGIC.as_bytes().starts_with(file);
        return Err(if torn { StoreFlaw::Torn } else { corrupt("it does not begin as it should") });
    };
    if let Some(version) = first_word(after).filter(|it| *it > VERSION) {
        return Err(StoreFlaw::Newer(version));
    }
    let Some(end) = file.iter().take(LONGEST_LINE).position(|it| *it == b'\n') else {
        let torn = file.len() < LONGEST_LINE;
        return Err(if torn { StoreFlaw::Torn } else { corrupt("its first line has no end") });
    };
    let (line, body) = (&file[..end], &file[end + 1..]);
    let line = Line::parse(line).ok_or_else(|| corrupt("its first line makes no sense"))?;
    if line.length > LONGEST {
        return Err(corrupt("it says that it is longer than any"));
    }
    if body.len() < line.length {
        return Err(StoreFlaw::Torn);
    }
    if body.len() > line.length {
        return Err(corrupt("it is longer than it says"));
    }
    if checksum(line.covered, body) != line.checksum {
        return Err(corrupt("the checksum is another"));
    }
    if line.machine != machine {
        return Err(StoreFlaw::Foreign { theirs: line.machine, ours: machine });
    }
    serde_json::from_slice(body).map_err(|it| corrupt(&it.to_string()))
}

const MAGIC: &str = "edgevip-store ";
const VERSION: u32 = 1;
const LONGEST_LINE: usize = 256;

/// A first line taken apart.
struct Line<'a> {
    machine: u64,
    length: usize,
    /// What of it is under the checksum.
    covered: &'a [u8],
    checksum: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(line).ok()?;
        let (before, checksum) = text.rsplit_once(' ')?;
        let covered = line.get(..=before.len())?;
        let mut words = before.strip_prefix(MAGIC)?.split(' ');
        let version: u32 = words.next()?.parse().ok()?;
        let machine = u64::from_str_radix(words.next()?, 16).ok()?;
        let length = words.next()?.parse().ok()?;
        let whole = version == VERSION && words.next().is_none();
        whole.then_some(Self { machine, length, covered, checksum })
    }
}

fn first_word(bytes: &[u8]) -> Option<u32> {
    let word = bytes.split(|it| it.is_ascii_whitespace()).next()?;
    str::from_utf8(word).ok()?.parse().ok()
}

fn checksum(line: &[u8], body: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(line);
    context.update(body);
    context.finish().as_ref().iter().map(|it| format!("{it:02x}")).collect()
}

fn corrupt(why: &str) -> StoreFlaw {
    StoreFlaw::Corrupt(why.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Entry, EntryId, Member, MemberRole, NodeName, Vip, Wishes};

    const MACHINE: u64 = 0x6c3f_0a9b_e1d2_5478;

    #[test]
    fn what_is_written_is_read() {
        for record in [StoreRecord::default(), full()] {
            let file = encode(&record, MACHINE);
            assert_eq!(decode(&file, MACHINE), Ok(record));
        }
        let empty = encode(&StoreRecord::default(), MACHINE);
        let text = String::from_utf8(empty).unwrap();
        let (line, body) = text.split_once('\n').unwrap();
        assert!(line.starts_with("edgevip-store 1 6c3f0a9be1d25478 58 "), "{line}");
        let expected = "{\"floor\":0,\"entry\":null,\"committed\":{\"term\":0,\"index\":0}}\n";
        assert_eq!(body, expected);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_torn() {
        let file = encode(&full(), MACHINE);
        for length in 0..file.len() {
            assert_eq!(decode(&file[..length], MACHINE), Err(StoreFlaw::Torn), "{length}");
        }
    }

    #[test]
    fn no_bit_can_change_unnoticed() {
        let file = encode(&full(), MACHINE);
        for place in 0..file.len() {
            for bit in 0..8 {
                let mut bent = file.clone();
                bent[place] ^= 1 << bit;
                assert!(decode(&bent, MACHINE).is_err(), "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn what_is_appended_is_noticed() {
        let mut file = encode(&full(), MACHINE);
        file.push(b'\n');
        assert_eq!(decode(&file, MACHINE).unwrap_err().code(), "corrupt");
    }

    #[test]
    fn what_another_machine_wrote_names_both() {
        let flaw = decode(&encode(&full(), 0x12), MACHINE).unwrap_err();
        assert_eq!(flaw, StoreFlaw::Foreign { theirs: 0x12, ours: MACHINE });
        let text = flaw.to_string();
        assert!(text.contains("0000000000000012") && text.contains("6c3f0a9be1d25478"), "{text}");
    }

    #[test]
    fn a_later_format_is_named_whatever_follows() {
        let table = ["edgevip-store 2\n", "edgevip-store 2 ", "edgevip-store 2 something else {"];
        for file in table {
            assert_eq!(decode(file.as_bytes(), MACHINE), Err(StoreFlaw::Newer(2)), "{file:?}");
        }
    }

    #[test]
    fn whatever_else_it_is_it_is_damaged() {
        let long = format!("{MAGIC}1 {}", "x".repeat(LONGEST));
        let table = [
            "{}",
            "edgevip-shop 1 ",
            "edgevip-store 0 0 0 0\n",
            "edgevip-store 1 6c3f0a9be1d25478 99999999999 0\n",
            "edgevip-store 1 6c3f0a9be1d25478 0\n",
            &long,
        ];
        for file in table {
            let flaw = decode(file.as_bytes(), MACHINE).unwrap_err();
            assert_eq!(flaw.code(), "corrupt", "{file:.50?}");
        }
        let sealed = sealed(b"{\"floor\":-1}", MACHINE);
        assert_eq!(decode(&sealed, MACHINE).unwrap_err().code(), "corrupt");
    }

    /// A record with something in every field.
    pub(crate) fn full() -> StoreRecord {
        let name = |it: &str| NodeName(it.into());
        let member = |address: &str, role| Member { address: address.parse().unwrap(), role };
        let members = [
            (name("a"), member("192.0.2.1:7946", MemberRole::Voter)),
            (name("b"), member("[2001:db8::2]:7946", MemberRole::Witness)),
            (name("ü\n"), member("192.0.2.3:7946", MemberRole::Learner)),
        ];
        let vip = |it: &str| Vip(it.parse().unwrap());
        let id = EntryId { term: u64::MAX, index: 7 };
        let entry = Entry {
            id,
            cluster: 0xfeed,
            members: members.into(),
            before: Some([name("a")].into()),
            longest: Duration::from_micros(120_001),
            wishes: Wishes {
                drained: [name("b")].into(),
                placed: [(vip("10.0.0.42"), name("a")), (vip("fd00::42"), name("b"))].into(),
            },
        };
        StoreRecord { floor: 1 << 60, entry: Some(entry), committed: EntryId { term: 3, index: 6 } }
    }
}
