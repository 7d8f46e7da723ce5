//! Who says what happens: the keys, a script, or rounds of events.

use std::collections::VecDeque;
use std::time::Duration;

use super::failover::{Failover, Noticed};
use super::net::NODES;
use super::options::{Event, Options, Order, Step, Whom, script};
use super::stage::{LONG, Stage, UNDER_WAY};
use super::table::Line;
use crate::io::process::entropy;
use crate::model::Instant;

/// What is left to happen.
#[derive(Debug)]
pub enum Plan {
    /// Whatever is struck.
    Keys {
        /// The node that is meant.
        chosen: usize,
    },
    /// These lines.
    Script {
        /// What is left of them.
        left: VecDeque<Step>,
        /// When the last was done, once anything was.
        last: Option<Instant>,
        /// How many failovers were told of.
        told: usize,
    },
    /// These events, one after another.
    Rounds {
        /// What is left of them.
        left: VecDeque<Event>,
        /// Where the round is.
        phase: Phase,
    },
}

/// Where a round is.
#[derive(Debug)]
pub enum Phase {
    /// All must be well first, waited for since then; what was undone is told of then.
    Settling(Option<Instant>, Option<(Instant, Failover)>),
    /// The event comes at this moment.
    Waiting(Instant),
    /// It came at this moment.
    Struck(Instant),
}

/// What comes after a step.
#[derive(Debug)]
pub enum Flow {
    /// The next.
    On,
    /// The next; and an event is over.
    Over(Line),
    /// Nothing.
    End,
}

/// Events fall anywhere within this time, between any two heartbeats.
const SPREAD: Duration = Duration::from_millis(300);
/// So long what is not undone by itself lasts at least.
const LASTS: Duration = Duration::from_secs(1);

impl Plan {
    /// The plan of these options. Without a terminal and anything else to do, it is one round.
    pub fn of(options: &Options, keys: bool) -> Result<Self, String> {
        if options.script.is_some() && options.rounds.is_some() {
            return Err("--script and --rounds: one of the two would be right".into());
        }
        if let Some(path) = &options.script {
            let name = path.display();
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|it| format!("--script: {name}: {it}"))?;
            let left = script(&text).map_err(|it| format!("--script: {name}: {it}"))?.into();
            return Ok(Self::Script { left, last: None, told: 0 });
        }
        if options.rounds.is_none() && keys && !options.json {
            return Ok(Self::Keys { chosen: 0 });
        }
        let rounds = (0..options.rounds.unwrap_or(1)).flat_map(|_| options.events.clone());
        Ok(Self::Rounds { left: rounds.collect(), phase: Phase::Settling(None, None) })
    }

    /// The node that is meant by keys.
    pub fn chosen(&self) -> usize {
        match self {
            Self::Keys { chosen } => *chosen,
            Self::Script { .. } | Self::Rounds { .. } => NODES,
        }
    }

    /// Does what is due.
    pub fn step(
        &mut self,
        stage: &mut Stage,
        key: Option<u8>,
        now: Instant,
    ) -> Result<Flow, String> {
        match self {
            Self::Keys { chosen } => struck(stage, chosen, key, now),
            Self::Script { left, last, told } => {
                if let Some(it) = stage.failovers.get(*told) {
                    *told += 1;
                    return Ok(Flow::Over(Line::new(it, None)));
                }
                scripted(stage, left, last, now)
            }
            Self::Rounds { left, phase } => round(stage, left, phase, now),
        }
    }
}

fn struck(
    stage: &mut Stage,
    chosen: &mut usize,
    key: Option<u8>,
    now: Instant,
) -> Result<Flow, String> {
    let Some(key) = key else { return Ok(Flow::On) };
    let event = match key.to_ascii_lowercase() {
        b'k' => Event::Kill,
        b's' => Event::Stop,
        b'c' => Event::Cut,
        b'l' => Event::Carrier,
        b'd' => Event::Drain,
        b't' => Event::Term,
        b'h' => {
            stage.heal(*chosen, true, now)?;
            return Ok(Flow::On);
        }
        b'q' => return Ok(Flow::End),
        digit => {
            let node = usize::from(digit.wrapping_sub(b'1'));
            *chosen = if node < NODES { node } else { *chosen };
            return Ok(Flow::On);
        }
    };
    stage.strike(event, Whom::Node(*chosen), now)?;
    Ok(Flow::On)
}

fn scripted(
    stage: &mut Stage,
    left: &mut VecDeque<Step>,
    last: &mut Option<Instant>,
    now: Instant,
) -> Result<Flow, String> {
    let Some(begun) = *last else {
        // The first line counts from when all is well.
        if stage.is_settled(now) {
            *last = Some(now);
        }
        return patient(stage, stage.began, now);
    };
    let Some(step) = left.front().copied() else {
        return Ok(if stage.is_over() { Flow::End } else { Flow::On });
    };
    let due = begun + step.after;
    if now < due {
        return Ok(Flow::On);
    }
    if step.order == Order::Settle && !stage.is_settled(now) {
        return patient(stage, due, now);
    }
    left.pop_front();
    *last = Some(now);
    match step.order {
        Order::Strike(event, whom) => stage.strike(event, whom, now)?,
        Order::Heal(Some(node)) => stage.heal(node, true, now)?,
        Order::Heal(None) => (0..NODES).try_for_each(|it| stage.heal(it, true, now))?,
        Order::Settle => {}
        Order::Quit => return Ok(Flow::End),
    }
    Ok(Flow::On)
}

fn round(
    stage: &mut Stage,
    left: &mut VecDeque<Event>,
    phase: &mut Phase,
    now: Instant,
) -> Result<Flow, String> {
    match phase {
        Phase::Settling(since, healed) => {
            let since = *since.get_or_insert(now);
            if !stage.is_settled(now) {
                return patient(stage, since, now);
            }
            let Some((undone, mut failover)) = healed.take() else {
                if left.is_empty() {
                    return Ok(Flow::End);
                }
                *phase = Phase::Waiting(now + SPREAD.mul_f64(entropy() as f64 / u64::MAX as f64));
                return Ok(Flow::On);
            };
            // Two may have answered when the one that was away came back.
            failover.noticed.two = stage.noticed(failover.at, now).two;
            if let Some(last) = stage.failovers.last_mut() {
                last.noticed.two = failover.noticed.two;
            }
            let Noticed { gap, .. } = stage.noticed(undone, now - UNDER_WAY);
            Ok(Flow::Over(Line::new(&failover, Some(gap))))
        }
        Phase::Waiting(until) => {
            if now >= *until
                && let Some(event) = left.pop_front()
            {
                stage.strike(event, Whom::Holder, now)?;
                *phase = Phase::Struck(now);
            }
            Ok(Flow::On)
        }
        Phase::Struck(at) => {
            if now < *at + LASTS || !stage.is_over() {
                return Ok(Flow::On);
            }
            let last = stage.failovers.last().cloned();
            (0..NODES).try_for_each(|it| stage.heal(it, false, now))?;
            *phase = Phase::Settling(None, last.map(|it| (now, it)));
            Ok(Flow::On)
        }
    }
}

/// Waits on, but not for ever.
fn patient(stage: &Stage, since: Instant, now: Instant) -> Result<Flow, String> {
    if let Some(why) = stage.nodes.iter().find_map(|it| it.ended.clone()) {
        return Err(why);
    }
    if now > since + LONG {
        return Err(format!("all is not well after {LONG:?}: {}", stage.complaint()));
    }
    Ok(Flow::On)
}
