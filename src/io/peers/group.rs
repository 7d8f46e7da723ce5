//! The socket of members that find each other: it hears a group on one link beside what is
//! sent to it alone, and sends from the address that the others are told.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};

use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::socket::{self, ControlMessage, MsgFlags, SockaddrStorage};
use nix::unistd::dup3_raw;

use super::{Peers, lock, unbound};
use crate::io::sockopt::set_option;
use crate::model::{Ear, LinkIndex};

/// From where, and for a group by which link, to send.
#[derive(Debug)]
pub(super) struct Path {
    link: LinkIndex,
    source: IpAddr,
}

impl Peers {
    /// From here on it is heard at this address, hears what is said to the group on that link,
    /// and sends from that address. What it was before is over, even if this fails.
    pub fn listen(&self, ear: &Ear) -> io::Result<()> {
        let Ear { link, address, group } = *ear;
        let everywhere = match address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = SocketAddr::new(everywhere, address.port());
        let failed = |it: io::Error| {
            let (what, at) = ("listening for members to", format!("{group} on link {}", link.0));
            io::Error::new(it.kind(), format!("{what} {at}: {it}"))
        };
        // Whoever waits for the socket goes on waiting for it: its number stays.
        let new = unbound(local).map_err(failed)?;
        let number = self.socket.as_raw_fd();
        // SAFETY: the number is that of our own socket, which is there as long as `self`.
        let placed = unsafe { dup3_raw(&new, number, OFlag::O_CLOEXEC) };
        // It is ours already, under that number.
        let _ = placed.map_err(|it| failed(it.into()))?.into_raw_fd();
        *lock(&self.path) = Some(Path { link, source: address.ip() });
        let bound = socket::bind(number, &SockaddrStorage::from(local)).map_err(io::Error::from);
        bound.and_then(|()| join(&self.socket, link, group)).map_err(failed)
    }
}

impl Path {
    pub fn send(&self, socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        // What goes to one member goes by the way that routes tell.
        let link = if to.ip().is_multicast() { self.link.0 } else { 0 };
        let parts = [IoSlice::new(bytes)];
        let send = |control: &[ControlMessage<'_>]| {
            let (fd, to) = (socket.as_raw_fd(), SockaddrStorage::from(to));
            socket::sendmsg(fd, &parts, control, MsgFlags::empty(), Some(&to)).map(drop)
        };
        let sent = match self.source {
            IpAddr::V4(it) => send(&[ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
                ipi_ifindex: i32::try_from(link).unwrap_or_default(),
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(it).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            })]),
            IpAddr::V6(it) => send(&[ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: it.octets() },
                ipi6_ifindex: link,
            })]),
        };
        Ok(sent?)
    }
}

/// What it sends to the group does not come back; a time to live of 255 shows that no router
/// had its hands in it (RFC 5082).
fn join(socket: &UdpSocket, link: LinkIndex, group: IpAddr) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => {
            for (option, value) in [
                (libc::IP_MULTICAST_TTL, super::TTL),
                (libc::IP_MULTICAST_LOOP, 0),
                (libc::IP_MULTICAST_ALL, 0),
            ] {
                set_option(socket.as_fd(), libc::IPPROTO_IP, option, &value)?;
            }
            let whom = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: u32::from(group).to_be() },
                imr_address: libc::in_addr { s_addr: 0 },
                imr_ifindex: i32::try_from(link.0).unwrap_or_default(),
            };
            set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &whom)
        }
        IpAddr::V6(group) => {
            for (option, value) in [
                (libc::IPV6_MULTICAST_HOPS, super::TTL),
                (libc::IPV6_MULTICAST_LOOP, 0),
                (libc::IPV6_MULTICAST_ALL, 0),
            ] {
                set_option(socket.as_fd(), libc::IPPROTO_IPV6, option, &value)?;
            }
            socket.join_multicast_v6(&group, link.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hello, next, open};
    use super::*;
    use crate::wire::quorum::Keys;

    /// Which link that is, and whether it can carry groups, is known of loopback only; who
    /// hears a group is tested where there are links.
    #[test]
    fn it_is_heard_at_its_address_and_goes_on_by_the_same_number() {
        let b = open(Ipv4Addr::LOCALHOST.into(), Keys::insecure());
        let a = Peers::open(([0, 0, 0, 0], 0).into(), Keys::insecure()).unwrap();
        let number = a.socket.as_raw_fd();
        let port = a.local().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 3], port));
        let group = Ipv4Addr::new(224, 0, 0, 254).into();
        a.listen(&Ear { link: LinkIndex(1), address, group }).unwrap();
        assert_eq!((a.socket.as_raw_fd(), a.local().unwrap().port()), (number, port));
        a.send(b.local().unwrap(), &hello(1)).unwrap();
        assert_eq!(next(&b), Some((address, 255, hello(1))));
        b.send(address, &hello(2)).unwrap();
        assert_eq!(next(&a), Some((b.local().unwrap(), 255, hello(2))));
        let nowhere = a.listen(&Ear { link: LinkIndex(9_999), address, group });
        let why = nowhere.unwrap_err().to_string();
        assert!(why.starts_with("listening for members to 224.0.0.254 on link 9999: "), "{why}");
    }
}
