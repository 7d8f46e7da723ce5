//! Services of type LoadBalancer, from the object to the wire.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap::{self, Gap};
use crate::lab::net::{has_address, ip_in};
use crate::lab::watch::Watch;
use crate::lab::{millis, wait_for};
use crate::outcome::{LEASE, LIFETIME, Lost, SLACK, never_two, takeover};

pub const SCENARIOS: &[Scenario] = &[
    ("svc_begins_and_ends", svc_begins_and_ends),
    ("svc_beside_the_control_plane", svc_beside_the_control_plane),
    ("svc_handed_over", svc_handed_over),
    ("svc_killed", svc_killed),
    ("svc_local", svc_local),
    ("svc_shared", svc_shared),
    ("svc_refused", svc_refused),
    ("svc_overwritten", svc_overwritten),
    ("svc_many", svc_many),
    ("svc_pools", svc_pools),
    ("svc_pools_in_use", svc_pools_in_use),
    ("svc_api_restarted", svc_api_restarted),
];

/// What the peer's cloud provider may do, and its load balancer may not.
const MAY_READ_POOLS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: edgevip-pools }
rules:
- { apiGroups: [''], resources: [configmaps], verbs: [get, list, watch] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: edgevip-pools }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edgevip-pools }
subjects: [{ kind: ServiceAccount, name: kube-vip, namespace: kube-system }]
";

pub const SOON: Duration = Duration::from_secs(10);
const HOST: &str = "kube-vip.io/vipHost";
pub const ADDRESSES: &str = "kube-vip.io/loadbalancerIPs";

fn svc_begins_and_ends(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let since = clock::now();
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    watch.only("n1", SOON);
    let took = millis(clock::now().saturating_since(since));
    told(cluster, "web", "n1");
    let it = object(cluster, "web");
    let ingress = &it["status"]["loadBalancer"]["ingress"];
    assert_eq!(ingress[0]["ports"][0]["port"], 80, "{ingress}");
    assert!(ingress[1].is_null(), "{ingress}");
    forget(cluster, &["web"]);
    watch.nobody(SOON);
    let vip = cluster.vip.to_string();
    assert!(wait_for(SOON, || !has_address("n1", &vip)), "the address stays");
    cluster.status_is("n1", "has none", |it| it["vips"] == Value::Array(Vec::new()));
    format!("answers {took} ms after kubectl was started; gone with its object")
}

fn svc_beside_the_control_plane(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.set("cp_enable", "true");
    let (of_services, vip6) = (cluster.vip6, cluster.vip6.to_string());
    let watch = cluster.settle("n1", &["n2"]);
    let there = Watch::begin(of_services);
    cluster.lab.api.apply(&at(&service(cluster, "web", "", &["n2"]), &vip6, cluster.vip));
    let holder = there.someone(SOON);
    told_of(cluster, "web", &holder, of_services);
    let since = clock::now();
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    there.only("n2", SOON);
    told_of(cluster, "web", "n2", of_services);
    never_two(&watch, since);
    never_two(&there, since);
    forget(cluster, &["web"]);
    format!("both move with a stop: {outcome}")
}

fn svc_handed_over(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n1", "n2"]));
    let watch = cluster.settle("n1", &["n2"]);
    told(cluster, "web", "n1");
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.signal("n1", Signal::SIGTERM));
    assert_eq!(outcome.seen.lost, 0, "{outcome}");
    told(cluster, "web", "n2");
    never_two(&watch, outcome.since);
    forget(cluster, &["web"]);
    outcome.to_string()
}

fn svc_killed(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n1", "n2"]));
    let watch = cluster.settle("n1", &["n2"]);
    let outcome = takeover(cluster, &watch, "n1", |it| _ = it.kill("n1"));
    told(cluster, "web", "n2");
    never_two(&watch, outcome.since);
    forget(cluster, &["web"]);
    outcome.to_string()
}

/// The holder answers only while an endpoint serves on it; what ends still serves.
fn svc_local(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    let local = "externalTrafficPolicy: Local";
    cluster.lab.api.apply(&service(cluster, "web", local, &["n2"]));
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    cluster.status_is("n1", "says why not", |it| it["vips"][0]["code"] == "not-served-here");
    watch.nobody(SOON);
    cluster.lab.api.apply(&endpoints(cluster, "web", &["n1"], true));
    watch.only("n1", SOON);
    gap::reachable(cluster.vip, SOON);
    let gap = Gap::begin(cluster.vip);
    cluster.lab.api.apply(&endpoints(cluster, "web", &["n1"], false));
    std::thread::sleep(Duration::from_secs(2));
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "an endpoint that ends still serves: {}", Lost(seen));
    cluster.lab.api.apply(&endpoints(cluster, "web", &[], true));
    watch.nobody(SOON);
    forget(cluster, &["web"]);
    "begins with a ready endpoint, stays with one that ends, and is over without".into()
}

fn svc_shared(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    let watch = Watch::begin(cluster.vip);
    cluster.start("n1");
    cluster.lab.api.apply(&service(cluster, "one", "", &["n2"]));
    watch.only("n1", SOON);
    told(cluster, "one", "n1");
    cluster.lab.api.apply(&service(cluster, "two", "", &["n2"]));
    let code = |it: &Value, name: &str| -> Value {
        let all = it["services"]["services"].as_array().cloned().unwrap_or_default();
        let of = |it: &&Value| it["name"].as_str().is_some_and(|it| it.ends_with(name));
        all.iter().find(of).map(|it| it["code"].clone()).unwrap_or_default()
    };
    cluster.status_is("n1", "refuses", |it| code(it, "two") == "address-shared");
    let other = service(cluster, "two", "", &["n2"]).replace("port: 80", "port: 443");
    cluster.lab.api.apply(&other);
    told(cluster, "two", "n1");
    gap::reachable(cluster.vip, SOON);
    let gap = Gap::begin(cluster.vip);
    forget(cluster, &["one"]);
    std::thread::sleep(Duration::from_secs(1));
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}", Lost(seen));
    forget(cluster, &["two"]);
    watch.nobody(SOON);
    format!("by ports; when one goes the other is not cut off: {}", Lost(seen))
}

/// What is written on one Service stops no other.
fn svc_refused(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.start("n1");
    let vip = cluster.vip.to_string();
    for (name, value) in [("bad1", "10.77.0.999"), ("bad2", "10.77.0.9/24"), ("bad3", "a..example")]
    {
        let bad = service(cluster, name, "", &["n2"]).replace(&vip, value);
        cluster.lab.api.apply(&bad);
    }
    let classed = service(cluster, "other", "loadBalancerClass: example.com/x", &["n2"]);
    cluster.lab.api.apply(&classed);
    let watch = Watch::begin(cluster.vip);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    watch.only("n1", SOON);
    told(cluster, "web", "n1");
    cluster.status_is("n1", "names them", |it| {
        let all = it["services"]["services"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|it| it["code"] == "unreadable").count() == 3
    });
    let it = object(cluster, "other");
    assert!(it["status"]["loadBalancer"]["ingress"].is_null(), "{it}");
    forget(cluster, &["bad1", "bad2", "bad3", "other", "web"]);
    "three that cannot be read and one of another class; the good one answers".into()
}

fn svc_overwritten(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    let _watch = cluster.settle("n1", &[]);
    told(cluster, "web", "n1");
    let name = full("web", cluster);
    let patch = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"10.77.0.99"}]}}}"#;
    let wrong =
        ["patch", "service", &name, "--subresource", "status", "--type", "merge", "-p", patch];
    cluster.lab.api.kubectl(&wrong);
    told(cluster, "web", "n1");
    cluster.status_is("n1", "answers", |it| it["vips"][0]["state"] == "answering");
    forget(cluster, &["web"]);
    "put right".into()
}

fn svc_many(cluster: &mut Cluster<'_>) -> String {
    const MANY: usize = 40;
    serving(cluster);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    many(cluster, MANY);
    let since = clock::now();
    cluster.status_within("n1", "answers for all", SOON, |it| {
        let all = it["vips"].as_array().cloned().unwrap_or_default();
        all.len() == MANY && all.iter().all(|it| it["state"] == "answering")
    });
    let took = millis(clock::now().saturating_since(since));
    let fine = wait_for(SOON, || {
        let words = ["get", "services", "-l", "scenario=services", "-o", "json"];
        let all: Value = serde_json::from_str(&cluster.lab.api.kubectl(&words)).unwrap_or_default();
        let all = all["items"].as_array().cloned().unwrap_or_default();
        let is_told = |it: &&Value| !it["status"]["loadBalancer"]["ingress"].is_null();
        all.iter().filter(is_told).count() == MANY
    });
    assert!(fine, "not all are told: {}", cluster.daemon("n1").log());
    forget_many(cluster, MANY);
    cluster.status_within("n1", "has none", SOON, |it| it["vips"] == Value::Array(Vec::new()));
    assert_eq!(addresses_left("n1", MANY), 0);
    format!("{MANY} answered for {took} ms after the last was made; none left")
}

/// Makes so many Services at once, each with an address of its own.
pub fn many(cluster: &Cluster<'_>, count: usize) {
    let vip = cluster.vip.to_string();
    let one = |number| {
        let yaml = service(cluster, &format!("many{number}"), "", &["n2"]);
        yaml.replace(&vip, &address_of_many(number))
    };
    cluster.lab.api.apply(&(0..count).map(one).collect::<Vec<_>>().join("---\n"));
}

fn address_of_many(number: usize) -> String {
    format!("10.77.1.{}", number + 1)
}

pub fn forget_many(cluster: &Cluster<'_>, count: usize) {
    let names: Vec<_> = (0..count).map(|number| format!("many{number}")).collect();
    forget(cluster, &names.iter().map(String::as_str).collect::<Vec<_>>());
}

/// How many of their addresses a node still has.
pub fn addresses_left(node: &str, count: usize) -> usize {
    (0..count).filter(|it| has_address(node, &address_of_many(*it))).count()
}

/// Addresses out of the ConfigMap's pools: one each, none twice, and again once they are free.
fn svc_pools(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    pools(cluster, "cidr-global: 10.77.2.0/30\n  range-other: 10.77.2.20-10.77.2.21");
    for node in ["n1", "n2"] {
        cluster.start(node);
    }
    // A /30 has four addresses; those that end in 0 are nobody's.
    for name in ["one", "two", "three", "four"] {
        cluster.lab.api.apply(&unasked(cluster, name));
    }
    let had: BTreeSet<_> =
        ["one", "two", "three"].map(|it| allocated(cluster, it)).into_iter().collect();
    let all = ["10.77.2.1", "10.77.2.2", "10.77.2.3"].map(str::to_owned);
    assert_eq!(had, BTreeSet::from(all));
    let four = full("four", cluster);
    let exhausted = || {
        ["n1", "n2"].iter().any(|node| {
            let status = cluster.status(node).unwrap_or_default();
            status["services"]["services"].to_string().contains("pool-exhausted")
        })
    };
    assert!(wait_for(SOON, exhausted), "nobody says that nothing is left");
    let held = cluster.status("n1").expect("it runs")["services"]["pools"].to_string();
    assert!(held.contains("10.77.2.3"), "{held}");
    forget(cluster, &["one"]);
    pools(cluster, "cidr-global: 10.77.2.0/29");
    let fourth = allocated(cluster, "four");
    assert_eq!(fourth, "10.77.2.4", "what was freed rests");
    let it: Value =
        serde_json::from_str(&cluster.lab.api.kubectl(&["get", "service", &four, "-o", "json"]))
            .expect("JSON");
    assert_eq!(it["spec"]["loadBalancerIP"], fourth.as_str());
    assert_eq!(it["metadata"]["labels"]["implementation"], "kube-vip");
    let watch = Watch::begin(fourth.parse().expect("an address"));
    watch.someone(SOON);
    forget(cluster, &["two", "three", "four"]);
    no_pools(cluster);
    "three of a /30, the fourth waits, and gets one when the pool grows".into()
}

/// What a stranger or a node uses is not given out.
fn svc_pools_in_use(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    ip_in("stranger", "addr add 10.77.2.33/16 dev eth0");
    pools(cluster, "range-global: 10.77.2.33-10.77.2.40");
    cluster.start("n1");
    cluster.status_is("n1", "has heard the stranger", |it| {
        it["services"]["pools"].to_string().contains("10.77.2.33")
    });
    cluster.lab.api.apply(&unasked(cluster, "web"));
    let ip = allocated(cluster, "web");
    assert_eq!(ip, "10.77.2.34");
    forget(cluster, &["web"]);
    no_pools(cluster);
    ip_in("stranger", "addr del 10.77.2.33/16 dev eth0");
    "a stranger's address is passed over".into()
}

/// Objects that change while the API server is away are seen when it is back.
fn svc_api_restarted(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    let watch = cluster.settle("n1", &[]);
    cluster.lab.api.kill();
    watch.nobody(LEASE + LIFETIME + SLACK);
    cluster.lab.api.restart();
    watch.only("n1", SOON + SOON);
    forget(cluster, &["web"]);
    watch.nobody(SOON + SOON);
    "back with the API server; a deletion after it is seen".into()
}

/// Daemons that serve Services and nothing else.
pub fn serving(cluster: &mut Cluster<'_>) {
    let lease = format!("{}-svcs", cluster.lease);
    cluster.set("cp_enable", "false").set("svc_enable", "true").set("svc_leasename", &lease);
    let names =
        cluster.lab.api.kubectl(&["get", "services", "-l", "scenario=services", "-o", "name"]);
    for name in names.lines() {
        cluster.lab.api.kubectl(&["delete", name]);
    }
}

pub fn full(name: &str, cluster: &Cluster<'_>) -> String {
    format!("{}-{name}", cluster.lease.replace('_', "-"))
}

/// A Service that asks for the VIP, and who serves it.
pub fn service(cluster: &Cluster<'_>, name: &str, more: &str, nodes: &[&str]) -> String {
    let (full, vip) = (full(name, cluster), cluster.vip);
    let families = "ipFamilies: [IPv4]";
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {full}\n  \
         labels: {{ scenario: services }}\n  \
         annotations: {{ kube-vip.io/loadbalancerIPs: \"{vip}\" }}\nspec:\n  \
         type: LoadBalancer\n  {families}\n  {more}\n  \
         ports: [{{ name: p, port: 80, protocol: TCP }}]\n"
    );
    format!("{service}---\n{}", endpoints(cluster, name, nodes, true))
}

/// A Service that asks for no address.
pub fn unasked(cluster: &Cluster<'_>, name: &str) -> String {
    let asks = format!("annotations: {{ kube-vip.io/loadbalancerIPs: \"{}\" }}", cluster.vip);
    service(cluster, name, "", &["n2"]).replace(&asks, "annotations: {}")
}

pub fn pools(cluster: &Cluster<'_>, data: &str) {
    cluster.lab.api.apply(MAY_READ_POOLS);
    cluster.lab.api.apply(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: kubevip, namespace: kube-system }}\n\
         data:\n  {data}\n"
    ));
}

pub fn no_pools(cluster: &Cluster<'_>) {
    cluster.lab.api.kubectl(&["-n", "kube-system", "delete", "configmap", "kubevip"]);
}

/// Waits until the Service was given an address; returns it.
fn allocated(cluster: &Cluster<'_>, name: &str) -> String {
    let mut ip = String::new();
    let fine = wait_for(SOON + SOON, || {
        let it = object(cluster, name);
        let given = it["metadata"]["annotations"][ADDRESSES].as_str().unwrap_or_default();
        ip = given.to_owned();
        !ip.is_empty()
    });
    assert!(fine, "{name} got no address: {}", cluster.daemon("n1").log());
    ip
}

/// Who serves it; all ready, or all about to end.
pub fn endpoints(cluster: &Cluster<'_>, name: &str, nodes: &[&str], ready: bool) -> String {
    let full = full(name, cluster);
    let one = |(number, node): (usize, &&str)| {
        format!(
            "- addresses: [10.244.0.{}]\n  nodeName: {node}\n  \
             conditions: {{ ready: {ready}, serving: true, terminating: {} }}\n",
            number + 1,
            !ready
        )
    };
    let all: String = nodes.iter().enumerate().map(one).collect();
    let all =
        if all.is_empty() { "endpoints: []\n".to_owned() } else { format!("endpoints:\n{all}") };
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {full}-1\n  \
         labels: {{ kubernetes.io/service-name: {full}, scenario: services }}\n\
         addressType: IPv4\nports: [{{ name: p, port: 8080, protocol: TCP }}]\n{all}"
    )
}

/// The same for another address, of IPv6.
pub fn at(yaml: &str, ip: &str, instead_of: IpAddr) -> String {
    yaml.replace(&instead_of.to_string(), ip)
}

pub fn object(cluster: &Cluster<'_>, name: &str) -> Value {
    let name = full(name, cluster);
    let text = cluster.lab.api.kubectl(&["get", "service", &name, "-o", "json"]);
    serde_json::from_str(&text).expect("JSON")
}

/// Waits until the Service says who answers, and where.
pub fn told(cluster: &Cluster<'_>, name: &str, by: &str) {
    told_of(cluster, name, by, cluster.vip);
}

pub fn told_of(cluster: &Cluster<'_>, name: &str, by: &str, ip: IpAddr) {
    let fine = wait_for(SOON, || {
        let it = object(cluster, name);
        let ingress = &it["status"]["loadBalancer"]["ingress"][0]["ip"];
        it["metadata"]["annotations"][HOST] == by && *ingress == ip.to_string()
    });
    let it = object(cluster, name);
    assert!(fine, "not told by {by}: {it}\n{}", cluster.daemon(by).log());
}

pub fn forget(cluster: &Cluster<'_>, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|it| full(it, cluster)).collect();
    let mut words = vec!["delete", "service", "--ignore-not-found"];
    words.extend(names.iter().map(String::as_str));
    cluster.lab.api.kubectl(&words);
    let slices: Vec<_> = names.iter().map(|it| format!("{it}-1")).collect();
    let mut words = vec!["delete", "endpointslice", "--ignore-not-found"];
    words.extend(slices.iter().map(String::as_str));
    cluster.lab.api.kubectl(&words);
}
