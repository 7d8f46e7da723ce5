use super::*;
use crate::engine::{NextIds, Rng};
use crate::model::{ApiFaultKind, ConfigMap, Object};

const T0: Instant = Instant::from_nanos(1_000_000_000_000);

struct Bench {
    follower: Follower,
    now: Instant,
    rng: Rng,
}

#[test]
fn a_follower_lists_and_goes_on_from_there() {
    let mut bench = Bench::new();
    assert_eq!(bench.orders(), [None]);
    bench.says([ObjectEvent::Listing, changed("3"), changed("9")]);
    assert!(!bench.follower.has_listed());
    bench.says([ObjectEvent::Listed(at("20"))]);
    assert!(bench.follower.has_listed() && !bench.follower.is_open());
    bench.says([ObjectEvent::Opened]);
    assert!(bench.follower.is_open());
    assert_eq!(bench.follower.deadline(), None);

    bench.says([changed("21"), ObjectEvent::Deleted("a".into()), garbled()]);
    bench.now = bench.now + Duration::from_secs(60);
    assert_eq!(bench.resumes_from(ended()), Some(at("21")));
    bench.says([ObjectEvent::Opened, ObjectEvent::Bookmark(at("40"))]);
    assert_eq!(bench.resumes_from(ended()), Some(at("40")));
}

#[test]
fn a_list_that_was_cut_off_is_begun_anew() {
    let mut bench = Bench::new();
    bench.orders();
    bench.says([ObjectEvent::Listing, changed("3")]);
    assert_eq!(bench.resumes_from(ended()), None);
    bench.says([ObjectEvent::Listing, ObjectEvent::Listed(at("20"))]);
    assert_eq!(bench.resumes_from(ended()), Some(at("20")));
}

#[test]
fn a_version_that_is_forgotten_means_a_new_list() {
    let mut bench = Bench::new();
    bench.orders();
    bench.says([ObjectEvent::Listing, ObjectEvent::Listed(at("20")), ObjectEvent::Opened]);
    assert_eq!(bench.resumes_from(ObjectEvent::Expired), None);
    // What is known stays so meanwhile.
    assert!(bench.follower.has_listed());
}

#[test]
fn faults_are_waited_for_longer_and_longer_and_as_long_as_the_server_says() {
    let mut bench = Bench::new();
    bench.orders();
    let mut waits = Vec::new();
    for _ in 0..12 {
        bench.says([ended()]);
        assert!(bench.follower.fault().is_some());
        let due = bench.follower.deadline().unwrap().at;
        waits.push(due.saturating_since(bench.now));
        bench.now = due;
        assert_eq!(bench.orders(), [None]);
    }
    assert!(waits[0] <= Duration::from_millis(100), "{waits:?}");
    assert!(waits[11] >= PATIENCE / 2 && waits[11] <= PATIENCE * 2, "{waits:?}");

    let mut fault = fault();
    fault.retry_after = Some(Duration::from_secs(90));
    bench.says([ObjectEvent::Ended(fault)]);
    let due = bench.follower.deadline().unwrap().at;
    assert_eq!(due, bench.now + Duration::from_secs(90));

    // Once it has lasted, the next fault is a new one.
    bench.now = due;
    bench.orders();
    bench.says([ObjectEvent::Listing, ObjectEvent::Listed(at("1")), ObjectEvent::Opened]);
    assert!(bench.follower.fault().is_none());
    bench.now = bench.now + SETTLED;
    bench.says([ended()]);
    let due = bench.follower.deadline().unwrap().at;
    assert!(due.saturating_since(bench.now) <= Duration::from_millis(100));
}

#[test]
fn a_long_list_is_waited_for_and_a_silent_edge_asked_again() {
    let mut bench = Bench::new();
    bench.orders();
    bench.says([ObjectEvent::Listing]);
    for version in ["1", "2", "3"] {
        bench.now = bench.now + OPEN_BY / 2;
        bench.says([changed(version)]);
        assert_eq!(bench.orders(), []);
    }
    bench.now = bench.now + OPEN_BY;
    assert_eq!(bench.orders(), [None]);
    assert_eq!(bench.orders(), []);
}

#[test]
fn who_stops_says_so() {
    let bench = Bench::new();
    let (mut rng, mut out, mut next) = (bench.rng, Vec::new(), NextIds::default());
    let mut cx = Cx { now: T0, rng: &mut rng, out: &mut out, next: &mut next };
    bench.follower.stop(&mut cx);
    assert_eq!(out, [Action::Unfollow(Followed::Nodes)]);
}

impl Bench {
    fn new() -> Self {
        Self { follower: Follower::new(Followed::Nodes, T0), now: T0, rng: Rng::from_seed(1) }
    }

    fn says<const N: usize>(&mut self, events: [ObjectEvent; N]) {
        let ordered = self.turn(|follower, cx| follower.on_events(cx, &events));
        assert_eq!(ordered, []);
    }

    /// Where it is told to go on, with each order.
    fn orders(&mut self) -> Vec<Option<ResourceVersion>> {
        self.turn(Follower::tick)
    }

    fn resumes_from(&mut self, end: ObjectEvent) -> Option<ResourceVersion> {
        self.says([end]);
        assert!(!self.follower.is_open());
        self.now = self.follower.deadline().unwrap().at;
        let orders = self.orders();
        let [from] = &orders[..] else { panic!("{orders:?}") };
        from.clone()
    }

    fn turn(
        &mut self,
        run: impl FnOnce(&mut Follower, &mut Cx<'_>),
    ) -> Vec<Option<ResourceVersion>> {
        let (mut out, mut next) = (Vec::new(), NextIds::default());
        let cx = &mut Cx { now: self.now, rng: &mut self.rng, out: &mut out, next: &mut next };
        run(&mut self.follower, cx);
        let ordered = out.into_iter().map(|action| match action {
            Action::Follow { what: Followed::Nodes, from } => from,
            other => panic!("{other:?}"),
        });
        ordered.collect()
    }
}

fn at(version: &str) -> ResourceVersion {
    ResourceVersion(version.into())
}

fn changed(version: &str) -> ObjectEvent {
    let (name, version) = ("ns/a".into(), at(version));
    let object = Object::ConfigMap(ConfigMap { name, version, data: Default::default() });
    ObjectEvent::Changed(Box::new(object))
}

fn garbled() -> ObjectEvent {
    ObjectEvent::Garbled { name: "ns/b".into(), why: "no port".into() }
}

fn ended() -> ObjectEvent {
    ObjectEvent::Ended(fault())
}

fn fault() -> ApiFault {
    ApiFault { kind: ApiFaultKind::Unreachable, why: "reset".into(), retry_after: None }
}
