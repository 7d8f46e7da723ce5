//! The only place that reads a clock.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::model::Instant;

/// The boot clock: counts through suspend, and nobody sets it.
pub fn now() -> Instant {
    Instant::from_nanos(read(ClockId::CLOCK_BOOTTIME).as_nanos() as u64)
}

/// The monotonic clock: stands still in suspend. What it lacks of [`now`] is time slept.
pub fn awake() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Wall time since 1970: for stamps that people read, never for decisions.
pub fn wall() -> Duration {
    read(ClockId::CLOCK_REALTIME)
}

fn read(clock: ClockId) -> Duration {
    let it =
        clock_gettime(clock).map_err(io::Error::from).expect("these clocks exist since 2.6.39");
    Duration::new(it.tv_sec() as u64, it.tv_nsec() as u32)
}

/// Wall time as Kubernetes writes a MicroTime: `2026-01-02T03:04:05.678901Z`.
pub fn micro_time(wall: Duration) -> String {
    let seconds = wall.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970: eras of 400 years, years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let micros = wall.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_time_reads_as_kubernetes_writes_it() {
        let table = [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 1_000, "2000-02-29T00:00:00.000001Z"),
            (1_767_323_045, 678_901_000, "2026-01-02T03:04:05.678901Z"),
            (4_102_444_799, 999_999_999, "2099-12-31T23:59:59.999999Z"),
        ];
        for (seconds, nanos, text) in table {
            assert_eq!(micro_time(Duration::new(seconds, nanos)), text);
        }
    }
}
