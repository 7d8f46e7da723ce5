//! The objects as they are: one is there, or is not there any more.

use std::collections::{BTreeMap, BTreeSet};

use super::wants::{Verdict, Wants, verdict};
use super::{Known, LinkChoice, Services, ServicesElection, leasing, of_cluster, wants};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{
    ClusterNode, Followed, Instant, IpFamily, Leases, NodeName, Object, ObjectName, Service,
    ServiceRefusal,
};
use crate::wire::packed::Packed;

impl Services {
    pub(super) fn names(&self, what: &Followed) -> BTreeSet<ObjectName> {
        match what {
            Followed::ConfigMap(name) => {
                self.has_pools().then(|| name.clone()).into_iter().collect()
            }
            Followed::EndpointSlices(_) => self.endpoints.names().cloned().collect(),
            // Each is its elector's business.
            Followed::Leases(_) => BTreeSet::new(),
            Followed::Nodes => self.nodes.keys().map(|it| of_cluster(&it.0)).collect(),
            Followed::Services(_) => self.services.keys().cloned().collect(),
        }
    }

    /// What a list has named is still there.
    pub(super) fn saw(&mut self, what: &Followed, name: &ObjectName) {
        let unseen = self.followers.get_mut(what).and_then(|it| it.unseen.as_mut());
        if let Some(unseen) = unseen {
            unseen.remove(name);
        }
    }

    pub(super) fn learn(&mut self, now: Instant, what: &Followed, object: &Object) {
        self.saw(what, &object.name());
        match object {
            Object::ConfigMap(it) => self.learn_pools(now, Some(it)),
            Object::EndpointSlice(it) => {
                let service = self.shared(&it.service);
                for service in self.endpoints.learn(now, it, service) {
                    self.settle_all_of(now, &service);
                }
            }
            Object::Lease(_) => {}
            Object::Node(it) => {
                let addresses = |it: &ClusterNode| it.addresses.clone();
                self.allocating.reserve(&it.name, &it.addresses);
                if it.name == self.me {
                    self.labels.learn(it);
                }
                let before = self.nodes.insert(it.name.clone(), it.clone());
                let before = before.as_ref().map(addresses).unwrap_or_default();
                let differ = it.addresses.iter().filter(|ip| !before.contains(ip));
                let lost = before.iter().filter(|ip| !it.addresses.contains(ip));
                for ip in differ.chain(lost) {
                    self.settle(now, *ip);
                }
            }
            Object::Service(it) => self.learn_service(now, it.clone()),
        }
    }

    fn learn_service(&mut self, now: Instant, mut service: Service) {
        service.name = self.shared(&service.name);
        let name = service.name.clone();
        if !service.balanced {
            return self.forget_service(now, &name);
        }
        self.allocating.learn(now, &service);
        let told = leasing::written(&service);
        self.take(now, service);
        let asks = match self.services.get(&name).map(|it| &it.verdict) {
            Some(Verdict::Wanted(it)) => it.lease.as_deref(),
            Some(Verdict::Addressless | Verdict::Others | Verdict::Refused(_)) | None => None,
        };
        let families: &[_] = asks.map_or(&[], |it| &it.families);
        self.leasing.look_at(&name, families, &told, &mut self.changed);
    }

    /// The name of a Service, which is there once, however often objects come that name it.
    fn shared(&self, name: &ObjectName) -> ObjectName {
        self.services.get_key_value(name).map_or(name, |it| it.0).clone()
    }

    /// Who has what follows from a Service as it is, and from what is leased for it.
    pub(super) fn take(&mut self, now: Instant, service: Service) {
        let name = service.name.clone();
        let mut verdict = verdict(&service, &self.config.class);
        // Where they are not all on one node, the next one knows a lease by the Service only.
        let own = match self.config.election {
            ServicesElection::Each(_) => true,
            ServicesElection::One(_) => self.config.on_demand && wants::has_own_lease(&service),
            ServicesElection::Quorum => false,
        };
        let one = matches!(self.config.election, ServicesElection::One(_)) && !own;
        let mute = !self.config.writes && !one;
        if mute && let Verdict::Wanted(Wants { lease: Some(lease), .. }) = &verdict {
            let value = match lease.families.first() {
                Some(IpFamily::V6) => "::",
                Some(IpFamily::V4) | None => "0.0.0.0",
            };
            verdict = Verdict::refused(ServiceRefusal::Unreadable {
                setting: "loadbalancerIPs".to_owned(),
                value: value.to_owned(),
                right: "a lease needs disable_service_updates=false where not one Lease elects \
                        for all Services; give an address"
                    .to_owned(),
            });
        }
        if matches!(self.config.election, ServicesElection::Quorum)
            && let Verdict::Wanted(it) = &verdict
            && let Some(it) = it.names.first()
        {
            verdict = Verdict::refused(ServiceRefusal::Unreadable {
                setting: "loadbalancerIPs".to_owned(),
                value: it.name.clone(),
                right: "an address where members elect: two of them could find different ones \
                        under one name"
                    .to_owned(),
            });
        }
        self.add_named(now, &service, &mut verdict);
        if self.leasing.makes_links()
            && let Verdict::Wanted(Wants { lease: Some(lease), link, .. }) = &mut verdict
        {
            let below = link.take().map(|it| *it).or_else(|| self.config.link.clone());
            let below = below.unwrap_or_else(|| self.home.clone());
            match wants::macvlan(&service, leasing::mac_of(&service, lease), below) {
                Ok(made) => {
                    *link = Some(Box::new(LinkChoice::Made(Box::new(made))));
                    self.leasing.look_at_link(&name);
                }
                Err(refusal) => verdict = Verdict::refused(refusal),
            }
        }
        if let Verdict::Wanted(Wants { addresses, lease: Some(lease), .. }) = &mut verdict {
            for family in &lease.families {
                let ip = self.leasing.address(&service, *family);
                addresses.extend(ip.filter(|it| !addresses.contains(it)));
            }
        }
        if let Verdict::Wanted(wants) = &mut verdict {
            wants.addresses.shrink_to_fit();
            if !own {
                wants.elected_by = None;
            }
        }
        let known = Box::new(Known {
            name: name.clone(),
            packed: Packed::of(&service),
            of_service_lb: service.finalizers.iter().any(|it| Service::is_k3s_finalizer(it)),
            verdict,
            refused: BTreeMap::new(),
        });
        self.needy += usize::from(known.needs_endpoints());
        let before = self.services.insert(name.clone(), known);
        self.needy -= before.iter().filter(|it| it.needs_endpoints()).count();
        let before: BTreeSet<_> =
            before.iter().flat_map(|it| it.addresses().iter().copied()).collect();
        let after: BTreeSet<_> = self.services[&name].addresses().iter().copied().collect();
        for ip in before.difference(&after) {
            self.change(*ip, |it| it.unclaim(&name));
        }
        for ip in &after {
            self.change(*ip, |it| it.claim(&name));
        }
        for ip in before.union(&after) {
            self.settle(now, *ip);
        }
        self.telling.look_at(&name);
    }

    pub(super) fn forget(&mut self, now: Instant, what: &Followed, name: &ObjectName) {
        match what {
            Followed::ConfigMap(_) => self.learn_pools(now, None),
            Followed::EndpointSlices(_) => {
                if let Some(service) = self.endpoints.forget(now, name) {
                    self.settle_all_of(now, &service);
                }
            }
            Followed::Leases(_) => {}
            Followed::Nodes => {
                let node = NodeName(name.name.as_str().into());
                self.allocating.reserve(&node, &[]);
                let gone = self.nodes.remove(&node);
                for ip in gone.map(|it| it.addresses).unwrap_or_default() {
                    self.settle(now, ip);
                }
            }
            Followed::Services(_) => self.forget_service(now, name),
        }
    }

    fn forget_service(&mut self, now: Instant, name: &ObjectName) {
        let Some(gone) = self.services.remove(name) else {
            return;
        };
        self.needy -= usize::from(gone.needs_endpoints());
        let kept = sabotaged(Sabotage::DeletedServiceKept);
        for ip in gone.addresses().iter().filter(|_| !kept) {
            self.change(*ip, |it| it.unclaim(name));
            self.settle(now, *ip);
        }
        self.telling.forget(name);
        self.labels.answered(name, &[]);
        self.exposing.forget(name);
        self.allocating.forget(now, name);
        self.leasing.look_at(name, &[], &Leases::default(), &mut self.changed);
        self.naming.forget(name);
    }
}
