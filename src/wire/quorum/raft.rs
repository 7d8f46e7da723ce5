//! Calls of raft, and the entry of its log.

use super::BadDatagram;
use super::reader::{Coded, Reader};
use super::writer::{Write, Writer};
use crate::model::{Entry, EntryId, Member, MemberRole, Promised, RaftCall, Wishes};

impl Write for RaftCall {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        match self {
            Self::Append(entry) => {
                to.bytes(&[1]);
                to.put(entry.as_ref());
            }
            Self::AskVote { term, last, binding, transfer } => {
                to.bytes(&[2]);
                to.put(term);
                to.put(last);
                to.put(binding);
                to.put(transfer);
            }
            Self::Vote { term, binding, granted, promises } => {
                to.bytes(&[3]);
                to.put(term);
                to.put(binding);
                to.put(granted);
                to.put(promises);
            }
            Self::StandNow => to.bytes(&[4]),
            Self::Forward { number, call } => {
                to.bytes(&[5]);
                to.put(number);
                to.put(call);
            }
            Self::Forwarded { number, outcome } => {
                to.bytes(&[6]);
                to.put(number);
                to.put(outcome);
            }
        }
    }
}

impl Coded for RaftCall {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        match from.byte()? {
            1 => Entry::read(from).map(|it| Self::Append(Box::new(it))),
            2 => Ok(Self::AskVote {
                term: from.get("asked term")?,
                last: from.get("asked last")?,
                binding: from.get("asked binding")?,
                transfer: from.get("asked transfer")?,
            }),
            3 => Ok(Self::Vote {
                term: from.get("vote term")?,
                binding: from.get("vote binding")?,
                granted: from.get("vote granted")?,
                promises: from.get("vote promises")?,
            }),
            4 => Ok(Self::StandNow),
            5 => Ok(Self::Forward { number: from.get("order number")?, call: from.get("order")? }),
            6 => Ok(Self::Forwarded {
                number: from.get("order number")?,
                outcome: from.get("order outcome")?,
            }),
            _ => Err(from.bad()),
        }
    }
}

impl Write for Entry {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.id);
        to.put(&self.cluster);
        to.put(&self.members);
        to.put(&self.before);
        to.put(&self.longest);
        to.put(&self.wishes);
    }
}

impl Coded for Entry {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self {
            id: from.get("entry id")?,
            cluster: from.get("entry cluster")?,
            members: from.get("members")?,
            before: from.get("voters before")?,
            longest: from.get("longest promise")?,
            wishes: from.get("wishes")?,
        })
    }
}

impl Write for EntryId {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.term);
        to.put(&self.index);
    }
}

impl Coded for EntryId {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self { term: Coded::read(from)?, index: Coded::read(from)? })
    }
}

impl Write for Member {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.address);
        to.put(&self.role);
    }
}

impl Coded for Member {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self { address: Coded::read(from)?, role: Coded::read(from)? })
    }
}

impl Write for MemberRole {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.bytes(&[match self {
            Self::Learner => 1,
            Self::Voter => 2,
            Self::Witness => 3,
        }]);
    }
}

impl Coded for MemberRole {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        match from.byte()? {
            1 => Ok(Self::Learner),
            2 => Ok(Self::Voter),
            3 => Ok(Self::Witness),
            _ => Err(from.bad()),
        }
    }
}

impl Write for Wishes {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.drained);
        to.put(&self.placed);
    }
}

impl Coded for Wishes {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self { drained: from.get("drained")?, placed: from.get("placed")? })
    }
}

impl Write for Promised {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.vip);
        to.put(&self.to);
        to.put(&self.epoch);
    }
}

impl Coded for Promised {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self {
            vip: from.get("promised VIP")?,
            to: from.get("promised to")?,
            epoch: from.get("promised epoch")?,
        })
    }
}
