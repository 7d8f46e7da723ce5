//! What a node does for Services: beside the control plane's VIPs, by a Lease of their own or
//! by the quorum that places those as well.

use std::collections::BTreeSet;

use super::{Config, Node};
use crate::engine::agenda::Marks;
use crate::engine::elector::{Election, Elector, LeaseConfig};
use crate::engine::leadership::Leadership;
use crate::engine::network::LinkChoice;
use crate::engine::placement::Case;
use crate::engine::placement::Standing;
use crate::engine::services::{Ground, Services};
use crate::engine::{Cx, Deadline, Input, Rng};
use crate::model::{Instant, Refusal, Vip};

/// Services, and who elects for them where the control plane's elector does not.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub services: Services,
    pub leadership: Option<Leadership>,
    /// Who gives addresses out of pools.
    pub allocator: Option<Leadership>,
    /// Why this node carries none.
    pub ineligible: Option<Refusal>,
}

impl Serving {
    pub fn new(config: &Config, now: Instant, rng: &mut Rng) -> Option<Self> {
        let of = config.services.as_ref()?;
        let me = config.me.clone();
        let mut elect = |lease: LeaseConfig| {
            let lease = Election::Lease(lease);
            Leadership::new(Elector::new(&lease, me.clone(), config.author, now, rng))
        };
        let leadership = of.lease.clone().map(&mut elect);
        let allocator = of.pools.as_ref().map(|it| elect(it.lease.clone()));
        let services = Services::new(of.clone(), me.clone(), now);
        Some(Self { services, leadership, allocator, ineligible: None })
    }

    pub fn expire(&mut self, now: Instant) {
        self.electors().for_each(|it| it.expire(now));
    }

    pub fn doubt(&mut self, now: Instant) {
        self.electors().for_each(|it| it.doubt(now));
    }

    pub fn deadline(&self, now: Instant) -> Option<Deadline> {
        let elects = self.leaderships().filter_map(|it| it.deadline(now, true));
        elects.chain(self.services.deadline(now)).min()
    }

    /// What is for Services or for their Lease.
    pub fn learn(&mut self, cx: &mut Cx<'_>, input: &Input) {
        match input {
            Input::Asked { request, reply } => self.services.on_reply(cx, *request, reply),
            Input::Objects { what, events } => self.services.on_objects(cx, what, events),
            Input::Lease { request, reply } => {
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
        self.leadership.iter_mut().chain(&mut self.allocator).map(|it| &mut it.elector)
    }

    /// The leaderships that end with this process.
    pub fn leaderships(&self) -> impl Iterator<Item = &Leadership> {
        self.leadership.iter().chain(&self.allocator)
    }

    /// Gives addresses out, if nobody else does. `unfit`: this node takes no part in anything.
    fn allocate(&mut self, cx: &mut Cx<'_>, unfit: bool) {
        let Some(allocator) = &mut self.allocator else {
            return;
        };
        allocator.stands = !unfit && self.services.has_pools() && self.services.is_known();
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

    /// Whether the VIP hangs on the leadership for Services.
    pub(super) fn is_of_services(&self, vip: Vip) -> bool {
        let of_their_own = self.serving.as_ref().is_some_and(|it| it.leadership.is_some());
        of_their_own && !self.resolver.vips().contains(&vip)
    }

    /// Whose place is other than it was; what is wanted is brought up to date.
    pub(super) fn notice_services(&mut self, cx: &mut Cx<'_>) -> Marks {
        let Some(mut serving) = self.serving.take() else {
            return Marks::default();
        };
        serving.services.tick(cx);
        let carries = self.announcer.loud().any(|vip| !self.resolver.vips().contains(&vip));
        serving.ineligible = serving.services.eligibility(carries).err();
        let elects = serving.leadership.as_ref().unwrap_or(&self.control);
        let leads = elects.elector.leads(cx.now);
        let choice = serving.services.link().unwrap_or(&self.config.link).clone();
        let (network, now) = (&self.network, cx.now);
        let on = |ip| network.usable(&choice, Vip(ip), now, false).ok();
        let news = self.see_to_leases(cx, &mut serving);
        if serving.services.probe(cx, leads, &on) || news {
            let vips: Vec<_> = serving.services.probed().collect();
            let links = vips.iter().filter_map(|it| Some(on(it.0)?.index)).collect();
            self.announcer.listen_also(links, vips);
        }
        let marks = serving.services.take_changed();
        self.serving = Some(serving);
        marks
    }

    /// Returns whether other addresses are to be listened for than before.
    fn see_to_leases(&self, cx: &mut Cx<'_>, serving: &mut Serving) -> bool {
        let now = cx.now;
        let unfit = self.unfit().is_some();
        let elector = &serving.leadership.as_ref().unwrap_or(&self.control).elector;
        let leads = !unfit
            && match elector {
                Elector::Lease { lease, .. } => lease.leads_until().is_some(),
                Elector::Quorum(quorum) => quorum.is_leader(),
            };
        let may_hold = |vip| !unfit && may_hold(elector, now, vip);
        let link = serving.services.link().unwrap_or(&self.config.link).clone();
        let control = self.resolver.vips();
        let ground = Ground {
            leads,
            may_hold: &may_hold,
            on: &|choice, ip| {
                let choice = choice.unwrap_or(&link);
                self.network.usable(choice, Vip(ip), now, self.is_alone()).ok()
            },
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
        let place = serving.and_then(|it| it.services.place(vip));
        place.and_then(|it| it.link.as_ref()).unwrap_or(&self.config.link)
    }

    /// Why a VIP of Services may not be answered for, whoever elects.
    pub(super) fn unserved(&self, vip: Vip) -> Option<Refusal> {
        let serving = self.serving.as_ref().filter(|_| !self.resolver.vips().contains(&vip))?;
        let place = serving.services.place(vip)?;
        let unserved = place.refusal(self.announcer.is_answering(vip));
        serving.ineligible.clone().or(unserved)
    }

    /// Who elects for the VIP.
    pub(super) fn leadership(&self, vip: Vip) -> &Leadership {
        let serving = self.serving.as_ref().filter(|_| !self.resolver.vips().contains(&vip));
        serving.and_then(|it| it.leadership.as_ref()).unwrap_or(&self.control)
    }

    /// How the VIP stands with whoever elects for it.
    pub(super) fn case(&self, now: Instant, vip: Vip, succeeded: bool) -> Case {
        let serving = self.serving.as_ref().filter(|_| !self.resolver.vips().contains(&vip));
        let mut case = self.leadership(vip).case(now, vip, succeeded);
        case.refusal = self.unserved(vip);
        if let Some(place) = serving.and_then(|it| it.services.place(vip)) {
            case.first_claim(place.first_claim);
            if let Some(until) = place.until {
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
            let usable = self.network.usable(self.choice(vip), vip, now, self.is_alone());
            usable.is_ok()
        };
        let mut vips = serving.services.vips().peekable();
        let linked = vips.peek().is_none() || vips.any(usable);
        !unfit && serving.ineligible.is_none() && serving.services.is_known() && linked
    }

    /// Tells of Services what differs from what is so.
    pub(super) fn tell_services(&mut self, cx: &mut Cx<'_>) {
        let unfit = self.unfit().is_some();
        let Some(serving) = &mut self.serving else {
            return;
        };
        let elector = &serving.leadership.as_ref().unwrap_or(&self.control).elector;
        let may_hold = |vip| !unfit && may_hold(elector, cx.now, vip);
        for vip in self.attention.looked_at.iter().copied() {
            serving.services.note_answering(vip, self.announcer.is_answering(vip));
            serving.services.note_placed(vip, &may_hold);
        }
        serving.allocate(cx, unfit);
        let elects = serving.leadership.as_ref().unwrap_or(&self.control);
        let speaks = match &elects.elector {
            Elector::Lease { lease, .. } => lease.leads_until().is_some(),
            Elector::Quorum(quorum) => quorum.is_leader(),
        };
        serving.services.tell(cx, speaks);
    }
}

/// Whether this node may hold the lease of a VIP: it carries it, or nobody does and it says who
/// will.
fn may_hold(elector: &Elector, now: Instant, vip: Vip) -> bool {
    match elector {
        Elector::Lease { lease, .. } => lease.leads_until().is_some(),
        Elector::Quorum(quorum) => match quorum.standing(now, vip) {
            Standing::Entitled { .. } | Standing::Doubted { .. } => true,
            Standing::Refused(Refusal::NotAssigned { holder: None }) => quorum.is_leader(),
            Standing::Preparing { .. } | Standing::Refused(_) => false,
        },
    }
}
