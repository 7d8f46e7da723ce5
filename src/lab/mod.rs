//! `edgevip lab`: three nodes, a client and a switch on this machine, where one can see who
//! has a VIP, take it from him, and read how long a client had no answer.
//!
//! Needs no privileges where user namespaces are allowed, no network and no tools; everything
//! is in namespaces that end with it, however it ends.

mod daemon;
pub mod enclosure;
pub mod failover;
pub mod gap;
mod members;
pub mod net;
pub mod options;
pub mod packet;
mod plan;
mod screen;
pub mod socket;
pub mod stage;
mod table;
pub mod watch;

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

pub use daemon::Program;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;
pub use options::Options;

use crate::io::clock;
use enclosure::{Side, enter, signals};
use plan::{Flow, Plan};
use screen::{Screen, print, raw_keys};
use stage::{Stage, logs};

/// Something went wrong that is not the user's doing, or two held a VIP at a time.
const FAILED: u8 = 1;
/// Between two looks at everything.
const TICK: Duration = Duration::from_millis(10);

/// Plays until it is over; returns the exit code.
pub fn run(options: &Options, program: Program) -> Result<u8, String> {
    let plan = Plan::of(options, io::stdin().is_terminal() && io::stdout().is_terminal())?;
    let files = match &options.logs {
        Some(folder) => Some(logs(Some(folder)).map_err(|it| format!("--logs: {it}"))?),
        None => None,
    };
    match enter()? {
        Side::Outside(code) => return Ok(code),
        Side::Inside => {}
    }
    let files = files.map_or_else(|| logs(None), Ok)?;
    let mut stage = Stage::build(program, net::vips(options.vips), files)?;
    Ok(match play(options, plan, &mut stage) {
        Ok(()) if stage.two.is_zero() => 0,
        Ok(()) => FAILED,
        Err(why) => {
            eprintln!("edgevip lab: {why}");
            FAILED
        }
    })
}

fn play(options: &Options, mut plan: Plan, stage: &mut Stage) -> Result<(), String> {
    let keys = matches!(plan, Plan::Keys { .. });
    let profile = options.profile.as_deref().unwrap_or("default");
    let title = format!("edgevip lab, profile {profile}");
    let mut screen = if options.json { Screen::Quiet } else { Screen::open(title, keys) };
    if keys {
        raw_keys().map_err(|it| format!("taking keys: {it}"))?;
    }
    let bell = SignalFd::with_flags(&signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let bell = bell.map_err(|it| format!("listening for signals: {}", it.desc()))?;
    let played = loop {
        let now = clock::now();
        let key = wait(&bell, keys);
        if key == Some(ENOUGH) {
            break Ok(());
        }
        let flow = stage.tick(now).and_then(|()| plan.step(stage, key, now));
        screen.show(stage, plan.chosen(), now);
        match flow {
            Ok(Flow::On) => {}
            Ok(Flow::Over(line)) if options.json => print(&(line.json() + "\n")),
            Ok(Flow::Over(_)) => {}
            Ok(Flow::End) => break Ok(()),
            Err(why) => break Err(why),
        }
    };
    screen.close(stage, plan.chosen(), clock::now());
    if !options.json {
        print(&table::distribution(&stage.failovers));
    }
    played
}

/// What a signal that ends it is read as.
const ENOUGH: u8 = 3;

/// Waits for a key or a signal, for a moment.
fn wait(bell: &SignalFd, keys: bool) -> Option<u8> {
    let stdin = io::stdin();
    let mut fds = vec![PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
    if keys {
        fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
    }
    _ = poll(&mut fds, PollTimeout::from(TICK.as_millis() as u16));
    let struck = fds.get(1).is_some_and(|it| it.any() == Some(true));
    while let Ok(Some(it)) = bell.read_signal() {
        if it.ssi_signo != Signal::SIGCHLD as u32 {
            return Some(ENOUGH);
        }
    }
    let mut key = [0];
    if !struck {
        return None;
    }
    // Past std's buffer, in which keys would wait unseen. A terminal that is gone reads as
    // its end.
    match read(&stdin, &mut key) {
        Ok(1) => Some(key[0]),
        Ok(_) | Err(_) => Some(ENOUGH),
    }
}
