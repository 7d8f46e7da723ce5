//! When hello is said, and what an operator is told.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::raft::UNREADABLE;
use super::{Discovery, Heard, group};
use crate::engine::{Action, Cx};
use crate::model::{Company, DiscoveryStatus, Envelope, Hello, Instant, NodeName};

/// How often one who waits says hello, at first.
const FAST: Duration = Duration::from_millis(200);
/// For so long.
const FAST_FOR: Duration = Duration::from_secs(30);
/// And then.
const STEADY: Duration = Duration::from_secs(1);
/// Who waits for nothing says hello so often.
const SLOW: Duration = Duration::from_secs(30);
/// What is new is said at once, but not more often.
const NEWS: Duration = Duration::from_millis(50);

impl Discovery {
    /// Who does not know that it is heard, or waits for something, is answered soon.
    pub(super) fn hurry_for(&mut self, it: &Heard) {
        let Some((_, _, said_at)) = &self.said else {
            return;
        };
        let gap = match (self.hears_us(it), it.hello.cluster == self.cluster) {
            (false, _) => FAST,
            (true, false) => STEADY,
            (true, true) => return,
        };
        self.next_at = self.next_at.min(*said_at + gap);
    }

    pub(super) fn be_restless(&mut self, now: Instant) {
        self.restless_since = now;
        self.next_at = now;
    }

    pub(super) fn speak(&mut self, cx: &mut Cx<'_>) {
        let Ok(here) = &self.here else {
            return;
        };
        let (set, pledged) = self.intent(cx.now);
        if let Some((said, was_pledged, at)) = &self.said
            && (said, *was_pledged) != (&set, pledged)
        {
            self.next_at = self.next_at.min(*at + NEWS);
        }
        if cx.now < self.next_at {
            return;
        }
        let hears = self.heard.iter().map(|(name, it)| (name.clone(), it.life)).collect();
        let hello = Hello {
            address: here.address,
            witness: self.config.witness,
            voters: self.config.voters,
            cluster: self.cluster,
            hears,
            set: set.clone(),
            pledged,
        };
        self.count += 1;
        let envelope = Envelope {
            from: self.me.clone(),
            life: self.life,
            echo: None,
            count: self.count,
            message: None,
            hello: Some(Box::new(hello)),
        };
        let to = SocketAddr::new(group(here.address.ip()), self.config.port);
        cx.act(Action::Send { to, envelope: Box::new(envelope) });
        self.said = Some((set, pledged, cx.now));
        let interval = match self.settled {
            true => SLOW,
            false if cx.now < self.restless_since + FAST_FOR => FAST,
            false => STEADY,
        };
        self.next_at = cx.now + interval;
    }

    /// Whom it would found with, and whether it has pledged itself.
    fn intent(&self, now: Instant) -> (Company, bool) {
        match &self.pledge {
            _ if self.cluster.is_some() => (Company::new(), false),
            Some(pledge) => (pledge.set.clone(), true),
            None => (self.proposal(now).unwrap_or_default(), false),
        }
    }

    /// What a member without a cluster waits for.
    pub fn waits_for(&self, now: Instant) -> String {
        let Some(link) = self.link() else {
            return self.here.as_ref().err().cloned().unwrap_or_default();
        };
        if let Some((address, _)) = self.twin {
            let me = &self.me;
            return format!(
                "another host, at {address}, calls itself {me} too; give each its own vip_nodename"
            );
        }
        if let Some(cluster) = self.asks() {
            let with = self.heard.iter().filter(|(_, it)| it.hello.cluster == Some(cluster));
            let with = names(with.map(|it| it.0));
            return format!("waiting for {with} on {link} to add this one to their cluster");
        }
        if self.hears_of_cluster() {
            let with = self.heard.iter().filter(|(_, it)| it.hello.cluster.is_some());
            let with = names(with.map(|it| it.0));
            return format!("{with} on {link} cannot read its store, and may know of a cluster");
        }
        let wanted = usize::from(self.config.voters);
        if wanted == 1 {
            return format!("listening on {link} for others before it founds a cluster alone");
        }
        let there: Vec<_> = self.candidates(now).map(|it| it.0).collect();
        let missing = (wanted - 1).saturating_sub(there.len());
        let heard = if there.is_empty() { "nobody".into() } else { names(there.iter().copied()) };
        let others = self.heard.iter().filter(|it| !there.contains(&it.0));
        let others = others.map(|(name, it)| match it.hello.voters == self.config.voters {
            true => format!("; {name} does not hear this one"),
            false => format!("; {name} founds with {}, not with {wanted}", it.hello.voters),
        });
        let others: String = others.collect();
        match (missing, self.intent(now).0.is_empty()) {
            (0, true) => format!("waiting for others of {heard} on {link} to found a cluster"),
            (0, false) => format!("agreeing with {heard} on {link} to found a cluster"),
            (1, _) => format!("waiting for 1 more member on {link}: heard {heard}{others}"),
            (more, _) => {
                format!("waiting for {more} more members on {link}: heard {heard}{others}")
            }
        }
    }

    /// What an operator is told.
    pub fn status(&self, now: Instant, waiting: Option<String>) -> DiscoveryStatus {
        let heard = |(name, it): (&NodeName, &Heard)| {
            let ago = now.saturating_since(it.at).as_secs();
            let cluster = match it.hello.cluster {
                None => "no cluster".to_owned(),
                Some(UNREADABLE) => "a store that cannot be read".to_owned(),
                Some(it) => format!("cluster {it:016x}"),
            };
            (name.to_string(), format!("{}, {cluster}, {ago} s ago", it.hello.address))
        };
        let codes = |it: &std::collections::BTreeMap<&'static str, u64>| {
            it.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect()
        };
        DiscoveryStatus {
            link: self.link().cloned(),
            voters: self.config.voters,
            waiting: waiting.or_else(|| self.obstacle.clone()),
            heard: self.heard.iter().map(heard).collect(),
            refused: self.refused.iter().map(|(ip, it)| (ip.to_string(), codes(it))).collect(),
        }
    }
}

fn names<'a>(names: impl Iterator<Item = &'a NodeName>) -> String {
    names.map(|it| &*it.0).collect::<Vec<_>>().join(", ")
}
