//! Links that are made for Services: those that are wanted are compared with those that are.
//! Only what this instance made is ever removed, and not while a VIP is on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::backoff::Backoff;
use super::network::{LinkChoice, MadeLink, Network};
use super::sabotage::{Sabotage, sabotaged};
use super::{Cx, Deadline};
use crate::model::{
    Instant, KernelAnswer, KernelJob, LinkIndex, LinkName, Make, NewLink, ObjectName, OrderId, Vip,
};

/// The kernel said no: it is asked again after this, and then more seldom.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);
/// What was done comes to be known by a notification; if it does not, it is done again.
const COMES_BACK: Duration = Duration::from_secs(1);

/// Who wants a link.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Wanter {
    /// The lease of a Service: here, where it is held.
    Lease(ObjectName),
    /// The place of a VIP: wherever it might come to be.
    Place(Vip),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    wanted: BTreeMap<LinkName, Wanted>,
    of: BTreeMap<Wanter, Vec<LinkName>>,
    /// What is under way, or is not to be tried again yet.
    orders: BTreeMap<LinkName, Order>,
    /// Something happened that links hang on.
    news: bool,
    seen: Option<u64>,
}

#[derive(Clone, Debug)]
struct Wanted {
    link: MadeLink,
    by: BTreeSet<Wanter>,
}

#[derive(Clone, Debug)]
struct Order {
    under_way: Option<OrderId>,
    again_at: Instant,
    backoff: Backoff,
}

impl Links {
    /// Who wants which links from now on: that of the choice, and those below it.
    pub fn want(&mut self, wanter: Wanter, choice: Option<&LinkChoice>) {
        let mut links = Vec::new();
        let mut next = choice;
        while let Some(LinkChoice::Made(it)) = next {
            // An address of its own is had by one node at a time.
            let everywhere = matches!(it.make, Make::Vlan { .. });
            if everywhere || matches!(wanter, Wanter::Lease(_)) {
                links.push(it.as_ref());
            }
            next = Some(&it.parent);
        }
        let names: Vec<_> = links.iter().map(|it| it.name.clone()).collect();
        let before = match names.is_empty() {
            true => self.of.remove(&wanter),
            false => self.of.insert(wanter.clone(), names),
        };
        for name in before.iter().flatten() {
            if let Some(it) = self.wanted.get_mut(name) {
                it.by.remove(&wanter);
            }
            self.news = true;
        }
        for link in links {
            let fresh = || Wanted { link: link.clone(), by: BTreeSet::new() };
            let it = self.wanted.entry(link.name.clone()).or_insert_with(fresh);
            if it.by.is_empty() {
                it.link = link.clone();
            }
            it.by.insert(wanter.clone());
            self.news = true;
        }
        self.wanted.retain(|_, it| !it.by.is_empty());
    }

    pub fn on_answer(
        &mut self,
        cx: &mut Cx<'_>,
        network: &mut Network,
        order: OrderId,
        answer: &KernelAnswer,
    ) {
        let mut of = self.orders.iter_mut().filter(|it| it.1.under_way == Some(order));
        let Some((name, it)) = of.next() else {
            return;
        };
        it.under_way = None;
        it.again_at = match answer.refusal() {
            None => cx.now + COMES_BACK,
            Some(why) => {
                network.note_unmade(name, Some(why.to_owned()));
                cx.now + it.backoff.wait(cx.rng)
            }
        };
        self.news = true;
    }

    /// Makes those that are equal to those that are wanted. `ends`: nothing is wanted any more.
    /// `is_used`: a VIP is on the link.
    pub fn reconcile(
        &mut self,
        cx: &mut Cx<'_>,
        network: &mut Network,
        ends: bool,
        is_used: &dyn Fn(LinkIndex) -> bool,
    ) {
        let due = self.orders.values().any(|it| it.under_way.is_none() && it.again_at <= cx.now);
        let seen = Some(network.revision());
        let removes = network.made().any(|it| ends || !self.wanted.contains_key(&it.name));
        if !self.news && !due && !removes && self.seen == seen {
            return;
        }
        let mut open: BTreeMap<LinkName, KernelJob> = BTreeMap::new();
        for it in network.made() {
            let wanted = !ends && self.wanted.contains_key(&it.name);
            if !wanted && !is_used(it.index) && !sabotaged(Sabotage::LinkKept) {
                open.insert(it.name.clone(), KernelJob::RemoveLink { link: it.index });
            }
        }
        for (name, it) in self.wanted.iter().filter(|_| !ends) {
            let there = network.by_name(name);
            if there.is_some_and(|it| it.up || !it.ours) {
                continue;
            }
            // Of what is chosen by a VIP's subnet there is none below a link that is made.
            let vip = it.by.iter().find_map(Wanter::vip).unwrap_or(ANY);
            if let Some(parent) = network.choose(&it.link.parent, vip).map(|it| it.index) {
                let new = NewLink { name: name.clone(), parent, make: it.link.make };
                open.insert(name.clone(), KernelJob::MakeLink(new));
            }
        }
        self.orders.retain(|name, it| {
            let over = it.under_way.is_none() && !open.contains_key(name);
            if over {
                network.note_unmade(name, None);
            }
            !over
        });
        for (name, job) in open {
            let it = self.orders.entry(name).or_insert_with(|| Order {
                under_way: None,
                again_at: cx.now,
                backoff: Backoff::new(AGAIN, AGAIN_AT_MOST),
            });
            if it.under_way.is_none() && it.again_at <= cx.now {
                it.under_way = Some(cx.order(job));
            }
        }
        (self.news, self.seen) = (false, Some(network.revision()));
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.orders.values().all(|it| it.under_way.is_none())
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let waiting = self.orders.values().filter(|it| it.under_way.is_none());
        waiting.map(|it| Deadline { at: it.again_at, why: "a link is to be made or removed" }).min()
    }
}

impl Wanter {
    fn vip(&self) -> Option<Vip> {
        match self {
            Self::Lease(_) => None,
            Self::Place(vip) => Some(*vip),
        }
    }
}

/// In no subnet.
const ANY: Vip = Vip(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Action, NextIds, Rng};
    use crate::model::{Hardware, Link, LinkKind, Mac, NetworkChange, Refusal};

    const VIP: Vip = Vip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)));
    const ETH0: LinkIndex = LinkIndex(2);
    const VLAN: LinkIndex = LinkIndex(7);

    /// Links, a network, and the kernel's orders.
    struct Bench {
        links: Links,
        network: Network,
        now: Instant,
        rng: Rng,
        next: NextIds,
        used: bool,
    }

    impl Bench {
        fn new() -> Self {
            let mut network = Network::default();
            let now = Instant::from_nanos(1_000_000_000);
            let (links, addresses) = (vec![link(ETH0, "eth0", LinkKind::Other)], Vec::new());
            let all = NetworkChange::Snapshot { links, addresses, default_link: None };
            network.learn(now, all);
            let (rng, next) = (Rng::from_seed(1), NextIds::default());
            Self { links: Links::default(), network, now, rng, next, used: false }
        }

        fn turn(&mut self, turn: impl FnOnce(&mut Self, &mut Cx<'_>)) -> Vec<(OrderId, KernelJob)> {
            let (mut rng, mut next, mut out) = (self.rng.clone(), self.next, Vec::new());
            let cx = &mut Cx { now: self.now, rng: &mut rng, out: &mut out, next: &mut next };
            turn(self, cx);
            let used = self.used;
            self.links.reconcile(cx, &mut self.network, false, &|_| used);
            (self.rng, self.next) = (rng, next);
            let order = |it| match it {
                Action::Kernel { order, job } => (order, job),
                other => panic!("{other:?}"),
            };
            out.into_iter().map(order).collect()
        }

        fn want(&mut self, choice: Option<&LinkChoice>) -> Vec<(OrderId, KernelJob)> {
            self.turn(|it, _| it.links.want(Wanter::Place(VIP), choice))
        }

        fn answer(&mut self, order: OrderId, answer: &KernelAnswer) -> Vec<(OrderId, KernelJob)> {
            self.turn(|it, cx| it.links.on_answer(cx, &mut it.network, order, answer))
        }

        fn network(&mut self, change: NetworkChange) -> Vec<(OrderId, KernelJob)> {
            self.turn(|it, cx| it.network.learn(cx.now, change))
        }

        fn refusal(&self) -> Option<Refusal> {
            self.network.usable(&vlan(), VIP, self.now, false).err()
        }
    }

    fn link(index: LinkIndex, name: &str, kind: LinkKind) -> Link {
        Link {
            index,
            name: LinkName(name.to_owned()),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            hardware: Hardware::Ethernet,
            up: true,
            carrier: true,
            kind,
            ours: kind != LinkKind::Other,
        }
    }

    fn vlan() -> LinkChoice {
        LinkChoice::Made(Box::new(MadeLink {
            name: LinkName("eth0.9".to_owned()),
            parent: LinkChoice::Named(LinkName("eth0".to_owned())),
            make: Make::Vlan { tag: 9 },
        }))
    }

    fn made() -> NetworkChange {
        let kind = LinkKind::Vlan { parent: ETH0, tag: 9 };
        NetworkChange::Link(link(VLAN, "eth0.9", kind))
    }

    #[test]
    fn a_link_is_made_once_and_removed_when_nobody_wants_it_and_no_vip_is_on_it() {
        let mut it = Bench::new();
        let orders = it.want(Some(&vlan()));
        let [(order, KernelJob::MakeLink(new))] = &orders[..] else { panic!("{orders:?}") };
        assert_eq!((new.parent, &new.make), (ETH0, &Make::Vlan { tag: 9 }));
        assert_eq!(it.refusal().map(|it| it.code()), Some("link-awaited"));
        assert_eq!(it.answer(*order, &KernelAnswer::Done), []);
        assert_eq!(it.network(made()), []);
        assert_eq!(it.refusal(), None);
        it.used = true;
        assert_eq!(it.want(None), []);
        it.used = false;
        let orders = it.turn(|_, _| ());
        let [(order, KernelJob::RemoveLink { link: VLAN })] = orders[..] else { panic!() };
        assert_eq!(it.answer(order, &KernelAnswer::Done), []);
        assert_eq!(it.network(NetworkChange::LinkGone(VLAN)), []);
        assert_eq!((it.links.is_idle(), it.links.deadline()), (true, None));
    }

    #[test]
    fn what_the_kernel_refuses_is_told_and_tried_again_more_seldom() {
        let mut it = Bench::new();
        let mut orders = it.want(Some(&vlan()));
        let mut waits = Vec::new();
        for _ in 0..3 {
            let [(order, KernelJob::MakeLink(_))] = orders[..] else { panic!("{orders:?}") };
            assert_eq!(it.answer(order, &KernelAnswer::Failed("no room".to_owned())), []);
            assert_eq!(it.refusal().map(|it| it.code()), Some("link-not-made"));
            let next = it.links.deadline().unwrap().at;
            waits.push(next.saturating_since(it.now));
            it.now = next;
            orders = it.turn(|_, _| ());
        }
        assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
        it.network(made());
        it.now = it.now + AGAIN_AT_MOST;
        it.turn(|_, _| ());
        assert_eq!(it.refusal(), None);
    }

    #[test]
    fn a_link_of_somebody_else_is_used_if_it_is_the_one_that_is_asked_for_and_never_removed() {
        let mut it = Bench::new();
        let others = |tag| {
            let kind = LinkKind::Vlan { parent: ETH0, tag };
            NetworkChange::Link(Link { ours: false, ..link(VLAN, "eth0.9", kind) })
        };
        it.network(others(9));
        assert_eq!(it.want(Some(&vlan())), []);
        assert_eq!(it.refusal(), None);
        assert_eq!(it.network(others(8)), []);
        let refusal = it.refusal().unwrap();
        assert_eq!(refusal.to_string(), "there is a link eth0.9, and it is not VLAN 9 of eth0");
        assert_eq!(it.want(None), []);
    }

    #[test]
    fn a_link_of_ours_that_was_turned_off_is_turned_on() {
        let mut it = Bench::new();
        let [(order, _)] = it.want(Some(&vlan()))[..] else { panic!() };
        it.answer(order, &KernelAnswer::Done);
        assert_eq!(it.network(made()), []);
        let kind = LinkKind::Vlan { parent: ETH0, tag: 9 };
        let off = Link { up: false, carrier: false, ..link(VLAN, "eth0.9", kind) };
        let orders = it.network(NetworkChange::Link(off));
        assert!(matches!(orders[..], [(_, KernelJob::MakeLink(_))]), "{orders:?}");
    }

    #[test]
    fn an_address_of_its_own_is_made_where_the_lease_is_held_only() {
        let below = LinkName("eth0".to_owned());
        let make = Make::Macvlan { mac: Mac([2; 6]), rp_filter: 0 };
        let choice = |parent| {
            let name = LinkName("vip-1".to_owned());
            LinkChoice::Made(Box::new(MadeLink { name, parent, make }))
        };
        let mut it = Bench::new();
        let plain = choice(LinkChoice::Named(below));
        assert_eq!(it.want(Some(&plain)), []);
        assert_eq!(
            it.network.usable(&plain, VIP, it.now, false).unwrap_err().code(),
            "link-awaited"
        );
        assert!(it.network.could_use(&plain, VIP, it.now, false).is_ok());
        let lease = Wanter::Lease("a/b".into());
        let orders = it.turn(|it, _| it.links.want(lease.clone(), Some(&plain)));
        assert!(matches!(orders[..], [(_, KernelJob::MakeLink(_))]), "{orders:?}");
        // On top of a link that is made as well, that one first.
        let mut it = Bench::new();
        let stacked = choice(vlan());
        let orders = it.turn(|it, _| it.links.want(lease.clone(), Some(&stacked)));
        let [(_, KernelJob::MakeLink(new))] = &orders[..] else { panic!("{orders:?}") };
        assert_eq!(new.name, LinkName("eth0.9".to_owned()));
        let orders = it.network(made());
        let [(_, KernelJob::MakeLink(new))] = &orders[..] else { panic!("{orders:?}") };
        assert_eq!((new.name.0.as_str(), new.parent), ("vip-1", VLAN));
    }
}
