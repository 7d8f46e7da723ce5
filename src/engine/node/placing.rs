//! Which VIPs a turn looks at, and what they should be.

use std::collections::BTreeSet;

use super::candidacies::Candidacies;
use super::serving::Elects;
use super::{HAND_OVER_WITHIN, Node};
use crate::engine::agenda::{Agenda, Marks};
use crate::engine::elector::{Elector, Surroundings};
use crate::engine::leadership::Stake;
use crate::engine::network::LinkChoice;
use crate::engine::placement::View;
use crate::engine::{Cx, Deadline, Input};
use crate::model::{Instant, Refusal, Vip};

/// All that is due is done within so many turns.
const TURNS: usize = 1_000;

/// What is looked at, and what is known of the rest.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    /// What is to be placed and reconciled in this turn.
    marks: Marks,
    /// The same, once it is known which VIPs that are.
    pub looked_at: Vec<Vip>,
    /// When placing comes to something else, though nothing happens.
    agenda: Agenda,
    /// What all VIPs were placed by.
    basis: Option<Basis>,
    /// Some VIP has a link that could carry it, if that is known.
    usable: Option<bool>,
    /// What the elector has not been told of.
    unexamined: Marks,
    /// What cannot be carried here, as the elector was told.
    unable: BTreeSet<Vip>,
    /// It has to be told that VIPs are wanted, or no more.
    rewanted: bool,
    /// What it was told beside VIPs.
    told: Option<Told>,
}

/// Everything that the place of each VIP depends on alike.
#[derive(Clone, Debug)]
struct Basis {
    network: u64,
    alone: bool,
    unfit: Option<Refusal>,
    stake: Stake,
    of_services: Option<OfServices>,
}

/// And that of each VIP of Services.
#[derive(Clone, Debug)]
struct OfServices {
    stake: Option<Stake>,
    ineligible: Option<Refusal>,
    known: bool,
}

/// What has become of it since.
enum Since {
    Nothing,
    /// Rights end later, and nothing else: no VIP is placed otherwise, and whatever may be
    /// extended comes to that when its time has come.
    Prolonged,
    Changed,
}

impl Basis {
    fn since(&self, before: &Self) -> Since {
        let (now, then) = (self.stakes(), before.stakes());
        let stays = |one: &Option<Stake>, other: &Option<Stake>| match (one, other) {
            (Some(one), Some(other)) => one.is_prolonged(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let rest = |it: &Self| {
            let of_services = it.of_services.as_ref();
            let of_services = of_services.map(|it| (it.ineligible.clone(), it.known));
            (it.network, it.alone, it.unfit.clone(), of_services)
        };
        match now.iter().zip(&then).all(|(now, then)| stays(now, then)) {
            _ if rest(self) != rest(before) => Since::Changed,
            false => Since::Changed,
            true if now == then => Since::Nothing,
            true => Since::Prolonged,
        }
    }

    fn stakes(&self) -> [Option<Stake>; 2] {
        let of_services = self.of_services.as_ref().and_then(|it| it.stake.clone());
        [Some(self.stake.clone()), of_services]
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Told {
    stopping: bool,
    giving_up: bool,
}

impl Attention {
    pub fn new() -> Self {
        Self {
            marks: Marks::all(),
            looked_at: Vec::new(),
            agenda: Agenda::default(),
            basis: None,
            usable: None,
            unexamined: Marks::all(),
            unable: BTreeSet::new(),
            rewanted: true,
            told: None,
        }
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.agenda.deadline()
    }

    /// A turn is over.
    pub fn end(&mut self) {
        self.unexamined.add(&self.marks);
        self.marks = Marks::default();
        self.looked_at.clear();
    }
}

impl Node {
    /// Marks what something happened to, and what is due.
    pub(super) fn notice(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let mut wanted = std::mem::take(&mut self.resolver.changed);
        if let Some(serving) = self.serving.as_mut().filter(|_| !wanted.is_empty()) {
            serving.services.reserve_control_plane(self.resolver.vips().iter().copied());
        }
        wanted.add(&self.notice_services(cx));
        if !wanted.is_empty() {
            self.attention.usable = None;
            self.attention.rewanted = true;
        }
        let marks = &mut self.attention.marks;
        marks.add(&wanted);
        marks.add(&std::mem::take(&mut self.announcer.touched));
        self.announcer.due(now).for_each(|it| marks.mark(it));
        self.attention.agenda.due(now).for_each(|it| marks.mark(it));
        self.want(&wanted);
        let alone = self.is_alone();
        let basis = self.attention.basis.as_ref();
        if basis.is_none_or(|it| (it.network, it.alone) != (self.network.revision(), alone)) {
            self.attention.marks.mark_all();
        }
    }

    /// What the elector decides before anything is placed. `asked`: something happened that
    /// is for it.
    pub(super) fn decide(&mut self, cx: &mut Cx<'_>, asked: bool) {
        let Elector::Quorum(quorum) = &self.control.elector else {
            return;
        };
        self.attention.unexamined.add(&self.attention.marks);
        if !self.takes_part() {
            self.attention.told = None;
            return;
        }
        let late = |after| self.stopping_at.is_some_and(|it| it + after <= cx.now);
        let told = Told { stopping: self.stopping_at.is_some(), giving_up: late(HAND_OVER_WITHIN) };
        let due = quorum.deadline().is_some_and(|it| it.at <= cx.now);
        let idle = self.attention.unexamined.is_empty() && self.attention.told == Some(told);
        if idle && !asked && !due {
            return;
        }
        let mut changed = std::mem::take(&mut self.attention.rewanted);
        changed |= self.attention.told.replace(told) != Some(told);
        let marks = std::mem::take(&mut self.attention.unexamined);
        changed |= self.examine(cx.now, &marks);
        let around = Surroundings {
            carrier: self.attention.unable.len() < self.wanted.len(),
            unable: &self.attention.unable,
            wanted: &self.wanted,
            first: self.resolver.first(),
            silent: &|vip| self.announcer.is_silent(vip),
            ready: &|vip| self.announcer.is_ready(vip),
            home: &|| self.network.home(&self.config.link, &self.wanted),
            stopping: told.stopping,
            giving_up: told.giving_up,
            changed,
        };
        self.control.decide(cx, &around);
    }

    /// Which VIPs cannot be carried here. Returns whether that is news.
    fn examine(&mut self, now: Instant, marks: &Marks) -> bool {
        let mut unable = std::mem::take(&mut self.attention.unable);
        let mut changed = false;
        if marks.is_all() {
            changed = !unable.is_empty();
            unable.clear();
        }
        let choice = |vip| self.choice(vip);
        let view = self.view(now, None, &choice);
        let wanted = &self.wanted;
        for vip in marks.of(wanted.iter().copied()) {
            let usable = self.network.could_use(choice(vip), vip, now, view.alone);
            let able = usable.is_ok()
                && !self.announcer.is_refused(now, vip)
                && self.unserved(vip).is_none();
            changed |= match able || !wanted.contains(&vip) {
                true => unable.remove(&vip),
                false => unable.insert(vip),
            };
        }
        self.attention.unable = unable;
        changed
    }

    /// What each VIP that is looked at should be.
    pub(super) fn place(&mut self, now: Instant) {
        self.attention.marks.add(&self.control.elector.take_touched());
        self.renew_basis(now);
        let mut placement = std::mem::take(&mut self.placement);
        let mut agenda = std::mem::take(&mut self.attention.agenda);
        let unfit = self.unfit();
        let choice = |vip| self.choice(vip);
        let view = self.view(now, unfit, &choice);
        let wanted = &self.wanted;
        let everything = || wanted.iter().copied().chain(self.announcer.vips());
        let vips = match self.attention.marks.is_all() {
            true => everything().collect::<BTreeSet<_>>().into_iter().collect(),
            false => self.attention.marks.of(std::iter::empty()),
        };
        for vip in vips.iter().copied() {
            let placed = wanted.contains(&vip).then(|| {
                let succeeded = self.announcer.is_succeeded(vip) || view.alone;
                let case = self.case(now, vip, succeeded);
                let ends_at = self.leadership(vip).and_then(|it| it.case_ends_at(now, &case));
                (view.place(vip, &case), ends_at)
            });
            let (placed, ends_at) = placed.unzip();
            placement.set(vip, placed);
            let ends_at = ends_at.flatten().map(|at| Deadline { at, why: "a right ends" });
            agenda.set(vip, ends_at);
        }
        (self.placement, self.attention.agenda) = (placement, agenda);
        self.attention.looked_at = vips;
    }

    /// Looks at every VIP if what they all depend on is other than it was.
    fn renew_basis(&mut self, now: Instant) {
        let (network, alone, unfit) = (self.network.revision(), self.is_alone(), self.unfit());
        let known = self.attention.basis.as_ref().map(|it| (it.network, it.alone));
        let usable = self.attention.usable.filter(|_| known == Some((network, alone)));
        let usable = usable.unwrap_or_else(|| {
            let choice = |vip| self.choice(vip);
            let view = self.view(now, None, &choice);
            self.resolver.vips().iter().any(|it| view.usable(*it).is_ok())
        });
        self.attention.usable = Some(usable);
        self.control.stands = unfit.is_none() && usable;
        let (me, preserve) = (&self.config.me, self.config.preserve);
        let answers = |vip: &Vip| self.placement.is_answer(*vip);
        let answered = preserve && self.resolver.vips().iter().any(answers);
        self.control.note_transitions(now, me, answered, preserve);
        let stands = self.stands_for_services(now, unfit.is_some());
        let serving = self.serving.as_mut();
        let of_services = serving.map(|it| {
            let stake = match &mut it.elects {
                Elects::One(it) => {
                    it.stands = stands;
                    it.note_transitions(now, me, false, false);
                    Some(it.stake(now))
                }
                Elects::Control | Elects::Each => None,
            };
            let (ineligible, known) = (it.ineligible.clone(), it.services.is_known());
            OfServices { stake, ineligible, known }
        });
        let basis = Basis { network, alone, unfit, stake: self.control.stake(now), of_services };
        match self.attention.basis.as_ref().map(|it| basis.since(it)) {
            Some(Since::Nothing) => {}
            Some(Since::Prolonged) => {
                let starving = self.announcer.prolonged(now);
                starving.into_iter().for_each(|it| self.attention.marks.mark(it));
            }
            Some(Since::Changed) | None => self.attention.marks.mark_all(),
        }
        self.attention.basis = Some(basis);
        self.settle_each(now);
    }

    /// Whether the Lease of Services was given up after they were placed, which makes another
    /// reason for it that they are not here; or an address became nobody's.
    pub(super) fn has_let_go(&self, now: Instant) -> bool {
        let one = self.serving.as_ref().and_then(|it| it.one()).filter(|_| !self.exited);
        let basis = self.attention.basis.as_ref().and_then(|it| it.of_services.as_ref());
        let placed_by = basis.and_then(|it| it.stake.as_ref());
        let each = self.serving.as_ref().and_then(|it| it.each.as_deref()).filter(|_| !self.exited);
        let nobodys = self.serving.as_ref().filter(|_| !self.exited);
        each.is_some_and(Candidacies::has_let_go)
            || nobodys.is_some_and(|it| it.services.is_unsettled())
            || one.is_some_and(|it| {
                placed_by.is_some_and(|before| !it.stake(now).is_prolonged(before))
            })
    }

    /// Where each Service has a Lease: whether this node stands for those that something
    /// happened to.
    fn settle_each(&mut self, now: Instant) {
        let Some(mut each) = self.serving.as_mut().and_then(|it| it.each.take()) else {
            return;
        };
        let known = self.serving.as_ref().is_some_and(|it| it.services.is_known());
        let may = known && self.unfit().is_none();
        let all = self.attention.marks.is_all();
        self.attention.marks.of(std::iter::empty()).into_iter().for_each(|it| each.touch(it));
        let marks = each.settle(now, all, &|vip| may && self.would_carry(now, vip));
        self.attention.marks.add(&marks);
        if let Some(serving) = &mut self.serving {
            serving.each = Some(each);
        }
    }

    fn view<'a>(
        &'a self,
        now: Instant,
        unfit: Option<Refusal>,
        choice: &'a dyn Fn(Vip) -> &'a LinkChoice,
    ) -> View<'a> {
        View {
            now,
            network: &self.network,
            choice,
            lengths: self.config.lengths,
            fences: &self.config.announcer.fences,
            unfit,
            alone: self.is_alone(),
            skip_dad: self.config.skip_dad,
        }
    }

    /// What this turn has overlooked: looking at every VIP would have done it, or would have
    /// it done earlier than this node wakes. Nothing, if attention is paid to the right ones.
    pub fn overlooked(&self) -> Result<(), String> {
        if self.exited {
            return Ok(());
        }
        let mut twin = self.clone();
        // What is known to be due waits for its turn.
        for _ in 0..TURNS {
            if twin.deadline().is_none_or(|it| it.at > twin.now) {
                break;
            }
            twin.handle(self.now, Input::Tick).for_each(drop);
        }
        if twin.exited {
            return Ok(());
        }
        let ours = twin.deadline();
        let (mut rng, mut next, mut out) = (twin.rng.clone(), twin.next, Vec::new());
        let cx = &mut Cx { now: self.now, rng: &mut rng, out: &mut out, next: &mut next };
        twin.attention.marks.mark_all();
        twin.place(self.now);
        twin.reconcile(cx);
        if !out.is_empty() {
            return Err(format!("to be done: {out:?}"));
        }
        let due = twin.deadline();
        match (ours, due) {
            (Some(ours), Some(due)) if ours.at <= due.at => Ok(()),
            (_, None) => Ok(()),
            (_, Some(_)) => Err(format!("{due:?} is due, {ours:?} is known")),
        }
    }
}
