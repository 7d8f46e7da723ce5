//! What the cluster, the user's command and the service manager are told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgevip::model::Instant;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Scenario;
use crate::lab::api::{Api, RELAY};
use crate::lab::cluster::Cluster;
use crate::lab::gap::Gap;
use crate::lab::net::{self, Lan, host, ip, plug};
use crate::lab::relay::Relay;
use crate::lab::supervisor::Supervisor;
use crate::lab::{millis, wait_for};
use crate::outcome::{Lost, never_two, takeover};

pub const SCENARIOS: &[Scenario] = &[
    ("node_label", node_label),
    ("node_label_after_term", node_label_after_term),
    ("node_label_of_the_only_node", node_label_of_the_only_node),
    ("node_label_slow_api", node_label_slow_api),
    ("events", events),
    ("events_after_term", events_after_term),
    ("notify", notify),
    ("notify_hangs", notify_hangs),
    ("sd_notify", sd_notify),
    ("sd_notify_holder", sd_notify_holder),
];

/// What is told through the API may come so much later.
const SOON: Duration = Duration::from_secs(10);
/// How long it takes to open a connection: a few ways there and back.
const SLOW: Duration = Duration::from_millis(500);
const LABEL: &str = "kube-vip.io/has-ip";

fn node_label(cluster: &mut Cluster<'_>) -> String {
    forget_labels(cluster);
    cluster.set("enable_node_labeling", "true");
    let watch = cluster.settle("n1", &["n2"]);
    labelled(cluster, "n1");
    let outcome = takeover(cluster, &watch, "n1", |_| net::unplug("n1", Lan::Clients));
    labelled(cluster, "n2");
    net::mend("n1", Lan::Clients);
    cluster.follows("n1", "n2");
    takeover(cluster, &watch, "n2", |it| _ = it.kill("n2"));
    cluster.start("n2");
    labelled(cluster, "n1");
    never_two(&watch, outcome.since);
    "moves with a dead link, and with a kill once the killed is back".into()
}

fn node_label_after_term(cluster: &mut Cluster<'_>) -> String {
    forget_labels(cluster);
    cluster.set("enable_node_labeling", "true");
    let watch = cluster.settle("n1", &["n2"]);
    labelled(cluster, "n1");
    takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    cluster.ended("n1", Duration::from_secs(5));
    labelled(cluster, "n2");
    "moves with an orderly stop".into()
}

/// Nobody is waited for, but the label is not to say what is over.
fn node_label_of_the_only_node(cluster: &mut Cluster<'_>) -> String {
    forget_labels(cluster);
    cluster.lab.api.kubectl(&["delete", "node", "n2", "n3"]);
    cluster.set("enable_node_labeling", "true");
    let _watch = cluster.settle("n1", &[]);
    labelled(cluster, "n1");
    cluster.status_is("n1", "knows that it is alone", |it| it["candidates"] == 1);
    cluster.signal("n1", Signal::SIGTERM);
    cluster.ended("n1", Duration::from_secs(5));
    let labels = labels(&cluster.lab.api);
    assert!(labels.is_empty(), "n1 leaves its label: {labels:?}");
    "goes with the daemon".into()
}

/// A label takes a connection of its own; a stop that waits for nobody else is to wait for that.
fn node_label_slow_api(cluster: &mut Cluster<'_>) -> String {
    let relay = Relay::begin();
    let config = cluster.lab.api.kubeconfig("label-slow", RELAY, relay.port).display().to_string();
    cluster.set("k8s_config_file", &config);
    relay.delay_opening(SLOW);
    node_label_of_the_only_node(cluster)
}

/// Nodes outlive scenarios.
fn forget_labels(cluster: &Cluster<'_>) {
    cluster.lab.api.kubectl(&["label", "nodes", "--all", &format!("{LABEL}-")]);
}

/// Waits until this node, and no other, has the label, and it says the VIP.
fn labelled(cluster: &Cluster<'_>, node: &str) {
    let wanted = BTreeSet::from([(node.to_string(), cluster.vip.to_string())]);
    let mut found = BTreeSet::new();
    let fine = wait_for(SOON, || {
        found = labels(&cluster.lab.api);
        found == wanted
    });
    assert!(fine, "not only {node} is labelled: {found:?}");
}

fn labels(api: &Api) -> BTreeSet<(String, String)> {
    let nodes = items(&api.kubectl(&["get", "nodes", "-l", LABEL, "-o", "json"]));
    let pair = |it: &Value| (text(&it["metadata"]["name"]), text(&it["metadata"]["labels"][LABEL]));
    nodes.iter().map(pair).collect()
}

/// The account of kube-vip's documentation may not write Events, so these rights are extra.
const MAY_WRITE_EVENTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: edgevip-events, namespace: kube-system }
rules: [{ apiGroups: [''], resources: [events], verbs: [create] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: edgevip-events, namespace: kube-system }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: edgevip-events }
subjects: [{ kind: ServiceAccount, name: kube-vip, namespace: kube-system }]
";

/// The rights, until dropped.
struct EventRights<'a>(&'a Api);

impl<'a> EventRights<'a> {
    fn grant(api: &'a Api) -> Self {
        api.apply(MAY_WRITE_EVENTS);
        Self(api)
    }
}

impl Drop for EventRights<'_> {
    fn drop(&mut self) {
        self.0.kubectl(&["-n", "kube-system", "delete", "role,rolebinding", "edgevip-events"]);
    }
}

fn events(cluster: &mut Cluster<'_>) -> String {
    let _rights = EventRights::grant(&cluster.lab.api);
    let watch = cluster.settle("n1", &["n2"]);
    written(cluster, &[("n1", "LeadershipAcquired")]);
    let outcome = takeover(cluster, &watch, "n1", |_| net::unplug("n1", Lan::Clients));
    let all =
        [("n1", "LeadershipAcquired"), ("n1", "LeadershipEnded"), ("n2", "LeadershipAcquired")];
    written(cluster, &all);
    never_two(&watch, outcome.since);
    format!("{all:?}")
}

fn events_after_term(cluster: &mut Cluster<'_>) -> String {
    let _rights = EventRights::grant(&cluster.lab.api);
    let watch = cluster.settle("n1", &["n2"]);
    takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    cluster.ended("n1", Duration::from_secs(5));
    written(
        cluster,
        &[("n1", "LeadershipAcquired"), ("n1", "LeadershipEnded"), ("n2", "LeadershipAcquired")],
    );
    "an orderly stop is written down".into()
}

/// Waits until exactly these Events about the Lease are there.
fn written(cluster: &Cluster<'_>, wanted: &[(&str, &str)]) {
    let about = format!("involvedObject.kind=Lease,involvedObject.name={}", cluster.lease);
    let ask = ["-n", "kube-system", "get", "events", "--field-selector", &about, "-o", "json"];
    let mut found = Vec::new();
    let fine = wait_for(SOON, || {
        let events = items(&cluster.lab.api.kubectl(&ask));
        let pair = |it: &Value| (text(&it["source"]["host"]), text(&it["reason"]));
        found = events.iter().map(pair).collect();
        found.sort();
        found.iter().map(|(by, what)| (by.as_str(), what.as_str())).eq(wanted.iter().copied())
    });
    assert!(fine, "wanted {wanted:?}, found {found:?}");
}

fn items(list: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(list).expect("kubectl prints JSON");
    list["items"].as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn notify(cluster: &mut Cluster<'_>) -> String {
    for node in ["n1", "n2"] {
        _ = fs::remove_file(told_to(node));
    }
    let command = |node| {
        let words = "$#|$*|$EDGEVIP_EVENT|$EDGEVIP_VIP|$EDGEVIP_CODE|$EDGEVIP_WHY";
        let file = told_to(node).display().to_string();
        format!("tell() {{ echo \"{words}\" >> {file}; }}; tell")
    };
    cluster.set("edgevip_notify", &command("n1"));
    let watch = cluster.settle("n1", &[]);
    cluster.set("edgevip_notify", &command("n2")).start("n2");
    cluster.follows("n2", "n1");
    let vip = cluster.vip;
    let acquired = format!("2|acquired {vip}|acquired|{vip}||");
    let released = format!("2|released {vip}|released|{vip}||");
    told(&told_to("n1"), "acquired", |it| *it == [acquired.as_str()]);

    let outcome = takeover(cluster, &watch, "n1", |_| _ = ip("link del n1-lan"));
    told(&told_to("n2"), "acquired", |it| *it == [acquired.as_str()]);
    let lines = told(&told_to("n1"), "released and a fault", |it| it.len() >= 3);
    let fault = lines.iter().find(|it| it.contains("|fault|")).expect("a fault is told");
    let fields: Vec<_> = fault.split('|').collect();
    let [count, words, event, about, code, why] = fields[..] else { panic!("{fault}") };
    assert_eq!((count, event, about), ("4", "fault", vip.to_string().as_str()), "{fault}");
    assert_eq!(words, format!("fault {vip} {code} {why}"));
    assert!(["no-link", "no-carrier"].contains(&code) && why.contains("eth0"), "{fault}");
    assert!(lines.contains(&released), "{lines:?}");

    plug(host("n1"), Lan::Clients);
    cluster.follows("n1", "n2");
    cluster.signal("n2", Signal::SIGTERM);
    assert!(cluster.ended("n2", Duration::from_secs(5)).success(), "n2 ends badly");
    let lines = told(&told_to("n2"), "released", |it| it.len() >= 2);
    assert_eq!(lines, [acquired, released], "what is told at the end");
    never_two(&watch, outcome.since);
    format!("acquired, released, fault ({code})")
}

/// The command of either node never ends by itself.
fn notify_hangs(cluster: &mut Cluster<'_>) -> String {
    for node in ["n1", "n2"] {
        _ = fs::remove_file(told_to(node));
    }
    let hangs = |node| {
        let file = told_to(node).display().to_string();
        format!("hang() {{ echo $$ >> {file}; exec sleep 600; }}; hang")
    };
    cluster.set("edgevip_notify", &hangs("n1"));
    let watch = cluster.settle("n1", &[]);
    cluster.set("edgevip_notify", &hangs("n2")).start("n2");
    cluster.follows("n2", "n1");
    told(&told_to("n1"), "one command runs", |it| it.len() == 1);
    let gap = Gap::begin(cluster.vip);
    cluster.renewed(4);
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    assert!(cluster.ended("n1", Duration::from_secs(5)).success(), "n1 ends badly");
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}\n{}", Lost(seen), watch.story(outcome.since));

    let hung = told(&told_to("n2"), "one command runs", |it| it.len() == 1).remove(0);
    let gone = wait_for(Duration::from_secs(15), || !Path::new("/proc").join(&hung).exists());
    assert!(gone, "a command may hang for ever");
    let killed = || cluster.daemon("n2").log().contains("notify command killed after 10s");
    assert!(wait_for(SOON, killed), "it is not said: {}", cluster.daemon("n2").log());
    watch.only("n2", SOON);
    never_two(&watch, outcome.since);
    format!("{outcome}; the command is killed")
}

fn told_to(node: &str) -> PathBuf {
    format!("/run/told-{node}").into()
}

/// Waits until a command's file has the lines that are wanted.
fn told(file: &Path, what: &str, so: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let mut text = String::new();
    let fine = wait_for(SOON, || {
        text = fs::read_to_string(file).unwrap_or_default();
        so(&text.lines().collect::<Vec<_>>())
    });
    assert!(fine, "{}: not {what:?}: {text:?}", file.display());
    text.lines().map(str::to_string).collect()
}

/// systemd would kill a service that is silent for so long.
const WATCHDOG: Duration = Duration::from_secs(2);

fn sd_notify(cluster: &mut Cluster<'_>) -> String {
    let supervisors = ["n1", "n2"].map(|it| (it, Supervisor::begin(it)));
    cluster.set("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string());
    for (node, supervisor) in &supervisors {
        cluster.set("NOTIFY_SOCKET", &supervisor.path.display().to_string()).start(node);
        let ready = supervisor.hears("READY=1", 0);
        assert_eq!(ready, 1, "READY=1 comes first: {:?}", supervisor.heard());
        if *node == "n1" {
            supervisor.hears(&format!("STATUS=leader: {}", cluster.vip), ready);
        }
    }
    let [(_, first), (_, second)] = &supervisors;
    cluster.follows("n2", "n1");
    cluster.renewed(6);
    // An API server that hangs is no reason to kill a daemon.
    cluster.lab.api.pause();
    let both = || supervisors.iter().map(|it| alive(&it.1).len()).min().unwrap_or_default();
    let before = both();
    assert!(wait_for(SOON, || both() > before + 8), "only {} signs of life", both());
    cluster.lab.api.resume();
    let mut longest = Duration::ZERO;
    for (node, supervisor) in &supervisors {
        let alive = alive(supervisor);
        let waits = alive.windows(2).map(|it| it[1].saturating_since(it[0]));
        let worst = waits.max().unwrap_or(WATCHDOG * 2);
        assert!(worst < WATCHDOG, "{node} is silent for {} ms", millis(worst));
        longest = longest.max(worst);
    }

    let leads = format!("STATUS=leader: {}", cluster.vip);
    let last = |it: &Supervisor| it.heard().into_iter().rfind(|it| it.1.starts_with("STATUS="));
    let leader = || supervisors.iter().any(|it| last(&it.1).is_some_and(|it| it.1 == leads));
    assert!(wait_for(SOON, leader), "nobody leads: {:?} {:?}", last(first), last(second));

    let before = first.heard().len();
    cluster.signal("n1", Signal::SIGHUP);
    let reloading = first.hears("RELOADING=1\nMONOTONIC_USEC=", before);
    let micros = &first.heard()[reloading - 1].1["RELOADING=1\nMONOTONIC_USEC=".len()..];
    assert!(micros.parse::<u64>().is_ok(), "{micros:?} is no number");
    let reloaded = first.hears("READY=1", reloading);

    cluster.signal("n1", Signal::SIGTERM);
    first.hears("STOPPING=1", reloaded);
    assert!(cluster.ended("n1", Duration::from_secs(5)).success(), "n1 ends badly");
    second.hears(&leads, 0);
    format!("every message; alive after {} ms at most", millis(longest))
}

/// When a daemon has said that it is alive.
fn alive(supervisor: &Supervisor) -> Vec<Instant> {
    supervisor.heard().into_iter().filter(|it| it.1 == "WATCHDOG=1").map(|it| it.0).collect()
}

fn sd_notify_holder(cluster: &mut Cluster<'_>) -> String {
    let _watch = cluster.settle("n1", &[]);
    let supervisor = Supervisor::begin("n2");
    cluster.set("NOTIFY_SOCKET", &supervisor.path.display().to_string()).start("n2");
    cluster.follows("n2", "n1");
    supervisor.hears(&format!("STATUS=follower of n1: {}", cluster.vip), 0);
    "a follower names the holder".into()
}
