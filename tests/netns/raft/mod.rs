//! edgevips that elect by a quorum of their own. The API server does not run, but for `api`.

mod api;
mod deaths;
mod discovery;
mod leases;
mod network;
mod orders;
mod placement;
mod stores;

use std::time::Duration;

use edgevip::model::Instant;

use crate::RaftScenario;
use crate::lab::gap::Gap;
use crate::lab::quorum::Quorum;
use crate::lab::watch::Watch;
use crate::outcome::{Lost, Outcome, never_two, taken_over};

/// Every scenario of a quorum.
pub fn scenarios() -> Vec<RaftScenario> {
    let all = [
        deaths::SCENARIOS,
        discovery::SCENARIOS,
        network::SCENARIOS,
        orders::SCENARIOS,
        placement::SCENARIOS,
        stores::SCENARIOS,
        // Last: the API server runs from here on.
        api::SCENARIOS,
        leases::SCENARIOS,
    ];
    all.concat()
}

/// What a move takes on a machine that is busy with something else; 0.12 s otherwise.
const SOON: Duration = Duration::from_secs(1);
/// What takes as long as it takes.
const LONG: Duration = Duration::from_secs(10);

/// Lets something happen to the holder, and waits until one other answers.
fn moved(
    quorum: &mut Quorum<'_>,
    watch: &Watch,
    holder: &str,
    event: impl FnOnce(&mut Quorum<'_>),
) -> Outcome {
    let vip = quorum.watched();
    taken_over(vip, watch, holder, LONG * 2, || event(quorum))
}

/// Fails if the client lost anything, or if two answered since then.
fn nothing_lost(gap: Gap, watch: &Watch, since: Instant) -> String {
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}\n{}", Lost(seen), watch.story(since));
    never_two(watch, since);
    Lost(seen).to_string()
}
