//! The user's check command.

use std::process::Stdio;

use super::CheckCommand;
use crate::io::command;
use crate::wire::kube::one_line;

/// Runs the command.
pub(super) struct Check {
    target: CheckCommand,
}

impl Check {
    pub fn new(target: CheckCommand) -> Self {
        Self { target }
    }

    /// Runs it once. What had to be killed is waited for after the answer.
    pub fn run(&self, answer: &dyn Fn(Option<String>)) {
        let CheckCommand { command, timeout } = &self.target;
        let mut shell = command::shell(command);
        shell.stdout(Stdio::null()).stderr(Stdio::piped());
        let outcome = match command::run(&mut shell, *timeout) {
            Ok(it) => it,
            Err(error) => return answer(Some(format!("cannot run the check command: {error}"))),
        };
        let why = match outcome.status {
            Some(status) if status.success() => return answer(None),
            Some(status) => format!("the check command failed: {status}"),
            None => format!("the check command was killed after {timeout:?}"),
        };
        let said = String::from_utf8_lossy(&outcome.said);
        let first = said.lines().map(str::trim).find(|it| !it.is_empty()).map(one_line);
        answer(Some(first.map_or_else(|| why.clone(), |it| format!("{why}: {it}"))));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;
    use crate::io::clock;
    use crate::io::probe::{ProbeTargets, Prober};
    use crate::model::Probe;

    #[test]
    fn a_command_is_good_or_says_why_not() {
        let table = [
            ("true", None),
            ("echo noise; echo noise >&2", None),
            ("exit 3", Some("the check command failed: exit status: 3")),
            (
                "echo >&2; printf 'disk \\033sick\\nmore\\n' >&2; false",
                Some("the check command failed: exit status: 1: disk  sick"),
            ),
            ("kill -9 $$", Some("the check command failed: signal: 9 (SIGKILL)")),
            ("[ -z \"$NOTIFY_SOCKET\" ] && ! read line", None),
        ];
        for (command, expected) in table {
            let (mut prober, answers) = prober(command, LONG);
            prober.ask(Probe::Check);
            let answer = answers.recv_timeout(LONG).unwrap();
            assert_eq!(answer, (Probe::Check, expected.map(str::to_owned)), "{command}");
        }
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_all_it_started_and_the_next_one_runs() {
        let script = "sleep 600 & echo $! >&2; wait";
        let (mut prober, answers) = prober(script, Duration::from_millis(300));
        for _ in 0..2 {
            let started = clock::now();
            prober.ask(Probe::Check);
            let (_, why) = answers.recv_timeout(LONG).unwrap();
            let why = why.unwrap();
            let child = why.strip_prefix("the check command was killed after 300ms: ").unwrap();
            assert!(clock::now().saturating_since(started) < Duration::from_secs(10));
            let child = Pid::from_raw(child.parse().unwrap());
            while kill(child, None).is_ok() && !is_zombie(child) {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn who_asks_again_gets_the_answer_that_is_under_way() {
        let (mut prober, answers) = prober("sleep 0.3", LONG);
        for _ in 0..50 {
            prober.ask(Probe::Check);
        }
        assert_eq!(answers.recv_timeout(LONG).unwrap(), (Probe::Check, None));
        assert!(answers.recv_timeout(Duration::from_millis(600)).is_err());
        for _ in 0..2 {
            prober.ask(Probe::Check);
            assert_eq!(answers.recv_timeout(LONG).unwrap(), (Probe::Check, None));
        }
    }

    #[test]
    fn what_nobody_asked_to_watch_does_not_fail() {
        let (tell, answers) = channel();
        let deliver = Arc::new(move |probe, why| tell.send((probe, why)).unwrap());
        let mut prober = Prober::start(ProbeTargets::default(), deliver);
        for probe in [Probe::Check, Probe::Health] {
            prober.ask(probe);
            assert_eq!(answers.try_recv().unwrap(), (probe, None));
        }
    }

    #[test]
    fn a_prober_that_is_dropped_ends_its_threads() {
        let (mut prober, answers) = prober("true", LONG);
        prober.ask(Probe::Check);
        assert_eq!(answers.recv_timeout(LONG).unwrap(), (Probe::Check, None));
        drop(prober);
        let ended = std::sync::mpsc::RecvTimeoutError::Disconnected;
        assert_eq!(answers.recv_timeout(LONG), Err(ended));
    }

    const LONG: Duration = Duration::from_secs(30);

    fn prober(command: &str, timeout: Duration) -> (Prober, Receiver<(Probe, Option<String>)>) {
        let (tell, answers) = channel();
        let check = Some(CheckCommand { command: command.into(), timeout });
        let deliver = Arc::new(move |probe, why| tell.send((probe, why)).unwrap());
        (Prober::start(ProbeTargets { check, health: None }, deliver), answers)
    }

    fn is_zombie(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|it| it.contains(") Z "))
    }
}
