//! Witness: how long the client of this laboratory gets no echo from a VIP.

use std::net::IpAddr;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::lab::gap;
pub use edgevip::lab::gap::{PERIOD, Seen};
use edgevip::lab::packet::echo_request;
use edgevip::lab::socket::Socket;

use super::{net, wait_for};

/// Sends echo requests from the client until told to stop.
pub struct Gap(gap::Gap);

impl Gap {
    /// Begins.
    pub fn begin(ip: IpAddr) -> Self {
        Self(gap::Gap::begin(ip, usize::MAX, || net::join("client")))
    }

    /// Stops, and says what was seen.
    pub fn end(self) -> Seen {
        self.0.end()
    }
}

/// Waits until the client reaches the VIP.
pub fn reachable(ip: IpAddr, within: Duration) {
    net::inside("client", || {
        let socket = Socket::echo_to(ip).expect("raw sockets are allowed in the laboratory");
        let fine = wait_for(within, || {
            socket.send(&echo_request(ip, 0));
            socket.receive(&mut [0; 256], clock::now() + PERIOD * 5).is_some()
        });
        assert!(fine, "the client does not reach {ip}");
    });
}
