//! What is asked of the kernel thread, and what it answers.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Instant, LinkIndex, Mac, NewLink, ServicePort, Vip};

/// The kernel lets go of an address at most so long after the lifetime it was given.
pub const LIFETIME_SLACK: Duration = Duration::from_millis(1_300);

/// An order to the kernel thread. Orders are done in the order given, one after another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum KernelJob {
    /// Let the kernel answer ARP and neighbour solicitation for the VIPs until then.
    /// Where there is no fence this does nothing: an address that is there answers.
    /// Answered only if it was not done.
    Answer {
        /// Which.
        vips: Vec<Vip>,
        /// The fence closes by itself at that moment.
        until: Instant,
    },
    /// Remove what an earlier process left: the fence tables of this instance, addresses
    /// tagged ours among `vips` and among those the old fence names, links tagged as its.
    /// Where that fence was gone, and there are more of ours, it is said to be rebuilt: an
    /// earlier process may have left them.
    Clean {
        /// The addresses this instance is configured for.
        vips: Vec<Vip>,
    },
    /// Add the address, or extend it. The kernel drops it by itself at `until`.
    HoldAddress {
        /// Where.
        link: LinkIndex,
        /// What.
        vip: Vip,
        /// Length of its prefix in bits.
        length: u8,
        /// Its lifetime ends then, rounded down to whole seconds but at least one.
        until: Instant,
    },
    /// Let nothing reach these VIPs but what is said. Where that cannot be, no order about one
    /// of them that comes later in the same batch is carried out.
    Guard(Vec<Guarded>),
    /// Hear ARP and NDP about the addresses named so far, and nothing else, on these links.
    Listen {
        /// Where, and nowhere else.
        links: Vec<LinkIndex>,
        /// About these from now on.
        more: Vec<Vip>,
        /// About these no more.
        less: Vec<Vip>,
        /// What was named before this does not count.
        anew: bool,
    },
    /// Make a link, tagged as ours, and turn it on. One of ours that is there is turned on; one
    /// of somebody else's is left as it is.
    MakeLink(NewLink),
    /// Remove the address; that it is not there is as good.
    RemoveAddress {
        /// Where.
        link: LinkIndex,
        /// What.
        vip: Vip,
        /// Length of its prefix in bits.
        length: u8,
    },
    /// Remove a link that this instance made; that it is not there is as good. One that is not
    /// tagged as ours stays.
    RemoveLink {
        /// Which.
        link: LinkIndex,
    },
    /// Send a frame, unless `until` has passed when its turn comes, or an order before it in
    /// the same batch could not hold its address. Answered only if it was not sent, or asks
    /// whether somebody has the address: how long is waited for them counts from then.
    SendFrame {
        /// Where.
        link: LinkIndex,
        /// What.
        frame: Frame,
        /// The right to send it ends then.
        until: Instant,
    },
    /// Let the kernel answer no ARP and no neighbour solicitation for the VIPs, although
    /// it has, or is about to have, the addresses.
    Silence {
        /// Which.
        vips: Vec<Vip>,
        /// When the fence may forget them: the address's own end and a margin.
        until: Instant,
    },
    /// Drop the VIPs from the fence: their addresses are gone.
    Unfence {
        /// Which.
        vips: Vec<Vip>,
    },
    /// Look whether the fence still stands.
    VerifyFence,
}

impl KernelJob {
    /// Whether it is answered when it was done, too.
    pub fn is_answered_when_done(&self) -> bool {
        match self {
            Self::Answer { .. } => false,
            Self::SendFrame { frame, .. } => matches!(frame, Frame::Probe { .. }),
            Self::Clean { .. }
            | Self::Guard(_)
            | Self::HoldAddress { .. }
            | Self::Listen { .. }
            | Self::MakeLink(_)
            | Self::RemoveAddress { .. }
            | Self::RemoveLink { .. }
            | Self::Silence { .. }
            | Self::Unfence { .. }
            | Self::VerifyFence => true,
        }
    }
}

/// What reaches a VIP.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Guarded {
    /// Which.
    pub vip: Vip,
    /// These ports of it.
    pub ports: Vec<ServicePort>,
    /// Nothing else does.
    pub on: bool,
}

/// Ties an answer to its order. The first is 1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct OrderId(pub NonZeroU64);

impl OrderId {
    /// The one after it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Default for OrderId {
    fn default() -> Self {
        Self(NonZeroU64::MIN)
    }
}

/// What became of a [`KernelJob`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum KernelAnswer {
    /// Done, and in time.
    Done,
    /// `until` had passed: nothing was done, or it was undone at once.
    TooLate,
    /// The fence was gone. It stands again, empty: everything of ours is silent.
    FenceRebuilt,
    /// The link or the kernel says no.
    Failed(String),
    /// The address is there and is somebody else's: nothing was done.
    NotOurs(String),
    /// The link is gone, which is told in a moment: nothing was done.
    NoLink,
}

impl KernelAnswer {
    /// Whether what was ordered is so now.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Done | Self::FenceRebuilt)
    }

    /// Why the kernel said no, if it did.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Failed(why) | Self::NotOurs(why) => Some(why),
            Self::NoLink => Some("the link is gone"),
            Self::Done | Self::TooLate | Self::FenceRebuilt => None,
        }
    }
}

/// A frame of ours about a VIP.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Frame {
    /// RFC 5227 §1.1: who has this? Sent from no address, so that no cache changes.
    Probe {
        /// The sender.
        mac: Mac,
        /// The address asked about; for IPv6 a DAD neighbour solicitation (RFC 4862 §5.4.2).
        ip: IpAddr,
    },
    /// Gratuitous ARP in request form, or an unsolicited neighbour advertisement.
    Announce {
        /// Whom to send to from now on.
        mac: Mac,
        /// The VIP.
        ip: IpAddr,
    },
    /// Gratuitous ARP in reply form; IPv4 only.
    AnnounceReply {
        /// Whom to send to from now on.
        mac: Mac,
        /// The VIP.
        ip: IpAddr,
    },
}

impl Frame {
    /// The address it is about.
    pub fn ip(&self) -> IpAddr {
        match self {
            Self::Probe { ip, .. } | Self::Announce { ip, .. } | Self::AnnounceReply { ip, .. } => {
                *ip
            }
        }
    }
}

/// A frame of somebody else's about a VIP.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Heard {
    /// The link it came in on.
    pub link: LinkIndex,
    /// The address it is about.
    pub ip: IpAddr,
    /// Who sent it.
    pub mac: Mac,
    /// It asks whether the address is free, rather than claims it.
    pub probe: bool,
}

/// Which addresses the nftables fence guards, or why it does not.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fences {
    /// IPv4, by an ARP output chain.
    #[serde(with = "holds")]
    pub v4: Result<(), String>,
    /// IPv6, by an ICMPv6 output chain.
    #[serde(with = "holds")]
    pub v6: Result<(), String>,
}

impl Fences {
    /// Whether it guards every address.
    pub fn holds(&self) -> bool {
        self.v4.is_ok() && self.v6.is_ok()
    }
}

/// A fence in JSON: `{"holds": true}`, or `{"holds": false, "why": "…"}`.
mod holds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, Serialize)]
    struct Holds {
        holds: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    }

    pub fn serialize<S: Serializer>(fence: &Result<(), String>, to: S) -> Result<S::Ok, S::Error> {
        Holds { holds: fence.is_ok(), why: fence.clone().err() }.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Result<(), String>, D::Error> {
        let it = Holds::deserialize(from)?;
        Ok(if it.holds { Ok(()) } else { Err(it.why.unwrap_or_default()) })
    }
}

impl Fences {
    /// Whether this VIP can be silent: there, but not answering.
    pub fn guards(&self, vip: Vip) -> bool {
        match vip.0 {
            IpAddr::V4(_) => self.v4.is_ok(),
            IpAddr::V6(_) => self.v6.is_ok(),
        }
    }
}
