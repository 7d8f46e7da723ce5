//! What waits, and until when.

use std::time::Duration;

use crate::engine::dhcp::Turn;
use crate::model::{Dhcp6Address, Dhcp6Ia, Dhcp6Lease, Dhcp6Message, Instant};

/// How a question is put again (RFC 8415 §7.6, §15).
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// IRT.
    pub first: Duration,
    /// MRT.
    pub most: Duration,
    /// MRC; 0: for ever.
    pub times: u8,
}

impl Times {
    pub const SOLICIT: Self = Self::new(1, 3_600, 0);
    pub const REQUEST: Self = Self::new(1, 30, 10);
    pub const RENEW: Self = Self::new(10, 600, 0);
    pub const REBIND: Self = Self::new(10, 600, 0);
    pub const DECLINE: Self = Self::new(1, 0, 4);
    pub const RELEASE: Self = Self::new(1, 0, 4);
    /// CNF_TIMEOUT and CNF_MAX_RT, for [`Times::HURRY`].
    pub const TAKE_OVER: Self = Self::new(1, 4, 0);
    /// CNF_MAX_RD.
    pub const HURRY: Duration = Duration::from_secs(10);

    const fn new(first: u64, most: u64, times: u8) -> Self {
        Self { first: Duration::from_secs(first), most: Duration::from_secs(most), times }
    }
}

/// A question that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub times: Times,
    pub xid: u32,
    pub since: Instant,
    pub sent: u8,
    pub again_at: Instant,
    /// Something came that could not be used.
    pub answered: bool,
    /// RT, the last one.
    wait: Duration,
}

impl Asking {
    pub fn begin(times: Times, turn: &mut Turn<'_, Dhcp6Message>) -> Self {
        let xid = turn.rng.next_u64() as u32 & 0xff_ffff;
        Self { xid, ..Self::unasked(times, turn.now) }
    }

    /// Due at once.
    pub fn unasked(times: Times, now: Instant) -> Self {
        let (xid, sent, answered, wait) = (0, 0, false, Duration::ZERO);
        Self { times, xid, since: now, sent, again_at: now, answered, wait }
    }

    /// §15, with a RAND between 0 and 0.1: that suits SOLICIT too, whose first may not be less.
    pub fn was_sent(&mut self, turn: &mut Turn<'_, Dhcp6Message>) {
        let mut rand =
            |of: Duration| Duration::from_nanos(turn.rng.below(of.as_nanos() as u64 / 10 + 1));
        let Times { first, most, .. } = self.times;
        self.wait = match self.sent {
            0 => first + rand(first),
            _ => self.wait * 2 + rand(self.wait),
        };
        if !most.is_zero() && self.wait > most {
            self.wait = most + rand(most);
        }
        self.sent = self.sent.saturating_add(1);
        self.again_at = turn.now + self.wait;
    }

    /// It has been put as often as it may be.
    pub fn is_in_vain(&self) -> bool {
        self.times.times > 0 && self.sent >= self.times.times
    }

    /// §21.9.
    pub fn elapsed(&self, now: Instant) -> u16 {
        let hundredths = now.saturating_since(self.since).as_millis() / 10;
        u16::try_from(hundredths).unwrap_or(u16::MAX)
    }
}

/// A lease that a server has given or confirmed; a time that there is not never comes.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub lease: Dhcp6Lease,
    pub renew_at: Option<Instant>,
    pub rebind_at: Option<Instant>,
    pub ends_at: Option<Instant>,
}

impl Held {
    /// Counted from when it was asked for: then no clock of a server runs longer. A server that
    /// leaves T1 and T2 to the client gets what §21.4 recommends, 0.5 and 0.8 of the time that
    /// the address is preferred.
    pub fn new(lease: Dhcp6Lease, ia: &Dhcp6Ia, of: &Dhcp6Address, asked_at: Instant) -> Self {
        let at = |seconds: u32| {
            let ends = (seconds != Dhcp6Lease::FOR_EVER).then_some(seconds);
            ends.map(|it| asked_at + Duration::from_secs(it.into()))
        };
        // An address that is not preferred from the start is renewed by when it ends.
        let of_client = if of.preferred == 0 { of.valid } else { of.preferred };
        let share = |tenths: u32| match of_client {
            Dhcp6Lease::FOR_EVER => Dhcp6Lease::FOR_EVER,
            it => (u64::from(it) * u64::from(tenths) / 10).try_into().unwrap_or(it),
        };
        let makes_sense = |it: &u32| (1..of.valid).contains(it) || *it == Dhcp6Lease::FOR_EVER;
        let t2 = Some(ia.t2).filter(makes_sense).unwrap_or(share(8));
        let t1 = Some(ia.t1).filter(makes_sense).unwrap_or(share(5)).min(t2);
        let times = [t1, t2].map(|it| at(it.max(1)));
        Self { lease, renew_at: times[0], rebind_at: times[1], ends_at: at(of.valid) }
    }
}
