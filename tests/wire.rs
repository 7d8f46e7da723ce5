//! Frames, datagrams and objects as bytes and what they mean. One fixture a file; `tshark` reads our
//! frames, too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[cfg(feature = "dhcp")]
#[path = "wire/dhcp.rs"]
mod dhcp;
#[cfg(feature = "dhcp")]
#[path = "wire/dhcp6.rs"]
mod dhcp6;
#[path = "wire/gateway.rs"]
mod gateway;
#[path = "wire/kube.rs"]
mod kube;
#[path = "wire/quorum.rs"]
mod quorum;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, process};

use edgevip::model::{Frame, Heard, LinkIndex, Mac};
use edgevip::wire::frame;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const LINK: LinkIndex = LinkIndex(3);

fn ours() -> Vec<(&'static str, Frame)> {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (v4, v6, mac) = (ip("10.0.0.42"), ip("fd00::42"), OURS);
    vec![
        ("arp-probe", Frame::Probe { mac, ip: v4 }),
        ("arp-announcement", Frame::Announce { mac, ip: v4 }),
        ("arp-reply", Frame::AnnounceReply { mac, ip: v4 }),
        ("nd-announcement", Frame::Announce { mac, ip: v6 }),
        ("nd-announcement", Frame::AnnounceReply { mac, ip: v6 }),
        ("nd-probe", Frame::Probe { mac, ip: ip("fd00::12:3456") }),
    ]
}

#[test]
fn our_frames_are_the_bytes_of_their_fixtures() {
    for (name, frame) in ours() {
        assert_eq!(hex(&frame::encode(&frame)), hex(&fixture(name)), "{name}");
    }
}

#[test]
fn frames_mean_what_their_fixtures_say() {
    let table = [
        ("arp-probe", "10.0.0.42", OURS, true),
        ("arp-announcement", "10.0.0.42", OURS, false),
        ("arp-reply", "10.0.0.42", OURS, false),
        ("arp-question", "10.0.0.7", OURS, false),
        ("nd-announcement", "fd00::42", OURS, false),
        ("nd-without-option", "fd00::42", OURS, false),
        ("nd-other-option", "fd00::42", Mac([2, 0, 0, 0, 0, 7]), false),
        ("nd-probe", "fd00::12:3456", OURS, true),
    ];
    for (name, ip, mac, probe) in table {
        let heard = Heard { link: LINK, ip: ip.parse().unwrap(), mac, probe };
        assert_eq!(frame::decode(LINK, &fixture(name)), Some(heard), "{name}");
    }
}

#[test]
fn what_must_be_refused_is() {
    let mut refused = 0;
    for name in all().into_iter().filter(|it| it.starts_with("refused-")) {
        assert_eq!(frame::decode(LINK, &fixture(&name)), None, "{name}");
        refused += 1;
    }
    assert_eq!(refused, 9);
}

#[test]
fn no_frame_however_broken_is_a_panic_and_none_that_is_cut_short_is_believed() {
    for name in all() {
        let good = fixture(&name);
        for length in 0..good.len() {
            let heard = frame::decode(LINK, &good[..length]);
            assert!(heard.is_none() || length >= 42, "{name}, {length} bytes");
        }
        for at in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut bad = good.clone();
                bad[at] = value;
                frame::decode(LINK, &bad);
            }
        }
    }
    // Noise behind a head that leads far into the decoders.
    let mut seed = 1_u64;
    for _ in 0..200_000 {
        let mut bytes = fixture("nd-announcement");
        for byte in &mut bytes[54..] {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (seed >> 56) as u8;
        }
        frame::decode(LINK, &bytes);
    }
}

#[test]
fn tshark_reads_our_frames_as_we_mean_them() {
    let fields = [
        "eth.src",
        "eth.dst",
        "arp.opcode",
        "arp.src.hw_mac",
        "arp.src.proto_ipv4",
        "arp.dst.hw_mac",
        "arp.dst.proto_ipv4",
        "arp.isgratuitous",
        "ipv6.src",
        "ipv6.dst",
        "ipv6.hlim",
        "icmpv6.type",
        "icmpv6.checksum.status",
        "icmpv6.nd.ns.target_address",
        "icmpv6.nd.na.target_address",
        "icmpv6.nd.na.flag.o",
        "icmpv6.nd.na.flag.s",
        "icmpv6.opt.linkaddr",
        "_ws.malformed",
    ];
    let me = "02:00:00:00:00:01";
    let all = "ff:ff:ff:ff:ff:ff";
    let zero = "00:00:00:00:00:00";
    let (vip, none) = ("10.0.0.42", "0.0.0.0");
    let na = ["136", "1", "", "fd00::42", "1", "0", me, ""];
    let ns = ["135", "1", "fd00::12:3456", "", "", "", "", ""];
    let v4 = |opcode, sender, target_mac, gratuitous| {
        let arp = [me, all, opcode, me, sender, target_mac, vip, gratuitous];
        [&arp[..], &[""; 11]].concat()
    };
    let v6 = |to, source, destination, icmp: [&'static str; 8]| {
        [&[me, to], &[""; 6][..], &[source, destination, "255"], &icmp[..]].concat()
    };
    let announced = v6("33:33:00:00:00:01", "fd00::42", "ff02::1", na);
    let expected = [
        v4("1", none, zero, ""),
        v4("1", vip, zero, "1"),
        v4("2", vip, me, "1"),
        announced.clone(),
        announced,
        v6("33:33:ff:12:34:56", "::", "ff02::1:ff12:3456", ns),
    ];
    let capture = env::temp_dir().join(format!("edgevip-frames-{}.pcap", process::id()));
    fs::write(&capture, pcap(ours().iter().map(|(_, it)| frame::encode(it)))).unwrap();
    let mut tshark = Command::new("tshark");
    tshark.args(["-T", "fields", "-r"]).arg(&capture).args(fields.iter().flat_map(|it| ["-e", it]));
    let output = tshark.output().unwrap();
    fs::remove_file(&capture).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let seen: Vec<Vec<&str>> = text.lines().map(|it| it.split('\t').collect()).collect();
    assert_eq!(seen, expected);
}

/// A capture file: the head, then each frame with a time and its length, twice.
fn pcap(frames: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let head = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1];
    let mut bytes: Vec<u8> = head.iter().flat_map(|it| it.to_le_bytes()).collect();
    for frame in frames {
        let length = frame.len() as u32;
        bytes.extend([0, 0, length, length].iter().flat_map(|it| it.to_le_bytes()));
        bytes.extend(frame);
    }
    bytes
}

fn all() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|it| it.unwrap().path());
    let hex = files.filter(|it| it.extension().is_some_and(|it| it == "hex"));
    hex.map(|it| it.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(folder().join(name).with_extension("hex")).unwrap();
    let lines = text.lines().filter(|it| !it.starts_with('#'));
    let bytes = lines.flat_map(str::split_whitespace);
    bytes.map(|it| u8::from_str_radix(it, 16).unwrap()).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect::<Vec<_>>().join(" ")
}
