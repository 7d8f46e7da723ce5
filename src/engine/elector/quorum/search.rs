//! An exhaustive search of the rules of promising and holding, on the voters and holders of
//! the product: every order in which datagrams, kernels, restarts and decisions can follow
//! each other, and never two kernels that answer for the VIP.
//!
//! **Network.** A hold, an answer, a release comes never, once or often, at any later time,
//! in any order. A datagram whose place is taken by a newer one is one that is lost from
//! there on. A receiver believes no datagram of a life of the sender that is over as far as
//! it knows, and no answer to an earlier life of its own; that is what its post sees to.
//!
//! **Raft** is not trusted: at any time any candidate believes that it is assigned, gives up,
//! and believes so again. Configurations come in any order that raft allows.
//!
//! **Restarts** come at any time. A process forgets what it promised and asked, and keeps its
//! configuration; what its kernel answers for outlives it, until the next process closes it.
//!
//! **What is left out** only forbids: more holders, for "two answer" speaks of pairs; older
//! releases of a life beside its latest; but for the cases with `old`, holds that are older than
//! what they could entitle to, or of before a release or a restart; and but for those with
//! `apart`, answers that come later than they could, or after a majority's.
//!
//! A state is known by its key: the least of those of its renamings (see `key.rs`).

mod calm;
mod cases;
mod kernel;
mod key;
mod members;
mod memo;
mod steps;
mod text;
mod walk;
pub(super) mod world;

pub use cases::{
    changing_voters, defects_not_found, faults_not_found, larger_cases, one_alone_is_entitled_soon,
    three_voters,
};
use memo::Memo;
use world::{Mark, PlainHolder, PlainVoter, SLOTS, Slot, State, World};

/// What is searched.
#[derive(Clone)]
struct Case {
    name: &'static str,
    nodes: usize,
    /// Which nodes are candidates.
    holders: &'static [u8],
    /// The voters of each configuration, as bits.
    configs: &'static [u8],
    members: Steps,
    /// Holds of each holder that can be on their way.
    slots: usize,
    /// How long a promise is.
    ticks: u8,
    /// The kernel is asked through its queue, else it does at once what it is told.
    kernel: bool,
    /// Which nodes restart, as bits.
    restarts: u8,
    /// Orderly stops that say what was promised.
    farewells: bool,
    /// How many decisions there are that voters may have heard of; 0: of none.
    epochs: u8,
    /// Voters keep holds that only a promise stands against.
    kept: bool,
    /// Holds are not forgotten when they are released, or older than what they entitle to.
    old: bool,
    /// Answers come when they like, not with the one that completes a majority.
    apart: bool,
    /// The configuration of each node, and whether the step before was waited for.
    begins: ([u8; world::NODES], bool),
    fault: Option<Fault>,
}

/// How configurations follow each other.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Steps {
    /// Not at all.
    Fixed,
    /// Each from the one before.
    Chain,
    /// Two from the first, by two leaders, of whom the second knows nothing of the other.
    Rival,
}

/// Mistakes outside the voter and the holder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    /// A process that starts uses the life of the one before.
    LifeUsedAgain,
    /// Datagrams of lives that are over are believed.
    DeadLifeBelieved,
    /// The holder counts its own word without asking its voter.
    OwnWordUnasked,
    /// It waits a tick less than what it may have promised.
    WaitTooShort,
    /// The leader changes the voters again at once.
    StepTooSoon,
}

/// A voter, whose hold comes to it, its configuration, and what it heard of decisions.
type Judged = (PlainVoter, usize, Slot, u8, (u8, u8));
/// A holder, what it sent, which of it is answered, its configuration, and whether that is
/// committed.
type Counted = (PlainHolder, [Slot; SLOTS], usize, u8, bool);

struct Search {
    case: Case,
    world: World,
    renamings: Vec<key::Renaming>,
    judgements: Memo<Judged, (PlainVoter, bool)>,
    reliefs: Memo<(PlainVoter, usize, Mark), PlainVoter>,
    counts: Memo<Counted, PlainHolder>,
}

impl Search {
    fn new(case: &Case) -> Self {
        let before = |at: usize| match case.members {
            Steps::Fixed => None,
            Steps::Chain => at.checked_sub(1).map(|it| it as u8),
            Steps::Rival => (at > 0).then_some(0),
        };
        let before: Vec<_> = (0..case.configs.len()).map(before).collect();
        let world = World::new(case.ticks, case.holders, case.configs, &before);
        Self {
            case: case.clone(),
            world,
            renamings: key::renamings(case),
            judgements: Memo::new(),
            reliefs: Memo::new(),
            counts: Memo::new(),
        }
    }

    fn start(&self) -> State {
        let mut start = State::default();
        let (configs, waited) = self.case.begins;
        for (node, config) in start.nodes.iter_mut().zip(configs) {
            node.config = config;
        }
        start.since = if waited { self.case.ticks + 1 } else { 0 };
        self.normalise(&mut start);
        start
    }

    fn is_fault(&self, fault: Fault) -> bool {
        self.case.fault == Some(fault)
    }

    fn node_of(&self, h: usize) -> usize {
        usize::from(self.case.holders[h])
    }

    /// The property, or what is wrong with the state.
    fn wrong(&self, state: &State) -> Option<&'static str> {
        if state.hands.iter().filter(|it| it.fence > 0).count() > 1 {
            return Some("two answer");
        }
        state.again.then_some("promised after its release")
    }
}
