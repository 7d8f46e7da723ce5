//! Services, one bad thing at a time: what they have by when, and what is left of them.

use std::net::IpAddr;

use edgevip::model::{ConfigMap, Ingress, Object, ObjectName, ResourceVersion, Service, Vip};

use crate::cloud::{POOLS, named};
use crate::faults::Kind as Fault;
use crate::host::{MS, Nanos, SEC};
use crate::objects::{ADDRESSES, Kind, known_by};
use crate::run::calm;
use crate::users::{Users, WITHOUT, node, port, service, slice};
use crate::world::{Log, Settings, World};

pub mod left;

pub struct Tale {
    pub world: World,
}

/// Three nodes, the first of which carries Services; no VIP of the control plane.
pub fn services() -> Tale {
    told(Log::Print)
}

fn told(log: Log) -> Tale {
    told_with(Settings::stock(), log)
}

fn told_with(settings: Settings, log: Log) -> Tale {
    told_by(crate::number("STORY_SEED").unwrap_or(1), settings, log)
}

fn told_by(seed: u64, settings: Settings, log: Log) -> Tale {
    let mut world = calm(3, settings, seed).with_log(log);
    world.serve(false, Users::default());
    world.settle_in();
    world.start_all();
    Tale { world }
}

/// One has an address of the pool, and is served.
fn served_out_of(pool: &str) -> Result<Tale, String> {
    let mut tale = services().pools(pool);
    tale.run(20 * SEC)?;
    tale.make(anywhere("web"));
    tale.until(SEC, "it is served", |it| is_reached(it, "web"))?;
    Ok(tale)
}

/// One that anybody can carry.
pub fn anywhere(name: &str) -> Service {
    let mut it = service(named("a", name), 1);
    it.annotations.insert(WITHOUT.into(), "true".into());
    it
}

pub fn asking(name: &str, ip: &str) -> Service {
    let mut it = anywhere(name);
    it.annotations.insert(ADDRESSES.into(), ip.into());
    it
}

impl Tale {
    /// Each Service is elected by a Lease of its own.
    pub fn each(mut self) -> Self {
        if let Some(cloud) = &mut self.world.cloud {
            cloud.rules.each = true;
        }
        self
    }

    pub fn pools(self, range: &str) -> Self {
        self.pools_of("range-global", range)
    }

    fn pools_of(mut self, key: &str, range: &str) -> Self {
        let map = ConfigMap {
            name: POOLS.into(),
            version: ResourceVersion(String::new()),
            data: [(key.to_owned(), range.to_owned())].into(),
        };
        self.world.change(|it| drop(it.put(Object::ConfigMap(map))));
        self
    }

    pub fn make(&mut self, it: Service) {
        self.world.change(|objects| drop(objects.put(Object::Service(it))));
    }

    pub fn endpoints(&mut self, name: &str, on: &[usize]) {
        let on: Vec<_> = on.iter().map(|it| (*it, true, true)).collect();
        self.world.change(|it| drop(it.put(slice(&named("a", name), &on))));
    }

    pub fn delete(&mut self, name: &str) {
        self.world.change(|it| it.delete_service(&named("a", name)));
    }

    pub fn run(&mut self, span: Nanos) -> Result<(), String> {
        self.world.run_for(span)
    }

    pub fn until(
        &mut self,
        within: Nanos,
        what: &str,
        is_so: impl Fn(&World) -> bool,
    ) -> Result<(), String> {
        match self.world.run_until_so(within, is_so)? {
            true => Ok(()),
            false => Err(format!("not within {} ms: {what}", within / MS)),
        }
    }

    /// Who has the one Lease of Services.
    pub fn carrier(&mut self) -> usize {
        let author = self.world.api_of(1).author();
        let proc = self.world.procs.iter().position(|it| it.runs() && Some(it.author) == author);
        proc.expect("somebody carries Services")
    }

    /// All are served and told; nothing is left of others; nothing goes on.
    pub fn finish(self) -> Result<(), String> {
        self.finish_so(|_| Ok(()))
    }

    /// And this is so.
    pub fn finish_so(mut self, is_so: impl Fn(&World) -> Result<(), String>) -> Result<(), String> {
        self.run(10 * SEC)?;
        self.world.check_served()?;
        let said = |it: &World| it.cloud.as_ref().map(|it| (it.writes, it.conflicts, it.events));
        let before = said(&self.world);
        self.run(60 * SEC)?;
        self.world.check_served()?;
        is_so(&self.world)?;
        if said(&self.world) != before {
            return Err(format!("L4: {before:?}, then {:?}", said(&self.world)));
        }
        Ok(())
    }
}

fn has(world: &World, name: &str) -> Vec<IpAddr> {
    world.objects().service(&named("a", name)).map(known_by).unwrap_or_default()
}

/// It is answered for by one host, and its status says so.
pub fn is_reached(world: &World, name: &str) -> bool {
    let told = world.objects().service(&named("a", name)).is_some_and(|it| !it.ingress.is_empty());
    let ips = has(world, name);
    told && ips.iter().all(|ip| world.answering(Vip(*ip)).len() == 1)
}

#[test]
fn two_hundred_services_at_once_come_and_go_and_leave_nothing() {
    let log = if crate::number("STORY_LOG").is_some() { Log::Print } else { Log::None };
    let mut tale = told(log).pools("10.0.1.1-10.0.1.250");
    let names: Vec<_> = (0..200).map(|it| format!("s{it}")).collect();
    tale.until(5 * SEC, "somebody gives addresses", |it| it.more[1].holder().is_some()).unwrap();
    names.iter().for_each(|it| tale.make(anywhere(it)));
    let all = |it: &World| it.objects().services().all(|it| !it.ingress.is_empty());
    tale.until(30 * SEC, "all have an address", all).unwrap();
    tale.run(5 * SEC).unwrap();
    tale.world.check_served().unwrap();
    let mut given: Vec<_> = names.iter().flat_map(|it| has(&tale.world, it)).collect();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 200, "each has one of its own");
    names.iter().for_each(|it| tale.delete(it));
    tale.run(5 * SEC).unwrap();
    let left: Vec<_> = (0..3).flat_map(|it| tale.world.held_of_services(it)).collect();
    assert!(left.is_empty(), "{left:?}");
    tale.finish().unwrap();
}

#[test]
fn a_service_that_goes_while_its_address_is_asked_for_leaves_nothing() {
    let mut tale = services();
    tale.run(20 * SEC).unwrap();
    tale.make(asking("web", "10.0.0.200"));
    let asks = |it: &World| it.procs.iter().any(|it| it.thread.ears().next().is_some());
    tale.until(SEC, "its address is listened for", asks).unwrap();
    tale.run(20 * MS).unwrap();
    assert!(!is_reached(&tale.world, "web"), "it is there already");
    tale.delete("web");
    let answered = |it: &World| !it.answering(Vip([10, 0, 0, 200].into())).is_empty();
    assert!(!tale.world.run_until_so(5 * SEC, answered).unwrap(), "its address is answered for");
    tale.finish().unwrap();
}

#[test]
fn who_dies_between_giving_and_telling_is_followed_by_one_who_tells() {
    let mut tale = services().pools("10.0.0.100-10.0.0.110");
    tale.run(20 * SEC).unwrap();
    tale.make(anywhere("web"));
    tale.until(SEC, "it is given an address", |it| !has(it, "web").is_empty()).unwrap();
    let given = has(&tale.world, "web");
    let carrier = tale.carrier();
    tale.world.crash(carrier, 100_000 * SEC);
    tale.until(40 * SEC, "another serves it", |it| is_reached(it, "web")).unwrap();
    assert_eq!(has(&tale.world, "web"), given, "it keeps what it was given");
    assert_ne!(tale.carrier(), carrier);
    tale.world.start(carrier);
    tale.finish().unwrap();
}

#[test]
fn pools_that_go_take_nothing_from_who_has_something() {
    let mut tale = served_out_of("10.0.0.100-10.0.0.110").unwrap();
    tale.world.change(|it| it.remove(Kind::ConfigMap, &POOLS.into()));
    tale.run(SEC).unwrap();
    tale.make(anywhere("late"));
    let lost = tale.world.run_until_so(30 * SEC, |it| !is_reached(it, "web"));
    assert!(!lost.unwrap(), "it has lost its address");
    assert_eq!(has(&tale.world, "late"), Vec::<IpAddr>::new());
    let mut tale = tale.pools("10.0.0.120-10.0.0.130");
    tale.until(SEC, "the other is served", |it| is_reached(it, "late")).unwrap();
    assert!(is_reached(&tale.world, "web"));
    // What was asked about beforehand is listened for as long as the answer counts.
    tale.run(60 * SEC).unwrap();
    tale.finish().unwrap();
}

/// Somebody edits the Service all the time, so that every write meets another version.
#[test]
fn a_storm_of_conflicts_is_no_storm_of_writes() {
    let mut tale = services();
    tale.run(20 * SEC).unwrap();
    tale.make(asking("web", "10.0.0.200"));
    for _ in 0..20_000 {
        tale.run(MS / 2).unwrap();
        touch(&mut tale.world, &named("a", "web"), |_| {});
    }
    let asked = tale.world.cloud.as_ref().map_or(0, |it| it.conflicts + it.writes);
    assert!(asked <= 100, "{asked} writes in ten seconds");
    tale.until(10 * SEC, "it is told in the end", |it| is_reached(it, "web")).unwrap();
    tale.finish().unwrap();
}

/// Another controller is sure that it knows better.
#[test]
fn a_status_is_not_fought_over() {
    whose_status_is_written_over_writes_ever_less_often().unwrap();
}

pub fn whose_status_is_written_over_writes_ever_less_often() -> Result<(), String> {
    let mut tale = services();
    tale.run(20 * SEC)?;
    tale.make(asking("web", "10.0.0.200"));
    tale.until(2 * SEC, "it is served", |it| is_reached(it, "web"))?;
    let theirs = Ingress { ip: Some([192, 168, 7, 7].into()), ..Ingress::default() };
    let before = tale.world.cloud.as_ref().map_or(0, |it| it.writes);
    for _ in 0..6_000 {
        tale.run(5 * MS)?;
        let theirs = theirs.clone();
        let name = named("a", "web");
        let stands = tale.world.objects().service(&name).map(|it| it.ingress.clone());
        if stands.as_deref() != Some(std::slice::from_ref(&theirs)) {
            touch(&mut tale.world, &name, |it| it.ingress = vec![theirs]);
        }
    }
    let writes = tale.world.cloud.as_ref().map_or(0, |it| it.writes) - before;
    if writes > 20 {
        return Err(format!("L4: {writes} writes in half a minute"));
    }
    let ours = |it: &World| {
        let ip = it.objects().service(&named("a", "web")).and_then(|it| it.ingress.first()?.ip);
        ip == Some([10, 0, 0, 200].into())
    };
    tale.until(130 * SEC, "ours stands in the end", ours)?;
    tale.finish()
}

#[test]
fn endpoints_that_flap_move_nothing() {
    a_local_service_stays_while_its_endpoints_flap().unwrap();
}

pub fn a_local_service_stays_while_its_endpoints_flap() -> Result<(), String> {
    let mut tale = services();
    tale.run(20 * SEC)?;
    let carrier = tale.carrier();
    let mut it = asking("web", "10.0.0.200");
    it.local = true;
    tale.make(it);
    tale.endpoints("web", &[carrier]);
    tale.until(2 * SEC, "it is served", |it| is_reached(it, "web"))?;
    tale.run(5 * SEC)?;
    let said = |it: &World| it.cloud.as_ref().map(|it| (it.writes, it.events));
    let before = said(&tale.world);
    for turn in 0..200 {
        tale.endpoints("web", if turn % 2 == 0 { &[] } else { std::slice::from_ref(&carrier) });
        let gone = |it: &World| it.answering(Vip([10, 0, 0, 200].into())) != [carrier];
        if tale.world.run_until_so(100 * MS, gone)? {
            return Err("L1: a VIP went with endpoints that came back at once".into());
        }
    }
    if said(&tale.world) != before {
        return Err(format!("L4: {before:?}, then {:?}", said(&tale.world)));
    }
    tale.endpoints("web", &[]);
    let gone = |it: &World| it.answering(Vip([10, 0, 0, 200].into())).is_empty();
    tale.until(1_100 * MS, "it goes with its last endpoint", gone)?;
    tale.finish()
}

#[test]
fn an_api_server_that_says_no_for_long_is_not_asked_without_end() {
    let mut tale = services().pools("10.0.0.100-10.0.0.110");
    tale.run(20 * SEC).unwrap();
    tale.world.weather.errors = 1_000;
    let before = tale.world.events;
    tale.make(anywhere("web"));
    tale.run(60 * SEC).unwrap();
    let turns = tale.world.events - before;
    assert!(turns < 10_000, "{turns} events in a minute");
    tale.world.weather.errors = 0;
    tale.until(30 * SEC, "it is served", |it| is_reached(it, "web")).unwrap();
    tale.finish().unwrap();
}

/// Its addresses are taken off the node, and are there again at once.
#[test]
fn who_asks_by_its_status_loses_nothing_of_it() {
    let mut tale = services();
    tale.run(20 * SEC).unwrap();
    let ips: [IpAddr; 3] = [200, 201, 202].map(|last| IpAddr::from([10, 0, 0, last]));
    let ingress = |ip: IpAddr| Ingress { ip: Some(ip), ..Ingress::default() };
    tale.make(Service { ingress: ips.map(ingress).into(), ..anywhere("web") });
    let all = |it: &World| ips.iter().all(|ip| it.answering(Vip(*ip)).len() == 1);
    tale.until(3 * SEC, "it is served", all).unwrap();
    for _ in 0..10 {
        tale.run(3 * SEC).unwrap();
        let carrier = tale.carrier();
        tale.world.inflict(Fault::FlushAddress, carrier, carrier, MS);
        tale.run(3 * SEC).unwrap();
        assert!(all(&tale.world) && has(&tale.world, "web").len() == 3, "it has all");
    }
    tale.finish().unwrap();
}

#[test]
fn who_got_nothing_gets_what_has_rested() {
    let mut tale = served_out_of("10.0.0.100-10.0.0.100").unwrap();
    tale.make(anywhere("late"));
    tale.run(SEC).unwrap();
    tale.delete("web");
    let early = tale.world.run_until_so(59 * SEC, |it| !has(it, "late").is_empty());
    assert!(!early.unwrap(), "it has not rested");
    tale.until(2 * SEC, "the other is served", |it| is_reached(it, "late")).unwrap();
    tale.finish().unwrap();
}

#[test]
fn who_sees_nothing_new_does_not_write_the_old_again() {
    let mut tale = services().pools("10.0.0.100-10.0.0.110");
    tale.run(20 * SEC).unwrap();
    tale.make(anywhere("web"));
    let given = |it: &World| !has(it, "web").is_empty();
    let before = tale.world.now;
    while !given(&tale.world) && tale.world.now < before + 20 * SEC {
        tale.world.weather.watch_lag = 8 * SEC;
        tale.run(MS / 2).unwrap();
        if tale.world.now < before + 30 * MS {
            touch(&mut tale.world, &named("a", "web"), |_| {});
        }
    }
    tale.world.weather.watch_lag = 0;
    let conflicts = tale.world.cloud.as_ref().map_or(0, |it| it.conflicts);
    assert!(conflicts <= 10, "{conflicts} conflicts");
    tale.until(20 * SEC, "it is served", |it| is_reached(it, "web")).unwrap();
    tale.finish().unwrap();
}

#[test]
fn what_is_written_and_not_answered_is_kept_for_whom_it_was_for() {
    what_is_written_and_not_answered_is_given_to_nobody_else().unwrap();
}

/// What conflicts with what is a matter of delays.
pub fn what_is_written_and_not_answered_is_given_to_nobody_else() -> Result<(), String> {
    let first = crate::number("STORY_SEED").unwrap_or(1);
    (first..first + 8).try_for_each(write_unanswered)
}

fn write_unanswered(seed: u64) -> Result<(), String> {
    let mut tale = told_by(seed, Settings::stock(), Log::None).pools("10.0.0.100-10.0.0.150");
    tale.run(20 * SEC)?;
    let names: Vec<_> = (0..40).map(|it| format!("s{it:02}")).collect();
    // The first are neither the first nor the last when all are looked at again.
    let (first, rest): (Vec<_>, Vec<_>) = names.iter().partition(|it| it.starts_with("s1"));
    first.into_iter().chain(rest).for_each(|it| tale.make(anywhere(it)));
    tale.world.weather.garbage = 1_000;
    // What they make of it, they will hear of late.
    (0..3).for_each(|it| tale.world.stall(it, 8 * SEC));
    tale.run(50 * MS)?;
    tale.world.weather.garbage = 0;
    tale.run(10 * SEC)?;
    let all = |it: &World| names.iter().all(|name| is_reached(it, name));
    tale.until(30 * SEC, "all are served", all)?;
    tale.finish()
}

#[test]
fn who_gives_next_knows_what_was_given() {
    who_gives_next_lists_what_was_given().unwrap();
}

/// The others have not heard yet of what was given last.
pub fn who_gives_next_lists_what_was_given() -> Result<(), String> {
    let mut tale = services().pools_of("range-b", "10.0.0.100-10.0.0.100");
    tale.make(anywhere("late"));
    tale.run(20 * SEC)?;
    let author = tale.world.api_of(2).author();
    let giver = tale.world.procs.iter().position(|it| Some(it.author) == author);
    let giver = giver.ok_or("nobody gives addresses")?;
    (0..3).filter(|it| *it != giver).for_each(|it| tale.world.stall(it, 10 * SEC));
    let web = named("b", "web");
    tale.make(Service { name: web.clone(), ..anywhere("web") });
    let given = |it: &World| it.objects().service(&web).is_some_and(|it| !known_by(it).is_empty());
    tale.until(SEC, "it is given an address", given)?;
    let mut tale = tale.pools("10.0.0.100-10.0.0.100");
    tale.run(100 * MS)?;
    tale.world.stop(giver);
    tale.run(20 * SEC)?;
    if !has(&tale.world, "late").is_empty() {
        return Err("S11: the same address is given to another".into());
    }
    tale.world.start(giver);
    tale.finish()
}

/// It is made a load balancer again, with what it had, while that is on its way to another.
#[test]
fn who_comes_back_while_its_address_is_given_away_has_it_or_the_other_does() {
    let mut tale = served_out_of("10.0.0.100-10.0.0.100").unwrap();
    touch(&mut tale.world, &named("a", "web"), |it| {
        it.balanced = false;
        it.ingress.clear();
    });
    tale.run(SEC).unwrap();
    tale.make(anywhere("late"));
    let (vip, late) = (Vip([10, 0, 0, 100].into()), named("a", "late"));
    let given = |it: &World| {
        let mut desks = it.cloud.iter().flat_map(|it| &it.desks);
        desks.any(|it| it.told.given.contains(&(vip.0, late.clone())))
    };
    tale.until(70 * SEC, "it is about to be given", given).unwrap();
    assert!(has(&tale.world, "late").is_empty(), "it is not written yet");
    touch(&mut tale.world, &named("a", "web"), |it| it.balanced = true);
    tale.until(5 * SEC, "it is written", |it| has(it, "late") == [vip.0]).unwrap();
    tale.run(30 * SEC).unwrap();
    let two = |it: &World| it.answering(vip).len() != 1;
    assert!(!tale.world.run_until_so(30 * SEC, two).unwrap(), "one node answers");
    let told = |name: &str| {
        let it = tale.world.objects().service(&named("a", name));
        it.is_some_and(|it| !it.ingress.is_empty())
    };
    assert!(told("web") != told("late"), "one of them has it");
}

/// Both ask the link about what may be given out next, and neither takes the other for one who
/// has it.
#[test]
fn who_gives_and_who_carries_may_be_two() {
    let mut tale = services().pools_of("range-b", "10.0.0.90-10.0.0.90");
    tale.run(20 * SEC).unwrap();
    let author = tale.world.api_of(2).author();
    let giver = tale.world.procs.iter().position(|it| Some(it.author) == author).unwrap();
    tale.world.change(|it| drop(it.put(node(giver, true, false, true))));
    tale.run(10 * SEC).unwrap();
    assert_ne!(tale.carrier(), giver, "another carries");
    let mut tale = tale.pools("10.0.0.100-10.0.0.102");
    tale.run(SEC).unwrap();
    for name in ["one", "two", "three"] {
        tale.make(anywhere(name));
        tale.until(2 * SEC, "it is served", |it| is_reached(it, name)).unwrap();
    }
    tale.run(60 * SEC).unwrap();
    tale.finish().unwrap();
}

#[test]
fn who_is_excluded_hands_services_on() {
    let mut tale = services();
    tale.run(20 * SEC).unwrap();
    tale.make(asking("web", "10.0.0.200"));
    tale.until(2 * SEC, "it is served", |it| is_reached(it, "web")).unwrap();
    tale.run(5 * SEC).unwrap();
    let carrier = tale.carrier();
    tale.world.change(|it| drop(it.put(node(carrier, true, false, true))));
    let moved = |it: &World| {
        let by = it.answering(Vip([10, 0, 0, 200].into()));
        by.len() == 1 && by != [carrier]
    };
    tale.until(SEC, "another carries it", moved).unwrap();
    tale.finish().unwrap();
}

#[test]
fn services_that_share_an_address_are_carried_together_and_it_stays_for_the_last() {
    let mut tale = services();
    tale.run(20 * SEC).unwrap();
    tale.make(asking("web", "10.0.0.200"));
    let mut dns = asking("dns", "10.0.0.200");
    dns.ports = vec![port(53)];
    tale.make(dns);
    let both = |it: &World| is_reached(it, "web") && is_reached(it, "dns");
    tale.until(2 * SEC, "both are served", both).unwrap();
    tale.delete("web");
    let gone = |it: &World| it.answering(Vip([10, 0, 0, 200].into())).len() != 1;
    assert!(!tale.world.run_until_so(10 * SEC, gone).unwrap(), "it goes with the first");
    tale.delete("dns");
    let gone = |it: &World| it.answering(Vip([10, 0, 0, 200].into())).is_empty();
    tale.until(SEC, "it goes with the last", gone).unwrap();
    tale.finish().unwrap();
}

/// Somebody else writes to a Service.
pub fn touch(world: &mut World, name: &ObjectName, change: impl FnOnce(&mut Service)) {
    let Some(mut it) = world.objects().service(name).cloned() else { return };
    change(&mut it);
    world.change(|objects| drop(objects.put(Object::Service(it))));
}
