//! What the API server must allow, for what.

use super::{API_PATIENCE, Findings};
use crate::config::Config;
use crate::io::kube::{self, Permission};
use crate::model::{ApiAccess, ApiFault};

/// One of these verbs is allowed, or something goes wrong.
struct Right<'a> {
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
    /// Empty: in all.
    namespace: &'a str,
    /// Nothing works without it.
    needed: bool,
    without: &'static str,
}

const COORDINATION: &str = "coordination.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";
/// To patch takes one request; the peer's role allows only to update, which takes two.
const WRITE: &[&str] = &["patch", "update"];
/// To hold a Lease and to see who does.
const ELECT: &[&[&str]] = &[&["get"], &["create"], &["update"], &["watch"], &["list"]];
/// To write one.
const TELL: &[&[&str]] = &[&["get"], &["create"], &["update"]];
const NO_SERVICES: &str = "Services are not served";

/// What the API server is for, as far as the control plane goes.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Use {
    /// It elects.
    Lease,
    /// It says who the members are.
    Nodes,
    /// It is told.
    Record,
}

impl Findings {
    pub(super) fn look_at_rights(&mut self, config: &Config, access: &ApiAccess) {
        let namespace = config.lease.namespace.as_str();
        let wanted = rights(use_of(config), config.label_node, namespace);
        if self.has_rights(access, &wanted) {
            self.good.push(format!("RBAC: leases in {namespace} may be used"));
        }
        if let Some(it) = &config.services {
            let mut wanted = match config.raft {
                None => leases(ELECT, &it.lease.0, true, NO_SERVICES),
                Some(_) => Vec::new(),
            };
            wanted.extend(services(it.namespace.as_deref().unwrap_or_default()));
            if self.has_rights(access, &wanted) {
                self.good.push("RBAC: Services may be followed and written".to_owned());
            }
        }
    }

    /// Whether all that is needed is granted.
    fn has_rights(&mut self, access: &ApiAccess, wanted: &[Right<'_>]) -> bool {
        let mut all = true;
        for right in wanted {
            let said = match right.is_granted(access) {
                Ok(true) => continue,
                Ok(false) => format!(
                    "RBAC: may not {} {} in namespace {:?}: {}; grant it to the user of {}",
                    right.verbs.join(" or "),
                    right.resource,
                    right.namespace,
                    right.without,
                    access.source
                ),
                Err(fault) => {
                    let said = format!("RBAC: cannot be asked about: {}", fault.why);
                    self.say(right.needed, said);
                    return false;
                }
            };
            all &= !right.needed && right.group != COORDINATION;
            self.say(right.needed, said);
        }
        all
    }

    fn say(&mut self, is_fault: bool, said: String) {
        if is_fault { self.faults.push(said) } else { self.warnings.push(said) }
    }
}

impl Right<'_> {
    fn is_granted(&self, access: &ApiAccess) -> Result<bool, ApiFault> {
        let Self { verbs, group, resource, namespace, .. } = *self;
        for verb in verbs {
            let permission = Permission { verb, group, resource, namespace, name: "" };
            if kube::may(access, permission, API_PATIENCE)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn use_of(config: &Config) -> Use {
    match &config.raft {
        None => Use::Lease,
        Some(it) if it.from_nodes => Use::Nodes,
        Some(_) => Use::Record,
    }
}

fn rights(what: Use, labels: bool, namespace: &str) -> Vec<Right<'_>> {
    let mut rights = match what {
        Use::Lease => leases(ELECT, namespace, true, "there is no election"),
        Use::Nodes => leases(TELL, namespace, true, "no quorum can be founded"),
        Use::Record => leases(TELL, namespace, false, "the Lease does not say who holds"),
    };
    let mut other = |verbs, resource, namespace, needed, without| {
        rights.push(Right { verbs, group: "", resource, namespace, needed, without });
    };
    match what {
        Use::Nodes => other(&["list"], "nodes", "", true, "it is not known who the members are"),
        Use::Lease | Use::Record => {
            other(&["list"], "nodes", "", false, "the number of candidates is not known");
        }
    }
    if labels {
        other(&["patch"], "nodes", "", true, "the node is not labelled");
    }
    other(&["create"], "events", namespace, false, "there are no Events of who leads");
    rights
}

fn leases<'a>(
    verbs: &'static [&'static [&'static str]],
    namespace: &'a str,
    needed: bool,
    without: &'static str,
) -> Vec<Right<'a>> {
    let right = |verbs: &&'static [&'static str]| Right {
        verbs,
        group: COORDINATION,
        resource: "leases",
        namespace,
        needed,
        without,
    };
    verbs.iter().map(right).collect()
}

fn services(namespace: &str) -> Vec<Right<'_>> {
    let followed =
        [("", "services", namespace), (DISCOVERY, "endpointslices", namespace), ("", "nodes", "")];
    let right = |verbs, (group, resource, namespace), needed, without| Right {
        verbs,
        group,
        resource,
        namespace,
        needed,
        without,
    };
    let mut rights = Vec::new();
    for verbs in [&["list"], &["watch"]] {
        rights.extend(followed.map(|it| right(verbs, it, true, NO_SERVICES)));
    }
    for resource in ["services", "services/status"] {
        rights.push(right(WRITE, ("", resource, namespace), true, NO_SERVICES));
    }
    let without = "`kubectl describe` will not say what becomes of a Service";
    rights.push(right(&["create"], ("", "events", namespace), false, without));
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_asks_for_what_it_does() {
        let table = [
            (
                Use::Lease,
                false,
                "get leases! create leases! update leases! watch leases! list leases! list nodes \
                 create events",
            ),
            (
                Use::Record,
                true,
                "get leases create leases update leases list nodes patch nodes! create events",
            ),
            (
                Use::Nodes,
                false,
                "get leases! create leases! update leases! list nodes! create events",
            ),
        ];
        for (what, labels, expected) in table {
            let rights = rights(what, labels, "kube-system");
            let words = rights.iter().map(|it| {
                let needed = if it.needed { "!" } else { "" };
                format!("{} {}{needed}", it.verbs.join(" or "), it.resource)
            });
            assert_eq!(words.collect::<Vec<_>>().join(" "), expected);
        }
    }
}
