//! Which ports are served at which address, so that one that can be shared is found without
//! asking everybody.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::occupied::Occupied;
use super::ranges::number;
use crate::model::{IpFamily, ServicePort};

/// The ports of all addresses that Services have.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports {
    /// How many Services serve a port there.
    served: BTreeMap<(IpAddr, ServicePort), u32>,
    /// How many Services are there, and how many of them share with nobody.
    there: BTreeMap<IpAddr, (u32, u32)>,
    /// IPv4 addresses at which a port is served.
    by_port: BTreeMap<ServicePort, Occupied>,
    /// IPv4 addresses that Services have, all of whom may share.
    pub open: Occupied,
}

/// What one Service has at an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    /// Each port once.
    pub ports: &'a [ServicePort],
    pub local: bool,
}

impl Share<'_> {
    /// Whether others may be there as well.
    pub fn is_open(self) -> bool {
        !self.local && !self.ports.is_empty()
    }
}

impl Ports {
    pub fn enter(&mut self, ip: IpAddr, share: Share<'_>) {
        for port in share.ports {
            let served = self.served.entry((ip, *port)).or_default();
            *served += 1;
            if let (1, Some(number)) = (*served, v4(ip)) {
                self.by_port.entry(*port).or_default().insert(number);
            }
        }
        let (all, closed) = self.there.entry(ip).or_default();
        *all += 1;
        *closed += u32::from(!share.is_open());
        self.settle(ip);
    }

    pub fn leave(&mut self, ip: IpAddr, share: Share<'_>) {
        for port in share.ports {
            let Some(served) = self.served.get_mut(&(ip, *port)) else { continue };
            *served -= 1;
            if *served > 0 {
                continue;
            }
            self.served.remove(&(ip, *port));
            if let (Some(at), Some(number)) = (self.by_port.get_mut(port), v4(ip)) {
                at.remove(number);
                if at.is_empty() {
                    self.by_port.remove(port);
                }
            }
        }
        if let Some((all, closed)) = self.there.get_mut(&ip) {
            *all -= 1;
            *closed -= u32::from(!share.is_open());
            if *all == 0 {
                self.there.remove(&ip);
            }
        }
        self.settle(ip);
    }

    /// Where any of these ports is served.
    pub fn at(&self, ports: &[ServicePort]) -> Vec<&Occupied> {
        ports.iter().filter_map(|it| self.by_port.get(it)).collect()
    }

    /// Whether others than this one, which may be there, are; and would not share.
    pub fn would_clash(&self, ip: IpAddr, own: Option<Share<'_>>, asked: Share<'_>) -> bool {
        let (all, closed) = self.there.get(&ip).copied().unwrap_or_default();
        let mine = u32::from(own.is_some());
        let mine_closed = u32::from(own.is_some_and(|it| !it.is_open()));
        let served = |port: &ServicePort| {
            let mine = own.is_some_and(|it| it.ports.contains(port));
            self.served.get(&(ip, *port)).is_some_and(|it| *it > u32::from(mine))
        };
        all > mine && (!asked.is_open() || closed > mine_closed || asked.ports.iter().any(served))
    }

    fn settle(&mut self, ip: IpAddr) {
        let Some(number) = v4(ip) else { return };
        match self.there.get(&ip) {
            Some((_, 0)) => self.open.insert(number),
            Some(_) | None => self.open.remove(number),
        }
    }
}

fn v4(ip: IpAddr) -> Option<u128> {
    let (family, number) = number(ip);
    (family == IpFamily::V4).then_some(number)
}
