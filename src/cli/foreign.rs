//! Configurations of other systems.

use std::path::PathBuf;

use argh::FromArgs;

#[derive(FromArgs)]
/// read the configuration of another system
#[argh(subcommand, name = "config", help_triggers("-h", "--help"))]
pub(super) struct ConfigFiles {
    #[argh(subcommand)]
    pub from: Foreign,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(super) enum Foreign {
    Uci(FromUci),
}

#[derive(Debug, Eq, FromArgs, PartialEq)]
/// print the edgevip.toml that says what OpenWrt's /etc/config/edgevip says
#[argh(subcommand, name = "from-uci", help_triggers("-h", "--help"))]
pub struct FromUci {
    /// another file than /etc/config/edgevip
    #[argh(positional, default = "PathBuf::from(UCI)")]
    pub file: PathBuf,
    /// the device of a network, such as lan=br-lan; may be given again
    #[argh(option, from_str_fn(network))]
    pub network: Vec<(String, String)>,
}

const UCI: &str = "/etc/config/edgevip";

fn network(text: &str) -> Result<(String, String), String> {
    let parts =
        text.split_once('=').filter(|(name, device)| !name.is_empty() && !device.is_empty());
    let (name, device) = parts.ok_or("give a network and its device, such as lan=br-lan")?;
    Ok((name.into(), device.into()))
}
