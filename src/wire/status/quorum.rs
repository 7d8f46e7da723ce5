//! What there is to say of a quorum, for people.

use std::collections::BTreeMap;

use super::{one_line, span, table};
use crate::model::{
    Ailment, DiscoveryStatus, MemberStatus, NodeName, PlaceStatus, QuorumStatus, Role, Vip,
};

/// The members for people.
pub fn members(quorum: &QuorumStatus) -> String {
    let mut out = format!("{}; {}\n\n", leadership(quorum), quorum.tolerance);
    list(&mut out, quorum);
    out
}

/// One line a member.
pub(super) fn list(out: &mut String, quorum: &QuorumStatus) {
    let head = ["MEMBER", "ADDRESS", "ROLE", "HEARD", "ROUND TRIP", "VIPS", "CONDITION"];
    let rows = quorum.members.iter().map(|it| row(it, quorum)).collect();
    table(out, head.map(str::to_owned).into(), rows);
}

/// The members for machines.
pub fn members_json(quorum: &QuorumStatus) -> String {
    serde_json::to_string(&quorum.members).expect("plain values with string keys")
}

pub(super) fn headline(role: Role, quorum: &QuorumStatus) -> String {
    let me = &quorum.me;
    match role {
        Role::Follower | Role::Leader => leadership(quorum),
        Role::Standby => format!("{me} is not to carry anything; {}", leadership(quorum)),
        Role::Stopping => format!("{me} is stopping; {}", leadership(quorum)),
    }
}

pub(super) fn facts(quorum: &QuorumStatus) -> Vec<(&'static str, String)> {
    let committed = if quorum.committed { "committed" } else { "not known to be committed" };
    let entry = quorum.entry;
    let mut facts = vec![
        ("quorum", quorum.tolerance.clone()),
        ("votes", votes(quorum)),
        ("promises", promises(&quorum.promises)),
        ("entry", format!("{} of term {}, {committed}", entry.index, entry.term)),
        ("cluster", quorum.cluster.map_or("none yet".into(), |it| format!("{it:016x}"))),
    ];
    if let Some(it) = &quorum.discovery {
        facts.push(("discovery", one_line(&discovery(it))));
        facts.extend(it.refused.iter().map(|(from, codes)| {
            ("disbelieved", one_line(&format!("what comes from {from}: {}", counted(codes))))
        }));
    }
    facts.extend(quorum.record.iter().map(|it| ("Lease", it.clone())));
    facts.extend(quorum.nodes.iter().map(|it| ("Nodes", it.clone())));
    facts.extend(quorum.ill_because.iter().map(|it| ("ill", one_line(it))));
    facts.extend(quorum.strangers.iter().map(|(name, from)| {
        ("stranger", one_line(&format!("{name} at {from} has the key and is no member")))
    }));
    facts
}

/// Who is to carry the VIP, in which decision, for how long yet.
pub(super) fn place(it: Option<&PlaceStatus>) -> [String; 3] {
    let none = || "-".to_owned();
    let Some(PlaceStatus { holder, next, epoch, until_ms, .. }) = it else {
        return [none(), none(), none()];
    };
    let holder = holder.as_ref().map_or("nobody", |it| &*it.0);
    let holder = match next {
        Some(next) => format!("{holder}, next {next}"),
        None => holder.to_owned(),
    };
    [holder, epoch.clone(), until_ms.map_or_else(none, age)]
}

fn discovery(it: &DiscoveryStatus) -> String {
    let heard: Vec<_> = it.heard.keys().map(String::as_str).collect();
    match (&it.waiting, &it.link, &heard[..]) {
        (Some(waiting), ..) => waiting.clone(),
        (None, Some(link), []) => format!("hears nobody on {link}"),
        (None, Some(link), heard) => format!("hears {} on {link}", heard.join(", ")),
        (None, None, _) => "has no link".into(),
    }
}

fn counted(codes: &BTreeMap<String, u64>) -> String {
    let codes: Vec<_> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    codes.join(", ")
}

fn leadership(quorum: &QuorumStatus) -> String {
    let QuorumStatus { me, term, leader, .. } = quorum;
    match leader {
        Some(leader) if leader == me => format!("{me} leads in term {term}"),
        Some(leader) => format!("{me} follows {leader} in term {term}"),
        None => format!("{me} knows of no leader in term {term}"),
    }
}

fn votes(quorum: &QuorumStatus) -> String {
    let votes = quorum.members.iter().any(|it| it.name == quorum.me && it.role.votes());
    match &quorum.silent_because {
        Some(why) => format!("not yet: {why}"),
        None if votes => "yes".into(),
        None => "no: this node is not a voter".into(),
    }
}

fn promises(promises: &[(Vip, NodeName, u64)]) -> String {
    let each = |(vip, to, left): &(Vip, NodeName, u64)| {
        format!("{vip} to {to} for another {}", age(*left))
    };
    match promises {
        [] => "none".into(),
        some => some.iter().map(each).collect::<Vec<_>>().join(", "),
    }
}

fn row(it: &MemberStatus, quorum: &QuorumStatus) -> Vec<String> {
    let heard = match it.heard_ms_ago {
        _ if it.name == quorum.me => "this node".into(),
        Some(ago) => format!("{} ago", age(ago)),
        None => "never".into(),
    };
    let round_trip = it.round_trip_us.map_or("-".into(), |it| match it {
        ..10_000 => format!("{}.{:02} ms", it / 1_000, it % 1_000 / 10),
        _ => format!("{} ms", it / 1_000),
    });
    vec![
        it.name.to_string(),
        it.address.to_string(),
        it.role.word().into(),
        heard,
        round_trip,
        it.holds.to_string(),
        condition(it, quorum),
    ]
}

fn condition(it: &MemberStatus, quorum: &QuorumStatus) -> String {
    let told = it.name == quorum.me || it.heard_ms_ago.is_some();
    let leads = quorum.leader.as_ref() == Some(&it.name);
    let words = [
        leads.then(|| "leads".to_owned()),
        it.leaving.then(|| "leaving".to_owned()),
        it.drained.then(|| "drained".to_owned()),
    ];
    let mut words: Vec<_> = words.into_iter().flatten().collect();
    words.extend(it.ailments.iter().map(|it| ailment(*it).to_owned()));
    if words.is_empty() && told {
        words.push("well".into());
    }
    let bad: u64 = it.bad.values().fold(0, |sum, it| sum.saturating_add(*it));
    if bad > 0 {
        words.push(format!("bad datagrams from there: {}", counted(&it.bad)));
    }
    one_line(&words.join("; "))
}

fn ailment(it: Ailment) -> &'static str {
    match it {
        Ailment::Carrier => "no carrier",
        Ailment::Check => "its check command fails",
        Ailment::Health => "its API server does not answer",
        Ailment::Late => "its timers are late",
        Ailment::Store => "its store cannot be written",
    }
}

fn age(millis: u64) -> String {
    if millis < 1_000 { format!("{millis} ms") } else { span(millis) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{ApiStatus, EntryId, MemberRole, Status, tolerance};
    use crate::wire::status;

    #[test]
    fn the_text_of_a_quorum_says_who_carries_what_and_who_is_well() {
        let expected = "\
node-1 follows node-2 in term 7

VIP           STATE      LINK               HOLDER               EPOCH  GOOD FOR  WHY
10.0.0.42/32  answering  eth0               node-1               7.2    96 ms     it was there; last claimed by 02:00:00:00:00:01
fd00::42/128  absent     eth1 (no carrier)  node-2, next node-1  7.3    -         no-carrier: eth1 has no carrier; an operator said so

MEMBER  ADDRESS         ROLE     HEARD      ROUND TRIP  VIPS  CONDITION
node-1  10.0.0.1:10000  voter    this node  -           1     its API server does not answer
node-2  10.0.0.2:10000  voter    12 ms ago  0.41 ms     1     leads; drained
w       10.0.0.3:10000  witness  never      -           0     bad datagrams from there: key 3, replayed 1

quorum      one of 3 voters may be lost
votes       yes
promises    10.0.0.42 to node-1 for another 96 ms
entry       12 of term 6, committed
cluster     00000000000000ff
ill         https://127.0.0.1:6443/livez: refused
stranger    n9 at 10.0.0.9:10000 has the key and is no member
IPv4 fence  on
IPv6 fence  off: no nftables in this kernel
terms       2
noticed     2 claims of our VIPs by strangers
";
        let text = status::text(&example());
        assert_eq!(text, expected);
        let (_, table) = text.split_once("MEMBER").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let quorum = example().quorum.unwrap();
        let head = "node-1 follows node-2 in term 7; one of 3 voters may be lost\n\nMEMBER";
        assert_eq!(members(&quorum), format!("{head}{table}\n"));
        assert!(members_json(&quorum).starts_with("[{\"name\":\"node-1\""));
        assert_eq!(status::parse(&status::json(&example())), Ok(example()));
    }

    #[test]
    fn whom_a_member_finds_on_its_link_is_said() {
        let words = |it: &DiscoveryStatus| {
            let discovery = Some(it.clone());
            let quorum = QuorumStatus { discovery, ..example().quorum.unwrap() };
            let facts = facts(&quorum).into_iter();
            let of_it = facts.filter(|(what, _)| ["discovery", "disbelieved"].contains(what));
            of_it.map(|(what, text)| format!("{what}: {text}")).collect::<Vec<_>>()
        };
        let mut it = DiscoveryStatus { voters: 3, ..DiscoveryStatus::default() };
        assert_eq!(words(&it), ["discovery: has no link"]);
        it.link = Some(crate::model::LinkName("eth0".into()));
        assert_eq!(words(&it), ["discovery: hears nobody on eth0"]);
        it.heard = BTreeMap::from(["n2", "n3"].map(|it| (it.to_owned(), String::new())));
        assert_eq!(words(&it), ["discovery: hears n2, n3 on eth0"]);
        it.waiting = Some("waiting for 1 more member on eth0: heard n2".into());
        it.refused = BTreeMap::from([("10.0.0.9".into(), BTreeMap::from([("key".into(), 7)]))]);
        let expected = [
            "discovery: waiting for 1 more member on eth0: heard n2",
            "disbelieved: what comes from 10.0.0.9: key 7",
        ];
        assert_eq!(words(&it), expected);
    }

    #[test]
    fn who_leads_and_whether_it_votes_is_said() {
        let quorum = example().quorum.unwrap();
        let nobody = QuorumStatus { leader: None, ..quorum.clone() };
        let own = QuorumStatus { leader: Some(quorum.me.clone()), ..quorum.clone() };
        let table = [
            (Role::Leader, &own, "node-1 leads in term 7"),
            (Role::Follower, &nobody, "node-1 knows of no leader in term 7"),
            (Role::Stopping, &own, "node-1 is stopping; node-1 leads in term 7"),
            (
                Role::Standby,
                &quorum,
                "node-1 is not to carry anything; node-1 follows node-2 in term 7",
            ),
        ];
        for (role, quorum, words) in table {
            assert_eq!(headline(role, quorum), words);
        }
        let starting = QuorumStatus { silent_because: Some("it starts".into()), ..quorum.clone() };
        let outside = QuorumStatus { members: Vec::new(), ..quorum };
        assert_eq!(votes(&starting), "not yet: it starts");
        assert_eq!(votes(&outside), "no: this node is not a voter");
        assert_eq!(promises(&[]), "none");
        assert_eq!(place(None), ["-", "-", "-"]);
    }

    pub(crate) fn example() -> Status {
        let name = |it: &str| NodeName(it.into());
        let member = |it: &str, last, role, holds| MemberStatus {
            name: name(it),
            address: ([10, 0, 0, last], 10_000).into(),
            role,
            heard_ms_ago: None,
            round_trip_us: None,
            ailments: Vec::new(),
            leaving: false,
            drained: false,
            holds,
            bad: BTreeMap::new(),
        };
        let place =
            |vip: &str, holder: &str, next: Option<&str>, epoch: &str, why: &str| PlaceStatus {
                vip: Vip(vip.parse().unwrap()),
                holder: Some(name(holder)),
                next: next.map(name),
                epoch: epoch.into(),
                until_ms: (holder == "node-1").then_some(96),
                why: why.into(),
                code: None,
            };
        let quorum = QuorumStatus {
            me: name("node-1"),
            term: 7,
            leader: Some(name("node-2")),
            cluster: Some(255),
            entry: EntryId { term: 6, index: 12 },
            committed: true,
            silent_because: None,
            ill_because: vec!["https://127.0.0.1:6443/livez: refused".into()],
            strangers: BTreeMap::from([("n9".into(), "10.0.0.9:10000".into())]),
            members: vec![
                MemberStatus {
                    ailments: vec![Ailment::Health],
                    ..member("node-1", 1, MemberRole::Voter, 1)
                },
                MemberStatus {
                    heard_ms_ago: Some(12),
                    round_trip_us: Some(412),
                    drained: true,
                    ..member("node-2", 2, MemberRole::Voter, 1)
                },
                MemberStatus {
                    bad: BTreeMap::from([("key".into(), 3), ("replayed".into(), 1)]),
                    ..member("w", 3, MemberRole::Witness, 0)
                },
            ],
            vips: vec![
                place("10.0.0.42", "node-1", None, "7.2", "it was there"),
                place("fd00::42", "node-2", Some("node-1"), "7.3", "an operator said so"),
            ],
            discovery: None,
            tolerance: tolerance(3),
            promises: vec![(Vip([10, 0, 0, 42].into()), name("node-1"), 96)],
            record: None,
            nodes: None,
        };
        Status {
            lease: String::new(),
            role: Role::Follower,
            until_ms: None,
            api: ApiStatus::default(),
            quorum: Some(quorum),
            ..status::tests::example()
        }
    }
}
