//! The API server's objects that Services need: Services, EndpointSlices, nodes, the ConfigMap
//! with pools. One version for all, compare-and-swap, and a history from which watches resume
//! until it is compacted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use edgevip::model::{
    ClusterNode, ConfigMap, EndpointSlice, Followed, IpFamily, NamedLease, Object, ObjectCall,
    ObjectEvent, ObjectName, ObjectReply, ResourceVersion, Service, ServicePatch,
};

use edgevip::wire::lease;

/// Longer histories are compacted.
const HISTORY: usize = 1_000;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    ConfigMap,
    Lease,
    Node,
    Service,
    Slice,
}

#[derive(Default)]
pub struct Objects {
    all: BTreeMap<(Kind, ObjectName), Object>,
    version: u64,
    history: VecDeque<(u64, Kind, ObjectEvent)>,
    compacted: u64,
    /// These were no load balancers for a while, and users made them such again, with all that they
    /// say.
    pub typed_back: BTreeSet<ObjectName>,
    /// What watches that are open have still to be told.
    pub news: Vec<(Kind, ObjectEvent)>,
}

/// Whether what is followed has this in it.
pub fn is_of(what: &Followed, kind: Kind, name: &ObjectName) -> bool {
    match what {
        Followed::ConfigMap(it) => kind == Kind::ConfigMap && it == name,
        Followed::EndpointSlices(_) => kind == Kind::Slice,
        Followed::Leases(_) => kind == Kind::Lease,
        Followed::Nodes => kind == Kind::Node,
        Followed::Services(_) => kind == Kind::Service,
    }
}

/// Whom an event is about; of everybody else's list or watch, nobody.
pub fn subject(event: &ObjectEvent) -> Option<ObjectName> {
    match event {
        ObjectEvent::Changed(it) => Some(it.name()),
        ObjectEvent::Deleted(name) | ObjectEvent::Garbled { name, .. } => Some(name.clone()),
        ObjectEvent::Bookmark(_)
        | ObjectEvent::Ended(_)
        | ObjectEvent::Expired
        | ObjectEvent::Listed(_)
        | ObjectEvent::Listing
        | ObjectEvent::Opened => None,
    }
}

impl Objects {
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        match self.all.get(&(Kind::Service, name.clone()))? {
            Object::Service(it) => Some(it),
            _ => None,
        }
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.all.values().filter_map(|it| match it {
            Object::Service(it) => Some(it),
            _ => None,
        })
    }

    pub fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.all.values().filter_map(|it| match it {
            Object::EndpointSlice(it) => Some(it),
            _ => None,
        })
    }

    pub fn nodes(&self) -> impl Iterator<Item = &ClusterNode> {
        self.all.values().filter_map(|it| match it {
            Object::Node(it) => Some(it),
            _ => None,
        })
    }

    pub fn pools(&self) -> Option<&ConfigMap> {
        self.all.values().find_map(|it| match it {
            Object::ConfigMap(it) => Some(it),
            _ => None,
        })
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// A Lease is so, or is not there, from this version on.
    pub fn note_lease(&mut self, name: &ObjectName, lease: Option<NamedLease>, version: u64) {
        self.version = version;
        let key = (Kind::Lease, name.clone());
        let event = match lease {
            Some(it) => {
                let it = Object::Lease(it);
                self.all.insert(key, it.clone());
                ObjectEvent::Changed(Box::new(it))
            }
            None => {
                self.all.remove(&key);
                ObjectEvent::Deleted(name.clone())
            }
        };
        self.remember(Kind::Lease, event);
    }

    /// An object as it is from now on, whatever its version says.
    pub fn put(&mut self, object: Object) -> ResourceVersion {
        self.version += 1;
        let version = ResourceVersion(self.version.to_string());
        let (kind, object) = match object {
            Object::ConfigMap(it) => {
                (Kind::ConfigMap, Object::ConfigMap(ConfigMap { version: version.clone(), ..it }))
            }
            Object::EndpointSlice(it) => {
                let it = EndpointSlice { version: version.clone(), ..it };
                (Kind::Slice, Object::EndpointSlice(it))
            }
            Object::Lease(_) => unreachable!("Leases are kept elsewhere"),
            Object::Node(it) => {
                (Kind::Node, Object::Node(ClusterNode { version: version.clone(), ..it }))
            }
            Object::Service(it) => {
                if it.balanced && self.service(&it.name).is_some_and(|it| !it.balanced) {
                    self.typed_back.insert(it.name.clone());
                }
                (Kind::Service, Object::Service(Service { version: version.clone(), ..it }))
            }
        };
        self.all.insert((kind, object.name()), object.clone());
        self.remember(kind, ObjectEvent::Changed(Box::new(object)));
        version
    }

    pub fn remove(&mut self, kind: Kind, name: &ObjectName) {
        if self.all.remove(&(kind, name.clone())).is_some() {
            self.version += 1;
            self.remember(kind, ObjectEvent::Deleted(name.clone()));
        }
    }

    /// A user deletes it: at once, or once nobody keeps it by a finalizer.
    pub fn delete_service(&mut self, name: &ObjectName) {
        match self.service(name).cloned() {
            Some(it) if it.finalizers.is_empty() => self.remove(Kind::Service, name),
            Some(it) if !it.deleting => {
                self.put(Object::Service(Service { deleting: true, ..it }));
            }
            Some(_) | None => {}
        }
    }

    /// Does what is asked, if it was made from what there is.
    pub fn ask(&mut self, call: &ObjectCall) -> ObjectReply {
        let (name, version) = match call {
            ObjectCall::PatchService { name, version, .. }
            | ObjectCall::WriteIngress { name, version, .. } => (name, version),
            ObjectCall::ServiceEvent { .. } => {
                return ObjectReply::Done(ResourceVersion(self.version.to_string()));
            }
        };
        let Some(mut it) = self.service(name).cloned() else { return ObjectReply::Gone };
        if it.version != *version {
            return ObjectReply::Conflict;
        }
        let before = it.clone();
        match call {
            ObjectCall::PatchService { patch, .. } => apply(&mut it, patch),
            ObjectCall::WriteIngress { ingress, .. } => it.ingress = ingress.clone(),
            ObjectCall::ServiceEvent { .. } => {}
        }
        if it == before {
            // A write that changes nothing makes no version.
            return ObjectReply::Done(it.version);
        }
        if it.deleting && it.finalizers.is_empty() {
            self.remove(Kind::Service, name);
            return ObjectReply::Done(ResourceVersion(self.version.to_string()));
        }
        ObjectReply::Done(self.put(Object::Service(it)))
    }

    /// A list: what there is at this moment.
    pub fn list(&self, what: &Followed) -> Vec<ObjectEvent> {
        let there = self.all.iter().filter(|((kind, name), _)| is_of(what, *kind, name));
        let there = there.map(|(_, it)| ObjectEvent::Changed(Box::new(it.clone())));
        [ObjectEvent::Listing].into_iter().chain(there).chain([self.listed()]).collect()
    }

    /// What a watch from there on begins with; `None`: 410.
    pub fn since(&self, what: &Followed, from: &ResourceVersion) -> Option<Vec<ObjectEvent>> {
        let from = from.0.parse::<u64>().ok().filter(|it| *it >= self.compacted)?;
        let later = self.history.iter().filter(|(version, ..)| *version > from);
        let later = later.filter(|(_, kind, event)| {
            subject(event).is_some_and(|name| is_of(what, *kind, &name))
        });
        let later = later.map(|(.., event)| event.clone());
        Some([ObjectEvent::Opened].into_iter().chain(later).collect())
    }

    pub fn bookmark(&self) -> ObjectEvent {
        ObjectEvent::Bookmark(ResourceVersion(self.version.to_string()))
    }

    pub fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.version;
    }

    fn listed(&self) -> ObjectEvent {
        ObjectEvent::Listed(ResourceVersion(self.version.to_string()))
    }

    fn remember(&mut self, kind: Kind, event: ObjectEvent) {
        self.news.push((kind, event.clone()));
        self.history.push_back((self.version, kind, event));
        if self.history.len() > HISTORY
            && let Some((version, ..)) = self.history.pop_front()
        {
            self.compacted = version;
        }
    }
}

fn apply(it: &mut Service, patch: &ServicePatch) {
    let texts = [(&mut it.annotations, &patch.annotations), (&mut it.labels, &patch.labels)];
    for (texts, patch) in texts {
        for (key, value) in patch {
            match value {
                Some(value) => texts.insert(key.clone(), value.clone()),
                None => texts.remove(key),
            };
        }
    }
    if let Some(ip) = &patch.load_balancer_ip {
        it.load_balancer_ip = Some(ip.clone());
    }
    if let Some(finalizers) = &patch.finalizers {
        it.finalizers.clone_from(finalizers);
    }
}

/// Every address that a Service is known by: annotation, field, status.
pub fn known_by(it: &Service) -> Vec<IpAddr> {
    if !it.balanced {
        return Vec::new();
    }
    let texts = [it.annotations.get(ADDRESSES).cloned(), it.load_balancer_ip.clone()];
    let asked = texts.iter().flatten().flat_map(|it| parse(it)).collect::<Vec<_>>();
    let outside = it.annotations.get(OUTSIDE).map(|it| parse(it)).unwrap_or_default();
    let told = it.ingress.iter().filter_map(|it| it.ip).filter(|it| !outside.contains(it));
    let leased = leased(it).map(|it| it.1);
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in asked.into_iter().chain(told).chain(leased) {
        if !ip.is_unspecified() && !all.contains(&ip) {
            all.push(ip);
        }
    }
    all
}

/// What a Service asks to be leased, and says to be.
pub fn leased(it: &Service) -> impl Iterator<Item = (IpFamily, IpAddr)> {
    let told = it.annotations.get(LEASED).map(|it| lease::decode(it)).unwrap_or_default();
    asks_leases(it).into_iter().filter_map(move |it| Some((it, told.address(it)?)))
}

/// Whether it says that an address is leased, or was.
pub fn says_leased(it: &Service, ip: IpAddr) -> bool {
    let told = it.annotations.get(LEASED).map(|it| lease::decode(it)).unwrap_or_default();
    told.address(IpFamily::of(ip)) == Some(ip)
}

/// Of which families a Service wants addresses that are leased.
pub fn asks_leases(it: &Service) -> Vec<IpFamily> {
    let text = it.annotations.get(ADDRESSES).filter(|it| !it.is_empty());
    let asked = text.or(it.load_balancer_ip.as_ref()).map(|it| parse(it)).unwrap_or_default();
    asked.iter().filter(|it| it.is_unspecified()).map(|it| IpFamily::of(*it)).collect()
}

/// Addresses in a status that are the gateway's, and the leases of a Service.
pub const OUTSIDE: &str = "edgevip.io/gateway-addresses";
pub const LEASED: &str = "edgevip.io/dhcp-lease";
/// The annotation with the addresses of a Service, and the mark of what came out of a pool.
pub const ADDRESSES: &str = "kube-vip.io/loadbalancerIPs";
pub const ALLOCATED: &str = "edgevip.io/allocated";

pub fn parse(text: &str) -> Vec<IpAddr> {
    text.split(',').filter_map(|it| it.trim().parse().ok()).collect()
}
