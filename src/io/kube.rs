//! The API server: three threads, each with connections of its own. They ask what they are
//! told to ask and report what comes back; when to ask, and what follows, is not theirs.
//!
//! | thread | for | queue |
//! |---|---|---|
//! | `kube-lease` | [`LeaseCall`], one after another | 4 |
//! | `kube-watch` | the watch on the Lease | the newest order |
//! | `kube-side` | [`SideCall`], one after another | 16 |

mod credentials;
mod detect;
mod lease;
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
    ApiAccess, ApiFault, ApiFaultKind, Instant, LeaseCall, LeaseReply, RequestId, ResourceVersion,
    SideCall, SideReply, WatchEvent,
};
use crate::wire::kube as wire;
pub use crate::wire::kube::Permission;

/// Which Lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseTarget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Put on it when it is created.
    pub annotations: BTreeMap<String, String>,
}

/// What the threads report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromKube {
    /// The answer to [`Kube::lease`].
    Lease {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: LeaseReply,
    },
    /// The answer to [`Kube::side`].
    Side {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: SideReply,
    },
    /// What the watch has to say.
    Watch(WatchEvent),
}

/// The API server. Dropping it ends its threads.
pub struct Kube {
    lease: Arc<lease::Desk>,
    watch: Arc<watch::Desk>,
    side: SyncSender<(RequestId, SideCall)>,
    deliver: Deliver,
}

impl Kube {
    /// Starts the threads. Nothing is read or connected before the first order, and whatever
    /// is wrong with `access` becomes the answer to an order. `deliver` must not block; it
    /// is called on the threads, and on the caller's own where a queue is full.
    pub fn start(access: ApiAccess, target: LeaseTarget, deliver: Deliver) -> Self {
        let session = Arc::new(Session::new(access, target));
        let (side, orders) = sync_channel(SIDE_QUEUE);
        let lease = lease::Desk::new(deliver.clone());
        let watch = Arc::new(watch::Desk::default());

        let (desk, of) = (lease.clone(), session.clone());
        spawn("kube-lease", move || lease::work(&desk, &of));
        let (desk, of, tell) = (watch.clone(), session.clone(), deliver.clone());
        spawn("kube-watch", move || watch::work(&desk, &of, &tell));
        let tell = deliver.clone();
        spawn("kube-side", move || side::work(&orders, &session, &tell));
        Self { lease, watch, side, deliver }
    }

    /// Asks about the Lease. There is exactly one answer, at `give_up_at` at the latest.
    pub fn lease(&self, request: RequestId, call: LeaseCall, give_up_at: Instant) {
        self.lease.order(lease::Order { request, call, give_up_at });
    }

    /// Watches the Lease. A watch that is open is cut; what it may still say comes before
    /// anything of the new one.
    pub fn watch(&self, from: Option<ResourceVersion>) {
        self.watch.order(from);
    }

    /// Asks what no election waits for. There is exactly one answer.
    pub fn side(&self, request: RequestId, call: SideCall) {
        let order = self.side.try_send((request, call));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = order {
            let reply = SideReply::Failed(refusal("too many requests on the side are waiting"));
            (self.deliver)(FromKube::Side { request, reply });
        }
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        self.lease.close();
        self.watch.close();
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
        let (namespace, name) = (String::new(), String::new());
        let target = LeaseTarget { namespace, name, annotations: BTreeMap::new() };
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

    fn leases(&self) -> String {
        let namespace = segment(&self.target.namespace);
        format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
    }
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
