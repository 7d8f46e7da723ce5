//! A ConfigMap, a line a key; behind a zero byte, a line a Service: what its annotation says.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use edgevip::engine::pools::{
    ADDRESSES, Book, Pools, Request, Sync, SyncRules, allocate, next_candidates, usage,
};
use edgevip::model::{
    FamilyPolicy, Instant, IpFamily, ObjectName, Protocol, ResourceVersion, Service, ServicePort,
    Words,
};
use libfuzzer_sys::{Corpus, fuzz_target};

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
/// So many Services are made of the text, and so many ask for addresses.
const MANY: usize = 32;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(bytes) else { return Corpus::Reject };
    let (map, annotations) = text.split_once('\0').unwrap_or((text, ""));
    let lines = map.lines().filter_map(|it| it.split_once(": "));
    let data: BTreeMap<_, _> = lines.map(|(key, it)| (key.to_owned(), it.to_owned())).collect();
    let pools = Pools::read(&data);
    for fault in pools.faults() {
        assert!(data.contains_key(&fault.key) && fault.to_string().len() < 1000, "{fault}");
    }
    let mut book = Book::default();
    for (number, line) in annotations.lines().take(MANY).enumerate() {
        let mut service = service(number + MANY);
        service.annotations.insert(ADDRESSES.into(), line.into());
        book.update(&service, NOW);
    }
    for number in 0..MANY {
        gives(&pools, &mut book, &service(number));
    }
    for used in usage(&pools, &book, NOW) {
        assert!(used.families.iter().all(|it| it.used <= it.total && it.free() <= it.total));
    }
    for ip in next_candidates(&pools, &book, NOW, 3).values().flatten() {
        assert_eq!(book.users(*ip).count(), 0, "{ip}");
    }
    for name in book.services().cloned().collect::<Vec<_>>() {
        book.remove(&name, NOW);
    }
    assert_eq!(book.services().count(), 0);
    Corpus::Keep
});

/// What is given is nobody else's, unless all are allowed to share it; and is written once.
fn gives(pools: &Pools, book: &mut Book, asks: &Service) {
    let rules = SyncRules { classless: true, classes: BTreeSet::new(), field: true };
    let request = Request::of(asks, NOW);
    let answer = allocate(pools, book, &request);
    let sync = Sync::decide(&rules, pools, book, asks, NOW);
    assert_eq!(sync.grant.as_ref(), answer.as_ref().ok());
    assert_eq!(sync.refusal.as_ref(), answer.as_ref().err());
    let Ok(grant) = answer else { return };
    for ip in &grant.addresses {
        let mut others = book.users(*ip).filter(|it| **it != asks.name);
        let shares = |it: &ObjectName| ip.is_ipv4() && pools.allows_sharing(&it.namespace);
        assert!(others.all(shares), "{ip}");
    }
    book.grant(&request, &grant);
    assert_eq!(allocate(pools, book, &request).map(|it| it.addresses), Ok(grant.addresses));
    let mut written = asks.clone();
    for (key, value) in sync.patch.annotations {
        written.annotations.extend(value.map(|it| (key, it)));
    }
    for (key, value) in sync.patch.labels {
        written.labels.extend(value.map(|it| (key, it)));
    }
    written.load_balancer_ip = sync.patch.load_balancer_ip;
    book.update(&written, NOW);
    assert!(Sync::decide(&rules, pools, book, &written, NOW).patch.is_empty());
}

fn service(number: usize) -> Service {
    let policies =
        [FamilyPolicy::SingleStack, FamilyPolicy::PreferDualStack, FamilyPolicy::RequireDualStack];
    let families = [vec![], vec![IpFamily::V4], vec![IpFamily::V6, IpFamily::V4]];
    let protocol = [Protocol::Tcp, Protocol::Udp][number % 2];
    let ports = (number % 5 > 0).then(|| ServicePort { port: number as u16 % 7, protocol });
    Service {
        name: ObjectName::new(["default", "test"][number / 2 % 2], format!("s{number}")),
        uid: number.to_string(),
        version: ResourceVersion("1".into()),
        balanced: true,
        deleting: false,
        class: None,
        load_balancer_ip: None,
        local: number % 11 == 0,
        families: families[number / 3 % 3].clone(),
        family_policy: policies[number % 3],
        ports: ports.into_iter().collect(),
        annotations: Words::new(),
        labels: Words::new(),
        finalizers: vec![],
        ingress: vec![],
    }
}
