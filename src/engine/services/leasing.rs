//! Addresses that DHCP servers lease: one lease of each family that a Service asks for, held by
//! whoever carries its VIP, or, as long as nobody does, by whoever says who carries what.
//!
//! The lease rides on the Service, so that the next node has the address before it has asked
//! anybody. A node that loses the right to it forgets it and says nothing to servers: the lease
//! goes on with the VIP. Only when the Service is gone, or asks no more, is it given back. Who
//! says who carries what may see that first, and takes the VIP away from a holder that has yet
//! to: what was lost a moment ago is given back, too.

mod identity;
mod links;
mod machine;
mod seeing;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::probing::Probing;
use super::telling::Awaits;
use crate::engine::agenda::{Agenda, Marks};
use crate::engine::backoff::Backoff;
use crate::engine::dhcp::Parting;
use crate::engine::network::{LinkChoice, Usable};
use crate::engine::{Action, Cx, Deadline};
use crate::model::{
    DhcpHeard, DhcpJob, DhcpRefusal, Instant, IpFamily, LeaseStatus, Leases, LinkIndex, Mac,
    ObjectName, ObjectReply, Refusal, RequestId, ResourceVersion, Service, Vip,
};
use crate::wire::lease::{self, LEASE};
use machine::Machine;
pub(super) use seeing::mac_of;

/// So many Services are seen to at a time, and the next ones this much later: a server, and
/// the switch before it, get no storm.
const AT_ONCE: usize = 32;
const NEXT_AFTER: Duration = Duration::from_millis(20);
const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];
/// A link that is not there is looked for so often.
const LINK_AGAIN: Duration = Duration::from_secs(1);
/// Whoever lost a VIP hears by then that its Service is gone, if that is why.
const GONE_BY: Duration = Duration::from_secs(3);
/// What was written and does not come back by the watch is written again then.
const COMES_BACK: Duration = Duration::from_secs(5);

/// How addresses are leased.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DhcpConfig {
    /// What leases are leased to.
    pub mac: DhcpMac,
    /// After so many attempts in vain servers are asked more seldom; 0: never.
    pub attempts: u32,
}

/// Which hardware address a lease of DHCPv4 is leased to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DhcpMac {
    /// The link's.
    Link,
    /// One of its own, of a link that is made for it, and that its VIP is on.
    Macvlan,
    /// One of its own, that is spoken of only: the VIP is on the link.
    Own,
}

/// Which link an address would be on, by a choice, or why none.
pub(in crate::engine) type OnLink<'a> =
    dyn Fn(Option<&LinkChoice>, IpAddr) -> Result<Usable, Refusal> + 'a;

/// What the node knows that Services do not.
pub(in crate::engine) struct Ground<'a> {
    /// This node says who carries what.
    pub leads: bool,
    /// Whether it may hold the lease of a VIP.
    pub may_hold: &'a dyn Fn(Vip) -> bool,
    /// The link for an address, by the choice of a Service.
    pub on: &'a OnLink<'a>,
    /// As long as it is the same, `on` answers the same.
    pub revision: u64,
    /// The link's own address, by which nodes of the same link speak to each other.
    pub local: &'a dyn Fn(LinkIndex) -> Option<Ipv6Addr>,
    /// Who of this host has an address.
    pub own: &'a dyn Fn(IpAddr) -> Option<String>,
}

/// A lease: of which Service, and of which family.
type Key = (ObjectName, IpFamily);

#[derive(Clone, Debug)]
pub(super) struct Leasing {
    config: Option<DhcpConfig>,
    /// What Services ask for.
    asking: BTreeSet<Key>,
    held: BTreeMap<Key, Held>,
    /// The right to these has ended here, and their Services name them still: whoever carries them
    /// next would take them for leased.
    over: BTreeMap<IpAddr, Key>,
    /// What went on with its VIP: unless another node answers by then, its Service may be gone.
    lost: BTreeMap<Key, (Held, Instant)>,
    /// These could hold a lease here, and have no link for it.
    linkless: BTreeMap<Key, Option<DhcpRefusal>>,
    revision: u64,
    /// For these a link is made here, where one is made at all.
    linked: BTreeSet<Key>,
    /// Services for which that has changed.
    link_news: BTreeSet<ObjectName>,
    /// What is given back, and where.
    partings: Vec<(Usable, Parting)>,
    /// How Services come to say what is held for them.
    writes: BTreeMap<ObjectName, Write>,
    /// These are to be looked at.
    open: BTreeSet<Key>,
    looked_at: Instant,
    agenda: Agenda<Key>,
    leads: bool,
    /// Leased addresses whose lease this node may hold, and since when.
    placed: BTreeMap<IpAddr, Instant>,
    inbox: Vec<(LinkIndex, DhcpHeard)>,
    /// Leased addresses that are asked about, and for whom.
    checking: BTreeMap<IpAddr, Key>,
    probing: Probing,
    in_use: Vec<(IpAddr, Mac)>,
    listening: BTreeSet<(IpFamily, LinkIndex)>,
    writing: BTreeMap<RequestId, ObjectName>,
}

/// A lease that this node sees to.
#[derive(Clone, Debug)]
struct Held {
    uid: String,
    machine: Machine,
    link: Usable,
}

/// How a Service comes to say what is leased for it, of both families in one annotation.
#[derive(Clone, Debug)]
struct Write {
    under_way: bool,
    from: ResourceVersion,
    awaits: Option<Awaits>,
    last: Option<Option<String>>,
    backoff: Backoff,
    again_at: Option<Instant>,
}

impl Write {
    fn begin(from: ResourceVersion) -> Self {
        Self {
            under_way: false,
            from,
            awaits: None,
            last: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(60)),
            again_at: None,
        }
    }
}

impl Leasing {
    pub fn new(config: Option<DhcpConfig>) -> Self {
        Self {
            config,
            asking: BTreeSet::new(),
            held: BTreeMap::new(),
            over: BTreeMap::new(),
            lost: BTreeMap::new(),
            linkless: BTreeMap::new(),
            revision: 0,
            linked: BTreeSet::new(),
            link_news: BTreeSet::new(),
            partings: Vec::new(),
            writes: BTreeMap::new(),
            open: BTreeSet::new(),
            looked_at: Instant::from_nanos(0),
            agenda: Agenda::default(),
            leads: false,
            placed: BTreeMap::new(),
            inbox: Vec::new(),
            checking: BTreeMap::new(),
            probing: Probing::default(),
            in_use: Vec::new(),
            listening: BTreeSet::new(),
            writing: BTreeMap::new(),
        }
    }

    /// The Service is other than it was, asks for a lease of each of these, and speaks of those.
    /// Marked is of which addresses it has come to say that they are leased no more.
    pub fn look_at(
        &mut self,
        name: &ObjectName,
        families: &[IpFamily],
        told: &Leases,
        marks: &mut Marks,
    ) {
        for family in FAMILIES {
            let key = (name.clone(), family);
            let asks = families.contains(&family);
            let asked =
                if asks { !self.asking.insert(key.clone()) } else { self.asking.remove(&key) };
            let told = told.address(family).is_some() && self.config.is_some();
            if asks || asked || told || self.held.contains_key(&key) {
                self.open.insert(key);
            }
        }
        let said = |ip: &IpAddr, key: &mut Key| key.0 == *name && told.address(key.1) != Some(*ip);
        self.over.extract_if(.., said).for_each(|it| marks.mark(Vip(it.0)));
    }

    /// Whether the address is leased no more, and its Service does not say so yet.
    pub fn is_over(&self, ip: IpAddr) -> bool {
        self.over.contains_key(&ip)
    }

    /// Whether each Service that asks for a lease has a link made for it.
    pub fn makes_links(&self) -> bool {
        self.config.as_ref().is_some_and(|it| it.mac == DhcpMac::Macvlan)
    }

    /// The address that is leased for the Service, as far as this node knows.
    pub fn address(&self, service: &Service, family: IpFamily) -> Option<IpAddr> {
        match self.held.get(&(service.name.clone(), family)) {
            Some(it) if it.uid == service.uid => it.machine.address(),
            Some(_) | None => written(service).address(family),
        }
    }

    /// When the right to use the address ends, if this node knows.
    pub fn until(&self, name: &ObjectName, ip: IpAddr) -> Option<Instant> {
        let it = &self.held.get(&(name.clone(), IpFamily::of(ip)))?.machine;
        it.until().filter(|_| it.address() == Some(ip))
    }

    /// Since when the address has been relied on here, whether this node has begun to ask or not.
    fn relied_on_since(&self, now: Instant, ip: IpAddr) -> Instant {
        self.placed.get(&ip).copied().unwrap_or(now)
    }

    /// Whether this node has leased the address for the Service.
    pub fn holds(&self, name: &ObjectName, ip: IpAddr) -> bool {
        let held = self.held.get(&(name.clone(), IpFamily::of(ip)));
        held.is_some_and(|it| it.machine.address() == Some(ip))
    }

    pub fn refusal(&self, name: &ObjectName) -> Option<&DhcpRefusal> {
        let [first, last] = FAMILIES.map(|it| (name.clone(), it));
        let linkless = || self.linkless.range(first..=last).find_map(|it| it.1.as_ref());
        self.held_for(name).find_map(|it| it.1.machine.refusal()).or_else(linkless)
    }

    /// Whether links that are made for the lease are made here.
    fn link(&mut self, key: &Key, here: bool) {
        let news = match here {
            true => self.linked.insert(key.clone()),
            false => self.linked.remove(key),
        };
        if news {
            self.link_news.insert(key.0.clone());
        }
        if !here {
            self.linkless.remove(key);
        }
    }

    /// The link that is made for its lease may be another.
    pub fn look_at_link(&mut self, name: &ObjectName) {
        self.link_news.insert(name.clone());
    }

    /// Services whose links are to be made here, or no longer, since this was last asked.
    pub fn take_link_news(&mut self) -> Vec<(ObjectName, bool)> {
        let here = |name: &ObjectName| {
            FAMILIES.iter().any(|it| self.linked.contains(&(name.clone(), *it)))
        };
        let news = std::mem::take(&mut self.link_news);
        news.into_iter().map(|name| (name.clone(), here(&name))).collect()
    }

    pub fn status(&self, now: Instant, name: &ObjectName) -> Vec<LeaseStatus> {
        self.held_for(name).map(|it| it.1.machine.status(now)).collect()
    }

    /// What is held for a Service.
    fn held_for(&self, name: &ObjectName) -> impl Iterator<Item = (&Key, &Held)> {
        let [first, last] = FAMILIES.map(|it| (name.clone(), it));
        self.held.range(first..=last)
    }

    /// A server speaks. It is listened to when the turn gets to leases.
    pub fn on_message(&mut self, link: LinkIndex, heard: DhcpHeard) {
        self.inbox.push((link, heard));
    }

    /// Somebody speaks of an address.
    pub fn on_heard(&mut self, ip: IpAddr, mac: Mac) {
        if self.probing.on_heard(ip) {
            self.in_use.push((ip, mac));
        }
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &ObjectReply) {
        let Some(name) = self.writing.remove(&request) else {
            return;
        };
        let Some(it) = self.writes.get_mut(&name) else {
            return;
        };
        it.under_way = false;
        (it.awaits, it.again_at) = match reply {
            ObjectReply::Done(version) => {
                (Some(Awaits::AtLeast(version.clone())), Some(cx.now + COMES_BACK))
            }
            ObjectReply::Conflict | ObjectReply::Gone => {
                (Some(Awaits::After(it.from.clone())), Some(cx.now + COMES_BACK))
            }
            ObjectReply::Failed(fault) => {
                let wait = it.backoff.wait(cx.rng).max(fault.retry_after.unwrap_or_default());
                (None, Some(cx.now + wait))
            }
        };
        let held: Vec<_> = self.held_for(&name).map(|it| it.0.clone()).collect();
        self.open.extend(held.is_empty().then_some((name, IpFamily::V4)));
        self.open.extend(held);
    }

    /// What is to be listened for: who uses what was leased just now.
    pub fn probed(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.probing.addresses()
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let open = (!self.open.is_empty()).then(|| look_at(self.looked_at + NEXT_AFTER));
        let open = open.into_iter().chain(self.agenda.deadline());
        let lost = self.lost.values().map(|it| look_at(it.1));
        let partings = self.partings.iter().map(|it| look_at(it.1.deadline()));
        open.chain(lost).chain(partings).chain(self.probing.deadline()).min()
    }

    /// Has servers heard where there is something to ask them.
    fn listen(&mut self, cx: &mut Cx<'_>) {
        let held = self.held.iter().map(|((_, family), it)| (*family, it.link.index));
        let lost = self.lost.iter().map(|((_, family), it)| (*family, it.0.link.index));
        let partings = self.partings.iter().map(|it| (IpFamily::V6, it.0.index));
        let all: BTreeSet<_> = held.chain(lost).chain(partings).collect();
        let of = |set: &BTreeSet<(IpFamily, LinkIndex)>, family| -> Vec<LinkIndex> {
            set.iter().filter(|it| it.0 == family).map(|it| it.1).collect()
        };
        for family in FAMILIES {
            let links = of(&all, family);
            if of(&self.listening, family) != links {
                cx.act(Action::Dhcp(DhcpJob::Listen(family, links)));
            }
        }
        self.listening = all;
    }

    fn schedule(&mut self, key: &Key) {
        let write = self.writes.get(&key.0).filter(|it| !it.under_way);
        let write = write.and_then(|it| it.again_at);
        let machine = self.held.get(key).and_then(|it| it.machine.deadline());
        let due = machine.into_iter().chain(write).min();
        self.agenda.set(key.clone(), due.map(look_at));
    }

    fn remove(&mut self, key: &Key) -> Option<Held> {
        let it = self.held.remove(key)?;
        self.agenda.set(key.clone(), None);
        if self.held_for(&key.0).next().is_none() {
            self.writes.remove(&key.0);
        }
        Some(it)
    }

    /// Has unchecked addresses checked. Returns whether others are than before.
    fn check(&mut self, now: Instant, key: &Key) -> bool {
        let before = self.checking.iter().find(|it| it.1 == key).map(|it| *it.0);
        let after = self.held.get(key).and_then(|it| it.machine.unchecked());
        if before == after {
            return false;
        }
        if let Some(ip) = before {
            self.checking.remove(&ip);
            self.probing.forget(ip);
        }
        if let Some(ip) = after {
            self.checking.insert(ip, key.clone());
            self.probing.forget(ip);
            let all: Vec<_> = self.checking.keys().copied().collect();
            self.probing.want(now, &all);
        }
        true
    }
}

fn look_at(at: Instant) -> Deadline {
    Deadline { at, why: "a lease" }
}

/// The leases that the Service speaks of.
pub(super) fn written(service: &Service) -> Leases {
    service.annotations.get(LEASE).map(|it| lease::decode(it)).unwrap_or_default()
}
