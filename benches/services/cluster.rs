//! The API server as an administrator sees it, by connections of this program's own: kubectl
//! would take hours.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::http::{Answer, Client, HostPort, Request, Route};
use edgevip::model::Instant;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use crate::lab::api::{ADDRESS, PORT};

/// Connections that create.
const AT_ONCE: usize = 12;
const PATIENCE: Duration = Duration::from_secs(60);
const RUN: &str = "/run/kube";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// An administrator.
#[derive(Clone)]
pub struct Admin {
    tls: (Arc<ClientConfig>, ServerName<'static>),
}

/// One connection.
pub struct Line(Client);

impl Admin {
    /// By the certificate that the API server's start left.
    pub fn new() -> Self {
        let file = |name: &str| format!("{RUN}/{name}");
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(file("ca.crt")).expect("the script writes it");
        roots.add(ca).expect("it is a certificate");
        let certificate = CertificateDer::from_pem_file(file("admin.crt"));
        let key = PrivateKeyDer::from_pem_file(file("admin.key")).expect("the script writes it");
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("ring has them")
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![certificate.expect("the script writes it")], key)
                .expect("they belong together");
        let name = ServerName::try_from(ADDRESS).expect("an address is a name");
        Self { tls: (Arc::new(config), name) }
    }

    /// A connection of its own.
    pub fn line(&self) -> Line {
        let first = HostPort { host: ADDRESS.into(), port: PORT };
        let route = Route { first, tunnel: None, tls: Some(self.tls.clone()) };
        Line(Client::new(format!("https://{ADDRESS}:{PORT}"), route))
    }

    /// Creates so many Services, and who serves each; returns how long it took.
    pub fn create(&self, count: usize) -> Duration {
        let (began, next) = (clock::now(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    let line = self.line();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        line.create_slice(&name(number));
                        line.create_service(&name(number), address(number));
                    }
                });
            }
        });
        clock::now().saturating_since(began)
    }
}

/// The name of a Service.
pub fn name(number: usize) -> String {
    format!("s{number:05}")
}

/// Its address.
pub fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a40_0000 + 256 + number as u32)
}

impl Line {
    /// Creates a Service with a fixed address; returns when that was answered.
    pub fn create_service(&self, name: &str, ip: Ipv4Addr) -> Instant {
        let it = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "labels": { "app": name },
                "annotations": { "kube-vip.io/loadbalancerIPs": ip.to_string() },
            },
            "spec": {
                "type": "LoadBalancer",
                "ipFamilies": ["IPv4"],
                // There are fewer of them than Services.
                "allocateLoadBalancerNodePorts": false,
                "selector": { "app": name },
                "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
            },
        });
        self.write("POST", SERVICES, JSON, &it);
        clock::now()
    }

    /// Says that something serves it on the second node.
    pub fn create_slice(&self, name: &str) {
        let it = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-1"),
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": [{
                "addresses": ["10.244.0.1"],
                "nodeName": "n2",
                "conditions": { "ready": true, "serving": true, "terminating": false },
            }],
        });
        self.write("POST", SLICES, JSON, &it);
    }

    /// Gives a Service another address; returns when that was answered.
    pub fn readdress(&self, name: &str, ip: Ipv4Addr) -> Instant {
        let it = json!({ "metadata": { "annotations": { "kube-vip.io/loadbalancerIPs": ip.to_string() } } });
        self.write("PATCH", &format!("{SERVICES}/{name}"), "application/merge-patch+json", &it);
        clock::now()
    }

    /// How many Services the cluster was told the address of.
    pub fn told(&self) -> usize {
        let (mut told, mut next) = (0, String::new());
        loop {
            let path = format!("{SERVICES}?limit=500&continue={next}");
            let page: Value = serde_json::from_slice(&self.ask("GET", &path, None).body)
                .expect("the API server speaks JSON");
            let items = page["items"].as_array().expect("a list has items");
            let is_told = |it: &&Value| !it["status"]["loadBalancer"]["ingress"].is_null();
            told += items.iter().filter(is_told).count();
            next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if next.is_empty() {
                return told;
            }
        }
    }

    fn write(&self, method: &'static str, path: &str, kind: &'static str, it: &Value) {
        let answer = self.ask(method, path, Some((kind, it.to_string())));
        let text = String::from_utf8_lossy(&answer.body);
        assert!(matches!(answer.status, 200 | 201), "{method} {path}: {} {text}", answer.status);
    }

    fn ask(
        &self,
        method: &'static str,
        path: &str,
        body: Option<(&'static str, String)>,
    ) -> Answer {
        let request = Request {
            method,
            path: path.into(),
            accept: JSON,
            token: None,
            body,
            max_answer: 64 << 20,
        };
        let answer = self.0.call(&request, clock::now() + PATIENCE);
        answer.unwrap_or_else(|fault| panic!("{method} {path}: {}", fault.why))
    }
}

const JSON: &str = "application/json";
