//! Real DHCP servers on the LAN of clients.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

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
    start_dnsmasq(name, &[&format!("10.77.0.{first},10.77.0.{last},255.255.255.0,120")])
}

/// The same for these last parts of fd77::/64.
pub fn dnsmasq6(name: &str, first: &str, last: &str) -> Server {
    start_dnsmasq(name, &[&format!("fd77::{first},fd77::{last},64,120")])
}

/// Both: 10.77.0.20 and on, fd77::2:20 and on.
pub fn dnsmasq_dual(name: &str) -> Server {
    let ranges = ["10.77.0.20,10.77.0.29,255.255.255.0,120", "fd77::2:20,fd77::2:29,64,120"];
    start_dnsmasq(name, &ranges)
}

fn start_dnsmasq(name: &str, ranges: &[&str]) -> Server {
    let leases = PathBuf::from(format!("/run/{name}.leases"));
    let mut command = command_in(ON, "dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
    command.args(["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping"]);
    command.args(["--log-dhcp", "--log-facility=-", "--pid-file"]);
    command.arg(format!("--dhcp-leasefile={}", leases.display()));
    command.args(ranges.iter().map(|it| format!("--dhcp-range={it}")));
    let server = Server { daemon: Daemon::start(name, &mut command), leases };
    let ready = || server.said("IP range") == ranges.len();
    assert!(wait_for(Duration::from_secs(10), ready), "{}", server.log());
    server
}

/// ISC dhcpd, which leases for a few seconds.
pub fn dhcpd(name: &str, first: u8, last: u8, seconds: u32) -> Server {
    let text = format!(
        "authoritative; ping-check false; ddns-update-style none;
         default-lease-time {seconds}; min-lease-time {seconds}; max-lease-time {seconds};
         subnet 10.77.0.0 netmask 255.255.255.0 {{ range 10.77.0.{first} 10.77.0.{last}; }}\n"
    );
    start_dhcpd(name, "-4", &text)
}

/// The same for fd77::2:20 and on.
pub fn dhcpd6(name: &str, seconds: u32) -> Server {
    let (t1, t2) = (seconds / 3, seconds * 2 / 3);
    let text = format!(
        "authoritative; server-duid LL; ddns-update-style none; default-lease-time {seconds};
         preferred-lifetime {seconds}; option dhcp-renewal-time {t1};
         option dhcp-rebinding-time {t2};
         subnet6 fd77::/64 {{ range6 fd77::2:20 fd77::2:29; }}\n"
    );
    start_dhcpd(name, "-6", &text)
}

fn start_dhcpd(name: &str, family: &str, text: &str) -> Server {
    let leases = PathBuf::from(format!("/run/{name}.leases"));
    if !leases.exists() {
        fs::write(&leases, "").expect("/run is ours");
    }
    let config = format!("/run/{name}.conf");
    fs::write(&config, text).expect("/run is ours");
    let mut command = command_in(ON, "dhcpd");
    command.args([family, "-f", "-d", "--no-pid", "-cf", &config, "-lf"]).arg(&leases).arg("eth0");
    let server = Server { daemon: Daemon::start(name, &mut command), leases };
    let ready = || server.log().matches("Server starting service").count() > 0;
    assert!(wait_for(Duration::from_secs(10), ready), "{}", server.log());
    server
}

/// Kea, which leases for a few seconds.
pub fn kea(name: &str, first: u8, last: u8, seconds: u32) -> Server {
    let interfaces = json!({ "interfaces": ["eth0"], "dhcp-socket-type": "raw" });
    let subnet = json!({
        "id": 1,
        "subnet": "10.77.0.0/24",
        "pools": [{ "pool": format!("10.77.0.{first}-10.77.0.{last}") }],
    });
    start_kea(name, '4', (interfaces, subnet), seconds)
}

/// The same for these last parts of fd77::/64.
pub fn kea6(name: &str, (first, last): (&str, &str), seconds: u32) -> Server {
    let interfaces = json!({ "interfaces": ["eth0"] });
    let subnet = json!({
        "id": 1,
        "subnet": "fd77::/64",
        "interface": "eth0",
        "pools": [{ "pool": format!("fd77::{first}-fd77::{last}") }],
    });
    start_kea(name, '6', (interfaces, subnet), seconds)
}

fn start_kea(
    name: &str,
    family: char,
    (interfaces, subnet): (Value, Value),
    seconds: u32,
) -> Server {
    let config = format!("/run/{name}.json");
    let leases = PathBuf::from(format!("/run/{name}.csv"));
    let mut text = json!({
        "interfaces-config": interfaces,
        "lease-database": { "type": "memfile", "persist": true, "name": leases },
        "valid-lifetime": seconds,
        "renew-timer": seconds / 3,
        "rebind-timer": seconds * 2 / 3,
        "loggers": [{
            "name": format!("kea-dhcp{family}"),
            "output_options": [{ "output": "stdout", "flush": true }],
            "severity": "DEBUG",
            "debuglevel": 50,
        }],
    });
    text[format!("subnet{family}")] = json!([subnet]);
    if family == '6' {
        text["preferred-lifetime"] = seconds.into();
        text["server-id"] = json!({ "type": "LL", "persist": false });
    }
    let key = format!("Dhcp{family}");
    fs::write(&config, json!({ key: text }).to_string()).expect("/run is ours");
    for folder in ["/run/kea", "/run/lock/kea"] {
        fs::create_dir_all(folder).expect("/run is ours");
    }
    let mut command = command_in(ON, &format!("kea-dhcp{family}"));
    command.args(["-c", &config]);
    command.env("KEA_PIDFILE_DIR", "/run/kea").env("KEA_LOCKFILE_DIR", "/run/lock/kea");
    let server = Server { daemon: Daemon::start(name, &mut command), leases };
    let ready = || server.log().contains(&format!("DHCP{family}_STARTED"));
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

    /// How many addresses of fd77::/64 dnsmasq keeps.
    pub fn leased6(&self) -> usize {
        self.leases().lines().filter(|it| it.contains(" fd77::")).count()
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
