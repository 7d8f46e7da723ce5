//! The Pod, and the DaemonSet of such Pods.

use serde_json::{Value, json};

use super::{Kind, Names, Wish, variables};
use crate::config::Config;
use crate::config::sources::Settings;

/// Where the container has the kubeconfig, wherever the host has it.
const KUBECONFIG: &str = "/etc/kubernetes/admin.conf";
/// Where it has the key that comes out of a Secret, under the name `key`.
const SECRETS: &str = "/etc/edgevip";
/// Where its socket is, for `edgevip status` in the container.
const SOCKETS: &str = "/run/edgevip";
/// Nobody in particular.
const USER: u32 = 65532;

/// What is settled about a Pod.
pub(super) struct Around<'a> {
    pub wish: &'a Wish,
    pub settings: &'a Settings,
    pub config: &'a Config,
    pub names: &'a Names,
    pub image: &'a str,
    pub namespace: &'a str,
    /// Where the host has its kubeconfig.
    pub kubeconfig: &'a str,
}

/// The Pod, or the DaemonSet.
pub(super) fn workload(around: &Around<'_>) -> Value {
    let Around { names, namespace, .. } = around;
    match around.wish.kind {
        Kind::Pod | Kind::Rbac => json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": names.pod, "namespace": namespace },
            "spec": spec(around),
            "status": {},
        }),
        Kind::DaemonSet => {
            let labels = json!({
                "app.kubernetes.io/name": names.daemon_set,
                "app.kubernetes.io/version": format!("v{}", crate::VERSION),
            });
            json!({
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": { "name": names.daemon_set, "namespace": namespace, "labels": labels },
                "spec": {
                    "selector": {
                        "matchLabels": { "app.kubernetes.io/name": names.daemon_set },
                    },
                    "template": { "metadata": { "labels": labels }, "spec": spec(around) },
                    "updateStrategy": {},
                },
            })
        }
    }
}

fn spec(around: &Around<'_>) -> Value {
    let Around { wish, names, .. } = around;
    let mounts = mounts(around);
    // What the host keeps for root is read by root only, even without any capability.
    let as_root = mounts.iter().any(|it| it.of_host);
    let container = json!({
        "name": names.pod,
        "image": around.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["manager"],
        "env": variables::variables(around.settings, around.config),
        "resources": {},
        "securityContext": security(as_root),
        "volumeMounts": mounts.iter().map(Mount::mount).collect::<Vec<_>>(),
    });
    let mut spec = json!({
        "containers": [container],
        "hostNetwork": true,
        "volumes": mounts.iter().map(|it| it.volume.clone()).collect::<Vec<_>>(),
    });
    if wish.in_cluster {
        spec["serviceAccountName"] = json!(names.account);
    } else {
        spec["hostAliases"] = json!([{ "hostnames": ["kubernetes"], "ip": "127.0.0.1" }]);
    }
    if wish.taint {
        let exists = |it: &str| {
            json!({ "matchExpressions": [
                { "key": format!("node-role.kubernetes.io/{it}"), "operator": "Exists" },
            ] })
        };
        let terms = ["master", "control-plane"].map(exists);
        spec["affinity"] = json!({ "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms },
        } });
        let of = |effect: &str| json!({ "effect": effect, "operator": "Exists" });
        spec["tolerations"] = json!(["NoSchedule", "NoExecute"].map(of));
    }
    spec
}

fn security(as_root: bool) -> Value {
    let mut it = json!({
        "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if as_root {
        it["allowPrivilegeEscalation"] = json!(false);
    } else {
        // The two come from the file of the program, which that would forbid.
        it["runAsNonRoot"] = json!(true);
        it["runAsUser"] = json!(USER);
        it["runAsGroup"] = json!(USER);
    }
    it
}

struct Mount {
    volume: Value,
    path: String,
    writes: bool,
    of_host: bool,
}

impl Mount {
    fn mount(&self) -> Value {
        let mut it = json!({ "mountPath": self.path, "name": self.volume["name"] });
        if !self.writes {
            it["readOnly"] = json!(true);
        }
        it
    }

    /// With the kind checked, for else a runtime makes a folder of what is not there yet.
    fn of_host(name: &str, on_host: &str, path: &str, kind: &str) -> Self {
        let volume = json!({ "hostPath": { "path": on_host, "type": kind }, "name": name });
        let writes = kind == "DirectoryOrCreate";
        Self { volume, path: path.into(), writes, of_host: true }
    }
}

fn mounts(around: &Around<'_>) -> Vec<Mount> {
    let Around { wish, settings, config, .. } = around;
    let mut all = Vec::new();
    let alone = config.raft.is_some() && settings.text("k8s_config_file") == "off";
    if !wish.in_cluster && !alone {
        all.push(Mount::of_host("kubeconfig", around.kubeconfig, KUBECONFIG, "File"));
    }
    if let Some(raft) = &config.raft {
        let folder = raft.state_dir.display().to_string();
        all.push(Mount::of_host("state", &folder, &folder, "DirectoryOrCreate"));
    }
    let key = settings.text("vip_keyfile");
    match &wish.key_secret {
        Some(secret) => all.push(Mount {
            volume: json!({
                "name": "key", "secret": { "secretName": secret, "defaultMode": 0o400 },
            }),
            path: SECRETS.into(),
            writes: false,
            of_host: true,
        }),
        None if config.raft.is_some() && !key.is_empty() => {
            all.push(Mount::of_host("key", key, key, "File"));
        }
        None => {}
    }
    let ca = settings.text("control_plane_health_check_ca_path");
    if !ca.is_empty() {
        all.push(Mount::of_host("health-ca", ca, ca, "File"));
    }
    let volume = json!({ "name": "run", "emptyDir": { "medium": "Memory" } });
    all.push(Mount { volume, path: SOCKETS.into(), writes: true, of_host: false });
    all
}

/// Where the key out of a Secret is found.
pub(super) fn secret_key() -> String {
    format!("{SECRETS}/key")
}
