//! One node: the machine of machines. Every input goes through the same five phases:
//! time, learn, place, reconcile, return.

mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::announcer::{Announcer, AnnouncerConfig};
use super::elector::{Election, Elector, Surroundings};
use super::leadership::Leadership;
use super::network::{LinkChoice, Network};
use super::placement::{Placement, View, Wish};
use super::reporter::{Reporter, Truth, VipTruth};
use super::resolver::{Family, Resolver, WantedVip};
use super::sabotage::{Sabotage, sabotaged};
use super::{Action, Cx, Deadline, Input, NextIds, Rng};
use crate::model::{
    Author, Instant, KernelAnswer, KernelJob, NetworkChange, NodeName, OrderId, Refusal, Vip,
};

/// A stop is over after this, whatever the kernel or the API server still owe.
const STOP_WITHIN: Duration = Duration::from_millis(1_500);

/// A stop waits so long for others to take over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);

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
}

/// One node of a cluster.
#[derive(Debug)]
pub struct Node {
    config: Config,
    control: Leadership,
    network: Network,
    resolver: Resolver,
    announcer: Announcer,
    reporter: Reporter,
    lock: Option<bool>,
    cleaning: Cleaning,
    stopping_at: Option<Instant>,
    placement: Placement,
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
        let has_api = matches!(config.election, Election::Lease(_));
        let elector = Elector::new(&config.election, me.clone(), config.author, now, &mut rng);
        Self {
            control: Leadership::new(elector),
            network: Network::default(),
            resolver: Resolver::new(config.vips.clone(), config.family, now),
            announcer: Announcer::new(config.announcer.clone()),
            reporter: Reporter::new(me, config.label_node, has_api, now),
            config,
            lock: None,
            cleaning: Cleaning::Waiting,
            stopping_at: None,
            placement: BTreeMap::new(),
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
            let cx = &mut Cx { now, rng: &mut rng, out: &mut out, next: &mut next };
            self.note_lateness(now, &input);
            self.now = now;
            self.control.elector.expire(now);
            self.learn(cx, input);
            self.decide(cx);
            self.place(now);
            self.reconcile(cx);
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
            self.control.deadline(self.now, self.takes_part()),
            self.resolver.deadline(),
            self.reporter.deadline(leads),
            self.network.deadline(self.now).map(|at| plain(at, "carrier")),
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
            Input::Heard(heard) => {
                if self.announcer.on_heard(cx.now, &heard) {
                    self.control.elector.doubt(cx.now);
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
            | Input::Watch(_) => self.learn_election(cx, input),
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
            }
            Input::Stop => self.stopping_at = self.stopping_at.or(Some(cx.now)),
            Input::Suspended => self.control.elector.doubt(cx.now),
            Input::Tick => {}
        }
    }

    /// What is for the elector alone.
    fn learn_election(&mut self, cx: &mut Cx<'_>, input: Input) {
        let takes_part = self.takes_part();
        match (&mut self.control.elector, input) {
            (Elector::Lease { lease, .. }, Input::Lease { request, reply }) => {
                lease.on_reply(cx, request, reply);
            }
            (Elector::Lease { lease, watch }, Input::Watch(event)) => {
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

    /// What the elector decides before anything is placed.
    fn decide(&mut self, cx: &mut Cx<'_>) {
        let Elector::Quorum(_) = self.control.elector else {
            return;
        };
        if !self.takes_part() {
            return;
        }
        let wanted: BTreeSet<_> = self.resolver.vips().collect();
        let view = self.view(cx.now, None);
        let unable: BTreeSet<_> = wanted
            .iter()
            .copied()
            .filter(|vip| view.usable(*vip).is_err() || self.announcer.is_refused(cx.now, *vip))
            .collect();
        let late = |after| self.stopping_at.is_some_and(|it| it + after <= cx.now);
        let around = Surroundings {
            carrier: unable.len() < wanted.len(),
            unable,
            wanted: &wanted,
            silent: &|vip| self.announcer.is_silent(vip),
            ready: &|vip| self.announcer.is_ready(vip),
            home: &|| self.network.home(&self.config.link, &wanted),
            stopping: self.stopping_at.is_some(),
            giving_up: late(HAND_OVER_WITHIN),
        };
        self.control.decide(cx, &around);
    }

    /// How late this process gets to its timers, if that is anybody's business.
    fn note_lateness(&mut self, now: Instant, input: &Input) {
        if !matches!((&self.control.elector, input), (Elector::Quorum(_), Input::Tick)) {
            return;
        }
        // A tick too many says nothing.
        let due = self.deadline().filter(|it| it.at <= now);
        let late = due.map(|it| now.saturating_since(it.at));
        if let (Elector::Quorum(quorum), Some(late)) = (&mut self.control.elector, late) {
            quorum.on_lateness(now, late);
        }
    }

    fn learn_answer(&mut self, cx: &mut Cx<'_>, order: OrderId, answer: &KernelAnswer) {
        if self.cleaning == Cleaning::Ordered(order) {
            let failed = answer.refusal().is_some();
            self.cleaning = if failed { Cleaning::Waiting } else { Cleaning::Done };
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

    fn place(&mut self, now: Instant) {
        let answered = self.placement.values().any(|it| matches!(it.0, Wish::Answer { .. }));
        let unfit = self.unfit();
        let vips: Vec<_> = self.resolver.vips().collect();
        self.control.stands = unfit.is_none() && self.usable_somewhere(now, &vips);
        let (me, preserve) = (&self.config.me, self.config.preserve);
        self.control.note_transitions(now, me, answered, preserve);
        let mut placement = Placement::new();
        let view = self.view(now, unfit);
        for vip in vips {
            let succeeded = self.announcer.is_succeeded(vip) || self.is_alone();
            placement.insert(vip, view.place(vip, &self.control.case(now, vip, succeeded)));
        }
        self.placement = placement;
    }

    fn reconcile(&mut self, cx: &mut Cx<'_>) {
        self.clean(cx);
        self.announcer.reconcile(cx, &self.placement);
        self.control.elector.reconcile(cx, self.control.stands, self.announcer.is_quiet());
        self.resolver.tick(cx);
        self.report(cx);
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
        let vips: Vec<_> = self.resolver.vips().collect();
        if vips.is_empty() {
            // Names are not looked up yet: what they left cannot be told from others'.
            return;
        }
        self.cleaning = Cleaning::Ordered(cx.order(KernelJob::Clean { vips }));
    }

    fn report(&mut self, cx: &mut Cx<'_>) {
        let vips = self.placement.iter().map(|(vip, (_, refusal))| VipTruth {
            vip: *vip,
            answering: self.announcer.is_answering(*vip),
            refusal: refusal.clone().or_else(|| self.announcer.refusal(*vip)),
            stranger: self.announcer.stranger(*vip),
            readded: self.announcer.readded(*vip),
        });
        let truth = Truth {
            vips: vips.collect(),
            holder: self.control.elector.holder(),
            leads: self.control.elector.leads(cx.now),
            api_fault: match &self.control.elector {
                Elector::Lease { lease, .. } => lease.fault(),
                Elector::Quorum(_) => None,
            },
            rebuilds: self.announcer.fence_rebuilds,
        };
        self.reporter.reconcile(cx, &truth);
    }

    fn may_exit(&self, now: Instant) -> bool {
        let Some(at) = self.stopping_at else {
            return false;
        };
        let done = self.announcer.is_gone() && self.control.elector.is_retired();
        // What is under way may be what the next holder waits for.
        let waits = self.control.elector.is_writing() || self.control.is_retiring();
        let late = at + STOP_WITHIN <= now && !waits;
        (done && self.reporter.has_told()) || late
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

    fn usable_somewhere(&self, now: Instant, vips: &[Vip]) -> bool {
        let view = self.view(now, None);
        vips.iter().any(|vip| view.usable(*vip).is_ok())
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

    fn view(&self, now: Instant, unfit: Option<Refusal>) -> View<'_> {
        View {
            now,
            network: &self.network,
            choice: &self.config.link,
            lengths: self.config.lengths,
            fences: &self.config.announcer.fences,
            unfit,
            alone: self.is_alone(),
            skip_dad: self.config.skip_dad,
        }
    }
}
