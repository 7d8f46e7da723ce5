//! What becomes of a port by what the gateway answers.

use std::time::Duration;

use super::{Entry, Held, Step, seconds};
use crate::engine::Cx;
use crate::engine::mapping::gateway::{Gateway, LOOK_AT_LEAST};
use crate::engine::mapping::{AGAIN, Mappings, Site};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{
    Exposed, GatewayFault, GatewayNo, GatewayRefusal, GatewayReply, Granted, Instant, MappingEntry,
    Way, WayKind,
};

/// Gateways count whole seconds.
const A_SECOND: Duration = Duration::from_secs(1);

impl Mappings {
    pub(in crate::engine::mapping) fn on_port(
        &mut self,
        cx: &mut Cx<'_>,
        exposed: Exposed,
        step: &Step,
        reply: &GatewayReply,
    ) {
        let Some(site) = self.sites.get(&exposed.vip).cloned() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&exposed) else {
            return;
        };
        entry.busy = false;
        if let GatewayReply::Failed(why) = reply {
            entry.anew = false;
            self.lose(cx, &site, why);
            return;
        }
        let anew = std::mem::take(&mut entry.anew);
        match (step, reply) {
            (Step::Map, GatewayReply::Mapped(granted)) => {
                self.note(cx.now, &site, granted.external, granted.epoch);
                self.on_mapped(cx, exposed, &site, granted);
            }
            (Step::Map, GatewayReply::Refused(fault)) => self.on_no(cx, exposed, &site, fault),
            (Step::Verify(granted), GatewayReply::Read(found)) => {
                self.on_verified(cx, exposed, granted, found.as_ref());
            }
            // It cannot be asked: its word has to do.
            (Step::Verify(granted), GatewayReply::Refused(_)) => self.hold(cx, exposed, granted),
            (Step::Check, GatewayReply::Read(Some(found))) if leads_here(found, exposed) => {
                self.look_later(cx, exposed);
            }
            (Step::Check, GatewayReply::Read(_)) => {
                self.set(exposed, |it| it.held = None);
                // What it forgot of one it may have forgotten of all.
                self.ask_all(cx.now, &site);
            }
            (Step::Check, GatewayReply::Refused(_)) => self.look_later(cx, exposed),
            (Step::Who, GatewayReply::Read(Some(found))) if leads_here(found, exposed) => {
                self.reopen(cx, exposed, GatewayRefusal::Taken { by: None, offered: None });
            }
            (Step::Who, GatewayReply::Read(Some(found))) => self.leave_to(cx, exposed, found),
            (Step::Who, GatewayReply::Read(None) | GatewayReply::Refused(_)) => {
                self.refuse(cx, exposed, GatewayRefusal::Taken { by: None, offered: None });
            }
            (Step::Whose, GatewayReply::Read(Some(found))) if leads_here(found, exposed) => {
                self.close(cx, exposed);
            }
            // It cannot be asked, or it is nobody's, or another's.
            (Step::Whose, GatewayReply::Refused(_)) => self.close(cx, exposed),
            (Step::Whose, GatewayReply::Read(_)) => self.closed(cx, exposed),
            (Step::Unmap, GatewayReply::Unmapped | GatewayReply::Refused(_)) => {
                self.closed(cx, exposed);
            }
            (Step::Reopen, GatewayReply::Unmapped | GatewayReply::Refused(_)) => {
                self.then(cx.now, exposed, Step::Map);
            }
            (Step::Undo(port), GatewayReply::Unmapped | GatewayReply::Refused(_)) => {
                let offered = Some(*port);
                self.refuse(cx, exposed, GatewayRefusal::Taken { by: None, offered });
            }
            // None of these answers that.
            (
                Step::Check
                | Step::Map
                | Step::Reopen
                | Step::Undo(_)
                | Step::Unmap
                | Step::Verify(_)
                | Step::Who
                | Step::Whose,
                GatewayReply::Failed(_)
                | GatewayReply::Found(_)
                | GatewayReply::Looked { .. }
                | GatewayReply::Mapped(_)
                | GatewayReply::Read(_)
                | GatewayReply::Unmapped,
            ) => self.refuse(cx, exposed, GatewayRefusal::NotKept),
        }
        // What was wished meanwhile goes before what the answer leads to.
        let Some(entry) = self.entries.get_mut(&exposed) else {
            return;
        };
        let changed = entry.asked.is_some() && entry.wish != entry.asked && !entry.ours;
        if changed && entry.wish.is_none() {
            self.then(cx.now, exposed, Step::Unmap);
        } else if changed || anew {
            self.then(cx.now, exposed, Step::Map);
        }
    }

    fn on_mapped(&mut self, cx: &mut Cx<'_>, exposed: Exposed, site: &Site, granted: &Granted) {
        if granted.port != exposed.port.port {
            return self.then(cx.now, exposed, Step::Undo(granted.port));
        }
        match self.kind(site) {
            Some(WayKind::Igd) => self.then(cx.now, exposed, Step::Verify(granted.clone())),
            Some(WayKind::NatPmp | WayKind::Pcp | WayKind::Pinholes) | None => {
                self.hold(cx, exposed, granted);
            }
        }
    }

    fn on_verified(
        &mut self,
        cx: &mut Cx<'_>,
        exposed: Exposed,
        granted: &Granted,
        found: Option<&MappingEntry>,
    ) {
        let Some(found) = found else {
            return self.reopen(cx, exposed, GatewayRefusal::NotKept);
        };
        if !leads_here(found, exposed) {
            return self.leave_to(cx, exposed, found);
        }
        let extended = granted.lease == 0 || found.left == 0 || found.left > granted.lease / 2;
        if !found.enabled || !extended {
            // Some keep the end that the first request set.
            let left = Granted { lease: found.left.max(1), ..granted.clone() };
            let reopened = self.entries.get(&exposed).is_some_and(|it| it.reopened);
            return match (found.enabled, reopened) {
                (_, false) => self.reopen(cx, exposed, GatewayRefusal::NotKept),
                (true, true) => self.hold(cx, exposed, &left),
                (false, true) => self.refuse(cx, exposed, GatewayRefusal::NotKept),
            };
        }
        // What it gave may be shorter, or for good.
        let lease = if found.left == 0 { 0 } else { granted.lease };
        self.hold(cx, exposed, &Granted { lease, ..granted.clone() });
    }

    fn on_no(&mut self, cx: &mut Cx<'_>, exposed: Exposed, site: &Site, fault: &GatewayFault) {
        let Some(way) = self.kind(site) else {
            return self.then_when_found(exposed);
        };
        match fault.no {
            GatewayNo::OnlyPermanent if !sabotaged(Sabotage::PermanentRefused) => {
                self.make_permanent(site);
                self.then(cx.now, exposed, Step::Map);
            }
            GatewayNo::Taken if way == WayKind::Igd => self.then(cx.now, exposed, Step::Who),
            GatewayNo::Taken => {
                self.refuse(cx, exposed, GatewayRefusal::Taken { by: None, offered: None });
            }
            GatewayNo::NotAllowed | GatewayNo::Unsupported if self.has_others(site, way) => {
                self.then_when_found(exposed);
                self.try_otherwise(cx, site, way, &fault.words);
            }
            GatewayNo::NotAllowed
            | GatewayNo::NotThere
            | GatewayNo::OnlyPermanent
            | GatewayNo::Other
            | GatewayNo::Unsupported => {
                let (code, words) = (fault.code, fault.words.clone());
                self.refuse(cx, exposed, GatewayRefusal::Unwilling { way, code, words });
            }
        }
    }

    fn kind(&self, site: &Site) -> Option<WayKind> {
        self.gateways.get(site).and_then(Gateway::way).map(Way::kind)
    }

    /// It is open.
    fn hold(&mut self, cx: &mut Cx<'_>, exposed: Exposed, granted: &Granted) {
        let site = self.sites.get(&exposed.vip).cloned();
        let Some(way) = site.and_then(|it| self.kind(&it)) else {
            return;
        };
        let held = Held { way, granted: granted.clone(), since: cx.now };
        self.set(exposed, |it| {
            (it.held, it.refusal, it.reopened) = (Some(held), None, false);
            it.tries.reset();
        });
        self.look_later(cx, exposed);
    }

    /// Asked for again at half its lease; until then, where it can be read, it is read, and else
    /// asked for now and then.
    fn look_later(&mut self, cx: &mut Cx<'_>, exposed: Exposed) {
        let every = self.sites.get(&exposed.vip).map(|it| self.look_every(it));
        let Some(Entry { held: Some(held), .. }) = self.entries.get(&exposed) else {
            return self.then(cx.now, exposed, Step::Map);
        };
        let refresh_at = held.refresh_at();
        let look_at = match held.way {
            WayKind::Igd | WayKind::Pinholes => cx.now + every.unwrap_or(AGAIN),
            // That it was restarted its clock says.
            WayKind::NatPmp | WayKind::Pcp => cx.now + LOOK_AT_LEAST,
        };
        let step = match held.way {
            WayKind::Igd if refresh_at.is_none_or(|it| look_at < it) => Step::Check,
            // Where it cannot be read, to ask for it again says the same.
            WayKind::Igd | WayKind::NatPmp | WayKind::Pcp | WayKind::Pinholes => Step::Map,
        };
        if let Some(entry) = self.entries.get_mut(&exposed) {
            entry.next = step;
        }
        self.schedule(exposed, Some(refresh_at.map_or(look_at, |it| it.min(look_at))));
    }

    /// It is another's: it is asked for again once that ends, if not before.
    fn leave_to(&mut self, cx: &mut Cx<'_>, exposed: Exposed, found: &MappingEntry) {
        let by = Some(found.client.clone());
        let ends = (found.left > 0).then(|| seconds(found.left) + A_SECOND);
        self.refuse_for(cx, exposed, GatewayRefusal::Taken { by, offered: None }, ends);
    }

    /// It is not open; it is asked for again later.
    fn refuse(&mut self, cx: &mut Cx<'_>, exposed: Exposed, refusal: GatewayRefusal) {
        self.refuse_for(cx, exposed, refusal, None);
    }

    fn refuse_for(
        &mut self,
        cx: &mut Cx<'_>,
        exposed: Exposed,
        refusal: GatewayRefusal,
        most: Option<Duration>,
    ) {
        let mut at = cx.now;
        self.set(exposed, |it| {
            let wait = it.tries.wait(cx.rng);
            at = cx.now + most.map_or(wait, |most| wait.min(most.max(AGAIN)));
            if it.held.is_none() || matches!(refusal, GatewayRefusal::Taken { .. }) {
                // There is nothing of ours to be closed.
                it.asked = None;
            }
            (it.held, it.refusal, it.reopened) = (None, Some(refusal), false);
            it.next = Step::Map;
        });
        self.schedule(exposed, Some(at));
    }

    /// Closes and opens it, once.
    fn reopen(&mut self, cx: &mut Cx<'_>, exposed: Exposed, else_it_is: GatewayRefusal) {
        let Some(entry) = self.entries.get_mut(&exposed) else {
            return;
        };
        if entry.reopened {
            return self.refuse(cx, exposed, else_it_is);
        }
        entry.reopened = true;
        self.then(cx.now, exposed, Step::Reopen);
    }

    /// What is ours is closed.
    fn close(&mut self, cx: &mut Cx<'_>, exposed: Exposed) {
        if let Some(entry) = self.entries.get_mut(&exposed) {
            entry.ours = true;
        }
        self.then(cx.now, exposed, Step::Unmap);
    }

    /// The gateway has it no more.
    fn closed(&mut self, cx: &mut Cx<'_>, exposed: Exposed) {
        let wanted = self.entries.get(&exposed).is_some_and(|it| it.wish.is_some());
        if !wanted {
            return self.forget(exposed);
        }
        self.set(exposed, |it| it.held = None);
        self.then(cx.now, exposed, Step::Map);
    }

    fn then(&mut self, at: Instant, exposed: Exposed, step: Step) {
        if let Some(entry) = self.entries.get_mut(&exposed) {
            entry.next = step;
        }
        self.schedule(exposed, Some(at));
    }

    /// When the gateway is found again, all is asked for.
    fn then_when_found(&mut self, exposed: Exposed) {
        self.schedule(exposed, None);
    }
}

/// Whether what is written down is what was asked for.
fn leads_here(found: &MappingEntry, exposed: Exposed) -> bool {
    found.client.parse() == Ok(exposed.vip.0) && found.port == exposed.port.port
}
