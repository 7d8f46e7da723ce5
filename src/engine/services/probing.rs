//! The addresses that pools will give out next, kept probed (RFC 5227 §2.1.1, RFC 4862 §5.4),
//! so that a Service need not wait for it, and nobody gets an address that a stranger uses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::engine::network::Usable;
use crate::engine::{Cx, Deadline};
use crate::model::{Frame, Instant, KernelJob};

const PROBES: u8 = 3;
const GAP: Duration = Duration::from_millis(20);
/// Silence after the last probe that means that nobody uses the address.
const SILENCE: Duration = Duration::from_millis(60);
/// So long nobody will have begun to use it.
const FRESH: Duration = Duration::from_secs(60);
/// How much earlier it is asked again.
const EARLY: Duration = Duration::from_secs(10);

/// What is known of addresses that nobody has yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Probing {
    candidates: BTreeMap<IpAddr, Candidate>,
    /// Others are to be listened for than when this was last asked.
    news: bool,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    sent: u8,
    next_at: Instant,
    free_since: Option<Instant>,
    /// It may be given out next; else what is known of it counts until it is old.
    wanted: bool,
}

impl Probing {
    /// From now on these, and only these, are asked about.
    pub fn want(&mut self, now: Instant, wanted: &[IpAddr]) {
        for (ip, it) in &mut self.candidates {
            it.wanted = wanted.contains(ip);
        }
        self.keep(|it| it.wanted || it.is_fresh(now));
        let before = self.candidates.len();
        for ip in wanted {
            let new = Candidate { sent: 0, next_at: now, free_since: None, wanted: true };
            self.candidates.entry(*ip).or_insert(new);
        }
        self.news |= self.candidates.len() > before;
    }

    /// Whether others are to be listened for than when this was last asked.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    fn keep(&mut self, is_kept: impl Fn(&Candidate) -> bool) {
        let before = self.candidates.len();
        self.candidates.retain(|_, it| is_kept(it));
        self.news |= self.candidates.len() < before;
    }

    /// What is to be listened for.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.candidates.keys().copied()
    }

    /// Somebody speaks of an address; returns whether that was to be found out.
    pub fn on_heard(&mut self, ip: IpAddr) -> bool {
        let known = self.candidates.remove(&ip);
        self.news |= known.is_some();
        known.is_some_and(|it| it.wanted)
    }

    /// It is not to be found out any more.
    pub fn forget(&mut self, ip: IpAddr) {
        self.news |= self.candidates.remove(&ip).is_some();
    }

    /// Whether nobody is known to use it, by a probe of late.
    pub fn is_free(&self, now: Instant, ip: IpAddr) -> bool {
        self.candidates.get(&ip).is_some_and(|it| it.is_fresh(now))
    }

    /// Asks for what is due. `on`: the link that an address would be on.
    pub fn tick(&mut self, cx: &mut Cx<'_>, on: &dyn Fn(IpAddr) -> Option<Usable>) {
        let now = cx.now;
        self.keep(|it| it.wanted || now < it.next_at);
        for (ip, it) in self.candidates.iter_mut().filter(|it| it.1.next_at <= now) {
            let Some(on) = on(*ip) else {
                it.next_at = cx.now + FRESH;
                continue;
            };
            if it.sent == PROBES {
                (it.sent, it.free_since) = (0, Some(cx.now));
                it.next_at = cx.now + FRESH - EARLY;
                continue;
            }
            let frame = Frame::Probe { mac: on.mac, ip: *ip };
            let until = cx.now + Duration::from_secs(1);
            cx.order(KernelJob::SendFrame { link: on.index, frame, until });
            it.sent += 1;
            it.next_at = cx.now + if it.sent == PROBES { SILENCE } else { GAP };
        }
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let next = self.candidates.values().map(|it| it.next_at).min()?;
        Some(Deadline { at: next, why: "probe the next addresses" })
    }
}

impl Candidate {
    fn is_fresh(&self, now: Instant) -> bool {
        self.free_since.is_some_and(|it| now < it + FRESH)
    }
}
