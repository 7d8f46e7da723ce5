//! Deterministic simulation: nodes, their kernels, a LAN with a client, one API server, and
//! one bad day per seed.
//!
//! `cargo test --test sim` runs 500 seeds, `SEEDS=10000` more, `FIRST=7000` others (`QUORUM_SEEDS`,
//! `SERVICES_SEEDS` and so on for those of a quorum and of Services);
//! `SEED=7 cargo test --test sim one_node -- --nocapture` replays one with its log.

mod apiserver;
mod book;
mod checks;
mod checks_services;
mod cloud;
mod cluster;
mod dhcp;
mod each;
mod ears;
mod faults;
mod foreign;
mod gateway;
mod host;
mod kernel;
mod lan;
mod objects;
mod process;
mod run;
mod run_quorum;
mod run_services;
mod run_site;
#[cfg(feature = "sabotage")]
mod search;
mod site;
mod stories;
mod stories_beside;
mod stories_dhcp;
mod stories_each;
mod stories_gateway;
mod stories_made;
mod stories_quorum;
mod stories_services;
#[cfg(feature = "sabotage")]
mod teeth;
mod told;
mod users;
mod wires;
mod world;

use run::{Stats, run};
use world::Log;

#[test]
fn one_node_at_most_answers_and_one_does_once_all_is_well() {
    if let Some(seed) = number("SEED") {
        if let Err(why) = run(seed, Log::Print) {
            panic!("SEED={seed}: {why}");
        }
        return;
    }
    let first = number("FIRST").unwrap_or(0);
    let kept =
        include_str!("seeds.txt").lines().filter_map(|it| it.split(' ').next()?.parse().ok());
    let seeds: Vec<u64> = kept.chain(first..first + number("SEEDS").unwrap_or(500)).collect();
    let started = now();
    let (mut events, mut takeovers, mut simulated) = (0, 0, 0);
    let mut failures = Vec::new();
    for (seed, outcome) in run_all(&seeds, run) {
        match outcome {
            Ok(stats) => {
                events += stats.events;
                takeovers += stats.takeovers;
                simulated += stats.simulated;
            }
            Err(why) => failures.push(format!(
                "{why}\n    SEED={seed} cargo test --test sim one_node -- --nocapture"
            )),
        }
    }
    let took = now() - started;
    eprintln!(
        "{} seeds, {events} events, {takeovers} takeovers, {} simulated s in {took:.1?}: {:.0} a second",
        seeds.len(),
        simulated / host::SEC,
        simulated as f64 / 1e9 / took.as_secs_f64(),
    );
    let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} seeds failed, among them:\n{shown}", failures.len());
    assert!(seeds.len() < 100 || takeovers > seeds.len() as u64, "too little happens");
}

#[test]
fn one_node_of_a_quorum_at_most_answers_and_one_does_once_all_is_well() {
    // Members speak thirty times a second, so a seed takes a hundred times as long.
    play_of("QUORUM", run_quorum::run, "one_node_of_a_quorum");
}

#[test]
fn one_node_answers_for_each_service_and_nothing_is_left_of_others() {
    play_of("SERVICES", run_services::run, "one_node_answers_for_each");
}

#[test]
fn one_node_answers_for_what_is_leased_and_mapped_and_elected_each() {
    play_of("SITE", run_site::run, "one_node_answers_for_what");
}

/// Plays `SEED`, or those of a kind of world that the variables of its name say.
fn play_of(kind: &str, run: fn(u64, Log) -> Result<Stats, String>, name: &str) {
    if let Some(seed) = number("SEED") {
        if let Err(why) = run(seed, Log::Print) {
            panic!("SEED={seed}: {why}");
        }
        return;
    }
    let of_kind = |what: &str| number(&format!("{kind}_{what}"));
    let first = of_kind("FIRST").unwrap_or(0);
    let seeds: Vec<u64> = (first..first + of_kind("SEEDS").unwrap_or(60)).collect();
    let failures = play(&seeds, run, name);
    let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} seeds failed, among them:\n{shown}", failures.len());
}

fn play(seeds: &[u64], run: fn(u64, Log) -> Result<Stats, String>, name: &str) -> Vec<String> {
    let started = now();
    let (mut events, mut takeovers, mut simulated) = (0, 0, 0);
    let mut failures = Vec::new();
    for (seed, outcome) in run_all(seeds, run) {
        match outcome {
            Ok(stats) => {
                events += stats.events;
                takeovers += stats.takeovers;
                simulated += stats.simulated;
            }
            Err(why) => failures.push(format!(
                "{why}\n    SEED={seed} cargo test --test sim {name} -- --nocapture"
            )),
        }
    }
    let took = now() - started;
    eprintln!(
        "{} seeds, {events} events, {takeovers} takeovers, {} simulated s in {took:.1?}: {:.0} a second",
        seeds.len(),
        simulated / host::SEC,
        simulated as f64 / 1e9 / took.as_secs_f64(),
    );
    failures
}

#[test]
fn the_same_seed_is_the_same_run() {
    let runs = [0, 1].map(|_| {
        let stats = (0..8).map(|seed| run(seed, Log::Hash(seed)).expect("a good run"));
        stats.map(|it| it.fingerprint).collect::<Vec<_>>()
    });
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0][0], runs[0][1]);
    let runs = [0, 1].map(|_| {
        let stats = (0..2).map(|seed| run_quorum::run(seed, Log::Hash(seed)).expect("a good run"));
        stats.map(|it| it.fingerprint).collect::<Vec<_>>()
    });
    assert_eq!(runs[0], runs[1]);
    let runs = [0, 1].map(|_| {
        let stats =
            (0..3).map(|seed| run_services::run(seed, Log::Hash(seed)).expect("a good run"));
        stats.map(|it| it.fingerprint).collect::<Vec<_>>()
    });
    assert_eq!(runs[0], runs[1]);
}

/// Each seed is a world of its own, so every core takes its share.
fn run_all(
    seeds: &[u64],
    run: fn(u64, Log) -> Result<Stats, String>,
) -> Vec<(u64, Result<Stats, String>)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = seeds.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let play = |it: &[u64]| it.iter().map(|it| (*it, run(*it, Log::None))).collect::<Vec<_>>();
        let threads: Vec<_> = seeds.chunks(share).map(|it| scope.spawn(move || play(it))).collect();
        threads.into_iter().flat_map(|it| it.join().expect("a run does not panic")).collect()
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Only to say how fast the simulation is.
fn now() -> std::time::Duration {
    edgevip::io::clock::awake()
}
