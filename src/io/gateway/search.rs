//! UPnP gateways on the link, by igd-next.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use igd_next::{GatewayIpVersion, SearchOptions, search_gateway, search_ipv6_firewall_gateway};
use nix::net::if_::if_nametoindex;

use super::end;
use crate::model::{LinkName, UpnpControl, Way, WayKind};
use crate::wire::gateway::soap;

/// A device may wait for three seconds before it answers (UPnP Device Architecture 1.1 §1.3.2).
const SEARCH: Duration = Duration::from_secs(4);
const FIREWALL: &str = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1";

/// The first that answers.
pub(super) fn upnp(
    from: IpAddr,
    link: Option<&LinkName>,
    without: &BTreeSet<WayKind>,
) -> Result<Way, String> {
    let kind = if from.is_ipv4() { WayKind::Igd } else { WayKind::Pinholes };
    if without.contains(&kind) {
        return Err(format!("{} does not help", kind.name()));
    }
    let mut options = match (from, link) {
        (IpAddr::V4(_), _) => SearchOptions::default(),
        (IpAddr::V6(_), Some(link)) => {
            let scope = if_nametoindex(link.0.as_str()).map_err(|it| format!("{link}: {it}"))?;
            SearchOptions::ipv6(scope)
        }
        (IpAddr::V6(_), None) => return Err("UPnP: the link is not known".to_owned()),
    };
    // The address also chooses the link that the question goes out by.
    options.bind_addr = end(from);
    options.timeout = Some(SEARCH);
    options.single_search_timeout = Some(SEARCH);
    options.gateway_ip_version =
        if from.is_ipv4() { GatewayIpVersion::V4 } else { GatewayIpVersion::V6 };
    let failed = |it: &dyn std::fmt::Display| format!("UPnP: {it}");
    let (device, url, service) = match kind {
        WayKind::Igd | WayKind::NatPmp | WayKind::Pcp => {
            let found = search_gateway(options).map_err(|it| failed(&it))?;
            (found.addr, found.control_url, found.service_type)
        }
        WayKind::Pinholes => {
            let found = search_ipv6_firewall_gateway(options).map_err(|it| failed(&it))?;
            (found.addr, found.control_url, FIREWALL.to_owned())
        }
    };
    let Some((address, path)) = soap::control_path(device, &url) else {
        return Err(format!("UPnP: the gateway at {device} names a control URL elsewhere: {url}"));
    };
    let control = UpnpControl { address, path, service };
    Ok(match kind {
        WayKind::Igd | WayKind::NatPmp | WayKind::Pcp => Way::Igd(control),
        WayKind::Pinholes => Way::Pinholes(control),
    })
}
