//! The JSON of the API server: only what is read or written.

pub mod certificate;
mod list;
mod objects;
mod quorum;
mod writes;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

pub use list::{ListEnd, ListReader};
pub use objects::version as object_version;
pub use objects::{
    MAX_OBJECT, SERVICE_NAME, config_map, endpoint_slice, listed, node, service, watched,
};
pub use writes::{About, EventWords, event, ingress_patch, label_patch, merged, service_patch};

use crate::model::{
    ApiFault, ApiFaultKind, Author, Lease, LeaseOwner, LeaseRecord, Named, NodeName, ObjectName,
    ResourceVersion, Service, WatchEvent,
};

pub use quorum::{control_plane, founded_lease, new_founded_lease};

/// Where the author of a Lease signs.
pub const AUTHOR: &str = "edgevip.io/author";

/// Why bytes are not what they should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DecodeError {
    /// The field, as a JSON pointer; empty: the whole.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            "" => f.write_str(&self.why),
            field => write!(f, "{field}: {}", self.why),
        }
    }
}

/// Reads a Lease.
pub fn lease(bytes: &[u8]) -> Result<Lease, DecodeError> {
    read_lease(parse(bytes)?)
}

/// Reads a line of a watch on a Lease; `None`: it says nothing that matters.
pub fn watch_line(bytes: &[u8]) -> Result<Option<WatchEvent>, DecodeError> {
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut line = parse(bytes)?;
    let object = line.get_mut("object").map(Value::take).unwrap_or_default();
    Ok(match text(&line, "/type")? {
        Some("ADDED" | "MODIFIED") => Some(WatchEvent::Lease(Box::new(read_lease(object)?))),
        Some("DELETED") => Some(WatchEvent::Deleted),
        Some("BOOKMARK") => Some(WatchEvent::Bookmark(version(&object)?)),
        Some("ERROR") => Some(match failure(&object)? {
            Failure::Ended(fault) => WatchEvent::Ended(fault),
            Failure::Expired => WatchEvent::Expired,
        }),
        Some(_) => None,
        None => return Err(wrong("/type", "missing")),
    })
}

/// What a write puts into the spec of a Lease.
pub struct LeaseSpec<'a> {
    /// `None`: nobody.
    pub holder: Option<&'a NodeName>,
    /// Rounded up to whole seconds.
    pub duration: Duration,
    /// How often the holder has changed.
    pub transitions: u32,
    /// `acquireTime` to keep; `None`: the same as `renewed`.
    pub acquired: Option<&'a str>,
    /// `renewTime`.
    pub renewed: &'a str,
    /// Who writes.
    pub author: Author,
    /// Whose election this is the record of, where the Lease itself elects nobody.
    pub quorum: Option<u64>,
}

/// The JSON of a Lease to be created. What is deleted takes along what it owns.
pub fn new_lease(
    name: &ObjectName,
    annotations: Option<&BTreeMap<String, String>>,
    owner: Option<&LeaseOwner>,
    spec: &LeaseSpec<'_>,
) -> String {
    let Named { namespace, name } = &**name;
    let mut object = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "namespace": namespace, "name": name, "annotations": annotations },
    });
    if let Some(LeaseOwner { name, uid }) = owner {
        let owner = json!({ "apiVersion": "v1", "kind": "Service", "name": name, "uid": uid });
        object["metadata"]["ownerReferences"] = json!([owner]);
    }
    write_spec(&mut object, spec);
    object.to_string()
}

/// The JSON of a Lease that was read as `object`, with another spec; all else is kept.
pub fn replaced_lease(object: &str, spec: &LeaseSpec<'_>) -> Result<String, DecodeError> {
    let mut object = parse(object.as_bytes())?;
    write_spec(&mut object, spec);
    Ok(object.to_string())
}

/// How many nodes of a `PartialObjectMetadataList` may stand for election: those of the
/// control plane if any is marked so, else all.
pub fn candidates(bytes: &[u8]) -> Result<u32, DecodeError> {
    #[derive(Deserialize)]
    struct Nodes {
        kind: String,
        items: Option<Vec<Node>>,
    }
    #[derive(Deserialize)]
    struct Node {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        labels: Option<BTreeMap<String, String>>,
    }
    let Nodes { kind, items } =
        serde_json::from_slice(bytes).map_err(|error| wrong("/items", error.to_string()))?;
    if !kind.ends_with("List") {
        return Err(wrong("/kind", "not a list"));
    }
    // Go writes an empty list as null.
    let items = items.unwrap_or_default();
    let marked = items.iter().filter(|node| {
        let labels = node.metadata.labels.iter().flatten();
        labels.into_iter().any(|(key, _)| CONTROL_PLANE.contains(&key.as_str()))
    });
    Ok(match marked.count() {
        0 => items.len(),
        marked => marked,
    } as u32)
}

const CONTROL_PLANE: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// A thing one may be allowed to do.
#[derive(Clone, Copy, Debug)]
pub struct Permission<'a> {
    /// Such as `update`.
    pub verb: &'a str,
    /// The API group; empty: core.
    pub group: &'a str,
    /// Such as `leases` or `services/status`.
    pub resource: &'a str,
    /// Empty: of the whole cluster.
    pub namespace: &'a str,
    /// Empty: any.
    pub name: &'a str,
}

/// The JSON of a `SelfSubjectAccessReview`.
pub fn access_review(permission: Permission<'_>) -> String {
    let Permission { verb, group, resource, namespace, name } = permission;
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": part,
            "namespace": namespace, "name": name,
        } },
    })
    .to_string()
}

/// The first of these objects that bears a finalizer of k3s's load balancer for Services.
pub fn service_of_k3s(bytes: &[u8]) -> Result<Option<String>, DecodeError> {
    let list = parse(bytes)?;
    let items = list.pointer("/items").and_then(Value::as_array);
    let found = items.into_iter().flatten().find(|it| {
        let finalizers = it.pointer("/metadata/finalizers").and_then(Value::as_array);
        let mut finalizers = finalizers.into_iter().flatten().filter_map(Value::as_str);
        finalizers.any(Service::is_k3s_finalizer)
    });
    let of = |it: &Value, name: &str| {
        it.pointer(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Ok(found.map(|it| format!("{}/{}", of(it, "/metadata/namespace"), of(it, "/metadata/name"))))
}

/// What a `SelfSubjectAccessReview` came to.
pub fn allowed(bytes: &[u8]) -> Result<bool, DecodeError> {
    let review = parse(bytes)?;
    let allowed = review.pointer("/status/allowed").and_then(Value::as_bool);
    allowed.ok_or_else(|| wrong("/status/allowed", "not a boolean"))
}

/// The server's version, out of its answer to `/version`.
pub fn git_version(bytes: &[u8]) -> Result<String, DecodeError> {
    let version = parse(bytes)?;
    Ok(text(&version, "/gitVersion")?.ok_or_else(|| wrong("/gitVersion", "missing"))?.to_owned())
}

/// The kind of fault that an HTTP status or the code of a `Status` stands for.
pub fn fault_kind(code: u64) -> ApiFaultKind {
    match code {
        401 => ApiFaultKind::Unauthorized,
        403 => ApiFaultKind::Forbidden,
        _ => ApiFaultKind::Refused,
    }
}

/// What the body of a refusal says, in one line that can be logged.
pub fn refusal_text(body: &[u8]) -> String {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    match status.get("message").and_then(Value::as_str) {
        Some(message) => one_line(message),
        None => one_line(&String::from_utf8_lossy(body)),
    }
}

/// A text as one line of bounded length.
pub fn one_line(text: &str) -> String {
    text.trim().chars().take(300).map(|it| if it.is_control() { ' ' } else { it }).collect()
}

fn read_lease(mut object: Value) -> Result<Lease, DecodeError> {
    if text(&object, "/kind")? != Some("Lease") {
        return Err(wrong("/kind", "not a Lease"));
    }
    for section in ["/metadata", "/metadata/annotations", "/spec"] {
        if object.pointer(section).is_some_and(|it| !it.is_object() && !it.is_null()) {
            return Err(wrong(section, "not an object"));
        }
    }
    let version = version(&object)?;
    let record = LeaseRecord {
        holder: text(&object, "/spec/holderIdentity")?
            .filter(|it| !it.is_empty())
            .map(|it| NodeName(it.into())),
        duration: Duration::from_secs(number(&object, "/spec/leaseDurationSeconds")?.into()),
        transitions: number(&object, "/spec/leaseTransitions")?,
        acquired: text(&object, "/spec/acquireTime")?.map(str::to_owned),
        renewed: text(&object, "/spec/renewTime")?.map(str::to_owned),
        author: author(&object)?,
        quorum: quorum::signed(&object)?,
    };
    let foundation = quorum::foundation(&object)?;
    // The server keeps this list by itself, and it is longer than all the rest.
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(Lease { record, version, object: object.to_string(), foundation })
}

fn version(object: &Value) -> Result<ResourceVersion, DecodeError> {
    const FIELD: &str = "/metadata/resourceVersion";
    match text(object, FIELD)? {
        Some("") | None => Err(wrong(FIELD, "missing")),
        Some(version) => Ok(ResourceVersion(version.to_owned())),
    }
}

/// Who signed, unless the spec was written again by somebody who does not sign.
fn author(object: &Value) -> Result<Option<Author>, DecodeError> {
    let signature = text(object, "/metadata/annotations/edgevip.io~1author")?;
    let renewed = text(object, "/spec/renewTime")?;
    Ok(signature.and_then(|signature| {
        let (host, rest) = signature.split_once('/')?;
        let (life, signed) = rest.split_once('/')?;
        if renewed != Some(signed) {
            return None;
        }
        let hex = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Author { host: hex(host)?, life: hex(life)? })
    }))
}

fn write_spec(object: &mut Value, words: &LeaseSpec<'_>) {
    let Author { host, life } = words.author;
    let annotations = section(section(entries(object), "metadata"), "annotations");
    annotations.insert(AUTHOR.into(), format!("{host:016x}/{life:016x}/{}", words.renewed).into());
    quorum::sign(annotations, words.quorum, words.renewed);

    let seconds = words.duration.as_secs() + u64::from(words.duration.subsec_nanos() > 0);
    let holder = words.holder.map_or("", |it| &*it.0);
    let spec = section(entries(object), "spec");
    spec.insert("holderIdentity".into(), holder.into());
    spec.insert("leaseDurationSeconds".into(), seconds.clamp(1, i32::MAX as u64).into());
    spec.insert("leaseTransitions".into(), words.transitions.into());
    spec.insert("acquireTime".into(), words.acquired.unwrap_or(words.renewed).into());
    spec.insert("renewTime".into(), words.renewed.into());
}

fn section<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    entries(parent.entry(key).or_insert(Value::Null))
}

/// The entries of an object; whatever else the value was is replaced by an empty one.
fn entries(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object above")
}

/// Why a watch is over.
enum Failure {
    Ended(ApiFault),
    Expired,
}

/// What the object of an `ERROR` says.
fn failure(status: &Value) -> Result<Failure, DecodeError> {
    let code = number(status, "/code")?;
    if code == 410 {
        return Ok(Failure::Expired);
    }
    let retry_after = status.pointer("/details/retryAfterSeconds").and_then(Value::as_u64);
    let message = text(status, "/message")?.unwrap_or_default();
    Ok(Failure::Ended(ApiFault {
        kind: fault_kind(code.into()),
        why: one_line(&format!("watch: {code} {message}")),
        retry_after: retry_after.map(Duration::from_secs),
    }))
}

fn parse(bytes: &[u8]) -> Result<Value, DecodeError> {
    serde_json::from_slice(bytes).map_err(|error| wrong("", error.to_string()))
}

fn text<'a>(value: &'a Value, field: &'static str) -> Result<Option<&'a str>, DecodeError> {
    match value.pointer(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(field, "not a string")),
    }
}

fn number(value: &Value, field: &'static str) -> Result<u32, DecodeError> {
    match value.pointer(field) {
        None | Some(Value::Null) => Ok(0),
        Some(number) => number
            .as_u64()
            .and_then(|it| u32::try_from(it).ok())
            .ok_or_else(|| wrong(field, "not a small number")),
    }
}

fn wrong(field: &'static str, why: impl Into<String>) -> DecodeError {
    DecodeError { field, why: why.into() }
}

#[cfg(test)]
mod tests;
