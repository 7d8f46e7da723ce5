//! What servers answer, and what follows.

use std::time::Duration;

use super::times::{Asking, Held, Terms};
use super::{Dhcp4, State};
use crate::engine::dhcp::Turn;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Dhcp4Lease, Dhcp4Message, DhcpRefusal, Mac};

/// The peer takes this for a lease whose server does not say.
const UNSAID: u32 = 3_600;
/// So often an offer that is refused when it is taken is no reason to wait long.
const AGAIN_AT_ONCE: u32 = 3;
const SHORTLY: Duration = Duration::from_millis(100);

impl Dhcp4 {
    pub(super) fn on_offer(&mut self, turn: &mut Turn<'_>, from: Mac, message: &Dhcp4Message) {
        let State::Selecting { asking } = &mut self.state else {
            return;
        };
        let (Some(address), Some(server)) = (message.yours, message.server) else {
            return;
        };
        asking.answered = true;
        if let Some(by) = (turn.node_of)(address.into()) {
            let (ip, server) = (address.into(), server.into());
            self.refusal = Some(DhcpRefusal::AddressOfNode { ip, by, server });
            return;
        }
        let offer = Dhcp4Lease {
            address,
            server,
            seconds: message.lease.unwrap_or(UNSAID),
            mac: self.config.mac,
            client_id: self.config.client_id.clone(),
        };
        // §4.4.1: the request bears the number of the offer.
        let mut asking = Asking { since: turn.now, sent: 0, ..asking.clone() };
        self.request(turn, &mut asking, &offer);
        self.state = State::Requesting { asking, offer, server_mac: from };
    }

    pub(super) fn on_ack(&mut self, turn: &mut Turn<'_>, from: Mac, message: &Dhcp4Message) {
        let (lease, asking) = match &self.state {
            State::Init { .. }
            | State::Selecting { .. }
            | State::Checking { .. }
            | State::Bound { .. } => return,
            State::Requesting { offer, asking, .. } => (offer.clone(), asking.clone()),
            State::Renewing { held, asking } | State::Rebinding { held, asking } => {
                (held.lease.clone(), asking.clone())
            }
            State::Rebooting { lease, asking, .. } => (lease.clone(), asking.clone()),
        };
        let seconds = message.lease.unwrap_or(UNSAID);
        if message.yours != Some(lease.address) || seconds == 0 {
            return;
        }
        let server = message.server.unwrap_or(lease.server);
        if let Some(by) = (turn.node_of)(lease.address.into()) {
            let (ip, server) = (lease.address.into(), server.into());
            self.refusal = Some(DhcpRefusal::AddressOfNode { ip, by, server });
            self.pause(turn, true);
            return;
        }
        let terms = Terms::new(asking.since, seconds, message);
        let lease = Dhcp4Lease { server, seconds, ..lease };
        let held = Held { lease, server_mac: from, terms };
        (self.vain, self.refused) = (0, 0);
        self.backoff.reset();
        self.config.requested = Some(held.lease.address);
        let new = matches!(self.state, State::Requesting { .. });
        let checks = new && !sabotaged(Sabotage::LeaseNotChecked);
        self.state = if checks { State::Checking { held } } else { State::Bound { held } };
    }

    pub(super) fn on_nak(&mut self, turn: &mut Turn<'_>, message: &Dhcp4Message) {
        let server = match &self.state {
            State::Init { .. }
            | State::Selecting { .. }
            | State::Checking { .. }
            | State::Bound { .. } => return,
            State::Requesting { offer, .. } => Some(offer.server),
            State::Renewing { .. } | State::Rebinding { .. } | State::Rebooting { .. } => None,
        };
        // One server was asked; another's refusal is of no account.
        if server.is_some() && message.server.is_some() && server != message.server {
            return;
        }
        // It may have offered the same address to another in between; but a server that refuses
        // whatever it offers is not asked in a loop.
        if server.is_some() && self.refused < AGAIN_AT_ONCE {
            self.refused += 1;
            self.config.requested = None;
            let ask_at = turn.now + turn.rng.jittered(SHORTLY * self.refused);
            self.state = State::Init { ask_at };
            return;
        }
        let words = message.words.clone().unwrap_or_default();
        let words = words.chars().filter(|it| !it.is_control()).take(100).collect();
        self.refusal = Some(DhcpRefusal::Refused { server: message.server.map(Into::into), words });
        self.config.requested = None;
        match server {
            Some(_) => self.pause(turn, true),
            None => self.begin_anew(turn, None),
        }
    }
}
