//! Time that the machine sleeps: noticed, and waited through.

use std::io;
use std::time::Duration;

use async_io::Async;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::io::clock;
use crate::model::Instant;

/// Notices that the machine was suspended: the boot clock gains on the monotonic one.
#[derive(Debug)]
pub struct SleepGauge {
    asleep: Duration,
}

const SHORTEST_SLEEP: Duration = Duration::from_millis(50);

impl SleepGauge {
    /// Counts from here on.
    pub fn new() -> Self {
        Self { asleep: Reading::take().most() }
    }

    /// How long the machine has slept since the last call, if it has.
    pub fn slept(&mut self) -> Option<Duration> {
        self.read(&Reading::take())
    }

    fn read(&mut self, reading: &Reading) -> Option<Duration> {
        let slept = reading.least().saturating_sub(self.asleep);
        if slept > SHORTEST_SLEEP {
            self.asleep = reading.most();
            return Some(slept);
        }
        self.asleep = self.asleep.min(reading.most());
        None
    }
}

impl Default for SleepGauge {
    fn default() -> Self {
        Self::new()
    }
}

/// Two clocks cannot be read at once: this thread may lose the processor in between. So
/// the monotonic one is read before and after, and time slept lies between the differences.
struct Reading {
    before: Duration,
    boot: Duration,
    after: Duration,
}

impl Reading {
    fn take() -> Self {
        let before = clock::awake();
        let boot = Duration::from_nanos(clock::now().as_nanos());
        Self { before, boot, after: clock::awake() }
    }

    fn least(&self) -> Duration {
        self.boot.saturating_sub(self.after)
    }

    fn most(&self) -> Duration {
        self.boot.saturating_sub(self.before)
    }
}

/// A timer that counts through suspend. One wait at a time.
#[derive(Debug)]
pub struct BootTimer {
    timer: Async<TimerFd>,
}

impl BootTimer {
    /// A timer that is not running.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self { timer: Async::new(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?)? })
    }

    /// Waits until then; not at all if that has passed. May be dropped and called again.
    pub async fn until(&self, at: Instant) -> io::Result<()> {
        if at <= clock::now() {
            return Ok(());
        }
        let nanos = i64::try_from(at.as_nanos()).unwrap_or(i64::MAX);
        let end = Expiration::OneShot(TimeSpec::nanoseconds(nanos));
        self.timer.get_ref().set(end, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        while clock::now() < at {
            self.timer.readable().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_slept_is_told_once_and_a_slow_reading_is_no_sleep() {
        let reading = |before, boot, after| {
            let [before, boot, after] = [before, boot, after].map(Duration::from_millis);
            Reading { before, boot, after }
        };
        let mut gauge = SleepGauge { asleep: Duration::ZERO };
        assert_eq!(gauge.read(&reading(1_000, 1_000, 1_000)), None);
        // Put aside for 200 ms between the first and the second, or second and third clock.
        assert_eq!(gauge.read(&reading(1_100, 1_300, 1_300)), None);
        assert_eq!(gauge.read(&reading(1_400, 1_400, 1_600)), None);
        // 45 ms of sleep are not told, nor forgotten.
        assert_eq!(gauge.read(&reading(1_700, 1_745, 1_700)), None);
        assert_eq!(gauge.read(&reading(1_800, 1_852, 1_800)), Some(Duration::from_millis(52)));
        assert_eq!(gauge.read(&reading(1_900, 1_952, 1_900)), None);
        assert_eq!(gauge.read(&reading(2_000, 9_052, 2_000)), Some(Duration::from_secs(7)));
        assert_eq!(gauge.read(&reading(2_100, 9_152, 2_100)), None);
    }

    #[test]
    fn a_gauge_whose_first_reading_was_slow_finds_the_next_sleep() {
        let millis = Duration::from_millis;
        let mut gauge = SleepGauge { asleep: millis(200) };
        let awake = Reading { before: millis(500), boot: millis(500), after: millis(500) };
        assert_eq!(gauge.read(&awake), None);
        let slept = Reading { before: millis(600), boot: millis(700), after: millis(600) };
        assert_eq!(gauge.read(&slept), Some(millis(100)));
    }

    #[test]
    fn a_machine_under_load_is_not_asleep() {
        let mut gauge = SleepGauge::new();
        for _ in 0..100_000 {
            assert_eq!(gauge.slept(), None);
        }
    }

    #[test]
    fn a_boot_timer_ends_when_it_should_and_can_be_set_again() {
        async_io::block_on(async {
            let timer = BootTimer::new().unwrap();
            let start = clock::now();
            timer.until(Instant::from_nanos(0)).await.unwrap();
            timer.until(start).await.unwrap();
            // Given up half way, then sooner, then later than that.
            let far = timer.until(start + Duration::from_secs(600));
            let near = async_io::Timer::after(Duration::from_millis(20));
            smol::future::or(async { far.await.unwrap() }, async { _ = near.await }).await;
            for millis in [40, 30, 60, 61] {
                let at = start + Duration::from_millis(millis);
                timer.until(at).await.unwrap();
                assert!(clock::now() >= at);
            }
            let spent = clock::now().saturating_since(start);
            assert!(spent < Duration::from_secs(5), "{spent:?}");
        });
    }

    #[test]
    fn a_boot_timer_left_after_its_end_does_not_end_the_next_wait() {
        async_io::block_on(async {
            let timer = BootTimer::new().unwrap();
            let soon = clock::now() + Duration::from_millis(5);
            // The timer fires unread while its wait is not polled.
            let mut wait = Box::pin(timer.until(soon));
            assert!(smol::future::poll_once(&mut wait).await.is_none());
            async_io::Timer::after(Duration::from_millis(30)).await;
            drop(wait);
            let at = clock::now() + Duration::from_millis(30);
            timer.until(at).await.unwrap();
            assert!(clock::now() >= at);
        });
    }
}
