//! Services of one Lease: what they cost in memory, and what a turn costs with all of them there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use edgevip::engine::{
    Action, AnnouncerConfig, ClassRule, Config, Election, Family, Input, LeaseConfig, LinkChoice,
    Node, Rng, ServicesConfig, ServicesElection,
};
use edgevip::model::{
    Author, Fences, Followed, Instant, KernelAnswer, Lease, LeaseCall, LeaseRecord, LeaseReply,
    LinkName, NodeName, ObjectCall, ObjectEvent, ObjectReply, ResourceVersion,
};
use edgevip::wire::kube;

use crate::{Took, is_answered, snapshot};

const HOLDER: &str = "plndr-svcs-lock";

/// Counts what is there.
pub struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static PIECES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        PIECES.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        PIECES.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What was written to a Service so far.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Said {
    Nothing,
    Host,
    Status,
}

/// The holder of the Lease, and a kernel and an API server that do what they are asked.
struct Holder {
    node: Node,
    now: Instant,
    version: u64,
    services: usize,
    /// What each Service says at the API server.
    said: Vec<Said>,
    mail: VecDeque<(&'static str, Input)>,
    took: Took,
    counts: bool,
}

pub fn measure(services: usize) -> Took {
    let now = Instant::from_nanos(1_000_000_000_000);
    let there = || (BYTES.load(Ordering::Relaxed), PIECES.load(Ordering::Relaxed));
    let (mail, took) = (VecDeque::new(), Took::default());
    let said = vec![Said::Nothing; services];
    let before = there();
    let node = node(now);
    let mut it =
        Holder { node, now, version: 1_000_000, services, said, mail, took, counts: false };
    let say = |when| {
        let (bytes, pieces) = there();
        let (bytes, pieces) = (bytes.saturating_sub(before.0), pieces.saturating_sub(before.1));
        let each = services.max(1) as f64;
        println!(
            "{:34} {services:6} {:8.0} bytes and {:5.1} pieces each",
            format!("services: memory, {when}"),
            bytes as f64 / each,
            pieces as f64 / each,
        );
    };
    it.input("lock", Input::Lock { held: true });
    it.input("links", snapshot(1));
    it.until(Duration::from_millis(50));
    say("listed");
    it.until(Duration::from_secs(20));
    say("announced and told");
    it.until(Duration::from_secs(60));
    say("a minute later");
    it.counts = true;
    for round in 0..24 {
        it.until(Duration::from_millis(517));
        let number = round * 7 % services;
        let event = it.service(number, Some(services + round));
        let event = vec![event];
        it.input(
            "another address",
            Input::Objects { what: Followed::Services(None), events: event },
        );
    }
    it.took
}

fn node(now: Instant) -> Node {
    let lease = |name: &str| LeaseConfig {
        name: format!("kube-system/{name}").as_str().into(),
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    };
    let config = Config {
        me: NodeName("n1".into()),
        author: Author { host: 1, life: 1 },
        election: Election::Lease(lease("plndr-cp-lock")),
        vips: Vec::new(),
        family: Family::First,
        lengths: (32, 128),
        link: LinkChoice::Named(LinkName("eth0".into())),
        announcer: AnnouncerConfig {
            refresh: Duration::from_secs(3),
            fences: Fences { v4: Ok(()), v6: Ok(()) },
        },
        skip_dad: false,
        preserve: false,
        label_node: false,
        services: Some(ServicesConfig {
            namespace: None,
            class: ClassRule {
                name: "kube-vip.io/kube-vip-class".into(),
                only: false,
                legacy: true,
            },
            link: None,
            writes: true,
            election: ServicesElection::One(lease(HOLDER)),
            pools: None,
            dhcp: None,
            guards: false,
            on_demand: false,
            gateway: false,
            labels_node: false,
        }),
    };
    Node::new(config, Rng::from_seed(1), now)
}

impl Holder {
    /// Time passes, and all that is due is done.
    fn until(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.node.deadline().map(|it| it.at).filter(|it| *it <= end) {
            self.now = self.now.max(at);
            self.input("tick", Input::Tick);
        }
        self.now = end;
    }

    fn input(&mut self, kind: &'static str, input: Input) {
        self.mail.push_back((kind, input));
        while let Some((kind, input)) = self.mail.pop_front() {
            let kind = Some(kind).filter(|_| self.counts);
            let actions = self.took.turn(&mut self.node, self.now, kind, input);
            self.answer(actions);
        }
    }

    fn answer(&mut self, actions: Vec<Action>) {
        let mut answers = Vec::new();
        for action in actions {
            match action {
                Action::Kernel { order, job } if is_answered(&job) => {
                    answers.push((order, KernelAnswer::Done));
                }
                Action::Lease { request, call, .. } => {
                    let reply = LeaseReply::Found(Box::new(self.lease(&call)));
                    self.mail.push_back(("renewal", Input::Lease { request, reply }));
                }
                Action::Follow { what, .. } => self.list(&what),
                Action::Ask { request, call } => {
                    self.version += 1;
                    let version = ResourceVersion(self.version.to_string());
                    let written = match &call {
                        ObjectCall::PatchService { name, .. } => Some((name, Said::Host)),
                        ObjectCall::WriteIngress { name, .. } => Some((name, Said::Status)),
                        ObjectCall::ServiceEvent { .. } => None,
                    };
                    let reply = ObjectReply::Done(version);
                    self.mail.push_back(("written", Input::Asked { request, reply }));
                    if let Some((name, said)) = written {
                        let number: usize = name.name[1..].parse().expect("s and a number");
                        self.said[number] = said;
                        let event = self.service(number, None);
                        let what = Followed::Services(None);
                        self.mail.push_back(("news", Input::Objects { what, events: vec![event] }));
                    }
                }
                _ => {}
            }
        }
        if !answers.is_empty() {
            let kind = if answers.len() == 1 { "answer of the kernel" } else { "many answers" };
            self.mail.push_back((kind, Input::Kernel(answers)));
        }
    }

    fn list(&mut self, what: &Followed) {
        let mut all = vec![ObjectEvent::Listing];
        for number in 0..self.services {
            match what {
                Followed::Services(_) => all.push(self.service(number, None)),
                Followed::EndpointSlices(_) => all.push(slice(number)),
                Followed::ConfigMap(_) | Followed::Leases(_) | Followed::Nodes => {}
            }
        }
        all.push(ObjectEvent::Listed(ResourceVersion("5".into())));
        all.push(ObjectEvent::Opened);
        let mut all = all.into_iter().peekable();
        while all.peek().is_some() {
            let events = all.by_ref().take(256).collect();
            self.mail.push_back(("list", Input::Objects { what: what.clone(), events }));
        }
    }

    /// A Service as the API server has it.
    fn service(&self, number: usize, moved: Option<usize>) -> ObjectEvent {
        let said = self.said[number];
        let ip = Ipv4Addr::from(0x0a40_0000 + 256 + moved.unwrap_or(number) as u32);
        let version = 1_000_000 + self.version;
        let host = match said {
            Said::Nothing => "",
            Said::Host | Said::Status => r#","kube-vip.io/vipHost":"n1""#,
        };
        let ingress = match said == Said::Status {
            true => format!(
                r#"{{"ip":"{ip}","ipMode":"VIP","ports":[{{"port":80,"protocol":"TCP"}}]}}"#
            ),
            false => String::new(),
        };
        let text = format!(
            r#"{{"metadata":{{"name":"s{number:05}","namespace":"default",
            "uid":"6f3c1a52-8d07-4f0e-b5c3-{number:012}","resourceVersion":"{version}",
            "annotations":{{"kube-vip.io/loadbalancerIPs":"{ip}"{host}}},
            "labels":{{"app":"s{number:05}"}}}},
            "spec":{{"type":"LoadBalancer","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack",
            "externalTrafficPolicy":"Cluster","ports":[{{"name":"http","port":80,"protocol":"TCP"}}]}},
            "status":{{"loadBalancer":{{"ingress":[{ingress}]}}}}}}"#
        );
        kube::listed(&Followed::Services(None), text.as_bytes()).expect("it says something")
    }

    fn lease(&mut self, call: &LeaseCall) -> Lease {
        self.version += 1;
        let record = LeaseRecord {
            holder: Some(NodeName("n1".into())),
            duration: Duration::from_secs(15),
            transitions: 3,
            acquired: None,
            renewed: Some(self.version.to_string()),
            author: Some(Author { host: 1, life: 1 }),
            quorum: None,
        };
        let free = LeaseRecord { holder: None, author: None, ..record.clone() };
        let record = if matches!(call, LeaseCall::Read) { free } else { record };
        let version = ResourceVersion(self.version.to_string());
        Lease { record, version, object: "{}".into(), foundation: None }
    }
}

fn slice(number: usize) -> ObjectEvent {
    let text = format!(
        r#"{{"metadata":{{"name":"s{number:05}-1","namespace":"default","resourceVersion":"{}",
        "labels":{{"kubernetes.io/service-name":"s{number:05}"}}}},"addressType":"IPv4",
        "endpoints":[{{"addresses":["10.244.0.1"],"nodeName":"n2",
        "conditions":{{"ready":true,"serving":true,"terminating":false}}}}]}}"#,
        100_000 + number
    );
    kube::listed(&Followed::EndpointSlices(None), text.as_bytes()).expect("it says something")
}
