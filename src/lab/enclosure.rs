//! Namespaces of one's own for everything, so that nothing of it is seen outside or outlives
//! the process: users where they are needed, mounts, processes and the network.

use std::fs;
use std::io::Write;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid};

/// Where the process that comes back from [`enter`] is.
#[derive(Debug)]
pub enum Side {
    /// Outside; the one inside has ended with this code.
    Outside(u8),
    /// Inside, as the first process, whose end is the end of all others.
    Inside,
}

/// The folder inside that is empty at first and goes with the rest.
pub const ROOM: &str = "/run";

/// Divides the process, which must have one thread, in two: one inside, one that waits for it
/// outside, hands signals on and leaves the terminal as it was.
pub fn enter() -> Result<Side, String> {
    separate()?;
    let terminal = tcgetattr(std::io::stdin()).ok();
    let signals = signals();
    signals.thread_block().map_err(|it| format!("blocking signals: {}", it.desc()))?;
    // SAFETY: there is one thread, so that nothing is left locked on the other side.
    match unsafe { fork() }.map_err(|it| format!("making a process: {}", it.desc()))? {
        ForkResult::Child => {
            furnish()?;
            Ok(Side::Inside)
        }
        ForkResult::Parent { child } => {
            let code = wait(child, &signals);
            if let Some(terminal) = terminal {
                _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &terminal);
            }
            Ok(Side::Outside(code))
        }
    }
}

/// The signals that end a laboratory, and the one that tells of its end; blocked on both sides.
pub fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect()
}

fn separate() -> Result<(), String> {
    let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let (user, group) = (geteuid(), getegid());
    if user.is_root() && unshare(spaces).is_ok() {
        return Ok(());
    }
    unshare(spaces | CloneFlags::CLONE_NEWUSER).map_err(refused)?;
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ];
    for (name, text) in maps {
        let path = format!("/proc/self/{name}");
        fs::write(&path, text).map_err(|it| format!("{path}: {it}"))?;
    }
    Ok(())
}

/// What a system has that forbids namespaces, the value that does, and how to allow them.
const LOCKS: [(&str, &str, &str); 3] = [
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user/max_user_namespaces", "0", "1000"),
];

fn refused(errno: Errno) -> String {
    let value = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name));
    let is = |name: &str, locked: &str| value(name).is_ok_and(|it| it.trim() == locked);
    let locks = LOCKS.iter().filter(|(name, locked, _)| is(name, locked));
    let ways = locks.map(|(name, locked, open)| {
        let name = name.replace('/', ".");
        format!("{name} is {locked} here: `sudo sysctl -w {name}={open}`")
    });
    let mut ways: Vec<_> = ways.collect();
    if ways.is_empty() {
        ways.push("in a container, one that may make namespaces (such as --privileged)".into());
    }
    format!(
        "the lab needs network namespaces of its own, and this user may make none ({}); run it \
         as root, or allow user namespaces; {}",
        errno.desc(),
        ways.join("; ")
    )
}

fn furnish() -> Result<(), String> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let (none, tmpfs) = (None::<&str>, Some("tmpfs"));
    _ = set_pdeathsig(Signal::SIGKILL);
    mount(none, "/", none, private, none)
        .and_then(|()| mount(tmpfs, ROOM, tmpfs, MsFlags::empty(), none))
        .map_err(|it| format!("mounting {ROOM}: {}", it.desc()))?;
    // Inside a container it may not be allowed, and then process ids are those outside.
    _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none);
    Ok(())
}

/// Waits for the end of the process inside, and hands on what should end it.
/// The second such signal ends it at once.
fn wait(inside: Pid, signals: &SigSet) -> u8 {
    let mut asked = false;
    loop {
        match waitpid(inside, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return code as u8,
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                // It had no time to show the cursor again.
                _ = std::io::stderr().write_all(b"\x1b[?25h\n");
                return 128 + signal as u8;
            }
            Ok(_) => {}
            Err(_) => return 1,
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => {
                _ = kill(inside, if asked { Signal::SIGKILL } else { signal });
                asked = true;
            }
        }
    }
}
