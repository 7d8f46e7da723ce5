//! The API server beside a quorum, where there is one. What it does not answer changes nothing
//! that is carried here.

use super::census::{Census, LOOK_EVERY, Others, Reach};
use super::record::{Record, Wish};
use super::{Quorum, QuorumApi, Surroundings};
use crate::engine::{Action, Cx, Deadline, Notice};
use crate::model::{
    ApiFault, ClusterCall, Instant, LeaseReply, NodeName, RequestId, SideReply, Vip,
};

/// The question of our own that who leads asks raft.
pub(super) const STEP: RequestId = RequestId(u32::MAX);

/// What is asked of the API server.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    record: Record,
    census: Option<Census>,
    wish: Wish,
    /// Who was last said to renew the Lease in our place.
    rival: Option<NodeName>,
}

impl Beside {
    pub fn new(
        config: &QuorumApi,
        me: &NodeName,
        address: std::net::SocketAddr,
        now: Instant,
    ) -> Self {
        let machine = config.nodes;
        Self {
            record: Record::new(config, me.clone(), now),
            census: machine.map(|it| Census::new(me.clone(), address, it, now)),
            wish: Wish::default(),
            rival: None,
        }
    }

    /// Why this member belongs to no quorum, where Nodes say who does.
    pub fn waits_for(&self) -> Option<String> {
        self.census.as_ref().map(|it| it.waits_for(self.record.foundation()))
    }
}

impl Quorum {
    /// The answer to [`Action::Lease`].
    pub fn on_lease(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: LeaseReply) {
        if let Some(beside) = &mut self.beside {
            beside.record.on_reply(cx, request, reply);
        }
    }

    /// The answer to [`Action::Side`], if it is about Nodes.
    pub fn on_side(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &SideReply) {
        let Some(census) = self.beside.as_mut().and_then(|it| it.census.as_mut()) else {
            return;
        };
        if census.on_side(cx, request, reply, self.raft.entry()) && self.raft.head().is_none() {
            self.listed = census.listed();
            self.raft.list(self.listed.clone());
            self.post.serve(cx.now, &self.listed, false);
            self.news = true;
        }
    }

    /// Whether this member may answer for the VIP.
    pub fn may_answer(&self, now: Instant, vip: Vip) -> bool {
        self.holder.entitled_until(now, vip).is_some()
    }

    /// Why the API server does not do what it is asked, if it does not.
    pub fn api_fault(&self) -> Option<&ApiFault> {
        self.beside.as_ref()?.record.fault()
    }

    /// When the API server last answered.
    pub fn api_answered_at(&self) -> Option<Instant> {
        self.beside.as_ref()?.record.answered_at()
    }

    /// Founds a quorum, or lets the membership follow the Nodes, where they are the members.
    pub(super) fn follow_nodes(&mut self, cx: &mut Cx<'_>) {
        let Some(mut beside) = self.beside.take() else {
            return;
        };
        beside.wish = Wish::default();
        if let Some(census) = &mut beside.census {
            self.count_nodes(cx, &beside.record, census, &mut beside.wish);
        }
        self.beside = Some(beside);
    }

    /// Tells and asks the API server what is due, once it is known what is carried here.
    pub(super) fn keep_record(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) {
        let quorum = self.raft.entry().map(|it| it.cluster);
        let carries = around.first.is_some_and(|it| self.may_answer(cx.now, it));
        let Some(Beside { record, wish, rival, .. }) = &mut self.beside else {
            return;
        };
        (wish.quorum, wish.carries) = (quorum, carries);
        record.reconcile(cx, wish);
        let seen = record.rival(cx.now, quorum).cloned();
        if let (Some(it), true) = (&seen, seen != *rival) {
            cx.act(Action::Tell(Notice::Rival(it.clone())));
        }
        *rival = seen;
    }

    /// The outcome of a step that this member took.
    pub(super) fn on_step(&mut self, cx: &mut Cx<'_>, outcome: Result<String, String>) {
        if let Some(census) = self.beside.as_mut().and_then(|it| it.census.as_mut()) {
            census.on_outcome(cx, outcome);
        }
    }

    /// Why nobody may be added, if so: a founder that finds its claim, and no store, must be
    /// right that nobody has heard of what was lost.
    pub(super) fn must_not_add(&self, call: &ClusterCall) -> Option<String> {
        match call {
            ClusterCall::Add { .. } | ClusterCall::Promote(_) => {}
            ClusterCall::Drain(_)
            | ClusterCall::Move(..)
            | ClusterCall::Readdress { .. }
            | ClusterCall::Remove(_)
            | ClusterCall::Undrain(_)
            | ClusterCall::Unmove(_) => return None,
        }
        // Where there are more, it was written down that it is founded.
        let alone = self.raft.entry().is_some_and(|it| it.members.len() == 1);
        let stands = self.beside.as_ref()?.record.foundation().flatten();
        let rival = stands.is_some_and(|it| Some(it.quorum) != self.raft.cluster());
        self.disagreement().filter(|_| alone || rival)
    }

    /// Why what stands beside the Lease lets no Node become a member.
    fn disagreement(&self) -> Option<String> {
        let beside = self.beside.as_ref().filter(|it| it.census.is_some())?;
        let ours = self.raft.entry().map(|it| it.cluster);
        match beside.record.foundation() {
            None => Some("the API server does not say which quorum the cluster has".into()),
            Some(Some(it)) if Some(it.quorum) == ours && it.done => None,
            Some(Some(it)) if Some(it.quorum) != ours => Some(format!(
                "beside the Lease {} stands another quorum, {:016x}, founded by {}; of two one \
                 must go",
                beside.record.lease(),
                it.quorum,
                it.founder
            )),
            Some(_) => {
                Some("it does not stand beside the Lease yet that this quorum is founded".into())
            }
        }
    }

    /// What an operator is told: of the record, and of the Nodes.
    pub(super) fn beside_words(&self, now: Instant) -> (Option<String>, Option<String>) {
        let Some(beside) = &self.beside else {
            return (None, None);
        };
        let quorum = self.raft.entry().map(|it| it.cluster);
        let lease = beside.record.lease();
        let written = beside.record.written_at().map(|it| now.saturating_since(it).as_secs());
        let record = match (beside.record.rival(now, quorum), written) {
            (Some(rival), _) => format!("{lease} is renewed by {rival}, and not written here"),
            (None, Some(ago)) => format!("{lease} is the record of this node, {ago} s old"),
            (None, None) => format!("{lease} is not written by this node"),
        };
        let census = beside.census.as_ref();
        let nodes = census.map(|it| match self.disagreement().filter(|_| self.leads) {
            Some(why) => format!("members stay as they are: {why}"),
            None => it.words(self.raft.entry(), self.leads),
        });
        (Some(record), nodes)
    }

    pub(super) fn beside_deadline(&self, now: Instant) -> Option<Deadline> {
        let beside = self.beside.as_ref()?;
        let needs = self.is_to_be_founded() || self.raft.leads();
        let census = beside.census.as_ref().filter(|_| needs).and_then(|it| it.deadline(now));
        beside.record.deadline().into_iter().chain(census).min()
    }

    /// Whether this member belongs to no quorum, and not even its disk is about to.
    fn is_to_be_founded(&self) -> bool {
        self.raft.head().is_none() && self.raft.voting().is_ok()
    }

    fn count_nodes(
        &mut self,
        cx: &mut Cx<'_>,
        record: &Record,
        census: &mut Census,
        wish: &mut Wish,
    ) {
        let blank = self.is_to_be_founded();
        let leads = self.raft.leads();
        census.tick(cx, blank || leads);
        wish.look_every = (blank || leads).then_some(LOOK_EVERY);
        let stands = record.foundation();
        if blank {
            let others = Others {
                all_blank: self.raft.hears_all_blank(cx.now),
                some_belong: self.raft.hears_of_a_cluster(),
            };
            let (found, claim) = census.founding(cx, stands, &others);
            wish.foundation = claim;
            if let Some(quorum) = found {
                self.raft.found(cx, quorum);
            }
        } else if let Some(entry) = self.raft.entry().filter(|_| leads) {
            wish.foundation = census.to_write(entry.cluster, stands);
            if stands.flatten().is_none_or(|it| it.quorum != entry.cluster || !it.done) {
                return;
            }
            let suspicion = self.suspicion();
            let reach = |name: &NodeName| {
                let heard = self.members.get(name);
                if heard.is_none_or(|it| it.heard_at + suspicion <= cx.now) {
                    Reach::Silent
                } else if self.raft.has_caught_up(cx.now, entry, name) {
                    Reach::CaughtUp
                } else {
                    Reach::Heard
                }
            };
            if let Some(call) = census.step(cx.now, entry, &reach) {
                self.raft.propose(cx, STEP, call);
            }
        }
    }
}
