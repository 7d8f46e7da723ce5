//! From a kubeconfig, or a Pod's service account, to an [`ApiAccess`].

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::values::spelled;
use super::{KubeSettings, VipSetting, values, yaml};
use crate::model::{ApiAccess, Bytes, ClientCertificate, Token};

/// Where a Pod finds its service account.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Where kubeadm puts the administrator's kubeconfig.
pub(super) const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// What works before kubeadm has given the administrator any rights.
const SUPER_ADMIN: &str = "/etc/kubernetes/super-admin.conf";
/// Where else a control-plane node has a kubeconfig: kubeadm, k3s, RKE2, k0s.
pub(super) const OTHERS: [&str; 4] = [
    SUPER_ADMIN,
    "/etc/rancher/k3s/k3s.yaml",
    "/etc/rancher/rke2/rke2.yaml",
    "/var/lib/k0s/pki/admin.conf",
];
const SYSTEM_CAS: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// How the API server will be reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Access {
    /// Where, and how to be let in.
    pub api: ApiAccess,
    /// The server is yet to be found from the certificate served on loopback; then
    /// [`keep_off`] applies to it.
    pub detect: bool,
}

/// Reads a file.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Settles how to reach the API server, by the first kubeconfig that exists, else as a Pod.
pub fn access(kube: &KubeSettings, vips: &[VipSetting], read: Read<'_>) -> Result<Access, String> {
    let mut remarks = Vec::new();
    for (i, path) in kube.kubeconfigs.iter().enumerate() {
        let named = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
        match read(path) {
            Ok(content) => {
                let mut api = parse(&content, path, read).map_err(|it| named(&it))?;
                api.remarks.splice(0..0, remarks);
                return settle(api, path, kube, vips).map_err(|it| named(&it));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                if kube.explicit && i == 0 {
                    remarks.push(named(&"does not exist, the usual kubeconfigs are tried"));
                }
            }
            Err(error) => return Err(named(&error)),
        }
    }
    let mut api = service_account(kube, read)?;
    api.remarks = remarks;
    settle(api, Path::new(SERVICE_ACCOUNT), kube, vips)
}

/// Whether there is a way to an API server, or one was asked for, good or bad.
pub fn is_there(kube: &KubeSettings, read: Read<'_>) -> bool {
    let there = |path: &Path| match read(path) {
        Ok(_) => true,
        Err(error) => {
            !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        }
    };
    let account = || kube.in_cluster.is_some() && there(&Path::new(SERVICE_ACCOUNT).join("token"));
    kube.explicit || kube.kubeconfigs.iter().any(|it| there(it)) || account()
}

/// Never through our own VIP, which may be on another node or nowhere: the API server of
/// this node shows the same certificate. `kubernetes` is what kubeadm's certificates call it.
pub fn keep_off(api: &mut ApiAccess, vips: &[VipSetting]) -> Result<(), String> {
    let server = Server::parse(&api.server)?;
    if server.name() != "kubernetes" && !server.is_one_of(vips) {
        return Ok(());
    }
    api.dial = Some(format!("127.0.0.1:{}", server.port));
    api.tls_server_name.get_or_insert(server.name().to_owned());
    if api.proxy.take().is_some() {
        api.remarks.push("proxy-url is not used to reach this node's own API server".into());
    }
    Ok(())
}

fn settle(
    mut api: ApiAccess,
    path: &Path,
    kube: &KubeSettings,
    vips: &[VipSetting],
) -> Result<Access, String> {
    let asked = kube.explicit && kube.kubeconfigs.first().is_some_and(|it| it == path);
    let of_kubeadm = !asked && [ADMIN, SUPER_ADMIN].iter().any(|it| Path::new(it) == path);
    let of_host = of_kubeadm || OTHERS.iter().any(|it| Path::new(it) == path);
    let overriding = kube.server.as_ref().filter(|_| asked || of_host);
    if overriding.is_none() && kube.server.is_some() {
        api.remarks.push(format!("kubernetes_addr is not used with {}", api.source));
    }
    let detect = of_kubeadm && kube.detect && overriding.is_none();
    let server = match overriding {
        Some(server) => server.clone(),
        None if detect => format!("127.0.0.1:{}", kube.port),
        None if of_kubeadm => format!("kubernetes:{}", kube.port),
        None => api.server,
    };
    api.server = Server::parse(&server)?.to_string();
    keep_off(&mut api, vips)?;
    trust(&mut api)?;
    check_proxy(&api, vips)?;
    Ok(Access { api, detect })
}

/// What is verified against nothing must have been asked for.
fn trust(api: &mut ApiAccess) -> Result<(), String> {
    if api.insecure {
        api.remarks.push("the server's certificate is not verified (insecure)".into());
    } else if api.ca.is_none() && api.server.starts_with("https:") {
        return Err("no certificate-authority to verify the server by".into());
    }
    Ok(())
}

fn check_proxy(api: &ApiAccess, vips: &[VipSetting]) -> Result<(), String> {
    let Some(proxy) = &api.proxy else { return Ok(()) };
    let rest = match proxy.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) | None => {
            let why = "the proxy-url is not one of an http:// proxy, and others are not known";
            return Err(why.into());
        }
    };
    // What stands before the @ is a name and a password, which are not the server's.
    let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let server = Server::parse(&format!("http://{place}")).ok();
    let Some(server) = server.filter(|it| it.path.is_empty() && user.bytes().all(is_of_user))
    else {
        let proxy = without_user(proxy);
        return Err(format!("{proxy:?} is no proxy-url; give one such as http://10.0.0.1:3128"));
    };
    match server.is_one_of(vips) {
        true => Err("the way to the API server may not lead through a proxy on the VIP".into()),
        false => Ok(()),
    }
}

/// RFC 3986 §3.2.1; the path of §3.3 has `/` and `@` besides.
fn is_of_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:".contains(&byte)
}

fn service_account(kube: &KubeSettings, read: Read<'_>) -> Result<ApiAccess, String> {
    let Some(host_port) = &kube.in_cluster else {
        let paths: Vec<_> = kube.kubeconfigs.iter().map(|it| it.display().to_string()).collect();
        return Err(format!(
            "no kubeconfig (looked for {}), and not in a Pod: KUBERNETES_SERVICE_HOST and \
             KUBERNETES_SERVICE_PORT are not set",
            paths.join(", ")
        ));
    };
    let token = Path::new(SERVICE_ACCOUNT).join("token");
    read(&token).map_err(|error| format!("service account: {}: {error}", token.display()))?;
    Ok(ApiAccess {
        ca: Some(Bytes::File(Path::new(SERVICE_ACCOUNT).join("ca.crt"))),
        token: Some(Token::File(token)),
        ..nobody(format!("https://{host_port}"), "service account".into())
    })
}

fn nobody(server: String, source: String) -> ApiAccess {
    ApiAccess {
        server,
        dial: None,
        tls_server_name: None,
        ca: None,
        insecure: false,
        client: None,
        token: None,
        proxy: None,
        source,
        remarks: Vec::new(),
    }
}

/// Understands a kubeconfig, as far as its current context goes.
fn parse(content: &str, path: &Path, read: Read<'_>) -> Result<ApiAccess, String> {
    let root = yaml::parse(content)?;
    let current = field(&root, "current-context")
        .ok_or("has no current-context; see `kubectl config use-context`")?;
    let context = entry(&root, "context", &current)?;
    let cluster = field(context, "cluster").ok_or("the current context names no cluster")?;
    let cluster = entry(&root, "cluster", &cluster)?;
    let user = match field(context, "user") {
        Some(user) => entry(&root, "user", &user)?,
        None => &Value::Null,
    };
    refuse(user)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let server = field(cluster, "server").ok_or("the cluster has no server")?;
    let mut api = ApiAccess {
        tls_server_name: field(cluster, "tls-server-name"),
        ca: bytes(cluster, "certificate-authority", folder)?,
        insecure: field(cluster, "insecure-skip-tls-verify").as_deref().and_then(values::bool)
            == Some(true),
        client: client(user, folder)?,
        token: token(user, folder),
        proxy: field(cluster, "proxy-url"),
        ..nobody(server, path.display().to_string())
    };
    if api.client.is_none() && api.token.is_none() {
        if field(user, "username").is_some() {
            return Err("username and password are understood by no API server since Kubernetes \
                        1.19; give a client certificate or a token"
                .into());
        }
        api.remarks.push("neither a client certificate nor a token: asks as anonymous".into());
    }
    if api.insecure && api.ca.is_some() {
        api.insecure = false;
        api.remarks.push(
            "insecure-skip-tls-verify is ignored, for there is a certificate-authority".into(),
        );
    }
    if api.ca.is_none() && !api.insecure {
        let system = SYSTEM_CAS.iter().map(PathBuf::from).find(|it| read(it).is_ok());
        api.ca = system.map(Bytes::File);
    }
    Ok(api)
}

/// Refuses what would have to be obeyed and cannot be.
fn refuse(user: &Value) -> Result<(), String> {
    let why = |name| match name {
        "exec" => "runs a program for credentials, which is",
        "auth-provider" => "asks a provider for credentials, which Kubernetes dropped and is",
        _ => "acts as another user, which is",
    };
    match ["exec", "auth-provider", "as", "as-groups", "as-uid", "as-user-extra"]
        .into_iter()
        .find(|it| user.get(it).is_some_and(|it| !it.is_null()))
    {
        Some(name) => Err(format!(
            "{name} {} not in this version; give a client certificate or a token",
            why(name)
        )),
        None => Ok(()),
    }
}

fn client(user: &Value, folder: &Path) -> Result<Option<ClientCertificate>, String> {
    let certificate = bytes(user, "client-certificate", folder)?;
    match (certificate, bytes(user, "client-key", folder)?) {
        (Some(certificate), Some(key)) => Ok(Some(ClientCertificate { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err("a client-certificate without its client-key".into()),
        (None, Some(_)) => Err("a client-key without its client-certificate".into()),
    }
}

fn token(user: &Value, folder: &Path) -> Option<Token> {
    let file = field(user, "tokenFile").map(|it| Token::File(folder.join(it)));
    file.or_else(|| field(user, "token").map(Token::Inline))
}

/// What `name-data` holds, else the file that `name` names.
fn bytes(object: &Value, name: &str, folder: &Path) -> Result<Option<Bytes>, String> {
    let key = format!("{name}-data");
    let Some(mut data) = field(object, &key) else {
        return Ok(field(object, name).map(|it| Bytes::File(folder.join(it))));
    };
    data.retain(|it| !it.is_ascii_whitespace());
    match STANDARD.decode(data) {
        Ok(bytes) => Ok(Some(Bytes::Inline(bytes))),
        Err(error) => Err(format!("{key} is not base64: {error}")),
    }
}

/// The `kind` of this name in the list of them.
fn entry<'a>(root: &'a Value, kind: &str, name: &str) -> Result<&'a Value, String> {
    let list = root.get(format!("{kind}s")).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .find(|it| field(it, "name").as_deref() == Some(name))
        .and_then(|it| it.get(kind))
        .ok_or_else(|| format!("there is no {kind} called {name:?}"))
}

fn field(object: &Value, name: &str) -> Option<String> {
    object.get(name).map(spelled).filter(|it| !it.is_empty())
}

/// The parts of a server's URL.
struct Server {
    scheme: &'static str,
    host: String,
    port: u16,
    path: String,
}

impl Server {
    /// Takes a URL, `host:port` or a host apart.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            let text = without_user(text);
            format!("{text:?} is no server; give one such as https://10.0.0.1:6443")
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
            Some(_) => return Err(wrong()),
            None => ("https", text),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = host_port(authority).ok_or_else(wrong)?;
        let path = path.trim_end_matches('/').to_owned();
        if !path.bytes().all(|it| is_of_user(it) || b"/@".contains(&it)) {
            return Err(wrong());
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|it| *it != 0).ok_or_else(wrong)?,
            None if scheme == "https" => 443,
            None => 80,
        };
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port, path })
    }

    /// The host as a certificate has it: without the dot that ends an absolute name.
    fn name(&self) -> &str {
        self.host.trim_end_matches('.')
    }

    fn is_one_of(&self, vips: &[VipSetting]) -> bool {
        vips.iter().any(|vip| match vip {
            VipSetting::Address(vip) => {
                self.host.parse().is_ok_and(|it: IpAddr| it.to_canonical() == *vip)
            }
            VipSetting::Name(name) => self.name().eq_ignore_ascii_case(name.trim_end_matches('.')),
        })
    }
}

/// The text of a URL for people: who is to be let in, and by what password, is left out.
fn without_user(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.find("://").and_then(|it| before.get(..it + 3)).unwrap_or_default();
    format!("{scheme}...@{host}")
}

/// The host without brackets, and what stands after its colon.
fn host_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
        host.parse::<Ipv6Addr>().ok()?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        return Some((host, port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-._".contains(&it);
    let is_host = host.bytes().all(plain) && (is_name(host) || host.parse::<Ipv4Addr>().is_ok());
    is_host.then_some((host, port))
}

/// A name cannot end in a number, for a resolver takes `10.42`, `012.0.0.052` and
/// `0xa00002a` for an address.
fn is_name(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let number = match last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|it| it.is_ascii_hexdigit()),
        None => last.bytes().all(|it| it.is_ascii_digit()),
    };
    !number
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, path } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}{path}"),
            false => write!(f, "{scheme}://{host}:{port}{path}"),
        }
    }
}

#[cfg(test)]
mod tests;
