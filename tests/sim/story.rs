//! One run, told by hand: who starts, what goes wrong, who must hold the VIPs by when.
//! Times count from the last thing that was done to the world.

use edgevip::engine::Notice;
use edgevip::model::{Mac, NodeName, Refusal, VipState};

use crate::faults::Kind;
use crate::foreign::{FOR_GOOD, Foreign};
use crate::host::{MS, Nanos, SEC, mac_of};
use crate::process::Proc;
use crate::run::{calm, check_converged};
use crate::world::{Event, Log, Settings, World};

pub struct Story {
    pub world: World,
    done_at: Nanos,
    /// How long two answered at once, and since when they do.
    overlap: Nanos,
    overlap_allowed: Nanos,
    two_since: Option<Nanos>,
}

pub fn story(nodes: usize) -> Story {
    told(nodes, Settings::stock())
}

/// The log is shown if the story fails; `STORY_SEED` tells it with other delays.
pub fn told(nodes: usize, settings: Settings) -> Story {
    let seed = crate::number("STORY_SEED").unwrap_or(1);
    let world = calm(nodes, settings, seed).with_log(Log::Print);
    Story { world, done_at: 0, overlap: 0, overlap_allowed: 0, two_since: None }
}

pub fn secs(it: u64) -> Nanos {
    it * SEC
}

pub fn ms(it: u64) -> Nanos {
    it * MS
}

impl Story {
    /// Everybody starts, `node` a moment before the others.
    pub fn led_by(mut self, node: &str) -> Self {
        self.world.schedule(0, Event::Start { proc: at(node) });
        for proc in 0..self.world.procs.len() {
            self.world.schedule(10 * MS + MS * proc as u64, Event::Start { proc });
        }
        self.expect_holder(node, secs(2)).after(secs(5))
    }

    /// A candidate of another make leads before ours start.
    pub fn led_by_foreign(mut self, duration: Nanos) -> Self {
        self.world.joins(Foreign::new(NodeName("kube-vip-1".into()), duration));
        for proc in 0..self.world.procs.len() {
            self.world.schedule(100 * MS + MS * proc as u64, Event::Start { proc });
        }
        self.expect_foreign(secs(1)).after(secs(5))
    }

    /// A second process under the same name on the host of `node`.
    pub fn twin(mut self, node: &str) -> Self {
        let it = &self.world.procs[at(node)];
        let twin = Proc::new(it.host, it.name.clone(), it.lease.clone());
        self.world.procs.push(twin);
        self
    }

    pub fn named(mut self, node: &str, name: &str) -> Self {
        self.world.procs[at(node)].name = NodeName(name.into());
        self
    }

    pub fn after(self, span: Nanos) -> Self {
        self.when(span, |_| false)
    }

    /// Goes on once it is so, or when the time is over.
    pub fn when(mut self, span: Nanos, is_so: impl Fn(&World) -> bool) -> Self {
        self.go(span, is_so);
        self.done()
    }

    pub fn never(mut self, span: Nanos, is_so: impl Fn(&World) -> bool) -> Self {
        assert!(!self.go(span, is_so), "it is so: {}", self.scene());
        self.done()
    }

    pub fn pause(self, node: &str, span: Nanos) -> Self {
        self.act(|it| it.pause(at(node), span))
    }

    pub fn crash(self, node: &str, back_after: Nanos) -> Self {
        self.act(|it| it.crash(at(node), back_after))
    }

    pub fn start(self, node: &str) -> Self {
        self.act(|it| it.start(at(node)))
    }

    pub fn stop(self, node: &str) -> Self {
        self.act(|it| it.stop(at(node)))
    }

    pub fn suspend(self, node: &str, span: Nanos) -> Self {
        self.act(|it| it.suspend(at(node), span))
    }

    pub fn inflict(self, kind: Kind, node: &str, span: Nanos) -> Self {
        self.act(|it| it.inflict(kind, at(node), at(node), span))
    }

    pub fn foreign_stops(self, orderly: bool) -> Self {
        self.act(|it| it.foreign_stops(FOR_GOOD, orderly))
    }

    /// No frame of the host arrives and none arrives there; its carrier stays.
    pub fn cut_from_lan(self, node: &str, span: Nanos) -> Self {
        self.act(|it| {
            let until = it.now + span;
            it.disturbed_at = until;
            let host = &mut it.hosts[at(node)];
            (host.mute_until, host.deaf_until) = (until, until);
        })
    }

    pub fn cut_from_api(self, node: &str, span: Nanos) -> Self {
        self.inflict(Kind::ApiCut, node, span)
    }

    pub fn act(mut self, act: impl FnOnce(&mut World)) -> Self {
        act(&mut self.world);
        self.world.client.measure_anew();
        self.done()
    }

    /// Two may answer for so long in all: what no process can prevent.
    pub fn overlap_allowed(mut self, most: Nanos) -> Self {
        self.overlap_allowed = most;
        self
    }

    /// `node` alone answers for all VIPs by then, and clients send to it.
    pub fn expect_holder(mut self, node: &str, by: Nanos) -> Self {
        let host = at(node);
        let so = self.go(self.left(by), |it| holds(it, host));
        assert!(so, "{node} does not hold the VIPs by then: {}", self.scene());
        self
    }

    /// Whoever it is.
    pub fn expect_one_holder(mut self, by: Nanos) -> Self {
        let so = self.go(self.left(by), |it| (0..it.hosts.len()).any(|host| holds(it, host)));
        assert!(so, "nobody holds the VIPs by then: {}", self.scene());
        self
    }

    pub fn expect_foreign(mut self, by: Nanos) -> Self {
        let leads =
            |it: &World| it.foreign.as_ref().filter(|other| other.leads(it.now)).map(|it| it.mac);
        let so = self.go(self.left(by), |it| leads(it).is_some_and(|mac| points_to(it, mac)));
        assert!(so, "the foreign candidate does not lead by then: {}", self.scene());
        self
    }

    /// `node` has the VIPs from here on, without a gap, and clients reach it.
    pub fn expect_keeps(mut self, node: &str, span: Nanos) -> Self {
        let host = at(node);
        let broken = self.go(span, |it| !holds(it, host));
        assert!(!broken, "{node} does not keep the VIPs: {}", self.scene());
        self
    }

    /// `node` does not answer from `by` until `until`.
    pub fn expect_silent(mut self, node: &str, by: Nanos, until: Nanos) -> Self {
        let host = at(node);
        self.go(self.left(by), |_| false);
        let answers = |it: &World| it.vips.iter().any(|vip| it.answers(host, *vip));
        let broken = self.go(self.left(until), answers);
        assert!(!broken, "{node} answers: {}", self.scene());
        self
    }

    /// Since the last thing that was done.
    pub fn expect_cut_at_most(self, most: Nanos) -> Self {
        let worst = self.world.client.worst;
        assert!(worst <= most, "clients were cut off for {} ms", worst / MS);
        self
    }

    pub fn expect_told(self, node: &str, is_meant: impl Fn(&Notice) -> bool) -> Self {
        let told = &self.world.procs[at(node)].notices;
        assert!(told.iter().any(|(_, it)| is_meant(it)), "{node} told only {told:?}");
        self
    }

    /// The process at that place gives this reason for not answering.
    pub fn expect_refusal(self, proc: usize, is_meant: impl Fn(&Refusal) -> bool) -> Self {
        let node = self.world.procs[proc].node.as_ref().expect("it runs");
        let status = node.status(self.world.local(proc));
        assert!(status.vips.iter().all(|it| it.state != VipState::Answering), "{status:?}");
        let given = status.vips.iter().all(|it| it.refusal.as_ref().is_some_and(&is_meant));
        assert!(given, "{status:?}");
        self
    }

    /// A calm minute: nothing moves, no client is cut off, each node knows where it stands.
    pub fn finish(mut self) {
        self.go(secs(2), |_| false);
        let dead = (0..self.world.procs.len()).filter(|it| !self.world.procs[*it].runs());
        for proc in dead.collect::<Vec<_>>() {
            self.world.schedule(0, Event::Start { proc });
        }
        self.go(secs(2), |_| false);
        let takeovers = self.world.takeovers;
        self.world.client.measure_anew();
        self.go(secs(60), |_| false);
        check_converged(&self.world).expect("all is well in the end");
        assert_eq!(self.world.takeovers, takeovers, "the VIPs still move");
        assert_eq!(self.world.client.worst, 0, "clients are still cut off");
        assert!(
            self.overlap <= self.overlap_allowed,
            "two answered at once for {} us",
            self.overlap / 1_000,
        );
    }

    fn done(mut self) -> Self {
        self.done_at = self.world.now;
        self
    }

    fn left(&self, by: Nanos) -> Nanos {
        (self.done_at + by).saturating_sub(self.world.now)
    }

    /// Runs until `is_so`, but not longer than `span`; watches that never two answer, with
    /// no excuse for anybody.
    fn go(&mut self, span: Nanos, is_so: impl Fn(&World) -> bool) -> bool {
        let end = self.world.now + span;
        loop {
            let two = self.two_since.is_some();
            let left = end - self.world.now;
            let stopped = self.world.run_until_so(left, |it| two_answer(it) != two || is_so(it));
            let stopped = stopped.unwrap_or_else(|why| panic!("{why}"));
            match (two, two_answer(&self.world)) {
                (false, true) => self.two_since = Some(self.world.now),
                (true, false) => {
                    self.overlap += self.world.now - self.two_since.take().unwrap_or(0);
                }
                (false, false) | (true, true) => {}
            }
            if is_so(&self.world) {
                return true;
            }
            if !stopped {
                return false;
            }
        }
    }

    fn scene(&self) -> String {
        let it = &self.world;
        let who: Vec<_> = it.vips.iter().map(|vip| answering(it, *vip)).collect();
        let cache: Vec<_> = it.client.cache.values().map(|it| it.mac).collect();
        let since = (it.now - self.done_at) as f64 / 1e9;
        format!("{since:.3}s later hosts {who:?} answer, clients send to {cache:?}")
    }
}

impl World {
    /// A candidate of another make takes part.
    pub fn joins(&mut self, foreign: Foreign) {
        self.longest_lease = self.longest_lease.max(foreign.duration);
        self.foreign = Some(foreign);
        self.schedule(0, Event::ForeignTries);
    }

    /// The API server is back with what it knew so many changes ago; watches are cut.
    pub fn restore(&mut self, changes: usize) {
        assert!(self.api.restore(changes), "it remembers as much");
        self.lied_until = self.now + 2 * self.longest_lease;
        (0..self.procs.len()).for_each(|it| self.end_watch(it, MS));
    }
}

fn at(node: &str) -> usize {
    node.trim_start_matches("node-").parse().expect("node-0 and so on")
}

fn answering(world: &World, vip: edgevip::model::Vip) -> Vec<usize> {
    (0..world.hosts.len()).filter(|it| world.answers(*it, vip)).collect()
}

fn two_answer(world: &World) -> bool {
    let foreign = world.foreign.as_ref().is_some_and(|it| it.leads_alone(world.now));
    world.vips.iter().any(|vip| answering(world, *vip).len() + usize::from(foreign) > 1)
}

fn holds(world: &World, host: usize) -> bool {
    let alone = world.vips.iter().all(|it| answering(world, *it) == [host]);
    alone && points_to(world, mac_of(host))
}

fn points_to(world: &World, mac: Mac) -> bool {
    let cache = &world.client.cache;
    world
        .vips
        .iter()
        .all(|it| cache.get(it).is_some_and(|it| it.mac == mac) && world.is_served(*it))
}
