//! What is read of the cluster's objects: Services, their endpoints, nodes, the pools.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ApiFault, Lease, NodeName, ResourceVersion, Words};

/// An object of one kind: its namespace, empty where there is none, and its name.
/// Copies share it: of thousands of objects, names are most of what is kept.
#[derive(Clone, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(from = "Named", into = "Named")]
pub struct ObjectName(Arc<Named>);

/// What an [`ObjectName`] says.
#[derive(Clone, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Named {
    /// Empty for what belongs to the whole cluster.
    pub namespace: String,
    /// Unique among its kind in the namespace.
    pub name: String,
}

impl ObjectName {
    /// The name in the namespace, which is empty where there is none.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Named { namespace: namespace.into(), name: name.into() }.into()
    }
}

impl From<Named> for ObjectName {
    fn from(mut named: Named) -> Self {
        named.namespace.shrink_to_fit();
        named.name.shrink_to_fit();
        Self(Arc::new(named))
    }
}

impl From<ObjectName> for Named {
    fn from(name: ObjectName) -> Self {
        Arc::unwrap_or_clone(name.0)
    }
}

impl Deref for ObjectName {
    type Target = Named;

    fn deref(&self) -> &Named {
        &self.0
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named { namespace, name } = &**self;
        f.debug_struct("ObjectName").field("namespace", namespace).field("name", name).finish()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => f.write_str(&self.name),
            false => write!(f, "{}/{}", self.namespace, self.name),
        }
    }
}

/// As it is displayed.
impl From<&str> for ObjectName {
    fn from(text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or(("", text));
        Self::new(namespace, name)
    }
}

/// What is followed: listed once, then watched.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Followed {
    /// One ConfigMap.
    ConfigMap(ObjectName),
    /// All EndpointSlices of a namespace, or of all.
    EndpointSlices(Option<String>),
    /// All Leases of a namespace; or of all, but for those by which nodes say that they live.
    Leases(Option<String>),
    /// All nodes.
    Nodes,
    /// All Services of a namespace, or of all.
    Services(Option<String>),
}

/// What the list and the watch of one [`Followed`] have to say.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ObjectEvent {
    /// Nothing changed up to this version.
    Bookmark(ResourceVersion),
    /// As it is at some moment.
    Changed(Box<Object>),
    /// It is there no more.
    Deleted(ObjectName),
    /// List and watch ended, orderly or not.
    Ended(ApiFault),
    /// 410: the version to resume from is forgotten.
    Expired,
    /// It is there, but what it says is not understood: whatever was known of it stays.
    Garbled {
        /// Which.
        name: ObjectName,
        /// What is wrong with it.
        why: String,
    },
    /// All that there was at this version has been said: what was not, is not.
    Listed(ResourceVersion),
    /// A list begins.
    Listing,
    /// The server accepted the watch.
    Opened,
}

/// One of the objects that are followed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Object {
    /// A ConfigMap.
    ConfigMap(ConfigMap),
    /// An EndpointSlice.
    EndpointSlice(EndpointSlice),
    /// A Lease.
    Lease(NamedLease),
    /// A node.
    Node(ClusterNode),
    /// A Service.
    Service(Service),
}

impl Object {
    /// Which.
    pub fn name(&self) -> ObjectName {
        match self {
            Self::ConfigMap(it) => it.name.clone(),
            Self::EndpointSlice(it) => it.name.clone(),
            Self::Lease(it) => it.name.clone(),
            Self::Node(it) => ObjectName::new("", &*it.name.0),
            Self::Service(it) => it.name.clone(),
        }
    }

    /// Its version.
    pub fn version(&self) -> &ResourceVersion {
        match self {
            Self::ConfigMap(it) => &it.version,
            Self::EndpointSlice(it) => &it.version,
            Self::Lease(it) => &it.lease.version,
            Self::Node(it) => &it.version,
            Self::Service(it) => &it.version,
        }
    }
}

/// A Lease, and which.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NamedLease {
    /// Which.
    pub name: ObjectName,
    /// What it says.
    pub lease: Lease,
}

/// A ConfigMap.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConfigMap {
    /// Which.
    pub name: ObjectName,
    /// Its version.
    pub version: ResourceVersion,
    /// Its texts.
    pub data: BTreeMap<String, String>,
}

/// An EndpointSlice, as far as it says where a Service is served.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EndpointSlice {
    /// Which.
    pub name: ObjectName,
    /// Its version.
    pub version: ResourceVersion,
    /// Of which Service, by its label.
    pub service: ObjectName,
    /// Who serves.
    pub endpoints: Vec<Endpoint>,
}

/// One that serves a Service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Endpoint {
    /// The node it is on, by `nodeName`, else by `hostname`; `None`: it says neither.
    pub node: Option<NodeName>,
    /// It takes new connections. What a slice leaves out counts as so.
    pub ready: bool,
    /// It serves, although it may be about to end. What a slice leaves out is as `ready`.
    pub serving: bool,
}

/// A node, as far as it can carry VIPs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClusterNode {
    /// Which.
    pub name: NodeName,
    /// Its version.
    pub version: ResourceVersion,
    /// Its condition `Ready` is `True`.
    pub ready: bool,
    /// `spec.unschedulable`: it was cordoned.
    pub cordoned: bool,
    /// It has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub excluded: bool,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its labels that begin with [`PROVIDED`].
    #[serde(default)]
    pub provided: BTreeMap<String, String>,
}

/// What the labels of a node begin with that name the Services it answers for.
pub const PROVIDED: &str = "service-provided.kube-vip.io/";

/// A Service, as far as it asks for addresses.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Service {
    /// Which.
    pub name: ObjectName,
    /// Another one of the same name has another.
    pub uid: String,
    /// The version that the next write is conditional on.
    pub version: ResourceVersion,
    /// Its type is `LoadBalancer`.
    pub balanced: bool,
    /// It is being deleted, and waits for finalizers.
    pub deleting: bool,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// `spec.loadBalancerIP`.
    pub load_balancer_ip: Option<String>,
    /// `externalTrafficPolicy` is `Local`.
    pub local: bool,
    /// `spec.ipFamilies`, in this order.
    pub families: Vec<IpFamily>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: FamilyPolicy,
    /// What it serves.
    pub ports: Vec<ServicePort>,
    /// Its annotations, as far as they are ours or the peer's.
    pub annotations: Words,
    /// Its labels, as far as they are the peer's.
    pub labels: Words,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// `status.loadBalancer.ingress`.
    pub ingress: Vec<Ingress>,
}

impl Service {
    /// Whether an address stands in its status.
    pub fn status_names(&self, ip: IpAddr) -> bool {
        self.ingress.iter().any(|it| it.ip == Some(ip))
    }

    /// Whether a finalizer is that of k3s's own load balancer, which serves it then.
    pub fn is_k3s_finalizer(finalizer: &str) -> bool {
        finalizer.starts_with("svccontroller.k3s.cattle.io/")
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum IpFamily {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl IpFamily {
    /// Of which family an address is.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// How many families a Service asks for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum FamilyPolicy {
    /// Two, where there are.
    PreferDualStack,
    /// Two, or none.
    RequireDualStack,
    /// One.
    #[default]
    SingleStack,
}

/// A port of a Service.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ServicePort {
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Protocol {
    /// SCTP.
    Sctp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As Kubernetes spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sctp => "SCTP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Where a Service is said to be reached.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Ingress {
    /// By address.
    pub ip: Option<IpAddr>,
    /// By name.
    pub hostname: Option<String>,
    /// How traffic to it is handled: `VIP` or `Proxy`.
    pub ip_mode: Option<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// What is written to a Service: only what differs, and only while its version is this.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct ServicePatch {
    /// Annotations to set, or to remove.
    pub annotations: BTreeMap<String, Option<String>>,
    /// Labels to set, or to remove.
    pub labels: BTreeMap<String, Option<String>>,
    /// `spec.loadBalancerIP` from now on.
    pub load_balancer_ip: Option<String>,
    /// `metadata.finalizers` from now on.
    pub finalizers: Option<Vec<String>>,
}

impl ServicePatch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A request about a Service. Nothing of the Lease ever waits for one.
///
/// Some are under way at a time, so what is asked second may be done first; only so many
/// wait, and the rest are refused at once.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ObjectCall {
    /// Write annotations, labels, finalizers and address of a Service.
    PatchService {
        /// Which.
        name: ObjectName,
        /// What the patch was made from; of another version nothing is written.
        version: ResourceVersion,
        /// What to write.
        patch: ServicePatch,
    },
    /// Tell a Kubernetes Event about a Service. Writes that wait go before it.
    ServiceEvent {
        /// Which.
        name: ObjectName,
        /// Its uid.
        uid: String,
        /// Who tells.
        node: NodeName,
        /// `Warning` instead of `Normal`.
        warning: bool,
        /// One word, such as `AddressAssigned`.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// Write the whole of `status.loadBalancer.ingress`.
    WriteIngress {
        /// Of which Service.
        name: ObjectName,
        /// What it was made from; of another version nothing is written.
        version: ResourceVersion,
        /// What stands there from now on.
        ingress: Vec<Ingress>,
    },
}

impl ObjectCall {
    /// How long an answer may take, the wait for its turn included.
    pub const WITHIN: Duration = Duration::from_secs(10);
}

/// What became of an [`ObjectCall`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ObjectReply {
    /// The object is of another version: the watch tells of it.
    Conflict,
    /// Done; what was written is of this version.
    Done(ResourceVersion),
    /// No usable answer. The write may have happened all the same.
    Failed(ApiFault),
    /// There is no such object.
    Gone,
}
