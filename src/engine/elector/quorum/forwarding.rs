//! An operator may ask any member: who does not lead hands the question to the leader, again
//! with each beat, until it is answered or nobody waits any more.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Quorum;
use super::beside::STEP;
use crate::engine::{Action, Cx};
use crate::model::{ClusterCall, Instant, Life, NodeName, RaftCall, RequestId};

/// So many questions wait at most, of our own operators and of other members each.
const MOST: usize = 16;
/// An operator waits so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions of others have numbers of their own, all below [`STEP`].
const OTHERS: u32 = 1 << 31;

/// Questions on their way to the leader, and those of others that came to this one.
#[derive(Clone, Debug, Default)]
pub(super) struct Forwarding {
    ours: BTreeMap<u32, Ours>,
    theirs: BTreeMap<(NodeName, Life, u32), Theirs>,
    last: u32,
}

#[derive(Clone, Debug)]
struct Ours {
    request: RequestId,
    call: ClusterCall,
    until: Instant,
}

#[derive(Clone, Debug)]
struct Theirs {
    request: RequestId,
    outcome: Option<Result<String, String>>,
    until: Instant,
}

impl Quorum {
    pub fn on_order(&mut self, cx: &mut Cx<'_>, request: RequestId, call: ClusterCall) {
        let elsewhere = self.raft.leader().is_some_and(|it| *it != self.me);
        if !elsewhere || self.forwarding.ours.len() >= MOST {
            return self.propose(cx, request, call);
        }
        self.forwarding.last = (self.forwarding.last + 1) % (OTHERS - 1);
        let ours = Ours { request, call, until: cx.now + PATIENCE };
        self.forwarding.ours.insert(self.forwarding.last, ours);
        self.hurried.extend(self.raft.leader().cloned());
    }

    /// Raft knows of no VIPs, so what it is asked about them is looked at here.
    fn propose(&mut self, cx: &mut Cx<'_>, request: RequestId, call: ClusterCall) {
        if let Some(why) = self.must_not_add(&call).filter(|_| self.raft.leads()) {
            return cx.act(Action::Answer { request, outcome: Err(why) });
        }
        match &call {
            ClusterCall::Move(vip, _) if self.raft.leads() && !self.assigned.contains_key(vip) => {
                let known: Vec<_> = self.assigned.keys().map(ToString::to_string).collect();
                let why =
                    format!("{vip} is no VIP of this cluster; there are {}", known.join(", "));
                cx.act(Action::Answer { request, outcome: Err(why) });
            }
            ClusterCall::Add { .. }
            | ClusterCall::Drain(_)
            | ClusterCall::Move(..)
            | ClusterCall::Promote(_)
            | ClusterCall::Readdress { .. }
            | ClusterCall::Remove(_)
            | ClusterCall::Undrain(_)
            | ClusterCall::Unmove(_) => self.raft.propose(cx, request, call),
        }
    }

    /// A member hands a question on, or answers one of ours.
    pub(super) fn on_forwarding(
        &mut self,
        cx: &mut Cx<'_>,
        from: &NodeName,
        life: Life,
        call: &RaftCall,
    ) {
        match call {
            RaftCall::Forward { number, call } => {
                let key = (from.clone(), life, *number);
                if self.forwarding.theirs.contains_key(&key) {
                    self.hurried.insert(from.clone());
                } else if self.forwarding.theirs.len() < MOST {
                    self.forwarding.last = (self.forwarding.last + 1) % (OTHERS - 1);
                    let request = RequestId(OTHERS | self.forwarding.last);
                    let theirs = Theirs { request, outcome: None, until: cx.now + PATIENCE };
                    self.forwarding.theirs.insert(key, theirs);
                    self.propose(cx, request, call.clone());
                }
            }
            RaftCall::Forwarded { number, outcome } => {
                if let Some(it) = self.forwarding.ours.remove(number) {
                    let (request, outcome) = (it.request, outcome.clone());
                    cx.act(Action::Answer { request, outcome });
                }
            }
            RaftCall::Append(_)
            | RaftCall::AskVote { .. }
            | RaftCall::StandNow
            | RaftCall::Vote { .. } => {}
        }
    }

    /// Keeps the answers that others wait for, and gives up what nobody waits for.
    pub(super) fn sort_answers(&mut self, cx: &mut Cx<'_>) {
        let Forwarding { ours, theirs, .. } = &mut self.forwarding;
        let is_theirs =
            |it: &Action| matches!(it, Action::Answer { request, .. } if request.0 >= OTHERS);
        if ours.is_empty() && theirs.is_empty() && !cx.out.iter().any(is_theirs) {
            return;
        }
        let late = ours.extract_if(.., |_, it| it.until <= cx.now).map(|(_, it)| it.request);
        for request in late.collect::<Vec<_>>() {
            let seconds = PATIENCE.as_secs();
            let why =
                format!("the leader did not answer within {seconds} s; it may still come to be");
            cx.act(Action::Answer { request, outcome: Err(why) });
        }
        theirs.retain(|_, it| cx.now < it.until);
        let mut kept = Vec::new();
        let mut step = None;
        for action in std::mem::take(cx.out) {
            match action {
                Action::Answer { request: STEP, outcome } => step = Some(outcome),
                Action::Answer { request, outcome } if request.0 >= OTHERS => {
                    let asked = theirs.iter_mut().find(|(_, it)| it.request == request);
                    if let Some(((from, ..), it)) = asked {
                        it.outcome = Some(outcome);
                        self.hurried.insert(from.clone());
                    }
                }
                action => kept.push(action),
            }
        }
        *cx.out = kept;
        if let Some(outcome) = step {
            self.on_step(cx, outcome);
        }
    }

    /// What goes into the next message to this member.
    pub(super) fn forwarded(&self, to: &NodeName) -> impl Iterator<Item = RaftCall> + '_ {
        let to_leader = self.raft.leader() == Some(to);
        let ours = self.forwarding.ours.iter().filter(move |_| to_leader);
        let questions =
            ours.map(|(number, it)| RaftCall::Forward { number: *number, call: it.call.clone() });
        let to = to.clone();
        let answers = self.forwarding.theirs.iter().filter_map(move |((from, _, number), it)| {
            let outcome = it.outcome.clone().filter(|_| *from == to)?;
            Some(RaftCall::Forwarded { number: *number, outcome })
        });
        questions.chain(answers)
    }
}
