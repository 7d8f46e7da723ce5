//! The cases, and what is expected of each.

use super::walk::{Found, walk};
use super::world::NODES;
use super::{Case, Fault, Steps};
use crate::engine::sabotage::{Sabotage, sabotage};

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

/// Never two hold, among three voters that stay.
pub fn three_voters() -> Result<(), String> {
    safe(&small()[0])
}

/// Never two hold, while the voters change.
pub fn changing_voters() -> Result<(), String> {
    safe(&small()[1])
}

/// Never two hold, in cases that take long: `all`, or those with a word in their name.
/// Returns those that were left out.
pub fn larger_cases(which: &str) -> Result<Vec<&'static str>, String> {
    let is_wanted = |it: &Case| which == "all" || (!which.is_empty() && it.name.contains(which));
    let (wanted, left): (Vec<_>, Vec<_>) = large().into_iter().partition(is_wanted);
    safe(&wanted)?;
    Ok(left.iter().map(|it| it.name).collect())
}

fn safe(cases: &[Case]) -> Result<(), String> {
    for case in cases {
        let found = run(case);
        if found.wrong.is_some() {
            return Err(format!("{} is not safe", case.name));
        }
        if found.limited {
            return Err(format!("{} is too large", case.name));
        }
    }
    Ok(())
}

/// From whatever state: when one alone is assigned, and a majority hears it, it is entitled
/// as soon as what was promised before, or is waited for, is over.
pub fn one_alone_is_entitled_soon() -> Result<(), String> {
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
        if let Some(first) = late.first() {
            return Err(format!("{} come late, or never: {first:#?}", late.len()));
        }
    }
    Ok(())
}

fn run(case: &Case) -> Found {
    let found = walk(case, LIMIT, |_, _| {});
    let more = if found.limited { ", and more" } else { "" };
    println!("{:<46} {:>9} states {:>3} deep{more}", case.name, found.states, found.depth);
    if let Some((why, acts)) = &found.wrong {
        println!("  {why}:");
        acts.iter().for_each(|it| println!("    {it}"));
    }
    found
}

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

/// Seeded defects of voter and holder that no search finds.
pub fn defects_not_found() -> Vec<String> {
    let search = |(defect, case)| {
        sabotage(Some(defect));
        let found = run(&case);
        sabotage(None);
        missed(format!("{defect:?}"), &found)
    };
    seeded().into_iter().filter_map(search).collect()
}

/// Mistakes beside voter and holder that no search finds.
pub fn faults_not_found() -> Vec<String> {
    let search = |(fault, case)| {
        let found = run(&Case { fault: Some(fault), ..case });
        missed(format!("{fault:?}"), &found)
    };
    outside().into_iter().filter_map(search).collect()
}

fn missed(name: String, found: &Found) -> Option<String> {
    let Some((why, acts)) = &found.wrong else {
        return Some(name);
    };
    println!("{name}: {why} after {} steps", acts.len());
    None
}
