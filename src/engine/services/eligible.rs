//! Which nodes may carry Services, and which rather than others.

use super::Services;
use crate::engine::draw::draw;
use crate::model::{ClusterNode, NodeName, ObjectName, Refusal};

impl Services {
    /// How many nodes are to carry a VIP rather than this one, by a draw that comes out the
    /// same on all of them.
    pub fn rank(&self, lease: &ObjectName) -> usize {
        let of = lease.to_string();
        let draw = |node: &NodeName| draw(&[of.as_bytes(), node.0.as_bytes()]);
        let mine = draw(&self.me);
        let well = |it: &&ClusterNode| it.ready && !it.cordoned && !it.excluded;
        let others = self.nodes.values().filter(well).filter(|it| it.name != self.me);
        others.filter(|it| draw(&it.name) > mine).count()
    }

    /// Whether this node may carry Services. One that is excluded never does; one that is
    /// cordoned or not ready leaves it to others where there are any.
    pub fn eligibility(&self, carries: bool) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::NotEligible { why: why.to_owned() });
        let Some(me) = self.nodes.get(&self.me) else {
            return Ok(());
        };
        let others = || {
            let well = |it: &&ClusterNode| it.ready && !it.cordoned && !it.excluded;
            self.nodes.values().filter(well).any(|it| it.name != self.me)
        };
        if me.excluded {
            return refuse(
                "it is labelled node.kubernetes.io/exclude-from-external-load-balancers",
            );
        }
        match (me.ready, me.cordoned) {
            _ if carries => Ok(()),
            (false, _) if others() => refuse("it is not ready"),
            (_, true) if others() => refuse("it is cordoned"),
            _ => Ok(()),
        }
    }
}
