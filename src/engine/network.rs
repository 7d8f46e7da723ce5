//! What this node has: links, addresses, the default route.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    Address, Hardware, Instant, Link, LinkIndex, LinkName, Mac, NetworkChange, Refusal, Vip,
};

/// A carrier that is back sooner was never gone.
const CARRIER_PATIENCE: Duration = Duration::from_millis(100);

/// Which link carries the VIPs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum LinkChoice {
    /// The one with the VIP's subnet, else the one of the default route.
    Auto,
    /// This one.
    Named(LinkName),
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
        let Some(link) = self.choose(choice, vip) else {
            let link = match choice {
                LinkChoice::Named(name) => Some(name.clone()),
                LinkChoice::Auto => None,
            };
            return Err(Refusal::NoLink { link });
        };
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

    /// The link that is to carry the first of these VIPs, with its addresses besides them.
    pub fn home(&self, choice: &LinkChoice, vips: &BTreeSet<Vip>) -> Result<Home, Refusal> {
        let named = match choice {
            LinkChoice::Named(name) => Some(name.clone()),
            LinkChoice::Auto => None,
        };
        let link = vips.first().and_then(|it| self.choose(choice, *it));
        let link = link.ok_or(Refusal::NoLink { link: named })?;
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

    fn by_name(&self, name: &LinkName) -> Option<&Link> {
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
