use std::time::Duration;

use super::super::peers::Ask;
use super::super::tests::{
    Bench, FRESH, T0, ask, entry, granted, id, listed, message, name, order, restarted, vip, word,
    word_of,
};
use super::NoVote;
use crate::model::{Ailment, ClusterCall, Message, RaftCall, Report};

#[test]
fn who_gets_a_vote() {
    // n1 has entry 5.9 of three voters, is in term 7, started with floor 6 and has terms up
    // to 22 reserved.
    let fresh = Ask { term: 8, last: id(5, 9), binding: true, transfer: false, at: T0 };
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
    assert_eq!(at, T0 + Duration::from_millis(120));
    bench.advance(20);
    assert!(bench.raft.wants_send().contains(&name(2)));
    assert!(granted(&mut bench, 2));
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
        let after = at.saturating_since(T0).as_millis() as u64;
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
fn a_leader_that_cannot_write_hands_over_to_one_that_can() {
    let mut bench = Bench::leading(4, id(5, 1));
    let full = Report { ailments: vec![Ailment::Store], ..Report::default() };
    bench.hear(2, Message { term: 6, newest: id(5, 1), report: full, ..message() });
    bench.hear(3, Message { term: 6, newest: id(5, 1), ..message() });
    bench.writes = false;
    order(&mut bench, ClusterCall::Drain(name(1)));
    assert!(!bench.raft.is_handing_over());
    for number in 1..100 {
        bench.turn(|raft, cx| raft.on_stored(cx, number, Some("no room".to_owned())));
    }
    let calls = |to: u8| bench.raft.calls(&name(to)).contains(&RaftCall::StandNow);
    assert_eq!([2, 3, 4].map(calls), [false, true, false]);
    order(&mut bench, ClusterCall::Drain(name(2)));
    let last = bench.answers.pop().unwrap().1.unwrap_err();
    assert!(last.contains("another is about to lead; try again: no room"), "{last}");
    // Who does not answer is asked again, in the very turn in which it is late.
    for _ in 0..300 {
        bench.advance(1);
        for number in 2..=4 {
            bench.hear(number, Message { term: 6, newest: id(5, 1), ..message() });
        }
        assert!(bench.raft.leads() && bench.raft.is_handing_over());
    }
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
