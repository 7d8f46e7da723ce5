//! Services, EndpointSlices, Nodes and ConfigMaps: the fields that are read, the rest is
//! skipped without being kept.
//!
//! Supported: `v1` Service, Node and ConfigMap, `discovery.k8s.io/v1` EndpointSlice, as
//! objects, as lists in pages, and as lines of a watch. Left out: addresses and ports of
//! endpoints, `binaryData`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{DecodeError, Failure, failure, wrong};
use crate::model::{
    ClusterNode, ConfigMap, Endpoint, EndpointSlice, FamilyPolicy, Followed, Ingress, IpFamily,
    NodeName, Object, ObjectEvent, ObjectName, Protocol, ResourceVersion, Service, ServicePort,
};

/// The longest JSON of one object: more than an API server stores.
pub const MAX_OBJECT: usize = 4 << 20;

/// The label that says which Service an EndpointSlice is of.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

const ANNOTATIONS: [&str; 2] = ["kube-vip.io/", "edgevip.io/"];
const LABELS: [&str; 4] = ["implementation", "ipam-address", SERVICE_NAME, EXCLUDED];
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The longest annotation or label that is taken.
const MAX_VALUE: usize = 16 * 1024;
/// The longest list within an object; Kubernetes has no more endpoints in a slice.
const MAX_LIST: usize = 1_000;

/// Reads an object of a list; what cannot be read is said to be so. `None`: it says nothing.
pub fn listed(what: &Followed, bytes: &[u8]) -> Option<ObjectEvent> {
    match object(what, bytes) {
        Ok(object) => object.map(|it| ObjectEvent::Changed(Box::new(it))),
        Err(error) => Some(garbled(name_of(bytes), error)),
    }
}

/// Reads a line of a watch; `None`: it says nothing that matters.
pub fn watched(what: &Followed, bytes: &[u8]) -> Result<Option<ObjectEvent>, DecodeError> {
    #[derive(Deserialize)]
    struct Line {
        r#type: String,
    }
    #[derive(Deserialize)]
    struct Body<T> {
        object: T,
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let Line { r#type } = parse(bytes)?;
    let name = || parse::<Body<Named>>(bytes).map(|it| it.object.metadata.object_name());
    Ok(match r#type.as_str() {
        "ADDED" | "MODIFIED" => {
            let object = match what {
                Followed::ConfigMap(_) => parse::<Body<ConfigMapJson>>(bytes)
                    .and_then(|it| it.object.read().map(|it| Some(Object::ConfigMap(it)))),
                Followed::EndpointSlices(_) => parse::<Body<SliceJson>>(bytes)
                    .and_then(|it| it.object.read().map(|it| it.map(Object::EndpointSlice))),
                Followed::Nodes => parse::<Body<NodeJson>>(bytes)
                    .and_then(|it| it.object.read().map(|it| Some(Object::Node(it)))),
                Followed::Services(_) => parse::<Body<ServiceJson>>(bytes)
                    .and_then(|it| it.object.read().map(|it| Some(Object::Service(it)))),
            };
            match object {
                Ok(object) => object.map(|it| ObjectEvent::Changed(Box::new(it))),
                Err(error) => Some(garbled(name().unwrap_or_else(|_| "".into()), error)),
            }
        }
        "DELETED" => Some(ObjectEvent::Deleted(name()?)),
        "BOOKMARK" => {
            let metadata = parse::<Body<Named>>(bytes)?.object.metadata;
            Some(ObjectEvent::Bookmark(metadata.version()?))
        }
        "ERROR" => Some(match failure(&parse::<Body<serde_json::Value>>(bytes)?.object)? {
            Failure::Ended(fault) => ObjectEvent::Ended(fault),
            Failure::Expired => ObjectEvent::Expired,
        }),
        _ => None,
    })
}

/// The version of an object, whatever else it says.
pub fn version(bytes: &[u8]) -> Result<ResourceVersion, DecodeError> {
    parse::<Named>(bytes)?.metadata.version()
}

/// Reads a Service.
pub fn service(bytes: &[u8]) -> Result<Service, DecodeError> {
    parse::<ServiceJson>(bytes)?.read()
}

/// Reads an EndpointSlice; `None`: it is of no Service.
pub fn endpoint_slice(bytes: &[u8]) -> Result<Option<EndpointSlice>, DecodeError> {
    parse::<SliceJson>(bytes)?.read()
}

/// Reads a Node.
pub fn node(bytes: &[u8]) -> Result<ClusterNode, DecodeError> {
    parse::<NodeJson>(bytes)?.read()
}

/// Reads a ConfigMap.
pub fn config_map(bytes: &[u8]) -> Result<ConfigMap, DecodeError> {
    parse::<ConfigMapJson>(bytes)?.read()
}

fn object(what: &Followed, bytes: &[u8]) -> Result<Option<Object>, DecodeError> {
    Ok(match what {
        Followed::ConfigMap(_) => Some(Object::ConfigMap(config_map(bytes)?)),
        Followed::EndpointSlices(_) => endpoint_slice(bytes)?.map(Object::EndpointSlice),
        Followed::Nodes => Some(Object::Node(node(bytes)?)),
        Followed::Services(_) => Some(Object::Service(service(bytes)?)),
    })
}

fn garbled(name: ObjectName, error: DecodeError) -> ObjectEvent {
    ObjectEvent::Garbled { name, why: super::one_line(&error.to_string()) }
}

fn name_of(bytes: &[u8]) -> ObjectName {
    parse::<Named>(bytes).map_or_else(|_| "".into(), |it| it.metadata.object_name())
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|error| wrong("", error.to_string()))
}

/// As much of an object as all have, for those of which no more can be read.
#[derive(Deserialize)]
struct Named {
    metadata: Name,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Name {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl Name {
    fn object_name(self) -> ObjectName {
        let (namespace, name) = (self.namespace.unwrap_or_default(), self.name.unwrap_or_default());
        ObjectName { namespace, name }
    }

    fn version(self) -> Result<ResourceVersion, DecodeError> {
        version_of(self.resource_version)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "labels")]
    labels: BTreeMap<String, String>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl Metadata {
    /// Which, and of what version.
    fn take_name(&mut self) -> Result<(ObjectName, ResourceVersion), DecodeError> {
        let (namespace, name) = (self.namespace.take().unwrap_or_default(), &mut self.name);
        if name.is_empty() {
            return Err(wrong("/metadata/name", "missing"));
        }
        let name = ObjectName { namespace, name: std::mem::take(name) };
        Ok((name, version_of(self.resource_version.take())?))
    }
}

fn version_of(version: Option<String>) -> Result<ResourceVersion, DecodeError> {
    match version.filter(|it| !it.is_empty()) {
        Some(version) => Ok(ResourceVersion(version)),
        None => Err(wrong("/metadata/resourceVersion", "missing")),
    }
}

#[derive(Deserialize)]
struct ServiceJson {
    metadata: Metadata,
    #[serde(default)]
    spec: Option<ServiceSpec>,
    #[serde(default)]
    status: Option<ServiceStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    r#type: Option<String>,
    load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
    external_traffic_policy: Option<String>,
    ip_families: Option<Vec<FamilyJson>>,
    ip_family_policy: Option<FamilyPolicyJson>,
    ports: Option<Vec<PortJson>>,
}

#[derive(Clone, Copy, Deserialize)]
enum FamilyJson {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

#[derive(Deserialize)]
enum FamilyPolicyJson {
    PreferDualStack,
    RequireDualStack,
    SingleStack,
}

#[derive(Deserialize)]
struct PortJson {
    port: u16,
    protocol: Option<ProtocolJson>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ProtocolJson {
    Sctp,
    #[default]
    Tcp,
    Udp,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Default, Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<IngressJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IngressJson {
    ip: Option<String>,
    hostname: Option<String>,
    ip_mode: Option<String>,
    ports: Option<Vec<PortJson>>,
}

impl ServiceJson {
    fn read(mut self) -> Result<Service, DecodeError> {
        let (name, version) = self.metadata.take_name()?;
        let spec = self.spec.unwrap_or_default();
        let ingress = self.status.unwrap_or_default().load_balancer.unwrap_or_default().ingress;
        let filled = |it: Option<String>| it.filter(|it| !it.is_empty());
        Ok(Service {
            name,
            uid: self.metadata.uid.unwrap_or_default(),
            version,
            balanced: spec.r#type.as_deref() == Some("LoadBalancer"),
            deleting: self.metadata.deletion_timestamp.is_some(),
            class: filled(spec.load_balancer_class),
            load_balancer_ip: filled(spec.load_balancer_ip),
            local: spec.external_traffic_policy.as_deref() == Some("Local"),
            families: list("/spec/ipFamilies", spec.ip_families, |it| {
                Ok(match it {
                    FamilyJson::V4 => IpFamily::V4,
                    FamilyJson::V6 => IpFamily::V6,
                })
            })?,
            family_policy: match spec.ip_family_policy {
                Some(FamilyPolicyJson::PreferDualStack) => FamilyPolicy::PreferDualStack,
                Some(FamilyPolicyJson::RequireDualStack) => FamilyPolicy::RequireDualStack,
                Some(FamilyPolicyJson::SingleStack) | None => FamilyPolicy::SingleStack,
            },
            ports: list("/spec/ports", spec.ports, |it| Ok(port(&it)))?,
            annotations: self.metadata.annotations,
            labels: self.metadata.labels,
            finalizers: list("/metadata/finalizers", self.metadata.finalizers, Ok)?,
            ingress: list("/status/loadBalancer/ingress", ingress, |it| {
                Ok(Ingress {
                    ip: it.ip.and_then(|it| it.parse().ok()),
                    hostname: filled(it.hostname),
                    ip_mode: filled(it.ip_mode),
                    ports: list("/status/loadBalancer/ingress/ports", it.ports, |it| {
                        Ok(port(&it))
                    })?,
                })
            })?,
        })
    }
}

fn port(it: &PortJson) -> ServicePort {
    let protocol = match it.protocol.unwrap_or_default() {
        ProtocolJson::Sctp => Protocol::Sctp,
        ProtocolJson::Tcp => Protocol::Tcp,
        ProtocolJson::Udp => Protocol::Udp,
    };
    ServicePort { port: it.port, protocol }
}

#[derive(Deserialize)]
struct SliceJson {
    metadata: Metadata,
    endpoints: Option<Vec<EndpointJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointJson {
    node_name: Option<String>,
    hostname: Option<String>,
    conditions: Option<Conditions>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
}

impl SliceJson {
    fn read(mut self) -> Result<Option<EndpointSlice>, DecodeError> {
        let (name, version) = self.metadata.take_name()?;
        let Some(service) = self.metadata.labels.remove(SERVICE_NAME) else {
            return Ok(None);
        };
        let service = ObjectName { namespace: name.namespace.clone(), name: service };
        let endpoints = list("/endpoints", self.endpoints, |it| {
            let conditions = it.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            Ok(Endpoint {
                node: it.node_name.or(it.hostname).filter(|it| !it.is_empty()).map(NodeName),
                ready,
                serving: conditions.serving.unwrap_or(ready),
            })
        })?;
        Ok(Some(EndpointSlice { name, version, service, endpoints }))
    }
}

#[derive(Deserialize)]
struct NodeJson {
    metadata: Metadata,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeSpec {
    unschedulable: Option<bool>,
}

#[derive(Default, Deserialize)]
struct NodeStatus {
    conditions: Option<Vec<NodeCondition>>,
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
struct NodeCondition {
    r#type: String,
    status: String,
}

#[derive(Deserialize)]
struct NodeAddress {
    address: String,
}

impl NodeJson {
    fn read(mut self) -> Result<ClusterNode, DecodeError> {
        let (name, version) = self.metadata.take_name()?;
        let status = self.status.unwrap_or_default();
        let ready = |it: &NodeCondition| it.r#type == "Ready" && it.status == "True";
        let addresses = status.addresses.unwrap_or_default();
        if addresses.len() > MAX_LIST {
            return Err(too_long("/status/addresses"));
        }
        Ok(ClusterNode {
            name: NodeName(name.name),
            version,
            ready: status.conditions.iter().flatten().any(ready),
            cordoned: self.spec.and_then(|it| it.unschedulable).unwrap_or_default(),
            excluded: self.metadata.labels.contains_key(EXCLUDED),
            // Some are host names.
            addresses: addresses
                .iter()
                .filter_map(|it| it.address.parse::<IpAddr>().ok())
                .collect(),
        })
    }
}

#[derive(Deserialize)]
struct ConfigMapJson {
    metadata: Metadata,
    data: Option<BTreeMap<String, String>>,
}

impl ConfigMapJson {
    fn read(mut self) -> Result<ConfigMap, DecodeError> {
        let (name, version) = self.metadata.take_name()?;
        Ok(ConfigMap { name, version, data: self.data.unwrap_or_default() })
    }
}

/// A list of bounded length, in as much memory as it needs.
fn list<T, U>(
    field: &'static str,
    items: Option<Vec<T>>,
    read: impl Fn(T) -> Result<U, DecodeError>,
) -> Result<Vec<U>, DecodeError> {
    let items = items.unwrap_or_default();
    if items.len() > MAX_LIST {
        return Err(too_long(field));
    }
    let mut list: Vec<U> = items.into_iter().map(read).collect::<Result<_, _>>()?;
    list.shrink_to_fit();
    Ok(list)
}

fn too_long(field: &'static str) -> DecodeError {
    wrong(field, format!("more than {MAX_LIST}"))
}

type Kept = BTreeMap<String, String>;

fn annotations<'a, D: Deserializer<'a>>(from: D) -> Result<Kept, D::Error> {
    from.deserialize_any(Keeping(|key| ANNOTATIONS.iter().any(|it| key.starts_with(it))))
}

fn labels<'a, D: Deserializer<'a>>(from: D) -> Result<Kept, D::Error> {
    from.deserialize_any(Keeping(|key| LABELS.contains(&key)))
}

/// Takes out of a map what it is asked to keep.
struct Keeping(fn(&str) -> bool);

impl<'a> Visitor<'a> for Keeping {
    type Value = Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts by key")
    }

    fn visit_unit<E>(self) -> Result<Kept, E> {
        Ok(Kept::new())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Kept, A::Error> {
        let mut kept = Kept::new();
        while let Some(key) = map.next_key::<String>()? {
            if !(self.0)(&key) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: String = map.next_value()?;
            if value.len() > MAX_VALUE {
                return Err(A::Error::custom(format_args!("{key}: more than {MAX_VALUE} bytes")));
            }
            kept.insert(key, value);
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
