//! [`ApiAccess`] turned into a way to the server: URL, TLS, token. Files are read when they
//! are needed and again when they have changed.

use std::fs::{File, metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::io::http::{HostPort, Route, Tunnel, Url};
use crate::model::{ApiAccess, ApiFault, ApiFaultKind, Bytes, Token};

/// What [`Credentials`] come to while no file changes.
pub(in crate::io) struct Entrance {
    pub base: String,
    pub route: Route,
}

/// An [`ApiAccess`], and what its files said.
pub(in crate::io) struct Credentials {
    access: ApiAccess,
    loaded: Option<(Vec<Stamp>, Arc<Entrance>)>,
}

impl Credentials {
    pub fn new(access: ApiAccess) -> Self {
        Self { access, loaded: None }
    }

    /// The same `Arc` as long as no file has changed.
    pub fn entrance(&mut self) -> Result<Arc<Entrance>, ApiFault> {
        let stamps: Vec<_> = self.files().map(Stamp::of).collect();
        if let Some((loaded, entrance)) = &self.loaded
            && *loaded == stamps
        {
            return Ok(entrance.clone());
        }
        let entrance = Arc::new(entrance(&self.access).map_err(|why| self.unreachable(why))?);
        self.loaded = Some((stamps, entrance.clone()));
        Ok(entrance)
    }

    /// The token as it stands at this moment.
    pub fn token(&self) -> Result<Option<String>, ApiFault> {
        let token = match &self.access.token {
            None => return Ok(None),
            Some(Token::Inline(token)) => token.clone(),
            Some(Token::File(path)) => read_file(path)
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| not(path, "text")))
                .map_err(|why| ApiFault {
                    kind: ApiFaultKind::Unauthorized,
                    why,
                    retry_after: None,
                })?,
        };
        Ok(Some(token.trim().to_owned()))
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let client = self.access.client.iter().flat_map(|it| [&it.certificate, &it.key]);
        self.access.ca.iter().chain(client).filter_map(|it| match it {
            Bytes::File(path) => Some(path.as_path()),
            Bytes::Inline(_) => None,
        })
    }

    fn unreachable(&self, why: String) -> ApiFault {
        let why = format!("{}: {why}", self.access.source);
        ApiFault { kind: ApiFaultKind::Unreachable, why, retry_after: None }
    }
}

/// Changes when a file does, or when another takes its name.
#[derive(Eq, PartialEq)]
struct Stamp(Option<(u64, u64, i64, i64)>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let stamp = |it: std::fs::Metadata| (it.ino(), it.size(), it.mtime(), it.mtime_nsec());
        Self(metadata(path).ok().map(stamp))
    }
}

fn entrance(access: &ApiAccess) -> Result<Entrance, String> {
    let server = url(&access.server)?;
    let target = match &access.dial {
        Some(dial) => url(&format!("tcp://{dial}"))?.at,
        None => server.at.clone(),
    };
    let tls = match server.scheme.as_str() {
        "https" => {
            let name = access.tls_server_name.as_ref().unwrap_or(&server.at.host);
            let name = ServerName::try_from(name.clone())
                .map_err(|_| format!("{name:?} is no name that a certificate can carry"))?;
            Some((Arc::new(tls_config(access)?), name))
        }
        "http" => None,
        other => return Err(format!("{other}: neither http nor https")),
    };
    let route = match &access.proxy {
        None => Route { first: target, tunnel: None, tls },
        Some(proxy) => through(url(proxy)?, target, tls)?,
    };
    let base = format!("{}://{}{}", server.scheme, server.at, server.path);
    Ok(Entrance { base, route })
}

fn url(text: &str) -> Result<Url, String> {
    Url::parse(text).ok_or_else(|| format!("{text:?} is not a URL with a host and a port"))
}

fn through(
    proxy: Url,
    to: HostPort,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
) -> Result<Route, String> {
    if proxy.scheme != "http" {
        return Err(format!("proxies by {} are not in this version, only http", proxy.scheme));
    }
    let authorization = proxy.user.map(|it| format!("Basic {}", STANDARD.encode(it)));
    Ok(Route { first: proxy.at, tunnel: Some(Tunnel { to, authorization }), tls })
}

fn tls_config(access: &ApiAccess) -> Result<ClientConfig, String> {
    let verified = match (&access.ca, access.insecure) {
        (_, true) => trusting_anyone()?,
        (Some(ca), false) => trusting(ca)?,
        (None, false) => return Err("no certificate authority to verify the server by".into()),
    };
    let mut config = match &access.client {
        None => verified.with_no_client_auth(),
        Some(client) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(&read(&client.certificate)?).collect();
            let chain = chain.map_err(|error| format!("client certificate: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(&read(&client.key)?)
                .map_err(|error| format!("client key: {error}"))?;
            verified
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("client certificate and key: {error}"))?
        }
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// For one server; rustls keeps room for hundreds otherwise.
const SESSIONS: usize = 8;

type Verified = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn trusting(ca: &Bytes) -> Result<Verified, String> {
    let mut roots = RootCertStore::empty();
    let ca = read(ca)?;
    let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&ca).flatten());
    if added == 0 {
        return Err("no certificate in the certificate authority's file".into());
    }
    Ok(versions()?.with_root_certificates(roots))
}

fn trusting_anyone() -> Result<Verified, String> {
    let schemes = ring::default_provider().signature_verification_algorithms.supported_schemes();
    Ok(versions()?.dangerous().with_custom_certificate_verifier(Arc::new(Anyone { schemes })))
}

fn versions() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

/// TLS with whoever answers, showing nothing.
pub(super) fn blind_tls() -> Result<Arc<ClientConfig>, String> {
    Ok(Arc::new(trusting_anyone()?.with_no_client_auth()))
}

/// Verifies nothing.
#[derive(Debug)]
struct Anyone {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

fn read(bytes: &Bytes) -> Result<Vec<u8>, String> {
    match bytes {
        Bytes::File(path) => read_file(path),
        Bytes::Inline(bytes) => Ok(bytes.clone()),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|it| it.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}

const MAX_FILE: u64 = 1 << 20;

fn not(path: &Path, what: &str) -> String {
    format!("{}: not {what}", path.display())
}
