//! How a member of a quorum is, as it says itself.

use serde::{Deserialize, Serialize};

use super::{Epoch, Vip};

/// How a member is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Why it should rather not carry anything.
    pub ailments: Vec<Ailment>,
    /// The weight of its checks that fail: of two that are equally sick the lighter carries.
    pub penalty: u8,
    /// It was asked to stop.
    pub leaving: bool,
    /// VIPs that it cannot carry.
    pub unable: Vec<Vip>,
    /// VIPs that it is to carry next, and is ready for, by the epoch it heard.
    pub ready: Vec<(Vip, Epoch)>,
}

impl Report {
    /// Whether nothing speaks against its carrying something.
    pub fn is_fit(&self) -> bool {
        !self.is_sick() && !self.leaving
    }

    /// Whether an ailment speaks against its carrying something.
    pub fn is_sick(&self) -> bool {
        self.ailments.iter().any(|it| it.bars_carrying())
    }

    /// Whether nothing speaks against its leading.
    pub fn may_lead(&self) -> bool {
        self.is_fit() && !self.ailments.contains(&Ailment::Store)
    }
}

/// Why a member should rather not carry anything, or not lead.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ailment {
    /// No link that could carry a VIP has a carrier.
    Carrier,
    /// The user's check command fails.
    Check,
    /// The API server on this node does not answer.
    Health,
    /// The process gets to its timers late.
    Late,
    /// Its store cannot be written: it carries all the same, but whoever leads has to write
    /// what the cluster is asked to do.
    Store,
}

impl Ailment {
    /// Whether the member should rather not carry anything.
    pub fn bars_carrying(self) -> bool {
        match self {
            Self::Carrier | Self::Check | Self::Health | Self::Late => true,
            Self::Store => false,
        }
    }

    /// The code that log, metric and status share.
    pub fn code(self) -> &'static str {
        match self {
            Self::Carrier => "carrier",
            Self::Check => "check",
            Self::Health => "health",
            Self::Late => "late",
            Self::Store => "store",
        }
    }
}
