//! Witness: how long a client gets no echo from a VIP, asked every 2 ms by way of the
//! client kernel's own neighbour cache.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::packet::{echo_number, echo_request};
use super::socket::{Socket, hurry};
use crate::io::clock;
use crate::model::Instant;

/// How often it asks.
pub const PERIOD: Duration = Duration::from_millis(2);
/// An echo later than this is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends echo requests from a client until told to stop.
#[derive(Debug)]
pub struct Gap {
    record: Arc<Mutex<Record>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An echo request, and how long the answer took, if one came.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// When it was sent.
    pub sent: Instant,
    /// How long the answer took.
    pub after: Option<Duration>,
}

/// What the client saw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Echo requests sent.
    pub sent: usize,
    /// Of these, not answered.
    pub lost: usize,
    /// From the first lost one until an answer came again, at worst. An echo that had to wait
    /// for the neighbour cache counts from when its answer came, not from when it was sent.
    pub longest: Duration,
    /// When that began.
    pub began: Option<Instant>,
    /// When the first answer came.
    pub first: Option<Instant>,
}

/// The newest echoes, numbered from the first that ever was.
#[derive(Debug, Default)]
struct Record {
    forgotten: u64,
    echoes: VecDeque<Echo>,
}

impl Gap {
    /// Begins on a thread that first goes to where the client is, and remembers so many.
    pub fn begin(ip: IpAddr, keep: usize, go: impl FnOnce() + Send + 'static) -> Self {
        let (record, over) = (Arc::<Mutex<Record>>::default(), Arc::<AtomicBool>::default());
        let (to, until) = (Arc::clone(&record), Arc::clone(&over));
        let thread = thread::spawn(move || {
            go();
            hurry();
            probe(ip, keep, &to, &until);
        });
        Self { record, over, thread: Some(thread) }
    }

    /// What was seen of the echoes sent since then, and until then.
    pub fn seen(&self, since: Instant, until: Instant) -> Seen {
        let record = self.record();
        let at = |moment| record.echoes.partition_point(|it| it.sent < moment);
        let end = at(until);
        seen(record.echoes.range(at(since).min(end)..end))
    }

    /// Of each of so many slices of time before `until`, the share of echoes answered, in
    /// percent; `None` where none was sent.
    pub fn strip(&self, until: Instant, slices: u32, slice: Duration) -> Vec<Option<usize>> {
        let share = |back: u32| {
            let from = until - slice * back;
            let it = self.seen(from, from + slice);
            (it.sent > 0).then(|| (it.sent - it.lost) * 100 / it.sent)
        };
        (1..=slices).rev().map(share).collect()
    }

    /// Stops, and says what was seen.
    pub fn end(mut self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("the witness does not fail");
        seen(&self.record().echoes)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

impl Drop for Gap {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn probe(ip: IpAddr, keep: usize, record: &Mutex<Record>, over: &AtomicBool) {
    let socket = Socket::echo_to(ip).expect("raw sockets are allowed in the laboratory");
    let mut next = clock::now();
    let mut buffer = [0; 256];
    let mut listen = |until| {
        while let Some(packet) = socket.receive(&mut buffer, until) {
            let now = clock::now();
            if let Some(number) = echo_number(ip, packet) {
                lock(record).note(number, now);
            }
        }
    };
    while !over.load(Ordering::Relaxed) {
        let number = lock(record).ask(clock::now(), keep);
        socket.send(&echo_request(ip, number));
        next = (next + PERIOD).max(clock::now());
        listen(next);
    }
    // What is still under way gets its time. Echoes do not overtake each other by more than a
    // little, so that nothing is once the last one has come.
    let end = clock::now() + PATIENCE;
    let open = || lock(record).echoes.back().is_some_and(|it| it.after.is_none());
    while clock::now() < end && open() {
        listen((clock::now() + PERIOD).min(end));
    }
    listen(clock::now() + PERIOD * 5);
}

impl Record {
    fn ask(&mut self, now: Instant, keep: usize) -> u64 {
        if self.echoes.len() >= keep && self.echoes.pop_front().is_some() {
            self.forgotten += 1;
        }
        self.echoes.push_back(Echo { sent: now, after: None });
        self.forgotten + self.echoes.len() as u64 - 1
    }

    fn note(&mut self, number: u64, now: Instant) {
        let at = number.checked_sub(self.forgotten).and_then(|it| usize::try_from(it).ok());
        if let Some(echo) = at.and_then(|it| self.echoes.get_mut(it)) {
            let after = now.saturating_since(echo.sent);
            echo.after.get_or_insert(after);
        }
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client saw that sent these.
pub fn seen<'a>(echoes: impl IntoIterator<Item = &'a Echo>) -> Seen {
    let mut seen = Seen::default();
    let mut hole: Option<Instant> = None;
    for echo in echoes {
        let came = echo.after.map(|it| echo.sent + it);
        seen.sent += 1;
        seen.first = [seen.first, came].into_iter().flatten().min();
        let lost = echo.after.is_none_or(|it| it > PATIENCE);
        if lost {
            seen.lost += 1;
            hole.get_or_insert(echo.sent);
        }
        if let Some(began) = hole {
            let until = if lost { echo.sent } else { came.unwrap_or(echo.sent) };
            let long = until.saturating_since(began).max(PERIOD);
            if long > seen.longest {
                (seen.longest, seen.began) = (long, Some(began));
            }
        }
        if !lost {
            hole = None;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_lasts_from_the_first_lost_echo_to_the_next_answered_one() {
        let answers = [1, 1, 0, 1, 0, 0, 0, 1, 1, 0];
        let echoes = (0u64..).zip(answers).map(|(n, answered)| {
            let sent = Instant::from_nanos(0) + PERIOD * n as u32;
            Echo { sent, after: (answered == 1).then_some(PERIOD) }
        });
        let echoes: Vec<_> = echoes.collect();
        let found = seen(&echoes);
        assert_eq!((found.sent, found.lost, found.longest), (10, 5, PERIOD * 4));
        assert_eq!(found.began, Some(echoes[4].sent));
        assert_eq!(found.first, Some(echoes[0].sent + PERIOD));
    }

    #[test]
    fn an_echo_that_comes_too_late_is_lost() {
        let late = Echo { sent: Instant::from_nanos(0), after: Some(PATIENCE * 2) };
        assert_eq!(seen(&[late]).lost, 1);
    }

    #[test]
    fn what_is_forgotten_is_answered_in_vain() {
        let mut record = Record::default();
        let at = |n| Instant::from_nanos(0) + PERIOD * n;
        let numbers: Vec<_> = (0..4).map(|n| record.ask(at(n), 3)).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        record.note(0, at(4));
        record.note(1, at(4));
        record.note(9, at(4));
        let answered: Vec<_> = record.echoes.iter().map(|it| it.after.is_some()).collect();
        assert_eq!(answered, [true, false, false]);
    }
}
