//! The sections of a message.

use super::BadDatagram;
use super::reader::{Coded, Names, Reader};
use super::writer::{Write, Writer};
use crate::model::{Ailment, Hello, Message, Report};

/// Names other than the sender's.
pub(super) const NAMES: u8 = 1;
const STATE: u8 = 2;
const RAFT: u8 = 3;
const ASSIGNMENT: u8 = 4;
const HOLD: u8 = 5;
const ANSWERS: u8 = 6;
const RELEASED: u8 = 7;
const REPORT: u8 = 8;
/// To everybody on the link; beside a message, or alone.
pub(super) const HELLO: u8 = 9;
const KNOWN: usize = HELLO as usize + 1;

/// The values of the sections that are known, by number.
pub(super) type Sections<'a> = [Option<&'a [u8]>; KNOWN];

pub(super) fn write<'a>(to: &mut Writer<'a>, it: &'a Message) {
    to.section(STATE, |to| {
        to.put(&it.term);
        to.put(&it.leader);
        to.put(&it.cluster);
        to.put(&it.newest);
        to.put(&it.committed);
        to.put(&it.floor);
        to.put(&it.stamp);
        to.put(&it.echo);
    });
    list(to, RAFT, &it.raft);
    if let Some(assignment) = &it.assignment {
        to.section(ASSIGNMENT, |to| to.put(assignment));
    }
    if let Some(hold) = &it.hold {
        to.section(HOLD, |to| to.put(hold));
    }
    list(to, ANSWERS, &it.answers);
    list(to, RELEASED, &it.released);
    if it.report != Report::default() {
        to.section(REPORT, |to| to.put(&it.report));
    }
}

fn list<'a, T: Write>(to: &mut Writer<'a>, number: u8, list: &'a Vec<T>) {
    if !list.is_empty() {
        to.section(number, |to| to.put(list));
    }
}

/// In the order of their numbers, each once; and whether all are known.
pub(super) fn sections(mut from: Reader<'_>) -> Result<(Sections<'_>, bool), BadDatagram> {
    let mut known = Sections::default();
    let (mut last, mut understood) = (0, true);
    while !from.is_empty() {
        let number: u8 = from.get("section")?;
        if number <= last {
            return Err(from.bad());
        }
        last = number;
        let value = from.counted()?;
        match known.get_mut(usize::from(number)) {
            Some(it) => *it = Some(value),
            None => understood = false,
        }
    }
    Ok((known, understood))
}

pub(super) fn read(it: &Sections<'_>, names: &Names) -> Result<Option<Message>, BadDatagram> {
    let value = |number: u8| it[usize::from(number)];
    let Some(state) = value(STATE) else {
        let alone = (RAFT..=REPORT).all(|number| value(number).is_none());
        return if alone { Ok(None) } else { Err(BadDatagram::Malformed("state")) };
    };
    let from = &mut Reader::section(state, names);
    let message = Message {
        term: from.get("term")?,
        leader: from.get("leader")?,
        cluster: from.get("cluster")?,
        newest: from.get("newest")?,
        committed: from.get("committed")?,
        floor: from.get("floor")?,
        stamp: from.get("stamp")?,
        echo: whole(from, "message echo")?,
        raft: filled(value(RAFT), names, "raft")?,
        assignment: section(value(ASSIGNMENT), names, "assignment")?,
        hold: section(value(HOLD), names, "hold")?,
        answers: filled(value(ANSWERS), names, "answers")?,
        released: filled(value(RELEASED), names, "released")?,
        report: section(value(REPORT), names, "report")?.unwrap_or_default(),
    };
    if value(REPORT).is_some() && message.report == Report::default() {
        return Err(BadDatagram::Malformed("report"));
    }
    Ok(Some(message))
}

pub(super) fn hello(it: &Sections<'_>, names: &Names) -> Result<Option<Hello>, BadDatagram> {
    section(it[usize::from(HELLO)], names, "hello")
}

/// A list that is left out where it is empty.
fn filled<T: Coded>(
    bytes: Option<&[u8]>,
    names: &Names,
    field: &'static str,
) -> Result<Vec<T>, BadDatagram> {
    match section::<Vec<T>>(bytes, names, field)? {
        Some(list) if list.is_empty() => Err(BadDatagram::Malformed(field)),
        list => Ok(list.unwrap_or_default()),
    }
}

fn section<T: Coded>(
    bytes: Option<&[u8]>,
    names: &Names,
    field: &'static str,
) -> Result<Option<T>, BadDatagram> {
    bytes.map(|it| whole(&mut Reader::section(it, names), field)).transpose()
}

/// What nothing comes behind.
fn whole<T: Coded>(from: &mut Reader<'_>, field: &'static str) -> Result<T, BadDatagram> {
    let value = from.get(field)?;
    if from.is_empty() { Ok(value) } else { Err(BadDatagram::Malformed(field)) }
}

impl Write for Report {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.ailments);
        to.put(&self.penalty);
        to.put(&self.leaving);
        to.put(&self.unable);
        to.put(&self.ready);
    }
}

impl Coded for Report {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self {
            ailments: from.get("ailments")?,
            penalty: from.get("penalty")?,
            leaving: from.get("leaving")?,
            unable: from.get("unable")?,
            ready: from.get("ready")?,
        })
    }
}

impl Write for Ailment {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.bytes(&[match self {
            Self::Carrier => 1,
            Self::Check => 2,
            Self::Health => 3,
            Self::Late => 4,
            Self::Store => 5,
        }]);
    }
}

impl Coded for Ailment {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        match from.byte()? {
            1 => Ok(Self::Carrier),
            2 => Ok(Self::Check),
            3 => Ok(Self::Health),
            4 => Ok(Self::Late),
            5 => Ok(Self::Store),
            _ => Err(from.bad()),
        }
    }
}
