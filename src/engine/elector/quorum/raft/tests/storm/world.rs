//! The machines, the network between them, and what must be true of them at all times.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{T0, listed, message, name, quorum_config, vip};
use super::{DISKS_FAIL_FOR, MOST_SENT, Setup};
use crate::engine::elector::quorum::raft::Raft;
use crate::engine::{Action, Cx, NextIds, Rng};
use crate::model::{
    ClusterCall, Entry, EntryId, Farewell, Instant, Message, NodeName, RequestId, StoreRecord, Vip,
};

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) disks_fail_until: Instant,
    pub(super) rng: Rng,
    pub(super) setup: Setup,
    pub(super) calm: bool,
    pub(super) loss: u64,
    pub(super) machines: BTreeMap<NodeName, Machine>,
    pub(super) events: BTreeMap<(Instant, u64), Event>,
    pub(super) last_event: u64,
    pub(super) sent: u64,
    pub(super) cut: BTreeSet<(NodeName, NodeName)>,
    pub(super) requests: u32,
    pub(super) wishes: BTreeMap<RequestId, Vip>,
    pub(super) answers: BTreeMap<RequestId, Result<String, String>>,
    pub(super) leaders: BTreeMap<u64, (NodeName, u64)>,
    pub(super) committed: BTreeMap<EntryId, Entry>,
    /// What was agreed to, and the newest entry that was committed then.
    pub(super) agreed: Vec<(Vip, EntryId)>,
}

#[derive(Default)]
pub(super) struct Machine {
    pub(super) raft: Option<Raft>,
    pub(super) life: u64,
    pub(super) disk: Option<StoreRecord>,
    pub(super) writing: Option<(u64, StoreRecord)>,
    pub(super) farewell: Option<Farewell>,
    /// The lives of the others that it has heard.
    pub(super) heard: BTreeMap<NodeName, u64>,
    pub(super) committed: EntryId,
    pub(super) tick_at: Option<Instant>,
    pub(super) next: NextIds,
}

pub(super) enum Event {
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
    pub(super) fn new(setup: Setup, seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let loss = rng.below(30);
        let names: Vec<NodeName> = match setup {
            Setup::Three => (1..=3).map(name).collect(),
            Setup::Five | Setup::Forgetful | Setup::Churn => (1..=5).map(name).collect(),
        };
        let now = T0;
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
            sent: 0,
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

    pub(super) fn run_until(&mut self, end: Instant) -> Result<(), String> {
        while let Some(first) = self.events.first_entry().filter(|it| it.key().0 <= end) {
            let ((at, _), event) = first.remove_entry();
            self.now = self.now.max(at);
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    pub(super) fn start(&mut self, name: &NodeName) -> Result<(), String> {
        let now = self.now;
        let members = match self.setup {
            Setup::Three | Setup::Churn => listed(3),
            Setup::Five | Setup::Forgetful => listed(5),
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
        self.turn(&of, |raft, cx| raft.tick(cx, &Vec::new))
    }

    /// One call of a member's raft, and what comes of it.
    pub(super) fn turn(
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

    pub(super) fn check(&mut self, of: &(NodeName, u64)) -> Result<(), String> {
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

    pub(super) fn send(&mut self, of: &(NodeName, u64), to: &NodeName) {
        let machine = self.machines.get_mut(&of.0).expect("a machine");
        let raft = machine.raft.as_mut().expect("it is alive");
        let said = Box::new(Message {
            term: raft.term(),
            leader: raft.leader().cloned(),
            cluster: raft.cluster(),
            newest: raft.newest(),
            committed: raft.committed(),
            floor: raft.floor(),
            raft: raft.calls(to),
            ..message()
        });
        self.sent += 1;
        let to = (to.clone(), self.machine(to).life);
        for _ in 0..=u64::from(!self.calm && self.rng.below(10) == 0) {
            if !self.calm && self.rng.below(100) < self.loss {
                continue;
            }
            let slow = !self.calm && self.rng.below(20) == 0;
            // Who has lost its store believes a leader, unless that is an old one's last word.
            let late = if self.setup == Setup::Forgetful { 100_000 } else { 300_000 };
            let wait = self.up_to(if slow { late } else { 2_000 });
            let (from, to, message) = (of.clone(), to.clone(), said.clone());
            self.at(wait, Event::Arrive { from, to, message });
        }
    }

    pub(super) fn calm(&mut self) {
        self.calm = true;
        self.cut.clear();
        let names: Vec<NodeName> = self.machines.keys().cloned().collect();
        for name in names {
            self.at(Duration::ZERO, Event::Start { name });
        }
    }

    pub(super) fn propose(
        &mut self,
        leader: &NodeName,
        call: ClusterCall,
    ) -> Result<RequestId, String> {
        self.requests += 1;
        let request = RequestId(self.requests);
        if let ClusterCall::Move(vip, _) = &call {
            self.wishes.insert(request, *vip);
        }
        let of = (leader.clone(), self.machine(leader).life);
        self.turn(&of, |raft, cx| raft.propose(cx, request, call))?;
        Ok(request)
    }

    pub(super) fn wish(&self) -> ClusterCall {
        ClusterCall::Move(vip(self.requests), name(1))
    }

    pub(super) fn leader(&self) -> Option<NodeName> {
        let rafts = self.machines.values().filter_map(|it| it.raft.as_ref());
        let leading = rafts.filter(|it| it.leads()).max_by_key(|it| it.term());
        leading.and_then(|it| it.leader().cloned())
    }

    /// Two that answer each other at once for ever would show.
    pub(super) fn was_quiet(&self) -> Result<(), String> {
        match self.sent {
            0..=MOST_SENT => Ok(()),
            _ => Err(format!("{} messages", self.sent)),
        }
    }

    /// What a person would want to see.
    pub(super) fn sight(&self) -> String {
        let mut text = String::new();
        for (name, machine) in &self.machines {
            let Some(raft) = &machine.raft else {
                continue;
            };
            let entry = raft.entry().map(|it| (it.id, it.voters().collect::<Vec<_>>(), &it.before));
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

    pub(super) fn deadline(&self, name: &NodeName) -> Option<crate::engine::Deadline> {
        self.machines[name].raft.as_ref().and_then(Raft::deadline)
    }

    pub(super) fn is_alive(&self, of: &(NodeName, u64)) -> bool {
        self.machines.get(&of.0).is_some_and(|it| it.raft.is_some() && it.life == of.1)
    }

    pub(super) fn machine(&mut self, name: &NodeName) -> &mut Machine {
        self.machines.get_mut(name).expect("a machine")
    }

    pub(super) fn up_to(&mut self, micros: u64) -> Duration {
        Duration::from_micros(1 + self.rng.below(micros))
    }

    pub(super) fn at(&mut self, wait: Duration, event: Event) {
        self.last_event += 1;
        self.events.insert((self.now + wait, self.last_event), event);
    }
}
