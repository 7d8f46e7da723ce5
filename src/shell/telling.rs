//! What the engine has to say, for the log, for the user's command, for whoever asks.

use crate::config::Config;
use crate::engine::Notice;
use crate::io::host;
use crate::io::notify::{Notification, Notifier};
use crate::io::serve::Ask;
use crate::model::{Refusal, Role, Status, Vip, VipState};
use crate::wire;

/// One line for a change that a user would notice.
pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::Acquired(vip) => log::info!(vip:%; "answering for {vip}"),
        Notice::ApiBack => log::info!("the API server answers again"),
        Notice::ApiFault(fault) => {
            log::warn!(code = fault.kind.code(); "the API server does not answer as it should: {}", fault.why);
        }
        Notice::Conflict(vip, mac) => {
            log::error!(vip:%, mac:%; "another host, with MAC {mac}, uses {vip}");
        }
        Notice::FenceRebuilt => log::warn!("somebody removed the nftables fence; it stands again"),
        Notice::Holder(Some(holder)) => log::info!(holder:%; "{holder} holds the Lease"),
        Notice::Holder(None) => log::info!("nobody holds the Lease"),
        Notice::Readded(vip) => log::warn!(vip:%; "somebody removed {vip}; it is back"),
        Notice::Refused(vip, refusal) => {
            let code = refusal.code();
            match refusal {
                Refusal::AnotherProcess
                | Refusal::Conflict { .. }
                | Refusal::Kernel { .. }
                | Refusal::NameClash
                | Refusal::NoCarrier { .. }
                | Refusal::NoFrames { .. }
                | Refusal::NoLink { .. }
                | Refusal::NoMajority { .. }
                | Refusal::NotMember { .. } => {
                    log::warn!(vip:%, code; "not answering for {vip}: {refusal}")
                }
                Refusal::NotAssigned { .. } | Refusal::NotLeader { .. } | Refusal::Unconfirmed => {
                    log::info!(vip:%, code; "not answering for {vip}: {refusal}");
                }
                Refusal::Cleaning | Refusal::Preparing | Refusal::Probing | Refusal::Stopping => {
                    log::debug!(vip:%, code; "not answering for {vip}: {refusal}");
                }
            }
        }
        Notice::Released(vip) => log::info!(vip:%; "no longer answering for {vip}"),
    }
}

/// The transitions that the user's command is told.
pub(super) fn notify(notice: &Notice, notifier: &mut Notifier) {
    match notice {
        Notice::Acquired(vip) => notifier.tell(told("acquired", *vip, None)),
        Notice::Released(vip) => notifier.tell(told("released", *vip, None)),
        Notice::Conflict(vip, mac) => {
            notifier.tell(told("fault", *vip, Some(&Refusal::Conflict { mac: *mac })));
        }
        Notice::Refused(vip, refusal) => match refusal {
            Refusal::AnotherProcess
            | Refusal::Kernel { .. }
            | Refusal::NameClash
            | Refusal::NoCarrier { .. }
            | Refusal::NoFrames { .. }
            | Refusal::NoLink { .. }
            | Refusal::NoMajority { .. }
            | Refusal::NotMember { .. } => notifier.tell(told("fault", *vip, Some(refusal))),
            Refusal::Cleaning
            | Refusal::Conflict { .. }
            | Refusal::NotAssigned { .. }
            | Refusal::NotLeader { .. }
            | Refusal::Preparing
            | Refusal::Probing
            | Refusal::Stopping
            | Refusal::Unconfirmed => {}
        },
        Notice::ApiBack
        | Notice::ApiFault(_)
        | Notice::FenceRebuilt
        | Notice::Holder(_)
        | Notice::Readded(_) => {}
    }
}

fn told(event: &'static str, vip: Vip, refusal: Option<&Refusal>) -> Notification {
    let fault = refusal.map(|it| (it.code(), it.to_string()));
    Notification { event, vip: vip.to_string(), fault }
}

/// What whoever asks is answered: an HTTP status and a body.
pub(super) fn answer(ask: Ask, status: &Status) -> (u16, String) {
    match ask {
        // The loop answers, so it runs.
        Ask::Health | Ask::Live => (200, "OK".to_owned()),
        Ask::Ready => match unready(status) {
            None => (200, "OK".to_owned()),
            Some(why) => (503, why),
        },
        Ask::Metrics => {
            let process = wire::metrics::Process {
                version: crate::VERSION,
                build: crate::BUILD,
                resident_bytes: host::resident_bytes(),
                started: None,
            };
            (200, wire::metrics::text(status, &process))
        }
        Ask::Status => (200, wire::status::json(status)),
    }
}

/// Ready is: what the kernel has is what it should have, and this node could lead.
fn unready(status: &Status) -> Option<String> {
    if status.role == Role::Standby || status.role == Role::Stopping {
        return Some(status.vips.iter().find_map(|it| it.why.clone()).unwrap_or_default());
    }
    let leads = status.role == Role::Leader;
    let behind = status.vips.iter().find(|it| leads != (it.state == VipState::Answering));
    behind.map(|it| it.why.clone().unwrap_or_else(|| format!("{} is {:?}", it.vip, it.state)))
}

/// For `systemctl status`.
pub(super) fn one_line(status: &Status) -> String {
    let vips: Vec<_> = status.vips.iter().map(|it| it.vip.to_string()).collect();
    let vips = vips.join(", ");
    match (status.role, &status.holder) {
        (Role::Leader, _) => format!("leader: {vips}"),
        (Role::Follower, Some(holder)) => format!("follower of {holder}: {vips}"),
        (Role::Follower, None) => format!("follower, nobody leads: {vips}"),
        (Role::Standby, _) => format!("not a candidate: {vips}"),
        (Role::Stopping, _) => format!("stopping: {vips}"),
    }
}

/// Headings that scripts made for the peer look for.
pub(super) fn dump(config: &Config, status: &Status) -> String {
    let vips: Vec<_> = status.vips.iter().map(|it| it.vip.to_string()).collect();
    let link = config.link.as_ref().map_or("auto", |it| it.0.as_str());
    let lease = &config.lease;
    format!(
        "===== KUBE-VIP CONFIGURATION DUMP =====\nNode Name: {}\nPID: {}\n\n\
         === BASIC CONFIGURATION ===\nVIP: {}\nPort: {}\nNamespace: {}\nInstance Name: {}\n\
         Interface: {link}\n\n=== ARP/NDP CONFIGURATION ===\nARP Broadcast Rate: {} ms\n\n\
         === LEADER ELECTION CONFIGURATION ===\nLease Name: {}\nLease Duration: {} seconds\n\
         Renew Deadline: {} seconds\nRetry Period: {} seconds\n\n=== RUNTIME STATISTICS ===\n{}\n\
         ===== END OF CONFIGURATION DUMP =====",
        config.node,
        std::process::id(),
        vips.join(","),
        config.port,
        lease.namespace,
        config.instance.as_deref().unwrap_or(""),
        config.refresh.as_millis(),
        lease.name,
        lease.duration.as_secs_f64(),
        lease.renew_deadline.as_secs_f64(),
        lease.retry_period.as_secs_f64(),
        wire::status::text(status),
    )
}
