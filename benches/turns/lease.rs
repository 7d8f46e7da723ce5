//! The leader of a Lease, with many VIPs.

use std::time::Duration;

use edgevip::engine::{Election, Input};
use edgevip::model::{Address, Instant, NetworkChange, WatchEvent};

use crate::driver::{Driver, lease};
use crate::{LINK, Took, heard, node, snapshot, vip};

const LEASE: &str = "kube-system/plndr-cp-lock";

pub fn measure(vips: usize) -> Took {
    let now = Instant::from_nanos(1_000_000_000_000);
    let node = node(1, vips, Election::Lease(lease(LEASE)), None, now);
    let mut it = Driver::new(node, now);
    let others = &mut |_, _: &mut _| ();
    it.input("lock", Input::Lock { held: true }, others);
    it.input("links", snapshot(1), others);
    let opened = Input::Watch { lease: LEASE.into(), event: WatchEvent::Opened };
    it.input("watch", opened, others);
    it.until(Duration::from_secs(20), others);
    it.counts = true;
    for round in 0..24 {
        it.until(Duration::from_millis(517), others);
        it.input("frame about a VIP", heard(vip(vips * 3)), others);
        let lost = vip(round * 7 % vips);
        let address = Address { link: LINK, ip: lost.0, length: 32, ours: true };
        let gone = Input::Network(NetworkChange::AddressGone(address));
        it.input("one VIP lost", gone, others);
        it.input("one VIP seen", Input::Network(NetworkChange::Address(address)), others);
    }
    it.took
}
