use std::time::Duration;

use edgevip::model::{ApiFaultKind, LeaseReply, NodeName};
use serde_json::{Value, json};

use crate::desk::{AUTHOR, Desk, fault, found, why, write};
use crate::server::shared;

#[test]
fn a_lease_is_created_renewed_contested_and_released() {
    let server = shared();
    let desk = Desk::new(server.admin(), "story");
    assert_eq!(desk.read(), LeaseReply::NotFound);

    let created = found(desk.write(Some("n1"), None));
    assert_eq!(created.record.holder, Some(NodeName("n1".into())));
    assert_eq!(created.record.duration, Duration::from_secs(2));
    assert_eq!(created.record.transitions, 3);
    assert_eq!(created.record.acquired, created.record.renewed);
    assert_eq!(created.record.author, Some(AUTHOR));
    assert_eq!(found(desk.read()), created);
    assert_eq!(desk.write(Some("n2"), None), LeaseReply::Conflict);

    let renewed = found(desk.write(Some("n1"), Some(&created)));
    assert_ne!(renewed.record.renewed, created.record.renewed);
    assert!(created.version.is_before(&renewed.version));
    assert_eq!(desk.write(Some("n2"), Some(&created)), LeaseReply::Conflict);

    let released = found(desk.write(None, Some(&renewed)));
    assert_eq!(released.record.holder, None);
    assert_eq!(found(desk.read()).record, released.record);

    server.kubectl(&["-n", "edge", "delete", "lease", "story"]);
    // To this server a Lease that is gone is one that has changed.
    assert_eq!(desk.write(Some("n1"), Some(&released)), LeaseReply::Conflict);
    assert_eq!(desk.read(), LeaseReply::NotFound);
}

#[test]
fn what_a_write_does_not_understand_it_keeps() {
    let server = shared();
    let desk = Desk::new(server.admin(), "kept");
    found(desk.write(Some("n1"), None));
    server.kubectl(&["-n", "edge", "label", "lease", "kept", "team=edge"]);
    server.kubectl(&["-n", "edge", "annotate", "lease", "kept", "note=mine"]);
    let finalizer = r#"{"metadata":{"finalizers":["example.org/hold"]}}"#;
    server.kubectl(&["-n", "edge", "patch", "lease", "kept", "--type=merge", "-p", finalizer]);

    let before = found(desk.read());
    found(desk.write(Some("n2"), Some(&before)));
    let text = ["-n", "edge", "get", "lease", "kept", "-o", "json", "--show-managed-fields"];
    let object: Value = serde_json::from_str(&server.kubectl(&text)).unwrap();
    assert_eq!(object["spec"]["holderIdentity"], "n2");
    let metadata = &object["metadata"];
    assert_eq!(metadata["labels"]["team"], "edge");
    assert_eq!(metadata["annotations"]["note"], "mine");
    assert_eq!(metadata["annotations"]["purpose"], "test");
    assert_eq!(metadata["finalizers"], json!(["example.org/hold"]));
    let managers: Vec<_> =
        metadata["managedFields"].as_array().unwrap().iter().map(|it| &it["manager"]).collect();
    assert!(managers.contains(&&json!("kubectl-label")), "{managers:?}");
}

#[test]
fn an_author_is_known_until_somebody_else_renews() {
    let server = shared();
    let desk = Desk::new(server.admin(), "author");
    found(desk.write(Some("n1"), None));
    server.kubectl(&["-n", "edge", "label", "lease", "author", "seen=yes"]);
    assert_eq!(found(desk.read()).record.author, Some(AUTHOR));

    let renewal = r#"{"spec":{"renewTime":"2026-01-02T03:04:05.000001Z"}}"#;
    server.kubectl(&["-n", "edge", "patch", "lease", "author", "--type=merge", "-p", renewal]);
    assert_eq!(found(desk.read()).record.author, None);
}

#[test]
fn a_namespace_that_is_not_there_is_a_fault_that_names_it() {
    let server = shared();
    let desk = Desk::in_namespace(server.admin(), "nowhere", "any");
    assert_eq!(desk.read(), LeaseReply::NotFound);
    let why = why(fault(desk.lease(write(Some("n1"), None))), ApiFaultKind::Refused);
    assert!(why.contains(r#"namespaces "nowhere" not found"#), "{why}");
}

#[test]
fn a_name_that_would_change_the_path_stays_a_name() {
    let server = shared();
    let desk = Desk::new(server.admin(), "../../../../../version?x=");
    assert_eq!(desk.read(), LeaseReply::NotFound);
}
