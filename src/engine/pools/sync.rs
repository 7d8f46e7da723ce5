//! What is to be written to a Service, so that it has addresses.
//!
//! ```text
//!   being deleted          the peer's finalizer is removed, so that it can go
//!   nothing asked for      label, addresses out of the pool, with a mark that they are ours
//!   field, no annotation   the field goes into the annotation; label
//!   annotation             label; the addresses are the Service's own business, unless
//!                          they are marked as ours and its families have changed
//! ```
//!
//! Nothing is written that is there. Addresses without our mark, the user's or the peer's,
//! are never changed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::allocate::{self, Grant, Wanted, allocate, joined};
use super::asked::{
    ADDRESSES, ALLOCATED, CLEANUP, IMPLEMENTATION, INTERFACE, IPAM_ADDRESS, Request, list,
};
use super::book::Book;
use super::read::Pools;
use crate::model::{FamilyPolicy, Instant, IpFamily, PoolRefusal, Service, ServicePatch};

/// Which Services are seen to, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SyncRules {
    /// Those without a class.
    pub classless: bool,
    /// Those of these classes.
    pub classes: BTreeSet<String>,
    /// `spec.loadBalancerIP` is written for those who still read it.
    pub field: bool,
}

/// What to write to a Service, and why something is not written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sync {
    /// Nothing, if it is as it should be.
    pub patch: ServicePatch,
    /// What the patch gives it: to be told to [`Book::grant`] before it is written.
    pub grant: Option<Grant>,
    /// Why it has not what it asks for.
    pub refusal: Option<PoolRefusal>,
}

impl Sync {
    /// Decides for one Service.
    pub fn decide(
        rules: &SyncRules,
        pools: &Pools,
        book: &Book,
        service: &Service,
        now: Instant,
    ) -> Self {
        if service.deleting {
            return Self { patch: farewell(rules, service), ..Self::default() };
        }
        if !service.balanced || !rules.covers(service) {
            return Self::default();
        }
        let request = Request::of(service, now);
        let annotation = service.annotations.get(ADDRESSES).filter(|it| !it.is_empty());
        let field = service.load_balancer_ip.as_ref().filter(|it| !it.is_empty());
        let mark = service.annotations.get(ALLOCATED).filter(|it| !it.is_empty());
        // The field is a copy of the annotation that was ours.
        let copied = field.is_some() && field.map(String::as_str) == mark.map(|it| first(it));
        let mut sync = match (annotation, field, mark) {
            (Some(text), _, Some(mark)) if text == mark => {
                again(rules, pools, book, service, &request)
            }
            (Some(text), _, Some(_)) => disowned(text, copied),
            (None, Some(field), _) if !copied => copy_of(field),
            (Some(_), _, None) => Self::default(),
            (None, _, _) => anew(rules, pools, book, service, &request),
        };
        if sync.grant.is_none() && sync.refusal.is_none() {
            let asked = annotation.or(field).filter(|_| annotation.is_some() || !copied);
            sync.refusal = asked.and_then(|it| taken(book, &request, it));
        }
        if annotation.is_some() || !sync.patch.is_empty() {
            label(&mut sync.patch, service);
        }
        sync
    }
}

impl SyncRules {
    fn covers(&self, service: &Service) -> bool {
        match &service.class {
            Some(class) => self.classes.contains(class),
            None => self.classless,
        }
    }
}

/// Other load balancers of the same framework have the same finalizer, and need it.
fn farewell(rules: &SyncRules, service: &Service) -> ServicePatch {
    let seen_to = is_labelled(service) || service.balanced && rules.covers(service);
    let mut patch = ServicePatch::default();
    if seen_to && service.finalizers.iter().any(|it| it == CLEANUP) {
        let others = service.finalizers.iter().filter(|it| *it != CLEANUP);
        patch.finalizers = Some(others.cloned().collect());
    }
    patch
}

fn is_labelled(service: &Service) -> bool {
    service.labels.get(IMPLEMENTATION.0).is_some_and(|it| it == IMPLEMENTATION.1)
}

fn label(patch: &mut ServicePatch, service: &Service) {
    if !is_labelled(service) {
        let (key, value) = IMPLEMENTATION;
        patch.labels.insert(key.to_owned(), Some(value.to_owned()));
    }
    if service.labels.contains_key(IPAM_ADDRESS) {
        patch.labels.insert(IPAM_ADDRESS.to_owned(), None);
    }
}

/// It has no addresses.
fn anew(
    rules: &SyncRules,
    pools: &Pools,
    book: &Book,
    service: &Service,
    request: &Request,
) -> Sync {
    match allocate(pools, book, request) {
        Ok(grant) => given(rules, service, grant),
        Err(refusal) => Sync { refusal: Some(refusal), ..Sync::default() },
    }
}

/// Somebody wrote other addresses over ours.
fn disowned(text: &str, copied: bool) -> Sync {
    let mut patch = ServicePatch::default();
    patch.annotations.insert(ALLOCATED.to_owned(), None);
    // The old one would count as in use for ever.
    let address = Some(first(text)).filter(|it| copied && it.parse::<IpAddr>().is_ok());
    patch.load_balancer_ip = address.map(str::to_owned);
    Sync { patch, ..Sync::default() }
}

/// An address is asked for by the field alone.
fn copy_of(field: &str) -> Sync {
    let mut patch = ServicePatch::default();
    patch.annotations.insert(ADDRESSES.to_owned(), Some(field.to_owned()));
    Sync { patch, ..Sync::default() }
}

fn first(text: &str) -> &str {
    text.split(',').next().unwrap_or(text)
}

/// It has addresses of ours: are they of the families that it asks for? What it has of
/// those is kept, wherever pools have moved to.
fn again(
    rules: &SyncRules,
    pools: &Pools,
    book: &Book,
    service: &Service,
    request: &Request,
) -> Sync {
    let has: Vec<_> = list(&service.annotations[ADDRESSES]).collect();
    let kept = |family| has.iter().copied().find(|it| IpFamily::of(*it) == family);
    let prefers = request.policy == FamilyPolicy::PreferDualStack;
    let fits = fits(&has, request);
    if fits && (!prefers || has.len() == 2) {
        return Sync::default();
    }
    let pool = pools.pool(&request.name.namespace);
    let wanted = pool.and_then(|(key, pool)| {
        allocate::wanted(key, pool, request).map(|wanted| (key, pool, wanted))
    });
    let (key, pool, Wanted { families, all }) = match wanted {
        Ok(it) => it,
        Err(refusal) => {
            return Sync { refusal: Some(refusal).filter(|_| !fits), ..Sync::default() };
        }
    };
    let wants = |it: &IpFamily| prefers || families.contains(it);
    let choose = |it: &IpFamily| {
        kept(*it).or_else(|| allocate::choose(pools, book, request, *it, pool.of(*it)))
    };
    let addresses = allocate::pair(request).into_iter().filter(wants);
    let addresses: Vec<_> = addresses.filter_map(|it| choose(&it)).collect();
    if addresses.is_empty() || all && addresses.len() < families.len() {
        return Sync { refusal: allocate(pools, book, request).err(), ..Sync::default() };
    }
    if addresses.len() == has.len() && has.iter().all(|it| addresses.contains(it)) {
        return Sync::default();
    }
    let interface = pools.interface(&request.name.namespace).map(str::to_owned);
    given(rules, service, Grant { addresses, interface, pool: key.to_owned() })
}

/// Whether the families of these addresses are as many as it asks for, and of those.
fn fits(has: &[IpAddr], request: &Request) -> bool {
    let of = |family| has.iter().filter(|it| IpFamily::of(**it) == family).count();
    let (v4, v6) = (of(IpFamily::V4), of(IpFamily::V6));
    match (request.policy, request.families.first()) {
        (FamilyPolicy::SingleStack, Some(IpFamily::V4)) => (v4, v6) == (1, 0),
        (FamilyPolicy::SingleStack, Some(IpFamily::V6)) => (v4, v6) == (0, 1),
        (FamilyPolicy::SingleStack, None) => v4 + v6 == 1,
        (FamilyPolicy::PreferDualStack, _) => v4 <= 1 && v6 <= 1 && v4 + v6 > 0,
        (FamilyPolicy::RequireDualStack, _) => (v4, v6) == (1, 1),
    }
}

fn given(rules: &SyncRules, service: &Service, grant: Grant) -> Sync {
    let mut patch = ServicePatch::default();
    let text = joined(&grant.addresses);
    for key in [ADDRESSES, ALLOCATED] {
        if service.annotations.get(key) != Some(&text) {
            patch.annotations.insert(key.to_owned(), Some(text.clone()));
        }
    }
    if let Some(link) = &grant.interface
        && !service.annotations.contains_key(INTERFACE)
    {
        patch.annotations.insert(INTERFACE.to_owned(), Some(link.clone()));
    }
    let first = grant.addresses.first().map(IpAddr::to_string).filter(|_| rules.field);
    patch.load_balancer_ip = first.filter(|it| service.load_balancer_ip.as_ref() != Some(it));
    Sync { patch, grant: Some(grant), refusal: None }
}

/// Whether an address that the Service itself asks for is a node's, or another Service has
/// one of its ports there.
fn taken(book: &Book, request: &Request, text: &str) -> Option<PoolRefusal> {
    list(text).find_map(|address| {
        let reserved = book.reserved.get(&address).and_then(|it| it.first());
        let clashes = reserved.is_none() && book.would_clash(address, request);
        let other = if clashes { book.clashing(address, request) } else { None };
        let by = reserved.map(|it| it.to_string()).or(other.map(|it| it.to_string()))?;
        Some(PoolRefusal::Taken { service: request.name.clone(), address, by })
    })
}
