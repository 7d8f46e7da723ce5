//! One seed of a quorum: a bad time, then healing, then a long calm with small pokes that
//! must not matter, then a holder is drained, and another stops.

use std::time::Duration;

use edgevip::engine::{FailBack, ProbeRule, QuorumTiming, Rng};
use edgevip::model::{ClusterCall, MemberRole};

use crate::cluster::{Beside, Quorum};
use crate::faults::{Faults, Kind};
use crate::host::{MS, Nanos, SEC};
use crate::run::{Stats, check_converged, poke};
use crate::world::{Log, Settings, World};

/// The bad time is so many promises long, within these.
const BAD: Nanos = 120;
const SHORTEST: Nanos = 8 * SEC;
const LONGEST: Nanos = 240 * SEC;

/// Safety under faults, then liveness once they stop.
pub fn run(seed: u64, log: Log) -> Result<Stats, String> {
    let (mut world, plan) = draw(seed, log);
    world.start_listed();
    let bad = (BAD * promise(&world)).clamp(SHORTEST, LONGEST);
    world.run_until(bad)?;
    world.heal();
    converge(&mut world)?;
    settle(&mut world)?;
    keep_calm(&mut world, plan.long_calm)?;
    if plan.leaves {
        drain(&mut world)?;
        leave(&mut world)?;
    }
    Ok(Stats {
        events: world.events,
        takeovers: world.takeovers,
        simulated: world.now,
        fingerprint: world.fingerprint(),
    })
}

#[derive(Debug)]
struct Plan {
    long_calm: bool,
    leaves: bool,
}

fn draw(seed: u64, log: Log) -> (World, Plan) {
    let mut rng = Rng::from_seed(seed ^ 0x4a11_70b1);
    let fenced = rng.below(6) != 0;
    let (roles, spare) = members(&mut rng);
    let hosts = roles.len() + spare;
    // The fastest may run 1.18 times as fast as the slowest; without a fence, what is left of
    // the promise is for the kernel, which is late.
    let drift = if fenced { [0, 10_000, 82_500, 82_500][rng.below(4) as usize] } else { 100 };
    let rates: Vec<_> = (0..hosts)
        .map(|_| match rng.below(3) {
            0 => 1_000_000 - drift,
            1 => 1_000_000 + drift,
            _ => 1_000_000 - drift + rng.below(2 * drift + 1),
        })
        .collect();
    let rule = ProbeRule { interval: Duration::from_secs(1), fall: 3, rise: 2, weight: 10 };
    let quorum = Quorum {
        timing: timing(&mut rng, fenced),
        roles,
        fail_back: match rng.below(6) {
            0 => FailBack::Delayed,
            1..3 => FailBack::AtOnce,
            _ => FailBack::Never,
        },
        health: (rng.below(2) == 0).then_some(rule),
        check: (rng.below(4) == 0).then_some(ProbeRule { fall: 1, rise: 1, ..rule }),
        discover: None,
        vips: 1 + rng.below(rng.clone().below(6) + 1) as usize,
        api: Beside::Nothing,
    };
    let promise = quorum.promise();
    let settings = Settings {
        quorum: Some(quorum),
        fenced,
        two_families: rng.below(4) == 0,
        by_name: false,
        preserve: false,
        label: false,
        refresh: Duration::from_secs(2 + rng.below(3)),
        ..Settings::stock()
    };
    let faults = Faults::draw_quorum(&mut rng, promise);
    let world_rng = Rng::from_seed(rng.next_u64());
    let mut world = World::new(settings, &rates, world_rng).with_log(log);
    world.note(|| ("drawn".into(), format!("{faults:?} {rates:?}")));
    let drawn = format!("{:?}", world.settings);
    world.note(|| ("drawn".into(), drawn));
    world.faults = faults;
    world.fair_since = Nanos::MAX / 2;
    world.client.locks = rng.below(2) == 0;
    world.pace = (promise * 2).clamp(100 * MS, SEC);
    if let Some(cluster) = &mut world.cluster {
        let mut sometimes = |most: u64| if rng.below(2) == 0 { 0 } else { rng.below(most + 1) };
        let mail = &mut cluster.mail;
        (mail.loss, mail.copies, mail.broken) = (sometimes(300), sometimes(100), sometimes(5));
        let fails = sometimes(200);
        let tails = [MS / 2, promise / 20, promise / 2, 3 * promise];
        mail.tail = tails[rng.below(4) as usize];
        mail.late = [promise / 10, promise, 60 * SEC][rng.below(3) as usize];
        cluster.disks.iter_mut().for_each(|it| it.fails = fails);
    }
    let plan = Plan { long_calm: seed.is_multiple_of(10), leaves: rng.below(2) == 0 };
    (world, plan)
}

/// Those who are listed, and how many more may be added.
fn members(rng: &mut Rng) -> (Vec<MemberRole>, usize) {
    use MemberRole::{Voter, Witness};
    match rng.below(12) {
        0..6 => (vec![Voter; 3], 0),
        6..8 => (vec![Voter, Voter, Witness], 0),
        8..10 => (vec![Voter; 3], 2),
        10 => (vec![Voter; 5], 0),
        _ => (vec![Voter; 1], rng.below(3) as usize),
    }
}

/// Hugs the bounds: 0.84 of the promise for three heartbeats and what they take.
fn timing(rng: &mut Rng, fenced: bool) -> QuorumTiming {
    let kinds = [(30, 120, 12, 6), (40, 152, 12, 6), (8, 40, 8, 4), (40, 150, 40, 150)];
    let slow = [(2_500, 9_000, 12, 6), (2_000, 8_125, 12, 6), (500, 9_000, 100, 50)];
    let (heartbeat, promise, step, spread) = match fenced {
        true if rng.below(8) != 0 => kinds[rng.below(kinds.len() as u64) as usize],
        true | false => slow[rng.below(slow.len() as u64) as usize],
    };
    QuorumTiming {
        heartbeat: Duration::from_millis(heartbeat),
        promise: Duration::from_millis(promise),
        step: Duration::from_millis(step),
        spread: Duration::from_millis(spread),
    }
}

fn promise(world: &World) -> Nanos {
    world.quorum().map_or(0, |it| it.quorum.promise())
}

/// L1, L2, L3: processes are started within two seconds, stops take their time, the kernel is
/// asked again after a second and the link after five; then promises of earlier lives end, a
/// leader is elected, and what it decides is held.
fn converge(world: &mut World) -> Result<(), String> {
    let Some(cluster) = world.quorum() else { return Ok(()) };
    let quorum = &cluster.quorum;
    let wait = quorum.promise().max(quorum.election(world.hosts.len()));
    let refresh = world.settings.refresh.as_nanos() as Nanos;
    let bound = 10 * SEC + 3 * wait + 200 * MS + refresh;
    world.run_for(bound)?;
    check_converged(world)?;
    check_answered(world)
}

/// Who asked something was told what came of it.
fn check_answered(world: &World) -> Result<(), String> {
    let Some(cluster) = world.quorum() else { return Ok(()) };
    let waits = |it: &&crate::cluster::Order| {
        let proc = &world.procs[it.proc];
        let lives = proc.life == it.life && proc.runs() && proc.last_stall < it.asked_at;
        lives && it.asked_at + 12 * SEC < world.now
    };
    match cluster.unanswered().find(waits) {
        Some(order) => Err(format!("L3: nobody says what came of {order:?}")),
        None => Ok(()),
    }
}

/// What is better placed elsewhere goes there.
fn settle(world: &mut World) -> Result<(), String> {
    let Some(cluster) = world.quorum() else { return Ok(()) };
    let heartbeat = cluster.quorum.timing.heartbeat.as_nanos() as Nanos;
    let span = match cluster.quorum.fail_back {
        FailBack::Delayed => 60 * SEC,
        FailBack::AtOnce => 10 * SEC + 10 * heartbeat,
        FailBack::Never => 8 * SEC + 10 * heartbeat,
    };
    world.run_for(span)
}

/// L4: nothing changes any more, but for what small pokes need repaired at once.
fn keep_calm(world: &mut World, long: bool) -> Result<(), String> {
    let before = world.takeovers;
    for kind in [Kind::FlushAddress, Kind::FlushRules, Kind::RulesChurn, Kind::Stranger] {
        if kind != Kind::FlushRules || world.settings.fenced {
            poke(world, kind)?;
        }
    }
    let told = |world: &World| world.procs.iter().map(|it| it.notices.len()).sum::<usize>();
    let count = |world: &World| world.quorum().map_or((0, 0), |it| (it.writes, it.datagrams));
    let (told_before, (writes, sent), since) = (told(world), count(world), world.now);
    world.client.measure_anew();
    let span = (60 * promise(world)).clamp(5 * SEC, 30 * SEC);
    world.run_for(if long { 4 * span } else { span })?;
    check_converged(world)?;
    let at = |why: String| Err(format!("L4: {why}"));
    if world.takeovers != before {
        return at(format!("{} takeovers in calm weather", world.takeovers - before));
    }
    if told(world) > told_before {
        return at(format!("{} notices in calm weather", told(world) - told_before));
    }
    if world.client.worst > 0 {
        return at(format!("clients were cut off for {} ns in calm weather", world.client.worst));
    }
    let (writes_now, sent_now) = count(world);
    if writes_now > writes {
        return at(format!("{} writes in calm weather", writes_now - writes));
    }
    let Some(cluster) = world.quorum() else { return Ok(()) };
    let heartbeat = cluster.quorum.timing.heartbeat.as_nanos() as Nanos;
    let hosts = world.hosts.len() as u64;
    // Clocks may be fast, a right is renewed before the beat, and who is shown a former life
    // of another by an old datagram speaks to both for a while.
    let beats = (world.now - since) * 5 / 2 / heartbeat + 10;
    let most = beats * hosts * hosts.saturating_sub(1);
    if sent_now - sent > most {
        return at(format!("{} datagrams where {most} are enough", sent_now - sent));
    }
    Ok(())
}

/// How long clients may be cut off by what was planned: an old neighbour that has just heard
/// one announcement believes no other for a second.
fn most_cut(world: &World) -> Nanos {
    match (world.client.locks, world.settings.fenced) {
        (true, _) => 1_300 * MS,
        (false, true) => 50 * MS,
        (false, false) => 500 * MS,
    }
}

/// Another member that carries is there, and as fit.
fn has_heir(world: &World, host: usize) -> bool {
    let entry = world.quorum().and_then(|it| it.book.newest());
    entry.is_some_and(|entry| {
        entry.members.iter().any(|(name, it)| {
            it.role.carries()
                && crate::book::host_of(name) != host
                && !entry.wishes.drained.contains(name)
        })
    })
}

/// The other voters are a majority.
fn can_spare(world: &World, host: usize) -> bool {
    world.quorum().and_then(|it| it.book.newest()).is_some_and(|it| {
        let others = it.voters().filter(|it| crate::book::host_of(it) != host);
        others.count() * 2 > it.voters().count()
    })
}

fn holder(world: &World, at: usize) -> Option<usize> {
    let vip = world.vips[at % world.vips.len()];
    (0..world.hosts.len()).find(|it| world.answers(*it, vip))
}

/// L5: who is drained hands on, and no client notices; soon, whatever a promise lasts.
fn drain(world: &mut World) -> Result<(), String> {
    let Some(host) = holder(world, 0).filter(|it| has_heir(world, *it)) else { return Ok(()) };
    let Some(leader) = world.leader() else { return Err("L3: nobody leads".into()) };
    world.client.measure_anew();
    let name = crate::book::name_of(host);
    world.order(leader, ClusterCall::Drain(name.clone()));
    world.run_for(1_500 * MS)?;
    let carries = world.vips.iter().find(|it| world.answers(host, **it));
    if let Some(vip) = carries {
        return Err(format!("L5: node-{host} is drained and answers for {vip}"));
    }
    world.run_for(1_500 * MS)?;
    let most = if world.settings.fenced && !world.client.locks { 5 * MS } else { most_cut(world) };
    if world.client.worst > most {
        let cut = world.client.worst / MS;
        return Err(format!("L5: clients were cut off for {cut} ms by a planned move"));
    }
    world.order(leader, ClusterCall::Undrain(name));
    settle(world)
}

/// L5: an orderly stop costs the clients next to nothing.
fn leave(world: &mut World) -> Result<(), String> {
    let goes_on = |it: &usize| has_heir(world, *it) && can_spare(world, *it);
    let Some(host) = holder(world, 1).filter(goes_on) else { return Ok(()) };
    let moment = world.rng.below(SEC);
    world.run_for(moment)?;
    world.client.measure_anew();
    world.stop(host);
    world.run_for(2_600 * MS)?;
    if world.client.worst > most_cut(world) {
        let cut = world.client.worst / MS;
        return Err(format!("L5: clients were cut off for {cut} ms by a stop"));
    }
    Ok(())
}

impl World {
    /// The members that the settings list, all within a moment.
    pub fn start_listed(&mut self) {
        let listed = self.quorum().map_or(0, |it| it.quorum.roles.len());
        for proc in 0..self.procs.len() {
            let late = if proc < listed { 0 } else { 3 * SEC };
            self.schedule(late + MS * proc as u64, crate::world::Event::Start { proc });
        }
    }
}
