//! Who is heard, and in which life. A member is believed once it has shown that it hears
//! this life of ours: by repeating our life, and a stamp that we sent after its own life was
//! first seen. So neither a replayed datagram nor one of a dead life is believed.
//!
//! ```text
//!   unknown ── its life seen ──▶ challenged ── repeats our life and a later stamp ──▶ known
//! ```
//!
//! The life that is known stays so until another has shown that it lives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::{Action, Cx};
use crate::model::{Envelope, Instant, Life, Member, Members, Message, NodeName};

/// A life that has not shown itself by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who was removed is told so for so long, and again when it is heard after that.
const PARTING: Duration = Duration::from_secs(2);
/// A life that has still to show itself is answered at once so often, and with the beat after
/// that: else two that are each shown a former life of the other would not stop answering.
const GREETINGS: u8 = 4;
/// Others that have the key, but are no members, are remembered for status.
const STRANGERS: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct Post {
    me: NodeName,
    life: Life,
    /// What took longer, there and back, says nothing any more.
    latest: Duration,
    /// The last of our datagrams to anybody: who is a peer again has heard higher numbers than
    /// the first.
    sent: u64,
    peers: BTreeMap<NodeName, Peer>,
    /// Who else speaks to us, and from where.
    strangers: BTreeMap<NodeName, SocketAddr>,
    /// The members are known for certain.
    settled: bool,
}

#[derive(Clone, Debug)]
struct Peer {
    address: SocketAddr,
    known: Option<Seen>,
    challenged: Option<Seen>,
    heard_at: Option<Instant>,
    round_trip: Option<Duration>,
    refused: BTreeMap<&'static str, u64>,
    /// It is no member any more, and is spoken to until then, so that it hears of that.
    parting: Option<Instant>,
}

/// A life of a peer.
#[derive(Clone, Copy, Debug)]
struct Seen {
    life: Life,
    since: Instant,
    /// The highest datagram of this life.
    count: u64,
    /// Its last stamp, and when that came.
    stamp: Option<(u64, Instant)>,
    greeted: u8,
}

/// What came of a datagram.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Received {
    /// A member says this; `fresh`: it has begun another life.
    Believed { message: Box<Message>, life: Life, fresh: bool },
    /// Not believed yet: it should hear from us soon.
    Introduced,
    /// Not believed, for this reason.
    Refused(&'static str),
}

impl Post {
    pub fn new(me: NodeName, life: Life, latest: Duration) -> Self {
        let (peers, strangers) = (BTreeMap::new(), BTreeMap::new());
        Self { me, life, latest, sent: 0, peers, strangers, settled: false }
    }

    /// These are the members from here on; unless that is `settled`, those before may be
    /// right, and one of them the leader who says so.
    pub fn serve(&mut self, now: Instant, members: &Members, settled: bool) {
        self.settled = settled;
        let is_peer =
            |name: &NodeName, it: &Member| *name != self.me && !it.address.ip().is_unspecified();
        self.peers.retain(|name, peer| match members.get(name) {
            Some(it) => {
                peer.parting = None;
                is_peer(name, it) && it.address == peer.address
            }
            None => !settled || now < *peer.parting.get_or_insert(now + PARTING),
        });
        for (name, it) in members.iter().filter(|(name, it)| is_peer(name, it)) {
            self.peers.entry(name.clone()).or_insert_with(|| Peer::at(it.address));
        }
        self.strangers.retain(|name, _| !members.contains_key(name));
    }

    /// Takes what came. `forwarded`: by a router, although nobody should have.
    pub fn receive(
        &mut self,
        now: Instant,
        address: SocketAddr,
        forwarded: bool,
        envelope: Envelope,
    ) -> Received {
        if !self.peers.contains_key(&envelope.from) {
            self.meet(now, address, &envelope.from);
        }
        let Some(peer) = self.peers.get_mut(&envelope.from) else {
            return Received::Refused("stranger");
        };
        let received = peer.receive(now, (self.life, self.latest), address, forwarded, envelope);
        if let Received::Refused(code) = received {
            *peer.refused.entry(code).or_default() += 1;
        }
        received
    }

    /// Somebody with the key who is no member: it may have been one, and not know that it was
    /// removed.
    fn meet(&mut self, now: Instant, address: SocketAddr, name: &NodeName) {
        if *name == self.me {
            return;
        }
        if self.strangers.len() < STRANGERS {
            self.strangers.insert(name.clone(), address);
        }
        let parting = self.peers.values().filter(|it| it.parting.is_some()).count();
        if self.settled && parting < STRANGERS {
            let peer = Peer { parting: Some(now + PARTING), ..Peer::at(address) };
            self.peers.insert(name.clone(), peer);
        }
    }

    /// Sends a message to the life that is known, and to one that has still to show itself.
    pub fn send(&mut self, cx: &mut Cx<'_>, to: &NodeName, message: &Message) {
        let Some(peer) = self.peers.get_mut(to) else {
            return;
        };
        peer.challenged.take_if(|it| peer.known.is_some() && it.since + PATIENCE <= cx.now);
        let lives = match (peer.known, peer.challenged) {
            (None, None) => vec![None],
            (known, challenged) => [known, challenged].into_iter().flatten().map(Some).collect(),
        };
        for seen in lives {
            self.sent += 1;
            let mut message = message.clone();
            if seen.map(|it| it.life) != peer.known.map(|it| it.life) {
                // They are for a hold of the life that is known, and ids begin anew.
                message.answers.clear();
            }
            message.stamp = micros(cx.now);
            message.echo = seen
                .and_then(|it: Seen| it.stamp)
                .map(|(stamp, at)| (stamp, micros(cx.now).saturating_sub(micros(at))));
            let envelope = Envelope {
                from: self.me.clone(),
                life: self.life,
                echo: seen.map(|it| it.life),
                count: self.sent,
                message: Some(Box::new(message)),
                hello: None,
            };
            cx.act(Action::Send { to: peer.address, envelope: Box::new(envelope) });
        }
    }

    pub fn peers(&self) -> impl Iterator<Item = &NodeName> {
        self.peers.keys()
    }

    /// When the member was last believed.
    pub fn heard_at(&self, name: &NodeName) -> Option<Instant> {
        self.peers.get(name)?.heard_at
    }

    pub fn round_trip(&self, name: &NodeName) -> Option<Duration> {
        self.peers.get(name)?.round_trip
    }

    /// How many datagrams of the member were not believed, and why.
    pub fn refused(&self, name: &NodeName) -> BTreeMap<&'static str, u64> {
        self.peers.get(name).map(|it| it.refused.clone()).unwrap_or_default()
    }

    pub fn strangers(&self) -> &BTreeMap<NodeName, SocketAddr> {
        &self.strangers
    }
}

impl Peer {
    fn at(address: SocketAddr) -> Self {
        Self {
            address,
            known: None,
            challenged: None,
            heard_at: None,
            round_trip: None,
            refused: BTreeMap::new(),
            parting: None,
        }
    }

    fn receive(
        &mut self,
        now: Instant,
        (ours, latest): (Life, Duration),
        address: SocketAddr,
        forwarded: bool,
        envelope: Envelope,
    ) -> Received {
        if address != self.address {
            return Received::Refused("address");
        }
        if forwarded {
            return Received::Refused("forwarded");
        }
        let hears_us = envelope.echo == Some(ours);
        if let Some(known) = self.known.as_mut().filter(|it| it.life == envelope.life) {
            // It has heard this life, so it was not meant for it; what was may come after it.
            if !hears_us {
                return Received::Refused("other-life");
            }
            if !known.note(now, &envelope) {
                return Received::Refused("replayed");
            }
            let (life, echo) = (known.life, envelope.message.as_ref().and_then(|it| it.echo));
            return match envelope.message {
                Some(_) if round_trip(now, echo) > Some(latest) => Received::Refused("late"),
                Some(message) => {
                    self.note_round_trip(now, echo);
                    self.heard_at = Some(now);
                    Received::Believed { message, life, fresh: false }
                }
                None => Received::Refused("hello"),
            };
        }
        if self.challenged.is_none_or(|it| it.life != envelope.life) {
            let seen = Seen { life: envelope.life, since: now, count: 0, stamp: None, greeted: 0 };
            self.challenged = Some(seen);
        }
        let Some(seen) = &mut self.challenged else {
            return Received::Introduced;
        };
        if !seen.note(now, &envelope) {
            return Received::Refused("replayed");
        }
        seen.greeted = seen.greeted.saturating_add(1);
        let (seen, echo) = (*seen, envelope.message.as_ref().and_then(|it| it.echo));
        let proven = echo.is_some_and(|(stamp, _)| stamp > micros(seen.since))
            || sabotaged(Sabotage::ReplayBelieved);
        match envelope.message.filter(|_| hears_us && proven) {
            Some(message) => {
                (self.known, self.challenged) = (Some(seen), None);
                self.note_round_trip(now, echo);
                self.heard_at = Some(now);
                Received::Believed { message, life: seen.life, fresh: true }
            }
            None if seen.greeted > GREETINGS => Received::Refused("unproven"),
            None => Received::Introduced,
        }
    }

    fn note_round_trip(&mut self, now: Instant, echo: Option<(u64, u64)>) {
        if let Some(took) = round_trip(now, echo) {
            self.round_trip = Some(self.round_trip.map_or(took, |it| (it * 7 + took) / 8));
        }
    }
}

impl Seen {
    /// Notes a datagram of this life; one that is not newer is not believed.
    fn note(&mut self, now: Instant, envelope: &Envelope) -> bool {
        if envelope.count <= self.count && !sabotaged(Sabotage::ReplayBelieved) {
            return false;
        }
        self.count = envelope.count;
        if let Some(message) = &envelope.message {
            self.stamp = Some((message.stamp, now));
        }
        true
    }
}

fn round_trip(now: Instant, echo: Option<(u64, u64)>) -> Option<Duration> {
    let (stamp, kept) = echo?;
    let took = micros(now).saturating_sub(stamp).saturating_sub(kept);
    Some(Duration::from_micros(took))
}

fn micros(at: Instant) -> u64 {
    at.as_nanos() / 1_000
}

#[cfg(test)]
mod tests;
