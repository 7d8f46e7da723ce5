//! Members that find each other on their link, rather than being listed.

use std::net::{Ipv4Addr, SocketAddr};

use super::super::filled;
use super::Around;
use crate::config::DiscoverSettings;
use crate::config::Notes;
use crate::config::peers::{self, Peer};
use crate::config::sources::{Origin, Settings};
use crate::model::tolerance;

/// Whether that is asked for.
pub(super) fn discover(settings: &Settings) -> Option<DiscoverSettings> {
    let voters = settings.text("vip_raft_discover").parse().ok().filter(|it| *it > 0)?;
    Some(DiscoverSettings { voters })
}

/// This member, which may have an address of its own, or the one that its link has.
pub(super) fn me(settings: &Settings, around: &Around<'_>, notes: &mut Notes) -> Peer {
    let port: u16 = settings.text("vip_raft_port").parse().unwrap_or_default();
    let here = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let local = filled(settings, "vip_localpeer").and_then(|it| peers::peer(&it).ok());
    if let Some(local) = &local
        && settings.get("vip_raft_port").origin != Origin::Default
        && local.address.port() != port
    {
        let right = format!("vip_localpeer={local} has another one; leave one of them out");
        notes.fault("vip_raft_port", port, right);
    }
    local.unwrap_or(Peer { name: around.node.clone(), address: here, witness: false })
}

/// What cannot be together with that, and what should not.
pub(super) fn check(settings: &Settings, it: &DiscoverSettings, notes: &mut Notes) {
    let voters = it.voters;
    let refused = [
        ("vip_peers", "members are not listed where vip_raft_discover finds them; leave one out"),
        (
            "vip_startleader",
            "where vip_raft_discover finds members, so many found; to found with \
                             this one alone give vip_raft_discover=1, and leave this out",
        ),
        ("vip_singlenode", "the only member has nobody to find; leave vip_raft_discover out"),
        (
            "vip_raft_insecure",
            "without a key every stranger on the link would be let in as a \
                               member; give a vip_keyfile instead",
        ),
    ];
    let given = |name: &str| match name {
        "vip_peers" => !settings.text(name).is_empty(),
        _ => settings.is_on(name),
    };
    for (name, right) in refused.into_iter().filter(|(name, _)| given(name)) {
        notes.fault(name, settings.text(name), right);
    }
    let sentence = tolerance(voters.into());
    match voters {
        1 => {}
        2 => {
            let sentence = sentence.trim_start_matches("none: ");
            notes.warnings.push(format!("vip_raft_discover=2: {sentence}"));
        }
        even if even % 2 == 0 => notes.infos.push(format!("vip_raft_discover={even}: {sentence}")),
        _ => {}
    }
}
