use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::model::{Dhcp4Kind, Dhcp4Lease, DhcpRefusal};

const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// One machine, the time, and what it has said.
struct Bench {
    machine: Dhcp4,
    now: Instant,
    rng: Rng,
    said: Vec<Said>,
    last: Option<Said>,
    answered: bool,
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn config() -> Dhcp4Config {
    Dhcp4Config {
        mac: Mac([2, 9, 9, 9, 9, 9]),
        client_id: vec![255, 1],
        host_name: "web".into(),
        requested: None,
        attempts: 2,
    }
}

fn lease(seconds: u32) -> Dhcp4Lease {
    let Dhcp4Config { mac, client_id, .. } = config();
    Dhcp4Lease { address: ip(50), server: ip(1), seconds, mac, client_id }
}

impl Bench {
    fn with(make: impl FnOnce(Instant) -> Dhcp4) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000);
        let (rng, said, last) = (Rng::from_seed(1), Vec::new(), None);
        let mut it = Self { machine: make(now), now, rng, said, last, answered: true };
        it.turn(|_, _| {});
        it
    }

    fn new() -> Self {
        Self::with(|now| Dhcp4::new(config(), now))
    }

    /// With a lease of an hour.
    fn bound() -> Self {
        let mut it = Self::new();
        it.hear("offer 50 3600").hear("ack 50 3600").free();
        it.said.clear();
        it
    }

    fn turn(&mut self, what: impl FnOnce(&mut Dhcp4, &mut Turn<'_>)) -> &mut Self {
        let node_of = |it: IpAddr| (it == IpAddr::from(ip(7))).then(|| "the node n7".to_owned());
        let turn = &mut Turn {
            now: self.now,
            rng: &mut self.rng,
            out: &mut self.said,
            node_of: &node_of,
            answered: self.answered,
        };
        what(&mut self.machine, turn);
        self.machine.tick(turn);
        self.last = self.said.last().cloned().or(self.last.take());
        self
    }

    /// Lets time pass, waking when it asks to be woken.
    fn pass(&mut self, seconds: u64) -> &mut Self {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(at) = self.machine.deadline().filter(|it| *it <= end) {
            self.now = at;
            self.turn(|_, _| {});
        }
        self.now = end;
        self.turn(|_, _| {})
    }

    /// A server answers what was said last: `offer 50 120` or `nak`.
    fn hear(&mut self, text: &str) -> &mut Self {
        let asked = self.last.clone().expect("nothing was asked").message;
        let mut words = text.split(' ');
        let kind = match words.next().unwrap() {
            "offer" => Dhcp4Kind::Offer,
            "ack" => Dhcp4Kind::Ack,
            _ => Dhcp4Kind::Nak,
        };
        let mut message = Dhcp4Message::new(kind, asked.xid, asked.mac);
        message.server = Some(ip(1));
        message.yours = words.next().map(|it| ip(it.parse().unwrap()));
        message.lease = words.next().map(|it| it.parse().unwrap());
        message.renew_after = words.next().map(|it| it.parse().unwrap());
        message.rebind_after = words.next().map(|it| it.parse().unwrap());
        self.turn(|it, turn| it.on_message(turn, SERVER_MAC, &message))
    }

    fn free(&mut self) -> &mut Self {
        self.turn(|it, turn| it.on_probed(turn, None))
    }

    fn phase(&self) -> String {
        self.machine.status(self.now).phase
    }

    fn address(&self) -> Option<Ipv4Addr> {
        self.machine.lease().map(|it| it.address)
    }

    /// What was said since the last time: kind, option 50, ciaddr, and to one server or all.
    fn said(&mut self) -> Vec<String> {
        let last = |it: Option<Ipv4Addr>| it.map_or("-".into(), |it| it.octets()[3].to_string());
        let one = |it: &Said| {
            let to = match it.to {
                Whom::All => "all".to_owned(),
                Whom::Server(ip, mac) => format!("{} {}", ip.octets()[3], mac.is_some()),
            };
            let message = &it.message;
            let (asks, has) = (last(message.requested), last(message.client));
            format!("{:?} {asks} {has} {to}", message.kind)
        };
        std::mem::take(&mut self.said).iter().map(one).collect()
    }
}

#[test]
fn a_lease_begins_with_four_messages_and_a_look_whether_the_address_is_free() {
    let mut it = Bench::new();
    assert_eq!((it.phase().as_str(), it.said()), ("selecting", vec!["Discover - - all".into()]));
    it.hear("offer 50 3600");
    assert_eq!((it.phase().as_str(), it.said()), ("requesting", vec!["Request 50 - all".into()]));
    let asked = it.last.clone().unwrap().message;
    assert_eq!((asked.server, asked.broadcast), (Some(ip(1)), true));
    assert_eq!((asked.host_name.as_str(), asked.client_id), ("web", vec![255, 1]));
    it.hear("ack 50 3600");
    assert_eq!(it.machine.unchecked(), Some(ip(50)));
    assert_eq!((it.phase().as_str(), it.address()), ("checking", None));
    it.free();
    assert_eq!((it.phase().as_str(), it.address()), ("bound", Some(ip(50))));
    assert_eq!(it.machine.until(), Some(it.now + Duration::from_secs(3600)));
}

#[test]
fn each_state_heeds_what_answers_its_question() {
    // How it came there; then what it hears; where that leads, and what it says.
    let table = "
        | offer 7 60  | selecting  |
        | offer 50 60 | requesting | Request 50 - all
        | ack 50 60   | selecting  |
        | nak         | selecting  |
        offer 50 60 | offer 51 60 | requesting |
        offer 50 60 | ack 51 60   | requesting |
        offer 50 60 | ack 50 0    | requesting |
        offer 50 60 | nak         | init |
        offer 50 60;ack 50 60 | nak | checking |
        offer 50 60;ack 50 60;free | nak | bound |
        offer 50 60;ack 50 60;free;30 | ack 50 60 | bound |
        offer 50 60;ack 50 60;free;30 | ack 51 60 | renewing |
        offer 50 60;ack 50 60;free;30 | nak | selecting | Discover - - all
        offer 50 60;ack 50 60;free;54 | ack 50 60 | bound |
        offer 50 60;ack 50 60;free;54 | nak | selecting | Discover - - all
    ";
    for line in table.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let parts: Vec<_> = line.split('|').map(str::trim).collect();
        let [path, heard, phase, says] = parts[..] else { panic!("{line}") };
        let mut it = Bench::new();
        for step in path.split(';').filter(|it| !it.is_empty()) {
            match step.parse() {
                Ok(seconds) => it.pass(seconds),
                Err(_) if step == "free" => it.free(),
                Err(_) => it.hear(step),
            };
        }
        it.said.clear();
        it.hear(heard);
        assert_eq!((it.phase().as_str(), it.said().join(";").as_str()), (phase, says), "{line}");
    }
}

#[test]
fn what_is_no_answer_to_the_last_question_is_nobodys() {
    let mut it = Bench::new();
    let xid = it.last.clone().unwrap().message.xid;
    for (xid, mac) in [(xid + 1, config().mac), (xid, SERVER_MAC)] {
        let mut message = Dhcp4Message::new(Dhcp4Kind::Offer, xid, mac);
        (message.yours, message.server) = (Some(ip(50)), Some(ip(1)));
        it.turn(|it, turn| it.on_message(turn, SERVER_MAC, &message));
        assert_eq!(it.phase(), "selecting");
    }
}

#[test]
fn a_lease_is_renewed_by_its_server_then_by_any_and_is_lost_at_its_end() {
    let mut it = Bench::bound();
    it.pass(1_799);
    assert_eq!(it.said(), Vec::<String>::new());
    it.pass(1);
    assert_eq!((it.phase().as_str(), it.said()), ("renewing", vec!["Request - 50 1 true".into()]));
    // Half of what is left each time.
    it.pass(1_340);
    assert_eq!(it.said(), ["Request - 50 1 true"; 5]);
    it.pass(10);
    assert_eq!((it.phase().as_str(), it.said()), ("rebinding", vec!["Request - 50 all".into()]));
    it.pass(449);
    assert_eq!((it.address(), it.said().len()), (Some(ip(50)), 3));
    it.pass(1);
    assert_eq!((it.phase().as_str(), it.address()), ("selecting", None));
    assert_eq!(it.said(), ["Discover 50 - all"]);
    assert_eq!(it.machine.refusal(), Some(&DhcpRefusal::Expired { ip: ip(50).into() }));
}

#[test]
fn a_renewal_counts_from_when_it_was_asked_for() {
    let mut it = Bench::bound();
    it.pass(1_800);
    let asked_at = it.now;
    it.now = it.now + Duration::from_secs(5);
    it.hear("ack 50 3600 600 900");
    let until = asked_at + Duration::from_secs(3_600);
    assert_eq!((it.phase().as_str(), it.machine.until()), ("bound", Some(until)));
    assert_eq!(it.machine.deadline(), Some(asked_at + Duration::from_secs(600)));
}

#[test]
fn times_that_make_no_sense_are_not_believed() {
    // Lease, T1, T2; what T1 is taken for.
    let table = [
        ("60 30 50", 30),
        ("60 0 0", 30),
        ("60 70 80", 30),
        ("60 50 40", 30),
        ("60 20 90", 20),
        ("10 9 3", 2),
        ("1 1 1", 0),
    ];
    for (times, renew) in table {
        let mut it = Bench::new();
        it.hear("offer 50 60").hear(&format!("ack 50 {times}"));
        let asked_at = it.now;
        it.free();
        let deadline = it.machine.deadline().unwrap().saturating_since(asked_at);
        assert_eq!(deadline.as_secs(), renew, "{times}");
    }
    let mut it = Bench::new();
    it.hear("offer 50 60").hear("ack 50 4294967295").free();
    assert_eq!((it.machine.deadline(), it.machine.until()), (None, None));
    assert_eq!(it.address(), Some(ip(50)));
}

#[test]
fn an_address_that_nobody_answers_for_is_renewed_by_broadcast() {
    let mut it = Bench::bound();
    it.answered = false;
    it.pass(1_800);
    assert_eq!(it.said(), ["Request 50 - all"]);
    assert!(it.last.clone().unwrap().message.broadcast);
    it.hear("ack 50 3600");
    assert_eq!(it.phase(), "bound");
}

#[test]
fn what_another_node_had_is_carried_at_once_and_confirmed() {
    let mut it = Bench::with(|now| Dhcp4::take_over(config(), lease(80), now, now));
    assert_eq!((it.phase().as_str(), it.address()), ("rebooting", Some(ip(50))));
    assert_eq!(it.said(), ["Request 50 - all"]);
    assert_eq!(it.last.clone().unwrap().message.server, None);
    assert_eq!(it.machine.until(), Some(it.now + Duration::from_secs(10)));
    it.hear("ack 50 80");
    assert_eq!((it.phase().as_str(), it.machine.unchecked()), ("bound", None));

    // The identifier is the lease's, the hardware address this node's.
    let other = Dhcp4Lease { mac: SERVER_MAC, client_id: vec![9], ..lease(80) };
    let it = Bench::with(|now| Dhcp4::take_over(config(), other, now, now));
    let asked = it.last.unwrap().message;
    assert_eq!((asked.mac, asked.client_id), (config().mac, vec![9]));

    let mut it = Bench::with(|now| Dhcp4::take_over(config(), lease(80), now, now));
    it.hear("nak");
    assert_eq!((it.phase().as_str(), it.address()), ("selecting", None));

    let mut it = Bench::with(|now| Dhcp4::take_over(config(), lease(80), now, now));
    it.pass(9);
    assert!(it.said().len() >= 3 && it.address().is_some());
    it.pass(1);
    assert_eq!((it.phase().as_str(), it.address()), ("selecting", None));
    assert_eq!(it.said().last().unwrap(), "Discover 50 - all");
}

#[test]
fn an_address_of_a_node_is_refused_and_neither_declined_nor_given_back() {
    let mut it = Bench::new();
    it.hear("offer 7 60");
    let (by, server) = ("the node n7".to_owned(), ip(1).into());
    let refusal = DhcpRefusal::AddressOfNode { ip: ip(7).into(), by, server };
    assert_eq!(it.machine.refusal(), Some(&refusal));
    it.pass(600);
    assert!(it.said().iter().all(|it| it.starts_with("Discover")));
    // Another server's offer is taken all the same.
    it.pass(2_000);
    while it.phase() != "selecting" {
        it.pass(1);
    }
    it.hear("offer 50 60").hear("ack 50 60").free();
    assert_eq!((it.address(), it.machine.refusal()), (Some(ip(50)), None));
}

#[test]
fn an_address_in_use_is_declined_and_another_one_asked_for_later() {
    let mut it = Bench::new();
    it.hear("offer 50 60").hear("ack 50 60");
    it.said.clear();
    it.turn(|it, turn| it.on_probed(turn, Some(SERVER_MAC)));
    assert_eq!((it.phase().as_str(), it.said()), ("init", vec!["Decline 50 - all".into()]));
    let mac = SERVER_MAC;
    assert_eq!(it.machine.refusal(), Some(&DhcpRefusal::Conflict { ip: ip(50).into(), mac }));
    it.pass(9);
    assert_eq!(it.said(), Vec::<String>::new());
    it.pass(1);
    assert_eq!(it.said(), ["Discover - - all"]);
}

#[test]
fn an_offer_that_is_refused_is_asked_for_anew_soon_and_not_for_ever() {
    let mut it = Bench::new();
    let mut waits = Vec::new();
    for _ in 0..5 {
        it.hear("offer 50 60").hear("nak");
        assert_eq!(it.phase(), "init");
        let at = it.machine.deadline().unwrap();
        waits.push(at.saturating_since(it.now).as_millis());
        it.now = at;
        it.turn(|_, _| {});
    }
    assert!(waits[..3].iter().all(|it| *it <= 360), "{waits:?}");
    assert!(waits[3..].iter().all(|it| *it >= 10_000), "{waits:?}");
}

#[test]
fn what_there_is_is_given_back_to_its_server() {
    let released = |mut it: Bench| {
        it.said.clear();
        let machine = it.machine.clone();
        it.turn(|_, turn| machine.release(turn));
        it.said()
    };
    assert_eq!(released(Bench::new()), Vec::<String>::new());
    assert_eq!(released(Bench::bound()), ["Release - 50 1 true"]);
    let mut asked = Bench::new();
    asked.hear("offer 50 60");
    assert_eq!(released(asked), ["Release - 50 1 true"]);
    let taken_over = Bench::with(|now| Dhcp4::take_over(config(), lease(80), now, now));
    assert_eq!(released(taken_over), ["Release - 50 1 false"]);
}

#[test]
fn who_is_not_answered_asks_ever_more_seldom_and_says_so() {
    let mut it = Bench::new();
    let mut at = Vec::new();
    let began = it.now;
    while it.now < began + Duration::from_secs(2_000) {
        it.pass(1);
        if !it.said().is_empty() {
            at.push(it.now.saturating_since(began).as_secs());
        }
    }
    let gaps: Vec<_> = at.windows(2).map(|it| it[1] - it[0]).collect();
    // Three times, a pause of ten seconds; three times, and then every five minutes.
    let longest: Vec<_> = gaps.iter().filter(|it| **it > 5).collect();
    assert!(*longest[0] >= 18 && *longest[0] <= 24, "{gaps:?}");
    assert!(longest[1..].iter().all(|it| **it >= 308), "{gaps:?}");
    assert_eq!(it.machine.refusal(), Some(&DhcpRefusal::Unanswered));
}
