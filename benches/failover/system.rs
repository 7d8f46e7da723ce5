//! What keeps the VIP on one of the nodes: edgevip, or keepalived.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use edgevip::engine::Input;
use edgevip::io::clock;
use edgevip::io::recorder::{self, Recorded};
use edgevip::model::{Instant, LeaseReply};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::LONG;
use crate::lab::cluster::Cluster;
use crate::lab::daemon::Daemon;
use crate::lab::net::{NODES, has_address, ip_in};
use crate::lab::quorum::Quorum;
use crate::lab::{Lab, keepalived, wait_for};

/// A system under test.
pub trait System {
    /// The VIP.
    fn vip(&self) -> IpAddr;
    /// How often it renews or advertises: events fall anywhere in between.
    fn period(&self) -> Duration;
    /// How long it trusts what it cannot reach.
    fn patience(&self) -> Duration;
    /// Starts its daemon on a node.
    fn start(&mut self, node: &str);
    /// Sends a signal to every process of a daemon.
    fn signal(&self, node: &str, signal: Signal);
    /// Starts a daemon again that was asked to end or was killed, on a clean node.
    fn revive(&mut self, node: &str);
    /// Waits until this node leads and all others know it.
    fn settled(&self, heir: &str);
    /// Has a node carry nothing.
    fn drain(&self, _node: &str) {}
    /// Lets a node carry again.
    fn undrain(&self, _node: &str) {}
    /// The election that made this node the heir since then.
    fn election(&self, heir: &str, since: Instant) -> Option<Election>;
}

/// When a node won.
pub struct Election {
    /// The stamp of the write that won: when it was made up.
    pub written: Instant,
    /// When the one thread that decides was handed the answer to it.
    pub decided: Instant,
}

/// Three edgevips.
pub struct Edgevip<'a> {
    cluster: Cluster<'a>,
    lease: [Duration; 3],
}

impl<'a> Edgevip<'a> {
    /// None of them runs yet. The Lease is DURATION/RENEW/RETRY in seconds; `via` names a
    /// kubeconfig where the API server is not reached directly.
    pub fn new(lab: &'a Lab, name: &str, lease: &str, via: Option<&str>) -> Self {
        let mut cluster = Cluster::new(lab, name);
        let times: Vec<_> = lease.split('/').map(seconds).collect();
        let lease = <[Duration; 3]>::try_from(times).expect("--lease is DURATION/RENEW/RETRY");
        let [duration, renew, retry] = lease.map(|it| format!("{}ms", it.as_millis()));
        cluster.lease_times(&duration, &renew, &retry).record();
        if let Some(via) = via {
            cluster.set("k8s_config_file", via);
        }
        Self { cluster, lease }
    }
}

impl System for Edgevip<'_> {
    fn vip(&self) -> IpAddr {
        self.cluster.vip
    }

    fn period(&self) -> Duration {
        self.lease[2]
    }

    fn patience(&self) -> Duration {
        self.lease[0]
    }

    fn start(&mut self, node: &str) {
        self.cluster.start(node);
    }

    fn signal(&self, node: &str, signal: Signal) {
        self.cluster.signal(node, signal);
    }

    fn revive(&mut self, node: &str) {
        self.cluster.ended(node, LONG);
        self.cluster.start(node);
    }

    fn settled(&self, heir: &str) {
        for node in NODES {
            let role = if node == heir { "leader" } else { "follower" };
            let mut last = None;
            let fine = wait_for(LONG, || {
                last = self.cluster.status(node);
                last.as_ref().is_some_and(|it| {
                    it["role"] == role && it["holder"] == heir && it["api"]["watching"] == true
                })
            });
            assert!(fine, "{node} is no {role} of {heir}: {last:?}");
        }
    }

    fn election(&self, heir: &str, since: Instant) -> Option<Election> {
        let path = self.cluster.recording(heir);
        let mut inputs = recorder::read::<serde_json::Value, Input>(&path).ok()?.flatten();
        inputs.find_map(|it| match it {
            Recorded::Input(at, Input::Lease { reply: LeaseReply::Found(lease), .. })
                if at >= since && lease.record.holder.as_ref().is_some_and(|it| &*it.0 == heir) =>
            {
                let written = moment(lease.record.acquired.as_deref()?)?;
                Some(Election { written, decided: at })
            }
            Recorded::Input(..) | Recorded::Header(_) | Recorded::Lost(_) => None,
        })
    }
}

impl Drop for Edgevip<'_> {
    fn drop(&mut self) {
        for node in NODES {
            _ = fs::remove_file(self.cluster.recording(node));
        }
    }
}

/// Three edgevips that elect by a quorum of their own.
pub struct ByQuorum<'a> {
    quorum: Quorum<'a>,
}

impl<'a> ByQuorum<'a> {
    /// None of them runs yet; they have the times of this profile.
    pub fn new(lab: &'a Lab, name: &str, profile: &str) -> Self {
        let mut quorum = Quorum::new(lab, name);
        quorum.set("vip_raft_profile", profile);
        Self { quorum }
    }
}

impl System for ByQuorum<'_> {
    fn vip(&self) -> IpAddr {
        self.quorum.vip
    }

    fn period(&self) -> Duration {
        Duration::from_millis(30)
    }

    fn patience(&self) -> Duration {
        self.quorum.promise()
    }

    fn start(&mut self, node: &str) {
        self.quorum.start(node);
    }

    fn signal(&self, node: &str, signal: Signal) {
        self.quorum.signal(node, signal);
    }

    fn revive(&mut self, node: &str) {
        self.quorum.ended(node, LONG);
        self.quorum.start(node);
    }

    fn settled(&self, _: &str) {
        self.quorum.settled();
    }

    fn drain(&self, node: &str) {
        self.quorum.ordered(&format!("drain {node}"));
    }

    fn undrain(&self, node: &str) {
        self.quorum.ordered(&format!("undrain {node}"));
    }

    fn election(&self, _: &str, _: Instant) -> Option<Election> {
        None
    }
}

/// Three keepaliveds.
pub struct Keepalived {
    vip: IpAddr,
    interval: String,
    daemons: BTreeMap<String, Daemon>,
}

impl Keepalived {
    /// None of them runs yet; they will advertise this many seconds apart.
    pub fn new(lab: &Lab, interval: &str) -> Self {
        Self { vip: lab.fresh_vips().0, interval: interval.into(), daemons: BTreeMap::new() }
    }
}

impl System for Keepalived {
    fn vip(&self) -> IpAddr {
        self.vip
    }

    fn period(&self) -> Duration {
        seconds(&self.interval)
    }

    fn patience(&self) -> Duration {
        self.period() * 4
    }

    fn start(&mut self, node: &str) {
        let priority = NODES.iter().position(|it| *it == node).map_or(0, |it| 100 - 10 * it as u8);
        let daemon = keepalived::start(node, priority, &self.interval, self.vip);
        self.daemons.insert(node.into(), daemon);
    }

    fn signal(&self, node: &str, signal: Signal) {
        let daemon = &self.daemons[node];
        // The parent ends its child itself.
        if signal != Signal::SIGTERM {
            let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
            for child in fs::read_to_string(children).unwrap_or_default().split_whitespace() {
                let child = child.parse().expect("a process id");
                _ = kill(Pid::from_raw(child), signal);
            }
        }
        daemon.signal(signal);
    }

    fn revive(&mut self, node: &str) {
        let mut old = self.daemons.remove(node).expect("it was started");
        old.ended(LONG);
        if has_address(node, &self.vip.to_string()) {
            ip_in(node, &format!("addr del {}/24 dev eth0", self.vip));
        }
        let backups = |it: &Daemon| it.log().matches("BACKUP STATE").count();
        let before = backups(&old);
        self.start(node);
        let fine = wait_for(LONG, || backups(&self.daemons[node]) > before);
        assert!(fine, "{}", self.daemons[node].log());
    }

    fn settled(&self, heir: &str) {
        let others = self.daemons.keys().filter(|it| *it != heir);
        let fine = wait_for(LONG, || {
            others.clone().all(|it| !has_address(it, &self.vip.to_string()))
                && self.daemons.values().all(|it| it.log().contains("BACKUP STATE"))
        });
        assert!(fine, "another than {heir} has the address");
    }

    fn election(&self, _: &str, _: Instant) -> Option<Election> {
        None
    }
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs_f64(text.parse().unwrap_or_else(|_| panic!("not seconds: {text}")))
}

/// The moment of a wall time of today or yesterday, such as `…T01:02:03.456789Z`.
fn moment(stamp: &str) -> Option<Instant> {
    const DAY: u128 = 86_400_000_000;
    let text = stamp.split('T').nth(1)?.trim_end_matches('Z');
    let mut parts = text.split([':', '.']).map(|it| it.parse::<u128>().ok());
    let mut part = || parts.next().flatten();
    let then = ((part()? * 60 + part()?) * 60 + part()?) * 1_000_000 + part()?;
    let ago = (clock::wall().as_micros() % DAY + DAY - then) % DAY;
    Some(clock::now() - Duration::from_micros(ago as u64))
}
