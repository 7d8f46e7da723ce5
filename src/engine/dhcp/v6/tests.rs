mod bench;

use std::net::IpAddr;

use bench::*;

use super::*;
use crate::engine::Rng;
use crate::model::{Dhcp6Code, Dhcp6Status};

#[test]
fn a_lease_is_asked_for_checked_and_had() {
    let mut it = Bench::new();
    assert_eq!(it.said(), ["Solicit - any"]);
    assert_eq!(it.last.clone().unwrap().elapsed, Some(0));
    it.hear("advertise 50 3600 255");
    assert_eq!(it.said(), ["Request 50 1"]);
    it.hear("reply 50 3600");
    assert_eq!((it.phase().as_str(), it.machine.unchecked()), ("checking", Some(ip(50))));
    assert_eq!(it.address(), None);
    it.free();
    assert_eq!((it.phase().as_str(), it.machine.lease()), ("bound", Some(&lease(3_600))));
    assert_eq!(it.machine.until(), Some(it.now + Duration::from_secs(3_600)));
    assert_eq!(it.machine.status(it.now).server, Some(SERVER.into()));
}

#[test]
fn the_first_wait_is_for_all_servers_and_later_ones_for_the_first() {
    let mut it = Bench::new();
    it.hear("advertise 50 3600 1");
    let mut other = it.answer("advertise 51 3600 7");
    other.server = server(2);
    it.say(&other).hear("advertise 52 3600 3");
    assert_eq!(it.said(), ["Solicit - any"]);
    it.pass(1_100);
    assert_eq!(it.said(), ["Request 51 2"]);

    let mut it = Bench::new();
    it.pass(1_100).said.clear();
    it.hear("advertise 50 3600 0");
    assert_eq!(it.said(), ["Request 50 1"]);
}

#[test]
fn what_answers_nothing_changes_nothing() {
    let spoil: [fn(&mut Dhcp6Message); 9] = [
        |it| it.xid ^= 1,
        |it| it.client.push(1),
        |it| it.client.clear(),
        |it| it.server.clear(),
        |it| it.kind = Dhcp6Kind::Solicit,
        |it| it.ia = None,
        |it| it.ia.as_mut().unwrap().id += 1,
        // §21.4, §21.6.
        |it| (it.ia.as_mut().unwrap().t1, it.ia.as_mut().unwrap().t2) = (9, 8),
        |it| it.ia.as_mut().unwrap().addresses[0].preferred += 1,
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let mut it = Bench::new();
        let mut message = it.answer("advertise 50 3600 255");
        spoil(&mut message);
        it.say(&message);
        assert_eq!((it.phase().as_str(), it.said().len()), ("soliciting", 1), "{number}");
    }
    for address in ["::", "::1", "fe80::9", "ff02::1", "::ffff:10.0.0.1"] {
        let mut it = Bench::new();
        let mut message = it.answer("advertise 50 3600 255");
        message.ia.as_mut().unwrap().addresses[0].ip = address.parse().unwrap();
        it.say(&message);
        assert_eq!((it.phase().as_str(), it.said().len()), ("soliciting", 1), "{address}");
    }
    // One server was asked; another's word is of no account.
    let mut it = Bench::new();
    it.hear("advertise 50 3600 255");
    let mut other = it.answer("reply 50 3600");
    other.server = server(2);
    it.say(&other);
    assert_eq!(it.phase(), "requesting");
}

#[test]
fn a_lease_is_renewed_by_its_server_then_by_any_and_is_lost_at_its_end() {
    let mut it = Bench::bound();
    it.pass(1_799_000);
    assert_eq!(it.said(), Vec::<String>::new());
    it.pass(1_000);
    assert_eq!((it.phase().as_str(), it.said()), ("renewing", vec!["Renew 50 1".into()]));
    // 10 s, doubling to 600 s, until T2 at 2,880 s.
    it.pass(1_079_000);
    assert_eq!(it.said(), ["Renew 50 1"; 6]);
    it.pass(1_000);
    assert_eq!((it.phase().as_str(), it.said()), ("rebinding", vec!["Rebind 50 any".into()]));
    it.pass(719_000);
    assert_eq!(it.address(), Some(ip(50)));
    it.said.clear();
    it.pass(1_000);
    assert_eq!((it.phase().as_str(), it.address()), ("soliciting", None));
    assert_eq!(it.said(), ["Solicit 50 any"]);
    assert_eq!(it.machine.refusal(), Some(&DhcpRefusal::Expired { ip: ip(50).into() }));
}

#[test]
fn a_renewal_counts_from_when_it_was_asked_for() {
    let mut it = Bench::bound();
    it.pass(1_800_000);
    let asked_at = it.now;
    it.now = it.now + Duration::from_secs(5);
    let mut message = it.answer("reply 50 3600");
    let ia = message.ia.as_mut().unwrap();
    (ia.t1, ia.t2) = (600, 900);
    it.say(&message);
    let until = asked_at + Duration::from_secs(3_600);
    assert_eq!((it.phase().as_str(), it.machine.until()), ("bound", Some(until)));
    assert_eq!(it.machine.deadline(), Some(asked_at + Duration::from_secs(600)));
}

#[test]
fn times_that_make_no_sense_are_not_believed() {
    const EVER: u32 = u32::MAX;
    // T1, T2, preferred, valid; what T1 is taken for.
    let table = [
        (0, 0, 60, 60, 30),
        (0, 0, 20, 60, 10),
        (0, 0, 0, 60, 30),
        (20, 90, 60, 60, 20),
        (70, 80, 60, 60, 30),
        (0, 10, 60, 60, 10),
        (0, 0, 1, 1, 1),
        (40, 50, EVER, EVER, 40),
        (40, EVER, 60, 60, 40),
    ];
    for (t1, t2, preferred, valid, renew) in table {
        let mut it = Bench::new();
        it.hear("advertise 50 60 255");
        let mut message = it.answer("reply 50 60");
        let addresses = vec![Dhcp6Address { ip: ip(50), preferred, valid }];
        message.ia = Some(Dhcp6Ia { id: IAID, t1, t2, addresses, status: None });
        let asked_at = it.now;
        it.say(&message).free();
        let deadline = it.machine.deadline().unwrap().saturating_since(asked_at);
        assert_eq!(deadline.as_secs(), renew, "{t1} {t2} {preferred} {valid}");
    }
    let mut it = Bench::new();
    it.hear("advertise 50 60 255").hear("reply 50 4294967295").free();
    assert_eq!((it.machine.deadline(), it.machine.until()), (None, None));
    assert_eq!(it.address(), Some(ip(50)));
}

#[test]
fn what_a_server_does_not_know_is_requested_and_carried_meanwhile() {
    let mut it = Bench::bound();
    it.pass(1_800_000).said.clear();
    let mut message = it.answer("reply");
    message.ia.as_mut().unwrap().status = status(Dhcp6Code::NoBinding);
    it.say(&message);
    assert_eq!((it.phase().as_str(), it.address()), ("requesting", Some(ip(50))));
    assert_eq!(it.said(), ["Request 50 1"]);
    let mut same = it.machine.clone();
    it.hear("reply 50 3600");
    assert_eq!((it.phase().as_str(), it.machine.unchecked()), ("bound", None));

    // It leases another one instead.
    std::mem::swap(&mut it.machine, &mut same);
    it.hear("reply 51 3600");
    assert_eq!((it.machine.unchecked(), it.address()), (Some(ip(51)), None));

    // Or says no more.
    let mut it = Bench::bound();
    it.pass(1_800_000);
    let mut message = it.answer("reply");
    message.ia.as_mut().unwrap().status = status(Dhcp6Code::NoBinding);
    it.say(&message).said.clear();
    it.pass(600_000);
    assert_eq!((it.phase().as_str(), it.address()), ("rebinding", Some(ip(50))));
    let said = it.said();
    assert_eq!(said.iter().filter(|it| *it == "Request 50 1").count(), 9, "{said:?}");
}

#[test]
fn what_is_said_to_be_over_is_over_at_once() {
    let mut it = Bench::bound();
    it.pass(1_800_000).said.clear();
    it.hear("reply 50 0");
    assert_eq!((it.phase().as_str(), it.address()), ("soliciting", None));
    assert_eq!(it.said(), ["Solicit - any"]);
    assert_eq!(it.machine.refusal().map(DhcpRefusal::code), Some("dhcp-refused"));
}

#[test]
fn what_another_node_had_is_carried_at_once_and_rebound() {
    let taken = || Bench::with(|now| Dhcp6::take_over(config(), lease(80), now, now));
    let mut it = taken();
    assert_eq!((it.phase().as_str(), it.address()), ("rebinding", Some(ip(50))));
    assert_eq!(it.said(), ["Rebind 50 any"]);
    assert_eq!(it.machine.until(), Some(it.now + Duration::from_secs(10)));
    it.hear("reply 50 80");
    assert_eq!((it.phase().as_str(), it.machine.unchecked()), ("bound", None));

    // Who it is to servers is the lease's.
    let other = Dhcp6Lease { duid: vec![0, 4, 8], ..lease(80) };
    let it = Bench::with(|now| Dhcp6::take_over(config(), other, now, now));
    assert_eq!(it.last.unwrap().client, [0, 4, 8]);

    let mut it = taken();
    let mut message = it.answer("reply");
    message.ia.as_mut().unwrap().status = status(Dhcp6Code::NoBinding);
    it.said.clear();
    it.say(&message);
    assert_eq!((it.said(), it.address()), (vec!["Request 50 1".to_owned()], Some(ip(50))));

    let mut it = taken();
    it.hear("reply 50 0");
    assert_eq!((it.phase().as_str(), it.address()), ("soliciting", None));

    let mut it = taken();
    it.pass(9_900);
    assert!(it.said().len() >= 4 && it.address().is_some());
    it.pass(100);
    assert_eq!((it.phase().as_str(), it.address()), ("soliciting", None));
    assert_eq!(it.said().last().unwrap(), "Solicit 50 any");

    // A lease for ever is asked for until somebody answers, ever more seldom.
    let ever = lease(Dhcp6Lease::FOR_EVER);
    let mut it = Bench::with(|now| Dhcp6::take_over(config(), ever, now, now));
    it.pass(3_600_000);
    let said = it.said().len();
    assert!(it.address().is_some() && (10..20).contains(&said), "{said}");
}

#[test]
fn an_address_of_a_node_is_refused_and_neither_declined_nor_given_back() {
    let mut it = Bench::new();
    it.hear("advertise 7 60 255");
    let (by, server) = ("the node n7".to_owned(), SERVER.into());
    let refusal = DhcpRefusal::AddressOfNode { ip: ip(7).into(), by, server };
    assert_eq!(it.machine.refusal(), Some(&refusal));
    it.pass(600_000);
    assert!(it.said().iter().all(|it| it.starts_with("Solicit")));
    it.hear("advertise 50 60 0").hear("reply 50 60").free();
    assert_eq!((it.address(), it.machine.refusal()), (Some(ip(50)), None));
}

#[test]
fn an_address_in_use_is_declined_and_another_one_asked_for_later() {
    let in_use = || {
        let mut it = Bench::new();
        it.hear("advertise 50 60 255").hear("reply 50 60").said.clear();
        it.turn(|it, turn| it.on_probed(turn, Some(NEIGHBOUR)));
        it
    };
    let mut it = in_use();
    assert_eq!((it.phase().as_str(), it.said()), ("declining", vec!["Decline 50 1".into()]));
    let refusal = DhcpRefusal::Conflict { ip: ip(50).into(), mac: NEIGHBOUR };
    assert_eq!(it.machine.refusal(), Some(&refusal));
    it.hear("reply").pass(9_900);
    assert_eq!((it.phase().as_str(), it.said()), ("init", vec![]));
    it.pass(100);
    assert_eq!(it.said(), ["Solicit - any"]);

    // A server that does not answer is told four times.
    let mut it = in_use();
    it.pass(20_000);
    assert_eq!((it.phase().as_str(), it.said()), ("init", vec!["Decline 50 1".to_owned(); 4]));
}

#[test]
fn a_request_that_is_refused_is_followed_by_a_search_ever_later() {
    let mut it = Bench::new();
    let mut waits = Vec::new();
    for code in [Dhcp6Code::NoAddrsAvail, Dhcp6Code::NotOnLink, Dhcp6Code::NoAddrsAvail] {
        it.hear("advertise 50 60 255");
        let mut message = it.answer("reply 50 60");
        message.ia.as_mut().unwrap().status = status(code);
        it.say(&message);
        assert_eq!(it.phase(), "init");
        let words = it.machine.refusal().unwrap().to_string();
        assert!(words.contains(&format!("{code:?} so it is")), "{words}");
        let at = it.machine.deadline().unwrap();
        waits.push(at.saturating_since(it.now).as_millis());
        it.now = at;
        it.turn(|_, _| {});
    }
    assert!(waits.is_sorted() && waits[2] >= 2_000, "{waits:?}");
    // What is no refusal is asked again, ten times in all.
    it.hear("advertise 50 60 255").said.clear();
    let mut message = it.answer("reply");
    message.status = status(Dhcp6Code::Other(1));
    it.say(&message).pass(200_000);
    assert_eq!(it.said()[..9], ["Request 50 1"; 9]);
    it.pass(100_000);
    assert_eq!(it.phase(), "soliciting");
}

#[test]
fn what_there_is_is_given_back_to_its_server() {
    let released = |mut it: Bench| {
        it.said.clear();
        let machine = it.machine.clone();
        it.turn(|_, turn| _ = machine.release(turn));
        it.said()
    };
    assert_eq!(released(Bench::new()), Vec::<String>::new());
    assert_eq!(released(Bench::bound()), ["Release 50 1"]);
    let mut asked = Bench::new();
    asked.hear("advertise 50 60 255");
    assert_eq!(released(asked), ["Release 50 1"]);
    let taken_over = Bench::with(|now| Dhcp6::take_over(config(), lease(80), now, now));
    assert_eq!(released(taken_over), ["Release 50 1"]);
}

#[test]
fn a_release_is_said_until_it_is_heard_or_four_times() {
    let mut it = Bench::bound();
    let mut parting = None;
    let machine = it.machine.clone();
    it.turn(|_, turn| parting = machine.release(turn));
    let mut parting = parting.unwrap();
    let answer = it.answer("reply");
    assert!(parting.awaits(&answer) && parting.is_of(&answer.client));
    let others = [
        Dhcp6Message { xid: answer.xid ^ 1, ..answer.clone() },
        Dhcp6Message { client: vec![0, 4, 1], ..answer.clone() },
        Dhcp6Message { kind: Dhcp6Kind::Advertise, ..answer },
    ];
    assert!(others.iter().all(|it| !parting.awaits(it)));
    let began = it.now;
    while !parting.is_over() {
        it.now = parting.deadline();
        it.turn(|_, turn| parting.tick(turn));
    }
    assert!((7_000..8_000).contains(&it.now.saturating_since(began).as_millis()));
    assert!(it.last.as_ref().unwrap().elapsed.is_some_and(|it| it >= 700));
    assert!(it.said.iter().all(|one| one.xid == it.said[0].xid));
    assert_eq!(it.said(), ["Release 50 1"; 4]);
}

#[test]
fn who_is_not_answered_asks_ever_more_seldom_and_as_seldom_as_servers_say() {
    let mut it = Bench::new();
    let gaps = |it: &mut Bench, hours: u64| {
        let (mut at, began) = (Vec::new(), it.now);
        while it.now < began + Duration::from_secs(hours * 3_600) {
            it.pass(1_000);
            if !it.said().is_empty() {
                at.push(it.now.saturating_since(began).as_secs());
            }
        }
        at.windows(2).map(|it| it[1] - it[0]).collect::<Vec<_>>()
    };
    let found = gaps(&mut it, 6);
    assert!(found[..5].is_sorted() && found[0] <= 3, "{found:?}");
    assert!((3_600..=3_961).contains(found.last().unwrap()), "{found:?}");
    assert_eq!(it.machine.refusal(), Some(&DhcpRefusal::Unanswered));
    let mut message = it.answer("advertise");
    for (patience, expected) in [(59, 3_600..=3_961), (60, 60..=67)] {
        message.patience = Some(patience);
        it.say(&message);
        let found = gaps(&mut it, 6);
        assert!(expected.contains(found.last().unwrap()), "{patience} {found:?}");
    }
}
