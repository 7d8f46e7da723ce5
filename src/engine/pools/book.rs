//! Which addresses are in use, and by whom.
//!
//! Whatever a Service is known by counts, in all namespaces and whatever its labels, and so
//! does what was granted and is not to be seen on the Service yet. Each change costs the
//! logarithm of what there is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::allocate::Grant;
use super::asked::{self, Request};
use super::occupied::Occupied;
use super::ports::{Ports, Share};
use super::ranges::{ByFamily, number};
use super::resting::Resting;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Instant, Mac, ObjectName, Service, ServicePort};

/// So many Services that are gone find their addresses again.
const REMEMBERED: usize = 4096;

/// Who has which address.
#[derive(Clone, Debug, Default)]
pub struct Book {
    services: BTreeMap<Arc<ObjectName>, Entry>,
    pub(super) users: BTreeMap<IpAddr, Vec<Arc<ObjectName>>>,
    pub(super) reserved: BTreeMap<IpAddr, Vec<Arc<str>>>,
    reservations: BTreeMap<Arc<str>, Vec<IpAddr>>,
    pub(super) ports: Ports,
    /// What Services and reservations have.
    pub(super) taken: ByFamily<Occupied>,
    pub(super) resting: Resting,
    former: Former,
}

/// What is known of a Service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    /// As the Service says.
    shown: Vec<IpAddr>,
    /// What it got out of a pool, until the Service says so.
    granted: Vec<IpAddr>,
    /// In order, each once.
    ports: Vec<ServicePort>,
    local: bool,
}

impl Entry {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let granted = self.granted.iter().filter(|it| !self.shown.contains(it));
        self.shown.iter().chain(granted).copied()
    }

    fn share(&self) -> Share<'_> {
        Share { ports: &self.ports, local: self.local }
    }
}

impl Book {
    /// A Service is as it says.
    pub fn update(&mut self, service: &Service, now: Instant) {
        if !service.balanced {
            return self.remove(&service.name, now);
        }
        let shown = asked::addresses(service);
        let granted = self.services.get(&service.name).map(|it| it.granted.clone());
        let seen = |it: &Vec<IpAddr>| it.iter().all(|it| shown.contains(it));
        let granted = granted.filter(|it| !seen(it)).unwrap_or_default();
        let (ports, local) = (each_once(&service.ports), service.local);
        self.put(&service.name, Some(Entry { shown, granted, ports, local }), now);
    }

    /// There is no such Service, or it wants no addresses.
    pub fn remove(&mut self, name: &ObjectName, now: Instant) {
        self.put(name, None, now);
    }

    /// A Service is about to be given these: nobody else gets them, whatever an older state
    /// of the Service says, until it says so itself or [`Book::withdraw`] is told.
    pub fn grant(&mut self, request: &Request, grant: &Grant) {
        let mut entry = self.services.get(&request.name).cloned().unwrap_or_default();
        // What it was to get before may have been written all the same.
        for ip in grant.addresses.iter().filter(|it| !it.is_unspecified()) {
            if !entry.granted.contains(ip) {
                entry.granted.push(*ip);
            }
        }
        entry.ports = each_once(&request.ports);
        entry.local = request.local;
        self.put(&request.name, Some(entry), request.now);
    }

    /// It is known what became of all that was granted: the Service says so, or it was not written.
    pub fn withdraw(&mut self, name: &ObjectName, now: Instant) {
        let Some(entry) = self.services.get(name) else { return };
        let entry = Entry { granted: Vec::new(), ..entry.clone() };
        self.put(name, Some(entry).filter(|it| !it.shown.is_empty()), now);
    }

    /// From now on these are not to be given out because of `whose`: a node, a VIP.
    pub fn reserve(&mut self, whose: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut wanted: Vec<_> = addresses.into_iter().map(|it| it.to_canonical()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let before = self.reservations.remove(whose).unwrap_or_default();
        let whose: Arc<str> = whose.into();
        for ip in before.iter().filter(|it| wanted.binary_search(it).is_err()) {
            if let Some(all) = self.reserved.get_mut(ip) {
                all.retain(|it| *it != whose);
                if all.is_empty() {
                    self.reserved.remove(ip);
                }
            }
            self.settle(*ip);
        }
        for ip in wanted.iter().filter(|it| before.binary_search(it).is_err()) {
            self.reserved.entry(*ip).or_default().push(whose.clone());
            self.settle(*ip);
        }
        if !wanted.is_empty() {
            self.reservations.insert(whose, wanted);
        }
    }

    /// A probe found another host on an address, which is left alone for a while.
    pub fn answered(&mut self, ip: IpAddr, mac: Option<Mac>, now: Instant) {
        self.resting.answered(ip, mac, now);
    }

    /// A probe found nobody on an address.
    pub fn unanswered(&mut self, ip: IpAddr) {
        self.resting.unanswered(ip);
    }

    /// All Services that are in it.
    pub fn services(&self) -> impl Iterator<Item = &ObjectName> {
        self.services.keys().map(|it| &**it)
    }

    /// When an address will have rested: whoever got none may ask again.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.resting.next_end(now)
    }

    /// The Services that have an address.
    pub fn users(&self, ip: IpAddr) -> impl Iterator<Item = &ObjectName> {
        self.users.get(&ip).into_iter().flatten().map(|it| &**it)
    }

    /// Whether others have an address who would not share it with this one.
    pub(super) fn would_clash(&self, ip: IpAddr, request: &Request) -> bool {
        let own = self.services.get(&request.name);
        let own = own.filter(|it| it.addresses().any(|it| it == ip)).map(Entry::share);
        let asked = Share { ports: &request.ports, local: request.local };
        self.ports.would_clash(ip, own, asked)
    }

    /// Who has an address and serves a port there that this one serves as well.
    pub(super) fn clashing(&self, ip: IpAddr, request: &Request) -> Option<&ObjectName> {
        let mut others = self.users(ip).filter(|it| **it != request.name);
        others.find(|name| {
            let ports = self.services.get(*name).map_or(&[][..], |it| &it.ports);
            let apart = ports.iter().all(|it| !request.ports.contains(it));
            // Who names no ports has all of them.
            ports.is_empty() || request.ports.is_empty() || !apart
        })
    }

    /// The namespaces of those who have an address, each once.
    pub(super) fn namespaces(&self, ip: IpAddr) -> impl Iterator<Item = &str> {
        let mut rest = self.users.get(&ip).map_or(&[][..], Vec::as_slice);
        std::iter::from_fn(move || {
            let namespace = &rest.first()?.namespace;
            rest = &rest[rest.partition_point(|it| it.namespace <= *namespace)..];
            Some(namespace.as_str())
        })
    }

    /// What a Service has, then what it had.
    pub(super) fn own(&self, name: &ObjectName) -> impl Iterator<Item = IpAddr> + '_ {
        let has = self.services.get(name).into_iter().flat_map(Entry::addresses);
        has.chain(self.former.of(name).iter().copied())
    }

    fn put(&mut self, name: &ObjectName, entry: Option<Entry>, now: Instant) {
        if self.services.get(name) == entry.as_ref() {
            return;
        }
        let known = self.services.get_key_value(name).map(|(key, _)| key.clone());
        let name = known.unwrap_or_else(|| Arc::new(name.clone()));
        let before = self.services.remove(&name).unwrap_or_default();
        let after = entry.unwrap_or_default();
        let mut freed = Vec::new();
        for ip in before.addresses() {
            self.ports.leave(ip, before.share());
        }
        for ip in after.addresses() {
            self.ports.enter(ip, after.share());
        }
        for ip in before.addresses().filter(|ip| !after.addresses().any(|it| it == *ip)) {
            let free = self.leave(ip, &name);
            // Whoever is only about to get it may yet get another.
            if before.shown.contains(&ip) && (free || !self.is_shown(ip)) {
                if !sabotaged(Sabotage::AddressGivenAtOnce) {
                    self.resting.free(ip, name.clone(), now);
                }
                freed.push(ip);
            }
        }
        for ip in after.addresses().filter(|ip| !before.addresses().any(|it| it == *ip)) {
            let users = self.users.entry(ip).or_default();
            if let Err(place) = users.binary_search(&name) {
                users.insert(place, name.clone());
            }
            self.settle(ip);
        }
        // What is granted and never seen was not there to end its rest.
        for ip in after.shown.iter().filter(|ip| !before.shown.contains(ip)) {
            self.resting.taken(*ip);
        }
        if !freed.is_empty() {
            self.former.remember(&name, freed);
        }
        if after.addresses().next().is_some() {
            self.services.insert(name, after);
        }
    }

    /// Whether nobody has it any more.
    fn leave(&mut self, ip: IpAddr, name: &Arc<ObjectName>) -> bool {
        let Some(users) = self.users.get_mut(&ip) else { return false };
        if let Ok(place) = users.binary_search(name) {
            users.remove(place);
        }
        let free = users.is_empty();
        if free {
            self.users.remove(&ip);
        }
        self.settle(ip);
        free
    }

    fn is_shown(&self, ip: IpAddr) -> bool {
        let shows =
            |it: &ObjectName| self.services.get(it).is_some_and(|it| it.shown.contains(&ip));
        self.users(ip).any(shows)
    }

    fn settle(&mut self, ip: IpAddr) {
        let (family, number) = number(ip);
        let taken = self.taken.of_mut(family);
        match self.users.contains_key(&ip) || self.reserved.contains_key(&ip) {
            true => taken.insert(number),
            false => taken.remove(number),
        }
    }
}

fn each_once(ports: &[ServicePort]) -> Vec<ServicePort> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The last addresses of those that lost theirs, the latest so many.
#[derive(Clone, Debug, Default)]
struct Former {
    by_name: BTreeMap<Arc<ObjectName>, (u64, Vec<IpAddr>)>,
    by_age: BTreeMap<u64, Arc<ObjectName>>,
    count: u64,
}

impl Former {
    fn remember(&mut self, name: &Arc<ObjectName>, addresses: Vec<IpAddr>) {
        self.count += 1;
        if let Some((age, _)) = self.by_name.insert(name.clone(), (self.count, addresses)) {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.count, name.clone());
        if self.by_name.len() > REMEMBERED
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_name.remove(&oldest);
        }
    }

    fn of(&self, name: &ObjectName) -> &[IpAddr] {
        self.by_name.get(name).map_or(&[], |(_, it)| it)
    }
}
