use super::*;
use crate::engine::{NextIds, Rng};
use crate::model::{EntryId, MemberRole, Report};

const D: Duration = Duration::from_millis(120);

/// Two posts, and the datagrams between them.
struct Bench {
    a: Post,
    b: Post,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let mut it =
            Self { a: post("a", 1), b: post("b", 2), now: Instant::from_nanos(1_000_000_000) };
        it.talk();
        it
    }

    /// Each says something until both are believed.
    fn talk(&mut self) {
        for _ in 0..3 {
            let said = self.say_a();
            self.hear_b(said);
            let said = self.say_b();
            self.hear_a(said);
        }
    }

    fn say_a(&mut self) -> Envelope {
        self.now = self.now + Duration::from_millis(1);
        say(&mut self.a, self.now, "b").remove(0)
    }

    fn say_b(&mut self) -> Envelope {
        self.now = self.now + Duration::from_millis(1);
        say(&mut self.b, self.now, "a").pop().expect("it speaks")
    }

    fn hear_a(&mut self, said: Envelope) -> Received {
        self.now = self.now + Duration::from_millis(1);
        self.a.receive(self.now, address("b"), false, said)
    }

    fn hear_b(&mut self, said: Envelope) -> Received {
        self.now = self.now + Duration::from_millis(1);
        self.b.receive(self.now, address("a"), false, said)
    }
}

#[test]
fn who_shows_that_it_lives_is_believed() {
    let mut it = Bench { a: post("a", 1), b: post("b", 2), now: Instant::from_nanos(1_000_000) };
    let said = it.say_a();
    assert_eq!(it.hear_b(said), Received::Introduced, "nobody knows it");
    let said = it.say_b();
    assert_eq!(
        it.hear_a(said),
        Received::Introduced,
        "it repeats nothing of after its life was seen"
    );
    let said = it.say_a();
    assert!(matches!(it.hear_b(said), Received::Believed { fresh: true, .. }));
    let said = it.say_b();
    assert!(matches!(it.hear_a(said), Received::Believed { fresh: true, .. }));
    let said = it.say_b();
    assert!(matches!(it.hear_a(said), Received::Believed { fresh: false, .. }));
    assert!(it.a.round_trip(&name("b")).is_some());
}

#[test]
fn what_was_heard_is_not_believed_again() {
    let mut it = Bench::new();
    let said = it.say_a();
    assert!(matches!(it.hear_b(said.clone()), Received::Believed { .. }));
    assert_eq!(it.hear_b(said), Received::Refused("replayed"));
    assert_eq!(it.b.refused(&name("a")).get("replayed"), Some(&1));
}

#[test]
fn a_dead_life_does_not_come_back() {
    let mut it = Bench::new();
    let old = it.say_a();
    it.a = post("a", 3);
    it.talk();
    let said = it.say_a();
    assert!(matches!(it.hear_b(said), Received::Believed { life: Life(3), .. }));
    assert!(!matches!(it.hear_b(old), Received::Believed { .. }), "it was sent before that life");
    let said = it.say_a();
    assert!(
        matches!(it.hear_b(said), Received::Believed { life: Life(3), fresh: false, .. }),
        "the life that lives stays known"
    );
}

#[test]
fn what_took_too_long_says_nothing() {
    let mut it = Bench::new();
    let said = it.say_a();
    it.now = it.now + D;
    assert_eq!(it.hear_b(said), Received::Refused("late"));
}

#[test]
fn others_are_refused_with_the_reason() {
    let mut it = Bench::new();
    let said = it.say_a();
    assert_eq!(
        it.b.receive(it.now, address("c"), false, said.clone()),
        Received::Refused("address")
    );
    assert_eq!(
        it.b.receive(it.now, address("a"), true, said.clone()),
        Received::Refused("forwarded")
    );
    let stranger = Envelope { from: name("z"), ..said };
    let from_stranger =
        |it: &mut Bench| it.b.receive(it.now, address("z"), false, stranger.clone());
    let only_a = BTreeMap::from([member("a")]);
    it.b.serve(it.now, &only_a, false);
    assert_eq!(from_stranger(&mut it), Received::Refused("stranger"));
    assert_eq!(it.b.strangers().get(&name("z")), Some(&address("z")));
    // Where the members are certain, it is spoken to: it may have been one.
    it.b.serve(it.now, &only_a, true);
    assert_eq!(from_stranger(&mut it), Received::Introduced);
    it.now = it.now + PARTING;
    it.b.serve(it.now, &only_a, true);
    assert!(!it.b.peers().any(|it| *it == name("z")));
}

fn member(it: &str) -> (NodeName, Member) {
    (name(it), Member { address: address(it), role: MemberRole::Voter })
}

fn post(me: &str, life: u64) -> Post {
    let mut it = Post::new(name(me), Life(life), D);
    it.serve(Instant::from_nanos(0), &["a", "b"].map(member).into(), true);
    it
}

fn say(post: &mut Post, now: Instant, to: &str) -> Vec<Envelope> {
    let (mut rng, mut out, mut next) = (Rng::from_seed(1), Vec::new(), NextIds::default());
    let mut cx = Cx { now, rng: &mut rng, out: &mut out, next: &mut next };
    post.send(&mut cx, &name(to), &message());
    let sent = out.into_iter().filter_map(|it| match it {
        Action::Send { envelope, .. } => Some(*envelope),
        _ => None,
    });
    sent.collect()
}

fn message() -> Message {
    Message {
        term: 1,
        leader: None,
        cluster: Some(1),
        newest: EntryId::default(),
        committed: EntryId::default(),
        floor: 0,
        stamp: 0,
        echo: None,
        raft: Vec::new(),
        assignment: None,
        hold: None,
        answers: Vec::new(),
        released: Vec::new(),
        report: Report::default(),
    }
}

fn name(text: &str) -> NodeName {
    NodeName(text.into())
}

fn address(name: &str) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, name.as_bytes()[0]], 10_000))
}
