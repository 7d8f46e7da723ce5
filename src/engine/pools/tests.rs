//! Tables of what is written, asked and given. What begins with `peer` is a vector of the
//! peer's own tests.

mod booking;
mod properties;
mod reading;
mod searching;
mod sharing;
mod syncing;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::model::{
    FamilyPolicy, Ingress, Instant, IpFamily, ObjectName, PoolRefusal, Protocol, ResourceVersion,
    Service, ServicePort, Words,
};

const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// A ConfigMap, Services, and a clock.
struct Bench {
    pools: Pools,
    book: Book,
    now: Instant,
}

impl Bench {
    /// Of lines `key: value`.
    fn new(map: &str) -> Self {
        Self { pools: pools(map), book: Book::default(), now: START }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// There is a Service with these addresses, by its annotation.
    fn has(&mut self, name: &str, addresses: &str) {
        let mut service = service(name);
        service.annotations.insert(ADDRESSES.into(), addresses.into());
        self.book.update(&service, self.now);
    }

    fn gone(&mut self, name: &str) {
        self.book.remove(&object(name), self.now);
    }

    /// Chooses without booking.
    fn ask(&self, words: &str) -> Result<Grant, PoolRefusal> {
        allocate(&self.pools, &self.book, &request(words, self.now))
    }

    /// The addresses, or the code of the refusal.
    fn answer(&self, words: &str) -> String {
        outcome(self.ask(words))
    }

    /// Chooses, books, and the Service says so.
    fn give(&mut self, words: &str) -> String {
        let request = request(words, self.now);
        let grant = allocate(&self.pools, &self.book, &request);
        if let Ok(grant) = &grant {
            self.book.grant(&request, grant);
            let mut service = service("");
            service.name = request.name.clone();
            service.ports = request.ports.clone();
            service.local = request.local;
            service.annotations.insert(ADDRESSES.into(), grant.text());
            self.book.update(&service, self.now);
        }
        outcome(grant)
    }
}

fn outcome(grant: Result<Grant, PoolRefusal>) -> String {
    grant.map_or_else(|it| it.code().to_owned(), |it| it.text())
}

fn data(map: &str) -> BTreeMap<String, String> {
    let lines = map.lines().filter(|it| !it.trim().is_empty());
    let pairs = lines.map(|it| it.split_once(": ").unwrap_or((it.trim_end_matches(':'), "")));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.to_owned())).collect()
}

fn pools(map: &str) -> Pools {
    Pools::read(&data(map))
}

/// The cells of each line of a table.
fn rows<const N: usize>(table: &str) -> impl Iterator<Item = [&str; N]> {
    table.lines().map(str::trim).filter(|it| !it.is_empty()).map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        cells.try_into().unwrap_or_else(|it: Vec<_>| panic!("{} cells in {line}", it.len()))
    })
}

fn object(name: &str) -> ObjectName {
    let (namespace, name) = name.split_once('/').unwrap_or(("test", name));
    ObjectName::new(namespace, name)
}

fn service(name: &str) -> Service {
    Service {
        name: object(name),
        uid: "1".into(),
        version: ResourceVersion("1".into()),
        balanced: true,
        deleting: false,
        class: None,
        load_balancer_ip: None,
        local: false,
        families: vec![],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![],
        annotations: Words::new(),
        labels: Words::new(),
        finalizers: vec![],
        ingress: vec![],
    }
}

/// `name`, then in any order `single`, `prefer` or `require`, families as `v6,v4`, `local`,
/// and ports as `TCP/80`.
fn request(words: &str, now: Instant) -> Request {
    let mut words = words.split_whitespace();
    let mut service = service(words.next().unwrap());
    for word in words {
        match word {
            "single" => service.family_policy = FamilyPolicy::SingleStack,
            "prefer" => service.family_policy = FamilyPolicy::PreferDualStack,
            "require" => service.family_policy = FamilyPolicy::RequireDualStack,
            "local" => service.local = true,
            _ if word.starts_with('v') => service.families = families(word),
            _ => service.ports.push(port(word)),
        }
    }
    Request::of(&service, now)
}

fn families(words: &str) -> Vec<IpFamily> {
    let family = |it| match it {
        "v4" => IpFamily::V4,
        "v6" => IpFamily::V6,
        _ => panic!("{it}"),
    };
    words.split(',').map(family).collect()
}

fn port(words: &str) -> ServicePort {
    let (protocol, port) = words.split_once('/').unwrap_or_else(|| panic!("{words}"));
    let protocol = match protocol {
        "SCTP" => Protocol::Sctp,
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        _ => panic!("{protocol}"),
    };
    ServicePort { port: port.parse().unwrap(), protocol }
}

fn ingress(ip: &str) -> Ingress {
    Ingress { ip: Some(ip.parse().unwrap()), ..Ingress::default() }
}
