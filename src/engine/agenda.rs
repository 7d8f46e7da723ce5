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

/// When each VIP, or whatever else there are many of, is to be looked at again, though nothing
/// happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Agenda<K = Vip> {
    at: BTreeMap<K, Deadline>,
    due: BTreeSet<(Instant, K)>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), due: BTreeSet::new() }
    }
}

impl<K: Clone + Ord> Agenda<K> {
    /// Looks at it then, and not at what was said before.
    pub fn set(&mut self, key: K, next: Option<Deadline>) {
        if self.at.get(&key).copied() == next {
            return;
        }
        let before = match next {
            Some(next) => self.at.insert(key.clone(), next),
            None => self.at.remove(&key),
        };
        if let Some(before) = before {
            self.due.remove(&(before.at, key.clone()));
        }
        self.due.extend(next.map(|it| (it.at, key)));
    }

    /// Those whose time has come, the earliest first.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = K> + '_ {
        self.due.iter().take_while(move |it| it.0 <= now).map(|it| it.1.clone())
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.at.get(&self.due.first()?.1).copied()
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
