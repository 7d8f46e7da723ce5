//! What each VIP should be on this node, and why. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::network::{LinkChoice, Network, Usable};
use crate::model::{Fences, Instant, LinkIndex, Refusal, Vip};

/// An orderly hand-over leaves the old holder silent, and serving, for at most this long.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// The peer's `vip_preserve_on_leadership_loss` keeps an address for ever; we do not.
pub(crate) const PRESERVE: Duration = Duration::from_secs(300);

/// What a VIP should be on this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    Absent,
    Answer {
        on: Usable,
        length: u8,
        until: Instant,
        /// The address may be there so long: what ends answering in time is the fence.
        keep_until: Instant,
        /// Ask the link first whether the address is free.
        ask_first: bool,
    },
    /// There, but not answering, so that it can answer at once.
    Prepare {
        on: Usable,
        length: u8,
        keep_until: Instant,
    },
    /// There, but not answering. Nothing is added for this; `keep_until` extends it.
    Silent {
        keep_until: Option<Instant>,
    },
}

/// A wish for each VIP, and the reason where it is not to answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    wishes: BTreeMap<Vip, (Wish, Option<Box<Refusal>>)>,
}

impl Placement {
    /// What becomes of the VIP; `None`: it is not wanted at all.
    pub fn set(&mut self, vip: Vip, placed: Option<(Wish, Option<Refusal>)>) {
        match placed {
            Some((wish, refusal)) => {
                self.wishes.insert(vip, (wish, refusal.map(Box::new)));
            }
            None => drop(self.wishes.remove(&vip)),
        }
    }

    pub fn get(&self, vip: Vip) -> Option<&(Wish, Option<Box<Refusal>>)> {
        self.wishes.get(&vip)
    }

    pub fn vips(&self) -> impl Iterator<Item = Vip> + '_ {
        self.wishes.keys().copied()
    }

    /// Whether it is to answer.
    pub fn is_answer(&self, vip: Vip) -> bool {
        self.wishes.get(&vip).is_some_and(|it| matches!(it.0, Wish::Answer { .. }))
    }
}

/// What the elector says of a VIP on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// This node may answer for it.
    Entitled {
        until: Instant,
        /// How much longer the address may be there, where the fence ends answering.
        outlives: Duration,
        /// Nobody is known to have had it before.
        first_claim: bool,
    },
    /// It may, once that is confirmed.
    Doubted { until: Instant },
    /// It is to be ready for it, until then.
    Preparing { until: Instant },
    /// It may not.
    Refused(Refusal),
}

impl Standing {
    /// Takes over the other's end; whether that is not later than its own.
    pub fn end_as(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Entitled { until, .. }, Self::Entitled { until: other, .. })
            | (Self::Doubted { until }, Self::Doubted { until: other }) => {
                std::mem::replace(until, *other) >= *other
            }
            (
                Self::Doubted { .. }
                | Self::Entitled { .. }
                | Self::Preparing { .. }
                | Self::Refused(_),
                _,
            ) => true,
        }
    }
}

impl Wish {
    /// The link that it needs.
    pub fn link(&self) -> Option<LinkIndex> {
        match self {
            Self::Answer { on, .. } | Self::Prepare { on, .. } => Some(on.index),
            Self::Absent | Self::Silent { .. } => None,
        }
    }
}

/// Everything that placement looks at.
pub(crate) struct View<'a> {
    pub now: Instant,
    pub network: &'a Network,
    pub choice: &'a dyn Fn(Vip) -> &'a LinkChoice,
    pub lengths: (u8, u8),
    pub fences: &'a Fences,
    /// Why this node may not stand at all.
    pub unfit: Option<Refusal>,
    /// No other candidate exists: a dead link is no reason to hand over.
    pub alone: bool,
    pub skip_dad: bool,
}

/// One VIP, as others than placement see it.
pub(crate) struct Case {
    pub standing: Standing,
    /// Since when this node, answering before, has been on its way out.
    pub retired_at: Option<Instant>,
    /// What was answered for is kept, silent, until then.
    pub preserved_until: Option<Instant>,
    /// Another node was heard to answer for it.
    pub succeeded: bool,
    /// Why it may not, whoever elects.
    pub refusal: Option<Refusal>,
}

impl Case {
    /// Whether nobody is known to have had it is known better than by the elector.
    pub fn first_claim(&mut self, first: bool) {
        if let Standing::Entitled { first_claim, .. } = &mut self.standing {
            *first_claim = first;
        }
    }

    /// Whether the elector knows of nobody who had it before.
    pub fn is_first_claim(&self) -> bool {
        matches!(self.standing, Standing::Entitled { first_claim: true, .. })
    }

    /// The address itself is ours until then only.
    pub fn ends(&mut self, at: Instant) {
        match &mut self.standing {
            Standing::Entitled { until, outlives, .. } => {
                let left = (*until + *outlives).min(at);
                *until = (*until).min(at);
                *outlives = left.saturating_since(*until);
            }
            Standing::Doubted { until } | Standing::Preparing { until } => {
                *until = (*until).min(at)
            }
            Standing::Refused(_) => {}
        }
    }
}

impl View<'_> {
    /// What the VIP should be here.
    pub fn place(&self, vip: Vip, case: &Case) -> (Wish, Option<Refusal>) {
        match self.may_answer(vip, case) {
            Ok(wish) => (wish, None),
            Err(refusal) => (self.meanwhile(vip, &refusal, case), Some(refusal)),
        }
    }

    /// The link that carries the VIP, or why none can.
    pub fn usable(&self, vip: Vip) -> Result<Usable, Refusal> {
        self.network.usable((self.choice)(vip), vip, self.now, self.alone)
    }

    fn may_answer(&self, vip: Vip, case: &Case) -> Result<Wish, Refusal> {
        if let Some(refusal) = &self.unfit {
            return Err(refusal.clone());
        }
        let on = match (self.usable(vip), &case.standing, &case.refusal) {
            // A link that is made for who carries it is nowhere else.
            (Err(Refusal::LinkAwaited { .. }), Standing::Refused(refusal), _)
            | (Err(Refusal::LinkAwaited { .. }), _, Some(refusal)) => return Err(refusal.clone()),
            (usable, _, _) => usable?,
        };
        match (&case.standing, &case.refusal) {
            (Standing::Refused(refusal), _) | (_, Some(refusal)) => Err(refusal.clone()),
            (Standing::Entitled { until, outlives, first_claim }, None) => {
                let ask_first = *first_claim && !(self.skip_dad && vip.0.is_ipv6());
                let fenced = self.fences.guards(vip);
                let keep_until = *until + if fenced { *outlives } else { Duration::ZERO };
                let (length, until) = (self.length(on, vip), *until);
                Ok(Wish::Answer { on, length, until, keep_until, ask_first })
            }
            (Standing::Doubted { .. }, None) => Err(Refusal::Unconfirmed),
            (Standing::Preparing { .. }, None) => Err(Refusal::Preparing),
        }
    }

    fn length(&self, on: Usable, vip: Vip) -> u8 {
        let wanted = if vip.0.is_ipv4() { self.lengths.0 } else { self.lengths.1 };
        self.network.length(on.index, vip, wanted)
    }

    /// What a VIP that may not answer is until it is gone.
    fn meanwhile(&self, vip: Vip, refusal: &Refusal, case: &Case) -> Wish {
        if !self.fences.guards(vip) {
            return Wish::Absent;
        }
        match (&case.standing, self.usable(vip)) {
            (Standing::Doubted { until }, _) if matches!(refusal, Refusal::Unconfirmed) => {
                return Wish::Silent { keep_until: Some(*until) };
            }
            (Standing::Preparing { until }, Ok(on)) if matches!(refusal, Refusal::Preparing) => {
                return Wish::Prepare { on, length: self.length(on, vip), keep_until: *until };
            }
            (
                Standing::Doubted { .. }
                | Standing::Entitled { .. }
                | Standing::Preparing { .. }
                | Standing::Refused(_),
                _,
            ) => {}
        }
        let lingers = case.retired_at.is_some_and(|it| self.now < it + LINGER);
        if lingers && !case.succeeded {
            return Wish::Silent { keep_until: None };
        }
        let stays = vip.0.is_ipv4() && !case.succeeded && !matches!(refusal, Refusal::Stopping);
        match case.preserved_until {
            Some(keep_until) if stays => Wish::Silent { keep_until: Some(keep_until) },
            Some(_) | None => Wish::Absent,
        }
    }
}
