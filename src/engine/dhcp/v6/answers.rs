//! What servers answer, and what follows.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::asking::{Asking, Held};
use super::{Dhcp6, MOST_PATIENCE, Offer, State, Turn6};
use crate::model::{
    Dhcp6Address, Dhcp6Code, Dhcp6Ia, Dhcp6Lease, Dhcp6Message, Dhcp6Status, DhcpRefusal,
};

/// RFC 8415 §18.2.9: a server that wants to be chosen, whoever else there is.
const ABOVE_ALL: u8 = 255;
/// After a request that was refused; it doubles.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_MOST: u32 = 7;

impl Dhcp6 {
    /// §18.2.9.
    pub(super) fn on_advertise(
        &mut self,
        turn: &mut Turn6<'_>,
        from: Ipv6Addr,
        message: &Dhcp6Message,
    ) {
        let State::Soliciting { asking, best } = &mut self.state else {
            return;
        };
        asking.answered = true;
        let first = asking.sent <= 1;
        let best = best.as_ref().map(|it| it.preference);
        // Also of an advertisement that has nothing to offer.
        self.be_patient(message);
        let found = match usable(message, self.config.iaid) {
            Ok((_, found)) => found,
            Err(status) => return self.refuse(from, status),
        };
        if self.is_of_node(turn, from, found.ip) {
            return;
        }
        let offer = Offer { lease: self.lease_of(message, &found), preference: message.preference };
        if !first || message.preference == ABOVE_ALL {
            self.request(turn, offer.lease, None);
            return;
        }
        // The first wait is for others, too.
        if best.is_none_or(|it| it < offer.preference)
            && let State::Soliciting { best, .. } = &mut self.state
        {
            *best = Some(offer);
        }
    }

    /// §18.2.10.
    pub(super) fn on_reply(
        &mut self,
        turn: &mut Turn6<'_>,
        from: Ipv6Addr,
        message: &Dhcp6Message,
    ) {
        self.be_patient(message);
        match self.state.clone() {
            State::Init { .. }
            | State::Soliciting { .. }
            | State::Checking { .. }
            | State::Bound { .. } => {}
            // Whatever it says, it has heard.
            State::Declining { .. } => self.declined(turn),
            State::Requesting { asking, offer, had } => {
                // One server was asked; another's word is of no account.
                if message.server == offer.server {
                    self.on_requested(turn, from, message, (&asking, had));
                }
            }
            State::Renewing { held, asking } | State::Rebinding { held, asking } => {
                self.on_renewed(turn, from, message, &asking, held);
            }
            State::TakingOver { lease, asking, drop_at } => {
                let (renew_at, rebind_at) = (None, Some(turn.now));
                let held = Held { lease, renew_at, rebind_at, ends_at: drop_at };
                self.on_renewed(turn, from, message, &asking, held);
            }
        }
    }

    fn on_requested(
        &mut self,
        turn: &mut Turn6<'_>,
        from: Ipv6Addr,
        message: &Dhcp6Message,
        (asking, had): (&Asking, Option<Held>),
    ) {
        let (ia, found) = match usable(message, self.config.iaid) {
            Ok(it) => it,
            // §18.2.10: it may do so yet, and is asked again.
            Err(Some(Dhcp6Status { code: Dhcp6Code::Other(_), .. })) => return,
            // Another server may do it, or this one later.
            Err(status) => return self.ask_anew(turn, from, status),
        };
        if self.is_of_node(turn, from, found.ip) {
            return self.ask_later(turn);
        }
        let held = Held::new(self.lease_of(message, &found), &ia, &found, asking.since);
        let same = had.is_some_and(|it| it.lease.address == found.ip);
        self.accept(from, &held);
        self.state = if same { State::Bound { held } } else { State::Checking { held } };
    }

    fn on_renewed(
        &mut self,
        turn: &mut Turn6<'_>,
        from: Ipv6Addr,
        message: &Dhcp6Message,
        asking: &Asking,
        held: Held,
    ) {
        let ip = held.lease.address;
        // A message that is refused as a whole says nothing of the lease.
        let Some((ia, all)) = offered(message, self.config.iaid) else {
            return;
        };
        if ia.status.as_ref().is_some_and(|it| it.code == Dhcp6Code::NoBinding) {
            // §18.2.10.1: asked for anew from the server that does not know it.
            let offer = Dhcp6Lease { server: message.server.clone(), ..held.lease.clone() };
            return self.request(turn, offer, Some(held));
        }
        let Some(found) = all.iter().find(|it| it.ip == ip) else {
            return;
        };
        if found.valid == 0 {
            let words = "it is not to be used any more".to_owned();
            self.refusal = Some(DhcpRefusal::Refused { server: Some(from.into()), words });
            self.config.requested = None;
            self.state = State::Init { ask_at: turn.now };
            return;
        }
        if self.is_of_node(turn, from, ip) {
            return self.ask_later(turn);
        }
        let held = Held::new(self.lease_of(message, found), ia, found, asking.since);
        self.accept(from, &held);
        self.state = State::Bound { held };
    }

    fn accept(&mut self, from: Ipv6Addr, held: &Held) {
        self.heard = Some(from);
        self.refused = 0;
        self.config.requested = Some(held.lease.address);
    }

    /// Whether a node has it; then it is refused.
    fn is_of_node(&mut self, turn: &Turn6<'_>, from: Ipv6Addr, ip: Ipv6Addr) -> bool {
        let by = (turn.node_of)(ip.into());
        let is = by.is_some();
        if let Some(by) = by {
            let (ip, server) = (ip.into(), from.into());
            self.refusal = Some(DhcpRefusal::AddressOfNode { ip, by, server });
        }
        is
    }

    fn refuse(&mut self, from: Ipv6Addr, status: Option<Dhcp6Status>) {
        let words = match status {
            None => "no address".to_owned(),
            Some(Dhcp6Status { code, words }) => {
                let words: String = words.chars().filter(|it| !it.is_control()).take(100).collect();
                match code {
                    Dhcp6Code::Other(code) => format!("status {code} {words}"),
                    code => format!("{code:?} {words}"),
                }
            }
        };
        let words = words.trim().to_owned();
        self.refusal = Some(DhcpRefusal::Refused { server: Some(from.into()), words });
    }

    fn ask_anew(&mut self, turn: &mut Turn6<'_>, from: Ipv6Addr, status: Option<Dhcp6Status>) {
        self.refuse(from, status);
        self.config.requested = None;
        self.ask_later(turn);
    }

    /// A server that refuses whatever it offers is not asked in a loop.
    fn ask_later(&mut self, turn: &mut Turn6<'_>) {
        let wait = turn.rng.jittered(AGAIN * 2_u32.pow(self.refused.min(AGAIN_MOST)));
        self.refused = self.refused.saturating_add(1);
        self.state = State::Init { ask_at: turn.now + wait };
    }

    /// §21.24.
    fn be_patient(&mut self, message: &Dhcp6Message) {
        if let Some(seconds) = message.patience.filter(|it| MOST_PATIENCE.contains(it)) {
            self.patience = Duration::from_secs(seconds.into());
        }
    }

    fn lease_of(&self, message: &Dhcp6Message, found: &Dhcp6Address) -> Dhcp6Lease {
        Dhcp6Lease {
            address: found.ip,
            server: message.server.clone(),
            seconds: found.valid,
            iaid: self.config.iaid,
            duid: self.config.duid.clone(),
        }
    }
}

/// What the message says of this IA. One whose T1 is after its T2 counts for nothing (§21.4),
/// nor does an address that is preferred for longer than it is valid (§21.6), or that no host
/// can have.
fn offered(message: &Dhcp6Message, iaid: u32) -> Option<(&Dhcp6Ia, Vec<Dhcp6Address>)> {
    let senseless = |it: &Dhcp6Ia| it.t1 > it.t2 && it.t2 > 0;
    let ia = message.ia.as_ref().filter(|it| it.id == iaid && !senseless(it))?;
    let good = |it: &&Dhcp6Address| it.preferred <= it.valid && crate::wire::lease::is_host6(it.ip);
    Some((ia, ia.addresses.iter().filter(good).cloned().collect()))
}

/// The first address that may be used, or why there is none.
fn usable(
    message: &Dhcp6Message,
    iaid: u32,
) -> Result<(Dhcp6Ia, Dhcp6Address), Option<Dhcp6Status>> {
    let failed = |it: &Option<Dhcp6Status>| it.clone().filter(|it| it.code != Dhcp6Code::Success);
    let of_message = failed(&message.status);
    let Some((ia, all)) = offered(message, iaid) else { return Err(of_message) };
    let found = all.into_iter().find(|it| it.valid > 0);
    match (of_message.or_else(|| failed(&ia.status)), found) {
        (None, Some(found)) => Ok((ia.clone(), found)),
        (status, _) => Err(status),
    }
}
