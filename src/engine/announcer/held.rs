//! An address as the kernel was given it.

use std::time::Duration;

use crate::engine::network::Usable;
use crate::model::{Instant, OrderId};

/// The address as last ordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub on: Usable,
    pub length: u8,
    pub ordered_at: Instant,
    /// When the kernel lets go.
    pub ends_at: Instant,
    pub order: OrderId,
    pub done: bool,
    /// Somebody else took it away.
    pub missing: bool,
}

impl Held {
    /// The kernel's timers stand still in suspend: all of a lifetime may be left.
    pub(super) fn latest_end(&self, now: Instant) -> Instant {
        self.ends_at.max(now + self.ends_at.saturating_since(self.ordered_at))
    }

    /// When half of what the kernel was given is over, if it can be given more then: each
    /// extension wakes every listener on the machine.
    ///
    /// Behind a fence it may outlive the right to it by part of a second: what is left of
    /// that is not given away for being less than one.
    pub(super) fn extension(&self, until: Instant, fenced: bool) -> Option<Instant> {
        let half = half_of(self.ordered_at, self.ends_at);
        let last = self.ends_at - KERNEL_DELAY;
        if half + lifetime(half, until) > self.ends_at {
            return Some(half);
        }
        (fenced && until > self.ends_at).then_some(last)
    }

    /// Whether to extend now. With a renewal, when no other moment gives more and the loop
    /// is awake anyway, a little earlier than it would wake for it.
    pub(super) fn is_due(&self, now: Instant, right: Right, fenced: bool) -> bool {
        let given = self.ends_at.saturating_since(self.ordered_at);
        let early = self.ordered_at + given * 2 / 5 <= now && lifetime(now, right.until) >= given;
        let renewed = early && right.grew_at == now;
        renewed || self.extension(right.until, fenced).is_some_and(|at| at <= now)
    }
}

/// How long the address may be there, where less was ordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right {
    pub until: Instant,
    /// When it became so long.
    pub grew_at: Instant,
}

impl Right {
    pub(super) const NONE: Self =
        Self { until: Instant::from_nanos(0), grew_at: Instant::from_nanos(0) };

    pub(super) fn set(&mut self, now: Instant, until: Instant) {
        if self.until < until {
            self.grew_at = now;
        }
        self.until = until;
    }
}

/// The kernel thread may get to an order this late without our being wrong about what it
/// gives.
const KERNEL_DELAY: Duration = Duration::from_millis(250);

/// What the kernel gives at least, if it is ordered now: it counts in whole seconds.
pub(super) fn lifetime(now: Instant, until: Instant) -> Duration {
    Duration::from_secs(until.saturating_since(now + KERNEL_DELAY).as_secs())
}

pub(super) fn half_of(from: Instant, to: Instant) -> Instant {
    from + to.saturating_since(from) / 2
}
