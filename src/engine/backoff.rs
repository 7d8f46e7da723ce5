use std::time::Duration;

use super::Rng;

/// Waits that double, with jitter, until something works.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    tries: Tries,
}

/// The same, for what there are thousands of: how often it was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries(u8);

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: Tries::default() }
    }

    /// How long to wait before the next try.
    pub fn wait(&mut self, rng: &mut Rng) -> Duration {
        self.tries.wait(rng, self.first, self.most)
    }

    pub fn reset(&mut self) {
        self.tries.reset();
    }
}

impl Tries {
    /// How long to wait before the next try, if that is `first` at first and `most` at most.
    pub fn wait(&mut self, rng: &mut Rng, first: Duration, most: Duration) -> Duration {
        let wait = first.saturating_mul(1 << self.0).min(most);
        self.0 += u8::from(wait < most && self.0 < 31);
        rng.jittered(wait)
    }

    pub fn reset(&mut self) {
        self.0 = 0;
    }
}
