//! Standing, voting, leading and handing over.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::peers::{Ask, Knows};
use super::{Patience, Promises, Raft, Role, Round, chance};
use crate::engine::Cx;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{
    Entry, EntryId, Instant, MemberRole, Message, NodeName, Promised, RaftCall, is_majority,
};

/// Why a vote is not given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoVote {
    /// This member has no store to vote from.
    Blank,
    /// It may have voted in that term in an earlier life.
    Floor,
    /// A leader was heard a moment ago.
    LeaderHeard,
    /// The asker lacks an entry.
    OlderEntry,
    /// The term is over.
    OlderTerm,
    /// A vote in that term could be forgotten: the term is not reserved on disk.
    NotReserved,
    /// It is stopping.
    Retired,
    /// Another has the vote of that term.
    Voted,
}

impl Raft {
    /// A term above ours is heard.
    pub(super) fn on_term(&mut self, cx: &mut Cx<'_>, from: &NodeName, message: &Message) {
        let led_by_from = self.heard_leader.as_ref().is_some_and(|(name, _)| name == from);
        if led_by_from && message.term >= self.term && message.leader.as_ref() != Some(from) {
            self.heard_leader = None;
            if message.term == self.term && self.leader() == Some(from) {
                self.role = Role::Follower { leader: None };
            }
        }
        if message.term <= self.term {
            return;
        }
        let leaderless = message.leader.as_ref().is_none_or(|it| *it == self.me);
        let handed_over = self.is_handing_over()
            || message.raft.iter().any(|it| matches!(it, RaftCall::AskVote { transfer: true, .. }));
        // Nobody has won that term, and this leader is alive: its followers are still its own.
        let again = self.leads() && leaderless && !handed_over;
        if !(again && self.stand(cx, Round::Again)) {
            self.adopt(cx, message.term);
        }
    }

    /// The leader of the term is heard.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_>, leader: &NodeName) {
        match &self.role {
            Role::Leader { .. } => return,
            Role::Follower { leader: Some(known) } if known == leader => {}
            Role::Candidate { .. } | Role::Follower { .. } => {
                self.lose(cx);
                self.role = Role::Follower { leader: Some(leader.clone()) };
                self.be_patient(cx, self.timing.promise);
            }
        }
        self.heard_leader = Some((leader.clone(), cx.now));
        self.patience.from = cx.now;
        self.patience.wait = self.timing.promise;
    }

    pub(super) fn on_ask(
        &mut self,
        cx: &mut Cx<'_>,
        from: &NodeName,
        ask: Ask,
        promises: Promises<'_>,
    ) {
        self.asked = self.asked.max(ask.term);
        let outcome = self.may_vote(cx.now, from, &ask);
        let given = ask.term == self.term && self.vote.as_ref() == Some(from);
        if outcome.is_ok() && ask.binding && !given {
            if ask.term > self.term {
                self.adopt(cx, ask.term);
            }
            self.lose(cx);
            self.role = Role::Follower { leader: None };
            self.vote = Some(from.clone());
            self.voted = ask.term;
            self.be_patient(cx, self.timing.promise / 2);
        }
        let granted = outcome.is_ok();
        let promises = if granted && ask.binding { promises() } else { Vec::new() };
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        let (term, binding) = (ask.term, ask.binding);
        peer.answer = Some(RaftCall::Vote { term, binding, granted, promises });
        peer.ask = (outcome == Err(NoVote::LeaderHeard)).then_some(ask);
        // Two candidates that refuse each other would never fall silent.
        let news = peer.answered.replace((term, binding)) != Some((term, binding));
        if granted || news {
            self.urgent.insert(from.clone());
        }
    }

    /// Candidates notice at slightly different times that the leader is silent: who asked
    /// too early gets its answer when the time has come.
    pub(super) fn answer_those_who_wait(&mut self, cx: &mut Cx<'_>, promises: Promises<'_>) {
        let waiting = self.peers.iter().filter_map(|(name, it)| Some((name.clone(), it.ask?)));
        for (name, ask) in waiting.collect::<Vec<_>>() {
            if cx.now >= ask.at + self.timing.promise / 2 {
                if let Some(peer) = self.peers.get_mut(&name) {
                    peer.ask = None;
                }
            } else if self.may_vote(cx.now, &name, &ask) != Err(NoVote::LeaderHeard) {
                self.on_ask(cx, &name, ask, promises);
            }
        }
    }

    pub(super) fn on_vote(&mut self, from: &NodeName, given: (u64, bool), promises: &[Promised]) {
        if let Role::Candidate { term, binding, votes, .. } = &mut self.role
            && (*term, *binding) == given
        {
            votes.insert(from.clone(), promises.to_vec());
            self.count();
        }
    }

    /// Begins an election, if it may.
    pub(super) fn stand(&mut self, cx: &mut Cx<'_>, round: Round) -> bool {
        let Some(term) = self.stand_in() else {
            return false;
        };
        if round != Round::Again {
            self.lose(cx);
        }
        let binding = match round {
            Round::Missed => false,
            Round::Again | Round::Transfer => true,
        };
        self.be_patient(cx, self.timing.promise / 2);
        self.ask_all(term, round, binding);
        self.count();
        true
    }

    /// Asks another to lead: the best that is fit and lacks nothing. Whether there is one.
    pub fn transfer(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(entry) = self.ledger.newest() else {
            return false;
        };
        let able = self.peers.iter().filter(|(name, it)| {
            it.knows == Knows::Cluster
                && it.was_heard(cx.now, self.timing.promise)
                && entry.members.get(*name).is_some_and(|it| it.role.votes())
                && (it.fit, it.newest, it.term) == (true, entry.id, self.term)
        });
        let best = able.map(|(name, _)| name).min_by_key(|it| self.precedence(it)).cloned();
        let until = cx.now + self.timing.promise;
        match &mut self.role {
            Role::Leader { handing, .. } => {
                if handing.is_none() {
                    *handing = best.map(|it| (it, until));
                    self.urgent.extend(handing.as_ref().map(|(name, _)| name.clone()));
                }
                handing.is_some()
            }
            Role::Candidate { .. } | Role::Follower { .. } => false,
        }
    }

    pub(super) fn step_down(&mut self, cx: &mut Cx<'_>) {
        self.lose(cx);
        self.role = Role::Follower { leader: None };
        self.be_patient(cx, self.timing.promise);
    }

    pub(super) fn be_patient(&mut self, cx: &mut Cx<'_>, wait: Duration) {
        self.patience = Patience { from: cx.now, wait, chance: chance(&self.timing, cx.rng) };
    }

    pub(super) fn may_vote(&self, now: Instant, from: &NodeName, ask: &Ask) -> Result<(), NoVote> {
        let heard = self.heard_leader.as_ref().is_some_and(|(leader, heard_at)| {
            leader != from && now < *heard_at + self.timing.promise
        });
        let head = self.ledger.head().map_or(EntryId::default(), |it| it.id);
        let another = self.vote.as_ref().is_some_and(|it| it != from);
        let refusals = [
            (self.is_blank() || self.ledger.voting().is_err(), NoVote::Blank),
            (self.retired, NoVote::Retired),
            (ask.term < self.term, NoVote::OlderTerm),
            (ask.last < head && !sabotaged(Sabotage::StaleLogElected), NoVote::OlderEntry),
            (ask.term == self.term && another && !sabotaged(Sabotage::VoteTwice), NoVote::Voted),
            (ask.term <= self.ledger.floor(), NoVote::Floor),
            (ask.term > self.ledger.reserved(), NoVote::NotReserved),
            ((heard || self.leads()) && !ask.transfer, NoVote::LeaderHeard),
        ];
        refusals.iter().find(|(holds, _)| *holds).map_or(Ok(()), |(_, why)| Err(*why))
    }

    /// When to stand, if nothing is heard.
    pub(super) fn stand_at(&self) -> Option<Instant> {
        if self.leads() || self.stand_in().is_none() {
            return None;
        }
        let Patience { from, wait, chance } = self.patience;
        let alone = self.ledger.newest().is_some_and(|it| it.voters().eq([&self.me]));
        let wait = if alone { Duration::ZERO } else { wait };
        Some(from + wait + self.timing.step * self.rank + chance)
    }

    /// How many voters that were heard lately are to stand before this member.
    pub(super) fn rank_at(&self, now: Instant) -> u32 {
        let leader = self.heard_leader.as_ref().map(|(name, _)| name);
        let mine = self.precedence(&self.me);
        let voters = self.ledger.newest().into_iter().flat_map(Entry::voters);
        let others = voters.filter(|it| Some(*it) != leader && **it != self.me);
        let better = others.filter(|it| self.is_present(now, it) && self.precedence(it) < mine);
        u32::try_from(better.count()).unwrap_or(u32::MAX)
    }

    pub(super) fn handing_to(&self) -> Option<&NodeName> {
        match &self.role {
            Role::Leader { handing, .. } => handing.as_ref().map(|(name, _)| name),
            Role::Candidate { .. } | Role::Follower { .. } => None,
        }
    }

    pub(super) fn question_for(&self, to: &NodeName) -> Option<RaftCall> {
        let Role::Candidate { term, round, binding, votes } = &self.role else {
            return None;
        };
        let entry = self.ledger.newest()?;
        let asks = entry.members.get(to).is_some_and(|it| it.role.votes());
        let transfer = *round == Round::Transfer;
        (asks && !votes.contains_key(to)).then_some(RaftCall::AskVote {
            term: *term,
            last: entry.id,
            binding: *binding,
            transfer,
        })
    }

    /// Enters a term that somebody else is in.
    pub(super) fn adopt(&mut self, cx: &mut Cx<'_>, term: u64) {
        self.term = term;
        self.vote = None;
        if self.leads() {
            self.step_down(cx);
        }
        self.lose(cx);
        self.role = Role::Follower { leader: None };
    }

    fn ask_all(&mut self, term: u64, round: Round, binding: bool) {
        if binding {
            self.term = term;
            self.vote = Some(self.me.clone());
            self.voted = term;
        }
        let votes = BTreeMap::from([(self.me.clone(), Vec::new())]);
        self.role = Role::Candidate { term, round, binding, votes };
        let voters = self.ledger.newest().into_iter().flat_map(Entry::voters);
        self.urgent.extend(voters.filter(|it| **it != self.me).cloned());
    }

    fn count(&mut self) {
        let (Role::Candidate { term, round, binding, votes }, Some(entry)) =
            (&self.role, self.ledger.newest())
        else {
            return;
        };
        if !is_majority(entry.voters(), |it| votes.contains_key(it)) {
            return;
        }
        if *binding {
            self.inherited = votes.values().flatten().cloned().collect();
            self.role = Role::Leader { committed_at: None, handing: None, change_at: None };
            self.heard_leader = None;
            self.urgent.extend(self.others());
        } else {
            self.ask_all(*term, *round, true);
            self.count();
        }
    }

    /// The term it could stand in, if it may stand.
    pub(super) fn stand_in(&self) -> Option<u64> {
        let term = self.highest().checked_add(1)?;
        let able = self.entry().is_some_and(|it| {
            // Who is being removed may be the only one that knows: it is needed until then.
            let leaving = it.before.as_ref().is_some_and(|it| it.contains(&self.me));
            it.is_voter(&self.me) || (leaving && !self.is_committed())
        });
        let able = able && self.ledger.voting().is_ok() && !self.retired;
        let able = able && self.unconfirmed().is_empty();
        (able && term <= self.ledger.reserved()).then_some(term)
    }

    /// Who is to lead before whom: the least first.
    fn precedence<'a>(&self, name: &'a NodeName) -> (bool, Reverse<EntryId>, bool, &'a NodeName) {
        let (fit, newest) = match self.peers.get(name) {
            Some(peer) => (peer.fit, peer.newest),
            None => (self.fit, self.newest()),
        };
        let member = self.ledger.newest().and_then(|it| it.members.get(name));
        let witness = member.is_some_and(|it| it.role == MemberRole::Witness);
        (!fit, Reverse(newest), witness, name)
    }
}
