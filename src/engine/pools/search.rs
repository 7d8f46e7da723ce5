//! The next address to give out: pool, less what is taken, less what rests, less what is
//! never given.

use std::net::IpAddr;

use super::book::Book;
use super::ranges::{Ranges, Span, address};
use super::read::Order;
use crate::model::{Instant, IpFamily};

/// Whether an address is ever given out. Of IPv4 not what ends in 0 or 255, whatever the
/// prefix: the peer does not, and old clients take it for a network or a broadcast. Of IPv6
/// not what ends in 64 zero bits: all routers of the subnet answer there (RFC 4291 §2.6.1).
pub(super) fn is_given(family: IpFamily, number: u128) -> bool {
    match family {
        IpFamily::V4 => !matches!(number & 0xff, 0 | 0xff),
        IpFamily::V6 => number << 64 != 0,
    }
}

/// How many of a span are.
pub(super) fn count_given(family: IpFamily, span: Span) -> u128 {
    // How many numbers below `end` have these low bits.
    let below = |end: u128, low: u128, bits: u32| match end.checked_sub(low) {
        Some(rest) if rest > 0 => ((rest - 1) >> bits) + 1,
        Some(_) | None => 0,
    };
    let with = |low, bits| {
        let last = u128::from(is_like(span.last, low, bits));
        below(span.last, low, bits) + last - below(span.first, low, bits)
    };
    let never = match family {
        IpFamily::V4 => with(0, 8) + with(0xff, 8),
        IpFamily::V6 => with(0, 64),
    };
    // The whole of IPv6 is one more than can be said.
    span.len().saturating_sub(never)
}

fn is_like(number: u128, low: u128, bits: u32) -> bool {
    number & ((1 << bits) - 1) == low
}

/// The free addresses of a set, in the order of search.
pub(super) fn free<'a>(
    book: &'a Book,
    family: IpFamily,
    ranges: &'a Ranges,
    order: Order,
    now: Instant,
) -> impl Iterator<Item = IpAddr> + 'a {
    let taken = book.taken.of(family);
    in_order(ranges, order)
        .flat_map(move |span| {
            let mut left = Some(span);
            std::iter::from_fn(move || {
                let gap = taken.gap(left?, order)?;
                left = beyond(left?, gap, order);
                Some(gap)
            })
        })
        .flat_map(move |gap| numbers(gap, order))
        .filter(move |it| is_given(family, *it))
        .map(move |it| address(family, it))
        .filter(move |it| book.resting.get(*it, now).is_none())
}

/// The spans of a set, in the order of search.
pub(super) fn in_order(ranges: &Ranges, order: Order) -> impl Iterator<Item = Span> + '_ {
    let (up, down) = match order {
        Order::Ascending => (Some(ranges.spans()), None),
        Order::Descending => (None, Some(ranges.spans().rev())),
    };
    up.into_iter().flatten().chain(down.into_iter().flatten())
}

/// What is left of a span behind a part of it.
pub(super) fn beyond(span: Span, part: Span, order: Order) -> Option<Span> {
    let left = match order {
        Order::Ascending => Span { first: part.last.checked_add(1)?, ..span },
        Order::Descending => Span { last: part.first.checked_sub(1)?, ..span },
    };
    (left.first <= left.last).then_some(left)
}

fn numbers(span: Span, order: Order) -> impl Iterator<Item = u128> {
    let (up, down) = match order {
        Order::Ascending => (Some(span.first..=span.last), None),
        Order::Descending => (None, Some((span.first..=span.last).rev())),
    };
    up.into_iter().flatten().chain(down.into_iter().flatten())
}
