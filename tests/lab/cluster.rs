//! A few edgevips that share VIPs and a Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::time::Duration;

use super::api::{ADDRESS, PORT};
use super::daemons::Daemons;
use super::net::{command_in, run};
use super::watch::Watch;
use super::{Lab, gap, wait_for};

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
    daemons: Daemons,
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
            daemons: Daemons::new(&lab.program),
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
        let mut settings = self.settings.clone();
        settings.insert("vip_nodename".into(), node.into());
        if self.records {
            let to = self.recording(instance).display().to_string();
            settings.insert("edgevip_record".into(), to);
        }
        self.daemons.launch(instance, host, &self.lab.program, &settings);
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
}

impl Deref for Cluster<'_> {
    type Target = Daemons;

    fn deref(&self) -> &Daemons {
        &self.daemons
    }
}

impl DerefMut for Cluster<'_> {
    fn deref_mut(&mut self) -> &mut Daemons {
        &mut self.daemons
    }
}
