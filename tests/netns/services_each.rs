//! A Lease for each Service.

use std::collections::BTreeSet;
use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap::{self, Gap};
use crate::lab::watch::Watch;
use crate::lab::{millis, wait_for};
use crate::outcome::{LEASE, LIFETIME, Lost, SLACK, never_two};
use crate::services::{
    SOON, addresses_left, at, endpoints, forget, forget_many, full, many, service, serving, told,
    told_of,
};

pub const SCENARIOS: &[Scenario] = &[
    ("svc_each_alone", svc_each_alone),
    ("svc_each_killed", svc_each_killed),
    ("svc_each_local", svc_each_local),
    ("svc_each_shared", svc_each_shared),
    ("svc_each_many", svc_each_many),
    ("svc_each_on_demand", svc_each_on_demand),
];

fn each(cluster: &mut Cluster<'_>) {
    serving(cluster);
    cluster.set("svc_election", "true");
}

/// One that moves does not take the others along, and loses nothing.
fn svc_each_alone(cluster: &mut Cluster<'_>) -> String {
    each(cluster);
    cluster.start("n1");
    let (watch, there) = (Watch::begin(cluster.vip), Watch::begin(cluster.vip6));
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    watch.only("n1", SOON);
    told(cluster, "web", "n1");
    cluster.start("n2");
    cluster.status_is("n2", "waits", |it| it["role"] == "follower");
    let vip6 = cluster.vip6.to_string();
    cluster.lab.api.apply(&at(&service(cluster, "mail", "", &["n2"]), &vip6, cluster.vip));
    let other = there.someone(SOON);
    told_of(cluster, "mail", &other, cluster.vip6);
    for (name, holder) in [("web", "n1"), ("mail", &other)] {
        let lease = lease(cluster, name);
        assert_eq!(lease["spec"]["holderIdentity"], holder, "{lease}");
        assert_eq!(lease["metadata"]["ownerReferences"][0]["kind"], "Service", "{lease}");
    }
    gap::reachable(cluster.vip, SOON);
    let since = clock::now();
    let gap = Gap::begin(cluster.vip);
    cluster.signal("n1", Signal::SIGTERM);
    watch.only("n2", SOON);
    std::thread::sleep(Duration::from_secs(1));
    let seen = gap.end();
    assert_eq!(seen.lost, 0, "{}", Lost(seen));
    told(cluster, "web", "n2");
    there.only("n2", SOON);
    never_two(&watch, since);
    never_two(&there, since);
    forget(cluster, &["web", "mail"]);
    watch.nobody(SOON);
    format!("a stop: {}", Lost(seen))
}

fn svc_each_killed(cluster: &mut Cluster<'_>) -> String {
    each(cluster);
    cluster.start("n1");
    let watch = Watch::begin(cluster.vip);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n1", "n2"]));
    watch.only("n1", SOON);
    cluster.start("n2");
    cluster.status_is("n2", "follows", |it| it["services"]["services"][0]["holder"] == "n1");
    let since = clock::now();
    cluster.kill("n1");
    let until = watch.only("n2", LEASE + LIFETIME + SLACK + SOON);
    told(cluster, "web", "n2");
    never_two(&watch, since);
    forget(cluster, &["web"]);
    format!("answered for by another {} ms after the kill", millis(until.saturating_since(since)))
}

/// Only a node where it is served stands for it, and it follows where that is.
fn svc_each_local(cluster: &mut Cluster<'_>) -> String {
    each(cluster);
    let local = "externalTrafficPolicy: Local";
    cluster.start("n1");
    cluster.start("n2");
    for node in ["n1", "n2"] {
        cluster.status_is(node, "reads", |it| it["services"]["known"] == true);
    }
    let watch = Watch::begin(cluster.vip);
    let since = clock::now();
    cluster.lab.api.apply(&service(cluster, "web", local, &["n2"]));
    watch.only("n2", SOON);
    cluster.lab.api.apply(&endpoints(cluster, "web", &["n1"], true));
    watch.only("n1", SOON);
    told(cluster, "web", "n1");
    never_two(&watch, since);
    forget(cluster, &["web"]);
    "follows its endpoints".into()
}

/// Two that share an address are elected together, or the second is refused.
fn svc_each_shared(cluster: &mut Cluster<'_>) -> String {
    each(cluster);
    cluster.start("n1");
    let watch = Watch::begin(cluster.vip);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    watch.only("n1", SOON);
    told(cluster, "web", "n1");
    let mail = service(cluster, "mail", "", &["n2"]).replace("port: 80,", "port: 25,");
    cluster.lab.api.apply(&mail);
    let of = |it: &Value, name: &str| -> Value {
        let all = it["services"]["services"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|it| it["name"].as_str().is_some_and(|it| it.ends_with(name))).into()
    };
    cluster.status_is("n1", "refuses the second", |it| {
        of(it, "mail")["why"].as_str().is_some_and(|it| it.contains("leaseName"))
    });
    let together = |yaml: &str| {
        yaml.replacen("annotations: {", "annotations: { kube-vip.io/leaseName: pair,", 1)
    };
    cluster.lab.api.apply(&together(&service(cluster, "web", "", &["n2"])));
    cluster.lab.api.apply(&together(&mail));
    told(cluster, "mail", "n1");
    let pair = cluster.lab.api.kubectl(&["get", "lease", "pair", "-o", "json"]);
    let pair: Value = serde_json::from_str(&pair).unwrap_or_default();
    assert_eq!(pair["spec"]["holderIdentity"], "n1", "{pair}");
    forget(cluster, &["web", "mail"]);
    watch.nobody(SOON);
    "together by one Lease, refused by two".into()
}

fn svc_each_many(cluster: &mut Cluster<'_>) -> String {
    const MANY: usize = 30;
    each(cluster);
    for node in ["n1", "n2", "n3"] {
        cluster.start(node);
        cluster.status_is(node, "reads", |it| it["services"]["known"] == true);
    }
    many(cluster, MANY);
    let since = clock::now();
    let answered = || {
        let of = |node: &str| {
            let status = cluster.status(node).unwrap_or_default();
            let all = status["vips"].as_array().cloned().unwrap_or_default();
            let answers = all.into_iter().filter(|it| it["state"] == "answering");
            answers.map(|it| it["vip"].to_string()).collect::<Vec<_>>()
        };
        ["n1", "n2", "n3"].map(of)
    };
    let fine = wait_for(SOON, || answered().iter().map(Vec::len).sum::<usize>() == MANY);
    let all = answered();
    assert!(fine, "{:?}: {}", all.each_ref().map(Vec::len), cluster.daemon("n1").log());
    let took = millis(clock::now().saturating_since(since));
    assert_eq!(all.iter().flatten().collect::<BTreeSet<_>>().len(), MANY, "two answer");
    forget_many(cluster, MANY);
    for node in ["n1", "n2", "n3"] {
        cluster.status_within(node, "has none", SOON, |it| it["vips"] == Value::Array(Vec::new()));
        assert_eq!(addresses_left(node, MANY), 0, "{node}");
    }
    let [n1, n2, n3] = all.map(|it| it.len());
    format!(
        "{MANY} answered for {took} ms after the last was made, {n1}, {n2} and {n3} of them by each node"
    )
}

fn lease(cluster: &Cluster<'_>, name: &str) -> Value {
    let name = format!("kubevip-{}", full(name, cluster));
    let text = cluster.lab.api.kubectl(&["get", "lease", &name, "-o", "json"]);
    serde_json::from_str(&text).expect("JSON")
}

/// One Lease for all, and one of its own for who asks for that, now or later.
fn svc_each_on_demand(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.set("per_service_election_on_demand", "true");
    let asks = "kube-vip.io/forcePerServiceElection";
    let (watch, there) = (Watch::begin(cluster.vip), Watch::begin(cluster.vip6));
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    let vip6 = cluster.vip6.to_string();
    let mail = at(&service(cluster, "mail", "", &["n2"]), &vip6, cluster.vip);
    let annotation = "annotations: {";
    let forced = format!("{annotation} {asks}: \"true\", ");
    cluster.lab.api.apply(&mail.replace(annotation, &forced));
    watch.only("n1", SOON);
    there.only("n1", SOON);
    told_of(cluster, "mail", "n1", cluster.vip6);
    assert_eq!(lease(cluster, "mail")["spec"]["holderIdentity"], "n1");
    cluster.start("n2");
    cluster.follows("n2", "n1");
    // It stops to ask, and asks again: whoever it hangs on answers, and nobody beside.
    let since = clock::now();
    let name = full("mail", cluster);
    cluster.lab.api.kubectl(&["annotate", "service", &name, &format!("{asks}-")]);
    there.only("n1", SOON);
    cluster.lab.api.kubectl(&["annotate", "service", &name, &format!("{asks}=true")]);
    let fine = wait_for(SOON, || lease(cluster, "mail")["spec"]["holderIdentity"] != "");
    assert!(fine, "{}", lease(cluster, "mail"));
    let holder = there.someone(SOON);
    // Both move when their node stops.
    cluster.signal("n1", Signal::SIGTERM);
    watch.only("n2", SOON);
    there.only("n2", SOON + SOON);
    told(cluster, "web", "n2");
    told_of(cluster, "mail", "n2", cluster.vip6);
    never_two(&watch, since);
    never_two(&there, since);
    forget(cluster, &["web", "mail"]);
    format!("one of its own for who asks for it, held by {holder} after it asked again")
}
