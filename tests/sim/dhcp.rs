//! A DHCP server of both families on the switch (RFC 2131 §4.3, RFC 8415 §18.3). It knows its
//! clients by what Services are made of, so that it can be said who has which address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgevip::model::{
    Dhcp4Kind, Dhcp4Message, Dhcp6Address, Dhcp6Code, Dhcp6Ia, Dhcp6Kind, Dhcp6Message,
    Dhcp6Status, DhcpHeard, DhcpJob, DhcpPacket, Instant, IpFamily, LinkIndex, Mac, Vip,
};

use crate::host::{MS, Nanos, SEC};
use crate::world::{Event, World};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 7, 7]);
const DUID: [u8; 4] = [0, 3, 0, 1];
/// What was declined is left alone for so long.
const LEFT_ALONE: Nanos = 120 * SEC;
/// So many addresses it has to give.
const ROOM: u64 = 40;

#[derive(Clone, Debug)]
pub struct Dhcp {
    /// It leases for so many seconds.
    pub seconds: u32,
    /// What it has never heard of it refuses, or takes up; else it says nothing.
    pub authoritative: bool,
    /// It asks whether anybody uses what it is about to lease.
    pub pings: bool,
    pub down_until: Nanos,
    pub slow: Nanos,
    /// In a thousand: of what it is asked or says.
    pub loss: u64,
    /// In a thousand: refuses.
    pub refuses: u64,
    /// Networks are numbered anew.
    pub numbering: u64,
    pub bound: BTreeMap<(String, IpFamily), Binding>,
    bad: BTreeMap<IpAddr, Nanos>,
    /// Who was ever given which.
    pub ever: BTreeMap<IpAddr, String>,
    pub leases: u64,
    pub refusals: u64,
    /// Which processes ask for the lease of a Service, and when they did last.
    pub askers: BTreeMap<(String, IpFamily), BTreeMap<usize, Nanos>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Binding {
    pub ip: IpAddr,
    pub given_at: Nanos,
    pub until: Nanos,
    /// Which process asked last.
    pub by: usize,
}

impl Dhcp {
    pub fn new(seconds: u32) -> Self {
        Self {
            seconds,
            authoritative: true,
            pings: true,
            down_until: 0,
            slow: 0,
            loss: 0,
            refuses: 0,
            numbering: 0,
            bound: BTreeMap::new(),
            bad: BTreeMap::new(),
            ever: BTreeMap::new(),
            leases: 0,
            refusals: 0,
            askers: BTreeMap::new(),
        }
    }

    pub fn heal(&mut self) {
        (self.down_until, self.slow, self.loss, self.refuses) = (0, 0, 0, 0);
    }

    fn nth(&self, family: IpFamily, nth: u64) -> IpAddr {
        let number = self.numbering % 2 * 100 + nth;
        match family {
            IpFamily::V4 => IpAddr::from([10, 0, 2, number as u8 + 1]),
            IpFamily::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 2, number as u16 + 1]),
        }
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        (0..ROOM).any(|it| self.nth(IpFamily::of(ip), it) == ip)
    }

    fn is_free(&self, now: Nanos, ip: IpAddr, client: &str) -> bool {
        // Clocks differ, and who is late is not to be punished.
        let rests = u64::from(self.seconds) * SEC / 4;
        let others = |it: (&(String, IpFamily), &Binding)| {
            it.0.0 != client && it.1.ip == ip && it.1.until + rests > now
        };
        self.is_ours(ip)
            && self.bad.get(&ip).is_none_or(|it| *it <= now)
            && !self.bound.iter().any(others)
    }

    fn binding(&self, client: &str, family: IpFamily) -> Option<IpAddr> {
        Some(self.bound.get(&(client.to_owned(), family))?.ip)
    }

    fn choose(
        &self,
        now: Nanos,
        (client, family): (&str, IpFamily),
        asked: Option<IpAddr>,
        used: &dyn Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let had = self.binding(client, family);
        let own = had.into_iter().chain(asked).find(|it| self.is_free(now, *it, client));
        let mut all = (0..ROOM).map(|it| self.nth(family, it));
        own.or_else(|| all.find(|it| self.is_free(now, *it, client) && !(self.pings && used(*it))))
    }

    fn bind(&mut self, now: Nanos, (client, family): (&str, IpFamily), ip: IpAddr, by: usize) {
        let until = now + u64::from(self.seconds) * SEC;
        self.leases += 1;
        self.ever.insert(ip, client.to_owned());
        let it = Binding { ip, given_at: now, until, by };
        self.bound.insert((client.to_owned(), family), it);
    }

    fn unbind(&mut self, client: &str, ip: Option<IpAddr>) {
        self.bound.retain(|(it, _), binding| it != client || Some(binding.ip) != ip);
    }

    /// `used`: somebody answers for it.
    fn answer4(
        &mut self,
        (now, by, refuses): (Nanos, usize, bool),
        asked: &Dhcp4Message,
        used: &dyn Fn(IpAddr) -> bool,
    ) -> Option<Dhcp4Message> {
        let client = client(&asked.client_id)?;
        let of = (client.as_str(), IpFamily::V4);
        let mut it = Dhcp4Message::new(Dhcp4Kind::Offer, asked.xid, asked.mac);
        it.server = Some(SERVER);
        let wanted = asked.requested.or(asked.client).map(IpAddr::from);
        let ip = match asked.kind {
            Dhcp4Kind::Discover => self.choose(now, of, wanted, used)?,
            Dhcp4Kind::Request => {
                if asked.server.is_some_and(|it| it != SERVER) {
                    return None;
                }
                let wanted = wanted?;
                let known = self.binding(of.0, of.1) == Some(wanted);
                let new = asked.server.is_some() || self.authoritative;
                if refuses || !self.is_free(now, wanted, of.0) {
                    it.kind = Dhcp4Kind::Nak;
                    self.refusals += 1;
                    return Some(it);
                }
                if !known && !new {
                    return None;
                }
                it.kind = Dhcp4Kind::Ack;
                self.bind(now, of, wanted, by);
                wanted
            }
            Dhcp4Kind::Decline | Dhcp4Kind::Release => {
                let decline = asked.kind == Dhcp4Kind::Decline;
                self.bad.extend(wanted.filter(|_| decline).map(|it| (it, now + LEFT_ALONE)));
                self.unbind(of.0, wanted);
                return None;
            }
            Dhcp4Kind::Ack | Dhcp4Kind::Nak | Dhcp4Kind::Offer => return None,
        };
        if let IpAddr::V4(ip) = ip {
            it.yours = Some(ip);
        }
        it.lease = Some(self.seconds);
        it.client = asked.client.filter(|_| it.kind == Dhcp4Kind::Ack);
        Some(it)
    }

    fn answer6(
        &mut self,
        (now, by, refuses): (Nanos, usize, bool),
        asked: &Dhcp6Message,
        used: &dyn Fn(IpAddr) -> bool,
    ) -> Option<Dhcp6Message> {
        let client = client(&asked.client)?;
        let of = (client.as_str(), IpFamily::V6);
        if !asked.server.is_empty() && asked.server != DUID {
            return None;
        }
        let kind = match asked.kind {
            Dhcp6Kind::Solicit => Dhcp6Kind::Advertise,
            _ => Dhcp6Kind::Reply,
        };
        let mut it = Dhcp6Message::new(kind, asked.xid, asked.client.clone());
        it.server = DUID.to_vec();
        let ia = asked.ia.as_ref()?;
        let wanted = ia.addresses.first().map(|it| IpAddr::V6(it.ip));
        let status = |code| Some(Dhcp6Status { code, words: String::new() });
        let mut said = Dhcp6Ia { id: ia.id, t1: 0, t2: 0, addresses: Vec::new(), status: None };
        let mut ip = None;
        match asked.kind {
            Dhcp6Kind::Solicit => match self.choose(now, of, wanted, used) {
                Some(found) => ip = Some((found, self.seconds)),
                None => said.status = status(Dhcp6Code::NoAddrsAvail),
            },
            Dhcp6Kind::Request => {
                let found = wanted.filter(|it| self.is_free(now, *it, of.0) && !refuses);
                match found.or_else(|| self.choose(now, of, None, used).filter(|_| !refuses)) {
                    Some(found) => ip = Some((found, self.seconds)),
                    None => said.status = status(Dhcp6Code::NoAddrsAvail),
                }
            }
            Dhcp6Kind::Renew | Dhcp6Kind::Rebind => {
                let wanted = wanted?;
                let known = self.binding(of.0, of.1) == Some(wanted);
                match (known && self.is_free(now, wanted, of.0), self.is_ours(wanted)) {
                    _ if refuses => said.status = status(Dhcp6Code::NoBinding),
                    (true, _) => ip = Some((wanted, self.seconds)),
                    (false, false) => ip = Some((wanted, 0)),
                    (false, true) if self.authoritative => {
                        said.status = status(Dhcp6Code::NoBinding);
                    }
                    (false, true) => return None,
                }
            }
            Dhcp6Kind::Decline | Dhcp6Kind::Release => {
                let decline = asked.kind == Dhcp6Kind::Decline;
                self.bad.extend(wanted.filter(|_| decline).map(|it| (it, now + LEFT_ALONE)));
                self.unbind(of.0, wanted);
                it.status = status(Dhcp6Code::Success);
                return Some(it);
            }
            Dhcp6Kind::Advertise | Dhcp6Kind::Reply => return None,
        }
        self.refusals += u64::from(said.status.is_some());
        if let Some((IpAddr::V6(ip), valid)) = ip {
            (said.t1, said.t2) = (valid / 2, valid / 5 * 4);
            said.addresses.push(Dhcp6Address { ip, preferred: valid, valid });
            if kind == Dhcp6Kind::Reply && valid > 0 {
                self.bind(now, of, ip.into(), by);
            }
        }
        it.ia = Some(said);
        Some(it)
    }
}

/// Of a client identifier as well as of a DUID, the end is the Service's uid.
fn client(id: &[u8]) -> Option<String> {
    let uuid: [u8; 16] = id.get(id.len().checked_sub(16)?..)?.try_into().ok()?;
    let text = format!("{:032x}", u128::from_be_bytes(uuid));
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|it| &text[it]);
    Some(parts.join("-"))
}

/// Who wants to have a lease, or to keep it.
fn asker(packet: &DhcpPacket) -> Option<(String, IpFamily)> {
    asks_for(packet)?;
    match packet {
        DhcpPacket::V4(it) => Some((client(&it.message.client_id)?, IpFamily::V4)),
        DhcpPacket::V6(it) => Some((client(&it.message.client)?, IpFamily::V6)),
    }
}

/// What a process has to do with servers.
#[derive(Default)]
pub struct Ears {
    links: BTreeMap<IpFamily, Vec<LinkIndex>>,
    /// When something was first asked for.
    asked: BTreeMap<u32, (Instant, Option<IpAddr>, Option<String>)>,
    /// Until when it was told that it may use an address.
    rights: BTreeMap<IpAddr, Instant>,
    /// Since when it uses one that nobody has confirmed to it.
    taken: BTreeMap<IpAddr, Instant>,
}

fn released(packet: &DhcpPacket) -> Option<IpAddr> {
    match packet {
        DhcpPacket::V4(it) if it.message.kind == Dhcp4Kind::Release => {
            it.message.client.map(IpAddr::from)
        }
        DhcpPacket::V6(it) if it.message.kind == Dhcp6Kind::Release => {
            Some(it.message.ia.as_ref()?.addresses.first()?.ip.into())
        }
        DhcpPacket::V4(_) | DhcpPacket::V6(_) => None,
    }
}

/// The number of what asks for the right to an address, and which.
fn asks_for(packet: &DhcpPacket) -> Option<(u32, Option<IpAddr>)> {
    use Dhcp6Kind::{Rebind, Renew, Request};
    match packet {
        DhcpPacket::V4(it) => {
            let it = &it.message;
            let ip = it.requested.or(it.client).map(IpAddr::from);
            (it.kind == Dhcp4Kind::Request).then_some((it.xid, ip))
        }
        DhcpPacket::V6(it) => {
            let it = &it.message;
            let ip = it.ia.as_ref().and_then(|it| Some(it.addresses.first()?.ip.into()));
            matches!(it.kind, Request | Renew | Rebind).then_some((it.xid, ip))
        }
    }
}

impl World {
    pub fn speak_dhcp(&mut self, proc: usize, job: DhcpJob) {
        let (host, now) = (self.procs[proc].host, self.local(proc));
        let Some(cloud) = self.cloud.as_mut().filter(|it| it.site.dhcp.is_some()) else {
            return self.fail(format!("node-{proc}: no leases here, but {job:?}"));
        };
        let ears = &mut cloud.desks[proc].ears;
        match job {
            DhcpJob::Listen(family, links) => drop(ears.links.insert(family, links)),
            DhcpJob::Send { link, packet } => {
                // What is given back is not to be used any more.
                ears.rights.retain(|ip, _| released(&packet) != Some(*ip));
                if let Some((xid, ip)) = asks_for(&packet) {
                    let of = asker(&packet).map(|it| it.0);
                    ears.asked.entry(xid).or_insert((now, ip, of));
                }
                let there = self.hosts[host].kernel.link.is_some_and(|it| it.index == link);
                let loss = self.site_loss();
                if there && self.hosts[host].can_send(self.now) && !self.chance(loss) {
                    let delay = self.quick(MS, self.faults.lan_tail);
                    self.schedule(delay, Event::AskDhcp { proc, packet });
                }
            }
        }
    }

    fn site_loss(&self) -> u64 {
        let dhcp = self.cloud.as_ref().and_then(|it| it.site.dhcp.as_ref());
        dhcp.map_or(0, |it| it.loss) + self.faults.lan_loss
    }

    /// A question reaches the server.
    pub fn on_ask_dhcp(&mut self, proc: usize, packet: DhcpPacket) {
        let (now, host) = (self.now, self.procs[proc].host);
        let used: Vec<_> = self.held_anywhere();
        let used = |ip: IpAddr| used.contains(&ip);
        let refuses = self.dhcp().map_or(0, |it| it.refuses);
        let of = (now, proc, self.chance(refuses));
        if let (Some(dhcp), Some(of)) = (self.dhcp(), asker(&packet)) {
            dhcp.askers.entry(of).or_default().insert(proc, now);
        }
        let Some(dhcp) = self.dhcp().filter(|it| it.down_until <= now) else { return };
        let (heard, to) = match &packet {
            DhcpPacket::V4(it) => {
                let Some(answer) = dhcp.answer4(of, &it.message, &used) else { return };
                // §4.1: to who has the address, where the client says that it has.
                let to = it.message.client.filter(|_| answer.kind != Dhcp4Kind::Nak);
                (DhcpHeard::V4(SERVER_MAC, answer), to.map(IpAddr::from))
            }
            DhcpPacket::V6(it) => {
                let Some(answer) = dhcp.answer6(of, &it.message, &used) else { return };
                (DhcpHeard::V6(SERVER6, answer), None)
            }
        };
        let slow = dhcp.slow;
        self.note(|| ("dhcp".into(), format!("node-{proc} {packet:?} -> {heard:?}")));
        self.note_leased();
        let hosts: Vec<_> = match (&heard, to) {
            (DhcpHeard::V6(..), _) => vec![host],
            (DhcpHeard::V4(..), Some(ip)) => self.answering(Vip(ip)),
            (DhcpHeard::V4(..), None) => (0..self.hosts.len()).collect(),
        };
        for host in hosts {
            let loss = self.site_loss();
            if !self.chance(loss) {
                let delay = self.quick(MS, self.faults.lan_tail) + self.rng.below(slow + 1);
                self.schedule(delay, Event::HearDhcp { host, heard: Box::new(heard.clone()) });
            }
        }
    }

    fn dhcp(&mut self) -> Option<&mut Dhcp> {
        self.cloud.as_mut()?.site.dhcp.as_mut()
    }

    fn held_anywhere(&self) -> Vec<IpAddr> {
        let all = (0..self.hosts.len()).flat_map(|host| {
            let vips = self.held_of_services(host).map(move |it| (host, it));
            vips.filter(|(host, vip)| self.answers(*host, *vip)).collect::<Vec<_>>()
        });
        all.map(|it| it.1.0).collect()
    }

    /// Addresses of Services are more than these say.
    fn note_leased(&mut self) {
        if let Some(cloud) = &mut self.cloud
            && let Some(dhcp) = &cloud.site.dhcp
        {
            cloud.ever.extend(dhcp.ever.keys());
        }
        self.note_hung();
    }

    pub fn on_hear_dhcp(&mut self, host: usize, heard: &DhcpHeard) {
        let Some(plug) = self.hosts[host].kernel.link else { return };
        if !self.hosts[host].can_receive(self.now) {
            return;
        }
        let family = match heard {
            DhcpHeard::V4(..) => IpFamily::V4,
            DhcpHeard::V6(..) => IpFamily::V6,
        };
        for proc in self.procs_on(host) {
            let Some(cloud) = &self.cloud else { return };
            let links = cloud.desks[proc].ears.links.get(&family);
            if links.is_some_and(|it| it.contains(&plug.index)) {
                let heard = Box::new(heard.clone());
                self.deliver(proc, edgevip::engine::Input::Dhcp { link: plug.index, heard });
            }
        }
    }

    /// What a process is told that it may use.
    pub fn learn_leased(&mut self, proc: usize, now: Instant, heard: &DhcpHeard) {
        let Some(cloud) = &mut self.cloud else { return };
        let ears = &mut cloud.desks[proc].ears;
        let (xid, said) = match heard {
            DhcpHeard::V4(_, it) if it.kind == Dhcp4Kind::Ack => {
                (it.xid, it.yours.map(|ip| (IpAddr::from(ip), it.lease.unwrap_or(0))))
            }
            DhcpHeard::V6(_, it) if it.kind == Dhcp6Kind::Reply => {
                let first = it.ia.as_ref().and_then(|it| it.addresses.first());
                (it.xid, first.map(|it| (IpAddr::from(it.ip), it.valid)))
            }
            DhcpHeard::V4(_, it) if it.kind == Dhcp4Kind::Nak => {
                // Whatever it was told before.
                let dhcp = cloud.site.dhcp.as_ref();
                if let Some((_, Some(ip), of)) = ears.asked.get(&it.xid)
                    && dhcp.is_some_and(|it| it.ever.get(ip) == of.as_ref())
                {
                    ears.rights.insert(*ip, now);
                }
                return;
            }
            DhcpHeard::V4(..) | DhcpHeard::V6(..) => return,
        };
        let (Some((asked_at, ..)), Some((ip, seconds))) = (ears.asked.get(&xid), said) else {
            return;
        };
        let until = *asked_at + std::time::Duration::from_secs(seconds.into());
        let right = ears.rights.entry(ip).or_insert(now);
        *right = if seconds == 0 { now } else { until.max(*right) };
        ears.taken.remove(&ip);
    }

    /// D1, when a process decides: what is leased is answered for as long as a server said, or
    /// for an eighth of that by who goes on with another's.
    pub fn check_leased(
        &mut self,
        proc: usize,
        now: Instant,
        vips: &[Vip],
        until: Instant,
    ) -> Option<String> {
        let entitled = |it: &Self, ip: &IpAddr| {
            let bonds = it.bonds_hung(Vip(*ip));
            bonds.iter().any(|of| it.procs[proc].bonds[*of].truth.entitled_at(now))
        };
        let taken = |it: &Self| Some(it.cloud.as_ref()?.desks[proc].ears.taken.clone());
        let lost: Vec<_> = taken(self)?.into_keys().filter(|it| !entitled(self, it)).collect();
        let cloud = self.cloud.as_mut()?;
        let dhcp = cloud.site.dhcp.as_ref()?;
        let ears = &mut cloud.desks[proc].ears;
        ears.taken.retain(|it, _| !lost.contains(it));
        // What is open is looked at a moment later.
        let late = std::time::Duration::from_millis(100);
        let kept = std::time::Duration::from_secs(dhcp.seconds.into()) / 8 + late;
        vips.iter().filter(|it| dhcp.ever.contains_key(&it.0)).find_map(|vip| {
            let right = ears.rights.get(&vip.0).copied().filter(|it| *it > now);
            let limit = match right {
                Some(it) => it,
                None => *ears.taken.entry(vip.0).or_insert(now) + kept,
            };
            (until > limit).then(|| {
                format!("D1: answers for {vip}, which is leased until {limit:?}, until {until:?}")
            })
        })
    }
}
