//! A member's datagram without its tag, which no mutation would get right: as it is, and as
//! the sections behind a header.
#![no_main]

use edgevip::wire::quorum::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    is_written_one_way(bytes);
    is_written_one_way(&[HEADER, bytes].concat());
});

/// From n1 in a life of zeros, to nobody, count 1.
const HEADER: &[u8] = b"EV\x01\x02n1\0\0\0\0\0\0\0\0\0\x01";

fn is_written_one_way(bytes: &[u8]) {
    let Ok((envelope, understood)) = decode(bytes) else { return };
    let again = encode(&envelope);
    if understood {
        assert_eq!(again, bytes);
    } else {
        assert!(again.len() < bytes.len());
        assert_eq!(decode(&again), Ok((envelope, true)));
    }
}
