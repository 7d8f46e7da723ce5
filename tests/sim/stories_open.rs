//! Stories that fail, each for a defect of the engine: to be moved to `stories.rs` once it
//! is mended.

use std::time::Duration;

use edgevip::engine::{Notice, Rng};

use crate::faults::Kind;
use crate::host::Nanos;
use crate::stories::story::{Story, ms, secs, story, told};
use crate::world::Settings;

/// The renewal that goes nowhere is waited for until the leadership is over, although the
/// API server is back after six seconds.
#[test]
fn a_short_absence_of_the_api_server_is_no_matter() {
    story(3)
        .led_by("node-0")
        .inflict(Kind::ApiGone, "node-0", secs(6))
        .expect_keeps("node-0", secs(30))
        .finish();
}

/// The address that is put back in the last second of the leadership lives for a whole one.
#[test]
fn without_a_fence_an_address_put_back_late_ends_before_another_has_it() {
    for seed in 0..20 {
        let mut settings = Settings { fenced: false, ..Settings::stock() };
        settings.lease.renew_deadline = Duration::from_millis(13_690);
        told(2, settings)
            .led_by("node-0")
            .act(|it| it.rng = Rng::from_seed(seed))
            .cut_from_api("node-0", secs(60))
            .when_put_back(secs(8), secs(9))
            .pause("node-0", secs(30))
            .after(secs(20));
    }
}

/// What ends by itself was not removed by another program.
#[test]
fn a_lifetime_that_ends_is_not_taken_for_meddling() {
    for seed in 0..20 {
        let it = story(2)
            .act(|it| it.rng = Rng::from_seed(seed))
            .led_by("node-0")
            .cut_from_api("node-0", secs(60))
            .after(secs(30));
        let node = it.world.procs[0].node.as_ref().expect("it runs");
        assert_eq!(node.status(it.world.local(0)).readded, 0);
    }
}

/// The notice is for VIPs that are answered for, and the one that was lost is not, yet.
#[test]
fn a_flushed_address_is_said() {
    story(3)
        .led_by("node-0")
        .inflict(Kind::FlushAddress, "node-0", 0)
        .after(ms(200))
        .expect_told("node-0", |it| matches!(it, Notice::Readded(_)))
        .finish();
}

impl Story {
    /// The kernel ends the address by itself between then and then, and node-0 adds it again.
    fn when_put_back(self, after: Nanos, within: Nanos) -> Self {
        let it = self.after(after);
        let vip = it.world.vips[0];
        it.when(within, |it| !it.answers(0, vip)).when(secs(1), |it| it.answers(0, vip))
    }
}
