//! Time that the machine sleeps: noticed, and waited through.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
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

/// When the loop is to go on at the latest, suspend or not. Its own thread waits for that
/// moment, and for what members say, since every other that did would have to wake it; but
/// such a wait stands still in suspend, so a timer of the boot clock stands behind it.
#[derive(Debug)]
pub struct Alarm {
    bell: Arc<Bell>,
    at: Cell<Option<Instant>>,
    behind: TimerFd,
}

/// The timer behind the alarm does not wake the loop when that wakes by itself.
const BEHIND: Duration = Duration::from_millis(20);

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let behind = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let rope = EventFd::from_value_and_flags(0, flags)?;
        let bell = Arc::new(Bell { rope, rung: AtomicBool::new(false) });
        Ok(Self { bell, at: Cell::new(None), behind })
    }

    /// Drives a future to its end on this thread. `ear`: it is polled when that can be read.
    pub fn drive<T>(
        &self,
        future: impl Future<Output = T>,
        ear: Option<BorrowedFd<'_>>,
    ) -> io::Result<T> {
        let mut future = pin!(future);
        let waker = Waker::from(self.bell.clone());
        loop {
            self.bell.hush();
            self.at.set(None);
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(value);
            }
            let left = self.at.get().map(|it| it.saturating_since(clock::now()));
            let left = left.map(TimeSpec::from_duration);
            let behind = self.at.get().map(|_| self.behind.as_fd());
            let fds = [Some(self.bell.rope.as_fd()), behind, ear].into_iter().flatten();
            let mut fds: Vec<_> = fds.map(|it| PollFd::new(it, PollFlags::POLLIN)).collect();
            match ppoll(&mut fds, left, None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until then; not at all if that has passed. For one future at a time, which
    /// [`Alarm::drive`] polls whenever it wakes. May be dropped and called again.
    pub async fn until(&self, at: Instant) -> io::Result<()> {
        if at <= clock::now() {
            return Ok(());
        }
        let nanos = i64::try_from((at + BEHIND).as_nanos()).unwrap_or(i64::MAX);
        let end = Expiration::OneShot(TimeSpec::nanoseconds(nanos));
        // What it told before is forgotten with that.
        self.behind.set(end, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        let come = poll_fn(|_| {
            self.at.set(Some(at));
            if at <= clock::now() { Poll::Ready(Ok(())) } else { Poll::Pending }
        });
        come.await
    }
}

/// Wakes the thread that drives.
#[derive(Debug)]
struct Bell {
    rope: EventFd,
    rung: AtomicBool,
}

impl Bell {
    /// Before the future is polled: what rang until here is looked at by that.
    fn hush(&self) {
        if self.rung.load(Ordering::Acquire) {
            let _ = self.rope.read();
            self.rung.store(false, Ordering::Release);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It can only fail if it has been rung for ever.
            let _ = self.rope.write(1);
        }
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
    fn an_alarm_ends_when_it_should_and_can_be_set_again() {
        let alarm = Alarm::new().unwrap();
        let drive = alarm.drive(
            async {
                let start = clock::now();
                alarm.until(Instant::from_nanos(0)).await.unwrap();
                alarm.until(start).await.unwrap();
                // Given up half way, then sooner, then later than that.
                let far = alarm.until(start + Duration::from_secs(600));
                let near = async_io::Timer::after(Duration::from_millis(20));
                smol::future::or(async { far.await.unwrap() }, async { _ = near.await }).await;
                for millis in [40, 30, 60, 61] {
                    let at = start + Duration::from_millis(millis);
                    alarm.until(at).await.unwrap();
                    assert!(clock::now() >= at);
                }
                let spent = clock::now().saturating_since(start);
                assert!(spent < Duration::from_secs(5), "{spent:?}");
            },
            None,
        );
        drive.unwrap();
    }

    #[test]
    fn the_timer_behind_the_alarm_ends_the_wait_by_itself() {
        let alarm = Alarm::new().unwrap();
        let at = clock::now() + Duration::from_millis(5);
        let mut first = true;
        let wait = poll_fn(|_| {
            // The wait itself is far too long.
            alarm.at.set(Some(at + Duration::from_secs(600)));
            if first {
                let nanos = i64::try_from((at + BEHIND).as_nanos()).unwrap();
                let end = Expiration::OneShot(TimeSpec::nanoseconds(nanos));
                alarm.behind.set(end, TimerSetTimeFlags::TFD_TIMER_ABSTIME).unwrap();
            }
            if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
        });
        alarm.drive(wait, None).unwrap();
        assert!(clock::now() >= at + BEHIND);
    }
}
