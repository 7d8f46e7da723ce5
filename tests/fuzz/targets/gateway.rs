//! What a gateway, or somebody who says so, answers.
#![no_main]

use std::net::SocketAddr;

use edgevip::wire::gateway::soap::Answer;
use edgevip::wire::gateway::{natpmp, pcp, soap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(answer) = pcp::read(bytes) {
        assert!(pcp::is_answer(bytes));
        assert_eq!(pcp::read(bytes), Ok(answer));
    }
    if natpmp::read(bytes).is_ok() {
        assert!(natpmp::is_answer(bytes) && !pcp::is_answer(bytes));
    }
    let whole = soap::is_whole(bytes);
    match soap::read(bytes) {
        Ok(Answer::Done(document)) => look_into(&document),
        Ok(Answer::Fault(fault)) => assert!(fault.words.chars().count() <= 80),
        // What is whole may still be no text of ours, but never an answer that ends too early.
        Err(garbled) => assert!(!whole || garbled.why != "shorter than it should be"),
    }
    let text = String::from_utf8_lossy(bytes);
    look_into(&text);
    let device = SocketAddr::from(([10, 0, 0, 1], 5000));
    if let Some((there, path)) = soap::control_path(device, &text) {
        assert_eq!(there.ip(), device.ip());
        assert!(path.starts_with('/') && !path.contains(['\r', '\n', ' ']));
    }
});

fn look_into(document: &str) {
    let _ = soap::entry(document);
    let _ = soap::external(document);
    let _ = soap::text(document, "UniqueID");
}
