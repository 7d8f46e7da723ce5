//! What is asked of all entries together, kept entry by entry: asking each of them each time
//! would cost more than what happens to one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::super::Deadline;
use super::super::agenda::Agenda;
use crate::model::{Instant, LinkIndex, OrderId, Vip};

/// Before all others.
const LEAST: Vip = Vip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// What one entry has a part in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Share {
    /// The orders whose answers say something about it.
    pub orders: [Option<OrderId>; 4],
    /// The links that it is on, and is to be on.
    pub links: [Option<LinkIndex>; 2],
    /// The kernel may answer for it.
    pub loud: bool,
    /// Something of it is left in the kernel.
    pub left: bool,
}

/// All shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    orders: BTreeSet<(OrderId, Vip)>,
    links: BTreeMap<LinkIndex, usize>,
    loud: BTreeSet<Vip>,
    left: usize,
    agenda: Agenda,
}

impl Index {
    /// An entry has another share now.
    pub fn change(&mut self, vip: Vip, before: &Share, after: &Share) {
        if before.orders != after.orders {
            let of = |it: &Share| it.orders.into_iter().flatten().map(move |it| (it, vip));
            for it in of(before) {
                self.orders.remove(&it);
            }
            self.orders.extend(of(after));
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
        match after.loud {
            true => self.loud.insert(vip),
            false => self.loud.remove(&vip),
        };
        self.left = self.left + usize::from(after.left) - usize::from(before.left);
    }

    /// When the entry is next to be looked at.
    pub fn expect(&mut self, vip: Vip, next: Option<Deadline>) {
        self.agenda.set(vip, next);
    }

    /// Those that an answer to the order is about.
    pub fn ordered(&self, order: OrderId) -> Vec<Vip> {
        let of_it = self.orders.range((order, LEAST)..);
        of_it.take_while(|it| it.0 == order).map(|it| it.1).collect()
    }

    pub fn links(&self) -> impl Iterator<Item = LinkIndex> + '_ {
        self.links.keys().copied()
    }

    pub fn loud_count(&self) -> usize {
        self.loud.len()
    }

    /// Those that the kernel may answer for.
    pub fn loud(&self) -> impl Iterator<Item = Vip> + '_ {
        self.loud.iter().copied()
    }

    pub fn is_gone(&self) -> bool {
        self.left == 0
    }

    pub fn due(&self, now: Instant) -> impl Iterator<Item = Vip> + '_ {
        self.agenda.due(now)
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.agenda.deadline()
    }
}
