//! Whatever an API server may send, as bytes of each kind of answer.
#![no_main]

use std::time::Duration;

use edgevip::model::{Author, Lease, LeaseRecord, NodeName, WatchEvent};
use edgevip::wire::kube::{self, LeaseSpec, certificate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(lease) = kube::lease(bytes) {
        can_be_written_over(&lease);
    }
    if let Ok(Some(WatchEvent::Lease(lease))) = kube::watch_line(bytes) {
        can_be_written_over(&lease);
    }
    let _ = kube::candidates(bytes);
    let _ = kube::allowed(bytes);
    let _ = kube::git_version(bytes);
    let text = kube::refusal_text(bytes);
    assert!(text.chars().count() <= 300 && !text.contains(char::is_control), "{text:?}");
    let _ = certificate::addresses(bytes);
});

fn can_be_written_over(lease: &Lease) {
    let me = NodeName("n1".into());
    let author = Author { host: 1, life: 2 };
    let spec = LeaseSpec {
        holder: Some(&me),
        duration: Duration::from_secs(15),
        transitions: 3,
        acquired: None,
        renewed: "2026-01-02T03:04:05.678901Z",
        author,
        quorum: None,
    };
    let written = kube::replaced_lease(&lease.object, &spec).expect("what was read is JSON");
    let again = kube::lease(written.as_bytes()).expect("what was read is a Lease");
    let record = LeaseRecord {
        holder: Some(me.clone()),
        duration: spec.duration,
        transitions: spec.transitions,
        acquired: Some(spec.renewed.into()),
        renewed: Some(spec.renewed.into()),
        author: Some(author),
        quorum: None,
    };
    assert_eq!((again.record, again.version), (record, lease.version.clone()));
}
