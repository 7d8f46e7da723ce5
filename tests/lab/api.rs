//! The real API server, in the host `api`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::net::{command_in, run, run_with};
use super::wait_for;

/// Where the API server is reached, on the management LAN.
pub const ADDRESS: &str = "10.78.0.2";
/// Where relays stand.
pub const RELAY: &str = "10.78.0.1";
/// The API server's port.
pub const PORT: u16 = 16443;

const RUN: &str = "/run/kube";
const ACCOUNT: &str = include_str!("account.yaml");
/// The account in `kube-system` whose every request can be read.
pub const AUDITED: &str = "edge";

/// etcd and the API server.
pub struct Api {
    token: String,
}

impl Api {
    /// Starts them, and makes the account that the daemons use.
    pub fn start() -> Self {
        let log = "/run/log/kube.log";
        let out = fs::File::create(log).expect("/run is ours");
        let status = script("start")
            .args([RUN, &PORT.to_string()])
            .stdout(out.try_clone().expect("a descriptor is free"))
            .stderr(out)
            .status()
            .expect("the script runs");
        assert!(
            status.success(),
            "no API server; build it once with `tests/kube/kube build`\n{}",
            fs::read_to_string(log).unwrap_or_default()
        );
        let mut api = Self { token: String::new() };
        api.grant();
        let token = run(script("token").args([RUN, "kube-system", "kube-vip"]));
        api.token = token.trim().to_string();
        api
    }

    /// Makes the account that the daemons use, with its rights.
    pub fn grant(&self) {
        self.apply(ACCOUNT);
    }

    /// Writes a kubeconfig with the account's token; returns its path.
    pub fn kubeconfig(&self, name: &str, server: &str, port: u16) -> PathBuf {
        Self::kubeconfig_of(&self.token, name, server, port)
    }

    /// The same for the account whose requests can be read, which must be there.
    pub fn kubeconfig_of_audited(&self, name: &str) -> PathBuf {
        let token = run(script("token").args([RUN, "kube-system", AUDITED]));
        Self::kubeconfig_of(token.trim(), name, ADDRESS, PORT)
    }

    /// What that account asked for since the last call, and what was answered.
    pub fn audited(&self) -> Vec<Value> {
        let file = format!("{RUN}/audit.log");
        let text = fs::read_to_string(&file).unwrap_or_default();
        fs::File::options().write(true).truncate(true).open(file).expect("it is written");
        text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect()
    }

    fn kubeconfig_of(token: &str, name: &str, server: &str, port: u16) -> PathBuf {
        let server = format!("https://{server}:{port}");
        let text = run(script("kubeconfig").args([RUN, token, &server]));
        let path = PathBuf::from(format!("/run/{name}.conf"));
        fs::write(&path, text).expect("/run is ours");
        path
    }

    /// Runs kubectl as an administrator.
    pub fn kubectl(&self, words: &[&str]) -> String {
        run(kubectl().args(words))
    }

    /// Creates or changes objects.
    pub fn apply(&self, yaml: &str) {
        run_with(kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", "-"]), yaml);
    }

    /// The spec of a Lease.
    pub fn lease(&self, name: &str) -> Option<Value> {
        let words = ["-n", "kube-system", "get", "lease", name, "-o", "json", "--ignore-not-found"];
        let lease: Value = serde_json::from_str(&self.kubectl(&words)).ok()?;
        lease.get("spec").cloned()
    }

    /// How many requests about Leases the API server has answered, by its own count.
    pub fn lease_requests(&self) -> u64 {
        let metrics = self.kubectl(&["get", "--raw", "/metrics"]);
        let lines = metrics.lines().filter(|it| {
            it.starts_with("apiserver_request_total{") && it.contains("resource=\"leases\"")
        });
        lines.filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Stops it as a hung machine would: connections stay, answers do not come.
    pub fn pause(&self) {
        signal(Signal::SIGSTOP);
    }

    /// Undoes [`Api::pause`].
    pub fn resume(&self) {
        signal(Signal::SIGCONT);
    }

    /// Kills it.
    pub fn kill(&self) {
        signal(Signal::SIGKILL);
        let gone = wait_for(Duration::from_secs(10), || kill(pid(), None).is_err());
        assert!(gone, "the API server survives SIGKILL");
    }

    /// Starts it again on the same data; returns when it is ready.
    pub fn restart(&self) {
        let status = script("apiserver")
            .arg(RUN)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the script runs");
        assert!(status.success(), "the API server does not start again");
    }
}

/// Whether it was started.
pub fn runs() -> bool {
    fs::exists(format!("{RUN}/apiserver.pid")).is_ok_and(|it| it)
}

fn script(verb: &str) -> Command {
    let mut script = command_in("api", "tests/kube/kube");
    script
        .arg(verb)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("AUDITED", format!("system:serviceaccount:kube-system:{AUDITED}"))
        .env("BIND", "0.0.0.0")
        .env("ADVERTISE", ADDRESS)
        .env("SAN", format!("IP:{RELAY},IP:10.77.0.2"))
        .stdin(Stdio::null());
    script
}

fn kubectl() -> Command {
    let mut kubectl = script("kubectl");
    kubectl.arg(RUN).env("HOME", "/run");
    kubectl
}

fn pid() -> Pid {
    let text = fs::read_to_string(format!("{RUN}/apiserver.pid")).expect("the script writes it");
    Pid::from_raw(text.trim().parse().expect("a process id"))
}

fn signal(signal: Signal) {
    kill(pid(), signal).expect("the API server runs");
}
