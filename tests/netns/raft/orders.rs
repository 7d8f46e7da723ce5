//! What operators ask of a quorum.

use std::fs;
use std::time::Duration;

use edgevip::io::clock;

use super::{LONG, nothing_lost};
use crate::RaftScenario;
use crate::lab::gap::{Gap, reachable};
use crate::lab::net::{ALL_NODES, NODES};
use crate::lab::quorum::{Quorum, member};
use crate::outcome::SLACK;

pub const SCENARIOS: &[RaftScenario] = &[
    ("raft_drain_and_undrain", drain_and_undrain),
    ("raft_move", move_vip),
    ("raft_rolling_upgrade", rolling_upgrade),
    ("raft_three_five_three", three_five_three),
    ("raft_removed_while_down", removed_while_down),
];

fn drain_and_undrain(quorum: &mut Quorum<'_>) -> String {
    let (watch, roles) = quorum.patient().settle();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    let mut went = vec![roles.holder.clone()];
    for _ in 0..2 {
        let holder = went.last().expect("somebody holds").clone();
        quorum.ordered(&format!("drain {holder}"));
        let heir = watch.other_than(&[&holder], SLACK);
        quorum.settled_on(&heir);
        assert_eq!(quorum.seen_by(&heir, &holder)["drained"], true);
        went.push(heir);
    }
    for node in NODES {
        quorum.ordered(&format!("undrain {node}"));
    }
    let last = went.last().expect("somebody holds");
    quorum.settled_on(last);
    format!("{}: {}", went.join(", then "), nothing_lost(gap, &watch, since))
}

fn move_vip(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    for node in ["n1", "n2", "n3", "n1"] {
        let asked = clock::now();
        quorum.ordered(&format!("move {} {node}", quorum.vip));
        watch.only(node, LONG);
        let spans = watch.spans(asked);
        let first = spans.iter().find(|it| it.by.contains(node)).expect("it answers").from;
        let took = first.saturating_since(asked);
        assert!(took < quorum.promise() / 2, "{node} waits for a promise: {took:?}");
    }
    let refused = quorum.order(&format!("move {} nobody", quorum.vip)).expect_err("no such member");
    assert!(refused.contains("nobody is no member; members are n1, n2, n3"), "{refused}");
    quorum.settled_on("n1");
    nothing_lost(gap, &watch, since)
}

/// The new version is the same, at another place.
fn rolling_upgrade(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let newer = quorum.folder().join("edgevip");
    fs::copy(&quorum.program, &newer).expect("/run has room");
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    quorum.program = newer;
    for node in NODES {
        quorum.renew(node);
    }
    nothing_lost(gap, &watch, since)
}

/// Who was down when it was removed hears of it when it is back, and stands no more.
fn removed_while_down(quorum: &mut Quorum<'_>) -> String {
    let (watch, roles) = quorum.settle();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    let other = |it: &&str| *it != roles.leader && *it != roles.holder;
    let away = NODES.into_iter().find(other).expect("there are three");
    quorum.stop(away);
    quorum.ordered(&format!("members remove {away}"));
    // Longer than those who go are spoken to.
    quorum.wait(Duration::from_secs(4));
    quorum.start(away);
    let status = quorum
        .status_is(away, "knows that it is out", |it| it["quorum"]["silent_because"].is_string());
    let why = status["quorum"]["silent_because"].as_str().unwrap_or_default();
    format!("{}; \"{why}\"", nothing_lost(gap, &watch, since))
}

fn three_five_three(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    quorum.peers(&ALL_NODES);
    for node in &ALL_NODES[3..] {
        let member = member(node);
        let (name, address) = member.split_once(':').expect("it has an address");
        quorum.ordered(&format!("members add {name} {address}"));
        quorum.start(node);
        quorum.status_is(node, "has learnt", |it| it["quorum"]["leader"].is_string());
        quorum.ordered(&format!("members promote {name}"));
        quorum.settled();
    }
    let of_five = "two of 5 voters may be lost";
    quorum.status_is("n4", of_five, |it| it["quorum"]["tolerance"] == of_five);
    // Those that go are the holder, the leader, or whoever else is first.
    let roles = quorum.settled();
    let mut going = vec![roles.holder, roles.leader];
    going.extend(ALL_NODES.map(String::from));
    going.dedup();
    for node in going.iter().take(2) {
        quorum.ordered(&format!("members remove {node}"));
        watch.other_than(&[node], SLACK);
        quorum.status_is(node, "knows that it is out", |it| {
            it["quorum"]["silent_because"].is_string()
        });
        quorum.stop(node);
        quorum.settled();
    }
    let left = quorum.names();
    let of_three = "one of 3 voters may be lost";
    quorum.status_is(&left[0], of_three, |it| it["quorum"]["tolerance"] == of_three);
    reachable(quorum.vip, SLACK);
    format!("{} stay: {}", left.join(", "), nothing_lost(gap, &watch, since))
}
