//! How much of each pool is used, and by whom.

use std::net::IpAddr;

use super::book::Book;
use super::ranges::{Span, address};
use super::read::{Pool, Pools};
use super::resting::{Rest, Why};
use super::search::{count_given, is_given};
use super::text::Source;
use crate::model::{
    AddressUse, FamilyUse, HeldAddress, Instant, IpFamily, ObjectName, PoolFault, PoolUse,
};

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// The use of each pool, readable or not.
pub fn usage(pools: &Pools, book: &Book, now: Instant) -> Vec<PoolUse> {
    pools.pools.iter().map(|(key, pool)| of_pool(book, key, pool, now)).collect()
}

fn of_pool(book: &Book, key: &str, pool: &Result<Pool, PoolFault>, now: Instant) -> PoolUse {
    let fault = pool.as_ref().err().cloned();
    let of = |it| pool.as_ref().map_or(&Source::Absent, |pool| pool.of(it));
    let families = FAMILIES.into_iter().filter_map(|it| of_family(book, it, of(it), now));
    let held = FAMILIES.into_iter().flat_map(|it| held(book, it, of(it), now));
    PoolUse {
        key: key.to_owned(),
        fault,
        dhcp: FAMILIES.into_iter().filter(|it| *of(*it) == Source::Dhcp).collect(),
        families: families.collect(),
        held: held.collect(),
    }
}

/// The use of the addresses of one family; `None`: there are none.
pub(super) fn of_family(
    book: &Book,
    family: IpFamily,
    source: &Source,
    now: Instant,
) -> Option<FamilyUse> {
    let Source::Ranges(ranges) = source else { return None };
    let taken = book.taken.of(family);
    let mut counted = FamilyUse { family, total: 0, used: 0, quarantined: 0, strangers: 0 };
    let (mut total, mut used) = (0u128, 0u128);
    for span in ranges.spans() {
        total = total.saturating_add(count_given(family, span));
        used += taken.within(span).map(|it| count_given(family, it)).sum::<u128>();
        for (_, rest) in resting(book, family, span, now) {
            match rest.why {
                Why::Freed(_) => counted.quarantined += 1,
                Why::Stranger(_) => counted.strangers += 1,
            }
        }
    }
    let most = |it: u128| it.try_into().unwrap_or(u64::MAX);
    Some(FamilyUse { total: most(total), used: most(used), ..counted })
}

/// What rests, may be given and is nobody's.
fn resting(
    book: &Book,
    family: IpFamily,
    span: Span,
    now: Instant,
) -> impl Iterator<Item = (IpAddr, &Rest)> {
    let resting = book.resting.within(family, span, now);
    let given = move |ip: IpAddr| is_given(family, super::ranges::number(ip).1);
    let nobodys = |ip: &IpAddr| !book.users.contains_key(ip) && !book.reserved.contains_key(ip);
    resting.filter(move |(ip, _)| given(*ip) && nobodys(ip))
}

fn held(book: &Book, family: IpFamily, source: &Source, now: Instant) -> Vec<HeldAddress> {
    let Source::Ranges(ranges) = source else { return Vec::new() };
    let mut held = Vec::new();
    for span in ranges.spans() {
        let ends = || address(family, span.first)..=address(family, span.last);
        let users = book.users.range(ends()).map(|(ip, names)| {
            let names = names.iter().map(|it| ObjectName::clone(it)).collect();
            HeldAddress { address: *ip, by: AddressUse::Services(names) }
        });
        let reserved = book.reserved.range(ends()).map(|(ip, whose)| {
            let whose = whose.iter().map(|it| it.to_string()).collect();
            HeldAddress { address: *ip, by: AddressUse::Reserved(whose) }
        });
        let resting = resting(book, family, span, now);
        let resting = resting.map(|(address, it)| HeldAddress { address, by: why(it, now) });
        held.extend(users.chain(reserved).chain(resting));
    }
    // Stable: of one address, Services come before what it is reserved for.
    held.sort_by_key(|it| it.address);
    held
}

fn why(rest: &Rest, now: Instant) -> AddressUse {
    let left_ms = rest.until.saturating_since(now).as_millis() as u64;
    match &rest.why {
        Why::Freed(last) => AddressUse::Quarantined { last: ObjectName::clone(last), left_ms },
        Why::Stranger(mac) => AddressUse::Stranger { mac: *mac, left_ms },
    }
}
