//! An address that a Service has, had, or may have together with others.
//!
//! Services share an IPv4 address if the namespaces of all allow it, each has ports, no two
//! have the same port of the same protocol, and none has the traffic policy `Local`, whose
//! address goes where its own endpoints are.

use std::net::IpAddr;

use super::asked::Request;
use super::book::Book;
use super::occupied::Occupied;
use super::ranges::{Ranges, Span, address, number};
use super::read::{Order, Pools};
use super::resting::Why;
use super::search::{beyond, in_order, is_given};
use crate::model::IpFamily;

/// What a Service has, or had, if nothing speaks against it.
pub(super) fn own(
    pools: &Pools,
    book: &Book,
    request: &Request,
    family: IpFamily,
    ranges: &Ranges,
) -> Option<IpAddr> {
    let suits = |ip: &IpAddr| {
        let (of, number) = number(*ip);
        let in_pool = of == family && is_given(family, number) && ranges.contains(number);
        let rested = book.resting.get(*ip, request.now).is_none_or(|it| match &it.why {
            Why::Freed(last) => **last == request.name,
            Why::Stranger(_) => false,
        });
        in_pool && rested && !book.reserved.contains_key(ip) && may_join(pools, book, request, *ip)
    };
    book.own(&request.name).find(suits)
}

/// The first address in the order of search that others have and this one may join.
pub(super) fn shared(
    pools: &Pools,
    book: &Book,
    request: &Request,
    family: IpFamily,
    ranges: &Ranges,
) -> Option<IpAddr> {
    if family == IpFamily::V6 || !may_share(pools, request) {
        return None;
    }
    let suits = |number: &u128| {
        let ip = address(family, *number);
        is_given(family, *number)
            && !book.reserved.contains_key(&ip)
            && book.resting.get(ip, request.now).is_none()
            && book.namespaces(ip).all(|it| pools.allows_sharing(it))
    };
    let busy = book.ports.at(&request.ports);
    let first = in_order(ranges, pools.order).find_map(|span| {
        let mut open = book.ports.open.within(span);
        let first = |it| outside(&busy, it, pools.order).find(suits);
        match pools.order {
            Order::Ascending => open.find_map(first),
            Order::Descending => open.rev().find_map(first),
        }
    });
    first.map(|it| address(family, it))
}

/// What of a span is in none of the sets, in this order.
fn outside(sets: &[&Occupied], span: Span, order: Order) -> impl Iterator<Item = u128> {
    let mut left = Some(span);
    std::iter::from_fn(move || {
        let first = |it: Span| match order {
            Order::Ascending => it.first,
            Order::Descending => it.last,
        };
        let mut span = left?;
        loop {
            let begun = first(span);
            for set in sets {
                let Some(gap) = set.gap(span, order) else {
                    left = None;
                    return None;
                };
                match order {
                    Order::Ascending => span.first = gap.first,
                    Order::Descending => span.last = gap.last,
                }
            }
            if first(span) == begun {
                left = beyond(span, Span { first: begun, last: begun }, order);
                return Some(begun);
            }
        }
    })
}

/// Whether nobody else has it, or all who have it share it with this one.
fn may_join(pools: &Pools, book: &Book, request: &Request, ip: IpAddr) -> bool {
    let alone = book.users(ip).all(|it| *it == request.name);
    let shares = || {
        IpFamily::of(ip) == IpFamily::V4
            && may_share(pools, request)
            && book.namespaces(ip).all(|it| pools.allows_sharing(it))
            && !book.would_clash(ip, request)
    };
    alone || shares()
}

fn may_share(pools: &Pools, request: &Request) -> bool {
    !request.local && !request.ports.is_empty() && pools.allows_sharing(&request.name.namespace)
}
