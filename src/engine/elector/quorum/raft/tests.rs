mod storm;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::{FailBack, QuorumConfig, QuorumTiming};
use super::Raft;
use super::peers::Ask;
use crate::engine::{Action, Cx, NextIds, Rng};
use crate::model::{
    ClusterCall, Entry, EntryId, Instant, Life, Member, MemberRole, Members, Message, NodeName,
    RaftCall, Report, RequestId, StoreRecord, Vip, Wishes,
};

pub(super) const T0: Instant = Instant::from_nanos(1_000_000_000_000);
pub(super) const CLUSTER: u64 = 77;

type Turn<'a> = Box<dyn FnOnce(&mut Raft, &mut Cx<'_>) + 'a>;

/// One member, whose disk is quick.
pub(super) struct Bench {
    pub(super) raft: Raft,
    pub(super) now: Instant,
    rng: Rng,
    next: NextIds,
    pub(super) answers: Vec<(RequestId, Result<String, String>)>,
    /// Writes are answered at once.
    pub(super) writes: bool,
}

impl Bench {
    /// n1, with these members and this on its disk.
    pub(super) fn new(members: Members, stored: Option<StoreRecord>) -> Self {
        Self::of(&quorum_config(members, stored))
    }

    pub(super) fn of(config: &QuorumConfig) -> Self {
        let mut rng = Rng::from_seed(1);
        let raft = Raft::new(name(1), config, T0, &mut rng);
        let (next, answers) = (NextIds::default(), Vec::new());
        let mut bench = Self { raft, now: T0, rng, next, answers, writes: true };
        bench.tick();
        bench
    }

    /// A member of so many voters, with the entry of this name on disk, committed, and no
    /// earlier life.
    pub(super) fn with(count: u8, id: EntryId) -> Self {
        let entry = entry(id, listed(count));
        let record = StoreRecord { floor: 0, entry: Some(entry), committed: id };
        Self::new(listed(count), Some(record))
    }

    /// The leader of so many, in the term after the one of this entry.
    pub(super) fn leading(count: u8, id: EntryId) -> Self {
        let mut bench = Self::with(count, id);
        bench.advance(200);
        bench.elect(count);
        bench
    }

    /// All vote for it.
    pub(super) fn elect(&mut self, count: u8) {
        for number in 2..=count {
            let vote = |bench: &Self, binding| RaftCall::Vote {
                term: bench.standing_in(),
                binding,
                granted: true,
                promises: Vec::new(),
            };
            let calls = vec![vote(self, false), vote(self, true)];
            let said = Message { raft: calls, ..self.said() };
            self.hear(number, said);
        }
        assert!(self.raft.leads(), "{:?}", self.raft.role);
    }

    /// Something that a peer with the same entry says, who has not heard of a leader.
    pub(super) fn said(&self) -> Message {
        Message {
            newest: self.raft.newest(),
            term: self.raft.entry().map_or(0, |it| it.id.term),
            ..message()
        }
    }

    /// All say that they have what this member has, in its term.
    pub(super) fn acknowledge(&mut self, count: u8) {
        for number in 2..=count {
            let said = Message { term: self.raft.term(), ..self.said() };
            self.hear(number, said);
        }
    }

    pub(super) fn hear(&mut self, from: u8, message: Message) {
        self.turn(|raft, cx| raft.on_message(cx, &name(from), &message, &Vec::new));
    }

    pub(super) fn tick(&mut self) {
        self.turn(|raft, cx| raft.tick(cx, &Vec::new));
    }

    pub(super) fn advance(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.tick();
    }

    pub(super) fn turn(&mut self, call: impl FnOnce(&mut Raft, &mut Cx<'_>)) {
        self.any_turn(Box::new(call));
    }

    fn any_turn(&mut self, call: Turn<'_>) {
        let mut out = Vec::new();
        let (now, rng, next) = (self.now, &mut self.rng, &mut self.next);
        call(&mut self.raft, &mut Cx { now, rng, out: &mut out, next });
        for action in out {
            match action {
                Action::Answer { request, outcome } => self.answers.push((request, outcome)),
                Action::Store { number, .. } if self.writes => {
                    self.turn(|raft, cx| raft.on_stored(cx, number, None));
                }
                Action::Store { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn standing_in(&self) -> u64 {
        match &self.raft.role {
            super::Role::Candidate { term, .. } => *term,
            super::Role::Follower { .. } | super::Role::Leader { .. } => self.raft.term(),
        }
    }
}

pub(super) fn name(number: u8) -> NodeName {
    NodeName(format!("n{number}").into())
}

pub(super) fn address(name: &NodeName) -> SocketAddr {
    let number = name.0.trim_start_matches('n').parse().unwrap();
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, number), 7000))
}

pub(super) fn vip(number: u32) -> Vip {
    Vip(IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + number)))
}

pub(super) fn id(term: u64, index: u64) -> EntryId {
    EntryId { term, index }
}

/// So many voters.
pub(super) fn listed(count: u8) -> Members {
    (1..=count).map(name).map(|it| (it.clone(), member(&it, MemberRole::Voter))).collect()
}

pub(super) fn member(name: &NodeName, role: MemberRole) -> Member {
    Member { address: address(name), role }
}

pub(super) fn entry(id: EntryId, members: Members) -> Entry {
    let longest = Duration::from_millis(120);
    Entry { id, cluster: CLUSTER, members, before: None, longest, wishes: Wishes::default() }
}

/// What a member of the cluster says that has nothing to say.
pub(super) fn message() -> Message {
    Message {
        term: 0,
        leader: None,
        cluster: Some(CLUSTER),
        newest: EntryId::default(),
        committed: EntryId::default(),
        floor: 0,
        stamp: 0,
        echo: None,
        raft: Vec::new(),
        assignment: None,
        hold: None,
        answers: Vec::new(),
        released: Vec::new(),
        report: Report::default(),
    }
}

pub(super) fn quorum_config(listed: Members, stored: Option<StoreRecord>) -> QuorumConfig {
    QuorumConfig {
        discover: None,
        life: Life(1),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7000)),
        listed,
        timing: QuorumTiming {
            heartbeat: Duration::from_millis(30),
            promise: Duration::from_millis(120),
            step: Duration::from_millis(12),
            spread: Duration::from_millis(6),
        },
        found_alone: false,
        stored: Ok(stored),
        farewell: None,
        fail_back: FailBack::Never,
        health: None,
        check: None,
        api: None,
    }
}

pub(super) const FRESH: Ask =
    Ask { term: 8, last: EntryId { term: 5, index: 9 }, binding: true, transfer: false, at: T0 };

/// n1 of three, in term 7 and with entry 5.9, that may have voted up to term 6.
pub(super) fn restarted() -> Bench {
    let stored = Some(entry(id(5, 9), listed(3)));
    let record = StoreRecord { floor: 6, entry: stored, committed: id(5, 9) };
    let bench = Bench::new(listed(3), Some(record));
    assert_eq!((bench.raft.term(), bench.raft.floor()), (5, 6));
    bench
}

pub(super) fn word() -> Message {
    word_of(id(5, 9))
}

pub(super) fn word_of(newest: EntryId) -> Message {
    Message { term: 7, newest, ..message() }
}

pub(super) fn ask(bench: &mut Bench, from: u8, ask: Ask) {
    let Ask { term, last, binding, transfer, .. } = ask;
    let raft = vec![RaftCall::AskVote { term, last, binding, transfer }];
    bench.hear(from, Message { raft, ..word() });
}

pub(super) fn granted(bench: &mut Bench, to: u8) -> bool {
    let calls = bench.raft.calls(&name(to));
    calls.iter().any(|it| matches!(it, RaftCall::Vote { granted: true, .. }))
}

pub(super) fn order(bench: &mut Bench, call: ClusterCall) {
    bench.turn(|raft, cx| {
        let request = cx.next_request();
        raft.propose(cx, request, call);
    });
}
