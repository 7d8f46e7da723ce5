//! Stories of a quorum with an API server beside: what it is told, and whom it names.

use std::collections::BTreeSet;
use std::time::Duration;

use edgevip::engine::Rng;
use edgevip::model::MemberRole::Voter;
use edgevip::model::{LeaseRecord, NodeName};

use crate::book::name_of;
use crate::cluster::{Beside, Quorum};
use crate::host::{MS, Nanos, SEC};
use crate::run::check_converged;
use crate::stories_quorum::{Tale, stock, tale};
use crate::world::{Event, Log, Settings, World};

fn beside(api: Beside) -> Quorum {
    Quorum { api, ..stock(&[Voter; 3], 1) }
}

/// The Lease names who holds.
fn is_recorded(world: &World) -> bool {
    let holder = (0..world.hosts.len()).find(|it| world.answers(*it, world.vips[0]));
    holder.is_some_and(|it| world.api.holder() == Some(&name_of(it)))
}

#[test]
fn the_lease_says_who_holds_and_decides_nothing() {
    let mut tale = tale(beside(Beside::Record), 0, true);
    tale.until(SEC, "the holder is recorded", is_recorded);
    let holder = tale.holder(0);
    tale.crash(holder);
    tale.expect_all_held(150 * MS);
    tale.until(SEC, "the next holder is recorded", is_recorded);
    // For hours nobody answers, and then it is all as before.
    tale.world.weather.gone_until = tale.world.now + 600 * SEC;
    tale.measured();
    tale.run(600 * SEC).expect_cut_at_most(0);
    let writes = tale.world.api.writes;
    tale.until(80 * SEC, "the record goes on", move |it| it.api.writes > writes);
    // A planned move loses nothing while the API server does not answer.
    tale.world.start(holder);
    tale.run(2 * SEC);
    tale.world.weather.gone_until = tale.world.now + 60 * SEC;
    let holder = tale.holder(0);
    tale.measured().stop(holder);
    tale.expect_moves_from(0, holder, SEC);
    tale.run(5 * SEC).expect_cut_at_most(MS);
    tale.finish();
}

#[test]
fn a_steady_holder_writes_three_times_in_a_lease() {
    let mut tale = tale(beside(Beside::Record), 0, true);
    let (writes, calls) = (tale.world.api.writes, tale.world.calls);
    tale.run(150 * SEC);
    let written = tale.world.api.writes - writes;
    assert!((28..=31).contains(&written), "{written} writes in 150 s");
    assert!(tale.world.calls - calls <= 31, "only the holder asks");
    tale.finish();
}

#[test]
fn who_elects_by_the_lease_is_left_alone() {
    let mut tale = tale(beside(Beside::Record), 0, true);
    let holder = tale.holder(0);
    for count in 0..20 {
        tale.world.api.put(LeaseRecord {
            holder: Some(NodeName("kube-vip-1".into())),
            duration: Duration::from_secs(15),
            transitions: 7,
            acquired: None,
            renewed: Some(format!("renewal {count}")),
            author: None,
            quorum: None,
        });
        let writes = tale.world.api.writes;
        tale.run(5 * SEC);
        // Its write meets the other's once at most.
        assert_eq!(tale.world.api.writes, writes, "the other is written over");
        assert_eq!(tale.holder(0), holder);
    }
    let status =
        tale.world.procs[holder].node.as_ref().map(|it| it.status(tale.world.local(holder)));
    let record = status.and_then(|it| it.quorum).and_then(|it| it.record).unwrap_or_default();
    assert!(record.contains("is renewed by kube-vip-1"), "{record}");
    tale.until(32 * SEC, "it renews no more", is_recorded);
    tale.finish();
}

/// All Nodes are voters of one quorum, and nobody else is a member.
fn are_members(world: &World) -> bool {
    let cluster = world.quorum().expect("a quorum");
    let Some(leader) = world.leader().filter(|it| world.procs[*it].runs()) else { return false };
    let node = world.procs[leader].node.as_ref().expect("it runs");
    let status = node.status(world.local(leader)).quorum.expect("a quorum");
    let voters: BTreeSet<_> =
        status.members.iter().filter(|it| it.role == Voter).map(|it| it.name.clone()).collect();
    let wanted: BTreeSet<_> = cluster.nodes.iter().map(|it| name_of(*it)).collect();
    let known = cluster.nodes.iter().all(|it| {
        let entry = cluster.record(*it).and_then(|it| it.entry);
        entry.is_some_and(|it| Some(it.cluster) == status.cluster)
    });
    status.committed && voters == wanted && status.members.len() == wanted.len() && known
}

/// Members by Nodes, with one host that is no Node yet.
fn by_nodes() -> Tale {
    let mut tale = begun(1, 1);
    tale.until(30 * SEC, "all Nodes are members", are_members);
    tale.run(10 * SEC).measured();
    tale
}

/// At the very beginning.
fn begun(seed: u64, spare: usize) -> Tale {
    let settings =
        Settings { quorum: Some(beside(Beside::Nodes)), fenced: true, ..Settings::stock() };
    let hosts = 3 + spare;
    let rates: Vec<_> = (0..hosts as u64).map(|it| 999_900 + 100 * it).collect();
    let log = if spare > 0 { Log::Print } else { Log::None };
    let mut world = World::new(settings, &rates, Rng::from_seed(seed)).with_log(log);
    world.cluster.as_mut().expect("a quorum").nodes.truncate(3);
    world.start_listed();
    Tale { world }
}

fn nodes(tale: &mut Tale) -> &mut Vec<usize> {
    &mut tale.world.cluster.as_mut().expect("a quorum").nodes
}

#[test]
fn a_node_that_comes_is_a_voter_and_one_that_goes_is_no_member() {
    let mut tale = by_nodes();
    nodes(&mut tale).push(3);
    tale.until(30 * SEC, "the fourth is a voter", are_members);
    let holder = tale.holder(0);
    nodes(&mut tale).retain(|it| *it != holder);
    tale.until(40 * SEC, "the holder is no member", are_members);
    tale.expect_moves_from(0, holder, SEC);
    tale.run(5 * SEC).expect_cut_at_most(MS);
    let leader = tale.leader();
    nodes(&mut tale).retain(|it| *it != leader);
    tale.until(40 * SEC, "the leader is no member", are_members);
    tale.run(SEC).expect_cut_at_most(150 * MS);
    *nodes(&mut tale) = (0..4).collect();
    tale.until(60 * SEC, "all are members again", are_members);
    tale.finish();
}

#[test]
fn without_the_api_server_or_any_node_nothing_changes() {
    let mut tale = by_nodes();
    tale.world.weather.gone_until = tale.world.now + 150 * SEC;
    nodes(&mut tale).clear();
    tale.run(200 * SEC).expect_cut_at_most(0);
    let voters = tale.world.quorum().and_then(|it| it.book.newest()).map(|it| it.voters().count());
    assert_eq!(voters, Some(3));
    *nodes(&mut tale) = (0..4).collect();
    tale.until(60 * SEC, "the fourth is a voter", are_members);
    tale.finish();
}

#[test]
fn who_has_lost_its_store_is_brought_up_to_date_and_does_not_found() {
    let mut tale = by_nodes();
    for host in 0..3 {
        let foundation = foundation(&tale.world);
        tale.world.kill(host);
        tale.world.lose_store(host);
        tale.run(SEC).start(host);
        tale.until(30 * SEC, "it belongs again", are_members);
        assert_eq!(foundation, self::foundation(&tale.world));
        tale.run(10 * SEC);
    }
    tale.run(5 * SEC).expect_cut_at_most(150 * MS);
    tale.finish();
}

#[test]
fn an_annotation_that_somebody_deleted_is_written_again() {
    let mut tale = by_nodes();
    let before = foundation(&tale.world).expect("it is founded");
    tale.world.kill(1);
    tale.world.lose_store(1);
    tale.world.api.delete();
    tale.run(SEC).start(1);
    tale.until(30 * SEC, "it stands there again", |it| foundation(it).is_some());
    tale.until(30 * SEC, "it belongs again", are_members);
    assert_eq!(foundation(&tale.world), Some(before));
    tale.finish();
}

/// The quorum that stands beside the Lease, and whether it is founded.
fn foundation(world: &World) -> Option<(u64, bool)> {
    world.api.lease()?.foundation.as_ref().map(|it| (it.quorum, it.done))
}

/// The founder dies at every moment of the founding, with its store or without.
#[test]
fn whenever_the_founder_dies_one_quorum_is_founded() {
    let mut stuck = 0;
    for at in (0..3_900).step_by(260) {
        for lost in [false, true] {
            stuck += u32::from(founder_dies(at * MS, lost));
        }
    }
    // Where two others have not had time to vote, an operator decides: two and a half seconds.
    assert!((1..=6).contains(&stuck), "{stuck} wait for an operator");
}

/// Whether an operator has to help.
fn founder_dies(at: Nanos, lost: bool) -> bool {
    let what = format!("{} ms, lost: {lost}", at / MS);
    let mut tale = begun(7 + at, 0);
    tale.run(at);
    let founder = tale.world.api.lease().and_then(|it| it.foundation.as_ref());
    let founder = founder.map_or(0, |it| crate::book::host_of(&it.founder));
    tale.world.kill(founder);
    if lost {
        tale.world.lose_store(founder);
    }
    tale.run(SEC).start(founder);
    tale.run(40 * SEC);
    let cluster = tale.world.quorum().expect("a quorum");
    let known: BTreeSet<_> =
        (0..3).filter_map(|it| cluster.record(it)?.entry.map(|it| it.cluster)).collect();
    assert!(known.len() <= 1, "{what}: {known:x?}");
    // One of two voters at most has a store: it is founded, and no majority is left.
    let voters = cluster.book.newest().map_or(0, |it| it.voters().count());
    let founded = foundation(&tale.world).is_some_and(|it| it.1);
    if lost && founded && voters < 3 {
        assert!(tale.holders(0).is_empty(), "{what}: {}", tale.scene());
        return true;
    }
    assert!(are_members(&tale.world), "{what}: {}", tale.scene());
    check_converged(&tale.world).unwrap_or_else(|why| panic!("{what}: {why}"));
    false
}

/// Where the oldest Node never runs, somebody else founds; where two are late, they join.
#[test]
fn a_node_without_a_daemon_keeps_nobody_from_founding() {
    let mut tale = begun(3, 1);
    tale.world.kill(0);
    for proc in [1, 2] {
        tale.world.schedule(proc as u64 * SEC, Event::Start { proc });
    }
    tale.run(MS);
    tale.world.kill(0);
    tale.until(60 * SEC, "somebody answers", |it| (1..3).any(|host| it.answers(host, it.vips[0])));
    tale.world.schedule(10 * SEC, Event::Start { proc: 0 });
    tale.until(60 * SEC, "all are members in the end", are_members);
    tale.finish();
}
