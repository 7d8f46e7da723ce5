//! Where settings come from: variables before flags before the file before defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::settings::{self, Setting};
use super::values::{self, Kind, MAX_FILE};
use super::{Fault, Notes, yaml};

/// Everything that settings are read from.
pub struct Sources<'a> {
    /// The flags of the command line, in their order.
    pub flags: Vec<Given>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The name of this host.
    pub hostname: String,
    /// Reads a file; [`read`] but in tests.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Whether everybody on this host may read a file; [`is_open`] but in tests.
    pub is_open: &'a dyn Fn(&Path) -> bool,
}

impl Sources<'_> {
    /// What systemd hands over under this name, and where. Only white space is the same as
    /// nothing, since that is what a unit can give where there is no file.
    pub(super) fn credential(&self, name: &str) -> Option<(PathBuf, io::Result<String>)> {
        let path = Path::new(self.env.get("CREDENTIALS_DIRECTORY")?).join(name);
        match (self.read)(&path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => None,
            Ok(text) if text.trim().is_empty() => None,
            text => Some((path, text)),
        }
    }
}

/// A flag as it was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Given {
    /// The setting it is for.
    pub setting: &'static Setting,
    /// The flag as written, with its dashes.
    pub written: String,
    /// Its value.
    pub text: String,
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// This variable.
    Env(String),
    /// This file.
    File(PathBuf),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::Env(name) => write!(f, "variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Reads a file of at most [`MAX_FILE`] bytes.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_FILE {
        return Err(io::Error::other(format!("more than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// Whether everybody on this host may read a file.
pub fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o004 != 0)
}

/// The command line without the flags of the table, and these.
#[derive(Debug, Default)]
pub struct CommandLine {
    /// What is left: sub-commands, their own switches, and what belongs to these.
    pub rest: Vec<String>,
    /// The flags of the table, in their order.
    pub flags: Vec<Given>,
    /// What could not be understood.
    pub faults: Vec<Fault>,
}

/// Takes the flags of the table out of a command line; `own` are the switches to leave in.
pub fn take_flags(args: &[String], own: &[&'static str]) -> CommandLine {
    let mut line = CommandLine::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            line.rest.extend(args.by_ref().cloned());
        } else if let Some(flag) = arg.strip_prefix("--") {
            let (name, value) = split(flag, flag.find('=').unwrap_or(flag.len()));
            if let Some(switch) = own.iter().find(|it| it.eq_ignore_ascii_case(name)) {
                // A switch may say so itself, as Go's do.
                match value {
                    Some("false") => {}
                    Some(value) if value != "true" => {
                        line.rest.extend([dashed(switch), value.to_owned()]);
                    }
                    Some(_) | None => line.rest.push(dashed(switch)),
                }
            } else {
                line.take(format!("--{name}"), name, value, &mut args);
            }
        } else if let Some(flag) = arg.strip_prefix('-').filter(|it| !it.is_empty()) {
            let (name, value) = split(flag, flag.chars().next().map_or(0, char::len_utf8));
            if own.contains(&name) && value.is_none() {
                line.rest.push(arg.clone());
            } else {
                line.take(format!("-{name}"), name, value, &mut args);
            }
        } else {
            line.rest.push(arg.clone());
        }
    }
    line
}

/// `inCluster` as `--in-cluster`, which is how sub-commands take it.
pub fn dashed(name: &str) -> String {
    name.chars().fold("--".to_owned(), |text, it| match it.is_ascii_uppercase() {
        true => text + "-" + &it.to_ascii_lowercase().to_string(),
        false => text + &it.to_string(),
    })
}

fn split(flag: &str, at: usize) -> (&str, Option<&str>) {
    let (name, tail) = flag.split_at(at);
    (name, (!tail.is_empty()).then(|| tail.strip_prefix('=').unwrap_or(tail)))
}

impl CommandLine {
    fn take<'a>(
        &mut self,
        written: String,
        name: &str,
        value: Option<&str>,
        more: &mut impl Iterator<Item = &'a String>,
    ) {
        let long = written.starts_with("--");
        let Some(setting) = settings::by_flag(name).filter(|_| long == (name.len() > 1)) else {
            let known = settings::all().flat_map(|it| it.flags.split(' '));
            self.faults.push(Fault::bare(written, unknown("flag", values::nearest(name, known))));
            return;
        };
        let text = match (value, setting.kind == Kind::Bool || is_dead_switch(setting)) {
            (Some(value), _) => value.to_owned(),
            (None, true) => "true".to_owned(),
            (None, false) => match more.next() {
                Some(next) => next.clone(),
                None => return self.faults.push(Fault::bare(written, "needs a value")),
            },
        };
        self.flags.push(Given { setting, written, text });
    }
}

/// Whether the flag of a setting without effect was a switch: its value is not looked at.
fn is_dead_switch(setting: &Setting) -> bool {
    setting.kind == Kind::Text && values::bool(setting.default).is_some()
}

fn unknown(what: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) if what == "flag" => format!("no such flag; did you mean --{nearest}?"),
        Some(nearest) => format!("no such {what}; did you mean {nearest}?"),
        None => format!("no such {what}"),
    }
}

/// The effective text of every setting.
pub struct Settings {
    values: BTreeMap<&'static str, Effective>,
}

/// The effective text of a setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Effective {
    /// What was written, or the default.
    pub text: String,
    /// By whom.
    pub origin: Origin,
}

impl Settings {
    /// What all sources say, right or wrong.
    pub fn of(sources: &Sources<'_>) -> Self {
        Self::gather(sources, &mut Notes::default())
    }

    /// Reads all sources. A value that is not of its kind is a fault, and leaves in place
    /// what was there.
    pub(super) fn gather(sources: &Sources<'_>, notes: &mut Notes) -> Self {
        let mut settings = Self {
            values: settings::all()
                .map(|it| {
                    (it.name(), Effective { text: it.default.into(), origin: Origin::Default })
                })
                .collect(),
        };
        settings.take_env_and_flags(sources, &mut Notes::default());
        let path = settings.text("config_file").to_owned();
        settings.take_file(Path::new(&path), sources, notes);
        settings.take_env_and_flags(sources, notes);
        warn_of_unknown_variables(&sources.env, notes);
        settings
    }

    /// The effective value of this setting.
    pub fn get(&self, name: &str) -> &Effective {
        const NOTHING: &Effective = &Effective { text: String::new(), origin: Origin::Default };
        debug_assert!(self.values.contains_key(name), "{name} is not in the table");
        self.values.get(name).unwrap_or(NOTHING)
    }

    /// The text of this setting.
    pub fn text(&self, name: &str) -> &str {
        &self.get(name).text
    }

    /// Whether this setting is on.
    pub fn is_on(&self, name: &str) -> bool {
        values::bool(self.text(name)).unwrap_or_default()
    }

    /// Whether nobody has set it.
    pub fn is_default(&self, name: &str) -> bool {
        self.get(name).origin == Origin::Default
    }

    /// Whether it is set, and to something else than what holds anyway.
    pub fn is_asked_for(&self, setting: &Setting) -> bool {
        let value = self.get(setting.name());
        let (written, default) = (values::bool(&value.text), values::bool(setting.default));
        value.origin != Origin::Default
            && value.text != setting.default
            && (written.is_none() || written != default)
    }

    fn take_env_and_flags(&mut self, sources: &Sources<'_>, notes: &mut Notes) {
        for flag in &sources.flags {
            let origin = Origin::Flag(flag.written.clone());
            self.set(flag.setting, &flag.written, flag.text.clone(), origin, notes);
        }
        for setting in settings::all() {
            let mut names = setting.env.split(' ').filter_map(|it| sources.env.get_key_value(it));
            if let Some((name, text)) = names.find(|(_, text)| counts(setting, text)) {
                self.set(setting, name, text.clone(), Origin::Env(name.clone()), notes);
            }
        }
    }

    fn take_file(&mut self, path: &Path, sources: &Sources<'_>, notes: &mut Notes) {
        if path.as_os_str().is_empty() {
            return;
        }
        match (sources.read)(path).map_err(|it| it.to_string()).and_then(|it| parse(path, &it)) {
            Ok(root) => self.take_entries("", &root, path, notes),
            Err(why) => notes.fault("config_file", path.display(), why),
        }
    }

    fn take_entries(&mut self, prefix: &str, object: &Value, path: &Path, notes: &mut Notes) {
        let Value::Object(entries) = object else {
            return notes.fault("config_file", path.display(), "not a table of settings");
        };
        for (key, value) in entries {
            let key = format!("{prefix}{key}");
            let written = format!("{}: {key}", path.display());
            match (settings::by_key(&key), value) {
                (Some(setting), value) => {
                    let text = values::spelled(value);
                    if counts(setting, &text) {
                        self.set(setting, &written, text, Origin::File(path.into()), notes);
                    }
                }
                (None, Value::Object(_)) if prefix.is_empty() => {
                    self.take_entries(&format!("{key}."), value, path, notes);
                }
                (None, _) => {
                    let known =
                        settings::all().flat_map(|it| it.env.split(' ').chain(it.keys.split(' ')));
                    let nearest = values::nearest(&key, known);
                    notes.warnings.push(format!("{written}: {}", unknown("setting", nearest)));
                }
            }
        }
    }

    fn set(
        &mut self,
        setting: &'static Setting,
        written: &str,
        text: String,
        origin: Origin,
        notes: &mut Notes,
    ) {
        match setting.kind.fault(&text) {
            Some(right) => notes.fault(written, text, right),
            None => drop(self.values.insert(setting.name(), Effective { text, origin })),
        }
    }
}

/// Nothing is the same as not set, but where nothing means something.
fn counts(setting: &Setting, text: &str) -> bool {
    !text.is_empty() || matches!(setting.name(), "lb_class_name" | "prometheus_server")
}

fn parse(path: &Path, content: &str) -> Result<Value, String> {
    match path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_lowercase().as_str() {
        "toml" => basic_toml::from_str(content).map_err(|it| it.to_string().trim_end().to_owned()),
        "json" => serde_json::from_slice(content.as_bytes()).map_err(|it| it.to_string()),
        "yaml" | "yml" => yaml::parse(content),
        _ => Err("of unknown kind; give a file that ends in .toml, .yaml, .yml or .json".into()),
    }
}

const PREFIXES: [&str; 15] = [
    "bgp_",
    "control_plane_health_check_",
    "cp_",
    "dhcp_",
    "dns_",
    "edgevip_",
    "egress_",
    "enable_",
    "health_check_",
    "kubernetes_addr",
    "lb_",
    "mpbgp_",
    "svc_",
    "vip_",
    "zebra_",
];

fn warn_of_unknown_variables(env: &BTreeMap<String, String>, notes: &mut Notes) {
    for name in env.keys().filter(|it| settings::by_variable(it).is_none()) {
        let known = || settings::all().flat_map(|it| it.env.split(' '));
        // Variables in capitals, such as those of a Service called `vip`, are other people's.
        let meant = if PREFIXES.iter().any(|it| name.starts_with(it)) {
            values::nearest(name, known())
        } else {
            match known().find(|it| it.eq_ignore_ascii_case(name) && it.contains('_')) {
                Some(known) => Some(known),
                None => continue,
            }
        };
        notes.warnings.push(format!("{name}: {}", unknown("setting", meant)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_not_read_to_the_end() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    }
}
