use std::time::Duration;

use std::path::Path;

use super::*;
use crate::config::build::tests::{resolve_all, resolved};
use crate::config::{CheckSettings, Config, HealthSettings, explain, kubeconfig};
use crate::model::Member;

const KEY: (&str, &str) = ("/key", "0123456789abcdef\n");
const THREE: &str = "address=10.0.0.42;vip_peers=a:10.0.0.1:1,b:10.0.0.2:1,c:10.0.0.3:1";

#[test]
fn members_choose_raft_and_nothing_else_does() {
    let cases = [
        ("", false),
        ("vip_singlenode=true", false),
        ("vip_startleader=true", false),
        ("leaderElectionType=kubernetes", false),
        ("vip_localpeer=a:10.0.0.1:1", true),
        ("vip_peers=host-1:10.0.0.1:1", true),
        ("vip_remotepeers=host-1:10.0.0.1:1", true),
        ("leaderElectionType=raft;vip_singlenode=true", true),
    ];
    for (env, is_raft) in cases {
        let config = resolved(&format!("address=10.0.0.42;{env}"), "", &[]).config;
        assert_eq!(config.raft.is_some(), is_raft, "{env}");
    }
}

#[test]
fn the_defaults_of_raft_are_those_of_the_design() {
    let config = config(&format!("{THREE};vip_nodename=B;vip_leaseduration=5"));
    let voter = |it: &str| Member { address: it.parse().unwrap(), role: MemberRole::Voter };
    let expected = RaftSettings {
        discover: None,
        me: NodeName("b".into()),
        address: "10.0.0.2:1".parse().unwrap(),
        members: Members::from([
            (NodeName("a".into()), voter("10.0.0.1:1")),
            (NodeName("b".into()), voter("10.0.0.2:1")),
            (NodeName("c".into()), voter("10.0.0.3:1")),
        ]),
        from_nodes: false,
        keys: Some(RaftKeys {
            file: "/key".into(),
            current: b"0123456789abcdef".into(),
            previous: None,
        }),
        heartbeat: Duration::from_millis(30),
        promise: Duration::from_millis(120),
        step: Duration::from_millis(12),
        spread: Duration::from_millis(6),
        found_alone: false,
        state_dir: "/var/lib/edgevip".into(),
        health: Some(HealthSettings {
            url: "https://127.0.0.1:6443/livez".into(),
            verify: false,
            ca: None,
            interval: Duration::from_millis(500),
            timeout: Duration::from_millis(500),
            fall: 3,
        }),
        check: None,
        fail_back: FailBack::Never,
    };
    assert_eq!(config.raft, Some(expected));
    assert_eq!(config.node, NodeName("b".into()));
}

#[test]
fn this_member_is_the_local_one_or_the_one_with_this_nodes_name() {
    let others = "vip_peers=a:10.0.0.1:1,host-1:10.0.0.2:1:witness";
    let cases = [
        (format!("{others},b:10.0.0.3:1"), "host-1", 3, true),
        (format!("{others};vip_localpeer=B:10.0.0.3:1"), "b", 3, false),
        (format!("{others};vip_localpeer=a:10.0.0.1:1"), "a", 2, false),
        (format!("{others};vip_localpeer=host-1:10.0.0.2:1"), "host-1", 2, true),
        (format!("{others};vip_nodename=A"), "a", 2, false),
        (format!("{others};vip_nodename=A;vip_singlenode=1"), "a", 1, false),
        ("vip_localpeer=a:[fd00::1]:1".into(), "a", 1, false),
        ("leaderElectionType=raft;vip_singlenode=true".into(), "host-1", 1, false),
    ];
    for (env, me, members, witness) in cases {
        let raft = config(&format!("address=10.0.0.42;{env}")).raft.unwrap();
        assert_eq!((&*raft.me.0, raft.members.len()), (me, members), "{env}");
        let mine = raft.members[&raft.me];
        assert_eq!((mine.address, mine.role == MemberRole::Witness), (raft.address, witness));
        assert_eq!(raft.found_alone, env.contains("singlenode"), "{env}");
    }
}

#[test]
fn members_may_be_the_nodes() {
    let env = "address=10.0.0.42;vip_raft_members=nodes;vip_keyfile=/key;\
               vip_localpeer=a:10.0.0.1:7400;vip_startleader=true";
    let it = resolved(env, "", &[KEY]);
    let raft = it.config.raft.clone().unwrap();
    assert!(raft.from_nodes && !raft.found_alone);
    assert_eq!(raft.members.into_keys().collect::<Vec<_>>(), [NodeName("a".into())]);
    assert!(it.warnings.len() == 1 && it.warnings[0].contains("vip_startleader"), "{it:?}");
    // Others come, and have to be known.
    let insecure = "address=10.0.0.42;vip_raft_members=nodes;vip_localpeer=a:10.0.0.1:1";
    assert!(faults(insecure).contains("members know each other by a key"));
}

#[test]
fn there_is_an_api_server_where_this_node_has_a_way_to_it() {
    let env = "address=10.0.0.42;vip_localpeer=a:10.0.0.1:1;vip_keyfile=/key;HOME=/root";
    let pod = "KUBERNETES_SERVICE_HOST=10.96.0.1;KUBERNETES_SERVICE_PORT=443";
    type Files = &'static [(&'static str, &'static str)];
    let cases: [(&str, Files, bool); 8] = [
        ("", &[], false),
        ("", &[("/etc/kubernetes/admin.conf", "what it may")], true),
        ("", &[("/etc/rancher/k3s/k3s.yaml", "what it may")], true),
        ("", &[("/root/.kube/config", "of some other cluster")], false),
        ("k8s_config_file=/none", &[], true),
        (pod, &[], false),
        (pod, &[("/var/run/secrets/kubernetes.io/serviceaccount/token", "x")], true),
        ("k8s_config_file=off", &[("/etc/kubernetes/admin.conf", "x")], false),
    ];
    for (more, files, expected) in cases {
        let all: Vec<_> = files.iter().copied().chain([KEY]).collect();
        let kube = resolved(&format!("{env};{more}"), "", &all).config.kube;
        let read = |path: &Path| {
            let file = files.iter().find(|it| Path::new(it.0) == path);
            file.map(|it| it.1.to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        assert_eq!(kubeconfig::is_there(&kube, &read), expected, "{more} {files:?}");
    }
}

#[test]
fn members_that_cannot_be_are_refused() {
    let cases = [
        ("leaderElectionType=raft", "vip_localpeer=: nothing says who the members are"),
        ("vip_peers=a:10.0.0.1:1", "vip_peers has a, and this node is called host-1"),
        ("vip_peers=a", "vip_peers=a: \"a\" is not a member; give id:address:port"),
        ("vip_localpeer=a:x:1", "vip_localpeer=a:x:1: \"x\" is not an IP address"),
        ("vip_localpeer=a:10.0.0.1:1;vip_peers=b:10.0.0.1:1", "a has that address already"),
        ("vip_localpeer=a:10.0.0.1:1;vip_peers=a:10.0.0.2:1", "a is at 10.0.0.1:1 already"),
        ("vip_localpeer=a:10.0.0.1:1;vip_peers=b:[fd00::2]:1", "another family than 10.0.0.1:1"),
        ("vip_localpeer=a:10.0.0.42:1", "vip_localpeer=a:10.0.0.42:1: a VIP is now here"),
        ("vip_localpeer=a:10.0.0.1:1:witness", "witnesses carry nothing"),
        ("vip_localpeer=a:10.0.0.1:1;leaderElectionType=kubernetes", "with members raft elects"),
        ("leaderElectionType=etcd", "leaderElectionType=etcd: election by etcd is not in this"),
        (
            "vip_localpeer=a:10.0.0.1:1;enable_node_labeling=true;k8s_config_file=off",
            "enable_node_labeling=true: only the API server",
        ),
        ("vip_raft_members=nodes", "with the InternalIP of its Node"),
        (
            "vip_raft_members=nodes;vip_peers=host-1:10.0.0.1:1",
            "vip_raft_members=nodes: vip_peers is given too",
        ),
        (
            "vip_raft_members=nodes;vip_localpeer=a:10.0.0.1:1;k8s_config_file=off",
            "known by the API server only",
        ),
        ("vip_raft_members=all", "vip_raft_members=all: not known; give peers or nodes"),
        ("vip_localpeer=a:10.0.0.1:1;vip_leaseduration=0", "vip_leaseduration=0: must be"),
        ("vip_localpeer=a:10.0.0.1:1;vip_preserve_on_leadership_loss=1", "milliseconds"),
        ("vip_localpeer=a:10.0.0.1:1;address=vip.example", "address=vip.example: each member"),
    ];
    for (env, why) in cases {
        let faults = faults(&format!("address=10.0.0.42;vip_keyfile=/key;{env}"));
        assert!(faults.contains(why), "{env}: {faults}");
    }
}

#[test]
fn members_that_find_each_other_are_not_listed() {
    let key = "vip_keyfile=/key;vip_raft_discover=3";
    let of = |env: &str| config(&format!("address=10.0.0.42;{key};{env}")).raft.unwrap();
    let plain = of("");
    assert_eq!(plain.discover, Some(crate::config::DiscoverSettings { voters: 3 }));
    assert_eq!((&*plain.me.0, plain.address), ("host-1", "0.0.0.0:10000".parse().unwrap()));
    assert_eq!(plain.members.keys().collect::<Vec<_>>(), [&plain.me]);
    assert_eq!(of("vip_raft_port=7000").address, "0.0.0.0:7000".parse().unwrap());
    let own = of("vip_localpeer=w:10.0.0.9:7:witness");
    assert_eq!((&*own.me.0, own.address), ("w", "10.0.0.9:7".parse().unwrap()));
    assert_eq!(own.members[&own.me].role, MemberRole::Witness);
    let cases = [
        ("vip_peers=a:10.0.0.1:1", "vip_peers=a:10.0.0.1:1: members are not listed where"),
        ("vip_startleader=true", "vip_startleader=true: where vip_raft_discover finds"),
        ("vip_singlenode=true", "vip_singlenode=true: the only member has nobody to find"),
        ("vip_raft_insecure=true;vip_keyfile=", "without a key every stranger on the link would"),
        ("vip_keyfile=", "vip_keyfile=: members know each other by a key in a file"),
        ("vip_raft_discover=9", "vip_raft_discover=9: not a whole number from 1 to 7; 0"),
        ("vip_localpeer=a:10.0.0.1:1;vip_raft_port=2", "vip_raft_port=2: vip_localpeer=a:10.0.0.1"),
        ("leaderElectionType=kubernetes", "or vip_raft_discover is given too"),
    ];
    for (env, why) in cases {
        let faults = faults(&format!("address=10.0.0.42;{key};{env}"));
        assert!(faults.contains(why), "{env}: {faults}");
    }
}

#[test]
fn members_know_each_other_by_a_key() {
    let two = "0123456789abcdef\r\nfedcba9876543210\n\n";
    let cases = [
        ("vip_keyfile=/key", "0123456789abcdef", Ok(1)),
        ("vip_keyfile=/key", two, Ok(2)),
        ("vip_keyfile=/key", "0123456789abcde\n", Err("fewer than 16 bytes")),
        ("vip_keyfile=/key", "0123456789abcdef\nshort", Err("fewer than 16 bytes")),
        ("vip_keyfile=/key", "", Err("not one line with the key")),
        ("vip_keyfile=/key", "0123456789abcdef\n0123456789abcdef\n0123456789abcdef", Err("or two")),
        ("vip_keyfile=/none", "", Err("vip_keyfile=/none: cannot be read: No such file")),
        ("", "", Err("vip_keyfile=: members know each other by a key")),
        ("", "", Err("vip_raft_insecure=true")),
        ("vip_raft_insecure=true", "", Ok(0)),
        (
            "vip_raft_insecure=true;vip_keyfile=/key",
            two,
            Err("vip_raft_insecure=true is given too"),
        ),
        ("CREDENTIALS_DIRECTORY=/run", "", Err("members know each other")),
        ("CREDENTIALS_DIRECTORY=/blank", "", Err("members know each other")),
    ];
    for (env, text, expected) in cases {
        let env = format!("vip_arp=true;cp_enable=true;{THREE};vip_nodename=a;{env}");
        let resolved = resolve_all(&env, "", &[("/key", text), ("/blank/vip_keyfile", "\n")]);
        match (resolved, expected) {
            (Ok(it), Ok(count)) => {
                let keys = it.config.raft.unwrap().keys;
                let found = keys.map_or(0, |it| 1 + usize::from(it.previous.is_some()));
                assert_eq!(found, count, "{env}");
                assert_eq!(it.warnings.len(), usize::from(count == 0), "{:?}", it.warnings);
            }
            (Err(faults), Err(why)) => assert!(faults.to_string().contains(why), "{env}: {faults}"),
            (other, _) => panic!("{env}: {other:?}"),
        }
    }
    let alone = resolved("address=10.0.0.42;vip_localpeer=a:10.0.0.1:1", "", &[]);
    assert_eq!((alone.config.raft.unwrap().keys, alone.warnings.len()), (None, 0));
}

#[test]
fn a_key_is_found_where_systemd_puts_it_and_never_shown() {
    let env = format!("{THREE};vip_nodename=a;CREDENTIALS_DIRECTORY=/run/c");
    let it = resolved(&env, "", &[("/run/c/vip_keyfile", KEY.1)]);
    let keys = it.config.raft.clone().unwrap().keys.unwrap();
    assert_eq!(keys.file, Path::new("/run/c/vip_keyfile"));
    let shown = format!("{:?}{}", it.config, explain::values(&it.explained));
    assert!(!shown.contains("0123456789") && !shown.contains("48, 49"), "{shown}");
    assert!(shown.contains("vip_keyfile=/run/c/vip_keyfile (set)"), "{shown}");
    let open = format!("{THREE};vip_nodename=a;vip_keyfile=/open");
    let warnings = resolved(&open, "", &[("/open", KEY.1)]).warnings;
    assert_eq!(
        warnings,
        ["vip_keyfile=/open: everybody on this host can read it; take that away \
                           with `chmod o-r`"]
    );
}

#[test]
fn the_times_of_a_quorum_fit_together() {
    let cases = [
        ("", (30, 120, 12, 6), ""),
        ("vip_raft_profile=fast", (8, 40, 8, 4), ""),
        ("vip_raft_profile=calm", (40, 152, 12, 6), ""),
        ("vip_raft_profile=slow", (150, 600, 40, 20), ""),
        ("vip_raft_profile=slow;vip_raft_step=20ms", (150, 600, 20, 10), ""),
        ("vip_raft_heartbeat=20;vip_raft_promise=80ms", (20, 80, 12, 6), ""),
        ("vip_raft_promise=1m", (30, 60_000, 12, 6), ""),
        ("vip_raft_promise=78", (30, 78, 12, 6), "not two; for two give at least 114"),
        ("edgevip_fence=off;vip_raft_promise=8125", (30, 8125, 12, 6), ""),
    ];
    for (env, (heartbeat, promise, step, spread), warning) in cases {
        let env = format!("{THREE};vip_nodename=a;vip_keyfile=/key;{env}");
        let it = resolved(&env, "", &[KEY]);
        let raft = it.config.raft.unwrap();
        let found = [raft.heartbeat, raft.promise, raft.step, raft.spread];
        assert_eq!(found, [heartbeat, promise, step, spread].map(Duration::from_millis), "{env}");
        let warned = it.warnings.first().map_or("", String::as_str);
        assert!(warned.is_empty() == warning.is_empty() && warned.contains(warning), "{warned}");
    }
    let cases = [
        ("vip_raft_promise=77", "vip_raft_promise=77: one lost heartbeat would end it"),
        ("vip_raft_promise=77", "give at least 78, or a vip_raft_heartbeat of at most 29\n"),
        ("vip_raft_promise=10;vip_raft_step=2", "give at least 78\n"),
        ("vip_raft_heartbeat=1", "vip_raft_heartbeat=1: less than 2"),
        ("vip_raft_heartbeat=1.5", "vip_raft_heartbeat=1.5: not a number of milliseconds"),
        ("vip_raft_promise=60001", "vip_raft_promise=60001: more than a minute"),
        ("vip_raft_step=0", "vip_raft_step=0: not from 1 to vip_raft_promise (120)"),
        ("vip_raft_step=121", "vip_raft_step=121: not from 1"),
        ("vip_raft_profile=quick", "give fast or default or calm or slow"),
        ("edgevip_fence=off", "vip_raft_promise=120: must be at least 8125 where edgevip_fence"),
    ];
    for (env, why) in cases {
        let faults = faults(&format!("{THREE};vip_nodename=a;vip_keyfile=/key;{env}"));
        assert!(faults.contains(why) && faults.lines().count() == 1, "{env}: {faults}");
    }
}

#[test]
fn what_makes_a_node_ill_is_asked_or_run() {
    const AT: &str = "control_plane_health_check_address";
    let raft = |env: &str| config(&format!("{THREE};vip_nodename=a;{env}")).raft.unwrap();
    assert_eq!(raft(&format!("{AT}=off")).health, None);
    assert_eq!(raft("port=7443").health.unwrap().url, "https://127.0.0.1:7443/livez");
    let own = raft(&format!(
        "{AT}=http://[::1]:80/healthz;control_plane_health_check_period_seconds=5;\
         control_plane_health_check_timeout_seconds=0;control_plane_health_check_ca_path=/key;\
         control_plane_health_check_failure_threshold=0"
    ));
    let expected = HealthSettings {
        url: "http://[::1]:80/healthz".into(),
        verify: true,
        ca: Some("/key".into()),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        fall: 1,
    };
    assert_eq!(own.health, Some(expected));
    let check = raft("edgevip_check_command=/bin/well -q;edgevip_check_weight=254").check.unwrap();
    let expected = CheckSettings {
        command: "/bin/well -q".into(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 2,
        weight: 254,
    };
    assert_eq!(check, expected);
    assert_eq!(raft("edgevip_fail_back=at-once").fail_back, FailBack::AtOnce);
    assert_eq!(raft("edgevip_fail_back=delayed").fail_back, FailBack::Delayed);
    assert_eq!(raft("STATE_DIRECTORY=/a:/b").state_dir, Path::new("/a"));
    assert_eq!(raft("STATE_DIRECTORY=/a;edgevip_state_dir=/c").state_dir, Path::new("/c"));
    let cases = [
        (format!("{AT}=ftp://a"), "not a URL of http or https"),
        (format!("{AT}=https://"), "not a URL"),
        (format!("{AT}=https://a:x/"), "not a URL"),
        (format!("{AT}=https://10.0.0.42:6443/livez"), "the VIP is answered by whoever carries it"),
        ("control_plane_health_check_period_seconds=0".into(), "give 100ms or more"),
        ("edgevip_check_command=a;edgevip_check_interval=1ms".into(), "give 100ms or more"),
        ("edgevip_check_command=a;edgevip_check_timeout=2".into(), "longer than edgevip_check_int"),
        ("edgevip_check_weight=255".into(), "not a whole number from 1 to 254"),
    ];
    for (env, why) in cases {
        let faults = faults(&format!("{THREE};vip_nodename=a;vip_keyfile=/key;{env}"));
        assert!(faults.contains(why) && faults.lines().count() == 1, "{env}: {faults}");
    }
}

#[test]
fn what_is_odd_about_a_quorum_is_said() {
    let cases = [
        ("vip_peers=a:10.0.0.1:1,b:10.0.0.2:1", "with two voters neither may be lost"),
        ("vip_nodename=b;vip_localpeer=a:10.0.0.1:1", "members know this node as a"),
        ("vip_singlenode=true", "vip_peers: without effect, for vip_singlenode=true"),
        ("control_plane_health_check_address=https://x/", "whoever answers is believed"),
        ("control_plane_health_check_ca_path=/none", "until it can this node counts as ill"),
    ];
    for (env, why) in cases {
        let env = format!("{THREE};vip_nodename=a;vip_keyfile=/key;{env}");
        let warnings = resolved(&env, "", &[KEY]).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(why), "{env}: {warnings:?}");
    }
    let env = format!("{THREE};vip_nodename=a;vip_keyfile=/key;vip_retryperiod=1");
    let infos = resolved(&env, "", &[KEY]).infos;
    assert_eq!(infos, ["without effect where raft elects: vip_retryperiod"]);
}

#[test]
fn members_in_a_file_are_objects() {
    let yaml = "localPeer: {id: a, address: 10.0.0.1, port: 10000}\nremotePeers:\n- id: b\n  \
                address: 10.0.0.2\n  port: 10000\n- {id: w, address: 10.0.0.3, port: 1, witness: yes}\n\
                startAsLeader: true\naddress: 10.0.0.42\n";
    let toml = "address = '10.0.0.42'\nstartAsLeader = true\n\
                localPeer = {id = 'a', address = '10.0.0.1', port = 10000}\n\
                [[remotePeers]]\nid = 'b'\naddress = '10.0.0.2'\nport = 10000\n\
                [[remotePeers]]\nid = 'w'\naddress = '10.0.0.3'\nport = 1\nwitness = true\n";
    for (path, text) in [("/f.yaml", yaml), ("/f.toml", toml)] {
        let env = format!("config_file={path};vip_keyfile=/key");
        let it = resolved(&env, "", &[(path, text), KEY]);
        let raft = it.config.raft.unwrap();
        assert_eq!((raft.members.len(), raft.found_alone), (3, true), "{path}");
        assert_eq!(raft.members[&NodeName("w".into())].role, MemberRole::Witness, "{path}");
        let shown = explain::values(&it.explained);
        assert!(shown.contains("vip_peers=b:10.0.0.2:10000,w:10.0.0.3:1:witness "), "{shown}");
    }
}

fn config(env: &str) -> Config {
    resolved(&format!("{env};vip_keyfile=/key"), "", &[KEY]).config
}

fn faults(env: &str) -> String {
    let env = format!("vip_arp=true;cp_enable=true;{env}");
    resolve_all(&env, "", &[KEY]).expect_err(&env).to_string()
}
