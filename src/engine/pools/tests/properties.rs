//! Whatever happens, the choice is that of a reference that enumerates.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::engine::Rng;

/// All of a small pool, and who has what, in the plainest way.
struct Naive {
    pool: BTreeSet<IpAddr>,
    has: BTreeMap<String, (BTreeSet<IpAddr>, BTreeSet<ServicePort>, bool)>,
    reserved: BTreeSet<IpAddr>,
    freed: BTreeMap<IpAddr, (String, Instant)>,
    former: BTreeMap<String, BTreeSet<IpAddr>>,
    strangers: BTreeMap<IpAddr, Instant>,
    sharing: bool,
    descending: bool,
}

impl Naive {
    fn given(&self, ip: &IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => !matches!(ip.octets()[3], 0 | 255),
            IpAddr::V6(ip) => ip.octets()[8..] != [0; 8],
        }
    }

    fn rests(&self, ip: &IpAddr, now: Instant) -> bool {
        self.freed.get(ip).is_some_and(|(_, until)| *until > now) || self.strange(ip, now)
    }

    fn strange(&self, ip: &IpAddr, now: Instant) -> bool {
        self.strangers.get(ip).is_some_and(|until| *until > now)
    }

    fn users(&self, ip: &IpAddr) -> Vec<&String> {
        self.has.iter().filter(|(_, (it, ..))| it.contains(ip)).map(|(name, _)| name).collect()
    }

    fn free(&self, ip: &IpAddr, now: Instant) -> bool {
        let users = self.users(ip).is_empty() && !self.reserved.contains(ip);
        users && self.given(ip) && !self.rests(ip, now)
    }

    fn joinable(&self, ip: &IpAddr, request: &Request) -> bool {
        let mine: BTreeSet<_> = request.ports.iter().copied().collect();
        let others = self.has.iter().filter(|(name, _)| **name != request.name.name);
        let others: Vec<_> = others.filter(|(_, (it, ..))| it.contains(ip)).collect();
        others.iter().all(|(_, (_, ports, local))| {
            self.sharing
                && ip.is_ipv4()
                && !local
                && !request.local
                && !ports.is_empty()
                && !mine.is_empty()
                && mine.is_disjoint(ports)
        })
    }

    fn choose(&self, request: &Request, family: IpFamily) -> Option<IpAddr> {
        let now = request.now;
        let mut pool: Vec<_> =
            self.pool.iter().copied().filter(|it| IpFamily::of(*it) == family).collect();
        if self.descending {
            pool.reverse();
        }
        let shared = pool.iter().find(|it| {
            let users = !self.users(it).is_empty() && !self.reserved.contains(it);
            let may = family == IpFamily::V4 && !request.local && !request.ports.is_empty();
            let rests = self.strange(it, now) || !self.given(it);
            self.sharing && may && users && !rests && self.joinable(it, request)
        });
        shared.or_else(|| pool.iter().find(|it| self.free(it, now))).copied()
    }

    /// A Service has these no more.
    fn lose(&mut self, name: &str, lost: impl IntoIterator<Item = IpAddr>, now: Instant) {
        let lost = lost.into_iter().filter(|it| self.users(it).is_empty());
        let lost: BTreeSet<_> = lost.collect();
        for ip in &lost {
            let until = now + QUARANTINE;
            if self.strangers.get(ip).is_none_or(|it| *it < until) {
                self.strangers.remove(ip);
                self.freed.insert(*ip, (name.to_owned(), until));
            }
        }
        if !lost.is_empty() {
            self.former.insert(name.to_owned(), lost);
        }
    }

    /// What the Service itself may have again.
    fn again(&self, request: &Request, family: IpFamily) -> BTreeSet<IpAddr> {
        let name = &request.name.name;
        let mine = self.has.get(name).map(|it| it.0.clone()).unwrap_or_default();
        let own = mine.into_iter().chain(self.former.get(name).into_iter().flatten().copied());
        let others = |it: &IpAddr| {
            let freed = self.freed.get(it).filter(|(_, until)| *until > request.now);
            freed.is_some_and(|(by, _)| by != name)
        };
        let suits = |it: &IpAddr| {
            IpFamily::of(*it) == family
                && self.pool.contains(it)
                && self.given(it)
                && !self.reserved.contains(it)
                && !self.strange(it, request.now)
                && !others(it)
                && self.joinable(it, request)
        };
        own.filter(suits).collect()
    }
}

fn v4(low: u64) -> IpAddr {
    Ipv4Addr::from(0x0a00_00f8 + low as u32).into()
}

fn v6(low: u64) -> IpAddr {
    Ipv6Addr::from((0xfd00_u128 << 112 | 0xffff_ffff_ffff_fffa) + u128::from(low)).into()
}

fn draw(rng: &mut Rng) -> (String, Naive) {
    let mut lines = String::new();
    let mut pool = BTreeSet::new();
    let mut values = Vec::new();
    for _ in 0..1 + rng.below(3) {
        let make = if rng.below(3) == 0 { v6 } else { v4 };
        let (first, len) = (rng.below(12), rng.below(9));
        values.push(format!("{}-{}", make(first), make(first + len)));
        pool.extend((first..=first + len).map(make));
    }
    let (sharing, descending) = (rng.below(2) == 0, rng.below(2) == 0);
    lines += &format!("range-global: {}\nallow-share-global: {sharing}\n", values.join(","));
    lines += &format!("search-order: {}\n", if descending { "desc" } else { "asc" });
    let naive = Naive {
        pool,
        has: BTreeMap::new(),
        reserved: BTreeSet::new(),
        freed: BTreeMap::new(),
        former: BTreeMap::new(),
        strangers: BTreeMap::new(),
        sharing,
        descending,
    };
    (lines, naive)
}

fn asked(rng: &mut Rng, now: Instant) -> Request {
    let mut words = format!("s{}", rng.below(14));
    words += ["", " prefer", " require", " v6", " prefer v6,v4"][rng.below(5) as usize];
    for _ in 0..rng.below(3) {
        words += [" TCP/80", " UDP/80", " TCP/443", " SCTP/1"][rng.below(4) as usize];
    }
    if rng.below(6) == 0 {
        words += " local";
    }
    request(&words, now)
}

#[test]
fn the_choice_is_that_of_a_reference_that_enumerates() {
    let mut seen = BTreeMap::<&str, u32>::new();
    for seed in 0..400 {
        let mut rng = Rng::from_seed(seed);
        let (map, mut naive) = draw(&mut rng);
        let mut bench = Bench::new(&map);
        for turn in 0..60 {
            bench.pass(rng.below(30));
            match rng.below(8) {
                0 => {
                    let ip = if rng.below(2) == 0 { v4(rng.below(20)) } else { v6(rng.below(20)) };
                    let same = naive.reserved.contains(&ip);
                    if same {
                        naive.reserved.remove(&ip)
                    } else {
                        naive.reserved.insert(ip)
                    };
                    let all = naive.reserved.iter().copied();
                    bench.book.reserve("node", all);
                }
                1 => {
                    let ip = if rng.below(2) == 0 { v4(rng.below(20)) } else { v6(rng.below(20)) };
                    bench.book.answered(ip, None, bench.now);
                    naive.strangers.insert(ip, bench.now + STRANGER);
                    naive.freed.remove(&ip);
                }
                2..=3 => {
                    let name = format!("s{}", rng.below(14));
                    let had = naive.has.remove(&name).map(|it| it.0).unwrap_or_default();
                    naive.lose(&name, had, bench.now);
                    bench.gone(&name);
                }
                _ => {
                    let request = asked(&mut rng, bench.now);
                    let place = format!("seed {seed}, turn {turn}, {request:?}, {map}");
                    let what = compare(&mut bench, &mut naive, &request, &place);
                    *seen.entry(what).or_default() += 1;
                }
            }
            counts_agree(&bench, &naive);
        }
    }
    let often = ["chosen", "again", "pool-exhausted", "pool-family-missing"];
    assert!(often.iter().all(|it| seen[it] > 500), "{seen:?}");
}

fn compare(bench: &mut Bench, naive: &mut Naive, request: &Request, place: &str) -> &'static str {
    let answer = allocate(&bench.pools, &bench.book, request);
    assert_eq!(answer, allocate(&bench.pools, &bench.book.clone(), request), "{place}");
    let has = |family| naive.pool.iter().any(|it| IpFamily::of(*it) == family);
    let first = request.families.first().copied().unwrap_or(IpFamily::V4);
    let other = if first == IpFamily::V4 { IpFamily::V6 } else { IpFamily::V4 };
    let wanted = match (request.policy, request.families.is_empty()) {
        (FamilyPolicy::SingleStack, false) => vec![first],
        (FamilyPolicy::SingleStack, true) if has(first) => vec![first],
        (FamilyPolicy::SingleStack, true) => vec![other],
        (FamilyPolicy::PreferDualStack | FamilyPolicy::RequireDualStack, _) => vec![first, other],
    };
    let choices: Vec<_> = wanted
        .iter()
        .map(|it| (naive.again(request, *it), naive.choose(request, *it)))
        .map(|(again, choice)| if again.is_empty() { choice.into_iter().collect() } else { again })
        .collect();
    let prefers = request.policy == FamilyPolicy::PreferDualStack;
    let missing = wanted.iter().any(|it| !has(*it)) && !prefers;
    let none = choices.iter().filter(|it| it.is_empty()).count();
    let exhausted = if prefers { none == choices.len() } else { none > 0 };
    let grant = match answer {
        Ok(grant) => grant,
        Err(refusal) => {
            let expected = if missing { "pool-family-missing" } else { "pool-exhausted" };
            assert!(missing || exhausted, "{refusal} {place}");
            assert_eq!(refusal.code(), expected, "{place}");
            return refusal.code();
        }
    };
    assert!(!missing && !exhausted, "{grant:?} {place}");
    let of = choices.iter().filter(|it| !it.is_empty());
    assert_eq!(grant.addresses.len(), of.clone().count(), "{place}");
    let mut kind = "chosen";
    for (ip, choices) in grant.addresses.iter().zip(of) {
        assert!(choices.contains(ip), "{ip} {choices:?} {place}");
        assert!(naive.pool.contains(ip) && !naive.reserved.contains(ip), "{ip} {place}");
        if naive.former.get(&request.name.name).is_some_and(|it| it.contains(ip))
            || naive.users(ip).contains(&&request.name.name)
        {
            kind = "again";
        }
    }
    bench.book.grant(request, &grant);
    let mut service = service(&request.name.name);
    service.ports = request.ports.clone();
    service.local = request.local;
    service.annotations.insert(ADDRESSES.into(), grant.text());
    bench.book.update(&service, bench.now);
    bench.book.withdraw(&request.name, bench.now);
    let addresses: BTreeSet<_> = grant.addresses.iter().copied().collect();
    let ports = request.ports.iter().copied().collect();
    let now = (addresses.clone(), ports, request.local);
    let before = naive.has.insert(request.name.name.clone(), now).map(|it| it.0);
    let lost: Vec<_> = before.unwrap_or_default().difference(&addresses).copied().collect();
    naive.lose(&request.name.name, lost, bench.now);
    naive.freed.retain(|ip, _| !addresses.contains(ip));
    kind
}

fn counts_agree(bench: &Bench, naive: &Naive) {
    let used = usage(&bench.pools, &bench.book, bench.now);
    for it in &used[0].families {
        let of = naive.pool.iter().filter(|ip| IpFamily::of(**ip) == it.family);
        let given: Vec<_> = of.filter(|ip| naive.given(ip)).collect();
        let free = given.iter().filter(|ip| naive.free(ip, bench.now)).count();
        assert_eq!(it.total, given.len() as u64);
        assert_eq!(it.free(), free as u64, "{it:?}");
        let next = next_candidates(&bench.pools, &bench.book, bench.now, 100);
        let next = next["range-global"].iter().filter(|ip| IpFamily::of(**ip) == it.family);
        assert_eq!(next.count(), free);
    }
}
