//! DHCPv4: what a real server says, and what `tshark` reads of what we say.

use std::net::Ipv4Addr;
use std::process::Command;
use std::{env, fs, process};

use edgevip::model::{Dhcp4Kind, Dhcp4Message, Dhcp4Packet, Mac};
use edgevip::wire::dhcp4;

use super::{fixture, pcap};

const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const LEASED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 51);
/// Where a message begins in a frame, and its options in that.
const MESSAGE: usize = 42;
const OPTIONS: usize = MESSAGE + 240;

fn read(name: &str) -> Vec<u8> {
    fixture(&format!("dhcp/{name}"))
}

#[test]
fn answers_of_a_real_server_mean_what_they_say() {
    let said = |kind, xid| {
        let mut it = Dhcp4Message::new(kind, xid, CLIENT_MAC);
        (it.broadcast, it.server) = (true, Some(SERVER));
        it
    };
    let leases = |kind| Dhcp4Message {
        yours: Some(LEASED),
        lease: Some(120),
        renew_after: Some(60),
        rebind_after: Some(105),
        client_id: vec![255, 0, 1],
        ..said(kind, 0x0102_0304)
    };
    let words = Some("wrong address".to_owned());
    let refuses = Dhcp4Message { words, ..said(Dhcp4Kind::Nak, 0x0102_0305) };
    let table =
        [("offer", leases(Dhcp4Kind::Offer)), ("ack", leases(Dhcp4Kind::Ack)), ("nak", refuses)];
    for (name, mut expected) in table {
        let (from, heard) = dhcp4::decode(&read(name)).unwrap();
        // RFC 6842 has servers repeat the identifier; not all do.
        expected.client_id.clone_from(&heard.client_id);
        assert_eq!((from, heard), (SERVER_MAC, expected), "{name}");
    }
}

#[test]
fn no_message_however_broken_is_a_panic_and_none_without_its_kind_is_believed() {
    for name in ["offer", "ack", "nak"] {
        let good = read(name);
        for length in 0..good.len() {
            let heard = dhcp4::decode(&good[..length]);
            assert!(heard.is_none() || length >= OPTIONS + 3, "{name}, {length} bytes");
        }
        for at in 0..good.len() {
            for value in [0, 1, 2, 3, 50, 51, 52, 53, 81, 119, 127, 128, 254, 255] {
                let mut bad = good.clone();
                bad[at] = value;
                dhcp4::decode(&bad);
            }
        }
    }
    let mut requests = read("offer");
    // A message of a client; another cookie; a port of somebody else's.
    for (at, value) in [(OPTIONS + 2, 1), (OPTIONS - 1, 98), (37, 69)] {
        let before = std::mem::replace(&mut requests[at], value);
        assert_eq!(dhcp4::decode(&requests), None, "{at}");
        requests[at] = before;
    }
    assert!(dhcp4::decode(&requests).is_some());
}

/// Options that do not fit stand in the fields for file and name (RFC 2132 §9.3), and a name of
/// option 81 that is cut short harms nobody.
#[test]
fn options_are_found_wherever_they_stand() {
    let mut frame = read("ack");
    let mut options: Vec<u8> = vec![81, 1, 4, 53, 1, 5, 52, 1, 3, 0, 255];
    options.resize(frame.len() - OPTIONS, 0);
    frame[OPTIONS..].copy_from_slice(&options);
    frame[MESSAGE + 108..][..7].copy_from_slice(&[51, 4, 0, 0, 1, 0, 255]);
    frame[MESSAGE + 44..][..7].copy_from_slice(&[54, 4, 10, 0, 0, 3, 255]);
    let (_, heard) = dhcp4::decode(&frame).unwrap();
    let found = (heard.kind, heard.lease, heard.server);
    assert_eq!(found, (Dhcp4Kind::Ack, Some(256), Some(Ipv4Addr::new(10, 0, 0, 3))));
}

#[test]
fn tshark_reads_our_messages_as_we_mean_them() {
    let all = Mac([0xff; 6]);
    let none = Ipv4Addr::UNSPECIFIED;
    let say = |kind, fill: fn(&mut Dhcp4Message)| {
        let mut it = Dhcp4Message::new(kind, 0xdead_beef, CLIENT_MAC);
        // RFC 4361 §6.1, RFC 6355: an IAID, and a DUID of a UUID.
        it.client_id = [&[255, 1, 2, 3, 4, 0, 4][..], &[7; 16]].concat();
        fill(&mut it);
        it
    };
    let discover = say(Dhcp4Kind::Discover, |it| {
        (it.broadcast, it.seconds, it.requested) = (true, 7, Some(LEASED));
        it.host_name = "web.example.org".into();
    });
    let renew = say(Dhcp4Kind::Request, |it| it.client = Some(LEASED));
    let release = say(Dhcp4Kind::Release, |it| {
        (it.client, it.server) = (Some(LEASED), Some(SERVER));
    });
    let decline = say(Dhcp4Kind::Decline, |it| {
        (it.requested, it.server) = (Some(LEASED), Some(SERVER));
    });
    let packet = |to_mac, from, to, message| {
        dhcp4::encode(&Dhcp4Packet { from_mac: CLIENT_MAC, to_mac, from, to, message })
    };
    let frames = [
        packet(all, none, Ipv4Addr::BROADCAST, discover.clone()),
        packet(SERVER_MAC, LEASED, SERVER, renew.clone()),
        packet(SERVER_MAC, LEASED, SERVER, release.clone()),
        packet(all, none, Ipv4Addr::BROADCAST, decline.clone()),
    ];
    // They come back as they were, too.
    for (frame, message) in frames.iter().zip([discover, renew, release, decline]) {
        assert_eq!(dhcp4::decode_message(&frame[MESSAGE..]), Some(message));
        assert!(frame.len() >= MESSAGE + 300);
    }
    let fields = [
        "eth.src",
        "eth.dst",
        "ip.src",
        "ip.dst",
        "udp.dstport",
        "ip.checksum.status",
        "udp.checksum.status",
        "dhcp.type",
        "dhcp.option.dhcp",
        "dhcp.flags.bc",
        "dhcp.secs",
        "dhcp.ip.client",
        "dhcp.hw.mac_addr",
        "dhcp.option.requested_ip_address",
        "dhcp.option.dhcp_server_id",
        "dhcp.option.hostname",
        "dhcp.option.vendor_class_id",
        "dhcp.fqdn.name",
        "dhcp.fqdn.flags",
        "_ws.malformed",
    ];
    let capture = env::temp_dir().join(format!("edgevip-dhcp-{}.pcap", process::id()));
    fs::write(&capture, pcap(frames.into_iter())).unwrap();
    let mut tshark = Command::new("tshark");
    tshark.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    tshark.args(["-T", "fields", "-r"]).arg(&capture).args(fields.iter().flat_map(|it| ["-e", it]));
    let output = tshark.output().unwrap();
    fs::remove_file(&capture).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (me, server, every) = ("02:00:00:00:00:09", "02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff");
    let (zero, vip) = ("0.0.0.0", "10.0.0.51");
    let name = "web.example.org";
    let expected = [
        [
            me,
            every,
            zero,
            "255.255.255.255",
            "67",
            "1",
            "1",
            "1",
            "1",
            "1",
            "7",
            zero,
            me,
            vip,
            "",
            name,
            "edgevip",
            name,
            "0x05",
            "",
        ],
        [
            me, server, vip, "10.0.0.1", "67", "1", "1", "1", "3", "0", "0", vip, me, "", "", "",
            "edgevip", "", "", "",
        ],
        [
            me, server, vip, "10.0.0.1", "67", "1", "1", "1", "7", "0", "0", vip, me, "",
            "10.0.0.1", "", "", "", "", "",
        ],
        [
            me,
            every,
            zero,
            "255.255.255.255",
            "67",
            "1",
            "1",
            "1",
            "4",
            "0",
            "0",
            zero,
            me,
            vip,
            "10.0.0.1",
            "",
            "",
            "",
            "",
            "",
        ],
    ];
    let seen: Vec<Vec<&str>> = text.lines().map(|it| it.split('\t').collect()).collect();
    assert_eq!(seen, expected);
}
