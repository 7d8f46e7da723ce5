//! The health probe against servers that are well, ill, silent, or not who they should be.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::probe::{HealthTarget, ProbeTargets, Prober};
use edgevip::model::Probe;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::liar::{CHUNKED, Liar, answer};

#[test]
fn what_a_server_says_is_understood() {
    let table = [
        ("200 OK", "/healthz", None),
        ("204 No Content", "/", None),
        ("401 Unauthorized", "/livez", None),
        ("403 Forbidden", "/livez?verbose", None),
        ("403 Forbidden", "/healthz", Some("403 [-]etcd failed")),
        ("302 Found", "/", Some("302 [-]etcd failed")),
        ("500 Internal Server Error", "/livez", Some("500 [-]etcd failed")),
    ];
    for (status, path, expected) in table {
        let body = if status.starts_with("204") { "" } else { "[-]etcd failed\n" };
        let liar = Liar::answering(answer(status, "Location: /elsewhere\r\n", body));
        let url = format!("http://127.0.0.1:{}{path}", liar.port());
        let expected = expected.map(|it| format!("GET {url}: {it}"));
        assert_eq!(Asker::of(&url).ask(), expected, "{status}");
    }
}

#[test]
fn one_connection_serves_until_it_ends() {
    let liar = Liar::saying(|it| {
        for _ in 0..3 {
            it.request();
            let body = format!("{}{}", it.number, "x".repeat(3_000));
            it.say(&answer("500 Ill", "", &body));
        }
    });
    let mut asker = Asker::of(&format!("http://127.0.0.1:{}/", liar.port()));
    for number in [0, 0, 0, 1, 1, 1, 2] {
        let why = asker.ask().unwrap();
        assert!(why.contains(&format!(": 500 {number}xxx")), "{number}: {why}");
        assert!(why.len() < 500);
    }
}

#[test]
fn an_answer_may_be_long() {
    let long = answer("200 OK", "", &"x".repeat(1_000_000));
    let liar = Liar::answering(long);
    let mut asker = Asker::of(&format!("http://127.0.0.1:{}/", liar.port()));
    for _ in 0..3 {
        assert_eq!(asker.ask(), None);
    }
}

#[test]
fn whoever_does_not_answer_in_time_is_ill() {
    let silent = Liar::saying(|it| it.wait_for_end());
    let drips = Liar::saying(|it| {
        it.request();
        it.say(CHUNKED);
        while it.say_bytes(b"1\r\nx\r\n") {
            thread::sleep(Duration::from_millis(50));
        }
    });
    for liar in [silent, drips] {
        let url = format!("http://127.0.0.1:{}/", liar.port());
        let target = HealthTarget { timeout: Duration::from_millis(300), ..target(&url) };
        let mut asker = Asker::new(target);
        for _ in 0..2 {
            let started = clock::now();
            let why = asker.ask().unwrap();
            assert!(why.starts_with(&format!("GET {url}: ")) && why.contains("in time"), "{why}");
            let spent = clock::now().saturating_since(started);
            assert!(spent < Duration::from_secs(2), "{spent:?}");
        }
    }
}

#[test]
fn where_nobody_listens_nobody_is_well() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{port}/livez");
    let why = Asker::of(&url).ask().unwrap();
    assert!(why.starts_with(&format!("GET {url}: ")) && why.contains("refused"), "{why}");
}

#[test]
fn an_address_that_is_none_is_named() {
    let table = [
        ("localhost:8080", "localhost:8080: not a URL"),
        ("http://user:secret@127.0.0.1/", "http://127.0.0.1:80: a user"),
        ("ftp://127.0.0.1:21/", "ftp: neither"),
    ];
    for (url, expected) in table {
        let why = Asker::of(url).ask().unwrap();
        assert!(why.contains(expected) && !why.contains("secret"), "{why}");
    }
}

#[test]
fn a_server_whose_name_is_not_asked_for_needs_one_handshake() {
    let server = TlsServer::start("unnamed", 5);
    let url = format!("https://127.0.0.1:{}/livez", server.port);
    let mut asker = Asker::new(HealthTarget { verify: false, ..target(&url) });
    for asked in 0..12 {
        assert_eq!(asker.ask(), None);
        assert_eq!(server.handshakes.load(Ordering::SeqCst), asked / 5 + 1);
    }
}

#[test]
fn a_server_must_be_who_it_should_be() {
    let server = TlsServer::start("named", usize::MAX);
    let url = |host| format!("https://{host}:{}/", server.port);
    let ca = Some(server.certificate.clone());
    let good = HealthTarget { ca: ca.clone(), ..target(&url("localhost")) };
    assert_eq!(Asker::new(good.clone()).ask(), None);
    let missing = server.folder.join("missing");
    let table = [
        (HealthTarget { ca: None, ..good.clone() }, "certificate"),
        (HealthTarget { url: url("127.0.0.1"), ..good.clone() }, "certificate"),
        (HealthTarget { ca: Some(missing.clone()), ..good }, missing.to_str().unwrap()),
    ];
    for (target, expected) in table {
        let start = format!("GET {}", target.url);
        let why = Asker::new(target).ask().unwrap();
        assert!(why.starts_with(&start) && why.contains(expected), "{why}");
    }
}

#[test]
fn the_authority_of_a_server_may_change() {
    let server = TlsServer::start("changes", usize::MAX);
    let url = format!("https://localhost:{}/", server.port);
    let ca = server.folder.join("trusted.crt");
    fs::write(&ca, "").unwrap();
    let mut asker = Asker::new(HealthTarget { ca: Some(ca.clone()), ..target(&url) });
    assert!(asker.ask().unwrap().contains("no certificate"));
    fs::copy(&server.certificate, &ca).unwrap();
    assert_eq!(asker.ask(), None);
}

struct Asker {
    prober: Prober,
    answers: Receiver<(Probe, Option<String>)>,
}

impl Asker {
    fn of(url: &str) -> Self {
        Self::new(target(url))
    }

    fn new(target: HealthTarget) -> Self {
        let (tell, answers) = channel();
        let deliver = Arc::new(move |probe, why| drop(tell.send((probe, why))));
        let targets = ProbeTargets { health: Some(target), check: None };
        Self { prober: Prober::start(targets, deliver), answers }
    }

    fn ask(&mut self) -> Option<String> {
        self.prober.ask(Probe::Health);
        let (probe, why) = self.answers.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(probe, Probe::Health);
        assert!(why.as_ref().is_none_or(|it| !it.contains(char::is_control)), "{why:?}");
        why
    }
}

fn target(url: &str) -> HealthTarget {
    let timeout = Duration::from_secs(10);
    HealthTarget { url: url.into(), ca: None, verify: true, timeout }
}

/// Answers `ok` over TLS as `localhost`, so often on each connection.
struct TlsServer {
    port: u16,
    folder: PathBuf,
    certificate: PathBuf,
    handshakes: Arc<AtomicUsize>,
}

impl TlsServer {
    fn start(name: &str, requests: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("edgevip-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("crt"), folder.join("key"));
        make_certificate(&certificate, &key);
        let chain = vec![CertificateDer::from_pem_file(&certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let handshakes = Arc::new(AtomicUsize::new(0));
        let count = handshakes.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, count) = (config.clone(), count.clone());
                thread::spawn(move || serve(config, stream.unwrap(), requests, &count));
            }
        });
        Self { port, folder, certificate, handshakes }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn serve(config: Arc<ServerConfig>, stream: TcpStream, requests: usize, count: &AtomicUsize) {
    use std::io::{Read, Write};

    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let mut greeted = false;
    for _ in 0..requests {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if !tls.read(&mut byte).is_ok_and(|it| it == 1) {
                return;
            }
            head.extend(byte);
        }
        count.fetch_add(usize::from(!greeted), Ordering::SeqCst);
        greeted = true;
        tls.write_all(answer("200 OK", "", "ok").as_bytes()).unwrap();
    }
    tls.conn.send_close_notify();
    tls.flush().ok();
}

fn make_certificate(certificate: &Path, key: &Path) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-days", "2", "-subj", "/CN=test"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(certificate)
        .arg("-keyout")
        .arg(key)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
