//! The edgevips of a scenario, by instance name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::daemon::Daemon;
use super::net::command_in;
use super::{wait_for, with_path};

/// Each host has a boot and a machine of its own, but all of them are of one kernel and one
/// root.
const OWN_IDS: &str = "own() {
    [ -e $2 ] || return 0
    printf \"$1\\n\" ${0#n} > /run/$3-$0 && mount --bind /run/$3-$0 $2
}
own 00000000-0000-4000-8000-%012d /proc/sys/kernel/random/boot_id boot &&
    own %032d /etc/machine-id machine && exec \"$@\"";

/// Running daemons.
pub struct Daemons {
    program: PathBuf,
    running: BTreeMap<String, Daemon>,
}

impl Daemons {
    /// None yet; the program is asked for the status of each.
    pub fn new(program: &Path) -> Self {
        Self { program: program.into(), running: BTreeMap::new() }
    }

    /// Starts this program as an instance of this name on a host, with nothing but these
    /// settings.
    pub fn launch(
        &mut self,
        instance: &str,
        host: &str,
        program: &Path,
        settings: &BTreeMap<String, String>,
    ) {
        let mut command = command_in(host, "sh");
        command.args(["-c", OWN_IDS, host]).arg(program).arg("manager");
        with_path(&mut command).envs(settings).env("instance_name", instance);
        self.running.insert(instance.into(), Daemon::start(instance, &mut command));
    }

    /// What a daemon says of itself; `None` while it does not answer.
    pub fn status(&self, instance: &str) -> Option<Value> {
        let mut command = Command::new(&self.program);
        let output = command.args(["status", "--json", "--instance", instance]).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until a daemon's status is as wanted.
    pub fn status_is(&self, instance: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.status_within(instance, what, Duration::from_secs(10), so)
    }

    /// As [`Daemons::status_is`], for other times.
    pub fn status_within(
        &self,
        instance: &str,
        what: &str,
        within: Duration,
        so: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = None;
        let fine = wait_for(within, || {
            last = self.status(instance);
            last.as_ref().is_some_and(&so)
        });
        assert!(fine, "{instance}: not `{what}` after {within:?}: {last:?}");
        last.unwrap_or_default()
    }

    /// Sends a signal; returns when.
    pub fn signal(&self, instance: &str, signal: Signal) -> Instant {
        let at = clock::now();
        self.daemon(instance).signal(signal);
        at
    }

    /// Kills a daemon and waits for its end; returns when it was killed.
    pub fn kill(&mut self, instance: &str) -> Instant {
        let at = self.signal(instance, Signal::SIGKILL);
        self.ended(instance, Duration::from_secs(5));
        at
    }

    /// Waits for a daemon's end and forgets it.
    pub fn ended(&mut self, instance: &str, within: Duration) -> ExitStatus {
        let mut daemon = self.running.remove(instance).expect("it was started");
        daemon.ended(within)
    }

    /// A running daemon.
    pub fn daemon(&self, instance: &str) -> &Daemon {
        self.running.get(instance).unwrap_or_else(|| panic!("{instance} was not started"))
    }

    /// The instances that were started and not ended.
    pub fn names(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }

    /// Whether all daemons still run, as they should.
    pub fn all_run(&mut self) -> bool {
        self.running.values_mut().all(Daemon::runs)
    }
}
