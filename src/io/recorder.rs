//! Writes every input to a file, one JSON object a line, and reads it back for replay.
//!
//! ```text
//! {"config": …}                      a header: what the caller wants to know at replay
//! {"now": 12340000000, "input": …}   an input, and the boot clock in nanoseconds
//! {"lost": 3}                        three lines are missing so far; all before is whole
//! ```
//!
//! A file is continued, never cut: a process that starts again after a bad night must not
//! destroy the record of it. So there may be several headers.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::Instant;

/// Records inputs by a thread of its own: a slow or full disk costs lines, never time.
#[derive(Debug)]
pub struct Recorder {
    lines: Sender<Vec<u8>>,
    /// Hung up when the thread has ended.
    ended: Receiver<()>,
    shared: Arc<Shared>,
}

/// Memory for lines that the disk has not taken yet.
const QUEUED_BYTES: usize = 4 * 1024 * 1024;
const STACK: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    lost: AtomicUsize,
}

#[derive(Serialize)]
struct InputLine<'a, T> {
    now: u64,
    input: &'a T,
}

impl Recorder {
    /// Opens or continues the file and writes the header.
    pub fn create(path: &Path, header: &impl Serialize) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let (lines, queue) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let recorder = Self { lines, ended, shared: shared.clone() };
        thread::Builder::new().name("recorder".into()).stack_size(STACK).spawn(move || {
            write_all(file, &queue, &shared);
            drop::<Sender<()>>(end);
        })?;
        recorder.queue(serde_json::to_vec(header)?);
        Ok(recorder)
    }

    /// Queues an input.
    pub fn write<T: Serialize>(&self, now: Instant, input: &T) {
        match serde_json::to_vec(&InputLine { now: now.as_nanos(), input }) {
            Ok(line) => self.queue(line),
            Err(_) => self.shared.lose(),
        }
    }

    /// How many lines could not be written.
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Waits until all is written, at most so long.
    pub fn finish(self, limit: Duration) {
        let Self { lines, ended, .. } = self;
        drop(lines);
        if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            log::warn!("the recording has not reached the disk yet");
        }
    }

    fn queue(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        let queued = self.shared.queued_bytes.load(Ordering::Relaxed);
        if queued + line.len() > QUEUED_BYTES {
            return self.shared.lose();
        }
        self.shared.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        if self.lines.send(line).is_err() {
            self.shared.lose();
        }
    }
}

impl Shared {
    fn lose(&self) {
        if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            log::warn!("the recording has a gap: the disk is too slow or takes no more");
        }
    }
}

fn write_all(mut out: impl Write, queue: &Receiver<Vec<u8>>, shared: &Shared) {
    // What a failed write left of a line must not run into the next.
    let mut torn = true;
    let mut told = 0;
    for line in queue {
        let lost = shared.lost.load(Ordering::Relaxed);
        let mut bytes = Vec::with_capacity(line.len() + 32);
        if torn {
            bytes.push(b'\n');
        }
        if lost != told {
            bytes.extend_from_slice(format!("{{\"lost\":{lost}}}\n").as_bytes());
        }
        bytes.extend_from_slice(&line);
        torn = out.write_all(&bytes).is_err();
        if torn {
            shared.lose();
        } else {
            told = lost;
        }
        shared.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
    }
}

/// A line of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded<H, T> {
    /// A process began to record.
    Header(H),
    /// What happened, and when.
    Input(Instant, T),
    /// So many lines of this process are missing so far. What stands before this is whole.
    Lost(u64),
}

/// Reads a recording line by line. A line that cannot be understood, such as the last one
/// of a process that died, is an error that names it; reading may go on after it.
pub fn read<H: DeserializeOwned, T: DeserializeOwned>(
    path: &Path,
) -> io::Result<impl Iterator<Item = io::Result<Recorded<H, T>>>> {
    let lines = BufReader::new(File::open(path)?).lines().enumerate();
    Ok(lines.filter_map(|(index, line)| match line {
        Ok(line) if line.is_empty() => None,
        Ok(line) => Some(parse(&line).map_err(|it| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {it}", index + 1))
        })),
        Err(it) => Some(Err(it)),
    }))
}

fn parse<H: DeserializeOwned, T: DeserializeOwned>(
    line: &str,
) -> serde_json::Result<Recorded<H, T>> {
    #[derive(Deserialize)]
    struct Read<T> {
        now: Option<u64>,
        input: Option<T>,
        lost: Option<u64>,
    }
    Ok(match serde_json::from_slice(line.as_bytes())? {
        Read { now: Some(now), input: Some(input), .. } => {
            Recorded::Input(Instant::from_nanos(now), input)
        }
        Read { lost: Some(lost), .. } => Recorded::Lost(lost),
        Read { .. } => Recorded::Header(serde_json::from_slice(line.as_bytes())?),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::io::clock;
    use crate::model::{ApiFaultKind, LeaseReply, NetworkChange, Vip};

    #[test]
    fn what_is_written_reads_back() {
        let path = scratch("round");
        let vip = Vip("fd00::42".parse().unwrap());
        let recorder = Recorder::create(&path, &json!({"version": "1"})).unwrap();
        recorder.write(at(u64::MAX), &vip);
        recorder.write(at(2), &vip);
        recorder.finish(LONG);
        let all: Vec<_> = read::<Value, Vip>(&path).unwrap().map(Result::unwrap).collect();
        let header = Recorded::Header(json!({"version": "1"}));
        assert_eq!(all, [header, Recorded::Input(at(u64::MAX), vip), Recorded::Input(at(2), vip)]);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn values_of_every_shape_read_back() {
        let path = scratch("shapes");
        let recorder = Recorder::create(&path, &json!({})).unwrap();
        let fault = crate::model::ApiFault {
            kind: ApiFaultKind::Timeout,
            why: "line\nbreak \"quoted\"".into(),
            retry_after: Some(Duration::from_millis(1_500)),
        };
        let replies = [LeaseReply::Conflict, LeaseReply::Failed(fault), LeaseReply::NotFound];
        replies.iter().for_each(|it| recorder.write(at(1), it));
        recorder.finish(LONG);
        let read: Vec<_> =
            read::<Value, LeaseReply>(&path).unwrap().skip(1).map(Result::unwrap).collect();
        assert_eq!(read, replies.map(|it| Recorded::Input(at(1), it)));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_recording_is_continued_after_a_line_that_was_torn() {
        let path = scratch("torn");
        fs::write(&path, "{\"a\":1}\n{\"now\":1,\"inp").unwrap();
        let recorder = Recorder::create(&path, &json!({"a": 2})).unwrap();
        recorder.write(at(3), &7);
        recorder.finish(LONG);
        let all: Vec<_> = read::<Value, u8>(&path).unwrap().collect();
        let [Ok(first), Err(torn), Ok(second), Ok(input)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(first, &Recorded::Header(json!({"a": 1})));
        assert!(torn.to_string().starts_with("line 2: "), "{torn}");
        assert_eq!(second, &Recorded::Header(json!({"a": 2})));
        assert_eq!(input, &Recorded::Input(at(3), 7));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_full_disk_costs_lines_but_no_time() {
        let recorder = Recorder::create(Path::new("/dev/full"), &json!({})).unwrap();
        let started = clock::now();
        let change = NetworkChange::DefaultLink(None);
        (0..1_000).for_each(|_| recorder.write(at(1), &change));
        assert!(clock::now().saturating_since(started) < Duration::from_secs(1));
        let shared = recorder.shared.clone();
        recorder.finish(LONG);
        assert_eq!(shared.lost.load(Ordering::Relaxed), 1_001);
    }

    #[test]
    fn a_disk_that_hangs_costs_lines_and_bounded_memory() {
        let (lines, queue) = mpsc::channel();
        let (_end, ended) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let recorder = Recorder { lines, ended, shared: shared.clone() };
        let long = "x".repeat(100_000);
        (0..100).for_each(|_| recorder.write(at(1), &long));
        let queued = shared.queued_bytes.load(Ordering::Relaxed);
        assert!((4_000_000..=QUEUED_BYTES).contains(&queued), "{queued}");
        let lost = recorder.lost();
        assert!((50..=60).contains(&lost), "{lost}");
        // The disk comes back: the gap is told where reading goes on.
        drop(recorder.lines);
        let mut out = Vec::new();
        write_all(&mut out, &queue, &shared);
        let text = String::from_utf8(out).unwrap();
        let told: Vec<_> = text.lines().filter(|it| it.contains("lost")).collect();
        assert_eq!(told, [format!("{{\"lost\":{lost}}}")]);
        assert_eq!(parse::<Value, String>(told[0]).unwrap(), Recorded::Lost(lost as u64));
        assert_eq!(shared.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_disk_that_comes_back_gets_whole_lines_and_the_gap() {
        struct Flaky(Vec<u8>, bool);
        impl Write for Flaky {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    // Half a line, then no more room.
                    self.0.extend_from_slice(&bytes[..bytes.len() / 2]);
                    return Ok(bytes.len() / 2);
                }
                if self.0.len() < 30 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, queue) = mpsc::channel();
        let shared = Shared::default();
        for number in 0..6 {
            lines.send(format!("{{\"now\":{number},\"input\":{number}}}\n").into()).unwrap();
        }
        shared.queued_bytes.fetch_add(6 * 20, Ordering::Relaxed);
        drop(lines);
        let mut out = Flaky(Vec::new(), false);
        write_all(&mut out, &queue, &shared);
        let path = scratch("flaky");
        fs::write(&path, out.0).unwrap();
        let read: Vec<_> = read::<Value, u8>(&path).unwrap().filter_map(Result::ok).collect();
        let lost = shared.lost.load(Ordering::Relaxed) as u64;
        assert!((1..6).contains(&lost), "{lost}");
        let markers = (1..=lost).map(Recorded::Lost);
        let inputs = (lost..6).map(|it| Recorded::Input(at(it), it as u8));
        let expected: Vec<_> = markers.chain(inputs).collect();
        assert_eq!(read, expected);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_says_so() {
        assert!(Recorder::create(Path::new("/nonexistent/file"), &json!({})).is_err());
    }

    const LONG: Duration = Duration::from_secs(30);

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("edgevip-{}-{name}.rec", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }
}
