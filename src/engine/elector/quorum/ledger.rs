//! What a member has on disk, and what is to be there.
//!
//! A vote must not wait for a disk, so the disk says only "never voted above this term", and
//! terms are reserved in blocks ahead of time. After a start that figure is a floor: the
//! member may have voted in any term up to it. An entry counts once it is on disk; until then
//! only its own member's vote respects it.

use std::time::Duration;

use super::super::super::sabotage::{Sabotage, sabotaged};
use super::super::super::{Action, Cx, Deadline};
use crate::model::{Entry, EntryId, Farewell, Instant, StoreRecord};

/// So many terms are reserved at once.
const BLOCK: u64 = 16;
/// A write that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What is on disk, against what is wanted there.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// Why the store cannot be read, if it cannot: then it is not written either.
    readable: Result<(), String>,
    floor: u64,
    disk: StoreRecord,
    wanted: StoreRecord,
    under_way: Option<(u64, StoreRecord)>,
    last_number: u64,
    retry_at: Option<Instant>,
    fault: Option<String>,
}

impl Ledger {
    pub fn new(stored: Result<Option<StoreRecord>, String>, farewell: Option<&Farewell>) -> Self {
        let (readable, disk) = match stored {
            Ok(record) => (Ok(()), record.unwrap_or_default()),
            Err(why) => (Err(why), StoreRecord::default()),
        };
        let voted = farewell.map_or(disk.floor, |it| it.voted);
        let floor = if sabotaged(Sabotage::VoteForgotten) { 0 } else { voted.min(disk.floor) };
        let wanted = disk.clone();
        Self {
            readable,
            floor,
            disk,
            wanted,
            under_way: None,
            last_number: 0,
            retry_at: None,
            fault: None,
        }
    }

    /// Keeps a newer entry.
    pub fn keep(&mut self, entry: Entry) {
        debug_assert!(self.head().is_none_or(|it| it.id < entry.id));
        self.wanted.entry = Some(entry);
        self.retry_at = None;
    }

    /// Keeps that the newest entry is known to be committed.
    pub fn keep_committed(&mut self, committed: EntryId) {
        self.wanted.committed = self.wanted.committed.max(committed);
    }

    /// Reserves terms, so that there are some to vote in above `term`.
    pub fn reserve_above(&mut self, term: u64) {
        if self.wanted.floor < term.saturating_add(BLOCK / 2) {
            self.wanted.floor = term.saturating_add(BLOCK);
        }
    }

    /// The store was lost, and with it what this member has voted: up to there.
    pub fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.reserve_above(self.floor);
    }

    pub fn on_stored(&mut self, now: Instant, number: u64, failure: Option<String>) {
        let Some((_, record)) = self.under_way.take_if(|it| it.0 == number) else {
            return;
        };
        let again = failure.is_some() && self.wanted.entry == record.entry;
        self.retry_at = again.then(|| now + RETRY);
        if failure.is_none() {
            self.disk = record;
        }
        self.fault = failure;
    }

    /// Writes what is to be on disk and is not. One write at a time.
    pub fn reconcile(&mut self, cx: &mut Cx<'_>) {
        let waits = self.retry_at.is_some_and(|it| cx.now < it);
        if waits || self.readable.is_err() || self.under_way.is_some() || self.disk == self.wanted {
            return;
        }
        self.retry_at = None;
        self.last_number += 1;
        let number = self.last_number;
        self.under_way = Some((number, self.wanted.clone()));
        cx.act(Action::Store { number, record: Box::new(self.wanted.clone()) });
    }

    /// Whether the member may vote and acknowledge at all; if not, why.
    pub fn voting(&self) -> Result<(), String> {
        self.readable.clone()
    }

    /// Why the last write failed, until one succeeds.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The member may have voted in any term up to this one in an earlier life.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The member may vote in terms up to this one.
    pub fn reserved(&self) -> u64 {
        self.disk.floor
    }

    /// The newest entry on disk.
    pub fn newest(&self) -> Option<&Entry> {
        self.disk.entry.as_ref()
    }

    /// The newest entry, on disk or on its way there.
    pub fn head(&self) -> Option<&Entry> {
        self.wanted.entry.as_ref()
    }

    /// The newest entry that is known to be committed, as far as it was ever kept.
    pub fn committed(&self) -> EntryId {
        self.wanted.committed
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.retry_at.map(|at| Deadline { at, why: "write to the store again" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{NextIds, Rng};

    const T0: Instant = Instant::from_nanos(1_000_000_000_000);

    #[test]
    fn one_write_at_a_time_and_what_changed_meanwhile_after_it() {
        let mut ledger = Ledger::new(Ok(None), None);
        assert!(write(&mut ledger, T0).is_none(), "nothing to write");
        ledger.reserve_above(3);
        assert_eq!(write(&mut ledger, T0), Some((1, 19)));
        ledger.reserve_above(14);
        assert!(write(&mut ledger, T0).is_none(), "two at a time");
        assert_eq!(ledger.reserved(), 0);
        ledger.on_stored(T0, 1, None);
        assert_eq!(ledger.reserved(), 19);
        assert_eq!(write(&mut ledger, T0), Some((2, 30)));
        ledger.on_stored(T0, 1, None);
        assert_eq!(ledger.reserved(), 19, "the answer to another write");
    }

    #[test]
    fn a_write_that_failed_is_tried_again_after_a_second() {
        let mut ledger = Ledger::new(Ok(None), None);
        ledger.reserve_above(0);
        write(&mut ledger, T0);
        ledger.on_stored(T0, 1, Some("no space left".to_owned()));
        assert_eq!((ledger.reserved(), ledger.fault()), (0, Some("no space left")));
        assert!(write(&mut ledger, T0).is_none());
        let at = ledger.deadline().unwrap().at;
        assert_eq!(at, T0 + Duration::from_secs(1));
        assert_eq!(write(&mut ledger, at), Some((2, 16)));
        assert!(ledger.deadline().is_none());
        ledger.on_stored(at, 2, None);
        assert_eq!((ledger.reserved(), ledger.fault()), (16, None));
    }

    #[test]
    fn the_floor_after_a_start() {
        let stored = |floor| Ok(Some(StoreRecord { floor, ..StoreRecord::default() }));
        let farewell = |voted| Some(Farewell { voted, ..Farewell::default() });
        let cases = [
            ("a first start", Ok(None), None, 0),
            ("after a crash", stored(16), None, 16),
            ("after an orderly stop", stored(16), farewell(5), 5),
            ("a farewell of another store", stored(16), farewell(40), 16),
        ];
        for (what, stored, farewell, floor) in cases {
            assert_eq!(Ledger::new(stored, farewell.as_ref()).floor(), floor, "{what}");
        }
    }

    #[test]
    fn a_store_that_cannot_be_read_is_not_written() {
        let mut ledger = Ledger::new(Err("bad checksum".to_owned()), None);
        ledger.reserve_above(0);
        assert!(write(&mut ledger, T0).is_none());
        assert_eq!(ledger.voting(), Err("bad checksum".to_owned()));
    }

    /// The number and the floor of the write that is ordered, if one is.
    fn write(ledger: &mut Ledger, now: Instant) -> Option<(u64, u64)> {
        let (mut out, mut next) = (Vec::new(), NextIds::default());
        let rng = &mut Rng::from_seed(1);
        ledger.reconcile(&mut Cx { now, rng, out: &mut out, next: &mut next });
        match out.pop() {
            Some(Action::Store { number, record }) => Some((number, record.floor)),
            other => {
                assert_eq!(other, None);
                None
            }
        }
    }
}
