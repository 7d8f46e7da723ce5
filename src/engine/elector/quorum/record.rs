//! The Lease as a record of who holds the first VIP: for people, and for whoever else would
//! elect by it. Nobody here decides by it, and nothing waits for it.
//!
//! ```text
//!            carries the first VIP       free, ours, or of this quorum
//!   idle ───────────────────────▶ looks ──────────────────────────────▶ writes, and again
//!     ▲                              │ somebody else renews it             │ with each
//!     │                              ▼                                     │ interval
//!     └── carries it no more ───── waits until that has run out ◀──────────┘
//! ```
//!
//! Each write replaces one version, so of two who write one is refused and looks again. The
//! founding of a quorum is written beside the record, by the same rule.

use std::time::Duration;

use super::QuorumApi;
use crate::engine::backoff::Backoff;
use crate::engine::{Action, Cx, Deadline};
use crate::model::{
    ApiFault, Author, Foundation, Instant, Lease, LeaseCall, LeaseRecord, LeaseReply, NodeName,
    ObjectName, RequestId,
};

/// No answer is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a fault it is tried again so soon, and ever later.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);
/// However short the Lease, it is not written more often.
const INTERVAL_LEAST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Record {
    lease: ObjectName,
    me: NodeName,
    author: Author,
    duration: Duration,
    known: Known,
    /// The record that was seen last, and since when.
    seen: Option<(LeaseRecord, Instant)>,
    in_flight: Option<InFlight>,
    looked_at: Option<Instant>,
    written_at: Option<Instant>,
    retry_at: Instant,
    backoff: Backoff,
    due: Option<Instant>,
    carries: bool,
    fault: Option<ApiFault>,
    answered_at: Option<Instant>,
}

/// What is known of the object.
#[derive(Clone, Debug)]
enum Known {
    Nothing,
    Absent,
    Seen(Box<Lease>),
}

#[derive(Clone, Debug)]
struct InFlight {
    request: RequestId,
    asked: Asked,
    give_up_at: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Found,
    Read,
    Write,
}

/// What is to stand at the API server, as far as it can be had.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    /// The quorum that this member belongs to.
    pub quorum: Option<u64>,
    /// It carries the first VIP, and so the record is its own to write.
    pub carries: bool,
    /// This is to stand beside the record, in place of what is known to stand there.
    pub foundation: Option<Foundation>,
    /// Know what stands there no worse than this.
    pub look_every: Option<Duration>,
}

impl Record {
    pub fn new(config: &QuorumApi, me: NodeName, now: Instant) -> Self {
        Self {
            lease: config.lease.clone(),
            me,
            author: config.author,
            duration: config.duration,
            known: Known::Nothing,
            seen: None,
            in_flight: None,
            looked_at: None,
            written_at: None,
            retry_at: now,
            backoff: Backoff::new(RETRY, RETRY_MOST),
            due: None,
            carries: false,
            fault: None,
            answered_at: None,
        }
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: LeaseReply) {
        let Some(InFlight { asked, .. }) = self.in_flight.take_if(|it| it.request == request)
        else {
            return;
        };
        match reply {
            LeaseReply::Failed(fault) => {
                let wait = self.backoff.wait(cx.rng);
                self.retry_at = cx.now + wait.max(fault.retry_after.unwrap_or_default());
                self.fault = Some(fault);
                // A write may have happened all the same.
                self.known = Known::Nothing;
                return;
            }
            LeaseReply::Conflict => {
                self.known = Known::Nothing;
                self.retry_at = cx.now + cx.rng.jittered(RETRY / 10);
            }
            LeaseReply::NotFound => {
                self.known = Known::Absent;
                self.looked_at = Some(cx.now);
            }
            LeaseReply::Found(lease) => {
                match asked {
                    // A server that accepts it and forgets it is not asked without a pause.
                    Asked::Found if self.foundation().flatten() == lease.foundation.as_ref() => {
                        self.retry_at = cx.now + RETRY;
                    }
                    Asked::Found => {}
                    Asked::Read => {}
                    Asked::Write => self.written_at = Some(cx.now),
                }
                self.looked_at = Some(cx.now);
                if self.seen.as_ref().is_none_or(|(record, _)| *record != lease.record) {
                    self.seen = Some((lease.record.clone(), cx.now));
                }
                self.known = Known::Seen(lease);
            }
        }
        self.backoff.reset();
        self.fault = None;
        self.answered_at = Some(cx.now);
    }

    /// Asks for what is due.
    pub fn reconcile(&mut self, cx: &mut Cx<'_>, wish: &Wish) {
        if wish.carries && !self.carries {
            // What was known is of another time.
            self.known = Known::Nothing;
            self.written_at = None;
        }
        self.carries = wish.carries;
        self.in_flight.take_if(|it| it.give_up_at + RETRY <= cx.now);
        let next = self.next(cx.now, wish);
        self.due = next.map(|(at, _)| at.max(self.retry_at));
        let due = self.due.is_some_and(|it| it <= cx.now) && self.in_flight.is_none();
        if let Some((_, asked)) = next.filter(|_| due) {
            self.ask(cx, asked, wish);
        }
    }

    /// Which Lease.
    pub fn lease(&self) -> &ObjectName {
        &self.lease
    }

    /// What stands there about the founding of a quorum; `None`: not known.
    pub fn foundation(&self) -> Option<Option<&Foundation>> {
        match &self.known {
            Known::Nothing => None,
            Known::Absent => Some(None),
            Known::Seen(lease) => Some(lease.foundation.as_ref()),
        }
    }

    /// Who renews the Lease although this member should.
    pub fn rival(&self, now: Instant, quorum: Option<u64>) -> Option<&NodeName> {
        let (record, _) = self.seen.as_ref().filter(|_| self.carries)?;
        record.holder.as_ref().filter(|_| now < self.free_at(quorum))
    }

    /// When this member, which holds, wrote that it does.
    pub fn written_at(&self) -> Option<Instant> {
        self.written_at.filter(|_| self.carries)
    }

    pub fn fault(&self) -> Option<&ApiFault> {
        self.fault.as_ref()
    }

    pub fn answered_at(&self) -> Option<Instant> {
        self.answered_at
    }

    pub fn deadline(&self) -> Option<Deadline> {
        match &self.in_flight {
            Some(it) => Some(Deadline {
                at: it.give_up_at + RETRY,
                why: "give a request about the Lease up",
            }),
            None => self.due.map(|at| Deadline { at, why: "record who holds" }),
        }
    }

    /// What is to be asked next, and when.
    fn next(&self, now: Instant, wish: &Wish) -> Option<(Instant, Asked)> {
        let founds = wish.foundation.is_some();
        let look = wish.look_every.map(|it| self.looked_at.map_or(now, |at| at + it));
        let read = look.map(|at| (at, Asked::Read));
        match &self.known {
            Known::Nothing if founds || wish.carries => Some((now, Asked::Read)),
            Known::Nothing => read,
            Known::Absent | Known::Seen(_) if founds => Some((now, Asked::Found)),
            Known::Absent if wish.carries => Some((now, Asked::Write)),
            Known::Seen(_) if wish.carries => {
                let again = self.written_at.filter(|_| self.is_own(wish.quorum));
                let again = again.map(|it| it + (self.duration / 3).max(INTERVAL_LEAST));
                let write = again.unwrap_or_else(|| self.free_at(wish.quorum).max(now));
                [Some((write, Asked::Write)), read].into_iter().flatten().min_by_key(|it| it.0)
            }
            Known::Absent | Known::Seen(_) => read,
        }
    }

    /// Whether the record is what this process wrote of this quorum.
    fn is_own(&self, quorum: Option<u64>) -> bool {
        self.seen.as_ref().is_some_and(|(it, _)| {
            let (ours, mine) = (it.quorum == quorum, it.author == Some(self.author));
            ours && mine && it.holder.as_ref() == Some(&self.me)
        })
    }

    /// When the record may be replaced: at once, unless somebody elects by it.
    fn free_at(&self, quorum: Option<u64>) -> Instant {
        match &self.seen {
            Some((record, since)) if record.holder.is_some() => {
                let ours = record.quorum.is_some() && record.quorum == quorum;
                if ours { *since } else { *since + record.duration.max(self.duration) }
            }
            Some((_, since)) => *since,
            None => self.retry_at,
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, asked: Asked, wish: &Wish) {
        let based_on = match &self.known {
            Known::Seen(lease) => Some(lease.clone()),
            Known::Absent | Known::Nothing => None,
        };
        let call = match (asked, &wish.foundation) {
            (Asked::Found, Some(foundation)) => {
                LeaseCall::Found { foundation: foundation.clone(), based_on }
            }
            (Asked::Found | Asked::Read, _) => LeaseCall::Read,
            (Asked::Write, _) => self.write(wish.quorum, based_on),
        };
        let request = cx.next_request();
        let give_up_at = cx.now + PATIENCE;
        self.in_flight = Some(InFlight { request, asked, give_up_at });
        let lease = self.lease.clone();
        cx.act(Action::Lease { request, lease, call, give_up_at });
    }

    fn write(&self, quorum: Option<u64>, based_on: Option<Box<Lease>>) -> LeaseCall {
        let before = based_on.as_ref().map(|it| &it.record);
        let goes_on = before.filter(|it| it.holder.as_ref() == Some(&self.me));
        let changes = u32::from(goes_on.is_none());
        LeaseCall::Write {
            holder: Some(self.me.clone()),
            duration: self.duration,
            transitions: before.map_or(0, |it| it.transitions.saturating_add(changes)),
            acquired: goes_on.and_then(|it| it.acquired.clone()),
            author: self.author,
            quorum,
            owner: None,
            based_on,
        }
    }
}

#[cfg(test)]
mod tests;
