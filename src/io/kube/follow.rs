//! The threads that list and watch, one each [`Followed`]. What they read waits in bounded room
//! until it is fetched, all that is there at once; without room nothing is read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Deliver, FromKube, Session, garbage, locked, refused, wire};
use crate::io::http::{Client, Lines, Opened, Request, segment};
use crate::model::{ApiFault, ApiFaultKind, Followed, ObjectEvent, ObjectName, ResourceVersion};

/// Where the newest order waits for the thread, and events for who ordered.
pub(super) struct Desk {
    what: Followed,
    deliver: Deliver,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    order: Option<Start>,
    open: Option<Client>,
    closed: bool,
    events: VecDeque<ObjectEvent>,
}

/// The version to watch from; `None`: list.
type Start = Option<ResourceVersion>;

/// Events that wait to be fetched.
const ROOM: usize = 256;

impl Desk {
    pub fn new(what: Followed, deliver: Deliver) -> Self {
        Self { what, deliver, state: Mutex::default(), changed: Condvar::new() }
    }

    /// What the order before this has said and nobody has fetched is forgotten: the next list
    /// or the version to resume from is older than it.
    pub fn order(&self, from: Start) {
        self.change(|state| {
            state.order = Some(from);
            state.events.clear();
        });
    }

    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    /// All that there is.
    pub fn fetch(&self) -> Vec<ObjectEvent> {
        let events = std::mem::take(&mut locked(&self.state).events);
        self.changed.notify_all();
        events.into()
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

    /// Reports, as soon as there is room, unless there is a newer order; whether it goes on.
    fn tell(&self, event: ObjectEvent) -> bool {
        let last = matches!(event, ObjectEvent::Ended(_) | ObjectEvent::Expired);
        let mut state = locked(&self.state);
        while state.is_current() && state.events.len() >= ROOM {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.is_current() {
            return false;
        }
        let first = state.events.is_empty();
        state.events.push_back(event);
        drop(state);
        if first {
            (self.deliver)(FromKube::Objects(self.what.clone()));
        }
        !last
    }
}

impl State {
    fn is_current(&self) -> bool {
        self.order.is_none() && !self.closed
    }
}

/// The body of the thread.
pub(super) fn work(desk: &Desk, session: &Session) {
    let mut follower = Follower { desk, session, told: BTreeSet::new() };
    while let Some(from) = desk.take() {
        if let Err(fault) = follower.follow(from) {
            desk.tell(ObjectEvent::Ended(fault));
        }
    }
}

struct Follower<'a> {
    desk: &'a Desk,
    session: &'a Session,
    /// Objects that the log knows to be garbled.
    told: BTreeSet<ObjectName>,
}

/// That many garbled objects are named in the log.
const MAX_TOLD: usize = 64;

impl Follower<'_> {
    fn follow(&mut self, from: Start) -> Result<(), ApiFault> {
        let client = self.session.client()?;
        if !self.desk.begin(&client) {
            return Ok(());
        }
        let from = match from {
            Some(from) => from,
            None => match self.list(&client)? {
                Some(version) => version,
                None => return Ok(()),
            },
        };
        self.watch(&client, &from)
    }

    /// Says all that there is; `None`: it is not to go on.
    fn list(&mut self, client: &Client) -> Result<Option<ResourceVersion>, ApiFault> {
        if !self.desk.tell(ObjectEvent::Listing) {
            return Ok(None);
        }
        let mut next = None;
        loop {
            let Some(end) = self.page(client, next.as_deref())? else {
                return Ok(None);
            };
            if end.next.is_none() {
                let goes_on = self.desk.tell(ObjectEvent::Listed(end.version.clone()));
                return Ok(goes_on.then_some(end.version));
            }
            if next == end.next {
                let why = format!("a list of {}s that does not go on", kind(&self.desk.what));
                return Err(ApiFault { kind: ApiFaultKind::Garbage, why, retry_after: None });
            }
            next = end.next;
        }
    }

    fn page(
        &mut self,
        client: &Client,
        next: Option<&str>,
    ) -> Result<Option<wire::ListEnd>, ApiFault> {
        let next = next.map(|it| format!("&continue={}", segment(it))).unwrap_or_default();
        let query = format!("limit={PAGE}{next}");
        let Some((what, mut answer)) = self.open(client, &query, MAX_PAGE)? else {
            return Ok(None);
        };
        let mut list = wire::ListReader::new(wire::MAX_OBJECT);
        let mut goes_on = true;
        while goes_on {
            let piece = answer.read_some(|piece| {
                list.read(piece, &mut |item| {
                    goes_on = goes_on && self.tell(wire::listed(&self.desk.what, item));
                })
            })?;
            match piece {
                Some(piece) => piece.map_err(|error| garbage(&what, &error))?,
                None => return list.end().map(Some).map_err(|error| garbage(&what, &error)),
            }
        }
        Ok(None)
    }

    fn watch(&mut self, client: &Client, from: &ResourceVersion) -> Result<(), ApiFault> {
        let (seconds, from) = (SERVER_ENDS_AFTER.as_secs(), segment(&from.0));
        let query = format!(
            "watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={from}"
        );
        let Some((what, mut lines)) = self.open(client, &query, SERVER_ENDS_AFTER + MAX_HEAD)?
        else {
            return Ok(());
        };
        let mut goes_on = self.desk.tell(ObjectEvent::Opened);
        while goes_on {
            let line = lines.read()?.ok_or_else(|| super::watch::ended(&what))?;
            let event = wire::watched(&self.desk.what, &line);
            goes_on = self.tell(event.map_err(|error| garbage(&what, &error))?);
        }
        Ok(())
    }

    /// `None`: it is not to go on.
    fn open(
        &self,
        client: &Client,
        query: &str,
        whole: Duration,
    ) -> Result<Option<(String, Lines)>, ApiFault> {
        let request = self.request(query)?;
        let what = client.what(&request);
        match client.open(&request, MAX_HEAD, whole)? {
            Opened::Lines(lines) => Ok(Some((what, lines))),
            Opened::Refused(answer) if answer.status == 410 => {
                self.desk.tell(ObjectEvent::Expired);
                Ok(None)
            }
            Opened::Refused(answer) => Err(refused(&what, &answer)),
        }
    }

    fn request(&self, query: &str) -> Result<Request, ApiFault> {
        let (path, select) = path(&self.desk.what);
        let mut request = self.session.request("GET", format!("{path}?{query}{select}"))?;
        request.max_answer = wire::MAX_OBJECT as u64;
        Ok(request)
    }

    fn tell(&mut self, event: Option<ObjectEvent>) -> bool {
        let Some(event) = event else {
            return true;
        };
        if let ObjectEvent::Garbled { name, why } = &event
            && self.told.len() < MAX_TOLD
            && self.told.insert(name.clone())
        {
            log::warn!("{} {name}: not understood: {why}", kind(&self.desk.what));
        }
        self.desk.tell(event)
    }
}

/// Objects a page.
const PAGE: usize = 500;
const MAX_PAGE: Duration = Duration::from_secs(60);
const MAX_HEAD: Duration = Duration::from_secs(10);
const SERVER_ENDS_AFTER: Duration = Duration::from_secs(290);

/// Where they are, and which of those.
fn path(what: &Followed) -> (String, String) {
    let within = |namespace: Option<&str>| match namespace {
        Some(namespace) => format!("namespaces/{}/", segment(namespace)),
        None => String::new(),
    };
    match what {
        Followed::ConfigMap(it) => (
            format!("/api/v1/{}configmaps", within(Some(&it.namespace))),
            format!("&fieldSelector=metadata.name%3D{}", segment(&it.name)),
        ),
        Followed::EndpointSlices(namespace) => (
            format!("/apis/discovery.k8s.io/v1/{}endpointslices", within(namespace.as_deref())),
            format!("&labelSelector={}", segment(wire::SERVICE_NAME)),
        ),
        Followed::Leases(namespace) => (
            format!("/apis/coordination.k8s.io/v1/{}leases", within(namespace.as_deref())),
            match namespace {
                Some(_) => String::new(),
                // Every node writes there every ten seconds.
                None => "&fieldSelector=metadata.namespace%21%3Dkube-node-lease".to_owned(),
            },
        ),
        Followed::Nodes => ("/api/v1/nodes".to_owned(), String::new()),
        Followed::Services(namespace) => {
            (format!("/api/v1/{}services", within(namespace.as_deref())), String::new())
        }
    }
}

fn kind(what: &Followed) -> &'static str {
    match what {
        Followed::ConfigMap(_) => "ConfigMap",
        Followed::EndpointSlices(_) => "EndpointSlice",
        Followed::Leases(_) => "Lease",
        Followed::Nodes => "Node",
        Followed::Services(_) => "Service",
    }
}
