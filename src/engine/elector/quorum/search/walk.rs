//! Breadth first, so that what is found is found by the fewest steps.

use super::text::Act;
use super::world::State;
use super::{Case, Search};

/// What came of a search.
pub(super) struct Found {
    pub states: usize,
    pub depth: usize,
    /// What is wrong, and the steps to there.
    pub wrong: Option<(&'static str, Vec<Act>)>,
    /// It gave up.
    pub limited: bool,
}

/// The keys of what was met, each with the place of where it was come from.
struct Seen {
    table: Vec<u32>,
    keys: Vec<u64>,
    parents: Vec<u32>,
}

impl Seen {
    fn new() -> Self {
        Self { table: vec![0; 1 << 16], keys: vec![], parents: vec![] }
    }

    /// Whether it is new.
    fn add(&mut self, key: u64, parent: u32) -> bool {
        if self.keys.len() * 2 >= self.table.len() {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut at = key as usize & mask;
        while self.table[at] != 0 {
            if self.keys[self.table[at] as usize - 1] == key {
                return false;
            }
            at = (at + 1) & mask;
        }
        self.keys.push(key);
        self.parents.push(parent);
        self.table[at] = self.keys.len() as u32;
        true
    }

    fn grow(&mut self) {
        let mut table = vec![0; self.table.len() * 2];
        let mask = table.len() - 1;
        for (place, key) in self.keys.iter().enumerate() {
            let mut at = *key as usize & mask;
            while table[at] != 0 {
                at = (at + 1) & mask;
            }
            table[at] = place as u32 + 1;
        }
        self.table = table;
    }
}

/// Goes through all states of the case, `limit` at most, and shows each.
pub(super) fn walk(case: &Case, limit: usize, mut show: impl FnMut(&Search, &State)) -> Found {
    let search = Search::new(case);
    let mut seen = Seen::new();
    let start = search.start();
    seen.add(search.key(&start), 0);
    let (mut level, mut next, mut steps) = (vec![(start, 0)], vec![], vec![]);
    let mut depth = 0;
    while !level.is_empty() {
        for (state, place) in level.drain(..) {
            show(&search, &state);
            search.next(&state, &mut steps);
            for (_, it) in &steps {
                if !seen.add(search.key(it), place) {
                    continue;
                }
                let place = seen.keys.len() as u32 - 1;
                if let Some(why) = search.wrong(it) {
                    let wrong = Some((why, trace(&search, &seen, place)));
                    return Found {
                        states: seen.keys.len(),
                        depth: depth + 1,
                        wrong,
                        limited: false,
                    };
                }
                if seen.keys.len() >= limit {
                    return Found { states: limit, depth, wrong: None, limited: true };
                }
                next.push((*it, place));
            }
        }
        std::mem::swap(&mut level, &mut next);
        depth += 1;
    }
    Found { states: seen.keys.len(), depth, wrong: None, limited: false }
}

fn trace(search: &Search, seen: &Seen, mut place: u32) -> Vec<Act> {
    let mut keys = vec![];
    while place != 0 {
        keys.push(seen.keys[place as usize]);
        place = seen.parents[place as usize];
    }
    let (mut state, mut acts, mut steps) = (search.start(), vec![], vec![]);
    for key in keys.into_iter().rev() {
        search.next(&state, &mut steps);
        let step = steps.iter().find(|(_, it)| search.key(it) == key);
        let (act, it) = step.expect("a step that was taken");
        acts.push(*act);
        state = *it;
    }
    acts
}
