//! The command that plays.

use std::path::PathBuf;

use argh::FromArgs;

use crate::lab::{self, options};

#[derive(FromArgs)]
/// three nodes on this machine to play with: who has the VIP, and each failover in ms
#[argh(
    subcommand,
    name = "lab",
    help_triggers("-h", "--help"),
    note = "Needs no root where user namespaces are allowed, and no network. Without a terminal \
            it plays one round."
)]
pub(super) struct Lab {
    /// play so many rounds without keys, and print how long clients got no answer
    #[argh(option, from_str_fn(options::rounds))]
    rounds: Option<u32>,
    /// what happens in a round: kill,stop,cut,carrier,drain,term
    #[argh(option, from_str_fn(options::events))]
    events: Option<Vec<options::Event>>,
    /// print one object a line and event
    #[argh(switch)]
    json: bool,
    /// fast, default, calm or slow
    #[argh(option, from_str_fn(options::profile))]
    profile: Option<String>,
    /// so many VIPs
    #[argh(option, default = "1", from_str_fn(options::vips))]
    vips: u8,
    /// play a file of lines such as: after 2s kill holder
    #[argh(option)]
    script: Option<PathBuf>,
    /// keep the logs of the nodes in this folder
    #[argh(option)]
    logs: Option<PathBuf>,
}

impl From<Lab> for lab::Options {
    fn from(it: Lab) -> Self {
        let Lab { rounds, events, json, profile, vips, script, logs } = it;
        let events = events.unwrap_or_else(|| Self::default().events);
        Self { rounds, events, json, profile, vips, script, logs }
    }
}
