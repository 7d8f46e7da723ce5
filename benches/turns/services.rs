//! Services of one Lease: what they cost in memory, and what a turn costs with all of them there.

use std::net::Ipv4Addr;
use std::time::Duration;

use edgevip::engine::{Action, ClassRule, Election, Input, Node, ServicesConfig, ServicesElection};
use edgevip::model::{Followed, Instant, ObjectCall, ObjectEvent, ObjectReply, ResourceVersion};
use edgevip::wire::kube;

use crate::driver::{Driver, Mail, lease};
use crate::{Took, heap, snapshot};

const HOLDER: &str = "plndr-svcs-lock";

/// What was written to a Service so far.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Said {
    Nothing,
    Host,
    Status,
}

/// The API server, as far as it has Services.
struct Cluster {
    version: u64,
    services: usize,
    /// What each Service says there.
    said: Vec<Said>,
}

pub fn measure(services: usize) -> Took {
    let now = Instant::from_nanos(1_000_000_000_000);
    let said = vec![Said::Nothing; services];
    let mut cluster = Cluster { version: 1_000_000, services, said };
    let before = heap::in_use();
    let mut it = Driver::new(node(now), now);
    let say = |when| {
        let (bytes, pieces) = heap::in_use();
        let (bytes, pieces) = (bytes.saturating_sub(before.0), pieces.saturating_sub(before.1));
        let each = services.max(1) as f64;
        println!(
            "{:34} {services:6} {:8.0} bytes and {:5.1} pieces each",
            format!("services: memory, {when}"),
            bytes as f64 / each,
            pieces as f64 / each,
        );
    };
    let others = &mut |action, mail: &mut _| cluster.answer(action, mail);
    it.input("lock", Input::Lock { held: true }, others);
    it.input("links", snapshot(1), others);
    it.until(Duration::from_millis(50), others);
    say("listed");
    it.until(Duration::from_secs(20), others);
    say("announced and told");
    it.until(Duration::from_secs(60), others);
    say("a minute later");
    it.counts = true;
    for round in 0..24 {
        it.until(Duration::from_millis(517), &mut |action, mail| cluster.answer(action, mail));
        let number = round * 7 % services;
        let events = vec![cluster.service(number, Some(services + round))];
        let input = Input::Objects { what: Followed::Services(None), events };
        let others = &mut |action, mail: &mut _| cluster.answer(action, mail);
        it.input("another address", input, others);
    }
    it.took
}

fn node(now: Instant) -> Node {
    let lease = |name: &str| lease(&format!("kube-system/{name}"));
    let services = ServicesConfig {
        namespace: None,
        class: ClassRule { name: "kube-vip.io/kube-vip-class".into(), only: false, legacy: true },
        link: None,
        writes: true,
        election: ServicesElection::One(lease(HOLDER)),
        pools: None,
        dhcp: None,
        guards: false,
        on_demand: false,
        gateway: false,
        labels_node: false,
    };
    crate::node(1, 0, Election::Lease(lease("plndr-cp-lock")), Some(services), now)
}

impl Cluster {
    fn answer(&mut self, action: Action, mail: &mut Mail) {
        match action {
            Action::Follow { what, .. } => self.list(&what, mail),
            Action::Ask { request, call } => {
                self.version += 1;
                let version = ResourceVersion(self.version.to_string());
                let written = match &call {
                    ObjectCall::PatchService { name, .. } => Some((name, Said::Host)),
                    ObjectCall::WriteIngress { name, .. } => Some((name, Said::Status)),
                    ObjectCall::ServiceEvent { .. } => None,
                };
                let reply = ObjectReply::Done(version);
                mail.push_back(("written", Input::Asked { request, reply }));
                if let Some((name, said)) = written {
                    let number: usize = name.name[1..].parse().expect("s and a number");
                    self.said[number] = said;
                    let events = vec![self.service(number, None)];
                    let what = Followed::Services(None);
                    mail.push_back(("news", Input::Objects { what, events }));
                }
            }
            _ => {}
        }
    }

    fn list(&self, what: &Followed, mail: &mut Mail) {
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
            mail.push_back(("list", Input::Objects { what: what.clone(), events }));
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
