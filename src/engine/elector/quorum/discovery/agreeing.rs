//! With whom a cluster is founded, or who is asked to be let in.

use std::collections::BTreeMap;

use super::super::raft::UNREADABLE;
use super::{Discovery, FRESH, Heard, LISTEN, PLEDGE, Pledge};
use crate::model::{ClusterCall, Company, Entry, Instant, Member, MemberRole, Members, NodeName};

/// No more voters than these are made of those who come by themselves.
const MOST_VOTERS: usize = 7;

/// Whether this member may found, and what it has promised about that.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Pact {
    /// All of the set are pledged to it: the first of them founds.
    pub armed: bool,
    /// The set that this member is pledged to.
    pub set: Option<Company>,
}

impl Discovery {
    /// Makes, keeps and ends the pledge.
    pub(super) fn pledge(&mut self, now: Instant) {
        if self.cluster.is_some() {
            self.pledge = None;
        }
        if self.cluster.is_some() || self.taking {
            return;
        }
        self.pledge.take_if(|it| it.until <= now);
        let set = match &self.pledge {
            Some(pledge) => Some(pledge.set.clone()),
            None => self.proposal(now),
        };
        if let Some(set) = set.filter(|it| self.all_of(now, it, |_| true)) {
            self.pledge = Some(Pledge { set, until: now + PLEDGE });
        }
    }

    /// The first names of those who could found with this member, itself among them.
    pub(super) fn proposal(&self, now: Instant) -> Option<Company> {
        let voters = usize::from(self.config.voters);
        let barred = self.here.is_err() || self.taking || self.twin.is_some();
        if barred || self.hears_of_cluster() {
            return None;
        }
        if voters == 1 && now < self.here_since + LISTEN {
            return None;
        }
        let others = self.candidates(now).map(|(name, it)| (name.clone(), it.life));
        let all: Company = others.chain([(self.me.clone(), self.life)]).collect();
        let set: Company = all.into_iter().take(voters).collect();
        (set.len() == voters && set.contains_key(&self.me) && self.somebody_carries(&set))
            .then_some(set)
    }

    /// Those without a cluster who are there, hear this member, and found with as many.
    pub(super) fn candidates(&self, now: Instant) -> impl Iterator<Item = (&NodeName, &Heard)> {
        self.heard.iter().filter(move |(_, it)| {
            let hello = &it.hello;
            let may = hello.cluster.is_none() && hello.voters == self.config.voters;
            may && now < it.at + FRESH && self.hears_us(it)
        })
    }

    pub(super) fn hears_of_cluster(&self) -> bool {
        self.heard.values().any(|it| it.hello.cluster.is_some())
    }

    /// Whether all others of the set say that very set, and it is true of them.
    pub(super) fn all_of(&self, now: Instant, set: &Company, is: fn(&Heard) -> bool) -> bool {
        set.iter().filter(|(name, _)| **name != self.me).all(|(name, life)| {
            self.heard.get(name).is_some_and(|it| {
                let agrees = it.life == *life && it.hello.set == *set && it.hello.cluster.is_none();
                agrees && now < it.at + FRESH && is(it)
            })
        })
    }

    /// What raft has to know.
    pub fn pact(&self, now: Instant) -> Pact {
        let set = self.pledge.as_ref().map(|it| it.set.clone());
        let all = |set: &Company| self.all_of(now, set, |it| it.hello.pledged);
        let armed = !self.hears_of_cluster() && self.twin.is_none();
        Pact { armed: armed && set.as_ref().is_some_and(all), set }
    }

    /// Whom a member without a cluster speaks with: those that it founds with, or those whom
    /// it asks to be let in.
    pub fn company(&self) -> Members {
        let pledged =
            |name: &NodeName| self.pledge.as_ref().is_some_and(|it| it.set.contains_key(name));
        let cluster = self.asks();
        let others = self.heard.iter().filter(|(name, it)| {
            pledged(name) || (cluster.is_some() && it.hello.cluster == cluster)
        });
        let member = |it: &Heard| Member {
            address: it.hello.address,
            role: if it.hello.witness { MemberRole::Witness } else { MemberRole::Voter },
        };
        let mut members: Members = others.map(|(name, it)| (name.clone(), member(it))).collect();
        if let Ok(here) = &self.here {
            let role = if self.config.witness { MemberRole::Witness } else { MemberRole::Voter };
            members.insert(self.me.clone(), Member { address: here.address, role });
        }
        members
    }

    /// The cluster of most of those who have one.
    pub(super) fn asks(&self) -> Option<u64> {
        let mut sizes = BTreeMap::<u64, usize>::new();
        let clusters = self.heard.values().filter_map(|it| it.hello.cluster);
        for it in clusters.filter(|it| *it != UNREADABLE) {
            *sizes.entry(it).or_default() += 1;
        }
        sizes.into_iter().rev().max_by_key(|it| it.1).map(|it| it.0)
    }

    /// What a leader does for those that it hears: the most urgent first.
    pub fn invitations(&self, entry: &Entry) -> Vec<ClusterCall> {
        let heard = || self.heard.iter().filter(|(_, it)| self.hears_us(it));
        let here = self.here.as_ref().ok().map(|it| (&self.me, it.address));
        let theirs = heard().filter_map(|(name, _)| Some((name, self.address_of(name)?)));
        let moved = here.into_iter().chain(theirs).filter_map(|(name, address)| {
            let member = entry.members.get(name)?;
            let name = name.clone();
            (member.address != address).then_some(ClusterCall::Readdress { name, address })
        });
        let full = entry.voters().count() >= MOST_VOTERS;
        let new = heard()
            .filter(|(name, it)| it.hello.cluster.is_none() && !entry.members.contains_key(*name));
        // A witness votes as soon as it is added.
        let new = new.filter(|(_, it)| !(it.hello.witness && full)).map(|(name, it)| {
            let (address, witness) = (it.hello.address, it.hello.witness);
            ClusterCall::Add { name: name.clone(), address, witness }
        });
        let learners = heard().filter(|(name, it)| {
            let member = entry.members.get(*name);
            let learns = member.is_some_and(|it| it.role == MemberRole::Learner);
            learns && it.hello.cluster == Some(entry.cluster)
        });
        let learners = learners.filter(|_| !full);
        let learners = learners.map(|(name, _)| ClusterCall::Promote(name.clone()));
        moved.chain(new).chain(learners).collect()
    }

    fn somebody_carries(&self, set: &Company) -> bool {
        let witness = |name: &NodeName| match self.heard.get(name) {
            Some(it) => it.hello.witness,
            None => self.config.witness,
        };
        !set.keys().all(witness)
    }
}
