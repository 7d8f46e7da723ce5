//! One story for each bad thing that a node must live through, told with stock settings.

use std::time::Duration;

use edgevip::engine::{Notice, Rng};
use edgevip::model::{NodeName, Refusal, Vip};

use crate::faults::Kind;
use crate::foreign::Foreign;
use crate::host::{MS, Nanos, SEC};
use crate::lan::STRANGER;
use crate::process::Proc;
use crate::run::{calm, check_converged, converge, keep_calm};
use crate::world::{Event, Settings, World};

#[test]
fn a_calm_network_keeps_one_leader_and_loses_no_packet() {
    let mut story = story(3).leader("node-0");
    story.world.client.measure_anew();
    story.at(600).expect_cut_at_most(0).expect_takeovers(0).finish();
}

#[test]
fn a_killed_leader_is_followed_when_its_lease_has_run_out() {
    story(2)
        .leader("node-0")
        .at(5)
        .fault(Kind::Crash, "node-0", secs(60))
        .expect_holder_by("node-1", 5 + 15 + 1)
        .expect_cut_at_most(15 * SEC)
        .finish();
}

#[test]
fn without_a_fence_a_killed_leader_is_followed_as_soon() {
    let settings = Settings { fenced: false, ..Settings::stock() };
    story_with(2, settings)
        .leader("node-0")
        .at(5)
        .fault(Kind::Crash, "node-0", secs(60))
        .expect_holder_by("node-1", 5 + 15 + 1)
        .finish();
}

#[test]
fn a_paused_leader_does_not_keep_the_vip_and_says_nothing_stale_when_continued() {
    story(2)
        .leader("node-0")
        .at(5)
        .pause("node-0", secs(60))
        .expect_holder_by("node-1", 5 + 15 + 1)
        .at(70)
        .expect_holder_by("node-1", 70)
        .finish();
}

#[test]
fn a_leader_out_of_memory_that_is_started_again_goes_on_leading() {
    story(3)
        .leader("node-0")
        .at(5)
        .fault(Kind::OutOfMemory, "node-0", 0)
        .expect_holder_by("node-0", 6)
        .expect_cut_at_most(SEC)
        .finish();
}

#[test]
fn a_step_of_the_wall_clock_changes_nothing() {
    story(3)
        .leader("node-0")
        .at(5)
        .fault(Kind::ClockStep, "node-0", 0)
        .at(60)
        .expect_cut_at_most(0)
        .expect_takeovers(0)
        .finish();
}

#[test]
fn a_host_that_slept_for_long_wakes_up_silent() {
    story(2)
        .leader("node-0")
        .at(5)
        .suspend("node-0", secs(60))
        .expect_holder_by("node-1", 5 + 15 + 1)
        .at(70)
        .expect_holder_by("node-1", 70)
        .finish();
}

#[test]
fn a_host_that_slept_a_moment_has_its_leadership_confirmed_before_it_answers() {
    story(3)
        .leader("node-0")
        .at(5)
        .suspend("node-0", secs(2))
        .at(8)
        .expect_told("node-0", |it| matches!(it, Notice::Refused(_, Refusal::Unconfirmed)))
        .expect_holder_by("node-0", 8)
        .finish();
}

#[test]
fn without_an_api_server_the_vip_ends_with_the_leadership_and_is_back_with_it() {
    story(3)
        .leader("node-0")
        .at(5)
        .fault(Kind::ApiGone, "node-0", secs(30))
        .expect_nobody_by(5 + 10 + 1)
        .at(35)
        .expect_somebody_by(35 + 15 + 3)
        .finish();
}

#[test]
fn an_outage_of_the_api_server_shorter_than_the_lease_is_not_noticed_by_clients() {
    for kind in [Kind::ApiGone, Kind::ApiFrozen] {
        story(3)
            .leader("node-0")
            .at(5)
            .fault(kind, "node-0", secs(6))
            .at(60)
            .expect_cut_at_most(0)
            .expect_takeovers(0)
            .finish();
    }
}

#[test]
fn an_api_server_that_takes_two_and_a_half_seconds_still_elects() {
    let mut story = story(3);
    story.world.weather.slow = 2_500 * MS;
    story.expect_somebody_by(10).at(120).expect_takeovers(0).kept_slow(2_500 * MS);
}

#[test]
fn an_api_server_that_lies_makes_no_second_leader() {
    let mut story = story(3).leader("node-0");
    (story.world.weather.errors, story.world.weather.garbage) = (300, 100);
    story.world.weather.stale = 500;
    story.at(120).fault(Kind::Crash, "node-0", secs(20)).at(200).finish();
}

#[test]
fn a_flap_of_the_link_shorter_than_patience_is_nothing() {
    story(3)
        .leader("node-0")
        .at(5)
        .fault(Kind::Unplug, "node-0", 50 * MS)
        .at(20)
        .expect_takeovers(0)
        .finish();
}

#[test]
fn a_leader_without_carrier_hands_over_at_once() {
    story(2)
        .leader("node-0")
        .at(5)
        .fault(Kind::Unplug, "node-0", secs(30))
        .expect_holder_by("node-1", 6)
        .finish();
}

#[test]
fn a_link_that_is_removed_and_comes_back_is_followed() {
    story(1)
        .leader("node-0")
        .at(5)
        .fault(Kind::LinkGone, "node-0", secs(3))
        .at(8)
        .expect_holder_by("node-0", 10)
        .finish();
}

#[test]
fn a_flushed_address_is_back_in_a_moment() {
    story(3)
        .leader("node-0")
        .at(5)
        .fault(Kind::FlushAddress, "node-0", 0)
        .at(20)
        .expect_told("node-0", |it| matches!(it, Notice::Readded(_)))
        .expect_cut_at_most(20 * MS)
        .expect_takeovers(0)
        .finish();
}

#[test]
fn a_flushed_ruleset_is_built_again() {
    story(3)
        .leader("node-0")
        .at(5)
        .fault(Kind::FlushRules, "node-0", 0)
        .at(20)
        .expect_told("node-0", |it| *it == Notice::FenceRebuilt)
        .expect_takeovers(0)
        .finish();
}

#[test]
fn a_slow_kernel_makes_a_slow_hand_over_but_no_second_answer() {
    let mut story = story(3).leader("node-0");
    story.world.faults.kernel_tail = 450 * MS;
    story.at(5).stop("node-0", secs(60)).expect_somebody_by(9).at(120).finish();
}

#[test]
fn a_stop_costs_the_clients_nothing() {
    story(3)
        .leader("node-0")
        .at(5)
        .stop("node-0", secs(60))
        .at(8)
        .expect_somebody_by(8)
        .expect_cut_at_most(0)
        .finish();
}

#[test]
fn an_address_in_use_is_not_claimed_first_and_its_user_is_named() {
    let mut story = story(1);
    story.world.stranger_until = 20 * SEC;
    story
        .at(10)
        .expect_nobody_by(10)
        .expect_told(
            "node-0",
            |it| matches!(it, Notice::Refused(_, Refusal::Conflict { mac }) if *mac == STRANGER),
        )
        .expect_holder_by("node-0", 30)
        .finish();
}

#[test]
fn a_leader_defends_against_a_stranger() {
    let mut story = story(3).leader("node-0").at(5);
    story.world.stranger_claims();
    story
        .at(8)
        .expect_told("node-0", |it| matches!(it, Notice::Conflict(_, mac) if *mac == STRANGER))
        .expect_holder_by("node-0", 8)
        .expect_cut_at_most(100 * MS)
        .finish();
}

#[test]
fn a_second_process_on_a_host_waits_for_the_first_to_die() {
    let mut story = story_of(1, |world| {
        let lease = world.settings.lease.clone();
        world.procs.push(Proc::new(0, NodeName("node-0".into()), lease));
    });
    story = story
        .leader("node-0")
        .at(5)
        .expect_told("node-1", |it| matches!(it, Notice::Refused(_, Refusal::AnotherProcess)));
    story.world.kill(0);
    story.expect_holder_by("node-1", 7).expect_cut_at_most(SEC).started_again(0).finish();
}

#[test]
fn of_two_hosts_with_one_name_only_one_answers() {
    let same_name = |world: &mut World| world.procs[1].name = NodeName("node-0".into());
    story_of(2, same_name)
        .leader("node-0")
        .at(120)
        .expect_takeovers(0)
        .expect_cut_at_most(0)
        .finish();
}

#[test]
fn a_foreign_candidate_is_waited_for_and_taken_over_from() {
    let mut story = story_of(1, |world| {
        world.foreign = Some(Foreign::new(NodeName("kube-vip-1".into()), 30 * SEC));
        world.schedule(0, Event::ForeignTries);
        world.run_for(SEC).expect("a good run");
    });
    story = story.at(60).expect_nobody_by(60);
    story.world.foreign_stops(100_000 * SEC, false);
    let story = story.at(85).expect_nobody_by(85);
    story.expect_holder_by("node-0", 60 + 30 + 2).finish();
}

#[test]
fn a_foreign_candidate_takes_over_from_us() {
    let mut story = story(2).leader("node-0").at(5);
    story.world.foreign = Some(Foreign::new(NodeName("kube-vip-1".into()), 15 * SEC));
    story.world.schedule(0, Event::ForeignTries);
    let mut story = story.at(10);
    story.world.kill(0);
    story.world.kill(1);
    let mut story = story.at(40);
    assert!(story.world.foreign.as_ref().is_some_and(|it| it.leads(story.world.now)));
    story.world.schedule(0, Event::Start { proc: 0 });
    story.world.schedule(0, Event::Start { proc: 1 });
    let mut story = story.at(60).expect_nobody_by(60);
    story.world.foreign_leaves();
    story.expect_somebody_by(61).finish();
}

/// After a crash a client is cut off for no longer than a lease and a round trip, whenever
/// it happens; after a stop, not at all.
#[test]
fn fail_over_takes_as_long_as_documented() {
    let mut worst = [0; 2];
    for seed in 0..100 {
        for (at, worst) in worst.iter_mut().enumerate() {
            let mut world = calm(3, Settings::stock(), seed);
            world.start_all();
            let moment = 20 * SEC + Rng::from_seed(seed).below(10 * SEC);
            world.run_until(moment).expect("a good run");
            world.client.measure_anew();
            let vip = world.vips[0];
            let holder = (0..3).find(|it| world.answers(*it, vip)).expect("a holder");
            match at {
                0 => world.kill(holder),
                _ => world.stop(holder),
            }
            world.run_for(20 * SEC).expect("a good run");
            *worst = (*worst).max(world.client.worst);
        }
    }
    let [crash, stop] = worst.map(|it| it as f64 / 1e6);
    eprintln!("clients were cut off for at most {crash} ms by a crash, {stop} ms by a stop");
    assert!(crash <= 15_100.0 && stop <= 1.0);
}

struct Story {
    world: World,
    takeovers: u64,
}

fn story(nodes: usize) -> Story {
    story_with(nodes, Settings::stock())
}

fn story_with(nodes: usize, settings: Settings) -> Story {
    let mut world = calm(nodes, settings, 7);
    world.start_all();
    Story { world, takeovers: 0 }
}

/// With something else in the world before the nodes start.
fn story_of(nodes: usize, change: impl FnOnce(&mut World)) -> Story {
    let mut world = calm(nodes, Settings::stock(), 7);
    change(&mut world);
    world.start_all();
    Story { world, takeovers: 0 }
}

const fn secs(seconds: u64) -> Nanos {
    seconds * SEC
}

impl Story {
    fn leader(mut self, name: &str) -> Self {
        self = self.expect_holder_by(name, 4);
        let served = |it: &World| it.is_served(it.vips[0]);
        assert!(self.world.run_until_so(SEC * 2, served).expect("a good start"));
        self.world.client.measure_anew();
        self.takeovers = self.world.takeovers;
        self
    }

    fn at(mut self, seconds: u64) -> Self {
        self.world.run_until(secs(seconds)).expect("a good run");
        self
    }

    fn fault(mut self, kind: Kind, name: &str, span: Nanos) -> Self {
        let proc = self.proc(name);
        self.world.inflict(kind, self.world.procs[proc].host, proc, span);
        self
    }

    fn pause(mut self, name: &str, span: Nanos) -> Self {
        self.world.pause(self.proc(name), span);
        self
    }

    fn suspend(mut self, name: &str, span: Nanos) -> Self {
        let host = self.world.procs[self.proc(name)].host;
        self.world.suspend(host, span);
        self
    }

    fn stop(mut self, name: &str, back_after: Nanos) -> Self {
        let proc = self.proc(name);
        self.world.stop(proc);
        self.world.schedule(back_after, Event::Start { proc });
        self
    }

    fn started_again(mut self, proc: usize) -> Self {
        self.world.schedule(0, Event::Start { proc });
        self
    }

    fn expect_holder_by(self, name: &str, seconds: u64) -> Self {
        let host = self.world.procs[self.proc(name)].host;
        let what = format!("{name} answers by {seconds}s");
        self.expect_by(seconds, &what, move |world, vip| world.answers(host, vip))
    }

    fn expect_somebody_by(self, seconds: u64) -> Self {
        let what = format!("somebody answers by {seconds}s");
        self.expect_by(seconds, &what, |world, vip| {
            (0..world.hosts.len()).any(|host| world.answers(host, vip))
        })
    }

    fn expect_nobody_by(self, seconds: u64) -> Self {
        let what = format!("nobody answers by {seconds}s");
        self.expect_by(seconds, &what, |world, vip| {
            !(0..world.hosts.len()).any(|host| world.answers(host, vip))
        })
    }

    fn expect_by(mut self, seconds: u64, what: &str, is_so: impl Fn(&World, Vip) -> bool) -> Self {
        let vip = self.world.vips[0];
        let left = secs(seconds).saturating_sub(self.world.now);
        let so = self.world.run_until_so(left, |it| is_so(it, vip)).expect("a good run");
        assert!(so, "it is not so that {what}");
        self
    }

    fn expect_cut_at_most(self, most: Nanos) -> Self {
        let worst = self.world.client.worst;
        assert!(worst <= most, "clients were cut off for {:?}", Duration::from_nanos(worst));
        self
    }

    fn expect_takeovers(self, count: u64) -> Self {
        assert_eq!(self.world.takeovers - self.takeovers, count, "takeovers");
        self
    }

    fn expect_told(self, name: &str, is_meant: impl Fn(&Notice) -> bool) -> Self {
        let notices = &self.world.procs[self.proc(name)].notices;
        assert!(notices.iter().any(|(_, it)| is_meant(it)), "{name} told {notices:?}");
        self
    }

    /// Everything heals, and all is well after.
    fn finish(mut self) {
        self.world.heal();
        self.world.foreign_leaves();
        converge(&mut self.world).expect("all is well in the end");
        keep_calm(&mut self.world, false).expect("and stays so");
    }

    fn kept_slow(mut self, slow: Nanos) {
        self.world.weather.slow = slow;
        check_converged(&self.world).expect("all is well, if slow");
    }

    /// `node-1` is the second process.
    fn proc(&self, name: &str) -> usize {
        let number = name.strip_prefix("node-").and_then(|it| it.parse().ok());
        number.filter(|it| *it < self.world.procs.len()).expect("a process of the story")
    }
}
