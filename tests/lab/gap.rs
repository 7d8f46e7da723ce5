//! Witness: how long a client gets no echo from a VIP, asked every 2 ms by way of the
//! client kernel's own neighbour cache.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;

use super::packet::{echo_number, echo_request};
use super::socket::{Socket, hurry};
use super::{net, wait_for};

/// How often it asks.
pub const PERIOD: Duration = Duration::from_millis(2);
/// An echo later than this is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends echo requests from the client until told to stop.
pub struct Gap {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Echo>>>,
}

#[derive(Clone, Copy, Debug)]
struct Echo {
    sent: Instant,
    after: Option<Duration>,
}

impl Echo {
    fn came(&self) -> Option<Instant> {
        Some(self.sent + self.after?)
    }
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

impl Gap {
    /// Begins.
    pub fn begin(ip: IpAddr) -> Self {
        let over = Arc::<AtomicBool>::default();
        let until = Arc::clone(&over);
        Self { over, thread: Some(thread::spawn(move || probe(ip, &until))) }
    }

    /// Stops, and says what was seen.
    pub fn end(mut self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        seen(&thread.join().expect("the witness does not fail"))
    }
}

impl Drop for Gap {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Waits until the client reaches the VIP.
pub fn reachable(ip: IpAddr, within: Duration) {
    net::inside("client", || {
        let socket = Socket::echo_to(ip).expect("raw sockets are allowed in the laboratory");
        let fine = wait_for(within, || {
            socket.send(&echo_request(ip, 0));
            socket.receive(&mut [0; 256], clock::now() + PERIOD * 5).is_some()
        });
        assert!(fine, "the client does not reach {ip}");
    });
}

fn probe(ip: IpAddr, over: &AtomicBool) -> Vec<Echo> {
    net::join("client");
    hurry();
    let socket = Socket::echo_to(ip).expect("raw sockets are allowed in the laboratory");
    let mut echoes: Vec<Echo> = Vec::new();
    let mut next = clock::now();
    let mut buffer = [0; 256];
    let mut listen = |echoes: &mut Vec<Echo>, until| {
        while let Some(packet) = socket.receive(&mut buffer, until) {
            let number = echo_number(ip, packet).and_then(|it| usize::try_from(it).ok());
            if let Some(echo) = number.and_then(|it| echoes.get_mut(it)) {
                let after = clock::now().saturating_since(echo.sent);
                echo.after.get_or_insert(after);
            }
        }
    };
    while !over.load(Ordering::Relaxed) {
        let packet = echo_request(ip, echoes.len() as u64);
        echoes.push(Echo { sent: clock::now(), after: None });
        socket.send(&packet);
        next = (next + PERIOD).max(clock::now());
        listen(&mut echoes, next);
    }
    // What is still under way gets its time. Echoes do not overtake each other by more than a
    // little, so that nothing is once the last one has come.
    let end = clock::now() + PATIENCE;
    while clock::now() < end && echoes.last().is_some_and(|it| it.after.is_none()) {
        listen(&mut echoes, (clock::now() + PERIOD).min(end));
    }
    listen(&mut echoes, clock::now() + PERIOD * 5);
    echoes
}

fn seen(echoes: &[Echo]) -> Seen {
    let first = echoes.iter().filter_map(Echo::came).min();
    let mut seen = Seen { sent: echoes.len(), first, ..Seen::default() };
    let mut hole: Option<Instant> = None;
    for echo in echoes {
        let lost = echo.after.is_none_or(|it| it > PATIENCE);
        if lost {
            seen.lost += 1;
            hole.get_or_insert(echo.sent);
        }
        if let Some(began) = hole {
            let until = if lost { echo.sent } else { echo.came().unwrap_or(echo.sent) };
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
#[allow(unused_imports, reason = "without the harness there are no tests")]
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
}
