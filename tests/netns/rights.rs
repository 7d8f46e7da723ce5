//! The roles that `edgevip manifest rbac` writes, by what the API server saw: nothing is denied,
//! and nothing is granted that nobody used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use edgevip::config::sources::take_flags;
use edgevip::manifest::{Kind, Wish, write};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Scenario;
use crate::lab::api::{ADDRESS, AUDITED, PORT};
use crate::lab::cluster::Cluster;
use crate::lab::daemon::Daemon;
use crate::lab::net::{command_in, run};
use crate::lab::watch::Watch;
use crate::lab::{sandbox, wait_for, with_path};

pub const SCENARIOS: &[Scenario] = &[
    ("rights_of_a_control_plane", rights_of_a_control_plane),
    ("rights_of_services", rights_of_services),
    ("rights_of_services_that_elect", rights_of_services_that_elect),
    ("rights_of_services_beside", rights_of_services_beside),
    ("rights_of_a_quorum", rights_of_a_quorum),
    ("rights_of_a_pod", rights_of_a_pod),
];

const SOON: Duration = Duration::from_secs(20);
const LABEL: &str = "kube-vip.io/has-ip";
const LABEL_OF_SERVICE: &str = "service-provided.kube-vip.io/rights.default";

fn rights_of_a_control_plane(cluster: &mut Cluster<'_>) -> String {
    let plain = seen(cluster, &[]);
    let labels = seen(cluster, &[("enable_node_labeling", "true")]);
    format!("{plain}; with labels {labels}")
}

fn rights_of_services(cluster: &mut Cluster<'_>) -> String {
    let lease = format!("{}-svcs", cluster.lease);
    let settings = [("cp_enable", "false"), ("svc_enable", "true"), ("svc_leasename", &lease)];
    let plain = seen(cluster, &settings);
    let labels = seen(cluster, &[&settings[..], &[("enable_node_labeling", "true")]].concat());
    format!("{plain}; with labels {labels}")
}

fn rights_of_services_that_elect(cluster: &mut Cluster<'_>) -> String {
    let settings = [("cp_enable", "false"), ("svc_enable", "true"), ("svc_election", "true")];
    seen(cluster, &settings)
}

fn rights_of_services_beside(cluster: &mut Cluster<'_>) -> String {
    let lease = format!("{}-svcs", cluster.lease);
    let settings = [("svc_enable", "true"), ("svc_leasename", lease.as_str())];
    let all = seen(cluster, &settings);
    let silent = [&settings[..], &[("disable_service_updates", "true")]].concat();
    format!("{all}; without updates {}", seen(cluster, &silent))
}

fn rights_of_a_quorum(cluster: &mut Cluster<'_>) -> String {
    let more = [
        ("leaderElectionType", "raft"),
        ("vip_singlenode", "true"),
        ("edgevip_state_dir", "/run/rights-of-a-quorum"),
        ("control_plane_health_check_address", "off"),
        ("svc_enable", "true"),
    ];
    seen(cluster, &more)
}

/// A process as a kubelet would start it: the variables, user and capabilities that the manifest
/// has, the account's token where a Pod has it, and the program's file with its capabilities.
fn rights_of_a_pod(cluster: &mut Cluster<'_>) -> String {
    let api = &cluster.lab.api;
    let line = format!("--arp --controlplane --address {} --interface eth0", cluster.vip);
    let wish = Wish {
        kind: Kind::DaemonSet,
        in_cluster: true,
        name: Some(AUDITED.into()),
        with_rbac: true,
        ..Wish::default()
    };
    let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    let no_file = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let flags = take_flags(&words, &[]).flags;
    let written = write(&wish, &flags, &BTreeMap::new(), &no_file).expect("it is right");
    forget(cluster);
    api.apply(&written.yaml);
    let set = api.kubectl(&["-n", "kube-system", "get", "daemonset", "edge-ds", "-o", "json"]);
    let set: Value = serde_json::from_str(&set).expect("JSON");
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let security = &container["securityContext"];

    let config = fs::read_to_string(api.kubeconfig_of_audited("pod")).expect("it is written");
    let token = config.split("token: ").nth(1).and_then(|it| it.split('}').next());
    let account = Path::new("/run/secrets/kubernetes.io/serviceaccount");
    fs::create_dir_all(account).expect("/run is ours");
    fs::create_dir_all("/run/edgevip").expect("/run is ours");
    fs::write(account.join("token"), token.expect("there is one")).expect("/run is ours");
    fs::write(account.join("namespace"), "kube-system").expect("/run is ours");
    fs::copy("/run/kube/ca.crt", account.join("ca.crt")).expect("/run is ours");
    fs::copy(&cluster.lab.program, PROGRAM).expect("/run is ours");
    run(Command::new("setcap").args(["cap_net_admin,cap_net_raw=ep", PROGRAM]));

    let mut command = command_in("n1", "setpriv");
    let added = security["capabilities"]["add"].as_array().expect("a list");
    let added = added.iter().map(|it| format!(",+{}", it.as_str().expect("text").to_lowercase()));
    command.args(["--inh-caps=-all", &format!("--bounding-set=-all{}", added.collect::<String>())]);
    let user = match sandbox::is_privileged() {
        true => security["runAsUser"].to_string(),
        // Of a user's own namespace there is no second user.
        false => "0".to_owned(),
    };
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    run(Command::new("chown").args(["-R", &user, "/run/edgevip", "/run/secrets"]));
    command.args([PROGRAM, "manager"]);
    with_path(&mut command).env("KUBERNETES_SERVICE_HOST", ADDRESS);
    command.env("KUBERNETES_SERVICE_PORT", PORT.to_string());
    for it in container["env"].as_array().expect("a list") {
        let name = it["name"].as_str().expect("text");
        command.env(name, it["value"].as_str().unwrap_or("n1"));
    }
    api.audited();
    let watch = Watch::begin(cluster.vip);
    let mut daemon = Daemon::start("pod", &mut command);
    watch.only("n1", SOON);
    let fine = wait_for(SOON, || {
        let events = |it: &Value| it["objectRef"]["resource"] == "events";
        api.audited().iter().any(events)
    });
    assert!(fine, "no Event: {}", daemon.log());
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended(SOON).success(), "{}", daemon.log());
    let log = daemon.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    fs::remove_dir_all("/run/secrets").expect("it was made");
    api.kubectl(&["-n", "kube-system", "delete", "daemonset", "edge-ds"]);
    forget(cluster);
    format!("answers as user {user} with two capabilities and nothing to complain of")
}

const PROGRAM: &str = "/run/edgevip-of-a-pod";

/// Lets daemons live through what needs rights, as an account with what is granted for these
/// settings.
fn seen(cluster: &mut Cluster<'_>, settings: &[(&str, &str)]) -> String {
    let api = &cluster.lab.api;
    let mut env: BTreeMap<String, String> = [
        ("vip_arp", "true"),
        ("cp_enable", "true"),
        ("vip_leasename", &cluster.lease),
        ("address", &cluster.vip.to_string()),
    ]
    .into_iter()
    .chain(settings.iter().copied())
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .collect();
    let wish = Wish { kind: Kind::Rbac, name: Some(AUDITED.into()), ..Wish::default() };
    let no_file = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let roles = write(&wish, &take_flags(&[], &[]).flags, &env, &no_file).expect("it is right");
    forget(cluster);
    api.apply(&roles.yaml);
    let granted = granted(cluster);
    let config = api.kubeconfig_of_audited("audited").display().to_string();
    env.insert("k8s_config_file".into(), config);
    for (name, text) in &env {
        cluster.set(name, text);
    }
    api.audited();
    check(cluster, &env);
    let asked = api.audited();
    assert!(!asked.is_empty(), "nothing is written down");

    live(cluster, &env);
    let used = api.audited();
    let denied: Vec<_> = used.iter().filter(|it| it["responseStatus"]["code"] == 403).collect();
    assert!(denied.is_empty(), "denied: {denied:#?}");
    let superfluous: Vec<_> =
        granted.iter().filter(|it| !used.iter().any(|u| it.is_of(u))).collect();
    assert!(superfluous.is_empty(), "granted, and nobody used it: {superfluous:?}");
    forget(cluster);
    format!("{} rights, each used by one of {} requests", granted.len(), used.len())
}

/// What needs rights: a start, a Service that gets an address, a handover.
fn live(cluster: &mut Cluster<'_>, env: &BTreeMap<String, String>) {
    let is_on = |name: &str| env.get(name).is_some_and(|it| it == "true");
    let quorum = is_on("vip_singlenode");
    let writes = is_on("svc_enable") && !is_on("disable_service_updates");
    let api = &cluster.lab.api;
    if is_on("svc_enable") {
        let pool = "apiVersion: v1\nkind: ConfigMap\n\
                    metadata: { name: kubevip, namespace: kube-system }\n\
                    data: { cidr-global: 10.77.3.0/29 }\n";
        // Where nobody gives addresses out, it asks for one.
        let service = match writes {
            true => SERVICE.replace("ASKS", ""),
            false => SERVICE.replace("ASKS", "kube-vip.io/loadbalancerIPs: 10.77.3.9"),
        };
        api.apply(&format!("{pool}---\n{service}"));
    }
    fs::remove_dir_all("/run/rights-of-a-quorum").ok();
    cluster.start("n1");
    cluster.status_within("n1", "leads", SOON, |it| holds(it, "n1"));
    if writes {
        let told = || {
            let it = cluster.lab.api.kubectl(&["get", "service", "rights", "-o", "json"]);
            let it: Value = serde_json::from_str(&it).unwrap_or_default();
            it["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
        };
        assert!(wait_for(SOON, told), "no status: {}", cluster.daemon("n1").log());
    }
    let label = if is_on("svc_enable") { LABEL_OF_SERVICE } else { LABEL };
    let labelled = |cluster: &Cluster<'_>, node: &str| {
        let of = || cluster.lab.api.kubectl(&["get", "nodes", "-l", label, "-o", "name"]);
        let fine = wait_for(SOON, || of().trim() == format!("node/{node}"));
        assert!(fine, "{:?} has the label: {}", of(), cluster.daemon(node).log());
    };
    if is_on("enable_node_labeling") {
        labelled(cluster, "n1");
    }
    // The first Event, the count of the candidates and the record come a little later.
    std::thread::sleep(Duration::from_secs(2));
    if quorum {
        cluster.kill("n1");
        return;
    }
    cluster.start("n2");
    cluster.status_within("n2", "follows", SOON, |it| it["role"] == "follower");
    cluster.status_within("n2", "knows", SOON, |it| {
        !is_on("svc_enable") || it["services"]["known"] == true
    });
    std::thread::sleep(Duration::from_secs(1));
    cluster.signal("n1", Signal::SIGTERM);
    cluster.status_within("n2", "leads", SOON, |it| holds(it, "n2"));
    if is_on("enable_node_labeling") {
        labelled(cluster, "n2");
    }
    std::thread::sleep(Duration::from_secs(1));
    cluster.kill("n1");
    cluster.kill("n2");
}

/// Whether a node leads, or holds the Service that has a Lease of its own.
fn holds(status: &Value, node: &str) -> bool {
    let of_service = &status["services"]["services"][0]["holder"];
    status["role"] == "leader" || *of_service == node
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: { name: rights, annotations: { ASKS } }
spec: { type: LoadBalancer, ports: [{ name: p, port: 80, protocol: TCP }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: rights-1, labels: { kubernetes.io/service-name: rights } }
addressType: IPv4
ports: [{ name: p, port: 8080, protocol: TCP }]
endpoints:
- addresses: [10.244.0.1]
  nodeName: n1
  conditions: { ready: true, serving: true, terminating: false }
";

fn forget(cluster: &Cluster<'_>) {
    let api = &cluster.lab.api;
    let role = format!("system:{AUDITED}-role");
    let binding = format!("system:{AUDITED}-binding");
    let all: [&[&str]; 6] = [
        &["clusterrole", &role],
        &["clusterrolebinding", &binding],
        &["-n", "kube-system", "role,rolebinding,serviceaccount", AUDITED],
        &["-n", "kube-system", "lease,configmap", "--all"],
        &["service,endpointslice", "rights", "rights-1"],
        &["lease", "kubevip-rights"],
    ];
    for words in all {
        let words: Vec<_> = ["delete", "--ignore-not-found"].iter().chain(words).copied().collect();
        api.kubectl(&words);
    }
}

/// `edgevip check` as that account.
fn check(cluster: &Cluster<'_>, env: &BTreeMap<String, String>) {
    let mut command = command_in("n1", "sh");
    // What it makes of the rest of this host is not looked at here.
    command.args(["-c", "\"$0\" check 2>&1; true"]).arg(&cluster.lab.program);
    let report = run(with_path(&mut command).envs(env).env("vip_nodename", "n1"));
    assert!(!report.contains("RBAC: may not"), "{report}");
    assert!(report.contains("RBAC: "), "nothing of rights: {report}");
}

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Granted {
    namespace: String,
    verb: String,
    resource: String,
    name: String,
}

impl Granted {
    fn is_of(&self, request: &Value) -> bool {
        let (verb, object) = (&request["verb"], &request["objectRef"]);
        let text = |name: &str| object[name].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            part => format!("{}/{part}", text("resource")),
        };
        *verb == self.verb.as_str()
            && resource == self.resource
            && (self.namespace.is_empty() || text("namespace") == self.namespace)
            && (self.name.is_empty() || text("name") == self.name)
    }
}

/// What the API server has of it.
fn granted(cluster: &Cluster<'_>) -> BTreeSet<Granted> {
    let role = format!("system:{AUDITED}-role");
    let anywhere = cluster.lab.api.kubectl(&["get", "clusterrole", &role, "-o", "json"]);
    let words = ["get", "roles", "-A", "--field-selector", &format!("metadata.name={AUDITED}")];
    let within = cluster.lab.api.kubectl(&[&words[..], &["-o", "json"]].concat());
    let anywhere: Value = serde_json::from_str(&anywhere).expect("JSON");
    let within: Value = serde_json::from_str(&within).expect("JSON");
    let roles = within["items"].as_array().cloned().unwrap_or_default();
    let mut all = BTreeSet::new();
    for role in roles.iter().chain([&anywhere]) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let words = |key: &str| {
                let list = rule[key].as_array().into_iter().flatten();
                list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
            };
            let mut names = words("resourceNames");
            if names.is_empty() {
                names.push(String::new());
            }
            for (verb, resource, name) in words("verbs").iter().flat_map(|verb| {
                let resources = words("resources");
                let names = &names;
                resources
                    .into_iter()
                    .flat_map(move |it| names.iter().map(move |name| (verb, it.clone(), name)))
            }) {
                all.insert(Granted {
                    namespace: role["metadata"]["namespace"].as_str().unwrap_or_default().into(),
                    verb: verb.clone(),
                    resource,
                    name: name.clone(),
                });
            }
        }
    }
    assert!(!all.is_empty());
    all
}
