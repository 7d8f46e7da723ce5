//! What the API server must allow, and for what: `edgevip check` asks about each of these, and a
//! generated role grants them and nothing else.

use super::{Config, LeaseSettings, ServiceSettings};

/// One of these verbs is allowed, or something does not work.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Right {
    /// The first is what is asked for; another does as well, in more requests.
    pub verbs: &'static [&'static str],
    /// The API group; empty: core.
    pub group: &'static str,
    /// Such as `leases` or `services/status`.
    pub resource: &'static str,
    /// Empty: all of them, or the object is in none.
    pub namespace: String,
    /// The one object that it is about; empty: any.
    pub name: String,
    /// Nothing works without it, of what it is for.
    pub needed: bool,
    /// What does not.
    pub without: &'static str,
}

/// The API group of Leases.
pub const COORDINATION: &str = "coordination.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";
const CORE: &str = "";
/// To patch takes one request; the peer's role allows only to update, which takes two.
const WRITE: &[&str] = &["patch", "update"];
/// To hold a Lease and to see who does.
const ELECT: &[&[&str]] = &[&["get"], &["create"], &["update"], &["watch"]];
/// To hold one for each Service.
const ELECT_EACH: &[&[&str]] = &[&["get"], &["create"], &["update"], &["watch"], &["list"]];
/// To write one.
const TELL: &[&[&str]] = &[&["get"], &["create"], &["update"]];
const NO_SERVICES: &str = "Services are not served";
const NO_POOLS: &str = "no address is given out of pools";
/// Namespace and name of the Lease of who gives them out, which is the peer's cloud provider's.
pub const ALLOCATOR: (&str, &str) = ("kube-system", "kube-vip-cloud-controller");

/// Everything that this configuration needs.
pub fn all(config: &Config) -> Vec<Right> {
    let services = config.services.as_ref();
    let mut all = of_control_plane(config);
    all.extend(services.map(|it| of_services(config, it)).unwrap_or_default());
    all
}

/// What the VIPs of the control plane, or the quorum that carries any VIPs, need.
pub fn of_control_plane(config: &Config) -> Vec<Right> {
    let LeaseSettings { namespace, name, .. } = &config.lease;
    let lease = (namespace.as_str(), name.as_str());
    let mut rights = match &config.raft {
        None if config.vips.is_empty() => return Vec::new(),
        None => leases(ELECT, lease, true, "there is no election"),
        Some(it) if it.from_nodes => leases(TELL, lease, true, "no quorum can be founded"),
        Some(_) => leases(TELL, lease, false, "the Lease does not say who holds"),
    };
    let (needed, without) = match &config.raft {
        Some(it) if it.from_nodes => (true, "it is not known who the members are"),
        Some(_) | None => (false, "the number of candidates is not known"),
    };
    rights.push(Right { needed, ..right(&["list"], "nodes", "", without) });
    rights.extend(labels(config));
    rights.push(right(&["create"], "events", namespace, "there are no Events of who leads"));
    rights
}

/// What Services need.
pub fn of_services(config: &Config, it: &ServiceSettings) -> Vec<Right> {
    let lease = (it.lease.0.as_str(), it.lease.1.as_str());
    let namespace = it.namespace.as_deref().unwrap_or_default();
    let mut rights = match config.raft {
        None if it.elects_each => leases(ELECT_EACH, (namespace, ""), true, NO_SERVICES),
        None if it.elects_some => {
            let one = leases(ELECT, lease, true, NO_SERVICES);
            let each = leases(ELECT_EACH, (namespace, ""), true, NO_SERVICES);
            one.into_iter().chain(each).collect()
        }
        None => leases(ELECT, lease, true, NO_SERVICES),
        Some(_) => Vec::new(),
    };
    // The control plane has asked for it.
    rights.extend(labels(config).filter(|_| config.vips.is_empty() && config.raft.is_none()));
    let needed = |it: Right| Right { needed: true, ..it };
    for verbs in [&["list"], &["watch"]] {
        rights.push(needed(right(verbs, "services", namespace, NO_SERVICES)));
        let slices = right(verbs, "endpointslices", namespace, NO_SERVICES);
        rights.push(needed(Right { group: DISCOVERY, ..slices }));
        rights.push(needed(right(verbs, "nodes", "", NO_SERVICES)));
    }
    let without = "`kubectl describe` will not say what becomes of a Service";
    rights.push(right(&["create"], "events", namespace, without));
    if !it.writes {
        return rights;
    }
    for resource in ["services", "services/status"] {
        rights.push(needed(right(WRITE, resource, namespace, NO_SERVICES)));
    }
    for verbs in [&["list"], &["watch"]] {
        let pools = right(verbs, "configmaps", &it.pools.0, NO_POOLS);
        rights.push(Right { name: it.pools.1.clone(), ..pools });
    }
    rights.extend(leases(ELECT, ALLOCATOR, false, NO_POOLS));
    rights
}

fn labels(config: &Config) -> impl Iterator<Item = Right> {
    let label = Right { needed: true, ..right(&["patch"], "nodes", "", "nodes are not labelled") };
    config.label_node.then_some(label).into_iter()
}

fn right(
    verbs: &'static [&'static str],
    resource: &'static str,
    namespace: &str,
    without: &'static str,
) -> Right {
    let (namespace, name) = (namespace.to_owned(), String::new());
    Right { verbs, group: CORE, resource, namespace, name, needed: false, without }
}

fn leases(
    verbs: &[&'static [&'static str]],
    (namespace, name): (&str, &str),
    needed: bool,
    without: &'static str,
) -> Vec<Right> {
    let lease = |verbs: &&'static [&'static str]| Right {
        group: COORDINATION,
        // The name of what is to be created is not known yet to who decides.
        name: if verbs[..] == ["create"] { String::new() } else { name.to_owned() },
        needed,
        ..right(verbs, "leases", namespace, without)
    };
    verbs.iter().map(lease).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::config::resolve;
    use crate::config::sources::Sources;

    #[test]
    fn each_use_asks_for_what_it_does() {
        let lease = "get cp! create leases! update cp! watch cp!";
        let record = "get cp create leases update cp";
        let services = "list services! list endpointslices! list nodes! watch services! \
                        watch endpointslices! watch nodes! create events";
        let writes = "patch services! patch services/status! list kubevip watch kubevip \
                      get kube-vip-cloud-controller create leases \
                      update kube-vip-cloud-controller watch kube-vip-cloud-controller";
        let of_services = lease.replace("cp", "svcs");
        let table = [
            ("cp_enable", format!("{lease} list nodes create events")),
            (
                "cp_enable enable_node_labeling",
                format!("{lease} list nodes patch nodes! create events"),
            ),
            (
                "cp_enable leaderElectionType=raft vip_singlenode",
                format!("{record} list nodes create events"),
            ),
            ("svc_enable", format!("{of_services} {services} {writes}")),
            (
                "svc_enable enable_node_labeling disable_service_updates",
                format!("{of_services} patch nodes! {services}"),
            ),
            ("svc_enable disable_service_updates", format!("{of_services} {services}")),
            (
                "svc_enable svc_election disable_service_updates",
                format!(
                    "get leases! create leases! update leases! watch leases! list leases! \
                     {services}"
                ),
            ),
            (
                "svc_enable per_service_election_on_demand disable_service_updates",
                format!(
                    "{of_services} get leases! create leases! update leases! watch leases! \
                     list leases! {services}"
                ),
            ),
            (
                "cp_enable svc_enable leaderElectionType=raft vip_singlenode",
                format!("{record} list nodes create events {services} {writes}"),
            ),
            (
                "cp_enable vip_raft_insecure vip_raft_members=nodes vip_localpeer=n1:10.0.0.1:1",
                "get cp! create leases! update cp! list nodes! create events".to_owned(),
            ),
        ];
        for (settings, expected) in table {
            let rights = all(&config(settings));
            let words = rights.iter().map(|it| {
                let needed = if it.needed { "!" } else { "" };
                let what = if it.name.is_empty() { it.resource } else { &it.name };
                format!("{} {what}{needed}", it.verbs[0])
            });
            assert_eq!(words.collect::<Vec<_>>().join(" "), expected, "{settings}");
        }
    }

    fn config(words: &str) -> Config {
        let words = format!("vip_arp vip_leasename=cp svc_leasename=svcs {words}");
        let pairs = words.split_whitespace().map(|it| it.split_once('=').unwrap_or((it, "true")));
        let mut env: BTreeMap<_, _> =
            pairs.map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        if env.contains_key("cp_enable") {
            env.insert("address".into(), "10.0.0.42".into());
        }
        let sources = Sources {
            flags: Vec::new(),
            env,
            hostname: "n1".into(),
            read: &|_| Err(io::ErrorKind::NotFound.into()),
            is_open: &|_| false,
        };
        resolve(&sources).unwrap_or_else(|it| panic!("{words}: {it}")).config
    }
}
