//! One node: the machine of machines. Every input goes through the same five phases:
//! time, learn, place, reconcile, return.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::announcer::{Announcer, AnnouncerConfig};
use super::elector::{LeaseConfig, LeaseElector};
use super::network::{LinkChoice, Network};
use super::placement::{LINGER, Placement, View, Wish};
use super::reporter::{Reporter, Truth, VipTruth};
use super::resolver::{Family, Resolver, WantedVip};
use super::sabotage::{Sabotage, sabotaged};
use super::watch::LeaseWatch;
use super::{Action, Cx, Deadline, Input, NextIds, Rng};
use crate::model::{
    ApiStatus, Author, Instant, KernelAnswer, KernelJob, LinkStatus, NetworkChange, NodeName,
    OrderId, Refusal, Role, Status, Vip, VipStatus,
};

/// A stop is over after this, whatever the kernel or the API server still owe.
const STOP_WITHIN: Duration = Duration::from_millis(1_500);

/// Everything a node has to know beforehand.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Config {
    /// Its name and identity.
    pub me: NodeName,
    /// Which process it is.
    pub author: Author,
    /// The election.
    pub lease: LeaseConfig,
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
    elector: LeaseElector,
    watch: LeaseWatch,
    network: Network,
    resolver: Resolver,
    announcer: Announcer,
    reporter: Reporter,
    lock: Option<bool>,
    cleaning: Cleaning,
    stopping_at: Option<Instant>,
    retired_at: Option<Instant>,
    preserve_since: Option<Instant>,
    placement: Placement,
    /// This node is a candidate: fit, and with a link that works.
    stands: bool,
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
    pub fn new(config: Config, rng: Rng, now: Instant) -> Self {
        let me = config.me.clone();
        Self {
            elector: LeaseElector::new(config.lease.clone(), me.clone(), config.author, now),
            watch: LeaseWatch::new(),
            network: Network::default(),
            resolver: Resolver::new(config.vips.clone(), config.family, now),
            announcer: Announcer::new(config.announcer.clone()),
            reporter: Reporter::new(me, config.label_node, now),
            config,
            lock: None,
            cleaning: Cleaning::Waiting,
            stopping_at: None,
            retired_at: None,
            preserve_since: None,
            placement: BTreeMap::new(),
            stands: false,
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
            self.now = now;
            self.elector.expire(now);
            self.learn(cx, input);
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
        let leads = self.elector.leads_until().is_some();
        let plain = |at: Instant, why| Deadline { at, why };
        [
            self.announcer.deadline(),
            self.elector.deadline(self.stands, self.watch.is_open()),
            self.watch.deadline(),
            self.resolver.deadline(),
            self.reporter.deadline(leads),
            self.network.deadline(self.now).map(|at| plain(at, "carrier")),
            self.retired_at
                .map(|at| plain(at + LINGER, "linger ends"))
                .filter(|it| it.at > self.now),
            self.stopping_at
                .map(|at| plain(at + STOP_WITHIN, "stop ends"))
                .filter(|it| it.at > self.now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What an operator may know.
    pub fn status(&self, now: Instant) -> Status {
        let role = match (self.stopping_at, self.elector.leads_until()) {
            (Some(_), _) => Role::Stopping,
            (None, Some(_)) => Role::Leader,
            (None, None) if self.stands => Role::Follower,
            (None, None) => Role::Standby,
        };
        let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        Status {
            node: self.config.me.clone(),
            lease: self.config.lease.name.clone(),
            role,
            holder: self.elector.holder().cloned(),
            until_ms: self.elector.leads_until().map(|it| ms(it.saturating_since(now))),
            terms: self.elector.terms(),
            vips: self.placement.keys().map(|vip| self.vip_status(*vip)).collect(),
            fences: self.config.announcer.fences.clone(),
            api: ApiStatus {
                answered_ms_ago: self.elector.answered_at().map(|it| ms(now.saturating_since(it))),
                fault: self.elector.fault().map(|it| it.why.clone()),
                watching: self.watch.is_open(),
            },
            candidates: self.reporter.candidates(),
            conflicts: self.announcer.conflicts,
            fence_rebuilds: self.announcer.fence_rebuilds,
            readded: self.announcer.readded_in_all,
            fence_late: self.announcer.fence_late,
            quorum: None,
        }
    }

    fn learn(&mut self, cx: &mut Cx<'_>, input: Input) {
        match input {
            Input::Heard(heard) => {
                if self.announcer.on_heard(cx.now, &heard) {
                    self.elector.doubt(cx.now);
                }
            }
            Input::Kernel(answers) => {
                for (order, answer) in answers {
                    self.learn_answer(cx, order, &answer);
                }
            }
            Input::Lease { request, reply } => self.elector.on_reply(cx, request, reply),
            Input::Lock { held } => self.lock = Some(held),
            Input::Network(change) => self.learn_network(cx.now, change),
            Input::Order { .. }
            | Input::Peer { .. }
            | Input::Probed { .. }
            | Input::Stored { .. } => {}
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
            Input::Suspended => self.elector.doubt(cx.now),
            Input::Tick => {}
            Input::Watch(event) => {
                self.elector.on_watch(cx, &event);
                self.watch.on_event(cx, &event);
            }
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
        let led = self.placement.values().any(|(wish, _)| matches!(wish, Wish::Answer { .. }));
        let unfit = self.unfit();
        let vips: Vec<_> = self.resolver.vips().collect();
        self.stands = unfit.is_none() && self.usable_somewhere(now, &vips);
        self.note_transitions(now, led);
        let mut placement = Placement::new();
        for vip in vips {
            let succeeded = self.announcer.is_succeeded(vip) || self.is_alone();
            placement.insert(vip, self.view(now, unfit.clone()).place(vip, succeeded));
        }
        self.placement = placement;
    }

    /// Since when we are on our way out, and since when we keep what we lost.
    fn note_transitions(&mut self, now: Instant, led: bool) {
        let leads = self.elector.leads_until().is_some();
        let retires = (leads && !self.stands) || (!leads && self.elector.is_holding());
        self.retired_at = match leads && self.stands {
            true => None,
            // Nobody else can answer yet.
            false if retires => Some(now),
            false => self.retired_at.filter(|it| now < *it + LINGER),
        };
        let others = self.elector.holder().is_some_and(|it| *it != self.config.me);
        if leads || others || self.retired_at.is_some() {
            self.preserve_since = None;
        } else if led && self.config.preserve {
            self.preserve_since = Some(now);
        }
    }

    fn reconcile(&mut self, cx: &mut Cx<'_>) {
        self.clean(cx);
        self.announcer.reconcile(cx, &self.placement);
        let quiet = self.announcer.is_quiet();
        self.elector.reconcile(cx, self.stands, quiet, self.watch.is_open());
        if let Some(version) = self.elector.version() {
            self.watch.start(cx, version);
        }
        self.watch.tick(cx);
        self.resolver.tick(cx);
        self.report(cx);
        if self.may_exit(cx.now) {
            self.exited = true;
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
            holder: self.elector.holder(),
            leads: self.elector.leads_until().is_some(),
            api_fault: self.elector.fault(),
            rebuilds: self.announcer.fence_rebuilds,
        };
        self.reporter.reconcile(cx, &truth);
    }

    fn may_exit(&self, now: Instant) -> bool {
        let Some(at) = self.stopping_at else {
            return false;
        };
        let done = self.announcer.is_gone() && self.elector.is_retired();
        // What is under way may be what the next holder waits for.
        let waits = self.elector.is_writing() || self.retired_at.is_some();
        let late = at + STOP_WITHIN <= now && !waits;
        (done && self.reporter.has_told()) || late
    }

    /// Why this node may not stand at all.
    fn unfit(&self) -> Option<Refusal> {
        if self.stopping_at.is_some() {
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
        self.reporter.candidates() == Some(1)
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
            leads_until: self.elector.leads_until(),
            confirmed: self.elector.is_confirmed(),
            first_claim: self.elector.is_first_claim(),
            skip_dad: self.config.skip_dad,
            holder: self.elector.holder(),
            has_double: self.elector.has_double(),
            retired_at: self.retired_at,
            preserve_since: self.preserve_since,
        }
    }

    fn vip_status(&self, vip: Vip) -> VipStatus {
        let refusal = self.placement.get(&vip).and_then(|it| it.1.clone());
        let refusal = refusal.or_else(|| self.announcer.refusal(vip));
        let link = self.network.choose(&self.config.link, vip).map(|it| LinkStatus {
            name: it.name.clone(),
            up: it.up,
            carrier: it.carrier,
        });
        VipStatus {
            vip,
            state: self.announcer.state(vip),
            link,
            code: refusal.as_ref().map(|it| it.code().to_owned()),
            why: refusal.as_ref().map(Refusal::to_string),
            refusal,
            conflict: self.announcer.stranger(vip),
            length: self.announcer.length(vip).unwrap_or_else(|| vip.width()),
        }
    }
}
