//! What a member has to know beforehand.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Author, Farewell, Life, Members, ObjectName, StoreRecord};

/// How long things take in a quorum.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QuorumTiming {
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// How long a voter promises a VIP to its holder.
    pub promise: Duration,
    /// Candidates stand this long one after another, by rank, once `promise` has passed
    /// without the leader.
    pub step: Duration,
    /// Up to so much more, by chance.
    pub spread: Duration,
}

/// When a VIP goes back to where it was, or is better placed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum FailBack {
    /// As soon as that member is there.
    AtOnce,
    /// Once that member has been there for a while.
    Delayed,
    /// Only when it has to move anyway, or an operator says so.
    Never,
}

/// Everything a member of a quorum has to know beforehand.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QuorumConfig {
    /// This process.
    pub life: Life,
    /// Where this member listens.
    pub address: SocketAddr,
    /// The members that the settings list, this one included.
    pub listed: Members,
    /// Find others on the link, rather than know them beforehand.
    #[serde(default)]
    pub discover: Option<DiscoverConfig>,
    /// How long things take.
    pub timing: QuorumTiming,
    /// Found a cluster without waiting for the others.
    pub found_alone: bool,
    /// What was on disk, or why that cannot be told.
    pub stored: Result<Option<StoreRecord>, String>,
    /// What an earlier process of this boot left behind.
    pub farewell: Option<Farewell>,
    /// When a VIP goes back.
    pub fail_back: FailBack,
    /// What to ask about this node's fitness, if anything.
    pub health: Option<ProbeRule>,
    /// See `health`; this is the user's command.
    pub check: Option<ProbeRule>,
    /// What to tell and ask the API server beside, where there is one.
    #[serde(default)]
    pub api: Option<QuorumApi>,
}

/// What a member has to know for the API server's sake.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QuorumApi {
    /// The Lease that records who holds.
    pub lease: ObjectName,
    /// How long others are to believe the record.
    pub duration: Duration,
    /// Who signs it.
    pub author: Author,
    /// The members are the Nodes of the control plane, and this machine may found the quorum:
    /// its name, or 0.
    pub nodes: Option<u64>,
}

/// How members find each other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiscoverConfig {
    /// So many found a cluster.
    pub voters: u8,
    /// Where all of them listen.
    pub port: u16,
    /// This member's address; `None`: the one that its link has.
    pub address: Option<IpAddr>,
    /// It votes and carries nothing.
    pub witness: bool,
}

/// How often to probe, and what to conclude.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProbeRule {
    /// Time between probes.
    pub interval: Duration,
    /// So many failures in a row make it ill.
    pub fall: u32,
    /// So many successes in a row make it well.
    pub rise: u32,
    /// How much it weighs against other members that are ill too.
    pub weight: u8,
}
