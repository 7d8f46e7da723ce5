//! Writes log lines to standard error, for people or for machines. A line that cannot be
//! written at once is lost and counted: nothing waits for whoever reads the log.

use std::fmt::Write;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;

use crate::io::clock;
use crate::model::Instant;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// `2026-11-25T10:00:00.123Z INFO announcing vip=10.0.0.42`.
    Text,
}

/// Starts logging to standard error; `level` is a number as Go's slog has them: -4 debug,
/// 0 info, 4 warn, 8 error, below -4 trace.
pub fn init(level: i32, format: Format) -> io::Result<()> {
    let out = io::stderr().as_fd().try_clone_to_owned()?;
    let journal = std::env::var("JOURNAL_STREAM").is_ok_and(|it| is_stream(&out, &it));
    let logger = LOGGER.get_or_init(|| Logger::new(out, format, journal));
    set_level(level);
    log::set_logger(logger).map_err(io::Error::other)
}

/// Shows what is of this level and above from now on.
pub fn set_level(level: i32) {
    log::set_max_level(level_of(level));
}

/// Tells of repeats when their minute is over; for the main thread's executor. At exit
/// `log::logger().flush()` tells of those that are left.
pub async fn tell_repeats() {
    loop {
        async_io::Timer::after(REPEAT_SPAN / 4).await;
        if let Some(logger) = LOGGER.get() {
            logger.settle(clock::now());
        }
    }
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

const REPEAT_SPAN: Duration = Duration::from_secs(60);

/// A write of at most so many bytes does not block once `poll` says that there is room.
const CHUNK: usize = 4096;

/// Longer words are cut, so that no answer of a server fills the log.
const LONGEST_WORDS: usize = 2048;

fn level_of(slog: i32) -> LevelFilter {
    match slog {
        ..-4 => LevelFilter::Trace,
        -4..0 => LevelFilter::Debug,
        0..4 => LevelFilter::Info,
        4..8 => LevelFilter::Warn,
        8.. => LevelFilter::Error,
    }
}

/// systemd names the journal's socket by device and inode, as a redirected standard error
/// keeps the variable.
fn is_stream(out: &OwnedFd, name: &str) -> bool {
    fstat(out).is_ok_and(|it| name == format!("{}:{}", it.st_dev, it.st_ino))
}

struct Logger {
    out: OwnedFd,
    format: Format,
    journal: bool,
    last: Mutex<Last>,
}

/// The line last shown, and what has been held back since.
#[derive(Default)]
struct Last {
    line: Option<Line>,
    shown_at: Option<Instant>,
    repeats: u64,
    repeated_at: Duration,
    lost: u64,
}

/// A log line but for its time.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    level: Level,
    message: String,
    /// The fields, as they are printed.
    fields: String,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_shown(metadata, log::max_level())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.show(line_of(record, self.format), clock::now(), clock::wall());
        }
    }

    fn flush(&self) {
        self.tell_held_back(&mut self.last());
    }
}

/// Libraries talk of their insides: only to those who asked for everything, and even then
/// not of the bytes they send, since tokens are among them.
fn is_shown(metadata: &Metadata<'_>, most: LevelFilter) -> bool {
    let ours = metadata.target().starts_with("edgevip");
    let most = match (ours, most) {
        (true, _) => most,
        (false, LevelFilter::Trace) => LevelFilter::Debug,
        (false, _) => most.min(LevelFilter::Warn),
    };
    metadata.level() <= most
}

impl Logger {
    fn new(out: OwnedFd, format: Format, journal: bool) -> Self {
        Self { out, format, journal, last: Mutex::default() }
    }

    fn show(&self, line: Line, now: Instant, wall: Duration) {
        let mut last = self.last();
        let recent = last.shown_at.is_some_and(|at| now.saturating_since(at) < REPEAT_SPAN);
        if recent && last.line.as_ref() == Some(&line) {
            last.repeats += 1;
            last.repeated_at = wall;
            return;
        }
        self.tell_held_back(&mut last);
        self.print(&mut last, &line, wall, 0);
        last.line = Some(line);
        last.shown_at = Some(now);
    }

    fn settle(&self, now: Instant) {
        let mut last = self.last();
        if last.shown_at.is_some_and(|at| now.saturating_since(at) >= REPEAT_SPAN) {
            self.tell_held_back(&mut last);
            last.shown_at = Some(now);
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_held_back(&self, last: &mut Last) {
        if let (Some(line), 1..) = (last.line.clone(), last.repeats) {
            self.print(last, &line, last.repeated_at, last.repeats);
            last.repeats = 0;
        }
    }

    fn print(&self, last: &mut Last, line: &Line, wall: Duration, repeats: u64) {
        let mut text = String::new();
        if last.lost > 0 {
            let message = format!("{} log lines were lost", last.lost);
            let lost = Line { level: Level::Warn, message, fields: String::new() };
            self.put(&mut text, &lost, wall, 0);
        }
        self.put(&mut text, line, wall, repeats);
        match self.write(text.as_bytes()) {
            Ok(()) => last.lost = 0,
            Err(_) => last.lost += 1,
        }
    }

    fn put(&self, text: &mut String, line: &Line, wall: Duration, repeats: u64) {
        let Line { level, message, fields } = line;
        let time = milli_time(wall);
        let priority = priority(*level);
        let _ = match (self.format, self.journal) {
            (Format::Json, true) => write!(text, "<{priority}>{{\"time\":\"{time}\","),
            (Format::Json, false) => write!(text, "{{\"time\":\"{time}\","),
            // The journal has its own time.
            (Format::Text, true) => write!(text, "<{priority}>{level} {message}{fields}"),
            (Format::Text, false) => write!(text, "{time} {level} {message}{fields}"),
        };
        let _ = match (self.format, repeats) {
            (Format::Json, 0) => {
                writeln!(text, "\"level\":\"{level}\",\"msg\":{message}{fields}}}")
            }
            (Format::Json, _) => writeln!(
                text,
                "\"level\":\"{level}\",\"msg\":{message}{fields},\"repeated\":{repeats}}}"
            ),
            (Format::Text, 0) => writeln!(text),
            (Format::Text, _) => writeln!(text, " (repeated {repeats} times)"),
        };
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut room = [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut room, PollTimeout::ZERO)? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let (chunk, _) = bytes.split_at(bytes.len().min(CHUNK));
            let written = nix::unistd::write(&self.out, chunk)?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

fn line_of(record: &Record<'_>, format: Format) -> Line {
    let message = cut(record.args().to_string());
    let message = match format {
        Format::Json => quoted_json(&message),
        Format::Text => message.replace(char::is_control, " "),
    };
    let mut fields = Fields { format, text: String::new() };
    let _ = record.key_values().visit(&mut fields);
    Line { level: record.level(), message, fields: fields.text }
}

struct Fields {
    format: Format,
    text: String,
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = match self.format {
            Format::Json => {
                let mut json = JsonValue(String::new());
                value.visit(&mut json)?;
                json.0
            }
            Format::Text => quoted_text(cut(value.to_string())),
        };
        let _ = match self.format {
            Format::Json => write!(self.text, ",{}:{value}", quoted_json(key.as_str())),
            Format::Text => write!(self.text, " {key}={value}"),
        };
        Ok(())
    }
}

/// Numbers and truth values stay what they are, all else is a string.
struct JsonValue(String);

impl<'v> VisitValue<'v> for JsonValue {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.0 = quoted_json(&cut(value.to_string()));
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = value.to_string();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.0 = value.to_string();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0 = value.to_string();
        Ok(())
    }
}

fn quoted_text(value: String) -> String {
    let plain = |it: char| !it.is_whitespace() && !it.is_control() && it != '"' && it != '=';
    if !value.is_empty() && value.chars().all(plain) { value } else { format!("{value:?}") }
}

fn quoted_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn cut(mut words: String) -> String {
    if words.len() > LONGEST_WORDS {
        words.truncate(words.floor_char_boundary(LONGEST_WORDS));
        words.push('…');
    }
    words
}

fn milli_time(wall: Duration) -> String {
    let micros = clock::micro_time(wall);
    format!("{}Z", micros.get(..micros.len().saturating_sub(4)).unwrap_or_default())
}

/// The syslog severity that the journal reads from the start of a line.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests;
