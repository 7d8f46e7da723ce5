use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The name of a cluster node, which is also its identity in elections.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct NodeName(pub Arc<str>);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which process wrote a record: two hosts may have one node name, and one host may
/// have had an earlier process.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Author {
    /// The kernel's boot id, folded: the same for all processes of one boot of one host.
    pub host: u64,
    /// Random for each process.
    pub life: u64,
}

/// What a Lease object says, as far as elections care.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeaseRecord {
    /// `None` once released.
    pub holder: Option<NodeName>,
    /// `leaseDurationSeconds`.
    pub duration: Duration,
    /// How often the holder has changed.
    pub transitions: u32,
    /// `acquireTime` as it stands in the object: never computed with.
    pub acquired: Option<String>,
    /// `renewTime` as it stands in the object: only compared for equality.
    pub renewed: Option<String>,
    /// Who wrote it, where it says so and nobody has written over it since.
    pub author: Option<Author>,
    /// The quorum whose election this is the record of, where it says so and nobody has
    /// written over it since.
    #[serde(default)]
    pub quorum: Option<u64>,
}

/// Which quorum the cluster has, and who founded it: kept with the Lease, so that it is
/// founded once.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Foundation {
    /// The quorum's name, chosen at random.
    pub quorum: u64,
    /// Who may found it, or has.
    pub founder: NodeName,
    /// The founder's machine; 0 if that has no name.
    pub machine: u64,
    /// It is founded and on the founder's disk: others may belong to it.
    pub done: bool,
}

/// The API server's version of an object.
///
/// Opaque but for equality; where both are numbers the larger one is newer, which the
/// API server guarantees for one kind of object.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ResourceVersion(pub String);

impl ResourceVersion {
    /// Whether this is certainly older than `other`.
    pub fn is_before(&self, other: &Self) -> bool {
        match (self.0.parse::<u64>(), other.0.parse::<u64>()) {
            (Ok(this), Ok(other)) => this < other,
            (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => false,
        }
    }
}

/// A Lease object as it was read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lease {
    /// What elections care about.
    pub record: LeaseRecord,
    /// The version that the next write is conditional on.
    pub version: ResourceVersion,
    /// The whole object as JSON, so that a write keeps what it does not understand.
    pub object: String,
    /// What stands beside the record about the founding of a quorum.
    #[serde(default)]
    pub foundation: Option<Foundation>,
}

/// The Service that a Lease is for: where it goes, the Lease goes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeaseOwner {
    /// Its name, in the namespace of the Lease.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A request about the Lease. At most one is under way at a time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum LeaseCall {
    /// Write this beside the record, which stays as it is: create the Lease, or replace the
    /// version it is `based_on`.
    Found {
        /// What to write.
        foundation: Foundation,
        /// The object to replace; `None` creates it.
        based_on: Option<Box<Lease>>,
    },
    /// Read it, from the API server's store and not from a cache.
    Read,
    /// Write it: create it, or replace the version it is `based_on`.
    Write {
        /// `None`: nobody holds it from now on.
        holder: Option<NodeName>,
        /// What stands as `leaseDurationSeconds`, rounded up.
        duration: Duration,
        /// What stands as `leaseTransitions`.
        transitions: u32,
        /// `acquireTime` to keep; `None` stamps the time of writing.
        acquired: Option<String>,
        /// Who writes.
        author: Author,
        /// Whose election this is the record of, where the Lease itself elects nobody.
        #[serde(default)]
        quorum: Option<u64>,
        /// Whose it is, if it is created.
        #[serde(default)]
        owner: Option<LeaseOwner>,
        /// The object to replace; `None` creates it.
        based_on: Option<Box<Lease>>,
    },
}

/// What became of a [`LeaseCall`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum LeaseReply {
    /// The object changed meanwhile, or was created by another: read it again.
    Conflict,
    /// No usable answer. The write may have happened all the same.
    Failed(ApiFault),
    /// The object as read, or as written.
    Found(Box<Lease>),
    /// There is no such Lease.
    NotFound,
}

/// Why the API server did not do what it was asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiFault {
    /// The kind, for counting and for choosing what to do.
    pub kind: ApiFaultKind,
    /// In words, with what was tried.
    pub why: String,
    /// `Retry-After`, where the server sent one.
    pub retry_after: Option<Duration>,
}

/// The kinds of [`ApiFault`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ApiFaultKind {
    /// 403: RBAC does not allow it, or not yet.
    Forbidden,
    /// An answer that could not be understood.
    Garbage,
    /// 429, 5xx and whatever else the server says no with.
    Refused,
    /// No answer in time.
    Timeout,
    /// 401: the credentials are not accepted, or not yet.
    Unauthorized,
    /// No connection, no TLS, no name.
    Unreachable,
}

impl ApiFaultKind {
    /// The code that log, metric and status share.
    pub fn code(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Garbage => "garbage",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What the watch on the Lease has to say.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum WatchEvent {
    /// Nothing changed up to this version.
    Bookmark(ResourceVersion),
    /// The stream ended, orderly or not.
    Ended(ApiFault),
    /// 410: the version to resume from is forgotten.
    Expired,
    /// The object as it is at some moment.
    Lease(Box<Lease>),
    /// The object was deleted.
    Deleted,
    /// The server accepted the watch: the stream is open.
    Opened,
}

/// Ties a reply to its request, so that a late one can be told apart.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RequestId(pub u32);

/// A request on the side that no election waits for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum SideCall {
    /// How many nodes may stand for election: control-plane nodes where any is marked so.
    CountCandidates,
    /// Set labels of a node.
    LabelNode {
        /// Which node.
        node: NodeName,
        /// Values by key; `None` removes a label.
        labels: BTreeMap<String, Option<String>>,
    },
    /// Tell a Kubernetes Event about the Lease.
    Event {
        /// Who tells.
        node: NodeName,
        /// `Warning` instead of `Normal`.
        warning: bool,
        /// One word, such as `LeadershipAcquired`.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// The nodes of the control plane.
    ListNodes,
    /// Look a name up; not a Kubernetes call, but as slow as one.
    Resolve {
        /// The DNS name.
        name: String,
    },
}

/// What became of a [`SideCall`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum SideReply {
    /// The answer to [`SideCall::CountCandidates`].
    Candidates(u32),
    /// Done.
    Done,
    /// Not done.
    Failed(ApiFault),
    /// The answer to [`SideCall::ListNodes`], the oldest first.
    Nodes(Vec<ControlPlaneNode>),
    /// The answer to [`SideCall::Resolve`]: at least one address.
    Resolved(Vec<std::net::IpAddr>),
}

/// A node of the control plane as the cluster knows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ControlPlaneNode {
    /// Its name.
    pub name: NodeName,
    /// Its addresses inside the cluster.
    pub addresses: Vec<std::net::IpAddr>,
}
