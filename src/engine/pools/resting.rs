//! Addresses that nobody has and nobody may have for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::ranges::{Span, address};
use crate::model::{Instant, IpFamily, Mac, ObjectName};

/// A freed address may still be configured on a node, or in a neighbour's cache.
pub const QUARANTINE: Duration = Duration::from_secs(60);
/// An address that another host answered for is tried again after so long.
pub const STRANGER: Duration = Duration::from_secs(300);

/// Until when an address rests, and why.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pub until: Instant,
    pub why: Why,
}

#[derive(Clone, Debug)]
pub(super) enum Why {
    /// It was freed by this Service, which may have it back at once.
    Freed(Arc<ObjectName>),
    /// A host, of this hardware address where known, answered for it.
    Stranger(Option<Mac>),
}

/// All that rest. What is over is dropped whenever something is entered.
#[derive(Clone, Debug, Default)]
pub(super) struct Resting {
    rests: BTreeMap<IpAddr, Rest>,
    ends: BTreeSet<(Instant, IpAddr)>,
}

impl Resting {
    pub fn free(&mut self, ip: IpAddr, last: Arc<ObjectName>, now: Instant) {
        self.expire(now);
        let stranger = self.get(ip, now).is_some_and(|it| matches!(it.why, Why::Stranger(_)));
        if !stranger {
            self.enter(ip, Rest { until: now + QUARANTINE, why: Why::Freed(last) });
        }
    }

    pub fn answered(&mut self, ip: IpAddr, mac: Option<Mac>, now: Instant) {
        self.expire(now);
        self.enter(ip, Rest { until: now + STRANGER, why: Why::Stranger(mac) });
    }

    /// Nobody answered.
    pub fn unanswered(&mut self, ip: IpAddr) {
        if self.rests.get(&ip).is_some_and(|it| matches!(it.why, Why::Stranger(_))) {
            self.leave(ip);
        }
    }

    /// Somebody has it again.
    pub fn taken(&mut self, ip: IpAddr) {
        if self.rests.get(&ip).is_some_and(|it| matches!(it.why, Why::Freed(_))) {
            self.leave(ip);
        }
    }

    pub fn get(&self, ip: IpAddr, now: Instant) -> Option<&Rest> {
        self.rests.get(&ip).filter(|it| it.until > now)
    }

    /// Those of the span, in order.
    pub fn within(
        &self,
        family: IpFamily,
        span: Span,
        now: Instant,
    ) -> impl Iterator<Item = (IpAddr, &Rest)> {
        let ends = address(family, span.first)..=address(family, span.last);
        self.rests.range(ends).map(|(ip, it)| (*ip, it)).filter(move |(_, it)| it.until > now)
    }

    /// When the next one has rested.
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        self.ends.iter().map(|(at, _)| *at).find(|at| *at > now)
    }

    fn enter(&mut self, ip: IpAddr, rest: Rest) {
        self.leave(ip);
        self.ends.insert((rest.until, ip));
        self.rests.insert(ip, rest);
    }

    fn leave(&mut self, ip: IpAddr) {
        if let Some(rest) = self.rests.remove(&ip) {
            self.ends.remove(&(rest.until, ip));
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, ip)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.leave(ip);
        }
    }
}
