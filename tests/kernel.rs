//! The kernel edge against a real kernel. Each story runs in a network namespace of its own,
//! as root or in a user namespace; the witnesses are `ip`, `nft` and frames on the wire.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "kernel/edge.rs"]
mod edge;
#[path = "kernel/lab.rs"]
mod lab;

#[path = "kernel/addresses.rs"]
mod addresses;
#[path = "kernel/fence.rs"]
mod fence;
#[path = "kernel/frames.rs"]
mod frames;
#[path = "kernel/made.rs"]
mod made;
#[path = "kernel/monitors.rs"]
mod monitors;

/// A test in a namespace of its own.
macro_rules! story {
    ($name:ident, $story:expr) => {
        #[test]
        fn $name() {
            let whole = concat!(module_path!(), "::", stringify!($name));
            let (_, test) = whole.split_once("::").unwrap();
            crate::lab::alone(test, $story);
        }
    };
}
pub(crate) use story;
