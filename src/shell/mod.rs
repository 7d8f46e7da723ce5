//! The one loop: waits for inputs, lets the engine decide, performs its actions.
//!
//! One thread decides. Everything slow has a thread of its own and answers with an input:
//! the kernel, the API server's connections, the user's command.

mod api;
mod check;
mod orders;
mod replay;
mod telling;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

pub use check::{check, explain_access};
pub use replay::replay;

use crate::config::{Config, DnsMode, FenceSetting, VipSetting};
use crate::engine::{
    self, Action, AnnouncerConfig, Election, Family, Input, LeaseConfig, LinkChoice, Node, Rng,
    WantedVip,
};
use crate::io::kernel::{FromKernel, KernelOptions, KernelThread, Monitors};
use crate::io::notify::Notifier;
use crate::io::process::{Signal, Signals, entropy, host_id};
use crate::io::recorder::Recorder;
use crate::io::serve::{self, Door};
use crate::io::sleep::{Alarm, SleepGauge};
use crate::io::supervisor::Supervisor;
use crate::io::{clock, lock, logger};
use crate::model::{Author, Fences, Instant, KernelJob, OrderId, Vip};
use api::Api;

/// What the watch may say before it waits for the loop.
const INBOX: usize = 256;
/// Orders of operators that wait to be looked at.
const ORDERS: usize = 4;
/// How often to look whether the process that has the lock is gone.
const LOCK_EVERY: Duration = Duration::from_secs(1);
/// How long the user's command and the recording may take at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs a node until it is told to stop. `reload` reads the configuration again.
pub fn run(config: Config, reload: impl Fn() -> Result<Config, String>) -> Result<(), String> {
    if config.raft.is_some() {
        return Err("this build understands election by raft and does not run it yet".into());
    }
    let (watched, from_watch) = smol::channel::bounded(INBOX);
    let (answers, from_asked) = smol::channel::unbounded();
    let (kernel, fences, monitors) = start_kernel(&config, answers.clone())?;
    check::refuse_without_fence(&config, &fences)?;
    let seed = entropy();
    let author = Author { host: host_id(), life: entropy() };
    let engine_config = engine_config(&config, author, fences);
    let recorder = start_recorder(&config, &engine_config, seed)?;
    let node = Node::new(engine_config, Rng::from_seed(seed), clock::now());
    let shell = Shell {
        node: Rc::new(RefCell::new(node)),
        api: Api::start(config.clone(), answers.clone(), watched),
        kernel,
        notifier: config.notify.clone().map(Notifier::new),
        recorder,
        supervisor: Supervisor::from_env(),
        config,
        last_line: String::new(),
    };
    let executor = LocalExecutor::new();
    let inbox = Inbox { from_watch, from_asked };
    let alarm = Alarm::new().map_err(|it| format!("no timer of the boot clock: {it}"))?;
    // The reactor's own thread polls. Were it to share that with this one, each would wake
    // ten times to see whether the other does.
    let life = shell.live(&executor, &alarm, inbox, answers, monitors, reload);
    alarm.drive(executor.run(life)).map_err(|it| format!("cannot go on: {it}"))
}

struct Shell {
    node: Rc<RefCell<Node>>,
    config: Config,
    api: Api,
    kernel: KernelThread,
    notifier: Option<Notifier>,
    recorder: Option<Recorder>,
    supervisor: Option<Supervisor>,
    last_line: String,
}

/// The mail. A server may say on a watch what it likes, so that waits for room. The rest is
/// answers, as many as there were questions at most, and what one read of a socket gave.
struct Inbox {
    from_watch: Receiver<Input>,
    from_asked: Receiver<Input>,
}

enum Wake {
    Input(Input),
    Signal(Signal),
}

impl Shell {
    async fn live(
        mut self,
        executor: &LocalExecutor<'_>,
        alarm: &Alarm,
        inbox: Inbox,
        answers: Sender<Input>,
        monitors: Monitors,
        reload: impl Fn() -> Result<Config, String>,
    ) -> io::Result<()> {
        let lease = self.config.lease.clone();
        spawn(executor, monitors.run());
        spawn(executor, hold_lock(lease.namespace, lease.name, answers));
        spawn(executor, logger::tell_repeats());
        self.serve(executor);
        let signals = Signals::listen()?;
        let mut gauge = SleepGauge::new();
        let mut stop_asked = false;
        self.told_ready();
        loop {
            let wake = self.next(&inbox, &signals, alarm).await?;
            if gauge.slept().is_some() && self.turn(Input::Suspended) {
                break;
            }
            let ended = match wake {
                Wake::Input(input) => self.turn(input),
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
    /// so mail goes before a tick that is due: it may hold what the deadline waits for.
    async fn next(&self, inbox: &Inbox, signals: &Signals, alarm: &Alarm) -> io::Result<Wake> {
        let deadline = self.node.borrow().deadline().map(|it| it.at);
        if deadline.is_some_and(|at| at <= clock::now()) {
            smol::future::yield_now().await;
            return Ok(Wake::Input(inbox.from_asked.try_recv().unwrap_or(Input::Tick)));
        }
        let alive_at = self.supervisor.as_ref().and_then(|it| it.alive_every());
        let alive_at = alive_at.map(|it| clock::now() + it);
        let tick = async {
            match [deadline, alive_at].into_iter().flatten().min() {
                Some(at) => alarm.until(at).await?,
                None => std::future::pending().await,
            }
            Ok(Wake::Input(Input::Tick))
        };
        let signal = async { signals.next().await.map(Wake::Signal) };
        let mail = |from: &Receiver<Input>| {
            let from = from.clone();
            async move { Ok(Wake::Input(from.recv().await.unwrap_or(Input::Stop))) }
        };
        let wake = signal.or(mail(&inbox.from_watch)).or(mail(&inbox.from_asked)).or(tick).await;
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
        self.api.note(&input);
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
        for action in rest {
            ended |= self.perform(action);
        }
        self.tell_supervisor(now);
        ended
    }

    /// Everything that edgevip does to the world, but for what the kernel is asked.
    fn perform(&mut self, action: Action) -> bool {
        match action {
            Action::Answer { .. }
            | Action::Farewell(_)
            | Action::Probe(_)
            | Action::Send { .. }
            | Action::Store { .. } => {}
            Action::Exit => return true,
            Action::Kernel { order, job } => self.kernel.order(vec![(order, job)]),
            Action::Lease { request, call, give_up_at } => {
                self.api.lease(request, call, give_up_at);
            }
            Action::Side { request, call } => self.api.side(request, call),
            Action::Tell(notice) => {
                telling::log(&notice);
                if let Some(notifier) = &mut self.notifier {
                    telling::notify(&notice, notifier);
                }
            }
            Action::Watch { from } => self.api.watch(from),
        }
        false
    }

    fn serve(&self, executor: &LocalExecutor<'_>) {
        let node = Rc::clone(&self.node);
        let answer: serve::Answer = Rc::new(move |ask| {
            let status = node.borrow().status(clock::now());
            telling::answer(ask, &status)
        });
        let health = self.config.health_port.map(|it| (Door::Health, format!(":{it}")));
        let metrics = self.config.metrics.clone().map(|it| (Door::Metrics, it));
        for (door, address) in health.into_iter().chain(metrics) {
            let answer = Rc::clone(&answer);
            spawn(executor, async move { serve::serve_http(door, &address, answer).await });
        }
        let paths = serve::socket_paths(instance(&self.config));
        let (orders, given) = smol::channel::bounded(ORDERS);
        spawn(executor, orders::refuse(given));
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
        let vips = wanted(&self.config);
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

/// The name that `edgevip status` finds this process by.
pub fn instance(config: &Config) -> &str {
    config.instance.as_deref().unwrap_or("edgevip")
}

fn start_kernel(
    config: &Config,
    answers: Sender<Input>,
) -> Result<(KernelThread, Fences, Monitors), String> {
    let options = KernelOptions {
        instance: config.instance.clone(),
        fence: config.fence != FenceSetting::Off,
        lo_global_scope: config.lo_global_scope,
    };
    let deliver = move |news: FromKernel| {
        let input = match news {
            FromKernel::Answers(answers) => Input::Kernel(answers),
            FromKernel::Heard(heard) => Input::Heard(heard),
            FromKernel::Network(change) => Input::Network(change),
            FromKernel::RulesetChanged => Input::RulesetChanged,
        };
        let _ = answers.try_send(input);
    };
    KernelThread::start(options, Arc::new(deliver))
        .map_err(|it| format!("cannot reach the kernel: {it}"))
}

fn engine_config(config: &Config, author: Author, fences: Fences) -> engine::Config {
    engine::Config {
        me: config.node.clone(),
        author,
        election: Election::Lease(LeaseConfig {
            name: format!("{}/{}", config.lease.namespace, config.lease.name),
            duration: config.lease.duration,
            renew_deadline: config.lease.renew_deadline,
            retry_period: config.lease.retry_period,
        }),
        vips: wanted(config),
        family: match config.dns_mode {
            DnsMode::Dual => Family::Dual,
            DnsMode::First => Family::First,
            DnsMode::Ipv4 => Family::Ipv4,
            DnsMode::Ipv6 => Family::Ipv6,
        },
        lengths: (config.length_v4, config.length_v6),
        link: config.link.clone().map_or(LinkChoice::Auto, LinkChoice::Named),
        announcer: AnnouncerConfig { refresh: config.refresh, fences },
        skip_dad: config.skip_dad,
        preserve: config.preserve,
        label_node: config.label_node,
    }
}

fn wanted(config: &Config) -> Vec<WantedVip> {
    let wanted = |it: &VipSetting| match it {
        VipSetting::Address(ip) => WantedVip::Address(Vip(*ip)),
        VipSetting::Name(name) => WantedVip::Name(name.clone()),
    };
    config.vips.iter().map(wanted).collect()
}

fn start_recorder(
    config: &Config,
    engine_config: &engine::Config,
    seed: u64,
) -> Result<Option<Recorder>, String> {
    let Some(path) = &config.record else {
        return Ok(None);
    };
    let header = json!({ "edgevip": crate::VERSION, "seed": seed, "config": engine_config });
    let recorder = Recorder::create(path, &header);
    recorder.map(Some).map_err(|it| format!("cannot record to {}: {it}", path.display()))
}

/// One kind of task, so that the executor's code is there once.
fn spawn<'a>(executor: &LocalExecutor<'a>, task: impl Future<Output = ()> + 'a) {
    executor.spawn(task.boxed_local()).detach();
}

/// Holds the lock that makes this process the one of its host, or waits for it.
async fn hold_lock(namespace: String, name: String, inbox: Sender<Input>) {
    let mut told = false;
    loop {
        match lock::try_lock(&namespace, &name) {
            Ok(Some(lock)) => {
                let _ = inbox.send(Input::Lock { held: true }).await;
                let _held_for_life = lock;
                return std::future::pending().await;
            }
            Ok(None) if !told => {
                told = true;
                let _ = inbox.send(Input::Lock { held: false }).await;
            }
            Ok(None) => {}
            Err(why) => log::error!("cannot take the lock of this host: {why}"),
        }
        smol::Timer::after(LOCK_EVERY).await;
    }
}
