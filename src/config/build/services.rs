//! The settings of Services, understood.

use super::super::sources::{Settings, Sources};
use super::super::standing::{self, Elector};
use super::super::{DhcpMac, LinkSetting, Notes, ServiceSettings};
use super::{filled, is_namespace, is_subdomain, lease_name, link_name};

/// Which Services to serve, if any.
pub(super) fn services(
    settings: &Settings,
    sources: &Sources<'_>,
    notes: &mut Notes,
) -> Option<ServiceSettings> {
    if !settings.is_on("svc_enable") {
        return None;
    }
    let mirror = settings.text("mirror_dest_interface");
    if !mirror.is_empty() {
        let right = "mirroring is not in this version; leave it out";
        notes.fault("mirror_dest_interface", mirror, right);
    }
    let on_demand = settings.is_on("per_service_election_on_demand");
    if on_demand && standing::elector(settings) == Elector::Raft {
        let right = "members elect for each Service by itself; leave it out";
        notes.fault("per_service_election_on_demand", "true", right);
    }
    let namespace = filled(settings, "svc_namespace");
    if let Some(text) = namespace.as_ref().filter(|it| !is_namespace(it)) {
        notes.fault("svc_namespace", text, "not a namespace; give one, or leave it out for all");
    }
    let link = match settings.text("vip_servicesinterface") {
        "" => LinkSetting::AsControlPlane,
        "auto" => LinkSetting::Auto,
        _ => link_name("vip_servicesinterface", settings, notes)
            .map_or(LinkSetting::Auto, LinkSetting::Named),
    };
    Some(ServiceSettings {
        lease: lease_name("svc_leasename", settings, sources, notes),
        elects_each: settings.is_on("svc_election"),
        elects_some: on_demand,
        namespace,
        link,
        class_only: settings.is_on("lb_class_only"),
        class_name: settings.text("lb_class_name").to_owned(),
        class_legacy: settings.is_on("lb_class_legacy_handling"),
        writes: !settings.is_on("disable_service_updates"),
        gateway: gateway(settings, notes),
        guards: settings.is_on("enable_service_security"),
        pools: pools(settings, notes),
        // The peer takes what is negative for nothing said.
        dhcp_attempts: match settings.text("dhcp_backoff_attempts").parse::<i64>() {
            Ok(it) if it >= 0 => u32::try_from(it).unwrap_or(u32::MAX),
            Ok(_) | Err(_) => 3,
        },
        dhcp_mac: match settings.text("edgevip_dhcp_mac") {
            "own" => DhcpMac::Own,
            "link" => DhcpMac::Link,
            "macvlan" => DhcpMac::Macvlan,
            other => {
                let right = "own (each lease has one), link (as Wi-Fi needs it), or macvlan \
                             (each has a link of its own)";
                notes.fault("edgevip_dhcp_mac", other, right);
                DhcpMac::Own
            }
        },
    })
}

/// Whether Services may ask for ports on the site's gateway.
fn gateway(settings: &Settings, notes: &mut Notes) -> bool {
    let asked = settings.is_on("enable_upnp");
    if asked && !cfg!(feature = "upnp") {
        let right = "this build leaves the gateway out; take one with the feature upnp";
        notes.fault("enable_upnp", settings.text("enable_upnp"), right);
    }
    asked
}

fn pools(settings: &Settings, notes: &mut Notes) -> (String, String) {
    let [namespace, name] =
        ["KUBEVIP_NAMESPACE", "KUBEVIP_CONFIG_MAP"].map(|it| settings.text(it).to_owned());
    if !is_namespace(&namespace) {
        notes.fault("KUBEVIP_NAMESPACE", &namespace, "not a namespace; give kube-system or such");
    }
    if !is_subdomain(&name) {
        notes.fault("KUBEVIP_CONFIG_MAP", &name, "not the name of a ConfigMap; give kubevip");
    }
    (namespace, name)
}

#[cfg(test)]
mod tests;
