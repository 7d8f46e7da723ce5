//! Addresses out of pools: the one node that gives them out, and what it writes.
//!
//! One at a time does, by the Lease of the peer's cloud provider, so that this and that
//! exclude each other. Whoever begins lists all Services anew first: what the one before
//! wrote last may not have come by the watch yet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wants::is_ignored;
use super::{Followed, Services};
use crate::engine::backoff::Backoff;
use crate::engine::elector::LeaseConfig;
use crate::engine::pools::{
    ALLOCATED, Book, Pools, Request, Sync, SyncRules, next_candidates, usage,
};
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::{Cx, Deadline};
use crate::model::{
    ConfigMap, Heard, Instant, NodeName, ObjectCall, ObjectName, ObjectReply, PoolRefusal, PoolUse,
    RequestId, ResourceVersion, Service, Vip,
};

/// So many Services are given addresses at a time.
const AT_ONCE: usize = 8;
/// So many addresses of each pool and family are kept probed.
const NEXT: usize = 8;
/// What conflicted, and of which nothing new comes by the watch, is tried again then.
const COMES_BACK: Duration = Duration::from_secs(5);

/// Where pools are, and who gives addresses out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PoolsConfig {
    /// The ConfigMap with the pools.
    pub config_map: ObjectName,
    /// The Lease of who gives addresses out.
    pub lease: LeaseConfig,
}

#[derive(Clone, Debug)]
pub(super) struct Allocating {
    pools: Option<Pools>,
    book: Book,
    /// There have been pools: the book is kept.
    books: bool,
    /// Addresses are given out here, and everything there is has been listed since.
    gives: bool,
    /// These may need something.
    open: BTreeSet<ObjectName>,
    writing: BTreeMap<RequestId, ObjectName>,
    pub refused: BTreeMap<ObjectName, PoolRefusal>,
    backoff: Backoff,
    again_at: Option<Instant>,
    /// The version from which each of these was last written: as long as nothing newer is seen,
    /// what became of that is not known, and what was granted by it stays granted.
    written: BTreeMap<ObjectName, ResourceVersion>,
    /// These are not as they are known any more: nothing is written to them before something
    /// newer comes by the watch, or is late.
    outdated: BTreeMap<ObjectName, Instant>,
    /// An address will have rested then, for those that got none.
    rested_at: Option<Instant>,
    /// Other addresses may be the next to be given out.
    news: bool,
    carries: bool,
}

impl Allocating {
    pub fn new() -> Self {
        Self {
            pools: None,
            book: Book::default(),
            books: false,
            gives: false,
            open: BTreeSet::new(),
            writing: BTreeMap::new(),
            refused: BTreeMap::new(),
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            again_at: None,
            written: BTreeMap::new(),
            outdated: BTreeMap::new(),
            rested_at: None,
            news: false,
            carries: false,
        }
    }

    pub fn learn(&mut self, now: Instant, service: &Service) {
        if !self.books {
            return;
        }
        let newer =
            |from: &ResourceVersion| *from != service.version && !service.version.is_before(from);
        if self.written.get(&service.name).is_some_and(newer) {
            // Of all writes from that version, one at most was done, and this is after it.
            self.written.remove(&service.name);
            self.outdated.remove(&service.name);
            self.book.withdraw(&service.name, now);
        }
        let users = !service.annotations.contains_key(ALLOCATED);
        if !(users && sabotaged(Sabotage::UsersNotCounted)) {
            self.book.update(service, now);
        }
        self.news = true;
        self.open.insert(service.name.clone());
    }

    pub fn forget(&mut self, now: Instant, name: &ObjectName) {
        self.book.remove(name, now);
        self.open.remove(name);
        self.written.remove(name);
        self.outdated.remove(name);
        self.refused.remove(name);
        self.reopen();
    }

    fn learn_pools(&mut self, map: Option<&ConfigMap>) {
        self.pools = map.map(|it| Pools::read(&it.data));
        self.reopen();
    }

    pub fn reserve(&mut self, node: &NodeName, addresses: &[IpAddr]) {
        self.book.reserve(&format!("the node {node}"), addresses.iter().copied());
    }

    /// Time passed: what is over is not waited for any longer.
    pub fn expire(&mut self, now: Instant) {
        self.again_at.take_if(|at| *at <= now);
        let late = self.outdated.extract_if(.., |_, at| *at <= now).map(|it| it.0);
        self.open.extend(late);
        if self.rested_at.take_if(|at| *at <= now).is_some() {
            self.reopen();
        }
    }

    /// Whoever got nothing may get something now.
    fn reopen(&mut self) {
        self.open.extend(self.refused.keys().cloned());
        self.news = true;
    }

    /// Whether other addresses may be the next since this was last asked. `carries`: what is
    /// given out is answered for here.
    pub fn take_news(&mut self, carries: bool) -> bool {
        let turned = std::mem::replace(&mut self.carries, carries) != carries;
        std::mem::take(&mut self.news) || turned
    }

    /// The addresses that may be given out next, if this node has to do with them.
    pub fn next(&self, now: Instant, carries: bool) -> Vec<IpAddr> {
        match &self.pools {
            Some(pools) if self.gives || carries => {
                next_candidates(pools, &self.book, now, NEXT).into_values().flatten().collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    pub fn answered(&mut self, now: Instant, heard: &Heard) {
        self.book.answered(heard.ip, Some(heard.mac), now);
        self.news = true;
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &ObjectReply) {
        let Some(name) = self.writing.remove(&request) else {
            return;
        };
        if *reply == ObjectReply::Conflict && sabotaged(Sabotage::ConflictWithdraws) {
            self.book.withdraw(&name, cx.now);
        }
        match reply {
            ObjectReply::Conflict | ObjectReply::Done(_) | ObjectReply::Gone => {
                self.backoff.reset();
                // The watch may have been faster than the answer.
                if self.written.contains_key(&name) {
                    self.outdated.insert(name.clone(), cx.now + COMES_BACK);
                }
            }
            ObjectReply::Failed(fault) => {
                if sabotaged(Sabotage::LostAnswerWithdrawn) {
                    self.book.withdraw(&name, cx.now);
                }
                // It may have been written all the same: the address is kept until then.
                let wait = self.backoff.wait(cx.rng).max(fault.retry_after.unwrap_or_default());
                self.again_at = Some(cx.now + wait);
            }
        }
        self.open.insert(name);
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let outdated = self.outdated.values().copied().min();
        let at = [self.again_at, self.rested_at, outdated].into_iter().flatten().min()?;
        Some(Deadline { at, why: "give addresses out" })
    }
}

impl Services {
    /// The pools are these. The first that there are make the book worth its room.
    pub(super) fn learn_pools(&mut self, now: Instant, map: Option<&ConfigMap>) {
        self.allocating.learn_pools(map);
        if map.is_none() || std::mem::replace(&mut self.allocating.books, true) {
            return;
        }
        for known in self.services.values() {
            self.allocating.learn(now, &known.service());
        }
    }

    /// Whether there is anything to give out: somebody should.
    pub fn has_pools(&self) -> bool {
        self.allocating.pools.is_some()
    }

    /// Reserves the VIPs of the control plane.
    pub fn reserve_control_plane(&mut self, vips: impl Iterator<Item = Vip>) {
        self.allocating.book.reserve("the control plane", vips.map(|it| it.0));
    }

    /// Gives addresses to those that need them, if that is this node's business.
    pub fn allocate(&mut self, cx: &mut Cx<'_>, leads: bool) {
        if !leads {
            let it = &mut self.allocating;
            it.gives = false;
            (it.again_at, it.rested_at) = (None, None);
            it.outdated.clear();
            return;
        }
        let all = Followed::Services(self.config.namespace.clone());
        if !self.allocating.gives {
            self.allocating.gives = true;
            self.allocating.news = true;
            if let Some(it) = self.followers.get_mut(&all)
                && !sabotaged(Sabotage::GivenBeforeListed)
            {
                it.follower.begin_anew(cx.now);
                it.unseen = None;
            }
            self.followers.values_mut().for_each(|it| it.follower.tick(cx));
        }
        let it = &mut self.allocating;
        let listed = self.followers.get(&all).is_some_and(|it| it.follower.has_listed());
        // Where there are no pools, whoever wants something waits for them.
        if it.again_at.is_some() || !listed || it.pools.is_none() {
            return;
        }
        let rules = SyncRules {
            classless: self.config.class.takes(None),
            classes: [self.config.class.name.clone()].into(),
            field: true,
        };
        while self.allocating.writing.len() < AT_ONCE {
            let Some(name) = self.allocating.open.pop_first() else { break };
            self.give(cx, &rules, &name);
        }
        let it = &mut self.allocating;
        it.rested_at = it.book.deadline(cx.now).filter(|_| !it.refused.is_empty());
    }

    fn give(&mut self, cx: &mut Cx<'_>, rules: &SyncRules, name: &ObjectName) {
        let it = &mut self.allocating;
        let under_way = it.writing.values().any(|it| it == name);
        let (Some(pools), Some(known)) = (&it.pools, self.services.get(name)) else {
            return;
        };
        let service = &known.service();
        let outdated = it.outdated.contains_key(name);
        if under_way || outdated || is_ignored(service) {
            return;
        }
        let sync = Sync::decide(rules, pools, &it.book, service, cx.now);
        let before = match sync.refusal {
            Some(refusal) => it.refused.insert(name.clone(), refusal.clone()) == Some(refusal),
            None => it.refused.remove(name).is_none(),
        };
        if !before {
            self.telling.look_at(name);
        }
        if sync.patch.is_empty() {
            return;
        }
        if let Some(grant) = &sync.grant {
            let request = Request::of(service, cx.now);
            it.book.grant(&request, grant);
        }
        let (name, version) = (name.clone(), service.version.clone());
        it.written.insert(name.clone(), version.clone());
        let call = ObjectCall::PatchService { name: name.clone(), version, patch: sync.patch };
        let request = cx.ask(call);
        it.writing.insert(request, name);
    }

    /// What each pool has, and who has it.
    pub fn pools(&self, now: Instant) -> Vec<PoolUse> {
        let it = &self.allocating;
        it.pools.as_ref().map(|pools| usage(pools, &it.book, now)).unwrap_or_default()
    }
}
