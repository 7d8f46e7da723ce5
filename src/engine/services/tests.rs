mod exposing;
mod labels;
mod naming;
mod telling;

use std::net::IpAddr;

use super::*;
use crate::engine::pools::ADDRESSES;
use crate::engine::{Action, NextIds, Rng};
use crate::model::{
    ApiFaultKind, Endpoint, EndpointSlice, FamilyPolicy, GatewayCall, Ingress, IpFamily, LinkName,
    Object, ObjectCall, ObjectReply, Protocol, ResourceVersion, ServicePort, SideCall, Words,
};

/// A Service of type LoadBalancer with one port.
pub(in crate::engine) fn service(name: &str) -> Service {
    Service {
        name: name.into(),
        uid: format!("uid-of-{name}"),
        version: ResourceVersion("1".into()),
        balanced: true,
        deleting: false,
        class: None,
        load_balancer_ip: None,
        local: false,
        families: vec![IpFamily::V4],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![ServicePort { port: 80, protocol: Protocol::Tcp }],
        annotations: Words::new(),
        labels: Words::new(),
        finalizers: Vec::new(),
        ingress: Vec::new(),
    }
}

const ME: &str = "n1";
const IP: &str = "10.0.0.5";

/// Services of a node, alone: what is written is taken down, and the time is ours.
struct Bench {
    services: Services,
    now: Instant,
    rng: Rng,
    next: NextIds,
    asked: Vec<(RequestId, ObjectCall)>,
    gateway: Vec<(RequestId, GatewayCall)>,
    side: Vec<(RequestId, SideCall)>,
}

/// Members place Services, and nothing is given out of pools.
pub(in crate::engine) fn config() -> ServicesConfig {
    ServicesConfig {
        namespace: None,
        class: ClassRule { name: "vip".into(), only: false, legacy: true },
        link: None,
        writes: true,
        election: ServicesElection::Quorum,
        pools: None,
        on_demand: false,
        gateway: false,
        guards: false,
        labels_node: false,
        dhcp: Some(DhcpConfig { mac: DhcpMac::Own, attempts: 3 }),
    }
}

impl Bench {
    fn new() -> Self {
        let config = ServicesConfig { gateway: true, ..config() };
        let now = Instant::from_nanos(1_000_000_000);
        let services = Services::new(config, NodeName(ME.into()), now);
        let (rng, next) = (Rng::from_seed(1), NextIds::default());
        let (asked, gateway, side) = (Vec::new(), Vec::new(), Vec::new());
        let mut it = Self { services, now, rng, next, asked, gateway, side };
        it.turn(|_, _| {});
        it
    }

    /// One turn, after which this node tells what is to be told.
    fn turn(&mut self, turn: impl FnOnce(&mut Services, &mut Cx<'_>)) -> &mut Self {
        let mut out = Vec::new();
        let (rng, next) = (&mut self.rng, &mut self.next);
        let cx = &mut Cx { now: self.now, rng, out: &mut out, next };
        turn(&mut self.services, cx);
        self.services.tick(cx);
        self.services.expose(cx, &|_, _| Some(LinkName("eth0".into())));
        self.services.tell(cx, true);
        self.services.label(cx);
        for action in out {
            match action {
                Action::Ask { request, call } => self.asked.push((request, call)),
                Action::Gateway { request, call } => self.gateway.push((request, call)),
                Action::Side { request, call } => self.side.push((request, call)),
                _ => {}
            }
        }
        self
    }

    fn objects(&mut self, what: Followed, events: Vec<ObjectEvent>) -> &mut Self {
        self.turn(|it, cx| it.on_objects(cx, &what, &events))
    }

    fn service(&mut self, it: Service) -> &mut Self {
        let changed = ObjectEvent::Changed(Box::new(Object::Service(it)));
        self.objects(Followed::Services(None), vec![changed])
    }

    fn endpoints(&mut self, of: &str, nodes: &[&str]) -> &mut Self {
        let endpoint =
            |it: &&str| Endpoint { node: Some(NodeName((*it).into())), ready: true, serving: true };
        let slice = EndpointSlice {
            name: format!("{of}-1").as_str().into(),
            version: ResourceVersion("1".into()),
            service: of.into(),
            endpoints: nodes.iter().map(endpoint).collect(),
        };
        let changed = ObjectEvent::Changed(Box::new(Object::EndpointSlice(slice)));
        self.objects(Followed::EndpointSlices(None), vec![changed])
    }

    fn answers(&mut self, ip: &str, answers: bool) -> &mut Self {
        let ip = ip.parse().unwrap();
        self.turn(|it, _| it.note_answering(Vip(ip), answers))
    }

    fn pass(&mut self, ms: u64) -> &mut Self {
        self.now = self.now + std::time::Duration::from_millis(ms);
        self.turn(|_, _| {})
    }

    /// What was asked of the API server since the last time, but for Events.
    fn writes(&mut self) -> Vec<(RequestId, ObjectCall)> {
        let writes =
            |it: &(RequestId, ObjectCall)| !matches!(it.1, ObjectCall::ServiceEvent { .. });
        std::mem::take(&mut self.asked).into_iter().filter(writes).collect()
    }

    fn events(&mut self) -> Vec<String> {
        let event = |it| match it {
            ObjectCall::ServiceEvent { name, reason, message, .. } => {
                Some(format!("{name} {reason}: {message}"))
            }
            ObjectCall::PatchService { .. } | ObjectCall::WriteIngress { .. } => None,
        };
        std::mem::take(&mut self.asked).into_iter().filter_map(|it| event(it.1)).collect()
    }

    fn reply(&mut self, request: RequestId, reply: ObjectReply) -> &mut Self {
        self.turn(|it, cx| it.on_reply(cx, request, &reply))
    }

    fn place(&self, ip: &str) -> Option<&Place> {
        self.services.place(Vip(ip.parse().unwrap()))
    }

    fn refusal(&self, name: &str) -> Option<String> {
        self.services.refusal(&self.services.services[&name.into()]).map(|it| it.to_string())
    }
}

fn a_node(name: &str) -> ClusterNode {
    ClusterNode {
        name: NodeName(name.into()),
        version: ResourceVersion("1".into()),
        ready: true,
        cordoned: false,
        excluded: false,
        addresses: Vec::new(),
        provided: BTreeMap::new(),
    }
}

/// A Service that asks for the address.
fn asking(name: &str, ip: &str) -> Service {
    let mut it = service(name);
    it.annotations.insert(ADDRESSES.into(), ip.into());
    it
}

/// The same, as it is once it was told who answers.
fn told(mut it: Service, version: u32) -> Service {
    it.version = ResourceVersion(version.to_string());
    it.annotations.insert("kube-vip.io/vipHost".into(), ME.into());
    let ips: Vec<IpAddr> =
        it.annotations[ADDRESSES].split(',').map(|it| it.parse().unwrap()).collect();
    let ports = it.ports.clone();
    it.ingress = ips
        .into_iter()
        .map(|ip| Ingress { ip: Some(ip), ports: ports.clone(), ..Ingress::default() })
        .collect();
    it
}

#[test]
fn a_service_has_its_place_once_somebody_serves_it_and_none_when_it_is_gone() {
    let mut bench = Bench::new();
    bench.service(asking("a/web", IP));
    assert_eq!(bench.place(IP).map(|it| it.backed), Some(Backed::No));
    bench.endpoints("a/web", &["n2"]);
    assert_eq!(bench.place(IP).map(|it| it.backed), Some(Backed::Yes));
    assert!(bench.place(IP).is_some_and(|it| it.first_claim));
    bench.objects(Followed::Services(None), vec![ObjectEvent::Deleted("a/web".into())]);
    assert_eq!(bench.place(IP), None);
    assert!(bench.services.addresses.is_empty() && bench.services.services.is_empty());
}

#[test]
fn an_address_is_asked_for_first_unless_somebody_is_known_to_have_answered_for_it() {
    let mut bench = Bench::new();
    let first = |bench: &mut Bench, ip: &str| bench.place(ip).unwrap().first_claim;
    bench.service(asking("a/web", IP));
    assert!(first(&mut bench, IP));
    bench.service(told(asking("a/web", IP), 2));
    assert!(!first(&mut bench, IP));
    // Another address of the same Service is another.
    let mut other = told(asking("a/web", IP), 3);
    other.annotations.insert(ADDRESSES.into(), "10.0.0.6".into());
    bench.service(other);
    assert!(first(&mut bench, "10.0.0.6"));
    bench.service(told(asking("a/web", "10.0.0.6"), 4));
    assert!(!first(&mut bench, "10.0.0.6"));
}

#[test]
fn who_asks_for_a_lease_of_its_own_has_one_where_that_is_heard() {
    let forced = |name: &str, port| {
        let mut it = asking(name, IP);
        it.ports[0].port = port;
        it.annotations.insert("kube-vip.io/forcePerServiceElection".into(), "true".into());
        it
    };
    let mut bench = Bench::elected();
    bench.service(forced("a/web", 80));
    assert_eq!(bench.place(IP).unwrap().elected_by, None, "the setting is off");
    let mut bench = Bench::elected();
    bench.services.config.on_demand = true;
    bench.service(forced("a/web", 80));
    let lease = bench.place(IP).unwrap().elected_by.clone().unwrap();
    assert_eq!(lease.name, "a/kubevip-web".into());
    let mut other = asking("a/other", IP);
    other.ports[0].port = 443;
    bench.service(other);
    assert!(bench.refusal("a/web").or(bench.refusal("a/other")).unwrap().contains("leaseName"));
    bench.objects(Followed::Services(None), vec![ObjectEvent::Deleted("a/web".into())]);
    assert_eq!(bench.place(IP).unwrap().elected_by, None);
}

#[test]
fn what_reaches_an_address_is_what_those_who_have_it_serve() {
    let mut bench = Bench::new();
    bench.services.config.guards = true;
    let at = |name: &str, port| {
        let mut it = asking(name, IP);
        it.ports[0].port = port;
        it
    };
    let ports = |bench: &mut Bench| {
        let guard = bench.place(IP).unwrap().guard.clone();
        guard.map(|it| it.iter().map(|it| it.port).collect::<Vec<_>>())
    };
    bench.service(at("a/web", 80));
    assert_eq!(ports(&mut bench), Some(vec![80]));
    bench.service(at("a/other", 443));
    assert_eq!(ports(&mut bench), Some(vec![80, 443]));
    bench.service(at("a/other", 444));
    assert_eq!(ports(&mut bench), Some(vec![80, 444]));
    let mut exempt = at("a/other", 444);
    exempt.annotations.insert("kube-vip.io/ignore-service-security".into(), "true".into());
    bench.service(exempt);
    assert_eq!(ports(&mut bench), None);
}

#[test]
fn a_new_list_forgets_what_it_does_not_name() {
    let mut bench = Bench::new();
    bench.service(asking("a/one", "10.0.0.1")).service(asking("a/two", "10.0.0.2"));
    let garbled = |name: &str| ObjectEvent::Garbled { name: name.into(), why: "why".into() };
    let listed = ObjectEvent::Listed(ResourceVersion("9".into()));
    let list = vec![ObjectEvent::Listing, garbled("a/one"), listed];
    bench.objects(Followed::Services(None), list);
    assert!(bench.place("10.0.0.1").is_some() && bench.place("10.0.0.2").is_none());
}

#[test]
fn who_was_told_of_an_address_keeps_it_and_others_may_share_it_by_their_ports() {
    let mut bench = Bench::new();
    let port = |mut it: Service, port| {
        it.ports[0].port = port;
        it
    };
    bench.service(asking("a/one", IP));
    bench.service(told(asking("a/two", IP), 2));
    assert_eq!(bench.refusal("a/two"), None);
    let why = bench.refusal("a/one").unwrap();
    assert_eq!(why, "a/two has 10.0.0.5: both serve 80/TCP");
    bench.service(port(asking("a/one", IP), 443));
    assert_eq!(bench.refusal("a/one"), None);
    let mut local = port(asking("a/three", IP), 22);
    local.local = true;
    bench.service(local);
    assert!(bench.refusal("a/three").unwrap().contains("Local"));
    bench.objects(Followed::Services(None), vec![ObjectEvent::Deleted("a/two".into())]);
    assert_eq!(bench.refusal("a/one"), None);
}

#[test]
fn an_address_of_a_node_is_not_anybodys() {
    let mut bench = Bench::new();
    bench.service(told(asking("a/web", IP), 1));
    let node = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let it = ClusterNode { addresses, ..a_node("n2") };
        vec![ObjectEvent::Changed(Box::new(Object::Node(it)))]
    };
    bench.objects(Followed::Nodes, node(&[IP]));
    assert_eq!(bench.refusal("a/web").unwrap(), "10.0.0.5 is an address of the node n2");
    assert_eq!(bench.place(IP), None);
    bench.objects(Followed::Nodes, node(&["10.0.0.12"]));
    assert_eq!(bench.refusal("a/web"), None);
    assert!(bench.place(IP).is_some());
}

#[test]
fn a_node_that_is_excluded_carries_nothing_and_one_that_is_cordoned_leaves_it_to_others() {
    let mut bench = Bench::new();
    let node = |name: &str, [ready, cordoned, excluded]: [bool; 3]| {
        let it = ClusterNode { ready, cordoned, excluded, ..a_node(name) };
        vec![ObjectEvent::Changed(Box::new(Object::Node(it)))]
    };
    // Ready, cordoned, excluded, of this node and of another; may begin, may go on.
    let table = [
        ([true, false, false], [true, false, false], true, true),
        ([true, true, false], [true, false, false], false, true),
        ([false, false, false], [true, false, false], false, true),
        ([true, true, false], [false, false, false], true, true),
        ([true, true, false], [true, true, false], true, true),
        ([true, false, true], [false, false, false], false, false),
    ];
    for (me, other, begins, goes_on) in table {
        bench.objects(Followed::Nodes, node(ME, me)).objects(Followed::Nodes, node("n2", other));
        let eligible = [false, true].map(|it| bench.services.eligibility(it).is_ok());
        assert_eq!(eligible, [begins, goes_on], "{me:?} {other:?}");
    }
}

#[test]
fn who_begins_to_give_addresses_out_lists_anew_and_nothing_becomes_unknown() {
    let mut bench = Bench::new();
    let listed = |version: &str| ObjectEvent::Listed(ResourceVersion(version.into()));
    bench.objects(Followed::Nodes, vec![ObjectEvent::Listing, listed("1")]);
    bench.objects(Followed::Services(None), vec![ObjectEvent::Listing, listed("1")]);
    assert!(bench.services.is_known());
    let data = [("cidr-global".to_owned(), "10.0.0.8/30".to_owned())].into();
    let map = crate::model::ConfigMap {
        name: "kube-system/kubevip".into(),
        version: ResourceVersion("1".into()),
        data,
    };
    bench.turn(|it, cx| it.learn_pools(cx.now, Some(&map)));
    bench.service(service("a/web"));
    bench.turn(|it, cx| it.allocate(cx, true));
    assert_eq!(bench.writes(), [], "the one before may have given something out");
    assert!(bench.services.is_known(), "what is served stays served");
    let changed = ObjectEvent::Changed(Box::new(Object::Service(service("a/web"))));
    let list = vec![ObjectEvent::Listing, changed, listed("2")];
    bench.objects(Followed::Services(None), list);
    bench.turn(|it, cx| it.allocate(cx, true));
    let [(request, ObjectCall::PatchService { patch, .. })] = &bench.writes()[..] else {
        panic!("nothing is given")
    };
    assert_eq!(patch.annotations[ADDRESSES].as_deref(), Some("10.0.0.8"));
    // A conflict gives it back, and the newer state of the Service is decided anew.
    bench.reply(*request, ObjectReply::Conflict);
    let mut newer = service("a/web");
    newer.version = ResourceVersion("3".into());
    bench.service(newer).turn(|it, cx| it.allocate(cx, true));
    let writes = bench.writes();
    let [(_, ObjectCall::PatchService { version, .. })] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!(version.0, "3");
    for number in 0..5 {
        bench.service(service(&format!("b/{number}"))).turn(|it, cx| it.allocate(cx, true));
    }
    assert_eq!(bench.writes().len(), 3, "a /30 has four");
    assert!(bench.refusal("b/4").is_some_and(|it| it.contains("exhausted")));
    bench.turn(|it, cx| it.allocate(cx, false));
    bench.service(service("c/1"));
    assert_eq!(bench.writes(), [], "somebody else gives out now");
}
