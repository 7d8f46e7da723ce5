//! What is written: merge patches (RFC 7396) that name the version they are made from, so that
//! a stale one is a conflict, and Events.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{DecodeError, entries, parse};
use crate::model::{Ingress, NodeName, ObjectName, ResourceVersion, ServicePatch, ServicePort};

/// The merge patch that sets and removes labels.
pub fn label_patch(labels: &BTreeMap<String, Option<String>>) -> String {
    json!({ "metadata": { "labels": labels } }).to_string()
}

/// The merge patch of a Service of this version.
pub fn service_patch(version: &ResourceVersion, patch: &ServicePatch) -> String {
    let ServicePatch { annotations, labels, load_balancer_ip, finalizers } = patch;
    let mut metadata = json!({ "resourceVersion": version });
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    if !labels.is_empty() {
        metadata["labels"] = json!(labels);
    }
    if let Some(finalizers) = finalizers {
        metadata["finalizers"] = json!(finalizers);
    }
    let mut whole = json!({ "metadata": metadata });
    if let Some(ip) = load_balancer_ip {
        whole["spec"] = json!({ "loadBalancerIP": ip });
    }
    whole.to_string()
}

/// The merge patch of the status of a Service of this version.
pub fn ingress_patch(version: &ResourceVersion, ingress: &[Ingress]) -> String {
    let ingress: Vec<_> = ingress.iter().map(ingress_json).collect();
    json!({
        "metadata": { "resourceVersion": version },
        "status": { "loadBalancer": { "ingress": ingress } },
    })
    .to_string()
}

/// The JSON of an object with a patch done to it, for who may replace but not patch; `None`: it
/// is of another version than the patch.
pub fn merged(object: &[u8], patch: &str) -> Result<Option<String>, DecodeError> {
    const VERSION: &str = "/metadata/resourceVersion";
    let (mut object, patch) = (parse(object)?, parse(patch.as_bytes())?);
    if object.pointer(VERSION) != patch.pointer(VERSION) {
        return Ok(None);
    }
    merge(&mut object, patch);
    Ok(Some(object.to_string()))
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    let target = entries(target);
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(&key)),
            value => merge(target.entry(key).or_insert(Value::Null), value),
        }
    }
}

fn ingress_json(it: &Ingress) -> Value {
    let mut json = Map::new();
    if let Some(ip) = it.ip {
        json.insert("ip".into(), ip.to_string().into());
    }
    if let Some(name) = &it.hostname {
        json.insert("hostname".into(), name.as_str().into());
    }
    if let Some(mode) = &it.ip_mode {
        json.insert("ipMode".into(), mode.as_str().into());
    }
    if !it.ports.is_empty() {
        let port = |it: &ServicePort| json!({ "port": it.port, "protocol": it.protocol.name() });
        json.insert("ports".into(), it.ports.iter().map(port).collect());
    }
    json.into()
}

/// What an Event says.
pub struct EventWords<'a> {
    /// Unique among the Events of the namespace.
    pub name: &'a str,
    /// What it is about.
    pub about: About<'a>,
    /// Who tells.
    pub node: &'a NodeName,
    /// `Warning` instead of `Normal`.
    pub warning: bool,
    /// One word.
    pub reason: &'a str,
    /// A sentence.
    pub message: &'a str,
    /// When, as Kubernetes writes it.
    pub time: &'a str,
}

/// The object that an Event is about.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// A Lease.
    Lease(&'a ObjectName),
    /// A Service, and its uid.
    Service(&'a ObjectName, &'a str),
}

/// The JSON of an Event.
pub fn event(words: &EventWords<'_>) -> String {
    let (version, kind, object, uid) = match words.about {
        About::Lease(lease) => ("coordination.k8s.io/v1", "Lease", lease, None),
        About::Service(service, uid) => ("v1", "Service", service, Some(uid)),
    };
    let mut involved = json!({
        "apiVersion": version,
        "kind": kind,
        "namespace": object.namespace,
        "name": object.name,
    });
    if let Some(uid) = uid {
        involved["uid"] = uid.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "namespace": object.namespace, "name": words.name },
        "involvedObject": involved,
        "reason": words.reason,
        "message": words.message.chars().take(EVENT_MESSAGE_CHARS).collect::<String>(),
        "type": if words.warning { "Warning" } else { "Normal" },
        "count": 1,
        "firstTimestamp": words.time,
        "lastTimestamp": words.time,
        "source": { "component": "edgevip", "host": words.node },
        "reportingComponent": "edgevip",
        "reportingInstance": words.node,
    })
    .to_string()
}

const EVENT_MESSAGE_CHARS: usize = 1_000;
