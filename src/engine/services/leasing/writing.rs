//! How a Service comes to say what is leased for it. What is said is compared with what is so;
//! what somebody else writes over is put right, and each time later than the time before.

use super::{DhcpMac, FAMILIES, Write, written};
use crate::engine::Cx;
use crate::engine::services::Services;
use crate::engine::services::wants::{Verdict, Wants};
use crate::model::{Ingress, IpFamily, ObjectCall, ObjectName, ServicePatch};
use crate::wire::lease::{self, LEASE};

/// The peer's annotations, which it writes as well.
const REQUESTED: &str = "kube-vip.io/requestedIP";
const HARDWARE: &str = "kube-vip.io/hwaddr";

impl Services {
    /// Has the Service say what is leased for it, as far as this node knows better.
    pub(super) fn write_leases(&mut self, cx: &mut Cx<'_>, name: &ObjectName) {
        let Some(known) = self.services.get(name) else {
            self.leasing.writes.remove(name);
            return;
        };
        let service = &known.service();
        let families: &[IpFamily] = match &known.verdict {
            Verdict::Wanted(Wants { lease: Some(it), .. }) => &it.families,
            Verdict::Wanted(Wants { lease: None, .. }) | Verdict::Addressless => &[],
            Verdict::Others | Verdict::Refused(_) => {
                self.leasing.writes.remove(name);
                return;
            }
        };
        // Another node may hold the other one; and what is held may be of another by this name.
        let mut leases = written(service);
        for (_, it) in self.leasing.held_for(name).filter(|it| it.1.uid == service.uid) {
            it.machine.put(&mut leases);
        }
        leases.v4.take_if(|_| !families.contains(&IpFamily::V4));
        leases.v6.take_if(|_| !families.contains(&IpFamily::V6));
        let wanted = lease::encode(&leases);
        if !self.config.writes || service.annotations.get(LEASE) == wanted.as_ref() {
            let held = self.leasing.held_for(name).next().is_some();
            match self.leasing.writes.get_mut(name).filter(|_| held) {
                Some(it) => (it.again_at, it.awaits) = (None, None),
                None => _ = self.leasing.writes.remove(name),
            }
            return;
        }
        let begin = || Write::begin(service.version.clone());
        let write = self.leasing.writes.entry(name.clone()).or_insert_with(begin);
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
        if let (Some(_), Some(rules)) = (&wanted, &self.leasing.config) {
            let before =
                service.annotations.get(REQUESTED).into_iter().flat_map(|it| it.split(','));
            let before: Vec<_> = before.map(str::trim).filter(|it| !it.is_empty()).collect();
            let requested = |of: IpFamily| {
                let other = before.iter().find(|it| it.contains(':') == (of == IpFamily::V6));
                leases.address(of).map(|it| it.to_string()).or(other.map(|it| (*it).to_owned()))
            };
            let all: Vec<_> = FAMILIES.into_iter().filter_map(requested).collect();
            let mut say = |key: &str, value: String| {
                if service.annotations.get(key) != Some(&value) {
                    patch.annotations.insert(key.to_owned(), Some(value));
                }
            };
            say(REQUESTED, all.join(","));
            if let Some(it) = leases.v4.as_ref().filter(|_| rules.mac != DhcpMac::Link) {
                say(HARDWARE, it.mac.to_string());
            }
        }
        let version = service.version.clone();
        // A status that names an address counts as asking for it: first it names it no more.
        let told = written(service);
        let lost = |it: &Ingress| {
            it.ip.is_some_and(|ip| {
                let family = IpFamily::of(ip);
                told.address(family) == Some(ip) && leases.address(family) != Some(ip)
            })
        };
        let stands = service.ingress.iter().any(&lost);
        write.last = Some(wanted);
        (write.under_way, write.awaits, write.again_at) = (true, None, None);
        write.from = version.clone();
        let call = match stands {
            true => {
                let ingress = service.ingress.iter().filter(|it| !lost(it)).cloned().collect();
                ObjectCall::WriteIngress { name: name.clone(), version, ingress }
            }
            false => ObjectCall::PatchService { name: name.clone(), version, patch },
        };
        let request = cx.ask(call);
        self.leasing.writing.insert(request, name.clone());
    }
}
