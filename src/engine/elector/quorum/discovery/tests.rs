//! What n1, in its life 1, does on a link: a line of input with its milliseconds, what it does
//! about it, and what changes in whom it speaks with and waits for.

mod bench;

use bench::{Bench, name, play};

use super::*;
use crate::engine::{NextIds, Rng};
use crate::model::{ClusterCall, Entry, EntryId, LinkIndex, Member, MemberRole, Wishes};

#[test]
fn three_that_hear_each_other_agree_and_the_first_founds() {
    play(
        3,
        "
0 tick
  listen at 10.0.0.1:10000 and to 224.0.0.254
  hello, hears -, set -
  waiting for 2 more members on eth0: heard nobody
10 n2.a
  waiting for 2 more members on eth0: heard nobody; n2 does not hear this one
200 tick
  hello, hears n2.a, set -
210 n2.a hears n1.1
  waiting for 1 more member on eth0: heard n2
220 n4.a hears n1.1 n2.a
  agreeing with n2, n4 on eth0 to found a cluster
230 n3.a hears n1.1 n2.a n4.a
  agreeing with n2, n3, n4 on eth0 to found a cluster
240 n2.a hears n1.1 n3.a set n1.1 n2.a n3.a
250 n3.a hears n1.1 n2.a set n1.1 n2.a n3.a
  hello, hears n2.a n3.a n4.a, set n1.1 n2.a n3.a, pledged
  speaks with n1 n2 n3
260 n2.a hears n1.1 n3.a set n1.1 n2.a n3.a pledged
270 n3.a hears n1.1 n2.a set n1.1 n2.a n3.a pledged
  founds with n1 n2 n3
280 cluster c1 of n1 n2 n3
300 tick
  hello, hears n2.a n3.a n4.a, set -, cluster c1
",
    );
}

#[test]
fn a_pledge_is_kept_and_ends_ten_seconds_after_they_last_agreed() {
    play(
        2,
        "
0 tick
  listen at 10.0.0.1:10000 and to 224.0.0.254
  hello, hears -, set -
  waiting for 1 more member on eth0: heard nobody
100 n3.a hears n1.1 set n1.1 n3.a
  hello, hears n3.a, set n1.1 n3.a, pledged
  agreeing with n3 on eth0 to found a cluster
  speaks with n1 n3
200 n2.a hears n1.1 set n1.1 n2.a pledged
  agreeing with n2, n3 on eth0 to found a cluster
300 n3.b hears n1.1
  hello, hears n2.a n3.b, set n1.1 n3.a, pledged
9000 n2.a hears n1.1 set n1.1 n2.a pledged
  hello, hears n2.a n3.b, set n1.1 n3.a, pledged
  agreeing with n2 on eth0 to found a cluster
10199 n2.a hears n1.1 set n1.1 n2.a pledged
  hello, hears n2.a n3.b, set n1.1 n3.a, pledged
10200 tick
  speaks with n1 n2
  founds with n1 n2
10260 tick
  hello, hears n2.a n3.b, set n1.1 n2.a, pledged
",
    );
}

#[test]
fn who_hears_of_a_cluster_founds_none() {
    play(
        2,
        "
0 tick
  listen at 10.0.0.1:10000 and to 224.0.0.254
  hello, hears -, set -
  waiting for 1 more member on eth0: heard nobody
100 n3.a hears n1.1 set n1.1 n3.a pledged
  hello, hears n3.a, set n1.1 n3.a, pledged
  agreeing with n3 on eth0 to found a cluster
  speaks with n1 n3
  founds with n1 n3
200 n2.a cluster c1
  waiting for n2 on eth0 to add this one to their cluster
  speaks with n1 n2 n3
  founds no more
30000 tick
  hello, hears n2.a n3.a, set -
  speaks with n1 n2
70000 tick
  hello, hears -, set -
  waiting for 1 more member on eth0: heard nobody
  speaks with n1
70100 n3.a cluster unreadable
  n3 on eth0 cannot read its store, and may know of a cluster
70200 n2.a hears n1.1 set n1.1 n2.a
  hello, hears n2.a n3.a, set -
",
    );
}

#[test]
fn one_that_founds_alone_listens_for_ten_seconds() {
    play(
        1,
        "
0 tick
  listen at 10.0.0.1:10000 and to 224.0.0.254
  hello, hears -, set -
  listening on eth0 for others before it founds a cluster alone
9999 tick
  hello, hears -, set -
10000 tick
  speaks with n1
  founds with n1
10050 tick
  hello, hears -, set n1.1, pledged
",
    );
}

#[test]
fn what_is_not_believed_is_counted() {
    play(
        2,
        "
0 tick
  listen at 10.0.0.1:10000 and to 224.0.0.254
  hello, hears -, set -
  waiting for 1 more member on eth0: heard nobody
100 n3.a count 7 hears n1.1
  hello, hears n3.a, set n1.1 n3.a
  agreeing with n3 on eth0 to found a cluster
110 n3.a count 7
  refused 10.0.0.3: replayed
120 n3.b count 1 at 10.0.0.9
  refused 10.0.0.9: twin
130 n3.b count 1 hears n1.1
140 n3.a count 9 hears n1.1
  refused 10.0.0.3: replayed
150 n4.a forwarded
  hello, hears n3.b, set n1.1 n3.b
  refused 10.0.0.4: forwarded
160 n4.a from 10.0.0.66
  refused 10.0.0.66: address
170 n1.z at 10.0.0.8
  another host, at 10.0.0.8:10000, calls itself n1 too; give each its own vip_nodename
11000 n3.b hears n1.1
  hello, hears n3.b, set n1.1 n3.b
  agreeing with n3 on eth0 to found a cluster
11010 n5.a founds 3
11200 tick
  hello, hears n3.b n5.a, set n1.1 n3.b
",
    );
}

#[test]
fn where_it_is_and_what_becomes_of_that() {
    play(
        2,
        "
0 link none
  there is no link eth0
10 link 2
  eth0 has no address yet to be found at
20 link 2 fd00::1
9999 tick
10000 tick
  listen at [fd00::1]:10000 and to ff02::114
  hello, hears -, set -
  waiting for 1 more member on eth0: heard nobody
10010 link 2 10.0.0.7 fd00::1
  listen at 10.0.0.7:10000 and to 224.0.0.254
  hello, hears -, set -
10020 link 2 10.0.0.6 10.0.0.7
10030 link 3 10.0.0.6
  listen at 10.0.0.6:10000 and to 224.0.0.254
  hello, hears -, set -
10040 link 3
  eth0 has no address yet to be found at
",
    );
}

#[test]
fn a_settled_member_says_little_and_answers_who_is_not() {
    play(
        3,
        "
0 tick
  listen at 10.0.0.1:10000 and to 224.0.0.254
  hello, hears -, set -
  waiting for 2 more members on eth0: heard nobody
10 cluster c1 of n1 n2 n3
200 tick
  hello, hears -, set -, cluster c1
29000 n2.a hears n1.1 cluster c1
30199 tick
30200 tick
  hello, hears n2.a, set -, cluster c1
30300 n4.a
30400 tick
  hello, hears n2.a n4.a, set -, cluster c1
30500 n4.a hears n1.1
31399 tick
31400 tick
  hello, hears n2.a n4.a, set -, cluster c1
31500 n2.b hears n1.1 cluster c1
61399 tick
61400 tick
  hello, hears n2.b n4.a, set -, cluster c1
61500 link 2 10.0.0.8
  listen at 10.0.0.8:10000 and to 224.0.0.254
  hello, hears n2.b n4.a, set -, cluster c1
61700 tick
  hello, hears n2.b n4.a, set -, cluster c1
",
    );
}

#[test]
fn a_leader_lets_in_who_hears_it_one_step_after_the_other() {
    let mut bench = Bench::new(3);
    bench.step("0 cluster c1 of n1 n2 n3");
    let learner = Member { address: "10.0.0.5:10000".parse().unwrap(), role: MemberRole::Learner };
    bench.members.insert(name("n5"), learner);
    for line in [
        "10 n2.a hears n1.1 cluster c1 at 10.0.0.22",
        "20 n4.a hears n1.1",
        "30 n5.a hears n1.1 cluster c1",
        "40 n6.a hears n1.0",
        "50 n7.a hears n1.1 cluster c2",
        "60 n3.a hears n1.1",
        "70 w.a hears n1.1 witness",
    ] {
        bench.step(line);
    }
    let calls = |bench: &Bench| bench.discovery.invitations(&bench.entry());
    let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 10_000));
    let add = |who: &str, last, witness| ClusterCall::Add {
        name: name(who),
        address: address(last),
        witness,
    };
    let moved = ClusterCall::Readdress { name: name("n2"), address: address(22) };
    let promoted = ClusterCall::Promote(name("n5"));
    let all = [moved.clone(), add("n4", 4, false), add("w", 99, true), promoted];
    assert_eq!(calls(&bench), all);
    for more in ["n8", "n9", "n90", "n91"] {
        let member = Member { role: MemberRole::Voter, ..bench.members[&name("n1")] };
        bench.members.insert(name(more), member);
    }
    assert_eq!(calls(&bench), [moved, add("n4", 4, false)], "seven vote already");
}

#[test]
fn no_flood_is_remembered() {
    let mut bench = Bench::new(3);
    bench.step("0 tick");
    for it in 0..200 {
        bench.step(&format!("{} x{it}.a from 10.0.{it}.9", it + 1));
        bench.step(&format!("{} x{it}.a hears n1.1", it + 1));
    }
    assert_eq!(bench.discovery.heard.len(), MOST);
    assert!(bench.discovery.refused.len() <= MOST + 1);
}
