//! Several members joined by a network that loses, delays, doubles and reorders, on machines
//! that stop at any time and keep only what was stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{address, listed, name, quorum_config, vip};
use crate::engine::elector::quorum::raft::Raft;
use crate::engine::{Action, Cx, NextIds, Rng};
use crate::model::{
    ClusterCall, Entry, EntryId, Farewell, Instant, Message, NodeName, Report, RequestId,
    StoreRecord, Vip,
};

const HEARTBEAT: Duration = Duration::from_millis(30);
const STORM: Duration = Duration::from_millis(2_500);
/// A write that fails is tried again after a second: the last of the storm does not.
const DISKS_FAIL_FOR: Duration = Duration::from_millis(1_500);
const ELECTED_WITHIN: Duration = Duration::from_secs(1);
const AGREED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Setup {
    Three,
    Five,
    /// Three, and two that join, are promoted, removed and so on.
    Churn,
}

#[test]
fn no_storm_breaks_a_promise_and_calm_brings_a_leader() {
    let mut broken = Vec::new();
    let seeds = option_env!("STORM_SEEDS").and_then(|it| it.parse().ok()).unwrap_or(300);
    for seed in 0..seeds {
        let setup = [Setup::Three, Setup::Five, Setup::Churn][seed as usize % 3];
        if let Err(why) = weather(setup, seed) {
            broken.push(format!("seed {seed}, {setup:?}: {why}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
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
    let setups = [Setup::Three, Setup::Five, Setup::Churn];
    for defect in defects {
        sabotage(Some(defect));
        let found = (0..5_000).find(|it| weather(setups[*it as usize % 3], *it).is_err());
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
            if world.sent[0] > 3500 {
                println!("{seed} {setup:?} sent {:?} events {}", world.sent, world.last_event);
            }
            return Ok(());
        }
        world.run_until(world.now + HEARTBEAT)?;
    }
}

struct World {
    now: Instant,
    disks_fail_until: Instant,
    rng: Rng,
    setup: Setup,
    calm: bool,
    loss: u64,
    machines: BTreeMap<NodeName, Machine>,
    events: BTreeMap<(Instant, u64), Event>,
    last_event: u64,
    sent: [u64; 8],
    cut: BTreeSet<(NodeName, NodeName)>,
    requests: u32,
    wishes: BTreeMap<RequestId, Vip>,
    answers: BTreeMap<RequestId, Result<String, String>>,
    leaders: BTreeMap<u64, (NodeName, u64)>,
    committed: BTreeMap<EntryId, Entry>,
    /// What was agreed to, and the newest entry that was committed then.
    agreed: Vec<(Vip, EntryId)>,
}

#[derive(Default)]
struct Machine {
    raft: Option<Raft>,
    life: u64,
    disk: Option<StoreRecord>,
    writing: Option<(u64, StoreRecord)>,
    farewell: Option<Farewell>,
    /// The lives of the others that it has heard.
    heard: BTreeMap<NodeName, u64>,
    committed: EntryId,
    tick_at: Option<Instant>,
    next: NextIds,
}

enum Event {
    Arrive { from: (NodeName, u64), to: (NodeName, u64), message: Box<Message> },
    Heartbeat { of: (NodeName, u64) },
    Tick { of: (NodeName, u64) },
    Stored { of: (NodeName, u64), number: u64, failure: bool },
    Stop { of: (NodeName, u64), orderly: bool },
    Start { name: NodeName },
    Cut,
    Heal,
    Ask,
}

impl World {
    fn new(setup: Setup, seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let loss = rng.below(30);
        let names: Vec<NodeName> = match setup {
            Setup::Three => (1..=3).map(name).collect(),
            Setup::Five | Setup::Churn => (1..=5).map(name).collect(),
        };
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut world = Self {
            now,
            disks_fail_until: now + DISKS_FAIL_FOR,
            rng,
            setup,
            calm: false,
            loss,
            machines: names.iter().map(|it| (it.clone(), Machine::default())).collect(),
            events: BTreeMap::new(),
            last_event: 0,
            sent: [0; 8],
            cut: BTreeSet::new(),
            requests: 0,
            wishes: BTreeMap::new(),
            answers: BTreeMap::new(),
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            agreed: Vec::new(),
        };
        for name in names {
            let wait = world.up_to(20_000);
            world.at(wait, Event::Start { name });
        }
        world.at(Duration::from_millis(300), Event::Cut);
        world.at(Duration::from_millis(300), Event::Ask);
        world
    }

    fn run_until(&mut self, end: Instant) -> Result<(), String> {
        while let Some(first) = self.events.first_entry().filter(|it| it.key().0 <= end) {
            let ((at, _), event) = first.remove_entry();
            self.now = self.now.max(at);
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrive { from, to, message } => {
                if self.cut.contains(&(from.0.clone(), to.0.clone())) {
                    return Ok(());
                }
                let heard = self.machine(&to.0).heard.entry(from.0.clone()).or_default();
                if *heard <= from.1 {
                    *heard = from.1;
                    return self.turn(&to, |raft, cx| raft.on_message(cx, &from.0, &message, &[]));
                }
                Ok(())
            }
            Event::Heartbeat { of } => {
                if self.is_alive(&of) {
                    let others: Vec<NodeName> = self.machines.keys().cloned().collect();
                    for to in others.into_iter().filter(|it| *it != of.0) {
                        self.send(&of, &to);
                    }
                    self.at(HEARTBEAT, Event::Heartbeat { of });
                }
                Ok(())
            }
            Event::Tick { of } => {
                let now = self.now;
                let due = self.machine(&of.0).tick_at.take_if(|it| *it == now);
                if due.is_none() {
                    return Ok(());
                }
                self.turn(&of, |raft, cx| raft.tick(cx, &[]))
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
                    let done = self.rng.below(2) == 0;
                    let machine = self.machine(&of.0);
                    let mut raft = machine.raft.take().expect("it is alive");
                    let voted = raft.retire();
                    machine.farewell = orderly.then_some(Farewell { voted, ..Farewell::default() });
                    if let Some((_, record)) = machine.writing.take().filter(|_| done) {
                        machine.disk = Some(record);
                    }
                    let wait = self.up_to(400_000);
                    self.at(wait, Event::Start { name: of.0 });
                }
                Ok(())
            }
            Event::Start { name } => self.start(&name),
            Event::Cut => {
                let names: Vec<NodeName> = self.machines.keys().cloned().collect();
                for _ in 0..self.rng.below(5) {
                    let from = &names[self.rng.below(names.len() as u64) as usize];
                    let to = &names[self.rng.below(names.len() as u64) as usize];
                    self.cut.insert((from.clone(), to.clone()));
                    if self.rng.below(2) == 0 {
                        self.cut.insert((to.clone(), from.clone()));
                    }
                }
                if self.rng.below(3) == 0 {
                    let alone = names[self.rng.below(names.len() as u64) as usize].clone();
                    self.cut.extend(names.iter().map(|it| (it.clone(), alone.clone())));
                    self.cut.extend(names.iter().map(|it| (alone.clone(), it.clone())));
                }
                let wait = self.up_to(400_000);
                self.at(wait, Event::Heal);
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
            Event::Ask => {
                let wait = self.up_to(60_000);
                self.at(wait, Event::Ask);
                let leading = self
                    .machines
                    .iter()
                    .filter(|(_, it)| it.raft.as_ref().is_some_and(Raft::leads));
                let mut leading: Vec<NodeName> = leading.map(|(name, _)| name.clone()).collect();
                leading.retain(|_| !self.calm);
                for leader in &leading {
                    if self.rng.below(12) == 0 {
                        let of = (leader.clone(), self.machine(leader).life);
                        self.turn(&of, |raft, cx| {
                            raft.transfer(cx);
                        })?;
                    }
                    let call = self.call();
                    self.propose(leader, call)?;
                }
                Ok(())
            }
        }
    }

    fn start(&mut self, name: &NodeName) -> Result<(), String> {
        let now = self.now;
        let members = match self.setup {
            Setup::Three | Setup::Churn => listed(3),
            Setup::Five => listed(5),
        };
        let mut rng = Rng::from_seed(self.rng.next_u64());
        let machine = self.machine(name);
        if machine.raft.is_some() {
            return Ok(());
        }
        let mut config = quorum_config(members, machine.disk.clone());
        config.farewell = machine.farewell.take();
        machine.raft = Some(Raft::new(name.clone(), &config, now, &mut rng));
        machine.life += 1;
        machine.heard.clear();
        machine.committed = EntryId::default();
        machine.tick_at = None;
        let of = (name.clone(), machine.life);
        let wait = self.up_to(30_000);
        self.at(wait, Event::Heartbeat { of: of.clone() });
        let lives_for = Duration::from_millis(100) + self.up_to(3_000_000);
        let orderly = self.rng.below(3) == 0;
        self.at(lives_for, Event::Stop { of: of.clone(), orderly });
        self.turn(&of, |raft, cx| raft.tick(cx, &[]))
    }

    /// One call of a member's raft, and what comes of it.
    fn turn(
        &mut self,
        of: &(NodeName, u64),
        call: impl FnOnce(&mut Raft, &mut Cx<'_>),
    ) -> Result<(), String> {
        if !self.is_alive(of) {
            return Ok(());
        }
        let mut out = Vec::new();
        let machine = self.machines.get_mut(&of.0).expect("a machine");
        let raft = machine.raft.as_mut().expect("it is alive");
        let now = self.now;
        call(raft, &mut Cx { now, rng: &mut self.rng, out: &mut out, next: &mut machine.next });
        let deadline = raft.deadline().map(|it| it.at);
        let urgent = raft.wants_send();
        for action in out {
            match action {
                Action::Store { number, record } => {
                    assert!(machine.writing.is_none(), "two writes at a time");
                    machine.writing = Some((number, *record));
                    let took = Duration::from_micros(200 + self.rng.below(8_000));
                    let failure = now < self.disks_fail_until && self.rng.below(40) == 0;
                    let of = of.clone();
                    let event = Event::Stored { of, number, failure };
                    self.last_event += 1;
                    self.events.insert((now + took, self.last_event), event);
                }
                Action::Answer { request, outcome } => {
                    if let (Ok(_), Some(vip)) = (&outcome, self.wishes.get(&request)) {
                        self.agreed.push((*vip, machine.raft.as_ref().unwrap().committed()));
                    }
                    let answered = self.answers.insert(request, outcome);
                    assert_eq!(answered, None, "{request:?} is answered twice");
                }
                other => panic!("{other:?}"),
            }
        }
        self.check(of)?;
        if let Some(at) = deadline {
            if at <= now {
                return Err(format!("{} is late at once: {:?}", of.0, self.deadline(&of.0)));
            }
            let machine = self.machine(&of.0);
            if machine.tick_at.replace(at) != Some(at) {
                self.at(at.saturating_since(now), Event::Tick { of: of.clone() });
            }
        }
        for to in urgent {
            self.send(of, &to);
        }
        Ok(())
    }

    fn check(&mut self, of: &(NodeName, u64)) -> Result<(), String> {
        let machine = self.machines.get_mut(&of.0).expect("a machine");
        let raft = machine.raft.as_ref().expect("it is alive");
        if raft.leads() {
            let leader = self.leaders.entry(raft.term()).or_insert_with(|| of.clone());
            if leader != of {
                return Err(format!("term {}: {leader:?} and {of:?} lead", raft.term()));
            }
        }
        if raft.committed() < machine.committed {
            return Err(format!("{}: {:?} is forgotten", of.0, machine.committed));
        }
        machine.committed = raft.committed();
        let Some(entry) = raft.entry().filter(|_| raft.is_committed()) else {
            return Ok(());
        };
        if let Some(known) = self.committed.get(&entry.id) {
            let same = known == entry;
            return if same { Ok(()) } else { Err(format!("two of {:?}", entry.id)) };
        }
        let before = self.committed.range(..entry.id).next_back().map(|(_, it)| it);
        let after = self.committed.range(entry.id..).next().map(|(_, it)| it);
        let chain: Vec<&Entry> = [before, Some(entry), after].into_iter().flatten().collect();
        for pair in chain.windows(2) {
            let kept = |vip: &Vip| pair[1].wishes.placed.contains_key(vip);
            if pair[0].cluster != pair[1].cluster
                || pair[0].id.index >= pair[1].id.index
                || !pair[0].wishes.placed.keys().all(kept)
            {
                return Err(format!("{:?} does not follow {:?}", pair[1].id, pair[0].id));
            }
        }
        for (vip, at) in self.agreed.iter().filter(|(_, at)| *at <= entry.id) {
            if !entry.wishes.placed.contains_key(vip) {
                return Err(format!("{vip}, agreed at {at:?}, is lost at {:?}", entry.id));
            }
        }
        self.committed.insert(entry.id, entry.clone());
        Ok(())
    }

    fn send(&mut self, of: &(NodeName, u64), to: &NodeName) {
        let machine = self.machines.get_mut(&of.0).expect("a machine");
        let raft = machine.raft.as_mut().expect("it is alive");
        let message = Box::new(Message {
            term: raft.term(),
            leader: raft.leader().cloned(),
            cluster: raft.cluster(),
            newest: raft.newest(),
            committed: raft.committed(),
            floor: raft.floor(),
            stamp: 0,
            echo: None,
            raft: raft.calls(to),
            assignment: None,
            hold: None,
            answers: Vec::new(),
            released: Vec::new(),
            report: Report::default(),
        });
        for call in &message.raft {
            let kind = match call {
                crate::model::RaftCall::Append(_) => 1,
                crate::model::RaftCall::AskVote { .. } => 2,
                crate::model::RaftCall::Vote { .. } => 3,
                crate::model::RaftCall::StandNow
                | crate::model::RaftCall::Forward { .. }
                | crate::model::RaftCall::Forwarded { .. } => 4,
            };
            self.sent[kind] += 1;
        }
        self.sent[0] += 1;
        self.sent[5] += message.raft.is_empty() as u64;
        let to = (to.clone(), self.machine(to).life);
        for _ in 0..=u64::from(!self.calm && self.rng.below(10) == 0) {
            if !self.calm && self.rng.below(100) < self.loss {
                continue;
            }
            let slow = !self.calm && self.rng.below(20) == 0;
            let wait = self.up_to(if slow { 300_000 } else { 2_000 });
            let (from, to, message) = (of.clone(), to.clone(), message.clone());
            self.at(wait, Event::Arrive { from, to, message });
        }
    }

    fn calm(&mut self) {
        self.calm = true;
        self.cut.clear();
        let names: Vec<NodeName> = self.machines.keys().cloned().collect();
        for name in names {
            self.at(Duration::ZERO, Event::Start { name });
        }
    }

    fn propose(&mut self, leader: &NodeName, call: ClusterCall) -> Result<RequestId, String> {
        self.requests += 1;
        let request = RequestId(self.requests);
        if let ClusterCall::Move(vip, _) = &call {
            self.wishes.insert(request, *vip);
        }
        let of = (leader.clone(), self.machine(leader).life);
        self.turn(&of, |raft, cx| raft.propose(cx, request, call))?;
        Ok(request)
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

    fn wish(&self) -> ClusterCall {
        ClusterCall::Move(vip(self.requests), name(1))
    }

    fn leader(&self) -> Option<NodeName> {
        let rafts = self.machines.values().filter_map(|it| it.raft.as_ref());
        let leading = rafts.filter(|it| it.leads()).max_by_key(|it| it.term());
        leading.and_then(|it| it.leader().cloned())
    }

    /// What a person would want to see.
    fn sight(&self) -> String {
        let mut text = String::new();
        for (name, machine) in &self.machines {
            let Some(raft) = &machine.raft else {
                continue;
            };
            let entry = raft.entry().map(|it| (it.id, it.voters(), &it.before));
            let (role, term, floor) = (&raft.role, raft.term(), raft.floor());
            let (committed, reserved) = (raft.committed(), raft.ledger.reserved());
            let line = format!(
                "{name} at {:?}: term {term} floor {floor} reserved {reserved} {role:?} {entry:?} \
                 {committed:?} {:?} {:?}\n",
                self.now,
                raft.deadline(),
                raft.strangers,
            );
            text.push_str(&line);
        }
        text
    }

    fn deadline(&self, name: &NodeName) -> Option<crate::engine::Deadline> {
        self.machines[name].raft.as_ref().and_then(Raft::deadline)
    }

    fn is_alive(&self, of: &(NodeName, u64)) -> bool {
        self.machines.get(&of.0).is_some_and(|it| it.raft.is_some() && it.life == of.1)
    }

    fn machine(&mut self, name: &NodeName) -> &mut Machine {
        self.machines.get_mut(name).expect("a machine")
    }

    fn up_to(&mut self, micros: u64) -> Duration {
        Duration::from_micros(1 + self.rng.below(micros))
    }

    fn at(&mut self, wait: Duration, event: Event) {
        self.last_event += 1;
        self.events.insert((self.now + wait, self.last_event), event);
    }
}
