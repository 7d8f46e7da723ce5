//! One gateway: looked for, found, looked at.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::epoch::Epoch;
use super::{Asked, Entry, Mappings, Site};
use crate::engine::backoff::Backoff;
use crate::engine::{Cx, Deadline};
use crate::model::{
    Exposed, GatewayCall, GatewayRefusal, GatewayReply, Instant, Vip, Way, WayKind,
};

/// A gateway is looked for again after this, and then after twice as long.
const FIND_AGAIN: Duration = Duration::from_secs(2);
/// But after no more than this.
const FIND_AT_MOST: Duration = Duration::from_secs(120);
/// What was found is looked for anew after this: there may be another, or a better way.
const STALE: Duration = Duration::from_secs(1_800);
/// It is looked at as often as a quarter of the shortest lease, within these.
pub(super) const LOOK_AT_LEAST: Duration = Duration::from_secs(60);
const LOOK_AT_MOST: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(super) state: State,
    /// Its address outside, as it said last.
    pub external: Option<IpAddr>,
    /// It makes mappings for good, or none.
    pub(super) permanent: bool,
    /// Ways in which it would not.
    without: BTreeSet<WayKind>,
    /// What it said to those.
    unwilling: Option<String>,
    epoch: Epoch,
    tries: Backoff,
    /// Why there is none.
    pub(super) refusal: Option<GatewayRefusal>,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Lost { again_at: Instant },
    Looking,
    Found { way: Way, since: Instant, look_at: Option<Instant> },
}

impl Gateway {
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Lost { again_at: now },
            external: None,
            permanent: false,
            without: BTreeSet::new(),
            unwilling: None,
            epoch: Epoch::default(),
            tries: Backoff::new(FIND_AGAIN, FIND_AT_MOST),
            refusal: None,
        }
    }

    pub fn deadline(&self) -> Option<Deadline> {
        match &self.state {
            State::Lost { again_at } => {
                Some(Deadline { at: *again_at, why: "look for the gateway" })
            }
            State::Looking => None,
            State::Found { look_at, .. } => {
                look_at.map(|at| Deadline { at, why: "look at the gateway" })
            }
        }
    }

    /// How it is spoken with, if it is.
    pub fn way(&self) -> Option<&Way> {
        match &self.state {
            State::Found { way, .. } => Some(way),
            State::Looking | State::Lost { .. } => None,
        }
    }
}

impl Mappings {
    /// Looks for gateways, and at them.
    pub(super) fn see_to_gateways(&mut self, cx: &mut Cx<'_>) {
        for (site, gateway) in &mut self.gateways {
            let Some((from, _)) = self.sites.iter().find(|it| it.1 == site) else {
                continue;
            };
            let from: Vip = *from;
            match &mut gateway.state {
                State::Lost { again_at } if *again_at <= cx.now => {
                    gateway.state = State::Looking;
                    let (link, without) = (site.link.clone(), gateway.without.clone());
                    let request = cx.gateway(GatewayCall::Find { from, link, without });
                    self.asked.insert(request, Asked::Find(site.clone()));
                }
                State::Found { way, since, look_at: look_at @ Some(_) }
                    if look_at.is_some_and(|it| it <= cx.now) =>
                {
                    *look_at = None;
                    let (asked, call) = if *since + STALE <= cx.now {
                        let link = site.link.clone();
                        let without = gateway.without.clone();
                        let find = GatewayCall::Find { from, link, without };
                        (Asked::Find(site.clone()), find)
                    } else {
                        (Asked::Look(site.clone()), GatewayCall::Look { way: way.clone(), from })
                    };
                    let request = cx.gateway(call);
                    self.asked.insert(request, asked);
                }
                State::Found { .. } | State::Looking | State::Lost { .. } => {}
            }
        }
    }

    pub(super) fn on_found(&mut self, cx: &mut Cx<'_>, site: &Site, reply: &GatewayReply) {
        let Some(gateway) = self.gateways.get_mut(site) else {
            return;
        };
        let why = match reply {
            GatewayReply::Found(way) => {
                let same = gateway.way() == Some(way);
                let (way, since) = (way.clone(), cx.now);
                if !same {
                    // Another's clock is another clock.
                    gateway.epoch = Epoch::default();
                    gateway.permanent = false;
                    gateway.external = None;
                }
                gateway.refusal = None;
                gateway.state = State::Found { way, since, look_at: Some(cx.now) };
                if !same {
                    self.ask_all(cx.now, site);
                }
                return;
            }
            GatewayReply::Failed(why) => why.clone(),
            GatewayReply::Refused(fault) => fault.words.clone(),
            GatewayReply::Looked { .. }
            | GatewayReply::Mapped(_)
            | GatewayReply::Read(_)
            | GatewayReply::Unmapped => "its answer is about something else".to_owned(),
        };
        // What was found stays until it does not answer.
        if let State::Found { since, look_at, .. } = &mut gateway.state {
            *since = cx.now;
            *look_at = Some(cx.now);
            return;
        }
        let why = match gateway.unwilling.take() {
            Some(before) => format!("{before}; {why}"),
            None => why,
        };
        gateway.without.clear();
        gateway.refusal = Some(GatewayRefusal::NoGateway { why });
        gateway.state = State::Lost { again_at: cx.now + gateway.tries.wait(cx.rng) };
        self.tell_all(site);
    }

    pub(super) fn on_looked(&mut self, cx: &mut Cx<'_>, site: &Site, reply: &GatewayReply) {
        let every = self.look_every(site);
        let Some(gateway) = self.gateways.get_mut(site) else {
            return;
        };
        match reply {
            GatewayReply::Failed(why) => return self.lose(cx, site, why),
            GatewayReply::Looked { external, epoch } => {
                gateway.tries.reset();
                self.note(cx.now, site, *external, *epoch);
            }
            GatewayReply::Found(_)
            | GatewayReply::Mapped(_)
            | GatewayReply::Read(_)
            | GatewayReply::Refused(_)
            | GatewayReply::Unmapped => {}
        }
        if let Some(Gateway { state: State::Found { look_at, .. }, .. }) =
            self.gateways.get_mut(site)
        {
            *look_at = Some(cx.now + every);
        }
    }

    /// What a gateway says of itself beside an answer.
    pub(super) fn note(
        &mut self,
        now: Instant,
        site: &Site,
        external: Option<IpAddr>,
        epoch: Option<u32>,
    ) {
        let Some(gateway) = self.gateways.get_mut(site) else {
            return;
        };
        if external.is_some() && gateway.external != external {
            gateway.external = external;
            self.tell_all(site);
        }
        let Some(gateway) = self.gateways.get_mut(site) else {
            return;
        };
        if epoch.is_some_and(|it| gateway.epoch.note(now, it)) {
            self.ask_all(now, site);
        }
    }

    /// It does not answer: it is looked for again.
    pub(super) fn lose(&mut self, cx: &mut Cx<'_>, site: &Site, why: &str) {
        let Some(gateway) = self.gateways.get_mut(site) else {
            return;
        };
        if gateway.way().is_none() {
            return;
        }
        gateway.refusal = Some(GatewayRefusal::NoGateway { why: why.to_owned() });
        gateway.state = State::Lost { again_at: cx.now + gateway.tries.wait(cx.rng) };
        let ends: Vec<_> = self.at(site).map(|it| (*it.0, it.1.ends_at())).collect();
        for (exposed, at) in ends {
            self.schedule(exposed, at);
        }
        self.tell_all(site);
    }

    /// It would not in this way: perhaps in another.
    pub(super) fn try_otherwise(&mut self, cx: &mut Cx<'_>, site: &Site, way: WayKind, why: &str) {
        let Some(gateway) = self.gateways.get_mut(site) else {
            return;
        };
        if gateway.way().map(Way::kind) == Some(way) {
            gateway.without.insert(way);
            gateway.unwilling = Some(format!("{}: {why}", way.name()));
            gateway.state = State::Lost { again_at: cx.now };
        }
    }

    /// Whether there may be another way than this to speak with it.
    pub(super) fn has_others(&self, site: &Site, way: WayKind) -> bool {
        let tried = self.gateways.get(site).is_some_and(|it| it.without.contains(&way));
        matches!(way, WayKind::NatPmp | WayKind::Pcp) && !tried
    }

    pub(super) fn make_permanent(&mut self, site: &Site) {
        if let Some(gateway) = self.gateways.get_mut(site) {
            gateway.permanent = true;
        }
    }

    /// It is asked for everything anew.
    pub(super) fn ask_all(&mut self, now: Instant, site: &Site) {
        let all: Vec<_> = self.at(site).map(|it| *it.0).collect();
        for exposed in all {
            self.change(now, exposed, |it| {
                it.ask_anew();
                true
            });
        }
    }

    /// How often a gateway is looked at.
    pub(super) fn look_every(&self, site: &Site) -> Duration {
        let shortest = self.at(site).filter_map(|it| it.1.lease()).min();
        let quarter = shortest.map_or(LOOK_AT_LEAST, |it| it / 4);
        quarter.clamp(LOOK_AT_MOST, LOOK_AT_LEAST)
    }

    fn at<'a>(&'a self, site: &'a Site) -> impl Iterator<Item = (&'a Exposed, &'a Entry)> {
        self.entries.iter().filter(move |it| self.sites.get(&it.0.vip) == Some(site))
    }

    fn tell_all(&mut self, site: &Site) {
        let vips = self.sites.iter().filter(|it| it.1 == site).map(|it| *it.0);
        self.news.extend(vips);
    }
}
