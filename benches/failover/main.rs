//! How long a client waits when something happens to the node that answers; keepalived on the
//! same nodes for comparison, turn by turn.
//!
//! `cargo bench --bench failover -- [--rounds 20] [--lease 15/10/2,3/2/0.5]
//! [--events term,kill,api] [--systems edgevip,quorum,quorum-fast,1,0.1,0.01]`, where a number is
//! keepalived with advertisements that many seconds apart, edgevip runs once for each Lease, and
//! a quorum has the default times or those of the profile that is named.
//!
//! The program measured is `EDGEVIP_BIN` where that is set. A round of everything with a Lease of
//! 3/2/0.5 takes 70 s.

mod event;
#[path = "../../tests/lab/mod.rs"]
#[allow(dead_code, reason = "each includer uses its own part")]
mod lab;
mod system;
mod table;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;
use event::{Ended, Event};
use lab::api::RELAY;
use lab::gap::{Gap, Seen, reachable};
use lab::net::NODES;
use lab::relay::Relay;
use lab::watch::Watch;
use lab::{Lab, millis, program, require, sandbox, wait_for};
use system::{ByQuorum, Edgevip, Keepalived, System};
use table::{Sample, Table};

/// Longer than anything here needs.
const LONG: Duration = Duration::from_secs(60);
/// How long a second node is watched answering, where nothing would ever end it.
const DOUBLE: Duration = Duration::from_millis(500);
/// So long one node must answer alone until it is the heir.
const CALM: Duration = Duration::from_millis(200);

const ABOUT: &str = "
gap: an echo every 2 ms through the client's own neighbour cache; from the first lost one to the
  next answer. In `first`: from before the daemon is spawned to the first answer.
  A quorum's three are spawned at once, a Lease's and keepalived's first alone.
drain: from before the operator's command is started.
answer: from the event to the first answer of another node to a question, as two answer is asked:
  where the dead node's kernel goes on serving those who know it, a client has no gap.
two answer: a question every 10 ms to all; from the first that two nodes answered to the last. A
  dead or hung keepalived never ends it: there it is watched for half a second and then undone.
flap: down and up again half a second later. api-stop: it hangs for one lease duration. api-restart:
  until it says that it is ready, so that the VIP may be back before. api-slow: a relay hands on
  every answer 2.5 s late, for a lease duration and 2.5 s; all other events know no relay.
cont, rejoin, replug: what the client sees when the event before them is undone.
Lease write to frame: from the heir's acquireTime, stamped before the write is sent, to its first
  gratuitous frame on the LAN: this has the API server's time in it.
decision to frame: from when the heir's deciding thread is handed the answer to that write (the
  recording of its inputs) to the same frame; in `first` this has the three probes in it.
";

/// One kind of system in all rounds.
enum Kind {
    Edgevip { lease: String },
    Keepalived { interval: String },
    Quorum { profile: String },
}

/// All that rounds have in common.
struct Bench {
    lab: Lab,
    relay: Relay,
    events: Vec<Event>,
    table: Table,
}

fn main() {
    sandbox::enter();
    require(&["ip", "nft", "openssl", "curl", "keepalived"]);
    let option = |name: &str| std::env::args().skip_while(|it| it != name).nth(1);
    let rounds = option("--rounds").map_or(20, |it| it.parse().expect("--rounds is a number"));
    let leases = option("--lease").unwrap_or_else(|| "3/2/0.5".into());
    let systems =
        option("--systems").unwrap_or_else(|| "edgevip,quorum,quorum-fast,1,0.1,0.01".into());
    let all = event::EVENTS.map(|it| it.0).join(",");
    let events = Event::named(&option("--events").unwrap_or(all));
    let kinds = kinds(&systems, &leases);
    let names: Vec<_> = kinds.iter().map(Kind::name).collect();

    let lab = Lab::start(program(env!("CARGO_BIN_EXE_edgevip")));
    let mut bench = Bench { lab, relay: Relay::begin(), events, table: Table::default() };
    let mut failed = Vec::new();
    for round in 1..=rounds {
        for (index, kind) in kinds.iter().enumerate() {
            let began = clock::now();
            let turn = catch_unwind(AssertUnwindSafe(|| bench.turn(kind, index, round)));
            if turn.is_err() {
                failed.push(format!("round {round} of {}", names[index]));
            }
            let took = millis(clock::now().saturating_since(began));
            eprintln!("round {round} of {rounds}, {}: {took} ms", names[index]);
        }
    }
    println!("{} on {}", edgevip::VERSION, bench.lab.program.display());
    println!("{}\n{}{ABOUT}", bench.table.text(&names), bench.table.decisions(&names));
    if !failed.is_empty() {
        println!("not finished, so that later events lack a sample: {failed:?}");
    }
}

fn kinds(systems: &str, leases: &str) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for system in systems.split(',') {
        match system {
            "edgevip" => {
                kinds.extend(leases.split(',').map(|it| Kind::Edgevip { lease: it.into() }));
            }
            "quorum" => kinds.push(Kind::Quorum { profile: "default".into() }),
            other if other.starts_with("quorum-") => {
                kinds.push(Kind::Quorum { profile: other["quorum-".len()..].into() });
            }
            interval => kinds.push(Kind::Keepalived { interval: interval.into() }),
        }
    }
    kinds
}

impl Kind {
    fn name(&self) -> String {
        match self {
            Self::Edgevip { lease } => format!("edgevip, lease {lease}"),
            Self::Keepalived { interval } => format!("keepalived, advert {interval} s"),
            Self::Quorum { profile } => format!("edgevip, quorum {profile}"),
        }
    }
}

impl Bench {
    fn turn(&mut self, kind: &Kind, index: usize, round: usize) {
        match kind {
            Kind::Edgevip { lease } => {
                // Only where it has to be slow is there anything between the nodes and the API.
                let felt = self.events_for(true, true, false);
                let (slow, direct): (Vec<_>, Vec<_>) =
                    felt.iter().partition(|it| **it == Event::ApiSlow);
                if !direct.is_empty() {
                    self.lab.restore();
                    let name = format!("failover-{index}-{round}");
                    let lab = &self.lab;
                    let mut system = Edgevip::new(lab, &name, lease, None);
                    life(lab, &self.relay, &mut system, &direct, index, &mut self.table);
                }
                if !slow.is_empty() {
                    self.lab.restore();
                    let name = format!("failover-slow-{index}-{round}");
                    let lab = &self.lab;
                    self.relay.delay(Duration::ZERO);
                    let via = lab.api.kubeconfig("relay", RELAY, self.relay.port);
                    let via = via.display().to_string();
                    let mut system = Edgevip::new(lab, &name, lease, Some(&via));
                    life(lab, &self.relay, &mut system, &slow, index, &mut self.table);
                }
            }
            Kind::Keepalived { interval } => {
                self.lab.restore();
                let events = self.events_for(false, false, false);
                let mut system = Keepalived::new(&self.lab, interval);
                life(&self.lab, &self.relay, &mut system, &events, index, &mut self.table);
            }
            Kind::Quorum { profile } => {
                self.lab.restore();
                let events = self.events_for(false, true, true);
                let name = format!("failover-{index}-{round}");
                let lab = &self.lab;
                let mut system = ByQuorum::new(lab, &name, profile);
                together(lab, &self.relay, &mut system, &events, index, &mut self.table);
            }
        }
    }

    fn events_for(&self, api: bool, nft: bool, orders: bool) -> Vec<Event> {
        self.events.iter().copied().filter(|it| it.is_for(api, nft, orders)).collect()
    }
}

/// As [`life`], of a system that needs more than one to begin: `first` is from before all are
/// spawned to the first answer.
fn together(
    lab: &Lab,
    relay: &Relay,
    system: &mut dyn System,
    events: &[Event],
    index: usize,
    table: &mut Table,
) {
    let watch = Watch::begin(system.vip());
    let gap = Gap::begin(system.vip());
    let since = clock::now();
    NODES.iter().for_each(|it| system.start(it));
    let holder = watch.someone(LONG);
    reachable(system.vip(), LONG);
    if events.contains(&Event::First) {
        table.add((Event::First, false, index), first(gap.end(), &watch, since));
    }
    system.settled(&holder);
    happen(lab, relay, system, events, index, table, &watch, steady(&watch));
}

/// What is seen of a first start.
fn first(seen: Seen, watch: &Watch, since: Instant) -> Sample {
    let first_answer = seen.first.expect("it is reachable");
    Sample { gap: first_answer.saturating_since(since), ..sample(seen, watch, since) }
}

/// One system from its first start to its end, and all events meanwhile.
fn life(
    lab: &Lab,
    relay: &Relay,
    system: &mut dyn System,
    events: &[Event],
    index: usize,
    table: &mut Table,
) {
    let watch = Watch::begin(system.vip());
    let gap = Gap::begin(system.vip());
    let since = clock::now();
    let first = "n1";
    system.start(first);
    watch.only(first, LONG);
    reachable(system.vip(), LONG);
    if events.contains(&Event::First) {
        let sample = self::first(gap.end(), &watch, since);
        table.add((Event::First, false, index), framed(sample, system, &watch, first, since));
    }
    for node in NODES.into_iter().filter(|it| *it != first) {
        system.start(node);
    }
    system.settled(first);
    happen(lab, relay, system, events, index, table, &watch, first.to_string());
}

/// All events but the first start, to whoever holds.
#[allow(clippy::too_many_arguments, reason = "it is the rest of a life")]
fn happen(
    lab: &Lab,
    relay: &Relay,
    system: &mut dyn System,
    events: &[Event],
    index: usize,
    table: &mut Table,
    watch: &Watch,
    mut holder: String,
) {
    for event in events.iter().copied().filter(|it| *it != Event::First) {
        phase(system.period());
        let gap = Gap::begin(system.vip());
        let since = clock::now();
        let ended = event.strike(&holder, system, &lab.api, relay);
        let heir = if event.moves() { taken_over(watch, &holder, since) } else { steady(watch) };
        let seen = gap.end();
        let back = |it: &Ended| Some((seen.began? + seen.longest).saturating_since(it.at));
        let sample = Sample {
            lasted: ended.as_ref().map(|it| it.lasted),
            back: ended.as_ref().and_then(back),
            answer: watch
                .first_other(&holder, since)
                .filter(|_| event.moves())
                .map(|it| it.saturating_since(since)),
            ..sample(seen, watch, since)
        };
        let again = event.undone().map(|_| Gap::begin(system.vip()));
        let undone = clock::now();
        event.heal(&holder, system);
        // What is not undone has been waited for.
        let after = if event.moves() { steady(watch) } else { heir.clone() };
        system.settled(&after);
        if let Some(gap) = again {
            let key = (event, true, index);
            table.add(key, self::sample(gap.end(), watch, undone));
        }
        let moved = heir != holder;
        let sample = if moved { framed(sample, system, watch, &heir, since) } else { sample };
        table.add((event, false, index), sample);
        holder = after;
    }
}

/// Events fall anywhere between two renewals or advertisements.
fn phase(period: Duration) {
    let nanos = u128::from(clock::now().as_nanos()) % period.as_nanos();
    wait_for(Duration::from_nanos(nanos as u64), || false);
}

/// Waits until another node answers, and alone unless nothing would ever silence the old one.
fn taken_over(watch: &Watch, holder: &str, since: Instant) -> String {
    let other = |by: &BTreeSet<String>| by.iter().find(|it| *it != holder).cloned();
    let begun = wait_for(LONG, || watch.first_other(holder, since).is_some());
    assert!(begun, "nobody takes over from {holder}\n{}", watch.story(since));
    wait_for(DOUBLE, || {
        watch.spans(since).last().is_some_and(|it| {
            !it.by.contains(holder) && it.by.len() == 1 && it.to.saturating_since(it.from) >= CALM
        })
    });
    let spans = watch.spans(since);
    spans.iter().rev().find_map(|it| other(&it.by)).expect("another node has answered")
}

/// Waits until one node answers and goes on answering; returns its name.
fn steady(watch: &Watch) -> String {
    loop {
        let heir = watch.someone(LONG);
        wait_for(CALM, || false);
        if watch.someone(LONG) == heir {
            return heir;
        }
    }
}

fn sample(seen: Seen, watch: &Watch, since: Instant) -> Sample {
    let two = watch.two_answered(since);
    Sample { gap: seen.longest, lost: seen.lost, two, ..Sample::default() }
}

/// With the times from the heir's election to its first gratuitous frame.
fn framed(
    sample: Sample,
    system: &dyn System,
    watch: &Watch,
    heir: &str,
    since: Instant,
) -> Sample {
    let heard = watch.heard(since).into_iter().find(|it| it.kind != "probe" && it.by == heir);
    let election = system.election(heir, since);
    let (Some(heard), Some(election)) = (heard, election) else { return sample };
    let until = |from| heard.at.saturating_since(from);
    Sample {
        write_to_frame: Some(until(election.written)),
        decision_to_frame: Some(until(election.decided)),
        ..sample
    }
}
