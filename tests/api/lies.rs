use std::sync::mpsc::channel;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::kube::FromKube;
use edgevip::model::{ApiFaultKind, LeaseCall, LeaseReply, SideCall, SideReply, WatchEvent};

use crate::desk::{Desk, SCHEDULING, fault, found, why, write};
use crate::liar::{CHUNKED, Liar, answer};

const LEASE: &str = r#"{"kind":"Lease","metadata":{"resourceVersion":"7"}}"#;

#[test]
fn a_refusal_says_its_kind_its_words_and_when_to_come_back() {
    let status = r#"{"kind":"Status","message":"not you"}"#;
    let table = [
        ("401 Unauthorized", "", ApiFaultKind::Unauthorized, None),
        ("403 Forbidden", "", ApiFaultKind::Forbidden, None),
        ("429 Too Many Requests", "Retry-After: 3\r\n", ApiFaultKind::Refused, Some(3)),
        ("500 Oh", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", ApiFaultKind::Refused, None),
        ("503 Later", "Retry-After: 99999999999\r\n", ApiFaultKind::Refused, None),
        ("503 Later", "Retry-After: 30\r\n", ApiFaultKind::Refused, Some(30)),
        ("302 Found", "Location: http://127.0.0.1:1/\r\n", ApiFaultKind::Refused, None),
    ];
    for (line, header, kind, seconds) in table {
        let liar = Liar::answering(answer(line, header, status));
        let desk = Desk::new(liar.access(), "any");
        let fault = fault(desk.read());
        assert_eq!(fault.retry_after, seconds.map(Duration::from_secs), "{line}");
        assert!(why(fault, kind).ends_with("not you"));

        desk.watch(None);
        let WatchEvent::Ended(fault) = desk.event() else { panic!("{line}") };
        assert_eq!((fault.kind, fault.retry_after), (kind, seconds.map(Duration::from_secs)));
    }
}

#[test]
fn a_watch_refused_with_410_has_expired() {
    let liar = Liar::answering(answer("410 Gone", "", "{}"));
    let desk = Desk::new(liar.access(), "any");
    desk.watch(None);
    assert_eq!(desk.event(), WatchEvent::Expired);
}

#[test]
fn whatever_is_no_lease_is_garbage() {
    let deep = "[".repeat(1 << 19);
    let nested = format!("{}{}", r#"{"a":"#.repeat(120), "}".repeat(120));
    let long = "x".repeat(2 << 20);
    let bodies = ["", "{}", "null", "<html>", "{\"kind\":", "\u{0}", &deep, &nested, &long];
    for body in bodies {
        let liar = Liar::answering(answer("200 OK", "", body));
        let desk = Desk::new(liar.access(), "any");
        why(fault(desk.read()), ApiFaultKind::Garbage);
    }
}

#[test]
fn whatever_is_no_http_is_a_fault() {
    let heads = [
        "",
        "\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 99999 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}XX",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "\u{0}\u{1}\u{2}",
    ];
    for head in heads {
        let liar = Liar::saying(move |it| {
            it.request();
            it.say(head);
        });
        let desk = Desk::new(liar.access(), "any");
        fault(desk.read());
        desk.watch(None);
        let mut event = desk.event();
        if event == WatchEvent::Opened {
            event = desk.event();
        }
        assert!(matches!(event, WatchEvent::Ended(_)), "{head:?}: {event:?}");
    }
}

#[test]
fn a_head_without_end_is_a_fault() {
    let liar = Liar::saying(|it| {
        it.request();
        it.say("HTTP/1.1 200 OK\r\n");
        while it.say_bytes(b"X-Lie: again and again and again and again and again\r\n") {}
    });
    fault(Desk::new(liar.access(), "any").read());
}

#[test]
fn a_line_without_end_is_garbage_and_costs_no_memory() {
    let liar = Liar::saying(|it| {
        it.request();
        it.say("HTTP/1.1 200 OK\r\n\r\n");
        while it.say_bytes(&[b'x'; 65_536]) {}
    });
    let desk = Desk::new(liar.access(), "any");
    desk.watch(None);
    assert_eq!(desk.event(), WatchEvent::Opened);
    let WatchEvent::Ended(fault) = desk.event() else { panic!() };
    why(fault, ApiFaultKind::Garbage);
    assert!(desk.is_quiet());
    why(crate::desk::fault(desk.read()), ApiFaultKind::Garbage);
    let SideReply::Failed(fault) = desk.side(SideCall::CountCandidates) else { panic!() };
    why(fault, ApiFaultKind::Garbage);
}

#[test]
fn garbage_in_a_watch_ends_it() {
    let liar = Liar::saying(|it| {
        it.request();
        it.say(CHUNKED);
        it.say("5\r\n{\"a\"\n\r\n");
        it.wait_for_end();
    });
    let desk = Desk::new(liar.access(), "any");
    desk.watch(None);
    assert_eq!(desk.event(), WatchEvent::Opened);
    let WatchEvent::Ended(fault) = desk.event() else { panic!() };
    why(fault, ApiFaultKind::Garbage);
}

#[test]
fn a_server_that_drips_is_given_up_in_time() {
    let liar = Liar::saying(|it| {
        it.request();
        it.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        let (_never, drip) = channel::<()>();
        while it.say_bytes(b" ") {
            drip.recv_timeout(Duration::from_millis(50)).ok();
        }
    });
    let desk = Desk::new(liar.access(), "any");
    let give_up_at = clock::now() + Duration::from_millis(700);
    let request = desk.order(LeaseCall::Read, give_up_at);
    why(fault(desk.lease_answer(request, give_up_at)), ApiFaultKind::Timeout);
}

#[test]
fn a_server_that_takes_two_seconds_and_a_half_is_waited_for() {
    let liar = Liar::saying(|it| {
        let (_never, wait) = channel::<()>();
        while !it.request().is_empty() {
            wait.recv_timeout(Duration::from_millis(2_500)).ok();
            it.say(&answer("200 OK", "", LEASE));
        }
    });
    let desk = Desk::new(liar.access(), "any");
    found(desk.read());
    found(desk.read());
}

#[test]
fn a_kept_connection_that_is_dead_costs_no_attempt() {
    let (report, requests) = channel();
    let liar = Liar::saying(move |it| {
        let request = it.request();
        report.send((it.number, request)).unwrap();
        it.say(&answer("200 OK", "", LEASE));
        // The next request is taken, but its answer is the end of the connection.
        report.send((it.number, it.request())).ok();
    });
    let desk = Desk::new(liar.access(), "any");
    let lease = found(desk.read());
    found(desk.lease(write(Some("n1"), Some(&lease))));
    let asked: Vec<_> =
        requests.try_iter().map(|(number, it)| (number, it[..3].to_owned())).collect();
    let expected = [(0, "GET"), (0, "PUT"), (1, "PUT")];
    assert_eq!(asked, expected.map(|(number, it)| (number, it.to_owned())));
}

#[test]
fn each_order_has_one_answer_however_many_there_are() {
    let liar = Liar::saying(|it| it.wait_for_end());
    let desk = Desk::new(liar.access(), "any");
    let mut expected = vec![];
    for number in 0..8 {
        let give_up_at = clock::now() + Duration::from_millis(1_000 - 100 * number);
        expected.push((desk.order(LeaseCall::Read, give_up_at), give_up_at));
    }
    let mut answered = vec![];
    for _ in 0..8 {
        let FromKube::Lease { request, reply: LeaseReply::Failed(_) } = desk.report() else {
            panic!()
        };
        let (_, give_up_at) = *expected.iter().find(|it| it.0 == request).unwrap();
        let late = clock::now().saturating_since(give_up_at);
        assert!(late < SCHEDULING, "{request:?} {late:?}");
        answered.push(request);
    }
    answered.sort();
    assert_eq!(answered, expected.iter().map(|it| it.0).collect::<Vec<_>>());
    assert!(desk.is_quiet());
}

#[test]
fn orders_on_the_side_have_an_answer_even_where_there_is_no_room() {
    let (end, ended) = channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    let liar = Liar::saying(move |it| {
        it.request();
        ended.lock().unwrap().recv().ok();
        it.say(&answer("200 OK", "", r#"{"kind":"NodeList","items":[]}"#));
    });
    let desk = Desk::new(liar.access(), "any");
    for _ in 0..40 {
        desk.kube().side(desk.request(), SideCall::CountCandidates);
    }
    drop(end);
    let mut done = 0;
    for _ in 0..40 {
        match desk.report() {
            FromKube::Side { reply: SideReply::Candidates(0), .. } => done += 1,
            FromKube::Side { reply: SideReply::Failed(_), .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((16..=17).contains(&done), "{done}");
    assert!(desk.is_quiet());
}
