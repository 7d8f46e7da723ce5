//! The kernel's addresses as the kernel thread knows them: read once, and followed since. With
//! thousands of them, one that is added costs no reading of all.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, SockProtocol};

use super::message::messages;
use super::monitor::of_addresses;
use super::parse::{self, Found};
use super::socket::listen;
use crate::model::LinkIndex;

/// `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`.
const GROUPS: [u32; 2] = [5, 9];
/// Longer than any notification; one that is longer all the same counts as lost.
const LONGEST: usize = 2 * 1024;

/// What tells addresses apart.
type Key = (IpAddr, LinkIndex, u8);

/// What is there, and what tells of changes.
#[derive(Debug)]
pub(super) struct Known {
    news: OwnedFd,
    /// `None`: it has to be read.
    all: Option<BTreeMap<Key, Mark>>,
    /// Of these, it may be older news that they went than that they are there.
    doubted: BTreeSet<(LinkIndex, IpAddr)>,
}

/// What tells whose an address is.
#[derive(Clone, Copy, Debug)]
struct Mark {
    tag: u8,
    scope: u8,
    lent: bool,
}

impl Known {
    /// Begins to hear of changes. Nothing is read yet.
    pub fn open() -> io::Result<Self> {
        let news = listen(SockProtocol::NetlinkRoute, &GROUPS, &of_addresses())?;
        Ok(Self { news, all: None, doubted: BTreeSet::new() })
    }

    /// Whether what is known of the address can be relied on.
    pub fn is_sure(&self, link: LinkIndex, ip: IpAddr) -> bool {
        self.is_read() && !self.doubted.contains(&(link, ip))
    }

    pub fn is_read(&self) -> bool {
        self.all.is_some()
    }

    /// These are there, and no others.
    pub fn read(&mut self, all: Vec<Found>) {
        self.all = Some(all.into_iter().map(entry).collect());
        self.doubted.clear();
    }

    /// What is known may be wrong.
    pub fn forget(&mut self) {
        self.all = None;
        self.doubted.clear();
    }

    /// Learns what was done since, by whomever.
    pub fn follow(&mut self) {
        let mut bytes = [0; LONGEST];
        loop {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match socket::recv(self.news.as_raw_fd(), &mut bytes, flags) {
                Ok(length) if length > LONGEST => self.forget(),
                Ok(length) => {
                    for message in messages(bytes.get(..length).unwrap_or_default()) {
                        match (message.kind, parse::address(&message)) {
                            (libc::RTM_NEWADDR, Some(it)) => self.insert(it),
                            (libc::RTM_DELADDR, Some(it)) => self.lose(&it),
                            _ => {}
                        }
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // Some were lost.
                Err(Errno::ENOBUFS) => self.forget(),
                Err(_) => return self.forget(),
            }
        }
    }

    pub fn insert(&mut self, it: Found) {
        if let Some(all) = &mut self.all {
            let (key, mark) = entry(it);
            all.insert(key, mark);
        }
    }

    pub fn remove(&mut self, it: &Found) {
        if let Some(all) = &mut self.all {
            all.remove(&(it.ip, it.link, it.length));
        }
        self.doubted.remove(&(it.link, it.ip));
    }

    /// That it comes back as ours is not told, so this may have been before.
    fn lose(&mut self, it: &Found) {
        let there = self.all.as_ref().is_some_and(|all| all.contains_key(&entry(*it).0));
        if there {
            self.doubted.insert((it.link, it.ip));
        }
    }

    /// The address on a link, with whatever lengths.
    pub fn at(&self, link: LinkIndex, ip: IpAddr) -> impl Iterator<Item = Found> + '_ {
        let keys = (ip, link, 0)..=(ip, link, u8::MAX);
        self.all.iter().flat_map(move |it| it.range(keys.clone())).map(found)
    }

    /// All that are there.
    pub fn all(&self) -> impl Iterator<Item = Found> + '_ {
        self.all.iter().flatten().map(found)
    }

    /// Those of `ips` that are there, on all links.
    pub fn of<'a>(&'a self, ips: &'a BTreeSet<IpAddr>) -> impl Iterator<Item = Found> + 'a {
        self.all().filter(|it| ips.contains(&it.ip))
    }

    /// One of the IPv4 subnet that the address comes into.
    pub fn beside(&self, link: LinkIndex, ip: IpAddr, length: u8) -> Option<Found> {
        let IpAddr::V4(ip) = ip else { return None };
        let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
        let first = Ipv4Addr::from(ip.to_bits() & mask).into();
        let last = Ipv4Addr::from(ip.to_bits() | !mask).into();
        let keys = (first, LinkIndex(0), 0)..=(last, LinkIndex(u32::MAX), u8::MAX);
        let mut all = self.all.iter().flat_map(move |it| it.range(keys.clone())).map(found);
        all.find(|it| it.link == link && it.length == length)
    }
}

fn entry(it: Found) -> (Key, Mark) {
    let Found { link, ip, length, tag, scope, lent } = it;
    ((ip, link, length), Mark { tag, scope, lent })
}

fn found((&(ip, link, length), &Mark { tag, scope, lent }): (&Key, &Mark)) -> Found {
    Found { link, ip, length, tag, scope, lent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_an_address_is_of_its_subnet_and_link() {
        let mut known = Known::open().unwrap();
        let one = |ip: &str, link, length| Found {
            link: LinkIndex(link),
            ip: ip.parse().unwrap(),
            length,
            tag: 0,
            scope: 7,
            lent: false,
        };
        known.read(vec![one("10.0.0.1", 2, 24), one("10.0.1.1", 3, 24), one("10.0.0.9", 2, 32)]);
        let table = [
            ("10.0.0.77", 2, 24, true),
            ("10.0.0.77", 3, 24, false),
            ("10.0.0.77", 2, 16, false),
            ("10.0.0.77", 2, 32, false),
            ("10.0.0.9", 2, 32, true),
            ("10.0.1.77", 3, 24, true),
            ("10.0.2.77", 3, 24, false),
            ("255.255.255.255", 2, 0, false),
        ];
        for (ip, link, length, is) in table {
            let it = known.beside(LinkIndex(link), ip.parse().unwrap(), length);
            assert_eq!(it.is_some(), is, "{ip}/{length} on {link}");
        }
    }
}
