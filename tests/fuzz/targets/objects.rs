//! Lists and watches of the cluster's objects, as bytes in pieces of any length.
#![no_main]

use edgevip::model::{Followed, Object, ObjectEvent, ServicePatch};
use edgevip::wire::kube::{self, ListReader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let kinds = [
        Followed::ConfigMap("ns/a".into()),
        Followed::EndpointSlices(None),
        Followed::Nodes,
        Followed::Services(None),
    ];
    for what in &kinds {
        if let Some(event) = kube::listed(what, bytes) {
            look_at(&event);
        }
        for line in bytes.split(|it| *it == b'\n') {
            if let Ok(Some(event)) = kube::watched(what, line) {
                look_at(&event);
            }
        }
    }
    let whole = items(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(items(bytes, piece), whole, "pieces make no difference");
    }
    if let Some((patch, object)) = bytes.iter().position(|it| *it == 0).map(|it| bytes.split_at(it))
        && let Ok(patch) = str::from_utf8(patch)
    {
        let _ = kube::merged(&object[1..], patch);
    }
});

/// What is said of bytes fits a line, and what was read can be written.
fn look_at(event: &ObjectEvent) {
    match event {
        ObjectEvent::Garbled { why, .. } => {
            assert!(why.chars().count() <= 300 && !why.contains(char::is_control), "{why:?}");
        }
        ObjectEvent::Changed(object) => {
            if let Object::Service(it) = &**object {
                kube::service_patch(&it.version, &ServicePatch::default());
                kube::ingress_patch(&it.version, &it.ingress);
            }
        }
        ObjectEvent::Bookmark(_)
        | ObjectEvent::Deleted(_)
        | ObjectEvent::Ended(_)
        | ObjectEvent::Expired
        | ObjectEvent::Listed(_)
        | ObjectEvent::Listing
        | ObjectEvent::Opened => {}
    }
}

fn items(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, String) {
    let mut list = ListReader::new(1 << 16);
    let mut items = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut each = |item: &[u8]| items.push(item.to_vec());
        if let Err(error) = list.read(piece, &mut each) {
            return (items, error.to_string());
        }
    }
    (items, format!("{:?}", list.end()))
}
