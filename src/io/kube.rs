//! The API server: threads, each with connections of its own. They ask what they are told to
//! ask and report what comes back; when to ask, and what follows, is not theirs. All but
//! `kube-side` start with their first order.
//!
//! | thread | for | queue |
//! |---|---|---|
//! | `kube-follow`, one each [`Followed`] | list and watch | the newest order; 256 events out |
//! | `kube-lease`, one a Lease, up to six | [`LeaseCall`] | 4 of each Lease |
//! | `kube-object`, up to four | [`ObjectCall`] | 1024 writes, 64 Events |
//! | `kube-watch`, one a Lease | the watch on it | the newest order |
//! | `kube-side` | [`SideCall`], one after another | 16 |

mod credentials;
mod detect;
mod follow;
mod lease;
mod objects;
mod side;
mod watch;

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub(in crate::io) use credentials::{Credentials, Entrance};
pub use detect::detect;

use crate::io::clock;
use crate::io::http::{Answer, Client, Request, STACK, segment};
use crate::model::{
    ApiAccess, ApiFault, ApiFaultKind, Followed, Instant, LeaseCall, LeaseReply, ObjectCall,
    ObjectEvent, ObjectName, ObjectReply, RequestId, ResourceVersion, SideCall, SideReply,
    WatchEvent,
};
use crate::wire::kube as wire;
pub use crate::wire::kube::Permission;

/// A Lease that is created with annotations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseTarget {
    /// Which. Events that are about no other object are about it.
    pub name: ObjectName,
    /// Put on it when it is created.
    pub annotations: BTreeMap<String, String>,
}

/// What the threads report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromKube {
    /// The answer to [`Kube::ask`].
    Asked {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: ObjectReply,
    },
    /// The answer to [`Kube::lease`].
    Lease {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: LeaseReply,
    },
    /// There is something to fetch with [`Kube::news`].
    Objects(Followed),
    /// The answer to [`Kube::side`].
    Side {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: SideReply,
    },
    /// What the watch on a Lease has to say.
    Watch {
        /// On which.
        lease: ObjectName,
        /// What it says.
        event: WatchEvent,
    },
}

/// The API server. Dropping it ends its threads.
pub struct Kube {
    session: Arc<Session>,
    leases: Arc<lease::Desk>,
    watches: BTreeMap<ObjectName, Arc<watch::Desk>>,
    follows: BTreeMap<Followed, Arc<follow::Desk>>,
    objects: Arc<objects::Desk>,
    side: SyncSender<(RequestId, SideCall)>,
    deliver: Deliver,
}

impl Kube {
    /// Nothing is read or connected before the first order, and whatever is wrong with
    /// `access` becomes the answer to an order. `deliver` is called on the threads, and on the
    /// caller's own where a queue is full. It may block on [`FromKube::Watch`] only.
    pub fn start(access: ApiAccess, target: LeaseTarget, deliver: Deliver) -> Self {
        let session = Arc::new(Session::new(access, target));
        let (side, orders) = sync_channel(SIDE_QUEUE);
        let (of, tell) = (session.clone(), deliver.clone());
        spawn("kube-side", move || side::work(&orders, &of, &tell));
        Self {
            objects: objects::Desk::new(session.clone(), deliver.clone()),
            leases: lease::Desk::new(session.clone(), deliver.clone()),
            session,
            watches: BTreeMap::new(),
            follows: BTreeMap::new(),
            side,
            deliver,
        }
    }

    /// Asks about a Lease. There is exactly one answer, at `give_up_at` at the latest.
    pub fn lease(
        &mut self,
        request: RequestId,
        lease: &ObjectName,
        call: LeaseCall,
        give_up_at: Instant,
    ) {
        let lease = lease.clone();
        self.leases.order(lease::Order { request, lease, call, give_up_at });
    }

    /// Watches a Lease. A watch on it that is open is cut; what it may still say comes before
    /// anything of the new one.
    pub fn watch(&mut self, lease: ObjectName, from: Option<ResourceVersion>) {
        let desk = self.watches.entry(lease.clone()).or_insert_with(|| {
            let desk = Arc::new(watch::Desk::new(lease, self.deliver.clone()));
            let (at, of) = (desk.clone(), self.session.clone());
            spawn("kube-watch", move || watch::work(&at, &of));
            desk
        });
        desk.order(from);
    }

    /// Lists these objects, then watches them; with a version, only watches from there on. What
    /// was under way is cut, and of it nothing comes after the first word of the new one.
    pub fn follow(&mut self, what: Followed, from: Option<ResourceVersion>) {
        let desk = self.follows.entry(what.clone()).or_insert_with(|| {
            let desk = Arc::new(follow::Desk::new(what, self.deliver.clone()));
            let (at, of) = (desk.clone(), self.session.clone());
            spawn("kube-follow", move || follow::work(&at, &of));
            desk
        });
        desk.order(from);
    }

    /// Ends it, and its thread.
    pub fn unfollow(&mut self, what: &Followed) {
        if let Some(desk) = self.follows.remove(what) {
            desk.close();
        }
    }

    /// What there is to tell, taken out. More waits at the edge meanwhile.
    pub fn news(&self, what: &Followed) -> Vec<ObjectEvent> {
        self.follows.get(what).map_or_else(Vec::new, |it| it.fetch())
    }

    /// Asks about a Service. There is exactly one answer, within [`ObjectCall::WITHIN`].
    pub fn ask(&self, request: RequestId, call: ObjectCall) {
        self.objects.order(request, call);
    }

    /// Asks what no election waits for. There is exactly one answer.
    pub fn side(&self, request: RequestId, call: SideCall) {
        let order = self.side.try_send((request, call));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = order {
            let reply = SideReply::Failed(refusal("too many requests on the side are waiting"));
            (self.deliver)(FromKube::Side { request, reply });
        }
    }

    /// The Leases that a watch was ordered on.
    pub fn watched(&self) -> impl Iterator<Item = ObjectName> {
        self.watches.keys().cloned()
    }

    /// What is followed.
    pub fn followed(&self) -> impl Iterator<Item = Followed> {
        self.follows.keys().cloned()
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        self.leases.close();
        self.watches.values().for_each(|it| it.close());
        self.follows.values().for_each(|it| it.close());
        self.objects.close();
    }
}

/// Where reports go.
pub type Deliver = Arc<dyn Fn(FromKube) + Send + Sync>;

const SIDE_QUEUE: usize = 16;

/// The version that the server says it has.
pub fn server_version(access: &ApiAccess, timeout: Duration) -> Result<String, ApiFault> {
    let session = Session::without_lease(access);
    let request = session.request("GET", "/version".into())?;
    session.ask(&request, clock::now() + timeout, wire::git_version)
}

/// Whether these credentials allow it.
pub fn may(
    access: &ApiAccess,
    permission: Permission<'_>,
    timeout: Duration,
) -> Result<bool, ApiFault> {
    const PATH: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let session = Session::without_lease(access);
    let mut request = session.request("POST", PATH.into())?;
    request.body = Some((JSON, wire::access_review(permission)));
    session.ask(&request, clock::now() + timeout, wire::allowed)
}

/// A Service that k3s's own load balancer has taken, if there is one.
pub fn service_lb(access: &ApiAccess, timeout: Duration) -> Result<Option<String>, ApiFault> {
    let session = Session::without_lease(access);
    let until = clock::now() + timeout;
    let mut request = session.request("GET", "/api/v1/services?limit=500".into())?;
    request.accept = METADATA;
    request.max_answer = 500 * side::NODE_BYTES;
    session.ask(&request, until, wire::service_of_k3s)
}

/// Of the objects nothing but their metadata.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// What the threads share.
struct Session {
    credentials: Mutex<Credentials>,
    target: LeaseTarget,
}

impl Session {
    fn new(access: ApiAccess, target: LeaseTarget) -> Self {
        Self { credentials: Mutex::new(Credentials::new(access)), target }
    }

    fn without_lease(access: &ApiAccess) -> Self {
        let target = LeaseTarget { name: "".into(), annotations: BTreeMap::new() };
        Self::new(access.clone(), target)
    }

    fn entrance(&self) -> Result<Arc<Entrance>, ApiFault> {
        locked(&self.credentials).entrance()
    }

    fn client(&self) -> Result<Client, ApiFault> {
        let entrance = self.entrance()?;
        Ok(Client::new(entrance.base.clone(), entrance.route.clone()))
    }

    fn request(&self, method: &'static str, path: String) -> Result<Request, ApiFault> {
        let token = locked(&self.credentials).token()?;
        Ok(Request { method, path, accept: JSON, token, body: None, max_answer: MAX_ANSWER })
    }

    /// Asks on a connection of its own; only success has an answer.
    fn ask<T>(
        &self,
        request: &Request,
        until: Instant,
        read: impl Fn(&[u8]) -> Result<T, wire::DecodeError>,
    ) -> Result<T, ApiFault> {
        let client = self.client()?;
        let answer = client.call(request, until)?;
        match answer.status {
            200..=299 => read(&answer.body).map_err(|it| garbage(&client.what(request), &it)),
            _ => Err(refused(&client.what(request), &answer)),
        }
    }
}

/// A thread's own connection, kept for as long as the credentials stay the same.
struct Caller<'a> {
    session: &'a Session,
    connected: Option<(Arc<Entrance>, Client)>,
}

impl<'a> Caller<'a> {
    fn new(session: &'a Session) -> Self {
        Self { session, connected: None }
    }

    fn client(&mut self) -> Result<Client, ApiFault> {
        let entrance = self.session.entrance()?;
        if let Some((connected, client)) = &self.connected
            && Arc::ptr_eq(connected, &entrance)
        {
            return Ok(client.clone());
        }
        let client = Client::new(entrance.base.clone(), entrance.route.clone());
        self.connected = Some((entrance, client.clone()));
        Ok(client)
    }
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", segment(namespace))
}

const JSON: &str = "application/json";
const MAX_ANSWER: u64 = 1 << 20;

fn refused(what: &str, answer: &Answer) -> ApiFault {
    let Answer { status, retry_after, body } = answer;
    ApiFault {
        kind: wire::fault_kind((*status).into()),
        why: format!("{what}: {status} {}", wire::refusal_text(body)),
        retry_after: *retry_after,
    }
}

fn garbage(what: &str, error: &wire::DecodeError) -> ApiFault {
    let why = format!("{what}: not understood: {error}");
    ApiFault { kind: ApiFaultKind::Garbage, why, retry_after: None }
}

fn refusal(why: &str) -> ApiFault {
    ApiFault { kind: ApiFaultKind::Refused, why: why.into(), retry_after: None }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.into()).stack_size(STACK);
    thread.spawn(work).expect("a process that starts can have its first threads");
}
