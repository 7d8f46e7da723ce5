//! A workbench for one node: it answers the kernel's orders and remembers what was asked.

use std::time::Duration;

use edgevip::engine::{
    Action, AnnouncerConfig, Config, Election, Family, Input, LeaseConfig, LinkChoice, Node,
    Notice, Rng, WantedVip,
};
use edgevip::model::{
    Address, ApiFault, ApiFaultKind, Author, Fences, Hardware, Heard, Instant, KernelAnswer,
    KernelJob, Lease, LeaseCall, LeaseRecord, LeaseReply, Link, LinkIndex, LinkKind, LinkName, Mac,
    NetworkChange, NodeName, OrderId, RequestId, ResourceVersion, SideCall, SideReply, Status, Vip,
    WatchEvent,
};

const LEASE: &str = "kube-system/plndr-cp-lock";
pub const ME: &str = "n1";
pub const OTHER: &str = "n2";
pub const MY_HOST: u64 = 1;
pub const VIP: Vip = Vip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 42)));

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn eth0() -> Link {
    Link {
        index: LinkIndex(2),
        name: LinkName("eth0".into()),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        hardware: Hardware::Ethernet,
        up: true,
        carrier: true,
        kind: LinkKind::Other,
        ours: false,
    }
}

pub fn own_address() -> Address {
    let ip = std::net::IpAddr::from([10, 0, 0, 11]);
    Address { link: LinkIndex(2), ip, length: 24, ours: false }
}

pub struct Bench {
    node: Node,
    pub now: Instant,
    pub led_since: Instant,
    owed: Vec<OrderId>,
    asked: Option<(RequestId, LeaseCall)>,
    watches: Vec<Option<ResourceVersion>>,
    /// Events that the API server has not taken yet.
    events: Vec<RequestId>,
}

/// The actions of one turn, and of the turns that kernel answers to it caused.
#[derive(Debug)]
pub struct Turn(pub Vec<Action>);

impl Bench {
    pub fn new() -> Self {
        Self::build(true, 32, &[VIP])
    }

    pub fn with_vips(vips: &[Vip]) -> Self {
        Self::build(true, 32, vips).into_started()
    }

    pub fn unfenced() -> Self {
        Self::build(false, 32, &[VIP]).into_started()
    }

    pub fn with_length(length: u8) -> Self {
        Self::build(true, length, &[VIP]).into_started()
    }

    /// Lock held, leftovers gone, links known, and a first read under way.
    pub fn started() -> Self {
        Self::new().into_started()
    }

    pub fn leading() -> Self {
        Self::started().into_leading()
    }

    pub fn into_leading(mut self) -> Self {
        self.reply(TestLease::free().found());
        self.led_since = self.now;
        let reply = TestLease::mine(&self).found();
        self.reply(reply);
        self
    }

    fn into_started(mut self) -> Self {
        self.input(Input::Lock { held: true });
        self.network();
        assert_eq!(self.lease_call(), Some(LeaseCall::Read));
        self
    }

    fn build(fenced: bool, length: u8, vips: &[Vip]) -> Self {
        let fence = || if fenced { Ok(()) } else { Err("no nftables".to_owned()) };
        let config = Config {
            me: NodeName(ME.into()),
            author: Author { host: MY_HOST, life: 1 },
            election: Election::Lease(LeaseConfig {
                name: LEASE.into(),
                duration: secs(15),
                renew_deadline: secs(10),
                retry_period: secs(2),
            }),
            vips: vips.iter().map(|it| WantedVip::Address(*it)).collect(),
            family: Family::First,
            lengths: (length, 128),
            link: LinkChoice::Named(LinkName("eth0".into())),
            announcer: AnnouncerConfig {
                refresh: secs(3),
                fences: Fences { v4: fence(), v6: fence() },
            },
            skip_dad: false,
            preserve: false,
            label_node: false,
            services: None,
        };
        let now = Instant::from_nanos(1_000_000_000_000);
        let node = Node::new(config, Rng::from_seed(1), now);
        let (owed, watches) = (Vec::new(), Vec::new());
        Self { node, now, led_since: now, owed, asked: None, watches, events: Vec::new() }
    }

    pub fn network(&mut self) -> Turn {
        self.input(Input::Network(NetworkChange::Snapshot {
            links: vec![eth0()],
            addresses: vec![own_address()],
            default_link: Some(LinkIndex(2)),
        }))
    }

    /// Time passes, and what was said on the side is taken.
    pub fn advance(&mut self, by: Duration) {
        for request in std::mem::take(&mut self.events) {
            self.input(Input::Side { request, reply: SideReply::Done });
        }
        self.now = self.now + by;
    }

    /// Hands the input in, and answers all kernel orders with "done".
    pub fn input(&mut self, input: Input) -> Turn {
        let mut turn = self.input_held_back(input);
        while !self.owed.is_empty() {
            turn.0.extend(self.answer_kernel().0);
        }
        turn
    }

    /// Hands the input in; the kernel's answers are held back.
    pub fn input_held_back(&mut self, input: Input) -> Turn {
        let actions: Vec<_> = self.node.handle(self.now, input).collect();
        for action in &actions {
            match action {
                Action::Kernel { order, .. } => self.owed.push(*order),
                Action::Lease { request, call, .. } => {
                    self.asked = Some((*request, call.clone()));
                }
                Action::Watch { from, .. } => self.watches.push(from.clone()),
                Action::Side { request, call: SideCall::Event { .. } } => {
                    self.events.push(*request);
                }
                Action::Answer { .. }
                | Action::Ask { .. }
                | Action::Dhcp(_)
                | Action::Exit
                | Action::Farewell(_)
                | Action::Follow { .. }
                | Action::Gateway { .. }
                | Action::Probe(_)
                | Action::Send { .. }
                | Action::Side { .. }
                | Action::Store { .. }
                | Action::Listen(_)
                | Action::Tell(_)
                | Action::Unfollow(_) => {}
            }
        }
        Turn(actions)
    }

    pub fn answer_kernel(&mut self) -> Turn {
        self.answer_kernel_with(KernelAnswer::Done)
    }

    pub fn answer_kernel_with_rebuilt_fence(&mut self) -> Turn {
        self.answer_kernel_with(KernelAnswer::FenceRebuilt)
    }

    pub fn answer_kernel_with(&mut self, answer: KernelAnswer) -> Turn {
        let answers = self.owed.drain(..).map(|it| (it, answer.clone())).collect();
        self.input_held_back(Input::Kernel(answers))
    }

    pub fn reply(&mut self, reply: LeaseReply) -> Turn {
        let (request, _) = self.asked.take().expect("something was asked");
        self.input(Input::Lease { request, reply })
    }

    pub fn watch(&mut self, event: WatchEvent) -> Turn {
        self.input(Input::Watch { lease: LEASE.into(), event })
    }

    pub fn watch_opens(&mut self) {
        self.watch(WatchEvent::Opened);
    }

    pub fn watch_ends(&mut self) {
        let kind = ApiFaultKind::Unreachable;
        self.watch(WatchEvent::Ended(ApiFault { kind, why: "reset".into(), retry_after: None }));
    }

    pub fn hear_claim(&mut self) -> Turn {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        self.input(Input::Heard(Heard { link: LinkIndex(2), ip: VIP.0, mac, probe: false }))
    }

    /// Lets time pass to the next deadline, and ticks.
    pub fn tick_next(&mut self) -> Turn {
        self.now = self.deadline().max(self.now);
        self.input(Input::Tick)
    }

    pub fn renew_if_asked(&mut self) -> Turn {
        if self.asked.is_none() {
            return Turn(Vec::new());
        }
        let reply = TestLease::mine(self).version(40).found();
        self.reply(reply)
    }

    pub fn deadline(&self) -> Instant {
        self.node.deadline().expect("something is always due").at
    }

    pub fn status(&self) -> Status {
        self.node.status(self.now)
    }

    /// The request under way.
    pub fn asked(&self) -> Option<RequestId> {
        self.asked.as_ref().map(|it| it.0)
    }

    pub fn lease_call(&self) -> Option<LeaseCall> {
        self.asked.as_ref().map(|it| it.1.clone())
    }

    /// Where the last watch was asked to start.
    pub fn watch_from(&self) -> Option<Option<u64>> {
        let from = self.watches.last()?;
        Some(from.as_ref().map(|it| it.0.parse().expect("versions here are numbers")))
    }

    pub fn next_watch_from(&mut self) -> Option<u64> {
        let before = self.watches.len();
        while self.watches.len() == before {
            self.tick_next();
        }
        self.watch_from().expect("there is one")
    }
}

impl Turn {
    pub fn jobs(&self) -> Vec<KernelJob> {
        let job = |it: &Action| match it {
            Action::Kernel { job: KernelJob::Unfence { .. }, .. } => None,
            Action::Kernel { job, .. } => Some(job.clone()),
            Action::Answer { .. }
            | Action::Ask { .. }
            | Action::Dhcp(_)
            | Action::Exit
            | Action::Farewell(_)
            | Action::Follow { .. }
            | Action::Gateway { .. }
            | Action::Lease { .. }
            | Action::Probe(_)
            | Action::Send { .. }
            | Action::Side { .. }
            | Action::Store { .. }
            | Action::Tell(_)
            | Action::Listen(_)
            | Action::Unfollow(_)
            | Action::Watch { .. } => None,
        };
        self.0.iter().filter_map(job).collect()
    }

    pub fn lease_call(&self) -> Option<LeaseCall> {
        self.0.iter().find_map(|it| match it {
            Action::Lease { call, .. } => Some(call.clone()),
            Action::Answer { .. }
            | Action::Ask { .. }
            | Action::Dhcp(_)
            | Action::Exit
            | Action::Farewell(_)
            | Action::Follow { .. }
            | Action::Gateway { .. }
            | Action::Kernel { .. }
            | Action::Probe(_)
            | Action::Send { .. }
            | Action::Side { .. }
            | Action::Store { .. }
            | Action::Tell(_)
            | Action::Listen(_)
            | Action::Unfollow(_)
            | Action::Watch { .. } => None,
        })
    }

    pub fn notices(&self) -> Vec<Notice> {
        let notice = |it: &Action| match it {
            Action::Tell(notice) => Some(notice.clone()),
            _ => None,
        };
        self.0.iter().filter_map(notice).collect()
    }

    pub fn exits(&self) -> bool {
        self.0.contains(&Action::Exit)
    }
}

/// A Lease as an API server would show it.
pub struct TestLease(Lease);

impl TestLease {
    pub fn of(holder: &str) -> Self {
        let record = LeaseRecord {
            holder: Some(NodeName(holder.into())),
            duration: secs(15),
            transitions: 3,
            acquired: None,
            renewed: Some("once".into()),
            author: None,
            quorum: None,
        };
        let (version, object) = (ResourceVersion("2".into()), "{}".into());
        Self(Lease { record, version, object, foundation: None })
    }

    pub fn free() -> Self {
        let mut it = Self::of("");
        it.0.record.holder = None;
        it
    }

    pub fn mine(_: &Bench) -> Self {
        Self::of(ME).author(MY_HOST, 1).version(20)
    }

    pub fn author(mut self, host: u64, life: u64) -> Self {
        self.0.record.author = Some(Author { host, life });
        self
    }

    pub fn duration(mut self, duration: Duration) -> Self {
        self.0.record.duration = duration;
        self
    }

    pub fn renewed(mut self, renewed: &str) -> Self {
        self.0.record.renewed = Some(renewed.into());
        self
    }

    pub fn version(mut self, version: u64) -> Self {
        self.0.version = ResourceVersion(version.to_string());
        self
    }

    pub fn found(self) -> LeaseReply {
        LeaseReply::Found(Box::new(self.0))
    }

    pub fn seen(self) -> WatchEvent {
        WatchEvent::Lease(Box::new(self.0))
    }
}
