//! Links that are made for Services, and what keeps everything else from their addresses.

use std::collections::BTreeSet;

use edgevip::model::{LinkName, Protocol, ServicePort, Vip};

use crate::cloud::named;
use crate::faults::Kind;
use crate::host::{MS, Nanos, SEC};
use crate::stories_services::{Tale, asking, is_reached, services, touch};
use crate::users::node;
use crate::world::World;

const WEB: Vip = Vip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 200)));
const VLAN: &str = "kube-vip.io/serviceVLAN";

/// K2: whoever answers for it has it on the link that is asked for, if one is made.
fn is_astray(world: &World, link: Option<&str>) -> bool {
    let meant = |host: usize| {
        let kernel = &world.hosts[host].kernel;
        let on = kernel.held.keys().find(|it| it.1 == WEB).map(|it| it.0);
        on.and_then(|it| kernel.made.get(&it)).map(|it| it.name.clone())
    };
    let astray = |host: &usize| meant(*host) != link.map(|it| LinkName(it.into()));
    world.answering(WEB).iter().any(astray)
}

/// K1: nowhere is another link than this.
fn check_links(world: &World, link: Option<&str>) -> Result<(), String> {
    for (at, host) in world.hosts.iter().enumerate() {
        let there: Vec<_> = host.kernel.made.values().map(|it| it.name.0.as_str()).collect();
        if there != link.into_iter().collect::<Vec<_>>() {
            return Err(format!("K1: host-{at} has {there:?}, wanted is {link:?}"));
        }
    }
    Ok(())
}

#[test]
fn a_link_is_made_where_it_is_wanted_and_goes_with_who_wants_it() {
    what_is_made_is_there_as_long_as_it_is_wanted().unwrap();
}

pub fn what_is_made_is_there_as_long_as_it_is_wanted() -> Result<(), String> {
    let mut tale = services();
    tale.run(5 * SEC)?;
    let mut it = asking("web", "10.0.0.200");
    it.annotations.insert(VLAN.into(), "eth0.7".into());
    tale.make(it);
    tale.until(3 * SEC, "it is served", |it| is_reached(it, "web"))?;
    never(&mut tale, 5 * SEC, "K2: it is elsewhere", |it| is_astray(it, Some("eth0.7")))?;
    check_links(&tale.world, Some("eth0.7"))?;
    // It moves to a node that has the link already.
    let carrier = tale.carrier();
    tale.world.change(|it| drop(it.put(node(carrier, true, false, true))));
    let moved = move |it: &World| is_reached(it, "web") && it.answering(WEB) != [carrier];
    tale.until(5 * SEC, "another carries it", moved)?;
    tale.world.change(|it| drop(it.put(node(carrier, true, false, false))));
    // Below it the link goes, and comes again.
    let carrier = tale.world.answering(WEB)[0];
    tale.world.inflict(Kind::LinkGone, carrier, carrier, SEC);
    tale.run(2 * SEC)?;
    tale.until(10 * SEC, "it is served again", |it| is_reached(it, "web"))?;
    tale.run(5 * SEC)?;
    check_links(&tale.world, Some("eth0.7"))?;
    // Another process finds what the one before made.
    let carrier = tale.world.answering(WEB)[0];
    tale.world.crash(carrier, SEC);
    tale.run(40 * SEC)?;
    check_links(&tale.world, Some("eth0.7"))?;
    touch(&mut tale.world, &named("a", "web"), |it| {
        it.annotations.insert(VLAN.into(), "eth0.8".into());
    });
    tale.run(5 * SEC)?;
    check_links(&tale.world, Some("eth0.8"))?;
    never(&mut tale, SEC, "K2: it is elsewhere", |it| is_astray(it, Some("eth0.8")))?;
    touch(&mut tale.world, &named("a", "web"), |it| drop(it.annotations.remove(VLAN)));
    tale.run(5 * SEC)?;
    never(&mut tale, SEC, "K2: it is elsewhere", |it| is_astray(it, None))?;
    tale.finish_so(|it| check_links(it, None))
}

fn never(
    tale: &mut Tale,
    span: Nanos,
    what: &str,
    is_so: impl Fn(&World) -> bool,
) -> Result<(), String> {
    match tale.world.run_until_so(span, is_so)? {
        true => Err(format!("at {:.3}s: {what}", tale.world.now as f64 / 1e9)),
        false => Ok(()),
    }
}

/// P1: it is answered for where anything reaches it.
fn is_bare(world: &World) -> bool {
    world.answering(WEB).iter().any(|it| {
        let kernel = &world.hosts[*it].kernel;
        kernel.table && !kernel.guards.contains_key(&WEB)
    })
}

/// P2: these ports of it are reached, and nothing else; nowhere is anything kept from it that
/// does not answer for it.
fn check_guards(world: &World, ports: &[u16]) -> Result<(), String> {
    let of = |port: &u16| ServicePort { port: *port, protocol: Protocol::Tcp };
    let wanted: BTreeSet<_> = ports.iter().map(of).collect();
    for (at, host) in world.hosts.iter().enumerate() {
        let guarded = host.kernel.guards.get(&WEB);
        let there: BTreeSet<_> = guarded.into_iter().flatten().copied().collect();
        let meant = if world.answers(at, WEB) { &wanted } else { &there };
        if there != *meant {
            return Err(format!("P2: on host-{at} {there:?} reach it, wanted are {meant:?}"));
        }
    }
    Ok(())
}

#[test]
fn nothing_reaches_an_address_but_the_ports_of_its_service() {
    what_reaches_an_address_is_what_its_service_says().unwrap();
}

pub fn what_reaches_an_address_is_what_its_service_says() -> Result<(), String> {
    let mut tale = services();
    if let Some(cloud) = &mut tale.world.cloud {
        cloud.rules.guards = true;
    }
    tale.run(5 * SEC)?;
    tale.make(asking("web", "10.0.0.200"));
    never(&mut tale, 5 * SEC, "P1: anything reaches it", is_bare)?;
    if !is_reached(&tale.world, "web") {
        return Err("it is not served".into());
    }
    check_guards(&tale.world, &[80])?;
    touch(&mut tale.world, &named("a", "web"), |it| {
        it.ports = vec![ServicePort { port: 443, protocol: Protocol::Tcp }];
    });
    never(&mut tale, 2 * SEC, "P1: anything reaches it", is_bare)?;
    check_guards(&tale.world, &[443])?;
    // Somebody flushes the ruleset: what is built again has it, too.
    let carrier = tale.carrier();
    tale.world.inflict(Kind::FlushRules, carrier, carrier, MS);
    tale.run(2 * SEC)?;
    never(&mut tale, SEC, "P1: anything reaches it", is_bare)?;
    check_guards(&tale.world, &[443])?;
    // Its next node keeps the rest away from the first moment on.
    tale.world.change(|it| drop(it.put(node(carrier, true, false, true))));
    never(&mut tale, 5 * SEC, "P1: anything reaches it", is_bare)?;
    check_guards(&tale.world, &[443])?;
    tale.world.change(|it| drop(it.put(node(carrier, true, false, false))));
    tale.delete("web");
    tale.run(5 * SEC)?;
    if let Some(at) = tale.world.hosts.iter().position(|it| !it.kernel.guards.is_empty()) {
        return Err(format!("P2: host-{at} still keeps things away"));
    }
    tale.finish()
}
