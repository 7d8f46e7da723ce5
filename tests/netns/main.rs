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
#[cfg(feature = "upnp")]
mod gateway;
mod guard;
mod kernel;
mod leases;
mod leases6;
mod links;
mod made;
mod named;
mod outcome;
mod preserve;
mod raft;
mod recording;
mod rights;
mod services;
mod services_each;
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
type Scenario = (&'static str, RunCluster);
type RunCluster = fn(&mut Cluster<'_>) -> String;

/// A scenario of a quorum.
type RaftScenario = (&'static str, RunQuorum);
type RunQuorum = fn(&mut Quorum<'_>) -> String;

type Wanted = (&'static str, Kind);

enum Kind {
    Cluster(RunCluster),
    Quorum(RunQuorum),
}

/// No more than so many are tried again.
const UNSTEADY: usize = 3;

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
        #[cfg(feature = "upnp")]
        gateway::SCENARIOS,
        guard::SCENARIOS,
        kernel::SCENARIOS,
        leases::SCENARIOS,
        leases6::SCENARIOS,
        links::SCENARIOS,
        made::SCENARIOS,
        named::SCENARIOS,
        preserve::SCENARIOS,
        recording::SCENARIOS,
        rights::SCENARIOS,
        services::SCENARIOS,
        services_each::SCENARIOS,
        signals::SCENARIOS,
        strangers::SCENARIOS,
        telling::SCENARIOS,
    ];
    // Those of quorums go first: the API server does not run yet.
    let of_quorums = raft::scenarios().into_iter().map(|(name, run)| (name, Kind::Quorum(run)));
    let of_clusters = all.concat().into_iter().map(|(name, run)| (name, Kind::Cluster(run)));
    let mut failed: Vec<Wanted> = of_quorums.chain(of_clusters).filter(|it| wanted(it.0)).collect();
    let skipped: Vec<_> = SKIPPED.into_iter().filter(|(name, _)| wanted(name)).collect();
    let count = failed.len();
    assert!(count + skipped.len() > 0, "no scenario has a name like {words:?}");

    set_hook(Box::new(|it| println!("{it}")));
    let lab = Lab::start(program(env!("CARGO_BIN_EXE_edgevip")));
    let run = |scenario: &Wanted, instance: &str| match scenario.1 {
        Kind::Quorum(run) => run(&mut Quorum::new(&lab, instance)),
        Kind::Cluster(run) => run(&mut Cluster::new(&lab, instance)),
    };
    failed.retain(|it| !passes(&lab, it.0, "", |instance| run(it, instance)));
    // Everything here has to do with time, and other tests run beside it: what failed has
    // another try at the end, and is named. Many such are no accident.
    let mut unsteady = Vec::new();
    if failed.len() <= UNSTEADY {
        unsteady = failed.iter().map(|it| it.0).collect();
        failed.retain(|it| !passes(&lab, it.0, "-again", |instance| run(it, instance)));
        unsteady.retain(|name| !failed.iter().any(|it| it.0 == *name));
    }
    for (name, why) in &skipped {
        println!("skipped  {name:<28} {why}");
    }
    let failed: Vec<_> = failed.iter().map(|it| it.0).collect();
    println!(
        "{} passed, {} of them at the second try only {unsteady:?}, {} failed {failed:?}, {} skipped",
        count - failed.len(),
        unsteady.len(),
        failed.len(),
        skipped.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(lab: &Lab, name: &str, again: &str, run: impl FnOnce(&str) -> String) -> bool {
    let began = clock::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&(name.replace('_', "-") + again))));
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
