//! What the other machines of this member ask.

use std::collections::{BTreeMap, BTreeSet};

use super::{Raft, Role, UNREADABLE};
use crate::model::{Entry, EntryId, NodeName, Promised};

impl Raft {
    /// Whom to send a message at once rather than with the next heartbeat.
    pub fn wants_send(&self) -> BTreeSet<NodeName> {
        self.urgent.clone()
    }

    /// For [`Message::term`].
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Who leads in that term, as far as is known.
    pub fn leader(&self) -> Option<&NodeName> {
        match &self.role {
            Role::Candidate { .. } => None,
            Role::Follower { leader } => leader.as_ref(),
            Role::Leader { .. } => Some(&self.me),
        }
    }

    /// Whether this member leads.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// For [`Message::cluster`].
    pub fn cluster(&self) -> Option<u64> {
        match self.ledger.voting() {
            Ok(()) => self.entry().map(|it| it.cluster),
            Err(_) => Some(UNREADABLE),
        }
    }

    /// The newest entry that is on disk.
    pub fn entry(&self) -> Option<&Entry> {
        self.ledger.newest()
    }

    /// The newest entry, on disk or on its way there. What a holder asks for dies with it, so
    /// it need not wait for its disk to ask in the name of this one.
    pub fn head(&self) -> Option<&Entry> {
        self.ledger.head()
    }

    /// Its name, for [`Message::newest`].
    pub fn newest(&self) -> EntryId {
        self.entry().map_or(EntryId::default(), |it| it.id)
    }

    /// The newest entry that is known to be committed.
    pub fn committed(&self) -> EntryId {
        self.committed
    }

    /// Whether the newest entry is known to be committed.
    pub fn is_committed(&self) -> bool {
        self.entry().is_some_and(|it| it.id == self.committed)
    }

    /// For [`Message::floor`].
    pub fn floor(&self) -> u64 {
        self.ledger.floor()
    }

    /// Whether this member belongs to no cluster yet, or has lost its store.
    pub fn is_blank(&self) -> bool {
        self.entry().is_none()
    }

    /// Whether it may vote at all; if not, why.
    pub fn voting(&self) -> Result<(), String> {
        self.ledger.voting()
    }

    /// Why the last write to the store failed, until one succeeds.
    pub fn fault(&self) -> Option<&str> {
        self.ledger.fault()
    }

    /// Members that were heard lately and belong to another cluster, and to which.
    pub fn strangers(&self) -> &BTreeMap<NodeName, u64> {
        &self.strangers
    }

    /// What the voters that elected this leader, itself left out, had promised then.
    pub fn inherited(&self) -> &[Promised] {
        &self.inherited
    }

    /// Whether another was asked to lead: until it does, or the attempt has failed, nothing
    /// new should be decided.
    pub fn is_handing_over(&self) -> bool {
        self.handing_to().is_some()
    }
}
