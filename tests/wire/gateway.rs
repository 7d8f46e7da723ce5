//! What is said to gateways and by them: a fixture each, and tshark's reading of ours.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::{env, fs, process};

use edgevip::model::{
    Exposed, GatewayFault, GatewayNo, MappingEntry, Nonce, Protocol, ServicePort, UpnpControl, Vip,
};
use edgevip::wire::gateway::natpmp::Said;
use edgevip::wire::gateway::soap::Answer;
use edgevip::wire::gateway::{natpmp, pcp, soap};
use etherparse::PacketBuilder;

use super::{fixture, folder, hex, pcap};

const NONCE: Nonce = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn web() -> Exposed {
    let port = ServicePort { port: 443, protocol: Protocol::Tcp };
    Exposed { vip: Vip("10.0.0.5".parse().unwrap()), port }
}

fn dns() -> Exposed {
    let port = ServicePort { port: 53, protocol: Protocol::Udp };
    Exposed { vip: Vip("fd00::5".parse().unwrap()), port }
}

fn ours() -> Vec<(&'static str, Vec<u8>)> {
    let me: IpAddr = "10.0.0.5".parse().unwrap();
    vec![
        ("pcp-announce", pcp::announce(me)),
        ("pcp-map", pcp::map(&web(), &NONCE, 3_600).unwrap()),
        ("pcp-end", pcp::map(&web(), &NONCE, 0).unwrap()),
        ("pcp-map6", pcp::map(&dns(), &NONCE, 60).unwrap()),
        ("natpmp-address", natpmp::address()),
        ("natpmp-map", natpmp::map(&web(), 3_600).unwrap()),
        ("natpmp-end", natpmp::map(&dns(), 0).unwrap()),
    ]
}

#[test]
fn our_questions_are_the_bytes_of_their_fixtures() {
    for (name, bytes) in ours() {
        assert_eq!(hex(&bytes), hex(&fixture(&format!("gateway/{name}"))), "{name}");
    }
    let control = |address: &str, path: &str, service: &str| UpnpControl {
        address: address.parse().unwrap(),
        path: path.into(),
        service: format!("urn:schemas-upnp-org:service:{service}"),
    };
    let add = soap::add_port_mapping(&web(), 3_600, "a <web> & \"more\"");
    let to = control("10.0.0.1:5000", "/ctl/IPConn", "WANIPConnection:2");
    assert_eq!(soap::request(&to, &add), text("add"));
    let pinhole = soap::add_pinhole(&dns(), 60).unwrap();
    let to = control("[fe80::1%2]:5000", "/ctl/IP6FCtl", "WANIPv6FirewallControl:1");
    assert_eq!(soap::request(&to, &pinhole), text("pinhole"));
}

#[test]
fn there_is_no_word_for_sctp() {
    let port = ServicePort { port: 80, protocol: Protocol::Sctp };
    let it = Exposed { port, ..web() };
    assert_eq!((pcp::map(&it, &NONCE, 1), natpmp::map(&it, 1)), (None, None));
    assert_eq!(soap::add_pinhole(&it, 1), None);
}

#[test]
fn answers_mean_what_their_fixtures_say() {
    let read = |name: &str| pcp::read(&fixture(&format!("gateway/{name}"))).unwrap();
    let it = read("pcp-mapped");
    assert_eq!((it.result, it.lifetime, it.epoch), (0, 3_600, 4_096));
    let map = it.map.unwrap();
    assert_eq!((map.external, map.address), (443, "198.51.100.7".parse::<IpAddr>().unwrap()));
    assert!(map.is_of(&web(), &NONCE));
    assert!(!map.is_of(&web(), &[0; 12]) && !map.is_of(&dns(), &NONCE));
    let it = read("pcp-refused");
    assert_eq!(pcp::fault(it.result).no, GatewayNo::Taken);
    assert!(it.map.is_some_and(|it| it.is_of(&web(), &NONCE)));
    assert_eq!(read("pcp-announced").epoch, 9);

    let read = |name: &str| natpmp::read(&fixture(&format!("gateway/{name}"))).unwrap();
    let it = read("natpmp-addressed");
    assert_eq!((it.epoch, it.said), (9, Some(Said::Address([198, 51, 100, 7].into()))));
    let mapped = Said::Mapped { udp: false, internal: 443, external: 444, lifetime: 1_800 };
    assert_eq!(read("natpmp-mapped").said, Some(mapped));
    let it = read("natpmp-refused");
    assert_eq!((natpmp::fault(it.result).no, it.said), (GatewayNo::NotAllowed, None));
}

#[test]
fn documents_mean_what_their_fixtures_say() {
    let client = "10.0.0.5".to_owned();
    let entry = MappingEntry { client, port: 443, enabled: true, left: 3_599 };
    for name in ["entry", "entry-to-the-end", "entry-in-chunks"] {
        let Answer::Done(document) = soap::read(&text(name)).unwrap() else { panic!("{name}") };
        assert_eq!(soap::entry(&document).unwrap(), entry, "{name}");
        let description = soap::text(&document, "NewPortMappingDescription");
        assert_eq!(description.as_deref(), Some("a <web> & more"));
        assert_eq!(soap::is_whole(&text(name)), name != "entry-to-the-end");
    }
    for (name, no, code) in [
        ("taken", GatewayNo::Taken, 718),
        ("only-permanent", GatewayNo::OnlyPermanent, 725),
        ("nothing-there", GatewayNo::NotThere, 714),
        ("not-allowed", GatewayNo::NotAllowed, 606),
        ("page", GatewayNo::Other, 404),
    ] {
        let answer = soap::read(&text(name)).unwrap();
        let Answer::Fault(GatewayFault { no: said, code: number, .. }) = answer else {
            panic!("{name}: {answer:?}")
        };
        assert_eq!((said, number), (no, code), "{name}");
    }
    for (name, ip) in [("external", "198.51.100.7".parse().ok()), ("no-external", None)] {
        let Answer::Done(document) = soap::read(&text(name)).unwrap() else { panic!("{name}") };
        assert_eq!(soap::external(&document), ip, "{name}");
    }
}

#[test]
fn a_control_url_leads_to_the_device_itself() {
    let device: SocketAddr = "10.0.0.1:5000".parse().unwrap();
    let cases = [
        ("/ctl", Some("10.0.0.1:5000 /ctl")),
        ("ctl", Some("10.0.0.1:5000 /ctl")),
        ("http://10.0.0.1:49152/up?x=1", Some("10.0.0.1:49152 /up?x=1")),
        ("http://10.0.0.1/up", Some("10.0.0.1:80 /up")),
        ("http://10.0.0.1", Some("10.0.0.1:80 /")),
        ("http://10.0.0.2/up", None),
        ("http://router/up", None),
        ("/ctl\r\nX: y", None),
    ];
    for (url, expected) in cases {
        let found = soap::control_path(device, url).map(|(to, path)| format!("{to} {path}"));
        assert_eq!(found.as_deref(), expected, "{url:?}");
    }
    let device: SocketAddr = "[fe80::1%3]:5000".parse().unwrap();
    let there = soap::control_path(device, "http://[fe80::1]:80/ctl").unwrap().0;
    assert_eq!(there, "[fe80::1%3]:80".parse().unwrap());
}

#[test]
fn no_answer_however_broken_is_a_panic_and_none_that_is_cut_short_is_believed() {
    let files = fs::read_dir(folder().join("gateway")).unwrap().map(|it| it.unwrap().path());
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let datagram = path.extension().is_some_and(|it| it == "hex");
        let good = if datagram { fixture(&format!("gateway/{name}")) } else { text(&name) };
        let look = |bytes: &[u8]| {
            _ = (pcp::read(bytes), natpmp::read(bytes), soap::is_whole(bytes));
            if let Ok(Answer::Done(document)) = soap::read(bytes) {
                _ = (soap::entry(&document), soap::external(&document));
            }
        };
        for length in 0..good.len() {
            let part = &good[..length];
            look(part);
            let believed = pcp::read(part).is_ok_and(|it| it.map.is_some())
                || natpmp::read(part).is_ok_and(|it| it.said.is_some())
                || (soap::is_whole(part) && datagram);
            assert!(!believed, "{name}, {length} bytes");
        }
        for at in 0..good.len() {
            for value in (0..=u8::MAX).step_by(if datagram { 1 } else { 17 }) {
                let mut bad = good.clone();
                bad[at] = value;
                look(&bad);
            }
        }
    }
}

#[test]
fn tshark_reads_our_questions_as_we_mean_them() {
    let fields = [
        "portcontrol.version",
        "portcontrol.opcode",
        "portcontrol.client_ip",
        "portcontrol.lifetime_req",
        "portcontrol.map.nonce",
        "portcontrol.map.protocol",
        "portcontrol.map.internal_port",
        "portcontrol.map.req_sug_external_port",
        "portcontrol.option.code",
        "nat-pmp.version",
        "nat-pmp.opcode",
        "nat-pmp.internal_port",
        "nat-pmp.external_port",
        "nat-pmp.pml",
        "_ws.malformed",
    ];
    let frames = ours().into_iter().map(|(_, payload)| {
        let packet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, 0, 5], [10, 0, 0, 1], 64)
            .udp(40_000, pcp::PORT);
        let mut bytes = Vec::new();
        packet.write(&mut bytes, &payload).unwrap();
        bytes
    });
    let capture = env::temp_dir().join(format!("edgevip-gateway-{}.pcap", process::id()));
    fs::write(&capture, pcap(frames)).unwrap();
    let mut tshark = Command::new("tshark");
    tshark.args(["-T", "fields", "-r"]).arg(&capture).args(fields.iter().flat_map(|it| ["-e", it]));
    let output = tshark.output().unwrap();
    fs::remove_file(&capture).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = String::from_utf8(output.stdout).unwrap();
    let seen: Vec<Vec<&str>> = seen.lines().map(|it| it.split('\t').collect()).collect();
    let (me, nonce) = ("::ffff:10.0.0.5", "0102030405060708090a0b0c");
    let pcp = |it: [&'static str; 9]| [&it[..], &[""; 6]].concat();
    let natpmp = |it: [&'static str; 5]| [&[""; 9][..], &it, &[""]].concat();
    let expected = [
        pcp(["2", "0", me, "0", "", "", "", "", ""]),
        pcp(["2", "1", me, "3600", nonce, "6", "443", "443", "2"]),
        pcp(["2", "1", me, "0", nonce, "6", "443", "0", ""]),
        pcp(["2", "1", "fd00::5", "60", nonce, "17", "53", "53", "2"]),
        natpmp(["0", "0", "", "", ""]),
        natpmp(["0", "2", "443", "443", "3600"]),
        natpmp(["0", "1", "53", "0", "0"]),
    ];
    assert_eq!(seen, expected);
}

fn text(name: &str) -> Vec<u8> {
    fs::read(folder().join("gateway").join(name).with_extension("http")).unwrap()
}
