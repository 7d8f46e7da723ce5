//! One seed: two minutes of a bad time, then healing, then a long calm with small pokes
//! that must not matter, then the holder leaves.

use std::time::Duration;

use edgevip::engine::{LeaseConfig, Rng};
use edgevip::model::{NodeName, Role, VipState};

use crate::faults::{Faults, Kind};
use crate::foreign::Foreign;
use crate::host::{MS, Nanos, SEC};
use crate::process::Proc;
use crate::world::{Event, Log, Settings, World};

const BAD: Nanos = 120 * SEC;

pub struct Stats {
    pub events: u64,
    pub takeovers: u64,
    pub simulated: Nanos,
    pub fingerprint: Option<u64>,
}

/// Safety under faults, then liveness once they stop.
pub fn run(seed: u64, log: Log) -> Result<Stats, String> {
    let (mut world, plan) = draw(seed, log);
    world.note(|| ("drawn".into(), format!("{plan:?}")));
    world.start_all();
    world.run_until(BAD)?;
    world.heal();
    world.weather.slow = plan.slow;
    if plan.foreign_leaves {
        world.foreign_leaves();
    }
    converge(&mut world)?;
    keep_calm(&mut world, plan.long_calm)?;
    if plan.slow == 0 && plan.fair_leave {
        leave(&mut world, plan.edit_at_leaving)?;
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
    /// The API server stays this slow for ever, and is put up with.
    slow: Nanos,
    foreign_leaves: bool,
    long_calm: bool,
    fair_leave: bool,
    edit_at_leaving: bool,
}

fn draw(seed: u64, log: Log) -> (World, Plan) {
    let mut rng = Rng::from_seed(seed ^ 0xed9e_71b0);
    let fenced = rng.below(4) != 0;
    let drift = [0, 10_000, 50_000, 90_000][rng.below(4) as usize];
    let rates: Vec<_> = (0..3).map(|_| 1_000_000 - drift + rng.below(2 * drift + 1)).collect();
    let settings = Settings {
        lease: lease(&mut rng, &rates, fenced, None),
        quorum: None,
        fenced,
        two_families: rng.below(3) == 0,
        by_name: rng.below(6) == 0,
        preserve: rng.below(8) == 0,
        label: rng.below(3) == 0,
        events_forbidden: rng.below(4) == 0,
        refresh: Duration::from_secs(3 + rng.below(10)),
    };
    let faults = Faults::draw(&mut rng);
    let world_rng = Rng::from_seed(rng.next_u64());
    let world_settings = settings.clone();
    let mut world = World::new(settings, &rates, world_rng).with_log(log);
    world.note(|| ("drawn".into(), format!("{faults:?} {rates:?}")));
    world.note(|| ("drawn".into(), format!("{:?}", world_settings)));
    world.faults = faults;
    world.fair_since = Nanos::MAX / 2;
    world.client.locks = rng.below(2) == 0;
    populate(&mut world, &mut rng, &rates, fenced);
    let retries = world.procs.iter().map(|it| it.lease.retry_period.as_nanos() as u64);
    let renewals = world.procs.iter().map(|it| it.lease.renew_deadline.as_nanos() as u64);
    let (retry, renew) = (retries.max().unwrap_or(0), renewals.min().unwrap_or(0));
    let slow = retry * 5 / 4;
    let bearable = renew > 4 * slow + 2 * retry;
    let plan = Plan {
        slow: if bearable && rng.below(4) == 0 { slow } else { 0 },
        foreign_leaves: rng.below(2) == 0,
        long_calm: seed.is_multiple_of(10),
        fair_leave: rng.below(2) == 0,
        edit_at_leaving: rng.below(2) == 0,
    };
    (world, plan)
}

/// Candidates of other kinds, in some runs.
fn populate(world: &mut World, rng: &mut Rng, rates: &[u64], fenced: bool) {
    if rng.below(4) == 0 {
        for proc in 0..world.procs.len() {
            let other = lease(rng, rates, fenced, Some(&world.settings.lease));
            world.procs[proc].lease = other;
        }
    }
    match rng.below(8) {
        0 => world.procs[1].name = NodeName("node-0".into()),
        1 => {
            let again = Proc::new(0, NodeName("node-0".into()), world.procs[0].lease.clone());
            world.procs.push(again);
        }
        _ => {}
    }
    let longest = world.procs.iter().map(|it| it.lease.duration.as_nanos() as u64).max();
    world.longest_lease = longest.unwrap_or(0);
    if rng.below(5) == 0 {
        let name = if rng.below(4) == 0 { "node-0" } else { "kube-vip-1" };
        let duration = (world.longest_lease + rng.below(10 * SEC)).next_multiple_of(SEC);
        world.longest_lease = duration;
        world.foreign = Some(Foreign::new(NodeName(name.into()), duration));
        world.schedule(rng.below(5 * SEC), Event::ForeignTries);
    }
}

/// Hugs the bound: generous margins would hide mistakes. A candidate that differs has a
/// lease of another length, by which its own leadership is as safe as the others'.
pub fn lease(
    rng: &mut Rng,
    rates: &[u64],
    fenced: bool,
    beside: Option<&LeaseConfig>,
) -> LeaseConfig {
    let (slowest, fastest) = (rates.iter().min(), rates.iter().max());
    let (Some(slowest), Some(fastest)) = (slowest, fastest) else { unreachable!("three hosts") };
    let seconds = [4, 5, 8, 15, 30][rng.below(5) as usize];
    let bound = seconds * SEC * slowest / fastest;
    // Without a fence the bound is the lifetime, which the kernel ends late.
    let lateness = if fenced { 0 } else { 1_300 * MS };
    let renew = bound - lateness - 5 * MS;
    let retry = renew / (3 + rng.below(8));
    LeaseConfig {
        name: beside.map_or("kube-system/plndr-cp-lock".into(), |it| it.name.clone()),
        duration: Duration::from_secs(seconds),
        renew_deadline: Duration::from_nanos(renew),
        retry_period: Duration::from_nanos(retry),
    }
}

/// L1, L2, L3: one holder, everybody knows, and it says so itself.
pub fn converge(world: &mut World) -> Result<(), String> {
    let retry = world.procs.iter().map(|it| it.lease.retry_period.as_nanos() as u64).max();
    let bound =
        world.longest_lease * 5 / 4 + 4 * retry.unwrap_or(0) + 6 * world.weather.slow + 9 * SEC;
    // A burst that was lost is made up for by the next refresh.
    let bound = bound + world.settings.refresh.as_nanos() as u64;
    world.run_for(bound)?;
    check_converged(world)
}

pub fn check_converged(world: &World) -> Result<(), String> {
    let at = |why: String| Err(format!("at {:.3}s: {why}", world.now as f64 / 1e9));
    let foreign = world.foreign.as_ref().is_some_and(|it| it.leads(world.now));
    for vip in &world.vips {
        let hosts: Vec<_> = (0..world.hosts.len()).filter(|it| world.answers(*it, *vip)).collect();
        if hosts.len() + usize::from(foreign) != 1 {
            return at(format!("L1: {vip} is answered for by {hosts:?}, foreign: {foreign}"));
        }
        if !foreign && !world.is_served(*vip) {
            return at(format!("L2: clients do not reach {vip} on {hosts:?}"));
        }
        for (proc, it) in world.procs.iter().enumerate() {
            let Some(node) = &it.node else { return at(format!("node-{proc} does not run")) };
            let status = node.status(world.local(proc));
            let says =
                status.vips.iter().any(|it| it.vip == *vip && it.state == VipState::Answering);
            let is = hosts.contains(&it.host) && world.hosts[it.host].lock == Some(proc);
            if says != is || (is && status.role != Role::Leader) {
                return at(format!("L3: node-{proc} says {says} of {vip}, is {is}: {status:?}"));
            }
        }
    }
    Ok(())
}

/// L4: nothing changes any more, but for what small pokes need repaired at once.
pub fn keep_calm(world: &mut World, long: bool) -> Result<(), String> {
    if world.foreign.as_ref().is_some_and(|it| it.is_a_double() && it.down_until <= world.now) {
        // It takes the lease from the node of its name whenever it likes.
        return Ok(());
    }
    let holder = world.api.author();
    let before = (world.takeovers, world.calls, world.side_calls, world.client.frames, world.now);
    let pokes = [
        Kind::FlushAddress,
        Kind::Edit,
        Kind::FlushRules,
        Kind::WatchCut,
        Kind::Stranger,
        Kind::Compact,
    ];
    for kind in pokes {
        let fenced = world.settings.fenced;
        if kind == Kind::FlushRules && !fenced {
            continue;
        }
        poke(world, kind)?;
    }
    let poked = world.client.frames;
    let told = |world: &World| world.procs.iter().map(|it| it.notices.len()).sum::<usize>();
    let told_before = told(world);
    world.client.measure_anew();
    let span = if long { 600 * SEC } else { 40 * SEC };
    world.run_for(span)?;
    check_converged(world)?;
    let at = |why: String| Err(format!("L4: {why}"));
    if world.api.author() != holder || world.takeovers != before.0 {
        let now = world.api.author();
        return at(format!("in calm weather {holder:?} became {now:?}"));
    }
    if told(world) > told_before {
        return at(format!("{} notices in calm weather", told(world) - told_before));
    }
    let foreign = world.foreign.as_ref().is_some_and(|it| it.leads(world.now));
    if world.client.worst > 0 && !foreign {
        return at(format!("clients were cut off for {} ns in calm weather", world.client.worst));
    }
    let refresh = world.settings.refresh.as_nanos() as u64;
    let vips = world.vips.len() as u64;
    let frames = (span * 11 / 10 / refresh + 2) * 2 * vips + 12 * vips;
    if world.client.frames - poked > frames {
        return at(format!(
            "{} announcements where {frames} are enough",
            world.client.frames - poked
        ));
    }
    let retry = world.procs.iter().map(|it| it.lease.retry_period.as_nanos() as u64).min();
    let turns = (world.now - before.4) * 5 / 4 / retry.unwrap_or(SEC) + 20;
    let calls = turns * (world.procs.len() as u64 + 1);
    if world.calls - before.1 > calls {
        return at(format!("{} requests where {calls} are enough", world.calls - before.1));
    }
    if world.side_calls - before.2
        > 60 + (world.now - before.4) / (3 * SEC) * world.procs.len() as u64
    {
        return at(format!("{} calls on the side", world.side_calls - before.2));
    }
    Ok(())
}

/// Something small happens to the holder; its clients are back in a moment.
pub fn poke(world: &mut World, kind: Kind) -> Result<(), String> {
    let vip = world.vips[0];
    let host = (0..world.hosts.len()).find(|it| world.answers(*it, vip));
    let Some(host) = host else { return Ok(()) };
    let proc = world.hosts[host].lock.unwrap_or(0);
    if kind == Kind::Stranger {
        world.note(|| ("fault".into(), "a stranger claims the VIPs once".into()));
        world.stranger_claims();
    } else {
        world.inflict(kind, host, proc, MS);
    }
    // The stranger's frame, the confirmation of leadership, and the burst; neighbours with
    // old kernels believe the frame that comes a second later.
    let patience = if world.client.locks { 2_500 * MS } else { 300 * MS };
    world.run_for(patience + 4 * world.weather.slow)?;
    let foreign = world.foreign.as_ref().is_some_and(|it| it.leads(world.now));
    let cut = world.vips.iter().find(|it| !foreign && !world.is_served(**it)).copied();
    if let Some(cut) = cut {
        return Err(format!(
            "L2: at {:.3}s clients do not reach {cut}, {:.3}s after {kind:?}",
            world.now as f64 / 1e9,
            world.client.cut_for(cut, world.now) as f64 / 1e9,
        ));
    }
    let pause = 3 * SEC + world.rng.below(SEC);
    world.run_for(pause)
}

/// L5: an orderly stop costs the clients next to nothing, whoever writes meanwhile.
fn leave(world: &mut World, edit: bool) -> Result<(), String> {
    let vip = world.vips[0];
    let host = (0..world.hosts.len()).find(|it| world.answers(*it, vip));
    let Some(proc) = host.and_then(|it| world.hosts[it].lock) else { return Ok(()) };
    let moment = world.rng.below(SEC);
    world.run_for(moment)?;
    world.client.measure_anew();
    world.stop(proc);
    if edit {
        let delay = world.rng.below(3 * MS);
        world.run_for(delay)?;
        world.inflict(Kind::Edit, 0, 0, MS);
    }
    world.run_for(2_600 * MS)?;
    // An old neighbour that has just heard one announcement believes no other for a second.
    let most = match (world.client.locks, world.settings.fenced) {
        (true, _) => 1_300 * MS,
        (false, true) => 50 * MS,
        (false, false) => 400 * MS,
    };
    let foreign = world.foreign.as_ref().is_some_and(|it| it.down_until <= world.now);
    if world.client.worst > most && !foreign {
        return Err(format!(
            "L5: clients were cut off for {} ms by a stop",
            world.client.worst / MS
        ));
    }
    Ok(())
}

/// A world in which nothing goes wrong by itself.
pub fn calm(nodes: usize, settings: Settings, seed: u64) -> World {
    let rates: Vec<_> = (0..nodes as u64).map(|it| 999_900 + 100 * it).collect();
    World::new(settings, &rates, Rng::from_seed(seed))
}
