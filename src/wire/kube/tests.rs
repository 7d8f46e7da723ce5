use super::*;
use crate::model::{Ingress, Protocol, ServicePatch, ServicePort};

const LEASE: &str = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{
    "name":"plndr-cp-lock","namespace":"kube-system","uid":"6b3c","resourceVersion":"4711",
    "labels":{"team":"edge"},"managedFields":[{"manager":"edgevip","fieldsV1":{"f:spec":{}}}],
    "annotations":{"edgevip.io/author":
        "00000000000000ab/0000000000000001/2026-01-02T03:04:05.678901Z"}},
    "spec":{"holderIdentity":"n1","leaseDurationSeconds":15,"leaseTransitions":3,
    "acquireTime":"2026-01-02T03:00:00.000000Z","renewTime":"2026-01-02T03:04:05.678901Z",
    "strategy":"OldestEmulationVersion"}}"#;

#[test]
fn a_lease_is_read_as_it_stands() {
    let lease = lease(LEASE.as_bytes()).unwrap();
    assert_eq!(lease.version, ResourceVersion("4711".into()));
    let expected = LeaseRecord {
        holder: Some(NodeName("n1".into())),
        duration: Duration::from_secs(15),
        transitions: 3,
        acquired: Some("2026-01-02T03:00:00.000000Z".into()),
        renewed: Some("2026-01-02T03:04:05.678901Z".into()),
        author: Some(Author { host: 0xab, life: 1 }),
        quorum: None,
    };
    assert_eq!(lease.record, expected);
    assert!(!lease.object.contains("managedFields"));
}

#[test]
fn missing_fields_are_tolerated_and_wrong_ones_are_named() {
    let table = [
        ("", ""),
        ("[1,2", ""),
        (r#"{"kind":"Status","code":200}"#, "/kind"),
        (r#"{"kind":"Lease"}"#, "/metadata/resourceVersion"),
        (r#"{"kind":"Lease","metadata":{"resourceVersion":""}}"#, "/metadata/resourceVersion"),
        (r#"{"kind":"Lease","metadata":{"resourceVersion":7}}"#, "/metadata/resourceVersion"),
        (r#"{"kind":"Lease","metadata":"x"}"#, "/metadata"),
        (r#"{"kind":"Lease","metadata":{"resourceVersion":"1"},"spec":[]}"#, "/spec"),
        (
            r#"{"kind":"Lease","metadata":{"resourceVersion":"1","annotations":5}}"#,
            "/metadata/annotations",
        ),
        (&spec(r#""holderIdentity":{}"#), "/spec/holderIdentity"),
        (&spec(r#""leaseDurationSeconds":-1"#), "/spec/leaseDurationSeconds"),
        (&spec(r#""leaseDurationSeconds":"15""#), "/spec/leaseDurationSeconds"),
        (&spec(r#""leaseTransitions":1e99"#), "/spec/leaseTransitions"),
        (&spec(r#""renewTime":0"#), "/spec/renewTime"),
    ];
    for (text, field) in table {
        assert_eq!(lease(text.as_bytes()).unwrap_err().field, field, "{text}");
    }

    for nobody in ["", r#""holderIdentity":"""#, r#""holderIdentity":null"#] {
        let lease = lease(spec(nobody).as_bytes()).unwrap();
        assert_eq!(lease.record.holder, None);
        assert_eq!(lease.record.duration, Duration::ZERO);
    }
    assert!(lease(br#"{"kind":"Lease","metadata":{"resourceVersion":"1"},"spec":null}"#).is_ok());
}

#[test]
fn an_author_counts_only_while_nobody_wrote_over_the_spec() {
    let read =
        |from: &str, to: &str| lease(LEASE.replacen(from, to, 1).as_bytes()).unwrap().record.author;
    assert!(read("", "").is_some());
    let renewed = r#""renewTime":"2026-01-02T03:04:05.678901Z""#;
    let table = [
        (renewed, r#""renewTime":"2026-01-02T03:04:07.000000Z""#),
        (renewed, r#""renewTime":null"#),
        ("00000000000000ab/", "00000000000000xy/"),
        ("00000000000000ab/", ""),
        ("00000000000000ab/", "100000000000000ab/"),
        ("edgevip.io/author", "other"),
    ];
    for (from, to) in table {
        assert_eq!(read(from, to), None, "{from} -> {to}");
    }
}

#[test]
fn a_written_lease_reads_back_and_keeps_what_it_does_not_understand() {
    let before = lease(LEASE.as_bytes()).unwrap();
    let after = replaced_lease(&before.object, &words()).unwrap();
    let value = parse(after.as_bytes()).unwrap();
    let kept = [
        ("/metadata/labels/team", "edge"),
        ("/metadata/uid", "6b3c"),
        ("/metadata/resourceVersion", "4711"),
        ("/spec/strategy", "OldestEmulationVersion"),
    ];
    for (field, expected) in kept {
        assert_eq!(text(&value, field), Ok(Some(expected)));
    }
    let record = lease(after.as_bytes()).unwrap().record;
    assert_eq!(record.holder, Some(NodeName("n2".into())));
    assert_eq!(record.duration, Duration::from_secs(2));
    assert_eq!(record.transitions, 4);
    assert_eq!(record.acquired, record.renewed);
    assert_eq!(record.author, Some(words().author));
}

#[test]
fn a_release_names_nobody_and_a_keeper_keeps_its_time() {
    let spec = LeaseSpec { holder: None, acquired: Some("then"), ..words() };
    let value = parse(replaced_lease(LEASE, &spec).unwrap().as_bytes()).unwrap();
    assert_eq!(value["spec"]["holderIdentity"], "");
    assert_eq!(value["spec"]["acquireTime"], "then");
}

#[test]
fn durations_are_written_as_whole_seconds_rounded_up() {
    for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (u64::MAX, 2_147_483_647)] {
        let spec = LeaseSpec { duration: Duration::from_millis(millis), ..words() };
        let value = parse(replaced_lease("{}", &spec).unwrap().as_bytes()).unwrap();
        assert_eq!(value["spec"]["leaseDurationSeconds"], seconds);
    }
}

#[test]
fn an_object_of_any_shape_can_be_written_over() {
    for object in ["null", "7", "[]", r#"{"spec":3,"metadata":{"annotations":"x"}}"#] {
        let after = parse(replaced_lease(object, &words()).unwrap().as_bytes()).unwrap();
        assert_eq!(after["spec"]["holderIdentity"], "n2");
        assert!(after["metadata"]["annotations"][AUTHOR].is_string());
    }
    assert!(replaced_lease("", &words()).is_err());
}

#[test]
fn a_new_lease_carries_its_annotations() {
    let annotations = BTreeMap::from([("owner".to_owned(), "me".to_owned())]);
    let value =
        parse(new_lease(&"ns/name".into(), Some(&annotations), None, &words()).as_bytes()).unwrap();
    assert_eq!(value["metadata"]["namespace"], "ns");
    assert_eq!(value["metadata"]["annotations"]["owner"], "me");
    assert!(value["metadata"]["annotations"][AUTHOR].is_string());
    assert!(value["metadata"].get("resourceVersion").is_none());
}

#[test]
fn lines_of_a_watch_say_what_they_say() {
    let line = |kind: &str, object: &str| {
        watch_line(format!(r#"{{"type":"{kind}","object":{object}}}"#).as_bytes())
    };
    let found = || Ok(Some(WatchEvent::Lease(Box::new(lease(LEASE.as_bytes()).unwrap()))));
    assert_eq!(line("ADDED", LEASE), found());
    assert_eq!(line("MODIFIED", LEASE), found());
    assert_eq!(line("DELETED", LEASE), Ok(Some(WatchEvent::Deleted)));
    let bookmark = r#"{"kind":"Lease","metadata":{"resourceVersion":"12"}}"#;
    let version = ResourceVersion("12".into());
    assert_eq!(line("BOOKMARK", bookmark), Ok(Some(WatchEvent::Bookmark(version))));
    assert_eq!(line("ERROR", r#"{"code":410}"#), Ok(Some(WatchEvent::Expired)));
    assert_eq!(line("HEARTBEAT", "{}"), Ok(None));
    assert_eq!(watch_line(b"  \r\n"), Ok(None));

    let busy = r#"{"code":429,"message":"slow\ndown","details":{"retryAfterSeconds":3}}"#;
    let Ok(Some(WatchEvent::Ended(fault))) = line("ERROR", busy) else { panic!() };
    assert_eq!(fault.kind, ApiFaultKind::Refused);
    assert_eq!(fault.why, "watch: 429 slow down");
    assert_eq!(fault.retry_after, Some(Duration::from_secs(3)));
}

#[test]
fn garbage_in_a_watch_is_an_error() {
    let table = [
        "x",
        "{}",
        "[]",
        r#"{"type":7}"#,
        r#"{"type":"ADDED"}"#,
        r#"{"type":"BOOKMARK","object":{}}"#,
        r#"{"type":"ERROR","object":{"code":"410"}}"#,
    ];
    for line in table {
        assert!(watch_line(line.as_bytes()).is_err(), "{line}");
    }
    let deep = "[".repeat(1_000_000);
    assert!(watch_line(deep.as_bytes()).is_err());
}

#[test]
fn candidates_are_the_control_plane_where_it_is_marked() {
    let node = |label: &str| format!(r#"{{"metadata":{{"labels":{{"{label}":""}}}}}}"#);
    let plain = || r#"{"metadata":{"name":"w"}}"#.to_owned();
    let table = [
        (vec![], 0),
        (vec![plain(), node("zone")], 2),
        (vec![plain(), node(CONTROL_PLANE[0])], 1),
        (vec![node(CONTROL_PLANE[1]), node(CONTROL_PLANE[0]), plain()], 2),
    ];
    for (nodes, count) in table {
        let nodes = nodes.join(",");
        let list = format!(r#"{{"kind":"PartialObjectMetadataList","items":[{nodes}]}}"#);
        assert_eq!(candidates(list.as_bytes()), Ok(count), "{list}");
    }
    assert_eq!(candidates(br#"{"kind":"NodeList","items":null}"#), Ok(0));
    for garbage in ["", "[]", "{}", r#"{"kind":"Status","items":[]}"#] {
        assert!(candidates(garbage.as_bytes()).is_err(), "{garbage}");
    }
    assert!(candidates(br#"{"kind":"NodeList","items":[{"metadata":[]}]}"#).is_err());
}

#[test]
fn a_refusal_is_told_in_one_short_line() {
    let status = br#"{"kind":"Status","message":"leases \"x\" is\tforbidden"}"#;
    assert_eq!(refusal_text(status), r#"leases "x" is forbidden"#);
    assert_eq!(refusal_text(b" <html>\xff\n</html> "), "<html>\u{fffd} </html>");
    assert_eq!(refusal_text(&[b'a'; 10_000]).len(), 300);
}

fn spec(fields: &str) -> String {
    format!(r#"{{"kind":"Lease","metadata":{{"resourceVersion":"1"}},"spec":{{{fields}}}}}"#)
}

fn words() -> LeaseSpec<'static> {
    static HOLDER: std::sync::LazyLock<NodeName> =
        std::sync::LazyLock::new(|| NodeName("n2".into()));
    LeaseSpec {
        holder: Some(&HOLDER),
        duration: Duration::from_millis(1_500),
        transitions: 4,
        acquired: None,
        renewed: "2026-01-02T03:04:06.000000Z",
        author: Author { host: u64::MAX, life: 7 },
        quorum: None,
    }
}

#[test]
fn a_patch_says_only_what_differs_and_from_which_version() {
    let version = ResourceVersion("7".into());
    let text = |it: &str| Some(it.to_owned());
    let whole = ServicePatch {
        annotations: [("a/b".to_owned(), text("x")), ("a/c".to_owned(), None)].into(),
        labels: [("l".to_owned(), text("y"))].into(),
        load_balancer_ip: text("10.0.0.1"),
        finalizers: Some(vec![]),
    };
    let table = [
        (ServicePatch::default(), json!({"metadata":{"resourceVersion":"7"}})),
        (
            whole,
            json!({"metadata":{"resourceVersion":"7","annotations":{"a/b":"x","a/c":null},
                "labels":{"l":"y"},"finalizers":[]},"spec":{"loadBalancerIP":"10.0.0.1"}}),
        ),
    ];
    for (patch, expected) in table {
        assert_eq!(parse(service_patch(&version, &patch).as_bytes()), Ok(expected));
    }
}

#[test]
fn a_status_says_where_a_service_is_reached() {
    let version = ResourceVersion("7".into());
    let port = |port, protocol| ServicePort { port, protocol };
    let ingress = [
        Ingress {
            ip: Some("10.0.0.1".parse().unwrap()),
            ip_mode: Some("Proxy".into()),
            ports: vec![port(53, Protocol::Udp), port(9, Protocol::Sctp)],
            hostname: None,
        },
        Ingress { hostname: Some("gw".into()), ..Ingress::default() },
    ];
    let whole = parse(ingress_patch(&version, &ingress).as_bytes()).unwrap();
    assert_eq!(whole["metadata"], json!({"resourceVersion":"7"}));
    let ports = json!([{"port":53,"protocol":"UDP"},{"port":9,"protocol":"SCTP"}]);
    let expected = json!([{"ip":"10.0.0.1","ipMode":"Proxy","ports":ports},{"hostname":"gw"}]);
    assert_eq!(whole["status"]["loadBalancer"]["ingress"], expected);
    let none = parse(ingress_patch(&version, &[]).as_bytes()).unwrap();
    assert_eq!(none["status"]["loadBalancer"]["ingress"], json!([]));
}

#[test]
fn a_patch_done_by_hand_is_the_one_that_a_server_does() {
    let object = json!({"metadata":{"resourceVersion":"7","annotations":{"a":"1","b":"2"}},
        "spec":{"x":1,"list":[1,2]}});
    let table = [
        (json!({"metadata":{"resourceVersion":"7"}}), object.clone()),
        (
            json!({"metadata":{"resourceVersion":"7","annotations":{"a":null,"c":"3"}},
                "spec":{"list":[3]},"status":{"s":{"t":null,"u":1}}}),
            json!({"metadata":{"resourceVersion":"7","annotations":{"b":"2","c":"3"}},
                "spec":{"x":1,"list":[3]},"status":{"s":{"u":1}}}),
        ),
    ];
    for (patch, expected) in table {
        let merged = merged(object.to_string().as_bytes(), &patch.to_string()).unwrap().unwrap();
        assert_eq!(parse(merged.as_bytes()), Ok(expected));
    }
    let stale = json!({"metadata":{"resourceVersion":"6"}}).to_string();
    assert_eq!(merged(object.to_string().as_bytes(), &stale), Ok(None));
    assert!(merged(b"", &stale).is_err());
}
