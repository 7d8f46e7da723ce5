//! Services as an operator wants to see them.

use super::wants::Verdict;
use super::{Known, Services};
use crate::model::{Instant, ObjectName, ServiceStatus, Vip};

impl Services {
    /// What an operator is told of each of them.
    pub fn status(&self, now: Instant) -> Vec<ServiceStatus> {
        let one = |(name, it): (&ObjectName, &Known)| {
            let refusal = self.refusal(it);
            ServiceStatus {
                name: name.to_string(),
                addresses: it.has().map(Vip).collect(),
                holder: None,
                code: refusal.as_ref().map(|it| it.code().to_owned()),
                why: refusal.map(|it| it.to_string()),
                mappings: self.mapping_status(now, it),
                leases: self.leasing.status(now, name),
            }
        };
        self.ours().map(one).collect()
    }

    fn ours(&self) -> impl Iterator<Item = (&ObjectName, &Known)> {
        let all = self.services.iter().map(|(name, it)| (name, it.as_ref()));
        all.filter(|it| it.1.verdict != Verdict::Others)
    }

    /// One of ours that k3s's own load balancer serves too.
    pub fn of_service_lb(&self) -> Option<&ObjectName> {
        self.ours().filter(|it| it.1.of_service_lb).map(|it| it.0).next()
    }
}
