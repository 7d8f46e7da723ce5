//! What comes of a state when all goes well from there on: one holder alone is assigned, what
//! is said comes at once to all but one that is down, and kernels do what they are told.

use super::Search;
use super::text::Act;
use super::world::State;

/// No tick has so much to do.
const ENOUGH: usize = 64;

impl Search {
    /// After how many ticks the holder is entitled, if it is within `most`.
    pub(super) fn calm(&self, state: &State, h: usize, down: usize, most: u8) -> Option<u8> {
        let mut s = *state;
        for ticks in 0..=most {
            self.settle(&mut s, h, down);
            if s.hands[h].holder.left > 0 {
                return Some(ticks);
            }
            s = self.tick(s);
            self.normalise(&mut s);
        }
        None
    }

    fn settle(&self, s: &mut State, h: usize, down: usize) {
        for other in (0..self.case.holders.len()).filter(|it| self.node_of(*it) != down) {
            if other != h {
                self.follow(s, |s, out| self.stop(s, other, out), |_| true);
            }
            self.follow(s, |s, out| self.kernel(s, other, out), |_| true);
            let comes = |act: &Act| !matches!(act, Act::Release { at, .. } if *at == down);
            self.follow(s, |s, out| self.releases(s, other, out), comes);
        }
        for v in (0..self.case.nodes).filter(|it| *it != down) {
            self.follow(s, |s, out| self.due(s, v, out), |_| true);
        }
        let mut out = vec![];
        // Its leader has heard of every decision, and decides anew.
        self.ask(s, h, self.case.epochs + 1, &mut out);
        if let Some((_, asked)) = out.pop() {
            *s = asked;
        }
        let newest = |s: &State| {
            let slots = s.hands[h].slots.iter().enumerate().filter(|(_, it)| it.life == 0);
            slots.max_by_key(|(_, it)| it.id).map_or(0, |(slot, _)| slot)
        };
        let comes = |act: &Act| !matches!(act, Act::Hold { at, .. } if *at == down);
        self.follow(s, |s, out| self.hold(s, h, newest(s), out), comes);
        self.follow(s, |s, out| self.answers(s, h, newest(s), out), |_| true);
        self.follow(s, |s, out| self.kernel(s, h, out), |_| true);
    }

    /// One step after another, until none of these is left.
    fn follow(
        &self,
        s: &mut State,
        steps: impl Fn(&State, &mut Vec<(Act, State)>),
        comes: impl Fn(&Act) -> bool,
    ) {
        let mut out = vec![];
        for _ in 0..ENOUGH {
            out.clear();
            steps(s, &mut out);
            let Some((_, it)) = out.iter().find(|(act, _)| comes(act)) else {
                return;
            };
            *s = *it;
        }
    }
}
