//! How long a client waits when something happens to the node that answers; keepalived on the
//! same nodes for comparison, turn by turn.
//!
//! `cargo bench --bench failover -- [--rounds 20] [--lease 3/2/0.5] [--events term,kill]
//! [--systems edgevip,1,0.1]`, where a number is keepalived with advertisements that many
//! seconds apart.
//!
//! The program measured is `EDGEVIP_BIN` where that is set.

#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "each includer uses its own part")]
mod lab;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;
use lab::cluster::Cluster;
use lab::daemon::Daemon;
use lab::gap::{Gap, reachable};
use lab::net::{self, Lan, NODES, has_address, ip_in};
use lab::watch::Watch;
use lab::{Lab, keepalived, millis, program, require, sandbox, wait_for};
use nix::sys::signal::Signal;

/// Longer than anything here needs.
const LONG: Duration = Duration::from_secs(60);
/// How long the API server hangs.
const OUTAGE: Duration = Duration::from_secs(8);
/// How long a second node is watched answering, where nothing would ever end it.
const DOUBLE: Duration = Duration::from_secs(2);

const EVENTS: [(&str, Event); 6] = [
    ("term", Event::Term),
    ("kill", Event::Kill),
    ("stop", Event::Stop),
    ("partition", Event::Partition),
    ("carrier", Event::Carrier),
    ("api", Event::Api),
];

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Term,
    Kill,
    Stop,
    Partition,
    Carrier,
    Api,
}

/// What happened in all rounds, by event and system.
type Table = BTreeMap<(Event, String), Vec<Round>>;

struct Round {
    gap: Duration,
    lost: usize,
    two: Duration,
    /// From the election's write to the first gratuitous frame.
    to_frame: Option<Duration>,
}

fn main() {
    sandbox::enter();
    require(&["ip", "nft", "openssl", "curl", "keepalived"]);
    let option = |name: &str| std::env::args().skip_while(|it| it != name).nth(1);
    let rounds = option("--rounds").map_or(20, |it| it.parse().expect("--rounds is a number"));
    let lease = option("--lease").unwrap_or_else(|| "3/2/0.5".into());
    let systems = option("--systems").unwrap_or_else(|| "edgevip,1,0.1".into());
    let names = option("--events").unwrap_or_else(|| "term,kill,stop,partition,carrier,api".into());
    let wanted = |it: &(&str, Event)| names.split(',').any(|name| name == it.0);
    let events: Vec<_> = EVENTS.into_iter().filter(wanted).map(|it| it.1).collect();

    let lab = Lab::start(program(env!("CARGO_BIN_EXE_edgevip")));
    let mut table = Table::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for system in systems.split(',') {
            match system {
                "edgevip" => edgevip(&lab, &lease, &events, round, &mut table),
                interval => beside(&lab, interval, &events, &mut table),
            }
            lab.restore();
        }
    }
    print(&table);
}

fn edgevip(lab: &Lab, lease: &str, events: &[Event], round: usize, table: &mut Table) {
    let mut cluster = Cluster::new(lab, &format!("failover-{round}"));
    let mut times = lease.split('/');
    let mut time = || format!("{}s", times.next().expect("--lease is DURATION/RENEW/RETRY"));
    cluster.lease_times(&time(), &time(), &time());
    let watch = cluster.settle("n1", &["n2", "n3"]);
    let mut holder = "n1".to_string();
    for event in events {
        phase();
        let gap = Gap::begin(cluster.vip);
        let since = clock::now();
        strike(*event, &holder, lab, |signal| _ = cluster.signal(&holder, signal));
        let heir = match event {
            Event::Api => watch.someone(LONG),
            Event::Term | Event::Kill | Event::Stop | Event::Partition | Event::Carrier => {
                watch.other_than(&[&holder], LONG)
            }
        };
        let round = Round {
            to_frame: (heir != holder).then(|| to_frame(&cluster, &watch, since)).flatten(),
            ..seen(gap, &watch, since)
        };
        table.entry((*event, format!("edgevip, lease {lease}"))).or_default().push(round);
        heal(*event, &holder, |signal| _ = cluster.signal(&holder, signal));
        if matches!(event, Event::Term | Event::Kill) {
            cluster.ended(&holder, LONG);
            cluster.start(&holder);
        }
        for node in NODES.into_iter().filter(|it| *it != heir) {
            cluster.follows_within(node, &heir, LONG);
        }
        holder = heir;
    }
}

fn beside(lab: &Lab, interval: &str, events: &[Event], table: &mut Table) {
    let (vip, _) = lab.fresh_vips();
    let start = |node: &str| {
        let priority = NODES.iter().position(|it| *it == node).map_or(0, |it| 100 - 10 * it as u8);
        let daemon = keepalived::start(node, priority, interval, vip);
        assert!(wait_for(LONG, || daemon.log().contains("BACKUP STATE")), "{}", daemon.log());
        daemon
    };
    let mut daemons: BTreeMap<_, Daemon> =
        NODES.into_iter().map(|it| (it.to_string(), start(it))).collect();
    let watch = Watch::begin(vip);
    let mut holder = watch.someone(LONG);
    reachable(vip, LONG);
    for event in events.iter().filter(|it| **it != Event::Api) {
        phase();
        let gap = Gap::begin(vip);
        let since = clock::now();
        let signal = |signal| net_signal(&daemons[&holder], signal);
        strike(*event, &holder, lab, signal);
        let heir = match event {
            Event::Kill | Event::Stop => both(&watch, &holder, since),
            Event::Term | Event::Partition | Event::Carrier | Event::Api => {
                watch.other_than(&[&holder], LONG)
            }
        };
        let round = seen(gap, &watch, since);
        table.entry((*event, format!("keepalived, advert {interval} s"))).or_default().push(round);
        heal(*event, &holder, signal);
        if matches!(event, Event::Term | Event::Kill) {
            daemons.remove(&holder);
            leave(&holder, vip);
            daemons.insert(holder.clone(), start(&holder));
        }
        holder = settle(&watch, heir);
    }
}

/// A keepalived that cannot act leaves its address where it is: two answer from then on.
fn both(watch: &Watch, holder: &str, since: Instant) -> String {
    let mut first = None;
    wait_for(LONG, || {
        first = watch.first_other(holder, since);
        first.is_some()
    });
    wait_for(DOUBLE, || false);
    let spans = watch.spans(since);
    let by = spans.iter().rev().flat_map(|it| &it.by).find(|it| *it != holder);
    by.expect("another node has answered").clone()
}

/// keepalived may prefer the old holder for a moment when that comes back.
fn settle(watch: &Watch, heir: String) -> String {
    let now = watch.someone(LONG);
    if now == heir { heir } else { now }
}

fn leave(node: &str, vip: IpAddr) {
    if has_address(node, &vip.to_string()) {
        ip_in(node, &format!("addr del {vip}/24 dev eth0"));
    }
}

/// Every process of the daemon: keepalived is two.
fn net_signal(daemon: &Daemon, signal: Signal) {
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    if signal != Signal::SIGTERM {
        for child in std::fs::read_to_string(children).unwrap_or_default().split_whitespace() {
            let child = child.parse().expect("a process id");
            _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), signal);
        }
    }
    daemon.signal(signal);
}

fn strike(event: Event, holder: &str, lab: &Lab, signal: impl Fn(Signal)) {
    match event {
        Event::Term => signal(Signal::SIGTERM),
        Event::Kill => signal(Signal::SIGKILL),
        Event::Stop => signal(Signal::SIGSTOP),
        Event::Partition => {
            net::cut(holder, Lan::Clients);
            net::cut(holder, Lan::Management);
        }
        Event::Carrier => net::unplug(holder, Lan::Clients),
        Event::Api => {
            lab.api.pause();
            wait_for(OUTAGE, || false);
            lab.api.resume();
        }
    }
}

fn heal(event: Event, holder: &str, signal: impl Fn(Signal)) {
    match event {
        Event::Stop => signal(Signal::SIGCONT),
        Event::Partition => {
            net::mend(holder, Lan::Clients);
            net::mend(holder, Lan::Management);
        }
        Event::Carrier => net::mend(holder, Lan::Clients),
        Event::Term | Event::Kill | Event::Api => {}
    }
}

/// Events fall anywhere between two renewals or advertisements.
fn phase() {
    let nanos = clock::now().as_nanos() % 1_000_000_000;
    wait_for(Duration::from_nanos(nanos), || false);
}

fn seen(gap: Gap, watch: &Watch, since: Instant) -> Round {
    let seen = gap.end();
    let two = watch.two_answered(since);
    Round { gap: seen.longest, lost: seen.lost, two, to_frame: None }
}

/// Both ends in wall time, of which the Lease has the one: `…T01:02:03.456789Z`.
fn to_frame(cluster: &Cluster<'_>, watch: &Watch, since: Instant) -> Option<Duration> {
    let heard = watch.heard(since).into_iter().find(|it| it.kind != "probe")?;
    let ago = clock::now().saturating_since(heard.at);
    let frame = (clock::wall() - ago).as_micros() % 86_400_000_000;
    let lease = cluster.lab.api.lease(&cluster.lease)?;
    let text = lease["acquireTime"].as_str()?.split('T').nth(1)?.trim_end_matches('Z').to_string();
    let mut parts = text.split([':', '.']).map(|it| it.parse::<u128>().ok());
    let mut part = || parts.next().flatten();
    let wrote = ((part()? * 60 + part()?) * 60 + part()?) * 1_000_000 + part()?;
    Some(Duration::from_micros(u64::try_from(frame.checked_sub(wrote)?).ok()?))
}

fn print(table: &Table) {
    println!(
        "{:<10} {:<26} {:>3} {:>30} {:>12} {:>10} {:>16}",
        "event",
        "system",
        "n",
        "gap min/p50/p99/max ms",
        "lost p50/max",
        "two max",
        "write to frame"
    );
    for ((event, system), rounds) in table {
        let gaps = quantiles(rounds.iter().map(|it| it.gap));
        let mut lost: Vec<_> = rounds.iter().map(|it| it.lost).collect();
        lost.sort_unstable();
        let lost = format!("{}/{}", lost[lost.len() / 2], lost[lost.len() - 1]);
        let two = rounds.iter().map(|it| millis(it.two)).max().unwrap_or_default();
        let mut frames: Vec<_> = rounds.iter().filter_map(|it| it.to_frame).collect();
        frames.sort_unstable();
        let frame =
            frames.get(frames.len() / 2).map_or("-".into(), |it| format!("{} ms", millis(*it)));
        let n = rounds.len();
        let event = format!("{event:?}").to_lowercase();
        println!("{event:<10} {system:<26} {n:>3} {gaps:>30} {lost:>12} {two:>7} ms {frame:>16}");
    }
}

fn quantiles(all: impl Iterator<Item = Duration>) -> String {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    let at = |share: f64| millis(all[((all.len() - 1) as f64 * share).round() as usize]);
    format!("{} / {} / {} / {}", at(0.0), at(0.5), at(0.99), at(1.0))
}
