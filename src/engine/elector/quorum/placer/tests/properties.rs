use super::bench::{Bench, name, vip};
use super::*;
use crate::engine::Rng;

const SECOND: Duration = Duration::from_secs(1);

/// Random numbers of members and VIPs.
fn benches(fail_back: FailBack) -> impl Iterator<Item = (Rng, Bench)> {
    (0..60).map(move |seed| {
        let mut rng = Rng::from_seed(seed);
        let members = 2 + rng.below(5) as usize;
        let vips = 1 + rng.below(220) as usize;
        let mut bench = Bench::new(members, vips, fail_back);
        let step = 1 + rng.below(400) as usize;
        bench.wanted = (0..vips).map(|it| vip(it * step)).collect();
        bench.run(SECOND / 10);
        (rng, bench)
    })
}

#[test]
fn each_has_its_share() {
    for (_, bench) in benches(FailBack::Never) {
        let (vips, loads) = (bench.wanted.len(), bench.loads());
        let (least, most) = (vips / loads.len(), vips.div_ceil(loads.len()));
        assert!(loads[&bench.me] <= least, "the leader: {loads:?}");
        assert!(loads.values().all(|it| *it <= most), "{loads:?}");
        assert!(loads.values().all(|it| it + loads.len() > most), "{loads:?}");
    }
    let mut bench = Bench::new(3, 200, FailBack::Never);
    bench.round();
    assert!(bench.loads().values().all(|it| (66..=67).contains(it)), "{:?}", bench.loads());
}

#[test]
fn one_vip_is_not_with_the_leader() {
    for number in 0..100 {
        let mut bench = Bench::new(2, 0, FailBack::Never);
        bench.wanted.insert(vip(number));
        bench.round();
        assert_eq!(bench.state(), ("n2".into(), "".into(), "lowest-weight"));
    }
}

#[test]
fn only_the_vips_of_the_dead_move() {
    for (mut rng, mut bench) in benches(FailBack::Never) {
        let before = bench.holders();
        let dead = name(&format!("n{}", 2 + rng.below(bench.members.len() as u64 - 1)));
        bench.dead.insert(dead.clone());
        bench.run(SECOND / 2);
        for (vip, holder) in bench.holders() {
            assert_eq!(holder != before[&vip], before[&vip].as_ref() == Some(&dead));
        }
        let left = bench.members.len() - 1;
        let most = bench.wanted.len().div_ceil(left);
        assert!(bench.loads().values().all(|it| *it <= most), "{:?}", bench.loads());
    }
}

#[test]
fn a_drain_moves_all_and_they_stay_away() {
    for (mut rng, mut bench) in benches(FailBack::Never) {
        let before = bench.holders();
        let drained = name(&format!("n{}", 1 + rng.below(bench.members.len() as u64)));
        bench.entry.wishes.drained.insert(drained.clone());
        bench.run(SECOND);
        assert!(bench.placer.is_settled_without(&drained));
        let during = bench.holders();
        for (vip, holder) in &during {
            assert_ne!(holder.as_ref(), Some(&drained));
            assert_eq!(*holder != before[vip], before[vip].as_ref() == Some(&drained));
        }
        bench.entry.wishes.drained.clear();
        bench.run(SECOND * 60);
        assert_eq!(bench.holders(), during);
    }
}

#[test]
fn they_go_back_to_where_they_were() {
    for (mut rng, mut bench) in benches(FailBack::Delayed).step_by(15) {
        let before = bench.holders();
        bench.run(SECOND * 15);
        assert_eq!(bench.holders(), before, "the first places are the best");
        let gone = name(&format!("n{}", 2 + rng.below(bench.members.len() as u64 - 1)));
        bench.play(&format!("dead {}, 20000, back {}, 29000", gone.0, gone.0));
        assert_eq!(bench.loads()[&gone], 0);
        bench.run(SECOND * 15);
        assert_eq!(bench.holders(), before);
    }
}

#[test]
fn all_sick_keeps() {
    for (_, mut bench) in benches(FailBack::Delayed).step_by(3) {
        let before = bench.holders();
        for member in bench.members.values_mut() {
            member.report.ailments.push(crate::model::Ailment::Check);
        }
        bench.run(SECOND * 40);
        assert_eq!(bench.holders(), before);
        assert!(bench.wanted.iter().all(|it| bench.placer.why(*it) == Some(&Why::AllSick)));
    }
}

#[test]
fn the_same_in_gives_the_same_out() {
    for ((_, one), (_, other)) in benches(FailBack::AtOnce).zip(benches(FailBack::Never)) {
        assert!(one.placer.assignment().eq(other.placer.assignment()));
    }
}

/// Whatever happens: a VIP is with one that may carry it in the end, and decisions end.
#[test]
fn after_any_story_it_comes_to_rest() {
    let verbs =
        ["dead", "back", "drain", "undrain", "leave", "sick", "well", "wish", "deaf", "hear"];
    for fail_back in [FailBack::Never, FailBack::AtOnce, FailBack::Delayed] {
        for (mut rng, mut bench) in benches(fail_back).step_by(6) {
            for _ in 0..20 {
                let member = format!("n{}", 2 + rng.below(bench.members.len() as u64 - 1));
                let verb = verbs[rng.below(verbs.len() as u64) as usize];
                if bench.makes_sense(verb, &member) {
                    bench.play(&format!("{verb} {member}"));
                }
                bench.run(Duration::from_millis(rng.below(1500)));
            }
            bench.deaf.clear();
            bench.run(SECOND * 60);
            let rest = bench.holders();
            for holder in rest.values() {
                let holder = holder.as_ref().expect("n1 may carry all");
                assert!(!bench.dead.contains(holder));
                assert!(!bench.entry.wishes.drained.contains(holder));
                assert!(!bench.members[holder].report.leaving);
                assert!(bench.members[holder].report.ailments.is_empty());
            }
            assert!(bench.placer.assignment().all(|it| it.next.is_none()));
            bench.run(SECOND * 20);
            assert_eq!(bench.holders(), rest);
        }
    }
}

/// Another leader has another share, which is no reason to turn everything round.
#[test]
fn another_leader_moves_few() {
    let mut bench = Bench::new(3, 200, FailBack::AtOnce);
    bench.run(SECOND);
    let before = bench.holders();
    bench.me = name("n2");
    bench.placer.begin(bench.now, 8, &[], &[]);
    bench.run(SECOND * 5);
    let moved = bench.holders().iter().filter(|(vip, it)| before[vip] != **it).count();
    assert!(moved <= 4, "{moved}");
}

#[test]
#[cfg(feature = "sabotage")]
fn each_seeded_defect_shows() {
    use crate::engine::{Sabotage, sabotage};

    for defect in [None, Some(Sabotage::EpochNotRaised), Some(Sabotage::MoveBeforeReady)] {
        let mut bench = Bench::held_by("n2", FailBack::Never);
        let before = bench.placer.assignment().next().unwrap().epoch;
        sabotage(defect);
        bench.entry.wishes.drained.insert(name("n2"));
        bench.decide();
        bench.decide();
        let too_early = bench.state().0 == "n3";
        bench.dead.insert(name("n2"));
        bench.now = bench.now + SECOND;
        bench.members.values_mut().skip(2).for_each(|it| it.heard_at = bench.now);
        bench.decide();
        sabotage(None);
        let same = bench.placer.assignment().next().unwrap().epoch == before;
        assert_eq!(bench.state().0, "n3");
        assert_eq!(too_early, defect == Some(Sabotage::MoveBeforeReady));
        assert_eq!(same, defect == Some(Sabotage::EpochNotRaised));
    }
}
