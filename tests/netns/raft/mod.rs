//! edgevips that elect by a quorum of their own. The API server does not run.

mod deaths;

use std::time::Duration;

use crate::RaftScenario;
use crate::lab::quorum::Quorum;
use crate::lab::watch::Watch;
use crate::outcome::{Outcome, taken_over};

/// Every scenario of a quorum.
pub fn scenarios() -> Vec<RaftScenario> {
    [deaths::SCENARIOS].concat()
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
    taken_over(quorum.watched(), watch, holder, LONG, || event(quorum))
}
