//! The thread that asks about the Lease, on a connection that nobody else uses.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Caller, Deliver, FromKube, JSON, Session, garbage, locked, refusal, refused, wire};
use crate::io::clock;
use crate::io::http::{Request, STACK, segment};
use crate::model::{
    ApiFault, ApiFaultKind, Instant, Lease, LeaseCall, LeaseReply, ObjectName, RequestId,
};

/// Where orders wait for the thread.
pub(super) struct Desk {
    orders: Mutex<Orders>,
    changed: Condvar,
    deliver: Deliver,
}

#[derive(Default)]
struct Orders {
    waiting: VecDeque<Order>,
    busy: bool,
    closed: bool,
}

pub(super) struct Order {
    pub request: RequestId,
    pub call: LeaseCall,
    pub give_up_at: Instant,
}

impl Desk {
    pub fn new(deliver: Deliver) -> Arc<Self> {
        Arc::new(Self { orders: Mutex::default(), changed: Condvar::new(), deliver })
    }

    pub fn order(self: &Arc<Self>, order: Order) {
        let (request, give_up_at) = (order.request, order.give_up_at);
        let mut orders = locked(&self.orders);
        if orders.waiting.len() >= MAX_WAITING {
            drop(orders);
            return self.answer(request, LeaseReply::Failed(refusal("too many requests wait")));
        }
        let must_queue = orders.busy || !orders.waiting.is_empty();
        orders.waiting.push_back(order);
        drop(orders);
        self.changed.notify_all();

        if must_queue {
            let desk = self.clone();
            let thread = thread::Builder::new().name("kube-wait".into()).stack_size(STACK);
            if thread.spawn(move || desk.expire(request, give_up_at)).is_err() {
                self.give_up(request);
            }
        }
    }

    pub fn close(&self) {
        locked(&self.orders).closed = true;
        self.changed.notify_all();
    }

    /// Waits for an order; what was ordered before the end is still answered.
    fn take(&self) -> Option<Order> {
        let mut orders = locked(&self.orders);
        orders.busy = false;
        loop {
            if let Some(order) = orders.waiting.pop_front() {
                orders.busy = true;
                self.changed.notify_all();
                return Some(order);
            }
            if orders.closed {
                return None;
            }
            orders = self.changed.wait(orders).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Answers in the thread's place if it does not come to the order in time.
    fn expire(&self, request: RequestId, give_up_at: Instant) {
        let mut orders = locked(&self.orders);
        while orders.waiting.iter().any(|it| it.request == request) {
            let left = (give_up_at - MARGIN).saturating_since(clock::now());
            if left.is_zero() {
                drop(orders);
                return self.give_up(request);
            }
            let waited = self.changed.wait_timeout(orders, left);
            (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_up(&self, request: RequestId) {
        let mut orders = locked(&self.orders);
        let before = orders.waiting.len();
        orders.waiting.retain(|it| it.request != request);
        let found = orders.waiting.len() < before;
        drop(orders);
        if found {
            self.answer(request, LeaseReply::Failed(too_late()));
        }
    }

    fn answer(&self, request: RequestId, reply: LeaseReply) {
        (self.deliver)(FromKube::Lease { request, reply });
    }
}

const MAX_WAITING: usize = 4;

/// Timers are late by a tick or two, and the answer must not be.
const MARGIN: Duration = Duration::from_millis(20);

/// The body of the thread.
pub(super) fn work(desk: &Desk, session: &Session, lease: &ObjectName) {
    let mut asker = Asker { lease, caller: Caller::new(session) };
    while let Some(Order { request, call, give_up_at }) = desk.take() {
        let until = give_up_at - MARGIN;
        let reply = if until <= clock::now() {
            LeaseReply::Failed(too_late())
        } else {
            asker.call(&call, until).unwrap_or_else(LeaseReply::Failed)
        };
        desk.answer(request, reply);
    }
}

struct Asker<'a> {
    lease: &'a ObjectName,
    caller: Caller<'a>,
}

impl Asker<'_> {
    fn call(&mut self, call: &LeaseCall, until: Instant) -> Result<LeaseReply, ApiFault> {
        let client = self.caller.client()?;
        let request = self.request(call)?;
        let what = client.what(&request);
        let answer = client.call(&request, until)?;
        let found = |body: &[u8]| match wire::lease(body) {
            Ok(lease) => Ok(LeaseReply::Found(Box::new(lease))),
            Err(error) => Err(garbage(&what, &error)),
        };
        match (request.method, answer.status) {
            (_, 200 | 201) => found(&answer.body),
            ("POST" | "PUT", 409) => Ok(LeaseReply::Conflict),
            ("GET" | "PUT", 404) => Ok(LeaseReply::NotFound),
            _ => Err(refused(&what, &answer)),
        }
    }

    fn request(&self, call: &LeaseCall) -> Result<Request, ApiFault> {
        let all = super::leases(&self.lease.namespace);
        let one = format!("{all}/{}", segment(&self.lease.name));
        let (based_on, body) = match call {
            LeaseCall::Found { based_on, .. } | LeaseCall::Write { based_on, .. } => {
                (based_on.as_deref(), self.body(call, based_on.as_deref()))
            }
            LeaseCall::Read => return self.caller.session.request("GET", one),
        };
        let body = body.map_err(|error| garbage("the Lease as it was read", &error))?;
        let (method, path) = if based_on.is_some() { ("PUT", one) } else { ("POST", all) };
        let mut request = self.caller.session.request(method, path)?;
        request.body = Some((JSON, body));
        Ok(request)
    }

    fn body(
        &self,
        call: &LeaseCall,
        based_on: Option<&Lease>,
    ) -> Result<String, wire::DecodeError> {
        let target = &self.caller.session.target;
        let annotations = (target.name == *self.lease).then_some(&target.annotations);
        let renewed = clock::micro_time(clock::wall());
        match call {
            LeaseCall::Found { foundation, .. } => match based_on {
                Some(lease) => wire::founded_lease(&lease.object, foundation),
                None => Ok(wire::new_founded_lease(self.lease, annotations, foundation)),
            },
            LeaseCall::Read => Ok(String::new()),
            LeaseCall::Write {
                holder, duration, transitions, acquired, author, quorum, ..
            } => {
                let spec = wire::LeaseSpec {
                    holder: holder.as_ref(),
                    duration: *duration,
                    transitions: *transitions,
                    acquired: acquired.as_deref(),
                    renewed: &renewed,
                    author: *author,
                    quorum: *quorum,
                };
                match based_on {
                    Some(lease) => wire::replaced_lease(&lease.object, &spec),
                    None => Ok(wire::new_lease(self.lease, annotations, &spec)),
                }
            }
        }
    }
}

fn too_late() -> ApiFault {
    let why = "no answer in time: requests before it were not over".into();
    ApiFault { kind: ApiFaultKind::Timeout, why, retry_after: None }
}
