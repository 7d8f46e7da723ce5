//! A machine: its clock, its kernel, its plugs. It outlives the processes on it.

use edgevip::model::{Instant, Mac};

use crate::kernel::Kernel;

/// True time, in nanoseconds since the world began.
pub type Nanos = u64;

pub const US: Nanos = 1_000;
pub const MS: Nanos = 1_000_000;
pub const SEC: Nanos = 1_000_000_000;

pub struct Host {
    pub clock: Clock,
    pub kernel: Kernel,
    /// The process that may campaign.
    pub lock: Option<usize>,
    /// The kernel's boot id, folded.
    pub boot: u64,
    /// The wall clock is wrong by this, and wrong by something else after a step.
    pub wall: u64,
    pub asleep_until: Nanos,
    /// No way to the API server until then.
    pub api_cut_until: Nanos,
    /// Nothing it sends to the LAN arrives, nothing sent to it arrives.
    pub mute_until: Nanos,
    pub deaf_until: Nanos,
    pub excuse: Option<Excuse>,
    pub timer_at: Nanos,
    /// An address last ended by itself.
    pub lost_at: Nanos,
}

/// Something that no process can prevent was done to the kernel: until our process has been
/// told and has done all it decided, what the kernel answers does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuse {
    /// The process has still to be told of a suspend.
    pub slept: bool,
    /// The process has still to be told that the ruleset was flushed.
    pub flushed: bool,
}

impl Excuse {
    pub fn is_noticed(self) -> bool {
        !self.slept && !self.flushed
    }
}

impl Host {
    pub fn new(index: usize, clock: Clock, kernel: Kernel) -> Self {
        Self {
            clock,
            kernel,
            lock: None,
            boot: 0xb007 + index as u64,
            wall: 0,
            asleep_until: 0,
            api_cut_until: 0,
            mute_until: 0,
            deaf_until: 0,
            excuse: None,
            timer_at: 0,
            lost_at: 0,
        }
    }

    /// Power is lost and comes back.
    pub fn reboot(&mut self, now: Nanos) {
        let Kernel { mac, own, fences, next_link, link, .. } = &self.kernel;
        let index = link.map_or(*next_link, |it| it.index);
        self.kernel = Kernel::new(*mac, index, own.clone(), fences.clone());
        self.clock.reboot(now);
        self.boot = self.boot.wrapping_add(0x1_0000);
        (self.asleep_until, self.timer_at, self.lost_at) = (now, 0, now);
        (self.excuse, self.lock) = (None, None);
    }

    pub fn sleeps(&self, now: Nanos) -> bool {
        self.asleep_until > now
    }

    pub fn is_plugged(&self, now: Nanos) -> bool {
        !self.sleeps(now) && self.kernel.link.is_some_and(|it| it.up && it.carrier)
    }

    pub fn can_send(&self, now: Nanos) -> bool {
        self.is_plugged(now) && self.mute_until <= now
    }

    pub fn can_receive(&self, now: Nanos) -> bool {
        self.is_plugged(now) && self.deaf_until <= now
    }
}

pub fn mac_of(host: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, host as u8])
}

/// A boot clock with a rate of its own, and the monotonic clock that lacks what was slept.
pub struct Clock {
    offset: u64,
    /// It showed the offset then.
    began: Nanos,
    /// Local nanoseconds in a million true ones.
    rate: u64,
    slept: u64,
    asleep_since: Option<u64>,
}

impl Clock {
    pub fn new(offset: u64, rate: u64) -> Self {
        Self { offset, began: 0, rate, slept: 0, asleep_since: None }
    }

    pub fn boot(&self, now: Nanos) -> Instant {
        Instant::from_nanos(
            self.offset + (u128::from(now - self.began) * u128::from(self.rate) / MILLION) as u64,
        )
    }

    pub fn mono(&self, now: Nanos) -> u64 {
        self.asleep_since.unwrap_or_else(|| self.boot(now).as_nanos()) - self.slept
    }

    /// The first true time at which the boot clock has reached `at`.
    pub fn when_boot(&self, at: Instant) -> Nanos {
        let local = u128::from(at.as_nanos().saturating_sub(self.offset));
        let since = u64::try_from((local * MILLION).div_ceil(u128::from(self.rate)));
        since.map_or(u64::MAX / 4, |it| it.saturating_add(self.began).min(u64::MAX / 4))
    }

    /// The first true time at which the monotonic clock has reached `at`, if nobody sleeps.
    pub fn when_mono(&self, at: u64) -> Nanos {
        self.when_boot(Instant::from_nanos(at.saturating_add(self.slept)))
    }

    /// It starts again near nought.
    pub fn reboot(&mut self, now: Nanos) {
        *self = Self { began: now, ..Self::new(2 * SEC, self.rate) };
    }

    pub fn slept(&self) -> u64 {
        self.slept
    }

    /// With the sleep that is not over.
    pub fn slept_by(&self, now: Nanos) -> u64 {
        self.boot(now).as_nanos() - self.mono(now)
    }

    pub fn fall_asleep(&mut self, now: Nanos) {
        self.asleep_since = self.asleep_since.or(Some(self.boot(now).as_nanos()));
    }

    pub fn wake_up(&mut self, now: Nanos) {
        if let Some(since) = self.asleep_since.take() {
            self.slept += self.boot(now).as_nanos() - since;
        }
    }
}

const MILLION: u128 = 1_000_000;
