//! Who leads, who belongs, and what operators want: raft.
//!
//! ```text
//!            founded, or told an entry         leader silent for promise + step x rank
//!   (blank) ───────────────────────▶ Follower ───────────────────────▶ Candidate, asking
//!                                     ▲    ▲  │ told to stand           │ a majority would
//!              leader of the term,    │    │  └───────────────────────┐ ▼
//!              or a higher term heard │    └──────────────────────── Candidate, binding
//!                                     │      too few votes            │   ▲ its term is
//!              no majority heard      │                               ▼   │ too low
//!              for promise            └────────────────────────────── Leader
//! ```
//!
//! Supported: elections with pre-vote, priority by rank, votes kept from a candidate while a
//! leader is heard, leaders that resign without a majority, transfer, and one voter more or
//! less at a time. Left out on purpose: a log of more than one entry (each entry is whole, so
//! members need only the newest, and an append is its own snapshot), joint consensus, reads
//! through the log, and a current term on disk (see the ledger).

mod election;
mod log;
mod peers;
mod proposals;
mod questions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::discovery::Pact;
use peers::Peer;
use proposals::{Applying, Proposal};

use super::super::super::{Cx, Deadline, Rng};
use super::ledger::Ledger;
use super::{QuorumConfig, QuorumTiming};
use crate::model::{EntryId, Instant, Members, Message, NodeName, Promised, RaftCall};

/// What stands for the cluster of a member that cannot read its store: it may belong to any.
pub(crate) const UNREADABLE: u64 = 0;

/// One member's raft.
#[derive(Clone, Debug)]
pub(crate) struct Raft {
    me: NodeName,
    timing: QuorumTiming,
    listed: Members,
    found_alone: bool,
    /// Members find each other, and this is what they have agreed on.
    pact: Option<Pact>,
    /// Others say when to found: [`Raft::found`].
    founds_when_told: bool,
    started_at: Instant,
    fit: bool,
    retired: bool,
    ledger: Ledger,
    term: u64,
    /// Who has this member's vote in `term`.
    vote: Option<NodeName>,
    /// The last term voted in, in this life.
    voted: u64,
    /// The highest term that a vote was asked for.
    asked: u64,
    role: Role,
    committed: EntryId,
    peers: BTreeMap<NodeName, Peer>,
    strangers: BTreeMap<NodeName, u64>,
    heard_leader: Option<(NodeName, Instant)>,
    patience: Patience,
    rank: u32,
    urgent: BTreeSet<NodeName>,
    inherited: Vec<Promised>,
    proposals: VecDeque<Proposal>,
    applying: Option<Applying>,
    /// The entry of this leader's that is not committed, and since when.
    waiting: Option<(EntryId, Instant)>,
}

#[derive(Clone, Debug)]
enum Role {
    Follower {
        leader: Option<NodeName>,
    },
    Candidate {
        /// It would lead in this one.
        term: u64,
        round: Round,
        /// Whether the votes count, or are only talked about.
        binding: bool,
        votes: BTreeMap<NodeName, Vec<Promised>>,
    },
    Leader {
        /// When it learnt that an entry of its own term was committed.
        committed_at: Option<Instant>,
        /// Who is to lead instead; if it does not by then, nothing has changed.
        handing: Option<(NodeName, Instant)>,
        /// The voters may be changed again then.
        change_at: Option<Instant>,
    },
}

/// Why somebody stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Round {
    /// It leads, and its term turned out to be too low.
    Again,
    /// It has missed the leader.
    Missed,
    /// The leader asked it to.
    Transfer,
}

/// When to stand: so long after that, and later by rank.
#[derive(Clone, Copy, Debug)]
struct Patience {
    from: Instant,
    wait: Duration,
    chance: Duration,
}

/// What this node's voter has promised: it goes with its vote.
type Promises<'a> = &'a dyn Fn() -> Vec<Promised>;

impl Raft {
    pub fn new(me: NodeName, config: &QuorumConfig, now: Instant, rng: &mut Rng) -> Self {
        let ledger = Ledger::new(config.stored.clone(), config.farewell.as_ref());
        let wait = config.timing.promise;
        let chance = chance(&config.timing, rng);
        Self {
            me,
            timing: config.timing,
            listed: config.listed.clone(),
            found_alone: config.found_alone,
            pact: config.discover.as_ref().map(|_| Pact::default()),
            founds_when_told: config.api.as_ref().is_some_and(|it| it.nodes.is_some()),
            started_at: now,
            fit: true,
            retired: false,
            // Else it would say that it knows an entry of a term above its own.
            term: ledger.newest().map_or(0, |it| it.id.term),
            committed: ledger.committed(),
            ledger,
            vote: None,
            voted: 0,
            asked: 0,
            role: Role::Follower { leader: None },
            peers: BTreeMap::new(),
            strangers: BTreeMap::new(),
            heard_leader: None,
            patience: Patience { from: now, wait, chance },
            rank: 0,
            urgent: BTreeSet::new(),
            inherited: Vec::new(),
            proposals: VecDeque::new(),
            applying: None,
            waiting: None,
        }
    }

    /// A member says something.
    pub fn on_message(
        &mut self,
        cx: &mut Cx<'_>,
        from: &NodeName,
        message: &Message,
        promises: Promises<'_>,
    ) {
        if !self.note(cx.now, from, message) {
            return;
        }
        match message.cluster {
            None | Some(UNREADABLE) => {}
            Some(_) if self.is_blank() => self.on_word_to_the_blank(cx, from, message),
            Some(_) => self.on_word(cx, from, message, promises),
        }
        self.settle(cx);
    }

    /// The answer to [`Action::Store`](super::super::super::Action::Store).
    pub fn on_stored(&mut self, cx: &mut Cx<'_>, number: u64, failure: Option<String>) {
        let before = self.newest();
        let was_blank = self.is_blank();
        self.ledger.on_stored(cx.now, number, failure);
        if was_blank && !self.is_blank() {
            self.be_patient(cx, self.timing.promise);
        }
        if self.newest() != before {
            match &self.role {
                Role::Follower { leader: Some(leader) } => {
                    self.urgent.insert(leader.clone());
                }
                Role::Candidate { .. } | Role::Follower { .. } | Role::Leader { .. } => {
                    self.urgent.extend(self.others());
                }
            }
        }
        self.settle(cx);
    }

    /// Time has passed.
    pub fn tick(&mut self, cx: &mut Cx<'_>, promises: Promises<'_>) {
        self.answer_those_who_wait(cx, promises);
        self.settle(cx);
    }

    /// Those who may be heard while this member belongs to no cluster.
    pub fn list(&mut self, listed: Members) {
        self.listed = listed;
    }

    /// Whether nothing speaks against this node's leading: the fit lead first.
    pub fn set_fit(&mut self, fit: bool) {
        self.fit = fit;
    }

    /// Votes and stands no more. Says what the last term was that it may have voted in.
    pub fn retire(&mut self) -> u64 {
        self.retired = true;
        self.voted.max(self.ledger.floor())
    }

    /// What goes into the next message to this member.
    pub fn calls(&mut self, to: &NodeName) -> Vec<RaftCall> {
        self.urgent.remove(to);
        let answer = self.peers.get_mut(to).and_then(|it| it.answer.take());
        let (question, append) = (self.question_for(to), self.append_for(to));
        let handover = self.handing_to().filter(|it| *it == to).map(|_| RaftCall::StandNow);
        [answer, question, append, handover].into_iter().flatten().collect()
    }

    /// When [`Raft::tick`] is next needed.
    pub fn deadline(&self) -> Option<Deadline> {
        let stand = self.stand_at().map(|at| Deadline { at, why: "stand for election" });
        let waiting = self.peers.values().any(|it| it.ask.is_some());
        let answer = self.heard_leader.as_ref().filter(|_| waiting && !self.leads());
        let answer = answer.map(|(_, heard_at)| Deadline {
            at: *heard_at + self.timing.promise,
            why: "answer a candidate",
        });
        let founding = self.found_at().map(|at| Deadline { at, why: "found a cluster alone" });
        let leading = self.leading_deadline();
        [stand, answer, founding, leading, self.ledger.deadline()].into_iter().flatten().min()
    }

    /// A member of our cluster says something.
    fn on_word(
        &mut self,
        cx: &mut Cx<'_>,
        from: &NodeName,
        message: &Message,
        promises: Promises<'_>,
    ) {
        self.on_term(cx, from, message);
        if message.term == self.term && message.leader.as_ref() == Some(from) {
            self.follow(cx, from);
        }
        self.learn_committed(message.committed);
        let member = self.entry().is_some_and(|it| it.members.contains_key(from));
        if self.leads() && !member && message.newest != self.newest() {
            // Who was removed hears of it, once for each word of its own.
            self.urgent.insert(from.clone());
        }
        for call in &message.raft {
            match call {
                RaftCall::Append(entry) => self.take(from, message, entry),
                RaftCall::AskVote { term, last, binding, transfer } => {
                    let ask = peers::Ask {
                        term: *term,
                        last: *last,
                        binding: *binding,
                        transfer: *transfer,
                        at: cx.now,
                    };
                    self.on_ask(cx, from, ask, promises);
                }
                RaftCall::Vote { term, binding, granted, promises } => {
                    if *granted {
                        self.on_vote(from, (*term, *binding), promises);
                    }
                }
                // What operators ask is looked at before raft.
                RaftCall::Forward { .. } | RaftCall::Forwarded { .. } => {}
                RaftCall::StandNow => {
                    let asked_by_leader = message.term == self.term
                        && matches!(&self.role, Role::Follower { leader: Some(it) } if it == from);
                    if asked_by_leader {
                        self.stand(cx, Round::Transfer);
                    }
                }
            }
        }
    }

    /// Whatever follows from what is known. After each change of it.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        self.forget_the_silent(cx.now);
        self.rank = self.rank_at(cx.now);
        if self.stand_at().is_some_and(|at| at <= cx.now) {
            self.stand(cx, Round::Missed);
        }
        self.found_if_due(cx);
        self.lead(cx);
        if self.ledger.head().is_some() {
            self.ledger.reserve_above(self.highest().max(self.asked));
        }
        self.ledger.reconcile(cx);
    }

    fn others(&self) -> Vec<NodeName> {
        let members = self.entry().map_or(&self.listed, |it| &it.members);
        members.keys().filter(|it| **it != self.me).cloned().collect()
    }
}

fn chance(timing: &QuorumTiming, rng: &mut Rng) -> Duration {
    Duration::from_nanos(rng.below(timing.spread.as_nanos() as u64 + 1))
}
