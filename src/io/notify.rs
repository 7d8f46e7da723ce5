//! Runs the user's command on transitions: one at a time, in order, on a thread of its own.

use std::io;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use smol::channel::{self, Receiver, Sender};

use crate::io::command;

/// What the command is told: as arguments in this order, and as `EDGEVIP_…` variables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    /// `acquired`, `released` or `fault`.
    pub event: &'static str,
    /// About which VIP.
    pub vip: String,
    /// Code and words of a fault.
    pub fault: Option<(&'static str, String)>,
}

/// Hands notifications to the user's command without ever waiting for it.
#[derive(Debug)]
pub struct Notifier {
    command: String,
    limit: Duration,
    thread: Option<Running>,
}

#[derive(Debug)]
struct Running {
    queue: Sender<Notification>,
    /// Hung up when the thread has ended.
    ended: mpsc::Receiver<()>,
}

const QUEUE: usize = 64;
const TIME_LIMIT: Duration = Duration::from_secs(10);
const STACK: usize = 128 * 1024;

impl Notifier {
    /// A notifier for this command of the shell.
    pub fn new(command: String) -> Self {
        Self { command, limit: TIME_LIMIT, thread: None }
    }

    /// Queues a notification; where too many wait, the oldest is lost.
    pub fn tell(&mut self, notification: Notification) {
        if self.thread.is_none() {
            match Running::start(self.command.clone(), self.limit) {
                Ok(it) => self.thread = Some(it),
                Err(error) => log::warn!(error:%; "cannot run the notify command"),
            }
        }
        let Some(thread) = &self.thread else { return };
        if let Ok(Some(lost)) = thread.queue.force_send(notification) {
            log::warn!(event = lost.event, vip = lost.vip; "notification lost: the command is slow");
        }
    }

    /// Waits until the command has been told everything, at most so long.
    pub fn finish(self, limit: Duration) {
        let Some(Running { queue, ended }) = self.thread else { return };
        queue.close();
        if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            log::warn!("the notify command is still running");
        }
    }
}

impl Running {
    fn start(command: String, limit: Duration) -> io::Result<Self> {
        let (queue, notifications) = channel::bounded(QUEUE);
        let (end, ended) = mpsc::channel();
        thread::Builder::new().name("notify".into()).stack_size(STACK).spawn(move || {
            run_all(&command, limit, &notifications);
            drop::<mpsc::Sender<()>>(end);
        })?;
        Ok(Self { queue, ended })
    }
}

fn run_all(command: &str, limit: Duration, notifications: &Receiver<Notification>) {
    while let Ok(it) = notifications.recv_blocking() {
        match run(command, limit, &it) {
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => {
                log::warn!(event = it.event, vip = it.vip; "notify command failed: {status}");
            }
            Ok(None) => log::warn!(
                event = it.event, vip = it.vip; "notify command killed after {limit:?}"
            ),
            Err(error) => log::warn!(error:%; "cannot run the notify command"),
        }
    }
}

/// `None`: it took too long and was killed, with all it had started.
fn run(command: &str, limit: Duration, it: &Notification) -> io::Result<Option<ExitStatus>> {
    let (code, why) = it.fault.as_ref().map_or(("", ""), |(code, why)| (*code, why));
    let mut shell = command::shell(&format!("{command} \"$@\""));
    shell.args(["edgevip", it.event, &it.vip]);
    if it.fault.is_some() {
        shell.args([code, why]);
    }
    shell
        .envs([("EDGEVIP_EVENT", it.event), ("EDGEVIP_VIP", &it.vip)])
        .envs([("EDGEVIP_CODE", code), ("EDGEVIP_WHY", why)]);
    Ok(command::run(&mut shell, limit)?.status)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use nix::sys::signal::SIGKILL;
    use nix::unistd::Pid;

    use super::*;
    use crate::io::clock;

    #[test]
    fn the_command_gets_words_and_variables_in_order() {
        let file = scratch("order");
        let script = format!(
            "tell() {{ echo \"$#:$*:$EDGEVIP_EVENT:$EDGEVIP_VIP:$EDGEVIP_CODE:$EDGEVIP_WHY\" \
             >> {}; }}; tell",
            file.display()
        );
        let mut notifier = Notifier::new(script);
        notifier.tell(about("acquired"));
        let why = "x'; touch \"$HOME\" $(id)".to_owned();
        notifier.tell(Notification { fault: Some(("kernel", why)), ..about("fault") });
        notifier.tell(about("released"));
        notifier.finish(LONG);
        let expected = "2:acquired 10.0.0.42:acquired:10.0.0.42::\n\
             4:fault 10.0.0.42 kernel x'; touch \"$HOME\" $(id)\
             :fault:10.0.0.42:kernel:x'; touch \"$HOME\" $(id)\n\
             2:released 10.0.0.42:released:10.0.0.42::\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children_and_the_next_one_runs() {
        let file = scratch("hangs");
        let script = format!(
            "run() {{ echo $1 $$ >> {0}; [ $1 = released ] || {{ sleep 600 & echo child $! >> {0}; \
             wait; }}; }}; run",
            file.display()
        );
        let mut notifier = Notifier { limit: Duration::from_millis(300), ..Notifier::new(script) };
        notifier.tell(about("acquired"));
        notifier.tell(about("released"));
        notifier.finish(LONG);
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = text.lines().map(|it| it.split_once(' ').unwrap()).collect();
        let [("acquired", shell), ("child", child), ("released", _)] = lines[..] else {
            panic!("{text}")
        };
        await_gone(shell);
        await_gone(child);
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_command_that_leaves_a_child_behind_is_not_waited_for() {
        let file = scratch("forks");
        let script = format!("run() {{ sleep 600 & echo $! >> {}; }}; run", file.display());
        let started = clock::now();
        let mut notifier = Notifier::new(script);
        notifier.tell(about("acquired"));
        notifier.finish(LONG);
        assert!(clock::now().saturating_since(started) < TIME_LIMIT);
        let child = fs::read_to_string(&file).unwrap();
        let child = Pid::from_raw(child.trim().parse().unwrap());
        nix::sys::signal::kill(child, SIGKILL).expect("a child in the background lives on");
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn telling_never_waits_and_the_newest_are_kept() {
        let (file, gate) = (scratch("many"), scratch("gate"));
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = format!(
            "run() {{ [ $1 = released ] || read go < {}; echo $2 >> {}; }}; run",
            gate.display(),
            file.display()
        );
        let mut notifier = Notifier::new(script);
        notifier.tell(about("acquired"));
        // Opening a FIFO waits for its other end: the command runs and the queue is empty.
        let open = fs::OpenOptions::new().write(true).open(&gate).unwrap();
        for number in 0..500 {
            notifier.tell(Notification { vip: number.to_string(), ..about("released") });
        }
        drop(open);
        notifier.finish(LONG);
        let text = fs::read_to_string(&file).unwrap();
        let told: Vec<_> = text.lines().collect();
        let newest: Vec<_> = (500 - QUEUE..500).map(|it| it.to_string()).collect();
        assert_eq!(told[0], "10.0.0.42");
        assert_eq!(told[1..], newest);
        fs::remove_file(file).unwrap();
        fs::remove_file(gate).unwrap();
    }

    #[test]
    fn the_exit_status_is_known() {
        let told = about("acquired");
        assert_eq!(run("exit 7;", LONG, &told).unwrap().unwrap().code(), Some(7));
        assert_eq!(run("/nonexistent", LONG, &told).unwrap().unwrap().code(), Some(127));
        assert!(run("true", LONG, &told).unwrap().unwrap().success());
        assert!(run("sleep 600 #", Duration::from_millis(50), &told).unwrap().is_none());
    }

    #[test]
    fn finishing_is_bounded() {
        let mut notifier = Notifier::new("sleep 3 #".into());
        notifier.tell(about("acquired"));
        let started = clock::now();
        notifier.finish(Duration::from_millis(50));
        assert!(clock::now().saturating_since(started) < Duration::from_secs(2));
    }

    const LONG: Duration = Duration::from_secs(30);

    fn about(event: &'static str) -> Notification {
        Notification { event, vip: "10.0.0.42".into(), fault: None }
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("edgevip-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    /// Killed and reaped: whoever inherits an orphan may take a moment.
    fn await_gone(pid: &str) {
        let give_up_at = clock::now() + LONG;
        let stat = Path::new("/proc").join(pid).join("stat");
        while fs::read_to_string(&stat).is_ok_and(|it| !it.contains(") Z ")) {
            assert!(clock::now() < give_up_at, "{pid} lives");
            thread::yield_now();
        }
    }
}
