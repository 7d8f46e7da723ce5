//! What is told of a Service, to whom, and how often.

use super::*;

#[test]
fn who_answers_is_written_and_then_where_and_nothing_more() {
    let mut bench = Bench::new();
    bench.service(asking("a/web", IP)).endpoints("a/web", &["n2"]);
    assert_eq!(bench.writes(), []);
    bench.answers(IP, true);
    let [(request, ObjectCall::PatchService { version, patch, .. })] = &bench.writes()[..] else {
        panic!("no patch")
    };
    assert_eq!(version.0, "1");
    assert_eq!(patch.annotations["kube-vip.io/vipHost"].as_deref(), Some(ME));
    bench.reply(*request, ObjectReply::Done(ResourceVersion("2".into())));
    assert_eq!(bench.writes(), [], "the watch has not brought it yet");
    let mut it = told(asking("a/web", IP), 2);
    it.ingress.clear();
    bench.service(it);
    let [(request, ObjectCall::WriteIngress { version, ingress, .. })] = &bench.writes()[..] else {
        panic!("no status")
    };
    assert_eq!((version.0.as_str(), ingress.len(), ingress[0].ports.len()), ("2", 1, 1));
    bench.reply(*request, ObjectReply::Done(ResourceVersion("3".into())));
    bench.service(told(asking("a/web", IP), 3));
    bench.pass(60_000);
    assert_eq!(bench.writes(), []);
}

#[test]
fn what_somebody_else_writes_over_is_put_right_later_and_later() {
    let mut bench = Bench::new();
    let wrong = |version| {
        let mut it = told(asking("a/web", IP), version);
        it.ingress[0].ip = "10.0.0.99".parse().ok();
        it
    };
    bench.endpoints("a/web", &["n2"]).service(wrong(1)).answers(IP, true);
    let mut gaps = Vec::new();
    for version in 1..8 {
        let begun = bench.now;
        let request = loop {
            match &bench.writes()[..] {
                [] => drop(bench.pass(10)),
                [(request, ObjectCall::WriteIngress { .. })] => break *request,
                other => panic!("{other:?}"),
            }
        };
        gaps.push(bench.now.saturating_since(begun).as_millis());
        let written = ResourceVersion((2 * version).to_string());
        bench.reply(request, ObjectReply::Done(written));
        bench.service(told(asking("a/web", IP), 2 * version)).service(wrong(2 * version + 1));
    }
    assert_eq!(gaps[0], 0);
    assert!(gaps[6] > 2_000 && gaps.is_sorted_by(|a, b| *a < b * 2), "{gaps:?}");
}

#[test]
fn a_service_that_servicelb_serves_too_is_named() {
    let mut bench = Bench::new();
    let theirs = vec!["svccontroller.k3s.cattle.io/daemonset".to_owned()];
    bench.service(asking("a/alone", "10.0.0.5"));
    assert_eq!(bench.services.of_service_lb(), None);
    bench.service(Service { finalizers: theirs, ..asking("a/both", "10.0.0.6") });
    let named = bench.services.of_service_lb().map(ToString::to_string);
    assert_eq!(named.as_deref(), Some("a/both"));
}

#[test]
fn a_conflict_waits_for_the_watch_and_a_fault_for_a_while() {
    let mut bench = Bench::new();
    bench.service(asking("a/web", IP)).endpoints("a/web", &["n2"]).answers(IP, true);
    let request = bench.writes()[0].0;
    bench.reply(request, ObjectReply::Conflict).pass(100);
    assert_eq!(bench.writes(), []);
    let mut newer = asking("a/web", IP);
    newer.version = ResourceVersion("7".into());
    bench.service(newer);
    let [(request, ObjectCall::PatchService { version, .. })] = &bench.writes()[..] else {
        panic!("no patch")
    };
    assert_eq!(version.0, "7");
    let fault = ApiFault {
        kind: ApiFaultKind::Refused,
        why: "429".into(),
        retry_after: Some(std::time::Duration::from_secs(2)),
    };
    bench.reply(*request, ObjectReply::Failed(fault)).pass(1_900);
    assert_eq!(bench.writes(), []);
    bench.pass(200);
    assert_eq!(bench.writes().len(), 1);
}

#[test]
fn events_tell_of_transitions_and_no_more_than_a_burst_of_them() {
    let mut bench = Bench::new();
    bench.service(asking("a/web", "non sense"));
    let why = "loadbalancerIPs=non sense: an IP address, or a DNS name";
    assert_eq!(bench.events(), [format!("a/web Unreadable: {why}")]);
    bench.service(asking("a/web", "non sense")).pass(1_000);
    assert_eq!(bench.events(), Vec::<String>::new());
    bench.service(asking("a/web", IP)).endpoints("a/web", &["n2"]).answers(IP, true);
    let request = bench.writes()[0].0;
    bench.reply(request, ObjectReply::Done(ResourceVersion("2".into())));
    bench.service(told(asking("a/web", IP), 2));
    assert_eq!(bench.events(), ["a/web AddressAnnounced: n1 answers for 10.0.0.5"]);
    for number in 0..100 {
        bench.service(asking(&format!("b/{number}"), "non sense"));
    }
    assert!(bench.events().len() < 30);
    for _ in 0..200 {
        bench.pass(100);
    }
    assert!(bench.events().len() > 60);
}

#[test]
fn events_that_wait_for_their_turn_wake_nobody_before_it_comes() {
    let mut bench = Bench::new();
    for number in 0..50 {
        let ip = format!("10.0.1.{number}");
        let it = asking(&format!("a/{number:02}"), &ip);
        // Of the first forty, nothing is left to tell but an Event.
        bench.service(if number < 40 { told(it, 2) } else { it }).answers(&ip, true);
    }
    let writes = bench.writes();
    assert_eq!(writes.len(), 8, "as many as may be under way");
    bench.pass(1_000);
    assert_eq!(bench.events().len(), 0);
    let due = bench.services.telling.deadline();
    assert!(due.is_none_or(|it| it.at > bench.now), "{due:?} would be all the time");
    bench.reply(writes[0].0, ObjectReply::Gone);
    let due = bench.services.telling.deadline().expect("it goes on");
    assert!(due.at > bench.now, "{due:?}");
}
