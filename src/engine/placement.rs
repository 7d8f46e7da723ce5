//! What each VIP should be on this node, and why. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::network::{LinkChoice, Network, Usable};
use crate::model::{Fences, Instant, NodeName, Refusal, Vip};

/// An orderly hand-over leaves the old holder silent, and serving, for at most this long.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// The peer's `vip_preserve_on_leadership_loss` keeps an address for ever; we do not.
const PRESERVE: Duration = Duration::from_secs(300);

/// What a VIP should be on this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    Absent,
    Answer {
        on: Usable,
        length: u8,
        until: Instant,
        /// Ask the link first whether the address is free.
        ask_first: bool,
    },
    /// There, but not answering. Nothing is added for this; `keep_until` extends it.
    Silent {
        keep_until: Option<Instant>,
    },
}

/// A wish for each VIP, and the reason where it is not to answer.
pub(crate) type Placement = BTreeMap<Vip, (Wish, Option<Refusal>)>;

/// Everything that placement looks at.
pub(crate) struct View<'a> {
    pub now: Instant,
    pub network: &'a Network,
    pub choice: &'a LinkChoice,
    pub lengths: (u8, u8),
    pub fences: &'a Fences,
    /// Why this node may not stand at all.
    pub unfit: Option<Refusal>,
    /// No other candidate exists: a dead link is no reason to hand over.
    pub alone: bool,
    pub leads_until: Option<Instant>,
    pub confirmed: bool,
    pub first_claim: bool,
    pub skip_dad: bool,
    pub holder: Option<&'a NodeName>,
    pub has_double: bool,
    /// Since when this node, leading, has been on its way out.
    pub retired_at: Option<Instant>,
    /// Leadership was lost then, and addresses are to be preserved.
    pub preserve_since: Option<Instant>,
}

impl View<'_> {
    /// What the VIP should be here. `succeeded`: another node was heard to answer for it.
    pub fn place(&self, vip: Vip, succeeded: bool) -> (Wish, Option<Refusal>) {
        match self.may_answer(vip) {
            Ok(wish) => (wish, None),
            Err(refusal) => (self.meanwhile(vip, &refusal, succeeded), Some(refusal)),
        }
    }

    /// The link that carries the VIP, or why none can.
    pub fn usable(&self, vip: Vip) -> Result<Usable, Refusal> {
        self.network.usable(self.choice, vip, self.now, self.alone)
    }

    fn may_answer(&self, vip: Vip) -> Result<Wish, Refusal> {
        if let Some(refusal) = &self.unfit {
            return Err(refusal.clone());
        }
        let on = self.usable(vip)?;
        let Some(until) = self.leads_until else {
            let holder = self.holder.cloned();
            let not_leader = Refusal::NotLeader { holder };
            return Err(if self.has_double { Refusal::NameClash } else { not_leader });
        };
        if !self.confirmed {
            return Err(Refusal::Unconfirmed);
        }
        let wanted = if vip.0.is_ipv4() { self.lengths.0 } else { self.lengths.1 };
        let length = self.network.length(on.index, vip, wanted);
        let ask_first = self.first_claim && !(self.skip_dad && vip.0.is_ipv6());
        Ok(Wish::Answer { on, length, until, ask_first })
    }

    /// What a VIP that may not answer is until it is gone.
    fn meanwhile(&self, vip: Vip, refusal: &Refusal, succeeded: bool) -> Wish {
        if !self.fences.guards(vip) {
            return Wish::Absent;
        }
        if matches!(refusal, Refusal::Unconfirmed) {
            return Wish::Silent { keep_until: self.leads_until };
        }
        let lingers = self.retired_at.is_some_and(|it| self.now < it + LINGER);
        if lingers && !succeeded {
            return Wish::Silent { keep_until: None };
        }
        let preserved = self.preserve_since.map(|it| it + PRESERVE).filter(|it| self.now < *it);
        let stays = vip.0.is_ipv4() && !succeeded && !matches!(refusal, Refusal::Stopping);
        match preserved {
            Some(keep_until) if stays => Wish::Silent { keep_until: Some(keep_until) },
            Some(_) | None => Wish::Absent,
        }
    }
}
