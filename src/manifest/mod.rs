//! What runs edgevip in a cluster, as YAML: a Pod, a DaemonSet, its account and roles.
//!
//! The flags, the variables and their order, the objects and their names are kube-vip's, so that
//! what reads or replaces its manifests does the same with these. What a Pod may do is less.

mod image;
mod pod;
mod rbac;
mod sample;
mod variables;
mod yaml;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use image::IMAGE;
pub use sample::CONFIG as SAMPLE_CONFIG;

use serde_json::Value;

use crate::config::kubeconfig::SERVICE_ACCOUNT;
use crate::config::settings::{Setting, by_flag};
use crate::config::sources::{Given, Settings, Sources};
use crate::config::{Fault, Faults, Resolved, member_names, resolve, rights};

/// What is to be written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wish {
    /// Which objects.
    pub kind: Kind,
    /// Use the Pod's account rather than a kubeconfig of the host.
    pub in_cluster: bool,
    /// Of this image.
    pub image: Option<String>,
    /// Call the objects after this.
    pub name: Option<String>,
    /// Only on the nodes of the control plane, whatever their taints.
    pub taint: bool,
    /// The account and its roles before the Pods.
    pub with_rbac: bool,
    /// The Secret that has the members' key.
    pub key_secret: Option<String>,
    /// How rights are granted.
    pub grant: Grant,
    /// For a node that kubeadm sets up.
    pub kubeadm: Option<Kubeadm>,
}

/// Which objects.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Kind {
    /// A DaemonSet.
    DaemonSet,
    /// A Pod, static or not.
    #[default]
    Pod,
    /// An account and its roles.
    Rbac,
}

/// How rights are granted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Grant {
    /// By a Role where that does, else by a ClusterRole.
    #[default]
    Smallest,
    /// By Roles, but for what is of no namespace.
    Role,
    /// By ClusterRoles that RoleBindings narrow to a namespace.
    RoleBinding,
}

/// What kubeadm does on the node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kubeadm {
    /// It begins a cluster.
    Init,
    /// It joined one, and left this kubeconfig.
    Join(PathBuf),
}

/// What was written.
#[derive(Debug, Eq, PartialEq)]
pub struct Written {
    /// The objects.
    pub yaml: String,
    /// What people should know about them.
    pub notes: Vec<String>,
}

/// What the objects are called.
struct Names {
    pod: String,
    daemon_set: String,
    account: String,
    cluster_role: String,
    cluster_binding: String,
    role: String,
}

/// What works before kubeadm 1.29 or newer has given the administrator any rights.
const SUPER_ADMIN: &str = "/etc/kubernetes/super-admin.conf";
/// What the peer calls everything.
const PEER: &str = "kube-vip";
/// Variables that tell something about the host that writes, not about the one that runs.
const OF_THIS_HOST: [&str; 6] = [
    "CREDENTIALS_DIRECTORY",
    "HOME",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "STATE_DIRECTORY",
    "vip_nodename",
];

/// Reads a file of this host.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Writes what is wished for, or says everything that is wrong. The same settings give the same.
pub fn write(
    wish: &Wish,
    flags: &[Given],
    env: &BTreeMap<String, String>,
    read: Read<'_>,
) -> Result<Written, Faults> {
    let hosts_own = |it: &&Given| it.setting.name() == "vip_nodename";
    let mut all: Vec<_> = implied(wish).collect();
    all.extend(flags.iter().filter(|it| !hosts_own(it)).cloned());
    let mut env = env.clone();
    env.retain(|name, _| !OF_THIS_HOST.contains(&name.as_str()));
    let mut sources =
        Sources { flags: all, env, hostname: "node".into(), read, is_open: &|_| false };
    let settings = Settings::of(&sources);
    let namespace = match settings.text("svc_namespace") {
        "" => "kube-system",
        namespace => namespace,
    };
    let mut faults = refused(wish, &settings, flags, read);
    let image = image::reference(wish.image.as_deref()).unwrap_or_else(|right| {
        faults.push(Fault { setting: "--image".into(), value: wish.image.clone(), right });
        String::new()
    });

    // What the Pod will find where it runs, as far as that is known here.
    if let Some(first) = member_names(settings.text("vip_peers")).into_iter().next() {
        sources.hostname = first;
    }
    if settings.text("vip_raft_members") == "nodes" && settings.text("vip_localpeer").is_empty() {
        let text = format!("node:192.0.2.1:{}", settings.text("vip_raft_port"));
        sources.flags.extend(by_flag("localPeer").map(|it| flag(it, &text)));
    }
    let has_account = wish.in_cluster || wish.kind == Kind::Rbac;
    let find = |path: &Path| {
        let is = |name: &str| path == Path::new(settings.text(name)) && path.is_absolute();
        match path {
            _ if is("vip_keyfile") => Ok("what members know each other by".to_owned()),
            _ if is("control_plane_health_check_ca_path") => Ok(String::new()),
            _ if is("config_file") || path == Path::new(settings.text("config_file")) => read(path),
            _ if has_account && path == Path::new(SERVICE_ACCOUNT).join("namespace") => {
                Ok(namespace.to_owned())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    };
    sources.read = &find;
    let resolved = resolve(&sources).map_err(|it| faults.extend(it.0));
    let Ok(resolved) = resolved else { return Err(Faults(faults)) };
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    let names = names(wish.name.as_deref().unwrap_or(PEER));
    objects(wish, &settings, &resolved, &names, &image, namespace)
        .map_err(|fault| Faults(vec![fault]))
        .map(|all| Written { yaml: yaml::documents(&all), notes: notes(wish, &settings, resolved) })
}

/// The sample of a Pod.
pub fn sample() -> Result<Written, Faults> {
    let given = |(name, text): &(&str, &str)| by_flag(name).map(|it| flag(it, text));
    let flags: Vec<_> = sample::FLAGS.iter().filter_map(given).collect();
    let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    write(&Wish::default(), &flags, &BTreeMap::new(), &nothing)
}

fn objects(
    wish: &Wish,
    settings: &Settings,
    resolved: &Resolved,
    names: &Names,
    image: &str,
    namespace: &str,
) -> Result<Vec<Value>, Fault> {
    let config = &resolved.config;
    let alone = config.raft.is_some() && settings.text("k8s_config_file") == "off";
    let mut all = Vec::new();
    if wish.with_rbac || wish.kind == Kind::Rbac {
        let rights = if alone { Vec::new() } else { rights::all(config) };
        all = rbac::documents(&rights, names, namespace, wish.grant)?;
    }
    if wish.kind != Kind::Rbac {
        let kubeconfig = settings.text("k8s_config_file");
        all.push(pod::workload(&pod::Around {
            wish,
            settings,
            config,
            names,
            image,
            namespace,
            kubeconfig,
        }));
    }
    Ok(all)
}

/// What the command says without being told; any flag comes after it.
fn implied(wish: &Wish) -> impl Iterator<Item = Given> {
    let mut all = Vec::new();
    if wish.kubeadm.is_some() {
        all.extend([("arp", "true".to_owned()), ("controlplane", "true".to_owned())]);
    }
    if wish.kubeadm == Some(Kubeadm::Init) {
        all.push(("k8sConfigPath", SUPER_ADMIN.to_owned()));
    }
    if wish.key_secret.is_some() {
        all.push(("keyFile", pod::secret_key()));
    }
    all.into_iter().filter_map(|(name, text)| by_flag(name).map(|it| flag(it, &text)))
}

fn flag(setting: &'static Setting, text: &str) -> Given {
    Given { setting, written: setting.flag().unwrap_or_default(), text: text.to_owned() }
}

/// What cannot be together, beyond what is wrong with the settings.
fn refused(wish: &Wish, settings: &Settings, flags: &[Given], read: Read<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut refuse = |what: &str, right: &str| faults.push(Fault::bare(what, right));
    if let Some(name) = wish.name.as_deref().filter(|it| !is_label(it)) {
        refuse("--name", &format!("{name:?} is no name of objects; give one such as edgevip"));
    }
    if wish.with_rbac && !wish.in_cluster {
        refuse("--rbac", "a Pod with a kubeconfig of its host has no account; give --inCluster");
    }
    let keys = flags.iter().any(|it| it.setting.name() == "vip_keyfile");
    if wish.key_secret.is_some() && (keys || settings.text("vip_keyfile") != pod::secret_key()) {
        refuse("--keySecret", "vip_keyfile is given too; give one of them");
    }
    if wish.key_secret.is_some() && !wish.in_cluster {
        refuse("--keySecret", "the kubelet gives no Secrets to static Pods; give --inCluster");
    }
    if let Some(Kubeadm::Join(config)) = &wish.kubeadm
        && let Err(why) = read(config)
    {
        let right = format!(
            "{} cannot be read: {why}; `kubeadm join` with --control-plane leaves it there",
            config.display()
        );
        refuse("--config", &right);
    }
    if wish.kubeadm.is_some() {
        for (name, other, flag) in
            [("vip_interface", "", "--interface"), ("address", "vip_address", "--address")]
        {
            let other = if other.is_empty() { "" } else { settings.text(other) };
            if settings.text(name).is_empty() && other.is_empty() {
                refuse(flag, "kubeadm's nodes need it; give the link and the VIP");
            }
        }
    }
    if wish.kind == Kind::Rbac {
        return faults;
    }
    let given = |name: &str| !settings.is_default(name) && !settings.text(name).is_empty();
    if given("edgevip_record") {
        refuse("edgevip_record", "a Pod keeps no files; leave it out");
    }
    for name in ["edgevip_notify", "edgevip_check_command"] {
        if given(name) && wish.image.is_none() {
            refuse(name, "there is no program in the image but edgevip; give an --image with it");
        }
    }
    if wish.kind == Kind::DaemonSet {
        if given("vip_localpeer") {
            refuse("vip_localpeer", "each node is another member; list them in vip_peers instead");
        }
        for name in ["vip_startleader", "vip_singlenode"] {
            if settings.is_on(name) {
                refuse(name, "each node would found a quorum of its own; leave it out");
            }
        }
    }
    faults
}

fn notes(wish: &Wish, settings: &Settings, resolved: Resolved) -> Vec<String> {
    let mut notes = resolved.warnings;
    if wish.kubeadm == Some(Kubeadm::Init) && settings.text("k8s_config_file") == SUPER_ADMIN {
        notes.push(format!(
            "the Pod uses {SUPER_ADMIN}, which alone works until `kubeadm init` (1.29 or newer) \
             has ended; write it again with `edgevip kubeadm join` then"
        ));
    }
    notes
}

fn names(name: &str) -> Names {
    Names {
        pod: name.to_owned(),
        daemon_set: format!("{name}-ds"),
        account: name.to_owned(),
        cluster_role: format!("system:{name}-role"),
        cluster_binding: format!("system:{name}-binding"),
        role: name.to_owned(),
    }
}

/// RFC 1123, and short enough for what is put behind it.
fn is_label(text: &str) -> bool {
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let edge = |it: Option<u8>| it.is_some_and(plain);
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.len() < 51
        && text.bytes().all(|it| plain(it) || it == b'-')
}

#[cfg(test)]
mod tests;
