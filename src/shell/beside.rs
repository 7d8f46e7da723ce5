//! What else on this host answers for VIPs, or keeps them.

use std::net::IpAddr;

use crate::io::host;
use crate::io::netlink::survey;
use crate::model::{Address, Link, LinkName, NetworkChange, Status};

/// The link on which kube-proxy keeps every address of every Service, in IPVS mode.
const KUBE_PROXY: &str = "kube-ipvs0";

/// What is in the way of a running process, as `edgevip status` says it.
pub fn beside(status: &Status) -> Vec<String> {
    let link = |it: &crate::model::VipStatus| it.link.as_ref().map(|it| it.name.clone());
    let vips: Vec<_> = status.vips.iter().map(|it| (it.vip.0, link(it))).collect();
    let mut all: Vec<_> = of_kube_proxy(&vips, false).into_iter().collect();
    all.extend(of_daemons().into_iter().filter(|it| !it.contains(": edgevip ")));
    all.extend(status.services.iter().filter_map(|it| it.service_lb.as_deref()).map(of_service_lb));
    all
}

/// k3s has a load balancer of its own, which gives each Service the addresses of all nodes.
pub(super) fn of_service_lb(service: &str) -> String {
    format!(
        "ServiceLB of k3s (svclb-*) serves {service} too, and writes the addresses of nodes over \
         its status; start k3s with --disable servicelb, or give lb_class_only=true and the \
         Services a class"
    )
}

/// Other programs that keep VIPs.
pub(super) fn of_daemons() -> Vec<String> {
    let here = |it: &host::Daemon| it.same_network != Some(false);
    let said = |it: host::Daemon| {
        format!(
            "another VIP daemon runs here: {} (process {}); two must not hold one address: stop \
             one, or give them different ones",
            it.name, it.pid
        )
    };
    host::other_daemons().into_iter().filter(here).map(said).collect()
}

/// Whether kube-proxy's link has one of these VIPs, or may have one of a Service, and the kernel
/// answers for what is on it: then every node does, whoever holds the VIP. Of IPv6 a kernel
/// answers only for what is on the link itself.
pub(super) fn of_kube_proxy(
    vips: &[(IpAddr, Option<LinkName>)],
    of_services: bool,
) -> Option<String> {
    let NetworkChange::Snapshot { links, addresses, default_link } = survey::everything().ok()?
    else {
        return None;
    };
    let there = links.iter().find(|it| it.name.0 == KUBE_PROXY)?;
    let is_there =
        |ip: IpAddr| addresses.iter().any(|it: &Address| it.link == there.index && it.ip == ip);
    let usual = links.iter().find(|it: &&Link| Some(it.index) == default_link);
    let usual = usual.map(|it| it.name.clone());
    let named = |link: &Option<LinkName>| link.clone().or_else(|| usual.clone());
    let answers = |link: &LinkName| host::arp_settings(link).is_ok_and(|it| it.arp_ignore == 0);
    let found = vips.iter().find_map(|(ip, link)| {
        let link = named(link).filter(|it| ip.is_ipv4() && is_there(*ip) && answers(it))?;
        Some((format!("has {ip}"), link))
    });
    let any = || {
        let link = vips.iter().find_map(|it| it.1.clone()).or_else(|| usual.clone());
        let link = link.filter(|it| of_services && answers(it))?;
        Some(("has the addresses of Services".to_owned(), link))
    };
    let (what, link) = found.or_else(any)?;
    Some(format!(
        "kube-proxy in IPVS mode {what} on {KUBE_PROXY} of every node, and this kernel answers \
         ARP for it on {link}, whoever holds it; give kube-proxy ipvs.strictARP=true, which sets \
         arp_ignore=1 and arp_announce=2"
    ))
}
