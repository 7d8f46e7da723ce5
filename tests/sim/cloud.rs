//! The way between processes and the API server's objects: lists that come in pieces, watches
//! that lag, break and expire, writes that are answered late, twice refused or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use edgevip::engine::{
    ClassRule, DhcpConfig, DhcpMac, Input, LeaseConfig, PoolsConfig, ServicesConfig,
    ServicesElection,
};
use edgevip::model::{
    ApiFault, ApiFaultKind, Followed, ObjectCall, ObjectEvent, ObjectName, ObjectReply, RequestId,
    ResourceVersion, Vip,
};

use crate::each::Own;
use crate::ears::Ears;
use crate::host::{MS, Nanos, SEC};
use crate::objects::{ALLOCATED, Kind, Objects, is_of, known_by, subject};
use crate::site::{Rules, Site};
use crate::told::Told;
use crate::users::Users;
use crate::world::{Event, World};

/// The Leases by which Services are carried, and given addresses.
pub const SERVED_BY: &str = "kube-system/plndr-svcs-lock";
pub const GIVEN_BY: &str = "kube-system/kube-vip-cloud-controller";
pub const POOLS: &str = "kube-system/kubevip";

/// Two writers, every five seconds, as long as a list may have to wait, and a slow one may take.
const MOST_CONFLICTS: u32 = 20;

/// What a cluster has that serves Services.
pub struct Cloud {
    /// The control plane's VIPs are there as well.
    pub control: bool,
    pub rules: Rules,
    pub own: Own,
    pub site: Site,
    pub objects: Objects,
    /// By process.
    pub desks: Vec<Desk>,
    /// Every address that a Service was ever known by.
    pub ever: BTreeSet<IpAddr>,
    /// What nodes wrote: to Services, and Events about them.
    pub writes: u64,
    pub events: u64,
    pub conflicts: u64,
    /// How often one process wrote to one Service from one version that was old.
    outdated: BTreeMap<(usize, ObjectName, String), u32>,
    pub given: u64,
    /// Who answered last, and how often that became another.
    pub answered_by: BTreeMap<Vip, usize>,
    pub moves: u64,
    pub users: Users,
}

/// What one process has to do with objects.
#[derive(Default)]
pub struct Desk {
    follows: BTreeMap<Followed, Follow>,
    ids: u32,
    asked: BTreeSet<RequestId>,
    pub to_gateway: BTreeSet<RequestId>,
    pub ears: Ears,
    pub told: Told,
}

struct Follow {
    id: u32,
    open: bool,
    last_at: Nanos,
}

impl Cloud {
    pub fn new(procs: usize, control: bool) -> Self {
        Self {
            control,
            rules: Rules::default(),
            own: Own::default(),
            site: Site::default(),
            objects: Objects::default(),
            desks: (0..procs).map(|_| Desk::default()).collect(),
            ever: BTreeSet::new(),
            writes: 0,
            events: 0,
            conflicts: 0,
            outdated: BTreeMap::new(),
            given: 0,
            answered_by: BTreeMap::new(),
            moves: 0,
            users: Users::default(),
        }
    }

    /// More actions in one turn than there can be reason for.
    pub fn most_actions(&self) -> usize {
        40 + 12 * self.ever.len() + 12 * self.objects.services().count()
    }

    /// How a process serves Services that elects like this.
    pub fn config(&self, lease: &LeaseConfig) -> ServicesConfig {
        let named = |name: &str| LeaseConfig { name: name.into(), ..lease.clone() };
        ServicesConfig {
            namespace: None,
            class: ClassRule {
                name: "kube-vip.io/kube-vip-class".into(),
                only: false,
                legacy: true,
            },
            link: None,
            writes: true,
            election: match self.rules.each {
                true => ServicesElection::Each(lease.clone()),
                false => ServicesElection::One(named(SERVED_BY)),
            },
            pools: Some(PoolsConfig { config_map: POOLS.into(), lease: named(GIVEN_BY) }),
            dhcp: self.site.dhcp.is_some().then_some(DhcpConfig {
                mac: if self.rules.own_mac { DhcpMac::Own } else { DhcpMac::Link },
                attempts: 0,
            }),
            on_demand: false,
            gateway: self.site.router.is_some(),
            guards: self.rules.guards,
            labels_node: false,
        }
    }
}

impl World {
    pub fn follow(&mut self, proc: usize, what: Followed, from: Option<ResourceVersion>) {
        self.forget_news(proc, &what);
        let (host, life, now) = (self.procs[proc].host, self.procs[proc].life, self.now);
        let Some(cloud) = &mut self.cloud else {
            return self.fail(format!("node-{proc}: follows {what:?}, and there are no Services"));
        };
        let desk = &mut cloud.desks[proc];
        desk.ids += 1;
        let id = desk.ids;
        desk.follows.insert(what.clone(), Follow { id, open: false, last_at: now });
        match self.transit(host).filter(|_| self.weather.gone_until <= now) {
            Some(delay) => {
                let delay = delay + self.weather.slow;
                self.schedule(delay, Event::Follow { proc, life, id, what, from });
            }
            None => {
                let delay = self.rng.below(3 * SEC);
                self.end_follow(proc, &what, delay);
            }
        }
    }

    pub fn unfollow(&mut self, proc: usize, what: &Followed) {
        self.forget_news(proc, what);
        if let Some(cloud) = &mut self.cloud {
            cloud.desks[proc].follows.remove(what);
        }
    }

    /// What came by an order before, and nobody has fetched, is forgotten with it.
    fn forget_news(&mut self, proc: usize, what: &Followed) {
        let old = |it: &Input| matches!(it, Input::Objects { what: of, .. } if of == what);
        self.procs[proc].inbox.retain(|it| !old(it));
    }

    /// The request reaches the server.
    pub fn on_follow(&mut self, follow: Event) {
        let Event::Follow { proc, life, id, what, from } = follow else { return };
        if self.follow_of(proc, life, id, &what).is_none() {
            return;
        }
        if self.weather.frozen_until > self.now {
            let wait = self.weather.frozen_until - self.now;
            return self.schedule(wait, Event::Follow { proc, life, id, what, from });
        }
        if self.weather.gone_until > self.now || self.chance(self.weather.errors) {
            return self.end_follow(proc, &what, MS);
        }
        let Some(cloud) = &self.cloud else { return };
        if let Some(from) = from {
            match cloud.objects.since(&what, &from) {
                None => self.send_objects(proc, &what, vec![ObjectEvent::Expired]),
                Some(events) => {
                    if let Some(it) = self.follow_of(proc, life, id, &what) {
                        it.open = true;
                    }
                    self.send_objects(proc, &what, events);
                }
            }
            return;
        }
        let mut events = cloud.objects.list(&what);
        let Some(ObjectEvent::Listed(version)) = events.last().cloned() else { return };
        while !events.is_empty() {
            let piece = 1 + self.rng.below(events.len() as u64 + 2) as usize;
            let rest = events.split_off(piece.min(events.len()));
            self.send_objects(proc, &what, std::mem::replace(&mut events, rest));
            if self.chance(self.weather.errors / 4) {
                return self.end_follow(proc, &what, MS);
            }
        }
        // The watch is asked for once the list is there.
        let there = self.follow_of(proc, life, id, &what).map_or(0, |it| it.last_at);
        let Some(delay) = self.transit(self.procs[proc].host) else {
            return self.end_follow(proc, &what, 5 * SEC);
        };
        let delay = there.saturating_sub(self.now) + delay;
        self.schedule(delay, Event::Follow { proc, life, id, what, from: Some(version) });
    }

    /// Tells every watch that is open what changed.
    pub fn push_objects(&mut self) {
        let Some(cloud) = &mut self.cloud else { return };
        let news = std::mem::take(&mut cloud.objects.news);
        let known = cloud.objects.services().flat_map(known_by);
        cloud.ever.extend(known);
        let gone = |it: &(Kind, ObjectEvent)| {
            it.0 == Kind::Service && matches!(it.1, ObjectEvent::Deleted(_))
        };
        if news.iter().any(gone) {
            self.collect_soon();
        }
        self.note_hung();
        for (kind, event) in news {
            let Some(name) = subject(&event) else { continue };
            for proc in 0..self.procs.len() {
                let Some(cloud) = &self.cloud else { return };
                let follows = cloud.desks[proc].follows.iter();
                let open = follows.filter(|(what, it)| it.open && is_of(what, kind, &name));
                for what in open.map(|it| it.0.clone()).collect::<Vec<_>>() {
                    self.send_objects(proc, &what, vec![event.clone()]);
                }
            }
        }
    }

    pub fn bookmark_objects(&mut self) {
        for proc in 0..self.procs.len() {
            let Some(cloud) = &self.cloud else { return };
            let event = cloud.objects.bookmark();
            let open = cloud.desks[proc].follows.iter().filter(|it| it.1.open);
            for what in open.map(|it| it.0.clone()).collect::<Vec<_>>() {
                self.send_objects(proc, &what, vec![event.clone()]);
            }
        }
    }

    /// In the order in which it is sent.
    fn send_objects(&mut self, proc: usize, what: &Followed, events: Vec<ObjectEvent>) {
        let (host, life, now) = (self.procs[proc].host, self.procs[proc].life, self.now);
        if self.hosts[host].api_cut_until > now {
            let delay = 4 * SEC + self.rng.below(5 * SEC);
            return self.end_follow(proc, what, delay);
        }
        let watched = !events.contains(&ObjectEvent::Listing);
        let lag = if watched { self.weather.watch_lag } else { 0 };
        let delay = self.quick(MS, self.faults.net_tail + lag);
        let Some(cloud) = &mut self.cloud else { return };
        let Some(it) = cloud.desks[proc].follows.get_mut(what) else { return };
        it.last_at = (now + delay).max(it.last_at + 1);
        let (id, delay, what) = (it.id, it.last_at - now, what.clone());
        self.schedule(delay, Event::Objects { proc, life, id, what, events });
    }

    pub fn end_follow(&mut self, proc: usize, what: &Followed, delay: Nanos) {
        let life = self.procs[proc].life;
        let Some(cloud) = &mut self.cloud else { return };
        let Some(it) = cloud.desks[proc].follows.get_mut(what) else { return };
        it.open = false;
        let (id, what) = (it.id, what.clone());
        let events = vec![ObjectEvent::Ended(fault(ApiFaultKind::Unreachable))];
        self.schedule(delay, Event::Objects { proc, life, id, what, events });
    }

    /// What a process is told of Services waits for so long, unless it lists them anew.
    pub fn stall(&mut self, proc: usize, span: Nanos) {
        let until = self.now + span;
        let Some(cloud) = &mut self.cloud else { return };
        for (what, it) in &mut cloud.desks[proc].follows {
            if matches!(what, Followed::Services(_)) {
                it.last_at = it.last_at.max(until);
            }
        }
    }

    /// One of them, whatever it is.
    pub fn end_some_follow(&mut self, proc: usize) {
        let Some(cloud) = &self.cloud else { return };
        let all: Vec<_> = cloud.desks[proc].follows.keys().cloned().collect();
        if !all.is_empty() {
            let at = self.rng.below(all.len() as u64) as usize;
            self.end_follow(proc, &all[at], 0);
        }
    }

    pub fn on_objects(
        &mut self,
        (proc, life, id): (usize, u32, u32),
        what: Followed,
        mut events: Vec<ObjectEvent>,
    ) {
        if self.follow_of(proc, life, id, &what).is_none() {
            return;
        }
        let over = |it: &ObjectEvent| matches!(it, ObjectEvent::Ended(_) | ObjectEvent::Expired);
        if events.last().is_some_and(over)
            && let Some(cloud) = &mut self.cloud
        {
            cloud.desks[proc].follows.remove(&what);
        }
        // What waits is fetched in one.
        match self.procs[proc].inbox.back_mut() {
            Some(Input::Objects { what: of, events: waiting }) if *of == what => {
                waiting.append(&mut events);
            }
            _ => self.deliver(proc, Input::Objects { what, events }),
        }
    }

    fn follow_of(
        &mut self,
        proc: usize,
        life: u32,
        id: u32,
        what: &Followed,
    ) -> Option<&mut Follow> {
        let same_life = self.procs[proc].life == life;
        let cloud = self.cloud.as_mut().filter(|_| same_life)?;
        cloud.desks[proc].follows.get_mut(what).filter(|it| it.id == id)
    }

    pub fn ask_object(&mut self, proc: usize, request: RequestId, call: ObjectCall) {
        let (host, life) = (self.procs[proc].host, self.procs[proc].life);
        let Some(cloud) = &mut self.cloud else {
            return self.fail(format!("node-{proc}: asks {call:?}, and there are no Services"));
        };
        cloud.desks[proc].asked.insert(request);
        let within = ObjectCall::WITHIN.as_nanos() as Nanos * 9 / 10;
        let late = Box::new(ObjectReply::Failed(fault(ApiFaultKind::Timeout)));
        self.schedule(within, Event::Asked { proc, life, request, reply: late });
        match self.transit(host) {
            Some(delay) => {
                let (call, slow) = (Box::new(call), self.weather.slow > 0);
                self.schedule(delay, Event::AskObject { proc, life, request, call, slow });
            }
            None => {
                let delay = if self.rng.below(2) == 0 { MS } else { 5 * SEC };
                self.answer_object(delay, (proc, life, request), ApiFaultKind::Unreachable);
            }
        }
    }

    /// A request reaches the server, even if nobody waits for the answer any more.
    pub fn on_ask_object(&mut self, ask: Event) {
        let Event::AskObject { proc, life, request, call, slow } = ask else { return };
        let of = (proc, life, request);
        if self.weather.frozen_until > self.now {
            let wait = self.weather.frozen_until - self.now;
            return self.schedule(wait, Event::AskObject { proc, life, request, call, slow });
        }
        if self.weather.gone_until > self.now {
            return self.answer_object(MS, of, ApiFaultKind::Unreachable);
        }
        if slow && self.rng.below(2) == 0 {
            let ask = Event::AskObject { proc, life, request, call, slow: false };
            return self.schedule(self.weather.slow, ask);
        }
        let refused = self.chance(self.weather.errors);
        let done = !refused || self.rng.below(2) == 0;
        let Some(cloud) = self.cloud.as_mut().filter(|_| done) else {
            return self.answer_object(MS, of, ApiFaultKind::Refused);
        };
        let reply = cloud.objects.ask(&call);
        match (&*call, &reply) {
            (ObjectCall::ServiceEvent { .. }, _) => cloud.events += 1,
            (_, ObjectReply::Done(_)) => cloud.writes += 1,
            (
                ObjectCall::PatchService { name, version, .. }
                | ObjectCall::WriteIngress { name, version, .. },
                ObjectReply::Conflict,
            ) => {
                cloud.conflicts += 1;
                let of = (proc, name.clone(), version.0.clone());
                *cloud.outdated.entry(of).or_default() += 1;
            }
            (_, ObjectReply::Gone | ObjectReply::Failed(_)) => {}
        }
        let stubborn = cloud.outdated.iter().find(|it| *it.1 > MOST_CONFLICTS);
        let stubborn = stubborn.map(|it| format!("S14: one writes ever again from {:?}", it.0));
        let written = !cloud.objects.news.is_empty();
        self.note(|| ("api".into(), format!("node-{proc} {request:?}: {reply:?}")));
        stubborn.into_iter().for_each(|it| self.fail(it));
        self.push_objects();
        if let (ObjectCall::PatchService { name, patch, .. }, true) = (&*call, written)
            && patch.annotations.get(ALLOCATED).is_some_and(Option::is_some)
        {
            self.check_given(proc, name);
        }
        if refused {
            return self.answer_object(MS, of, ApiFaultKind::Refused);
        }
        if self.chance(self.weather.garbage) {
            return self.answer_object(MS, of, ApiFaultKind::Garbage);
        }
        if let Some(delay) = self.transit(self.procs[proc].host) {
            let extra = if slow { self.weather.slow } else { 0 };
            let reply = Box::new(reply);
            self.schedule(delay + extra, Event::Asked { proc, life, request, reply });
        }
    }

    fn answer_object(&mut self, delay: Nanos, of: (usize, u32, RequestId), kind: ApiFaultKind) {
        let (proc, life, request) = of;
        let reply = Box::new(ObjectReply::Failed(fault(kind)));
        self.schedule(delay, Event::Asked { proc, life, request, reply });
    }

    /// An answer comes, or the time for one is over: the first that does.
    pub fn on_asked(&mut self, proc: usize, life: u32, request: RequestId, reply: ObjectReply) {
        let lives = self.procs[proc].life == life;
        let Some(cloud) = self.cloud.as_mut().filter(|_| lives) else { return };
        if cloud.desks[proc].asked.remove(&request) {
            let delay = self.quick(MS / 50, self.faults.action_tail);
            let input = Box::new(Input::Asked { request, reply });
            self.schedule(delay, Event::Deliver { proc, life, input });
        }
    }

    /// A user, or a controller of the cluster, changes something.
    pub fn change(&mut self, change: impl FnOnce(&mut Objects)) {
        if let Some(cloud) = &mut self.cloud {
            change(&mut cloud.objects);
        }
        self.push_objects();
    }

    pub fn objects(&self) -> &Objects {
        &self.cloud.as_ref().expect("a world with Services").objects
    }

    /// The addresses of Services, as they say.
    pub fn service_addresses(&self) -> Vec<Vip> {
        let Some(cloud) = &self.cloud else { return Vec::new() };
        let all: BTreeSet<_> = cloud.objects.services().flat_map(known_by).map(Vip).collect();
        all.into_iter().filter(|it| !self.vips.contains(it)).collect()
    }
}

fn fault(kind: ApiFaultKind) -> ApiFault {
    ApiFault { kind, why: String::new(), retry_after: None }
}

pub fn named(namespace: &str, name: &str) -> ObjectName {
    ObjectName::new(namespace, name)
}
