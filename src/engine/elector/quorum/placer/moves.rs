use std::time::Duration;

use super::Why;
use super::roster::{Roster, Row};
use super::ruling::{Case, Cause, Ruling};
use super::seat::{Epochs, Preparing, Seat};
use super::spread::{Loads, choose};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::Instant;

/// Another is asked once the next holder has not been ready for so long.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// A VIP that was moved by plan is not moved again before.
const CALM: Duration = Duration::from_secs(5);

/// One round of carrying out what was ruled.
pub(super) struct Moves<'a> {
    pub now: Instant,
    pub roster: &'a Roster<'a>,
    pub loads: Loads,
    /// Since when better places count.
    pub better_from: Option<Instant>,
    pub epochs: &'a mut Epochs,
    /// Something that was somewhere goes elsewhere.
    pub moved: bool,
    pub wake_at: Option<Instant>,
}

impl Moves<'_> {
    pub fn follow(&mut self, case: Case<'_>, ruling: Ruling, seat: &mut Seat) {
        if let Some(index) = self.heir(seat) {
            self.loads.remove(index);
        }
        match ruling {
            Ruling::Stay(present) => {
                seat.call_off();
                seat.present = present;
            }
            Ruling::Prepare(cause) => self.prepare(case, cause, seat),
            Ruling::Replace(why) => self.replace(case, why, seat),
        }
        if let Some(index) = self.heir(seat) {
            self.loads.add(index);
        }
    }

    fn replace(&mut self, case: Case<'_>, why: Why, seat: &mut Seat) {
        let epoch = seat.assigned.epoch;
        let next = seat.assigned.next.as_ref().and_then(|it| self.roster.find(it));
        let ready = next.filter(|it| {
            let row = &self.roster.rows[*it];
            row.may_take(case.vip) && row.is_ready(case.vip, epoch)
        });
        let found = || self.roster.holding(case.vip).filter(|_| seat.assigned.holder.is_none());
        let target = ready
            .or_else(found)
            .or_else(|| choose(self.roster, &self.loads, case, false, |it| it.may_take(case.vip)));
        let placed = match (target.map(|it| self.roster.rows[it].name), why) {
            (None, _) => Why::Nobody,
            (Some(_), Why::Lightest) if found() == target => Why::Stays,
            (Some(name), Why::Lightest) if case.wish == Some(name) => Why::Asked,
            (Some(_), why) => why,
        };
        self.give(seat, target, placed);
    }

    fn prepare(&mut self, case: Case<'_>, cause: Cause, seat: &mut Seat) {
        let roster = self.roster;
        let holder = seat.assigned.holder.clone();
        let Some(holder) = holder.as_ref().and_then(|it| roster.get(it)) else { return };
        let permitted = |it: &Row<'_>| case.permits(cause, holder, it);
        let next = seat.assigned.next.as_ref().and_then(|it| roster.find(it));
        let next = next.filter(|it| permitted(&roster.rows[*it]));
        if next.is_none() && seat.assigned.next.is_none() {
            let begin_at = self.begin_at(case, cause, seat);
            if begin_at.is_some_and(|it| self.now < it) {
                self.wake(begin_at);
                seat.present = None;
                return;
            }
        }
        let mut preparing = seat.preparing.take().unwrap_or_else(|| Preparing::new(self.now));
        if let Some(index) = next {
            let row = &roster.rows[index];
            let late = self.now >= preparing.since + READY_WITHIN;
            let ready = row.is_ready(case.vip, seat.assigned.epoch)
                || sabotaged(Sabotage::MoveBeforeReady)
                || (late && cause == Cause::Leaving);
            if ready {
                self.give(seat, Some(index), cause.why(holder.name));
                seat.planned_at = Some(self.now);
                if cause == Cause::Asked {
                    seat.granted = case.wish.cloned();
                }
                return;
            }
            if late {
                preparing.passed_over.push(row.name.clone());
            } else {
                self.wake(Some(preparing.since + READY_WITHIN));
                seat.preparing = Some(preparing);
                seat.present = Some(cause.why(holder.name));
                return;
            }
        }
        let fresh = |it: &Row<'_>| permitted(it) && !preparing.passed_over.contains(it.name);
        let mut chosen = choose(self.roster, &self.loads, case, true, fresh);
        if chosen.is_none() {
            preparing.passed_over.clear();
            chosen = choose(self.roster, &self.loads, case, true, permitted);
        }
        if cause == Cause::Leaving && self.now >= preparing.since + READY_WITHIN {
            self.give(seat, chosen, cause.why(holder.name));
            return;
        }
        if cause != Cause::Leaving {
            preparing.since = self.now;
        }
        self.wake(Some(preparing.since + READY_WITHIN));
        seat.assigned.next = chosen.map(|it| roster.rows[it].name.clone());
        seat.preparing = Some(preparing);
        seat.present = Some(cause.why(holder.name));
    }

    /// Not before then; `None`: at any time.
    fn begin_at(&self, case: Case<'_>, cause: Cause, seat: &Seat) -> Option<Instant> {
        let calm = seat.planned_at.map(|it| it + CALM);
        match cause {
            Cause::Drained | Cause::Leaving => None,
            Cause::Asked if seat.granted.as_ref() != case.wish => None,
            Cause::Asked | Cause::Sick => calm,
            Cause::FailBack => calm.max(self.better_from),
        }
    }

    /// A decision: whoever is to carry the VIP gets a higher epoch.
    fn give(&mut self, seat: &mut Seat, to: Option<usize>, why: Why) {
        let Some(epoch) = self.epochs.raise() else { return };
        let to = to.map(|it| self.roster.rows[it].name.clone());
        let moved = seat.assigned.holder.is_some() && seat.assigned.holder != to;
        self.moved |= moved;
        if !(moved && sabotaged(Sabotage::EpochNotRaised)) {
            seat.assigned.epoch = epoch;
        }
        seat.assigned.holder = to;
        seat.placed = why;
        seat.present = None;
        seat.call_off();
    }

    fn heir(&self, seat: &Seat) -> Option<usize> {
        self.roster.find(seat.heir()?)
    }

    fn wake(&mut self, at: Option<Instant>) {
        self.wake_at = self.wake_at.into_iter().chain(at).min();
    }
}
