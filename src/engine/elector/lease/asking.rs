//! What is asked of the API server, and when.

use super::known::{Known, Whose};
use super::{Asked, InFlight, LeaseElector, RELEASE_FOR, RELEASED_DURATION, Role};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::{Action, Cx};
use crate::model::{ApiFault, Instant, LeaseCall};

impl LeaseElector {
    pub(super) fn retry_after_fault(&mut self, cx: &mut Cx<'_>, fault: &ApiFault) {
        let period = match (self.role, self.releasing) {
            // A leader has `renew_deadline` left, and a release a second: hurry.
            (Role::Leader { .. }, _) => self.config.retry_period / 2,
            (Role::Follower, Some(_)) => RELEASE_FOR / 10,
            (Role::Follower, None) => self.config.retry_period,
        };
        let wait = cx.rng.jittered(period).max(fault.retry_after.unwrap_or_default());
        self.retry_at = cx.now + wait;
    }

    pub(super) fn renew_when_due(&mut self, cx: &mut Cx<'_>) {
        if cx.now < self.retry_at {
            return;
        }
        match self.known {
            Known::Seen { .. } | Known::Absent => self.write(cx, Asked::Claim),
            Known::Nothing => self.read(cx),
        }
    }

    pub(super) fn release_when_due(&mut self, cx: &mut Cx<'_>) {
        match self.whose() {
            None if self.retry_at <= cx.now => self.read(cx),
            Some(Whose::Mine) if self.retry_at <= cx.now => self.write(cx, Asked::Release),
            None | Some(Whose::Mine) => {}
            Some(Whose::Free | Whose::MyPast | Whose::MyDouble | Whose::Other) => {
                self.releasing = None;
            }
        }
    }

    pub(super) fn campaign_when_due(&mut self, cx: &mut Cx<'_>, watching: bool) {
        if cx.now < self.campaign_at(watching) {
            return;
        }
        match self.known {
            Known::Nothing => self.read(cx),
            Known::Absent => self.write(cx, Asked::Claim),
            Known::Seen { .. } if self.free_at() <= cx.now => self.write(cx, Asked::Claim),
            Known::Seen { .. } => self.read(cx),
        }
    }

    /// When a follower must next do something: claim what is free, or look. The moment it
    /// becomes free counts, not the next look.
    pub(super) fn campaign_at(&self, watching: bool) -> Instant {
        let due = match &self.known {
            Known::Absent | Known::Nothing => self.retry_at,
            Known::Seen { .. } if watching => self.free_at(),
            Known::Seen { .. } => self.free_at().min(self.poll_at),
        };
        due.max(self.retry_at)
    }

    fn read(&mut self, cx: &mut Cx<'_>) {
        self.ask(cx, Asked::Read, LeaseCall::Read);
    }

    pub(super) fn write(&mut self, cx: &mut Cx<'_>, what: Asked) {
        let holder = match what {
            Asked::Release => None,
            Asked::Claim | Asked::Read => Some(self.me.clone()),
        };
        let based_on = match &self.known {
            Known::Seen { lease, .. } => Some(lease.clone()),
            Known::Absent | Known::Nothing => None,
        };
        let before = based_on.as_ref().map(|it| &it.record);
        let goes_on = before.is_some_and(|it| it.holder.as_ref() == Some(&self.me));
        let transitions = before
            .map_or(0, |it| it.transitions.saturating_add(u32::from(!goes_on && holder.is_some())));
        let acquired =
            before.filter(|_| goes_on && holder.is_some()).and_then(|it| it.acquired.clone());
        let duration = match holder {
            Some(_) => self.config.duration,
            None => RELEASED_DURATION,
        };
        let author = self.author;
        let call = LeaseCall::Write {
            holder,
            duration,
            transitions,
            acquired,
            author,
            quorum: None,
            owner: self.owner.clone(),
            based_on,
        };
        self.ask(cx, what, call);
    }

    fn ask(&mut self, cx: &mut Cx<'_>, what: Asked, call: LeaseCall) {
        let patience = match sabotaged(Sabotage::GivenUpAfterRetryPeriod) {
            true => self.config.retry_period,
            false => self.config.renew_deadline,
        };
        let give_up_at = match (self.leads_until(), self.releasing) {
            (Some(until), _) => until.min(cx.now + patience),
            (None, Some(releasing)) => releasing.give_up_at,
            (None, None) => cx.now + patience,
        };
        let request = cx.next_request();
        let creates = matches!(call, LeaseCall::Write { based_on: None, .. });
        self.in_flight = Some(InFlight { request, sent_at: cx.now, give_up_at, what, creates });
        self.retry_at = cx.now + cx.rng.jittered(self.config.retry_period);
        let lease = self.config.name.clone();
        cx.act(Action::Lease { request, lease, call, give_up_at });
    }
}
