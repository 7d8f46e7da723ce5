//! A few edgevips that share VIPs and a Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::api::{ADDRESS, PORT};
use super::daemon::Daemon;
use super::net::{command_in, run};
use super::watch::Watch;
use super::{Lab, gap, wait_for};

/// Each host has a boot of its own, but all of them are of one machine.
const OWN_BOOT_ID: &str = "printf '%s\\n' 00000000-0000-4000-8000-0000000000$0 > /run/boot-$0
mount --bind /run/boot-$0 /proc/sys/kernel/random/boot_id && exec \"$@\"";

/// Daemons by instance name, with the settings they share.
pub struct Cluster<'a> {
    /// Where it lives.
    pub lab: &'a Lab,
    /// The VIP that scenarios look at, IPv4.
    pub vip: IpAddr,
    /// Its sibling, unless the settings leave it out.
    pub vip6: IpAddr,
    /// The name of the Lease.
    pub lease: String,
    settings: BTreeMap<String, String>,
    records: bool,
    daemons: BTreeMap<String, Daemon>,
}

impl<'a> Cluster<'a> {
    /// No daemon yet; a short Lease, and a VIP of IPv4.
    pub fn new(lab: &'a Lab, name: &str) -> Self {
        let (vip, vip6) = lab.fresh_vips();
        let mut cluster = Self {
            lab,
            vip,
            vip6,
            lease: name.into(),
            settings: BTreeMap::new(),
            records: false,
            daemons: BTreeMap::new(),
        };
        let config = lab.api.kubeconfig(name, ADDRESS, PORT).display().to_string();
        for (key, value) in [
            ("address", vip.to_string().as_str()),
            ("cp_enable", "true"),
            ("cp_namespace", "kube-system"),
            ("k8s_config_file", &config),
            ("prometheus_server", ""),
            ("vip_arp", "true"),
            ("vip_interface", "eth0"),
            ("vip_leaderelection", "true"),
            ("vip_leasename", name),
        ] {
            cluster.set(key, value);
        }
        if let Ok(level) = env::var("vip_loglevel") {
            cluster.set("vip_loglevel", &level);
        }
        cluster.lease_times("3", "2", "500ms");
        cluster
    }

    /// Changes a setting of all daemons that start from now on.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.settings.insert(key.into(), value.into());
        self
    }

    /// Changes the timing of the Lease.
    pub fn lease_times(&mut self, duration: &str, renew: &str, retry: &str) -> &mut Self {
        self.set("vip_leaseduration", duration)
            .set("vip_renewdeadline", renew)
            .set("vip_retryperiod", retry)
    }

    /// Lets all daemons that start from now on write down what they are told, and when.
    pub fn record(&mut self) -> &mut Self {
        self.records = true;
        self
    }

    /// Where a daemon writes down what it is told.
    pub fn recording(&self, instance: &str) -> PathBuf {
        PathBuf::from(format!("/run/{}-{instance}.record", self.lease))
    }

    /// Starts a daemon on a node, under the node's name.
    pub fn start(&mut self, node: &str) {
        self.start_as(node, node, node);
    }

    /// Starts a daemon on a node, under a name of its own, as an instance of its own.
    pub fn start_as(&mut self, instance: &str, host: &str, node: &str) {
        let mut command = command_in(host, "sh");
        let path = env::var_os("PATH").unwrap_or_default();
        command
            .args(["-c", OWN_BOOT_ID, host])
            .arg(&self.lab.program)
            .arg("manager")
            .env_clear()
            .env("PATH", path)
            .envs(&self.settings);
        command.env("vip_nodename", node).env("instance_name", instance);
        if self.records {
            command.env("edgevip_record", self.recording(instance));
        }
        self.daemons.insert(instance.into(), Daemon::start(instance, &mut command));
    }

    /// Starts `first`, waits until it answers, then starts the others and waits until they
    /// are followers.
    pub fn settle(&mut self, first: &str, others: &[&str]) -> Watch {
        let watch = Watch::begin(self.watched());
        self.start(first);
        watch.only(first, Duration::from_secs(15));
        for other in others {
            self.start(other);
        }
        for other in others {
            self.follows(other, first);
        }
        gap::reachable(self.watched(), Duration::from_secs(5));
        watch
    }

    /// Waits until a daemon says that it follows this holder.
    pub fn follows(&self, instance: &str, holder: &str) {
        self.follows_within(instance, holder, Duration::from_secs(10));
    }

    /// As [`Cluster::follows`], for other times.
    pub fn follows_within(&self, instance: &str, holder: &str, within: Duration) {
        self.status_within(instance, &format!("follows {holder}"), within, |it| {
            it["role"] == "follower" && it["holder"] == holder
        });
    }

    /// Waits until a daemon's status is as wanted.
    pub fn status_is(&self, instance: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.status_within(instance, what, Duration::from_secs(10), so)
    }

    /// Waits until the Lease was renewed that often.
    pub fn renewed(&self, times: usize) {
        let mut seen = BTreeSet::new();
        let fine = wait_for(Duration::from_secs(60), || {
            let lease = self.lab.api.lease(&self.lease).unwrap_or_default();
            seen.insert(lease["renewTime"].to_string());
            seen.len() > times
        });
        assert!(fine, "the Lease is not renewed: {seen:?}");
    }

    fn status_within(
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

    /// What a daemon says of itself; `None` while it does not answer.
    pub fn status(&self, instance: &str) -> Option<Value> {
        let mut command = Command::new(&self.lab.program);
        let output = command.args(["status", "--json", "--instance", instance]).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
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
    pub fn ended(&mut self, instance: &str, within: Duration) -> std::process::ExitStatus {
        let mut daemon = self.daemons.remove(instance).expect("it was started");
        daemon.ended(within)
    }

    /// A running daemon.
    pub fn daemon(&self, instance: &str) -> &Daemon {
        self.daemons.get(instance).unwrap_or_else(|| panic!("{instance} was not started"))
    }

    /// Whether all daemons still run, as they should.
    pub fn all_run(&mut self) -> bool {
        self.daemons.values_mut().all(Daemon::runs)
    }

    /// The VIP to look at: the one of IPv4 where the settings have it.
    pub fn watched(&self) -> IpAddr {
        let v4 = self.settings.get("address").is_some_and(|it| it.contains(&self.vip.to_string()));
        if v4 { self.vip } else { self.vip6 }
    }

    /// Runs a program on a node to its end.
    pub fn run_on(&self, node: &str, words: &str) -> String {
        let mut words = words.split_whitespace();
        let program = words.next().expect("a program is named");
        run(command_in(node, program).args(words))
    }

    /// The end of every daemon's log.
    pub fn logs(&self) -> String {
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
}
