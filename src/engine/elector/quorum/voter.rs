//! What a voter has promised. A promise gives a VIP to one holder, for as long as the hold
//! asked for, counted from when the hold came; until then no other holder is promised it.
//!
//! ```text
//!   hold of A ──▶ promised to A until now + D ──▶ free
//!   hold of B meanwhile: refused, kept, and answered when that ends or A releases
//! ```
//!
//! Whoever holds counts from before it sent, and trusts 0.84 of D: its right ends first, as
//! long as no clock runs 1.19 times as fast as another.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{
    Assigned, EntryId, Epoch, Farewell, Hold, HoldAnswer, HoldRefusal, Instant, LastPromise, Life,
    NodeName, Promised, Released, Vip,
};

/// The promises of this member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Voter {
    promises: BTreeMap<Vip, Promise>,
    /// The newest hold that only a promise stands against.
    kept: BTreeMap<Vip, Kept>,
    /// Up to which hold of which life each holder has let go.
    released: BTreeMap<Vip, BTreeMap<NodeName, (Life, u64)>>,
    /// What an earlier life promised is over then.
    starting_until: Instant,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Promise {
    to: NodeName,
    life: Life,
    /// The highest that was acknowledged.
    id: u64,
    epoch: Epoch,
    until: Instant,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Kept {
    from: NodeName,
    life: Life,
    id: u64,
    epoch: Epoch,
    config: EntryId,
    length: Duration,
}

/// What the voter has to know beside the hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grounds<'a> {
    /// Its newest entry; `None`: it has none, and may promise nothing.
    pub config: Option<EntryId>,
    /// The longest promise that the cluster allows.
    pub longest: Duration,
    /// The assignment as this member knows it.
    pub assigned: &'a BTreeMap<Vip, Assigned>,
}

impl Voter {
    /// A voter whose earlier lives may have made promises that end at `starting_until`.
    pub fn new(starting_until: Instant) -> Self {
        Self {
            promises: BTreeMap::new(),
            kept: BTreeMap::new(),
            released: BTreeMap::new(),
            starting_until,
        }
    }

    /// A voter that goes on where an earlier life of this boot has stopped. None of its
    /// promises lasts longer than `latest`.
    pub fn again(farewell: &Farewell, latest: Instant) -> Self {
        let at = |nanos| Instant::from_nanos(nanos).min(latest);
        let promises = farewell.promises.iter().map(|it| {
            let Promised { vip, to, epoch } = it.promised.clone();
            (vip, Promise { to, life: it.life, id: it.id, epoch, until: at(it.until) })
        });
        Self { promises: promises.collect(), ..Self::new(at(farewell.promised_until)) }
    }

    /// What the next start of this boot should know, if nothing is promised after this.
    pub fn farewell(&self, voted: u64) -> Farewell {
        let promises = self.promises.iter().map(|(vip, it)| LastPromise {
            promised: Promised { vip: *vip, to: it.to.clone(), epoch: it.epoch },
            life: it.life,
            id: it.id,
            until: it.until.as_nanos(),
        });
        let promised_until = self.starting_until.as_nanos();
        Farewell { voted, promised_until, promises: promises.collect() }
    }

    /// Not before then: it may have promised more than was thought.
    pub fn wait_until(&mut self, at: Instant) {
        self.starting_until = self.starting_until.max(at);
    }

    /// Answers a hold that came at `now`, or earlier.
    pub fn ask(
        &mut self,
        now: Instant,
        from: &NodeName,
        life: Life,
        hold: &Hold,
        grounds: Grounds<'_>,
    ) -> HoldAnswer {
        let mut answer = HoldAnswer { id: hold.id, acknowledged: Vec::new(), refused: Vec::new() };
        for (vip, epoch) in &hold.vips {
            let kept = Kept {
                from: from.clone(),
                life,
                id: hold.id,
                epoch: *epoch,
                config: hold.config,
                length: hold.length,
            };
            match self.judge(now, *vip, &kept, grounds) {
                Ok(()) => {
                    self.promise(now, *vip, kept);
                    answer.acknowledged.push(*vip);
                }
                Err(why) => {
                    if let HoldRefusal::Promised(_) = why {
                        self.keep(*vip, kept);
                    }
                    answer.refused.push((*vip, why));
                }
            }
        }
        answer
    }

    /// A holder's kernel no longer answers for the VIP.
    pub fn on_released(&mut self, from: &NodeName, life: Life, it: &Released) {
        let marks = self.released.entry(it.vip).or_default();
        let mark = marks.entry(from.clone()).or_insert((life, it.id));
        *mark = if mark.0 == life { (life, mark.1.max(it.id)) } else { (life, it.id) };
        let is_meant = |to: &NodeName, of: Life, id: u64| to == from && of == life && id <= it.id;
        let any = sabotaged(Sabotage::ReleaseDropsAny);
        if self
            .promises
            .get(&it.vip)
            .is_some_and(|p| is_meant(&p.to, p.life, p.id) || (any && p.to == *from))
        {
            self.promises.remove(&it.vip);
        }
        if self.kept.get(&it.vip).is_some_and(|k| is_meant(&k.from, k.life, k.id)) {
            self.kept.remove(&it.vip);
        }
    }

    /// The member has begun another life: what its former asked for counts no more. What it
    /// was promised stays promised to its name.
    pub fn on_new_life(&mut self, of: &NodeName, life: Life) {
        self.kept.retain(|_, it| it.from != *of || it.life == life);
        self.released.retain(|_, marks| {
            marks.retain(|from, it| from != of || it.0 == life);
            !marks.is_empty()
        });
    }

    /// Answers what was kept and has nothing against it any more.
    pub fn due(&mut self, now: Instant, grounds: Grounds<'_>) -> Vec<(NodeName, HoldAnswer)> {
        let mut answers: BTreeMap<(NodeName, u64), HoldAnswer> = BTreeMap::new();
        let vips: Vec<_> = self.kept.keys().copied().collect();
        for vip in vips {
            let free = self.promises.get(&vip).is_none_or(|it| it.until <= now);
            let Some(kept) = free.then(|| self.kept.remove(&vip)).flatten() else {
                continue;
            };
            let answer = answers.entry((kept.from.clone(), kept.id)).or_insert_with(|| {
                HoldAnswer { id: kept.id, acknowledged: Vec::new(), refused: Vec::new() }
            });
            match self.judge(now, vip, &kept, grounds) {
                Ok(()) => {
                    self.promise(now, vip, kept);
                    answer.acknowledged.push(vip);
                }
                Err(why) => answer.refused.push((vip, why)),
            }
        }
        answers.into_iter().map(|((from, _), answer)| (from, answer)).collect()
    }

    /// When a kept hold can be answered.
    pub fn deadline(&self) -> Option<Instant> {
        self.kept
            .keys()
            .map(|vip| self.promises.get(vip).map_or(Instant::from_nanos(0), |it| it.until))
            .min()
    }

    /// What is promised at this moment.
    pub fn promises(&self, now: Instant) -> Vec<Promised> {
        let live = self.promises.iter().filter(|(_, it)| it.until > now);
        live.map(|(vip, it)| Promised { vip: *vip, to: it.to.clone(), epoch: it.epoch }).collect()
    }

    /// Until when the VIP is promised, and to whom.
    pub fn promised(&self, now: Instant, vip: Vip) -> Option<(&NodeName, Instant)> {
        let it = self.promises.get(&vip).filter(|it| it.until > now)?;
        Some((&it.to, it.until))
    }

    /// Whether the VIP may be promised for this hold.
    fn judge(
        &self,
        now: Instant,
        vip: Vip,
        hold: &Kept,
        grounds: Grounds<'_>,
    ) -> Result<(), HoldRefusal> {
        let Some(config) = grounds.config else {
            return Err(HoldRefusal::Starting(grounds.longest));
        };
        if now < self.starting_until && !sabotaged(Sabotage::NoWaitAfterStart) {
            return Err(HoldRefusal::Starting(self.starting_until.saturating_since(now)));
        }
        if hold.config < config && !sabotaged(Sabotage::OldConfigPromised) {
            return Err(HoldRefusal::OldConfig(config));
        }
        if hold.length > grounds.longest {
            return Err(HoldRefusal::TooLong(grounds.longest));
        }
        let mark = self.released.get(&vip).and_then(|it| it.get(&hold.from));
        if mark.is_some_and(|it| it.0 == hold.life && hold.id <= it.1)
            && !sabotaged(Sabotage::ReleasedPromisedAgain)
        {
            return Err(HoldRefusal::Released);
        }
        if let Some(it) = grounds.assigned.get(&vip)
            && it.epoch > hold.epoch
            && it.holder.as_ref() != Some(&hold.from)
        {
            return Err(HoldRefusal::Epoch(it.epoch));
        }
        match self.promises.get(&vip).filter(|it| it.until > now) {
            Some(it) if it.to != hold.from => {
                Err(HoldRefusal::Promised(it.until.saturating_since(now)))
            }
            Some(it)
                if it.life == hold.life
                    && hold.id < it.id
                    && !sabotaged(Sabotage::EarlierHoldPromised) =>
            {
                Err(HoldRefusal::Earlier)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn promise(&mut self, now: Instant, vip: Vip, hold: Kept) {
        let length = match sabotaged(Sabotage::PromiseTooShort) {
            true => hold.length / 2,
            false => hold.length,
        };
        let mut until = now + length;
        let before = self.promises.get(&vip).filter(|it| it.until > now && it.to == hold.from);
        until = before.map_or(until, |it| it.until.max(until));
        let epoch = before.map_or(hold.epoch, |it| it.epoch.max(hold.epoch));
        self.promises
            .insert(vip, Promise { to: hold.from, life: hold.life, id: hold.id, epoch, until });
    }

    fn keep(&mut self, vip: Vip, hold: Kept) {
        let newer = self
            .kept
            .get(&vip)
            .is_none_or(|it| it.from == hold.from || (it.epoch, it.id) < (hold.epoch, hold.id));
        if newer {
            self.kept.insert(vip, hold);
        }
    }
}

#[cfg(feature = "sabotage")]
mod plain;
