//! Bytes ↔ values.

pub mod arp;
pub mod frame;
pub mod gateway;
pub mod kube;
pub mod metrics;
pub mod ndp;
pub mod pools;
pub mod quorum;
pub mod status;
pub mod store;
