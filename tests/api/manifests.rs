//! Manifests as the real API server takes them, with every field known to it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use edgevip::config::sources::take_flags;
use edgevip::manifest::{Grant, Kind, Kubeadm, Wish, sample, write};

use crate::server::{Server, shared};

const CONTROL_PLANE: &str = "--arp --controlplane --interface eth0 --address 192.0.2.40";

#[test]
fn the_api_server_takes_what_is_written() {
    let server = shared();
    // The API server runs no controllers, which would make this.
    for name in ["default", "kube-vip"] {
        let account = format!(
            "apiVersion: v1\nkind: ServiceAccount\n\
             metadata: {{ name: {name}, namespace: kube-system }}\n"
        );
        server.apply(&format!("manifests-{name}"), &account);
    }
    let lines = [
        CONTROL_PLANE.to_owned(),
        format!("{CONTROL_PLANE} --services --leaderElection --enableNodeLabeling --log -4"),
        "--arp --services --serviceInterface auto --instanceName x --prometheusHTTPServer=".into(),
        format!("{CONTROL_PLANE} --raftMembers nodes --keyFile /etc/edgevip/key"),
        format!(
            "{CONTROL_PLANE},fd00::40 --discover 3 --keyFile /k --controlPlaneHealthCheckCAPath /ca"
        ),
        format!("{CONTROL_PLANE} --remotePeers n1:10.0.0.1:1,n2:10.0.0.2:1 --keyFile /k"),
    ];
    let pod = Wish::default();
    let inside = Wish { in_cluster: true, ..Wish::default() };
    let set = Wish { kind: Kind::DaemonSet, taint: true, ..inside.clone() };
    let rbac = Wish { kind: Kind::Rbac, ..Wish::default() };
    let wishes = [
        pod.clone(),
        inside,
        set.clone(),
        Wish { with_rbac: true, name: Some("edge".into()), ..set.clone() },
        Wish { image: Some("localhost:5000/edgevip@sha256:".to_owned() + &"0".repeat(64)), ..set },
        Wish { kubeadm: Some(Kubeadm::Init), ..pod },
        rbac.clone(),
    ];
    for line in &lines {
        let of_kubeadm = line.contains("--controlplane");
        for wish in wishes.iter().filter(|it| of_kubeadm || it.kubeadm.is_none()) {
            taken(&server, wish, line, &[]);
        }
    }
    let tenant = [("svc_namespace", "edge")];
    for grant in [Grant::Smallest, Grant::Role, Grant::RoleBinding] {
        taken(&server, &Wish { grant, ..rbac.clone() }, "--arp --services", &tenant);
        taken(&server, &Wish { grant, ..rbac.clone() }, CONTROL_PLANE, &[]);
    }
    dry_run(&server, &sample().unwrap().yaml);
}

#[test]
fn what_the_api_server_does_not_know_is_not_taken() {
    let strange = sample().unwrap().yaml.replace("hostNetwork: true", "hostNetwrk: true");
    let server = shared();
    let takes = std::panic::AssertUnwindSafe(|| dry_run(&server, &strange));
    let refused = std::panic::catch_unwind(takes).is_err();
    assert!(refused, "the validation above would see nothing");
}

fn taken(server: &Server, wish: &Wish, line: &str, env: &[(&str, &str)]) {
    let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    let flags = take_flags(&words, &[]);
    assert_eq!(flags.faults, []);
    let env: BTreeMap<_, _> =
        env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let no_file = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let written = write(wish, &flags.flags, &env, &no_file);
    let written = written.unwrap_or_else(|it| panic!("{line}: {it}"));
    dry_run(server, &written.yaml);
}

fn dry_run(server: &Server, yaml: &str) {
    let name = format!("manifest-{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let file = std::env::temp_dir().join(format!("edgevip-{}-{name}.yaml", std::process::id()));
    std::fs::write(&file, yaml).unwrap();
    let path = file.to_str().unwrap();
    server.kubectl(&[
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        path,
    ]);
    std::fs::remove_file(file).unwrap();
}
