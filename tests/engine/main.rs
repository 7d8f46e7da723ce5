//! One node, told what happens: each rule of the election and of holding an address, alone.

mod bench;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bench::{Bench, ME, OTHER, TestLease, Turn, VIP, ms, secs};
use edgevip::engine::{Action, Input, Notice, WantedVip};
use edgevip::model::{
    Address, ApiFault, ApiFaultKind, Frame, KernelAnswer, KernelJob, LeaseCall, LeaseReply, Link,
    LinkIndex, LinkName, NetworkChange, Refusal, Role, Vip, VipState, WatchEvent,
};

fn frames(jobs: &[KernelJob]) -> usize {
    jobs.iter().filter(|it| matches!(it, KernelJob::SendFrame { .. })).count()
}

#[test]
fn a_takeover_opens_the_fence_adds_the_address_and_announces_in_one_turn() {
    let mut bench = Bench::started();
    bench.reply(TestLease::free().version(3).found());
    let sent_at = bench.now;
    bench.advance(secs(1));
    let jobs = bench.reply(TestLease::mine(&bench).version(4).found()).jobs();
    let until = sent_at + secs(10);
    let [
        KernelJob::Listen { .. },
        KernelJob::Answer { until: fence, .. },
        KernelJob::HoldAddress { until: lifetime, .. },
        KernelJob::SendFrame { frame: Frame::Announce { .. }, .. },
        KernelJob::SendFrame { frame: Frame::AnnounceReply { .. }, until: frame, .. },
    ] = &jobs[..]
    else {
        panic!("{jobs:?}");
    };
    assert_eq!([*fence, *lifetime, *frame], [until; 3]);
}

/// Of what is listened for, the kernel is told what differs; all of it only where nobody knows
/// what it made of what it was told.
#[test]
fn one_vip_more_or_less_is_all_that_is_listened_for_anew() {
    let mut bench = Bench::leading();
    let other = Vip([10, 0, 0, 43].into());
    let wanting = |vips: &[Vip]| {
        let vips = vips.iter().map(|it| WantedVip::Address(*it)).collect();
        Input::Reload { vips, refresh: secs(3) }
    };
    let listens = |turn: &Turn| -> Vec<(Vec<Vip>, Vec<Vip>, bool)> {
        let jobs = turn.jobs().into_iter();
        jobs.filter_map(|it| match it {
            KernelJob::Listen { more, less, anew, .. } => Some((more, less, anew)),
            _ => None,
        })
        .collect()
    };
    let turn = bench.input(wanting(&[VIP, other]));
    assert_eq!(listens(&turn), [(vec![other], vec![], false)]);
    let turn = bench.input(wanting(&[VIP]));
    assert_eq!(listens(&turn), [(vec![], vec![other], false)]);
    let turn = bench.input_held_back(wanting(&[VIP, other]));
    assert_eq!(listens(&turn), [(vec![other], vec![], false)]);
    bench.answer_kernel_with(KernelAnswer::Failed("no".into()));
    let turn = bench.input(wanting(&[VIP]));
    assert_eq!(listens(&turn), [], "not before it is asked again");
    bench.advance(secs(1));
    let turn = bench.input(Input::Tick);
    assert_eq!(listens(&turn), [(vec![VIP], vec![], true)]);
    assert_eq!(listens(&bench.network()), []);
}

#[test]
fn the_burst_comes_at_its_offsets_and_then_the_refresh() {
    let mut bench = Bench::leading();
    let start = bench.now;
    let mut sent = Vec::new();
    while bench.now < start + secs(9) {
        let jobs = bench.tick_next().jobs();
        if jobs.iter().any(|it| matches!(it, KernelJob::SendFrame { .. })) {
            sent.push(bench.now.saturating_since(start).as_millis());
        }
        bench.renew_if_asked();
    }
    assert_eq!(sent, [20, 100, 1_100, 2_200, 5_200, 8_200]);
}

#[test]
fn a_stop_is_silent_first_then_releases_and_ends_when_another_is_heard() {
    let mut bench = Bench::leading();
    let turn = bench.input_held_back(Input::Stop);
    assert!(matches!(turn.jobs()[..], [KernelJob::Silence { .. }]), "{turn:?}");
    assert!(turn.lease_call().is_none(), "released before the kernel said that it is silent");
    let turn = bench.answer_kernel();
    let Some(LeaseCall::Write { holder: None, .. }) = turn.lease_call() else {
        panic!("{turn:?}");
    };
    bench.reply(TestLease::free().version(9).found());
    bench.advance(ms(300));
    assert!(!bench.input(Input::Tick).exits(), "ended before anybody took over");
    let turn = bench.hear_claim();
    assert!(matches!(turn.jobs()[0], KernelJob::RemoveAddress { .. }), "{turn:?}");
    assert!(turn.exits(), "{turn:?}");
}

#[test]
fn a_stop_ends_after_a_second_when_nobody_takes_over() {
    let mut bench = Bench::leading();
    bench.input(Input::Stop);
    bench.reply(TestLease::free().version(9).found());
    bench.advance(ms(999));
    assert!(!bench.input(Input::Tick).exits());
    bench.advance(ms(1));
    assert!(bench.input(Input::Tick).exits());
}

#[test]
fn a_stop_while_the_api_server_hangs_ends_all_the_same() {
    let mut bench = Bench::leading();
    bench.advance(secs(2));
    assert!(bench.input(Input::Tick).lease_call().is_some());
    bench.input(Input::Stop);
    bench.advance(ms(7_999));
    assert!(!bench.input(Input::Tick).exits(), "it may be what the next holder waits for");
    bench.advance(secs(1));
    assert!(bench.input(Input::Tick).exits());
}

#[test]
fn a_stop_waits_for_what_it_has_to_tell_but_not_for_long() {
    let mut bench = Bench::leading();
    bench.input(Input::Stop);
    bench.reply(TestLease::free().version(9).found());
    assert!(!bench.hear_claim().exits(), "the Event is not written yet");
    bench.now = bench.now + ms(1_500);
    assert!(bench.input(Input::Tick).exits());
}

#[test]
fn a_follower_that_is_stopped_ends_at_once() {
    let mut bench = Bench::started();
    bench.reply(TestLease::of(OTHER).found());
    assert!(bench.input(Input::Stop).exits());
}

#[test]
fn a_release_that_conflicts_is_read_and_tried_again() {
    let mut bench = Bench::leading();
    bench.input(Input::Stop);
    let turn = bench.reply(LeaseReply::Conflict);
    assert!(matches!(turn.lease_call(), Some(LeaseCall::Read)), "{turn:?}");
    let turn = bench.reply(TestLease::mine(&bench).version(7).found());
    let Some(LeaseCall::Write { holder: None, based_on: Some(lease), .. }) = turn.lease_call()
    else {
        panic!("{turn:?}");
    };
    assert_eq!(lease.version.0, "7");
}

#[test]
fn a_follower_waits_for_the_longer_of_its_own_and_the_records_duration() {
    for (recorded, waits) in [(secs(15), secs(15)), (secs(40), secs(40)), (secs(5), secs(15))] {
        let mut bench = Bench::started();
        bench.reply(TestLease::of(OTHER).duration(recorded).found());
        bench.watch_opens();
        bench.advance(waits - ms(1));
        assert!(bench.input(Input::Tick).lease_call().is_none(), "{recorded:?}");
        assert_eq!(bench.deadline(), bench.now + ms(1), "the instant itself, not a next look");
        bench.advance(ms(1));
        let turn = bench.input(Input::Tick);
        assert!(matches!(turn.lease_call(), Some(LeaseCall::Write { .. })), "{recorded:?}");
    }
}

#[test]
fn an_edit_beside_the_record_is_no_renewal() {
    let mut bench = Bench::started();
    bench.reply(TestLease::of(OTHER).version(1).found());
    bench.watch_opens();
    bench.advance(secs(14));
    bench.watch(TestLease::of(OTHER).version(2).seen());
    bench.advance(secs(1));
    let turn = bench.input(Input::Tick);
    let Some(LeaseCall::Write { based_on: Some(lease), transitions: 4, .. }) = turn.lease_call()
    else {
        panic!("{turn:?}");
    };
    assert_eq!(lease.version.0, "2");
}

#[test]
fn a_renewal_seen_by_watch_starts_the_wait_anew() {
    let mut bench = Bench::started();
    bench.reply(TestLease::of(OTHER).version(1).found());
    bench.watch_opens();
    bench.advance(secs(14));
    bench.watch(TestLease::of(OTHER).renewed("later").version(2).seen());
    bench.advance(secs(14));
    assert!(bench.input(Input::Tick).lease_call().is_none());
}

#[test]
fn a_release_seen_by_watch_is_claimed_in_the_same_turn() {
    let mut bench = Bench::started();
    bench.reply(TestLease::of(OTHER).version(1).found());
    bench.watch_opens();
    bench.advance(ms(10));
    let turn = bench.watch(TestLease::free().version(2).seen());
    assert!(matches!(turn.lease_call(), Some(LeaseCall::Write { .. })), "{turn:?}");
}

#[test]
fn another_holder_seen_by_watch_ends_the_role_in_that_call() {
    let mut bench = Bench::leading();
    let turn = bench.watch(TestLease::of(OTHER).version(90).seen());
    assert!(matches!(turn.jobs()[0], KernelJob::Silence { .. }), "{turn:?}");
    assert_eq!(bench.status().role, Role::Follower);
}

#[test]
fn an_old_record_from_a_lagging_watch_does_not_end_the_role() {
    let mut bench = Bench::leading();
    bench.watch(TestLease::of(OTHER).version(1).seen());
    assert_eq!(bench.status().role, Role::Leader);
}

#[test]
fn a_record_of_an_earlier_process_of_this_host_is_taken_over_at_once() {
    let mut bench = Bench::started();
    let turn = bench.reply(TestLease::of(ME).author(bench::MY_HOST, 99).found());
    assert!(matches!(turn.lease_call(), Some(LeaseCall::Write { transitions: 3, .. })), "{turn:?}");
}

#[test]
fn a_record_under_our_name_that_we_did_not_write_is_waited_for() {
    let mut bench = Bench::started();
    let turn = bench.reply(TestLease::of(ME).found());
    assert!(turn.lease_call().is_none(), "{turn:?}");
    bench.watch_opens();
    bench.advance(secs(1));
    bench.watch(TestLease::of(ME).renewed("by a double").version(9).seen());
    assert_eq!(bench.status().vips[0].refusal, Some(Refusal::NameClash));
}

#[test]
fn a_leader_whose_name_another_host_writes_steps_down_and_says_so() {
    let mut bench = Bench::leading();
    bench.watch(TestLease::of(ME).author(7, 7).version(90).seen());
    assert_eq!(bench.status().role, Role::Follower);
    assert_eq!(bench.status().vips[0].refusal, Some(Refusal::NameClash));
}

#[test]
fn a_reply_to_an_earlier_request_says_nothing() {
    let mut bench = Bench::started();
    bench.reply(TestLease::free().found());
    let claim = bench.asked().expect("a claim is under way");
    bench.advance(secs(10));
    bench.input(Input::Tick);
    assert_ne!(bench.asked(), Some(claim), "given up and asked anew");
    let reply = TestLease::mine(&bench).found();
    bench.input(Input::Lease { request: claim, reply });
    assert_eq!(bench.status().role, Role::Follower);
}

#[test]
fn an_api_server_that_takes_two_and_a_half_seconds_still_elects() {
    let mut bench = Bench::started();
    bench.advance(ms(2_500));
    bench.reply(TestLease::free().found());
    bench.advance(ms(2_500));
    bench.reply(TestLease::mine(&bench).found());
    assert_eq!(bench.status().role, Role::Leader);
    assert_eq!(bench.status().until_ms, Some(7_500));
}

#[test]
fn a_leader_without_answers_is_silent_when_its_time_is_over() {
    let mut bench = Bench::leading();
    while bench.status().role == Role::Leader {
        assert!(bench.tick_next().lease_call().is_none_or(|it| it != LeaseCall::Read));
    }
    assert_eq!(bench.now, bench.led_since + secs(10));
    assert_eq!(bench.status().vips[0].state, VipState::Absent);
}

#[test]
fn a_refused_leader_tries_again_within_its_time() {
    let mut bench = Bench::leading();
    bench.advance(secs(2));
    bench.input(Input::Tick);
    let kind = ApiFaultKind::Refused;
    bench.reply(LeaseReply::Failed(ApiFault { kind, why: "500".into(), retry_after: None }));
    while bench.asked().is_none() {
        bench.tick_next();
    }
    assert!(bench.now < bench.led_since + secs(4));
}

#[test]
fn retry_after_is_honoured() {
    let mut bench = Bench::started();
    let retry_after = Some(secs(7));
    let kind = ApiFaultKind::Refused;
    bench.reply(LeaseReply::Failed(ApiFault { kind, why: "429".into(), retry_after }));
    bench.advance(ms(6_999));
    assert!(bench.input(Input::Tick).lease_call().is_none());
    bench.advance(ms(1));
    assert!(bench.input(Input::Tick).lease_call().is_some());
}

#[test]
fn an_api_server_that_says_conflict_for_ever_is_not_hammered() {
    let mut bench = Bench::started();
    bench.reply(TestLease::free().found());
    let mut asked = 0;
    let end = bench.now + secs(10);
    while bench.now < end {
        let reply = match bench.lease_call() {
            Some(LeaseCall::Read) => TestLease::free().found(),
            Some(LeaseCall::Found { .. } | LeaseCall::Write { .. }) => LeaseReply::Conflict,
            None => {
                bench.tick_next();
                continue;
            }
        };
        asked += 1;
        bench.reply(reply);
    }
    assert!(asked <= 25, "{asked} requests in ten seconds");
}

#[test]
fn the_first_claim_of_all_asks_the_link_and_a_takeover_does_not() {
    let mut bench = Bench::started();
    bench.reply(LeaseReply::NotFound);
    let turn = bench.reply(TestLease::mine(&bench).found());
    assert!(
        matches!(
            turn.jobs()[..],
            [KernelJob::Listen { .. }, KernelJob::SendFrame { frame: Frame::Probe { .. }, .. }]
        ),
        "{turn:?}"
    );
    let start = bench.now;
    while bench.status().vips[0].state != VipState::Answering {
        bench.tick_next();
    }
    assert_eq!(bench.now.saturating_since(start), ms(100));
}

#[test]
fn what_the_kernel_has_not_asked_yet_is_not_taken_for_free() {
    let mut bench = Bench::started();
    bench.reply(LeaseReply::NotFound);
    bench.reply(TestLease::mine(&bench).found());
    bench.advance(ms(20));
    bench.input_held_back(Input::Tick);
    bench.advance(ms(900));
    assert!(bench.input_held_back(Input::Tick).jobs().is_empty(), "the last one is not out");
    assert_eq!(bench.status().vips[0].refusal, Some(Refusal::Probing));
    let start = bench.now;
    bench.answer_kernel();
    while bench.status().vips[0].state != VipState::Answering {
        bench.tick_next();
        bench.renew_if_asked();
    }
    assert_eq!(bench.now.saturating_since(start), ms(80));
}

#[test]
fn a_first_claim_that_is_answered_is_refused_and_names_the_mac() {
    let mut bench = Bench::started();
    bench.reply(LeaseReply::NotFound);
    bench.reply(TestLease::mine(&bench).found());
    bench.hear_claim();
    let status = bench.status();
    assert!(matches!(status.vips[0].refusal, Some(Refusal::Conflict { .. })), "{status:?}");
    assert_eq!(status.vips[0].state, VipState::Absent);
}

#[test]
fn a_claim_by_a_stranger_silences_until_leadership_is_confirmed_and_is_then_answered() {
    let mut bench = Bench::leading();
    bench.advance(secs(1));
    let turn = bench.hear_claim();
    assert!(matches!(turn.jobs()[..], [KernelJob::Silence { .. }]), "{turn:?}");
    assert_eq!(bench.status().vips[0].refusal, Some(Refusal::Unconfirmed));
    let turn = bench.reply(TestLease::mine(&bench).version(50).found());
    assert!(matches!(turn.jobs()[0], KernelJob::Answer { .. }), "{turn:?}");
    assert!(turn.jobs().iter().any(|it| matches!(it, KernelJob::SendFrame { .. })), "{turn:?}");
    bench.advance(ms(10));
    assert!(bench.hear_claim().jobs().is_empty(), "at most one confirmation a second");
    assert_eq!(bench.status().conflicts, 2);
}

#[test]
fn a_suspend_silences_until_a_request_sent_after_it_is_answered() {
    let mut bench = Bench::leading();
    bench.advance(secs(2));
    bench.input(Input::Tick);
    bench.advance(ms(100));
    let turn = bench.input(Input::Suspended);
    assert!(matches!(turn.jobs()[..], [KernelJob::Silence { .. }]), "{turn:?}");
    let turn = bench.reply(TestLease::mine(&bench).version(50).found());
    assert!(turn.jobs().is_empty(), "that request was sent before: {turn:?}");
    let turn = bench.reply(TestLease::mine(&bench).version(51).found());
    assert!(matches!(turn.jobs()[0], KernelJob::Answer { .. }), "{turn:?}");
}

#[test]
fn an_address_that_somebody_else_removed_is_put_back_and_announced_in_the_same_turn() {
    let mut bench = Bench::leading();
    while bench.now < bench.led_since + secs(4) {
        bench.tick_next();
    }
    let ip = VIP.0;
    let gone = Address { link: LinkIndex(2), ip, length: 32, ours: true };
    let turn = bench.input(Input::Network(NetworkChange::AddressGone(gone)));
    let jobs = turn.jobs();
    assert!(matches!(jobs[0], KernelJob::HoldAddress { .. }), "{turn:?}");
    assert_eq!(frames(&jobs), 2, "neighbours that know it are told once, in both ways: {turn:?}");
    assert_eq!(bench.status().readded, 1);
    let back = bench.now;
    while bench.deadline() < back + secs(3) {
        let jobs = bench.tick_next().jobs();
        assert_eq!(frames(&jobs), 0, "{jobs:?}");
        bench.renew_if_asked();
    }
}

#[test]
fn an_address_that_is_put_back_while_its_burst_goes_on_gets_the_rest_of_it() {
    let mut bench = Bench::leading();
    let gone = Address { link: LinkIndex(2), ip: VIP.0, length: 32, ours: true };
    let gone = Input::Network(NetworkChange::AddressGone(gone));
    let (mut sent, start) = (frames(&bench.input(gone).jobs()), bench.now);
    while bench.deadline() < start + secs(3) {
        sent += frames(&bench.tick_next().jobs());
        bench.renew_if_asked();
    }
    assert_eq!(sent, 4 * 2, "the first of five was sent before");
}

#[test]
fn an_address_that_goes_before_its_link_is_not_said_to_be_back() {
    let mut bench = Bench::leading();
    let gone = Address { link: LinkIndex(2), ip: VIP.0, length: 32, ours: true };
    let mut told =
        bench.input_held_back(Input::Network(NetworkChange::AddressGone(gone))).notices();
    told.extend(bench.answer_kernel_with(KernelAnswer::NoLink).notices());
    assert_eq!(bench.status().vips[0].why.as_deref(), Some("there is no link eth0"));
    told.extend(bench.input(Input::Network(NetworkChange::LinkGone(LinkIndex(2)))).notices());
    let refusal = Refusal::NoLink { link: Some(LinkName("eth0".into())) };
    assert_eq!(told, [Notice::Released(VIP), Notice::Refused(VIP, refusal)]);
}

#[test]
fn a_carrier_that_is_gone_for_100_ms_hands_over_and_one_that_is_back_sooner_bursts() {
    let mut bench = Bench::leading();
    bench.advance(secs(4));
    bench.input(Input::Tick);
    bench.renew_if_asked();
    bench.input(Input::Network(NetworkChange::Link(Link { carrier: false, ..bench::eth0() })));
    bench.advance(ms(99));
    let turn = bench.input(Input::Network(NetworkChange::Link(bench::eth0())));
    assert!(turn.jobs().iter().any(|it| matches!(it, KernelJob::SendFrame { .. })), "{turn:?}");
    bench.input(Input::Network(NetworkChange::Link(Link { carrier: false, ..bench::eth0() })));
    bench.advance(ms(100));
    let turn = bench.input(Input::Tick);
    assert!(matches!(turn.jobs()[..], [KernelJob::Silence { .. }]), "{turn:?}");
    let status = bench.status();
    assert!(matches!(status.vips[0].refusal, Some(Refusal::NoCarrier { .. })), "{status:?}");
    assert!(matches!(bench.lease_call(), Some(LeaseCall::Write { holder: None, .. })));
}

#[test]
fn an_address_is_extended_before_its_whole_seconds_are_over() {
    let mut bench = Bench::leading();
    let mut ends_at = bench.now + secs(10);
    while bench.now < bench.led_since + secs(60) {
        let jobs = bench.tick_next().jobs();
        assert!(bench.now < ends_at, "{:?}", bench.now);
        for job in jobs.into_iter().chain(bench.renew_if_asked().jobs()) {
            if let KernelJob::HoldAddress { until, .. } = job {
                ends_at = bench.now + secs(until.saturating_since(bench.now).as_secs());
            }
        }
    }
    assert_eq!(bench.status().readded, 0);
}

#[test]
fn of_many_vips_each_is_extended_in_time_and_no_renewal_is_about_all_of_them() {
    let vip = |it: u16| Vip(Ipv4Addr::from(0x0a01_0000 + u32::from(it)).into());
    let vips: Vec<_> = (0..1_000).map(vip).collect();
    let mut bench = Bench::with_vips(&vips).into_leading();
    // Not all of them have begun.
    while bench.deadline() <= bench.now {
        bench.tick_next();
    }
    let (mut addresses, mut fence) = (BTreeMap::new(), BTreeMap::new());
    for vip in &vips {
        addresses.insert(*vip, bench.now + secs(9));
        fence.insert(*vip, bench.now + secs(10));
    }
    while bench.now < bench.led_since + secs(60) {
        let ticks = bench.tick_next().jobs();
        let ends = addresses.values().chain(fence.values()).min();
        assert!(ends.is_some_and(|it| bench.now < *it), "{:?} {ends:?}", bench.now);
        let renewed = bench.renew_if_asked().jobs();
        for jobs in [ticks, renewed] {
            let mut extended = 0;
            for job in jobs {
                match job {
                    KernelJob::HoldAddress { vip, until, .. } => {
                        let seconds = until.saturating_since(bench.now).as_secs();
                        addresses.insert(vip, bench.now + secs(seconds));
                        extended += 1;
                    }
                    KernelJob::Answer { vips, until } => {
                        fence.extend(vips.into_iter().map(|it| (it, until)));
                    }
                    _ => {}
                }
            }
            assert!(extended <= 256, "{extended} in one turn");
        }
    }
    assert_eq!(bench.status().readded, 0);
}

#[test]
fn what_begins_waits_for_the_kernel_and_what_is_held_does_not_wait_for_it() {
    let vip = |it: u32| Vip(Ipv4Addr::from(0x0a01_0000 + it).into());
    let held = |jobs: &[KernelJob]| -> Vec<Vip> {
        let held = jobs.iter().filter_map(|it| match it {
            KernelJob::HoldAddress { vip, .. } => Some(*vip),
            _ => None,
        });
        held.collect()
    };
    let wanted: Vec<_> = (0..5_000).map(vip).collect();
    let mut bench = Bench::with_vips(&wanted[..100]).into_leading();
    let all = wanted.iter().map(|it| WantedVip::Address(*it)).collect();
    let turn = bench.input_held_back(Input::Reload { vips: all, refresh: secs(3) });
    assert_eq!(held(&turn.jobs()).len(), 512);
    assert!(bench.input_held_back(Input::Tick).jobs().is_empty());
    let gone = Address { link: LinkIndex(2), ip: wanted[7].0, length: 32, ours: true };
    let gone = Input::Network(NetworkChange::AddressGone(gone));
    assert_eq!(held(&bench.input_held_back(gone).jobs()), [wanted[7]], "it is put back at once");
    let (mut held_so_far, mut most) = (100, 0);
    while held_so_far < wanted.len() {
        bench.now = bench.deadline().max(bench.now);
        let mut jobs = bench.input_held_back(Input::Tick).jobs();
        jobs.extend(bench.answer_kernel().jobs());
        most = held(&jobs).len().max(most);
        held_so_far += held(&jobs).iter().filter(|it| !wanted[..100].contains(it)).count();
        assert!(bench.now < bench.led_since + secs(5), "{held_so_far} after {:?}", bench.now);
    }
    assert!(most <= 2 * 512, "{most} at once");
}

#[test]
fn the_more_vips_there_are_the_less_often_each_is_announced() {
    let vip = |it: u32| Vip(Ipv4Addr::from(0x0a01_0000 + it).into());
    // What is configured are 3 s, which is what 1 500 of them share at most.
    for (count, expected) in [(1_000, 20_000), (3_000, 30_000)] {
        let vips: Vec<_> = (0..count).map(vip).collect();
        let mut bench = Bench::with_vips(&vips).into_leading();
        let (mut sent, start) = (0, bench.now + secs(12));
        while bench.deadline() < start + secs(30) {
            let jobs = bench.tick_next().jobs();
            sent += if bench.now < start { 0 } else { frames(&jobs) };
            bench.renew_if_asked();
        }
        assert!(sent.abs_diff(expected) * 20 <= expected, "{count} VIPs: {sent} frames in 30 s");
    }
}

#[test]
fn a_lease_whose_renewals_stall_keeps_its_address_while_it_is_entitled() {
    let mut bench = Bench::leading();
    let start = bench.now;
    while bench.now < start + secs(4) {
        bench.tick_next();
        bench.renew_if_asked();
    }
    let until = bench.now + secs(10);
    let mut ends_at = start + secs(10);
    while bench.status().role == Role::Leader {
        for job in bench.tick_next().jobs() {
            if let KernelJob::HoldAddress { until, .. } = job {
                ends_at = bench.now + secs(until.saturating_since(bench.now).as_secs());
            }
        }
    }
    assert!(ends_at + secs(1) + ms(1) >= until, "{ends_at:?} {until:?}");
}

#[test]
fn a_short_prefix_is_used_only_beside_an_address_of_the_nodes_own() {
    let mut bench = Bench::with_length(24).into_leading();
    assert_eq!(bench.status().vips[0].length, 24);
    let own = bench::own_address();
    let turn = bench.input(Input::Network(NetworkChange::AddressGone(own)));
    let [
        KernelJob::RemoveAddress { length: 24, .. },
        KernelJob::HoldAddress { length: 32, .. },
        KernelJob::SendFrame { .. },
        ..,
    ] = &turn.jobs()[..]
    else {
        panic!("{turn:?}");
    };
}

#[test]
fn a_flushed_ruleset_is_looked_at_and_the_fence_opened_again() {
    let mut bench = Bench::leading();
    let turn = bench.input_held_back(Input::RulesetChanged);
    assert_eq!(turn.jobs(), [KernelJob::VerifyFence]);
    let turn = bench.answer_kernel_with_rebuilt_fence();
    assert!(matches!(turn.jobs()[0], KernelJob::Answer { .. }), "{turn:?}");
    assert!(turn.0.contains(&Action::Tell(Notice::FenceRebuilt)), "{turn:?}");
}

#[test]
fn a_process_that_does_not_have_the_lock_does_not_campaign() {
    let mut bench = Bench::new();
    bench.input(Input::Lock { held: false });
    bench.advance(secs(60));
    assert!(bench.input(Input::Tick).0.is_empty());
    assert_eq!(bench.status().vips[0].refusal, Some(Refusal::AnotherProcess));
}

#[test]
fn leftovers_are_gone_before_the_first_request() {
    let mut bench = Bench::new();
    bench.network();
    let turn = bench.input_held_back(Input::Lock { held: true });
    assert!(matches!(turn.jobs()[..], [KernelJob::Clean { .. }]), "{turn:?}");
    assert!(turn.lease_call().is_none(), "{turn:?}");
    assert_eq!(bench.status().vips[0].refusal, Some(Refusal::Cleaning));
    assert!(matches!(bench.answer_kernel().lease_call(), Some(LeaseCall::Read)));
}

#[test]
fn a_vip_that_is_no_longer_wanted_is_removed_and_its_end_is_told() {
    let mut bench = Bench::leading();
    let turn = bench.input(Input::Reload { vips: Vec::new(), refresh: secs(3) });
    assert!(turn.jobs().iter().any(|it| matches!(it, KernelJob::RemoveAddress { .. })), "{turn:?}");
    assert!(turn.0.contains(&Action::Tell(Notice::Released(VIP))), "{turn:?}");
}

#[test]
fn a_tick_too_many_does_nothing() {
    let mut bench = Bench::leading();
    for _ in 0..3 {
        assert_eq!(bench.input(Input::Tick).0, []);
    }
}

#[test]
fn without_a_fence_the_address_is_removed_before_the_release() {
    let mut bench = Bench::unfenced().into_leading();
    let turn = bench.input_held_back(Input::Stop);
    assert!(matches!(turn.jobs()[..], [KernelJob::RemoveAddress { .. }]), "{turn:?}");
    assert!(turn.lease_call().is_none());
    let turn = bench.answer_kernel();
    assert!(matches!(turn.lease_call(), Some(LeaseCall::Write { holder: None, .. })), "{turn:?}");
}

#[test]
fn a_watch_resumes_where_it_was_and_starts_anew_when_that_is_forgotten() {
    let mut bench = Bench::started();
    bench.reply(TestLease::of(OTHER).version(5).found());
    assert_eq!(bench.watch_from(), Some(Some(5)));
    bench.watch_opens();
    bench.watch(TestLease::of(OTHER).version(8).seen());
    bench.watch_ends();
    assert_eq!(bench.next_watch_from(), Some(8));
    bench.watch(WatchEvent::Expired);
    assert_eq!(bench.next_watch_from(), None);
}
