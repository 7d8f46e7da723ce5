//! How VIPs stand, as far as the kernel has said.

use super::Announcer;
use super::claim::Claim;
use crate::engine::network::Network;
use crate::model::{Instant, KernelAnswer, LinkIndex, Mac, Refusal, Vip, VipState};

impl Announcer {
    /// How many VIPs the kernel may answer for.
    pub fn loud_count(&self) -> usize {
        self.index.loud_count()
    }

    /// Whether the kernel is known not to answer for the VIP.
    pub fn is_silent(&self, vip: Vip) -> bool {
        self.vips.get(&vip).is_none_or(|it| !it.may_answer)
    }

    /// Whether the VIP is there, answered for or not.
    pub fn is_here(&self, vip: Vip) -> bool {
        let held = self.vips.get(&vip).and_then(|it| it.held);
        held.is_some_and(|it| !it.missing)
    }

    /// Whether the VIP is there and could answer at once; where it cannot be silent, it is
    /// as ready as it can be.
    pub fn is_ready(&self, vip: Vip) -> bool {
        !self.config.fences.guards(vip) || self.vips.get(&vip).is_some_and(|it| it.is_ready())
    }

    /// Whether the kernel refuses the VIP.
    pub fn is_refused(&self, now: Instant, vip: Vip) -> bool {
        self.vips.get(&vip).is_some_and(|it| it.is_refused(now))
    }

    /// Whether a VIP is on the link, or is to be.
    pub fn is_on(&self, link: LinkIndex) -> bool {
        self.index.links().any(|it| it == link)
    }

    /// Whether nothing of ours is left in the kernel.
    pub fn is_gone(&self) -> bool {
        self.index.is_gone()
    }

    pub fn state(&self, vip: Vip) -> VipState {
        match self.vips.get(&vip) {
            Some(it) if it.held.is_none_or(|held| held.missing) => VipState::Absent,
            Some(it) if it.may_answer => VipState::Answering,
            Some(_) => VipState::Silent,
            None => VipState::Absent,
        }
    }

    /// The prefix length it is held with.
    pub fn length(&self, vip: Vip) -> Option<u8> {
        Some(self.vips.get(&vip)?.held?.length)
    }

    /// How often somebody removed it.
    pub fn readded(&self, vip: Vip) -> u32 {
        self.vips.get(&vip).map_or(0, |it| it.readded)
    }

    /// The last stranger that claimed it.
    pub fn stranger(&self, vip: Vip) -> Option<Mac> {
        self.vips.get(&vip)?.stranger
    }

    /// Why a VIP that is to answer does not, as far as link and kernel are concerned.
    pub fn refusal(&self, vip: Vip, network: &Network) -> Option<Refusal> {
        let it = self.vips.get(&vip)?;
        if let Some((answer, _)) = it.refused.as_deref() {
            let link = it.held.and_then(|held| network.link(held.on.index));
            return match link {
                // Its own news of the link may be on their way.
                Some(link) if *answer == KernelAnswer::NoLink => {
                    Some(Refusal::NoLink { link: Some(link.name.clone()) })
                }
                _ => answer.refusal().map(|why| Refusal::Kernel { why: why.to_owned() }),
            };
        }
        match it.claimed {
            Claim::Asking { .. } => Some(Refusal::Probing),
            Claim::Taken { mac, .. } => Some(Refusal::Conflict { mac }),
            Claim::Free | Claim::Unasked => None,
        }
    }

    /// When the kernel has what placement wants and answers for it.
    pub fn is_answering(&self, vip: Vip) -> bool {
        self.vips.get(&vip).is_some_and(|it| {
            it.is_open() && it.may_answer && it.held.is_some_and(|held| held.done && !held.missing)
        })
    }
}
