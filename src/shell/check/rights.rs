//! Whether the API server allows what is needed.

use super::{API_PATIENCE, Findings};
use crate::config::Config;
use crate::config::rights::{self, COORDINATION, Right};
use crate::io::kube::{self, Permission};
use crate::model::{ApiAccess, ApiFault};

impl Findings {
    pub(super) fn look_at_rights(&mut self, config: &Config, access: &ApiAccess) {
        let namespace = &config.lease.namespace;
        let wanted = rights::of_control_plane(config);
        if !wanted.is_empty() && self.has_rights(access, &wanted) {
            self.good.push(format!("RBAC: leases in {namespace} may be used"));
        }
        if let Some(it) = &config.services
            && self.has_rights(access, &rights::of_services(config, it))
        {
            self.good.push("RBAC: Services may be followed and written".to_owned());
        }
    }

    /// Whether all that is needed is granted.
    fn has_rights(&mut self, access: &ApiAccess, wanted: &[Right]) -> bool {
        let mut all = true;
        for right in wanted {
            let said = match is_granted(right, access) {
                Ok(true) => continue,
                Ok(false) => format!(
                    "RBAC: may not {} {} in namespace {:?}: {}; grant it to the user of {}, as \
                     `edgevip manifest rbac` would",
                    right.verbs.join(" or "),
                    what(right),
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

fn what(right: &Right) -> String {
    match right.name.as_str() {
        "" => right.resource.to_owned(),
        name => format!("{}/{name}", right.resource),
    }
}

fn is_granted(right: &Right, access: &ApiAccess) -> Result<bool, ApiFault> {
    let Right { verbs, group, resource, namespace, name, .. } = right;
    for verb in *verbs {
        let permission = Permission { verb, group, resource, namespace, name };
        if kube::may(access, permission, API_PATIENCE)? {
            return Ok(true);
        }
    }
    Ok(false)
}
