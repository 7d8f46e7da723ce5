//! Objects of the cluster, as a real API server writes them.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use edgevip::model::{
    ClusterNode, ConfigMap, Endpoint, EndpointSlice, FamilyPolicy, Followed, Ingress, IpFamily,
    NodeName, Object, ObjectEvent, PROVIDED, Protocol, ResourceVersion, Service, ServicePort,
};
use edgevip::wire::kube::{self, ListEnd, ListReader};

#[test]
fn a_service_is_read_as_far_as_it_matters() {
    assert_eq!(kube::service(&json("service")), Ok(web()));
    let plain = kube::service(&json("service-plain")).unwrap();
    assert!(!plain.balanced && !plain.local && plain.annotations.is_empty());
    assert_eq!((plain.class, plain.load_balancer_ip), (None, None));
    assert_eq!(
        (plain.families, plain.family_policy),
        (vec![IpFamily::V4], FamilyPolicy::SingleStack)
    );
    assert_eq!(plain.ports, [port(443, Protocol::Tcp)]);
}

#[test]
fn an_endpoint_slice_says_where_its_service_is_served() {
    let endpoint = |node: Option<&str>, ready, serving| {
        let node = node.map(|it| NodeName(it.into()));
        Endpoint { node, ready, serving }
    };
    let expected = EndpointSlice {
        name: "edge/web-abc".into(),
        version: version("213"),
        service: "edge/web".into(),
        endpoints: vec![
            endpoint(Some("n1"), true, true),
            endpoint(Some("n2"), false, true),
            endpoint(Some("n3"), false, false),
            endpoint(None, true, true),
        ],
    };
    assert_eq!(kube::endpoint_slice(&json("endpoint-slice")), Ok(Some(expected)));
}

#[test]
fn a_node_says_whether_it_can_carry_vips() {
    let expected = ClusterNode {
        name: NodeName("n1".into()),
        version: version("215"),
        ready: true,
        cordoned: true,
        excluded: true,
        addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
        provided: BTreeMap::from([(format!("{PROVIDED}web.edge"), "10.0.0.42".to_owned())]),
    };
    assert_eq!(kube::node(&json("node")), Ok(expected));
}

#[test]
fn a_config_map_is_its_texts() {
    let data = [("cidr-global", "10.0.0.0/24"), ("range-edge", "10.0.1.1-10.0.1.9")];
    let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let expected = ConfigMap {
        name: "edge/kubevip".into(),
        version: version("211"),
        data: BTreeMap::from(data),
    };
    assert_eq!(kube::config_map(&json("config-map")), Ok(expected));
}

#[test]
fn a_list_comes_in_pages_and_pieces() {
    let table = [
        ("service-list", vec!["edge/plain", "edge/web"], "215", None),
        (
            "service-page",
            vec!["edge/plain"],
            "215",
            Some("eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MjE1LCJzdGFydCI6Ii9wbGFpblx1MDAwMCJ9"),
        ),
    ];
    for (file, names, at, next) in table {
        let mut list = ListReader::new(kube::MAX_OBJECT);
        let mut seen = Vec::new();
        for piece in json(file).chunks(100) {
            let mut each = |item: &[u8]| match kube::listed(&Followed::Services(None), item) {
                Some(ObjectEvent::Changed(object)) => seen.push(object.name().to_string()),
                other => panic!("{other:?}"),
            };
            list.read(piece, &mut each).unwrap();
        }
        let next = next.map(str::to_owned);
        assert_eq!(
            (seen, list.end()),
            (
                names.iter().map(|it| (*it).to_owned()).collect(),
                Ok(ListEnd { version: version(at), next })
            ),
            "{file}"
        );
    }
}

#[test]
fn a_watch_says_what_there_is_and_up_to_where() {
    let text = json("watch");
    let lines = text.split(|it| *it == b'\n');
    let events: Vec<_> =
        lines.filter_map(|it| kube::watched(&Followed::Services(None), it).unwrap()).collect();
    let [ObjectEvent::Changed(plain), ObjectEvent::Changed(found), ObjectEvent::Bookmark(at)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(plain.name(), "edge/plain".into());
    assert_eq!(**found, Object::Service(web()));
    assert_eq!(*at, version("215"));
}

/// The Service of the fixtures.
fn web() -> Service {
    let texts = |it: &[(&str, &str)]| -> BTreeMap<String, String> {
        it.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Service {
        name: "edge/web".into(),
        uid: "87e6ff4e-fa53-49a9-9e59-daf0de543b72".into(),
        version: version("214"),
        balanced: true,
        deleting: false,
        class: Some("kube-vip.io/kube-vip-class".into()),
        load_balancer_ip: Some("10.0.0.42".into()),
        local: true,
        families: vec![IpFamily::V4],
        family_policy: FamilyPolicy::PreferDualStack,
        ports: vec![port(80, Protocol::Tcp), port(53, Protocol::Udp), port(9, Protocol::Sctp)],
        annotations: texts(&[
            ("edgevip.io/dhcp-lease", "x"),
            ("kube-vip.io/loadbalancerIPs", "10.0.0.42,fd00::42"),
            ("kube-vip.io/vipHost", "n1"),
        ])
        .into(),
        labels: texts(&[("implementation", "kube-vip"), ("ipam-address", "10.0.0.42")]).into(),
        finalizers: vec!["edgevip.io/hold".into()],
        ingress: vec![
            Ingress {
                ip: Some(ip("10.0.0.42")),
                hostname: None,
                ip_mode: Some("VIP".into()),
                ports: vec![port(80, Protocol::Tcp), port(53, Protocol::Udp)],
            },
            Ingress { hostname: Some("gw.example.org".into()), ..Ingress::default() },
        ],
    }
}

fn port(port: u16, protocol: Protocol) -> ServicePort {
    ServicePort { port, protocol }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn version(text: &str) -> ResourceVersion {
    ResourceVersion(text.into())
}

fn json(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/kube");
    fs::read(folder.join(name).with_extension("json")).unwrap()
}
