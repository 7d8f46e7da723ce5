//! What waits, and until when.

use std::time::Duration;

use crate::engine::dhcp::Turn;
use crate::model::{Dhcp4Lease, Dhcp4Message, Instant, Mac};

/// §4.4.5: a renewal is not asked for more often.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// §4.1: the first wait for an answer; it doubles.
const PATIENCE: Duration = Duration::from_secs(2);
/// A question that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub xid: u32,
    pub since: Instant,
    pub sent: u8,
    pub again_at: Instant,
    /// Something came that could not be used.
    pub answered: bool,
}

/// A lease that a server has given or confirmed.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub lease: Dhcp4Lease,
    pub server_mac: Mac,
    pub terms: Option<Terms>,
}

/// Its times; a lease for ever has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub renew_at: Instant,
    pub rebind_at: Instant,
    pub ends_at: Instant,
}

/// A renewal is asked for again no sooner than that, however short the lease is.
pub(super) const SOONEST: Duration = Duration::from_millis(500);

/// §4.4.5: half of what is left, and no less than a minute.
pub(super) fn between(now: Instant, end: Instant) -> Instant {
    let half = end.saturating_since(now) / 2;
    end.min(now + half.max(RENEW_EVERY))
}

impl Asking {
    pub fn begin(turn: &mut Turn<'_>) -> Self {
        let xid = turn.rng.next_u64() as u32;
        Self { xid, since: turn.now, sent: 0, again_at: turn.now, answered: false }
    }

    /// It was put once more; the next time is twice as far.
    pub fn sent_at(&mut self, turn: &mut Turn<'_>) {
        let wait = PATIENCE * (1 << self.sent.min(5));
        self.sent = self.sent.saturating_add(1);
        self.again_at = turn.now + turn.rng.jittered(wait);
    }
}

impl Held {
    pub fn has_ended(&self, now: Instant) -> bool {
        self.terms.is_some_and(|it| it.ends_at <= now)
    }
}

impl Terms {
    /// §4.4.5: counted from when it was asked for. What servers say of T1 and T2 counts where
    /// it makes sense.
    pub fn new(asked_at: Instant, seconds: u32, message: &Dhcp4Message) -> Option<Self> {
        if seconds == Dhcp4Lease::FOR_EVER {
            return None;
        }
        let lease = Duration::from_secs(seconds.into());
        let said = |it: Option<u32>| it.map(|it| Duration::from_secs(it.into()));
        let rebind = said(message.rebind_after).filter(|it| !it.is_zero() && *it < lease);
        let rebind = rebind.unwrap_or(lease * 7 / 8);
        let renew = said(message.renew_after).filter(|it| !it.is_zero() && *it < rebind);
        let renew = renew.unwrap_or((lease / 2).min(rebind / 2 + rebind / 4));
        Some(Self {
            renew_at: asked_at + renew,
            rebind_at: asked_at + rebind,
            ends_at: asked_at + lease,
        })
    }
}
