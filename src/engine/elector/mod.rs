//! Who leads. Every elector answers one question: until when this node is entitled to
//! answer for a VIP.

mod lease;
mod quorum;

pub use lease::LeaseConfig;
pub(crate) use lease::LeaseElector;
pub use quorum::{FailBack, ProbeRule, QuorumConfig, QuorumTiming};
