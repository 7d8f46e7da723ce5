//! A holder as plain numbers, as the search keeps it, and the holder again from these.

use std::collections::{BTreeMap, BTreeSet};

use super::{Held, Holder, Sent, State};
use crate::engine::elector::quorum::search::world::{
    Clock, PlainHolder, Slot, World, config, epoch, vip,
};

impl Holder {
    /// The holder that these numbers stand for, and that sent what is its own of `slots`.
    /// What answers came of these is not remembered: they can come again.
    pub fn from_plain(plain: &PlainHolder, slots: &[Slot], world: &World) -> Self {
        let clock = Clock::HOLDER;
        let held = |state| Held {
            epoch: epoch(plain.epoch),
            state,
            after: plain.after.into(),
            last: plain.last.into(),
            until: (plain.left > 0).then(|| clock.in_ticks(plain.left)),
        };
        let held = match plain.state {
            0 => None,
            1 => Some(held(State::Wanted)),
            _ => Some(held(State::Closing)),
        };
        let sent = slots.iter().filter(|it| it.id > 0 && it.ours).map(|it| Sent {
            id: it.id.into(),
            at: clock.ticks_ago(it.age),
            length: world.length,
            config: config(it.config),
            vips: vec![vip()],
            promised: BTreeSet::new(),
            partly: BTreeMap::new(),
        });
        Self {
            last_id: plain.last_id.into(),
            held: held.map(|it| (vip(), it)).into_iter().collect(),
            released: BTreeMap::new(),
            sent: sent.collect(),
        }
    }

    /// The numbers.
    pub fn plain(&self) -> PlainHolder {
        let clock = Clock::HOLDER;
        let last_id = self.last_id as u8;
        let Some(it) = self.held.get(&vip()) else {
            return PlainHolder { last_id, ..PlainHolder::default() };
        };
        PlainHolder {
            state: match it.state {
                State::Wanted => 1,
                State::Closing => 2,
            },
            epoch: it.epoch.count as u8,
            after: it.after as u8,
            last: it.last as u8,
            left: it.until.map_or(0, |it| clock.ticks_until(it)),
            last_id,
        }
    }
}
