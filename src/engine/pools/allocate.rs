//! Addresses for one Service: of which families, and which.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::asked::Request;
use super::book::Book;
use super::read::{Pool, Pools};
use super::sharing;
use super::text::Source;
use super::{search, usage};
use crate::model::{FamilyPolicy, Instant, IpFamily, PoolRefusal};

/// What a Service gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Its addresses. `0.0.0.0` and `::` stand for what DHCP will lease.
    pub addresses: Vec<IpAddr>,
    /// The link that its namespace is to be on.
    pub interface: Option<String>,
    /// The key of the pool.
    pub pool: String,
}

impl Grant {
    /// The addresses as they stand in the annotation.
    pub fn text(&self) -> String {
        joined(&self.addresses)
    }
}

pub(super) fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

/// Chooses addresses; the book does not know of them yet, see [`Book::grant`].
///
/// Of each family, the first that there is: what the Service has or had, if it is free; where
/// sharing is allowed, the first that others share with it, IPv4 only; the first free one.
pub fn allocate(pools: &Pools, book: &Book, request: &Request) -> Result<Grant, PoolRefusal> {
    let (key, pool) = pools.pool(&request.name.namespace)?;
    let Wanted { families, all } = wanted(key, pool, request)?;
    let chosen = families.iter().map(|it| choose(pools, book, request, *it, pool.of(*it)));
    let chosen: Vec<_> = chosen.collect();
    let addresses: Vec<_> = chosen.iter().flatten().copied().collect();
    if addresses.is_empty() || all && addresses.len() < families.len() {
        let without = families.iter().zip(&chosen).filter(|(_, it)| it.is_none());
        let families = without.filter_map(|(family, _)| {
            usage::of_family(book, *family, pool.of(*family), request.now)
        });
        return Err(PoolRefusal::Exhausted {
            namespace: request.name.namespace.clone(),
            pool: key.to_owned(),
            families: families.collect(),
        });
    }
    Ok(Grant {
        addresses,
        interface: pools.interface(&request.name.namespace).map(str::to_owned),
        pool: key.to_owned(),
    })
}

/// The next addresses that each pool will give out, up to `n` of each family: those that are
/// worth a probe.
pub fn next_candidates(
    pools: &Pools,
    book: &Book,
    now: Instant,
    n: usize,
) -> BTreeMap<String, Vec<IpAddr>> {
    let readable = pools.pools.iter().filter_map(|(key, it)| Some((key, it.as_ref().ok()?)));
    let next = readable.map(|(key, pool)| {
        let of_family = |family| match pool.of(family) {
            Source::Absent | Source::Dhcp => Vec::new(),
            Source::Ranges(ranges) => {
                search::free(book, family, ranges, pools.order, now).take(n).collect()
            }
        };
        (key.clone(), [IpFamily::V4, IpFamily::V6].map(of_family).concat())
    });
    next.collect()
}

/// Which families a Service is to have.
pub(super) struct Wanted {
    pub families: Vec<IpFamily>,
    /// All of them, or none.
    pub all: bool,
}

/// Those that it asks for, as far as the pool has them.
pub(super) fn wanted(key: &str, pool: &Pool, request: &Request) -> Result<Wanted, PoolRefusal> {
    let has = |it: &IpFamily| *pool.of(*it) != Source::Absent;
    let first = request.families.first().copied();
    let pair = pair(request);
    let (asked, all) = match (request.policy, first) {
        (FamilyPolicy::SingleStack, Some(it)) => (vec![it], true),
        (FamilyPolicy::SingleStack, None) => (pair.into_iter().filter(has).take(1).collect(), true),
        (FamilyPolicy::PreferDualStack, _) => (pair.into_iter().filter(has).collect(), false),
        (FamilyPolicy::RequireDualStack, _) => (pair.to_vec(), true),
    };
    let missing: Vec<_> = asked.iter().copied().filter(|it| !has(it)).collect();
    if missing.is_empty() {
        return Ok(Wanted { families: asked, all });
    }
    Err(PoolRefusal::FamilyMissing {
        namespace: request.name.namespace.clone(),
        pool: key.to_owned(),
        families: missing,
        dhcp: [&pool.v4, &pool.v6].contains(&&Source::Dhcp),
    })
}

/// Both families, in the order that is asked for.
pub(super) fn pair(request: &Request) -> [IpFamily; 2] {
    match request.families.first() {
        Some(IpFamily::V6) => [IpFamily::V6, IpFamily::V4],
        Some(IpFamily::V4) | None => [IpFamily::V4, IpFamily::V6],
    }
}

/// An address of one family.
pub(super) fn choose(
    pools: &Pools,
    book: &Book,
    request: &Request,
    family: IpFamily,
    source: &Source,
) -> Option<IpAddr> {
    let ranges = match source {
        Source::Absent => return None,
        Source::Dhcp => return Some(leased(family)),
        Source::Ranges(ranges) => ranges,
    };
    let own = sharing::own(pools, book, request, family, ranges);
    let shared = || sharing::shared(pools, book, request, family, ranges);
    let free = || search::free(book, family, ranges, pools.order, request.now).next();
    own.or_else(shared).or_else(free)
}

/// What stands for an address that is to be leased.
fn leased(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
        IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}
