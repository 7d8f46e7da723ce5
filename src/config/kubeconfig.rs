//! From a kubeconfig, or a Pod's service account, to an [`ApiAccess`].

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::sources::text;
use super::{KubeSettings, VipSetting, values, yaml};
use crate::model::{ApiAccess, Bytes, ClientCertificate, Token};

/// Where a Pod finds its service account.
pub(super) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
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

/// Never through our own VIP, which may be on another node or nowhere: the API server of
/// this node shows the same certificate. `kubernetes` is what kubeadm's certificates call it.
pub fn keep_off(api: &mut ApiAccess, vips: &[VipSetting]) -> Result<(), String> {
    let Server { host, port, .. } = Server::parse(&api.server)?;
    let is_host = |vip: &VipSetting| match vip {
        VipSetting::Address(vip) => host.parse().is_ok_and(|it: IpAddr| it.to_canonical() == *vip),
        VipSetting::Name(name) => {
            host.trim_end_matches('.').eq_ignore_ascii_case(name.trim_end_matches('.'))
        }
    };
    if host != "kubernetes" && !vips.iter().any(is_host) {
        return Ok(());
    }
    api.dial = Some(format!("127.0.0.1:{port}"));
    api.tls_server_name.get_or_insert(host);
    if let Some(proxy) = api.proxy.take() {
        api.remarks.push(format!("proxy {proxy} is not used to reach this node's own API server"));
    }
    Ok(())
}

fn settle(
    mut api: ApiAccess,
    path: &Path,
    kube: &KubeSettings,
    vips: &[VipSetting],
) -> Result<Access, String> {
    let of_kubeadm = [ADMIN, SUPER_ADMIN].iter().any(|it| Path::new(it) == path)
        && !(kube.explicit && kube.kubeconfigs.first().is_some_and(|it| it == path));
    let detect = of_kubeadm && kube.detect && kube.server.is_none();
    let server = match &kube.server {
        Some(server) => server.clone(),
        None if detect => format!("127.0.0.1:{}", kube.port),
        None if of_kubeadm => format!("kubernetes:{}", kube.port),
        None => api.server,
    };
    api.server = Server::parse(&server)?.to_string();
    keep_off(&mut api, vips)?;
    trust(&mut api)?;
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
    object.get(name).map(text).filter(|it| !it.is_empty())
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
        let wrong = || format!("{text:?} is no server; give one such as https://10.0.0.1:6443");
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            Some(_) => return Err(wrong()),
            None => ("https", text),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = host_port(authority).ok_or_else(wrong)?;
        let path = path.trim_end_matches('/').to_owned();
        if !path.bytes().all(|it| it.is_ascii_graphic() && !b"?#\"".contains(&it)) {
            return Err(wrong());
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|it| *it != 0).ok_or_else(wrong)?,
            None if scheme == "https" => 443,
            None => 80,
        };
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port, path })
    }
}

/// The host without brackets, and what stands after its colon.
fn host_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
        host.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        return Some((host, port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-._".contains(&it);
    (!host.is_empty() && host.bytes().all(plain)).then_some((host, port))
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: admin@cluster
contexts:
- name: other
  context: {cluster: nowhere, user: nobody}
- name: admin@cluster
  context: {cluster: cluster, user: admin}
clusters:
- name: cluster
  cluster:
    certificate-authority-data: Q0E=
    server: https://10.0.0.10:6443
users:
- name: admin
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
";

    fn read_from(files: BTreeMap<PathBuf, String>) -> impl Fn(&Path) -> io::Result<String> {
        move |path| files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<PathBuf, String> {
        files.map(|(path, content)| (path.into(), content.into())).into()
    }

    fn kube() -> KubeSettings {
        KubeSettings {
            kubeconfigs: [ADMIN].iter().chain(&OTHERS).map(PathBuf::from).collect(),
            explicit: false,
            server: None,
            detect: false,
            port: 6443,
            in_cluster: None,
        }
    }

    fn explicit(path: &str) -> KubeSettings {
        let mut kube = kube();
        kube.kubeconfigs.insert(0, path.into());
        kube.explicit = true;
        kube
    }

    fn vips(addresses: &[&str]) -> Vec<VipSetting> {
        let vip = |it: &&str| match it.parse() {
            Ok(address) => VipSetting::Address(address),
            Err(_) => VipSetting::Name((*it).to_owned()),
        };
        addresses.iter().map(vip).collect()
    }

    /// What becomes of a kubeconfig at a path that was asked for.
    fn understood(content: &str) -> Result<ApiAccess, String> {
        let read = read_from(files([("/etc/edgevip/kubeconfig", content)]));
        access(&explicit("/etc/edgevip/kubeconfig"), &[], &read).map(|it| it.api)
    }

    fn with_user(user: &str) -> String {
        let (head, _) = FILE.split_once("    client-certificate-data").unwrap();
        head.to_owned() + user
    }

    #[test]
    fn the_current_context_is_followed() {
        let api = understood(FILE).unwrap();
        assert_eq!(api.server, "https://10.0.0.10:6443");
        assert_eq!(api.dial, None);
        assert_eq!(api.ca, Some(Bytes::Inline(b"CA".into())));
        let client = api.client.unwrap();
        assert_eq!(client.certificate, Bytes::Inline(b"CERT".into()));
        assert_eq!(client.key, Bytes::Inline(b"KEY".into()));
        assert_eq!((api.token, api.insecure, api.remarks), (None, false, vec![]));
    }

    #[test]
    fn paths_are_relative_to_the_kubeconfig() {
        let user = "    client-certificate: a.crt\n    client-key: /b/a.key\n    tokenFile: ../t\n";
        let content = with_user(user)
            .replace("certificate-authority-data: Q0E=", "certificate-authority: pki/ca.crt");
        let api = understood(&content).unwrap();
        assert_eq!(api.ca, Some(Bytes::File("/etc/edgevip/pki/ca.crt".into())));
        let client = api.client.unwrap();
        assert_eq!(client.certificate, Bytes::File("/etc/edgevip/a.crt".into()));
        assert_eq!(client.key, Bytes::File("/b/a.key".into()));
        assert_eq!(api.token, Some(Token::File("/etc/edgevip/../t".into())));
    }

    #[test]
    fn the_ways_of_a_cluster_are_kept() {
        let more =
            "    tls-server-name: api.example\n    proxy-url: http://proxy:3128\n    server:";
        let api = understood(&FILE.replacen("    server:", more, 1)).unwrap();
        assert_eq!(api.tls_server_name.as_deref(), Some("api.example"));
        assert_eq!(api.proxy.as_deref(), Some("http://proxy:3128"));

        let insecure = "insecure-skip-tls-verify: true";
        let api = understood(&FILE.replace("certificate-authority-data: Q0E=", insecure)).unwrap();
        assert!(api.insecure && api.remarks.iter().any(|it| it.contains("not verified")));

        let both = format!("{insecure}\n    server:");
        let api = understood(&FILE.replacen("server:", &both, 1)).unwrap();
        assert!(!api.insecure && api.remarks.iter().any(|it| it.contains("ignored")));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        let cases = [
            (with_user("    exec: {command: aws}\n"), "exec runs a program"),
            (with_user("    auth-provider: {name: gcp}\n"), "auth-provider asks"),
            (with_user("    token: t\n    as: root\n"), "as acts as another user"),
            (with_user("    username: u\n    password: p\n"), "username and password"),
            (with_user("    client-certificate-data: Q0VSVA==\n"), "without its client-key"),
            (with_user("    client-key: a.key\n"), "without its client-certificate"),
            (FILE.replace("Q0E=", "%%%"), "certificate-authority-data is not base64"),
            (FILE.replace("certificate-authority-data: Q0E=", "x: y"), "no certificate-authority"),
            (FILE.replace("current-context: admin@cluster", ""), "no current-context"),
            (FILE.replace("@cluster\ncontexts", "\ncontexts"), "no context called \"admin\""),
            (FILE.replace("user: admin}", "user: joe}"), "no user called \"joe\""),
            (FILE.replace("server: https", "x: https"), "no server"),
            (FILE.replace("https://", "ftp://"), "\"ftp://10.0.0.10:6443\" is no server"),
            ("[]".into(), "no current-context"),
            ("".into(), "no current-context"),
            ("a: [".into(), "/etc/edgevip/kubeconfig: "),
            ("x".repeat(2 << 20), "more than"),
        ];
        for (content, why) in cases {
            let error = understood(&content).unwrap_err();
            assert!(error.contains(why), "{error:?} lacks {why:?}");
        }
    }

    #[test]
    fn a_file_of_tokens_is_preferred_to_a_token() {
        let api = understood(&with_user("    token: abc\n")).unwrap();
        assert_eq!(api.token, Some(Token::Inline("abc".into())));
        let api = understood(&with_user("    token: abc\n    tokenFile: /t\n")).unwrap();
        assert_eq!(api.token, Some(Token::File("/t".into())));
        let api = understood(&with_user("    {}\n")).unwrap();
        assert!(api.remarks.iter().any(|it| it.contains("anonymous")));
    }

    #[test]
    fn the_first_kubeconfig_that_exists_is_used() {
        let cases: [(&[&str], &str, &str, Option<&str>); 5] = [
            (&[ADMIN, "/asked"], "/asked", "https://10.0.0.10:6443", None),
            (&[ADMIN, OTHERS[1]], ADMIN, "https://kubernetes:6443", Some("127.0.0.1:6443")),
            (&[SUPER_ADMIN], SUPER_ADMIN, "https://kubernetes:6443", Some("127.0.0.1:6443")),
            (&[OTHERS[1], OTHERS[2]], OTHERS[1], "https://10.0.0.10:6443", None),
            (&[OTHERS[3]], OTHERS[3], "https://10.0.0.10:6443", None),
        ];
        for (present, source, server, dial) in cases {
            let read = read_from(present.iter().map(|it| (it.into(), FILE.into())).collect());
            let api = access(&explicit("/asked"), &[], &read).unwrap().api;
            assert_eq!((api.source.as_str(), api.server.as_str()), (source, server));
            assert_eq!(api.dial.as_deref(), dial, "{source}");
            assert_eq!(api.tls_server_name.as_deref(), dial.map(|_| "kubernetes"), "{source}");
            let warned = api.remarks.iter().any(|it| it.contains("/asked: does not exist"));
            assert_eq!(warned, source != "/asked");
        }
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_read_is_not_passed_over() {
        let read = |path: &Path| match path == Path::new(ADMIN) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(FILE.to_owned()),
        };
        let error = access(&kube(), &[], &read).unwrap_err();
        assert!(error.starts_with(ADMIN), "{error}");
    }

    #[test]
    fn our_own_vip_is_never_gone_through() {
        let cases = [
            ("https://10.0.0.10:6443", "10.0.0.10", Some("127.0.0.1:6443"), Some("10.0.0.10")),
            ("https://10.0.0.10", "10.0.0.10", Some("127.0.0.1:443"), Some("10.0.0.10")),
            ("https://[FD00:0::1]:7443", "fd00::1", Some("127.0.0.1:7443"), Some("fd00:0::1")),
            ("https://Api.Example.:1", "api.example", Some("127.0.0.1:1"), Some("api.example.")),
            ("kubernetes:8443", "10.0.0.10", Some("127.0.0.1:8443"), Some("kubernetes")),
            ("https://10.0.0.11:6443", "10.0.0.10", None, None),
            ("10.0.0.11:6443", "10.0.0.10", None, None),
        ];
        for (server, vip, dial, name) in cases {
            let read = read_from(files([("/asked", FILE)]));
            let kube = KubeSettings { server: Some(server.into()), ..explicit("/asked") };
            let api = access(&kube, &vips(&[vip]), &read).unwrap().api;
            assert_eq!(api.dial.as_deref(), dial, "{server}");
            assert_eq!(api.tls_server_name.as_deref(), name, "{server}");
        }
    }

    #[test]
    fn a_proxy_is_not_used_for_this_node() {
        let file = FILE.replacen("server:", "proxy-url: http://p:1\n    server:", 1);
        let read = read_from(files([("/asked", &file)]));
        let api = access(&explicit("/asked"), &vips(&["10.0.0.10"]), &read).unwrap().api;
        assert_eq!(api.proxy, None);
        assert!(api.remarks.iter().any(|it| it.contains("proxy http://p:1")), "{api:?}");
    }

    #[test]
    fn detection_is_for_kubeadm_and_where_no_server_is_given() {
        let read = read_from(files([(ADMIN, FILE)]));
        let detecting = KubeSettings { detect: true, port: 7443, ..kube() };
        let found = access(&detecting, &[], &read).unwrap();
        assert!(found.detect && found.api.dial.is_none(), "{found:?}");
        assert_eq!(found.api.server, "https://127.0.0.1:7443");
        let server = Some("10.0.0.1:6443".into());
        assert!(!access(&KubeSettings { server, ..detecting.clone() }, &[], &read).unwrap().detect);
        let read = read_from(files([(OTHERS[1], FILE)]));
        assert!(!access(&detecting, &[], &read).unwrap().detect);
    }

    #[test]
    fn a_pod_uses_its_service_account() {
        let in_cluster = Some("[fd00:10::1]:443".to_owned());
        let pod = KubeSettings { in_cluster, ..kube() };
        let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        let api = access(&pod, &[], &read_from(files([(token, "t")]))).unwrap().api;
        assert_eq!(api.server, "https://[fd00:10::1]:443");
        assert_eq!(api.token, Some(Token::File(token.into())));
        assert_eq!(api.ca, Some(Bytes::File(Path::new(SERVICE_ACCOUNT).join("ca.crt"))));

        assert!(access(&pod, &[], &read_from(files([]))).unwrap_err().contains("token"));
        let error = access(&kube(), &[], &read_from(files([]))).unwrap_err();
        assert!(error.contains(ADMIN) && error.contains("KUBERNETES_SERVICE_HOST"), "{error}");
    }

    #[test]
    fn a_damaged_kubeconfig_is_an_error_or_another_kubeconfig() {
        for at in 0..FILE.len() {
            for with in ["", ":", "[", "'", "\u{0}", "é", "- "] {
                let mut damaged = FILE.to_owned();
                damaged.replace_range(at..at + usize::from(with.is_empty()), with);
                let _ = understood(&damaged);
                let _ = understood(&FILE[..at]);
            }
        }
    }
}
