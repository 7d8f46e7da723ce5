use std::collections::BTreeMap;

use edgevip::model::{ApiFaultKind, NodeName, SideCall, SideReply};
use serde_json::Value;

use crate::desk::{Desk, found, why};
use crate::server::shared;

#[test]
fn candidates_are_counted_and_labels_set_and_removed() {
    let server = shared();
    let desk = Desk::new(server.admin(), "nodes");
    assert_eq!(desk.side(SideCall::CountCandidates), SideReply::Candidates(0));
    for node in ["n1", "n2", "n3"] {
        server.apply(node, &format!("{{apiVersion: v1, kind: Node, metadata: {{name: {node}}}}}"));
    }
    assert_eq!(desk.side(SideCall::CountCandidates), SideReply::Candidates(3));

    let label = |key: &str, value: Option<&str>| {
        let node = NodeName("n1".into());
        let labels = BTreeMap::from([(key.to_owned(), value.map(str::to_owned))]);
        desk.side(SideCall::LabelNode { node, labels })
    };
    let role = "node-role.kubernetes.io/control-plane";
    assert_eq!(label(role, Some("")), SideReply::Done);
    assert_eq!(label("kube-vip.io/has-ip", Some("10.0.0.1")), SideReply::Done);
    assert_eq!(desk.side(SideCall::CountCandidates), SideReply::Candidates(1));
    let labels = || {
        let text = server.kubectl(&["get", "node", "n1", "-o", "json"]);
        serde_json::from_str::<Value>(&text).unwrap()["metadata"]["labels"].take()
    };
    assert_eq!(labels()["kube-vip.io/has-ip"], "10.0.0.1");
    assert_eq!(label("kube-vip.io/has-ip", None), SideReply::Done);
    assert!(labels().get("kube-vip.io/has-ip").is_none());
    assert!(labels().get(role).is_some());

    let SideReply::Failed(fault) = label("no key at all", Some("")) else { panic!() };
    assert!(why(fault, ApiFaultKind::Refused).contains("422"));
}

#[test]
fn an_event_stands_at_the_lease() {
    let server = shared();
    let desk = Desk::new(server.admin(), "told");
    found(desk.write(Some("n1"), None));
    for reason in ["LeadershipAcquired", "LeadershipLost"] {
        let told = desk.side(SideCall::Event {
            node: NodeName("n1".into()),
            warning: reason.ends_with("Lost"),
            reason: reason.into(),
            message: "It says so. ".repeat(500),
        });
        assert_eq!(told, SideReply::Done);
    }
    let about = "involvedObject.kind=Lease,involvedObject.name=told";
    let events =
        server.kubectl(&["-n", "edge", "get", "events", "-o", "json", "--field-selector", about]);
    let events: Value = serde_json::from_str(&events).unwrap();
    let mut told: Vec<_> = events["items"].as_array().unwrap().iter().collect();
    told.sort_by_key(|it| it["reason"].to_string());
    let words = |field| told.iter().map(|it| it[field].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(words("reason"), ["LeadershipAcquired", "LeadershipLost"]);
    assert_eq!(words("type"), ["Normal", "Warning"]);
    assert_eq!(words("reportingComponent"), ["edgevip"; 2]);
}

#[test]
fn a_name_is_looked_up_and_one_that_is_not_there_is_a_fault() {
    let server = shared();
    let desk = Desk::new(server.admin(), "names");
    let resolve = |name: &str| desk.side(SideCall::Resolve { name: name.into() });
    let SideReply::Resolved(addresses) = resolve("localhost") else { panic!() };
    assert!(addresses.iter().all(|it| it.is_loopback()), "{addresses:?}");
    assert_eq!(resolve("192.0.2.7"), SideReply::Resolved(vec!["192.0.2.7".parse().unwrap()]));
    for name in ["nobody.invalid", "", "a b", "\0"] {
        let SideReply::Failed(fault) = resolve(name) else { panic!("{name:?}") };
        why(fault, ApiFaultKind::Unreachable);
    }
}
