//! The input as an IPv6 packet, and as source, destination and ICMPv6 message of one whose
//! checksum and hop limit are right, for no mutation would get these right by itself.
#![no_main]

mod heard;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    heard::and_said_again(&[IPV6, bytes].concat());
    if let Some((addresses, message)) = bytes.split_at_checked(32)
        && message.len() >= 8
    {
        heard::and_said_again(&packet(addresses, message));
    }
});

/// To all nodes, from 02:00:00:00:00:01.
const IPV6: &[u8] = &[0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];

fn packet(addresses: &[u8], message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let checksum = checksum(addresses, &message);
    message[2..4].copy_from_slice(&checksum);
    let [.., high, low] = message.len().to_be_bytes();
    [IPV6, &[0x60, 0, 0, 0, high, low, 58, 255], addresses, &message].concat()
}

/// RFC 4443 §2.3.
fn checksum(addresses: &[u8], message: &[u8]) -> [u8; 2] {
    let length = (message.len() as u32).to_be_bytes();
    let covered = [addresses, &length, &[0, 0, 0, 58], message].concat();
    let words = covered.chunks(2).map(|it| match *it {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high, ..] => u32::from(high) << 8,
        [] => 0,
    });
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}
