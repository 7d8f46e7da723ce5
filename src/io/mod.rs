//! The edges: each turns orders into system calls, and what comes back into values.
//! An edge decides nothing.

pub mod clock;
mod command;
pub mod crash;
#[cfg(feature = "dhcp")]
pub mod dhcp;
pub mod farewell;
pub mod fence;
#[cfg(feature = "upnp")]
pub mod gateway;
pub mod guard;
pub mod host;
pub mod http;
pub mod kernel;
pub mod kube;
pub mod lock;
pub mod logger;
pub mod netlink;
mod nft;
pub mod notify;
pub mod packet;
pub mod peers;
pub mod probe;
pub mod process;
pub mod recorder;
pub mod serve;
pub mod sleep;
pub mod sockopt;
pub mod store;
pub mod supervisor;
