//! The one table of settings: names, type, default, help, and what becomes of each.
//!
//! The command line, `--help`, the table in the documentation, `edgevip explain` and the
//! understanding of files and variables all come from here.

mod built;
mod others;
mod services;

use Standing::{Asks, Built, Dead, OfLease, OfRaft, OfServices, Parameter, Retired};

use super::values::Kind::{self, Text};

/// Something a user can write.
#[derive(Debug, Eq, PartialEq)]
pub struct Setting {
    /// Environment variables, separated by blanks; the first is the setting's name.
    pub env: &'static str,
    /// Flags without dashes, separated by blanks, in any case; one letter is a short flag.
    pub flags: &'static str,
    /// Keys in the configuration file, separated by blanks; a dot leads into an object.
    pub keys: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// What holds where nothing is written.
    pub default: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// What becomes of it.
    pub standing: Standing,
}

/// What becomes of a setting that somebody has written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Asks for this capability, which is not in this version: refused.
    Asks(&'static str),
    /// Works.
    Built,
    /// Has no effect, for this reason; said once.
    Dead(&'static str),
    /// Works where a Kubernetes Lease elects.
    OfLease,
    /// Works where raft elects.
    OfRaft,
    /// Works where Services are served.
    OfServices,
    /// Belongs to this capability, which is not in this version: no effect, warned about.
    Parameter(&'static str),
    /// Gone, with this instead of it; warned about.
    Retired(&'static str),
}

impl Setting {
    const fn new(env: &'static str, flags: &'static str, keys: &'static str) -> Self {
        Self { env, flags, keys, kind: Text, default: "", help: "", standing: Built }
    }

    const fn key(mut self, keys: &'static str) -> Self {
        self.keys = keys;
        self
    }

    const fn is(mut self, kind: Kind, default: &'static str, help: &'static str) -> Self {
        self.kind = kind;
        self.default = default;
        self.help = help;
        self
    }

    /// The name by which it is spoken of.
    pub fn name(&self) -> &'static str {
        self.env.split(' ').next().unwrap_or_default()
    }

    /// The flag by which it is spoken of, with its dashes, where it has one.
    pub fn flag(&self) -> Option<String> {
        let flag = self.flags.split(' ').next().filter(|it| !it.is_empty())?;
        Some(if flag.len() == 1 { format!("-{flag}") } else { format!("--{flag}") })
    }
}

/// The setting with this environment variable, spelt exactly.
pub fn by_variable(name: &str) -> Option<&'static Setting> {
    all().find(|it| it.env.split(' ').any(|env| env == name))
}

/// The setting with this flag, given without its dashes, in any case.
pub fn by_flag(name: &str) -> Option<&'static Setting> {
    all().find(|it| it.flags.split(' ').any(|flag| spelt(flag, name)))
}

/// The setting with this key in a file: a key proper, a variable or a flag, in any case.
pub fn by_key(name: &str) -> Option<&'static Setting> {
    all().find(|it| {
        [it.keys, it.env, it.flags].iter().any(|of| of.split(' ').any(|k| spelt(k, name)))
    })
}

fn spelt(known: &str, name: &str) -> bool {
    !known.is_empty() && known.eq_ignore_ascii_case(name)
}

/// Every setting, in the order of the table.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    built::BUILT.iter().chain(services::SERVICES).chain(others::NOT_BUILT).chain(others::NO_EFFECT)
}

const fn built(env: &'static str, flags: &'static str, keys: &'static str) -> Setting {
    Setting::new(env, flags, keys)
}

const fn lease(env: &'static str, flags: &'static str, keys: &'static str) -> Setting {
    Setting { standing: OfLease, ..Setting::new(env, flags, keys) }
}

const fn raft(env: &'static str, flags: &'static str, keys: &'static str) -> Setting {
    Setting { standing: OfRaft, ..Setting::new(env, flags, keys) }
}

const fn service(env: &'static str, flags: &'static str, keys: &'static str) -> Setting {
    Setting { standing: OfServices, ..Setting::new(env, flags, keys) }
}

const fn asks(what: &'static str, env: &'static str, flags: &'static str) -> Setting {
    Setting { standing: Asks(what), ..Setting::new(env, flags, "") }
}

const fn part(of: &'static str, env: &'static str, flags: &'static str) -> Setting {
    Setting { standing: Parameter(of), ..Setting::new(env, flags, "") }
}

const fn dead(why: &'static str, env: &'static str, flags: &'static str) -> Setting {
    Setting { standing: Dead(why), ..Setting::new(env, flags, "") }
}

const fn gone(instead: &'static str, env: &'static str, flags: &'static str) -> Setting {
    Setting { standing: Retired(instead), ..Setting::new(env, flags, "") }
}
