//! What a killed process has left of Services, where no fence says what that is.

use super::{asking, is_reached, told_with};
use crate::host::{MS, SEC};
use crate::world::{Log, Settings};

#[test]
fn who_comes_back_and_goes_again_at_once_leaves_nobody_beside_the_next() {
    who_goes_waits_for_what_was_left().unwrap();
}

/// It cannot know of the address: its Service is gone.
pub fn who_goes_waits_for_what_was_left() -> Result<(), String> {
    let unfenced = Settings { fenced: false, ..Settings::stock() };
    let mut it = told_with(unfenced, Log::None);
    it.make(asking("web", "10.0.0.77"));
    it.until(5 * SEC, "is served", |it| is_reached(it, "web"))?;
    it.run(SEC)?;
    let carrier = it.carrier();
    it.world.kill(carrier);
    it.delete("web");
    it.run(200 * MS)?;
    it.world.start(carrier);
    it.run(SEC)?;
    it.make(asking("again", "10.0.0.77"));
    it.world.stop(carrier);
    it.until(30 * SEC, "another serves", |it| is_reached(it, "again"))?;
    it.world.start(carrier);
    it.finish()
}
