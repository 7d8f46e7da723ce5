use std::fmt;

use crate::model::NodeName;

/// Why a VIP is where it is, or on its way elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Why {
    /// Its holder should go, but no other member could take it.
    Alone,
    /// Every member that could take it is drained.
    AllDrained,
    /// No member that could take it is fitter.
    AllSick,
    /// An operator wants it there.
    Asked,
    /// This one was not heard.
    Dead(NodeName),
    /// This one is drained.
    Drained(NodeName),
    /// It is better placed there.
    FailBack,
    /// This one is no member, or none that carries.
    Gone(NodeName),
    /// This one is about to stop.
    Leaving(NodeName),
    /// By weight, hash and load.
    Lightest,
    /// No member could take it.
    Nobody,
    /// This one let it go.
    Released(NodeName),
    /// There is a fitter one than this.
    Sick(NodeName),
    /// A new leader found it there.
    Stays,
    /// This one says that it cannot carry it.
    Unable(NodeName),
    /// An operator wants it on this one, which could not take it or is sicker.
    Unmet(NodeName),
    /// The settings do not list it.
    Unwanted,
}

impl Why {
    /// The code that log, metric and status share.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::AllDrained => "all-drained",
            Self::AllSick => "all-sick",
            Self::Asked => "asked",
            Self::Dead(_) => "dead",
            Self::Drained(_) => "drained",
            Self::FailBack => "fail-back",
            Self::Gone(_) => "gone",
            Self::Leaving(_) => "leaving",
            Self::Lightest => "lowest-weight",
            Self::Nobody => "nobody",
            Self::Released(_) => "released",
            Self::Sick(_) => "sick",
            Self::Stays => "stays",
            Self::Unable(_) => "unable",
            Self::Unmet(_) => "unmet",
            Self::Unwanted => "unwanted",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => write!(f, "no other member may carry it, so it stays"),
            Self::AllDrained => write!(f, "all members are drained, so it stays"),
            Self::AllSick => write!(f, "all members are sick, so it stays"),
            Self::Asked => write!(f, "asked for"),
            Self::Dead(name) => write!(f, "{name} was not heard"),
            Self::Drained(name) => write!(f, "{name} is drained"),
            Self::FailBack => write!(f, "this is a better place"),
            Self::Gone(name) => write!(f, "{name} is no member that carries VIPs"),
            Self::Leaving(name) => write!(f, "{name} is leaving"),
            Self::Lightest => write!(f, "lowest weight"),
            Self::Nobody => write!(f, "nobody may carry it"),
            Self::Released(name) => write!(f, "{name} let it go"),
            Self::Sick(name) => write!(f, "{name} is sick"),
            Self::Stays => write!(f, "it was there already"),
            Self::Unable(name) => write!(f, "{name} cannot carry it"),
            Self::Unmet(name) => write!(f, "asked for on {name}, which may not carry it now"),
            Self::Unwanted => write!(f, "it is not wanted any more"),
        }
    }
}
