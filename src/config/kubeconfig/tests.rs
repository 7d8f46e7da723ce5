use std::collections::BTreeMap;

use super::*;

const HOME: &str = "/root/.kube/config";

#[test]
fn the_search_order_is_that_of_kube_vip_and_then_some() {
    let places = ["/own", ADMIN, OTHERS[0], OTHERS[1], OTHERS[2], OTHERS[3], HOME];
    for first in 0..places.len() {
        let files = places.iter().skip(first).map(|it| (*it, kubeconfig("https://10.0.0.5:6443")));
        let access = found(&settings(), &[], files).unwrap();
        assert_eq!(access.api.source, format!("{}, context c", places[first]));
        let warned = access.api.remarks.iter().any(|it| it.contains("k8s_config_file=/own"));
        assert_eq!(warned, first > 0, "an explicit kubeconfig that is missing is warned about");
    }
}

#[test]
fn the_server_depends_on_the_place() {
    let own = "https://10.0.0.5:6443";
    let here = ("https://kubernetes:7443", Some("127.0.0.1:7443"), Some("kubernetes"));
    let cases = [
        ("/own", None, (own, None, None)),
        ("/own", Some("10.0.0.6:1"), ("https://10.0.0.6:1", None, None)),
        (ADMIN, None, here),
        (ADMIN, Some("https://h/p/"), ("https://h:443/p", None, None)),
        (OTHERS[0], None, here),
        (OTHERS[1], None, (own, None, None)),
        (OTHERS[3], Some("h"), ("https://h:443", None, None)),
        (HOME, None, (own, None, None)),
        (HOME, Some("10.0.0.6:1"), (own, None, None)),
    ];
    for (place, server, (url, dial, name)) in cases {
        let server = server.map(str::to_owned);
        let settings = KubeSettings { server, detect: true, ..settings() };
        let Access { api, detect } = found(&settings, &[], [(place, kubeconfig(own))]).unwrap();
        assert_eq!(api.server, url, "{place}");
        assert_eq!(api.dial.as_deref(), dial, "{place}");
        assert_eq!(api.tls_server_name.as_deref(), name, "{place}");
        assert_eq!(detect, name.is_some(), "{place}");
    }
}

#[test]
fn the_way_never_leads_over_the_vip() {
    let vips = [
        VipSetting::Address("10.0.0.42".parse().unwrap()),
        VipSetting::Address("fd00::42".parse().unwrap()),
        VipSetting::Name("api.example.com".into()),
    ];
    let cases = [
        ("https://10.0.0.42:6443", "127.0.0.1:6443", "10.0.0.42"),
        ("https://[FD00:0::42]", "127.0.0.1:443", "fd00:0::42"),
        ("https://API.example.com.:1/x", "127.0.0.1:1", "api.example.com."),
    ];
    for (server, dial, name) in cases {
        let Access { api, .. } = found(&settings(), &vips, [("/own", kubeconfig(server))]).unwrap();
        assert_eq!(api.dial.as_deref(), Some(dial), "{server}");
        assert_eq!(api.tls_server_name.as_deref(), Some(name), "{server}");
        let other = found(&settings(), &[], [("/own", kubeconfig(server))]).unwrap();
        assert_eq!(other.api.dial, None, "{server}");
    }
    let proxied = |server: &str| {
        let text =
            kubeconfig(server).replace("{server", "{proxy-url: 'http://10.0.0.42:3128', server");
        found(&settings(), &vips, [("/own", text)])
    };
    assert!(proxied("https://10.0.0.5").unwrap_err().contains("over the VIP"));
    assert_eq!(proxied("https://10.0.0.42").unwrap().api.proxy, None);
}

#[test]
fn a_pod_uses_its_service_account() {
    let token = format!("{SERVICE_ACCOUNT}/token");
    let files = || [(token.as_str(), "t".to_owned())];
    let settings = KubeSettings { in_cluster: Some("[fd00::1]:443".into()), ..settings() };
    let Access { api, .. } = found(&settings, &[], files()).unwrap();
    assert_eq!(api.server, "https://[fd00::1]:443");
    assert_eq!(api.token, Some(Token::File(token.clone().into())));
    assert_eq!(api.ca, Some(Bytes::File(format!("{SERVICE_ACCOUNT}/ca.crt").into())));
    assert_eq!(api.remarks.len(), 1, "the explicit kubeconfig: {:?}", api.remarks);

    assert!(found(&settings, &[], []).unwrap_err().contains("token"));
    let nowhere = KubeSettings { in_cluster: None, ..settings };
    assert!(found(&nowhere, &[], files()).unwrap_err().contains("not a Pod"));
}

#[test]
fn a_kubeconfig_that_cannot_be_read_is_not_passed_over() {
    let read = |path: &Path| match path.to_str() {
        Some("/own") => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
        Some(_) | None => Ok(kubeconfig("https://h")),
    };
    assert!(access(&settings(), &[], &read).unwrap_err().contains("/own"));
}

#[test]
fn credentials_are_files_or_inline() {
    let pem = "-----BEGIN CERTIFICATE-----\n";
    let data = STANDARD.encode(pem);
    let (broken, inline) = data.split_at(7);
    let folded = format!("|\n      {broken}\n      {inline}");
    let api = api(
        &format!("certificate-authority: sub/ca.crt\n    certificate-authority-data: {folded}"),
        "{client-certificate: c.crt, client-key: /k/c.key, token: a, tokenFile: t}",
    )
    .unwrap();
    assert_eq!(api.ca, Some(Bytes::Inline(pem.into())));
    assert_eq!(
        api.client,
        Some(ClientCertificate {
            certificate: Bytes::File("/etc/x/c.crt".into()),
            key: Bytes::File("/k/c.key".into()),
        })
    );
    assert_eq!(api.token, Some(Token::File("/etc/x/t".into())));
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let ca = "certificate-authority: ca.crt";
    let cases = [
        (ca, "{exec: {command: aws}}", "runs no credential plugins"),
        (ca, "{auth-provider: {name: gcp}}", "auth-provider"),
        (ca, "{username: u, password: p}", "passwords"),
        (ca, "{as: root}", "impersonation"),
        (ca, "{client-certificate: c}", "without client-key"),
        (ca, "{client-key: c}", "without client-certificate"),
        (ca, "{client-key-data: '%%%'}", "not base64"),
        (ca, "{client-key-data: aGVsbG8=}", "not in PEM"),
        ("x: y", "{token: t}", "nobody to trust"),
        (
            "certificate-authority: c\n    insecure-skip-tls-verify: true",
            "{}",
            "exclude each other",
        ),
        ("certificate-authority: c\n    proxy-url: socks5://h:1", "{}", "not a server"),
        ("certificate-authority: c\n    proxy-url: https://h:1", "{}", "only http://"),
    ];
    for (cluster, user, why) in cases {
        let got = api(cluster, user).unwrap_err();
        assert!(got.contains(why), "{cluster} {user}: {got}");
    }
}

#[test]
fn remarks_say_what_is_not_safe() {
    let api = api("insecure-skip-tls-verify: true\n    tls-server-name: n", "{}").unwrap();
    assert_eq!(api.tls_server_name.as_deref(), Some("n"));
    assert!(api.insecure);
    assert_eq!(api.remarks.len(), 2, "{:?}", api.remarks);
}

#[test]
fn a_broken_kubeconfig_is_an_error_that_says_where() {
    let good = kubeconfig("https://h");
    let cases = [
        ("".to_owned(), "no current-context"),
        ("- a".to_owned(), "no current-context"),
        (good.replace("current-context: c", "current-context: x"), "no context \"x\""),
        (good.replace("cluster: k", "cluster: x"), "no cluster \"x\""),
        (good.replace("user: u", "user: x"), "no user \"x\""),
        (good.replace("server:", "servant:"), "no server"),
        (good.replace("https://h", "ftp://h"), "not a server"),
        (good.replace("https://h", "https://u:p@h"), "not a server"),
        (good.replace("https://h", "https://h:0"), "not a server"),
        (good.replace("https://h", "https://[::1"), "not a server"),
        (good.replace("https://h", "https://"), "not a server"),
        ("a: *b".to_owned(), "/own"),
    ];
    for (text, why) in cases {
        let got = found(&settings(), &[], [("/own", text.clone())]).unwrap_err();
        assert!(got.contains(why) && got.starts_with("/own: "), "{text}: {got}");
    }
}

#[test]
fn no_mutation_of_a_kubeconfig_panics() {
    let seed = kubeconfig("https://[fd00::1]:6443/p").into_bytes();
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut understood = 0;
    for _ in 0..20_000 {
        let mut bytes = seed.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = b"-:{}[]&*!|>'\"%@`#,?\t \n\0\\"[random(24)],
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, random(256) as u8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        understood += usize::from(found(&settings(), &[], [("/own", text)]).is_ok());
    }
    assert!((100..19_900).contains(&understood), "{understood} of 20000 were understood");
}

fn settings() -> KubeSettings {
    KubeSettings {
        kubeconfigs: ["/own", ADMIN].iter().chain(&OTHERS).chain([&HOME]).map(Into::into).collect(),
        explicit: true,
        server: None,
        detect: false,
        port: 7443,
        in_cluster: None,
    }
}

fn kubeconfig(server: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: c\n\
         contexts:\n\
         - {{name: other, context: {{cluster: none, user: none}}}}\n\
         - name: c\n  context: {{cluster: k, user: u}}\n\
         clusters:\n\
         - name: k\n  cluster: {{server: '{server}', certificate-authority: ca.crt}}\n\
         users:\n\
         - name: u\n  user: {{token: t}}\n"
    )
}

fn api(cluster: &str, user: &str) -> Result<ApiAccess, String> {
    let text = format!(
        "current-context: c\n\
         contexts: [{{name: c, context: {{cluster: 7, user: u}}}}]\n\
         clusters:\n- name: 7\n  cluster:\n    server: https://h\n    {cluster}\n\
         users: [{{name: u, user: {user}}}]\n"
    );
    let settings = KubeSettings { kubeconfigs: vec!["/etc/x/own".into()], ..settings() };
    found(&settings, &[], [("/etc/x/own", text)]).map(|it| it.api)
}

fn found<'a>(
    settings: &KubeSettings,
    vips: &[VipSetting],
    files: impl IntoIterator<Item = (&'a str, String)>,
) -> Result<Access, String> {
    let files: BTreeMap<_, _> = files.into_iter().collect();
    let read = |path: &Path| match path.to_str().and_then(|it| files.get(it)) {
        Some(text) => Ok(text.clone()),
        None => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    access(settings, vips, &read)
}
