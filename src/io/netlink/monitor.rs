//! Follows links, addresses and the default route. Notifications are listened to before
//! everything is read, so that nothing falls between; and everything is read again when
//! some were lost.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use async_io::{Async, Timer};
use log::{debug, warn};
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, SockProtocol};

use super::message::{Message, messages};
use super::socket::listen;
use super::{IFA_PROTO, OURS, parse, survey};
use crate::io::packet::filter::{Field, Program};
use crate::model::{Address, Link, LinkIndex, Mac, NetworkChange};

/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// Longer than any notification; one that is longer all the same counts as lost.
const LONGEST: usize = 16 * 1024;
/// So many links and as many addresses are remembered; changes of others are told of
/// without looking whether they are changes.
const MOST: usize = 4_096;
/// So many notifications are taken at a time.
const BURST: usize = 256;
const STACK: usize = 256 * 1024;
const RETRY: Duration = Duration::from_secs(1);

/// What was told of the kernel's network so far.
#[derive(Debug, Default)]
pub struct Picture {
    links: BTreeMap<LinkIndex, Link>,
    addresses: BTreeSet<Address>,
    default_link: Option<LinkIndex>,
}

/// A socket that hears of changes.
#[derive(Debug)]
pub struct Monitor {
    socket: Async<OwnedFd>,
    /// What this instance's links are tagged with.
    tag: String,
}

/// What a notification makes necessary, beyond itself.
#[derive(Clone, Copy, Debug, Default)]
struct Stale {
    everything: bool,
    default_link: bool,
}

impl Monitor {
    /// Opens it. What happens from here on will be told.
    pub fn open(tag: String) -> io::Result<Self> {
        let fd = listen(SockProtocol::NetlinkRoute, &GROUPS, &of_interest())?;
        Ok(Self { socket: Async::new_nonblocking(fd)?, tag })
    }

    /// Tells everything, then changes, for ever.
    pub async fn run(self, picture: &RefCell<Picture>, tell: &dyn Fn(NetworkChange)) {
        let mut stale = Stale { everything: true, default_link: false };
        loop {
            if stale.everything {
                self.survey(picture, tell).await;
            } else if stale.default_link {
                resurvey_default(picture, tell).await;
            }
            if self.socket.readable().await.is_err() {
                return;
            }
            stale = self.hear(picture, tell);
            smol::future::yield_now().await;
        }
    }

    async fn survey(&self, picture: &RefCell<Picture>, tell: &dyn Fn(NetworkChange)) {
        loop {
            // Older than what is about to be read.
            while !matches!(self.receive(&mut [0; 16]), Err(Errno::EAGAIN)) {}
            let tag = self.tag.clone();
            match apart(move || survey::everything_of(&tag)).await {
                Ok(snapshot) => {
                    picture.borrow_mut().replace(&snapshot);
                    return tell(snapshot);
                }
                Err(error) => warn!(why:% = error; "the network cannot be read; trying again"),
            }
            Timer::after(RETRY).await;
        }
    }

    fn hear(&self, picture: &RefCell<Picture>, tell: &dyn Fn(NetworkChange)) -> Stale {
        let mut stale = Stale::default();
        let mut bytes = vec![0; LONGEST];
        for _ in 0..BURST {
            match self.receive(&mut bytes) {
                Ok(length) => {
                    stale.everything |= length > LONGEST;
                    for message in messages(bytes.get(..length).unwrap_or_default()) {
                        let change = picture.borrow_mut().follow(&message, &self.tag, &mut stale);
                        change.into_iter().for_each(tell);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => {
                    debug!("notifications of the kernel were lost");
                    stale.everything = true;
                }
                Err(_) => break,
            }
        }
        stale
    }

    fn receive(&self, bytes: &mut [u8]) -> Result<usize, Errno> {
        socket::recv(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC)
    }
}

/// On a thread of its own, which a pool would keep, and wake, for ever after.
async fn apart<T: Send + 'static>(
    survey: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = smol::channel::bounded(1);
    let thread = thread::Builder::new().name("survey".into()).stack_size(STACK);
    thread.spawn(move || _ = tell.try_send(survey()))?;
    told.recv().await.map_err(io::Error::other)?
}

async fn resurvey_default(picture: &RefCell<Picture>, tell: &dyn Fn(NetworkChange)) {
    match apart(survey::default_link).await {
        Ok(link) if link == picture.borrow().default_link => {}
        Ok(link) => {
            picture.borrow_mut().default_link = link;
            tell(NetworkChange::DefaultLink(link));
        }
        Err(error) => warn!(why:% = error; "the default route cannot be read"),
    }
}

impl Picture {
    /// Whether a link of this host has this hardware address.
    pub fn has(&self, mac: Mac) -> bool {
        self.links.values().any(|it| it.mac == Some(mac))
    }

    fn replace(&mut self, change: &NetworkChange) {
        let NetworkChange::Snapshot { links, addresses, default_link } = change else { return };
        *self = Self {
            links: links.iter().take(MOST).map(|it| (it.index, it.clone())).collect(),
            addresses: addresses.iter().filter(|it| !it.ours).take(MOST).copied().collect(),
            default_link: *default_link,
        };
    }

    /// What a notification changes, if it changes anything.
    fn follow(
        &mut self,
        message: &Message<'_>,
        tag: &str,
        stale: &mut Stale,
    ) -> Option<NetworkChange> {
        match message.kind {
            libc::RTM_NEWADDR => self.address(parse::address(message)?.into()),
            libc::RTM_DELADDR => {
                let gone: Address = parse::address(message)?.into();
                self.addresses.remove(&gone);
                Some(NetworkChange::AddressGone(gone))
            }
            libc::RTM_NEWLINK => {
                let link = parse::link(message, tag)?;
                // The kernel drops the routes of a link that is down without a word.
                stale.default_link |= !link.up && self.default_link == Some(link.index);
                self.link(link)
            }
            libc::RTM_DELLINK => {
                let index = parse::link(message, tag)?.index;
                stale.default_link |= self.default_link == Some(index);
                self.links.remove(&index);
                self.addresses.retain(|it| it.link != index);
                Some(NetworkChange::LinkGone(index))
            }
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                stale.default_link |= parse::default_route(message).is_some();
                None
            }
            _ => None,
        }
    }

    fn address(&mut self, address: Address) -> Option<NetworkChange> {
        if self.addresses.contains(&address) {
            return None;
        }
        self.addresses.remove(&Address { ours: !address.ours, ..address });
        if self.addresses.len() < MOST {
            self.addresses.insert(address);
        }
        Some(NetworkChange::Address(address))
    }

    fn link(&mut self, link: Link) -> Option<NetworkChange> {
        if self.links.get(&link.index) == Some(&link) {
            return None;
        }
        if self.links.len() < MOST || self.links.contains_key(&link.index) {
            self.links.insert(link.index, link.clone());
        }
        Some(NetworkChange::Link(link))
    }
}

/// Of routes, the default ones of table `main`; of links, what is about links themselves.
fn of_interest() -> Program {
    let kind = |it: u16| u16::from_be_bytes(it.to_ne_bytes()).into();
    let mut it = Program::default();
    it.load(Field::Half(4));
    it.accept_if(kind(libc::RTM_DELADDR));
    // Past what is about links and routes.
    it.jump(kind(libc::RTM_NEWADDR), 13, 0);
    // Past the seven steps about routes.
    it.jump(kind(libc::RTM_NEWLINK), 8, 0);
    it.jump(kind(libc::RTM_DELLINK), 7, 0);
    it.load(Field::Byte(17));
    it.reject_unless(0);
    it.load(Field::Byte(20));
    it.reject_unless(libc::RT_TABLE_MAIN.into());
    it.accept();
    it.load(Field::Byte(16));
    it.reject_unless(libc::AF_UNSPEC as u32);
    it.accept();
    unless_ours(&mut it);
    it
}

/// What is about addresses, on a socket that hears of nothing else.
pub(super) fn of_addresses() -> Program {
    let mut it = Program::default();
    it.load(Field::Half(4));
    it.accept_if(u16::from_be_bytes(libc::RTM_DELADDR.to_ne_bytes()).into());
    unless_ours(&mut it);
    it
}

/// That an address of ours is there, or stays for longer, is no news, and each is many times
/// a minute: only that it is gone is.
fn unless_ours(it: &mut Program) {
    // Past the headers of netlink and of its message.
    it.load_attribute(16 + 8, IFA_PROTO);
    it.jump(OURS.into(), 1, 0);
    it.accept();
    it.reject();
}
