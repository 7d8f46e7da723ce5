//! What becomes of what was asked for and cannot be had.

use super::Notes;
use super::settings::{self, Setting, Standing};
use super::sources::Settings;

/// What holds the election.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Elector {
    /// A Kubernetes Lease.
    Lease,
    /// The members themselves.
    Raft,
}

/// Which is asked for.
pub fn elector(settings: &Settings) -> Elector {
    let named = ["vip_localpeer", "vip_peers"].iter().any(|it| !settings.text(it).is_empty());
    let members = named || !matches!(settings.text("vip_raft_discover"), "" | "0");
    match settings.text("leaderElectionType") {
        "raft" => Elector::Raft,
        _ if members || settings.text("vip_raft_members") == "nodes" => Elector::Raft,
        _ => Elector::Lease,
    }
}

/// Refuses, warns of, or mentions what was written and has no effect.
pub fn judge(settings: &Settings, notes: &mut Notes) {
    let mut idle = Vec::new();
    let mut dead = Vec::new();
    let mut elsewhere = Vec::new();
    let elector = elector(settings);
    for setting in settings::all().filter(|it| settings.is_asked_for(it)) {
        let name = setting.name();
        match setting.standing {
            Standing::Built => {}
            Standing::OfLease if elector == Elector::Lease => {}
            Standing::OfRaft if elector == Elector::Raft => {}
            Standing::OfLease | Standing::OfRaft => elsewhere.push(name),
            Standing::OfServices if settings.is_on("svc_enable") => {}
            Standing::OfServices => dead.push(format!("{name} (svc_enable is false)")),
            Standing::Asks(what) => {
                let text = settings.text(name);
                notes.fault(
                    name,
                    text,
                    format!("{what} is not in this version; {}", way_out(setting)),
                );
            }
            Standing::Parameter(of) => idle.push(format!("{name} ({of})")),
            Standing::Dead(why) => dead.push(format!("{name} ({why})")),
            Standing::Retired(instead) => notes.warnings.push(format!("{name}: {instead}")),
        }
    }
    if !idle.is_empty() {
        let idle = idle.join(", ");
        notes.warnings.push(format!("without effect, for it is not in this version: {idle}"));
    }
    match (elsewhere.join(", "), elector) {
        (names, _) if names.is_empty() => {}
        (names, Elector::Lease) => {
            notes.warnings.push(format!("without effect where a Kubernetes Lease elects: {names}"));
        }
        (names, Elector::Raft) => {
            notes.infos.push(format!("without effect where raft elects: {names}"));
        }
    }
    if !dead.is_empty() {
        notes.infos.push(format!("without effect: {}", dead.join(", ")));
    }
}

fn way_out(setting: &Setting) -> &'static str {
    match setting.name() {
        "bgp_enable" | "vip_routingtable" | "vip_wireguard" => "announce by vip_arp=true",
        "vip_ddns" => "give an address that is fixed",
        _ => "leave it out",
    }
}
