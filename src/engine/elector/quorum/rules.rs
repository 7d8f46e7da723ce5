//! Each rule of promising and holding, as a table: what is said when, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::holder::Holder;
use super::voter::{Grounds, Voter};
use crate::model::{
    Assigned, Entry, EntryId, Epoch, Hold, HoldAnswer, HoldRefusal, Instant, Life, Member,
    MemberRole, NodeName, Released, Vip, Wishes,
};

/// Time is in milliseconds; D is 120 where a line says nothing else; A1 is the first life of
/// A; 1.2 is an epoch; c2 is a configuration, c1 that of the voter at first.
const VOTER: &[&str] = &[
    "# A promise is for D from when the hold came
     0    A1 hold 1 of 1.1              : promised
     50   B1 hold 1 of 1.2              : promised-to-another 70
     119  B1 hold 2 of 1.2              : promised-to-another 1
     119  due                           : -
     120  due                           : B 2 promised",
    "# A later hold of the same holder lengthens the promise, an earlier one is refused
     0    A1 hold 2 of 1.1              : promised
     30   A1 hold 1 of 1.1              : earlier
     30   A1 hold 3 of 1.1              : promised
     149  B1 hold 1 of 1.2              : promised-to-another 1
     150  B1 hold 2 of 1.2              : promised",
    "# A shorter hold does not shorten what is promised
     0    A1 hold 1 of 1.1              : promised
     10   A1 hold 2 of 1.1 for 20       : promised
     100  B1 hold 1 of 1.2              : promised-to-another 20",
    "# A release drops the promise, and what is kept is answered
     0    A1 hold 5 of 1.1              : promised
     10   B1 hold 1 of 1.2              : promised-to-another 110
     20   A1 released 5 of 1.1          : -
     20   due                           : B 1 promised",
    "# A voter that stopped in order goes on with what it had promised
     0    A1 hold 5 of 1.1              : promised
     10   restart                       : -
     10   B1 hold 1 of 1.2              : promised-to-another 110
     20   A1 released 5 of 1.1          : -
     20   due                           : B 1 promised",
    "# A release of an earlier hold drops nothing
     0    A1 hold 5 of 1.1              : promised
     10   A1 released 4 of 1.1          : -
     10   B1 hold 1 of 1.2              : promised-to-another 110",
    "# A release of another life drops nothing
     0    A2 hold 1 of 1.1              : promised
     10   A1 released 9 of 1.1          : -
     10   B1 hold 1 of 1.2              : promised-to-another 110",
    "# A release of somebody else drops nothing
     0    A1 hold 1 of 1.1              : promised
     10   B1 released 9 of 1.1          : -
     10   C1 hold 1 of 1.2              : promised-to-another 110",
    "# A hold that comes after its own release is refused
     0    A1 hold 5 of 1.1              : promised
     10   A1 released 5 of 1.1          : -
     20   A1 hold 4 of 1.1              : released
     20   A1 hold 5 of 1.1              : released
     20   A1 hold 6 of 1.3              : promised",
    "# What was kept is dropped with its own release
     0    A1 hold 1 of 1.1              : promised
     10   B1 hold 1 of 1.2              : promised-to-another 110
     20   B1 released 1 of 1.2          : -
     120  due                           : -",
    "# Of several that wait the highest epoch is kept
     0    A1 hold 1 of 1.1              : promised
     10   C1 hold 7 of 1.3              : promised-to-another 110
     20   B1 hold 8 of 1.2              : promised-to-another 100
     120  due                           : C 7 promised",
    "# What is kept is judged again when its time comes
     0    A1 hold 1 of 1.1              : promised
     10   B1 hold 1 of 1.2              : promised-to-another 110
     20   config c2                     : -
     120  due                           : B 1 old-config",
    "# The next life of a holder has what the last was promised
     0    A1 hold 9 of 1.1              : promised
     10   A2 lives                      : -
     10   A2 hold 1 of 1.2              : promised
     20   A1 released 9 of 1.1          : -
     20   B1 hold 1 of 1.3              : promised-to-another 110",
    "# A voter that has started waits for what it may have promised
     starts 120
     0    A1 hold 1 of 1.1              : starting 120
     119  A1 hold 2 of 1.1              : starting 1
     120  A1 hold 3 of 1.1              : promised",
    "# A voter without an entry promises nothing
     config none
     0    A1 hold 1 of 1.1              : starting 120",
    "# Only holds of the voter's configuration, or of a newer one
     config c2
     0    A1 hold 1 of 1.1              : old-config
     0    A1 hold 2 of 1.1 in c2        : promised
     10   A1 hold 3 of 1.1 in c3        : promised",
    "# No longer than the cluster allows
     0    A1 hold 1 of 1.1 for 121      : too-long
     0    A1 hold 2 of 1.1 for 120      : promised",
    "# A higher epoch of another holder refuses, one of the same does not
     assigned 2.1 to B
     0    A1 hold 1 of 1.9              : epoch
     0    B1 hold 1 of 2.1              : promised
     assigned 2.2 to B
     10   B1 hold 2 of 2.1              : promised",
];

#[test]
fn a_voter_promises_by_the_rules() {
    for table in VOTER {
        let mut bench = Bench::new();
        for line in table.lines().skip(1) {
            bench.line(table, line.trim());
        }
    }
}

struct Bench {
    voter: Voter,
    config: Option<EntryId>,
    assigned: BTreeMap<Vip, Assigned>,
}

impl Bench {
    fn new() -> Self {
        Self { voter: Voter::new(at(0)), config: Some(config("c1")), assigned: BTreeMap::new() }
    }

    fn line(&mut self, table: &str, line: &str) {
        let (said, expected) = line.split_once(" : ").unwrap_or((line, "-"));
        let words: Vec<_> = said.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let outcome = match words[..] {
            ["starts", _] => {
                self.voter = Voter::new(at(number(1)));
                "-".to_owned()
            }
            ["config", name] | [_, "config", name] => {
                self.config = (name != "none").then(|| config(name));
                "-".to_owned()
            }
            ["assigned", of, "to", holder] => {
                let holder = Some(NodeName(holder.into()));
                let it = Assigned { vip: vip(), epoch: epoch(of), holder, next: None };
                self.assigned.insert(vip(), it);
                "-".to_owned()
            }
            [_, "due"] => {
                let grounds = grounds(self.config, &self.assigned);
                let due = self.voter.due(at(number(0)), grounds);
                let due: Vec<_> =
                    due.iter().map(|(to, it)| format!("{to} {} {}", it.id, outcome(it))).collect();
                if due.is_empty() { "-".to_owned() } else { due.join(", ") }
            }
            [_, "restart"] => {
                let farewell = self.voter.farewell(0);
                self.voter = Voter::again(&farewell, at(number(0)) + Duration::from_millis(120));
                "-".to_owned()
            }
            [_, who, "lives"] => {
                let (name, life) = member(who);
                self.voter.on_new_life(&name, life);
                "-".to_owned()
            }
            [_, who, "released", _, "of", of] => {
                let (name, life) = member(who);
                let it = Released { vip: vip(), epoch: epoch(of), id: number(3) };
                self.voter.on_released(&name, life, &it);
                "-".to_owned()
            }
            [_, who, "hold", _, "of", of, ..] => {
                let (name, life) = member(who);
                let after = |word: &str| {
                    words.iter().position(|it| *it == word).map(|place| words[place + 1])
                };
                let length = after("for").map_or(120, |it| it.parse().expect("milliseconds"));
                let hold = Hold {
                    id: number(3),
                    config: config(after("in").unwrap_or("c1")),
                    length: Duration::from_millis(length),
                    vips: vec![(vip(), epoch(of))],
                    urgent: false,
                };
                let grounds = grounds(self.config, &self.assigned);
                outcome(&self.voter.ask(at(number(0)), &name, life, &hold, grounds))
            }
            _ => panic!("{line}"),
        };
        assert_eq!(outcome, expected.trim(), "{line}\nin {table}");
    }
}

fn outcome(answer: &HoldAnswer) -> String {
    let mut text = String::new();
    for _ in &answer.acknowledged {
        text.push_str("promised");
    }
    for (_, refusal) in &answer.refused {
        let code = refusal.code();
        let _ = match refusal {
            HoldRefusal::Promised(left) => write!(text, "promised-to-another {}", left.as_millis()),
            HoldRefusal::Starting(left) => write!(text, "starting {}", left.as_millis()),
            HoldRefusal::Earlier
            | HoldRefusal::Epoch(_)
            | HoldRefusal::OldConfig(_)
            | HoldRefusal::Released
            | HoldRefusal::TooLong(_) => write!(text, "{code}"),
        };
    }
    text
}

/// `ask` sends a hold and prints its number; `X acks N` is an answer; `until` is the right to
/// answer; D is 100, so that 84 of it count.
const HOLDER: &[&str] = &[
    "# The right is counted from before the hold was sent, once a majority promised
     want 1.1
     0    ask                           : 1
     1    A acks 1                      : none
     5    B acks 1                      : 84
     9    C acks 1                      : 84",
    "# A later majority lengthens it, an earlier one that comes late does not
     want 1.1
     0    ask                           : 1
     30   ask                           : 2
     40   A acks 2                      : none
     41   B acks 2                      : 114
     42   A acks 1                      : 114
     43   B acks 1                      : 114",
    "# It ends by itself
     want 1.1
     0    ask                           : 1
     1    A acks 1                      : none
     1    B acks 1                      : 84
     84   until                         : none",
    "# One voter twice is no majority
     want 1.1
     0    ask                           : 1
     1    A acks 1                      : none
     2    A acks 1                      : none",
    "# Who is no voter does not count
     want 1.1
     0    ask                           : 1
     1    X acks 1                      : none
     2    A acks 1                      : none
     3    Y acks 1                      : none",
    "# After the decision to give up, no acknowledgement counts
     want 1.1
     0    ask                           : 1
     1    A acks 1                      : none
     2    stop                          : none
     3    B acks 1                      : none
     4    silent                        : released 1 of 1.1
     5    B acks 1                      : none",
    "# What was sent before the release does not count when it is wanted again
     want 1.1
     0    ask                           : 1
     1    A acks 1                      : none
     2    stop                          : none
     3    silent                        : released 1 of 1.1
     want 1.3
     4    B acks 1                      : none
     5    ask                           : 2
     6    A acks 2                      : none
     7    B acks 2                      : 89",
    "# While it is being given up it is not wanted again
     want 1.1
     0    ask                           : 1
     2    stop                          : none
     want 1.3
     3    ask                           : nothing
     4    silent                        : released 1 of 1.1
     want 1.3
     5    ask                           : 2",
    "# After doubt only what is sent later counts
     want 1.1
     0    ask                           : 1
     1    A acks 1                      : none
     2    B acks 1                      : 84
     3    doubt                         : none
     4    C acks 1                      : none
     5    ask                           : 2
     6    A acks 2                      : none
     7    B acks 2                      : 89",
    "# A configuration that is not known to be committed needs the voters before as well
     joint
     want 1.1
     0    ask                           : 1
     1    A acks 1                      : none
     2    B acks 1                      : none
     3    D acks 1                      : 84",
    "# Answers to holds of another configuration do not count
     want 1.1
     0    ask                           : 1
     reconfigured
     1    A acks 1                      : none
     2    B acks 1                      : none",
];

#[test]
fn a_holder_counts_by_the_rules() {
    for table in HOLDER {
        let mut holder = Holder::default();
        let mut entry = three();
        let mut committed = true;
        for line in table.lines().skip(1).map(str::trim) {
            let (said, expected) = line.split_once(" : ").unwrap_or((line, "-"));
            let words: Vec<_> = said.split_whitespace().collect();
            let now = at(words[0].parse().unwrap_or_default());
            match words[..] {
                ["want", of] => {
                    holder.want(vip(), epoch(of));
                    continue;
                }
                ["joint"] => {
                    committed = false;
                    entry.before = Some(["B", "C", "D"].map(|it| NodeName(it.into())).into());
                    continue;
                }
                ["reconfigured"] => {
                    entry.id.index += 1;
                    continue;
                }
                _ => {}
            }
            let outcome = match words[1..] {
                ["ask"] => holder
                    .hold(now, entry.id, Duration::from_millis(100), Duration::ZERO)
                    .map_or("nothing".to_owned(), |it| it.id.to_string()),
                [from, "acks", id] => {
                    let id = id.parse().expect("a number");
                    let answer = HoldAnswer { id, acknowledged: vec![vip()], refused: vec![] };
                    holder.on_answer(now, &NodeName(from.into()), &answer, &entry, committed);
                    until(&holder, now)
                }
                ["stop"] => {
                    holder.stop(vip());
                    until(&holder, now)
                }
                ["doubt"] => {
                    holder.doubt();
                    until(&holder, now)
                }
                ["silent"] => {
                    holder.silent(now, vip());
                    let it = holder.released().next().expect("released");
                    format!("released {} of {}", it.id, it.epoch)
                }
                ["until"] => until(&holder, now),
                _ => panic!("{line}"),
            };
            assert_eq!(outcome, expected.trim(), "{line}\nin {table}");
        }
    }
}

#[test]
fn a_release_is_told_until_it_is_decided_anew_and_promised_by_nobody() {
    let mut holder = Holder::default();
    let d = Duration::from_millis(100);
    holder.want(vip(), epoch("1.1"));
    holder.hold(at(0), three().id, d, Duration::ZERO);
    holder.stop(vip());
    holder.silent(at(1), vip());
    holder.expire(at(500), d);
    assert_eq!(holder.released().count(), 1, "nobody decided anew");
    holder.on_epoch(vip(), epoch("1.2"));
    holder.expire(at(200), d);
    assert_eq!(holder.released().count(), 1, "voters may still hold a promise against it");
    holder.expire(at(201), d);
    assert_eq!(holder.released().count(), 0);
}

fn until(holder: &Holder, now: Instant) -> String {
    let until = holder.entitled_until(now, vip());
    until.map_or("none".to_owned(), |it| (it.as_nanos() / 1_000_000).to_string())
}

fn three() -> Entry {
    let member = |role| Member { address: ([10, 0, 0, 1], 1).into(), role };
    let members = [("A", MemberRole::Voter), ("B", MemberRole::Voter), ("C", MemberRole::Witness)];
    let learner = ("X", MemberRole::Learner);
    let members = members.into_iter().chain([learner]);
    Entry {
        id: config("c1"),
        cluster: 1,
        members: members.map(|(name, role)| (NodeName(name.into()), member(role))).collect(),
        before: None::<BTreeSet<_>>,
        longest: Duration::from_millis(120),
        wishes: Wishes::default(),
    }
}

fn grounds(config: Option<EntryId>, assigned: &BTreeMap<Vip, Assigned>) -> Grounds<'_> {
    Grounds { config, longest: Duration::from_millis(120), assigned }
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn vip() -> Vip {
    Vip([10, 0, 0, 42].into())
}

fn member(text: &str) -> (NodeName, Life) {
    let (name, life) = text.split_at(1);
    (NodeName(name.into()), Life(life.parse().expect("a life")))
}

fn epoch(text: &str) -> Epoch {
    let (term, count) = text.split_once('.').expect("an epoch");
    Epoch { term: term.parse().expect("a term"), count: count.parse().expect("a count") }
}

fn config(text: &str) -> EntryId {
    EntryId { term: 1, index: text[1..].parse().expect("a configuration") }
}
