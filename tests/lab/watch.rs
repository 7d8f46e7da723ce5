//! Witness: who answers for a VIP, asked every 10 ms, and who announces it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use edgevip::io::clock;
use edgevip::lab::packet::{Said, listen, question};
use edgevip::lab::socket::{Socket, hurry};
use edgevip::model::Instant;

use super::{millis, net, wait_for};

/// How often it asks.
pub const PERIOD: Duration = Duration::from_millis(10);
/// An answer that takes longer is counted as none.
const PATIENCE: Duration = Duration::from_millis(300);
/// So many of the newest questions may still be answered: that is not yet silence.
const UNSETTLED: usize = 3;
/// The addresses questions come from: `10.77.0.128` and on, `fd77::80` and on.
const FIRST_ASKER: u8 = 128;
/// How many askers take turns; their turn must come round later than `PATIENCE`.
const ASKERS: usize = 64;
/// Not the watching host's own, so that its kernel takes no part.
const MAC: [u8; 6] = [2, 0, 0, 0x77, 1, 1];

/// A question and who answered it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it was asked.
    pub at: Instant,
    /// The names of those who answered, or their hardware addresses where they have no name.
    pub by: BTreeSet<String>,
}

/// An unasked announcement, or a probe.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When it was heard.
    pub at: Instant,
    /// Who sent it.
    pub by: String,
    /// What it was: `request`, `reply`, `advertisement` or `probe`.
    pub kind: &'static str,
}

/// A stretch of time in which the same nodes answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Span {
    /// When it began.
    pub from: Instant,
    /// When the next began.
    pub to: Instant,
    /// Who answered.
    pub by: BTreeSet<String>,
}

/// Watches one VIP from a host that does nothing else, until dropped.
pub struct Watch {
    ip: IpAddr,
    record: Arc<Mutex<Record>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    asked: Vec<Asked>,
    heard: Vec<Heard>,
}

impl Watch {
    /// Begins.
    pub fn begin(ip: IpAddr) -> Self {
        let (record, over) = (Arc::<Mutex<Record>>::default(), Arc::<AtomicBool>::default());
        let (to, until) = (Arc::clone(&record), Arc::clone(&over));
        let thread = Some(thread::spawn(move || watch(ip, &to, &until)));
        Self { ip, record, over, thread }
    }

    /// Waits until every question of the last 100 ms was answered by this node and no other.
    pub fn only(&self, node: &str, within: Duration) -> Instant {
        let wanted = BTreeSet::from([node.to_string()]);
        self.settled(&format!("only {node} answers for {}", self.ip), within, |it| *it == wanted);
        self.record().asked.last().map_or_else(clock::now, |it| it.at)
    }

    /// Waits until one node answers, whichever; returns its name.
    pub fn someone(&self, within: Duration) -> String {
        self.settled(&format!("one answers for {}", self.ip), within, |it| it.len() == 1)
            .into_iter()
            .next()
            .expect("there is one")
    }

    /// Waits until one node other than these answers.
    pub fn other_than(&self, nodes: &[&str], within: Duration) -> String {
        let what = format!("one other than {nodes:?} answers for {}", self.ip);
        self.settled(&what, within, |it| {
            it.len() == 1 && !it.iter().any(|by| nodes.contains(&by.as_str()))
        })
        .into_iter()
        .next()
        .expect("there is one")
    }

    /// Waits until nobody answers.
    pub fn nobody(&self, within: Duration) {
        self.settled(&format!("nobody answers for {}", self.ip), within, BTreeSet::is_empty);
    }

    /// Who answered, by stretches, since then.
    pub fn spans(&self, since: Instant) -> Vec<Span> {
        let asked = &self.record().asked;
        let settled = asked.len().saturating_sub(UNSETTLED);
        spans(asked[..settled].iter().filter(|it| it.at >= since))
    }

    /// How long more than one answered since then: from the first such question to the last.
    pub fn two_answered(&self, since: Instant) -> Duration {
        let record = self.record();
        let mut two = record.asked.iter().filter(|it| it.at >= since && it.by.len() > 1);
        let first = two.next();
        let last = two.next_back().or(first);
        match (first, last) {
            (Some(first), Some(last)) => last.at.saturating_since(first.at) + PERIOD,
            _ => Duration::ZERO,
        }
    }

    /// When anybody first answered after that moment.
    pub fn first(&self, since: Instant) -> Option<Instant> {
        self.first_other("", since)
    }

    /// When somebody other than this node first answered after that moment.
    pub fn first_other(&self, node: &str, since: Instant) -> Option<Instant> {
        let record = self.record();
        let mut asked = record.asked.iter().filter(|it| it.at >= since);
        asked.find(|it| it.by.iter().any(|by| by != node)).map(|it| it.at)
    }

    /// Announcements and probes since then.
    pub fn heard(&self, since: Instant) -> Vec<Heard> {
        self.record().heard.iter().filter(|it| it.at >= since).cloned().collect()
    }

    /// A line a stretch, for people.
    pub fn story(&self, since: Instant) -> String {
        let spans = self.spans(since);
        let lines = spans.iter().map(|it| {
            let at = millis(it.from.saturating_since(since));
            let long = millis(it.to.saturating_since(it.from));
            format!("    {at:>8} ms  {:<10} answers for {long} ms\n", name(&it.by))
        });
        lines.collect()
    }

    fn settled(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&BTreeSet<String>) -> bool,
    ) -> BTreeSet<String> {
        let began = clock::now();
        let mut now = BTreeSet::new();
        let fine = wait_for(within, || {
            let record = self.record();
            let last = record.asked.iter().rev().filter(|it| it.at >= began);
            let recent: Vec<_> = last.skip(UNSETTLED).take(10).collect();
            now = recent.first().map(|it| it.by.clone()).unwrap_or_default();
            recent.len() == 10 && recent.iter().all(|it| it.by == now) && wanted(&now)
        });
        assert!(fine, "not within {} ms: {what}\n{}", millis(within), self.story(began));
        now
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(|it| it.into_inner())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn watch(ip: IpAddr, record: &Mutex<Record>, over: &AtomicBool) {
    net::join("watch");
    hurry();
    let socket = Socket::on_link("eth0").expect("packet sockets are allowed in the laboratory");
    let mut buffer = [0; 2048];
    let mut next = clock::now();
    for round in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let lock = || record.lock().unwrap_or_else(|it| it.into_inner());
        let asker = FIRST_ASKER + (round % ASKERS) as u8;
        lock().asked.push(Asked { at: clock::now(), by: BTreeSet::new() });
        socket.send(&question(MAC, ip, address(ip, asker)));
        next = (next + PERIOD).max(clock::now());
        while let Some(frame) = socket.receive(&mut buffer, next) {
            if let Some(said) = listen(frame) {
                lock().note(ip, said);
            }
        }
    }
}

impl Record {
    fn note(&mut self, vip: IpAddr, said: Said) {
        let at = clock::now();
        let (ip, mac, kind) = match said {
            Said::Answer { ip, mac, asker } if ip == vip => {
                let newest = self.asked.len() - 1;
                let behind = (newest % ASKERS + ASKERS)
                    .wrapping_sub(usize::from(asker.wrapping_sub(FIRST_ASKER)))
                    % ASKERS;
                if let Some(asked) =
                    newest.checked_sub(behind).and_then(|it| self.asked.get_mut(it))
                    && at.saturating_since(asked.at) < PATIENCE
                {
                    asked.by.insert(who(mac));
                }
                return;
            }
            Said::Answer { .. } => return,
            Said::Announcement { ip, mac, .. } if ip.is_ipv6() => (ip, mac, "advertisement"),
            Said::Announcement { ip, mac, reply: true } => (ip, mac, "reply"),
            Said::Announcement { ip, mac, reply: false } => (ip, mac, "request"),
            Said::Probe { ip, mac } => (ip, mac, "probe"),
        };
        if ip == vip {
            self.heard.push(Heard { at, by: who(mac), kind });
        }
    }
}

fn address(vip: IpAddr, asker: u8) -> IpAddr {
    match vip {
        IpAddr::V4(_) => Ipv4Addr::new(10, 77, 0, asker).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(asker)).into(),
    }
}

fn who(mac: [u8; 6]) -> String {
    let hex = || mac.map(|it| format!("{it:02x}")).join(":");
    net::host_of(mac).map_or_else(hex, str::to_string)
}

fn name(by: &BTreeSet<String>) -> String {
    if by.is_empty() { "nobody".into() } else { by.iter().cloned().collect::<Vec<_>>().join("+") }
}

fn spans<'a>(asked: impl Iterator<Item = &'a Asked>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for Asked { at, by } in asked {
        if let Some(last) = spans.last_mut() {
            last.to = *at;
            if last.by == *by {
                continue;
            }
        }
        spans.push(Span { from: *at, to: *at, by: by.clone() });
    }
    spans
}

#[cfg(test)]
#[allow(unused_imports, reason = "without the harness there are no tests")]
mod tests {
    use super::*;

    fn asked(at: u64, by: &[&str]) -> Asked {
        let by = by.iter().map(|it| it.to_string()).collect();
        Asked { at: Instant::from_nanos(at), by }
    }

    #[test]
    fn equal_answers_make_one_span_that_ends_where_the_next_begins() {
        let all = [asked(1, &["n1"]), asked(2, &["n1"]), asked(3, &[]), asked(4, &["n1", "n2"])];
        let found = spans(all.iter());
        let times: Vec<_> = found.iter().map(|it| (it.from.as_nanos(), it.to.as_nanos())).collect();
        assert_eq!(times, [(1, 3), (3, 4), (4, 4)]);
        assert_eq!(
            found.iter().map(|it| name(&it.by)).collect::<Vec<_>>(),
            ["n1", "nobody", "n1+n2"]
        );
    }

    #[test]
    fn an_answer_is_put_to_the_question_it_answers() {
        let ip = "10.77.0.50".parse().unwrap();
        let mut record = Record::default();
        let now = clock::now();
        record.asked.extend((0..70).map(|_| Asked { at: now, by: BTreeSet::new() }));
        let mac = [2, 0, 0, 0x77, 0, 11];
        for asker in [FIRST_ASKER + 5, FIRST_ASKER + 60] {
            record.note(ip, Said::Answer { ip, mac, asker });
        }
        let answered: Vec<_> = (0..70).filter(|it| !record.asked[*it].by.is_empty()).collect();
        assert_eq!(answered, [60, 69]);
    }
}
