//! Services that are reached by a DNS name: what it stands for is theirs. It is looked up again
//! and again; a look-up that fails changes nothing, and until the first one comes back, the
//! addresses that the Service is told to have are the ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::wants::{Named, Verdict, Wants};
use super::{Known, Services};
use crate::engine::resolver::LOOK_UP_EVERY;
use crate::engine::{Cx, Deadline};
use crate::model::{
    Instant, IpFamily, ObjectName, RequestId, Service, ServiceRefusal, SideCall, SideReply,
};

/// So many are looked up at a time.
const AT_ONCE: usize = 4;

/// What names stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Naming {
    names: BTreeMap<String, Name>,
    of: BTreeMap<ObjectName, BTreeSet<String>>,
    /// Whose addresses may be others than before.
    news: BTreeSet<ObjectName>,
}

#[derive(Clone, Debug)]
struct Name {
    by: BTreeSet<ObjectName>,
    addresses: BTreeSet<IpAddr>,
    failure: Option<String>,
    asked: Option<RequestId>,
    ask_at: Instant,
}

impl Naming {
    /// The Service is reached by these from now on.
    fn want(&mut self, now: Instant, service: &ObjectName, names: &[Named]) {
        let after: BTreeSet<_> = names.iter().map(|it| it.name.clone()).collect();
        let before = match after.is_empty() {
            true => self.of.remove(service),
            false => self.of.insert(service.clone(), after.clone()),
        };
        for name in before.iter().flatten().filter(|it| !after.contains(*it)) {
            if let Some(it) = self.names.get_mut(name) {
                it.by.remove(service);
            }
        }
        for name in after {
            let it = self.names.entry(name).or_insert_with(|| Name {
                by: BTreeSet::new(),
                addresses: BTreeSet::new(),
                failure: None,
                asked: None,
                ask_at: now,
            });
            it.by.insert(service.clone());
        }
        self.names.retain(|_, it| !it.by.is_empty());
    }

    pub fn forget(&mut self, service: &ObjectName) {
        self.want(Instant::from_nanos(0), service, &[]);
    }

    /// Looks up what is due.
    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        let mut under_way = self.names.values().filter(|it| it.asked.is_some()).count();
        for (name, it) in &mut self.names {
            if it.asked.is_none() && it.ask_at <= cx.now && under_way < AT_ONCE {
                it.asked = Some(cx.side(SideCall::Resolve { name: name.clone() }));
                under_way += 1;
            }
        }
    }

    pub fn on_side(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &SideReply) {
        let Some(it) = self.names.values_mut().find(|it| it.asked == Some(request)) else {
            return;
        };
        it.asked = None;
        it.ask_at = cx.now + cx.rng.jittered(LOOK_UP_EVERY);
        let (before, failure) = (it.addresses.clone(), it.failure.take());
        match reply {
            SideReply::Resolved(addresses) => it.addresses = addresses.iter().copied().collect(),
            SideReply::Failed(fault) => it.failure = Some(fault.why.clone()),
            SideReply::Candidates(_) | SideReply::Done | SideReply::Nodes(_) => {}
        }
        if before != it.addresses || failure != it.failure {
            self.news.extend(it.by.iter().cloned());
        }
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let under_way = self.names.values().filter(|it| it.asked.is_some()).count();
        let waiting = self.names.values().filter(|it| it.asked.is_none() && under_way < AT_ONCE);
        waiting.map(|it| Deadline { at: it.ask_at, why: "look a Service's name up" }).min()
    }

    /// The addresses that a Service has by a name. Those that it is told to have stay as long
    /// as the name stands for them.
    fn addresses(&self, service: &Service, wanted: &Named) -> Vec<IpAddr> {
        let known = self.names.get(&wanted.name).map(|it| &it.addresses);
        let known = known.filter(|it| !it.is_empty());
        let told = || service.ingress.iter().filter_map(|it| it.ip);
        let chosen = wanted.families.iter().filter_map(|family| {
            let fits = |it: &IpAddr| IpFamily::of(*it) == *family && is_good(*it);
            let stays = told().filter(fits).find(|it| known.is_none_or(|all| all.contains(it)));
            stays.or_else(|| known?.iter().copied().find(|it| fits(it)))
        });
        let chosen: Vec<_> = chosen.collect();
        match wanted.all && chosen.len() < wanted.families.len() {
            true => Vec::new(),
            false => chosen,
        }
    }

    /// Why a Service has no address by a name.
    fn refusal(&self, service: &Service, wanted: &[Named]) -> Option<ServiceRefusal> {
        let nothing = |it: &&Named| self.addresses(service, it).is_empty();
        let wanted = wanted.iter().find(nothing)?;
        let name = wanted.name.clone();
        let known = self.names.get(&name);
        let why = match known.and_then(|it| it.failure.clone()) {
            Some(failure) => failure,
            None if known.is_none_or(|it| it.addresses.is_empty()) => {
                "it is being looked up".into()
            }
            None => "it stands for no address of the Service's ipFamilies".into(),
        };
        Some(ServiceRefusal::Unresolved { name, why })
    }
}

impl Services {
    /// Adds what the names of the Service stand for to its addresses.
    pub(super) fn add_named(&mut self, now: Instant, service: &Service, verdict: &mut Verdict) {
        let Verdict::Wanted(Wants { addresses, names, .. }) = verdict else {
            self.naming.forget(&service.name);
            return;
        };
        self.naming.want(now, &service.name, names);
        for name in names.iter() {
            let more = self.naming.addresses(service, name);
            addresses.extend(
                more.iter().filter(|it| !addresses.contains(it)).copied().collect::<Vec<_>>(),
            );
        }
    }

    /// Services whose names stand for something else have other addresses.
    pub(super) fn take_named(&mut self, now: Instant) {
        for name in std::mem::take(&mut self.naming.news) {
            if let Some(service) = self.services.get(&name).map(|it| it.service()) {
                self.take(now, service);
            }
        }
    }

    /// Why a Service has no address by a name.
    pub(super) fn unresolved(&self, known: &Known) -> Option<ServiceRefusal> {
        match &known.verdict {
            Verdict::Wanted(it) => self.naming.refusal(&known.service(), &it.names),
            Verdict::Addressless | Verdict::Others | Verdict::Refused(_) => None,
        }
    }
}

/// What a node can carry for others.
fn is_good(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !broadcast
}
