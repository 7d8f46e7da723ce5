//! A relay to the API server that can lie: where it does, TLS ends here, under the server's
//! own certificate, and whatever is asked gets the same lie.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::api::RELAY;
use super::net::host;
use super::relay::hand_on;

/// What is said instead of the truth.
#[derive(Clone, Copy, Debug)]
pub enum Lie {
    /// Something went wrong in the server.
    Refusal,
    /// What is no object of Kubernetes, a different one each time.
    Garbage,
    /// Two gigabytes without the end of a line.
    LineWithoutEnd,
}

/// Takes connections on the management LAN and hands them on to the API server, or lies.
pub struct Liar {
    /// The port it listens on.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    lie: Option<Lie>,
    victims: Vec<IpAddr>,
    open: Vec<(IpAddr, TcpStream)>,
    told: Vec<IpAddr>,
}

const NOT_OBJECTS: [&str; 8] = [
    "",
    "null",
    "<html><body>It works!</body></html>",
    "{\"kind\":\"Lease\",\"metadata\":{\"resourceVersion\":\"7\"",
    "{\"kind\":\"Lease\",\"metadata\":7,\"spec\":[]}",
    "{\"type\":\"MODIFIED\",\"object\":\"yes\"}\n{\"type\":7}\n",
    "\u{0}\u{1}\u{2}\u{fffd}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];
const WITHOUT_END: usize = 2 << 30;
const PIECE: usize = 1 << 16;

impl Liar {
    /// Begins, honestly; ends with the process.
    pub fn begin() -> Self {
        let listener = TcpListener::bind((RELAY, 0)).expect("the management LAN is up");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::<Mutex<State>>::default();
        let (shared, tls) = (Arc::clone(&state), Arc::new(servers_tls()));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, tls) = (Arc::clone(&shared), Arc::clone(&tls));
                thread::spawn(move || serve(client, &state, tls));
            }
        });
        Self { port, state }
    }

    /// Lies to these hosts from now on, on new connections: the old ones are cut.
    pub fn lie(&self, lie: Lie, hosts: &[&str]) {
        let mut state = locked(&self.state);
        state.lie = Some(lie);
        state.victims = hosts.iter().map(|it| managed(it)).collect();
        state.told.clear();
        let State { victims, open, .. } = &mut *state;
        open.retain(|(client, stream)| {
            let cut = victims.contains(client);
            if cut {
                _ = stream.shutdown(Shutdown::Both);
            }
            !cut
        });
    }

    /// Lies to nobody from now on; every connection is cut.
    pub fn repent(&self) {
        let mut state = locked(&self.state);
        state.lie = None;
        for (_, stream) in state.open.drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many lies this host has been told since the last change.
    pub fn told(&self, host: &str) -> usize {
        let client = managed(host);
        locked(&self.state).told.iter().filter(|it| **it == client).count()
    }
}

/// A host's address on the management LAN.
fn managed(name: &str) -> IpAddr {
    Ipv4Addr::new(10, 78, 0, host(name).number).into()
}

fn servers_tls() -> ServerConfig {
    let chain = CertificateDer::pem_file_iter("/run/kube/server.crt").expect("a certificate");
    let chain = chain.map(|it| it.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file("/run/kube/server.key").expect("a key");
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the usual versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("certificate and key belong together")
}

fn serve(client: TcpStream, state: &Mutex<State>, tls: Arc<ServerConfig>) {
    let (Ok(peer), Ok(to_cut)) = (client.peer_addr(), client.try_clone()) else { return };
    let lie = {
        let mut state = locked(state);
        state.open.push((peer.ip(), to_cut));
        state.lie.filter(|_| state.victims.contains(&peer.ip()))
    };
    let Some(lie) = lie else { return hand_on(client) };
    let connection = ServerConnection::new(tls).expect("the configuration is complete");
    // Whoever is lied to may hang up when he likes.
    _ = tell(StreamOwned::new(connection, client), lie, &|| {
        let mut state = locked(state);
        state.told.push(peer.ip());
        state.told.len()
    });
}

/// Answers each request; `count` is the number of lies so far.
fn tell(mut to: impl Read + Write, lie: Lie, count: &dyn Fn() -> usize) -> io::Result<()> {
    while asked(&mut to)? {
        let number = count();
        match lie {
            Lie::Refusal => {
                let body = "{\"kind\":\"Status\",\"status\":\"Failure\",\"code\":500}";
                answer(&mut to, "500 Internal Server Error", body)?;
            }
            Lie::Garbage => answer(&mut to, "200 OK", NOT_OBJECTS[number % NOT_OBJECTS.len()])?,
            Lie::LineWithoutEnd => {
                to.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"kind\":\"",
                )?;
                for _ in 0..WITHOUT_END / PIECE {
                    to.write_all(&[b'x'; PIECE])?;
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

fn answer(to: &mut impl Write, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json");
    write!(to, "{head}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    to.flush()
}

/// Takes a request, head and body; `false`: there is none any more.
fn asked(from: &mut impl Read) -> io::Result<bool> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if from.read(&mut byte)? == 0 {
            return Ok(false);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")?.parse().ok());
    from.read_exact(&mut vec![0; length.unwrap_or(0)])?;
    Ok(true)
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
