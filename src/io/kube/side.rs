//! The thread for what no election waits for.

use std::net::IpAddr;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::{Deliver, FromKube, JSON, METADATA, Session, wire};
use crate::io::clock;
use crate::io::http::{HostPort, look_up, segment};
use crate::model::{ApiFault, ApiFaultKind, Instant, NodeName, RequestId, SideCall, SideReply};

/// The body of the thread.
pub(super) fn work(orders: &Receiver<(RequestId, SideCall)>, session: &Session, deliver: &Deliver) {
    while let Ok((request, call)) = orders.recv() {
        let until = clock::now() + TIMEOUT;
        let reply = answer(session, &call, until).unwrap_or_else(SideReply::Failed);
        deliver(FromKube::Side { request, reply });
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);

fn answer(session: &Session, call: &SideCall, until: Instant) -> Result<SideReply, ApiFault> {
    match call {
        SideCall::CountCandidates => {
            let mut request = session.request("GET", format!("/api/v1/nodes?limit={MAX_NODES}"))?;
            request.accept = METADATA;
            request.max_answer = MAX_NODES * NODE_BYTES;
            session.ask(&request, until, wire::candidates).map(SideReply::Candidates)
        }
        SideCall::LabelNode { node, labels } => {
            let path = format!("/api/v1/nodes/{}", segment(&node.0));
            let mut request = session.request("PATCH", path)?;
            let patch = wire::label_patch(labels);
            request.body = Some(("application/merge-patch+json", patch));
            session.ask(&request, until, |_| Ok(SideReply::Done))
        }
        SideCall::Event { node, warning, reason, message } => {
            tell(session, node, *warning, (reason, message), until)
        }
        SideCall::ListNodes => {
            let of = "/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fcontrol-plane";
            let path = format!("{of}&limit={MAX_MEMBERS}");
            let mut request = session.request("GET", path)?;
            request.max_answer = MAX_MEMBERS * WHOLE_NODE_BYTES;
            session.ask(&request, until, wire::control_plane).map(SideReply::Nodes)
        }
        SideCall::Resolve { name } => resolve(name, until),
    }
}

const MAX_NODES: u64 = 500;
/// Labels, annotations and the list of managed fields of one.
pub(super) const NODE_BYTES: u64 = 16 * 1024;
/// Twice as many as a quorum can have members.
const MAX_MEMBERS: u64 = 64;
/// Its images as well, of which the kubelet names 50.
const WHOLE_NODE_BYTES: u64 = 64 * 1024;

fn tell(
    session: &Session,
    node: &NodeName,
    warning: bool,
    (reason, message): (&str, &str),
    until: Instant,
) -> Result<SideReply, ApiFault> {
    let lease = &session.target.name;
    let wall = clock::wall();
    let event = wire::event(&wire::EventWords {
        name: &format!("edgevip.{:x}", wall.as_nanos()),
        about: wire::About::Lease(lease),
        node,
        warning,
        reason,
        message,
        time: &clock::micro_time(wall),
    });
    let path = format!("/api/v1/namespaces/{}/events", segment(&lease.namespace));
    let mut request = session.request("POST", path)?;
    request.body = Some((JSON, event));
    session.ask(&request, until, |_| Ok(SideReply::Done))
}

fn resolve(name: &str, until: Instant) -> Result<SideReply, ApiFault> {
    let found = look_up(&HostPort { host: name.to_owned(), port: 0 }, until);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map_err(|error| unreachable(name, &error))? {
        if !addresses.contains(&address.ip()) && addresses.len() < MAX_ADDRESSES {
            addresses.push(address.ip());
        }
    }
    match addresses.is_empty() {
        true => Err(unreachable(name, &"it has no address")),
        false => Ok(SideReply::Resolved(addresses)),
    }
}

const MAX_ADDRESSES: usize = 64;

fn unreachable(name: &str, error: &dyn std::fmt::Display) -> ApiFault {
    let why = format!("looking up {name}: {error}");
    ApiFault { kind: ApiFaultKind::Unreachable, why, retry_after: None }
}
