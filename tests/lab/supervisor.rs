//! The part of a service manager: hears what a daemon notifies it of.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;

use super::wait_for;

/// Hears on a socket of its own, until the process ends.
pub struct Supervisor {
    /// What a daemon's `NOTIFY_SOCKET` is to be.
    pub path: PathBuf,
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Supervisor {
    /// Begins.
    pub fn begin(name: &str) -> Self {
        let path = PathBuf::from(format!("/run/{name}.notify"));
        // What an earlier scenario of that name has left.
        _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("/run is ours");
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let to = Arc::clone(&heard);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let words = String::from_utf8_lossy(&buffer[..length]).into_owned();
                to.lock().unwrap_or_else(PoisonError::into_inner).push((clock::now(), words));
            }
        });
        Self { path, heard }
    }

    /// Everything so far, and when.
    pub fn heard(&self) -> Vec<(Instant, String)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a message that begins so, after the first `from` messages; returns how many
    /// there are up to it.
    pub fn hears(&self, start: &str, from: usize) -> usize {
        let mut found = None;
        let fine = wait_for(Duration::from_secs(10), || {
            let heard = self.heard();
            found = (from..heard.len()).find(|it| heard[*it].1.starts_with(start));
            found.is_some()
        });
        assert!(fine, "{start:?} is not heard after {from}: {:?}", self.heard());
        found.expect("it was found") + 1
    }
}
