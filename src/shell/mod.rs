//! The one loop: waits for inputs, lets the engine decide, performs its actions.
//!
//! One thread decides. Everything slow has a thread of its own and answers with an input:
//! the kernel, the API server's connections, the user's command.

mod api;
mod beside;
mod check;
mod members;
mod orders;
mod others;
mod replay;
mod start;
mod telling;

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use smol::LocalExecutor;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

pub use beside::beside;
pub use check::{check, explain_access};
pub use replay::replay;

use crate::config::Config;
use crate::engine::{Action, Input, Node, Rng};
use crate::io::kernel::{KernelThread, Monitors};
use crate::io::notify::Notifier;
use crate::io::process::{Signal, Signals, entropy, host_id};
use crate::io::recorder::Recorder;
use crate::io::serve::{self, Door, Order};
use crate::io::sleep::{Alarm, SleepGauge};
use crate::io::supervisor::Supervisor;
use crate::io::{clock, logger};
use crate::model::{Author, Followed, Instant, KernelJob, OrderId};
use api::Api;
use members::Members;
use orders::Operators;
use others::Others;

/// What the watch may say before it waits for the loop.
const INBOX: usize = 256;
/// Signals that wait: one of each kind, and a second to stop.
const SIGNALS: usize = 4;
/// Orders of operators that wait to be looked at.
const ORDERS: usize = 4;
/// Members of quorums on one host are told apart by their names.
const RAFT_LOCKS: &str = "raft";
/// How often to look whether the process that has the lock is gone.
const LOCK_EVERY: Duration = Duration::from_secs(1);
/// How long the user's command and the recording may take at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs a node until it is told to stop. `reload` reads the configuration again.
pub fn run(config: Config, reload: impl Fn() -> Result<Config, String>) -> Result<(), String> {
    let (watched, from_watch) = smol::channel::bounded(INBOX);
    let (answers, from_asked) = smol::channel::unbounded();
    let (kernel, fences, monitors) = start::start_kernel(&config, answers.clone())?;
    check::refuse_without_fence(&config, &fences)?;
    let seed = entropy();
    let author = Author { host: host_id(), life: entropy() };
    let (news, from_followed) = smol::channel::unbounded();
    let gateway = start::start_gateway(&config, &answers);
    let mut others = Others::with(gateway);
    let mut quorum = None;
    match &config.raft {
        None => others.api = Some(Box::new(Api::start(&config, answers.clone(), watched, news))),
        Some(raft) => {
            let named = config.instance.as_deref();
            let beside = members::beside(&config, author);
            if beside.is_some() || config.services.is_some() {
                let api = Api::start(&config, answers.clone(), watched.clone(), news.clone());
                others.api = Some(Box::new(api));
            }
            let (members, elects) = Members::start(raft, named, beside, &answers)?;
            others.members = Some(Box::new(members));
            quorum = Some(elects);
        }
    }
    if config.services.is_some() {
        others.open_dhcp()?;
    }
    let engine_config = start::engine_config(&config, author, fences, quorum);
    let recorder = start::start_recorder(&config, &engine_config, seed)?;
    let node = Node::new(engine_config, Rng::from_seed(seed), clock::now());
    let (orders, from_operators) = smol::channel::bounded(ORDERS);
    let shell = Shell {
        node: Rc::new(RefCell::new(node)),
        others,
        operators: Operators::default(),
        kernel,
        notifier: config.notify.clone().map(Notifier::new),
        recorder,
        supervisor: Supervisor::from_env(),
        config,
        last_line: String::new(),
    };
    let executor = LocalExecutor::new();
    let inbox = Inbox { from_watch, from_asked, from_followed, from_operators };
    let alarm = Alarm::new().map_err(|it| format!("no timer of the boot clock: {it}"))?;
    // The reactor's own thread polls. Were it to share that with this one, each would wake
    // ten times to see whether the other does.
    let peers = shell.others.members.as_ref().map(|it| it.peers());
    let edges = Edges { answers, orders, monitors };
    let life = shell.live(&executor, &alarm, inbox, edges, reload);
    let ear = peers.as_ref().map(|it| it.as_fd());
    alarm.drive(executor.run(life), ear).flatten().map_err(|it| format!("cannot go on: {it}"))
}

struct Shell {
    node: Rc<RefCell<Node>>,
    config: Config,
    others: Others,
    operators: Operators,
    kernel: KernelThread,
    notifier: Option<Notifier>,
    recorder: Option<Recorder>,
    supervisor: Option<Supervisor>,
    last_line: String,
}

/// Where tasks of the executor put their mail.
struct Edges {
    answers: Sender<Input>,
    orders: Sender<Order>,
    monitors: Monitors,
}

/// The mail. A server may say on a watch what it likes, so that waits for room, and what is
/// followed waits at its edge until it is fetched. The rest is answers, as many as there were
/// questions at most, and what one read of a socket gave.
struct Inbox {
    from_watch: Receiver<Input>,
    from_asked: Receiver<Input>,
    from_followed: Receiver<Followed>,
    from_operators: Receiver<Order>,
}

enum Wake {
    Input(Input),
    News(Followed),
    Order(Order),
    Signal(Signal),
}

impl Shell {
    async fn live(
        mut self,
        executor: &LocalExecutor<'_>,
        alarm: &Alarm,
        inbox: Inbox,
        edges: Edges,
        reload: impl Fn() -> Result<Config, String>,
    ) -> io::Result<()> {
        let only_services = self.config.services.as_ref().filter(|_| self.config.vips.is_empty());
        let (namespace, name) = match (&self.config.raft, only_services) {
            (None, Some(services)) => services.lease.clone(),
            (None, None) => (self.config.lease.namespace.clone(), self.config.lease.name.clone()),
            (Some(raft), _) => (RAFT_LOCKS.to_owned(), raft.me.to_string()),
        };
        spawn(executor, edges.monitors.run());
        if let Some(ear) = self.others.hear_dhcp(edges.answers.clone())? {
            spawn(executor, ear);
        }
        spawn(executor, start::hold_lock(namespace, name, edges.answers));
        spawn(executor, logger::tell_repeats());
        self.serve(executor, edges.orders);
        let (signals, from_signals) = smol::channel::bounded(SIGNALS);
        spawn(executor, signal(Signals::listen()?, signals));
        let mut gauge = SleepGauge::new();
        let mut stop_asked = false;
        self.told_ready();
        loop {
            let wake = self.next(&inbox, &from_signals, alarm).await?;
            if gauge.slept().is_some() && self.turn(Input::Suspended) {
                break;
            }
            let ended = match wake {
                Wake::Input(input) => self.turn(input),
                Wake::News(what) => match self.others.news(&what) {
                    events if events.is_empty() => false,
                    events => self.turn(Input::Objects { what, events }),
                },
                Wake::Order(order) => {
                    let input = self.operators.take(order);
                    self.turn(input)
                }
                Wake::Signal(Signal::Stop) if stop_asked => break,
                Wake::Signal(Signal::Stop) => {
                    stop_asked = true;
                    if let Some(it) = &self.supervisor {
                        it.stopping();
                    }
                    self.turn(Input::Stop)
                }
                Wake::Signal(Signal::Reload) => self.reload(&reload),
                Wake::Signal(Signal::Dump) => self.dump(),
            };
            if ended {
                break;
            }
        }
        log::info!("stopped");
        if let Some(it) = self.notifier.take() {
            it.finish(LAST_WORDS);
        }
        if let Some(it) = self.recorder.take() {
            it.finish(LAST_WORDS);
        }
        log::logger().flush();
        Ok(())
    }

    /// The next thing to handle. Whatever is handed to the node, it looks at the time first,
    /// so mail goes before a tick that is due: it may hold what the deadline waits for, and
    /// what is due for thousands of VIPs takes more ticks than one.
    async fn next(
        &self,
        inbox: &Inbox,
        signals: &Receiver<Signal>,
        alarm: &Alarm,
    ) -> io::Result<Wake> {
        let deadline = self.node.borrow().deadline().map(|it| it.at);
        let due = deadline.is_some_and(|at| at <= clock::now());
        if due {
            smol::future::yield_now().await;
        }
        let alive_at = self.supervisor.as_ref().and_then(|it| it.alive_every());
        let alive_at = alive_at.map(|it| clock::now() + it);
        let tick = async {
            match [deadline, alive_at].into_iter().flatten().min() {
                Some(_) if due => {}
                Some(at) => alarm.until(at).await?,
                None => std::future::pending().await,
            }
            Ok(Wake::Input(Input::Tick))
        };
        let signal = async {
            match signals.recv().await {
                Ok(signal) => Ok(Wake::Signal(signal)),
                Err(_) => Err(io::Error::other("signals cannot be heard any more")),
            }
        };
        let mail = |from: &Receiver<Input>| {
            let from = from.clone();
            async move { Ok(Wake::Input(from.recv().await.unwrap_or(Input::Stop))) }
        };
        let orders = inbox.from_operators.clone();
        let order = async move {
            match orders.recv().await {
                Ok(order) => Ok(Wake::Order(order)),
                Err(_) => std::future::pending().await,
            }
        };
        // The loop's own thread waits for what members say, and polls this when they do.
        let heard = std::future::poll_fn(|_| match self.others.hear() {
            Ok(Some(input)) => Poll::Ready(Ok(Wake::Input(input))),
            Ok(None) => Poll::Pending,
            Err(why) => Poll::Ready(Err(why)),
        });
        let news = async {
            match inbox.from_followed.recv().await {
                Ok(what) => Ok(Wake::News(what)),
                Err(_) => std::future::pending().await,
            }
        };
        let asked = mail(&inbox.from_asked).or(order);
        let elections = signal.or(mail(&inbox.from_watch)).or(asked).or(heard);
        let wake = elections.or(news).or(tick).await;
        if let Some(it) = &self.supervisor {
            it.alive();
        }
        wake
    }

    /// One input, and all that follows from it. Returns whether the process may end.
    fn turn(&mut self, input: Input) -> bool {
        let now = clock::now();
        if let Some(recorder) = &self.recorder {
            recorder.write(now, &input);
        }
        if let Some(api) = &mut self.others.api {
            api.note(&input);
        }
        let mut orders: Vec<(OrderId, KernelJob)> = Vec::new();
        let mut rest = Vec::new();
        for action in self.node.borrow_mut().handle(now, input) {
            match action {
                Action::Kernel { order, job } => orders.push((order, job)),
                other => rest.push(other),
            }
        }
        if !orders.is_empty() {
            self.kernel.order(orders);
        }
        let mut ended = false;
        let mut changed = self.last_line.is_empty();
        for action in rest {
            changed |= matches!(action, Action::Tell(_));
            ended |= self.perform(action);
        }
        if changed {
            self.tell_supervisor(now);
        }
        ended
    }

    /// Everything that edgevip does to the world, but for what the kernel is asked.
    fn perform(&mut self, action: Action) -> bool {
        match action {
            Action::Answer { request, outcome } => self.operators.answer(request, outcome),
            Action::Exit => return true,
            Action::Kernel { order, job } => self.kernel.order(vec![(order, job)]),
            Action::Ask { .. }
            | Action::Dhcp(_)
            | Action::Farewell(_)
            | Action::Follow { .. }
            | Action::Gateway { .. }
            | Action::Lease { .. }
            | Action::Listen(_)
            | Action::Probe(_)
            | Action::Send { .. }
            | Action::Side { .. }
            | Action::Store { .. }
            | Action::Unfollow(_)
            | Action::Watch { .. } => self.others.perform(action),
            Action::Tell(notice) => {
                telling::log(&notice);
                if let Some(notifier) = &mut self.notifier {
                    telling::notify(&notice, notifier);
                }
            }
        }
        false
    }

    fn serve(&self, executor: &LocalExecutor<'_>, orders: Sender<Order>) {
        let node = Rc::clone(&self.node);
        let peers = self.others.members.as_ref().map(|it| it.peers());
        let answer: serve::Answer = Rc::new(move |ask| {
            let mut status = node.borrow().status(clock::now());
            if let (Some(quorum), Some(peers)) = (&mut status.quorum, &peers) {
                members::add_bad(quorum, &peers.bad());
            }
            telling::answer(ask, &status)
        });
        let health = self.config.health_port.map(|it| (Door::Health, format!(":{it}")));
        let metrics = self.config.metrics.clone().map(|it| (Door::Metrics, it));
        for (door, address) in health.into_iter().chain(metrics) {
            let answer = Rc::clone(&answer);
            spawn(executor, async move { serve::serve_http(door, &address, answer).await });
        }
        let paths = serve::socket_paths(instance(&self.config));
        spawn(executor, async move { serve::serve_unix(&paths, answer, orders).await });
    }

    /// A configuration that is bad keeps the one that is good.
    fn reload(&mut self, read: &impl Fn() -> Result<Config, String>) -> bool {
        if let Some(it) = &self.supervisor {
            it.reloading();
        }
        let ended = match read() {
            Err(why) => {
                log::error!("configuration not read again, the old one stays: {why}");
                false
            }
            Ok(config) => self.apply(config),
        };
        self.told_ready();
        ended
    }

    fn apply(&mut self, new: Config) -> bool {
        let old = &self.config;
        let mut applied = old.clone();
        applied.vips.clone_from(&new.vips);
        applied.refresh = new.refresh;
        applied.notify.clone_from(&new.notify);
        applied.log_level = new.log_level;
        if applied != new {
            log::warn!(
                "of the new configuration only VIPs, announcement rate, notify command and log \
                 level apply now; the rest needs a restart"
            );
        }
        if applied == *old {
            log::info!("configuration read again: nothing that applies has changed");
            return false;
        }
        log::info!("configuration read again");
        logger::set_level(applied.log_level);
        if applied.notify != old.notify {
            self.notifier = applied.notify.clone().map(Notifier::new);
        }
        self.config = applied;
        let vips = start::wanted(&self.config);
        self.turn(Input::Reload { vips, refresh: self.config.refresh })
    }

    /// SIGUSR1, as the peer has it.
    fn dump(&self) -> bool {
        let status = self.node.borrow().status(clock::now());
        println!("{}", telling::dump(&self.config, &status));
        false
    }

    fn told_ready(&self) {
        if let Some(it) = &self.supervisor {
            it.ready();
        }
    }

    fn tell_supervisor(&mut self, now: Instant) {
        let Some(supervisor) = &self.supervisor else {
            return;
        };
        let line = telling::one_line(&self.node.borrow().status(now));
        if self.last_line != line {
            supervisor.status(&line);
            self.last_line = line;
        }
    }
}

/// Hands signals on. Were the loop to wait for them itself, it would ask for them each turn.
async fn signal(signals: Signals, to: Sender<Signal>) {
    while let Ok(signal) = signals.next().await {
        if to.send(signal).await.is_err() {
            return;
        }
    }
}

/// The name that `edgevip status` finds this process by.
pub fn instance(config: &Config) -> &str {
    config.instance.as_deref().unwrap_or("edgevip")
}

/// One kind of task, so that the executor's code is there once.
fn spawn<'a>(executor: &LocalExecutor<'a>, task: impl Future<Output = ()> + 'a) {
    executor.spawn(task.boxed_local()).detach();
}
