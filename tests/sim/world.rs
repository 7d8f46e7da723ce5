//! The world: true time, the queue of what is to happen, and who it happens to.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Duration;

use edgevip::engine::{
    AnnouncerConfig, Config, Election, Family, Input, LeaseConfig, LinkChoice, Rng, WantedVip,
};
use edgevip::model::{
    Author, DhcpHeard, DhcpPacket, Fences, Followed, GatewayCall, GatewayReply, LeaseCall,
    LeaseReply, LinkIndex, LinkName, Mac, NetworkChange, NodeName, ObjectCall, ObjectEvent,
    ObjectReply, RequestId, ResourceVersion, Vip, WatchEvent,
};

use crate::apiserver::ApiServer;
use crate::cloud::Cloud;
use crate::cluster::{Cluster, Quorum};
use crate::faults::{Faults, Kind};
use crate::foreign::Foreign;
use crate::host::{Clock, Host, MS, Nanos, SEC, mac_of};
use crate::kernel::Kernel;
use crate::lan::Client;
use crate::process::Proc;
use crate::wires::Weather;

pub enum Event {
    Ask {
        proc: usize,
        of: usize,
        life: u32,
        request: RequestId,
        call: Box<LeaseCall>,
        stamp: u64,
        slow: bool,
    },
    AskDhcp {
        proc: usize,
        packet: Box<DhcpPacket>,
    },
    AskGateway {
        proc: usize,
        life: u32,
        request: RequestId,
        call: Box<GatewayCall>,
    },
    AskObject {
        proc: usize,
        life: u32,
        request: RequestId,
        call: Box<ObjectCall>,
        slow: bool,
    },
    Asked {
        proc: usize,
        life: u32,
        request: RequestId,
        reply: Box<ObjectReply>,
    },
    Bookmark,
    BurstDue {
        host: usize,
        at: usize,
        since: Nanos,
    },
    Clears(Kind),
    ClientLooks,
    Collect,
    Datagram {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    Deliver {
        proc: usize,
        life: u32,
        input: Box<Input>,
    },
    Follow {
        proc: usize,
        life: u32,
        id: u32,
        what: Followed,
        from: Option<ResourceVersion>,
    },
    ForeignTries,
    ForeignWrites {
        version: Option<ResourceVersion>,
        sent: Nanos,
    },
    Frame {
        to: Ear,
        mac: Mac,
        ip: IpAddr,
        probe: bool,
    },
    GiveUp {
        proc: usize,
        life: u32,
        request: RequestId,
    },
    HearDhcp {
        host: usize,
        heard: Box<DhcpHeard>,
    },
    HearGateway {
        proc: usize,
        life: u32,
        request: RequestId,
        reply: Box<GatewayReply>,
    },
    KernelStep {
        proc: usize,
        life: u32,
    },
    KernelTimer {
        host: usize,
    },
    Kick {
        host: usize,
    },
    LinkBack {
        host: usize,
    },
    Lock {
        host: usize,
    },
    Mischief,
    Objects {
        proc: usize,
        life: u32,
        id: u32,
        what: Followed,
        events: Vec<ObjectEvent>,
    },
    OpenWatch {
        proc: usize,
        life: u32,
        id: u32,
        from: Option<ResourceVersion>,
    },
    PlugBack {
        host: usize,
    },
    Reply {
        proc: usize,
        life: u32,
        request: RequestId,
        reply: Box<LeaseReply>,
    },
    Start {
        proc: usize,
    },
    Turn {
        proc: usize,
        life: u32,
    },
    Users,
    Wake {
        proc: usize,
        life: u32,
    },
    Watch {
        proc: usize,
        life: u32,
        id: u32,
        event: Box<WatchEvent>,
    },
    Written {
        proc: usize,
        life: u32,
        number: u64,
    },
}

/// Who hears a frame.
#[derive(Clone, Copy)]
pub enum Ear {
    Client,
    Host(usize),
}

/// What the nodes of a run have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    pub lease: LeaseConfig,
    /// Elect by this instead.
    pub quorum: Option<Quorum>,
    pub fenced: bool,
    pub two_families: bool,
    pub by_name: bool,
    pub preserve: bool,
    pub label: bool,
    pub events_forbidden: bool,
    pub refresh: Duration,
}

impl Settings {
    pub fn stock() -> Self {
        Self {
            lease: LeaseConfig {
                name: "kube-system/plndr-cp-lock".into(),
                duration: Duration::from_secs(15),
                renew_deadline: Duration::from_secs(10),
                retry_period: Duration::from_secs(2),
            },
            quorum: None,
            fenced: true,
            two_families: false,
            by_name: false,
            preserve: false,
            label: false,
            events_forbidden: false,
            refresh: Duration::from_secs(10),
        }
    }

    pub fn vips(&self) -> Vec<Vip> {
        let count = self.quorum.as_ref().map_or(1, |it| it.vips);
        let vip = |it: String| Vip(it.parse().expect("an address"));
        let v4 = (0..count).map(|it| vip(format!("10.0.0.{}", 42 + it)));
        let v6 = self.two_families.then(|| vip("fd00::42".to_owned()));
        v4.chain(v6).collect()
    }

    /// What the process adds is its name, its author and its lease.
    pub fn node(&self, fences: &Fences) -> Config {
        let addresses = || self.vips().into_iter().map(WantedVip::Address).collect();
        let vips = if self.by_name { vec![WantedVip::Name("vip".into())] } else { addresses() };
        Config {
            me: NodeName("".into()),
            author: Author { host: 0, life: 0 },
            election: Election::Lease(self.lease.clone()),
            vips,
            family: if self.two_families { Family::Dual } else { Family::First },
            lengths: (32, 128),
            link: LinkChoice::Named(LinkName("eth0".into())),
            announcer: AnnouncerConfig { refresh: self.refresh, fences: fences.clone() },
            skip_dad: false,
            preserve: self.preserve,
            label_node: self.label,
            services: None,
        }
    }
}

pub struct World {
    pub now: Nanos,
    pub rng: Rng,
    pub settings: Settings,
    pub vips: Vec<Vip>,
    pub hosts: Vec<Host>,
    pub procs: Vec<Proc>,
    pub client: Client,
    pub api: ApiServer,
    /// The Leases of Services.
    pub more: [ApiServer; 2],
    pub foreign: Option<Foreign>,
    pub cluster: Option<Box<Cluster>>,
    pub cloud: Option<Box<Cloud>>,
    /// Something may go wrong so often.
    pub pace: Nanos,
    pub faults: Faults,
    pub weather: Weather,
    /// A host that is not ours uses the VIPs until then.
    pub stranger_until: Nanos,
    /// The API server's own memory was changed: no safety is promised until then.
    pub lied_until: Nanos,
    /// Links, addresses or rulesets were last meddled with.
    pub disturbed_at: Nanos,
    /// Nothing has gone wrong since.
    pub fair_since: Nanos,
    pub longest_lease: Nanos,
    pub answering_since: Vec<Vec<Option<Nanos>>>,
    pub announced_at: Vec<Vec<Nanos>>,
    pub answered_by: Vec<Option<usize>>,
    pub takeovers: u64,
    pub calls: u64,
    pub side_calls: u64,
    pub events: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    seq: u64,
    failure: Option<String>,
    pub log: Log,
}

/// What happens to the words about a run.
pub enum Log {
    Hash(u64),
    None,
    Print,
}

impl World {
    /// Nodes start one millisecond after another, so the first one leads.
    pub fn new(settings: Settings, rates: &[u64], rng: Rng) -> Self {
        let vips = settings.vips();
        let no_fence = || Err("not in this kernel".to_owned());
        let v4 = if settings.fenced { Ok(()) } else { no_fence() };
        let fences = Fences { v6: v4.clone(), v4 };
        let hosts = rates.iter().enumerate().map(|(at, rate)| {
            let own = vec![own_address(at, "10.0.0.", 24), own_address(at, "fd00::", 64)];
            let kernel = Kernel::new(mac_of(at), LinkIndex(2), own, fences.clone());
            Host::new(at, Clock::new(1_000 * SEC * (at as u64 + 1), *rate), kernel)
        });
        let hosts: Vec<_> = hosts.collect();
        let procs = (0..hosts.len())
            .map(|at| Proc::new(at, NodeName(format!("node-{at}").into()), settings.lease.clone()));
        let (procs, longest_lease) = (procs.collect(), settings.lease.duration.as_nanos() as u64);
        let mut world = Self {
            now: 0,
            rng,
            answering_since: vec![vec![None; vips.len()]; hosts.len()],
            announced_at: vec![vec![0; vips.len()]; hosts.len()],
            answered_by: vec![None; vips.len()],
            settings,
            vips,
            hosts,
            procs,
            client: Client::default(),
            api: ApiServer::default(),
            more: Default::default(),
            foreign: None,
            cluster: None,
            cloud: None,
            pace: SEC,
            faults: Faults::none(),
            weather: Weather::default(),
            stranger_until: 0,
            lied_until: 0,
            disturbed_at: 0,
            fair_since: 0,
            longest_lease,
            takeovers: 0,
            calls: 0,
            side_calls: 0,
            events: 0,
            queue: BinaryHeap::new(),
            seq: 0,
            failure: None,
            log: Log::None,
        };
        let hosts = world.hosts.len();
        world.cluster = world.settings.quorum.clone().map(|it| Box::new(Cluster::new(it, hosts)));
        world.schedule(SEC, Event::ClientLooks);
        world.schedule(SEC, Event::Mischief);
        world.schedule(60 * SEC, Event::Bookmark);
        world
    }

    pub fn with_log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }

    pub fn start_all(&mut self) {
        for proc in 0..self.procs.len() {
            self.schedule(MS * proc as u64, Event::Start { proc });
        }
    }

    pub fn run_for(&mut self, span: Nanos) -> Result<(), String> {
        self.run_until(self.now + span)
    }

    pub fn run_until(&mut self, end: Nanos) -> Result<(), String> {
        while self.failure.is_none() && self.queue.peek().is_some_and(|Reverse(it)| it.at <= end) {
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.events += 1;
            self.step(next.event);
            self.check();
            self.check_services();
            self.account();
            if self.events.is_multiple_of(16) {
                self.check_lifetimes();
            }
        }
        self.now = self.now.max(end);
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Runs until `is_so`, but not longer than `span`.
    pub fn run_until_so(
        &mut self,
        span: Nanos,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<bool, String> {
        let end = self.now + span;
        while !is_so(self) {
            let Some(next) = self.queue.peek().map(|Reverse(it)| it.at).filter(|it| *it <= end)
            else {
                self.now = end;
                return Ok(false);
            };
            self.run_until(next)?;
        }
        Ok(true)
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Ask { .. } => self.on_ask(event),
            Event::AskDhcp { proc, packet } => self.on_ask_dhcp(proc, *packet),
            Event::AskGateway { .. } => self.on_ask_gateway(event),
            Event::AskObject { .. } => self.on_ask_object(event),
            Event::Asked { proc, life, request, reply } => {
                self.on_asked(proc, life, request, *reply);
            }
            Event::Bookmark => self.bookmark(),
            Event::BurstDue { host, at, since } => self.check_burst(host, at, since),
            Event::Clears(kind) => self.clear(kind),
            Event::ClientLooks => self.client_looks(),
            Event::Collect => self.collect(),
            Event::Datagram { from, to, bytes } => self.on_datagram(from, to, &bytes),
            Event::Deliver { proc, life, input } if self.lives(proc, life) => {
                self.deliver(proc, *input);
            }
            Event::Follow { .. } => self.on_follow(event),
            Event::ForeignTries => self.foreign_tries(),
            Event::ForeignWrites { version, sent } => self.foreign_writes(version, sent),
            Event::Frame { to, mac, ip, probe } => self.on_frame(to, mac, ip, probe),
            Event::HearDhcp { host, heard } => self.on_hear_dhcp(host, &heard),
            Event::HearGateway { proc, life, request, reply } => {
                self.on_hear_gateway((proc, life), request, *reply);
            }
            Event::GiveUp { proc, life, request } => self.on_give_up(proc, life, request),
            Event::KernelStep { proc, life } if self.lives(proc, life) => self.kernel_step(proc),
            Event::KernelTimer { host } => self.kernel_timer(host),
            Event::Kick { host } => self.kick(host),
            Event::LinkBack { host } => self.add_link(host),
            Event::Lock { host } => self.hand_lock_on(host),
            Event::Mischief => self.mischief(),
            Event::Objects { proc, life, id, what, events } => {
                self.on_objects((proc, life, id), what, events);
            }
            Event::OpenWatch { proc, life, id, from } => self.open_watch(proc, life, id, from),
            Event::PlugBack { host } => self.set_carrier(host, true),
            Event::Reply { proc, life, request, reply } => {
                self.on_reply(proc, life, request, *reply);
            }
            Event::Start { proc } => self.start(proc),
            Event::Turn { proc, life } if self.lives(proc, life) => self.turn(proc),
            Event::Users => self.users_act(),
            Event::Wake { proc, life } if self.lives(proc, life) => self.wake(proc),
            Event::Watch { proc, life, id, event } => self.on_watch(proc, life, id, *event),
            Event::Written { proc, life, number } if self.lives(proc, life) => {
                self.on_written(proc, number);
            }
            Event::Deliver { .. }
            | Event::KernelStep { .. }
            | Event::Turn { .. }
            | Event::Wake { .. }
            | Event::Written { .. } => {}
        }
    }

    fn lives(&self, proc: usize, life: u32) -> bool {
        self.procs[proc].life == life
    }

    pub fn procs_on(&self, host: usize) -> impl Iterator<Item = usize> + use<> {
        let on: Vec<_> = (0..self.procs.len()).filter(|it| self.procs[*it].host == host).collect();
        on.into_iter()
    }

    pub fn local(&self, proc: usize) -> edgevip::model::Instant {
        self.hosts[self.procs[proc].host].clock.boot(self.now)
    }

    /// The kernel tells every process of the host what changed.
    pub fn notify(&mut self, host: usize, change: NetworkChange) {
        for proc in self.procs_on(host) {
            self.notify_proc(proc, change.clone());
        }
    }

    pub fn notify_proc(&mut self, proc: usize, change: NetworkChange) {
        let delay = self.quick(MS / 5, 5 * MS);
        let it = &mut self.procs[proc];
        it.told_at = (self.now + delay).max(it.told_at + 1);
        let (life, delay) = (it.life, it.told_at - self.now);
        let input = Box::new(Input::Network(change));
        self.schedule(delay, Event::Deliver { proc, life, input });
    }

    pub fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.rng.below(1_000) < permille
    }

    pub fn schedule(&mut self, delay: Nanos, event: Event) {
        self.seq += 1;
        self.queue.push(Reverse(Scheduled { at: self.now + delay, seq: self.seq, event }));
    }

    pub fn fail(&mut self, why: String) {
        self.note(|| ("FAILURE".into(), why.clone()));
        let at = self.now as f64 / 1e9;
        self.failure.get_or_insert_with(|| format!("at {at:.6}s: {why}"));
    }

    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Who, and what; in columns.
    pub fn note(&mut self, words: impl FnOnce() -> (String, String)) {
        if matches!(self.log, Log::None) {
            return;
        }
        let (who, what) = words();
        let line = format!("{:12.6} {who:<9} {what}", self.now as f64 / 1e9);
        match &mut self.log {
            Log::Hash(hash) => {
                let mix = |it: u64, byte| (it ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                *hash = line.bytes().fold(*hash, mix);
            }
            Log::None => {}
            Log::Print => eprintln!("{line}"),
        }
    }

    pub fn fingerprint(&self) -> Option<u64> {
        match self.log {
            Log::Hash(hash) => Some(hash),
            Log::None | Log::Print => None,
        }
    }
}

fn own_address(host: usize, net: &str, length: u8) -> (IpAddr, u8) {
    (format!("{net}{}", 11 + host).parse().expect("an address"), length)
}

struct Scheduled {
    at: Nanos,
    seq: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Scheduled {}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
