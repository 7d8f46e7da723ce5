//! What members say, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use super::voter::Grounds;
use super::{Candidate, Quorum, QuorumTiming, Raft};
use crate::engine::Cx;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Assigned, Hold, HoldAnswer, Instant, Life, Message, NodeName, Vip};

impl Quorum {
    pub(super) fn on_message(
        &mut self,
        cx: &mut Cx<'_>,
        from: &NodeName,
        life: Life,
        message: Message,
    ) {
        let foreign = match (self.raft.cluster(), message.cluster) {
            (Some(ours), Some(theirs)) => ours != theirs,
            (Some(_), None) | (None, Some(_)) | (None, None) => false,
        };
        let now = cx.now;
        self.raft.on_message(cx, from, &message, &|| self.voter.promises(now));
        if foreign {
            return;
        }
        for call in &message.raft {
            self.on_forwarding(cx, from, life, call);
        }
        self.note(cx.now, from, &message);
        let leads = message.leader.as_ref() == Some(from) && message.term >= self.raft.term();
        if leads && let Some(assignment) = &message.assignment {
            self.learn(assignment);
        }
        if leads && cx.now >= self.beaten_at + self.timing.heartbeat / 2 {
            self.beat_at = cx.now;
        }
        for it in &message.released {
            self.voter.on_released(from, life, it);
        }
        if let Some(hold) = &message.hold {
            let came = match sabotaged(Sabotage::PromiseFromSender) {
                true => Instant::from_nanos(message.stamp.saturating_mul(1_000)),
                false => cx.now,
            };
            let answer = self.promise(came, from, life, hold);
            if hold.urgent {
                self.hurried.insert(from.clone());
            }
            self.answers.insert(from.clone(), vec![answer]);
        }
        if let Some(entry) = self.raft.head() {
            let committed = self.raft.committed() == entry.id;
            for answer in &message.answers {
                let longer = self.holder.on_answer(cx.now, from, answer, entry, committed);
                longer.into_iter().for_each(|it| self.touched.mark(it));
            }
        }
    }

    fn note(&mut self, now: Instant, from: &NodeName, message: &Message) {
        let suspicion = self.suspicion();
        if let Some(it) = self.members.get_mut(from)
            && now < it.heard_at + suspicion
            && it.says(message)
        {
            it.heard_at = now;
            return;
        }
        self.unsettled = true;
        let before = self.members.remove(from);
        let live = before.as_ref().filter(|it| now < it.heard_at + suspicion);
        let live_since = live.map_or(now, |it| it.live_since);
        // What is said between two beats says nothing of holds.
        let holds = match &message.hold {
            Some(hold) => hold.vips.iter().copied().collect(),
            None => before.map(|it| it.holds).unwrap_or_default(),
        };
        let released = message.released.iter().map(|it| (it.vip, it.epoch)).collect();
        let report = message.report.clone();
        let it = Candidate { heard_at: now, live_since, report, released, holds };
        self.members.insert(from.clone(), it);
    }

    /// Takes over what the leader has decided.
    pub(super) fn learn(&mut self, assignment: &[Assigned]) {
        if !self.assigned.values().eq(assignment) {
            self.unsettled = true;
            self.learn_changed(assignment);
        }
        let released: Vec<_> = self.holder.released().map(|it| it.vip).collect();
        for vip in released {
            if let Some(it) = self.assigned.get(&vip) {
                self.holder.on_epoch(vip, it.epoch);
            }
        }
    }

    fn learn_changed(&mut self, assignment: &[Assigned]) {
        for it in assignment {
            let known = self.assigned.get(&it.vip);
            if known.is_some_and(|known| known.epoch > it.epoch || known == it) {
                continue;
            }
            self.touched.mark(it.vip);
            if known.is_some_and(|known| known.epoch < it.epoch) {
                // Another decision, for which it is to get ready anew.
                self.waiting.remove(&it.vip);
            }
            if it.holder.as_ref().is_some_and(|holder| *holder != self.me) || it.next.is_some() {
                self.taken.insert(it.vip);
            }
            self.assigned.insert(it.vip, it.clone());
        }
        if self.assigned.len() != assignment.len() {
            let kept: BTreeSet<_> = assignment.iter().map(|it| it.vip).collect();
            let touched = &mut self.touched;
            self.assigned.retain(|vip, _| {
                let keeps = kept.contains(vip);
                if !keeps {
                    touched.mark(*vip);
                }
                keeps
            });
        }
    }

    pub(super) fn promise(
        &mut self,
        now: Instant,
        from: &NodeName,
        life: Life,
        hold: &Hold,
    ) -> HoldAnswer {
        let Self { voter, raft, assigned, timing, .. } = self;
        voter.ask(now, from, life, hold, grounds(raft, assigned, *timing))
    }

    pub(super) fn answer_kept(&mut self, now: Instant) {
        let Self { voter, raft, assigned, timing, .. } = self;
        for (to, answer) in voter.due(now, grounds(raft, assigned, *timing)) {
            if to == self.me {
                self.count_own(now, &answer);
            } else {
                self.answers.entry(to.clone()).or_default().push(answer);
                self.hurried.insert(to);
            }
        }
    }

    pub(super) fn count_own(&mut self, now: Instant, answer: &HoldAnswer) {
        if let Some(entry) = self.raft.head() {
            let committed = self.raft.committed() == entry.id;
            let longer = self.holder.on_answer(now, &self.me, answer, entry, committed);
            longer.into_iter().for_each(|it| self.touched.mark(it));
        }
    }
}

fn grounds<'a>(
    raft: &Raft,
    assigned: &'a BTreeMap<Vip, Assigned>,
    timing: QuorumTiming,
) -> Grounds<'a> {
    let votes = raft.voting().is_ok();
    let entry = raft.entry().filter(|_| votes);
    let longest = entry.map_or(timing.promise, |it| it.longest);
    Grounds { config: entry.map(|it| it.id), longest, assigned }
}
