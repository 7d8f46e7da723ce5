//! Who is heard and asked beside our own kernel.

use std::io;

use super::api::Api;
use super::members::Members;
use super::start::Gateway;
use crate::engine::{Action, Input};
use crate::model::{Followed, ObjectEvent};

/// Those that this node hears and asks, beside its own kernel.
#[derive(Default)]
pub(super) struct Others {
    pub api: Option<Box<Api>>,
    pub members: Option<Box<Members>>,
    pub gateway: Option<Gateway>,
}

impl Others {
    /// What a member says, if one does.
    pub fn hear(&self) -> io::Result<Option<Input>> {
        self.members.as_ref().map_or(Ok(None), |it| it.hear())
    }

    /// What there is to tell of what is followed.
    pub fn news(&self, what: &Followed) -> Vec<ObjectEvent> {
        self.api.as_ref().map_or_else(Vec::new, |it| it.news(what))
    }

    /// What is for others. The engine asks nothing of those that there are not.
    pub fn perform(&mut self, action: Action) {
        if let Action::Gateway { request, call } = action {
            if let Some(gateway) = &mut self.gateway {
                gateway.ask(request, call);
            }
            return;
        }
        match (&mut self.api, &mut self.members, action) {
            (Some(api), _, Action::Ask { request, call }) => api.ask(request, call),
            (Some(api), _, Action::Follow { what, from }) => api.follow(what, from),
            (Some(api), _, Action::Lease { request, lease, call, give_up_at }) => {
                api.lease(request, &lease, call, give_up_at);
            }
            (Some(api), _, Action::Side { request, call }) => api.side(request, call),
            (Some(api), _, Action::Unfollow(what)) => api.unfollow(&what),
            (Some(api), _, Action::Watch { lease, from }) => api.watch(lease, from),
            (_, Some(members), Action::Farewell(it)) => members.leave(&it),
            (_, Some(members), Action::Listen(ear)) => members.listen(&ear),
            (_, Some(members), Action::Probe(probe)) => members.probe(probe),
            (_, Some(members), Action::Send { to, envelope }) => members.send(to, &envelope),
            (_, Some(members), Action::Store { number, record }) => {
                members.store(number, *record);
            }
            (_, _, _) => {}
        }
    }
}
