//! A process on a host, with its log.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait_for;

/// A running process; killed when dropped.
pub struct Daemon {
    /// Its name, which is also its log's.
    pub name: String,
    child: Child,
}

impl Daemon {
    /// Starts the command.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let log = log_path(name);
        let out = File::options().create(true).append(true).open(&log).expect("/run is ours");
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a descriptor is free"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
        Self { name: name.into(), child }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|fault| panic!("{}: {fault}", self.name));
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        wait_for(within, || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("{} does not end within {within:?}", self.name))
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The most memory it has had in use at a time, in bytes.
    pub fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let most = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
        let kib = most.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("{}: no VmHWM in {status:?}", self.name)) * 1024
    }

    /// What it has said.
    pub fn log(&self) -> String {
        log_of(&self.name)
    }
}

/// What a process of that name has said, whether it runs or not.
pub fn log_of(name: &str) -> String {
    fs::read_to_string(log_path(name)).unwrap_or_default()
}

fn log_path(name: &str) -> PathBuf {
    format!("/run/log/{name}.log").into()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
