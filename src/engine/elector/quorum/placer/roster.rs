use std::time::Duration;

use super::hash::EVEN;
use super::{Candidate, PlacerView};
use crate::model::{Epoch, Instant, NodeName, Vip};

/// Who has not been there for so long may be coming and going.
const STEADY: Duration = Duration::from_secs(1);

/// The members that carry VIPs, by name, as far as deciding goes.
#[derive(Debug)]
pub(super) struct Roster<'a> {
    pub rows: Vec<Row<'a>>,
    /// Of those that are free to carry.
    pub fittest: Option<Fitness>,
}

/// A member that carries VIPs.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub name: &'a NodeName,
    /// What is heard of it, if it is.
    candidate: Option<&'a Candidate>,
    pub suspect_at: Option<Instant>,
    pub standing: Standing,
    pub fitness: Fitness,
    pub leads: bool,
    pub weight: u64,
    pub is_young: bool,
    unable: Vec<Vip>,
    ready: Vec<(Vip, Epoch)>,
}

/// How much a member is asked to carry: the first before the others.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Standing {
    Free,
    Drained,
    /// Carries only what it still holds.
    Leaving,
    /// Not heard.
    Dead,
}

/// The fitter is less.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Fitness {
    pub sick: bool,
    penalty: u8,
}

impl<'a> Roster<'a> {
    /// `suspicion`: who is not heard for so long is dead.
    pub fn new(now: Instant, view: &PlacerView<'a>, suspicion: Duration) -> Self {
        let carrying = view.entry.members.iter().filter(|(_, it)| it.role.carries());
        let rows: Vec<_> = carrying
            .map(|(name, _)| {
                let drained = view.entry.wishes.drained.contains(name);
                let me = name == view.me;
                Row::new(now, name, view.members.get(name), me, drained, suspicion)
            })
            .collect();
        let free = rows.iter().filter(|it| it.standing == Standing::Free);
        let fittest = free.map(|it| it.fitness).min();
        Self { rows, fittest }
    }

    pub fn find(&self, name: &NodeName) -> Option<usize> {
        self.rows.binary_search_by(|it| it.name.cmp(name)).ok()
    }

    pub fn get(&self, name: &NodeName) -> Option<&Row<'a>> {
        self.rows.get(self.find(name)?)
    }

    /// The one that says it holds the VIP, and could go on; the newest if several do.
    pub fn holding(&self, vip: Vip) -> Option<usize> {
        let could = |row: &Row<'_>| row.standing != Standing::Dead && !row.is_unable(vip);
        let holding = self.rows.iter().enumerate().filter(|(_, it)| could(it));
        let held = holding.filter_map(|(index, it)| Some((it.held(vip)?, index)));
        held.max().map(|(_, index)| index)
    }

    /// Whether anybody says so.
    pub fn is_held(&self, vip: Vip) -> bool {
        self.rows.iter().any(|it| it.standing != Standing::Dead && it.held(vip).is_some())
    }
}

impl<'a> Row<'a> {
    fn new(
        now: Instant,
        name: &'a NodeName,
        candidate: Option<&'a Candidate>,
        leads: bool,
        drained: bool,
        suspicion: Duration,
    ) -> Self {
        let suspect_at = candidate.filter(|_| !leads).map(|it| it.heard_at + suspicion);
        let lives = leads || suspect_at.is_some_and(|it| now < it);
        let report = candidate.map(|it| &it.report);
        let standing = match (lives, report.is_some_and(|it| it.leaving), drained) {
            (false, _, _) => Standing::Dead,
            (true, true, _) => Standing::Leaving,
            (true, false, true) => Standing::Drained,
            (true, false, false) => Standing::Free,
        };
        let mut unable = report.map(|it| it.unable.clone()).unwrap_or_default();
        unable.sort_unstable();
        let mut ready = report.map(|it| it.ready.clone()).unwrap_or_default();
        ready.sort_unstable();
        Self {
            name,
            candidate,
            suspect_at: suspect_at.filter(|_| lives),
            standing,
            fitness: Fitness {
                sick: report.is_some_and(|it| it.is_sick()),
                penalty: report.map_or(0, |it| it.penalty),
            },
            leads,
            weight: EVEN,
            is_young: candidate.is_none_or(|it| now < it.live_since + STEADY),
            unable,
            ready,
        }
    }

    /// Whether a VIP may be given to it, that it does not hold yet.
    pub fn may_take(&self, vip: Vip) -> bool {
        match self.standing {
            Standing::Free | Standing::Drained => !self.is_unable(vip),
            Standing::Leaving | Standing::Dead => false,
        }
    }

    pub fn is_unable(&self, vip: Vip) -> bool {
        self.unable.binary_search(&vip).is_ok()
    }

    pub fn is_ready(&self, vip: Vip, epoch: Epoch) -> bool {
        self.ready.binary_search(&(vip, epoch)).is_ok()
    }

    pub fn has_released(&self, vip: Vip, epoch: Epoch) -> bool {
        self.candidate.is_some_and(|it| it.released.get(&vip) == Some(&epoch))
    }

    pub fn held(&self, vip: Vip) -> Option<Epoch> {
        self.candidate?.holds.get(&vip).copied()
    }

    /// Whether it is heard to hold anything.
    pub fn holds_any(&self) -> bool {
        self.standing != Standing::Dead && self.candidate.is_some_and(|it| !it.holds.is_empty())
    }

    pub fn live_since(&self) -> Option<Instant> {
        self.candidate.map(|it| it.live_since)
    }

    pub fn unable(&self) -> &[Vip] {
        &self.unable
    }
}
