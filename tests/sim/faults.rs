//! What may go wrong in a run. Drawn once per seed: some kinds of fault are off altogether
//! and the others differ wildly, so that runs differ in kind (swarm testing).

use edgevip::engine::Rng;
use edgevip::model::{LeaseRecord, NodeName};

use crate::foreign::FOR_GOOD;
use crate::host::{MS, Nanos, SEC, US};
use crate::process::CONTROL;
use crate::world::{Event, World};

/// Tails are the worst of one delay in five; the rest is in a thousand.
#[derive(Clone, Debug)]
pub struct Faults {
    pub action_tail: Nanos,
    pub kernel_tail: Nanos,
    pub lan_tail: Nanos,
    pub net_tail: Nanos,
    pub api_loss: u64,
    pub lan_loss: u64,
    pub kernel_refuses: u64,
    /// What may go wrong, and how often: in a thousand, each time.
    pub mischief: Vec<(Kind, u64)>,
}

/// The kinds of mischief.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    ApiCut,
    ApiErrors,
    ApiFrozen,
    ApiGone,
    ApiSlow,
    ClockStep,
    Compact,
    Crash,
    Delete,
    Edit,
    FlushAddress,
    FlushRules,
    ForeignStops,
    LanCut,
    LinkGone,
    OutOfMemory,
    Pause,
    Restore,
    RulesChurn,
    Stop,
    Stranger,
    Suspend,
    Thief,
    Unplug,
    WatchCut,
    WatchLag,
    // Of a quorum only.
    Cut,
    DiskBad,
    DiskFull,
    DiskSlow,
    MailSlow,
    Order,
    PowerCut,
    ProbesHang,
    Reboot,
    Sick,
    Split,
    StoreLost,
}

pub const KINDS: [Kind; 26] = [
    Kind::ApiCut,
    Kind::ApiErrors,
    Kind::ApiFrozen,
    Kind::ApiGone,
    Kind::ApiSlow,
    Kind::ClockStep,
    Kind::Compact,
    Kind::Crash,
    Kind::Delete,
    Kind::Edit,
    Kind::FlushAddress,
    Kind::FlushRules,
    Kind::ForeignStops,
    Kind::LanCut,
    Kind::LinkGone,
    Kind::OutOfMemory,
    Kind::Pause,
    Kind::Restore,
    Kind::RulesChurn,
    Kind::Stop,
    Kind::Stranger,
    Kind::Suspend,
    Kind::Thief,
    Kind::Unplug,
    Kind::WatchCut,
    Kind::WatchLag,
];

/// What goes wrong with a quorum.
pub const QUORUM_KINDS: [Kind; 25] = [
    Kind::Crash,
    Kind::Cut,
    Kind::DiskBad,
    Kind::DiskFull,
    Kind::DiskSlow,
    Kind::FlushAddress,
    Kind::FlushRules,
    Kind::LanCut,
    Kind::LinkGone,
    Kind::MailSlow,
    Kind::Order,
    Kind::OutOfMemory,
    Kind::Pause,
    Kind::PowerCut,
    Kind::ProbesHang,
    Kind::Reboot,
    Kind::RulesChurn,
    Kind::Sick,
    Kind::Split,
    Kind::Stop,
    Kind::StoreLost,
    Kind::Stranger,
    Kind::Suspend,
    Kind::Thief,
    Kind::Unplug,
];

impl Faults {
    pub fn none() -> Self {
        Self {
            action_tail: 100 * US,
            kernel_tail: 200 * US,
            lan_tail: 500 * US,
            net_tail: 5 * MS,
            api_loss: 0,
            lan_loss: 0,
            kernel_refuses: 0,
            mischief: Vec::new(),
        }
    }

    pub fn draw(rng: &mut Rng) -> Self {
        let mut sometimes = |most: u64| if rng.below(2) == 0 { 0 } else { rng.below(most + 1) };
        let mischief = KINDS.map(|kind| {
            sometimes(match kind {
                Kind::ApiCut | Kind::Pause => 300,
                Kind::Crash | Kind::OutOfMemory | Kind::Stop | Kind::Suspend => 150,
                Kind::Delete | Kind::Restore => RARELY,
                Kind::ApiErrors
                | Kind::ApiFrozen
                | Kind::ApiGone
                | Kind::ApiSlow
                | Kind::ClockStep
                | Kind::Compact
                | Kind::Edit
                | Kind::FlushAddress
                | Kind::FlushRules
                | Kind::ForeignStops
                | Kind::LanCut
                | Kind::LinkGone
                | Kind::RulesChurn
                | Kind::Stranger
                | Kind::Thief
                | Kind::Unplug
                | Kind::WatchCut
                | Kind::WatchLag => 60,
                _ => 0,
            })
        });
        let mischief = KINDS.into_iter().zip(mischief).collect();
        let (api_loss, lan_loss, kernel_refuses) = (sometimes(400), sometimes(300), sometimes(20));
        Self {
            action_tail: [100 * US, MS, 20 * MS, 500 * MS][rng.below(4) as usize],
            kernel_tail: [200 * US, 12 * MS, 450 * MS][rng.below(3) as usize],
            lan_tail: [500 * US, 20 * MS][rng.below(2) as usize],
            net_tail: [MS, 20 * MS, 500 * MS, 5 * SEC][rng.below(4) as usize],
            api_loss,
            lan_loss,
            kernel_refuses,
            mischief,
        }
    }
}

impl Faults {
    /// Those of a quorum that promises for so long. Tails belong to that, or nothing ever
    /// works; and one in a while does not.
    pub fn draw_quorum(rng: &mut Rng, promise: Nanos) -> Self {
        let mut sometimes = |most: u64| if rng.below(2) == 0 { 0 } else { rng.below(most + 1) };
        let mischief = QUORUM_KINDS.map(|kind| {
            let most = match kind {
                Kind::Cut | Kind::Order | Kind::Pause | Kind::Split => 60,
                Kind::Crash | Kind::OutOfMemory | Kind::Stop | Kind::MailSlow => 40,
                Kind::PowerCut | Kind::StoreLost | Kind::DiskBad => 8,
                Kind::Thief => 0,
                _ => 15,
            };
            (kind, sometimes(most))
        });
        let (lan_loss, kernel_refuses) = (sometimes(300), sometimes(20));
        let tails = [100 * US, promise / 100, promise / 10, promise];
        Self {
            action_tail: tails[rng.below(3) as usize].max(20 * US) / 2,
            kernel_tail: [200 * US, 12 * MS, 450 * MS][rng.below(3) as usize],
            lan_tail: [500 * US, 20 * MS][rng.below(2) as usize],
            net_tail: MS,
            api_loss: 0,
            lan_loss,
            kernel_refuses,
            mischief: mischief.into(),
        }
    }
}

/// After these nothing is promised for the length of a lease: they must not fill the run.
const RARELY: u64 = 8;

impl World {
    /// Once a simulated second: maybe something goes wrong with somebody.
    pub fn mischief(&mut self) {
        for at in 0..self.faults.mischief.len() {
            let (kind, often) = self.faults.mischief[at];
            if self.chance(often) {
                let span = self.some_span();
                let host = self.rng.below(self.hosts.len() as u64) as usize;
                let proc = self.rng.below(self.procs.len() as u64) as usize;
                self.inflict(kind, host, proc, span);
            }
        }
        self.mischief_at_site();
        self.schedule(self.pace, Event::Mischief);
    }

    /// Short ones matter as much as long ones.
    fn some_span(&mut self) -> Nanos {
        if let Some(cluster) = self.quorum() {
            let promise = cluster.quorum.promise();
            let most = [promise / 3, 2 * promise, 30 * promise][self.rng.below(3) as usize];
            return promise / 10 + self.rng.below(most);
        }
        let most = [200 * MS, 2 * SEC, 30 * SEC][self.rng.below(3) as usize];
        100 * MS + self.rng.below(most)
    }

    pub fn inflict(&mut self, kind: Kind, host: usize, proc: usize, span: Nanos) {
        let now = self.now;
        let until = now + span;
        if !matches!(kind, Kind::Crash | Kind::Stop | Kind::Edit | Kind::WatchCut | Kind::Compact) {
            self.disturbed_at =
                if kind == Kind::LanCut || kind == Kind::Unplug { until } else { now };
        }
        self.note(|| {
            ("fault".into(), format!("{kind:?} host-{host} node-{proc} {:.3}s", span as f64 / 1e9))
        });
        match kind {
            Kind::ApiCut => self.hosts[host].api_cut_until = until,
            Kind::ApiErrors => {
                self.weather.errors = self.rng.below(500);
                self.weather.garbage = self.rng.below(200);
                self.weather.stale = self.rng.below(500);
                self.schedule(span, Event::Clears(Kind::ApiErrors));
            }
            Kind::ApiFrozen => self.weather.frozen_until = until,
            Kind::ApiGone => self.weather.gone_until = until,
            Kind::ApiSlow => {
                self.weather.slow = self.rng.below(3 * SEC);
                self.schedule(span, Event::Clears(Kind::ApiSlow));
            }
            Kind::ClockStep => self.hosts[host].wall = self.rng.below(1 << 40),
            Kind::Compact => self.compact(),
            Kind::Crash => self.crash(proc, span),
            Kind::Delete | Kind::Edit | Kind::Restore if self.inflict_on_own(kind) => {}
            Kind::Delete => {
                self.lied_until = now + self.longest_lease * 2;
                let of = self.some_lease();
                self.api_of(of).delete();
                self.push_of(of);
            }
            Kind::Edit => {
                let of = self.some_lease();
                self.api_of(of).edit();
                self.push_of(of);
            }
            Kind::FlushAddress => {
                let gone = self.hosts[host].kernel.remove_if(|_, _| true);
                gone.into_iter().for_each(|it| self.notify(host, it));
            }
            Kind::FlushRules => {
                self.hosts[host].kernel.flush_ruleset();
                self.hosts[host].excuse.get_or_insert_default().flushed = true;
                self.rules_changed(host);
            }
            Kind::ForeignStops => {
                let orderly = self.rng.below(2) == 0;
                self.foreign_stops(span, orderly);
            }
            Kind::LanCut => {
                let how = self.rng.below(3);
                if how != 0 {
                    self.hosts[host].mute_until = until;
                }
                if how != 1 {
                    self.hosts[host].deaf_until = until;
                }
            }
            Kind::LinkGone => {
                self.remove_link(host);
                self.schedule(span, Event::LinkBack { host });
            }
            Kind::OutOfMemory => self.crash(proc, 100 * MS),
            Kind::Pause => self.pause(proc, span),
            Kind::Restore => {
                let steps = self.rng.below(20) as usize;
                let of = self.some_lease();
                if self.api_of(of).restore(steps) {
                    self.lied_until = now + self.longest_lease * 2;
                    (0..self.procs.len()).for_each(|it| self.end_watch_of(it, of, MS));
                }
            }
            Kind::RulesChurn => self.rules_changed(host),
            Kind::Stop => {
                self.stop(proc);
                self.schedule(span + 2 * SEC, Event::Start { proc });
            }
            Kind::Stranger => {
                if self.rng.below(2) == 0 {
                    self.stranger_until = until;
                }
                self.stranger_claims();
            }
            Kind::Suspend => self.suspend(host, span),
            Kind::Thief => self.steal(),
            Kind::Unplug => {
                self.set_carrier(host, false);
                self.schedule(span, Event::PlugBack { host });
            }
            Kind::Cut
            | Kind::DiskBad
            | Kind::DiskFull
            | Kind::DiskSlow
            | Kind::MailSlow
            | Kind::Order
            | Kind::PowerCut
            | Kind::ProbesHang
            | Kind::Reboot
            | Kind::Sick
            | Kind::Split
            | Kind::StoreLost => self.inflict_on_members(kind, host, proc, span),
            Kind::WatchCut if self.cloud.is_some() && self.rng.below(2) == 0 => {
                self.end_some_follow(proc);
            }
            Kind::WatchCut => {
                let of = self.some_lease();
                self.end_watch_of(proc, of, 0);
            }
            Kind::WatchLag => {
                self.weather.watch_lag = self.rng.below(10 * SEC);
                self.schedule(span, Event::Clears(Kind::WatchLag));
            }
        }
    }

    /// One of those that there are.
    fn some_lease(&mut self) -> usize {
        match self.leases() {
            1 => CONTROL,
            all => self.rng.below(all as u64) as usize,
        }
    }

    fn compact(&mut self) {
        (0..self.leases()).for_each(|of| self.api_of(of).compact());
        if let Some(cloud) = &mut self.cloud {
            cloud.objects.compact();
        }
    }

    pub fn clear(&mut self, kind: Kind) {
        match kind {
            Kind::ApiErrors => {
                (self.weather.errors, self.weather.garbage, self.weather.stale) = (0, 0, 0);
            }
            Kind::ApiSlow => self.weather.slow = 0,
            Kind::WatchLag => self.weather.watch_lag = 0,
            _ => {}
        }
    }

    /// Everything works again and keeps working.
    pub fn heal(&mut self) {
        self.note(|| ("fault".into(), "everything heals".into()));
        self.faults = Faults::none();
        self.weather = Default::default();
        (self.stranger_until, self.disturbed_at, self.fair_since) = (0, self.now, self.now);
        self.heal_members();
        self.cloud.iter_mut().for_each(|it| it.site.heal());
        for host in 0..self.hosts.len() {
            let it = &mut self.hosts[host];
            let now = self.now;
            (it.api_cut_until, it.mute_until, it.deaf_until) = (now, now, now);
            it.asleep_until = now;
            self.add_link(host);
            self.set_carrier(host, true);
            for proc in self.procs_on(host) {
                self.procs[proc].paused_until = now;
            }
            self.kick(host);
        }
        for proc in 0..self.procs.len() {
            // Who is on the way out may take the time that a stop takes.
            self.schedule(2 * SEC, Event::Start { proc });
        }
    }

    pub fn crash(&mut self, proc: usize, span: Nanos) {
        self.kill(proc);
        self.schedule(span, Event::Start { proc });
    }

    pub fn rules_changed(&mut self, host: usize) {
        for proc in self.procs_on(host) {
            let life = self.procs[proc].life;
            let delay = self.quick(MS, 60 * MS);
            let input = Box::new(edgevip::engine::Input::RulesetChanged);
            self.schedule(delay, Event::Deliver { proc, life, input });
        }
    }

    /// Somebody writes another holder into the record, waiting for nobody.
    fn steal(&mut self) {
        let of = self.some_lease();
        let Some(before) = self.api_of(of).lease().map(|it| it.record.clone()) else { return };
        let names = ["thief", "node-0", "node-1"];
        let name = NodeName(names[self.rng.below(3) as usize].into());
        let renewed = Some(format!("stolen-{}", self.now));
        // The annotation is kept but fits the stamp no more.
        self.api_of(of).put(LeaseRecord {
            holder: Some(name),
            renewed,
            author: None,
            quorum: None,
            ..before
        });
        self.push_of(of);
    }

    pub fn foreign_leaves(&mut self) {
        self.foreign_stops(FOR_GOOD, true);
    }
}
