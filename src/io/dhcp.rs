//! DHCP over a packet socket: an address that is only asked for yet has no other way, and the
//! port of clients may be somebody else's on this host.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_io::{Async, Timer};
use nix::errno::Errno;

use super::netlink::name;
use super::packet::filter::Program;
use super::packet::{self, receive_bytes, send_bytes};
use crate::model::{Dhcp4Message, DhcpJob, LinkIndex, Mac};
use crate::wire::dhcp4;

/// So many messages are taken at a time, and then none for a [`PAUSE`].
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(5);
/// So many questions are remembered, to tell answers from what others are told.
const QUESTIONS: usize = 2_048;
const IPV4: u16 = libc::ETH_P_IP as u16;

/// The socket.
#[derive(Debug)]
pub struct Dhcp {
    fd: Arc<OwnedFd>,
    asked: Arc<Mutex<VecDeque<u32>>>,
}

impl Dhcp {
    /// Opens it, deaf at first.
    pub fn open() -> io::Result<Self> {
        Ok(Self { fd: Arc::new(packet::open()?), asked: Arc::default() })
    }

    /// The end that hears.
    pub fn ear(&self) -> io::Result<Ear> {
        let fd = Async::new_nonblocking(self.fd.clone())?;
        Ok(Ear { fd, asked: self.asked.clone() })
    }

    /// Does it, or says why not.
    pub fn perform(&self, job: &DhcpJob) -> Result<(), String> {
        match job {
            DhcpJob::Listen(links) => {
                let program = Program::dhcp(links);
                packet::tune(&self.fd, IPV4, links, (true, &program))
                    .map_err(|it| format!("listening for DHCP servers: {it}"))
            }
            DhcpJob::Send { link, packet } => {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.truncate(QUESTIONS - 1);
                asked.push_front(packet.message.xid);
                let sent = send_bytes(self.fd.as_fd(), IPV4, *link, &dhcp4::encode(packet));
                sent.map_err(|it| format!("asking DHCP servers on {}: {}", name(*link), it.desc()))
            }
        }
    }
}

/// The end that hears servers.
#[derive(Debug)]
pub struct Ear {
    fd: Async<Arc<OwnedFd>>,
    asked: Arc<Mutex<VecDeque<u32>>>,
}

impl Ear {
    /// Hands on answers, for ever.
    pub async fn run(self, heard: impl Fn(LinkIndex, Mac, Dhcp4Message)) {
        loop {
            if self.fd.readable().await.is_err() {
                return;
            }
            for _ in 0..BURST {
                let mut bytes = [0; 2_048];
                match receive_bytes(self.fd.get_ref(), &mut bytes) {
                    Ok((link, bytes)) => {
                        if let Some((from, message)) = dhcp4::decode(bytes)
                            && self.has_asked(message.xid)
                        {
                            heard(link, from, message);
                        }
                    }
                    Err(Errno::ENETDOWN | Errno::EINTR) => {}
                    Err(_) => break,
                }
            }
            Timer::after(PAUSE).await;
        }
    }

    fn has_asked(&self, xid: u32) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).contains(&xid)
    }
}
