//! Bytes ↔ values.

pub mod arp;
#[cfg(feature = "dhcp")]
pub mod dhcp4;
#[cfg(feature = "dhcp")]
pub mod dhcp6;
pub mod frame;
pub mod gateway;
pub mod kube;
pub mod lease;
pub mod metrics;
pub mod ndp;
pub mod packed;
pub mod pools;
pub mod quorum;
pub mod status;
pub mod store;
