use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::config::sources::{Origin, take_flags};

#[test]
fn the_defaults_are_those_of_kube_vip() {
    let config = resolved("address=10.0.0.42", "", &[]).config;
    let expected = Config {
        node: NodeName("host-1".into()),
        instance: None,
        vips: vec![VipSetting::Address("10.0.0.42".parse().unwrap())],
        dns_mode: DnsMode::First,
        port: 6443,
        length_v4: 32,
        length_v6: 128,
        link: None,
        refresh: Duration::from_secs(3),
        skip_dad: false,
        lo_global_scope: false,
        preserve: false,
        fence: FenceSetting::Auto,
        lease: LeaseSettings {
            namespace: "kube-system".into(),
            name: "plndr-cp-lock".into(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            annotations: BTreeMap::new(),
        },
        services: None,
        raft: None,
        kube: KubeSettings {
            kubeconfigs: [kubeconfig::ADMIN]
                .iter()
                .chain(&kubeconfig::OTHERS)
                .map(PathBuf::from)
                .collect(),
            explicit: false,
            server: None,
            detect: false,
            port: 6443,
            in_cluster: None,
        },
        label_node: false,
        health_port: None,
        metrics: Some(":2112".into()),
        notify: None,
        record: None,
        log_level: 0,
        log_format: LogFormat::Text,
    };
    assert_eq!(config, expected);
}

#[test]
fn a_variable_beats_a_flag_beats_the_file_beats_the_default() {
    let cases = [
        ("", "", "", 6443, "default"),
        ("", "", "port = 1", 1, "file /etc/edgevip.toml"),
        ("", "--Port=2", "port = 1", 2, "flag --Port"),
        ("port=3", "--port 2", "port = 1", 3, "variable port"),
        ("port=", "", "port = 1", 1, "file /etc/edgevip.toml"),
        ("", "--port=6443", "port = 1", 6443, "flag --port"),
    ];
    for (env, flags, file, port, origin) in cases {
        let env = format!("address=10.0.0.42;config_file=/etc/edgevip.toml;{env}");
        let resolved = resolved(&env, flags, &[("/etc/edgevip.toml", file)]);
        assert_eq!(resolved.config.port, port, "{env} {flags} {file}");
        let explained = resolved.explained.iter().find(|it| it.setting.name() == "port").unwrap();
        assert_eq!(explained.origin.to_string(), origin, "{env} {flags} {file}");
        assert_eq!(explained.value, port.to_string());
    }
}

#[test]
fn every_kind_of_file_is_understood() {
    let yaml = "address: 10.0.0.42, fd00::42\nenableARP: yes\nenableControlPlane: true\n\
                leaseDuration: 20\nleaseAnnotations: {a: b}\nbgpConfig:\n  AS: 7\n  \
                peers: [{address: x}]\n\
                controlPlaneHealthCheck: {address: 'http://x'}\nnodeName: N2\n";
    let json = r#"{"ADDRESS": "10.0.0.42,fd00::42", "enablearp": true, "enableControlPlane": true,
        "leaseDuration": 20, "leaseAnnotations": {"a": "b"}, "leaseNodeName": "n2"}"#;
    let toml = "address = ['10.0.0.42', 'fd00::42']\nvip_arp = true\ncp_enable = true\n\
                vip_leaseduration = '20s'\nleaseannotations = {a = 'b'}\nnodeName = 'n2'\n";
    for (path, text) in [("/f.yaml", yaml), ("/f.YML", yaml), ("/f.json", json), ("/f.toml", toml)]
    {
        let flags = format!("--config-file={path}");
        let Resolved { config, warnings, .. } = resolve_all("", &flags, &[(path, text)]).unwrap();
        assert_eq!(config.vips.len(), 2, "{path}");
        assert_eq!(config.lease.duration, Duration::from_secs(20), "{path}");
        assert_eq!(config.lease.annotations, BTreeMap::from([("a".into(), "b".into())]), "{path}");
        assert_eq!(config.node, NodeName("n2".into()), "{path}");
        assert_eq!(warnings.len(), 2 * usize::from(text == yaml), "{path}: {warnings:?}");
    }
}

#[test]
fn a_file_that_is_no_use_is_a_fault() {
    let cases = [
        ("/none.toml", "", "No such file"),
        ("/f.conf", "a", "of unknown kind"),
        ("/f.toml", "a = ", "unexpected eof"),
        ("/f.json", "[]", "not a table"),
        ("/f.yaml", "a: *b", "config_file=/f.yaml"),
        ("/f.toml", "port = 'x'", "/f.toml: port=x: not a whole number"),
    ];
    for (path, text, why) in cases {
        let env = format!("{GOOD};config_file={path}");
        let files = [(path, text)];
        let files = if path == "/none.toml" { &[][..] } else { &files[..] };
        let faults = resolve_all(&env, "", files).unwrap_err().to_string();
        assert!(faults.contains(why), "{path}: {faults}");
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let env = "vip_arp=yes;bgp_enable=true;cp_enable=true;svc_enable=true;port=0;\
               svc_leasename=A/b;svc_namespace=A;KUBEVIP_CONFIG_MAP=/;vip_leaseduration=abc;\
               vip_subnet=/24;address=10.0.0.300;vip_leaseannotations=[];health_check_port=80;\
               edgevip_fence=maybe;prometheus_server=2112;leaderElectionType=etcd;\
               instance_name=a/b;vip_interface=a/b;vip_nodename=a/b;vip_retryperiod=0";
    let faults = resolve_all(env, "--leaseRenewDuration=x", &[]).unwrap_err();
    let named: Vec<_> = faults.0.iter().map(|it| it.setting.as_str()).collect();
    let all = [
        "vip_arp",
        "bgp_enable",
        "svc_leasename",
        "svc_namespace",
        "KUBEVIP_CONFIG_MAP",
        "vip_leaseduration",
        "port",
        "vip_subnet",
        "address",
        "vip_leaseannotations",
        "health_check_port",
        "edgevip_fence",
        "prometheus_server",
        "leaderElectionType",
        "instance_name",
        "vip_interface",
        "vip_nodename",
        "vip_retryperiod",
        "--leaseRenewDuration",
    ];
    for setting in all {
        assert!(named.contains(&setting), "{setting}: {faults}");
    }
    let said = "vip_leaseduration=abc: not a duration; give whole seconds such as 15, or a number \
                with a unit such as 1500ms\n";
    assert!(faults.to_string().contains(said), "{faults}");
    assert!(faults.to_string().contains("bgp_enable=true: BGP is not in this version"), "{faults}");
}

#[test]
fn one_mode_and_one_feature_are_needed() {
    let cases = [
        ("cp_enable=true;address=10.0.0.1", vec!["vip_arp=false"]),
        ("vip_arp=true;address=10.0.0.1", vec!["cp_enable=false"]),
        ("vip_arp=true;cp_enable=true", vec!["address="]),
        ("vip_arp=true;cp_enable=true;address=, ", vec!["address=, "]),
        ("vip_arp=true;cp_enable=true;address=\t,\n", vec!["address=\t,\n"]),
        ("vip_wireguard=true;cp_enable=true;address=10.0.0.1", vec!["vip_wireguard=true"]),
        (
            "vip_arp=true;bgp_enable=true;cp_enable=true;address=10.0.0.1",
            vec!["bgp_enable=true", "vip_arp=true"],
        ),
    ];
    for (env, expected) in cases {
        let faults = resolve_all(env, "", &[]).unwrap_err();
        let named = faults.0.iter().map(|it| it.to_string());
        let named: Vec<_> = named.map(|it| it.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(named, expected, "{env}");
    }
}

#[test]
fn vips_are_addresses_or_names() {
    let address = |it: &str| VipSetting::Address(it.parse().unwrap());
    let name = |it: &str| VipSetting::Name(it.into());
    let cases = [
        ("address=10.0.0.1", vec![address("10.0.0.1")]),
        ("address= fd00::1 ,10.0.0.1,", vec![address("fd00::1"), address("10.0.0.1")]),
        ("address=10.0.0.1,10.0.0.1", vec![address("10.0.0.1")]),
        ("address=API.example.com", vec![name("api.example.com")]),
        ("address=a.b.;vip_address=10.0.0.9", vec![name("a.b.")]),
        ("address=;vip_address=10.0.0.9", vec![address("10.0.0.9")]),
    ];
    for (env, vips) in cases {
        assert_eq!(resolved(env, "", &[]).config.vips, vips, "{env}");
    }
    let wrong = [
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "::ffff:10.0.0.1",
        "10.0.0.1/24",
        "10.0.0",
        "a b",
        ".",
        "a..b",
        "[::1]",
        "https://a",
    ];
    for text in wrong {
        let faults = resolve_all(&format!("{GOOD};address={text}"), "", &[]).unwrap_err();
        assert_eq!(faults.0.len(), 1, "{text}: {faults}");
    }
}

#[test]
fn a_prefix_length_is_that_of_its_family() {
    let cases = [
        ("10.0.0.1", "", (32, 128)),
        ("10.0.0.1", "24", (24, 128)),
        ("10.0.0.1", " 24 , 64 ", (24, 64)),
        ("10.0.0.1,fd00::1", "32", (32, 128)),
        ("10.0.0.1,fd00::1", "64", (32, 64)),
        ("fd00::1", "128", (32, 128)),
        ("fd00::1", "32", (32, 128)),
        ("fd00::1", "64", (32, 64)),
        ("name.example", "64", (32, 64)),
    ];
    for (address, subnet, lengths) in cases {
        for name in ["vip_subnet", "vip_cidr"] {
            let env = format!("address={address};{name}={subnet}");
            let config = resolved(&env, "", &[]).config;
            assert_eq!((config.length_v4, config.length_v6), lengths, "{env}");
        }
    }
    let cases = [
        ("auto", "only for Services"),
        ("32,auto", "only for Services"),
        ("/24", "without the slash: 24"),
        ("/24,/64", "without the slash: 24,64"),
        ("0", "not a prefix length"),
        ("129", "not a prefix length"),
        ("128,32", "not a prefix length"),
        ("x", "not a prefix length"),
        ("32,128,1", "more than two"),
        ("64", "not a length for IPv4"),
    ];
    for (subnet, why) in cases {
        let env = format!("{GOOD};vip_subnet={subnet}");
        let faults = resolve_all(&env, "", &[]).unwrap_err();
        assert!(faults.0.len() == 1 && faults.to_string().contains(why), "{subnet}: {faults}");
    }
    let current = resolved("address=10.0.0.1;vip_subnet=24;vip_cidr=16", "", &[]).config;
    assert_eq!(current.length_v4, 24, "the name of today goes before the retired one");
}

#[test]
fn the_times_of_a_lease_fit_together() {
    let cases = [
        ("15", "10", "2", "auto", ""),
        ("5", "3", "1", "auto", ""),
        ("3", "2", "500ms", "auto", ""),
        ("1500ms", "1s", "0.1s", "auto", ""),
        ("15", "15", "2", "auto", "vip_leaseduration=15: must be more than vip_renewdeadline"),
        ("15", "2", "2", "auto", "vip_renewdeadline=2: must be more than 1.2 times"),
        ("15", "2.4s", "2", "auto", "vip_renewdeadline=2.4s: must be"),
        ("15", "10", "0", "auto", "vip_retryperiod=0"),
        ("11", "10", "2", "off", "at least 1.3s more"),
        ("11.3s", "10", "2", "off", ""),
    ];
    for (lease, renew, retry, fence, why) in cases {
        let env = format!(
            "{GOOD};vip_leaseduration={lease};vip_renewdeadline={renew};vip_retryperiod={retry};\
             edgevip_fence={fence}"
        );
        match resolve_all(&env, "", &[]) {
            Ok(_) => assert_eq!(why, "", "{env}"),
            Err(faults) => {
                assert!(!why.is_empty() && faults.to_string().contains(why), "{env}: {faults}");
            }
        }
    }
}

#[test]
fn a_lease_has_a_namespace_from_its_name_or_the_pod_or_the_settings() {
    let pod = ("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "mine\n");
    let cases = [
        ("", &[][..], "kube-system", "plndr-cp-lock"),
        ("cp_namespace=other", &[], "other", "plndr-cp-lock"),
        ("cp_namespace=other", &[pod], "mine", "plndr-cp-lock"),
        ("vip_leasename=a/b;cp_namespace=other", &[pod], "a", "b"),
    ];
    for (env, files, namespace, name) in cases {
        let lease = resolved(&format!("{env};address=10.0.0.1"), "", files).config.lease;
        assert_eq!((lease.namespace.as_str(), lease.name.as_str()), (namespace, name), "{env}");
    }
    for wrong in ["vip_leasename=a/b/c", "vip_leasename=/b", "vip_leasename=A", "cp_namespace=a.b"]
    {
        assert!(resolve_all(&format!("{GOOD};{wrong}"), "", &[]).is_err(), "{wrong}");
    }
}

#[test]
fn oddities_of_kube_vip_are_kept_or_mended() {
    let config = |env: &str| resolved(&format!("address=10.0.0.1;{env}"), "", &[]).config;
    assert_eq!(config("prometheus_server=").metrics, None);
    assert_eq!(config("vip_nodename=Node-A").node, NodeName("node-a".into()));
    assert_eq!(config("vip_interface=auto").link, None);
    assert_eq!(config("health_check_port=0").health_port, None);
    assert_eq!(config("health_check_port=1024").health_port, Some(1024));
    assert_eq!(config("dns_mode=DUAL").dns_mode, DnsMode::Dual);
    assert_eq!(config("dns_mode=whatever").dns_mode, DnsMode::First);
    assert_eq!(config("INSTANCE_NAME=a").instance.as_deref(), Some("a"));
    assert_eq!(config("INSTANCE_NAME=a;instance_name=b").instance.as_deref(), Some("b"));
    assert_eq!(config("vip_loseleadership=30").port, 6443);
    assert_eq!(config("vip_loglevel=-4").log_level, -4);
    for (rate, millis) in [("0", 3000), ("-1", 3000), ("499", 3000), ("500", 500)] {
        let resolved = resolved(&format!("address=10.0.0.1;vip_arpRate={rate}"), "", &[]);
        assert_eq!(resolved.config.refresh, Duration::from_millis(millis), "{rate}");
        assert_eq!(resolved.warnings.is_empty(), millis == 500, "{rate}");
    }
}

#[test]
fn an_instance_name_leaves_room_for_the_rest_of_a_socket_path() {
    let named = |length| {
        let name = "a".repeat(length);
        resolve_all(&format!("{GOOD};instance_name={name}"), "", &[]).map(|it| it.config.instance)
    };
    assert_eq!(named(66), Ok(Some("a".repeat(66))));
    let faults = named(67).unwrap_err().to_string();
    assert!(faults.contains("instance_name=aaa") && faults.contains("more than 66"), "{faults}");
}

#[test]
fn what_has_no_effect_is_said_once() {
    let env = "address=10.0.0.1;bgp_as=1;bgp_peerpass=hush;per_service_election_on_demand=true;\
               lb_class_name=;dhcp_mode=ipv4;svc_enable=0;vip_singlenode=true;vip_loseleadership=true;\
               enable_endpointslices=true;PACKET_AUTH_TOKEN=hush;vip_startleader=false";
    let Resolved { warnings, infos, explained, .. } = resolved(env, "", &[]);
    let idle = "without effect, for it is not in this version: bgp_as (BGP), bgp_peerpass (BGP)";
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].starts_with("PACKET_AUTH_TOKEN: "), "{warnings:?}");
    assert_eq!(warnings[1], idle);
    assert_eq!(warnings[2], "without effect where a Kubernetes Lease elects: vip_singlenode");
    assert_eq!(infos.len(), 1, "{infos:?}");
    assert!(infos[0].contains("vip_loseleadership"), "{infos:?}");
    assert!(infos[0].contains("lb_class_name (svc_enable is false)"), "{infos:?}");
    assert!(!crate::config::explain::values(&explained).contains("hush"));
}

#[test]
fn an_unknown_variable_is_named_with_the_one_that_was_meant() {
    let env = "address=10.0.0.1;vip_leasduration=1;VIP_ARP=true;bgp_whatever=1;PATH=/bin;\
               VIP_SERVICE_HOST=1;ADDRESS=x;PORT=1";
    let warnings = resolved(env, "", &[]).warnings;
    let expected = [
        "VIP_ARP: no such setting; did you mean vip_arp?",
        "bgp_whatever: no such setting",
        "vip_leasduration: no such setting; did you mean vip_leaseduration?",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn the_environment_names_kubeconfig_and_service_account() {
    let env = "address=10.0.0.1;HOME=/root;KUBERNETES_SERVICE_HOST=fd00::1;\
               KUBERNETES_SERVICE_PORT=443;k8s_config_file=/own";
    let kube = resolved(env, "", &[]).config.kube;
    assert_eq!(kube.in_cluster.as_deref(), Some("[fd00::1]:443"));
    assert!(kube.explicit);
    assert_eq!(kube.kubeconfigs.first(), Some(&PathBuf::from("/own")));
    assert_eq!(kube.kubeconfigs.last(), Some(&PathBuf::from("/root/.kube/config")));
    for usual in ["/etc/kubernetes/admin.conf", "/root/.kube/config"] {
        let kube = resolved(&format!("{env};k8s_config_file={usual}"), "", &[]).config.kube;
        assert!(!kube.explicit, "{usual}");
        assert_eq!(kube.kubeconfigs.first(), Some(&PathBuf::from(kubeconfig::ADMIN)));
    }
}

#[test]
fn a_kubeconfig_is_found_where_systemd_puts_it() {
    let first = |env: &str, text: &str| {
        let handed = ("/run/c/k8s_config_file", text);
        resolved(&format!("address=10.0.0.1;{env}"), "", &[handed])
            .config
            .kube
            .kubeconfigs
            .remove(0)
    };
    let env = "CREDENTIALS_DIRECTORY=/run/c";
    assert_eq!(first(env, "{}"), PathBuf::from("/run/c/k8s_config_file"));
    assert_eq!(first(env, "\n"), PathBuf::from(kubeconfig::ADMIN));
    assert_eq!(first("CREDENTIALS_DIRECTORY=/run", "{}"), PathBuf::from(kubeconfig::ADMIN));
    assert_eq!(first(&format!("{env};k8s_config_file=/own"), "{}"), PathBuf::from("/own"));
}

#[test]
fn a_setting_that_works_is_always_explained() {
    let explained = resolved("address=10.0.0.1", "--lbPort=1", &[]).explained;
    let found = |name: &str| explained.iter().find(|it| it.setting.name() == name);
    assert_eq!(found("vip_arpRate").unwrap().origin, Origin::Default);
    assert_eq!(found("lb_port").unwrap().origin, Origin::Flag("--lbPort".into()));
    assert_eq!(found("lb_fwdmethod"), None);
}

const GOOD: &str = "vip_arp=true;cp_enable=true;address=10.0.0.42";

pub(super) fn resolved(env: &str, flags: &str, files: &[(&str, &str)]) -> Resolved {
    resolve_all(&format!("vip_arp=true;cp_enable=true;{env}"), flags, files)
        .unwrap_or_else(|faults| panic!("{env} {flags}: {faults}"))
}

pub(super) fn resolve_all(
    env: &str,
    flags: &str,
    files: &[(&str, &str)],
) -> Result<Resolved, Faults> {
    let args: Vec<_> = flags.split_whitespace().map(str::to_owned).collect();
    let line = take_flags(&args, &[]);
    assert!(line.rest.is_empty() && line.faults.is_empty(), "{line:?}");
    let pairs = env.split(';').filter_map(|it| it.split_once('='));
    let read = |path: &Path| match files.iter().find(|(it, _)| path == Path::new(it)) {
        Some((_, text)) => Ok((*text).to_owned()),
        None => Err(io::Error::from_raw_os_error(2)),
    };
    resolve(&Sources {
        flags: line.flags,
        env: pairs.map(|(name, value)| (name.trim().into(), value.into())).collect(),
        hostname: "Host-1".into(),
        read: &read,
        is_open: &|path: &Path| path.ends_with("open"),
    })
}
