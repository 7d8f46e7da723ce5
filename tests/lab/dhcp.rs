//! Real DHCP servers on the LAN of clients.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::daemon::{Daemon, log_of};
use super::net::{command_in, host};
use super::wait_for;

/// A DHCP server, and where it keeps its leases.
pub struct Server {
    daemon: Daemon,
    leases: PathBuf,
}

/// The host that it runs on.
pub const ON: &str = "stranger";

/// dnsmasq, which leases these last parts of 10.77.0.0/24 for two minutes, the least it can.
pub fn dnsmasq(name: &str, first: u8, last: u8) -> Server {
    let leases = PathBuf::from(format!("/run/{name}.leases"));
    let mut command = command_in(ON, "dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
    command.args(["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping"]);
    command.args(["--log-dhcp", "--log-facility=-", "--pid-file"]);
    command.arg(format!("--dhcp-leasefile={}", leases.display()));
    command.arg(format!("--dhcp-range=10.77.0.{first},10.77.0.{last},255.255.255.0,120"));
    let server = Server { daemon: Daemon::start(name, &mut command), leases };
    assert!(
        wait_for(Duration::from_secs(10), || server.log().contains("DHCP, IP range")),
        "{}",
        server.log()
    );
    server
}

/// ISC dhcpd, which leases for a few seconds.
pub fn dhcpd(name: &str, first: u8, last: u8, seconds: u32) -> Server {
    let leases = PathBuf::from(format!("/run/{name}.leases"));
    if !leases.exists() {
        fs::write(&leases, "").expect("/run is ours");
    }
    let config = format!("/run/{name}.conf");
    let text = format!(
        "authoritative; ping-check false; ddns-update-style none;
         default-lease-time {seconds}; min-lease-time {seconds}; max-lease-time {seconds};
         subnet 10.77.0.0 netmask 255.255.255.0 {{ range 10.77.0.{first} 10.77.0.{last}; }}\n"
    );
    fs::write(&config, text).expect("/run is ours");
    let mut command = command_in(ON, "dhcpd");
    command.args(["-4", "-f", "-d", "--no-pid", "-cf", &config, "-lf"]).arg(&leases).arg("eth0");
    let server = Server { daemon: Daemon::start(name, &mut command), leases };
    let ready = || server.log().matches("Server starting service").count() > 0;
    assert!(wait_for(Duration::from_secs(10), ready), "{}", server.log());
    server
}

/// Kea, which leases for a few seconds.
pub fn kea(name: &str, first: u8, last: u8, seconds: u32) -> Server {
    let config = format!("/run/{name}.json");
    let leases = PathBuf::from(format!("/run/{name}.csv"));
    let text = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": ["eth0"], "dhcp-socket-type": "raw" },
        "lease-database": { "type": "memfile", "persist": true, "name": leases },
        "valid-lifetime": seconds,
        "renew-timer": seconds / 3,
        "rebind-timer": seconds * 2 / 3,
        "subnet4": [{
            "id": 1,
            "subnet": "10.77.0.0/24",
            "pools": [{ "pool": format!("10.77.0.{first}-10.77.0.{last}") }],
        }],
        "loggers": [{
            "name": "kea-dhcp4",
            "output_options": [{ "output": "stdout", "flush": true }],
            "severity": "DEBUG",
            "debuglevel": 50,
        }],
    } });
    fs::write(&config, text.to_string()).expect("/run is ours");
    for folder in ["/run/kea", "/run/lock/kea"] {
        fs::create_dir_all(folder).expect("/run is ours");
    }
    let mut command = command_in(ON, "kea-dhcp4");
    command.args(["-c", &config]);
    command.env("KEA_PIDFILE_DIR", "/run/kea").env("KEA_LOCKFILE_DIR", "/run/lock/kea");
    let server = Server { daemon: Daemon::start(name, &mut command), leases };
    let ready = || server.log().contains("DHCP4_STARTED");
    assert!(wait_for(Duration::from_secs(20), ready), "{}", server.log());
    server
}

impl Server {
    /// What it has said.
    pub fn log(&self) -> String {
        log_of(&self.daemon.name)
    }

    /// How often it has said that.
    pub fn said(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// What it keeps.
    pub fn leases(&self) -> String {
        fs::read_to_string(&self.leases).unwrap_or_default()
    }

    /// Ends it, and has it forget.
    pub fn forget(self) {
        let leases = self.leases.clone();
        drop(self);
        _ = fs::remove_file(leases);
    }

    /// Its own address.
    pub fn address() -> String {
        format!("10.77.0.{}", host(ON).number)
    }
}
