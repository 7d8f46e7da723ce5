//! Services that ask for ports on the gateway.

use super::*;
use crate::engine::mapping::OUTSIDE;
use crate::model::{GatewayFault, GatewayNo, GatewayReply, Granted, Way};

const PUBLIC: &str = "198.51.100.7";

fn forwarded(name: &str, ip: &str) -> Service {
    let mut it = asking(name, ip);
    it.annotations.insert("kube-vip.io/forwardUPNP".into(), "true".into());
    it
}

impl Bench {
    /// A Service that is answered for here, and only Events are told of it.
    fn forwards_unwritten(&mut self) -> &mut Self {
        self.services.config.writes = false;
        self.service(forwarded("a/web", IP)).endpoints("a/web", &["n2"]).answers(IP, true)
    }

    /// Answers all that the gateway is asked, by PCP; returns what that was.
    fn gateway_says(&mut self, external: &str, no: Option<GatewayNo>) -> Vec<String> {
        let mut asked = Vec::new();
        while !self.gateway.is_empty() {
            let (request, call) = self.gateway.remove(0);
            let reply = match call {
                GatewayCall::Find { .. } => {
                    GatewayReply::Found(Way::Pcp("10.0.0.1:5351".parse().unwrap()))
                }
                GatewayCall::Look { .. } => GatewayReply::Looked { external: None, epoch: Some(1) },
                GatewayCall::Map { exposed, lease, .. } => {
                    asked.push(format!("map {exposed} {lease}"));
                    let (port, external) = (exposed.port.port, external.parse().ok());
                    match no {
                        None => GatewayReply::Mapped(Granted {
                            port,
                            lease,
                            external,
                            ..Granted::default()
                        }),
                        Some(no) => {
                            let words = "NO".into();
                            GatewayReply::Refused(GatewayFault { no, code: 11, words })
                        }
                    }
                }
                GatewayCall::Read { .. } => panic!("PCP has nothing to read"),
                GatewayCall::Unmap { exposed, .. } => {
                    asked.push(format!("unmap {exposed}"));
                    GatewayReply::Unmapped
                }
            };
            self.turn(|it, cx| it.on_gateway(cx, request, &reply));
        }
        asked
    }

    /// A Service that is answered for here, and was told of.
    fn forwards(&mut self) -> &mut Self {
        self.service(forwarded("a/web", IP)).endpoints("a/web", &["n2"]).answers(IP, true);
        let writes = self.writes();
        self.reply(writes[0].0, ObjectReply::Done(ResourceVersion("5".into())));
        self.service(told(forwarded("a/web", IP), 5))
    }
}

/// What is written to a Service, in short.
fn words(writes: &[(RequestId, ObjectCall)]) -> Vec<String> {
    let one = |it: &ObjectCall| match it {
        ObjectCall::PatchService { patch, .. } => format!("{:?}", patch.annotations),
        ObjectCall::WriteIngress { ingress, .. } => {
            let ips = ingress.iter().filter_map(|it| it.ip);
            format!("{:?}", ips.collect::<Vec<_>>())
        }
        ObjectCall::ServiceEvent { reason, .. } => reason.clone(),
    };
    writes.iter().map(|it| one(&it.1)).collect()
}

#[test]
fn only_who_asks_is_exposed_and_only_where_it_is_answered_for() {
    let mut bench = Bench::new();
    bench.service(asking("a/plain", "10.0.0.6")).endpoints("a/plain", &["n2"]);
    bench.answers("10.0.0.6", true);
    bench.service(forwarded("a/web", IP)).endpoints("a/web", &["n2"]);
    assert!(bench.gateway.is_empty());
    bench.answers(IP, true);
    assert_eq!(bench.gateway_says(PUBLIC, None), ["map 80/TCP of 10.0.0.5 3600"]);
}

#[test]
fn every_port_of_all_who_share_an_address_is_wanted_and_changes_are_followed() {
    let mut bench = Bench::new();
    bench.forwards().gateway_says(PUBLIC, None);
    let mut other = forwarded("a/other", IP);
    other.ports = vec![
        ServicePort { port: 53, protocol: Protocol::Udp },
        ServicePort { port: 53, protocol: Protocol::Tcp },
    ];
    other.annotations.insert("kube-vip.io/upnp-lease-duration".into(), "2m".into());
    bench.service(other.clone());
    let both = ["map 53/TCP of 10.0.0.5 120", "map 53/UDP of 10.0.0.5 120"];
    assert_eq!(bench.gateway_says(PUBLIC, None), both);
    other.ports.truncate(1);
    bench.service(other.clone());
    assert_eq!(bench.gateway_says(PUBLIC, None), ["unmap 53/TCP of 10.0.0.5"]);
    other.annotations.remove("kube-vip.io/forwardUPNP");
    bench.service(other);
    assert_eq!(bench.gateway_says(PUBLIC, None), ["unmap 53/UDP of 10.0.0.5"]);
    // What another node answers for is that one's.
    bench.answers(IP, false);
    assert!(bench.gateway_says(PUBLIC, None).is_empty());
}

#[test]
fn an_address_stays_until_its_ports_are_closed() {
    let mut bench = Bench::new();
    bench.forwards().gateway_says(PUBLIC, None);
    bench.objects(Followed::Services(None), vec![ObjectEvent::Deleted("a/web".into())]);
    assert!(bench.place(IP).is_some(), "the gateway hears nobody but it");
    assert_eq!(bench.gateway_says(PUBLIC, None), ["unmap 80/TCP of 10.0.0.5"]);
    assert_eq!(bench.place(IP), None);
    bench.answers(IP, false);
    assert_eq!(bench.services.exposing.deadline(bench.now), None);
}

#[test]
fn an_address_does_not_stay_for_a_gateway_that_does_not_answer() {
    let mut bench = Bench::new();
    bench.forwards().gateway_says(PUBLIC, None);
    bench.objects(Followed::Services(None), vec![ObjectEvent::Deleted("a/web".into())]);
    bench.pass(2_900);
    assert!(bench.place(IP).is_some());
    bench.pass(200);
    assert_eq!(bench.place(IP), None);
}

#[test]
fn an_address_that_comes_again_while_it_stays_is_kept_and_mapped() {
    let mut bench = Bench::new();
    bench.forwards().gateway_says(PUBLIC, None);
    bench.objects(Followed::Services(None), vec![ObjectEvent::Deleted("a/web".into())]);
    bench.service(forwarded("a/web", IP));
    let asked = bench.gateway_says(PUBLIC, None);
    assert_eq!(asked.last().map(String::as_str), Some("map 80/TCP of 10.0.0.5 3600"));
    bench.pass(5_000);
    assert!(bench.place(IP).is_some());
}

#[test]
fn the_gateways_address_is_named_before_it_stands_in_the_status() {
    let mut bench = Bench::new();
    bench.forwards();
    bench.writes();
    bench.gateway_says(PUBLIC, None);
    let writes = bench.writes();
    let named = format!("{{{OUTSIDE:?}: Some({PUBLIC:?})}}");
    assert_eq!(words(&writes), std::slice::from_ref(&named));
    bench.reply(writes[0].0, ObjectReply::Done(ResourceVersion("6".into())));
    let mut it = told(forwarded("a/web", IP), 6);
    it.annotations.insert(OUTSIDE.into(), PUBLIC.into());
    bench.service(it.clone());
    let writes = bench.writes();
    assert_eq!(words(&writes), [format!("[{IP}, {PUBLIC}]")]);
    bench.reply(writes[0].0, ObjectReply::Done(ResourceVersion("7".into())));
    it.version = ResourceVersion("7".into());
    it.ingress.push(Ingress {
        ip: PUBLIC.parse().ok(),
        ports: it.ports.clone(),
        ..Ingress::default()
    });
    // Without the annotation of its addresses, its own are still told from the gateway's.
    it.annotations.remove(ADDRESSES);
    bench.service(it.clone());
    assert!(bench.writes().is_empty());
    assert!(bench.place(PUBLIC).is_none() && bench.place(IP).is_some());
    // It asks no longer: first the status is put right, then the annotation goes.
    it.annotations.remove("kube-vip.io/forwardUPNP");
    it.version = ResourceVersion("8".into());
    bench.service(it.clone());
    bench.gateway_says(PUBLIC, None);
    let writes = bench.writes();
    assert_eq!(words(&writes), [format!("[{IP}]")]);
    bench.reply(writes[0].0, ObjectReply::Done(ResourceVersion("9".into())));
    it.version = ResourceVersion("9".into());
    it.ingress.truncate(1);
    bench.service(it);
    assert_eq!(words(&bench.writes()), [format!("{{{OUTSIDE:?}: None}}")]);
}

#[test]
fn a_takeover_leaves_the_status_as_it_is_until_it_knows_better() {
    let mut bench = Bench::new();
    let mut it = told(forwarded("a/web", IP), 5);
    it.annotations.insert(OUTSIDE.into(), PUBLIC.into());
    it.ingress.push(Ingress {
        ip: PUBLIC.parse().ok(),
        ports: it.ports.clone(),
        ..Ingress::default()
    });
    bench.service(it).endpoints("a/web", &["n2"]).answers(IP, true);
    assert!(bench.writes().is_empty());
    bench.gateway_says(PUBLIC, None);
    assert!(bench.writes().is_empty());
}

#[test]
fn what_becomes_of_ports_is_told_once() {
    let mut bench = Bench::new();
    bench.forwards_unwritten();
    bench.events();
    bench.gateway_says(PUBLIC, None);
    let mapped = format!("a/web PortsMapped: 80/TCP: {PUBLIC} leads to {IP}, by PCP");
    assert_eq!(bench.events(), [mapped]);
    bench.pass(1_900_000).gateway_says(PUBLIC, None);
    assert!(bench.events().is_empty());

    let mut bench = Bench::new();
    bench.forwards_unwritten();
    bench.events();
    bench.gateway_says(PUBLIC, Some(GatewayNo::Taken));
    let taken = "a/web PortTaken: 80/TCP: somebody else has the port on the gateway".to_owned();
    assert_eq!(bench.events(), [taken]);
    let status = bench.services.status(bench.now);
    assert_eq!(status[0].mappings[0].code.as_deref(), Some("port-taken"));

    for (ip, why) in [
        ("100.64.3.4", "is shared among customers by the provider (RFC 6598)"),
        ("192.168.1.2", "is private (RFC 1918)"),
    ] {
        let mut bench = Bench::new();
        bench.forwards_unwritten();
        bench.events();
        bench.gateway_says(ip, None);
        let events = bench.events();
        let of_nat = events.iter().find(|it| it.contains(" BehindNat: "));
        assert!(of_nat.is_some_and(|it| it.contains(ip) && it.contains(why)), "{events:?}");
        assert_eq!(events.len(), 2, "{events:?}");
    }
}

#[test]
fn who_asks_while_the_setting_is_off_is_told() {
    let mut bench = Bench::new();
    bench.services.exposing = crate::engine::services::exposing::Exposing::new(false);
    bench.forwards();
    let events = bench.events();
    let off = "a/web GatewayOff: 80/TCP: forwardUPNP=true: enable_upnp is off".to_owned();
    assert!(events.contains(&off), "{events:?}");
    assert!(bench.gateway.is_empty());
}
