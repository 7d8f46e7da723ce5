//! Services whose addresses are leased, one bad thing at a time.

use std::net::IpAddr;

use edgevip::model::{IpFamily, Object, Service, Vip};

use crate::cloud::named;
use crate::dhcp::Dhcp;
use crate::faults::Kind;
use crate::host::{MS, Nanos, SEC};
use crate::objects::{ADDRESSES, asks_leases, leased};
use crate::run_site::check_site;
use crate::stories_services::{Tale, asking, is_reached, services, touch};
use crate::world::World;

/// Three nodes, and a server that leases for a minute.
fn site() -> Tale {
    let mut tale = services();
    if let Some(cloud) = &mut tale.world.cloud {
        cloud.site.dhcp = Some(Dhcp::new(60));
    }
    tale
}

fn leasing(tale: &mut Tale) -> &mut Dhcp {
    let cloud = tale.world.cloud.as_mut().expect("Services");
    cloud.site.dhcp.as_mut().expect("a server")
}

fn web(world: &World) -> Option<&Service> {
    world.objects().service(&named("a", "web"))
}

fn addresses(world: &World) -> Vec<IpAddr> {
    web(world).map(|it| leased(it).map(|it| it.1).collect()).unwrap_or_default()
}

/// All that it asks for is leased, told, and answered for by one host.
fn is_leased(world: &World) -> bool {
    let asked = web(world).map_or(0, |it| asks_leases(it).len());
    addresses(world).len() == asked && is_reached(world, "web")
}

fn end(tale: Tale) -> Result<(), String> {
    tale.finish_so(check_site)
}

fn begin(ips: &str) -> Result<Tale, String> {
    let mut tale = site();
    tale.run(20 * SEC)?;
    tale.make(asking("web", ips));
    tale.until(5 * SEC, "it is served", is_leased)?;
    tale.run(5 * SEC)?;
    Ok(tale)
}

#[test]
fn an_address_of_each_family_is_leased_and_kept() {
    for ips in ["0.0.0.0", "::", "0.0.0.0,::"] {
        let mut tale = begin(ips).unwrap();
        let before = addresses(&tale.world);
        let other = |it: &World| addresses(it) != before || !is_leased(it);
        assert!(!tale.world.run_until_so(600 * SEC, other).unwrap(), "it is kept");
        end(tale).unwrap();
    }
}

#[test]
fn who_comes_next_goes_on_with_the_address() {
    for ips in ["0.0.0.0", "::"] {
        let mut tale = begin(ips).unwrap();
        let before = addresses(&tale.world);
        let carrier = tale.carrier();
        tale.world.crash(carrier, 100_000 * SEC);
        tale.run(SEC).unwrap();
        tale.until(30 * SEC, "another serves it", is_leased).unwrap();
        assert_eq!(addresses(&tale.world), before);
        tale.run(200 * SEC).unwrap();
        assert_eq!(addresses(&tale.world), before);
        tale.world.start(carrier);
        end(tale).unwrap();
    }
}

#[test]
fn who_carries_it_no_more_does_not_renew_it() {
    one_node_renews_a_lease().unwrap();
}

/// Nodes follow one another; of those before, nobody speaks to the server.
pub fn one_node_renews_a_lease() -> Result<(), String> {
    let mut tale = begin("0.0.0.0")?;
    for _ in 0..3 {
        let carrier = tale.carrier();
        let name = format!("node-{carrier}");
        tale.world.change(|it| drop(it.put(crate::users::node(carrier, true, false, true))));
        let moved = |it: &World| {
            let by = web(it).and_then(|it| it.annotations.get(crate::users::HOST).cloned());
            by.is_some_and(|it| it != name) && is_leased(it)
        };
        tale.until(10 * SEC, "another serves it", moved)?;
        tale.world.change(|it| drop(it.put(crate::users::node(carrier, true, false, false))));
        tale.run(SEC)?;
    }
    tale.run(150 * SEC)?;
    end(tale)
}

#[test]
fn a_server_that_is_away_is_outlived_to_the_end_of_the_lease() {
    a_lease_that_nobody_renews_ends().unwrap();
}

/// And the next one goes on with it for an eighth.
pub fn a_lease_that_nobody_renews_ends() -> Result<(), String> {
    for ips in ["0.0.0.0", "::"] {
        let mut tale = begin(ips)?;
        let vip = Vip(addresses(&tale.world)[0]);
        leasing(&mut tale).down_until = Nanos::MAX;
        let lost = |it: &World| it.answering(vip).is_empty();
        let early = tale.world.run_until_so(25 * SEC, lost)?;
        if early {
            return Err("D1: it is not kept".into());
        }
        tale.until(40 * SEC, "it ends with its lease", lost)?;
        let again = tale.world.run_until_so(120 * SEC, |it| !lost(it))?;
        if again {
            return Err("D1: it is answered for after its end".into());
        }
        leasing(&mut tale).down_until = 0;
        tale.until(140 * SEC, "it is leased again", is_leased)?;
        end(tale)?;
        let mut tale = begin(ips)?;
        leasing(&mut tale).down_until = Nanos::MAX;
        let vip = Vip(addresses(&tale.world)[0]);
        let carrier = tale.carrier();
        tale.world.crash(carrier, 100_000 * SEC);
        tale.run(17 * SEC)?;
        tale.until(20 * SEC, "it ends for the next", |it| it.answering(vip).is_empty())?;
        leasing(&mut tale).down_until = 0;
        tale.until(140 * SEC, "it is leased again", is_leased)?;
        tale.world.start(carrier);
        end(tale)?;
    }
    Ok(())
}

#[test]
fn networks_are_numbered_anew() {
    what_a_server_refuses_is_given_up().unwrap();
}

pub fn what_a_server_refuses_is_given_up() -> Result<(), String> {
    for ips in ["0.0.0.0", "::"] {
        let mut tale = begin(ips)?;
        let before = addresses(&tale.world);
        leasing(&mut tale).numbering += 1;
        let other = |it: &World| addresses(it) != before && is_leased(it);
        tale.until(40 * SEC, "it has another", other)?;
        let both = tale.world.answering(Vip(before[0]));
        if !both.is_empty() {
            return Err("D1: the old one is answered for".into());
        }
        end(tale)?;
    }
    Ok(())
}

#[test]
fn a_server_that_has_forgotten_is_reminded() {
    for (ips, authoritative) in [("0.0.0.0", true), ("0.0.0.0", false), ("::", true), ("::", false)]
    {
        let mut tale = begin(ips).unwrap();
        leasing(&mut tale).authoritative = authoritative;
        leasing(&mut tale).bound.clear();
        tale.run(100 * SEC).unwrap();
        tale.until(60 * SEC, "it is leased", is_leased).unwrap();
        end(tale).unwrap();
    }
}

#[test]
fn what_is_lost_or_refused_is_asked_for_again() {
    for (loss, refuses) in [(500, 0), (0, 500), (300, 300)] {
        let mut tale = site();
        let it = leasing(&mut tale);
        (it.loss, it.refuses) = (loss, refuses);
        tale.run(20 * SEC).unwrap();
        tale.make(asking("web", "0.0.0.0,::"));
        tale.run(60 * SEC).unwrap();
        leasing(&mut tale).heal();
        tale.until(120 * SEC, "it is leased", is_leased).unwrap();
        end(tale).unwrap();
    }
}

#[test]
fn an_address_that_a_stranger_uses_is_declined() {
    what_is_leased_is_asked_about_first().unwrap();
}

pub fn what_is_leased_is_asked_about_first() -> Result<(), String> {
    for (ips, family) in [("0.0.0.0", IpFamily::V4), ("::", IpFamily::V6)] {
        let mut tale = site();
        tale.run(20 * SEC)?;
        let stranger = 60 * SEC;
        tale.world.stranger_until = tale.world.now + stranger;
        tale.make(asking("web", ips));
        let answered = |it: &World| {
            let all = it.cloud.as_ref().into_iter().flat_map(|it| it.ever.iter());
            all.into_iter().any(|ip| !it.answering(Vip(*ip)).is_empty())
        };
        if tale.world.run_until_so(stranger, answered)? {
            return Err(format!("D5: what a stranger uses is answered for, {family:?}"));
        }
        tale.until(200 * SEC, "it is leased", is_leased)?;
        end(tale)?;
    }
    Ok(())
}

#[test]
fn what_a_service_had_is_given_back() {
    whoever_is_gone_has_no_lease().unwrap();
}

pub fn whoever_is_gone_has_no_lease() -> Result<(), String> {
    for ips in ["0.0.0.0", "::", "0.0.0.0,::"] {
        let mut tale = begin(ips)?;
        tale.delete("web");
        tale.run(5 * SEC)?;
        if !leasing(&mut tale).bound.is_empty() {
            return Err(format!("D3: {ips} is not given back"));
        }
        end(tale)?;
    }
    Ok(())
}

/// Servers answer the one of before while the next one by its name is there already.
#[test]
fn who_comes_next_by_a_name_has_a_lease_of_its_own() {
    for ips in ["0.0.0.0", "::"] {
        let mut tale = begin(ips).unwrap();
        leasing(&mut tale).slow = 10 * MS;
        for uid in 2..10 {
            let (name, before) = (named("a", "web"), leasing(&mut tale).leases);
            let asked = |it: &World| {
                let site = it.cloud.as_ref().map(|it| &it.site);
                site.and_then(|it| it.dhcp.as_ref()).is_some_and(|it| it.leases > before)
            };
            tale.until(60 * SEC, "it is renewed", asked).unwrap();
            let uid = crate::users::service(name.clone(), uid).uid;
            let next = Service { uid, ..asking("web", ips) };
            tale.world.change(|it| {
                it.delete_service(&name);
                it.put(Object::Service(next));
            });
            tale.until(10 * SEC, "it is leased", is_leased).unwrap();
            tale.run(SEC).unwrap();
            check_site(&tale.world).unwrap();
        }
        end(tale).unwrap();
    }
}

/// A server that has forgotten gives one address to two, and what one of them gives back the other
/// has all the same.
#[test]
fn what_another_gives_back_is_kept_by_who_has_it() {
    for ips in ["0.0.0.0", "::"] {
        let mut tale = begin(ips).unwrap();
        let before = addresses(&tale.world);
        leasing(&mut tale).bound.clear();
        leasing(&mut tale).pings = false;
        let uid = crate::users::service(named("a", "late"), 9).uid;
        tale.make(Service { uid: uid.clone(), ..asking("late", ips) });
        tale.run(5 * SEC).unwrap();
        let given = leasing(&mut tale).ever.get(&before[0]).cloned();
        assert_eq!(given, Some(uid), "{ips} is given to another");
        tale.delete("late");
        let lost = |it: &World| addresses(it) != before || !is_leased(it);
        assert!(!tale.world.run_until_so(300 * SEC, lost).unwrap(), "{ips} is kept");
        end(tale).unwrap();
    }
}

/// Its status says for a while what was leased, and nobody else knows better.
#[test]
fn who_asks_for_no_lease_any_more_has_none() {
    for ips in ["0.0.0.0", "::", "0.0.0.0,::"] {
        let mut tale = begin(ips).unwrap();
        let before = addresses(&tale.world);
        touch(&mut tale.world, &named("a", "web"), |it| drop(it.annotations.remove(ADDRESSES)));
        tale.run(5 * SEC).unwrap();
        assert!(leasing(&mut tale).bound.is_empty(), "{ips} is given back");
        for ip in before {
            assert_eq!(tale.world.answering(Vip(ip)), [0; 0], "{ips}");
        }
        let said = web(&tale.world).map(|it| it.ingress.clone());
        assert_eq!(said, Some(Vec::new()), "{ips}");
        tale.run(60 * SEC).unwrap();
        end(tale).unwrap();
    }
}

/// Each Service is elected by itself.
fn each() -> Result<Tale, String> {
    let mut tale = site().each().pools("10.0.0.100-10.0.0.110");
    tale.run(20 * SEC)?;
    Ok(tale)
}

#[test]
fn leases_of_services_that_are_elected_each_move_with_them() {
    let mut tale = each().unwrap();
    for (nth, name) in ["web", "dns", "ntp"].into_iter().enumerate() {
        let uid = crate::users::service(named("a", name), 10 + nth as u64).uid;
        tale.make(Service { uid, ..asking(name, "0.0.0.0") });
    }
    let all = |it: &World| ["web", "dns", "ntp"].iter().all(|name| is_reached(it, name));
    tale.until(10 * SEC, "all are leased", |it| all(it) && is_leased(it)).unwrap();
    tale.run(5 * SEC).unwrap();
    let by = tale.world.answering(Vip(addresses(&tale.world)[0]))[0];
    let before = addresses(&tale.world);
    tale.world.stop(by);
    tale.run(100 * MS).unwrap();
    tale.until(5 * SEC, "others carry it", is_leased).unwrap();
    assert_eq!(addresses(&tale.world), before);
    tale.world.start(by);
    tale.run(60 * SEC).unwrap();
    end(tale).unwrap();
}

#[test]
fn what_has_run_out_is_not_taken_over() {
    what_is_over_is_said_before_the_next_one_carries().unwrap();
}

pub fn what_is_over_is_said_before_the_next_one_carries() -> Result<(), String> {
    for ips in ["0.0.0.0", "::"] {
        for seed in 0..8 {
            let mut tale = each()?;
            tale.run(seed * 100 * MS)?;
            tale.make(asking("web", ips));
            tale.until(10 * SEC, "it is served", is_leased)?;
            tale.run(5 * SEC)?;
            let vip = Vip(addresses(&tale.world)[0]);
            leasing(&mut tale).down_until = Nanos::MAX;
            let lost = |it: &World| it.answering(vip).is_empty();
            tale.until(65 * SEC, "it ends with its lease", lost)?;
            if tale.world.run_until_so(20 * SEC, |it| !lost(it))? {
                return Err("D1: it is answered for after its end".into());
            }
            leasing(&mut tale).down_until = 0;
            tale.until(140 * SEC, "it is leased again", is_leased)?;
            end(tale)?;
        }
    }
    Ok(())
}

/// Its Service hears too late that the address was leased no more for a moment.
#[test]
fn what_is_leased_again_at_once_moves_as_ever() {
    let begin = || {
        let mut tale = each().unwrap();
        tale.make(asking("web", "0.0.0.0"));
        tale.until(10 * SEC, "it is served", is_leased).unwrap();
        tale.run(5 * SEC).unwrap();
        leasing(&mut tale).down_until = Nanos::MAX;
        let vip = Vip(addresses(&tale.world)[0]);
        (tale, vip)
    };
    let (mut tale, vip) = begin();
    let lost = |it: &World| it.answering(vip).is_empty();
    tale.until(65 * SEC, "it ends with its lease", lost).unwrap();
    let end = tale.world.now;
    let (mut tale, _) = begin();
    tale.run(end - 200 * MS - tale.world.now).unwrap();
    leasing(&mut tale).down_until = 0;
    tale.world.weather.slow = 2 * SEC;
    tale.run(5 * SEC).unwrap();
    tale.world.weather.slow = 0;
    tale.until(20 * SEC, "it is leased again", is_leased).unwrap();
    assert_eq!(addresses(&tale.world), [vip.0]);
    tale.run(10 * SEC).unwrap();
    let by = tale.world.answering(vip)[0];
    tale.world.stop(by);
    let moved = |it: &World| it.answering(vip).iter().any(|it| *it != by);
    tale.until(2 * SEC, "another carries it", moved).unwrap();
    tale.world.start(by);
    self::end(tale).unwrap();
}

#[test]
fn who_waits_for_a_server_waits_on_the_link_that_there_is() {
    for ips in ["0.0.0.0", "::"] {
        let mut tale = site();
        leasing(&mut tale).down_until = Nanos::MAX;
        tale.run(20 * SEC).unwrap();
        tale.make(asking("web", ips));
        tale.run(60 * SEC).unwrap();
        for at in 0..3 {
            tale.world.inflict(Kind::LinkGone, at, at, SEC);
        }
        leasing(&mut tale).down_until = 0;
        tale.run(SEC).unwrap();
        tale.until(10 * SEC, "it is leased", is_leased).unwrap();
        end(tale).unwrap();
    }
}

/// Its next node is stopped for a while between taking the address up and asking for it.
#[test]
fn what_another_had_is_kept_for_an_eighth_in_all() {
    for ips in ["0.0.0.0", "::"] {
        for late in (0..40).step_by(4) {
            let mut tale = begin(ips).unwrap();
            leasing(&mut tale).down_until = Nanos::MAX;
            let (vip, carrier) = (Vip(addresses(&tale.world)[0]), tale.carrier());
            tale.world.crash(carrier, 100_000 * SEC);
            let other = move |it: &World| it.answering(vip).iter().any(|it| *it != carrier);
            tale.until(30 * SEC, "another has it", other).unwrap();
            let next = tale.world.answering(vip)[0];
            tale.run(late * MS).unwrap();
            tale.world.pause(next, SEC);
            tale.run(30 * SEC).unwrap();
            leasing(&mut tale).down_until = 0;
            tale.world.start(carrier);
            tale.until(140 * SEC, "it is leased again", is_leased).unwrap();
            end(tale).unwrap();
        }
    }
}
