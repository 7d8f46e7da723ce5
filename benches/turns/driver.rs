//! A node by itself, and a kernel and an API server that do what they are asked.

use std::collections::VecDeque;
use std::time::Duration;

use edgevip::engine::{Action, Input, LeaseConfig, Node};
use edgevip::model::{
    Author, Instant, KernelAnswer, Lease, LeaseCall, LeaseRecord, LeaseReply, NodeName,
    ResourceVersion,
};

use crate::Took;

/// What the node is to be told, and what that is called.
pub type Mail = VecDeque<(&'static str, Input)>;

/// What becomes of actions that are about neither the kernel nor Leases.
pub type Others<'a> = dyn FnMut(Action, &mut Mail) + 'a;

pub struct Driver {
    node: Node,
    now: Instant,
    version: u64,
    mail: Mail,
    /// What turns took, as soon as they count.
    pub took: Took,
    pub counts: bool,
}

pub fn lease(name: &str) -> LeaseConfig {
    LeaseConfig {
        name: name.into(),
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    }
}

impl Driver {
    pub fn new(node: Node, now: Instant) -> Self {
        let (mail, took) = (Mail::new(), Took::default());
        Self { node, now, version: 1, mail, took, counts: false }
    }

    /// Time passes, and all that is due is done.
    pub fn until(&mut self, span: Duration, others: &mut Others<'_>) {
        let end = self.now + span;
        while let Some(at) = self.node.deadline().map(|it| it.at).filter(|it| *it <= end) {
            self.now = self.now.max(at);
            self.input("tick", Input::Tick, others);
        }
        self.now = end;
    }

    /// Something happens, and all that follows.
    pub fn input(&mut self, kind: &'static str, input: Input, others: &mut Others<'_>) {
        self.mail.push_back((kind, input));
        while let Some((kind, input)) = self.mail.pop_front() {
            let kind = Some(kind).filter(|_| self.counts);
            let actions = self.took.turn(&mut self.node, self.now, kind, input);
            self.answer(actions, others);
        }
    }

    fn answer(&mut self, actions: Vec<Action>, others: &mut Others<'_>) {
        let mut answers = Vec::new();
        for action in actions {
            match action {
                Action::Kernel { order, job } if job.is_answered_when_done() => {
                    answers.push((order, KernelAnswer::Done));
                }
                Action::Lease { request, call, .. } => {
                    let reply = LeaseReply::Found(Box::new(self.lease(&call)));
                    self.mail.push_back(("renewal", Input::Lease { request, reply }));
                }
                other => others(other, &mut self.mail),
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
