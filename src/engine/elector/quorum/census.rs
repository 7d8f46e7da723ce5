//! Members from the cluster's Nodes: who leads makes the membership equal to the Nodes of the
//! control plane, one step at a time, by what operators can ask for as well.
//!
//! ```text
//!   a Node comes ──▶ learner ── has caught up ──▶ voter ── its Node is gone ──▶ no member
//! ```
//!
//! A Node that is only not ready stays. Where the API server does not answer, or knows of no
//! Node at all, nothing changes. Witnesses are an operator's, and have no Node.
//!
//! One member founds the quorum, alone; which one is settled by a write at the API server that
//! only one can make (see [`Foundation`]). Nobody else belongs to it before it stands there
//! that the founder's disk has it, so a founder that finds its claim, and no store, may found
//! again: nobody has heard of what was lost. Once it stands there that it is founded, nobody
//! who has no store ever founds: the leader brings him up to date.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::backoff::Backoff;
use crate::engine::{Cx, Deadline};
use crate::model::{
    ClusterCall, ControlPlaneNode, Entry, Foundation, Instant, Member, MemberRole, Members,
    NodeName, RequestId, SideCall, SideReply,
};

/// How often who leads looks for Nodes.
const EVERY: Duration = Duration::from_secs(10);
/// And who belongs to no quorum yet.
const EVERY_BLANK: Duration = Duration::from_secs(2);
/// How well it is known what stands beside the Lease.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Where not everybody is heard, a quorum that exists has so long to say so beside the Lease.
const UNCLAIMED: Duration = Duration::from_secs(15);
/// A Node is gone once it is missing in so many lists.
const GONE: u32 = 2;
/// A step that came to nothing is tried again so soon, and ever later.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(super) struct Census {
    me: NodeName,
    address: SocketAddr,
    machine: u64,
    /// The oldest first; `None`: never heard of.
    nodes: Option<Vec<ControlPlaneNode>>,
    asked: Option<RequestId>,
    ask_at: Instant,
    /// Members whose Node was missing, and in how many lists.
    missing: BTreeMap<NodeName, u32>,
    unclaimed_since: Option<Instant>,
    /// The name of the quorum that this process would found, or has.
    claim: Option<u64>,
    step: Option<ClusterCall>,
    step_at: Instant,
    backoff: Backoff,
    /// What came of the last step, if it came to nothing.
    hitch: Option<String>,
    /// Why the Nodes are not known, since they were known last.
    fault: Option<String>,
}

/// What a member that belongs to no quorum has heard of others.
#[derive(Clone, Debug)]
pub(super) struct Others {
    /// All that could be members are heard, and none belongs to a quorum.
    pub all_blank: bool,
    /// Somebody is heard that does.
    pub some_belong: bool,
}

/// How far a leader reaches a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    Silent,
    Heard,
    /// And it has what the leader has.
    CaughtUp,
}

impl Census {
    pub fn new(me: NodeName, address: SocketAddr, machine: u64, now: Instant) -> Self {
        Self {
            me,
            address,
            machine,
            nodes: None,
            asked: None,
            ask_at: now,
            missing: BTreeMap::new(),
            unclaimed_since: None,
            claim: None,
            step: None,
            step_at: now,
            backoff: Backoff::new(RETRY, RETRY_MOST),
            hitch: None,
            fault: None,
        }
    }

    /// Takes a list of Nodes; whether this was one.
    pub fn on_side(
        &mut self,
        cx: &mut Cx<'_>,
        request: RequestId,
        reply: &SideReply,
        entry: Option<&Entry>,
    ) -> bool {
        if self.asked.take_if(|it| *it == request).is_none() {
            return false;
        }
        let every = if entry.is_some() { EVERY } else { EVERY_BLANK };
        self.ask_at = cx.now + cx.rng.jittered(every);
        match reply {
            SideReply::Nodes(nodes) => {
                self.fault = None;
                self.note_missing(nodes, entry);
                self.nodes = Some(nodes.clone());
                true
            }
            SideReply::Failed(fault) => {
                self.fault = Some(fault.why.clone());
                true
            }
            SideReply::Candidates(_) | SideReply::Done | SideReply::Resolved(_) => true,
        }
    }

    /// Looks for Nodes when it is time.
    pub fn tick(&mut self, cx: &mut Cx<'_>, needs: bool) {
        if !needs {
            self.missing.clear();
        } else if self.asked.is_none() && self.ask_at <= cx.now {
            self.asked = Some(cx.side(SideCall::ListNodes));
        }
    }

    /// Those who may be members, as this one knows them: for one that belongs to no quorum.
    pub fn listed(&self) -> Members {
        let voter = |address| Member { address, role: MemberRole::Voter };
        let nodes = self.nodes.iter().flatten().filter(|it| it.name != self.me);
        let others = nodes.filter_map(|it| Some((it.name.clone(), voter(self.address_of(it)?))));
        others.chain([(self.me.clone(), voter(self.address))]).collect()
    }

    /// What this member may found, if it may; and else what it should claim, if anything.
    pub fn founding(
        &mut self,
        cx: &mut Cx<'_>,
        stands: Option<Option<&Foundation>>,
        others: &Others,
    ) -> (Option<u64>, Option<Foundation>) {
        match stands {
            None => (None, None),
            Some(Some(it)) => {
                self.unclaimed_since = None;
                let may = self.is_mine(it) && !it.done && !others.some_belong;
                (may.then_some(it.quorum), None)
            }
            Some(None) => {
                let since = *self.unclaimed_since.get_or_insert(cx.now);
                let together = others.all_blank && self.is_oldest();
                let due = together || since + UNCLAIMED <= cx.now;
                if !due || others.some_belong {
                    return (None, None);
                }
                let quorum = *self.claim.get_or_insert_with(|| cx.rng.next_u64().max(1));
                let (founder, machine) = (self.me.clone(), self.machine);
                (None, Some(Foundation { quorum, founder, machine, done: false }))
            }
        }
    }

    /// What the leader is to write of the founding, if something else stands there.
    pub fn to_write(&self, quorum: u64, stands: Option<Option<&Foundation>>) -> Option<Foundation> {
        match stands? {
            Some(it) if it.quorum == quorum && !it.done => {
                Some(Foundation { done: true, ..it.clone() })
            }
            Some(_) => None,
            None => Some(Foundation {
                quorum,
                founder: self.me.clone(),
                machine: self.machine,
                done: true,
            }),
        }
    }

    /// The next step of the leader's, if one is due.
    pub fn step(
        &mut self,
        now: Instant,
        entry: &Entry,
        reach: &dyn Fn(&NodeName) -> Reach,
    ) -> Option<ClusterCall> {
        if self.step.is_some() || now < self.step_at {
            return None;
        }
        self.step = self.wanted(entry, reach);
        if self.step.is_none() {
            self.hitch = None;
            self.backoff.reset();
        }
        self.step.clone()
    }

    /// What came of the step.
    pub fn on_outcome(&mut self, cx: &mut Cx<'_>, outcome: Result<String, String>) {
        self.step = None;
        match outcome {
            Ok(_) => {
                self.hitch = None;
                self.backoff.reset();
                self.step_at = cx.now;
            }
            Err(why) => {
                self.hitch = Some(why);
                self.step_at = cx.now + self.backoff.wait(cx.rng);
            }
        }
    }

    /// Why this member belongs to no quorum.
    pub fn waits_for(&self, stands: Option<Option<&Foundation>>) -> String {
        match stands {
            None => "it is not known yet what the API server says of a quorum".to_owned(),
            Some(None) => "no quorum is founded yet".to_owned(),
            Some(Some(it)) if it.quorum == 0 => {
                format!("what stands beside the Lease is not understood: {}", it.founder)
            }
            Some(Some(it)) if self.is_mine(it) && it.done => format!(
                "this node founded quorum {:016x} and has lost its store: it waits for a member \
                 that has one",
                it.quorum
            ),
            Some(Some(it)) if it.done => {
                format!("it waits until the leader of quorum {:016x} adds it", it.quorum)
            }
            Some(Some(it)) => {
                format!("it waits until {} has founded quorum {:016x}", it.founder, it.quorum)
            }
        }
    }

    /// What an operator should know.
    pub fn words(&self, entry: Option<&Entry>, leads: bool) -> String {
        if let (Some(why), true) = (&self.fault, leads) {
            return format!("not known now, so nothing changes: {why}");
        }
        match (&self.nodes, &self.hitch) {
            (Some(_), Some(why)) => format!("not all are members as they should be: {why}"),
            (Some(nodes), None) if nodes.is_empty() => {
                "none is marked as of the control plane, so nothing changes".to_owned()
            }
            (Some(nodes), None) => {
                let lame = nodes.iter().filter(|it| self.address_of(it).is_none());
                let lame: Vec<_> = lame.map(|it| &*it.name.0).collect();
                let members = entry.map_or(0, |it| it.members.len());
                match lame[..] {
                    [] => format!("{} known, {members} members", nodes.len()),
                    _ => format!("without an InternalIP that can be used: {}", lame.join(", ")),
                }
            }
            (None, _) => "not looked for".to_owned(),
        }
    }

    /// For one that looks for Nodes; steps are taken with the beats of who leads.
    pub fn deadline(&self, now: Instant) -> Option<Deadline> {
        let list = Deadline { at: self.ask_at, why: "look for Nodes" };
        let claim = self.unclaimed_since.map(|it| it + UNCLAIMED).filter(|it| *it > now);
        let claim = claim.map(|at| Deadline { at, why: "claim the founding of a quorum" });
        Some(list).filter(|_| self.asked.is_none()).into_iter().chain(claim).min()
    }

    fn wanted(&self, entry: &Entry, reach: &dyn Fn(&NodeName) -> Reach) -> Option<ClusterCall> {
        let nodes = self.nodes.as_ref().filter(|it| !it.is_empty())?;
        let node = |name: &NodeName| nodes.iter().find(|it| it.name == *name);
        // This one last: it leads no more after that.
        let last = entry.members.get_key_value(&self.me);
        let members = entry.members.iter().filter(|it| *it.0 != self.me).chain(last);
        let of_nodes = || members.clone().filter(|it| it.1.role != MemberRole::Witness);
        let gone = of_nodes().find(|(name, member)| match node(name) {
            None => self.missing.get(*name).is_some_and(|it| *it >= GONE),
            Some(it) => {
                let moved = self.address_of(it).is_some_and(|it| it != member.address);
                moved && **name != self.me && reach(name) == Reach::Silent
            }
        });
        if let Some((name, _)) = gone {
            return Some(ClusterCall::Remove(name.clone()));
        }
        let learns = |it: &(&NodeName, &Member)| it.1.role == MemberRole::Learner;
        let ready = |name: &NodeName| node(name).is_some() && reach(name) == Reach::CaughtUp;
        let caught = of_nodes().filter(learns).find(|(name, _)| ready(name));
        if let Some((name, _)) = caught {
            return Some(ClusterCall::Promote(name.clone()));
        }
        let fresh = nodes.iter().filter(|it| !entry.members.contains_key(&it.name));
        let fresh = fresh.filter_map(|it| Some((it.name.clone(), self.address_of(it)?))).next();
        fresh.map(|(name, address)| ClusterCall::Add { name, address, witness: false })
    }

    fn note_missing(&mut self, nodes: &[ControlPlaneNode], entry: Option<&Entry>) {
        let before = std::mem::take(&mut self.missing);
        let members = entry.iter().flat_map(|it| it.members.keys());
        for name in members.filter(|name| !nodes.iter().any(|it| it.name == **name)) {
            let lists = before.get(name).map_or(1, |it| it.saturating_add(1));
            self.missing.insert(name.clone(), lists);
        }
    }

    fn is_mine(&self, it: &Foundation) -> bool {
        let same_machine = it.machine == self.machine && self.machine != 0;
        it.founder == self.me && (same_machine || self.claim == Some(it.quorum))
    }

    /// Whether this member is to found where all are heard, and all can be.
    fn is_oldest(&self) -> bool {
        let nodes = self.nodes.as_deref().unwrap_or_default();
        let oldest = nodes.first().is_some_and(|it| it.name == self.me);
        oldest && nodes.iter().all(|it| self.address_of(it).is_some())
    }

    fn address_of(&self, node: &ControlPlaneNode) -> Option<SocketAddr> {
        let same = |it: &&std::net::IpAddr| it.is_ipv4() == self.address.is_ipv4();
        let ip = node.addresses.iter().find(same)?;
        Some(SocketAddr::new(*ip, self.address.port()))
    }
}

#[cfg(test)]
mod tests;
