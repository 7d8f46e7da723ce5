//! A DHCP server of both families on the switch (RFC 2131 §4.3, RFC 8415 §18.3). It knows its
//! clients by what Services are made of, so that it can be said who has which address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgevip::model::{
    Dhcp4Kind, Dhcp4Message, Dhcp6Address, Dhcp6Code, Dhcp6Ia, Dhcp6Kind, Dhcp6Message,
    Dhcp6Status, DhcpPacket, IpFamily, Mac,
};

use crate::host::{Nanos, SEC};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 7, 7]);
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
    pub fn answer4(
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

    pub fn answer6(
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
pub fn asker(packet: &DhcpPacket) -> Option<(String, IpFamily)> {
    asks_for(packet)?;
    speaker(packet)
}

/// Who says something.
pub fn speaker(packet: &DhcpPacket) -> Option<(String, IpFamily)> {
    match packet {
        DhcpPacket::V4(it) => Some((client(&it.message.client_id)?, IpFamily::V4)),
        DhcpPacket::V6(it) => Some((client(&it.message.client)?, IpFamily::V6)),
    }
}

/// The number of what asks for the right to an address, and which.
pub fn asks_for(packet: &DhcpPacket) -> Option<(u32, Option<IpAddr>)> {
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
