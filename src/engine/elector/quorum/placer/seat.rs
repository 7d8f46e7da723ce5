use super::ruling::Ruling;
use super::why::Why;
use crate::model::{Assigned, Epoch, Instant, NodeName, Vip};

/// The epochs of one leadership.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Epochs {
    pub term: u64,
    pub count: u32,
}

impl Epochs {
    /// None is left after four billion, and nothing can be decided before another term.
    pub fn raise(&mut self) -> Option<Epoch> {
        self.count = self.count.checked_add(1)?;
        Some(Epoch { term: self.term, count: self.count })
    }
}

/// A VIP, and how it came to be where it is.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub assigned: Assigned,
    pub placed: Why,
    /// What keeps it there, or is under way.
    pub present: Option<Why>,
    pub preparing: Option<Preparing>,
    pub planned_at: Option<Instant>,
    /// The last operator's wish that was granted.
    pub granted: Option<NodeName>,
}

/// Somebody is to get ready for a VIP.
#[derive(Clone, Debug)]
pub(super) struct Preparing {
    pub since: Instant,
    pub passed_over: Vec<NodeName>,
}

impl Seat {
    pub fn new(assigned: Assigned) -> Self {
        let placed = if assigned.holder.is_some() { Why::Stays } else { Why::Nobody };
        Self { assigned, placed, present: None, preparing: None, planned_at: None, granted: None }
    }

    pub fn empty(vip: Vip) -> Self {
        Self::new(Assigned { vip, epoch: Epoch::default(), holder: None, next: None })
    }

    /// Who carries it, or is about to.
    pub fn heir(&self) -> Option<&NodeName> {
        self.assigned.next.as_ref().or(self.assigned.holder.as_ref())
    }

    /// Whether nothing is to be done for this.
    pub fn follows(&self, ruling: &Ruling) -> bool {
        match ruling {
            Ruling::Stay(present) => self.assigned.next.is_none() && self.present == *present,
            Ruling::Prepare(_) | Ruling::Replace(_) => false,
        }
    }

    pub fn call_off(&mut self) {
        self.assigned.next = None;
        self.preparing = None;
    }
}

impl Preparing {
    pub fn new(now: Instant) -> Self {
        Self { since: now, passed_over: Vec::new() }
    }
}
