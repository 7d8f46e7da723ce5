//! What came of an event.

use std::time::Duration;

use super::net::NAMES;
use super::options::Event;
use crate::model::Instant;

/// What came of an event.
#[derive(Clone, Debug)]
pub struct Failover {
    /// What happened.
    pub event: Event,
    /// When.
    pub at: Instant,
    /// To which node.
    pub from: usize,
    /// Whether that had a VIP.
    pub held: bool,
    /// Which node has answered since.
    pub to: Option<usize>,
    /// What clients noticed.
    pub noticed: Noticed,
}

/// What clients noticed, each figure the worst of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Noticed {
    /// How long one that knows the VIP got no answer to its packets.
    pub gap: Duration,
    /// How long one that does not know it yet was not told who has it.
    pub unresolved: Duration,
    /// For how long more than one node said so.
    pub two: Duration,
}

impl Failover {
    /// In words.
    pub fn text(&self) -> String {
        let (event, from) = (self.event.name(), NAMES[self.from]);
        let to = match self.to {
            _ if !self.held => "had no VIP".into(),
            Some(to) if to == self.from => "kept it".into(),
            Some(to) => format!("-> {}", NAMES[to]),
            None => "-> nobody".into(),
        };
        let Noticed { gap, unresolved, two } = self.noticed;
        let (gap, new, two) = (millis(gap), millis(unresolved), whole_millis(two));
        format!(
            "{event} {from} {to}: gap {gap:.1} ms, new clients {new:.1} ms, two holders {two} ms"
        )
    }
}

/// For people and for machines.
pub fn millis(it: Duration) -> f64 {
    (it.as_secs_f64() * 10_000.0).round() / 10.0
}

/// A part of one is one: only never is nothing.
pub fn whole_millis(it: Duration) -> u64 {
    it.as_micros().div_ceil(1_000) as u64
}
