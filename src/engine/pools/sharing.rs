//! An address that a Service has, had, or may have together with others.
//!
//! Services share an IPv4 address if the namespaces of all allow it, each has ports, no two
//! have the same port of the same protocol, and none has the traffic policy `Local`, whose
//! address goes where its own endpoints are.

use std::net::IpAddr;

use super::asked::Request;
use super::book::{Book, Entry};
use super::ranges::{Ranges, address, number};
use super::read::{Order, Pools};
use super::resting::Why;
use super::search::{in_order, is_given};
use crate::model::{IpFamily, ObjectName};

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
    let suits = |ip: &IpAddr| {
        is_given(family, number(*ip).1)
            && !book.reserved.contains_key(ip)
            && book.resting.get(*ip, request.now).is_none()
            && may_join(pools, book, request, *ip)
    };
    in_order(ranges, pools.order).find_map(|span| {
        let used = book.users.range(address(family, span.first)..=address(family, span.last));
        let mut used = used.map(|(ip, _)| *ip);
        match pools.order {
            Order::Ascending => used.find(suits),
            Order::Descending => used.rfind(suits),
        }
    })
}

/// Whether nobody else has it, or all who have it share it with this one.
fn may_join(pools: &Pools, book: &Book, request: &Request, ip: IpAddr) -> bool {
    let mut others = book.entries(ip).filter(|(name, _)| **name != request.name);
    let joins = |(name, entry): (&ObjectName, &Entry)| {
        may_share(pools, request)
            && IpFamily::of(ip) == IpFamily::V4
            && pools.allows_sharing(&name.namespace)
            && !entry.local
            && !entry.ports.is_empty()
            && !entry.ports.iter().any(|it| request.ports.contains(it))
    };
    others.all(joins)
}

fn may_share(pools: &Pools, request: &Request) -> bool {
    !request.local && !request.ports.is_empty() && pools.allows_sharing(&request.name.namespace)
}
