//! List, watch and writes of the cluster's objects.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::kube::{self, FromKube, Permission};
use edgevip::model::{
    ApiFaultKind, Followed, Ingress, NodeName, Object, ObjectCall, ObjectEvent, ObjectName,
    ObjectReply, Protocol, ResourceVersion, Service, ServicePatch, ServicePort, Token,
};
use serde_json::Value;

use crate::desk::{Desk, why};
use crate::liar::{CHUNKED, Liar, answer};
use crate::server::{Server, alone, shared};

/// A desk, and what it has fetched of one list and watch.
struct Ear {
    desk: Desk,
    what: Followed,
    heard: VecDeque<ObjectEvent>,
    batches: Vec<usize>,
}

#[test]
fn a_list_of_many_comes_in_pages_and_whole() {
    let server = shared();
    server.kubectl(&["create", "namespace", "many"]);
    create(&server, "many", 0..1_200);
    let mut ear = Ear::follows(&server, Followed::Services(Some("many".into())));
    let (names, version) = ear.list();
    let expected: BTreeSet<_> = (0..1_200).map(|it| format!("many/s{it}")).collect();
    assert_eq!(names, expected);
    assert_eq!(ear.next(), ObjectEvent::Opened);
    assert!(ear.batches.iter().all(|it| *it <= 257), "{:?}", ear.batches);

    ear.follow(Some(version));
    assert_eq!(ear.next(), ObjectEvent::Opened);
    server.kubectl(&["-n", "many", "delete", "service", "s7"]);
    assert_eq!(ear.next(), ObjectEvent::Deleted("many/s7".into()));
}

#[test]
fn a_watch_tells_what_is_made_changed_and_removed() {
    let server = shared();
    server.kubectl(&["create", "namespace", "told"]);
    let mut ear = Ear::follows(&server, Followed::Services(Some("told".into())));
    assert_eq!(ear.list().0, BTreeSet::new());
    assert_eq!(ear.next(), ObjectEvent::Opened);

    create(&server, "told", 0..1);
    let made = ear.service();
    assert_eq!(made.name, "told/s0".into());
    assert!(made.balanced && !made.uid.is_empty());
    assert_eq!(made.ports, [ServicePort { port: 80, protocol: Protocol::Tcp }]);
    server.kubectl(&["-n", "told", "annotate", "service", "s0", "kube-vip.io/ignore=true"]);
    let changed = ear.service();
    assert_eq!(changed.annotations["kube-vip.io/ignore"], "true");
    assert!(made.version.is_before(&changed.version));
    server.kubectl(&["-n", "told", "delete", "service", "s0"]);
    assert_eq!(ear.next(), ObjectEvent::Deleted("told/s0".into()));
}

#[test]
fn all_kinds_are_followed() {
    let server = shared();
    server.apply(
        "kinds",
        r#"
apiVersion: v1
kind: Namespace
metadata: {name: kinds}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kubevip, namespace: kinds}
data: {cidr-global: 10.0.0.0/24}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other, namespace: kinds}
---
apiVersion: v1
kind: Node
metadata: {name: followed, labels: {node.kubernetes.io/exclude-from-external-load-balancers: "true"}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, namespace: kinds, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1], nodeName: n1, conditions: {ready: true}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stray, namespace: kinds}
addressType: IPv4
endpoints: []
"#,
    );
    let of = |what| Ear::follows(&server, what).list().0;
    let names = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(of(Followed::ConfigMap("kinds/kubevip".into())), names(&["kinds/kubevip"]));
    assert_eq!(of(Followed::ConfigMap("kinds/absent".into())), names(&[]));
    let slices = Followed::EndpointSlices(Some("kinds".into()));
    assert_eq!(of(slices), names(&["kinds/web-abc"]));
    assert!(of(Followed::EndpointSlices(None)).contains("kinds/web-abc"));
    assert!(of(Followed::Services(None)).contains("default/kubernetes"));
    assert!(of(Followed::Nodes).contains("followed"));
    server.kubectl(&["delete", "node", "followed"]);
}

#[test]
fn a_version_that_is_forgotten_has_expired() {
    let server = alone();
    server.crash_api_server();
    server.start_api_server();
    let mut ear = Ear::new(&server, Followed::Services(None));
    ear.follow(Some(ResourceVersion("1".into())));
    let mut event = ear.next();
    if event == ObjectEvent::Opened {
        event = ear.next();
    }
    assert_eq!(event, ObjectEvent::Expired);
}

#[test]
fn a_restart_of_the_server_loses_nothing() {
    let server = alone();
    server.kubectl(&["create", "namespace", "restart"]);
    let what = Followed::Services(Some("restart".into()));
    let mut ear = Ear::follows(&server, what);
    let (_, version) = ear.list();
    assert_eq!(ear.next(), ObjectEvent::Opened);
    server.crash_api_server();
    assert!(matches!(ear.next(), ObjectEvent::Ended(_)));
    ear.follow(Some(version.clone()));
    let ObjectEvent::Ended(fault) = ear.next() else { panic!() };
    why(fault, ApiFaultKind::Unreachable);

    server.start_api_server();
    create(&server, "restart", 0..1);
    ear.follow(Some(version));
    match ear.next() {
        ObjectEvent::Opened => assert_eq!(ear.service().name, "restart/s0".into()),
        ObjectEvent::Expired => {
            ear.follow(None);
            assert!(ear.list().0.contains("restart/s0"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_is_patched_unless_it_has_changed() {
    let server = shared();
    server.kubectl(&["create", "namespace", "patched"]);
    create(&server, "patched", 0..1);
    let mut ear = Ear::follows(&server, Followed::Services(Some("patched".into())));
    let before = ear.only_service();

    let annotation = ("kube-vip.io/vipHost".to_owned(), Some("n1".to_owned()));
    let patch = ServicePatch {
        annotations: [annotation].into(),
        labels: [("implementation".to_owned(), Some("kube-vip".to_owned()))].into(),
        load_balancer_ip: Some("10.0.0.1".into()),
        finalizers: Some(vec!["edgevip.io/hold".into()]),
    };
    let ObjectReply::Done(version) = ear.ask(patched(&before, patch.clone())) else { panic!() };
    let after = ear.service();
    assert_eq!(after.version, version);
    assert_eq!(after.annotations["kube-vip.io/vipHost"], "n1");
    assert_eq!(after.labels["implementation"], "kube-vip");
    assert_eq!(after.load_balancer_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(after.finalizers, ["edgevip.io/hold"]);

    assert_eq!(ear.ask(patched(&before, patch)), ObjectReply::Conflict);
    let undo = ServicePatch {
        annotations: [("kube-vip.io/vipHost".to_owned(), None)].into(),
        finalizers: Some(vec![]),
        ..ServicePatch::default()
    };
    let ObjectReply::Done(_) = ear.ask(patched(&after, undo.clone())) else { panic!() };
    let undone = ear.service();
    assert!(undone.annotations.is_empty() && undone.finalizers.is_empty());

    let gone = Service { name: "patched/absent".into(), ..undone };
    assert_eq!(ear.ask(patched(&gone, undo)), ObjectReply::Gone);
}

#[test]
fn the_role_of_the_peer_is_enough_to_write_services() {
    let server = shared();
    server.kubectl(&["create", "namespace", "role"]);
    create(&server, "role", 0..1);
    let token = server.account("role", "peer");
    server.apply(
        "role",
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: peer, namespace: role}
rules:
- {apiGroups: [""], resources: [services, endpoints], verbs: [list, get, watch, update]}
- {apiGroups: [""], resources: [services/status], verbs: [update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: peer, namespace: role}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: peer}
subjects: [{kind: ServiceAccount, name: peer, namespace: role}]
"#,
    );
    let access = server.with_token(Token::Inline(token));
    let mut ear =
        Ear::at(Desk::new(access.clone(), "any"), Followed::Services(Some("role".into())));
    ear.follow(None);
    let before = ear.only_service();
    let patch = ServicePatch {
        annotations: [("kube-vip.io/vipHost".to_owned(), Some("n1".to_owned()))].into(),
        ..ServicePatch::default()
    };
    let ObjectReply::Done(version) = ear.ask(patched(&before, patch.clone())) else { panic!() };
    let after = ear.service();
    assert_eq!((after.annotations.len(), &after.version), (1, &version));
    assert_eq!(ear.ask(patched(&before, patch.clone())), ObjectReply::Conflict);
    let ip = Some("10.0.0.1".parse().unwrap());
    let ingress = vec![Ingress { ip, ip_mode: Some("VIP".into()), ..Ingress::default() }];
    let written = reached(&before, &version, ingress.clone());
    let ObjectReply::Done(_) = ear.ask(written) else { panic!() };
    assert_eq!(ear.service().ingress, ingress);
    // Not to be taken for the part of one.
    let gone = Service { name: "role/status".into(), ..before };
    assert_eq!(ear.ask(patched(&gone, patch)), ObjectReply::Gone);
    let told = ObjectCall::ServiceEvent {
        name: gone.name,
        uid: gone.uid,
        node: NodeName("n1".into()),
        warning: false,
        reason: "Told".into(),
        message: "It says so.".into(),
    };
    let ObjectReply::Failed(fault) = ear.ask(told) else { panic!() };
    why(fault, ApiFaultKind::Forbidden);

    let may = |verb, resource| {
        let (namespace, name) = ("role", "");
        let permission = Permission { verb, group: "", resource, namespace, name };
        kube::may(&access, permission, Duration::from_secs(10)).unwrap()
    };
    assert!(may("update", "services/status") && !may("patch", "services/status"));
    assert!(may("list", "services") && !may("list", "services/status"));
}

#[test]
fn a_status_says_where_a_service_is_reached() {
    let server = shared();
    server.kubectl(&["create", "namespace", "reached"]);
    create(&server, "reached", 0..1);
    let mut ear = Ear::follows(&server, Followed::Services(Some("reached".into())));
    let before = ear.only_service();

    let ports = vec![ServicePort { port: 80, protocol: Protocol::Tcp }];
    let ip = Some("10.0.0.1".parse().unwrap());
    let modes = ["VIP", "Proxy"].map(|it| Some(it.to_owned()));
    let mut at = before.version.clone();
    for ip_mode in modes {
        let one = Ingress { ip, ip_mode, ports: ports.clone(), hostname: None };
        let two = Ingress { hostname: Some("gw.example.org".into()), ..Ingress::default() };
        let ingress = vec![one, two];
        let ObjectReply::Done(version) = ear.ask(reached(&before, &at, ingress.clone())) else {
            panic!()
        };
        let after = ear.service();
        assert_eq!((after.ingress, &after.version), (ingress, &version));
        at = version;
    }
    let stale = reached(&before, &before.version, vec![]);
    assert_eq!(ear.ask(stale), ObjectReply::Conflict);
    let ObjectReply::Done(at) = ear.ask(reached(&before, &at, vec![])) else { panic!() };
    assert_eq!(ear.service().ingress, []);
    // Where there is no mode the server puts the one that is meant.
    let plain = vec![Ingress { ip, ..Ingress::default() }];
    let ObjectReply::Done(_) = ear.ask(reached(&before, &at, plain)) else { panic!() };
    assert_eq!(ear.service().ingress[0].ip_mode.as_deref(), Some("VIP"));
}

#[test]
fn an_event_stands_at_the_service() {
    let server = shared();
    server.kubectl(&["create", "namespace", "events"]);
    create(&server, "events", 0..1);
    let mut ear = Ear::follows(&server, Followed::Services(Some("events".into())));
    let it = ear.only_service();
    let told = ear.ask(ObjectCall::ServiceEvent {
        name: it.name,
        uid: it.uid.clone(),
        node: NodeName("n1".into()),
        warning: true,
        reason: "NoAddress".into(),
        message: "The pool is used up.".into(),
    });
    let ObjectReply::Done(_) = told else { panic!("{told:?}") };
    // Kubernetes tells of this Service, too, when its repair of addresses runs just now.
    let about = "involvedObject.name=s0,reason=NoAddress";
    let arguments = ["-n", "events", "get", "events", "-o", "json", "--field-selector", about];
    let events: Value = serde_json::from_str(&server.kubectl(&arguments)).unwrap();
    let [event] = &events["items"].as_array().unwrap()[..] else { panic!("{events}") };
    assert_eq!(event["involvedObject"]["uid"], it.uid);
    assert_eq!((&event["type"], &event["reason"]), (&"Warning".into(), &"NoAddress".into()));
    let described = server.kubectl(&["-n", "events", "describe", "service", "s0"]);
    assert!(described.contains("The pool is used up."), "{described}");
}

#[test]
fn an_annotation_that_nobody_can_read_breaks_only_its_own_service() {
    let items = r#"{"kind":"ServiceList","metadata":{"resourceVersion":"9"},"items":[
        {"metadata":{"name":"a","namespace":"x","resourceVersion":"1"}},
        {"metadata":{"name":"b","namespace":"x","resourceVersion":"1","annotations":[]}},
        {"metadata":{"name":"c","namespace":"x","resourceVersion":"1"}}]}"#;
    let liar = Liar::answering(answer("200 OK", "", items));
    let mut ear = Ear::at(Desk::new(liar.access(), "any"), Followed::Services(None));
    ear.follow(None);
    assert_eq!(ear.next(), ObjectEvent::Listing);
    let heard: Vec<_> = (0..3).map(|_| ear.next()).collect();
    let [ObjectEvent::Changed(a), ObjectEvent::Garbled { name, .. }, ObjectEvent::Changed(c)] =
        &heard[..]
    else {
        panic!("{heard:?}")
    };
    assert_eq!([a.name(), name.clone(), c.name()], ["x/a", "x/b", "x/c"].map(Into::into));
    assert_eq!(ear.next(), ObjectEvent::Listed(ResourceVersion("9".into())));
}

#[test]
fn whatever_a_list_is_there_is_an_end_to_it() {
    let page = r#"{"kind":"AList","metadata":{"resourceVersion":"9","continue":"again"}}"#;
    let table = [
        answer("200 OK", "", ""),
        answer("200 OK", "", "{"),
        answer("200 OK", "", r#"{"kind":"AList","metadata":{"resourceVersion":""}}"#),
        answer("200 OK", "", page),
        answer("403 Forbidden", "", ""),
        answer("500 Oh", "", ""),
        "nonsense".to_owned(),
        String::new(),
    ];
    for said in table {
        let liar = Liar::answering(said.clone());
        let mut ear = Ear::at(Desk::new(liar.access(), "any"), Followed::Nodes);
        ear.follow(None);
        assert_eq!(ear.next(), ObjectEvent::Listing);
        assert!(matches!(ear.next(), ObjectEvent::Ended(_)), "{said}");
    }
    let liar = Liar::answering(answer("410 Gone", "", ""));
    let mut ear = Ear::at(Desk::new(liar.access(), "any"), Followed::Nodes);
    ear.follow(None);
    assert_eq!([ear.next(), ear.next()], [ObjectEvent::Listing, ObjectEvent::Expired]);
}

#[test]
fn a_watch_passes_bookmarks_on() {
    let liar = Liar::saying(|it| {
        let request = it.request();
        let wanted = "GET /api/v1/nodes?watch=1&allowWatchBookmarks=true&timeoutSeconds=290\
                      &resourceVersion=7 HTTP/1.1";
        assert_eq!(request.lines().next(), Some(wanted));
        it.say(CHUNKED);
        let line =
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"8\"}}}\n";
        it.say(&format!("{:x}\r\n{line}\r\n0\r\n\r\n", line.len()));
    });
    let mut ear = Ear::at(Desk::new(liar.access(), "any"), Followed::Nodes);
    ear.follow(Some(ResourceVersion("7".into())));
    assert_eq!(ear.next(), ObjectEvent::Opened);
    assert_eq!(ear.next(), ObjectEvent::Bookmark(ResourceVersion("8".into())));
    assert!(matches!(ear.next(), ObjectEvent::Ended(_)));
}

#[test]
fn nothing_is_read_that_nobody_fetches() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let liar = Liar::saying(move |it| {
        it.request();
        it.say("HTTP/1.1 200 OK\r\n\r\n{\"items\":[");
        let padding = "x".repeat(1_000);
        while it.say_bytes(
            format!(r#"{{"metadata":{{"name":"a","resourceVersion":"1","x":"{padding}"}}}},"#)
                .as_bytes(),
        ) {
            count.fetch_add(1_000, Ordering::Relaxed);
        }
    });
    let ear = Ear::at(Desk::new(liar.access(), "any"), Followed::Services(None));
    ear.desk.kube().follow(ear.what.clone(), None);
    let mut before = u64::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
    }
    // What the two ends of the connection hold, and 256 events.
    assert!(before < 16 << 20, "{before} bytes");
    let events = ear.desk.kube().news(&ear.what);
    assert_eq!(events.len(), 256);
    // Who stops is not held up by it.
    ear.desk.kube().unfollow(&ear.what);
    assert_eq!(ear.desk.kube().news(&ear.what), []);
}

#[test]
fn a_slow_write_stalls_no_other() {
    let liar = Liar::saying(|it| {
        loop {
            let request = it.request();
            if request.is_empty() || request.contains("/slow") {
                return it.wait_for_end();
            }
            it.say(&answer("200 OK", "", r#"{"metadata":{"resourceVersion":"8"}}"#));
        }
    });
    let desk = Desk::new(liar.access(), "any");
    let started = clock::now();
    let slow = desk.request();
    desk.kube().ask(slow, write_to("x/slow"));
    let quick: BTreeSet<_> = (0..300).map(|it| (desk.request(), it)).collect();
    for (request, number) in &quick {
        desk.kube().ask(*request, write_to(&format!("x/s{number}")));
    }
    for _ in 0..300 {
        let FromKube::Asked { request, reply: ObjectReply::Done(_) } = desk.report() else {
            panic!()
        };
        assert_ne!(request, slow);
    }
    let spent = clock::now().saturating_since(started);
    println!("300 writes beside one that hangs: {spent:?}");
    assert!(spent < Duration::from_secs(5), "{spent:?}");
    let FromKube::Asked { request, reply: ObjectReply::Failed(fault) } = desk.report() else {
        panic!()
    };
    assert_eq!(request, slow);
    why(fault, ApiFaultKind::Timeout);
    let late = clock::now().saturating_since(started + ObjectCall::WITHIN);
    assert!(late < crate::desk::SCHEDULING, "{late:?}");
}

#[test]
fn each_question_about_a_service_has_one_answer_in_time() {
    let liar = Liar::saying(|it| it.wait_for_end());
    let desk = Desk::new(liar.access(), "any");
    let started = clock::now();
    let all: BTreeSet<_> = (0..1_200).map(|_| desk.request()).collect();
    for request in &all {
        desk.kube().ask(*request, write_to("x/a"));
    }
    let mut answered = BTreeSet::new();
    while answered.len() < all.len() {
        let FromKube::Asked { request, reply: ObjectReply::Failed(_) } = desk.report() else {
            panic!()
        };
        assert!(answered.insert(request));
    }
    let late = clock::now().saturating_since(started + ObjectCall::WITHIN);
    assert!(late < 2 * crate::desk::SCHEDULING, "{late:?}");
    assert_eq!(answered, all);
    assert!(desk.is_quiet());
}

/// Prints what a list of 10 000 Services costs: `cargo test --release --test api -- --ignored
/// ten_thousand --nocapture`.
#[test]
#[ignore = "minutes of creating Services"]
fn ten_thousand_services_are_listed() {
    let server = alone();
    server.kubectl(&["create", "namespace", "lots"]);
    let parts = 4;
    let begin = Barrier::new(parts);
    std::thread::scope(|scope| {
        for part in 0..parts {
            let (server, begin) = (&server, &begin);
            scope.spawn(move || {
                begin.wait();
                create(server, "lots", part * 2_500..(part + 1) * 2_500);
            });
        }
    });
    let before = resident();
    for _ in 0..3 {
        let started = clock::now();
        let mut ear = Ear::follows(&server, Followed::Services(None));
        let mut count = 0;
        loop {
            match ear.next() {
                ObjectEvent::Changed(_) => count += 1,
                ObjectEvent::Listing => {}
                ObjectEvent::Listed(_) => break,
                other => panic!("{other:?}"),
            }
        }
        let spent = clock::now().saturating_since(started);
        println!(
            "{count} Services in {spent:?}, {} batches; RSS {} -> {} kB at most",
            ear.batches.len(),
            before,
            resident()
        );
    }
}

impl Ear {
    fn new(server: &Server, what: Followed) -> Self {
        Self::at(Desk::new(server.admin(), "any"), what)
    }

    fn at(desk: Desk, what: Followed) -> Self {
        Self { desk, what, heard: VecDeque::new(), batches: Vec::new() }
    }

    /// From a list on.
    fn follows(server: &Server, what: Followed) -> Self {
        let ear = Self::new(server, what);
        ear.desk.kube().follow(ear.what.clone(), None);
        ear
    }

    fn follow(&mut self, from: Option<ResourceVersion>) {
        self.heard.clear();
        self.desk.kube().follow(self.what.clone(), from);
    }

    /// The next event, but for bookmarks of the real server, which come when they like.
    fn next(&mut self) -> ObjectEvent {
        while self.heard.is_empty() {
            let report = self.desk.report();
            assert_eq!(report, FromKube::Objects(self.what.clone()));
            self.fetch();
        }
        self.heard.pop_front().unwrap()
    }

    fn fetch(&mut self) {
        let news = self.desk.kube().news(&self.what);
        self.batches.push(news.len());
        self.heard.extend(news);
    }

    fn service(&mut self) -> Service {
        loop {
            match self.next() {
                ObjectEvent::Bookmark(_) => {}
                ObjectEvent::Changed(object) => match *object {
                    Object::Service(service) => return service,
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }

    /// All names of a list, and its version.
    fn list(&mut self) -> (BTreeSet<String>, ResourceVersion) {
        assert_eq!(self.next(), ObjectEvent::Listing);
        let mut names = BTreeSet::new();
        loop {
            match self.next() {
                ObjectEvent::Changed(object) => {
                    assert!(names.insert(object.name().to_string()));
                }
                ObjectEvent::Listed(version) => return (names, version),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The one of the list; the watch is open.
    fn only_service(&mut self) -> Service {
        assert_eq!(self.next(), ObjectEvent::Listing);
        let service = self.service();
        assert!(matches!(self.next(), ObjectEvent::Listed(_)));
        assert_eq!(self.next(), ObjectEvent::Opened);
        service
    }

    /// Asks, and keeps what the watch says meanwhile for later.
    fn ask(&mut self, call: ObjectCall) -> ObjectReply {
        let expected = self.desk.request();
        self.desk.kube().ask(expected, call);
        loop {
            match self.desk.report() {
                FromKube::Asked { request, reply } if request == expected => return reply,
                FromKube::Objects(_) => self.fetch(),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn patched(it: &Service, patch: ServicePatch) -> ObjectCall {
    ObjectCall::PatchService { name: it.name.clone(), version: it.version.clone(), patch }
}

fn reached(it: &Service, version: &ResourceVersion, ingress: Vec<Ingress>) -> ObjectCall {
    ObjectCall::WriteIngress { name: it.name.clone(), version: version.clone(), ingress }
}

fn write_to(name: &str) -> ObjectCall {
    let (name, version) = (ObjectName::from(name), ResourceVersion("7".into()));
    ObjectCall::WriteIngress { name, version, ingress: vec![] }
}

/// Services s0, s1, … of type LoadBalancer, without node ports, of which there are too few.
fn create(server: &Server, namespace: &str, numbers: std::ops::Range<usize>) {
    let mut text = String::new();
    for number in numbers.clone() {
        let spec = "type: LoadBalancer, allocateLoadBalancerNodePorts: false, \
                    selector: {app: web}, ports: [{port: 80}]";
        writeln!(text, "---\napiVersion: v1\nkind: Service").unwrap();
        writeln!(text, "metadata: {{name: s{number}, namespace: {namespace}}}").unwrap();
        writeln!(text, "spec: {{{spec}}}").unwrap();
    }
    server.create(&format!("{namespace}-{}", numbers.start), &text);
}

/// The most memory that this process has had, in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
