//! One process per network namespace and Lease: an abstract Unix socket is the lock, which
//! the kernel gives back however the process ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::io::process::fold;

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _socket: UnixDatagram,
}

/// Takes the lock of a Lease; `None`: another process has it.
pub fn try_lock(namespace: &str, lease: &str) -> io::Result<Option<Lock>> {
    let address = SocketAddr::from_abstract_name(name(namespace, lease))?;
    match UnixDatagram::bind_addr(&address) {
        Ok(socket) => Ok(Some(Lock { _socket: socket })),
        Err(it) if it.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(it) => Err(it),
    }
}

/// Bytes of an abstract name: `sun_path` but for its leading zero.
const LONGEST_NAME: usize = 107;

fn name(namespace: &str, lease: &str) -> String {
    let name = format!("edgevip/{namespace}/{lease}");
    if name.len() <= LONGEST_NAME { name } else { format!("edgevip/{:016x}", fold(&name)) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_lease_is_locked_once_and_free_again_afterwards() {
        let lease = format!("test-{}", std::process::id());
        let lock = try_lock("kube-system", &lease).unwrap();
        assert!(lock.is_some());
        let other = |namespace: &'static str, lease: String| {
            std::thread::spawn(move || try_lock(namespace, &lease).unwrap().is_some()).join()
        };
        assert!(!other("kube-system", lease.clone()).unwrap());
        assert!(other("default", lease.clone()).unwrap());
        drop(lock);
        assert!(other("kube-system", lease).unwrap());
    }

    #[test]
    fn a_lock_ends_with_the_process_that_held_it() {
        let lease = format!("dies-{}", std::process::id());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "io::lock::tests::the_process_that_is_killed"])
            .env("EDGEVIP_TEST_LEASE", &lease)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 4];
        child.stderr.take().unwrap().read_exact(&mut word).unwrap();
        let meanwhile = try_lock("child", &lease).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(&word, b"held");
        assert!(meanwhile.is_none());
        assert!(try_lock("child", &lease).unwrap().is_some());
    }

    #[test]
    #[ignore = "the child of the test above"]
    fn the_process_that_is_killed() {
        let lease = std::env::var("EDGEVIP_TEST_LEASE").expect("started by another test");
        let _lock = try_lock("child", &lease).unwrap().unwrap();
        io::stderr().write_all(b"held").unwrap();
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn names_of_any_length_lock() {
        let long = "x".repeat(253);
        let lock = try_lock("long", &long).unwrap();
        assert!(lock.is_some());
        assert!(try_lock("long", &long).unwrap().is_none());
        assert!(try_lock("long", &long[1..]).unwrap().is_some());
    }
}
