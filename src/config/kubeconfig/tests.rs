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
    let more = "    tls-server-name: api.example\n    proxy-url: http://proxy:3128\n    server:";
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
        (FILE.replace("Q0E=", "?!"), "certificate-authority-data is not base64"),
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
        ("https://Api.Example.:1", "api.example", Some("127.0.0.1:1"), Some("api.example")),
        ("HTTPS://10.0.0.10:1", "10.0.0.10", Some("127.0.0.1:1"), Some("10.0.0.10")),
        ("[::ffff:10.0.0.10]", "10.0.0.10", Some("127.0.0.1:443"), Some("::ffff:10.0.0.10")),
        ("kubernetes:8443", "10.0.0.10", Some("127.0.0.1:8443"), Some("kubernetes")),
        ("https://kubernetes.:6443", "fd00::1", Some("127.0.0.1:6443"), Some("kubernetes")),
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
fn what_only_a_resolver_takes_for_an_address_is_no_server() {
    let odd = [
        "https://10.42",
        "https://167772202",
        "https://010.0.0.42",
        "https://10.0.0.42.",
        "https://10.0.0.0x2a:6443",
        "0XA00002A",
        "10.0.0.300:6443",
        "https://a.1",
        "https://.",
        "https://",
    ];
    for server in odd {
        let error = Server::parse(server).map(|it| it.to_string()).unwrap_err();
        assert!(error.contains("is no server"), "{server}: {error}");
    }
    for (server, host) in [("10.0.0.42", "10.0.0.42"), ("n1.0xg.", "n1.0xg."), ("1a", "1a")] {
        assert_eq!(Server::parse(server).map(|it| it.host).as_deref(), Ok(host));
    }
}

#[test]
fn a_password_is_not_repeated() {
    let cases = [
        ("https://me:secret@10.0.0.1:6443", "\"https://...@10.0.0.1:6443\""),
        ("me:se@cret/@10.0.0.1", "\"...@10.0.0.1\""),
        ("ftp://me:secret://@10.0.0.1", "\"ftp://...@10.0.0.1\""),
    ];
    for (server, shown) in cases {
        let error = understood(&FILE.replace("https://10.0.0.10:6443", server)).unwrap_err();
        assert!(error.contains(shown) && !error.contains("cret"), "{server}: {error}");
    }
}

#[test]
fn a_proxy_is_not_used_for_this_node() {
    let file = FILE.replacen("server:", "proxy-url: http://p:1\n    server:", 1);
    let read = read_from(files([("/asked", &file)]));
    let api = access(&explicit("/asked"), &vips(&["10.0.0.10"]), &read).unwrap().api;
    assert_eq!(api.proxy, None);
    assert!(api.remarks.iter().any(|it| it.contains("proxy-url")), "{api:?}");

    let cases = [
        ("http://me:secret@10.0.0.11:1", None),
        ("http://me:secret@10.0.0.42:1", Some("on the VIP")),
        ("HTTP://me:secret@10.0.0.11:1", None),
        ("http://10.0.0.42", Some("on the VIP")),
        ("http://me:secret@10.42:1", Some("\"http://...@10.42:1\" is no proxy")),
        ("http://me:se/cret@10.0.0.11:1", Some("\"http://...@10.0.0.11:1\" is no proxy")),
        ("http://me:se cret@10.0.0.11:1", Some("is no proxy")),
        ("http://10.0.0.42/@10.0.0.11:1", Some("is no proxy")),
        ("http://10.0.0.11:1/", None),
        ("socks5://10.0.0.11:1", Some("http:// proxy")),
    ];
    for (proxy, why) in cases {
        let file = FILE.replacen("server:", &format!("proxy-url: {proxy}\n    server:"), 1);
        let read = read_from(files([("/asked", &file)]));
        let found = access(&explicit("/asked"), &vips(&["10.0.0.42"]), &read);
        match why {
            None => assert_eq!(found.unwrap().api.proxy.as_deref(), Some(proxy)),
            Some(why) => assert!(found.unwrap_err().contains(why), "{proxy}"),
        }
    }
}

#[test]
fn kubernetes_addr_is_for_the_kubeconfigs_of_a_host() {
    let home = "/root/.kube/config";
    let other = "https://10.0.0.11:6443";
    let cases =
        [("/asked", other), (ADMIN, other), (OTHERS[1], other), (home, "https://10.0.0.10:6443")];
    for (path, server) in cases {
        let mut kube = KubeSettings { server: Some("10.0.0.11:6443".into()), ..explicit("/asked") };
        kube.kubeconfigs.push(home.into());
        let api = access(&kube, &[], &read_from(files([(path, FILE)]))).unwrap().api;
        assert_eq!(api.server, server, "{path}");
        let said = api.remarks.iter().any(|it| it.contains("kubernetes_addr is not used"));
        assert_eq!(said, server != other, "{path}");
    }
}

#[test]
fn a_path_through_a_file_is_a_missing_kubeconfig() {
    let read = |path: &Path| match path.to_str() {
        Some(ADMIN) => Ok(FILE.to_owned()),
        Some(_) | None => Err(io::ErrorKind::NotADirectory.into()),
    };
    assert_eq!(access(&explicit("/dev/null/x"), &[], &read).unwrap().api.source, ADMIN);
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
fn no_mutation_of_a_kubeconfig_panics() {
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut good = 0;
    for _ in 0..20_000 {
        let mut bytes = FILE.as_bytes().to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = b"-:{}[]&*!|>'\"%@`#,?\t \n\0\\"[random(24)],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random(256) as u8),
            }
        }
        good += usize::from(understood(&String::from_utf8_lossy(&bytes)).is_ok());
    }
    assert!((1_000..19_000).contains(&good), "{good} of 20000 were understood");
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
