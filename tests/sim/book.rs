//! What must hold in a quorum, judged by a book that knows nothing of how members work: who
//! asked for what and when, who acknowledged it, and what true time has made of that. It
//! remembers what processes forget.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use edgevip::model::{
    Entry, EntryId, Envelope, Instant, Message, NodeName, RaftCall, StoreRecord, Vip,
};

use crate::host::{Clock, Nanos};

/// Holds of one life that are remembered.
const REMEMBERED: usize = 256;

#[derive(Default)]
pub struct Book {
    holders: BTreeMap<Life, Holder>,
    /// Which holds have come to which voter, in its present life, and when.
    came: BTreeMap<(usize, Life), VecDeque<(u64, Instant)>>,
    /// Up to which hold each voter has heard that each holder let go.
    let_go: BTreeMap<(usize, Life, Vip), u64>,
    /// Until when, in true time, nobody else may be promised the VIP by this voter.
    promises: BTreeMap<(usize, Vip), Promise>,
    votes: BTreeMap<(u64, u64, usize), usize>,
    leaders: BTreeMap<(u64, u64), usize>,
    entries: BTreeMap<(u64, EntryId), Entry>,
    committed: BTreeMap<u64, BTreeMap<u64, EntryId>>,
    stored: BTreeMap<(u64, EntryId), BTreeSet<usize>>,
    /// The furthest that a host was ever entitled, by its own clock.
    ever: BTreeMap<(usize, Vip), Instant>,
    /// Until when, in true time, a host was last told to answer.
    given: BTreeMap<(usize, Vip), Nanos>,
    /// The promises of those who are alone and need to ask nobody.
    alone: BTreeMap<usize, Duration>,
}

/// A host and the life of the process on it.
pub type Life = (usize, u64);

#[derive(Default)]
struct Holder {
    sent: VecDeque<Asked>,
    released: BTreeMap<Vip, u64>,
    /// Holds up to this one do not count.
    doubted: u64,
}

struct Asked {
    id: u64,
    at: Instant,
    length: Duration,
    vips: BTreeSet<Vip>,
    config: (u64, EntryId),
    /// What is on the asker's own disk.
    stored: (u64, EntryId),
    by: BTreeMap<Vip, BTreeSet<usize>>,
}

#[derive(Clone, Copy)]
struct Promise {
    to: Life,
    id: u64,
    until: Nanos,
}

impl Book {
    /// Another life: what came to an earlier one is forgotten, what that promised is not.
    pub fn begin(&mut self, life: Life) {
        self.came.retain(|(voter, _), _| *voter != life.0);
        self.let_go.retain(|(voter, _, _), _| *voter != life.0);
        self.holders.insert(life, Holder::default());
    }

    /// The host's clock begins anew, and its kernel answers for nothing.
    pub fn reboot(&mut self, host: usize) {
        self.ever.retain(|(it, _), _| *it != host);
        self.silenced(host, None);
    }

    /// The kernel of the host is known to be silent.
    pub fn silenced(&mut self, host: usize, vips: Option<&[Vip]>) {
        let is_meant = |vip: &Vip| vips.is_none_or(|it| it.contains(vip));
        self.given.retain(|(it, vip), _| *it != host || !is_meant(vip));
    }

    pub fn doubt(&mut self, life: Life) {
        if let Some(it) = self.holders.get_mut(&life) {
            it.doubted = it.sent.back().map_or(0, |it| it.id);
        }
    }

    pub fn on_stored(&mut self, host: usize, record: &StoreRecord) {
        if let Some(entry) = &record.entry {
            self.stored.entry((entry.cluster, entry.id)).or_default().insert(host);
            self.alone.remove(&host);
            if entry.members.keys().eq([&name_of(host)]) {
                self.alone.insert(host, entry.longest);
            }
        }
    }

    pub fn on_store(&mut self, record: &StoreRecord) -> Result<(), String> {
        record.entry.as_ref().map_or(Ok(()), |it| self.note_entry(it))
    }

    /// A member is told something.
    pub fn heard(&mut self, me: Life, now: Instant, from: usize, envelope: &Envelope) {
        let (life, Some(message)) = ((from, envelope.life.0), &envelope.message) else { return };
        if envelope.echo.map(|it| it.0) != Some(me.1) {
            return;
        }
        if let Some(hold) = &message.hold {
            let came = self.came.entry((me.0, life)).or_default();
            came.push_back((hold.id, now));
            if came.len() > REMEMBERED {
                came.pop_front();
            }
        }
        for it in &message.released {
            let known = self.let_go.entry((me.0, life, it.vip)).or_default();
            *known = it.id.max(*known);
            let promise = self.promises.get(&(me.0, it.vip));
            if promise.is_some_and(|promise| promise.to == life && promise.id <= it.id) {
                self.promises.remove(&(me.0, it.vip));
            }
        }
    }

    /// A member decides to say something. `true`: it says that it has let go of a VIP.
    pub fn said(
        &mut self,
        me: Life,
        (now, local, clock): (Nanos, Instant, &Clock),
        to: Option<usize>,
        envelope: &Envelope,
    ) -> Result<Vec<Vip>, String> {
        let Some(message) = &envelope.message else { return Ok(Vec::new()) };
        self.check_raft(me.0, to, message)?;
        // Who has nothing on disk yet asks by what it was told.
        let told = |id: EntryId| self.entries.keys().find(|it| it.1 == id).map_or(0, |it| it.0);
        let cluster = message.cluster.or(message.hold.as_ref().map(|it| told(it.config)));
        let cluster = cluster.unwrap_or(0);
        let holder = self.holders.entry(me).or_default();
        if let Some(hold) = &message.hold
            && holder.sent.back().is_none_or(|it| it.id < hold.id)
        {
            holder.sent.push_back(Asked {
                id: hold.id,
                at: local,
                length: hold.length,
                vips: hold.vips.iter().map(|it| it.0).collect(),
                config: (cluster, hold.config),
                stored: (cluster, message.newest),
                by: BTreeMap::new(),
            });
            if holder.sent.len() > REMEMBERED {
                holder.sent.pop_front();
            }
        }
        let mut gone = Vec::new();
        for it in &message.released {
            let known = holder.released.insert(it.vip, it.id);
            if known.is_none_or(|known| known < it.id) {
                gone.push(it.vip);
            }
        }
        for vip in &gone {
            self.given.remove(&(me.0, *vip));
            if self.promises.get(&(me.0, *vip)).is_some_and(|it| it.to == me) {
                self.promises.remove(&(me.0, *vip));
            }
        }
        let (Some(to), Some(life)) = (to, envelope.echo) else { return Ok(gone) };
        for answer in &message.answers {
            for vip in &answer.acknowledged {
                self.acknowledged(me.0, (now, clock), (to, life.0), answer.id, *vip)?;
            }
        }
        Ok(gone)
    }

    fn acknowledged(
        &mut self,
        voter: usize,
        (now, clock): (Nanos, &Clock),
        to: Life,
        id: u64,
        vip: Vip,
    ) -> Result<(), String> {
        let came = self.came.get(&(voter, to)).and_then(|it| it.iter().find(|it| it.0 == id));
        let Some((_, came)) = came.copied() else {
            return Err(format!(
                "S2: acknowledges {vip} to node-{} of a hold {id} that never came",
                to.0
            ));
        };
        let asked = self.holders.get_mut(&to);
        let Some(asked) = asked.and_then(|it| it.sent.iter_mut().find(|it| it.id == id)) else {
            return Ok(());
        };
        if !asked.vips.contains(&vip) {
            return Err(format!("S2: acknowledges {vip}, which node-{} did not ask for", to.0));
        }
        asked.by.entry(vip).or_default().insert(voter);
        // It was promised, and released before that was said.
        if self.let_go.get(&(voter, to, vip)).is_some_and(|it| id <= *it) {
            return Ok(());
        }
        let until = clock.when_boot(came + asked.length);
        self.promise(voter, now, vip, Promise { to, id, until })
    }

    /// Nobody is promised what another is promised.
    fn promise(&mut self, voter: usize, now: Nanos, vip: Vip, it: Promise) -> Result<(), String> {
        let known = self.promises.get(&(voter, vip)).filter(|known| known.until > now);
        if let Some(known) = known.filter(|known| known.to.0 != it.to.0) {
            let left = (known.until - now) as f64 / 1e6;
            return Err(format!(
                "S2: node-{voter} promises {vip} to node-{}, and to node-{} for {left:.3} ms more",
                it.to.0, known.to.0,
            ));
        }
        let until = known.map_or(it.until, |known| known.until.max(it.until));
        self.promises.insert((voter, vip), Promise { until, ..it });
        Ok(())
    }

    /// Until when this life may answer for the VIP, by what voters have truly said.
    pub fn entitled_until(&self, me: Life, now: Nanos, vip: Vip) -> Option<Instant> {
        self.right(me, now, vip).map(|it| it.0)
    }

    /// The right, by which hold, and whether it rests on the holder's own vote.
    fn right(&self, me: Life, now: Nanos, vip: Vip) -> Option<(Instant, u64, bool)> {
        let holder = self.holders.get(&me)?;
        let after = holder.released.get(&vip).copied().unwrap_or(0).max(holder.doubted);
        let nobody = BTreeSet::new();
        for asked in holder.sent.iter().rev().filter(|it| it.id > after && it.vips.contains(&vip)) {
            // One that waits for its turn on the asker's own disk needs those of the one before.
            let of = |it| self.entries.get(it);
            let entry = of(&asked.config).or(of(&asked.stored)).or(self.newest());
            let Some(entry) = entry else { continue };
            let by = asked.by.get(&vip).unwrap_or(&nobody);
            let until = asked.at + asked.length * 21 / 25;
            if self.is_majority(entry, by, None) {
                return Some((until, asked.id, false));
            }
            let promised = self.promises.get(&(me.0, vip)).filter(|it| it.until > now);
            let free = promised.is_none_or(|it| it.to.0 == me.0);
            if free && self.is_majority(entry, by, Some(me.0)) {
                return Some((until, asked.id, true));
            }
        }
        None
    }

    fn is_majority(&self, entry: &Entry, by: &BTreeSet<usize>, me: Option<usize>) -> bool {
        let has = |it: usize| by.contains(&it) || me == Some(it);
        let enough = |voters: &BTreeSet<NodeName>| {
            voters.iter().filter(|it| has(host_of(it))).count() * 2 > voters.len()
        };
        let voters: BTreeSet<_> = entry.voters().cloned().collect();
        let of_this = self.committed.get(&entry.cluster);
        let committed = of_this.is_some_and(|it| it.values().any(|it| *it == entry.id));
        // Who alone has a vote knows at once.
        let known = committed || voters.len() == 1;
        enough(&voters) && entry.before.as_ref().filter(|_| !known).is_none_or(enough)
    }

    /// A process lets its kernel answer until then.
    pub fn answers(
        &mut self,
        me: Life,
        (now, clock): (Nanos, &Clock),
        vip: Vip,
        until: Instant,
    ) -> Result<(), String> {
        let alone = self.alone_until(me, clock.boot(now)).map(|it| (it, 0, false));
        let Some((right, id, own)) = self.right(me, now, vip).max(alone) else {
            return Err(format!("S2: answers for {vip} until {until:?} without a right to"));
        };
        if until > right {
            return Err(format!("S2: answers for {vip} until {until:?}, entitled until {right:?}"));
        }
        self.note_right(me.0, vip, right);
        let end = clock.when_boot(until);
        let mut others = self.given.iter().filter(|((host, it), _)| *host != me.0 && *it == vip);
        if let Some(((other, _), left)) = others.find(|it| *it.1 > now) {
            let left = (left - now) as f64 / 1e6;
            return Err(format!(
                "S2: answers for {vip} while node-{other} may, for {left:.3} ms more"
            ));
        }
        self.given.insert((me.0, vip), end);
        if own {
            let asked = self.holders.get(&me).and_then(|it| it.sent.iter().find(|it| it.id == id));
            let until = asked.map_or(end, |it| clock.when_boot(it.at + it.length));
            self.promise(me.0, now, vip, Promise { to: me, id, until })?;
        }
        Ok(())
    }

    /// It is entitled to more than it has let its kernel do.
    pub fn note_right(&mut self, host: usize, vip: Vip, right: Instant) {
        let ever = self.ever.entry((host, vip)).or_insert(right);
        *ever = right.max(*ever);
    }

    pub fn ever(&self, host: usize, vip: Vip) -> Instant {
        self.ever.get(&(host, vip)).copied().unwrap_or(Instant::from_nanos(0))
    }

    /// Until when it may answer, if it is the only member of its cluster.
    pub fn alone_until(&self, me: Life, local: Instant) -> Option<Instant> {
        self.alone.get(&me.0).map(|it| local + *it * 21 / 25)
    }

    /// The term of the last that led, and who.
    pub fn last_leader(&self) -> Option<(u64, usize)> {
        let cluster = self.newest()?.cluster;
        let all = self.leaders.range((cluster, 0)..=(cluster, u64::MAX));
        all.map(|((_, term), who)| (*term, *who)).next_back()
    }

    /// The newest entry that anybody has appended: its voters count from then.
    pub fn head(&self) -> Option<&Entry> {
        let cluster = self.newest()?.cluster;
        let all = self.entries.iter().filter(|((it, _), _)| *it == cluster);
        all.map(|(_, it)| it).next_back()
    }

    /// The newest entry that anybody is known to think committed.
    pub fn newest(&self) -> Option<&Entry> {
        let (cluster, all) = self.committed.iter().max_by_key(|(_, it)| it.keys().next_back())?;
        self.entries.get(&(*cluster, *all.values().next_back()?))
    }

    /// S5.
    fn check_raft(
        &mut self,
        me: usize,
        to: Option<usize>,
        message: &Message,
    ) -> Result<(), String> {
        let Some(cluster) = message.cluster else { return Ok(()) };
        let leads = message.leader.as_ref().is_some_and(|it| host_of(it) == me);
        if leads {
            let other = *self.leaders.entry((cluster, message.term)).or_insert(me);
            if other != me {
                let term = message.term;
                return Err(format!("S5: node-{other} and node-{me} lead in term {term}"));
            }
        } else if message.assignment.is_some() {
            return Err(format!("S5: node-{me} assigns and does not lead"));
        }
        for call in &message.raft {
            match call {
                RaftCall::Append(entry) => self.note_entry(entry)?,
                RaftCall::AskVote { term, binding: true, .. } => {
                    self.vote(cluster, *term, me, me)?;
                }
                RaftCall::Vote { term, binding: true, granted: true, .. } => {
                    if let Some(to) = to {
                        self.vote(cluster, *term, me, to)?;
                    }
                }
                RaftCall::AskVote { .. }
                | RaftCall::Vote { .. }
                | RaftCall::Forward { .. }
                | RaftCall::Forwarded { .. }
                | RaftCall::StandNow => {}
            }
        }
        self.note_committed(cluster, message.committed)?;
        if leads {
            self.check_complete(cluster, message)?;
        }
        Ok(())
    }

    fn vote(&mut self, cluster: u64, term: u64, by: usize, to: usize) -> Result<(), String> {
        let known = *self.votes.entry((cluster, term, by)).or_insert(to);
        match known == to {
            true => Ok(()),
            false => Err(format!(
                "S5: node-{by} votes for node-{known} and for node-{to} in term {term}"
            )),
        }
    }

    fn note_entry(&mut self, entry: &Entry) -> Result<(), String> {
        let known = self.entries.entry((entry.cluster, entry.id)).or_insert_with(|| entry.clone());
        match known == entry {
            true => Ok(()),
            false => Err(format!("S5: {known:?} and {entry:?} have one name")),
        }
    }

    /// What is said to be committed is on the disks of a majority, and the only one of its
    /// place.
    fn note_committed(&mut self, cluster: u64, id: EntryId) -> Result<(), String> {
        if id.index == 0 {
            return Ok(());
        }
        let all = self.committed.entry(cluster).or_default();
        if let Some(known) = all.get(&id.index) {
            return match *known == id {
                true => Ok(()),
                false => Err(format!("S5: {known:?} was committed, and now {id:?}")),
            };
        }
        let before = all.range(..id.index).next_back().map(|it| *it.1);
        let after = all.range(id.index..).next().map(|it| *it.1);
        if before.is_some_and(|it| it.term > id.term) || after.is_some_and(|it| it.term < id.term) {
            return Err(format!("S5: {id:?} committed between {before:?} and {after:?}"));
        }
        all.insert(id.index, id);
        let Some(entry) = self.entries.get(&(cluster, id)) else {
            return Err(format!("S5: nobody has appended {id:?}, which is committed"));
        };
        let voters: Vec<_> = entry.voters().collect();
        let have = self.stored.get(&(cluster, id));
        let count = voters.iter().filter(|it| have.is_some_and(|has| has.contains(&host_of(it))));
        match count.count() * 2 > voters.len() {
            true => Ok(()),
            false => Err(format!("S5: {id:?} is committed and only on {have:?} of {voters:?}")),
        }
    }

    /// Who leads has all that was committed before its term.
    fn check_complete(&self, cluster: u64, message: &Message) -> Result<(), String> {
        let earlier = self.committed.get(&cluster).into_iter().flat_map(|it| it.values());
        let missing = earlier.filter(|it| it.term < message.term && **it > message.newest).max();
        missing.map_or(Ok(()), |it| {
            Err(format!("S5: leads in term {} without {it:?}, which is committed", message.term))
        })
    }
}

pub fn name_of(host: usize) -> NodeName {
    NodeName(format!("node-{host}").into())
}

pub fn host_of(name: &NodeName) -> usize {
    name.0.trim_start_matches("node-").parse().unwrap_or(usize::MAX)
}
