//! Facts about this host, as the kernel tells them in `/proc` and `/sys`; no judgement.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use crate::model::LinkName;

/// What this process may do to the network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// CAP_NET_ADMIN: addresses, routes, nftables.
    pub net_admin: bool,
    /// CAP_NET_RAW: packet sockets.
    pub net_raw: bool,
}

/// A process that this one may get in the way of.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Daemon {
    /// The name of its program.
    pub name: &'static str,
    /// Its process id, as seen from here.
    pub pid: u32,
    /// Whether it is in our network namespace; `None` where the kernel does not say.
    pub same_network: Option<bool>,
}

/// A program that configures links, and may take addresses off them that are not its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkManager {
    /// The running program.
    pub daemon: Daemon,
    /// How to keep it off addresses of others.
    pub hint: &'static str,
}

/// How a link answers ARP: the larger of its own setting and the one for all links, as
/// the kernel has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ArpSettings {
    /// 0: answer for all local addresses, on any link; 8: for none.
    pub arp_ignore: u8,
    /// 2: never speak of an address that is not the link's.
    pub arp_announce: u8,
}

/// The capabilities in effect.
pub fn capabilities() -> io::Result<Capabilities> {
    capabilities_in(&fs::read_to_string("/proc/self/status")?)
}

/// Other daemons with virtual IPs that can be seen from here.
pub fn other_daemons() -> Vec<Daemon> {
    running(Path::new("/proc"), VIP_DAEMONS)
}

/// Whether this process may write in a folder, or make it where it is not there yet.
pub fn may_write_in(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"));
    }
    let flags = AccessFlags::W_OK | AccessFlags::X_OK;
    faccessat(AT_FDCWD, there, flags, AtFlags::AT_EACCESS).map_err(io::Error::from)
}

/// Programs that configure links and can be seen from here.
pub fn network_managers() -> Vec<NetworkManager> {
    managers_in(Path::new("/proc"))
}

/// Whether this host can be suspended or hibernated.
pub fn can_sleep() -> bool {
    fs::read_to_string("/sys/power/state").is_ok_and(|it| !it.trim().is_empty())
}

/// How a link answers ARP.
pub fn arp_settings(link: &LinkName) -> io::Result<ArpSettings> {
    arp_settings_in(Path::new("/proc/sys/net/ipv4/conf"), link)
}

/// Memory of this process that is in RAM, in bytes.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes: u64 = field(&status, "VmRSS:")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// MetalLB's is the speaker.
const VIP_DAEMONS: &[&str] = &["edgevip", "keepalived", "kube-vip", "speaker", "ucarp", "vrrpd"];

const NETWORK_MANAGERS: &[(&str, &str)] = &[
    (
        "NetworkManager",
        "where it takes VIPs off a link, let it leave that link alone: \
         `unmanaged-devices=interface-name:LINK` under [keyfile]",
    ),
    ("dhcpcd", "`persistent` in dhcpcd.conf, or `denyinterfaces LINK`"),
    ("netifd", "it clears a link that it sets up, as in `ifup`; edgevip puts its VIPs back"),
    (
        "systemd-networkd",
        "`KeepConfiguration=yes` under [Network] of the link's .network file (v243 or newer), \
         else it takes VIPs off when it starts anew; for routes and rules \
         `ManageForeignRoutes=no` and `ManageForeignRoutingPolicyRules=no` in networkd.conf",
    ),
];

fn capabilities_in(status: &str) -> io::Result<Capabilities> {
    let bits = field(status, "CapEff:").and_then(|it| u64::from_str_radix(it, 16).ok());
    let Some(bits) = bits else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no CapEff in /proc/self/status"));
    };
    let has = |bit: u32| bits >> bit & 1 == 1;
    Ok(Capabilities { net_admin: has(CAP_NET_ADMIN), net_raw: has(CAP_NET_RAW) })
}

/// Bits of `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|it| it.strip_prefix(name)).map(str::trim)
}

fn managers_in(proc: &Path) -> Vec<NetworkManager> {
    let first = |(program, hint): &(&'static str, &'static str)| {
        // Some fork a process a link: one of each is enough.
        let daemon = running(proc, &[program]).into_iter().next()?;
        Some(NetworkManager { daemon, hint })
    };
    NETWORK_MANAGERS.iter().filter_map(first).collect()
}

fn running(proc: &Path, wanted: &[&'static str]) -> Vec<Daemon> {
    let ours = namespace(&proc.join("self"));
    let daemon = |pid: u32| {
        let folder = proc.join(pid.to_string());
        let program = program(&folder)?;
        let name = wanted.iter().find(|it| **it == program)?;
        let same_network = ours.as_ref().zip(namespace(&folder)).map(|(a, b)| *a == b);
        Some(Daemon { name, pid, same_network })
    };
    let mut all: Vec<_> = fs::read_dir(proc)
        .into_iter()
        .flatten()
        .filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok())
        .filter(|it| *it != std::process::id())
        .filter_map(daemon)
        .collect();
    all.sort();
    all
}

/// The program a process runs: its first argument, as the kernel's own name of a process
/// ends after 15 bytes.
fn program(folder: &Path) -> Option<String> {
    let line = fs::read(folder.join("cmdline")).ok()?;
    let first = line.split(|it| *it == 0).next()?;
    // Some write a sentence there: `keepalived: vrrp child`.
    let path = str::from_utf8(first).ok()?.split([' ', ':']).next()?;
    let name = path.rsplit('/').next().filter(|it| !it.is_empty());
    name.map(str::to_owned)
        .or_else(|| fs::read_to_string(folder.join("comm")).ok().map(|it| it.trim().to_owned()))
}

fn namespace(folder: &Path) -> Option<PathBuf> {
    fs::read_link(folder.join("ns/net")).ok()
}

fn arp_settings_in(conf: &Path, link: &LinkName) -> io::Result<ArpSettings> {
    let read = |link: &str, name| -> io::Result<u8> {
        let path = conf.join(link).join(name);
        let text = fs::read_to_string(&path)
            .map_err(|it| io::Error::new(it.kind(), format!("{}: {it}", path.display())))?;
        text.trim().parse().map_err(io::Error::other)
    };
    let larger = |name| Ok::<_, io::Error>(read("all", name)?.max(read(&link.0, name)?));
    Ok(ArpSettings { arp_ignore: larger("arp_ignore")?, arp_announce: larger("arp_announce")? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::io::clock;

    #[test]
    fn capabilities_are_two_bits_of_many() {
        let table = [
            ("0000000000000000", false, false),
            ("000001ffffffffff", true, true),
            ("0000000000001000", true, false),
            ("0000000000002000", false, true),
        ];
        for (bits, net_admin, net_raw) in table {
            let status = format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{bits}\n");
            let expected = Capabilities { net_admin, net_raw };
            assert_eq!(capabilities_in(&status).unwrap(), expected, "{bits}");
        }
        assert!(capabilities_in("Name:\tx\n").is_err());
        capabilities().unwrap();
    }

    #[test]
    fn daemons_are_found_by_their_program() {
        let proc = scratch("proc");
        symlink("/nowhere/net:[1]", made(&proc, "self/ns").join("net")).unwrap();
        let table: &[(u32, &[u8], &str)] = &[
            (100, b"/usr/sbin/keepalived\0-n\0", "net:[1]"),
            (101, b"keepalived: vrrp child", "net:[2]"),
            (102, b"/kube-vip\0manager\0", ""),
            (103, b"vim\0keepalived\0", "net:[1]"),
            (104, b"", "net:[1]"),
            (105, b"/usr/lib/systemd/systemd-networkd\0", "net:[1]"),
            (106, b"dhcpcd: [manager] [ip4]", "net:[1]"),
            (107, b"dhcpcd: [BPF ARP] eth0", "net:[1]"),
            (108, b"\xff\xfe\0", "net:[1]"),
        ];
        for (pid, line, net) in table {
            let folder = made(&proc, &pid.to_string());
            fs::write(folder.join("cmdline"), line).unwrap();
            if !net.is_empty() {
                symlink(format!("/nowhere/{net}"), made(&folder, "ns").join("net")).unwrap();
            }
        }
        let daemon = |name, pid, same_network| Daemon { name, pid, same_network };
        let expected = [
            daemon("keepalived", 100, Some(true)),
            daemon("keepalived", 101, Some(false)),
            daemon("kube-vip", 102, None),
        ];
        assert_eq!(running(&proc, VIP_DAEMONS), expected);
        let managers = managers_in(&proc);
        let names: Vec<_> = managers.iter().map(|it| (it.daemon.name, it.daemon.pid)).collect();
        assert_eq!(names, [("dhcpcd", 106), ("systemd-networkd", 105)]);
        assert!(managers[1].hint.contains("KeepConfiguration=yes"));
        fs::remove_dir_all(proc).unwrap();
    }

    #[test]
    fn a_running_daemon_is_seen_and_this_process_is_not() {
        let folder = scratch("real");
        let program = folder.join("ucarp");
        symlink("/bin/sleep", &program).unwrap();
        let mut child = Command::new(&program).arg("60").stdout(Stdio::null()).spawn().unwrap();
        let expected = Daemon { name: "ucarp", pid: child.id(), same_network: Some(true) };
        let give_up_at = clock::now() + Duration::from_secs(30);
        let mut found = Vec::new();
        // A new process shows its arguments a little after it began to run.
        while !found.contains(&expected) && clock::now() < give_up_at {
            found = other_daemons();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&expected), "{found:?}");
        assert!(found.iter().all(|it| it.pid != std::process::id()), "{found:?}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn arp_settings_are_the_larger_of_link_and_all() {
        let conf = scratch("conf");
        for (link, ignore, announce) in [("all", "1\n", "0\n"), ("eth0.10", "0\n", "2\n")] {
            let folder = made(&conf, link);
            fs::write(folder.join("arp_ignore"), ignore).unwrap();
            fs::write(folder.join("arp_announce"), announce).unwrap();
        }
        let found = arp_settings_in(&conf, &LinkName("eth0.10".into())).unwrap();
        assert_eq!(found, ArpSettings { arp_ignore: 1, arp_announce: 2 });
        let error = arp_settings_in(&conf, &LinkName("eth9".into())).unwrap_err();
        assert!(error.to_string().contains("eth9"), "{error}");
        arp_settings(&LinkName("lo".into())).unwrap();
        fs::remove_dir_all(conf).unwrap();
    }

    #[test]
    fn a_folder_is_writable_or_can_be_made() {
        let folder = scratch("writable");
        may_write_in(&folder).unwrap();
        may_write_in(&folder.join("new/deeper")).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        assert!(may_write_in(&folder.join("file/below")).is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn resident_memory_is_some_megabytes() {
        let bytes = resident_bytes().unwrap();
        assert!((100_000..10_000_000_000).contains(&bytes), "{bytes}");
    }

    fn made(parent: &Path, name: &str) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("edgevip-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        made(&path, "")
    }
}
