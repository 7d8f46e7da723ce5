//! When nothing is left to do, and what is known to be silent.

use std::time::Duration;

use super::serving::{Elects, Serving};
use super::{Node, STOP_WITHIN};
use crate::engine::elector::Elector;
use crate::model::{Instant, LIFETIME_SLACK, Vip};

/// Behind a fence an address may be given a last whole second beyond its right.
const BEHIND_FENCE: Duration = Duration::from_secs(1);

impl Serving {
    /// Which addresses of Services a killed process left, the fence alone says, and it does not:
    /// there was none, or it was gone. They may be there for so long after the right to them.
    pub fn wait_for_left(&mut self, now: Instant, fenced: bool) {
        let outlives = LIFETIME_SLACK + if fenced { BEHIND_FENCE } else { Duration::ZERO };
        if let Elects::One(it) = &mut self.elects
            && let Elector::Lease { lease, .. } = &mut it.elector
        {
            lease.wait_for_left(now, outlives);
        }
        if let Some(it) = &mut self.each {
            it.wait_for_left(now, outlives);
        }
    }
}

impl Node {
    pub(super) fn may_exit(&self, now: Instant) -> bool {
        let Some(at) = self.stopping_at else {
            return false;
        };
        let served = || self.serving.iter().flat_map(Serving::leaderships);
        let leaderships = || [&self.control].into_iter().chain(served());
        let left =
            !self.guards.is_gone() || !self.links.is_idle() || self.network.made().next().is_some();
        let done =
            self.announcer.is_gone() && !left && leaderships().all(|it| it.elector.is_retired());
        // What is under way may be what the next holder waits for.
        let waits = leaderships().any(|it| it.elector.is_writing() || it.is_retiring());
        let late = at + STOP_WITHIN <= now && !waits;
        let labelled = self.serving.iter().all(|it| it.services.has_labelled());
        (done && self.reporter.has_told() && labelled) || late
    }

    /// Whether the kernel is known to answer for none of the VIPs that one leadership has.
    pub(super) fn is_quiet(&self, of_services: bool) -> bool {
        let apart = self.serving.as_ref().is_some_and(|it| !matches!(it.elects, Elects::Control));
        let loud = |vip: &&Vip| !self.announcer.is_silent(**vip);
        match (apart, of_services) {
            (false, true) => true,
            (false, false) => self.announcer.loud_count() == 0,
            (true, false) => !self.resolver.vips().iter().any(|vip| loud(&vip)),
            (true, true) => {
                let control = self.resolver.vips();
                let each = self.serving.as_ref().and_then(|it| it.each.as_ref());
                let own = each.into_iter().flat_map(|it| it.vips());
                let own = own.filter(|it| !control.contains(it) && loud(it));
                self.announcer.loud_count() == control.iter().filter(loud).count() + own.count()
            }
        }
    }
}
