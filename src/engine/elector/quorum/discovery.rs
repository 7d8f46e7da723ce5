//! Members find each other on their link: each says hello to a group that no router forwards,
//! with the key that they share.
//!
//! ```text
//!            N - 1 others without a cluster     all of the set say the same set
//!   Alone ────────────────────────────▶ Proposes ────────────────────────▶ Pledged
//!     │                                    ▲                                 │ all of the set
//!     │ somebody has a cluster             └── not all agree any more, ──────┤ are pledged
//!     ▼                                        and the pledge is over        ▼
//!   asks to be added                                       the first of the set founds
//! ```
//!
//! A set is the first N names, each in one life, so who agrees hears all the others of the
//! set as they are. A pledge is to one set at a time. What makes two clusters impossible is
//! not this, but that nobody leads before all of the set have the founding entry on disk,
//! which has room for one; the agreement makes it unlikely that a founding stays half done.
//!
//! The groups are those for experiments (RFC 4727 §2.4.2, §3.4.1): 224.0.0.254, since switches
//! that snoop IGMP flood 224.0.0.x (RFC 4541 §2.1.2) whether or not somebody asks who listens,
//! and no router forwards it; a group of 239.255/16 would be silenced by the first and let
//! through by the second. ff02::114 where the link has no IPv4.

mod agreeing;
mod saying;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub(super) use agreeing::Pact;

use super::DiscoverConfig;
use super::raft::UNREADABLE;
use crate::engine::network::Home;
use crate::engine::{Action, Cx, Deadline};
use crate::model::{
    Company, Ear, Envelope, Hello, Instant, Life, LinkName, Members, NodeName, Refusal,
};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 254);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x114);
/// So many are remembered.
const MOST: usize = 64;
/// No set is larger.
const LARGEST_SET: usize = 7;
/// Who was not heard for so long is not reckoned with in a founding.
const FRESH: Duration = Duration::from_secs(5);
/// And is forgotten after that: those who are settled say hello every half a minute.
const REMEMBERED: Duration = Duration::from_secs(65);
/// A pledge lasts so long after all of the set last agreed.
const PLEDGE: Duration = Duration::from_secs(10);
/// Who founds alone listens first.
const LISTEN: Duration = Duration::from_secs(10);
/// An address of IPv4 may come so late, from a DHCP server.
const IPV4_WITHIN: Duration = Duration::from_secs(10);
/// Another host with this member's name is spoken of for so long.
const TWIN_REMEMBERED: Duration = Duration::from_secs(10);
/// Lives of one name that are over.
const PAST_LIVES: usize = 8;

/// One member's discovery.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    me: NodeName,
    life: Life,
    config: DiscoverConfig,
    started_at: Instant,
    /// Where this member is, or why it is nowhere, and since when.
    here: Result<Here, String>,
    here_since: Instant,
    /// What was last ordered to be listened to.
    listens: Option<Here>,
    cluster: Option<u64>,
    /// A founding entry is on its way to the disk: nothing else is agreed to.
    taking: bool,
    settled: bool,
    heard: BTreeMap<NodeName, Heard>,
    /// Another host with this member's name.
    twin: Option<(SocketAddr, Instant)>,
    pledge: Option<Pledge>,
    /// What was said last, and when.
    said: Option<(Company, bool, Instant)>,
    count: u64,
    next_at: Instant,
    restless_since: Instant,
    /// Hellos that were not believed, by where they came from.
    refused: BTreeMap<IpAddr, BTreeMap<&'static str, u64>>,
    /// When the leader last proposed something on its own.
    pub proposed_at: Option<Instant>,
    /// Why somebody who was heard is not added.
    pub obstacle: Option<String>,
}

/// A link, and this member's address there.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Here {
    home: Home,
    address: SocketAddr,
}

/// What was last heard of another.
#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    life: Life,
    count: u64,
    hello: Hello,
    past: Vec<Life>,
}

/// This member founds with no others until then.
#[derive(Clone, Debug)]
struct Pledge {
    set: Company,
    until: Instant,
}

/// What the rest of the member knows.
pub(super) struct View<'a> {
    /// The link to find others on.
    pub home: Result<Home, Refusal>,
    /// As it is told to others.
    pub cluster: Option<u64>,
    /// An entry is on its way to the disk.
    pub taking: bool,
    /// The members of its cluster, if it has one.
    pub members: Option<&'a Members>,
    /// Whether that is known to be committed.
    pub committed: bool,
}

impl Discovery {
    pub fn new(me: NodeName, life: Life, config: DiscoverConfig, now: Instant) -> Self {
        Self {
            me,
            life,
            config,
            started_at: now,
            here: Err("looks for its link".to_owned()),
            here_since: now,
            listens: None,
            cluster: None,
            taking: false,
            settled: false,
            heard: BTreeMap::new(),
            twin: None,
            pledge: None,
            said: None,
            count: 0,
            next_at: now,
            restless_since: now,
            refused: BTreeMap::new(),
            proposed_at: None,
            obstacle: None,
        }
    }

    /// Somebody with the key says hello. `forwarded`: a router had its hands in it.
    pub fn on_hello(
        &mut self,
        now: Instant,
        source: SocketAddr,
        forwarded: bool,
        envelope: &Envelope,
        hello: Hello,
    ) {
        if let Err(code) = self.take(now, source, forwarded, envelope, hello) {
            let room = self.refused.len() < MOST || self.refused.contains_key(&source.ip());
            let source = if room { source.ip() } else { Ipv4Addr::UNSPECIFIED.into() };
            *self.refused.entry(source).or_default().entry(code).or_default() += 1;
        }
    }

    /// Time has passed, or something is known that was not.
    pub fn tick(&mut self, cx: &mut Cx<'_>, view: &View<'_>) {
        self.settle_in(cx, view);
        self.heard.retain(|_, it| cx.now < it.at + REMEMBERED);
        self.twin.take_if(|it| it.1 + TWIN_REMEMBERED <= cx.now);
        (self.cluster, self.taking) = (view.cluster, view.taking);
        let mine = view.members.and_then(|it| it.get(&self.me));
        let settled = match (view.members, mine, &self.here) {
            (Some(_), Some(mine), Ok(here)) => view.committed && mine.address == here.address,
            // It was removed, or cannot say anything.
            (Some(_), None, _) | (Some(_), _, Err(_)) => true,
            (None, ..) => view.cluster.is_some(),
        };
        if self.settled && !settled {
            self.be_restless(cx.now);
        }
        self.settled = settled;
        self.pledge(cx.now);
        self.speak(cx);
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let plain = |at, why| Deadline { at, why };
        if self.here.is_err() {
            let wait = self.started_at + IPV4_WITHIN;
            let waits = self.listens.is_none() && self.here_since < wait;
            return waits.then_some(plain(wait, "do without IPv4"));
        }
        let pledge = self
            .pledge
            .as_ref()
            .filter(|_| !self.taking)
            .map(|it| plain(it.until, "a pledge ends"));
        [Some(plain(self.next_at, "hello")), pledge].into_iter().flatten().min()
    }

    /// Where the member listens by its own word, if that is worth anything: it has heard this
    /// life of ours, and belongs to our cluster, or to none.
    pub fn address_of(&self, name: &NodeName) -> Option<SocketAddr> {
        let it = self.heard.get(name).filter(|it| self.hears_us(it))?;
        let ours = it.hello.cluster.is_none() || it.hello.cluster == self.cluster;
        ours.then_some(it.hello.address)
    }

    /// Whether the member is heard to belong to another cluster than this one.
    pub fn is_elsewhere(&self, name: &NodeName) -> bool {
        let theirs = self.heard.get(name).and_then(|it| it.hello.cluster);
        theirs.is_some_and(|it| it != UNREADABLE && Some(it) != self.cluster)
    }

    fn take(
        &mut self,
        now: Instant,
        source: SocketAddr,
        forwarded: bool,
        envelope: &Envelope,
        hello: Hello,
    ) -> Result<(), &'static str> {
        let Envelope { from, life, count, .. } = envelope;
        if forwarded {
            return Err("forwarded");
        }
        if source != hello.address {
            return Err("address");
        }
        if hello.hears.len() > MOST || hello.set.len() > LARGEST_SET {
            return Err("malformed");
        }
        if *from == self.me {
            let ours = self.here.as_ref().is_ok_and(|it| it.address == hello.address);
            if *life != self.life && !ours {
                self.twin = Some((hello.address, now));
            }
            return Ok(());
        }
        let mut past = Vec::new();
        let full = self.heard.len() >= MOST;
        match self.heard.get_mut(from) {
            Some(known) if known.life == *life && *count <= known.count => return Err("replayed"),
            Some(known) if known.life == *life => past = std::mem::take(&mut known.past),
            Some(known) if known.past.contains(life) => return Err("replayed"),
            // Two hosts with one name, or an old recording: the first one counts.
            Some(known) if now < known.at + FRESH && known.hello.address != hello.address => {
                return Err("twin");
            }
            Some(known) => {
                past = std::mem::take(&mut known.past);
                past.push(known.life);
                let many = past.len().saturating_sub(PAST_LIVES);
                past.drain(..many);
            }
            None if full => return Err("too-many"),
            None => {}
        }
        let it = Heard { at: now, life: *life, count: *count, hello, past };
        self.hurry_for(&it);
        self.heard.insert(from.clone(), it);
        Ok(())
    }

    /// Finds the link and the address; has it listened to what is said there.
    fn settle_in(&mut self, cx: &mut Cx<'_>, view: &View<'_>) {
        let here = self.locate(cx.now, view);
        if here.is_ok() != self.here.is_ok() {
            self.here_since = cx.now;
        }
        self.here = here;
        let Ok(here) = &self.here else {
            return;
        };
        let same = self
            .listens
            .as_ref()
            .is_some_and(|it| (it.home.link, it.address) == (here.home.link, here.address));
        if !same {
            let (link, address) = (here.home.link, here.address);
            self.listens = Some(here.clone());
            cx.act(Action::Listen(Ear { link, address, group: group(address.ip()) }));
            self.be_restless(cx.now);
        }
    }

    fn locate(&self, now: Instant, view: &View<'_>) -> Result<Here, String> {
        let home = view.home.clone().map_err(|it| it.to_string())?;
        let at =
            |ip| Ok(Here { home: home.clone(), address: SocketAddr::new(ip, self.config.port) });
        if let Some(ip) = self.config.address {
            return at(ip);
        }
        let others = view.members.into_iter().flatten().filter(|(name, _)| **name != self.me);
        let family = others.map(|(_, it)| it.address.is_ipv4()).next();
        let late = self.started_at + IPV4_WITHIN <= now;
        let was = self.listens.as_ref().map(|it| it.address.ip());
        let of = |v4: bool| {
            let mut all = home.addresses.iter().filter(move |it| it.is_ipv4() == v4);
            all.clone().find(|it| Some(**it) == was).or_else(|| all.next()).copied()
        };
        let ip = match family {
            Some(v4) => of(v4),
            None => of(true).or_else(|| of(false).filter(|it| late || Some(*it) == was)),
        };
        match ip {
            Some(ip) => at(ip),
            None => Err(format!("{} has no address yet to be found at", home.name)),
        }
    }

    fn hears_us(&self, it: &Heard) -> bool {
        it.hello.hears.get(&self.me) == Some(&self.life)
    }

    fn link(&self) -> Option<&LinkName> {
        self.here.as_ref().ok().map(|it| &it.home.name)
    }
}

fn group(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => GROUP_V4.into(),
        IpAddr::V6(_) => GROUP_V6.into(),
    }
}
