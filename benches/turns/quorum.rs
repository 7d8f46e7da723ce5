use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use edgevip::engine::{Action, Election, FailBack, Input, Node, QuorumConfig, QuorumTiming};
use edgevip::model::{Instant, KernelAnswer, Life, Member, MemberRole, Members, NodeName};

use crate::{Took, heard, node, snapshot, vip};

const NODES: u8 = 3;
const HEARTBEAT: Duration = Duration::from_millis(30);
const ON_THE_WIRE: Duration = Duration::from_micros(100);

/// Members that do as they are told, and the mail on its way to them.
struct Lan {
    nodes: Vec<Node>,
    now: Instant,
    mail: BTreeMap<(Instant, u64), (usize, &'static str, Input)>,
    last: u64,
    took: Took,
    counts: bool,
}

pub fn measure(vips: usize) -> Took {
    let now = Instant::from_nanos(1_000_000_000_000);
    let nodes = (1..=NODES).map(|it| node(it, vips, election(it), None, now)).collect();
    let (mail, took) = (BTreeMap::new(), Took::default());
    let mut it = Lan { nodes, now, mail, last: 0, took, counts: false };
    for number in 0..NODES {
        it.post(number.into(), "lock", Input::Lock { held: true });
        it.post(number.into(), "links", snapshot(number + 1));
    }
    it.until(Duration::from_secs(5));
    it.counts = true;
    for round in 0..20 {
        it.until(Duration::from_millis(47));
        it.post(round % 3, "frame about a VIP of another", heard(vip(vips * 3)));
    }
    it.until(HEARTBEAT);
    it.took
}

fn address(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 4_000).into()
}

fn election(number: u8) -> Election {
    let member = |it| {
        (
            NodeName(format!("n{it}").into()),
            Member { address: address(it), role: MemberRole::Voter },
        )
    };
    let listed: Members = (1..=NODES).map(member).collect();
    Election::Quorum(Box::new(QuorumConfig {
        discover: None,
        life: Life(number.into()),
        address: address(number),
        listed,
        timing: QuorumTiming {
            heartbeat: HEARTBEAT,
            promise: HEARTBEAT * 4,
            step: Duration::from_millis(12),
            spread: Duration::from_millis(6),
        },
        found_alone: false,
        stored: Ok(None),
        farewell: None,
        fail_back: FailBack::Delayed,
        health: None,
        check: None,
        api: None,
    }))
}

impl Lan {
    fn post(&mut self, to: usize, kind: &'static str, input: Input) {
        self.last += 1;
        self.mail.insert((self.now + ON_THE_WIRE, self.last), (to, kind, input));
    }

    fn until(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let timers = self.nodes.iter().enumerate();
            let timers = timers.filter_map(|(node, it)| Some((it.deadline()?.at, node)));
            let timer = timers.min();
            let mail = self.mail.first_key_value().map(|(key, _)| key.0);
            let mail_first = mail.is_some_and(|it| timer.is_none_or(|(at, _)| it <= at));
            match (mail, timer) {
                (Some(at), _) if mail_first && at <= end => {
                    let Some((_, (to, kind, input))) = self.mail.pop_first() else { return };
                    self.turn(at, to, kind, input);
                }
                (_, Some((at, node))) if !mail_first && at <= end => {
                    self.turn(at, node, "tick", Input::Tick);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn turn(&mut self, at: Instant, to: usize, kind: &'static str, input: Input) {
        self.now = self.now.max(at);
        let kind = Some(kind).filter(|_| self.counts);
        let actions = self.took.turn(&mut self.nodes[to], self.now, kind, input);
        let mut answers = Vec::new();
        for action in actions {
            match action {
                Action::Kernel { order, job } if job.is_answered_when_done() => {
                    answers.push((order, KernelAnswer::Done));
                }
                Action::Send { to: there, envelope } => {
                    let Some(number) = (1..=NODES).find(|it| address(*it) == there) else {
                        continue;
                    };
                    let input = Input::Peer { address: address(to as u8 + 1), ttl: 255, envelope };
                    self.post(usize::from(number) - 1, "datagram", input);
                }
                Action::Store { number, .. } => {
                    self.post(to, "stored", Input::Stored { number, failure: None });
                }
                _ => {}
            }
        }
        if !answers.is_empty() {
            self.post(to, "answers of the kernel", Input::Kernel(answers));
        }
    }
}
