//! This process towards the kernel: signals, identity, chance.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use async_io::Async;
use nix::libc::{self, c_int};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet};

use crate::io::clock;

/// What somebody wants of the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// SIGUSR1: say what you know.
    Dump,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT. A second one ends the process at once, however busy it is.
    Stop,
}

/// The signals sent to this process, each kind once however often it came.
#[derive(Debug)]
pub struct Signals {
    bell: Async<EventFd>,
}

const STOP: u8 = 1;
const RELOAD: u8 = 2;
const DUMP: u8 = 4;

static PENDING: AtomicU8 = AtomicU8::new(0);
static STOPS: AtomicU8 = AtomicU8::new(0);
static BELL: AtomicI32 = AtomicI32::new(-1);

impl Signals {
    /// Takes the signals over from the kernel's defaults; once in a process.
    pub fn listen() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Async::new(EventFd::from_flags(flags)?)?;
        BELL.store(bell.as_raw_fd(), Ordering::SeqCst);
        let action =
            SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
        for it in [signal::SIGTERM, signal::SIGINT, signal::SIGHUP, signal::SIGUSR1] {
            // SAFETY: the handler touches atomics and makes async-signal-safe calls only.
            unsafe { signal::sigaction(it, &action) }?;
        }
        Ok(Self { bell })
    }

    /// The next one; a stop goes first.
    pub async fn next(&self) -> io::Result<Signal> {
        loop {
            for (bit, it) in [(STOP, Signal::Stop), (RELOAD, Signal::Reload), (DUMP, Signal::Dump)]
            {
                if PENDING.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
                    return Ok(it);
                }
            }
            self.bell.read_with(|it| it.read().map_err(io::Error::from)).await?;
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        BELL.store(-1, Ordering::SeqCst);
    }
}

extern "C" fn on_signal(number: c_int) {
    let bit = match number {
        libc::SIGHUP => RELOAD,
        libc::SIGUSR1 => DUMP,
        _ => STOP,
    };
    // The default action would not do: as PID 1 of a container it is to ignore the signal.
    if bit == STOP && STOPS.fetch_add(1, Ordering::SeqCst) > 0 {
        // SAFETY: async-signal-safe, and does not return.
        unsafe { libc::_exit(128 + number) };
    }
    PENDING.fetch_or(bit, Ordering::SeqCst);
    // SAFETY: both are async-signal-safe; the interrupted code gets its errno back.
    unsafe {
        let errno = *libc::__errno_location();
        let one = 1_u64;
        libc::write(BELL.load(Ordering::SeqCst), (&raw const one).cast(), 8);
        *libc::__errno_location() = errno;
    }
}

/// Random bits from the kernel; poorer ones while it has none yet.
pub fn entropy() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the kernel writes at most eight bytes into eight.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), 8, libc::GRND_NONBLOCK) };
    if got == 8 {
        return u64::from_ne_bytes(bytes);
    }
    let (wall, now) = (clock::wall().as_nanos(), clock::now().as_nanos());
    fold(&format!("{wall} {now} {} {:016x}", std::process::id(), host_id()))
}

/// The same for all processes of one boot of one host, containers included.
pub fn host_id() -> u64 {
    let sources =
        ["/proc/sys/kernel/random/boot_id", "/etc/machine-id", "/proc/sys/kernel/hostname"];
    let text = sources.iter().find_map(|it| fs::read_to_string(it).ok()).unwrap_or_default();
    fold(text.trim())
}

/// The same as long as this host's system is installed; 0 where the host does not say.
pub fn machine_id() -> u64 {
    let sources = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let texts = sources.iter().filter_map(|it| fs::read_to_string(it).ok());
    machine_id_in(texts).unwrap_or_else(|| {
        log::warn!(
            "this machine has no id in {}: a clone of it will not be noticed",
            sources.join(" or ")
        );
        0
    })
}

/// machine-id(5): 32 hexadecimal digits; empty or a word until the first boot is over.
fn machine_id_in(mut texts: impl Iterator<Item = String>) -> Option<u64> {
    let is_id = |it: &str| it.len() == 32 && it.bytes().all(|it| it.is_ascii_hexdigit());
    texts.find_map(|it| Some(it.trim()).filter(|it| is_id(it)).map(fold))
}

/// Names one boot of the host; empty where the kernel does not say.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// FNV-1a, 64 bits.
pub(crate) fn fold(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The name of this host, as the kernel has it; empty if it has none.
pub fn hostname() -> String {
    nix::unistd::gethostname().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn each_signal_arrives_and_a_stop_first() {
        let mut child = obedient("each-once");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "listening");
        let signals = [
            (signal::SIGHUP, "Reload"),
            (signal::SIGUSR1, "Dump"),
            (signal::SIGHUP, "Reload"),
            (signal::SIGINT, "Stop"),
        ];
        for (signal, word) in signals {
            signal::kill(pid(&child), signal).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), word);
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn a_second_stop_ends_a_process_whose_loop_hangs() {
        let mut child = obedient("hang");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "listening");
        signal::kill(pid(&child), signal::SIGINT).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "pending");
        signal::kill(pid(&child), signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGTERM));
    }

    /// Signals are the whole process's: so those tests have a process of their own.
    fn obedient(way: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "io::process::tests::the_process_that_is_signalled"])
            .env("EDGEVIP_TEST_SIGNALS", way)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn pid(child: &Child) -> Pid {
        Pid::from_raw(child.id().try_into().unwrap())
    }

    #[test]
    #[ignore = "the child of the tests above"]
    fn the_process_that_is_signalled() {
        let way = std::env::var("EDGEVIP_TEST_SIGNALS").expect("started by another test");
        let signals = Signals::listen().unwrap();
        let mut err = io::stderr();
        err.write_all(b"listening\n").unwrap();
        if way == "hang" {
            while PENDING.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            err.write_all(b"pending\n").unwrap();
            loop {
                nix::unistd::pause();
            }
        }
        async_io::block_on(async {
            loop {
                let signal = signals.next().await.unwrap();
                writeln!(err, "{signal:?}").unwrap();
                if signal == Signal::Stop {
                    return;
                }
            }
        });
    }

    #[test]
    fn entropy_does_not_repeat() {
        assert_ne!(entropy(), entropy());
    }

    #[test]
    fn a_host_is_the_same_for_all_its_processes() {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(host_id(), fold(boot_id.trim()));
        assert_eq!(fold("foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(super::boot_id(), boot_id.trim());
    }

    #[test]
    fn a_machine_is_named_by_the_first_id_that_is_one() {
        let id = "0123456789abcdef0123456789abcdef";
        let line = format!("{id}\n");
        let table: &[(&[&str], Option<u64>)] = &[
            (&[&line], Some(fold(id))),
            (&["uninitialized\n", &line], Some(fold(id))),
            (&["", &line[1..]], None),
            (&[], None),
        ];
        for (texts, expected) in table {
            let texts = texts.iter().map(|&it| it.to_owned());
            assert_eq!(machine_id_in(texts), *expected);
        }
    }
}
