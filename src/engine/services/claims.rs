//! Who has an address: everybody who asks for it, as far as they can share it.

use std::net::IpAddr;

use super::backing::Backed;
use super::wants::{Backing, PEER, Verdict, Wants, is_unguarded, meet};
use super::{Known, Place, Ports, Services};
use crate::model::{Instant, ObjectName, ServiceRefusal, Vip};

/// An address of Services.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed {
    /// Who asks for it, in order.
    pub by: Box<[ObjectName]>,
    /// What follows from that.
    pub place: Option<Place>,
    /// This node answers for it.
    pub answers: bool,
}

impl Claimed {
    /// The Service asks for it.
    pub fn claim(&mut self, name: &ObjectName) {
        if let Err(at) = self.by.binary_search(name) {
            let mut by = std::mem::take(&mut self.by).into_vec();
            by.insert(at, name.clone());
            self.by = by.into();
        }
    }

    /// The Service asks for it no more.
    pub fn unclaim(&mut self, name: &ObjectName) {
        let by = std::mem::take(&mut self.by).into_iter();
        self.by = by.filter(|it| it != name).collect();
    }
}

impl Services {
    /// Decides anew who has the address, and what that means for it.
    pub(super) fn settle(&mut self, now: Instant, ip: IpAddr) {
        let vip = Vip(ip);
        let mut order = self.claimants(ip).to_vec();
        if order.len() > 1 {
            // Whoever was told that it has the address keeps it.
            order.sort_by_cached_key(|it| !self.was_told(it, ip));
        }
        let node = self.nodes.values().find(|it| it.addresses.contains(&ip));
        let node = node.map(|it| it.name.0.clone());
        let mut have: Vec<ObjectName> = Vec::new();
        for name in order {
            let refusal = match &node {
                Some(node) => {
                    let by = format!("the node {node}");
                    Some(ServiceRefusal::AddressInUse { ip, by })
                }
                None => self.hindered(&name, ip, &have),
            };
            let Some(it) = self.services.get_mut(&name) else {
                continue;
            };
            let before = match refusal {
                Some(refusal) => it.refused.insert(ip, refusal.clone()) == Some(refusal),
                None => {
                    have.push(name.clone());
                    it.refused.remove(&ip).is_none()
                }
            };
            if !before {
                self.telling.look_at(&name);
            }
        }
        self.exposing.look_at(ip);
        let next = self.place_of(now, ip, &have);
        let place = self.lingering(now, vip, next.as_ref()).or(next);
        if self.place(vip) != place.as_ref() {
            self.change(ip, |it| it.place = place);
            self.changed.mark(vip);
        }
    }

    /// Who asks for the address, in order.
    pub(super) fn claimants(&self, ip: IpAddr) -> &[ObjectName] {
        self.addresses.get(&ip).map_or(&[], |it| &it.by)
    }

    /// Whether this node answers for it.
    pub(super) fn answers(&self, ip: IpAddr) -> bool {
        self.addresses.get(&ip).is_some_and(|it| it.answers)
    }

    /// Changes what is known of an address; nothing is kept of one that is nobody's.
    pub(super) fn change(&mut self, ip: IpAddr, change: impl FnOnce(&mut Claimed)) {
        let it = self.addresses.entry(ip).or_default();
        change(it);
        if it.by.is_empty() && it.place.is_none() && !it.answers {
            self.addresses.remove(&ip);
        }
    }

    /// Where the Service is served has changed.
    pub(super) fn settle_all_of(&mut self, now: Instant, service: &ObjectName) {
        let addresses = self.services.get(service).map(|it| it.addresses().to_vec());
        for ip in addresses.unwrap_or_default() {
            self.settle(now, ip);
        }
    }

    fn was_told(&self, name: &ObjectName, ip: IpAddr) -> bool {
        self.services.get(name).is_some_and(|it| it.service().status_names(ip))
    }

    fn wants(&self, name: &ObjectName) -> Option<(&Known, &Wants)> {
        let it = self.services.get(name)?;
        match &it.verdict {
            Verdict::Wanted(wants) => Some((it, wants)),
            Verdict::Addressless | Verdict::Others | Verdict::Refused(_) => None,
        }
    }

    /// Why the Service cannot have the address beside those that have it.
    fn hindered(
        &self,
        name: &ObjectName,
        ip: IpAddr,
        have: &[ObjectName],
    ) -> Option<ServiceRefusal> {
        let (it, wants) = self.wants(name)?;
        let lease = |it: &Wants| it.elected_by.as_ref().map(|it| it.name.clone());
        have.iter().find_map(|with| {
            let (other, others) = self.wants(with)?;
            let (it, other) = (it.service(), other.service());
            let port = meet(&it.ports, &other.ports);
            let why = match port {
                Some(port) => format!("both serve {}/{}", port.port, port.protocol.name()),
                None if it.local || other.local => {
                    "with externalTrafficPolicy Local an address cannot be shared".to_owned()
                }
                None if wants.link != others.link => "they name different links".to_owned(),
                None if lease(wants) != lease(others) => {
                    format!("each has a Lease of its own; name one in {PEER}leaseName of both")
                }
                None => return None,
            };
            Some(ServiceRefusal::AddressShared { ip, with: with.clone(), why })
        })
    }

    /// What is to reach an address that these have, if anything is to be kept away.
    fn ports_of(&self, have: &[ObjectName]) -> Option<Ports> {
        let all = || have.iter().filter_map(|name| Some(self.services.get(name)?.service()));
        let guarded = self.config.guards && !all().any(|it| is_unguarded(&it));
        guarded.then(|| all().flat_map(|it| it.ports).collect())
    }

    fn place_of(&self, now: Instant, ip: IpAddr, have: &[ObjectName]) -> Option<Place> {
        let mut all = have.iter().filter_map(|name| Some((name, self.wants(name)?.1)));
        let (name, first) = all.next()?;
        let backed = |name: &ObjectName, it: &Wants| self.endpoints.backed(now, name, it.backing);
        let mut place = Place {
            link: first.link.clone(),
            backed: backed(name, first),
            local: first.backing == Backing::Here,
            // Whoever is known to have answered for it was sure that it is free.
            first_claim: !self.was_told(name, ip) && !self.probing.is_free(now, ip),
            elected_by: first.elected_by.clone(),
            until: None,
            guard: self.ports_of(have),
        };
        for (name, it) in all {
            place.backed = match (place.backed, backed(name, it)) {
                (Backed::Yes, _) | (_, Backed::Yes) => Backed::Yes,
                (Backed::Ends, _) | (_, Backed::Ends) => Backed::Ends,
                (Backed::No, Backed::No) => Backed::No,
            };
            place.first_claim &= !self.was_told(name, ip);
        }
        for name in have.iter().filter(|it| self.wants(it).is_some_and(|it| it.1.lease.is_some())) {
            // Nobody else may have what is leased, and whoever leased it has asked.
            place.first_claim = false;
            let until = self.leasing.until(name, ip);
            place.until = place.until.into_iter().chain(until).min();
        }
        Some(place)
    }
}
