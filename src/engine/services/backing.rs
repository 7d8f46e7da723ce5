//! Where Services are served: all EndpointSlices of a Service taken together.
//!
//! A loss counts only once it has lasted: endpoints that come and go ten times a second
//! would otherwise make the VIP come and go with them. What is about to end still serves,
//! so a VIP stays with it; a new one is not begun there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::wants::Backing;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::model::{Endpoint, EndpointSlice, Instant, NodeName, ObjectName};

/// Without an endpoint for so long, a VIP is given up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether a Service may be answered for here, as far as endpoints go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backed {
    /// It may.
    Yes,
    /// What is answered for stays; nothing is begun.
    Ends,
    /// It may not.
    No,
}

#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    me: NodeName,
    /// Of which Service each slice is.
    slices: BTreeMap<ObjectName, ObjectName>,
    /// What each slice says of its Service, which comes first.
    said: BTreeMap<(ObjectName, ObjectName), Reach>,
    /// Services that have nobody, somewhere, since a while ago.
    lost: BTreeMap<ObjectName, LostAt>,
    /// When patience ends, with whom.
    losses: BTreeSet<(Instant, ObjectName)>,
}

/// How many are ready and how many serve, on any node and on this one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Reach {
    anywhere: Count,
    here: Count,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Count {
    ready: u16,
    serving: u16,
}

/// Since when there has been nobody.
#[derive(Clone, Copy, Debug, Default)]
struct LostAt {
    anywhere: Option<Instant>,
    here: Option<Instant>,
}

impl LostAt {
    /// Whether nobody is waited for any more.
    fn is_over(self, now: Instant) -> bool {
        self.anywhere.max(self.here).is_none_or(|it| it + PATIENCE <= now)
    }
}

impl Endpoints {
    pub fn new(me: NodeName) -> Self {
        let (slices, said, lost, losses) = Default::default();
        Self { me, slices, said, lost, losses }
    }

    /// A slice as it is now, and the name of its Service. Returns the Services for which
    /// something changed.
    pub fn learn(
        &mut self,
        now: Instant,
        slice: &EndpointSlice,
        of: ObjectName,
    ) -> Vec<ObjectName> {
        let mut reach = Reach::default();
        for endpoint in &slice.endpoints {
            reach.anywhere.count(endpoint);
            if endpoint.node.as_ref() == Some(&self.me) {
                reach.here.count(endpoint);
            }
        }
        let before = self.slices.insert(slice.name.clone(), of.clone());
        let left = before.filter(|it| *it != of);
        let left = left.filter(|service| self.say(now, service, &slice.name, None));
        let joined = self.say(now, &of, &slice.name, Some(reach));
        left.into_iter().chain(joined.then_some(of)).collect()
    }

    /// A slice is gone. Returns the Service for which something changed.
    pub fn forget(&mut self, now: Instant, slice: &ObjectName) -> Option<ObjectName> {
        let service = self.slices.remove(slice)?;
        self.say(now, &service, slice, None).then_some(service)
    }

    /// The slices that are known.
    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.slices.keys()
    }

    /// Whether the Service may be answered for.
    pub fn backed(&self, now: Instant, service: &ObjectName, backing: Backing) -> Backed {
        let all = self.all(service);
        let lost = self.lost.get(service).copied().unwrap_or_default();
        let (count, lost_at) = match backing {
            Backing::None => return Backed::Yes,
            Backing::Anywhere => (all.anywhere, lost.anywhere),
            Backing::Here => (all.here, lost.here),
        };
        match (count.ready, count.serving) {
            (1.., _) => Backed::Yes,
            (0, 1..) => Backed::Ends,
            (0, 0) if sabotaged(Sabotage::LossCountsAtOnce) => Backed::No,
            (0, 0) if lost_at.is_some_and(|it| now < it + PATIENCE) => Backed::Ends,
            (0, 0) => Backed::No,
        }
    }

    /// The Services whose loss counts from now on.
    pub fn expire(&mut self, now: Instant) -> Vec<ObjectName> {
        let mut lost = Vec::new();
        while self.losses.first().is_some_and(|it| it.0 <= now) {
            let Some((_, service)) = self.losses.pop_first() else { break };
            if self.lost.get(&service).is_some_and(|it| it.is_over(now)) {
                self.lost.remove(&service);
            }
            lost.push(service);
        }
        lost
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.losses.first().map(|it| it.0)
    }

    /// What one slice says of a Service from now on; returns whether that changes anything.
    fn say(
        &mut self,
        now: Instant,
        service: &ObjectName,
        slice: &ObjectName,
        reach: Option<Reach>,
    ) -> bool {
        let before = self.all(service);
        let key = (service.clone(), slice.clone());
        match reach {
            Some(reach) => drop(self.said.insert(key, reach)),
            None if sabotaged(Sabotage::StaleEndpointsServed) => {}
            None => drop(self.said.remove(&key)),
        }
        let after = self.all(service);
        let mut lost = self.lost.get(service).copied().unwrap_or_default();
        let turns = [
            (before.anywhere, after.anywhere, &mut lost.anywhere),
            (before.here, after.here, &mut lost.here),
        ];
        for (before, after, lost_at) in turns {
            if after != Count::default() {
                *lost_at = None;
            } else if before != Count::default() {
                *lost_at = Some(now);
                self.losses.insert((now + PATIENCE, service.clone()));
            }
        }
        match lost.is_over(now) {
            true => drop(self.lost.remove(service)),
            false => drop(self.lost.insert(service.clone(), lost)),
        }
        before != after
    }

    /// What all slices of a Service say together.
    fn all(&self, service: &ObjectName) -> Reach {
        let of_it = self.said.range((service.clone(), "".into())..);
        let of_it = of_it.take_while(|it| it.0.0 == *service).map(|it| *it.1);
        of_it.fold(Reach::default(), |sum, it| Reach {
            anywhere: sum.anywhere.and(it.anywhere),
            here: sum.here.and(it.here),
        })
    }
}

impl Count {
    fn count(&mut self, endpoint: &Endpoint) {
        *self = self.and(Self { ready: endpoint.ready.into(), serving: endpoint.serving.into() });
    }

    fn and(self, other: Self) -> Self {
        Self {
            ready: self.ready.saturating_add(other.ready),
            serving: self.serving.saturating_add(other.serving),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{EndpointSlice, ResourceVersion};

    fn name(text: &str) -> ObjectName {
        ObjectName::new("a", text)
    }

    /// Such as `n1 n2! n3-`: ready, about to end, not serving.
    fn slice(of: &str, endpoints: &str) -> EndpointSlice {
        EndpointSlice {
            name: name(of),
            version: ResourceVersion("1".into()),
            service: name("web"),
            endpoints: endpoints
                .split_whitespace()
                .map(|it| Endpoint {
                    node: Some(NodeName(it.trim_end_matches(['!', '-']).into())),
                    ready: !it.ends_with(['!', '-']),
                    serving: !it.ends_with('-'),
                })
                .collect(),
        }
    }

    #[test]
    fn slices_count_together_and_a_loss_counts_once_it_lasts() {
        use Backed::{Ends, No, Yes};
        // Milliseconds; slice and its endpoints, - for gone; anywhere; here.
        let table = [
            (0, "s1", "n2", Yes, No),
            (10, "s2", "n1", Yes, Yes),
            (20, "s3", "", Yes, Yes),
            (30, "s2", "n1!", Yes, Ends),
            (40, "s2", "n1-", Yes, Ends),
            (1_030, "s4", "", Yes, Ends),
            (1_050, "s4", "", Yes, No),
            (2_000, "s1", "-", Ends, No),
            (2_900, "s1", "n2", Yes, No),
            (2_950, "s1", "-", Ends, No),
            (3_960, "s4", "-", No, No),
        ];
        let mut it = Endpoints::new(NodeName("n1".into()));
        for (ms, of, endpoints, anywhere, here) in table {
            let now = Instant::from_nanos(0) + Duration::from_millis(ms);
            it.expire(now);
            match endpoints {
                "-" => drop(it.forget(now, &name(of))),
                _ => drop(it.learn(now, &slice(of, endpoints), name("web"))),
            }
            assert_eq!(it.backed(now, &name("web"), Backing::Anywhere), anywhere, "{ms}");
            assert_eq!(it.backed(now, &name("web"), Backing::Here), here, "{ms}");
            assert_eq!(it.backed(now, &name("web"), Backing::None), Yes);
        }
    }

    #[test]
    fn what_is_gone_leaves_nothing() {
        let mut it = Endpoints::new(NodeName("n1".into()));
        let now = Instant::from_nanos(0);
        for round in 0..100 {
            let now = now + Duration::from_millis(round * 10);
            it.learn(now, &slice("s1", "n1"), name("web"));
            it.forget(now, &name("s1"));
        }
        assert_eq!(it.expire(now + Duration::from_secs(9)).len(), 100);
        assert!(it.said.is_empty() && it.lost.is_empty() && it.slices.is_empty());
        assert!(it.deadline().is_none());
    }
}
