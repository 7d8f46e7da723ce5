//! What the cluster is told of Services: status, annotations, Events. Told is compared with
//! true; only what differs is written, by the node that answers for the first address.
//!
//! What somebody else writes over is put right, and each time later than the time before:
//! two that are both sure cost a write now and then, and no loop.

mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use self::truth::{hash, ingress, is_same, outside_annotation};
use super::{Known, Services};
use crate::engine::backoff::Tries;
use crate::engine::mapping::OUTSIDE;
use crate::engine::sabotage::{Sabotage, sabotaged};
use crate::engine::{Cx, Deadline};
use crate::model::{
    ApiFault, Instant, IpFamily, NodeName, ObjectCall, ObjectName, ObjectReply, RequestId,
    ResourceVersion, Service, ServicePatch, Vip,
};

/// So many writes are under way at a time.
const AT_ONCE: usize = 8;
/// What was written and does not come back by the watch is written again then.
const COMES_BACK: Duration = Duration::from_secs(5);
/// So long is waited before what was written over is written again, the first time.
const FIRST: Duration = Duration::from_millis(100);
/// What stood for so long was not fought over.
const PEACE: Duration = Duration::from_secs(60);
/// Events in a burst, and the time in which one more is allowed.
const EVENTS: u32 = 25;
const EVENT_EVERY: Duration = Duration::from_millis(100);
/// The annotation that names who answers.
pub(super) const HOST: &str = "kube-vip.io/vipHost";

#[derive(Clone, Debug)]
pub(super) struct Telling {
    me: NodeName,
    /// Of these, what is told may differ from what is true.
    open: BTreeSet<ObjectName>,
    /// Of these, nothing is left but Events, which wait for their turn.
    mute: BTreeSet<ObjectName>,
    writing: BTreeMap<RequestId, ObjectName>,
    affairs: BTreeMap<ObjectName, Box<Affair>>,
    /// When to look at one again.
    again: BTreeSet<(Instant, ObjectName)>,
    /// Why the last write was not done.
    pub fault: Option<ApiFault>,
    /// This node tells of what nobody answers for.
    speaks: bool,
    events: u32,
    events_at: Instant,
}

/// What is between this node and one Service.
#[derive(Clone, Debug)]
struct Affair {
    stage: Stage,
    /// What was written last, by its hash, and when: to be written again, it was written over.
    last_patch: Option<NonZeroU64>,
    last_ingress: Option<NonZeroU64>,
    wrote_at: Instant,
    /// So often it was written over.
    tries: Tries,
    /// The last write conflicted: once more is no chance any more, and waits.
    contested: bool,
    contests: Tries,
    again_at: Option<Instant>,
    /// The wait for that is over.
    waited: bool,
    /// What an Event has said, by its hash.
    told: Option<NonZeroU64>,
}

impl Affair {
    /// How long to leave it as somebody else wants it.
    fn written_over(&mut self, cx: &mut Cx<'_>) -> Duration {
        self.tries.wait(cx.rng, FIRST, PEACE)
    }
}

/// How far a write has come.
#[derive(Clone, Debug)]
enum Stage {
    Rest,
    /// It is under way, made from this version.
    Writing(ResourceVersion),
    /// What the watch is to bring before anything is written again.
    Awaits(Awaits),
}

/// The version of an object that must come by the watch.
#[derive(Clone, Debug)]
pub(super) enum Awaits {
    AtLeast(ResourceVersion),
    After(ResourceVersion),
}

impl Awaits {
    pub fn is_met(&self, version: &ResourceVersion) -> bool {
        match self {
            Self::AtLeast(it) => !version.is_before(it),
            Self::After(it) => it.is_before(version),
        }
    }
}

#[derive(Clone, Debug, Hash)]
enum Told {
    Answered(Vec<IpAddr>),
    Refused(String),
}

impl Telling {
    pub fn new(me: NodeName) -> Self {
        Self {
            me,
            open: BTreeSet::new(),
            mute: BTreeSet::new(),
            writing: BTreeMap::new(),
            affairs: BTreeMap::new(),
            again: BTreeSet::new(),
            fault: None,
            speaks: false,
            events: EVENTS,
            events_at: Instant::from_nanos(0),
        }
    }

    /// Something about the Service changed.
    pub fn look_at(&mut self, name: &ObjectName) {
        self.open.insert(name.clone());
    }

    pub fn forget(&mut self, name: &ObjectName) {
        self.open.remove(name);
        self.mute.remove(name);
        if let Some(at) = self.affairs.remove(name).and_then(|it| it.again_at) {
            self.again.remove(&(at, name.clone()));
        }
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &ObjectReply) {
        let Some(name) = self.writing.remove(&request) else {
            return;
        };
        let Some(it) = self.affairs.get_mut(&name) else {
            return;
        };
        let stage = std::mem::replace(&mut it.stage, Stage::Rest);
        if *reply == ObjectReply::Conflict && sabotaged(Sabotage::ConflictTakenForWritten) {
            return self.look_again(&name, Some(cx.now + PEACE * 60));
        }
        it.stage = match (reply, stage) {
            (ObjectReply::Done(version), _) => Stage::Awaits(Awaits::AtLeast(version.clone())),
            // The watch brings what there is now, or that it is gone.
            (ObjectReply::Conflict | ObjectReply::Gone, Stage::Writing(from)) => {
                Stage::Awaits(Awaits::After(from))
            }
            (ObjectReply::Conflict | ObjectReply::Failed(_) | ObjectReply::Gone, _) => Stage::Rest,
        };
        if !matches!(reply, ObjectReply::Done(_)) {
            (it.last_patch, it.last_ingress) = (None, None);
        }
        self.fault = match reply {
            ObjectReply::Failed(fault) => Some(fault.clone()),
            ObjectReply::Conflict | ObjectReply::Done(_) | ObjectReply::Gone => None,
        };
        let contested = *reply == ObjectReply::Conflict;
        let storm = std::mem::replace(&mut it.contested, contested) && contested;
        if !contested {
            it.contests.reset();
        }
        let again_at = match reply {
            ObjectReply::Failed(fault) => {
                it.written_over(cx).max(fault.retry_after.unwrap_or_default())
            }
            ObjectReply::Conflict if storm => {
                // Whatever the watch brings is old by the time it is written from.
                it.stage = Stage::Rest;
                it.contests.wait(cx.rng, FIRST, COMES_BACK)
            }
            ObjectReply::Conflict | ObjectReply::Done(_) | ObjectReply::Gone => COMES_BACK,
        };
        let again_at = Some(cx.now + again_at);
        self.look_again(&name, again_at);
        // The watch may have been faster than the answer.
        self.open.insert(name);
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let again = self.again.first().map(|it| Deadline { at: it.0, why: "write to a Service" });
        // As long as as many writes are under way as may be, an answer comes first.
        let waits = !self.mute.is_empty() && self.events == 0;
        let mute = (waits && self.writing.len() < AT_ONCE)
            .then_some(Deadline { at: self.events_at + EVENT_EVERY, why: "tell Events" });
        again.into_iter().chain(mute).min()
    }

    /// Nothing is written to it before that.
    fn look_again(&mut self, name: &ObjectName, at: Option<Instant>) {
        let Some(it) = self.affairs.get_mut(name) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut it.again_at, at) {
            self.again.remove(&(before, name.clone()));
        }
        if let Some(at) = at {
            self.again.insert((at, name.clone()));
        }
    }

    fn due(&mut self, now: Instant) {
        while self.again.first().is_some_and(|it| it.0 <= now) {
            let Some((_, name)) = self.again.pop_first() else { break };
            if let Some(it) = self.affairs.get_mut(&name) {
                (it.again_at, it.waited) = (None, true);
                if matches!(it.stage, Stage::Awaits(_)) {
                    it.stage = Stage::Rest;
                }
            }
            self.open.insert(name);
        }
    }

    /// Whether there is room for an Event, and takes it.
    pub fn may_tell(&mut self, now: Instant) -> bool {
        let may = self.has_room(now);
        self.events -= u32::from(may);
        may
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let nanos = now.saturating_since(self.events_at).as_nanos();
        let more = u32::try_from(nanos / EVENT_EVERY.as_nanos()).unwrap_or(EVENTS);
        if more > 0 {
            self.events = self.events.saturating_add(more).min(EVENTS);
            self.events_at = now;
        }
        self.events > 0
    }
}

impl Services {
    /// Whether this node answers for the VIP.
    pub fn note_answering(&mut self, vip: Vip, answers: bool) {
        if self.answers(vip.0) != answers {
            self.change(vip.0, |it| it.answers = answers);
            self.exposing.look_at(vip.0);
            let names = self.addresses.get(&vip.0).into_iter().flat_map(|it| it.by.iter());
            self.telling.open.extend(names.cloned());
        }
    }

    /// Writes what differs. `speaks`: this node tells of what nobody answers for.
    pub fn tell(&mut self, cx: &mut Cx<'_>, speaks: bool) {
        if self.telling.speaks != speaks {
            self.telling.speaks = speaks;
            self.telling.open.extend(self.services.keys().cloned());
        }
        self.telling.due(cx.now);
        while self.telling.writing.len() < AT_ONCE {
            let Some(name) = self.telling.open.pop_first() else { break };
            if !self.tell_of(cx, &name) {
                self.telling.mute.insert(name);
            }
        }
        while self.telling.writing.len() < AT_ONCE && self.telling.has_room(cx.now) {
            let Some(name) = self.telling.mute.pop_first() else { break };
            if !self.tell_of(cx, &name) {
                self.telling.mute.insert(name);
            }
        }
    }

    /// Returns whether it is done with for now.
    fn tell_of(&mut self, cx: &mut Cx<'_>, name: &ObjectName) -> bool {
        let Some(known) = self.services.get(name) else {
            return true;
        };
        let mut answered: Vec<IpAddr> = known.has().filter(|ip| self.answers(*ip)).collect();
        self.labels.answered(name, &answered);
        answered.shrink_to_fit();
        let writes = known.has().next().is_some_and(|it| answered.first() == Some(&it));
        let refusal = known.refusal(self.allocating.refused.get(name), self.leasing.refusal(name));
        let reason = refusal.as_ref().map_or("Refused", |it| it.reason());
        let truth = match refusal.filter(|_| self.telling.speaks) {
            _ if writes => Some(Told::Answered(answered.clone())),
            refusal => refusal.map(|it| Told::Refused(it.to_string())),
        };
        if truth.is_none() && !self.telling.affairs.contains_key(name) {
            return true;
        }
        let writes = writes && self.config.writes;
        if writes && self.write(cx, name, &answered) {
            return true;
        }
        let Some(known) = self.services.get(name) else {
            return true;
        };
        self.telling.tell_event(cx, known, truth, reason) && self.tell_exposed(cx, name)
    }
}

impl Services {
    /// Writes what differs. Returns whether the rest has to wait for that.
    fn write(&mut self, cx: &mut Cx<'_>, name: &ObjectName, answered: &[IpAddr]) -> bool {
        let Some(known) = self.services.get(name) else {
            return true;
        };
        let outside = self.outside(known);
        // A status counts as asking for what it names, so what is leased is said to be that first.
        let service = known.service();
        let leases = super::leasing::written(&service);
        let stands = |ip: &IpAddr| service.status_names(*ip);
        let said = |ip: &IpAddr| {
            let family = IpFamily::of(*ip);
            !self.leasing.holds(name, *ip) || leases.address(family) == Some(*ip) || stands(ip)
        };
        // What is asked for by the status is not lost for being away for a moment.
        let by_status = super::wants::asks_by_status(&service);
        let told = |ip: &IpAddr| answered.contains(ip) || (by_status && stands(ip));
        let answered: Vec<_> = known.has().filter(told).filter(said).collect();
        self.telling.write(cx, known, &answered, &outside)
    }
}

impl Telling {
    fn affair(&mut self, now: Instant, known: &Known) -> &mut Affair {
        self.affairs.entry(known.name.clone()).or_insert_with(|| {
            Box::new(Affair {
                stage: Stage::Rest,
                last_patch: None,
                last_ingress: None,
                wrote_at: now,
                tries: Tries::default(),
                contested: false,
                contests: Tries::default(),
                again_at: None,
                waited: false,
                told: None,
            })
        })
    }

    /// Writes what differs. Returns whether the rest has to wait for that.
    fn write(
        &mut self,
        cx: &mut Cx<'_>,
        known: &Known,
        answered: &[IpAddr],
        outside: &[IpAddr],
    ) -> bool {
        let service = known.service();
        let (name, version) = (known.name.clone(), service.version.clone());
        let all = [answered, outside].concat();
        let (patch, ingress) = (self.patch(&service, outside), ingress(&service, &all));
        let it = self.affair(cx.now, known);
        if matches!(&it.stage, Stage::Awaits(it) if it.is_met(&version)) {
            it.stage = Stage::Rest;
            self.look_again(&name, None);
        }
        let it = self.affair(cx.now, known);
        if matches!(it.stage, Stage::Writing(_)) || it.again_at.is_some() {
            return true;
        }
        let again = match patch.is_empty() {
            false => it.last_patch == Some(hash(&patch)),
            true if is_same(&service.ingress, &ingress) => {
                it.waited = false;
                return false;
            }
            true => it.last_ingress == Some(hash(&ingress)),
        };
        if it.wrote_at + PEACE <= cx.now {
            it.tries.reset();
        } else if again && !it.waited && !sabotaged(Sabotage::WrittenOverAtOnce) {
            let at = cx.now + it.written_over(cx);
            self.look_again(&name, Some(at));
            return true;
        }
        (it.stage, it.waited, it.wrote_at) = (Stage::Writing(version.clone()), false, cx.now);
        let call = match patch.is_empty() {
            false => {
                it.last_patch = Some(hash(&patch));
                ObjectCall::PatchService { name: name.clone(), version, patch }
            }
            true => {
                it.last_ingress = Some(hash(&ingress));
                ObjectCall::WriteIngress { name: name.clone(), version, ingress }
            }
        };
        let request = cx.ask(call);
        self.writing.insert(request, name);
        true
    }

    fn patch(&self, service: &Service, outside: &[IpAddr]) -> ServicePatch {
        let mut patch = ServicePatch::default();
        if service.annotations.get(HOST).map(String::as_str) != Some(&*self.me.0) {
            patch.annotations.insert(HOST.to_owned(), Some(self.me.to_string()));
        }
        if let Some(text) = outside_annotation(service, outside) {
            patch.annotations.insert(OUTSIDE.to_owned(), text);
        }
        patch
    }

    /// Returns whether there is nothing left to tell.
    fn tell_event(
        &mut self,
        cx: &mut Cx<'_>,
        known: &Known,
        truth: Option<Told>,
        reason: &'static str,
    ) -> bool {
        let told = truth.as_ref().map(hash);
        if self.affair(cx.now, known).told == told {
            return true;
        }
        let Some(truth) = truth else {
            self.affair(cx.now, known).told = None;
            return true;
        };
        let (warning, reason, message) = match &truth {
            Told::Answered(ips) => {
                let ips: Vec<_> = ips.iter().map(IpAddr::to_string).collect();
                let message = format!("{} answers for {}", self.me, ips.join(" and "));
                (false, "AddressAnnounced", message)
            }
            Told::Refused(why) => (true, reason, why.clone()),
        };
        if !self.may_tell(cx.now) {
            return false;
        }
        cx.ask(ObjectCall::ServiceEvent {
            name: known.name.clone(),
            uid: known.service().uid,
            node: self.me.clone(),
            warning,
            reason: reason.to_owned(),
            message,
        });
        self.affair(cx.now, known).told = told;
        true
    }
}
