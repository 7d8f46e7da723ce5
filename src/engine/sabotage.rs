//! Seeded defects: mistakes that the simulator must find, and the only place that names them.

/// A mistake that can be switched on in a build with the `sabotage` feature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sabotage {
    /// Becoming answering again after a pause sends no burst.
    BurstMissingAfterHeal,
    /// A release that conflicts is taken for done.
    ConflictingReleaseNotRetried,
    /// A leader that sees another holder goes on.
    ForeignHolderIgnored,
    /// A request is given up after one retry period.
    GivenUpAfterRetryPeriod,
    /// A follower waits half of the renew deadline.
    ImpatientFollower,
    /// A reply to an earlier request is taken for the current one's.
    LateReply,
    /// An earlier process's addresses are left in the kernel.
    LeftoversNotCleaned,
    /// The kernel is given addresses without an end.
    NoLifetime,
    /// A follower waits for its own duration only, whatever the record says.
    OwnDurationOnly,
    /// An address that somebody else removed is not put back.
    ReaddForgotten,
    /// The Lease is released before the VIP is known to be silent.
    ReleaseBeforeSilent,
    /// Leadership is counted from the reply instead of the request.
    UntilFromReply,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::BurstMissingAfterHeal,
        Self::ConflictingReleaseNotRetried,
        Self::ForeignHolderIgnored,
        Self::GivenUpAfterRetryPeriod,
        Self::ImpatientFollower,
        Self::LateReply,
        Self::LeftoversNotCleaned,
        Self::NoLifetime,
        Self::OwnDurationOnly,
        Self::ReaddForgotten,
        Self::ReleaseBeforeSilent,
        Self::UntilFromReply,
    ];
}

#[cfg(feature = "sabotage")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// Switches a defect on for this thread, or all off.
#[cfg(feature = "sabotage")]
pub fn sabotage(defect: Option<Sabotage>) {
    CHOSEN.set(defect);
}

#[cfg(feature = "sabotage")]
pub(crate) fn sabotaged(defect: Sabotage) -> bool {
    CHOSEN.get() == Some(defect)
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn sabotaged(_: Sabotage) -> bool {
    false
}
