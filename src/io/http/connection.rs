//! One connection: name, socket, tunnel, TLS. Each step, each read and each write ends at
//! its deadline; a shutdown of the agent ends all but looking up and connecting at once.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

use crate::io::clock;
use crate::model::Instant;

/// How to get to a server.
#[derive(Clone)]
pub struct Route {
    /// Connect here.
    pub first: HostPort,
    /// What to ask the proxy at `first` for.
    pub tunnel: Option<Tunnel>,
    /// Whom to trust, what to show, and whom to expect; `None`: no TLS.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A host, by name or address without brackets, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostPort {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A way through an HTTP proxy.
#[derive(Clone)]
pub struct Tunnel {
    /// Where it leads.
    pub to: HostPort,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// Opens connections along a [`Route`].
pub(super) struct Dialer {
    pub route: Route,
    pub opened: Arc<AtomicU32>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.route.first.fmt(f)
    }
}

/// Finds nothing: a kept connection needs no address, and a new one is dialled with its name.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

impl Connector for Dialer {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Connection>, Error> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let until = end_of(details.timeout);
        let late = |error| expiry(error, details.timeout);
        let socket = Arc::new(dial(&self.route.first, until).map_err(late)?);
        let weak: Weak<TcpStream> = Arc::downgrade(&socket);
        (details.register_shutdown)(weak as Weak<dyn ShutdownHandle>)?;

        let mut timed = Timed { socket: &socket, until };
        if let Some(tunnel) = &self.route.tunnel {
            dig(tunnel, &mut timed).map_err(late)?;
        }
        let tls = match &self.route.tls {
            Some((config, name)) => {
                Some(Box::new(shake_hands(config, name, &mut timed).map_err(late)?))
            }
            None => None,
        };
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Connection { socket, tls, buffers }))
    }
}

/// An open connection.
pub(super) struct Connection {
    socket: Arc<TcpStream>,
    tls: Option<Box<ClientConnection>>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let mut timed = Timed { socket: &self.socket, until: end_of(timeout) };
        let bytes = self.buffers.output().get(..amount).unwrap_or_default();
        let sent = match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, &mut timed);
                stream.write_all(bytes).and_then(|()| stream.flush())
            }
            None => timed.write_all(bytes),
        };
        sent.map_err(|error| expiry(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let mut timed = Timed { socket: &self.socket, until: end_of(timeout) };
        let room = self.buffers.input_append_buf();
        let read = match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut timed).read(room),
            None => timed.read(room),
        };
        let amount = read.map_err(|error| expiry(error, timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    // Anything to read between two requests is the server's farewell.
    fn is_open(&mut self) -> bool {
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.socket.as_raw_fd(), &mut [0], peek) == Err(Errno::EAGAIN)
    }

    fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// A socket of which each read and write must be over at a certain instant. The socket's
/// own timeouts are not used: Linux lets them be late by an eighth.
pub(in crate::io) struct Timed<'a> {
    pub socket: &'a TcpStream,
    pub until: Instant,
}

impl Timed<'_> {
    fn retry<T>(
        &self,
        ready: PollFlags,
        mut step: impl FnMut(i32) -> nix::Result<T>,
    ) -> io::Result<T> {
        loop {
            let left = remaining(self.until)?;
            match step(self.socket.as_raw_fd()) {
                Err(Errno::EAGAIN) => self.wait(ready, left)?,
                Err(Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn wait(&self, ready: PollFlags, left: Duration) -> io::Result<()> {
        let left = left + Duration::from_millis(1);
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), ready)], left) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(PollFlags::POLLIN, |socket| recv(socket, buffer, MsgFlags::MSG_DONTWAIT))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        self.retry(PollFlags::POLLOUT, |socket| send(socket, buffer, flags))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The addresses of a host. Names are looked up on a thread of their own, for nothing
/// can interrupt the system's resolver; no more than a few of these may hang.
pub fn look_up(at: &HostPort, until: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = at.host.parse() {
        return Ok(vec![SocketAddr::new(ip, at.port)]);
    }
    if LOOKUPS.fetch_add(1, Ordering::Relaxed) >= MAX_LOOKUPS {
        LOOKUPS.fetch_sub(1, Ordering::Relaxed);
        return Err(io::Error::other("earlier look-ups still hang"));
    }
    let (found, answer) = mpsc::sync_channel(1);
    let at = at.clone();
    let thread = thread::Builder::new().name("kube-lookup".into()).stack_size(STACK);
    let spawned = thread.spawn(move || {
        let addresses = (at.host.as_str(), at.port).to_socket_addrs().map(Iterator::collect);
        LOOKUPS.fetch_sub(1, Ordering::Relaxed);
        found.send(addresses).ok();
    });
    if let Err(error) = spawned {
        LOOKUPS.fetch_sub(1, Ordering::Relaxed);
        return Err(error);
    }
    answer.recv_timeout(remaining(until)?).unwrap_or_else(|_| Err(too_late()))
}

static LOOKUPS: AtomicU32 = AtomicU32::new(0);
const MAX_LOOKUPS: u32 = 4;

/// For threads that do no more than TLS and JSON; frames are larger where nothing is inlined.
pub(in crate::io) const STACK: usize = if cfg!(debug_assertions) { 512 } else { 128 } * 1024;

/// Connects to the first address that answers.
pub(in crate::io) fn dial(to: &HostPort, until: Instant) -> io::Result<TcpStream> {
    let addresses = look_up(to, until)?;
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let share = remaining(until)? / (addresses.len() - tried) as u32;
        match TcpStream::connect_timeout(address, share.min(MAX_CONNECT)) {
            Ok(socket) => {
                notice_death(&socket)?;
                return Ok(socket);
            }
            Err(error) if error.raw_os_error().is_none() => failure = too_late(),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

const MAX_CONNECT: Duration = Duration::from_secs(5);

fn notice_death(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &5_000)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &5)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &2)?;
    setsockopt(socket, sockopt::TcpKeepCount, &2)?;
    Ok(())
}

fn dig(tunnel: &Tunnel, proxy: &mut Timed<'_>) -> io::Result<()> {
    let Tunnel { to, authorization } = tunnel;
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(value) = authorization {
        request += &format!("Proxy-Authorization: {value}\r\n");
    }
    request += "\r\n";
    proxy.write_all(request.as_bytes())?;

    // Byte by byte, for what follows the head belongs to somebody else.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        proxy.read_exact(&mut byte)?;
        head.extend(byte);
        if head.len() > MAX_TUNNEL_HEAD {
            return Err(io::Error::other("the proxy talks too much"));
        }
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(io::Error::other(format!("the proxy says {status:?}"))),
    }
}

const MAX_TUNNEL_HEAD: usize = 4096;

/// A TLS connection as far as both sides know each other.
pub(in crate::io) fn shake_hands(
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    timed: &mut Timed<'_>,
) -> io::Result<ClientConnection> {
    let mut tls = ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
    tls.complete_io(timed)?;
    Ok(tls)
}

fn end_of(timeout: NextTimeout) -> Instant {
    clock::now() + (*timeout.after).min(Duration::from_secs(3_600))
}

fn remaining(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_since(clock::now());
    if left.is_zero() { Err(too_late()) } else { Ok(left) }
}

fn expiry(error: io::Error, timeout: NextTimeout) -> Error {
    if is_late(&error) { Error::Timeout(timeout.reason) } else { Error::Io(error) }
}

/// Our deadline passed; the kernel's own ETIMEDOUT says instead that the server is dead.
fn is_late(error: &io::Error) -> bool {
    error.kind() == ErrorKind::TimedOut && error.raw_os_error().is_none()
}

fn too_late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn a_dead_server_is_noticed_in_seconds() {
        let (socket, _listener) = connected();
        assert_eq!(getsockopt(&socket, sockopt::TcpUserTimeout), Ok(5_000));
        assert_eq!(getsockopt(&socket, sockopt::KeepAlive), Ok(true));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle), Ok(5));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval), Ok(2));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepCount), Ok(2));
    }

    #[test]
    fn reading_and_writing_end_at_their_deadline() {
        let (socket, _listener) = connected();
        let until = clock::now() + Duration::from_millis(200);
        let mut timed = Timed { socket: &socket, until };
        let error = timed.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert!(is_late(&error), "{error:?}");
        assert!(clock::now() >= until);
        let until = clock::now() + Duration::from_millis(200);
        let error = Timed { socket: &socket, until }.read(&mut [0]).unwrap_err();
        assert!(is_late(&error), "{error:?}");
        assert!(clock::now() >= until);
    }

    #[test]
    fn whoever_never_pauses_is_given_up_in_time_too() {
        let (socket, listener) = connected();
        let (mut peer, _) = listener.accept().unwrap();
        thread::spawn(move || while peer.write_all(&[0; 4096]).is_ok() {});
        let until = clock::now() + Duration::from_millis(200);
        let mut timed = Timed { socket: &socket, until };
        let error = io::copy(&mut (&mut timed).take(4 << 30), &mut io::sink()).unwrap_err();
        assert!(is_late(&error), "{error:?}");
    }

    #[test]
    fn an_address_is_not_looked_up() {
        let past = clock::now();
        for host in ["192.0.2.1", "fd00::1"] {
            let at = HostPort { host: host.into(), port: 6443 };
            assert_eq!(look_up(&at, past).unwrap(), [SocketAddr::new(host.parse().unwrap(), 6443)]);
        }
    }

    fn connected() -> (TcpStream, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = HostPort { host: "127.0.0.1".into(), port };
        (dial(&to, clock::now() + Duration::from_secs(5)).unwrap(), listener)
    }
}
