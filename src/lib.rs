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
//! `tests/tidy.rs` holds these arrows against the `use` lines.

pub mod config;
pub mod engine;
pub mod io;
pub mod model;
pub mod shell;
pub mod wire;
