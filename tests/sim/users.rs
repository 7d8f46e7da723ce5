//! Users of a cluster, and its other controllers: they make Services, change their minds, take
//! them away, let endpoints come and go, and cordon nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use edgevip::model::{
    ClusterNode, ConfigMap, Endpoint, EndpointSlice, FamilyPolicy, Ingress, IpFamily, NodeName,
    Object, ObjectName, Protocol, ResourceVersion, Service, ServicePort, Words,
};

use crate::cloud::{POOLS, named};
use crate::each::TOGETHER;
use crate::host::Nanos;
use crate::objects::{ADDRESSES, Kind, Objects};
use crate::world::{Event, World};

const CLEANUP: &str = "service.kubernetes.io/load-balancer-cleanup";
pub const IGNORE: &str = "kube-vip.io/ignore";
pub const WITHOUT: &str = "kube-vip.io/allow-reconcile-without-endpoints";
pub const FORWARD: &str = "kube-vip.io/forwardUPNP";
pub const FORWARD_FOR: &str = "kube-vip.io/upnp-lease-duration";
pub const HOST: &str = "kube-vip.io/vipHost";

/// What users of a run do.
#[derive(Clone, Debug, Default)]
pub struct Users {
    /// They do something so often; nought: never.
    pub pace: Nanos,
    pub services: u64,
    /// The pool has so many addresses.
    pub pool: u64,
    pub shares: bool,
    /// Of both families.
    pub six: bool,
    /// Some ask for leases.
    pub leases: bool,
    /// Some want ports on the gateway.
    pub exposes: bool,
    /// Some have one Lease together.
    pub together: bool,
    pub made: u64,
}

/// A Service of type LoadBalancer with one port.
pub fn service(name: ObjectName, uid: u64) -> Service {
    Service {
        name,
        uid: format!("{uid:08x}-0000-4000-8000-{uid:012x}"),
        version: ResourceVersion(String::new()),
        balanced: true,
        deleting: false,
        class: None,
        load_balancer_ip: None,
        local: false,
        families: vec![IpFamily::V4],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![port(80)],
        annotations: Words::new(),
        labels: Words::new(),
        finalizers: Vec::new(),
        ingress: Vec::new(),
    }
}

pub fn port(port: u16) -> ServicePort {
    ServicePort { port, protocol: Protocol::Tcp }
}

/// The one slice of a Service: `(node, ready, serving)`.
pub fn slice(service: &ObjectName, endpoints: &[(usize, bool, bool)]) -> Object {
    let endpoint = |(node, ready, serving): &(usize, bool, bool)| Endpoint {
        node: Some(NodeName(format!("node-{node}").into())),
        ready: *ready,
        serving: *serving,
    };
    Object::EndpointSlice(EndpointSlice {
        name: slice_of(service),
        version: ResourceVersion(String::new()),
        service: service.clone(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    })
}

pub fn slice_of(service: &ObjectName) -> ObjectName {
    named(&service.namespace, &format!("{}-slice", service.name))
}

pub fn node(at: usize, ready: bool, cordoned: bool, excluded: bool) -> Object {
    Object::Node(ClusterNode {
        name: NodeName(format!("node-{at}").into()),
        version: ResourceVersion(String::new()),
        ready,
        cordoned,
        excluded,
        addresses: vec![address(11 + at as u64), address6(11 + at as u64)],
        provided: BTreeMap::new(),
    })
}

fn address6(last: u64) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last as u16])
}

/// Whether its ports are to be open on the gateway.
pub fn is_exposed(it: &Service) -> bool {
    crate::checks_services::is_served(it)
        && it.annotations.get(FORWARD).is_some_and(|it| it == "true")
}

/// Pools begin there.
const FIRST: u64 = 100;

pub fn pool_address(nth: u64) -> IpAddr {
    address(FIRST + nth)
}

fn address(last: u64) -> IpAddr {
    IpAddr::from([10, 0, 0, last as u8])
}

pub fn pools(first: u64, users: &Users) -> Object {
    let last = first + users.pool - 1;
    let mut range = format!("{}-{}", pool_address(first), pool_address(last));
    if users.six {
        range = format!("{range},{}-{}", address6(FIRST + first), address6(FIRST + last));
    }
    let data = [("range-global", range), ("allow-share-global", users.shares.to_string())];
    Object::ConfigMap(ConfigMap {
        name: POOLS.into(),
        version: ResourceVersion(String::new()),
        data: data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    })
}

impl World {
    pub fn settle_in(&mut self) {
        for at in 0..self.hosts.len() {
            self.change(|it| drop(it.put(node(at, true, false, false))));
        }
        let Some(users) = self.cloud.as_ref().map(|it| it.users.clone()) else { return };
        if users.pool > 0 {
            self.change(|it| drop(it.put(pools(0, &users))));
        }
        if users.pace > 0 {
            self.schedule(users.pace, Event::Users);
        }
    }

    /// Somebody does something.
    pub fn users_act(&mut self) {
        let Some(users) = self.cloud.as_ref().map(|it| it.users.clone()) else { return };
        if users.pace == 0 {
            return;
        }
        let wait = users.pace / 4 + self.rng.below(users.pace * 3 / 2);
        self.schedule(wait, Event::Users);
        match self.rng.below(20) {
            0 => self.change_pools(&users),
            1 => self.change_node(),
            2..6 => self.change_endpoints(&users),
            _ => self.change_service(&users),
        }
    }

    /// Users leave what there is as it is; nodes are well.
    pub fn users_rest(&mut self) {
        let Some(cloud) = &mut self.cloud else { return };
        cloud.users.pace = 0;
        for at in 0..self.hosts.len() {
            self.change(|it| drop(it.put(node(at, true, false, false))));
        }
        let slices: Vec<_> = self.objects().slices().cloned().collect();
        for mut it in slices {
            it.endpoints.iter_mut().for_each(|it| it.serving = it.ready);
            self.change(|objects| drop(objects.put(Object::EndpointSlice(it))));
        }
    }

    pub fn delete_all(&mut self) {
        let names: Vec<_> = self.objects().services().map(|it| it.name.clone()).collect();
        names.iter().for_each(|name| self.change(|it| it.delete_service(name)));
    }

    fn change_pools(&mut self, users: &Users) {
        if users.pool == 0 {
            return;
        }
        let there = self.objects().pools().is_some();
        let moved = self.rng.below(3);
        if there && self.rng.below(3) == 0 {
            return self.change(|it| it.remove(Kind::ConfigMap, &POOLS.into()));
        }
        self.change(|it| drop(it.put(pools(moved, users))));
    }

    fn change_node(&mut self) {
        let at = self.rng.below(self.hosts.len() as u64) as usize;
        let [ready, cordoned, excluded] = [4, 3, 8].map(|it| self.rng.below(it) == 0);
        self.change(|it| drop(it.put(node(at, !ready, cordoned, excluded))));
    }

    fn some_service(&mut self, users: &Users) -> ObjectName {
        let nth = self.rng.below(users.services);
        named(if nth.is_multiple_of(3) { "b" } else { "a" }, &format!("s{nth}"))
    }

    fn change_endpoints(&mut self, users: &Users) {
        let name = self.some_service(users);
        match self.rng.below(8) {
            0 => self.change(|it| it.remove(Kind::Slice, &slice_of(&name))),
            _ => {
                let slice = self.some_slice(&name);
                self.change(|it| drop(it.put(slice)));
            }
        }
    }

    fn some_slice(&mut self, name: &ObjectName) -> Object {
        let mut endpoints = Vec::new();
        for at in 0..self.hosts.len() {
            match self.rng.below(8) {
                0 => endpoints.push((at, false, true)),
                1 => endpoints.push((at, false, false)),
                2..6 => endpoints.push((at, true, true)),
                _ => {}
            }
        }
        slice(name, &endpoints)
    }

    /// Often what others have or will get, at times a node's, else one of their own.
    fn some_address(&mut self, users: &Users) -> IpAddr {
        if users.six && self.rng.below(2) == 0 {
            return address6(FIRST + self.rng.below(users.pool.max(2) + 4));
        }
        match self.rng.below(16) {
            0 => address(11 + self.rng.below(3)),
            1..9 => pool_address(self.rng.below(users.pool.max(2))),
            _ => pool_address(100 + self.rng.below(4)),
        }
    }

    fn change_service(&mut self, users: &Users) {
        let name = self.some_service(users);
        let Some(it) = self.objects().service(&name).cloned() else {
            return self.make_service(users, name);
        };
        if it.deleting {
            // Whoever else keeps it lets it go one day.
            if self.rng.below(3) == 0 {
                self.change(|objects| objects.remove(Kind::Service, &name));
            }
            return;
        }
        if self.rng.below(3) == 0 {
            self.change(|objects| objects.delete_service(&name));
            if self.rng.below(4) != 0 {
                self.change(|objects| objects.remove(Kind::Slice, &slice_of(&name)));
            }
            return;
        }
        let it = self.otherwise(users, it);
        self.change(|objects| drop(objects.put(Object::Service(it))));
    }

    fn make_service(&mut self, users: &Users, name: ObjectName) {
        let made = self.cloud.as_mut().map_or(0, |it| {
            it.users.made += 1;
            it.users.made
        });
        let mut it = service(name.clone(), made);
        it.local = self.rng.below(4) == 0;
        it.ports = vec![port(80 + self.rng.below(3) as u16)];
        if self.rng.below(4) == 0 {
            it.annotations.insert(WITHOUT.into(), "true".into());
        }
        if self.rng.below(5) == 0 {
            it.finalizers.push(CLEANUP.into());
        }
        if users.six {
            self.ask_families(&mut it);
        }
        self.ask_of_site(users, &mut it);
        match self.rng.below(8) {
            0..4 if users.leases => self.ask_leases(users, &mut it),
            0 => it.load_balancer_ip = Some(self.some_address(users).to_string()),
            1..3 => self.ask_by_annotation(users, &mut it),
            _ => {}
        }
        let slice = self.some_slice(&name);
        let first = self.rng.below(2) == 0;
        self.change(|objects: &mut Objects| {
            if first {
                objects.put(slice.clone());
            }
            objects.put(Object::Service(it));
            if !first {
                objects.put(slice);
            }
        });
    }

    fn ask_families(&mut self, it: &mut Service) {
        let both = [IpFamily::V4, IpFamily::V6];
        (it.families, it.family_policy) = match self.rng.below(6) {
            0..2 => (vec![IpFamily::V4], FamilyPolicy::SingleStack),
            2..4 => (vec![IpFamily::V6], FamilyPolicy::SingleStack),
            4 => (both.into(), FamilyPolicy::PreferDualStack),
            _ => (both.into(), FamilyPolicy::RequireDualStack),
        };
    }

    fn ask_leases(&mut self, users: &Users, it: &mut Service) {
        let text = match self.rng.below(3) {
            0 if users.six => "::",
            1 if users.six => "0.0.0.0, ::",
            _ => "0.0.0.0",
        };
        it.annotations.insert(ADDRESSES.into(), text.into());
    }

    /// The gateway is to have its ports; or it is elected with others.
    fn ask_of_site(&mut self, users: &Users, it: &mut Service) {
        if users.exposes && self.rng.below(2) == 0 {
            it.annotations.insert(FORWARD.into(), "true".into());
            let lease = ["0", "20s", "60s", "2m"][self.rng.below(4) as usize];
            it.annotations.insert(FORWARD_FOR.into(), lease.into());
        }
        if users.together && self.rng.below(3) == 0 {
            let name = format!("lease-{}", self.rng.below(2));
            it.annotations.insert(TOGETHER.into(), name);
        }
    }

    fn ask_by_annotation(&mut self, users: &Users, it: &mut Service) {
        let mut text = self.some_address(users).to_string();
        if self.rng.below(4) == 0 {
            text = format!("{text}, {}", self.some_address(users));
        }
        it.annotations.insert(ADDRESSES.into(), text);
    }

    fn otherwise(&mut self, users: &Users, mut it: Service) -> Service {
        let of_site = [users.six, users.leases, users.exposes, users.together];
        if of_site.contains(&true) && self.rng.below(4) == 0 {
            match self.rng.below(4) {
                0 if users.six => self.ask_families(&mut it),
                1 if users.leases => self.ask_leases(users, &mut it),
                2 => {
                    it.annotations.remove(FORWARD);
                    it.annotations.remove(TOGETHER);
                }
                _ => self.ask_of_site(users, &mut it),
            }
            return it;
        }
        match self.rng.below(10) {
            0 => self.ask_by_annotation(users, &mut it),
            1 => {
                it.annotations.remove(ADDRESSES);
            }
            2 => {
                it.balanced = !it.balanced;
                it.ingress.clear();
            }
            3 => it.local = !it.local,
            4 => it.ports = vec![port(80 + self.rng.below(3) as u16)],
            5 if it.annotations.remove(IGNORE).is_none() => {
                it.annotations.insert(IGNORE.into(), "true".into());
            }
            6 => {
                // Another controller is sure that it knows better.
                let ip = Some(self.some_address(users));
                it.ingress = vec![Ingress { ip, ..Ingress::default() }];
            }
            7 => it.ingress.clear(),
            8 => {
                it.annotations.insert(HOST.into(), "node-7".into());
            }
            // Somebody edits a label.
            _ => {}
        }
        it
    }
}
