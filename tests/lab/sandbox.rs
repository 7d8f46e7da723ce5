//! Private namespaces for the whole laboratory, so that nothing of it outlives the process.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, geteuid};

const STAGE: &str = "EDGEVIP_LAB_STAGE";
const ROOT: &str = "-nmpf";
const ROOTLESS: &str = "-Urnmpf";

/// Runs the program again inside namespaces of its own, and comes back only there.
pub fn enter() {
    match env::var(STAGE).as_deref() {
        Err(_) => unshare(),
        Ok("first") => first_process(),
        Ok(_) => furnish(),
    }
}

fn unshare() {
    let candidates: &[&str] = if geteuid().is_root() { &[ROOT, ROOTLESS] } else { &[ROOTLESS] };
    let Some(flags) = candidates.iter().find(|it| works(it)) else {
        panic!(
            "no private namespaces: `unshare {ROOTLESS} true` fails; see kernel.unprivileged_userns_clone"
        );
    };
    let fault =
        command(flags).arg(program()).args(env::args_os().skip(1)).env(STAGE, "first").exec();
    panic!("unshare: {fault}");
}

fn works(flags: &str) -> bool {
    command(flags).arg("true").status().is_ok_and(|it| it.success())
}

fn command(flags: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args([flags, "--kill-child", "--mount-proc"]);
    unshare
}

fn program() -> std::path::PathBuf {
    env::current_exe().expect("/proc is mounted")
}

/// The first process of a process namespace inherits its orphans; when it ends, all end.
fn first_process() {
    let runner = Command::new(program()).args(env::args_os().skip(1)).env(STAGE, "runner").spawn();
    let runner = Pid::from_raw(runner.expect("the program that runs can be run").id() as i32);
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == runner => exit(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == runner => exit(128 + signal as i32),
            Ok(_) => {}
            Err(fault) => panic!("wait: {fault}"),
        }
    }
}

fn furnish() {
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("a tmpfs can be mounted in a mount namespace of one's own");
}
