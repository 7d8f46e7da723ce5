//! How a Service comes to say what is leased for it. What is said is compared with what is so;
//! what somebody else writes over is put right, and each time later than the time before.

use crate::engine::Cx;
use crate::engine::services::Services;
use crate::model::{IpFamily, ObjectCall, ObjectName, ServicePatch};
use crate::wire::lease::{self, LEASE};

/// The peer's annotations, which it writes as well.
const REQUESTED: &str = "kube-vip.io/requestedIP";
const HARDWARE: &str = "kube-vip.io/hwaddr";

impl Services {
    /// Has the Service say what is leased for it.
    pub(super) fn write_leases(&mut self, cx: &mut Cx<'_>, name: &ObjectName) {
        let held = self.leasing.held.get(&(name.clone(), IpFamily::V4));
        let (Some(known), Some(it)) = (self.services.get(name), held) else {
            return;
        };
        let service = &known.service;
        let lease = it.machine.lease();
        let wanted = lease.map(lease::encode);
        let Some(write) = self.leasing.writes.get_mut(name) else {
            return;
        };
        if !self.config.writes || service.annotations.get(LEASE) == wanted.as_ref() {
            (write.again_at, write.awaits) = (None, None);
            return;
        }
        if write.last.as_ref() != Some(&wanted) {
            write.backoff.reset();
            write.again_at = None;
        }
        if write.awaits.take_if(|it| it.is_met(&service.version)).is_some() {
            // It is written over, or was written between.
            write.again_at = Some(cx.now + write.backoff.wait(cx.rng));
        }
        if write.under_way || write.again_at.is_some_and(|it| cx.now < it) {
            return;
        }
        let mut patch = ServicePatch::default();
        patch.annotations.insert(LEASE.to_owned(), wanted.clone());
        if let (Some(lease), Some(rules)) = (lease, &self.leasing.config) {
            let other = service.annotations.get(REQUESTED).into_iter().flat_map(|it| it.split(','));
            let other = other.map(str::trim).filter(|it| it.contains(':')).map(str::to_owned);
            let all: Vec<_> = [lease.address.to_string()].into_iter().chain(other).collect();
            let mut say = |key: &str, value: String| {
                if service.annotations.get(key) != Some(&value) {
                    patch.annotations.insert(key.to_owned(), Some(value));
                }
            };
            say(REQUESTED, all.join(","));
            if rules.own_mac {
                say(HARDWARE, lease.mac.to_string());
            }
        }
        let version = service.version.clone();
        write.last = Some(wanted);
        (write.under_way, write.awaits, write.again_at) = (true, None, None);
        write.from = version.clone();
        let call = ObjectCall::PatchService { name: name.clone(), version, patch };
        let request = cx.ask(call);
        self.leasing.writing.insert(request, name.clone());
    }
}
