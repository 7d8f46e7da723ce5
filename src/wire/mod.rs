//! Bytes ↔ values.

pub mod arp;
#[cfg(feature = "dhcp")]
pub mod dhcp4;
pub mod frame;
pub mod kube;
pub mod lease;
pub mod metrics;
pub mod ndp;
pub mod pools;
pub mod quorum;
pub mod status;
pub mod store;
