//! One lease of DHCPv6.
//!
//! ```text
//!   new ──▶ init ──SOLICIT──▶ soliciting ──REQUEST──▶ requesting ──REPLY──▶ checking
//!            ▲                                            │ refused           │ free
//!            │◀───────────────────────────────────────────┘                   │
//!            │◀── declining ◀──────────── in use ◀────────────────────────────┤
//!            │  the lease ends                                                ▼
//!            ├◀───────────── rebinding ◀──T2── renewing ◀──────T1────────── bound
//!            │                   NoBinding: REQUEST, and carried meanwhile    ▲ REPLY
//!            └◀── an eighth of the lease without an answer ── taking over ────┘
//!                                                                 ▲
//!                                                             take_over
//! ```
//!
//! Supported: RFC 8415 §18.2 for one address of one IA_NA, with its retransmission (§15) and
//! times (§7.6). A lease that another node had is asked for by REBIND, as §18.2.12 has a client
//! do that may be on another link, and carried meanwhile: CONFIRM asks no server whether it
//! knows the lease. What paces Services stands for SOL_MAX_DELAY. Left out on purpose: rapid
//! commit, unicast, Reconfigure, information requests, temporary addresses, prefixes.

mod answers;
mod asking;
mod parting;

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{KEPT, Turn};
use crate::model::{
    Dhcp6Address, Dhcp6Ia, Dhcp6Kind, Dhcp6Lease, Dhcp6Message, DhcpRefusal, Instant, LeaseStatus,
    Mac,
};
use asking::{Asking, Held, Times};
pub(crate) use parting::Parting;

type Turn6<'a> = Turn<'a, Dhcp6Message>;

/// After an address was declined: as DHCPv4 (RFC 2131 §3.1) has it.
const AFTER_DECLINE: Duration = Duration::from_secs(10);
/// §7.6: what servers may set SOL_MAX_RT to, in seconds.
const MOST_PATIENCE: std::ops::RangeInclusive<u32> = 60..=86_400;
/// What other messages than SOLICIT say of being unanswered so often is that nobody is there.
const UNANSWERED: u8 = 3;

/// Who asks, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Dhcp6Config {
    pub duid: Vec<u8>,
    pub iaid: u32,
    pub host_name: String,
    /// To be asked for first.
    pub requested: Option<Ipv6Addr>,
}

#[derive(Clone, Debug)]
pub(crate) struct Dhcp6 {
    config: Dhcp6Config,
    state: State,
    refusal: Option<DhcpRefusal>,
    /// Requests that were refused, one after the other.
    refused: u32,
    /// Whom the last word of a server came from.
    heard: Option<Ipv6Addr>,
    /// SOL_MAX_RT.
    patience: Duration,
}

#[derive(Clone, Debug)]
enum State {
    Init { ask_at: Instant },
    Soliciting { asking: Asking, best: Option<Offer> },
    Requesting { asking: Asking, offer: Dhcp6Lease, had: Option<Held> },
    Checking { held: Held },
    Declining { asking: Asking, lease: Dhcp6Lease },
    Bound { held: Held },
    Renewing { held: Held, asking: Asking },
    Rebinding { held: Held, asking: Asking },
    TakingOver { lease: Dhcp6Lease, asking: Asking, drop_at: Option<Instant> },
}

#[derive(Clone, Debug)]
struct Offer {
    lease: Dhcp6Lease,
    preference: u8,
}

impl Dhcp6 {
    pub fn new(config: Dhcp6Config, now: Instant) -> Self {
        Self::with(config, State::Init { ask_at: now })
    }

    /// Goes on with a lease that another node, or another life of this one, had, and that has been
    /// relied on here since then.
    pub fn take_over(config: Dhcp6Config, lease: Dhcp6Lease, since: Instant, now: Instant) -> Self {
        let kept = Duration::from_secs(lease.seconds.into()) / KEPT;
        let drop_at = (lease.seconds != Dhcp6Lease::FOR_EVER).then_some(since + kept);
        // The server knows the lease by these.
        let config = Dhcp6Config { duid: lease.duid.clone(), iaid: lease.iaid, ..config };
        let asking = Asking::unasked(Times::TAKE_OVER, now);
        Self::with(config, State::TakingOver { lease, asking, drop_at })
    }

    fn with(config: Dhcp6Config, state: State) -> Self {
        let patience = Times::SOLICIT.most;
        Self { config, state, refusal: None, refused: 0, heard: None, patience }
    }

    /// Time passed.
    pub fn tick(&mut self, turn: &mut Turn6<'_>) {
        while self.deadline().is_some_and(|it| it <= turn.now) {
            self.pass(turn);
        }
    }

    /// A server says something. What is not an answer to the last question is nobody's.
    pub fn on_message(&mut self, turn: &mut Turn6<'_>, from: Ipv6Addr, message: &Dhcp6Message) {
        if !self.awaits(message) {
            return;
        }
        match message.kind {
            Dhcp6Kind::Advertise => self.on_advertise(turn, from, message),
            Dhcp6Kind::Reply => self.on_reply(turn, from, message),
            Dhcp6Kind::Decline
            | Dhcp6Kind::Rebind
            | Dhcp6Kind::Release
            | Dhcp6Kind::Renew
            | Dhcp6Kind::Request
            | Dhcp6Kind::Solicit => {}
        }
    }

    /// What came of [`Dhcp6::unchecked`]: nobody has it, or who does.
    pub fn on_probed(&mut self, turn: &mut Turn6<'_>, stranger: Option<Mac>) {
        let State::Checking { held } = &self.state else {
            return;
        };
        let held = held.clone();
        let Some(mac) = stranger else {
            self.state = State::Bound { held };
            self.refusal = None;
            return;
        };
        self.refusal = Some(DhcpRefusal::Conflict { ip: held.lease.address.into(), mac });
        self.config.requested = None;
        let mut asking = Asking::begin(Times::DECLINE, turn);
        let lease = held.lease;
        self.say(turn, Dhcp6Kind::Decline, &mut asking, Some(&lease));
        self.state = State::Declining { asking, lease };
    }

    /// It is on another link: what has nothing asks there, and not when it would have here.
    pub fn moved(&mut self, now: Instant) {
        match self.state {
            State::Init { .. } | State::Soliciting { .. } | State::Requesting { had: None, .. } => {
                self.state = State::Init { ask_at: now }
            }
            State::Requesting { had: Some(_), .. }
            | State::Checking { .. }
            | State::Declining { .. }
            | State::Bound { .. }
            | State::Renewing { .. }
            | State::Rebinding { .. }
            | State::TakingOver { .. } => {}
        }
    }

    /// Gives back what there is, and is done.
    pub fn release(self, turn: &mut Turn6<'_>) -> Option<Parting> {
        let lease = match &self.state {
            State::Init { .. } | State::Soliciting { .. } | State::Declining { .. } => return None,
            State::Requesting { offer, .. } => offer,
            State::Checking { held }
            | State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. } => &held.lease,
            State::TakingOver { lease, .. } => lease,
        };
        let (lease, mut asking) = (lease.clone(), Asking::begin(Times::RELEASE, turn));
        self.say(turn, Dhcp6Kind::Release, &mut asking, Some(&lease));
        turn.out.last().map(|it| Parting::new(it.clone(), asking))
    }

    /// Whether this answers its last question. What lacks its server, or is for another client,
    /// does not (§16.3, §16.10).
    pub fn awaits(&self, message: &Dhcp6Message) -> bool {
        let stranger = message.client != self.config.duid || message.server.is_empty();
        !stranger && self.asking().is_some_and(|it| it.sent > 0 && it.xid == message.xid)
    }

    /// Who asks.
    pub fn config(&self) -> &Dhcp6Config {
        &self.config
    }

    /// The lease that may be used.
    pub fn lease(&self) -> Option<&Dhcp6Lease> {
        match &self.state {
            State::Init { .. }
            | State::Soliciting { .. }
            | State::Checking { .. }
            | State::Declining { .. } => None,
            State::Requesting { had, .. } => had.as_ref().map(|it| &it.lease),
            State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. } => Some(&held.lease),
            State::TakingOver { lease, .. } => Some(lease),
        }
    }

    /// The leased address of which nobody knows whether it is free.
    pub fn unchecked(&self) -> Option<Ipv6Addr> {
        match &self.state {
            State::Checking { held } => Some(held.lease.address),
            State::Init { .. }
            | State::Soliciting { .. }
            | State::Requesting { .. }
            | State::Declining { .. }
            | State::Bound { .. }
            | State::Renewing { .. }
            | State::Rebinding { .. }
            | State::TakingOver { .. } => None,
        }
    }

    /// When the right to use the lease ends; `None`: never, or there is none.
    pub fn until(&self) -> Option<Instant> {
        match &self.state {
            State::TakingOver { drop_at, .. } => *drop_at,
            State::Requesting { had, .. } => had.as_ref()?.ends_at,
            State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. } => held.ends_at,
            State::Init { .. }
            | State::Soliciting { .. }
            | State::Checking { .. }
            | State::Declining { .. } => None,
        }
    }

    /// Why there is none.
    pub fn refusal(&self) -> Option<&DhcpRefusal> {
        self.refusal.as_ref().filter(|_| self.lease().is_none())
    }

    pub fn deadline(&self) -> Option<Instant> {
        let first = |all: &[Option<Instant>]| all.iter().flatten().min().copied();
        match &self.state {
            State::Init { ask_at } => Some(*ask_at),
            State::Soliciting { asking, .. } | State::Declining { asking, .. } => {
                Some(asking.again_at)
            }
            State::Requesting { asking, had, .. } => {
                first(&[Some(asking.again_at), had.as_ref().and_then(|it| it.ends_at)])
            }
            State::Checking { held } => held.ends_at,
            State::Bound { held } => first(&[held.renew_at, held.ends_at]),
            State::Renewing { held, asking } => {
                first(&[Some(asking.again_at), held.rebind_at, held.ends_at])
            }
            State::Rebinding { held, asking } => first(&[Some(asking.again_at), held.ends_at]),
            State::TakingOver { asking, drop_at, .. } => first(&[Some(asking.again_at), *drop_at]),
        }
    }

    pub fn status(&self, now: Instant) -> LeaseStatus {
        let ms =
            |at: Instant| u64::try_from(at.saturating_since(now).as_millis()).unwrap_or(u64::MAX);
        let phase = match &self.state {
            State::Init { .. } => "init",
            State::Soliciting { .. } => "soliciting",
            State::Requesting { .. } => "requesting",
            State::Checking { .. } => "checking",
            State::Declining { .. } => "declining",
            State::Bound { .. } => "bound",
            State::Renewing { .. } => "renewing",
            State::Rebinding { .. } | State::TakingOver { .. } => "rebinding",
        };
        let address = self.lease().map(|it| it.address.into());
        LeaseStatus {
            phase: phase.to_owned(),
            address,
            server: self.heard.filter(|_| address.is_some()).map(Into::into),
            next_ms: self.deadline().map(ms),
            ends_ms: self.until().map(ms),
        }
    }

    fn asking(&self) -> Option<&Asking> {
        match &self.state {
            State::Init { .. } | State::Checking { .. } | State::Bound { .. } => None,
            State::Soliciting { asking, .. }
            | State::Requesting { asking, .. }
            | State::Declining { asking, .. }
            | State::Renewing { asking, .. }
            | State::Rebinding { asking, .. }
            | State::TakingOver { asking, .. } => Some(asking),
        }
    }

    /// What is due.
    fn pass(&mut self, turn: &mut Turn6<'_>) {
        let now = turn.now;
        if let Some((ip, _)) = self.ends().filter(|it| it.1 <= now) {
            self.refusal = Some(DhcpRefusal::Expired { ip: ip.into() });
            self.config.requested = Some(ip);
            self.state = State::Init { ask_at: now };
            return;
        }
        match self.state.clone() {
            State::Init { .. } => {
                let mut asking = Asking::begin(Times::SOLICIT, turn);
                self.say(turn, Dhcp6Kind::Solicit, &mut asking, None);
                self.state = State::Soliciting { asking, best: None };
            }
            State::Soliciting { best: Some(best), .. } => self.request(turn, best.lease, None),
            State::Soliciting { mut asking, best: None } => {
                if asking.sent >= UNANSWERED && !asking.answered {
                    self.refusal = Some(DhcpRefusal::Unanswered);
                }
                asking.times.most = self.patience;
                self.say(turn, Dhcp6Kind::Solicit, &mut asking, None);
                self.state = State::Soliciting { asking, best: None };
            }
            State::Requesting { asking, had, .. } if asking.is_in_vain() => {
                if had.is_none() && !asking.answered {
                    self.refusal = Some(DhcpRefusal::Unanswered);
                }
                match had {
                    // §18.2.10.1: it goes on as if it had not been told.
                    Some(held) => self.rebind(turn, held),
                    None => self.state = State::Init { ask_at: now },
                }
            }
            State::Requesting { mut asking, offer, had } => {
                self.say(turn, Dhcp6Kind::Request, &mut asking, Some(&offer));
                self.state = State::Requesting { asking, offer, had };
            }
            State::Declining { asking, .. } if asking.is_in_vain() => self.declined(turn),
            State::Declining { mut asking, lease } => {
                self.say(turn, Dhcp6Kind::Decline, &mut asking, Some(&lease));
                self.state = State::Declining { asking, lease };
            }
            // Its end is above.
            State::Checking { .. } => {}
            State::Bound { held } => {
                let mut asking = Asking::begin(Times::RENEW, turn);
                self.say(turn, Dhcp6Kind::Renew, &mut asking, Some(&held.lease));
                self.state = State::Renewing { held, asking };
            }
            State::Renewing { held, .. } if held.rebind_at.is_some_and(|it| it <= now) => {
                self.rebind(turn, held);
            }
            State::Renewing { held, mut asking } => {
                self.say(turn, Dhcp6Kind::Renew, &mut asking, Some(&held.lease));
                self.state = State::Renewing { held, asking };
            }
            State::Rebinding { held, mut asking } => {
                self.say(turn, Dhcp6Kind::Rebind, &mut asking, Some(&held.lease));
                self.state = State::Rebinding { held, asking };
            }
            State::TakingOver { lease, mut asking, drop_at } => {
                if asking.sent == 0 {
                    asking = Asking::begin(Times::TAKE_OVER, turn);
                }
                if asking.since + Times::HURRY <= now {
                    asking.times.most = Times::REBIND.most;
                }
                self.say(turn, Dhcp6Kind::Rebind, &mut asking, Some(&lease));
                self.state = State::TakingOver { lease, asking, drop_at };
            }
        }
    }

    /// What ends, and when.
    fn ends(&self) -> Option<(Ipv6Addr, Instant)> {
        let held = match &self.state {
            State::TakingOver { lease, drop_at, .. } => return Some((lease.address, (*drop_at)?)),
            State::Requesting { had, .. } => had.as_ref()?,
            State::Checking { held }
            | State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. } => held,
            State::Init { .. } | State::Soliciting { .. } | State::Declining { .. } => return None,
        };
        Some((held.lease.address, held.ends_at?))
    }

    /// §18.2.5: any server is asked from now on.
    fn rebind(&mut self, turn: &mut Turn6<'_>, held: Held) {
        let mut asking = Asking::begin(Times::REBIND, turn);
        self.say(turn, Dhcp6Kind::Rebind, &mut asking, Some(&held.lease));
        self.state = State::Rebinding { held, asking };
    }

    fn request(&mut self, turn: &mut Turn6<'_>, offer: Dhcp6Lease, had: Option<Held>) {
        let mut asking = Asking::begin(Times::REQUEST, turn);
        self.say(turn, Dhcp6Kind::Request, &mut asking, Some(&offer));
        self.state = State::Requesting { asking, offer, had };
    }

    /// The server has been told, or does not listen.
    fn declined(&mut self, turn: &Turn6<'_>) {
        self.state = State::Init { ask_at: turn.now + AFTER_DECLINE };
    }

    /// Says it, and when it is to be said again. `of`: what it is about.
    fn say(
        &self,
        turn: &mut Turn6<'_>,
        kind: Dhcp6Kind,
        asking: &mut Asking,
        of: Option<&Dhcp6Lease>,
    ) {
        let mut it = Dhcp6Message::new(kind, asking.xid, self.config.duid.clone());
        it.elapsed = Some(asking.elapsed(turn.now));
        let asks = !matches!(kind, Dhcp6Kind::Decline | Dhcp6Kind::Release);
        if asks {
            it.host_name.clone_from(&self.config.host_name);
        }
        // §18.2.5: REBIND is for whoever leases; SOLICIT for whoever would.
        if let Some(of) = of.filter(|_| kind != Dhcp6Kind::Rebind) {
            it.server.clone_from(&of.server);
        }
        let ip = of.map(|it| it.address).or(self.config.requested);
        let address = ip.map(|ip| Dhcp6Address { ip, preferred: 0, valid: 0 });
        let addresses = address.into_iter().collect();
        it.ia = Some(Dhcp6Ia { id: self.config.iaid, t1: 0, t2: 0, addresses, status: None });
        turn.out.push(it);
        asking.was_sent(turn);
    }
}

#[cfg(test)]
mod tests;
