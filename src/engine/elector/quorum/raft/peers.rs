//! What the other members last said, and what may be concluded from it.

use std::time::Duration;

use super::{Raft, UNREADABLE};
use crate::model::{EntryId, Instant, Message, NodeName, RaftCall};

/// Those who are no members are remembered up to so many peers.
const MOST: usize = 64;
/// And for so long after they were last heard.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What a peer said last.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub heard_at: Instant,
    pub term: u64,
    pub newest: EntryId,
    pub floor: u64,
    pub fit: bool,
    pub knows: Knows,
    /// What to answer its question.
    pub answer: Option<RaftCall>,
    /// The question that was answered last.
    pub answered: Option<(u64, bool)>,
    /// Its question, while a leader that was heard keeps us from voting.
    pub ask: Option<Ask>,
}

/// What a peer's store says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Knows {
    /// Which cluster it belongs to: ours, or while we belong to none, any.
    Cluster,
    /// It has no entry.
    Nothing,
    /// Nobody can tell.
    Unreadable,
}

/// See [`RaftCall::AskVote`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ask {
    pub term: u64,
    pub last: EntryId,
    pub binding: bool,
    pub transfer: bool,
    pub at: Instant,
}

impl Peer {
    pub fn was_heard(&self, now: Instant, within: Duration) -> bool {
        now < self.heard_at + within
    }
}

impl Raft {
    /// Remembers what a peer says; not whether it is to be believed, but whether it is one.
    pub(super) fn note(&mut self, now: Instant, from: &NodeName, message: &Message) -> bool {
        let ours = self.ledger.head().map(|it| it.cluster);
        let knows = match message.cluster {
            None => Knows::Nothing,
            Some(UNREADABLE) => Knows::Unreadable,
            Some(_) => Knows::Cluster,
        };
        let strange = message
            .cluster
            .filter(|it| knows == Knows::Cluster && ours.is_some_and(|ours| ours != *it));
        if let Some(theirs) = strange {
            self.peers.remove(from);
            if self.strangers.len() < MOST || self.strangers.contains_key(from) {
                self.strangers.insert(from.clone(), theirs);
            }
            return false;
        }
        self.strangers.remove(from);
        let expected = self.peers.contains_key(from) || self.is_expected(from);
        if *from == self.me || (!expected && self.peers.len() >= MOST) {
            return false;
        }
        let before = self.peers.remove(from);
        let (answer, answered, ask) =
            before.map_or((None, None, None), |it| (it.answer, it.answered, it.ask));
        let peer = Peer {
            heard_at: now,
            term: message.term,
            newest: message.newest,
            floor: message.floor,
            fit: message.report.may_lead(),
            knows,
            answer,
            answered,
            ask,
        };
        self.peers.insert(from.clone(), peer);
        true
    }

    pub(super) fn forget_the_silent(&mut self, now: Instant) {
        let gone = self
            .peers
            .iter()
            .filter(|(name, it)| !it.was_heard(now, REMEMBERED) && !self.is_expected(name));
        for name in gone.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.peers.remove(&name);
        }
    }

    /// Whether it has a store of this cluster and was heard lately, or is this member.
    pub(super) fn is_present(&self, now: Instant, name: &NodeName) -> bool {
        self.is_such(name, |it| it.was_heard(now, self.timing.promise))
    }

    /// Whether it is of this cluster, and what is asked is true of it, or is this member.
    pub(super) fn is_such(&self, name: &NodeName, is: impl Fn(&Peer) -> bool) -> bool {
        let peer = || self.peers.get(name).filter(|it| it.knows == Knows::Cluster);
        *name == self.me || peer().is_some_and(is)
    }

    /// The highest term that this member or another is in, or may have voted in.
    pub(super) fn highest(&self) -> u64 {
        let peers = self.peers.values().filter(|it| it.knows == Knows::Cluster);
        let peers = peers.map(|it| it.term.max(it.floor)).max();
        self.term.max(self.ledger.floor()).max(peers.unwrap_or(0))
    }

    fn is_expected(&self, name: &NodeName) -> bool {
        let entries = [self.ledger.newest(), self.ledger.head()];
        let member = entries.iter().flatten().any(|it| it.members.contains_key(name));
        member || self.listed.contains_key(name)
    }
}
