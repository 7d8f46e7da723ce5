//! Packet sockets: frames of ours out, frames of others about our VIPs in.

pub mod filter;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_io::{Async, Timer};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType};

use self::filter::{MOST_ADDRESSES, Program};
use super::netlink::name;
use crate::model::{Frame, Heard, LinkIndex, Mac, Vip};
use crate::wire::frame;

/// So many frames are taken at a time, and then none for a [`PAUSE`]: a stranger who
/// shouts gets no more of the machine than that.
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(5);
/// Longer than any ARP or NDP frame with options that are of interest.
const LONGEST: usize = 512;

/// A socket that sends.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens it; it receives nothing.
    pub fn open() -> io::Result<Self> {
        open().map(Self)
    }

    /// Sends one frame.
    pub fn send(&self, link: LinkIndex, frame: &Frame) -> Result<(), String> {
        let sent = send_bytes(self.0.as_fd(), ether_type(frame), link, &frame::encode(frame));
        sent.map_err(|errno| format!("sending a frame on {}: {}", name(link), errno.desc()))
    }
}

/// Sends a whole frame.
pub(super) fn send_bytes(
    fd: BorrowedFd<'_>,
    ether_type: u16,
    link: LinkIndex,
    bytes: &[u8],
) -> Result<(), Errno> {
    let to = address(ether_type, link);
    // SAFETY: both pointers and lengths describe values that outlive the call.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
            std::ptr::from_ref(&to).cast(),
            size_of_val(&to) as u32,
        )
    };
    Errno::result(sent).map(drop)
}

fn ether_type(frame: &Frame) -> u16 {
    let (Frame::Probe { ip, .. } | Frame::Announce { ip, .. } | Frame::AnnounceReply { ip, .. }) =
        frame;
    match ip {
        IpAddr::V4(_) => libc::ETH_P_ARP as u16,
        IpAddr::V6(_) => libc::ETH_P_IPV6 as u16,
    }
}

/// What is listened for: the kernel thread says it, the loop hears it.
#[derive(Debug)]
pub struct Listener {
    arp: Arc<OwnedFd>,
    nd: Arc<OwnedFd>,
    named: Arc<Mutex<Named>>,
}

/// The addresses that are listened for, each family in as little room as it needs.
#[derive(Debug, Default)]
struct Named {
    v4: BTreeSet<Ipv4Addr>,
    v6: BTreeSet<Ipv6Addr>,
}

impl Named {
    fn insert(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.v4.insert(ip),
            IpAddr::V6(ip) => self.v6.insert(ip),
        };
    }

    fn remove(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.v4.remove(&ip),
            IpAddr::V6(ip) => self.v6.remove(&ip),
        };
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4.contains(&ip),
            IpAddr::V6(ip) => self.v6.contains(&ip),
        }
    }

    /// As many of each family as programs tell apart, and one more where there are more.
    fn first(&self) -> [Vec<IpAddr>; 2] {
        let v4 = self.v4.iter().take(MOST_ADDRESSES + 1).map(|it| (*it).into());
        let v6 = self.v6.iter().take(MOST_ADDRESSES + 1).map(|it| (*it).into());
        [v4.collect(), v6.collect()]
    }
}

impl Listener {
    /// Opens the sockets, deaf at first.
    pub fn open() -> io::Result<Self> {
        let [arp, nd] = [Arc::new(open()?), Arc::new(open()?)];
        Ok(Self { arp, nd, named: Arc::default() })
    }

    /// The end that hears; to be polled in one task each.
    pub fn ears(&self) -> io::Result<[Ear; 2]> {
        let ear = |fd: &Arc<OwnedFd>| -> io::Result<Ear> {
            Ok(Ear { fd: Async::new_nonblocking(fd.clone())?, named: self.named.clone() })
        };
        Ok([ear(&self.arp)?, ear(&self.nd)?])
    }

    /// Other addresses are to be heard about, from when it is listened next. `anew`: none of
    /// those that were named before.
    pub fn name(&self, more: &[Vip], less: &[Vip], anew: bool) {
        let mut named = lock(&self.named);
        if anew {
            *named = Named::default();
        }
        less.iter().for_each(|it| named.remove(it.0));
        more.iter().for_each(|it| named.insert(it.0));
    }

    /// Hears about the addresses that were named, and nothing else, on these links.
    pub fn listen(&self, links: &[LinkIndex]) -> io::Result<()> {
        let [v4, v6] = lock(&self.named).first();
        let arp = Program::arp(links, &v4);
        tune(&self.arp, libc::ETH_P_ARP as u16, links, (!v4.is_empty(), &arp))?;
        let nd = Program::nd(links, &v6);
        tune(&self.nd, libc::ETH_P_IPV6 as u16, links, (!v6.is_empty(), &nd))
    }
}

/// Filter first, so that nothing else is ever queued.
pub(super) fn tune(
    fd: &OwnedFd,
    ether_type: u16,
    links: &[LinkIndex],
    (wanted, program): (bool, &Program),
) -> io::Result<()> {
    let [first, rest @ ..] = links else { return Program::nothing().attach(fd.as_fd()) };
    if !wanted {
        return Program::nothing().attach(fd.as_fd());
    }
    program.attach(fd.as_fd())?;
    // Bound to its link, the socket costs the traffic of others nothing.
    let link = if rest.is_empty() { *first } else { LinkIndex(0) };
    let at = address(ether_type, link);
    // SAFETY: pointer and length describe `at`, which the kernel only reads.
    let bound = unsafe {
        libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&at).cast(), size_of_val(&at) as u32)
    };
    Ok(Errno::result(bound).map(drop)?)
}

/// One socket that hears.
#[derive(Debug)]
pub struct Ear {
    fd: Async<Arc<OwnedFd>>,
    named: Arc<Mutex<Named>>,
}

impl Ear {
    /// Hands on what it hears, for ever. `own` says which MACs are this host's.
    pub async fn run(self, own: &dyn Fn(Mac) -> bool, heard: &dyn Fn(Heard)) {
        loop {
            if self.fd.readable().await.is_err() {
                return;
            }
            let mut burst: Vec<Heard> = Vec::new();
            for _ in 0..BURST {
                match receive(self.fd.get_ref()) {
                    Ok(Some(it)) if !burst.contains(&it) => burst.push(it),
                    // Nothing of interest, or the link went down, which others tell.
                    Ok(_) | Err(Errno::ENETDOWN | Errno::EINTR) => {}
                    Err(_) => break,
                }
            }
            burst.retain(|it| lock(&self.named).contains(it.ip) && !own(it.mac));
            burst.into_iter().for_each(heard);
            Timer::after(PAUSE).await;
        }
    }
}

fn receive(fd: &OwnedFd) -> Result<Option<Heard>, Errno> {
    let mut bytes = [0; LONGEST];
    let (link, bytes) = receive_bytes(fd, &mut bytes)?;
    Ok(frame::decode(link, bytes))
}

/// One frame, as much of it as there is room for, and the link that it came in on.
pub(super) fn receive_bytes<'a>(
    fd: &OwnedFd,
    bytes: &'a mut [u8],
) -> Result<(LinkIndex, &'a [u8]), Errno> {
    let mut from = address(0, LinkIndex(0));
    let mut from_length = size_of_val(&from) as u32;
    // SAFETY: the pointers and lengths describe `bytes` and `from`, which outlive the call;
    // a packet socket writes no other kind of address.
    let length = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            MsgFlags::MSG_DONTWAIT.bits(),
            std::ptr::from_mut(&mut from).cast(),
            &mut from_length,
        )
    };
    let length = Errno::result(length)? as usize;
    Ok((LinkIndex(from.sll_ifindex as u32), bytes.get(..length).unwrap_or_default()))
}

pub(super) fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Packet, SockType::Raw, flags, None)
        .map_err(|errno| io::Error::other(format!("opening a packet socket: {}", errno.desc())))?;
    Program::nothing().attach(fd.as_fd())?;
    Ok(fd)
}

fn address(ether_type: u16, link: LinkIndex) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ether_type.to_be(),
        sll_ifindex: link.0 as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff; 8],
    }
}

fn lock(named: &Mutex<Named>) -> MutexGuard<'_, Named> {
    named.lock().unwrap_or_else(PoisonError::into_inner)
}
