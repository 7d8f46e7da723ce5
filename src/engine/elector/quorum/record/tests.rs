use super::*;
use crate::engine::{NextIds, Rng};
use crate::model::{ApiFaultKind, ResourceVersion};

const T0: Instant = Instant::from_nanos(1_000_000_000_000);
const MINE: Author = Author { host: 1, life: 1 };
const QUORUM: u64 = 0xab;
const DURATION: Duration = Duration::from_secs(15);

#[test]
fn who_does_not_carry_asks_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.turn(0, &wish(false)), None);
    assert_eq!(bench.record.deadline(), None);
    // A look is a look.
    let look = Wish { look_every: Some(Duration::from_secs(5)), ..wish(false) };
    assert_eq!(bench.turn(0, &look), Some(LeaseCall::Read));
    bench.reply(0, LeaseReply::NotFound);
    assert_eq!(bench.record.foundation(), Some(None));
    assert_eq!(bench.turn(4_999, &look), None);
    assert_eq!(bench.turn(5_000, &look), Some(LeaseCall::Read));
}

#[test]
fn the_carrier_looks_writes_and_writes_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.turn(0, &wish(true)), Some(LeaseCall::Read));
    bench.reply(10, LeaseReply::NotFound);
    let written = bench.written(10, &wish(true)).expect("at once");
    assert_eq!((written.transitions, &written.acquired), (0, &None));
    assert_eq!(bench.turn(11, &wish(true)), None, "one at a time");
    bench.reply(20, found(Some("n1"), Some(QUORUM), MINE, 0, "b"));
    assert_eq!(bench.record.written_at(), Some(at(20)));
    assert_eq!(bench.turn(5_019, &wish(true)), None);
    assert_eq!(bench.record.deadline().map(|it| it.at), Some(at(5_020)));
    let again = bench.written(5_020, &wish(true)).expect("a third of the duration later");
    assert_eq!((again.transitions, again.acquired.as_deref()), (0, Some("then")));
}

#[test]
fn whose_record_it_is_decides_when_it_is_replaced() {
    let other = Author { host: 2, life: 2 };
    let cases = [
        ("nobody's", None, None, other, Some(0)),
        ("the one of another member", Some("n2"), Some(QUORUM), other, Some(0)),
        ("our own of an earlier process", Some("n1"), Some(QUORUM), other, Some(0)),
        ("that of a kube-vip", Some("n2"), None, other, Some(15_000)),
        ("that of another quorum", Some("n2"), Some(7), other, Some(15_000)),
        ("under our name, of an election", Some("n1"), None, MINE, Some(15_000)),
    ];
    for (what, holder, quorum, author, expected) in cases {
        let mut bench = Bench::new();
        bench.turn(0, &wish(true));
        bench.reply(0, found(holder, quorum, author, 3, "a"));
        let free: u64 = expected.unwrap_or_default();
        let rival = (free > 0).then(|| NodeName(holder.unwrap_or_default().into()));
        assert_eq!(bench.record.rival(at(free.saturating_sub(1)), Some(QUORUM)), rival.as_ref());
        if free > 0 {
            assert_eq!(bench.turn(free - 1, &wish(true)), None, "{what}");
        }
        let written = bench.written(free, &wish(true)).unwrap_or_else(|| panic!("{what}"));
        let changes = u32::from(holder != Some("n1"));
        assert_eq!(written.transitions, 3 + changes, "{what}");
    }
}

#[test]
fn who_renews_in_our_place_is_not_fought() {
    let mut bench = Bench::new();
    bench.turn(0, &wish(true));
    bench.reply(0, found(Some("n9"), None, MINE, 3, "a"));
    assert!(bench.written(15_000, &wish(true)).is_some());
    // It did renew: what we would have replaced is not there any more.
    bench.reply(15_000, LeaseReply::Conflict);
    assert_eq!(bench.turn(15_200, &wish(true)), Some(LeaseCall::Read));
    bench.reply(15_200, found(Some("n9"), None, MINE, 3, "b"));
    assert!(bench.record.rival(at(15_201), Some(QUORUM)).is_some());
    assert_eq!(bench.turn(30_199, &wish(true)), None);
    assert!(bench.written(30_200, &wish(true)).is_some(), "it renewed no more");
}

#[test]
fn a_fault_is_waited_out_ever_longer() {
    let mut bench = Bench::new();
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(bench.turn(now, &wish(true)), Some(LeaseCall::Read), "at {now}");
        let kind = ApiFaultKind::Unreachable;
        let fault = ApiFault { kind, why: "gone".into(), retry_after: None };
        bench.reply(now, LeaseReply::Failed(fault));
        assert!(bench.record.fault().is_some());
        bench.turn(now, &wish(true));
        let due = bench.record.deadline().expect("it tries again").at;
        waits.push(due.saturating_since(at(now)).as_secs());
        now += u64::try_from(due.saturating_since(at(now)).as_millis()).unwrap() + 1;
    }
    assert!(waits.is_sorted() && waits[0] <= 1 && (60..=72).contains(&waits[7]), "{waits:?}");
    bench.turn(now, &wish(true));
    bench.reply(now, LeaseReply::NotFound);
    assert!(bench.record.fault().is_none());
}

#[test]
fn a_request_without_an_answer_is_given_up() {
    let mut bench = Bench::new();
    bench.turn(0, &wish(true));
    assert_eq!(bench.turn(10_999, &wish(true)), None);
    assert_eq!(bench.turn(11_000, &wish(true)), Some(LeaseCall::Read));
}

#[test]
fn a_foundation_goes_before_the_record_and_not_again_without_a_pause() {
    let mut bench = Bench::new();
    let founder = NodeName("n1".into());
    let foundation = Foundation { quorum: QUORUM, founder, machine: 1, done: false };
    let founding = Wish { foundation: Some(foundation.clone()), ..wish(true) };
    assert_eq!(bench.turn(0, &founding), Some(LeaseCall::Read));
    bench.reply(0, LeaseReply::NotFound);
    let call = LeaseCall::Found { foundation, based_on: None };
    assert_eq!(bench.turn(0, &founding), Some(call));
    // A server that forgets what it accepts.
    bench.reply(0, found(None, None, MINE, 0, "a"));
    assert_eq!(bench.turn(999, &founding), None);
    assert!(matches!(bench.turn(1_000, &founding), Some(LeaseCall::Found { .. })));
}

struct Bench {
    record: Record,
    rng: Rng,
    next: NextIds,
    asked: Option<RequestId>,
}

/// What a write says.
struct Written {
    transitions: u32,
    acquired: Option<String>,
}

impl Bench {
    fn new() -> Self {
        let lease = ObjectName::new("kube-system", "lock");
        let config = QuorumApi { lease, duration: DURATION, author: MINE, nodes: None };
        let record = Record::new(&config, NodeName("n1".into()), T0);
        Self { record, rng: Rng::from_seed(1), next: NextIds::default(), asked: None }
    }

    fn turn(&mut self, millis: u64, wish: &Wish) -> Option<LeaseCall> {
        let mut out = Vec::new();
        let (rng, next) = (&mut self.rng, &mut self.next);
        self.record.reconcile(&mut Cx { now: at(millis), rng, out: &mut out, next }, wish);
        match out.pop()? {
            Action::Lease { request, call, .. } => {
                self.asked = Some(request);
                Some(call)
            }
            other => panic!("{other:?}"),
        }
    }

    fn written(&mut self, millis: u64, wish: &Wish) -> Option<Written> {
        match self.turn(millis, wish)? {
            LeaseCall::Write { holder, transitions, acquired, quorum, author, .. } => {
                assert_eq!((holder, quorum), (Some(NodeName("n1".into())), Some(QUORUM)));
                assert_eq!(author, MINE);
                Some(Written { transitions, acquired })
            }
            other => panic!("{other:?}"),
        }
    }

    fn reply(&mut self, millis: u64, reply: LeaseReply) {
        let mut out = Vec::new();
        let (rng, next) = (&mut self.rng, &mut self.next);
        let request = self.asked.take().expect("something was asked");
        let cx = &mut Cx { now: at(millis), rng, out: &mut out, next };
        self.record.on_reply(cx, request, reply);
        assert!(out.is_empty(), "{out:?}");
    }
}

fn at(millis: u64) -> Instant {
    T0 + Duration::from_millis(millis)
}

fn wish(carries: bool) -> Wish {
    Wish { quorum: Some(QUORUM), carries, foundation: None, look_every: None }
}

fn found(
    holder: Option<&str>,
    quorum: Option<u64>,
    author: Author,
    transitions: u32,
    renewed: &str,
) -> LeaseReply {
    let record = LeaseRecord {
        holder: holder.map(|it| NodeName(it.into())),
        duration: Duration::from_secs(10),
        transitions,
        acquired: Some("then".into()),
        renewed: Some(renewed.into()),
        author: Some(author),
        quorum,
    };
    let (version, object) = (ResourceVersion(renewed.into()), "{}".into());
    LeaseReply::Found(Box::new(Lease { record, version, object, foundation: None }))
}
