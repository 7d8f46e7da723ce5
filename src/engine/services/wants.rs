//! What one Service asks for. Pure: a Service and the rules in, a verdict out.
//!
//! Supported: the peer's annotations `loadbalancerIPs` (with DNS names), `ddns`, `ignore`, `serviceInterface`, `serviceVLAN`,
//! `macvlanName`, `rp_filter`, `ignore-service-security`, `forcePerServiceElection`,
//! `allow-reconcile-without-endpoints`, `loadbalancerHostname`, `hwaddr`, `requestedIP`, both
//! of its class rules, its order of address sources. Refused by name: what needs a capability that is not here.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::leasing::written as written_leases;
use crate::engine::mapping;
use crate::engine::network::{LinkChoice, MadeLink};
use crate::model::{
    FamilyPolicy, IpFamily, LeaseOwner, LinkName, Mac, Make, Named as NameParts, ObjectName,
    Service, ServicePort, ServiceRefusal,
};
use crate::wire::lease;

/// What the peer's annotations begin with.
pub(super) const PEER: &str = "kube-vip.io/";
/// More addresses than this are a mistake.
const MOST: usize = 16;

/// Which Services are ours.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClassRule {
    /// The class that this instance serves.
    pub name: String,
    /// Only those that name it.
    pub only: bool,
    /// The older of the peer's rules, where one without a class is anybody's.
    pub legacy: bool,
}

impl ClassRule {
    /// Whether a Service of this class is ours.
    pub fn takes(&self, class: Option<&str>) -> bool {
        match class {
            None if self.legacy => !self.only,
            None => self.name.is_empty(),
            Some(class) => class == self.name,
        }
    }
}

/// Where an endpoint must be for a VIP to be answered for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backing {
    /// On any node.
    Anywhere,
    /// On the node that answers.
    Here,
    /// None is needed.
    None,
}

/// What a Service asks for, understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wants {
    /// Its addresses, in its order; what is leased comes last.
    pub addresses: Vec<IpAddr>,
    /// DNS names that it is reached by.
    pub names: Vec<Named>,
    /// What it says of addresses that are to be leased, if it asks for any.
    pub lease: Option<Box<AskedLease>>,
    /// The link it names.
    pub link: Option<Box<LinkChoice>>,
    pub backing: Backing,
    /// By which Lease it is elected, where each has its own.
    pub elected_by: Option<Box<LeaseOf>>,
}

/// A DNS name, and what of it is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Named {
    pub name: String,
    /// One address of each of these.
    pub families: Vec<IpFamily>,
    /// Or none.
    pub all: bool,
}

/// What is asked for.
#[derive(Debug, Default)]
struct Asked {
    addresses: Vec<IpAddr>,
    names: Vec<String>,
}

/// The Lease of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LeaseOf {
    pub name: ObjectName,
    /// Whose it is, if one Service's alone.
    pub owner: Option<LeaseOwner>,
}

/// What a Service says of its leases.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct AskedLease {
    /// It asks for one of each, in this order.
    pub families: Vec<IpFamily>,
    /// The name that servers are told; empty for none.
    pub host_name: String,
    /// As whom servers know the client; empty: by the Service's uid.
    pub client: String,
    /// The hardware address to lease it to.
    pub mac: Option<Mac>,
    /// The address of each family to ask for first.
    pub requested: Vec<IpAddr>,
}

/// What is to become of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Not for us to serve.
    Others,
    /// Ours, and without an address so far.
    Addressless,
    Refused(Box<ServiceRefusal>),
    Wanted(Wants),
}

impl Verdict {
    pub fn refused(why: ServiceRefusal) -> Self {
        Self::Refused(Box::new(why))
    }
}

/// What the Service asks for.
pub(crate) fn verdict(service: &Service, class: &ClassRule) -> Verdict {
    let passed = service.deleting || is_ignored(service);
    if !service.balanced || passed || !class.takes(service.class.as_deref()) {
        return Verdict::Others;
    }
    match asked(service) {
        Err(refusal) => Verdict::refused(refusal),
        Ok(it) if it.addresses.is_empty() && it.names.is_empty() => Verdict::Addressless,
        Ok(it) => wanted(service, it).map_or_else(Verdict::refused, Verdict::Wanted),
    }
}

fn wanted(service: &Service, asked: Asked) -> Result<Wants, ServiceRefusal> {
    let Asked { mut addresses, mut names } = asked;
    let leased = addresses.extract_if(.., |it| it.is_unspecified());
    let mut families: Vec<_> = leased.map(IpFamily::of).collect();
    let registered = registered(service, &mut names)?;
    if registered.is_some() {
        families.extend(
            service
                .families
                .iter()
                .filter(|it| !families.contains(it))
                .copied()
                .collect::<Vec<_>>(),
        );
    }
    let lease = (!families.is_empty()).then(|| asked_lease(service, families)).transpose()?;
    let lease = lease.map(|it| match registered {
        // As the peer has it, by its first label.
        Some(name) => {
            let client = name.split('.').next().unwrap_or_default().to_owned();
            AskedLease { host_name: name, client, ..it }
        }
        None => it,
    });
    let all = service.family_policy == FamilyPolicy::RequireDualStack;
    let families = &service.families;
    let named = |name| Named { name, families: families.clone(), all };
    Ok(Wants {
        addresses,
        names: names.into_iter().map(named).collect(),
        lease: lease.map(Box::new),
        elected_by: Some(Box::new(elected_by(service)?)),
        link: link(service)?.map(Box::new),
        backing: backing(service),
    })
}

fn asked_lease(service: &Service, families: Vec<IpFamily>) -> Result<AskedLease, ServiceRefusal> {
    let written = |key| annotation(service, key).filter(|it| !it.is_empty());
    let host_name = written("loadbalancerHostname").unwrap_or_default();
    let fits = |it: u8| it.is_ascii_alphanumeric() || b"-._".contains(&it);
    if host_name.len() > 253 || !host_name.bytes().all(fits) {
        return Err(unreadable("loadbalancerHostname", host_name, "the name of a host"));
    }
    let mac = written("hwaddr").map(|it| {
        lease::mac(it).ok_or_else(|| {
            unreadable("hwaddr", it, "the hardware address of one host, such as 02:00:00:00:00:01")
        })
    });
    let words: Vec<_> = written("requestedIP").unwrap_or_default().split(',').collect();
    let ips: Option<Vec<IpAddr>> =
        words.iter().filter(|it| !it.is_empty()).map(|it| it.trim().parse().ok()).collect();
    let Some(ips) = ips.filter(|it| it.len() <= 2) else {
        return Err(unreadable("requestedIP", &words.join(","), "one address of a family"));
    };
    let (host_name, mac) = (host_name.to_owned(), mac.transpose()?);
    let client = host_name.clone();
    Ok(AskedLease { families, host_name, client, mac, requested: ips })
}

fn unreadable(setting: &str, value: &str, right: &str) -> ServiceRefusal {
    let [setting, value, right] = [setting, value, right].map(str::to_owned);
    ServiceRefusal::Unreadable { setting, value, right }
}

/// The ports by which Services that share an address are told apart.
pub(crate) fn meet(one: &[ServicePort], other: &[ServicePort]) -> Option<ServicePort> {
    one.iter().find(|it| other.contains(it)).copied()
}

fn annotation<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    service.annotations.get(&format!("{PEER}{key}")).map(|it| it.trim())
}

/// Whether it says that it is not to be touched.
pub(super) fn is_ignored(service: &Service) -> bool {
    annotation(service, "ignore") == Some("true")
}

/// The addresses and names that its annotation asks for.
fn annotated(service: &Service) -> Option<&str> {
    annotation(service, "loadbalancerIPs").filter(|it| !it.is_empty())
}

/// Whether what its status names counts as asked for.
pub(super) fn asks_by_status(service: &Service) -> bool {
    annotated(service).is_none()
}

/// Whether it says that everything may reach it.
pub(super) fn is_unguarded(service: &Service) -> bool {
    annotation(service, "ignore-service-security") == Some("true")
}

/// Whether it is to have a Lease of its own, although there is one for all.
pub(super) fn has_own_lease(service: &Service) -> bool {
    annotation(service, "forcePerServiceElection") == Some("true")
}

/// The name whose address a DHCP server gives and registers (the peer's `ddns`).
fn registered(
    service: &Service,
    names: &mut Vec<String>,
) -> Result<Option<String>, ServiceRefusal> {
    let Some(text) = annotation(service, "ddns").filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    match text {
        "0" | "f" | "F" | "FALSE" | "False" | "false" => return Ok(None),
        "1" | "t" | "T" | "TRUE" | "True" | "true" => {}
        _ => return Err(unreadable("ddns", text, "true or false")),
    }
    if names.len() > 1 {
        return Err(unreadable("ddns", text, "one name in loadbalancerIPs"));
    }
    if !names.is_empty() && !cfg!(feature = "dhcp") {
        return Err(unreadable("ddns", text, "this build has no DHCP; leave it out"));
    }
    Ok(names.pop())
}

/// What a Service asks for: by the annotation, else by what it asks for and already has.
fn asked(service: &Service) -> Result<Asked, ServiceRefusal> {
    let asked = service.load_balancer_ip.as_deref().map(str::trim).filter(|it| !it.is_empty());
    if let Some(text) = annotated(service) {
        return parse("loadbalancerIPs", text);
    }
    addresses(service, asked).map(|addresses| Asked { addresses, names: Vec::new() })
}

fn addresses(service: &Service, asked: Option<&str>) -> Result<Vec<IpAddr>, ServiceRefusal> {
    let outside: Vec<_> = mapping::outside(service).collect();
    let has = service.ingress.iter().filter_map(|it| it.ip);
    // What is leased is had by those who ask for that.
    let leased = written_leases(service);
    let has = has.filter(|it| !outside.contains(it));
    let has: Vec<IpAddr> =
        has.filter(|it| leased.address(IpFamily::of(*it)) != Some(*it)).collect();
    let parsed = asked.map(|it| parse("spec.loadBalancerIP", it)).transpose()?;
    if let Some(name) = parsed.as_ref().and_then(|it| it.names.first()) {
        return Err(unreadable("spec.loadBalancerIP", name, "an IP address"));
    }
    match parsed.map(|it| it.addresses) {
        // Of what is leased, the status says what came of it.
        Some(asked) if asked.iter().any(IpAddr::is_unspecified) => Ok(asked),
        // What is asked for wins over a status that is not up to date.
        Some(asked) if asked.iter().any(|ip| stale(*ip, &has)) => Ok(asked),
        Some(asked) if has.is_empty() => Ok(asked),
        Some(_) | None => Ok(has),
    }
}

fn stale(asked: IpAddr, has: &[IpAddr]) -> bool {
    let same_family = has.iter().filter(|it| it.is_ipv4() == asked.is_ipv4());
    !has.contains(&asked) && same_family.count() > 0
}

fn parse(setting: &str, text: &str) -> Result<Asked, ServiceRefusal> {
    let bad = |value: &str, right: &str| unreadable(setting, value, right);
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for word in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let Ok(ip) = word.parse::<IpAddr>() else {
            let name = word.trim_end_matches('.').to_ascii_lowercase();
            match is_dns_name(&name) {
                true if names.contains(&name) => {}
                true => names.push(name),
                false if word.contains('/') => {
                    return Err(bad(word, "an address without a prefix length"));
                }
                false => return Err(bad(word, "an IP address, or a DNS name")),
            }
            continue;
        };
        if ip.is_unspecified() && !cfg!(feature = "dhcp") {
            return Err(bad(word, "this build has no DHCP; give an address"));
        }
        if ip.is_loopback() || ip.is_multicast() || is_broadcast(ip) {
            return Err(bad(word, "not an address that one node can carry for others"));
        }
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    if found.len() + names.len() > MOST {
        return Err(bad(text, "at most 16 addresses"));
    }
    Ok(Asked { addresses: found, names })
}

/// RFC 1123 §2.1; what ends in a number is a mistyped address.
fn is_dns_name(text: &str) -> bool {
    let is_label = |it: &str| {
        let fits = |it: u8| it.is_ascii_alphanumeric() || it == b'-';
        (1..=63).contains(&it.len())
            && it.bytes().all(fits)
            && !it.starts_with('-')
            && !it.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(is_label)
        && last.bytes().any(|it| it.is_ascii_alphabetic())
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

fn link(service: &Service) -> Result<Option<LinkChoice>, ServiceRefusal> {
    let refuse = |key: &str, value: &str, right: &str| Err(unreadable(key, value, right));
    if let Some(text) = annotation(service, "serviceVLAN").filter(|it| !it.is_empty()) {
        return match vlan(text) {
            Some(it) => Ok(Some(LinkChoice::Made(Box::new(it)))),
            None => refuse("serviceVLAN", text, VLAN_IS),
        };
    }
    match annotation(service, "serviceInterface") {
        None | Some("") => Ok(None),
        Some("auto") => Ok(Some(LinkChoice::Auto)),
        Some(name) if name.len() < 16 && !name.contains(['/', ' ']) => {
            Ok(Some(LinkChoice::Named(LinkName(name.to_owned()))))
        }
        Some(name) => refuse("serviceInterface", name, "the name of a link, or auto"),
    }
}

/// The link that is made for a lease, on top of another.
pub(super) fn macvlan(
    service: &Service,
    mac: Mac,
    parent: LinkChoice,
) -> Result<MadeLink, ServiceRefusal> {
    let written = |key| annotation(service, key).filter(|it| !it.is_empty());
    let name = match written("macvlanName") {
        None => format!("vip-{}", service.uid.chars().take(8).collect::<String>()),
        Some(name) if is_link_name(name) => name.to_owned(),
        Some(name) => return Err(unreadable("macvlanName", name, "the name of a link")),
    };
    let rp_filter = match written("rp_filter") {
        None | Some("0") => 0,
        Some("1") => 1,
        Some("2") => 2,
        Some(other) => return Err(unreadable("rp_filter", other, "0, 1 or 2")),
    };
    Ok(MadeLink { name: LinkName(name), parent, make: Make::Macvlan { mac, rp_filter } })
}

fn is_link_name(name: &str) -> bool {
    name.len() < 16 && !name.contains(['/', ' ', ':'])
}

/// What is written of a VLAN: it is called as its link, a dot, and its tag.
const VLAN_IS: &str = "a link and a tag from 1 to 4094, such as eth0.100; 15 characters at most";

fn vlan(text: &str) -> Option<MadeLink> {
    let (parent, tag) = text.split_once('.')?;
    let digits = tag.bytes().all(|it| it.is_ascii_digit()) && !tag.starts_with('0');
    let tag: u16 = tag.parse().ok().filter(|it| digits && (1..=4094).contains(it))?;
    let fits = !parent.is_empty() && text.len() < 16 && !parent.contains(['/', ' ', ':']);
    fits.then(|| MadeLink {
        name: LinkName(text.to_owned()),
        parent: LinkChoice::Named(LinkName(parent.to_owned())),
        make: Make::Vlan { tag },
    })
}

/// Of its name, but for one that several Services name together.
fn elected_by(service: &Service) -> Result<LeaseOf, ServiceRefusal> {
    let NameParts { namespace, name } = &*service.name;
    let Some(text) = annotation(service, "leaseName") else {
        let lease = ObjectName::new(namespace.clone(), format!("kubevip-{name}"));
        let owner = LeaseOwner { name: name.clone(), uid: service.uid.clone() };
        return Ok(LeaseOf { name: lease, owner: Some(owner) });
    };
    let refuse = |right: &str| Err(unreadable("leaseName", text, right));
    if service.local {
        return refuse("a Lease of several Services goes with externalTrafficPolicy Cluster only");
    }
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    let is_name = |it: &str| {
        let legal = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-.".contains(&it);
        !it.is_empty() && it.len() <= 253 && it.bytes().all(legal)
    };
    match is_name(namespace) && is_name(name) {
        true => Ok(LeaseOf { name: ObjectName::new(namespace, name), owner: None }),
        false => refuse("the name of a Lease, or its namespace/name"),
    }
}

fn backing(service: &Service) -> Backing {
    let without = annotation(service, "allow-reconcile-without-endpoints");
    match service.local {
        true => Backing::Here,
        false if without.is_some_and(|it| it.eq_ignore_ascii_case("true")) => Backing::None,
        false => Backing::Anywhere,
    }
}

#[cfg(test)]
mod tests;
