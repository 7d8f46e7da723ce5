use std::fs;
use std::sync::mpsc::channel;
use std::time::Duration;

use edgevip::io::kube::{Permission, detect, may, server_version, service_lb};
use edgevip::model::{
    ApiAccess, ApiFaultKind, Bytes, ClientCertificate, LeaseReply, Token, WatchEvent,
};

use crate::desk::{Desk, fault, found, why};
use crate::liar::{Liar, answer};
use crate::server::shared;

const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn a_token_file_is_read_again_when_it_has_changed() {
    let server = shared();
    let token = server.account("edge", "rotated");
    let stranger = server.account("edge", "stranger");
    server.apply("rotated", &role("rotated"));
    let file = server.file("rotated.token");
    let desk = Desk::new(server.with_token(Token::File(file.clone())), "rotated");

    why(fault(desk.read()), ApiFaultKind::Unauthorized);
    fs::write(&file, "not a token").unwrap();
    why(fault(desk.read()), ApiFaultKind::Unauthorized);
    fs::write(&file, format!("{token}\n")).unwrap();
    assert_eq!(desk.read(), LeaseReply::NotFound);
    fs::write(&file, stranger).unwrap();
    why(fault(desk.read()), ApiFaultKind::Forbidden);
    fs::write(&file, token).unwrap();
    assert_eq!(desk.read(), LeaseReply::NotFound);
}

#[test]
fn a_token_that_no_header_can_carry_is_a_fault() {
    let server = shared();
    let access = server.with_token(Token::Inline("two\nlines".into()));
    fault(Desk::new(access, "any").read());
}

#[test]
fn the_role_of_the_peer_is_enough_for_the_lease_and_for_no_other() {
    let server = shared();
    let token = server.account("edge", "peer");
    server.apply("peer", &role("peer"));
    let access = server.with_token(Token::Inline(token));
    let desk = Desk::new(access.clone(), "peer");
    let created = found(desk.write(Some("n1"), None));
    let renewed = found(desk.write(Some("n1"), Some(&created)));
    desk.watch(Some(created.version));
    assert_eq!(desk.event(), WatchEvent::Opened);
    assert_eq!(desk.watched(), renewed);

    let elsewhere = Desk::in_namespace(access.clone(), "default", "peer");
    let why = why(fault(elsewhere.read()), ApiFaultKind::Forbidden);
    assert!(why.contains("403") && why.contains("cannot get resource"), "{why}");
    elsewhere.watch(None);
    let WatchEvent::Ended(fault) = elsewhere.event() else { panic!() };
    assert_eq!(fault.kind, ApiFaultKind::Forbidden);

    let update = |namespace| Permission {
        verb: "update",
        group: "coordination.k8s.io",
        resource: "leases",
        namespace,
        name: "peer",
    };
    assert_eq!(may(&access, update("edge"), TIMEOUT), Ok(true));
    assert_eq!(may(&access, update("default"), TIMEOUT), Ok(false));
}

#[test]
fn a_service_that_k3s_serves_is_found() {
    let server = shared();
    let admin = server.admin();
    let service = |finalizers: &str| {
        format!(
            "apiVersion: v1\nkind: Service\n\
             metadata: {{ name: of-k3s, namespace: edge, finalizers: [{finalizers}] }}\n\
             spec: {{ ports: [{{ port: 80 }}] }}\n"
        )
    };
    server.apply("of-k3s", &service("service.kubernetes.io/load-balancer-cleanup"));
    assert_eq!(service_lb(&admin, TIMEOUT), Ok(None));
    server.apply("of-k3s", &service("svccontroller.k3s.cattle.io/daemonset"));
    assert_eq!(service_lb(&admin, TIMEOUT), Ok(Some("edge/of-k3s".into())));
    server.apply("of-k3s", &service(""));
    assert_eq!(service_lb(&admin, TIMEOUT), Ok(None));
    why(service_lb(&server.anonymous(), TIMEOUT).unwrap_err(), ApiFaultKind::Forbidden);
}

#[test]
fn the_server_tells_its_version() {
    let server = shared();
    let version = server_version(&server.admin(), TIMEOUT).unwrap();
    assert!(version.starts_with("v1."), "{version}");
    let gone = ApiAccess { server: "https://127.0.0.1:1".into(), ..server.admin() };
    why(server_version(&gone, TIMEOUT).unwrap_err(), ApiFaultKind::Unreachable);
}

#[test]
fn a_key_that_is_not_the_certificates_is_a_fault_until_it_is_mended() {
    let server = shared();
    let key = server.file("mended.key");
    let client = ClientCertificate {
        certificate: Bytes::File(server.file("admin.crt")),
        key: Bytes::File(key.clone()),
    };
    let access = ApiAccess { client: Some(client), ..server.anonymous() };
    let desk = Desk::new(access, "mended");
    let table = [("", "No such file"), ("server.key", "KeyMismatch"), ("ca.crt", "client key")];
    for (file, words) in table {
        if !file.is_empty() {
            fs::copy(server.file(file), &key).unwrap();
        }
        let why = why(fault(desk.read()), ApiFaultKind::Unreachable);
        assert!(why.contains(words), "{why}");
    }
    fs::copy(server.file("admin.key"), &key).unwrap();
    assert_eq!(desk.read(), LeaseReply::NotFound);
}

#[test]
fn a_certificate_that_is_changed_is_shown_at_the_next_request() {
    let server = shared();
    let [certificate, key] = ["turned.crt", "turned.key"].map(|it| server.file(it));
    let access = ApiAccess {
        client: Some(ClientCertificate {
            certificate: Bytes::File(certificate.clone()),
            key: Bytes::File(key.clone()),
        }),
        ..server.anonymous()
    };
    let turn_to = |name: &str| {
        fs::copy(server.file(&format!("{name}.crt")), &certificate).unwrap();
        fs::copy(server.file(&format!("{name}.key")), &key).unwrap();
    };
    turn_to("admin");
    let desk = Desk::new(access, "turned");
    assert_eq!(desk.read(), LeaseReply::NotFound);
    // By the same authority, but nobody who may read a Lease.
    turn_to("server");
    why(fault(desk.read()), ApiFaultKind::Forbidden);
}

#[test]
fn the_server_is_verified_unless_it_is_said_not_to() {
    let server = shared();
    let try_with = |ca, insecure| {
        let access = ApiAccess { ca, insecure, ..server.admin() };
        Desk::new(access, "verified").read()
    };
    let own = || Some(Bytes::File(server.file("ca.crt")));
    let inline = || Some(Bytes::Inline(fs::read(server.file("ca.crt")).unwrap()));
    let other = || Some(Bytes::File(server.file("admin.crt")));
    let none = || Some(Bytes::File(server.file("admin.key")));
    assert_eq!(try_with(own(), false), LeaseReply::NotFound);
    assert_eq!(try_with(inline(), false), LeaseReply::NotFound);
    assert_eq!(try_with(None, true), LeaseReply::NotFound);
    assert_eq!(try_with(other(), true), LeaseReply::NotFound);
    let wrong =
        [(other(), "UnknownIssuer"), (none(), "no certificate in"), (None, "no certificate")];
    for (ca, words) in wrong {
        let why = why(fault(try_with(ca, false)), ApiFaultKind::Unreachable);
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_server_is_dialled_elsewhere_and_verified_by_the_name_that_is_given() {
    let server = shared();
    let here = Some(format!("127.0.0.1:{}", server.port()));
    let table = [
        ("https://kubernetes:1", here.clone(), None, true),
        ("https://192.0.2.1:6443", here.clone(), Some("kubernetes"), true),
        ("https://192.0.2.1:6443", here.clone(), None, false),
        ("https://kubernetes:1", here.clone(), Some("elsewhere"), false),
        ("https://kubernetes:1", Some("127.0.0.1".into()), None, false),
        ("https://127.0.0.1:1", here, None, true),
        ("ftp://127.0.0.1", None, None, false),
        ("nonsense", None, None, false),
    ];
    for (url, dial, name, works) in table {
        let access = ApiAccess {
            server: url.into(),
            dial,
            tls_server_name: name.map(Into::into),
            ..server.admin()
        };
        match Desk::new(access, "dialled").read() {
            LeaseReply::NotFound => assert!(works, "{url} {name:?}"),
            LeaseReply::Failed(fault) => {
                assert!(!works, "{url} {name:?} {fault:?}");
                why(fault, ApiFaultKind::Unreachable);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_path_in_the_servers_url_is_kept() {
    let (report, requests) = channel();
    let liar = Liar::saying(move |it| {
        report.send(it.request()).unwrap();
        it.say(&answer("404 Not Found", "", ""));
    });
    let server = format!("http://127.0.0.1:{}/k8s/clusters/c-1/", liar.port());
    let access = ApiAccess { server, token: Some(Token::Inline("t0k".into())), ..liar.access() };
    Desk::new(access, "any").read();
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /k8s/clusters/c-1/apis/coordination.k8s.io/v1/"), "{request}");
    assert!(request.contains("authorization: Bearer t0k\r\n"), "{request}");
}

#[test]
fn a_proxy_is_asked_for_a_tunnel() {
    let server = shared();
    let port = server.port();
    let (report, requests) = channel();
    let proxy = Liar::saying(move |it| {
        report.send(it.request()).unwrap();
        it.say("HTTP/1.1 200 Connection established\r\nVia: liar\r\n\r\n");
        let mut there = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut back, mut client) = (there.try_clone().unwrap(), it.stream.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut back, &mut client));
        std::io::copy(&mut it.stream, &mut there).ok();
    });
    let access = ApiAccess {
        server: "https://kubernetes:6443".into(),
        proxy: Some(format!("http://me:s%40cret@127.0.0.1:{}", proxy.port())),
        ..server.admin()
    };
    assert_eq!(Desk::new(access, "proxied").read(), LeaseReply::NotFound);
    let request = requests.recv().unwrap();
    assert!(request.starts_with("CONNECT kubernetes:6443 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("Proxy-Authorization: Basic bWU6c0BjcmV0\r\n"), "{request}");

    let refusing = Liar::answering(answer("407 Proxy Authentication Required", "", ""));
    let proxy = Some(format!("http://127.0.0.1:{}", refusing.port()));
    let why_not = fault(Desk::new(ApiAccess { proxy, ..server.admin() }, "proxied").read());
    let why_not = why(why_not, ApiFaultKind::Unreachable);
    assert!(why_not.contains("the proxy says \"HTTP/1.1 407"), "{why_not}");
    let socks = ApiAccess { proxy: Some("socks5://127.0.0.1:1".into()), ..server.admin() };
    why(fault(Desk::new(socks, "proxied").read()), ApiFaultKind::Unreachable);
}

#[test]
fn a_server_is_found_by_the_addresses_in_its_certificate() {
    let server = shared();
    assert_eq!(detect(server.port()), Ok(format!("https://127.0.0.1:{}", server.port())));
    let liar = Liar::answering("HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(detect(liar.port()).is_err());
}

/// What the peer's manifest allows, for a ServiceAccount of this name.
fn role(account: &str) -> String {
    format!(
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {account}, namespace: edge}}
rules:
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [list, get, watch, update, create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {account}, namespace: edge}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {account}}}
subjects: [{{kind: ServiceAccount, name: {account}, namespace: edge}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {account}}}
rules:
- {{apiGroups: [""], resources: [nodes], verbs: [list, get, watch, update, patch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {account}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {account}}}
subjects: [{{kind: ServiceAccount, name: {account}, namespace: edge}}]
"#
    )
}
