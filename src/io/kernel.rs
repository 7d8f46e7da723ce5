//! The kernel edge: one thread that does what is ordered, in order, and monitors that tell
//! what happens.
//!
//! The kernel can be slow: while another program loads a large ruleset, an order to the
//! fence takes half a second. So orders never run in the loop, and every one that has an
//! end is held against the clock before it is done and, where it took time, after.

mod batch;
mod monitors;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use log::{info, warn};

use self::batch::{Answers, BETWEEN, Batch, Step, is_apart, steps, tell};
pub use self::monitors::Monitors;
use super::clock;
use super::fence::watch::{WRITER, Watch};
use super::fence::{AT_ONCE, Change, Fence, MARGIN};
use super::guard::Guard;
use super::netlink::addresses::{Addresses, Place, Unheld};
use super::netlink::made::Made;
use super::netlink::monitor::Monitor;
use super::netlink::tag;
use super::packet::{Listener, Sender};
use crate::model::{
    Fences, Guarded, Heard, Instant, KernelAnswer, KernelJob, LinkIndex, NetworkChange, OrderId,
    Vip,
};

/// So many batches may wait for the kernel; another one fails at once.
const BACKLOG: usize = 1_024;
const STACK: usize = 256 * 1024;
/// An answer that the kernel took too long to write is written again so often.
const ATTEMPTS: usize = 3;

/// What the edge needs to know of the settings.
#[derive(Clone, Debug, Default)]
pub struct KernelOptions {
    /// Tells the fences of several instances on one host apart.
    pub instance: Option<String>,
    /// Use the nftables fence where the kernel has it.
    pub fence: bool,
    /// What reaches addresses of Services is to be filtered.
    pub guard: bool,
    /// Global scope instead of host scope on the loopback link.
    pub lo_global_scope: bool,
}

/// What comes from the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromKernel {
    /// What became of a batch of orders, in their order. A frame that went out, and a fence
    /// that opened, is not worth waking anybody for.
    Answers(Vec<(OrderId, KernelAnswer)>),
    /// A frame of somebody else's about a VIP.
    Heard(Heard),
    /// Links, addresses or routes are other than before.
    Network(NetworkChange),
    /// Somebody else changed the nftables ruleset.
    RulesetChanged,
}

/// Where it goes. Must not block: orders are refused by it from the loop's own thread.
pub type Deliver = Arc<dyn Fn(FromKernel) + Send + Sync>;

/// The way to the thread.
pub struct KernelThread {
    orders: SyncSender<Batch>,
    deliver: Deliver,
    slowest: Arc<AtomicU32>,
}

impl fmt::Debug for KernelThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelThread").field("slowest", &self.slowest()).finish_non_exhaustive()
    }
}

impl KernelThread {
    /// Opens all ways to the kernel, tries the fences, and starts the thread.
    pub fn start(options: KernelOptions, deliver: Deliver) -> io::Result<(Self, Fences, Monitors)> {
        let (fence, fences) = Fence::open(options.instance.as_deref(), options.fence);
        let fenced = fences.v4.is_ok() || fences.v6.is_ok();
        let listener = Listener::open()?;
        let tag = tag(options.instance.as_deref());
        let monitors = Monitors {
            deliver: deliver.clone(),
            network: Monitor::open(tag.clone())?,
            ruleset: (fenced || options.guard).then(Watch::open).transpose()?,
            ears: listener.ears()?,
        };
        let slowest = Arc::new(AtomicU32::new(0));
        let work = Work {
            addresses: Addresses::open(options.lo_global_scope)?,
            made: Made::open(tag)?,
            guard: Guard::open(options.instance.as_deref()),
            fence,
            listener,
            sender: Sender::open()?,
            slowest: slowest.clone(),
            spoiled: BTreeSet::new(),
        };
        let (orders, inbox) = sync_channel(BACKLOG);
        let answer = deliver.clone();
        thread::Builder::new()
            .name(WRITER.to_owned())
            .stack_size(STACK)
            .spawn(move || work.run(&inbox, &answer))?;
        Ok((Self { orders, deliver, slowest }, fences, monitors))
    }

    /// Has a batch done, in order; one delivery at most answers it.
    pub fn order(&self, batch: Batch) {
        let Err(error) = self.orders.try_send(batch) else { return };
        let (why, batch) = match error {
            TrySendError::Full(batch) => ("the kernel is far behind with earlier orders", batch),
            TrySendError::Disconnected(batch) => ("the kernel thread has ended", batch),
        };
        let failed = |(order, _)| (order, KernelAnswer::Failed(why.to_owned()));
        (self.deliver)(FromKernel::Answers(batch.into_iter().map(failed).collect()));
    }

    /// The longest that the kernel took for a change of the fence.
    pub fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.load(Ordering::Relaxed).into())
    }
}

/// The kernel thread's own.
struct Work {
    addresses: Addresses,
    made: Made,
    fence: Option<Fence>,
    guard: Option<Guard>,
    listener: Listener,
    sender: Sender,
    slowest: Arc<AtomicU32>,
    /// An earlier order of this batch failed for these, so those that build on it are left.
    spoiled: BTreeSet<Vip>,
}

impl Work {
    fn run(mut self, inbox: &Receiver<Batch>, deliver: &Deliver) {
        let mut next = None;
        while let Some(batch) = next.take().or_else(|| inbox.recv().ok()) {
            next = self.batch(batch, inbox, deliver);
        }
    }

    /// Does one; what is about few other VIPs need not wait for the end of one about many.
    /// Returns the one that has to.
    fn batch(&mut self, batch: Batch, inbox: &Receiver<Batch>, deliver: &Deliver) -> Option<Batch> {
        self.addresses.follow();
        self.spoiled.clear();
        let (mut answers, mut next) = (Vec::new(), None);
        let mut rest = VecDeque::from(steps(batch));
        while let Some(step) = rest.pop_front() {
            self.step(step, &mut answers);
            if next.is_some() || rest.is_empty() || rest.len() % BETWEEN > 0 {
                continue;
            }
            while let Ok(batch) = inbox.try_recv() {
                if !is_apart(&batch, &rest) {
                    next = Some(batch);
                    break;
                }
                let spoiled = std::mem::take(&mut self.spoiled);
                let mut of_it = Vec::new();
                steps(batch).into_iter().for_each(|it| self.step(it, &mut of_it));
                self.spoiled = spoiled;
                tell(of_it, deliver);
            }
        }
        tell(answers, deliver);
        next
    }

    fn step(&mut self, step: Step, answers: &mut Answers) {
        match step {
            Step::One(order, job) => {
                let told = job.is_answered_when_done();
                let answer = self.carry_out(job);
                if told || answer != KernelAnswer::Done {
                    answers.push((order, answer));
                }
            }
            Step::Silence(all) => self.silence(all, answers),
            Step::Unfence(all) => self.unfence(all, answers),
        }
    }

    fn carry_out(&mut self, job: KernelJob) -> KernelAnswer {
        match job {
            KernelJob::Answer { vips, until } => {
                let answer = self.answer(&vips, until);
                if !answer.is_good() {
                    self.spoiled.extend(vips);
                }
                answer
            }
            KernelJob::Clean { vips } => self.clean(&vips),
            // Without its fence, it would answer, or end when the kernel gets to it.
            KernelJob::HoldAddress { vip, .. } if self.spoiled.contains(&vip) => {
                KernelAnswer::Failed("the fence before it could not be set".into())
            }
            KernelJob::HoldAddress { link, vip, length, until } => {
                let answer = self.hold(Place { link, vip, length }, until);
                self.spoiled.extend((!answer.is_good()).then_some(vip));
                answer
            }
            KernelJob::Listen { links, more, less, anew } => {
                self.listener.name(&more, &less, anew);
                self.listen(&links)
            }
            KernelJob::Guard(all) => {
                let answer = self.guard(&all);
                if !answer.is_good() {
                    self.spoiled.extend(all.iter().map(|it| it.vip));
                }
                answer
            }
            KernelJob::MakeLink(new) => done(self.made.make(&new)),
            KernelJob::RemoveLink { link } => done(self.made.remove(link)),
            KernelJob::RemoveAddress { link, vip, length } => {
                done(self.addresses.remove(Place { link, vip, length }))
            }
            KernelJob::SendFrame { until, .. } if clock::now() >= until => KernelAnswer::TooLate,
            KernelJob::SendFrame { frame, .. } if self.spoiled.contains(&Vip(frame.ip())) => {
                KernelAnswer::TooLate
            }
            KernelJob::SendFrame { link, frame, .. } => done(self.sender.send(link, &frame)),
            KernelJob::Silence { vips, until } => {
                let answer = self.fence(|it| it.silence(&vips, until));
                if !answer.is_good() {
                    self.spoiled.extend(vips);
                }
                answer
            }
            KernelJob::Unfence { vips } => self.fence(|it| it.forget(&vips)),
            KernelJob::VerifyFence => {
                let guard = self.guard.as_mut().map_or(Ok(()), Guard::verify);
                match self.fence(Fence::verify) {
                    KernelAnswer::Done => done(guard),
                    other => other,
                }
            }
        }
    }

    /// All of them together; what the kernel refuses then is tried one by one, so that none
    /// pays for another.
    fn silence(&mut self, all: Vec<(OrderId, Vec<Vip>, Instant)>, answers: &mut Answers) {
        let each = all.iter().flat_map(|(_, vips, until)| vips.iter().map(|it| (*it, *until)));
        let each: Vec<_> = each.collect();
        let answer = self.fence(|it| it.silence_each(&each));
        let jobs =
            all.into_iter().map(|(order, vips, until)| (order, KernelJob::Silence { vips, until }));
        self.answer_all(answer, jobs, answers);
    }

    fn unfence(&mut self, all: Vec<(OrderId, Vec<Vip>)>, answers: &mut Answers) {
        let vips: Vec<_> = all.iter().flat_map(|it| it.1.iter().copied()).collect();
        let answer = self.fence(|it| it.forget(&vips));
        let jobs = all.into_iter().map(|(order, vips)| (order, KernelJob::Unfence { vips }));
        self.answer_all(answer, jobs, answers);
    }

    fn answer_all(
        &mut self,
        mut answer: KernelAnswer,
        jobs: impl Iterator<Item = (OrderId, KernelJob)>,
        answers: &mut Answers,
    ) {
        for (order, job) in jobs {
            if answer.is_good() {
                // That the fence was built again is said once.
                answers.push((order, std::mem::replace(&mut answer, KernelAnswer::Done)));
            } else {
                let answer = self.carry_out(job);
                answers.push((order, answer));
            }
        }
    }

    /// Some at a time, so that each of them is as early as it would be alone.
    fn answer(&mut self, vips: &[Vip], until: Instant) -> KernelAnswer {
        let mut answer = KernelAnswer::Done;
        for some in vips.chunks(AT_ONCE) {
            match self.answer_some(some, until) {
                KernelAnswer::Done => {}
                KernelAnswer::FenceRebuilt => answer = KernelAnswer::FenceRebuilt,
                // The order as a whole was not done.
                not_done => {
                    self.close(vips, until);
                    return not_done;
                }
            }
        }
        answer
    }

    fn answer_some(&mut self, vips: &[Vip], until: Instant) -> KernelAnswer {
        let (mut lead, mut answer) = (Duration::ZERO, KernelAnswer::Done);
        for _ in 0..ATTEMPTS {
            let before = clock::now();
            if !Fence::in_time(before, until - lead) {
                return KernelAnswer::TooLate;
            }
            match self.fence(|it| it.answer(vips, until - lead)) {
                KernelAnswer::Done => {}
                KernelAnswer::FenceRebuilt => answer = KernelAnswer::FenceRebuilt,
                // Whether it is open is unknown, so it has to be closed.
                failed => return failed,
            }
            let after = clock::now();
            if after >= until {
                return KernelAnswer::TooLate;
            }
            // An element's time runs from when the kernel got to it: it ends late by as
            // much, unless it is written again with that much less.
            let took = after.saturating_since(before);
            if took <= MARGIN + lead {
                break;
            }
            lead = took;
        }
        answer
    }

    /// `until` is when the right to answer ends, or ended.
    fn close(&mut self, vips: &[Vip], until: Instant) {
        if let KernelAnswer::Failed(why) = self.fence(|it| it.close(vips, until)) {
            warn!(why; "the fence could not be closed");
        }
    }

    fn fence(&mut self, change: impl FnOnce(&mut Fence) -> Result<Change, String>) -> KernelAnswer {
        let Some(fence) = &mut self.fence else { return KernelAnswer::Done };
        let before = clock::now();
        let changed = change(fence);
        let took = clock::now().saturating_since(before);
        self.slowest.fetch_max(took.as_micros() as u32, Ordering::Relaxed);
        match changed {
            Ok(Change::Made) => KernelAnswer::Done,
            Ok(Change::Rebuilt) => {
                info!("the nftables fence was gone and has been built again");
                KernelAnswer::FenceRebuilt
            }
            Err(why) => KernelAnswer::Failed(why),
        }
    }

    fn guard(&mut self, all: &[Guarded]) -> KernelAnswer {
        match &mut self.guard {
            Some(it) => done(it.set(all)),
            None => KernelAnswer::Failed("the kernel has no nftables".to_owned()),
        }
    }

    fn clean(&mut self, vips: &[Vip]) -> KernelAnswer {
        let named = self.fence.as_mut().is_none_or(Fence::is_left);
        let mut ips = self.fence.as_mut().map(Fence::leftovers).unwrap_or_default();
        ips.extend(vips.iter().map(|it| it.0));
        // Addresses first: without the fence, what is left of them would answer.
        let cleaned = self.addresses.clean(&ips);
        let unmade = self.made.clean();
        let fenced = self.fence.as_mut().map_or(Ok(()), Fence::clean);
        // What is left of that keeps everything away from addresses that may be others' by now.
        let unguarded = self.guard.as_mut().map_or(Ok(()), Guard::clean);
        match done(cleaned.and(unmade).and(fenced).and(unguarded)) {
            KernelAnswer::Done if !named && self.addresses.has_more() => {
                info!("no fence says whether an earlier process left some of the addresses here");
                KernelAnswer::FenceRebuilt
            }
            answer => answer,
        }
    }

    fn hold(&mut self, place: Place, until: Instant) -> KernelAnswer {
        let now = clock::now();
        if now >= until {
            return KernelAnswer::TooLate;
        }
        // Whole seconds, rounded down, but none would mean to remove it.
        let seconds = until.saturating_since(now).as_secs().clamp(1, u64::from(u32::MAX - 1));
        match self.addresses.hold(place, seconds as u32) {
            Ok(()) => {}
            Err(Unheld::NoLink) => return KernelAnswer::NoLink,
            Err(Unheld::NotOurs(why)) => return KernelAnswer::NotOurs(why),
            Err(Unheld::Refused(why)) => return KernelAnswer::Failed(why),
        }
        if clock::now() < until {
            return KernelAnswer::Done;
        }
        match self.addresses.remove(place) {
            Ok(()) => KernelAnswer::TooLate,
            Err(why) => KernelAnswer::Failed(why),
        }
    }

    fn listen(&mut self, links: &[LinkIndex]) -> KernelAnswer {
        match self.listener.listen(links) {
            Ok(()) => KernelAnswer::Done,
            Err(error) => KernelAnswer::Failed(format!("listening for ARP and NDP: {error}")),
        }
    }
}

fn done(result: Result<(), String>) -> KernelAnswer {
    match result {
        Ok(()) => KernelAnswer::Done,
        Err(why) => KernelAnswer::Failed(why),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn orders_that_find_no_room_or_no_thread_fail_at_once() {
        let (orders, inbox) = sync_channel(1);
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let log = delivered.clone();
        let deliver: Deliver = Arc::new(move |it| log.lock().unwrap().push(it));
        let thread = KernelThread { orders, deliver, slowest: Arc::default() };
        let failures = || delivered.lock().unwrap().len();
        let first = OrderId::default();
        let [second, third] = [first.next(), first.next().next()];
        thread.order(vec![(first, KernelJob::VerifyFence)]);
        assert_eq!(failures(), 0);
        thread.order(vec![(second, KernelJob::VerifyFence)]);
        assert_eq!(failures(), 1);
        drop(inbox);
        thread.order(vec![(third, KernelJob::VerifyFence)]);
        let all = delivered.lock().unwrap();
        let [FromKernel::Answers(full), FromKernel::Answers(ended)] = &all[..] else {
            panic!("{all:?}")
        };
        for (answers, of) in [(full, second), (ended, third)] {
            let [(order, KernelAnswer::Failed(_))] = &answers[..] else { panic!("{answers:?}") };
            assert_eq!(*order, of);
        }
    }
}
