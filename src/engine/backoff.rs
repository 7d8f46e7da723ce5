use std::time::Duration;

use super::Rng;

/// Waits that double, with jitter, until something works.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// How long to wait before the next try.
    pub fn wait(&mut self, rng: &mut Rng) -> Duration {
        let wait = rng.jittered(self.next);
        self.next = (self.next * 2).min(self.most);
        wait
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
