//! What is asked of a gateway that is scripted.

mod scripted;

use scripted::{Model, way};

use super::*;
use crate::engine::{NextIds, Rng};
use crate::model::{GatewayFault, GatewayNo, Granted, MappingEntry, UpnpControl, Way, WayKind};

const VIP: Vip = Vip(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)));
const OUTSIDE: &str = "198.51.100.7";

/// The machine, and a gateway that has what it was asked for.
struct Bench {
    mappings: Mappings,
    now: Instant,
    rng: Rng,
    next: NextIds,
    /// What was asked and is not answered.
    asked: Vec<(RequestId, GatewayCall)>,
    /// All that was asked, in short.
    log: Vec<String>,
    gateway: Model,
}

impl Bench {
    fn new(kind: WayKind) -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        let gateway = Model {
            kind: Some(kind),
            ports: BTreeMap::new(),
            started: Instant::from_nanos(0),
            no: None,
            permanent_only: false,
            lies: false,
            shifts: false,
            never_extends: false,
            dead: false,
        };
        let (rng, next) = (Rng::from_seed(7), NextIds::default());
        let mappings = Mappings::default();
        Self { mappings, now, rng, next, asked: Vec::new(), log: Vec::new(), gateway }
    }

    fn want(&mut self, ports: &[u16], lease: u32) -> &mut Self {
        let wish = Wish { lease, nonce: [1; 12], name: "web".into() };
        let ports = ports.iter().map(|it| (tcp(*it), wish.clone())).collect();
        self.mappings.want(self.now, VIP, Site::of(VIP, None), ports);
        self.settle()
    }

    /// Lets everything be asked and answered that needs no time.
    fn want_only(&mut self, ports: &[u16], lease: u32) {
        let wish = Wish { lease, nonce: [1; 12], name: "web".into() };
        let ports = ports.iter().map(|it| (tcp(*it), wish.clone())).collect();
        self.mappings.want(self.now, VIP, Site::of(VIP, None), ports);
    }

    fn settle(&mut self) -> &mut Self {
        for _ in 0..100 {
            self.turn(|it, cx| it.tick(cx));
            if self.asked.is_empty() {
                return self;
            }
            let (request, call) = self.asked.remove(0);
            let reply = self.gateway.answer(self.now, &call);
            self.turn(|it, cx| it.on_reply(cx, request, &reply));
        }
        panic!("it never settles: {:?}", self.log);
    }

    fn turn(&mut self, turn: impl FnOnce(&mut Mappings, &mut Cx<'_>)) {
        let (rng, next, mut out) = (&mut self.rng, &mut self.next, Vec::new());
        turn(&mut self.mappings, &mut Cx { now: self.now, rng, out: &mut out, next });
        for action in out {
            let Action::Gateway { request, call } = action else { panic!("{action:?}") };
            self.log.push(short(&call));
            self.asked.push((request, call));
        }
        assert!(self.mappings.busy() <= AT_ONCE);
    }

    /// Time passes; what is due in it is done.
    fn pass(&mut self, seconds: u64) -> &mut Self {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.mappings.deadline().filter(|it| it.at <= end) {
            assert!(due.at > self.now, "{due:?} does not end");
            self.now = due.at;
            self.settle();
        }
        self.now = end;
        self.settle()
    }

    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn standing(&self, port: u16) -> String {
        match self.mappings.standing(&Exposed { vip: VIP, port: tcp(port) }) {
            None => "none".into(),
            Some(Standing::Asking) => "asking".into(),
            Some(Standing::Held { way, until, .. }) => {
                let left = until.map_or("for good".into(), |it| {
                    format!("{} s", it.saturating_since(self.now).as_secs())
                });
                format!("{}: {left}", way.name())
            }
            Some(Standing::Refused(it)) => format!("{}: {it}", it.code()),
        }
    }
}

fn tcp(port: u16) -> ServicePort {
    ServicePort { port, protocol: Protocol::Tcp }
}

fn short(call: &GatewayCall) -> String {
    match call {
        GatewayCall::Find { .. } => "find".into(),
        GatewayCall::Look { .. } => "look".into(),
        GatewayCall::Map { exposed, lease, .. } => format!("map {} {lease}", exposed.port.port),
        GatewayCall::Read { exposed, .. } => format!("read {}", exposed.port.port),
        GatewayCall::Unmap { exposed, .. } => format!("unmap {}", exposed.port.port),
    }
}

#[test]
fn what_is_wanted_is_asked_for_read_back_and_renewed_at_half_its_lease() {
    let mut it = Bench::new(WayKind::Igd);
    assert_eq!(it.want(&[80], 400).log(), ["find", "look", "map 80 400", "read 80"]);
    assert_eq!(it.standing(80), "UPnP: 400 s");
    assert_eq!(it.mappings.external(VIP), OUTSIDE.parse().ok());
    let log = it.pass(199).log();
    assert!(!log.iter().any(|it| it.starts_with("map")), "{log:?}");
    assert_eq!(log.iter().filter(|it| *it == "read 80").count(), 3, "{log:?}");
    assert!(it.pass(1).log().contains(&"map 80 400".into()));
    assert_eq!(it.standing(80), "UPnP: 400 s");
    it.pass(10_000).log();
    assert!(it.gateway.ports.contains_key(&80));
    let asked = it.pass(3_600).log().len();
    assert!(asked < 300, "{asked} requests an hour");
}

#[test]
fn nothing_is_asked_where_nothing_is_wanted() {
    let mut it = Bench::new(WayKind::Pcp);
    assert!(it.want(&[], 3_600).pass(10_000).log().is_empty());
    it.want(&[80], 3_600).want(&[], 3_600);
    assert_eq!(it.log().last().map(String::as_str), Some("unmap 80"));
    assert_eq!((it.standing(80).as_str(), it.mappings.deadline()), ("none", None));
    assert!(it.mappings.gateways.is_empty() && it.mappings.sites.is_empty());
}

#[test]
fn what_is_not_wanted_is_closed_and_what_is_another_s_left() {
    let mut it = Bench::new(WayKind::NatPmp);
    it.want(&[80, 443], 3_600).log();
    assert_eq!(it.want(&[443], 3_600).log(), ["unmap 80"]);
    assert_eq!(it.gateway.ports.keys().collect::<Vec<_>>(), [&443]);
    it.mappings.leave(VIP);
    assert!(it.pass(100_000).log().is_empty());
    assert!(!it.mappings.has_more(VIP, &BTreeMap::new()));
}

#[test]
fn a_gateway_that_forgot_is_told_again() {
    for kind in [WayKind::Igd, WayKind::NatPmp, WayKind::Pcp, WayKind::Pinholes] {
        let mut it = Bench::new(kind);
        it.want(&[80, 443], 3_600).pass(600);
        it.gateway.forget(it.now);
        it.pass(61);
        assert_eq!(it.gateway.ports.len(), 2, "{kind:?}: {:?}", it.log());
    }
}

#[test]
fn a_gateway_that_is_away_is_looked_for_and_told_again() {
    let mut it = Bench::new(WayKind::Pcp);
    it.want(&[80], 600).log();
    it.gateway.dead = true;
    it.pass(301);
    assert_eq!(it.standing(80), "PCP: 299 s", "it may still have it");
    it.pass(300);
    assert_eq!(it.standing(80), "no-gateway: no gateway to ask: it does not answer");
    let tries = it.log().len();
    assert!((4..30).contains(&tries), "{tries}");
    it.gateway.dead = false;
    it.gateway.forget(it.now);
    it.pass(150);
    assert!(it.standing(80).starts_with("PCP: "), "{}", it.standing(80));
    assert!(it.gateway.ports.contains_key(&80));
}

#[test]
fn where_there_is_none_that_is_said_and_it_is_looked_for_ever_more_rarely() {
    let mut it = Bench::new(WayKind::Pcp);
    it.gateway.kind = None;
    it.want(&[80], 600);
    assert_eq!(it.standing(80), "no-gateway: no gateway to ask: nobody answers");
    assert!(!it.mappings.is_open(VIP));
    it.log();
    let tries = it.pass(3_600).log();
    assert!((25..60).contains(&tries.len()), "{tries:?}");
    it.gateway.kind = Some(WayKind::NatPmp);
    it.pass(130);
    assert!(it.standing(80).starts_with("NAT-PMP: "), "{}", it.standing(80));
}

#[test]
fn whoever_has_the_port_is_named_and_it_is_ours_once_it_is_free() {
    let mut it = Bench::new(WayKind::Igd);
    it.gateway.ports.insert(80, ("10.0.0.66".into(), None));
    it.want(&[80, 443], 3_600);
    assert_eq!(it.standing(80), "port-taken: on the gateway the port leads to 10.0.0.66 already");
    assert_eq!(it.standing(443), "UPnP: 3600 s");
    it.pass(3_600);
    assert_eq!(it.gateway.ports[&80].0, "10.0.0.66");
    it.gateway.ports.remove(&80);
    it.pass(660);
    assert!(it.standing(80).starts_with("UPnP: "), "{}", it.standing(80));
}

#[test]
fn a_port_of_another_s_is_asked_for_when_that_ends() {
    let mut it = Bench::new(WayKind::Igd);
    let ends = it.now + Duration::from_secs(500);
    it.gateway.ports.insert(80, ("10.0.0.66".into(), Some(ends)));
    it.want(&[80], 3_600).pass(498);
    assert_eq!(it.standing(80), "port-taken: on the gateway the port leads to 10.0.0.66 already");
    it.pass(4);
    assert!(it.standing(80).starts_with("UPnP: "), "{}", it.standing(80));
}

#[test]
fn what_is_another_s_is_never_closed() {
    let other = || ("10.0.0.66".to_owned(), None);
    let mut it = Bench::new(WayKind::Igd);
    it.gateway.ports.insert(80, other());
    it.want(&[80, 443], 3_600).want(&[], 0);
    assert_eq!(it.gateway.ports.keys().collect::<Vec<_>>(), [&80], "{:?}", it.log);
    // It was ours, and somebody else was faster after the gateway forgot.
    let mut it = Bench::new(WayKind::Igd);
    it.want(&[80], 3_600);
    it.gateway.ports.insert(80, other());
    it.want(&[], 0);
    assert_eq!(it.gateway.ports[&80], other(), "{:?}", it.log);
    assert_eq!(it.standing(80), "none");
}

#[test]
fn another_port_instead_is_given_back() {
    let mut it = Bench::new(WayKind::NatPmp);
    it.gateway.shifts = true;
    let log = it.want(&[80], 3_600).log();
    assert_eq!(log, ["find", "look", "map 80 3600", "unmap 80"]);
    let words = "port-taken: somebody else has the port on the gateway, which would give 81";
    assert_eq!(it.standing(80), words);
}

#[test]
fn a_gateway_of_permanent_mappings_gets_those_and_they_are_closed() {
    let mut it = Bench::new(WayKind::Igd);
    it.gateway.permanent_only = true;
    it.want(&[80], 3_600);
    assert_eq!(it.standing(80), "UPnP: for good");
    it.pass(7_200);
    assert_eq!(it.standing(80), "UPnP: for good");
    it.gateway.forget(it.now);
    it.pass(61);
    assert_eq!(it.gateway.ports.len(), 1);
    assert_eq!(it.log().iter().filter(|it| *it == "map 80 3600").count(), 1);
    it.want(&[], 0);
    assert!(it.gateway.ports.is_empty());
}

#[test]
fn a_yes_that_is_none_is_tried_twice_and_named() {
    let mut it = Bench::new(WayKind::Igd);
    it.gateway.lies = true;
    let log = it.want(&[80], 3_600).log();
    let twice = ["find", "look", "map 80 3600", "read 80", "unmap 80", "map 80 3600", "read 80"];
    assert_eq!(log, twice);
    assert!(it.standing(80).starts_with("mapping-not-kept: "), "{}", it.standing(80));
}

#[test]
fn a_lease_that_is_not_extended_is_closed_and_opened_again() {
    let mut it = Bench::new(WayKind::Igd);
    it.gateway.never_extends = true;
    it.want(&[80], 200).pass(1_000);
    assert!(it.gateway.ports.contains_key(&80), "{:?}", it.log());
    assert!(it.log().contains(&"unmap 80".into()));
}

#[test]
fn who_may_not_by_pcp_tries_upnp() {
    let mut it = Bench::new(WayKind::Pcp);
    it.gateway.no = Some((GatewayNo::NotAllowed, 2));
    it.want(&[80], 3_600);
    assert_eq!(it.standing(80), "UPnP: 3600 s");
}

#[test]
fn a_no_is_told_with_its_number_and_asked_about_later() {
    let mut it = Bench::new(WayKind::Igd);
    it.gateway.no = Some((GatewayNo::NotAllowed, 606));
    it.want(&[80], 3_600);
    let words = "gateway-refuses: the gateway refuses by UPnP: 606 by the script";
    assert_eq!(it.standing(80), words);
    it.log();
    let log = it.pass(3_600).log();
    let asked = log.iter().filter(|it| it.starts_with("map")).count();
    assert!((4..20).contains(&asked), "{asked}");
    it.gateway.no = None;
    it.pass(660);
    assert!(it.standing(80).starts_with("UPnP: "), "{}", it.standing(80));
}

#[test]
fn sctp_is_refused_and_never_asked_for() {
    let mut it = Bench::new(WayKind::Pcp);
    let wish = Wish { lease: 60, nonce: [1; 12], name: "web".into() };
    let port = ServicePort { port: 80, protocol: Protocol::Sctp };
    it.mappings.want(it.now, VIP, Site::of(VIP, None), BTreeMap::from([(port, wish)]));
    assert!(it.settle().pass(1_000).log().is_empty());
    let refused = it.mappings.standing(&Exposed { vip: VIP, port });
    assert!(matches!(refused, Some(Standing::Refused(GatewayRefusal::NotMappable { .. }))));
    it.want(&[], 60);
    assert_eq!(it.mappings.deadline(), None);
}

#[test]
fn what_is_wished_while_it_is_asked_about_is_done_after() {
    let mut it = Bench::new(WayKind::Pcp);
    it.want(&[80], 3_600);
    // Another lease, and while that is asked for, none at all.
    let wish = Wish { lease: 60, nonce: [1; 12], name: "web".into() };
    let site = Site::of(VIP, None);
    it.mappings.want(it.now, VIP, site.clone(), BTreeMap::from([(tcp(80), wish)]));
    it.turn(|it, cx| it.tick(cx));
    assert_eq!(it.asked.len(), 1);
    it.mappings.want(it.now, VIP, site, BTreeMap::new());
    it.settle();
    assert!(it.gateway.ports.is_empty(), "{:?}", it.log);
    assert_eq!(it.standing(80), "none");
}

/// Whatever a gateway answers, nothing is asked in a loop and nothing stays under way.
#[test]
fn no_answer_whatever_makes_a_loop() {
    for seed in 0..2_000 {
        let mut it = Bench::new(WayKind::Igd);
        let mut dice = Rng::from_seed(seed);
        it.want_only(&[80, 81, 82, 83, 84, 85], 100);
        for _ in 0..200 {
            it.turn(|it, cx| it.tick(cx));
            let Some((request, call)) = it.asked.pop() else {
                let due = it.mappings.deadline().expect("there is something to see to");
                assert!(due.at > it.now, "{due:?}");
                it.now = due.at;
                continue;
            };
            let reply = match dice.below(9) {
                0 => GatewayReply::Failed("no".into()),
                1 => GatewayReply::Found(way(WayKind::NatPmp)),
                2 => GatewayReply::Looked { external: None, epoch: Some(dice.below(99) as u32) },
                3 => GatewayReply::Read(None),
                4 => GatewayReply::Unmapped,
                5 => refusal(&mut dice),
                _ => it.gateway.answer(it.now, &call),
            };
            it.turn(|it, cx| it.on_reply(cx, request, &reply));
        }
        it.want_only(&[], 0);
        it.gateway.no = None;
        let end = it.now + Duration::from_secs(600);
        it.asked.drain(..).for_each(drop);
        it.mappings.leave(VIP);
        it.now = end;
        assert!(it.mappings.entries.is_empty() && it.mappings.agenda.is_empty());
        assert!(it.mappings.gateways.is_empty());
    }
}

fn refusal(dice: &mut Rng) -> GatewayReply {
    let all = [
        GatewayNo::NotAllowed,
        GatewayNo::NotThere,
        GatewayNo::OnlyPermanent,
        GatewayNo::Other,
        GatewayNo::Taken,
        GatewayNo::Unsupported,
    ];
    let no = all[dice.below(6) as usize];
    GatewayReply::Refused(GatewayFault { no, code: 500, words: String::new() })
}
