//! edgevip: virtual IPs for Kubernetes and small clusters at the edge.
//!
//! ```text
//!   model  ◀── wire ◀── engine
//!     ▲         ▲          ▲
//!     ├── io ───┘          │        io and engine do not know each other
//!     ├── config           │
//!     └────────── shell ───┘        shell is the only one that knows all
//! ```
//!
//! `manifest` writes what runs this in a cluster, on `config` alone.
//!
//! `lab` stands beside it: a laboratory on `io`, `wire` and `model`, which runs this very
//! program.
//!
//! `tests/tidy.rs` holds these arrows against the `use` lines.

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where the build was told.
pub const BUILD: &str = match option_env!("EDGEVIP_BUILD") {
    Some(build) => build,
    None => "unknown",
};

pub mod cli;
pub mod config;
pub mod engine;
pub mod io;
pub mod lab;
pub mod manifest;
pub mod model;
pub mod shell;
pub mod wire;
