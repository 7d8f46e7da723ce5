use std::collections::BTreeSet;

use super::super::UNREADABLE;
use super::super::tests::{
    Bench, entry, id, listed, message, name, order, quorum_config, restarted, vip, word,
};
use crate::engine::QuorumConfig;
use crate::model::{ClusterCall, EntryId, Message, RaftCall};

#[test]
fn what_is_taken_into_the_log() {
    // n1 has entry 5.9, is in term 7, and may have voted up to term 6.
    let (led, unled) = (Some(name(2)), None);
    let cases = [
        ("the leader's", 7, led.clone(), id(7, 10), id(5, 9), true),
        ("an older one again", 7, led.clone(), id(5, 8), id(5, 8), false),
        ("one that nobody leads", 7, unled.clone(), id(7, 10), id(5, 9), false),
        ("one of a higher term than its sender's", 7, led.clone(), id(8, 10), id(5, 9), false),
        ("one of a term up to the floor", 6, led.clone(), id(6, 10), id(5, 9), false),
        ("the same, but committed", 6, led, id(6, 10), id(6, 10), true),
        ("committed, by whomever", 7, unled, id(6, 10), id(6, 10), true),
    ];
    for (what, term, leader, newer, committed, taken) in cases {
        let mut bench = restarted();
        if term == 7 {
            bench.hear(3, word());
        }
        let raft = vec![RaftCall::Append(Box::new(entry(newer, listed(3))))];
        bench.hear(2, Message { term, leader, committed, raft, ..word() });
        let expected = if taken { newer } else { id(5, 9) };
        assert_eq!(bench.raft.newest(), expected, "{what}");
    }
}

#[test]
fn an_entry_counts_once_it_is_on_disk() {
    let mut bench = restarted();
    bench.writes = false;
    let raft = vec![RaftCall::Append(Box::new(entry(id(7, 10), listed(3))))];
    bench.hear(2, Message { leader: Some(name(2)), raft, ..word() });
    assert_eq!(bench.raft.newest(), id(5, 9));
    bench.turn(|raft, cx| raft.on_stored(cx, 2, None));
    assert_eq!(bench.raft.newest(), id(7, 10));
    assert_eq!(bench.raft.wants_send(), BTreeSet::from([name(2)]), "the leader waits for it");
    bench.hear(2, Message { leader: Some(name(2)), committed: id(7, 10), ..word() });
    assert!(bench.raft.is_committed());
}

#[test]
fn what_commits_an_entry() {
    // n1 leads five in term 6 and has appended 6.2.
    let good = Message { term: 6, newest: id(6, 2), ..message() };
    let older = Message { newest: id(5, 1), ..good.clone() };
    let behind = Message { term: 5, ..good.clone() };
    let voted = Message { floor: 6, ..good.clone() };
    let lost = Message { cluster: None, ..good.clone() };
    let cases = [
        ("two others have it", [&good, &good, &older, &older], true),
        ("one has not", [&good, &older, &older, &older], false),
        ("one is of an earlier term", [&good, &behind, &older, &older], false),
        ("one may have voted in the term", [&good, &voted, &older, &older], false),
        ("one has lost its store", [&good, &lost, &older, &older], false),
        ("three others have it", [&good, &good, &good, &older], true),
    ];
    for (what, said, committed) in cases {
        let mut bench = Bench::leading(5, id(5, 1));
        order(&mut bench, ClusterCall::Remove(name(9)));
        order(&mut bench, ClusterCall::Move(vip(1), name(1)));
        assert_eq!((bench.raft.term(), bench.raft.newest()), (6, id(6, 2)));
        for (number, message) in (2..).zip(said) {
            bench.hear(number, message.clone());
        }
        assert_eq!(bench.raft.is_committed(), committed, "{what}");
        assert_eq!(bench.answers.len() == 2, committed, "{what}");
    }
}

#[test]
fn a_leader_that_knows_all_to_be_committed_writes_nothing() {
    let mut bench = Bench::leading(3, id(5, 1));
    bench.acknowledge(3);
    assert_eq!(bench.raft.newest(), id(5, 1));
    bench.hear(2, Message { term: 6, newest: id(5, 2), ..message() });
    assert_eq!(bench.raft.newest(), id(6, 2), "someone has what this leader lacks");
}

#[test]
fn the_first_of_those_listed_founds_when_all_say_that_they_have_nothing() {
    let blank = || Message { cluster: None, ..message() };
    let mut bench = Bench::new(listed(3), None);
    bench.hear(2, blank());
    bench.advance(11_000);
    bench.hear(2, blank());
    assert!(bench.raft.is_blank(), "n3 may have a cluster");
    bench.hear(3, blank());
    assert_eq!(bench.raft.newest(), id(0, 1));
    assert!(matches!(&bench.raft.calls(&name(3))[..], [RaftCall::Append(_)]));
}

#[test]
fn founding_alone() {
    let blank = || Message { cluster: None, ..message() };
    let unreadable = || Message { cluster: Some(UNREADABLE), ..message() };
    let cases = [
        ("nobody is heard", None, true),
        ("somebody has nothing", Some(blank()), false),
        ("somebody has a cluster", Some(message()), false),
        ("somebody cannot tell", Some(unreadable()), false),
    ];
    for (what, said, founded) in cases {
        let mut bench =
            Bench::of(&QuorumConfig { found_alone: true, ..quorum_config(listed(3), None) });
        bench.advance(9_900);
        assert!(bench.raft.is_blank());
        if let Some(message) = said {
            bench.hear(3, message);
        }
        bench.advance(100);
        assert_eq!(!bench.raft.is_blank(), founded, "{what}");
    }
}

#[test]
fn how_a_member_without_a_store_comes_by_an_entry() {
    let told = |it: EntryId, members| vec![RaftCall::Append(Box::new(entry(it, members)))];
    let led = |committed| Message {
        term: 5,
        leader: Some(name(2)),
        committed,
        raft: told(id(5, 9), listed(3)),
        ..message()
    };
    let founder = |members| Message { raft: told(id(0, 1), members), ..message() };
    let cases = [
        ("the leader's, committed", 240, led(id(5, 9)), true),
        ("too early: it may have voted", 239, led(id(5, 9)), false),
        ("not committed", 240, led(id(5, 8)), false),
        ("nobody leads", 240, Message { leader: None, ..led(id(5, 9)) }, false),
        ("the founder's", 0, founder(listed(3)), true),
        ("a founder with another list", 0, founder(listed(4)), false),
    ];
    for (what, after, message, taken) in cases {
        let mut bench = Bench::new(listed(3), None);
        bench.advance(after);
        bench.hear(2, message.clone());
        assert_eq!(!bench.raft.is_blank(), taken, "{what}");
        if taken {
            let floor = if message.term == 0 { 0 } else { message.term + 16 };
            assert_eq!(bench.raft.floor(), floor, "{what}: it may have voted before");
        }
    }
}

#[test]
fn a_store_that_cannot_be_read() {
    let mut config = quorum_config(listed(1), None);
    config.stored = Err("bad checksum".to_owned());
    let mut bench = Bench::of(&config);
    bench.advance(20_000);
    assert!(bench.raft.is_blank());
    assert_eq!(bench.raft.cluster(), Some(UNREADABLE));
    assert_eq!(bench.raft.voting(), Err("bad checksum".to_owned()));
}

#[test]
fn members_of_another_cluster_are_named_and_not_believed() {
    let mut bench = Bench::with(3, id(5, 1));
    bench.hear(2, Message { cluster: Some(78), term: 99, ..message() });
    assert_eq!(bench.raft.term(), 5);
    assert_eq!(bench.raft.strangers().get(&name(2)), Some(&78));
    bench.hear(2, message());
    assert!(bench.raft.strangers().is_empty());
}
