//! Raw sockets with a deadline, for the witnesses of a laboratory.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::io::clock;
use crate::model::Instant;

/// A socket that sees or sends whole packets.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Everything that crosses a link, as Ethernet frames.
    pub fn on_link(link: &str) -> io::Result<Self> {
        let all = (libc::ETH_P_ALL as u16).to_be();
        let socket = Self::open(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all))?;
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut to: libc::sockaddr_ll = unsafe { zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = all;
        to.sll_ifindex = nix::net::if_::if_nametoindex(link)? as i32;
        // SAFETY: `to` is a sockaddr_ll of the length given.
        check(unsafe {
            libc::bind(socket.raw(), (&raw const to).cast(), size_of::<libc::sockaddr_ll>() as u32)
        })?;
        Ok(socket)
    }

    /// Echo requests to one address, and the answers to them.
    pub fn echo_to(ip: IpAddr) -> io::Result<Self> {
        match ip {
            IpAddr::V4(ip) => {
                let socket = Self::open(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
                // SAFETY: all-zero is a valid sockaddr_in.
                let mut to: libc::sockaddr_in = unsafe { zeroed() };
                to.sin_family = libc::AF_INET as u16;
                to.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
                let length = size_of::<libc::sockaddr_in>() as u32;
                // SAFETY: `to` is a sockaddr_in of the length given.
                check(unsafe { libc::connect(socket.raw(), (&raw const to).cast(), length) })?;
                Ok(socket)
            }
            IpAddr::V6(ip) => {
                let socket = Self::open(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)?;
                // SAFETY: all-zero is a valid sockaddr_in6.
                let mut to: libc::sockaddr_in6 = unsafe { zeroed() };
                to.sin6_family = libc::AF_INET6 as u16;
                to.sin6_addr.s6_addr = Ipv6Addr::octets(&ip);
                let length = size_of::<libc::sockaddr_in6>() as u32;
                // SAFETY: `to` is a sockaddr_in6 of the length given.
                check(unsafe { libc::connect(socket.raw(), (&raw const to).cast(), length) })?;
                Ok(socket)
            }
        }
    }

    /// Sends, or does not: a probe that could not be sent is as lost as any.
    pub fn send(&self, packet: &[u8]) {
        // SAFETY: the pointer and the length are those of `packet`.
        unsafe {
            libc::send(self.raw(), packet.as_ptr().cast(), packet.len(), libc::MSG_DONTWAIT);
        }
    }

    /// The next packet, if one comes before the deadline.
    pub fn receive<'a>(&self, buffer: &'a mut [u8], until: Instant) -> Option<&'a [u8]> {
        loop {
            // SAFETY: the pointer and the length are those of `buffer`.
            let length = unsafe {
                let start = buffer.as_mut_ptr().cast();
                libc::recv(self.raw(), start, buffer.len(), libc::MSG_DONTWAIT)
            };
            if let Ok(length) = usize::try_from(length) {
                return buffer.get(..length);
            }
            let left = until.saturating_since(clock::now());
            if left == Duration::ZERO {
                return None;
            }
            let millis = left.as_micros().div_ceil(1_000) as u16;
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            // A signal or an error ends the wait early, which the loop survives.
            _ = poll(&mut fds, PollTimeout::from(millis));
        }
    }

    fn open(family: i32, kind: i32, protocol: i32) -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
        check(fd)?;
        // SAFETY: the descriptor is fresh and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Asks for a place before ordinary threads, so that a busy machine does not lose probes.
pub fn hurry() {
    // SAFETY: zeros are a value of it, with musl's further fields, and it outlives the call.
    unsafe {
        let mut it = zeroed::<libc::sched_param>();
        it.sched_priority = 10;
        // Not allowed without privileges, and then the figures are merely coarser.
        libc::sched_setscheduler(0, libc::SCHED_RR, &raw const it);
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
