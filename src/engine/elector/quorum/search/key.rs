//! When two states are the same: numbers that nothing distinguishes are made equal, nodes
//! that play the same part are interchangeable, and what has no effect any more is gone.
//!
//! Numbers of holds are compared with each other and with those up to which something was
//! released, or does not count. So a limit is as good as the highest number below it, and a
//! promise's number as good as the next hold or limit above it.

use super::world::{
    DEAD, HOLDERS, Hand, Mark, NODES, Node, PlainHolder, RELEASES, SLOTS, Slot, State,
};
use super::{Case, Search, Steps};

/// Which node stands where, and which holder.
#[derive(Clone, Debug)]
pub(super) struct Renaming {
    /// The node that comes to each place.
    from: [usize; NODES],
    /// Where each node comes.
    to: [usize; NODES],
    /// The same for holders.
    hand_from: [usize; HOLDERS],
    hand_to: [usize; HOLDERS],
}

/// Renamings that change nothing: same configurations, holders stay holders.
pub(super) fn renamings(case: &Case) -> Vec<Renaming> {
    let mut orders = vec![];
    permute(&mut [0, 1, 2, 3, 4], case.nodes, &mut orders);
    let holders = case.holders.iter().fold(0u8, |set, n| set | 1 << n);
    orders.retain(|order| {
        let same = |set: u8| (0..case.nodes).all(|n| set >> n & 1 == set >> order[n] & 1);
        let led = case.members != Steps::Rival || order[0] == 0;
        led && same(holders) && same(case.restarts) && case.configs.iter().all(|set| same(*set))
    });
    let renamings = orders.into_iter().map(|from| {
        let mut it = Renaming { from, to: from, hand_from: [0, 1], hand_to: [0, 1] };
        (0..NODES).for_each(|n| it.to[from[n]] = n);
        for (h, node) in case.holders.iter().enumerate() {
            let old = usize::from(*node);
            let place = case.holders.iter().position(|n| usize::from(*n) == it.to[old]);
            let place = place.unwrap_or(h);
            (it.hand_to[h], it.hand_from[place]) = (place, h);
        }
        it
    });
    renamings.collect()
}

fn permute(order: &mut [usize; NODES], left: usize, all: &mut Vec<[usize; NODES]>) {
    if left <= 1 {
        return all.push(*order);
    }
    for i in 0..left {
        order.swap(i, left - 1);
        permute(order, left - 1, all);
        order.swap(i, left - 1);
    }
}

/// A few numbers, each of a life.
#[derive(Clone, Copy, Default)]
struct Numbers {
    all: [Mark; SLOTS + 2 * NODES + RELEASES + 1],
    len: usize,
}

impl Numbers {
    fn add(&mut self, life: u8, id: u8) {
        if id > 0 && !self.all[..self.len].contains(&Mark { life, id }) {
            self.all[self.len] = Mark { life, id };
            self.len += 1;
        }
    }

    fn of(&self, life: u8) -> impl Iterator<Item = u8> + '_ {
        self.all[..self.len].iter().filter(move |it| it.life == life).map(|it| it.id)
    }

    /// The highest that is not above; 0: none.
    fn floor(&self, life: u8, id: u8) -> u8 {
        self.of(life).filter(|it| *it <= id).max().unwrap_or(0)
    }

    /// Its place among those of its life, or one behind all.
    fn place(&self, life: u8, id: u8) -> u8 {
        if id == 0 { 0 } else { self.of(life).filter(|it| *it < id).count() as u8 + 1 }
    }
}

impl Search {
    /// Brings the state to the form that stands for all that are like it.
    pub(super) fn normalise(&self, state: &mut State) {
        for h in 0..self.case.holders.len() {
            if !self.case.old {
                for it in &mut state.hands[h].slots {
                    if it.life > 0 || it.age >= self.case.ticks {
                        *it = Slot::default();
                    }
                }
            }
            self.number(state, h);
            self.count_lives(state, h);
            state.hands[h].slots.sort_unstable_by(|a, b| b.cmp(a));
            state.hands[h].releases.sort_unstable_by_key(|it| (it.id == 0, it.life, it.id));
        }
    }

    fn number(&self, state: &mut State, h: usize) {
        let State { nodes, hands, .. } = state;
        let hand = &mut hands[h];
        let to = h as u8 + 1;
        let mut items = Numbers::default();
        hand.slots.iter().for_each(|it| items.add(it.life, it.id));
        for node in nodes.iter_mut() {
            let promise = &mut node.voter.promise;
            if promise.to == to && promise.life > 0 {
                let slots = hand.slots.iter().any(|it| it.id > 0 && it.life == promise.life);
                let meant = |it: &Mark| it.life == promise.life && promise.id <= it.id;
                if !slots && !hand.releases.iter().any(meant) {
                    (promise.life, promise.id) = (DEAD, 1);
                }
            }
            if promise.to == to {
                items.add(promise.life, promise.id);
            }
            if node.voter.kept.from == to {
                items.add(node.voter.kept.life, node.voter.kept.id);
            }
        }
        let mut own = Numbers::default();
        hand.slots.iter().filter(|it| it.ours).for_each(|it| own.add(it.life, it.id));
        let holder = &mut hand.holder;
        holder.after = if holder.state == 1 { own.floor(0, holder.after) } else { 0 };
        holder.last = if holder.state == 0 { 0 } else { items.floor(0, holder.last) };
        holder.last_id = items.floor(0, holder.last_id);
        for it in &mut hand.releases {
            it.id = items.floor(it.life, it.id);
        }
        let mut asked = Numbers::default();
        hand.slots.iter().for_each(|it| asked.add(it.life, it.id));
        let kept = nodes.iter().map(|it| it.voter.kept).filter(|it| it.from == to);
        kept.for_each(|it| asked.add(it.life, it.id));
        let mut edges = asked;
        hand.releases.iter().for_each(|it| edges.add(it.life, it.id));
        edges.add(0, holder.last);
        let place = |it: &mut Mark| {
            it.id = edges.place(it.life, it.id);
            if it.id == 0 {
                *it = Mark::default();
            }
        };
        for node in nodes.iter_mut() {
            let Node { voter, .. } = node;
            let mark = &mut voter.marks[h];
            mark.id = asked.floor(mark.life, mark.id);
            place(mark);
            if voter.promise.to == to {
                voter.promise.id = edges.place(voter.promise.life, voter.promise.id);
            }
            if voter.kept.from == to {
                voter.kept.id = edges.place(voter.kept.life, voter.kept.id);
            }
        }
        hand.releases.iter_mut().for_each(place);
        for it in &mut hand.slots {
            it.id = edges.place(it.life, it.id);
        }
        let PlainHolder { after, last, last_id, .. } = &mut hand.holder;
        for id in [after, last, last_id] {
            *id = edges.place(0, *id);
        }
    }

    fn count_lives(&self, state: &mut State, h: usize) {
        let State { nodes, hands, .. } = state;
        let (hand, to) = (&mut hands[h], h as u8 + 1);
        let mut said = 1u16;
        hand.slots.iter().filter(|it| it.id > 0).for_each(|it| said |= 1 << it.life);
        hand.releases.iter().filter(|it| it.id > 0).for_each(|it| said |= 1 << it.life);
        let mut used = said;
        for Node { voter, known, .. } in nodes.iter_mut() {
            if voter.promise.to == to && voter.promise.life < DEAD {
                used |= 1 << voter.promise.life;
            }
            if voter.marks[h].id > 0 {
                used |= 1 << voter.marks[h].life;
            }
            let keeps = voter.kept.from == to;
            if keeps {
                used |= 1 << voter.kept.life;
            }
            if keeps && voter.kept.life > 0 {
                used |= 1 << known[h];
            } else {
                // As good as the earliest that is still spoken of and not later than it.
                let below = said & ((2 << known[h]) - 1);
                known[h] = (15 - below.leading_zeros()) as u8;
            }
        }
        let rank = |life: u8| match life {
            DEAD => DEAD,
            life => (used & ((1 << life) - 1)).count_ones() as u8,
        };
        for Node { voter, known, .. } in nodes.iter_mut() {
            if voter.promise.to == to {
                voter.promise.life = rank(voter.promise.life);
            }
            if voter.kept.from == to {
                voter.kept.life = rank(voter.kept.life);
            }
            voter.marks[h].life = rank(voter.marks[h].life);
            known[h] = rank(known[h]);
        }
        hand.slots.iter_mut().for_each(|it| it.life = rank(it.life));
        hand.releases.iter_mut().for_each(|it| it.life = rank(it.life));
        for it in hand.slots.iter_mut().filter(|it| it.id == 0) {
            *it = Slot::default();
        }
    }

    /// What a normal state is known by: one in 2^64 of two different ones clash.
    pub(super) fn key(&self, state: &State) -> u64 {
        self.renamings.iter().map(|it| self.renamed(state, it)).min().unwrap_or(0)
    }

    fn renamed(&self, state: &State, by: &Renaming) -> u64 {
        let mut key = Mix(state.since.into());
        key.add(u64::from(state.elected) << 1 | u64::from(state.again));
        for n in 0..self.case.nodes {
            key.add(node(&state.nodes[by.from[n]], by));
        }
        for h in 0..self.case.holders.len() {
            let hand = &state.hands[by.hand_from[h]];
            key.add(rest(hand));
            let mut slots = [0; SLOTS];
            for (to, it) in slots.iter_mut().zip(&hand.slots).filter(|(_, it)| it.id > 0) {
                *to = slot(it, by, self.case.nodes);
            }
            slots.sort_unstable();
            slots.into_iter().for_each(|it| key.add(it));
        }
        key.0.max(1)
    }
}

/// Packs small numbers.
struct Word(u64);

impl Word {
    fn put(mut self, bits: u32, value: u8) -> Self {
        debug_assert!(value < 1 << bits, "{value} in {bits} bits");
        self.0 = self.0 << bits | u64::from(value);
        self
    }
}

fn node(it: &Node, by: &Renaming) -> u64 {
    let hand = |place: u8| match place {
        0 => 0,
        place => by.hand_to[usize::from(place) - 1] as u8 + 1,
    };
    let (promise, kept) = (it.voter.promise, it.voter.kept);
    let mut word = Word(0)
        .put(2, hand(promise.to))
        .put(3, promise.life)
        .put(4, promise.id)
        .put(2, promise.epoch)
        .put(3, promise.left)
        .put(2, hand(kept.from))
        .put(3, kept.life)
        .put(4, kept.id)
        .put(2, kept.epoch)
        .put(2, kept.config)
        .put(3, it.voter.wait)
        .put(2, it.config)
        .put(1, it.term.into())
        .put(2, it.heard.0)
        .put(2, hand(it.heard.1));
    for h in by.hand_from {
        word = word.put(3, it.voter.marks[h].life).put(4, it.voter.marks[h].id).put(3, it.known[h]);
    }
    word.0
}

fn rest(it: &Hand) -> u64 {
    let holder = it.holder;
    let mut word = Word(0)
        .put(2, holder.state)
        .put(2, holder.epoch)
        .put(4, holder.after)
        .put(4, holder.last)
        .put(4, holder.last_id)
        .put(3, holder.left)
        .put(1, it.booting.into())
        .put(3, it.fence)
        .put(1, it.closed.into())
        .put(4, it.queue[0])
        .put(4, it.queue[1]);
    for mark in it.releases {
        word = word.put(3, mark.life).put(4, mark.id);
    }
    word.0
}

fn slot(it: &Slot, by: &Renaming, nodes: usize) -> u64 {
    let acks = (0..nodes).fold(0, |set, n| set | (it.acks >> by.from[n] & 1) << n);
    Word(1)
        .put(3, it.life)
        .put(4, it.id)
        .put(3, it.age)
        .put(2, it.config)
        .put(2, it.epoch)
        .put(5, acks)
        .put(1, it.ours.into())
        .0
}

pub(super) struct Mix(pub u64);

impl Mix {
    fn add(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = ((wide >> 64) as u64 ^ wide as u64).rotate_left(23);
    }
}
