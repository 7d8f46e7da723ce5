//! One port on the gateway.

use std::net::IpAddr;
use std::time::Duration;

use super::gateway::Gateway;
use super::{AGAIN, AGAIN_AT_MOST, Mappings, Site, Wish};
use crate::engine::Cx;
use crate::engine::backoff::Backoff;
use crate::model::{
    Exposed, GatewayCall, GatewayFault, GatewayNo, GatewayRefusal, GatewayReply, Granted, Instant,
    MappingEntry, Way, WayKind,
};

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What is wanted; `None`: that it is closed.
    wish: Option<Wish>,
    /// What it was asked for with.
    asked: Option<Wish>,
    next: Step,
    pub busy: bool,
    pub due: Option<Instant>,
    pub held: Option<Held>,
    pub refusal: Option<GatewayRefusal>,
    tries: Backoff,
    /// It was closed and opened again, because opening alone came to nothing.
    reopened: bool,
    /// It was just seen that what is to be closed is ours.
    ours: bool,
    /// While it was asked about, something came up that makes the answer stale.
    anew: bool,
}

/// What is asked of the gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Map,
    /// What is written down after it said yes.
    Verify(Granted),
    /// What is written down later.
    Check,
    /// Who has it.
    Who,
    /// Who has what is to be closed: some gateways let anybody close anything.
    Whose,
    /// Close it, since it is not wanted.
    Unmap,
    /// Close it, and open it again.
    Reopen,
    /// Close what was given instead.
    Undo(u16),
}

/// A port that is open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Held {
    pub way: WayKind,
    pub granted: Granted,
    pub since: Instant,
}

impl Held {
    pub fn until(&self) -> Option<Instant> {
        (self.granted.lease > 0).then(|| self.since + seconds(self.granted.lease))
    }

    fn refresh_at(&self) -> Option<Instant> {
        (self.granted.lease > 0).then(|| self.since + seconds(self.granted.lease) / 2)
    }
}

/// How a port stands, for those who tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Standing<'a> {
    Asking,
    Held { way: WayKind, external: Option<IpAddr>, until: Option<Instant> },
    Refused(&'a GatewayRefusal),
}

impl Entry {
    pub fn new(wish: Wish) -> Self {
        Self {
            wish: Some(wish),
            asked: None,
            next: Step::Map,
            busy: false,
            due: None,
            held: None,
            refusal: None,
            tries: Backoff::new(AGAIN, AGAIN_AT_MOST),
            reopened: false,
            ours: false,
            anew: false,
        }
    }

    /// Returns whether there is something to do.
    pub fn unwish(&mut self) -> bool {
        let news = self.wish.take().is_some();
        if news {
            self.next = Step::Unmap;
        }
        news
    }

    /// Returns whether there is something to do.
    pub fn wish_again(&mut self, wish: Wish) -> bool {
        let news = self.wish.as_ref() != Some(&wish);
        self.wish = Some(wish);
        if news {
            self.next = Step::Map;
        }
        news
    }

    /// Whatever the gateway said before.
    pub fn ask_anew(&mut self) {
        self.next = if self.wish.is_some() { Step::Map } else { Step::Unmap };
        self.reopened = false;
        self.anew = self.busy;
        self.tries.reset();
    }

    /// It is not wanted, and the gateway never heard of it.
    pub fn is_over(&self) -> bool {
        self.wish.is_none() && !self.is_there()
    }

    /// Whether the gateway may have it.
    pub fn is_there(&self) -> bool {
        self.asked.is_some()
    }

    pub fn is_open(&self) -> bool {
        self.held.is_none() && self.refusal.is_none()
    }

    pub fn lease(&self) -> Option<Duration> {
        let lease = self.held.as_ref().map(|it| it.granted.lease);
        let lease = lease.or(self.wish.as_ref().map(|it| it.lease));
        lease.filter(|it| *it > 0).map(seconds)
    }

    /// When the gateway drops it by itself.
    pub fn ends_at(&self) -> Option<Instant> {
        self.held.as_ref().and_then(Held::until)
    }

    pub fn expire(&mut self, now: Instant) {
        if self.ends_at().is_some_and(|it| it <= now) {
            self.held = None;
        }
    }

    pub fn standing<'a>(&'a self, gateway: Option<&'a Gateway>) -> Standing<'a> {
        let none = gateway.and_then(|it| it.refusal.as_ref());
        match (&self.held, self.refusal.as_ref().or(none)) {
            (Some(held), None | Some(GatewayRefusal::NoGateway { .. })) => Standing::Held {
                way: held.way,
                external: gateway.and_then(|it| it.external),
                until: held.until(),
            },
            (_, Some(refusal)) => Standing::Refused(refusal),
            (None, None) => Standing::Asking,
        }
    }

    pub fn call(&mut self, exposed: Exposed, way: &Way, permanent: bool) -> (Step, GatewayCall) {
        let way = way.clone();
        let wish = self.wish.clone().or_else(|| self.asked.clone());
        let step = match (&self.next, &wish) {
            (step, Some(_)) => step.clone(),
            // It was never asked for.
            (_, None) => Step::Unmap,
        };
        let closes = self.wish.is_none();
        let step = match (step, &way) {
            (Step::Map | Step::Unmap, Way::Igd(_)) if closes && !self.ours => Step::Whose,
            (Step::Map, _) if closes => Step::Unmap,
            (step, _) => step,
        };
        self.ours = false;
        let (nonce, name, lease) = wish.map(|it| (it.nonce, it.name, it.lease)).unwrap_or_default();
        let call = match &step {
            Step::Map => {
                self.asked = self.wish.clone();
                let lease = if permanent { 0 } else { lease };
                GatewayCall::Map { way, exposed, lease, nonce, name }
            }
            Step::Check | Step::Verify(_) | Step::Who | Step::Whose => {
                GatewayCall::Read { way, exposed }
            }
            Step::Reopen | Step::Undo(_) | Step::Unmap => {
                let pinhole = self.held.as_ref().and_then(|it| it.granted.pinhole);
                let nonce = self.asked.as_ref().map_or(nonce, |it| it.nonce);
                GatewayCall::Unmap { way, exposed, nonce, pinhole }
            }
        };
        (step, call)
    }
}

impl Mappings {
    pub(super) fn on_port(
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
            (Step::Who, GatewayReply::Read(found)) => {
                let by = found.as_ref().map(|it| it.client.clone());
                self.refuse(cx, exposed, GatewayRefusal::Taken { by, offered: None });
            }
            (Step::Who, GatewayReply::Refused(_)) => {
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
            let by = Some(found.client.clone());
            return self.refuse(cx, exposed, GatewayRefusal::Taken { by, offered: None });
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
            GatewayNo::OnlyPermanent => {
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

    /// Asked for again at half its lease; until then, where only reading it tells whether it is
    /// still there, it is read.
    fn look_later(&mut self, cx: &mut Cx<'_>, exposed: Exposed) {
        let every = self.sites.get(&exposed.vip).map(|it| self.look_every(it));
        let Some(Entry { held: Some(held), .. }) = self.entries.get(&exposed) else {
            return self.then(cx.now, exposed, Step::Map);
        };
        let refresh_at = held.refresh_at();
        let look_at = cx.now + every.unwrap_or(AGAIN);
        let (at, step) = match held.way {
            WayKind::Igd if refresh_at.is_none_or(|it| look_at < it) => {
                (Some(look_at), Step::Check)
            }
            // It cannot be read, and to ask for it again says the same.
            WayKind::Pinholes => {
                (Some(refresh_at.map_or(look_at, |it| it.min(look_at))), Step::Map)
            }
            WayKind::Igd | WayKind::NatPmp | WayKind::Pcp => (refresh_at, Step::Map),
        };
        if let Some(entry) = self.entries.get_mut(&exposed) {
            entry.next = step;
        }
        self.schedule(exposed, at);
    }

    /// It is not open; it is asked for again later.
    fn refuse(&mut self, cx: &mut Cx<'_>, exposed: Exposed, refusal: GatewayRefusal) {
        let mut at = cx.now;
        self.set(exposed, |it| {
            at = cx.now + it.tries.wait(cx.rng);
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

fn seconds(it: u32) -> Duration {
    Duration::from_secs(it.into())
}
