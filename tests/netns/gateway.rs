//! Services that are reached through the site's gateway: a real miniupnpd in secure mode, and
//! clients outside.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use edgevip::io::{clock, gateway};
use edgevip::model::{
    Exposed, GatewayCall, GatewayReply, Granted, Protocol, ServicePort, Vip, Way,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::net::{has_address, inside, join};
use crate::lab::router::{CLAIMED, OUTSIDE, Router, Speaks};
use crate::lab::{millis, wait_for};
use crate::services::{SOON, at, forget, full, object, service, serving, told};

pub const SCENARIOS: &[Scenario] = &[
    ("gateway_upnp", |it| exposed(it, Speaks::Upnp, "UPnP")),
    ("gateway_pcp", |it| exposed(it, Speaks::All, "PCP")),
    ("gateway_ipv6_pcp", |it| exposed_v6(it, Speaks::All, "PCP")),
    ("gateway_ipv6_upnp", |it| exposed_v6(it, Speaks::Upnp, "UPnP pinholes")),
    ("gateway_lease_each", lease_each),
    ("gateway_edge", edge),
];

/// Longer than the gateway is looked at, and a lease.
const WHILE: Duration = Duration::from_secs(30);
const ANNOTATION: &str = "edgevip.io/gateway-addresses";

/// The account of kube-vip's documentation may not write Events.
const MAY_WRITE_EVENTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: edgevip-service-events, namespace: default }
rules: [{ apiGroups: [''], resources: [events], verbs: [create] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: edgevip-service-events, namespace: default }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: edgevip-service-events }
subjects: [{ kind: ServiceAccount, name: kube-vip, namespace: kube-system }]
";

/// From the Service to a client outside, by whatever way the gateway offers.
fn exposed(cluster: &mut Cluster<'_>, speaks: Speaks, way: &str) -> String {
    serving(cluster);
    cluster.set("enable_upnp", "true");
    cluster.lab.api.apply(MAY_WRITE_EVENTS);
    let mut router = Router::start(speaks);
    let _backends = ["n1", "n2"].map(|node| {
        router.serve(node);
        Backend::start(node, 80)
    });
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let since = clock::now();
    cluster.lab.api.apply(&asking(cluster, "web", 80));
    mapped(cluster, "n1", "web", way);
    let took = millis(clock::now().saturating_since(since));
    let vip = cluster.vip.to_string();
    assert!(router.rules().contains(&vip), "{}", router.rules());
    assert_eq!(router.fetch(OUTSIDE, 80), "n1");
    told(cluster, "web", "n1");
    status_has(cluster, "web", &[&vip, CLAIMED]);
    assert_eq!(object(cluster, "web")["metadata"]["annotations"][ANNOTATION], CLAIMED);
    event(cluster, "web", "PortsMapped");

    let conflict = taken(cluster, "second", 81);

    // A lease is 20 s: what is there after it has passed was renewed.
    thread::sleep(WHILE);
    assert_eq!(router.fetch(OUTSIDE, 80), "n1", "not renewed: {}", router.rules());

    let since = clock::now();
    router.forget();
    reached(&router, cluster, "n1", "not mapped again");
    let again = millis(clock::now().saturating_since(since));

    cluster.start("n2");
    cluster.follows("n2", "n1");
    cluster.kill("n1");
    reached(&router, cluster, "n2", "not taken over");
    mapped(cluster, "n2", "web", way);
    told(cluster, "web", "n2");
    status_has(cluster, "web", &[&vip, CLAIMED]);

    cluster.start("n1");
    cluster.follows("n1", "n2");
    cluster.signal("n2", Signal::SIGTERM);
    cluster.ended("n2", SOON);
    let rules = router.rules();
    assert!(rules.contains(&format!("{vip}:80")), "closed by a stop: {rules}");
    reached(&router, cluster, "n1", "not handed over");
    mapped(cluster, "n1", "web", way);

    forget(cluster, &["web"]);
    let closed = wait_for(SOON, || !router.rules().contains(&format!("{vip}:80")));
    assert!(closed, "{}\n{}", router.rules(), cluster.daemon("n1").log());
    assert!(router.rules().contains(&format!("{vip}:81")), "{}", router.rules());
    // With the last of them the address goes, but not before its port is closed.
    forget(cluster, &["second"]);
    let closed = wait_for(SOON, || !router.rules().contains(&vip));
    assert!(closed, "{}\n{}", router.rules(), cluster.daemon("n1").log());
    assert!(wait_for(SOON, || !has_address("n1", &vip)), "the address stays");
    format!(
        "by {way}: reached from outside {took} ms after it was asked for, {again} ms after the \
         gateway forgot; kept when the holder is killed or \
         stops, closed on delete; {conflict}"
    )
}

/// Somebody else has the port: the Service is told, and gets it when it is free.
fn taken(cluster: &mut Cluster<'_>, name: &str, port: u16) -> String {
    let stranger = IpAddr::from([10, 77, 0, 66]);
    let exposed = exposed_at(stranger, port);
    let call = |call| inside("stranger", || gateway::answer(call));
    let way = found(stranger);
    let (nonce, owner) = ([7; 12], "stranger".to_owned());
    let map = GatewayCall::Map { way: way.clone(), exposed, lease: 600, nonce, name: owner };
    let reply = call(map);
    assert!(matches!(reply, Ok(GatewayReply::Mapped(_))), "{reply:?}");
    cluster.lab.api.apply(&asking(cluster, name, port));
    let of = |it: &Value| mapping(it, &full(name, cluster))["code"] == "port-taken";
    cluster.status_within("n1", "says that the port is taken", WHILE, of);
    event(cluster, name, "PortTaken");
    let words = mapping(&cluster.status("n1").unwrap_or_default(), &full(name, cluster));
    let reply = call(GatewayCall::Unmap { way, exposed, nonce, pinhole: None });
    assert_eq!(reply, Ok(GatewayReply::Unmapped));
    words["why"].to_string()
}

/// An address of IPv6 is let through under its own name.
fn exposed_v6(cluster: &mut Cluster<'_>, speaks: Speaks, way: &str) -> String {
    /// UPnP opens no well-known port of IPv6 to whom it does not know.
    const PORT: u16 = 8080;
    serving(cluster);
    cluster.set("enable_upnp", "true");
    let mut router = Router::start(speaks);
    router.serve("n1");
    let _backend = Backend::start("n1", PORT);
    cluster.start("n1");
    let vip = cluster.vip6.to_string();
    let host = format!("[{vip}]");
    cluster.lab.api.apply(&at(&asking(cluster, "web", PORT), &vip, cluster.vip));
    let name = full("web", cluster);
    cluster.status_within("n1", "has it mapped", WHILE, |it| {
        let it = mapping(it, &name);
        it["mapped"] == true && it["way"] == way && it["external"].is_null()
    });
    let reached = |router: &Router| wait_for(WHILE, || router.fetch(&host, PORT) == "n1");
    assert!(reached(&router), "{}\n{}", router.rules(), cluster.daemon("n1").log());
    assert_eq!(router.fetch(&host, 81), "");
    thread::sleep(WHILE);
    assert!(reached(&router), "not renewed: {}", router.rules());
    let since = clock::now();
    router.forget();
    assert!(reached(&router), "{}\n{}", router.rules(), cluster.daemon("n1").log());
    let again = millis(clock::now().saturating_since(since));
    status_has(cluster, "web", &[&vip]);
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || !has_address("n1", &vip)), "the address stays");
    let rules = router.rules();
    assert!(!rules.contains(&format!("dport {PORT}")), "{rules}\n{}", cluster.daemon("n1").log());
    format!("by {way}: let through, again {again} ms after the gateway forgot, closed on delete")
}

/// With a Lease for each Service, too, the address stays until its port is closed.
fn lease_each(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.set("enable_upnp", "true").set("svc_election", "true");
    let router = Router::start(Speaks::All);
    router.serve("n1");
    let _backend = Backend::start("n1", 80);
    cluster.start("n1");
    cluster.lab.api.apply(&asking(cluster, "web", 80));
    mapped(cluster, "n1", "web", "PCP");
    assert_eq!(router.fetch(OUTSIDE, 80), "n1");
    let vip = cluster.vip.to_string();
    forget(cluster, &["web"]);
    assert!(wait_for(SOON, || !has_address("n1", &vip)), "the address stays");
    let rules = router.rules();
    assert!(!rules.contains(&vip), "{rules}\n{}", cluster.daemon("n1").log());
    "mapped, and closed on delete".into()
}

/// Each call of the edge, each way, against the same gateway.
fn edge(cluster: &mut Cluster<'_>) -> String {
    let _ = cluster;
    let router = Router::start(Speaks::All);
    for node in ["n1", "n2"] {
        router.serve(node);
    }
    let me = IpAddr::from([10, 77, 0, 11]);
    let all = ["PCP", "NAT-PMP", "UPnP"].map(|name| {
        let without = |it: &str| it != name;
        let way = inside("n1", || way_of(me, &without));
        assert_eq!(way.kind().name(), name);
        let exposed = exposed_at(me, 443);
        let call = |it| inside("n1", || gateway::answer(it));
        let looked = call(GatewayCall::Look { way: way.clone(), from: Vip(me) });
        let Ok(GatewayReply::Looked { external, epoch }) = looked else { panic!("{looked:?}") };
        assert!(external.is_some_and(|it| it.to_string() == CLAIMED) || name == "PCP");
        assert_eq!(epoch.is_some(), name != "UPnP");
        let map = |of: IpAddr, way: &Way| GatewayCall::Map {
            way: way.clone(),
            exposed: exposed_at(of, 443),
            lease: 60,
            nonce: [1; 12],
            name: "edge".into(),
        };
        for _ in 0..2 {
            let reply = call(map(me, &way));
            let Ok(GatewayReply::Mapped(Granted { port: 443, lease, .. })) = reply else {
                panic!("{name}: {reply:?}")
            };
            assert!((1..=86_400).contains(&lease), "{name}: {lease}");
        }
        // Another host cannot have it: it is told, or given another.
        let other = IpAddr::from([10, 77, 0, 12]);
        let reply = inside("n2", || gateway::answer(map(other, &way)));
        match reply {
            Ok(GatewayReply::Refused(it)) => assert!(matches!(it.code, 11 | 718), "{it:?}"),
            Ok(GatewayReply::Mapped(it)) => {
                assert_ne!(it.port, 443);
                let exposed = exposed_at(other, 443);
                let (way, nonce) = (way.clone(), [1; 12]);
                let undo = GatewayCall::Unmap { way, exposed, nonce, pinhole: None };
                assert_eq!(inside("n2", || gateway::answer(undo)), Ok(GatewayReply::Unmapped));
            }
            other => panic!("{name}: {other:?}"),
        }
        if name == "UPnP" {
            let read = call(GatewayCall::Read { way: way.clone(), exposed });
            let Ok(GatewayReply::Read(Some(entry))) = read else { panic!("{read:?}") };
            assert_eq!(
                (entry.client.as_str(), entry.port, entry.enabled),
                ("10.77.0.11", 443, true)
            );
            assert!((50..=60).contains(&entry.left), "{entry:?}");
        }
        for round in 0..2 {
            let (way, nonce) = (way.clone(), [1; 12]);
            let reply = call(GatewayCall::Unmap { way, exposed, nonce, pinhole: None });
            // What is not there any more may be an error.
            let gone = matches!(reply, Ok(GatewayReply::Refused(_))) && round > 0;
            assert!(gone || reply == Ok(GatewayReply::Unmapped), "{name}: {reply:?}");
        }
        assert!(!router.rules().contains("443"), "{name}: {}", router.rules());
        name
    });
    format!("found, looked at, mapped, kept from others, read and unmapped by {}", all.join(", "))
}

fn way_of(from: IpAddr, without: &dyn Fn(&str) -> bool) -> Way {
    use edgevip::model::WayKind::{Igd, NatPmp, Pcp};
    let without = [Igd, NatPmp, Pcp].into_iter().filter(|it| without(it.name())).collect();
    let find = GatewayCall::Find { from: Vip(from), link: None, without };
    // It may only just have started.
    let mut last = None;
    wait_for(SOON, || {
        last = Some(gateway::answer(find.clone()));
        matches!(last, Some(Ok(GatewayReply::Found(_))))
    });
    let Some(Ok(GatewayReply::Found(way))) = last else { panic!("{last:?}") };
    way
}

/// By UPnP, which needs no default route.
fn found(from: IpAddr) -> Way {
    inside("stranger", || way_of(from, &|it| it != "UPnP"))
}

fn exposed_at(ip: IpAddr, port: u16) -> Exposed {
    Exposed { vip: Vip(ip), port: ServicePort { port, protocol: Protocol::Tcp } }
}

/// A Service that asks for the gateway.
fn asking(cluster: &Cluster<'_>, name: &str, port: u16) -> String {
    let asks = "annotations: { kube-vip.io/forwardUPNP: \"true\", \
                kube-vip.io/upnp-lease-duration: 20s, ";
    let it = service(cluster, name, "", &["n1", "n2"]);
    it.replace("annotations: { ", asks).replace("port: 80,", &format!("port: {port},"))
}

fn mapping(status: &Value, name: &str) -> Value {
    let all = status["services"]["services"].as_array().cloned().unwrap_or_default();
    let of = all.iter().find(|it| it["name"].as_str().is_some_and(|it| it.ends_with(name)));
    of.map(|it| it["mappings"][0].clone()).unwrap_or_default()
}

fn mapped(cluster: &Cluster<'_>, node: &str, name: &str, way: &str) {
    let name = full(name, cluster);
    cluster.status_within(node, "has it mapped", WHILE, |it| {
        let it = mapping(it, &name);
        it["mapped"] == true && it["way"] == way && it["external"] == CLAIMED
    });
}

fn reached(router: &Router, cluster: &Cluster<'_>, node: &str, what: &str) {
    let fine = wait_for(WHILE, || router.fetch(OUTSIDE, 80) == node);
    assert!(fine, "{what}: {}\n{}", router.rules(), cluster.daemon(node).log());
}

fn status_has(cluster: &Cluster<'_>, name: &str, addresses: &[&str]) {
    let mut found = Vec::new();
    let fine = wait_for(SOON, || {
        let ingress = object(cluster, name)["status"]["loadBalancer"]["ingress"].clone();
        let ingress = ingress.as_array().cloned().unwrap_or_default();
        found = ingress.iter().map(|it| it["ip"].as_str().unwrap_or("").to_owned()).collect();
        found == addresses
    });
    assert!(fine, "{found:?}, not {addresses:?}");
}

fn event(cluster: &Cluster<'_>, name: &str, reason: &str) {
    let name = format!("involvedObject.name={}", full(name, cluster));
    let mut text = String::new();
    let fine = wait_for(SOON, || {
        text = cluster.lab.api.kubectl(&["get", "events", "--field-selector", &name]);
        text.contains(reason)
    });
    assert!(fine, "no Event {reason}: {text}");
}

/// A web server on a node that says which node it is.
struct Backend {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Backend {
    fn start(node: &'static str, port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = thread::spawn(move || {
            join(node);
            let listener = TcpListener::bind(("::", port)).expect("the port is free");
            listener.set_nonblocking(true).expect("it is ours");
            while !ends.load(Ordering::Relaxed) {
                let Ok((mut client, _)) = listener.accept() else {
                    thread::park_timeout(Duration::from_millis(2));
                    continue;
                };
                _ = client.set_nonblocking(false);
                _ = client.set_read_timeout(Some(Duration::from_secs(1)));
                _ = client.read(&mut [0; 1024]);
                _ = client.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{node}").as_bytes());
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        _ = self.thread.take().map(thread::JoinHandle::join);
    }
}
