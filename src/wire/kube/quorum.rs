//! What a quorum keeps at the API server: which one the cluster has, and that a Lease is only
//! the record of its election. And the nodes that its members may be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{DecodeError, entries, parse, section, text, wrong};
use crate::model::{ControlPlaneNode, Foundation, Named, NodeName, ObjectName};

/// Where it stands which quorum the cluster has.
pub const FOUNDATION: &str = "edgevip.io/cluster";
/// Where a quorum signs its record, as an author does.
pub const QUORUM: &str = "edgevip.io/quorum";

/// The JSON of a Lease that was read as `object`, with this beside its record.
pub fn founded_lease(object: &str, foundation: &Foundation) -> Result<String, DecodeError> {
    let mut object = parse(object.as_bytes())?;
    let annotations = section(section(entries(&mut object), "metadata"), "annotations");
    annotations.insert(FOUNDATION.into(), written(foundation).into());
    Ok(object.to_string())
}

/// The JSON of a Lease to be created, that nobody holds.
pub fn new_founded_lease(
    name: &ObjectName,
    annotations: Option<&BTreeMap<String, String>>,
    foundation: &Foundation,
) -> String {
    let Named { namespace, name } = &**name;
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "namespace": namespace, "name": name, "annotations": annotations },
        "spec": {},
    });
    founded_lease(&object.to_string(), foundation).unwrap_or_default()
}

/// The nodes of a `NodeList`, the oldest first.
pub fn control_plane(bytes: &[u8]) -> Result<Vec<ControlPlaneNode>, DecodeError> {
    let nodes: Nodes =
        serde_json::from_slice(bytes).map_err(|error| wrong("/items", error.to_string()))?;
    if nodes.kind != "NodeList" {
        return Err(wrong("/kind", "not a list of nodes"));
    }
    if nodes.metadata.and_then(|it| it.more).is_some_and(|it| !it.is_empty()) {
        return Err(wrong("/metadata/continue", "more nodes than a quorum can have members"));
    }
    // Go writes an empty list as null.
    let mut found: Vec<_> = nodes.items.unwrap_or_default();
    found.sort_by(|one, other| {
        let age = |it: &Node| (it.metadata.created.clone(), it.metadata.name.clone());
        age(one).cmp(&age(other))
    });
    Ok(found.into_iter().map(Node::read).collect())
}

#[derive(Deserialize)]
struct Nodes {
    kind: String,
    metadata: Option<ListMetadata>,
    items: Option<Vec<Node>>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(rename = "continue")]
    more: Option<String>,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(rename = "creationTimestamp")]
    created: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    addresses: Option<Vec<Address>>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl Node {
    fn read(self) -> ControlPlaneNode {
        let addresses = self.status.and_then(|it| it.addresses).unwrap_or_default();
        let inside = addresses.iter().filter(|it| it.kind == "InternalIP");
        let inside = inside.filter_map(|it| it.address.parse().ok());
        let usable = |it: &IpAddr| !it.is_unspecified() && !it.is_multicast();
        ControlPlaneNode {
            name: NodeName(self.metadata.name.to_lowercase().into()),
            addresses: inside.filter(usable).take(MOST_ADDRESSES).collect(),
        }
    }
}

const MOST_ADDRESSES: usize = 8;

/// Signs the record of a quorum's election; a signature of another record is taken away.
pub(super) fn sign(annotations: &mut Map<String, Value>, quorum: Option<u64>, renewed: &str) {
    match quorum {
        Some(it) => drop(annotations.insert(QUORUM.into(), format!("{it:016x}/{renewed}").into())),
        None => drop(annotations.remove(QUORUM)),
    }
}

/// Which quorum signed the record, unless it was written again by somebody else.
pub(super) fn signed(object: &Value) -> Result<Option<u64>, DecodeError> {
    let signature = text(object, "/metadata/annotations/edgevip.io~1quorum")?;
    let renewed = text(object, "/spec/renewTime")?;
    Ok(signature.and_then(|it| {
        let (quorum, signed) = it.split_once('/')?;
        (renewed == Some(signed)).then_some(())?;
        u64::from_str_radix(quorum, 16).ok()
    }))
}

pub(super) fn foundation(object: &Value) -> Result<Option<Foundation>, DecodeError> {
    let words = text(object, "/metadata/annotations/edgevip.io~1cluster")?;
    Ok(words.filter(|it| !it.is_empty()).map(|it| understood(it).unwrap_or_else(|| strange(it))))
}

fn understood(words: &str) -> Option<Foundation> {
    let mut parts = words.splitn(4, '/');
    let mut hex = || u64::from_str_radix(parts.next()?, 16).ok();
    let (quorum, machine) = (hex()?, hex()?);
    let done = match parts.next()? {
        "claimed" => false,
        "founded" => true,
        _ => return None,
    };
    let founder = parts.next().filter(|it| !it.is_empty())?;
    Some(Foundation { quorum, founder: NodeName(founder.into()), machine, done })
}

/// What another version may have written of a quorum that is there.
fn strange(words: &str) -> Foundation {
    Foundation {
        quorum: 0,
        founder: NodeName(super::one_line(words).into()),
        machine: 0,
        done: true,
    }
}

fn written(it: &Foundation) -> String {
    let Foundation { quorum, founder, machine, done } = it;
    let stage = if *done { "founded" } else { "claimed" };
    format!("{quorum:016x}/{machine:016x}/{stage}/{founder}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kube::lease;

    const LEASE: &str = r#"{"kind":"Lease","metadata":{"resourceVersion":"7","labels":{"a":"b"}},
        "spec":{"holderIdentity":"n1","renewTime":"t"}}"#;

    #[test]
    fn a_foundation_stands_beside_the_record_and_reads_back() {
        let founder = NodeName("n1.example".into());
        let mut foundation = Foundation { quorum: 0xab, founder, machine: 7, done: false };
        for done in [false, true] {
            foundation.done = done;
            let written = founded_lease(LEASE, &foundation).unwrap();
            let read = lease(written.as_bytes()).unwrap();
            assert_eq!(read.foundation.as_ref(), Some(&foundation));
            assert_eq!(read.record, lease(LEASE.as_bytes()).unwrap().record);
            assert!(written.contains(r#""labels":{"a":"b"}"#), "{written}");
        }
        let name = ObjectName::new("kube-system", "lock");
        let fresh = new_founded_lease(&name, None, &foundation);
        let value = parse(fresh.as_bytes()).unwrap();
        assert_eq!(value["metadata"]["annotations"][FOUNDATION], written(&foundation));
        assert_eq!(value["spec"], json!({}));
    }

    #[test]
    fn a_foundation_that_is_not_understood_is_no_missing_one() {
        let read = |it: &str| {
            let with = format!(r#""annotations":{{"edgevip.io/cluster":"{it}"}},"labels""#);
            lease(LEASE.replacen(r#""labels""#, &with, 1).as_bytes()).unwrap().foundation
        };
        assert_eq!(read(""), None);
        for text in ["x", "ab/7/founded", "ab/7/founded/", "ab/7/planned/n1", "ab/y/founded/n1"] {
            let found = read(text).unwrap();
            assert_eq!((found.quorum, &*found.founder.0, found.done), (0, text, true));
        }
    }

    #[test]
    fn a_quorum_signs_only_what_it_wrote() {
        let read = |signature: &str| {
            let with = format!(r#""annotations":{{"edgevip.io/quorum":"{signature}"}},"labels""#);
            let lease = lease(LEASE.replacen(r#""labels""#, &with, 1).as_bytes()).unwrap();
            lease.record.quorum
        };
        assert_eq!(read("ab/t"), Some(0xab));
        for other in ["ab/u", "ab", "xy/t", "/t"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn the_nodes_are_read_the_oldest_first() {
        let node = |name: &str, created: &str, addresses: &str| {
            format!(
                r#"{{"metadata":{{"name":"{name}","creationTimestamp":"{created}"}},
                "status":{{"addresses":{addresses}}}}}"#
            )
        };
        let inside = r#"[{"type":"Hostname","address":"x"},{"type":"InternalIP","address":"fd00::1"},
            {"type":"ExternalIP","address":"192.0.2.1"},{"type":"InternalIP","address":"10.0.0.1"}]"#;
        let items = [
            node("b", "2026-01-02T00:00:00Z", "null"),
            node("c", "2026-01-01T00:00:00Z", inside),
            node("a", "2026-01-02T00:00:00Z", r#"[{"type":"InternalIP","address":"0.0.0.0"}]"#),
        ];
        let list = format!(r#"{{"kind":"NodeList","items":[{}]}}"#, items.join(","));
        let found = control_plane(list.as_bytes()).unwrap();
        let names: Vec<_> = found.iter().map(|it| &*it.name.0).collect();
        assert_eq!(names, ["c", "a", "b"]);
        let inside: [IpAddr; 2] = ["fd00::1", "10.0.0.1"].map(|it| it.parse().unwrap());
        assert_eq!(found[0].addresses, inside);
        assert!(found[1].addresses.is_empty() && found[2].addresses.is_empty());
        assert_eq!(control_plane(br#"{"kind":"NodeList","items":null}"#), Ok(Vec::new()));
        for bad in [
            r#"{"kind":"Status","items":[]}"#,
            r#"{"kind":"NodeList","metadata":{"continue":"x"},"items":[]}"#,
            r#"{"kind":"NodeList","items":[{}]}"#,
        ] {
            assert!(control_plane(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
