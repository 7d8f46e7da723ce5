//! What a user may ask for, understood: a [`Config`] cannot say what cannot be done.

mod build;
pub mod explain;
pub mod kubeconfig;
mod peers;
pub mod rights;
pub mod settings;
pub mod sources;
mod standing;
pub mod uci;
mod values;
pub(crate) mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use build::resolve;
pub(crate) use values::nearest;

use crate::model::{LinkName, Members, NodeName};

/// The names of these members, as `vip_peers` has them.
pub(crate) fn member_names(text: &str) -> Vec<String> {
    let peers = peers::peers(text).unwrap_or_default();
    peers.into_iter().map(|it| it.name.to_string()).collect()
}

/// What comes of all sources together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolved {
    /// Everything the settings say, checked.
    pub config: Config,
    /// Each effective value and where it comes from.
    pub explained: Vec<explain::Explained>,
    /// What a user probably did not mean.
    pub warnings: Vec<String>,
    /// What a user may want to know.
    pub infos: Vec<String>,
}

/// Everything that is wrong, at once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Faults(pub Vec<Fault>);

/// What is wrong with a setting, and what would be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The setting, as the user wrote it where that helps to find it.
    pub setting: String,
    /// What was written.
    pub value: Option<String>,
    /// What is wrong with it, and what would be right.
    pub right: String,
}

impl Fault {
    /// A fault of something that has no value.
    pub fn bare(setting: impl Into<String>, right: impl Into<String>) -> Self {
        Self { setting: setting.into(), value: None, right: right.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, right } = self;
        match value {
            Some(value) => write!(f, "{setting}={value}: {right}"),
            None => write!(f, "{setting}: {right}"),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| writeln!(f, "{it}"))
    }
}

/// What there is to say about settings while they are read.
#[derive(Debug, Default)]
struct Notes {
    faults: Vec<Fault>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Notes {
    fn fault(&mut self, setting: &str, value: impl fmt::Display, right: impl Into<String>) {
        let value = Some(value.to_string());
        self.faults.push(Fault { setting: setting.into(), value, right: right.into() });
    }
}

/// Everything the settings say, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// This node's name and identity in elections, in lower case.
    pub node: NodeName,
    /// Tells several instances on one host apart: socket, fence tables.
    pub instance: Option<String>,
    /// The VIPs of the control plane; none where only Services are served.
    pub vips: Vec<VipSetting>,
    /// Which families of a DNS name to use.
    pub dns_mode: DnsMode,
    /// The API server's port on this node.
    pub port: u16,
    /// Prefix length of IPv4 VIPs, in bits.
    pub length_v4: u8,
    /// Prefix length of IPv6 VIPs, in bits.
    pub length_v6: u8,
    /// The link to carry them; `None`: the one with their subnet, else the default route's.
    pub link: Option<LinkName>,
    /// Announce again this often after the first burst.
    pub refresh: Duration,
    /// Claim IPv6 VIPs without asking whether they are free.
    pub skip_dad: bool,
    /// Global scope instead of host scope on the loopback link.
    pub lo_global_scope: bool,
    /// Keep IPv4 VIPs, silent, until another leader is seen.
    pub preserve: bool,
    /// Whether to use the nftables fence.
    pub fence: FenceSetting,
    /// The election by a Kubernetes Lease, where `raft` is `None`.
    pub lease: LeaseSettings,
    /// The election by raft.
    pub raft: Option<RaftSettings>,
    /// Which Services to serve; `None`: none.
    pub services: Option<ServiceSettings>,
    /// How to reach the API server.
    pub kube: KubeSettings,
    /// Label the node that holds the VIPs.
    pub label_node: bool,
    /// Serve `/healthz`, `/livez` and `/readyz` here.
    pub health_port: Option<u16>,
    /// Serve `/metrics` here.
    pub metrics: Option<String>,
    /// Run this on transitions.
    pub notify: Option<String>,
    /// Write every input here, for `edgevip replay`.
    pub record: Option<PathBuf>,
    /// Messages below this level are not shown: -4 debug, 0 info, 4 warn, 8 error.
    pub log_level: i32,
    /// For people or for machines.
    pub log_format: LogFormat,
}

/// A VIP as written: an address, or a name that stands for some.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum VipSetting {
    /// A literal address.
    Address(IpAddr),
    /// A DNS name, looked up again and again.
    Name(String),
}

/// Which addresses of a DNS name to use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DnsMode {
    /// All of both families that come first: one of each.
    Dual,
    /// The first, of whatever family.
    First,
    /// The first of IPv4.
    Ipv4,
    /// The first of IPv6.
    Ipv6,
}

/// Whether to use the nftables fence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FenceSetting {
    /// Where the kernel has it.
    Auto,
    /// Never.
    Off,
    /// Refuse to start without it.
    Required,
}

/// For people or for machines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// One sentence a line.
    Text,
}

/// The election by a Kubernetes Lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseSettings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Others wait this long after the last renewal they saw.
    pub duration: Duration,
    /// A leader trusts a renewal this long after it sent it.
    pub renew_deadline: Duration,
    /// Time between attempts.
    pub retry_period: Duration,
    /// Put on the Lease when it is created.
    pub annotations: BTreeMap<String, String>,
}

/// Which hardware address a lease of DHCPv4 is leased to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DhcpMac {
    /// The link's.
    Link,
    /// One of its own, of a link that is made for it.
    Macvlan,
    /// One of its own.
    Own,
}

/// Which Services to serve, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceSettings {
    /// Namespace and name of the Lease of who carries them.
    pub lease: (String, String),
    /// Each is elected by a Lease of its own instead.
    pub elects_each: bool,
    /// Those that ask for it are elected by a Lease of their own.
    pub elects_some: bool,
    /// Only those of this namespace.
    pub namespace: Option<String>,
    /// The link of those that name none.
    pub link: LinkSetting,
    /// Only those that name a class.
    pub class_only: bool,
    /// The class that is served here.
    pub class_name: String,
    /// Those without a class as well.
    pub class_legacy: bool,
    /// Whether anything is written to them.
    pub writes: bool,
    /// Whether they may ask for ports on the site's gateway.
    pub gateway: bool,
    /// Whether nothing is to reach their addresses but their ports.
    pub guards: bool,
    /// Namespace and name of the ConfigMap with the pools.
    pub pools: (String, String),
    /// After so many attempts in vain, DHCP servers are asked more seldom; 0: never.
    pub dhcp_attempts: u32,
    /// What leases of DHCPv4 are leased to.
    pub dhcp_mac: DhcpMac,
}

/// Which link is to carry a VIP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkSetting {
    /// The same as for the control plane.
    AsControlPlane,
    /// The one with the VIP's subnet.
    Auto,
    /// This one.
    Named(LinkName),
}

/// How to reach the API server, as far as settings say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KubeSettings {
    /// Kubeconfig files in order of preference; the first that exists is used.
    pub kubeconfigs: Vec<PathBuf>,
    /// The first of them was asked for, rather than is one of the usual ones.
    pub explicit: bool,
    /// Overrides the server named in the kubeconfig.
    pub server: Option<String>,
    /// Find a working address from the certificate served on loopback.
    pub detect: bool,
    /// The API server's port on this node.
    pub port: u16,
    /// `host:port` of the API server as a Pod sees it.
    pub in_cluster: Option<String>,
}

/// The election by raft among the members themselves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RaftSettings {
    /// This member; the same as [`Config::node`].
    pub me: NodeName,
    /// Where it listens.
    pub address: SocketAddr,
    /// All that are listed, this one included; only this one where others are found.
    pub members: Members,
    /// Find the others on the link. Then `address` may lack the IP, which is the link's.
    pub discover: Option<DiscoverSettings>,
    /// The members are the Nodes of the control plane, and only this one is listed.
    pub from_nodes: bool,
    /// What members know each other by; `None`: nothing.
    pub keys: Option<RaftKeys>,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// How long a voter promises a VIP to its holder.
    pub promise: Duration,
    /// Time between one candidate and the next.
    pub step: Duration,
    /// Up to so much more, by chance.
    pub spread: Duration,
    /// Found a cluster without waiting for the others.
    pub found_alone: bool,
    /// Where to keep what must outlive a restart.
    pub state_dir: PathBuf,
    /// What to ask for whether this node is well.
    pub health: Option<HealthSettings>,
    /// What to run for it.
    pub check: Option<CheckSettings>,
    /// When a VIP goes back to a member that is better placed.
    pub fail_back: FailBack,
}

/// How members find each other on a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiscoverSettings {
    /// So many found a cluster.
    pub voters: u8,
}

/// What members know each other by.
#[derive(Clone, Eq, PartialEq)]
pub struct RaftKeys {
    /// Where they were found.
    pub file: PathBuf,
    /// The key to write with.
    pub current: Vec<u8>,
    /// The key before, which is still believed.
    pub previous: Option<Vec<u8>>,
}

impl fmt::Debug for RaftKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = if self.previous.is_some() { "two keys" } else { "a key" };
        write!(f, "RaftKeys({keys} from {})", self.file.display())
    }
}

/// What to ask for whether this node is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthSettings {
    /// Where to ask, by http or https.
    pub url: String,
    /// Whether the certificate must be good.
    pub verify: bool,
    /// The file with whom to trust.
    pub ca: Option<PathBuf>,
    /// Time between checks.
    pub interval: Duration,
    /// How long to wait for the answer.
    pub timeout: Duration,
    /// So many failures in a row count.
    pub fall: u32,
}

/// What to run for whether this node is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckSettings {
    /// The command.
    pub command: String,
    /// Time between its runs.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// So many good runs in a row make the node well.
    pub rise: u32,
    /// So many bad runs in a row make the node ill.
    pub fall: u32,
    /// How much its failure weighs against other members that are ill too.
    pub weight: u8,
}

/// When a VIP goes back to a member that is better placed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailBack {
    /// As soon as that member is there.
    AtOnce,
    /// Once that member has been there for a while.
    Delayed,
    /// Only when it has to move anyway, or an operator says so.
    Never,
}
