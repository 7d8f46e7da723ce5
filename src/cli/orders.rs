//! The commands that tell a running process where VIPs are to be.

use std::net::IpAddr;

use argh::FromArgs;

#[derive(FromArgs)]
/// have a member carry nothing, without a gap
#[argh(subcommand, name = "drain", help_triggers("-h", "--help"))]
pub(super) struct Drain {
    /// its name; without it, the node of this daemon
    #[argh(positional)]
    pub node: Option<String>,
    /// ask this instance
    #[argh(option)]
    pub instance: Option<String>,
}

#[derive(FromArgs)]
/// let a member carry again
#[argh(subcommand, name = "undrain", help_triggers("-h", "--help"))]
pub(super) struct Undrain {
    /// its name; without it, the node of this daemon
    #[argh(positional)]
    pub node: Option<String>,
    /// ask this instance
    #[argh(option)]
    pub instance: Option<String>,
}

#[derive(FromArgs)]
/// move a VIP to a member, without a gap
#[argh(subcommand, name = "move", help_triggers("-h", "--help"))]
pub(super) struct Move {
    /// which VIP
    #[argh(positional)]
    pub vip: IpAddr,
    /// the name of the member
    #[argh(positional)]
    pub node: String,
    /// ask this instance
    #[argh(option)]
    pub instance: Option<String>,
}

#[derive(FromArgs)]
/// leave it to the leader again where a VIP is to be
#[argh(subcommand, name = "unmove", help_triggers("-h", "--help"))]
pub(super) struct Unmove {
    /// which VIP
    #[argh(positional)]
    pub vip: IpAddr,
    /// ask this instance
    #[argh(option)]
    pub instance: Option<String>,
}
