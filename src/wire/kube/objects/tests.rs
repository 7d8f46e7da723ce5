use super::*;
use crate::model::{ApiFaultKind, FamilyPolicy, NodeName, Words};

const SERVICES: Followed = Followed::Services(None);

#[test]
fn what_a_service_leaves_out_is_as_kubernetes_has_it() {
    let it = service(&named("", "")).unwrap();
    let expected = Service {
        name: "ns/a".into(),
        uid: String::new(),
        version: ResourceVersion("7".into()),
        balanced: false,
        deleting: false,
        class: None,
        load_balancer_ip: None,
        local: false,
        families: vec![],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![],
        annotations: Words::new(),
        labels: Words::new(),
        finalizers: vec![],
        ingress: vec![],
    };
    assert_eq!(it, expected);
    let nulls = named(
        r#","annotations":null,"labels":null,"finalizers":null,"deletionTimestamp":null"#,
        r#","spec":{"ports":null,"ipFamilies":null,"loadBalancerIP":""},"status":null"#,
    );
    assert_eq!(service(&nulls), Ok(expected));
    assert!(
        service(&named(r#","deletionTimestamp":"2026-01-01T00:00:00Z""#, "")).unwrap().deleting
    );
}

#[test]
fn an_address_of_the_status_that_is_none_is_no_address() {
    let status = r#","status":{"loadBalancer":{"ingress":[{"ip":"10.0.0"},{"ip":"::1"}]}}"#;
    let ips: Vec<_> = service(&named("", status)).unwrap().ingress.iter().map(|it| it.ip).collect();
    assert_eq!(ips, [None, Some("::1".parse().unwrap())]);
}

#[test]
fn what_is_wrong_with_an_object_is_its_own_business() {
    let long = format!(r#","annotations":{{"edgevip.io/a":"{}"}}"#, "x".repeat(MAX_VALUE + 1));
    let many = format!(r#","spec":{{"ports":[{}]}}"#, vec![r#"{"port":1}"#; 1_001].join(","));
    let table = [
        (r#","annotations":5"#, "", "texts by key"),
        (r#","annotations":{"kube-vip.io/ignore":true}"#, "", "boolean"),
        (&long, "", "edgevip.io/a: more than 16384 bytes"),
        ("", r#","spec":{"ports":[{"port":70000}]}"#, "70000"),
        ("", r#","spec":{"ports":[{"port":1,"protocol":"QUIC"}]}"#, "QUIC"),
        ("", r#","spec":{"ipFamilies":["IPv5"]}"#, "IPv5"),
        ("", r#","spec":[]"#, "spec"),
        ("", &many, "/spec/ports: more than 1000"),
    ];
    for (metadata, rest, words) in table {
        let bytes = named(metadata, rest);
        let line = [br#"{"type":"MODIFIED","object":"#, &bytes[..], b"}\n"].concat();
        for event in [listed(&SERVICES, &bytes), watched(&SERVICES, &line).unwrap()] {
            let Some(ObjectEvent::Garbled { name, why }) = event else { panic!("{event:?}") };
            assert_eq!(name, "ns/a".into());
            // serde says "invalid type: sequence" for a spec that is a list.
            assert!(why.contains(words) || words == "spec", "{why}");
            assert!(why.chars().count() <= 300, "{why}");
        }
    }
    // What is not ours may be what it likes.
    service(&named(r#","annotations":{"other.io/a":[{}]},"labels":{"x":1}"#, "")).unwrap();
}

#[test]
fn an_object_without_name_or_version_is_garbled() {
    let table = [
        (r#"{"metadata":{"name":"a"}}"#, "a"),
        (r#"{"metadata":{"name":"a","namespace":"ns","resourceVersion":""}}"#, "ns/a"),
        (r#"{"metadata":{"name":"","resourceVersion":"7"}}"#, ""),
        (r#"{"metadata":{}}"#, ""),
        ("{}", ""),
        ("", ""),
        ("[[[", ""),
    ];
    let config = Followed::ConfigMap("ns/a".into());
    for (text, named) in table {
        for what in [&SERVICES, &Followed::Nodes, &Followed::EndpointSlices(None), &config] {
            let event = listed(what, text.as_bytes());
            let Some(ObjectEvent::Garbled { name, .. }) = event else { panic!("{event:?}") };
            assert_eq!(name, named.into(), "{text}");
        }
    }
}

#[test]
fn a_slice_of_no_service_says_nothing() {
    let slices = Followed::EndpointSlices(None);
    assert_eq!(listed(&slices, &named("", "")), None);
    let label = r#","labels":{"kubernetes.io/service-name":"web"}"#;
    let slice = endpoint_slice(&named(label, r#","endpoints":null"#)).unwrap().unwrap();
    assert_eq!((slice.service, slice.endpoints), ("ns/web".into(), vec![]));
    let hostname = r#","endpoints":[{"hostname":"n3","nodeName":"n1"},{"hostname":"n3"},{}]"#;
    let slice = endpoint_slice(&named(label, hostname)).unwrap().unwrap();
    let nodes: Vec<_> = slice.endpoints.into_iter().map(|it| it.node).collect();
    assert_eq!(nodes, [Some(NodeName("n1".into())), Some(NodeName("n3".into())), None]);
}

#[test]
fn a_node_is_ready_if_it_says_so() {
    let table = [
        ("", false),
        (r#","status":{"conditions":[{"type":"Ready","status":"Unknown"}]}"#, false),
        (r#","status":{"conditions":[{"type":"DiskPressure","status":"True"}]}"#, false),
        (r#","status":{"conditions":[{"type":"Ready","status":"True"}]}"#, true),
    ];
    for (rest, ready) in table {
        assert_eq!(node(&named("", rest)).unwrap().ready, ready, "{rest}");
    }
}

#[test]
fn lines_of_a_watch_say_what_happened() {
    let line = |it: &str| watched(&SERVICES, it.as_bytes());
    let at = ResourceVersion("9".into());
    let table = [
        ("\r\n", None),
        (r#"{"type":"HEARTBEAT","object":7}"#, None),
        (
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
            Some(ObjectEvent::Bookmark(at)),
        ),
        (
            r#"{"object":{"metadata":{"namespace":"ns","name":"a"}},"type":"DELETED"}"#,
            Some(ObjectEvent::Deleted("ns/a".into())),
        ),
        (r#"{"type":"ERROR","object":{"code":410}}"#, Some(ObjectEvent::Expired)),
    ];
    for (text, event) in table {
        assert_eq!(line(text), Ok(event), "{text}");
    }
    let busy = r#"{"type":"ERROR","object":{"code":429,"message":"later","details":{"retryAfterSeconds":2}}}"#;
    let Ok(Some(ObjectEvent::Ended(fault))) = line(busy) else { panic!() };
    assert_eq!((fault.kind, fault.why.as_str()), (ApiFaultKind::Refused, "watch: 429 later"));
    assert_eq!(fault.retry_after, Some(std::time::Duration::from_secs(2)));
    for text in ["{}", "x", r#"{"type":7}"#, r#"{"type":"BOOKMARK","object":{}}"#] {
        assert!(line(text).is_err(), "{text}");
    }
}

/// An object of that name, with more metadata and more beside it.
fn named(metadata: &str, rest: &str) -> Vec<u8> {
    let name = r#""name":"a","namespace":"ns","resourceVersion":"7""#;
    format!(r#"{{"metadata":{{{name}{metadata}}}{rest}}}"#).into_bytes()
}
