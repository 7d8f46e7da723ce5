//! edgevip on real hosts with a real API server, and everything that may happen to them.
//!
//! `cargo test --test netns [-- WORD...]` runs the scenarios whose names contain a word.

#[path = "../lab/mod.rs"]
#[allow(dead_code, reason = "each includer uses its own part")]
mod lab;

mod api;
mod elections;
mod failover;
mod kernel;
mod links;
mod outcome;
mod preserve;
mod recording;
mod signals;
mod strangers;
mod telling;

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;

use edgevip::io::clock;
use lab::cluster::Cluster;
use lab::{Lab, millis, program, require, sandbox};

/// A scenario: its name, and what it does. It fails by a panic and returns what it measured.
type Scenario = (&'static str, fn(&mut Cluster<'_>) -> String);

/// What cannot be done in namespaces, and why.
const SKIPPED: [(&str, &str); 2] = [
    ("clock_step", "the wall clock belongs to the whole machine; nothing decides by it"),
    ("suspend", "the machine cannot sleep in a test; the simulator does it"),
];

/// Scenarios that show a defect, and which. One that passes is to be taken off this list.
const DEFECTS: [(&str, &str); 5] = [
    ("api_hung_lapse", "a last whole second ends before the leadership: `somebody removed` it"),
    ("node_label_slow_api", "a stop does not wait for the label to be taken off"),
    ("record_continued", "replay ends at a torn line and never comes to the next process"),
    ("sd_notify_holder", "STATUS= is told anew only where the role changes"),
    ("sighup_log_level", "the logger keeps the level it began with: no more is told"),
];

fn main() -> ExitCode {
    sandbox::enter();
    require(&["ip", "nft", "openssl", "curl"]);
    let words: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|it| name.contains(it.as_str()));
    let all = [
        failover::SCENARIOS,
        api::SCENARIOS,
        elections::SCENARIOS,
        kernel::SCENARIOS,
        links::SCENARIOS,
        preserve::SCENARIOS,
        recording::SCENARIOS,
        signals::SCENARIOS,
        strangers::SCENARIOS,
        telling::SCENARIOS,
    ];
    let scenarios: Vec<_> = all.concat().into_iter().filter(|(name, _)| wanted(name)).collect();
    let skipped: Vec<_> = SKIPPED.into_iter().filter(|(name, _)| wanted(name)).collect();
    assert!(scenarios.len() + skipped.len() > 0, "no scenario has a name like {words:?}");

    set_hook(Box::new(|it| println!("{it}")));
    let lab = Lab::start(program(env!("CARGO_BIN_EXE_edgevip")));
    let failed: Vec<_> = scenarios.iter().filter(|it| !passes(&lab, it)).map(|it| it.0).collect();
    for (name, why) in &skipped {
        println!("skipped  {name:<28} {why}");
    }
    let known = scenarios.iter().filter(|it| defect(it.0).is_some() && !failed.contains(&it.0));
    let (known, wrong) = (known.count(), failed.len());
    let passed = scenarios.len() - known - wrong;
    println!(
        "{passed} passed, {wrong} failed, {known} known defects, {} skipped  {failed:?}",
        skipped.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(lab: &Lab, (name, run): &Scenario) -> bool {
    let began = clock::now();
    let mut cluster = Cluster::new(lab, &name.replace('_', "-"));
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut cluster)));
    let defect = defect(name);
    if outcome.is_err() && defect.is_none() {
        println!("{}", cluster.logs());
    }
    drop(cluster);
    lab.restore();
    let took = millis(clock::now().saturating_since(began));
    let (word, about) = match (&outcome, defect) {
        (Ok(measured), None) => ("ok", measured.as_str()),
        (Err(_), None) => ("FAILED", ""),
        (Ok(_), Some(_)) => ("FAILED", "it passes: the defect is no more"),
        (Err(_), Some(defect)) => ("defect", defect),
    };
    println!("{word:<8} {name:<28} {about}   [{took} ms]");
    word != "FAILED"
}

fn defect(name: &str) -> Option<&'static str> {
    DEFECTS.into_iter().find(|it| it.0 == name).map(|it| it.1)
}
