//! The ConfigMap, read: pools, who may share, interfaces, and the order of search.

use std::collections::BTreeMap;

use super::ranges::ByFamily;
use super::text::{self, Source};
use crate::model::{PoolFault, PoolRefusal};

/// What is said for all namespaces.
const GLOBAL: &str = "global";
/// Longest name of a link (IFNAMSIZ, less the zero byte).
const LINK_NAME: usize = 15;
/// So much of a wrong text is shown.
const SHOWN: usize = 80;

/// Everything that the ConfigMap says of pools.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pools {
    pub(super) order: Order,
    /// By key.
    pub(super) pools: BTreeMap<String, Result<Pool, PoolFault>>,
    /// By namespace.
    sharing: BTreeMap<String, bool>,
    /// By namespace; `None`: none is to be written.
    interfaces: BTreeMap<String, Option<String>>,
    faults: Vec<PoolFault>,
}

/// From which end addresses are given out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Order {
    /// The lowest first.
    #[default]
    Ascending,
    /// The highest first.
    Descending,
}

/// The addresses of one key.
pub(super) type Pool = ByFamily<Source>;

impl Pools {
    /// Reads the texts. What is wrong is kept as a fault of its own key, and nothing else.
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        let mut pools = Self::default();
        let skip_ends = data.get("skip-end-ips-in-cidr").is_some_and(|it| it == "true");
        for (key, value) in data {
            pools.read_one(key, value, skip_ends);
        }
        pools.note_shadowed(data);
        pools
    }

    /// What is wrong, or has no effect.
    pub fn faults(&self) -> impl Iterator<Item = &PoolFault> {
        self.pools.values().filter_map(|it| it.as_ref().err()).chain(&self.faults)
    }

    /// Whether Services of a namespace may have one address with others.
    pub fn allows_sharing(&self, namespace: &str) -> bool {
        let own = self.sharing.get(namespace).or_else(|| self.sharing.get(GLOBAL));
        own.copied().unwrap_or(false)
    }

    /// On which link Services of a namespace are to be.
    pub fn interface(&self, namespace: &str) -> Option<&str> {
        let own = self.interfaces.get(namespace).or_else(|| self.interfaces.get(GLOBAL));
        own?.as_deref()
    }

    /// The key of the pool of a namespace, which need not be readable.
    pub fn key(&self, namespace: &str) -> Option<&str> {
        let keys = ["cidr", "range"]
            .into_iter()
            .flat_map(|kind| [namespace, GLOBAL].map(|namespace| format!("{kind}-{namespace}")));
        keys.into_iter().find_map(|it| self.pools.get_key_value(&it)).map(|(key, _)| key.as_str())
    }

    pub(super) fn pool(&self, namespace: &str) -> Result<(&str, &Pool), PoolRefusal> {
        let no_pool = || PoolRefusal::NoPool { namespace: namespace.to_owned() };
        let key = self.key(namespace).ok_or_else(no_pool)?;
        let malformed = |fault: &PoolFault| PoolRefusal::Malformed {
            namespace: namespace.to_owned(),
            fault: fault.clone(),
        };
        Ok((key, self.pools[key].as_ref().map_err(malformed)?))
    }

    fn read_one(&mut self, key: &str, value: &str, skip_ends: bool) {
        match key.split_once('-') {
            Some(("cidr" | "range", _)) => {
                let pool = text::pool(value, skip_ends);
                let pool = pool.map_err(|(part, right)| fault(key, part, right));
                self.pools.insert(key.to_owned(), pool);
            }
            Some(("allow", rest)) => {
                let Some(namespace) = rest.strip_prefix("share-") else { return };
                let allowed = boolean(value);
                let right = "is no boolean: right is \"true\" or \"false\"; taken for false";
                self.expect(allowed.is_some(), key, value, right);
                self.sharing.insert(namespace.to_owned(), allowed.unwrap_or(false));
            }
            Some(("interface", namespace)) => {
                let odd = |it: char| it == '/' || it.is_whitespace() || it.is_control();
                let sound = value.len() <= LINK_NAME && !value.contains(odd);
                let right = "is no name of a link: right are up to 15 bytes without blanks and \
                             slashes, or auto; none is written";
                self.expect(sound, key, value, right);
                let link = Some(value.to_owned()).filter(|it| sound && !it.is_empty());
                self.interfaces.insert(namespace.to_owned(), link);
            }
            Some(("search", "order")) => {
                let right = "is no order: right is desc or asc; taken for asc";
                self.expect(matches!(value, "asc" | "desc"), key, value, right);
                if value == "desc" {
                    self.order = Order::Descending;
                }
            }
            Some(("skip", "end-ips-in-cidr")) => {
                let right = "is neither true nor false; taken for false";
                self.expect(matches!(value, "true" | "false"), key, value, right);
            }
            Some(_) | None => (),
        }
    }

    /// A CIDR for all goes before a range for one: users expect it the other way round.
    fn note_shadowed(&mut self, data: &BTreeMap<String, String>) {
        for (key, value) in data {
            let Some(namespace) = key.strip_prefix("range-") else { continue };
            let own = format!("cidr-{namespace}");
            let right = match (data.contains_key(&own), data.contains_key("cidr-global")) {
                (true, _) => format!("is never used: {own} goes before it"),
                (false, true) => format!(
                    "is never used: cidr-global goes before it; a range may stand under {own}"
                ),
                (false, false) => continue,
            };
            self.faults.push(fault(key, value, &right));
        }
    }

    fn expect(&mut self, sound: bool, key: &str, value: &str, right: &str) {
        if !sound {
            self.faults.push(fault(key, value, right));
        }
    }
}

fn fault(key: &str, value: &str, right: &str) -> PoolFault {
    let mut shown: String = value.chars().take(SHOWN).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    PoolFault { key: key.to_owned(), value: shown, right: right.to_owned() }
}

/// What Go takes for a boolean.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
