//! Election and leases by a quorum of the members themselves: no API server is needed.
//!
//! ```text
//!   raft     who should carry what: the leader's assignment, in its heartbeats, never logged
//!   placer   what the leader decides
//!   holder   who may: this member's own lease of each VIP, by a majority's promises
//!   voter    what this member promised to others
//!   post     who is heard, and in which life
//!   ledger   what is on disk
//!   beside   the API server, where there is one: a record of who holds, members from Nodes
//! ```
//!
//! Safety does not rest on raft: whatever it decides, a majority promises a VIP to one holder
//! at a time. The leader's death therefore silences nobody.
//!
//! Members speak one datagram a heartbeat and peer. Followers beat when they hear the leader,
//! so that everything that is asked is answered by the next beat, and each member wakes
//! about three times a heartbeat in a cluster of three.

mod beside;
mod census;
mod config;
mod deciding;
mod discovery;
mod finding;
mod fitness;
mod forwarding;
mod hearing;
mod holder;
mod ledger;
mod placer;
mod post;
mod raft;
mod record;
#[cfg(test)]
mod rules;
#[cfg(feature = "sabotage")]
pub mod search;
mod speaking;
mod telling;
mod voter;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use beside::Beside;
pub use config::{DiscoverConfig, FailBack, ProbeRule, QuorumApi, QuorumConfig, QuorumTiming};
use deciding::Basis;
use discovery::Discovery;
use fitness::Fitness;
use forwarding::Forwarding;
use holder::Holder;
use placer::{Candidate, Placer};
use post::{Post, Received};
use raft::Raft;
use voter::Voter;

use super::super::agenda::Marks;
use super::super::network::Home;
use super::super::placement::{LINGER, Standing};
use super::super::{Cx, Deadline};
use crate::model::{
    Assigned, Entry, Envelope, Farewell, HoldAnswer, Instant, Life, Members, NodeName, Probe,
    Refusal, Report, Vip,
};

/// A VIP that is to be answered for next is there, silent, for at most so long.
const READY_FOR: Duration = Duration::from_secs(1);
/// What a leader decides may make it ready for more: once, and that it is so no more.
const ROUNDS: usize = 3;
/// How much longer than its right to answer an address may be there, behind a fence.
const OUTLIVES: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Quorum {
    me: NodeName,
    life: Life,
    timing: QuorumTiming,
    listed: Members,
    post: Post,
    raft: Raft,
    voter: Voter,
    holder: Holder,
    placer: Placer,
    fitness: Fitness,
    forwarding: Forwarding,
    /// Where members find each other.
    discovery: Option<Discovery>,
    /// Taken while Nodes are counted.
    beside: Option<Beside>,
    /// What each member said last, this one included.
    members: BTreeMap<NodeName, Candidate>,
    /// Who carries what, as last heard or decided.
    assigned: BTreeMap<Vip, Assigned>,
    /// VIPs that somebody is known to have had.
    taken: BTreeSet<Vip>,
    /// VIPs that are to be answered for here, and since when they wait for it.
    waiting: BTreeMap<Vip, Instant>,
    /// Answers that go with the next datagram.
    answers: BTreeMap<NodeName, Vec<HoldAnswer>>,
    /// Who is to hear from us before the next beat.
    hurried: BTreeSet<NodeName>,
    /// Something changed that all should hear at once.
    news: bool,
    /// How late the last timer was: others are suspected so much later.
    lateness: Duration,
    beaten_at: Instant,
    beat_at: Instant,
    report: Report,
    leads: bool,
    /// Somebody is there to lead or carry after us.
    heir: bool,
    started_at: Instant,
    /// No earlier life said what it had promised.
    forgot: bool,
    terms: u64,
    said_farewell: bool,
    /// VIPs whose standing may be other than when this was last taken.
    pub touched: Marks,
    /// What all VIPs were last settled by, and that something else happened since.
    basis: Basis,
    unsettled: bool,
    /// Why what is not held is not.
    grounds: Grounds,
    /// When to decide again, as of the last time.
    due: Option<Deadline>,
}

/// What the refusals of all VIPs say alike.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Grounds {
    /// This member takes no part, and why.
    outside: Option<String>,
    /// How many voters answer.
    answered: usize,
    voters: usize,
}

/// The rest of the node, as far as the quorum cares.
pub(crate) struct Surroundings<'a> {
    /// What the settings ask for.
    pub wanted: &'a BTreeSet<Vip>,
    /// The one that they name first.
    pub first: Option<Vip>,
    /// What cannot be carried here.
    pub unable: &'a BTreeSet<Vip>,
    /// Some link that could carry something has a carrier.
    pub carrier: bool,
    /// The kernel is known not to answer for the VIP.
    pub silent: &'a dyn Fn(Vip) -> bool,
    /// The VIP is there and could be answered for at once.
    pub ready: &'a dyn Fn(Vip) -> bool,
    /// The link that others are to be found on, and this node's addresses there.
    pub home: &'a dyn Fn() -> Result<Home, Refusal>,
    /// The process was asked to stop.
    pub stopping: bool,
    /// It has been too long: nothing is waited for.
    pub giving_up: bool,
    /// What is wanted, what cannot be carried or how it stops is other than it was.
    pub changed: bool,
}

impl Quorum {
    /// Whether this member decides who carries what.
    pub fn is_leader(&self) -> bool {
        self.leads
    }

    pub fn new(
        config: &QuorumConfig,
        me: NodeName,
        now: Instant,
        rng: &mut crate::engine::Rng,
    ) -> Self {
        let timing = config.timing;
        let stored = config.stored.as_ref().ok().and_then(Option::as_ref);
        let longest =
            stored.and_then(|it| it.entry.as_ref()).map_or(timing.promise, |it| it.longest);
        // What an earlier life promised, it promised before now; if it said what that was,
        // there was nothing after.
        let voter = match &config.farewell {
            Some(it) => Voter::again(it, now + longest),
            None => Voter::new(now + longest),
        };
        let mut post = Post::new(me.clone(), config.life, timing.promise);
        let raft = Raft::new(me.clone(), config, now, rng);
        post.serve(now, &config.listed, false);
        if let Some(entry) = raft.entry() {
            post.serve(now, &entry.members, raft.is_committed());
        }
        Self {
            fitness: Fitness::new(config.health, config.check, timing.heartbeat, now),
            placer: Placer::new(timing, config.fail_back),
            voter,
            holder: Holder::default(),
            forwarding: Forwarding::default(),
            discovery: config
                .discover
                .as_ref()
                .map(|it| Discovery::new(me.clone(), config.life, it.clone(), now)),
            beside: config.api.as_ref().map(|it| Beside::new(it, &me, config.address, now)),
            me,
            life: config.life,
            timing,
            listed: config.listed.clone(),
            post,
            raft,
            members: BTreeMap::new(),
            assigned: BTreeMap::new(),
            taken: BTreeSet::new(),
            waiting: BTreeMap::new(),
            answers: BTreeMap::new(),
            hurried: BTreeSet::new(),
            news: false,
            lateness: Duration::ZERO,
            beaten_at: now,
            beat_at: now,
            report: Report::default(),
            leads: false,
            heir: false,
            started_at: now,
            forgot: config.farewell.is_none(),
            terms: 0,
            said_farewell: false,
            touched: Marks::default(),
            basis: Basis::default(),
            unsettled: true,
            grounds: Grounds::default(),
            due: None,
        }
    }

    pub fn on_peer(
        &mut self,
        cx: &mut Cx<'_>,
        address: SocketAddr,
        forwarded: bool,
        mut envelope: Envelope,
    ) {
        if let Some(hello) = envelope.hello.take() {
            if let Some(discovery) = &mut self.discovery {
                discovery.on_hello(cx.now, address, forwarded, &envelope, *hello);
            }
            if envelope.message.is_none() {
                return;
            }
        }
        let from = envelope.from.clone();
        match self.post.receive(cx.now, address, forwarded, envelope) {
            Received::Believed { message, life, fresh } => {
                if fresh {
                    self.voter.on_new_life(&from, life);
                    self.answers.remove(&from);
                    self.members.remove(&from);
                }
                self.on_message(cx, &from, life, *message);
            }
            Received::Introduced => drop(self.hurried.insert(from)),
            Received::Refused(_) => {}
        }
    }

    pub fn on_stored(&mut self, cx: &mut Cx<'_>, number: u64, failure: Option<String>) {
        let before = self.raft.newest();
        self.raft.on_stored(cx, number, failure);
        // What is held has to be asked for anew: of these voters, and by this configuration.
        self.news |= self.raft.newest() != before && self.holder.epochs().next().is_some();
    }

    pub fn on_probed(&mut self, now: Instant, probe: Probe, failure: Option<String>) {
        self.fitness.on_probed(now, probe, failure);
    }

    /// The process got to a timer so much later than it should. Returns whether that says
    /// something about this member.
    pub fn on_lateness(&mut self, now: Instant, late: Duration) -> bool {
        self.lateness = late;
        self.fitness.on_lateness(now, late)
    }

    /// Something speaks against what is held: it has to be promised anew.
    pub fn doubt(&mut self) {
        self.holder.doubt();
        self.touched.mark_all();
        (self.news, self.unsettled) = (true, true);
    }

    /// Everything that is decided in a turn, and said.
    pub fn decide(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) {
        if self.said_farewell {
            return;
        }
        self.decide_all(cx, around);
        let grounds = self.refusal_grounds(cx.now);
        if self.grounds != grounds {
            self.grounds = grounds;
            self.touched.mark_all();
        }
        self.due = self.next(cx.now);
    }

    fn decide_all(&mut self, cx: &mut Cx<'_>, around: &Surroundings<'_>) {
        self.fitness.tick(cx);
        self.raft.set_fit(self.report.may_lead());
        self.find(cx, around);
        let now = cx.now;
        self.raft.tick(cx, &|| self.voter.promises(now));
        if let Some(entry) = self.raft.entry() {
            let members = self.whereabouts(&entry.members);
            self.post.serve(cx.now, &members, self.raft.is_committed());
            // What an earlier life may have promised, if nothing is known of that.
            if self.forgot {
                self.voter.wait_until(self.started_at + entry.longest);
            }
        }
        self.heir = self.has_heir(cx.now);
        self.settle(cx, around);
        self.invite(cx);
        self.holder.expire(cx.now, self.timing.promise.max(LINGER / 2));
        self.answer_kept(cx.now);
        self.follow_nodes(cx);
        self.sort_answers(cx);
        self.speak(cx);
        self.keep_record(cx, around);
    }

    /// What the VIP is to be here.
    pub fn standing(&self, now: Instant, vip: Vip) -> Standing {
        if let Some(until) = self.holder.entitled_until(now, vip) {
            let first_claim = !self.taken.contains(&vip);
            return Standing::Entitled { until, outlives: OUTLIVES, first_claim };
        }
        let ready_until = self.waiting.get(&vip).map(|it| *it + READY_FOR);
        if let Some(until) = ready_until.filter(|it| now < *it) {
            return Standing::Preparing { until };
        }
        Standing::Refused(self.refusal(vip))
    }

    /// Since when the VIP has been given up here, if it was answered for before.
    pub fn retired_at(&self, now: Instant, vip: Vip) -> Option<Instant> {
        let closing = self.holder.has(vip) && self.holder.wants(vip).is_none();
        if closing { Some(now) } else { self.holder.released_at(vip) }
    }

    /// Whether this member may answer for anything.
    pub fn carries(&self, now: Instant) -> bool {
        self.holder.vips().any(|vip| self.holder.entitled_until(now, vip).is_some())
    }

    /// Whether nobody else could carry anything.
    pub fn is_alone(&self) -> bool {
        self.raft.entry().is_some_and(|it| it.members.len() == 1)
    }

    /// How often this member has led.
    pub fn terms(&self) -> u64 {
        self.terms
    }

    /// Whether nobody waits for anything from this member any more.
    pub fn is_retired(&self) -> bool {
        self.holder.vips().next().is_none() && (!self.leads || !self.heir)
    }

    /// What the next start of this boot should know; nothing is promised after it.
    pub fn farewell(&mut self) -> Farewell {
        self.said_farewell = true;
        self.due = None;
        self.voter.farewell(self.raft.retire())
    }

    /// When to decide again at the latest.
    pub fn deadline(&self) -> Option<Deadline> {
        self.due
    }

    fn next(&self, now: Instant) -> Option<Deadline> {
        let plain = |at, why| Deadline { at, why };
        let ready = self.waiting.values().map(|it| *it + READY_FOR).filter(|it| *it > now).min();
        [
            Some(plain(self.next_beat(now), "heartbeat")),
            self.raft.deadline(),
            self.fitness.deadline(),
            self.discovery.as_ref().and_then(Discovery::deadline),
            self.placer.deadline().filter(|_| self.leads).map(|at| plain(at, "placement")),
            self.voter.deadline().map(|at| plain(at, "a promise ends")),
            self.holder.first_end(now).map(|at| plain(at, "a right to answer ends")),
            ready.map(|at| plain(at, "readiness ends")),
            self.beside_deadline(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A member that was not heard for so long is taken for dead.
    fn suspicion(&self) -> Duration {
        self.timing.heartbeat * 3 + Duration::from_millis(10)
    }

    /// Whether this member takes part, or why not.
    fn belongs(&self, now: Instant) -> Result<(), String> {
        if let Some(why) = self.waits_for(now) {
            return Err(why);
        }
        let Some(entry) = self.raft.entry() else {
            let why = "this member belongs to no cluster yet";
            return Err(match self.beside.as_ref().and_then(Beside::waits_for) {
                Some(it) => format!("{why}: {it}"),
                None => why.to_owned(),
            });
        };
        match entry.members.contains_key(&self.me) {
            true => Ok(()),
            false => Err(format!("{} is no member of the cluster", self.me)),
        }
    }

    fn refusal_grounds(&self, now: Instant) -> Grounds {
        let voters = || self.raft.entry().into_iter().flat_map(Entry::voters);
        let suspicion = self.suspicion();
        let answers = |name: &&NodeName| {
            let heard = self.members.get(*name);
            **name == self.me || heard.is_some_and(|it| now < it.heard_at + suspicion)
        };
        let answered = voters().filter(answers).count();
        Grounds { outside: self.belongs(now).err(), answered, voters: voters().count() }
    }

    fn refusal(&self, vip: Vip) -> Refusal {
        let Grounds { outside, answered, voters } = &self.grounds;
        if let Some(why) = outside {
            return Refusal::NotMember { why: why.clone() };
        }
        if self.holder.wants(vip).is_some() {
            return Refusal::NoMajority { answered: *answered, voters: *voters };
        }
        let holder = self.assigned.get(&vip).and_then(|it| it.holder.clone());
        Refusal::NotAssigned { holder: holder.filter(|it| *it != self.me) }
    }
}
