//! What processes have to do with DHCP servers: what they say and hear, and what that lets them
//! do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use edgevip::engine::Input;
use edgevip::model::{
    Dhcp4Kind, Dhcp6Kind, DhcpHeard, DhcpJob, DhcpPacket, Instant, IpFamily, LinkIndex, Vip,
};

use crate::dhcp::{Dhcp, SERVER_MAC, SERVER6, asker, asks_for, speaker};
use crate::host::MS;
use crate::world::{Event, World};

/// What a process has to do with servers.
#[derive(Default)]
pub struct Ears {
    links: BTreeMap<IpFamily, Vec<LinkIndex>>,
    /// When something was first asked for.
    asked: BTreeMap<u32, (Instant, Option<IpAddr>, Option<String>)>,
    /// And what of that was granted.
    answered: BTreeSet<u32>,
    /// Until when a client of its was told that it may use an address: a server that forgets gives
    /// one to two.
    rights: BTreeMap<(String, IpAddr), Instant>,
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

impl World {
    pub fn speak_dhcp(&mut self, proc: usize, job: DhcpJob) {
        let (host, now) = (self.procs[proc].host, self.local(proc));
        let Some(cloud) = self.cloud.as_mut().filter(|it| it.site.dhcp.is_some()) else {
            return self.fail(format!("node-{proc}: no leases here, but {job:?}"));
        };
        let given_to = cloud.site.dhcp.as_ref().map(|it| it.ever.clone()).unwrap_or_default();
        let ears = &mut cloud.desks[proc].ears;
        match job {
            DhcpJob::Listen(family, links) => drop(ears.links.insert(family, links)),
            DhcpJob::Send { link, packet } => {
                // What is given back is not to be used any more by who had it.
                if let (Some(ip), Some((by, _))) = (released(&packet), speaker(&packet)) {
                    if given_to.get(&ip) == Some(&by) {
                        ears.taken.remove(&ip);
                    }
                    ears.rights.remove(&(by, ip));
                }
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
                self.deliver(proc, Input::Dhcp { link: plug.index, heard });
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
                let ever = cloud.site.dhcp.as_ref().map(|it| &it.ever);
                if let Some((_, Some(ip), Some(of))) = ears.asked.get(&it.xid)
                    && !ears.answered.contains(&it.xid)
                {
                    ears.rights.insert((of.clone(), *ip), now);
                    if ever.is_some_and(|it| it.get(ip) == Some(of)) {
                        ears.taken.remove(ip);
                    }
                }
                return;
            }
            DhcpHeard::V4(..) | DhcpHeard::V6(..) => return,
        };
        let (Some((asked_at, _, Some(of))), Some((ip, seconds))) = (ears.asked.get(&xid), said)
        else {
            return;
        };
        // Whatever else is said to the same question is discarded (RFC 2131 figure 5).
        ears.answered.insert(xid);
        let until = *asked_at + Duration::from_secs(seconds.into());
        let right = ears.rights.entry((of.clone(), ip)).or_insert(now);
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
        let host = self.procs[proc].host;
        let held: Vec<_> = self.held_of_services(host).collect();
        let goes_on = |it: &IpAddr| held.contains(&Vip(*it)) && entitled(self, it);
        let lost: Vec<_> = taken(self)?.into_keys().filter(|it| !goes_on(it)).collect();
        let cloud = self.cloud.as_mut()?;
        let dhcp = cloud.site.dhcp.as_ref()?;
        let ears = &mut cloud.desks[proc].ears;
        ears.taken.retain(|it, _| !lost.contains(it));
        // What is open is looked at a moment later.
        let late = Duration::from_millis(100);
        let kept = Duration::from_secs(dhcp.seconds.into()) / 8 + late;
        vips.iter().filter(|it| dhcp.ever.contains_key(&it.0)).find_map(|vip| {
            // Another may have had it renewed since this one heard of it.
            let taken = *ears.taken.entry(vip.0).or_insert(now) + kept;
            let rights = ears.rights.iter().filter(|it| it.0.1 == vip.0).map(|it| *it.1);
            let right = rights.filter(|it| *it > now).max();
            let limit = right.map_or(taken, |it| it.max(taken));
            (until > limit).then(|| {
                format!("D1: answers for {vip}, which is leased until {limit:?}, until {until:?}")
            })
        })
    }
}
