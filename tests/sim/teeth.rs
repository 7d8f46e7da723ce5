//! The simulator has teeth: each seeded defect is found within its stated number of seeds.

use edgevip::engine::{Sabotage, sabotage};

use crate::run::{Stats, run};
use crate::run_quorum;
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

/// The same for a quorum, where a few times the most of four stretches are allowed.
const WITHIN_QUORUM: [(Sabotage, u64); 19] = [
    (Sabotage::CommitWithoutMajority, 100),
    (Sabotage::CountedFromAnswer, 100),
    (Sabotage::EarlierHoldPromised, 100),
    (Sabotage::EpochNotRaised, 100),
    (Sabotage::LateAcknowledgement, 100),
    (Sabotage::LearnerCounted, 100),
    (Sabotage::MoveBeforeReady, 100),
    (Sabotage::NoWaitAfterStart, 100),
    (Sabotage::OldConfigPromised, 100),
    (Sabotage::PromiseFromSender, 100),
    (Sabotage::PromiseTooShort, 100),
    (Sabotage::ReleaseDropsAny, 100),
    (Sabotage::ReleasedBeforeQuiet, 100),
    (Sabotage::ReleasedPromisedAgain, 100),
    (Sabotage::ReplayBelieved, 100),
    (Sabotage::SecondStepWithoutWaiting, 100),
    (Sabotage::StaleLogElected, 100),
    (Sabotage::VoteForgotten, 100),
    (Sabotage::VoteTwice, 100),
];

type Play = fn(u64, Log) -> Result<Stats, String>;

#[test]
fn every_seeded_defect_is_found_within_its_seeds() {
    let all = WITHIN.iter().chain(&WITHIN_QUORUM);
    let listed: Vec<_> = all.map(|(defect, _)| *defect).collect();
    let unlisted: Vec<_> = Sabotage::ALL.iter().filter(|it| !listed.contains(it)).collect();
    assert!(unlisted.is_empty(), "nobody looks for {unlisted:?}");
    let missed = look_for(&WITHIN, run);
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_seeded_defect_of_a_quorum_is_found_within_its_seeds() {
    let half = WITHIN_QUORUM.len() / 2;
    let missed: Vec<_> = std::thread::scope(|scope| {
        let (some, others) = WITHIN_QUORUM.split_at(half);
        let halves = [some, others].map(|it| scope.spawn(|| look_for(it, run_quorum::run)));
        halves.into_iter().flat_map(|it| it.join().expect("a run does not panic")).collect()
    });
    assert!(missed.is_empty(), "not found: {missed:?}");
}

fn look_for(defects: &[(Sabotage, u64)], play: Play) -> Vec<String> {
    let first = crate::number("FIRST").unwrap_or(0);
    let mut missed = Vec::new();
    for (defect, seeds) in defects {
        let found = (first..first + seeds).find_map(|it| Some((it, found(*defect, it, play)?)));
        match found {
            Some((seed, why)) => {
                let (name, nth) = (name(*defect), seed - first);
                let why: String = why.chars().take(120).collect();
                eprintln!("{name:<29} {nth:>3} of {seeds:>3}  {why}");
            }
            None => missed.push(name(*defect)),
        }
    }
    missed
}

/// What the defect leads to in a run that is good without it.
fn found(defect: Sabotage, seed: u64, play: Play) -> Option<String> {
    sabotage(Some(defect));
    let with = play(seed, Log::None);
    sabotage(None);
    with.err().filter(|_| play(seed, Log::None).is_ok())
}

fn name(defect: Sabotage) -> String {
    format!("{defect:?}")
}
