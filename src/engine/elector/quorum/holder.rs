//! What this member holds: its own lease of each VIP, by a majority's promises.
//!
//! ```text
//!            want                    majority                  stop
//!   nothing ──────▶ asking, silent ──────────▶ entitled ──────────────▶ closing
//!      ▲                  ▲          until passed │                        │ kernel silent
//!      └───── a higher epoch is heard ── released ◀────────────────────────┘
//! ```
//!
//! The right to answer is counted from before the hold was sent, for 0.84 of the promise
//! asked for, and is never lengthened otherwise. Acknowledgements of holds sent before the
//! VIP was wanted, or before doubt arose, do not count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Entry, EntryId, Epoch, Hold, HoldAnswer, Instant, NodeName, Released, Vip};

/// Holds whose answers may still come.
const REMEMBERED: usize = 16;

/// How much of a promise a holder trusts: the fastest clock may run 1.19 times as fast as
/// the slowest.
pub(crate) fn trusted(promise: Duration) -> Duration {
    promise * 21 / 25
}

/// The VIPs of this member.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Holder {
    last_id: u64,
    held: BTreeMap<Vip, Held>,
    released: BTreeMap<Vip, Gone>,
    sent: VecDeque<Sent>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Held {
    epoch: Epoch,
    state: State,
    /// Acknowledgements of holds up to this one do not count.
    after: u64,
    /// The last hold that asked for it.
    last: u64,
    until: Option<Instant>,
}

/// What was given up, since when, and whether a later epoch was heard of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Gone {
    released: Released,
    at: Instant,
    overtaken: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Wanted,
    Closing,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Sent {
    id: u64,
    at: Instant,
    length: Duration,
    config: EntryId,
    /// What was asked for, in order.
    vips: Vec<Vip>,
    /// Who promised all of it, and who some.
    promised: BTreeSet<NodeName>,
    partly: BTreeMap<NodeName, BTreeSet<Vip>>,
}

impl Sent {
    /// Notes what a member promised; it may answer in parts, and with what was not asked for.
    fn note(&mut self, from: &NodeName, acknowledged: &[Vip]) {
        if acknowledged == self.vips {
            self.promised.insert(from.clone());
        } else {
            let asked = acknowledged.iter().filter(|it| self.vips.binary_search(it).is_ok());
            self.partly.entry(from.clone()).or_default().extend(asked);
        }
    }

    fn has(&self, name: &NodeName, vip: Vip) -> bool {
        self.promised.contains(name) || self.partly.get(name).is_some_and(|it| it.contains(&vip))
    }

    /// How many promised it, voters or not.
    fn count(&self, vip: Vip) -> usize {
        let partly = self.partly.iter().filter(|it| !self.promised.contains(it.0));
        self.promised.len() + partly.filter(|it| it.1.contains(&vip)).count()
    }
}

impl Holder {
    /// Wants the VIP in this epoch. One that is being given up is given up first.
    pub fn want(&mut self, vip: Vip, epoch: Epoch) {
        match self.held.get_mut(&vip) {
            Some(it) => {
                if it.state == State::Wanted {
                    it.epoch = it.epoch.max(epoch);
                }
            }
            None => {
                let (after, last) = (self.last_id, self.last_id);
                let it = Held { epoch, state: State::Wanted, after, last, until: None };
                self.held.insert(vip, it);
            }
        }
    }

    /// Asks for the VIP no more, and counts no acknowledgement any more.
    pub fn stop(&mut self, vip: Vip) {
        if let Some(it) = self.held.get_mut(&vip) {
            it.state = State::Closing;
            if !sabotaged(Sabotage::LateAcknowledgement) {
                it.until = None;
            }
        }
    }

    /// The kernel is known not to answer for the VIP.
    pub fn silent(&mut self, now: Instant, vip: Vip) -> Option<Released> {
        let it = self.held.get(&vip).filter(|it| it.state == State::Closing)?;
        let released = Released { vip, epoch: it.epoch, id: it.last };
        self.released.insert(vip, Gone { released, at: now, overtaken: false });
        self.held.remove(&vip);
        Some(released)
    }

    /// A decision about the VIP was heard.
    pub fn on_epoch(&mut self, vip: Vip, epoch: Epoch) {
        if let Some(it) = self.released.get_mut(&vip) {
            it.overtaken |= it.released.epoch < epoch;
        }
    }

    /// Stops telling of what is decided anew and promised by nobody any more.
    pub fn expire(&mut self, now: Instant, length: Duration) {
        self.released.retain(|_, it| !it.overtaken || now < it.at + length * 2);
    }

    /// Something spoke against the right to answer: only what is sent from here on counts.
    pub fn doubt(&mut self) {
        for it in self.held.values_mut() {
            it.after = self.last_id;
            it.until = None;
        }
    }

    /// What to ask of every voter now.
    pub fn hold(
        &mut self,
        now: Instant,
        config: EntryId,
        length: Duration,
        hurry: Duration,
    ) -> Option<Hold> {
        if !self.held.values().any(|it| it.state == State::Wanted) {
            return None;
        }
        self.last_id += 1;
        let id = self.last_id;
        let mut vips = Vec::new();
        let mut urgent = false;
        for (vip, it) in self.held.iter_mut().filter(|(_, it)| it.state == State::Wanted) {
            it.last = id;
            urgent |= it.until.is_none_or(|it| it < now + hurry);
            vips.push((*vip, it.epoch));
        }
        self.sent.push_back(Sent {
            id,
            at: now,
            length,
            config,
            vips: vips.iter().map(|it| it.0).collect(),
            promised: BTreeSet::new(),
            partly: BTreeMap::new(),
        });
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        Some(Hold { id, config, length, vips, urgent })
    }

    /// A voter answered a hold of this life, which may be an old one. Returns the VIPs that
    /// may be answered for longer.
    pub fn on_answer(
        &mut self,
        now: Instant,
        from: &NodeName,
        answer: &HoldAnswer,
        entry: &Entry,
        committed: bool,
    ) -> Vec<Vip> {
        let mut longer = Vec::new();
        let Some(sent) = self.sent.iter_mut().find(|it| it.id == answer.id) else {
            return longer;
        };
        // Another configuration's majority says nothing about this one's.
        if sent.config != entry.id {
            return longer;
        }
        sent.note(from, &answer.acknowledged);
        let all = entry.is_majority(committed, |it| sent.promised.contains(it));
        let late = sabotaged(Sabotage::LateAcknowledgement);
        let counted_from = if sabotaged(Sabotage::CountedFromAnswer) { now } else { sent.at };
        let until = counted_from + trusted(sent.length);
        for vip in &answer.acknowledged {
            let counts = |it: &Held| (it.state == State::Wanted && sent.id > it.after) || late;
            let Some(it) = self.held.get_mut(vip).filter(|it| counts(it)) else {
                continue;
            };
            let anybody = sabotaged(Sabotage::LearnerCounted)
                && sent.count(*vip) * 2 > entry.voters().count();
            let promised = || all || entry.is_majority(committed, |it| sent.has(it, *vip));
            let asked = || sent.vips.binary_search(vip).is_ok();
            if it.until < Some(until) && (anybody || promised()) && asked() {
                it.until = Some(until);
                longer.push(*vip);
            }
        }
        longer
    }

    /// Until when this member may answer for the VIP, if it may.
    pub fn entitled_until(&self, now: Instant, vip: Vip) -> Option<Instant> {
        self.held.get(&vip)?.until.filter(|it| *it > now)
    }

    /// Whether something is asked for that may not be answered for.
    pub fn is_asking(&self, now: Instant) -> bool {
        let waits = |it: &Held| it.state == State::Wanted && it.until.is_none_or(|it| it <= now);
        self.held.values().any(waits)
    }

    /// Whether it is asked for, or may still be answered for.
    pub fn has(&self, vip: Vip) -> bool {
        self.held.contains_key(&vip)
    }

    /// The epoch in which it is asked for, if it is.
    pub fn wants(&self, vip: Vip) -> Option<Epoch> {
        self.held.get(&vip).filter(|it| it.state == State::Wanted).map(|it| it.epoch)
    }

    /// Every VIP that is asked for or being given up.
    pub fn vips(&self) -> impl Iterator<Item = Vip> + '_ {
        self.held.keys().copied()
    }

    /// What is being given up and waits for the kernel.
    pub fn closing(&self) -> Vec<Vip> {
        let closing = self.held.iter().filter(|(_, it)| it.state == State::Closing);
        closing.map(|(vip, _)| *vip).collect()
    }

    /// What was given up and is told to all.
    pub fn released(&self) -> impl Iterator<Item = Released> + '_ {
        self.released.values().map(|it| it.released)
    }

    /// Since when the VIP has been given up, if it was.
    pub fn released_at(&self, vip: Vip) -> Option<Instant> {
        self.released.get(&vip).map(|it| it.at)
    }

    /// What is asked for, each in its epoch.
    pub fn epochs(&self) -> impl Iterator<Item = (Vip, Epoch)> + '_ {
        let wanted = self.held.iter().filter(|(_, it)| it.state == State::Wanted);
        wanted.map(|(vip, it)| (*vip, it.epoch))
    }

    /// When the next right to answer ends.
    pub fn first_end(&self, now: Instant) -> Option<Instant> {
        self.held.values().filter_map(|it| it.until).filter(|it| *it > now).min()
    }
}

#[cfg(feature = "sabotage")]
mod plain;
