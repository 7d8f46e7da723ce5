//! Addresses with an end, and what is not ours.

use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::kernel::KernelOptions;
use edgevip::model::KernelAnswer;

use crate::edge::*;
use crate::lab::*;
use crate::story;

/// The kernel sweeps addresses once a second, with some slack.
const SWEEP: Duration = Duration::from_millis(1_300);

story!(an_address_that_nobody_extends_ends_by_itself, |_| {
    let mut edge = Edge::start();
    let until = soon(2_500);
    edge.done([hold("10.0.0.42", until), hold("fd00::42", until)]);
    for (ip, length, scope) in [("10.0.0.42", 32, "host"), ("fd00::42", 128, "global")] {
        let it = address("eth0", ip).unwrap();
        assert_eq!((&it["prefixlen"], &it["scope"]), (&length.into(), &scope.into()), "{it}");
        assert_eq!((&it["preferred_life_time"], &it["deprecated"]), (&0.into(), &true.into()));
        assert!(it["valid_life_time"].as_u64().unwrap() <= 2, "{it}");
        assert!(it.get("tentative").is_none(), "{it}");
    }
    drop(edge);
    eventually("both gone", || {
        address("eth0", "10.0.0.42").is_none() && address("eth0", "fd00::42").is_none()
    });
    let late = clock::now().saturating_since(until);
    println!("addresses ended {late:?} after the end of the right to them");
    assert!(late < SWEEP, "{late:?} late");
});

story!(an_address_that_is_extended_stays, |_| {
    let mut edge = Edge::start();
    edge.done([hold("10.0.0.42", soon(1_000)), hold("fd00::42", soon(1_000))]);
    edge.done([hold("10.0.0.42", soon(60_500)), hold("fd00::42", soon(60_500))]);
    for ip in ["10.0.0.42", "fd00::42"] {
        let left = address("eth0", ip).unwrap()["valid_life_time"].as_u64().unwrap();
        assert!((59..=60).contains(&left), "{ip}: {left}");
    }
});

story!(an_address_is_removed_and_to_remove_it_twice_is_as_good, |_| {
    let mut edge = Edge::start();
    edge.done([hold("10.0.0.42", soon(9_000)), hold("fd00::42", soon(9_000))]);
    edge.done([remove("10.0.0.42"), remove("fd00::42")]);
    assert!(address("eth0", "10.0.0.42").is_none() && address("eth0", "fd00::42").is_none());
    edge.done([remove("10.0.0.42"), remove("fd00::42")]);
});

story!(a_right_that_has_ended_adds_nothing, |_| {
    let mut edge = Edge::start();
    let answers = edge.order([hold("10.0.0.42", clock::now()), hold("fd00::42", soon(0))]);
    assert_eq!(answers, [KernelAnswer::TooLate, KernelAnswer::TooLate]);
    assert!(address("eth0", "10.0.0.42").is_none() && address("eth0", "fd00::42").is_none());
});

story!(a_vip_is_never_a_source, |_| {
    let mut edge = Edge::start();
    // Nothing but the VIP on the link, and routes without a gateway: nothing else to choose.
    ip("addr flush dev eth0");
    edge.done([hold("10.0.0.42", soon(60_000)), hold("fd00::42", soon(60_000))]);
    ip("route add 10.0.0.0/24 dev eth0");
    ip("route add fd00::/64 dev eth0");
    let route = json("ip -j route get 10.0.0.9");
    assert!(!route["prefsrc"].to_string().contains("10.0.0.42"), "{route}");
    // With an address of its own, each family has a source that is not the VIP.
    ip("addr add 10.0.0.1/24 dev eth0");
    ip("addr add fd00::1/64 dev eth0 nodad");
    assert_eq!(json("ip -j route get 10.0.0.9")["prefsrc"], "10.0.0.1");
    assert_eq!(json("ip -j route get fd00::9")["prefsrc"], "fd00::1");
});

story!(a_vip_in_the_subnet_of_an_own_address_comes_second_there, |_| {
    let mut edge = Edge::start();
    // The kernel refuses a second scope in a subnet.
    edge.done([hold_on(index("eth0"), "10.0.0.42", 24, soon(60_000))]);
    let it = address("eth0", "10.0.0.42").unwrap();
    assert_eq!((&it["scope"], &it["secondary"]), (&"global".into(), &true.into()), "{it}");
    assert_eq!(json("ip -j route get 10.0.0.9")["prefsrc"], "10.0.0.1");
    edge.done([hold_on(index("eth0"), "10.0.0.42", 24, soon(60_000)), remove("10.0.0.42")]);
    assert!(address("eth0", "10.0.0.1").is_some());
});

story!(the_loopback_link_takes_global_scope_where_asked_to, |_| {
    for (lo_global_scope, scope) in [(false, "host"), (true, "global")] {
        let mut edge = Edge::with(KernelOptions { lo_global_scope, ..KernelOptions::default() });
        edge.done([hold_on(index("lo"), "10.9.9.9", 32, soon(9_000))]);
        assert_eq!(address("lo", "10.9.9.9").unwrap()["scope"], scope);
        edge.done([clean(&["10.9.9.9"])]);
        assert!(address("lo", "10.9.9.9").is_none());
    }
});

story!(what_is_not_ours_is_neither_extended_nor_removed, |_| {
    ip("addr add 10.0.0.42/24 dev eth0");
    ip("addr add fd00::42/64 dev eth0 nodad");
    ip("addr add 10.0.0.43/32 dev eth0 scope host valid_lft 900 preferred_lft 0");
    let before = ip("-j addr show dev eth0");
    let mut edge = Edge::start();
    for address in ["10.0.0.42", "fd00::42", "10.0.0.43"] {
        let words = format!("{address} is on eth0 already and is not ours");
        let held = edge.one(hold(address, soon(9_000)));
        assert_eq!(held, KernelAnswer::NotOurs(words.clone()));
        let removed = edge.one(remove(address));
        assert!(is_refusal(&removed, &words), "{removed:?}");
    }
    edge.done([clean(&["10.0.0.42", "fd00::42", "10.0.0.43"])]);
    let seconds = |text: String| text.replace("899", "900").replace("898", "900");
    assert_eq!(seconds(ip("-j addr show dev eth0")), seconds(before));
});

story!(an_ipv6_address_is_reachable_once_it_is_held, |_| {
    let mut edge = Edge::start();
    for number in 1..=50 {
        let text = format!("fd00::42:{number}");
        edge.done([hold(&text, soon(9_000))]);
        let route = ip(&format!("-6 route get {text}"));
        assert!(route.starts_with("local"), "{route}");
    }
});

story!(an_address_of_ours_with_another_length_takes_the_new_one, |_| {
    let mut edge = Edge::start();
    edge.done([hold("10.0.0.42", soon(9_000)), hold("fd00::42", soon(9_000))]);
    let at = |ip, length| hold_on(index("eth0"), ip, length, soon(9_000));
    edge.done([at("10.0.0.42", 24), at("fd00::42", 64)]);
    let all = ip("-o addr show dev eth0");
    assert!(all.contains("10.0.0.42/24") && all.contains("fd00::42/64"), "{all}");
    assert!(!all.contains("10.0.0.42/32") && !all.contains("fd00::42/128"), "{all}");
    edge.done([remove("10.0.0.42"), remove("fd00::42")]);
    assert!(address("eth0", "10.0.0.42").is_none() && address("eth0", "fd00::42").is_none());
    assert!(address("eth0", "10.0.0.1").is_some(), "the node's own");
});

story!(what_an_earlier_process_left_is_removed_and_no_more, |_| {
    let other = KernelOptions { instance: Some("b".into()), fence: true, ..Default::default() };
    let mut other = Edge::with(other);
    other.done([silence(&["10.0.0.50"], soon(60_000)), hold("10.0.0.50", soon(60_000))]);
    let mut earlier = Edge::start();
    earlier.done([
        // Not configured any more: only the fence names it.
        silence(&["10.0.0.41", "10.0.0.42", "fd00::42"], soon(60_000)),
        hold("10.0.0.41", soon(60_000)),
        hold("10.0.0.42", soon(60_000)),
        hold("fd00::42", soon(60_000)),
        answer(&["10.0.0.41"], soon(60_000)),
    ]);
    drop(earlier);
    let mut edge = Edge::start();
    assert!(address("eth0", "10.0.0.41").is_some(), "to start touches nothing");
    edge.done([clean(&["10.0.0.42", "fd00::42"])]);
    let all = ip("-o addr show dev eth0");
    for gone in ["10.0.0.41", "10.0.0.42", "fd00::42"] {
        assert!(!all.contains(gone), "{gone} in {all}");
    }
    assert!(all.contains("10.0.0.50") && all.contains("10.0.0.1/24"), "{all}");
    let ruleset = run("nft list table arp edgevip");
    assert!(!ruleset.contains("10.0.0.4"), "{ruleset}");
    assert!(run("nft list table arp edgevip_b").contains("10.0.0.50"));
});

story!(without_the_fence_the_fence_of_an_earlier_process_goes_too, |_| {
    let mut earlier = Edge::start();
    earlier.done([silence(&["10.0.0.42"], soon(60_000)), hold("10.0.0.42", soon(60_000))]);
    drop(earlier);
    let mut edge = Edge::with(KernelOptions::default());
    assert_eq!(edge.fences.v4, Err("switched off".to_owned()));
    edge.done([clean(&[])]);
    assert!(address("eth0", "10.0.0.42").is_none());
    assert_eq!(run("nft list ruleset"), "");
    edge.done([hold("10.0.0.42", soon(60_000)), answer(&["10.0.0.42"], soon(60_000))]);
    assert_eq!(run("nft list ruleset"), "");
});

story!(a_link_that_is_down_gone_or_without_ipv6_is_an_answer, |lab| {
    let mut edge = Edge::start();
    let eth0 = index("eth0");
    std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap();
    let refused = edge.one(hold("fd00::42", soon(9_000)));
    assert!(is_refusal(&refused, "adding fd00::42/128 on eth0"), "{refused:?}");
    ip("link set eth0 down");
    edge.done([hold("10.0.0.42", soon(9_000)), remove("10.0.0.42")]);
    lab.client.ip("link del c0");
    let hold = hold_on(eth0, "10.0.0.42", 32, soon(9_000));
    assert_eq!(edge.one(hold), KernelAnswer::NoLink);
    edge.done([edgevip::model::KernelJob::RemoveAddress {
        link: eth0,
        vip: vip("10.0.0.42"),
        length: 32,
    }]);
});

story!(what_came_and_went_meanwhile_is_known, |_| {
    let mut edge = Edge::start();
    let there = |text: &str| ip("-o addr show dev eth0").contains(&format!("{text}/"));
    for text in ["10.0.0.42", "fd00::42"] {
        edge.done([hold(text, soon(60_000))]);
        // Ours, by somebody else.
        ip(&format!("addr del {text} dev eth0"));
        edge.done([hold(text, soon(60_000))]);
        // By us, and back in one batch; then the news of it comes after it is back.
        edge.done([remove(text), hold(text, soon(60_000))]);
        edge.done([hold(text, soon(60_000))]);
        assert!(there(text), "{text}");
        edge.done([remove(text), hold(text, soon(60_000))]);
        edge.done([remove(text)]);
        assert!(!there(text), "{text} stays");
        // Somebody else's, since we last looked.
        let nodad = if text.contains(':') { "nodad" } else { "" };
        ip(&format!("addr add {text} dev eth0 {nodad}"));
        let refused = edge.one(hold(text, soon(60_000)));
        assert!(matches!(refused, KernelAnswer::NotOurs(_)), "{refused:?}");
        ip(&format!("addr del {text} dev eth0"));
        edge.done([hold(text, soon(60_000)), remove(text)]);
    }
});

story!(thousands_of_vips_are_held_fenced_and_removed, |_| {
    let mut edge = Edge::start();
    let ips: Vec<String> = (0..3_000).map(|it| format!("10.9.{}.{}", it / 250, it % 250)).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let count = || ip("-o addr show dev eth0").matches(" 10.9.").count();
    for round in 0..2 {
        let before = clock::now();
        let holds = ips.iter().map(|it| hold(it, soon(60_000)));
        edge.done([answer(&ips, soon(60_000))].into_iter().chain(holds));
        println!("round {round}: {:?}", clock::now().saturating_since(before));
    }
    assert_eq!(count(), ips.len());
    // As others see it: whoever flushes it all sees it come back whole.
    run("nft delete table arp edgevip");
    let KernelAnswer::FenceRebuilt = edge.one(edgevip::model::KernelJob::VerifyFence) else {
        panic!("the fence was gone")
    };
    let silent = ips.iter().flat_map(|it| [silence(&[*it], soon(63_000)), remove(it)]);
    edge.done(silent.chain(ips.iter().map(|it| unfence(&[*it]))));
    assert_eq!(count(), 0);
    println!("slowest change of the fence: {:?}", edge.thread.slowest());
});

story!(forty_vips_are_held_fenced_and_removed, |_| {
    let mut edge = Edge::start();
    let ips: Vec<String> =
        (100..120).flat_map(|it| [format!("10.0.0.{it}"), format!("fd00::{it}")]).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    for round in 0..3 {
        let before = clock::now();
        let holds = ips.iter().map(|it| hold(it, soon(30_000)));
        let first = [silence(&ips, soon(33_000))];
        edge.done(first.into_iter().chain(holds).chain([answer(&ips, soon(30_000))]));
        println!("round {round}: {:?}", clock::now().saturating_since(before));
    }
    let all = ip("-o addr show dev eth0");
    assert!(ips.iter().all(|it| all.contains(&format!("{it}/"))), "{all}");
    edge.done(ips.iter().map(|it| remove(it)));
    edge.done([edgevip::model::KernelJob::Unfence { vips: vips(&ips) }]);
    let all = ip("-o addr show dev eth0");
    assert!(!ips.iter().any(|it| all.contains(&format!("{it}/"))), "{all}");
    println!("slowest change of the fence: {:?}", edge.thread.slowest());
});
