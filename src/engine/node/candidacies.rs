//! A Lease for each Service: this node stands for those that it could carry, and what hangs on
//! a Lease moves alone. All of them are followed together; only those that something happened
//! to are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::agenda::{Agenda, Marks};
use crate::engine::elector::{Election, Elector, LeaseConfig};
use crate::engine::leadership::{Leadership, Stake};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::services::LeaseOf;
use crate::engine::watch::{Follower, LeaseWatch};
use crate::engine::{Cx, Deadline, Rng};
use crate::model::{
    Author, Followed, Instant, LeaseReply, NodeName, Object, ObjectEvent, ObjectName, RequestId,
    Vip, WatchEvent,
};

/// A Lease that nobody has created yet is left to each node that it should rather be for so long.
const HESITATION: Duration = Duration::from_millis(100);
/// However many they are.
const MOST_RANKS: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct Candidacies {
    config: LeaseConfig,
    me: NodeName,
    author: Author,
    /// What an earlier process left may answer until then.
    left_until: Option<Instant>,
    began_at: Instant,
    followed: Followed,
    follower: Follower,
    /// News of them comes at once.
    open: bool,
    all: BTreeMap<ObjectName, Candidacy>,
    of: BTreeMap<Vip, ObjectName>,
    /// These have another Lease than before: somebody may still answer by that.
    moved: BTreeSet<Vip>,
    /// By which Leases the kernel may answer for them still, though they hang on others, or none.
    left: BTreeMap<Vip, BTreeSet<ObjectName>>,
    requests: BTreeMap<RequestId, ObjectName>,
    agenda: Agenda<ObjectName>,
    /// Something happened to them.
    touched: BTreeSet<ObjectName>,
}

/// One Lease, and what hangs on it.
#[derive(Clone, Debug)]
struct Candidacy {
    leadership: Leadership,
    vips: BTreeSet<Vip>,
    /// These hang on it no more, and the kernel may answer for them still.
    leaving: BTreeSet<Vip>,
    stake: Option<Stake>,
    awaits: Option<RequestId>,
}

impl Candidacies {
    pub fn new(
        config: LeaseConfig,
        namespace: Option<&String>,
        me: NodeName,
        author: Author,
        now: Instant,
    ) -> Self {
        let followed = Followed::Leases(namespace.cloned());
        Self {
            config,
            me,
            author,
            left_until: None,
            began_at: now,
            follower: Follower::new(followed.clone(), now),
            followed,
            open: false,
            all: BTreeMap::new(),
            of: BTreeMap::new(),
            moved: BTreeSet::new(),
            left: BTreeMap::new(),
            requests: BTreeMap::new(),
            agenda: Agenda::default(),
            touched: BTreeSet::new(),
        }
    }

    /// What an earlier process held may answer for so long after its right ended.
    pub fn wait_for_left(&mut self, now: Instant, outlives: Duration) {
        self.left_until = Some(now + self.config.renew_deadline + outlives);
        for it in self.all.values_mut() {
            if let Elector::Lease { lease, .. } = &mut it.leadership.elector {
                lease.left_until = self.left_until;
            }
        }
    }

    /// The VIP hangs on this Lease from now on, or on none. `rank`: so many nodes should rather
    /// carry it. `known`: it was there before, and stays.
    pub fn want(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        vip: Vip,
        lease: Option<&LeaseOf>,
        rank: usize,
        known: bool,
    ) {
        let before = self.of.get(&vip).cloned();
        if let Some(before) = before.as_ref().filter(|it| lease.is_none_or(|to| to.name != **it)) {
            self.of.remove(&vip);
            self.moved.insert(vip);
            if let Some(it) = self.all.get_mut(before) {
                it.vips.remove(&vip);
                it.leaving.insert(vip);
                self.left.entry(vip).or_default().insert(before.clone());
            }
            self.touched.insert(before.clone());
        }
        if before.is_none() && lease.is_some() && known {
            // It hung on the one of all.
            self.moved.insert(vip);
        }
        let Some(lease) = lease else {
            if !known {
                self.moved.remove(&vip);
            }
            return;
        };
        self.touched.insert(lease.name.clone());
        let open = self.open && is_followed(&self.followed, &lease.name);
        let it = self.all.entry(lease.name.clone()).or_insert_with(|| {
            let config = LeaseConfig { name: lease.name.clone(), ..self.config.clone() };
            let election = Election::Lease(config);
            let mut elector = Elector::new(&election, self.me.clone(), self.author, now, rng);
            if let Elector::Lease { lease: elector, watch } = &mut elector {
                let ranks = u32::try_from(rank).unwrap_or(MOST_RANKS).min(MOST_RANKS);
                elector.hesitation = HESITATION * ranks;
                elector.left_until = self.left_until;
                *watch = LeaseWatch::shared(lease.name.clone(), open);
            }
            Candidacy {
                leadership: Leadership::new(elector),
                vips: BTreeSet::new(),
                leaving: BTreeSet::new(),
                stake: None,
                awaits: None,
            }
        });
        if let Elector::Lease { lease: elector, .. } = &mut it.leadership.elector {
            // One of the same name is another Service.
            elector.owner.clone_from(&lease.owner);
        }
        it.vips.insert(vip);
        it.leaving.remove(&vip);
        has_left(&mut self.left, vip, &lease.name);
        self.of.insert(vip, lease.name.clone());
    }

    /// What hangs on a Lease of its own.
    pub fn vips(&self) -> impl Iterator<Item = &Vip> {
        self.of.keys()
    }

    /// What elects for the VIP.
    pub fn leadership(&self, vip: Vip) -> Option<&Leadership> {
        Some(&self.all.get(self.of.get(&vip)?)?.leadership)
    }

    /// Whether the VIP hung on another Lease before, and is not known to be free of that; who has
    /// just begun does not know.
    pub fn has_moved(&self, now: Instant, vip: Vip) -> bool {
        let begins = now < self.began_at + self.config.duration;
        begins || self.moved.contains(&vip)
    }

    /// The VIP is answered for here: nobody else does.
    pub fn settled(&mut self, vip: Vip) {
        self.moved.remove(&vip);
    }

    pub fn leaderships(&self) -> impl Iterator<Item = &Leadership> {
        self.all.values().map(|it| &it.leadership)
    }

    /// Whether any of the Leases is held here.
    pub fn leads_any(&self, now: Instant) -> bool {
        self.leaderships().any(|it| it.elector.leads(now))
    }

    pub fn expire(&mut self, now: Instant) {
        for name in self.agenda.due(now) {
            if let Some(it) = self.all.get_mut(&name) {
                it.leadership.elector.expire(now);
            }
            self.touched.insert(name);
        }
    }

    pub fn doubt(&mut self, now: Instant) {
        self.touched.extend(self.all.keys().cloned());
        self.all.values_mut().for_each(|it| it.leadership.elector.doubt(now));
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &LeaseReply) {
        let Some(name) = self.requests.remove(&request) else {
            return;
        };
        if let Some(it) = self.all.get_mut(&name)
            && let Elector::Lease { lease, .. } = &mut it.leadership.elector
        {
            lease.on_reply(cx, request, reply.clone());
        }
        self.touched.insert(name);
    }

    pub fn on_objects(&mut self, cx: &mut Cx<'_>, what: &Followed, events: &[ObjectEvent]) {
        if *what != self.followed {
            return;
        }
        self.follower.on_events(cx, events);
        for event in events {
            let (name, event) = match event {
                ObjectEvent::Changed(object) => match object.as_ref() {
                    Object::Lease(it) => (&it.name, WatchEvent::Lease(Box::new(it.lease.clone()))),
                    Object::ConfigMap(_)
                    | Object::EndpointSlice(_)
                    | Object::Node(_)
                    | Object::Service(_) => continue,
                },
                ObjectEvent::Deleted(name) => (name, WatchEvent::Deleted),
                ObjectEvent::Bookmark(_)
                | ObjectEvent::Ended(_)
                | ObjectEvent::Expired
                | ObjectEvent::Garbled { .. }
                | ObjectEvent::Listed(_)
                | ObjectEvent::Listing
                | ObjectEvent::Opened => continue,
            };
            let Some(it) = self.all.get_mut(name) else {
                continue;
            };
            if let Elector::Lease { lease, .. } = &mut it.leadership.elector {
                lease.on_watch(cx, &event);
            }
            self.touched.insert(name.clone());
        }
        if self.open != self.follower.is_open() {
            self.open = self.follower.is_open();
            for (name, it) in &mut self.all {
                if let Elector::Lease { watch, .. } = &mut it.leadership.elector {
                    watch.share(self.open && is_followed(&self.followed, name));
                }
            }
            self.touched.extend(self.all.keys().cloned());
        }
    }

    /// Whether this node stands for each, and the VIPs that are placed otherwise than before by
    /// what came of it. `all`: something changed that concerns all of them.
    pub fn settle(&mut self, now: Instant, all: bool, stands: &dyn Fn(Vip) -> bool) -> Marks {
        if all {
            self.touched.extend(self.all.keys().cloned());
        }
        let mut marks = Marks::default();
        for name in &self.touched {
            let Some(it) = self.all.get_mut(name) else {
                continue;
            };
            it.leadership.stands = it.vips.iter().any(|vip| stands(*vip));
            it.leadership.note_transitions(now, &self.me, false, false);
            let stake = Some(it.leadership.stake(now));
            if it.stake != stake {
                it.stake = stake;
                it.vips.iter().for_each(|vip| marks.mark(*vip));
            }
        }
        marks
    }

    /// The kernel said something of the VIP.
    pub fn touch(&mut self, vip: Vip) {
        self.touched.extend(self.of.get(&vip).cloned());
        let left = self.left.get(&vip).filter(|_| !sabotaged(Sabotage::LeftLeaseForgotten));
        self.touched.extend(left.into_iter().flatten().cloned());
    }

    /// What is asked for once the kernel has been told. `loud`: VIPs that it may answer for.
    pub fn reconcile(&mut self, cx: &mut Cx<'_>, loud: &dyn Fn(Vip) -> bool) {
        self.follower.tick(cx);
        let mut again = BTreeSet::new();
        for name in std::mem::take(&mut self.touched) {
            let Some(it) = self.all.get_mut(&name) else {
                continue;
            };
            let silent = it.leaving.extract_if(.., |vip| !loud(*vip)).collect::<Vec<_>>();
            for vip in silent {
                has_left(&mut self.left, vip, &name);
            }
            if sabotaged(Sabotage::LeavingIgnored) {
                it.leaving.clear();
            }
            let quiet = it.leaving.is_empty() && !it.vips.iter().any(|it| loud(*it));
            let leadership = &mut it.leadership;
            leadership.elector.reconcile(cx, leadership.stands, quiet);
            let Elector::Lease { lease, .. } = &leadership.elector else {
                continue;
            };
            if it.awaits != lease.awaits() {
                it.awaits.iter().for_each(|it| drop(self.requests.remove(it)));
                it.awaits = lease.awaits();
                self.requests.extend(it.awaits.map(|it| (it, name.clone())));
            }
            if it.vips.is_empty() && leadership.elector.is_retired() && !leadership.is_retiring() {
                self.all.remove(&name);
                self.agenda.set(name, None);
                continue;
            }
            let mut next = leadership.deadline(cx.now, true);
            if it.stake != Some(leadership.stake(cx.now)) {
                again.insert(name.clone());
                next = Some(Deadline { at: cx.now, why: "a Lease of a Service was given back" });
            }
            self.agenda.set(name, next);
        }
        self.touched = again;
    }

    /// Whether something was released in this turn, by which VIPs are placed otherwise.
    pub fn has_let_go(&self) -> bool {
        !self.touched.is_empty()
    }

    pub fn deadline(&self) -> Option<Deadline> {
        self.agenda.deadline().into_iter().chain(self.follower.deadline()).min()
    }
}

fn has_left(left: &mut BTreeMap<Vip, BTreeSet<ObjectName>>, vip: Vip, lease: &ObjectName) {
    if let Some(of) = left.get_mut(&vip) {
        of.remove(lease);
        of.is_empty().then(|| left.remove(&vip));
    }
}

fn is_followed(followed: &Followed, lease: &ObjectName) -> bool {
    !matches!(followed, Followed::Leases(Some(namespace)) if *namespace != lease.namespace)
}
