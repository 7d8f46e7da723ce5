//! Which Services this node answers for, as the peer labels its Node:
//! `service-provided.kube-vip.io/SERVICE.NAMESPACE`, with the addresses. What the Node says is
//! compared with what is so; only what differs is written, what an earlier process left included.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::Services;
use crate::engine::backoff::Backoff;
use crate::engine::reporter::label_value;
use crate::engine::{Cx, Deadline};
use crate::model::{
    ClusterNode, Instant, NodeName, ObjectName, PROVIDED, RequestId, SideCall, SideReply, Vip,
};

/// So many labels are written at a time.
const AT_ONCE: usize = 200;
/// Kubernetes allows no longer name of a label, its prefix left out. What is named longer is
/// not labelled.
const NAME_MOST: usize = 63;

/// Values by key; `None`: removed.
type Written = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug)]
pub(super) struct Labels {
    on: bool,
    wanted: BTreeMap<String, String>,
    /// Of these, the Node may say something else.
    open: BTreeSet<String>,
    asked: Option<(RequestId, Written)>,
    again_at: Option<Instant>,
    backoff: Backoff,
}

impl Labels {
    pub fn new(on: bool) -> Self {
        Self {
            on,
            wanted: BTreeMap::new(),
            open: BTreeSet::new(),
            asked: None,
            again_at: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
        }
    }

    /// For these addresses of the Service this node answers.
    pub fn answered(&mut self, service: &ObjectName, ips: &[IpAddr]) {
        // Next to all turns of Services come here, and next to nobody asks for labels.
        if !self.on {
            return;
        }
        let name = format!("{}.{}", service.name, service.namespace);
        if name.len() > NAME_MOST {
            return;
        }
        let key = format!("{PROVIDED}{name}");
        let value = label_value(ips.iter().copied().map(Vip));
        let before = match value.is_empty() {
            true => self.wanted.remove(&key),
            false => self.wanted.insert(key.clone(), value),
        };
        if before.as_ref() != self.wanted.get(&key) {
            self.open.insert(key);
        }
    }

    /// This node's own Node is as it says.
    pub fn learn(&mut self, node: &ClusterNode) {
        if self.on {
            let differs = |key: &&String| self.wanted.get(*key) != node.provided.get(*key);
            let keys = self.wanted.keys().chain(node.provided.keys());
            self.open = keys.filter(differs).cloned().collect();
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, me: &NodeName, node: Option<&ClusterNode>) {
        let waits = self.again_at.is_some_and(|it| cx.now < it);
        let Some(node) = node.filter(|_| !waits && self.asked.is_none()) else {
            return;
        };
        let mut labels = Written::new();
        while labels.len() < AT_ONCE {
            let Some(key) = self.open.pop_first() else { break };
            let value = self.wanted.get(&key).cloned();
            if value.as_ref() != node.provided.get(&key) {
                labels.insert(key, value);
            }
        }
        if !labels.is_empty() {
            let call = SideCall::LabelNode { node: me.clone(), labels: labels.clone() };
            self.asked = Some((cx.side(call), labels));
        }
    }

    /// Returns what was written.
    fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &SideReply) -> Written {
        let Some((_, labels)) = self.asked.take_if(|it| it.0 == request) else {
            return Written::new();
        };
        if *reply == SideReply::Done {
            self.backoff.reset();
            self.again_at = None;
            return labels;
        }
        self.open.extend(labels.into_keys());
        self.again_at = Some(cx.now + self.backoff.wait(cx.rng));
        Written::new()
    }

    /// Whether the Node says what is so, as far as is known here.
    pub fn are_told(&self) -> bool {
        self.asked.is_none() && self.open.is_empty()
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let at = self.again_at.filter(|_| self.asked.is_none() && !self.open.is_empty())?;
        Some(Deadline { at, why: "label the node" })
    }
}

impl Services {
    /// What became of a label.
    pub fn on_side(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &SideReply) {
        self.naming.on_side(cx, request, reply);
        let written = self.labels.on_reply(cx, request, reply);
        let Some(node) = self.nodes.get_mut(&self.me) else {
            return;
        };
        for (key, value) in written {
            match value {
                Some(value) => node.provided.insert(key, value),
                None => node.provided.remove(&key),
            };
        }
    }

    /// Writes the labels that differ.
    pub fn label(&mut self, cx: &mut Cx<'_>) {
        self.labels.write(cx, &self.me, self.nodes.get(&self.me));
    }

    /// Whether the cluster has been told which Services this node answers for.
    pub fn has_labelled(&self) -> bool {
        self.labels.are_told() || !self.nodes.contains_key(&self.me)
    }
}
