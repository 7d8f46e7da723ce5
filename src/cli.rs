//! The command line: what to do, and the flags of settings that may stand anywhere in it.

mod foreign;
mod laboratory;
mod manifest;
mod orders;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use argh::{EarlyExit, FromArgs};

use crate::config::sources::{Given, dashed, take_flags};
use crate::config::{Fault, Faults, explain, nearest};
use crate::lab;
use crate::manifest::Wish;
pub use foreign::FromUci;
use foreign::{ConfigFiles, Foreign};
use laboratory::Lab;
use manifest::{Kubeadm, Manifest, Sample};
use orders::{Drain, Move, Undrain, Unmove};

/// A command line, understood.
#[derive(Debug, Eq, PartialEq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// The settings given as flags.
    pub flags: Vec<Given>,
}

/// What to do.
#[derive(Debug, Eq, PartialEq)]
pub enum Command {
    /// Say everything that is wrong with the settings and this host.
    Check,
    /// Print OpenWrt's configuration as ours.
    FromUci(FromUci),
    /// Print each effective setting and where it comes from.
    Explain,
    /// Print this.
    Help(String),
    /// Play with three nodes on this machine.
    Lab(lab::Options),
    /// Carry VIPs.
    Manager,
    /// Write what runs this in a cluster.
    Manifest(Wish),
    /// Ask a running process who belongs to its quorum.
    Members {
        /// As JSON rather than for people.
        json: bool,
        /// Of this instance.
        instance: Option<String>,
    },
    /// Ask a running process to change something for all members.
    Order {
        /// What to change.
        order: Order,
        /// Of this instance.
        instance: Option<String>,
    },
    /// Feed a recording to the engine.
    Replay(PathBuf),
    /// Write an example.
    Sample(Example),
    /// Say what pools have left.
    Pools {
        /// For machines.
        json: bool,
        /// Of which instance.
        instance: Option<String>,
    },
    /// Ask a running process how it is.
    Status {
        /// As JSON rather than for people.
        json: bool,
        /// Of this instance.
        instance: Option<String>,
    },
    /// Print the version.
    Version,
}

/// Of what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Example {
    /// A configuration file.
    Config,
    /// A Pod.
    Manifest,
}

/// What an operator may change.
#[derive(Debug, Eq, PartialEq)]
pub enum Order {
    /// A new member.
    Add {
        /// Its name.
        name: String,
        /// Where it listens.
        address: SocketAddr,
        /// It votes and carries nothing.
        witness: bool,
    },
    /// This member, or the one that is asked, is to carry nothing.
    Drain(Option<String>),
    /// The VIP is to be there.
    Move {
        /// Which.
        vip: IpAddr,
        /// On which member.
        node: String,
    },
    /// This member gets a vote.
    Promote(String),
    /// This member belongs no more.
    Remove(String),
    /// This member, or the one that is asked, may carry again.
    Undrain(Option<String>),
    /// Where this VIP is to be is the leader's business again.
    Unmove(IpAddr),
}

/// Understands the arguments, without the name of the program.
pub fn parse(args: &[String]) -> Result<Invocation, Faults> {
    let line = take_flags(args, &OWN);
    if let Some(known) = line.rest.first().filter(|it| ELSEWHERE.contains(&it.as_str())) {
        let fault =
            Fault::bare(known.as_str(), "a command of kube-vip that is not in this version");
        return Err(Faults(vec![fault]));
    }
    let mut faults = line.faults;
    match command(&line.rest) {
        Ok(command) if faults.is_empty() => return Ok(Invocation { command, flags: line.flags }),
        Ok(_) => {}
        Err(fault) => faults.push(fault),
    }
    Err(Faults(faults))
}

/// What `edgevip version` prints, in the three lines of kube-vip.
pub fn version() -> String {
    let build = option_env!("EDGEVIP_BUILD").unwrap_or("unknown");
    let version = env!("CARGO_PKG_VERSION");
    format!("edgevip Release Information\nVersion:  {version}\nBuild:    {build}\n")
}

const ELSEWHERE: [&str; 3] = ["completion", "service", "start"];
const COMMANDS: [&str; 18] = [
    "check", "config", "drain", "explain", "help", "kubeadm", "lab", "manager", "manifest",
    "members", "move", "pools", "replay", "sample", "status", "undrain", "unmove", "version",
];
/// Commands that without another word print their help.
const GROUPS: [&str; 3] = ["kubeadm", "manifest", "sample"];

/// Commands to whose help the settings do not belong.
const WITHOUT_SETTINGS: [&str; 11] = [
    "config", "drain", "lab", "members", "move", "pools", "replay", "sample", "undrain", "unmove",
    "version",
];
/// The switches of commands, which are no settings.
const OWN: [&str; 21] = [
    "network",
    "help",
    "h",
    "json",
    "instance",
    "witness",
    "rounds",
    "events",
    "profile",
    "vips",
    "script",
    "logs",
    "inCluster",
    "image",
    "name",
    "taint",
    "rbac",
    "keySecret",
    "role",
    "rolebinding",
    "config",
];

#[derive(FromArgs)]
/// Virtual IPs for Kubernetes and small clusters at the edge.
#[argh(help_triggers("-h", "--help"))]
struct Arguments {
    #[argh(subcommand)]
    command: Subcommand,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Subcommand {
    Check(Check),
    Config(ConfigFiles),
    Drain(Drain),
    Explain(Explain),
    Kubeadm(Kubeadm),
    Lab(Lab),
    Manager(Manager),
    Manifest(Manifest),
    Members(Members),
    Move(Move),
    Pools(Pools),
    Replay(Replay),
    Sample(Sample),
    Status(Status),
    Undrain(Undrain),
    Unmove(Unmove),
    Version(Version),
}

#[derive(FromArgs)]
/// carry the VIP: the daemon
#[argh(subcommand, name = "manager", help_triggers("-h", "--help"))]
struct Manager {}

#[derive(FromArgs)]
/// say everything that is wrong with the settings and this host
#[argh(subcommand, name = "check", help_triggers("-h", "--help"))]
struct Check {}

#[derive(FromArgs)]
/// print each effective setting and where it comes from
#[argh(subcommand, name = "explain", help_triggers("-h", "--help"))]
struct Explain {}

#[derive(FromArgs)]
/// ask the running daemon how it is
#[argh(subcommand, name = "status", help_triggers("-h", "--help"))]
struct Status {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// ask this instance
    #[argh(option)]
    instance: Option<String>,
}

#[derive(FromArgs)]
/// show who belongs to the quorum, or change that
#[argh(subcommand, name = "members", help_triggers("-h", "--help"))]
struct Members {
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// ask this instance
    #[argh(option)]
    instance: Option<String>,
    #[argh(subcommand)]
    change: Option<Change>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Change {
    Add(Add),
    Promote(Promote),
    Remove(Remove),
}

#[derive(FromArgs)]
/// take in a new member, which learns before it may vote
#[argh(subcommand, name = "add", help_triggers("-h", "--help"))]
struct Add {
    /// its name
    #[argh(positional)]
    name: String,
    /// where it listens: 10.0.0.4:10000 or [fd00::4]:10000
    #[argh(positional)]
    address: SocketAddr,
    /// it votes and carries nothing
    #[argh(switch)]
    witness: bool,
    /// ask this instance
    #[argh(option)]
    instance: Option<String>,
}

#[derive(FromArgs)]
/// give a member that has learnt a vote
#[argh(subcommand, name = "promote", help_triggers("-h", "--help"))]
struct Promote {
    /// its name
    #[argh(positional)]
    name: String,
    /// ask this instance
    #[argh(option)]
    instance: Option<String>,
}

#[derive(FromArgs)]
/// let a member belong no more
#[argh(subcommand, name = "remove", help_triggers("-h", "--help"))]
struct Remove {
    /// its name
    #[argh(positional)]
    name: String,
    /// ask this instance
    #[argh(option)]
    instance: Option<String>,
}

#[derive(FromArgs)]
/// say what the address pools of Services have left, and who has what
#[argh(subcommand, name = "pools", help_triggers("-h", "--help"))]
struct Pools {
    /// as JSON
    #[argh(switch)]
    json: bool,
    /// ask this instance
    #[argh(option)]
    instance: Option<String>,
}

#[derive(FromArgs)]
/// run a recording through the engine again
#[argh(subcommand, name = "replay", help_triggers("-h", "--help"))]
struct Replay {
    /// what edgevip_record has written
    #[argh(positional)]
    file: PathBuf,
}

#[derive(FromArgs)]
/// print the version
#[argh(subcommand, name = "version", help_triggers("-h", "--help"))]
struct Version {}

fn command(rest: &[String]) -> Result<Command, Fault> {
    let mut words: Vec<&str> = rest.iter().map(String::as_str).collect();
    if let Some(unknown) = words.first().filter(|it| !it.starts_with('-') && !COMMANDS.contains(it))
    {
        let meant = nearest(unknown, COMMANDS.into_iter());
        let meant = meant.map(|it| format!("; did you mean {it}?")).unwrap_or_default();
        return Err(Fault::bare(*unknown, format!("no such command{meant}")));
    }
    match words[..] {
        [] => words = vec!["--help"],
        [group] if GROUPS.contains(&group) => words.push("--help"),
        ["help", ..] => {
            words.remove(0);
            let depth = if words.first().is_some_and(|it| GROUPS.contains(it)) { 2 } else { 1 };
            words.truncate(depth);
            words.push("--help");
        }
        _ => {}
    }
    let takes_settings = !words.first().is_some_and(|it| WITHOUT_SETTINGS.contains(it));
    match Arguments::from_args(&["edgevip"], &words) {
        Ok(arguments) => Ok(arguments.command.into()),
        Err(EarlyExit { output, status: Ok(()) }) if takes_settings => {
            Ok(Command::Help(format!("{}\n{}", as_given(output), explain::help())))
        }
        Err(EarlyExit { output, status: Ok(()) }) => Ok(Command::Help(as_given(output))),
        Err(EarlyExit { output, status: Err(()) }) => Err(Fault::bare(
            format!("edgevip {}", words.join(" ")),
            output.split_whitespace().collect::<Vec<_>>().join(" "),
        )),
    }
}

/// Switches as kube-vip spells them.
fn as_given(help: String) -> String {
    let odd = OWN.iter().filter(|it| it.bytes().any(|it| it.is_ascii_uppercase()));
    odd.fold(help, |text, it| {
        let columns = text.replace(&format!("{}  ", dashed(it)), &format!("--{it}   "));
        columns.replace(&dashed(it), &format!("--{it}"))
    })
}

impl From<Subcommand> for Command {
    fn from(it: Subcommand) -> Self {
        match it {
            Subcommand::Check(Check {}) => Self::Check,
            Subcommand::Config(ConfigFiles { from: Foreign::Uci(it) }) => Self::FromUci(it),
            Subcommand::Explain(Explain {}) => Self::Explain,
            Subcommand::Drain(Drain { node, instance }) => {
                Self::Order { order: Order::Drain(node), instance }
            }
            Subcommand::Lab(it) => Self::Lab(it.into()),
            Subcommand::Kubeadm(it) => Self::Manifest(it.into()),
            Subcommand::Manager(Manager {}) => Self::Manager,
            Subcommand::Manifest(it) => Self::Manifest(it.into()),
            Subcommand::Sample(it) => Self::Sample(it.into()),
            Subcommand::Members(Members { json, instance, change: None }) => {
                Self::Members { json, instance }
            }
            Subcommand::Members(Members { instance, change: Some(change), .. }) => {
                let (order, own) = match change {
                    Change::Add(Add { name, address, witness, instance }) => {
                        (Order::Add { name, address, witness }, instance)
                    }
                    Change::Promote(Promote { name, instance }) => (Order::Promote(name), instance),
                    Change::Remove(Remove { name, instance }) => (Order::Remove(name), instance),
                };
                Self::Order { order, instance: own.or(instance) }
            }
            Subcommand::Unmove(Unmove { vip, instance }) => {
                Self::Order { order: Order::Unmove(vip), instance }
            }
            Subcommand::Move(Move { vip, node, instance }) => {
                Self::Order { order: Order::Move { vip, node }, instance }
            }
            Subcommand::Replay(Replay { file }) => Self::Replay(file),
            Subcommand::Pools(Pools { json, instance }) => Self::Pools { json, instance },
            Subcommand::Status(Status { json, instance }) => Self::Status { json, instance },
            Subcommand::Undrain(Undrain { node, instance }) => {
                Self::Order { order: Order::Undrain(node), instance }
            }
            Subcommand::Version(Version {}) => Self::Version,
        }
    }
}
