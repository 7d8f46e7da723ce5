//! Each rule alone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Bench, address, entry, id, listed, member, message, name, quorum_config, vip};
use crate::engine::elector::quorum::raft::UNREADABLE;
use crate::engine::elector::quorum::raft::election::NoVote;
use crate::engine::elector::quorum::raft::peers::Ask;
use crate::model::{
    Ailment, ClusterCall, EntryId, MemberRole, Message, RaftCall, Report, StoreRecord,
};

#[test]
fn who_gets_a_vote() {
    // n1 has entry 5.9 of three voters, is in term 7, started with floor 6 and has terms up
    // to 22 reserved.
    let fresh = Ask { term: 8, last: id(5, 9), binding: true, transfer: false, at: super::T0 };
    type Before = fn(&mut Bench);
    let nothing: Before = |_| {};
    let voted: Before = |it| ask(it, 3, Ask { term: 8, last: id(5, 9), ..FRESH });
    let led_by_two: Before = |it| it.hear(2, Message { leader: Some(name(2)), ..word() });
    let led_by_three: Before = |it| it.hear(3, Message { leader: Some(name(3)), ..word() });
    let led_long_ago: Before = |it| {
        it.hear(3, Message { leader: Some(name(3)), ..word() });
        it.advance(120);
    };
    let resigned: Before = |it| {
        it.hear(3, Message { leader: Some(name(3)), ..word() });
        it.hear(3, word());
    };
    let in_flight: Before = |it| {
        it.writes = false;
        let newer = RaftCall::Append(Box::new(entry(id(7, 10), listed(3))));
        it.hear(3, Message { leader: Some(name(3)), raft: vec![newer], ..word() });
        it.advance(120);
    };
    let retired: Before = |it| {
        it.raft.retire();
    };
    let cases: [(&str, Before, Ask, Result<(), NoVote>); 15] = [
        ("all is well", nothing, fresh, Ok(())),
        ("the entry is newer", nothing, Ask { last: id(6, 1), ..fresh }, Ok(())),
        ("the entry is older", nothing, Ask { last: id(5, 8), ..fresh }, Err(NoVote::OlderEntry)),
        ("the term is over", nothing, Ask { term: 6, ..fresh }, Err(NoVote::OlderTerm)),
        ("the term has no vote yet", nothing, Ask { term: 7, ..fresh }, Ok(())),
        ("voted for another", voted, fresh, Err(NoVote::Voted)),
        ("voted for another, next term", voted, Ask { term: 9, ..fresh }, Ok(())),
        ("not reserved", nothing, Ask { term: 23, ..fresh }, Err(NoVote::NotReserved)),
        ("a leader is heard", led_by_three, fresh, Err(NoVote::LeaderHeard)),
        ("it is the leader itself", led_by_two, fresh, Ok(())),
        ("the leader wants it", led_by_three, Ask { transfer: true, ..fresh }, Ok(())),
        ("the leader is silent", led_long_ago, fresh, Ok(())),
        ("the leader leads no more", resigned, fresh, Ok(())),
        ("a newer entry is being written", in_flight, fresh, Err(NoVote::OlderEntry)),
        ("it is stopping", retired, fresh, Err(NoVote::Retired)),
    ];
    for (what, before, ask, expected) in cases {
        for binding in [false, true] {
            let mut bench = restarted();
            bench.hear(2, word());
            before(&mut bench);
            let ask = Ask { binding, ..ask };
            let given = bench.raft.may_vote(bench.now, &name(2), &ask);
            assert_eq!(given, expected, "{what}, binding: {binding}");
        }
    }
}

#[test]
fn no_vote_up_to_the_floor() {
    for (term, expected) in [(6, Err(NoVote::Floor)), (7, Ok(()))] {
        let mut bench = restarted();
        bench.advance(1);
        let given = bench.raft.may_vote(bench.now, &name(2), &Ask { term, ..FRESH });
        assert_eq!(given, expected, "term {term}");
    }
}

#[test]
fn who_asked_too_early_is_answered_when_the_leader_is_overdue() {
    let mut bench = restarted();
    bench.hear(3, Message { leader: Some(name(3)), ..word() });
    bench.advance(100);
    ask(&mut bench, 2, FRESH);
    assert!(!granted(&mut bench, 2));
    let at = bench.raft.deadline().unwrap().at;
    assert_eq!(at, super::T0 + Duration::from_millis(120));
    bench.advance(20);
    assert!(bench.raft.wants_send().contains(&name(2)));
    assert!(granted(&mut bench, 2));
}

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
fn a_leader_above_whose_term_a_needed_member_starts_stands_again() {
    let mut bench = Bench::leading(3, id(5, 1));
    bench.hear(3, Message { term: 5, newest: id(5, 1), floor: 16, ..message() });
    assert!(bench.raft.leads(), "nothing is to be agreed on");
    bench.advance(100);
    bench.hear(3, Message { term: 5, newest: id(5, 1), floor: 16, ..message() });
    bench.advance(30);
    assert!(bench.raft.leads());
    order(&mut bench, ClusterCall::Move(vip(1), name(1)));
    assert_eq!(bench.raft.term(), 17);
    bench.elect(3);
    assert_eq!(bench.raft.newest(), id(17, 3), "the entry is appended once more");
    bench.acknowledge(3);
    let Some((_, Ok(_))) = bench.answers.pop() else {
        panic!("not agreed");
    };
}

#[test]
fn a_leader_without_a_majority_resigns_and_says_so_to_those_who_asked() {
    let mut bench = Bench::leading(3, id(5, 1));
    order(&mut bench, ClusterCall::Move(vip(1), name(1)));
    bench.advance(119);
    assert!(bench.raft.leads());
    bench.hear(3, Message { cluster: None, ..message() });
    bench.advance(1);
    assert!(!bench.raft.leads(), "a member without a store is no majority");
    assert!(matches!(&bench.answers[..], [(_, Err(why))] if why.contains("may still")));
}

#[test]
fn candidates_stand_by_rank() {
    // n1 hears n2 and n3 just before the leader n4 is overdue.
    let fit = || word_of(id(5, 9));
    let sick = || Message {
        report: Report { ailments: vec![Ailment::Health], ..Report::default() },
        ..word_of(id(5, 9))
    };
    let newer = || word_of(id(5, 10));
    let cases: [(&str, bool, [Message; 2], u64); 6] = [
        ("the lowest name", true, [fit(), fit()], 0),
        ("one has a newer entry", true, [newer(), fit()], 1),
        ("both have", true, [newer(), newer()], 2),
        ("unfit itself", false, [fit(), fit()], 2),
        ("unfit as one of them", false, [sick(), fit()], 1),
        ("newer but unfit", true, [Message { newest: id(5, 10), ..sick() }, fit()], 0),
    ];
    for (what, is_fit, said, rank) in cases {
        let mut bench = Bench::with(4, id(5, 9));
        bench.raft.set_fit(is_fit);
        bench.hear(4, Message { leader: Some(name(4)), ..word_of(id(5, 20)) });
        bench.advance(30);
        for (number, message) in (2..).zip(said) {
            bench.hear(number, message);
        }
        let at = bench.raft.deadline().unwrap().at;
        let after = at.saturating_since(super::T0).as_millis() as u64;
        let first = 120 + 12 * rank;
        assert!((first..=first + 6).contains(&after), "{what}: {after} ms");
    }
}

#[test]
fn leadership_is_handed_to_the_best_that_lacks_nothing() {
    let mut bench = Bench::leading(4, id(5, 1));
    bench.hear(2, Message { term: 6, newest: id(4, 1), ..message() });
    for number in [4, 3] {
        bench.hear(number, Message { term: 6, newest: id(5, 1), ..message() });
    }
    bench.turn(|raft, cx| assert!(raft.transfer(cx)));
    assert!(bench.raft.is_handing_over());
    let told: Vec<u8> =
        (2..=4).filter(|it| bench.raft.calls(&name(*it)).contains(&RaftCall::StandNow)).collect();
    assert_eq!(told, [3]);
    let asks = RaftCall::AskVote { term: 7, last: id(5, 1), binding: true, transfer: true };
    bench.hear(3, Message { term: 7, newest: id(5, 1), raft: vec![asks], ..message() });
    assert!(!bench.raft.leads());
    assert!(granted(&mut bench, 3));
}

#[test]
fn a_leader_that_hears_of_an_open_term_stands_above_it() {
    let mut bench = Bench::leading(3, id(5, 1));
    bench.hear(2, Message { term: 9, newest: id(5, 1), ..message() });
    assert_eq!((bench.raft.term(), bench.raft.leads()), (10, false));
    bench.elect(3);
    let leader = Some(name(3));
    bench.hear(3, Message { term: 11, newest: id(5, 1), leader, ..message() });
    assert_eq!((bench.raft.term(), bench.raft.leader()), (11, Some(&name(3))));
}

#[test]
fn one_voter_needs_nobody() {
    let mut bench = Bench::new(listed(1), None);
    bench.advance(10);
    assert!(bench.raft.leads());
    assert!(bench.raft.is_committed());
    order(&mut bench, ClusterCall::Drain(name(1)));
    assert!(matches!(&bench.answers[..], [(_, Ok(_))]), "{:?}", bench.answers);
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
    let cases: [(&str, Vec<(u8, Message)>, bool); 4] = [
        ("nobody is heard", vec![], true),
        ("somebody has nothing", vec![(3, blank())], false),
        ("somebody has a cluster", vec![(3, message())], false),
        ("somebody cannot tell", vec![(3, unreadable())], false),
    ];
    for (what, said, founded) in cases {
        let mut bench =
            Bench::of(&super::QuorumConfig { found_alone: true, ..quorum_config(listed(3), None) });
        bench.advance(9_900);
        assert!(bench.raft.is_blank());
        for (from, message) in said {
            bench.hear(from, message);
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
            assert_eq!(bench.raft.floor(), message.term, "{what}: it may have voted before");
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

#[test]
fn the_voters_change_once_the_promises_of_the_step_before_have_ended() {
    let mut bench = Bench::leading(4, id(5, 1));
    order(&mut bench, ClusterCall::Remove(name(4)));
    assert_eq!(bench.raft.newest(), id(6, 2), "an entry of its own term comes first");
    bench.acknowledge(4);
    let committed_at = bench.now;
    assert_eq!(bench.raft.newest(), id(6, 2));
    for _ in 0..3 {
        bench.advance(30);
        bench.acknowledge(4);
    }
    assert_eq!(bench.raft.newest(), id(6, 2));
    let at = bench.raft.deadline().unwrap().at;
    assert_eq!(at, committed_at + Duration::from_millis(120));
    bench.advance(30);
    let entry = bench.raft.entry().unwrap();
    assert_eq!((entry.id, entry.voters().len()), (id(6, 3), 3));
    assert_eq!(entry.before.as_ref().map(BTreeSet::len), Some(4));
}

#[test]
fn what_cannot_be_asked_for() {
    let moved = |it| ClusterCall::Move(vip(1), name(it));
    let add =
        |it, at| ClusterCall::Add { name: name(it), address: address(&name(at)), witness: false };
    let cases = [
        (add(2, 9), "n2 is a member already, as a voter"),
        (add(9, 2), "n2 listens at 10.0.0.2:7000, so n9 cannot"),
        (ClusterCall::Drain(name(9)), "n9 is no member; members are n1, n2, n3, n4, n5"),
        (ClusterCall::Drain(name(5)), "n5 is a witness: it carries nothing anyway"),
        (ClusterCall::Undrain(name(9)), "n9 is no member; members are n1, n2, n3, n4, n5"),
        (ClusterCall::Remove(name(9)), "n9 is no member; members are n1, n2, n3, n4, n5"),
        (moved(9), "n9 is no member; members are n1, n2, n3, n4, n5"),
        (moved(5), "n5 is a witness: it carries nothing"),
        (moved(3), "n3 is drained; undrain it first"),
        (ClusterCall::Promote(name(2)), "n2 is a voter; only a learner can be promoted"),
        (ClusterCall::Promote(name(4)), "n4 has not caught up; is it running?"),
        (
            ClusterCall::Remove(name(2)),
            "then 2 of 3 voters would be out of reach or without a \
                                        store, which is no majority: n3, n5",
        ),
    ];
    let mut bench = Bench::with(3, id(5, 1));
    let mut entry = entry(id(5, 1), listed(3));
    entry.members.insert(name(4), member(&name(4), MemberRole::Learner));
    entry.members.insert(name(5), member(&name(5), MemberRole::Witness));
    entry.wishes.drained.insert(name(3));
    bench.hear(2, message());
    for (call, expected) in cases {
        let why = bench.raft.change(bench.now, &entry, &call).unwrap_err();
        assert_eq!(why, expected, "{call:?}");
    }
    let alone = super::entry(id(5, 1), listed(1));
    let why = bench.raft.change(bench.now, &alone, &ClusterCall::Remove(name(1))).unwrap_err();
    assert_eq!(why, "n1 is the last voter");
}

#[test]
fn who_does_not_lead_says_who_does() {
    let mut bench = restarted();
    order(&mut bench, ClusterCall::Drain(name(1)));
    bench.hear(3, Message { leader: Some(name(3)), ..word() });
    order(&mut bench, ClusterCall::Drain(name(1)));
    let answers: Vec<_> = bench.answers.into_iter().map(|(_, it)| it.unwrap_err()).collect();
    assert_eq!(answers, ["nobody leads at the moment; try again", "n3 leads; ask it"]);
}

#[test]
fn a_leader_that_cannot_write_says_so_to_who_asks() {
    let mut bench = Bench::leading(3, id(5, 1));
    bench.writes = false;
    order(&mut bench, ClusterCall::Drain(name(1)));
    // Whichever write is under way.
    for number in 1..100 {
        let no_room = Some("no room".to_owned());
        bench.turn(|raft, cx| raft.on_stored(cx, number, no_room));
    }
    order(&mut bench, ClusterCall::Drain(name(2)));
    let last = bench.answers.pop().unwrap().1.unwrap_err();
    assert!(last.contains("n1 leads, and its store cannot be written: no room"), "{last}");
}

#[test]
fn orders_wait_in_a_short_queue_and_not_for_ever() {
    let mut bench = Bench::leading(3, id(5, 1));
    for number in 0..18 {
        order(&mut bench, ClusterCall::Move(vip(number), name(1)));
    }
    assert!(matches!(&bench.answers[..], [(_, Err(why))] if why.contains("16 requests")));
    for _ in 0..101 {
        bench.advance(100);
        for number in 2..=3 {
            bench.hear(number, Message { term: 6, newest: id(5, 1), ..message() });
        }
    }
    assert!(bench.raft.leads());
    assert_eq!(bench.answers.len(), 18);
    assert!(bench.answers.iter().all(|(_, it)| it.is_err()));
}

const FRESH: Ask = Ask {
    term: 8,
    last: EntryId { term: 5, index: 9 },
    binding: true,
    transfer: false,
    at: super::T0,
};

/// n1 of three, in term 7 and with entry 5.9, that may have voted up to term 6.
fn restarted() -> Bench {
    let stored = Some(entry(id(5, 9), listed(3)));
    let record = StoreRecord { floor: 6, entry: stored, committed: id(5, 9) };
    let bench = Bench::new(listed(3), Some(record));
    assert_eq!((bench.raft.term(), bench.raft.floor()), (5, 6));
    bench
}

fn word() -> Message {
    word_of(id(5, 9))
}

fn word_of(newest: EntryId) -> Message {
    Message { term: 7, newest, ..message() }
}

fn ask(bench: &mut Bench, from: u8, ask: Ask) {
    let Ask { term, last, binding, transfer, .. } = ask;
    let raft = vec![RaftCall::AskVote { term, last, binding, transfer }];
    bench.hear(from, Message { raft, ..word() });
}

fn granted(bench: &mut Bench, to: u8) -> bool {
    let calls = bench.raft.calls(&name(to));
    calls.iter().any(|it| matches!(it, RaftCall::Vote { granted: true, .. }))
}

fn order(bench: &mut Bench, call: ClusterCall) {
    bench.turn(|raft, cx| {
        let request = cx.next_request();
        raft.propose(cx, request, call);
    });
}
