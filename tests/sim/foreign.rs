//! A candidate of another make: client-go's rules, durations of its own, metadata kept.
//! Its right to answer is judged as ours is, so that an overlap is our fault.

use std::time::Duration;

use edgevip::model::{LeaseRecord, Mac, NodeName, ResourceVersion};

use crate::host::{MS, Nanos, SEC};
use crate::world::{Event, World};

pub struct Foreign {
    pub name: NodeName,
    pub mac: Mac,
    pub duration: Nanos,
    pub renew: Nanos,
    pub retry: Nanos,
    pub down_until: Nanos,
    /// The record and when it was first seen to be so.
    seen: Option<(LeaseRecord, Nanos)>,
    leads_until: Nanos,
    stamps: u64,
}

impl Foreign {
    pub fn new(name: NodeName, duration: Nanos) -> Self {
        Self {
            name,
            mac: Mac([2, 0, 0, 0, 8, 8]),
            duration,
            renew: duration * 2 / 3,
            retry: duration / 8,
            down_until: 0,
            seen: None,
            leads_until: 0,
            stamps: 0,
        }
    }

    pub fn leads(&self, now: Nanos) -> bool {
        self.down_until <= now && now < self.leads_until
    }

    /// Under a node's own name it waits for nobody, and so may not be trusted to be alone.
    pub fn leads_alone(&self, now: Nanos) -> bool {
        self.leads(now) && !self.is_a_double()
    }

    /// It has a node's name.
    pub fn is_a_double(&self) -> bool {
        self.name.0.starts_with("node-")
    }
}

impl World {
    /// Once a retry period: read, and write if that is allowed.
    pub fn foreign_tries(&mut self) {
        let now = self.now;
        let lost = self.chance(self.faults.api_loss) || self.weather.gone_until > now;
        let jitter = self.rng.below(SEC / 5);
        let Some(it) = &mut self.foreign else { return };
        let again = it.retry + jitter;
        if it.down_until > now || lost {
            return self.schedule(again, Event::ForeignTries);
        }
        let record = self.api.lease().map(|it| it.record.clone());
        if it.seen.as_ref().map(|it| &it.0) != record.as_ref() {
            it.seen = record.clone().map(|it| (it, now));
        }
        let since = it.seen.as_ref().map_or(now, |it| it.1);
        let free = record.as_ref().is_none_or(|record| match &record.holder {
            None => true,
            Some(holder) if *holder == it.name => true,
            Some(_) => now >= since + it.duration.max(record.duration.as_nanos() as u64),
        });
        if free {
            let version = self.api.lease().map(|it| it.version.clone());
            let delay = MS + self.rng.below(5 * MS);
            self.schedule(delay, Event::ForeignWrites { version, sent: now });
        }
        self.schedule(again, Event::ForeignTries);
    }

    /// The write arrives; client-go keeps the metadata, so our annotation stays, stale.
    pub fn foreign_writes(&mut self, version: Option<ResourceVersion>, sent: Nanos) {
        if self.api.lease().map(|it| it.version.clone()) != version
            || self.weather.gone_until > self.now
        {
            return;
        }
        let before = self.api.lease().map(|it| it.record.clone());
        let Some(it) = &mut self.foreign else { return };
        if it.down_until > self.now {
            return;
        }
        it.stamps += 1;
        let goes_on =
            before.as_ref().is_some_and(|record| record.holder.as_ref() == Some(&it.name));
        let begins = !it.leads(self.now);
        it.leads_until = sent + it.renew;
        let record = LeaseRecord {
            holder: Some(it.name.clone()),
            duration: Duration::from_nanos(it.duration),
            transitions: before.map_or(0, |it| it.transitions) + u32::from(!goes_on),
            acquired: None,
            renewed: Some(format!("foreign-{}", it.stamps)),
            author: None,
            quorum: None,
        };
        let (name, mac) = (it.name.clone(), it.mac);
        it.seen = Some((record.clone(), self.now));
        self.api.put(record);
        self.push();
        if begins {
            self.note(|| (name.to_string(), "leads".into()));
            for vip in self.vips.clone() {
                self.broadcast(None, mac, vip.0, false);
            }
        }
    }

    /// It dies, and is back after a while; or it leaves as client-go does, releasing.
    pub fn foreign_stops(&mut self, span: Nanos, orderly: bool) {
        let Some(it) = &mut self.foreign else { return };
        // What it took from a node of its own name, which may not know yet, it must not give
        // to another: the two of one name are one to everybody else.
        let orderly = orderly && !it.is_a_double();
        let led = it.leads(self.now);
        it.down_until = self.now + span;
        (it.seen, it.leads_until) = (None, 0);
        let name = it.name.clone();
        self.note(|| (name.to_string(), "stops".into()));
        let record = self.api.lease().map(|it| it.record.clone());
        if let Some(mut record) =
            record.filter(|it| led && orderly && it.holder.as_ref() == Some(&name))
        {
            (record.holder, record.duration) = (None, Duration::from_secs(1));
            self.api.put(record);
            self.push();
        }
    }
}

/// Much longer than any run.
pub const FOR_GOOD: Nanos = 100_000 * SEC;
