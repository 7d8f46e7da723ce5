//! Asking the link whether an address is free, before it is claimed for the first time
//! (RFC 5227 §2.1, RFC 4862 §5.4).

use std::time::Duration;

use super::entry::Entry;
use crate::engine::Cx;
use crate::engine::network::Usable;
use crate::model::{Frame, Instant, KernelJob, Mac, Vip};

const PROBES: u8 = 3;
const PROBE_GAP: Duration = Duration::from_millis(20);
/// Silence after the last probe that means the address is free.
const PROBE_SILENCE: Duration = Duration::from_millis(60);
/// After a conflict a first claim is tried again.
pub(super) const PROBE_AGAIN: Duration = Duration::from_secs(5);

/// Whether the address is known to be free.
#[derive(Clone, Debug)]
pub(super) enum Claim {
    Unasked,
    Asking { sent: u8, next_at: Instant },
    Free,
    Taken { mac: Mac, again_at: Instant },
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
            Claim::Unasked => self.claimed = Claim::Asking { sent: 0, next_at: cx.now },
            Claim::Taken { again_at, .. } if again_at <= cx.now => {
                self.claimed = Claim::Asking { sent: 0, next_at: cx.now };
            }
            Claim::Asking { .. } | Claim::Taken { .. } => {}
        }
        if let Claim::Asking { sent, next_at } = self.claimed
            && next_at <= cx.now
        {
            self.claimed = if sent == PROBES {
                Claim::Free
            } else {
                let frame = Frame::Probe { mac: on.mac, ip: vip.0 };
                cx.order(KernelJob::SendFrame { link: on.index, frame, until });
                let wait = if sent + 1 == PROBES { PROBE_SILENCE } else { PROBE_GAP };
                Claim::Asking { sent: sent + 1, next_at: cx.now + wait }
            };
        }
        self.is_claimed()
    }

    pub fn is_claimed(&self) -> bool {
        matches!(self.claimed, Claim::Free)
    }
}
