//! Election by raft: who the members are, what they know each other by, how long things
//! take, and what makes a node ill.

mod discover;
mod fitness;
mod timing;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use timing::Timing;

use super::filled;
use crate::config::peers::{self, Peer};
use crate::config::sources::{Origin, Settings, Sources};
use crate::config::standing::{self, Elector};
use crate::config::{FailBack, FenceSetting, Notes, RaftKeys, RaftSettings, VipSetting};
use crate::model::{MemberRole, Members, NodeName, tolerance};

/// What else is settled, that the election has to fit.
pub(super) struct Around<'a> {
    pub node: &'a NodeName,
    pub vips: &'a [VipSetting],
    pub fence: FenceSetting,
}

/// The election by raft, if that is what elects.
pub(super) fn raft(
    settings: &Settings,
    sources: &Sources<'_>,
    around: &Around<'_>,
    notes: &mut Notes,
) -> Option<RaftSettings> {
    check_elector(settings, notes);
    if standing::elector(settings) == Elector::Lease {
        return None;
    }
    check_rest(settings, around, notes);
    let (me, members) = members(settings, around, notes)?;
    let discover = discover::discover(settings);
    check_members(&me, &members, around, discover.is_some(), notes);
    let Timing { heartbeat, promise, step, spread } = timing::timing(settings, around.fence, notes);
    let from_nodes = from_nodes(settings, notes);
    let others = from_nodes || discover.is_some() || members.len() > 1;
    Some(RaftSettings {
        keys: keys(settings, sources, others, notes),
        discover,
        me: me.name,
        address: me.address,
        members,
        from_nodes,
        heartbeat,
        promise,
        step,
        spread,
        found_alone: !from_nodes
            && (settings.is_on("vip_startleader") || settings.is_on("vip_singlenode")),
        state_dir: state_dir(settings, sources),
        health: fitness::health(settings, sources, around, notes),
        check: fitness::check(settings, notes),
        fail_back: match settings.text("edgevip_fail_back") {
            "at-once" => FailBack::AtOnce,
            "delayed" => FailBack::Delayed,
            _ => FailBack::Never,
        },
    })
}

fn check_elector(settings: &Settings, notes: &mut Notes) {
    let asked = settings.get("leaderElectionType");
    match (asked.text.as_str(), standing::elector(settings)) {
        ("etcd", _) => {
            let right = "election by etcd is not in this version; leave it out to elect by a \
                         Kubernetes Lease, or give raft";
            notes.fault("leaderElectionType", "etcd", right);
        }
        (text, Elector::Raft) if text != "raft" && asked.origin != Origin::Default => {
            let right = "vip_localpeer, vip_peers or vip_raft_discover is given too, and with members \
                         raft elects; \
                         leave these out, or give raft";
            notes.fault("leaderElectionType", text, right);
        }
        (_, Elector::Lease | Elector::Raft) => {}
    }
}

fn check_rest(settings: &Settings, around: &Around<'_>, notes: &mut Notes) {
    let refused = [(
        "vip_preserve_on_leadership_loss",
        "where raft elects the next holder answers within milliseconds, and silent addresses \
             of members that are cut off would stay for ever; leave it out",
    )];
    for (name, right) in refused.into_iter().filter(|(name, _)| settings.is_on(name)) {
        notes.fault(name, settings.text(name), right);
    }
    if settings.is_on("enable_node_labeling") && settings.text("k8s_config_file") == "off" {
        let right = "only the API server can be told, and k8s_config_file=off; leave one out";
        notes.fault("enable_node_labeling", "true", right);
    }
    for vip in around.vips {
        if let VipSetting::Name(name) = vip {
            let right = "each member would look up the name by itself and two could find different \
                         addresses; where raft elects, give the addresses";
            notes.fault("address", name, right);
        }
    }
}

/// Whether the Nodes of the control plane are the members, rather than those listed.
fn from_nodes(settings: &Settings, notes: &mut Notes) -> bool {
    if settings.text("vip_raft_members") != "nodes" {
        return false;
    }
    if !settings.text("vip_peers").is_empty() {
        let right = "vip_peers is given too; leave it out, or give peers";
        notes.fault("vip_raft_members", "nodes", right);
    }
    if discover::discover(settings).is_some() {
        let right = "vip_raft_discover is given too; give one of them";
        notes.fault("vip_raft_members", "nodes", right);
    }
    if settings.text("k8s_config_file") == "off" {
        let right = "the Nodes are known by the API server only; give a kubeconfig, or peers";
        notes.fault("vip_raft_members", "nodes", right);
    }
    for name in ["vip_startleader", "vip_singlenode"] {
        if settings.is_on(name) {
            let why = "without effect, for one founds whom the API server lets";
            notes.warnings.push(format!("{name}: {why}"));
        }
    }
    true
}

fn members(settings: &Settings, around: &Around<'_>, notes: &mut Notes) -> Option<(Peer, Members)> {
    if let Some(it) = discover::discover(settings) {
        discover::check(settings, &it, notes);
        let me = discover::me(settings, around, notes);
        let members = Members::from([(me.name.clone(), me.member())]);
        return Some((me, members));
    }
    let port = settings.get("vip_raft_port");
    if port.origin != Origin::Default {
        notes.warnings.push(format!("vip_raft_port={}: without effect, for it is the port of members that vip_raft_discover finds", port.text));
    }
    let listed = peers::peers(settings.text("vip_peers")).unwrap_or_default();
    let of_nodes = settings.text("vip_raft_members") == "nodes";
    let alone = settings.is_on("vip_singlenode") && !of_nodes;
    let local = filled(settings, "vip_localpeer").and_then(|it| peers::peer(&it).ok());
    let named = || listed.iter().find(|it| it.name == *around.node).cloned();
    let Some(mut me) = local.or_else(named).or_else(|| alone.then(|| only(around.node))) else {
        let names: Vec<_> = listed.iter().map(|it| &*it.name.0).collect();
        let right = match names.is_empty() {
            true if of_nodes => {
                "nothing says where this member listens; give it as id:address:port, \
                                 with the InternalIP of its Node, and the same port on all"
                    .to_owned()
            }
            true => "nothing says who the members are; give this one as id:address:port, and all \
                     of them in vip_peers"
                .to_owned(),
            false => format!(
                "nothing says which member this is: vip_peers has {}, and this node is called {}; \
                 give this member as id:address:port, or vip_nodename",
                names.join(", "),
                around.node
            ),
        };
        notes.fault("vip_localpeer", "", right);
        return None;
    };
    if alone && listed.iter().any(|it| it.name != me.name) {
        notes.warnings.push("vip_peers: without effect, for vip_singlenode=true".to_owned());
    }
    let listed = if alone { Vec::new() } else { listed };
    let same = |it: &&Peer| it.name == me.name && it.address == me.address;
    me.witness |= listed.iter().filter(same).any(|it| it.witness);
    let mut members = Members::from([(me.name.clone(), me.member())]);
    for it in listed.iter().filter(|it| !same(it)) {
        let taken = members.iter().find(|(_, other)| other.address == it.address);
        if let Some((name, _)) = taken {
            let right = format!("{name} has that address already; give each member its own");
            notes.fault("vip_peers", it, right);
        } else if let Some(other) = members.insert(it.name.clone(), it.member()) {
            let right =
                format!("{} is at {} already; give each its own id", it.name, other.address);
            notes.fault("vip_peers", it, right);
        }
    }
    Some((me, members))
}

/// Nobody sends anything to the only member.
fn only(node: &NodeName) -> Peer {
    let address = SocketAddr::from(([127, 0, 0, 1], 10_000));
    Peer { name: node.clone(), address, witness: false }
}

/// So many members fit in what they say to each other.
const MOST_MEMBERS: usize = 32;

fn check_members(
    me: &Peer,
    members: &Members,
    around: &Around<'_>,
    discovers: bool,
    notes: &mut Notes,
) {
    for (name, it) in members {
        let written = Peer {
            name: name.clone(),
            address: it.address,
            witness: it.role == MemberRole::Witness,
        };
        if it.address.is_ipv4() != me.address.is_ipv4() {
            let right = format!("of another family than {}; give all members one", me.address);
            notes.fault("vip_peers", &written, right);
        }
        if around.vips.contains(&VipSetting::Address(it.address.ip())) {
            let right = "a VIP is now here, now there; give an address that stays with the member";
            notes.fault(
                if *name == me.name { "vip_localpeer" } else { "vip_peers" },
                written,
                right,
            );
        }
    }
    if members.len() > MOST_MEMBERS {
        let right = format!("more than {MOST_MEMBERS} members; three or five are enough to vote");
        notes.fault("vip_peers", format!("({} members)", members.len()), right);
    }
    if !discovers && members.values().all(|it| it.role == MemberRole::Witness) {
        notes.fault("vip_peers", me, "witnesses carry nothing; give a member that does");
    }
    match members.len() {
        2 => {
            notes.warnings.push(format!("vip_peers: {}", tolerance(2).trim_start_matches("none: ")))
        }
        even if even % 2 == 0 => notes.infos.push(format!("vip_peers: {}", tolerance(even))),
        _ => {}
    }
}

/// Shorter ones can be guessed.
const SHORTEST_KEY: usize = 16;

fn keys(
    settings: &Settings,
    sources: &Sources<'_>,
    others: bool,
    notes: &mut Notes,
) -> Option<RaftKeys> {
    const MAKE: &str = "make one with `openssl rand -hex 32` and give every member the same";
    let insecure = settings.is_on("vip_raft_insecure");
    let Some((file, text)) = key_file(settings, sources) else {
        if insecure && discover::discover(settings).is_some() {
            // It is refused already.
        } else if insecure && others {
            let why = "whoever can send to the members can take the VIP";
            notes.warnings.push(format!("vip_raft_insecure=true: {why}; give a vip_keyfile"));
        } else if others {
            let right = format!(
                "members know each other by a key in a file; {MAKE}, or give vip_raft_insecure=true \
                 where nobody else can send to them"
            );
            notes.fault("vip_keyfile", "", right);
        }
        return None;
    };
    let mut fault = |right: String| {
        notes.fault("vip_keyfile", file.display(), right);
        None
    };
    if insecure {
        return fault("vip_raft_insecure=true is given too; give one of them".into());
    }
    let text = match text {
        Ok(text) => text,
        Err(why) if why.kind() == io::ErrorKind::InvalidData => {
            return fault(format!("not text; {MAKE}"));
        }
        Err(why) => return fault(format!("cannot be read: {why}; {MAKE}")),
    };
    let lines: Vec<_> = text.trim_end_matches(['\n', '\r']).lines().collect();
    if lines.iter().any(|it| it.len() < SHORTEST_KEY) {
        return fault(format!("a key of fewer than {SHORTEST_KEY} bytes can be guessed; {MAKE}"));
    }
    let (current, previous) = match lines[..] {
        [current] => (current, None),
        [current, previous] => (current, Some(previous.into())),
        _ => {
            let right = "not one line with the key, or two, the second with the key before it";
            return fault(format!("{right}; {MAKE}"));
        }
    };
    if (sources.is_open)(&file) {
        let why = "everybody on this host can read it; take that away with `chmod o-r`";
        notes.warnings.push(format!("vip_keyfile={}: {why}", file.display()));
    }
    Some(RaftKeys { file, current: current.into(), previous })
}

/// The one asked for, else what systemd has put where credentials are.
fn key_file(settings: &Settings, sources: &Sources<'_>) -> Option<(PathBuf, io::Result<String>)> {
    if let Some(path) = filled(settings, "vip_keyfile").map(PathBuf::from) {
        let text = (sources.read)(&path);
        return Some((path, text));
    }
    sources.credential("vip_keyfile")
}

fn state_dir(settings: &Settings, sources: &Sources<'_>) -> PathBuf {
    let systemd = || sources.env.get("STATE_DIRECTORY")?.split(':').next().map(str::to_owned);
    filled(settings, "edgevip_state_dir")
        .or_else(|| systemd().filter(|it| !it.is_empty()))
        .map_or_else(|| PathBuf::from("/var/lib/edgevip"), PathBuf::from)
}

/// The name of this node, which members know each other by.
pub(super) fn node(
    node: NodeName,
    raft: Option<&RaftSettings>,
    settings: &Settings,
    notes: &mut Notes,
) -> NodeName {
    let Some(RaftSettings { me, .. }) = raft else {
        return node;
    };
    if node != *me && !settings.text("vip_nodename").is_empty() {
        let why = format!("members know this node as {me}, and so it is called");
        notes.warnings.push(format!("vip_nodename={node}: {why}"));
    }
    me.clone()
}

#[cfg(test)]
mod tests;
