//! What members keep on disk is lost, bad, somebody else's, or has no room.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use edgevip::io::clock;
use nix::mount::{MsFlags, mount};

use super::{LONG, nothing_lost};
use crate::RaftScenario;
use crate::lab::gap::Gap;
use crate::lab::net::{NODES, run};
use crate::lab::quorum::Quorum;

pub const SCENARIOS: &[RaftScenario] = &[
    ("raft_full_disk", full_disk),
    ("raft_slow_disk", slow_disk),
    ("raft_corrupt_store", corrupt_store),
    ("raft_foreign_store", foreign_store),
    ("raft_lost_store", lost_store),
    ("raft_steady_state_writes_nothing", steady_state_writes_nothing),
];

fn full_disk(quorum: &mut Quorum<'_>) -> String {
    for node in NODES {
        let folder = quorum.state(node);
        fs::create_dir_all(&folder).expect("/run is ours");
        mount(Some("small"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=64k"))
            .expect("a tmpfs can be mounted in a mount namespace of one's own");
    }
    let (watch, roles) = quorum.patient().settle();
    let full = roles.leader.as_str();
    fill(&quorum.state(full));
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    // Who cannot write gives the leadership away at the first thing that is asked; what is
    // asked then is agreed, and the VIP comes here all the same.
    quorum.ordered(&format!("move {} {full}", quorum.vip));
    watch.only(full, LONG);
    let leader = quorum.leader();
    assert_ne!(leader, full, "it leads with a full disk");
    let status = quorum.status_is(full, "names the disk", |it| {
        it["quorum"]["silent_because"].as_str().is_some_and(|it| it.contains("no room for "))
    });
    // It still votes: without it there is no majority.
    quorum.kill(&leader);
    quorum.status_is(full, "has another leader", |it| {
        let now = it["quorum"]["leader"].as_str();
        now.is_some_and(|it| it != leader) && it["vips"][0]["state"] == "answering"
    });
    watch.only(full, LONG);
    let words = status["quorum"]["silent_because"].as_str().unwrap_or_default().to_string();
    let words = words.replace(&quorum.folder().display().to_string(), "");
    format!("{}; {words}", nothing_lost(gap, &watch, since))
}

/// The holder's disk takes its time: who answers does not wait for it.
fn slow_disk(quorum: &mut Quorum<'_>) -> String {
    const SLOW: Duration = Duration::from_secs(1);
    let (watch, _) = quorum.patient().settle();
    let roles = quorum.hold_apart();
    let slow = [roles.holder.as_str()];
    let children = slow.map(|node| {
        let pid = quorum.daemon(node).pid().to_string();
        let inject = format!("inject=fsync,fdatasync:delay_enter={}", SLOW.as_micros());
        let trace = ["-e", "trace=fsync,fdatasync", "-e", &inject, "-o", "/dev/null"];
        Command::new("strace").args(["-qq", "-f", "-p", &pid]).args(trace).spawn()
    });
    quorum.wait(Duration::from_millis(300));
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    // The others have agreed to it long before this disk has it.
    let third = NODES.into_iter().find(|it| *it != roles.holder && *it != roles.leader);
    quorum.ordered(&format!("drain {}", third.expect("three")));
    quorum.wait(SLOW * 3);
    for child in children {
        let mut child = child.expect("strace is there");
        run(Command::new("kill").args(["-INT", &child.id().to_string()]));
        child.wait().expect("it is our child");
    }
    quorum.settled_on(&roles.holder);
    let spans = watch.spans(since);
    assert_eq!(spans.len(), 1, "somebody waits for a disk\n{}", watch.story(since));
    nothing_lost(gap, &watch, since)
}

/// Leaves no room in a folder that is a small tmpfs.
fn fill(folder: &Path) {
    let noise = vec![1; 4_096];
    for number in 0..1_000 {
        if fs::write(folder.join(format!("noise-{number}")), &noise).is_err() {
            return;
        }
    }
    panic!("{} has room for everything", folder.display());
}

fn corrupt_store(quorum: &mut Quorum<'_>) -> String {
    stays_out(quorum, "checksum", |quorum, node| {
        let store = quorum.store(node);
        let mut bytes = fs::read(&store).expect("it keeps a store");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(store, bytes).expect("/run is ours");
    })
}

fn foreign_store(quorum: &mut Quorum<'_>) -> String {
    if !Path::new("/etc/machine-id").exists() {
        return "not tried: this machine has no /etc/machine-id".into();
    }
    stays_out(quorum, "is of machine ", |quorum, node| {
        let other = NODES.into_iter().find(|it| *it != node).expect("three");
        fs::copy(quorum.store(other), quorum.store(node)).expect("/run is ours");
    })
}

/// A member with a bad store says so and takes no part; once it is removed, it does.
fn stays_out(quorum: &mut Quorum<'_>, why: &str, spoil: impl Fn(&Quorum<'_>, &str)) -> String {
    let (watch, roles) = quorum.patient().settle();
    let node = NODES.into_iter().find(|it| *it != roles.holder).expect("three");
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    quorum.kill(node);
    spoil(quorum, node);
    let spoilt = fs::read(quorum.store(node)).expect("it is there");
    quorum.start(node);
    let status = quorum.status_is(node, "says why", |it| {
        it["quorum"]["silent_because"].as_str().is_some_and(|it| it.contains(why))
    });
    quorum.wait(Duration::from_millis(500));
    let still = quorum.status(node).unwrap_or_default();
    assert!(still["quorum"]["silent_because"].is_string(), "{still}");
    assert_eq!(fs::read(quorum.store(node)).ok(), Some(spoilt), "a bad store is written over");
    quorum.stop(node);
    fs::remove_file(quorum.store(node)).expect("it is there");
    quorum.start(node);
    quorum.settled_on(&roles.holder);
    let words = status["quorum"]["silent_because"].as_str().unwrap_or_default().to_string();
    let words = words.replace(&quorum.folder().display().to_string(), "");
    format!("{}; {words}", nothing_lost(gap, &watch, since))
}

fn lost_store(quorum: &mut Quorum<'_>) -> String {
    let (watch, _) = quorum.patient().settle();
    let roles = quorum.hold_apart();
    let (gap, since) = (Gap::begin(quorum.vip), clock::now());
    for node in NODES.into_iter().filter(|it| *it != roles.holder) {
        quorum.kill(node);
        fs::remove_dir_all(quorum.state(node)).expect("it keeps something");
        quorum.start(node);
        quorum.settled_on(&roles.holder);
        assert!(quorum.store(node).exists(), "{node} has learnt nothing");
    }
    nothing_lost(gap, &watch, since)
}

/// At rest nothing is written, and nothing waits for a disk.
fn steady_state_writes_nothing(quorum: &mut Quorum<'_>) -> String {
    let (_watch, _) = quorum.patient().settle();
    quorum.wait(Duration::from_millis(500));
    let written = |node: &str| {
        let text = fs::read_to_string(format!("/proc/{}/io", quorum.daemon(node).pid()));
        let text = text.unwrap_or_default();
        let line = text.lines().find_map(|it| it.strip_prefix("write_bytes: "));
        line.and_then(|it| it.parse::<u64>().ok())
    };
    let before = NODES.map(written);
    let mut traces = Vec::new();
    for node in NODES {
        let pid = quorum.daemon(node).pid();
        let trace = |name: &str, calls: &str, words: &[&str]| {
            let output = quorum.folder().join(format!("{node}-{name}"));
            let mut strace = Command::new("strace");
            strace.args(["-qq", "-e", &format!("trace={calls}"), "-o"]).arg(&output).args(words);
            let child = strace.spawn().expect("strace is there");
            (child, output)
        };
        let calls = "fsync,fdatasync,sync_file_range,rename,renameat,renameat2,openat,pwrite64";
        traces.push(trace("all", calls, &["-f", "-p", &pid.to_string()]));
    }
    quorum.wait(Duration::from_secs(3));
    let said = traces.into_iter().map(|(mut child, output)| {
        run(Command::new("kill").args(["-INT", &child.id().to_string()]));
        child.wait().expect("it is our child");
        fs::read_to_string(output).expect("strace has written it")
    });
    let said: Vec<_> = said.collect();
    assert!(said.iter().all(String::is_empty), "{said:?}");
    assert_eq!(before, NODES.map(written), "bytes written");
    "no file is opened, written, renamed or synced in 3 s".into()
}
