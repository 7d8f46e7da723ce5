//! What the engine has to say, for the log, for the user's command, for whoever asks.

use crate::config::Config;
use crate::engine::Notice;
use crate::io::host;
use crate::io::notify::{Notification, Notifier};
use crate::io::serve::Ask;
use crate::model::{PlaceStatus, QuorumStatus, Refusal, Role, Status, Vip, VipState};
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
        Notice::Gateway { service, code: None, message } => {
            log::info!(service:%; "on the gateway for {service}: {message}");
        }
        Notice::Gateway { service, code: Some(code), message } => {
            log::warn!(service:%, code = code.as_str(); "on the gateway for {service}: {message}");
        }
        Notice::Holder(Some(holder)) => log::info!(holder:%; "{holder} holds the Lease"),
        Notice::Holder(None) => log::info!("nobody holds the Lease"),
        Notice::Readded(vip) => log::warn!(vip:%; "somebody removed {vip}; it is back"),
        Notice::Refused(vip, refusal) => {
            let code = refusal.code();
            match refusal {
                Refusal::AnotherProcess
                | Refusal::Conflict { .. }
                | Refusal::Kernel { .. }
                | Refusal::LinkDiffers { .. }
                | Refusal::LinkNotMade { .. }
                | Refusal::NameClash
                | Refusal::NoCarrier { .. }
                | Refusal::NoFrames { .. }
                | Refusal::NoLink { .. }
                | Refusal::NoMajority { .. }
                | Refusal::NotEligible { .. }
                | Refusal::NotMember { .. }
                | Refusal::Unguarded { .. } => {
                    log::warn!(vip:%, code; "not answering for {vip}: {refusal}")
                }
                Refusal::NoEndpoints
                | Refusal::NotAssigned { .. }
                | Refusal::NotLeader { .. }
                | Refusal::NotServedHere
                | Refusal::Unconfirmed => {
                    log::info!(vip:%, code; "not answering for {vip}: {refusal}");
                }
                Refusal::Cleaning
                | Refusal::LinkAwaited { .. }
                | Refusal::Preparing
                | Refusal::Probing
                | Refusal::Stopping => {
                    log::debug!(vip:%, code; "not answering for {vip}: {refusal}");
                }
            }
        }
        Notice::Released(vip) => log::info!(vip:%; "no longer answering for {vip}"),
        Notice::Rival(holder) => log::warn!(
            holder:%;
            "{holder} elects by the Lease, which only records who holds here: two systems may \
             answer for the VIP; stop the other"
        ),
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
            | Refusal::LinkDiffers { .. }
            | Refusal::LinkNotMade { .. }
            | Refusal::NameClash
            | Refusal::NoCarrier { .. }
            | Refusal::NoFrames { .. }
            | Refusal::NoLink { .. }
            | Refusal::NoMajority { .. }
            | Refusal::NotMember { .. }
            | Refusal::Unguarded { .. } => notifier.tell(told("fault", *vip, Some(refusal))),
            Refusal::Cleaning
            | Refusal::Conflict { .. }
            | Refusal::LinkAwaited { .. }
            | Refusal::NoEndpoints
            | Refusal::NotAssigned { .. }
            | Refusal::NotEligible { .. }
            | Refusal::NotLeader { .. }
            | Refusal::NotServedHere
            | Refusal::Preparing
            | Refusal::Probing
            | Refusal::Stopping
            | Refusal::Unconfirmed => {}
        },
        Notice::ApiBack
        | Notice::ApiFault(_)
        | Notice::FenceRebuilt
        | Notice::Gateway { .. }
        | Notice::Holder(_)
        | Notice::Readded(_)
        | Notice::Rival(_) => {}
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
    if let Some(QuorumStatus { me, term, leader: None, .. }) = &status.quorum {
        return Some(format!("{me} knows of no leader in term {term}"));
    }
    let behind =
        status.vips.iter().find(|it| is_here(it.vip, status) != (it.state == VipState::Answering));
    behind.map(|it| it.why.clone().unwrap_or_else(|| format!("{} is {:?}", it.vip, it.state)))
}

/// Whether this node is to carry the VIP.
fn is_here(vip: Vip, status: &Status) -> bool {
    match &status.quorum {
        None => status.role == Role::Leader,
        Some(it) => {
            let mine =
                |place: &PlaceStatus| place.vip == vip && place.holder.as_ref() == Some(&it.me);
            it.vips.iter().any(mine)
        }
    }
}

/// For `systemctl status`.
pub(super) fn one_line(status: &Status) -> String {
    if let Some(quorum) = &status.quorum {
        return one_line_of_quorum(status, quorum);
    }
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

fn one_line_of_quorum(status: &Status, quorum: &QuorumStatus) -> String {
    let leader = match &quorum.leader {
        _ if status.role == Role::Stopping => "stopping".to_owned(),
        Some(it) if *it == quorum.me => "leads the quorum".to_owned(),
        Some(it) => format!("follows {it}"),
        None => "knows of no leader".to_owned(),
    };
    let answering = status.vips.iter().filter(|it| it.state == VipState::Answering);
    let carried: Vec<_> = answering.map(|it| it.vip.to_string()).collect();
    match carried[..] {
        [] => format!("{leader}; carries nothing"),
        _ => format!("{leader}; carries {}", carried.join(", ")),
    }
}

/// Headings that scripts made for the peer look for.
pub(super) fn dump(config: &Config, status: &Status) -> String {
    let vips: Vec<_> = status.vips.iter().map(|it| it.vip.to_string()).collect();
    let link = config.link.as_ref().map_or("auto", |it| it.0.as_str());
    format!(
        "===== KUBE-VIP CONFIGURATION DUMP =====\nNode Name: {}\nPID: {}\n\n\
         === BASIC CONFIGURATION ===\nVIP: {}\nPort: {}\nNamespace: {}\nInstance Name: {}\n\
         Interface: {link}\n\n=== ARP/NDP CONFIGURATION ===\nARP Broadcast Rate: {} ms\n\n\
         === LEADER ELECTION CONFIGURATION ===\n{}\n\n=== RUNTIME STATISTICS ===\n{}\n\
         ===== END OF CONFIGURATION DUMP =====",
        config.node,
        std::process::id(),
        vips.join(","),
        config.port,
        config.lease.namespace,
        config.instance.as_deref().unwrap_or(""),
        config.refresh.as_millis(),
        election(config),
        wire::status::text(status),
    )
}

fn election(config: &Config) -> String {
    let Some(raft) = &config.raft else {
        let lease = &config.lease;
        return format!(
            "Lease Name: {}\nLease Duration: {} seconds\nRenew Deadline: {} seconds\n\
             Retry Period: {} seconds",
            lease.name,
            lease.duration.as_secs_f64(),
            lease.renew_deadline.as_secs_f64(),
            lease.retry_period.as_secs_f64(),
        );
    };
    let members = raft.members.iter().map(|(name, it)| format!("{name} at {}", it.address));
    let found = raft.discover.as_ref().map(|it| format!("{} found on the link", it.voters));
    let members = members.chain(found);
    format!(
        "Members: {}\nHeartbeat: {} seconds\nPromise: {} seconds",
        members.collect::<Vec<_>>().join(", "),
        raft.heartbeat.as_secs_f64(),
        raft.promise.as_secs_f64(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeName;
    use crate::wire::status::tests::{example, example_of_quorum};

    #[test]
    fn where_a_quorum_elects_ready_is_to_carry_what_is_ones_own() {
        let mut status = example_of_quorum();
        assert_eq!(unready(&status), None);
        assert_eq!(one_line(&status), "follows node-2; carries 10.0.0.42");
        let quorum = |status: &mut Status, change: fn(&mut QuorumStatus)| {
            change(status.quorum.as_mut().unwrap());
        };
        quorum(&mut status, |it| it.vips[1].holder = Some(it.me.clone()));
        assert_eq!(unready(&status), Some("eth1 has no carrier".into()));
        quorum(&mut status, |it| it.leader = None);
        assert_eq!(unready(&status), Some("node-1 knows of no leader in term 7".into()));
        status.vips.clear();
        assert_eq!(one_line(&status), "knows of no leader; carries nothing");
        quorum(&mut status, |it| it.leader = Some(NodeName("node-1".into())));
        assert_eq!(
            (unready(&status), one_line(&status).as_str()),
            (None, "leads the quorum; carries nothing")
        );
        assert!(one_line(&example()).starts_with("leader: "));
    }
}
