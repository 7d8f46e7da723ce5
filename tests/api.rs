//! The API client against a real API server, and against one that lies.
//!
//! The real one is built by `tests/kube/kube build`.

#![allow(clippy::unwrap_used, reason = "that is how a test fails")]

#[path = "api/access.rs"]
mod access;
#[path = "api/desk.rs"]
mod desk;
#[path = "api/failures.rs"]
mod failures;
#[path = "api/lease.rs"]
mod lease;
#[path = "api/liar.rs"]
mod liar;
#[path = "api/lies.rs"]
mod lies;
#[path = "api/manifests.rs"]
mod manifests;
#[path = "api/objects.rs"]
mod objects;
#[path = "api/probe.rs"]
mod probe;
#[path = "api/server.rs"]
mod server;
#[path = "api/side.rs"]
mod side;
#[path = "api/watch.rs"]
mod watch;
