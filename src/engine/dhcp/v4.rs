//! One lease of DHCPv4.
//!
//! ```text
//!   new ──▶ init ──DISCOVER──▶ selecting ──REQUEST──▶ requesting ──ACK──▶ checking
//!            ▲                                            │ NAK              │ free
//!            │◀───────────────────────────────────────────┴── in use ◀──────┤
//!            │  NAK, the lease ends                            DECLINE       ▼
//!            ├◀───────────── rebinding ◀──T2── renewing ◀──────T1──────── bound
//!            │                                                               ▲ ACK
//!            └◀── an eighth of the lease without an answer ── rebooting ─────┘
//!                                                                ▲
//!                                                             take_over
//! ```
//!
//! Supported: RFC 2131 §3, §4.4 with a client identifier (RFC 4361). A lease that another
//! node had is confirmed as after a reboot (§3.2), and carried meanwhile. Left out on purpose:
//! INFORM, FORCERENEW, choosing among offers: the first that can be used is taken.

mod answers;
mod times;

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{KEPT, Said, Turn, Whom};
use crate::engine::backoff::Backoff;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Dhcp4Kind, Dhcp4Lease, Dhcp4Message, DhcpRefusal, Instant, LeaseStatus, Mac};
use times::{Asking, Held, SOONEST, between};

/// A question is put so often, and then not for a while.
const TIMES: u8 = 3;
/// The waits between.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// The wait once there have been as many attempts as there may be.
const GIVEN_UP: Duration = Duration::from_secs(300);
/// §3.1 (5): after a DECLINE.
const AFTER_DECLINE: Duration = Duration::from_secs(10);

/// Who asks, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Dhcp4Config {
    pub mac: Mac,
    pub client_id: Vec<u8>,
    pub host_name: String,
    /// To be asked for first.
    pub requested: Option<Ipv4Addr>,
    /// After so many attempts in vain it is asked more seldom; 0: never.
    pub attempts: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Dhcp4 {
    config: Dhcp4Config,
    state: State,
    refusal: Option<DhcpRefusal>,
    /// Attempts in vain.
    vain: u32,
    /// Offers that were refused when they were taken.
    refused: u32,
    backoff: Backoff,
    /// When asking began, for `secs`.
    since: Instant,
}

#[derive(Clone, Debug)]
enum State {
    Init { ask_at: Instant },
    Selecting { asking: Asking },
    Requesting { asking: Asking, offer: Dhcp4Lease, server_mac: Mac },
    Checking { held: Held },
    Bound { held: Held },
    Renewing { held: Held, asking: Asking },
    Rebinding { held: Held, asking: Asking },
    Rebooting { lease: Dhcp4Lease, asking: Asking, drop_at: Option<Instant> },
}

impl Dhcp4 {
    pub fn new(config: Dhcp4Config, now: Instant) -> Self {
        let state = State::Init { ask_at: now };
        Self::with(config, state, now)
    }

    /// Goes on with a lease that another node, or another life of this one, had, and that has been
    /// relied on here since then.
    pub fn take_over(config: Dhcp4Config, lease: Dhcp4Lease, since: Instant, now: Instant) -> Self {
        let kept = Duration::from_secs(lease.seconds.into()) / KEPT;
        let drop_at = (lease.seconds != Dhcp4Lease::FOR_EVER).then_some(since + kept);
        let asking = Asking { xid: 0, since: now, sent: 0, again_at: now, answered: false };
        let mut config = config;
        // The server knows the lease by this. The hardware address may be the other node's own.
        config.client_id.clone_from(&lease.client_id);
        let lease = Dhcp4Lease { mac: config.mac, ..lease };
        Self::with(config, State::Rebooting { lease, asking, drop_at }, now)
    }

    fn with(config: Dhcp4Config, state: State, now: Instant) -> Self {
        let backoff = Backoff::new(PAUSES.0, PAUSES.1);
        Self { config, state, refusal: None, vain: 0, refused: 0, backoff, since: now }
    }

    /// Time passed.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        while self.deadline().is_some_and(|it| it <= turn.now) {
            self.pass(turn);
        }
    }

    /// A server says something. What is not an answer to the last question is nobody's.
    pub fn on_message(&mut self, turn: &mut Turn<'_>, from: Mac, message: &Dhcp4Message) {
        if !self.awaits(message.xid) || message.mac != self.config.mac {
            return;
        }
        match message.kind {
            Dhcp4Kind::Offer => self.on_offer(turn, from, message),
            Dhcp4Kind::Ack => self.on_ack(turn, from, message),
            Dhcp4Kind::Nak if sabotaged(Sabotage::NakIgnored) => {}
            Dhcp4Kind::Nak => self.on_nak(turn, message),
            Dhcp4Kind::Decline | Dhcp4Kind::Discover | Dhcp4Kind::Release | Dhcp4Kind::Request => {}
        }
    }

    /// What came of [`Dhcp4::unchecked`]: nobody has it, or who does.
    pub fn on_probed(&mut self, turn: &mut Turn<'_>, stranger: Option<Mac>) {
        let State::Checking { held } = &self.state else {
            return;
        };
        let held = held.clone();
        let Some(mac) = stranger else {
            self.state = State::Bound { held };
            self.refusal = None;
            return;
        };
        let ip = held.lease.address;
        self.say(turn, Whom::All, Dhcp4Kind::Decline, |it| {
            it.requested = Some(ip);
            it.server = Some(held.lease.server);
        });
        self.refusal = Some(DhcpRefusal::Conflict { ip: ip.into(), mac });
        self.config.requested = None;
        self.state = State::Init { ask_at: turn.now + AFTER_DECLINE };
    }

    /// It is on another link: what has nothing asks there, and not when it would have here.
    pub fn moved(&mut self, now: Instant) {
        match self.state {
            State::Init { .. } | State::Selecting { .. } | State::Requesting { .. } => {
                (self.vain, self.since) = (0, now);
                self.backoff.reset();
                self.state = State::Init { ask_at: now };
            }
            State::Checking { .. }
            | State::Bound { .. }
            | State::Renewing { .. }
            | State::Rebinding { .. }
            | State::Rebooting { .. } => {}
        }
    }

    /// Gives back what there is, and is done.
    pub fn release(mut self, turn: &mut Turn<'_>) {
        let (lease, mac) = match &self.state {
            State::Init { .. } | State::Selecting { .. } => return,
            State::Requesting { offer, server_mac, .. } => (offer, Some(*server_mac)),
            State::Checking { held }
            | State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. } => (&held.lease, Some(held.server_mac)),
            State::Rebooting { lease, .. } => (lease, None),
        };
        let (address, server) = (lease.address, lease.server);
        self.say(turn, Whom::Server(server, mac), Dhcp4Kind::Release, |it| {
            (it.client, it.server) = (Some(address), Some(server));
        });
    }

    /// Whether it waits for the answer to this question.
    pub fn awaits(&self, xid: u32) -> bool {
        self.asking().is_some_and(|it| it.sent > 0 && it.xid == xid)
    }

    /// Who asks.
    pub fn config(&self) -> &Dhcp4Config {
        &self.config
    }

    /// The lease that may be used.
    pub fn lease(&self) -> Option<&Dhcp4Lease> {
        match &self.state {
            State::Init { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Checking { .. } => None,
            State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. } => Some(&held.lease),
            State::Rebooting { lease, .. } => Some(lease),
        }
    }

    /// The leased address of which nobody knows whether it is free.
    pub fn unchecked(&self) -> Option<Ipv4Addr> {
        match &self.state {
            State::Checking { held } => Some(held.lease.address),
            State::Init { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Bound { .. }
            | State::Renewing { .. }
            | State::Rebinding { .. }
            | State::Rebooting { .. } => None,
        }
    }

    /// When the right to use the lease ends; `None`: never, or there is none.
    pub fn until(&self) -> Option<Instant> {
        match &self.state {
            State::Rebooting { drop_at, .. } => *drop_at,
            State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. } => held.terms.map(|it| it.ends_at),
            State::Init { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Checking { .. } => None,
        }
    }

    /// Why there is none.
    pub fn refusal(&self) -> Option<&DhcpRefusal> {
        self.refusal.as_ref().filter(|_| self.lease().is_none())
    }

    pub fn deadline(&self) -> Option<Instant> {
        let ends_at = |held: &Held| held.terms.map(|it| it.ends_at);
        match &self.state {
            State::Init { ask_at } => Some(*ask_at),
            State::Selecting { asking } | State::Requesting { asking, .. } => Some(asking.again_at),
            State::Checking { held } => ends_at(held),
            State::Bound { held } => held.terms.map(|it| it.renew_at),
            State::Renewing { held, asking } => {
                held.terms.map(|it| it.rebind_at.min(asking.again_at))
            }
            State::Rebinding { held, asking } => {
                held.terms.map(|it| it.ends_at.min(asking.again_at))
            }
            State::Rebooting { asking, drop_at, .. } => {
                Some(drop_at.map_or(asking.again_at, |it| it.min(asking.again_at)))
            }
        }
    }

    pub fn status(&self, now: Instant) -> LeaseStatus {
        let ms =
            |at: Instant| u64::try_from(at.saturating_since(now).as_millis()).unwrap_or(u64::MAX);
        let phase = match &self.state {
            State::Init { .. } => "init",
            State::Selecting { .. } => "selecting",
            State::Requesting { .. } => "requesting",
            State::Checking { .. } => "checking",
            State::Bound { .. } => "bound",
            State::Renewing { .. } => "renewing",
            State::Rebinding { .. } => "rebinding",
            State::Rebooting { .. } => "rebooting",
        };
        LeaseStatus {
            phase: phase.to_owned(),
            address: self.lease().map(|it| it.address.into()),
            server: self.lease().map(|it| it.server.into()),
            next_ms: self.deadline().map(ms),
            ends_ms: self.until().map(ms),
        }
    }

    fn asking(&self) -> Option<&Asking> {
        match &self.state {
            State::Init { .. } | State::Checking { .. } | State::Bound { .. } => None,
            State::Selecting { asking }
            | State::Requesting { asking, .. }
            | State::Renewing { asking, .. }
            | State::Rebinding { asking, .. }
            | State::Rebooting { asking, .. } => Some(asking),
        }
    }

    /// What is due.
    fn pass(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        match self.state.clone() {
            State::Init { .. } => {
                self.since = if self.vain == 0 { now } else { self.since };
                let mut asking = Asking::begin(turn);
                self.discover(turn, &mut asking);
                self.state = State::Selecting { asking };
            }
            State::Selecting { asking } | State::Requesting { asking, .. }
                if asking.sent >= TIMES =>
            {
                self.pause(turn, asking.answered);
            }
            State::Selecting { mut asking } => {
                self.discover(turn, &mut asking);
                self.state = State::Selecting { asking };
            }
            State::Requesting { mut asking, offer, server_mac } => {
                self.request(turn, &mut asking, &offer);
                self.state = State::Requesting { asking, offer, server_mac };
            }
            State::Checking { held } => self.lose(turn, held.lease.address),
            State::Bound { held } => {
                self.since = now;
                self.renew(turn, held);
            }
            State::Rebinding { held, .. } if held.has_ended(now) => {
                self.lose(turn, held.lease.address);
            }
            State::Renewing { held, .. } | State::Rebinding { held, .. } => self.renew(turn, held),
            State::Rebooting { lease, drop_at, .. } if drop_at.is_some_and(|it| it <= now) => {
                self.lose(turn, lease.address);
            }
            State::Rebooting { lease, mut asking, drop_at } => {
                let again = asking.sent > 0;
                if !again {
                    asking = Asking::begin(turn);
                }
                self.say(turn, Whom::All, Dhcp4Kind::Request, |it| {
                    it.xid = asking.xid;
                    it.requested = Some(lease.address);
                });
                asking.sent_at(turn);
                if let Some(drop_at) = drop_at {
                    let quarter = drop_at.saturating_since(asking.since) / 4;
                    asking.again_at = asking.again_at.min(now + quarter.max(SOONEST));
                }
                self.state = State::Rebooting { lease, asking, drop_at };
            }
        }
    }

    fn renew(&mut self, turn: &mut Turn<'_>, held: Held) {
        let Some(terms) = held.terms else {
            self.state = State::Bound { held };
            return;
        };
        let mut asking = Asking::begin(turn);
        if terms.rebind_at <= turn.now {
            // §4.4.5: any server is asked from now on.
            self.ask_for(turn, &held, &mut asking, Whom::All);
            asking.again_at = between(turn.now, terms.ends_at);
            self.state = State::Rebinding { held, asking };
            return;
        }
        let to = Whom::Server(held.lease.server, Some(held.server_mac));
        self.ask_for(turn, &held, &mut asking, to);
        asking.again_at = between(turn.now, terms.rebind_at);
        self.state = State::Renewing { held, asking };
    }

    /// §4.3.2, table 4. What servers send to an address that nobody answers for is lost, so
    /// they are asked as after a reboot there, to which they answer by broadcast.
    fn ask_for(&mut self, turn: &mut Turn<'_>, held: &Held, asking: &mut Asking, to: Whom) {
        let address = held.lease.address;
        let (xid, answered) = (asking.xid, turn.answered);
        let to = if answered { to } else { Whom::All };
        self.say(turn, to, Dhcp4Kind::Request, |it| {
            it.xid = xid;
            match answered {
                true => (it.client, it.broadcast) = (Some(address), false),
                false => it.requested = Some(address),
            }
        });
        asking.sent = asking.sent.saturating_add(1);
    }

    fn discover(&mut self, turn: &mut Turn<'_>, asking: &mut Asking) {
        let (xid, requested) = (asking.xid, self.config.requested);
        self.say(turn, Whom::All, Dhcp4Kind::Discover, |it| {
            (it.xid, it.requested) = (xid, requested)
        });
        asking.sent_at(turn);
        if asking.sent >= TIMES && !asking.answered {
            self.refusal.get_or_insert(DhcpRefusal::Unanswered);
        }
    }

    fn request(&mut self, turn: &mut Turn<'_>, asking: &mut Asking, offer: &Dhcp4Lease) {
        let (xid, lease) = (asking.xid, offer.clone());
        self.say(turn, Whom::All, Dhcp4Kind::Request, |it| {
            it.xid = xid;
            (it.requested, it.server) = (Some(lease.address), Some(lease.server));
        });
        asking.sent_at(turn);
    }

    /// Nobody answers, or not as could be used.
    fn pause(&mut self, turn: &mut Turn<'_>, answered: bool) {
        self.vain = self.vain.saturating_add(1);
        if !answered {
            self.refusal = Some(DhcpRefusal::Unanswered);
        }
        let given_up = self.config.attempts > 0 && self.vain >= self.config.attempts;
        let pause =
            if given_up { turn.rng.jittered(GIVEN_UP) } else { self.backoff.wait(turn.rng) };
        self.state = State::Init { ask_at: turn.now + pause };
    }

    /// The address is not ours any more.
    fn lose(&mut self, turn: &mut Turn<'_>, ip: Ipv4Addr) {
        self.refusal = Some(DhcpRefusal::Expired { ip: ip.into() });
        self.begin_anew(turn, Some(ip));
    }

    fn begin_anew(&mut self, turn: &mut Turn<'_>, requested: Option<Ipv4Addr>) {
        self.config.requested = requested;
        self.state = State::Init { ask_at: turn.now };
    }

    fn say(
        &mut self,
        turn: &mut Turn<'_>,
        to: Whom,
        kind: Dhcp4Kind,
        fill: impl FnOnce(&mut Dhcp4Message),
    ) {
        let mut message = Dhcp4Message::new(kind, turn.rng.next_u64() as u32, self.config.mac);
        message.client_id.clone_from(&self.config.client_id);
        if matches!(kind, Dhcp4Kind::Discover | Dhcp4Kind::Request) {
            message.host_name.clone_from(&self.config.host_name);
            message.broadcast = true;
            let seconds = turn.now.saturating_since(self.since).as_secs();
            message.seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
        }
        fill(&mut message);
        turn.out.push(Said { to, message });
    }
}
