//! Says where the process crashed. A panic of a build for size has no message, and stops at an
//! instruction that there is not.

use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet};

/// "0x" and the digits of an address.
const DIGITS: usize = 2 * size_of::<usize>();

/// From here on. A build with the symbols has the same addresses: `nm` names the function.
pub fn tell() {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESETHAND;
    let action = SigAction::new(SigHandler::SigAction(crashed), flags, SigSet::empty());
    for it in [signal::SIGILL, signal::SIGTRAP] {
        // SAFETY: the handler reads what it is given, and makes async-signal-safe calls only.
        // Where it cannot be set, a crash is silent.
        let _ = unsafe { signal::sigaction(it, &action) };
    }
}

/// Once: the signal that it sends itself ends the process when it returns.
extern "C" fn crashed(signal: c_int, what: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: what the kernel hands over is there. Of its own signals of these kinds, whose codes
    // are above nought, it knows the address.
    let at = unsafe { ((*what).si_code > 0).then(|| (*what).si_addr() as usize) };
    for part in [&b"edgevip: crashed at 0x"[..], &hexadecimal(at.unwrap_or(0)), b"\n"] {
        // SAFETY: async-signal-safe; the bytes are there. Nobody is left to hear that it failed.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: async-signal-safe.
    unsafe { libc::raise(signal) };
}

fn hexadecimal(number: usize) -> [u8; DIGITS] {
    std::array::from_fn(|at| {
        let digit = number >> (4 * (DIGITS - 1 - at)) & 0xf;
        b"0123456789abcdef"[digit]
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_crash_is_told_and_ends_the_process_as_it_would() {
        const HERE: &str = "EDGEVIP_TEST_CRASHES_HERE";
        if std::env::var_os(HERE).is_some() {
            tell();
            signal::raise(signal::SIGILL).unwrap();
            return;
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "--nocapture"]);
        again.arg("io::crash::tests::a_crash_is_told_and_ends_the_process_as_it_would");
        let output = again.env(HERE, "").output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGILL));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("edgevip: crashed at 0x{:0DIGITS$x}\n", 0)), "{said}");
    }

    #[test]
    fn an_address_is_written_as_nm_writes_it() {
        let text = String::from_utf8(hexadecimal(0x2f_3a10).to_vec()).unwrap();
        assert_eq!(text, format!("{:0DIGITS$x}", 0x2f_3a10));
        assert_eq!(hexadecimal(usize::MAX), [b'f'; DIGITS]);
    }
}
