//! What the API server must allow.

use super::{API_PATIENCE, Findings};
use crate::config::Config;
use crate::io::kube;
use crate::model::{ApiAccess, ApiFault};

/// One of these verbs is needed.
struct Right<'a> {
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
    /// Empty: in all.
    namespace: &'a str,
}

const COORDINATION: &str = "coordination.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";
/// To patch takes one request; the peer's role allows only to update, which takes two.
const WRITE: &[&str] = &["patch", "update"];

impl Findings {
    pub(super) fn look_at_rights(&mut self, config: &Config, access: &ApiAccess) {
        let namespace = config.lease.namespace.as_str();
        let mut wanted = leases(namespace);
        if config.label_node {
            wanted.push(Right { verbs: &["patch"], group: "", resource: "nodes", namespace: "" });
        }
        if self.has_rights(access, &wanted) {
            self.good.push(format!("RBAC: leases in {namespace} may be used"));
        }
    }

    /// Services of a namespace, or of all where that is empty, and the Lease beside them.
    #[expect(dead_code, reason = "the setting that wants Services looks at this")]
    pub(super) fn look_at_rights_on_services(
        &mut self,
        access: &ApiAccess,
        lease_namespace: &str,
        namespace: &str,
    ) {
        let mut wanted = leases(lease_namespace);
        wanted.extend(services(namespace));
        if self.has_rights(access, &wanted) {
            self.good.push("RBAC: Services may be followed and written".to_owned());
        }
        let events = Right { verbs: &["create"], group: "", resource: "events", namespace };
        if let Ok(false) = events.is_granted(access) {
            self.warnings.push(format!(
                "RBAC: may not create events: `kubectl describe` will not say what becomes of a \
                 Service; grant it to the user of {}",
                access.source
            ));
        }
    }

    fn has_rights(&mut self, access: &ApiAccess, wanted: &[Right<'_>]) -> bool {
        let mut all = true;
        for right in wanted {
            match right.is_granted(access) {
                Ok(true) => {}
                Ok(false) => {
                    all = false;
                    self.faults.push(format!(
                        "RBAC: may not {} {} in namespace {:?}; grant it to the user of {}",
                        right.verbs.join(" or "),
                        right.resource,
                        right.namespace,
                        access.source
                    ));
                }
                Err(fault) => {
                    self.faults.push(format!("RBAC: cannot be asked about: {}", fault.why));
                    return false;
                }
            }
        }
        all
    }
}

impl Right<'_> {
    fn is_granted(&self, access: &ApiAccess) -> Result<bool, ApiFault> {
        let Self { verbs, group, resource, namespace } = *self;
        for verb in verbs {
            let permission = kube::Permission { verb, group, resource, namespace, name: "" };
            if kube::may(access, permission, API_PATIENCE)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn leases(namespace: &str) -> Vec<Right<'_>> {
    let verbs: [&[&str]; 5] = [&["get"], &["create"], &["update"], &["watch"], &["list"]];
    let right = |verbs| Right { verbs, group: COORDINATION, resource: "leases", namespace };
    verbs.map(right).into()
}

fn services(namespace: &str) -> Vec<Right<'_>> {
    let followed =
        [("", "services", namespace), (DISCOVERY, "endpointslices", namespace), ("", "nodes", "")];
    let mut rights = Vec::new();
    for verbs in [&["list"], &["watch"]] {
        let right = |(group, resource, namespace)| Right { verbs, group, resource, namespace };
        rights.extend(followed.map(right));
    }
    for resource in ["services", "services/status"] {
        rights.push(Right { verbs: WRITE, group: "", resource, namespace });
    }
    rights
}
