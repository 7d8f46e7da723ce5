//! What may happen to members: restarts, configurations, and decisions that they hear of.

use super::text::Act;
use super::world::{Clock, HOLDERS, Mark, NODES, Node, PlainVoter, State};
use super::{Fault, Search, Steps};
use crate::engine::elector::quorum::holder::Holder;
use crate::engine::elector::quorum::voter::Voter;

/// No life is earlier.
const EARLIEST: u8 = 6;

impl Search {
    pub(super) fn restart(&self, s: &State, n: usize, out: &mut Vec<(Act, State)>) {
        let node = &s.nodes[n];
        let forgets = node.voter.promise.to > 0 || self.case.old || self.case.kernel;
        let hand = self.case.holders.iter().position(|it| usize::from(*it) == n);
        if self.case.restarts >> n & 1 == 1 && forgets {
            let wait = Clock::VOTER.now() + self.world.length;
            let mut voter = Voter::new(wait).plain(&self.world);
            voter.wait -= u8::from(self.is_fault(Fault::WaitTooShort));
            self.push(out, s, Act::Restart(n), self.started(s, n, voter));
        }
        let orderly = hand.is_none_or(|h| {
            let it = &s.hands[h];
            it.holder.state == 0 && it.fence == 0 && it.queue == [0; 2] && !it.booting
        });
        if self.case.farewells && orderly {
            let word = Voter::from_plain(&node.voter, &self.world).farewell(0);
            let latest = Clock::VOTER.now() + self.world.length;
            let voter = Voter::again(&word, latest).plain(&self.world);
            self.push(out, s, Act::Farewell(n), self.started(s, n, voter));
        }
    }

    /// The next process of the node.
    fn started(&self, s: &State, n: usize, voter: PlainVoter) -> State {
        let mut t = *s;
        let Node { config, term, .. } = s.nodes[n];
        let known = [EARLIEST; HOLDERS];
        t.nodes[n] = Node { voter, config, term, known, ..Node::default() };
        let Some(h) = self.case.holders.iter().position(|it| usize::from(*it) == n) else {
            return t;
        };
        let hand = &mut t.hands[h];
        hand.holder = Holder::default().plain();
        hand.booting = hand.fence > 0;
        (hand.closed, hand.queue) = (false, [0; 2]);
        hand.slots.iter_mut().for_each(|it| it.ours = false);
        if !self.is_fault(Fault::LifeUsedAgain) {
            age(&mut t, h);
        }
        t.nodes[n].known[h] = 0;
        t
    }

    /// Configurations come in any order that raft allows.
    pub(super) fn append(&self, s: &State, n: usize, out: &mut Vec<(Act, State)>) {
        let mut put = |config: u8, term: bool| {
            let mut t = *s;
            (t.nodes[n].config, t.nodes[n].term) = (config, term);
            self.push(out, s, Act::Append(n, config), t);
        };
        let Node { config: now, term, .. } = s.nodes[n];
        match self.case.members {
            Steps::Fixed => {}
            Steps::Chain => {
                if now < 1 {
                    put(1, false);
                }
                let waited =
                    s.since > self.case.ticks || (self.is_fault(Fault::StepTooSoon) && s.since > 0);
                if now < 2 && waited && self.case.configs.len() > 2 {
                    put(2, false);
                }
            }
            Steps::Rival => {
                if now == 0 && !term && (n == 0 || s.nodes[0].config == 1) {
                    put(1, false);
                }
                if now != 2 && s.elected {
                    put(2, true);
                }
            }
        }
    }

    /// A leader who has not heard of the first step.
    pub(super) fn elect(&self, s: &State, out: &mut Vec<(Act, State)>) {
        if self.case.members != Steps::Rival || s.elected {
            return;
        }
        let old = (0..self.case.nodes).filter(|n| s.nodes[*n].config == 0);
        let old = old.fold(0u8, |set, n| set | 1 << n);
        let voters = self.case.configs[0];
        let needed = voters.count_ones() / 2 + 1;
        for set in (1..=voters).filter(|it| it & !(old & voters) == 0 && it.count_ones() == needed)
        {
            let mut t = *s;
            t.elected = true;
            (0..NODES).filter(|n| set >> n & 1 == 1).for_each(|n| t.nodes[n].term = true);
            self.push(out, s, Act::Elect(set), t);
        }
    }

    /// What was decided is heard of, in any order and by whom it may be.
    pub(super) fn hear(&self, s: &State, n: usize, out: &mut Vec<(Act, State)>) {
        for count in s.nodes[n].heard.0 + 1..=self.case.epochs {
            for h in 0..self.case.holders.len() {
                let mut t = *s;
                t.nodes[n].heard = (count, h as u8 + 1);
                self.push(out, s, Act::Hear(n, count, self.node_of(h)), t);
            }
        }
    }

    /// Whether a majority has the entry on its disk. Who knows, may know it at once.
    pub(super) fn is_committed(&self, s: &State, config: u8) -> bool {
        let has = |n: &usize| match self.case.members {
            Steps::Fixed | Steps::Chain => s.nodes[*n].config >= config,
            Steps::Rival => s.nodes[*n].config == config,
        };
        let have = (0..self.case.nodes).filter(has).fold(0u8, |set, n| set | 1 << n);
        let Some(voters) = self.case.configs.get(usize::from(config)) else {
            return false;
        };
        config == 0 || (have & voters).count_ones() * 2 > voters.count_ones()
    }
}

/// What there is of the holder's lives is one further back.
fn age(t: &mut State, h: usize) {
    let to = h as u8 + 1;
    let older = |life: &mut u8| *life += u8::from(*life < EARLIEST);
    for Node { voter, known, .. } in &mut t.nodes {
        if voter.promise.to == to {
            older(&mut voter.promise.life);
        }
        if voter.kept.from == to {
            older(&mut voter.kept.life);
        }
        older(&mut voter.marks[h].life);
        older(&mut known[h]);
    }
    let hand = &mut t.hands[h];
    hand.slots.iter_mut().for_each(|it| older(&mut it.life));
    hand.releases.iter_mut().for_each(|it: &mut Mark| older(&mut it.life));
}
