//! The settings that work.

use super::super::values::Kind::{
    Bool, Brief, Duration, Listen, Map, Millis, OneOf, Peer, Peers, Text, Whole, WholeOrOff,
};
use super::{Setting, built, lease, raft};

/// What works.
pub static BUILT: &[Setting] = &[
    built("vip_arp", "arp", "enableARP").is(
        Bool,
        "false",
        "Announce the VIP on the link, by ARP and NDP, from the elected node.",
    ),
    built("cp_enable", "controlplane", "enableControlPlane").is(
        Bool,
        "false",
        "Carry the VIP of the control plane.",
    ),
    built("address", "address", "address").is(
        Text,
        "",
        "The VIP: an IPv4 or IPv6 address, a DNS name, or a comma-separated list.",
    ),
    built("vip_address", "vip", "vip").is(
        Text,
        "",
        "Older name of address, used where that is empty.",
    ),
    built("port", "port", "port").is(
        Whole(1, 65535),
        "6443",
        "Port of the API server on this node.",
    ),
    built("vip_subnet vip_cidr", "vipSubnet cidr", "vipSubnet").is(
        Text,
        "",
        "Prefix length: one number, or those of IPv4 and IPv6, such as 32,128.",
    ),
    built("vip_interface", "interface", "interface").is(
        Text,
        "",
        "Link for the VIP; empty: the one with its subnet, else the default route's.",
    ),
    built("vip_interfaceloglobal", "loInterfaceGlobalScope", "").is(
        Bool,
        "false",
        "On the loopback link, give the VIP global instead of host scope.",
    ),
    built("vip_skipdad", "skipDAD", "").is(
        Bool,
        "false",
        "Claim IPv6 VIPs without asking first whether they are free.",
    ),
    built("vip_preserve_on_leadership_loss", "preserveVipOnLeadershipLoss", "").is(
        Bool,
        "false",
        "Keep IPv4 VIPs, silent, until another leader is seen.",
    ),
    built("vip_arpRate", "arpRate", "arpBroadcastRate").is(
        Millis,
        "3000",
        "Milliseconds between announcements after the first burst, 500 a second of all VIPs at most.",
    ),
    built("dns_mode", "dnsMode", "dnsDualStackMode").is(
        Text,
        "first",
        "Which addresses of a DNS name to use: first, ipv4, ipv6 or dual.",
    ),
    lease("vip_leaderelection", "leaderElection", "enableLeaderElection").is(
        Bool,
        "false",
        "Hold an election; when announcing by ARP and NDP there always is one.",
    ),
    built("leaderElectionType", "leaderElectionType", "").is(
        OneOf(&["kubernetes", "raft", "etcd"]),
        "kubernetes",
        "Where the election is held: by a Kubernetes Lease, or by raft among the members.",
    ),
    built("vip_leasename", "leaseName", "").is(
        Text,
        "plndr-cp-lock",
        "Name of the Lease, or its namespace/name.",
    ),
    built("cp_namespace", "namespace n", "").is(
        Text,
        "kube-system",
        "Namespace of the Lease, outside of a Pod.",
    ),
    built("vip_leaseduration", "leaseDuration", "").is(
        Duration,
        "15",
        "How long the Lease is good for others after its last renewal.",
    ),
    lease("vip_renewdeadline", "leaseRenewDuration", "renewDeadline").is(
        Duration,
        "10",
        "How long a leader leads on after its last renewal.",
    ),
    lease("vip_retryperiod", "leaseRetry", "retryPeriod").is(
        Duration,
        "2",
        "Time between attempts to renew or to get the Lease.",
    ),
    built("vip_leaseannotations", "leaseAnnotations", "leaseAnnotations").is(
        Map,
        "",
        "JSON object of annotations for the Lease when it is created.",
    ),
    built("k8s_config_file", "k8sConfigPath", "k8sConfigFile").is(
        Text,
        "/etc/kubernetes/admin.conf",
        "Kubeconfig to prefer over the usual ones; off: no API server, where raft elects.",
    ),
    built("kubernetes_addr", "kubernetesAddr", "").is(
        Text,
        "",
        "API server to use instead of the kubeconfig's: a URL or host:port.",
    ),
    built("cp_detect", "autodetectcp", "detectControlPlane").is(
        Bool,
        "false",
        "Find the API server by the certificate it serves on loopback.",
    ),
    built("vip_nodename", "nodeName", "leaseNodeName").is(
        Text,
        "",
        "Name of this node, as Kubernetes has it; empty: the host name.",
    ),
    built("enable_node_labeling", "enableNodeLabeling", "").is(
        Bool,
        "false",
        "Label the node with the VIP, and with the Services, that it answers for.",
    ),
    built("instance_name INSTANCE_NAME", "instanceName", "").is(
        Text,
        "",
        "Tells several instances on one host apart.",
    ),
    built("health_check_port", "healthCheckPort", "").is(
        WholeOrOff(1024, 65535),
        "0",
        "Serve /healthz, /livez and /readyz on this port; 0: do not.",
    ),
    built("prometheus_server", "prometheusHTTPServer promethuesHTTPServer", "").is(
        Listen,
        ":2112",
        "Serve /metrics on this address; empty: do not.",
    ),
    built("vip_loglevel", "log", "logging").is(
        Whole(i32::MIN as i64, i32::MAX as i64),
        "0",
        "Least level shown: -4 debug, 0 info, 4 warn, 8 error.",
    ),
    built("config_file", "config-file", "configFile").is(
        Text,
        "",
        "Settings file: ours as .toml, kube-vip's as .json, .yaml or .yml.",
    ),
    built("edgevip_fence", "fence", "").is(
        OneOf(&["auto", "off", "required"]),
        "auto",
        "Whether nftables keep a VIP silent that is not ours to answer for.",
    ),
    built("edgevip_log_format", "logFormat", "").is(
        OneOf(&["text", "json"]),
        "text",
        "Log for people or for machines.",
    ),
    built("edgevip_notify", "notify", "").is(
        Text,
        "",
        "Command to run when a VIP comes, goes or is at fault.",
    ),
    built("edgevip_record", "record", "").is(
        Text,
        "",
        "File to write every input to, for edgevip replay.",
    ),
    raft("vip_localpeer", "localPeer", "localPeer").is(
        Peer,
        "",
        "This member, as id:address:port; empty: the one of vip_peers with this node's name.",
    ),
    raft("vip_peers vip_remotepeers", "remotePeers", "remotePeers").is(
        Peers,
        "",
        "The members, with commas; one that only votes has :witness after it.",
    ),
    raft("vip_raft_discover", "discover", "").is(
        WholeOrOff(1, 7),
        "0",
        "So many members found the quorum, and find each other on the link; 0: vip_peers has them.",
    ),
    raft("vip_raft_port", "raftPort", "").is(
        Whole(1, 65535),
        "10000",
        "Port of all members that find each other on the link.",
    ),
    raft("vip_raft_members", "raftMembers", "").is(
        OneOf(&["peers", "nodes"]),
        "peers",
        "Who the members are: those of vip_peers, or the Nodes of the control plane.",
    ),
    raft("vip_startleader", "startAsLeader", "startAsLeader").is(
        Bool,
        "false",
        "Found the cluster without waiting for the others.",
    ),
    raft("vip_singlenode", "singleNode", "singleNode").is(
        Bool,
        "false",
        "This member is the only one.",
    ),
    raft("vip_keyfile", "keyFile", "keyFile").is(
        Text,
        "",
        "File with the key that all members share; a second line is the key before it.",
    ),
    raft("vip_raft_insecure", "raftInsecure", "").is(
        Bool,
        "false",
        "Run without a key: whoever reaches the members can take the VIP.",
    ),
    raft("vip_raft_profile", "raftProfile", "").is(
        OneOf(&["fast", "default", "calm", "slow"]),
        "default",
        "How quickly members suspect each other; slow is for Wi-Fi.",
    ),
    raft("vip_raft_heartbeat", "raftHeartbeat", "").is(
        Brief,
        "",
        "Milliseconds between heartbeats; empty: the profile's.",
    ),
    raft("vip_raft_promise", "raftPromise", "").is(
        Brief,
        "",
        "Milliseconds for which a VIP is promised to its holder; empty: the profile's.",
    ),
    raft("vip_raft_step", "raftStep", "").is(
        Brief,
        "",
        "Milliseconds between one candidate and the next; empty: the profile's.",
    ),
    raft("edgevip_state_dir", "state-dir", "").is(
        Text,
        "",
        "Folder for what must outlive a restart; empty: systemd's, else /var/lib/edgevip.",
    ),
    raft("edgevip_fail_back", "failBack", "").is(
        OneOf(&["never", "delayed", "at-once"]),
        "never",
        "When a VIP goes back to a member that is better placed.",
    ),
    raft("control_plane_health_check_address", "controlPlaneHealthCheckAddress", "")
        .key("controlPlaneHealthCheck.address")
        .is(
            Text,
            "",
            "URL that is 200 where this node is well; off: do not ask; empty: /livez here.",
        ),
    raft("control_plane_health_check_period_seconds", "controlPlaneHealthCheckPeriodSeconds", "")
        .key("controlPlaneHealthCheck.periodSeconds")
        .is(Duration, "500ms", "Time between checks."),
    raft("control_plane_health_check_timeout_seconds", "controlPlaneHealthCheckTimeoutSeconds", "")
        .key("controlPlaneHealthCheck.timeoutSeconds")
        .is(Duration, "500ms", "How long to wait for the answer; 0: as long as the period."),
    raft(
        "control_plane_health_check_failure_threshold",
        "controlPlaneHealthCheckFailureThreshold",
        "",
    )
    .key("controlPlaneHealthCheck.failureThreshold")
    .is(Whole(i32::MIN as i64, i32::MAX as i64), "3", "So many failures in a row count."),
    raft("control_plane_health_check_ca_path", "controlPlaneHealthCheckCAPath", "")
        .key("controlPlaneHealthCheck.caPath")
        .is(Text, "", "Whom to trust; empty: whoever answers."),
    raft("edgevip_check_command", "check-command", "").is(
        Text,
        "",
        "Command that exits with 0 where this node is well.",
    ),
    raft("edgevip_check_interval", "check-interval", "").is(
        Duration,
        "1s",
        "Time between its runs.",
    ),
    raft("edgevip_check_timeout", "check-timeout", "").is(
        Duration,
        "0s",
        "How long it may take; 0: as long as the interval.",
    ),
    raft("edgevip_check_rise", "check-rise", "").is(
        Whole(1, 1000),
        "2",
        "So many good runs in a row make the node well.",
    ),
    raft("edgevip_check_fall", "check-fall", "").is(
        Whole(1, 1000),
        "2",
        "So many bad runs in a row make the node ill.",
    ),
    raft("edgevip_check_weight", "check-weight", "").is(
        Whole(1, 254),
        "10",
        "Where all are ill, those whose failures weigh less carry.",
    ),
];
