use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::kube::{FromKube, Kube, LeaseTarget};
use edgevip::model::{ApiFaultKind, LeaseCall, LeaseReply, RequestId};

use crate::desk::{Desk, fault, found, why, write};
use crate::server::alone;

#[test]
fn a_server_that_hangs_is_given_up_in_time_and_used_again_when_it_goes_on() {
    let server = alone();
    let desk = Desk::new(server.admin(), "hung");
    let lease = found(desk.write(Some("n1"), None));
    let frozen = server.freeze();

    let ends = [1_500, 1_000, 1_700].map(|it| clock::now() + Duration::from_millis(it));
    let requests = ends.map(|it| desk.order(write(Some("n1"), Some(&lease)), it));
    for index in [1, 0, 2] {
        let (request, give_up_at) = (requests[index], ends[index]);
        why(fault(desk.lease_answer(request, give_up_at)), ApiFaultKind::Timeout);
        let early = give_up_at.saturating_since(clock::now());
        assert!(early < Duration::from_millis(200), "{early:?}");
    }

    // What was given up may be done all the same, and so between this read and this write.
    drop(frozen);
    let mut written = LeaseReply::Conflict;
    while written == LeaseReply::Conflict {
        written = desk.write(Some("n1"), Some(&found(desk.read())));
    }
    found(written);
}

#[test]
fn a_server_that_comes_back_costs_no_attempt_once_it_is_back() {
    let server = alone();
    let desk = Desk::new(server.admin(), "restarted");
    let lease = found(desk.write(Some("n1"), None));
    server.crash_api_server();
    why(fault(desk.read()), ApiFaultKind::Unreachable);
    server.start_api_server();
    let renewed = found(desk.write(Some("n1"), Some(&lease)));
    server.crash_api_server();
    server.start_api_server();
    found(desk.write(None, Some(&renewed)));
}

#[test]
fn what_was_ordered_before_the_client_is_dropped_is_answered() {
    let server = alone();
    let frozen = server.freeze();
    let (report, reports) = channel();
    let target = LeaseTarget { name: "edge/dropped".into(), annotations: Default::default() };
    let deliver = move |it| drop(report.send(it));
    let mut kube = Kube::start(server.admin(), target, Arc::new(deliver));
    let end = clock::now() + Duration::from_millis(500);
    kube.lease(RequestId(1), &"edge/dropped".into(), LeaseCall::Read, end);
    kube.watch("edge/dropped".into(), None);
    drop(kube);
    let reports: Vec<_> = reports.iter().collect();
    let [FromKube::Lease { reply: LeaseReply::Failed(_), .. }] = &reports[..] else {
        panic!("{reports:?}")
    };
    drop(frozen);
}
