//! Commands of the user's: each in a process group of its own, and for no longer than it may.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SIGKILL, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::io::clock;

/// A script for the shell, which gets none of what is the service manager's business.
pub(in crate::io) fn shell(script: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(script)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::null())
        .process_group(0);
    shell
}

/// What became of a command. Dropping it waits for the end of one that was killed, which
/// may be long in coming where a file system hangs.
pub(in crate::io) struct Outcome {
    /// `None`: it took too long and was killed, with all it had started.
    pub status: Option<ExitStatus>,
    /// The beginning of what it said on stderr, if that was piped.
    pub said: Vec<u8>,
    _group: Group,
}

/// Runs a command, so long at most.
pub(in crate::io) fn run(command: &mut Command, limit: Duration) -> io::Result<Outcome> {
    let mut group = Group::start(command)?;
    let mut stderr = group.child.stderr.take();
    if let Some(it) = &stderr {
        fcntl(it.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let mut said = Vec::new();
    let give_up_at = clock::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        let status = group.child.try_wait()?;
        if let Some(it) = &mut stderr {
            listen(it, &mut said);
        }
        if status.is_some() {
            return Ok(Outcome { status, said, _group: group });
        }
        if clock::now() >= give_up_at {
            let _ = killpg(group.id(), SIGKILL);
            return Ok(Outcome { status: None, said, _group: group });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Takes what there is, and not the whole of a flood: who is never read hangs.
fn listen(stderr: &mut ChildStderr, said: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    for _ in 0..64 {
        match stderr.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let room = KEPT.saturating_sub(said.len());
                said.extend(chunk.iter().take(length.min(room)));
            }
        }
    }
}

const KEPT: usize = 1024;

/// A command that was started, and its process group.
struct Group {
    child: Child,
}

impl Group {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut running = running();
        let child = command.spawn()?;
        *running += 1;
        Ok(Self { child })
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.child.wait();
        let mut running = running();
        *running = running.saturating_sub(1);
        let alone = *running == 0;
        reap_orphans(self.id(), alone);
    }
}

/// How many commands run. While it is locked, none starts and none is over.
fn running() -> MutexGuard<'static, u32> {
    static RUNNING: Mutex<u32> = Mutex::new(0);
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As PID 1 of a container this process inherits what its commands leave behind. The end of
/// a command that another thread waits for is not to be taken from it.
fn reap_orphans(group: Pid, alone: bool) {
    let all = alone && std::process::id() == 1;
    let whom = Pid::from_raw(if all { -1 } else { -group.as_raw() });
    while let Ok(it) = waitpid(whom, Some(WaitPidFlag::WNOHANG)) {
        if it == WaitStatus::StillAlive {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_known() {
        let code = |script| run(&mut shell(script), LONG).unwrap().status.unwrap().code();
        assert_eq!(code("exit 7"), Some(7));
        assert_eq!(code("/nonexistent 2>&-"), Some(127));
        assert_eq!(code("true"), Some(0));
        assert!(run(&mut shell("sleep 600"), Duration::from_millis(50)).unwrap().status.is_none());
        assert!(run(&mut Command::new("/nonexistent"), LONG).is_err());
    }

    #[test]
    fn the_beginning_of_what_it_says_is_kept_however_much_it_is() {
        let said = |script: &str| {
            let mut shell = shell(script);
            run(shell.stderr(Stdio::piped()), LONG).unwrap().said
        };
        assert_eq!(said("echo one >&2; echo two >&2"), b"one\ntwo\n");
        let flood = said("head -c 1000000 /dev/zero >&2");
        assert_eq!(flood, [0; KEPT]);
    }

    #[test]
    fn a_flood_without_end_is_cut_off_in_time() {
        let started = clock::now();
        let mut shell = shell("yes >&2");
        let limit = Duration::from_millis(300);
        let outcome = run(shell.stderr(Stdio::piped()), limit).unwrap();
        assert!(outcome.status.is_none());
        assert!(clock::now().saturating_since(started) < Duration::from_secs(5));
    }

    #[test]
    fn a_child_that_keeps_stderr_open_is_not_waited_for() {
        let started = clock::now();
        let mut shell = shell("sleep 600 & echo $! >&2");
        let outcome = run(shell.stderr(Stdio::piped()), LONG).unwrap();
        assert!(outcome.status.is_some_and(|it| it.success()));
        assert!(clock::now().saturating_since(started) < LONG);
        let left: i32 = str::from_utf8(&outcome.said).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(left), SIGKILL).unwrap();
    }

    const LONG: Duration = Duration::from_secs(30);
}
