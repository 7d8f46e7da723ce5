//! The variables of a Pod, in the order in which kube-vip's generator has them.

use serde_json::{Value, json};

use crate::config::settings::{self, Setting, Standing};
use crate::config::sources::Settings;
use crate::config::{Config, VipSetting};

/// When a variable is there although nobody has asked for it.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    /// Only if somebody has.
    Asked,
    /// This one is on.
    With(&'static str),
}

use When::{Always, Asked, With};

/// What comes first. Everything else that is asked for comes behind it.
const ORDER: &[(&str, When)] = &[
    ("vip_arp", Always),
    ("port", Always),
    ("vip_nodename", Always),
    ("instance_name", Asked),
    ("vip_interface", Asked),
    ("vip_interfaceloglobal", Asked),
    ("vip_servicesinterface", Asked),
    ("vip_allow_interface_not_up", Asked),
    ("vip_subnet", Always),
    ("dns_mode", Always),
    ("dhcp_mode", Always),
    ("dhcp_backoff_attempts", Asked),
    ("cp_enable", With("cp_enable")),
    ("cp_namespace", With("cp_enable")),
    ("vip_ddns", Asked),
    ("cp_detect", Asked),
    ("svc_enable", With("svc_enable")),
    ("svc_leasename", With("svc_enable")),
    ("svc_election", Asked),
    ("per_service_election_on_demand", Asked),
    ("lb_class_only", Asked),
    ("enable_service_security", Asked),
    ("vip_leaderelection", With("vip_leaderelection")),
    ("vip_leasename", With("vip_leaderelection")),
    ("vip_leaseduration", With("vip_leaderelection")),
    ("vip_renewdeadline", With("vip_leaderelection")),
    ("vip_retryperiod", With("vip_leaderelection")),
    ("vip_loseleadership", Asked),
    ("vip_loseleadership_timeout_seconds", With("vip_loseleadership")),
    ("enable_node_labeling", Asked),
    ("annotation", Asked),
    ("vip_wireguard", Asked),
    ("vip_routingtable", Asked),
    ("bgp_enable", Asked),
    ("bgp_attach_ip_to_interface", Asked),
    ("bgp_routerid", With("bgp_enable")),
    ("bgp_as", With("bgp_enable")),
    ("bgp_peeraddress", With("bgp_enable")),
    ("bgp_peerpass", With("bgp_enable")),
    ("bgp_peeras", With("bgp_enable")),
    ("bgp_sourceif", Asked),
    ("bgp_sourceip", Asked),
    ("bgp_peers", Asked),
    ("control_plane_health_check_address", Asked),
    ("control_plane_health_check_period_seconds", Asked),
    ("control_plane_health_check_timeout_seconds", Asked),
    ("control_plane_health_check_failure_threshold", Asked),
    ("control_plane_health_check_ca_path", Asked),
    ("lb_enable", Asked),
    ("lb_port", With("lb_enable")),
    ("lb_fwdmethod", With("lb_enable")),
    ("address", Always),
    ("prometheus_server", Always),
    ("enable_endpoints", Asked),
    ("disable_service_updates", Asked),
    ("mirror_dest_interface", Asked),
    ("health_check_port", Asked),
    ("vip_preserve_on_leadership_loss", Asked),
    ("debounce_time", Asked),
];

/// What is not for the container: files of this host, and what its node decides.
const NOT_HERE: [&str; 4] = ["config_file", "k8s_config_file", "vip_address", "vip_localpeer"];

/// The list of them, as a container has it.
pub(super) fn variables(settings: &Settings, config: &Config) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, when) in ORDER {
        let is_wanted = match when {
            Always => true,
            Asked => false,
            With(other) => settings.is_on(other),
        };
        let asked = || settings::by_variable(name).is_some_and(|it| settings.is_asked_for(it));
        if is_wanted || asked() {
            all.extend(ordered(name, settings, config));
        }
    }
    let raft = config.raft.as_ref();
    if raft.is_some_and(|it| it.from_nodes) && settings.text("vip_localpeer").is_empty() {
        all.push(of_node("NODE_IP", "status.hostIP"));
        let me = format!("$(vip_nodename):[$(NODE_IP)]:{}", settings.text("vip_raft_port"));
        all.push(text("vip_localpeer", &me));
    } else if !settings.text("vip_localpeer").is_empty() {
        all.push(text("vip_localpeer", settings.text("vip_localpeer")));
    }
    if raft.is_some() && settings.text("k8s_config_file") == "off" {
        all.push(text("k8s_config_file", "off"));
    }
    let rest = settings::all().filter(|it| is_of_rest(it) && settings.is_asked_for(it));
    all.extend(rest.map(|it| text(it.name(), settings.text(it.name()))));
    all
}

fn is_of_rest(setting: &Setting) -> bool {
    let name = setting.name();
    let works = match setting.standing {
        Standing::Built | Standing::OfLease | Standing::OfRaft | Standing::OfServices => true,
        Standing::Asks(_) | Standing::Dead(_) | Standing::Parameter(_) | Standing::Retired(_) => {
            false
        }
    };
    works && !NOT_HERE.contains(&name) && !ORDER.iter().any(|(ordered, _)| *ordered == name)
}

fn ordered(name: &str, settings: &Settings, config: &Config) -> Option<Value> {
    let written = settings.text(name);
    Some(match name {
        "vip_nodename" => of_node(name, "spec.nodeName"),
        "address" if written.is_empty() => text("vip_address", settings.text("vip_address")),
        "vip_subnet" if written.is_empty() => text(name, &lengths(config)?),
        // The families that a DNS name is wanted for, unless it says otherwise.
        "dhcp_mode" => {
            let mode = settings.text("dns_mode");
            let derives = settings.is_default(name) && mode != "first";
            text(name, if derives { mode } else { written })
        }
        _ => text(name, written),
    })
}

/// Of the families that the VIPs have.
fn lengths(config: &Config) -> Option<String> {
    let has = |v6: bool| {
        config.vips.iter().any(|it| match it {
            VipSetting::Address(ip) => ip.is_ipv6() == v6,
            VipSetting::Name(_) => true,
        })
    };
    match (has(false), has(true)) {
        (true, true) => Some(format!("{},{}", config.length_v4, config.length_v6)),
        (true, false) => Some(config.length_v4.to_string()),
        (false, true) => Some(config.length_v6.to_string()),
        (false, false) => None,
    }
}

fn text(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn of_node(name: &str, field: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": field } } })
}
