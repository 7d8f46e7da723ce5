use std::net::Ipv4Addr;

use super::super::*;
use crate::model::{Ailment, EntryId, Member, MemberRole, Members, Wishes};

pub const HEARTBEAT: Duration = Duration::from_millis(30);

/// A placer, and members who do as they are told.
pub struct Bench {
    pub placer: Placer,
    pub now: Instant,
    pub wanted: BTreeSet<Vip>,
    pub entry: Entry,
    pub me: NodeName,
    pub members: BTreeMap<NodeName, Candidate>,
    pub dead: BTreeSet<NodeName>,
    pub deaf: BTreeSet<NodeName>,
    pub late: Duration,
    pub handing_over: bool,
    /// All decisions must have an epoch of their own.
    epochs: BTreeMap<(Vip, Epoch), Option<NodeName>>,
}

pub fn name(name: &str) -> NodeName {
    NodeName(name.into())
}

pub fn vip(number: usize) -> Vip {
    Vip(Ipv4Addr::from(0x0a00_0000 + number as u32).into())
}

impl Bench {
    /// Of n1, which leads, to the last one.
    pub fn new(members: usize, vips: usize, fail_back: FailBack) -> Self {
        let timing = QuorumTiming {
            heartbeat: HEARTBEAT,
            promise: HEARTBEAT * 4,
            step: Duration::from_millis(12),
            spread: Duration::from_millis(6),
        };
        let names: Vec<_> = (1..=members).map(|it| name(&format!("n{it}"))).collect();
        let address = "192.0.2.1:4000".parse().unwrap();
        let listed: Members = names
            .iter()
            .map(|it| (it.clone(), Member { address, role: MemberRole::Voter }))
            .collect();
        let entry = Entry {
            id: EntryId::default(),
            cluster: 1,
            members: listed,
            before: None,
            longest: timing.promise,
            wishes: Wishes::default(),
        };
        let now = Instant::from_nanos(1_000_000_000_000);
        let candidate = Candidate {
            heard_at: now,
            live_since: now - Duration::from_secs(900),
            report: Report::default(),
            released: BTreeMap::new(),
            holds: BTreeMap::new(),
        };
        let mut placer = Placer::new(timing, fail_back);
        placer.begin(now, 7, &[], &[]);
        Self {
            placer,
            now,
            wanted: (0..vips).map(vip).collect(),
            entry,
            me: name("n1"),
            members: names.into_iter().map(|it| (it, candidate.clone())).collect(),
            dead: BTreeSet::new(),
            deaf: BTreeSet::new(),
            late: Duration::ZERO,
            handing_over: false,
            epochs: BTreeMap::new(),
        }
    }

    /// Four members and a VIP that one holds, of which n3 is the place by its hash, and n4 is
    /// if n3 is not there.
    pub fn held_by(holder: &str, fail_back: FailBack) -> Self {
        let mut bench = Self::new(4, 0, fail_back);
        let cost = |vip, it: &str| hash::cost(vip, &name(it), hash::EVEN);
        let suits = |it: &Vip| {
            let [two, three, four] = ["n2", "n3", "n4"].map(|name| cost(*it, name));
            three < four && four < two
        };
        let vip = (0..).map(vip).find(suits).unwrap();
        bench.wanted.insert(vip);
        let held = (name(holder), vip, Epoch { term: 6, count: 3 });
        bench.placer.begin(bench.now, 8, &[], &[held]);
        bench.round();
        bench
    }

    pub fn play(&mut self, script: &str) {
        for line in script.split(", ") {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let names: Vec<_> = rest.split(' ').map(name).collect();
            match verb.parse::<u64>() {
                Ok(millis) => self.run(Duration::from_millis(millis)),
                Err(_) => names.iter().for_each(|it| self.act(verb, it)),
            }
        }
    }

    fn act(&mut self, verb: &str, name: &NodeName) {
        let wishes = &mut self.entry.wishes;
        let vip = *self.wanted.first().unwrap();
        let report = self.members.get_mut(name).map(|it| &mut it.report);
        match (verb, report) {
            ("dead", _) => assert!(self.dead.insert(name.clone())),
            ("back", _) => {
                self.dead.remove(name);
                self.members.get_mut(name).unwrap().live_since = self.now;
            }
            ("deaf", _) => assert!(self.deaf.insert(name.clone())),
            ("hear", _) => assert!(self.deaf.remove(name)),
            ("drain", _) => assert!(wishes.drained.insert(name.clone())),
            ("undrain", _) => assert!(wishes.drained.remove(name)),
            ("wish", _) => drop(wishes.placed.insert(vip, name.clone())),
            ("unwish", _) => wishes.placed.clear(),
            ("leave", Some(report)) => report.leaving = true,
            ("unable", Some(report)) => report.unable.push(vip),
            ("able", Some(report)) => report.unable.clear(),
            ("sick" | "ill", Some(report)) => {
                report.ailments = vec![Ailment::Health];
                report.penalty = if verb == "sick" { 10 } else { 5 };
            }
            ("well", Some(report)) => (report.ailments, report.penalty) = (vec![], 0),
            ("release", _) => {
                let epoch = self.assigned(vip).epoch;
                let member = self.members.get_mut(name).unwrap();
                member.holds.clear();
                member.released.insert(vip, epoch);
            }
            ("hand", _) => self.handing_over = true,
            ("keep", _) => self.handing_over = false,
            ("late", _) => self.late = Duration::from_millis(200),
            ("remove", _) => drop(self.entry.members.remove(name)),
            ("witness", _) => {
                self.entry.members.get_mut(name).unwrap().role = MemberRole::Witness;
            }
            _ => panic!("{verb} {name}"),
        }
    }

    /// Whether it can be done, and was not done already.
    pub fn makes_sense(&self, verb: &str, member: &str) -> bool {
        let member = name(member);
        match verb {
            "dead" => !self.dead.contains(&member),
            "back" => self.dead.contains(&member),
            "drain" => !self.entry.wishes.drained.contains(&member),
            "undrain" => self.entry.wishes.drained.contains(&member),
            "deaf" => !self.deaf.contains(&member),
            "hear" => self.deaf.contains(&member),
            _ => true,
        }
    }

    /// Until then, a heartbeat at a time, or several in the midst of a long time; the last
    /// is not obeyed yet.
    pub fn run(&mut self, length: Duration) {
        let (from, until) = (self.now, self.now + length);
        let some = Duration::from_secs(2);
        while self.now + HEARTBEAT <= until {
            self.round();
            self.obey();
            let midst = self.now > from + some && self.now + some < until;
            self.now = self.now + if midst { HEARTBEAT * 10 } else { HEARTBEAT };
        }
        self.now = until;
        self.round();
    }

    pub fn round(&mut self) {
        let lives = self.members.iter_mut().filter(|(name, _)| !self.dead.contains(name));
        lives.for_each(|(_, it)| it.heard_at = self.now);
        let before: Vec<_> = self.placer.assignment().cloned().collect();
        self.decide();
        let after: Vec<_> = self.placer.assignment().cloned().collect();
        self.decide();
        assert!(self.placer.assignment().eq(&after), "a second look changes nothing");
        assert!(self.placer.deadline().is_none_or(|it| it > self.now), "no idle loop");
        for it in &after {
            let holder = self.epochs.entry((it.vip, it.epoch)).or_insert(it.holder.clone());
            assert_eq!(*holder, it.holder, "{} has two holders", it.epoch);
        }
        for old in &before {
            let new = after.iter().find(|it| it.vip == old.vip);
            assert!(new.is_none_or(|it| it.epoch >= old.epoch));
        }
    }

    pub fn decide(&mut self) {
        let view = PlacerView {
            wanted: &self.wanted,
            entry: &self.entry,
            me: &self.me,
            members: &self.members,
            late: self.late,
            handing_over: self.handing_over,
        };
        self.placer.decide(self.now, &view);
    }

    fn obey(&mut self) {
        let lives = self.members.iter_mut().filter(|(name, _)| !self.dead.contains(name));
        for (name, member) in lives {
            member.holds.clear();
            member.report.ready.clear();
            for it in self.placer.assignment() {
                if it.holder.as_ref() == Some(name) && !member.report.unable.contains(&it.vip) {
                    member.holds.insert(it.vip, it.epoch);
                }
                if it.next.as_ref() == Some(name) && !self.deaf.contains(name) {
                    member.report.ready.push((it.vip, it.epoch));
                }
            }
        }
    }

    pub fn assigned(&self, vip: Vip) -> Assigned {
        self.placer.assignment().find(|it| it.vip == vip).unwrap().clone()
    }

    /// The holder, the next one, and why, of the first VIP.
    pub fn state(&self) -> (String, String, &'static str) {
        let vip = *self.wanted.first().unwrap();
        let Assigned { holder, next, .. } = self.assigned(vip);
        let word = |it: Option<NodeName>| it.map_or_else(String::new, |it| it.to_string());
        (word(holder), word(next), self.placer.why(vip).unwrap().code())
    }

    pub fn holders(&self) -> BTreeMap<Vip, Option<NodeName>> {
        self.placer.assignment().map(|it| (it.vip, it.holder.clone())).collect()
    }

    pub fn loads(&self) -> BTreeMap<NodeName, usize> {
        let mut loads: BTreeMap<_, _> = self.members.keys().map(|it| (it.clone(), 0)).collect();
        for holder in self.placer.assignment().filter_map(|it| it.holder.as_ref()) {
            *loads.get_mut(holder).unwrap() += 1;
        }
        loads
    }
}
