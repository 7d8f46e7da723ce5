use std::fmt::Write as _;

use super::*;
use crate::config::settings::by_variable;
use crate::config::sources::take_flags;
use crate::config::{Config, yaml};

const CONTROL_PLANE: &str = "--arp --controlplane --address 192.0.2.40 --interface eth0";
const NODES: &str = "--arp --controlplane --address fd00::40 --raftMembers nodes --keyFile /key";

/// Flags, and what of them a Pod is to have.
const COMBINATIONS: &[&str] = &[
    CONTROL_PLANE,
    "--arp --controlplane --address 192.0.2.40,fd00::40 --leaderElection --leaseDuration 5 \
     --leaseRenewDuration 3 --leaseRetry 1 --enableNodeLabeling --leaseName a/cp",
    "--arp --controlplane --address fd00::40 --vipSubnet 64 --dnsMode dual --log -4",
    "--arp --controlplane --address api.example.com --dnsMode ipv6 --autodetectcp",
    "--arp --controlplane --vip 192.0.2.40 --prometheusHTTPServer= --healthCheckPort 8080",
    "--arp --services --serviceInterface auto --lbClassOnly --lbClassName= --allowInterfaceNotUp",
    "--arp --services --controlplane --address 192.0.2.40 --servicesLeaseName b/s --arpRate 1000",
    "--arp --controlplane --address 192.0.2.40 --preserveVipOnLeadershipLoss --fence required \
     --loInterfaceGlobalScope --skipDAD --instanceName east --namespace edge --loseLeadership",
    "--arp --controlplane --address 192.0.2.40 --leaseAnnotations={\"team\":\"edge\"} --port 7443",
    "--arp --controlplane --address 192.0.2.40 --remotePeers \
     n1:10.0.0.1:10000,n2:10.0.0.2:10000,n3:10.0.0.3:10000:witness --keyFile /etc/edgevip/key \
     --raftProfile slow --failBack delayed --state-dir /data --raftPromise 900",
    "--arp --controlplane --address 192.0.2.40 --discover 3 --keyFile /k --raftPort 10001 \
     --k8sConfigPath off --controlPlaneHealthCheckAddress off",
    "--arp --services --discover 3 --keyFile /k --disableServiceUpdates",
    "--arp --controlplane --address 192.0.2.40 --raftMembers nodes --keyFile /k \
     --controlPlaneHealthCheckCAPath /etc/kubernetes/pki/ca.crt",
];

#[test]
fn what_a_pod_is_given_means_what_was_asked_for() {
    for line in COMBINATIONS {
        for kind in [Kind::Pod, Kind::DaemonSet] {
            let wish = Wish { kind, in_cluster: true, ..Wish::default() };
            let root = object(&wish, line);
            let spec =
                if kind == Kind::Pod { &root["spec"] } else { &root["spec"]["template"]["spec"] };
            let env = env_of(spec);
            assert!(env.keys().all(|it| it == "NODE_IP" || by_variable(it).is_some()), "{env:?}");
            let there = understood(&env, &[]);
            let mut here = understood(&BTreeMap::new(), &flags(line));
            // The Pod's own, which it has from its node.
            here.node = there.node.clone();
            if let (Some(here), Some(there)) = (&mut here.raft, &there.raft) {
                (here.me, here.address) = (there.me.clone(), there.address);
                here.members = there.members.clone();
            }
            // Which kubeconfig is mounted is not the Pod's to know.
            here.kube = there.kube.clone();
            assert_eq!(here, there, "{line}");
        }
    }
}

#[test]
fn variables_are_in_the_order_of_the_peer() {
    let line = "--arp --controlplane --services --leaderElection --address 192.0.2.40 \
                --interface eth0 --enableNodeLabeling --healthCheckPort 8080 --log 4";
    let root = object(&Wish::default(), line);
    let list = root["spec"]["containers"][0]["env"].as_array().unwrap();
    let text = list.iter().fold(String::new(), |mut all, it| {
        let value = it["value"].as_str().unwrap_or("<node>");
        _ = write!(all, "{}={value} ", it["name"].as_str().unwrap());
        all
    });
    let expected = "vip_arp=true port=6443 vip_nodename=<node> vip_interface=eth0 vip_subnet=32 \
        dns_mode=first dhcp_mode=ipv4 cp_enable=true cp_namespace=kube-system svc_enable=true \
        svc_leasename=plndr-svcs-lock vip_leaderelection=true vip_leasename=plndr-cp-lock \
        vip_leaseduration=15 vip_renewdeadline=10 vip_retryperiod=2 enable_node_labeling=true \
        address=192.0.2.40 prometheus_server=:2112 health_check_port=8080 vip_loglevel=4 ";
    assert_eq!(text, expected);
}

#[test]
fn who_it_is_on_a_node_comes_from_the_node() {
    let root = object(&Wish { kind: Kind::DaemonSet, ..Wish::default() }, NODES);
    let list = root["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let place = |name: &str| list.iter().position(|it| it["name"] == name).unwrap();
    assert!(place("vip_nodename") < place("vip_localpeer"));
    assert!(place("NODE_IP") < place("vip_localpeer"));
    let of_peer = &list[place("vip_localpeer")]["value"];
    assert_eq!(*of_peer, "$(vip_nodename):[$(NODE_IP)]:10000");
}

#[test]
fn a_pod_may_no_more_than_it_must() {
    // Whether it has the host's files, and so is root, and which.
    let kubeconfig = "kubeconfig";
    let in_cluster = Wish { in_cluster: true, ..Wish::default() };
    let secret = Wish { key_secret: Some("k".into()), ..in_cluster.clone() };
    let lonely = format!("{CONTROL_PLANE} --discover 3 --keyFile /k --k8sConfigPath off");
    let table = [
        (Wish::default(), CONTROL_PLANE.to_owned(), true, kubeconfig),
        (in_cluster.clone(), CONTROL_PLANE.to_owned(), false, ""),
        (in_cluster.clone(), "--arp --services".to_owned(), false, ""),
        (Wish::default(), NODES.to_owned(), true, "kubeconfig state key"),
        (in_cluster, NODES.to_owned(), true, "state key"),
        (secret, NODES.replace(" --keyFile /key", ""), true, "state key"),
        (Wish::default(), lonely, true, "state key"),
    ];
    for (wish, line, as_root, mounted) in table {
        let root = object(&wish, &line);
        let spec = &root["spec"];
        let security = &spec["containers"][0]["securityContext"];
        let capabilities = &security["capabilities"];
        assert_eq!(capabilities["drop"].to_string(), "[\"ALL\"]");
        assert_eq!(capabilities["add"].to_string(), "[\"NET_ADMIN\",\"NET_RAW\"]");
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["runAsNonRoot"].is_null(), as_root, "{line}");
        assert_eq!(security["privileged"], Value::Null);
        let names =
            spec["volumes"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
        let names: Vec<_> = names.filter(|it| *it != "run").collect();
        assert_eq!(names.join(" "), mounted, "{line}");
        assert_eq!(spec["serviceAccountName"].is_null(), !wish.in_cluster);
    }
}

#[test]
fn roles_have_what_the_features_need() {
    let wish = Wish { kind: Kind::Rbac, ..Wish::default() };
    let rules = |wish: &Wish, line: &str| {
        let mut text = String::new();
        for it in objects_of(wish, line) {
            let place = it["metadata"]["namespace"].as_str().unwrap_or("*");
            for rule in it["rules"].as_array().into_iter().flatten() {
                let words = |key: &str| {
                    let list = rule[key].as_array().into_iter().flatten();
                    list.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
                };
                let (verbs, what, names) =
                    (words("verbs"), words("resources"), words("resourceNames"));
                _ = writeln!(text, "{place} {verbs} {what} {names}");
            }
        }
        text
    };
    let lease = "* list nodes \nkube-system create events \nkube-system create leases \n\
                 kube-system get,update,watch leases plndr-cp-lock\n";
    assert_eq!(rules(&wish, CONTROL_PLANE), lease);
    let labels = format!("{CONTROL_PLANE} --enableNodeLabeling");
    assert_eq!(rules(&wish, &labels), lease.replace("list nodes", "list,patch nodes"));
    let services = "* create events \n* list,patch,watch services \n* list,watch nodes \n\
                    * patch services/status \n* list,watch endpointslices \n\
                    kube-system list,watch configmaps kubevip\nkube-system create leases \n\
                    kube-system get,update,watch leases kube-vip-cloud-controller\n\
                    kube-system get,update,watch leases plndr-svcs-lock\n";
    assert_eq!(rules(&wish, "--arp --services"), services);
    let alone = format!("{CONTROL_PLANE} --discover 3 --keyFile /k --k8sConfigPath off");
    assert_eq!(rules(&wish, &alone), "");

    // In a namespace of its own.
    let tenant = [("svc_namespace".to_owned(), "shop".to_owned())].into();
    let own = Wish { grant: Grant::Role, ..wish.clone() };
    let yaml = write(&own, &flags("--arp --services"), &tenant, &no_file).unwrap().yaml;
    assert_eq!(yaml.matches("kind: ClusterRole\n").count(), 2, "for the nodes: {yaml}");
    assert!(yaml.contains("namespace: shop"), "{yaml}");
    for grant in [Grant::Role, Grant::RoleBinding] {
        let wish = Wish { grant, ..wish.clone() };
        let fault = write(&wish, &flags("--arp --services"), &BTreeMap::new(), &no_file);
        assert!(fault.unwrap_err().to_string().contains("give svc_namespace"));
        write(&wish, &flags(CONTROL_PLANE), &BTreeMap::new(), &no_file).unwrap();
    }
}

#[test]
fn kubeadm_has_its_own_kubeconfig_before_it_has_ended() {
    let line = "--interface eth0 --address 192.0.2.40";
    let mounted = |kubeadm, line: &str| {
        let wish = Wish { kubeadm: Some(kubeadm), ..Wish::default() };
        let root = object(&wish, line);
        assert_eq!(env_of(&root["spec"])["cp_enable"], "true");
        root["spec"]["volumes"][0]["hostPath"]["path"].as_str().unwrap().to_owned()
    };
    let join = || Kubeadm::Join("/there".into());
    assert_eq!(mounted(Kubeadm::Init, line), SUPER_ADMIN);
    assert_eq!(mounted(join(), line), "/etc/kubernetes/admin.conf");
    let of_k3s = format!("{line} --k8sConfigPath /etc/rancher/k3s/k3s.yaml");
    assert_eq!(mounted(Kubeadm::Init, &of_k3s), "/etc/rancher/k3s/k3s.yaml");
    assert_eq!(mounted(join(), &of_k3s), "/etc/rancher/k3s/k3s.yaml");
}

#[test]
fn what_cannot_work_is_refused() {
    let pod = Wish::default;
    let set = || Wish { kind: Kind::DaemonSet, in_cluster: true, ..Wish::default() };
    let kubeadm = |it| Wish { kubeadm: Some(it), ..Wish::default() };
    let table = [
        (pod(), "--controlplane --address 192.0.2.40", "vip_arp=false"),
        (pod(), "--arp --controlplane", "no VIP"),
        (pod(), "--arp --controlplane --address x --bgp", "BGP is not in this version"),
        (pod(), "--arp --services --record /r", "a Pod keeps no files"),
        (pod(), "--arp --services --notify /n", "give an --image"),
        (Wish { image: Some("A b".into()), ..pod() }, CONTROL_PLANE, "--image=A b: not an image"),
        (Wish { name: Some("A".into()), ..pod() }, CONTROL_PLANE, "--name: \"A\""),
        (Wish { with_rbac: true, ..pod() }, CONTROL_PLANE, "give --inCluster"),
        (Wish { key_secret: Some("k".into()), ..pod() }, CONTROL_PLANE, "static Pods"),
        (Wish { key_secret: Some("k".into()), ..set() }, NODES, "vip_keyfile is given too"),
        (set(), "--arp --services --localPeer n:10.0.0.1:1 --raftInsecure", "another member"),
        (set(), "--arp --services --singleNode --leaderElectionType raft", "quorum of its own"),
        (kubeadm(Kubeadm::Init), "--address 192.0.2.40", "--interface: "),
        (kubeadm(Kubeadm::Init), "--interface eth0", "--address: "),
        (kubeadm(Kubeadm::Join("/gone".into())), CONTROL_PLANE, "--config: /gone cannot be read"),
    ];
    for (wish, line, why) in table {
        let faults = write(&wish, &flags(line), &BTreeMap::new(), &no_file).unwrap_err();
        assert!(faults.to_string().contains(why), "{line}: {faults}");
    }
}

#[test]
fn samples_are_understood() {
    let read = |path: &Path| match path.to_str() {
        Some("/s.yaml") => Ok(SAMPLE_CONFIG.to_owned()),
        Some("/etc/edgevip/key") => Ok("0123456789abcdef".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let sources = Sources {
        flags: flags("--config-file /s.yaml"),
        env: BTreeMap::new(),
        hostname: "n1".into(),
        read: &read,
        is_open: &|_| false,
    };
    let resolved = resolve(&sources).unwrap();
    assert_eq!(resolved.warnings, Vec::<String>::new());
    assert_eq!(resolved.config.raft.unwrap().members.len(), 3);
    assert_eq!(sample().unwrap().notes, Vec::<String>::new());
}

fn no_file(path: &Path) -> io::Result<String> {
    match path == Path::new("/there") {
        true => Ok(String::new()),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

fn flags(line: &str) -> Vec<Given> {
    let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    let line = take_flags(&words, &[]);
    assert_eq!(line.faults, []);
    line.flags
}

fn objects_of(wish: &Wish, line: &str) -> Vec<Value> {
    let written = write(wish, &flags(line), &BTreeMap::new(), &no_file);
    let written = written.unwrap_or_else(|it| panic!("{line}: {it}"));
    let again = write(wish, &flags(line), &BTreeMap::new(), &no_file).unwrap();
    assert_eq!(written, again);
    let documents = written.yaml.split("---\n").filter(|it| !it.is_empty());
    documents.map(|it| yaml::parse(it).unwrap_or_else(|why| panic!("{why}: {it}"))).collect()
}

fn object(wish: &Wish, line: &str) -> Value {
    // Our reader of YAML leaves numbers text, and means what it says of booleans.
    objects_of(wish, line).remove(0)
}

/// As a kubelet would set it on the node n1.
fn env_of(spec: &Value) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for it in spec["containers"][0]["env"].as_array().unwrap() {
        let value = match it["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => "n1".to_owned(),
            Some("status.hostIP") => "10.0.0.1".to_owned(),
            Some(other) => panic!("{other}"),
            None => it["value"].as_str().unwrap().to_owned(),
        };
        let value = env
            .iter()
            .fold(value, |text, (name, known)| text.replace(&format!("$({name})"), known));
        let twice = env.insert(it["name"].as_str().unwrap().to_owned(), value);
        assert_eq!(twice, None, "{it}");
    }
    env
}

/// What a Pod in the cluster understands.
fn understood(env: &BTreeMap<String, String>, flags: &[Given]) -> Config {
    let mut flags = flags.to_vec();
    let nodes = flags.iter().any(|it| it.setting.name() == "vip_raft_members");
    if nodes {
        flags.extend(by_flag("localPeer").map(|it| flag(it, "n1:10.0.0.1:10000")));
    }
    let sources = Sources {
        flags,
        env: env.clone(),
        hostname: "n1".into(),
        read: &|path| match path.ends_with("namespace") {
            true => Ok("kube-system".into()),
            false => Ok("0123456789abcdef".into()),
        },
        is_open: &|_| false,
    };
    resolve(&sources).unwrap_or_else(|it| panic!("{env:?}: {it}")).config
}
