//! What this node has: links, addresses, the default route.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    Address, Hardware, Instant, Link, LinkIndex, LinkKind, LinkName, Mac, Make, NetworkChange,
    Refusal, Vip,
};

/// A carrier that is back sooner was never gone.
const CARRIER_PATIENCE: Duration = Duration::from_millis(100);

/// Which link carries the VIPs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum LinkChoice {
    /// The one with the VIP's subnet, else the one of the default route.
    Auto,
    /// This one, which is made where there is none.
    Made(Box<MadeLink>),
    /// This one.
    Named(LinkName),
}

/// A link that is made where there is none, and removed when nobody wants it any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MadeLink {
    /// Its name.
    pub name: LinkName,
    /// What it is made on.
    pub parent: LinkChoice,
    /// What it is to be.
    pub make: Make,
}

impl LinkChoice {
    /// The link that is meant, where it is one by name.
    fn name(&self) -> Option<&LinkName> {
        match self {
            Self::Auto => None,
            Self::Made(it) => Some(&it.name),
            Self::Named(name) => Some(name),
        }
    }
}

/// The link that others are found on, and what this node is called there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Home {
    pub link: LinkIndex,
    pub name: LinkName,
    /// Its own addresses that others on the link can send to.
    pub addresses: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    known: bool,
    links: BTreeMap<LinkIndex, Known>,
    addresses: BTreeSet<Address>,
    /// Those of `addresses` that are this node's own and have a subnet: few.
    subnets: BTreeSet<Address>,
    default_link: Option<LinkIndex>,
    /// Grows whenever any VIP may have to go elsewhere.
    revision: u64,
    patience_ends_at: Option<Instant>,
    /// Links that the kernel would not make, and why.
    unmade: BTreeMap<LinkName, String>,
}

#[derive(Clone, Debug)]
struct Known {
    link: Link,
    /// Since when it has been without carrier.
    dead_since: Option<Instant>,
}

/// A link that a VIP can be on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Usable {
    pub index: LinkIndex,
    pub mac: Mac,
    /// It has a carrier at this moment, not only until patience ends.
    pub carrier: bool,
}

impl Network {
    pub fn learn(&mut self, now: Instant, change: NetworkChange) {
        match change {
            NetworkChange::Address(address) => {
                // The tag may have changed: what tells addresses apart is the rest.
                self.forget(address);
                self.addresses.insert(address);
                if has_subnet(&address) {
                    self.subnets.insert(address);
                    self.revision += 1;
                }
            }
            NetworkChange::AddressGone(address) => self.forget(address),
            NetworkChange::DefaultLink(link) => {
                self.default_link = link;
                self.revision += 1;
            }
            NetworkChange::Link(link) => {
                self.learn_link(now, link);
                self.revision += 1;
            }
            NetworkChange::LinkGone(index) => {
                self.links.remove(&index);
                self.addresses.retain(|it| it.link != index);
                self.subnets.retain(|it| it.link != index);
                self.revision += 1;
            }
            NetworkChange::Snapshot { links, addresses, default_link } => {
                let there: BTreeSet<_> = links.iter().map(|it| it.index).collect();
                self.links.retain(|index, _| there.contains(index));
                for link in links {
                    self.learn_link(now, link);
                }
                self.addresses = addresses.into_iter().collect();
                self.subnets = self.addresses.iter().filter(|it| has_subnet(it)).copied().collect();
                self.default_link = default_link;
                self.known = true;
                self.revision += 1;
            }
        }
        self.patience_ends_at = self.ends_after(now);
    }

    /// Time first: patience with a dead link may be over.
    pub fn expire(&mut self, now: Instant) {
        if self.patience_ends_at.is_some_and(|it| it <= now) {
            self.revision += 1;
            self.patience_ends_at = self.ends_after(now);
        }
    }

    /// As long as it is the same, no VIP has another link, prefix or reason to have none.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the first snapshot has come.
    pub fn is_known(&self) -> bool {
        self.known
    }

    pub fn has(&self, link: LinkIndex, vip: Vip) -> bool {
        let least = Address { link, ip: vip.0, length: 0, ours: false };
        self.addresses.range(least..).next().is_some_and(|it| it.link == link && it.ip == vip.0)
    }

    /// Whether this node has the address, and not by us.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|it| it.ip == ip && !it.ours)
    }

    /// Whether the address is in a subnet of this node's own: nobody forwards in between.
    pub fn is_on_link(&self, ip: IpAddr) -> bool {
        self.subnets.iter().any(|it| is_subnet(it) && it.covers(ip))
    }

    /// The link's own address of IPv6, which no router knows.
    pub fn local(&self, link: LinkIndex) -> Option<Ipv6Addr> {
        let on = self.addresses.iter().filter(|it| it.link == link && !it.ours);
        let ips = on.filter_map(|it| match it.ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(it) => Some(it),
        });
        ips.filter(Ipv6Addr::is_unicast_link_local).min()
    }

    pub fn link(&self, index: LinkIndex) -> Option<&Link> {
        self.links.get(&index).map(|it| &it.link)
    }

    /// The link that is to carry the VIP, whatever state it is in.
    pub fn choose(&self, choice: &LinkChoice, vip: Vip) -> Option<&Link> {
        let chosen = match choice {
            LinkChoice::Made(it) => return self.by_name(&it.name),
            LinkChoice::Named(name) => return self.by_name(name),
            LinkChoice::Auto => self.of_subnet(vip).or(self.default_link),
        };
        self.link(chosen?)
    }

    /// The link that is to carry the VIP, if it can.
    pub fn usable(
        &self,
        choice: &LinkChoice,
        vip: Vip,
        now: Instant,
        keep_dead: bool,
    ) -> Result<Usable, Refusal> {
        let link = self.choose(choice, vip);
        if let LinkChoice::Made(made) = choice {
            self.is_made(made, link, vip, now, keep_dead)?;
        }
        let link = link.ok_or_else(|| Refusal::NoLink { link: choice.name().cloned() })?;
        let (Hardware::Ethernet, Some(mac)) = (link.hardware, link.mac) else {
            let (link, hardware) = (link.name.clone(), link.hardware);
            return Err(Refusal::NoFrames { link, hardware });
        };
        let dead_since = self.links.get(&link.index).and_then(|it| it.dead_since);
        if !keep_dead && dead_since.is_some_and(|it| it + CARRIER_PATIENCE <= now) {
            return Err(Refusal::NoCarrier { link: link.name.clone() });
        }
        Ok(Usable { index: link.index, mac, carrier: dead_since.is_none() })
    }

    /// Why a link that is made where there is none is not there, or is another.
    fn is_made(
        &self,
        made: &MadeLink,
        there: Option<&Link>,
        vip: Vip,
        now: Instant,
        keep_dead: bool,
    ) -> Result<(), Refusal> {
        let link = made.name.clone();
        let Some(there) = there else {
            self.usable(&made.parent, vip, now, keep_dead)?;
            return Err(match self.unmade.get(&made.name) {
                Some(why) => Refusal::LinkNotMade { link, why: why.clone() },
                None => Refusal::LinkAwaited { link },
            });
        };
        let below = self.choose(&made.parent, vip).map(|it| it.index);
        match made.make {
            Make::Vlan { tag }
                if Some(there.kind) != below.map(|parent| LinkKind::Vlan { parent, tag }) =>
            {
                let parent = made.parent.name().map(|it| format!(" of {it}")).unwrap_or_default();
                Err(Refusal::LinkDiffers { link, right: format!("VLAN {tag}{parent}") })
            }
            // As the peer has it: one that is there is used as it is.
            Make::Macvlan { .. } | Make::Vlan { .. } => Ok(()),
        }
    }

    /// Whether the VIP could be carried: where only a link is missing that is made for who
    /// carries it, by the one below.
    pub fn could_use(
        &self,
        choice: &LinkChoice,
        vip: Vip,
        now: Instant,
        keep_dead: bool,
    ) -> Result<Usable, Refusal> {
        match choice {
            LinkChoice::Made(it)
                if matches!(it.make, Make::Macvlan { .. })
                    && !self.unmade.contains_key(&it.name)
                    && self.by_name(&it.name).is_none() =>
            {
                self.could_use(&it.parent, vip, now, keep_dead)
            }
            LinkChoice::Auto | LinkChoice::Made(_) | LinkChoice::Named(_) => {
                self.usable(choice, vip, now, keep_dead)
            }
        }
    }

    /// Why the kernel would not make a link, or that it may again.
    pub fn note_unmade(&mut self, link: &LinkName, why: Option<String>) {
        let before = match why.clone() {
            Some(why) => self.unmade.insert(link.clone(), why),
            None => self.unmade.remove(link),
        };
        if before != why {
            self.revision += 1;
        }
    }

    /// The links that this instance made.
    pub fn made(&self) -> impl Iterator<Item = &Link> {
        self.links.values().map(|it| &it.link).filter(|it| it.ours)
    }

    /// The link that is to carry the first of these VIPs, with its addresses besides them.
    pub fn home(&self, choice: &LinkChoice, vips: &BTreeSet<Vip>) -> Result<Home, Refusal> {
        let link = vips.first().and_then(|it| self.choose(choice, *it));
        let link = link.ok_or_else(|| Refusal::NoLink { link: choice.name().cloned() })?;
        let own = |it: &&Address| {
            let local = matches!(it.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            let fits = it.link == link.index && !it.ours && is_subnet(it) && !local;
            fits && !vips.contains(&Vip(it.ip))
        };
        let addresses = self.addresses.iter().filter(own).map(|it| it.ip).collect();
        Ok(Home { link: link.index, name: link.name.clone(), addresses })
    }

    /// A prefix shorter than the whole address, but only beside an address of the node's
    /// own in that subnet: a VIP that was there first would take the subnet's routes with
    /// it when it goes.
    pub fn length(&self, link: LinkIndex, vip: Vip, wanted: u8) -> u8 {
        let beside = self
            .subnets
            .iter()
            .any(|it| it.link == link && it.ip != vip.0 && it.length == wanted && it.covers(vip.0));
        if beside { wanted } else { vip.width() }
    }

    /// When patience with a dead link ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.patience_ends_at
    }

    fn ends_after(&self, now: Instant) -> Option<Instant> {
        let ends = self.links.values().filter_map(|it| Some(it.dead_since? + CARRIER_PATIENCE));
        ends.filter(|it| *it > now).min()
    }

    fn learn_link(&mut self, now: Instant, link: Link) {
        let alive = link.up && link.carrier;
        let before = self.links.get(&link.index).and_then(|it| it.dead_since);
        let dead_since = if alive { None } else { before.or(Some(now)) };
        self.links.insert(link.index, Known { link, dead_since });
    }

    fn forget(&mut self, gone: Address) {
        for ours in [false, true] {
            let gone = Address { ours, ..gone };
            self.addresses.remove(&gone);
            if self.subnets.remove(&gone) {
                self.revision += 1;
            }
        }
    }

    pub fn by_name(&self, name: &LinkName) -> Option<&Link> {
        self.links.values().map(|it| &it.link).find(|it| it.name == *name)
    }

    fn of_subnet(&self, vip: Vip) -> Option<LinkIndex> {
        let fits = |it: &&Address| it.ip != vip.0 && is_subnet(it) && it.covers(vip.0);
        self.subnets.iter().filter(fits).max_by_key(|it| it.length).map(|it| it.link)
    }
}

/// Whether there is room for VIPs beside it.
fn has_subnet(it: &Address) -> bool {
    !it.ours && it.length < Vip(it.ip).width()
}

fn is_subnet(address: &Address) -> bool {
    match address.ip {
        IpAddr::V4(ip) => address.length < 32 && !ip.is_loopback(),
        IpAddr::V6(ip) => address.length < 128 && !ip.is_loopback(),
    }
}
