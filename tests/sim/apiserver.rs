//! The API server, reduced to one Lease: linearizable, compare-and-swap by version, with a
//! history from which watches resume until it is compacted.

use std::collections::VecDeque;
use std::time::Duration;

use edgevip::model::{
    Author, Foundation, Lease, LeaseCall, LeaseRecord, LeaseReply, NodeName, ResourceVersion,
    WatchEvent,
};

/// Longer histories are compacted.
const HISTORY: usize = 40;

#[derive(Default)]
pub struct ApiServer {
    lease: Option<Lease>,
    /// Beside the record; gone with the object.
    foundation: Option<Foundation>,
    version: u64,
    history: VecDeque<(u64, WatchEvent)>,
    compacted: u64,
    pub writes: u64,
}

impl ApiServer {
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its version is one with others'.
    pub fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    pub fn holder(&self) -> Option<&NodeName> {
        self.lease.as_ref()?.record.holder.as_ref()
    }

    pub fn author(&self) -> Option<Author> {
        self.lease.as_ref()?.record.author
    }

    pub fn read(&self) -> LeaseReply {
        match &self.lease {
            None => LeaseReply::NotFound,
            Some(lease) => LeaseReply::Found(Box::new(lease.clone())),
        }
    }

    /// What a server that lags behind says.
    pub fn read_stale(&self, steps: usize) -> LeaseReply {
        match self.history.iter().rev().nth(steps) {
            Some((_, WatchEvent::Lease(lease))) => LeaseReply::Found(lease.clone()),
            Some(_) | None => self.read(),
        }
    }

    /// `stamp` is the writer's wall clock.
    pub fn ask(&mut self, call: &LeaseCall, stamp: u64) -> LeaseReply {
        let (LeaseCall::Found { based_on, .. } | LeaseCall::Write { based_on, .. }) = call else {
            return self.read();
        };
        let current = self.lease.as_ref().map(|it| &it.version);
        match (current, based_on.as_ref().map(|it| &it.version)) {
            (None, Some(_)) => return LeaseReply::NotFound,
            (current, based_on) if current != based_on => return LeaseReply::Conflict,
            (Some(_) | None, Some(_) | None) => {}
        }
        match call {
            LeaseCall::Found { foundation, .. } => {
                self.foundation = Some(foundation.clone());
                let record = self.lease.as_ref().map(|it| it.record.clone());
                self.put(record.unwrap_or_else(nobody));
            }
            LeaseCall::Read => {}
            LeaseCall::Write {
                holder, duration, transitions, acquired, author, quorum, ..
            } => {
                let renewed = stamp.to_string();
                self.put(LeaseRecord {
                    holder: holder.clone(),
                    duration: Duration::from_secs(
                        duration.as_nanos().div_ceil(1_000_000_000) as u64
                    ),
                    transitions: *transitions,
                    acquired: acquired.clone().or(Some(renewed.clone())),
                    renewed: Some(renewed),
                    author: Some(*author),
                    quorum: *quorum,
                });
            }
        }
        self.read()
    }

    pub fn put(&mut self, record: LeaseRecord) {
        self.writes += 1;
        self.version += 1;
        let version = ResourceVersion(self.version.to_string());
        let foundation = self.foundation.clone();
        let lease = Lease { record, version, object: String::new(), foundation };
        self.remember(WatchEvent::Lease(Box::new(lease.clone())));
        self.lease = Some(lease);
    }

    /// Somebody edits a label: another version, the same record.
    pub fn edit(&mut self) {
        if let Some(record) = self.lease.as_ref().map(|it| it.record.clone()) {
            self.put(record);
        }
    }

    pub fn delete(&mut self) {
        self.foundation = None;
        if self.lease.take().is_some() {
            self.version += 1;
            self.remember(WatchEvent::Deleted);
        }
    }

    /// The store is restored from a backup as etcd's manual says: an older record, but
    /// under a version that was never given.
    pub fn restore(&mut self, steps: usize) -> bool {
        let older = self.history.iter().rev().nth(steps);
        let Some((_, WatchEvent::Lease(lease))) = older else {
            return false;
        };
        let record = lease.record.clone();
        self.version += 1_000_000;
        self.put(record);
        self.compact();
        true
    }

    pub fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.version;
    }

    pub fn bookmark(&self) -> WatchEvent {
        WatchEvent::Bookmark(ResourceVersion(self.version.to_string()))
    }

    /// What a watch from there on begins with.
    pub fn since(&self, from: Option<&ResourceVersion>) -> Vec<WatchEvent> {
        let Some(from) = from.and_then(|it| it.0.parse::<u64>().ok()) else {
            let now = self.lease.iter().map(|it| WatchEvent::Lease(Box::new(it.clone())));
            return [WatchEvent::Opened].into_iter().chain(now).collect();
        };
        if from < self.compacted {
            return vec![WatchEvent::Expired];
        }
        let later = self.history.iter().filter(|(version, _)| *version > from);
        [WatchEvent::Opened].into_iter().chain(later.map(|(_, it)| it.clone())).collect()
    }

    /// The newest change, for watches that are open.
    pub fn newest(&self) -> Option<&WatchEvent> {
        self.history.back().map(|(_, it)| it)
    }

    fn remember(&mut self, event: WatchEvent) {
        self.history.push_back((self.version, event));
        if self.history.len() > HISTORY
            && let Some((version, _)) = self.history.pop_front()
        {
            self.compacted = version;
        }
    }
}

/// What stands in a Lease that is there for what is beside it.
fn nobody() -> LeaseRecord {
    LeaseRecord {
        holder: None,
        duration: Duration::ZERO,
        transitions: 0,
        acquired: None,
        renewed: None,
        author: None,
        quorum: None,
    }
}
