use std::collections::{BTreeMap, BTreeSet};

use super::hash;
use super::roster::{Fitness, Roster, Row, Standing};
use super::ruling::Case;
use crate::model::{NodeName, Vip};

/// How many VIPs each member of a roster carries, and should at most.
#[derive(Clone, Debug)]
pub(super) struct Loads {
    carried: Vec<usize>,
    shares: Vec<usize>,
}

impl Loads {
    /// Nobody carries any yet of so many.
    pub fn none(roster: &Roster<'_>, vips: usize) -> Self {
        let best = roster.rows.iter().map(|it| (it.standing, it.fitness)).min();
        let among = |it: &&Row<'_>| Some((it.standing, it.fitness)) == best;
        let all: u64 = roster.rows.iter().filter(among).map(|it| it.weight).sum();
        let share = |row: &Row<'_>| {
            let of_all = vips as u64 * row.weight;
            let all = all.max(1);
            // What cannot be divided is for the others: who leads dies with its leadership.
            (if row.leads { of_all / all } else { of_all.div_ceil(all) }) as usize
        };
        let shares = roster.rows.iter().map(share).collect();
        Self { carried: vec![0; roster.rows.len()], shares }
    }

    pub fn add(&mut self, row: usize) {
        self.carried[row] += 1;
    }

    pub fn remove(&mut self, row: usize) {
        self.carried[row] = self.carried[row].saturating_sub(1);
    }

    /// How many more than its share it would carry with one more.
    fn excess(&self, row: usize) -> usize {
        (self.carried[row] + 1).saturating_sub(self.shares[row])
    }
}

/// The best place for a VIP among those that `may` have it. `steady`: rather not one that
/// has only just come.
pub(super) fn choose(
    roster: &Roster<'_>,
    loads: &Loads,
    case: Case<'_>,
    steady: bool,
    may: impl Fn(&Row<'_>) -> bool,
) -> Option<usize> {
    let rows = roster.rows.iter().enumerate().filter(|(_, it)| may(it));
    let best = rows.min_by_key(|(index, row)| {
        let cost = hash::cost(case.vip, row.name, row.weight);
        let [unasked, not_ideal] = [case.wish, case.ideal].map(|it| it != Some(row.name));
        let doubtful = steady && row.is_young;
        let load = (not_ideal, loads.excess(*index), cost);
        (row.standing, row.fitness, unasked, doubtful, load)
    });
    best.map(|(index, _)| index)
}

/// First those that somebody asked to be somewhere: the others make up for them.
fn in_order<'a>(
    wanted: &'a BTreeSet<Vip>,
    placed: &'a BTreeMap<Vip, NodeName>,
) -> impl Iterator<Item = Vip> + 'a {
    let asked = placed.keys().filter(|it| wanted.contains(it));
    asked.chain(wanted.iter().filter(|it| !placed.contains_key(it))).copied()
}

/// Where each VIP would be if none were anywhere yet.
#[derive(Clone, Debug)]
pub(super) struct Ideal {
    basis: Basis,
    places: BTreeMap<Vip, NodeName>,
}

/// All that the ideal depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Basis {
    members: Vec<(NodeName, Fitness, bool, Vec<Vip>)>,
    wanted: BTreeSet<Vip>,
    placed: BTreeMap<Vip, NodeName>,
}

impl Ideal {
    pub fn new(
        roster: &Roster<'_>,
        wanted: &BTreeSet<Vip>,
        placed: &BTreeMap<Vip, NodeName>,
    ) -> Self {
        let members = free(roster)
            .map(|it| (it.name.clone(), it.fitness, it.leads, it.unable().to_vec()))
            .collect();
        let basis = Basis { members, wanted: wanted.clone(), placed: placed.clone() };
        let mut loads = Loads::none(roster, wanted.len());
        let mut places = BTreeMap::new();
        for vip in in_order(wanted, placed) {
            let may = |it: &Row<'_>| it.standing == Standing::Free && !it.is_unable(vip);
            let case = Case { vip, wish: placed.get(&vip), ideal: None };
            let chosen = choose(roster, &loads, case, false, may);
            if let Some(index) = chosen {
                loads.add(index);
                places.insert(vip, roster.rows[index].name.clone());
            }
        }
        Self { basis, places }
    }

    pub fn is_of(
        &self,
        roster: &Roster<'_>,
        wanted: &BTreeSet<Vip>,
        placed: &BTreeMap<Vip, NodeName>,
    ) -> bool {
        let same = |(old, new): (&(NodeName, Fitness, bool, Vec<Vip>), &Row<'_>)| {
            let (name, fitness, leads, unable) = old;
            (name, fitness, leads) == (new.name, &new.fitness, &new.leads) && unable == new.unable()
        };
        let members = &self.basis.members;
        members.len() == free(roster).count()
            && members.iter().zip(free(roster)).all(same)
            && self.basis.wanted == *wanted
            && self.basis.placed == *placed
    }

    pub fn place(&self, vip: Vip) -> Option<&NodeName> {
        self.places.get(&vip)
    }
}

fn free<'r, 'a>(roster: &'r Roster<'a>) -> impl Iterator<Item = &'r Row<'a>> {
    roster.rows.iter().filter(|it| it.standing == Standing::Free)
}
