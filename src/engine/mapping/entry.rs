//! One port on the gateway.

mod answers;

use std::net::IpAddr;
use std::time::Duration;

use super::gateway::Gateway;
use super::{AGAIN, AGAIN_AT_MOST, Wish};
use crate::engine::backoff::Backoff;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Exposed, GatewayCall, GatewayRefusal, Granted, Instant, Way, WayKind};

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What is wanted; `None`: that it is closed.
    wish: Option<Wish>,
    /// What it was asked for with.
    asked: Option<Wish>,
    next: Step,
    pub busy: bool,
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
        let ends = self.granted.lease > 0 && !sabotaged(Sabotage::PortNotRenewed);
        ends.then(|| self.since + seconds(self.granted.lease) / 2)
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
        let news = self.wish.take().is_some() && !sabotaged(Sabotage::PortKept);
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

    /// Whether the gateway may have it for the same Service as this wish.
    pub fn is_there_for(&self, wish: &Wish) -> bool {
        self.asked.as_ref().is_some_and(|it| it.nonce == wish.nonce)
    }

    /// Whether the gateway may have it, and nobody wants it.
    pub fn is_closing(&self) -> bool {
        self.wish.is_none() && self.is_there()
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

fn seconds(it: u32) -> Duration {
    Duration::from_secs(it.into())
}
