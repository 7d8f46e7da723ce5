//! Links that a laboratory is made of: a bridge, cables into other network namespaces, and
//! what is done to them. Everything happens in the namespace of the thread that opened this.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockProtocol;

use super::message::Writer;
use super::socket::Socket;
use crate::model::{LinkIndex, Mac};

const VETH_INFO_PEER: u16 = 1;
/// `linux/if_link.h`: attributes of a bridge, and of a port of one.
const BR_FORWARD_DELAY: u16 = 1;
const BR_STP_STATE: u16 = 5;
const BR_MCAST_SNOOPING: u16 = 23;
const BRPORT_STATE: u16 = 1;
/// `BR_STATE_DISABLED` and `BR_STATE_FORWARDING`.
const DISABLED: u8 = 0;
const FORWARDING: u8 = 3;

/// The kernel's links, made and changed.
#[derive(Debug)]
pub struct Links(Socket);

/// The end of a cable that lies in another network namespace.
#[derive(Clone, Copy, Debug)]
pub struct FarEnd<'a> {
    /// The link's name there.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// The namespace.
    pub namespace: BorrowedFd<'a>,
}

impl Links {
    /// Opens the way to the kernel.
    pub fn open() -> Result<Self, String> {
        let socket = Socket::open(SockProtocol::NetlinkRoute);
        socket.map(Self).map_err(|it| format!("opening a netlink socket: {it}"))
    }

    /// Makes a bridge that forwards at once and everything, and turns it on.
    pub fn bridge(&mut self, name: &str) -> Result<LinkIndex, String> {
        self.make(name, "bridge", None, |it| {
            it.attribute(BR_FORWARD_DELAY, &0_u32.to_ne_bytes());
            it.attribute(BR_STP_STATE, &0_u32.to_ne_bytes());
            it.attribute(BR_MCAST_SNOOPING, &[0]);
        })
    }

    /// Makes a cable from a port of the bridge to another namespace, and turns the port on.
    pub fn cable(
        &mut self,
        port: &str,
        bridge: LinkIndex,
        far: FarEnd<'_>,
    ) -> Result<LinkIndex, String> {
        self.make(port, "veth", Some(bridge), |it| {
            it.nested(VETH_INFO_PEER, |it| {
                it.put(&[0; 16]);
                it.text(libc::IFLA_IFNAME, far.name);
                it.attribute(libc::IFLA_ADDRESS, &far.mac.0);
                it.attribute(libc::IFLA_NET_NS_FD, &far.namespace.as_raw_fd().to_ne_bytes());
            });
        })
    }

    /// Turns a link on or off; off takes the carrier from the other end of its cable.
    pub fn turn(&mut self, link: LinkIndex, on: bool) -> Result<(), String> {
        let up = libc::IFF_UP as u32;
        let flags = [if on { up } else { 0 }, up];
        let mut writer = self.0.compose();
        writer.message(libc::RTM_NEWLINK, 0, |it| head(it, libc::AF_UNSPEC, link, flags));
        self.request(writer, "turning on or off", &super::name(link))
    }

    /// Lets a port of a bridge pass frames, or none: its cable keeps the carrier.
    pub fn pass(&mut self, port: LinkIndex, on: bool) -> Result<(), String> {
        let state = if on { FORWARDING } else { DISABLED };
        let mut writer = self.0.compose();
        writer.message(libc::RTM_SETLINK, 0, |it| {
            head(it, libc::AF_BRIDGE, port, [0, 0]);
            it.nested(libc::IFLA_PROTINFO, |it| it.attribute(BRPORT_STATE, &[state]));
        });
        self.request(writer, "opening or closing the port", &super::name(port))
    }

    /// Gives a link an address of its own, for as long as it lives.
    pub fn give(&mut self, link: LinkIndex, ip: Ipv4Addr, length: u8) -> Result<(), String> {
        self.address(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, link, ip, length)
    }

    /// Takes such an address away.
    pub fn take(&mut self, link: LinkIndex, ip: Ipv4Addr, length: u8) -> Result<(), String> {
        self.address(libc::RTM_DELADDR, 0, link, ip, length)
    }

    fn address(
        &mut self,
        kind: u16,
        flags: i32,
        link: LinkIndex,
        ip: Ipv4Addr,
        length: u8,
    ) -> Result<(), String> {
        let mut writer = self.0.compose();
        writer.message(kind, flags as u16, |it| {
            it.put(&[libc::AF_INET as u8, length, 0, libc::RT_SCOPE_UNIVERSE]);
            it.put(&link.0.to_ne_bytes());
            it.attribute(libc::IFA_LOCAL, &ip.octets());
            it.attribute(libc::IFA_ADDRESS, &ip.octets());
        });
        self.request(writer, "giving or taking", &format!("{ip} on {}", super::name(link)))
    }

    fn make(
        &mut self,
        name: &str,
        kind: &str,
        bridge: Option<LinkIndex>,
        words: impl FnOnce(&mut Writer),
    ) -> Result<LinkIndex, String> {
        let mut writer = self.0.compose();
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        writer.message(libc::RTM_NEWLINK, flags, |it| {
            head(it, libc::AF_UNSPEC, LinkIndex(0), [libc::IFF_UP as u32; 2]);
            it.text(libc::IFLA_IFNAME, name);
            if let Some(bridge) = bridge {
                it.attribute(libc::IFLA_MASTER, &bridge.0.to_ne_bytes());
            }
            it.nested(libc::IFLA_LINKINFO, |it| {
                it.text(libc::IFLA_INFO_KIND, kind);
                it.nested(libc::IFLA_INFO_DATA, words);
            });
        });
        self.request(writer, "making the link", name)?;
        index(name)
    }

    fn request(&mut self, writer: Writer, what: &str, whom: &str) -> Result<(), String> {
        self.0.request(writer).map_err(|it| format!("{what} {whom}: {it}"))
    }
}

/// The number of the link of that name.
pub fn index(name: &str) -> Result<LinkIndex, String> {
    let found = if_nametoindex(name).map(LinkIndex);
    found.map_err(|it| format!("finding the link {name}: {}", it.desc()))
}

/// `struct ifinfomsg`.
pub(super) fn head(it: &mut Writer, family: i32, link: LinkIndex, [flags, change]: [u32; 2]) {
    it.put(&[family as u8, 0, 0, 0]);
    for word in [link.0, flags, change] {
        it.put(&word.to_ne_bytes());
    }
}
