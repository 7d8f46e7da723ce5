use super::*;

/// The last address of IPv6 that the peer's table has is another here: its defect 9.
#[test]
fn peer_sharing_but_for_the_anycast_address_of_routers() {
    let table = "
        dual    | require UDP/123 | 10.0.0.2,2001::1
        dual2   | require TCP/345 | 10.0.0.2,2001::2
        signal  | SCTP/1234       | 10.0.0.2
        web     | TCP/80          | 10.0.0.2
        proxy   | TCP/8080        | 10.0.0.2
        second  | TCP/80          | 10.0.0.3
        third   | TCP/80          | pool-exhausted
    ";
    let mut bench = Bench::new("cidr-global: 10.0.0.2/31,2001::/48\nallow-share-global: true");
    for [name, asked, expected] in rows(table) {
        assert_eq!(bench.give(&format!("{name} {asked}")), expected, "{name}");
    }
    let again = Bench::new("cidr-global: 10.0.0.2/31\nallow-share-global: false").give("a TCP/1");
    assert_eq!(again, "10.0.0.2");
}

/// Two in a row on a fresh bench: the address of the second, if the first has `10.0.0.8`.
fn second(map: &str, holder: &str, asker: &str) -> String {
    let mut bench = Bench::new(&format!("cidr-global: 10.0.0.8/29\n{map}"));
    assert_eq!(bench.give(holder), "10.0.0.8");
    bench.answer(asker)
}

/// Defects 5 and 6 of the peer's.
#[test]
fn better_than_the_peer_protocols_ports_policies_and_permissions_count() {
    let table = "
        allow-share-global: true | a TCP/53       | b UDP/53       | 10.0.0.8
        allow-share-global: true | a TCP/53       | b TCP/53       | 10.0.0.9
        allow-share-global: true | a TCP/1 UDP/2  | b UDP/2 TCP/3  | 10.0.0.9
        allow-share-global: true | a TCP/1        | b              | 10.0.0.9
        allow-share-global: true | a              | b TCP/1        | 10.0.0.9
        allow-share-global: true | a TCP/1 local  | b TCP/2        | 10.0.0.9
        allow-share-global: true | a TCP/1        | b TCP/2 local  | 10.0.0.9
        allow-share-global: true | x/a TCP/1      | y/b TCP/2      | 10.0.0.8
        allow-share-x: true      | x/a TCP/1      | y/b TCP/2      | 10.0.0.9
        allow-share-y: true      | x/a TCP/1      | y/b TCP/2      | 10.0.0.9
        allow-share-x: true      | x/a TCP/1      | x/b TCP/2      | 10.0.0.8
        search-order: asc        | a TCP/1        | b TCP/2        | 10.0.0.9
    ";
    for [map, holder, asker, expected] in rows(table) {
        assert_eq!(second(map, holder, asker), expected, "{map}, {holder}, {asker}");
    }
}

#[test]
fn better_than_the_peer_only_what_is_in_the_pool_is_shared_and_the_first_of_it() {
    for (order, expected) in [("asc", "10.0.0.10"), ("desc", "10.0.0.12")] {
        let mut bench = Bench::new(&format!(
            "cidr-global: 10.0.0.8/29\nallow-share-global: true\nsearch-order: {order}"
        ));
        for (number, address) in
            ["10.0.0.10", "10.0.0.12", "10.0.0.1", "0.0.0.0"].iter().enumerate()
        {
            let mut service = service(&format!("u{number}"));
            service.ports = vec![port("TCP/443")];
            service.annotations.insert(ADDRESSES.into(), (*address).into());
            bench.book.update(&service, START);
        }
        assert_eq!(bench.answer("new TCP/80"), expected);
        bench.book.reserve("node n1", ["10.0.0.10".parse().unwrap()]);
        bench.book.answered("10.0.0.12".parse().unwrap(), None, START);
        assert_ne!(bench.answer("new TCP/80"), expected);
    }
}

#[test]
fn who_leaves_does_not_free_what_others_share() {
    let mut bench = Bench::new("cidr-global: 10.0.0.2/31\nallow-share-global: true");
    assert_eq!(bench.give("a TCP/1"), "10.0.0.2");
    assert_eq!(bench.give("b TCP/2"), "10.0.0.2");
    bench.gone("a");
    assert_eq!(bench.book.users("10.0.0.2".parse().unwrap()).count(), 1);
    assert_eq!(bench.give("c TCP/1"), "10.0.0.2");
    assert_eq!(bench.give("a TCP/1"), "10.0.0.3", "its old place is taken by one with its port");
}
