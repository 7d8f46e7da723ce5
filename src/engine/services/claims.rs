//! Who has an address: everybody who asks for it, as far as they can share it.

use std::net::IpAddr;

use super::backing::Backed;
use super::wants::{Backing, LeaseOf, PEER, Verdict, Wants, is_unguarded, meet};
use super::{Known, Place, Ports, Services};
use crate::model::{Instant, ObjectName, ServiceRefusal, Vip};

impl Services {
    /// Decides anew who has the address, and what that means for it.
    pub(super) fn settle(&mut self, now: Instant, ip: IpAddr) {
        let vip = Vip(ip);
        let mut order = self.claims.get(&ip).cloned().unwrap_or_default();
        // Whoever was told that it has the address keeps it.
        order.sort_by_key(|it| !self.was_told(it, ip));
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
        let place = self.place_of(now, ip, &have).or_else(|| self.lingering(vip));
        let before = match place.clone() {
            Some(place) => self.places.insert(vip, place),
            None => self.places.remove(&vip),
        };
        if before != place {
            self.changed.mark(vip);
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
        let told = |it: &Known| it.service.ingress.iter().any(|it| it.ip == Some(ip));
        self.services.get(name).is_some_and(|it| told(it))
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
        have.iter().find_map(|with| {
            let (other, others) = self.wants(with)?;
            let port = meet(&it.service.ports, &other.service.ports);
            let why = match port {
                Some(port) => format!("both serve {}/{}", port.port, port.protocol.name()),
                None if it.service.local || other.service.local => {
                    "with externalTrafficPolicy Local an address cannot be shared".to_owned()
                }
                None if wants.link != others.link => "they name different links".to_owned(),
                None if self.config.times_of_each().is_some()
                    && wants.elected_by.name != others.elected_by.name =>
                {
                    format!("each has a Lease of its own; name one in {PEER}leaseName of both")
                }
                None => return None,
            };
            Some(ServiceRefusal::AddressShared { ip, with: with.clone(), why })
        })
    }

    /// What is to reach an address that these have, if anything is to be kept away.
    fn ports_of(&self, have: &[ObjectName]) -> Option<Ports> {
        let all = || have.iter().filter_map(|name| self.services.get(name));
        let exempt = all().any(|it| is_unguarded(&it.service));
        let ports = || all().flat_map(|it| it.service.ports.iter().copied()).collect();
        (self.config.guards && !exempt).then(ports)
    }

    /// The Lease that elects for a Service, where that is not the one of all.
    fn own_lease<'a>(&self, wants: &'a Wants) -> Option<&'a LeaseOf> {
        Some(&wants.elected_by).filter(|it| **it != self.nobodys)
    }

    fn place_of(&self, now: Instant, ip: IpAddr, have: &[ObjectName]) -> Option<Place> {
        let mut all = have.iter().filter_map(|name| Some((name, self.wants(name)?.1)));
        let (name, first) = all.next()?;
        let backed = |name: &ObjectName, it: &Wants| self.endpoints.backed(now, name, it.backing);
        let mut place = Place {
            link: first.link.clone().or_else(|| self.config.link.clone()),
            backed: backed(name, first),
            local: first.backing == Backing::Here,
            // Whoever is known to have answered for it was sure that it is free.
            first_claim: !self.was_told(name, ip) && !self.probing.is_free(now, ip),
            elected_by: self.own_lease(first).cloned(),
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
