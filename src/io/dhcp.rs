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
use crate::model::{DhcpHeard, DhcpJob, DhcpPacket, IpFamily, LinkIndex};
use crate::wire::{dhcp4, dhcp6};

/// So many messages are taken at a time, and then none for a [`PAUSE`].
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(5);
/// So many questions are remembered, to tell answers from what others are told.
const QUESTIONS: usize = 2_048;

/// The sockets, one of each family.
#[derive(Debug)]
pub struct Dhcp {
    v4: Socket,
    v6: Socket,
}

#[derive(Clone, Debug)]
struct Socket {
    family: IpFamily,
    fd: Arc<OwnedFd>,
    asked: Arc<Mutex<VecDeque<u32>>>,
}

impl Dhcp {
    /// Opens them, deaf at first.
    pub fn open() -> io::Result<Self> {
        let open = |family| -> io::Result<Socket> {
            Ok(Socket { family, fd: Arc::new(packet::open()?), asked: Arc::default() })
        };
        Ok(Self { v4: open(IpFamily::V4)?, v6: open(IpFamily::V6)? })
    }

    /// The ends that hear; to be polled in one task each.
    pub fn ears(&self) -> io::Result<[Ear; 2]> {
        let ear = |of: &Socket| -> io::Result<Ear> {
            Ok(Ear { fd: Async::new_nonblocking(of.fd.clone())?, of: of.clone() })
        };
        Ok([ear(&self.v4)?, ear(&self.v6)?])
    }

    /// Does it, or says why not.
    pub fn perform(&self, job: &DhcpJob) -> Result<(), String> {
        match job {
            DhcpJob::Listen(family, links) => {
                let (of, program) = match family {
                    IpFamily::V4 => (&self.v4, Program::dhcp(links)),
                    IpFamily::V6 => (&self.v6, Program::dhcp6(links)),
                };
                packet::tune(&of.fd, of.ether_type(), links, (true, &program))
                    .map_err(|it| format!("listening for DHCP servers: {it}"))
            }
            DhcpJob::Send { link, packet } => {
                let (of, xid, bytes) = match packet.as_ref() {
                    DhcpPacket::V4(it) => (&self.v4, it.message.xid, dhcp4::encode(it)),
                    DhcpPacket::V6(it) => (&self.v6, it.message.xid, dhcp6::encode(it)),
                };
                let mut asked = of.asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.truncate(QUESTIONS - 1);
                asked.push_front(xid);
                let sent = send_bytes(of.fd.as_fd(), of.ether_type(), *link, &bytes);
                sent.map_err(|it| format!("asking DHCP servers on {}: {}", name(*link), it.desc()))
            }
        }
    }
}

impl Socket {
    fn ether_type(&self) -> u16 {
        match self.family {
            IpFamily::V4 => libc::ETH_P_IP as u16,
            IpFamily::V6 => libc::ETH_P_IPV6 as u16,
        }
    }

    fn decode(&self, bytes: &[u8]) -> Option<DhcpHeard> {
        let (xid, heard) = match self.family {
            IpFamily::V4 => {
                dhcp4::decode(bytes).map(|(from, it)| (it.xid, DhcpHeard::V4(from, it)))?
            }
            IpFamily::V6 => {
                dhcp6::decode(bytes).map(|(from, it)| (it.xid, DhcpHeard::V6(from, it)))?
            }
        };
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.contains(&xid).then_some(heard)
    }
}

/// An end that hears servers.
#[derive(Debug)]
pub struct Ear {
    fd: Async<Arc<OwnedFd>>,
    of: Socket,
}

impl Ear {
    /// Hands on answers, for ever.
    pub async fn run(self, heard: &dyn Fn(LinkIndex, DhcpHeard)) {
        loop {
            if self.fd.readable().await.is_err() {
                return;
            }
            for _ in 0..BURST {
                let mut bytes = [0; 2_048];
                match receive_bytes(self.fd.get_ref(), &mut bytes) {
                    Ok((link, bytes)) => {
                        if let Some(it) = self.of.decode(bytes) {
                            heard(link, it);
                        }
                    }
                    Err(Errno::ENETDOWN | Errno::EINTR) => {}
                    Err(_) => break,
                }
            }
            Timer::after(PAUSE).await;
        }
    }
}
