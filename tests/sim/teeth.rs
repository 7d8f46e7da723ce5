//! The simulator has teeth: each seeded defect is found within its stated number of seeds.

use edgevip::engine::{Sabotage, sabotage};

use crate::run::{Stats, run};
use crate::run_quorum;
use crate::world::Log;

/// By a Lease. A few times the most seeds that any of twenty stretches of seeds needed.
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

/// By a quorum: three times what was needed, and ten at least.
static OF_A_QUORUM: [(Sabotage, u64); 12] = [
    (Sabotage::CommitWithoutMajority, 10),
    (Sabotage::CountedFromAnswer, 10),
    (Sabotage::EpochNotRaised, 25),
    (Sabotage::LateAcknowledgement, 20),
    (Sabotage::LearnerCounted, 25),
    (Sabotage::NoWaitAfterStart, 20),
    (Sabotage::PromiseTooShort, 10),
    (Sabotage::ReleaseDropsAny, 10),
    (Sabotage::ReleasedBeforeQuiet, 10),
    (Sabotage::StaleLogElected, 65),
    (Sabotage::VoteForgotten, 10),
    (Sabotage::VoteTwice, 25),
];

/// What 25 seeds do not find, and the units do: the search of the promise rules the first, the
/// third and the fourth; the placer's, the post's and raft's own tables the others.
const ELSEWHERE: [Sabotage; 6] = [
    Sabotage::EarlierHoldPromised,
    Sabotage::MoveBeforeReady,
    Sabotage::OldConfigPromised,
    Sabotage::ReleasedPromisedAgain,
    Sabotage::ReplayBelieved,
    Sabotage::SecondStepWithoutWaiting,
];

type Run = fn(u64, Log) -> Result<Stats, String>;

#[test]
fn every_seeded_defect_is_found_within_its_seeds() {
    let known = |it: &Sabotage| {
        let played = WITHIN.iter().chain(&OF_A_QUORUM).any(|(known, _)| known == it);
        played || ELSEWHERE.contains(it)
    };
    assert!(Sabotage::ALL.iter().all(known));
    let missed = missed(&WITHIN, run);
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_seeded_defect_of_a_quorum_is_found_within_its_seeds() {
    let halves = OF_A_QUORUM.split_at(OF_A_QUORUM.len() / 2);
    let missed: Vec<_> = std::thread::scope(|scope| {
        let find = |of: &'static [(Sabotage, u64)]| scope.spawn(|| missed(of, run_quorum::run));
        let both = [find(halves.0), find(halves.1)];
        both.into_iter().flat_map(|it| it.join().expect("a run does not panic")).collect()
    });
    assert!(missed.is_empty(), "not found: {missed:?}");
}

fn missed(defects: &[(Sabotage, u64)], run: Run) -> Vec<String> {
    let mut missed = Vec::new();
    for (defect, seeds) in defects {
        match (0..*seeds).find_map(|seed| Some((seed, found(*defect, seed, run)?))) {
            Some((seed, why)) => eprintln!("{:<29} {seed:>3} of {seeds:>3}  {why}", name(*defect)),
            None => missed.push(name(*defect)),
        }
    }
    missed
}

/// What the defect leads to in a run that is good without it.
fn found(defect: Sabotage, seed: u64, run: Run) -> Option<String> {
    sabotage(Some(defect));
    let with = run(seed, Log::None);
    sabotage(None);
    with.err().filter(|_| run(seed, Log::None).is_ok())
}

fn name(defect: Sabotage) -> String {
    format!("{defect:?}")
}
