//! The settings of kube-vip that do not work: not in this version, or never did.

use super::super::values::Kind::{Bool, Duration, Secret, Text, Whole};
use super::{Setting, asks, dead, gone, part};

const BGP: &str = "BGP";
const ROUTES: &str = "routing-table mode";
const BALANCER: &str = "load balancing";
const ETCD: &str = "election by etcd";
const DDNS: &str = "addresses by DHCP and dynamic DNS";
const EGRESS: &str = "egress";
const METAL: &str = "the provider's API is gone; write the BGP peers themselves";
const OLD_BALANCER: &str = "the balancer in user space is gone";

/// What asks for, or belongs to, a capability that is not in this version.
pub static NOT_BUILT: &[Setting] = &[
    asks("BGP", "bgp_enable", "bgp").key("enableBGP").is(Bool, "false", "Advertise by BGP."),
    asks(ROUTES, "vip_routingtable", "table").key("enableRoutingTable").is(
        Bool,
        "false",
        "Put routes into a kernel table.",
    ),
    asks("WireGuard mode", "vip_wireguard", "wireguard").key("enableWireguard").is(
        Bool,
        "false",
        "Carry VIPs in a tunnel.",
    ),
    asks(BALANCER, "lb_enable", "enableLoadBalancer").is(
        Bool,
        "false",
        "Spread connections over the control-plane nodes.",
    ),
    asks(DDNS, "vip_ddns", "ddns").is(Bool, "false", "Get the VIP by DHCP under its DNS name."),
    asks(EGRESS, "egress_clean EGRESS_CLEAN", "").key("egressClean").is(
        Bool,
        "false",
        "Clean egress rules at start.",
    ),
    part(BALANCER, "vip_addpeerstolb", "addPeersToLB").is(Bool, "false", "Members as backends."),
    part(DDNS, "dhcp_mode", "dhcpMode").key("dhcpDualStackMode").is(
        Text,
        "ipv4",
        "Families to ask for.",
    ),
    part(ETCD, "etcdEndpoints", "etcdEndpoints").key("etcd.endpoints").is(Text, "", "Servers."),
    part(ETCD, "etcdCACert", "etcdCACert").key("etcd.caFile").is(Text, "", "Whom to trust."),
    part(ETCD, "etcdCert", "etcdCert").key("etcd.clientCertFile").is(Text, "", "Certificate."),
    part(ETCD, "etcdKey", "etcdKey").key("etcd.clientKeyFile").is(Text, "", "Its key."),
    part("mirroring", "mirror_dest_interface", "mirrorDestInterface").is(
        Text,
        "",
        "Mirror their traffic to this link.",
    ),
    part(BALANCER, "lb_port", "lbPort").key("loadBalancerPort").is(
        Whole(0, 65535),
        "6443",
        "Port in front.",
    ),
    part(BALANCER, "lb_fwdmethod", "lbForwardingMethod").key("loadBalancerForwardingMethod").is(
        Text,
        "local",
        "How packets reach a backend.",
    ),
    part(BALANCER, "backend_health_check_interval", "").key("backendHealthCheckInterval").is(
        Whole(i32::MIN as i64, i32::MAX as i64),
        "0",
        "Seconds between checks.",
    ),
    part(BGP, "bgp_routerid", "bgpRouterID").key("bgpConfig.routerID").is(Text, "", "Router ID."),
    part(BGP, "bgp_routerinterface", "").is(Text, "", "Router ID from this link."),
    part(BGP, "bgp_as", "localAS").key("bgpConfig.AS").is(
        Whole(0, u32::MAX as i64),
        "65000",
        "Own AS.",
    ),
    part(BGP, "bgp_peers", "bgppeers")
        .key("bgpConfig.peers bgpPeers bgpPeerConfig")
        .is(Secret, "", "Peers."),
    part(BGP, "bgp_peeraddress", "peerAddress").is(Text, "", "One more peer."),
    part(BGP, "bgp_peeras", "peerAS").is(Whole(0, u32::MAX as i64), "65000", "Its AS."),
    part(BGP, "bgp_peerpass", "peerPass").is(Secret, "", "Its TCP MD5 key."),
    part(BGP, "bgp_multihop", "multihop").is(Bool, "false", "It is more than one hop away."),
    part(BGP, "bgp_sourceif bgp_source_if", "sourceIF").key("bgpConfig.sourceIF").is(
        Text,
        "",
        "Link of the sessions.",
    ),
    part(BGP, "bgp_sourceip bgp_source_ip", "sourceIP").key("bgpConfig.sourceIP").is(
        Text,
        "",
        "Own address of the sessions.",
    ),
    part(BGP, "bgp_hold_time", "bgpHoldTimer").key("bgpConfig.holdTime").is(
        Whole(0, u32::MAX as i64),
        "30",
        "Hold time in seconds.",
    ),
    part(BGP, "bgp_keepalive_interval", "bgpKeepAliveInterval")
        .key("bgpConfig.keepaliveInterval")
        .is(Whole(0, u32::MAX as i64), "10", "Seconds between keepalives."),
    part(BGP, "bgp_attach_ip_to_interface", "bgpAttachIPToInterface").is(
        Bool,
        "false",
        "Put VIPs on the link too.",
    ),
    part(BGP, "mpbgp_nexthop", "").key("bgpConfig.mpbgpNexthop").is(Text, "", "Next hop mode."),
    part(BGP, "mpbgp_ipv4", "").key("bgpConfig.mpbgpIPv4").is(Text, "", "Next hop for IPv4."),
    part(BGP, "mpbgp_ipv6", "").key("bgpConfig.mpbgpIPv6").is(Text, "", "Next hop for IPv6."),
    part(BGP, "annotation annotations", "annotations").is(
        Text,
        "",
        "Prefix of node annotations with BGP settings.",
    ),
    part(BGP, "zebra_enable", "zebra").key("zebra.enabled").is(Bool, "false", "Routes to FRR."),
    part(BGP, "zebra_url", "zebraUrl").key("zebra.url").is(
        Text,
        "unix:/var/run/frr/zserv.api",
        "Where FRR listens.",
    ),
    part(BGP, "zebra_version", "zebraVersion").key("zebra.version").is(
        Whole(0, u32::MAX as i64),
        "6",
        "Version of its protocol.",
    ),
    part(BGP, "zebra_software_name", "zebraSoftwareName").key("zebra.softwareName").is(
        Text,
        "frr8.3",
        "Which FRR.",
    ),
    part(ROUTES, "vip_routingtableid", "tableID").key("routingTableID").is(
        Whole(0, i64::MAX),
        "198",
        "Number of the table.",
    ),
    part(ROUTES, "vip_routingtabletype", "tableType").key("routingTableType").is(
        Whole(i64::MIN, i64::MAX),
        "1",
        "Type of the routes.",
    ),
    part(ROUTES, "vip_routingprotocol", "routingProtocol").is(
        Whole(i64::MIN, i64::MAX),
        "248",
        "Protocol number of the routes.",
    ),
    part(ROUTES, "vip_cleanroutingtable", "cleanRoutingTable").is(
        Bool,
        "false",
        "Remove unknown routes at start.",
    ),
    part(EGRESS, "egress_withnftables", "egressWithNftables").is(Bool, "true", "Not by iptables."),
    part(EGRESS, "egress_podcidr", "").key("egressPodCidr").is(Text, "", "Networks of Pods."),
    part(EGRESS, "egress_servicecidr", "").key("egressServiceCidr").is(
        Text,
        "",
        "Networks of Services.",
    ),
    part(EGRESS, "egress_enableinternalsnat", "").key("enableInternalSNAT").is(
        Bool,
        "false",
        "Leave internal traffic alone.",
    ),
];

/// What has no effect.
pub static NO_EFFECT: &[Setting] = &[
    dead("EndpointSlices say the same", "enable_endpoints", "enableEndpoints").is(
        Bool,
        "false",
        "Watch Endpoints instead of EndpointSlices.",
    ),
    dead("what comes together is taken together", "debounce_time", "debounceTime").is(
        Duration,
        "0s",
        "Wait for more changes this long.",
    ),
    dead(
        "a link that is not up is waited for in any case",
        "vip_allow_interface_not_up",
        "allowInterfaceNotUp",
    )
    .is(Bool, "false", "Start although the link is not up."),
    dead("a link without carrier is left in any case", "vip_loseleadership", "loseLeadership").is(
        Text,
        "false",
        "Leave a link without carrier.",
    ),
    dead(
        "a link without carrier is left at once",
        "vip_loseleadership_timeout_seconds",
        "loseLeadershiptTimeoutSeconds loseLeadershipTimeoutSeconds",
    )
    .is(Text, "30", "Leave it only after this time."),
    dead("it never had an effect", "vip_configmap", "configMap c").is(Text, "plndr", "ConfigMap."),
    dead("it never had an effect", "iptables_backend", "").key("iptablesBackend").is(
        Text,
        "",
        "Which iptables.",
    ),
    dead("it never had an effect", "loadBalancers", "").is(Text, "", "Balancers of the raft era."),
    dead(
        "EndpointSlices are the rule; enable_endpoints=true is the opposite",
        "enable_endpointslices",
        "enableEndpointSlices",
    )
    .is(Text, "", "Watch EndpointSlices."),
    gone(METAL, "vip_packet", "metal").is(Text, "false", "Equinix Metal."),
    gone(METAL, "vip_packetproject", "metalProject").is(Text, "", "Its project."),
    gone(METAL, "vip_packetprojectid", "metalProjectID").is(Text, "", "Its project's id."),
    gone(METAL, "provider_config", "provider-config").is(Text, "", "Its file."),
    gone(METAL, "PACKET_AUTH_TOKEN", "metalKey").is(Secret, "", "Its key."),
    gone(OLD_BALANCER, "lb_bindtovip", "lbBindToVip").is(Text, "false", "Listen on the VIP only."),
    gone(OLD_BALANCER, "lb_name", "lbName").is(Text, "", "Its name."),
    gone(OLD_BALANCER, "lb_type", "lbType").is(Text, "", "TCP or HTTP."),
    gone(OLD_BALANCER, "lb_backendport", "lbBackEndPort").is(Text, "", "Port of the backends."),
    gone(OLD_BALANCER, "lb_backends", "lbBackends").is(Text, "", "Backends."),
];
