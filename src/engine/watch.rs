//! The watch on the Lease: where to resume it, and when to try again.
//!
//! ```text
//!   Waiting { at } ──▶ Opening ──▶ Open ──┐
//!        ▲                │               │ ended: back off; 410: forget the version
//!        └────────────────┴───────────────┘
//! ```

use std::time::Duration;

use super::backoff::Backoff;
use super::{Action, Cx, Deadline};
use crate::model::{Instant, ResourceVersion, WatchEvent};

/// A watch that lasted this long ended for a reason that is over.
const SETTLED: Duration = Duration::from_secs(5);
/// An edge that has not said by then whether the watch is open is asked again.
const OPEN_BY: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct LeaseWatch {
    state: State,
    version: Option<ResourceVersion>,
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

impl LeaseWatch {
    pub fn new() -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        Self { state: State::Idle, version: None, backoff }
    }

    /// The Lease was read or written, and has this version: enough to start from, and what
    /// was before it need not be told again.
    pub fn start(&mut self, cx: &Cx<'_>, version: &ResourceVersion) {
        if matches!(self.state, State::Idle) {
            self.version = Some(version.clone());
            self.state = State::Waiting { at: cx.now };
        } else if let Some(known) = self.version.as_mut().filter(|it| it.is_before(version)) {
            known.clone_from(version);
        }
    }

    pub fn on_event(&mut self, cx: &mut Cx<'_>, event: &WatchEvent) {
        match event {
            WatchEvent::Bookmark(version) => self.version = Some(version.clone()),
            WatchEvent::Deleted => {}
            WatchEvent::Ended(fault) => {
                let settled = match self.state {
                    State::Open { since } => cx.now.saturating_since(since) >= SETTLED,
                    State::Idle | State::Opening { .. } | State::Waiting { .. } => false,
                };
                if settled {
                    self.backoff.reset();
                }
                let wait = self.backoff.wait(cx.rng).max(fault.retry_after.unwrap_or_default());
                self.state = State::Waiting { at: cx.now + wait };
            }
            WatchEvent::Expired => {
                self.version = None;
                self.state = State::Waiting { at: cx.now + self.backoff.wait(cx.rng) };
            }
            WatchEvent::Lease(lease) => self.version = Some(lease.version.clone()),
            WatchEvent::Opened => self.state = State::Open { since: cx.now },
        }
    }

    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        let due = match self.state {
            State::Waiting { at } => at <= cx.now,
            State::Opening { give_up_at } => give_up_at <= cx.now,
            State::Idle | State::Open { .. } => false,
        };
        if due {
            self.state = State::Opening { give_up_at: cx.now + OPEN_BY };
            cx.act(Action::Watch { from: self.version.clone() });
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub fn deadline(&self) -> Option<Deadline> {
        match self.state {
            State::Idle | State::Open { .. } => None,
            State::Opening { give_up_at } => Some(Deadline { at: give_up_at, why: "watch again" }),
            State::Waiting { at } => Some(Deadline { at, why: "watch the lease" }),
        }
    }
}
