//! A datagram's content, and what members say before they belong together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Life, LinkIndex, Message, NodeName};

/// A datagram's content: who says it in which life, and to which life.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Envelope {
    /// Who says it.
    pub from: NodeName,
    /// In which of its lives.
    pub life: Life,
    /// The receiver's life as the sender knows it. A receiver that has another believes
    /// nothing of what is said.
    pub echo: Option<Life>,
    /// Grows with each datagram of a life to one receiver.
    pub count: u64,
    /// What is said; nothing in what only introduces.
    pub message: Option<Box<Message>>,
    /// What is said to everybody on the link.
    #[serde(default)]
    pub hello: Option<Box<Hello>>,
}

/// What a member says to everybody on its link, so that others find it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hello {
    /// Where it listens.
    pub address: SocketAddr,
    /// It votes and carries nothing.
    pub witness: bool,
    /// So many found a cluster.
    pub voters: u8,
    /// The cluster it belongs to; `None`: to none yet. As in [`Message::cluster`].
    pub cluster: Option<u64>,
    /// Whom it hears, in which life.
    pub hears: Company,
    /// With whom it would found a cluster, itself included; nobody: it would not.
    pub set: Company,
    /// It has pledged itself to that set: it founds with no other for a while.
    pub pledged: bool,
}

/// How a member is heard by those on a link.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ear {
    /// Which link.
    pub link: LinkIndex,
    /// Where it is to be heard, and what it sends comes from.
    pub address: SocketAddr,
    /// What is said to this group on that link is heard too.
    pub group: IpAddr,
}

/// Names, each in one life.
pub type Company = BTreeMap<NodeName, Life>;
