//! The input as a frame to a client of DHCPv6, and as the message that such a frame carries.
#![no_main]

use std::net::Ipv6Addr;

use edgevip::model::{Dhcp6Message, Dhcp6Packet, Mac};
use edgevip::wire::dhcp6;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dhcp6::decode(bytes);
    if let Some(message) = dhcp6::decode_message(bytes) {
        // What is understood can be said, and is then understood in the same way.
        let (from_mac, from) = (Mac([2, 0, 0, 0, 0, 1]), Ipv6Addr::LOCALHOST);
        let packet = Dhcp6Packet { from_mac, from, message };
        let frame = dhcp6::encode(&packet);
        let again = frame.get(62..).and_then(dhcp6::decode_message);
        let Some(again) = again else { panic!("{packet:?} is said as {frame:?}") };
        assert_eq!(in_order(again), in_order(packet.message));
    }
});

/// With its addresses in order: there may be more than the decoder leaves in theirs.
fn in_order(mut it: Dhcp6Message) -> Dhcp6Message {
    if let Some(ia) = &mut it.ia {
        ia.addresses.sort_by_key(|it| (it.ip, it.preferred, it.valid));
    }
    it
}
