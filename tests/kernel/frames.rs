//! Frames out and in.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::{Frame, Heard, KernelAnswer, KernelJob, Mac};
use edgevip::wire::frame;

use crate::edge::*;
use crate::lab::*;
use crate::story;

const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const NOBODY: Mac = Mac([0; 6]);

fn send(frame: Frame, until: edgevip::model::Instant) -> KernelJob {
    KernelJob::SendFrame { link: index("eth0"), frame, until }
}

fn listen(texts: &[&str]) -> KernelJob {
    listen_on(&["eth0"], texts, &[], true)
}

fn listen_on(links: &[&str], more: &[&str], less: &[&str], anew: bool) -> KernelJob {
    let links = links.iter().map(|it| index(it)).collect();
    KernelJob::Listen { links, more: vips(more), less: vips(less), anew }
}

/// A stranger claims 10.0.0.`last`.
fn claims(client: &Host, last: u8) {
    let ip = Ipv4Addr::new(10, 0, 0, last);
    client.sends(&arp(1, STRANGER, ip, NOBODY, ip));
}

story!(clients_learn_from_what_is_announced, |lab| {
    let mut edge = Edge::start();
    let mac = mac("eth0");
    // Known to the client, at another MAC: what a takeover has to change.
    for ip in ["10.0.0.42", "10.0.0.43", "fd00::42"] {
        lab.client.ip(&format!("neigh replace {ip} lladdr {STRANGER} dev c0 nud stale"));
    }
    let ip = |text: &str| text.parse().unwrap();
    edge.done([
        silence(&["10.0.0.42", "fd00::42"], soon(63_000)),
        hold("10.0.0.42", soon(60_000)),
        hold("fd00::42", soon(60_000)),
        answer(&["10.0.0.42", "fd00::42"], soon(60_000)),
        send(Frame::Announce { mac, ip: ip("10.0.0.42") }, soon(60_000)),
        send(Frame::AnnounceReply { mac, ip: ip("10.0.0.43") }, soon(60_000)),
        send(Frame::Announce { mac, ip: ip("fd00::42") }, soon(60_000)),
    ]);
    for ip in ["10.0.0.42", "10.0.0.43", "fd00::42"] {
        eventually(ip, || {
            lab.client.ip(&format!("neigh show {ip} dev c0")).contains(&mac.to_string())
        });
    }
});

story!(what_could_not_be_held_is_not_announced, |lab| {
    ip("addr add 10.0.0.42/32 dev eth0");
    lab.client.ip(&format!("neigh replace 10.0.0.42 lladdr {STRANGER} dev c0 nud stale"));
    let mut edge = Edge::start();
    let frame = Frame::Announce { mac: mac("eth0"), ip: "10.0.0.42".parse().unwrap() };
    let batch = [hold("10.0.0.42", soon(9_000)), send(frame, soon(9_000))];
    let [KernelAnswer::NotOurs(_), KernelAnswer::TooLate] = &edge.order(batch)[..] else {
        panic!("it is announced")
    };
    let neighbour = lab.client.ip("neigh show 10.0.0.42 dev c0");
    assert!(neighbour.contains(&STRANGER.to_string()), "{neighbour}");
});

story!(a_probe_changes_no_cache_and_finds_who_has_the_address, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    edge.done([listen(&["10.0.0.9", "fd00::9"])]);
    lab.client.ip(&format!("neigh replace 10.0.0.1 lladdr {STRANGER} dev c0 nud permanent"));
    let before = lab.client.ip("neigh show dev c0");
    for text in ["10.0.0.9", "fd00::9"] {
        let ip = text.parse().unwrap();
        edge.done([send(Frame::Probe { mac: mac("eth0"), ip }, soon(1_000))]);
        let owner = lab.client.inside(|| mac("c0"));
        let heard = Heard { link: index("eth0"), ip, mac: owner, probe: false };
        assert_eq!(edge.heard(), heard);
    }
    assert_eq!(lab.client.ip("neigh show dev c0"), before);
});

story!(a_frame_whose_right_has_ended_is_not_sent, |lab| {
    let mut edge = Edge::start();
    let wire = lab.client.hears();
    let announce = |last| Frame::Announce { mac: mac("eth0"), ip: [10, 0, 0, last].into() };
    let answers = edge.order([send(announce(42), clock::now()), send(announce(43), soon(1_000))]);
    assert_eq!(answers, [KernelAnswer::TooLate, KernelAnswer::Done]);
    let first = wire.find(Duration::from_secs(5), |it| {
        (it.get(12..14) == Some(&[8, 6])).then(|| it.get(31).copied())
    });
    assert_eq!(first, Some(Some(43)));
});

story!(a_link_that_takes_no_frames_is_an_answer, |lab| {
    let mut edge = Edge::start();
    let eth0 = index("eth0");
    let frame = Frame::Announce { mac: mac("eth0"), ip: [10, 0, 0, 42].into() };
    let job = KernelJob::SendFrame { link: eth0, frame, until: soon(60_000) };
    ip("link set eth0 down");
    let refused = edge.one(job.clone());
    assert!(is_refusal(&refused, "sending a frame on eth0: Network is down"), "{refused:?}");
    lab.client.ip("link del c0");
    let refused = edge.one(job);
    assert!(is_refusal(&refused, "No such device or address"), "{refused:?}");
    let refused = edge.one(KernelJob::Listen {
        links: vec![eth0],
        more: vips(&["10.0.0.42"]),
        less: vec![],
        anew: true,
    });
    assert!(is_refusal(&refused, "No such device"), "{refused:?}");
});

story!(what_is_about_our_vips_is_heard, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    edge.done([listen(&["10.0.0.42", "fd00::42"])]);
    let [v4, v6]: [std::net::IpAddr; 2] = ["10.0.0.42", "fd00::42"].map(|it| it.parse().unwrap());
    let announced = |ip| frame::encode(&Frame::Announce { mac: STRANGER, ip });
    let asked = |ip| frame::encode(&Frame::Probe { mac: STRANGER, ip });
    let none = Ipv4Addr::UNSPECIFIED;
    let (vip, other) = (Ipv4Addr::new(10, 0, 0, 42), Ipv4Addr::new(10, 0, 0, 77));
    let table = [
        ("gratuitous ARP", announced(v4), v4, false),
        ("reply", frame::encode(&Frame::AnnounceReply { mac: STRANGER, ip: v4 }), v4, false),
        ("question from the VIP", arp(1, STRANGER, vip, NOBODY, other), v4, false),
        ("answer to somebody", arp(2, STRANGER, vip, NOBODY, other), v4, false),
        ("probe", arp(1, STRANGER, none, NOBODY, vip), v4, true),
        ("advertisement", announced(v6), v6, false),
        ("DAD", asked(v6), v6, true),
    ];
    for (what, frame, ip, probe) in table {
        lab.client.sends(&frame);
        assert_eq!(edge.heard(), Heard { link: index("eth0"), ip, mac: STRANGER, probe }, "{what}");
    }
});

/// Frames that are not about the VIPs 10.0.0.42 and fd00::42, or not for us.
fn chatter() -> Vec<(&'static str, Vec<u8>)> {
    let [vip, a, b] = [42, 77, 78].map(|it| Ipv4Addr::new(10, 0, 0, it));
    let v6 = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let all = "ff02::1".parse().unwrap();
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let mut tagged = arp(1, STRANGER, vip, NOBODY, vip);
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let mut for_others = arp(2, STRANGER, vip, NOBODY, vip);
    for_others[..6].copy_from_slice(&[2, 0, 0, 0, 0, 77]);
    let mut infiniband = arp(1, STRANGER, vip, NOBODY, vip);
    infiniband[15] = 32;
    let mut ip_packet = vec![0xff; 6];
    ip_packet.extend(STRANGER.0);
    ip_packet.extend([8, 0, 0x45]);
    ip_packet.resize(60, 0);
    vec![
        ("somebody asks for somebody", arp(1, STRANGER, a, NOBODY, b)),
        ("somebody asks for the VIP", arp(1, STRANGER, a, NOBODY, vip)),
        ("somebody claims another address", arp(2, STRANGER, a, NOBODY, a)),
        ("somebody probes another address", arp(1, STRANGER, Ipv4Addr::UNSPECIFIED, NOBODY, a)),
        ("a VLAN that is not here", tagged),
        ("unicast for another host", for_others),
        ("another kind of hardware", infiniband),
        ("a short frame", arp(1, STRANGER, vip, NOBODY, vip)[..20].to_vec()),
        ("IPv4", ip_packet),
        ("advertises another", nd(136, STRANGER, v6(7), all, 0x20, &v6(0x77).octets())),
        ("DAD for another", nd(135, STRANGER, unspecified, all, 0, &v6(0x77).octets())),
        ("asks for the VIP", nd(135, STRANGER, v6(7), all, 0, &v6(0x42).octets())),
        ("a router", nd(134, STRANGER, v6(7), all, 0, &v6(0x42).octets())),
        ("an echo", nd(128, STRANGER, v6(7), all, 0, &v6(0x42).octets())),
    ]
}

/// Bytes that wait in the packet sockets of this network namespace.
fn queued() -> u64 {
    let text = std::fs::read_to_string("/proc/net/packet").unwrap();
    let column = |line: &str| line.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap();
    text.lines().skip(1).map(column).sum()
}

story!(the_chatter_of_the_lan_wakes_nobody, |lab| {
    // The monitors do not run: what passes the filters stays in the sockets.
    let mut edge = Edge::start();
    edge.done([listen(&["10.0.0.42", "fd00::42"])]);
    let arrived = || {
        let it = json("ip -j -s link show dev eth0");
        it["stats64"]["rx"]["packets"].as_u64().unwrap()
    };
    for (what, frame) in chatter() {
        let before = arrived();
        lab.client.sends(&frame);
        eventually(what, || arrived() > before);
        assert_eq!(queued(), 0, "{what}");
    }
    // Outgoing frames are not incoming ones.
    let frame = Frame::Announce { mac: mac("eth0"), ip: [10, 0, 0, 42].into() };
    edge.done([send(frame, soon(1_000))]);
    assert_eq!(queued(), 0, "our own");
    lab.client.sends(&arp(1, STRANGER, Ipv4Addr::new(10, 0, 0, 42), NOBODY, [10, 0, 0, 42].into()));
    eventually("what is of interest stays", || queued() > 0);
});

story!(our_own_macs_are_nobody, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    edge.done([listen(&["10.0.0.42"])]);
    let vip = Ipv4Addr::new(10, 0, 0, 42);
    // As if a switch sent our own frame back.
    lab.client.sends(&arp(1, mac("eth0"), vip, NOBODY, vip));
    lab.client.sends(&arp(1, STRANGER, vip, NOBODY, vip));
    assert_eq!(edge.heard().mac, STRANGER);
    assert!(
        !edge.rest(Duration::from_millis(50)).iter().any(|it| format!("{it:?}").contains("Heard"))
    );
});

story!(to_listen_for_others_replaces_what_was_listened_for, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    let claim = |last| claims(&lab.client, last);
    let ip = |last| std::net::IpAddr::from([10, 0, 0, last]);
    edge.done([listen(&["10.0.0.42"]), listen(&["10.0.0.43", "fd00::1"])]);
    claim(42);
    claim(43);
    assert_eq!(edge.heard().ip, ip(43));
    edge.done([listen_on(&[], &["10.0.0.44"], &[], true)]);
    claim(44);
    edge.done([listen_on(&["eth0", "lo"], &["10.0.0.45"], &[], true)]);
    claim(45);
    assert_eq!(edge.heard().ip, ip(45));
});

story!(what_is_listened_for_is_more_or_less_than_before, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    let claim = |last| claims(&lab.client, last);
    let ip = |last| std::net::IpAddr::from([10, 0, 0, last]);
    edge.done([listen(&["10.0.0.42", "10.0.0.43"])]);
    edge.done([listen_on(&["eth0"], &["10.0.0.44"], &["10.0.0.42"], false)]);
    // Another way off and on again: what was named stays named.
    edge.done([listen_on(&[], &[], &[], false), listen_on(&["eth0"], &[], &["fd00::1"], false)]);
    for last in [42, 43, 44] {
        claim(last);
    }
    assert_eq!([edge.heard().ip, edge.heard().ip], [ip(43), ip(44)]);
    edge.done([listen_on(&["eth0"], &[], &["10.0.0.43", "10.0.0.44"], false)]);
    for last in [43, 44] {
        claim(last);
    }
    edge.done([listen_on(&["eth0"], &["10.0.0.45"], &[], false)]);
    claim(45);
    assert_eq!(edge.heard().ip, ip(45));
});

story!(hundreds_of_vips_are_listened_for_one_by_one_too, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    let ips: Vec<String> =
        (1..=200).flat_map(|it| [format!("10.0.7.{it}"), format!("fd07::{it}")]).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    for few in [64, 400] {
        edge.done([listen(&ips[..few])]);
        for text in ["10.0.8.1", "fd08::1", ips[few - 2], ips[few - 1]] {
            let ip = text.parse().unwrap();
            lab.client.sends(&frame::encode(&Frame::Announce { mac: STRANGER, ip }));
        }
        let mut heard = [edge.heard().ip, edge.heard().ip];
        heard.sort();
        assert_eq!(heard.map(|it| it.to_string()), [ips[few - 2], ips[few - 1]]);
    }
});

story!(a_stranger_who_shouts_is_heard_in_moderation, |lab| {
    let mut edge = Edge::start();
    edge.monitor();
    edge.done([listen(&["10.0.0.42"])]);
    let vip = Ipv4Addr::new(10, 0, 0, 42);
    let claim = arp(1, STRANGER, vip, NOBODY, vip);
    let before = clock::now();
    lab.client.inside(|| {
        let wire = Wire::open("c0");
        (0..2_000).for_each(|_| wire.send(&claim));
    });
    let took = clock::now().saturating_since(before).as_millis() as usize;
    edge.heard();
    let heard = 1 + edge.rest(Duration::from_millis(100)).len();
    println!("2000 claims in {took} ms: heard {heard}");
    assert!(heard <= took / 5 + 40, "{heard}");
});
