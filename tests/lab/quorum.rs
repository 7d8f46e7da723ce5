//! A few edgevips that share VIPs by a quorum of their own. No API server is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::daemons::Daemons;
use super::net::{NODES, host};
use super::watch::Watch;
use super::{Lab, gap, wait_for};

/// Where members listen.
pub const PORT: u16 = 10_000;
/// Longer than a start, an election and a first claim need.
const LONG: Duration = Duration::from_secs(15);

/// Members by name, with the settings that they share, and those of each.
pub struct Quorum<'a> {
    /// Where it lives.
    pub lab: &'a Lab,
    /// The VIP that scenarios look at, IPv4.
    pub vip: IpAddr,
    /// Its sibling, unless the settings leave it out.
    pub vip6: IpAddr,
    /// The program that starts from now on.
    pub program: PathBuf,
    name: String,
    settings: BTreeMap<String, String>,
    own: BTreeMap<String, BTreeMap<String, String>>,
    daemons: Daemons,
}

/// Who carries the VIP, and who leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Roles {
    /// Who answers for the VIP that scenarios look at.
    pub holder: String,
    /// Who leads the quorum.
    pub leader: String,
}

impl<'a> Quorum<'a> {
    /// No member runs yet: three voters that share a key, and a VIP of IPv4.
    pub fn new(lab: &'a Lab, name: &str) -> Self {
        let (vip, vip6) = lab.fresh_vips();
        let mut quorum = Self {
            lab,
            vip,
            vip6,
            program: lab.program.clone(),
            name: name.into(),
            settings: BTreeMap::new(),
            own: BTreeMap::new(),
            daemons: Daemons::new(&lab.program),
        };
        _ = fs::remove_dir_all(quorum.folder());
        fs::create_dir_all(quorum.folder()).expect("/run is ours");
        let key = quorum.key_file("key", "a key that all members share");
        for (key, value) in [
            ("address", vip.to_string().as_str()),
            ("control_plane_health_check_address", "off"),
            ("cp_enable", "true"),
            ("prometheus_server", ""),
            ("vip_arp", "true"),
            ("vip_interface", "eth0"),
            ("vip_keyfile", &key),
        ] {
            quorum.set(key, value);
        }
        if let Ok(level) = env::var("vip_loglevel") {
            quorum.set("vip_loglevel", &level);
        }
        quorum.peers(&NODES);
        quorum
    }

    /// Changes a setting of all members that start from now on.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.settings.insert(key.into(), value.into());
        self
    }

    /// Changes a setting of one member, when it starts.
    pub fn set_on(&mut self, node: &str, key: &str, value: &str) -> &mut Self {
        self.own.entry(node.into()).or_default().insert(key.into(), value.into());
        self
    }

    /// The members that those which start from now on are told of; with `:witness` after it,
    /// one that only votes.
    pub fn peers(&mut self, members: &[&str]) -> &mut Self {
        let peer = |it: &&str| match it.split_once(':') {
            Some((name, role)) => format!("{}:{role}", member(name)),
            None => member(it),
        };
        let peers: Vec<_> = members.iter().map(peer).collect();
        self.set("vip_peers", &peers.join(","))
    }

    /// So many VIPs instead of one, of IPv6; returns them.
    pub fn carry(&mut self, count: u16) -> Vec<IpAddr> {
        let vips = (1..=count).map(|it| IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 2, it]));
        let vips: Vec<_> = vips.collect();
        let list: Vec<_> = vips.iter().map(IpAddr::to_string).collect();
        self.vip6 = vips[0];
        self.set("address", &list.join(","));
        vips
    }

    /// Slower times, where it is about what happens and not about when: a machine that is
    /// busy with something else is no dead member.
    pub fn patient(&mut self) -> &mut Self {
        self.set("vip_raft_heartbeat", "100").set("vip_raft_promise", "800")
    }

    /// A file of the quorum's own with this key; returns its path.
    pub fn key_file(&self, name: &str, key: &str) -> String {
        let path = self.folder().join(name);
        fs::write(&path, key).expect("/run is ours");
        path.display().to_string()
    }

    /// Where all that this quorum keeps is.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from("/run/quorum").join(&self.name)
    }

    /// Where a member keeps what must outlive a restart.
    pub fn state(&self, node: &str) -> PathBuf {
        self.folder().join(node)
    }

    /// What a member keeps there.
    pub fn store(&self, node: &str) -> PathBuf {
        self.state(node).join(format!("quorum-{node}.json"))
    }

    /// Where a member writes down what it is told, if it is asked to.
    pub fn recording(&self, node: &str) -> PathBuf {
        self.folder().join(format!("{node}.record"))
    }

    /// Starts a member on the node of its name.
    pub fn start(&mut self, node: &str) {
        let mut settings = self.settings.clone();
        settings.extend([
            ("vip_localpeer".into(), member(node)),
            ("vip_nodename".into(), node.into()),
            ("edgevip_state_dir".into(), self.state(node).display().to_string()),
        ]);
        if let Ok(folder) = env::var("edgevip_record") {
            settings.insert("edgevip_record".into(), format!("{folder}/{node}.record"));
        }
        settings.extend(self.own.get(node).cloned().unwrap_or_default());
        let program = self.program.clone();
        self.daemons.launch(node, node, &program, &settings);
    }

    /// Starts all of these.
    pub fn start_all(&mut self, nodes: &[&str]) {
        nodes.iter().for_each(|it| self.start(it));
    }

    /// Starts three members, and waits until they have settled and one answers.
    pub fn settle(&mut self) -> (Watch, Roles) {
        self.settle_with(&NODES)
    }

    /// As [`Quorum::settle`], with these members.
    pub fn settle_with(&mut self, nodes: &[&str]) -> (Watch, Roles) {
        let watch = Watch::begin(self.watched());
        self.start_all(nodes);
        self.at_rest(watch, self.settled())
    }

    /// As [`Quorum::settle`], for other times.
    pub fn settle_within(&mut self, within: Duration) -> (Watch, Roles) {
        let watch = Watch::begin(self.watched());
        self.start_all(&NODES);
        self.at_rest(watch, self.settled_within(within))
    }

    fn at_rest(&self, watch: Watch, roles: Roles) -> (Watch, Roles) {
        watch.only(&roles.holder, LONG);
        gap::reachable(self.watched(), LONG);
        (watch, roles)
    }

    /// Waits until all that run hear each other, have one leader, and take part, and exactly
    /// one answers for each VIP.
    pub fn settled(&self) -> Roles {
        self.settled_within(LONG)
    }

    /// As [`Quorum::settled`], for other times.
    pub fn settled_within(&self, within: Duration) -> Roles {
        let names = self.daemons.names();
        let mut last = Err(String::new());
        wait_for(within, || {
            last = self.look(&names);
            last.is_ok()
        });
        last.unwrap_or_else(|why| panic!("not settled within {within:?}: {why}"))
    }

    /// Waits until this member carries the VIP that scenarios look at, all else at rest.
    pub fn settled_on(&self, node: &str) -> Roles {
        let mut last = None;
        let fine = wait_for(LONG, || {
            last = Some(self.settled());
            last.as_ref().is_some_and(|it| it.holder == node)
        });
        assert!(fine, "not on {node}: {last:?}");
        last.expect("it is fine")
    }

    fn look(&self, names: &[String]) -> Result<Roles, String> {
        let beat = self.settings.get("vip_raft_heartbeat").and_then(|it| it.parse::<u64>().ok());
        let late = 300 + 2 * beat.unwrap_or(30);
        let mut leaders = BTreeSet::new();
        let mut answering: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for name in names {
            let status = self.status(name).ok_or_else(|| format!("{name} does not answer"))?;
            let quorum = &status["quorum"];
            if let Some(why) = quorum["silent_because"].as_str() {
                return Err(format!("{name} takes no part: {why}"));
            }
            let Some(leader) = quorum["leader"].as_str() else {
                return Err(format!("{name} knows of no leader"));
            };
            if !names.iter().any(|it| it == leader) {
                return Err(format!("{name} follows {leader}, which does not run"));
            }
            leaders.insert(leader.to_string());
            let members = quorum["members"].as_array().into_iter().flatten();
            let others = members
                .filter(|it| names.iter().any(|other| it["name"] == **other && other != name));
            let deaf = |it: &&Value| it["heard_ms_ago"].as_u64().is_none_or(|ago| ago > late);
            if let Some(silent) = others.clone().find(deaf) {
                return Err(format!("{name} does not hear {}", silent["name"]));
            }
            for vip in status["vips"].as_array().into_iter().flatten() {
                let key = vip["vip"].as_str().unwrap_or_default().to_string();
                let by = answering.entry(key).or_default();
                match vip["state"].as_str() {
                    Some("answering") => by.push(name),
                    Some("absent") => {}
                    state => return Err(format!("{name}: {} is {state:?}", vip["vip"])),
                }
            }
        }
        if let Some((vip, by)) = answering.iter().find(|it| it.1.len() != 1) {
            return Err(format!("{vip} is answered for by {by:?}"));
        }
        let leader = leaders.pop_first().filter(|_| leaders.is_empty());
        let leader = leader.ok_or_else(|| format!("more than one leader: {leaders:?}"))?;
        let watched = self.watched().to_string();
        let holder = answering.get(&watched).and_then(|it| it.first());
        let holder = holder.ok_or_else(|| format!("{watched} is not there: {answering:?}"))?;
        Ok(Roles { holder: holder.to_string(), leader })
    }

    /// Lets an operator ask the leader for something; returns what comes of it.
    pub fn order(&self, words: &str) -> Result<String, String> {
        let leader = self.leader();
        let mut command = Command::new(&self.lab.program);
        command.args(words.split_whitespace()).args(["--instance", &leader]);
        let output = command.output().expect("the program runs");
        let text = |it: &[u8]| String::from_utf8_lossy(it).trim().to_string();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// As [`Quorum::order`], until it is done; whoever leads meanwhile is asked.
    pub fn ordered(&self, words: &str) -> String {
        let mut last = Err(String::new());
        let fine = wait_for(LONG, || {
            last = self.order(words);
            last.is_ok()
        });
        assert!(fine, "{words}: {last:?}");
        last.unwrap_or_default()
    }

    /// Who leads, as all know that know somebody.
    pub fn leader(&self) -> String {
        let mut leader = None;
        let fine = wait_for(LONG, || {
            let names = self.daemons.names();
            let known = |it: &String| self.status(it)?["quorum"]["leader"].as_str().map(Into::into);
            let leaders: BTreeSet<String> = names.iter().filter_map(known).collect();
            leader = leaders.into_iter().find(|it| names.contains(it));
            leader.is_some()
        });
        assert!(fine, "nobody leads");
        leader.expect("it is fine")
    }

    /// Moves the VIP to this member, and waits until all is at rest.
    pub fn hold_on(&self, node: &str) -> Roles {
        self.ordered(&format!("move {} {node}", self.watched()));
        self.settled_on(node)
    }

    /// Has the VIP on a member that does not lead.
    pub fn hold_apart(&self) -> Roles {
        let roles = self.settled();
        if roles.holder != roles.leader {
            return roles;
        }
        let names = self.daemons.names();
        let other = names.iter().find(|it| **it != roles.leader).expect("there are more");
        self.hold_on(other)
    }

    /// Has the VIP on the member that leads.
    pub fn hold_together(&self) -> Roles {
        let roles = self.settled();
        if roles.holder == roles.leader { roles } else { self.hold_on(&roles.leader) }
    }

    /// Asks a member to stop, and waits for its end.
    pub fn stop(&mut self, node: &str) {
        self.signal(node, Signal::SIGTERM);
        let status = self.ended(node, Duration::from_secs(5));
        assert!(status.success(), "{node} ends with {status}");
    }

    /// Asks a member to stop, and starts it again.
    pub fn renew(&mut self, node: &str) {
        self.stop(node);
        self.start(node);
        self.settled();
    }

    /// For how long a VIP is promised.
    pub fn promise(&self) -> Duration {
        let given = self.settings.get("vip_raft_promise").and_then(|it| it.parse().ok());
        Duration::from_millis(given.unwrap_or(120))
    }

    /// The VIP to look at: the one of IPv4 where the settings have it.
    pub fn watched(&self) -> IpAddr {
        let v4 = self.settings.get("address").is_some_and(|it| it.contains(&self.vip.to_string()));
        if v4 { self.vip } else { self.vip6 }
    }

    /// Lets this much time pass.
    pub fn wait(&self, time: Duration) {
        let end = clock::now() + time;
        wait_for(time * 2, || clock::now() >= end);
    }

    /// What a member says of another.
    pub fn seen_by(&self, node: &str, other: &str) -> Value {
        let status = self.status(node).unwrap_or_default();
        let members = status["quorum"]["members"].as_array().cloned().unwrap_or_default();
        members.into_iter().find(|it| it["name"] == other).unwrap_or_default()
    }
}

impl Drop for Quorum<'_> {
    fn drop(&mut self) {
        // Daemons that still write must not come back to it.
        self.daemons = Daemons::new(&self.lab.program);
        _ = fs::remove_dir_all(self.folder());
    }
}

impl Deref for Quorum<'_> {
    type Target = Daemons;

    fn deref(&self) -> &Daemons {
        &self.daemons
    }
}

impl DerefMut for Quorum<'_> {
    fn deref_mut(&mut self) -> &mut Daemons {
        &mut self.daemons
    }
}

/// A member as the settings have it.
pub fn member(node: &str) -> String {
    format!("{node}:10.77.0.{}:{PORT}", host(node).number)
}
