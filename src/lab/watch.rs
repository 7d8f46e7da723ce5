//! Witness: which nodes answer who asks for a VIP, asked every 2 ms by broadcast, as a client
//! does that has never seen it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::gap::PERIOD;
use super::net::{NODES, address, node_of};
use super::packet::{Said, listen, question};
use super::socket::{Socket, hurry};
use crate::io::clock;
use crate::model::Instant;

/// So many of the newest questions may still be answered: that is not yet silence.
const UNSETTLED: usize = 3;
/// Askers take turns: by the address an answer goes to, it is put to its question.
const FIRST_ASKER: u8 = 128;
const ASKERS: u64 = 64;
/// Not the client's own, so that its kernel takes no part.
const MAC: [u8; 6] = [2, 0, 0, 0x99, 1, 1];

/// Who answered a question: node by node, and in the last place whoever is none of them.
pub type By = [bool; NODES + 1];

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    by: By,
}

/// Asks for one VIP, until dropped.
#[derive(Debug)]
pub struct Watch {
    record: Arc<Mutex<Record>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The newest questions, numbered from the first that ever was.
#[derive(Debug, Default)]
struct Record {
    forgotten: u64,
    asked: VecDeque<Asked>,
}

impl Watch {
    /// Begins on a thread that first goes to where the client is, and remembers so many.
    pub fn begin(ip: Ipv4Addr, keep: usize, go: impl FnOnce() + Send + 'static) -> Self {
        let (record, over) = (Arc::<Mutex<Record>>::default(), Arc::<AtomicBool>::default());
        let (to, until) = (Arc::clone(&record), Arc::clone(&over));
        let thread = thread::spawn(move || {
            go();
            hurry();
            watch(ip, keep, &to, &until);
        });
        Self { record, over, thread: Some(thread) }
    }

    /// The one that has answered every question since then, and no other has any.
    pub fn only(&self, since: Instant) -> Option<usize> {
        let record = self.record();
        let from = record.after(since);
        let mut asked = record.asked.range(from..record.settled().max(from));
        let by = asked.next()?.by;
        let who = by.iter().position(|it| *it)?;
        let alone = by.iter().filter(|it| **it).count() == 1;
        (alone && asked.all(|it| it.by == by)).then_some(who)
    }

    /// Who answered the last question that is old enough for it.
    pub fn now(&self) -> By {
        let record = self.record();
        let last = record.settled().checked_sub(1).and_then(|it| record.asked.get(it));
        last.map_or([false; NODES + 1], |it| it.by)
    }

    /// For how long, between these moments, nobody answered, at worst.
    pub fn silence(&self, since: Instant, until: Instant) -> Duration {
        let record = self.record();
        let (from, to) = (record.after(since), record.after(until).min(record.settled()));
        let (mut longest, mut began) = (Duration::ZERO, None);
        for it in record.asked.range(from..to.max(from)) {
            if !it.by.contains(&true) {
                began.get_or_insert(it.at);
            }
            let silent = began.map_or(Duration::ZERO, |began| it.at.saturating_since(began));
            longest = longest.max(silent);
            if it.by.contains(&true) {
                began = None;
            }
        }
        longest
    }

    /// For how long, between these moments, more than one answered.
    pub fn two(&self, since: Instant, until: Instant) -> Duration {
        let record = self.record();
        let (from, to) = (record.after(since), record.after(until).min(record.settled()));
        let pairs = (from..to).filter_map(|it| {
            let asked = record.asked.get(it)?;
            let next = record.asked.get(it + 1)?;
            let two = asked.by.iter().filter(|it| **it).count() > 1;
            two.then(|| next.at.saturating_since(asked.at))
        });
        pairs.sum()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn watch(ip: Ipv4Addr, keep: usize, record: &Mutex<Record>, over: &AtomicBool) {
    let socket = Socket::on_link("eth0").expect("packet sockets are allowed in the laboratory");
    let mut buffer = [0; 2048];
    let mut next = clock::now();
    while !over.load(Ordering::Relaxed) {
        let number = lock(record).ask(clock::now(), keep);
        let from = address(asker(number));
        socket.send(&question(MAC, ip.into(), from.into()));
        next = (next + PERIOD).max(clock::now());
        while let Some(frame) = socket.receive(&mut buffer, next) {
            if let Some(Said::Answer { ip: about, mac, asker }) = listen(frame)
                && about == IpAddr::V4(ip)
            {
                lock(record).note(asker, node_of(mac));
            }
        }
    }
}

fn asker(number: u64) -> u8 {
    FIRST_ASKER + (number % ASKERS) as u8
}

impl Record {
    fn ask(&mut self, now: Instant, keep: usize) -> u64 {
        if self.asked.len() >= keep && self.asked.pop_front().is_some() {
            self.forgotten += 1;
        }
        self.asked.push_back(Asked { at: now, by: [false; NODES + 1] });
        self.forgotten + self.asked.len() as u64 - 1
    }

    /// Answers belong to the newest question of their asker.
    fn note(&mut self, asker: u8, who: Option<usize>) {
        let newest = self.forgotten + self.asked.len() as u64;
        let fits = |it: &u64| self::asker(newest - it) == asker;
        let back = (1..=ASKERS.min(newest)).find(fits).and_then(|it| usize::try_from(it).ok());
        let at = back.and_then(|it| self.asked.len().checked_sub(it));
        if let Some(asked) = at.and_then(|it| self.asked.get_mut(it))
            && let Some(by) = asked.by.get_mut(who.unwrap_or(NODES))
        {
            *by = true;
        }
    }

    fn after(&self, moment: Instant) -> usize {
        self.asked.partition_point(|it| it.at < moment)
    }

    fn settled(&self) -> usize {
        self.asked.len().saturating_sub(UNSETTLED)
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_put_to_the_newest_question_of_its_asker() {
        let mut record = Record::default();
        for n in 0..150 {
            record.ask(Instant::from_nanos(n), 100);
        }
        record.note(asker(148), Some(1));
        record.note(asker(100), Some(2));
        record.note(asker(100), None);
        record.note(FIRST_ASKER - 1, Some(0));
        let answered = record.asked.iter().filter(|it| it.by.contains(&true));
        let answered: Vec<_> = answered.map(|it| (it.at.as_nanos(), it.by)).collect();
        let expected = [(100, [false, false, true, true]), (148, [false, true, false, false])];
        assert_eq!(answered, expected);
    }
}
