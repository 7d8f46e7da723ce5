//! What members of a quorum know of each other and say to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{NodeName, Report, Vip};

/// One life of a process: random, so that numbers which start again are told apart.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Life(pub u64);

/// The name of a log entry. The log is ordered by it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct EntryId {
    /// The term of the leader that appended it.
    pub term: u64,
    /// Its place.
    pub index: u64,
}

/// An entry of the log. Each is whole: it says all that those before it said, so a member
/// needs to keep only its newest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Which cluster: chosen at random when it was founded.
    pub cluster: u64,
    /// Who belongs to it.
    pub members: Members,
    /// The voters of the last committed entry, where they are others: until this one is
    /// known to be committed, a majority of them is needed too.
    pub before: Option<BTreeSet<NodeName>>,
    /// The longest promise that the cluster has ever allowed.
    pub longest: Duration,
    /// What operators have asked for.
    pub wishes: Wishes,
}

/// The members of a cluster by name.
pub type Members = BTreeMap<NodeName, Member>;

/// A member as the others know it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Member {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is for.
    pub role: MemberRole,
}

/// What a member is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Carries VIPs and is told everything, but has no vote.
    Learner,
    /// Votes and carries VIPs.
    Voter,
    /// Votes and carries nothing.
    Witness,
}

impl MemberRole {
    /// Whether it has a vote.
    pub fn votes(self) -> bool {
        match self {
            Self::Learner => false,
            Self::Voter | Self::Witness => true,
        }
    }

    /// Whether it may carry VIPs.
    pub fn carries(self) -> bool {
        match self {
            Self::Learner | Self::Voter => true,
            Self::Witness => false,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Voter => "voter",
            Self::Witness => "witness",
        }
    }
}

/// What operators have asked for, kept in the log.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Wishes {
    /// These members are to carry nothing.
    pub drained: BTreeSet<NodeName>,
    /// These VIPs are to be there, if it can be.
    pub placed: BTreeMap<Vip, NodeName>,
}

impl Entry {
    /// Those with a vote.
    pub fn voters(&self) -> impl Iterator<Item = &NodeName> + Clone {
        self.members.iter().filter(|(_, it)| it.role.votes()).map(|(name, _)| name)
    }

    /// Whether this is one of them.
    pub fn is_voter(&self, name: &NodeName) -> bool {
        self.members.get(name).is_some_and(|it| it.role.votes())
    }

    /// Whether it is so of a majority of the voters; until the entry is known to be
    /// committed, of the voters before as well.
    pub fn is_majority(&self, committed: bool, is_so: impl Fn(&NodeName) -> bool) -> bool {
        let before = self.before.as_ref().filter(|_| !committed);
        is_majority(self.voters(), &is_so) && before.is_none_or(|it| is_majority(it, &is_so))
    }
}

/// Whether it is so of more than half of `voters`.
pub fn is_majority<'a>(
    voters: impl IntoIterator<Item = &'a NodeName>,
    is_so: impl Fn(&NodeName) -> bool,
) -> bool {
    let (mut all, mut such) = (0, 0);
    for it in voters {
        all += 1;
        such += usize::from(is_so(it));
    }
    such * 2 > all
}

/// Orders who was given a VIP: a later decision is greater.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Epoch {
    /// The term of the leader that decided.
    pub term: u64,
    /// Which of its decisions.
    pub count: u32,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.count)
    }
}

/// What a member says in one datagram: its heartbeat, and whatever else there is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Message {
    /// The sender's term.
    pub term: u64,
    /// Who leads in that term, as far as the sender knows.
    pub leader: Option<NodeName>,
    /// The cluster it belongs to; `None`: to none yet, its store is empty.
    pub cluster: Option<u64>,
    /// Its newest entry that is on disk.
    pub newest: EntryId,
    /// The newest entry that it knows to be committed.
    pub committed: EntryId,
    /// It may have voted in any term up to this one in an earlier life.
    pub floor: u64,
    /// When it was sent, by the sender's clock, in microseconds: to be echoed only.
    pub stamp: u64,
    /// The stamp of the receiver's last message, and for how long it was kept, in
    /// microseconds: the round trip is what is left.
    pub echo: Option<(u64, u64)>,
    /// Of raft.
    pub raft: Vec<RaftCall>,
    /// Who is to carry what; the leader's only.
    pub assignment: Option<Vec<Assigned>>,
    /// What the sender asks to hold.
    pub hold: Option<Hold>,
    /// Answers to the receiver's holds.
    pub answers: Vec<HoldAnswer>,
    /// What the sender held and let go of, until it hears of a higher epoch.
    pub released: Vec<Released>,
    /// How the sender is.
    pub report: Report,
}

/// A call of raft.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum RaftCall {
    /// This is the newest entry: the leader's, of the message's term.
    /// Who has it on disk says so by [`Message::newest`].
    Append(Box<Entry>),
    /// Would you vote for me in this term? Changes nothing.
    AskVote {
        /// The term it would stand in.
        term: u64,
        /// Its newest entry.
        last: EntryId,
        /// `false`: only asks what the answer would be.
        binding: bool,
        /// The leader asked it to stand, so nobody need have missed one.
        transfer: bool,
    },
    /// The answer to [`RaftCall::AskVote`].
    Vote {
        /// The term asked about.
        term: u64,
        /// As in the question.
        binding: bool,
        /// Whether the vote is given.
        granted: bool,
        /// What the voter has promised and to whom, if it was given.
        promises: Vec<Promised>,
    },
    /// An operator of the sender's asks this of the leader.
    Forward {
        /// Which question of this life of the sender's.
        number: u32,
        /// What is asked.
        call: ClusterCall,
    },
    /// The answer to [`RaftCall::Forward`].
    Forwarded {
        /// Which question.
        number: u32,
        /// What happened, or why nothing did.
        outcome: Result<String, String>,
    },
    /// Stand now: the leader hands over.
    StandNow,
}

/// A promise that a voter has not yet been relieved of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Promised {
    /// Which VIP.
    pub vip: Vip,
    /// To whom.
    pub to: NodeName,
    /// For which epoch.
    pub epoch: Epoch,
}

/// Who is to carry a VIP.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Assigned {
    /// Which.
    pub vip: Vip,
    /// Which decision this is.
    pub epoch: Epoch,
    /// Who carries it.
    pub holder: Option<NodeName>,
    /// Who is to get ready to carry it next.
    pub next: Option<NodeName>,
}

/// A holder asks each voter to promise its VIPs to nobody else for a while.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hold {
    /// Which of the holder's life; later ones are greater.
    pub id: u64,
    /// The holder's newest entry.
    pub config: EntryId,
    /// For how long.
    pub length: Duration,
    /// What for.
    pub vips: Vec<(Vip, Epoch)>,
    /// Answer at once rather than with the next heartbeat.
    pub urgent: bool,
}

/// A voter's answer to a hold. A VIP of the hold in neither list is answered later.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HoldAnswer {
    /// Which hold.
    pub id: u64,
    /// Promised to nobody else for the hold's length from when it came.
    pub acknowledged: Vec<Vip>,
    /// Not promised, and why.
    pub refused: Vec<(Vip, HoldRefusal)>,
}

/// Why a voter does not promise.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum HoldRefusal {
    /// The hold is of an earlier life of its sender than one known, or of an earlier id.
    Earlier,
    /// Another holder has a higher epoch.
    Epoch(Epoch),
    /// The hold is of an older configuration than the voter's.
    OldConfig(EntryId),
    /// Promised to another; kept, and answered when that ends, in so long at most.
    Promised(Duration),
    /// The sender itself has released it since.
    Released,
    /// The voter has started, or lost its store, and may have promised to others.
    Starting(Duration),
    /// Longer than the cluster allows.
    TooLong(Duration),
}

impl HoldRefusal {
    /// The code that log, metric and status share.
    pub fn code(self) -> &'static str {
        match self {
            Self::Earlier => "earlier",
            Self::Epoch(_) => "epoch",
            Self::OldConfig(_) => "old-config",
            Self::Promised(_) => "promised",
            Self::Released => "released",
            Self::Starting(_) => "starting",
            Self::TooLong(_) => "too-long",
        }
    }
}

/// A holder has let go: its kernel answers no more, and it asks for no more.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Released {
    /// Of which VIP.
    pub vip: Vip,
    /// In which epoch it held it.
    pub epoch: Epoch,
    /// The last hold of this life for it.
    pub id: u64,
}

/// What a member keeps on disk.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct StoreRecord {
    /// It has never voted in a term above this.
    pub floor: u64,
    /// Its newest entry.
    pub entry: Option<Entry>,
    /// The newest entry it knew to be committed.
    pub committed: EntryId,
}

/// What a member leaves behind at an orderly stop, for the next start of the same boot. It
/// has promised nothing after that.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Farewell {
    /// The last term it voted in.
    pub voted: u64,
    /// When the last of those promises ends of which no more is known, in nanoseconds of the
    /// boot clock.
    pub promised_until: u64,
    /// The promises that it had made.
    #[serde(default)]
    pub promises: Vec<LastPromise>,
}

/// A promise of a member that has stopped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LastPromise {
    /// Which VIP, to whom, in which epoch.
    pub promised: Promised,
    /// The life of the holder that was promised it.
    pub life: Life,
    /// The highest of its holds that was acknowledged.
    pub id: u64,
    /// When it ends, in nanoseconds of the boot clock.
    pub until: u64,
}

/// What an operator asks of a cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ClusterCall {
    /// A new member, as a learner or a witness.
    Add {
        /// Its name.
        name: NodeName,
        /// Where it listens.
        address: SocketAddr,
        /// As a voter that carries nothing.
        witness: bool,
    },
    /// The member is to carry nothing.
    Drain(NodeName),
    /// The VIP is to be there.
    Move(Vip, NodeName),
    /// A learner becomes a voter.
    Promote(NodeName),
    /// A member listens somewhere else: it says so itself, with the key.
    Readdress {
        /// Which.
        name: NodeName,
        /// Where it listens.
        address: SocketAddr,
    },
    /// The member belongs no more.
    Remove(NodeName),
    /// The member may carry again.
    Undrain(NodeName),
    /// Where the VIP is to be is the leader's business again.
    Unmove(Vip),
}

/// What can be asked about this node's fitness.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Probe {
    /// The user's check command.
    Check,
    /// The API server on this node.
    Health,
}
