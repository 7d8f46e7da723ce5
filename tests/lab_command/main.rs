//! `edgevip lab`: what it measures against what is known, and that nothing of it is left.
//!
//! Namespaces are a process's own, so each story is one: this program starts itself.

#![allow(clippy::unwrap_used, reason = "what fails here is a test that fails")]

mod stand_in;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Output, Stdio, exit};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use edgevip::io::clock;
use edgevip::io::netlink::links::{Links, index};
use edgevip::lab::enclosure::{Side, enter};
use edgevip::lab::gap::Gap;
use edgevip::lab::net::{NODES, Net, address};
use edgevip::lab::watch::Watch;
use edgevip::lab::{Options, Program, options, run};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcgetattr;
use nix::unistd::Pid;

const STORIES: [(&str, fn()); 8] = [
    ("a known silence is measured within 5 ms", a_known_silence),
    ("two holders are seen for as long as there are two", two_holders),
    ("a cut keeps the carrier and an unplugged cable does not", carriers),
    ("rounds are played and told of, one object a line", rounds),
    ("a script is played", a_script),
    ("the screen fits, keys work, and the terminal is left as it was", screen),
    ("nothing is left, however it ends", nothing_is_left),
    ("bad arguments end with 2 and what would be right", bad_arguments),
];

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["stand-in", word, ..] => stand_in::run(word),
        ["story", number] => STORIES[number.parse::<usize>().unwrap()].1(),
        ["play", ref words @ ..] => play(words),
        _ => return all(args.iter().find(|it| !it.starts_with('-')).map(String::as_str)),
    }
    ExitCode::SUCCESS
}

fn all(wanted: Option<&str>) -> ExitCode {
    let mut failed = 0;
    for (number, (name, _)) in STORIES.iter().enumerate() {
        if !wanted.is_none_or(|it| name.contains(it)) {
            continue;
        }
        let Output { status, stderr, .. } = this(&["story", &number.to_string()]).output().unwrap();
        let told = if status.success() { "ok" } else { "FAILED" };
        println!("{name} ... {told}");
        if !status.success() {
            failed += 1;
            println!("{status}\n{}", String::from_utf8_lossy(&stderr));
        }
    }
    ExitCode::from(u8::from(failed > 0))
}

fn this(args: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(args).stdin(Stdio::null());
    command
}

/// Comes back inside only.
fn go_in() {
    match enter().unwrap() {
        Side::Outside(code) => exit(i32::from(code)),
        Side::Inside => {}
    }
}

/// What `edgevip lab` does, with stand-ins on the nodes.
fn play(words: &[&str]) {
    let mut options = Options { json: true, ..Options::default() };
    match words {
        ["rounds", rounds, "events", events] => {
            options.rounds = Some(rounds.parse().unwrap());
            options.events = options::events(events).unwrap();
        }
        ["live"] => options.json = false,
        ["script", path] => options.script = Some(path.into()),
        _ => panic!("{words:?}"),
    }
    let path = env::current_exe().unwrap();
    let settings = vec![("address".to_owned(), address(200).to_string())];
    let program = Program { path, prefix: vec!["stand-in".into()], settings };
    exit(i32::from(run(&options, program).unwrap()));
}

fn a_known_silence() {
    go_in();
    let mut net = Net::build().unwrap();
    let vip = address(200);
    net.nodes[0].inside(|| give(200)).unwrap();
    let client = net.client.clone();
    let gap = Gap::begin(vip.into(), 10_000, move || client.enter().unwrap());
    pause(300);
    for silence in [40, 100, 250] {
        let since = clock::now();
        pause(60);
        let began = clock::now();
        net.cut(0).unwrap();
        pause(silence);
        net.join(0).unwrap();
        let silent = clock::now().saturating_since(began);
        pause(200);
        let seen = gap.seen(since, clock::now() - Duration::from_millis(50));
        let wrong = seen.longest.abs_diff(silent);
        assert!(wrong < Duration::from_millis(5), "{silent:?} was measured as {seen:?}");
    }
    assert!(gap.end().sent > 400);
}

fn two_holders() {
    go_in();
    let net = Net::build().unwrap();
    let client = net.client.clone();
    let watch = Watch::begin(address(200), 10_000, move || client.enter().unwrap());
    let began = clock::now();
    pause(100);
    assert_eq!(watch.now(), [false; NODES + 1]);
    net.nodes[1].inside(|| give(200)).unwrap();
    let alone = clock::now();
    pause(100);
    assert_eq!(watch.now(), [false, true, false, false]);
    assert_eq!(watch.only(alone + Duration::from_millis(20)), Some(1));
    assert_eq!(watch.two(began, clock::now()), Duration::ZERO);
    let two_since = clock::now();
    net.nodes[2].inside(|| give(200)).unwrap();
    pause(100);
    assert_eq!(watch.now(), [false, true, true, false]);
    assert_eq!(watch.only(alone), None);
    net.nodes[1].inside(|| take(200)).unwrap();
    let two = clock::now().saturating_since(two_since);
    pause(100);
    assert_eq!(watch.now(), [false, false, true, false]);
    let seen = watch.two(began, clock::now());
    assert!(seen.abs_diff(two) < Duration::from_millis(5), "{two:?} was measured as {seen:?}");
}

fn carriers() {
    go_in();
    let mut net = Net::build().unwrap();
    pause(50);
    assert!(carrier(&net));
    net.cut(0).unwrap();
    pause(50);
    assert!(carrier(&net));
    net.join(0).unwrap();
    net.unplug(0).unwrap();
    pause(50);
    assert!(!carrier(&net));
    net.plug(0).unwrap();
    pause(50);
    assert!(carrier(&net));
    assert!(net.cut(NODES).is_err());
}

fn rounds() {
    let played = this(&["play", "rounds", "2", "events", "kill,term"]).output().unwrap();
    let text = String::from_utf8(played.stdout).unwrap();
    let wrong = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "{}: {text}{wrong}", played.status);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["kill", "term", "kill", "term"], "{text}");
    for pair in lines.windows(2) {
        assert_eq!(pair[0]["to"], pair[1]["from"], "{text}");
    }
    for line in &lines {
        assert_ne!(line["from"], line["to"], "{text}");
        let gap = line["gap_ms"].as_f64().unwrap();
        let hold = stand_in::PAUSE.as_millis() as f64;
        assert!((hold - 5.0..hold + 60.0).contains(&gap), "{text}");
        assert_eq!(line["two_holders_ms"], 0, "{text}");
    }
}

fn a_script() {
    let path = env::temp_dir().join(format!("edgevip-script-{}", std::process::id()));
    let text = "kill holder # the first\nsettle\nafter 100ms stop\nafter 200ms heal\nsettle\n";
    fs::write(&path, text).unwrap();
    let played = this(&["play", "script", path.to_str().unwrap()]).output().unwrap();
    fs::remove_file(&path).unwrap();
    let text = String::from_utf8(played.stdout).unwrap();
    let wrong = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "{}: {text}{wrong}", played.status);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!((&lines[0]["event"], &lines[1]["event"]), (&"kill".into(), &"stop".into()));
    // A stopped stand-in goes on serving.
    assert_eq!(lines[1]["from"], lines[1]["to"], "{text}");
}

fn screen() {
    for end in ["q", "\x03"] {
        let pty = openpty(None, None).unwrap();
        // Else the laboratory would itself keep its terminal open.
        fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let mut command = this(&["play", "live"]);
        let end_of = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(end_of()).stdout(end_of()).stderr(end_of());
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let mut terminal = fs::File::from(pty.master);
        let shown = Arc::<Mutex<String>>::default();
        let (reader, to) = (terminal.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || read_all(reader, &to));
        let last = || {
            let shown = shown.lock().unwrap();
            let frames: Vec<_> = shown.split("\x1b[H").collect();
            frames[frames.len().saturating_sub(2)].to_owned()
        };
        let holder =
            || (1..=NODES).find(|it| line(&last(), &format!(" n{it} ")).contains("10.99."));
        eventually("somebody holds it", || holder().is_some());
        let first = holder().unwrap();
        write!(terminal, "{first}k").unwrap();
        eventually("another holds it", || last().contains(&format!("kill n{first} -> n")));
        let frame = last();
        assert!(frame.contains("two holders: never"), "{frame}");
        assert!(frame.lines().count() <= 24, "{frame}");
        for line in frame.lines() {
            assert!(plain(line).chars().count() <= 80, "{line}");
        }
        assert_ne!(tcgetattr(&pty.slave).unwrap(), before);
        write!(terminal, "{end}").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        let all = shown.lock().unwrap().clone();
        assert!(all.rfind("\x1b[?25h") > all.rfind("\x1b[?25l"), "{all}");
        assert!(all.contains("gap, ms"), "{all}");
    }
}

fn read_all(mut from: fs::File, to: &Mutex<String>) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        to.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

/// The line with this in it.
fn line(frame: &str, part: &str) -> String {
    frame.lines().find(|it| it.contains(part)).unwrap_or_default().to_owned()
}

/// Without what a terminal does not show.
fn plain(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap().to_owned();
    let rest = parts.map(|it| it.split_once(|it: char| it.is_alphabetic()).unwrap().1);
    first + &rest.collect::<String>()
}

fn eventually(what: &str, so: impl Fn() -> bool) {
    let end = clock::now() + Duration::from_secs(20);
    while !so() {
        assert!(clock::now() < end, "never: {what}");
        pause(20);
    }
}

fn nothing_is_left() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let mark = format!("{}{signal}", std::process::id());
        let mut command = this(&["play", "rounds", "1000", "events", "kill"]);
        let mut child = command.env("MARK", &mark).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("kill"));
        // The two of the laboratory; the daemons' own marks are taken from them.
        assert_eq!(marked(&mark), 2, "{signal}");
        let inside = children(child.id());
        assert_eq!(inside.len(), 1);
        assert!(children(inside[0]).len() >= NODES, "{signal}");
        let all: Vec<_> = children(inside[0]);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal() == Some(9), signal == Signal::SIGKILL, "{status}");
        let gone = || {
            let runs = |it: &u32| fs::exists(format!("/proc/{it}")).unwrap();
            marked(&mark) == 0 && !all.iter().any(runs)
        };
        let end = clock::now() + Duration::from_secs(10);
        while !gone() && clock::now() < end {
            pause(10);
        }
        assert!(gone(), "{signal}");
        assert!(!fs::exists("/run/key").unwrap(), "{signal}");
    }
}

fn bad_arguments() {
    let cases = [
        ("--events foo", "\"foo\" is no event; there are kill, stop, cut, carrier, drain, term"),
        ("--rounds 0", "a number of rounds from 1 to 100000 would be right"),
        ("--vips 99", "a number of VIPs from 1 to 16 would be right"),
        ("--profile quick", "there are fast, default, calm and slow"),
        ("--script /nowhere", "--script: /nowhere: No such file"),
        ("--script /nowhere --rounds 1", "one of the two would be right"),
        ("--logs /nowhere --rounds 1", "--logs: /nowhere/n1.log: No such file"),
        ("--frob", "no such flag"),
    ];
    for (words, why) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgevip"));
        let Output { status, stdout, stderr } =
            command.arg("lab").args(words.split(' ')).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{words}: {said}");
        assert!(said.contains(why), "{words}: {said}");
        assert!(stdout.is_empty(), "{words}");
    }
}

fn give(last: u8) {
    Links::open().unwrap().give(index("eth0").unwrap(), address(last), 32).unwrap();
}

fn take(last: u8) {
    Links::open().unwrap().take(index("eth0").unwrap(), address(last), 32).unwrap();
}

fn carrier(net: &Net) -> bool {
    let state = || edgevip::io::netlink::survey::everything().unwrap();
    let edgevip::model::NetworkChange::Snapshot { links, .. } = net.nodes[0].inside(state).unwrap()
    else {
        panic!("it is a snapshot")
    };
    links.iter().any(|it| it.name.0 == "eth0" && it.carrier)
}

/// Processes with this mark in their environment.
fn marked(mark: &str) -> usize {
    let mark = format!("MARK={mark}").into_bytes();
    let has = |path: std::path::PathBuf| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|it| *it == 0).any(|it| it == mark)
    };
    fs::read_dir("/proc").unwrap().filter(|it| has(it.as_ref().unwrap().path())).count()
}

fn children(of: u32) -> Vec<u32> {
    let path = format!("/proc/{of}/task/{of}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace().map(|it| it.parse().unwrap()).collect()
}

fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}
