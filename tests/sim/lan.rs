//! A switch, and a client whose neighbour cache ages: where would its packet go?

use std::collections::BTreeMap;

use edgevip::engine::Input;
use edgevip::model::{Frame, Heard, LinkIndex, Mac, Vip};

use crate::host::{MS, Nanos, SEC, US, mac_of};
use crate::world::{Ear, Event, World};

pub const STRANGER: Mac = Mac([2, 0, 0, 0, 9, 9]);

/// Where the client's packets go, and since when they have gone nowhere.
#[derive(Default)]
pub struct Client {
    pub cache: BTreeMap<Vip, Neighbour>,
    cut_since: BTreeMap<Vip, Nanos>,
    /// The longest it was cut off, in the stretch of time that is measured.
    pub worst: Nanos,
    /// Old kernels ignore news about an entry that is younger than a second.
    pub locks: bool,
    pub frames: u64,
}

#[derive(Clone, Copy)]
pub struct Neighbour {
    pub mac: Mac,
    updated_at: Nanos,
    look_again_at: Nanos,
}

impl Client {
    pub fn measure_anew(&mut self) {
        self.worst = 0;
        self.cut_since.clear();
    }

    /// How long the client has been cut off from the VIP.
    pub fn cut_for(&self, vip: Vip, now: Nanos) -> Nanos {
        self.cut_since.get(&vip).map_or(0, |since| now - since)
    }
}

impl World {
    /// A frame of a node's leaves by its link.
    pub fn transmit(&mut self, from: usize, frame: Frame) {
        if !self.hosts[from].can_send(self.now) {
            return;
        }
        let (mac, ip, probe) = parts(&frame);
        self.broadcast(Some(from), mac, ip, probe);
        if !probe {
            return;
        }
        let vip = Vip(ip);
        for other in (0..self.hosts.len()).filter(|it| *it != from) {
            let there =
                self.hosts[other].can_receive(self.now) && self.hosts[other].can_send(self.now);
            if there && self.answers(other, vip) {
                self.tell(from, mac_of(other), ip);
            }
        }
        if self.stranger_until > self.now {
            self.tell(from, STRANGER, ip);
        }
    }

    /// Everybody on the switch hears it, unless it is lost on the way to them.
    pub fn broadcast(&mut self, from: Option<usize>, mac: Mac, ip: std::net::IpAddr, probe: bool) {
        let others = (0..self.hosts.len()).filter(|it| Some(*it) != from);
        let ears = others.map(Ear::Host).chain([Ear::Client]);
        for to in ears.collect::<Vec<_>>() {
            if !self.chance(self.faults.lan_loss) {
                let delay = self.quick(100 * US, self.faults.lan_tail);
                self.schedule(delay, Event::Frame { to, mac, ip, probe });
            }
        }
    }

    /// An answer to a probe.
    fn tell(&mut self, to: usize, mac: Mac, ip: std::net::IpAddr) {
        let delay = self.quick(200 * US, self.faults.lan_tail);
        self.schedule(delay, Event::Frame { to: Ear::Host(to), mac, ip, probe: false });
    }

    pub fn on_frame(&mut self, to: Ear, mac: Mac, ip: std::net::IpAddr, probe: bool) {
        match to {
            Ear::Host(host) => {
                let Some(plug) = self.hosts[host].kernel.link else { return };
                if !self.hosts[host].can_receive(self.now) {
                    return;
                }
                let made = self.hosts[host].kernel.made.keys().copied();
                let links: Vec<_> = std::iter::once(plug.index).chain(made).collect();
                for proc in self.procs_on(host) {
                    let hears = |it: &&LinkIndex| self.procs[proc].thread.hears(**it, Vip(ip));
                    if let Some(link) = links.iter().find(hears) {
                        let heard = Heard { link: *link, ip, mac, probe };
                        self.deliver(proc, Input::Heard(heard));
                    }
                }
            }
            Ear::Client if !probe => {
                self.client.frames += 1;
                let now = self.now;
                let known = self.client.cache.get(&Vip(ip));
                let locked = known.is_some_and(|it| now < it.updated_at + SEC);
                if !(locked && self.client.locks) {
                    self.learn(Vip(ip), mac);
                }
            }
            Ear::Client => {}
        }
    }

    /// Once a second the client looks whether an entry is old, and asks if it is.
    pub fn client_looks(&mut self) {
        let vips = [self.vips.clone(), self.service_addresses()].concat();
        for vip in vips {
            let known = self.client.cache.get(&vip).copied();
            let due = known.is_none_or(|it| it.look_again_at <= self.now);
            if !due {
                continue;
            }
            // An old entry is asked first whether it is still there, then everybody is.
            match known.filter(|it| self.is_answered_by(it.mac, vip)) {
                Some(it) => self.learn(vip, it.mac),
                None => self.ask_all(vip),
            }
        }
        self.schedule(SEC, Event::ClientLooks);
    }

    fn ask_all(&mut self, vip: Vip) {
        let macs = (0..self.hosts.len()).map(mac_of).chain(self.foreign.iter().map(|it| it.mac));
        let mut found: Vec<_> = macs.filter(|it| self.is_answered_by(*it, vip)).collect();
        if self.stranger_until > self.now {
            found.push(STRANGER);
        }
        if found.is_empty() {
            self.client.cache.remove(&vip);
        } else {
            let mac = found[self.rng.below(found.len() as u64) as usize];
            self.learn(vip, mac);
        }
    }

    fn learn(&mut self, vip: Vip, mac: Mac) {
        let look_again_at = self.now + 15 * SEC + self.rng.below(30 * SEC);
        let entry = Neighbour { mac, updated_at: self.now, look_again_at };
        let before = self.client.cache.insert(vip, entry);
        if before.is_none_or(|it| it.mac != mac) {
            self.note(|| ("client".into(), format!("sends for {vip} to {mac}")));
        }
    }

    fn is_answered_by(&self, mac: Mac, vip: Vip) -> bool {
        match self.host_of(mac) {
            Some(host) => {
                let it = &self.hosts[host];
                it.can_send(self.now) && it.can_receive(self.now) && self.answers(host, vip)
            }
            None => self.foreign.as_ref().is_some_and(|it| it.mac == mac && it.leads(self.now)),
        }
    }

    /// Whether the client's packets for the VIP are served where they go.
    pub fn is_served(&self, vip: Vip) -> bool {
        let Some(known) = self.client.cache.get(&vip) else { return false };
        match self.host_of(known.mac) {
            Some(host) => {
                let it = &self.hosts[host];
                let reached = it.can_send(self.now) && it.can_receive(self.now);
                reached && it.kernel.has(vip, it.clock.mono(self.now))
            }
            None => {
                self.foreign.as_ref().is_some_and(|it| it.mac == known.mac && it.leads(self.now))
            }
        }
    }

    /// Keeps account of how long the client is cut off.
    pub fn account(&mut self) {
        for at in 0..self.vips.len() {
            let vip = self.vips[at];
            if self.is_served(vip) {
                self.client.cut_since.remove(&vip);
            } else {
                let since = *self.client.cut_since.entry(vip).or_insert(self.now);
                self.client.worst = self.client.worst.max(self.now - since);
            }
        }
    }

    pub fn host_of(&self, mac: Mac) -> Option<usize> {
        (0..self.hosts.len()).find(|it| mac_of(*it) == mac)
    }

    /// A stranger claims the VIPs once, as a duplicate address that comes up does.
    pub fn stranger_claims(&mut self) {
        for vip in [self.vips.clone(), self.service_addresses()].concat() {
            self.broadcast(None, STRANGER, vip.0, false);
        }
    }

    /// The plug is pulled, or put back.
    pub fn set_carrier(&mut self, host: usize, carrier: bool) {
        if let Some(plug) = &mut self.hosts[host].kernel.link {
            plug.carrier = carrier;
            self.link_changed(host);
        }
    }

    /// Somebody removes the link, with all its addresses.
    pub fn remove_link(&mut self, host: usize) {
        let Some(plug) = self.hosts[host].kernel.link.take() else { return };
        self.hosts[host].kernel.remove_if(|(link, _), _| *link == plug.index);
        let gone = self.hosts[host].kernel.unmake(|_| true);
        gone.into_iter().for_each(|it| self.notify(host, it));
        self.notify(host, edgevip::model::NetworkChange::LinkGone(plug.index));
        self.notify(host, edgevip::model::NetworkChange::DefaultLink(None));
        self.hosts[host].kernel.next_link = LinkIndex(plug.index.0 + 1);
    }

    /// It comes back under another number.
    pub fn add_link(&mut self, host: usize) {
        if self.hosts[host].kernel.link.is_some() {
            return;
        }
        let index = self.hosts[host].kernel.next_link;
        self.hosts[host].kernel.link = Some(crate::kernel::Plug { index, up: true, carrier: true });
        self.link_changed(host);
        for address in self.hosts[host].kernel.own_on(index).collect::<Vec<_>>() {
            self.notify(host, edgevip::model::NetworkChange::Address(address));
        }
        self.notify(host, edgevip::model::NetworkChange::DefaultLink(Some(index)));
    }

    fn link_changed(&mut self, host: usize) {
        if let Some(link) = self.hosts[host].kernel.link_now() {
            self.notify(host, edgevip::model::NetworkChange::Link(link));
        }
    }

    /// Mostly `usual`, now and then anything up to `tail`.
    pub fn quick(&mut self, usual: Nanos, tail: Nanos) -> Nanos {
        let most = if self.rng.below(5) == 0 { tail.max(1) } else { usual };
        1 + self.rng.below(most.max(MS / 1000))
    }
}

fn parts(frame: &Frame) -> (Mac, std::net::IpAddr, bool) {
    match *frame {
        Frame::Announce { mac, ip } | Frame::AnnounceReply { mac, ip } => (mac, ip, false),
        Frame::Probe { mac, ip } => (mac, ip, true),
    }
}
