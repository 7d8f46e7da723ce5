//! edgevip on real hosts with a real API server, and everything that may happen to them.
//!
//! `cargo test --test netns [-- WORD... !WORD...]` runs the scenarios whose names contain one of
//! the words, and none of those after a `!`.

#[path = "../lab/mod.rs"]
#[allow(dead_code, reason = "each includer uses its own part")]
mod lab;

mod api;
mod elections;
mod failover;
mod kernel;
mod leases;
mod links;
mod outcome;
mod preserve;
mod raft;
mod recording;
mod services;
mod signals;
mod strangers;
mod telling;

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;

use edgevip::io::clock;
use lab::cluster::Cluster;
use lab::quorum::Quorum;
use lab::{Lab, logs, millis, program, require, sandbox};

/// A scenario: its name, and what it does. It fails by a panic and returns what it measured.
type Scenario = (&'static str, fn(&mut Cluster<'_>) -> String);

/// A scenario of a quorum.
type RaftScenario = (&'static str, fn(&mut Quorum<'_>) -> String);

/// What cannot be done in namespaces, and why.
const SKIPPED: [(&str, &str); 2] = [
    ("clock_step", "the wall clock belongs to the whole machine; nothing decides by it"),
    ("suspend", "the machine cannot sleep in a test; the simulator does it"),
];

fn main() -> ExitCode {
    sandbox::enter();
    require(&["ip", "nft", "openssl", "curl"]);
    let words: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let (without, words): (Vec<_>, Vec<_>) = words.into_iter().partition(|it| it.starts_with('!'));
    let wanted = |name: &str| {
        let named = words.is_empty() || words.iter().any(|it| name.contains(it.as_str()));
        named && !without.iter().any(|it| name.contains(&it[1..]))
    };
    let all = [
        failover::SCENARIOS,
        api::SCENARIOS,
        elections::SCENARIOS,
        kernel::SCENARIOS,
        leases::SCENARIOS,
        links::SCENARIOS,
        preserve::SCENARIOS,
        recording::SCENARIOS,
        services::SCENARIOS,
        signals::SCENARIOS,
        strangers::SCENARIOS,
        telling::SCENARIOS,
    ];
    let scenarios: Vec<_> = all.concat().into_iter().filter(|(name, _)| wanted(name)).collect();
    let of_quorums = raft::scenarios().into_iter().filter(|(name, _)| wanted(name));
    let of_quorums: Vec<_> = of_quorums.collect();
    let skipped: Vec<_> = SKIPPED.into_iter().filter(|(name, _)| wanted(name)).collect();
    let count = scenarios.len() + of_quorums.len();
    assert!(count + skipped.len() > 0, "no scenario has a name like {words:?}");

    set_hook(Box::new(|it| println!("{it}")));
    let lab = Lab::start(program(env!("CARGO_BIN_EXE_edgevip")));
    let mut failed = Vec::new();
    // Those of quorums go first: the API server does not run yet.
    for (name, run) in of_quorums {
        if !passes(&lab, name, |instance| run(&mut Quorum::new(&lab, instance))) {
            failed.push(name);
        }
    }
    for (name, run) in scenarios {
        if !passes(&lab, name, |instance| run(&mut Cluster::new(&lab, instance))) {
            failed.push(name);
        }
    }
    for (name, why) in &skipped {
        println!("skipped  {name:<28} {why}");
    }
    let passed = count - failed.len();
    println!("{passed} passed, {} failed, {} skipped  {failed:?}", failed.len(), skipped.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(lab: &Lab, name: &str, run: impl FnOnce(&str) -> String) -> bool {
    let began = clock::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&name.replace('_', "-"))));
    if outcome.is_err() {
        println!("{}", logs());
    }
    lab.restore();
    let took = millis(clock::now().saturating_since(began));
    match &outcome {
        Ok(measured) => println!("ok       {name:<28} {measured}   [{took} ms]"),
        Err(_) => println!("FAILED   {name:<28} [{took} ms]"),
    }
    outcome.is_ok()
}
