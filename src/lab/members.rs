//! What the members of the quorum say of themselves.

use std::time::Duration;

use super::net::NAMES;
use crate::io::serve;
use crate::model::QuorumStatus;
use crate::wire;

/// A member that was heard so lately is heard.
const LATELY: Duration = Duration::from_secs(1);

/// Who leads, as this node knows.
pub fn leader(node: usize) -> Option<usize> {
    let leader = quorum(node)?.leader?;
    NAMES.iter().position(|it| *it == &*leader.0)
}

/// Whether a node hears all others, and is in their service. One that does not say is believed.
pub fn is_connected(node: usize) -> bool {
    let Some(quorum) = quorum(node) else { return true };
    let heard = |age: Option<u64>| age.is_some_and(|it| u128::from(it) < LATELY.as_millis());
    quorum.leader.is_some()
        && quorum.members.len() == NAMES.len()
        && quorum.members.iter().all(|it| {
            (it.name == quorum.me || heard(it.heard_ms_ago)) && !it.drained && !it.leaving
        })
}

fn quorum(node: usize) -> Option<QuorumStatus> {
    let name = NAMES[node];
    let path = format!("/run/edgevip/{name}.sock");
    let answer = serve::ask_socket(name, &[path.into()]).ok()?;
    wire::status::parse(&answer).ok()?.quorum
}
