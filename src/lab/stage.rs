//! The nodes with their daemons and the witnesses at the client: what happens to a node,
//! what undoes it, and what a client saw meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::daemon::{Daemon, Program, last_line, log, spawn};
use super::failover::{Failover, Noticed};
use super::gap::Gap;
use super::members::{is_connected, leader};
use super::net::{NAMES, NODES, Net};
use super::options::{Event, Whom};
use super::watch::{By, Watch};
use crate::io::clock;
use crate::model::Instant;

/// Longer than any takeover.
pub const LONG: Duration = Duration::from_secs(30);
/// So long one node must answer alone, and each echo come back, until it is the heir.
const CALM: Duration = Duration::from_millis(200);
/// The same before the next round.
const SETTLED: Duration = Duration::from_secs(1);
/// Whoever still answers so long after all was undone has not lost the VIP.
const KEPT: Duration = Duration::from_secs(2);
/// Echoes younger than this may still be answered.
pub const UNDER_WAY: Duration = Duration::from_millis(50);
/// What a witness remembers: two minutes.
const KEEP: usize = 60_000;
/// News that nobody has read yet.
const MOST_NEWS: usize = 100;

/// Everything that is played with.
#[derive(Debug)]
pub struct Stage {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The VIPs and their witnesses.
    pub vips: Vec<Witnessed>,
    /// What came of all events that are over.
    pub failovers: Vec<Failover>,
    /// For how long two nodes ever answered at a time.
    pub two: Duration,
    /// When it began.
    pub began: Instant,
    /// What has changed, for people, until it is taken.
    pub news: VecDeque<(Instant, String)>,
    judged: Instant,
    orders: Vec<(usize, Child)>,
    pending: Option<Pending>,
    net: Net,
    program: Program,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// What has happened to it and is not undone, and when it will be by itself.
    pub troubles: BTreeMap<Event, Option<Instant>>,
    /// How its daemon ended that was not made to.
    pub ended: Option<String>,
    daemon: Option<Daemon>,
    log: File,
}

/// A VIP and who watches it.
#[derive(Debug)]
pub struct Witnessed {
    /// The address.
    pub ip: Ipv4Addr,
    /// How a client does.
    pub gap: Gap,
    /// Who answers it.
    pub by: By,
    watch: Watch,
}

#[derive(Clone, Debug)]
struct Pending {
    event: Event,
    at: Instant,
    from: usize,
    held: Vec<usize>,
    undone_at: Option<Instant>,
}

impl Stage {
    /// Builds the network, and starts the daemons and the witnesses.
    pub fn build(program: Program, vips: Vec<Ipv4Addr>, logs: Vec<File>) -> Result<Self, String> {
        let net = Net::build()?;
        program.prepare()?;
        let witnessed = |ip: Ipv4Addr| {
            let go = || {
                let client = net.client.clone();
                move || client.enter().expect("the namespace is ours")
            };
            let gap = Gap::begin(ip.into(), KEEP, go());
            Witnessed { ip, gap, by: By::default(), watch: Watch::begin(ip, KEEP, go()) }
        };
        let vips = vips.into_iter().map(witnessed).collect();
        let node = |log| Node { troubles: BTreeMap::new(), ended: None, daemon: None, log };
        let began = clock::now();
        let mut stage = Self {
            nodes: logs.into_iter().map(node).collect(),
            vips,
            failovers: Vec::new(),
            two: Duration::ZERO,
            began,
            news: VecDeque::new(),
            judged: began,
            orders: Vec::new(),
            pending: None,
            net,
            program,
        };
        (0..NODES).try_for_each(|it| stage.start(it))?;
        Ok(stage)
    }

    /// Does what is due, and sees what has changed.
    pub fn tick(&mut self, now: Instant) -> Result<(), String> {
        for node in 0..NODES {
            self.look_after(node, now)?;
        }
        self.obey(now);
        self.look(now);
        if let Some(pending) = self.pending.clone()
            && let Some(to) = self.heir(&pending, now)
        {
            self.close(&pending, to, now);
        }
        Ok(())
    }

    /// Lets an event happen.
    pub fn strike(&mut self, event: Event, whom: Whom, now: Instant) -> Result<(), String> {
        let holder = || self.vips.iter().find_map(|it| holder(&it.by));
        let from = match whom {
            Whom::Node(node) => node,
            Whom::Holder => match holder() {
                Some(node) => node,
                None => {
                    self.say(now, format!("{}: nobody answers", event.name()));
                    return Ok(());
                }
            },
        };
        if self.nodes[from].troubles.contains_key(&event) {
            return Ok(());
        }
        if let Some(pending) = self.pending.clone() {
            self.close(&pending, self.calm(&pending.held, CALM, now), now);
        }
        let held = (0..self.vips.len()).filter(|it| holder_is(&self.vips[*it].by, from));
        let held = held.collect();
        self.say(now, format!("{} {}", event.name(), NAMES[from]));
        // The clock goes first: the client's gap may begin before this call is over.
        let at = clock::now();
        self.pending = Some(Pending { event, at, from, held, undone_at: None });
        let after = |it| Some(at + Duration::from_secs(it));
        let undone_at = match event {
            Event::Kill | Event::Term => after(1),
            Event::Stop => after(3),
            Event::Cut | Event::Carrier | Event::Drain => None,
        };
        self.nodes[from].troubles.insert(event, undone_at);
        match event {
            Event::Kill => self.signal(from, Signal::SIGKILL),
            Event::Term => self.signal(from, Signal::SIGTERM),
            Event::Stop => self.signal(from, Signal::SIGSTOP),
            Event::Cut => self.net.cut(from)?,
            Event::Carrier => self.net.unplug(from)?,
            Event::Drain => self.order(from, "drain")?,
        }
        Ok(())
    }

    /// Undoes what would not be undone by itself, and all the rest, too, if asked to.
    pub fn heal(&mut self, node: usize, all: bool, now: Instant) -> Result<(), String> {
        for (event, at) in self.nodes[node].troubles.clone() {
            if all || at.is_none() {
                self.undo(node, event, now)?;
            }
        }
        if all && self.nodes[node].daemon.is_none() {
            self.start(node)?;
        }
        Ok(())
    }

    /// Whether the last event is over.
    pub fn is_over(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether nothing is wrong with any node, one answers for each VIP and has for a while,
    /// and all members have found each other.
    pub fn is_settled(&self, now: Instant) -> bool {
        let well = |it: &Node| it.daemon.is_some() && it.troubles.is_empty();
        let all: Vec<_> = (0..self.vips.len()).collect();
        self.is_over()
            && self.nodes.iter().all(well)
            && self.calm(&all, SETTLED, now).is_some()
            && (0..NODES).all(is_connected)
    }

    /// What the clients of all VIPs noticed, between these moments.
    pub fn noticed(&self, since: Instant, until: Instant) -> Noticed {
        let all: Vec<_> = (0..self.vips.len()).collect();
        self.measured(&all, since, until)
    }

    /// What is not as it must be, for [`Stage::is_settled`].
    pub fn complaint(&self) -> String {
        let vip = |it: &Witnessed| {
            let by: Vec<_> = answering(&it.by).collect();
            let by = if by.is_empty() { "nobody".into() } else { by.join(" and ") };
            format!("{by} answers for {}", it.ip)
        };
        let vips = self.vips.iter().map(vip);
        let logs = NAMES.iter().zip(&self.nodes);
        let logs = logs.map(|(name, it)| format!("{name} said last: {}", last_line(&it.log)));
        vips.chain(logs).collect::<Vec<_>>().join("; ")
    }

    fn look_after(&mut self, node: usize, now: Instant) -> Result<(), String> {
        let it = &mut self.nodes[node];
        if let Some(daemon) = &mut it.daemon
            && let Some(status) = daemon.ended()
        {
            let meant = [Event::Kill, Event::Term].iter().any(|to| it.troubles.contains_key(to));
            let words = daemon.last_words(status);
            it.daemon = None;
            if !meant {
                it.ended = Some(words.clone());
                self.say(now, words);
            }
        }
        let due = |(event, at): (&Event, &Option<Instant>)| {
            at.is_some_and(|it| it <= now).then_some(*event)
        };
        let due: Vec<_> = self.nodes[node].troubles.iter().filter_map(due).collect();
        for event in due {
            // Whoever was asked to end takes the time for it.
            let ending = event == Event::Term && self.nodes[node].daemon.is_some();
            if !ending {
                self.undo(node, event, now)?;
            }
        }
        Ok(())
    }

    fn look(&mut self, now: Instant) {
        let until = now - UNDER_WAY;
        let mut longest = Duration::ZERO;
        for vip in 0..self.vips.len() {
            let it = &mut self.vips[vip];
            longest = longest.max(it.watch.two(self.judged, until));
            let by = it.watch.now();
            if by == it.by {
                continue;
            }
            it.by = by;
            let who: Vec<_> = answering(&by).collect();
            let text = match who[..] {
                [] => format!("nobody answers for {}", it.ip),
                [one] => format!("{one} answers for {}", it.ip),
                _ => format!("{} answer for {} at a time", who.join(" and "), it.ip),
            };
            self.say(now, text);
        }
        self.two += longest;
        self.judged = until.max(self.judged);
    }

    /// Who has what the node had that was struck, once that is clear.
    fn heir(&self, pending: &Pending, now: Instant) -> Option<Option<usize>> {
        let Pending { at, from, undone_at, held, .. } = pending;
        if now < *at + CALM + UNDER_WAY {
            return None;
        }
        if now > *at + LONG {
            return Some(self.calm(held, CALM, now));
        }
        let kept = match undone_at {
            _ if held.is_empty() => true,
            Some(undone) => now > *undone + KEPT,
            None => false,
        };
        let to = self.calm(held, CALM, now)?;
        let moved = held.iter().all(|it| !holder_is(&self.vips[*it].by, *from));
        (kept || moved).then_some(Some(to))
    }

    /// Who has these VIPs, or the first of them, if for so long each was answered for by
    /// one node only and no echo was lost.
    fn calm(&self, vips: &[usize], long: Duration, now: Instant) -> Option<usize> {
        let until = now - UNDER_WAY;
        let one = |vip: &usize| {
            let it = &self.vips[*vip];
            let seen = it.gap.seen(until - long, until);
            if seen.lost > 0 || seen.sent == 0 {
                return None;
            }
            it.watch.only(until - long).filter(|it| *it < NODES)
        };
        let vips = if vips.is_empty() { &[0] } else { vips };
        let owners: Option<Vec<_>> = vips.iter().map(one).collect();
        owners?.first().copied()
    }

    fn close(&mut self, pending: &Pending, to: Option<usize>, now: Instant) {
        let Pending { event, at, from, ref held, .. } = *pending;
        let noticed = self.measured(held, at, now - UNDER_WAY);
        let failover = Failover { event, at, from, held: !held.is_empty(), to, noticed };
        self.say(now, failover.text());
        self.failovers.push(failover);
        self.pending = None;
    }

    fn measured(&self, vips: &[usize], since: Instant, until: Instant) -> Noticed {
        let mut all = Noticed::default();
        for it in vips.iter().map(|it| &self.vips[*it]) {
            all.gap = all.gap.max(it.gap.seen(since, until).longest);
            all.unresolved = all.unresolved.max(it.watch.silence(since, until));
            all.two = all.two.max(it.watch.two(since, until));
        }
        all
    }

    fn undo(&mut self, node: usize, event: Event, now: Instant) -> Result<(), String> {
        self.nodes[node].troubles.remove(&event);
        let is_cut = self.nodes[node].troubles.contains_key(&Event::Cut);
        let is_unplugged = self.nodes[node].troubles.contains_key(&Event::Carrier);
        let done = match event {
            Event::Kill | Event::Term => {
                self.start(node)?;
                "starts again"
            }
            Event::Stop => {
                self.signal(node, Signal::SIGCONT);
                "goes on"
            }
            Event::Cut => {
                if !is_unplugged {
                    self.net.join(node)?;
                }
                "is joined again"
            }
            Event::Carrier => {
                self.net.plug(node)?;
                if is_cut {
                    self.net.cut(node)?;
                }
                "has a carrier again"
            }
            Event::Drain => {
                self.order(node, "undrain")?;
                "is drained no more"
            }
        };
        if let Some(pending) = &mut self.pending
            && (pending.from, pending.event) == (node, event)
        {
            pending.undone_at = Some(now);
        }
        self.say(now, format!("{} {done}", NAMES[node]));
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<(), String> {
        let it = &mut self.nodes[node];
        // What stands there is ended first, and with it what was done to it.
        it.daemon = None;
        it.ended = None;
        it.troubles.remove(&Event::Stop);
        it.daemon = Some(Daemon::start(&self.program, &self.net.nodes[node], node, &it.log)?);
        Ok(())
    }

    fn signal(&self, node: usize, signal: Signal) {
        if let Some(daemon) = &self.nodes[node].daemon {
            daemon.signal(signal);
        }
    }

    /// Orders are the leader's to take.
    fn order(&mut self, node: usize, word: &str) -> Result<(), String> {
        let asked =
            (0..NODES).filter(|it| self.nodes[*it].troubles.keys().all(|it| *it == Event::Drain));
        let to = asked.into_iter().find_map(leader).unwrap_or(node);
        let log = &self.nodes[to].log;
        let child = spawn(&self.program, &self.net.nodes[to], to, &[word, NAMES[node]], log)?;
        self.orders.push((to, child));
        Ok(())
    }

    /// Hears what came of orders.
    fn obey(&mut self, now: Instant) {
        let mut refused = Vec::new();
        self.orders.retain_mut(|(to, child)| match child.try_wait() {
            Ok(Some(status)) if !status.success() => {
                refused.push(*to);
                false
            }
            Ok(Some(_)) | Err(_) => false,
            Ok(None) => true,
        });
        for to in refused {
            let why = last_line(&self.nodes[to].log);
            self.say(now, format!("{} refuses: {why}", NAMES[to]));
        }
    }

    fn say(&mut self, now: Instant, text: String) {
        if self.news.len() == MOST_NEWS {
            self.news.pop_front();
        }
        self.news.push_back((now, text));
    }
}

/// The logs of all nodes, in a folder or inside.
pub fn logs(folder: Option<&Path>) -> Result<Vec<File>, String> {
    (0..NODES).map(|it| log(folder, it)).collect()
}

/// The names of those who answer.
pub fn answering(by: &By) -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(["a stranger"]).zip(*by).filter_map(|(name, it)| it.then_some(name))
}

fn holder(by: &By) -> Option<usize> {
    by.iter().take(NODES).position(|it| *it)
}

fn holder_is(by: &By, node: usize) -> bool {
    by.get(node) == Some(&true)
}
