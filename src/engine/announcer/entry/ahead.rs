//! What an entry has a part in, and when it has to be looked at again.

use super::super::claim::Claim;
use super::super::index::{Next, Share};
use super::{Entry, Gate, is_short};
use crate::engine::Deadline;
use crate::model::{Instant, OrderId};

impl Entry {
    /// Whether the fence was opened by this order.
    pub fn was_opened_by(&self, by: OrderId) -> bool {
        matches!(self.gate, Gate::Open { order, .. } if order == by)
    }

    /// Its part in what is asked of all entries together.
    pub fn share(&self) -> Share {
        Share {
            orders: [
                self.held.and_then(|it| it.order),
                self.removing,
                self.quiet_by,
                self.claimed.order(),
            ],
            links: [self.wanted_on, self.held.map(|it| it.on.index)],
            loud: self.may_answer,
            left: !self.is_gone(),
        }
    }

    /// When it has to be looked at. How long it may be there grows without a word, so what may
    /// be extended is looked at when it would be, and from then on whenever that has grown.
    pub fn next(&self, now: Instant) -> Next {
        let halves = self.halves();
        let unheld = !self.fenced && self.held.is_none() && self.burst.is_some();
        let starves = unheld || self.is_short() || halves.iter().flatten().any(|it| *it <= now);
        Next { at: self.deadlines(now).map(|it| it.at).min(), starves }
    }

    pub fn deadlines(&self, now: Instant) -> impl Iterator<Item = Deadline> {
        let here = self.held.is_some_and(|it| !it.missing);
        let announce = self.burst.filter(|_| here && self.is_open());
        let announce = announce.map(|(at, _)| Deadline { at, why: "announce" });
        let ask = match self.claimed {
            Claim::Asking { order: Some(_), .. } => None,
            Claim::Asking { order: None, next_at, .. } => {
                Some(Deadline { at: next_at, why: "probe" })
            }
            Claim::Taken { again_at, .. } => Some(Deadline { at: again_at, why: "claim again" }),
            Claim::Free | Claim::Unasked => None,
        };
        let halves = self.halves();
        let held = self.held.filter(|_| halves[0].is_some());
        let later = held.and_then(|it| it.extension(self.keepable.until, self.fenced));
        let gate = match self.gate {
            Gate::Open { until, .. } if self.available > until => halves[1],
            Gate::Closed { .. } | Gate::Open { .. } | Gate::Unknown => None,
        };
        let ahead = halves.into_iter().flatten().filter(|it| now < *it);
        let extend = ahead.chain(later).chain(gate).min();
        let extend = extend.filter(|_| self.refused.is_none());
        let extend = extend.map(|at| Deadline { at, why: "extend" });
        let refused =
            self.refused.as_ref().map(|it| Deadline { at: it.1, why: "ask the kernel again" });
        [announce, ask, extend, refused].into_iter().flatten()
    }

    /// When half of the address's time, and half of the fence's, is over.
    fn halves(&self) -> [Option<Instant>; 2] {
        let waits = self.removing.is_some() || (self.is_closed() && self.quiet_by.is_some());
        let held = self.held.filter(|_| !waits).map(|it| it.half());
        let gate = match self.gate {
            Gate::Open { ordered_at, until, part, .. } => Some(part.half_of(ordered_at, until)),
            Gate::Closed { .. } | Gate::Unknown => None,
        };
        [held, gate]
    }

    fn is_short(&self) -> bool {
        matches!(self.gate, Gate::Open { ordered_at, until, .. } if is_short(ordered_at, until))
    }
}
