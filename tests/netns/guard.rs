//! What reaches the address of a Service, where that is filtered.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::gap;
use crate::lab::net::{command_in, inside};
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::services::{SOON, at, forget, full, object, service, serving, told, told_of};

pub const SCENARIOS: &[Scenario] =
    &[("svc_guarded", svc_guarded), ("svc_guarded_killed", svc_guarded_killed)];

fn tables(node: &str) -> String {
    let listed = command_in(node, "nft").args(["list", "tables"]).output().expect("nft runs");
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

/// Whether the client gets through.
fn connects(ip: IpAddr, port: u16) -> bool {
    let within = Duration::from_millis(500);
    let to = SocketAddr::new(ip, port);
    inside("client", || TcpStream::connect_timeout(&to, within).is_ok())
}

fn pings(ip: IpAddr) -> bool {
    let mut ping = command_in("client", "ping");
    ping.args(["-c", "1", "-W", "1", &ip.to_string()]);
    ping.output().expect("ping runs").status.success()
}

fn svc_guarded(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.set("enable_service_security", "true");
    // Whatever is asked for on this host answers: it is not the Service's.
    let listen = |port| inside("n1", || TcpListener::bind(("::", port)).expect("it is free"));
    let _listening = [80, 81].map(listen);
    cluster.start("n1");
    cluster.status_is("n1", "leads", |it| it["role"] == "leader");
    let (vip, vip6) = (cluster.vip, cluster.vip6);
    let watch = Watch::begin(vip);
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    let six = service(cluster, "six", "", &["n2"]);
    cluster.lab.api.apply(&at(&six, &vip6.to_string(), vip));
    watch.only("n1", SOON);
    told(cluster, "web", "n1");
    told_of(cluster, "six", "n1", vip6);
    for ip in [vip, vip6] {
        assert!(wait_for(SOON, || connects(ip, 80)), "{ip} is not reached: {}", tables("n1"));
        assert!(!connects(ip, 81), "{ip} is reached on another port");
        assert!(!pings(ip), "{ip} answers pings");
    }
    let own = "10.77.0.11".parse().expect("an address");
    assert!(connects(own, 81) && pings(own), "the host's own address is its own business");

    // What the host asks for from the address comes back.
    let client = inside("client", || UdpSocket::bind(("10.77.0.100", 7070)).expect("it is free"));
    let asks = inside("n1", || UdpSocket::bind((vip, 0)).expect("it has the address"));
    asks.send_to(b"?", "10.77.0.100:7070").expect("it is sent");
    client.set_read_timeout(Some(SOON)).expect("a time");
    let (_, from) = client.recv_from(&mut [0; 8]).expect("it is asked");
    client.send_to(b"!", from).expect("it is sent");
    asks.set_read_timeout(Some(SOON)).expect("a time");
    asks.recv_from(&mut [0; 8]).expect("the answer arrives");

    // Ports follow the Service; so do the rules, when somebody flushes them.
    let name = full("web", cluster);
    let ports = r#"{"spec":{"ports":[{"name":"p","port":81,"protocol":"TCP"}]}}"#;
    cluster.lab.api.kubectl(&["patch", "service", &name, "--type", "merge", "-p", ports]);
    assert!(wait_for(SOON, || connects(vip, 81) && !connects(vip, 80)));
    let flushed = command_in("n1", "nft").args(["flush", "ruleset"]).output().expect("nft runs");
    assert!(flushed.status.success());
    assert!(wait_for(SOON, || tables("n1").contains("edgevip_n1.ports")), "{}", tables("n1"));
    assert!(wait_for(SOON, || connects(vip, 81) && !connects(vip, 80)));
    let ignore = "kube-vip.io/ignore-service-security=true";
    cluster.lab.api.kubectl(&["annotate", "service", &name, ignore]);
    assert!(wait_for(SOON, || pings(vip) && connects(vip, 80)));
    assert!(!pings(vip6), "the other one is guarded");
    forget(cluster, &["web", "six"]);
    assert!(wait_for(SOON, || !tables("n1").contains(".ports")), "{}", tables("n1"));
    "its ports and no others, IPv4 and IPv6; gone with it".into()
}

/// What a killed daemon left goes with the next; a stop leaves nothing. A Service that gets an
/// address that somebody uses does not claim it.
fn svc_guarded_killed(cluster: &mut Cluster<'_>) -> String {
    serving(cluster);
    cluster.set("enable_service_security", "true");
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    cluster.start("n1");
    told(cluster, "web", "n1");
    assert!(tables("n1").contains("edgevip_n1.ports"), "{}", tables("n1"));
    cluster.kill("n1");
    forget(cluster, &["web"]);
    assert!(tables("n1").contains("edgevip_n1.ports"), "{}", tables("n1"));
    cluster.start("n1");
    assert!(wait_for(SOON, || !tables("n1").contains(".ports")), "{}", tables("n1"));
    cluster.lab.api.apply(&service(cluster, "web", "", &["n2"]));
    told(cluster, "web", "n1");
    assert!(wait_for(SOON, || tables("n1").contains("edgevip_n1.ports")));

    // The stranger's own address is in use, and it is not told of any more.
    let name = full("web", cluster);
    let strangers = "kube-vip.io/loadbalancerIPs=10.77.0.66";
    cluster.lab.api.kubectl(&["annotate", "--overwrite", "service", &name, strangers]);
    cluster.status_is("n1", "is in conflict", |it| {
        let all = it["vips"].as_array().cloned().unwrap_or_default();
        all.iter().any(|it| it["vip"] == "10.77.0.66" && it["code"] == "conflict")
    });
    gap::reachable("10.77.0.66".parse().expect("an address"), SOON);
    let told = object(cluster, "web")["status"].to_string();
    assert!(!told.contains("10.77.0.66"), "{told}");
    let back = format!("kube-vip.io/loadbalancerIPs={}", cluster.vip);
    cluster.lab.api.kubectl(&["annotate", "--overwrite", "service", &name, &back]);
    cluster.status_is("n1", "answers", |it| it["vips"][0]["state"] == "answering");
    cluster.signal("n1", Signal::SIGTERM);
    assert!(wait_for(SOON, || !tables("n1").contains(".ports")), "{}", tables("n1"));
    forget(cluster, &["web"]);
    "left by a crash and removed; a stop leaves nothing; another address is asked for first".into()
}
