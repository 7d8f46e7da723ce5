//! What is known of the Lease, and what it allows.

use super::LeaseElector;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Instant, Lease};

/// What we know of the object.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Nothing,
    Absent,
    Seen {
        lease: Box<Lease>,
        /// When we first saw this record. An edit beside the record is no renewal.
        since: Instant,
    },
}

/// Whose the record is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    /// Nobody holds it.
    Free,
    /// This process wrote it.
    Mine,
    /// An earlier process of this host wrote it; it is dead, or the lock would not be ours.
    MyPast,
    /// Another host, or another program, writes under our name.
    MyDouble,
    Other,
}

impl LeaseElector {
    /// When the record that we know may be replaced.
    pub(super) fn free_at(&self) -> Instant {
        let Known::Seen { lease, since } = &self.known else {
            return self.retry_at;
        };
        match self.whose() {
            Some(Whose::Free | Whose::Mine | Whose::MyPast) => *since,
            Some(Whose::MyDouble | Whose::Other) | None => {
                let wait = if sabotaged(Sabotage::ImpatientFollower) {
                    self.config.renew_deadline / 2
                } else if sabotaged(Sabotage::OwnDurationOnly) {
                    self.config.duration
                } else {
                    self.config.duration.max(lease.record.duration)
                };
                *since + wait
            }
        }
    }

    pub(super) fn whose(&self) -> Option<Whose> {
        let Known::Seen { lease, .. } = &self.known else {
            return None;
        };
        let record = &lease.record;
        Some(match (&record.holder, record.author) {
            (None, _) => Whose::Free,
            (Some(holder), _) if *holder != self.me => Whose::Other,
            (Some(_), Some(author)) if author == self.author => Whose::Mine,
            (Some(_), Some(author)) if author.host == self.author.host => Whose::MyPast,
            (Some(_), _) => Whose::MyDouble,
        })
    }

    /// A record that we did not write just now, from a read or a watch.
    pub(super) fn saw(&mut self, now: Instant, lease: Box<Lease>) {
        let known_before = matches!(self.known, Known::Seen { .. });
        let changed = match &self.known {
            Known::Seen { lease: known, .. } => known.record != lease.record,
            Known::Absent | Known::Nothing => true,
        };
        let since = match &self.known {
            Known::Seen { since, .. } if !changed => *since,
            Known::Absent | Known::Nothing | Known::Seen { .. } => now,
        };
        self.known = Known::Seen { lease, since };
        let whose = self.whose();
        if changed && whose == Some(Whose::Free) {
            // An orderly release: nothing to wait for.
            self.retry_at = now;
        }
        if changed && whose == Some(Whose::Other) {
            // The race is over, and lost.
            self.contested = false;
        }
        self.clash = match whose {
            Some(Whose::MyDouble) => {
                self.clash || (changed && (known_before || self.leads_until().is_some()))
            }
            Some(Whose::Free | Whose::Mine | Whose::MyPast | Whose::Other) | None => false,
        };
        let ours = matches!(whose, Some(Whose::Mine | Whose::MyPast));
        if !ours && !sabotaged(Sabotage::ForeignHolderIgnored) {
            self.step_down();
        }
    }

    pub(super) fn saw_own(&mut self, now: Instant, lease: Box<Lease>) {
        self.known = Known::Seen { lease, since: now };
    }
}
