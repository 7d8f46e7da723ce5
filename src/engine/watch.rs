//! What is watched: where to resume, and when to try again.
//!
//! ```text
//!   Waiting { at } ──▶ Opening ──▶ Open ──┐
//!        ▲                │               │ ended: back off; 410: forget the version
//!        └────────────────┴───────────────┘
//! ```
//!
//! Without a version a [`Follower`] lists, and its edge watches from there on; a Lease is
//! read by the elector, so a [`LeaseWatch`] waits for that.

use std::time::Duration;

use super::backoff::Backoff;
use super::{Action, Cx, Deadline};
use crate::model::{
    ApiFault, Followed, Instant, ObjectEvent, ObjectName, ResourceVersion, WatchEvent,
};

/// A watch that lasted this long ended for a reason that is over.
const SETTLED: Duration = Duration::from_secs(5);
/// An edge that has not said by then whether the watch is open is asked again.
const OPEN_BY: Duration = Duration::from_secs(30);
/// The longest time between attempts, but for jitter.
const PATIENCE: Duration = Duration::from_secs(30);

/// The watch on one Lease.
#[derive(Clone, Debug)]
pub(crate) struct LeaseWatch {
    lease: ObjectName,
    stream: Stream,
    version: Option<ResourceVersion>,
    /// News of it comes with that of others: whether it does.
    shared: Option<bool>,
}

impl LeaseWatch {
    pub fn new(lease: ObjectName) -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), PATIENCE);
        let stream = Stream { state: State::Idle, backoff };
        Self { lease, stream, version: None, shared: None }
    }

    /// One of many Leases that are followed together: nothing is asked for it alone.
    pub fn shared(lease: ObjectName, open: bool) -> Self {
        Self { shared: Some(open), ..Self::new(lease) }
    }

    /// Whether news comes with that of others.
    pub fn share(&mut self, open: bool) {
        self.shared = Some(open);
    }

    /// Whether news of this Lease are for it.
    pub fn is_on(&self, lease: &ObjectName) -> bool {
        self.lease == *lease
    }

    /// The Lease was read or written, and has this version: enough to start from, and what
    /// was before it need not be told again.
    pub fn start(&mut self, cx: &Cx<'_>, version: &ResourceVersion) {
        if self.shared.is_some() {
            return;
        }
        if matches!(self.stream.state, State::Idle) {
            self.version = Some(version.clone());
            self.stream.state = State::Waiting { at: cx.now };
        } else if let Some(known) = self.version.as_mut().filter(|it| it.is_before(version)) {
            known.clone_from(version);
        }
    }

    pub fn on_event(&mut self, cx: &mut Cx<'_>, event: &WatchEvent) {
        match event {
            WatchEvent::Bookmark(version) => self.version = Some(version.clone()),
            WatchEvent::Deleted => {}
            WatchEvent::Ended(fault) => self.stream.ended(cx, fault),
            WatchEvent::Expired => {
                self.version = None;
                self.stream.wait(cx, Duration::ZERO);
            }
            WatchEvent::Lease(lease) => self.version = Some(lease.version.clone()),
            WatchEvent::Opened => self.stream.opened(cx.now),
        }
    }

    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        if self.stream.opens(cx.now) {
            let (lease, from) = (self.lease.clone(), self.version.clone());
            cx.act(Action::Watch { lease, from });
        }
    }

    pub fn is_open(&self) -> bool {
        self.shared.unwrap_or(self.stream.is_open())
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.stream.deadline("watch the lease")
    }
}

/// List and watch of objects of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    what: Followed,
    stream: Stream,
    /// All that there was at this version is known; `None`: list.
    version: Option<ResourceVersion>,
    /// A list has begun: what comes is part of it, and no place to resume from.
    listing: bool,
    listed: bool,
    fault: Option<ApiFault>,
}

impl Follower {
    /// Begins with the first tick.
    pub fn new(what: Followed, now: Instant) -> Self {
        let backoff = Backoff::new(Duration::from_millis(50), PATIENCE);
        Self {
            what,
            stream: Stream { state: State::Waiting { at: now }, backoff },
            version: None,
            listing: false,
            listed: false,
            fault: None,
        }
    }

    /// The objects themselves are the caller's business. What a list has said counts once
    /// there is [`ObjectEvent::Listed`]; one that ended before begins anew.
    pub fn on_events(&mut self, cx: &mut Cx<'_>, events: &[ObjectEvent]) {
        for event in events {
            self.on_event(cx, event);
        }
    }

    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        if self.stream.opens(cx.now) {
            let (what, from) = (self.what.clone(), self.version.clone());
            cx.act(Action::Follow { what, from });
        }
    }

    /// Lists anew at once, as if nothing had been said yet; a fault stays one until that works.
    pub fn begin_anew(&mut self, now: Instant) {
        self.stream.state = State::Waiting { at: now };
        (self.version, self.listing, self.listed) = (None, false, false);
    }

    /// Ends it; what is still on its way means nothing.
    pub fn stop(self, cx: &mut Cx<'_>) {
        cx.act(Action::Unfollow(self.what));
    }

    /// Whether a whole list has been said, some time ago or just now.
    pub fn has_listed(&self) -> bool {
        self.listed
    }

    /// Whether news comes at once.
    pub fn is_open(&self) -> bool {
        self.stream.is_open()
    }

    /// Why no news comes, if there is a reason.
    pub fn fault(&self) -> Option<&ApiFault> {
        self.fault.as_ref()
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.stream.deadline("follow the cluster")
    }

    fn on_event(&mut self, cx: &mut Cx<'_>, event: &ObjectEvent) {
        match event {
            ObjectEvent::Bookmark(version) => self.version = Some(version.clone()),
            ObjectEvent::Changed(object) if !self.listing => {
                self.version = Some(object.version().clone());
            }
            ObjectEvent::Changed(_) | ObjectEvent::Deleted(_) | ObjectEvent::Garbled { .. } => {}
            ObjectEvent::Ended(fault) => {
                self.listing = false;
                self.fault = Some(fault.clone());
                self.stream.ended(cx, fault);
            }
            ObjectEvent::Expired => {
                self.listing = false;
                self.version = None;
                self.stream.wait(cx, Duration::ZERO);
            }
            ObjectEvent::Listed(version) => {
                self.listing = false;
                self.listed = true;
                self.version = Some(version.clone());
            }
            ObjectEvent::Listing => {
                self.listing = true;
                self.version = None;
            }
            ObjectEvent::Opened => {
                self.fault = None;
                self.stream.opened(cx.now);
            }
        }
        self.stream.goes_on(cx.now);
    }
}

/// When to open a stream, and when again.
#[derive(Clone, Debug)]
struct Stream {
    state: State,
    backoff: Backoff,
}

#[derive(Clone, Debug)]
enum State {
    /// No version to start from is known.
    Idle,
    Waiting {
        at: Instant,
    },
    Opening {
        give_up_at: Instant,
    },
    Open {
        since: Instant,
    },
}

impl Stream {
    /// Whether it is to be opened at this moment: the caller does so.
    fn opens(&mut self, now: Instant) -> bool {
        let due = match self.state {
            State::Waiting { at } => at <= now,
            State::Opening { give_up_at } => give_up_at <= now,
            State::Idle | State::Open { .. } => false,
        };
        if due {
            self.state = State::Opening { give_up_at: now + OPEN_BY };
        }
        due
    }

    fn opened(&mut self, now: Instant) {
        self.state = State::Open { since: now };
    }

    /// A list that is long is not one that hangs.
    fn goes_on(&mut self, now: Instant) {
        if let State::Opening { give_up_at } = &mut self.state {
            *give_up_at = now + OPEN_BY;
        }
    }

    fn ended(&mut self, cx: &mut Cx<'_>, fault: &ApiFault) {
        let settled = match self.state {
            State::Open { since } => cx.now.saturating_since(since) >= SETTLED,
            State::Idle | State::Opening { .. } | State::Waiting { .. } => false,
        };
        if settled {
            self.backoff.reset();
        }
        self.wait(cx, fault.retry_after.unwrap_or_default());
    }

    fn wait(&mut self, cx: &mut Cx<'_>, at_least: Duration) {
        let wait = self.backoff.wait(cx.rng).max(at_least);
        self.state = State::Waiting { at: cx.now + wait };
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    fn deadline(&self, why: &'static str) -> Option<Deadline> {
        match self.state {
            State::Idle | State::Open { .. } => None,
            State::Opening { give_up_at } => Some(Deadline { at: give_up_at, why: "watch again" }),
            State::Waiting { at } => Some(Deadline { at, why }),
        }
    }
}

#[cfg(test)]
mod tests;
