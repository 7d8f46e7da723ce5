use edgevip::model::{Frame, Heard, LinkIndex};
use edgevip::wire::frame;

/// What is heard can be said in a frame of ours, and is then heard again.
pub fn and_said_again(bytes: &[u8]) {
    let link = LinkIndex(2);
    let Some(heard) = frame::decode(link, bytes) else { return };
    let Heard { ip, mac, probe, .. } = heard;
    let ours = if probe { Frame::Probe { mac, ip } } else { Frame::Announce { mac, ip } };
    assert_eq!(frame::decode(link, &frame::encode(&ours)), Some(heard));
}
