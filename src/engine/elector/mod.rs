//! Who leads. Every elector answers one question: what a VIP may be on this node, and until
//! when.

mod lease;
mod quorum;

use serde::{Deserialize, Serialize};

use super::agenda::Marks;
use super::placement::Standing;
use super::watch::LeaseWatch;
use super::{Cx, Deadline, Rng};
use crate::model::{ApiFault, Author, Instant, NodeName, Refusal, Vip};

pub use lease::LeaseConfig;
use lease::LeaseElector;
use quorum::Quorum;
pub(crate) use quorum::Surroundings;
#[cfg(feature = "sabotage")]
pub use quorum::search;
pub use quorum::{DiscoverConfig, FailBack, ProbeRule, QuorumApi, QuorumConfig, QuorumTiming};

/// Who is asked who may carry what.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Election {
    /// A Kubernetes Lease: one holder for all VIPs.
    Lease(LeaseConfig),
    /// The members themselves.
    Quorum(Box<QuorumConfig>),
}

impl Election {
    /// Whether there is an API server to tell.
    pub fn has_api(&self) -> bool {
        match self {
            Self::Lease(_) => true,
            Self::Quorum(quorum) => quorum.api.is_some(),
        }
    }
}

/// The one of them that this node has.
#[derive(Clone, Debug)]
pub(crate) enum Elector {
    Lease { lease: Box<LeaseElector>, watch: LeaseWatch },
    Quorum(Box<Quorum>),
}

impl Elector {
    pub fn new(
        election: &Election,
        me: NodeName,
        author: Author,
        now: Instant,
        rng: &mut Rng,
    ) -> Self {
        match election {
            Election::Lease(config) => Self::Lease {
                lease: Box::new(LeaseElector::new(config.clone(), me, author, now)),
                watch: LeaseWatch::new(config.name.clone()),
            },
            Election::Quorum(config) => Self::Quorum(Box::new(Quorum::new(config, me, now, rng))),
        }
    }

    /// Time first: nothing may act on a role that has run out.
    pub fn expire(&mut self, now: Instant) {
        match self {
            Self::Lease { lease, .. } => lease.expire(now),
            // Its rights are asked for with the time.
            Self::Quorum(_) => {}
        }
    }

    /// Something happened that no clock shows: what was granted before says nothing.
    pub fn doubt(&mut self, now: Instant) {
        match self {
            Self::Lease { lease, .. } => lease.doubt(now),
            Self::Quorum(quorum) => quorum.doubt(),
        }
    }

    /// What it decides before VIPs are placed.
    pub fn decide(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) {
        match self {
            Self::Lease { .. } => {}
            Self::Quorum(quorum) => quorum.decide(cx, around),
        }
    }

    /// What it asks for once the kernel has been told.
    pub fn reconcile(&mut self, cx: &mut Cx<'_>, stands: bool, quiet: bool) {
        match self {
            Self::Lease { lease, watch } => {
                lease.reconcile(cx, stands, quiet, watch.is_open());
                if let Some(version) = lease.version() {
                    watch.start(cx, version);
                }
                watch.tick(cx);
            }
            Self::Quorum(_) => {}
        }
    }

    /// What the VIP may be on this node.
    pub fn standing(&self, now: Instant, vip: Vip) -> Standing {
        match self {
            Self::Lease { lease, .. } => standing_by(lease),
            Self::Quorum(quorum) => quorum.standing(now, vip),
        }
    }

    /// What every VIP may be on this node, if there is no difference between them.
    pub fn common_standing(&self) -> Option<Standing> {
        match self {
            Self::Lease { lease, .. } => Some(standing_by(lease)),
            Self::Quorum(_) => None,
        }
    }

    /// The VIPs whose own standing may be other than it was when this was last asked.
    pub fn take_touched(&mut self) -> Marks {
        match self {
            Self::Lease { .. } => Marks::default(),
            Self::Quorum(quorum) => std::mem::take(&mut quorum.touched),
        }
    }

    /// Whether this node may answer for anything.
    pub fn leads(&self, now: Instant) -> bool {
        match self {
            Self::Lease { lease, .. } => lease.leads_until().is_some(),
            Self::Quorum(quorum) => quorum.carries(now),
        }
    }

    /// Whether this node may answer for the VIP.
    pub fn may_answer(&self, now: Instant, vip: Vip) -> bool {
        match self {
            Self::Lease { lease, .. } => lease.leads_until().is_some(),
            Self::Quorum(quorum) => quorum.may_answer(now, vip),
        }
    }

    /// Why the API server does not do what it is asked, if it does not.
    pub fn api_fault(&self) -> Option<&ApiFault> {
        match self {
            Self::Lease { lease, .. } => lease.fault(),
            Self::Quorum(quorum) => quorum.api_fault(),
        }
    }

    /// When the API server last answered.
    pub fn api_answered_at(&self) -> Option<Instant> {
        match self {
            Self::Lease { lease, .. } => lease.answered_at(),
            Self::Quorum(quorum) => quorum.api_answered_at(),
        }
    }

    /// Whether an answer is awaited that changes what others may do.
    pub fn is_writing(&self) -> bool {
        match self {
            Self::Lease { lease, .. } => lease.is_writing(),
            Self::Quorum(_) => false,
        }
    }

    /// Whether nothing is left to do after having been told to retire.
    pub fn is_retired(&self) -> bool {
        match self {
            Self::Lease { lease, .. } => lease.is_retired(),
            Self::Quorum(quorum) => quorum.is_retired(),
        }
    }

    /// Who holds the Lease, if that is what decides.
    pub fn holder(&self) -> Option<&NodeName> {
        match self {
            Self::Lease { lease, .. } => lease.holder(),
            Self::Quorum(_) => None,
        }
    }

    pub fn deadline(&self, stands: bool) -> Option<Deadline> {
        match self {
            Self::Lease { lease, watch } => {
                let lease = lease.deadline(stands, watch.is_open());
                lease.into_iter().chain(watch.deadline()).min()
            }
            Self::Quorum(quorum) => quorum.deadline(),
        }
    }
}

fn standing_by(lease: &LeaseElector) -> Standing {
    match lease.leads_until() {
        None if lease.has_double() => Standing::Refused(Refusal::NameClash),
        None => Standing::Refused(Refusal::NotLeader { holder: lease.holder().cloned() }),
        Some(until) if !lease.is_confirmed() => Standing::Doubted { until },
        Some(until) => Standing::Entitled {
            until,
            outlives: std::time::Duration::ZERO,
            first_claim: lease.is_first_claim(),
        },
    }
}
