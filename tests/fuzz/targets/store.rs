//! A member's file; and the input as the record of a file that is in order otherwise, for no
//! mutation would get the checksum right by itself.
#![no_main]

use edgevip::wire::store::{decode, encode, sealed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    is_written_as_it_was_read(bytes);
    is_written_as_it_was_read(&sealed(bytes, MACHINE));
});

const MACHINE: u64 = 0x6c3f_0a9b_e1d2_5478;

fn is_written_as_it_was_read(file: &[u8]) {
    match decode(file, MACHINE) {
        Ok(record) => {
            let again = encode(&record, MACHINE);
            assert_eq!(decode(&again, MACHINE), Ok(record.clone()));
            assert_eq!(encode(&record, MACHINE), again);
        }
        Err(flaw) => assert!(!flaw.to_string().is_empty() && !flaw.code().is_empty()),
    }
}
