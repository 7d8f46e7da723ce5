//! What must hold, judged by a reference that knows nothing of how the engine works: which
//! writes of a process the API server has accepted, and when they were sent.

use std::collections::BTreeMap;
use std::time::Duration;

use edgevip::engine::{Action, Deadline, Input};
use edgevip::model::{
    Author, Frame, Instant, KernelJob, Lease, LeaseCall, LeaseReply, NodeName, ObjectName,
    RequestId, Vip, WatchEvent,
};

use crate::apiserver::ApiServer;
use crate::book::{Life, host_of};
use crate::cluster::Cluster;
use crate::each::OWN;
use crate::host::{Excuse, MS, Nanos, SEC};
use crate::process::{CONTROL, SERVED};
use crate::world::{Event, World};

/// More actions in one turn than a node with two VIPs can have reason for.
const MOST_ACTIONS: usize = 40;
/// And in a quorum: orders, and two datagrams to each other member, for each VIP.
const MOST_ACTIONS_EACH: usize = 8;
/// How long an address may outlive what it was given: rounding up to a second, and the
/// kernel's lateness.
const LIFETIME_LATE: Duration = Duration::from_millis(2_250);

/// What a process is entitled to, by the writes it knows to be accepted.
pub struct Truth {
    claims: BTreeMap<RequestId, Instant>,
    /// Ends with another holder, a release, a deletion.
    entitled: Option<Instant>,
    /// The furthest it ever was entitled; survives the process.
    pub ever: Instant,
    doubted_at: Option<Instant>,
    accepted: Option<Lease>,
}

impl Truth {
    pub fn new() -> Self {
        Self {
            claims: BTreeMap::new(),
            entitled: None,
            ever: Instant::from_nanos(0),
            doubted_at: None,
            accepted: None,
        }
    }

    /// Another process under the same name.
    pub fn begin(&mut self) {
        *self = Self { ever: self.ever, ..Self::new() };
    }

    pub fn entitled_at(&self, now: Instant) -> bool {
        self.doubted_at.is_none() && self.entitled.is_some_and(|it| now < it)
    }

    /// The machine slept while it answered: only a later write gives the right back.
    pub fn doubt(&mut self, now: Instant) {
        self.doubted_at = Some(now);
    }

    /// Takes in what the process is told.
    pub fn learn(&mut self, me: &NodeName, author: Author, trust: Duration, input: &Input) {
        match input {
            Input::Lease { request, reply: LeaseReply::Found(lease) } => {
                match self.claims.remove(request) {
                    Some(sent_at) => self.accept(lease, sent_at, trust),
                    None => self.see(me, author, lease),
                }
            }
            Input::Watch { event: WatchEvent::Lease(lease), .. } => self.see(me, author, lease),
            Input::Watch { event: WatchEvent::Deleted, .. } => self.entitled = None,
            Input::Asked { .. }
            | Input::Gateway { .. }
            | Input::Dhcp { .. }
            | Input::Heard(_)
            | Input::Kernel(_)
            | Input::Lease { .. }
            | Input::Lock { .. }
            | Input::Network(_)
            | Input::Objects { .. }
            | Input::Order { .. }
            | Input::Peer { .. }
            | Input::Probed { .. }
            | Input::Reload { .. }
            | Input::RulesetChanged
            | Input::Side { .. }
            | Input::Stop
            | Input::Stored { .. }
            | Input::Suspended
            | Input::Tick
            | Input::Watch { .. } => {}
        }
    }

    fn accept(&mut self, lease: &Lease, sent_at: Instant, trust: Duration) {
        let until = sent_at + trust;
        self.entitled = self.entitled.max(Some(until));
        self.ever = self.ever.max(until);
        self.doubted_at = self.doubted_at.filter(|it| sent_at < *it);
        self.accepted = Some(lease.clone());
    }

    /// Another writer's record ends it, unless it is one from before our own.
    fn see(&mut self, me: &NodeName, author: Author, lease: &Lease) {
        let old = self.accepted.as_ref().is_some_and(|it| lease.version.is_before(&it.version));
        let same_host = lease.record.author.is_some_and(|it| it.host == author.host);
        let ours = lease.record.holder.as_ref() == Some(me) && same_host;
        if !old && !ours {
            self.entitled = None;
        }
    }

    /// Takes in what the process orders; says what is wrong with it.
    pub fn check_order(&mut self, author: Author, now: Instant, action: &Action) -> Option<String> {
        match action {
            Action::Lease { request, call: LeaseCall::Write { holder: Some(_), .. }, .. } => {
                self.claims.insert(*request, now);
                self.claims.retain(|it, _| it.0 + 8 > request.0);
                None
            }
            Action::Lease { call: LeaseCall::Write { holder: None, author: it, .. }, .. } => {
                self.entitled = None;
                (*it != author).then(|| "S4: releases under another's name".into())
            }
            Action::Kernel { job: KernelJob::SendFrame { frame, until, .. }, .. } => {
                let claims = !matches!(frame, Frame::Probe { .. });
                let late = self.entitled.is_none_or(|it| *until > it);
                let wrong = claims && (late || !self.entitled_at(now));
                wrong
                    .then(|| format!("S3: announces until {until:?}, entitled {:?}", self.entitled))
            }
            Action::Kernel { job: KernelJob::Answer { until, .. }, .. } => {
                let late = !self.entitled_at(now) || self.entitled.is_none_or(|it| *until > it);
                late.then(|| format!("S2: answers until {until:?}, entitled {:?}", self.entitled))
            }
            Action::Answer { .. }
            | Action::Ask { .. }
            | Action::Dhcp(_)
            | Action::Exit
            | Action::Farewell(_)
            | Action::Follow { .. }
            | Action::Gateway { .. }
            | Action::Kernel { .. }
            | Action::Lease { .. }
            | Action::Probe(_)
            | Action::Send { .. }
            | Action::Side { .. }
            | Action::Store { .. }
            | Action::Tell(_)
            | Action::Listen(_)
            | Action::Unfollow(_)
            | Action::Watch { .. } => None,
        }
    }
}

/// What must hold of every turn.
pub fn turn(
    actions: &[Action],
    deadline: Option<Deadline>,
    now: Instant,
    is_tick: bool,
    most: usize,
) -> Option<String> {
    if actions.len() > most {
        return Some(format!("S9: {} actions in one turn", actions.len()));
    }
    let at_exit = actions.iter().position(|it| *it == Action::Exit);
    if at_exit.is_some_and(|it| it + 1 < actions.len()) {
        return Some("S7: acts after Exit".into());
    }
    let late = deadline.filter(|it| it.at < now || (is_tick && it.at == now));
    late.map(|it| format!("S7: the deadline {it:?} is past after handling at {now:?}"))
}

/// So many are enough in one turn.
pub fn most_actions(vips: usize, hosts: usize, quorum: bool) -> usize {
    if quorum { MOST_ACTIONS + MOST_ACTIONS_EACH * (vips + hosts) } else { MOST_ACTIONS }
}

impl Cluster {
    /// Takes in what a member is told.
    pub fn note_input(&mut self, me: Life, now: Instant, input: &Input) {
        match input {
            Input::Peer { envelope, .. } => {
                self.book.heard(me, now, host_of(&envelope.from), envelope);
            }
            Input::Suspended => self.book.doubt(me),
            _ => {}
        }
    }
}

impl World {
    /// S2 to S5 of a member: what it has decided in a turn.
    pub fn check_decided(
        &mut self,
        proc: usize,
        local: Instant,
        actions: &[Action],
    ) -> Result<(), String> {
        let now = self.now;
        let (host, me) = (self.procs[proc].host, self.life_of(proc));
        let Some(mut cluster) = self.cluster.take() else { return Ok(()) };
        let checked = self.check_said(&mut cluster, proc, local, actions);
        let checked = checked.and_then(|()| {
            let clock = &self.hosts[host].clock;
            let guards = |vip: Vip| self.hosts[host].kernel.fences.guards(vip);
            for action in actions {
                let Action::Kernel { job, .. } = action else { continue };
                match job {
                    KernelJob::Answer { vips, until } => {
                        for vip in vips.iter().filter(|it| guards(**it)) {
                            cluster.book.answers(me, (now, clock), *vip, *until)?;
                        }
                    }
                    KernelJob::HoldAddress { vip, until, .. } if !guards(*vip) => {
                        cluster.book.answers(me, (now, clock), *vip, *until)?;
                    }
                    KernelJob::SendFrame { frame, until, .. } => {
                        let right = cluster.book.entitled_until(me, now, Vip(frame.ip()));
                        let right = right.max(cluster.book.alone_until(me, local));
                        let claims = !matches!(frame, Frame::Probe { .. });
                        if claims && right.is_none_or(|it| *until > it || it <= local) {
                            return Err(format!("S3: announces until {until:?}, not {right:?}"));
                        }
                        if let Some(right) = right {
                            cluster.book.note_right(host, Vip(frame.ip()), right);
                        }
                    }
                    _ => {}
                }
            }
            Ok(())
        });
        self.cluster = Some(cluster);
        checked
    }

    fn check_said(
        &mut self,
        cluster: &mut Cluster,
        proc: usize,
        local: Instant,
        actions: &[Action],
    ) -> Result<(), String> {
        let (host, me) = (self.procs[proc].host, self.life_of(proc));
        for action in actions {
            let Action::Send { to, envelope } = action else { continue };
            let clock = &self.hosts[host].clock;
            let to = cluster.host_at(*to);
            let gone = cluster.book.said(me, (self.now, local, clock), to, envelope)?;
            // It may have been given the VIP anew since, and have had nobody to tell before.
            let book = &cluster.book;
            let right =
                |vip| book.entitled_until(me, self.now, vip).max(book.alone_until(me, local));
            let entitled = |vip| right(vip).is_some_and(|it| local < it);
            let loud = |it: &Vip| self.answers(host, *it) && self.counts(host, *it);
            if let Some(vip) = gone.iter().find(|it| loud(it) && !entitled(**it)) {
                return Err(format!(
                    "S4: says that it has let go of {vip}, and host-{host} answers"
                ));
            }
        }
        Ok(())
    }

    fn life_of(&self, proc: usize) -> Life {
        (self.procs[proc].host, self.procs[proc].author.life)
    }

    /// The furthest that the process, or its host, was entitled to answer for anything; if an
    /// address is to be held, for that.
    pub fn furthest(&self, proc: usize, job: &KernelJob) -> Instant {
        let of = match job {
            KernelJob::HoldAddress { vip, .. } => self.bonds_hung(*vip),
            _ => vec![CONTROL],
        };
        match &self.cluster {
            None => self.ever_by(proc, &of),
            Some(it) => {
                let host = self.procs[proc].host;
                let all = self.vips.iter().map(|vip| it.book.ever(host, *vip));
                all.max().unwrap_or(Instant::from_nanos(0))
            }
        }
    }

    /// The same for one VIP.
    fn ever(&self, host: usize, vip: Vip) -> Instant {
        let of = self.bonds_hung(vip);
        let of_host = || self.procs_on(host).map(|it| self.ever_by(it, &of)).max();
        match &self.cluster {
            None => of_host().unwrap_or(Instant::from_nanos(0)),
            Some(it) => it.book.ever(host, vip),
        }
    }

    /// The furthest that a process was entitled to by any of these Leases.
    fn ever_by(&self, proc: usize, of: &[usize]) -> Instant {
        let bonds = &self.procs[proc].bonds;
        let ever = of.iter().map(|it| bonds[*it].truth.ever);
        ever.max().unwrap_or(Instant::from_nanos(0))
    }

    /// S1 and S2, after every event.
    pub fn check(&mut self) {
        for at in 0..self.vips.len() {
            let vip = self.vips[at];
            let (mut answering, mut one) = (0, None);
            for host in 0..self.hosts.len() {
                if self.answers(host, vip) {
                    self.note_answering(host, at);
                    if self.counts(host, vip) {
                        (answering, one) = (answering + 1, Some(host));
                    }
                    self.check_end(host, vip);
                } else {
                    self.answering_since[host][at] = None;
                }
            }
            if let (1, Some(host)) = (answering, one) {
                self.note_takeover(host, at);
            }
            let foreign = self.foreign.as_ref().is_some_and(|it| it.leads_alone(self.now));
            answering += u64::from(foreign);
            if answering > 1 && self.lied_until <= self.now {
                let hosts = 0..self.hosts.len();
                let who: Vec<_> = hosts.filter(|it| self.answers(*it, vip)).collect();
                let other = if foreign { " and the foreign holder" } else { "" };
                self.fail(format!("S1: {vip} is answered for by hosts {who:?}{other} at once"));
            }
        }
    }

    /// Whether the kernel of a host that is awake answers for the VIP.
    pub fn answers(&self, host: usize, vip: Vip) -> bool {
        let it = &self.hosts[host];
        !it.sleeps(self.now) && it.kernel.answers(vip, it.clock.mono(self.now))
    }

    /// Not what no process can prevent: what the kernel does after a suspend or a flush of
    /// the ruleset, and the time by which a slow write made the fence late.
    pub fn counts(&self, host: usize, vip: Vip) -> bool {
        let it = &self.hosts[host];
        let now = it.clock.boot(self.now);
        let overshoot = it.kernel.fences.guards(vip)
            && it
                .kernel
                .live
                .get(&vip)
                .is_some_and(|live| live.until <= now && now <= live.until + live.late);
        it.excuse.is_none() && !overshoot
    }

    pub fn check_end(&mut self, host: usize, vip: Vip) {
        let it = &self.hosts[host];
        if it.excuse.is_some() {
            return;
        }
        let now = it.clock.boot(self.now);
        let ever = self.ever(host, vip);
        let late = match it.kernel.live.get(&vip) {
            Some(live) if it.kernel.fences.guards(vip) => live.late,
            Some(_) | None => LIFETIME_LATE + Duration::from_nanos(self.faults.kernel_tail),
        };
        if now > ever + late {
            self.fail(format!(
                "S2: host-{host} answers for {vip} at {now:?}, entitled until {ever:?}"
            ));
        }
    }

    /// S2, the address: it ends with what it was given for, however the process fares.
    pub fn check_lifetimes(&mut self) {
        for host in 0..self.hosts.len() {
            let it = &self.hosts[host];
            let (now, mono) = (it.clock.boot(self.now), it.clock.mono(self.now));
            let late = LIFETIME_LATE + Duration::from_millis(10);
            let slept = Duration::from_nanos(it.clock.slept_by(self.now));
            let kept = if self.settings.preserve { Duration::from_secs(301) } else { slept };
            // Behind a fence it may be there for longer than it may answer.
            let kept = if self.cluster.is_some() { kept + Duration::from_secs(2) } else { kept };
            let over =
                it.kernel.held.values().any(|it| mono < it.ends && now > it.entitled + late + kept);
            if over {
                self.fail(format!("S2: host-{host} has an address longer than it was entitled to"));
            }
        }
    }

    fn note_answering(&mut self, host: usize, at: usize) {
        if self.answering_since[host][at].is_none() {
            self.answering_since[host][at] = Some(self.now);
            self.note(|| (format!("host-{host}"), "answers".into()));
        }
    }

    /// Another one answers than before: the neighbours have to be told.
    fn note_takeover(&mut self, host: usize, at: usize) {
        if self.answered_by[at] == Some(host) {
            return;
        }
        self.takeovers += u64::from(self.answered_by[at].is_some());
        self.answered_by[at] = Some(host);
        let since = self.answering_since[host][at].unwrap_or(self.now);
        self.schedule(3 * SEC, Event::BurstDue { host, at, since });
    }

    /// L2: who begins to answer says so.
    pub fn check_burst(&mut self, host: usize, at: usize, since: Nanos) {
        let alone = self.answering_since[host][at].is_some_and(|it| it <= since);
        let disturbed = self.disturbed_at + 5 * SEC > self.now
            || self.procs_on(host).any(|it| {
                let it = &self.procs[it];
                it.last_stall + SEC > since || it.thread.failed_at.is_some() || !it.runs()
            });
        if alone && !disturbed && self.announced_at[host][at] + 100 * MS < since {
            self.fail(format!("L2: host-{host} answers since {since}, and nobody was told"));
        }
    }

    /// Nothing is left to do on this host: then it answers only for what it may.
    pub fn check_settled(&mut self, proc: usize) {
        let it = &self.procs[proc];
        let host = it.host;
        if !it.is_settled() || self.hosts[host].lock != Some(proc) || !it.thread.cleaned {
            return;
        }
        let recent = self.procs[proc].thread.failed_at;
        let recent = recent.is_some_and(|at| at + 2 * SEC + 4 * self.faults.action_tail > self.now);
        if self.hosts[host].excuse.is_some_and(Excuse::is_noticed) && !recent {
            self.hosts[host].excuse = None;
        }
        if recent || self.hosts[host].excuse.is_some() {
            return;
        }
        let now = self.local(proc);
        let me = self.life_of(proc);
        let entitled = |vip: Vip| match &self.cluster {
            None => self.procs[proc].bonds[CONTROL].truth.entitled_at(now),
            Some(it) => {
                let right = it.book.entitled_until(me, self.now, vip);
                right.max(it.book.alone_until(me, now)).is_some_and(|it| now < it)
            }
        };
        if self.vips.iter().any(|it| self.answers(host, *it) && !entitled(*it)) {
            self.fail(format!("S2: node-{proc} has come to rest answering without a right to"));
        }
        self.check_settled_services(proc, now);
    }

    /// Which of those that there are.
    pub fn check_lease(&mut self, proc: usize, lease: &ObjectName) -> usize {
        let of = self.bond_named(proc, &lease.to_string());
        if of.is_none() {
            self.fail(format!("node-{proc}: asks about {lease}"));
        }
        of.unwrap_or(CONTROL)
    }

    /// S4, and that nobody campaigns over leftovers.
    pub fn check_lease_call(&mut self, proc: usize, of: usize, call: &LeaseCall) {
        let LeaseCall::Write { holder, .. } = call else { return };
        let host = self.procs[proc].host;
        if holder.is_none() {
            let vips = match of {
                CONTROL => self.vips.clone(),
                SERVED => self.held_of_services(host).collect(),
                of if of >= OWN => self.released_with(proc, of),
                _ => Vec::new(),
            };
            let mut it = vips.iter();
            let loud = it.any(|it| self.answers(host, *it) && self.counts(host, *it));
            if loud {
                self.fail(format!("S4: node-{proc} releases the lease while host-{host} answers"));
            }
            return;
        }
        let life = self.procs[proc].life;
        let mono = self.hosts[host].clock.mono(self.now);
        let old = |by: crate::kernel::Owner| by.proc == proc && by.life < life;
        let held = &self.hosts[host].kernel.held;
        // What was left of Services, nobody knows of if no fence names it; it is waited for.
        let known = |vip: Vip| self.vips.contains(&vip) || self.cloud.is_none();
        let left = held.iter().any(|((_, vip), it)| mono < it.ends && old(it.by) && known(*vip));
        if left {
            self.fail(format!("S10: node-{proc} campaigns over what an earlier process left"));
        }
    }

    /// S3, when the frame leaves.
    pub fn check_frame(&mut self, proc: usize, frame: &Frame) {
        let (Frame::Announce { ip, .. } | Frame::AnnounceReply { ip, .. }) = frame else { return };
        let vip = Vip(*ip);
        let (host, now) = (self.procs[proc].host, self.local(proc));
        if let Some(at) = self.vips.iter().position(|it| *it == vip) {
            self.announced_at[host][at] = self.now;
        }
        let it = &self.procs[proc];
        let of = self.bonds_hung(vip);
        let by = self.ever_by(proc, &of);
        let ever = if self.cluster.is_some() { self.ever(host, vip) } else { by };
        let (late, stalled) = (now >= ever, it.last_stall);
        let (failed, told) = (it.thread.failed_at, it.thread.told_at);
        if late {
            self.fail(format!("S3: node-{proc} announces {vip} after its end"));
        }
        let mono = self.hosts[host].clock.mono(self.now);
        // It may not have been told yet that the address is gone, or not there; or a slow process
        // is still at what it decided before.
        let lost_at = self.disturbed_at.max(self.hosts[host].lost_at).max(stalled);
        let lost_at = lost_at.max(failed.max(told).unwrap_or(0));
        let untold = failed > told || lost_at + 3 * SEC > self.now;
        if !self.hosts[host].kernel.has(vip, mono) && !untold {
            self.fail(format!("S3: node-{proc} announces {vip}, which host-{host} does not have"));
        }
    }

    /// An orderly stop in fair weather leaves no lease behind.
    pub fn check_exit(&mut self, proc: usize) {
        let it = &self.procs[proc];
        let Some(since) = it.stopping_since else { return };
        let fair = self.fair_since + SEC < since && it.last_stall < since;
        if self.cluster.is_some() {
            return;
        }
        let (author, name) = (it.author, it.name.clone());
        let now = self.local(proc);
        let held = |of: &usize| self.procs[proc].bonds[*of].truth.entitled_at(now);
        let own = (OWN..it.bonds.len()).filter(held).collect::<Vec<_>>();
        // What was left of Services ends within a lifetime, on a slow clock; who goes before that
        // lets their Lease run out.
        let left = it.lease.renew_deadline.as_nanos() as Nanos * 5 / 4 + 2_500 * MS;
        let unsure = !self.settings.fenced || it.thread.missed_fence;
        let waits = unsure && since < it.started_at + left;
        // Who gives addresses out need not want to, and lets that run out.
        let ours = (0..self.leases().min(2)).chain(own).any(|of| {
            let ours =
                |api: &mut ApiServer| api.author() == Some(author) && api.holder() == Some(&name);
            let ours = self.with_api(of, ours);
            ours && !(waits && of != CONTROL && self.cloud.is_some())
        });
        if fair && ours {
            self.fail(format!("S4: node-{proc} left and kept the lease"));
        }
    }
}
