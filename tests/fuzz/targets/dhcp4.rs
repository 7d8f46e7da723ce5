//! The input as a frame to a client of DHCP, and as the message that such a frame carries.
#![no_main]

use std::net::Ipv4Addr;

use edgevip::model::{Dhcp4Packet, Mac};
use edgevip::wire::dhcp4;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dhcp4::decode(bytes);
    if let Some(message) = dhcp4::decode_message(bytes) {
        // What is understood can be said, and is then understood in the same way.
        let from_mac = Mac([2, 0, 0, 0, 0, 1]);
        let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        let packet = Dhcp4Packet { from_mac, to_mac: from_mac, from, to, message };
        let frame = dhcp4::encode(&packet);
        let again = frame.get(42..).and_then(dhcp4::decode_message);
        let Some(again) = again else { panic!("{packet:?} is said as {frame:?}") };
        assert_eq!((again.kind, again.xid, again.mac), {
            let it = &packet.message;
            (it.kind, it.xid, it.mac)
        });
        assert_eq!((again.yours, again.lease), (packet.message.yours, packet.message.lease));
    }
});
