//! Hosts, two LANs between them, and the knives to cut them.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// A host of the laboratory: a network namespace of the same name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Host {
    /// Its name.
    pub name: &'static str,
    /// The last part of its addresses.
    pub number: u8,
    /// Whether it has a second link, to the API server.
    pub managed: bool,
}

/// Every host. The nodes come first.
pub const HOSTS: [Host; 9] = [
    Host { name: "n1", number: 11, managed: true },
    Host { name: "n2", number: 12, managed: true },
    Host { name: "n3", number: 13, managed: true },
    Host { name: "n4", number: 14, managed: true },
    Host { name: "n5", number: 15, managed: true },
    Host { name: "api", number: 2, managed: true },
    Host { name: "client", number: 100, managed: false },
    Host { name: "watch", number: 101, managed: false },
    Host { name: "stranger", number: 66, managed: false },
];

/// The hosts that run edgevip.
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// With those that run it where three are too few.
pub const ALL_NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

/// The LAN of VIPs and clients, or the one of the API server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lan {
    /// Carries VIPs and clients.
    Clients,
    /// Carries the API.
    Management,
}

impl Lan {
    /// The bridge that stands for it.
    pub fn bridge(self) -> &'static str {
        match self {
            Self::Clients => "lan",
            Self::Management => "mgmt",
        }
    }
}

/// Builds the bridges and the hosts.
pub fn build() {
    fs::create_dir_all("/run/netns").expect("/run is ours");
    let bridge = "type bridge forward_delay 0 stp_state 0 mcast_snooping 0";
    ip_batch(&[
        "link set lo up".into(),
        format!("link add lan {bridge}"),
        format!("link add mgmt {bridge}"),
        "link set lan up".into(),
        "link set mgmt up".into(),
        "addr add 10.78.0.1/24 dev mgmt".into(),
    ]);
    for host in HOSTS {
        ip(&format!("netns add {}", host.name));
        plug(host, Lan::Clients);
        if host.managed {
            plug(host, Lan::Management);
        }
    }
}

/// Gives a host its link to a LAN, with its usual addresses.
pub fn plug(host: Host, lan: Lan) {
    let Host { name, number, .. } = host;
    let (bridge, link) = (lan.bridge(), link_of(lan));
    let mac = mac(number, lan);
    ip_batch(&[
        format!("link add {name}-{bridge} type veth peer name {link} address {mac} netns {name}"),
        format!("link set {name}-{bridge} master {bridge} up"),
    ]);
    inside(name, || {
        for conf in ["all", link] {
            sysctl(&format!("net/ipv6/conf/{conf}/accept_dad"), "0");
        }
    });
    let addresses = match lan {
        Lan::Clients => vec![format!("10.77.0.{number}/24"), format!("fd77::{number}/64 nodad")],
        Lan::Management => vec![format!("10.78.0.{number}/24")],
    };
    let add = addresses.iter().map(|it| format!("addr add {it} dev {link}"));
    let up = ["link set lo up".to_string(), format!("link set {link} up")];
    for line in add.chain(up) {
        ip_in(name, &line);
    }
}

/// The host of that name.
pub fn host(name: &str) -> Host {
    *HOSTS.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no host {name}"))
}

/// The host with that hardware address on the LAN of clients.
pub fn host_of(mac: [u8; 6]) -> Option<&'static str> {
    let [2, 0, 0, 0x77, 0, number] = mac else { return None };
    HOSTS.iter().find(|it| it.number == number).map(|it| it.name)
}

/// A host's hardware address.
pub fn mac(number: u8, lan: Lan) -> String {
    let lan = match lan {
        Lan::Clients => 77,
        Lan::Management => 78,
    };
    format!("02:00:00:{lan}:00:{number:02x}")
}

/// Takes the far end of a host's cable out of the bridge: the host still has a carrier.
pub fn cut(host: &str, lan: Lan) {
    ip(&format!("link set {host}-{} nomaster", lan.bridge()));
}

/// Undoes [`cut`] and [`unplug`].
pub fn mend(host: &str, lan: Lan) {
    let bridge = lan.bridge();
    ip(&format!("link set {host}-{bridge} master {bridge} up"));
}

/// Takes the carrier from a host's link.
pub fn unplug(host: &str, lan: Lan) {
    ip(&format!("link set {host}-{} down", lan.bridge()));
}

/// Takes a host's link away, if it is there.
pub fn unplug_for_good(host: &str, lan: Lan) {
    let port = format!("{host}-{}", lan.bridge());
    if ip("-o link show").contains(&format!("{port}@")) {
        ip(&format!("link del {port}"));
    }
}

/// The name that a host gives its link.
pub fn link_of(lan: Lan) -> &'static str {
    match lan {
        Lan::Clients => "eth0",
        Lan::Management => "eth1",
    }
}

/// Runs `ip` with these words.
pub fn ip(words: &str) -> String {
    run(Command::new("ip").args(words.split_whitespace()))
}

/// Runs `ip` with these words in a host.
pub fn ip_in(host: &str, words: &str) -> String {
    ip(&format!("-n {host} {words}"))
}

/// A command that runs in a host, with its view of `/sys`.
pub fn command_in(host: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host, program]);
    command
}

/// Whether a host's kernel has the address.
pub fn has_address(host: &str, address: &str) -> bool {
    ip_in(host, "-o addr show").split_whitespace().any(|it| it.split('/').next() == Some(address))
}

/// Runs to the end; says what went wrong, if it does.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {text} {wrong}", output.status);
    text
}

/// As [`run`], with something to read.
pub fn run_with(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
    let stdin = child.stdin.take().expect("piped");
    thread::scope(|scope| {
        // A child that ends early closes the pipe; its status tells why.
        scope.spawn(move || _ = { stdin }.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("it is our child");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {} {text} {wrong}", output.status);
        text
    })
}

/// Does something on a thread that lives in a host.
pub fn inside<T: Send>(host: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            join(host);
            work()
        });
        thread.join().unwrap_or_else(|fault| std::panic::resume_unwind(fault))
    })
}

/// Moves the calling thread into a host.
pub fn join(host: &str) {
    let namespace = File::open(format!("/run/netns/{host}")).expect("the host was built");
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace is ours");
}

fn ip_batch(lines: &[String]) {
    run_with(Command::new("ip").args(["-batch", "-"]), &lines.join("\n"));
}

fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/{name}"), value).unwrap_or_else(|fault| panic!("{name}: {fault}"));
}
