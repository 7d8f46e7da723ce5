use super::super::ranges::{Ranges, Span, address};
use super::super::text::{self, Source};
use super::*;

fn show(family: IpFamily, source: &Source) -> Vec<String> {
    let span = |Span { first, last }: Span| match first == last {
        true => address(family, first).to_string(),
        false => format!("{}-{}", address(family, first), address(family, last)),
    };
    match source {
        Source::Absent => vec![],
        Source::Dhcp => vec![format!("{family:?} by DHCP")],
        Source::Ranges(ranges) => ranges.spans().map(span).collect(),
    }
}

fn set(value: &str, skip_ends: bool) -> String {
    match text::pool(value, skip_ends) {
        Ok(pool) => [show(IpFamily::V4, &pool.v4), show(IpFamily::V6, &pool.v6)].concat().join(" "),
        Err((element, _)) => format!("wrong: {element}"),
    }
}

#[test]
fn peer_sets() {
    let table = "
        192.168.0.10-192.168.0.10               | 192.168.0.10                  | =
        192.168.0.253-192.168.1.2               | 192.168.0.253-192.168.1.2     | =
        192.168.0.10-192.168.0.11,192.168.0.10-192.168.0.13 | 192.168.0.10-192.168.0.13 | =
        fe80::ffff-fe80::1:3                    | fe80::ffff-fe80::1:3          | =
        192.168.0.200/32                        | 192.168.0.200                 | =
        192.168.0.200/30                        | 192.168.0.200-192.168.0.203   | 192.168.0.201-192.168.0.202
        192.168.0.200/31                        | 192.168.0.200-192.168.0.201   | =
        192.168.0.200/30,192.168.0.200/29       | 192.168.0.200-192.168.0.207   | 192.168.0.201-192.168.0.206
        192.168.0.10/24                         | 192.168.0.0-192.168.0.255     | 192.168.0.1-192.168.0.254
        fd00::5/64,10.0.0.4/31,fd00:0:0:1::/64,10.0.0.6/31 | 10.0.0.4-10.0.0.7 fd00::-fd00::1:ffff:ffff:ffff:ffff | 10.0.0.5-10.0.0.6 fd00::-fd00::1:ffff:ffff:ffff:ffff
        fd00::9-fd00::a,10.0.0.9-10.0.0.9,fd00::1-fd00::2 | 10.0.0.9 fd00::1-fd00::2 fd00::9-fd00::a | =
    ";
    for [value, plain, skipped] in rows(table) {
        let skipped = if skipped == "=" { plain } else { skipped };
        assert_eq!(set(value, false), plain, "{value}");
        assert_eq!(set(value, true), skipped, "{value} without ends");
    }
}

#[test]
fn sets_at_the_edges() {
    let table = "
        0.0.0.0/0              | 0.0.0.0-255.255.255.255 | 0.0.0.1-255.255.255.254
        255.255.255.255/32     | 255.255.255.255         | =
        10.0.0.0/30,10.0.0.4/31 | 10.0.0.0-10.0.0.5      | 10.0.0.1-10.0.0.2 10.0.0.4-10.0.0.5
        ::/0                   | ::-::fffe:ffff:ffff ::1:0:0:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff | =
        ::fffe:ffff:fff0-::1:0:0:f | ::fffe:ffff:fff0-::fffe:ffff:ffff ::1:0:0:0-::1:0:0:f | =
        0.0.0.0/32             | V4 by DHCP              | =
        ::/128                 | V6 by DHCP              | =
        0.0.0.0/32,::/128      | V4 by DHCP V6 by DHCP   | =
        0.0.0.0/32,fd00::1/128 | V4 by DHCP fd00::1      | =
        0.0.0.0/32,10.0.0.1/32 | 0.0.0.0 10.0.0.1        | =
        0.0.0.0-0.0.0.0        | 0.0.0.0                 | =
        ::/127                 | ::-::1                  | =
    ";
    for [value, plain, skipped] in rows(table) {
        let skipped = if skipped == "=" { plain } else { skipped };
        assert_eq!(set(value, false), plain, "{value}");
        assert_eq!(set(value, true), skipped, "{value} without ends");
    }
}

#[test]
fn a_wrong_element_is_named_and_what_would_be_right() {
    let table = "
        10.0.0.0/33                 | 10.0.0.0/33         | is no CIDR
        10.0.0.0/                   | 10.0.0.0/           | is no CIDR
        10.0.0.0/+8                 | 10.0.0.0/+8         | is no CIDR
        10.0.0.0/08                 | 10.0.0.0/08         | is no CIDR
        10.0.0.0/24/24              | 10.0.0.0/24/24      | is no CIDR
        010.0.0.0/24                | 010.0.0.0/24        | is no CIDR
        10.0.0/24                   | 10.0.0/24           | is no CIDR
        fd00::/129                  | fd00::/129          | is no CIDR
        fe80::%eth0/64              | fe80::%eth0/64      | is no CIDR
        10.0.0.0/24,10.0.1.1        | 10.0.1.1            | is no CIDR
        10.0.0.0/24,10.0.1.1-10.0.1.2 | 10.0.1.1-10.0.1.2 | stands beside CIDRs
        10.0.0.0/24, 10.0.1.0/24    | 10.0.1.0/24         | has blanks
        10.0.0.1 - 10.0.0.2         | 10.0.0.1 - 10.0.0.2 | has blanks
        10.0.0.0/24,                |                     | is empty
        10.0.0.1                    | 10.0.0.1            | is no range
        10.0.0.1-                   | 10.0.0.1-           | is no range
        10.0.0.1-10.0.0.2-10.0.0.3  | 10.0.0.1-10.0.0.2-10.0.0.3 | is no range
        10.0.0.2-10.0.0.1           | 10.0.0.2-10.0.0.1   | is no range: its first address comes
        10.0.0.2-fd00::1            | 10.0.0.2-fd00::1    | is no range: its ends are of two
        ::ffff:10.0.0.0/120         | ::ffff:10.0.0.0/120 | stands for an IPv4 address
        garbage                     | garbage             | is no range
        192.168.0.1/24,fd00::/64,x  | x                   | is no CIDR
    ";
    for [value, element, right] in rows(table) {
        let (named, said) = text::pool(value, false).expect_err(value);
        assert_eq!(named.trim(), element, "{value}");
        assert!(said.starts_with(right), "{value}: {said}");
    }
    assert!(text::pool("", false).unwrap_err().1.starts_with("is empty"));
}

#[test]
fn peer_lookup() {
    let all = "
cidr-a: 10.0.1.0/24
cidr-global: 10.0.2.0/24
range-b: 10.0.3.1-10.0.3.9
range-global: 10.0.4.1-10.0.4.9
kubevip-services: {}
";
    let without = |key: &str| {
        all.lines()
            .filter(|it| !it.starts_with(key))
            .map(|it| format!("{it}\n"))
            .collect::<String>()
    };
    let key = |map: &str, namespace| pools(map).key(namespace).map(str::to_owned);
    assert_eq!(key(all, "a").as_deref(), Some("cidr-a"));
    assert_eq!(key(all, "b").as_deref(), Some("cidr-global"));
    assert_eq!(key(all, "c").as_deref(), Some("cidr-global"));
    assert_eq!(key(&without("cidr-global"), "b").as_deref(), Some("range-b"));
    assert_eq!(key(&without("cidr-global"), "c").as_deref(), Some("range-global"));
    assert_eq!(key("cidr-a: 10.0.1.0/24", "b"), None);
    let said: Vec<_> = pools(all).faults().map(|it| it.to_string()).collect();
    assert_eq!(
        said,
        [
            "range-b: \"10.0.3.1-10.0.3.9\" is never used: cidr-global goes before it; \
             a range may stand under cidr-b",
            "range-global: \"10.0.4.1-10.0.4.9\" is never used: cidr-global goes before it",
        ]
    );
}

#[test]
fn ranges_may_stand_under_a_cidr_key_and_the_other_way_round() {
    let bench = Bench::new("cidr-a: 10.0.0.7-10.0.0.9\nrange-b: 10.0.1.0/24");
    assert_eq!(bench.answer("a/x"), "10.0.0.7");
    assert_eq!(bench.answer("b/x"), "10.0.1.1");
}

#[test]
fn a_bad_value_breaks_its_own_key_only_and_no_other_pool_stands_in() {
    let bench = Bench::new("cidr-a: 10.0.0.0/33\ncidr-global: 10.0.1.0/24");
    assert_eq!(bench.answer("b/x"), "10.0.1.1");
    let refusal = bench.ask("a/x").unwrap_err();
    assert_eq!(refusal.code(), "pool-malformed");
    assert_eq!(
        refusal.to_string(),
        "namespace a: cidr-a: \"10.0.0.0/33\" is no CIDR: right is an address, a slash and a \
         length of 0 to 32 (IPv4) or 0 to 128 (IPv6), as in 192.168.0.200/29"
    );
    assert_eq!(
        Bench::new("").ask("a/x").unwrap_err().to_string(),
        "namespace a has no pool: none \
        of cidr-a, cidr-global, range-a and range-global is in the ConfigMap"
    );
}

#[test]
fn sharing_and_interfaces_by_namespace() {
    let table = "
        1 t T TRUE true True    | yes | 0
        0 f F FALSE false False | no  | 0
        yes on 2 tRUE           | no  | 1
    ";
    for [values, allowed, faults] in rows(table) {
        for value in values.split(' ') {
            let pools = pools(&format!("allow-share-a: {value}\nallow-share-global: true"));
            assert_eq!(pools.allows_sharing("a"), allowed == "yes", "{value}");
            assert!(pools.allows_sharing("b"));
            assert_eq!(pools.faults().count().to_string(), faults, "{value}");
        }
    }
    assert!(!pools("allow-share-a: true").allows_sharing("b"));

    let pools = pools(
        "interface-a: eth1\ninterface-b:\ninterface-c: a name of a link\ninterface-global: auto",
    );
    let links = ["a", "b", "c", "d"].map(|it| pools.interface(it));
    assert_eq!(links, [Some("eth1"), None, None, Some("auto")]);
    assert_eq!(pools.faults().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["interface-c"]);
}

#[test]
fn what_is_taken_for_something_else_is_said() {
    let table = "
        search-order: desc          | 10.0.0.7 | 0
        search-order: asc           | 10.0.0.4 | 0
        search-order: DESC          | 10.0.0.4 | 1
        skip-end-ips-in-cidr: true  | 10.0.0.5 | 0
        skip-end-ips-in-cidr: True  | 10.0.0.4 | 1
        skip-end-ips-in-cidr: false | 10.0.0.4 | 0
    ";
    for [setting, first, faults] in rows(table) {
        let bench = Bench::new(&format!("cidr-global: 10.0.0.4/30\n{setting}"));
        assert_eq!(bench.answer("a/x"), first, "{setting}");
        assert_eq!(bench.pools.faults().count().to_string(), faults, "{setting}");
    }
}

#[test]
fn a_long_value_is_cut_in_what_is_said_of_it() {
    let pools = pools(&format!("cidr-a: {}", "ß".repeat(1000)));
    let fault = pools.faults().next().unwrap();
    assert_eq!(fault.value.chars().count(), 81);
}

#[test]
fn sets_without_a_part() {
    let set = Ranges::from_iter([Span { first: 5, last: 9 }, Span { first: 20, last: u128::MAX }]);
    let without = |first, last| {
        let spans: Vec<_> = set.without(Span { first, last }).spans().collect();
        spans.iter().map(|it| (it.first, it.last)).collect::<Vec<_>>()
    };
    let most = u128::MAX;
    assert_eq!(without(0, most), []);
    assert_eq!(without(7, 7), [(5, 6), (8, 9), (20, most)]);
    assert_eq!(without(0, 5), [(6, 9), (20, most)]);
    assert_eq!(without(9, most), [(5, 8)]);
    assert!(set.contains(5) && set.contains(9) && set.contains(most));
    assert!(!set.contains(4) && !set.contains(10) && !set.contains(19));
}
