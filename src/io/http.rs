//! HTTP to one server, on blocking threads: requests that are over at their deadline, and
//! streams of lines that another thread can cut.
//!
//! What ureq calls unversioned is used in here only; Cargo.toml pins its minor version.

mod connection;

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ureq::http::{self, HeaderValue, header};
use ureq::{Agent, AsSendBody, Body, BodyReader, Error};

pub use connection::{HostPort, Route, Tunnel, look_up};
pub(in crate::io) use connection::{STACK, Timed, dial, shake_hands};

use crate::io::clock;
use crate::model::{ApiFault, ApiFaultKind, Instant};

/// A server, with connections to it. Clones share them.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    opened: Arc<AtomicU32>,
}

/// A URL, taken apart.
pub struct Url {
    /// Such as `https`.
    pub scheme: String,
    /// Host and port, the scheme's usual one where none is written.
    pub at: HostPort,
    /// The path, without a slash at its end.
    pub path: String,
    /// `user:password`.
    pub user: Option<Vec<u8>>,
}

impl Url {
    /// Takes a URL apart, if it is one with a host and a port.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let scheme = uri.scheme_str()?.to_owned();
        let port = match scheme.as_str() {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        };
        let port = uri.port_u16().or(port)?;
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        let user = uri.authority()?.as_str().rsplit_once('@').map(|(user, _)| plain(user));
        let path = uri.path().trim_end_matches('/').to_owned();
        Some(Self { scheme, at: HostPort { host, port }, path, user })
    }
}

fn plain(escaped: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let digits = others.get(..2).filter(|_| first == b'%');
        let byte = digits
            .and_then(|it| std::str::from_utf8(it).ok())
            .and_then(|it| u8::from_str_radix(it, 16).ok());
        rest = others.get(2 * usize::from(byte.is_some())..).unwrap_or_default();
        plain.push(byte.unwrap_or(first));
    }
    plain
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => segment.push(byte.into()),
            it if it.is_ascii_alphanumeric() => segment.push(it.into()),
            it => segment += &format!("%{it:02X}"),
        }
    }
    segment
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// Path and query, with a slash in front.
    pub path: String,
    /// The media type of the answer.
    pub accept: &'static str,
    /// The bearer token.
    pub token: Option<String>,
    /// Media type and bytes.
    pub body: Option<(&'static str, String)>,
    /// The longest answer that is taken, or the longest line of a stream.
    pub max_answer: u64,
}

/// What came back, whatever the status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, where it is a number of seconds.
    pub retry_after: Option<Duration>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// What came back when a stream was asked for.
pub enum Opened {
    /// The stream.
    Lines(Lines),
    /// Something else than 200.
    Refused(Answer),
}

impl Client {
    /// `base` is a URL without a slash at its end; nothing is connected yet.
    pub fn new(base: String, route: Route) -> Self {
        let opened = Arc::new(AtomicU32::new(0));
        let dialer = connection::Dialer { route, opened: opened.clone() };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("edgevip/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(MAX_CONNECT))
            .max_idle_connections(1)
            .max_idle_age(MAX_IDLE)
            .input_buffer_size(8 * 1024)
            .output_buffer_size(4 * 1024)
            .build();
        Self { agent: Agent::with_parts(config, dialer, connection::NoResolver), base, opened }
    }

    /// Asks, and takes the whole answer, until `until`.
    pub fn call(&self, request: &Request, until: Instant) -> Result<Answer, ApiFault> {
        let whole = until.saturating_since(clock::now());
        self.send(request, Limits { head: whole, whole })
            .and_then(|response| answer(response, request.max_answer))
            .map_err(|error| self.fault(request, error))
    }

    /// Asks, and takes no more of the answer than is wanted, until `until`.
    pub fn glance(&self, request: &Request, until: Instant) -> Result<Answer, ApiFault> {
        let whole = until.saturating_since(clock::now());
        self.send(request, Limits { head: whole, whole })
            .and_then(|response| {
                let (status, retry_after) = head(&response);
                let mut body = Vec::new();
                let reader = response.into_body().into_with_config().reader();
                reader.take(request.max_answer).read_to_end(&mut body)?;
                Ok(Answer { status, retry_after, body })
            })
            .map_err(|error| self.fault(request, error))
    }

    /// Opens a stream of lines. The server has `head` to accept it, and `whole` to end it.
    pub fn open(
        &self,
        request: &Request,
        head: Duration,
        whole: Duration,
    ) -> Result<Opened, ApiFault> {
        let opened = self.send(request, Limits { head, whole }).and_then(|response| {
            if response.status() != 200 {
                return Ok(Opened::Refused(answer(response, request.max_answer)?));
            }
            let body = response.into_body().into_with_config().reader();
            let body = BufReader::with_capacity(LINE_BUFFER, body);
            let (max, what) = (request.max_answer, self.what(request));
            Ok(Opened::Lines(Lines { body, max, what }))
        });
        opened.map_err(|error| self.fault(request, error))
    }

    /// Cuts all connections, those in use too: who waits for an answer gets a fault at once.
    pub fn shutdown(self) {
        self.agent.shutdown();
    }

    /// Names a request, for faults.
    pub fn what(&self, request: &Request) -> String {
        format!("{} {}{}", request.method, self.base, request.path)
    }

    // A kept connection may have died unnoticed, as when the server restarted; that must not
    // cost a renewal its turn.
    fn send(&self, request: &Request, limits: Limits) -> Result<Head, Error> {
        let started = clock::now();
        let opened = self.opened.load(Ordering::Relaxed);
        match self.attempt(request, limits) {
            Err(Error::Io(_)) if self.opened.load(Ordering::Relaxed) == opened => {
                self.attempt(request, limits.after(clock::now().saturating_since(started)))
            }
            result => result,
        }
    }

    fn attempt(&self, request: &Request, limits: Limits) -> Result<Head, Error> {
        let mut http = http::Request::builder()
            .method(request.method)
            .uri(format!("{}{}", self.base, request.path))
            .header(header::ACCEPT, request.accept);
        if let Some(token) = &request.token {
            let bearer = HeaderValue::try_from(format!("Bearer {token}"));
            let mut bearer = bearer.map_err(|error| Error::Http(error.into()))?;
            bearer.set_sensitive(true);
            http = http.header(header::AUTHORIZATION, bearer);
        }
        match &request.body {
            Some((kind, body)) => {
                self.run(http.header(header::CONTENT_TYPE, *kind).body(body)?, limits)
            }
            None => self.run(http.body(())?, limits),
        }
    }

    fn run<B: AsSendBody>(&self, http: http::Request<B>, limits: Limits) -> Result<Head, Error> {
        let scope = self.agent.configure_request(http);
        let scope = scope.timeout_recv_response(Some(limits.head));
        self.agent.run(scope.timeout_global(Some(limits.whole)).build())
    }

    fn fault(&self, request: &Request, error: Error) -> ApiFault {
        fault(&self.what(request), error)
    }
}

type Head = http::Response<Body>;

/// The name, the connection and the TLS handshake of one attempt.
const MAX_CONNECT: Duration = Duration::from_secs(10);
const MAX_IDLE: Duration = Duration::from_secs(300);
const LINE_BUFFER: usize = 4 * 1024;

#[derive(Clone, Copy)]
struct Limits {
    head: Duration,
    whole: Duration,
}

impl Limits {
    fn after(self, spent: Duration) -> Self {
        Self { whole: self.whole.saturating_sub(spent), ..self }
    }
}

/// A stream of lines.
pub struct Lines {
    body: BufReader<BodyReader<'static>>,
    max: u64,
    what: String,
}

impl Lines {
    /// Waits for a line; `None`: the stream has ended in good order.
    pub fn read(&mut self) -> Result<Option<Vec<u8>>, ApiFault> {
        let mut line = Vec::new();
        let read = (&mut self.body).take(self.max).read_until(b'\n', &mut line);
        read.map_err(|error| fault(&self.what, error.into()))?;
        if line.len() as u64 == self.max {
            let why = format!("{}: a line of more than {} bytes", self.what, self.max);
            return Err(ApiFault { kind: ApiFaultKind::Garbage, why, retry_after: None });
        }
        Ok(if line.is_empty() { None } else { Some(line) })
    }

    /// Waits for bytes, whatever their lines, and hands them on; `None`: the stream has ended
    /// in good order.
    pub fn read_some<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, ApiFault> {
        let bytes = self.body.fill_buf().map_err(|error| fault(&self.what, error.into()))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let (taken, length) = (take(bytes), bytes.len());
        self.body.consume(length);
        Ok(Some(taken))
    }
}

fn answer(response: Head, max: u64) -> Result<Answer, Error> {
    let (status, retry_after) = head(&response);
    let mut body = Vec::new();
    response.into_body().into_with_config().limit(max).reader().read_to_end(&mut body)?;
    Ok(Answer { status, retry_after, body })
}

fn head(response: &Head) -> (u16, Option<Duration>) {
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|it| it.to_str().ok()?.trim().parse::<u32>().ok());
    (response.status().as_u16(), retry_after.map(|it| Duration::from_secs(it.into())))
}

fn fault(what: &str, error: Error) -> ApiFault {
    let kind = match &error {
        Error::Timeout(_) => ApiFaultKind::Timeout,
        Error::Protocol(_)
        | Error::LargeResponseHeader(..)
        | Error::BodyExceedsLimit(_)
        | Error::BodyStalled => ApiFaultKind::Garbage,
        _ => ApiFaultKind::Unreachable,
    };
    let why = match error {
        Error::Io(error) => format!("{what}: {error}"),
        Error::Timeout(reason) => format!("{what}: no answer in time ({reason})"),
        other => format!("{what}: {other}"),
    };
    ApiFault { kind, why, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let table = [
            ("https://api:6443", Some(("api:6443", ""))),
            ("https://api/", Some(("api:443", ""))),
            (
                "https://[fd00::1]:6443/k8s/clusters/c-1/",
                Some(("[fd00::1]:6443", "/k8s/clusters/c-1")),
            ),
            ("http://10.0.0.1", Some(("10.0.0.1:80", ""))),
            ("tcp://127.0.0.1:6443", Some(("127.0.0.1:6443", ""))),
            ("tcp://127.0.0.1", None),
            ("https://", None),
            ("api:6443", None),
            ("", None),
        ];
        for (text, expected) in table {
            let url = Url::parse(text).map(|it| (it.at.to_string(), it.path));
            let url = url.as_ref().map(|(at, path)| (at.as_str(), path.as_str()));
            assert_eq!(url, expected, "{text}");
        }
    }

    #[test]
    fn a_user_in_a_url_is_freed_of_escapes() {
        let table = [("a:b", "a:b"), ("a:p%40ss%2", "a:p@ss%2"), ("%zz%41", "%zzA")];
        for (written, meant) in table {
            let url = Url::parse(&format!("http://{written}@proxy:3128")).unwrap();
            assert_eq!(url.user.unwrap(), meant.as_bytes());
            assert_eq!(url.at.host, "proxy");
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("kube-vip.v1_~"), "kube-vip.v1_~");
        assert_eq!(segment("../a?b=c&ü"), "..%2Fa%3Fb%3Dc%26%C3%BC");
    }
}
