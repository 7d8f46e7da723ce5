//! A small LAN of network namespaces: this process is a node with `eth0`, at the other end
//! of the cable is a client. Each story has its own, which ends with its process.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, fs, process, thread};

use edgevip::io::clock;
use edgevip::model::Mac;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

const INSIDE: &str = "EDGEVIP_STORY";

/// Runs the test in a process and network namespace of its own.
pub fn alone(test: &str, story: fn(&Lab)) {
    if env::var_os(INSIDE).is_some() {
        return story(&Lab::new());
    }
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let maps = [
        (c"/proc/self/setgroups", "deny".to_owned()),
        (c"/proc/self/uid_map", format!("0 {user} 1")),
        (c"/proc/self/gid_map", format!("0 {group} 1")),
    ];
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if user.is_root() {
                return Ok(unshare(CloneFlags::CLONE_NEWNET)?);
            }
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
            maps.iter().try_for_each(|(path, text)| write(path, text))
        });
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&stdout);
    print!("{stdout}");
    let ran = status.success() && stdout.contains("1 passed");
    assert!(ran, "{status}\n{}", String::from_utf8_lossy(&stderr));
}

fn write(path: &CStr, text: &str) -> io::Result<()> {
    let flags = nix::fcntl::OFlag::O_WRONLY;
    let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())?;
    Ok(nix::unistd::write(fd, text.as_bytes()).map(drop)?)
}

/// The node, here, and the client.
pub struct Lab {
    pub client: Host,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { client: Host::new() };
        ip(&format!("link add eth0 type veth peer name c0 netns {}", lab.client.path()));
        // Nobody waits for duplicate address detection here but those who test it.
        fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0").unwrap();
        lab.client.inside(|| fs::write("/proc/sys/net/ipv6/conf/c0/accept_dad", "0").unwrap());
        ip("link set lo up");
        ip("link set eth0 up");
        ip("addr add 10.0.0.1/24 dev eth0");
        ip("addr add fd00::1/64 dev eth0 nodad");
        lab.client.ip("link set c0 up");
        lab.client.ip("addr add 10.0.0.9/24 dev c0");
        lab.client.ip("addr add fd00::9/64 dev c0 nodad");
        eventually("a carrier", || link("eth0")["operstate"] == "UP");
        lab
    }
}

/// A network namespace.
pub struct Host {
    namespace: OwnedFd,
}

impl Host {
    fn new() -> Self {
        let namespace = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            fs::File::open("/proc/thread-self/ns/net").unwrap().into()
        });
        Self { namespace: namespace.join().unwrap() }
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.namespace.as_raw_fd())
    }

    /// Does something there.
    pub fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
                what()
            });
            there.join().unwrap()
        })
    }

    pub fn ip(&self, arguments: &str) -> String {
        self.inside(|| ip(arguments))
    }

    /// Whether a command succeeds there.
    pub fn can(&self, command: &str) -> bool {
        self.inside(|| {
            let words: Vec<&str> = command.split_whitespace().collect();
            Command::new(words[0]).args(&words[1..]).output().unwrap().status.success()
        })
    }

    /// The MAC that answers a question for the address, or nobody.
    pub fn asks(&self, address: &str) -> Option<Mac> {
        self.inside(|| match address.parse().unwrap() {
            IpAddr::V4(ip) => ask_arp(ip),
            IpAddr::V6(ip) => ask_nd(ip),
        })
    }

    /// Sends a frame from there.
    pub fn sends(&self, frame: &[u8]) {
        self.inside(|| Wire::open("c0").send(frame));
    }

    /// Starts to record what comes in there.
    pub fn hears(&self) -> Wire {
        self.inside(|| Wire::open("c0"))
    }
}

/// How long silence has to last to count as silence.
const SILENCE: Duration = Duration::from_millis(200);

fn ask_arp(ip: Ipv4Addr) -> Option<Mac> {
    let wire = Wire::open("c0");
    let own = mac("c0");
    wire.send(&arp(1, own, Ipv4Addr::new(10, 0, 0, 9), Mac([0; 6]), ip));
    wire.find(SILENCE, |it| {
        let is_answer = it.get(12..14) == Some(&[8, 6]) && it.get(21) == Some(&2);
        (is_answer && it.get(28..32) == Some(&ip.octets())).then(|| mac_at(it, 22))
    })
}

/// An ARP frame to everybody.
pub fn arp(
    operation: u8,
    from: Mac,
    sender: Ipv4Addr,
    target_mac: Mac,
    target: Ipv4Addr,
) -> Vec<u8> {
    let mut it = vec![0xff; 6];
    it.extend(from.0);
    it.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    it.extend(from.0);
    it.extend(sender.octets());
    it.extend(target_mac.0);
    it.extend(target.octets());
    it.resize(60, 0);
    it
}

fn ask_nd(ip: Ipv6Addr) -> Option<Mac> {
    let wire = Wire::open("c0");
    let own = mac("c0");
    let mut body = ip.octets().to_vec();
    body.extend([1, 1]);
    body.extend(own.0);
    wire.send(&nd(135, own, "fd00::9".parse().unwrap(), solicited(ip), 0, &body));
    wire.find(SILENCE, |it| {
        let is_answer = it.get(12..14) == Some(&[0x86, 0xdd]) && it.get(54) == Some(&136);
        (is_answer && it.get(62..78) == Some(&ip.octets())).then(|| mac_at(it, 80))
    })
}

fn solicited(ip: Ipv6Addr) -> Ipv6Addr {
    let mut it = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    it[13..].copy_from_slice(&ip.octets()[13..]);
    it.into()
}

/// A neighbour discovery frame to a multicast address.
pub fn nd(
    kind: u8,
    from: Mac,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    flags: u8,
    body: &[u8],
) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    icmp.extend(body);
    let length = icmp.len() as u8;
    let mut summed = [source.octets(), destination.octets()].concat();
    summed.extend([0, 0, 0, length, 0, 0, 0, 58]);
    summed.extend(&icmp);
    let mut sum: u32 = summed.chunks(2).map(|it| u32::from(it[0]) << 8 | u32::from(it[1])).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    icmp[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut it = vec![0x33, 0x33];
    it.extend(&destination.octets()[12..]);
    it.extend(from.0);
    it.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 58, 255]);
    it.extend(source.octets());
    it.extend(destination.octets());
    it.extend(icmp);
    it
}

fn mac_at(bytes: &[u8], at: usize) -> Mac {
    Mac(bytes[at..at + 6].try_into().unwrap())
}

/// A packet socket on a link.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn open(link: &str) -> Self {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: `at` is what a packet socket takes, and a fresh descriptor is ours.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all.into());
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            let mut at: libc::sockaddr_ll = std::mem::zeroed();
            at.sll_family = libc::AF_PACKET as u16;
            at.sll_protocol = all;
            at.sll_ifindex = nix::net::if_::if_nametoindex(link).unwrap() as i32;
            let bound = libc::bind(fd, (&raw const at).cast(), size_of_val(&at) as u32);
            assert_eq!(bound, 0, "{}", io::Error::last_os_error());
            Self(OwnedFd::from_raw_fd(fd))
        }
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.0, frame).unwrap(), frame.len());
    }

    /// The first frame within that time that something is made of.
    pub fn find<T>(&self, within: Duration, what: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let until = clock::now() + within;
        let mut bytes = [0; 2_048];
        loop {
            let left = until.saturating_since(clock::now()).as_millis() as u16;
            if left == 0 {
                return None;
            }
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(left)).unwrap() == 0 {
                return None;
            }
            let length = nix::unistd::read(&self.0, &mut bytes).unwrap();
            if let Some(it) = what(&bytes[..length]) {
                return Some(it);
            }
        }
    }
}

/// Runs `ip`, which must succeed.
pub fn ip(arguments: &str) -> String {
    run(&format!("ip {arguments}"))
}

/// Runs a command, which must succeed.
pub fn run(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let it = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(it.status.success(), "{command}: {}", String::from_utf8_lossy(&it.stderr));
    String::from_utf8(it.stdout).unwrap()
}

/// A link as `ip` sees it.
pub fn link(name: &str) -> Value {
    json(&format!("ip -j link show dev {name}"))
}

/// The address as `ip` sees it, if it is there.
pub fn address(link: &str, ip: &str) -> Option<Value> {
    let all = json(&format!("ip -j -d addr show dev {link}"));
    all["addr_info"].as_array().unwrap().iter().find(|it| it["local"] == ip).cloned()
}

/// What a command prints, if it is JSON of one object in a list.
pub fn json(command: &str) -> Value {
    let text = run(command);
    serde_json::from_str::<Value>(&text).unwrap()[0].take()
}

/// The MAC of a link of this namespace.
pub fn mac(link: &str) -> Mac {
    let text = self::link(link)["address"].as_str().unwrap().to_owned();
    let bytes: Vec<u8> = text.split(':').map(|it| u8::from_str_radix(it, 16).unwrap()).collect();
    Mac(bytes.try_into().unwrap())
}

/// Waits, with a bound, for what nothing notifies about.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = clock::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(clock::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
