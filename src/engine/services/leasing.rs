//! Addresses that DHCP servers lease: one lease a Service, held by whoever carries its VIP,
//! or, as long as nobody does, by whoever says who carries what.
//!
//! The lease rides on the Service, so that the next node has the address before it has asked
//! anybody. A node that loses the right to it forgets it and says nothing to servers: the lease
//! goes on with the VIP. Only when the Service is gone, or asks no more, is it given back.

mod identity;
mod seeing;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::probing::Probing;
use super::telling::Awaits;
use crate::engine::agenda::Agenda;
use crate::engine::backoff::Backoff;
use crate::engine::dhcp::Dhcp4;
use crate::engine::network::{LinkChoice, Usable};
use crate::engine::{Action, Cx, Deadline};
use crate::model::{
    Dhcp4Lease, Dhcp4Message, DhcpJob, DhcpRefusal, Instant, LeaseStatus, LinkIndex, Mac,
    ObjectName, ObjectReply, RequestId, ResourceVersion, Service, Vip,
};
use crate::wire::lease::{self, LEASE};

/// So many Services are seen to at a time, and the next ones this much later: a server, and
/// the switch before it, get no storm.
const AT_ONCE: usize = 32;
const NEXT_AFTER: Duration = Duration::from_millis(20);
/// A link that is not there is looked for so often.
const LINK_AGAIN: Duration = Duration::from_secs(1);
/// What was written and does not come back by the watch is written again then.
const COMES_BACK: Duration = Duration::from_secs(5);

/// How addresses are leased.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DhcpConfig {
    /// Each lease has a hardware address of its own, instead of the link's.
    pub own_mac: bool,
    /// After so many attempts in vain servers are asked more seldom; 0: never.
    pub attempts: u32,
}

/// What the node knows that Services do not.
pub(in crate::engine) struct Ground<'a> {
    /// This node says who carries what.
    pub leads: bool,
    /// Whether it may hold the lease of a VIP.
    pub may_hold: &'a dyn Fn(Vip) -> bool,
    /// The link for an address, by the choice of a Service.
    pub on: &'a dyn Fn(Option<&LinkChoice>, IpAddr) -> Option<Usable>,
    /// Who of this host has an address.
    pub own: &'a dyn Fn(IpAddr) -> Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Leasing {
    config: Option<DhcpConfig>,
    /// Services that ask for a lease.
    asking: BTreeSet<ObjectName>,
    held: BTreeMap<ObjectName, Held>,
    /// These are to be looked at.
    open: BTreeSet<ObjectName>,
    looked_at: Instant,
    agenda: Agenda<ObjectName>,
    leads: bool,
    /// Leased addresses whose lease this node may hold.
    placed: BTreeSet<IpAddr>,
    inbox: Vec<(LinkIndex, Mac, Dhcp4Message)>,
    /// Leased addresses that are asked about, and for whom.
    checking: BTreeMap<IpAddr, ObjectName>,
    probing: Probing,
    in_use: Vec<(IpAddr, Mac)>,
    listening: BTreeSet<LinkIndex>,
    writing: BTreeMap<RequestId, ObjectName>,
}

/// A lease that this node sees to.
#[derive(Clone, Debug)]
struct Held {
    uid: String,
    machine: Dhcp4,
    link: Usable,
    write: Write,
}

/// How the Service comes to say it.
#[derive(Clone, Debug)]
struct Write {
    under_way: bool,
    from: ResourceVersion,
    awaits: Option<Awaits>,
    last: Option<Option<String>>,
    backoff: Backoff,
    again_at: Option<Instant>,
}

impl Leasing {
    pub fn new(config: Option<DhcpConfig>) -> Self {
        Self {
            config,
            asking: BTreeSet::new(),
            held: BTreeMap::new(),
            open: BTreeSet::new(),
            looked_at: Instant::from_nanos(0),
            agenda: Agenda::default(),
            leads: false,
            placed: BTreeSet::new(),
            inbox: Vec::new(),
            checking: BTreeMap::new(),
            probing: Probing::default(),
            in_use: Vec::new(),
            listening: BTreeSet::new(),
            writing: BTreeMap::new(),
        }
    }

    /// The Service is other than it was.
    pub fn look_at(&mut self, name: &ObjectName, asks: bool) {
        let asked = if asks { !self.asking.insert(name.clone()) } else { self.asking.remove(name) };
        if asks || asked || self.held.contains_key(name) {
            self.open.insert(name.clone());
        }
    }

    /// The address that is leased for the Service, as far as this node knows.
    pub fn address(&self, service: &Service) -> Option<IpAddr> {
        let lease = match self.held.get(&service.name) {
            Some(it) if it.uid == service.uid => it.machine.lease().cloned(),
            Some(_) | None => written(service),
        };
        lease.map(|it| it.address.into())
    }

    /// When the right to use the address ends, if this node knows.
    pub fn until(&self, name: &ObjectName, ip: IpAddr) -> Option<Instant> {
        let it = &self.held.get(name)?.machine;
        it.until().filter(|_| it.lease().is_some_and(|it| IpAddr::from(it.address) == ip))
    }

    pub fn refusal(&self, name: &ObjectName) -> Option<&DhcpRefusal> {
        self.held.get(name)?.machine.refusal()
    }

    pub fn status(&self, now: Instant, name: &ObjectName) -> Option<LeaseStatus> {
        self.held.get(name).map(|it| it.machine.status(now))
    }

    /// A server speaks. It is listened to when the turn gets to leases.
    pub fn on_message(&mut self, link: LinkIndex, from: Mac, message: Dhcp4Message) {
        self.inbox.push((link, from, message));
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
        let Some(it) = self.held.get_mut(&name).map(|it| &mut it.write) else {
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
        self.open.insert(name);
    }

    /// What is to be listened for: who uses what was leased just now.
    pub fn probed(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.probing.addresses()
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let open = (!self.open.is_empty()).then(|| look_at(self.looked_at + NEXT_AFTER));
        let open = open.into_iter().chain(self.agenda.deadline());
        open.chain(self.probing.deadline()).min()
    }

    /// Has servers heard where there is something to ask them.
    fn listen(&mut self, cx: &mut Cx<'_>) {
        let links: BTreeSet<_> = self.held.values().map(|it| it.link.index).collect();
        if self.listening != links {
            cx.act(Action::Dhcp(DhcpJob::Listen(links.iter().copied().collect())));
            self.listening = links;
        }
    }

    fn schedule(&mut self, name: &ObjectName) {
        let Some(it) = self.held.get(name) else {
            return;
        };
        let write = it.write.again_at.filter(|_| !it.write.under_way);
        let due = it.machine.deadline().into_iter().chain(write).min();
        self.agenda.set(name.clone(), due.map(look_at));
    }

    fn remove(&mut self, name: &ObjectName) -> Option<Held> {
        let it = self.held.remove(name)?;
        self.agenda.set(name.clone(), None);
        Some(it)
    }

    /// Has unchecked addresses checked. Returns whether others are than before.
    fn check(&mut self, now: Instant, name: &ObjectName) -> bool {
        let before = self.checking.iter().find(|it| it.1 == name).map(|it| *it.0);
        let after = self.held.get(name).and_then(|it| it.machine.unchecked()).map(IpAddr::from);
        if before == after {
            return false;
        }
        if let Some(ip) = before {
            self.checking.remove(&ip);
            self.probing.forget(ip);
        }
        if let Some(ip) = after {
            self.checking.insert(ip, name.clone());
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

/// The lease that the Service speaks of.
fn written(service: &Service) -> Option<Dhcp4Lease> {
    service.annotations.get(LEASE).and_then(|it| lease::decode(it))
}
