//! What a quorum needs beside the machines: a network between its members that loses, doubles
//! and delays, disks that outlive processes, what is asked about each node, and operators.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use edgevip::engine::{
    DiscoverConfig, FailBack, Input, ProbeRule, QuorumApi, QuorumConfig, QuorumTiming,
};
use edgevip::model::{
    Author, ClusterCall, ControlPlaneNode, Envelope, Farewell, Life, Member, MemberRole, Members,
    NodeName, Probe, RequestId, StoreRecord,
};
use edgevip::wire::quorum::{Keys, open, seal};
use edgevip::wire::store;

use crate::book::{Book, host_of, name_of};
use crate::faults::Kind;
use crate::host::{MS, Nanos, SEC, US};
use crate::world::{Event, World};

/// A socket has room for so many datagrams.
const ROOM: usize = 400;
const PORT: u16 = 7411;

/// What the members of a run have in common.
#[derive(Clone, Debug)]
pub struct Quorum {
    pub timing: QuorumTiming,
    /// Of the members that the settings list.
    pub roles: Vec<MemberRole>,
    pub fail_back: FailBack,
    pub health: Option<ProbeRule>,
    pub check: Option<ProbeRule>,
    pub vips: usize,
    /// So many found, and members find each other; nobody is listed.
    pub discover: Option<u8>,
    /// What members do with the API server.
    pub api: Beside,
}

/// What members do with the API server beside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beside {
    Nothing,
    /// Record who holds.
    Record,
    /// And take the members from its Nodes.
    Nodes,
}

impl Quorum {
    pub fn promise(&self) -> Nanos {
        self.timing.promise.as_nanos() as Nanos
    }

    /// When the last of so many stands for election, at the latest.
    pub fn election(&self, members: usize) -> Nanos {
        let last = self.timing.promise + self.timing.step * members as u32 + self.timing.spread;
        last.as_nanos() as Nanos
    }
}

pub struct Cluster {
    pub quorum: Quorum,
    pub book: Book,
    pub mail: Mail,
    pub disks: Vec<Disk>,
    /// What orderly stops left behind; a reboot takes it.
    pub farewells: Vec<Option<Farewell>>,
    pub bodies: Vec<Body>,
    pub orders: BTreeMap<RequestId, Order>,
    pub writes: u64,
    pub datagrams: u64,
    pub lost_stores: u64,
    /// Hosts that are Nodes, the oldest first.
    pub nodes: Vec<usize>,
    keys: Keys,
}

/// How datagrams fare.
pub struct Mail {
    pub tail: Nanos,
    /// In a thousand.
    pub loss: u64,
    pub copies: u64,
    pub broken: u64,
    /// Copies come so late at most.
    pub late: Nanos,
    /// By sender and receiver: nothing gets through until then.
    pub cuts: Vec<Vec<Nanos>>,
    pub slow_until: Nanos,
    /// The group that each host listens to.
    pub groups: Vec<Option<IpAddr>>,
}

#[derive(Default)]
pub struct Disk {
    pub bytes: Option<Vec<u8>>,
    pub unreadable: bool,
    pub full_until: Nanos,
    pub slow_until: Nanos,
    /// In a thousand.
    pub fails: u64,
    writing: Option<Vec<u8>>,
}

/// How a node is, for those who ask.
#[derive(Clone, Default)]
pub struct Body {
    pub sick_until: Nanos,
    pub slow_until: Nanos,
}

/// Something an operator asked for.
#[derive(Clone, Debug)]
pub struct Order {
    pub proc: usize,
    pub life: u32,
    pub call: ClusterCall,
    pub asked_at: Nanos,
    pub answer: Option<Result<String, String>>,
}

impl Cluster {
    pub fn new(quorum: Quorum, hosts: usize) -> Self {
        Self {
            quorum,
            book: Book::default(),
            mail: Mail {
                tail: MS,
                loss: 0,
                copies: 0,
                broken: 0,
                late: 0,
                cuts: vec![vec![0; hosts]; hosts],
                slow_until: 0,
                groups: vec![None; hosts],
            },
            disks: (0..hosts).map(|_| Disk::default()).collect(),
            farewells: vec![None; hosts],
            bodies: vec![Body::default(); hosts],
            orders: BTreeMap::new(),
            writes: 0,
            datagrams: 0,
            lost_stores: 0,
            nodes: (0..hosts).collect(),
            keys: Keys::insecure(),
        }
    }

    /// What the settings of a host list: who is added later lists all the others too.
    fn listed(&self, host: usize) -> Members {
        let member = |at: usize, role| (name_of(at), Member { address: address_of(at), role });
        if self.quorum.api == Beside::Nodes {
            return Members::from([member(host, MemberRole::Voter)]);
        }
        let finds = self.quorum.discover.is_some();
        let roles = if finds { &[][..] } else { &self.quorum.roles[..] };
        let all = roles.iter().enumerate().map(|(at, role)| member(at, *role));
        let mut listed: Members = all.collect();
        let (me, it) = member(host, MemberRole::Learner);
        listed.entry(me).or_insert(it);
        listed
    }

    pub fn config(&mut self, host: usize, life: u64) -> QuorumConfig {
        let disk = &self.disks[host];
        let stored = match &disk.bytes {
            _ if disk.unreadable => Err("bad checksum".to_owned()),
            None => Ok(None),
            Some(bytes) => {
                store::decode(bytes, machine(host)).map(Some).map_err(|it| it.to_string())
            }
        };
        QuorumConfig {
            life: Life(life),
            address: address_of(host),
            listed: self.listed(host),
            discover: self.quorum.discover.map(|voters| DiscoverConfig {
                voters,
                port: PORT,
                address: None,
                witness: self.quorum.roles.get(host) == Some(&MemberRole::Witness),
            }),
            timing: self.quorum.timing,
            found_alone: false,
            stored,
            farewell: self.farewells[host].take(),
            fail_back: self.quorum.fail_back,
            health: self.quorum.health,
            check: self.quorum.check,
            api: (self.quorum.api != Beside::Nothing).then(|| QuorumApi {
                lease: "kube-system/plndr-cp-lock".into(),
                duration: Duration::from_secs(15),
                author: Author { host: machine(host), life },
                nodes: (self.quorum.api == Beside::Nodes).then(|| machine(host)),
            }),
        }
    }

    pub fn host_at(&self, address: SocketAddr) -> Option<usize> {
        host_at(address).filter(|it| *it < self.disks.len())
    }

    pub fn record(&self, host: usize) -> Option<StoreRecord> {
        let bytes = self.disks[host].bytes.as_ref()?;
        store::decode(bytes, machine(host)).ok()
    }

    /// Those in this place were asked for and nobody said what came of it.
    pub fn unanswered(&self) -> impl Iterator<Item = &Order> {
        self.orders.values().filter(|it| it.answer.is_none())
    }
}

impl World {
    /// The Nodes as the API server has them.
    pub fn nodes(&self) -> Vec<ControlPlaneNode> {
        let nodes = self.cluster.iter().flat_map(|it| &it.nodes);
        let addresses = |at: usize| vec![address_of(at).ip()];
        nodes.map(|at| ControlPlaneNode { name: name_of(*at), addresses: addresses(*at) }).collect()
    }

    pub fn quorum(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// A member's word leaves its host, as bytes.
    pub fn post(&mut self, proc: usize, to: SocketAddr, envelope: &Envelope) {
        let from = self.procs[proc].host;
        let Some(cluster) = &mut self.cluster else { return };
        let bytes = seal(&cluster.keys, envelope);
        if !to.ip().is_multicast() {
            let to = host_at(to).filter(|it| *it < cluster.disks.len());
            return to.into_iter().for_each(|to| self.carry(from, to, bytes.clone()));
        }
        let hears = |it: &usize| *it != from && cluster.mail.groups[*it] == Some(to.ip());
        for to in (0..cluster.disks.len()).filter(hears).collect::<Vec<_>>() {
            self.carry(from, to, bytes.clone());
        }
    }

    fn carry(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.datagrams += 1;
        let Mail { tail, loss, copies, broken, late, slow_until, .. } = cluster.mail;
        let cut = cluster.mail.cuts[from][to] > self.now;
        if !self.hosts[from].can_send(self.now) || cut {
            return;
        }
        let tail = if slow_until > self.now { tail.max(self.pace) } else { tail };
        if self.chance(copies) {
            let delay = 100 * US + self.rng.below(late.max(MS));
            self.schedule(delay, Event::Datagram { from, to, bytes: bytes.clone() });
        }
        if self.chance(loss) {
            return;
        }
        let mut bytes = bytes;
        if self.chance(broken) {
            let at = self.rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.rng.below(8);
        }
        let delay = 100 * US + self.quick(200 * US, tail);
        self.schedule(delay, Event::Datagram { from, to, bytes });
    }

    pub fn on_datagram(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let Some(cluster) = &self.cluster else { return };
        if !self.hosts[to].can_receive(self.now) {
            return;
        }
        let Ok(envelope) = open(&cluster.keys, bytes) else { return };
        for proc in self.procs_on(to) {
            if self.procs[proc].inbox.len() < ROOM {
                let envelope = Box::new(envelope.clone());
                let input = Input::Peer { address: address_of(from), ttl: u8::MAX, envelope };
                self.deliver(proc, input);
            }
        }
    }

    pub fn write_store(&mut self, proc: usize, number: u64, record: &StoreRecord) {
        let (host, life) = (self.procs[proc].host, self.procs[proc].life);
        let slow = self.cluster.as_ref().is_some_and(|it| it.disks[host].slow_until > self.now);
        let usual = MS + self.rng.below(50 * MS);
        let delay = if slow { usual + self.rng.below(3 * SEC) } else { usual };
        let Some(cluster) = &mut self.cluster else { return };
        cluster.writes += 1;
        let wrong = cluster.book.on_store(record).err();
        let disk = &mut cluster.disks[host];
        let two = disk.writing.replace(store::encode(record, machine(host))).is_some();
        if two {
            self.fail(format!("node-{proc}: S9: two writes at a time"));
        }
        if let Some(why) = wrong {
            self.fail(format!("node-{proc}: {why}"));
        }
        self.schedule(delay, Event::Written { proc, life, number });
    }

    /// The write is over: done, not done, or done and said not to be.
    pub fn on_written(&mut self, proc: usize, number: u64) {
        let host = self.procs[proc].host;
        if self.hosts[host].sleeps(self.now) {
            let life = self.procs[proc].life;
            let delay = self.hosts[host].asleep_until - self.now + MS;
            return self.schedule(delay, Event::Written { proc, life, number });
        }
        let fails = self.cluster.as_ref().map_or(0, |it| it.disks[host].fails);
        let (fails, lands) = (self.chance(fails), self.rng.below(2) == 0);
        let now = self.now;
        let Some(cluster) = &mut self.cluster else { return };
        let disk = &mut cluster.disks[host];
        let full = disk.full_until > now || disk.unreadable;
        let written = disk.writing.take();
        if !full && (!fails || lands) {
            disk.bytes = written;
        }
        let failure = (full || fails).then(|| "no space left".to_owned());
        if failure.is_none()
            && let Some(record) = cluster.record(host)
        {
            cluster.book.on_stored(host, &record);
        }
        self.deliver(proc, Input::Stored { number, failure });
    }

    /// A write that was under way when its process died: done or not, but not half.
    pub fn tear_write(&mut self, host: usize) {
        let lands = self.rng.below(2) == 0;
        let now = self.now;
        let Some(cluster) = &mut self.cluster else { return };
        let disk = &mut cluster.disks[host];
        let written = disk.writing.take();
        if written.is_some() && lands && disk.full_until <= now && !disk.unreadable {
            disk.bytes = written;
        }
    }

    pub fn probe(&mut self, proc: usize, probe: Probe) {
        let (host, life) = (self.procs[proc].host, self.procs[proc].life);
        let Some(cluster) = &self.cluster else { return };
        let body = &cluster.bodies[host];
        let slow = body.slow_until > self.now;
        let failure = (body.sick_until > self.now).then(|| "refused".to_owned());
        let failure = if slow { Some("no answer within a second".to_owned()) } else { failure };
        let delay = if slow { SEC } else { self.quick(2 * MS, 50 * MS) };
        let input = Box::new(Input::Probed { probe, failure });
        self.schedule(delay, Event::Deliver { proc, life, input });
    }

    /// An operator asks this node.
    pub fn order(&mut self, proc: usize, call: ClusterCall) -> RequestId {
        let (life, asked_at) = (self.procs[proc].life, self.now);
        let request = RequestId(self.cluster.as_ref().map_or(0, |it| it.orders.len()) as u32 + 1);
        self.note(|| ("operator".into(), format!("asks node-{proc}: {call:?}")));
        if !self.procs[proc].runs() {
            return request;
        }
        if let Some(cluster) = &mut self.cluster {
            let order = Order { proc, life, call: call.clone(), asked_at, answer: None };
            cluster.orders.insert(request, order);
        }
        self.deliver(proc, Input::Order { request, call });
        request
    }

    pub fn on_answer(&mut self, proc: usize, request: RequestId, outcome: Result<String, String>) {
        let life = self.procs[proc].life;
        let Some(cluster) = &mut self.cluster else { return };
        let order = cluster.orders.get_mut(&request);
        let order = order.filter(|it| (it.proc, it.life) == (proc, life) && it.answer.is_none());
        match order {
            Some(order) => order.answer = Some(outcome),
            None => self.fail(format!("node-{proc}: answers {request:?}, which nobody asked")),
        }
    }

    /// Whoever leads, as far as it says so itself.
    pub fn leader(&self) -> Option<usize> {
        let cluster = self.quorum()?;
        let (_, leader) = cluster.book.last_leader()?;
        Some(leader)
    }

    /// Power is lost and comes back: the disk stays, memory does not.
    pub fn reboot(&mut self, host: usize, span: Nanos) {
        for proc in self.procs_on(host) {
            self.kill(proc);
            self.schedule(span + 100 * MS, Event::Start { proc });
        }
        self.hosts[host].reboot(self.now);
        if let Some(cluster) = &mut self.cluster {
            cluster.farewells[host] = None;
            cluster.book.reboot(host);
        }
        self.note(|| (format!("host-{host}"), "boots anew".into()));
    }

    /// Nobody has more than a minority without a store, so that a cluster is left.
    pub fn may_lose_store(&self, host: usize) -> bool {
        let Some(cluster) = self.quorum() else { return false };
        let Some(entry) = cluster.book.head() else { return false };
        let voters = entry.voters();
        let whole = |it: &NodeName| {
            let at = host_of(it);
            let record = cluster.record(at).and_then(|it| it.entry);
            !cluster.disks[at].unreadable && record.is_some_and(|it| it.id >= entry.id)
        };
        let mut others = voters.clone().filter(|it| host_of(it) != host);
        voters.count() > 2 && others.all(whole)
    }

    /// The disk is replaced by an empty one while the process is down.
    pub fn lose_store(&mut self, host: usize) {
        self.note(|| (format!("host-{host}"), "loses its store".into()));
        if let Some(cluster) = &mut self.cluster {
            let disk = &mut cluster.disks[host];
            (disk.bytes, disk.writing, disk.unreadable) = (None, None, false);
            cluster.lost_stores += 1;
        }
    }

    /// What operators may ask for without harm to themselves.
    pub fn some_order(&mut self) -> Option<ClusterCall> {
        let pick = self.rng.below(12);
        let at = self.rng.below(self.hosts.len() as u64) as usize;
        let vip = self.vips[self.rng.below(self.vips.len() as u64) as usize];
        let entry = self.quorum()?.book.newest()?.clone();
        let name = name_of(at);
        let member = entry.members.get(&name);
        let carriers = |votes: bool| {
            let it = entry.members.iter().filter(|(it, member)| {
                **it != name && member.role.carries() && (!votes || member.role.votes())
            });
            it.count()
        };
        let call = match (pick, member.map(|it| it.role)) {
            (0..2, _) => ClusterCall::Drain(name),
            (2..4, _) => ClusterCall::Undrain(name),
            (4..7, _) => ClusterCall::Move(vip, name),
            (_, None) => ClusterCall::Add { name, address: address_of(at), witness: pick == 11 },
            (_, Some(MemberRole::Learner)) => ClusterCall::Promote(name),
            (_, Some(_)) if carriers(true) >= 2 => ClusterCall::Remove(name),
            (_, Some(_)) => ClusterCall::Undrain(name),
        };
        // Two removals at a time could leave nobody.
        let removes = |it: &ClusterCall| matches!(it, ClusterCall::Remove(_));
        let recent = self
            .quorum()?
            .orders
            .values()
            .any(|it| removes(&it.call) && (it.asked_at + 15 * SEC > self.now));
        (!(removes(&call) && recent)).then_some(call)
    }
}

impl World {
    pub fn inflict_on_members(&mut self, kind: Kind, host: usize, proc: usize, span: Nanos) {
        let until = self.now + span;
        let hosts = self.hosts.len();
        let other = (host + 1 + self.rng.below(hosts as u64) as usize) % hosts;
        let side = self.rng.next_u64();
        let both = self.rng.below(2) == 0;
        let loses = matches!(kind, Kind::StoreLost | Kind::DiskBad) && self.may_lose_store(host);
        let Some(cluster) = &mut self.cluster else { return };
        match kind {
            Kind::Cut => {
                cluster.mail.cuts[host][other] = until;
                if both {
                    cluster.mail.cuts[other][host] = until;
                }
            }
            Kind::DiskBad if loses => {
                cluster.disks[host].unreadable = true;
                self.crash(proc_on(host), span);
            }
            Kind::DiskFull => cluster.disks[host].full_until = until,
            Kind::DiskSlow => cluster.disks[host].slow_until = until,
            Kind::MailSlow => cluster.mail.slow_until = until,
            Kind::Order => {
                let to = if both { self.leader().unwrap_or(proc) } else { proc };
                if let Some(call) = self.some_order() {
                    self.order(to, call);
                }
            }
            Kind::PowerCut => {
                for host in 0..hosts {
                    let early = self.rng.below(span);
                    self.reboot(host, span - early);
                }
            }
            Kind::ProbesHang => cluster.bodies[host].slow_until = until,
            Kind::Reboot => self.reboot(host, span),
            Kind::Sick => cluster.bodies[host].sick_until = until,
            Kind::Split => {
                for (from, to) in pairs(hosts) {
                    if (side >> from) & 1 != (side >> to) & 1 {
                        cluster.mail.cuts[from][to] = until;
                    }
                }
            }
            Kind::StoreLost if loses => {
                self.kill(proc_on(host));
                self.lose_store(host);
                self.schedule(span, Event::Start { proc: proc_on(host) });
            }
            _ => {}
        }
    }

    /// Disks are put right, wires are joined.
    pub fn heal_members(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let (now, hosts) = (self.now, cluster.disks.len());
        let Mail { tail, loss, copies, broken, late, cuts, slow_until, groups: _ } =
            &mut cluster.mail;
        (*tail, *loss, *copies, *broken, *late, *slow_until) = (MS, 0, 0, 0, 0, now);
        *cuts = vec![vec![0; hosts]; hosts];
        for it in &mut cluster.bodies {
            (it.sick_until, it.slow_until) = (now, now);
        }
        for it in &mut cluster.disks {
            (it.full_until, it.slow_until, it.fails) = (now, now, 0);
        }
        for host in 0..hosts {
            if self.quorum().is_some_and(|it| it.disks[host].unreadable) {
                self.kill(proc_on(host));
                self.lose_store(host);
            }
        }
    }
}

/// In a quorum, each host has one process.
fn proc_on(host: usize) -> usize {
    host
}

fn pairs(hosts: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..hosts).flat_map(move |from| (0..hosts).map(move |to| (from, to)))
}

pub fn address_of(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 11 + host as u8], PORT))
}

fn host_at(address: SocketAddr) -> Option<usize> {
    (0..8).find(|it| address_of(*it) == address)
}

fn machine(host: usize) -> u64 {
    0x3a3a + host as u64
}
