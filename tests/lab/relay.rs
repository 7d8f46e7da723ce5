//! A relay between the nodes and the API server, which can make answers and new connections slow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use edgevip::io::clock;

use super::api::{ADDRESS, PORT, RELAY};

/// Takes connections on the management LAN and hands them on to the API server.
pub struct Relay {
    /// The port it listens on.
    pub port: u16,
    delay: Arc<AtomicU64>,
    opening: Arc<AtomicU64>,
}

impl Relay {
    /// Begins; ends with the process.
    pub fn begin() -> Self {
        let listener = TcpListener::bind((RELAY, 0)).expect("the management LAN is up");
        let port = listener.local_addr().expect("it is bound").port();
        let delay = Arc::<AtomicU64>::default();
        let opening = Arc::<AtomicU64>::default();
        let (current, late) = (Arc::clone(&delay), Arc::clone(&opening));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (delay, late) = (Arc::clone(&current), Arc::clone(&late));
                thread::spawn(move || {
                    thread::sleep(Duration::from_nanos(late.load(Ordering::Relaxed)));
                    relay(client, delay);
                });
            }
        });
        Self { port, delay, opening }
    }

    /// Every byte of an answer comes this much later from now on.
    pub fn delay(&self, delay: Duration) {
        self.delay.store(delay.as_nanos() as u64, Ordering::Relaxed);
    }

    /// A connection takes this much longer to open from now on; those that are open do not.
    pub fn delay_opening(&self, delay: Duration) {
        self.opening.store(delay.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Hands a connection on to the API server, until either side ends it.
pub fn hand_on(client: TcpStream) {
    relay(client, Arc::default());
}

/// An end of either stream, orderly or not, ends both.
fn relay(mut client: TcpStream, delay: Arc<AtomicU64>) {
    let Ok(mut server) = TcpStream::connect((ADDRESS, PORT)) else { return };
    let (Ok(mut answers), Ok(mut back)) = (server.try_clone(), client.try_clone()) else { return };
    let (queue, due) = mpsc::channel::<(_, Vec<u8>)>();
    thread::spawn(move || {
        for (at, bytes) in due {
            thread::sleep(edgevip::model::Instant::saturating_since(at, clock::now()));
            if back.write_all(&bytes).is_err() {
                break;
            }
        }
        _ = back.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(length @ 1..) = answers.read(&mut buffer) {
            let at = clock::now() + Duration::from_nanos(delay.load(Ordering::Relaxed));
            if queue.send((at, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    _ = std::io::copy(&mut client, &mut server);
    _ = server.shutdown(Shutdown::Both);
}
