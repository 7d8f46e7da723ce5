//! How the text of a setting is read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::peers;

/// Files of more bytes than this are not read.
pub const MAX_FILE: usize = 1 << 20;

/// What may be written for a setting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Yes or no, as Go spells it.
    Bool,
    /// Milliseconds, or a number with a unit; nothing for what holds otherwise.
    Brief,
    /// Whole seconds, or a number with a unit.
    Duration,
    /// `host:port`, the host being optional; empty for none.
    Listen,
    /// A JSON object of strings.
    Map,
    /// Milliseconds, of any sign.
    Millis,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A member of a quorum.
    Peer,
    /// Members of a quorum.
    Peers,
    /// Text that is not shown.
    Secret,
    /// Any text.
    Text,
    /// A whole number from here to there.
    Whole(i64, i64),
    /// A whole number from here to there, or 0.
    WholeOrOff(i64, i64),
}

impl Kind {
    /// What is wrong with the text and what would be right; `None` if nothing is wrong.
    pub fn fault(self, text: &str) -> Option<String> {
        let (right, rule) = match self {
            Self::Bool => {
                (bool(text).is_some(), "neither true nor false; give one of these".into())
            }
            Self::Brief => (
                text.is_empty() || brief(text).is_some(),
                "not a number of milliseconds; give one such as 30, or one with a unit such as 1s"
                    .into(),
            ),
            Self::Duration => (duration(text).is_some(), NOT_A_DURATION.into()),
            Self::Listen => (
                listens(text),
                "not an address to listen on; give a port such as :2112, a host and a port, \
                 or nothing to switch it off"
                    .into(),
            ),
            Self::Map => (
                map(text).is_some(),
                "not a JSON object of strings; give one such as {\"team\":\"edge\"}".into(),
            ),
            Self::Millis => (
                whole(text).is_some(),
                "not a number of milliseconds; give one such as 3000".into(),
            ),
            Self::OneOf(words) => {
                (words.contains(&text), format!("not known; give {}", words.join(" or ")))
            }
            Self::Peer => return peers::peer(text).err().filter(|_| !text.is_empty()),
            Self::Peers => return peers::peers(text).err(),
            Self::Secret | Self::Text => (true, String::new()),
            Self::Whole(least, most) => (
                whole(text).is_some_and(|it| (least..=most).contains(&it)),
                format!("not a whole number from {least} to {most}"),
            ),
            Self::WholeOrOff(least, most) => (
                whole(text).is_some_and(|it| it == 0 || (least..=most).contains(&it)),
                format!("not a whole number from {least} to {most}; 0 switches it off"),
            ),
        };
        (!right).then_some(rule)
    }

    /// What stands for the value in a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Duration => "duration",
            Self::Listen => "host:port",
            Self::Map => "JSON object",
            Self::Brief | Self::Millis => "milliseconds",
            Self::OneOf(_) => "word",
            Self::Peer | Self::Peers => "id:address:port",
            Self::Secret | Self::Text => "text",
            Self::Whole(..) | Self::WholeOrOff(..) => "number",
        }
    }
}

const NOT_A_DURATION: &str = "not a duration; give whole seconds such as 15, or a number with a \
                              unit such as 1500ms";

/// Yes or no, as Go spells it.
pub fn bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number in base ten.
pub fn whole(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Whole seconds, or numbers with units as Go writes them: `1500ms`, `1.5s`, `1m30s`.
///
/// At most what fits the seconds of a Lease.
pub fn duration(text: &str) -> Option<Duration> {
    let found = match text.parse::<u64>() {
        Ok(seconds) if text.bytes().all(|it| it.is_ascii_digit()) => Duration::from_secs(seconds),
        _ => with_units(text)?,
    };
    (found.as_secs() <= i32::MAX as u64).then_some(found)
}

/// Whole milliseconds, or numbers with units.
pub fn brief(text: &str) -> Option<Duration> {
    match text.bytes().all(|it| it.is_ascii_digit()) {
        true => text.parse().ok().map(Duration::from_millis),
        false => with_units(text),
    }
    .filter(|it| it.as_secs() <= i32::MAX as u64)
}

fn with_units(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let end = tail.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        sum = sum.checked_add(scaled(number, nanos(unit)?)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

fn nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" => 1_000,
        "ns" => 1,
        _ => return None,
    })
}

fn scaled(number: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(place * u64::from(digit.to_digit(10)?))?;
    }
    Some(Duration::from_nanos(total))
}

/// A JSON object of strings; nothing is an empty one.
pub fn map(text: &str) -> Option<BTreeMap<String, String>> {
    if text.is_empty() {
        Some(BTreeMap::new())
    } else {
        serde_json::from_slice(text.as_bytes()).ok()
    }
}

fn listens(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return text.is_empty() };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    port.parse::<u16>().is_ok() && (bracketed || !host.contains([':', ' ', '/']))
}

/// The known word that `text` was probably meant to be.
pub fn nearest(text: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let furthest = (text.len() / 3).clamp(1, 4);
    known
        .filter(|it| it.len() > 2 && it.len().abs_diff(text.len()) <= furthest)
        .map(|it| (distance(it.to_ascii_lowercase().as_bytes(), text.as_bytes()), it))
        .filter(|(distance, _)| *distance <= furthest)
        .min()
        .map(|(_, it)| it)
}

/// Levenshtein's: how many letters to insert, remove or replace.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = *above;
            *above = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The text that a value of a file would be as a variable.
pub(super) fn spelled(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
        Value::Array(items) if items.iter().any(|it| it.is_object() || it.is_array()) => {
            value.to_string()
        }
        Value::Array(items) => items.iter().map(spelled).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_seconds_or_carry_a_unit() {
        let cases = [
            ("15", Some(15_000)),
            ("0", Some(0)),
            ("1500ms", Some(1500)),
            ("1.5s", Some(1500)),
            (".5s", Some(500)),
            ("2s", Some(2000)),
            ("1m", Some(60_000)),
            ("1m30s", Some(90_000)),
            ("0s", Some(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1.5", None),
            ("abc", None),
            ("1x", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("99999999999", None),
            ("99999999999999999999h", None),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn booleans_are_spelt_as_in_go() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(bool(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(bool(text), Some(false), "{text}");
        }
        for text in ["yes", "on", "", "tRUE", " true"] {
            assert_eq!(bool(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_to_listen_on_has_a_port() {
        for text in ["", ":2112", "0.0.0.0:2112", "[::]:2112", "localhost:1"] {
            assert!(listens(text), "{text}");
        }
        for text in ["2112", ":", ":http", ":70000", "::1:80", "http://a:1"] {
            assert!(!listens(text), "{text}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = || ["vip_leaseduration", "vip_address", "vip_arp"].into_iter();
        assert_eq!(nearest("vip_leasduration", known()), Some("vip_leaseduration"));
        assert_eq!(nearest("VIP_ARP", known()), Some("vip_arp"));
        assert_eq!(nearest("vip_somewhere_else", known()), None);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}
