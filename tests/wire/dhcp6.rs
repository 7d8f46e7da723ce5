//! DHCPv6: what real servers say, and what `tshark` reads of what we say.

use std::net::Ipv6Addr;
use std::process::Command;
use std::{env, fs, process};

use edgevip::model::{
    Dhcp6Address, Dhcp6Code, Dhcp6Ia, Dhcp6Kind, Dhcp6Message, Dhcp6Packet, Dhcp6Status, Mac,
};
use edgevip::wire::dhcp6;

use super::{fixture, pcap};

const NAMES: [&str; 6] = [
    "dnsmasq-advertise",
    "dnsmasq-reply",
    "dhcpd-reply",
    "kea-advertise",
    "kea-instead",
    "kea-released",
];
/// Where a message begins in a frame, and its options.
const MESSAGE: usize = 62;
const OPTIONS: usize = MESSAGE + 4;

fn read(name: &str) -> Vec<u8> {
    fixture(&format!("dhcp6/{name}"))
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn answers_of_real_servers_mean_what_they_say() {
    let (advertise, reply) = (Dhcp6Kind::Advertise, Dhcp6Kind::Reply);
    let say = |kind, xid, client: &str, server: &str| {
        let mut it = Dhcp6Message::new(kind, xid, bytes(client));
        it.server = bytes(server);
        it
    };
    let ia = |id, t1, t2, addresses: &[(u16, u32)]| {
        let ip = |last| Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 2, last);
        let address = |it: &(u16, u32)| Dhcp6Address { ip: ip(it.0), preferred: it.1, valid: it.1 };
        let addresses = addresses.iter().map(address).collect();
        Some(Dhcp6Ia { id, t1, t2, addresses, status: None })
    };
    let success =
        |words: &str| Some(Dhcp6Status { code: Dhcp6Code::Success, words: words.to_owned() });
    let dnsmasq = |kind, xid, preference| {
        let client = "00045fd4587b702840b3a6941784e54bdcec";
        let mut it = say(kind, xid, client, "00010001329ee045020000770042");
        it.ia = ia(0x8109_fef8, 60, 105, &[(0x25, 120)]);
        (it.status, it.preference) = (success("success"), preference);
        it
    };
    let client = "0004c8e1a14db6e7485dac3c295bd8e6e7b3";
    let mut dhcpd = say(reply, 0xad_3806, client, "00010001329ee056020000770042");
    dhcpd.ia = ia(0x57be_a884, 3, 6, &[(0x28, 9)]);
    let kea = |kind, xid, ia| {
        let client = "0004fb5f504ec0d74f0b83e26b116a5c2f0e";
        Dhcp6Message { ia, ..say(kind, xid, client, "00030001020000770042") }
    };
    let id = 0x84d5_0fdd;
    let instead = ia(id, 26, 53, &[(0x40, 80), (0x20, 0)]);
    let mut released = kea(reply, 0xe2_805f, ia(id, 0, 0, &[]));
    released.status = success("Summary status for all processed IA_NAs");
    let words = success("Lease released. Thank you, please come again.");
    released.ia.as_mut().unwrap().status = words;
    let table = [
        dnsmasq(advertise, 0x99_33f1, 255),
        dnsmasq(reply, 0x6c_9f2e, 0),
        dhcpd,
        kea(advertise, 0x06_3b76, ia(id, 26, 53, &[(0x20, 80)])),
        kea(reply, 0x0b_5f21, instead),
        released,
    ];
    let server: Ipv6Addr = "fe80::ff:fe77:42".parse().unwrap();
    for (name, expected) in NAMES.into_iter().zip(table) {
        assert_eq!(dhcp6::decode(&read(name)), Some((server, expected)), "{name}");
    }
}

#[test]
fn no_message_however_broken_is_a_panic_and_what_is_cut_short_says_no_more() {
    for name in NAMES {
        let good = read(name);
        let (_, whole) = dhcp6::decode(&good).unwrap();
        for length in 0..good.len() {
            // IPv6 says how long it is.
            assert_eq!(dhcp6::decode(&good[..length]), None, "{name}, {length} bytes");
            if let Some(it) = good[..length].get(MESSAGE..).and_then(dhcp6::decode_message) {
                assert!(it.ia.is_none() || it.ia == whole.ia, "{name}, {length} bytes: {it:?}");
            }
        }
        for at in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut bad = good.clone();
                bad[at] = value;
                dhcp6::decode(&bad);
            }
        }
    }
    let mut frame = read("kea-advertise");
    // A message of a client; a relay's; another port; fragments; TCP.
    for (at, value) in [(MESSAGE, 1), (MESSAGE, 13), (57, 1), (20, 44), (20, 6)] {
        let before = std::mem::replace(&mut frame[at], value);
        assert_eq!(dhcp6::decode(&frame), None, "{at}");
        frame[at] = before;
    }
    assert!(dhcp6::decode(&frame).is_some());
}

/// What is no good counts for nothing, and hides nothing that stands behind it.
#[test]
fn an_option_that_is_no_good_takes_no_other_with_it() {
    let good = &read("kea-advertise")[OPTIONS..];
    let head = [2, 1, 2, 3];
    let table: [&[u8]; 9] = [
        &[0, 13, 0, 1, 7],
        &[0, 13, 0, 0],
        &[0, 7, 0, 0],
        &[0, 8, 0, 1, 0],
        &[0, 3, 0, 11, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0],
        &[0, 1, 0, 2, 0, 4],
        &[0, 82, 0, 3, 0, 0, 60],
        &[0, 16, 0, 2, 0, 0],
        &[0, 56, 0, 3, 0, 1, 9],
    ];
    let expected = dhcp6::decode_message(&[&head[..], good].concat()).unwrap();
    for bad in table {
        let message = [&head[..], bad, good].concat();
        assert_eq!(dhcp6::decode_message(&message), Some(expected.clone()), "{bad:?}");
    }
    // Nor inside an IA_NA, whose length grows by as much.
    for bad in [&[0, 5, 0, 3, 1, 2, 3][..], &[0, 13, 0, 1, 0], &[0, 26, 0, 1, 9]] {
        let ia = good.windows(4).position(|it| it == [0, 3, 0, 40]).unwrap();
        let mut options = good.to_vec();
        options[ia + 3] += u8::try_from(bad.len()).unwrap();
        options.splice(ia + 16..ia + 16, bad.iter().copied());
        let message = [&head[..], &options].concat();
        assert_eq!(dhcp6::decode_message(&message), Some(expected.clone()), "{bad:?}");
    }
    // Of two of a kind the first one counts; words are kept as far as they can be shown.
    let status = [0, 13, 0, 5, 0, 2, b'n', 0x1b, b'o', 0, 13, 0, 2, 0, 3];
    let heard = dhcp6::decode_message(&[&head[..], &status, good].concat()).unwrap();
    let words = "no".to_owned();
    assert_eq!(heard.status, Some(Dhcp6Status { code: Dhcp6Code::NoAddrsAvail, words }));
    let patience = [0, 82, 0, 4, 0, 0, 0, 60];
    let heard = dhcp6::decode_message(&[&head[..], &patience, good].concat()).unwrap();
    assert_eq!(heard.patience, Some(60));
}

#[test]
fn tshark_reads_our_messages_as_we_mean_them() {
    let from_mac = Mac([2, 0, 0, 0, 0, 9]);
    let from: Ipv6Addr = "fe80::ff:fe00:9".parse().unwrap();
    let say = |kind, elapsed, server: &[u8], ip: Option<&str>, name: &str| {
        // RFC 6355: a DUID of a UUID.
        let mut it = Dhcp6Message::new(kind, 0xad_beef, [&[0, 4][..], &[7; 16]].concat());
        (it.elapsed, it.server, it.host_name) = (Some(elapsed), server.to_vec(), name.to_owned());
        let ip = ip.map(|it| it.parse().unwrap());
        let addresses = ip.into_iter().map(|ip| Dhcp6Address { ip, preferred: 0, valid: 0 });
        let (id, addresses) = (0x0102_0304, addresses.collect());
        it.ia = Some(Dhcp6Ia { id, t1: 0, t2: 0, addresses, status: None });
        it
    };
    let (server, ip) = ([0, 3, 0, 1, 2, 0, 0, 0, 0, 1], "fd00::51");
    let messages = [
        say(Dhcp6Kind::Solicit, 0, &[], None, "web.example.org"),
        say(Dhcp6Kind::Request, 120, &server, Some(ip), "web"),
        say(Dhcp6Kind::Renew, 0, &server, Some(ip), ""),
        say(Dhcp6Kind::Rebind, 65_535, &[], Some(ip), ""),
        say(Dhcp6Kind::Release, 0, &server, Some(ip), ""),
        say(Dhcp6Kind::Decline, 0, &server, Some(ip), ""),
    ];
    let frames = messages.clone().map(|message| {
        let frame = dhcp6::encode(&Dhcp6Packet { from_mac, from, message: message.clone() });
        // It comes back as it was, too, but for a name, which servers say nothing of to us.
        let expected = Dhcp6Message { host_name: String::new(), ..message };
        assert_eq!(dhcp6::decode_message(&frame[MESSAGE..]), Some(expected));
        frame
    });
    let fields = [
        "eth.src",
        "eth.dst",
        "ipv6.src",
        "ipv6.dst",
        "udp.srcport",
        "udp.dstport",
        "udp.checksum.status",
        "dhcpv6.msgtype",
        "dhcpv6.xid",
        "dhcpv6.duiduuid.bytes",
        "dhcpv6.duidll.link_layer_addr",
        "dhcpv6.iaid",
        "dhcpv6.iaaddr.ip",
        "dhcpv6.elapsed_time",
        "dhcpv6.requested_option_code",
        "dhcpv6.clientfqdn.client.s",
        "dhcpv6.client_domain",
        "_ws.malformed",
    ];
    let capture = env::temp_dir().join(format!("edgevip-dhcp6-{}.pcap", process::id()));
    fs::write(&capture, pcap(frames.into_iter())).unwrap();
    let mut tshark = Command::new("tshark");
    tshark.args(["-o", "udp.check_checksum:TRUE", "-T", "fields", "-r"]).arg(&capture);
    tshark.args(fields.iter().flat_map(|it| ["-e", it]));
    let output = tshark.output().unwrap();
    fs::remove_file(&capture).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |kind, server, ip, elapsed, options, s, name| {
        let head = ["02:00:00:00:00:09", "33:33:00:01:00:02", "fe80::ff:fe00:9", "ff02::1:2"];
        let uuid = "07070707070707070707070707070707";
        let rest = ["546", "547", "1", kind, "0xadbeef", uuid, server, "01020304"];
        [&head[..], &rest, &[ip, elapsed, options, s, name, ""]].concat()
    };
    let server = "02:00:00:00:00:01";
    let expected = [
        row("1", "", "", "0", "39,82", "1", "web.example.org."),
        row("3", server, ip, "1200", "39,82", "1", "web"),
        row("5", server, ip, "0", "82", "", ""),
        row("6", "", ip, "655350", "82", "", ""),
        row("8", server, ip, "0", "", "", ""),
        row("9", server, ip, "0", "", "", ""),
    ];
    let seen: Vec<Vec<&str>> = text.lines().map(|it| it.split('\t').collect()).collect();
    assert_eq!(seen, expected);
}
