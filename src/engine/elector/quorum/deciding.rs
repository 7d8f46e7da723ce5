//! What a member decides in a turn: how it is, who carries what if it leads, what it holds.

use std::collections::BTreeSet;

use super::placer::PlacerView;
use super::{Candidate, Quorum, READY_FOR, ROUNDS, Surroundings};
use crate::engine::Cx;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Ailment, Assigned, EntryId, Instant, NodeName, Report, Vip};

/// What is decided about VIPs depends on this, beside what members say, what is asked for and
/// what can be carried here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Basis {
    leads: bool,
    handing_over: bool,
    heir: bool,
    term: u64,
    newest: EntryId,
    committed: EntryId,
    ailments: Vec<Ailment>,
    penalty: u8,
}

impl Quorum {
    /// Who carries what, and what is held of it: all VIPs are looked at, so it is decided when
    /// something may have changed it, and with each beat all the same. Most of what members
    /// say is that all is as before.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) {
        let basis = Basis {
            leads: self.raft.leads(),
            handing_over: self.raft.is_handing_over(),
            heir: self.heir,
            term: self.raft.term(),
            newest: self.raft.newest(),
            committed: self.raft.committed(),
            ailments: self.ailments(cx.now, around.carrier),
            penalty: self.fitness.penalty(),
        };
        let closing = !self.holder.closing().is_empty();
        let moves = closing || !self.waiting.is_empty() || around.stopping;
        let due = self.due.is_none_or(|it| it.at <= cx.now);
        if !(self.unsettled || moves || due || around.changed || basis != self.basis) {
            return;
        }
        self.basis = basis;
        self.note_waiting(cx.now);
        self.examine(cx.now, around);
        for _ in 0..ROUNDS {
            if !self.lead(cx, around) {
                break;
            }
            self.note_waiting(cx.now);
            self.examine(cx.now, around);
        }
        self.unsettled = false;
        self.hold(cx.now, around);
        self.hand_over(cx, around);
        self.note_waiting(cx.now);
    }

    /// What this member says of itself.
    fn examine(&mut self, now: Instant, around: &Surroundings<'_>) {
        let concerns = |it: &&Assigned| {
            it.holder.as_ref() == Some(&self.me) || it.next.as_ref() == Some(&self.me)
        };
        let ready = self.assigned.values().filter(|it| it.next.as_ref() == Some(&self.me));
        let waits = |vip| self.waiting.get(&vip).is_some_and(|since| now < *since + READY_FOR);
        let ready = ready.filter(|it| waits(it.vip) && (around.ready)(it.vip));
        let unable = |vip: Vip| around.unable.contains(&vip) || !around.wanted.contains(&vip);
        let report = Report {
            ailments: self.ailments(now, around.carrier),
            penalty: self.fitness.penalty(),
            leaving: around.stopping,
            unable: self
                .assigned
                .values()
                .filter(concerns)
                .map(|it| it.vip)
                .chain(around.unable.iter().copied())
                .filter(|vip| unable(*vip))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            ready: ready.map(|it| (it.vip, it.epoch)).collect(),
        };
        self.news |= report != self.report;
        self.report = report;
    }

    fn ailments(&self, now: Instant, carrier: bool) -> Vec<Ailment> {
        let mut all = self.fitness.ailments(now, carrier);
        all.extend(self.raft.fault().map(|_| Ailment::Store));
        all
    }

    /// The leader's part: who carries what. Whether anything was decided anew.
    fn lead(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) -> bool {
        let leads = self.raft.leads();
        self.note_own(cx.now);
        if leads && !self.leads {
            let holds = self.members.iter().flat_map(|(name, it)| {
                it.holds.iter().map(|(vip, epoch)| (name.clone(), *vip, *epoch))
            });
            let heard: Vec<_> = holds.collect();
            let assigned: Vec<_> = self.assigned.values().cloned().collect();
            self.placer.note_assignment(&assigned);
            let mut promises = self.raft.inherited().to_vec();
            promises.extend(self.voter.promises(cx.now));
            self.placer.begin(cx.now, self.raft.term(), &promises, &heard);
            self.terms += 1;
            self.news = true;
        } else if !leads && self.leads {
            self.placer.end();
            self.news = true;
        }
        self.leads = leads;
        let Some(entry) = self.raft.entry().filter(|_| leads) else {
            return false;
        };
        let view = PlacerView {
            wanted: around.wanted,
            entry,
            me: &self.me,
            members: &self.members,
            late: self.lateness,
            handing_over: self.raft.is_handing_over(),
        };
        self.placer.decide(cx.now, &view);
        let decided = !self.assigned.values().eq(self.placer.assignment());
        if decided {
            let assignment: Vec<_> = self.placer.assignment().cloned().collect();
            self.learn(&assignment);
            self.news = true;
        }
        decided
    }

    /// A leader that stops, and has nothing any more, has another lead.
    fn hand_over(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) {
        let leaves = self.leads && around.stopping && self.heir;
        let holds = self.holder.epochs().next().is_some();
        if leaves && !holds && !self.placer.reckons_with(&self.me) {
            self.raft.transfer(cx);
        }
    }

    fn note_own(&mut self, now: Instant) {
        let own = Candidate {
            heard_at: now,
            live_since: self.started_at,
            report: self.report.clone(),
            released: self.holder.released().map(|it| (it.vip, it.epoch)).collect(),
            holds: self.holder.epochs().collect(),
        };
        self.members.insert(self.me.clone(), own);
    }

    /// Whether somebody is there to lead or carry after us.
    pub(super) fn has_heir(&self, now: Instant) -> bool {
        let suspicion = self.suspicion();
        let Some(entry) = self.raft.entry() else { return false };
        let lives = |name: &NodeName, it: &Candidate| {
            let speaks = now < it.heard_at + suspicion && !it.report.leaving;
            *name != self.me && entry.is_voter(name) && speaks
        };
        self.members.iter().any(|(name, it)| lives(name, it))
    }

    /// What this member asks to hold is what it is assigned, and can carry.
    fn hold(&mut self, now: Instant, around: &Surroundings<'_>) {
        let deserted = around.stopping && !self.heir;
        let leaves = around.giving_up || deserted;
        let able = |vip: &Vip| around.wanted.contains(vip) && !around.unable.contains(vip);
        let ours = self.assigned.iter().filter(|it| it.1.holder.as_ref() == Some(&self.me));
        for (vip, it) in ours.filter(|_| !leaves) {
            let gone = self.holder.released().any(|was| was.vip == *vip && was.epoch >= it.epoch);
            if able(vip) && !gone {
                if !self.holder.has(*vip) {
                    (self.news, self.unsettled) = (true, true);
                    self.touched.mark(*vip);
                }
                self.holder.want(*vip, it.epoch);
            }
        }
        let mine: Vec<_> = self.holder.epochs().map(|(vip, _)| vip).collect();
        for vip in mine {
            if !(around.silent)(vip) && self.taken.insert(vip) {
                self.touched.mark(vip);
            }
            let ours =
                self.assigned.get(&vip).is_some_and(|it| it.holder.as_ref() == Some(&self.me));
            if !ours || !able(&vip) || leaves {
                self.holder.stop(vip);
                self.touched.mark(vip);
            }
        }
        for vip in self.holder.closing() {
            if (around.silent)(vip) || sabotaged(Sabotage::ReleasedBeforeQuiet) {
                if let Some(released) = self.holder.silent(now, vip) {
                    // This member is a voter as well, and promised itself.
                    self.voter.on_released(&self.me, self.life, &released);
                }
                self.touched.mark(vip);
                (self.news, self.unsettled) = (true, true);
            }
        }
    }

    /// Since when a VIP waits to be answered for here: ready, but not entitled.
    fn note_waiting(&mut self, now: Instant) {
        let waits = |it: &Assigned| {
            let next = it.next.as_ref() == Some(&self.me);
            let wanted = self.holder.wants(it.vip).is_some();
            next || (wanted && self.holder.entitled_until(now, it.vip).is_none())
        };
        let waiting: BTreeSet<_> =
            self.assigned.values().filter(|it| waits(it)).map(|it| it.vip).collect();
        let next =
            |vip: &Vip| self.assigned.get(vip).is_some_and(|it| it.next.as_ref() == Some(&self.me));
        // Who was late is asked again and again, if nobody else is there: it gets ready again.
        let over = |vip: &Vip, since: Instant| next(vip) && since + READY_FOR * 2 <= now;
        let touched = &mut self.touched;
        self.waiting.retain(|vip, since| {
            let keeps = waiting.contains(vip) && !over(vip, *since);
            if !keeps {
                touched.mark(*vip);
            }
            keeps
        });
        for vip in waiting {
            self.waiting.entry(vip).or_insert_with(|| {
                touched.mark(vip);
                now
            });
        }
    }
}
