//! Hears that somebody else changed the ruleset.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use async_io::{Async, Timer};
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, SockProtocol};

use crate::io::netlink::socket::listen;
use crate::io::nft::SUBSYSTEM;
use crate::io::packet::filter::{Field, Program};

/// The name of the thread whose changes are our own. The kernel names the thread in its
/// notification; its number there is that of the outermost PID namespace, and says nothing
/// in a container.
pub const WRITER: &str = "edgevip-kernel";

/// Other programs' changes are told of at most this often.
const PAUSE: Duration = Duration::from_millis(50);
/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = libc::NFNLGRP_NFTABLES as u32;
/// Where the notification of a new generation has the name of the thread, after its
/// number and the thread's.
const NAME_AT: u32 = 40;

/// A socket that hears of each transaction of others.
#[derive(Debug)]
pub struct Watch(Async<OwnedFd>);

impl Watch {
    /// Opens it.
    pub fn open() -> io::Result<Self> {
        let fd = listen(SockProtocol::NetlinkNetFilter, &[GROUP], &generations_of_others())?;
        Async::new_nonblocking(fd).map(Self)
    }

    /// Tells of changes, for ever; of many in a row, of the first and the last.
    pub async fn run(self, changed: &dyn Fn()) {
        while self.0.readable().await.is_ok() {
            self.drain();
            changed();
            Timer::after(PAUSE).await;
        }
    }

    /// That there was something is all there is to know; lost or not, it is the same.
    fn drain(&self) {
        let mut bytes = [0; 64];
        loop {
            let got = socket::recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
            if matches!(got, Err(errno) if errno != Errno::EINTR && errno != Errno::ENOBUFS) {
                return;
            }
        }
    }
}

/// One notification a transaction says that there is a new generation; the others say
/// what is in it.
fn generations_of_others() -> Program {
    let mut it = Program::default();
    let kind = SUBSYSTEM | libc::NFT_MSG_NEWGEN as u16;
    it.load(Field::Half(4));
    it.reject_unless(u16::from_be_bytes(kind.to_ne_bytes()).into());
    it.load(Field::Length);
    let (words, _) = WRITER.as_bytes().as_chunks::<4>();
    it.accept_below(NAME_AT + 4 * words.len() as u32);
    for (at, word) in words.iter().enumerate() {
        it.load(Field::Word(NAME_AT + 4 * at as u32));
        it.jump(u32::from_be_bytes(*word), 1, 0);
        it.accept();
    }
    it.reject();
    it
}
