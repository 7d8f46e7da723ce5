//! What a state of the search consists of, and what stays the same in all states of a case.
//!
//! **Time.** Clocks use up the bound exactly: a voter's tick is 25 ns of its clock, a
//! holder's 21 ns of its own, and a promise of k ticks is asked for as 25 k ns. A voter keeps
//! it for k of its ticks, and a holder trusts 0.84 of it, k of its ticks as well. Slower
//! voters and faster holders promise longer and trust shorter, which only forbids.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{
    Entry, EntryId, Epoch, Instant, Life, Member, MemberRole, NodeName, Vip, Wishes,
};

pub(crate) const NODES: usize = 5;
pub(crate) const HOLDERS: usize = 2;
pub(crate) const SLOTS: usize = 3;
pub(crate) const RELEASES: usize = 2;
pub(crate) const NAMES: [&str; NODES] = ["A", "B", "C", "D", "E"];

/// A life that nothing on its way is of any more.
pub(crate) const DEAD: u8 = 7;

/// Everything at one moment. Times are from now, lives are counted back from the current.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct State {
    pub nodes: [Node; NODES],
    pub hands: [Hand; HOLDERS],
    /// Since when the first step is committed, in ticks and one.
    pub since: u8,
    /// A leader was elected who knows nothing of the first step.
    pub elected: bool,
    /// A voter promised what its holder had released, as it knew.
    pub again: bool,
}

/// A member: as a voter, with its disk and its post.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Node {
    pub voter: PlainVoter,
    /// The newest entry on its disk.
    pub config: u8,
    /// It voted for that other leader.
    pub term: bool,
    /// The latest life that it knows of each holder; datagrams of earlier ones are not believed.
    pub known: [u8; HOLDERS],
    /// The assignment that it heard: the epoch, and the holder's place.
    pub heard: (u8, u8),
}

/// A candidate: as a holder, with its kernel, and what it sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Hand {
    pub holder: PlainHolder,
    /// The process has started, and has not yet closed what an earlier one opened.
    pub booting: bool,
    /// The kernel answers for so many ticks.
    pub fence: u8,
    /// The kernel said that it answers no more.
    pub closed: bool,
    /// What the kernel has to do: 1 closes, 2 + n opens for n ticks.
    pub queue: [u8; 2],
    /// Holds that are on their way, and their answers.
    pub slots: [Slot; SLOTS],
    /// Releases that are on their way.
    pub releases: [Mark; RELEASES],
}

/// A hold and its answers, each of which comes never, once, or often.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Slot {
    pub life: u8,
    /// 0: there is none.
    pub id: u8,
    pub age: u8,
    pub config: u8,
    pub epoch: u8,
    /// Who acknowledged it.
    pub acks: u8,
    /// The process that runs sent it.
    pub ours: bool,
}

/// Up to which hold of which life; 0: none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Mark {
    pub life: u8,
    pub id: u8,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct PlainVoter {
    pub promise: PlainPromise,
    pub kept: PlainKept,
    pub marks: [Mark; HOLDERS],
    pub wait: u8,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct PlainPromise {
    /// The holder's place and one.
    pub to: u8,
    pub life: u8,
    pub id: u8,
    pub epoch: u8,
    pub left: u8,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct PlainKept {
    /// The holder's place and one.
    pub from: u8,
    pub life: u8,
    pub id: u8,
    pub epoch: u8,
    pub config: u8,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct PlainHolder {
    /// 0 nothing, 1 wanted, 2 closing.
    pub state: u8,
    pub epoch: u8,
    pub after: u8,
    pub last: u8,
    pub left: u8,
    pub last_id: u8,
}

/// Names and entries of a case.
pub(crate) struct World {
    pub length: Duration,
    names: Vec<NodeName>,
    holders: &'static [u8],
    pub entries: Vec<Entry>,
}

impl World {
    /// `configs`: the voters of each entry as bits; `before`: the entry whose voters are
    /// needed as well until it is committed.
    pub fn new(ticks: u8, holders: &'static [u8], configs: &[u8], before: &[Option<u8>]) -> Self {
        let length = Clock::VOTER.tick() * u32::from(ticks);
        let names: Vec<_> = NAMES.iter().map(|it| NodeName((*it).into())).collect();
        let voters = |set: u8| -> BTreeSet<NodeName> {
            (0..NODES).filter(|n| set >> n & 1 == 1).map(|n| names[n].clone()).collect()
        };
        let member = |role| Member { address: ([10, 0, 0, 1], 1).into(), role };
        let entries = configs.iter().enumerate().map(|(at, set)| {
            let ours = voters(*set);
            let role = |it: &NodeName| match ours.contains(it) {
                true => MemberRole::Voter,
                false => MemberRole::Learner,
            };
            Entry {
                id: config(at as u8),
                cluster: 1,
                members: names.iter().map(|it| (it.clone(), member(role(it)))).collect(),
                before: before[at].map(|it| voters(configs[usize::from(it)])),
                longest: length,
                wishes: Wishes::default(),
            }
        });
        let entries = entries.collect();
        Self { length, names, holders, entries }
    }

    pub fn name(&self, node: usize) -> &NodeName {
        &self.names[node]
    }

    pub fn holder(&self, place: u8) -> &NodeName {
        &self.names[usize::from(self.holders[usize::from(place)])]
    }

    pub fn place(&self, name: &NodeName) -> u8 {
        let place = self.holders.iter().position(|it| self.names[usize::from(*it)] == *name);
        place.expect("a holder") as u8
    }
}

/// A clock at the bound.
#[derive(Clone, Copy)]
pub(crate) struct Clock(u64);

impl Clock {
    pub const VOTER: Self = Self(25);
    pub const HOLDER: Self = Self(21);
    const NOW: u64 = 1_000;

    pub fn tick(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub fn now(self) -> Instant {
        Instant::from_nanos(Self::NOW * self.0)
    }

    pub fn in_ticks(self, ticks: u8) -> Instant {
        self.now() + self.tick() * u32::from(ticks)
    }

    pub fn ticks_ago(self, ticks: u8) -> Instant {
        self.now() - self.tick() * u32::from(ticks)
    }

    /// At the first tick that is not before `at` it is over.
    pub fn ticks_until(self, at: Instant) -> u8 {
        (at.saturating_since(self.now()).as_nanos() as u64).div_ceil(self.0) as u8
    }
}

/// Lives are told apart and ordered, no more.
pub(crate) fn life(ago: u8) -> Life {
    Life(100 - u64::from(ago))
}

pub(crate) fn life_of(life: Life) -> u8 {
    (100 - life.0) as u8
}

pub(crate) fn epoch(count: u8) -> Epoch {
    Epoch { term: 1, count: count.into() }
}

pub(crate) fn config(place: u8) -> EntryId {
    EntryId { term: 1, index: u64::from(place) + 1 }
}

pub(crate) fn config_of(id: EntryId) -> u8 {
    (id.index - 1) as u8
}

pub(crate) fn vip() -> Vip {
    Vip([10, 0, 0, 42].into())
}
