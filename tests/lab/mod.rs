//! A laboratory for VIPs: hosts as network namespaces, a real Kubernetes API server, the
//! daemons under test, and witnesses that know nothing of them.
//!
//! ```text
//!    client   watch   stranger      n1  n2  n3     api       lan  10.77.0.0/24  fd77::/64
//!    ───┴───────┴────────┴──────────┴┬──┴┬──┴┬──────┴┬──
//!                                   ─┴───┴───┴───────┴──     mgmt 10.78.0.0/24
//! ```
//!
//! Two more nodes, n4 and n5, stand by. The API server starts when it is needed first.
//!
//! Everything lives in namespaces of its own and ends with the process, however that ends.

pub mod api;
pub mod cluster;
pub mod daemon;
pub mod daemons;
pub mod dhcp;
pub mod gap;
pub mod keepalived;
pub mod liar;
pub mod net;
pub mod quorum;
pub mod relay;
pub mod sandbox;
pub mod supervisor;
pub mod watch;

use std::cell::{Cell, LazyCell};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use edgevip::io::clock;
#[allow(unused_imports, reason = "each includer uses its own part")]
pub use edgevip::lab::{packet, socket};

use api::Api;
use net::{ALL_NODES, Lan, host};

/// The hosts, and the API server that they share.
pub struct Lab {
    /// The API server. It starts when it is needed first.
    pub api: LazyCell<Api>,
    /// The program under test.
    pub program: PathBuf,
    used: Cell<u8>,
}

impl Lab {
    /// Builds everything. Only the first use in a process may call this, before any thread.
    pub fn start(program: PathBuf) -> Self {
        net::build();
        fs::create_dir_all("/run/log").expect("/run is ours");
        Self { api: LazyCell::new(Api::start), program, used: Cell::new(0) }
    }

    /// A VIP of each family that this run has not used lately.
    pub fn fresh_vips(&self) -> (IpAddr, IpAddr) {
        let number = self.used.get();
        self.used.set((number + 1) % 54);
        let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, u16::from(number));
        (Ipv4Addr::new(10, 77, 0, 200 + number).into(), v6.into())
    }

    /// Makes every host as it was in the beginning. No daemon may be running.
    pub fn restore(&self) {
        if api::runs() {
            self.api.resume();
            self.api.grant();
        }
        fs::remove_dir_all("/run/log").expect("/run is ours");
        fs::create_dir_all("/run/log").expect("/run is ours");
        for node in ALL_NODES {
            net::mend(node, Lan::Management);
        }
        for name in ALL_NODES.into_iter().chain(["stranger"]) {
            net::unplug_for_good(name, Lan::Clients);
            net::run(net::command_in(name, "nft").args(["flush", "ruleset"]));
            net::plug(host(name), Lan::Clients);
        }
        net::ip_in("client", "neigh flush all");
    }
}

/// Looks again and again until it is so, or the time is over.
pub fn wait_for(within: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = clock::now() + within;
    while !so() {
        if clock::now() > end {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    true
}

/// The command sees nothing of this process's environment but where programs are.
pub fn with_path(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default())
}

/// The end of every process's log.
pub fn logs() -> String {
    let logs = fs::read_dir("/run/log").into_iter().flatten().flatten();
    let mut paths: Vec<_> = logs.map(|it| it.path()).collect();
    paths.sort();
    let tails = paths.iter().map(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(60)..];
        format!("--- {}\n{}\n", path.display(), tail.join("\n"))
    });
    tails.collect()
}

/// Milliseconds, for people.
pub fn millis(it: Duration) -> u128 {
    (it.as_micros() + 500) / 1_000
}

/// The program under test: `EDGEVIP_BIN`, or the one cargo built.
pub fn program(built: &str) -> PathBuf {
    let path = std::env::var_os("EDGEVIP_BIN").map_or_else(|| built.into(), PathBuf::from);
    fs::canonicalize(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// Fails with the words for it if the machine lacks a tool that everything here needs.
pub fn require(tools: &[&str]) {
    for tool in tools {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        let found = found.is_ok_and(|it| it.status.success());
        assert!(found, "{tool} is missing; on Debian: apt-get install iproute2 nftables openssl");
    }
}
