use std::sync::mpsc::channel;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::kube::FromKube;
use edgevip::model::{ApiFaultKind, ResourceVersion, WatchEvent};

use crate::desk::{Desk, found};
use crate::liar::{CHUNKED, Liar};
use crate::server::{alone, shared};

#[test]
fn a_watch_sees_each_change_of_its_lease_and_of_no_other() {
    let server = shared();
    let desk = Desk::new(server.admin(), "watched");
    let writer = Desk::new(server.admin(), "watched");
    let stranger = Desk::new(server.admin(), "unwatched");
    desk.watch(None);
    assert_eq!(desk.event(), WatchEvent::Opened);

    let created = found(writer.write(Some("n1"), None));
    assert_eq!(desk.watched(), created);
    found(stranger.write(Some("n9"), None));
    let renewed = found(writer.write(Some("n2"), Some(&created)));
    assert_eq!(desk.watched(), renewed);
    server.kubectl(&["-n", "edge", "delete", "lease", "watched"]);
    assert_eq!(desk.event(), WatchEvent::Deleted);
}

#[test]
fn a_watch_from_nowhere_begins_with_the_lease_as_it_is() {
    let server = shared();
    let desk = Desk::new(server.admin(), "begun");
    let created = found(desk.write(Some("n1"), None));
    desk.watch(None);
    assert_eq!(desk.event(), WatchEvent::Opened);
    assert_eq!(desk.watched(), created);
}

#[test]
fn a_watch_resumes_after_the_version_it_is_given() {
    let server = shared();
    let desk = Desk::new(server.admin(), "resumed");
    let first = found(desk.write(Some("n1"), None));
    let second = found(desk.write(Some("n2"), Some(&first)));
    let third = found(desk.write(Some("n3"), Some(&second)));
    desk.watch(Some(first.version));
    assert_eq!(desk.event(), WatchEvent::Opened);
    assert_eq!(desk.watched(), second);
    assert_eq!(desk.watched(), third);
}

#[test]
fn a_version_that_is_forgotten_has_expired() {
    let server = alone();
    server.crash_api_server();
    server.start_api_server();
    let desk = Desk::new(server.admin(), "expired");
    desk.watch(Some(ResourceVersion("1".into())));
    let events: Vec<_> = std::iter::repeat_with(|| desk.event())
        .skip_while(|it| *it == WatchEvent::Opened)
        .take(1)
        .collect();
    assert_eq!(events, [WatchEvent::Expired]);
}

#[test]
fn a_watch_ends_when_the_server_does() {
    let server = alone();
    let desk = Desk::new(server.admin(), "ended");
    desk.watch(None);
    assert_eq!(desk.event(), WatchEvent::Opened);
    server.crash_api_server();
    let WatchEvent::Ended(_) = desk.event() else { panic!() };

    desk.watch(None);
    let WatchEvent::Ended(fault) = desk.event() else { panic!() };
    assert_eq!(fault.kind, ApiFaultKind::Unreachable, "{fault:?}");
    server.start_api_server();
    desk.watch(None);
    assert_eq!(desk.event(), WatchEvent::Opened);
}

#[test]
fn a_watch_that_is_replaced_is_never_heard_of_again() {
    let server = shared();
    let desk = Desk::new(server.admin(), "replaced");
    let writer = Desk::new(server.admin(), "replaced");
    let mut lease = found(writer.write(Some("n"), None));
    for round in 0..20 {
        desk.watch(Some(lease.version.clone()));
        assert_eq!(desk.event(), WatchEvent::Opened);
        desk.watch(Some(lease.version.clone()));
        assert_eq!(desk.event(), WatchEvent::Opened);
        lease = found(writer.write(Some(&format!("n{round}")), Some(&lease)));
        assert_eq!(desk.watched(), lease);
    }
    assert!(desk.is_quiet());
}

#[test]
fn a_blocked_read_is_cut_at_once() {
    let (report, ends) = channel();
    let liar = Liar::saying(move |it| {
        it.request();
        it.say(CHUNKED);
        it.say("1\r\n\n\r\n");
        it.wait_for_end();
        report.send(clock::now()).ok();
    });
    let desk = Desk::new(liar.access(), "any");
    desk.watch(None);
    assert_eq!(desk.event(), WatchEvent::Opened);
    let mut worst = Duration::ZERO;
    for _ in 0..50 {
        let cut_at = clock::now();
        desk.watch(None);
        worst = worst.max(ends.recv().unwrap().saturating_since(cut_at));
        assert_eq!(desk.event(), WatchEvent::Opened);
    }
    println!("a blocked read was cut within {worst:?}");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}

#[test]
fn lines_of_all_kinds_are_taken_as_they_come() {
    let liar = Liar::saying(|it| {
        it.request();
        it.say(CHUNKED);
        let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12"}}}"#;
        let halves = bookmark.split_at(20);
        let odd = r#"{"type":"HEARTBEAT","object":7}"#;
        for piece in ["\n", halves.0, halves.1, "\r\n\n", odd, "\n"] {
            it.say(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        it.say("0\r\n\r\n");
    });
    let desk = Desk::new(liar.access(), "any");
    desk.watch(None);
    let watch = |event| FromKube::Watch { lease: "edge/any".into(), event };
    assert_eq!(desk.report(), watch(WatchEvent::Opened));
    let version = ResourceVersion("12".into());
    assert_eq!(desk.report(), watch(WatchEvent::Bookmark(version)));
    let WatchEvent::Ended(fault) = desk.event() else { panic!() };
    assert!(fault.why.ends_with("the server ended the watch"), "{fault:?}");
}

#[test]
fn a_watch_asks_for_what_it_should() {
    let (report, requests) = channel();
    let liar = Liar::saying(move |it| report.send(it.request()).unwrap());
    let desk = Desk::new(liar.access(), "a-lease");
    desk.watch(Some(ResourceVersion("7".into())));
    let request = requests.recv().unwrap();
    let wanted = "GET /apis/coordination.k8s.io/v1/namespaces/edge/leases?watch=1\
                  &fieldSelector=metadata.name%3Da-lease&allowWatchBookmarks=true\
                  &timeoutSeconds=290&resourceVersion=7 HTTP/1.1";
    assert_eq!(request.lines().next(), Some(wanted));
}
