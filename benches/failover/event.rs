//! What happens to the node that answers, or to what it lives on.

use std::cell::LazyCell;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;
use nix::sys::signal::Signal;

use crate::lab::api::Api;
use crate::lab::net::{self, Lan, ip_in};
use crate::lab::relay::Relay;
use crate::lab::wait_for;
use crate::system::System;

/// How long an answer of a slow API server takes.
const SLOW: Duration = Duration::from_millis(2_500);
/// How long a link is down that comes up again.
const FLAP: Duration = Duration::from_millis(500);

/// Every event, by the name that `--events` knows, in the order in which they happen: those
/// that keep the machine busy for a while stand last.
pub const EVENTS: [(&str, Event); 13] = [
    ("first", Event::First),
    ("term", Event::Term),
    ("drain", Event::Drain),
    ("kill", Event::Kill),
    ("stop", Event::Stop),
    ("partition", Event::Partition),
    ("carrier", Event::Carrier),
    ("flap", Event::Flap),
    ("address", Event::Address),
    ("ruleset", Event::Ruleset),
    ("api-stop", Event::ApiStop),
    ("api-restart", Event::ApiRestart),
    ("api-slow", Event::ApiSlow),
];

/// An event.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Event {
    /// The first daemon of all starts.
    First,
    /// The daemon is asked to stop.
    Term,
    /// An operator has the node carry nothing.
    Drain,
    /// The daemon is killed.
    Kill,
    /// The daemon hangs, and goes on later.
    Stop,
    /// Both cables of the node are cut at the far end; its links still have a carrier.
    Partition,
    /// The link of the VIP loses its carrier.
    Carrier,
    /// The link of the VIP goes down and up.
    Flap,
    /// Somebody removes the VIP from the link.
    Address,
    /// Somebody flushes nftables.
    Ruleset,
    /// The API server hangs for as long as a Lease lasts.
    ApiStop,
    /// The API server is killed and starts again.
    ApiRestart,
    /// Each answer of the API server takes 2.5 s, for longer than a Lease lasts.
    ApiSlow,
}

/// An event that ends by itself, rather than by [`Event::heal`].
pub struct Ended {
    /// How long it lasted.
    pub lasted: Duration,
    /// When it was over.
    pub at: Instant,
}

impl Event {
    /// The events of these names, separated by commas; `api` is all of the API server's.
    pub fn named(names: &str) -> Vec<Self> {
        let fits = |name: &str, it: &str| it == name || it.starts_with(&format!("{name}-"));
        let known = |name: &&str| EVENTS.iter().any(|it| fits(name, it.0));
        if let Some(strange) = names.split(',').find(|it| !known(it)) {
            panic!("no event is named {strange}; there are {:?}", EVENTS.map(|it| it.0));
        }
        let wanted = |it: &&(&str, Self)| names.split(',').any(|name| fits(name, it.0));
        EVENTS.iter().filter(wanted).map(|it| it.1).collect()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        EVENTS.iter().find(|it| it.1 == self).map_or("", |it| it.0)
    }

    /// Whether a system feels it: one that has an API server, one that has nftables, one that
    /// takes orders.
    pub fn is_for(self, api: bool, nft: bool, orders: bool) -> bool {
        match self {
            Self::ApiStop | Self::ApiRestart | Self::ApiSlow => api,
            Self::Ruleset => nft,
            Self::Drain => orders,
            Self::First
            | Self::Term
            | Self::Kill
            | Self::Stop
            | Self::Partition
            | Self::Carrier
            | Self::Flap
            | Self::Address => true,
        }
    }

    /// Whether another node must answer afterwards.
    pub fn moves(self) -> bool {
        match self {
            Self::Term
            | Self::Drain
            | Self::Kill
            | Self::Stop
            | Self::Partition
            | Self::Carrier => true,
            Self::First
            | Self::Flap
            | Self::Address
            | Self::Ruleset
            | Self::ApiStop
            | Self::ApiRestart
            | Self::ApiSlow => false,
        }
    }

    /// Lets it happen to the node that answers.
    pub fn strike(
        self,
        holder: &str,
        system: &dyn System,
        api: &LazyCell<Api>,
        relay: &Relay,
    ) -> Option<Ended> {
        let began = clock::now();
        match self {
            Self::First => return None,
            Self::Term => system.signal(holder, Signal::SIGTERM),
            Self::Drain => system.drain(holder),
            Self::Kill => system.signal(holder, Signal::SIGKILL),
            Self::Stop => system.signal(holder, Signal::SIGSTOP),
            Self::Partition => {
                net::cut(holder, Lan::Clients);
                net::cut(holder, Lan::Management);
            }
            Self::Carrier => net::unplug(holder, Lan::Clients),
            Self::Flap => {
                ip_in(holder, "link set eth0 down");
                wait_for(FLAP, || false);
                ip_in(holder, "link set eth0 up");
            }
            Self::Address => {
                // A flush of ip's would go on until nobody puts the address back.
                ip_in(holder, &format!("addr del {}/32 dev eth0", system.vip()));
            }
            Self::Ruleset => {
                net::run(net::command_in(holder, "nft").args(["flush", "ruleset"]));
            }
            Self::ApiStop => {
                api.pause();
                wait_for(system.patience(), || false);
                api.resume();
            }
            Self::ApiRestart => {
                api.kill();
                api.restart();
            }
            Self::ApiSlow => {
                relay.delay(SLOW);
                wait_for(system.patience() + SLOW, || false);
                relay.delay(Duration::ZERO);
            }
        }
        let at = clock::now();
        match self {
            Self::Flap | Self::ApiStop | Self::ApiRestart | Self::ApiSlow => {
                Some(Ended { lasted: at.saturating_since(began), at })
            }
            Self::First
            | Self::Term
            | Self::Drain
            | Self::Kill
            | Self::Stop
            | Self::Partition
            | Self::Carrier
            | Self::Address
            | Self::Ruleset => None,
        }
    }

    /// What undoing it is called, where the node is one that may disturb its heir.
    pub fn undone(self) -> Option<&'static str> {
        match self {
            Self::Stop => Some("cont"),
            Self::Partition => Some("rejoin"),
            Self::Carrier => Some("replug"),
            Self::First
            | Self::Term
            | Self::Drain
            | Self::Kill
            | Self::Flap
            | Self::Address
            | Self::Ruleset
            | Self::ApiStop
            | Self::ApiRestart
            | Self::ApiSlow => None,
        }
    }

    /// Undoes what it did to the node.
    pub fn heal(self, holder: &str, system: &mut dyn System) {
        match self {
            Self::Term | Self::Kill => system.revive(holder),
            Self::Drain => system.undrain(holder),
            Self::Stop => system.signal(holder, Signal::SIGCONT),
            Self::Partition => {
                net::mend(holder, Lan::Clients);
                net::mend(holder, Lan::Management);
            }
            Self::Carrier => net::mend(holder, Lan::Clients),
            Self::First
            | Self::Flap
            | Self::Address
            | Self::Ruleset
            | Self::ApiStop
            | Self::ApiRestart
            | Self::ApiSlow => {}
        }
    }
}
