//! Ports of VIPs on the site's gateway: what is wanted there compared with what it confirmed.
//!
//! ```text
//!                 ┌── nobody answers ──┐                    ┌──── half of the lease ────┐
//!                 ▼                    │                    ▼                           │
//!   gateway:  looked for ──▶ found ────┘     port:  asked for ──▶ read back ──▶ held ───┘
//!                             │ looked at           │      ▲                     │
//!                             └ forgot all ─────────│──────┴── written down no more
//!                                                   └▶ refused, and asked for again later
//! ```
//!
//! A gateway is known by a family and a link: who speaks with it, speaks from the VIP, since
//! gateways map only the sender. A port whose VIP moves is left as it is: the next holder asks
//! for the same with the same nonce, and that renews it.

mod asking;
mod entry;
mod epoch;
mod gateway;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub(crate) use asking::{OUTSIDE, is_asked, outside, wish};
pub(crate) use entry::Standing;
use entry::{Entry, Step};
use gateway::{Gateway, State};

use super::agenda::Agenda;
use super::{Action, Cx, Deadline};
use crate::model::{
    Exposed, GatewayCall, GatewayRefusal, GatewayReply, Instant, IpFamily, LinkName, Nonce,
    Protocol, RequestId, ServicePort, Vip,
};

/// So many requests about ports are under way at a time.
const AT_ONCE: usize = 4;

/// What is wanted of the gateway for one port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wish {
    /// Seconds; 0: for good.
    pub lease: u32,
    pub nonce: Nonce,
    pub name: String,
}

/// Where the gateway is to be looked for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Site {
    pub family: IpFamily,
    pub link: Option<LinkName>,
}

impl Site {
    pub fn of(vip: Vip, link: Option<LinkName>) -> Self {
        Self { family: IpFamily::of(vip.0), link }
    }
}

/// All ports that this node sees to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mappings {
    gateways: BTreeMap<Site, Gateway>,
    /// Where each VIP's gateway is.
    sites: BTreeMap<Vip, Site>,
    entries: BTreeMap<Exposed, Entry>,
    agenda: Agenda<Exposed>,
    asked: BTreeMap<RequestId, Asked>,
    /// What is to be told of these has changed.
    news: BTreeSet<Vip>,
}

#[derive(Clone, Debug)]
enum Asked {
    Find(Site),
    Look(Site),
    Port(Exposed, Step),
}

impl Mappings {
    /// These are the ports of a VIP that this node answers for; others of it are closed.
    pub fn want(&mut self, now: Instant, vip: Vip, site: Site, ports: BTreeMap<ServicePort, Wish>) {
        if self.sites.get(&vip).is_some_and(|it| *it != site) {
            self.leave(vip);
        }
        let known: Vec<_> = self.of(vip).map(|it| *it.0).collect();
        if known.is_empty() && ports.is_empty() {
            return;
        }
        self.sites.insert(vip, site.clone());
        for exposed in known.into_iter().filter(|it| !ports.contains_key(&it.port)) {
            self.change(now, exposed, |entry| entry.unwish());
        }
        for (port, wish) in ports {
            let exposed = Exposed { vip, port };
            let entry = self.entries.entry(exposed);
            let mut fresh = false;
            entry.or_insert_with(|| {
                fresh = true;
                Entry::new(wish.clone())
            });
            if port.protocol == Protocol::Sctp {
                let protocol = port.protocol.name().to_owned();
                self.set(exposed, |it| it.refusal = Some(GatewayRefusal::NotMappable { protocol }));
            } else if fresh {
                self.schedule(exposed, Some(now));
            } else {
                self.change(now, exposed, |it| it.wish_again(wish));
            }
            if fresh {
                self.news.insert(vip);
            }
        }
        if self.of(vip).any(|it| it.0.port.protocol != Protocol::Sctp) {
            self.gateways.entry(site).or_insert_with(|| Gateway::new(now));
        }
    }

    /// The VIP is another's from now on, ports and all.
    pub fn leave(&mut self, vip: Vip) {
        let gone: Vec<_> = self.of(vip).map(|it| *it.0).collect();
        for exposed in gone {
            self.forget(exposed);
        }
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &GatewayReply) {
        match self.asked.remove(&request) {
            None => {}
            Some(Asked::Find(site)) => self.on_found(cx, &site, reply),
            Some(Asked::Look(site)) => self.on_looked(cx, &site, reply),
            Some(Asked::Port(exposed, step)) => self.on_port(cx, exposed, &step, reply),
        }
    }

    /// Asks for what is due.
    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        self.see_to_gateways(cx);
        while self.busy() < AT_ONCE {
            let Some(exposed) = self.agenda.due(cx.now).next() else { break };
            self.schedule(exposed, None);
            self.ask(cx, exposed);
        }
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let full = self.busy() >= AT_ONCE;
        let port = self.agenda.deadline().filter(|_| !full);
        let gateways = self.gateways.values().filter_map(Gateway::deadline);
        port.into_iter().chain(gateways).min()
    }

    /// The VIPs of whose ports something else is so.
    pub fn take_news(&mut self) -> BTreeSet<Vip> {
        std::mem::take(&mut self.news)
    }

    /// Whether the gateway may have this port, as it is wished for.
    pub fn has(&self, exposed: Exposed, wish: &Wish) -> bool {
        self.entries.get(&exposed).is_some_and(|it| it.is_there_for(wish))
    }

    /// Whether there is anything of the VIP that the gateway may have, and that is not wished for.
    pub fn has_more(&self, vip: Vip, than: &BTreeMap<ServicePort, Wish>) -> bool {
        let meant = |port: &ServicePort, entry: &Entry| {
            than.get(port).is_some_and(|it| entry.is_there_for(it))
        };
        self.of(vip).any(|(it, entry)| entry.is_there() && !meant(&it.port, entry))
    }

    /// Whether there is anything of the VIP that is to be closed, and that the gateway may have.
    pub fn is_closing(&self, vip: Vip) -> bool {
        self.of(vip).any(|it| it.1.is_closing())
    }

    /// Whether it is not settled yet what becomes of a port of the VIP.
    pub fn is_open(&self, vip: Vip) -> bool {
        let gateway = self.sites.get(&vip).and_then(|it| self.gateways.get(it));
        let away = gateway.is_some_and(|it| it.refusal.is_some());
        !away && self.of(vip).any(|it| it.1.is_open())
    }

    /// How a port stands.
    pub fn standing(&self, exposed: &Exposed) -> Option<Standing<'_>> {
        let entry = self.entries.get(exposed)?;
        let gateway = self.gateways.get(self.sites.get(&exposed.vip)?);
        Some(entry.standing(gateway))
    }

    /// The address outside of the gateway by which some port of the VIP is reached.
    pub fn external(&self, vip: Vip) -> Option<IpAddr> {
        let gateway = self.gateways.get(self.sites.get(&vip)?)?;
        let held = self.of(vip).any(|it| it.1.held.is_some());
        gateway.external.filter(|_| held)
    }

    fn of(&self, vip: Vip) -> impl Iterator<Item = (&Exposed, &Entry)> {
        let first = ServicePort { port: 0, protocol: Protocol::Sctp };
        let last = ServicePort { port: u16::MAX, protocol: Protocol::Udp };
        self.entries.range(Exposed { vip, port: first }..=Exposed { vip, port: last })
    }

    fn busy(&self) -> usize {
        self.asked.values().filter(|it| matches!(it, Asked::Port(..))).count()
    }

    fn forget(&mut self, exposed: Exposed) {
        self.schedule(exposed, None);
        self.entries.remove(&exposed);
        self.news.insert(exposed.vip);
        if self.of(exposed.vip).next().is_some() {
            return;
        }
        if let Some(site) = self.sites.remove(&exposed.vip)
            && !self.sites.values().any(|it| *it == site)
        {
            self.gateways.remove(&site);
        }
    }

    fn schedule(&mut self, exposed: Exposed, at: Option<Instant>) {
        if self.entries.contains_key(&exposed) {
            let next = at.map(|at| Deadline { at, why: "a port on the gateway" });
            self.agenda.set(exposed, next);
        }
    }

    /// Does this to an entry, and looks at it at once if it says so.
    fn change(&mut self, now: Instant, exposed: Exposed, change: impl FnOnce(&mut Entry) -> bool) {
        let Some(entry) = self.entries.get_mut(&exposed) else {
            return;
        };
        let mappable = exposed.port.protocol != Protocol::Sctp;
        if change(entry) && !entry.busy && mappable {
            self.schedule(exposed, Some(now));
        }
    }

    /// Does this to an entry; it is told if that makes a difference.
    fn set(&mut self, exposed: Exposed, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(&exposed) else {
            return;
        };
        let before = (entry.refusal.clone(), entry.held.is_some());
        change(entry);
        if before != (entry.refusal.clone(), entry.held.is_some()) {
            self.news.insert(exposed.vip);
        }
    }

    /// Asks the gateway what comes next for a port.
    fn ask(&mut self, cx: &mut Cx<'_>, exposed: Exposed) {
        let gateway = self.sites.get(&exposed.vip).and_then(|it| self.gateways.get(it));
        let (Some(entry), Some(gateway)) = (self.entries.get_mut(&exposed), gateway) else {
            return;
        };
        let State::Found { way, .. } = &gateway.state else {
            // It is asked for when there is a gateway.
            return self.set(exposed, |it| it.expire(cx.now));
        };
        if entry.is_over() {
            return self.forget(exposed);
        }
        let (step, call) = entry.call(exposed, way, gateway.permanent);
        entry.busy = true;
        let request = cx.gateway(call);
        self.asked.insert(request, Asked::Port(exposed, step));
    }
}

/// What is not held is asked for again after this, and then after twice as long.
const AGAIN: Duration = Duration::from_secs(10);
/// But after no more than this.
const AGAIN_AT_MOST: Duration = Duration::from_secs(600);

impl Cx<'_> {
    fn gateway(&mut self, call: GatewayCall) -> RequestId {
        let request = self.next_request();
        self.out.push(Action::Gateway { request, call });
        request
    }
}
