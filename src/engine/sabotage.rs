//! Seeded defects: mistakes that the simulator must find, and the only place that names them.

/// A mistake that can be switched on in a build with the `sabotage` feature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sabotage {
    /// An address that a Service freed is given to another at once.
    AddressGivenAtOnce,
    /// Becoming answering again after a pause sends no burst.
    BurstMissingAfterHeal,
    /// A leader's own disk is taken for a majority.
    CommitWithoutMajority,
    /// A write to a Service that conflicts is taken for done.
    ConflictTakenForWritten,
    /// What a write was to give is free again once the write conflicts.
    ConflictWithdraws,
    /// A release that conflicts is taken for done.
    ConflictingReleaseNotRetried,
    /// A holder counts its right from the answer instead of from the question.
    CountedFromAnswer,
    /// A leader goes on when its Lease is gone.
    DeletedLeaseHeld,
    /// The address of a Service that is deleted is kept.
    DeletedServiceKept,
    /// A voter remembers the last hold that it promised, not the highest.
    EarlierHoldPromised,
    /// A Lease is given back before its Service says that the address is leased no more.
    EndUntold,
    /// A gateway that has started anew is taken for one that remembers.
    EpochIgnored,
    /// A VIP that is moved keeps its epoch.
    EpochNotRaised,
    /// A leader that sees another holder goes on.
    ForeignHolderIgnored,
    /// Members that found each other lead before all of them have the founding entry.
    FoundedByMajority,
    /// Addresses are given out before all Services have been listed anew.
    GivenBeforeListed,
    /// A request is given up after one retry period.
    GivenUpAfterRetryPeriod,
    /// A VIP goes on being reached on the ports that it was reached on first.
    GuardOutdated,
    /// A follower waits half of the renew deadline.
    ImpatientFollower,
    /// A holder that is giving up, or gave up in between, still counts what is acknowledged.
    LateAcknowledgement,
    /// A reply to an earlier request is taken for the current one's.
    LateReply,
    /// A holder counts a member that has no vote.
    LearnerCounted,
    /// A Lease is released while what a killed process left may answer.
    LeftNotWaitedFor,
    /// A leased address is answered for without an end.
    LeaseForEver,
    /// The lease of a Service that is gone is not given back.
    LeaseKept,
    /// Nobody is asked whether an address that was just leased is in use.
    LeaseNotChecked,
    /// A Lease is released while the kernel answers for what hung on it before.
    LeavingIgnored,
    /// A Lease on which nothing hangs any more is kept until it runs out.
    LeftLeaseForgotten,
    /// An earlier process's addresses are left in the kernel.
    LeftoversNotCleaned,
    /// A link that was made stays when nobody wants it any more.
    LinkKept,
    /// A VIP is given up in the moment in which its last endpoint goes.
    LossCountsAtOnce,
    /// An address whose write got no answer is free again.
    LostAnswerWithdrawn,
    /// A node that carries an address no more goes on renewing its lease.
    LostLeaseRenewed,
    /// What a new list does not name is kept.
    MissingFromListKept,
    /// A VIP is moved by plan before its next holder is ready.
    MoveBeforeReady,
    /// A DHCP server's no is taken for silence.
    NakIgnored,
    /// The kernel is given addresses without an end.
    NoLifetime,
    /// A voter that has forgotten what it promised promises at once.
    NoWaitAfterStart,
    /// A voter promises a hold of an older configuration than its own.
    OldConfigPromised,
    /// A follower waits for its own duration only, whatever the record says.
    OwnDurationOnly,
    /// A gateway that maps for good only is taken for one that refuses.
    PermanentRefused,
    /// A port that nobody wants any more is left open.
    PortKept,
    /// A port on the gateway is left to run out.
    PortNotRenewed,
    /// A voter counts its promise from when the sender's clock says it asked.
    PromiseFromSender,
    /// A voter promises half of what it was asked for.
    PromiseTooShort,
    /// An address that somebody else removed is not put back.
    ReaddForgotten,
    /// The Lease is released before the VIP is known to be silent.
    ReleaseBeforeSilent,
    /// A release drops the promise of a later hold of the same holder.
    ReleaseDropsAny,
    /// A release is told before the kernel is known to be silent.
    ReleasedBeforeQuiet,
    /// A delayed hold is promised after its holder has released.
    ReleasedPromisedAgain,
    /// A datagram that is not newer, or of another life, is believed.
    ReplayBelieved,
    /// The voters are changed again at once.
    SecondStepWithoutWaiting,
    /// An EndpointSlice that is gone still counts.
    StaleEndpointsServed,
    /// A vote is given whatever the asker's newest entry is.
    StaleLogElected,
    /// With a Lease for each Service: what another held before is taken over unasked.
    TakenOverUnasked,
    /// Leadership is counted from the reply instead of the request.
    UntilFromReply,
    /// An address that a user asks for does not count as in use.
    UsersNotCounted,
    /// After a restart the votes of the life before are forgotten.
    VoteForgotten,
    /// Two candidates get a vote in one term.
    VoteTwice,
    /// What somebody writes over is put right without waiting.
    WrittenOverAtOnce,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 60] = [
        Self::AddressGivenAtOnce,
        Self::BurstMissingAfterHeal,
        Self::CommitWithoutMajority,
        Self::ConflictTakenForWritten,
        Self::ConflictWithdraws,
        Self::ConflictingReleaseNotRetried,
        Self::CountedFromAnswer,
        Self::DeletedLeaseHeld,
        Self::DeletedServiceKept,
        Self::EarlierHoldPromised,
        Self::EndUntold,
        Self::EpochIgnored,
        Self::EpochNotRaised,
        Self::ForeignHolderIgnored,
        Self::FoundedByMajority,
        Self::GivenBeforeListed,
        Self::GivenUpAfterRetryPeriod,
        Self::GuardOutdated,
        Self::ImpatientFollower,
        Self::LateAcknowledgement,
        Self::LateReply,
        Self::LearnerCounted,
        Self::LeftNotWaitedFor,
        Self::LeaseForEver,
        Self::LeaseKept,
        Self::LeaseNotChecked,
        Self::LeavingIgnored,
        Self::LeftLeaseForgotten,
        Self::LeftoversNotCleaned,
        Self::LinkKept,
        Self::LossCountsAtOnce,
        Self::LostAnswerWithdrawn,
        Self::LostLeaseRenewed,
        Self::MissingFromListKept,
        Self::MoveBeforeReady,
        Self::NakIgnored,
        Self::NoLifetime,
        Self::NoWaitAfterStart,
        Self::OldConfigPromised,
        Self::OwnDurationOnly,
        Self::PermanentRefused,
        Self::PortKept,
        Self::PortNotRenewed,
        Self::PromiseFromSender,
        Self::PromiseTooShort,
        Self::ReaddForgotten,
        Self::ReleaseBeforeSilent,
        Self::ReleaseDropsAny,
        Self::ReleasedBeforeQuiet,
        Self::ReleasedPromisedAgain,
        Self::ReplayBelieved,
        Self::SecondStepWithoutWaiting,
        Self::StaleEndpointsServed,
        Self::StaleLogElected,
        Self::TakenOverUnasked,
        Self::UntilFromReply,
        Self::UsersNotCounted,
        Self::VoteForgotten,
        Self::VoteTwice,
        Self::WrittenOverAtOnce,
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
