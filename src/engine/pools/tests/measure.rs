//! What it costs: printed, never asserted as a time.

use std::net::Ipv4Addr;

use super::*;

// The engine may not know a clock; its measurements may.
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begun = std::time::Instant::now();
    let done = act();
    println!("{what:<62} {:?}", begun.elapsed());
    done
}

fn filled(map: &str, used: u32) -> Bench {
    let mut bench = Bench::new(map);
    let given = (0x0a00_0000u32..).filter(|it| !matches!(it & 0xff, 0 | 255));
    for ip in given.take(used as usize) {
        bench.has(&format!("u{ip:x}"), &Ipv4Addr::from(ip).to_string());
    }
    bench
}

#[test]
fn what_it_costs() {
    let map = "cidr-global: 10.0.0.0/16,fd00::/64";
    let mut bench = Bench::new(map);
    timed("10 000 allocated and booked, out of a /16", || {
        for number in 0..10_000 {
            bench.give(&format!("s{number} TCP/80"));
        }
    });
    assert_eq!(bench.answer("last"), "10.0.39.95");

    let shared = format!("{map}\nallow-share-global: true");
    let mut bench = Bench::new(&shared);
    timed("10 000 allocated that might share, and never can", || {
        for number in 0..10_000 {
            bench.give(&format!("s{number} TCP/80"));
        }
    });
    let mut bench = Bench::new(&shared);
    timed("10 000 allocated that all share one", || {
        for number in 1..=10_000 {
            bench.give(&format!("s{number} TCP/{number}"));
        }
    });
    assert_eq!(bench.book.users([10, 0, 0, 1].into()).count(), 10_000);

    let mut bench = timed("65 000 booked", || filled(map, 65_000));
    assert_eq!(timed("one allocated with 65 000 in use", || bench.answer("one")), "10.0.255.231");
    timed("one changed with 65 000 in use", || bench.has("ua000001", "10.0.255.240"));
    for ip in (0x0a00_0003u32..0x0a00_fe00).step_by(2).filter(|it| it & 0xff != 255) {
        bench.gone(&format!("u{ip:x}"));
    }
    timed("one allocated with every other of 65 000 freed and resting", || bench.answer("one"));
    bench.pass(60);
    timed("... and rested", || assert_eq!(bench.answer("one"), "10.0.0.1"));
    let mut bench = timed("a full /16 booked", || filled(map, 65_024));
    timed("one refused, with the counts", || assert_eq!(bench.answer("one v4"), "pool-exhausted"));
    timed("usage of a full /16", || usage(&bench.pools, &bench.book, bench.now).len());
    bench.pools = pools(&shared);
    timed("one refused that may share with none of 65 024", || bench.answer("one v4 TCP/80"));
    timed("the next 16 of a /8 with a full /16", || {
        let pools = pools("cidr-global: 10.0.0.0/8");
        assert_eq!(next_candidates(&pools, &bench.book, bench.now, 16)["cidr-global"].len(), 16);
    });
}
