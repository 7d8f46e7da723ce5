//! Leases that have a link made for them.

use super::*;
use crate::engine::network::MadeLink;
use crate::engine::services::ServicesConfig;
use crate::model::{LinkName, Make};

impl Bench {
    fn with_links() -> Self {
        let dhcp = Some(DhcpConfig { mac: DhcpMac::Macvlan, attempts: 3 });
        let config = ServicesConfig { dhcp, ..config() };
        let mut it = Self::new();
        it.services = Services::new(config, NodeName("n1".into()), it.now);
        it
    }

    /// The one link that is other than it was, if it is to be here.
    fn news(&mut self) -> Option<MadeLink> {
        let [(_, choice)] = &self.services.take_link_news()[..] else { panic!("not one") };
        match choice {
            Some(LinkChoice::Made(it)) => Some(it.as_ref().clone()),
            Some(LinkChoice::Auto | LinkChoice::Named(_)) => panic!("{choice:?}"),
            None => None,
        }
    }
}

fn link() -> LinkName {
    LinkName("vip-4d0f7464".into())
}

#[test]
fn a_lease_is_asked_for_on_a_link_of_its_own_once_that_is_there() {
    let mut it = Bench::with_links();
    it.no_link = Some(Refusal::LinkAwaited { link: link() });
    it.service(asking(1)).pass(100);
    let made = it.news().unwrap();
    let mac = identity::own_mac(&asking(1).uid);
    assert_eq!((made.name, made.make), (link(), Make::Macvlan { mac, rp_filter: 0 }));
    assert_eq!((it.kinds(), it.services.leasing.refusal(&NAME.into())), (vec![], None));
    it.no_link = None;
    it.revision += 1;
    it.turn(|_, _| ());
    assert_eq!(it.said.last().unwrap().message.mac, LINK.mac);
    assert_eq!(it.kinds(), [Dhcp4Kind::Discover]);
    it.services.take_link_news();
    it.event(ObjectEvent::Deleted(NAME.into())).pass(100);
    assert_eq!(it.news(), None);
}

#[test]
fn who_has_no_lease_yet_asks_on_the_link_that_comes_for_the_one_that_went() {
    let mut it = Bench::new();
    it.service(asking(1)).pass(20_000);
    it.kinds();
    it.link.index = LinkIndex(7);
    it.revision += 1;
    it.turn(|_, _| ()).pass(100);
    assert_eq!(it.kinds(), [Dhcp4Kind::Discover]);
    assert_eq!(it.listening[&IpFamily::V4], [LinkIndex(7)]);
    it.revision += 1;
    it.turn(|_, _| ()).pass(100);
    assert_eq!(it.kinds(), []);
}

#[test]
fn a_link_that_is_not_made_is_told_of_its_service() {
    let mut it = Bench::with_links();
    let why = "no room".to_owned();
    it.no_link = Some(Refusal::LinkNotMade { link: link(), why });
    it.service(asking(1)).pass(3_000);
    let refusal = it.services.leasing.refusal(&NAME.into()).unwrap();
    assert_eq!(refusal.code(), "dhcp-no-link");
    assert!(refusal.to_string().contains("vip-4d0f7464: no room"), "{refusal}");
    assert_eq!(it.kinds(), []);
}

#[test]
fn who_loses_the_vip_needs_no_link_for_it() {
    let mut it = Bench::with_links();
    it.service(told(1, 5)).pass(100);
    assert!(it.news().is_some());
    it.turn(|it, cx| it.note_placed(cx.now, Vip([10, 0, 0, 5].into()), &|_| true));
    it.carries = false;
    it.turn(|it, cx| it.note_placed(cx.now, Vip([10, 0, 0, 5].into()), &|_| false)).pass(100);
    assert_eq!(it.news(), None);
    assert!(it.kinds().iter().all(|it| *it != Dhcp4Kind::Release));
}

#[test]
fn the_link_is_called_and_filters_as_its_service_says() {
    let mut it = Bench::with_links();
    let with = |key: &str, value: &str| {
        let mut it = asking(1);
        it.annotations.insert("kube-vip.io/serviceInterface".into(), "eth7".into());
        it.annotations.insert("kube-vip.io/macvlanName".into(), "front".into());
        it.annotations.insert("kube-vip.io/hwaddr".into(), "02:00:00:00:00:0a".into());
        it.annotations.insert(format!("kube-vip.io/{key}"), value.into());
        it
    };
    it.service(with("rp_filter", "2")).pass(100);
    let made = it.news().unwrap();
    assert_eq!(made.name, LinkName("front".into()));
    assert_eq!(made.parent, LinkChoice::Named(LinkName("eth7".into())));
    let mac = Mac([2, 0, 0, 0, 0, 10]);
    assert_eq!(made.make, Make::Macvlan { mac, rp_filter: 2 });
    for (key, value) in [("rp_filter", "3"), ("macvlanName", "a/b")] {
        let mut it = Bench::with_links();
        it.service(with(key, value)).pass(100);
        let known = it.services.services.values().next().unwrap();
        let refusal = it.services.refusal(known).unwrap().to_string();
        assert!(refusal.starts_with(&format!("{key}={value}: ")), "{refusal}");
    }
}
