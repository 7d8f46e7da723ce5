//! A host that is not ours uses the VIP.

use std::net::IpAddr;
use std::time::Duration;

use edgevip::io::clock;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap::Gap;
use crate::lab::net::{inside, ip_in};
use crate::lab::packet::claim;
use crate::lab::socket::Socket;
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::outcome::{Lost, never_two};

pub const SCENARIOS: &[Scenario] = &[
    ("stranger_first", stranger_first),
    ("stranger_first_ipv6", stranger_first_ipv6),
    ("stranger_later", stranger_later),
];

const STRANGER: [u8; 6] = [2, 0, 0, 0x77, 0, 66];

fn stranger_first(cluster: &mut Cluster<'_>) -> String {
    refused(cluster)
}

fn stranger_first_ipv6(cluster: &mut Cluster<'_>) -> String {
    let vip = cluster.vip6.to_string();
    cluster.set("address", &vip);
    refused(cluster)
}

fn refused(cluster: &mut Cluster<'_>) -> String {
    let vip = cluster.watched();
    let address = format!("{vip}/{} dev eth0", if vip.is_ipv4() { 32 } else { 128 });
    let dad = if vip.is_ipv4() { "" } else { "nodad" };
    ip_in("stranger", &format!("addr add {address} {dad}"));
    let watch = Watch::begin(vip);
    let since = clock::now();
    cluster.start("n1");
    let status =
        cluster.status_is("n1", "refused by a stranger", |it| it["vips"][0]["code"] == "conflict");
    let why = status["vips"][0]["why"].as_str().unwrap_or_default().to_string();
    assert!(why.contains("02:00:00:77:00:42"), "the MAC is not named: {why}");
    watch.only("stranger", Duration::from_secs(1));
    let heard = watch.heard(since);
    assert!(heard.iter().all(|it| it.by != "n1" || it.kind == "probe"), "n1 claims it: {heard:?}");
    ip_in("stranger", &format!("addr del {address}"));
    watch.only("n1", Duration::from_secs(15));
    never_two(&watch, since);
    why
}

fn stranger_later(cluster: &mut Cluster<'_>) -> String {
    let watch = cluster.settle("n1", &["n2"]);
    let IpAddr::V4(vip) = cluster.vip else { unreachable!("the first VIP is of IPv4") };
    let gap = Gap::begin(cluster.vip);
    let since = clock::now();
    inside("stranger", || {
        let socket = Socket::on_link("eth0").expect("packet sockets are allowed");
        let mut sent = clock::now();
        wait_for(Duration::from_secs(3), || {
            if clock::now().saturating_since(sent) > Duration::from_millis(50) {
                socket.send(&claim(STRANGER, vip));
                sent = clock::now();
            }
            false
        });
    });
    let status = cluster.status_is("n1", "counts them", |it| it["conflicts"].as_u64() > Some(10));
    let heard = watch.heard(since);
    let defence = heard.iter().filter(|it| it.by == "n1").count();
    assert!(defence > 0, "n1 does not defend the VIP");
    watch.only("n1", Duration::from_secs(5));
    never_two(&watch, since);
    let conflicts = &status["conflicts"];
    format!("{conflicts} claims in 3 s, {defence} frames in defence, {}", Lost(gap.end()))
}
