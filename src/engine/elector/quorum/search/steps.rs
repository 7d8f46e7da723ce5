//! Everything that may happen next; here, time and datagrams.

use std::collections::BTreeMap;

use super::text::Act;
use super::world::{
    Clock, Node, PlainKept, PlainPromise, PlainVoter, Slot, State, config, epoch, life, vip,
};
use super::{Fault, Search, Steps};
use crate::engine::elector::quorum::holder::Holder;
use crate::engine::elector::quorum::voter::{Grounds, Voter};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Assigned, Hold, Released, Vip};

impl Search {
    /// All that may happen, and what comes of it.
    pub(super) fn next(&self, state: &State, out: &mut Vec<(Act, State)>) {
        out.clear();
        self.push(out, state, Act::Tick, self.tick(*state));
        for h in 0..self.case.holders.len() {
            for count in self.case.epochs.min(1)..=self.case.epochs {
                self.ask(state, h, count, out);
            }
            for slot in 0..self.case.slots {
                self.hold(state, h, slot, out);
                self.answers(state, h, slot, out);
            }
            self.stop(state, h, out);
            self.kernel(state, h, out);
            self.releases(state, h, out);
        }
        for n in 0..self.case.nodes {
            self.due(state, n, out);
            self.restart(state, n, out);
            self.append(state, n, out);
            self.hear(state, n, out);
        }
        self.elect(state, out);
    }

    pub(super) fn push(
        &self,
        out: &mut Vec<(Act, State)>,
        before: &State,
        act: Act,
        mut it: State,
    ) {
        self.normalise(&mut it);
        if self.case.members == Steps::Chain && it.since == 0 && self.is_committed(&it, 1) {
            it.since = 1;
        }
        if it != *before {
            out.push((act, it));
        }
    }

    pub(super) fn tick(&self, mut s: State) -> State {
        for Node { voter, .. } in &mut s.nodes {
            voter.wait = voter.wait.saturating_sub(1);
            voter.promise.left = voter.promise.left.saturating_sub(1);
            if voter.promise.left == 0 {
                voter.promise = PlainPromise::default();
            }
        }
        for hand in &mut s.hands {
            hand.fence = hand.fence.saturating_sub(1);
            hand.holder.left = hand.holder.left.saturating_sub(1);
            hand.queue.iter_mut().filter(|it| **it > 2).for_each(|it| *it -= 1);
            for it in hand.slots.iter_mut().filter(|it| it.id > 0) {
                it.age = (it.age + 1).min(self.case.ticks);
            }
        }
        if s.since > 0 && s.since <= self.case.ticks {
            s.since += 1;
        }
        s
    }

    /// A candidate believes itself assigned in this epoch, and asks.
    pub(super) fn ask(&self, s: &State, h: usize, count: u8, out: &mut Vec<(Act, State)>) {
        let hand = &s.hands[h];
        if hand.booting {
            return;
        }
        let node = self.node_of(h);
        let entry = &self.world.entries[usize::from(s.nodes[node].config)];
        let mut holder = Holder::from_plain(&hand.holder, &hand.slots, &self.world);
        holder.want(vip(), epoch(count));
        let (now, length) = (Clock::HOLDER.now(), self.world.length);
        let Some(hold) = holder.hold(now, entry.id, length, length) else {
            return;
        };
        let slot = Slot {
            life: 0,
            id: hold.id as u8,
            age: 0,
            config: s.nodes[node].config,
            epoch: hold.vips.first().map_or(0, |it| it.1.count as u8),
            acks: u8::from(self.is_fault(Fault::OwnWordUnasked)) << node,
            ours: true,
        };
        let is_such = |it: &Slot| Slot { id: slot.id, ..*it } == slot && it.id > hand.holder.after;
        if hand.slots.iter().any(is_such) {
            return;
        }
        let places = &hand.slots[..self.case.slots];
        let free = places.iter().position(|it| it.id == 0);
        for place in free.map_or(0..self.case.slots, |it| it..it + 1) {
            let mut t = *s;
            t.hands[h].holder = holder.plain();
            t.hands[h].slots[place] = slot;
            self.push(out, s, Act::Ask(node, slot.epoch), t);
        }
    }

    /// A hold comes to the voters.
    pub(super) fn hold(&self, s: &State, h: usize, slot: usize, out: &mut Vec<(Act, State)>) {
        let it = s.hands[h].slots[slot];
        if it.id == 0 {
            return;
        }
        let node = self.node_of(h);
        for v in 0..self.case.nodes {
            let voters =
                self.asked(it.config) | u8::from(sabotaged(Sabotage::LearnerCounted)) << node;
            if voters >> v & 1 == 0 {
                continue;
            }
            let mut t = *s;
            if !self.is_believed(&mut t, h, v, it.life) {
                continue;
            }
            let node_v = t.nodes[v];
            let question =
                (node_v.voter, h, Slot { acks: 0, age: 0, ..it }, node_v.config, node_v.heard);
            let judge = || self.judge(&node_v, node, it);
            let (voter, promised) = self.judgements.answer(question, judge);
            t.nodes[v].voter = voter;
            if promised {
                t.hands[h].slots[slot].acks |= 1 << v;
                let mark = t.nodes[v].voter.marks[h];
                t.again |= mark.id >= it.id && mark.life == it.life;
            }
            if promised
                && !self.case.apart
                && !self.case.kernel
                && let Some((_, counted)) = self.counted(&t, h, slot)
            {
                t = counted;
                t.hands[h].slots[slot] = Slot::default();
            }
            let earlier_life = it.life > 0;
            let act = Act::Hold { of: node, ago: it.age, at: v, promised, earlier_life };
            self.push(out, s, act, t);
        }
    }

    fn judge(&self, at: &Node, from: usize, it: Slot) -> (PlainVoter, bool) {
        let mut voter = Voter::from_plain(&at.voter, &self.world);
        let hold = Hold {
            id: it.id.into(),
            config: config(it.config),
            length: self.world.length,
            vips: vec![(vip(), epoch(it.epoch))],
            urgent: false,
        };
        let assigned = self.assigned(at);
        let (now, name) = (Clock::VOTER.now(), self.world.name(from));
        let answer = voter.ask(now, name, life(it.life), &hold, self.grounds(at, &assigned));
        let mut plain = voter.plain(&self.world);
        let same = Voter::from_plain(&plain, &self.world) == voter;
        assert!(same || cfg!(feature = "sabotage"), "{plain:?} is not all of {voter:?}");
        if !self.case.kept {
            plain.kept = PlainKept::default();
        }
        (plain, !answer.acknowledged.is_empty())
    }

    /// A voter answers what it kept.
    pub(super) fn due(&self, s: &State, v: usize, out: &mut Vec<(Act, State)>) {
        let kept = s.nodes[v].voter.kept;
        if kept.from == 0 {
            return;
        }
        let mut t = *s;
        let mut voter = Voter::from_plain(&s.nodes[v].voter, &self.world);
        let assigned = self.assigned(&s.nodes[v]);
        for (to, answer) in voter.due(Clock::VOTER.now(), self.grounds(&s.nodes[v], &assigned)) {
            let h = usize::from(self.world.place(&to));
            let is_meant = |it: &&mut Slot| u64::from(it.id) == answer.id && it.life == kept.life;
            if !answer.acknowledged.is_empty()
                && let Some(it) = t.hands[h].slots.iter_mut().find(is_meant)
            {
                it.acks |= 1 << v;
            }
        }
        t.nodes[v].voter = voter.plain(&self.world);
        let to = self.node_of(usize::from(kept.from) - 1);
        self.push(out, s, Act::Due { at: v, to }, t);
    }

    /// What was released is heard of.
    pub(super) fn releases(&self, s: &State, h: usize, out: &mut Vec<(Act, State)>) {
        let name = self.world.name(self.node_of(h));
        for mark in s.hands[h].releases.iter().filter(|it| it.id > 0) {
            for v in 0..self.case.nodes {
                let mut t = *s;
                if !self.is_believed(&mut t, h, v, mark.life) {
                    continue;
                }
                let before = t.nodes[v].voter;
                t.nodes[v].voter = self.reliefs.answer((before, h, *mark), || {
                    let mut voter = Voter::from_plain(&before, &self.world);
                    let it = Released { vip: vip(), epoch: epoch(1), id: mark.id.into() };
                    voter.on_released(name, life(mark.life), &it);
                    voter.plain(&self.world)
                });
                let earlier_life = mark.life > 0;
                let act = Act::Release { of: self.node_of(h), at: v, earlier_life };
                self.push(out, s, act, t);
            }
        }
    }

    /// Whether the voter believes a datagram of that life of the holder.
    fn is_believed(&self, t: &mut State, h: usize, v: usize, of: u8) -> bool {
        let node = &mut t.nodes[v];
        if of == node.known[h] {
            return true;
        }
        if of > node.known[h] && !self.is_fault(Fault::DeadLifeBelieved) {
            return false;
        }
        node.known[h] = of;
        let mut voter = Voter::from_plain(&node.voter, &self.world);
        voter.on_new_life(self.world.name(self.node_of(h)), life(of));
        node.voter = voter.plain(&self.world);
        true
    }

    fn assigned(&self, node: &Node) -> BTreeMap<Vip, Assigned> {
        let (count, place) = node.heard;
        let Some(place) = place.checked_sub(1) else {
            return BTreeMap::new();
        };
        let holder = Some(self.world.holder(place).clone());
        BTreeMap::from([(vip(), Assigned { vip: vip(), epoch: epoch(count), holder, next: None })])
    }

    fn grounds<'a>(&self, node: &Node, assigned: &'a BTreeMap<Vip, Assigned>) -> Grounds<'a> {
        Grounds { config: Some(config(node.config)), longest: self.world.length, assigned }
    }

    /// Whose word on a hold of this configuration can matter.
    fn asked(&self, config: u8) -> u8 {
        let before = match self.case.members {
            Steps::Fixed => config,
            Steps::Chain => config.saturating_sub(1),
            Steps::Rival => 0,
        };
        self.case.configs[usize::from(config)] | self.case.configs[usize::from(before)]
    }
}
