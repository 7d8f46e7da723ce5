//! One member that is told what it hears, line by line, and what it says to that.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::*;

/// Plays a script and compares it with what comes of it.
pub(super) fn play(voters: u8, script: &str) {
    let mut bench = Bench::new(voters);
    let mut text = String::from("\n");
    for line in script.lines().filter(|it| it.starts_with(|c: char| c.is_ascii_digit())) {
        let said = bench.step(line);
        let _ = writeln!(text, "{line}");
        said.iter().for_each(|it| text += &format!("  {it}\n"));
    }
    assert!(text == script, "this comes of it:\n{text}");
}

pub(super) struct Bench {
    pub discovery: Discovery,
    pub home: Result<Home, Refusal>,
    pub cluster: Option<u64>,
    pub members: Members,
    pub counts: u64,
    pub last: (String, String, bool, BTreeMap<(IpAddr, &'static str), u64>),
}

impl Bench {
    pub fn new(voters: u8) -> Self {
        let config = DiscoverConfig { voters, port: 10_000, address: None, witness: false };
        let mut bench = Self {
            discovery: Discovery::new(name("n1"), life("1"), config, at("0")),
            home: Err(Refusal::NoLink { link: Some(LinkName("eth0".into())) }),
            cluster: None,
            members: Members::new(),
            counts: 0,
            last: Default::default(),
        };
        bench.home = bench.link(&["2", "10.0.0.1"]);
        bench
    }

    pub fn step(&mut self, line: &str) -> Vec<String> {
        let words: Vec<_> = line.split(' ').collect();
        let now = at(words[0]);
        match words[1] {
            "tick" => {}
            "link" => self.home = self.link(&words[2..]),
            "cluster" => {
                self.cluster = u64::from_str_radix(words[2], 16).ok();
                let members = words[4..].iter().map(|it| {
                    let address = SocketAddr::from(([10, 0, 0, number(it)], 10_000));
                    (name(it), Member { address, role: MemberRole::Voter })
                });
                self.members = members.collect();
            }
            who => self.hear(now, who, &words[2..]),
        }
        let mut said = self.tick(now);
        said.extend(self.changes(now));
        said
    }

    pub fn link(&self, words: &[&str]) -> Result<Home, Refusal> {
        let name = LinkName("eth0".into());
        let Ok(index) = words[0].parse() else {
            return Err(Refusal::NoLink { link: Some(name) });
        };
        let addresses: BTreeSet<_> = words[1..].iter().map(|it| it.parse().unwrap()).collect();
        Ok(Home { link: LinkIndex(index), name, addresses })
    }

    pub fn hear(&mut self, now: Instant, who: &str, words: &[&str]) {
        let (from, of_life) = person(who);
        let last = number(&from.0);
        self.counts += 1;
        let mut hello = Hello {
            address: SocketAddr::from(([10, 0, 0, last], 10_000)),
            witness: words.contains(&"witness"),
            voters: self.discovery.config.voters,
            cluster: None,
            hears: Company::new(),
            set: Company::new(),
            pledged: words.contains(&"pledged"),
        };
        let (mut count, mut source, mut list) = (100 + self.counts, None, "");
        for pair in words.windows(2) {
            match pair[0] {
                "at" => hello.address.set_ip(pair[1].parse().unwrap()),
                "cluster" => hello.cluster = Some(u64::from_str_radix(pair[1], 16).unwrap_or(0)),
                "count" => count = pair[1].parse().unwrap(),
                "founds" => hello.voters = pair[1].parse().unwrap(),
                "from" => source = Some(SocketAddr::new(pair[1].parse().unwrap(), 10_000)),
                _ => {}
            }
        }
        for word in words {
            match (*word, list) {
                ("hears" | "set", _) => list = word,
                (it, "hears") if it.contains('.') => hello.hears.extend([person(it)]),
                (it, "set") if it.contains('.') => hello.set.extend([person(it)]),
                _ => list = "",
            }
        }
        let source = source.unwrap_or(hello.address);
        let envelope =
            Envelope { from, life: of_life, echo: None, count, message: None, hello: None };
        self.discovery.on_hello(now, source, words.contains(&"forwarded"), &envelope, hello);
    }

    pub fn tick(&mut self, now: Instant) -> Vec<String> {
        let (mut out, mut next) = (Vec::new(), NextIds::default());
        let rng = &mut Rng::from_seed(1);
        let view = View {
            home: self.home.clone(),
            cluster: self.cluster,
            taking: false,
            members: self.cluster.map(|_| &self.members),
            committed: true,
        };
        let cx = &mut Cx { now, rng, out: &mut out, next: &mut next };
        self.discovery.tick(cx, &view);
        let done = cx.out.len();
        self.discovery.tick(cx, &view);
        assert_eq!(cx.out.len(), done, "a second tick does something");
        assert!(self.discovery.deadline().is_none_or(|it| it.at > now), "{:?}", self.discovery);
        out.iter().map(told).collect()
    }

    pub fn changes(&mut self, now: Instant) -> Vec<String> {
        let Self { discovery, last, cluster, .. } = self;
        let mut said = Vec::new();
        for (ip, codes) in &discovery.refused {
            for (code, count) in codes {
                if last.3.insert((*ip, code), *count) != Some(*count) {
                    said.push(format!("refused {ip}: {code}"));
                }
            }
        }
        if cluster.is_some() {
            return said;
        }
        let waits = discovery.waits_for(now);
        let company = names(discovery.company().into_keys());
        let pact = discovery.pact(now);
        if waits != last.0 {
            said.push(waits.clone());
        }
        let speaks = if last.1.is_empty() {
            company != "n1" && !company.is_empty()
        } else {
            company != last.1
        };
        let alone = pact.set.as_ref().is_some_and(|it| it.len() == 1) && !last.2;
        if speaks || alone {
            said.push(format!("speaks with {company}"));
            last.1 = company;
        }
        match (last.2, pact.armed, pact.set) {
            (false, true, Some(set)) => {
                said.push(format!("founds with {}", names(set.into_keys())))
            }
            (true, false, _) => said.push("founds no more".into()),
            _ => {}
        }
        (last.0, last.2) = (waits, pact.armed);
        said
    }

    pub fn entry(&self) -> Entry {
        Entry {
            id: EntryId { term: 1, index: 2 },
            cluster: 0xc1,
            members: self.members.clone(),
            before: None,
            longest: Duration::from_millis(120),
            wishes: Wishes::default(),
        }
    }
}

pub(super) fn told(action: &Action) -> String {
    match action {
        Action::Listen(Ear { address, group, .. }) => format!("listen at {address} and to {group}"),
        Action::Send { envelope, .. } => {
            let hello = envelope.hello.as_ref().expect("a hello");
            let list = |it: &Company| match it.is_empty() {
                true => "-".to_owned(),
                false => it.iter().map(shown).collect::<Vec<_>>().join(" "),
            };
            let pledged = if hello.pledged { ", pledged" } else { "" };
            let cluster = hello.cluster.map(|it| format!(", cluster {it:x}")).unwrap_or_default();
            let (hears, set) = (list(&hello.hears), list(&hello.set));
            format!("hello, hears {hears}, set {set}{pledged}{cluster}")
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn shown((name, life): (&NodeName, &Life)) -> String {
    format!("{name}.{}", char::from(life.0 as u8))
}

pub(super) fn names(all: impl Iterator<Item = NodeName>) -> String {
    all.map(|it| it.0).collect::<Vec<_>>().join(" ")
}

pub(super) fn name(it: &str) -> NodeName {
    NodeName(it.into())
}

pub(super) fn life(it: &str) -> Life {
    Life(u64::from(it.as_bytes()[0]))
}

pub(super) fn person(it: &str) -> (NodeName, Life) {
    let (who, of) = it.split_once('.').expect("a name and a life");
    (name(who), life(of))
}

pub(super) fn number(name: &str) -> u8 {
    name.trim_start_matches(char::is_alphabetic).parse().unwrap_or(99)
}

pub(super) fn at(millis: &str) -> Instant {
    Instant::from_nanos(1_000_000_000_000) + Duration::from_millis(millis.parse().unwrap())
}
