//! What tells of changes in the kernel that nobody ordered.

use std::cell::RefCell;
use std::fmt;

use smol::future::zip;

use super::{Deliver, FromKernel};
use crate::io::fence::watch::Watch;
use crate::io::netlink::monitor::{Monitor, Picture};
use crate::io::packet::Ear;
use crate::model::Mac;

/// What tells of changes nobody ordered.
pub struct Monitors {
    pub(super) deliver: Deliver,
    pub(super) network: Monitor,
    pub(super) ruleset: Option<Watch>,
    pub(super) ears: [Ear; 2],
}

impl fmt::Debug for Monitors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitors").finish_non_exhaustive()
    }
}

impl Monitors {
    /// Tells, for ever; a [`NetworkChange::Snapshot`] first.
    pub async fn run(self) {
        let Self { deliver, network, ruleset, ears: [arp, nd] } = self;
        let picture = RefCell::new(Picture::default());
        let own = |mac: Mac| picture.borrow().has(mac);
        let heard = |it| deliver(FromKernel::Heard(it));
        let ruleset = async {
            if let Some(watch) = ruleset {
                watch.run(&|| deliver(FromKernel::RulesetChanged)).await;
            }
        };
        let tell = |it| deliver(FromKernel::Network(it));
        let network = network.run(&picture, &tell);
        let ears = zip(arp.run(&own, &heard), nd.run(&own, &heard));
        zip(network, zip(ruleset, ears)).await;
    }
}
