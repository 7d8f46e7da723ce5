//! What is asked and announced on the LAN, and when first.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use edgevip::io::clock;
use edgevip::lab::packet::{Said, listen};
use edgevip::lab::socket::hurry;
use edgevip::model::Instant;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
};

use crate::lab::net;

/// Room for the announcements of some ten thousand addresses.
const ROOM: usize = 128 << 20;

/// Of each address, when it was heard of first: in a probe, and in an announcement.
#[derive(Default)]
struct Heard {
    probed: BTreeMap<Ipv4Addr, Instant>,
    announced: BTreeMap<Ipv4Addr, Instant>,
}

/// Hears ARP in a host, until dropped.
pub struct Ear {
    heard: Arc<Mutex<Heard>>,
    frames: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Begins.
    pub fn begin(host: &'static str) -> Self {
        let heard = Arc::<Mutex<Heard>>::default();
        let (frames, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (to, count, until) = (heard.clone(), frames.clone(), over.clone());
        let fd = net::inside(host, || {
            // From the first on, so that no other link's frames come before it is bound: all
            // there is in this host is this LAN.
            let kind = SockType::Raw;
            let fd =
                socket(AddressFamily::Packet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
            fd.expect("raw sockets are allowed in the laboratory")
        });
        setsockopt(&fd, RcvBufForce, &ROOM).expect("room is allowed in the laboratory");
        let thread = thread::spawn(move || {
            hurry();
            while !until.load(Ordering::Relaxed) {
                hear(&fd, &to, &count);
            }
        });
        Self { heard, frames, over, thread: Some(thread) }
    }

    /// When the address was announced first.
    pub fn announced(&self, ip: Ipv4Addr) -> Option<Instant> {
        self.heard().announced.get(&ip).copied()
    }

    /// When the first frame about the address was there, of whatever kind.
    pub fn first(&self, ip: Ipv4Addr) -> Option<Instant> {
        let heard = self.heard();
        [&heard.probed, &heard.announced].into_iter().filter_map(|it| it.get(&ip).copied()).min()
    }

    /// How many addresses were announced.
    pub fn count(&self) -> usize {
        self.heard().announced.len()
    }

    /// When the first and when the last of them was announced first.
    pub fn span(&self) -> Option<(Instant, Instant)> {
        let heard = self.heard();
        let announced = &heard.announced;
        Some((*announced.values().min()?, *announced.values().max()?))
    }

    /// How many announcements there were.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        _ = self.thread.take().map(JoinHandle::join);
    }
}

fn hear(fd: &OwnedFd, to: &Mutex<Heard>, count: &AtomicU64) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    _ = poll(&mut fds, PollTimeout::from(20_u8));
    let mut frame = [0; 128];
    while let Ok(length) = recv(fd.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
        let said = frame.get(..length.min(frame.len())).and_then(listen);
        let now = clock::now();
        let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, ip) = match said {
            Some(Said::Announcement { ip: IpAddr::V4(ip), .. }) => (&mut to.announced, ip),
            Some(Said::Probe { ip: IpAddr::V4(ip), .. }) => (&mut to.probed, ip),
            _ => continue,
        };
        of.entry(ip).or_insert(now);
        count.fetch_add(1, Ordering::Relaxed);
    }
}
