//! VIPs that are written as DNS names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agenda::Marks;
use super::{Cx, Deadline};
use crate::model::{Instant, RequestId, SideCall, SideReply, Vip};

/// How often a name is looked up, as the peer does.
pub(super) const LOOK_UP_EVERY: Duration = Duration::from_secs(3);

/// A VIP as wanted: an address, or a name that stands for some.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum WantedVip {
    /// A literal address.
    Address(Vip),
    /// A DNS name.
    Name(String),
}

/// Which addresses of a name to use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Family {
    /// The first of each family.
    Dual,
    /// The first.
    First,
    /// The first of IPv4.
    Ipv4,
    /// The first of IPv6.
    Ipv6,
}

#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    family: Family,
    first: Option<WantedVip>,
    fixed: BTreeSet<Vip>,
    names: BTreeMap<String, Name>,
    vips: BTreeSet<Vip>,
    /// What is wanted, or wanted no more, since this was last taken.
    pub changed: Marks,
}

#[derive(Clone, Debug)]
struct Name {
    vips: Vec<Vip>,
    asked: Option<RequestId>,
    ask_at: Instant,
}

impl Resolver {
    pub fn new(wanted: Vec<WantedVip>, family: Family, now: Instant) -> Self {
        let mut it = Self {
            family,
            first: None,
            fixed: BTreeSet::new(),
            names: BTreeMap::new(),
            vips: BTreeSet::new(),
            changed: Marks::default(),
        };
        it.want(wanted, now);
        it
    }

    /// Wants these from now on. A name that was wanted before keeps what it stands for.
    pub fn want(&mut self, wanted: Vec<WantedVip>, now: Instant) {
        let mut known = std::mem::take(&mut self.names);
        self.fixed.clear();
        self.first = wanted.first().cloned();
        for vip in wanted {
            match vip {
                WantedVip::Address(vip) => drop(self.fixed.insert(vip)),
                WantedVip::Name(name) => {
                    let fresh = || Name { vips: Vec::new(), asked: None, ask_at: now };
                    let it = known.remove(&name).unwrap_or_else(fresh);
                    self.names.insert(name, it);
                }
            }
        }
        self.collect();
    }

    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        for (name, it) in &mut self.names {
            if it.asked.is_none() && it.ask_at <= cx.now {
                it.asked = Some(cx.side(SideCall::Resolve { name: name.clone() }));
            }
        }
    }

    /// A name that cannot be looked up keeps the addresses it had.
    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &SideReply) {
        let Some(it) = self.names.values_mut().find(|it| it.asked == Some(request)) else {
            return;
        };
        it.asked = None;
        it.ask_at = cx.now + cx.rng.jittered(LOOK_UP_EVERY);
        if let SideReply::Resolved(addresses) = reply {
            let chosen = choose(self.family, addresses);
            if !chosen.is_empty() && it.vips != chosen {
                it.vips = chosen;
                self.collect();
            }
        }
    }

    pub fn vips(&self) -> &BTreeSet<Vip> {
        &self.vips
    }

    /// Whether some name is not known to stand for anything yet.
    pub fn awaits_names(&self) -> bool {
        self.names.values().any(|it| it.vips.is_empty())
    }

    fn collect(&mut self) {
        let named = self.names.values().flat_map(|it| &it.vips);
        let vips = self.fixed.iter().chain(named).copied().collect();
        let before = std::mem::replace(&mut self.vips, vips);
        before.symmetric_difference(&self.vips).for_each(|it| self.changed.mark(*it));
    }

    /// The one that the settings name first.
    pub fn first(&self) -> Option<Vip> {
        match self.first.as_ref()? {
            WantedVip::Address(vip) => Some(*vip),
            WantedVip::Name(name) => self.names.get(name)?.vips.first().copied(),
        }
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let waiting = self.names.values().filter(|it| it.asked.is_none());
        waiting.map(|it| Deadline { at: it.ask_at, why: "look a name up" }).min()
    }
}

fn choose(family: Family, addresses: &[IpAddr]) -> Vec<Vip> {
    let v4 = addresses.iter().copied().find(IpAddr::is_ipv4);
    let v6 = addresses.iter().copied().find(IpAddr::is_ipv6);
    let chosen = match family {
        Family::Dual => [v4, v6],
        Family::First => [addresses.first().copied(), None],
        Family::Ipv4 => [v4, None],
        Family::Ipv6 => [v6, None],
    };
    chosen.into_iter().flatten().map(Vip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_the_addresses_its_family_asks_for() {
        let addresses = ["fd00::1", "10.0.0.1", "10.0.0.2"].map(|it| it.parse().unwrap());
        let table = [
            (Family::Dual, vec!["10.0.0.1", "fd00::1"]),
            (Family::First, vec!["fd00::1"]),
            (Family::Ipv4, vec!["10.0.0.1"]),
            (Family::Ipv6, vec!["fd00::1"]),
        ];
        for (family, expected) in table {
            let expected: Vec<_> = expected.iter().map(|it| Vip(it.parse().unwrap())).collect();
            assert_eq!(choose(family, &addresses), expected);
        }
    }
}
