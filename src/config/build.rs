//! From the text of settings to a [`Config`], with what only several settings show.

mod raft;
mod services;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::explain::explained;
use super::sources::{Origin, Settings, Sources};
use super::standing::Elector;
use super::{
    Config, DnsMode, Faults, FenceSetting, KubeSettings, LeaseSettings, LogFormat, Notes, Resolved,
    VipSetting, kubeconfig, standing, values,
};
use crate::model::{LinkName, NodeName};

/// Reads all sources, and understands them or says everything that is wrong.
pub fn resolve(sources: &Sources<'_>) -> Result<Resolved, Faults> {
    let mut notes = Notes::default();
    let settings = Settings::gather(sources, &mut notes);
    standing::judge(&settings, &mut notes);
    check_mode(&settings, &mut notes);
    let config = config(&settings, sources, &mut notes);
    if !notes.faults.is_empty() {
        return Err(Faults(notes.faults));
    }
    let Notes { warnings, infos, .. } = notes;
    let explained = explained(&settings, &config);
    Ok(Resolved { config, explained, warnings, infos })
}

fn check_mode(settings: &Settings, notes: &mut Notes) {
    let modes = ["vip_arp", "bgp_enable", "vip_routingtable", "vip_wireguard"];
    match modes.iter().filter(|it| settings.is_on(it)).count() {
        0 => notes.fault("vip_arp", "false", "nothing says how to announce; give vip_arp=true"),
        1 => {}
        _ => notes.fault("vip_arp", "true", "only one way to announce can be on"),
    }
    if !settings.is_on("cp_enable") && !settings.is_on("svc_enable") {
        notes.fault(
            "cp_enable",
            "false",
            "there is nothing to do; give cp_enable=true, or svc_enable=true",
        );
    }
}

fn config(settings: &Settings, sources: &Sources<'_>, notes: &mut Notes) -> Config {
    let vips = match settings.is_on("cp_enable") {
        true => vips(settings, notes),
        false => Vec::new(),
    };
    let lengths = lengths(settings, &vips, notes);
    let fence = match settings.text("edgevip_fence") {
        "off" => FenceSetting::Off,
        "required" => FenceSetting::Required,
        _ => FenceSetting::Auto,
    };
    let node = node(settings, &sources.hostname, notes);
    let around = raft::Around { node: &node, vips: &vips, fence };
    let raft = raft::raft(settings, sources, &around, notes);
    Config {
        node: raft::node(node, raft.as_ref(), settings, notes),
        instance: instance(settings, notes),
        vips,
        dns_mode: dns_mode(settings, notes),
        port: port(settings, "port"),
        length_v4: lengths.v4,
        length_v6: lengths.v6,
        link: link(settings, notes),
        refresh: refresh(settings, notes),
        skip_dad: settings.is_on("vip_skipdad"),
        lo_global_scope: settings.is_on("vip_interfaceloglobal"),
        preserve: settings.is_on("vip_preserve_on_leadership_loss"),
        fence,
        lease: lease(settings, fence, sources, notes),
        services: services::services(settings, sources, notes),
        raft,
        kube: kube(settings, sources),
        label_node: settings.is_on("enable_node_labeling"),
        health_port: Some(port(settings, "health_check_port")).filter(|it| *it != 0),
        metrics: filled(settings, "prometheus_server"),
        notify: filled(settings, "edgevip_notify"),
        record: filled(settings, "edgevip_record").map(PathBuf::from),
        log_level: values::whole(settings.text("vip_loglevel"))
            .and_then(|it| it.try_into().ok())
            .unwrap_or_default(),
        log_format: match settings.text("edgevip_log_format") {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        },
    }
}

fn filled(settings: &Settings, name: &str) -> Option<String> {
    Some(settings.text(name).to_owned()).filter(|it| !it.is_empty())
}

fn port(settings: &Settings, name: &str) -> u16 {
    settings.text(name).parse().unwrap_or_default()
}

fn node(settings: &Settings, hostname: &str, notes: &mut Notes) -> NodeName {
    let name = filled(settings, "vip_nodename").unwrap_or_else(|| hostname.into()).to_lowercase();
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
        let right = "not the name of a node; give it as `kubectl get nodes` shows it";
        notes.fault("vip_nodename", &name, right);
    }
    NodeName(name.into())
}

fn instance(settings: &Settings, notes: &mut Notes) -> Option<String> {
    let Some(name) = filled(settings, "instance_name") else {
        // It may stand beside another process that carries the control plane.
        return (!settings.is_on("cp_enable")).then(|| "services".to_owned());
    };
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    if name.len() > LONGEST_INSTANCE || !name.bytes().all(plain) {
        let right = format!(
            "more than {LONGEST_INSTANCE} bytes, or others than letters, digits, '.', '_' and '-'"
        );
        notes.fault("instance_name", &name, right);
    }
    Some(name)
}

/// The path of a Unix socket ends at 107 bytes; with this, that of the status stays below 100.
const LONGEST_INSTANCE: usize = 100 - "/run/user/4294967295/edgevip/.sock".len();

fn vips(settings: &Settings, notes: &mut Notes) -> Vec<VipSetting> {
    let name = if settings.text("address").is_empty() { "vip_address" } else { "address" };
    let text = settings.text(name);
    let mut vips = Vec::new();
    let parts = || text.split(',').map(str::trim).filter(|it| !it.is_empty());
    for part in parts() {
        match vip(part) {
            Ok(vip) if vips.contains(&vip) => {}
            Ok(vip) => vips.push(vip),
            Err(right) => notes.fault(name, part, right),
        }
    }
    if parts().next().is_none() {
        notes.fault("address", text, "no VIP; give an address such as 192.168.0.10");
    }
    vips
}

fn vip(text: &str) -> Result<VipSetting, &'static str> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return name(text);
    };
    let strange = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    if strange || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err("not an address that one node can carry for others; give a free one of the \
                    link's subnet");
    }
    Ok(VipSetting::Address(address))
}

fn name(text: &str) -> Result<VipSetting, &'static str> {
    if text.contains('/') {
        return Err(
            "has a prefix length; give the address without it, and the length as vip_subnet",
        );
    }
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let label = |it: &str| {
        let plain = |it: u8| it.is_ascii_alphanumeric() || b"-_".contains(&it);
        (1..64).contains(&it.len()) && it.bytes().all(plain)
    };
    let is_name = text.len() < 254 && text.trim_end_matches('.').split('.').all(label);
    if !is_name || last.bytes().all(|it| it.is_ascii_digit()) {
        return Err("neither an IP address nor a DNS name; give one, or several with commas");
    }
    Ok(VipSetting::Name(text.to_ascii_lowercase()))
}

struct Lengths {
    v4: u8,
    v6: u8,
}

/// One number belongs to the family it is usual for, so that 32 does not make an IPv6
/// VIP a neighbour of half the Internet.
fn lengths(settings: &Settings, vips: &[VipSetting], notes: &mut Notes) -> Lengths {
    let text = settings.text("vip_subnet");
    let has = |of: fn(&IpAddr) -> bool| {
        vips.iter().any(|it| match it {
            VipSetting::Address(address) => of(address),
            VipSetting::Name(_) => true,
        })
    };
    match read_lengths(text) {
        Ok(Lengths { v4: 32, v6 }) if v6 < 128 && !has(IpAddr::is_ipv6) => {
            notes.fault("vip_subnet", text, "not a length for IPv4; give one such as 32");
            Lengths { v4: 32, v6 }
        }
        Ok(Lengths { v4, v6: 128 }) if v4 < 32 && !has(IpAddr::is_ipv4) => {
            let why = "taken as the length for IPv4; IPv6 VIPs have 128 unless two are given";
            notes.warnings.push(format!("vip_subnet={text}: {why}"));
            Lengths { v4, v6: 128 }
        }
        Ok(lengths) => lengths,
        Err(right) => {
            notes.fault("vip_subnet", text, right);
            Lengths { v4: 32, v6: 128 }
        }
    }
}

fn read_lengths(text: &str) -> Result<Lengths, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.contains(&"auto") {
        return Err("only for Services; give lengths such as 32 or 32,128, or leave it out".into());
    }
    if parts.iter().any(|it| it.starts_with('/')) {
        return Err(format!("give it without the slash: {}", text.replace('/', "")));
    }
    let length = |text: &str, most| {
        text.parse::<u8>().ok().filter(|it| (1..=most).contains(it)).ok_or_else(|| {
            format!("{text:?} is not a prefix length from 1 to {most}; give for example 32,128")
        })
    };
    match parts[..] {
        [""] => Ok(Lengths { v4: 32, v6: 128 }),
        [one] => match length(one, 128)? {
            v4 @ ..=32 => Ok(Lengths { v4, v6: 128 }),
            v6 => Ok(Lengths { v4: 32, v6 }),
        },
        [v4, v6] => Ok(Lengths { v4: length(v4, 32)?, v6: length(v6, 128)? }),
        _ => Err("more than two; give the length for IPv4, then that for IPv6".into()),
    }
}

fn link(settings: &Settings, notes: &mut Notes) -> Option<LinkName> {
    link_name("vip_interface", settings, notes)
}

/// The link that a setting names, where it names one.
fn link_name(setting: &str, settings: &Settings, notes: &mut Notes) -> Option<LinkName> {
    let name = filled(settings, setting).filter(|it| it != "auto")?;
    if name.len() > 15 || name.contains(['/', ' ', ',']) {
        notes.fault(setting, &name, "not the name of a link; see `ip link`");
    }
    Some(LinkName(name))
}

fn dns_mode(settings: &Settings, notes: &mut Notes) -> DnsMode {
    let text = settings.text("dns_mode");
    match text.to_ascii_lowercase().as_str() {
        "first" => DnsMode::First,
        "ipv4" => DnsMode::Ipv4,
        "ipv6" => DnsMode::Ipv6,
        "dual" => DnsMode::Dual,
        _ => {
            let why = "not known, first is used; give first, ipv4, ipv6 or dual";
            notes.warnings.push(format!("dns_mode={text}: {why}"));
            DnsMode::First
        }
    }
}

fn refresh(settings: &Settings, notes: &mut Notes) -> Duration {
    let text = settings.text("vip_arpRate");
    match values::whole(text) {
        Some(millis @ 500..) => Duration::from_millis(millis.unsigned_abs()),
        Some(_) | None => {
            notes.warnings.push(format!("vip_arpRate={text}: less than 500, 3000 is used"));
            Duration::from_millis(3000)
        }
    }
}

fn lease(
    settings: &Settings,
    fence: FenceSetting,
    sources: &Sources<'_>,
    notes: &mut Notes,
) -> LeaseSettings {
    let (namespace, name) = lease_name("vip_leasename", settings, sources, notes);
    let time = |name| values::duration(settings.text(name)).unwrap_or_default();
    let lease = LeaseSettings {
        namespace,
        name,
        duration: time("vip_leaseduration"),
        renew_deadline: time("vip_renewdeadline"),
        retry_period: time("vip_retryperiod"),
        annotations: values::map(settings.text("vip_leaseannotations")).unwrap_or_default(),
    };
    match standing::elector(settings) {
        Elector::Lease => check_times(&lease, fence, settings, notes),
        Elector::Raft if lease.duration < SHORTEST_RECORD => {
            let right = "must be at least 3, since it is written anew three times meanwhile";
            notes.fault("vip_leaseduration", settings.text("vip_leaseduration"), right);
        }
        Elector::Raft => {}
    }
    lease
}

/// Namespace and name of a Lease.
fn lease_name(
    setting: &'static str,
    settings: &Settings,
    sources: &Sources<'_>,
    notes: &mut Notes,
) -> (String, String) {
    let text = settings.text(setting);
    let (from, namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (setting, namespace.to_owned(), name),
        None => ("cp_namespace", own_namespace(settings, sources), text),
    };
    if !is_subdomain(name) {
        let right = "not the name of a Lease; give one such as plndr-cp-lock, or namespace/name";
        notes.fault(setting, text, right);
    }
    if !is_namespace(&namespace) {
        notes.fault(from, &namespace, "not a namespace; give one such as kube-system");
    }
    (namespace, name.to_owned())
}

fn is_namespace(text: &str) -> bool {
    is_subdomain(text) && !text.contains('.') && text.len() < 64
}

/// Where raft elects, the Lease is a record only.
const SHORTEST_RECORD: Duration = Duration::from_secs(3);

/// The name of a Pod's own namespace, else what the settings say.
fn own_namespace(settings: &Settings, sources: &Sources<'_>) -> String {
    match (sources.read)(&Path::new(kubeconfig::SERVICE_ACCOUNT).join("namespace")) {
        Ok(namespace) if !namespace.trim().is_empty() => namespace.trim().to_owned(),
        Ok(_) | Err(_) => settings.text("cp_namespace").to_owned(),
    }
}

/// How late the kernel may be with the end of an address.
const ADDRESS_LATE: Duration = Duration::from_millis(1300);

fn check_times(lease: &LeaseSettings, fence: FenceSetting, settings: &Settings, notes: &mut Notes) {
    let LeaseSettings { duration, renew_deadline, retry_period, .. } = *lease;
    let mut fault =
        |name: &'static str, right: String| notes.fault(name, settings.text(name), right);
    if retry_period.is_zero() {
        fault("vip_retryperiod", "must be more than nothing; give for example 2".into());
    }
    if renew_deadline <= retry_period.mul_f64(1.2) {
        let right = "must be more than 1.2 times vip_retryperiod";
        fault(
            "vip_renewdeadline",
            format!("{right} ({retry_period:?}); give for example 10 and 2"),
        );
    }
    if duration <= renew_deadline {
        let right = "must be more than vip_renewdeadline";
        fault(
            "vip_leaseduration",
            format!("{right} ({renew_deadline:?}); give for example 15 and 10"),
        );
    } else if fence == FenceSetting::Off && duration - renew_deadline < ADDRESS_LATE {
        let right = "must be at least 1.3s more than vip_renewdeadline where edgevip_fence is off";
        fault("vip_leaseduration", format!("{right} ({renew_deadline:?})"));
    }
}

fn kube(settings: &Settings, sources: &Sources<'_>) -> KubeSettings {
    let raft = standing::elector(settings) == Elector::Raft;
    let off = raft && settings.text("k8s_config_file") == "off";
    let variable = |name| sources.env.get(name).filter(|it: &&String| !it.is_empty());
    let home = variable("HOME").map(|it| Path::new(it).join(".kube/config"));
    // Members need no API server, and whoever starts one may use that of another cluster.
    let home = home.filter(|_| !raft);
    let asked = filled(settings, "k8s_config_file")
        .map(PathBuf::from)
        .filter(|it| it != Path::new(kubeconfig::ADMIN) && Some(it) != home.as_ref() && !off);
    let handed = settings.get("k8s_config_file").origin == Origin::Default;
    let handed = handed.then(|| sources.credential("k8s_config_file")).flatten();
    let asked = asked.or(handed.map(|(path, _)| path));
    let usual = [kubeconfig::ADMIN].iter().chain(&kubeconfig::OTHERS).filter(|_| !off);
    let host = variable("KUBERNETES_SERVICE_HOST").map(|it| match it.contains(':') {
        true => format!("[{it}]"),
        false => it.clone(),
    });
    let port = variable("KUBERNETES_SERVICE_PORT");
    KubeSettings {
        explicit: asked.is_some(),
        kubeconfigs: asked.into_iter().chain(usual.map(PathBuf::from)).chain(home).collect(),
        server: filled(settings, "kubernetes_addr"),
        detect: settings.is_on("cp_detect"),
        port: self::port(settings, "port"),
        in_cluster: host.zip(port).filter(|_| !off).map(|(host, port)| format!("{host}:{port}")),
    }
}

/// RFC 1123, as Kubernetes wants its names.
fn is_subdomain(text: &str) -> bool {
    let edge =
        |it: Option<char>| it.is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    let label = |it: &str| {
        edge(it.chars().next())
            && edge(it.chars().last())
            && it.chars().all(|it| edge(Some(it)) || it == '-')
    };
    text.len() < 254 && text.split('.').all(label)
}

#[cfg(test)]
mod tests;
