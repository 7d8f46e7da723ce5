use super::*;

/// The first that a pool gives while these are in use.
fn first(pool: &str, used: &str, options: &str) -> String {
    let order = if options.contains("desc") { "search-order: desc\n" } else { "" };
    let skip = if options.contains("skip") { "skip-end-ips-in-cidr: true\n" } else { "" };
    let mut bench = Bench::new(&format!("cidr-global: {pool}\n{order}{skip}"));
    for (number, address) in used.split_whitespace().enumerate() {
        bench.has(&format!("u{number}"), address);
    }
    bench.answer("new")
}

#[test]
fn peer_search() {
    let table = "
        192.168.0.253-192.168.1.2 | 192.168.0.253 192.168.0.254 | asc | 192.168.1.1
        192.168.0.253-192.168.1.2 | 192.168.1.1 192.168.1.2 | desc | 192.168.0.254
        192.168.0.200/30 | | asc       | 192.168.0.200
        192.168.0.200/30 | | skip      | 192.168.0.201
        192.168.0.200/30 | | desc      | 192.168.0.203
        192.168.0.200/30 | | desc skip | 192.168.0.202
        192.168.0.10/24  | | asc       | 192.168.0.1
        192.168.0.10/24  | | desc      | 192.168.0.254
        192.168.0.255/30 | 192.168.0.252 192.168.0.253 192.168.0.254 | asc  | pool-exhausted
        192.168.0.255/30 | 192.168.0.252 192.168.0.253 192.168.0.254 | desc | pool-exhausted
        192.168.0.255/30 | 192.168.0.252 192.168.0.253 192.168.0.254 | skip | pool-exhausted
        192.168.0.200/30,192.168.0.200/29 | 192.168.0.201 192.168.0.202 | asc       | 192.168.0.200
        192.168.0.200/30,192.168.0.200/29 | 192.168.0.201 192.168.0.202 | skip      | 192.168.0.203
        192.168.0.200/30,192.168.0.200/29 | 192.168.0.201 192.168.0.202 | desc      | 192.168.0.207
        192.168.0.200/30,192.168.0.200/29 | 192.168.0.201 192.168.0.202 | desc skip | 192.168.0.206
        2001::49fe/127 | | asc       | 2001::49fe
        2001::49fe/127 | | skip      | 2001::49fe
        2001::49fe/127 | | desc      | 2001::49ff
        2001::49fe/127 | | desc skip | 2001::49ff
        2001::49fe/127 | 2001::49fe 2001::49ff | asc  | pool-exhausted
        2001::49fe/127 | 2001::49fe 2001::49ff | desc | pool-exhausted
        2001::10/126,2001::12/127 | 2001::10 2001::11 | asc  | 2001::12
        2001::10/126,2001::12/127 | 2001::10 2001::11 | desc | 2001::13
        10.10.10.8/29  | 10.10.10.8 10.10.10.9 10.10.10.10 10.10.10.12 | asc | 10.10.10.11
        192.168.1.1/24 | 192.168.1.1 192.168.1.2 10.0.0.1 fd00::3      | asc | 192.168.1.3
        fe80::10-fe80::12,fe81::20-fe81::21 | fe80::10 fe80::11 fe80::12 | asc | fe81::20
    ";
    for [pool, used, options, expected] in rows(table) {
        assert_eq!(first(pool, used, options), expected, "{pool} {options}");
    }
}

/// Defect 9 of the peer's: all routers of a subnet answer for its all-zero interface id.
#[test]
fn better_than_the_peer_the_anycast_address_of_routers_is_not_given_out() {
    let table = "
        2001::/48                    | | asc  | 2001::1
        fd00::-fd00::                | | asc  | pool-exhausted
        fd00:0:0:1::-fd00:0:0:1::1   | fd00:0:0:1::1 | desc | pool-exhausted
        ::/0                         | | asc  | ::1
        ::/64                        | ::1 | asc | ::2
    ";
    for [pool, used, options, expected] in rows(table) {
        assert_eq!(first(pool, used, options), expected, "{pool}");
    }
}

#[test]
fn a_large_pool_costs_nothing() {
    let table = "
        10.0.0.0/8 | 10.0.0.1     | asc  | 10.0.0.2
        0.0.0.0/0  |              | asc  | 0.0.0.1
        0.0.0.0/0  |              | desc | 255.255.255.254
        ::/0       |              | desc | ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
        fd00::/64  | fd00::1      | asc  | fd00::2
        10.0.0.254-10.0.1.1 | 10.0.0.254 | asc | 10.0.1.1
    ";
    for [pool, used, options, expected] in rows(table) {
        assert_eq!(first(pool, used, options), expected, "{pool}");
    }
}

/// Pools by what is free in each family, as the peer's tests have them.
fn bench(kind: &str) -> Bench {
    let (v4, v6) = ("10.10.10.8/29", "fe80::10/126");
    let pool = match kind.split_whitespace().next().unwrap() {
        "v4" => v4.to_owned(),
        "v6" => v6.to_owned(),
        "both" => format!("{v4},{v6}"),
        "garbage" => format!("{v4},{v6},garbage"),
        _ => panic!("{kind}"),
    };
    let mut bench = Bench::new(&format!("cidr-global: {pool}\nallow-share-global: true"));
    let v4 = (8..16).map(|it| format!("10.10.10.{it}")).collect::<Vec<_>>().join(",");
    for word in kind.split_whitespace().skip(1) {
        match word {
            "v4-full" => bench.has("full4", &v4),
            "v6-full" => bench.has("full6", "fe80::10,fe80::11,fe80::12,fe80::13"),
            shared => {
                let mut service = service("sharer");
                service.annotations.insert(ADDRESSES.into(), shared.into());
                service.ports = vec![port("TCP/443")];
                bench.book.update(&service, START);
            }
        }
    }
    bench
}

#[test]
fn peer_families() {
    let table = "
        v4                  |                      | 10.10.10.8
        v4 10.10.10.9       | single v4 TCP/80     | 10.10.10.9
        v4 10.10.10.8       | single v4            | 10.10.10.9
        v6                  |                      | fe80::10
        v6                  | single v4            | pool-family-missing
        v4                  | single v6            | pool-family-missing
        v4                  | prefer v4,v6         | 10.10.10.8
        v4 10.10.10.10      | prefer v4,v6 TCP/80  | 10.10.10.10
        both                | prefer               | 10.10.10.8,fe80::10
        both                | prefer v6,v4         | fe80::10,10.10.10.8
        both 10.10.10.8     | prefer v6,v4 TCP/80  | fe80::10,10.10.10.8
        both v6-full        | prefer               | 10.10.10.8
        both v4-full        | prefer               | fe80::10
        both v4-full v6-full | prefer              | pool-exhausted
        garbage             |                      | pool-malformed
        garbage             | prefer               | pool-malformed
        garbage             | require              | pool-malformed
        v4                  | require              | pool-family-missing
        v6                  | require v6,v4        | pool-family-missing
        both                | require v4,v6        | 10.10.10.8,fe80::10
        both                | require v6,v4        | fe80::10,10.10.10.8
        both v4-full        | require              | pool-exhausted
        both v6-full        | require v6,v4        | pool-exhausted
        both                | single v6            | fe80::10
        both                |                      | 10.10.10.8
        v4 v4-full          | prefer               | pool-exhausted
    ";
    for [kind, asked, expected] in rows(table) {
        assert_eq!(bench(kind).answer(&format!("new {asked}")), expected, "{kind}: {asked}");
    }
    assert_eq!(Bench::new("cidr-global:").answer("new require"), "pool-malformed");
}

#[test]
fn dhcp_by_family() {
    let table = "
        0.0.0.0/32           |         | 0.0.0.0
        0.0.0.0/32           | prefer  | 0.0.0.0
        0.0.0.0/32           | require | pool-family-missing
        0.0.0.0/32           | single v6 | pool-family-missing
        ::/128               |         | ::
        0.0.0.0/32,::/128    |         | 0.0.0.0
        0.0.0.0/32,::/128    | prefer v6,v4 | ::,0.0.0.0
        0.0.0.0/32,::/128    | require | 0.0.0.0,::
        0.0.0.0/32,fd00::/64 | require | 0.0.0.0,fd00::1
        0.0.0.0/32,10.0.0.0/24 |       | 10.0.0.1
    ";
    for [pool, asked, expected] in rows(table) {
        let mut bench = Bench::new(&format!("cidr-global: {pool}\nallow-share-global: true"));
        // What is leased to one has nothing to do with another.
        bench.has("other", "0.0.0.0,::");
        assert_eq!(bench.give(&format!("one TCP/1 {asked}")), expected, "{pool} {asked}");
    }
    let bench = Bench::new("cidr-global: 0.0.0.0/32");
    assert_eq!(
        bench.ask("new require").unwrap_err().to_string(),
        "namespace test: pool cidr-global has no IPv6 addresses; add ::/128 to lease them by DHCPv6"
    );
}

#[test]
fn a_refusal_counts() {
    let mut bench = Bench::new("cidr-test: 10.0.0.0/29");
    for number in 1..=5 {
        bench.has(&format!("u{number}"), &format!("10.0.0.{number}"));
    }
    bench.has("gone", "10.0.0.6");
    bench.gone("gone");
    bench.book.answered("10.0.0.7".parse().unwrap(), None, bench.now);
    assert_eq!(
        bench.ask("new").unwrap_err().to_string(),
        "namespace test: pool cidr-test is exhausted: 5 of 7 IPv4 addresses in use, \
         1 freed a moment ago, 1 answered for by other hosts"
    );
    let nothing = Bench::new("range-test: 10.0.0.255-10.0.1.0").ask("new").unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "namespace test: pool range-test is exhausted: none of its IPv4 addresses is ever given out"
    );
    let both = Bench::new("range-test: 10.0.0.255-10.0.1.0,fd00::-fd00::").ask("new prefer");
    assert!(both.unwrap_err().to_string().ends_with("of its IPv6 addresses is ever given out"));
}

#[test]
fn the_next_ones_are_those_that_come_out_next() {
    let map = "cidr-a: 10.0.0.0/29,fd00::/64\nrange-b: 10.0.1.9-10.0.1.9\ncidr-c: 0.0.0.0/32\n\
               search-order: desc\ncidr-d: x";
    let mut bench = Bench::new(map);
    bench.has("a/u", "10.0.0.6");
    bench.has("a/gone", "10.0.0.4");
    bench.gone("a/gone");
    let next = next_candidates(&bench.pools, &bench.book, bench.now, 2);
    let top = |low: &str| format!("fd00::ffff:ffff:ffff:{low}");
    let shown: Vec<_> = next.iter().map(|(key, it)| (key.as_str(), format!("{it:?}"))).collect();
    let a = format!("[10.0.0.7, 10.0.0.5, {}, {}]", top("ffff"), top("fffe"));
    let empty = "[]".to_owned();
    assert_eq!(shown, [("cidr-a", a), ("cidr-c", empty), ("range-b", "[10.0.1.9]".into())]);
    assert_eq!(bench.give("a/one prefer"), format!("10.0.0.7,{}", top("ffff")));
    assert_eq!(bench.give("a/two prefer"), format!("10.0.0.5,{}", top("fffe")));
}
