//! What many rounds come to, and what one does.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::failover::{Failover, Noticed, millis, whole_millis};
use super::net::NAMES;
use super::options::Event;

/// What machines read of a round.
#[derive(Debug, Serialize)]
pub struct Line {
    event: &'static str,
    from: &'static str,
    to: Option<&'static str>,
    gap_ms: f64,
    new_client_gap_ms: f64,
    two_holders_ms: u64,
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
            gap_ms: millis(it.noticed.gap),
            new_client_gap_ms: millis(it.noticed.unresolved),
            two_holders_ms: whole_millis(it.noticed.two),
            healed_gap_ms: healed.map(millis),
        }
    }

    /// One object, one line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("plain values with string keys")
    }
}

/// In ms. New clients are those that do not know yet who has the VIP.
const HEAD: &str = "\
gap, ms rounds     min     p50     p99     max   new: p50      max  two holders
";

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
    text.push_str(HEAD);
    for (event, all) in rows {
        let of = |figure: fn(&Noticed) -> Duration| {
            let mut figures: Vec<_> = all.iter().map(|it| figure(&it.noticed)).collect();
            figures.sort();
            figures
        };
        let (gaps, new) = (of(|it| it.gap), of(|it| it.unresolved));
        let [min, p50, p99, max] = [0, 50, 99, 100].map(|it| rank(&gaps, it));
        let [new_p50, new_max] = [50, 100].map(|it| rank(&new, it));
        let two = match of(|it| it.two).last() {
            Some(two) if !two.is_zero() => format!("{} ms", whole_millis(*two)),
            Some(_) | None => "never".into(),
        };
        let (event, rounds) = (event.name(), gaps.len());
        _ = writeln!(
            text,
            "{event:<8}{rounds:>6}{min:>8.1}{p50:>8.1}{p99:>8.1}{max:>8.1}\
             {new_p50:>10.1}{new_max:>9.1}  {two}"
        );
    }
    text
}

/// The value that so many percent do not exceed, by the nearest rank.
fn rank(sorted: &[Duration], percent: usize) -> f64 {
    let at = (percent * sorted.len()).div_ceil(100).max(1) - 1;
    millis(sorted.get(at).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Instant;

    fn failover(gap: u64) -> Failover {
        let (event, at) = (Event::Kill, Instant::from_nanos(0));
        let gap = Duration::from_micros(gap);
        let noticed = Noticed { gap, unresolved: gap * 2, ..Noticed::default() };
        Failover { event, at, from: 0, held: true, to: Some(2), noticed }
    }

    #[test]
    fn a_round_is_one_object() {
        let line = Line::new(&failover(93_140), None).json();
        let expected = r#"{"event":"kill","from":"n1","to":"n3","gap_ms":93.1,"new_client_gap_ms":186.3,"two_holders_ms":0}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let all: Vec<_> = (1..=200).rev().map(|it| failover(it * 1_000)).collect();
        let text = distribution(&all);
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            ["kill", "200", "1.0", "100.0", "198.0", "200.0", "200.0", "400.0", "never"]
        );
        assert_eq!(distribution(&[]), "");
    }
}
