//! A voter as plain numbers, as the search keeps it, and the voter again from these.

use std::collections::BTreeMap;

use super::{Kept, Promise, Voter};
use crate::engine::elector::quorum::search::world::{
    Clock, HOLDERS, Mark, PlainKept, PlainPromise, PlainVoter, World, config, config_of, epoch,
    life, life_of, vip,
};

impl Voter {
    /// The voter that these numbers stand for.
    pub fn from_plain(plain: &PlainVoter, world: &World) -> Self {
        let clock = Clock::VOTER;
        let promise = (plain.promise.to > 0).then(|| Promise {
            to: world.holder(plain.promise.to - 1).clone(),
            life: life(plain.promise.life),
            id: plain.promise.id.into(),
            epoch: epoch(plain.promise.epoch),
            until: clock.in_ticks(plain.promise.left),
        });
        let kept = (plain.kept.from > 0).then(|| Kept {
            from: world.holder(plain.kept.from - 1).clone(),
            life: life(plain.kept.life),
            id: plain.kept.id.into(),
            epoch: epoch(plain.kept.epoch),
            config: config(plain.kept.config),
            length: world.length,
        });
        let marks = plain.marks.iter().enumerate().filter(|(_, it)| it.id > 0);
        let marks =
            marks.map(|(h, it)| (world.holder(h as u8).clone(), (life(it.life), it.id.into())));
        let marks: BTreeMap<_, _> = marks.collect();
        let released = (!marks.is_empty()).then(|| (vip(), marks));
        Self {
            promises: promise.map(|it| (vip(), it)).into_iter().collect(),
            kept: kept.map(|it| (vip(), it)).into_iter().collect(),
            released: released.into_iter().collect(),
            starting_until: clock.in_ticks(plain.wait),
        }
    }

    /// The numbers. What is over is told from what never was by nothing that a voter does.
    pub fn plain(&self, world: &World) -> PlainVoter {
        let clock = Clock::VOTER;
        let live = self.promises.get(&vip()).filter(|it| it.until > clock.now());
        let promise = live.map_or(PlainPromise::default(), |it| PlainPromise {
            to: world.place(&it.to) + 1,
            life: life_of(it.life),
            id: it.id as u8,
            epoch: it.epoch.count as u8,
            left: clock.ticks_until(it.until),
        });
        let kept = self.kept.get(&vip()).map_or(PlainKept::default(), |it| PlainKept {
            from: world.place(&it.from) + 1,
            life: life_of(it.life),
            id: it.id as u8,
            epoch: it.epoch.count as u8,
            config: config_of(it.config),
        });
        let mut marks = [Mark::default(); HOLDERS];
        for (from, it) in self.released.values().flatten() {
            marks[usize::from(world.place(from))] = Mark { life: life_of(it.0), id: it.1 as u8 };
        }
        PlainVoter { promise, kept, marks, wait: clock.ticks_until(self.starting_until) }
    }
}
