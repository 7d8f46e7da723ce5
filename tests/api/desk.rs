//! The client as the shell has it: orders go in, reports come out of a channel.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use edgevip::io::clock;
use edgevip::io::kube::{FromKube, Kube, LeaseTarget};
use edgevip::model::{
    ApiAccess, ApiFault, ApiFaultKind, Author, Instant, Lease, LeaseCall, LeaseReply, NodeName,
    ObjectName, RequestId, ResourceVersion, SideCall, SideReply, WatchEvent,
};

/// A client and what it reports.
pub struct Desk {
    kube: RefCell<Kube>,
    lease: ObjectName,
    reports: Receiver<FromKube>,
    next: Cell<u32>,
}

/// How late a thread of a busy machine may hear of what was in time.
pub const SCHEDULING: Duration = Duration::from_millis(100);

pub const AUTHOR: Author = Author { host: 0xfeed, life: 0xbeef };

impl Desk {
    pub fn new(access: ApiAccess, lease: &str) -> Self {
        Self::in_namespace(access, "edge", lease)
    }

    pub fn in_namespace(access: ApiAccess, namespace: &str, lease: &str) -> Self {
        let (report, reports) = channel();
        let lease = ObjectName::new(namespace, lease);
        let target = LeaseTarget {
            name: lease.clone(),
            annotations: BTreeMap::from([("purpose".into(), "test".into())]),
        };
        let deliver = move |it| drop(report.send(it));
        let kube = Kube::start(access, target, Arc::new(deliver));
        Self { kube: kube.into(), lease, reports, next: 0.into() }
    }

    /// Asks, and waits for the answer, which must be in time.
    pub fn lease(&self, call: LeaseCall) -> LeaseReply {
        let give_up_at = clock::now() + Duration::from_secs(10);
        let request = self.order(call, give_up_at);
        self.lease_answer(request, give_up_at)
    }

    /// Asks; the answer is for `lease_answer`.
    pub fn order(&self, call: LeaseCall, give_up_at: Instant) -> RequestId {
        let request = self.request();
        self.kube().lease(request, &self.lease, call, give_up_at);
        request
    }

    pub fn lease_answer(&self, expected: RequestId, give_up_at: Instant) -> LeaseReply {
        match self.report() {
            FromKube::Lease { request, reply } => {
                assert_eq!(request, expected);
                let late = clock::now().saturating_since(give_up_at);
                assert!(late < SCHEDULING, "late by {late:?}: {reply:?}");
                reply
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn read(&self) -> LeaseReply {
        self.lease(LeaseCall::Read)
    }

    pub fn write(&self, holder: Option<&str>, based_on: Option<&Lease>) -> LeaseReply {
        self.lease(write(holder, based_on))
    }

    pub fn watch(&self, from: Option<ResourceVersion>) {
        self.kube().watch(self.lease.clone(), from);
    }

    /// The next event but for bookmarks, which come when they like.
    pub fn event(&self) -> WatchEvent {
        loop {
            match self.report() {
                FromKube::Watch { event: WatchEvent::Bookmark(_), .. } => {}
                FromKube::Watch { event, .. } => return event,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The lease of the next event.
    pub fn watched(&self) -> Lease {
        match self.event() {
            WatchEvent::Lease(lease) => *lease,
            other => panic!("{other:?}"),
        }
    }

    pub fn side(&self, call: SideCall) -> SideReply {
        let expected = self.request();
        self.kube().side(expected, call);
        match self.report() {
            FromKube::Side { request, reply } if request == expected => reply,
            other => panic!("{other:?}"),
        }
    }

    pub fn kube(&self) -> RefMut<'_, Kube> {
        self.kube.borrow_mut()
    }

    pub fn report(&self) -> FromKube {
        self.reports.recv_timeout(Duration::from_secs(30)).expect("a report within 30 s")
    }

    /// That nothing else has been reported up to here.
    pub fn is_quiet(&self) -> bool {
        self.reports.try_recv().is_err()
    }

    pub fn request(&self) -> RequestId {
        self.next.set(self.next.get() + 1);
        RequestId(self.next.get())
    }
}

pub fn write(holder: Option<&str>, based_on: Option<&Lease>) -> LeaseCall {
    LeaseCall::Write {
        holder: holder.map(|it| NodeName(it.into())),
        duration: Duration::from_millis(1_500),
        transitions: 3,
        acquired: None,
        author: AUTHOR,
        quorum: None,
        owner: None,
        based_on: based_on.cloned().map(Box::new),
    }
}

pub fn found(reply: LeaseReply) -> Lease {
    match reply {
        LeaseReply::Found(lease) => *lease,
        other => panic!("{other:?}"),
    }
}

pub fn fault(reply: LeaseReply) -> ApiFault {
    match reply {
        LeaseReply::Failed(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// What the fault says, once its kind is as expected.
pub fn why(fault: ApiFault, kind: ApiFaultKind) -> String {
    assert_eq!(fault.kind, kind, "{fault:?}");
    fault.why
}
