//! What comes of whom a member finds on its link: those it founds with or asks to be let in,
//! where members are that have moved, and whom a leader lets in.

use std::borrow::Cow;
use std::time::Duration;

use super::discovery::View;
use super::{Quorum, Surroundings};
use crate::engine::Cx;
use crate::model::{Instant, Member, Members, NodeName, RequestId};

/// A leader proposes something on its own so often at most.
const PROPOSE_EVERY: Duration = Duration::from_secs(1);
/// Nobody waits for the answer.
const OWN: RequestId = RequestId(u32::MAX);

impl Quorum {
    /// Looks around on the link.
    pub(super) fn find(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) {
        let Some(discovery) = &mut self.discovery else {
            return;
        };
        let entry = self.raft.entry();
        let view = View {
            home: (around.home)(),
            cluster: self.raft.cluster(),
            taking: self.raft.head().is_some() && entry.is_none(),
            members: entry.map(|it| &it.members),
            committed: self.raft.is_committed(),
        };
        discovery.tick(cx, &view);
        if entry.is_some() {
            return;
        }
        let company = discovery.company();
        if company != self.listed {
            self.post.serve(cx.now, &company, true);
            self.listed = company;
        }
        self.raft.agree(&self.listed, discovery.pact(cx.now));
    }

    /// The members, where they say themselves that they are.
    pub(super) fn whereabouts<'a>(&self, members: &'a Members) -> Cow<'a, Members> {
        let mut members = Cow::Borrowed(members);
        let Some(discovery) = &self.discovery else {
            return members;
        };
        let moved = |(name, it): (&NodeName, &Member)| {
            let address = discovery.address_of(name).filter(|at| *at != it.address)?;
            Some((name.clone(), address))
        };
        for (name, address) in members.iter().filter_map(moved).collect::<Vec<_>>() {
            if let Some(it) = members.to_mut().get_mut(&name) {
                it.address = address;
            }
        }
        members
    }

    /// What keeps a member that finds others from belonging to a cluster.
    pub(super) fn waits_for(&self, now: Instant) -> Option<String> {
        let discovery = self.discovery.as_ref()?;
        if self.raft.cluster().is_none() {
            return Some(discovery.waits_for(now));
        }
        let unconfirmed = self.raft.unconfirmed();
        let names: Vec<_> = unconfirmed.iter().map(|it| &*it.0).collect();
        let waits = !names.is_empty();
        let lost = unconfirmed.iter().find(|it| discovery.is_elsewhere(it));
        match lost {
            Some(it) => Some(format!(
                "{it} belongs to another cluster since, so this founding is void: stop this \
                 member, remove its store, and it is added there"
            )),
            None => {
                waits.then(|| format!("waiting for {} to confirm the founding", names.join(", ")))
            }
        }
    }

    /// A leader lets in whom it hears, one step at a time.
    pub(super) fn invite(&mut self, cx: &mut Cx<'_>) {
        let (Some(discovery), Some(entry)) = (&mut self.discovery, self.raft.entry()) else {
            return;
        };
        if !self.leads {
            discovery.obstacle = None;
            return;
        }
        let late = discovery.proposed_at.is_none_or(|it| it + PROPOSE_EVERY <= cx.now);
        if !late || !self.raft.is_at_rest() {
            return;
        }
        let mut obstacle = None;
        let mut calls = discovery.invitations(entry).into_iter();
        let call = calls.find(|call| match self.raft.would_change(cx.now, call) {
            Ok(changes) => changes,
            Err(why) => {
                obstacle.get_or_insert(why);
                false
            }
        });
        discovery.obstacle = obstacle;
        if let Some(call) = call {
            discovery.proposed_at = Some(cx.now);
            self.raft.propose(cx, OWN, call);
        }
    }
}
