//! A process: the loop around a node, and the thread that does what it orders of the kernel.
//! Each action takes its time; a process may be paused or killed between any two of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use edgevip::engine::{Action, Config, Election, Input, LeaseConfig, Node, Notice, Rng};
use edgevip::model::{
    Author, Frame, Instant, KernelAnswer, KernelJob, LinkIndex, NetworkChange, NodeName, OrderId,
    RequestId, ServicePort, Vip,
};

use crate::checks::{self, Truth};
use crate::cloud::Desk;
use crate::each::OWN;
use crate::host::{Excuse, Host, MS, Nanos, SEC, US};
use crate::kernel::{Doing, Kernel, MARGIN, Owner, end_of, is_too_late};
use crate::world::{Event, Log, World};

pub struct Proc {
    pub host: usize,
    pub name: NodeName,
    pub lease: LeaseConfig,
    pub node: Option<Node>,
    /// Guards against deliveries meant for an earlier life.
    pub life: u32,
    pub author: Author,
    pub paused_until: Nanos,
    pub inbox: VecDeque<Input>,
    todo: VecDeque<Action>,
    batch: Vec<(OrderId, KernelJob)>,
    /// A turn is under way or scheduled.
    busy: bool,
    stalled: bool,
    wake_at: Nanos,
    seen_slept: u64,
    pub thread: KernelThread,
    /// By Lease.
    pub bonds: Vec<Bond>,
    /// Which Lease a request is about.
    requests: BTreeMap<RequestId, usize>,
    pub watches: u32,
    /// Notifications stay in order.
    pub told_at: Nanos,
    pub stopping_since: Option<Nanos>,
    pub started_at: Nanos,
    pub last_stall: Nanos,
    pub notices: Vec<(Nanos, Notice)>,
}

/// The Leases of a process: the control plane's, that by which Services are carried, and that
/// by which they are given addresses.
pub const CONTROL: usize = 0;
pub const SERVED: usize = 1;
pub const GIVEN: usize = 2;

/// What a process has to do with one Lease.
pub struct Bond {
    /// The request that the Lease's own connection is busy with.
    pub asked: Option<RequestId>,
    pub watch: Option<Watch>,
    pub truth: Truth,
}

impl Bond {
    pub fn new() -> Self {
        Self { asked: None, watch: None, truth: Truth::new() }
    }
}

pub struct Watch {
    pub id: u32,
    pub open: bool,
    pub last_at: Nanos,
}

/// Does orders one after another.
#[derive(Default)]
pub struct KernelThread {
    queue: VecDeque<(OrderId, KernelJob, bool)>,
    answers: Vec<(OrderId, KernelAnswer)>,
    stage: Stage,
    stalled: bool,
    fenced: BTreeMap<Vip, Instant>,
    guarded: BTreeMap<Vip, Vec<ServicePort>>,
    /// How often the order at the front was begun, and how much earlier it is to end.
    attempts: u32,
    lead: Duration,
    links: Vec<LinkIndex>,
    vips: Vec<Vip>,
    /// An earlier order of this batch failed for these, so those that build on it are left.
    spoiled: Vec<Vip>,
    pub cleaned: bool,
    /// No fence said what an earlier process left, and something is left.
    pub missed_fence: bool,
    pub failed_at: Option<Nanos>,
    /// When the process last heard of such a thing.
    pub told_at: Option<Nanos>,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Idle,
    /// The next order is to be begun.
    Due,
    /// The kernel is at it.
    Doing { read_at: Instant },
    /// The kernel has done it; the clock is to be read again.
    Done { read_at: Instant, outcome: Outcome },
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Outcome {
    Good,
    Rebuilt,
    TooLate,
    Failed,
    NotOurs,
    /// It is about an address that is not there.
    Dropped,
}

impl KernelThread {
    /// What it listens for.
    pub fn ears(&self) -> impl Iterator<Item = &Vip> {
        self.vips.iter()
    }

    pub fn hears(&self, link: LinkIndex, vip: Vip) -> bool {
        self.links.contains(&link) && self.vips.contains(&vip)
    }

    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }
}

impl Proc {
    pub fn new(host: usize, name: NodeName, lease: LeaseConfig) -> Self {
        Self {
            host,
            name,
            lease,
            node: None,
            life: 0,
            author: Author { host: 0, life: 0 },
            paused_until: 0,
            inbox: VecDeque::new(),
            todo: VecDeque::new(),
            batch: Vec::new(),
            busy: false,
            stalled: false,
            wake_at: u64::MAX,
            seen_slept: 0,
            thread: KernelThread::default(),
            bonds: (0..OWN).map(|_| Bond::new()).collect(),
            requests: BTreeMap::new(),
            watches: 0,
            told_at: 0,
            stopping_since: None,
            started_at: 0,
            last_stall: 0,
            notices: Vec::new(),
        }
    }

    pub fn runs(&self) -> bool {
        self.node.is_some()
    }

    /// Nothing is left to do before something happens.
    pub fn is_settled(&self) -> bool {
        self.runs() && !self.busy && self.inbox.is_empty() && self.thread.is_idle()
    }
}

impl World {
    pub fn start(&mut self, proc: usize) {
        if self.procs[proc].runs() {
            if self.procs[proc].stopping_since.is_some() {
                self.schedule(SEC, Event::Start { proc });
            }
            return;
        }
        let seed = self.rng.next_u64();
        let host = self.procs[proc].host;
        let now = self.local(proc);
        let it = &mut self.procs[proc];
        it.life += 1;
        it.author = Author { host: self.hosts[host].boot, life: seed };
        it.started_at = self.now;
        it.last_stall = self.now;
        it.seen_slept = self.hosts[host].clock.slept();
        it.bonds.iter_mut().for_each(|it| it.truth.begin());
        let mut config = Config {
            me: it.name.clone(),
            author: it.author,
            election: match &mut self.cluster {
                None => Election::Lease(it.lease.clone()),
                Some(cluster) => {
                    cluster.book.begin((host, seed));
                    Election::Quorum(Box::new(cluster.config(host, seed)))
                }
            },
            ..self.settings.node(&self.hosts[host].kernel.fences)
        };
        if let Some(cloud) = &self.cloud {
            config.services = Some(cloud.config(&it.lease));
            if !cloud.control {
                config.vips.clear();
            }
        }
        it.node = Some(Node::new(config, Rng::from_seed(seed), now));
        self.note(|| (format!("node-{proc}"), "starts".into()));
        let snapshot = self.hosts[host].kernel.snapshot();
        self.notify_proc(proc, snapshot);
        if let Some(excuse) = &mut self.hosts[host].excuse {
            *excuse = Excuse::default();
        }
        let free = self.hosts[host].lock.is_none();
        if free {
            self.hosts[host].lock = Some(proc);
        }
        self.deliver(proc, Input::Lock { held: free });
    }

    /// The process is gone between two actions; the kernel keeps what it has.
    pub fn kill(&mut self, proc: usize) {
        if !self.procs[proc].runs() {
            return;
        }
        let it = &mut self.procs[proc];
        let host = it.host;
        it.life += 1;
        it.node = None;
        it.inbox.clear();
        it.todo.clear();
        it.batch.clear();
        (it.busy, it.stalled, it.wake_at) = (false, false, u64::MAX);
        it.bonds.iter_mut().for_each(|it| (it.asked, it.watch) = (None, None));
        it.requests.clear();
        it.stopping_since = None;
        it.paused_until = 0;
        it.thread = KernelThread::default();
        if let Some(cloud) = &mut self.cloud {
            cloud.desks[proc] = Desk::default();
        }
        if self.hosts[host].lock == Some(proc) {
            self.hosts[host].lock = None;
            self.schedule(500 * MS, Event::Lock { host });
        }
        self.tear_write(host);
        self.note(|| (format!("node-{proc}"), "is gone".into()));
    }

    /// The lock of a dead process is free: another one on the host takes it.
    pub fn hand_lock_on(&mut self, host: usize) {
        let heir = self.procs_on(host).find(|it| self.procs[*it].runs());
        if let (None, Some(heir)) = (self.hosts[host].lock, heir) {
            self.hosts[host].lock = Some(heir);
            self.deliver(heir, Input::Lock { held: true });
        }
    }

    pub fn stop(&mut self, proc: usize) {
        if self.procs[proc].runs() && self.procs[proc].stopping_since.is_none() {
            self.note(|| (format!("node-{proc}"), "is asked to stop".into()));
            self.procs[proc].stopping_since = Some(self.now);
            self.deliver(proc, Input::Stop);
        }
    }

    pub fn pause(&mut self, proc: usize, span: Nanos) {
        let until = self.now + span;
        self.procs[proc].paused_until = self.procs[proc].paused_until.max(until);
        self.note(|| (format!("node-{proc}"), format!("paused for {:.3}s", span as f64 / 1e9)));
        self.schedule(span, Event::Kick { host: self.procs[proc].host });
    }

    pub fn suspend(&mut self, host: usize, span: Nanos) {
        self.note(|| (format!("host-{host}"), format!("sleeps for {:.3}s", span as f64 / 1e9)));
        self.hosts[host].clock.fall_asleep(self.now);
        self.hosts[host].asleep_until = self.hosts[host].asleep_until.max(self.now + span);
        self.schedule(span, Event::Kick { host });
    }

    /// The host is awake again, or a process of it continued.
    pub fn kick(&mut self, host: usize) {
        if self.hosts[host].sleeps(self.now) {
            return;
        }
        let before = self.hosts[host].clock.slept();
        self.hosts[host].clock.wake_up(self.now);
        if self.hosts[host].clock.slept() > before {
            self.hosts[host].excuse.get_or_insert_default().slept = true;
            self.set_kernel_timer(host);
        }
        for proc in self.procs_on(host) {
            let it = &mut self.procs[proc];
            if it.paused_until > self.now || !it.runs() {
                continue;
            }
            it.last_stall = self.now;
            let life = it.life;
            if std::mem::take(&mut it.thread.stalled) {
                self.schedule(0, Event::KernelStep { proc, life });
            }
            let it = &mut self.procs[proc];
            if std::mem::take(&mut it.stalled) || !it.busy {
                it.busy = true;
                self.schedule(1, Event::Turn { proc, life });
            }
        }
    }

    pub fn deliver(&mut self, proc: usize, input: Input) {
        let it = &mut self.procs[proc];
        if it.runs() {
            it.inbox.push_back(input);
            self.begin_turn(proc);
        }
    }

    fn begin_turn(&mut self, proc: usize) {
        let it = &mut self.procs[proc];
        if !std::mem::replace(&mut it.busy, true) {
            let life = it.life;
            let delay = self.quick(20 * US, self.faults.action_tail);
            self.schedule(delay, Event::Turn { proc, life });
        }
    }

    pub fn wake(&mut self, proc: usize) {
        if self.procs[proc].wake_at <= self.now {
            self.procs[proc].wake_at = u64::MAX;
        }
        let it = &mut self.procs[proc];
        if !std::mem::replace(&mut it.busy, true) {
            self.turn(proc);
        }
    }

    fn is_stalled(&self, proc: usize) -> bool {
        let it = &self.procs[proc];
        it.paused_until > self.now || self.hosts[it.host].sleeps(self.now)
    }

    /// The next action of the last turn, or the next turn.
    pub fn turn(&mut self, proc: usize) {
        if self.is_stalled(proc) {
            self.procs[proc].stalled = true;
            self.procs[proc].last_stall = self.now;
            return;
        }
        if let Some(action) = self.procs[proc].todo.pop_front() {
            self.perform(proc, action);
        }
        while !self.has_failed() && self.procs[proc].runs() && self.procs[proc].todo.is_empty() {
            let Some(input) = self.next_input(proc) else {
                self.procs[proc].busy = false;
                self.check_settled(proc);
                return self.sleep_until_deadline(proc);
            };
            self.handle(proc, input);
        }
        if self.procs[proc].runs() {
            let life = self.procs[proc].life;
            let cost = self.quick(10 * US, self.faults.action_tail);
            self.schedule(cost, Event::Turn { proc, life });
        }
    }

    /// The clock decides, not the timer: a flood of input must not hold up a deadline.
    fn next_input(&mut self, proc: usize) -> Option<Input> {
        let now = self.local(proc);
        let it = &mut self.procs[proc];
        let slept = self.hosts[it.host].clock.slept();
        if slept > it.seen_slept + 50 * MS {
            it.seen_slept = slept;
            return Some(Input::Suspended);
        }
        let due = it.node.as_ref()?.deadline().is_some_and(|it| it.at <= now);
        if due { Some(Input::Tick) } else { it.inbox.pop_front() }
    }

    fn sleep_until_deadline(&mut self, proc: usize) {
        let it = &self.procs[proc];
        let Some(deadline) = it.node.as_ref().and_then(|it| it.deadline()) else { return };
        let at = self.hosts[it.host].clock.when_boot(deadline.at).max(self.now + 1);
        if at < it.wake_at {
            self.procs[proc].wake_at = at;
            let life = self.procs[proc].life;
            self.schedule(at - self.now, Event::Wake { proc, life });
        }
    }

    fn handle(&mut self, proc: usize, input: Input) {
        let now = self.local(proc);
        let host = self.procs[proc].host;
        self.note(|| (format!("node-{proc}"), format!("<- {input:?}")));
        if self.hosts[host].lock == Some(proc)
            && let Some(excuse) = &mut self.hosts[host].excuse
        {
            excuse.slept &= input != Input::Suspended;
            excuse.flushed &= input != Input::RulesetChanged;
        }
        if let Input::Kernel(answers) = &input
            && answers.iter().any(|it| it.1.refusal().is_some())
        {
            self.procs[proc].thread.told_at = Some(self.now);
        }
        let is_tick = input == Input::Tick;
        let answering = self.vips.iter().any(|it| self.answers(host, *it));
        let serving = self.held_of_services(host).any(|it| self.answers(host, it));
        let of = match &input {
            Input::Lease { request, .. } => self.procs[proc].requests.remove(request),
            Input::Watch { lease, .. } => self.bond_named(proc, &lease.to_string()),
            _ => None,
        };
        if let (Some(cloud), Input::Objects { what, events }) = (&mut self.cloud, &input) {
            cloud.desks[proc].told.learn(now, what, events);
        }
        self.learn_own(proc, &input);
        if let Input::Dhcp { heard, .. } = &input {
            self.learn_leased(proc, now, heard);
        }
        let it = &mut self.procs[proc];
        match &mut self.cluster {
            None => {
                let truth = &mut it.bonds[of.unwrap_or(CONTROL)].truth;
                truth.learn(&it.name, it.author, it.lease.renew_deadline, &input);
                for (of, bond) in it.bonds.iter_mut().enumerate() {
                    let loud = if of == CONTROL { answering } else { serving };
                    if input == Input::Suspended && loud && of != GIVEN {
                        bond.truth.doubt(now);
                    }
                }
            }
            Some(cluster) => cluster.note_input((host, it.author.life), now, &input),
        }
        let Some(node) = &mut it.node else { return };
        let actions: Vec<_> = node.handle(now, input).collect();
        let most = checks::most_actions(self.vips.len(), self.hosts.len(), self.cluster.is_some());
        let most = most + self.cloud.as_ref().map_or(0, |it| it.most_actions());
        let mut wrong = checks::turn(&actions, node.deadline(), now, is_tick, most);
        // A twin costs more than the turn: stories have one each turn, worlds of chance sometimes.
        let looks = matches!(self.log, Log::Print) || self.events.is_multiple_of(16);
        let overlooked = looks.then(|| node.overlooked().err()).flatten();
        wrong = wrong.or(overlooked.map(|it| format!("S8: overlooked {it}, after {actions:?}")));
        if is_tick && self.rng.below(8) == 0 {
            let again: Vec<_> = node.handle(now, Input::Tick).collect();
            if !again.is_empty() {
                wrong =
                    wrong.or(Some(format!("S8: a second tick does {again:?}, after {actions:?}")));
            }
        }
        if self.cluster.is_none() {
            for action in &actions {
                if let Action::Lease { lease, .. } = action
                    && self.elects_each()
                    && self.bond_named(proc, &lease.to_string()).is_none()
                {
                    self.note_own(lease);
                }
                let of_site = self.check_site(proc, now, action);
                let of_bond = self.check_bonds(proc, now, action);
                wrong = wrong.or(of_bond).or(of_site);
                if let Action::Lease { request, lease, .. } = action {
                    let of = self.bond_named(proc, &lease.to_string()).unwrap_or(CONTROL);
                    self.procs[proc].requests.insert(*request, of);
                }
            }
        }
        wrong = wrong.or_else(|| self.check_decided(proc, now, &actions).err());
        wrong = wrong.or_else(|| self.check_giving(proc, now, &actions));
        if wrong.is_some() {
            self.note(|| (format!("node-{proc}"), format!("would do {actions:?}")));
        }
        self.procs[proc].todo.extend(actions);
        if let Some(why) = wrong {
            self.fail(format!("node-{proc}: {why}"));
        }
    }

    fn perform(&mut self, proc: usize, action: Action) {
        self.note(|| (format!("node-{proc}"), format!("{action:?}")));
        let last_of_batch = !matches!(self.procs[proc].todo.front(), Some(Action::Kernel { .. }));
        match action {
            Action::Answer { request, outcome } => self.on_answer(proc, request, outcome),
            Action::Farewell(it) => {
                let host = self.procs[proc].host;
                if let Some(cluster) = &mut self.cluster {
                    cluster.farewells[host] = Some(it);
                }
            }
            Action::Listen(ear) => {
                let host = self.procs[proc].host;
                if let Some(cluster) = &mut self.cluster {
                    cluster.mail.groups[host] = Some(ear.group);
                }
            }
            Action::Probe(it) => self.probe(proc, it),
            Action::Send { to, envelope } => self.post(proc, to, &envelope),
            Action::Store { number, record } => self.write_store(proc, number, &record),
            Action::Exit => self.exit(proc),
            Action::Kernel { order, job } => {
                self.procs[proc].batch.push((order, job));
                if last_of_batch {
                    self.submit(proc);
                }
            }
            Action::Ask { request, call } => self.ask_object(proc, request, call),
            Action::Follow { what, from } => self.follow(proc, what, from),
            Action::Unfollow(what) => self.unfollow(proc, &what),
            Action::Dhcp(job) => self.speak_dhcp(proc, job),
            Action::Gateway { request, call } => self.ask_gateway(proc, request, call),
            Action::Lease { request, lease, call, give_up_at } => {
                let of = self.check_lease(proc, &lease);
                self.check_lease_call(proc, of, &call);
                self.ask_lease(proc, of, request, call, give_up_at);
            }
            Action::Side { request, call } => self.ask_side(proc, request, &call),
            Action::Tell(notice) => {
                let now = self.now;
                self.procs[proc].notices.push((now, notice));
            }
            Action::Watch { lease, from } => {
                let of = self.check_lease(proc, &lease);
                self.ask_watch(proc, of, from);
            }
        }
    }

    fn exit(&mut self, proc: usize) {
        let now = self.local(proc);
        let node = self.procs[proc].node.as_mut();
        let more = node.map_or(0, |it| it.handle(now, Input::Tick).count());
        if more > 0 || !self.procs[proc].todo.is_empty() {
            self.fail(format!("node-{proc}: S7: acts after Exit"));
        }
        self.check_exit(proc);
        self.kill(proc);
    }

    fn submit(&mut self, proc: usize) {
        let batch = std::mem::take(&mut self.procs[proc].batch);
        let most = batch.len();
        let it = &mut self.procs[proc];
        let numbered = batch.into_iter().enumerate();
        it.thread.queue.extend(numbered.map(|(at, (order, job))| (order, job, at + 1 == most)));
        if it.thread.stage == Stage::Idle {
            it.thread.stage = Stage::Due;
            let life = it.life;
            let delay = self.quick(10 * US, self.faults.action_tail);
            self.schedule(delay, Event::KernelStep { proc, life });
        }
    }

    pub fn kernel_step(&mut self, proc: usize) {
        let host = self.procs[proc].host;
        let paused = self.procs[proc].paused_until > self.now;
        let stage = self.procs[proc].thread.stage;
        // A system call under way goes on while the process is stopped, but not while the
        // machine sleeps.
        let goes_on = matches!(stage, Stage::Doing { .. }) && !self.hosts[host].sleeps(self.now);
        if self.is_stalled(proc) && !(paused && goes_on) {
            self.procs[proc].thread.stalled = true;
            return;
        }
        match stage {
            Stage::Idle => {}
            Stage::Due => self.begin_order(proc),
            Stage::Doing { read_at } => {
                let outcome = self.do_order(proc, read_at);
                self.procs[proc].thread.stage = Stage::Done { read_at, outcome };
                if paused {
                    self.procs[proc].thread.stalled = true;
                } else {
                    self.finish_order(proc, read_at, outcome);
                }
            }
            Stage::Done { read_at, outcome } => self.finish_order(proc, read_at, outcome),
        }
    }

    fn begin_order(&mut self, proc: usize) {
        let read_at = self.local(proc);
        let Some((_, job, _)) = self.procs[proc].thread.queue.front() else {
            self.procs[proc].thread.stage = Stage::Idle;
            return;
        };
        let tail = match job {
            KernelJob::Answer { .. }
            | KernelJob::Clean { .. }
            | KernelJob::Silence { .. }
            | KernelJob::Unfence { .. }
            | KernelJob::VerifyFence => self.faults.kernel_tail,
            KernelJob::HoldAddress { .. }
            | KernelJob::Guard(_)
            | KernelJob::MakeLink(_)
            | KernelJob::RemoveAddress { .. }
            | KernelJob::RemoveLink { .. } => self.faults.kernel_tail.min(7 * MS),
            KernelJob::Listen { .. } | KernelJob::SendFrame { .. } => 50 * US,
        };
        let cost = self.quick(50 * US, tail);
        self.procs[proc].thread.stage = Stage::Doing { read_at };
        let life = self.procs[proc].life;
        self.schedule(cost, Event::KernelStep { proc, life });
    }

    fn do_order(&mut self, proc: usize, read_at: Instant) -> Outcome {
        let Some((_, job, _)) = self.procs[proc].thread.queue.front().cloned() else {
            return Outcome::Good;
        };
        if is_too_late(&job, read_at, self.procs[proc].thread.lead) {
            self.undo_order(proc, read_at, &job);
            return Outcome::TooLate;
        }
        if self.chance(self.faults.kernel_refuses) {
            return Outcome::Failed;
        }
        match &job {
            KernelJob::SendFrame { frame, .. }
                if self.procs[proc].thread.spoiled.contains(&Vip(frame.ip())) =>
            {
                return Outcome::Dropped;
            }
            KernelJob::HoldAddress { vip, .. } if self.procs[proc].thread.spoiled.contains(vip) => {
                return Outcome::Failed;
            }
            KernelJob::SendFrame { link, frame, until } => {
                return self.send_frame(proc, *link, *frame, *until);
            }
            KernelJob::Listen { links, more, less, anew } => {
                let thread = &mut self.procs[proc].thread;
                thread.links.clone_from(links);
                thread.vips.retain(|it| !anew && !less.contains(it));
                thread.vips.extend(more);
            }
            KernelJob::Clean { .. } => self.procs[proc].thread.cleaned = true,
            KernelJob::Answer { .. }
            | KernelJob::HoldAddress { .. }
            | KernelJob::Guard(_)
            | KernelJob::MakeLink(_)
            | KernelJob::RemoveAddress { .. }
            | KernelJob::RemoveLink { .. }
            | KernelJob::Silence { .. }
            | KernelJob::Unfence { .. }
            | KernelJob::VerifyFence => {}
        }
        let answer = self.with_kernel(proc, read_at, &job, |it, doing| it.carry_out(&job, doing));
        if matches!(job, KernelJob::Clean { .. }) {
            self.procs[proc].thread.missed_fence = answer == KernelAnswer::FenceRebuilt;
        }
        match answer {
            KernelAnswer::Done => Outcome::Good,
            KernelAnswer::FenceRebuilt => Outcome::Rebuilt,
            KernelAnswer::TooLate => Outcome::TooLate,
            KernelAnswer::Failed(_) | KernelAnswer::NoLink => Outcome::Failed,
            KernelAnswer::NotOurs(_) => Outcome::NotOurs,
        }
    }

    fn undo_order(&mut self, proc: usize, read_at: Instant, job: &KernelJob) {
        self.with_kernel(proc, read_at, job, |kernel, doing| ((), kernel.undo(job, doing)));
    }

    fn with_kernel<T>(
        &mut self,
        proc: usize,
        read_at: Instant,
        job: &KernelJob,
        act: impl FnOnce(&mut Kernel, &mut Doing<'_>) -> (T, Vec<NetworkChange>),
    ) -> T {
        let ever = self.furthest(proc, job);
        let it = &mut self.procs[proc];
        let Host { clock, kernel, .. } = &mut self.hosts[it.host];
        let doing = &mut Doing {
            mono: clock.mono(self.now),
            boot: clock.boot(self.now),
            read_at,
            by: Owner { proc, life: it.life },
            entitled: ever,
            prepares: self.cluster.is_some(),
            lead: it.thread.lead,
            fenced: &mut it.thread.fenced,
            guarded: &mut it.thread.guarded,
            rng: &mut self.rng,
        };
        let (result, told) = act(kernel, doing);
        let host = it.host;
        self.set_kernel_timer(host);
        told.into_iter().for_each(|it| self.notify(host, it));
        result
    }

    fn send_frame(
        &mut self,
        proc: usize,
        link: LinkIndex,
        frame: Frame,
        until: Instant,
    ) -> Outcome {
        let host = self.procs[proc].host;
        let kernel = &self.hosts[host].kernel;
        let Some(plug) = kernel.link.filter(|_| kernel.is_there(link)) else {
            return Outcome::Failed;
        };
        if self.local(proc) >= until {
            return Outcome::TooLate;
        }
        if !plug.up {
            return Outcome::Failed;
        }
        self.check_frame(proc, &frame);
        self.transmit(host, frame);
        Outcome::Good
    }

    fn finish_order(&mut self, proc: usize, read_at: Instant, outcome: Outcome) {
        if self.needs_another_attempt(proc, read_at, outcome) {
            return self.begin_order(proc);
        }
        let host = self.procs[proc].host;
        let thread = &mut self.procs[proc].thread;
        (thread.attempts, thread.lead) = (0, Duration::ZERO);
        let Some((order, job, last)) = thread.queue.pop_front() else { return };
        let now = self.local(proc);
        let late = end_of(&job).is_some_and(|it| it <= now)
            && matches!(outcome, Outcome::Good | Outcome::Rebuilt)
            && !matches!(job, KernelJob::SendFrame { .. });
        let answer = match outcome {
            Outcome::Good | Outcome::Rebuilt if late => {
                self.undo_order(proc, read_at, &job);
                KernelAnswer::TooLate
            }
            Outcome::Good => KernelAnswer::Done,
            Outcome::Rebuilt => KernelAnswer::FenceRebuilt,
            Outcome::Dropped => KernelAnswer::TooLate,
            Outcome::NotOurs => KernelAnswer::NotOurs("it is another's".into()),
            Outcome::TooLate => {
                self.procs[proc].thread.failed_at = Some(self.now);
                KernelAnswer::TooLate
            }
            Outcome::Failed => {
                self.procs[proc].thread.failed_at = Some(self.now);
                KernelAnswer::Failed("the kernel says no".into())
            }
        };
        self.note(|| (format!("kernel-{host}"), format!("{job:?} -> {answer:?}")));
        let thread = &mut self.procs[proc].thread;
        match &job {
            KernelJob::HoldAddress { vip, .. } if !answer.is_good() => thread.spoiled.push(*vip),
            KernelJob::Guard(all) if !answer.is_good() => {
                thread.spoiled.extend(all.iter().map(|it| it.vip));
            }
            KernelJob::Answer { vips, .. } | KernelJob::Silence { vips, .. }
                if !answer.is_good() =>
            {
                thread.spoiled.extend(vips);
            }
            _ => {}
        }
        if let Some(cluster) = &mut self.cluster
            && answer.is_good()
        {
            match &job {
                KernelJob::Clean { .. } => cluster.book.silenced(host, None),
                KernelJob::Silence { vips, .. } => cluster.book.silenced(host, Some(vips)),
                KernelJob::RemoveAddress { vip, .. } => {
                    cluster.book.silenced(host, Some(&[*vip]));
                }
                _ => {}
            }
        }
        // A frame that went out is not worth waking anybody for, if it asks nothing.
        let quiet = matches!(job, KernelJob::SendFrame { .. }) && !job.is_answered_when_done();
        if answer != KernelAnswer::Done || !quiet {
            thread.answers.push((order, answer));
        }
        if last {
            thread.spoiled.clear();
            let answers = std::mem::take(&mut thread.answers);
            if !answers.is_empty() {
                self.deliver(proc, Input::Kernel(answers));
            }
        }
        let it = &mut self.procs[proc];
        it.thread.stage = if it.thread.queue.is_empty() { Stage::Idle } else { Stage::Due };
        if it.thread.stage == Stage::Due {
            self.begin_order(proc);
        }
    }

    /// An answer ends late by as much as it took to write, unless it is written again.
    fn needs_another_attempt(&mut self, proc: usize, read_at: Instant, outcome: Outcome) -> bool {
        let now = self.local(proc);
        let thread = &mut self.procs[proc].thread;
        let Some((_, KernelJob::Answer { until, .. }, _)) = thread.queue.front() else {
            return false;
        };
        let took = now.saturating_since(read_at);
        let done = matches!(outcome, Outcome::Good | Outcome::Rebuilt) && now < *until;
        thread.attempts += 1;
        if !done || thread.attempts == 3 || took <= MARGIN + thread.lead {
            return false;
        }
        thread.lead = took;
        true
    }

    pub fn set_kernel_timer(&mut self, host: usize) {
        let it = &self.hosts[host];
        let mono = it.clock.mono(self.now);
        if let Some(end) = it.kernel.next_end(mono) {
            let at = it.clock.when_mono(end).max(self.now);
            let known = it.timer_at > self.now && it.timer_at <= at;
            if !known && at < self.now + 1_000 * SEC {
                self.hosts[host].timer_at = at;
                self.schedule(at - self.now, Event::KernelTimer { host });
            }
        }
    }

    pub fn kernel_timer(&mut self, host: usize) {
        if self.hosts[host].sleeps(self.now) {
            return;
        }
        let mono = self.hosts[host].clock.mono(self.now);
        let gone = self.hosts[host].kernel.sweep(mono);
        if !gone.is_empty() {
            self.hosts[host].lost_at = self.now;
        }
        gone.into_iter().for_each(|it| self.notify(host, it));
        self.set_kernel_timer(host);
    }
}
