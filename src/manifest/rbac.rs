//! The account that a Pod has, and its roles: what the features need and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Grant, Names};
use crate::config::Fault;
use crate::config::rights::Right;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The account, its roles and what binds them, in the order to create them in.
pub(super) fn documents(
    rights: &[Right],
    names: &Names,
    namespace: &str,
    grant: Grant,
) -> Result<Vec<Value>, Fault> {
    let mut places = by_place(rights);
    let anywhere = places.remove("");
    if let Some(rules) = anywhere.as_ref().filter(|_| grant != Grant::Smallest)
        && rules.keys().any(|it| it.1 != "nodes")
    {
        let right = "Services of all namespaces are granted by a ClusterRole and its \
                     ClusterRoleBinding only; give svc_namespace, or leave this out";
        let switch = if grant == Grant::Role { "--role" } else { "--rolebinding" };
        return Err(Fault::bare(switch, right));
    }
    let subject =
        json!([{ "kind": "ServiceAccount", "name": names.account, "namespace": namespace }]);
    let mut all = vec![json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": names.account, "namespace": namespace },
    })];
    let one = |kind: &str, metadata: Value, rest: (&str, Value)| {
        let mut it = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata,
        });
        it[rest.0] = rest.1;
        it
    };
    let role = |kind: &str, metadata: Value, rules: &Rules| {
        one(kind, metadata, ("rules", Value::Array(written(rules))))
    };
    let binding = |kind: &str, metadata: Value, to: (&str, &str)| {
        let reference = json!({ "apiGroup": GROUP, "kind": to.0, "name": to.1 });
        let mut it = one(kind, metadata, ("roleRef", reference));
        it["subjects"] = subject.clone();
        it
    };
    if let Some(rules) = &anywhere {
        all.push(role("ClusterRole", json!({ "name": names.cluster_role }), rules));
        let metadata = json!({ "name": names.cluster_binding });
        all.push(binding("ClusterRoleBinding", metadata, ("ClusterRole", &names.cluster_role)));
    }
    for (place, rules) in &places {
        let metadata = json!({ "name": names.role, "namespace": place });
        let kind = match grant {
            Grant::Smallest | Grant::Role => {
                all.push(role("Role", metadata.clone(), rules));
                ("Role", names.role.clone())
            }
            // One for each namespace: a binding says where, and not which object of which.
            Grant::RoleBinding => {
                let name = format!("{}-{place}", names.cluster_role);
                all.push(role("ClusterRole", json!({ "name": name }), rules));
                ("ClusterRole", name)
            }
        };
        all.push(binding("RoleBinding", metadata, (kind.0, &kind.1)));
    }
    Ok(all)
}

/// Of group, resource and object's name, the verbs.
type Rules = BTreeMap<(&'static str, &'static str, String), BTreeSet<&'static str>>;

/// What is granted where; everywhere is nowhere in particular.
fn by_place(rights: &[Right]) -> BTreeMap<String, Rules> {
    let mut places: BTreeMap<String, Rules> = BTreeMap::new();
    for it in rights {
        let Some(verb) = it.verbs.first() else { continue };
        let same = |other: &Right| {
            (other.group, other.resource, other.verbs) == (it.group, it.resource, it.verbs)
        };
        let covers = |other: &Right| other.namespace.is_empty() && other.name.is_empty();
        if !it.namespace.is_empty() && rights.iter().any(|it| same(it) && covers(it)) {
            continue;
        }
        let rules = places.entry(it.namespace.clone()).or_default();
        rules.entry((it.group, it.resource, it.name.clone())).or_default().insert(*verb);
    }
    places
}

/// Resources of one group with the same verbs are one rule.
fn written(rules: &Rules) -> Vec<Value> {
    let mut merged: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for ((group, resource, name), verbs) in rules {
        merged.entry((group, name, verbs)).or_default().push(resource);
    }
    let rule = |((group, name, verbs), resources): ((_, &String, &BTreeSet<_>), Vec<&str>)| {
        let mut it = json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
        if !name.is_empty() {
            it["resourceNames"] = json!([name]);
        }
        it
    };
    merged.into_iter().map(rule).collect()
}
