//! What must hold of Services: at each event, and once all is calm. Judged by what the API
//! server has, what each process was told, and what kernels do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use edgevip::engine::Action;
use edgevip::model::{
    FamilyPolicy, Instant, IpFamily, NodeName, ObjectCall, ObjectName, Service, Vip,
};

use crate::cloud::{Cloud, GIVEN_BY, SERVED_BY};
use crate::each::TOGETHER;
use crate::objects::{ADDRESSES, ALLOCATED, Objects, known_by, leased, parse, says_leased};
use crate::process::{CONTROL, GIVEN, SERVED};
use crate::told::RESTS;
use crate::users::{HOST, IGNORE, WITHOUT};
use crate::world::World;

impl World {
    /// Which of the Leases a name is, if a process has to do with it.
    pub fn bond_named(&self, proc: usize, lease: &str) -> Option<usize> {
        match lease {
            SERVED_BY if self.cloud.is_some() => Some(SERVED),
            GIVEN_BY if self.cloud.is_some() => Some(GIVEN),
            _ => self
                .own_named(lease)
                .or((self.procs[proc].lease.name.to_string() == lease).then_some(CONTROL)),
        }
    }

    /// The addresses of Services that a host has, whether it answers for them or not.
    pub fn held_of_services(&self, host: usize) -> impl Iterator<Item = Vip> + '_ {
        let held = self.hosts[host].kernel.held.keys().map(|it| it.1);
        held.filter(|it| self.cloud.is_some() && !self.vips.contains(it))
    }

    /// S1, S2 and S12 of Services, after every event.
    pub fn check_services(&mut self) {
        if self.cloud.is_none() {
            return;
        }
        let mut one: Vec<(Vip, usize)> = Vec::new();
        for host in 0..self.hosts.len() {
            let held: Vec<_> = self.held_of_services(host).collect();
            for vip in held.into_iter().filter(|it| self.answers(host, *it)).collect::<Vec<_>>() {
                if self.is_left_and_slept(host, vip) {
                    continue;
                }
                self.check_end(host, vip);
                let given = self.cloud.as_ref().is_some_and(|it| it.ever.contains(&vip.0));
                if !given {
                    self.fail(format!("S12: host-{host} answers for {vip}, which nobody ever had"));
                }
                if !self.counts(host, vip) {
                    continue;
                }
                match one.iter().find(|it| it.0 == vip) {
                    Some((_, other)) if self.is_safe(vip) => self.fail(format!(
                        "S1: {vip} of a Service is answered for by host-{host} and host-{other}"
                    )),
                    Some(_) => {}
                    None => one.push((vip, host)),
                }
            }
        }
        let Some(cloud) = &mut self.cloud else { return };
        for (vip, host) in one {
            let before = cloud.answered_by.insert(vip, host);
            cloud.moves += u64::from(before.is_some_and(|it| it != host));
        }
    }

    /// What a process that died has left of Services, nobody can clean up without a fence that
    /// names it; it ends in time, but for a suspend.
    fn is_left_and_slept(&self, host: usize, vip: Vip) -> bool {
        self.is_left(host, vip) && self.hosts[host].clock.slept() > 0
    }

    /// A process that died had it.
    pub fn is_left(&self, host: usize, vip: Vip) -> bool {
        let held = self.hosts[host].kernel.held.iter().find(|it| it.0.1 == vip);
        held.is_some_and(|(_, it)| it.by.life < self.procs[it.by.proc].life)
    }

    /// S11, when a process decides: what it was told of is not given to another, nor what was
    /// freed a moment ago.
    pub fn check_giving(
        &mut self,
        proc: usize,
        now: Instant,
        actions: &[Action],
    ) -> Option<String> {
        let wrong = self.is_wrongly_given(proc, now, actions);
        let told = &mut self.cloud.as_mut()?.desks[proc].told;
        for action in actions {
            if let Action::Ask { call: ObjectCall::PatchService { name, patch, .. }, .. } = action
                && let Some(Some(given)) = patch.annotations.get(ALLOCATED)
            {
                told.given.extend(parse(given).into_iter().map(|it| (it, name.clone())));
            }
        }
        wrong
    }

    fn is_wrongly_given(&self, proc: usize, now: Instant, actions: &[Action]) -> Option<String> {
        let cloud = self.cloud.as_ref()?;
        let told = &cloud.desks[proc].told;
        for action in actions {
            let Action::Ask { call: ObjectCall::PatchService { name, patch, .. }, .. } = action
            else {
                continue;
            };
            let Some(Some(given)) = patch.annotations.get(ALLOCATED) else { continue };
            let Some(to) = told.services.get(name) else {
                return Some(format!("S11: gives {given} to {name}, which is not there"));
            };
            for ip in parse(given).into_iter().filter(|it| !known_by(to).contains(it)) {
                let other = told.users(ip).find(|it| it.name != *name && !may_share(cloud, it, to));
                if let Some(other) = other {
                    return Some(format!("S11: gives {ip} to {name}: {} has it", other.name));
                }
                // Where addresses are shared, whoever gave it away may have it again beside; and
                // who was to be given it before may have it since.
                let known = cloud.users.shares || told.given.contains(&(ip, name.clone()));
                let freed = told.freed.get(&ip).filter(|it| it.0 != *name && !known);
                if let Some((by, at)) = freed.filter(|it| now < it.1 + RESTS) {
                    return Some(format!("S13: gives {ip} to {name}: {by} had it at {at:?}"));
                }
                if self.vips.contains(&Vip(ip)) {
                    return Some(format!("S11: gives {ip} to {name}: it is the control plane's"));
                }
            }
        }
        None
    }

    /// S11, when it is written: of two that were given one address, both know it. That a user makes
    /// one a load balancer again, with what it had, while that is on its way to another, nobody can
    /// know; what who gives was told of is judged when it decides.
    pub fn check_given(&mut self, proc: usize, name: &ObjectName) {
        let Some(cloud) = &mut self.cloud else { return };
        let Some(it) = cloud.objects.service(name).filter(|it| !given_to(it).is_empty()) else {
            return;
        };
        let given = given_to(it);
        let it = it.clone();
        cloud.given += 1;
        cloud.objects.typed_back.remove(name);
        let meets = |other: &&Service| {
            let one = given_to(other).iter().any(|ip| given.contains(ip));
            let back = cloud.objects.typed_back.contains(&other.name);
            other.name != it.name && one && !back && !may_share(cloud, other, &it)
        };
        // Whoever shares may have become one who does not, while the write was on its way.
        let shares = cloud.users.shares;
        let clash = cloud.objects.services().filter(|_| !shares).find(meets);
        let clash = clash.map(|it| it.name.clone());
        if let Some(other) = clash.filter(|_| self.lied_until <= self.now) {
            self.fail(format!("S11: node-{proc} gave {given:?} to {name}, which {other} has"));
        }
    }

    /// Nothing is left to do on this host: it answers for what it was told of, and no more.
    pub fn check_settled_services(&mut self, proc: usize, now: Instant) {
        let host = self.procs[proc].host;
        let Some(cloud) = &self.cloud else { return };
        let (told, life) = (&cloud.desks[proc].told, self.procs[proc].life);
        let wrong = self.held_of_services(host).find(|vip| {
            let bonds = &self.procs[proc].bonds;
            let mut hung = self.bonds_hung(*vip).into_iter();
            let entitled = hung.any(|it| bonds[it].truth.entitled_at(now));
            let it = self.hosts[host].kernel.held.iter().find(|it| it.0.1 == *vip);
            // Without a fence nobody knows of what an earlier process left.
            let ours = it.is_some_and(|it| it.1.by.proc == proc && it.1.by.life == life);
            // An address stays for its ports to be closed.
            let lingers = cloud.site.router.is_some();
            let leased = cloud.site.leased_by(vip.0);
            let of_lease = |it: &Service| leased.as_deref() == Some(&it.uid) && is_served(it);
            let asked = told.users(vip.0).any(is_served) || told.services.values().any(of_lease);
            ours && self.answers(host, *vip) && !((asked || lingers) && entitled)
        });
        if let Some(vip) = wrong {
            self.fail(format!("S2: node-{proc} has come to rest answering for {vip}"));
        }
    }

    /// What each Service is to have in the end, and why not.
    pub fn check_served(&self) -> Result<(), String> {
        let at = |why: String| Err(format!("at {:.3}s: {why}", self.now as f64 / 1e9));
        let objects = self.objects();
        let mut had = BTreeMap::new();
        for it in objects.services().filter(|it| is_served(it)) {
            for ip in asks_for(it) {
                let hosts: Vec<_> = self.answering(Vip(ip));
                let stands = it.status_names(ip);
                match (self.hindrance(objects, it, ip), hosts.as_slice()) {
                    (_, [_, _, ..]) => return at(format!("C1: {ip} is on {hosts:?}")),
                    (None, []) => return at(format!("C1: {ip} of {} is on no host", it.name)),
                    (None, [host]) => {
                        let says =
                            it.annotations.get(HOST).is_some_and(|it| *it == self.name_on(*host));
                        // Who answers for the first address speaks for all of them.
                        if !stands || !says {
                            return at(format!(
                                "C2: host-{host} answers for {ip}, not told: {it:?}"
                            ));
                        }
                        if !self.is_served(Vip(ip)) {
                            return at(format!("C1: clients do not reach {ip} on host-{host}"));
                        }
                        had.insert(Vip(ip), *host);
                    }
                    (Some(Hindrance::Unserved), [host]) => {
                        return at(format!(
                            "C1: host-{host} answers for {ip}, and nobody serves it"
                        ));
                    }
                    (Some(Hindrance::Contested), [host]) => {
                        had.insert(Vip(ip), *host);
                    }
                    (Some(_), []) => {}
                }
            }
        }
        self.check_leaks(&had)
    }

    /// Nothing is left of what is nobody's: no address, no fence, no ear.
    fn check_leaks(&self, had: &BTreeMap<Vip, usize>) -> Result<(), String> {
        let pool: BTreeSet<_> = self.pool().into_iter().collect();
        let asked: BTreeSet<_> = self.objects().services().flat_map(known_by).collect();
        for (proc, it) in self.procs.iter().enumerate() {
            let kernel = &self.hosts[it.host].kernel;
            let left = self.held_of_services(it.host).find(|vip| had.get(vip) != Some(&it.host));
            if let Some(vip) = left {
                return Err(format!("C3: host-{} still has {vip}", it.host));
            }
            // What is only remembered ends, and keeps nobody from anything.
            let ours = kernel.ours.keys().filter(|_| !self.elects_each());
            let mut fence = ours.chain(kernel.live.keys());
            let nobodys = |vip: &&Vip| !had.contains_key(*vip) && !self.vips.contains(*vip);
            if let Some(vip) = fence.find(nobodys) {
                return Err(format!("C3: the fence of host-{} still has {vip}", it.host));
            }
            let known = |vip: &&Vip| {
                !self.vips.contains(*vip) && !asked.contains(&vip.0) && !pool.contains(&vip.0)
            };
            if let Some(vip) = it.thread.ears().find(known) {
                return Err(format!("C3: node-{proc} still listens for {vip}"));
            }
        }
        Ok(())
    }

    /// A Service that asks for nothing and has nothing, although there is something.
    pub fn unserved(&self) -> Option<String> {
        let objects = self.objects();
        let taken: BTreeSet<_> = objects.services().flat_map(known_by).collect();
        let nodes: BTreeSet<_> = objects.nodes().flat_map(|it| it.addresses.clone()).collect();
        let free = |of: IpFamily| {
            let mut pool = self.pool().into_iter().filter(|it| IpFamily::of(*it) == of);
            pool.find(|it| !taken.contains(it) && !nodes.contains(it))
        };
        let both = [IpFamily::V4, IpFamily::V6];
        let lacks = |it: &&Service| {
            if !is_served(it) || it.annotations.get(ADDRESSES).is_some_and(|it| !it.is_empty()) {
                return false;
            }
            match (it.family_policy, it.families.first()) {
                _ if !known_by(it).is_empty() => false,
                (FamilyPolicy::SingleStack, Some(family)) => free(*family).is_some(),
                (FamilyPolicy::RequireDualStack, _) => both.iter().all(|it| free(*it).is_some()),
                (FamilyPolicy::SingleStack | FamilyPolicy::PreferDualStack, _) => {
                    both.iter().any(|it| free(*it).is_some())
                }
            }
        };
        let it = objects.services().find(lacks)?;
        Some(format!("C4: {it:?} has no address, and there are free ones"))
    }

    pub fn pool(&self) -> Vec<IpAddr> {
        let ranges = self.objects().pools().and_then(|it| it.data.get("range-global"));
        let ranges = ranges.into_iter().flat_map(|it| it.split(','));
        let ends = ranges.filter_map(|it| it.split_once('-'));
        let ends = ends.filter_map(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let all = ends.flat_map(|it| match it {
            (IpAddr::V4(first), IpAddr::V4(last)) => (u32::from(first)..=u32::from(last))
                .map(|it| IpAddr::V4(it.into()))
                .collect::<Vec<_>>(),
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                (u128::from(first)..=u128::from(last)).map(|it| IpAddr::V6(it.into())).collect()
            }
            _ => Vec::new(),
        });
        all.collect()
    }

    pub fn answering(&self, vip: Vip) -> Vec<usize> {
        (0..self.hosts.len()).filter(|it| self.answers(*it, vip)).collect()
    }

    fn name_on(&self, host: usize) -> String {
        let proc = self.hosts[host].lock.unwrap_or(host);
        self.procs[proc].name.to_string()
    }

    /// Only those that are not served on one node only may be elected together.
    pub fn is_refused(&self, it: &Service) -> bool {
        self.elects_each() && it.local && it.annotations.contains_key(TOGETHER)
    }

    /// Why a Service need not have an address that it asks for.
    fn hindrance(&self, objects: &Objects, it: &Service, ip: IpAddr) -> Option<Hindrance> {
        if objects.nodes().any(|node| node.addresses.contains(&ip)) {
            return Some(Hindrance::Contested);
        }
        let meets = |other: &&Service| {
            other.name != it.name
                && is_served(other)
                && asks_for(other).contains(&ip)
                && (it.local || other.local || !apart(it, other))
        };
        if objects.services().any(|it| meets(&it)) {
            return Some(Hindrance::Contested);
        }
        let leader = self.more[SERVED - 1].author();
        let leader = self.procs.iter().find(|it| it.runs() && Some(it.author) == leader);
        let carrier = leader.map(|it| it.name.clone());
        let carries = |it: &Option<NodeName>| self.elects_each() || *it == carrier;
        if self.is_refused(it) {
            return Some(Hindrance::Contested);
        }
        let endpoints = || {
            let of = objects.slices().filter(|slice| slice.service == it.name);
            of.flat_map(|it| &it.endpoints).filter(|it| it.ready || it.serving)
        };
        let (mut anywhere, mut here) = (endpoints(), endpoints());
        let without = it.annotations.get(WITHOUT).is_some_and(|it| it == "true");
        // All who have it are served together.
        let shared = objects.services().filter(|it| is_served(it) && asks_for(it).contains(&ip));
        let served = match it.local {
            true => here.any(|it| carries(&it.node)),
            false => without || anywhere.next().is_some(),
        };
        match (shared.count() > 1, served) {
            (true, _) => Some(Hindrance::Contested),
            (false, false) => Some(Hindrance::Unserved),
            (false, true) => None,
        }
    }
}

/// Why a Service need not have an address that it asks for.
enum Hindrance {
    /// Others may have it.
    Contested,
    /// It is to be answered for by nobody.
    Unserved,
}

/// Whether a Service is to be carried at all.
pub fn is_served(it: &Service) -> bool {
    it.balanced && !it.deleting && it.annotations.get(IGNORE).is_none_or(|it| it != "true")
}

/// What it asks for; what is in its status, if it asks for nothing, or for one that it says
/// nothing of there.
fn asks_for(it: &Service) -> Vec<IpAddr> {
    let annotation = it.annotations.get(ADDRESSES).filter(|it| !it.is_empty()).map(|it| parse(it));
    let field = it.load_balancer_ip.as_ref().map(|it| parse(it));
    let mut status: Vec<_> = it.ingress.iter().filter_map(|it| it.ip).collect();
    status.retain(|ip| !says_leased(it, *ip) && known_by(it).contains(ip));
    let asked = match (annotation, field) {
        (Some(asked), _) => asked,
        (None, Some(asked)) if is_told_otherwise(&asked, &status) => asked,
        (None, _) => status,
    };
    let asked = asked.into_iter().filter(|it| !it.is_unspecified());
    asked.chain(leased(it).map(|it| it.1)).collect()
}

/// Whether what is asked for goes before what the status says.
fn is_told_otherwise(asked: &[IpAddr], status: &[IpAddr]) -> bool {
    let old = |ip: &IpAddr| {
        !status.contains(ip) && status.iter().any(|it| IpFamily::of(*it) == IpFamily::of(*ip))
    };
    status.is_empty() || asked.iter().any(|it| it.is_unspecified() || old(it))
}

/// What it has out of a pool, by its mark.
fn given_to(it: &Service) -> Vec<IpAddr> {
    let mark = it.annotations.get(ALLOCATED).filter(|mark| it.balanced && !mark.is_empty());
    mark.filter(|it2| it.annotations.get(ADDRESSES) == Some(it2)).map_or(Vec::new(), |it| parse(it))
}

fn apart(one: &Service, other: &Service) -> bool {
    one.ports.iter().all(|it| !other.ports.contains(it))
}

fn may_share(cloud: &Cloud, one: &Service, other: &Service) -> bool {
    cloud.users.shares && !one.local && !other.local && apart(one, other)
}
