//! What a laboratory is asked for: options, events, and the lines of a script.

use std::path::PathBuf;
use std::time::Duration;

use super::net::{MOST_VIPS, NAMES};

/// What `edgevip lab` is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// So many rounds without keys.
    pub rounds: Option<u32>,
    /// The events of a round, in their order.
    pub events: Vec<Event>,
    /// One object a line rather than words.
    pub json: bool,
    /// The profile the daemons get.
    pub profile: Option<String>,
    /// So many VIPs.
    pub vips: u8,
    /// What happens, from a file.
    pub script: Option<PathBuf>,
    /// The folder where the daemons' logs are kept.
    pub logs: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let events = Event::ALL.iter().map(|it| it.1).collect();
        let (rounds, profile, script, logs) = (None, None, None, None);
        Self { rounds, events, json: false, profile, vips: 1, script, logs }
    }
}

/// What happens to a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Event {
    /// The daemon is killed, and started again a second later.
    Kill,
    /// The daemon hangs for three seconds.
    Stop,
    /// Nothing passes between the node and the switch any more; it keeps its carrier.
    Cut,
    /// The node's link loses its carrier.
    Carrier,
    /// The daemon is told to carry nothing for now.
    Drain,
    /// The daemon is asked to end, and started again a second later.
    Term,
}

impl Event {
    /// Every event, and its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("kill", Self::Kill),
        ("stop", Self::Stop),
        ("cut", Self::Cut),
        ("carrier", Self::Carrier),
        ("drain", Self::Drain),
        ("term", Self::Term),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|it| it.1 == self).map_or("", |it| it.0)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|it| it.0 == name).map(|it| it.1)
    }
}

/// To whom something happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whom {
    /// The node that answers.
    Holder,
    /// This node.
    Node(usize),
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Let it happen.
    Strike(Event, Whom),
    /// Undo all that has happened to a node, or to all.
    Heal(Option<usize>),
    /// Wait until all is well.
    Settle,
    /// End.
    Quit,
}

/// A line of a script.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// So long after the line before it.
    pub after: Duration,
    /// What to do.
    pub order: Order,
}

/// Events by their names, separated by commas.
pub fn events(names: &str) -> Result<Vec<Event>, String> {
    let event = |it: &str| {
        let why = || format!("{it:?} is no event; there are {}", event_names());
        Event::named(it).ok_or_else(why)
    };
    names.split(',').map(|it| event(it.trim())).collect()
}

/// A number of rounds.
pub fn rounds(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|it| (1..=100_000).contains(it));
    number.ok_or_else(|| "a number of rounds from 1 to 100000 would be right".into())
}

/// A number of VIPs.
pub fn vips(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|it| (1..=MOST_VIPS).contains(it));
    number.ok_or_else(|| format!("a number of VIPs from 1 to {MOST_VIPS} would be right"))
}

/// The name of a profile.
pub fn profile(text: &str) -> Result<String, String> {
    let known = ["fast", "default", "calm", "slow"].contains(&text);
    known.then(|| text.to_owned()).ok_or_else(|| "there are fast, default, calm and slow".into())
}

/// A script: a line an order, such as `after 2s kill holder`; `#` begins a remark.
pub fn script(text: &str) -> Result<Vec<Step>, String> {
    let lines = text.lines().enumerate().filter_map(|(number, line)| {
        let words: Vec<_> = line.split('#').next()?.split_whitespace().collect();
        let place = |why| format!("line {}: {why}", number + 1);
        (!words.is_empty()).then(|| step(&words).map_err(place))
    });
    lines.collect()
}

fn step(words: &[&str]) -> Result<Step, String> {
    let (after, words) = match words {
        ["after", time, rest @ ..] => (duration(time)?, rest),
        _ => (Duration::ZERO, words),
    };
    let order = match words {
        ["heal"] => Order::Heal(None),
        ["heal", node] => Order::Heal(Some(self::node(node)?)),
        ["quit"] => Order::Quit,
        ["settle"] => Order::Settle,
        [event] => Order::Strike(known(event)?, Whom::Holder),
        [event, "holder"] => Order::Strike(known(event)?, Whom::Holder),
        [event, node] => Order::Strike(known(event)?, Whom::Node(self::node(node)?)),
        _ => return Err("a line reads: [after TIME] EVENT [holder or NODE]".into()),
    };
    Ok(Step { after, order })
}

fn known(name: &str) -> Result<Event, String> {
    let why = || format!("{name:?} is none of {}, heal, settle and quit", event_names());
    Event::named(name).ok_or_else(why)
}

fn node(name: &str) -> Result<usize, String> {
    let found = NAMES.iter().position(|it| *it == name);
    found.ok_or_else(|| format!("{name:?} is no node; there are {}", NAMES.join(", ")))
}

fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: f64 = 3600.0;
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(""), 1.0),
    };
    let seconds = number.parse().ok().map(|it: f64| it * unit);
    let seconds = seconds.filter(|it| (0.0..=LONGEST).contains(it)).map(Duration::from_secs_f64);
    seconds.ok_or_else(|| format!("{text:?} is no time; such as 2s or 500ms, up to an hour"))
}

fn event_names() -> String {
    Event::ALL.map(|it| it.0).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_an_order_a_line() {
        let steps = script("# a day\nafter 2s kill holder\n\nkill n1 # now\nheal\nheal n2\nquit\n");
        let ms = Duration::from_millis;
        let step = |after, order| Step { after, order };
        let expected = [
            step(ms(2_000), Order::Strike(Event::Kill, Whom::Holder)),
            step(ms(0), Order::Strike(Event::Kill, Whom::Node(0))),
            step(ms(0), Order::Heal(None)),
            step(ms(0), Order::Heal(Some(1))),
            step(ms(0), Order::Quit),
        ];
        assert_eq!(steps.unwrap(), expected);
        assert_eq!(script("after 0.5s cut").unwrap()[0].after, ms(500));
        let wrong = [
            ("after", "after"),
            ("after 2 kill", "is no time"),
            ("after -1s kill", "is no time"),
            ("after 1e300s kill", "is no time"),
            ("kill n4", "\"n4\" is no node; there are n1, n2, n3"),
            ("\nfoo", "line 2: \"foo\" is none of kill, stop"),
            ("kill n1 n2", "a line reads"),
        ];
        for (text, why) in wrong {
            let found = script(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn options_say_what_would_be_right() {
        assert_eq!(events("term,kill"), Ok(vec![Event::Term, Event::Kill]));
        assert!(events("kill,foo").unwrap_err().starts_with("\"foo\" is no event; there are kill"));
        for wrong in ["0", "x", "100001", "-1"] {
            assert!(rounds(wrong).is_err(), "{wrong}");
        }
        assert!(vips("17").is_err());
        assert_eq!(profile("calm"), Ok("calm".into()));
        assert!(profile("quick").is_err());
    }
}
