//! Addresses one by one, remembered as ranges.

use std::collections::BTreeMap;

use super::ranges::Span;
use super::read::Order;

/// A set that addresses enter and leave one at a time: the first of each range, to its last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Occupied(BTreeMap<u128, u128>);

impl Occupied {
    /// Puts a number in, whether or not it was.
    pub fn insert(&mut self, number: u128) {
        let before = self.up_to(number);
        if before.is_some_and(|it| it.last >= number) {
            return;
        }
        let first = before.filter(|it| it.last + 1 == number).map_or(number, |it| it.first);
        let above = number.checked_add(1).and_then(|it| self.0.remove(&it));
        self.0.insert(first, above.unwrap_or(number));
    }

    /// Takes a number out, whether or not it was in.
    pub fn remove(&mut self, number: u128) {
        let Some(span) = self.up_to(number).filter(|it| it.last >= number) else { return };
        if span.first == number {
            self.0.remove(&number);
        } else {
            self.0.insert(span.first, number - 1);
        }
        if number < span.last {
            self.0.insert(number + 1, span.last);
        }
    }

    /// The first part of the span, in this order, of which nothing is in the set.
    pub fn gap(&self, span: Span, order: Order) -> Option<Span> {
        match order {
            Order::Ascending => {
                let held = self.up_to(span.first).filter(|it| it.last >= span.first);
                let first = held.map_or(Some(span.first), |it| it.last.checked_add(1))?;
                let last = self.0.range(first..).next().map_or(u128::MAX, |(it, _)| it - 1);
                (first <= span.last).then(|| Span { first, last: last.min(span.last) })
            }
            Order::Descending => {
                let held = self.up_to(span.last).filter(|it| it.last >= span.last);
                let last = held.map_or(Some(span.last), |it| it.first.checked_sub(1))?;
                let first = self.up_to(last).map_or(0, |it| it.last + 1);
                (last >= span.first).then(|| Span { first: first.max(span.first), last })
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts of the span that are in the set.
    pub fn within(&self, span: Span) -> impl DoubleEndedIterator<Item = Span> + '_ {
        let before = self.up_to(span.first);
        let first = before.map_or(span.first, |it| it.first);
        let spans = self.0.range(first..=span.last);
        spans.filter_map(move |(first, last)| Span { first: *first, last: *last }.and(span))
    }

    /// The last range that begins no later than this.
    fn up_to(&self, number: u128) -> Option<Span> {
        let (first, last) = self.0.range(..=number).next_back()?;
        Some(Span { first: *first, last: *last })
    }
}
