//! The cases, and what is expected of each.

use std::time::Instant;

use super::walk::{Found, walk};
use super::world::NODES;
use super::{Case, Steps};

/// Larger cases are searched when this variable is `all`; another word searches those that
/// have it in their name.
const WHICH: &str = "SEARCH";
/// More would not fit into the memory of a small machine.
const LIMIT: usize = 60_000_000;

/// So many are enough to show that none is stuck.
const AT_FIRST: usize = 20_000;

const ALL: u8 = 0b11111;

fn base() -> Case {
    Case {
        name: "3 voters, D in 2 ticks, 1 hold each, restarts",
        nodes: 3,
        holders: &[0, 1],
        configs: &[0b111],
        members: Steps::Fixed,
        slots: 1,
        ticks: 2,
        kernel: false,
        restarts: ALL,
        farewells: false,
        epochs: 0,
        kept: false,
        old: false,
        apart: false,
        begins: ([0; NODES], false),
        fault: None,
    }
}

/// Three voters, and two holders that are others.
fn learners() -> Case {
    Case { name: "holders are no voters", nodes: 5, holders: &[3, 4], ..base() }
}

fn kernel() -> Case {
    Case { name: "kernel queue, planned move", kernel: true, ..base() }
}

/// From three voters to four.
fn step() -> Case {
    Case {
        name: "3 to 4 voters, A and D hold",
        nodes: 4,
        holders: &[0, 3],
        configs: &[0b0111, 0b1111],
        members: Steps::Chain,
        restarts: 0,
        ..base()
    }
}

/// From three voters to five.
fn steps() -> Case {
    Case {
        name: "3 to 4 to 5 voters, A and E hold",
        nodes: 5,
        holders: &[0, 4],
        configs: &[0b00111, 0b01111, 0b11111],
        ..step()
    }
}

/// Two leaders take a first step each.
fn rival() -> Case {
    Case {
        name: "rival steps, A and D hold",
        nodes: 4,
        holders: &[0, 3],
        configs: &[0b1111, 0b0111, 0b1110],
        members: Steps::Rival,
        ..step()
    }
}

fn small() -> [Vec<Case>; 2] {
    let first = vec![
        base(),
        Case { name: "  D in 3 ticks", ticks: 3, ..base() },
        Case { name: "  2 holds each", slots: 2, ..base() },
        Case { name: "  answers come apart", apart: true, ..base() },
        Case { name: "  orderly stops", farewells: true, ..base() },
        Case { name: "  holders are no voters", ..learners() },
        kernel(),
    ];
    let second = vec![step()];
    [first, second]
}

fn large() -> Vec<Case> {
    let tick = || Case { ticks: 1, ..base() };
    let still = || Case { ticks: 1, restarts: 0, ..base() };
    vec![
        Case { name: "D in 4 ticks", ticks: 4, ..base() },
        Case { name: "D in 3 ticks, 2 holds each", ticks: 3, slots: 2, ..base() },
        Case { name: "kernel queue, holders are no voters", kernel: true, ..learners() },
        Case { name: "kernel queue, D in 3 ticks", ticks: 3, ..kernel() },
        Case { name: "5 voters", nodes: 5, configs: &[0b11111], ..base() },
        Case { name: "holds are kept by voters, D in 1 tick", kept: true, ..still() },
        Case { name: "holds are kept by voters, restarts", kept: true, ..tick() },
        Case { name: "2 epochs, D in 1 tick", epochs: 2, ..still() },
        Case { name: "2 epochs, restarts", epochs: 2, ..tick() },
        Case { name: "old holds come, D in 1 tick", old: true, apart: true, ..still() },
        Case { name: "old holds come, restarts", old: true, apart: true, ..tick() },
        Case { name: "3 to 4 voters, D in 1 tick, restarts", ticks: 1, restarts: ALL, ..step() },
        Case { name: "3 to 4 to 5 voters, D in 1 tick", ticks: 1, ..steps() },
        Case {
            name: "5 to 4 to 3 voters, D in 1 tick",
            ticks: 1,
            configs: &[31, 15, 7],
            ..steps()
        },
        rival(),
    ]
}

#[test]
fn never_two_hold_among_three_voters() {
    let [first, _] = small();
    first.iter().for_each(expect_none);
}

#[test]
fn never_two_hold_while_the_voters_change() {
    let [_, second] = small();
    second.iter().for_each(expect_none);
}

#[test]
fn never_two_hold_in_larger_cases() {
    let which = std::env::var(WHICH).unwrap_or_default();
    let is_wanted = |it: &Case| which == "all" || (!which.is_empty() && it.name.contains(&which));
    let (wanted, left): (Vec<_>, Vec<_>) = large().into_iter().partition(is_wanted);
    left.iter().for_each(|it| println!("{:<46} left out: {WHICH}=all searches it", it.name));
    wanted.iter().for_each(expect_none);
}

fn expect_none(case: &Case) {
    let found = run(case);
    assert!(found.wrong.is_none(), "{} is not safe", case.name);
    assert!(!found.limited, "{} is too large", case.name);
}

/// From whatever state: when one alone is assigned, and a majority hears it, it is entitled
/// as soon as what was promised before, or is waited for, is over.
#[test]
fn who_is_assigned_alone_is_entitled_soon() {
    let tick = || Case { ticks: 1, ..learners() };
    let cases = [
        base(),
        Case { name: "  holders are no voters", ..learners() },
        Case { name: "  D in 1 tick, kernel queue", kernel: true, ..tick() },
        Case { name: "  D in 1 tick, holds are kept", kept: true, ..tick() },
        Case { name: "  D in 1 tick, 2 epochs", epochs: 2, ..tick() },
    ];
    for case in cases {
        let mut late = vec![];
        let found = walk(&case, AT_FIRST, |search, state| {
            for (h, node) in case.holders.iter().enumerate() {
                for down in (0..case.nodes).filter(|it| *it != usize::from(*node)) {
                    if search.calm(state, h, down, case.ticks).is_none() {
                        late.push((*node, down, *state));
                    }
                }
            }
        });
        let more = if found.limited { ", of more" } else { "" };
        println!("{:<46} {:>9} states come to rest{more}", case.name, found.states);
        assert!(late.is_empty(), "{} come late, or never: {:#?}", late.len(), late[0]);
    }
}

fn run(case: &Case) -> Found {
    #[expect(clippy::disallowed_methods, reason = "how long a search takes is shown")]
    let began = Instant::now();
    let found = walk(case, LIMIT, |_, _| {});
    println!(
        "{:<46} {:>9} states {:>3} deep {:>6.1} s{}",
        case.name,
        found.states,
        found.depth,
        began.elapsed().as_secs_f64(),
        if found.limited { ", and more" } else { "" }
    );
    if let Some((why, acts)) = &found.wrong {
        println!("  {why}:");
        acts.iter().for_each(|it| println!("    {it}"));
    }
    found
}

#[cfg(feature = "sabotage")]
mod teeth {
    use super::super::Fault;
    use super::*;
    use crate::engine::sabotage::{Sabotage, sabotage};

    /// A case in which the defect is found within a few seconds.
    fn seeded() -> Vec<(Sabotage, Case)> {
        let quick = Case { ticks: 1, restarts: 0, old: true, ..learners() };
        let lone = Case { nodes: 4, holders: &[0, 3], ..base() };
        let stepped = Case { ticks: 1, begins: ([0, 1, 1, 1, 1], true), ..steps() };
        vec![
            (Sabotage::CountedFromAnswer, Case { apart: true, ..quick.clone() }),
            (Sabotage::EarlierHoldPromised, Case { slots: 2, ..quick.clone() }),
            (Sabotage::LateAcknowledgement, Case { kernel: true, ..quick.clone() }),
            (Sabotage::LearnerCounted, lone),
            (Sabotage::NoWaitAfterStart, base()),
            (Sabotage::OldConfigPromised, stepped),
            (Sabotage::PromiseTooShort, base()),
            (Sabotage::ReleaseDropsAny, base()),
            (Sabotage::ReleasedBeforeQuiet, Case { restarts: 0, ..kernel() }),
            (Sabotage::ReleasedPromisedAgain, quick),
        ]
    }

    fn outside() -> Vec<(Fault, Case)> {
        let quick = Case { ticks: 1, restarts: 0b01000, old: true, ..learners() };
        let stepped = Case { ticks: 1, begins: ([0, 0, 1, 1, 0], false), ..steps() };
        vec![
            (Fault::DeadLifeBelieved, Case { slots: 2, ..quick.clone() }),
            (Fault::LifeUsedAgain, Case { apart: true, ..quick }),
            (Fault::OwnWordUnasked, base()),
            (Fault::StepTooSoon, stepped),
            (Fault::WaitTooShort, base()),
        ]
    }

    #[test]
    fn every_seeded_defect_of_the_rules_is_found() {
        let mut missed = vec![];
        for (defect, case) in seeded() {
            sabotage(Some(defect));
            let found = run(&case);
            sabotage(None);
            note(&format!("{defect:?}"), &found, &mut missed);
        }
        assert!(missed.is_empty(), "not found: {missed:?}");
    }

    #[test]
    fn every_defect_beside_voter_and_holder_is_found() {
        let mut missed = vec![];
        for (fault, case) in outside() {
            let found = run(&Case { fault: Some(fault), ..case });
            note(&format!("{fault:?}"), &found, &mut missed);
        }
        assert!(missed.is_empty(), "not found: {missed:?}");
    }

    fn note(name: &str, found: &Found, missed: &mut Vec<String>) {
        match &found.wrong {
            Some((why, acts)) => println!("{name}: {why} after {} steps", acts.len()),
            None => missed.push(name.to_owned()),
        }
    }
}
