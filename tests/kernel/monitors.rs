//! What the kernel tells of itself.

use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::kernel::FromKernel;
use edgevip::model::{Hardware, Link, LinkIndex, NetworkChange};

use crate::edge::*;
use crate::lab::*;
use crate::story;

/// Waits for a message about this link.
fn link_change(edge: &mut Edge, wanted: impl Fn(&Link) -> bool) -> Link {
    let it = edge.network(|it| matches!(it, NetworkChange::Link(it) if wanted(it)));
    let NetworkChange::Link(it) = it else { panic!() };
    it
}

fn address_gone(edge: &mut Edge, text: &str) -> bool {
    let ip: std::net::IpAddr = text.parse().unwrap();
    let gone = |it: &NetworkChange| matches!(it, NetworkChange::AddressGone(it) if it.ip == ip);
    let NetworkChange::AddressGone(it) = edge.network(gone) else { panic!() };
    it.ours
}

story!(everything_is_told_first, |_| {
    ip("route add default via 10.0.0.9 dev eth0");
    let mut edge = Edge::start();
    edge.done([hold("10.0.0.42", soon(9_000)), hold("fd00::42", soon(9_000))]);
    let NetworkChange::Snapshot { links, addresses, default_link } = edge.monitor() else {
        panic!()
    };
    let eth0 = links.iter().find(|it| it.name.0 == "eth0").unwrap();
    assert_eq!((eth0.index, eth0.mac), (index("eth0"), Some(mac("eth0"))));
    assert_eq!((eth0.hardware, eth0.up, eth0.carrier), (Hardware::Ethernet, true, true));
    let lo = links.iter().find(|it| it.name.0 == "lo").unwrap();
    assert_eq!((lo.hardware, lo.mac), (Hardware::Loopback, None));
    assert_eq!(default_link, Some(index("eth0")));
    for (text, length, ours) in
        [("10.0.0.1", 24, false), ("10.0.0.42", 32, true), ("fd00::42", 128, true)]
    {
        let it = addresses.iter().find(|it| it.ip.to_string() == text).unwrap();
        assert_eq!((it.link, it.length, it.ours), (index("eth0"), length, ours));
    }
});

story!(a_flushed_address_is_told_of_in_milliseconds, |_| {
    let mut edge = Edge::start();
    edge.monitor();
    let mut took = Vec::new();
    for _ in 0..20 {
        edge.done([hold("10.0.0.42", soon(9_000)), hold("fd00::42", soon(9_000))]);
        for text in ["10.0.0.42", "fd00::42"] {
            ip(&format!("addr del {text} dev eth0"));
            let before = clock::now();
            assert!(address_gone(&mut edge, text), "ours");
            took.push(clock::now().saturating_since(before));
        }
    }
    took.sort();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("told {median:?} after the command ended, at most {slowest:?}");
    assert!(median < Duration::from_millis(50), "{median:?}");
});

story!(what_ends_by_itself_is_told_of, |_| {
    let mut edge = Edge::start();
    edge.monitor();
    edge.done([hold("10.0.0.42", soon(1_000))]);
    assert!(address_gone(&mut edge, "10.0.0.42"));
});

story!(an_address_of_ours_that_comes_or_stays_is_no_news_and_anothers_is, |_| {
    let mut edge = Edge::start();
    edge.monitor();
    ip("addr add 10.0.0.43/32 dev eth0");
    ip("addr add fd00::43/128 dev eth0 nodad");
    let others = edge.rest(Duration::from_millis(100));
    let ours =
        |it: &FromKernel| matches!(it, FromKernel::Network(NetworkChange::Address(it)) if !it.ours);
    assert_eq!(others.iter().filter(|it| ours(it)).count(), 2, "{others:?}");
    for _ in 0..5 {
        edge.done([hold("10.0.0.42", soon(60_000)), hold("fd00::42", soon(60_000))]);
    }
    assert_eq!(edge.rest(Duration::from_millis(100)), []);
});

story!(a_link_goes_down_and_comes_back, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    lab.client.ip("link set c0 down");
    assert!(link_change(&mut edge, |it| it.name.0 == "eth0" && !it.carrier).up);
    lab.client.ip("link set c0 up");
    assert!(link_change(&mut edge, |it| it.name.0 == "eth0" && it.carrier).up);
    ip("link set eth0 down");
    link_change(&mut edge, |it| it.name.0 == "eth0" && !it.up);
    ip("link set eth0 up");
    link_change(&mut edge, |it| it.name.0 == "eth0" && it.up && it.carrier);
});

story!(a_link_is_renamed_deleted_and_made_again, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    let old = index("eth0");
    ip("link set eth0 name uplink");
    assert_eq!(link_change(&mut edge, |it| it.name.0 == "uplink").index, old);
    lab.client.ip("link del c0");
    edge.network(|it| *it == NetworkChange::LinkGone(old));
    ip("link add eth0 type veth peer name eth1");
    let new = link_change(&mut edge, |it| it.name.0 == "eth0");
    assert_ne!(new.index, old);
    assert!(!new.up);
});

story!(a_port_that_leaves_a_bridge_is_not_gone, |_| {
    let mut edge = Edge::start();
    edge.monitor();
    ip("link add br0 type bridge");
    ip("link set eth0 master br0");
    ip("link set eth0 nomaster");
    ip("link set eth0 name uplink");
    link_change(&mut edge, |it| it.name.0 == "uplink");
    let others = edge.rest(Duration::from_millis(50));
    let gone = |it: &FromKernel| matches!(it, FromKernel::Network(NetworkChange::LinkGone(_)));
    assert!(!others.iter().any(gone), "{others:?}");
});

story!(the_default_route_is_followed, |_| {
    ip("link add eth1 type veth peer name eth2");
    ip("link set eth1 up");
    ip("link set eth2 up");
    ip("addr add 10.1.0.1/24 dev eth1");
    let (eth0, eth1) = (index("eth0"), index("eth1"));
    let mut edge = Edge::start();
    edge.monitor();
    let mut told = |link: Option<LinkIndex>| {
        edge.network(|it| *it == NetworkChange::DefaultLink(link));
    };
    ip("-6 route add default via fd00::9 dev eth0");
    told(Some(eth0));
    ip("route add default via 10.1.0.9 dev eth1 metric 50");
    told(Some(eth1));
    ip("route add default via 10.0.0.9 dev eth0 metric 10");
    told(Some(eth0));
    // The kernel drops these routes without a word.
    ip("link set eth0 down");
    told(Some(eth1));
    ip("route del default dev eth1");
    told(None);
});

story!(routes_and_rulesets_of_others_wake_nobody, |_| {
    let mut edge = Edge::start();
    edge.monitor();
    // The reactor's own thread falls asleep in steps.
    let mut before = woken();
    while !edge.rest(Duration::from_millis(100)).is_empty() || woken() != before {
        before = woken();
    }
    for last in 0..50 {
        ip(&format!("route add 10.7.{last}.0/24 dev eth0"));
        ip(&format!("route add default via 10.0.0.9 table {}", 100 + last));
    }
    assert_eq!(edge.rest(Duration::from_millis(100)), []);
    let times = woken() - before;
    println!("woken {times} times by 100 routes of others");
    assert!(times <= 10, "a busy machine wakes the reactor for its own sake, but {times}");
    ip("addr add 10.7.0.1/32 dev eth0");
    edge.network(|it| matches!(it, NetworkChange::Address(_)));
    assert!(woken() > before, "what is of interest wakes");
});

/// How often the thread that runs the monitors, and the one that polls for it, went to sleep.
fn woken() -> u64 {
    let mut all = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap();
        if name.trim() == "monitors" || name.trim() == "async-io" {
            let status = std::fs::read_to_string(path.join("status")).unwrap();
            let line = status.lines().find(|it| it.starts_with("voluntary")).unwrap();
            all += line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        }
    }
    all
}

story!(lost_notifications_lead_to_reading_everything_again, |_| {
    let mut edge = Edge::start();
    // More than the socket holds happens while nobody reads.
    for round in 0..1_200 {
        let verb = if round % 2 == 0 { "add" } else { "del" };
        ip(&format!("addr {verb} 10.7.0.1/32 dev eth0"));
    }
    edge.monitor();
    ip("addr add 10.7.0.2/32 dev eth0");
    let two: std::net::IpAddr = "10.7.0.2".parse().unwrap();
    edge.network(|it| match it {
        NetworkChange::Address(it) => it.ip == two,
        NetworkChange::Snapshot { addresses, .. } => addresses.iter().any(|it| it.ip == two),
        _ => false,
    });
});
