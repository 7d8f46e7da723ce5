//! A Lease for each Service, one bad thing at a time.

use edgevip::model::{Service, Vip};

use crate::apiserver::ApiServer;
use crate::cloud::{POOLS, named};
use crate::each::{TOGETHER, lease_of};
use crate::host::{MS, SEC};
use crate::objects::Kind;
use crate::stories_services::{Tale, anywhere, asking, is_reached, services, touch};
use crate::users::IGNORE;
use crate::world::{Event, World};

/// Three nodes, and each Service is elected by itself.
fn each() -> Tale {
    services().each()
}

const WEB: Vip = Vip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 200)));

/// Asks for the address, and hangs on this Lease.
fn asking_by(name: &str, address: &str, lease: &str) -> Service {
    let mut it = asking(name, address);
    it.annotations.insert(TOGETHER.into(), lease.into());
    it
}

/// From now on it hangs on that one.
fn hang_on(world: &mut World, name: &str, lease: String) {
    touch(world, &named("a", name), |it| drop(it.annotations.insert(TOGETHER.into(), lease)));
}

fn holder(world: &mut World, name: &str) -> Option<usize> {
    let lease = lease_of(world.objects().service(&named("a", name))?);
    let of = world.note_own(&lease);
    let author = world.with_api(of, |it| it.holder().and(it.author()))?;
    world.procs.iter().position(|it| it.runs() && it.author == author)
}

#[test]
fn each_service_is_carried_by_who_holds_its_lease() {
    let mut tale = each();
    tale.run(5 * SEC).unwrap();
    for nth in 0..6 {
        tale.make(asking(&format!("s{nth}"), &format!("10.0.0.{}", 200 + nth)));
    }
    let all = |it: &World| (0..6).all(|nth| is_reached(it, &format!("s{nth}")));
    tale.until(3 * SEC, "all are served", all).unwrap();
    for nth in 0..6 {
        let by = holder(&mut tale.world, &format!("s{nth}")).unwrap();
        let vip = Vip([10, 0, 0, 200 + nth as u8].into());
        assert_eq!(tale.world.answering(vip), [by], "of s{nth}");
    }
    tale.finish().unwrap();
}

#[test]
fn a_lease_that_nothing_hangs_on_is_given_back() {
    who_is_to_be_ignored_gives_its_lease_back().unwrap();
}

pub fn who_is_to_be_ignored_gives_its_lease_back() -> Result<(), String> {
    let mut tale = each();
    tale.run(5 * SEC)?;
    tale.make(asking("web", "10.0.0.200"));
    tale.until(2 * SEC, "it is served", |it| is_reached(it, "web"))?;
    tale.run(5 * SEC)?;
    touch(&mut tale.world, &named("a", "web"), |it| {
        it.annotations.insert(IGNORE.into(), "true".into());
    });
    tale.until(SEC, "nobody answers", |it| it.answering(WEB).is_empty())?;
    tale.run(100 * MS)?;
    match holder(&mut tale.world, "web") {
        None => tale.finish(),
        Some(by) => Err(format!("L3: node-{by} keeps the Lease of a Service that it ignores")),
    }
}

/// What its Lease was before is collected while somebody carries it by that again.
#[test]
fn a_service_that_is_made_again_has_one_holder() {
    let mut tale = each();
    tale.run(5 * SEC).unwrap();
    for _ in 0..20 {
        tale.world.weather.watch_lag = tale.world.rng.below(400 * MS);
        let it = asking("web", "10.0.0.200");
        let uid = tale.world.rng.below(1 << 40);
        tale.make(Service { uid: format!("{uid:032x}"), ..it });
        let span = 500 * MS + tale.world.rng.below(5 * SEC);
        tale.run(span).unwrap();
        tale.delete("web");
        let span = tale.world.rng.below(300 * MS);
        tale.run(span).unwrap();
    }
    tale.world.weather.watch_lag = 0;
    tale.make(asking("web", "10.0.0.200"));
    tale.until(40 * SEC, "it is served", |it| is_reached(it, "web")).unwrap();
    tale.run(10 * SEC).unwrap();
    tale.finish().unwrap();
}

#[test]
fn an_address_that_comes_to_hang_on_another_lease_has_a_single_holder() {
    whose_lease_is_another_is_asked_about_first().unwrap();
}

/// The others hold the Leases that it comes to hang on.
pub fn whose_lease_is_another_is_asked_about_first() -> Result<(), String> {
    let mut tale = each();
    tale.run(5 * SEC)?;
    tale.make(asking("web", "10.0.0.200"));
    for nth in 0..6 {
        let (name, address) = (format!("s{nth}"), format!("10.0.0.{}", 210 + nth));
        tale.make(asking_by(&name, &address, &format!("lease-{nth}")));
    }
    tale.until(3 * SEC, "it is served", |it| is_reached(it, "web"))?;
    for round in 0..12 {
        // Who carries it hears of that late.
        let by = tale.world.answering(WEB);
        by.iter().for_each(|it| tale.world.stall(*it, 2 * SEC));
        hang_on(&mut tale.world, "web", format!("lease-{}", round % 6));
        tale.run(6 * SEC)?;
        tale.until(20 * SEC, "it is served", |it| is_reached(it, "web"))?;
    }
    tale.finish()
}

/// One node has not heard that an address hangs on another Lease, and takes over the one before.
#[test]
fn who_takes_over_by_a_lease_of_before_asks_first() {
    who_takes_over_asks_first().unwrap();
}

pub fn who_takes_over_asks_first() -> Result<(), String> {
    let mut tale = each();
    tale.run(5 * SEC)?;
    tale.make(asking_by("other", "10.0.0.201", "lease-0"));
    for round in 0..8 {
        let name = format!("web-{round}");
        let both = |it: &World| is_reached(it, &name) && is_reached(it, "other");
        tale.make(asking_by(&name, &format!("10.0.0.{}", 210 + round), "lease-0"));
        tale.run(20 * SEC)?;
        tale.until(20 * SEC, "both are served", both)?;
        let dies = tale.world.answering(Vip([10, 0, 0, 201].into()))[0];
        tale.world.stall((dies + 1) % 3, 40 * SEC);
        hang_on(&mut tale.world, &name, format!("lease-{}", round + 1));
        tale.run(6 * SEC)?;
        match round % 2 {
            0 => tale.world.crash(dies, 25 * SEC),
            _ => {
                tale.world.stop(dies);
                tale.world.schedule(25 * SEC, Event::Start { proc: dies });
            }
        }
        tale.run(60 * SEC)?;
        tale.until(20 * SEC, "both are served", both)?;
    }
    tale.finish()
}

#[test]
fn who_stops_hands_on_all_that_it_carries() {
    let mut tale = each();
    tale.run(5 * SEC).unwrap();
    for nth in 0..9 {
        tale.make(asking(&format!("s{nth}"), &format!("10.0.0.{}", 200 + nth)));
    }
    let all = |it: &World| (0..9).all(|nth| is_reached(it, &format!("s{nth}")));
    tale.until(3 * SEC, "all are served", all).unwrap();
    tale.run(5 * SEC).unwrap();
    let first = tale.world.answering(WEB)[0];
    tale.world.stop(first);
    tale.run(50 * MS).unwrap();
    let others = move |it: &World| {
        all(it) && (0..9).all(|nth| it.answering(Vip([10, 0, 0, 200 + nth].into())) != [first])
    };
    tale.until(500 * MS, "others carry all", others).unwrap();
    tale.world.start(first);
    tale.run(30 * SEC).unwrap();
    tale.finish().unwrap();
}

/// Who begins anew does not know by which Lease it was carried before.
#[test]
fn who_has_just_begun_asks_before_it_answers() {
    let mut tale = each();
    tale.run(5 * SEC).unwrap();
    tale.make(asking_by("other", "10.0.0.201", "lease-1"));
    tale.make(asking("web", "10.0.0.200"));
    let both = |it: &World| is_reached(it, "web") && is_reached(it, "other");
    tale.until(3 * SEC, "both are served", both).unwrap();
    for _ in 0..6 {
        let web = tale.world.answering(WEB)[0];
        let other = tale.world.answering(Vip([10, 0, 0, 201].into()))[0];
        tale.world.stall(web, 20 * SEC);
        touch(&mut tale.world, &named("a", "web"), |it| {
            let name = if it.annotations.contains_key(TOGETHER) { "lease-2" } else { "lease-1" };
            it.annotations.insert(TOGETHER.into(), name.into());
        });
        if other != web {
            tale.world.crash(other, 100 * MS);
        }
        tale.run(30 * SEC).unwrap();
        tale.until(20 * SEC, "both are served", both).unwrap();
    }
    tale.finish().unwrap();
}

/// Whoever gives addresses does so although there are none for a while.
#[test]
fn who_has_waited_for_pools_gets_an_address() {
    let mut tale = each().pools("10.0.0.100-10.0.0.110");
    tale.run(20 * SEC).unwrap();
    tale.world.change(|it| it.remove(Kind::ConfigMap, &POOLS.into()));
    tale.run(SEC).unwrap();
    tale.make(anywhere("late"));
    tale.run(10 * SEC).unwrap();
    let mut tale = tale.pools("10.0.0.120-10.0.0.130");
    tale.until(2 * SEC, "it is served", |it| is_reached(it, "late")).unwrap();
    tale.run(60 * SEC).unwrap();
    tale.finish().unwrap();
}

/// Somebody deletes it by hand.
#[test]
fn a_lease_that_is_deleted_ends_the_right_to_answer() {
    whose_lease_is_deleted_answers_no_more().unwrap();
}

pub fn whose_lease_is_deleted_answers_no_more() -> Result<(), String> {
    let mut tale = each();
    tale.run(5 * SEC)?;
    tale.make(asking("web", "10.0.0.200"));
    tale.until(2 * SEC, "it is served", |it| is_reached(it, "web"))?;
    tale.run(5 * SEC)?;
    tale.world.lied_until = tale.world.now + 60 * SEC;
    let of = tale.world.note_own(&"a/kubevip-web".into());
    tale.world.with_api(of, ApiServer::delete);
    tale.world.push_objects();
    tale.run(5 * SEC)?;
    tale.until(20 * SEC, "it is served", |it| is_reached(it, "web"))?;
    tale.finish()
}
