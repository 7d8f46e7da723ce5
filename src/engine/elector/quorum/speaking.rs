//! When a member speaks, and what it says.

use std::time::Duration;

use super::{Candidate, Quorum};
use crate::engine::Cx;
use crate::model::{Hold, Instant, Message, NodeName};

/// What is not promised is asked for again after so long.
const AGAIN: Duration = Duration::from_millis(100);

impl Quorum {
    /// Sends what is due: a beat to all, or what cannot wait for it.
    pub(super) fn speak(&mut self, cx: &mut Cx<'_>) {
        self.hurried.extend(self.raft.wants_send());
        if self.news || self.next_beat(cx.now) <= cx.now {
            self.news = false;
            self.beaten_at = cx.now;
            let heartbeat = self.timing.heartbeat;
            // A follower waits for the leader to give the beat.
            let wait = if self.leads { heartbeat } else { heartbeat + heartbeat / 4 };
            self.beat_at = cx.now + wait;
            let hold = self.ask_all(cx.now);
            let peers: Vec<_> = self.post.peers().cloned().collect();
            for to in peers {
                self.say(cx, &to, hold.clone());
            }
            self.hurried.clear();
        }
        for to in std::mem::take(&mut self.hurried) {
            self.say(cx, &to, None);
        }
    }

    /// The hold of this beat. This member answers it like any other.
    fn ask_all(&mut self, now: Instant) -> Option<Hold> {
        let entry = self.raft.head()?;
        let (config, longest) = (entry.id, entry.longest);
        let length = self.timing.promise.min(longest);
        let hurry = self.timing.heartbeat * 3 / 2;
        let hold = self.holder.hold(now, config, length, hurry)?;
        if entry.is_voter(&self.me) {
            let me = self.me.clone();
            let answer = self.promise(now, &me, self.life, &hold);
            self.count_own(now, &answer);
        }
        Some(hold)
    }

    fn say(&mut self, cx: &mut Cx<'_>, to: &NodeName, hold: Option<Hold>) {
        let assignment = self.leads.then(|| self.assigned.values().cloned().collect());
        let mut raft = self.raft.calls(to);
        raft.extend(self.forwarded(to));
        let message = Message {
            term: self.raft.term(),
            leader: self.raft.leader().cloned(),
            cluster: self.raft.cluster(),
            newest: self.raft.newest(),
            committed: self.raft.committed(),
            floor: self.raft.floor(),
            stamp: 0,
            echo: None,
            raft,
            assignment,
            hold,
            answers: self.answers.remove(to).unwrap_or_default(),
            released: self.holder.released().collect(),
            report: self.report.clone(),
        };
        self.post.send(cx, to, &message);
    }

    /// A right that is about to end is asked for again before the beat.
    pub(super) fn next_beat(&self, now: Instant) -> Instant {
        let heartbeat = self.timing.heartbeat;
        let extra = self.beaten_at + heartbeat / 3;
        // What is asked for in vain may only have been lost, and the beat may be slow.
        let again = self.beaten_at + heartbeat.min(AGAIN);
        let suspicion = self.suspicion();
        let heard =
            |(name, it): (&NodeName, &Candidate)| *name != self.me && now < it.heard_at + suspicion;
        let asks = self.holder.is_asking(now) && self.members.iter().any(heard);
        let again = if asks { again } else { self.beat_at };
        let pressed = self.holder.first_end(now).map(|it| (it - heartbeat).max(extra));
        pressed.unwrap_or(self.beat_at).min(again).min(self.beat_at)
    }
}
