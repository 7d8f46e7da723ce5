use super::*;
use crate::model::Mac;

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

/// Defects 1, 2, 3, 4 of the peer's.
#[test]
fn better_than_the_peer_whatever_a_service_is_known_by_counts_everywhere() {
    let mut bench = Bench::new("cidr-test: 10.0.0.0/24");
    bench.has("other/a", "10.0.0.1, my.example,,garbage,fe80::1%eth0 ,10.0.0.2");
    let mut field = service("other/b");
    field.load_balancer_ip = Some("10.0.0.3".into());
    bench.book.update(&field, START);
    let mut status = service("other/c");
    status.annotations.insert(ADDRESSES.into(), "0.0.0.0".into());
    status.ingress = vec![ingress("10.0.0.4"), Ingress::default(), ingress("::ffff:10.0.0.5")];
    bench.book.update(&status, START);
    bench.book.reserve("node n1", [ip("10.0.0.6"), ip("fd00::6")]);
    bench.book.reserve("the control plane's VIP", [ip("10.0.0.7")]);
    let mut inner = service("other/d");
    inner.balanced = false;
    inner.load_balancer_ip = Some("10.0.0.8".into());
    bench.book.update(&inner, START);
    assert_eq!(bench.answer("new"), "10.0.0.8");
    assert_eq!(bench.book.services().count(), 3);
}

#[test]
fn reservations_are_as_they_were_said_last() {
    let mut bench = Bench::new("cidr-test: 10.0.0.0/24");
    bench.book.reserve("node n1", [ip("10.0.0.1"), ip("10.0.0.2")]);
    bench.book.reserve("node n2", [ip("10.0.0.2")]);
    bench.book.reserve("node n1", [ip("10.0.0.2"), ip("10.0.0.3")]);
    assert_eq!(bench.answer("new"), "10.0.0.1");
    bench.has("a", "10.0.0.1");
    bench.book.reserve("node n1", []);
    assert_eq!(bench.answer("new"), "10.0.0.3");
    bench.book.reserve("node n2", []);
    assert_eq!(bench.answer("new"), "10.0.0.2");
}

#[test]
fn what_somebody_had_rests_although_another_was_to_get_it() {
    let mut bench = Bench::new("cidr-test: 10.0.0.0/29");
    let request = Request::of(&service("b"), bench.now);
    let grant = allocate(&bench.pools, &bench.book, &request).expect("an address");
    bench.book.grant(&request, &grant);
    bench.has("a", "10.0.0.1");
    bench.gone("a");
    bench.book.withdraw(&request.name, bench.now);
    assert_eq!(bench.answer("c"), "10.0.0.2");
    bench.pass(60);
    assert_eq!(bench.answer("c"), "10.0.0.1");
}

#[test]
fn a_freed_address_rests_but_for_who_had_it() {
    let mut bench = Bench::new("cidr-test: 10.0.0.0/29");
    assert_eq!(bench.give("a"), "10.0.0.1");
    assert_eq!(bench.give("b"), "10.0.0.2");
    bench.gone("a");
    assert_eq!(bench.book.deadline(bench.now), Some(bench.now + QUARANTINE));
    assert_eq!(bench.answer("c"), "10.0.0.3");
    assert_eq!(bench.answer("a"), "10.0.0.1");
    bench.pass(59);
    assert_eq!(bench.answer("c"), "10.0.0.3");
    bench.pass(1);
    assert_eq!(bench.book.deadline(bench.now), None);
    assert_eq!(bench.answer("c"), "10.0.0.1");
    bench.gone("b");
    bench.pass(3600);
    assert_eq!(bench.answer("b"), "10.0.0.2", "hours later as well");
    bench.has("c", "10.0.0.2");
    assert_eq!(bench.answer("b"), "10.0.0.1", "unless another has it");
}

#[test]
fn of_those_that_are_gone_only_the_latest_are_remembered() {
    let mut bench = Bench::new("cidr-test: 10.0.0.0/8");
    for number in 0..5000 {
        bench.has(&format!("u{number}"), &format!("10.1.{}.{}", number / 200, 1 + number % 200));
    }
    for _ in 0..2 {
        for number in 0..5000 {
            bench.gone(&format!("u{number}"));
        }
    }
    bench.pass(3600);
    assert_eq!(bench.answer("u903"), "10.0.0.1");
    assert_eq!(bench.answer("u904"), "10.1.4.105");
    assert_eq!(bench.answer("u4999"), "10.1.24.200");
}

#[test]
fn a_stranger_keeps_an_address_for_a_while() {
    let mut bench = Bench::new("cidr-test: 10.0.0.0/29");
    assert_eq!(bench.give("a"), "10.0.0.1");
    bench.gone("a");
    bench.book.answered(ip("10.0.0.1"), Some(Mac([2, 0, 0, 0, 0, 9])), bench.now);
    assert_eq!(bench.answer("a"), "10.0.0.2", "who had it would not reach anybody");
    bench.has("b", "10.0.0.1");
    bench.gone("b");
    bench.pass(299);
    assert_eq!(bench.answer("a"), "10.0.0.2", "being asked for does not make it free");
    bench.pass(1);
    assert_eq!(bench.answer("a"), "10.0.0.1");
    bench.book.answered(ip("10.0.0.1"), None, bench.now);
    bench.book.unanswered(ip("10.0.0.1"));
    assert_eq!(bench.answer("a"), "10.0.0.1");
}

#[test]
fn what_was_granted_is_kept_until_the_service_says_so() {
    let mut bench = Bench::new("cidr-test: 10.0.0.0/29,fd00::/64");
    let asked = request("a prefer", bench.now);
    let grant = allocate(&bench.pools, &bench.book, &asked).unwrap();
    bench.book.grant(&asked, &grant);
    bench.book.update(&service("a"), bench.now);
    assert_eq!(bench.answer("b prefer"), "10.0.0.2,fd00::2");
    assert_eq!(bench.answer("a prefer"), "10.0.0.1,fd00::1");
    bench.has("a", "10.0.0.1");
    assert_eq!(bench.answer("b prefer"), "10.0.0.2,fd00::2");
    bench.book.withdraw(&object("a"), bench.now);
    assert_eq!(bench.answer("b prefer"), "10.0.0.2,fd00::1", "what nobody saw need not rest");
    bench.book.withdraw(&object("nobody"), bench.now);
    bench.has("a", "10.0.0.4");
    bench.pass(60);
    assert_eq!(bench.answer("b"), "10.0.0.1");
}

#[test]
fn usage_counts_what_is_given_out_and_names_who_has_it() {
    let mut bench = Bench::new(
        "cidr-a: 10.0.0.0/28,fd00::/64\ncidr-b: 0.0.0.0/32\ncidr-c: oh no\nrange-d: fd00::1-fd00::2",
    );
    bench.has("a/one", "10.0.0.1,fd00::1,10.0.0.0");
    bench.has("a/gone", "10.0.0.2");
    bench.gone("a/gone");
    bench.book.reserve("node n1", [ip("10.0.0.1"), ip("10.0.0.3")]);
    bench.book.answered(ip("10.0.0.4"), None, bench.now);
    bench.book.answered(ip("10.0.0.3"), None, bench.now);
    bench.pass(10);
    let used = usage(&bench.pools, &bench.book, bench.now);
    let shown: Vec<_> = used.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(shown, ["cidr-a", "cidr-b", "cidr-c", "range-d"]);
    let v4 = used[0].families[0];
    assert_eq!((v4.total, v4.used, v4.quarantined, v4.strangers, v4.free()), (15, 2, 1, 1, 11));
    let v6 = used[0].families[1];
    assert_eq!((v6.total, v6.used, v6.free()), (u64::MAX, 1, u64::MAX));
    assert_eq!(used[1].dhcp, [IpFamily::V4]);
    assert!(used[2].fault.is_some() && used[2].families.is_empty());
    assert_eq!(used[3].families[0].free(), 1);
    let text: Vec<_> =
        used[0].held.iter().map(|it| format!("{} {:?}", it.address, it.by)).collect();
    let one = "Services([ObjectName { namespace: \"a\", name: \"one\" }])";
    assert_eq!(
        text,
        [
            format!("10.0.0.0 {one}"),
            format!("10.0.0.1 {one}"),
            "10.0.0.1 Reserved([\"node n1\"])".into(),
            "10.0.0.2 Quarantined { last: ObjectName { namespace: \"a\", name: \"gone\" }, \
             left_ms: 50000 }"
                .into(),
            "10.0.0.3 Reserved([\"node n1\"])".into(),
            "10.0.0.4 Stranger { mac: None, left_ms: 290000 }".into(),
            format!("fd00::1 {one}"),
        ]
    );
}
