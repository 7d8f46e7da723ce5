//! A lease of either family, and what is the same for both.

use std::net::{IpAddr, Ipv6Addr};

use super::identity::{packets4, packets6};
use crate::engine::Rng;
use crate::engine::dhcp::{Dhcp4, Dhcp6, Parting, Turn};
use crate::engine::network::Usable;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{DhcpHeard, DhcpPacket, DhcpRefusal, Instant, LeaseStatus, Leases, Mac};

/// A lease of either family.
#[derive(Clone, Debug)]
pub(super) enum Machine {
    V4(Box<Dhcp4>),
    V6(Box<Dhcp6>),
}

/// What happened to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause<'a> {
    /// Time passed.
    Time,
    Heard(&'a DhcpHeard),
    /// Of what is unchecked: nobody has it, or who does.
    Probed(Option<Mac>),
}

/// Where it is.
pub(super) struct Here<'a> {
    pub now: Instant,
    pub rng: &'a mut Rng,
    /// Which node has the address, if one does.
    pub node_of: &'a dyn Fn(IpAddr) -> Option<String>,
    /// The address is answered for.
    pub answered: bool,
    pub link: Usable,
    /// The link's own address, if it has one.
    pub local: Option<Ipv6Addr>,
}

impl Here<'_> {
    fn turn<'a, S>(&'a mut self, out: &'a mut Vec<S>) -> Turn<'a, S> {
        let (now, rng) = (self.now, &mut *self.rng);
        Turn { now, rng, out, node_of: self.node_of, answered: self.answered }
    }
}

impl Machine {
    /// Has it do what follows; returns what it says.
    pub fn act(&mut self, cause: Cause<'_>, mut here: Here<'_>) -> Vec<DhcpPacket> {
        match self {
            Self::V4(it) => {
                let mut said = Vec::new();
                let turn = &mut here.turn(&mut said);
                match cause {
                    Cause::Heard(DhcpHeard::V4(from, message)) => {
                        it.on_message(turn, *from, message);
                    }
                    Cause::Probed(stranger) => it.on_probed(turn, stranger),
                    Cause::Time | Cause::Heard(DhcpHeard::V6(..)) => {}
                }
                it.tick(turn);
                packets4(here.link, said)
            }
            Self::V6(it) => {
                let mut said = Vec::new();
                let turn = &mut here.turn(&mut said);
                match cause {
                    Cause::Heard(DhcpHeard::V6(from, message)) => {
                        it.on_message(turn, *from, message);
                    }
                    Cause::Probed(stranger) => it.on_probed(turn, stranger),
                    Cause::Time | Cause::Heard(DhcpHeard::V4(..)) => {}
                }
                it.tick(turn);
                packets6(here.link, here.local, said)
            }
        }
    }

    /// It is on another link.
    pub fn moved(&mut self, now: Instant) {
        match self {
            Self::V4(it) => it.moved(now),
            Self::V6(it) => it.moved(now),
        }
    }

    /// Gives back what there is, and is done; returns what it says, and what is to be said
    /// until it is heard.
    pub fn release(self, mut here: Here<'_>) -> (Vec<DhcpPacket>, Option<Parting>) {
        match self {
            Self::V4(it) => {
                let mut said = Vec::new();
                it.release(&mut here.turn(&mut said));
                (packets4(here.link, said), None)
            }
            Self::V6(it) => {
                let mut said = Vec::new();
                let parting = it.release(&mut here.turn(&mut said));
                (packets6(here.link, here.local, said), parting)
            }
        }
    }

    /// Whether this may be the answer to its last question.
    pub fn awaits(&self, heard: &DhcpHeard) -> bool {
        match (self, heard) {
            (Self::V4(it), DhcpHeard::V4(_, message)) => it.awaits(message.xid),
            (Self::V6(it), DhcpHeard::V6(_, message)) => it.awaits(message),
            (Self::V4(_), DhcpHeard::V6(..)) | (Self::V6(_), DhcpHeard::V4(..)) => false,
        }
    }

    /// Whether servers take this one for the same client.
    pub fn is_same_client(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::V4(one), Self::V4(other)) => one.config().client_id == other.config().client_id,
            (Self::V6(one), Self::V6(other)) => one.config().duid == other.config().duid,
            (Self::V4(_), Self::V6(_)) | (Self::V6(_), Self::V4(_)) => false,
        }
    }

    /// Puts the lease that may be used in its place.
    pub fn put(&self, leases: &mut Leases) {
        match self {
            Self::V4(it) => leases.v4 = it.lease().cloned(),
            Self::V6(it) => leases.v6 = it.lease().cloned(),
        }
    }

    /// The leased address that may be used.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::V4(it) => it.lease().map(|it| it.address.into()),
            Self::V6(it) => it.lease().map(|it| it.address.into()),
        }
    }

    /// The leased address of which nobody knows whether it is free.
    pub fn unchecked(&self) -> Option<IpAddr> {
        match self {
            Self::V4(it) => it.unchecked().map(IpAddr::from),
            Self::V6(it) => it.unchecked().map(IpAddr::from),
        }
    }

    /// When the right to use the lease ends.
    pub fn until(&self) -> Option<Instant> {
        match self {
            _ if sabotaged(Sabotage::LeaseForEver) => None,
            Self::V4(it) => it.until(),
            Self::V6(it) => it.until(),
        }
    }

    /// Why there is none.
    pub fn refusal(&self) -> Option<&DhcpRefusal> {
        match self {
            Self::V4(it) => it.refusal(),
            Self::V6(it) => it.refusal(),
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::V4(it) => it.deadline(),
            Self::V6(it) => it.deadline(),
        }
    }

    pub fn status(&self, now: Instant) -> LeaseStatus {
        match self {
            Self::V4(it) => it.status(now),
            Self::V6(it) => it.status(now),
        }
    }
}
