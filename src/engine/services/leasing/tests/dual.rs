//! Leases of DHCPv6, alone and beside one of DHCPv4.

use super::*;
use crate::engine::services::Verdict;
use crate::model::{
    Dhcp6Address, Dhcp6Code, Dhcp6Ia, Dhcp6Kind, Dhcp6Lease, Dhcp6Message, Dhcp6Status, Heard,
};

const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const SERVER_ID: [u8; 4] = [0, 3, 0, 1];

fn ip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

/// A Service that asks for these.
fn asks(version: u32, addresses: &str) -> Service {
    let mut it = asking(version);
    it.annotations.insert(ADDRESSES.into(), addresses.into());
    it
}

fn lease6(last: u16) -> Dhcp6Lease {
    let (iaid, duid) = identity::iaid_and_duid(&asking(1).uid);
    Dhcp6Lease { address: ip(last), server: SERVER_ID.into(), seconds: 80, iaid, duid }
}

impl Bench {
    fn hear6(&mut self, kind: Dhcp6Kind, last: u16, valid: u32) -> &mut Self {
        let asked = &self.said6.last().expect("something was asked").message;
        let mut it = Dhcp6Message::new(kind, asked.xid, asked.client.clone());
        it.server = SERVER_ID.into();
        it.preference = 255;
        let addresses = vec![Dhcp6Address { ip: ip(last), preferred: valid, valid }];
        let id = asked.ia.as_ref().unwrap().id;
        it.ia = Some(Dhcp6Ia { id, t1: 0, t2: 0, addresses, status: None });
        self.turn(|services, _| services.on_dhcp(LINK.index, DhcpHeard::V6(SERVER6, it)))
    }

    fn kinds6(&mut self) -> Vec<Dhcp6Kind> {
        std::mem::take(&mut self.said6).iter().map(|it| it.message.kind).collect()
    }

    /// The Service says what was written to it.
    fn believe(&mut self, mut service: Service) -> Service {
        loop {
            let written = self.written();
            let Some((request, annotations)) = written.into_iter().next() else { return service };
            for (key, value) in annotations {
                match value {
                    Some(value) => _ = service.annotations.insert(key, value),
                    None => _ = service.annotations.remove(&key),
                }
            }
            let version: u32 = service.version.0.parse().unwrap();
            service.version = ResourceVersion((version + 1).to_string());
            let done = ObjectReply::Done(service.version.clone());
            self.turn(|services, cx| services.on_reply(cx, request, &done));
            self.service(service.clone()).pass(30);
        }
    }

    /// Has a lease of DHCPv6, and of DHCPv4 if it asks for one, and says so.
    fn bound6(addresses: &str) -> (Self, Service) {
        let mut it = Self::new();
        it.service(asks(1, addresses));
        if !it.said.is_empty() {
            it.hear(Dhcp4Kind::Offer, 50).hear(Dhcp4Kind::Ack, 50);
        }
        it.hear6(Dhcp6Kind::Advertise, 50, 80).hear6(Dhcp6Kind::Reply, 50, 80).pass(200);
        let service = it.believe(asks(1, addresses));
        it.said.clear();
        it.said6.clear();
        (it, service)
    }
}

#[test]
fn what_is_leased_by_dhcpv6_is_checked_written_and_carried_until_its_end() {
    let mut it = Bench::new();
    it.service(asks(1, "::"));
    let said = it.said6[0].clone();
    assert_eq!((said.from_mac, said.from), (LINK.mac, LOCAL));
    let lease = lease6(50);
    let id = said.message.ia.unwrap().id;
    assert_eq!((&said.message.client, id), (&lease.duid, lease.iaid));
    assert_eq!((it.said.len(), it.addresses()), (0, vec![]));
    it.hear6(Dhcp6Kind::Advertise, 50, 80);
    let asked_at = it.now;
    it.hear6(Dhcp6Kind::Reply, 50, 80);
    assert_eq!((it.addresses(), it.written()), (vec![], vec![]));
    it.pass(200);
    assert_eq!((it.addresses(), it.probes), (vec!["fd00::32".to_owned()], 3));
    let place = it.services.place(Vip(ip(50).into())).unwrap();
    assert_eq!(place.until, Some(asked_at + Duration::from_secs(80)));
    assert!(!place.first_claim);
    let written = it.written();
    let [(_, annotations)] = &written[..] else { panic!("{written:?}") };
    assert_eq!(annotations["kube-vip.io/requestedIP"].as_deref(), Some("fd00::32"));
    assert_eq!(lease::decode(annotations[LEASE].as_deref().unwrap()).v6, Some(lease));
    assert!(!annotations.contains_key("kube-vip.io/hwaddr"), "it is DHCPv4's");
    it.pass(80_000);
    assert_eq!(it.addresses(), Vec::<String>::new());
}

#[test]
fn both_families_are_leased_and_told_by_one_annotation() {
    let (mut it, service) = Bench::bound6("::,0.0.0.0");
    let text = &service.annotations[LEASE];
    assert!(text.contains("10.0.0.50") && text.contains("fd00::32"), "{text}");
    assert_eq!(service.annotations["kube-vip.io/requestedIP"], "10.0.0.50,fd00::32");
    let Verdict::Wanted(wants) = &it.services.services[&service.name].verdict else { panic!() };
    let order: Vec<_> = wants.addresses.iter().map(IpAddr::to_string).collect();
    assert_eq!(order, ["fd00::32", "10.0.0.50"], "as it asks for them");
    assert_eq!(it.services.status(it.now)[0].leases.len(), 2);
    it.pass(35_000);
    assert_eq!((it.kinds6(), it.written()), (vec![], vec![]));

    // It asks for one of them no more.
    let fewer = |text: &str| {
        let mut it = service.clone();
        it.version = ResourceVersion("7".into());
        it.annotations.insert(ADDRESSES.into(), text.into());
        it
    };
    it.service(fewer("0.0.0.0")).pass(100);
    assert_eq!((it.kinds(), it.kinds6()), (vec![], vec![Dhcp6Kind::Release]));
    assert_eq!(it.addresses(), ["10.0.0.50"]);
    let now = it.believe(fewer("0.0.0.0"));
    assert!(!now.annotations[LEASE].contains("ipv6"), "{now:?}");
    it.event(ObjectEvent::Deleted(NAME.into())).pass(100);
    assert_eq!((it.kinds(), it.kinds6()), (vec![Dhcp4Kind::Release], vec![]));
    assert!(!it.is_empty(), "nobody has said that it heard what was given back before");
    it.pass(10_000);
    assert_eq!(it.kinds6(), [Dhcp6Kind::Release; 3]);
    assert!(it.is_empty());
}

#[test]
fn what_is_given_back_is_said_until_it_is_heard_or_asked_for_again() {
    let (mut it, service) = Bench::bound6("::");
    it.event(ObjectEvent::Deleted(NAME.into())).pass(100);
    it.hear6(Dhcp6Kind::Reply, 50, 0);
    assert_eq!(it.kinds6(), [Dhcp6Kind::Release]);
    assert!(it.is_empty());

    let (mut it, _) = Bench::bound6("::");
    let mut fixed = service.clone();
    fixed.annotations.insert(ADDRESSES.into(), "10.0.0.7".into());
    it.service(fixed).pass(100).service(asks(9, "::")).pass(20_000);
    let kinds = it.kinds6();
    assert_eq!(kinds[..2], [Dhcp6Kind::Release, Dhcp6Kind::Solicit]);
    assert_eq!(kinds.iter().filter(|it| **it == Dhcp6Kind::Release).count(), 1);
}

#[test]
fn a_node_that_has_one_family_leaves_the_other_to_whoever_has_it() {
    let mut it = Bench::new();
    (it.leads, it.carries) = (false, false);
    let mut service = asks(1, "0.0.0.0,::");
    let (v4, v6) = (lease::decode(&told(1, 51).annotations[LEASE]).v4, Some(lease6(60)));
    let before = Leases { v4, v6 };
    service.annotations.insert(LEASE.into(), lease::encode(&before).unwrap());
    it.service(service).pass(100);
    assert_eq!(it.addresses(), ["10.0.0.51", "fd00::3c"]);
    it.carries = true;
    it.turn(|services, cx| services.note_placed(cx.now, Vip(ip(60).into()), &|_| true)).pass(30);
    assert_eq!((it.kinds(), it.kinds6()), (vec![], vec![Dhcp6Kind::Rebind]));
    it.carries = false;
    // Nobody answers: the lease is dropped, and only that one.
    it.carries = true;
    it.pass(11_000);
    let written = it.written();
    let after = lease::decode(written[0].1[LEASE].as_deref().unwrap());
    assert_eq!(after, Leases { v6: None, ..before });
}

#[test]
fn whoever_gets_the_vip_has_the_address_at_once_and_asks_any_server() {
    let mut it = Bench::new();
    (it.leads, it.carries) = (false, false);
    let mut service = asks(1, "::");
    let leases = Leases { v4: None, v6: Some(lease6(60)) };
    service.annotations.insert(LEASE.into(), lease::encode(&leases).unwrap());
    it.service(service).pass(100);
    assert_eq!((it.kinds6(), it.addresses()), (vec![], vec!["fd00::3c".to_owned()]));
    it.carries = true;
    it.turn(|services, cx| services.note_placed(cx.now, Vip(ip(60).into()), &|_| true)).pass(30);
    assert_eq!((it.addresses(), it.said6.len()), (vec!["fd00::3c".to_owned()], 1));
    assert!(it.said6[0].message.server.is_empty());
    it.hear6(Dhcp6Kind::Reply, 60, 80).pass(11_000);
    assert_eq!((it.addresses(), it.written()), (vec!["fd00::3c".to_owned()], vec![]));
    // And says nothing to servers when it loses it.
    it.said6.clear();
    (it.leads, it.carries) = (false, false);
    it.turn(|services, cx| services.note_placed(cx.now, Vip(ip(60).into()), &|_| false)).pass(100);
    assert_eq!((it.kinds6(), it.services.leasing.held.len()), (vec![], 0));
}

#[test]
fn an_address_in_use_is_declined_by_dhcpv6_too() {
    let mut it = Bench::new();
    it.service(asks(1, "::")).hear6(Dhcp6Kind::Advertise, 50, 80).hear6(Dhcp6Kind::Reply, 50, 80);
    it.said6.clear();
    let heard = Heard { link: LINK.index, ip: ip(50).into(), mac: SERVER, probe: false };
    it.turn(|services, cx| services.on_heard(cx.now, &heard));
    assert_eq!(it.kinds6(), [Dhcp6Kind::Decline]);
    assert_eq!(it.services.status(it.now)[0].code.as_deref(), Some("dhcp-conflict"));
    assert_eq!(it.services.probed().count(), 0);
    assert_eq!(it.addresses(), Vec::<String>::new());
}

#[test]
fn a_server_that_has_none_is_named_by_what_it_says() {
    let mut it = Bench::new();
    it.service(asks(1, "::"));
    let asked = it.said6[0].message.clone();
    let mut answer = Dhcp6Message::new(Dhcp6Kind::Advertise, asked.xid, asked.client);
    answer.server = SERVER_ID.into();
    let (code, words) = (Dhcp6Code::NoAddrsAvail, "none left".to_owned());
    answer.status = Some(Dhcp6Status { code, words });
    it.turn(|services, _| services.on_dhcp(LINK.index, DhcpHeard::V6(SERVER6, answer)));
    let status = &it.services.status(it.now)[0];
    assert_eq!(status.code.as_deref(), Some("dhcp-refused"));
    let why = status.why.clone().unwrap();
    assert!(why.contains("fe80::1 refuses: NoAddrsAvail none left"), "{why}");
}
