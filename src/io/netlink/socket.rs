//! A netlink socket for questions and orders. The kernel answers within the call, so
//! nothing here ever waits for input.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
};

use super::super::packet::filter::Program;
use super::super::sockopt::set_option;
use super::message::{Attributes, Message, Writer, messages, u32_at};

const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
/// `NLM_F_DUMP_INTR`: what was read changed while it was read.
const INTERRUPTED: u16 = 0x10;
/// `NLM_F_ACK_TLVS`: an answer has attributes after the header it quotes.
const HAS_WORDS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const WORDS: u16 = 1;
/// An answer that says only whether is no longer; room for one is kept.
const ANSWER: usize = 4 * 1024;
/// The kernel puts at most this into one piece of an answer.
const PIECE: usize = 32 * 1024;

/// What the kernel would not do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Which message; 0 if it concerns all of them.
    pub number: u32,
    /// Why.
    pub errno: Errno,
    /// Why, in its words, where it has some.
    pub words: Option<String>,
}

impl Refused {
    fn all(errno: Errno) -> Self {
        Self { number: 0, errno, words: None }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{} ({words})", self.errno.desc()),
            None => f.write_str(self.errno.desc()),
        }
    }
}

/// A netlink socket for questions and orders.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    next: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one.
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Each of these only makes answers shorter, richer or more selective.
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK, libc::NETLINK_GET_STRICT_CHK] {
            let _ = set_option(fd.as_fd(), libc::SOL_NETLINK, option, &1_i32);
        }
        Ok(Self { fd, next: 1, buffer: Vec::new() })
    }

    /// Lets what is sent in one piece be that long, where the kernel lets us.
    pub fn make_room(&self, bytes: usize) {
        let _ =
            set_option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &(bytes as i32));
    }

    /// Begins to write messages for this socket.
    pub fn compose(&self) -> Writer {
        Writer::new(self.next)
    }

    /// Sends one message, or several that have nothing to do with each other.
    pub fn request(&mut self, mut writer: Writer) -> Result<(), Refused> {
        let last = writer.ask_for_answer();
        match self.exchange(&writer, Some(last), &mut |_| ()).into_iter().next() {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// Asks for everything of a kind; again, a few times, if it changed while it was read.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        body: &dyn Fn(&mut Writer),
        parse: &dyn Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Refused> {
        for _ in 0..4 {
            let mut writer = self.compose();
            writer.message(kind, libc::NLM_F_DUMP as u16, body);
            let (mut all, mut done, mut changed) = (Vec::new(), false, false);
            let refused = self.exchange(&writer, None, &mut |it| {
                changed |= it.flags & INTERRUPTED != 0;
                match it.kind {
                    DONE => done = true,
                    _ => all.extend(parse(&it)),
                }
            });
            if let Some(refused) = refused.into_iter().next() {
                return Err(refused);
            }
            if done && !changed {
                return Ok(all);
            }
        }
        Err(Refused::all(Errno::EAGAIN))
    }

    /// Sends, and reads all there is to read. Without an answer to `awaited` something is
    /// wrong, even if nothing was refused.
    pub fn exchange(
        &mut self,
        writer: &Writer,
        awaited: Option<u32>,
        each: &mut dyn FnMut(Message<'_>),
    ) -> Vec<Refused> {
        let first = self.next;
        self.next = writer.next();
        let sent = socket::send(self.fd.as_raw_fd(), writer.bytes(), MsgFlags::empty());
        if let Err(errno) = sent {
            return vec![Refused::all(errno)];
        }
        let (mut refused, mut answered) = (Vec::new(), awaited.is_none());
        let longest = if awaited.is_some() { ANSWER } else { PIECE };
        if self.buffer.len() < longest {
            self.buffer.resize(longest, 0);
        }
        loop {
            let flags = MsgFlags::MSG_DONTWAIT;
            let length = match socket::recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => break,
                Err(errno) => {
                    refused.push(Refused::all(errno));
                    break;
                }
            };
            let piece = self.buffer.get(..length).unwrap_or_default();
            for message in messages(piece).filter(|it| it.number >= first) {
                answered |= Some(message.number) == awaited;
                if matches!(message.kind, ERROR | DONE) {
                    refused.extend(refusal(&message, first));
                }
                each(message);
            }
        }
        // Idle most of the time: the buffer is not worth keeping.
        if self.buffer.len() > ANSWER {
            self.buffer = Vec::new();
        }
        if refused.is_empty() && !answered {
            refused.push(Refused::all(Errno::ENODATA));
        }
        refused
    }
}

/// An error message that is not an acknowledgement.
fn refusal(message: &Message<'_>, first: u32) -> Option<Refused> {
    let errno = u32_at(message.body, 0)? as i32;
    if errno == 0 {
        return None;
    }
    // The error, then the header it quotes; the rest was not asked for.
    let words = match message.flags & HAS_WORDS {
        0 => None,
        _ => message.body.get(20..).and_then(|it| Attributes(it).get(WORDS)),
    };
    let words = words.map(|it| String::from_utf8_lossy(it).trim_end_matches('\0').to_owned());
    let number = if message.number == first { 0 } else { message.number };
    Some(Refused { number, errno: Errno::from_raw(errno.wrapping_neg()), words })
}

/// A socket that hears what the kernel tells everybody, through a filter that is there
/// before the first message.
pub fn listen(protocol: SockProtocol, groups: &[u32], filter: &Program) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    filter.attach(fd.as_fd())?;
    let mask = groups.iter().fold(0, |mask, it| mask | 1 << (it - 1));
    socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, mask))?;
    Ok(fd)
}
