//! The kernel edge as the shell drives it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::kernel::{FromKernel, KernelOptions, KernelThread, Monitors};
use edgevip::model::{
    Fences, Heard, Instant, KernelAnswer, KernelJob, LinkIndex, NetworkChange, OrderId, Vip,
};

/// Longer than anything that is waited for takes.
const BOUND: Duration = Duration::from_secs(10);

pub struct Edge {
    pub thread: KernelThread,
    pub fences: Fences,
    monitors: Option<Monitors>,
    inbox: Receiver<FromKernel>,
    early: VecDeque<FromKernel>,
    last: OrderId,
}

impl Edge {
    /// The usual: with the fence.
    pub fn start() -> Self {
        Self::with(KernelOptions { fence: true, ..KernelOptions::default() })
    }

    pub fn with(options: KernelOptions) -> Self {
        let (deliver, inbox) = channel();
        let deliver = Arc::new(move |it| drop(deliver.send(it)));
        let (thread, fences, monitors) = KernelThread::start(options, deliver).unwrap();
        let (monitors, early) = (Some(monitors), VecDeque::new());
        Self { thread, fences, monitors, inbox, early, last: OrderId::default() }
    }

    /// Starts the monitors, and waits for what they say first.
    pub fn monitor(&mut self) -> NetworkChange {
        let monitors = self.monitors.take().unwrap();
        let named = thread::Builder::new().name("monitors".to_owned());
        named.spawn(|| smol::block_on(monitors.run())).unwrap();
        self.network(|it| matches!(it, NetworkChange::Snapshot { .. }))
    }

    /// Has a batch done and waits for the answers.
    pub fn order(&mut self, jobs: impl IntoIterator<Item = KernelJob>) -> Vec<KernelAnswer> {
        let mut batch = Vec::new();
        // A frame that went out has no answer; what is ordered last has one.
        for job in jobs.into_iter().chain([KernelJob::VerifyFence]) {
            self.last = self.last.next();
            batch.push((self.last, job));
        }
        let last = self.last;
        let quiet: Vec<_> = batch.iter().map(|it| !it.1.is_answered_when_done()).collect();
        let ids: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
        self.thread.order(batch);
        let of_this =
            |it: &FromKernel| matches!(it, FromKernel::Answers(it) if it.last().unwrap().0 == last);
        let FromKernel::Answers(answers) = self.wait("answers", of_this) else { panic!() };
        let mut answers = answers.into_iter().peekable();
        let mut all: Vec<_> = ids
            .into_iter()
            .zip(quiet)
            .map(|(id, is_quiet)| match answers.next_if(|it| it.0 == id) {
                Some((_, answer)) => answer,
                None if is_quiet => KernelAnswer::Done,
                None => panic!("{id:?} has no answer"),
            })
            .collect();
        all.pop();
        all
    }

    /// Has one job done.
    pub fn one(&mut self, job: KernelJob) -> KernelAnswer {
        self.order([job]).remove(0)
    }

    /// Has jobs done that must all succeed.
    pub fn done(&mut self, jobs: impl IntoIterator<Item = KernelJob>) {
        for answer in self.order(jobs) {
            assert_eq!(answer, KernelAnswer::Done);
        }
    }

    pub fn network(&mut self, wanted: impl Fn(&NetworkChange) -> bool) -> NetworkChange {
        let it = self.wait(
            "a change of the network",
            |it| matches!(it, FromKernel::Network(it) if wanted(it)),
        );
        let FromKernel::Network(it) = it else { panic!() };
        it
    }

    pub fn heard(&mut self) -> Heard {
        let it = self.wait("a frame", |it| matches!(it, FromKernel::Heard(_)));
        let FromKernel::Heard(it) = it else { panic!() };
        it
    }

    /// Waits for one delivery; the others stay for later.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&FromKernel) -> bool) -> FromKernel {
        if let Some(at) = self.early.iter().position(&wanted) {
            return self.early.remove(at).unwrap();
        }
        let until = clock::now() + BOUND;
        loop {
            match self.inbox.recv_timeout(until.saturating_since(clock::now())) {
                Ok(it) if wanted(&it) => return it,
                Ok(it) => self.early.push_back(it),
                Err(error) => panic!("no {what}: {error}; but {:?}", self.early),
            }
        }
    }

    /// Everything that was delivered and not waited for, until nothing comes for a while.
    pub fn rest(&mut self, quiet: Duration) -> Vec<FromKernel> {
        loop {
            match self.inbox.recv_timeout(quiet) {
                Ok(it) => self.early.push_back(it),
                Err(RecvTimeoutError::Timeout) => return self.early.drain(..).collect(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

pub fn vip(text: &str) -> Vip {
    Vip(text.parse().unwrap())
}

pub fn vips(texts: &[&str]) -> Vec<Vip> {
    texts.iter().map(|it| vip(it)).collect()
}

pub fn index(link: &str) -> LinkIndex {
    LinkIndex(nix::net::if_::if_nametoindex(link).unwrap())
}

/// That many milliseconds from now.
pub fn soon(millis: u64) -> Instant {
    clock::now() + Duration::from_millis(millis)
}

pub fn hold(text: &str, until: Instant) -> KernelJob {
    hold_on(index("eth0"), text, vip(text).width(), until)
}

pub fn hold_on(link: LinkIndex, text: &str, length: u8, until: Instant) -> KernelJob {
    KernelJob::HoldAddress { link, vip: vip(text), length, until }
}

pub fn remove(text: &str) -> KernelJob {
    let (link, vip) = (index("eth0"), vip(text));
    KernelJob::RemoveAddress { link, vip, length: vip.width() }
}

pub fn answer(texts: &[&str], until: Instant) -> KernelJob {
    KernelJob::Answer { vips: vips(texts), until }
}

pub fn silence(texts: &[&str], until: Instant) -> KernelJob {
    KernelJob::Silence { vips: vips(texts), until }
}

pub fn unfence(texts: &[&str]) -> KernelJob {
    KernelJob::Unfence { vips: vips(texts) }
}

pub fn clean(texts: &[&str]) -> KernelJob {
    KernelJob::Clean { vips: vips(texts) }
}

pub fn is_refusal(answer: &KernelAnswer, words: &str) -> bool {
    answer.refusal().is_some_and(|why| why.contains(words))
}
