//! The simulator has teeth: each seeded defect is found within its stated number of seeds.

use edgevip::engine::{Sabotage, sabotage};

use crate::run::{Stats, run};
use crate::run_quorum;
use crate::run_services;
use crate::run_site;
use crate::stories_dhcp::{
    a_lease_that_nobody_renews_ends, one_node_renews_a_lease, what_a_server_refuses_is_given_up,
    what_is_leased_is_asked_about_first, what_is_over_is_said_before_the_next_one_carries,
    whoever_is_gone_has_no_lease,
};
use crate::stories_each::{
    who_is_to_be_ignored_gives_its_lease_back, who_takes_over_asks_first,
    whose_lease_is_deleted_answers_no_more,
};
use crate::stories_gateway::{
    what_a_gateway_forgets_is_opened_again,
    what_is_wanted_of_the_gateway_is_there_and_nothing_else,
    who_maps_for_good_only_is_asked_for_that,
};
use crate::stories_made::{
    what_is_made_is_there_as_long_as_it_is_wanted, what_reaches_an_address_is_what_its_service_says,
};
use crate::stories_quorum::discovery::one_of_a_founding_set_is_cut_off_and_founds_with_others;
use crate::stories_quorum::{
    a_move_waits_for_who_is_slow, voters_are_changed_and_a_holder_does_not_hear_of_it,
    voters_are_changed_twice_while_a_holder_is_not_heard, who_missed_an_entry_is_not_elected,
};
use crate::stories_services::{
    a_local_service_stays_while_its_endpoints_flap, left::who_goes_waits_for_what_was_left,
    what_is_written_and_not_answered_is_given_to_nobody_else, who_gives_next_lists_what_was_given,
    whose_status_is_written_over_writes_ever_less_often,
};
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
const WITHIN_QUORUM: [(Sabotage, u64); 12] = [
    (Sabotage::CommitWithoutMajority, 10),
    (Sabotage::CountedFromAnswer, 10),
    (Sabotage::LateAcknowledgement, 100),
    (Sabotage::LearnerCounted, 100),
    (Sabotage::NoWaitAfterStart, 100),
    (Sabotage::PromiseFromSender, 10),
    (Sabotage::PromiseTooShort, 20),
    (Sabotage::ReleaseDropsAny, 20),
    (Sabotage::ReleasedBeforeQuiet, 20),
    (Sabotage::ReplayBelieved, 200),
    (Sabotage::VoteForgotten, 100),
    (Sabotage::VoteTwice, 100),
];

/// The same for Services.
const WITHIN_SERVICES: [(Sabotage, u64); 6] = [
    (Sabotage::AddressGivenAtOnce, 50),
    (Sabotage::ConflictTakenForWritten, 100),
    (Sabotage::DeletedServiceKept, 20),
    (Sabotage::MissingFromListKept, 100),
    (Sabotage::StaleEndpointsServed, 200),
    (Sabotage::UsersNotCounted, 50),
];

/// The same for a site.
const WITHIN_SITE: [(Sabotage, u64); 1] = [(Sabotage::LeavingIgnored, 200)];

/// Of Leases for each Service, DHCP servers, gateways, links and guards: each by a thing that goes wrong alone.
const BY_STORY_OF_SITE: [(Sabotage, Story, &str); 15] = [
    (Sabotage::DeletedLeaseHeld, whose_lease_is_deleted_answers_no_more, "S2"),
    (Sabotage::EndUntold, what_is_over_is_said_before_the_next_one_carries, "D1"),
    (Sabotage::EpochIgnored, what_a_gateway_forgets_is_opened_again, "G2"),
    (Sabotage::GuardOutdated, what_reaches_an_address_is_what_its_service_says, "P2"),
    (Sabotage::LeaseForEver, a_lease_that_nobody_renews_ends, "D1"),
    (Sabotage::LeaseKept, whoever_is_gone_has_no_lease, "D3"),
    (Sabotage::LeaseNotChecked, what_is_leased_is_asked_about_first, "D5"),
    (Sabotage::LeftLeaseForgotten, who_is_to_be_ignored_gives_its_lease_back, "S8"),
    (Sabotage::LinkKept, what_is_made_is_there_as_long_as_it_is_wanted, "K1"),
    (Sabotage::LostLeaseRenewed, one_node_renews_a_lease, "D4"),
    (Sabotage::NakIgnored, what_a_server_refuses_is_given_up, "D1"),
    (Sabotage::PermanentRefused, who_maps_for_good_only_is_asked_for_that, "G2"),
    (Sabotage::PortKept, what_is_wanted_of_the_gateway_is_there_and_nothing_else, "G3"),
    (Sabotage::PortNotRenewed, what_is_wanted_of_the_gateway_is_there_and_nothing_else, "G2"),
    (Sabotage::TakenOverUnasked, who_takes_over_asks_first, "S1"),
];

/// These take a holder that is cut off in two ways while voters are changed twice, a cut at the
/// very moment of a founding, one who is heard again just when the leader dies, or a count of
/// the milliseconds in which a move is answered by nobody, or of writes: stories.
const BY_STORY: [(Sabotage, Story, &str); 11] = [
    (Sabotage::ConflictWithdraws, what_is_written_and_not_answered_is_given_to_nobody_else, "S11"),
    (Sabotage::FoundedByMajority, one_of_a_founding_set_is_cut_off_and_founds_with_others, "S2"),
    (Sabotage::GivenBeforeListed, who_gives_next_lists_what_was_given, "S11"),
    (Sabotage::LeftNotWaitedFor, who_goes_waits_for_what_was_left, "S4"),
    (Sabotage::LossCountsAtOnce, a_local_service_stays_while_its_endpoints_flap, "L1"),
    (
        Sabotage::LostAnswerWithdrawn,
        what_is_written_and_not_answered_is_given_to_nobody_else,
        "S11",
    ),
    (Sabotage::MoveBeforeReady, a_move_waits_for_who_is_slow, "nobody answers"),
    (Sabotage::OldConfigPromised, voters_are_changed_and_a_holder_does_not_hear_of_it, "S2"),
    (
        Sabotage::SecondStepWithoutWaiting,
        voters_are_changed_twice_while_a_holder_is_not_heard,
        "S2",
    ),
    (Sabotage::StaleLogElected, who_missed_an_entry_is_not_elected, "S5"),
    (Sabotage::WrittenOverAtOnce, whose_status_is_written_over_writes_ever_less_often, "L4"),
];

/// These lead to nothing as long as nobody believes a datagram that is not newer: the search
/// of the rules, where datagrams come in any order, finds them.
const HIDDEN: [Sabotage; 2] = [Sabotage::EarlierHoldPromised, Sabotage::ReleasedPromisedAgain];

/// A VIP that keeps its epoch is refused its next holder until the promises to the one before
/// are over, no more: the properties of the placer show it.
const BY_PROPERTY: [Sabotage; 1] = [Sabotage::EpochNotRaised];

type Story = fn() -> Result<(), String>;
type Play = fn(u64, Log) -> Result<Stats, String>;

#[test]
fn every_seeded_defect_is_found_within_its_seeds() {
    let by_seeds = WITHIN.iter().chain(&WITHIN_QUORUM).chain(&WITHIN_SERVICES).chain(&WITHIN_SITE);
    let by_seeds = by_seeds.map(|(defect, _)| *defect);
    let by_story = BY_STORY.iter().chain(&BY_STORY_OF_SITE).map(|(defect, ..)| *defect);
    let listed: Vec<_> = by_seeds.chain(by_story).chain(HIDDEN).chain(BY_PROPERTY).collect();
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

#[test]
fn every_seeded_defect_of_services_is_found_within_its_seeds() {
    let missed = look_for(&WITHIN_SERVICES, run_services::run);
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_seeded_defect_of_a_site_is_found_within_its_seeds() {
    let missed = look_for(&WITHIN_SITE, run_site::run);
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn some_defects_are_found_by_a_story() {
    let only = std::env::var("DEFECT").ok();
    let of_site = BY_STORY_OF_SITE.into_iter();
    for (defect, story, rule) in
        BY_STORY.into_iter().chain(of_site).filter(|it| is_meant(it.0, only.as_deref()))
    {
        story().expect("a good story without the defect");
        sabotage(Some(defect));
        let outcome = story();
        sabotage(None);
        let why = outcome.expect_err(&format!("{defect:?} is not found"));
        assert!(why.contains(rule), "{defect:?}: {why}");
    }
}

fn look_for(defects: &[(Sabotage, u64)], play: Play) -> Vec<String> {
    let first = crate::number("FIRST").unwrap_or(0);
    let mut missed = Vec::new();
    let only = std::env::var("DEFECT").ok();
    for (defect, seeds) in defects.iter().filter(|it| is_meant(it.0, only.as_deref())) {
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

fn is_meant(defect: Sabotage, only: Option<&str>) -> bool {
    only.is_none_or(|only| *only == name(defect))
}

fn name(defect: Sabotage) -> String {
    format!("{defect:?}")
}
