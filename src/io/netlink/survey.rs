//! Links, addresses and the default route, read at one time.

use std::io;
use std::net::Ipv6Addr;

use log::debug;
use nix::sys::socket::SockProtocol;

use super::message::Writer;
use super::parse::{self, Found};
use super::socket::{Refused, Socket};
use crate::model::{Address, Link, LinkIndex, NetworkChange};

/// `RTEXT_FILTER_SKIP_STATS`: without the counters, a link is a third as long.
const WITHOUT_COUNTERS: u32 = 1 << 3;

/// Everything, for [`NetworkChange::Snapshot`]. It may block for as long as the kernel's
/// tables are busy or large.
pub fn everything() -> io::Result<NetworkChange> {
    everything_of(&super::tag(None))
}

/// The same, as an instance sees it whose links are tagged so.
pub fn everything_of(tag: &str) -> io::Result<NetworkChange> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let mut read = || -> Result<NetworkChange, Refused> {
        Ok(NetworkChange::Snapshot {
            links: links(&mut socket, tag)?,
            addresses: addresses(&mut socket)?.into_iter().map(Address::from).collect(),
            default_link: default_route(&mut socket)?,
        })
    };
    read().map_err(|refused| io::Error::other(format!("reading links and addresses: {refused}")))
}

/// The link of the default route.
pub fn default_link() -> io::Result<Option<LinkIndex>> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    default_route(&mut socket)
        .map_err(|refused| io::Error::other(format!("reading the default route: {refused}")))
}

/// All addresses of all links.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Found>, Refused> {
    socket.dump(libc::RTM_GETADDR, &|it| it.put(&[0; 8]), &parse::address)
}

/// Whether packets to the address are delivered on this machine.
pub fn is_local(socket: &mut Socket, ip: Ipv6Addr) -> bool {
    let mut writer = socket.compose();
    writer.message(libc::RTM_GETROUTE, 0, |it| {
        it.put(&[libc::AF_INET6 as u8, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        it.attribute(libc::RTA_DST, &ip.octets());
    });
    let mut local = false;
    socket.exchange(&writer, None, &mut |it| {
        local |= it.kind == libc::RTM_NEWROUTE && it.body.get(7) == Some(&libc::RTN_LOCAL);
    });
    local
}

/// All links.
pub fn links(socket: &mut Socket, tag: &str) -> Result<Vec<Link>, Refused> {
    let body = |it: &mut Writer| {
        it.put(&[0; 16]);
        it.attribute(libc::IFLA_EXT_MASK, &WITHOUT_COUNTERS.to_ne_bytes());
    };
    socket.dump(libc::RTM_GETLINK, &body, &|it| parse::link(it, tag))
}

fn default_route(socket: &mut Socket) -> Result<Option<LinkIndex>, Refused> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let body = |it: &mut Writer| {
            it.put(&[family as u8, 0, 0, 0, libc::RT_TABLE_MAIN, 0, 0, 0]);
            it.put(&[0; 4]);
        };
        let routes = socket.dump(libc::RTM_GETROUTE, &body, &parse::default_route);
        let routes = match routes {
            Ok(routes) => routes,
            // A kernel without IPv6, or one that has not made the table yet.
            Err(refused) if family == libc::AF_INET6 => {
                debug!(why:% = refused; "no IPv6 routes");
                continue;
            }
            Err(refused) => return Err(refused),
        };
        if let Some(best) = routes.into_iter().min() {
            return Ok(Some(best.link));
        }
    }
    Ok(None)
}
