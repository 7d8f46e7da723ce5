//! Members that nobody has listed, and that find each other on the link.

use std::collections::BTreeSet;

use edgevip::engine::Rng;
use edgevip::model::MemberRole::{Learner, Voter};

use super::{Tale, stock};
use crate::book::name_of;
use crate::cluster::Quorum;
use crate::host::{MS, SEC};
use crate::world::{Event, Log, Settings, World};

/// So many hosts that find each other; none runs yet.
fn strangers(hosts: usize, voters: u8) -> Tale {
    let log = Log::Print;
    Tale { world: world(hosts, voters, crate::number("STORY_SEED").unwrap_or(1)).with_log(log) }
}

fn world(hosts: usize, voters: u8, seed: u64) -> World {
    let quorum = Quorum { discover: Some(voters), ..stock(&vec![Voter; hosts], 1) };
    let settings = Settings { quorum: Some(quorum), ..Settings::stock() };
    let rates: Vec<_> = (0..hosts as u64).map(|it| 999_900 + 100 * it).collect();
    World::new(settings, &rates, Rng::from_seed(seed))
}

impl Tale {
    fn start_these(&mut self, hosts: impl IntoIterator<Item = usize>) -> &mut Self {
        hosts.into_iter().for_each(|it| self.world.start(it));
        self
    }

    fn cluster_of(&self, host: usize) -> Option<u64> {
        let record = self.world.quorum()?.record(host)?;
        record.entry.map(|it| it.cluster)
    }

    fn waits_for(&self, host: usize) -> String {
        let node = self.world.procs[host].node.as_ref().expect("it runs");
        let quorum = node.status(self.world.local(host)).quorum.expect("a quorum");
        quorum.discovery.and_then(|it| it.waiting).unwrap_or_default()
    }

    fn expect_members(&mut self, voters: &[usize], learners: &[usize], within: u64) -> &mut Self {
        let voters: BTreeSet<_> = voters.iter().map(|it| name_of(*it)).collect();
        let learners: BTreeSet<_> = learners.iter().map(|it| name_of(*it)).collect();
        self.until(within, "these are the members", move |it| {
            let entry = it.quorum().and_then(|it| it.book.newest());
            entry.is_some_and(|it| {
                let learns = it.members.iter().filter(|(_, it)| it.role == Learner);
                it.voters().eq(&voters) && learns.map(|it| it.0.clone()).eq(learners.clone())
            })
        });
        self
    }
}

#[test]
fn three_that_know_nobody_found_a_cluster_within_a_second() {
    let mut tale = strangers(3, 3);
    tale.start_these([0, 1]).run(5 * SEC);
    assert_eq!(tale.waits_for(0), "waiting for 1 more member on eth0: heard node-1");
    assert_eq!(tale.cluster_of(0), None);
    tale.start_these([2]).expect_all_held(2 * SEC);
    tale.expect_members(&[0, 1, 2], &[], SEC);
    assert_eq!((tale.waits_for(0), tale.world.leader().is_some()), (String::new(), true));
    tale.run(SEC);
    tale.finish();
}

#[test]
fn one_that_founds_alone_listens_first() {
    let mut tale = strangers(2, 1);
    tale.start_these([0]).run(9 * SEC);
    assert_eq!(tale.cluster_of(0), None);
    tale.expect_all_held(5 * SEC);
    tale.start_these([1]).expect_members(&[0, 1], &[], 10 * SEC);
    tale.run(SEC);
    tale.finish();
}

#[test]
fn who_comes_later_learns_and_then_votes_and_the_eighth_only_learns() {
    let mut tale = strangers(8, 3);
    tale.start_these([5, 6, 7]).expect_all_held(3 * SEC);
    let first = tale.cluster_of(5);
    for newcomer in [0, 1, 2, 3] {
        tale.start_these([newcomer]).run(6 * SEC).measured();
    }
    tale.expect_members(&[0, 1, 2, 3, 5, 6, 7], &[], 10 * SEC);
    tale.start_these([4]).expect_members(&[0, 1, 2, 3, 5, 6, 7], &[4], 10 * SEC);
    tale.run(SEC);
    assert_eq!((tale.cluster_of(4), tale.cluster_of(5)), (first, first));
    tale.expect_cut_at_most(0);
    tale.finish();
}

#[test]
fn five_that_start_together_are_one_cluster() {
    let mut tale = strangers(5, 3);
    tale.start_these(0..5).expect_all_held(3 * SEC);
    tale.expect_members(&[0, 1, 2, 3, 4], &[], 20 * SEC);
    tale.run(SEC);
    tale.finish();
}

#[test]
fn a_part_of_the_link_with_too_few_waits() {
    let mut tale = strangers(5, 3);
    for (one, other) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
        tale.cut(one, other).cut(other, one);
    }
    tale.start_these(0..5).expect_all_held(3 * SEC);
    tale.run(60 * SEC);
    assert_eq!((tale.cluster_of(0), tale.cluster_of(1)), (None, None));
    assert!(tale.holder(0) >= 2);
    tale.world.heal_members();
    tale.expect_members(&[0, 1, 2, 3, 4], &[], 20 * SEC);
    tale.run(SEC);
    tale.finish();
}

#[test]
fn who_has_been_a_member_does_not_found_anew() {
    let mut tale = strangers(3, 3);
    tale.start_these(0..3).expect_all_held(3 * SEC);
    tale.run(3 * SEC);
    let first = tale.cluster_of(0);
    for host in 0..3 {
        tale.world.reboot(host, SEC);
    }
    tale.run(2 * SEC).expect_all_held(5 * SEC);
    assert_eq!([0, 1, 2].map(|it| tale.cluster_of(it)), [first; 3]);
    // One alone does not, even if its store is gone.
    tale.power_off(1).power_off(2).crash(0);
    tale.world.lose_store(0);
    tale.start_these([0]).run(60 * SEC);
    assert_eq!(tale.cluster_of(0), None);
    tale.start_these([1, 2]).expect_all_held(5 * SEC);
    tale.run(5 * SEC);
    assert_eq!([0, 1, 2].map(|it| tale.cluster_of(it)), [first; 3]);
    tale.finish();
}

#[test]
fn a_founder_that_dies_founding_is_waited_for() {
    let mut tale = strangers(4, 3);
    tale.start_these(0..3);
    tale.until(3 * SEC, "it founds", |it| {
        it.quorum().is_some_and(|it| it.record(0).is_some_and(|it| it.entry.is_some()))
    });
    tale.crash(0).run(SEC);
    tale.start_these([3]).run(20 * SEC);
    let others: BTreeSet<_> = [1, 2, 3].into_iter().filter_map(|it| tale.cluster_of(it)).collect();
    tale.start_these([0]).run(40 * SEC);
    let leads = tale.world.leader().is_some();
    assert!(leads, "{others:?}: {}", tale.scene());
    tale.finish();
}

/// Whatever happens while members find each other, one cluster has leaders; the book fails a
/// run in which two lead in one term, or what was committed changes.
#[test]
fn there_is_one_cluster_whatever_happens_at_first() {
    for seed in 0..crate::number("DISCOVERY_SEEDS").unwrap_or(4) {
        let mut world = world(5, 3, seed);
        if let Some(cluster) = &mut world.cluster {
            cluster.mail.loss = [0, 100, 300, 600][seed as usize % 4];
            cluster.mail.copies = 50;
        }
        let mut rng = Rng::from_seed(seed);
        for proc in 0..5 {
            world.schedule(rng.below(2 * SEC), Event::Start { proc });
        }
        let mut led = BTreeSet::new();
        for _ in 0..60 {
            let (host, other) = (rng.below(5) as usize, rng.below(5) as usize);
            match rng.below(4) {
                0 => world.crash(host, rng.below(2 * SEC)),
                1 if host != other => {
                    let until = world.now + rng.below(20 * SEC);
                    let cluster = world.cluster.as_mut().expect("a quorum");
                    cluster.mail.cuts[host][other] = until;
                    cluster.mail.cuts[other][host] = until;
                }
                _ => {}
            }
            world.run_for(50 * MS + rng.below(SEC)).unwrap_or_else(|why| panic!("{seed}: {why}"));
            let cluster = world.quorum().expect("a quorum");
            let entries = (0..5).filter_map(|it| cluster.record(it)?.entry);
            led.extend(entries.filter(|it| it.id.term > 0).map(|it| it.cluster));
        }
        assert!(led.len() < 2, "seed {seed}: two clusters had leaders: {led:x?}");
        world.heal_members();
        for proc in 0..5 {
            world.schedule(0, Event::Start { proc });
        }
        world.run_for(60 * SEC).unwrap_or_else(|why| panic!("{seed}: {why}"));
        assert!(world.leader().is_some(), "seed {seed}: nobody leads in the end");
    }
}

/// Of three that found, one is cut off when the first has the entry on its disk, and founds
/// with two others once its pledge is over.
pub fn one_of_a_founding_set_is_cut_off_and_founds_with_others() -> Result<(), String> {
    half_founded()?.world.run_for(20 * SEC)
}

fn half_founded() -> Result<Tale, String> {
    let mut tale = strangers(5, 3);
    tale.start_these(0..3);
    let founded = |it: &World| it.quorum().is_some_and(|it| it.record(0).is_some());
    if !tale.world.run_until_so(3 * SEC, founded)? {
        return Err("it does not found".into());
    }
    for (one, other) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
        tale.cut(one, other).cut(other, one);
    }
    tale.start_these([3, 4]);
    tale.world.run_for(20 * SEC)?;
    Ok(tale)
}

#[test]
fn a_founding_counts_only_once_all_of_the_set_have_it() {
    one_of_a_founding_set_is_cut_off_and_founds_with_others().unwrap_or_else(|why| panic!("{why}"));
    let mut tale = half_founded().unwrap_or_else(|why| panic!("{why}"));
    let [half, whole] = [0, 2].map(|it| tale.cluster_of(it));
    assert!(half.is_some() && whole.is_some() && half != whole, "{half:?} {whole:?}");
    assert_eq!(tale.cluster_of(1), half);
    assert_eq!(tale.waits_for(0), "waiting for node-2 to confirm the founding");
    assert!(tale.holder(0) >= 2);
    tale.world.heal_members();
    tale.run(5 * SEC);
    let words = "node-2 belongs to another cluster since, so this founding is void: stop this \
                 member, remove its store, and it is added there";
    assert_eq!(tale.waits_for(0), words);
    for host in [0, 1] {
        tale.crash(host);
        tale.world.lose_store(host);
        tale.start_these([host]);
    }
    tale.expect_members(&[0, 1, 2, 3, 4], &[], 30 * SEC);
    tale.run(SEC);
    tale.finish();
}
