//! How this member is: what its probes say, and how late it gets to its timers.

use std::time::Duration;

use crate::engine::{Action, Cx, Deadline};
use crate::model::{Ailment, Instant, Probe};

use super::ProbeRule;

/// A timer that was so many late within [`LATE_FOR`] makes a member ill.
const LATE_OFTEN: u32 = 3;
const LATE_FOR: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Fitness {
    probes: Vec<Asking>,
    /// What counts as late, how often it was, and when it was last.
    tolerance: Duration,
    late: u32,
    late_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Asking {
    probe: Probe,
    rule: ProbeRule,
    ask_at: Instant,
    asked: bool,
    /// Results in a row that speak against what it is taken for.
    against: u32,
    /// Why it is ill, if it is.
    ill: Option<String>,
}

impl Fitness {
    pub fn new(
        health: Option<ProbeRule>,
        check: Option<ProbeRule>,
        tolerance: Duration,
        now: Instant,
    ) -> Self {
        let asking = |probe, rule: Option<ProbeRule>| {
            rule.map(|rule| Asking {
                probe,
                rule,
                ask_at: now,
                asked: false,
                against: 0,
                ill: None,
            })
        };
        let probes = [asking(Probe::Health, health), asking(Probe::Check, check)];
        let probes = probes.into_iter().flatten().collect();
        Self { probes, tolerance, late: 0, late_at: None }
    }

    pub fn on_probed(&mut self, now: Instant, probe: Probe, failure: Option<String>) {
        let Some(it) = self.probes.iter_mut().find(|it| it.probe == probe) else {
            return;
        };
        it.asked = false;
        it.ask_at = it.ask_at.max(now);
        let enough = match (&it.ill, &failure) {
            (None, Some(_)) => it.rule.fall,
            (Some(_), None) => it.rule.rise,
            (None, None) => {
                it.against = 0;
                return;
            }
            (Some(_), Some(_)) => {
                it.against = 0;
                it.ill = failure;
                return;
            }
        };
        it.against += 1;
        if it.against >= enough {
            it.against = 0;
            it.ill = failure;
        }
    }

    /// The process got to a timer so much later than it should. Returns whether that is too
    /// late.
    pub fn on_lateness(&mut self, now: Instant, late: Duration) -> bool {
        if late <= self.tolerance {
            return false;
        }
        let lately = self.late_at.is_some_and(|it| now < it + LATE_FOR);
        self.late = if lately { self.late.saturating_add(1) } else { 1 };
        self.late_at = Some(now);
        true
    }

    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        for it in &mut self.probes {
            if !it.asked && it.ask_at <= cx.now {
                it.asked = true;
                it.ask_at = cx.now + it.rule.interval;
                cx.act(Action::Probe(it.probe));
            }
        }
    }

    pub fn ailments(&self, now: Instant, carrier: bool) -> Vec<Ailment> {
        let mut ailments: Vec<_> = self
            .probes
            .iter()
            .filter(|it| it.ill.is_some())
            .map(|it| match it.probe {
                Probe::Check => Ailment::Check,
                Probe::Health => Ailment::Health,
            })
            .collect();
        if !carrier {
            ailments.push(Ailment::Carrier);
        }
        if self.late >= LATE_OFTEN && self.late_at.is_some_and(|it| now < it + LATE_FOR) {
            ailments.push(Ailment::Late);
        }
        ailments.sort();
        ailments
    }

    pub fn penalty(&self) -> u8 {
        let ill = self.probes.iter().filter(|it| it.ill.is_some());
        ill.fold(0, |sum, it| sum.saturating_add(it.rule.weight))
    }

    /// What the probes say against this member, in words.
    pub fn why(&self) -> impl Iterator<Item = &str> {
        self.probes.iter().filter_map(|it| it.ill.as_deref())
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let waiting = self.probes.iter().filter(|it| !it.asked);
        waiting.map(|it| Deadline { at: it.ask_at, why: "probe" }).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_some_failures_to_fall_ill_and_some_successes_to_recover() {
        let rule = ProbeRule { interval: Duration::from_secs(1), fall: 3, rise: 2, weight: 10 };
        let at = Instant::from_nanos(0);
        let table = [
            ("ff", false),
            ("fff", true),
            ("ffgff", false),
            ("fffg", true),
            ("fffgg", false),
            ("fffgfgg", false),
            ("fffgf", true),
        ];
        for (results, ill) in table {
            let mut fitness = Fitness::new(Some(rule), None, Duration::from_millis(30), at);
            for result in results.chars() {
                let failure = (result == 'f').then(|| "refused".to_owned());
                fitness.on_probed(at, Probe::Health, failure);
            }
            assert_eq!(fitness.ailments(at, true).contains(&Ailment::Health), ill, "{results}");
            assert_eq!(fitness.penalty(), if ill { 10 } else { 0 }, "{results}");
        }
    }

    #[test]
    fn timers_that_are_late_again_and_again_make_it_ill_for_a_while() {
        let ms = Duration::from_millis;
        let mut fitness = Fitness::new(None, None, ms(30), Instant::from_nanos(0));
        let at = |it| Instant::from_nanos(0) + ms(it);
        fitness.on_lateness(at(0), ms(40));
        fitness.on_lateness(at(100), ms(20));
        fitness.on_lateness(at(200), ms(40));
        assert!(fitness.ailments(at(200), true).is_empty());
        fitness.on_lateness(at(300), ms(31));
        assert_eq!(fitness.ailments(at(300), true), [Ailment::Late]);
        assert!(fitness.ailments(at(5_301), true).is_empty());
    }
}
