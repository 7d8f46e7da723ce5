//! The way between a process and the API server: requests that are answered exactly once
//! and in time, watches that lag, break and expire, and calls on the side.

use edgevip::engine::Input;
use edgevip::model::{
    ApiFault, ApiFaultKind, Instant, LeaseCall, LeaseReply, RequestId, ResourceVersion, SideCall,
    SideReply, WatchEvent,
};

use crate::apiserver::ApiServer;
use crate::cloud::{GIVEN_BY, SERVED_BY};
use crate::each::OWN;
use crate::host::{MS, Nanos, SEC};
use crate::process::{Bond, CONTROL, SERVED, Watch};
use crate::world::{Event, World};

/// How the API server behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Connections are refused.
    pub gone_until: Nanos,
    /// Connections stand, and nothing happens.
    pub frozen_until: Nanos,
    /// An answer takes this much longer.
    pub slow: Nanos,
    /// In a thousand: says no, before or after it has done what it was asked.
    pub errors: u64,
    /// In a thousand: answers nonsense, having done what it was asked.
    pub garbage: u64,
    /// In a thousand: a read shows an older state.
    pub stale: u64,
    pub watch_lag: Nanos,
}

impl World {
    pub fn ask_lease(
        &mut self,
        proc: usize,
        of: usize,
        request: RequestId,
        call: LeaseCall,
        give_up_at: Instant,
    ) {
        self.calls += 1;
        let it = &mut self.procs[proc];
        let (host, life) = (it.host, it.life);
        it.bonds[of].asked = Some(request);
        let clock = &self.hosts[host].clock;
        let give_up = clock.when_boot(give_up_at).max(self.now + 1) - self.now;
        self.schedule(give_up, Event::GiveUp { proc, life, request });
        let stamp = self.now / 1_000 + self.hosts[host].wall;
        match self.transit(host) {
            Some(delay) => {
                let call = Box::new(call);
                let slow = self.weather.slow > 0;
                self.schedule(delay, Event::Ask { proc, of, life, request, call, stamp, slow });
            }
            // No way at once, or found dead by TCP_USER_TIMEOUT.
            None => {
                let delay = if self.rng.below(2) == 0 { MS } else { 5 * SEC };
                let reply = Box::new(LeaseReply::Failed(fault(ApiFaultKind::Unreachable)));
                self.schedule(delay, Event::Reply { proc, life, request, reply });
            }
        }
    }

    /// A request reaches the server.
    pub fn on_ask(&mut self, ask: Event) {
        let Event::Ask { proc, of, life, request, call, stamp, slow } = ask else { return };
        if self.weather.frozen_until > self.now {
            let ask = Event::Ask { proc, of, life, request, call, stamp, slow };
            return self.schedule(self.weather.frozen_until - self.now, ask);
        }
        if self.weather.gone_until > self.now {
            let reply = Box::new(LeaseReply::Failed(fault(ApiFaultKind::Unreachable)));
            return self.schedule(MS, Event::Reply { proc, life, request, reply });
        }
        if slow && self.rng.below(2) == 0 {
            let ask = Event::Ask { proc, of, life, request, call, stamp, slow: false };
            return self.schedule(self.weather.slow, ask);
        }
        let refused = self.chance(self.weather.errors);
        let done = !refused || self.rng.below(2) == 0;
        let before = self.with_api(of, |it| it.writes);
        let mut reply = match *call {
            _ if !done => LeaseReply::Failed(fault(ApiFaultKind::Refused)),
            LeaseCall::Read if self.chance(self.weather.stale) => {
                let steps = self.rng.below(5) as usize;
                self.with_api(of, |it| it.read_stale(steps))
            }
            LeaseCall::Found { .. } | LeaseCall::Read | LeaseCall::Write { .. } => {
                self.ask_api(of, &call, stamp)
            }
        };
        if self.with_api(of, |it| it.writes) > before {
            self.push_of(of);
        }
        if refused {
            reply = LeaseReply::Failed(fault(ApiFaultKind::Refused));
        } else if self.chance(self.weather.garbage) {
            reply = LeaseReply::Failed(fault(ApiFaultKind::Garbage));
        }
        self.note(|| ("api".into(), format!("node-{proc} {request:?}: {}", brief(&reply))));
        let extra = if slow { self.weather.slow } else { 0 };
        if let Some(delay) = self.transit(self.procs[proc].host) {
            let reply = Box::new(reply);
            self.schedule(extra + delay, Event::Reply { proc, life, request, reply });
        }
    }

    pub fn on_reply(&mut self, proc: usize, life: u32, request: RequestId, reply: LeaseReply) {
        let it = &mut self.procs[proc];
        let bond = it.bonds.iter_mut().find(|it| it.asked == Some(request));
        if let Some(bond) = bond.filter(|_| it.life == life) {
            bond.asked = None;
            // From the client's thread to the loop: usually nothing.
            let delay = self.quick(MS / 50, self.faults.action_tail);
            let input = Box::new(Input::Lease { request, reply });
            self.schedule(delay, Event::Deliver { proc, life, input });
        }
    }

    pub fn on_give_up(&mut self, proc: usize, life: u32, request: RequestId) {
        let reply = LeaseReply::Failed(fault(ApiFaultKind::Timeout));
        self.on_reply(proc, life, request, reply);
    }

    pub fn ask_watch(&mut self, proc: usize, of: usize, from: Option<ResourceVersion>) {
        let it = &mut self.procs[proc];
        it.watches += 1;
        let (host, life, id) = (it.host, it.life, it.watches);
        it.bonds[of].watch = Some(Watch { id, open: false, last_at: self.now });
        match self.transit(host).filter(|_| self.weather.gone_until <= self.now) {
            Some(delay) => {
                let delay = delay + self.weather.slow;
                self.schedule(delay, Event::OpenWatch { proc, life, id, from });
            }
            None => {
                let delay = self.rng.below(3 * SEC);
                self.end_watch_of(proc, of, delay);
            }
        }
    }

    pub fn open_watch(&mut self, proc: usize, life: u32, id: u32, from: Option<ResourceVersion>) {
        let Some((of, bond)) = self.bond_of_watch(proc, life, id) else { return };
        bond.watch.iter_mut().for_each(|it| it.open = true);
        for event in self.api_of(of).since(from.as_ref()) {
            let expired = event == WatchEvent::Expired;
            self.send_event(proc, of, event);
            if expired && let Some(watch) = &mut self.procs[proc].bonds[of].watch {
                watch.open = false;
            }
        }
    }

    /// Tells every watch what changed.
    pub fn push(&mut self) {
        self.push_of(CONTROL);
    }

    pub fn push_of(&mut self, of: usize) {
        if of >= OWN {
            // They are followed together.
            return self.push_objects();
        }
        let Some(event) = self.api_of(of).newest().cloned() else { return };
        for proc in 0..self.procs.len() {
            self.send_event(proc, of, event.clone());
        }
    }

    /// The API server, as far as one of the Leases goes.
    pub fn api_of(&mut self, of: usize) -> &mut ApiServer {
        if of == CONTROL { &mut self.api } else { &mut self.more[of - 1] }
    }

    pub fn bookmark(&mut self) {
        for proc in 0..self.procs.len() {
            for of in 0..self.leases() {
                let event = self.api_of(of).bookmark();
                self.send_event(proc, of, event);
            }
        }
        self.bookmark_objects();
        self.schedule(60 * SEC, Event::Bookmark);
    }

    /// How many Leases there are.
    pub fn leases(&self) -> usize {
        if self.cloud.is_some() { 3 } else { 1 }
    }

    fn send_event(&mut self, proc: usize, of: usize, event: WatchEvent) {
        let it = &self.procs[proc];
        let Some(watch) = it.bonds[of].watch.as_ref().filter(|it| it.open) else { return };
        let (id, life, last_at) = (watch.id, it.life, watch.last_at);
        if self.hosts[it.host].api_cut_until > self.now {
            // Nobody says so: the connection is found dead after a while.
            let delay = 4 * SEC + self.rng.below(5 * SEC);
            return self.end_watch_of(proc, of, delay);
        }
        let delay = self.quick(MS, self.faults.net_tail + self.weather.watch_lag);
        let at = (self.now + delay).max(last_at + 1);
        if let Some(watch) = &mut self.procs[proc].bonds[of].watch {
            watch.last_at = at;
        }
        let event = Box::new(event);
        self.schedule(at - self.now, Event::Watch { proc, life, id, event });
    }

    pub fn end_watch(&mut self, proc: usize, delay: Nanos) {
        self.end_watch_of(proc, CONTROL, delay);
    }

    pub fn end_watch_of(&mut self, proc: usize, of: usize, delay: Nanos) {
        let it = &mut self.procs[proc];
        let Some(watch) = &mut it.bonds[of].watch else { return };
        watch.open = false;
        let (life, id) = (it.life, watch.id);
        let event = Box::new(WatchEvent::Ended(fault(ApiFaultKind::Unreachable)));
        self.schedule(delay, Event::Watch { proc, life, id, event });
    }

    pub fn on_watch(&mut self, proc: usize, life: u32, id: u32, event: WatchEvent) {
        let Some((of, bond)) = self.bond_of_watch(proc, life, id) else { return };
        if matches!(event, WatchEvent::Ended(_) | WatchEvent::Expired) {
            bond.watch = None;
        }
        let lease = match of {
            CONTROL => self.procs[proc].lease.name.clone(),
            SERVED => SERVED_BY.into(),
            _ => GIVEN_BY.into(),
        };
        self.deliver(proc, Input::Watch { lease, event });
    }

    pub fn ask_side(&mut self, proc: usize, request: RequestId, call: &SideCall) {
        self.side_calls += 1;
        let host = self.procs[proc].host;
        let reply = match call {
            SideCall::CountCandidates => SideReply::Candidates(self.procs.len() as u32),
            SideCall::Event { .. } if self.settings.events_forbidden => {
                SideReply::Failed(fault(ApiFaultKind::Forbidden))
            }
            SideCall::Event { .. } | SideCall::LabelNode { .. } => SideReply::Done,
            SideCall::ListNodes => SideReply::Nodes(self.nodes()),
            SideCall::Resolve { .. } => {
                SideReply::Resolved(self.vips.iter().map(|it| it.0).collect())
            }
        };
        let delay = self.transit(host).filter(|_| self.weather.gone_until <= self.now);
        let (delay, reply) = match delay {
            Some(delay) => (2 * delay, reply),
            None => (5 * SEC, SideReply::Failed(fault(ApiFaultKind::Timeout))),
        };
        let life = self.procs[proc].life;
        let input = Box::new(Input::Side { request, reply });
        self.schedule(delay, Event::Deliver { proc, life, input });
    }

    fn bond_of_watch(&mut self, proc: usize, life: u32, id: u32) -> Option<(usize, &mut Bond)> {
        let it = &mut self.procs[proc];
        let same_life = it.life == life;
        let mut bonds = it.bonds.iter_mut().enumerate();
        let is_meant = |it: &Bond| it.watch.as_ref().is_some_and(|it| same_life && it.id == id);
        bonds.find(|it| is_meant(it.1))
    }

    /// How long a message between the host and the API server takes, or `None`: lost.
    pub fn transit(&mut self, host: usize) -> Option<Nanos> {
        let lost = self.chance(self.faults.api_loss) || self.hosts[host].api_cut_until > self.now;
        let delay = MS / 10 + self.quick(MS, self.faults.net_tail);
        (!lost).then_some(delay)
    }
}

fn fault(kind: ApiFaultKind) -> ApiFault {
    ApiFault { kind, why: String::new(), retry_after: None }
}

fn brief(reply: &LeaseReply) -> String {
    match reply {
        LeaseReply::Found(lease) => {
            let record = &lease.record;
            format!(
                "holder {:?} version {}",
                record.holder.as_ref().map(|it| &it.0),
                lease.version.0
            )
        }
        LeaseReply::Conflict | LeaseReply::Failed(_) | LeaseReply::NotFound => format!("{reply:?}"),
    }
}
