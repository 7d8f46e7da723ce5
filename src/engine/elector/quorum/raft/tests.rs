mod storm;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::{FailBack, QuorumConfig, QuorumTiming};
use crate::model::{Life, Member, MemberRole, Members, NodeName, StoreRecord, Vip};

fn name(number: u8) -> NodeName {
    NodeName(format!("n{number}"))
}

fn address(name: &NodeName) -> SocketAddr {
    let number = name.0.trim_start_matches('n').parse().unwrap();
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, number), 7000))
}

fn vip(number: u32) -> Vip {
    Vip(IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + number)))
}

/// So many voters.
fn listed(count: u8) -> Members {
    let names = (1..=count).map(name);
    names
        .map(|it| (it.clone(), Member { address: address(&it), role: MemberRole::Voter }))
        .collect()
}

fn quorum_config(listed: Members, stored: Option<StoreRecord>) -> QuorumConfig {
    QuorumConfig {
        life: Life(1),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7000)),
        listed,
        timing: QuorumTiming {
            heartbeat: Duration::from_millis(30),
            promise: Duration::from_millis(120),
            step: Duration::from_millis(12),
            spread: Duration::from_millis(6),
        },
        found_alone: false,
        stored: Ok(stored),
        farewell: None,
        fail_back: FailBack::Never,
        health: None,
        check: None,
    }
}
