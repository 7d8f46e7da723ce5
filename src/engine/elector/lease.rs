//! Election by a Kubernetes Lease object.
//!
//! ```text
//!              lease free or run out, write accepted
//!   Follower ───────────────────────────────────────▶ Leader { until }
//!      ▲                                                │  │ write accepted:
//!      └── until passed, or another holder seen, ───────┘  └─ until moves on
//!          or retired: silent first, then released
//! ```
//!
//! Two rules keep leaders from overlapping, as long as clocks run at rates within
//! `duration / renew_deadline` of each other:
//!
//! * a leader trusts a write for `renew_deadline` after it *sent* it;
//! * a follower waits `duration`, or what the record says if that is longer, after it last
//!   *saw* the record change.
//!
//! Every write is conditional on the version it replaces, so a follower whose view is old
//! is refused and reads again.
//!
//! Supported: the record and the semantics of client-go's `leaderelection`, so that
//! candidates of both kinds take turns.

mod asking;
mod known;

use std::time::Duration;

use known::Known;
use serde::{Deserialize, Serialize};

use super::super::sabotage::{Sabotage, sabotaged};
use super::super::{Cx, Deadline};
use crate::model::{
    ApiFault, Author, Instant, Lease, LeaseOwner, LeaseReply, NodeName, ObjectName, RequestId,
    ResourceVersion, WatchEvent,
};

/// How long a release that fails is tried again.
const RELEASE_FOR: Duration = Duration::from_secs(1);
/// What a released record says, as client-go writes it.
const RELEASED_DURATION: Duration = Duration::from_secs(1);

/// Names and durations of an election.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeaseConfig {
    /// Which Lease.
    pub name: ObjectName,
    /// Others wait this long after the last renewal they saw.
    pub duration: Duration,
    /// A leader trusts a renewal this long after it sent it.
    pub renew_deadline: Duration,
    /// Time between attempts.
    pub retry_period: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct LeaseElector {
    config: LeaseConfig,
    me: NodeName,
    author: Author,
    /// Whose the Lease is, if this node creates it.
    pub owner: Option<LeaseOwner>,
    /// How long a Lease that nobody has created is left to others.
    pub hesitation: Duration,
    /// What an earlier process left may answer until then, and nobody can know of it.
    pub left_until: Option<Instant>,
    role: Role,
    known: Known,
    in_flight: Option<InFlight>,
    /// Ask nothing before.
    retry_at: Instant,
    /// Without a watch, look again then.
    poll_at: Instant,
    /// The last write met another's: a second time in a row is no race any more.
    contested: bool,
    releasing: Option<Releasing>,
    clash: bool,
    fault: Option<ApiFault>,
    answered_at: Option<Instant>,
    terms: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Follower,
    Leader {
        until: Instant,
        /// Nobody held the Lease before.
        first: bool,
        /// Leadership counts only once a write sent after this is accepted.
        doubted_at: Option<Instant>,
    },
}

/// A release was begun.
#[derive(Clone, Copy, Debug)]
struct Releasing {
    /// One that failed is tried again until then.
    retry_until: Instant,
    /// One that is under way is waited for until then: the end of what was held.
    give_up_at: Instant,
}

#[derive(Clone, Debug)]
struct InFlight {
    request: RequestId,
    sent_at: Instant,
    give_up_at: Instant,
    what: Asked,
    /// It is to create the Lease.
    creates: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Claim,
    Read,
    Release,
}

impl LeaseElector {
    pub fn new(config: LeaseConfig, me: NodeName, author: Author, now: Instant) -> Self {
        Self {
            config,
            me,
            author,
            owner: None,
            hesitation: Duration::ZERO,
            left_until: None,
            role: Role::Follower,
            known: Known::Nothing,
            in_flight: None,
            retry_at: now,
            poll_at: now,
            contested: false,
            releasing: None,
            clash: false,
            fault: None,
            answered_at: None,
            terms: 0,
        }
    }

    /// What an earlier process held may answer for so long after its right ended, and nobody
    /// knows what that is.
    pub fn wait_for_left(&mut self, now: Instant, outlives: Duration) {
        self.left_until = Some(now + self.config.renew_deadline + outlives);
    }

    /// Time first: nothing may act on a role that has run out.
    pub fn expire(&mut self, now: Instant) {
        if self.leads_until().is_some_and(|until| until <= now) {
            self.role = Role::Follower;
        }
        self.in_flight.take_if(|it| it.give_up_at <= now);
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: LeaseReply) {
        let current = |it: &mut InFlight| it.request == request || sabotaged(Sabotage::LateReply);
        let Some(asked) = self.in_flight.take_if(current) else {
            return;
        };
        match reply {
            LeaseReply::Failed(fault) => {
                self.retry_after_fault(cx, &fault);
                self.fault = Some(fault);
                return;
            }
            LeaseReply::Conflict => self.on_conflict(cx, &asked),
            LeaseReply::NotFound => {
                self.role = Role::Follower;
                self.releasing = None;
                self.known = Known::Absent;
                let wait = cx.rng.jittered(self.config.retry_period);
                let hesitant = asked.what == Asked::Read;
                self.retry_at = cx.now + if hesitant { self.hesitation } else { wait };
            }
            LeaseReply::Found(lease) => self.on_found(cx, &asked, lease),
        }
        self.fault = None;
        self.answered_at = Some(cx.now);
    }

    pub fn on_watch(&mut self, cx: &mut Cx<'_>, event: &WatchEvent) {
        match event {
            WatchEvent::Lease(lease) => {
                // A watch may be served from a cache that lags behind what we wrote.
                let stale = self.version().is_some_and(|it| lease.version.is_before(it));
                if !stale {
                    self.saw(cx.now, lease.clone());
                }
            }
            WatchEvent::Deleted if sabotaged(Sabotage::DeletedLeaseHeld) => {}
            WatchEvent::Deleted => {
                self.step_down();
                self.known = Known::Nothing;
                self.retry_at = cx.now;
            }
            WatchEvent::Bookmark(_)
            | WatchEvent::Ended(_)
            | WatchEvent::Expired
            | WatchEvent::Opened => {}
        }
    }

    /// Something happened that no clock shows: answer only after a new write is accepted.
    pub fn doubt(&mut self, now: Instant) {
        match &mut self.role {
            Role::Follower => self.step_down(),
            Role::Leader { doubted_at, .. } => {
                *doubted_at = Some(now);
                self.retry_at = now;
            }
        }
    }

    /// Asks for what is due. `stand`: this node wants to lead. `quiet`: the kernel is known
    /// to answer for none of our VIPs. `watching`: news comes without being asked for.
    pub fn reconcile(&mut self, cx: &mut Cx<'_>, stand: bool, quiet: bool, watching: bool) {
        if self.in_flight.is_some() {
            return;
        }
        self.releasing.take_if(|it| it.retry_until <= cx.now);
        self.left_until.take_if(|it| *it <= cx.now);
        let waits = self.left_until.is_some() && !sabotaged(Sabotage::LeftNotWaitedFor);
        let quiet = quiet && !waits;
        match self.role {
            Role::Leader { .. } if stand => self.renew_when_due(cx),
            Role::Leader { until, .. } => {
                if quiet || sabotaged(Sabotage::ReleaseBeforeSilent) {
                    self.role = Role::Follower;
                    let retry_until = cx.now + RELEASE_FOR;
                    let give_up_at = until.max(retry_until);
                    self.releasing = Some(Releasing { retry_until, give_up_at });
                    self.retry_at = cx.now;
                    self.release_when_due(cx);
                }
            }
            Role::Follower if self.releasing.is_some() => self.release_when_due(cx),
            Role::Follower if stand => self.campaign_when_due(cx, watching),
            Role::Follower => {}
        }
    }

    /// Until when we may act as the leader, if we are.
    pub fn leads_until(&self) -> Option<Instant> {
        match self.role {
            Role::Follower => None,
            Role::Leader { until, .. } => Some(until),
        }
    }

    /// Whether the leadership was confirmed after all doubts.
    pub fn is_confirmed(&self) -> bool {
        matches!(self.role, Role::Leader { doubted_at: None, .. })
    }

    /// Whether nobody held the Lease before us.
    pub fn is_first_claim(&self) -> bool {
        matches!(self.role, Role::Leader { first: true, .. })
    }

    /// Whether the Lease is held, or being given back.
    pub fn is_holding(&self) -> bool {
        self.leads_until().is_some() || self.releasing.is_some()
    }

    /// Whether an answer is awaited that changes what others may do.
    pub fn is_writing(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|it| it.what != Asked::Read)
    }

    /// Whether nothing is left to do after having been told to retire.
    pub fn is_retired(&self) -> bool {
        !self.is_holding() && !self.is_writing()
    }

    /// The request whose answer is awaited.
    pub fn awaits(&self) -> Option<RequestId> {
        self.in_flight.as_ref().map(|it| it.request)
    }

    /// Namespace and name of the Lease.
    pub fn name(&self) -> &ObjectName {
        &self.config.name
    }

    pub fn holder(&self) -> Option<&NodeName> {
        match &self.known {
            Known::Seen { lease, .. } => lease.record.holder.as_ref(),
            Known::Absent | Known::Nothing => None,
        }
    }

    /// The version that a watch can begin from.
    pub fn version(&self) -> Option<&ResourceVersion> {
        match &self.known {
            Known::Seen { lease, .. } => Some(&lease.version),
            Known::Absent | Known::Nothing => None,
        }
    }

    /// Whether somebody else writes the Lease under our name.
    pub fn has_double(&self) -> bool {
        self.clash
    }

    pub fn fault(&self) -> Option<&ApiFault> {
        self.fault.as_ref()
    }

    pub fn answered_at(&self) -> Option<Instant> {
        self.answered_at
    }

    /// How often this process has become leader.
    pub fn terms(&self) -> u64 {
        self.terms
    }

    pub fn deadline(&self, stand: bool, watching: bool) -> Option<Deadline> {
        let give_up = self
            .in_flight
            .as_ref()
            .map(|it| Deadline { at: it.give_up_at, why: "give a request up" });
        let due = match self.role {
            _ if self.in_flight.is_some() => None,
            Role::Leader { .. } if stand => {
                Some(Deadline { at: self.retry_at, why: "renew the lease" })
            }
            Role::Leader { .. } => {
                self.left_until.map(|at| Deadline { at, why: "what was left ends" })
            }
            Role::Follower if self.releasing.is_some() => {
                Some(Deadline { at: self.retry_at, why: "release the lease" })
            }
            Role::Follower if stand => {
                Some(Deadline { at: self.campaign_at(watching), why: "campaign" })
            }
            Role::Follower => None,
        };
        let over = self.leads_until().map(|at| Deadline { at, why: "leadership ends" });
        let released = self.releasing.filter(|_| self.in_flight.is_none());
        let released = released.map(|it| Deadline { at: it.retry_until, why: "release given up" });
        [give_up, due, over, released].into_iter().flatten().min()
    }

    /// Somebody wrote meanwhile. Who it was decides whether we still lead.
    fn on_conflict(&mut self, cx: &mut Cx<'_>, asked: &InFlight) {
        if asked.what == Asked::Release && sabotaged(Sabotage::ConflictingReleaseNotRetried) {
            self.releasing = None;
        }
        self.known = Known::Nothing;
        let period = match self.releasing {
            Some(_) => RELEASE_FOR / 10,
            None => self.config.retry_period / 2,
        };
        let wait = cx.rng.jittered(period);
        self.retry_at = if self.contested { cx.now + wait } else { cx.now };
        self.contested = true;
    }

    fn on_found(&mut self, cx: &mut Cx<'_>, asked: &InFlight, lease: Box<Lease>) {
        match asked.what {
            Asked::Claim => {
                let first = match self.role {
                    Role::Leader { first, .. } => first,
                    Role::Follower => {
                        self.terms += 1;
                        // The watch may have been faster than the answer.
                        asked.creates
                    }
                };
                let doubted_at = match self.role {
                    Role::Leader { doubted_at, .. } => doubted_at.filter(|it| asked.sent_at < *it),
                    Role::Follower => None,
                };
                self.saw_own(cx.now, lease);
                let trusted_from =
                    if sabotaged(Sabotage::UntilFromReply) { cx.now } else { asked.sent_at };
                let until = trusted_from + self.config.renew_deadline;
                self.role = Role::Leader { until, first, doubted_at };
                self.clash = false;
                self.contested = false;
                self.retry_at = match doubted_at {
                    Some(_) => cx.now,
                    None => asked.sent_at + self.config.retry_period,
                };
            }
            Asked::Read => {
                self.saw(cx.now, lease);
                self.retry_at = cx.now;
                self.poll_at = cx.now + cx.rng.jittered(self.config.retry_period);
            }
            Asked::Release => {
                self.saw_own(cx.now, lease);
                self.releasing = None;
                self.retry_at = cx.now + cx.rng.jittered(self.config.retry_period);
            }
        }
    }

    /// Somebody else's word ends the role, and what was claimed before it says nothing.
    fn step_down(&mut self) {
        self.role = Role::Follower;
        if let Some(asked) = self.in_flight.as_mut().filter(|it| it.what == Asked::Claim) {
            asked.what = Asked::Read;
        }
    }
}
