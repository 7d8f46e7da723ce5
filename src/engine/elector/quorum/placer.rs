//! Who is to carry which VIP: what the leader of a quorum decides.
//!
//! Safety does not rest on it. Whatever is decided here, a holder answers only while a
//! majority promises the VIP to nobody else; a wrong decision costs time.
//!
//! ```text
//!                   planned: next                     next is ready
//!   n1 holds, 7.1 ──────────────▶ n1 holds, n2 next, 7.1 ──────────▶ n2 holds, 7.2
//!        │                              │ called off: next is dropped     ▲
//!        └──────────────────────────────┴─── n1 dead, unable or let go ───┘
//! ```
//!
//! A member that lives and may carry keeps what it carries. A VIP that must go somewhere
//! goes, of those that may take it, to one that is not drained, then to the fittest, then
//! where an operator wants it, then to one that has its share not yet, then to the place
//! that its hash gives it. The leader's share is rounded down, that of the others up.

mod hash;
mod moves;
mod roster;
mod ruling;
mod seat;
mod spread;
#[cfg(test)]
mod tests;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use moves::Moves;
use roster::{Roster, Row, Standing};
use ruling::{Case, Ruling};
use seat::{Epochs, Seat};
use spread::{Ideal, Loads};
pub(crate) use why::Why;

use super::{FailBack, QuorumTiming};
use crate::model::{Assigned, Entry, Epoch, Instant, Message, NodeName, Promised, Report, Vip};

/// A better place counts once its member has been there for so long.
const SETTLED: Duration = Duration::from_secs(30);
/// A better place is not taken until nothing has moved for so long.
const QUIET: Duration = Duration::from_secs(10);
/// Heartbeats are as late as the scheduler, and not all are lost.
const SUSPICION_SLACK: Duration = Duration::from_millis(10);

/// Decides who is to carry which VIP, while this member leads; remembers it otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Placer {
    timing: QuorumTiming,
    fail_back: FailBack,
    leads: bool,
    epochs: Epochs,
    seats: BTreeMap<Vip, Seat>,
    ideal: Option<Ideal>,
    holding: BTreeSet<NodeName>,
    moved_at: Option<Instant>,
    wake_at: Option<Instant>,
}

/// What the placer looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacerView<'a> {
    pub wanted: &'a BTreeSet<Vip>,
    pub entry: &'a Entry,
    pub me: &'a NodeName,
    /// Who has been heard, this member included.
    pub members: &'a BTreeMap<NodeName, Candidate>,
    /// How late this process gets to its timers: others are suspected so much later.
    pub late: Duration,
    /// Another member was asked to lead.
    pub handing_over: bool,
}

/// What is heard of a member.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub heard_at: Instant,
    /// Since when it has been heard without a gap.
    pub live_since: Instant,
    pub report: Report,
    /// What it says it has let go of.
    pub released: BTreeMap<Vip, Epoch>,
    /// What it asks to hold.
    pub holds: BTreeMap<Vip, Epoch>,
}

impl Candidate {
    /// Whether the message says of its sender what was heard before.
    pub fn says(&self, message: &Message) -> bool {
        let holds = self.holds.iter().map(|(vip, epoch)| (*vip, *epoch));
        let released = self.released.iter().map(|(vip, epoch)| (*vip, *epoch));
        self.report == message.report
            && message.hold.as_ref().is_none_or(|it| holds.eq(it.vips.iter().copied()))
            && released.eq(message.released.iter().map(|it| (it.vip, it.epoch)))
    }
}

impl Placer {
    /// Nobody carries anything yet.
    pub fn new(timing: QuorumTiming, fail_back: FailBack) -> Self {
        Self {
            timing,
            fail_back,
            leads: false,
            epochs: Epochs::default(),
            seats: BTreeMap::new(),
            ideal: None,
            holding: BTreeSet::new(),
            moved_at: None,
            wake_at: None,
        }
    }

    /// A follower hears what the leader has decided: all of it.
    pub fn note_assignment(&mut self, assignment: &[Assigned]) {
        if self.leads || self.seats.values().map(|it| &it.assigned).eq(assignment) {
            return;
        }
        let seats = assignment.iter().map(|it| (it.vip, Seat::new(it.clone())));
        self.seats = seats.collect();
    }

    /// This member was elected: each VIP gets an epoch of the term, and stays where it is as
    /// far as can be told from promises in the votes, holds that were heard, and the last
    /// assignment. `heard`: who holds what.
    pub fn begin(
        &mut self,
        now: Instant,
        term: u64,
        inherited: &[Promised],
        heard: &[(NodeName, Vip, Epoch)],
    ) {
        if term > self.epochs.term {
            self.epochs = Epochs { term, count: 0 };
        }
        self.leads = true;
        self.moved_at = Some(now);
        let held = heard.iter().map(|(name, vip, epoch)| (*vip, *epoch, name));
        let promised = inherited.iter().map(|it| (it.vip, it.epoch, &it.to));
        for (vip, epoch, name) in held.chain(promised) {
            let seat = self.seats.entry(vip).or_insert_with(|| Seat::empty(vip));
            if seat.assigned.epoch < epoch {
                seat.assigned.epoch = epoch;
                seat.assigned.holder = Some(name.clone());
            }
        }
        for seat in self.seats.values_mut() {
            let Some(epoch) = self.epochs.raise() else { return };
            *seat = Seat::new(Assigned { epoch, next: None, ..seat.assigned.clone() });
        }
    }

    /// Another leads, or nobody does.
    pub fn end(&mut self) {
        self.leads = false;
        self.holding.clear();
        self.ideal = None;
        self.wake_at = None;
    }

    /// Decides what is to be decided, if this member leads.
    pub fn decide(&mut self, now: Instant, view: &PlacerView<'_>) {
        self.wake_at = None;
        if !self.leads || view.handing_over {
            return;
        }
        let roster = Roster::new(now, view, self.suspicion() + view.late);
        self.wake_at = roster.rows.iter().filter_map(|it| it.suspect_at).min();
        self.note_holding(&roster);
        self.match_wanted(view.wanted, &roster);
        self.renew_ideal(view, &roster);
        let rulings = rule(&self.seats, self.ideal.as_ref(), view, &roster);
        if rulings.is_empty() {
            return;
        }
        let mut moves = Moves {
            now,
            roster: &roster,
            loads: self.loads(&roster, view.wanted.len()),
            better_from: self.better_from(&roster),
            epochs: &mut self.epochs,
            moved: false,
            wake_at: self.wake_at,
        };
        for (case, ruling) in rulings {
            if let Some(seat) = self.seats.get_mut(&case.vip) {
                moves.follow(case, ruling, seat);
            }
        }
        self.wake_at = moves.wake_at;
        if moves.moved {
            self.moved_at = Some(now);
        }
    }

    /// Who is to carry what, by VIP.
    pub fn assignment(&self) -> impl Iterator<Item = &Assigned> {
        self.seats.values().map(|it| &it.assigned)
    }

    /// Why the VIP is where it is, or on its way; known to the leader only.
    pub fn why(&self, vip: Vip) -> Option<&Why> {
        let seat = self.seats.get(&vip).filter(|_| self.leads)?;
        Some(seat.present.as_ref().unwrap_or(&seat.placed))
    }

    /// When to decide again at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Whether nothing is held by this member, or moving to or from it.
    #[cfg(test)]
    pub fn is_settled_without(&self, name: &NodeName) -> bool {
        !self.holding.contains(name) && !self.reckons_with(name)
    }

    /// Whether anything is assigned to this member, or moving to it.
    pub fn reckons_with(&self, name: &NodeName) -> bool {
        self.seats.values().any(|it| {
            let Assigned { holder, next, .. } = &it.assigned;
            holder.as_ref() == Some(name) || next.as_ref() == Some(name)
        })
    }

    /// How long a member is not heard before it counts as dead.
    fn suspicion(&self) -> Duration {
        self.timing.heartbeat * 3 + SUSPICION_SLACK
    }

    fn note_holding(&mut self, roster: &Roster<'_>) {
        let holding = || roster.rows.iter().filter(|it| it.holds_any()).map(|it| it.name);
        if !self.holding.iter().eq(holding()) {
            self.holding = holding().cloned().collect();
        }
    }

    /// A VIP that is not wanted is taken from its holder, and forgotten once nobody has it.
    fn match_wanted(&mut self, wanted: &BTreeSet<Vip>, roster: &Roster<'_>) {
        if self.seats.keys().eq(wanted) {
            return;
        }
        self.seats.retain(|vip, seat| {
            if wanted.contains(vip) {
                return true;
            }
            seat.call_off();
            seat.present = Some(Why::Unwanted);
            if seat.assigned.holder.is_none() {
                return roster.is_held(*vip);
            }
            if let Some(epoch) = self.epochs.raise() {
                seat.assigned.holder = None;
                seat.assigned.epoch = epoch;
            }
            true
        });
        for vip in wanted {
            self.seats.entry(*vip).or_insert_with(|| Seat::empty(*vip));
        }
    }

    fn renew_ideal(&mut self, view: &PlacerView<'_>, roster: &Roster<'_>) {
        let placed = &view.entry.wishes.placed;
        self.ideal = match self.fail_back {
            FailBack::Never => None,
            FailBack::AtOnce | FailBack::Delayed => Some(
                self.ideal
                    .take_if(|it| it.is_of(roster, view.wanted, placed))
                    .unwrap_or_else(|| Ideal::new(roster, view.wanted, placed)),
            ),
        };
    }

    /// All that are free must have been there for a while: a place that is better only
    /// because somebody comes and goes is none.
    fn better_from(&self, roster: &Roster<'_>) -> Option<Instant> {
        let (settled, quiet) = match self.fail_back {
            FailBack::AtOnce => (self.timing.heartbeat * 3, Duration::ZERO),
            FailBack::Delayed => (SETTLED, QUIET),
            FailBack::Never => return None,
        };
        let free = roster.rows.iter().filter(|it| it.standing == Standing::Free);
        let youngest = free.filter_map(Row::live_since).max()?;
        Some((youngest + settled).max(self.moved_at.map_or(youngest, |it| it + quiet)))
    }

    fn loads(&self, roster: &Roster<'_>, vips: usize) -> Loads {
        let mut loads = Loads::none(roster, vips);
        let carrying = self.seats.values().filter_map(Seat::heir);
        carrying.filter_map(|it| roster.find(it)).for_each(|it| loads.add(it));
        loads
    }
}

/// What is to change, those first whose place is asked for.
fn rule<'a>(
    seats: &BTreeMap<Vip, Seat>,
    ideal: Option<&'a Ideal>,
    view: &PlacerView<'a>,
    roster: &Roster<'_>,
) -> Vec<(Case<'a>, Ruling)> {
    let placed = &view.entry.wishes.placed;
    let all_wanted = seats.len() == view.wanted.len();
    let wanted = seats.iter().filter(|(vip, _)| all_wanted || view.wanted.contains(vip));
    let changes = wanted.filter_map(|(vip, seat)| {
        let ideal = ideal.and_then(|it| it.place(*vip));
        let case = Case { vip: *vip, wish: placed.get(vip), ideal };
        let ruling = case.rule(roster, seat);
        (!seat.follows(&ruling)).then_some((case, ruling))
    });
    let mut changes: Vec<_> = changes.collect();
    changes.sort_by_key(|(case, _)| case.wish.is_none());
    changes
}
