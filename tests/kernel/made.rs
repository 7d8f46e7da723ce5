//! Links that are made for Services, and what others made.

use std::fs;

use edgevip::io::kernel::KernelOptions;
use edgevip::model::{
    KernelAnswer, KernelJob, LinkKind, LinkName, Mac, Make, NetworkChange, NewLink,
};

use crate::edge::*;
use crate::lab::*;
use crate::story;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

fn macvlan(name: &str) -> NewLink {
    let make = Make::Macvlan { mac: MAC, rp_filter: 2 };
    NewLink { name: LinkName(name.to_owned()), parent: index("eth0"), make }
}

fn is_there(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

story!(a_link_is_made_tagged_turned_on_and_removed, |_| {
    let mut edge = Edge::start();
    edge.monitor();
    edge.done([KernelJob::MakeLink(macvlan("vip-1"))]);
    let made = edge.network(|it| matches!(it, NetworkChange::Link(it) if it.ours && it.up));
    let NetworkChange::Link(made) = made else { panic!() };
    assert_eq!((made.mac, made.kind), (Some(MAC), LinkKind::Macvlan { parent: index("eth0") }));
    let it = &json("ip -d -j link show vip-1");
    assert_eq!(it["ifalias"], "edgevip", "{it}");
    assert_eq!(it["linkinfo"]["info_kind"], "macvlan", "{it}");
    assert_eq!(it["inet6_addr_gen_mode"], "none", "{it}");
    let rp_filter = fs::read_to_string("/proc/sys/net/ipv4/conf/vip-1/rp_filter").unwrap();
    assert_eq!(rp_filter.trim(), "2");
    edge.done([hold_on(index("vip-1"), "10.0.0.42", 32, soon(60_000))]);
    assert!(address("vip-1", "10.0.0.42").is_some());
    // What was turned off is turned on again, and stays the same.
    ip("link set vip-1 down");
    edge.done([KernelJob::MakeLink(macvlan("vip-1"))]);
    assert_eq!(index("vip-1"), made.index);
    assert!(json("ip -j link show vip-1")["flags"].to_string().contains("\"UP\""));
    edge.done([KernelJob::RemoveLink { link: made.index }]);
    assert!(!is_there("vip-1"));
    edge.network(|it| *it == NetworkChange::LinkGone(made.index));
    edge.done([KernelJob::RemoveLink { link: made.index }]);
});

story!(a_link_of_somebody_else_is_left_as_it_is, |_| {
    let mut edge = Edge::start();
    ip("link add link eth0 name vip-2 type macvlan");
    edge.done([KernelJob::MakeLink(macvlan("vip-2"))]);
    let it = &json("ip -d -j link show vip-2");
    assert!(it["ifalias"].is_null() && !it["flags"].to_string().contains("\"UP\""), "{it}");
    edge.done([KernelJob::RemoveLink { link: index("vip-2") }, clean(&[])]);
    assert!(is_there("vip-2"));
});

story!(a_start_removes_what_its_own_instance_left, |_| {
    let other = KernelOptions { instance: Some("b".to_owned()), ..KernelOptions::default() };
    let mut edge = Edge::with(other);
    edge.done([KernelJob::MakeLink(macvlan("vip-3"))]);
    assert_eq!(json("ip -j link show vip-3")["ifalias"], "edgevip:b");
    Edge::start().done([clean(&[])]);
    assert!(is_there("vip-3"), "another instance's");
    drop(edge);
    let other = KernelOptions { instance: Some("b".to_owned()), ..KernelOptions::default() };
    Edge::with(other).done([clean(&[])]);
    assert!(!is_there("vip-3"));
});

story!(what_the_kernel_does_not_make_is_told_in_its_words, |_| {
    let mut edge = Edge::start();
    let vlan = NewLink { make: Make::Vlan { tag: 100 }, ..macvlan("eth0.100") };
    match edge.one(KernelJob::MakeLink(vlan)) {
        // Where there are VLANs.
        KernelAnswer::Done => {
            let it = &json("ip -d -j link show eth0.100");
            assert_eq!(it["linkinfo"]["info_data"]["id"], 100, "{it}");
        }
        answer => assert!(is_refusal(&answer, "Unknown device type"), "{answer:?}"),
    }
    let same = NewLink { parent: index("lo"), ..macvlan("vip-4") };
    let answer = edge.one(KernelJob::MakeLink(same));
    assert!(answer.refusal().is_some() && !is_there("vip-4"), "{answer:?}");
});
