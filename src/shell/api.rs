//! The way to the API server: settled in the background, since a kubeconfig may come later
//! than we do, and settled again when its credentials are refused.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use smol::channel::Sender as Inbox;

use super::start;
use crate::config::{Config, kubeconfig, sources};
use crate::engine::Input;
use crate::io::clock;
use crate::io::kube::{FromKube, Kube, LeaseTarget, detect};
use crate::model::{
    ApiAccess, ApiFault, ApiFaultKind, Followed, Instant, LeaseCall, LeaseReply, ObjectCall,
    ObjectEvent, ObjectName, ObjectReply, RequestId, ResourceVersion, SideCall, SideReply,
    WatchEvent,
};

const SETTLE_EVERY: Duration = Duration::from_secs(2);
/// After credentials were refused, the kubeconfig is read again at most this often.
const DOUBT_EVERY: Duration = Duration::from_secs(30);

pub(super) struct Api {
    answers: Inbox<Input>,
    watched: Inbox<Input>,
    news: Inbox<Followed>,
    target: LeaseTarget,
    config: Config,
    access: Option<ApiAccess>,
    kube: Option<Kube>,
    settled: Receiver<Settled>,
    settle: Sender<Settled>,
    doubted_at: Option<Instant>,
}

enum Settled {
    Access(Box<ApiAccess>),
    NotYet(String),
}

impl Api {
    /// Answers go to `answers`, what a Lease's watch says to `watched`, and `news` hears of
    /// what is followed that [`Api::news`] has something for.
    pub fn start(
        config: &Config,
        answers: Inbox<Input>,
        watched: Inbox<Input>,
        news: Inbox<Followed>,
    ) -> Self {
        let target = LeaseTarget {
            name: start::lease(config),
            annotations: config.lease.annotations.clone(),
        };
        let (settle, settled) = channel();
        let mut it = Self {
            answers,
            watched,
            news,
            target,
            config: config.clone(),
            access: None,
            kube: None,
            settled,
            settle,
            doubted_at: None,
        };
        // Usually it is there at once; a thread waits for it only where it is not.
        // Members that elect among themselves wait for no server, not even on loopback.
        match it.config.raft.as_ref().filter(|_| it.config.kube.detect) {
            Some(_) => it.settle_in_background(),
            None => match access(&it.config) {
                Ok(access) => it.connect(access),
                Err(_) => it.settle_in_background(),
            },
        }
        it
    }

    pub fn lease(
        &mut self,
        request: RequestId,
        lease: &ObjectName,
        call: LeaseCall,
        give_up_at: Instant,
    ) {
        match self.ready() {
            Ok(kube) => kube.lease(request, lease, call, give_up_at),
            Err(fault) => self.answer(Input::Lease { request, reply: LeaseReply::Failed(fault) }),
        }
    }

    pub fn watch(&mut self, lease: ObjectName, from: Option<ResourceVersion>) {
        match self.ready() {
            Ok(kube) => kube.watch(lease, from),
            Err(fault) => self.answer(Input::Watch { lease, event: WatchEvent::Ended(fault) }),
        }
    }

    pub fn follow(&mut self, what: Followed, from: Option<ResourceVersion>) {
        match self.ready() {
            Ok(kube) => kube.follow(what, from),
            Err(fault) => {
                self.answer(Input::Objects { what, events: vec![ObjectEvent::Ended(fault)] });
            }
        }
    }

    pub fn unfollow(&mut self, what: &Followed) {
        if let Some(kube) = &mut self.kube {
            kube.unfollow(what);
        }
    }

    /// What there is to tell, taken out.
    pub fn news(&self, what: &Followed) -> Vec<ObjectEvent> {
        self.kube.as_ref().map_or_else(Vec::new, |it| it.news(what))
    }

    pub fn ask(&mut self, request: RequestId, call: ObjectCall) {
        match self.ready() {
            Ok(kube) => kube.ask(request, call),
            Err(fault) => self.answer(Input::Asked { request, reply: ObjectReply::Failed(fault) }),
        }
    }

    pub fn side(&mut self, request: RequestId, call: SideCall) {
        match self.ready() {
            Ok(kube) => kube.side(request, call),
            Err(fault) => self.answer(Input::Side { request, reply: SideReply::Failed(fault) }),
        }
    }

    /// Refused credentials may be old ones: a renewed kubeconfig is read again.
    pub fn note(&mut self, input: &Input) {
        let refused = fault_in(input).is_some_and(|it| it.kind == ApiFaultKind::Unauthorized);
        if !refused || self.kube.is_none() {
            return;
        }
        let now = clock::now();
        if self.doubted_at.is_none_or(|it| it + DOUBT_EVERY <= now) {
            self.doubted_at = Some(now);
            self.settle_in_background();
        }
    }

    fn ready(&mut self) -> Result<&mut Kube, ApiFault> {
        let mut why = "its address is not settled yet".to_owned();
        loop {
            match self.settled.try_recv() {
                Ok(Settled::Access(access)) => self.connect(*access),
                Ok(Settled::NotYet(it)) => why = it,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let fault = ApiFault { kind: ApiFaultKind::Unreachable, why, retry_after: None };
        self.kube.as_mut().ok_or(fault)
    }

    fn connect(&mut self, access: ApiAccess) {
        if self.access.as_ref() == Some(&access) {
            return;
        }
        let dial = access.dial.as_deref().unwrap_or(&access.server);
        log::info!(server = access.server.as_str(), dial; "using the API server of {}", access.source);
        for remark in &access.remarks {
            log::warn!("API server: {remark}");
        }
        let (answers, watched) = (self.answers.clone(), self.watched.clone());
        let news = self.news.clone();
        let deliver = move |report: FromKube| {
            let _ = match report {
                FromKube::Asked { request, reply } => {
                    answers.try_send(Input::Asked { request, reply }).ok()
                }
                FromKube::Lease { request, reply } => {
                    answers.try_send(Input::Lease { request, reply }).ok()
                }
                FromKube::Side { request, reply } => {
                    answers.try_send(Input::Side { request, reply }).ok()
                }
                FromKube::Objects(what) => news.try_send(what).ok(),
                FromKube::Watch { lease, event } => {
                    watched.send_blocking(Input::Watch { lease, event }).ok()
                }
            };
        };
        self.access = Some(access.clone());
        let before = self.kube.replace(Kube::start(access, self.target.clone(), Arc::new(deliver)));
        let Some(before) = before else {
            return;
        };
        let why = "other credentials are used from now on".to_owned();
        let fault = ApiFault { kind: ApiFaultKind::Unreachable, why, retry_after: None };
        for lease in before.watched() {
            self.answer(Input::Watch { lease, event: WatchEvent::Ended(fault.clone()) });
        }
        for what in before.followed() {
            self.answer(Input::Objects { what, events: vec![ObjectEvent::Ended(fault.clone())] });
        }
    }

    fn settle_in_background(&self) {
        let (config, settle) = (self.config.clone(), self.settle.clone());
        let wait = move || loop {
            let (done, news) = match access(&config) {
                Ok(access) => (true, Settled::Access(Box::new(access))),
                Err(why) => (false, Settled::NotYet(why)),
            };
            if settle.send(news).is_err() || done {
                return;
            }
            std::thread::sleep(SETTLE_EVERY);
        };
        let thread = std::thread::Builder::new().name("kube-settle".into());
        if let Err(why) = thread.spawn(wait) {
            log::error!("cannot start a thread: {why}");
        }
    }

    fn answer(&self, input: Input) {
        let _ = self.answers.try_send(input);
    }
}

fn fault_in(input: &Input) -> Option<&ApiFault> {
    if let Input::Objects { events, .. } = input {
        // What ends it comes last.
        return match events.last() {
            Some(ObjectEvent::Ended(fault)) => Some(fault),
            Some(_) | None => None,
        };
    }
    let (Input::Asked { reply: ObjectReply::Failed(fault), .. }
    | Input::Lease { reply: LeaseReply::Failed(fault), .. }
    | Input::Side { reply: SideReply::Failed(fault), .. }
    | Input::Watch { event: WatchEvent::Ended(fault), .. }) = input
    else {
        return None;
    };
    Some(fault)
}

/// Where the API server is and how to be let in.
pub(super) fn access(config: &Config) -> Result<ApiAccess, String> {
    let mut access = kubeconfig::access(&config.kube, &config.vips, &sources::read)?;
    if access.detect {
        access.api.server = detect(config.port)?;
        access.api.dial = None;
        kubeconfig::keep_off(&mut access.api, &config.vips)?;
    }
    Ok(access.api)
}
