//! What a killed process has left of Services, where no fence says what that is.

use super::{Tale, asking, is_reached, told_with};
use crate::faults::Kind;
use crate::host::{MS, SEC};
use crate::world::{Log, Settings};

#[test]
fn who_comes_back_and_goes_again_at_once_leaves_nobody_beside_the_next() {
    who_goes_waits_for_what_was_left().unwrap();
}

/// It cannot know of the address: its Service is gone.
pub fn who_goes_waits_for_what_was_left() -> Result<(), String> {
    let unfenced = Settings { fenced: false, ..Settings::stock() };
    come_back_and_go(told_with(unfenced, Log::None), |_, _| {})
}

/// Somebody flushes the ruleset while nobody is there to build it again.
#[test]
fn whose_fence_was_flushed_in_between_waits_as_without_one() {
    let flush = |it: &mut Tale, host| it.world.inflict(Kind::FlushRules, host, host, 0);
    come_back_and_go(told_with(Settings::stock(), Log::Print), flush).unwrap();
}

fn come_back_and_go(mut it: Tale, meanwhile: impl Fn(&mut Tale, usize)) -> Result<(), String> {
    it.make(asking("web", "10.0.0.77"));
    it.until(5 * SEC, "is served", |it| is_reached(it, "web"))?;
    it.run(SEC)?;
    let carrier = it.carrier();
    it.world.kill(carrier);
    it.delete("web");
    meanwhile(&mut it, carrier);
    it.run(200 * MS)?;
    it.world.start(carrier);
    it.run(SEC)?;
    it.make(asking("again", "10.0.0.77"));
    it.world.stop(carrier);
    it.until(30 * SEC, "another serves", |it| is_reached(it, "again"))?;
    it.world.start(carrier);
    it.finish()
}
