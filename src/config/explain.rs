//! What is in force and where it comes from, and the table of settings, for people.

use std::time::Duration;

use super::kubeconfig::Access;
use super::peers::{self, Peer};
use super::settings::{self, Setting, Standing};
use super::sources::{Origin, Settings};
use super::values::Kind;
use super::{Config, RaftSettings};
use crate::model::MemberRole;

/// An effective value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explained {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value as text; a secret is not shown.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it has an effect, as things are.
    pub works: bool,
}

/// Every setting that works, and every other that somebody has set.
pub(super) fn explained(settings: &Settings, config: &Config) -> Vec<Explained> {
    settings::all()
        .map(|setting| (setting, settings.get(setting.name())))
        .map(|(setting, value)| (setting, value, works(setting.standing, config)))
        .filter(|(_, value, works)| *works || value.origin != Origin::Default)
        .map(|(setting, value, works)| {
            let value_in_force = in_force(setting, &value.text, config);
            Explained { setting, value: value_in_force, origin: value.origin.clone(), works }
        })
        .collect()
}

fn works(standing: Standing, config: &Config) -> bool {
    match standing {
        Standing::Built => true,
        Standing::OfLease => config.raft.is_none(),
        Standing::OfRaft => config.raft.is_some(),
        Standing::OfServices => config.services.is_some(),
        Standing::Asks(_) | Standing::Dead(_) | Standing::Parameter(_) | Standing::Retired(_) => {
            false
        }
    }
}

/// What a text comes to where that is not the text itself.
fn in_force(setting: &Setting, text: &str, config: &Config) -> String {
    if let Some(it) = config.raft.as_ref().and_then(|it| of_raft(setting.name(), text, it)) {
        return it;
    }
    match setting.name() {
        "vip_arpRate" => config.refresh.as_millis().to_string(),
        "vip_leasename" => format!("{}/{}", config.lease.namespace, config.lease.name),
        "vip_nodename" => config.node.to_string(),
        "svc_leasename" => match &config.services {
            Some(it) => format!("{}/{}", it.lease.0, it.lease.1),
            None => text.into(),
        },
        _ if setting.kind == Kind::Secret && !text.is_empty() => "(hidden)".into(),
        _ => text.into(),
    }
}

fn of_raft(name: &str, text: &str, raft: &RaftSettings) -> Option<String> {
    let millis = |it: Duration| it.as_millis().to_string();
    Some(match name {
        "edgevip_state_dir" => raft.state_dir.display().to_string(),
        "leaderElectionType" => "raft".into(),
        "vip_keyfile" => match &raft.keys {
            None => "(not set)".into(),
            Some(it) if it.previous.is_some() => format!("{} (set, two keys)", it.file.display()),
            Some(it) => format!("{} (set)", it.file.display()),
        },
        "vip_localpeer" if raft.address.ip().is_unspecified() => {
            format!("(the link's address):{}", raft.address.port())
        }
        "vip_localpeer" => {
            let (me, address) = (&raft.me, raft.address);
            let witness = raft.members.get(me).is_some_and(|it| it.role == MemberRole::Witness);
            Peer { name: me.clone(), address, witness }.to_string()
        }
        "vip_peers" => {
            let listed = peers::peers(text).unwrap_or_default();
            listed.iter().map(Peer::to_string).collect::<Vec<_>>().join(",")
        }
        "vip_raft_heartbeat" => millis(raft.heartbeat),
        "vip_raft_promise" => millis(raft.promise),
        "vip_raft_step" => millis(raft.step),
        "control_plane_health_check_address" => {
            raft.health.as_ref().map_or("off".into(), |it| it.url.clone())
        }
        _ => return None,
    })
}

/// The effective values as `edgevip explain` prints them, one a line.
pub fn values(explained: &[Explained]) -> String {
    explained.iter().fold(String::new(), |text, it| {
        let effect = match it.setting.standing {
            Standing::Built => "",
            Standing::OfLease | Standing::OfRaft | Standing::OfServices if it.works => "",
            Standing::OfLease => " (no effect where raft elects)",
            Standing::OfRaft => " (no effect where a Kubernetes Lease elects)",
            Standing::OfServices => " (no effect where svc_enable is false)",
            Standing::Asks(_) | Standing::Parameter(_) => " (no effect in this version)",
            Standing::Dead(_) | Standing::Retired(_) => " (no effect)",
        };
        let assignment = format!("{}={}", it.setting.name(), it.value);
        text + &format!("{assignment:<50} {}{effect}\n", it.origin)
    })
}

/// How the API server will be reached, as `edgevip explain` prints it.
pub fn access(access: &Access) -> String {
    let api = &access.api;
    let mut text = format!("API server {} (from {})\n", api.server, api.source);
    if let Some(dial) = &api.dial {
        text += &format!("  connected to at {dial}\n");
    }
    if let Some(name) = &api.tls_server_name {
        text += &format!("  its certificate must be for {name}\n");
    }
    api.remarks.iter().fold(text, |text, it| text + "  " + it + "\n")
}

/// The settings that work as `--help` prints them.
pub fn help() -> String {
    let intro = "Settings (variable before flag before configuration file):\n";
    let settings = settings::all().filter(|it| match it.standing {
        Standing::Built | Standing::OfLease | Standing::OfRaft | Standing::OfServices => true,
        Standing::Asks(_) | Standing::Dead(_) | Standing::Parameter(_) | Standing::Retired(_) => {
            false
        }
    });
    settings.fold(intro.into(), |text, it| {
        let flag = it.flag().unwrap_or_default();
        let default = match it.default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        text + &format!(
            "  {flag}, {} <{}>{default}\n      {}\n",
            it.name(),
            it.kind.word(),
            it.help
        )
    })
}

/// Every setting, as a table in Markdown.
pub fn table() -> String {
    let head = "| variable | flag | file | type | default | meaning | in this version |\n\
                |---|---|---|---|---|---|---|\n";
    settings::all().fold(head.into(), |text, it| {
        let default = words(it.default, |_| "");
        let standing = match it.standing {
            Standing::Asks(what) => format!("refused where it asks for {what}"),
            Standing::Built if it.name() == "leaderElectionType" => {
                "works; refused where it asks for etcd".into()
            }
            Standing::Built => "works".into(),
            Standing::OfLease => "works where a Kubernetes Lease elects".into(),
            Standing::OfRaft => "works where raft elects".into(),
            Standing::OfServices => "works where svc_enable is true".into(),
            Standing::Dead(why) => format!("no effect: {why}"),
            Standing::Parameter(of) => format!("no effect: {of}"),
            Standing::Retired(instead) => format!("no effect: {instead}"),
        };
        let (env, keys) = (words(it.env, |_| ""), words(it.keys, |_| ""));
        let flags = words(it.flags, |it| if it.len() == 1 { "-" } else { "--" });
        let kind = it.kind.word();
        text + &format!(
            "| {env} | {flags} | {keys} | {kind} | {default} | {} | {standing} |\n",
            it.help
        )
    })
}

fn words(text: &str, dashes: fn(&str) -> &'static str) -> String {
    let words = text.split(' ').filter(|it| !it.is_empty());
    words.map(|it| format!("`{}{it}`", dashes(it))).collect::<Vec<_>>().join(" ")
}
