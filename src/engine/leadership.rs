//! The leadership that some VIPs hang on: who elects, whether this node stands, and what
//! becomes of what was carried when it ends.

use super::elector::{Elector, Surroundings};
use super::placement::{Case, LINGER, PRESERVE, Standing};
use super::{Cx, Deadline};
use crate::model::{Instant, NodeName, Vip};

#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    pub elector: Elector,
    /// This node is a candidate: fit, and with a link that works.
    pub stands: bool,
    /// A Lease was lost or is being given up: since then this node is on its way out.
    retired_at: Option<Instant>,
    /// A Lease was lost, and addresses are to be preserved, since then.
    preserve_since: Option<Instant>,
}

/// What of it every VIP depends on alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stake {
    /// Of all VIPs, if they have but one.
    standing: Option<Standing>,
    lingers: bool,
    preserved_until: Option<Instant>,
}

impl Stake {
    /// Whether nothing is other than before, but that it may end later.
    pub fn is_prolonged(&self, before: &Self) -> bool {
        let (mut earlier, mut is_later) = (self.clone(), true);
        if let (Some(standing), Some(before)) = (&mut earlier.standing, &before.standing) {
            is_later = standing.end_as(before);
        }
        is_later && earlier == *before
    }
}

impl Leadership {
    pub fn new(elector: Elector) -> Self {
        Self { elector, stands: false, retired_at: None, preserve_since: None }
    }

    /// Since when we are on our way out, and since when we keep what we lost. `answered`:
    /// this node was to answer for something until now.
    pub fn note_transitions(
        &mut self,
        now: Instant,
        me: &NodeName,
        answered: bool,
        preserve: bool,
    ) {
        let Elector::Lease { lease, .. } = &self.elector else {
            return;
        };
        let leads = lease.leads_until().is_some();
        let retires = (leads && !self.stands) || (!leads && lease.is_holding());
        self.retired_at = match leads && self.stands {
            true => None,
            // Nobody else can answer yet.
            false if retires => Some(now),
            false => self.retired_at.filter(|it| now < *it + LINGER),
        };
        let others = lease.holder().is_some_and(|it| it != me);
        if leads || others || self.retired_at.is_some() {
            self.preserve_since = None;
        } else if answered && preserve {
            self.preserve_since = Some(now);
        }
    }

    /// How the VIP stands with it. `succeeded`: another node was heard to answer for it.
    pub fn case(&self, now: Instant, vip: Vip, succeeded: bool) -> Case {
        Case {
            standing: self.elector.standing(now, vip),
            retired_at: match &self.elector {
                Elector::Lease { .. } => self.retired_at,
                Elector::Quorum(quorum) => quorum.retired_at(now, vip),
            },
            preserved_until: self.preserved_until(now),
            succeeded,
            refusal: None,
        }
    }

    /// What of it every VIP depends on alike.
    pub fn stake(&self, now: Instant) -> Stake {
        Stake {
            standing: self.elector.common_standing(),
            lingers: self.retired_at.is_some_and(|it| now < it + LINGER),
            preserved_until: self.preserved_until(now),
        }
    }

    /// When the case of a VIP comes to something else by itself, if it is a case of its own.
    pub fn case_ends_at(&self, now: Instant, case: &Case) -> Option<Instant> {
        let until = match (&self.elector, &case.standing) {
            (Elector::Lease { .. }, _) => return None,
            (
                Elector::Quorum(_),
                Standing::Entitled { until, .. }
                | Standing::Doubted { until }
                | Standing::Preparing { until },
            ) => Some(*until),
            (Elector::Quorum(_), Standing::Refused(_)) => None,
        };
        let linger = case.retired_at.map(|it| it + LINGER);
        until.into_iter().chain(linger).filter(|it| *it > now).min()
    }

    /// What the elector decides before VIPs are placed.
    pub fn decide(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) {
        self.elector.decide(cx, around);
    }

    fn preserved_until(&self, now: Instant) -> Option<Instant> {
        self.preserve_since.map(|it| it + PRESERVE).filter(|it| now < *it)
    }

    /// Whether what was carried may still be waited for by others.
    pub fn is_retiring(&self) -> bool {
        self.retired_at.is_some()
    }

    pub fn deadline(&self, now: Instant, takes_part: bool) -> Option<Deadline> {
        let elector = self.elector.deadline(self.stands).filter(|_| takes_part);
        let linger = self.retired_at.map(|it| Deadline { at: it + LINGER, why: "linger ends" });
        elector.into_iter().chain(linger.filter(|it| it.at > now)).min()
    }
}
