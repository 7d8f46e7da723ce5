//! What members say to each other: a fixture each, made with the key that is no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use edgevip::model::{
    Ailment, Assigned, Entry, EntryId, Envelope, Epoch, Hello, Hold, HoldAnswer, HoldRefusal, Life,
    Member, MemberRole, Message, NodeName, Promised, RaftCall, Released, Report, Vip, Wishes,
};
use edgevip::wire::quorum::{BadDatagram, Keys, open, seal};

use super::{fixture, hex};

#[test]
fn our_words_are_the_bytes_of_their_fixtures() {
    for (file, it) in said() {
        let bytes = seal(&Keys::insecure(), &it);
        assert_eq!(hex(&bytes), hex(&fixture(&format!("quorum/{file}"))), "{file}");
    }
}

#[test]
fn fixtures_mean_our_words() {
    for (file, it) in said() {
        let bytes = fixture(&format!("quorum/{file}"));
        assert_eq!(open(&Keys::insecure(), &bytes), Ok(it), "{file}");
    }
}

#[test]
fn a_fixture_of_a_later_version_is_understood_as_far_as_it_can_be() {
    let bytes = fixture("quorum/later-section");
    assert_eq!(open(&Keys::insecure(), &bytes), Ok(hello()));
    let bytes = fixture("quorum/refused-version");
    assert_eq!(open(&Keys::insecure(), &bytes), Err(BadDatagram::Version));
}

fn said() -> Vec<(&'static str, Envelope)> {
    vec![
        ("hello", hello()),
        ("hello-to-all", hello_to_all()),
        ("heartbeat", heartbeat(|_| ())),
        ("assignment", heartbeat(assigns)),
        ("hold", heartbeat(holds)),
        ("answers", heartbeat(answers)),
        ("released", heartbeat(releases)),
        ("report", heartbeat(|it| it.report = report())),
        ("append", heartbeat(|it| it.raft = vec![RaftCall::Append(Box::new(entry()))])),
        ("ask-vote", heartbeat(asks)),
        ("vote", heartbeat(votes)),
        ("stand-now", heartbeat(|it| it.raft = vec![RaftCall::StandNow])),
    ]
}

fn hello() -> Envelope {
    let (from, life) = (name("n1"), Life(0x1111));
    Envelope { from, life, echo: None, count: 1, message: None, hello: None }
}

fn hello_to_all() -> Envelope {
    let company = |it: &[(&str, u64)]| it.iter().map(|it| (name(it.0), Life(it.1))).collect();
    let hello = Hello {
        address: "10.0.0.1:10000".parse().unwrap(),
        witness: false,
        voters: 2,
        cluster: None,
        hears: company(&[("n2", 0x2222), ("n3", 0x3333)]),
        set: company(&[("n1", 0x1111), ("n2", 0x2222)]),
        pledged: true,
    };
    Envelope { hello: Some(Box::new(hello)), ..self::hello() }
}

fn heartbeat(more: impl FnOnce(&mut Message)) -> Envelope {
    let mut message = Message {
        term: 5,
        leader: Some(name("n2")),
        cluster: Some(0xc1),
        newest: EntryId { term: 5, index: 3 },
        committed: EntryId { term: 4, index: 2 },
        floor: 1000,
        stamp: 1_000_000,
        echo: Some((2_000_000, 150)),
        raft: vec![],
        assignment: None,
        hold: None,
        answers: vec![],
        released: vec![],
        report: Report::default(),
    };
    more(&mut message);
    let (life, echo) = (Life(0x1111), Some(Life(0x2222)));
    let message = Some(Box::new(message));
    Envelope { from: name("n1"), life, echo, count: 300, message, hello: None }
}

fn assigns(it: &mut Message) {
    it.leader = Some(name("n1"));
    let assigned = |ip: &str, count, holder: Option<&str>, next: Option<&str>| Assigned {
        vip: vip(ip),
        epoch: Epoch { term: 5, count },
        holder: holder.map(name),
        next: next.map(name),
    };
    it.assignment = Some(vec![
        assigned("10.0.0.42", 7, Some("n2"), None),
        assigned("10.0.0.43", 8, Some("n2"), Some("n3")),
        assigned("fd00::42", 1, None, None),
    ]);
}

fn holds(it: &mut Message) {
    let vips = vec![(vip("10.0.0.42"), epoch(7)), (vip("fd00::42"), epoch(8))];
    let config = EntryId { term: 5, index: 3 };
    let length = Duration::from_millis(120);
    it.hold = Some(Hold { id: 77, config, length, vips, urgent: true });
}

fn answers(it: &mut Message) {
    let refused = [
        HoldRefusal::Earlier,
        HoldRefusal::Epoch(epoch(9)),
        HoldRefusal::OldConfig(EntryId { term: 5, index: 4 }),
        HoldRefusal::Promised(Duration::from_millis(80)),
        HoldRefusal::Released,
        HoldRefusal::Starting(Duration::from_millis(120)),
        HoldRefusal::TooLong(Duration::from_millis(152)),
    ];
    let refused = refused.into_iter().enumerate();
    let refused = refused.map(|(at, why)| (vip(&format!("10.0.0.{}", at + 1)), why)).collect();
    let acknowledged = vec![vip("10.0.0.42"), vip("fd00::42")];
    it.answers = vec![
        HoldAnswer { id: 77, acknowledged, refused: vec![] },
        HoldAnswer { id: 78, acknowledged: vec![], refused },
    ];
}

fn releases(it: &mut Message) {
    it.released = vec![Released { vip: vip("10.0.0.42"), epoch: epoch(7), id: 77 }];
}

fn report() -> Report {
    Report {
        ailments: vec![
            Ailment::Carrier,
            Ailment::Check,
            Ailment::Health,
            Ailment::Late,
            Ailment::Store,
        ],
        penalty: 50,
        leaving: true,
        unable: vec![vip("10.0.0.42")],
        ready: vec![(vip("10.0.0.43"), epoch(8))],
    }
}

fn entry() -> Entry {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let member = |address, role| Member { address, role };
    Entry {
        id: EntryId { term: 5, index: 3 },
        cluster: 0xc1,
        members: BTreeMap::from([
            (name("n1"), member(at("192.0.2.1:7373"), MemberRole::Voter)),
            (name("n2"), member(at("192.0.2.2:7373"), MemberRole::Learner)),
            (name("n3"), member(at("[2001:db8::3]:7373"), MemberRole::Witness)),
        ]),
        before: Some(BTreeSet::from([name("n1"), name("n3")])),
        longest: Duration::from_millis(120),
        wishes: Wishes {
            drained: BTreeSet::from([name("n2")]),
            placed: BTreeMap::from([(vip("10.0.0.42"), name("n1"))]),
        },
    }
}

fn asks(it: &mut Message) {
    let ask = |binding| RaftCall::AskVote {
        term: 6,
        last: EntryId { term: 5, index: 3 },
        binding,
        transfer: !binding,
    };
    it.raft = vec![ask(false), ask(true)];
}

fn votes(it: &mut Message) {
    let promised = |ip: &str, to: &str| Promised { vip: vip(ip), to: name(to), epoch: epoch(7) };
    let promises = vec![promised("10.0.0.42", "n2"), promised("fd00::42", "n3")];
    it.raft = vec![
        RaftCall::Vote { term: 6, binding: false, granted: false, promises: vec![] },
        RaftCall::Vote { term: 6, binding: true, granted: true, promises },
    ];
}

fn name(text: &str) -> NodeName {
    NodeName(text.into())
}

fn vip(text: &str) -> Vip {
    Vip(text.parse().unwrap())
}

fn epoch(count: u32) -> Epoch {
    Epoch { term: 5, count }
}
