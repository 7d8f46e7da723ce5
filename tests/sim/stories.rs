//! One bad thing at a time: who holds the VIPs by when, and where clients send.
//!
//! The lease is the usual one: 15 s, trusted for 10 s by its holder, tried every 2 s.

#[path = "story.rs"]
pub mod story;

use edgevip::engine::Notice;
use edgevip::model::{NodeName, Refusal};

use crate::faults::Kind;
use crate::foreign::{FOR_GOOD, Foreign};
use crate::world::{Settings, World};
use story::{ms, secs, story, told};

#[test]
fn a_paused_leader_does_not_keep_the_vip() {
    story(2)
        .led_by("node-0")
        .pause("node-0", secs(60))
        .expect_silent("node-0", secs(10), secs(13))
        .expect_holder("node-1", secs(16))
        .expect_keeps("node-1", secs(60))
        .finish();
}

#[test]
fn a_leader_paused_for_less_than_its_trust_keeps_the_vip() {
    story(3).led_by("node-0").pause("node-0", secs(7)).expect_keeps("node-0", secs(30)).finish();
}

#[test]
fn a_killed_holder_is_followed_when_its_lease_runs_out() {
    story(2)
        .led_by("node-0")
        .crash("node-0", FOR_GOOD)
        .expect_silent("node-0", secs(10), secs(13))
        .expect_holder("node-1", secs(16))
        .expect_cut_at_most(secs(16))
        .finish();
}

#[test]
fn a_stop_hands_over_before_clients_notice() {
    story(3)
        .led_by("node-0")
        .stop("node-0")
        .expect_silent("node-0", ms(50), secs(3))
        .expect_cut_at_most(ms(20))
        .finish();
}

#[test]
fn a_suspended_holder_wakes_up_silent() {
    story(2)
        .led_by("node-0")
        .suspend("node-0", secs(60))
        .overlap_allowed(ms(20))
        .expect_holder("node-1", secs(16))
        .after(secs(60))
        .expect_keeps("node-1", secs(30))
        .finish();
}

#[test]
fn a_short_nap_costs_a_confirmation_and_no_more() {
    story(2)
        .led_by("node-0")
        .suspend("node-0", secs(4))
        .after(secs(4))
        .expect_holder("node-0", ms(100))
        .finish();
}

#[test]
fn an_api_server_that_is_gone_silences_and_elects_when_it_is_back() {
    story(1)
        .led_by("node-0")
        .inflict(Kind::ApiGone, "node-0", secs(60))
        .expect_silent("node-0", secs(10), secs(60))
        .expect_holder("node-0", secs(74))
        .finish();
}

#[test]
fn six_seconds_of_nothing_but_500s_are_no_matter() {
    story(3)
        .led_by("node-0")
        .act(|it| it.weather.errors = 1_000)
        .expect_keeps("node-0", secs(6))
        .act(|it| it.weather.errors = 0)
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn an_api_server_that_lies_costs_no_safety_and_not_the_vip_for_long() {
    story(3)
        .led_by("node-0")
        .act(|it| (it.weather.errors, it.weather.garbage, it.weather.stale) = (500, 300, 500))
        .after(secs(120))
        .act(|it| it.weather = Default::default())
        .expect_one_holder(secs(16))
        .finish();
}

#[test]
fn garbage_for_every_answer_silences_the_holder() {
    story(2)
        .led_by("node-0")
        .act(|it| it.weather.garbage = 1_000)
        .expect_silent("node-0", secs(10), secs(30))
        .act(|it| it.weather = Default::default())
        .expect_one_holder(secs(16))
        .finish();
}

#[test]
fn a_store_restored_to_an_older_renewal_is_no_matter() {
    story(3)
        .led_by("node-0")
        .after(secs(20))
        .act(|it| it.restore(5))
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn a_store_restored_to_an_earlier_holder_ends_with_one_holder() {
    story(2)
        .led_by("node-0")
        .stop("node-0")
        .expect_holder("node-1", secs(1))
        .start("node-0")
        .after(secs(6))
        .overlap_allowed(ms(50))
        .act(|it| it.restore(5))
        .expect_one_holder(secs(16))
        .finish();
}

#[test]
fn a_stop_right_after_a_restore_still_hands_over() {
    story(2)
        .led_by("node-0")
        .after(secs(10))
        .act(|it| it.restore(3))
        .stop("node-0")
        .expect_holder("node-1", secs(2))
        .finish();
}

#[test]
fn a_plug_that_wiggles_changes_nothing() {
    story(2)
        .led_by("node-0")
        .inflict(Kind::Unplug, "node-0", ms(60))
        .after(ms(70))
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn a_holder_without_carrier_hands_over_at_once_and_for_good() {
    story(2)
        .led_by("node-0")
        .inflict(Kind::Unplug, "node-0", secs(20))
        .expect_holder("node-1", ms(300))
        .expect_keeps("node-1", secs(60))
        .expect_cut_at_most(ms(300))
        .finish();
}

#[test]
fn a_link_that_goes_and_comes_again_under_another_number_is_followed() {
    story(1)
        .led_by("node-0")
        .inflict(Kind::LinkGone, "node-0", secs(5))
        .expect_silent("node-0", ms(10), secs(5))
        .expect_holder("node-0", secs(8))
        .finish();
}

#[test]
fn a_flushed_address_is_put_back_at_once() {
    story(3)
        .led_by("node-0")
        .inflict(Kind::FlushAddress, "node-0", 0)
        .expect_holder("node-0", ms(50))
        .expect_cut_at_most(ms(50))
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn a_flushed_ruleset_is_rebuilt_and_said() {
    story(3)
        .led_by("node-0")
        .inflict(Kind::FlushRules, "node-0", 0)
        .after(ms(200))
        .expect_told("node-0", |it| matches!(it, Notice::FenceRebuilt))
        .expect_cut_at_most(0)
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn an_address_of_somebody_elses_is_not_fenced() {
    let fenced = |it: &World| {
        let kernel = &it.hosts[0].kernel;
        it.vips.iter().any(|vip| kernel.ours.contains_key(vip) && !kernel.live.contains_key(vip))
    };
    let mut told = story(1).act(|it| {
        let vips = it.vips.clone();
        it.hosts[0].kernel.own.extend(vips.iter().map(|it| (it.0, 32)));
    });
    told = told.start("node-0").after(secs(5));
    told = told
        .expect_refusal(0, |it| matches!(it, Refusal::Kernel { why } if why.contains("another")));
    told = told.never(secs(30), fenced).stop("node-0");
    told.after(secs(3)).never(secs(30), |it| !it.hosts[0].kernel.ours.is_empty());
}

#[test]
fn a_fence_that_was_flushed_closes_again_when_the_right_ends() {
    story(2)
        .led_by("node-0")
        .inflict(Kind::FlushRules, "node-0", 0)
        .after(secs(1))
        .pause("node-0", secs(60))
        .expect_silent("node-0", secs(10), secs(60))
        .expect_holder("node-1", secs(16))
        .finish();
}

#[test]
fn an_api_server_that_takes_2_5_seconds_is_put_up_with() {
    story(3)
        .act(|it| it.weather.slow = ms(2_500))
        .start("node-0")
        .expect_holder("node-0", secs(12))
        .start("node-1")
        .start("node-2")
        .expect_keeps("node-0", secs(120))
        .finish();
}

#[test]
fn a_killed_holder_is_followed_through_a_slow_api_server() {
    story(2)
        .led_by("node-0")
        .act(|it| it.weather.slow = ms(2_500))
        .after(secs(20))
        .crash("node-0", FOR_GOOD)
        .expect_holder("node-1", secs(21))
        .finish();
}

/// Whoever goes serves on until its release is done, and a second longer: the next one's write may
/// be as slow.
#[test]
fn a_stop_through_a_slow_api_server_costs_one_slow_write() {
    story(2)
        .led_by("node-0")
        .act(|it| it.weather.slow = ms(2_500))
        .after(secs(20))
        .stop("node-0")
        .expect_holder("node-1", secs(11))
        .expect_cut_at_most(secs(3))
        .finish();
}

#[test]
fn a_slow_kernel_delays_nothing_but_itself() {
    story(3)
        .led_by("node-0")
        .act(|it| it.faults.kernel_tail = ms(450))
        .expect_keeps("node-0", secs(120))
        .stop("node-0")
        .expect_one_holder(secs(3))
        .finish();
}

#[test]
fn a_slow_kernel_still_silences_before_another_answers() {
    story(2)
        .led_by("node-0")
        .act(|it| it.faults.kernel_tail = ms(800))
        .after(secs(20))
        .cut_from_api("node-0", secs(60))
        .after(secs(10))
        .expect_silent("node-0", secs(1), secs(2))
        .expect_holder("node-1", secs(8))
        .after(secs(60))
        .expect_keeps("node-1", secs(10))
        .finish();
}

#[test]
fn a_strangers_claim_is_answered_and_said() {
    story(3)
        .led_by("node-0")
        .act(World::stranger_claims)
        .after(ms(200))
        .expect_told("node-0", |it| matches!(it, Notice::Conflict(..)))
        .expect_cut_at_most(ms(200))
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn a_stranger_that_stays_keeps_nobody_from_a_held_vip() {
    story(3)
        .led_by("node-0")
        .act(|it| it.stranger_until = it.now + secs(30))
        .act(World::stranger_claims)
        .after(secs(31))
        .expect_holder("node-0", secs(1))
        .finish();
}

#[test]
fn a_vip_that_a_stranger_has_is_claimed_by_nobody() {
    let begins = |it: &mut World| {
        it.stranger_until = secs(20);
        it.start_all();
    };
    story(2)
        .act(begins)
        .expect_silent("node-0", 0, secs(19))
        .expect_silent("node-1", 0, secs(19))
        .expect_one_holder(secs(60))
        .finish();
}

#[test]
fn of_two_processes_on_a_host_one_waits_and_then_takes_over() {
    story(2)
        .twin("node-0")
        .led_by("node-0")
        .expect_refusal(2, |it| matches!(it, Refusal::AnotherProcess))
        .expect_keeps("node-0", secs(30))
        .crash("node-0", FOR_GOOD)
        .after(ms(600))
        .expect_holder("node-0", ms(200))
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn of_two_hosts_with_one_name_one_leads_and_the_other_says_why_not() {
    story(2)
        .named("node-1", "node-0")
        .led_by("node-0")
        .after(secs(5))
        .expect_refusal(1, |it| matches!(it, Refusal::NameClash))
        .expect_keeps("node-0", secs(60))
        .crash("node-0", FOR_GOOD)
        .expect_holder("node-1", secs(16))
        .finish();
}

#[test]
fn a_foreign_holder_that_releases_is_followed_at_once() {
    story(2).led_by_foreign(secs(15)).foreign_stops(true).expect_one_holder(secs(1)).finish();
}

#[test]
fn a_foreign_holder_that_crashes_is_followed_after_its_own_duration() {
    story(1)
        .led_by_foreign(secs(30))
        .foreign_stops(false)
        .expect_silent("node-0", 0, secs(26))
        .expect_one_holder(secs(31))
        .finish();
}

#[test]
fn a_foreign_candidate_follows_a_stop_and_is_waited_for() {
    story(1)
        .led_by("node-0")
        .act(|it| it.joins(Foreign::new(NodeName("kube-vip-1".into()), secs(15))))
        .expect_keeps("node-0", secs(30))
        .stop("node-0")
        .expect_foreign(secs(4))
        .start("node-0")
        .expect_silent("node-0", 0, secs(30))
        .expect_foreign(secs(30))
        .foreign_stops(true)
        .expect_holder("node-0", secs(1))
        .finish();
}

#[test]
fn a_crashed_process_comes_back_to_its_leftovers_and_leads_on() {
    story(2)
        .led_by("node-0")
        .crash("node-0", secs(1))
        .expect_holder("node-0", ms(100))
        .after(ms(990))
        .after(ms(200))
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn one_killed_for_want_of_memory_again_and_again_still_serves() {
    let mut it = story(2).led_by("node-0");
    for _ in 0..10 {
        it = it.crash("node-0", ms(100)).after(secs(1)).expect_holder("node-0", ms(100));
    }
    it.finish();
}

#[test]
fn leftovers_of_a_node_that_lost_meanwhile_are_gone_before_it_follows() {
    story(2)
        .led_by("node-0")
        .crash("node-0", secs(14))
        .expect_silent("node-0", secs(10), secs(30))
        .expect_holder("node-1", secs(16))
        .finish();
}

#[test]
fn a_holder_that_only_the_lan_has_lost_is_back_with_the_lan() {
    story(2)
        .led_by("node-0")
        .cut_from_lan("node-0", secs(60))
        .after(secs(60))
        .expect_holder("node-0", secs(2))
        .expect_keeps("node-0", secs(30))
        .finish();
}

#[test]
fn a_holder_that_only_the_api_server_has_lost_goes_silent_first() {
    story(2)
        .led_by("node-0")
        .cut_from_api("node-0", secs(60))
        .expect_silent("node-0", secs(10), secs(80))
        .expect_holder("node-1", secs(16))
        .expect_keeps("node-1", secs(60))
        .finish();
}

#[test]
fn a_clock_step_changes_nothing() {
    story(3)
        .led_by("node-0")
        .inflict(Kind::ClockStep, "node-0", 0)
        .expect_keeps("node-0", secs(60))
        .finish();
}

#[test]
fn both_families_move_together() {
    let settings = Settings { two_families: true, ..Settings::stock() };
    told(2, settings)
        .led_by("node-0")
        .stop("node-0")
        .expect_holder("node-1", ms(100))
        .expect_cut_at_most(ms(30))
        .after(secs(3))
        .start("node-0")
        .after(secs(10))
        .crash("node-1", FOR_GOOD)
        .expect_silent("node-1", secs(10), secs(13))
        .expect_holder("node-0", secs(16))
        .finish();
}

#[test]
fn without_a_fence_a_paused_leader_loses_the_address_before_another_has_it() {
    told(2, unfenced())
        .led_by("node-0")
        .pause("node-0", secs(60))
        .expect_silent("node-0", secs(12), secs(14))
        .expect_holder("node-1", secs(16))
        .expect_keeps("node-1", secs(60))
        .finish();
}

#[test]
fn without_a_fence_a_stop_costs_a_moment() {
    told(2, unfenced())
        .led_by("node-0")
        .stop("node-0")
        .expect_holder("node-1", ms(300))
        .expect_cut_at_most(ms(300))
        .finish();
}

#[test]
fn without_a_fence_a_crashed_process_comes_back_to_its_leftovers() {
    told(2, unfenced())
        .led_by("node-0")
        .crash("node-0", secs(1))
        .after(ms(1_200))
        .expect_holder("node-0", ms(300))
        .finish();
}

#[test]
fn without_a_fence_and_the_api_server_the_address_goes_in_time() {
    told(2, unfenced())
        .led_by("node-0")
        .cut_from_api("node-0", secs(60))
        .after(secs(10))
        .expect_silent("node-0", secs(1), secs(80))
        .expect_holder("node-1", secs(6))
        .finish();
}

fn unfenced() -> Settings {
    Settings { fenced: false, ..Settings::stock() }
}
