//! Several members joined by a network that loses, delays, doubles and reorders, on machines
//! that stop at any time and keep only what was stored.

mod world;

use std::time::Duration;

use world::{Event, Machine, World};

use super::{address, name};
use crate::engine::elector::quorum::raft::Raft;
use crate::model::{ClusterCall, Farewell, NodeName};

/// 20 000 were found to be well; so many take a second or two.
const SEEDS: u64 = 240;
const HEARTBEAT: Duration = Duration::from_millis(30);
const STORM: Duration = Duration::from_millis(2_500);
/// A write that fails is tried again after a second: the last of the storm does not.
const DISKS_FAIL_FOR: Duration = Duration::from_millis(1_500);
const ELECTED_WITHIN: Duration = Duration::from_secs(1);
/// The promise, two round trips of 4 ms at worst, 6 ms of chance and one of measuring; the
/// first of those left may hear the leader last.
const REPLACED_WITHIN: Duration = Duration::from_millis(120 + 8 + 6 + 1 + 2);
const AGREED_WITHIN: Duration = Duration::from_secs(1);

/// Twice what five members say with heartbeats alone.
const MOST_SENT: u64 = 5_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Setup {
    Three,
    Five,
    /// Five of which one at a time loses its store.
    Forgetful,
    /// Three, and two that join, are promoted, removed and so on.
    Churn,
}

const SETUPS: [Setup; 4] = [Setup::Three, Setup::Five, Setup::Churn, Setup::Forgetful];

#[test]
fn no_storm_breaks_a_promise_and_calm_brings_a_leader() {
    let mut broken = Vec::new();
    for seed in 0..SEEDS {
        let setup = SETUPS[seed as usize % SETUPS.len()];
        if let Err(why) = weather(setup, seed) {
            broken.push(format!("seed {seed}, {setup:?}: {why}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_leader_that_dies_is_replaced_as_fast_as_its_silence_allows() {
    for seed in 0..60 {
        let mut world = World::new(SETUPS[seed as usize % 2], seed);
        world.calm();
        world.run_until(world.now + ELECTED_WITHIN).unwrap();
        let dead = world.leader().expect("a leader");
        let dies_at = world.now + world.up_to(30_000);
        world.run_until(dies_at).unwrap();
        world.machine(&dead).raft = None;
        while world.leader().is_none() {
            world.run_until(world.now + Duration::from_millis(1)).unwrap();
        }
        let took = world.now.saturating_since(dies_at);
        assert!(took <= REPLACED_WITHIN, "seed {seed}: {took:?}");
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn a_storm_finds_each_defect() {
    use crate::engine::{Sabotage, sabotage};
    let defects = [
        Sabotage::CommitWithoutMajority,
        Sabotage::StaleLogElected,
        Sabotage::VoteForgotten,
        Sabotage::VoteTwice,
    ];
    for defect in defects {
        sabotage(Some(defect));
        let found =
            (0..5_000).find(|it| weather(SETUPS[*it as usize % SETUPS.len()], *it).is_err());
        sabotage(None);
        println!("{defect:?}: seed {found:?}");
        assert!(found.is_some(), "{defect:?} is not found");
    }
}

fn weather(setup: Setup, seed: u64) -> Result<(), String> {
    let mut world = World::new(setup, seed);
    let calm_at = world.now + STORM;
    world.run_until(calm_at)?;
    world.calm();
    let leader_by = world.now + ELECTED_WITHIN;
    while world.leader().is_none() {
        world.run_until(world.now + HEARTBEAT)?;
        if world.now > leader_by {
            return Err(format!("no leader\n{}", world.sight()));
        }
    }
    let agreed_by = world.now + AGREED_WITHIN;
    loop {
        let leader = world.leader().unwrap_or_else(|| name(1));
        let wish = world.wish();
        let request = world.propose(&leader, wish)?;
        while !world.answers.contains_key(&request) {
            world.run_until(world.now + HEARTBEAT)?;
            if world.now > agreed_by {
                return Err(format!("{leader} does not answer\n{}", world.sight()));
            }
        }
        if world.answers[&request].is_ok() {
            return world.was_quiet();
        }
        world.run_until(world.now + HEARTBEAT)?;
    }
}

impl World {
    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrive { from, to, message } => {
                if self.cut.contains(&(from.0.clone(), to.0.clone())) {
                    return Ok(());
                }
                let heard = self.machine(&to.0).heard.entry(from.0.clone()).or_default();
                if *heard > from.1 {
                    return Ok(());
                }
                *heard = from.1;
                self.turn(&to, |raft, cx| raft.on_message(cx, &from.0, &message, &Vec::new))
            }
            Event::Heartbeat { of } => {
                if self.is_alive(&of) {
                    for to in self.names().into_iter().filter(|it| *it != of.0) {
                        self.send(&of, &to);
                    }
                    self.at(HEARTBEAT, Event::Heartbeat { of });
                }
                Ok(())
            }
            Event::Tick { of } => {
                let now = self.now;
                match self.machine(&of.0).tick_at.take_if(|it| *it == now) {
                    Some(_) => self.turn(&of, |raft, cx| raft.tick(cx, &Vec::new)),
                    None => Ok(()),
                }
            }
            Event::Stored { of, number, failure } => {
                if !self.is_alive(&of) {
                    return Ok(());
                }
                let machine = self.machine(&of.0);
                let (_, record) = machine.writing.take().expect("a write under way");
                if !failure {
                    machine.disk = Some(record);
                }
                let failure = failure.then(|| "no space left".to_owned());
                self.turn(&of, |raft, cx| raft.on_stored(cx, number, failure))
            }
            Event::Stop { of, orderly } => {
                if self.is_alive(&of) && !self.calm {
                    self.stop(&of.0, orderly);
                }
                Ok(())
            }
            Event::Start { name } => self.start(&name),
            Event::Cut => {
                if !self.calm {
                    self.cut_some();
                }
                Ok(())
            }
            Event::Heal => {
                self.cut.clear();
                if !self.calm {
                    let wait = self.up_to(300_000);
                    self.at(wait, Event::Cut);
                }
                Ok(())
            }
            Event::Ask => self.ask_leaders(),
        }
    }

    fn stop(&mut self, name: &NodeName, orderly: bool) {
        let written = self.rng.below(2) == 0;
        let machine = self.machine(name);
        let voted = machine.raft.take().expect("it is alive").retire();
        machine.farewell = orderly.then_some(Farewell { voted, ..Farewell::default() });
        if let Some((_, record)) = machine.writing.take().filter(|_| written) {
            machine.disk = Some(record);
        }
        let whole = |it: &Machine| it.disk.as_ref().is_some_and(|it| it.entry.is_some());
        let all = self.machines.values().all(whole);
        if self.setup == Setup::Forgetful && all && self.rng.below(2) == 0 {
            let machine = self.machine(name);
            (machine.disk, machine.farewell) = (None, None);
        }
        let wait = self.up_to(400_000);
        self.at(wait, Event::Start { name: name.clone() });
    }

    fn cut_some(&mut self) {
        let names = self.names();
        for _ in 0..self.rng.below(5) {
            let (from, to) = (self.any(&names), self.any(&names));
            if self.rng.below(2) == 0 {
                self.cut.insert((to.clone(), from.clone()));
            }
            self.cut.insert((from, to));
        }
        if self.rng.below(3) == 0 {
            let alone = self.any(&names);
            self.cut.extend(names.iter().map(|it| (it.clone(), alone.clone())));
            self.cut.extend(names.iter().map(|it| (alone.clone(), it.clone())));
        }
        let wait = self.up_to(400_000);
        self.at(wait, Event::Heal);
    }

    fn ask_leaders(&mut self) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        let wait = self.up_to(60_000);
        self.at(wait, Event::Ask);
        let leads = |it: &Machine| it.raft.as_ref().is_some_and(Raft::leads);
        let mut leaders = self.names();
        leaders.retain(|it| leads(&self.machines[it]));
        for leader in leaders {
            if self.rng.below(12) == 0 {
                let of = (leader.clone(), self.machine(&leader).life);
                self.turn(&of, |raft, cx| {
                    raft.transfer(cx);
                })?;
            }
            let call = self.call();
            self.propose(&leader, call)?;
        }
        Ok(())
    }

    fn call(&mut self) -> ClusterCall {
        let name = name(2 + self.rng.below(4) as u8);
        match self.rng.below(10) {
            _ if self.setup != Setup::Churn => self.wish(),
            0 | 1 => ClusterCall::Add { address: address(&name), name, witness: false },
            2 => ClusterCall::Add { address: address(&name), name, witness: true },
            3..=5 => ClusterCall::Promote(name),
            6 => ClusterCall::Remove(name),
            _ => self.wish(),
        }
    }

    fn any(&mut self, names: &[NodeName]) -> NodeName {
        names[self.rng.below(names.len() as u64) as usize].clone()
    }

    fn names(&self) -> Vec<NodeName> {
        self.machines.keys().cloned().collect()
    }
}
