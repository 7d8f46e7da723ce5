//! The command line, `--help` and the table of settings as files beside this one
//! (`UPDATE=1 cargo test --test cli` writes them), and what manifests of kube-vip say.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use edgevip::cli::{Command, Example, FromUci, Invocation, Order, parse, version};
use edgevip::config::settings::{self, Standing};
use edgevip::config::sources::{Given, Sources};
use edgevip::config::{Faults, Resolved, explain, resolve};
use edgevip::lab::options::{Event, Options};
use edgevip::manifest::{self, Grant, Kind, Kubeadm, SAMPLE_CONFIG, Wish};

#[test]
fn help_is_as_written_down() {
    let text = |line: &str| match command(line) {
        Command::Help(text) => text,
        other => panic!("{line}: {other:?}"),
    };
    for line in ["--help", "-h", "help", "help --vip=10.0.0.1"] {
        assert_eq!(text(line), text(""), "{line}");
    }
    assert_eq!(text("help status"), text("status --help"));
    assert_same("help.txt", &text(""));
    assert_same("help-status.txt", &text("help status"));
    assert_same("help-replay.txt", &text("help replay"));
    assert_same("help-members.txt", &text("help members"));
    assert_eq!(text("help drain"), text("drain --help"));
    assert_eq!(text("help config"), text("config --help"));
    assert_same("help-lab.txt", &text("help lab"));
    for (group, words) in [
        ("manifest", "pod daemonset rbac"),
        ("kubeadm", "init join"),
        ("sample", "config manifest"),
    ] {
        let own = |line: &str| {
            let all = text(line);
            assert_eq!(all.contains("\nSettings"), group != "sample", "{line}");
            all.split("\nSettings").next().unwrap_or_default().to_owned()
        };
        let mut all = own(group);
        for word in words.split(' ') {
            assert_eq!(text(&format!("help {group} {word}")), text(&format!("{group} {word} -h")));
            all += "\n";
            all += &own(&format!("help {group} {word}"));
        }
        assert_eq!(text(&format!("help {group}")), text(group));
        assert_same(&format!("help-{group}.txt"), &all);
    }
}

#[test]
fn manifests_are_as_written_down() {
    let yaml = |line: &str| {
        let Invocation { command, flags } = invocation(line).unwrap();
        let Command::Manifest(wish) = command else { panic!("{line}") };
        let no_file = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let written = manifest::write(&wish, &flags, &BTreeMap::new(), &no_file);
        written.unwrap_or_else(|it| panic!("{line}: {it}")).yaml
    };
    let base = "--arp --controlplane --address 192.0.2.40";
    let table = [
        ("manifest-daemonset.yaml", "manifest daemonset --inCluster --taint --rbac --services"),
        ("manifest-raft.yaml", "manifest daemonset --raftMembers nodes --keyFile /etc/edgevip/key"),
        ("manifest-rbac.yaml", "manifest rbac --enableNodeLabeling"),
        ("manifest-kubeadm.yaml", "kubeadm init --interface eth0 --leaderElection"),
    ];
    for (file, line) in table {
        assert_same(file, &yaml(&format!("{line} {base}")));
    }
    assert_same("manifest-sample.yaml", &manifest::sample().unwrap().yaml);
    assert_same("sample-config.yaml", SAMPLE_CONFIG);
}

#[test]
fn the_manual_has_each_command() {
    let manual = std::fs::read_to_string("systemd/edgevip.8").unwrap();
    let commands = manual.split(".SH COMMANDS").nth(1).unwrap().split(".SH ").next().unwrap();
    let Command::Help(help) = command("help") else { panic!("help is no help") };
    let table = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = table.lines().filter(|it| !it.starts_with("    ")).map(|it| it.trim());
    for name in names.map(|it| it.split(' ').next().unwrap()) {
        let begins = |it: &str| {
            let words = it.split_once(' ').filter(|(font, _)| font.starts_with(".B"));
            let named = words.map(|(_, rest)| rest.trim_start_matches('"'));
            named.and_then(|it| it.split([' ', '"']).next()) == Some(name)
        };
        assert!(commands.lines().any(begins), "edgevip.8 does not have {name}");
    }
}

#[test]
fn the_table_of_settings_is_as_written_down() {
    assert_same("settings.md", &explain::table());
}

#[test]
fn what_explain_prints_is_as_written_down() {
    let Resolved { explained, .. } = resolved(
        &[("vip_arp", "true"), ("cp_enable", "true"), ("bgp_peerpass", "hush"), ("port", "")],
        "manager --address 10.0.0.42 --lbPort=1 --vipSubnet=24",
    )
    .unwrap();
    assert_same("explain.txt", &explain::values(&explained));
    let Resolved { explained, .. } = resolved(
        &env(&[("vip_peers", "n1:10.0.0.1:10000,n2:10.0.0.2:10000,w:10.0.0.3:10000:witness")]),
        "manager --address 10.0.0.42 --keyFile /key --raftPromise=150 --leaseDuration=20",
    )
    .unwrap();
    assert_same("explain-raft.txt", &explain::values(&explained));
}

#[test]
fn each_command_is_understood() {
    let status = |json, instance: Option<&str>| Command::Status {
        json,
        instance: instance.map(str::to_owned),
    };
    let text = |it: &str| Some(it.to_owned());
    let ordered =
        |order, instance: Option<&str>| Command::Order { order, instance: instance.and_then(text) };
    let add = |address: &str, witness| Order::Add {
        name: "n".into(),
        address: address.parse().unwrap(),
        witness,
    };
    let pools = |json, instance: Option<&str>| Command::Pools {
        json,
        instance: instance.map(str::to_owned),
    };
    let from_uci = |file: &str, network: &[(&str, &str)]| {
        let network = network.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        Command::FromUci(FromUci { file: file.into(), network })
    };
    let wish = Wish::default;
    let manifest = Command::Manifest;
    let full = Wish {
        kind: Kind::DaemonSet,
        in_cluster: true,
        image: text("a/b:1"),
        name: text("edge"),
        taint: true,
        with_rbac: true,
        key_secret: text("k"),
        ..wish()
    };
    let rbac = |grant| manifest(Wish { kind: Kind::Rbac, grant, ..wish() });
    let kubeadm = |it| manifest(Wish { kubeadm: Some(it), ..wish() });
    let moved = Order::Move { vip: "fd00::42".parse().unwrap(), node: "n".into() };
    let cases = [
        ("manager", Command::Manager),
        ("--arp manager", Command::Manager),
        ("check", Command::Check),
        ("explain", Command::Explain),
        ("version", Command::Version),
        ("pools", pools(false, None)),
        ("pools --json --instance a", pools(true, Some("a"))),
        ("status", status(false, None)),
        ("status --json", status(true, None)),
        ("status --instance a --json", status(true, Some("a"))),
        ("status --instance=a", status(false, Some("a"))),
        ("replay /f", Command::Replay("/f".into())),
        ("config from-uci", from_uci("/etc/config/edgevip", &[])),
        (
            "config from-uci /f --network lan=br-lan --network=wan=eth1",
            from_uci("/f", &[("lan", "br-lan"), ("wan", "eth1")]),
        ),
        ("members", Command::Members { json: false, instance: None }),
        ("members --json --instance a", Command::Members { json: true, instance: text("a") }),
        ("members add n 10.0.0.4:1", ordered(add("10.0.0.4:1", false), None)),
        ("members add n [fd00::4]:1 --witness", ordered(add("[fd00::4]:1", true), None)),
        ("members add n 10.0.0.4:1 --instance=a", ordered(add("10.0.0.4:1", false), Some("a"))),
        ("members --instance a remove n", ordered(Order::Remove("n".into()), Some("a"))),
        ("members promote n", ordered(Order::Promote("n".into()), None)),
        ("drain", ordered(Order::Drain(None), None)),
        ("drain n --instance a", ordered(Order::Drain(text("n")), Some("a"))),
        ("undrain n", ordered(Order::Undrain(text("n")), None)),
        ("unmove fd00::42", ordered(Order::Unmove("fd00::42".parse().unwrap()), None)),
        ("move fd00::42 n", ordered(moved, None)),
        ("manifest pod", manifest(wish())),
        ("--arp manifest --log 4 pod --inCluster=false --services", manifest(wish())),
        ("manifest pod --incluster=true", manifest(Wish { in_cluster: true, ..wish() })),
        (
            "manifest daemonset --inCluster --image=a/b:1 --name edge --taint --rbac --keySecret k",
            manifest(full),
        ),
        ("manifest rbac", rbac(Grant::Smallest)),
        ("manifest rbac --inCluster --image x --role --rolebinding", rbac(Grant::Role)),
        ("manifest rbac --rolebinding", rbac(Grant::RoleBinding)),
        ("kubeadm init --interface eth0 --vip 10.0.0.1", kubeadm(Kubeadm::Init)),
        ("kubeadm join", kubeadm(Kubeadm::Join("/etc/kubernetes/admin.conf".into()))),
        ("kubeadm join --config /c", kubeadm(Kubeadm::Join("/c".into()))),
        ("sample config", Command::Sample(Example::Config)),
        ("sample manifest", Command::Sample(Example::Manifest)),
        ("lab", Command::Lab(Options::default())),
        (
            "lab --rounds=3 --events kill,drain --json --profile fast --vips 2 --logs /l",
            Command::Lab(Options {
                rounds: Some(3),
                events: vec![Event::Kill, Event::Drain],
                json: true,
                profile: Some("fast".into()),
                vips: 2,
                script: None,
                logs: Some("/l".into()),
            }),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(command(line), expected, "{line}");
    }
    assert_eq!(version().lines().count(), 3);
}

#[test]
fn flags_are_written_as_kube_vip_takes_them() {
    let flags = |line: &str| -> Vec<(String, String)> {
        let given = |it: Given| (it.setting.name().to_owned(), it.text);
        invocation(line).unwrap().flags.into_iter().map(given).collect()
    };
    let cases = [
        ("manager --arp", "vip_arp", "true"),
        ("manager --arp=false", "vip_arp", "false"),
        ("manager --ARP=T", "vip_arp", "T"),
        ("--interface eth0 manager", "vip_interface", "eth0"),
        ("manager --interface=eth0", "vip_interface", "eth0"),
        ("manager --cidr 24", "vip_subnet", "24"),
        ("manager --promethuesHTTPServer :1", "prometheus_server", ":1"),
        ("manager --prometheusHTTPServer=", "prometheus_server", ""),
        ("manager --log -4", "vip_loglevel", "-4"),
        ("manager -n kube", "cp_namespace", "kube"),
        ("manager -n=kube", "cp_namespace", "kube"),
        ("manager -nkube", "cp_namespace", "kube"),
        ("manager -c plndr", "vip_configmap", "plndr"),
        ("manager --servicesInterface=a", "vip_servicesinterface", "a"),
        ("manager --loseLeadershiptTimeoutSeconds 9", "vip_loseleadership_timeout_seconds", "9"),
        ("manager --startAsLeader", "vip_startleader", "true"),
        ("manager --config-file /f", "config_file", "/f"),
        ("manager --fence off", "edgevip_fence", "off"),
    ];
    for (line, setting, text) in cases {
        assert_eq!(flags(line), [(setting.to_owned(), text.to_owned())], "{line}");
    }
    let off = resolved(&env(&[]), "manager --prometheusHTTPServer= --address=10.0.0.1").unwrap();
    assert_eq!(off.config.metrics, None);
}

#[test]
fn what_is_not_understood_is_named() {
    let cases = [
        ("manger", "manger: no such command; did you mean manager?"),
        ("zzz", "zzz: no such command"),
        ("manager --interfac eth0", "--interfac: no such flag; did you mean --interface?"),
        ("manager --qqqqqqqq", "--qqqqqqqq: no such flag"),
        ("manager -x", "-x: no such flag"),
        ("manager -arp", "-a: no such flag"),
        ("manager --interface", "--interface: needs a value"),
        ("manager --arp true", "edgevip manager true: Unrecognized argument: true"),
        ("status --instance", "edgevip status --instance: No value provided"),
        ("replay", "edgevip replay: Required positional arguments not provided: file"),
        (
            "members add n",
            "edgevip members add n: Required positional arguments not provided: addr",
        ),
        ("members add n n", "edgevip members add n n: Error parsing positional argument 'address'"),
        ("members zzz", "edgevip members zzz: Unrecognized argument: zzz"),
        ("move x n", "edgevip move x n: Error parsing positional argument 'vip' with value 'x'"),
        ("help zzz", "edgevip zzz --help: Unrecognized argument: zzz"),
        ("manifest pods", "edgevip manifest pods: Unrecognized argument: pods"),
        ("manifest pod --image", "edgevip manifest pod --image: No value provided"),
        ("manifst pod", "manifst: no such command; did you mean manifest?"),
        ("service", "service: a command of kube-vip"),
        ("start", "start: a command of kube-vip"),
    ];
    for (line, why) in cases {
        let faults = invocation(line).unwrap_err().to_string();
        assert!(faults.starts_with(why), "{line}: {faults}");
        assert_eq!(faults.contains("did you mean"), why.contains("did you mean"), "{faults}");
    }
    let both = invocation("manager --aaaaaaaa --bbbbbbbb").unwrap_err();
    assert_eq!(both.0.len(), 2, "{both}");
}

/// Every variable that kube-vip reads, and those it writes and does not read.
const VARIABLES: &str = "vip_loglevel instance_name vip_interface vip_interfaceloglobal \
    vip_loseleadership vip_loseleadership_timeout_seconds vip_servicesinterface \
    vip_allow_interface_not_up vip_leaderelection vip_leasename vip_leaseduration \
    vip_renewdeadline vip_retryperiod vip_leaseannotations vip_nodename vip_address address port \
    vip_ddns cp_namespace cp_enable cp_detect kubernetes_addr svc_enable svc_election \
    lb_class_only lb_class_name lb_class_legacy_handling svc_namespace svc_leasename vip_subnet \
    vip_singlenode annotation vip_startleader vip_arp vip_arpRate vip_preserve_on_leadership_loss \
    vip_wireguard vip_routingtable vip_routingtableid vip_routingtabletype vip_routingprotocol \
    vip_cleanroutingtable vip_skipdad dns_mode dhcp_mode dhcp_backoff_attempts \
    disable_service_updates bgp_enable bgp_attach_ip_to_interface bgp_routerinterface \
    bgp_routerid bgp_as bgp_peeras bgp_peers mpbgp_nexthop mpbgp_ipv4 mpbgp_ipv6 bgp_multihop \
    bgp_peerpass bgp_sourceif bgp_sourceip bgp_peeraddress bgp_hold_time bgp_keepalive_interval \
    control_plane_health_check_address control_plane_health_check_period_seconds \
    control_plane_health_check_timeout_seconds control_plane_health_check_failure_threshold \
    control_plane_health_check_ca_path zebra_enable zebra_url zebra_version zebra_software_name \
    lb_enable lb_port lb_fwdmethod enable_service_security enable_node_labeling \
    prometheus_server egress_podcidr egress_servicecidr egress_withnftables \
    per_service_election_on_demand egress_enableinternalsnat k8s_config_file enable_endpoints \
    mirror_dest_interface iptables_backend backend_health_check_interval health_check_port \
    enable_upnp egress_clean config_file vip_configmap debounce_time INSTANCE_NAME EGRESS_CLEAN";

/// What earlier releases read.
const RETIRED: &str = "vip_cidr enable_endpointslices bgp_source_if bgp_source_ip vip_packet \
    vip_packetproject vip_packetprojectid provider_config PACKET_AUTH_TOKEN vip_localpeer \
    vip_peers vip_remotepeers vip_addpeerstolb lb_bindtovip lb_name lb_type lb_backendport \
    lb_backends enableUPNP";

/// What asks for a capability that is not built.
const REFUSED: &str = "bgp_enable EGRESS_CLEAN egress_clean lb_enable \
    vip_ddns vip_routingtable vip_wireguard";

/// Every flag of kube-vip.
const FLAGS: &str = "log instanceName nodeName healthCheckPort prometheusHTTPServer config-file \
    configMap c arp bgp table wireguard controlplane services leaderElection servicesElection \
    perServiceElectionOnDemand leaderElectionType address vip port vipSubnet interface \
    serviceInterface allowInterfaceNotUp loInterfaceGlobalScope preserveVipOnLeadershipLoss \
    loseLeadership loseLeadershiptTimeoutSeconds ddns dnsMode dhcpMode dhcpBackoffAttempts \
    mirrorDestInterface leaseName servicesLeaseName namespace n leaseDuration leaseRenewDuration \
    leaseRetry etcdEndpoints etcdCACert etcdCert etcdKey lbClassOnly lbClassName \
    lbClassNameLegacyHandling disableServiceUpdates enableEndpoints \
    onlyAllowTrafficServicePorts enableNodeLabeling debounceTime enableLoadBalancer lbPort \
    lbForwardingMethod controlPlaneHealthCheckAddress controlPlaneHealthCheckPeriodSeconds \
    controlPlaneHealthCheckTimeoutSeconds controlPlaneHealthCheckFailureThreshold \
    controlPlaneHealthCheckCAPath bgpRouterID localAS bgppeers peerAddress peerAS peerPass \
    multihop sourceIF sourceIP bgpHoldTimer bgpKeepAliveInterval bgpAttachIPToInterface \
    annotations zebra zebraUrl zebraVersion zebraSoftwareName tableID tableType routingProtocol \
    cleanRoutingTable egressWithNftables k8sConfigPath autodetectcp cidr enableEndpointSlices \
    metal metalKey metalProject metalProjectID provider-config localPeer remotePeers \
    startAsLeader singleNode addPeersToLB lbBindToVip lbName lbType lbBackEndPort lbBackends \
    promethuesHTTPServer servicesInterface multiHop sourceif sourceip";

/// Every key of kube-vip's configuration file, by field and by tag.
const KEYS: &str = "logging interface servicesInterface vip vipSubnet address nodeName enableARP \
    enableBGP bgpAttachIPToInterface enableWireguard enableRoutingTable enableControlPlane \
    detectControlPlane enableServices enableServicesElection enableNodeLabeling \
    enableLoadBalancer ddns singleNode startAsLeader preserveVIPOnLeadershipLoss \
    serviceNamespace bgpConfig.routerID bgpConfig.sourceIF bgpConfig.sourceIP bgpConfig.peers \
    leaseAnnotations controlPlaneHealthCheck.address controlPlaneHealthCheck.caPath \
    healthCheckPort instanceName egressPodCidr egressServiceCidr mirrorDestInterface \
    iptablesBackend backendHealthCheckInterval annotations loadBalancers dhcpBackoffAttempts \
    debounceTime port namespace leaseName leaseDuration renewDeadline retryPeriod \
    servicesLeaseName loadBalancerPort loadBalancerForwardingMethod loadBalancerClassName \
    routingTableID routingTableType routingProtocol bgpConfig.AS bgpConfig.holdTime \
    bgpConfig.keepaliveInterval k8sConfigFile prometheusHTTPServer dnsMode dhcpMode \
    arpBroadcastRate loseLeadershipTimeoutSeconds enableLeaderElection leaderElectionType \
    etcd.endpoints kubernetesAddr loadBalancerClassOnly loadBalancerClassLegacyHandling \
    enableServiceSecurity loseLeadership allowInterfaceNotUp cleanRoutingTable skipDAD \
    bgpPeerConfig bgpPeers enableInternalSNAT egressWithNftables disableServiceUpdates \
    enableEndpoints loInterfaceGlobalScope enableUPNP egressClean perServiceElectionOnDemand \
    configFile lbClassOnly lbClassName lbClassNameLegacyHandling leaseNodeName lbPort \
    lbForwardingMethod dnsDualStackMode dhcpDualStackMode";

#[test]
fn every_variable_flag_and_key_of_kube_vip_is_known() {
    for name in words(VARIABLES).chain(words(RETIRED)) {
        assert!(settings::by_variable(name).is_some(), "variable {name}");
    }
    for name in words(FLAGS) {
        assert!(settings::by_flag(name).is_some(), "flag {name}");
    }
    for name in words(KEYS) {
        assert!(settings::by_key(name).is_some(), "key {name}");
    }
    assert_eq!(words(VARIABLES).count(), 98);
}

#[test]
fn exactly_what_asks_for_more_than_there_is_is_refused() {
    let refused: BTreeSet<_> = words(REFUSED).collect();
    for name in words(VARIABLES).chain(words(RETIRED)) {
        let setting = settings::by_variable(name).unwrap();
        assert_eq!(matches!(setting.standing, Standing::Asks(_)), refused.contains(name), "{name}");
        let value = if refused.contains(name) { "true" } else { continue };
        let mut env = env(&[("address", "10.0.0.42")]);
        env.push((name, value));
        let faults = resolved(&env, "manager").unwrap_err().to_string();
        assert!(faults.contains("not in this version"), "{name}: {faults}");
    }
    resolved(&env(&[("address", "10.0.0.42")]), "manager --leaderElectionType=kubernetes").unwrap();
}

#[test]
fn no_name_stands_for_two_settings() {
    let mut seen = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
    for it in settings::all() {
        let names = [it.env, it.flags, it.keys];
        for (seen, names) in seen.iter_mut().zip(names) {
            for name in names.split(' ').filter(|it| !it.is_empty()) {
                let earlier = seen.insert(name.to_ascii_lowercase(), it.name());
                assert!(earlier.is_none_or(|earlier| earlier == it.name()), "{name}");
            }
        }
        assert_eq!(it.kind.fault(it.default), None, "default of {}", it.name());
        assert!(!it.help.is_empty(), "help of {}", it.name());
    }
}

/// What kube-vip's generator adds to a manifest on one condition each, for announcing the
/// control plane by ARP.
const OPTIONS: &[&[(&str, &str)]] = &[
    &[("instance_name", "east")],
    &[("vip_interface", "eth0")],
    &[("vip_interface", "lo"), ("vip_interfaceloglobal", "true")],
    &[("vip_servicesinterface", "eth1")],
    &[("vip_allow_interface_not_up", "true")],
    &[("dhcp_backoff_attempts", "0")],
    &[("cp_detect", "true")],
    &[
        ("vip_leaderelection", "true"),
        ("vip_leasename", "plndr-cp-lock"),
        ("vip_leaseduration", "5"),
        ("vip_renewdeadline", "3"),
        ("vip_retryperiod", "1"),
    ],
    &[("vip_loseleadership", "30")],
    &[("enable_node_labeling", "true")],
    &[("annotation", "metal.equinix.com")],
    &[
        ("control_plane_health_check_address", "https://localhost:6443/livez"),
        ("control_plane_health_check_period_seconds", "5"),
        ("control_plane_health_check_timeout_seconds", "3"),
        ("control_plane_health_check_failure_threshold", "3"),
        ("control_plane_health_check_ca_path", "/etc/kubernetes/pki/ca.crt"),
    ],
    &[("prometheus_server", ":2112")],
    &[("enable_endpoints", "true")],
    &[("disable_service_updates", "true")],
    &[("mirror_dest_interface", "eth2")],
    &[("health_check_port", "8080")],
    &[("vip_preserve_on_leadership_loss", "true")],
    &[("debounce_time", "200ms")],
];

const ADDRESSES: [[(&str, &str); 2]; 7] = [
    [("address", "10.0.0.42"), ("vip_subnet", "32")],
    [("address", "10.0.0.42"), ("vip_subnet", "24")],
    [("address", "fd00::42"), ("vip_subnet", "128")],
    [("address", "10.0.0.42,fd00::42"), ("vip_subnet", "32,128")],
    [("address", "api.example.com"), ("vip_subnet", "32")],
    [("vip_address", "10.0.0.42"), ("vip_subnet", "32")],
    [("vip_address", "fd00::42"), ("vip_subnet", "")],
];

const DNS_MODES: [[(&str, &str); 2]; 4] = [
    [("dns_mode", "first"), ("dhcp_mode", "ipv4")],
    [("dns_mode", "ipv4"), ("dhcp_mode", "ipv4")],
    [("dns_mode", "ipv6"), ("dhcp_mode", "ipv6")],
    [("dns_mode", "dual"), ("dhcp_mode", "dual")],
];

#[test]
fn every_manifest_that_kube_vip_generates_for_what_is_built_starts() {
    let always = [("cp_namespace", "kube-system"), ("port", "6443"), ("prometheus_server", "")];
    let mut tried = 0;
    for options in 0_u32..1 << OPTIONS.len() {
        // All combinations of up to three options, and of all but up to three.
        let most = OPTIONS.len() as u32 - 3;
        if (4..most).contains(&options.count_ones()) {
            continue;
        }
        let chosen = OPTIONS.iter().enumerate().filter(|(n, _)| options >> n & 1 == 1);
        let chosen: Vec<_> = chosen.flat_map(|(_, it)| it.iter().copied()).collect();
        let address = ADDRESSES[tried % ADDRESSES.len()];
        let mode = DNS_MODES[tried % DNS_MODES.len()];
        let all: Vec<_> = always.into_iter().chain(address).chain(mode).chain(chosen).collect();
        let resolved = resolved(&env(&all), "manager").unwrap_or_else(|it| panic!("{all:?}: {it}"));
        assert!(resolved.warnings.len() <= 2, "{all:?}: {:?}", resolved.warnings);
        tried += 1;
    }
    assert_eq!(tried, 2 * (1 + 19 + 171 + 969));
}

#[test]
fn every_address_of_a_manifest_goes_with_every_mode_and_option() {
    for address in ADDRESSES {
        for mode in DNS_MODES {
            for option in OPTIONS {
                let all: Vec<_> = address.into_iter().chain(mode).chain(option.to_vec()).collect();
                resolved(&env(&all), "manager").unwrap_or_else(|it| panic!("{all:?}: {it}"));
            }
        }
    }
}

fn env<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let base = [("vip_arp", "true"), ("cp_enable", "true"), ("vip_nodename", "n1")];
    base.into_iter().chain(more.iter().copied()).collect()
}

fn resolved(env: &[(&str, &str)], line: &str) -> Result<Resolved, Faults> {
    resolve(&Sources {
        flags: invocation(line)?.flags,
        env: env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        hostname: "n1".into(),
        read: &|path: &Path| match path == Path::new("/key") {
            true => Ok("0123456789abcdef\n".into()),
            false => Err(io::ErrorKind::NotFound.into()),
        },
        is_open: &|_: &Path| false,
    })
}

fn command(line: &str) -> Command {
    invocation(line).unwrap_or_else(|faults| panic!("{line}: {faults}")).command
}

fn invocation(line: &str) -> Result<Invocation, Faults> {
    parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

fn words(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split_whitespace()
}

fn assert_same(file: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, now).expect("the files beside this one can be written");
    }
    let then = std::fs::read_to_string(&path).expect("UPDATE=1 writes what is missing");
    assert!(then == now, "{file} is not what is printed; UPDATE=1 writes it:\n{now}");
}
