//! What a kernel has and answers, as coarse as the real one: address lifetimes in whole
//! seconds that end up to 1.25 s late, fence timeouts to the millisecond, both on a clock
//! that stands still in suspend.

use std::collections::BTreeMap;
use std::time::Duration;

use edgevip::engine::Rng;
use edgevip::model::{
    Address, Fences, Hardware, Instant, KernelAnswer, KernelJob, Link, LinkIndex, LinkKind,
    LinkName, Mac, Make, NetworkChange, NewLink, ServicePort, Vip,
};

use crate::host::{MS, SEC};

/// The kernel thread asks for the fence to close this much before it must.
pub const MARGIN: Duration = Duration::from_millis(10);
/// Less than this is too short to be opened for.
const SHORTEST: Duration = Duration::from_millis(20);
/// The fence remembers an address for so long after it must close.
const MEMORY: Duration = Duration::from_secs(5);
const LATENESS: u64 = 1_250 * MS;

pub struct Kernel {
    pub link: Option<Plug>,
    pub mac: Mac,
    pub own: Vec<(std::net::IpAddr, u8)>,
    pub held: BTreeMap<(LinkIndex, Vip), Held>,
    pub fences: Fences,
    /// Nobody has flushed the ruleset.
    pub table: bool,
    pub ours: BTreeMap<Vip, u64>,
    pub live: BTreeMap<Vip, Live>,
    /// What nothing reaches but these ports, by the ruleset.
    pub guards: BTreeMap<Vip, Vec<ServicePort>>,
    /// Links on top of the other.
    pub made: BTreeMap<LinkIndex, Link>,
    /// The number that the link gets when it comes again.
    pub next_link: LinkIndex,
}

/// The one link that matters.
#[derive(Clone, Copy, Debug)]
pub struct Plug {
    pub index: LinkIndex,
    pub up: bool,
    pub carrier: bool,
}

/// An address with a lifetime.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub length: u8,
    /// On the monotonic clock.
    pub ends: u64,
    /// Which life of which process ordered it.
    pub by: Owner,
    /// Until when that process was entitled when it did, on the boot clock.
    pub entitled: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    pub proc: usize,
    pub life: u32,
}

/// A VIP that the fence lets the kernel answer for.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// On the monotonic clock.
    pub ends: u64,
    /// The end that was meant, on the boot clock.
    pub until: Instant,
    /// By how much the end is late, since the kernel was slow.
    pub late: Duration,
}

/// When and for whom the kernel does something.
pub struct Doing<'a> {
    pub mono: u64,
    pub boot: Instant,
    /// What the clock showed when the order was begun.
    pub read_at: Instant,
    pub by: Owner,
    pub entitled: Instant,
    /// An address may be there before it may answer, and after.
    pub prepares: bool,
    /// How much earlier an answer is to end, after an attempt that took so long.
    pub lead: Duration,
    /// What the thread has put into the fence, and not taken out again.
    pub fenced: &'a mut BTreeMap<Vip, Instant>,
    /// And what it lets through to VIPs.
    pub guarded: &'a mut BTreeMap<Vip, Vec<ServicePort>>,
    pub rng: &'a mut Rng,
}

impl Kernel {
    pub fn new(
        mac: Mac,
        index: LinkIndex,
        own: Vec<(std::net::IpAddr, u8)>,
        fences: Fences,
    ) -> Self {
        Self {
            link: Some(Plug { index, up: true, carrier: true }),
            mac,
            own,
            held: BTreeMap::new(),
            fences,
            table: true,
            ours: BTreeMap::new(),
            live: BTreeMap::new(),
            guards: BTreeMap::new(),
            made: BTreeMap::new(),
            next_link: index,
        }
    }

    pub fn has(&self, vip: Vip, mono: u64) -> bool {
        self.held.iter().any(|((_, it), held)| *it == vip && mono < held.ends)
    }

    pub fn answers(&self, vip: Vip, mono: u64) -> bool {
        self.has(vip, mono) && self.is_open(vip, mono)
    }

    fn is_open(&self, vip: Vip, mono: u64) -> bool {
        let guarded = self.table
            && self.fences.guards(vip)
            && self.ours.get(&vip).is_some_and(|ends| mono < *ends);
        !guarded || self.live.get(&vip).is_some_and(|it| mono < it.ends)
    }

    /// When something ends next, on the monotonic clock.
    pub fn next_end(&self, mono: u64) -> Option<u64> {
        let held = self.held.values().map(|it| it.ends);
        let live = self.live.values().map(|it| it.ends);
        held.chain(live).chain(self.ours.values().copied()).filter(|it| *it > mono).min()
    }

    /// Sweeps what has ended; says which addresses went.
    pub fn sweep(&mut self, mono: u64) -> Vec<NetworkChange> {
        self.live.retain(|_, it| mono < it.ends);
        self.ours.retain(|_, ends| mono < *ends);
        self.remove_if(|_, it| it.ends <= mono)
    }

    /// Takes addresses of ours away.
    pub fn remove_if(
        &mut self,
        is_meant: impl Fn(&(LinkIndex, Vip), &Held) -> bool,
    ) -> Vec<NetworkChange> {
        let mut gone = Vec::new();
        self.held.retain(|key, it| {
            let goes = is_meant(key, it);
            if goes {
                gone.push(NetworkChange::AddressGone(address(*key, it.length)));
            }
            !goes
        });
        gone
    }

    pub fn flush_ruleset(&mut self) {
        self.table = false;
        self.ours.clear();
        self.live.clear();
        self.guards.clear();
    }

    pub fn snapshot(&self) -> NetworkChange {
        let held = self.held.iter().map(|(key, it)| address(*key, it.length));
        let own = self.link.iter().flat_map(|link| self.own_on(link.index));
        NetworkChange::Snapshot {
            links: self.link_now().into_iter().chain(self.made.values().cloned()).collect(),
            addresses: held.chain(own).collect(),
            default_link: self.link.map(|it| it.index),
        }
    }

    pub fn own_on(&self, link: LinkIndex) -> impl Iterator<Item = Address> + '_ {
        self.own.iter().map(move |(ip, length)| Address {
            link,
            ip: *ip,
            length: *length,
            ours: false,
        })
    }

    pub fn link_now(&self) -> Option<Link> {
        self.link.map(|it| Link {
            index: it.index,
            name: LinkName("eth0".into()),
            mac: Some(self.mac),
            hardware: Hardware::Ethernet,
            up: it.up,
            carrier: it.up && it.carrier,
            kind: LinkKind::Other,
            ours: false,
        })
    }

    /// Whether a link goes by this number.
    pub fn is_there(&self, link: LinkIndex) -> bool {
        self.link.is_some_and(|it| it.index == link || self.made.contains_key(&link))
    }

    fn make(&mut self, new: &NewLink) -> Option<Link> {
        let parent = self.link_now().filter(|it| it.index == new.parent)?;
        let (kind, mac) = match new.make {
            Make::Macvlan { mac, .. } => (LinkKind::Macvlan { parent: new.parent }, mac),
            Make::Vlan { tag } => (LinkKind::Vlan { parent: new.parent, tag }, self.mac),
        };
        let last = self.made.keys().last().map_or(100, |it| it.0);
        let index = LinkIndex(last + 1);
        let mac = Some(mac);
        let link = Link { index, name: new.name.clone(), mac, kind, ours: true, ..parent };
        self.made.insert(index, link.clone());
        Some(link)
    }

    /// Links go, and what is on them.
    pub fn unmake(&mut self, is_meant: impl Fn(&LinkIndex) -> bool) -> Vec<NetworkChange> {
        let gone: Vec<_> = self.made.keys().copied().filter(is_meant).collect();
        self.made.retain(|index, _| !gone.contains(index));
        let mut told = self.remove_if(|(link, _), _| gone.contains(link));
        told.extend(gone.into_iter().map(NetworkChange::LinkGone));
        told
    }

    /// Does what was ordered, but for sending frames. Returns the answer and what every
    /// listener on this machine is told.
    pub fn carry_out(
        &mut self,
        job: &KernelJob,
        it: &mut Doing<'_>,
    ) -> (KernelAnswer, Vec<NetworkChange>) {
        let rebuilt = self.rebuild_if_gone(job, it);
        let mut told = Vec::new();
        match job {
            KernelJob::Answer { vips, until } => self.open(vips, *until, it),
            KernelJob::Clean { vips } => {
                let fenced: Vec<_> = self.ours.keys().copied().collect();
                self.ours.clear();
                self.live.clear();
                self.guards.clear();
                it.guarded.clear();
                told = self.remove_if(|(_, vip), _| vips.contains(vip) || fenced.contains(vip));
                told.extend(self.unmake(|_| true));
            }
            KernelJob::HoldAddress { link, vip, length, until } => {
                if !self.is_there(*link) {
                    return (KernelAnswer::NoLink, told);
                }
                if self.own.iter().any(|(ip, _)| *ip == vip.0) {
                    return (KernelAnswer::NotOurs("it is another's".into()), told);
                }
                let seconds = (until.saturating_since(it.read_at).as_secs()).max(1);
                let ends = it.mono + seconds.saturating_mul(SEC) + it.rng.below(LATENESS);
                let entitled = if it.prepares { it.entitled.max(*until) } else { it.entitled };
                let held = Held { length: *length, ends, by: it.by, entitled };
                self.held.insert((*link, *vip), held);
                told.push(NetworkChange::Address(address((*link, *vip), *length)));
            }
            KernelJob::RemoveAddress { link, vip, .. } => {
                told = self.remove_if(|key, _| *key == (*link, *vip));
            }
            KernelJob::Silence { vips, until } => self.silence(vips, *until, it),
            KernelJob::Unfence { vips } => {
                for vip in vips {
                    it.fenced.remove(vip);
                    self.ours.remove(vip);
                    self.live.remove(vip);
                }
            }
            KernelJob::Guard(all) => {
                for guarded in all {
                    for table in [&mut *it.guarded, &mut self.guards] {
                        match guarded.on {
                            true => drop(table.insert(guarded.vip, guarded.ports.clone())),
                            false => drop(table.remove(&guarded.vip)),
                        }
                    }
                }
            }
            KernelJob::MakeLink(new) => match self.make(new) {
                Some(link) => told.push(NetworkChange::Link(link)),
                None => return (KernelAnswer::NoLink, told),
            },
            KernelJob::RemoveLink { link } => told = self.unmake(|it| it == link),
            KernelJob::Listen { .. } | KernelJob::SendFrame { .. } | KernelJob::VerifyFence => {}
        }
        // A fence that was gone has named nobody; where nothing is left there was nobody.
        let says = !matches!(job, KernelJob::Clean { .. }) || !self.held.is_empty();
        (if rebuilt && says { KernelAnswer::FenceRebuilt } else { KernelAnswer::Done }, told)
    }

    /// The right to what was ordered has ended, before it was done or meanwhile.
    pub fn undo(&mut self, job: &KernelJob, it: &mut Doing<'_>) -> Vec<NetworkChange> {
        match job {
            KernelJob::Answer { vips, until } => {
                self.silence(vips, *until + MEMORY, it);
                Vec::new()
            }
            KernelJob::HoldAddress { link, vip, .. } => {
                self.remove_if(|key, _| *key == (*link, *vip))
            }
            KernelJob::Clean { .. }
            | KernelJob::Guard(_)
            | KernelJob::Listen { .. }
            | KernelJob::MakeLink(_)
            | KernelJob::RemoveAddress { .. }
            | KernelJob::RemoveLink { .. }
            | KernelJob::SendFrame { .. }
            | KernelJob::Silence { .. }
            | KernelJob::Unfence { .. }
            | KernelJob::VerifyFence => Vec::new(),
        }
    }

    fn open(&mut self, vips: &[Vip], until: Instant, it: &mut Doing<'_>) {
        let asked = until - it.lead - MARGIN;
        let left = asked.saturating_since(it.read_at);
        // The kernel looks at a clock that is up to a tick behind.
        let left = left + Duration::from_nanos(it.rng.below(MARGIN.as_nanos() as u64));
        let late = (it.boot + left).saturating_since(until);
        for vip in self.guarded(vips) {
            self.remember(vip, until + MEMORY, it);
            let ends = it.mono + left.as_nanos() as u64;
            self.live.insert(vip, Live { ends, until, late });
        }
    }

    fn silence(&mut self, vips: &[Vip], until: Instant, it: &mut Doing<'_>) {
        for vip in self.guarded(vips) {
            self.remember(vip, until, it);
            self.live.remove(&vip);
        }
    }

    fn remember(&mut self, vip: Vip, until: Instant, it: &mut Doing<'_>) {
        let known = it.fenced.entry(vip).or_insert(until);
        *known = until.max(*known);
        let left = known.saturating_since(it.read_at).max(MARGIN);
        self.ours.insert(vip, it.mono + left.as_nanos() as u64);
    }

    fn rebuild_if_gone(&mut self, job: &KernelJob, it: &Doing<'_>) -> bool {
        let needs = match job {
            KernelJob::Answer { .. }
            | KernelJob::Clean { .. }
            | KernelJob::Silence { .. }
            | KernelJob::Unfence { .. }
            | KernelJob::VerifyFence => true,
            KernelJob::HoldAddress { .. }
            | KernelJob::Guard(_)
            | KernelJob::Listen { .. }
            | KernelJob::MakeLink(_)
            | KernelJob::RemoveAddress { .. }
            | KernelJob::RemoveLink { .. }
            | KernelJob::SendFrame { .. } => false,
        };
        if self.table || !needs {
            return false;
        }
        self.table = true;
        let left = |until: &Instant| until.saturating_since(it.read_at).max(MARGIN);
        let ends = |until: &Instant| it.mono + left(until).as_nanos() as u64;
        self.guards.clone_from(it.guarded);
        self.ours = it.fenced.iter().map(|(vip, until)| (*vip, ends(until))).collect();
        true
    }

    fn guarded(&self, vips: &[Vip]) -> Vec<Vip> {
        vips.iter().copied().filter(|it| self.fences.guards(*it)).collect()
    }
}

fn address((link, vip): (LinkIndex, Vip), length: u8) -> Address {
    Address { link, ip: vip.0, length, ours: true }
}

/// Whether it is too late to begin.
pub fn is_too_late(job: &KernelJob, now: Instant, lead: Duration) -> bool {
    match job {
        KernelJob::Answer { until, .. } => (*until - lead).saturating_since(now) < SHORTEST,
        KernelJob::HoldAddress { until, .. } | KernelJob::SendFrame { until, .. } => *until <= now,
        KernelJob::Clean { .. }
        | KernelJob::Listen { .. }
        | KernelJob::Guard(_)
        | KernelJob::MakeLink(_)
        | KernelJob::RemoveAddress { .. }
        | KernelJob::RemoveLink { .. }
        | KernelJob::Silence { .. }
        | KernelJob::Unfence { .. }
        | KernelJob::VerifyFence => false,
    }
}

/// Until when an order is of use, where it has an end.
pub fn end_of(job: &KernelJob) -> Option<Instant> {
    match job {
        KernelJob::Answer { until, .. }
        | KernelJob::HoldAddress { until, .. }
        | KernelJob::SendFrame { until, .. } => Some(*until),
        KernelJob::Clean { .. }
        | KernelJob::Listen { .. }
        | KernelJob::Guard(_)
        | KernelJob::MakeLink(_)
        | KernelJob::RemoveAddress { .. }
        | KernelJob::RemoveLink { .. }
        | KernelJob::Silence { .. }
        | KernelJob::Unfence { .. }
        | KernelJob::VerifyFence => None,
    }
}
