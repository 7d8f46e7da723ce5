//! `edgevip check`: what would go wrong, before it does.

mod raft;
mod rights;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::{api, beside};
use crate::config::{Config, FenceSetting, Resolved, VipSetting, explain, kubeconfig, sources};
use crate::io::fence::Fence;
use crate::io::guard::Guard;
use crate::io::http::{HostPort, Url, look_up};
use crate::io::netlink::survey;
use crate::io::{clock, host, kube};
use crate::model::{ApiAccess, Fences, Hardware, LIFETIME_SLACK, Link, LinkName, NetworkChange};

const API_PATIENCE: Duration = Duration::from_secs(5);
/// The part of a promise that a holder does not count on (fencing, section 5).
const UNTRUSTED: f64 = 0.16;

/// What was looked at, and what came of it.
#[derive(Default)]
struct Findings {
    good: Vec<String>,
    warnings: Vec<String>,
    faults: Vec<String>,
}

/// Looks at the configuration and at this host. The report, as an error if anything is
/// wrong enough that edgevip would not work.
pub fn check(resolved: Result<&Resolved, String>) -> Result<String, String> {
    let mut found = Findings::default();
    match resolved {
        Err(faults) => found.faults.extend(faults.lines().map(str::to_owned)),
        Ok(resolved) => {
            found.warnings.extend(resolved.warnings.iter().cloned());
            found.good.push("settings: understood".to_owned());
            found.look_at_network(&resolved.config);
            found.look_at_fence(&resolved.config);
            if let Some(raft) = &resolved.config.raft {
                found.look_at_quorum(raft);
            }
            if uses_api(&resolved.config) {
                found.look_at_api(&resolved.config);
            }
        }
    }
    found.look_at_host();
    found.report()
}

/// How the API server would be reached, for `edgevip explain`.
pub fn explain_access(config: &Config) -> String {
    if !uses_api(config) {
        return "API server: none, and none is needed where raft elects\n".to_owned();
    }
    match kubeconfig::access(&config.kube, &config.vips, &sources::read) {
        Ok(access) => explain::access(&access),
        Err(why) => format!("API server: not yet: {why}\n"),
    }
}

/// Whether there is an API server to ask, or one has to be there.
fn uses_api(config: &Config) -> bool {
    let beside = || kubeconfig::is_there(&config.kube, &sources::read);
    needs_api(config) || beside()
}

/// Whether nothing works without the API server.
fn needs_api(config: &Config) -> bool {
    config.raft.as_ref().is_none_or(|it| it.from_nodes || config.services.is_some())
}

impl Findings {
    fn look_at_host(&mut self) {
        match host::capabilities() {
            Ok(it) if it.net_admin && it.net_raw => {
                self.good.push("capabilities: CAP_NET_ADMIN and CAP_NET_RAW".to_owned());
            }
            Ok(it) => {
                let missing = [(it.net_admin, "CAP_NET_ADMIN"), (it.net_raw, "CAP_NET_RAW")];
                for (_, name) in missing.iter().filter(|it| !it.0) {
                    self.faults
                        .push(format!("capabilities: {name} is missing; run as root or grant it"));
                }
            }
            Err(why) => self.warnings.push(format!("capabilities: cannot be read: {why}")),
        }
        self.warnings.extend(beside::of_daemons());
        for it in host::network_managers() {
            self.warnings.push(format!("{} runs here: {}", it.daemon.name, it.hint));
        }
        if host::can_sleep() {
            self.warnings.push(
                "this machine can suspend: its VIPs are silent from waking up until its \
                 leadership is confirmed"
                    .to_owned(),
            );
        }
    }

    fn look_at_network(&mut self, config: &Config) {
        let links = match survey::everything() {
            Ok(NetworkChange::Snapshot { links, .. }) => links,
            Ok(it) => return self.faults.push(format!("links: unexpected answer {it:?}")),
            Err(why) => return self.faults.push(format!("links: {why}")),
        };
        match &config.link {
            None => self.good.push("vip_interface: chosen by subnet or default route".to_owned()),
            Some(name) => match links.iter().find(|it| it.name == *name) {
                None => self.faults.push(format!(
                    "vip_interface={name}: there is no such link; there are {}",
                    names(&links)
                )),
                Some(link) => self.look_at_link(link),
            },
        }
        let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
        for vip in &config.vips {
            match vip {
                VipSetting::Address(ip) if ip.is_ipv6() && !has_v6 => {
                    self.faults.push(format!("address={ip}: this kernel has no IPv6"));
                }
                VipSetting::Address(_) | VipSetting::Name(_) => {}
            }
        }
        if let Some(name) = &config.link {
            self.look_at_v6(config, name);
        }
        let of = |vip: &VipSetting| match vip {
            VipSetting::Address(ip) => Some((*ip, config.link.clone())),
            VipSetting::Name(_) => None,
        };
        let vips: Vec<_> = config.vips.iter().filter_map(of).collect();
        self.faults.extend(beside::of_kube_proxy(&vips, config.services.is_some()));
    }

    fn look_at_link(&mut self, link: &Link) {
        let name = &link.name;
        match link.hardware {
            Hardware::Ethernet if link.up && link.carrier => {
                self.good.push(format!("vip_interface={name}: up, with carrier"));
            }
            Hardware::Ethernet => self.warnings.push(format!(
                "vip_interface={name}: has no carrier; this node does not campaign until it has"
            )),
            Hardware::InfiniBand => {
                self.faults.push(format!("vip_interface={name}: InfiniBand is not in this version"))
            }
            Hardware::Loopback | Hardware::Other(_) => self.faults.push(format!(
                "vip_interface={name}: takes no ARP or NDP frames; name an Ethernet-like link"
            )),
        }
    }

    fn look_at_v6(&mut self, config: &Config, link: &LinkName) {
        let wants_v6 =
            config.vips.iter().any(|it| matches!(it, VipSetting::Address(ip) if ip.is_ipv6()));
        let path = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
        let disabled = sources::read(std::path::Path::new(&path)).is_ok_and(|it| it.trim() == "1");
        if wants_v6 && disabled {
            self.faults.push(format!("vip_interface={link}: IPv6 is disabled on it ({path} is 1)"));
        }
    }

    fn look_at_fence(&mut self, config: &Config) {
        let (_, fences) =
            Fence::open(config.instance.as_deref(), config.fence != FenceSetting::Off);
        for (family, it) in [("IPv4", &fences.v4), ("IPv6", &fences.v6)] {
            match it {
                Ok(()) => self.good.push(format!("nftables fence for {family}: holds")),
                Err(why) => self
                    .warnings
                    .push(format!("no nftables fence for {family}: {why}{}", package(family))),
            }
        }
        if config.services.as_ref().is_some_and(|it| it.guards) {
            let probed = Guard::open(config.instance.as_deref())
                .map_or(Err("the kernel has no nftables".to_owned()), |mut it| it.probe());
            match probed {
                Ok(()) => self.good.push("nftables for enable_service_security: holds".to_owned()),
                Err(why) => self.faults.push(format!(
                    "enable_service_security=true: no address of a Service would be answered for, \
                     since what reaches it cannot be filtered: {why}; leave it out, or load what \
                     is missing"
                )),
            }
        }
        if let Err(why) = refuse_without_fence(config, &fences) {
            self.faults.push(why);
        }
    }

    fn look_at_api(&mut self, config: &Config) {
        let access = match api::access(config) {
            Ok(access) => access,
            Err(why) => return self.say_of_api(config, &why),
        };
        self.warnings.extend(access.remarks.iter().map(|it| format!("API server: {it}")));
        self.look_at_server(&config.vips, &access);
        match kube::server_version(&access, API_PATIENCE) {
            Ok(version) => {
                self.good.push(format!("API server: {version} at {}", access.server));
                self.look_at_rights(config, &access);
                if config.services.is_some() {
                    self.look_at_service_lb(&access);
                }
            }
            Err(fault) => self.say_of_api(config, &fault.why),
        }
    }

    fn look_at_service_lb(&mut self, access: &ApiAccess) {
        // Whoever may not look has been told so.
        if let Ok(Some(service)) = kube::service_lb(access, API_PATIENCE) {
            self.warnings.push(beside::of_service_lb(&service));
        }
    }

    fn say_of_api(&mut self, config: &Config, why: &str) {
        match needs_api(config) {
            true => self.faults.push(format!("API server: {why}")),
            false => self.warnings.push(format!(
                "API server: {why}; raft elects without it, and nobody is told who holds"
            )),
        }
    }

    /// Only looking it up shows where a name leads.
    fn look_at_server(&mut self, vips: &[VipSetting], access: &ApiAccess) {
        let Some(Url { at, .. }) = Url::parse(&access.server).filter(|_| access.dial.is_none())
        else {
            return;
        };
        let vips: Vec<_> = vips
            .iter()
            .flat_map(|it| match it {
                VipSetting::Address(ip) => vec![*ip],
                VipSetting::Name(name) => addresses(&HostPort { host: name.clone(), port: 0 }),
            })
            .collect();
        if let Some(vip) = addresses(&at).iter().find(|it| vips.contains(it)) {
            self.faults.push(format!(
                "API server: {} leads to the VIP {vip}, which may be on another node or nowhere; \
                 give an address of this node in {}, or the VIP itself, for which edgevip asks \
                 this node",
                at.host, access.source
            ));
        }
    }

    fn report(self) -> Result<String, String> {
        let mut text = String::new();
        let kinds = [("ok", &self.good), ("warning", &self.warnings), ("FAULT", &self.faults)];
        for (kind, lines) in kinds {
            for line in lines {
                let _ = writeln!(text, "{kind:8}{line}");
            }
        }
        if self.faults.is_empty() {
            return Ok(text.trim_end().to_owned());
        }
        Err(format!("{} found\n{}", count(self.faults.len()), text.trim_end()))
    }
}

/// Some promises cannot be kept without the nftables fence.
pub(super) fn refuse_without_fence(config: &Config, fences: &Fences) -> Result<(), String> {
    let either = || fences.v4.as_ref().err().or(fences.v6.as_ref().err());
    let missing = config.vips.iter().find_map(|vip| match vip {
        VipSetting::Address(ip) if ip.is_ipv4() => fences.v4.as_ref().err(),
        VipSetting::Address(_) => fences.v6.as_ref().err(),
        VipSetting::Name(_) => either(),
    });
    // Services may have addresses of both families.
    let missing = missing.or_else(|| config.services.as_ref().and_then(|_| either()));
    let Some(why) = missing else {
        return Ok(());
    };
    if config.fence == FenceSetting::Required {
        return Err(format!("edgevip_fence=required, but there is no fence: {why}"));
    }
    if config.preserve {
        return Err(format!(
            "vip_preserve_on_leadership_loss=true needs the nftables fence, or two nodes would \
             answer; there is none: {why}"
        ));
    }
    if let Some(raft) = &config.raft {
        let least = LIFETIME_SLACK.div_f64(UNTRUSTED);
        if raft.promise < least {
            return Err(format!(
                "vip_raft_promise must be at least {} where there is no nftables fence ({why}), \
                 since the kernel lets go of addresses up to 1.3 s late; it is {}",
                least.as_millis(),
                raft.promise.as_millis()
            ));
        }
    }
    let slack = config.lease.duration.saturating_sub(config.lease.renew_deadline);
    if config.raft.is_none() && slack < LIFETIME_SLACK {
        return Err(format!(
            "vip_leaseduration must be at least 1300ms longer than vip_renewdeadline where there \
             is no nftables fence ({why}), since the kernel lets go of addresses that late; it is \
             {slack:?} longer"
        ));
    }
    log::warn!(
        "no nftables fence ({why}): a planned move has a gap, and the address of a dead daemon \
         may linger for 1.25 s"
    );
    Ok(())
}

/// Where the kernel comes in packages, the one to install.
fn package(family: &str) -> &'static str {
    match (std::path::Path::new("/etc/openwrt_release").exists(), family) {
        (true, "IPv4") => "; the package kmod-nft-arp has it",
        (true, _) => "; the package kmod-nft-core has it",
        (false, _) => "",
    }
}

/// None of a name that is not found: whoever connects to it will say so.
fn addresses(of: &HostPort) -> Vec<IpAddr> {
    let found = look_up(of, clock::now() + API_PATIENCE).unwrap_or_default();
    found.iter().map(|it| it.ip().to_canonical()).collect()
}

fn count(faults: usize) -> String {
    if faults == 1 { "one fault".to_owned() } else { format!("{faults} faults") }
}

fn names(links: &[Link]) -> String {
    let names: Vec<_> = links.iter().map(|it| it.name.0.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_name_leads_to_a_vip_is_a_fault() {
        let loopback = ["127.0.0.1", "::1"].map(|it| VipSetting::Address(it.parse().unwrap()));
        let elsewhere = [VipSetting::Address("10.0.0.42".parse().unwrap())];
        let name = [VipSetting::Name("localhost".into())];
        let cases = [
            ("https://localhost:6443", None, &loopback[..], true),
            ("https://localhost:6443", Some("127.0.0.1:6443"), &loopback, false),
            ("https://localhost:6443", None, &elsewhere, false),
            ("https://127.0.0.1:6443", None, &name, true),
            ("https://nobody.invalid:6443", None, &loopback, false),
        ];
        for (server, dial, vips, is_fault) in cases {
            let mut found = Findings::default();
            found.look_at_server(vips, &access(server, dial));
            assert_eq!(found.faults.len(), usize::from(is_fault), "{server}: {:?}", found.faults);
            let said = |it: &String| it.contains("leads to the VIP") && it.contains("/asked");
            assert!(found.faults.iter().all(said), "{:?}", found.faults);
        }
    }

    fn access(server: &str, dial: Option<&str>) -> ApiAccess {
        ApiAccess {
            server: server.into(),
            dial: dial.map(str::to_owned),
            tls_server_name: None,
            ca: None,
            insecure: false,
            client: None,
            token: None,
            proxy: None,
            source: "/asked".into(),
            remarks: Vec::new(),
        }
    }
}
