//! The service manager, by systemd's notification protocol.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::io::clock;

/// The service manager, where there is one: systemd's notification protocol. Nothing waits
/// for it, and what it does not take is not sent again.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names.
    pub fn from_env() -> Option<Self> {
        let socket = std::env::var_os("NOTIFY_SOCKET")?;
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|it| it == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|it| ours && *it > 0);
        Self::at(&socket, limit.map(Duration::from_micros)).ok()
    }

    fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, watchdog })
    }

    /// How often to call [`Supervisor::alive`]: half of what the watchdog allows.
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|it| it / 2)
    }

    /// The process does its work.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// What the process does, in a line.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace(char::is_control, " ")));
    }

    /// The main loop turns.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The configuration is being read again; [`Supervisor::ready`] ends that.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::awake().as_micros()));
    }

    /// The process is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            log::debug!(error:%; "the service manager does not listen");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_service_manager_hears_each_state() {
        let path = scratch("notify.sock");
        let manager = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::at(path.as_os_str(), Some(Duration::from_secs(10))).unwrap();
        assert_eq!(supervisor.alive_every(), Some(Duration::from_secs(5)));
        supervisor.ready();
        supervisor.status("leads\nREADY=0");
        supervisor.alive();
        supervisor.reloading();
        supervisor.stopping();
        let heard: Vec<_> = (0..5).map(|_| receive(&manager)).collect();
        let [ready, status, alive, reloading, stopping] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(ready, "READY=1");
        assert_eq!(status, "STATUS=leads READY=0");
        assert_eq!(alive, "WATCHDOG=1");
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u128>().unwrap() <= clock::awake().as_micros());
        assert_eq!(stopping, "STOPPING=1");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_service_manager_may_be_an_abstract_socket() {
        let name = format!("edgevip-test-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Supervisor::at(format!("@{name}").as_ref(), None).unwrap().ready();
        assert_eq!(receive(&manager), "READY=1");
    }

    #[test]
    fn a_service_manager_that_hangs_holds_nothing_up() {
        let path = scratch("hangs.sock");
        let manager = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::at(path.as_os_str(), None).unwrap();
        for _ in 0..10_000 {
            supervisor.alive();
        }
        drop(manager);
        supervisor.alive();
        fs::remove_file(path).unwrap();
    }

    fn receive(manager: &UnixDatagram) -> String {
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("edgevip-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }
}
