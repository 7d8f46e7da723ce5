//! The threads that ask about Leases: one for each, on a connection that nobody else uses, up
//! to so many. Where there are more Leases, each thread takes what has to be answered first.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Caller, Deliver, FromKube, JSON, Session, garbage, locked, refusal, refused, wire};
use crate::io::clock;
use crate::io::http::{Request, STACK, segment};
use crate::model::{
    ApiFault, ApiFaultKind, Instant, Lease, LeaseCall, LeaseReply, ObjectName, RequestId,
};

/// Where orders wait for the threads.
pub(super) struct Desk {
    session: Arc<Session>,
    orders: Mutex<Orders>,
    changed: Condvar,
    deliver: Deliver,
}

#[derive(Default)]
struct Orders {
    waiting: Vec<Order>,
    /// The Leases that were asked about, while they are fewer than threads may be.
    leases: BTreeSet<ObjectName>,
    threads: usize,
    idle: usize,
    /// A thread looks after those that wait for too long.
    is_timed: bool,
    closed: bool,
}

pub(super) struct Order {
    pub request: RequestId,
    pub lease: ObjectName,
    pub call: LeaseCall,
    pub give_up_at: Instant,
}

impl Desk {
    pub fn new(session: Arc<Session>, deliver: Deliver) -> Arc<Self> {
        Arc::new(Self { session, orders: Mutex::default(), changed: Condvar::new(), deliver })
    }

    pub fn order(self: &Arc<Self>, order: Order) {
        let request = order.request;
        let mut orders = locked(&self.orders);
        if orders.waiting.iter().filter(|it| it.lease == order.lease).count() >= MAX_WAITING {
            drop(orders);
            return self.answer(request, LeaseReply::Failed(refusal("too many requests wait")));
        }
        if orders.leases.len() < MOST_THREADS && !orders.leases.contains(&order.lease) {
            orders.leases.insert(order.lease.clone());
        }
        orders.waiting.push(order);
        if orders.idle < orders.waiting.len() && orders.threads < orders.leases.len() {
            let desk = self.clone();
            let thread = thread::Builder::new().name("kube-lease".into()).stack_size(STACK);
            orders.threads += usize::from(thread.spawn(move || work(&desk)).is_ok());
        }
        if orders.idle < orders.waiting.len() && !orders.is_timed {
            let desk = self.clone();
            let thread = thread::Builder::new().name("kube-wait".into()).stack_size(STACK);
            orders.is_timed = thread.spawn(move || desk.expire()).is_ok();
        }
        drop(orders);
        self.changed.notify_all();
    }

    pub fn close(&self) {
        locked(&self.orders).closed = true;
        self.changed.notify_all();
    }

    /// Waits for an order; what was ordered before the end is still answered.
    fn take(&self) -> Option<Order> {
        let mut orders = locked(&self.orders);
        loop {
            let first = orders.waiting.iter().enumerate().min_by_key(|it| it.1.give_up_at);
            if let Some((index, _)) = first {
                let order = orders.waiting.swap_remove(index);
                self.changed.notify_all();
                return Some(order);
            }
            if orders.closed {
                return None;
            }
            orders.idle += 1;
            orders = self.changed.wait(orders).unwrap_or_else(PoisonError::into_inner);
            orders.idle -= 1;
        }
    }

    /// Answers in the threads' place what they do not come to in time.
    fn expire(&self) {
        let mut orders = locked(&self.orders);
        while let Some(first) = orders.waiting.iter().map(|it| it.give_up_at).min() {
            let left = (first - MARGIN).saturating_since(clock::now());
            orders = match left.is_zero() {
                true => self.give_up(orders),
                false => {
                    let waited = self.changed.wait_timeout(orders, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        orders.is_timed = false;
    }

    fn give_up<'a>(&'a self, mut orders: MutexGuard<'a, Orders>) -> MutexGuard<'a, Orders> {
        let over = clock::now() + MARGIN;
        let late: Vec<_> = orders.waiting.extract_if(.., |it| it.give_up_at <= over).collect();
        drop(orders);
        for order in late {
            self.answer(order.request, LeaseReply::Failed(too_late()));
        }
        locked(&self.orders)
    }

    fn answer(&self, request: RequestId, reply: LeaseReply) {
        (self.deliver)(FromKube::Lease { request, reply });
    }
}

/// Of one Lease.
const MAX_WAITING: usize = 4;
/// Six connections write a thousand Leases a second.
const MOST_THREADS: usize = 6;

/// Timers are late by a tick or two, and the answer must not be.
const MARGIN: Duration = Duration::from_millis(20);

/// The body of a thread.
fn work(desk: &Desk) {
    let mut caller = Caller::new(&desk.session);
    while let Some(Order { request, lease, call, give_up_at }) = desk.take() {
        let until = give_up_at - MARGIN;
        let reply = if until <= clock::now() {
            LeaseReply::Failed(too_late())
        } else {
            let mut asker = Asker { lease: &lease, caller: &mut caller };
            asker.call(&call, until).unwrap_or_else(LeaseReply::Failed)
        };
        desk.answer(request, reply);
    }
}

struct Asker<'a, 'b> {
    lease: &'a ObjectName,
    caller: &'a mut Caller<'b>,
}

impl Asker<'_, '_> {
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
                holder,
                duration,
                transitions,
                acquired,
                author,
                quorum,
                owner,
                ..
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
                    None => Ok(wire::new_lease(self.lease, annotations, owner.as_ref(), &spec)),
                }
            }
        }
    }
}

fn too_late() -> ApiFault {
    let why = "no answer in time: requests before it were not over".into();
    ApiFault { kind: ApiFaultKind::Timeout, why, retry_after: None }
}
