//! VIPs that nothing reaches but the ports of their Services. What is to be let through is
//! compared with what the kernel was told. Where it is not told, the VIP is not answered for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::agenda::Agenda;
use super::sabotage::{Sabotage, sabotaged};
use super::{Cx, Deadline};
use crate::model::{Guarded, Instant, KernelAnswer, KernelJob, OrderId, ServicePort, Vip};

/// The kernel said no: it is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// So many go together.
const TOGETHER: usize = 128;

/// The ports that a VIP is reached on.
pub(crate) type Ports = BTreeSet<ServicePort>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    all: BTreeMap<Vip, Guard>,
    /// What has to be told of.
    open: BTreeSet<Vip>,
    orders: BTreeMap<OrderId, Vec<Vip>>,
    /// When the kernel is asked again.
    agenda: Agenda,
}

/// One VIP.
#[derive(Clone, Debug, Default)]
struct Guard {
    wanted: Option<Ports>,
    /// As last ordered.
    told: Option<Ports>,
    order: Option<OrderId>,
    refused: Option<(String, Instant)>,
}

impl Guards {
    /// What the VIP is reached on, if anything keeps the rest away.
    pub fn want(&mut self, vip: Vip, ports: Option<&Ports>) {
        let Some(ports) = ports else {
            if let Some(it) = self.all.get_mut(&vip).filter(|it| it.wanted.is_some()) {
                it.wanted = None;
                self.open.insert(vip);
            }
            return;
        };
        let it = self.all.entry(vip).or_default();
        if it.wanted.is_some() && sabotaged(Sabotage::GuardOutdated) {
            return;
        }
        if it.wanted.as_ref() != Some(ports) {
            it.wanted = Some(ports.clone());
            self.open.insert(vip);
        }
    }

    /// Returns the VIPs of which something else is so than before.
    pub fn on_answer(&mut self, now: Instant, order: OrderId, answer: &KernelAnswer) -> Vec<Vip> {
        let vips = self.orders.remove(&order).unwrap_or_default();
        for vip in &vips {
            let Some(it) = self.all.get_mut(vip).filter(|it| it.order == Some(order)) else {
                continue;
            };
            it.order = None;
            it.refused = answer.refusal().map(|why| (why.to_owned(), now + AGAIN));
            let again = it.refused.as_ref().map(|it| it.1);
            if again.is_some() {
                // Nobody knows.
                it.told = None;
            }
            let again = again.map(|at| Deadline { at, why: "a VIP is to be guarded" });
            self.agenda.set(*vip, again);
            self.open.insert(*vip);
        }
        vips
    }

    /// Tells the kernel what differs.
    pub fn reconcile(&mut self, cx: &mut Cx<'_>) {
        self.open.extend(self.agenda.due(cx.now));
        let mut orders = Vec::new();
        for vip in std::mem::take(&mut self.open) {
            let Some(it) = self.all.get_mut(&vip) else {
                continue;
            };
            let waits = it.refused.as_ref().is_some_and(|it| cx.now < it.1);
            if it.wanted.is_none() && it.told.is_none() && it.refused.is_none() {
                if it.order.is_none() {
                    self.all.remove(&vip);
                }
                continue;
            }
            let same = it.wanted == it.told && it.refused.is_none();
            if !same && !waits {
                it.told.clone_from(&it.wanted);
                let ports = it.wanted.iter().flatten().copied().collect();
                orders.push(Guarded { vip, ports, on: it.wanted.is_some() });
            }
        }
        for some in orders.chunks(TOGETHER) {
            let order = cx.order(KernelJob::Guard(some.to_vec()));
            for Guarded { vip, .. } in some {
                if let Some(it) = self.all.get_mut(vip) {
                    it.order = Some(order);
                    // What is said of it comes with the answer.
                    if let Some((_, again_at)) = &mut it.refused {
                        *again_at = cx.now + AGAIN;
                    }
                }
                self.agenda.set(*vip, None);
            }
            self.orders.insert(order, some.iter().map(|it| it.vip).collect());
        }
    }

    /// Why the VIP must not be answered for.
    pub fn refusal(&self, vip: Vip) -> Option<&str> {
        Some(self.all.get(&vip)?.refused.as_ref()?.0.as_str())
    }

    /// Whether the kernel has been told that nothing is kept away any more.
    pub fn is_gone(&self) -> bool {
        self.all.values().all(|it| it.told.is_none() && it.order.is_none())
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.agenda.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Action, NextIds, Rng};
    use crate::model::Protocol;

    const VIP: Vip = Vip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)));

    fn ports(all: &[u16]) -> Ports {
        all.iter().map(|port| ServicePort { port: *port, protocol: Protocol::Tcp }).collect()
    }

    fn turn(guards: &mut Guards, now: Instant, next: &mut NextIds) -> Vec<(OrderId, Guarded)> {
        let (mut rng, mut out) = (Rng::from_seed(1), Vec::new());
        guards.reconcile(&mut Cx { now, rng: &mut rng, out: &mut out, next });
        let guard = |it| match it {
            Action::Kernel { order, job: KernelJob::Guard(all) } => (order, all[0].clone()),
            other => panic!("{other:?}"),
        };
        out.into_iter().map(guard).collect()
    }

    #[test]
    fn what_is_let_through_follows_what_is_wanted() {
        let (mut guards, mut next) = (Guards::default(), NextIds::default());
        let now = Instant::from_nanos(1_000_000_000);
        guards.want(VIP, Some(&ports(&[80])));
        let [(order, it)] = &turn(&mut guards, now, &mut next)[..] else { panic!() };
        assert!(it.on && it.ports == Vec::from_iter(ports(&[80])));
        assert_eq!(turn(&mut guards, now, &mut next), []);
        assert_eq!(guards.on_answer(now, *order, &KernelAnswer::Done), [VIP]);
        guards.want(VIP, Some(&ports(&[80])));
        assert_eq!(turn(&mut guards, now, &mut next), []);
        guards.want(VIP, Some(&ports(&[80, 443])));
        let [(order, it)] = &turn(&mut guards, now, &mut next)[..] else { panic!() };
        assert_eq!(it.ports, Vec::from_iter(ports(&[80, 443])));
        guards.on_answer(now, *order, &KernelAnswer::Done);
        guards.want(VIP, None);
        let [(order, it)] = &turn(&mut guards, now, &mut next)[..] else { panic!() };
        assert!(!it.on && !guards.is_gone());
        guards.on_answer(now, *order, &KernelAnswer::Done);
        assert_eq!(turn(&mut guards, now, &mut next), []);
        assert!(guards.is_gone() && guards.all.is_empty() && guards.deadline().is_none());
    }

    #[test]
    fn what_is_not_guarded_is_refused_until_it_is() {
        let (mut guards, mut next) = (Guards::default(), NextIds::default());
        let mut now = Instant::from_nanos(1_000_000_000);
        guards.want(VIP, Some(&ports(&[80])));
        let [(order, _)] = turn(&mut guards, now, &mut next)[..] else { panic!() };
        guards.on_answer(now, order, &KernelAnswer::Failed("no nftables".to_owned()));
        assert_eq!(guards.refusal(VIP), Some("no nftables"));
        assert_eq!(turn(&mut guards, now, &mut next), []);
        now = guards.deadline().unwrap().at;
        let [(order, _)] = turn(&mut guards, now, &mut next)[..] else { panic!() };
        assert_eq!(guards.refusal(VIP), Some("no nftables"));
        assert_eq!(guards.on_answer(now, order, &KernelAnswer::Done), [VIP]);
        assert_eq!(guards.refusal(VIP), None);
        assert_eq!(turn(&mut guards, now, &mut next), []);
    }
}
