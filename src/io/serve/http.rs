use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use async_io::{Async, Timer};
use smol::LocalExecutor;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Ask, BREATHER, TIME_LIMIT, limited, persistently};

/// What is served on a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// `/healthz`, `/livez`, `/readyz`.
    Health,
    /// `/metrics`.
    Metrics,
}

/// Serves on `address`, which is `host:port` or `:port` for all addresses; never returns.
pub async fn serve_http(door: Door, address: &str, answer: Answer) {
    let what = match door {
        Door::Health => format!("{address} for health checks"),
        Door::Metrics => format!("{address} for metrics"),
    };
    let listener = persistently(&what, || bind(address)).await;
    serve(door, &listener, &answer).await;
}

/// When one more comes the oldest is cut off: who holds connections open locks nobody out.
const CONNECTIONS: usize = 16;

const LONGEST_HEAD: usize = 8 * 1024;
const MOST_FIELDS: usize = 64;

fn bind(address: &str) -> io::Result<Async<TcpListener>> {
    let Some(port) = address.strip_prefix(':') else {
        let literal = address.replace("localhost:", "127.0.0.1:");
        let literal: SocketAddr = literal.parse().map_err(|_| {
            let why = format!("{address:?} is not an IP address with a port");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })?;
        return Async::<TcpListener>::bind(literal);
    };
    let port: u16 = port.parse().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{port:?} is not a port"))
    })?;
    // The IPv6 wildcard takes IPv4, too. Without IPv6 in the kernel there is the other.
    Async::<TcpListener>::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ => Async::<TcpListener>::bind((Ipv4Addr::UNSPECIFIED, port)),
    })
}

async fn serve(door: Door, listener: &Async<TcpListener>, answer: &Answer) {
    let executor = LocalExecutor::new();
    let accept = async {
        let mut open = VecDeque::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    open.retain(|it: &smol::Task<_>| !it.is_finished());
                    if open.len() == CONNECTIONS {
                        drop(open.pop_front());
                    }
                    let conversation = converse(door, stream, answer.clone());
                    open.push_back(executor.spawn(limited(TIME_LIMIT, conversation)));
                }
                Err(error) => {
                    log::debug!(error:%; "cannot accept a connection");
                    Timer::after(BREATHER).await;
                }
            }
        }
    };
    executor.run(accept).await
}

async fn converse(door: Door, mut stream: Async<TcpStream>, answer: Answer) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let response = match head {
        Ok(head) => respond(door, &head, &answer),
        Err(status) => Response::plain(status, ""),
    };
    stream.write_all(response.bytes().as_bytes()).await?;
    stream.get_ref().shutdown(Shutdown::Write)?;
    // Closed with something unread, the connection would be reset, and the answer with it.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

struct Head {
    method: String,
    path: String,
}

/// The head of a request, or the status that says what is wrong with it.
async fn read_head(stream: &mut Async<TcpStream>) -> io::Result<Result<Head, u16>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(chunk.get(..length).unwrap_or_default());
        match parse_head(&bytes) {
            Ok(None) if bytes.len() >= LONGEST_HEAD => return Ok(Err(431)),
            Ok(None) => {}
            Ok(Some(head)) => return Ok(Ok(head)),
            Err(status) => return Ok(Err(status)),
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, u16> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        Err(_) => return Err(400),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else { return Err(400) };
    let path = target.split('?').next().unwrap_or_default();
    Ok(Some(Head { method: method.into(), path: path.into() }))
}

fn respond(door: Door, head: &Head, answer: &Answer) -> Response {
    let with_body = match head.method.as_str() {
        "GET" => true,
        "HEAD" => false,
        _ => return Response::plain(405, ""),
    };
    let response = match route(door, &head.path) {
        Some(Ask::Metrics) => {
            let (status, body) = answer(Ask::Metrics);
            Response { kind: crate::wire::metrics::CONTENT_TYPE, ..Response::plain(status, body) }
        }
        Some(ask) => {
            let (status, body) = answer(ask);
            Response::plain(status, body)
        }
        None if door == Door::Metrics => Response {
            kind: "text/html; charset=utf-8",
            ..Response::plain(200, "<title>edgevip</title><a href=\"/metrics\">metrics</a>\n")
        },
        None => Response::plain(404, ""),
    };
    Response { with_body, ..response }
}

fn route(door: Door, path: &str) -> Option<Ask> {
    match (door, path) {
        (Door::Health, "/healthz") => Some(Ask::Health),
        (Door::Health, "/livez") => Some(Ask::Live),
        (Door::Health, "/readyz") => Some(Ask::Ready),
        (Door::Metrics, "/metrics") => Some(Ask::Metrics),
        (Door::Health | Door::Metrics, _) => None,
    }
}

struct Response {
    status: u16,
    kind: &'static str,
    body: String,
    with_body: bool,
}

impl Response {
    fn plain(status: u16, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into(), with_body: true }
    }

    fn bytes(&self) -> String {
        let Self { status, kind, body, with_body } = self;
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "",
        };
        let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let body = if *with_body { body } else { "" };
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             {allow}Connection: close\r\n\r\n{body}"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::io::clock;

    #[test]
    fn probes_and_prometheus_get_their_answers() {
        let table = [
            (Door::Health, "GET /healthz HTTP/1.1", 200, "OK"),
            (Door::Health, "GET /healthz?verbose HTTP/1.0", 200, "OK"),
            (Door::Health, "GET /livez HTTP/1.1", 200, "alive"),
            (Door::Health, "GET /readyz HTTP/1.1", 503, "not yet"),
            (Door::Health, "GET /metrics HTTP/1.1", 404, ""),
            (Door::Health, "HEAD /healthz HTTP/1.1", 200, ""),
            (Door::Health, "POST /healthz HTTP/1.1", 405, ""),
            (Door::Health, "nonsense", 400, ""),
            (Door::Metrics, "GET /metrics HTTP/1.1", 200, "edgevip_api_up 1\n"),
            (Door::Metrics, "GET /healthz HTTP/1.1", 200, "<title>"),
        ];
        for (door, line, status, body) in table {
            let request = format!("{line}\r\nHost: x\r\n\r\n");
            let answer = with_server(door, move |at| exchange(at, request.as_bytes()));
            let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
            assert!(rest.starts_with(body), "{line}: {answer}");
            assert!(!body.is_empty() || rest.is_empty(), "{line}: {answer}");
        }
    }

    #[test]
    fn a_head_request_tells_the_length_of_what_it_does_not_send() {
        let request = b"HEAD /healthz HTTP/1.1\r\n\r\n";
        let answer = with_server(Door::Health, |at| exchange(at, request));
        assert!(answer.contains("\r\nContent-Length: 2\r\n"), "{answer}");
    }

    #[test]
    fn a_request_in_pieces_and_with_a_body_is_answered() {
        let answer = with_server(Door::Health, |at| {
            let mut stream = connect(at);
            stream.set_nodelay(true).unwrap();
            for piece in ["GET /hea", "lthz HTTP/1.1\r\nContent-Length: 3\r\n", "\r\nabc"] {
                stream.write_all(piece.as_bytes()).unwrap();
                std::thread::yield_now();
            }
            drain(stream)
        });
        assert!(answer.ends_with("\r\n\r\nOK"), "{answer}");
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let answer = with_server(Door::Health, |at| {
            let long = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(LONGEST_HEAD));
            exchange(at, long.as_bytes())
        });
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let answer = with_server(Door::Health, |at| {
            exchange(at, format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(100)).as_bytes())
        });
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[test]
    fn who_holds_connections_open_locks_nobody_out() {
        let answers = with_server(Door::Health, |at| {
            let started = clock::now();
            let mut silent: VecDeque<_> = (0..3 * CONNECTIONS).map(|_| connect(at)).collect();
            let answer = exchange(at, HEALTHZ);
            // The oldest are cut off before their time, the newest may go on.
            assert_eq!(drain(silent.pop_front().unwrap()), "");
            assert!(clock::now().saturating_since(started) < TIME_LIMIT);
            let mut newest = silent.pop_back().unwrap();
            newest.write_all(HEALTHZ).unwrap();
            [answer, drain(newest)]
        });
        for answer in answers {
            assert!(answer.ends_with("OK"), "{answer}");
        }
    }

    #[test]
    fn a_body_that_nobody_wants_does_not_cost_the_answer() {
        let answer = with_server(Door::Health, |at| {
            let mut stream = connect(at);
            stream.write_all(b"POST /healthz HTTP/1.1\r\n\r\n").unwrap();
            // More than the buffers between us hold.
            (0..32).for_each(|_| stream.write_all(&[b'x'; 1024 * 1024]).unwrap());
            stream.shutdown(Shutdown::Write).unwrap();
            drain(stream)
        });
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }

    #[test]
    fn who_sends_nothing_is_cut_off() {
        let started = clock::now();
        let answer = with_server(Door::Health, |at| drain(connect(at)));
        let spent = clock::now().saturating_since(started);
        assert_eq!(answer, "");
        assert!((TIME_LIMIT..4 * TIME_LIMIT).contains(&spent), "{spent:?}");
    }

    #[test]
    fn heads_that_mean_harm_are_no_panic() {
        let good = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        for index in 0..good.len() {
            for byte in 0..=u8::MAX {
                let mut bad = *good;
                bad[index] = byte;
                let _ = parse_head(&bad);
                let _ = parse_head(&bad[..index]);
            }
        }
    }

    #[test]
    fn an_address_is_a_literal_or_a_port() {
        for good in [":0", "127.0.0.1:0", "[::1]:0", "localhost:0"] {
            assert!(bind(good).is_ok(), "{good}");
        }
        for bad in ["", ":", ":x", ":70000", "name:80", "127.0.0.1"] {
            let error = bind(bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad}: {error}");
        }
    }

    #[test]
    fn all_addresses_means_both_families() {
        let listener = bind(":0").unwrap();
        let port = listener.get_ref().local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    }

    const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\n\r\n";

    /// Runs a client in a thread while the server runs in this one.
    fn with_server<T: Send + 'static>(
        door: Door,
        client: impl FnOnce(SocketAddr) -> T + Send + 'static,
    ) -> T {
        let answer: Answer = Rc::new(|ask| match ask {
            Ask::Health => (200, "OK".into()),
            Ask::Live => (200, "alive".into()),
            Ask::Ready => (503, "not yet".into()),
            Ask::Metrics => (200, "edgevip_api_up 1\n".into()),
            Ask::Status => (200, "{}".into()),
        });
        async_io::block_on(async {
            let listener = bind("127.0.0.1:0").unwrap();
            let at = listener.get_ref().local_addr().unwrap();
            let client = smol::unblock(move || client(at));
            let server = async {
                serve(door, &listener, &answer).await;
                unreachable!()
            };
            smol::future::or(client, server).await
        })
    }

    fn connect(at: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn exchange(at: SocketAddr, request: &[u8]) -> String {
        let mut stream = connect(at);
        stream.write_all(request).unwrap();
        drain(stream)
    }

    fn drain(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}
