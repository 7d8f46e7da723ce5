//! An address as the kernel was given it.

use std::net::IpAddr;
use std::time::Duration;

use crate::engine::network::Usable;
use crate::model::{Instant, OrderId, Vip};

/// The address as last ordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub on: Usable,
    pub length: u8,
    pub ordered_at: Instant,
    /// When the kernel lets go.
    pub ends_at: Instant,
    /// The order that is not answered yet.
    pub order: Option<OrderId>,
    pub part: Part,
    pub done: bool,
    /// Somebody else took it away.
    pub missing: bool,
}

impl Held {
    /// The kernel's timers stand still in suspend: all of a lifetime may be left.
    pub(super) fn latest_end(&self, now: Instant) -> Instant {
        self.ends_at.max(now + self.ends_at.saturating_since(self.ordered_at))
    }

    /// When half of what the kernel was given is over: each extension wakes every listener on
    /// the machine.
    pub(super) fn half(&self) -> Instant {
        self.part.half_of(self.ordered_at, self.ends_at)
    }

    /// When to extend it, if it can be given more then.
    ///
    /// Behind a fence it may outlive the right to it by part of a second: what is left of
    /// that is not given away for being less than one.
    pub(super) fn extension(&self, until: Instant, fenced: bool) -> Option<Instant> {
        let half = self.half();
        let last = self.ends_at - KERNEL_DELAY;
        if half + lifetime(half, until) > self.ends_at {
            return Some(half);
        }
        (fenced && until > self.ends_at).then_some(last)
    }

    /// Whether to extend now. With a renewal, when no other moment gives more and the loop
    /// is awake anyway, a little earlier than it would wake for it, but not where there are many.
    pub(super) fn is_due(&self, now: Instant, right: Right, fenced: bool) -> bool {
        let given = self.ends_at.saturating_since(self.ordered_at);
        let early = self.ordered_at + given * 2 / 5 <= now && lifetime(now, right.until) >= given;
        let renewed = early && right.grew_at == Some(now);
        renewed || self.extension(right.until, fenced).is_some_and(|at| at <= now)
    }
}

/// How long the address may be there, where less was ordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right {
    pub until: Instant,
    /// When it became so long, where somebody looks at each renewal.
    pub grew_at: Option<Instant>,
}

impl Right {
    pub(super) const NONE: Self = Self { until: Instant::from_nanos(0), grew_at: None };

    pub(super) fn set(&mut self, now: Instant, until: Instant, many: bool) {
        if many {
            self.grew_at = None;
        } else if self.until < until {
            self.grew_at = Some(now);
        }
        self.until = until;
    }
}

/// Which part of a time is a VIP's own, where there are so many that not all of them shall be
/// seen to at once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Part(u8);

/// In so many parts.
const PARTS: u8 = 60;

impl Part {
    pub(super) fn of(vip: Vip) -> Self {
        let bits = match vip.0 {
            IpAddr::V4(ip) => ip.to_bits(),
            IpAddr::V6(ip) => (ip.to_bits() ^ (ip.to_bits() >> 64)) as u32,
        };
        Self(1 + (bits % u32::from(PARTS)) as u8)
    }

    /// Its share of the time; all of it where it has no part.
    pub(super) fn share_of(self, time: Duration) -> Duration {
        if self.0 == 0 { time } else { time * u32::from(self.0) / u32::from(PARTS) }
    }

    /// When half of the time between is over, or up to a tenth of it earlier.
    pub(super) fn half_of(self, from: Instant, to: Instant) -> Instant {
        let time = to.saturating_since(from);
        let early = if self.0 == 0 { Duration::ZERO } else { self.share_of(time / 10) };
        from + time / 2 - early
    }
}

/// The kernel thread may get to an order this late without our being wrong about what it
/// gives.
const KERNEL_DELAY: Duration = Duration::from_millis(250);

/// What the kernel gives at least, if it is ordered now: it counts in whole seconds.
pub(super) fn lifetime(now: Instant, until: Instant) -> Duration {
    Duration::from_secs(until.saturating_since(now + KERNEL_DELAY).as_secs())
}
