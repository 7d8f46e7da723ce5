//! The threads that ask about Services, as many as there is work for. Writes go before Events,
//! and Events never take the last thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Caller, Deliver, FromKube, JSON, Session, garbage, locked, refusal, refused, wire};
use crate::io::clock;
use crate::io::http::{Answer, Client, Request, STACK, segment};
use crate::model::{
    ApiFault, ApiFaultKind, Instant, Named, ObjectCall, ObjectName, ObjectReply, RequestId,
};

/// Where orders wait for a thread.
pub(super) struct Desk {
    session: Arc<Session>,
    deliver: Deliver,
    orders: Mutex<Orders>,
    changed: Condvar,
    may_patch: AtomicBool,
}

#[derive(Default)]
struct Orders {
    writes: VecDeque<Order>,
    events: VecDeque<Order>,
    threads: usize,
    idle: usize,
    /// Threads that write Events.
    telling: usize,
    closed: bool,
}

struct Order {
    request: RequestId,
    call: ObjectCall,
    /// Given in order: a thread that gives its own up in time is free for the next in time.
    give_up_at: Instant,
}

const MAX_THREADS: usize = 4;
const MAX_WRITES: usize = 1_024;
const MAX_EVENTS: usize = 64;
/// A thread but the first that has had nothing to do for so long ends.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// Timers are late by a tick or two, and the answer must not be.
const MARGIN: Duration = Duration::from_millis(20);

impl Desk {
    pub fn new(session: Arc<Session>, deliver: Deliver) -> Arc<Self> {
        let (orders, changed, may_patch) = (Mutex::default(), Condvar::new(), true.into());
        Arc::new(Self { session, deliver, orders, changed, may_patch })
    }

    pub fn order(self: &Arc<Self>, request: RequestId, call: ObjectCall) {
        let give_up_at = clock::now() + ObjectCall::WITHIN;
        let mut orders = locked(&self.orders);
        let (queue, most) = match call {
            ObjectCall::ServiceEvent { .. } => (&mut orders.events, MAX_EVENTS),
            ObjectCall::PatchService { .. } | ObjectCall::WriteIngress { .. } => {
                (&mut orders.writes, MAX_WRITES)
            }
        };
        if queue.len() >= most {
            drop(orders);
            return self.answer(request, ObjectReply::Failed(refusal("too many requests wait")));
        }
        queue.push_back(Order { request, call, give_up_at });
        let waiting = orders.writes.len() + orders.events.len();
        if orders.idle < waiting && orders.threads < MAX_THREADS {
            let (desk, first) = (self.clone(), orders.threads == 0);
            let thread = thread::Builder::new().name("kube-object".into()).stack_size(STACK);
            if thread.spawn(move || desk.work(first)).is_ok() {
                orders.threads += 1;
            } else if first {
                let refused = std::mem::take(&mut *orders);
                drop(orders);
                for order in refused.writes.into_iter().chain(refused.events) {
                    let reply = ObjectReply::Failed(refusal("no thread can be started"));
                    self.answer(order.request, reply);
                }
                return;
            }
        }
        drop(orders);
        self.changed.notify_one();
    }

    pub fn close(&self) {
        locked(&self.orders).closed = true;
        self.changed.notify_all();
    }

    /// The body of a thread. What was ordered before the end is still answered.
    fn work(&self, first: bool) {
        let mut caller = Caller::new(&self.session);
        while let Some(order) = self.take(first) {
            let until = order.give_up_at - MARGIN;
            let reply = if until <= clock::now() {
                ObjectReply::Failed(too_late())
            } else {
                call(&mut caller, &self.may_patch, &order.call, until)
                    .unwrap_or_else(ObjectReply::Failed)
            };
            if order.is_event() {
                locked(&self.orders).telling -= 1;
                self.changed.notify_one();
            }
            self.answer(order.request, reply);
        }
    }

    fn take(&self, first: bool) -> Option<Order> {
        let mut orders = locked(&self.orders);
        let idle_until = clock::now() + MAX_IDLE;
        loop {
            if let Some(order) = orders.next() {
                return Some(order);
            }
            let left = idle_until.saturating_since(clock::now());
            if orders.closed || (!first && left.is_zero()) {
                orders.threads -= 1;
                return None;
            }
            orders.idle += 1;
            orders = if first {
                self.changed.wait(orders).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.changed.wait_timeout(orders, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            orders.idle -= 1;
        }
    }

    fn answer(&self, request: RequestId, reply: ObjectReply) {
        (self.deliver)(FromKube::Asked { request, reply });
    }
}

impl Orders {
    fn next(&mut self) -> Option<Order> {
        if let Some(order) = self.writes.pop_front() {
            return Some(order);
        }
        if self.telling + 1 >= MAX_THREADS {
            return None;
        }
        let order = self.events.pop_front()?;
        self.telling += 1;
        Some(order)
    }
}

impl Order {
    fn is_event(&self) -> bool {
        match self.call {
            ObjectCall::ServiceEvent { .. } => true,
            ObjectCall::PatchService { .. } | ObjectCall::WriteIngress { .. } => false,
        }
    }
}

fn call(
    caller: &mut Caller<'_>,
    may_patch: &AtomicBool,
    call: &ObjectCall,
    until: Instant,
) -> Result<ObjectReply, ApiFault> {
    let (ObjectCall::PatchService { name, .. }
    | ObjectCall::ServiceEvent { name, .. }
    | ObjectCall::WriteIngress { name, .. }) = call;
    let written = write(caller.session, call)?;
    let client = caller.client()?;
    if written.method == "PATCH" && !may_patch.load(Ordering::Relaxed) {
        return replace(caller.session, &client, name, written, until);
    }
    let answer = client.call(&written, until)?;
    if written.method == "PATCH" && answer.status == 403 {
        // The peer's role allows to update a Service, and not to patch it.
        let replaced = replace(caller.session, &client, name, written, until)?;
        may_patch.store(false, Ordering::Relaxed);
        return Ok(replaced);
    }
    read(&client.what(&written), &written, &answer)
}

/// Does what a patch says by reading the object and writing it back.
fn replace(
    session: &Session,
    client: &Client,
    name: &ObjectName,
    patch: Request,
    until: Instant,
) -> Result<ObjectReply, ApiFault> {
    // Who may update a status need not be allowed to read it by itself.
    let mut read_it = session.request("GET", service(name))?;
    read_it.max_answer = wire::MAX_OBJECT as u64;
    let what = client.what(&read_it);
    let answer = client.call(&read_it, until)?;
    match answer.status {
        200 => {}
        404 => return Ok(ObjectReply::Gone),
        _ => return Err(refused(&what, &answer)),
    }
    let words = patch.body.as_ref().map_or("", |it| &it.1);
    let merged = wire::merged(&answer.body, words).map_err(|error| garbage(&what, &error))?;
    let Some(merged) = merged else {
        return Ok(ObjectReply::Conflict);
    };
    let replacement = Request { method: "PUT", body: Some((JSON, merged)), ..patch };
    let answer = client.call(&replacement, until)?;
    read(&client.what(&replacement), &replacement, &answer)
}

fn read(what: &str, request: &Request, answer: &Answer) -> Result<ObjectReply, ApiFault> {
    match (request.method, answer.status) {
        (_, 200 | 201) => match wire::object_version(&answer.body) {
            Ok(version) => Ok(ObjectReply::Done(version)),
            Err(error) => Err(garbage(what, &error)),
        },
        ("PATCH" | "PUT", 409) => Ok(ObjectReply::Conflict),
        ("PATCH" | "PUT", 404) => Ok(ObjectReply::Gone),
        _ => Err(refused(what, answer)),
    }
}

fn write(session: &Session, call: &ObjectCall) -> Result<Request, ApiFault> {
    const MERGE: &str = "application/merge-patch+json";
    let (method, path, body) = match call {
        ObjectCall::PatchService { name, version, patch } => {
            ("PATCH", service(name), (MERGE, wire::service_patch(version, patch)))
        }
        ObjectCall::WriteIngress { name, version, ingress } => {
            let body = (MERGE, wire::ingress_patch(version, ingress));
            ("PATCH", service(name) + "/status", body)
        }
        ObjectCall::ServiceEvent { name, uid, node, warning, reason, message } => {
            let wall = clock::wall();
            let event = wire::event(&wire::EventWords {
                name: &format!("{}.{:x}", name.name, wall.as_nanos()),
                about: wire::About::Service(name, uid),
                node,
                warning: *warning,
                reason,
                message,
                time: &clock::micro_time(wall),
            });
            let path = format!("/api/v1/namespaces/{}/events", segment(&name.namespace));
            ("POST", path, (JSON, event))
        }
    };
    let mut request = session.request(method, path)?;
    request.body = Some(body);
    request.max_answer = wire::MAX_OBJECT as u64;
    Ok(request)
}

fn service(name: &ObjectName) -> String {
    let Named { namespace, name } = &**name;
    format!("/api/v1/namespaces/{}/services/{}", segment(namespace), segment(name))
}

fn too_late() -> ApiFault {
    let why = "no answer in time: requests before it were not over".into();
    ApiFault { kind: ApiFaultKind::Timeout, why, retry_after: None }
}
