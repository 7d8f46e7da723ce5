//! What every scenario looks at.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use edgevip::io::clock;
use edgevip::model::Instant;

use crate::lab::cluster::Cluster;
use crate::lab::gap::{Gap, Seen};
use crate::lab::millis;
use crate::lab::watch::Watch;

/// How long a Lease lasts in scenarios that do not say otherwise.
pub const LEASE: Duration = Duration::from_secs(3);
/// What a takeover may need beyond the Lease on a loaded machine of two cores.
pub const SLACK: Duration = Duration::from_secs(2);
/// A kernel lifetime of one second, and how late the kernel may notice its end.
pub const LIFETIME: Duration = Duration::from_millis(2_250);

/// What a takeover looked like.
pub struct Outcome {
    /// When it began.
    pub since: Instant,
    /// Who answers in the end.
    pub heir: String,
    /// From the beginning to the first answer of another node.
    pub took: Duration,
    /// What the client saw.
    pub seen: Seen,
}

/// Lets something happen to the node that answers, and waits until one other answers.
pub fn takeover(
    cluster: &mut Cluster<'_>,
    watch: &Watch,
    holder: &str,
    event: impl FnOnce(&mut Cluster<'_>),
) -> Outcome {
    takeover_within(cluster, watch, holder, LEASE + SLACK, event)
}

/// As [`takeover`], for other times.
pub fn takeover_within(
    cluster: &mut Cluster<'_>,
    watch: &Watch,
    holder: &str,
    within: Duration,
    event: impl FnOnce(&mut Cluster<'_>),
) -> Outcome {
    taken_over(cluster.watched(), watch, holder, within, || event(cluster))
}

/// As [`takeover`], whoever elects.
pub fn taken_over(
    vip: IpAddr,
    watch: &Watch,
    holder: &str,
    within: Duration,
    event: impl FnOnce(),
) -> Outcome {
    let gap = Gap::begin(vip);
    let since = clock::now();
    event();
    let heir = watch.other_than(&[holder], within);
    let seen = gap.end();
    let first = watch.first_other(holder, since).expect("the heir has answered");
    Outcome { since, heir, took: first.saturating_since(since), seen }
}

/// Fails if two nodes ever answered the same question.
pub fn never_two(watch: &Watch, since: Instant) {
    two_at_most(watch, since, Duration::ZERO);
}

/// Fails if two nodes answered for longer than this.
pub fn two_at_most(watch: &Watch, since: Instant, bound: Duration) {
    let two = watch.two_answered(since);
    let story = watch.story(since);
    assert!(two <= bound, "two answered for {} ms\n{story}", millis(two));
}

/// Fails if a node announced after that moment.
pub fn silent_since(watch: &Watch, node: &str, since: Instant) {
    let heard = watch.heard(since);
    assert!(heard.iter().all(|it| it.by != node), "{node} still announces: {heard:?}");
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { heir, took, seen, .. } = self;
        write!(f, "{}, {heir} answers after {} ms", Lost(*seen), millis(*took))
    }
}

/// A client's loss, for people.
pub struct Lost(pub Seen);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { sent, lost, longest, .. } = self.0;
        write!(f, "gap {} ms ({lost} of {sent} lost)", millis(longest))
    }
}
