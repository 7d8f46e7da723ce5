//! Layer 2: makes what the kernel has and answers equal to what placement wants.
//!
//! ```text
//!            Hold, open the fence, burst            close the fence
//!   absent ──────────────────────────────▶ answering ◀────────────▶ silent
//!      ▲                                        │    open, burst       │
//!      └────────── Remove, then Unfence ────────┴──────────────────────┘
//! ```
//!
//! All orders go to one kernel thread and are done in the order given, so this machine
//! needs to remember only the last order of each kind. An answer that comes for an older
//! one says nothing.
//!
//! Supported: RFC 826, RFC 5227 §2.1 (probing before the first claim of all), §2.3
//! (announcing), §2.4 (defending, by the leader only); RFC 4861 §7.2.6 (unsolicited
//! neighbour advertisements). Left out: RFC 5227 §2.4's yielding of the leader.

mod claim;
mod entry;
mod hearing;
mod held;
mod index;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use claim::{Claim, PROBE_AGAIN};
use entry::{Entry, KERNEL_AGAIN, Spot};
use hearing::Hearing;
use held::{Held, Part};
use index::{Index, Next, Share};

use super::agenda::Marks;
use super::network::Network;
use super::placement::{Placement, Wish};
use super::sabotage::{Sabotage, sabotaged};
use super::{Cx, Deadline};
use crate::model::{
    Address, Fences, Heard, Instant, KernelAnswer, KernelJob, LinkIndex, OrderId, Vip,
};

/// At most one confirmation by a claim of somebody else's in this time.
const DOUBT_EVERY: Duration = Duration::from_secs(1);

/// So many VIPs share an order to answer: what is ordered for another one meanwhile need not
/// wait for thousands.
const TOGETHER: usize = 256;
/// Of more VIPs than this, announcements are spread over the time between two, and what is
/// extended over a tenth of its time.
const MANY: usize = 256;
/// Of the VIPs whose time has come, so many are seen to in a turn, the most urgent first: what
/// happens meanwhile need not wait for thousands.
const A_TURN: usize = 256;

/// While so many orders wait for the kernel, nothing new is begun: what is held already has to be
/// extended in time, and does not queue behind thousands that begin.
const UNANSWERED: usize = 512;
/// The least time between two announcements that repeat what has been announced: of very many
/// VIPs each is repeated less often than is configured.
const APART: Duration = Duration::from_millis(2);

/// How to announce.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AnnouncerConfig {
    /// How often to announce after the burst.
    pub refresh: Duration,
    /// Which addresses the fence guards.
    pub fences: Fences,
}

#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    config: AnnouncerConfig,
    vips: BTreeMap<Vip, Box<Entry>>,
    index: Index,
    /// What would begin, and waits for the kernel to have done more of what was ordered before.
    queued: BTreeSet<Vip>,
    /// VIPs that something happened to since this was last taken.
    pub touched: Marks,
    hearing: Hearing,
    verify: Option<OrderId>,
    /// The kernel would not say whether the fence stands: ask again then.
    verify_at: Option<Instant>,
    doubted_at: Option<Instant>,
    pub conflicts: u64,
    pub readded_in_all: u64,
    pub fence_rebuilds: u64,
    pub fence_late: u64,
}

impl Announcer {
    pub fn new(config: AnnouncerConfig) -> Self {
        Self {
            config,
            vips: BTreeMap::new(),
            index: Index::default(),
            queued: BTreeSet::new(),
            touched: Marks::default(),
            hearing: Hearing::default(),
            verify: None,
            verify_at: None,
            doubted_at: None,
            conflicts: 0,
            readded_in_all: 0,
            fence_rebuilds: 0,
            fence_late: 0,
        }
    }

    pub fn refresh_every(&mut self, refresh: Duration) {
        self.config.refresh = refresh;
    }

    pub fn on_answer(&mut self, cx: &mut Cx<'_>, order: OrderId, answer: &KernelAnswer) {
        self.hearing.on_answer(cx.now, order, answer.refusal().is_some());
        if self.verify == Some(order) && answer.refusal().is_some() {
            self.verify_at = Some(cx.now + KERNEL_AGAIN);
        }
        match answer {
            KernelAnswer::FenceRebuilt => self.on_fence_rebuilt(),
            KernelAnswer::TooLate => self.fence_late += 1,
            KernelAnswer::Done
            | KernelAnswer::Failed(_)
            | KernelAnswer::NoLink
            | KernelAnswer::NotOurs(_) => {}
        }
        let alone = self.index.ordered(order);
        let concerned: Vec<_> = match answer.is_good() {
            true => alone.into_iter().collect(),
            // What the fence is told of many together is answered only if it was not done.
            false => {
                let opened = self.vips.iter().filter(|it| it.1.was_opened_by(order));
                alone.into_iter().chain(opened.map(|it| *it.0)).collect()
            }
        };
        for vip in concerned {
            self.change(vip, |it| it.on_answer(cx, vip, order, answer));
            self.touched.mark(vip);
        }
    }

    /// Looks whether the fence stands, if there is anything behind it.
    pub fn verify(&mut self, cx: &mut Cx<'_>) {
        self.verify_at = None;
        if !self.is_gone() {
            self.verify = Some(cx.order(KernelJob::VerifyFence));
        }
    }

    /// An address went from the kernel, and it was not us.
    pub fn on_address_gone(&mut self, now: Instant, gone: &Address) {
        if sabotaged(Sabotage::ReaddForgotten) {
            return;
        }
        if let Some(it) = self.vips.get_mut(&Vip(gone.ip)) {
            let is_meant = |held: &Held| (held.on.index, held.length) == (gone.link, gone.length);
            self.readded_in_all += u64::from(it.lose(now, is_meant));
            self.touched.mark(Vip(gone.ip));
        }
    }

    /// The kernel's addresses were read afresh.
    pub fn on_snapshot(&mut self, now: Instant, network: &Network) {
        for (vip, it) in &mut self.vips {
            let is_meant = |held: &Held| held.done && !network.has(held.on.index, *vip);
            self.readded_in_all += u64::from(it.lose(now, is_meant));
        }
        self.touched.mark_all();
    }

    /// A frame about a VIP. Returns whether leadership must be confirmed because of it.
    pub fn on_heard(&mut self, now: Instant, heard: &Heard) -> bool {
        let vip = Vip(heard.ip);
        let Some(it) = self.vips.get_mut(&vip) else {
            return false;
        };
        if let Claim::Asking { .. } = it.claimed {
            it.claimed = Claim::Taken { mac: heard.mac, again_at: now + PROBE_AGAIN };
            it.stranger = Some(heard.mac);
            self.touched.mark(vip);
            return false;
        }
        if heard.probe {
            return false;
        }
        if !it.is_open() {
            // Most of what is heard is about what others carry.
            if it.succeeded != it.held.is_some() {
                it.succeeded = it.held.is_some();
                self.touched.mark(vip);
            }
            return false;
        }
        self.conflicts += 1;
        it.stranger = Some(heard.mac);
        // Whose right is confirmed at once does not go silent in between.
        it.defend(now);
        self.touched.mark(vip);
        let due = self.doubted_at.is_none_or(|at| at + DOUBT_EVERY <= now);
        if due {
            self.doubted_at = Some(now);
            self.touched.mark_all();
        }
        due
    }

    /// Whether another node was heard to answer for the VIP since this one went silent.
    pub fn is_succeeded(&self, vip: Vip) -> bool {
        self.vips.get(&vip).is_some_and(|it| it.succeeded)
    }

    /// Every VIP that something is known of, wanted or not.
    pub fn vips(&self) -> impl Iterator<Item = Vip> + '_ {
        self.vips.keys().copied()
    }

    /// The VIPs whose own time has come, as many as are seen to in a turn.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = Vip> + '_ {
        self.index.due(now).take(A_TURN)
    }

    /// How many may begin.
    fn room(&self) -> usize {
        UNANSWERED.saturating_sub(self.index.unanswered())
    }

    /// The right to answer has grown: where there are few, all are looked at, and of many those
    /// that wait for it, some of them in this turn.
    pub fn prolonged(&mut self, now: Instant) -> Vec<Vip> {
        if self.vips.len() <= MANY {
            return self.vips().collect();
        }
        let starving: Vec<_> = self.index.starving().collect();
        starving.iter().skip(A_TURN).for_each(|it| self.look_at(*it, now));
        starving.into_iter().take(A_TURN).collect()
    }

    fn look_at(&mut self, vip: Vip, at: Instant) {
        if let Some(it) = self.vips.get_mut(&vip) {
            let next = Next { at: Some(at), ..it.next };
            self.index.expect(vip, it.next, next);
            it.next = next;
        }
    }

    /// Hears of these as well, on these links, although nobody is to have them yet.
    pub fn listen_also(&mut self, links: BTreeSet<LinkIndex>, vips: BTreeSet<Vip>) {
        self.hearing.listen_also(links, vips);
    }

    /// Makes the kernel equal to `placement`, as far as `vips` go: fences first, then
    /// addresses, then frames, so that a takeover is one batch and a frame never precedes
    /// its address.
    pub fn reconcile(&mut self, cx: &mut Cx<'_>, placement: &Placement, vips: &[Vip]) {
        for vip in vips {
            let placed = placement.get(*vip);
            let wanted_on = placed.and_then(|it| it.0.link());
            self.hearing.look_at(*vip, placed.is_some());
            if self.vips.get(vip).is_some_and(|it| it.wanted_on == wanted_on) {
                continue;
            }
            if placed.is_some() {
                let fenced = self.config.fences.guards(*vip);
                self.vips.entry(*vip).or_insert_with(|| Box::new(Entry::new(fenced)));
            }
            self.change(*vip, |it| it.wanted_on = wanted_on);
        }
        self.hearing.tell(cx, self.index.links(), placement);
        if self.verify_at.is_some_and(|it| it <= cx.now) {
            self.verify(cx);
        }
        let many = self.vips.len() > MANY;
        let mut room = self.room();
        let mut open = Vec::new();
        for vip in vips {
            self.queued.remove(vip);
            let waits = room == 0;
            let mut begins = false;
            self.change(*vip, |it| {
                it.forgive(cx.now);
                it.many = many;
                match placement.get(*vip).map_or(Wish::Absent, |it| it.0) {
                    Wish::Absent => it.remove(cx, *vip),
                    Wish::Silent { keep_until } => it.silence(cx, *vip, keep_until),
                    Wish::Prepare { on, length, keep_until } => {
                        it.prepare(cx, *vip, on, length, keep_until);
                    }
                    Wish::Answer { on, until, keep_until, ask_first, length } => {
                        it.move_away(cx, *vip, on, length);
                        begins = it.begins(cx.now);
                        if begins && waits {
                            return;
                        }
                        if it.claim(cx, *vip, on, until, ask_first)
                            && it.wants_gate(cx.now, until, keep_until)
                        {
                            open.push((*vip, until));
                        }
                    }
                }
            });
            room = room.saturating_sub(usize::from(begins));
            if begins && waits {
                self.queued.insert(*vip);
            }
        }
        self.open(cx, open);
        let refresh = self.config.refresh.max(APART * self.vips.len() as u32);
        for vip in vips {
            let placed = placement.get(*vip);
            let part = self.part_of(*vip);
            let Some(it) = self.vips.get_mut(vip) else {
                continue;
            };
            let waits = self.queued.contains(vip);
            if let Some((Wish::Answer { on, length, until, keep_until, .. }, _)) = placed
                && it.is_claimed()
                && !waits
            {
                let before = it.share();
                it.hold(cx, *vip, Spot { on: *on, length: *length, part }, *keep_until);
                it.announce(cx, *vip, *until, [part.share_of(refresh), refresh]);
                self.index.change(*vip, &before, &it.share());
            }
            let gone = placed.is_none() && it.is_gone();
            let next = if gone || waits { Next::default() } else { it.next(cx.now) };
            self.index.expect(*vip, it.next, next);
            it.next = next;
            if gone {
                self.forget(cx.now, *vip);
            }
        }
        let begin: Vec<_> = self.queued.iter().copied().take(self.room().min(A_TURN)).collect();
        begin.into_iter().for_each(|it| self.look_at(it, cx.now));
        // What has moved to another link needs the old one no more.
        self.hearing.tell(cx, self.index.links(), placement);
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let listen = self.hearing.again_at.map(|at| Deadline { at, why: "listen again" });
        let verify = self.verify_at.map(|at| Deadline { at, why: "verify the fence" });
        let own = self.index.first().map(|(at, vip)| {
            let whys = self.vips.get(&vip).into_iter().flat_map(|it| it.deadlines(at));
            let why = whys.min_by_key(|it| it.at).map_or("look again", |it| it.why);
            Deadline { at, why }
        });
        own.into_iter().chain(listen).chain(verify).min()
    }

    /// Everything of ours is silent, and we no longer know what is in the fence.
    fn on_fence_rebuilt(&mut self) {
        self.fence_rebuilds += 1;
        for (vip, it) in &mut self.vips {
            let before = it.share();
            it.on_fence_rebuilt();
            self.index.change(*vip, &before, &it.share());
        }
        self.touched.mark_all();
    }

    /// VIPs of one leadership share transactions.
    fn open(&mut self, cx: &mut Cx<'_>, mut open: Vec<(Vip, Instant)>) {
        open.sort_by_key(|(_, until)| *until);
        for group in open.chunk_by(|a, b| a.1 == b.1).flat_map(|it| it.chunks(TOGETHER)) {
            let Some((_, until)) = group.first().copied() else {
                continue;
            };
            let vips: Vec<_> = group.iter().map(|(vip, _)| *vip).collect();
            let order = cx.order(KernelJob::Answer { vips: vips.clone(), until });
            for vip in vips {
                let part = self.part_of(vip);
                self.change(vip, |it| it.opened(cx.now, until, order, part));
            }
        }
    }

    /// Lets something become of an entry, and tells the index.
    fn change(&mut self, vip: Vip, change: impl FnOnce(&mut Entry)) {
        if let Some(it) = self.vips.get_mut(&vip) {
            let before = it.share();
            change(it);
            self.index.change(vip, &before, &it.share());
        }
    }

    fn forget(&mut self, now: Instant, vip: Vip) {
        if let Some(it) = self.vips.remove(&vip) {
            self.index.change(vip, &it.share(), &Share::default());
        }
        if self.vips.len() == MANY {
            // They are few from now on.
            self.vips().collect::<Vec<_>>().into_iter().for_each(|it| self.look_at(it, now));
        }
    }

    fn part_of(&self, vip: Vip) -> Part {
        if self.vips.len() > MANY { Part::of(vip) } else { Part::default() }
    }
}
