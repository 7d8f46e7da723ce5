//! Asking the link whether an address is free, before it is claimed for the first time
//! (RFC 5227 §2.1, RFC 4862 §5.4).

use std::time::Duration;

use super::entry::Entry;
use crate::engine::Cx;
use crate::engine::network::Usable;
use crate::model::{Frame, Instant, KernelAnswer, KernelJob, Mac, OrderId, Vip};

const PROBES: u8 = 3;
const PROBE_GAP: Duration = Duration::from_millis(20);
/// Silence after the last probe that means the address is free.
const PROBE_SILENCE: Duration = Duration::from_millis(60);
/// What the kernel did not ask is asked after this.
const UNASKED_AGAIN: Duration = Duration::from_millis(200);
/// After a conflict a first claim is tried again.
pub(super) const PROBE_AGAIN: Duration = Duration::from_secs(5);

/// Whether the address is known to be free.
#[derive(Clone, Debug)]
pub(super) enum Claim {
    Unasked,
    /// `order`: the last question is not out yet. How long is waited counts from when it is.
    Asking {
        sent: u8,
        order: Option<OrderId>,
        next_at: Instant,
    },
    Free,
    Taken {
        mac: Mac,
        again_at: Instant,
    },
}

impl Claim {
    fn first(now: Instant) -> Self {
        Self::Asking { sent: 0, order: None, next_at: now }
    }

    /// The question that is not out yet.
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::Asking { order, .. } => *order,
            Self::Free | Self::Taken { .. } | Self::Unasked => None,
        }
    }
}

impl Entry {
    /// Asks the link whether the address is free, where that is to be asked at all.
    /// Returns whether it is ours to use.
    pub fn claim(
        &mut self,
        cx: &mut Cx<'_>,
        vip: Vip,
        on: Usable,
        until: Instant,
        ask_first: bool,
    ) -> bool {
        match self.claimed {
            Claim::Free => {}
            Claim::Unasked if !ask_first || self.held.is_some() => self.claimed = Claim::Free,
            Claim::Unasked => self.claimed = Claim::first(cx.now),
            Claim::Taken { again_at, .. } if again_at <= cx.now => {
                self.claimed = Claim::first(cx.now);
            }
            Claim::Asking { .. } | Claim::Taken { .. } => {}
        }
        if let Claim::Asking { sent, order: None, next_at } = self.claimed
            && next_at <= cx.now
        {
            self.claimed = if sent == PROBES {
                Claim::Free
            } else {
                let frame = Frame::Probe { mac: on.mac, ip: vip.0 };
                let order = cx.order(KernelJob::SendFrame { link: on.index, frame, until });
                Claim::Asking { sent, order: Some(order), next_at: cx.now }
            };
        }
        self.is_claimed()
    }

    /// The kernel says whether a question is out.
    pub fn on_asked(&mut self, cx: &Cx<'_>, answered: OrderId, answer: &KernelAnswer) {
        let Claim::Asking { sent, order: Some(order), .. } = self.claimed else {
            return;
        };
        if order != answered {
            return;
        }
        let sent = sent + u8::from(answer.is_good());
        let wait = match answer.refusal() {
            Some(_) => UNASKED_AGAIN,
            None if sent == PROBES => PROBE_SILENCE,
            None => PROBE_GAP,
        };
        self.claimed = Claim::Asking { sent, order: None, next_at: cx.now + wait };
    }

    /// Whether something new would be ordered for it now: a question, or the address itself.
    pub fn begins(&self, now: Instant) -> bool {
        self.held.is_none()
            && match self.claimed {
                Claim::Asking { order, next_at, .. } => order.is_none() && next_at <= now,
                Claim::Taken { again_at, .. } => again_at <= now,
                Claim::Free | Claim::Unasked => true,
            }
    }

    pub fn is_claimed(&self) -> bool {
        matches!(self.claimed, Claim::Free)
    }
}
