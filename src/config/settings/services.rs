//! The settings of Services.

use super::super::values::Kind::{Bool, Text, Whole};
use super::{Setting, built, service};

/// What works where Services are served.
pub static SERVICES: &[Setting] = &[
    built("svc_enable", "services", "enableServices").is(
        Bool,
        "false",
        "Serve Services of type LoadBalancer.",
    ),
    service("svc_leasename", "servicesLeaseName", "").is(
        Text,
        "plndr-svcs-lock",
        "Name of the Lease of who carries Services, or its namespace/name.",
    ),
    service("svc_election", "servicesElection", "enableServicesElection").is(
        Bool,
        "false",
        "Elect for each Service, by a Lease of its own in its namespace.",
    ),
    service("per_service_election_on_demand", "perServiceElectionOnDemand", "").is(
        Bool,
        "false",
        "Elect by a Lease of its own for each Service that asks for it.",
    ),
    service("svc_namespace", "", "serviceNamespace").is(
        Text,
        "",
        "Serve only those of this namespace; empty: of all.",
    ),
    service("vip_servicesinterface", "serviceInterface servicesInterface", "servicesInterface").is(
        Text,
        "",
        "Link for their VIPs; empty: as vip_interface; auto: the one with their subnet.",
    ),
    service("lb_class_only", "lbClassOnly", "loadBalancerClassOnly").is(
        Bool,
        "false",
        "Serve only Services that name a class.",
    ),
    service("lb_class_name", "lbClassName", "loadBalancerClassName").is(
        Text,
        "kube-vip.io/kube-vip-class",
        "The class that is served here.",
    ),
    service(
        "lb_class_legacy_handling",
        "lbClassNameLegacyHandling",
        "loadBalancerClassLegacyHandling",
    )
    .is(
        Bool,
        "true",
        "Serve Services without a class too, unless lb_class_only says otherwise.",
    ),
    service("disable_service_updates", "disableServiceUpdates", "").is(
        Bool,
        "false",
        "Write nothing to Services.",
    ),
    service("enable_upnp enableUPNP", "", "").is(
        Bool,
        "false",
        "Open the ports of Services that ask for it on the site's gateway: PCP, NAT-PMP, UPnP.",
    ),
    service("enable_service_security", "onlyAllowTrafficServicePorts", "enableServiceSecurity").is(
        Bool,
        "false",
        "Let nothing reach the addresses of Services but their ports, by nftables.",
    ),
    service("KUBEVIP_NAMESPACE", "", "").is(
        Text,
        "kube-system",
        "Namespace of the ConfigMap with the pools.",
    ),
    service("KUBEVIP_CONFIG_MAP", "", "").is(
        Text,
        "kubevip",
        "Name of the ConfigMap with the pools.",
    ),
    service("dhcp_backoff_attempts", "dhcpBackoffAttempts", "").is(
        Whole(i64::MIN, i64::MAX),
        "3",
        "Attempts at DHCPv4, before it is tried every 5 minutes only; 0: always every minute.",
    ),
    service("edgevip_dhcp_mac", "dhcpMac", "").is(
        Text,
        "own",
        "Hardware address of DHCPv4 leases: own (each has one), link (as Wi-Fi needs it), or macvlan \
         (each has one, and a link with it).",
    ),
];
