use std::collections::VecDeque;
use std::time::Duration;

use edgevip::engine::{Action, Election, Input, LeaseConfig, Node};
use edgevip::model::{
    Address, Author, Instant, KernelAnswer, Lease, LeaseCall, LeaseRecord, LeaseReply,
    NetworkChange, NodeName, ResourceVersion, WatchEvent,
};

use crate::{LINK, Took, heard, is_answered, node, snapshot, vip};

const LEASE: &str = "kube-system/plndr-cp-lock";

/// A leader of a Lease, and a kernel and an API server that do what they are asked.
struct Leader {
    node: Node,
    now: Instant,
    version: u64,
    mail: VecDeque<(&'static str, Input)>,
    took: Took,
    counts: bool,
}

pub fn measure(vips: usize) -> Took {
    let now = Instant::from_nanos(1_000_000_000_000);
    let election = Election::Lease(LeaseConfig {
        name: LEASE.into(),
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    });
    let node = node(1, vips, election, now);
    let (mail, took) = (VecDeque::new(), Took::default());
    let mut it = Leader { node, now, version: 1, mail, took, counts: false };
    it.input("lock", Input::Lock { held: true });
    it.input("links", snapshot(1));
    it.input("watch", Input::Watch { lease: LEASE.into(), event: WatchEvent::Opened });
    it.until(Duration::from_secs(20));
    it.counts = true;
    for round in 0..24 {
        it.until(Duration::from_millis(517));
        it.input("frame about a VIP", heard(vip(vips * 3)));
        let lost = vip(round * 7 % vips);
        let address = Address { link: LINK, ip: lost.0, length: 32, ours: true };
        it.input("one VIP lost", Input::Network(NetworkChange::AddressGone(address)));
        it.input("one VIP seen", Input::Network(NetworkChange::Address(address)));
    }
    it.took
}

impl Leader {
    /// Time passes, and all that is due is done.
    fn until(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.node.deadline().map(|it| it.at).filter(|it| *it <= end) {
            self.now = self.now.max(at);
            self.input("tick", Input::Tick);
        }
        self.now = end;
    }

    fn input(&mut self, kind: &'static str, input: Input) {
        self.mail.push_back((kind, input));
        while let Some((kind, input)) = self.mail.pop_front() {
            let kind = Some(kind).filter(|_| self.counts);
            let actions = self.took.turn(&mut self.node, self.now, kind, input);
            self.answer(actions);
        }
    }

    fn answer(&mut self, actions: Vec<Action>) {
        let mut answers = Vec::new();
        for action in actions {
            match action {
                Action::Kernel { order, job } if is_answered(&job) => {
                    answers.push((order, KernelAnswer::Done));
                }
                Action::Lease { request, call, .. } => {
                    let reply = LeaseReply::Found(Box::new(self.lease(&call)));
                    self.mail.push_back(("renewal", Input::Lease { request, reply }));
                }
                _ => {}
            }
        }
        if !answers.is_empty() {
            let kind = if answers.len() == 1 { "answer of the kernel" } else { "many answers" };
            self.mail.push_back((kind, Input::Kernel(answers)));
        }
    }

    fn lease(&mut self, call: &LeaseCall) -> Lease {
        self.version += 1;
        let record = LeaseRecord {
            holder: Some(NodeName("n1".into())),
            duration: Duration::from_secs(15),
            transitions: 3,
            acquired: None,
            renewed: Some(self.version.to_string()),
            author: Some(Author { host: 1, life: 1 }),
            quorum: None,
        };
        let free = LeaseRecord { holder: None, author: None, ..record.clone() };
        let record = if matches!(call, LeaseCall::Read) { free } else { record };
        let version = ResourceVersion(self.version.to_string());
        Lease { record, version, object: "{}".into(), foundation: None }
    }
}
