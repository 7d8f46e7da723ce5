//! Address pools: what kube-vip's cloud provider does, as pure decisions.
//!
//! ```text
//!   ConfigMap ──▶ Pools ──┐
//!   Services ───▶ Book ───┼──▶ Sync::decide ──▶ what to write to a Service
//!   nodes, VIPs, probes ──┘         └─ allocate ──▶ Grant, or PoolRefusal
//! ```
//!
//! The keys, their grammar and what is written are the peer's, and so is the address that
//! comes out of a pool, but where that is a known defect: addresses of Services without its
//! label, of other namespaces, of nodes and VIPs are in use; a freed address rests before
//! another gets it; ports are shared by protocol as well; the choice never hangs on chance.
//! Left out: its cache, and creating the ConfigMap.

mod allocate;
mod asked;
mod book;
mod occupied;
mod ports;
mod ranges;
mod read;
mod resting;
mod search;
mod sharing;
mod sync;
#[cfg(test)]
mod tests;
mod text;
mod usage;

pub use allocate::{Grant, allocate, next_candidates};
pub use asked::{ADDRESSES, ALLOCATED, CLEANUP, IMPLEMENTATION, INTERFACE, IPAM_ADDRESS, Request};
pub use book::Book;
pub use read::Pools;
pub use resting::{QUARANTINE, STRANGER};
pub use sync::{Sync, SyncRules};
pub use usage::usage;
