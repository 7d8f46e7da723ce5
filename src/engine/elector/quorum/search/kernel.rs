//! What a holder does with answers, and its kernel: opening, closing, and releasing.

use super::Search;
use super::text::Act;
use super::world::{Clock, Mark, RELEASES, State, vip};
use crate::engine::elector::quorum::holder::Holder;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::HoldAnswer;

const CLOSE: u8 = 1;
const OPEN: u8 = 2;

impl Search {
    /// The answers to a hold come.
    pub(super) fn answers(&self, s: &State, h: usize, slot: usize, out: &mut Vec<(Act, State)>) {
        let ago = s.hands[h].slots[slot].age;
        if let Some((left, t)) = self.counted(s, h, slot) {
            self.push(out, s, Act::Answers { to: self.node_of(h), ago, left }, t);
        }
    }

    /// What the holder makes of all answers to a hold, if they entitle it any longer. Fewer
    /// of them, or the same ones apart, would make no more of it.
    pub(super) fn counted(&self, s: &State, h: usize, slot: usize) -> Option<(u8, State)> {
        let (hand, node) = (&s.hands[h], self.node_of(h));
        let asked = hand.slots[slot];
        if asked.id == 0 || asked.life > 0 {
            return None;
        }
        let same = hand.slots.iter().filter(|it| (it.life, it.id) == (0, asked.id));
        let acks = same.fold(0, |set, it| set | it.acks);
        let config = s.nodes[node].config;
        let entry = &self.world.entries[usize::from(config)];
        let committed = self.is_committed(s, config);
        let mut slots = hand.slots;
        slots.iter_mut().for_each(|it| it.acks = 0);
        slots[slot].acks = acks;
        let question = (hand.holder, slots, slot, config, committed);
        let before = hand.holder;
        let after = self.counts.answer(question, || {
            let mut holder = Holder::from_plain(&before, &slots, &self.world);
            for v in (0..self.case.nodes).filter(|v| acks >> v & 1 == 1) {
                let answer =
                    HoldAnswer { id: asked.id.into(), acknowledged: vec![vip()], refused: vec![] };
                let now = Clock::HOLDER.now();
                holder.on_answer(now, self.world.name(v), &answer, entry, committed);
            }
            holder.plain()
        });
        if after.left <= before.left {
            return None;
        }
        let mut t = *s;
        let hand = &mut t.hands[h];
        hand.holder = after;
        if self.case.kernel {
            *hand.queue.iter_mut().find(|it| **it == 0)? = OPEN + after.left;
        } else {
            hand.fence = after.left;
        }
        Some((after.left, t))
    }

    /// A holder gives up: it is assigned no more, or is asked to stop.
    pub(super) fn stop(&self, s: &State, h: usize, out: &mut Vec<(Act, State)>) {
        let hand = &s.hands[h];
        if hand.holder.state != 1 {
            return;
        }
        let mut holder = Holder::from_plain(&hand.holder, &hand.slots, &self.world);
        holder.stop(vip());
        let mut t = *s;
        t.hands[h].holder = holder.plain();
        if self.case.kernel {
            let Some(free) = t.hands[h].queue.iter_mut().find(|it| **it == 0) else {
                return;
            };
            *free = CLOSE;
            t.hands[h].closed = false;
        } else {
            t.hands[h].fence = 0;
            self.release(&mut t, h);
        }
        if !self.case.old {
            t.hands[h].slots = Default::default();
        }
        self.push(out, s, Act::Stop(self.node_of(h)), t);
    }

    /// The one thread that speaks to the kernel: in order, and as late as it likes.
    pub(super) fn kernel(&self, s: &State, h: usize, out: &mut Vec<(Act, State)>) {
        let (hand, node) = (&s.hands[h], self.node_of(h));
        if hand.booting {
            let mut t = *s;
            (t.hands[h].booting, t.hands[h].fence) = (false, 0);
            self.push(out, s, Act::Boot(node), t);
        }
        let order = hand.queue[0];
        if order > 0 {
            let mut t = *s;
            let hand = &mut t.hands[h];
            (hand.fence, hand.closed) = match order {
                CLOSE => (0, true),
                open => (open - OPEN, hand.closed && open == OPEN),
            };
            hand.queue = [hand.queue[1], 0];
            self.push(out, s, Act::Kernel(node, order), t);
        }
        let quiet = hand.closed || sabotaged(Sabotage::ReleasedBeforeQuiet);
        if self.case.kernel && hand.holder.state == 2 && quiet {
            let mut t = *s;
            self.release(&mut t, h);
            t.hands[h].closed = false;
            self.push(out, s, Act::Silent(node), t);
        }
    }

    fn release(&self, t: &mut State, h: usize) {
        let hand = &mut t.hands[h];
        let mut holder = Holder::from_plain(&hand.holder, &hand.slots, &self.world);
        holder.silent(Clock::HOLDER.now(), vip());
        hand.holder = holder.plain();
        let Some(id) = holder.released().next().map(|it| it.id as u8) else {
            return;
        };
        let newest = Mark { life: 0, id };
        let place = hand.releases.iter().position(|it| it.id == 0 || it.life == 0);
        hand.releases[place.unwrap_or(RELEASES - 1)] = newest;
    }
}
