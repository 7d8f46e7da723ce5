mod bench;
mod properties;

use bench::{Bench, name, vip};

use super::*;

/// A name, what happens, and then: the holder, the next one, and why.
type Row = (&'static str, &'static str, (&'static str, &'static str, &'static str));

/// One VIP, which n2 holds; n1 leads, n3 and n4 are there too, all for long.
/// Each figure lets that many milliseconds pass. Nothing is better placed elsewhere.
const RULES: &[Row] = &[
    ("a holder that lives keeps it", "60000", ("n2", "", "stays")),
    ("not heard for less than suspicion", "dead n2, 90", ("n2", "", "stays")),
    ("not heard for longer", "dead n2, 120", ("n3", "", "dead")),
    ("dead, and all others are drained", "drain n1 n3 n4, dead n2, 120", ("n3", "", "all-drained")),
    ("dead, and all others are leaving", "leave n1 n3 n4, dead n2, 500", ("n2", "", "nobody")),
    ("and it is heard again", "leave n1 n3 n4, dead n2, 500, back n2, 30", ("n2", "", "stays")),
    ("dead and back: it stays away", "dead n2, 120, back n2, 60000", ("n3", "", "dead")),
    ("let go of", "release n2, 0", ("n3", "", "released")),
    (
        "let go of by the only one",
        "witness n1, dead n3 n4, 500, release n2, 0",
        ("n2", "", "released"),
    ),
    ("cannot carry it", "unable n2, 0", ("n3", "", "unable")),
    ("nobody can carry it", "unable n1 n2 n3 n4, 0", ("", "", "nobody")),
    ("until one can", "unable n1 n2 n3 n4, 30, able n4, 0", ("n4", "", "lowest-weight")),
    ("drained: another gets ready", "deaf n3, drain n2, 0", ("n2", "n3", "drained")),
    ("then carries it", "drain n2, 100", ("n3", "", "drained")),
    ("and it does not come back", "drain n2, 100, undrain n2, 60000", ("n3", "", "drained")),
    ("undrained before that", "deaf n3, drain n2, 100, undrain n2, 0", ("n2", "", "stays")),
    ("the next one dies", "deaf n3, drain n2, 60, dead n3, 120", ("n2", "n4", "drained")),
    ("the next one cannot", "deaf n3, drain n2, 60, unable n3, 0", ("n2", "n4", "drained")),
    ("it is not ready in time", "deaf n3 n4, drain n2, 1100", ("n2", "n4", "drained")),
    ("nobody is: round and round", "deaf n1 n3 n4, drain n2, 3100", ("n2", "n3", "drained")),
    (
        "but a late one is welcome",
        "deaf n1 n3 n4, drain n2, 2500, hear n3, 700",
        ("n3", "", "drained"),
    ),
    ("all are drained", "drain n1 n2 n3 n4, 9000", ("n2", "", "all-drained")),
    ("the only one is drained", "witness n1, dead n3 n4, 500, drain n2, 9000", ("n2", "", "alone")),
    ("drained, sick ones are free", "drain n2, sick n1 n3 n4, 100", ("n3", "", "all-sick")),
    ("leaving", "leave n2, 100", ("n3", "", "leaving")),
    ("leaving, others are drained", "drain n1 n3 n4, leave n2, 100", ("n3", "", "all-drained")),
    ("leaving, nobody else", "witness n1, dead n3 n4, 500, leave n2, 9000", ("n2", "", "alone")),
    (
        "leaving, and then gone",
        "witness n1, dead n3 n4, 500, leave n2, 90, release n2, 0",
        ("", "", "nobody"),
    ),
    ("leaving, not ready yet", "deaf n3, leave n2, 900", ("n2", "n3", "leaving")),
    ("leaving does not wait long", "deaf n3, leave n2, 1020", ("n3", "", "leaving")),
    ("sick", "sick n2, 100", ("n3", "", "sick")),
    ("all are equally sick", "sick n1 n2 n3 n4, 9000", ("n2", "", "all-sick")),
    ("a lighter illness", "sick n1 n2 n3, ill n4, 100", ("n4", "", "all-sick")),
    ("sick, the fitter ones are drained", "sick n2, drain n1 n3 n4, 9000", ("n2", "", "alone")),
    ("well before another is ready", "deaf n3, sick n2, 60, well n2, 0", ("n2", "", "stays")),
    ("sick again within 5 s", "sick n2, 100, well n2, sick n3, 4000", ("n3", "", "sick")),
    ("and after", "sick n2, 100, well n2, sick n3, 6000", ("n4", "", "sick")),
    ("drained within 5 s", "sick n2, 100, well n2, drain n3, 100", ("n4", "", "drained")),
    ("asked for", "wish n4, 100", ("n4", "", "asked")),
    ("asked for, and taken back", "deaf n4, wish n4, 60, unwish, 0", ("n2", "", "stays")),
    ("asked for elsewhere meanwhile", "deaf n4, wish n4, 60, wish n3, 60", ("n3", "", "asked")),
    ("asked for twice within 5 s", "wish n4, 100, wish n3, 100", ("n3", "", "asked")),
    ("asked for on one that is dead", "dead n4, wish n4, 9000", ("n2", "", "unmet")),
    ("until it is there", "dead n4, wish n4, 9000, back n4, 100", ("n4", "", "asked")),
    ("asked for on one that is drained", "drain n4, wish n4, 9000", ("n2", "", "unmet")),
    ("asked for on one that is sicker", "sick n4, wish n4, 9000", ("n2", "", "unmet")),
    ("asked for, then sick", "wish n4, 100, 6000, sick n4, 100", ("n3", "", "unmet")),
    ("well again within 5 s", "wish n4, 6000, sick n4, 90, well n4, 4000", ("n3", "", "sick")),
    ("well again for longer", "wish n4, 6000, sick n4, 90, well n4, 6000", ("n4", "", "asked")),
    ("asked for, its holder dies", "deaf n4, wish n4, 60, dead n2, 120", ("n4", "", "dead")),
    ("one that has only just come", "dead n3, 200, back n3, drain n2, 100", ("n4", "", "drained")),
    (
        "but for want of another",
        "witness n1, dead n3 n4, 200, back n3, drain n2, 100",
        ("n3", "", "drained"),
    ),
    ("leadership is handed over", "drain n2, hand, 2000", ("n2", "", "stays")),
    ("and is not", "drain n2, hand, 2000, keep, 100", ("n3", "", "drained")),
    ("a late process", "late, dead n2, 250", ("n2", "", "stays")),
    ("removed from the members", "remove n2, 0", ("n3", "", "gone")),
    ("a witness carries nothing", "drain n2, witness n3, 100", ("n4", "", "drained")),
];

#[test]
fn each_rule() {
    let wrong = RULES.iter().filter_map(|row| play(FailBack::Never, row));
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong.
fn play(fail_back: FailBack, (name, script, wanted): &Row) -> Option<String> {
    let mut bench = Bench::held_by("n2", fail_back);
    bench.play(script);
    let (holder, next, why) = bench.state();
    let got = (holder.as_str(), next.as_str(), why);
    (got != *wanted).then(|| format!("{name}: {script}: {got:?}, not {wanted:?}"))
}

/// As [`RULES`], but n3 is the better place.
const BETTER: &[(FailBack, Row)] = &[
    (FailBack::Never, ("never", "900000", ("n2", "", "stays"))),
    (FailBack::AtOnce, ("at once", "90", ("n3", "", "fail-back"))),
    (FailBack::AtOnce, ("gone and back", "100, dead n3, 200, back n3, 60", ("n4", "", "dead"))),
    (
        FailBack::AtOnce,
        ("for a while", "6000, dead n3, 200, back n3, 6000", ("n3", "", "fail-back")),
    ),
    (FailBack::Delayed, ("elected just now", "9900", ("n2", "", "stays"))),
    (FailBack::Delayed, ("elected a while ago", "10100", ("n3", "", "fail-back"))),
    (
        FailBack::Delayed,
        ("back for too short", "dead n3, 200, back n3, 29000", ("n2", "", "stays")),
    ),
    (FailBack::Delayed, ("back for long", "dead n3, 200, back n3, 30100", ("n3", "", "fail-back"))),
    (FailBack::Delayed, ("the place is drained", "drain n3 n4, 60000", ("n2", "", "stays"))),
    (FailBack::Delayed, ("asked for here", "wish n2, 60000", ("n2", "", "stays"))),
    (
        FailBack::Delayed,
        ("it dies meanwhile", "deaf n3, 10020, dead n3, 120", ("n2", "n4", "fail-back")),
    ),
];

#[test]
fn each_rule_of_going_back() {
    let wrong = BETTER.iter().filter_map(|(fail_back, row)| play(*fail_back, row));
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn held(holder: &str, epoch: (u64, u32)) -> (NodeName, Vip, Epoch) {
    (name(holder), vip(0), Epoch { term: epoch.0, count: epoch.1 })
}

fn promised(to: &str, epoch: (u64, u32)) -> Promised {
    let (to, vip, epoch) = held(to, epoch);
    Promised { vip, to, epoch }
}

fn assigned(holder: &str, epoch: (u64, u32)) -> Assigned {
    let (holder, vip, epoch) = held(holder, epoch);
    Assigned { vip, epoch, holder: Some(holder), next: Some(name("n4")) }
}

#[test]
fn a_new_leader_leaves_all_where_it_lives() {
    let cases = [
        ("nothing is known", None, None, None, None),
        ("a promise", None, None, Some(promised("n2", (6, 3))), Some("n2")),
        ("a hold", None, Some(held("n2", (6, 3))), None, Some("n2")),
        ("an assignment", Some(assigned("n2", (6, 3))), None, None, Some("n2")),
        (
            "the newest counts",
            Some(assigned("n2", (6, 3))),
            Some(held("n3", (6, 2))),
            Some(promised("n4", (5, 9))),
            Some("n2"),
        ),
        (
            "wherever it is known from",
            Some(assigned("n2", (6, 3))),
            Some(held("n3", (6, 2))),
            Some(promised("n4", (6, 4))),
            Some("n4"),
        ),
    ];
    for (what, assigned, held, promised, holder) in cases {
        let mut bench = Bench::new(4, 0, FailBack::Never);
        bench.placer.end();
        bench.placer.note_assignment(assigned.as_slice());
        bench.placer.begin(bench.now, 9, promised.as_slice(), held.as_slice());
        let epoch = Epoch { term: 9, count: 1 };
        let holder = holder.map(name);
        let expected =
            holder.map(|it| Assigned { vip: vip(0), epoch, holder: Some(it), next: None });
        assert!(bench.placer.assignment().eq(&expected), "{what}");
        bench.wanted.insert(vip(0));
        bench.round();
        assert_eq!(bench.assigned(vip(0)).epoch, epoch, "{what}");
    }
}

#[test]
fn every_vip_has_an_epoch_of_the_term() {
    let mut bench = Bench::new(3, 40, FailBack::Never);
    bench.run(Duration::from_millis(100));
    let before = bench.holders();
    bench.placer.end();
    assert!(bench.placer.deadline().is_none());
    bench.placer.begin(bench.now, 9, &[], &[]);
    assert_eq!(bench.holders(), before);
    let counts: BTreeSet<_> = bench.placer.assignment().map(|it| it.epoch.count).collect();
    assert!(bench.placer.assignment().all(|it| it.epoch.term == 9));
    assert!(counts.into_iter().eq(1..=40));
}

#[test]
fn who_holds_a_vip_that_was_not_known_keeps_it() {
    let mut bench = Bench::new(4, 1, FailBack::Never);
    let holds = &mut bench.members.get_mut(&name("n1")).unwrap().holds;
    holds.insert(vip(0), Epoch { term: 5, count: 2 });
    bench.round();
    assert_eq!(bench.state(), ("n1".into(), String::new(), "stays"));
}

#[test]
fn what_is_not_wanted_is_forgotten_once_nobody_has_it() {
    let mut bench = Bench::held_by("n2", FailBack::Never);
    bench.run(Duration::from_millis(60));
    let vip = bench.wanted.pop_first().unwrap();
    let before = bench.assigned(vip);
    bench.round();
    let after = bench.assigned(vip);
    assert!(after.holder.is_none() && after.epoch > before.epoch);
    assert_eq!(bench.placer.why(vip), Some(&Why::Unwanted));
    assert!(!bench.placer.is_settled_without(&name("n2")), "it was heard to hold it");
    bench.run(Duration::from_millis(60));
    assert_eq!(bench.placer.assignment().count(), 0);
    assert!(bench.placer.is_settled_without(&name("n2")));
    bench.wanted.insert(vip);
    bench.round();
    assert!(bench.assigned(vip).epoch > after.epoch);
}

#[test]
fn without_an_epoch_nothing_is_decided() {
    let mut bench = Bench::held_by("n2", FailBack::Never);
    bench.placer.epochs.count = u32::MAX - 1;
    bench.play("dead n2, 120");
    assert_eq!(bench.state(), ("n3".into(), String::new(), "dead"));
    bench.play("dead n3, 120");
    assert_eq!(bench.state().0, "n3");
    bench.play("drain n4, 120, undrain n4, wish n4, 5000");
    assert_eq!(bench.state().0, "n3");
    bench.placer.begin(bench.now, 9, &[], &[]);
    bench.round();
    assert_eq!(bench.state().0, "n4");
}

#[test]
fn a_follower_decides_nothing() {
    let mut bench = Bench::new(3, 0, FailBack::Never);
    bench.placer.end();
    bench.wanted.insert(vip(0));
    bench.placer.note_assignment(&[assigned("n2", (6, 3))]);
    bench.dead.insert(name("n2"));
    bench.run(Duration::from_secs(1));
    assert!(bench.placer.assignment().eq(&[assigned("n2", (6, 3))]));
    assert_eq!(bench.placer.why(vip(0)), None);
}

#[test]
fn a_deadline_is_when_the_next_thing_happens() {
    let mut bench = Bench::held_by("n2", FailBack::Never);
    bench.play("dead n2, deaf n3 n4");
    assert_eq!(bench.placer.deadline(), Some(bench.now + bench::HEARTBEAT * 3 + SUSPICION_SLACK));
    let at = bench.placer.deadline().unwrap();
    bench.now = at;
    bench.round();
    assert_eq!(bench.state().0, "n3");
}

/// `cargo test --release --lib placer -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods)]
fn a_heartbeat_costs_little() {
    for fail_back in [FailBack::Never, FailBack::Delayed] {
        let mut bench = Bench::new(5, 200, fail_back);
        bench.run(Duration::from_secs(12));
        let time = |what: &str, bench: &mut Bench| {
            let rounds = 100;
            let batch = || {
                let start = std::time::Instant::now();
                (0..rounds).for_each(|_| bench.decide());
                start.elapsed() / rounds
            };
            let best = std::iter::repeat_with(batch).take(100).min().unwrap();
            eprintln!("{fail_back:?}, {what}: {best:?}");
        };
        time("nothing changes", &mut bench);
        bench.play("unable n1 n2 n3 n4 n5");
        let all: Vec<_> = bench.wanted.iter().copied().collect();
        bench.members.values_mut().for_each(|it| it.report.unable.clone_from(&all));
        time("nobody may carry anything", &mut bench);
    }
}
