//! Three nodes, a client and the switch between them, each a network namespace; and what can
//! be done to a node's cable.
//!
//! ```text
//!    n1 .1   n2 .2   n3 .3   client .100
//!   ──┴───────┴───────┴────────┴──  the switch, 10.99.0.0/24; VIPs from .200 on
//! ```

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::io::netlink::links::{FarEnd, Links, index};
use crate::model::{LinkIndex, Mac};

/// How many nodes there are.
pub const NODES: usize = 3;
/// The names of the nodes.
pub const NAMES: [&str; NODES] = ["n1", "n2", "n3"];
/// How many addresses there are room for.
pub const MOST_VIPS: u8 = 16;

const CLIENT: u8 = 100;
const FIRST_VIP: u8 = 200;
const LENGTH: u8 = 24;

/// An address of the laboratory's subnet.
pub fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, last)
}

/// The address of a node.
pub fn node_address(node: usize) -> Ipv4Addr {
    address(node as u8 + 1)
}

/// The first so many VIPs.
pub fn vips(count: u8) -> Vec<Ipv4Addr> {
    (0..count).map(|it| address(FIRST_VIP + it)).collect()
}

/// The node with that hardware address.
pub fn node_of(mac: [u8; 6]) -> Option<usize> {
    (0..NODES).find(|it| self::mac(*it as u8 + 1).0 == mac)
}

/// A network namespace, and the port of the switch that its cable ends in.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: Arc<File>,
    port: LinkIndex,
}

/// All hosts. What is called as the switch is this process's own namespace.
#[derive(Debug)]
pub struct Net {
    /// The nodes.
    pub nodes: Vec<Host>,
    /// The client.
    pub client: Host,
    links: Links,
}

impl Net {
    /// Builds everything in the namespace of the calling thread, which must be empty.
    pub fn build() -> Result<Self, String> {
        let mut links = Links::open()?;
        let lan = links.bridge("lan")?;
        let mut host = |name: &str, last| {
            Host::build(&mut links, lan, name, last).map_err(|it| within(name, &it))
        };
        let client = host("client", CLIENT)?;
        let nodes: Result<Vec<_>, _> =
            NAMES.iter().zip(1..).map(|(name, last)| host(name, last)).collect();
        Ok(Self { nodes: nodes?, client, links })
    }

    /// Lets nothing pass between the switch and a node, which keeps its carrier.
    pub fn cut(&mut self, node: usize) -> Result<(), String> {
        self.links.pass(self.port(node)?, false)
    }

    /// Undoes [`Net::cut`].
    pub fn join(&mut self, node: usize) -> Result<(), String> {
        self.links.pass(self.port(node)?, true)
    }

    /// Takes a node's carrier.
    pub fn unplug(&mut self, node: usize) -> Result<(), String> {
        self.links.turn(self.port(node)?, false)
    }

    /// Undoes [`Net::unplug`], and [`Net::cut`] with it.
    pub fn plug(&mut self, node: usize) -> Result<(), String> {
        self.links.turn(self.port(node)?, true)
    }

    fn port(&self, node: usize) -> Result<LinkIndex, String> {
        self.nodes.get(node).map(|it| it.port).ok_or_else(|| format!("there is no node {node}"))
    }
}

impl Host {
    fn build(links: &mut Links, lan: LinkIndex, name: &str, last: u8) -> Result<Self, String> {
        let namespace = thread::spawn(|| -> Result<File, String> {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|it| it.desc())?;
            File::open("/proc/thread-self/ns/net").map_err(|it| format!("/proc: {it}"))
        });
        let namespace = namespace.join().map_err(|_| "its thread failed")??;
        let far = FarEnd { name: "eth0", mac: mac(last), namespace: namespace.as_fd() };
        let port = links.cable(&format!("{name}-port"), lan, far)?;
        let host = Self { namespace: Arc::new(namespace), port };
        host.inside(|| {
            let mut links = Links::open()?;
            links.turn(index("lo")?, true)?;
            let link = index("eth0")?;
            links.give(link, address(last), LENGTH)?;
            links.turn(link, true)
        })??;
        Ok(host)
    }

    /// Does something on a thread that lives there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        thread::scope(|scope| {
            let there = scope.spawn(|| self.enter().map(|()| work()));
            there.join().unwrap_or_else(|_| Err("a thread failed".into()))
        })
    }

    /// Moves the calling thread there.
    pub fn enter(&self) -> Result<(), String> {
        setns(&*self.namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|it| format!("entering a network namespace: {}", it.desc()))
    }
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0x99, 0, last])
}

fn within(name: &str, why: &str) -> String {
    format!("building {name}: {why}")
}
