//! One node: the machine of machines. Every input goes through the same five phases:
//! time, learn, place, reconcile, return. Only the VIPs that something happened to are placed
//! and reconciled.

mod candidacies;
mod leaving;
mod making;
mod placing;
mod serving;
mod status;

use std::collections::BTreeSet;
use std::time::Duration;

use placing::Attention;
use serde::{Deserialize, Serialize};
use serving::{Elects, Serving};

use super::announcer::{Announcer, AnnouncerConfig};
use super::elector::{Election, Elector};
use super::guards::Guards;
use super::leadership::Leadership;
use super::links::Links;
use super::network::{LinkChoice, Network};
use super::placement::Placement;
use super::reporter::Reporter;
use super::resolver::{Family, Resolver, WantedVip};
use super::sabotage::{Sabotage, sabotaged};
use super::services::ServicesConfig;
use super::{Action, Cx, Deadline, Input, NextIds, Rng};
use crate::model::{
    Author, Instant, KernelAnswer, KernelJob, NetworkChange, NodeName, OrderId, Refusal, Vip,
};

/// A stop is over after this, whatever the kernel or the API server still owe.
const STOP_WITHIN: Duration = Duration::from_millis(1_500);

/// A stop waits so long for others to take over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);

/// Room for so many actions is kept from turn to turn; a turn about thousands of VIPs is rare.
const ROOM: usize = 256;

/// Everything a node has to know beforehand.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Config {
    /// Its name and identity.
    pub me: NodeName,
    /// Which process it is.
    pub author: Author,
    /// The election.
    pub election: Election,
    /// The VIPs, or names for them.
    pub vips: Vec<WantedVip>,
    /// What names stand for.
    pub family: Family,
    /// Prefix lengths wanted for IPv4 and IPv6.
    pub lengths: (u8, u8),
    /// Which link carries the VIPs.
    pub link: LinkChoice,
    /// How to announce.
    pub announcer: AnnouncerConfig,
    /// Claim IPv6 VIPs without asking the link.
    pub skip_dad: bool,
    /// Keep IPv4 VIPs, silent, when leadership is lost.
    pub preserve: bool,
    /// Label the node that holds the VIPs.
    pub label_node: bool,
    /// Which Services to serve, if any.
    #[serde(default)]
    pub services: Option<ServicesConfig>,
}

/// One node of a cluster.
#[derive(Clone, Debug)]
pub struct Node {
    config: Config,
    control: Leadership,
    serving: Option<Serving>,
    /// The VIPs of the control plane and of Services.
    wanted: BTreeSet<Vip>,
    network: Network,
    links: Links,
    guards: Guards,
    resolver: Resolver,
    announcer: Announcer,
    reporter: Reporter,
    lock: Option<bool>,
    cleaning: Cleaning,
    stopping_at: Option<Instant>,
    placement: Placement,
    attention: Attention,
    now: Instant,
    exited: bool,
    rng: Rng,
    next: NextIds,
    actions: Vec<Action>,
}

/// Leftovers of an earlier process go before anything else is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cleaning {
    Waiting,
    Ordered(OrderId),
    Done,
}

impl Node {
    /// A node that knows nothing yet and holds nothing.
    pub fn new(config: Config, mut rng: Rng, now: Instant) -> Self {
        let me = config.me.clone();
        let elector = Elector::new(&config.election, me.clone(), config.author, now, &mut rng);
        let serving = Serving::new(&config, now, &mut rng);
        Self {
            control: Leadership::new(elector),
            serving,
            wanted: BTreeSet::new(),
            network: Network::default(),
            links: Links::default(),
            guards: Guards::default(),
            resolver: Resolver::new(config.vips.clone(), config.family, now),
            announcer: Announcer::new(config.announcer.clone()),
            reporter: Reporter::new(me, config.label_node, config.election.has_api(), now),
            config,
            lock: None,
            cleaning: Cleaning::Waiting,
            stopping_at: None,
            placement: Placement::default(),
            attention: Attention::new(),
            now,
            exited: false,
            rng,
            next: NextIds::default(),
            actions: Vec::new(),
        }
    }

    /// Takes what happened at `now`; returns what to do about it, in order.
    pub fn handle(&mut self, now: Instant, input: Input) -> impl Iterator<Item = Action> + '_ {
        if !self.exited {
            let mut rng = self.rng.clone();
            let mut next = self.next;
            let mut out = std::mem::take(&mut self.actions);
            if out.capacity() > ROOM {
                out = Vec::new();
            }
            let cx = &mut Cx { now, rng: &mut rng, out: &mut out, next: &mut next };
            let asked = self.note_lateness(now, &input) || concerns_elector(&input);
            self.now = now;
            self.control.elector.expire(now);
            self.serving.iter_mut().for_each(|it| it.expire(now));
            self.network.expire(now);
            self.learn(cx, input);
            self.notice(cx);
            self.decide(cx, asked);
            self.place(now);
            self.reconcile(cx);
            if self.has_let_go(now) {
                self.notice(cx);
                self.place(now);
                self.reconcile(cx);
            }
            (self.rng, self.next, self.actions) = (rng, next, out);
        }
        self.actions.drain(..)
    }

    /// When to call [`Node::handle`] with [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Deadline> {
        if self.exited {
            return None;
        }
        let leads = self.control.elector.leads(self.now);
        let plain = |at: Instant, why| Deadline { at, why };
        [
            self.announcer.deadline(),
            self.attention.deadline(),
            self.control.deadline(self.now, self.takes_part()),
            self.serving.as_ref().and_then(|it| it.deadline(self.now)),
            self.resolver.deadline(),
            self.reporter.deadline(leads),
            self.network.deadline().map(|at| plain(at, "carrier")),
            self.links.deadline(),
            self.guards.deadline(),
            self.stopping_at
                .map(|at| plain(at + HAND_OVER_WITHIN, "hand-over ends"))
                .filter(|it| it.at > self.now),
            self.stopping_at
                .map(|at| plain(at + STOP_WITHIN, "stop ends"))
                .filter(|it| it.at > self.now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn learn(&mut self, cx: &mut Cx<'_>, input: Input) {
        match input {
            Input::Dhcp { link, heard } => {
                if let Some(serving) = &mut self.serving {
                    serving.services.on_dhcp(link, *heard);
                }
            }
            Input::Heard(heard) => {
                if let Some(serving) = &mut self.serving {
                    serving.services.on_heard(cx.now, &heard);
                }
                if self.announcer.on_heard(cx.now, &heard) {
                    self.doubt(cx.now);
                }
            }
            Input::Kernel(answers) => {
                for (order, answer) in answers {
                    self.learn_answer(cx, order, &answer);
                }
            }
            Input::Lease { .. }
            | Input::Order { .. }
            | Input::Peer { .. }
            | Input::Probed { .. }
            | Input::Stored { .. }
            | Input::Watch { .. } => self.learn_election(cx, input),
            Input::Asked { .. } | Input::Gateway { .. } | Input::Objects { .. } => {
                self.serving.iter_mut().for_each(|it| it.learn(cx, &input));
            }
            Input::Lock { held } => self.lock = Some(held),
            Input::Network(change) => self.learn_network(cx.now, change),
            Input::Reload { vips, refresh } => {
                self.resolver.want(vips, cx.now);
                self.announcer.refresh_every(refresh);
            }
            Input::RulesetChanged => self.announcer.verify(cx),
            Input::Side { request, reply } => {
                self.resolver.on_reply(cx, request, &reply);
                self.reporter.on_reply(cx, request, &reply);
                if let Some(serving) = &mut self.serving {
                    serving.services.on_side(cx, request, &reply);
                }
                if let Elector::Quorum(quorum) = &mut self.control.elector {
                    quorum.on_side(cx, request, &reply);
                }
            }
            Input::Stop => self.stopping_at = self.stopping_at.or(Some(cx.now)),
            Input::Suspended => self.doubt(cx.now),
            Input::Tick => {}
        }
    }

    /// What is for the elector alone.
    fn learn_election(&mut self, cx: &mut Cx<'_>, input: Input) {
        let takes_part = self.takes_part();
        self.serving.iter_mut().for_each(|it| it.learn(cx, &input));
        match (&mut self.control.elector, input) {
            (Elector::Lease { lease, .. }, Input::Lease { request, reply }) => {
                lease.on_reply(cx, request, reply);
            }
            (Elector::Lease { lease, watch }, Input::Watch { lease: of, event })
                if watch.is_on(&of) =>
            {
                lease.on_watch(cx, &event);
                watch.on_event(cx, &event);
            }
            (Elector::Quorum(quorum), Input::Peer { address, ttl, envelope }) if takes_part => {
                let on_link = envelope.hello.is_some() || self.network.is_on_link(address.ip());
                let forwarded = ttl != u8::MAX && on_link;
                quorum.on_peer(cx, address, forwarded, *envelope);
            }
            (Elector::Quorum(quorum), Input::Probed { probe, failure }) => {
                quorum.on_probed(cx.now, probe, failure);
            }
            (Elector::Quorum(quorum), Input::Stored { number, failure }) => {
                quorum.on_stored(cx, number, failure);
            }
            (Elector::Quorum(quorum), Input::Lease { request, reply }) => {
                quorum.on_lease(cx, request, reply);
            }
            (Elector::Quorum(quorum), Input::Order { request, call }) => {
                quorum.on_order(cx, request, call);
            }
            (Elector::Lease { .. }, Input::Order { request, .. }) => {
                let why = "this node elects by a Kubernetes Lease: there are no members";
                cx.act(Action::Answer { request, outcome: Err(why.to_owned()) });
            }
            (Elector::Lease { .. } | Elector::Quorum(_), _) => {}
        }
    }

    /// Something happened that no clock shows.
    fn doubt(&mut self, now: Instant) {
        self.control.elector.doubt(now);
        self.serving.iter_mut().for_each(|it| it.doubt(now));
    }

    /// How late this process gets to its timers, if that is anybody's business. Returns
    /// whether it is.
    fn note_lateness(&mut self, now: Instant, input: &Input) -> bool {
        if !matches!((&self.control.elector, input), (Elector::Quorum(_), Input::Tick)) {
            return false;
        }
        // A tick too many says nothing.
        let due = self.deadline().filter(|it| it.at <= now);
        let late = due.map(|it| now.saturating_since(it.at));
        match (&mut self.control.elector, late) {
            (Elector::Quorum(quorum), Some(late)) => quorum.on_lateness(now, late),
            (Elector::Lease { .. } | Elector::Quorum(_), _) => false,
        }
    }

    fn learn_answer(&mut self, cx: &mut Cx<'_>, order: OrderId, answer: &KernelAnswer) {
        if self.cleaning == Cleaning::Ordered(order) {
            let failed = answer.refusal().is_some();
            self.cleaning = if failed { Cleaning::Waiting } else { Cleaning::Done };
            if *answer == KernelAnswer::FenceRebuilt {
                self.serving.iter_mut().for_each(|it| it.wait_for_left(cx.now, true));
            }
            return;
        }
        self.links.on_answer(cx, &mut self.network, order, answer);
        for vip in self.guards.on_answer(cx.now, order, answer) {
            self.announcer.touched.mark(vip);
        }
        self.announcer.on_answer(cx, order, answer);
    }

    fn learn_network(&mut self, now: Instant, change: NetworkChange) {
        let gone = match &change {
            NetworkChange::AddressGone(address) => Some(*address),
            NetworkChange::LinkGone(_) | NetworkChange::Snapshot { .. } => None,
            NetworkChange::Address(_) | NetworkChange::DefaultLink(_) | NetworkChange::Link(_) => {
                return self.network.learn(now, change);
            }
        };
        self.network.learn(now, change);
        match gone {
            Some(gone) => self.announcer.on_address_gone(now, &gone),
            None => self.announcer.on_snapshot(now, &self.network),
        }
    }

    fn reconcile(&mut self, cx: &mut Cx<'_>) {
        self.clean(cx);
        self.guard(cx);
        self.announcer.reconcile(cx, &self.placement, &self.attention.looked_at);
        self.make_links(cx);
        let quiet = self.is_quiet(false);
        self.control.elector.reconcile(cx, self.control.stands, quiet);
        let quiet = self.is_quiet(true);
        if let Some(serving) = &mut self.serving {
            if let Elects::One(it) = &mut serving.elects {
                it.elector.reconcile(cx, it.stands, quiet);
            }
            if let Some(it) = &mut serving.each {
                let over = |vip| serving.services.is_over(vip);
                it.reconcile(cx, &|vip| !self.announcer.is_silent(vip) || over(vip));
            }
        }
        self.resolver.tick(cx);
        self.report(cx);
        self.tell_services(cx);
        self.attention.end();
        if self.may_exit(cx.now) {
            self.exited = true;
            if let Elector::Quorum(quorum) = &mut self.control.elector {
                cx.act(Action::Farewell(quorum.farewell()));
            }
            cx.act(Action::Exit);
        }
    }

    /// Once the lock is ours: another process's addresses are not leftovers.
    fn clean(&mut self, cx: &mut Cx<'_>) {
        if self.lock != Some(true) || self.cleaning != Cleaning::Waiting {
            return;
        }
        if sabotaged(Sabotage::LeftoversNotCleaned) {
            self.cleaning = Cleaning::Done;
            return;
        }
        let vips: Vec<_> = self.resolver.vips().iter().copied().collect();
        if vips.is_empty() && self.resolver.awaits_names() {
            // Names are not looked up yet: what they left cannot be told from others'.
            return;
        }
        self.cleaning = Cleaning::Ordered(cx.order(KernelJob::Clean { vips }));
    }

    /// Why this node may not stand at all.
    fn unfit(&self) -> Option<Refusal> {
        // A quorum goes on answering until another member is ready to.
        if self.stopping_at.is_some() && matches!(self.control.elector, Elector::Lease { .. }) {
            return Some(Refusal::Stopping);
        }
        match self.lock {
            Some(true) if self.cleaning == Cleaning::Done && self.network.is_known() => None,
            Some(true) | None => Some(Refusal::Cleaning),
            Some(false) => Some(Refusal::AnotherProcess),
        }
    }

    fn is_alone(&self) -> bool {
        match &self.control.elector {
            Elector::Lease { .. } => self.reporter.candidates() == Some(1),
            Elector::Quorum(quorum) => quorum.is_alone(),
        }
    }

    /// Whether what an earlier process left is gone, so that this one may speak.
    fn takes_part(&self) -> bool {
        matches!(self.control.elector, Elector::Lease { .. })
            || (self.lock == Some(true)
                && self.cleaning == Cleaning::Done
                && self.network.is_known())
    }
}

/// Whether it may change what the elector decides, whatever becomes of the VIPs.
fn concerns_elector(input: &Input) -> bool {
    match input {
        Input::Asked { .. }
        | Input::Gateway { .. }
        | Input::Dhcp { .. }
        | Input::Heard(_)
        | Input::Kernel(_)
        | Input::Network(_)
        | Input::Objects { .. }
        | Input::RulesetChanged
        | Input::Tick => false,
        Input::Lease { .. }
        | Input::Lock { .. }
        | Input::Order { .. }
        | Input::Peer { .. }
        | Input::Probed { .. }
        | Input::Reload { .. }
        | Input::Side { .. }
        | Input::Stop
        | Input::Stored { .. }
        | Input::Suspended
        | Input::Watch { .. } => true,
    }
}
