//! The socket that members of a quorum talk through.

mod group;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage,
};

use super::sockopt::set_option;
use crate::model::Envelope;
use crate::wire::quorum::{self, BadDatagram, Keys, LONGEST};

/// RFC 5082 §3: what comes with it was sent on the same link.
const TTL: i32 = 255;
/// RFC 4594 §3.1: network control (CS6), as routers mark what keeps a network together.
const TRAFFIC_CLASS: i32 = 0xc0;
/// So many that cannot be believed are taken at a time, and then others have their turn.
const BURST: usize = 64;
/// Whose bad datagrams are counted by source.
const SOURCES: usize = 64;

/// What is being read. Only as much of it is in memory as was ever needed.
static BUFFER: Mutex<[u8; LONGEST + 1]> = Mutex::new([0; LONGEST + 1]);

/// The socket, and what came through it that was not believed.
pub struct Peers {
    socket: UdpSocket,
    /// How it sends, where members find each other.
    path: Mutex<Option<group::Path>>,
    keys: Keys,
    bad: Mutex<BTreeMap<IpAddr, BTreeMap<&'static str, u64>>>,
}

impl Peers {
    /// Opens it at an address, which this host need not have yet.
    pub fn open(local: SocketAddr, keys: Keys) -> io::Result<Self> {
        let failed = |it: io::Error| {
            io::Error::new(it.kind(), format!("opening a socket for members on {local}: {it}"))
        };
        Ok(Self {
            socket: bound(local).map_err(failed)?,
            path: Mutex::default(),
            keys,
            bad: Mutex::default(),
        })
    }

    /// Where it listens.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one datagram, or fails at once.
    pub fn send(&self, to: SocketAddr, it: &Envelope) -> io::Result<()> {
        let bytes = quorum::seal(&self.keys, it);
        if bytes.len() > LONGEST {
            return Err(Errno::EMSGSIZE.into());
        }
        match &*lock(&self.path) {
            Some(path) => path.send(&self.socket, to, &bytes),
            None => self.socket.send_to(&bytes, to).map(drop),
        }
    }

    /// A datagram that can be believed, if one is there: from where, with which time to live,
    /// and what it says. Fails when the socket does.
    pub fn take(&self) -> io::Result<Option<(SocketAddr, u8, Envelope)>> {
        for _ in 0..BURST {
            match self.take_one() {
                Ok(None) => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                taken => return taken,
            }
        }
        Ok(None)
    }

    /// How many datagrams were not believed, by source and code. Those of sources beyond the
    /// first few are counted under the unspecified address.
    pub fn bad(&self) -> Vec<(IpAddr, &'static str, u64)> {
        let bad = lock(&self.bad);
        let all = bad.iter().flat_map(|(ip, codes)| codes.iter().map(|(code, n)| (*ip, *code, *n)));
        all.collect()
    }

    fn take_one(&self) -> io::Result<Option<(SocketAddr, u8, Envelope)>> {
        let mut buffer = lock(&BUFFER);
        let Some((from, ttl, length)) = receive(&self.socket, &mut *buffer)? else {
            return Ok(None);
        };
        match quorum::open(&self.keys, &buffer[..length]) {
            Ok(it) => Ok(Some((from, ttl, it))),
            Err(why) => {
                self.count(from.ip(), why);
                Ok(None)
            }
        }
    }

    fn count(&self, from: IpAddr, why: BadDatagram) {
        log::trace!(from:%; "a datagram of {from} is not believed: {why}");
        let mut bad = lock(&self.bad);
        let others = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let named = bad.keys().filter(|it| **it != others).count();
        let source = if named < SOURCES || bad.contains_key(&from) { from } else { others };
        *bad.entry(source).or_default().entry(why.code()).or_default() += 1;
    }
}

impl AsFd for Peers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn bound(local: SocketAddr) -> io::Result<UdpSocket> {
    let fd = unbound(local)?;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(local))?;
    Ok(fd.into())
}

fn unbound(local: SocketAddr) -> io::Result<OwnedFd> {
    let (family, options) = match local {
        SocketAddr::V4(_) => (AddressFamily::Inet, V4),
        SocketAddr::V6(_) => (AddressFamily::Inet6, V6),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(family, SockType::Datagram, flags, None)?;
    for (level, option, value) in options {
        set_option(fd.as_fd(), *level, *option, value)?;
    }
    Ok(fd)
}

/// Without path MTU discovery a long datagram goes in fragments, rather than not at all.
const V4: &[(i32, i32, i32)] = &[
    (libc::IPPROTO_IP, libc::IP_FREEBIND, 1),
    (libc::IPPROTO_IP, libc::IP_TTL, TTL),
    (libc::IPPROTO_IP, libc::IP_RECVTTL, 1),
    (libc::IPPROTO_IP, libc::IP_TOS, TRAFFIC_CLASS),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
];
const V6: &[(i32, i32, i32)] = &[
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1),
    (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, TTL),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, TRAFFIC_CLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
];

/// From where, with which time to live, how many bytes; `None`: nothing, but more may come.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(SocketAddr, u8, usize)>> {
    let mut parts = [io::IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(i32);
    let fd = socket.as_raw_fd();
    let flags = MsgFlags::MSG_DONTWAIT;
    let came = match socket::recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags) {
        Ok(it) => it,
        Err(errno) if of_another(errno) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let from = came.address.and_then(|it| {
        let v4 = it.as_sockaddr_in().map(|it| SocketAddrV4::from(*it).into());
        v4.or_else(|| it.as_sockaddr_in6().map(|it| SocketAddrV6::from(*it).into()))
    });
    let ttl = came.cmsgs().ok().and_then(|mut all| {
        all.find_map(|it| match it {
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => Some(ttl),
            _ => None,
        })
    });
    let ttl = ttl.and_then(|it| u8::try_from(it).ok()).unwrap_or_default();
    let length = came.bytes;
    Ok(from.map(|from| (from, ttl, length)))
}

/// What became of a datagram sent before (ICMP), or of the link: nothing is wrong with the
/// socket.
fn of_another(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EACCES
            | Errno::ECONNREFUSED
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::EINTR
            | Errno::EMSGSIZE
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::ENOPROTOOPT
            | Errno::EPROTO
            | Errno::ETIMEDOUT
    )
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::net::Ipv6Addr;

    use super::*;
    use crate::model::{Life, NodeName};

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn a_word_comes_with_its_source_and_time_to_live() {
        for ip in [V4, V6] {
            let [a, b] = [open(ip, Keys::insecure()), open(ip, Keys::insecure())];
            for count in 1..=3 {
                a.send(at(&b), &hello(count)).unwrap();
                assert_eq!(next(&b), Some((at(&a), 255, hello(count))));
            }
            let [class, probing] = [socket_option(&b, ip, 0), socket_option(&b, ip, 1)];
            assert_eq!((class, probing), (TRAFFIC_CLASS, 0));
        }
    }

    #[test]
    fn what_was_forwarded_has_less_time_to_live() {
        let b = open(V4, Keys::insecure());
        let a = UdpSocket::bind((V4, 0)).unwrap();
        a.set_ttl(7).unwrap();
        let bytes = quorum::seal(&Keys::insecure(), &hello(1));
        a.send_to(&bytes, at(&b)).unwrap();
        assert_eq!(next(&b), Some((a.local_addr().unwrap(), 7, hello(1))));
    }

    #[test]
    fn what_is_not_believed_is_skipped_and_counted() {
        for ip in [V4, V6] {
            let keys = Keys::new(&[1; 16], None).unwrap();
            let [a, b] = [open(ip, keys.clone()), open(ip, keys)];
            let stranger = open(ip, Keys::insecure());
            stranger.send(at(&b), &hello(1)).unwrap();
            stranger.send(at(&b), &hello(2)).unwrap();
            let noise = &stranger.socket;
            let mut version = quorum::seal(&Keys::insecure(), &hello(1));
            version[2] = 99;
            noise.send_to(b"", at(&b)).unwrap();
            noise.send_to(&[b'x'; 100], at(&b)).unwrap();
            noise.send_to(&vec![0; LONGEST + 1], at(&b)).unwrap();
            noise.send_to(&version, at(&b)).unwrap();
            a.send(at(&b), &hello(3)).unwrap();
            assert_eq!(next(&b), Some((at(&a), 255, hello(3))));
            let counted = ["key", "malformed", "short", "too-long", "version"];
            let counted = counted.map(|it| (ip, it, if it == "key" { 2 } else { 1 }));
            assert_eq!(b.bad(), counted);
        }
    }

    #[test]
    fn the_bad_are_counted_in_bounds() {
        let peers = open(V4, Keys::insecure());
        for _ in 0..2 {
            for last in 1..=100 {
                peers.count([192, 0, 2, last].into(), BadDatagram::Key);
            }
        }
        let bad = peers.bad();
        assert_eq!(bad.len(), SOURCES + 1);
        assert_eq!(bad[0], (Ipv4Addr::UNSPECIFIED.into(), "key", 72));
        assert_eq!(bad[1], ([192, 0, 2, 1].into(), "key", 2));
    }

    #[test]
    fn a_peer_that_is_not_there_is_no_fault_of_the_socket() {
        let [a, b] = [open(V4, Keys::insecure()), open(V4, Keys::insecure())];
        let gone = at(&open(V4, Keys::insecure()));
        // Connected, a socket is told of what becomes of its datagrams.
        a.socket.connect(gone).unwrap();
        a.socket.send(b"x").unwrap();
        assert_eq!(next(&a), None);
        b.send(gone, &hello(1)).unwrap();
        b.send(at(&b), &hello(2)).unwrap();
        assert_eq!(next(&b), Some((at(&b), 255, hello(2))));
    }

    #[test]
    fn the_address_may_come_later() {
        let [v4, v6] = ["192.0.2.1:0", "[2001:db8::1]:0"].map(|it| it.parse().unwrap());
        let peers = Peers::open(v4, Keys::insecure()).unwrap();
        assert!(peers.send(SocketAddr::new(V4, 9), &hello(1)).is_err());
        Peers::open(v6, Keys::insecure()).unwrap();
    }

    #[test]
    fn an_address_is_taken_once_and_the_refusal_says_which() {
        let first = open(V4, Keys::insecure());
        let why = Peers::open(at(&first), Keys::insecure()).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::AddrInUse);
        let text = format!("opening a socket for members on {}: ", at(&first));
        assert!(why.to_string().starts_with(&text), "{why}");
    }

    #[test]
    fn what_cannot_be_sent_is_an_error_at_once() {
        let a = open(V4, Keys::insecure());
        let mut it = hello(1);
        it.from = NodeName("n".repeat(LONGEST).into());
        let why = a.send(at(&a), &it).unwrap_err();
        assert_eq!(why.raw_os_error(), Some(libc::EMSGSIZE));
        let other_family = a.send(SocketAddr::new(V6, 9), &hello(1));
        assert!(other_family.is_err());
    }

    pub(super) fn open(ip: IpAddr, keys: Keys) -> Peers {
        Peers::open(SocketAddr::new(ip, 0), keys).unwrap()
    }

    fn at(peers: &Peers) -> SocketAddr {
        peers.local().unwrap()
    }

    pub(super) fn hello(count: u64) -> Envelope {
        let from = NodeName("n1".into());
        Envelope { from, life: Life(1), echo: None, count, message: None, hello: None }
    }

    pub(super) fn next(peers: &Peers) -> Option<(SocketAddr, u8, Envelope)> {
        let mut ready = [PollFd::new(peers.as_fd(), PollFlags::POLLIN)];
        while poll(&mut ready, 300_u16).unwrap() > 0 {
            let taken = peers.take().unwrap();
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    fn socket_option(peers: &Peers, ip: IpAddr, which: usize) -> i32 {
        let (level, options) = match ip {
            IpAddr::V4(_) => (libc::IPPROTO_IP, [libc::IP_TOS, libc::IP_MTU_DISCOVER]),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, [libc::IPV6_TCLASS, libc::IPV6_MTU_DISCOVER]),
        };
        let (mut value, mut length) = (-1, 4);
        let fd = peers.socket.as_raw_fd();
        let value_at = std::ptr::from_mut(&mut value).cast();
        // SAFETY: the pointers describe `value` and `length`, which outlive the call.
        unsafe { libc::getsockopt(fd, level, options[which], value_at, &mut length) };
        value
    }
}
