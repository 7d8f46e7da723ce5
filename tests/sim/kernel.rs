//! What a kernel has and answers, as coarse as the real one: address lifetimes in whole
//! seconds that end up to 1.25 s late, fence timeouts to the millisecond, both on a clock
//! that stands still in suspend.

use std::collections::{BTreeMap, BTreeSet};

use edgevip::engine::Rng;
use edgevip::model::{
    Address, Fences, Hardware, Instant, KernelAnswer, KernelJob, Link, LinkIndex, LinkName, Mac,
    NetworkChange, Vip,
};

use crate::host::{MS, SEC};

/// The kernel thread asks for the fence to close this much before it must.
const MARGIN: u64 = 10 * MS;
const LATENESS: u64 = 1_250 * MS;
/// What the fence remembers longer than an address can live.
const OURS_OUTLIVES: u64 = 3 * SEC;

pub struct Kernel {
    pub link: Option<Plug>,
    pub mac: Mac,
    pub own: Vec<(std::net::IpAddr, u8)>,
    pub held: BTreeMap<(LinkIndex, Vip), Held>,
    pub fences: Fences,
    /// Nobody has flushed the ruleset.
    pub table: bool,
    ours: BTreeMap<Vip, u64>,
    pub live: BTreeMap<Vip, Live>,
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
    /// What the write took, and by how much the end may therefore be late.
    pub late: u64,
}

/// When and for whom the kernel does something.
pub struct Doing<'a> {
    pub mono: u64,
    pub boot: Instant,
    /// What the clock showed when the order was begun.
    pub read_at: Instant,
    pub by: Owner,
    pub entitled: Instant,
    /// What the thread has put into the fence, and not taken out again.
    pub fenced: &'a mut BTreeSet<Vip>,
    pub rng: &'a mut Rng,
}

impl Kernel {
    pub fn new(mac: Mac, index: LinkIndex, own: Vec<(std::net::IpAddr, u8)>, fences: Fences) -> Self {
        Self {
            link: Some(Plug { index, up: true, carrier: true }),
            mac,
            own,
            held: BTreeMap::new(),
            fences,
            table: true,
            ours: BTreeMap::new(),
            live: BTreeMap::new(),
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
    }

    pub fn snapshot(&self) -> NetworkChange {
        let held = self.held.iter().map(|(key, it)| address(*key, it.length));
        let own = self.link.iter().flat_map(|link| self.own_on(link.index));
        NetworkChange::Snapshot {
            links: self.link_now().into_iter().collect(),
            addresses: held.chain(own).collect(),
            default_link: self.link.map(|it| it.index),
        }
    }

    pub fn own_on(&self, link: LinkIndex) -> impl Iterator<Item = Address> + '_ {
        self.own.iter().map(move |(ip, length)| Address { link, ip: *ip, length: *length, ours: false })
    }

    pub fn link_now(&self) -> Option<Link> {
        self.link.map(|it| Link {
            index: it.index,
            name: LinkName("eth0".into()),
            mac: Some(self.mac),
            hardware: Hardware::Ethernet,
            up: it.up,
            carrier: it.up && it.carrier,
        })
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
                self.ours.clear();
                self.live.clear();
                told = self.remove_if(|(_, vip), _| vips.contains(vip));
            }
            KernelJob::HoldAddress { link, vip, length, until } => {
                if self.link.is_none_or(|it| it.index != *link) {
                    return (KernelAnswer::Failed("no such link".into()), told);
                }
                let seconds = (until.saturating_since(it.read_at).as_secs()).max(1);
                let ends = it.mono + seconds.saturating_mul(SEC) + it.rng.below(LATENESS);
                let held = Held { length: *length, ends, by: it.by, entitled: it.entitled };
                self.held.insert((*link, *vip), held);
                told.push(NetworkChange::Address(address((*link, *vip), *length)));
            }
            KernelJob::RemoveAddress { link, vip, .. } => {
                told = self.remove_if(|key, _| *key == (*link, *vip));
            }
            KernelJob::Silence { vips, until } => {
                for vip in self.guarded(vips) {
                    it.fenced.insert(vip);
                    let left = until.saturating_since(it.read_at).as_nanos() as u64;
                    self.ours.insert(vip, it.mono + left);
                    self.live.remove(&vip);
                }
            }
            KernelJob::Unfence { vips } => {
                for vip in vips {
                    it.fenced.remove(vip);
                    self.ours.remove(vip);
                    self.live.remove(vip);
                }
            }
            KernelJob::Listen { .. } | KernelJob::SendFrame { .. } | KernelJob::VerifyFence => {}
        }
        (if rebuilt { KernelAnswer::FenceRebuilt } else { KernelAnswer::Done }, told)
    }

    /// The order was carried out, but the right to it had ended meanwhile.
    pub fn undo(&mut self, job: &KernelJob) -> Vec<NetworkChange> {
        match job {
            KernelJob::Answer { vips, .. } => {
                self.live.retain(|vip, _| !vips.contains(vip));
                Vec::new()
            }
            KernelJob::HoldAddress { link, vip, .. } => {
                self.remove_if(|key, _| *key == (*link, *vip))
            }
            KernelJob::Clean { .. }
            | KernelJob::Listen { .. }
            | KernelJob::RemoveAddress { .. }
            | KernelJob::SendFrame { .. }
            | KernelJob::Silence { .. }
            | KernelJob::Unfence { .. }
            | KernelJob::VerifyFence => Vec::new(),
        }
    }

    fn open(&mut self, vips: &[Vip], until: Instant, it: &mut Doing<'_>) {
        let left = until.saturating_since(it.read_at).as_nanos() as u64;
        let late = it.boot.saturating_since(it.read_at).as_nanos() as u64;
        for vip in self.guarded(vips) {
            it.fenced.insert(vip);
            let known = self.ours.get(&vip).copied().unwrap_or(0);
            self.ours.insert(vip, known.max(it.mono + left + OURS_OUTLIVES));
            let ends = it.mono + left.saturating_sub(MARGIN) + it.rng.below(MARGIN);
            self.live.insert(vip, Live { ends, until, late });
        }
    }

    fn rebuild_if_gone(&mut self, job: &KernelJob, it: &Doing<'_>) -> bool {
        let needs = match job {
            KernelJob::Answer { .. }
            | KernelJob::Clean { .. }
            | KernelJob::Silence { .. }
            | KernelJob::Unfence { .. }
            | KernelJob::VerifyFence => true,
            KernelJob::HoldAddress { .. }
            | KernelJob::Listen { .. }
            | KernelJob::RemoveAddress { .. }
            | KernelJob::SendFrame { .. } => false,
        };
        if self.table || !needs {
            return false;
        }
        self.table = true;
        self.ours = it.fenced.iter().map(|vip| (*vip, it.mono + 60 * SEC)).collect();
        true
    }

    fn guarded(&self, vips: &[Vip]) -> Vec<Vip> {
        vips.iter().copied().filter(|it| self.fences.guards(*it)).collect()
    }
}

fn address((link, vip): (LinkIndex, Vip), length: u8) -> Address {
    Address { link, ip: vip.0, length, ours: true }
}

/// Until when an order is of use, where it has an end.
pub fn end_of(job: &KernelJob) -> Option<Instant> {
    match job {
        KernelJob::Answer { until, .. }
        | KernelJob::HoldAddress { until, .. }
        | KernelJob::SendFrame { until, .. } => Some(*until),
        KernelJob::Clean { .. }
        | KernelJob::Listen { .. }
        | KernelJob::RemoveAddress { .. }
        | KernelJob::Silence { .. }
        | KernelJob::Unfence { .. }
        | KernelJob::VerifyFence => None,
    }
}
