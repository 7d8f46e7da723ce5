//! The thread that watches the Lease.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Deliver, FromKube, Session, garbage, locked, refused, wire};
use crate::io::http::{Client, Opened, segment};
use crate::model::{ApiFault, ApiFaultKind, ObjectName, ResourceVersion, WatchEvent};

/// Where the newest order waits for the thread.
pub(super) struct Desk {
    lease: ObjectName,
    deliver: Deliver,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    order: Option<Start>,
    open: Option<Client>,
    closed: bool,
}

/// The version to resume from.
type Start = Option<ResourceVersion>;

impl Desk {
    pub fn new(lease: ObjectName, deliver: Deliver) -> Self {
        Self { lease, deliver, state: Mutex::default(), changed: Condvar::new() }
    }

    pub fn order(&self, from: Start) {
        self.change(|state| state.order = Some(from));
    }

    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = locked(&self.state);
        change(&mut state);
        let open = state.open.take();
        drop(state);
        self.changed.notify_all();
        if let Some(client) = open {
            client.shutdown();
        }
    }

    fn take(&self) -> Option<Start> {
        let mut state = locked(&self.state);
        state.open = None;
        loop {
            if state.closed {
                return None;
            }
            if let Some(from) = state.order.take() {
                return Some(from);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets newer orders cut this client's connection; `false`: there is one already.
    fn begin(&self, client: &Client) -> bool {
        let mut state = locked(&self.state);
        if state.is_current() {
            state.open = Some(client.clone());
        }
        state.is_current()
    }

    /// Reports, unless there is a newer order; whether the watch goes on.
    fn tell(&self, event: WatchEvent) -> bool {
        let current = locked(&self.state).is_current();
        let last = matches!(event, WatchEvent::Ended(_) | WatchEvent::Expired);
        if current {
            (self.deliver)(FromKube::Watch { lease: self.lease.clone(), event });
        }
        current && !last
    }
}

impl State {
    fn is_current(&self) -> bool {
        self.order.is_none() && !self.closed
    }
}

/// The body of the thread.
pub(super) fn work(desk: &Desk, session: &Session) {
    while let Some(from) = desk.take() {
        if let Err(fault) = follow(desk, session, from) {
            desk.tell(WatchEvent::Ended(fault));
        }
    }
}

fn follow(desk: &Desk, session: &Session, from: Start) -> Result<(), ApiFault> {
    let client = session.client()?;
    let request = session.request("GET", path(&desk.lease, from))?;
    let what = client.what(&request);
    if !desk.begin(&client) {
        return Ok(());
    }
    let mut lines = match client.open(&request, MAX_HEAD, SERVER_ENDS_AFTER + MAX_HEAD)? {
        Opened::Lines(lines) => lines,
        Opened::Refused(answer) if answer.status == 410 => {
            desk.tell(WatchEvent::Expired);
            return Ok(());
        }
        Opened::Refused(answer) => return Err(refused(&what, &answer)),
    };
    let mut goes_on = desk.tell(WatchEvent::Opened);
    while goes_on {
        let line = lines.read()?.ok_or_else(|| ended(&what))?;
        let event = wire::watch_line(&line).map_err(|error| garbage(&what, &error))?;
        if let Some(event) = event {
            goes_on = desk.tell(event);
        }
    }
    Ok(())
}

const SERVER_ENDS_AFTER: Duration = Duration::from_secs(290);
const MAX_HEAD: Duration = Duration::from_secs(10);

fn path(lease: &ObjectName, from: Start) -> String {
    let (leases, name) = (super::leases(&lease.namespace), segment(&lease.name));
    let seconds = SERVER_ENDS_AFTER.as_secs();
    let from = from.map(|it| format!("&resourceVersion={}", segment(&it.0))).unwrap_or_default();
    format!(
        "{leases}?watch=1&fieldSelector=metadata.name%3D{name}&allowWatchBookmarks=true\
         &timeoutSeconds={seconds}{from}"
    )
}

pub(super) fn ended(what: &str) -> ApiFault {
    let why = format!("{what}: the server ended the watch");
    ApiFault { kind: ApiFaultKind::Timeout, why, retry_after: None }
}
