//! `vip_preserve_on_leadership_loss`: an address that nobody took over goes on serving whom
//! it serves, and answers nobody else.

use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::daemon::log_of;
use crate::lab::gap::Gap;
use crate::lab::net::{self, Lan, NODES, has_address, ip_in};
use crate::lab::watch::Watch;
use crate::lab::{millis, wait_for};
use crate::outcome::{LEASE, LIFETIME, Lost, SLACK, never_two, silent_since};

pub const SCENARIOS: &[Scenario] = &[
    ("preserve", preserve),
    ("preserve_until_succeeded", preserve_until_succeeded),
    ("preserve_killed", preserve_killed),
    ("preserve_term", preserve_term),
    ("preserve_unfenced", preserve_unfenced),
];

/// No preserved address is there longer, whatever becomes of the daemon.
const AT_MOST: u64 = 300;

/// The address of IPv6 goes, as with kube-vip.
fn preserve(cluster: &mut Cluster<'_>) -> String {
    let both = format!("{},{}", cluster.vip, cluster.vip6);
    cluster.set("address", &both);
    let watch = preserving(cluster);
    let since = clock::now();
    cluster.lab.api.pause();
    watch.nobody(LEASE + LIFETIME);
    let gap = Gap::begin(cluster.vip);
    let vip = cluster.vip.to_string();
    let vip6 = cluster.vip6.to_string();
    assert!(wait_for(LIFETIME, || !has_address("n1", &vip6)), "the address of IPv6 stays");
    let lost = wait_for(LEASE + LIFETIME, || !has_address("n1", &vip));
    assert!(!lost, "the address goes with the leadership");
    cluster.status_is("n1", "is silent", |it| it["vips"][0]["state"] == "silent");
    let left = lifetime(&vip);
    assert!((1..=AT_MOST).contains(&left), "the kernel keeps it for {left} s");
    watch.nobody(SLACK);
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}\n{}", Lost(seen), watch.story(since));

    cluster.lab.api.resume();
    let heir = watch.someone(LEASE + SLACK);
    let alone = || NODES.iter().all(|it| *it == heir || !has_address(it, &vip));
    assert!(wait_for(SLACK, alone), "a second node keeps the address");
    assert!(cluster.all_run(), "a daemon has ended");
    never_two(&watch, since);
    format!("silent, {}, {left} s at most; then {heir} answers", Lost(seen))
}

fn preserve_until_succeeded(cluster: &mut Cluster<'_>) -> String {
    let watch = preserving(cluster);
    let (gap, since) = (Gap::begin(cluster.vip), clock::now());
    net::cut("n1", Lan::Management);
    let vip = cluster.vip.to_string();
    let gone = wait_for(LEASE + SLACK + SLACK, || !has_address("n1", &vip));
    let gone_at = clock::now();
    assert!(gone, "the address outlives its successor");
    let heir = watch.other_than(&["n1"], SLACK);
    let said = watch.heard(since).into_iter().find(|it| it.by == heir && it.kind != "probe");
    let said = said.expect("the heir announces").at;
    assert!(gone_at > said, "the address goes before anybody answers\n{}", watch.story(since));
    let seen = gap.end();
    net::mend("n1", Lan::Management);
    let healed = clock::now();
    cluster.follows("n1", &heir);
    watch.only(&heir, SLACK);
    silent_since(&watch, "n1", healed);
    never_two(&watch, since);
    let after = millis(gone_at.saturating_since(said));
    format!("{}, gone {after} ms after {heir} announces", Lost(seen))
}

/// What the daemon leaves behind stays silent for as long as it is there.
fn preserve_killed(cluster: &mut Cluster<'_>) -> String {
    let watch = preserving(cluster);
    let since = clock::now();
    cluster.lab.api.pause();
    watch.nobody(LEASE + LIFETIME);
    cluster.status_is("n1", "is silent", |it| it["vips"][0]["state"] == "silent");
    let vip = cluster.vip.to_string();
    // What leadership has given is still let run for half of its time.
    assert!(wait_for(SLACK, || lifetime(&vip) > 60), "it is given {} s", lifetime(&vip));
    cluster.kill("n1");
    let left = lifetime(&vip);
    assert!(left <= AT_MOST, "the kernel keeps it for {left} s");
    cluster.lab.api.resume();
    let heir = watch.other_than(&["n1"], LEASE + SLACK);
    cluster.renewed(12);
    assert!(has_address("n1", &vip), "nothing is left that could answer");
    watch.only(&heir, SLACK);
    cluster.start("n1");
    cluster.follows("n1", &heir);
    let clean = wait_for(SLACK, || !has_address("n1", &vip));
    assert!(clean, "a new process leaves what the old one left");
    never_two(&watch, since);
    format!("left for {left} s, silent beside {heir}; gone with a new start")
}

fn preserve_term(cluster: &mut Cluster<'_>) -> String {
    let watch = preserving(cluster);
    let since = clock::now();
    cluster.lab.api.pause();
    watch.nobody(LEASE + LIFETIME);
    cluster.signal("n1", Signal::SIGTERM);
    let status = cluster.ended("n1", Duration::from_secs(15));
    let took = clock::now();
    assert!(status.success(), "n1 ends with {status}");
    assert!(!has_address("n1", &cluster.vip.to_string()), "n1 leaves its address");
    cluster.lab.api.resume();
    let heir = watch.other_than(&["n1"], LEASE + SLACK);
    never_two(&watch, since);
    let after = watch.first_other("n1", took).expect("the heir answers").saturating_since(took);
    format!("gone with the daemon; {heir} answers {} ms later", millis(after))
}

/// Without the fence a preserved address would answer.
fn preserve_unfenced(cluster: &mut Cluster<'_>) -> String {
    cluster.set("vip_preserve_on_leadership_loss", "true").set("edgevip_fence", "off");
    cluster.lease_times("3", "1600ms", "400ms").start("n1");
    let status = cluster.ended("n1", Duration::from_secs(5));
    let said = log_of("n1");
    let named = said.contains("vip_preserve_on_leadership_loss=true");
    assert!(named && !status.success(), "n1 ends with {status}: {said}");
    format!("refused: {}", said.lines().last().unwrap_or_default())
}

fn preserving(cluster: &mut Cluster<'_>) -> Watch {
    cluster.set("vip_preserve_on_leadership_loss", "true");
    cluster.settle("n1", &["n2", "n3"])
}

/// For how many seconds the kernel of the first node keeps the address.
fn lifetime(vip: &str) -> u64 {
    let shown = ip_in("n1", "-o addr show dev eth0");
    let line = shown.lines().find(|it| it.contains(&format!(" {vip}/")));
    let words = line.unwrap_or_else(|| panic!("no {vip}: {shown}")).split_whitespace();
    let left = words.skip_while(|it| *it != "valid_lft").nth(1).unwrap_or_default();
    left.trim_end_matches("sec").parse().unwrap_or_else(|_| panic!("{vip} for ever: {shown}"))
}
