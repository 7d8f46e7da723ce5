//! A member of a quorum dies, hangs or is asked to stop.

use edgevip::io::clock;
use nix::sys::signal::Signal;

use super::{LONG, SOON, moved, nothing_lost};
use crate::RaftScenario;
use crate::lab::gap::Gap;
use crate::lab::millis;
use crate::lab::net::{NODES, has_address};
use crate::lab::quorum::Quorum;
use crate::lab::watch::Watch;
use crate::outcome::{Outcome, SLACK, never_two, silent_since};

pub const SCENARIOS: &[RaftScenario] = &[
    ("raft_first_start", first_start),
    ("raft_kill_holder", kill_holder),
    ("raft_kill_leader_and_holder", kill_leader_and_holder),
    ("raft_kill_leader", kill_leader),
    ("raft_stop_and_cont", stop_and_cont),
    ("raft_term", term),
    ("raft_term_leader", term_leader),
    ("raft_rolling_restart", rolling_restart),
    ("raft_cold_start", cold_start),
    ("raft_two_of_three_dead", two_of_three_dead),
];

fn first_start(quorum: &mut Quorum<'_>) -> String {
    let since = clock::now();
    let (watch, roles) = quorum.settle();
    let first = watch.first(since).expect("somebody has answered");
    never_two(&watch, since);
    format!(
        "{} answers after {} ms, {} leads",
        roles.holder,
        millis(first.saturating_since(since)),
        roles.leader
    )
}

fn kill_holder(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.settle();
    let roles = quorum.hold_apart();
    killed(quorum, &watch, &roles.holder)
}

fn kill_leader_and_holder(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.settle();
    let roles = quorum.hold_together();
    killed(quorum, &watch, &roles.holder)
}

fn killed(quorum: &mut Quorum<'_>, watch: &Watch, holder: &str) -> String {
    let outcome = moved(quorum, watch, holder, |it| _ = it.kill(holder));
    soon(&outcome, watch);
    quorum.settled();
    quorum.start(holder);
    let now = quorum.settled();
    never_two(watch, outcome.since);
    let back =
        if now.holder == *holder { ", and back, for an operator wants it there" } else { "" };
    format!("{outcome}{back}")
}

fn kill_leader(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let roles = quorum.hold_apart();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    quorum.kill(&roles.leader);
    let now = quorum.settled();
    assert_eq!(now.holder, roles.holder, "the VIP moves with the leader");
    assert_ne!(now.leader, roles.leader);
    quorum.start(&roles.leader);
    quorum.settled();
    nothing_lost(gap, &watch, since)
}

fn stop_and_cont(quorum: &mut Quorum<'_>) -> String {
    let (watch, roles) = quorum.settle();
    let holder = roles.holder;
    let outcome = moved(quorum, &watch, &holder, |it| _ = it.signal(&holder, Signal::SIGSTOP));
    soon(&outcome, &watch);
    let again = quorum.signal(&holder, Signal::SIGCONT);
    quorum.settled_on(&outcome.heir);
    silent_since(&watch, &holder, again);
    never_two(&watch, outcome.since);
    outcome.to_string()
}

fn term(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let roles = quorum.hold_apart();
    stopped(quorum, &watch, &roles.holder)
}

fn term_leader(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let roles = quorum.hold_together();
    stopped(quorum, &watch, &roles.holder)
}

fn stopped(quorum: &mut Quorum<'_>, watch: &Watch, holder: &str) -> String {
    let outcome = moved(quorum, watch, holder, |it| _ = it.signal(holder, Signal::SIGTERM));
    let status = quorum.ended(holder, SLACK);
    let took = millis(clock::now().saturating_since(outcome.since));
    assert!(status.success(), "{holder} ends with {status}");
    assert!(!has_address(holder, &quorum.vip.to_string()), "{holder} leaves its address");
    assert_eq!(outcome.seen.lost, 0, "{outcome}\n{}", watch.story(outcome.since));
    assert!(outcome.took < quorum.promise() / 2, "the heir waits for the promise: {outcome}");
    quorum.settled();
    never_two(watch, outcome.since);
    format!("{outcome}, ended after {took} ms at most")
}

fn rolling_restart(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    for node in NODES {
        quorum.renew(node);
    }
    nothing_lost(gap, &watch, since)
}

fn cold_start(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.settle();
    for node in NODES {
        quorum.signal(node, Signal::SIGKILL);
    }
    for node in NODES {
        quorum.ended(node, LONG);
    }
    watch.nobody(LONG);
    let since = clock::now();
    quorum.start_all(&NODES);
    let roles = quorum.settled();
    watch.only(&roles.holder, LONG);
    let first = watch.first(since).expect("somebody answers");
    never_two(&watch, since);
    format!("{} answers after {} ms", roles.holder, millis(first.saturating_since(since)))
}

fn two_of_three_dead(quorum: &mut Quorum<'_>) -> String {
    let (watch, roles) = quorum.settle();
    let others: Vec<_> = NODES.into_iter().filter(|it| *it != roles.holder).collect();
    let since = quorum.kill(others[0]);
    let second = quorum.kill(others[1]);
    watch.nobody(SOON);
    let spans = watch.spans(second);
    let quiet = spans.iter().find(|it| it.by.is_empty()).expect("nobody answers").from;
    quorum.status_is(&roles.holder, "has no majority", |it| it["vips"][0]["code"] == "no-majority");
    let back = clock::now();
    quorum.start(others[0]);
    watch.someone(LONG);
    let first = watch.first(back).expect("somebody answers");
    quorum.settled();
    never_two(&watch, since);
    format!(
        "silent {} ms after the second death, back {} ms after a start",
        millis(quiet.saturating_since(second)),
        millis(first.saturating_since(back))
    )
}

fn soon(outcome: &Outcome, watch: &Watch) {
    assert!(outcome.seen.longest <= SOON, "{outcome}\n{}", watch.story(outcome.since));
}
