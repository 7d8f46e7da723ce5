//! Services, EndpointSlices, Nodes, Leases and ConfigMaps: the fields that are read, the rest is
//! skipped without being kept.
//!
//! Supported: `v1` Service, Node and ConfigMap, `discovery.k8s.io/v1` EndpointSlice, as
//! objects, as lists in pages, and as lines of a watch. Left out: addresses and ports of
//! endpoints, `binaryData`.

mod others;
mod service;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use others::{ConfigMapJson, NodeJson, SliceJson};
use service::ServiceJson;

use super::{DecodeError, Failure, failure, wrong};
use crate::model::{
    ClusterNode, ConfigMap, EndpointSlice, Followed, NamedLease, Object, ObjectEvent, ObjectName,
    PROVIDED, ResourceVersion, Service,
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
                Followed::Leases(_) => parse::<Body<Value>>(bytes)
                    .and_then(|it| lease(it.object).map(|it| Some(Object::Lease(it)))),
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
        "ERROR" => Some(match failure(&parse::<Body<Value>>(bytes)?.object)? {
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
        Followed::Leases(_) => Some(Object::Lease(lease(parse(bytes)?)?)),
        Followed::Nodes => Some(Object::Node(node(bytes)?)),
        Followed::Services(_) => Some(Object::Service(service(bytes)?)),
    })
}

/// Reads a Lease of a list, where its kind is left out, or of a watch.
fn lease(mut object: Value) -> Result<NamedLease, DecodeError> {
    if let Some(object) = object.as_object_mut() {
        object.entry("apiVersion").or_insert_with(|| "coordination.k8s.io/v1".into());
        object.entry("kind").or_insert_with(|| "Lease".into());
    }
    let lease = super::read_lease(object)?;
    let name = name_of(lease.object.as_bytes());
    Ok(NamedLease { name, lease })
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
        ObjectName::new(namespace, name)
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
        let name = ObjectName::new(namespace, std::mem::take(name));
        Ok((name, version_of(self.resource_version.take())?))
    }
}

fn version_of(version: Option<String>) -> Result<ResourceVersion, DecodeError> {
    match version.filter(|it| !it.is_empty()) {
        Some(version) => Ok(ResourceVersion(version)),
        None => Err(wrong("/metadata/resourceVersion", "missing")),
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
    from.deserialize_any(Keeping(|key| LABELS.contains(&key) || key.starts_with(PROVIDED)))
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
