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
mod tests {
    use std::io::{PipeReader, Read};

    use super::*;

    #[test]
    fn a_level_is_the_number_that_slog_gives_it() {
        let table = [
            (-8, LevelFilter::Trace),
            (-5, LevelFilter::Trace),
            (-4, LevelFilter::Debug),
            (-1, LevelFilter::Debug),
            (0, LevelFilter::Info),
            (3, LevelFilter::Info),
            (4, LevelFilter::Warn),
            (8, LevelFilter::Error),
            (99, LevelFilter::Error),
        ];
        for (number, level) in table {
            assert_eq!(level_of(number), level, "{number}");
        }
    }

    #[test]
    fn a_line_for_people_quotes_what_would_run_together() {
        let (logger, reader) = logger(Format::Text, false);
        log(&logger, "announcing", &[("vip", "10.0.0.42"), ("why", "a \"b\"\nc"), ("none", "")]);
        let expected = "2026-01-02T03:04:05.678Z INFO announcing vip=10.0.0.42 \
                        why=\"a \\\"b\\\"\\nc\" none=\"\"\n";
        assert_eq!(read(logger, reader), expected);
    }

    #[test]
    fn a_message_cannot_forge_a_second_line() {
        let (logger, reader) = logger(Format::Text, false);
        log(&logger, "the server says: x\n2026 ERROR y", &[]);
        assert_eq!(read(logger, reader).lines().count(), 1);
    }

    #[test]
    fn a_line_for_machines_is_json_with_numbers_as_numbers() {
        let (logger, reader) = logger(Format::Json, false);
        let values = [("n", Value::from(7_u64)), ("up", Value::from(true)), ("s", "a\"b".into())];
        logger.show(line_with("a \"word\"", &values, Format::Json), at(0), WALL);
        let text = read(logger, reader);
        let expected = serde_json::json!({
            "time": "2026-01-02T03:04:05.678Z", "level": "INFO", "msg": "a \"word\"",
            "n": 7, "up": true, "s": "a\"b",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    }

    #[test]
    fn the_journal_gets_the_severity_and_keeps_the_time_itself() {
        let (logger, reader) = logger(Format::Text, true);
        log(&logger, "announcing", &[]);
        assert_eq!(read(logger, reader), "<6>INFO announcing\n");
    }

    #[test]
    fn repeats_are_told_once_when_another_line_comes_or_the_process_ends() {
        let (logger, reader) = logger(Format::Text, true);
        for text in ["a", "a", "a", "b", "a"] {
            log(&logger, text, &[]);
        }
        log(&logger, "a", &[]);
        logger.flush();
        logger.flush();
        let expected = "<6>INFO a\n<6>INFO a (repeated 2 times)\n<6>INFO b\n<6>INFO a\n\
                        <6>INFO a (repeated 1 times)\n";
        assert_eq!(read(logger, reader), expected);
    }

    #[test]
    fn repeats_are_told_when_their_minute_is_over() {
        let (logger, reader) = logger(Format::Json, false);
        for second in [0, 1, 59] {
            logger.show(line("a", Format::Json), at(second), WALL);
        }
        logger.settle(at(59));
        logger.settle(at(60));
        logger.settle(at(61));
        logger.show(line("a", Format::Json), at(121), WALL);
        let text = read(logger, reader);
        let tails: Vec<_> = text.lines().map(|it| it.split("\"msg\":").nth(1).unwrap()).collect();
        assert_eq!(tails, ["\"a\"}", "\"a\",\"repeated\":2}", "\"a\"}"]);
    }

    #[test]
    fn the_same_words_with_other_fields_are_another_line() {
        let (logger, reader) = logger(Format::Text, true);
        log(&logger, "a", &[("n", "1")]);
        log(&logger, "a", &[("n", "2")]);
        assert_eq!(read(logger, reader), "<6>INFO a n=1\n<6>INFO a n=2\n");
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_but_no_time() {
        let (logger, mut reader) = logger(Format::Text, true);
        let started = clock::now();
        for number in 0..2_000 {
            log(&logger, &format!("{number} {}", "x".repeat(500)), &[]);
        }
        assert!(clock::now().saturating_since(started) < Duration::from_secs(5));
        let lost = logger.last.lock().unwrap().lost;
        assert!(lost > 1_000, "{lost} lost");
        reader.read_exact(&mut [0; 60_000]).unwrap();
        log(&logger, "after", &[]);
        let text = read(logger, reader);
        let end = format!("<4>WARN {lost} log lines were lost\n<6>INFO after\n");
        assert!(text.ends_with(&end), "{}", text.lines().last().unwrap());
    }

    #[test]
    fn a_reader_that_went_away_is_no_fault() {
        let (logger, reader) = logger(Format::Text, true);
        drop(reader);
        log(&logger, "a", &[]);
        assert_eq!(logger.last.lock().unwrap().lost, 1);
    }

    #[test]
    fn an_endless_answer_is_cut() {
        let line = line(&"ä".repeat(100_000), Format::Text);
        assert!(line.message.len() <= LONGEST_WORDS + '…'.len_utf8());
        assert!(line.message.ends_with("ä…"));
    }

    #[test]
    fn libraries_are_quiet_until_everything_is_asked_for() {
        let table = [
            (LevelFilter::Debug, "edgevip::io", Level::Debug, true),
            (LevelFilter::Debug, "rustls::client", Level::Debug, false),
            (LevelFilter::Debug, "rustls::client", Level::Warn, true),
            (LevelFilter::Error, "rustls::client", Level::Warn, false),
            (LevelFilter::Trace, "rustls::client", Level::Debug, true),
            (LevelFilter::Trace, "ureq::run", Level::Trace, false),
            (LevelFilter::Trace, "edgevip::io", Level::Trace, true),
        ];
        for (filter, target, level, shown) in table {
            let metadata = Metadata::builder().target(target).level(level).build();
            assert_eq!(is_shown(&metadata, filter), shown, "{filter} {target} {level}");
        }
    }

    #[test]
    fn the_journal_is_known_by_its_device_and_inode() {
        let out: OwnedFd = io::pipe().unwrap().1.into();
        let it = fstat(&out).unwrap();
        assert!(is_stream(&out, &format!("{}:{}", it.st_dev, it.st_ino)));
        assert!(!is_stream(&out, &format!("{}:{}", it.st_dev, it.st_ino + 1)));
    }

    const WALL: Duration = Duration::new(1_767_323_045, 678_901_000);

    fn logger(format: Format, journal: bool) -> (Logger, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Logger::new(writer.into(), format, journal), reader)
    }

    fn at(second: u64) -> Instant {
        Instant::from_nanos((1_000 + second) * 1_000_000_000)
    }

    fn log(logger: &Logger, message: &str, fields: &[(&str, &str)]) {
        let fields: Vec<_> =
            fields.iter().map(|(key, value)| (*key, Value::from(*value))).collect();
        let line = line_with(message, &fields, logger.format);
        logger.show(line, at(0), WALL);
    }

    fn line(message: &str, format: Format) -> Line {
        line_with(message, &[], format)
    }

    fn line_with(message: &str, fields: &[(&str, Value<'_>)], format: Format) -> Line {
        let mut record = Record::builder();
        record.level(Level::Info).target("edgevip").key_values(&fields);
        line_of(&record.args(format_args!("{message}")).build(), format)
    }

    fn read(logger: Logger, mut reader: PipeReader) -> String {
        drop(logger);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }
}
