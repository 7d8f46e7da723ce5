//! What operators ask for: one at a time, each a new entry.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Raft, Role};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::{Action, Cx};
use crate::model::{
    ClusterCall, Entry, EntryId, Instant, Member, MemberRole, Members, NodeName, RequestId, Wishes,
    is_majority,
};

/// So many may wait.
const MOST: usize = 16;
/// For so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A datagram to each: beyond this a cluster is no small one.
const MOST_MEMBERS: usize = 32;
/// An entry travels in one datagram.
const MOST_PLACED: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct Proposal {
    request: RequestId,
    call: ClusterCall,
    give_up_at: Instant,
}

/// A proposal that was appended.
#[derive(Clone, Debug)]
pub(super) struct Applying {
    pub entry: EntryId,
    request: RequestId,
    give_up_at: Instant,
    /// What to say when the entry is committed.
    sentence: String,
}

/// What a proposal comes to.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// It is so already.
    Nothing(String),
    /// A new entry is needed, for this.
    Entry { members: Members, wishes: Wishes, sentence: String },
}

impl Raft {
    /// An operator asks something of the cluster.
    pub fn propose(&mut self, cx: &mut Cx<'_>, request: RequestId, call: ClusterCall) {
        let refusal = match self.leader() {
            Some(leader) if *leader != self.me => Some(format!("{leader} leads; ask it")),
            None => Some("nobody leads at the moment; try again".to_owned()),
            Some(_) if self.fault().is_some() => {
                let why = self.fault().unwrap_or_default();
                let then = if self.is_handing_over() {
                    "another is about to lead; try again"
                } else {
                    "no other can lead"
                };
                Some(format!("{} leads, its store cannot be written, and {then}: {why}", self.me))
            }
            Some(_) if self.proposals.len() >= MOST => {
                Some(format!("{MOST} requests are waiting already; try again later"))
            }
            Some(_) => None,
        };
        match refusal {
            Some(why) => answer(cx, request, Err(why)),
            None => {
                let give_up_at = cx.now + PATIENCE;
                self.proposals.push_back(Proposal { request, call, give_up_at });
                self.settle(cx);
            }
        }
    }

    /// Leadership is over, and with it what was asked of it.
    pub(super) fn lose(&mut self, cx: &mut Cx<'_>) {
        if let Some(it) = self.applying.take() {
            let why = "leadership was lost before a majority agreed; it may still come to be";
            answer(cx, it.request, Err(why.to_owned()));
        }
        for it in std::mem::take(&mut self.proposals) {
            answer(cx, it.request, Err("leadership was lost; try again".to_owned()));
        }
    }

    pub(super) fn answer_committed(&mut self, cx: &mut Cx<'_>) {
        if let Some(it) = self.applying.take_if(|it| it.entry == self.committed) {
            answer(cx, it.request, Ok(it.sentence));
        }
    }

    pub(super) fn give_up_proposals(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let seconds = PATIENCE.as_secs();
        if let Some(it) = self.applying.take_if(|it| it.give_up_at <= now) {
            let why = format!("no majority agreed within {seconds} s; it may still come to be");
            answer(cx, it.request, Err(why));
        }
        let (late, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.proposals).into_iter().partition(|it| it.give_up_at <= now);
        self.proposals = rest;
        for it in late {
            let why = format!("its turn did not come within {seconds} s; nothing was changed");
            answer(cx, it.request, Err(why));
        }
    }

    pub(super) fn proposals_until(&self) -> Option<Instant> {
        let applying = self.applying.iter().map(|it| it.give_up_at);
        applying.chain(self.proposals.iter().map(|it| it.give_up_at)).min()
    }

    pub(super) fn is_change_of_voters_waiting(&self, now: Instant) -> bool {
        let Some((entry, next)) = self.ledger.newest().zip(self.proposals.front()) else {
            return false;
        };
        match self.change(now, entry, &next.call) {
            Ok(Change::Entry { members, .. }) => changes_voters(entry, &members),
            Ok(Change::Nothing(_)) | Err(_) => false,
        }
    }

    /// Applies what is first in the queue; what needs no entry is answered at once.
    pub(super) fn next_proposal(&mut self, cx: &mut Cx<'_>) {
        if let Role::Leader { change_at, .. } = &mut self.role {
            *change_at = None;
        }
        while let Some((entry, next)) = self.ledger.newest().zip(self.proposals.front()) {
            if self.is_handing_over() {
                return;
            }
            let change = self.change(cx.now, entry, &next.call);
            let before: BTreeSet<_> = entry.voters().cloned().collect();
            let mut entry = entry.clone();
            let outcome = match change {
                Err(why) => Err(why),
                Ok(Change::Nothing(sentence)) => Ok(sentence),
                Ok(Change::Entry { members, wishes, sentence }) => {
                    let steps = changes_voters(&entry, &members);
                    if steps && self.must_wait(cx.now) {
                        return;
                    }
                    entry.id = self.next_id(entry.id);
                    entry.before = steps.then_some(before);
                    entry.longest = entry.longest.max(self.timing.promise);
                    (entry.members, entry.wishes) = (members, wishes);
                    self.applying = self.proposals.pop_front().map(|it| Applying {
                        entry: entry.id,
                        request: it.request,
                        give_up_at: it.give_up_at,
                        sentence,
                    });
                    return self.append(entry);
                }
            };
            if let Some(it) = self.proposals.pop_front() {
                answer(cx, it.request, outcome);
            }
        }
    }

    /// Whether the voters may not be changed yet: who holds by the word of the voters before
    /// must have heard of those that are.
    fn must_wait(&mut self, now: Instant) -> bool {
        let longest = self.ledger.newest().map_or(Duration::ZERO, |it| it.longest);
        let Role::Leader { committed_at: Some(committed_at), change_at, .. } = &mut self.role
        else {
            return true;
        };
        let at = *committed_at + longest;
        *change_at = (now < at && !sabotaged(Sabotage::SecondStepWithoutWaiting)).then_some(at);
        change_at.is_some()
    }

    /// Whether this leader has nothing else to do.
    pub fn is_at_rest(&self) -> bool {
        let idle = self.leads() && self.is_idle() && !self.is_handing_over();
        idle && self.proposals.is_empty() && self.applying.is_none() && self.fault().is_none()
    }

    /// Whether a call would come to anything, or why it cannot.
    pub fn would_change(&self, now: Instant, call: &ClusterCall) -> Result<bool, String> {
        let Some(entry) = self.entry() else {
            return Ok(false);
        };
        match self.change(now, entry, call)? {
            Change::Entry { .. } => Ok(true),
            Change::Nothing(_) => Ok(false),
        }
    }

    /// Whether this leader has heard lately that a member has the newest entry.
    pub fn has_caught_up(&self, now: Instant, entry: &Entry, name: &NodeName) -> bool {
        let promise = self.timing.promise;
        self.is_such(name, |it| it.newest == entry.id && it.was_heard(now, promise))
    }

    pub(super) fn change(
        &self,
        now: Instant,
        entry: &Entry,
        call: &ClusterCall,
    ) -> Result<Change, String> {
        let mut members = entry.members.clone();
        let mut wishes = entry.wishes.clone();
        let sentence = match call {
            ClusterCall::Add { name, address, witness } => {
                self.may_add(entry, name, *address)?;
                let role = if *witness { MemberRole::Witness } else { MemberRole::Learner };
                members.insert(name.clone(), Member { address: *address, role });
                format!("{name} is a member, as a {}", role.word())
            }
            ClusterCall::Drain(name) => {
                if known(entry, name)?.role == MemberRole::Witness {
                    return Err(format!("{name} is a witness: it carries nothing anyway"));
                }
                if !wishes.drained.insert(name.clone()) {
                    return Ok(Change::Nothing(format!("{name} is drained already")));
                }
                format!("{name} is drained: it carries nothing as soon as another can")
            }
            ClusterCall::Move(vip, name) => {
                let role = known(entry, name)?.role;
                if !role.carries() {
                    return Err(format!("{name} is a {}: it carries nothing", role.word()));
                }
                if wishes.drained.contains(name) {
                    return Err(format!("{name} is drained; undrain it first"));
                }
                let full = wishes.placed.len() >= MOST_PLACED;
                if full && !wishes.placed.contains_key(vip) {
                    return Err(format!("{MOST_PLACED} VIPs have a wish of their own already"));
                }
                if wishes.placed.insert(*vip, name.clone()).as_ref() == Some(name) {
                    return Ok(Change::Nothing(format!("{vip} is to be on {name} already")));
                }
                format!("{vip} is to be on {name}")
            }
            ClusterCall::Promote(name) => {
                let member = known(entry, name)?;
                if member.role != MemberRole::Learner {
                    let role = member.role.word();
                    return Err(format!("{name} is a {role}; only a learner can be promoted"));
                }
                if !self.has_caught_up(now, entry, name) {
                    return Err(format!("{name} has not caught up; is it running?"));
                }
                members.insert(name.clone(), Member { role: MemberRole::Voter, ..member });
                format!("{name} is a voter")
            }
            ClusterCall::Readdress { name, address } => {
                let member = known(entry, name)?;
                if member.address == *address {
                    return Ok(Change::Nothing(format!("{name} listens at {address} already")));
                }
                members.insert(name.clone(), Member { address: *address, ..member });
                format!("{name} listens at {address}")
            }
            ClusterCall::Remove(name) => {
                known(entry, name)?;
                if entry.voters().eq([name]) {
                    return Err(format!("{name} is the last voter"));
                }
                members.remove(name);
                wishes.drained.remove(name);
                wishes.placed.retain(|_, it| it != name);
                format!("{name} is no member any more")
            }
            ClusterCall::Undrain(name) => {
                known(entry, name)?;
                if !wishes.drained.remove(name) {
                    return Ok(Change::Nothing(format!("{name} is not drained")));
                }
                format!("{name} may carry again")
            }
            ClusterCall::Unmove(vip) => match wishes.placed.remove(vip) {
                None => return Ok(Change::Nothing(format!("{vip} is to be on no one member"))),
                Some(name) => format!("{vip} need not be on {name} any more"),
            },
        };
        if changes_voters(entry, &members) {
            self.can_agree(now, &members)?;
        }
        Ok(Change::Entry { members, wishes, sentence })
    }

    /// A cluster whose voters cannot agree is stuck for good: this very change included.
    fn can_agree(&self, now: Instant, members: &Members) -> Result<(), String> {
        let is_present = |it: &NodeName| self.is_present(now, it);
        if is_majority(voters(members), is_present) {
            return Ok(());
        }
        let silent = voters(members).filter(|it| !is_present(it));
        let silent: Vec<&str> = silent.map(|it| &*it.0).collect();
        Err(format!(
            "then {} of {} voters would be out of reach or without a store, which is no majority: {}",
            silent.len(),
            voters(members).count(),
            silent.join(", ")
        ))
    }

    fn may_add(
        &self,
        entry: &Entry,
        name: &NodeName,
        address: std::net::SocketAddr,
    ) -> Result<(), String> {
        if let Some(member) = entry.members.get(name) {
            return Err(format!("{name} is a member already, as a {}", member.role.word()));
        }
        if let Some((other, _)) = entry.members.iter().find(|(_, it)| it.address == address) {
            return Err(format!("{other} listens at {address}, so {name} cannot"));
        }
        if entry.members.len() >= MOST_MEMBERS {
            return Err(format!("a cluster has at most {MOST_MEMBERS} members"));
        }
        Ok(())
    }
}

fn known(entry: &Entry, name: &NodeName) -> Result<Member, String> {
    entry.members.get(name).copied().ok_or_else(|| {
        let members: Vec<&str> = entry.members.keys().map(|it| &*it.0).collect();
        format!("{name} is no member; members are {}", members.join(", "))
    })
}

fn changes_voters(entry: &Entry, members: &Members) -> bool {
    !voters(&entry.members).eq(voters(members))
}

fn voters(members: &Members) -> impl Iterator<Item = &NodeName> {
    members.iter().filter(|(_, it)| it.role.votes()).map(|(name, _)| name)
}

fn answer(cx: &mut Cx<'_>, request: RequestId, outcome: Result<String, String>) {
    cx.act(Action::Answer { request, outcome });
}
