//! What many rounds come to, and what one does.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::net::NAMES;
use super::options::Event;
use super::stage::{Failover, millis};

/// What machines read of a round.
#[derive(Debug, Serialize)]
pub struct Line {
    event: &'static str,
    from: &'static str,
    to: Option<&'static str>,
    gap_ms: f64,
    two_holders_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    healed_gap_ms: Option<f64>,
}

impl Line {
    /// Of an event; `healed` is the client's gap while it was undone, where that was waited for.
    pub fn new(it: &Failover, healed: Option<Duration>) -> Self {
        Self {
            event: it.event.name(),
            from: NAMES[it.from],
            to: it.to.map(|it| NAMES[it]),
            gap_ms: millis(it.gap),
            // A part of one is one: only never is nothing.
            two_holders_ms: it.two.as_micros().div_ceil(1_000),
            healed_gap_ms: healed.map(millis),
        }
    }

    /// One object, one line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("plain values with string keys")
    }
}

/// The distribution of gaps, a line an event; nothing if nothing has happened.
pub fn distribution(failovers: &[Failover]) -> String {
    let mut rows: BTreeMap<Event, Vec<&Failover>> = BTreeMap::new();
    for it in failovers.iter().filter(|it| it.held) {
        rows.entry(it.event).or_default().push(it);
    }
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    _ = writeln!(
        text,
        "{:<8} {:>6} {:>8} {:>8} {:>8} {:>8}  two holders",
        "gap, ms", "rounds", "min", "p50", "p99", "max"
    );
    for (event, all) in rows {
        let mut gaps: Vec<_> = all.iter().map(|it| it.gap).collect();
        gaps.sort();
        // The nearest rank.
        let at = |percent: usize| {
            let rank = (percent * gaps.len()).div_ceil(100).max(1) - 1;
            millis(gaps.get(rank).copied().unwrap_or_default())
        };
        let two = all.iter().map(|it| it.two).max().unwrap_or_default();
        let two = if two.is_zero() {
            "never".into()
        } else {
            format!("{} ms", two.as_micros().div_ceil(1_000))
        };
        _ = writeln!(
            text,
            "{:<8} {:>6} {:>8.1} {:>8.1} {:>8.1} {:>8.1}  {two}",
            event.name(),
            gaps.len(),
            at(0),
            at(50),
            at(99),
            at(100)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Instant;

    fn failover(gap: u64) -> Failover {
        let (event, at) = (Event::Kill, Instant::from_nanos(0));
        let (gap, two) = (Duration::from_micros(gap), Duration::ZERO);
        Failover { event, at, from: 0, held: true, to: Some(2), gap, two }
    }

    #[test]
    fn a_round_is_one_object() {
        let line = Line::new(&failover(93_140), None).json();
        let expected = r#"{"event":"kill","from":"n1","to":"n3","gap_ms":93.1,"two_holders_ms":0}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let all: Vec<_> = (1..=200).rev().map(|it| failover(it * 1_000)).collect();
        let text = distribution(&all);
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["kill", "200", "1.0", "100.0", "198.0", "200.0", "never"]);
        assert_eq!(distribution(&[]), "");
    }
}
