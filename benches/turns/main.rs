//! How long one turn of a node takes, by what happened and by how many VIPs there are; and what
//! the node keeps of each Service, in bytes and in pieces as they are asked for.
//!
//! `cargo bench --bench turns [-- lease|services|quorum]` prints microseconds: the median and the
//! longest of a kind, and how often its median turn asked for memory.

mod driver;
mod heap;
mod lease;
mod quorum;
mod services;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use edgevip::engine::{
    Action, AnnouncerConfig, Config, Election, Family, Input, LinkChoice, Node, Rng,
    ServicesConfig, WantedVip,
};
use edgevip::io::clock;
use edgevip::model::{
    Address, Author, Fences, Hardware, Heard, Instant, Link, LinkIndex, LinkKind, LinkName, Mac,
    NetworkChange, NodeName, Vip,
};

const LINK: LinkIndex = LinkIndex(2);
const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 9]);

fn main() {
    type Measure = fn(usize) -> Took;
    let elections = [
        ("lease", lease::measure as Measure, [1, 200, 10_000]),
        ("services", services::measure, [1, 200, 10_000]),
        ("quorum", quorum::measure, [1, 200, 2_000]),
    ];
    let chosen: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    println!(
        "{:34} {:>6} {:>8} {:>10} {:>10} {:>8}",
        "what", "VIPs", "turns", "median us", "longest us", "requests"
    );
    for (name, measure, sizes) in elections {
        if chosen.is_empty() || chosen.iter().any(|it| it == name) {
            sizes.into_iter().for_each(|vips| measure(vips).print(name, vips));
        }
    }
}

/// What turns took, by kind: how long, and how many requests for memory.
#[derive(Default)]
pub struct Took(BTreeMap<&'static str, Vec<(Duration, usize)>>);

impl Took {
    /// One turn, and the deadline that is asked for after each. `None`: nobody cares.
    pub fn turn(
        &mut self,
        node: &mut Node,
        now: Instant,
        kind: Option<&'static str>,
        input: Input,
    ) -> Vec<Action> {
        let (before, requests) = (clock::awake(), heap::requests());
        let actions: Vec<_> = node.handle(now, input).collect();
        std::hint::black_box(node.deadline());
        let took = (clock::awake() - before, heap::requests() - requests);
        if let Some(kind) = kind {
            self.0.entry(kind).or_default().push(took);
        }
        actions
    }

    fn print(mut self, election: &str, vips: usize) {
        for (kind, took) in &mut self.0 {
            took.sort();
            let micros = |it: Duration| it.as_nanos() as f64 / 1_000.0;
            let ((median, requests), (longest, _)) = (took[took.len() / 2], took[took.len() - 1]);
            let what = format!("{election}: {kind}");
            let (median, longest) = (micros(median), micros(longest));
            println!(
                "{what:34} {vips:6} {:8} {median:10.1} {longest:10.1} {requests:8}",
                took.len()
            );
        }
    }
}

pub(crate) fn vip(number: usize) -> Vip {
    Vip(Ipv4Addr::from(0x0a01_0000 + number as u32).into())
}

pub(crate) fn heard(vip: Vip) -> Input {
    Input::Heard(Heard { link: LINK, ip: vip.0, mac: STRANGER, probe: false })
}

/// A node that may use nftables, and has one link.
pub fn node(
    number: u8,
    vips: usize,
    election: Election,
    services: Option<ServicesConfig>,
    now: Instant,
) -> Node {
    let config = Config {
        me: NodeName(format!("n{number}").into()),
        author: Author { host: number.into(), life: 1 },
        election,
        vips: (0..vips).map(|it| WantedVip::Address(vip(it))).collect(),
        family: Family::First,
        lengths: (32, 128),
        link: LinkChoice::Named(LinkName("eth0".into())),
        announcer: AnnouncerConfig {
            refresh: Duration::from_secs(3),
            fences: Fences { v4: Ok(()), v6: Ok(()) },
        },
        skip_dad: false,
        preserve: false,
        label_node: false,
        services,
    };
    Node::new(config, Rng::from_seed(number.into()), now)
}

pub(crate) fn snapshot(number: u8) -> Input {
    let link = Link {
        index: LINK,
        name: LinkName("eth0".into()),
        mac: Some(Mac([2, 0, 0, 0, 0, number])),
        hardware: Hardware::Ethernet,
        up: true,
        carrier: true,
        kind: LinkKind::Other,
        ours: false,
    };
    let address =
        Address { link: LINK, ip: Ipv4Addr::new(10, 0, 0, number).into(), length: 8, ours: false };
    Input::Network(NetworkChange::Snapshot {
        links: vec![link],
        addresses: vec![address],
        default_link: Some(LINK),
    })
}
