//! Ports of Services on the site's gateway, one bad thing at a time.

use edgevip::model::{Exposed, Protocol, Service, ServicePort, Vip, WayKind};

use crate::cloud::named;
use crate::gateway::{Mapping, Router};
use crate::host::{Nanos, SEC};
use crate::stories_services::{Tale, asking, is_reached, services};
use crate::users::{FORWARD, FORWARD_FOR, WITHOUT, node};
use crate::world::World;

const WAYS: [WayKind; 3] = [WayKind::Igd, WayKind::NatPmp, WayKind::Pcp];

fn site(ways: &[WayKind]) -> Tale {
    let mut tale = services();
    if let Some(cloud) = &mut tale.world.cloud {
        cloud.site.router = Some(Router::new(ways.to_vec()));
    }
    tale
}

fn exposing(tale: &mut Tale) -> &mut Router {
    let cloud = tale.world.cloud.as_mut().expect("Services");
    cloud.site.router.as_mut().expect("a gateway")
}

fn exposed(name: &str, ip: &str, lease: &str) -> Service {
    let mut it = asking(name, ip);
    it.annotations.insert(FORWARD.into(), "true".into());
    it.annotations.insert(FORWARD_FOR.into(), lease.into());
    it
}

fn mapping<'a>(world: &'a World, ip: &str) -> Option<&'a Mapping> {
    let vip = Vip(ip.parse().expect("an address"));
    let router = world.cloud.as_ref()?.site.router.as_ref()?;
    let found =
        router.find(&Exposed { vip, port: ServicePort { port: 80, protocol: Protocol::Tcp } })?;
    let lives = found.until.is_none_or(|until| until > world.now);
    Some(found).filter(|it| lives && it.client == vip)
}

fn end(mut tale: Tale) -> Result<(), String> {
    tale.run(SEC)?;
    let calm_since = tale.world.now;
    tale.finish_so(move |it| it.check_ports(calm_since))
}

fn begin(ways: &[WayKind], ip: &str, lease: &str) -> Result<Tale, String> {
    let mut tale = site(ways);
    tale.run(20 * SEC)?;
    tale.make(exposed("web", ip, lease));
    tale.until(3 * SEC, "it is served", |it| is_reached(it, "web"))?;
    tale.until(5 * SEC, "G2: its port is open", |it| mapping(it, ip).is_some())?;
    Ok(tale)
}

const WEB: &str = "10.0.0.200";

#[test]
fn a_port_is_opened_kept_open_and_closed() {
    what_is_wanted_of_the_gateway_is_there_and_nothing_else().unwrap();
}

pub fn what_is_wanted_of_the_gateway_is_there_and_nothing_else() -> Result<(), String> {
    let all = WAYS.map(|it| (it, WEB)).into_iter();
    for (way, ip) in all.chain([(WayKind::Pcp, "fd00::200"), (WayKind::Pinholes, "fd00::200")]) {
        for lease in ["30s", "0"] {
            let mut tale = begin(&[way], ip, lease)?;
            let gone = |it: &World| mapping(it, ip).is_none();
            if tale.world.run_until_so(200 * SEC, gone)? {
                return Err(format!("G2: the port of {ip} is lost, by {way:?}, for {lease}"));
            }
            tale.delete("web");
            tale.run(4 * SEC)?;
            if !gone(&tale.world) {
                return Err(format!("G3: the port of {ip} is open, by {way:?}, for {lease}"));
            }
            end(tale)?;
        }
    }
    Ok(())
}

#[test]
fn a_gateway_that_has_forgotten_is_told_again() {
    what_a_gateway_forgets_is_opened_again().unwrap();
}

pub fn what_a_gateway_forgets_is_opened_again() -> Result<(), String> {
    for way in WAYS {
        // It is looked at before it is asked again anyway.
        for (lease, within) in [("1m", 20), ("24h", 70)] {
            let mut tale = begin(&[way], WEB, lease)?;
            tale.run(35 * SEC)?;
            let now = tale.world.now;
            exposing(&mut tale).reboot(now, 0);
            tale.until(within * SEC, "G2: its port is open", |it| mapping(it, WEB).is_some())?;
            end(tale)?;
        }
    }
    Ok(())
}

/// It says that it has done what it has not, and no clock of its says so.
#[test]
fn what_a_gateway_only_says_is_asked_for_again() {
    let all = WAYS.map(|it| (it, WEB)).into_iter();
    for (way, ip) in all.chain([(WayKind::Pcp, "fd00::200"), (WayKind::Pinholes, "fd00::200")]) {
        for lease in ["1m", "0"] {
            let mut tale = site(&[way]);
            exposing(&mut tale).lies = 1_000;
            tale.run(20 * SEC).unwrap();
            tale.make(exposed("web", ip, lease));
            tale.until(3 * SEC, "it is served", |it| is_reached(it, "web")).unwrap();
            tale.run(SEC).unwrap();
            assert!(mapping(&tale.world, ip).is_none(), "{way:?} has not opened it");
            exposing(&mut tale).lies = 0;
            tale.until(70 * SEC, "its port is open", |it| mapping(it, ip).is_some()).unwrap();
            end(tale).unwrap();
        }
    }
}

#[test]
fn a_gateway_that_maps_for_good_is_asked_for_that() {
    who_maps_for_good_only_is_asked_for_that().unwrap();
}

pub fn who_maps_for_good_only_is_asked_for_that() -> Result<(), String> {
    let mut tale = site(&[WayKind::Igd]);
    exposing(&mut tale).permanent = true;
    tale.run(20 * SEC)?;
    tale.make(exposed("web", WEB, "1m"));
    tale.until(10 * SEC, "G2: its port is open", |it| mapping(it, WEB).is_some())?;
    tale.delete("web");
    tale.until(5 * SEC, "G3: its port is closed", |it| mapping(it, WEB).is_none())?;
    end(tale)
}

#[test]
fn a_port_moves_with_its_address() {
    for way in WAYS {
        let mut tale = begin(&[way], WEB, "1m").unwrap();
        let carrier = tale.carrier();
        tale.world.change(|it| drop(it.put(node(carrier, true, false, true))));
        let vip = Vip(WEB.parse().unwrap());
        let moved = |it: &World| it.answering(vip).len() == 1 && it.answering(vip) != [carrier];
        tale.until(5 * SEC, "another carries it", moved).unwrap();
        let now = tale.world.now;
        let renewed = |it: &World| mapping(it, WEB).is_some_and(|it| it.renewed_at > now);
        tale.until(5 * SEC, "another renews it", renewed).unwrap();
        tale.world.change(|it| drop(it.put(node(carrier, true, false, false))));
        end(tale).unwrap();
    }
}

#[test]
fn of_two_that_want_one_port_the_second_gets_it_after_the_first() {
    for way in WAYS {
        let mut tale = begin(&[way], WEB, "1m").unwrap();
        tale.make(exposed("late", "10.0.0.201", "1m"));
        let open = |it: &World| mapping(it, "10.0.0.201").is_some();
        assert!(!tale.world.run_until_so(60 * SEC, open).unwrap(), "{way:?}");
        assert!(mapping(&tale.world, WEB).is_some(), "{way:?}");
        tale.delete("web");
        tale.until(200 * SEC, "the other has it", open).unwrap();
        end(tale).unwrap();
    }
}

#[test]
fn a_gateway_that_is_away_or_refuses_is_asked_again() {
    for way in WAYS {
        let mut tale = begin(&[way], WEB, "1m").unwrap();
        exposing(&mut tale).down_until = Nanos::MAX;
        tale.run(100 * SEC).unwrap();
        exposing(&mut tale).down_until = 0;
        tale.until(250 * SEC, "its port is open", |it| mapping(it, WEB).is_some()).unwrap();
        let now = tale.world.now;
        exposing(&mut tale).refuses_until = now + 100 * SEC;
        tale.run(100 * SEC).unwrap();
        tale.until(250 * SEC, "its port is open", |it| mapping(it, WEB).is_some()).unwrap();
        let named = |it: &World| {
            it.objects().service(&named("a", "web")).is_some_and(|it| it.ingress.len() > 1)
        };
        tale.until(70 * SEC, "its status names the gateway", named).unwrap();
        tale.delete("web");
        end(tale).unwrap();
    }
}

/// Two want one address, each by its own Lease: the second has it once the first is gone.
fn contested(way: WayKind) -> Result<Tale, String> {
    let mut tale = site(&[way]).each();
    tale.run(20 * SEC)?;
    tale.make(exposed("web", WEB, "0"));
    tale.until(3 * SEC, "it is served", |it| is_reached(it, "web"))?;
    tale.until(5 * SEC, "G2: its port is open", |it| mapping(it, WEB).is_some())?;
    tale.make(asking("late", WEB));
    tale.run(5 * SEC)?;
    Ok(tale)
}

#[test]
fn what_comes_to_hang_on_anothers_lease_leaves_no_port_open() {
    for way in WAYS {
        let mut tale = contested(way).unwrap();
        tale.delete("web");
        let closed = |it: &World| mapping(it, WEB).is_none();
        tale.until(4 * SEC, "G3: its port is closed", closed).unwrap();
        tale.until(20 * SEC, "the other has the address", |it| is_reached(it, "late")).unwrap();
        end(tale).unwrap();
    }
}

#[test]
fn what_comes_to_be_of_one_who_is_served_nowhere_leaves_no_port_open() {
    for way in WAYS {
        let mut tale = begin(&[way], WEB, "0").unwrap();
        let mut late = asking("late", WEB);
        late.annotations.remove(WITHOUT);
        tale.make(late);
        tale.run(5 * SEC).unwrap();
        tale.delete("web");
        let closed = |it: &World| mapping(it, WEB).is_none();
        tale.until(4 * SEC, "G3: its port is closed", closed).unwrap();
        let vip = Vip(WEB.parse().unwrap());
        tale.until(SEC, "nobody answers", |it| it.answering(vip).is_empty()).unwrap();
        end(tale).unwrap();
    }
}

/// Whoever is told of both at once has never stood for the second.
#[test]
fn of_two_that_go_at_once_nothing_is_left() {
    for way in WAYS {
        let mut tale = contested(way).unwrap();
        tale.world.change(|it| {
            it.delete_service(&named("a", "web"));
            it.delete_service(&named("a", "late"));
        });
        tale.run(4 * SEC).unwrap();
        let vip = Vip(WEB.parse().unwrap());
        assert_eq!(tale.world.answering(vip), [0; 0], "{way:?}");
        assert!(mapping(&tale.world, WEB).is_none(), "{way:?}");
        end(tale).unwrap();
    }
}
