//! A Lease for each Service: as many as Services name, all in one store with one version, so that
//! one list and one watch tell of all of them. Whose owner is gone is collected after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use edgevip::engine::{Action, Input};
use edgevip::model::{
    Followed, Instant, KernelJob, LeaseCall, LeaseOwner, LeaseReply, NamedLease, Object,
    ObjectEvent, ObjectName, Service, Vip, WatchEvent,
};

use crate::apiserver::ApiServer;
use crate::faults::Kind;
use crate::host::{MS, SEC};
use crate::objects::known_by;
use crate::process::{Bond, CONTROL, SERVED};
use crate::world::{Event, World};

/// The first of the Leases of single Services, in what a process has to do with Leases.
pub const OWN: usize = 3;
pub const TOGETHER: &str = "kube-vip.io/leaseName";

/// All Leases of single Services.
#[derive(Default)]
pub struct Own {
    names: Vec<ObjectName>,
    all: BTreeMap<ObjectName, One>,
    /// The Leases of all Services that an address was ever one of.
    hung: BTreeMap<IpAddr, BTreeSet<usize>>,
    /// And of each Service, by its uid.
    of: BTreeMap<String, BTreeSet<usize>>,
}

#[derive(Default)]
struct One {
    api: ApiServer,
    owner: Option<LeaseOwner>,
    /// It was there once, and then was not.
    was_gone: bool,
}

impl Own {
    pub fn number(&self, name: &ObjectName) -> Option<usize> {
        self.names.iter().position(|it| it == name).map(|at| OWN + at)
    }

    /// Who wrote each of them last, where it is held.
    pub fn authors(&self) -> Vec<(ObjectName, Option<edgevip::model::Author>)> {
        let held = self.all.iter().filter(|it| it.1.api.holder().is_some());
        held.map(|(name, it)| (name.clone(), it.api.author())).collect()
    }
}

/// By which Lease a Service is elected.
pub fn lease_of(it: &Service) -> ObjectName {
    match it.annotations.get(TOGETHER) {
        Some(name) => ObjectName::new(it.name.namespace.as_str(), name.as_str()),
        None => ObjectName::new(it.name.namespace.as_str(), format!("kubevip-{}", it.name.name)),
    }
}

impl World {
    pub fn elects_each(&self) -> bool {
        self.cloud.as_ref().is_some_and(|it| it.rules.each)
    }

    /// The Leases on which a VIP may hang.
    pub fn bonds_hung(&self, vip: Vip) -> Vec<usize> {
        match &self.cloud {
            None => vec![CONTROL],
            Some(_) if self.vips.contains(&vip) => vec![CONTROL],
            Some(cloud) if cloud.rules.each => {
                cloud.own.hung.get(&vip.0).into_iter().flatten().copied().collect()
            }
            Some(_) => vec![SERVED],
        }
    }

    /// Whether one node at most is promised to answer. What hangs on another Lease than before, or
    /// on one that was deleted, is asked about, and who is asked may not hear that, or be heard in
    /// time, where the link is bad. How long the kernel takes makes no difference.
    pub fn is_safe(&self, vip: Vip) -> bool {
        let hung = self.bonds_hung(vip);
        let moved =
            self.elects_each() && (hung.len() > 1 || hung.iter().any(|it| self.was_gone(*it)));
        let mut hosts = self.hosts.iter();
        let cut = hosts.any(|it| it.mute_until.max(it.deaf_until) + 20 * SEC > self.now);
        let slow = self.faults.lan_tail > 5 * MS;
        let unheard = self.faults.lan_loss > 0 || slow || (cut && self.now > 20 * SEC);
        self.lied_until <= self.now && !(moved && unheard)
    }

    /// Whether the Lease of a Service names one who let it run out, and nobody stands for it: nobody
    /// sees to what is leased for it either, until one does.
    pub fn is_orphaned(&self, it: &Service) -> bool {
        let Some(cloud) = self.cloud.as_ref().filter(|it| it.rules.each) else { return false };
        let lease = lease_of(it);
        let api = cloud.own.all.get(&lease).map(|it| &it.api);
        let held = api.and_then(|it| it.lease()).is_some_and(|it| it.record.holder.is_some());
        let of = cloud.own.number(&lease);
        let mut procs = 0..self.procs.len();
        let led = |proc: usize| {
            let bond = of.and_then(|of| self.procs[proc].bonds.get(of));
            bond.is_some_and(|it| it.truth.entitled_at(self.local(proc)))
        };
        held && !procs.any(led)
    }

    fn was_gone(&self, of: usize) -> bool {
        let own = self.cloud.as_ref().map(|it| &it.own);
        let name = own.and_then(|it| it.names.get(of.checked_sub(OWN)?));
        name.and_then(|it| own?.all.get(it)).is_some_and(|it| it.was_gone)
    }

    pub fn own_named(&self, lease: &str) -> Option<usize> {
        self.cloud.as_ref()?.own.number(&lease.into())
    }

    /// A process has to do with a Lease of a Service.
    pub fn note_own(&mut self, name: &ObjectName) -> usize {
        let Some(cloud) = &mut self.cloud else { return CONTROL };
        let number = cloud.own.number(name).unwrap_or_else(|| {
            cloud.own.names.push(name.clone());
            OWN + cloud.own.names.len() - 1
        });
        for it in &mut self.procs {
            while it.bonds.len() <= number {
                it.bonds.push(Bond::new());
            }
        }
        number
    }

    /// Services have addresses that they were not known by before.
    pub fn note_hung(&mut self) {
        if !self.elects_each() {
            return;
        }
        let Some(cloud) = &self.cloud else { return };
        let of = |it: &Service| (lease_of(it), it.uid.clone(), known_by(it));
        let all: Vec<_> = cloud.objects.services().map(of).collect();
        for (lease, uid, ips) in all {
            let number = self.note_own(&lease);
            let Some(cloud) = &mut self.cloud else { return };
            cloud.own.of.entry(uid).or_default().insert(number);
            for ip in ips {
                cloud.own.hung.entry(ip).or_default().insert(number);
            }
        }
        let Some(cloud) = &mut self.cloud else { return };
        // What is leased, whether the Service says so or not yet, or is gone.
        for (ip, uid) in cloud.site.dhcp.iter().flat_map(|it| &it.ever) {
            let of = cloud.own.of.get(uid).into_iter().flatten();
            cloud.own.hung.entry(*ip).or_default().extend(of);
        }
    }

    /// With what is leased, whether the Service says so or not yet.
    pub fn addresses_of(&self, it: &Service) -> Vec<IpAddr> {
        let mut all = known_by(it);
        all.extend(self.cloud.iter().flat_map(|cloud| cloud.site.leased_to(&it.uid)));
        all
    }

    /// The Lease that goes by this number, at the API server.
    pub fn with_api<T>(&mut self, of: usize, act: impl FnOnce(&mut ApiServer) -> T) -> T {
        if of < OWN {
            return act(self.api_of(of));
        }
        let cloud = self.cloud.as_mut().expect("only Services have Leases of their own");
        let name = cloud.own.names[of - OWN].clone();
        let one = cloud.own.all.entry(name.clone()).or_default();
        let api = &mut one.api;
        api.set_version(cloud.objects.version());
        let result = act(api);
        if api.version() > cloud.objects.version() {
            let lease = api.lease().cloned().map(|lease| NamedLease { name: name.clone(), lease });
            one.was_gone |= lease.is_none();
            cloud.objects.note_lease(&name, lease, api.version());
        }
        result
    }

    pub fn ask_api(&mut self, of: usize, call: &LeaseCall, stamp: u64) -> LeaseReply {
        let reply = self.with_api(of, |it| it.ask(call, stamp));
        if let (LeaseCall::Write { owner, based_on: None, .. }, LeaseReply::Found(_)) =
            (call, &reply)
            && of >= OWN
            && let Some(cloud) = &mut self.cloud
        {
            let name = cloud.own.names[of - OWN].clone();
            cloud.own.all.entry(name).or_default().owner.clone_from(owner);
        }
        reply
    }

    /// Leases whose owner is gone go, too.
    pub fn collect(&mut self) {
        let Some(cloud) = &self.cloud else { return };
        let there = |namespace: &str, owner: &LeaseOwner| {
            let all = cloud.objects.services();
            all.into_iter().any(|it| it.uid == owner.uid && it.name.namespace == namespace)
        };
        let gone = |(name, it): (&ObjectName, &One)| {
            let orphan = it.owner.as_ref().is_some_and(|owner| !there(&name.namespace, owner));
            (orphan && it.api.lease().is_some()).then(|| name.clone())
        };
        let gone: Vec<_> = cloud.own.all.iter().filter_map(gone).collect();
        for name in gone {
            self.note(|| ("api".into(), format!("collects {name}")));
            let of = self.note_own(&name);
            self.with_api(of, ApiServer::delete);
            self.push_objects();
        }
    }

    /// A Service is gone: what is its own is found out of use a while later.
    pub fn collect_soon(&mut self) {
        if self.elects_each() {
            let delay = self.rng.below(3 * SEC);
            self.schedule(delay, Event::Collect);
        }
    }

    /// Somebody meddles with a Lease of a Service. Returns whether there was one.
    pub fn inflict_on_own(&mut self, kind: Kind) -> bool {
        let count = self.cloud.as_ref().map_or(0, |it| it.own.names.len() as u64);
        if !self.elects_each() || count == 0 || self.rng.below(4) == 0 {
            return false;
        }
        let of = OWN + self.rng.below(count) as usize;
        let steps = self.rng.below(20) as usize;
        match kind {
            Kind::Edit => self.with_api(of, ApiServer::edit),
            Kind::Delete => {
                self.lied_until = self.now + self.longest_lease * 2;
                self.with_api(of, ApiServer::delete);
            }
            Kind::Restore => {
                if self.with_api(of, |it| it.restore(steps)) {
                    self.lied_until = self.now + self.longest_lease * 2;
                    (0..self.procs.len()).for_each(|it| self.end_some_follow(it));
                }
            }
            _ => return false,
        }
        self.push_objects();
        true
    }

    /// What a process is told of Leases of Services.
    pub fn learn_own(&mut self, proc: usize, input: &Input) {
        let Input::Objects { what: Followed::Leases(_), events } = input else { return };
        for event in events {
            let (name, event) = match event {
                ObjectEvent::Changed(it) => match &**it {
                    Object::Lease(it) => {
                        (it.name.clone(), WatchEvent::Lease(Box::new(it.lease.clone())))
                    }
                    _ => continue,
                },
                ObjectEvent::Deleted(name) => (name.clone(), WatchEvent::Deleted),
                _ => continue,
            };
            let of = self.note_own(&name);
            let it = &mut self.procs[proc];
            let told = Input::Watch { lease: name, event };
            let (me, author, trust) = (&it.name, it.author, it.lease.renew_deadline);
            it.bonds[of].truth.learn(me, author, trust, &told);
        }
    }

    /// S2 to S4 of what is ordered: of the Leases that a VIP may hang on, one allows it.
    pub fn check_bonds(&mut self, proc: usize, now: Instant, action: &Action) -> Option<String> {
        let vips = match action {
            Action::Lease { lease, .. } => {
                let of = self.bond_named(proc, &lease.to_string())?;
                let it = &mut self.procs[proc];
                return it.bonds[of].truth.check_order(it.author, now, action);
            }
            Action::Kernel { job: KernelJob::Answer { vips, .. }, .. } => vips.clone(),
            Action::Kernel { job: KernelJob::SendFrame { frame, .. }, .. } => {
                vec![Vip(frame.ip())]
            }
            _ => return None,
        };
        vips.into_iter().find_map(|vip| {
            let bonds = self.bonds_hung(vip);
            let it = &mut self.procs[proc];
            let author = it.author;
            let mut wrong = Some(format!("S2: {action:?} of {vip}, which hangs on no Lease"));
            for of in bonds {
                wrong = it.bonds[of].truth.check_order(author, now, action);
                if wrong.is_none() {
                    break;
                }
            }
            // Whoever asks whether an address is free need not be entitled to anything.
            let probe = matches!(action, Action::Kernel { job: KernelJob::SendFrame { frame, .. }, .. }
                if matches!(frame, edgevip::model::Frame::Probe { .. }));
            wrong.filter(|_| !probe)
        })
    }

    /// The VIPs that a process may not answer for any more once it has released a Lease.
    pub fn released_with(&self, proc: usize, of: usize) -> Vec<Vip> {
        let host = self.procs[proc].host;
        let now = self.local(proc);
        let other = |vip: &Vip| {
            let bonds = self.bonds_hung(*vip);
            let bonds = || bonds.iter().filter(|it| **it != of);
            bonds().any(|it| self.procs[proc].bonds[*it].truth.entitled_at(now))
        };
        // What it could not silence when it lost another of them is no matter of this one.
        let failed = self.procs[proc].thread.failed_at.is_some_and(|it| it + 2 * SEC > self.now);
        let may = |bonds: &[usize]| bonds.contains(&of) && (bonds.len() == 1 || !failed);
        let hangs = |vip: &Vip| may(&self.bonds_hung(*vip)) && !other(vip);
        let all = self.held_of_services(host);
        all.filter(hangs).collect()
    }
}
