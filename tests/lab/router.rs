//! The site's router: a host between the LAN and the outside, with a real miniupnpd.
//!
//! ```text
//!    lan 10.77.0.0/24 fd77::/64 ── router ── 198.18.0.0/24 fd78::/64 ── outside
//! ```

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use super::daemon::Daemon;
use super::net::{Lan, command_in, inside, ip, ip_in, run, run_with};

/// Where the outside finds the router, which claims to be [`CLAIMED`] there.
pub const OUTSIDE: &str = "198.18.0.1";
/// An address that miniupnpd takes for one of the Internet. No packet goes there.
pub const CLAIMED: &str = "5.5.5.5";

const RULES: &str = "flush ruleset
table inet miniupnpd {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname eth0 accept
    meta l4proto ipv6-icmp accept
    jump miniupnpd
  }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting {
    type nat hook postrouting priority 100;
    jump postrouting_miniupnpd
    meta nfproto ipv4 oifname eth1 masquerade
  }
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
";

/// It hears PCP by IPv6 whatever its configuration says.
const UPNP_ALONE: &str = "
table inet alone {
  chain input { type filter hook input priority 0; udp dport 5351 reject; }
}
";

/// What the router speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speaks {
    /// UPnP alone.
    Upnp,
    /// PCP and NAT-PMP beside it.
    All,
}

/// The router, and the host outside. Both are gone when it is dropped.
pub struct Router {
    speaks: Speaks,
    daemon: Option<Daemon>,
}

impl Router {
    /// Builds both hosts, and starts to route.
    pub fn start(speaks: Speaks) -> Self {
        for name in ["router", "outside"] {
            ip(&format!("netns add {name}"));
        }
        let bridge = Lan::Clients.bridge();
        ip(&format!("link add router-{bridge} type veth peer name eth0 netns router"));
        ip(&format!("link set router-{bridge} master {bridge} up"));
        ip_in("router", "link add eth1 type veth peer name eth0 netns outside");
        inside("router", || {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{name}"), "1").expect("the namespace is ours");
            }
        });
        for (host, link, addresses) in [
            ("router", "eth0", ["10.77.0.1/24", "fd77::1/64"]),
            ("router", "eth1", ["198.18.0.1/24", "fd78::1/64"]),
            ("outside", "eth0", ["198.18.0.2/24", "fd78::2/64"]),
        ] {
            for address in addresses {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                ip_in(host, &format!("addr add {address} dev {link}{nodad}"));
            }
            ip_in(host, "link set lo up");
            ip_in(host, &format!("link set {link} up"));
        }
        ip_in("outside", "route add default via fd78::1");
        let mut it = Self { speaks, daemon: None };
        it.forget();
        it
    }

    /// Lets a node reach the outside by it.
    pub fn serve(&self, node: &str) {
        ip_in(node, "route replace default via 10.77.0.1 dev eth0");
        ip_in(node, "route replace default via fd77::1 dev eth0");
    }

    /// Takes its power, and gives it back: it knows of no mapping any more.
    pub fn forget(&mut self) {
        self.daemon = None;
        let (natpmp, more) = match self.speaks {
            Speaks::All => ("yes", ""),
            Speaks::Upnp => ("no", UPNP_ALONE),
        };
        let rules = format!("{RULES}{more}");
        run_with(command_in("router", "nft").args(["-f", "-"]), &rules);
        let config = format!(
            "ext_ifname=eth1\next_ifname6=eth1\next_ip={CLAIMED}\nlistening_ip=eth0\nenable_upnp=yes\n\
             enable_natpmp={natpmp}\nhttp_port=5000\nsecure_mode=yes\nmin_lifetime=2\n\
             max_lifetime=86400\nnotify_interval=30\nsystem_uptime=no\n\
             uuid=6d0c9e1a-0000-4000-8000-000000000001\nupnp_table_name=miniupnpd\n\
             upnp_nat_table_name=miniupnpd\nupnp_forward_chain=miniupnpd\n\
             upnp_nat_chain=prerouting_miniupnpd\n\
             upnp_nat_postrouting_chain=postrouting_miniupnpd\n\
             allow 1-65535 10.77.0.0/24 1-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        );
        fs::write("/run/miniupnpd.conf", config).expect("/run is ours");
        let mut command = command_in("router", &program().display().to_string());
        command.args(["-d", "-f", "/run/miniupnpd.conf", "-P", "/run/miniupnpd.pid"]);
        self.daemon = Some(Daemon::start("miniupnpd", &mut command));
    }

    /// Its daemon is not there any more, and what it has mapped stays.
    pub fn vanish(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.signal(Signal::SIGKILL);
        }
        self.daemon = None;
    }

    /// What it lets in, and where to.
    pub fn rules(&self) -> String {
        run(command_in("router", "nft").args(["list", "ruleset"]))
    }

    /// Somebody outside fetches a page; the answer, or nothing.
    pub fn fetch(&self, host: &str, port: u16) -> String {
        let url = format!("http://{host}:{port}/");
        let mut command = command_in("outside", "curl");
        command.args(["--silent", "--max-time", "1", "--globoff", &url]);
        let output = command.output().expect("curl is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.daemon = None;
        for name in ["outside", "router"] {
            _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        // The far end goes with the namespace, some time later.
        let bridge = Lan::Clients.bridge();
        _ = Command::new("ip").args(["link", "del", &format!("router-{bridge}")]).status();
    }
}

/// The one that `tests/setup` unpacked, or the system's.
fn program() -> PathBuf {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/usr/sbin/miniupnpd");
    let found = [unpacked, "/usr/sbin/miniupnpd"].into_iter().map(PathBuf::from);
    found.into_iter().find(|it| it.exists()).expect("miniupnpd is missing: run tests/setup")
}
