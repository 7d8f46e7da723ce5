//! The simulator has teeth: each seeded defect is found within its stated number of seeds.

use edgevip::engine::{Sabotage, sabotage};

use crate::run::run;
use crate::world::Log;

/// A few times the most seeds that any of twenty stretches of seeds needed.
const WITHIN: [(Sabotage, u64); 12] = [
    (Sabotage::BurstMissingAfterHeal, 10),
    (Sabotage::ConflictingReleaseNotRetried, 300),
    (Sabotage::ForeignHolderIgnored, 40),
    (Sabotage::GivenUpAfterRetryPeriod, 250),
    (Sabotage::ImpatientFollower, 20),
    (Sabotage::LateReply, 200),
    (Sabotage::LeftoversNotCleaned, 30),
    (Sabotage::NoLifetime, 10),
    (Sabotage::OwnDurationOnly, 300),
    (Sabotage::ReaddForgotten, 40),
    (Sabotage::ReleaseBeforeSilent, 20),
    (Sabotage::UntilFromReply, 10),
];

#[test]
fn every_seeded_defect_is_found_within_its_seeds() {
    assert!(Sabotage::ALL.iter().all(|it| WITHIN.iter().any(|(known, _)| known == it)));
    let mut missed = Vec::new();
    for (defect, seeds) in WITHIN {
        match (0..seeds).find_map(|seed| Some((seed, found(defect, seed)?))) {
            Some((seed, why)) => eprintln!("{:<29} {seed:>3} of {seeds:>3}  {why}", name(defect)),
            None => missed.push(name(defect)),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// What the defect leads to in a run that is good without it.
fn found(defect: Sabotage, seed: u64) -> Option<String> {
    sabotage(Some(defect));
    let with = run(seed, Log::None);
    sabotage(None);
    with.err().filter(|_| run(seed, Log::None).is_ok())
}

fn name(defect: Sabotage) -> String {
    format!("{defect:?}")
}
