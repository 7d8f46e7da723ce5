//! What people see of it: a screen of 80 columns and 24 lines where there is a terminal,
//! a line a change where there is none.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};

use super::net::NAMES;
use super::options::Event;
use super::stage::{LONG, Node, Stage, UNDER_WAY, answering};
use crate::model::Instant;

/// How it is shown.
#[derive(Debug)]
pub enum Screen {
    /// Redrawn several times a second.
    Live {
        /// What stands at the top.
        title: String,
        /// Whether keys are taken.
        keys: bool,
        /// When it is drawn next.
        next: Instant,
    },
    /// A line a change.
    Lines,
    /// Nothing but what others print.
    Quiet,
}

const REDRAW: Duration = Duration::from_millis(100);
const COLUMNS: usize = 79;
/// One cell of the strip.
const CELL: Duration = Duration::from_millis(40);
const MOST_FAILOVERS: usize = 9;
const KEYS: &str = "1-3 node   k kill  s stop  c cut  l carrier  d drain  t term   h heal  q quit";

impl Screen {
    /// A live screen if there is a terminal.
    pub fn open(title: String, keys: bool) -> Self {
        if !io::stdout().is_terminal() {
            return Self::Lines;
        }
        print("\x1b[2J\x1b[?25l");
        Self::Live { title, keys, next: Instant::from_nanos(0) }
    }

    /// Shows what there is to show.
    pub fn show(&mut self, stage: &mut Stage, chosen: usize, now: Instant) {
        match self {
            Self::Live { title, keys, next } => {
                if now >= *next {
                    *next = now + REDRAW;
                    print(&frame(stage, title, keys.then_some(chosen), now));
                }
            }
            Self::Lines => {
                let began = stage.began;
                for (at, text) in stage.news.drain(..) {
                    let at = at.saturating_since(began).as_secs_f64();
                    print(&format!("{at:>9.3} s  {text}\n"));
                }
            }
            Self::Quiet => stage.news.clear(),
        }
    }

    /// Leaves the last of it standing.
    pub fn close(&mut self, stage: &mut Stage, chosen: usize, now: Instant) {
        if let Self::Live { next, .. } = self {
            *next = now;
        }
        self.show(stage, chosen, now);
        if let Self::Live { .. } = self {
            print("\x1b[?25h\n");
        }
    }
}

/// Takes keys as they are struck, without showing them; whoever waits outside undoes it.
pub fn raw_keys() -> io::Result<()> {
    let mut it = tcgetattr(io::stdin())?;
    it.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
    // No way to leave it standing half asleep.
    it.control_chars[SpecialCharacterIndices::VSUSP as usize] = 0;
    Ok(tcsetattr(io::stdin(), SetArg::TCSADRAIN, &it)?)
}

/// Prints; that nobody reads it any more is no fault of what is shown.
pub fn print(text: &str) {
    let mut out = io::stdout();
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn frame(stage: &Stage, title: &str, chosen: Option<usize>, now: Instant) -> String {
    let mut lines = vec![format!("{title}   {}", clock(stage, now)), String::new()];
    lines.push(format!("   {:<5}{:<34}answers for", "node", "state"));
    for (node, name) in NAMES.iter().enumerate() {
        let mark = if chosen == Some(node) { '>' } else { ' ' };
        let held = stage.vips.iter().filter(|it| it.by.get(node) == Some(&true));
        let held: Vec<_> = held.map(|it| it.ip.to_string()).collect();
        let state = state(&stage.nodes[node], now);
        let line = format!(" {mark} {name:<5}{state:<34}{}", held.join(" "));
        lines.push(if held.is_empty() { line } else { format!("\x1b[1m{}\x1b[0m", short(&line)) });
    }
    lines.push(String::new());
    lines.push(format!("   a client, an echo every 2 ms ({} ms a mark):", CELL.as_millis()));
    lines.push(format!("   {}", strip(stage, now)));
    let two = match stage.two {
        it if it.is_zero() => "never".into(),
        it => format!("for {} ms", it.as_millis()),
    };
    let by = stage.vips.first().map(|it| answering(&it.by).collect::<Vec<_>>().join(" and "));
    let by = by.filter(|it| !it.is_empty()).unwrap_or_else(|| "nobody".into());
    lines.push(format!("   holder: {by}   two holders: {two}"));
    lines.push(String::new());
    let skipped = stage.failovers.len().saturating_sub(MOST_FAILOVERS);
    for it in stage.failovers.iter().skip(skipped).rev() {
        lines.push(format!("   {}  {}", clock(stage, it.at), it.text()));
    }
    let last = stage.news.back().map(|it| it.1.as_str()).unwrap_or_default();
    lines.resize(21, String::new());
    lines.push(format!("   {last}"));
    lines.push(if chosen.is_some() { KEYS.into() } else { "Ctrl-C ends it".into() });
    let mut text = String::from("\x1b[H");
    for line in lines {
        let line = if line.contains('\x1b') { line } else { short(&line) };
        _ = write!(text, "{line}\x1b[K\r\n");
    }
    text + "\x1b[J"
}

fn state(node: &Node, now: Instant) -> String {
    if let Some(ended) = &node.ended {
        return ended.chars().take(33).collect();
    }
    let state = |(event, until): (&Event, &Option<Instant>)| {
        let state = match event {
            Event::Kill => "killed",
            Event::Stop => "stopped",
            Event::Cut => "cut off",
            Event::Carrier => "no carrier",
            Event::Drain => "drained",
            Event::Term => "ending",
        };
        match until.map(|it| it.saturating_since(now)) {
            Some(left) if left < LONG => format!("{state} ({:.1} s)", left.as_secs_f64()),
            Some(_) | None => state.into(),
        }
    };
    let states: Vec<_> = node.troubles.iter().map(state).collect();
    if states.is_empty() { "runs".into() } else { states.join(", ") }
}

fn strip(stage: &Stage, now: Instant) -> String {
    let Some(vip) = stage.vips.first() else { return String::new() };
    let mark = |share: Option<usize>| match share {
        Some(100) => "\x1b[32m|\x1b[0m",
        Some(0) => "\x1b[31m.\x1b[0m",
        Some(_) => "\x1b[33m:\x1b[0m",
        None => " ",
    };
    let strip = vip.gap.strip(now - UNDER_WAY, COLUMNS as u32 - 6, CELL);
    strip.into_iter().map(mark).collect()
}

fn clock(stage: &Stage, at: Instant) -> String {
    let seconds = at.saturating_since(stage.began).as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

fn short(line: &str) -> String {
    line.chars().take(COLUMNS).collect()
}
