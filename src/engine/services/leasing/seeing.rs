//! Which lease begins, goes on, or ends here, and what follows from that for its Service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::identity::{client_id, iaid_and_duid, own_mac, packets6};
use super::links::{any, asked};
use super::machine::{Cause, Here, Machine};
use super::{AT_ONCE, DhcpMac, GONE_BY, Ground, Held, Key, NEXT_AFTER, written};
use crate::engine::dhcp::{Dhcp4, Dhcp4Config, Dhcp6, Dhcp6Config, Turn};
use crate::engine::network::Usable;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::services::telling::HOST;
use crate::engine::services::wants::AskedLease;
use crate::engine::services::{Known, Services};
use crate::engine::{Action, Cx};
use crate::model::{DhcpHeard, DhcpJob, DhcpPacket, Instant, IpFamily, Mac, Service, Vip};
use crate::wire::lease::LEASE;

impl Services {
    /// Sees to leases. Returns whether other addresses are to be listened for than before.
    pub fn lease(&mut self, cx: &mut Cx<'_>, ground: &Ground<'_>) -> bool {
        if self.leasing.config.is_none() {
            return false;
        }
        let mut news = false;
        self.leasing.lost.retain(|_, it| cx.now < it.1);
        for (link, heard) in std::mem::take(&mut self.leasing.inbox) {
            let held = self.leasing.held.iter();
            let mut of = held.filter(|it| it.1.link.index == link);
            if let Some((key, _)) = of.find(|it| it.1.machine.awaits(&heard)) {
                let key = key.clone();
                news |= self.act(cx, ground, &key, Cause::Heard(&heard));
            } else if let DhcpHeard::V6(_, answer) = &heard {
                self.leasing.partings.retain(|it| !it.1.awaits(answer));
            }
        }
        for (ip, mac) in std::mem::take(&mut self.leasing.in_use) {
            if let Some(key) = self.leasing.checking.get(&ip).cloned() {
                news |= self.act(cx, ground, &key, Cause::Probed(Some(mac)));
            }
        }
        if std::mem::replace(&mut self.leasing.leads, ground.leads) != ground.leads {
            self.leasing.open.extend(self.leasing.asking.iter().cloned());
            let told = self.services.values().map(|it| it.service());
            let told = told.filter(|it| it.annotations.contains_key(LEASE));
            self.leasing.open.extend(told.map(|it| (it.name.clone(), IpFamily::V4)));
            let asking = self.leasing.asking.iter();
            let leased = asking.filter_map(|it| Some(self.lease_of(it)?.0));
            let placed = leased.filter(|ip| (ground.may_hold)(Vip(*ip)));
            let since = |ip| (ip, self.leasing.relied_on_since(cx.now, ip));
            self.leasing.placed = placed.map(since).collect();
        }
        if std::mem::replace(&mut self.leasing.revision, ground.revision) != ground.revision {
            self.leasing.open.extend(self.leasing.linkless.keys().cloned());
            let elsewhere = |(key, it): &(&Key, &Held)| {
                self.link_of(ground, key).is_some_and(|on| on.index != it.link.index)
            };
            let moved = self.leasing.held.iter().filter(elsewhere);
            let moved: Vec<_> = moved.map(|it| it.0.clone()).collect();
            self.leasing.open.extend(moved);
        }
        for key in self.leasing.agenda.due(cx.now).collect::<Vec<_>>() {
            self.leasing.agenda.set(key.clone(), None);
            self.leasing.open.insert(key);
        }
        let paused = cx.now < self.leasing.looked_at + NEXT_AFTER;
        if !self.leasing.open.is_empty() && !paused {
            self.leasing.looked_at = cx.now;
            for _ in 0..AT_ONCE {
                let Some(key) = self.leasing.open.pop_first() else { break };
                news |= self.see_to(cx, ground, &key);
            }
        }
        let links: BTreeMap<_, _> = self.leasing.checking.iter().collect();
        let held = &self.leasing.held;
        let on = |ip| links.get(&ip).and_then(|key| Some(held.get(*key)?.link));
        let mut probing = std::mem::take(&mut self.leasing.probing);
        probing.tick(cx, &on);
        news |= probing.take_news();
        self.leasing.probing = probing;
        let free = |it: &(&IpAddr, &Key)| self.leasing.probing.is_free(cx.now, *it.0);
        let free: Vec<_> =
            self.leasing.checking.iter().filter(free).map(|it| it.1.clone()).collect();
        for key in free {
            news |= self.act(cx, ground, &key, Cause::Probed(None));
        }
        self.part(cx, ground);
        self.leasing.listen(cx);
        news
    }

    /// Says again what nobody has heard.
    fn part(&mut self, cx: &mut Cx<'_>, ground: &Ground<'_>) {
        let mut partings = std::mem::take(&mut self.leasing.partings);
        for (on, it) in &mut partings {
            let (now, rng, mut said) = (cx.now, &mut *cx.rng, Vec::new());
            let (node_of, answered) = (&|_| None, false);
            it.tick(&mut Turn { now, rng, out: &mut said, node_of, answered });
            send(cx, *on, packets6(*on, (ground.local)(on.index), said));
        }
        partings.retain(|it| !it.1.is_over());
        self.leasing.partings = partings;
    }

    /// Whether the next one to carry the VIP would take it for leased, which it is not.
    pub fn is_over(&self, vip: Vip) -> bool {
        self.leasing.is_over(vip.0) && !sabotaged(Sabotage::EndUntold)
    }

    /// Whether this node may hold the lease of a VIP.
    pub fn note_placed(&mut self, now: Instant, vip: Vip, may_hold: &dyn Fn(Vip) -> bool) {
        let leasing = &mut self.leasing;
        if leasing.asking.is_empty() {
            return;
        }
        let claims = self.addresses.get(&vip.0).into_iter().flat_map(|it| it.by.iter());
        let keys = claims.map(|it| (it.clone(), IpFamily::of(vip.0)));
        let keys: Vec<_> = keys.filter(|it| leasing.asking.contains(it)).collect();
        let may = !keys.is_empty() && may_hold(vip);
        let set = &mut leasing.placed;
        let before = set.contains_key(&vip.0);
        place(set, now, vip.0, may);
        let news = before != may;
        if news {
            if leasing.open.is_empty() {
                // This turn has looked already.
                leasing.looked_at = now;
            }
            leasing.open.extend(keys);
        }
    }

    /// When the right to use an address ends, if it is leased: for whoever is about to go on
    /// with another's lease, too.
    pub fn lease_ends(&self, now: Instant, vip: Vip) -> Option<Instant> {
        let place = self.place(vip)?;
        if place.until.is_some() || self.leasing.asking.is_empty() {
            return place.until;
        }
        let family = IpFamily::of(vip.0);
        let keys =
            self.claimants(vip.0).iter().map(|it| (it.clone(), family)).filter(|it| {
                self.leasing.asking.contains(it) && !self.leasing.held.contains_key(it)
            });
        let told = keys.filter_map(|it| Some(written(&self.services.get(&it.0)?.service())));
        let since = self.leasing.relied_on_since(now, vip.0);
        told.filter_map(|it| Some(since + it.kept(family)?)).min()
    }

    /// Begins, goes on with, or ends a lease, as is right.
    fn see_to(&mut self, cx: &mut Cx<'_>, ground: &Ground<'_>, key: &Key) -> bool {
        let (name, family) = key;
        let asked = |it: &Known| Some((it.service(), asked(it, *family)?));
        let asked = self.services.get(name).and_then(|it| asked(it));
        let uid = asked.as_ref().map(|it| &it.0.uid);
        if self.leasing.lost.get(key).is_some_and(|it| Some(&it.0.uid) != uid)
            && let Some((it, _)) = self.leasing.lost.remove(key)
        {
            self.leasing.held.entry(key.clone()).or_insert(it);
        }
        let held = self.leasing.held.get(key);
        let Some((service, (asks, link))) = asked else {
            let had = held.is_some();
            self.leasing.link(key, false);
            let news = had && self.give_back(cx, ground, key);
            if had || ground.leads {
                // Nobody is to take up again what is given back.
                self.write_leases(cx, name);
                self.leasing.schedule(key);
            } else {
                // What there is to write of the other family is that one's.
                self.leasing.agenda.set(key.clone(), None);
                if self.leasing.held_for(name).next().is_none() {
                    self.leasing.writes.remove(name);
                }
            }
            return news;
        };
        if held.is_some_and(|it| it.uid != service.uid) {
            self.give_back(cx, ground, key);
        }
        let has = self.leasing.address(&service, *family);
        let may = match has {
            Some(ip) => (ground.may_hold)(Vip(ip)),
            None => ground.leads,
        };
        if let Some(ip) = has {
            place(&mut self.leasing.placed, cx.now, ip, may);
        }
        let mut begun = false;
        match (self.leasing.held.get(key), may) {
            (None, false) => {
                let host = service.annotations.get(HOST);
                if host.is_some_and(|it| **it != *self.me.0) {
                    self.leasing.lost.remove(key);
                }
                self.leasing.link(key, false);
                return false;
            }
            (Some(it), false) => {
                // What nobody else can know yet is not forgotten: a lease, or that there is none.
                let secret = it.machine.address() != written(&service).address(*family);
                if secret && self.config.writes {
                    return self.act(cx, ground, key, Cause::Time);
                }
                if sabotaged(Sabotage::LostLeaseRenewed) {
                    return self.act(cx, ground, key, Cause::Time);
                }
                let before = self.lease_of(key);
                if let Some(it) = self.leasing.remove(key) {
                    self.leasing.lost.insert(key.clone(), (it, cx.now + GONE_BY));
                }
                self.leasing.link(key, false);
                let news = self.after(cx, key, before);
                // What there is to write is written for the other one, or not at all.
                self.leasing.agenda.set(key.clone(), None);
                return news;
            }
            (Some(_), true) => self.leasing.link(key, true),
            (None, true) => {
                let ip = has.unwrap_or(any(*family));
                self.leasing.link(key, true);
                let on = match (ground.on)(link.as_ref(), ip) {
                    Ok(on) => on,
                    Err(refusal) => return self.wait_for_link(cx.now, key, &refusal),
                };
                self.leasing.lost.remove(key);
                let before = self.lease_of(key);
                self.leasing.linkless.remove(key);
                self.begin(cx.now, &service, *family, &asks, on);
                // Before it speaks: answers are quick.
                self.leasing.listen(cx);
                begun = self.after(cx, key, before);
            }
        }
        if let Some(on) = self.link_of(ground, key)
            && let Some(it) = self.leasing.held.get_mut(key)
            && std::mem::replace(&mut it.link, on).index != on.index
        {
            it.machine.moved(cx.now);
            self.leasing.listen(cx);
        }
        self.act(cx, ground, key, Cause::Time) | begun
    }

    fn begin(
        &mut self,
        now: Instant,
        service: &Service,
        family: IpFamily,
        asks: &AskedLease,
        on: Usable,
    ) {
        let Some(rules) = &self.leasing.config else {
            return;
        };
        let written = written(service);
        let requested = asks.requested.iter().find(|it| IpFamily::of(**it) == family);
        let machine = match family {
            IpFamily::V4 => {
                let config = Dhcp4Config {
                    mac: match rules.mac {
                        DhcpMac::Own => mac_of(service, asks),
                        // A link that is made for it has been given one.
                        DhcpMac::Link | DhcpMac::Macvlan => on.mac,
                    },
                    client_id: match asks.client.as_str() {
                        "" => client_id(&service.uid),
                        name => name.as_bytes().to_vec(),
                    },
                    host_name: asks.host_name.clone(),
                    requested: requested.and_then(|it| match it {
                        IpAddr::V4(it) => Some(*it),
                        IpAddr::V6(_) => None,
                    }),
                    attempts: rules.attempts,
                };
                Machine::V4(Box::new(match written.v4 {
                    Some(lease) => {
                        let since = self.leasing.relied_on_since(now, lease.address.into());
                        Dhcp4::take_over(config, lease, since, now)
                    }
                    None => Dhcp4::new(config, now),
                }))
            }
            IpFamily::V6 => {
                let (iaid, duid) = iaid_and_duid(&service.uid);
                // It asks again: what was given back is not given back once more.
                self.leasing.partings.retain(|it| !it.1.is_of(&duid));
                let config = Dhcp6Config {
                    duid,
                    iaid,
                    host_name: asks.host_name.clone(),
                    requested: requested.and_then(|it| match it {
                        IpAddr::V4(_) => None,
                        IpAddr::V6(it) => Some(*it),
                    }),
                };
                Machine::V6(Box::new(match written.v6 {
                    Some(lease) => {
                        let since = self.leasing.relied_on_since(now, lease.address.into());
                        Dhcp6::take_over(config, lease, since, now)
                    }
                    None => Dhcp6::new(config, now),
                }))
            }
        };
        let held = Held { uid: service.uid.clone(), machine, link: on };
        self.leasing.held.insert((service.name.clone(), family), held);
    }

    /// The Service is gone, or asks no more.
    fn give_back(&mut self, cx: &mut Cx<'_>, ground: &Ground<'_>, key: &Key) -> bool {
        let before = self.lease_of(key);
        let Some(it) = self.leasing.remove(key) else {
            return false;
        };
        // Services that go by one name have one lease.
        let shared =
            self.leasing.held.values().any(|other| it.machine.is_same_client(&other.machine));
        if !shared && !sabotaged(Sabotage::LeaseKept) {
            let here = Here {
                now: cx.now,
                rng: &mut *cx.rng,
                node_of: &|ip| self.node_of(ground, ip),
                answered: false,
                link: it.link,
                local: (ground.local)(it.link.index),
            };
            let (said, parting) = it.machine.release(here);
            send(cx, it.link, said);
            self.leasing.partings.extend(parting.map(|parting| (it.link, parting)));
        }
        self.after(cx, key, before)
    }

    /// Lets a machine do something, and does what follows from that.
    fn act(&mut self, cx: &mut Cx<'_>, ground: &Ground<'_>, key: &Key, cause: Cause<'_>) -> bool {
        let before = self.lease_of(key);
        let Some(it) = self.leasing.held.get(key) else {
            return false;
        };
        let (mut machine, link) = (it.machine.clone(), it.link);
        let here = Here {
            now: cx.now,
            rng: &mut *cx.rng,
            node_of: &|ip| self.node_of(ground, ip),
            answered: machine.address().is_some_and(|ip| self.answers(ip)),
            link,
            local: (ground.local)(link.index),
        };
        let said = machine.act(cause, here);
        if let Some(it) = self.leasing.held.get_mut(key) {
            it.machine = machine;
        }
        send(cx, link, said);
        self.write_leases(cx, &key.0);
        self.after(cx, key, before)
    }

    /// The address and its end, as they stand.
    fn lease_of(&self, (name, family): &Key) -> Option<(IpAddr, Option<Instant>)> {
        let it = self.services.get(name)?;
        let ip = self.leasing.address(&it.service(), *family)?;
        Some((ip, self.leasing.until(name, ip)))
    }

    /// Whoever is concerned by what a machine did is told.
    fn after(
        &mut self,
        cx: &mut Cx<'_>,
        key: &Key,
        before: Option<(IpAddr, Option<Instant>)>,
    ) -> bool {
        self.leasing.schedule(key);
        let news = self.leasing.check(cx.now, key);
        let now = self.lease_of(key);
        if let Some((ip, _)) = now {
            self.leasing.over.remove(&ip);
        }
        if now != before
            && let Some(service) = self.services.get(&key.0).map(|it| it.service())
        {
            let told = written(&service).address(key.1);
            let over = before.map(|it| it.0).filter(|ip| Some(*ip) == told && self.config.writes);
            if let Some(ip) = over.filter(|ip| now.is_none_or(|it| it.0 != *ip)) {
                self.leasing.over.insert(ip, key.clone());
            }
            self.take(cx.now, service);
        }
        self.telling.look_at(&key.0);
        news
    }

    /// Who has the address, of those who may not have it by a lease.
    fn node_of(&self, ground: &Ground<'_>, ip: IpAddr) -> Option<String> {
        let node = self.nodes.values().find(|it| it.addresses.contains(&ip));
        node.map(|it| format!("the node {}", it.name)).or_else(|| (ground.own)(ip))
    }
}

/// The hardware address that is the Service's.
pub(in crate::engine::services) fn mac_of(service: &Service, asks: &AskedLease) -> Mac {
    asks.mac.unwrap_or_else(|| own_mac(&service.uid))
}

fn place(placed: &mut BTreeMap<IpAddr, Instant>, now: Instant, ip: IpAddr, may: bool) {
    if may {
        placed.entry(ip).or_insert(now);
    } else {
        placed.remove(&ip);
    }
}

fn send(cx: &mut Cx<'_>, on: Usable, said: Vec<DhcpPacket>) {
    for packet in said {
        cx.act(Action::Dhcp(DhcpJob::Send { link: on.index, packet: Box::new(packet) }));
    }
}
