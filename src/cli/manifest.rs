//! The commands that write what runs edgevip in a cluster.

use std::path::PathBuf;

use argh::FromArgs;

use super::Example;
use crate::manifest::{self, Grant, Kind, Wish};

#[derive(FromArgs)]
/// write the Pod, DaemonSet or account that runs this in a cluster, as YAML
#[argh(subcommand, name = "manifest", help_triggers("-h", "--help"))]
pub(super) struct Manifest {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum What {
    DaemonSet(DaemonSet),
    Pod(Pod),
    Rbac(Rbac),
}

#[derive(FromArgs)]
/// a static Pod, for the kubelet's folder of manifests
#[argh(subcommand, name = "pod", help_triggers("-h", "--help"))]
struct Pod {
    /// use the Pod's account, not a kubeconfig of the host
    #[argh(switch)]
    in_cluster: bool,
    /// image to run; this version's tag is added where it has none
    #[argh(option)]
    image: Option<String>,
    /// call the objects after this; they are called as kube-vip's
    #[argh(option)]
    name: Option<String>,
    /// write the account and its roles first
    #[argh(switch)]
    rbac: bool,
    /// take the members' key from this Secret, under the name key
    #[argh(option)]
    key_secret: Option<String>,
}

#[derive(FromArgs)]
/// a Pod on each node
#[argh(subcommand, name = "daemonset", help_triggers("-h", "--help"))]
struct DaemonSet {
    /// use the Pods' account, not a kubeconfig of the host
    #[argh(switch)]
    in_cluster: bool,
    /// image to run; this version's tag is added where it has none
    #[argh(option)]
    image: Option<String>,
    /// call the objects after this; they are called as kube-vip's
    #[argh(option)]
    name: Option<String>,
    /// on the nodes of the control plane only, whatever their taints
    #[argh(switch)]
    taint: bool,
    /// write the account and its roles first
    #[argh(switch)]
    rbac: bool,
    /// take the members' key from this Secret, under the name key
    #[argh(option)]
    key_secret: Option<String>,
}

#[derive(FromArgs)]
/// the account, and the roles that the settings need
#[argh(subcommand, name = "rbac", help_triggers("-h", "--help"))]
struct Rbac {
    /// no ClusterRole but for what is of no namespace
    #[argh(switch)]
    role: bool,
    /// bind ClusterRoles by RoleBindings, which narrow them to a namespace
    #[argh(switch)]
    rolebinding: bool,
    /// as for the Pods; the account is written in any case
    #[argh(switch)]
    #[allow(dead_code, reason = "kube-vip takes it here too, where it says nothing new")]
    in_cluster: bool,
    /// as for the Pods, without effect
    #[argh(option)]
    #[allow(dead_code, reason = "kube-vip takes it here too, where it says nothing new")]
    image: Option<String>,
    /// call the objects after this; they are called as kube-vip's
    #[argh(option)]
    name: Option<String>,
}

impl From<Manifest> for Wish {
    fn from(it: Manifest) -> Self {
        match it.what {
            What::DaemonSet(DaemonSet { in_cluster, image, name, taint, rbac, key_secret }) => {
                let kind = Kind::DaemonSet;
                let rest = Self::default();
                Self { kind, in_cluster, image, name, taint, with_rbac: rbac, key_secret, ..rest }
            }
            What::Pod(Pod { in_cluster, image, name, rbac, key_secret }) => {
                Self { in_cluster, image, name, with_rbac: rbac, key_secret, ..Self::default() }
            }
            What::Rbac(Rbac { role, rolebinding, name, .. }) => {
                let grant = match (role, rolebinding) {
                    (true, _) => Grant::Role,
                    (false, true) => Grant::RoleBinding,
                    (false, false) => Grant::Smallest,
                };
                Self { kind: Kind::Rbac, name, grant, ..Self::default() }
            }
        }
    }
}

#[derive(FromArgs)]
/// write the static Pod for a node that kubeadm sets up; --arp and --controlplane are on
#[argh(subcommand, name = "kubeadm", help_triggers("-h", "--help"))]
pub(super) struct Kubeadm {
    #[argh(subcommand)]
    when: When,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum When {
    Init(Init),
    Join(Join),
}

#[derive(FromArgs)]
/// for the first node, before `kubeadm init`: with the kubeconfig that works until it has ended
#[argh(subcommand, name = "init", help_triggers("-h", "--help"))]
struct Init {}

#[derive(FromArgs)]
/// for a node of the control plane that has joined, and for the first one after `kubeadm init`
#[argh(subcommand, name = "join", help_triggers("-h", "--help"))]
struct Join {
    /// kubeconfig that must be there already [/etc/kubernetes/admin.conf]
    #[argh(option, default = "\"/etc/kubernetes/admin.conf\".into()")]
    config: PathBuf,
}

impl From<Kubeadm> for Wish {
    fn from(it: Kubeadm) -> Self {
        let kubeadm = match it.when {
            When::Init(Init {}) => manifest::Kubeadm::Init,
            When::Join(Join { config }) => manifest::Kubeadm::Join(config),
        };
        Self { kubeadm: Some(kubeadm), ..Self::default() }
    }
}

#[derive(FromArgs)]
/// write an example of a configuration file or of a static Pod
#[argh(subcommand, name = "sample", help_triggers("-h", "--help"))]
pub(super) struct Sample {
    #[argh(subcommand)]
    of: Of,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Of {
    Config(OfConfig),
    Manifest(OfManifest),
}

#[derive(FromArgs)]
/// a configuration file in YAML, in kube-vip's words
#[argh(subcommand, name = "config", help_triggers("-h", "--help"))]
struct OfConfig {}

#[derive(FromArgs)]
/// a static Pod
#[argh(subcommand, name = "manifest", help_triggers("-h", "--help"))]
struct OfManifest {}

impl From<Sample> for Example {
    fn from(it: Sample) -> Self {
        match it.of {
            Of::Config(OfConfig {}) => Self::Config,
            Of::Manifest(OfManifest {}) => Self::Manifest,
        }
    }
}
