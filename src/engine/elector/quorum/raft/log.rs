//! Founding, appending, committing.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::super::discovery::Pact;
use super::peers::{Knows, Peer};
use super::{Raft, Role, Round};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::{Cx, Deadline};
use crate::model::{
    Entry, EntryId, Instant, Members, Message, NodeName, RaftCall, Wishes, is_majority,
};

/// The entry that a cluster begins with. No leader has appended it.
const FOUNDING: EntryId = EntryId { term: 0, index: 1 };
/// A member that has lost its store may have voted in so many terms that nobody it hears
/// knows of.
const TERMS_UNKNOWN: u64 = 16;
/// A member that may found a cluster alone waits so long for the others.
const FOUND_ALONE_AFTER: Duration = Duration::from_secs(10);

/// Whoever hears a leader acknowledges what it appends within this.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

impl Raft {
    /// A message from somebody with a store to this member that has none. Its earlier life
    /// may have voted in any term that is heard of meanwhile, so it takes part above those.
    pub(super) fn on_word_to_the_blank(
        &mut self,
        cx: &mut Cx<'_>,
        from: &NodeName,
        message: &Message,
    ) {
        if message.term > self.term {
            self.adopt(cx, message.term);
        }
        let led = message.term == self.term && message.leader.as_ref() == Some(from);
        if led {
            self.follow(cx, from);
        }
        let waited = cx.now >= self.started_at + 2 * self.timing.promise;
        for call in &message.raft {
            let RaftCall::Append(entry) = call else {
                continue;
            };
            let founding =
                entry.id == FOUNDING && message.leader.is_none() && self.agreed_on(entry);
            let committed = led && waited && message.committed == entry.id;
            let wanted = self.ledger.head().is_none()
                && self.ledger.voting().is_ok()
                && entry.members.contains_key(&self.me)
                && message.cluster == Some(entry.cluster);
            if wanted && (founding || committed) {
                let first = self.pact.as_ref().is_none_or(|it| it.set.is_some());
                let unknown = if founding && first { 0 } else { TERMS_UNKNOWN };
                self.ledger.raise_floor(self.highest().saturating_add(unknown));
                self.ledger.keep((**entry).clone());
            }
        }
    }

    /// An entry is said to be newer than ours.
    pub(super) fn take(&mut self, from: &NodeName, message: &Message, entry: &Entry) {
        let Some(head) = self.ledger.head() else {
            return;
        };
        let newer = entry.id > head.id && entry.id.term <= message.term;
        if !newer || entry.cluster != head.cluster || self.leads() {
            return;
        }
        // A committed entry changes no outcome: every leader of a later term has it too.
        let committed = message.committed == entry.id;
        let current = message.term == self.term
            && message.leader.as_ref() == Some(from)
            && message.term > self.ledger.floor();
        if committed || current {
            self.ledger.keep(entry.clone());
        }
    }

    pub(super) fn learn_committed(&mut self, committed: EntryId) {
        if committed == self.newest() && committed > self.committed {
            self.committed = committed;
            self.ledger.keep_committed(committed);
        }
    }

    /// What a leader does, or a founder before there is one.
    pub(super) fn append_for(&self, to: &NodeName) -> Option<RaftCall> {
        let entry = self.ledger.newest()?;
        let peer = self.peers.get(to)?;
        let member = entry.members.contains_key(to);
        let wanted = match peer.knows {
            Knows::Cluster => self.leads() && peer.newest != entry.id,
            Knows::Nothing => member && (self.leads() || self.is_founding(entry)),
            Knows::Unreadable => false,
        };
        wanted.then(|| RaftCall::Append(Box::new(entry.clone())))
    }

    /// What is to be done by a leader, if this is one.
    pub(super) fn lead(&mut self, cx: &mut Cx<'_>) {
        let Some(entry) = self.ledger.newest().filter(|_| self.leads()) else {
            return;
        };
        if !is_majority(entry.voters(), |it| self.is_present(cx.now, it)) {
            return self.step_down(cx);
        }
        self.commit(cx);
        self.end_handing(cx);
        self.give_up_proposals(cx);
        if self.must_append(cx.now) {
            self.append_again();
        } else if self.is_idle() {
            self.next_proposal(cx);
        }
        self.stand_above_floors(cx);
    }

    pub(super) fn append(&mut self, entry: Entry) {
        self.ledger.keep(entry);
    }

    /// Whether everything that was appended is committed.
    pub(super) fn is_idle(&self) -> bool {
        self.is_committed() && self.ledger.head().map(|it| it.id) == Some(self.committed)
    }

    pub(super) fn leading_deadline(&self) -> Option<Deadline> {
        let Role::Leader { handing, change_at, .. } = &self.role else {
            return None;
        };
        let handing = handing.as_ref().map(|(_, at)| Deadline { at: *at, why: "lead on" });
        let change = change_at.map(|at| Deadline { at, why: "change the voters" });
        let silent = self.majority_until().map(|at| Deadline { at, why: "resign" });
        let order = self.proposals_until().map(|at| Deadline { at, why: "give an order up" });
        [handing, change, silent, order].into_iter().flatten().min()
    }

    /// When to found a cluster if nobody is heard until then.
    pub(super) fn found_at(&self) -> Option<Instant> {
        let heard_at = self.peers.values().map(|it| it.heard_at).max();
        let since = heard_at.unwrap_or(self.started_at);
        (self.found_alone && self.may_found()).then_some(since + FOUND_ALONE_AFTER)
    }

    pub(super) fn found_if_due(&mut self, cx: &mut Cx<'_>) {
        let unarmed = self.pact.as_ref().is_some_and(|it| !it.armed);
        if self.founds_when_told || unarmed || !self.may_found() {
            return;
        }
        let others = || self.listed.keys().filter(|it| **it != self.me);
        let first = self.listed.iter().find(|(_, it)| it.role.votes()).map(|(name, _)| name);
        let together = first == Some(&self.me)
            && others().all(|it| {
                let peer = self.peers.get(it);
                peer.is_some_and(|it| it.was_heard(cx.now, self.timing.promise))
            });
        if !together && self.found_at().is_none_or(|at| cx.now < at) {
            return;
        }
        let cluster = loop {
            let id = cx.rng.next_u64();
            if id != super::UNREADABLE {
                break id;
            }
        };
        self.begin(cluster, self.listed.clone());
    }

    /// Founds this cluster alone. Who is told to must know that there is no other.
    pub fn found(&mut self, cx: &mut Cx<'_>, cluster: u64) {
        if self.may_found() {
            let mut members = self.listed.clone();
            members.retain(|name, _| *name == self.me);
            self.begin(cluster, members);
            self.settle(cx);
        }
    }

    /// Whether all who are listed are heard, and belong to no cluster.
    pub fn hears_all_blank(&self, now: Instant) -> bool {
        let mut others = self.listed.keys().filter(|it| **it != self.me);
        others.all(|it| {
            let peer = self.peers.get(it).filter(|it| it.was_heard(now, self.timing.promise));
            peer.is_some_and(|it| it.knows == Knows::Nothing)
        })
    }

    /// Whether somebody is known who belongs to a cluster, or may.
    pub fn hears_of_a_cluster(&self) -> bool {
        self.peers.values().any(|it| it.knows != Knows::Nothing)
    }

    fn begin(&mut self, cluster: u64, members: Members) {
        self.ledger.keep(Entry {
            id: FOUNDING,
            cluster,
            members,
            before: None,
            longest: self.timing.promise,
            wishes: Wishes::default(),
        });
    }

    /// Whether this member has the right to found, and nobody is known to have a cluster.
    fn may_found(&self) -> bool {
        self.ledger.head().is_none()
            && self.ledger.voting().is_ok()
            && self.listed.get(&self.me).is_some_and(|it| it.role.votes())
            && self.peers.values().all(|it| it.knows == Knows::Nothing)
    }

    /// Whether this is the founding that this member takes part in. Where members find each
    /// other, one that is pledged to nobody takes part in any: it has room for one only, and
    /// none counts before all have it.
    fn agreed_on(&self, entry: &Entry) -> bool {
        match &self.pact {
            None => entry.members.keys().eq(self.listed.keys()),
            Some(pact) => pact.set.as_ref().is_none_or(|it| entry.members.keys().eq(it.keys())),
        }
    }

    /// These are the others, and so much is agreed with them.
    pub fn agree(&mut self, listed: &Members, pact: Pact) {
        if self.listed != *listed {
            self.listed.clone_from(listed);
        }
        self.pact = Some(pact);
    }

    /// Who has yet to say that it has the founding entry on disk: while members that found
    /// each other wait for somebody, nobody leads.
    pub fn unconfirmed(&self) -> Vec<&NodeName> {
        let found_each_other = self.pact.is_some() && !sabotaged(Sabotage::FoundedByMajority);
        let Some(entry) = self.entry().filter(|it| found_each_other && it.id == FOUNDING) else {
            return Vec::new();
        };
        let has = |name: &NodeName| self.is_such(name, |it| it.newest >= FOUNDING);
        entry.members.keys().filter(|it| !has(it)).collect()
    }

    fn is_founding(&self, entry: &Entry) -> bool {
        entry.id == FOUNDING && self.leader().is_none()
    }

    fn commit(&mut self, cx: &mut Cx<'_>) {
        let Some(entry) = self.ledger.newest().filter(|it| it.id.term == self.term) else {
            return;
        };
        // A member that may have voted in this term for another does not count.
        let id = entry.id;
        let has = |it: &Peer| (it.newest, it.term) == (id, self.term) && it.floor < self.term;
        let enough = is_majority(entry.voters(), |it| self.is_such(it, has))
            || sabotaged(Sabotage::CommitWithoutMajority);
        if id <= self.committed || !enough {
            return;
        }
        self.learn_committed(id);
        if let Role::Leader { committed_at, .. } = &mut self.role {
            *committed_at = Some(cx.now);
        }
        self.urgent.extend(self.others());
        self.answer_committed(cx);
    }

    /// Whether the newest entry has to be appended once more, in this leader's term.
    fn must_append(&self, now: Instant) -> bool {
        let Some(head) = self.ledger.head().filter(|it| it.id.term < self.term) else {
            return false;
        };
        let peers = self.peers.values().filter(|it| it.knows == Knows::Cluster);
        head.id != self.committed
            || head.longest < self.timing.promise
            || peers.map(|it| it.newest).any(|it| it > head.id)
            || self.is_change_of_voters_waiting(now)
    }

    fn append_again(&mut self) {
        let Some(mut entry) = self.ledger.head().cloned() else {
            return;
        };
        let was = entry.id;
        entry.id = self.next_id(was);
        entry.longest = entry.longest.max(self.timing.promise);
        if let Some(applying) = self.applying.as_mut().filter(|it| it.entry == was) {
            applying.entry = entry.id;
        }
        self.append(entry);
    }

    pub(super) fn next_id(&self, after: EntryId) -> EntryId {
        EntryId { term: self.term, index: after.index.saturating_add(1) }
    }

    /// Members that started since they voted in this term cannot acknowledge in it. Where
    /// there is no majority without them, a higher term is needed.
    fn stand_above_floors(&mut self, cx: &mut Cx<'_>) {
        let Some(entry) = self.ledger.newest() else {
            return;
        };
        let id = entry.id;
        let waits = id.term == self.term && id > self.committed;
        let known = self.waiting.filter(|(it, _)| *it == id);
        self.waiting = waits.then(|| known.unwrap_or((id, cx.now)));
        // One of those who could may be heard, and not hear us.
        let patience = (self.timing.promise * 2).min(HEARD_WITHIN);
        let late = self.waiting.is_some_and(|(_, since)| since + patience <= cx.now);
        let is_present = |it: &NodeName| self.is_present(cx.now, it);
        let able = |it: &NodeName| is_present(it) && self.is_such(it, |it| it.floor < self.term);
        let barred = || entry.voters().any(|it| is_present(it) && !able(it));
        if waits && (!is_majority(entry.voters(), able) || (late && barred())) {
            self.stand(cx, Round::Again);
        }
    }

    /// Until when a majority counts as heard, if nobody is heard any more.
    fn majority_until(&self) -> Option<Instant> {
        let entry = self.ledger.newest()?;
        let peers = self
            .peers
            .iter()
            .filter(|(name, it)| it.knows == Knows::Cluster && entry.is_voter(name));
        let mut heard: Vec<Instant> = peers.map(|(_, it)| it.heard_at).collect();
        heard.sort_unstable_by(|one, other| other.cmp(one));
        let needed = entry.voters().count() / 2 + 1 - usize::from(entry.is_voter(&self.me));
        let last = needed.checked_sub(1).and_then(|it| heard.get(it))?;
        Some(*last + self.timing.promise)
    }

    fn end_handing(&mut self, cx: &mut Cx<'_>) {
        let voter = self.ledger.newest().is_some_and(|it| it.is_voter(&self.me));
        if let Role::Leader { handing, .. } = &mut self.role
            && handing.take_if(|(_, until)| *until <= cx.now).is_some()
            && !voter
        {
            return self.step_down(cx);
        }
        // Nothing that is asked of it could come to be.
        if self.fault().is_some() && !self.is_handing_over() {
            self.transfer(cx);
        }
        if self.is_committed() && !voter && !self.is_handing_over() && !self.transfer(cx) {
            self.step_down(cx);
        }
    }
}
