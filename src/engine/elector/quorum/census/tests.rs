use std::net::Ipv4Addr;

use super::*;
use crate::engine::{Action, NextIds, Rng};
use crate::model::{ApiFault, ApiFaultKind, EntryId, Wishes};

const T0: Instant = Instant::from_nanos(1_000_000_000_000);
const QUORUM: u64 = 0xab;
const ALL_BLANK: Others = Others { all_blank: true, some_belong: false };
const SOME_SILENT: Others = Others { all_blank: false, some_belong: false };
const SOME_BELONG: Others = Others { all_blank: false, some_belong: true };

/// Members by number, `L` before a learner, `W` before a witness; `-` before one that is not
/// heard, `~` before one that has not caught up. Nodes by number, `!` behind one without an address.
#[test]
fn the_step_is_what_is_missing_most() {
    let table = [
        ("1", "1", None),
        ("1", "1 2", Some("add 2")),
        ("1", "2 1 3", Some("add 2")),
        ("1 L2", "1 2 3", Some("promote 2")),
        ("1 -L2", "1 2 3", Some("add 3")),
        ("1 ~L2", "1 2 3", Some("add 3")),
        ("1 ~L2", "1 2", None),
        ("1 ~L2 L3", "1 2 3", Some("promote 3")),
        ("1 2", "1 2 3!", None),
        ("1 2 3", "1 2", Some("remove 3")),
        ("1 2 3", "2 3", Some("remove 1")),
        ("1 2 3", "3", Some("remove 2")),
        ("1 2 L3", "1 2 4", Some("remove 3")),
        ("1 2 W3", "1 2", None),
        ("1 2", "", None),
    ];
    for (members, nodes, expected) in table {
        let entry = entry(members);
        let mut bench = Bench::new();
        for _ in 0..GONE {
            bench.list(nodes, Some(&entry));
        }
        let step = bench.step(&entry, members);
        assert_eq!(step.as_deref(), expected, "{members} of {nodes}");
    }
}

#[test]
fn a_node_is_gone_when_it_is_missing_twice() {
    let members = "1 2 3";
    let entry = entry(members);
    let mut bench = Bench::new();
    bench.list("1 2", Some(&entry));
    assert_eq!(bench.step(&entry, members), None);
    bench.list("1 2 3", Some(&entry));
    bench.list("1 2", Some(&entry));
    assert_eq!(bench.step(&entry, members), None, "it came back meanwhile");
    bench.fail(Some(&entry));
    assert_eq!(bench.step(&entry, members), None, "no list says nothing");
    bench.list("1 2", Some(&entry));
    assert_eq!(bench.step(&entry, members).as_deref(), Some("remove 3"));
}

#[test]
fn a_node_that_moved_is_taken_in_anew_once_it_is_not_heard() {
    let mut entry = entry("1 2");
    let elsewhere = SocketAddr::from((Ipv4Addr::new(10, 9, 9, 9), 7_000));
    for it in entry.members.values_mut() {
        it.address = elsewhere;
    }
    let mut bench = Bench::new();
    bench.list("1 2", Some(&entry));
    assert_eq!(bench.step(&entry, "1 2"), None);
    assert_eq!(bench.step(&entry, "1 -2").as_deref(), Some("remove 2"));
}

#[test]
fn one_step_at_a_time_and_what_fails_is_tried_again_later() {
    let entry = entry("1");
    let mut bench = Bench::new();
    bench.list("1 2 3", Some(&entry));
    assert_eq!(bench.step(&entry, "1").as_deref(), Some("add 2"));
    assert_eq!(bench.step(&entry, "1"), None, "it is under way");
    bench.outcome(Err("no room".into()));
    assert!(bench.census.words(Some(&entry), true).contains("no room"));
    assert_eq!(bench.step(&entry, "1"), None);
    bench.now = bench.now + Duration::from_millis(1_200);
    assert_eq!(bench.step(&entry, "1").as_deref(), Some("add 2"));
    bench.outcome(Ok("it is".into()));
    assert!(bench.step(&entry, "1").is_some(), "the next one at once");
}

#[test]
fn the_oldest_claims_once_all_are_heard_and_others_wait() {
    let mut bench = Bench::new();
    assert_eq!(bench.founding(None, &ALL_BLANK), (None, None), "nothing is known");
    bench.list("1 2 3", None);
    assert_eq!(bench.founding(Some(None), &SOME_SILENT), (None, None));
    let (found, claim) = bench.founding(Some(None), &ALL_BLANK);
    let claim = claim.expect("all are there");
    assert_eq!((found, &*claim.founder.0, claim.machine, claim.done), (None, "1", 7, false));
    let (_, again) = bench.founding(Some(None), &ALL_BLANK);
    assert_eq!(again.as_ref(), Some(&claim), "one name for it");
    assert_eq!(bench.founding(Some(Some(&claim)), &ALL_BLANK), (Some(claim.quorum), None));
    assert_eq!(bench.founding(Some(Some(&claim)), &SOME_BELONG), (None, None));

    for nodes in ["2 1", "1 2!", ""] {
        let mut bench = Bench::new();
        bench.list(nodes, None);
        assert_eq!(bench.founding(Some(None), &ALL_BLANK), (None, None), "{nodes}");
        bench.now = T0 + UNCLAIMED;
        assert_eq!(bench.founding(Some(None), &SOME_BELONG), (None, None), "{nodes}");
        assert!(bench.founding(Some(None), &SOME_SILENT).1.is_some(), "{nodes}");
    }
}

#[test]
fn only_an_unfinished_claim_of_this_name_and_machine_is_finished() {
    let table = [
        ("an earlier process claimed", "1", 7, false, Some(QUORUM)),
        ("and founded, and lost its store", "1", 7, true, None),
        ("a host of the same name claimed", "1", 8, false, None),
        ("somebody else claimed", "2", 7, false, None),
    ];
    for (what, founder, machine, done, expected) in table {
        let founder = NodeName(founder.into());
        let stands = Foundation { quorum: QUORUM, founder, machine, done };
        let mut bench = Bench::new();
        bench.now = T0 + UNCLAIMED * 2;
        let outcome = bench.founding(Some(Some(&stands)), &SOME_SILENT);
        assert_eq!(outcome, (expected, None), "{what}");
    }
    // Two machines without a name cannot be told apart.
    let founder = NodeName("1".into());
    let stands = Foundation { quorum: QUORUM, founder, machine: 0, done: false };
    let mut bench = Bench::new();
    bench.census.machine = 0;
    assert_eq!(bench.founding(Some(Some(&stands)), &SOME_SILENT), (None, None));
    bench.now = T0 + UNCLAIMED;
    bench.founding(Some(None), &SOME_SILENT);
    bench.now = bench.now + UNCLAIMED;
    let (_, claim) = bench.founding(Some(None), &SOME_SILENT);
    let claim = claim.expect("it may claim all the same");
    let found = bench.founding(Some(Some(&claim)), &SOME_SILENT).0;
    assert_eq!(found, Some(claim.quorum), "this very process has claimed it");
}

#[test]
fn who_leads_finishes_its_own_and_leaves_what_is_anothers() {
    let bench = Bench::new();
    let founder = || NodeName("3".into());
    let of = |quorum, done| Foundation { quorum, founder: founder(), machine: 9, done };
    assert_eq!(bench.census.to_write(QUORUM, None), None);
    let claimed = of(QUORUM, false);
    assert_eq!(bench.census.to_write(QUORUM, Some(Some(&claimed))), Some(of(QUORUM, true)));
    for settled in [of(QUORUM, true), of(1, false), of(1, true)] {
        assert_eq!(bench.census.to_write(QUORUM, Some(Some(&settled))), None);
    }
    let restored = bench.census.to_write(QUORUM, Some(None)).expect("somebody deleted it");
    assert_eq!((restored.quorum, restored.done), (QUORUM, true));
}

struct Bench {
    census: Census,
    now: Instant,
    rng: Rng,
    next: NextIds,
}

impl Bench {
    /// Member 1.
    fn new() -> Self {
        let census = Census::new(NodeName("1".into()), address(1), 7, T0);
        Self { census, now: T0, rng: Rng::from_seed(1), next: NextIds::default() }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Census, &mut Cx<'_>) -> T) -> T {
        let mut out = Vec::new();
        let (rng, next) = (&mut self.rng, &mut self.next);
        act(&mut self.census, &mut Cx { now: self.now, rng, out: &mut out, next })
    }

    fn list(&mut self, nodes: &str, entry: Option<&Entry>) {
        let node = |it: &str| ControlPlaneNode {
            name: NodeName(it.trim_end_matches('!').into()),
            addresses: match it.strip_suffix('!') {
                Some(_) => vec!["fd00::1".parse().unwrap()],
                None => vec!["fd00::1".parse().unwrap(), address(it.parse().unwrap()).ip()],
            },
        };
        let nodes = nodes.split_whitespace().map(node).collect();
        self.answer(SideReply::Nodes(nodes), entry);
    }

    fn fail(&mut self, entry: Option<&Entry>) {
        let kind = ApiFaultKind::Timeout;
        let fault = ApiFault { kind, why: "late".into(), retry_after: None };
        self.answer(SideReply::Failed(fault), entry);
    }

    fn answer(&mut self, reply: SideReply, entry: Option<&Entry>) {
        self.with(|census, cx| {
            census.ask_at = cx.now;
            census.tick(cx, true);
            let Some(Action::Side { request, call: SideCall::ListNodes }) = cx.out.pop() else {
                panic!("it does not look")
            };
            assert!(census.on_side(cx, request, &reply, entry));
            assert!(census.ask_at >= cx.now + EVERY_BLANK);
        });
    }

    fn founding(
        &mut self,
        stands: Option<Option<&Foundation>>,
        others: &Others,
    ) -> (Option<u64>, Option<Foundation>) {
        self.with(|census, cx| census.founding(cx, stands, others))
    }

    fn outcome(&mut self, outcome: Result<String, String>) {
        self.with(|census, cx| census.on_outcome(cx, outcome));
    }

    fn step(&mut self, entry: &Entry, members: &str) -> Option<String> {
        let reach = |name: &NodeName| {
            let is = |it: &&str| it.trim_start_matches(['-', '~', 'L', 'W']) == &*name.0;
            match members.split_whitespace().find(is).map(|it| it.as_bytes()[0]) {
                Some(b'-') => Reach::Silent,
                Some(b'~') => Reach::Heard,
                _ => Reach::CaughtUp,
            }
        };
        Some(match self.census.step(self.now, entry, &reach)? {
            ClusterCall::Add { name, address: at, witness: false } => {
                assert_eq!(at, address(name.0.parse().unwrap()));
                format!("add {name}")
            }
            ClusterCall::Promote(name) => format!("promote {name}"),
            ClusterCall::Remove(name) => format!("remove {name}"),
            other => panic!("{other:?}"),
        })
    }
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, number), 7_000))
}

/// Names that begin with L are learners, with W witnesses.
fn entry(members: &str) -> Entry {
    let member = |it: &str| {
        let it = it.trim_start_matches(['-', '~']);
        let role = match it.as_bytes()[0] {
            b'L' => MemberRole::Learner,
            b'W' => MemberRole::Witness,
            _ => MemberRole::Voter,
        };
        let name = it.trim_start_matches(['L', 'W']);
        let address = address(name.parse().unwrap());
        (NodeName(name.into()), Member { address, role })
    };
    Entry {
        id: EntryId { term: 1, index: 3 },
        cluster: QUORUM,
        members: members.split_whitespace().map(member).collect(),
        before: None,
        longest: Duration::from_millis(120),
        wishes: Wishes::default(),
    }
}
