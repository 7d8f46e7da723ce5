//! Which VIPs are looked at in a turn: those that something happened to, and those whose own
//! time has come. What a VIP should be is a function of the whole state all the same; that
//! the others would come to nothing new is checked in the simulator after each turn.

use std::collections::{BTreeMap, BTreeSet};

use super::Deadline;
use crate::model::{Instant, Vip};

/// VIPs that something happened to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Marks {
    all: bool,
    vips: BTreeSet<Vip>,
}

impl Marks {
    /// Every VIP, whatever they are.
    pub fn all() -> Self {
        Self { all: true, vips: BTreeSet::new() }
    }

    pub fn mark(&mut self, vip: Vip) {
        if !self.all {
            self.vips.insert(vip);
        }
    }

    /// Something happened that may concern every VIP.
    pub fn mark_all(&mut self) {
        *self = Self::all();
    }

    pub fn add(&mut self, others: &Self) {
        if others.all {
            self.mark_all();
        } else {
            others.vips.iter().for_each(|it| self.mark(*it));
        }
    }

    pub fn is_empty(&self) -> bool {
        !self.all && self.vips.is_empty()
    }

    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Those that are marked, in order; of `everything`, if that is all.
    pub fn of(&self, everything: impl Iterator<Item = Vip>) -> Vec<Vip> {
        if self.all { everything.collect() } else { self.vips.iter().copied().collect() }
    }
}

/// When each VIP is to be looked at again, though nothing happens to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agenda {
    at: BTreeMap<Vip, Deadline>,
    due: BTreeSet<(Deadline, Vip)>,
}

impl Agenda {
    /// Looks at the VIP then, and not at what was said before.
    pub fn set(&mut self, vip: Vip, next: Option<Deadline>) {
        if self.at.get(&vip).copied() == next {
            return;
        }
        let before = match next {
            Some(next) => self.at.insert(vip, next),
            None => self.at.remove(&vip),
        };
        if let Some(before) = before {
            self.due.remove(&(before, vip));
        }
        self.due.extend(next.map(|it| (it, vip)));
    }

    /// The VIPs whose time has come.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = Vip> + '_ {
        self.due.iter().take_while(move |it| it.0.at <= now).map(|it| it.1)
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.due.first().map(|it| it.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Deadline {
        Deadline { at: Instant::from_nanos(millis * 1_000_000), why: "a test" }
    }

    fn vip(last: u8) -> Vip {
        Vip([10, 0, 0, last].into())
    }

    #[test]
    fn a_vip_is_due_at_the_last_moment_that_was_said() {
        let mut agenda = Agenda::default();
        agenda.set(vip(1), Some(at(30)));
        agenda.set(vip(2), Some(at(20)));
        agenda.set(vip(1), Some(at(10)));
        agenda.set(vip(3), Some(at(15)));
        agenda.set(vip(3), None);
        assert_eq!(agenda.deadline(), Some(at(10)));
        assert_eq!(agenda.due(at(10).at).collect::<Vec<_>>(), [vip(1)]);
        assert_eq!(agenda.due(at(30).at).collect::<Vec<_>>(), [vip(1), vip(2)]);
    }

    #[test]
    fn all_are_marked_until_they_are_looked_at() {
        let mut marks = Marks::default();
        assert!(marks.is_empty());
        marks.mark(vip(2));
        let everything = || [vip(1), vip(2), vip(3)].into_iter();
        assert_eq!(marks.of(everything()), [vip(2)]);
        marks.mark_all();
        marks.mark(vip(2));
        assert_eq!(marks.of(everything()), everything().collect::<Vec<_>>());
        let mut more = Marks::default();
        more.add(&marks);
        assert!(more.is_all() && !more.is_empty());
    }
}
