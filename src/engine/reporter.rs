//! What people and the cluster are told: told against true, never more often than it
//! changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::backoff::Backoff;
use super::{Action, Cx, Deadline, Notice};
use crate::model::{
    ApiFault, ApiFaultKind, Instant, Mac, NodeName, Refusal, RequestId, SideCall, SideReply, Vip,
};

/// The peer's label for the node that holds the VIPs.
const LABEL: &str = "kube-vip.io/has-ip";
/// Kubernetes allows no longer label values.
const LABEL_MOST: usize = 63;
/// How often a leader counts the candidates.
const COUNT_EVERY: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    me: NodeName,
    label_node: bool,
    has_api: bool,
    told: Told,
    label: Label,
    candidates: Candidates,
    /// Off once RBAC has said no.
    events: Events,
    /// The last Event that no answer has come for.
    event: Option<RequestId>,
}

#[derive(Clone, Debug, Default)]
struct Told {
    vips: BTreeMap<Vip, VipTold>,
    holder: Option<NodeName>,
    api_fault: Option<ApiFaultKind>,
    rebuilds: u64,
    leads: bool,
}

#[derive(Clone, Debug, Default)]
struct VipTold {
    answering: bool,
    refusal: Option<Box<Refusal>>,
    stranger: Option<Mac>,
    readded: u32,
}

#[derive(Clone, Debug)]
struct Label {
    wanted: Option<String>,
    /// What the node's label is known to be; `None`: not known.
    written: Option<Option<String>>,
    asked: Option<(RequestId, Option<String>)>,
    try_at: Instant,
    backoff: Backoff,
}

#[derive(Clone, Debug)]
struct Candidates {
    count: Option<u32>,
    asked: Option<RequestId>,
    ask_at: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Events {
    Forbidden,
    Untried(Option<RequestId>),
    Written,
}

/// What is true at the end of a turn, as far as anybody is told.
pub(crate) struct Truth<'a> {
    /// Of the VIPs that were looked at.
    pub vips: Vec<VipTruth>,
    /// Those of them that are not wanted any more.
    pub gone: Vec<Vip>,
    /// Those of the control plane.
    pub control_plane: &'a BTreeSet<Vip>,
    /// Whether it may be answered for here.
    pub carries: &'a dyn Fn(Vip) -> bool,
    pub holder: Option<&'a NodeName>,
    pub leads: bool,
    pub api_fault: Option<&'a ApiFault>,
    pub rebuilds: u64,
}

pub(crate) struct VipTruth {
    pub vip: Vip,
    pub answering: bool,
    pub refusal: Option<Refusal>,
    pub stranger: Option<Mac>,
    /// How often somebody removed it, and it was put back.
    pub readded: u32,
}

impl Reporter {
    /// `has_api`: there is an API server to tell.
    pub fn new(me: NodeName, label_node: bool, has_api: bool, now: Instant) -> Self {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        Self {
            me,
            label_node,
            has_api,
            told: Told::default(),
            label: Label { wanted: None, written: None, asked: None, try_at: now, backoff },
            candidates: Candidates { count: None, asked: None, ask_at: now },
            events: if has_api { Events::Untried(None) } else { Events::Forbidden },
            event: None,
        }
    }

    pub fn on_reply(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &SideReply) {
        if self.candidates.asked == Some(request) {
            self.candidates.asked = None;
            if let SideReply::Candidates(count) = reply {
                // A cluster without Nodes is one that we cannot see into.
                self.candidates.count = Some(*count).filter(|it| *it > 0);
            }
        }
        if let Some((_, value)) = self.label.asked.take_if(|it| it.0 == request) {
            match reply {
                SideReply::Done => {
                    self.label.written = Some(value);
                    self.label.backoff.reset();
                }
                SideReply::Candidates(_)
                | SideReply::Failed(_)
                | SideReply::Nodes(_)
                | SideReply::Resolved(_) => {
                    self.label.try_at = cx.now + self.label.backoff.wait(cx.rng);
                }
            }
        }
        self.event.take_if(|it| *it == request);
        if self.events == Events::Untried(Some(request)) {
            self.events = match reply {
                SideReply::Done => Events::Written,
                SideReply::Failed(fault) if fault.kind == ApiFaultKind::Forbidden => {
                    Events::Forbidden
                }
                SideReply::Candidates(_)
                | SideReply::Failed(_)
                | SideReply::Nodes(_)
                | SideReply::Resolved(_) => Events::Untried(None),
            };
        }
    }

    pub fn reconcile(&mut self, cx: &mut Cx<'_>, truth: &Truth<'_>) {
        self.tell_vips(cx, truth);
        self.tell_rest(cx, truth);
        self.count(cx, truth);
        self.write_label(cx, truth);
    }

    /// How many nodes may stand for election, where known.
    pub fn candidates(&self) -> Option<u32> {
        self.candidates.count
    }

    /// Whether the cluster has been told all there is to tell.
    pub fn has_told(&self) -> bool {
        self.event.is_none() && (!self.label_node || self.label_is_right())
    }

    pub fn deadline(&self, leads: bool) -> Option<Deadline> {
        let count = (leads && self.has_api && self.candidates.asked.is_none())
            .then_some(Deadline { at: self.candidates.ask_at, why: "count the candidates" });
        let label = (self.label_node && self.label.asked.is_none() && !self.label_is_right())
            .then_some(Deadline { at: self.label.try_at, why: "label the node" });
        count.into_iter().chain(label).min()
    }

    fn tell_vips(&mut self, cx: &mut Cx<'_>, truth: &Truth<'_>) {
        for it in &truth.vips {
            let told = self.told.vips.entry(it.vip).or_default();
            if it.answering && !told.answering {
                told.refusal = None;
                cx.act(Action::Tell(Notice::Acquired(it.vip)));
            }
            // What goes only to come back in a moment was not given up.
            let pauses = told.answering && !it.answering && it.refusal.is_none();
            // Not before it is back; and where it cannot come back, why not is told.
            if it.answering && it.readded > told.readded {
                cx.act(Action::Tell(Notice::Readded(it.vip)));
            }
            if it.answering || it.refusal.is_some() {
                told.readded = it.readded;
            }
            if !it.answering && told.answering && !pauses {
                cx.act(Action::Tell(Notice::Released(it.vip)));
            }
            told.answering = it.answering || pauses;
            if let Some(refusal) = &it.refusal
                && told.refusal.as_deref() != Some(refusal)
            {
                told.refusal = Some(Box::new(refusal.clone()));
                cx.act(Action::Tell(Notice::Refused(it.vip, refusal.clone())));
            }
            if let Some(mac) = it.stranger
                && told.stranger != Some(mac)
            {
                told.stranger = Some(mac);
                cx.act(Action::Tell(Notice::Conflict(it.vip, mac)));
                let message = format!("the host with MAC {mac} uses {}", it.vip);
                let event = self.events.write(cx, &self.me, true, "AddressConflict", message);
                self.event = event.or(self.event);
            }
        }
        for vip in &truth.gone {
            if self.told.vips.remove(vip).is_some_and(|it| it.answering) {
                cx.act(Action::Tell(Notice::Released(*vip)));
            }
        }
    }

    fn tell_rest(&mut self, cx: &mut Cx<'_>, truth: &Truth<'_>) {
        if truth.holder != self.told.holder.as_ref() {
            self.told.holder = truth.holder.cloned();
            cx.act(Action::Tell(Notice::Holder(self.told.holder.clone())));
        }
        if truth.leads != self.told.leads {
            self.told.leads = truth.leads;
            let (reason, says) = match truth.leads {
                true => ("LeadershipAcquired", "holds the control-plane VIP"),
                false => ("LeadershipEnded", "no longer holds the control-plane VIP"),
            };
            let message = format!("{} {says}", self.me);
            let event = self.events.write(cx, &self.me, false, reason, message);
            self.event = event.or(self.event);
        }
        let fault = truth.api_fault.map(|it| it.kind);
        match truth.api_fault {
            Some(it) if self.told.api_fault != fault => {
                cx.act(Action::Tell(Notice::ApiFault(it.clone())));
            }
            None if self.told.api_fault.is_some() => cx.act(Action::Tell(Notice::ApiBack)),
            Some(_) | None => {}
        }
        self.told.api_fault = fault;
        if truth.rebuilds > self.told.rebuilds {
            cx.act(Action::Tell(Notice::FenceRebuilt));
        }
        self.told.rebuilds = truth.rebuilds;
    }

    fn count(&mut self, cx: &mut Cx<'_>, truth: &Truth<'_>) {
        let it = &mut self.candidates;
        if self.has_api && truth.leads && it.asked.is_none() && it.ask_at <= cx.now {
            it.ask_at = cx.now + COUNT_EVERY;
            it.asked = Some(cx.side(SideCall::CountCandidates));
        }
    }

    fn write_label(&mut self, cx: &mut Cx<'_>, truth: &Truth<'_>) {
        if !self.label_node {
            return;
        }
        let carried = truth.control_plane.iter().copied().filter(|it| (truth.carries)(*it));
        let value = truth.leads.then(|| label_value(carried));
        self.label.wanted = value.clone();
        let due = self.label.asked.is_none() && self.label.try_at <= cx.now;
        if !due || self.label_is_right() {
            return;
        }
        let labels = BTreeMap::from([(LABEL.to_owned(), value.clone())]);
        let request = cx.side(SideCall::LabelNode { node: self.me.clone(), labels });
        self.label.asked = Some((request, value));
    }

    fn label_is_right(&self) -> bool {
        self.label.written.as_ref() == Some(&self.label.wanted)
    }
}

impl Events {
    fn write(
        &mut self,
        cx: &mut Cx<'_>,
        me: &NodeName,
        warning: bool,
        reason: &str,
        message: String,
    ) -> Option<RequestId> {
        let tried = match self {
            Self::Forbidden => return None,
            Self::Untried(request) => Some(request),
            Self::Written => None,
        };
        let reason = reason.to_owned();
        let request = cx.side(SideCall::Event { node: me.clone(), warning, reason, message });
        if let Some(tried) = tried {
            *tried = Some(request);
        }
        Some(request)
    }
}

/// Addresses as a label may say them: no colons, no commas, and at most 63 characters.
/// Addresses as the value of a label.
pub(super) fn label_value(vips: impl Iterator<Item = Vip>) -> String {
    // No word is shorter than seven characters.
    let words: Vec<_> = vips
        .take(LABEL_MOST / 7)
        .map(|vip| match vip.0 {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
        })
        .collect();
    let mut value = words.join("_");
    value.truncate(LABEL_MOST);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_value_is_one_that_kubernetes_takes() {
        let table = [
            (vec!["10.0.0.42"], "10.0.0.42"),
            (vec!["fd00::1"], "fd000000000000000000000000000001"),
            (vec!["10.0.0.42", "fd00::1"], "10.0.0.42_fd000000000000000000000000000001"),
        ];
        for (vips, value) in table {
            let vips = vips.into_iter().map(|it| Vip(it.parse().unwrap()));
            assert_eq!(label_value(vips), value);
        }
    }
}
