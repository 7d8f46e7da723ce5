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
    let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, Value::from(*value))).collect();
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
