//! What an operator is told of a quorum.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Quorum;
use crate::model::{Instant, Member, MemberStatus, NodeName, PlaceStatus, QuorumStatus, tolerance};

impl Quorum {
    /// How this member sees it all.
    pub fn status(&self, now: Instant) -> QuorumStatus {
        let entry = self.raft.entry();
        let voters = entry.map_or(0, |it| it.voters().count());
        let promises = self.assigned.keys().filter_map(|vip| {
            let (to, until) = self.voter.promised(now, *vip)?;
            Some((*vip, to.clone(), ms(until.saturating_since(now))))
        });
        let (record, nodes) = self.beside_words(now);
        QuorumStatus {
            me: self.me.clone(),
            term: self.raft.term(),
            leader: self.raft.leader().cloned(),
            cluster: self.raft.cluster(),
            entry: self.raft.newest(),
            committed: self.raft.is_committed(),
            silent_because: self.silent_because(now),
            members: self.members_status(now),
            vips: self.places(now),
            tolerance: tolerance(voters),
            ill_because: self.fitness.why().map(str::to_owned).collect(),
            strangers: self.strangers(),
            promises: promises.collect(),
            discovery: self.discovery.as_ref().map(|it| it.status(now, self.waits_for(now))),
            record,
            nodes,
        }
    }

    fn silent_because(&self, now: Instant) -> Option<String> {
        let store = self.raft.voting().err();
        let fault = self.raft.fault().map(|it| format!("the store cannot be written: {it}"));
        store.or(fault).or(self.belongs(now).err())
    }

    fn members_status(&self, now: Instant) -> Vec<MemberStatus> {
        let entry = self.raft.entry();
        let status = |name: &NodeName, it: &Member| {
            let heard = self.members.get(name);
            let report = heard.map(|it| it.report.clone()).unwrap_or_default();
            let holder = |place: &&crate::model::Assigned| place.holder.as_ref() == Some(name);
            MemberStatus {
                name: name.clone(),
                address: it.address,
                role: it.role,
                heard_ms_ago: self.post.heard_at(name).map(|it| ms(now.saturating_since(it))),
                round_trip_us: self
                    .post
                    .round_trip(name)
                    .and_then(|it| u64::try_from(it.as_micros()).ok()),
                ailments: report.ailments,
                leaving: report.leaving,
                drained: entry.is_some_and(|it| it.wishes.drained.contains(name)),
                holds: u32::try_from(self.assigned.values().filter(holder).count())
                    .unwrap_or(u32::MAX),
                bad: self.bad(name),
            }
        };
        entry
            .map_or(&self.listed, |it| &it.members)
            .iter()
            .map(|(name, it)| status(name, it))
            .collect()
    }

    fn strangers(&self) -> BTreeMap<String, String> {
        let unknown = self.post.strangers().iter();
        let unknown = unknown.map(|(name, from)| (name.to_string(), from.to_string()));
        let foreign = self.raft.strangers().iter();
        let foreign =
            foreign.map(|(name, cluster)| (name.to_string(), format!("cluster {cluster:016x}")));
        unknown.chain(foreign).collect()
    }

    fn bad(&self, name: &NodeName) -> BTreeMap<String, u64> {
        self.post.refused(name).into_iter().map(|(code, count)| (code.to_owned(), count)).collect()
    }

    fn places(&self, now: Instant) -> Vec<PlaceStatus> {
        let place = |it: &crate::model::Assigned| {
            let until = self.holder.entitled_until(now, it.vip);
            PlaceStatus {
                vip: it.vip,
                holder: it.holder.clone(),
                next: it.next.clone(),
                epoch: it.epoch.to_string(),
                until_ms: until.map(|it| ms(it.saturating_since(now))),
                code: self.placer.why(it.vip).map(|it| it.code().to_owned()),
                why: match (self.placer.why(it.vip), self.raft.leader()) {
                    (Some(why), _) => why.to_string(),
                    (None, Some(leader)) => format!("{leader} knows"),
                    (None, None) => "nobody leads".to_owned(),
                },
            }
        };
        self.assigned.values().map(place).collect()
    }
}

fn ms(it: Duration) -> u64 {
    u64::try_from(it.as_millis()).unwrap_or(u64::MAX)
}
