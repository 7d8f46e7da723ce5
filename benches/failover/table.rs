//! What was seen in all rounds, as a table in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::event::Event;

/// What was seen of one event in one round.
#[derive(Default)]
pub struct Sample {
    /// How long the client had no answer, at worst.
    pub gap: Duration,
    /// From the event to the first answer of another node, where the VIP moves.
    pub answer: Option<Duration>,
    /// How many of its probes were lost.
    pub lost: usize,
    /// From the first question that two nodes answered to the last.
    pub two: Duration,
    /// How long an event lasted that ended by itself.
    pub lasted: Option<Duration>,
    /// From the end of such an event to the first answer, where there was none meanwhile.
    pub back: Option<Duration>,
    /// From the write that won the election to the heir's first gratuitous frame.
    pub write_to_frame: Option<Duration>,
    /// From the answer to that write to the heir's first gratuitous frame.
    pub decision_to_frame: Option<Duration>,
}

/// What a row is about: the event, whether it is the undoing of it, and the system.
pub type Key = (Event, bool, usize);

/// Rows of samples, in the order of events, then of systems.
#[derive(Default)]
pub struct Table {
    rows: BTreeMap<Key, Vec<Sample>>,
}

const HEAD: &str = "\
| event | system | n | client's gap, ms: min / p50 / p99 / max | answer, ms: p50 / p99 / max | lost probes: p50 / max \
| two answer, ms: max | event lasted, ms: p50 | its end to answer, ms: p50 / max \
| Lease write to frame, ms: p50 / max | decision to frame, ms: min / p50 / p99 / max |
|---|---|---|---|---|---|---|---|---|---|---|
";

impl Table {
    /// Adds what was seen.
    pub fn add(&mut self, key: Key, sample: Sample) {
        self.rows.entry(key).or_default().push(sample);
    }

    /// The whole, for systems of these names.
    pub fn text(&self, systems: &[String]) -> String {
        let mut text = HEAD.to_string();
        for ((event, undone, system), all) in &self.rows {
            let name = if *undone { event.undone().unwrap_or_default() } else { event.name() };
            let of = |figure: fn(&Sample) -> Option<Duration>| -> Vec<f64> {
                all.iter().filter_map(figure).map(|it| it.as_secs_f64() * 1_000.0).collect()
            };
            let lost = all.iter().map(|it| it.lost as f64).collect();
            let cells = [
                name.to_string(),
                systems[*system].clone(),
                all.len().to_string(),
                quantiles(of(|it| Some(it.gap)), &[0.0, 0.5, 0.99, 1.0], 0),
                quantiles(of(|it| it.answer), &[0.5, 0.99, 1.0], 0),
                quantiles(lost, &[0.5, 1.0], 0),
                quantiles(of(|it| Some(it.two)), &[1.0], 0),
                quantiles(of(|it| it.lasted), &[0.5], 0),
                quantiles(of(|it| it.back), &[0.5, 1.0], 0),
                quantiles(of(|it| it.write_to_frame), &[0.5, 1.0], 1),
                quantiles(of(|it| it.decision_to_frame), &[0.0, 0.5, 0.99, 1.0], 1),
            ];
            _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }

    /// The decisions of all events together, a line for each system that has them.
    pub fn decisions(&self, systems: &[String]) -> String {
        let mut text = String::new();
        for (index, name) in systems.iter().enumerate() {
            let rows = self.rows.iter().filter(|(key, _)| key.2 == index && key.0 != Event::First);
            let all = rows.flat_map(|it| it.1).filter_map(|it| it.decision_to_frame);
            let all: Vec<_> = all.map(|it| it.as_secs_f64() * 1_000.0).collect();
            if !all.is_empty() {
                let n = all.len();
                let quantiles = quantiles(all, &[0.0, 0.5, 0.99, 1.0], 1);
                _ = writeln!(
                    text,
                    "decision to first frame, all takeovers of {name} (n = {n}), ms: \
                     min / p50 / p99 / max = {quantiles}"
                );
            }
        }
        text
    }
}

/// The values at these shares of all, by the nearest rank.
fn quantiles(mut all: Vec<f64>, shares: &[f64], digits: usize) -> String {
    if all.is_empty() {
        return "–".into();
    }
    all.sort_by(f64::total_cmp);
    let rank = |share: f64| (share * all.len() as f64).ceil().max(1.0) as usize - 1;
    let at = shares.iter().map(|it| format!("{:.digits$}", all[rank(*it)]));
    at.collect::<Vec<_>>().join(" / ")
}
