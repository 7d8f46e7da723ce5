//! Which lease begins, goes on, or ends here, and what follows from that for its Service.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::identity::{client_id, own_mac, send};
use super::{AT_ONCE, Ground, Held, LINK_AGAIN, NEXT_AFTER, Write, look_at, written};
use crate::engine::Cx;
use crate::engine::backoff::Backoff;
use crate::engine::dhcp::{Dhcp4, Dhcp4Config, Turn};
use crate::engine::network::{LinkChoice, Usable};
use crate::engine::services::wants::{AskedLease, Verdict};
use crate::engine::services::{Known, Services};
use crate::model::{Instant, ObjectName, Service, Vip};

impl Services {
    /// Sees to leases. Returns whether other addresses are to be listened for than before.
    pub fn lease(&mut self, cx: &mut Cx<'_>, ground: &Ground<'_>) -> bool {
        if self.leasing.config.is_none() {
            return false;
        }
        let mut news = false;
        for (link, from, message) in std::mem::take(&mut self.leasing.inbox) {
            let held = self.leasing.held.iter();
            let mut of = held.filter(|it| it.1.link.index == link);
            if let Some((name, _)) = of.find(|it| it.1.machine.awaits(message.xid)) {
                let name = name.clone();
                news |= self.act(cx, ground, &name, |it, turn| it.on_message(turn, from, &message));
            }
        }
        for (ip, mac) in std::mem::take(&mut self.leasing.in_use) {
            if let Some(name) = self.leasing.checking.get(&ip).cloned() {
                news |= self.act(cx, ground, &name, |it, turn| it.on_probed(turn, Some(mac)));
            }
        }
        if std::mem::replace(&mut self.leasing.leads, ground.leads) != ground.leads {
            self.leasing.open.extend(self.leasing.asking.iter().cloned());
        }
        for name in self.leasing.agenda.due(cx.now).collect::<Vec<_>>() {
            self.leasing.agenda.set(name.clone(), None);
            self.leasing.open.insert(name);
        }
        let paused = cx.now < self.leasing.looked_at + NEXT_AFTER;
        if !self.leasing.open.is_empty() && !paused {
            self.leasing.looked_at = cx.now;
            for _ in 0..AT_ONCE {
                let Some(name) = self.leasing.open.pop_first() else { break };
                news |= self.see_to(cx, ground, &name);
            }
        }
        let links: BTreeMap<_, _> = self.leasing.checking.iter().collect();
        let held = &self.leasing.held;
        let on = |ip| links.get(&ip).and_then(|name| Some(held.get(*name)?.link));
        let mut probing = std::mem::take(&mut self.leasing.probing);
        probing.tick(cx, &on);
        news |= probing.take_news();
        self.leasing.probing = probing;
        let free = |it: &(&IpAddr, &ObjectName)| self.leasing.probing.is_free(cx.now, *it.0);
        let free: Vec<_> =
            self.leasing.checking.iter().filter(free).map(|it| it.1.clone()).collect();
        for name in free {
            news |= self.act(cx, ground, &name, |it, turn| it.on_probed(turn, None));
        }
        self.leasing.listen(cx);
        news
    }

    /// Whether this node may hold the lease of a VIP.
    pub fn note_placed(&mut self, vip: Vip, may_hold: &dyn Fn(Vip) -> bool) {
        let leasing = &mut self.leasing;
        if leasing.asking.is_empty() {
            return;
        }
        let claims = self.claims.get(&vip.0).into_iter().flatten();
        let names: Vec<_> = claims.filter(|it| leasing.asking.contains(*it)).cloned().collect();
        let may = !names.is_empty() && may_hold(vip);
        let set = &mut leasing.placed;
        let news = if may { set.insert(vip.0) } else { set.remove(&vip.0) };
        if news {
            leasing.open.extend(names);
        }
    }

    /// Begins, goes on with, or ends the lease of a Service, as is right.
    fn see_to(&mut self, cx: &mut Cx<'_>, ground: &Ground<'_>, name: &ObjectName) -> bool {
        let asked = self.services.get(name).and_then(|it| Some((it.service.clone(), asked(it)?)));
        let held = self.leasing.held.get(name);
        let Some((service, (asks, link))) = asked else {
            return held.is_some() && self.give_back(cx, ground, name);
        };
        if held.is_some_and(|it| it.uid != service.uid) {
            self.give_back(cx, ground, name);
        }
        let has = self.leasing.address(&service);
        let may = match has {
            Some(ip) => (ground.may_hold)(Vip(ip)),
            None => ground.leads,
        };
        match (self.leasing.held.get(name), may) {
            (None, false) => return false,
            (Some(it), false) => {
                // What nobody else can know yet is not forgotten.
                let secret = it.machine.lease().is_some() && written(&service).is_none();
                if secret && self.config.writes {
                    return self.act(cx, ground, name, |_, _| {});
                }
                let before = self.lease_of(name);
                self.leasing.remove(name);
                return self.after(cx, name, before);
            }
            (Some(_), true) => {}
            (None, true) => {
                let ip = has.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                let Some(on) = (ground.on)(link.as_ref(), ip) else {
                    let next = look_at(cx.now + LINK_AGAIN);
                    self.leasing.agenda.set(name.clone(), Some(next));
                    return false;
                };
                self.begin(cx.now, &service, &asks, on);
                // Before it speaks: answers are quick.
                self.leasing.listen(cx);
            }
        }
        if let Some(on) = has.and_then(|ip| (ground.on)(link.as_ref(), ip))
            && let Some(it) = self.leasing.held.get_mut(name)
        {
            it.link = on;
        }
        self.act(cx, ground, name, |_, _| {})
    }

    fn begin(&mut self, now: Instant, service: &Service, asks: &AskedLease, on: Usable) {
        let Some(rules) = &self.leasing.config else {
            return;
        };
        let config = Dhcp4Config {
            mac: match rules.own_mac {
                true => asks.mac.unwrap_or_else(|| own_mac(&service.uid)),
                false => on.mac,
            },
            client_id: match asks.host_name.as_str() {
                "" => client_id(&service.uid),
                name => name.as_bytes().to_vec(),
            },
            host_name: asks.host_name.clone(),
            requested: asks.requested,
            attempts: rules.attempts,
        };
        let machine = match written(service) {
            Some(lease) => Dhcp4::take_over(config, lease, now),
            None => Dhcp4::new(config, now),
        };
        let write = Write {
            under_way: false,
            from: service.version.clone(),
            awaits: None,
            last: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(60)),
            again_at: None,
        };
        let held = Held { uid: service.uid.clone(), machine, link: on, write };
        self.leasing.held.insert(service.name.clone(), held);
    }

    /// The Service is gone, or asks no more.
    fn give_back(&mut self, cx: &mut Cx<'_>, ground: &Ground<'_>, name: &ObjectName) -> bool {
        let before = self.lease_of(name);
        let Some(it) = self.leasing.remove(name) else {
            return false;
        };
        // Services that go by one name have one lease.
        let id = &it.machine.config().client_id;
        let shared = self.leasing.held.values().any(|it| it.machine.config().client_id == *id);
        if !shared {
            let mut said = Vec::new();
            let node_of = |ip: Ipv4Addr| self.node_of(ground, ip);
            let (now, rng) = (cx.now, &mut *cx.rng);
            let answered = false;
            let turn = &mut Turn { now, rng, out: &mut said, node_of: &node_of, answered };
            it.machine.release(turn);
            send(cx, it.link, said);
        }
        self.after(cx, name, before)
    }

    /// Lets a machine do something, and does what follows from that.
    fn act(
        &mut self,
        cx: &mut Cx<'_>,
        ground: &Ground<'_>,
        name: &ObjectName,
        what: impl FnOnce(&mut Dhcp4, &mut Turn<'_>),
    ) -> bool {
        let before = self.lease_of(name);
        let Some(it) = self.leasing.held.get(name) else {
            return false;
        };
        let (mut machine, link) = (it.machine.clone(), it.link);
        let has = machine.lease().map(|it| IpAddr::from(it.address));
        let mut said = Vec::new();
        let node_of = |ip: Ipv4Addr| self.node_of(ground, ip);
        let answered = has.is_some_and(|ip| self.telling.answering.contains(&ip));
        let (now, rng) = (cx.now, &mut *cx.rng);
        let turn = &mut Turn { now, rng, out: &mut said, node_of: &node_of, answered };
        what(&mut machine, turn);
        machine.tick(turn);
        if let Some(it) = self.leasing.held.get_mut(name) {
            it.machine = machine;
        }
        send(cx, link, said);
        self.write_lease(cx, name);
        self.after(cx, name, before)
    }

    /// The address and its end, as they stand.
    fn lease_of(&self, name: &ObjectName) -> Option<(IpAddr, Option<Instant>)> {
        let it = self.services.get(name)?;
        let ip = self.leasing.address(&it.service)?;
        Some((ip, self.leasing.until(name, ip)))
    }

    /// Whoever is concerned by what a machine did is told.
    fn after(
        &mut self,
        cx: &mut Cx<'_>,
        name: &ObjectName,
        before: Option<(IpAddr, Option<Instant>)>,
    ) -> bool {
        self.leasing.schedule(name);
        let news = self.leasing.check(cx.now, name);
        if self.lease_of(name) != before
            && let Some(service) = self.services.get(name).map(|it| it.service.clone())
        {
            self.take(cx.now, service);
        }
        self.telling.look_at(name);
        news
    }

    /// Who has the address, of those who may not have it by a lease.
    fn node_of(&self, ground: &Ground<'_>, ip: Ipv4Addr) -> Option<String> {
        let ip = IpAddr::from(ip);
        let node = self.nodes.values().find(|it| it.addresses.contains(&ip));
        node.map(|it| format!("the node {}", it.name)).or_else(|| (ground.own)(ip))
    }
}

/// What a Service asks for, if that is a lease.
fn asked(it: &Known) -> Option<(AskedLease, Option<LinkChoice>)> {
    match &it.verdict {
        Verdict::Wanted(it) => Some((it.lease.clone()?, it.link.clone())),
        Verdict::Addressless | Verdict::Others | Verdict::Refused(_) => None,
    }
}
