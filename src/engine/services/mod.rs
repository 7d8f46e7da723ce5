//! Services of type LoadBalancer: what the cluster wants of this node.
//!
//! ```text
//!   Services, slices, nodes ──▶ claims by address ──▶ a place per VIP ──▶ the node places it
//!                                                         ▲
//!   status, annotations, Events ◀── who answers ◀─────────┘
//! ```
//!
//! The unit of placement is the address: Services that share one are one. Everything here is
//! what follows from the objects as they are; which of it has to be looked at again is kept
//! beside it, so that one change costs nothing of the others.

mod allocating;
mod backing;
mod claims;
mod eligible;
mod exposing;
mod labels;
mod learning;
mod leasing;
mod naming;
mod probing;
mod status;
mod telling;
mod wants;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::agenda::Marks;
use super::elector::LeaseConfig;
use super::guards::Ports;
use super::network::{LinkChoice, Usable};
use super::sabotage::{Sabotage, sabotaged};
use super::watch::Follower;
use super::{Cx, Deadline};
use crate::model::{
    ApiFault, ClusterNode, DhcpHeard, DhcpRefusal, Followed, Heard, Instant, LinkIndex, NodeName,
    ObjectEvent, ObjectName, ObjectReply, PoolRefusal, Refusal, RequestId, Service, ServiceRefusal,
    Vip,
};
use crate::wire::packed::Packed;
use allocating::Allocating;
pub use allocating::PoolsConfig;
use backing::{Backed, Endpoints};
pub(super) use leasing::Ground;
use leasing::Leasing;
pub use leasing::{DhcpConfig, DhcpMac};
use probing::Probing;
pub use wants::ClassRule;
pub(super) use wants::LeaseOf;
use wants::{Backing, Verdict};

/// How Services are served.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServicesConfig {
    /// Only those of this namespace.
    pub namespace: Option<String>,
    /// Which of them.
    pub class: ClassRule,
    /// The link of those that name none; `None`: that of the control plane.
    pub link: Option<LinkChoice>,
    /// Whether status and annotations are written.
    pub writes: bool,
    /// Who carries them.
    pub election: ServicesElection,
    /// Those that ask for it have a Lease of their own all the same.
    #[serde(default)]
    pub on_demand: bool,
    /// Where pools are, if they are given out here.
    pub pools: Option<PoolsConfig>,
    /// How addresses are leased, if they are.
    #[serde(default)]
    pub dhcp: Option<DhcpConfig>,
    /// Whether those that ask for it are to be reached through the site's gateway.
    #[serde(default)]
    pub gateway: bool,
    /// Whether nothing is to reach their addresses but their ports.
    #[serde(default)]
    pub guards: bool,
    /// Whether this node's Node is labelled with those it answers for.
    #[serde(default)]
    pub labels_node: bool,
}

impl ServicesConfig {
    /// The times of Leases that are one Service's own, where there are such.
    pub(super) fn times_of_each(&self) -> Option<&LeaseConfig> {
        match &self.election {
            ServicesElection::Each(times) => Some(times),
            ServicesElection::One(times) => Some(times).filter(|_| self.on_demand),
            ServicesElection::Quorum => None,
        }
    }
}

/// Who carries Services.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ServicesElection {
    /// For each, who holds its Lease: the times are those of this, the name is the Service's.
    Each(LeaseConfig),
    /// Who holds this Lease.
    One(LeaseConfig),
    /// The members place them.
    Quorum,
}

/// What follows from all that ask for one address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// The link that is named for it.
    pub link: Option<Box<LinkChoice>>,
    pub backed: Backed,
    /// It is to be served where it is answered for.
    pub local: bool,
    /// Nobody is known to have answered for it yet.
    pub first_claim: bool,
    /// Who elects, where each Service has a Lease.
    pub elected_by: Option<Box<LeaseOf>>,
    /// The lease of the address ends then.
    pub until: Option<Instant>,
    /// Nothing is to reach it but these, if anything is kept away.
    pub guard: Option<Ports>,
}

impl Place {
    /// Why it may not be answered for here, as far as endpoints go.
    /// `here`: the address is, so that nothing is begun.
    pub fn refusal(&self, here: bool) -> Option<Refusal> {
        match self.backed {
            Backed::Yes => None,
            Backed::Ends if here => None,
            Backed::Ends | Backed::No if self.local => Some(Refusal::NotServedHere),
            Backed::Ends | Backed::No => Some(Refusal::NoEndpoints),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Services {
    config: ServicesConfig,
    me: NodeName,
    followers: BTreeMap<Followed, Following>,
    services: BTreeMap<ObjectName, Box<Known>>,
    /// So many of them need to know their endpoints.
    needy: usize,
    endpoints: Endpoints,
    nodes: BTreeMap<NodeName, ClusterNode>,
    /// What is asked for, or answered for.
    addresses: BTreeMap<IpAddr, claims::Claimed>,
    /// Places that are not as they were.
    changed: Marks,
    known: bool,
    telling: telling::Telling,
    allocating: Allocating,
    probing: Probing,
    exposing: exposing::Exposing,
    leasing: Leasing,
    naming: naming::Naming,
    labels: labels::Labels,
    /// The link of those that name none, where nothing is said of Services.
    home: LinkChoice,
}

/// One kind of object, and what a list that has begun has not named yet.
#[derive(Clone, Debug)]
struct Following {
    follower: Follower,
    unseen: Option<BTreeSet<ObjectName>>,
}

/// A Service of type LoadBalancer.
#[derive(Clone, Debug)]
struct Known {
    name: ObjectName,
    /// As it was read last.
    packed: Packed,
    /// k3s's own load balancer serves it, too.
    of_service_lb: bool,
    verdict: Verdict,
    /// Of its addresses, why not; the first of them that cannot be had.
    refused: BTreeMap<IpAddr, ServiceRefusal>,
}

impl Known {
    fn service(&self) -> Service {
        self.packed.unpack(&self.name)
    }

    fn addresses(&self) -> &[IpAddr] {
        match &self.verdict {
            Verdict::Wanted(it) => &it.addresses,
            Verdict::Addressless | Verdict::Others | Verdict::Refused(_) => &[],
        }
    }

    /// The addresses that it has.
    fn has(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses().iter().copied().filter(|it| !self.refused.contains_key(it))
    }

    fn refusal(
        &self,
        of_pools: Option<&PoolRefusal>,
        of_lease: Option<&DhcpRefusal>,
    ) -> Option<ServiceRefusal> {
        match &self.verdict {
            Verdict::Wanted(_) if of_lease.is_some() => of_lease.cloned().map(ServiceRefusal::Dhcp),
            Verdict::Refused(refusal) => Some(refusal.as_ref().clone()),
            Verdict::Addressless if of_pools.is_some() => {
                of_pools.cloned().map(ServiceRefusal::Pool)
            }
            Verdict::Addressless => {
                let why = "it asks for no address, and nobody has given it one".to_owned();
                Some(ServiceRefusal::Addressless { why })
            }
            Verdict::Others | Verdict::Wanted(_) => self.refused.values().next().cloned(),
        }
    }
}

impl Services {
    pub fn new(config: ServicesConfig, me: NodeName, now: Instant) -> Self {
        let mut it = Self {
            me: me.clone(),
            followers: BTreeMap::new(),
            services: BTreeMap::new(),
            needy: 0,
            endpoints: Endpoints::new(me.clone()),
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            changed: Marks::default(),
            known: false,
            telling: telling::Telling::new(me),
            allocating: Allocating::new(),
            probing: Probing::default(),
            exposing: exposing::Exposing::new(config.gateway),
            leasing: Leasing::new(config.dhcp.clone()),
            naming: naming::Naming::default(),
            labels: labels::Labels::new(config.labels_node),
            home: LinkChoice::Auto,
            config,
        };
        it.follow(Followed::Services(it.config.namespace.clone()), now);
        it.follow(Followed::Nodes, now);
        if let Some(pools) = &it.config.pools {
            it.follow(Followed::ConfigMap(pools.config_map.clone()), now);
        }
        it
    }

    /// With the link of those that name none, where nothing is said of Services.
    pub fn at_home_on(self, home: LinkChoice) -> Self {
        Self { home, ..self }
    }

    /// What a list or a watch has to say.
    pub fn on_objects(&mut self, cx: &mut Cx<'_>, what: &Followed, events: &[ObjectEvent]) {
        let Some(of) = self.followers.get_mut(what) else {
            return;
        };
        of.follower.on_events(cx, events);
        for event in events {
            match event {
                ObjectEvent::Listing => {
                    let unseen = self.names(what);
                    if let Some(of) = self.followers.get_mut(what) {
                        of.unseen = Some(unseen);
                    }
                }
                ObjectEvent::Listed(_) => {
                    let of = self.followers.get_mut(what);
                    let unseen = of.and_then(|it| it.unseen.take());
                    let unseen = unseen.filter(|_| !sabotaged(Sabotage::MissingFromListKept));
                    for gone in unseen.unwrap_or_default() {
                        self.forget(cx.now, what, &gone);
                    }
                }
                ObjectEvent::Garbled { name, .. } => self.saw(what, name),
                ObjectEvent::Changed(object) => self.learn(cx.now, what, object),
                ObjectEvent::Deleted(name) => self.forget(cx.now, what, name),
                ObjectEvent::Bookmark(_)
                | ObjectEvent::Ended(_)
                | ObjectEvent::Expired
                | ObjectEvent::Opened => {}
            }
        }
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &ObjectReply) {
        self.telling.on_reply(cx, request, reply);
        self.allocating.on_reply(cx, request, reply);
        self.leasing.on_reply(cx, request, reply);
    }

    /// A DHCP server speaks.
    pub fn on_dhcp(&mut self, link: LinkIndex, heard: DhcpHeard) {
        self.leasing.on_message(link, heard);
    }

    /// Time passed: what is due is asked for, and losses begin to count.
    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        for service in self.endpoints.expire(cx.now) {
            self.settle_all_of(cx.now, &service);
        }
        self.end_lingering(cx.now);
        self.take_named(cx.now);
        self.naming.tick(cx);
        self.allocating.expire(cx.now);
        let needs_slices = self.needy > 0;
        let slices = Followed::EndpointSlices(self.config.namespace.clone());
        match (needs_slices, self.followers.contains_key(&slices)) {
            (true, false) => self.follow(slices, cx.now),
            (false, true) => {
                if let Some(it) = self.followers.remove(&slices) {
                    it.follower.stop(cx);
                }
                for name in self.names(&slices) {
                    self.forget(cx.now, &slices, &name);
                }
            }
            (true, true) | (false, false) => {}
        }
        for it in self.followers.values_mut() {
            it.follower.tick(cx);
        }
        // Without the pools, addresses are served all the same. A list that is read again
        // later makes nothing unknown.
        let pools = |it: &Followed| matches!(it, Followed::ConfigMap(_));
        let listed = |(what, it): (&Followed, &Following)| pools(what) || it.follower.has_listed();
        self.known = self.known || self.followers.iter().all(listed);
    }

    /// Whether everything that was there at the start is known.
    pub fn is_known(&self) -> bool {
        self.known
    }

    pub fn vips(&self) -> impl Iterator<Item = Vip> + '_ {
        self.addresses.iter().filter(|it| it.1.place.is_some()).map(|it| Vip(*it.0))
    }

    pub fn place(&self, vip: Vip) -> Option<&Place> {
        self.addresses.get(&vip.0)?.place.as_ref()
    }

    /// Whether news of all of them comes at once.
    pub fn is_watching(&self) -> bool {
        let pools = |it: &Followed| matches!(it, Followed::ConfigMap(_));
        self.followers.iter().all(|(what, it)| pools(what) || it.follower.is_open())
    }

    /// The link of those that name none.
    pub fn link(&self) -> Option<&LinkChoice> {
        self.config.link.as_ref()
    }

    /// Keeps what pools give out next probed, where that is this node's business. Returns
    /// whether other addresses are to be listened for than before.
    pub fn probe(
        &mut self,
        cx: &mut Cx<'_>,
        carries: bool,
        on: &dyn Fn(IpAddr) -> Option<Usable>,
    ) -> bool {
        if self.allocating.take_news(carries) {
            let next = self.allocating.next(cx.now, carries);
            self.probing.want(cx.now, &next);
        }
        self.probing.tick(cx, on);
        self.probing.take_news()
    }

    /// The addresses that are listened for beside those of Services.
    pub fn probed(&self) -> impl Iterator<Item = Vip> + '_ {
        self.probing.addresses().chain(self.leasing.probed()).map(Vip)
    }

    /// Whether nobody is known to use an address, by a probe of late.
    pub fn is_known_free(&self, now: Instant, vip: Vip) -> bool {
        self.probing.is_free(now, vip.0)
    }

    /// Somebody speaks of an address.
    pub fn on_heard(&mut self, now: Instant, heard: &Heard) {
        // Who carries and who gives out ask about the same addresses: who asks does not have it.
        if !heard.probe && self.probing.on_heard(heard.ip) {
            self.allocating.answered(now, heard);
        }
        self.leasing.on_heard(heard.ip, heard.mac);
    }

    /// Why a Service has not what it asks for.
    fn refusal(&self, it: &Known) -> Option<ServiceRefusal> {
        let refusal =
            it.refusal(self.allocating.refused.get(&it.name), self.leasing.refusal(&it.name));
        refusal.or_else(|| self.unresolved(it))
    }

    /// Why nothing new comes from the API server.
    pub fn fault(&self) -> Option<&ApiFault> {
        let following = self.followers.values().find_map(|it| it.follower.fault());
        following.or(self.telling.fault.as_ref())
    }

    /// The VIPs whose place is not what it was when this was last asked.
    pub fn take_changed(&mut self) -> Marks {
        std::mem::take(&mut self.changed)
    }

    pub fn deadline(&self, now: Instant) -> Option<Deadline> {
        let followers = self.followers.values().filter_map(|it| it.follower.deadline());
        let losses = self
            .endpoints
            .deadline()
            .map(|at| Deadline { at, why: "a Service lost its endpoints" });
        let allocating = self.allocating.deadline();
        let probing = self.probing.deadline();
        followers
            .chain(losses)
            .chain(probing)
            .chain(self.leasing.deadline())
            .chain(self.naming.deadline())
            .chain(self.telling.deadline())
            .chain(self.labels.deadline())
            .chain(allocating)
            .chain(self.exposing.deadline(now))
            .min()
    }

    fn follow(&mut self, what: Followed, now: Instant) {
        let follower = Follower::new(what.clone(), now);
        self.followers.insert(what, Following { follower, unseen: None });
    }
}

impl Known {
    fn needs_endpoints(&self) -> bool {
        matches!(&self.verdict, Verdict::Wanted(it) if it.backing != Backing::None)
    }
}

/// The name of what belongs to the whole cluster.
fn of_cluster(name: &str) -> ObjectName {
    ObjectName::new("", name)
}

#[cfg(test)]
pub(in crate::engine) mod tests;
