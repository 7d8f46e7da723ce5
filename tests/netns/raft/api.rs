//! An API server beside: what it is told of the quorum, and whom it names as members.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use edgevip::io::clock;
use serde_json::Value;

use super::{LONG, SOON, moved, nothing_lost};
use crate::RaftScenario;
use crate::lab::api::{ADDRESS, PORT};
use crate::lab::gap::Gap;
use crate::lab::net::{NODES, host};
use crate::lab::quorum::Quorum;
use crate::lab::wait_for;
use crate::outcome::never_two;

pub const SCENARIOS: &[RaftScenario] = &[
    ("raft_lease_as_a_record", lease_as_a_record),
    ("raft_rival_of_the_record", rival_of_the_record),
    ("raft_members_from_nodes", members_from_nodes),
    ("raft_services", services),
];

const DURATION: Duration = Duration::from_secs(3);

/// Members use the API server, and the Lease of this name.
pub fn with_api(quorum: &mut Quorum<'_>, lease: &str) {
    let config = quorum.lab.api.kubeconfig(lease, ADDRESS, PORT).display().to_string();
    quorum
        .patient()
        .set("k8s_config_file", &config)
        .set("vip_leasename", lease)
        .set("vip_leaseduration", "3");
}

fn holder_is(quorum: &Quorum<'_>, lease: &str, node: &str) -> Value {
    let mut last = Value::Null;
    let fine = wait_for(LONG, || {
        last = quorum.lab.api.lease(lease).unwrap_or_default();
        last["holderIdentity"] == node
    });
    assert!(fine, "{node} is not recorded: {last}");
    last
}

fn lease_as_a_record(quorum: &mut Quorum<'_>) -> String {
    const LEASE: &str = "raft-record";
    with_api(quorum, LEASE);
    quorum.set("enable_node_labeling", "true");
    let (watch, roles) = quorum.settle();
    let recorded = holder_is(quorum, LEASE, &roles.holder);
    assert_eq!(recorded["leaseDurationSeconds"], 3, "{recorded}");
    let labelled = |node: &str| {
        let vip = quorum.vip.to_string();
        let words = ["get", "node", node, "-o", "jsonpath={.metadata.labels.kube-vip\\.io/has-ip}"];
        let found = wait_for(LONG, || quorum.lab.api.kubectl(&words) == vip);
        assert!(found, "{node} is not labelled");
    };
    labelled(&roles.holder);

    let since = clock::now();
    let outcome = moved(quorum, &watch, &roles.holder, |it| _ = it.kill(&roles.holder));
    assert!(outcome.took <= SOON * 2, "{outcome}");
    let after = holder_is(quorum, LEASE, &outcome.heir);
    assert_eq!(after["leaseTransitions"], 1, "{after}");

    // An API server that hangs, longer than the Lease lasts, and then is gone.
    let gap = Gap::begin(quorum.vip);
    quorum.lab.api.pause();
    quorum.wait(DURATION * 2);
    quorum.lab.api.kill();
    quorum.wait(DURATION * 2);
    let status = quorum
        .status_within(&outcome.heir, "knows of it", LONG * 2, |it| it["api"]["fault"].is_string());
    assert_eq!(status["vips"][0]["state"], "answering", "{status}");
    let lost = nothing_lost(gap, &watch, since);
    quorum.lab.api.restart();
    let renewed = quorum.lab.api.lease(LEASE).unwrap_or_default()["renewTime"].clone();
    let goes_on = wait_for(Duration::from_secs(30), || {
        let now = quorum.lab.api.lease(LEASE).unwrap_or_default();
        now["renewTime"] != renewed && now["holderIdentity"] == outcome.heir
    });
    assert!(goes_on, "the record does not go on");
    assert!(quorum.all_run(), "a daemon has ended");
    format!("SIGKILL {outcome}; API server gone: {lost}")
}

/// The quorum places the addresses of Services as well, each where it is served.
fn services(quorum: &mut Quorum<'_>) -> String {
    with_api(quorum, "raft-services");
    quorum.set("svc_enable", "true");
    let (_watch, _) = quorum.settle();
    let service = |number: u8, node: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: quorum-{number}\n  \
             annotations: {{ kube-vip.io/loadbalancerIPs: \"10.77.3.{number}\" }}\nspec:\n  \
             type: LoadBalancer\n  externalTrafficPolicy: Local\n  ports: [{{ port: 80 }}]\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
             name: quorum-{number}-1\n  labels: {{ kubernetes.io/service-name: quorum-{number} }}\n\
             addressType: IPv4\nendpoints:\n- addresses: [10.244.0.1]\n  nodeName: {node}\n  \
             conditions: {{ ready: true }}\n"
        )
    };
    let told = |number: u8, node: &str| {
        let name = format!("quorum-{number}");
        let words = ["get", "service", &name, "-o", "json"];
        let fine = wait_for(LONG, || {
            let it: Value =
                serde_json::from_str(&quorum.lab.api.kubectl(&words)).unwrap_or_default();
            it["metadata"]["annotations"]["kube-vip.io/vipHost"] == node
                && it["status"]["loadBalancer"]["ingress"][0]["ip"] == format!("10.77.3.{number}")
        });
        assert!(fine, "{name} is not on {node}: {}", quorum.lab.api.kubectl(&words));
    };
    for (number, node) in [(1, "n1"), (2, "n2"), (3, "n3")] {
        quorum.lab.api.apply(&service(number, node));
    }
    for (number, node) in [(1, "n1"), (2, "n2"), (3, "n3")] {
        told(number, node);
    }
    quorum.lab.api.apply(&service(1, "n3"));
    told(1, "n3");
    quorum.lab.api.kubectl(&["delete", "service", "quorum-1", "quorum-2", "quorum-3"]);
    let gone = || {
        NODES.iter().all(|it| {
            let status = quorum.status(it).unwrap_or_default();
            status["vips"].as_array().is_some_and(|it| it.len() == 1)
        })
    };
    assert!(wait_for(LONG, gone), "some are left");
    "three of them, each on the node that serves it, and after it when that changes".into()
}

/// Something else elects by the same Lease.
fn rival_of_the_record(quorum: &mut Quorum<'_>) -> String {
    const LEASE: &str = "raft-rival";
    with_api(quorum, LEASE);
    quorum.lab.api.apply(&format!(
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\n\
         metadata: {{ name: {LEASE}, namespace: kube-system }}\n\
         spec: {{ holderIdentity: other, leaseDurationSeconds: 8, leaseTransitions: 4, \
         acquireTime: \"2026-01-02T03:04:05.000000Z\", renewTime: \"2026-01-02T03:04:05.000000Z\" }}\n"
    ));
    let (watch, roles) = quorum.settle();
    let since = clock::now();
    let named = |it: &Value| {
        let record = it["quorum"]["record"].as_str().unwrap_or_default();
        record.contains("is renewed by other")
    };
    quorum.status_is(&roles.holder, "names the other", named);
    let log = quorum.daemon(&roles.holder).log();
    assert_eq!(log.matches("other elects by the Lease").count(), 1, "{log}");
    let recorded = holder_is(quorum, LEASE, &roles.holder);
    assert_eq!(recorded["leaseTransitions"], 5, "{recorded}");
    let took = clock::now().saturating_since(since);
    assert!(took >= Duration::from_secs(4), "it does not wait: {took:?}");
    never_two(&watch, since);
    "the other is named, and waited for until its time is over".into()
}

/// The Node objects are the test's own.
struct Nodes<'a, 'b> {
    quorum: &'a Quorum<'b>,
}

impl Nodes<'_, '_> {
    fn add(&self, node: &str) {
        let api = &self.quorum.lab.api;
        api.apply(&format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: {node}\n  \
             labels: {{ node-role.kubernetes.io/control-plane: \"\" }}\n"
        ));
        let ip = format!("10.77.0.{}", host(node).number);
        let patch =
            format!(r#"{{"status":{{"addresses":[{{"type":"InternalIP","address":"{ip}"}}]}}}}"#);
        api.kubectl(&["patch", "node", node, "--subresource=status", "--type=merge", "-p", &patch]);
    }

    fn remove(&self, node: &str) {
        self.quorum.lab.api.kubectl(&["delete", "node", node, "--ignore-not-found"]);
    }

    /// Waits until these are the voters, and there are no other members.
    fn are_voters(&self, nodes: &[&str]) -> Duration {
        let wanted: BTreeSet<_> = nodes.iter().map(|it| (*it).to_owned()).collect();
        let began = clock::now();
        let mut last = Value::Null;
        let fine = wait_for(Duration::from_secs(60), || {
            last = self.quorum.status(nodes[0]).unwrap_or_default();
            let members = last["quorum"]["members"].as_array().cloned().unwrap_or_default();
            let voters = members.iter().filter(|it| it["role"] == "voter");
            let voters: BTreeSet<_> =
                voters.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect();
            voters == wanted && members.len() == nodes.len()
        });
        assert!(fine, "{nodes:?} are not the voters: {}", last["quorum"]);
        clock::now().saturating_since(began)
    }
}

fn members_from_nodes(quorum: &mut Quorum<'_>) -> String {
    const LEASE: &str = "raft-nodes";
    with_api(quorum, LEASE);
    quorum.set("vip_peers", "").set("vip_raft_members", "nodes");
    for node in NODES {
        Nodes { quorum }.add(node);
    }
    let (watch, roles) = quorum.settle();
    let founded = Nodes { quorum }.are_voters(&NODES);
    let cluster = |quorum: &Quorum<'_>, node: &str| {
        quorum.status(node).unwrap_or_default()["quorum"]["cluster"].clone()
    };
    let ours = cluster(quorum, "n1");
    let words = ["get", "lease", LEASE, "-n", "kube-system", "-o"];
    let words = [&words[..], &["jsonpath={.metadata.annotations.edgevip\\.io/cluster}"]].concat();
    let stands = quorum.lab.api.kubectl(&words);
    assert!(stands.contains("/founded/n"), "{stands}");

    // Who has lost its store is brought up to date, and founds nothing.
    let since = clock::now();
    let gap = Gap::begin(quorum.vip);
    let lost = NODES.into_iter().find(|it| *it != roles.holder).expect("three");
    quorum.kill(lost);
    fs::remove_dir_all(quorum.state(lost)).expect("it keeps something");
    quorum.start(lost);
    quorum.settled_on(&roles.holder);
    assert_eq!(cluster(quorum, lost), ours);

    // A Node that is gone is no member; another comes.
    let gone = NODES.into_iter().find(|it| ![lost, roles.holder.as_str()].contains(it));
    let gone = gone.expect("three");
    Nodes { quorum }.remove(gone);
    let left: Vec<_> = NODES.into_iter().filter(|it| *it != gone).collect();
    let removed = Nodes { quorum }.are_voters(&left);
    quorum.status_is(gone, "knows", |it| it["quorum"]["silent_because"].is_string());
    quorum.kill(gone);
    Nodes { quorum }.add("n4");
    quorum.start("n4");
    let added = Nodes { quorum }.are_voters(&[left[0], left[1], "n4"]);
    quorum.settled_on(&roles.holder);
    assert_eq!(cluster(quorum, "n4"), ours);

    // Without the API server all stays as it is.
    quorum.lab.api.pause();
    quorum.wait(Duration::from_secs(12));
    quorum.lab.api.resume();
    quorum.settled_on(&roles.holder);
    let said = nothing_lost(gap, &watch, since);
    Nodes { quorum }.remove("n4");
    let seconds = |it: Duration| it.as_secs();
    format!(
        "voters after {} s, removed after {} s, added after {} s; {said}",
        seconds(founded),
        seconds(removed),
        seconds(added)
    )
}
