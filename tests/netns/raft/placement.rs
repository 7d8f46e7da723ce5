//! Where VIPs go: witnesses, many VIPs, members that are ill.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use edgevip::io::clock;
use nix::sys::signal::Signal;

use super::{LONG, SOON, moved, nothing_lost};
use crate::RaftScenario;
use crate::lab::gap::{Gap, reachable};
use crate::lab::net::{self, NODES};
use crate::lab::quorum::Quorum;
use crate::lab::wait_for;
use crate::outcome::{LIFETIME, SLACK, never_two, two_at_most};

pub const SCENARIOS: &[RaftScenario] = &[
    ("raft_witness", witness),
    ("raft_two_hundred_vips", two_hundred_vips),
    ("raft_check_command", check_command),
    ("raft_health_address", health_address),
    ("raft_kill_unfenced", kill_unfenced),
];

fn witness(quorum: &mut Quorum<'_>) -> String {
    quorum.peers(&["n1", "n2", "n3:witness"]);
    let (watch, _) = quorum.settle();
    let mut said = Vec::new();
    let since = clock::now();
    for _ in 0..2 {
        let holder = quorum.settled().holder;
        assert_ne!(holder, "n3", "a witness carries");
        let outcome = moved(quorum, &watch, &holder, |it| _ = it.kill(&holder));
        assert!(outcome.took <= SOON, "{outcome}\n{}", watch.story(since));
        assert_ne!(outcome.heir, "n3", "a witness carries");
        quorum.start(&holder);
        quorum.settled();
        said.push(outcome.to_string());
    }
    let refused = quorum.order(&format!("move {} n3", quorum.vip)).expect_err("it carries nothing");
    assert!(refused.contains("n3 is a witness"), "{refused}");
    never_two(&watch, since);
    said.join("; ")
}

fn two_hundred_vips(quorum: &mut Quorum<'_>) -> String {
    let vips = quorum.carry(200);
    let since = clock::now();
    // What moves because the machine is busy with something else moves back.
    quorum.set("edgevip_fail_back", "at-once");
    let (watch, roles) = quorum.patient().settle();
    let before = spread(quorum, 60..=74);
    let began = crate::lab::millis(clock::now().saturating_since(since));
    let holder = roles.holder;
    let outcome = moved(quorum, &watch, &holder, |it| _ = it.kill(&holder));
    assert!(outcome.took <= SOON * 3, "{outcome}");
    let after = spread(quorum, 90..=110);
    let all = crate::lab::millis(clock::now().saturating_since(outcome.since));
    vips.iter().for_each(|it| reachable(*it, LONG));
    never_two(&watch, since);
    format!("there after {began} ms {before:?}; {outcome}, all after {all} ms at most {after:?}")
}

/// Waits until each member carries so many of the two hundred; returns how many.
fn spread(quorum: &Quorum<'_>, each: RangeInclusive<usize>) -> BTreeMap<String, usize> {
    let mut by = BTreeMap::new();
    let fine = wait_for(LONG, || {
        by.clear();
        for name in quorum.names() {
            let status = quorum.status(&name).unwrap_or_default();
            let vips = status["vips"].as_array().cloned().unwrap_or_default();
            let here = vips.iter().filter(|it| it["state"] == "answering").count();
            by.insert(name, here);
        }
        by.values().sum::<usize>() == 200 && by.values().all(|it| each.contains(it))
    });
    assert!(fine, "not {each:?} each: {by:?}");
    by
}

/// Ill where the holder is alone in it, the VIP goes; ill everywhere, it stays.
fn check_command(quorum: &mut Quorum<'_>) -> String {
    let folder = quorum.folder();
    let ill = |node: &str| folder.join(format!("ill-{node}"));
    for node in NODES {
        let command = format!("! [ -e {} ]", ill(node).display());
        quorum.set_on(node, "edgevip_check_command", &command);
    }
    quorum.set("edgevip_check_interval", "200ms").set("edgevip_check_fall", "1");
    let (watch, roles) = quorum.patient().settle();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    fs::write(ill(&roles.holder), "").expect("/run is ours");
    let heir = watch.other_than(&[&roles.holder], LONG);
    let first = watch.first_other(&roles.holder, since).expect("the heir has answered");
    let took = crate::lab::millis(first.saturating_since(since));
    quorum.settled_on(&heir);
    let seen = |of: &str| quorum.seen_by(&heir, of)["ailments"] == serde_json::json!(["check"]);
    assert!(seen(&roles.holder), "{}", quorum.seen_by(&heir, &roles.holder));
    for node in NODES {
        fs::write(ill(node), "").expect("/run is ours");
    }
    let all = wait_for(LONG, || NODES.iter().filter(|it| **it != heir).all(|it| seen(it)));
    assert!(all, "not all are ill");
    quorum.wait(Duration::from_millis(600));
    quorum.settled_on(&heir);
    format!("{} after {took} ms; {}", heir, nothing_lost(gap, &watch, since))
}

fn health_address(quorum: &mut Quorum<'_>) -> String {
    let mut servers: BTreeMap<_, _> = NODES.into_iter().map(|it| (it, Server::begin(it))).collect();
    let address = format!("http://127.0.0.1:{}/livez", Server::PORT);
    quorum
        .set("control_plane_health_check_address", &address)
        .set("control_plane_health_check_period_seconds", "200ms");
    let (watch, roles) = quorum.patient().settle();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    let server = servers.remove(roles.holder.as_str()).expect("one on each node");
    drop(server);
    let heir = watch.other_than(&[&roles.holder], LONG);
    let first = watch.first_other(&roles.holder, since).expect("the heir has answered");
    let took = crate::lab::millis(first.saturating_since(since));
    quorum.settled_on(&heir);
    let seen = quorum.seen_by(&heir, &roles.holder);
    assert_eq!(seen["ailments"], serde_json::json!(["health"]), "{seen}");
    format!("{heir} after {took} ms; {}", nothing_lost(gap, &watch, since))
}

/// A server on a node that says that all is well.
struct Server {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    const PORT: u16 = 8080;

    fn begin(node: &'static str) -> Self {
        let over = Arc::<AtomicBool>::default();
        let until = Arc::clone(&over);
        let thread = thread::spawn(move || {
            net::join(node);
            let listener = TcpListener::bind(("127.0.0.1", Self::PORT)).expect("the port is free");
            listener.set_nonblocking(true).expect("a socket takes that");
            while !until.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        _ = stream.set_nonblocking(false);
                        _ = stream.set_read_timeout(Some(SLACK));
                        _ = stream.read(&mut [0; 1024]);
                        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close";
                        _ = stream.write_all(format!("{head}\r\n\r\nok").as_bytes());
                    }
                    Err(_) => thread::park_timeout(Duration::from_millis(10)),
                }
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// Without the fence only the kernel's lifetimes silence a dead member's address, and the
/// promise outlasts these.
fn kill_unfenced(quorum: &mut Quorum<'_>) -> String {
    quorum
        .set("edgevip_fence", "off")
        .set("vip_raft_heartbeat", "2000")
        .set("vip_raft_promise", "9000");
    let (watch, roles) = quorum.settle_within(Duration::from_secs(40));
    let outcome = moved(quorum, &watch, &roles.holder, |it| {
        _ = it.signal(&roles.holder, Signal::SIGKILL);
    });
    two_at_most(&watch, outcome.since, Duration::ZERO);
    let promise = Duration::from_millis(9_000);
    assert!(outcome.took <= promise + SLACK, "{outcome}");
    assert!(LIFETIME < promise);
    outcome.to_string()
}
