use std::time::Duration;

use super::*;
use crate::engine::pools::ADDRESSES;
use crate::engine::services::Services;
use crate::engine::services::telling::HOST;
use crate::engine::services::tests::{config, service};
use crate::engine::{NextIds, Rng};
use crate::model::{
    Dhcp4Kind, Dhcp4Lease, Dhcp4Message, Dhcp4Packet, Dhcp6Packet, DhcpPacket, Followed, Frame,
    KernelJob, NodeName, Object, ObjectCall, ObjectEvent,
};

mod dual;
mod links;

const NAME: &str = "a/web";
const SERVER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const LINK: Usable = Usable { index: LinkIndex(3), mac: Mac([2, 0, 0, 0, 0, 9]), carrier: true };

/// Services of a node with a DHCP server beside; what is said and written is taken down.
struct Bench {
    services: Services,
    now: Instant,
    rng: Rng,
    next: NextIds,
    leads: bool,
    carries: bool,
    link: Usable,
    no_link: Option<Refusal>,
    revision: u64,
    said: Vec<Dhcp4Packet>,
    said6: Vec<Dhcp6Packet>,
    listening: BTreeMap<IpFamily, Vec<LinkIndex>>,
    probes: usize,
    asked: Vec<(RequestId, ObjectCall)>,
}

/// A Service that asks for a lease.
fn asking(version: u32) -> Service {
    let mut it = service(NAME);
    it.uid = "4d0f7464-bb2b-44fb-b770-2c8516016fc7".into();
    it.version = ResourceVersion(version.to_string());
    it.annotations.insert(ADDRESSES.into(), "0.0.0.0".into());
    it
}

/// The same, as it is once it says what is leased for it.
fn told(version: u32, last: u8) -> Service {
    let mut it = asking(version);
    let lease = Dhcp4Lease {
        address: [10, 0, 0, last].into(),
        server: [10, 0, 0, 1].into(),
        seconds: 80,
        mac: identity::own_mac(&it.uid),
        client_id: identity::client_id(&it.uid),
    };
    let leases = Leases { v4: Some(lease), v6: None };
    it.annotations.insert(LEASE.into(), lease::encode(&leases).unwrap());
    it
}

impl Bench {
    fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        Self {
            services: Services::new(config(), NodeName("n1".into()), now),
            now,
            rng: Rng::from_seed(1),
            next: NextIds::default(),
            leads: true,
            carries: true,
            link: LINK,
            no_link: None,
            revision: 0,
            said: Vec::new(),
            said6: Vec::new(),
            listening: BTreeMap::new(),
            probes: 0,
            asked: Vec::new(),
        }
    }

    fn turn(&mut self, turn: impl FnOnce(&mut Services, &mut Cx<'_>)) -> &mut Self {
        let mut out = Vec::new();
        let (rng, next) = (&mut self.rng, &mut self.next);
        let cx = &mut Cx { now: self.now, rng, out: &mut out, next };
        turn(&mut self.services, cx);
        let carries = self.carries;
        let ground = Ground {
            leads: self.leads,
            may_hold: &|_| carries,
            on: &|_, _| match &self.no_link {
                None => Ok(self.link),
                Some(refusal) => Err(refusal.clone()),
            },
            revision: self.revision,
            local: &|_| Some(LOCAL),
            own: &|_| None,
        };
        self.services.lease(cx, &ground);
        for action in out {
            match action {
                Action::Dhcp(DhcpJob::Listen(family, links)) => {
                    self.listening.insert(family, links);
                }
                Action::Dhcp(DhcpJob::Send { packet, .. }) => {
                    let family = match *packet {
                        DhcpPacket::V4(it) => {
                            self.said.push(it);
                            IpFamily::V4
                        }
                        DhcpPacket::V6(it) => {
                            self.said6.push(it);
                            IpFamily::V6
                        }
                    };
                    assert_eq!(
                        self.listening[&family],
                        [self.link.index],
                        "nobody hears the answer"
                    );
                }
                Action::Ask { request, call } => self.asked.push((request, call)),
                Action::Kernel {
                    job: KernelJob::SendFrame { frame: Frame::Probe { .. }, .. },
                    ..
                } => {
                    self.probes += 1;
                }
                _ => {}
            }
        }
        self
    }

    fn event(&mut self, event: ObjectEvent) -> &mut Self {
        self.turn(|it, cx| it.on_objects(cx, &Followed::Services(None), &[event]))
    }

    fn service(&mut self, it: Service) -> &mut Self {
        self.event(ObjectEvent::Changed(Box::new(Object::Service(it))))
    }

    /// Lets time pass, waking when leases are to be woken.
    fn pass(&mut self, ms: u64) -> &mut Self {
        let end = self.now + Duration::from_millis(ms);
        let mut turns = 0;
        while let Some(at) =
            self.services.leasing.deadline().map(|it| it.at).filter(|it| *it <= end)
        {
            self.now = self.now.max(at);
            self.turn(|_, _| {});
            turns += 1;
            assert!(turns < 1_000, "it spins");
        }
        self.now = end;
        self.turn(|_, _| {})
    }

    fn hear(&mut self, kind: Dhcp4Kind, last: u8) -> &mut Self {
        let asked = &self.said.last().expect("something was asked").message;
        let mut it = Dhcp4Message::new(kind, asked.xid, asked.mac);
        (it.yours, it.server, it.lease) =
            (Some([10, 0, 0, last].into()), Some([10, 0, 0, 1].into()), Some(80));
        self.turn(|services, _| services.on_dhcp(LINK.index, DhcpHeard::V4(SERVER, it)))
    }

    fn kinds(&mut self) -> Vec<Dhcp4Kind> {
        std::mem::take(&mut self.said).iter().map(|it| it.message.kind).collect()
    }

    fn addresses(&self) -> Vec<String> {
        self.services.vips().map(|it| it.to_string()).collect()
    }

    /// What was written to annotations since the last time.
    fn written(&mut self) -> Vec<(RequestId, BTreeMap<String, Option<String>>)> {
        let patch = |(request, call)| match call {
            ObjectCall::PatchService { patch, .. } => Some((request, patch.annotations)),
            ObjectCall::ServiceEvent { .. } | ObjectCall::WriteIngress { .. } => None,
        };
        std::mem::take(&mut self.asked).into_iter().filter_map(patch).collect()
    }

    /// A node that leads, and has a lease that the Service speaks of.
    fn bound() -> Self {
        let mut it = Self::new();
        it.service(asking(1)).hear(Dhcp4Kind::Offer, 50).hear(Dhcp4Kind::Ack, 50).pass(200);
        let (request, annotations) = it.written().remove(0);
        let mut service = asking(2);
        let all = annotations.into_iter().filter_map(|(key, value)| Some((key, value?)));
        service.annotations.extend(all);
        let done = ObjectReply::Done(ResourceVersion("2".into()));
        it.turn(|services, cx| services.on_reply(cx, request, &done)).service(service).pass(30);
        it.said.clear();
        it
    }

    fn is_empty(&self) -> bool {
        let it = &self.services.leasing;
        let sets = it.held.is_empty()
            && it.lost.is_empty()
            && it.partings.is_empty()
            && it.asking.is_empty()
            && it.checking.is_empty();
        let deaf = self.listening.values().all(Vec::is_empty);
        sets && it.agenda.is_empty() && it.open.is_empty() && it.writes.is_empty() && deaf
    }
}

#[test]
fn what_is_leased_is_checked_written_and_carried_until_its_end() {
    let mut it = Bench::new();
    it.service(asking(1));
    assert_eq!(it.kinds(), [Dhcp4Kind::Discover]);
    assert_eq!(it.addresses(), Vec::<String>::new());
    it.pass(1_000).pass(100);
    assert_eq!(it.kinds(), [], "nobody is asked before it is time");
    it.pass(2_000).hear(Dhcp4Kind::Offer, 50);
    let asked_at = it.now;
    it.hear(Dhcp4Kind::Ack, 50);
    assert_eq!((it.addresses(), it.written()), (vec![], vec![]));
    it.pass(200);
    assert_eq!((it.addresses(), it.probes), (vec!["10.0.0.50".to_owned()], 3));
    let place = it.services.place(Vip([10, 0, 0, 50].into())).unwrap();
    assert_eq!(place.until, Some(asked_at + Duration::from_secs(80)));
    assert!(!place.first_claim);
    let written = it.written();
    let [(_, annotations)] = &written[..] else { panic!("{written:?}") };
    assert_eq!(annotations["kube-vip.io/requestedIP"].as_deref(), Some("10.0.0.50"));
    assert!(annotations[LEASE].as_deref().unwrap().contains("10.0.0.50"));
    assert!(annotations.contains_key("kube-vip.io/hwaddr"));
}

#[test]
fn a_lease_at_rest_is_not_written_again_when_it_is_renewed() {
    let mut it = Bench::bound();
    it.services.note_answering(Vip([10, 0, 0, 50].into()), true);
    it.pass(40_000);
    assert_eq!(it.said.last().unwrap().message.kind, Dhcp4Kind::Request);
    let renewal = it.said.last().unwrap();
    assert_eq!((renewal.from_mac, renewal.to_mac), (LINK.mac, SERVER));
    it.hear(Dhcp4Kind::Ack, 50).pass(30_000);
    assert_eq!((it.written(), it.addresses()), (vec![], vec!["10.0.0.50".to_owned()]));
}

#[test]
fn whoever_loses_the_vip_says_nothing_and_whoever_gets_it_has_the_address_at_once() {
    let mut it = Bench::bound();
    (it.leads, it.carries) = (false, false);
    it.turn(|_, _| {}).pass(100);
    assert_eq!((it.kinds(), it.services.leasing.held.len()), (vec![], 0));
    assert_eq!(it.addresses(), ["10.0.0.50"], "of the annotation");

    let mut it = Bench::new();
    (it.leads, it.carries) = (false, false);
    it.service(told(1, 51)).pass(100);
    assert_eq!((it.kinds(), it.addresses()), (vec![], vec!["10.0.0.51".to_owned()]));
    // The quorum gives it to this node, which does not lead.
    it.carries = true;
    let vip = Vip([10, 0, 0, 51].into());
    it.turn(|services, cx| services.note_placed(cx.now, vip, &|_| true)).pass(30);
    assert_eq!(it.addresses(), ["10.0.0.51"]);
    let asked = &it.said[0].message;
    assert_eq!((asked.requested, asked.server), (Some([10, 0, 0, 51].into()), None));
    it.pass(11_000);
    assert_eq!(it.addresses(), Vec::<String>::new(), "kept for an eighth of the lease");
    assert_eq!(it.written()[0].1[LEASE], None);
}

#[test]
fn what_is_gone_or_asks_no_more_is_given_back_and_leaves_nothing() {
    let gone = ObjectEvent::Deleted(NAME.into());
    let mut fixed = asking(3);
    fixed.annotations.insert(ADDRESSES.into(), "10.0.0.7".into());
    let fixed = ObjectEvent::Changed(Box::new(Object::Service(fixed)));
    for (event, left) in [(gone.clone(), vec![]), (fixed, vec!["10.0.0.7".to_owned()])] {
        let mut it = Bench::bound();
        it.event(event).pass(100);
        assert_eq!((it.kinds(), it.addresses()), (vec![Dhcp4Kind::Release], left));
        assert!(it.is_empty());
    }
    // In the midst of it as well.
    let mut it = Bench::new();
    it.service(asking(1)).hear(Dhcp4Kind::Offer, 50).hear(Dhcp4Kind::Ack, 50);
    it.said.clear();
    it.event(gone).pass(100);
    assert_eq!(it.kinds(), [Dhcp4Kind::Release]);
    assert!(it.is_empty() && it.services.probed().next().is_none());
}

/// The leader has seen the deletion, and the node that answers has not.
#[test]
fn what_is_gone_is_given_back_by_whoever_lost_it_just_before() {
    for (ms, said) in [(2_900, vec![Dhcp4Kind::Release]), (3_100, vec![])] {
        let mut it = Bench::bound();
        (it.leads, it.carries) = (false, false);
        it.service(told(3, 50)).pass(ms);
        assert_eq!((it.kinds(), it.services.leasing.held.len()), (vec![], 0));
        it.event(ObjectEvent::Deleted(NAME.into())).pass(100);
        assert_eq!(it.kinds(), said);
        assert!(it.is_empty());
    }
    // Another answers.
    let mut it = Bench::bound();
    (it.leads, it.carries) = (false, false);
    it.service(told(3, 50)).pass(100);
    let mut others = told(4, 50);
    others.annotations.insert(HOST.into(), "n2".into());
    it.service(others).pass(100).event(ObjectEvent::Deleted(NAME.into())).pass(100);
    assert_eq!(it.kinds(), []);
    assert!(it.is_empty());
    // It came back meanwhile: what is held now is given back, once.
    let mut it = Bench::bound();
    (it.leads, it.carries) = (false, false);
    it.service(told(3, 50)).pass(100);
    it.carries = true;
    it.service(told(4, 50)).pass(100);
    it.said.clear();
    it.event(ObjectEvent::Deleted(NAME.into())).pass(100);
    assert_eq!(it.kinds(), [Dhcp4Kind::Release]);
    assert!(it.is_empty());
}

/// Else whoever asks again, on whatever node, would take for its own what is others' by then.
#[test]
fn a_service_that_asks_no_more_does_not_speak_of_a_lease_any_more() {
    let mut fixed = told(3, 50);
    fixed.annotations.insert(ADDRESSES.into(), "10.0.0.7".into());
    let mut it = Bench::bound();
    it.service(fixed.clone()).pass(100);
    assert_eq!(it.kinds(), [Dhcp4Kind::Release]);
    let written = it.written();
    let [(request, annotations)] = &written[..] else { panic!("{written:?}") };
    assert_eq!(annotations, &BTreeMap::from([(LEASE.to_owned(), None)]));
    // What is not done is tried again, once the Service has come as it is now.
    it.turn(|services, cx| services.on_reply(cx, *request, &ObjectReply::Conflict)).pass(100);
    assert_eq!(it.written().len(), 0);
    fixed.version = ResourceVersion("4".into());
    it.service(fixed.clone()).pass(1_000);
    let written = it.written();
    assert_eq!(written.len(), 1);
    fixed.annotations.remove(LEASE);
    fixed.version = ResourceVersion("5".into());
    let done = ObjectReply::Done(fixed.version.clone());
    it.turn(|services, cx| services.on_reply(cx, written[0].0, &done)).service(fixed).pass(9_000);
    assert!(it.written().is_empty() && it.is_empty());

    // Who was not there sees to it when it leads; who does not lead leaves it alone.
    let mut fixed = told(3, 50);
    fixed.annotations.insert(ADDRESSES.into(), "10.0.0.7".into());
    let mut it = Bench::new();
    it.leads = false;
    it.service(fixed).pass(9_000);
    assert_eq!(it.written().len(), 0);
    it.leads = true;
    it.turn(|_, _| {}).pass(100);
    assert_eq!(it.written().len(), 1);
}

#[test]
fn another_service_of_the_same_name_has_another_lease() {
    let mut it = Bench::bound();
    let mut other = asking(9);
    other.uid = "another".into();
    it.service(other).pass(100);
    let said: Vec<_> = it.said.iter().map(|it| (it.message.kind, it.message.mac)).collect();
    assert_eq!((said[0].0, said[1].0), (Dhcp4Kind::Release, Dhcp4Kind::Discover));
    assert_ne!(said[0].1, said[1].1);
}

#[test]
fn an_address_in_use_is_declined() {
    let mut it = Bench::new();
    it.service(asking(1)).hear(Dhcp4Kind::Offer, 50).hear(Dhcp4Kind::Ack, 50);
    it.said.clear();
    let ip = [10, 0, 0, 50].into();
    let heard = crate::model::Heard { link: LINK.index, ip, mac: SERVER, probe: false };
    it.turn(|services, cx| services.on_heard(cx.now, &heard));
    assert_eq!(it.kinds(), [Dhcp4Kind::Decline]);
    let status = it.services.status(it.now);
    assert_eq!(status[0].code.as_deref(), Some("dhcp-conflict"));
    assert_eq!(it.services.probed().count(), 0);
}

#[test]
fn many_services_do_not_ask_all_at_once() {
    let mut it = Bench::new();
    let many = |number: usize| {
        let mut one = asking(1);
        (one.name, one.uid) = (format!("a/{number}").as_str().into(), format!("{number}"));
        ObjectEvent::Changed(Box::new(Object::Service(one)))
    };
    let all: Vec<_> = (0..100).map(many).collect();
    it.turn(|services, cx| services.on_objects(cx, &Followed::Services(None), &all));
    assert_eq!(it.kinds().len(), AT_ONCE);
    it.pass(60);
    assert_eq!(it.kinds().len(), 100 - AT_ONCE);
}

#[test]
fn a_service_is_the_same_client_on_any_node() {
    let uid = "4d0f7464-bb2b-44fb-b770-2c8516016fc7";
    let id = identity::client_id(uid);
    assert_eq!((id[0], &id[5..7], id.len()), (255, &[0, 4][..], 23));
    assert_eq!(&id[7..11], [0x4d, 0x0f, 0x74, 0x64]);
    assert_ne!(id[1..5], identity::client_id("x")[1..5]);
    assert_eq!(identity::client_id("x").len(), 23);
    let mac = identity::own_mac(uid);
    assert_eq!((mac.0[0] & 3, mac), (2, identity::own_mac(uid)));
    assert_ne!(mac, identity::own_mac("x"));
}
