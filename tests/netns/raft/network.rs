//! The network between members is bad, or somebody is in it who should not be.

use std::net::Ipv4Addr;
use std::time::Duration;

use edgevip::io::clock;
use serde_json::Value;

use super::{LONG, SOON, moved, nothing_lost};
use crate::RaftScenario;
use crate::lab::gap::Gap;
use crate::lab::net::{self, Lan, NODES, command_in, host, run};
use crate::lab::quorum::{PORT, Quorum};
use crate::lab::socket::Socket;
use crate::lab::wait_for;
use crate::outcome::{SLACK, never_two, silent_since};

pub const SCENARIOS: &[RaftScenario] = &[
    ("raft_cut_holder", cut_holder),
    ("raft_cut_each", cut_each),
    ("raft_carrier", carrier),
    ("raft_one_way", one_way),
    ("raft_lossy", lossy),
    ("raft_wrong_key", wrong_key),
    ("raft_replayed", replayed),
];

/// The holder's cable is cut at the far end: its link still has a carrier.
fn cut_holder(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.settle();
    let holder = quorum.hold_apart().holder;
    let outcome = moved(quorum, &watch, &holder, |_| net::cut(&holder, Lan::Clients));
    assert!(outcome.seen.longest <= SOON, "{outcome}\n{}", watch.story(outcome.since));
    net::mend(&holder, Lan::Clients);
    quorum.settled();
    never_two(&watch, outcome.since);
    outcome.to_string()
}

/// The cable of each node in turn.
fn cut_each(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let mut said = Vec::new();
    let since = clock::now();
    for node in NODES {
        let roles = quorum.settled();
        let what = match (roles.holder == node, roles.leader == node) {
            (true, true) => "leader and holder",
            (true, false) => "holder",
            (false, true) => "leader",
            (false, false) => "follower",
        };
        if roles.holder == node {
            let outcome = moved(quorum, &watch, node, |_| net::cut(node, Lan::Clients));
            assert!(outcome.seen.longest <= SOON * 2, "{outcome}\n{}", watch.story(since));
            let code = ["no-majority", "not-assigned"];
            quorum.status_is(node, "is silent", |it| {
                code.iter().any(|code| it["vips"][0]["code"] == **code)
            });
            let healed = clock::now();
            net::mend(node, Lan::Clients);
            quorum.settled_on(&outcome.heir);
            silent_since(&watch, node, healed);
            said.push(format!("{what}: {outcome}"));
        } else {
            net::cut(node, Lan::Clients);
            quorum.wait(Duration::from_millis(1_200));
            net::mend(node, Lan::Clients);
            quorum.settled_on(&roles.holder);
            said.push(format!("{what}: it stays"));
        }
    }
    never_two(&watch, since);
    said.join("; ")
}

fn carrier(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.settle();
    let holder = quorum.hold_apart().holder;
    let outcome = moved(quorum, &watch, &holder, |_| net::unplug(&holder, Lan::Clients));
    assert!(outcome.seen.longest <= SOON, "{outcome}\n{}", watch.story(outcome.since));
    net::mend(&holder, Lan::Clients);
    quorum.settled();
    never_two(&watch, outcome.since);
    outcome.to_string()
}

/// What one member says to another is lost, not what it hears of it.
fn one_way(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let roles = quorum.hold_apart();
    let (holder, leader) = (roles.holder.as_str(), roles.leader.as_str());
    let third = NODES.into_iter().find(|it| *it != holder && *it != leader).expect("three");
    let since = clock::now();
    let harmless = [(holder, third), (third, holder), (leader, third), (third, leader)];
    let gap = Gap::begin(quorum.vip);
    for (from, to) in harmless {
        lose(from, to, 100);
        quorum.wait(Duration::from_millis(900));
        mend(from);
        let now = quorum.settled();
        assert_eq!(now.holder, holder, "{from} not heard by {to}");
    }
    let lost = nothing_lost(gap, &watch, since);
    let roles = quorum.settled();
    let mut said = vec![lost];
    for (from, to) in [(&roles.leader, &roles.holder), (&roles.holder, &roles.leader)] {
        let gap = Gap::begin(quorum.vip);
        lose(from, to, 100);
        quorum.wait(Duration::from_millis(1_500));
        watch.someone(SLACK);
        mend(from);
        quorum.settled();
        let seen = gap.end();
        assert!(seen.longest <= SOON * 2, "{seen:?}\n{}", watch.story(since));
        let who = if *from == roles.leader { "holder deaf" } else { "holder dumb" };
        said.push(format!("{who} to the leader: {}", crate::outcome::Lost(seen)));
    }
    never_two(&watch, since);
    said.join("; ")
}

/// Three of ten datagrams are lost, both ways, everywhere.
fn lossy(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.settle();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    for from in NODES {
        for to in NODES.into_iter().filter(|it| *it != from) {
            lose(from, to, 30);
        }
    }
    quorum.wait(Duration::from_secs(3));
    NODES.iter().for_each(|it| mend(it));
    // What the last losses have led to may still be on its way.
    quorum.wait(Duration::from_secs(1));
    let roles = quorum.settled();
    watch.only(&roles.holder, LONG);
    never_two(&watch, since);
    let moves = watch.spans(since).len() - 1;
    format!("{}, {moves} changes", crate::outcome::Lost(gap.end()))
}

fn wrong_key(quorum: &mut Quorum<'_>) -> String {
    let other = quorum.key_file("other", "a key that somebody has made up");
    let (watch, roles) = quorum.patient().settle();
    if roles.holder == "n3" {
        quorum.hold_on("n1");
    }
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    quorum.stop("n3");
    // Were it heard, it would be believed.
    quorum.wait(Duration::from_millis(300));
    quorum.set_on("n3", "vip_keyfile", &other).start("n3");
    let bad = |by: &str, of: &str| quorum.seen_by(by, of)["bad"]["key"].as_u64().unwrap_or(0);
    let counted = wait_for(LONG, || bad("n1", "n3") > 5 && bad("n2", "n3") > 5);
    assert!(counted, "{} {}", quorum.seen_by("n1", "n3"), quorum.seen_by("n2", "n3"));
    for of in ["n1", "n2"] {
        assert_eq!(quorum.seen_by("n3", of)["heard_ms_ago"], Value::Null, "n3 hears {of}");
        let ago = quorum.seen_by(of, "n3")["heard_ms_ago"].as_u64();
        assert!(ago.is_none_or(|it| it > 300), "{of} hears n3");
    }
    nothing_lost(gap, &watch, since)
}

/// Somebody without the key says again what members have said.
fn replayed(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let roles = quorum.hold_apart();
    let victim = roles.holder.clone();
    let heard = captured(&victim);
    assert!(heard.len() > 10, "only {} datagrams in a second", heard.len());
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    let replay = || {
        net::inside("stranger", || {
            let socket = Socket::on_link("eth0").expect("packet sockets are allowed");
            heard.iter().for_each(|it| socket.send(it));
        });
    };
    replay();
    let others: Vec<_> = NODES.into_iter().filter(|it| **it != victim).collect();
    let bad = |of: &str| quorum.seen_by(&victim, of)["bad"]["replayed"].as_u64().unwrap_or(0);
    let counted = wait_for(LONG, || others.iter().all(|it| bad(it) > 3));
    assert!(
        counted,
        "{} {}",
        quorum.seen_by(&victim, others[0]),
        quorum.seen_by(&victim, others[1])
    );
    let counts: Vec<_> = others.iter().map(|it| bad(it).to_string()).collect();
    assert_eq!(quorum.settled(), roles, "something has changed");
    let lost = nothing_lost(gap, &watch, since);

    // A new life knows no counts yet.
    let again = clock::now();
    quorum.kill(&victim);
    quorum.start(&victim);
    for _ in 0..20 {
        replay();
        quorum.wait(Duration::from_millis(10));
    }
    quorum.settled();
    never_two(&watch, again);
    format!("{lost}; {} of {} counted", counts.join(" and "), heard.len())
}

/// What members have said to this one in a second, as if it came from another host's card.
fn captured(node: &str) -> Vec<Vec<u8>> {
    net::inside(node, || {
        let socket = Socket::on_link("eth0").expect("packet sockets are allowed");
        let (mut frames, mut buffer) = (Vec::new(), [0; 2048]);
        let until = clock::now() + Duration::from_secs(1);
        while let Some(frame) = socket.receive(&mut buffer, until) {
            let udp = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17);
            let to_us = frame.get(30..34) == Some(&address(node).octets())
                && frame.get(36..38) == Some(&PORT.to_be_bytes());
            if udp && to_us {
                let mut frame = frame.to_vec();
                // It is only made when a real card sends it; none is as good as a right one.
                frame[40..42].fill(0);
                frame[6..12].copy_from_slice(&[2, 0, 0, 0x77, 0, host("stranger").number]);
                frames.push(frame);
            }
        }
        frames
    })
}

fn address(node: &str) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host(node).number)
}

/// Loses so many of a hundred datagrams that one member sends to another.
fn lose(from: &str, to: &str, percent: u8) {
    let to = address(to);
    let chance =
        if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
    let rules = format!(
        "add table inet lab; \
         add chain inet lab out {{ type filter hook output priority 0; }}; \
         add rule inet lab out ip daddr {to} udp dport {PORT} {chance} drop"
    );
    run(command_in(from, "nft").arg(rules));
}

fn mend(node: &str) {
    run(command_in(node, "nft").args(["delete", "table", "inet", "lab"]));
}
