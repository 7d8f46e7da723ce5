//! What an operator can ask a running process.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    Ailment, EntryId, Fences, LeaseStatus, LinkName, Mac, MappingStatus, MemberRole, NodeName,
    PoolUse, Refusal, Vip,
};

/// Everything `edgevip status` shows.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// This node's name and identity.
    pub node: NodeName,
    /// Namespace and name of the Lease; empty where a quorum elects.
    pub lease: String,
    /// What this node is in the election.
    pub role: Role,
    /// Who holds the Lease, as last seen.
    pub holder: Option<NodeName>,
    /// Milliseconds left of our own leadership.
    pub until_ms: Option<u64>,
    /// Times this node became leader.
    pub terms: u64,
    /// What each VIP is on this node.
    pub vips: Vec<VipStatus>,
    /// Which fences hold.
    pub fences: Fences,
    /// The API server as seen from here.
    pub api: ApiStatus,
    /// Other candidates, where known.
    pub candidates: Option<u32>,
    /// Frames of strangers that claimed a VIP while this node answered for it.
    pub conflicts: u64,
    /// Times the fence was found gone and was built again.
    pub fence_rebuilds: u64,
    /// Addresses that vanished from the kernel and were put back.
    pub readded: u64,
    /// Times the kernel finished opening the fence only after the leadership had ended.
    pub fence_late: u64,
    /// The quorum as seen from here, where one elects.
    #[serde(default)]
    pub quorum: Option<QuorumStatus>,
    /// Services as seen from here, where they are served.
    #[serde(default)]
    pub services: Option<ServicesStatus>,
}

/// Services as one node sees them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServicesStatus {
    /// Namespace and name of the Lease of who carries them; empty where there is not one.
    pub lease: String,
    /// Each of them has a Lease of its own.
    #[serde(default)]
    pub each: bool,
    /// Who holds it, as last seen.
    pub holder: Option<NodeName>,
    /// This node carries them, or places them.
    pub leads: bool,
    /// Everything that was there at the start has been read.
    pub known: bool,
    /// News of all of them comes at once.
    pub watching: bool,
    /// Why nothing new comes from the API server.
    pub fault: Option<String>,
    /// One of ours that k3s's own load balancer serves too.
    #[serde(default)]
    pub service_lb: Option<String>,
    /// Each of them that is ours.
    pub services: Vec<ServiceStatus>,
    /// The pools that addresses come out of.
    pub pools: Vec<PoolUse>,
}

/// One Service of ours.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// Namespace and name.
    pub name: String,
    /// The addresses it has.
    pub addresses: Vec<Vip>,
    /// Who holds its Lease, where each has one.
    #[serde(default)]
    pub holder: Option<NodeName>,
    /// The code of why it has none, or not all.
    pub code: Option<String>,
    /// The same in words.
    pub why: Option<String>,
    /// Its ports on the gateway, as this node knows them.
    #[serde(default)]
    pub mappings: Vec<MappingStatus>,
    /// The leases of its addresses, where this node sees to them.
    #[serde(default)]
    pub leases: Vec<LeaseStatus>,
}

/// What a node is in an election.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Waits and watches.
    Follower,
    /// Leads.
    Leader,
    /// Not a candidate for now; the VIPs say why.
    Standby,
    /// Asked to stop.
    Stopping,
}

/// One VIP on this node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VipStatus {
    /// Which.
    pub vip: Vip,
    /// What it is here.
    pub state: VipState,
    /// The link it is, or would be, on.
    pub link: Option<LinkStatus>,
    /// Why it is not answered for, where it is not.
    pub refusal: Option<Refusal>,
    /// The code of `refusal`.
    pub code: Option<String>,
    /// The refusal in words.
    pub why: Option<String>,
    /// The last stranger that claimed it.
    pub conflict: Option<Mac>,
    /// The prefix it is held with, in bits.
    pub length: u8,
}

/// What a node can be for a VIP.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VipState {
    /// The kernel does not have it.
    Absent,
    /// The kernel has it, answers no ARP or NDP for it, and serves those who still come.
    Silent,
    /// The kernel has it and answers.
    Answering,
}

/// A link as an operator wants to see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LinkStatus {
    /// Its name.
    pub name: LinkName,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier.
    pub carrier: bool,
}

/// The API server as seen from here.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiStatus {
    /// Milliseconds since the last good answer.
    pub answered_ms_ago: Option<u64>,
    /// What was wrong last, if nothing has been right since.
    pub fault: Option<String>,
    /// The watch on the Lease is open.
    pub watching: bool,
}

/// A quorum as one of its members sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QuorumStatus {
    /// The name of this member.
    pub me: NodeName,
    /// Its term.
    pub term: u64,
    /// Who leads in that term, where known.
    pub leader: Option<NodeName>,
    /// Which cluster it belongs to; `None`: to none yet.
    pub cluster: Option<u64>,
    /// Its newest entry.
    pub entry: EntryId,
    /// Whether it knows that entry to be committed.
    pub committed: bool,
    /// Why it neither votes nor promises, where it does not.
    pub silent_because: Option<String>,
    /// All members, this one included.
    pub members: Vec<MemberStatus>,
    /// Who is to carry what.
    pub vips: Vec<PlaceStatus>,
    /// How many may be lost, in words.
    pub tolerance: String,
    /// What the probes say against this member.
    #[serde(default)]
    pub ill_because: Vec<String>,
    /// Who speaks with the right key and is no member, and from where.
    #[serde(default)]
    pub strangers: BTreeMap<String, String>,
    /// What this member has promised, to whom, and for how many milliseconds yet.
    pub promises: Vec<(Vip, NodeName, u64)>,
    /// Whom it finds on its link, where members find each other.
    #[serde(default)]
    pub discovery: Option<DiscoveryStatus>,
    /// What becomes of the Lease as a record, where there is an API server.
    #[serde(default)]
    pub record: Option<String>,
    /// What becomes of the Nodes as members, where they are.
    #[serde(default)]
    pub nodes: Option<String>,
}

/// How members find each other on a link, as one of them sees it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiscoveryStatus {
    /// The link, if there is one.
    pub link: Option<LinkName>,
    /// So many found a cluster.
    pub voters: u8,
    /// What it waits for, if it does.
    pub waiting: Option<String>,
    /// Whom it hears, and what of them.
    pub heard: BTreeMap<String, String>,
    /// Datagrams that were no good, by address and code, where no member is at that address.
    #[serde(default)]
    pub refused: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A member as another sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: NodeName,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is for.
    pub role: MemberRole,
    /// Milliseconds since it was last heard; `None`: never, or it is this one.
    pub heard_ms_ago: Option<u64>,
    /// The last round trip to it and back, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Why it should rather not carry anything.
    pub ailments: Vec<Ailment>,
    /// It was asked to stop.
    pub leaving: bool,
    /// An operator wants it to carry nothing.
    pub drained: bool,
    /// How many VIPs it is to carry.
    pub holds: u32,
    /// Datagrams from its address that were no good, by code.
    pub bad: BTreeMap<String, u64>,
}

/// Where a VIP is to be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PlaceStatus {
    /// Which.
    pub vip: Vip,
    /// Who is to carry it.
    pub holder: Option<NodeName>,
    /// Who gets ready to carry it next.
    pub next: Option<NodeName>,
    /// Which decision this is.
    pub epoch: String,
    /// Milliseconds for which this member may answer for it, unless promised again.
    pub until_ms: Option<u64>,
    /// Why it is there, in words.
    pub why: String,
    /// The code of `why`, where this member knows.
    #[serde(default)]
    pub code: Option<String>,
}

/// How many voters a quorum may lose, in words.
pub fn tolerance(voters: usize) -> String {
    const WORDS: [&str; 4] = ["none", "one", "two", "three"];
    let spare = voters.saturating_sub(1) / 2;
    let word = WORDS.get(spare).map_or_else(|| spare.to_string(), |it| (*it).to_owned());
    match voters {
        0 => "none: nobody votes yet".into(),
        1 => "none: there is one voter only; add two".into(),
        2 => "none: with two voters neither may be lost; add a third or a witness".into(),
        it if it % 2 == 0 => format!("{word} of {it} voters may be lost, as of {}", it - 1),
        it => format!("{word} of {it} voters may be lost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_what_must_be_left() {
        let cases = [
            (3, "one of 3 voters may be lost"),
            (4, "one of 4 voters may be lost, as of 3"),
            (5, "two of 5 voters may be lost"),
            (9, "4 of 9 voters may be lost"),
        ];
        for (voters, words) in cases {
            assert_eq!(tolerance(voters), words);
        }
        assert!((0..3).all(|it| tolerance(it).starts_with("none: ")));
    }
}
