//! The real API server: one for all tests, which a test may have to itself to break it.

use std::env::temp_dir;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use edgevip::model::{ApiAccess, Bytes, ClientCertificate, Token};

/// Where a running API server lives.
pub struct Server {
    run: PathBuf,
    port: u16,
}

/// The API server, together with other tests. Once for each test: who waits to have it alone goes
/// before the second time, and both wait for ever.
pub fn shared() -> RwLockReadGuard<'static, Server> {
    server().read().unwrap_or_else(PoisonError::into_inner)
}

/// The API server, alone: to stop or to break. It must be whole again at the end.
pub fn alone() -> RwLockWriteGuard<'static, Server> {
    server().write().unwrap_or_else(PoisonError::into_inner)
}

fn server() -> &'static RwLock<Server> {
    static SERVER: OnceLock<RwLock<Server>> = OnceLock::new();
    SERVER.get_or_init(|| RwLock::new(Server::start()))
}

impl Server {
    fn start() -> Self {
        let run = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("api-{}", id()));
        let port = free_ports();
        let server = Self { run, port };
        server.script(&["start", server.run(), &port.to_string()]);
        server.kubectl(&["create", "namespace", "edge"]);
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// As cluster-admin, by certificate.
    pub fn admin(&self) -> ApiAccess {
        ApiAccess {
            client: Some(ClientCertificate {
                certificate: Bytes::File(self.file("admin.crt")),
                key: Bytes::File(self.file("admin.key")),
            }),
            ..self.anonymous()
        }
    }

    /// As a ServiceAccount.
    pub fn with_token(&self, token: Token) -> ApiAccess {
        ApiAccess { token: Some(token), ..self.anonymous() }
    }

    pub fn anonymous(&self) -> ApiAccess {
        ApiAccess {
            server: format!("https://127.0.0.1:{}", self.port),
            dial: None,
            tls_server_name: None,
            ca: Some(Bytes::File(self.file("ca.crt"))),
            insecure: false,
            client: None,
            token: None,
            proxy: None,
            source: "the test".into(),
            remarks: vec![],
        }
    }

    /// A ServiceAccount of this name, its token on return.
    pub fn account(&self, namespace: &str, name: &str) -> String {
        self.kubectl(&["-n", namespace, "create", "serviceaccount", name]);
        self.script(&["token", self.run(), namespace, name]).trim().to_owned()
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.script(&[&["kubectl", self.run()], arguments].concat())
    }

    pub fn apply(&self, name: &str, manifest: &str) {
        self.with_file("apply", name, manifest);
    }

    /// Quicker than to apply, for what is not there.
    pub fn create(&self, name: &str, manifest: &str) {
        self.with_file("create", name, manifest);
    }

    fn with_file(&self, verb: &str, name: &str, manifest: &str) {
        let file = temp_dir().join(format!("edgevip-{}-{name}.yaml", id()));
        std::fs::write(&file, manifest).unwrap();
        self.kubectl(&[verb, "-f", file.to_str().unwrap()]);
        std::fs::remove_file(file).unwrap();
    }

    pub fn crash_api_server(&self) {
        self.script(&["crash", self.run()]);
    }

    pub fn start_api_server(&self) {
        self.script(&["apiserver", self.run()]);
    }

    pub fn freeze(&self) -> Frozen {
        signal("STOP", &self.api_server());
        Frozen(self.api_server())
    }

    fn api_server(&self) -> String {
        std::fs::read_to_string(self.file("apiserver.pid")).unwrap().trim().to_owned()
    }

    fn run(&self) -> &str {
        self.run.to_str().unwrap()
    }

    fn script(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube/kube");
        let output = Command::new(script).args(arguments).env("LIFE", id().to_string()).output();
        let output = output.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tests/kube/kube {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// An API server that does not run; it goes on when this is dropped.
pub struct Frozen(String);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap().success());
}

/// The first of three ports that nobody listens on.
fn free_ports() -> u16 {
    let start = 20_000 + (id() % 10_000) as u16;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (start..60_000).step_by(3).find(|&it| (it..it + 3).all(free)).unwrap()
}
