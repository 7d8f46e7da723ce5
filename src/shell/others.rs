//! Who is heard and asked beside our own kernel.

use std::io;

use smol::channel::Sender;

use super::api::Api;
use super::members::Members;
use super::start::Gateway;
use crate::engine::{Action, Input};
#[cfg(feature = "dhcp")]
use crate::io::dhcp::Dhcp;
use crate::model::{Followed, ObjectEvent};

/// Those that this node hears and asks, beside its own kernel.
#[derive(Default)]
pub(super) struct Others {
    pub api: Option<Box<Api>>,
    pub members: Option<Box<Members>>,
    pub gateway: Option<Gateway>,
    /// DHCP servers.
    #[cfg(feature = "dhcp")]
    dhcp: Option<Dhcp>,
}

impl Others {
    /// Nobody but the site's gateway, if that.
    pub fn with(gateway: Option<Gateway>) -> Self {
        Self { gateway, ..Self::default() }
    }

    /// What a member says, if one does.
    pub fn hear(&self) -> io::Result<Option<Input>> {
        self.members.as_ref().map_or(Ok(None), |it| it.hear())
    }

    /// Opens the way to DHCP servers, if this build has one.
    pub fn open_dhcp(&mut self) -> Result<(), String> {
        #[cfg(feature = "dhcp")]
        {
            self.dhcp = Some(Dhcp::open().map_err(|it| format!("cannot hear DHCP: {it}"))?);
        }
        Ok(())
    }

    /// What hands on what DHCP servers say, for ever.
    #[cfg(feature = "dhcp")]
    pub fn hear_dhcp(
        &self,
        to: Sender<Input>,
    ) -> io::Result<Option<impl Future<Output = ()> + use<>>> {
        let Some(dhcp) = &self.dhcp else {
            return Ok(None);
        };
        let [v4, v6] = dhcp.ears()?;
        Ok(Some(async move {
            let hand_on = |link, heard| {
                let _ = to.try_send(Input::Dhcp { link, heard: Box::new(heard) });
            };
            smol::future::zip(v4.run(&hand_on), v6.run(&hand_on)).await;
        }))
    }

    /// There are none in this build.
    #[cfg(not(feature = "dhcp"))]
    #[allow(clippy::unused_self, reason = "as where there are")]
    pub fn hear_dhcp(&self, _: Sender<Input>) -> io::Result<Option<std::future::Ready<()>>> {
        Ok(None)
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
        #[cfg(feature = "dhcp")]
        if let (Some(dhcp), Action::Dhcp(job)) = (&self.dhcp, &action) {
            // It is asked again, like what is lost on the way.
            return dhcp.perform(job).unwrap_or_else(|why| log::warn!("{why}"));
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
