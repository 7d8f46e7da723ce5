//! An address that is asked over HTTP, on a connection that is kept: a TLS handshake costs a
//! small machine more than all else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HealthTarget;
use crate::io::clock;
use crate::io::http::{Client, Request, Url};
use crate::io::kube::{Credentials, Entrance};
use crate::model::{ApiAccess, ApiFault, Bytes};
use crate::wire::kube::{one_line, refusal_text};

/// Asks the address.
pub(super) struct Health {
    target: HealthTarget,
    way: Option<Way>,
}

impl Health {
    pub fn new(target: HealthTarget) -> Self {
        Self { target, way: None }
    }

    /// Why it is not well, in a line.
    pub fn ask(&mut self) -> Option<String> {
        self.asked().err().map(|it| one_line(&it))
    }

    fn asked(&mut self) -> Result<(), String> {
        let until = clock::now() + self.target.timeout;
        let way = match &mut self.way {
            Some(way) => way,
            None => self.way.insert(Way::to(&self.target)?),
        };
        let request = Request {
            method: "GET",
            path: way.path.clone(),
            accept: "*/*",
            token: None,
            body: None,
            max_answer: MAX_ANSWER,
        };
        let client = way.client().map_err(|it| it.why)?;
        let what = client.what(&request);
        let answer = client.glance(&request, until).map_err(|it| it.why)?;
        if is_well(&request.path, answer.status) {
            return Ok(());
        }
        Err(format!("{what}: {} {}", answer.status, refusal_text(&answer.body)))
    }
}

const MAX_ANSWER: u64 = 4096;

/// An API server that refuses to be asked without a name answers for all that.
fn is_well(path: &str, status: u16) -> bool {
    let api = path.split('?').next().is_some_and(|it| it == "/livez" || it.starts_with("/livez/"));
    match status {
        200..=299 => true,
        401 | 403 => api,
        _ => false,
    }
}

/// How to get there.
struct Way {
    path: String,
    credentials: Credentials,
    connected: Option<(Arc<Entrance>, Client)>,
}

impl Way {
    fn to(target: &HealthTarget) -> Result<Self, String> {
        let HealthTarget { url, ca, verify, .. } = target;
        let parsed = Url::parse(url)
            .ok_or_else(|| format!("{url}: not a URL with a host, and a port or http or https"))?;
        let server = format!("{}://{}", parsed.scheme, parsed.at);
        if parsed.user.is_some() {
            return Err(format!("{server}: a user and a password cannot be shown there"));
        }
        let ca = ca.clone().or_else(system_bundle);
        let access = ApiAccess {
            server,
            dial: None,
            tls_server_name: None,
            ca: ca.map(Bytes::File),
            insecure: !verify,
            client: None,
            token: None,
            proxy: None,
            source: format!("GET {url}"),
            remarks: Vec::new(),
        };
        Ok(Self { path: path(url), credentials: Credentials::new(access), connected: None })
    }

    fn client(&mut self) -> Result<&Client, ApiFault> {
        let entrance = self.credentials.entrance()?;
        let connected = self.connected.take().filter(|(it, _)| Arc::ptr_eq(it, &entrance));
        let connected = connected.unwrap_or_else(|| {
            let client = Client::new(entrance.base.clone(), entrance.route.clone());
            (entrance, client)
        });
        Ok(&self.connected.insert(connected).1)
    }
}

fn path(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let after = after.split('#').next().unwrap_or_default();
    match after.find(['/', '?']).map(|it| after.split_at(it).1) {
        Some(query) if query.starts_with('?') => format!("/{query}"),
        Some(path) => path.into(),
        None => "/".into(),
    }
}

/// Where Debian and its kin, Red Hat's, and Alpine keep whom the system trusts.
fn system_bundle() -> Option<PathBuf> {
    let places = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    places.iter().map(Path::new).find(|it| it.exists()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_host_is_asked_for() {
        let table = [
            ("https://127.0.0.1:6443/livez", "/livez"),
            ("https://[::1]:6443/livez?exclude=etcd#top", "/livez?exclude=etcd"),
            ("http://a?x=/y", "/?x=/y"),
            ("http://a", "/"),
        ];
        for (url, expected) in table {
            assert_eq!(path(url), expected, "{url}");
        }
    }

    #[test]
    fn only_an_api_server_is_well_when_it_refuses() {
        let table = [
            ("/livez", 200, true),
            ("/healthz", 204, true),
            ("/livez", 401, true),
            ("/livez/ping?verbose", 403, true),
            ("/livez", 500, false),
            ("/livez", 429, false),
            ("/livezz", 401, false),
            ("/", 403, false),
            ("/", 302, false),
        ];
        for (path, status, expected) in table {
            assert_eq!(is_well(path, status), expected, "{path} {status}");
        }
    }
}
