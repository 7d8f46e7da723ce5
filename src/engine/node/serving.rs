//! What a node does for Services: beside the control plane's VIPs, by a Lease of their own or
//! by the quorum that places those as well.

use std::collections::BTreeSet;

use super::candidacies::Candidacies;
use super::{Config, Node};
use crate::engine::agenda::Marks;
use crate::engine::elector::{Election, Elector, LeaseConfig};
use crate::engine::leadership::Leadership;
use crate::engine::links::Wanter;
use crate::engine::network::LinkChoice;
use crate::engine::placement::{Case, Standing};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::services::{Ground, Services, ServicesElection};
use crate::engine::{Cx, Deadline, Input, Rng};
use crate::model::{Followed, Instant, Refusal, Vip};

/// Services, and who elects for them.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub services: Services,
    pub elects: Elects,
    /// The Leases of Services that have one of their own.
    pub each: Option<Box<Candidacies>>,
    /// Who gives addresses out of pools.
    pub allocator: Option<Leadership>,
    /// Why this node carries none.
    pub ineligible: Option<Refusal>,
}

/// Who elects for Services.
#[derive(Clone, Debug)]
pub(super) enum Elects {
    /// The control plane's elector.
    Control,
    /// For each, a Lease.
    Each,
    /// One Lease for all of them.
    One(Leadership),
}

impl Elects {
    /// Whether this node tells of what nobody answers for, and keeps addresses probed.
    fn speaks(&self, control: &Elector, allocator: Option<&Leadership>) -> bool {
        let elector = match self {
            Self::Control => control,
            // Who gives addresses out: there is no other that only one node has.
            Self::Each => match allocator {
                Some(it) => &it.elector,
                None => return false,
            },
            Self::One(it) => &it.elector,
        };
        match elector {
            Elector::Lease { lease, .. } => lease.leads_until().is_some(),
            Elector::Quorum(quorum) => quorum.is_leader(),
        }
    }
}

impl Serving {
    pub fn new(config: &Config, now: Instant, rng: &mut Rng) -> Option<Self> {
        let of = config.services.as_ref()?;
        let me = config.me.clone();
        let mut elect = |lease: LeaseConfig| {
            let lease = Election::Lease(lease);
            Leadership::new(Elector::new(&lease, me.clone(), config.author, now, rng))
        };
        let elects = match &of.election {
            ServicesElection::Each(_) => Elects::Each,
            ServicesElection::One(lease) => Elects::One(elect(lease.clone())),
            ServicesElection::Quorum => Elects::Control,
        };
        let allocator = of.pools.as_ref().map(|it| elect(it.lease.clone()));
        let services = Services::new(of.clone(), me.clone(), now);
        let services = services.at_home_on(config.link.clone());
        let each = of.times_of_each().map(|times| {
            let (namespace, me) = (of.namespace.as_ref(), me.clone());
            Box::new(Candidacies::new(times.clone(), namespace, me, config.author, now))
        });
        let mut it = Self { services, elects, each, allocator, ineligible: None };
        if !config.announcer.fences.holds() {
            it.wait_for_left(now, false);
        }
        Some(it)
    }

    /// Where the VIP is elected for by a Lease of its own, that.
    pub fn own_lease(&self, vip: Vip) -> Option<&Leadership> {
        self.each.as_ref()?.leadership(vip)
    }

    pub fn expire(&mut self, now: Instant) {
        self.electors().for_each(|it| it.expire(now));
        if let Some(it) = &mut self.each {
            it.expire(now);
        }
    }

    pub fn doubt(&mut self, now: Instant) {
        self.electors().for_each(|it| it.doubt(now));
        if let Some(it) = &mut self.each {
            it.doubt(now);
        }
    }

    pub fn deadline(&self, now: Instant) -> Option<Deadline> {
        let one = self.one().into_iter().chain(&self.allocator);
        let one = one.filter_map(|it| it.deadline(now, true));
        let each = self.each.as_ref().and_then(|it| it.deadline());
        one.chain(each).chain(self.services.deadline(now)).min()
    }

    /// What is for Services or for their Lease.
    pub fn learn(&mut self, cx: &mut Cx<'_>, input: &Input) {
        match input {
            Input::Asked { request, reply } => self.services.on_reply(cx, *request, reply),
            Input::Gateway { request, reply } => self.services.on_gateway(cx, *request, reply),
            Input::Objects { what, events } => match &mut self.each {
                Some(it) if matches!(what, Followed::Leases(_)) => {
                    it.on_objects(cx, what, events);
                }
                Some(_) | None => self.services.on_objects(cx, what, events),
            },
            Input::Lease { request, reply } => {
                if let Some(it) = &mut self.each {
                    it.on_reply(cx, *request, reply);
                }
                for elector in self.electors() {
                    if let Elector::Lease { lease, .. } = elector {
                        lease.on_reply(cx, *request, reply.clone());
                    }
                }
            }
            Input::Watch { lease: of, event } => {
                for elector in self.electors() {
                    if let Elector::Lease { lease, watch } = elector
                        && watch.is_on(of)
                    {
                        lease.on_watch(cx, event);
                        watch.on_event(cx, event);
                    }
                }
            }
            Input::Dhcp { .. }
            | Input::Heard(_)
            | Input::Kernel(_)
            | Input::Lock { .. }
            | Input::Network(_)
            | Input::Order { .. }
            | Input::Peer { .. }
            | Input::Probed { .. }
            | Input::Reload { .. }
            | Input::RulesetChanged
            | Input::Side { .. }
            | Input::Stop
            | Input::Stored { .. }
            | Input::Suspended
            | Input::Tick => {}
        }
    }

    fn electors(&mut self) -> impl Iterator<Item = &mut Elector> {
        let one = match &mut self.elects {
            Elects::One(it) => Some(it),
            Elects::Control | Elects::Each => None,
        };
        one.into_iter().chain(&mut self.allocator).map(|it| &mut it.elector)
    }

    /// The one leadership that all Services hang on, if it is theirs alone.
    pub fn one(&self) -> Option<&Leadership> {
        match &self.elects {
            Elects::One(it) => Some(it),
            Elects::Control | Elects::Each => None,
        }
    }

    /// Where each Service has a Lease, those.
    pub fn all_of_each(&self) -> Option<&Candidacies> {
        self.each.as_deref().filter(|_| matches!(self.elects, Elects::Each))
    }

    /// The leaderships that end with this process.
    pub fn leaderships(&self) -> impl Iterator<Item = &Leadership> {
        let each = self.each.iter().flat_map(|it| it.leaderships());
        self.one().into_iter().chain(&self.allocator).chain(each)
    }

    /// Gives addresses out, if nobody else does. `unfit`: this node takes no part in anything.
    fn allocate(&mut self, cx: &mut Cx<'_>, unfit: bool) {
        let Some(allocator) = &mut self.allocator else {
            return;
        };
        let needed = self.services.has_pools() || matches!(self.elects, Elects::Each);
        allocator.stands = !unfit && needed && self.services.is_known();
        allocator.elector.reconcile(cx, allocator.stands, true);
        let leads = allocator.stands && allocator.elector.leads(cx.now);
        self.services.allocate(cx, leads);
    }
}

impl Node {
    /// The VIPs that are wanted, of the control plane and of Services.
    pub(super) fn is_wanted(&self, vip: Vip) -> bool {
        let serving = self.serving.as_ref();
        self.resolver.vips().contains(&vip)
            || serving.is_some_and(|it| it.services.place(vip).is_some())
    }

    /// Whose place is other than it was; what is wanted is brought up to date.
    pub(super) fn notice_services(&mut self, cx: &mut Cx<'_>) -> Marks {
        let Some(mut serving) = self.serving.take() else {
            return Marks::default();
        };
        serving.services.tick(cx);
        let control = self.resolver.vips().iter().filter(|it| !self.announcer.is_silent(**it));
        let carries = self.announcer.loud_count() > control.count();
        serving.ineligible = serving.services.eligibility(carries).err();
        let leads = match &serving.elects {
            Elects::Control => self.control.elector.leads(cx.now),
            Elects::Each | Elects::One(_) => {
                serving.elects.speaks(&self.control.elector, serving.allocator.as_ref())
            }
        };
        let choice = serving.services.link().unwrap_or(&self.config.link).clone();
        let (network, now) = (&self.network, cx.now);
        let on = |ip| network.usable(&choice, Vip(ip), now, false).ok();
        let news = self.see_to_leases(cx, &mut serving);
        if serving.services.probe(cx, leads, &on) || news {
            let vips: BTreeSet<_> = serving.services.probed().collect();
            let links = vips.iter().filter_map(|it| Some(on(it.0)?.index)).collect();
            self.announcer.listen_also(links, vips);
        }
        for (name, link) in serving.services.take_link_news() {
            self.links.want(Wanter::Lease(name), link.as_ref());
        }
        let marks = serving.services.take_changed();
        let services = &serving.services;
        for vip in marks.of(services.vips().chain(self.wanted.iter().copied())) {
            let place = services.place(vip);
            self.links.want(Wanter::Place(vip), place.and_then(|it| it.link.as_deref()));
            if let Some(each) = &mut serving.each {
                let lease = place.and_then(|it| it.elected_by.as_deref());
                let lease = lease.filter(|_| !self.resolver.vips().contains(&vip));
                let rank = lease.map_or(0, |it| services.rank(&it.name));
                let known = self.wanted.contains(&vip) && place.is_some();
                each.want(cx.now, cx.rng, vip, lease, rank, known);
            }
        }
        self.serving = Some(serving);
        marks
    }

    /// Returns whether other addresses are to be listened for than before.
    fn see_to_leases(&self, cx: &mut Cx<'_>, serving: &mut Serving) -> bool {
        let now = cx.now;
        let unfit = self.unfit().is_some();
        let (elector, elects) = (&self.control.elector, &serving.elects);
        let leads = !unfit && elects.speaks(elector, serving.allocator.as_ref());
        let each = serving.each.as_deref();
        let may_hold = |vip| !unfit && may_hold(elects, each, now, vip, elector, leads);
        let link = serving.services.link().unwrap_or(&self.config.link).clone();
        let control = self.resolver.vips();
        let ground = Ground {
            leads,
            may_hold: &may_hold,
            on: &|choice, ip| {
                let choice = choice.unwrap_or(&link);
                self.network.usable(choice, Vip(ip), now, self.is_alone())
            },
            revision: self.network.revision(),
            local: &|link| self.network.local(link),
            own: &|ip| match control.contains(&Vip(ip)) {
                true => Some("the control plane".to_owned()),
                false => self.network.is_own(ip).then(|| format!("the node {}", self.config.me)),
            },
        };
        serving.services.lease(cx, &ground)
    }

    /// Brings the set of what is wanted up to date.
    pub(super) fn want(&mut self, changed: &Marks) {
        let all = || {
            let served = self.serving.iter().flat_map(|it| it.services.vips());
            self.resolver.vips().iter().copied().chain(served).collect::<BTreeSet<_>>()
        };
        if changed.is_all() {
            self.wanted = all();
            return;
        }
        for vip in changed.of(std::iter::empty()) {
            match self.is_wanted(vip) {
                true => self.wanted.insert(vip),
                false => self.wanted.remove(&vip),
            };
        }
    }

    /// Which link the VIP is to be on.
    pub(super) fn choice(&self, vip: Vip) -> &LinkChoice {
        let serving = self.serving.as_ref().filter(|_| !self.resolver.vips().contains(&vip));
        let of_services = serving.and_then(|it| {
            let place = it.services.place(vip)?;
            place.link.as_deref().or(it.services.link())
        });
        of_services.unwrap_or(&self.config.link)
    }

    /// Why a VIP of Services may not be answered for, whoever elects.
    pub(super) fn unserved(&self, vip: Vip) -> Option<Refusal> {
        let serving = self.serving.as_ref().filter(|_| !self.resolver.vips().contains(&vip))?;
        let place = serving.services.place(vip)?;
        let unserved = place.refusal(self.announcer.is_here(vip));
        let unguarded = || {
            let why = self.guards.refusal(vip).filter(|_| place.guard.is_some())?;
            Some(Refusal::Unguarded { why: why.to_owned() })
        };
        serving.ineligible.clone().or(unserved).or_else(unguarded)
    }

    /// Who elects for the VIP.
    pub(super) fn leadership(&self, vip: Vip) -> Option<&Leadership> {
        let serving = self.serving.as_ref().filter(|_| !self.resolver.vips().contains(&vip));
        let own = serving.and_then(|it| it.own_lease(vip));
        match serving.map(|it| &it.elects) {
            None | Some(Elects::Control) => Some(&self.control),
            Some(Elects::Each) => own,
            Some(Elects::One(it)) => own.or(Some(it)),
        }
    }

    /// How the VIP stands with whoever elects for it.
    pub(super) fn case(&self, now: Instant, vip: Vip, succeeded: bool) -> Case {
        let serving = self.serving.as_ref().filter(|_| !self.resolver.vips().contains(&vip));
        let nobody = || Case {
            standing: Standing::Refused(Refusal::NotLeader { holder: None }),
            retired_at: None,
            preserved_until: None,
            succeeded,
            refusal: None,
        };
        let leadership = self.leadership(vip);
        let mut case = leadership.map_or_else(nobody, |it| it.case(now, vip, succeeded));
        case.refusal = self.unserved(vip);
        if let Some((serving, place)) = serving.and_then(|it| Some((it, it.services.place(vip)?))) {
            let each = serving.each.as_ref();
            let moved = each.is_some_and(|it| it.has_moved(now, vip));
            // A Lease that was not there may have been deleted, and somebody answer by it still; and
            // where there was one, the VIP may hang on another by now, and its holder answer.
            let unsure = place.elected_by.is_some() && !serving.services.is_known_free(now, vip);
            let trusted = sabotaged(Sabotage::TakenOverUnasked) && !case.is_first_claim();
            let unsure = unsure && !trusted;
            case.first_claim(place.first_claim || moved || unsure);
            if let Some(until) = serving.services.lease_ends(now, vip) {
                case.ends(until);
            }
        }
        case
    }

    /// Whether this node is a candidate for carrying Services.
    pub(super) fn stands_for_services(&self, now: Instant, unfit: bool) -> bool {
        let Some(serving) = &self.serving else {
            return false;
        };
        let usable = |vip| {
            let usable = self.network.could_use(self.choice(vip), vip, now, self.is_alone());
            usable.is_ok()
        };
        let mut vips = serving.services.vips().peekable();
        let linked = vips.peek().is_none() || vips.any(usable);
        !unfit && serving.ineligible.is_none() && serving.services.is_known() && linked
    }

    /// Whether this node would carry the VIP, if it were elected for it.
    pub(super) fn would_carry(&self, now: Instant, vip: Vip) -> bool {
        let usable = self.network.could_use(self.choice(vip), vip, now, self.is_alone());
        usable.is_ok() && self.unserved(vip).is_none()
    }

    /// Tells of Services what differs from what is so.
    pub(super) fn tell_services(&mut self, cx: &mut Cx<'_>) {
        let unfit = self.unfit().is_some();
        let Some(serving) = &mut self.serving else {
            return;
        };
        let elector = &self.control.elector;
        let speaks = serving.elects.speaks(elector, serving.allocator.as_ref());
        for vip in self.attention.looked_at.iter().copied() {
            let answers = self.announcer.is_answering(vip);
            serving.services.note_answering(vip, answers);
            if let (true, Some(each)) = (answers, &mut serving.each) {
                each.settled(vip);
            }
            let (elects, each) = (&serving.elects, serving.each.as_deref());
            let may_hold = |vip| !unfit && may_hold(elects, each, cx.now, vip, elector, speaks);
            serving.services.note_placed(cx.now, vip, &may_hold);
        }
        serving.allocate(cx, unfit);
        let speaks = serving.elects.speaks(elector, serving.allocator.as_ref());
        let (network, control) = (&self.network, &self.config.link);
        let link = |choice: Option<&LinkChoice>, vip| {
            network.choose(choice.unwrap_or(control), vip).map(|it| it.name.clone())
        };
        serving.services.expose(cx, &link);
        serving.services.tell(cx, speaks);
        serving.services.label(cx);
    }
}

/// Whether this node may hold the lease of a VIP's address: it carries the VIP, or nobody does
/// and it says who will.
fn may_hold(
    elects: &Elects,
    each: Option<&Candidacies>,
    now: Instant,
    vip: Vip,
    control: &Elector,
    speaks: bool,
) -> bool {
    let elector = match (elects, each.and_then(|it| it.leadership(vip))) {
        (_, Some(it)) if it.elector.holder().is_none() && speaks => return true,
        (_, Some(it)) => &it.elector,
        (Elects::Control, None) => control,
        (Elects::Each, None) => return speaks,
        (Elects::One(it), None) => &it.elector,
    };
    match elector {
        Elector::Lease { lease, .. } => lease.leads_until().is_some(),
        Elector::Quorum(quorum) => match quorum.standing(now, vip) {
            Standing::Entitled { .. } | Standing::Doubted { .. } => true,
            Standing::Refused(Refusal::NotAssigned { holder: None }) => speaks,
            Standing::Preparing { .. } | Standing::Refused(_) => false,
        },
    }
}
