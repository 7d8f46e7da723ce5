//! The input as a frame, and as what an ARP frame carries.
#![no_main]

mod heard;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    heard::and_said_again(bytes);
    heard::and_said_again(&[ARP, bytes].concat());
});

/// To everybody, from 02:00:00:00:00:01.
const ARP: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06];
