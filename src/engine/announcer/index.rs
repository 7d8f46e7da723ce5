//! What is asked of all entries together, kept entry by entry: asking each of them each time
//! would cost more than what happens to one.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Instant, LinkIndex, OrderId, Vip};

/// What one entry has a part in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Share {
    /// The orders about it alone that are not answered yet.
    pub orders: [Option<OrderId>; 4],
    /// The links that it is on, and is to be on.
    pub links: [Option<LinkIndex>; 2],
    /// The kernel may answer for it.
    pub loud: bool,
    /// Something of it is left in the kernel.
    pub left: bool,
}

/// When to look at an entry again, though nothing happens to it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Next {
    /// Then.
    pub at: Option<Instant>,
    /// And as soon as it may be there for longer.
    pub starves: bool,
}

/// All shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    orders: BTreeMap<OrderId, Vip>,
    links: BTreeMap<LinkIndex, usize>,
    loud: usize,
    left: usize,
    due: BTreeSet<(Instant, Vip)>,
    starving: BTreeSet<Vip>,
}

impl Index {
    /// An entry has another share now.
    pub fn change(&mut self, vip: Vip, before: &Share, after: &Share) {
        if before.orders != after.orders {
            for it in before.orders.iter().flatten() {
                self.orders.remove(it);
            }
            self.orders.extend(after.orders.into_iter().flatten().map(|it| (it, vip)));
        }
        if before.links != after.links {
            for link in after.links.into_iter().flatten() {
                *self.links.entry(link).or_default() += 1;
            }
            for link in before.links.into_iter().flatten() {
                if let Some(count) = self.links.get_mut(&link) {
                    *count -= 1;
                }
            }
            self.links.retain(|_, count| *count > 0);
        }
        self.loud = self.loud + usize::from(after.loud) - usize::from(before.loud);
        self.left = self.left + usize::from(after.left) - usize::from(before.left);
    }

    /// The entry is next to be looked at then.
    pub fn expect(&mut self, vip: Vip, before: Next, after: Next) {
        if before.at != after.at {
            if let Some(at) = before.at {
                self.due.remove(&(at, vip));
            }
            self.due.extend(after.at.map(|at| (at, vip)));
        }
        match after.starves {
            _ if before.starves == after.starves => false,
            true => self.starving.insert(vip),
            false => self.starving.remove(&vip),
        };
    }

    /// Which an answer to the order is about, if it is about one alone.
    pub fn ordered(&self, order: OrderId) -> Option<Vip> {
        self.orders.get(&order).copied()
    }

    /// How many orders about one alone are not answered yet.
    pub fn unanswered(&self) -> usize {
        self.orders.len()
    }

    pub fn links(&self) -> impl Iterator<Item = LinkIndex> + '_ {
        self.links.keys().copied()
    }

    pub fn loud_count(&self) -> usize {
        self.loud
    }

    pub fn is_gone(&self) -> bool {
        self.left == 0
    }

    /// Those whose time has come, the earliest first.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = Vip> + '_ {
        self.due.iter().take_while(move |it| it.0 <= now).map(|it| it.1)
    }

    /// Those that wait for more.
    pub fn starving(&self) -> impl Iterator<Item = Vip> + '_ {
        self.starving.iter().copied()
    }

    /// Whose time comes first, and when.
    pub fn first(&self) -> Option<(Instant, Vip)> {
        self.due.first().copied()
    }
}
