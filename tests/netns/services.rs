//! Services of type LoadBalancer, from the object to the wire.

use std::net::IpAddr;
use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap::{self, Gap};
use crate::lab::net::has_address;
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
    ("svc_api_restarted", svc_api_restarted),
];

const SOON: Duration = Duration::from_secs(10);
const HOST: &str = "kube-vip.io/vipHost";

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
    for (name, value) in [("bad1", "10.77.0.999"), ("bad2", "10.77.0.9/24"), ("bad3", "a.example")]
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
    const MANY: usize = 100;
    serving(cluster);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let vip = cluster.vip.to_string();
    let name = |number| format!("many{number}");
    let all: Vec<_> = (0..MANY)
        .map(|number| {
            let ip = format!("10.77.1.{}", number + 1);
            service(cluster, &name(number), "", &["n2"]).replace(&vip, &ip)
        })
        .collect();
    cluster.lab.api.apply(&all.join("---\n"));
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
    let names: Vec<_> = (0..MANY).map(name).collect();
    forget(cluster, &names.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.status_within("n1", "has none", SOON, |it| it["vips"] == Value::Array(Vec::new()));
    let left = (0..MANY).filter(|it| has_address("n1", &format!("10.77.1.{}", it + 1)));
    assert_eq!(left.count(), 0);
    format!("{MANY} answered for {took} ms after the last was made; none left")
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
fn serving(cluster: &mut Cluster<'_>) {
    let lease = format!("{}-svcs", cluster.lease);
    cluster.set("cp_enable", "false").set("svc_enable", "true").set("svc_leasename", &lease);
    let names =
        cluster.lab.api.kubectl(&["get", "services", "-l", "scenario=services", "-o", "name"]);
    for name in names.lines() {
        cluster.lab.api.kubectl(&["delete", name]);
    }
}

fn full(name: &str, cluster: &Cluster<'_>) -> String {
    format!("{}-{name}", cluster.lease.replace('_', "-"))
}

/// A Service that asks for the VIP, and who serves it.
fn service(cluster: &Cluster<'_>, name: &str, more: &str, nodes: &[&str]) -> String {
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

/// Who serves it; all ready, or all about to end.
fn endpoints(cluster: &Cluster<'_>, name: &str, nodes: &[&str], ready: bool) -> String {
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
fn at(yaml: &str, ip: &str, instead_of: IpAddr) -> String {
    yaml.replace(&instead_of.to_string(), ip)
}

fn object(cluster: &Cluster<'_>, name: &str) -> Value {
    let name = full(name, cluster);
    let text = cluster.lab.api.kubectl(&["get", "service", &name, "-o", "json"]);
    serde_json::from_str(&text).expect("JSON")
}

/// Waits until the Service says who answers, and where.
fn told(cluster: &Cluster<'_>, name: &str, by: &str) {
    told_of(cluster, name, by, cluster.vip);
}

fn told_of(cluster: &Cluster<'_>, name: &str, by: &str, ip: IpAddr) {
    let fine = wait_for(SOON, || {
        let it = object(cluster, name);
        let ingress = &it["status"]["loadBalancer"]["ingress"][0]["ip"];
        it["metadata"]["annotations"][HOST] == by && *ingress == ip.to_string()
    });
    let it = object(cluster, name);
    assert!(fine, "not told by {by}: {it}\n{}", cluster.daemon(by).log());
}

fn forget(cluster: &Cluster<'_>, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|it| full(it, cluster)).collect();
    let mut words = vec!["delete", "service", "--ignore-not-found"];
    words.extend(names.iter().map(String::as_str));
    cluster.lab.api.kubectl(&words);
    let slices: Vec<_> = names.iter().map(|it| format!("{it}-1")).collect();
    let mut words = vec!["delete", "endpointslice", "--ignore-not-found"];
    words.extend(slices.iter().map(String::as_str));
    cluster.lab.api.kubectl(&words);
}
