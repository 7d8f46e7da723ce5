//! What an operator is told of a node.

use std::time::Duration;

use super::Node;
use super::serving::Serving;
use crate::engine::Cx;
use crate::engine::elector::Elector;
use crate::engine::leadership::Leadership;
use crate::engine::reporter::{Truth, VipTruth};
use crate::model::{
    ApiStatus, Instant, LinkStatus, Refusal, Role, ServicesStatus, Status, Vip, VipStatus,
};

impl Node {
    /// What an operator may know.
    pub fn status(&self, now: Instant) -> Status {
        let main = self.main_leadership();
        let each = self.serving.as_ref().and_then(|it| it.each.as_deref());
        let each = each.filter(|_| self.config.vips.is_empty());
        let leads = main.elector.leads(now) || each.is_some_and(|it| it.leads_any(now));
        let stands = main.stands || each.is_some_and(|it| it.leaderships().any(|it| it.stands));
        let role = match (self.stopping_at, leads) {
            (Some(_), _) => Role::Stopping,
            (None, true) => Role::Leader,
            (None, false) if stands => Role::Follower,
            (None, false) => Role::Standby,
        };
        let lease = match &main.elector {
            Elector::Lease { lease, watch } => Some((lease, watch)),
            Elector::Quorum(_) => None,
        };
        let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        Status {
            node: self.config.me.clone(),
            lease: lease.map(|it| it.0.name().to_string()).unwrap_or_default(),
            role,
            holder: main.elector.holder().cloned(),
            until_ms: lease
                .and_then(|it| it.0.leads_until())
                .map(|it| ms(it.saturating_since(now))),
            terms: match &main.elector {
                Elector::Lease { lease, .. } => lease.terms(),
                Elector::Quorum(quorum) => quorum.terms(),
            },
            vips: self.placement.vips().map(|vip| self.vip_status(vip)).collect(),
            fences: self.config.announcer.fences.clone(),
            api: ApiStatus {
                answered_ms_ago: self
                    .control
                    .elector
                    .api_answered_at()
                    .map(|it| ms(now.saturating_since(it))),
                fault: self.control.elector.api_fault().map(|it| it.why.clone()),
                watching: lease.is_some_and(|it| it.1.is_open()),
            },
            candidates: self.reporter.candidates(),
            conflicts: self.announcer.conflicts,
            fence_rebuilds: self.announcer.fence_rebuilds,
            readded: self.announcer.readded_in_all,
            fence_late: self.announcer.fence_late,
            quorum: match &self.control.elector {
                Elector::Lease { .. } => None,
                Elector::Quorum(quorum) => Some(quorum.status(now)),
            },
            services: self.serving.as_ref().map(|it| self.services_status(now, it)),
        }
    }

    /// Tells others what differs from what they were told.
    pub(super) fn report(&mut self, cx: &mut Cx<'_>) {
        let (mut vips, mut gone) = (Vec::new(), Vec::new());
        for vip in self.attention.looked_at.iter().copied() {
            match self.placement.get(vip) {
                None => gone.push(vip),
                Some((_, refusal)) => vips.push(VipTruth {
                    vip,
                    answering: self.announcer.is_answering(vip),
                    refusal: refusal
                        .as_deref()
                        .cloned()
                        .or_else(|| self.announcer.refusal(vip, &self.network)),
                    stranger: self.announcer.stranger(vip),
                    readded: self.announcer.readded(vip),
                }),
            }
        }
        let truth = Truth {
            vips,
            gone,
            control_plane: self.resolver.vips(),
            holder: self.control.elector.holder(),
            leads: self.control.elector.leads(cx.now),
            carries: &|vip| self.control.elector.may_answer(self.now, vip),
            api_fault: self
                .control
                .elector
                .api_fault()
                .or_else(|| self.serving.as_ref()?.services.fault()),
            rebuilds: self.announcer.fence_rebuilds,
        };
        self.reporter.reconcile(cx, &truth);
    }

    /// That of the control plane, or of Services where there is nothing else.
    fn main_leadership(&self) -> &Leadership {
        let of_services = self.serving.as_ref().and_then(|it| it.one());
        of_services.filter(|_| self.config.vips.is_empty()).unwrap_or(&self.control)
    }

    fn services_status(&self, now: Instant, it: &Serving) -> ServicesStatus {
        let elector = &it.one().unwrap_or(&self.control).elector;
        let (lease, leads) = match (it.all_of_each(), elector) {
            (Some(each), _) => (String::new(), each.leads_any(now)),
            (None, Elector::Lease { lease, .. }) => {
                (lease.name().to_string(), lease.leads_until().is_some())
            }
            (None, Elector::Quorum(quorum)) => (String::new(), quorum.is_leader()),
        };
        let mut services = it.services.status(now);
        for one in &mut services {
            let leadership = one.addresses.iter().find_map(|vip| it.own_lease(*vip));
            one.holder = leadership.and_then(|it| it.elector.holder().cloned());
        }
        ServicesStatus {
            lease,
            each: it.all_of_each().is_some(),
            holder: elector.holder().filter(|_| it.all_of_each().is_none()).cloned(),
            leads,
            known: it.services.is_known(),
            watching: it.services.is_watching(),
            fault: it.services.fault().map(|it| it.why.clone()),
            service_lb: it.services.of_service_lb().map(ToString::to_string),
            services,
            pools: it.services.pools(now),
        }
    }

    fn vip_status(&self, vip: Vip) -> VipStatus {
        let refusal = self.placement.get(vip).and_then(|it| it.1.as_deref().cloned());
        let refusal = refusal.or_else(|| self.announcer.refusal(vip, &self.network));
        let link = self.network.choose(self.choice(vip), vip).map(|it| LinkStatus {
            name: it.name.clone(),
            up: it.up,
            carrier: it.carrier,
        });
        VipStatus {
            vip,
            state: self.announcer.state(vip),
            link,
            code: refusal.as_ref().map(|it| it.code().to_owned()),
            why: refusal.as_ref().map(Refusal::to_string),
            refusal,
            conflict: self.announcer.stranger(vip),
            length: self.announcer.length(vip).unwrap_or_else(|| vip.width()),
        }
    }
}
