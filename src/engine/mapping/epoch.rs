//! The clock of a gateway, which begins anew when it forgets (RFC 6887 §8.5, RFC 6886 §3.6).

use std::time::Duration;

use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::Instant;

/// What it said last, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Epoch(Option<(u32, Instant)>);

impl Epoch {
    /// Takes what it says. Returns whether it has forgotten what it was told before.
    pub fn note(&mut self, now: Instant, epoch: u32) -> bool {
        let before = self.0.replace((epoch, now));
        if sabotaged(Sabotage::EpochIgnored) {
            return false;
        }
        let Some((before, at)) = before else {
            return false;
        };
        // It may be told in the wrong order by a second.
        if epoch.saturating_add(1) < before {
            return true;
        }
        let ours = whole(now.saturating_since(at));
        let theirs = u64::from(epoch.saturating_sub(before));
        // Clocks are wrong by a sixteenth at most, and by two seconds.
        ours + 2 < theirs - theirs / 16 || theirs + 2 < ours - ours / 16
    }
}

fn whole(it: Duration) -> u64 {
    it.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_forgotten_if_its_clock_stands_elsewhere() {
        let cases = [
            (1_000, 60, 1_060, false),
            (1_000, 60, 1_063, false),
            (1_000, 60, 1_055, false),
            (1_000, 60, 999, true),
            (1_000, 0, 999, false),
            (1_000, 0, 998, true),
            (1_000, 60, 3, true),
            (10, 600, 12, true),
            (10, 600, 580, false),
            (10, 60, 600, true),
            (0, 0, 0, false),
            (u32::MAX, 1, u32::MAX, false),
            (u32::MAX, 1, 0, true),
        ];
        for (first, passed, second, forgotten) in cases {
            let mut epoch = Epoch::default();
            let at = Instant::from_nanos(7_000_000_000);
            assert!(!epoch.note(at, first), "the first says nothing");
            let found = epoch.note(at + Duration::from_secs(passed), second);
            assert_eq!(found, forgotten, "{first} + {passed} s -> {second}");
        }
    }
}
