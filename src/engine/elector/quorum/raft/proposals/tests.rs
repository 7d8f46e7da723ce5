use std::collections::BTreeSet;
use std::time::Duration;

use super::super::tests::{
    Bench, address, entry, id, listed, member, message, name, order, restarted, vip, word,
};
use super::Change;
use crate::model::{ClusterCall, Entry, MemberRole, Message};

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
    assert_eq!((entry.id, entry.voters().count()), (id(6, 3), 3));
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
    let mut asked_of = entry(id(5, 1), listed(3));
    asked_of.members.insert(name(4), member(&name(4), MemberRole::Learner));
    asked_of.members.insert(name(5), member(&name(5), MemberRole::Witness));
    asked_of.wishes.drained.insert(name(3));
    bench.hear(2, message());
    for (call, expected) in cases {
        let why = bench.raft.change(bench.now, &asked_of, &call).unwrap_err();
        assert_eq!(why, expected, "{call:?}");
    }
    let alone = entry(id(5, 1), listed(1));
    let why = bench.raft.change(bench.now, &alone, &ClusterCall::Remove(name(1))).unwrap_err();
    assert_eq!(why, "n1 is the last voter");
}

#[test]
fn what_was_moved_can_be_left_to_the_leader_again() {
    let bench = Bench::with(3, id(5, 1));
    let said = |entry: &Entry, call| match bench.raft.change(bench.now, entry, &call) {
        Ok(Change::Entry { wishes, sentence, .. }) => (Some(wishes), sentence),
        Ok(Change::Nothing(sentence)) => (None, sentence),
        Err(why) => panic!("{why}"),
    };
    let mut all = entry(id(5, 1), listed(3));
    let (wishes, _) = said(&all, ClusterCall::Move(vip(1), name(2)));
    all.wishes = wishes.unwrap();
    let (wishes, sentence) = said(&all, ClusterCall::Unmove(vip(1)));
    assert_eq!(sentence, format!("{} need not be on n2 any more", vip(1)));
    all.wishes = wishes.unwrap();
    assert!(all.wishes.placed.is_empty());
    let (wishes, sentence) = said(&all, ClusterCall::Unmove(vip(1)));
    assert_eq!((wishes, sentence), (None, format!("{} is to be on no one member", vip(1))));
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
    assert!(
        last.contains("n1 leads, its store cannot be written, and no other can lead: no room"),
        "{last}"
    );
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
