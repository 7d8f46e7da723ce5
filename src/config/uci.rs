//! OpenWrt's configuration, read as ours: sections `edgevip`, `vip` and `member` become settings
//! of `edgevip.toml`. Any setting that has no section of its own may stand in `edgevip`, under
//! each of its names. One that is wrong makes all wrong, so that a good file is never replaced by
//! half of one.

mod parse;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use parse::{Entry, Section, parse};

use super::settings::{self, Setting};
use super::sources::Sources;
use super::values::{Kind, nearest};
use super::{Fault, Faults, resolve};

/// What edgevip's own hotplug events are sent by, where nothing else is asked for.
pub const NOTIFY: &str = "/usr/libexec/edgevip/tell";
/// Where a member keeps what must outlive a power cut: on flash, for it is rarely written.
pub const STATE: &str = "/etc/edgevip/state";
/// Where the shared key is, where nothing else is said.
pub const KEY: &str = "/etc/edgevip/key";
/// Before what changes only with a restart.
pub const RESTART: &str = "# A change of what follows needs a restart.";

const PACKAGE: &str = "edgevip";
/// What applies at once when it is read again.
const AT_ONCE: [&str; 4] = ["address", "vip_arpRate", "edgevip_notify", "vip_loglevel"];
/// Settings that have a section or an option of their own, and which.
const ELSEWHERE: [(&str, &str); 6] = [
    ("address", "each VIP has a section: config vip, option address"),
    ("vip_address", "each VIP has a section: config vip, option address"),
    ("vip_peers", "each member has a section: config member, option address"),
    ("vip_localpeer", "each member has a section; option name says which this one is"),
    ("vip_interface", "option interface has the network, such as lan, or option device the link"),
    ("vip_nodename", "option name has the name of this member"),
];
const OF_GLOBAL: [&str; 5] = ["config_file", "device", "enabled", "interface", "name"];
const OF_VIP: [&str; 2] = ["address", "enabled"];
const OF_MEMBER: [&str; 5] = ["address", "enabled", "name", "port", "witness"];

/// What a file of UCI says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Translated {
    /// The text of an `edgevip.toml` that says the same.
    pub toml: String,
    /// What a user probably did not mean.
    pub warnings: Vec<String>,
}

/// Translates a file of UCI and sees that all of it would work. `networks` has the device of
/// each network that is up; of `sources`, files and host name are used.
pub fn from_uci(
    text: &str,
    networks: &BTreeMap<String, String>,
    sources: &Sources<'_>,
) -> Result<Translated, Faults> {
    let sections = parse(PACKAGE, text).map_err(|it| Faults(vec![it]))?;
    let mut said = Said::default();
    for section in &sections {
        said.take(section, networks);
    }
    if let Some(file) = &said.file {
        said.only_a_file(file.clone());
    } else {
        said.complete();
    }
    if !said.faults.is_empty() {
        return Err(Faults(said.faults));
    }
    let (path, toml) = match &said.file {
        Some(file) => {
            (Path::new(file).to_owned(), format!("{RESTART}\n# All settings are in {file:?}.\n"))
        }
        None => (Path::new("/edgevip.toml").to_owned(), said.toml()),
    };
    let read = |it: &Path| -> io::Result<String> {
        if it == path && said.file.is_none() { Ok(toml.clone()) } else { (sources.read)(it) }
    };
    let config_file = ("config_file".to_owned(), path.display().to_string());
    let resolved = resolve(&Sources {
        flags: Vec::new(),
        env: BTreeMap::from([config_file]),
        hostname: sources.hostname.clone(),
        read: &read,
        is_open: sources.is_open,
    });
    match resolved {
        Ok(it) => Ok(Translated { warnings: it.warnings, toml }),
        Err(Faults(faults)) => {
            let prefix = format!("{}: ", path.display());
            Err(Faults(faults.into_iter().map(|it| said.found(it, &prefix)).collect()))
        }
    }
}

/// What has been read so far.
#[derive(Default)]
struct Said {
    /// Each setting's text, and where it stands.
    settings: BTreeMap<&'static str, (String, String)>,
    vips: Vec<(String, String)>,
    members: Vec<(String, String)>,
    file: Option<String>,
    faults: Vec<Fault>,
}

impl Said {
    fn take(&mut self, section: &Section, networks: &BTreeMap<String, String>) {
        match section.kind.as_str() {
            "edgevip" => self.global(section, networks),
            "vip" => self.vip(section),
            "member" => self.member(section),
            kind => {
                let known = ["edgevip", "vip", "member"];
                let meant = nearest(kind, known.into_iter());
                let meant = meant.map(|it| format!("did you mean {it}?"));
                let right = meant.unwrap_or_else(|| format!("give {}", known.join(", ")));
                let why = format!("no such kind of section; {right}");
                let value = Some(kind.to_owned());
                self.faults.push(Fault { setting: section.path.clone(), value, right: why });
            }
        }
    }

    fn global(&mut self, section: &Section, networks: &BTreeMap<String, String>) {
        for entry in &section.entries {
            let place = format!("{}.{}", section.path, entry.key);
            match entry.key.as_str() {
                // Whether there is a daemon at all is the init script's to see to.
                "enabled" => drop(self.flag(&place, entry)),
                "config_file" => self.file = entry.values.last().cloned(),
                "name" => self.set("vip_nodename", place, last(entry)),
                "device" => self.set("vip_interface", place, last(entry)),
                "interface" => match networks.get(&last(entry)) {
                    Some(device) => self.set("vip_interface", place, device.clone()),
                    None => self.fault(place, last(entry), no_network(networks)),
                },
                key => self.setting(key, place, entry),
            }
        }
    }

    fn setting(&mut self, key: &str, place: String, entry: &Entry) {
        let Some(setting) = settings::by_key(key) else {
            let known = settings::all().flat_map(|it| it.env.split(' ').chain(it.keys.split(' ')));
            let meant =
                nearest(key, known.chain(OF_GLOBAL)).map(|it| format!("did you mean {it}?"));
            let right = meant.unwrap_or_else(|| "`edgevip help` lists all".into());
            return self.fault(place, last(entry), format!("no such option; {right}"));
        };
        if let Some((_, right)) = ELSEWHERE.iter().find(|(it, _)| *it == setting.name()) {
            return self.fault(place, last(entry), (*right).to_owned());
        }
        let text = match setting.kind {
            Kind::Bool => match self.flag(&place, entry) {
                Some(is_on) => is_on.to_string(),
                None => return,
            },
            _ => entry.values.join(","),
        };
        self.set(setting.name(), place, text);
    }

    fn vip(&mut self, section: &Section) {
        if !self.is_enabled(section) {
            return;
        }
        self.only(section, &OF_VIP);
        let Some(entry) = section.entries.iter().find(|it| it.key == "address") else {
            let right = "has no address; give one: option address '192.0.2.40'";
            return self.faults.push(Fault::bare(section.path.clone(), right));
        };
        let place = format!("{}.address", section.path);
        for text in entry.values.iter().flat_map(|it| it.split([',', ' '])) {
            match text.trim() {
                "" => {}
                text => self.vips.push((text.to_owned(), place.clone())),
            }
        }
    }

    fn member(&mut self, section: &Section) {
        if !self.is_enabled(section) {
            return;
        }
        self.only(section, &OF_MEMBER);
        let get = |key: &str| section.entries.iter().find(|it| it.key == key).map(last);
        let bare = |right: &str| Fault::bare(section.path.clone(), right);
        let Some(name) = get("name").or_else(|| section.name.clone()) else {
            return self.faults.push(bare("has no name; give one: option name 'n1'"));
        };
        let Some(address) = get("address") else {
            let right = "has no address; give one: option address '192.0.2.1'";
            return self.faults.push(bare(right));
        };
        let port = get("port").unwrap_or_else(|| "10000".into());
        let witness = section.entries.iter().find(|it| it.key == "witness");
        let witness = witness.is_some_and(|it| {
            self.flag(&format!("{}.witness", section.path), it).unwrap_or_default()
        });
        let place = format!("{}.address", section.path);
        let address = if address.contains(':') { format!("[{address}]") } else { address };
        let text = format!("{name}:{address}:{port}{}", if witness { ":witness" } else { "" });
        match Kind::Peers.fault(&text) {
            Some(right) => self.fault(place, text, right),
            None => self.members.push((text, place)),
        }
    }

    fn is_enabled(&mut self, section: &Section) -> bool {
        let entry = section.entries.iter().find(|it| it.key == "enabled");
        let place = format!("{}.enabled", section.path);
        entry.and_then(|it| self.flag(&place, it)).unwrap_or(true)
    }

    fn only(&mut self, section: &Section, known: &'static [&'static str]) {
        for it in section.entries.iter().filter(|it| !known.contains(&it.key.as_str())) {
            let meant = nearest(&it.key, known.iter().copied());
            let meant = meant.map(|it| format!("did you mean {it}?"));
            let right = meant.unwrap_or_else(|| format!("give {}", known.join(", ")));
            let place = format!("{}.{}", section.path, it.key);
            self.fault(place, last(it), format!("no such option; {right}"));
        }
    }

    /// As OpenWrt spells it.
    fn flag(&mut self, place: &str, entry: &Entry) -> Option<bool> {
        match last(entry).as_str() {
            "1" | "on" | "true" | "yes" | "enabled" => Some(true),
            "0" | "off" | "false" | "no" | "disabled" => Some(false),
            other => {
                self.fault(place.to_owned(), other.to_owned(), "neither on nor off; give 1 or 0");
                None
            }
        }
    }

    fn set(&mut self, name: &'static str, place: String, text: String) {
        self.settings.insert(name, (text, place));
    }

    fn fault(&mut self, setting: String, value: String, right: impl Into<String>) {
        self.faults.push(Fault { setting, value: Some(value), right: right.into() });
    }

    /// All is in that file.
    fn only_a_file(&mut self, file: String) {
        let places = self.settings.values().chain(&self.vips).chain(&self.members);
        let beside = places.map(|(_, place)| place.clone()).collect::<Vec<_>>();
        for place in beside {
            let right = format!(
                "all settings are in {file}, as option config_file says; take \
                                 this one away, or that one"
            );
            self.faults.push(Fault::bare(place, right));
        }
    }

    /// What is the same on every router, and need not be said.
    fn complete(&mut self) {
        let joined = |list: &[(String, String)]| {
            let texts: Vec<_> = list.iter().map(|(text, _)| text.as_str()).collect();
            let place = list.first().map(|(_, place)| place.clone()).unwrap_or_default();
            (texts.join(","), place)
        };
        if !self.vips.is_empty() {
            self.settings.insert("address", joined(&self.vips));
            self.usual("cp_enable", "true");
        } else if self.text("svc_enable") != "true" {
            let right = "no VIP is enabled; give one: config vip, option address '192.0.2.40'";
            self.faults.push(Fault::bare(PACKAGE, right));
        }
        if !self.members.is_empty() {
            self.settings.insert("vip_peers", joined(&self.members));
        }
        self.usual("vip_arp", "true");
        self.usual("edgevip_notify", NOTIFY);
        self.usual("prometheus_server", "");
        let raft = ["vip_peers", "vip_raft_discover", "vip_raft_members"];
        if raft.iter().any(|it| self.settings.contains_key(it)) {
            self.usual("edgevip_state_dir", STATE);
            self.usual("control_plane_health_check_address", "off");
            if self.text("vip_raft_insecure") != "true" {
                self.usual("vip_keyfile", KEY);
            }
        }
    }

    fn text(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", |(text, _)| text)
    }

    fn usual(&mut self, name: &'static str, text: &str) {
        self.settings.entry(name).or_insert_with(|| (text.into(), PACKAGE.into()));
    }

    fn toml(&self) -> String {
        let mut text =
            format!("# Made of /etc/config/{PACKAGE}, and made anew when that changes.\n");
        let at_once = |it: &&Setting| AT_ONCE.contains(&it.name());
        self.write(settings::all().filter(at_once), &mut text);
        text += RESTART;
        text.push('\n');
        self.write(settings::all().filter(|it| !at_once(it)), &mut text);
        text
    }

    fn write(&self, settings: impl Iterator<Item = &'static Setting>, text: &mut String) {
        for setting in settings {
            if let Some((value, _)) = self.settings.get(setting.name()) {
                let _ = writeln!(text, "{} = {}", setting.name(), quoted(value));
            }
        }
    }

    /// The fault where it stands in UCI.
    fn found(&self, fault: Fault, prefix: &str) -> Fault {
        let name = fault.setting.strip_prefix(prefix).unwrap_or(&fault.setting);
        if self.file.is_some() {
            return Fault { setting: format!("{PACKAGE}: {prefix}{name}"), ..fault };
        }
        let wrong = |(text, _): &&(String, String)| fault.value.as_ref() == Some(text);
        let one = match name {
            "address" => self.vips.iter().find(wrong),
            "vip_peers" => self.members.iter().find(wrong),
            _ => None,
        };
        match one.or_else(|| self.settings.get(name)) {
            Some((_, place)) if place != PACKAGE => Fault { setting: place.clone(), ..fault },
            _ => Fault { setting: format!("{PACKAGE}: {name}"), ..fault },
        }
    }
}

fn last(entry: &Entry) -> String {
    entry.values.last().cloned().unwrap_or_default()
}

fn no_network(networks: &BTreeMap<String, String>) -> String {
    let known: Vec<_> =
        networks.iter().map(|(name, device)| format!("{name} ({device})")).collect();
    match known[..] {
        [] => "no network has a device yet; give option device instead, such as br-lan".into(),
        _ => format!("no network with a device; there are {}", known.join(", ")),
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for it in text.chars() {
        match it {
            '"' | '\\' => quoted.extend(['\\', it]),
            it if it.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", it as u32);
            }
            it => quoted.push(it),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests;
