//! One seed of Services: users make, change and delete them while all sorts of things go
//! wrong; then both rest, and everybody has what can be had, and nothing is left of the rest.

use std::time::Duration;

use edgevip::engine::Rng;
use edgevip::model::Vip;

use crate::cloud::Cloud;
use crate::faults::{Faults, Kind};
use crate::host::{MS, Nanos, SEC};
use crate::run::{Stats, check_converged, lease};
use crate::users::Users;
use crate::world::{Log, Settings, World};

const BAD: Nanos = 60 * SEC;
/// An address that was freed is not given to others for so long.
const RESTED: Nanos = 70 * SEC;
/// One that somebody was heard on is not tried again for so long.
const FORGOTTEN: Nanos = 330 * SEC;

/// Safety under faults, then liveness once they stop.
pub fn run(seed: u64, log: Log) -> Result<Stats, String> {
    let (mut world, plan) = draw(seed, log);
    bad_day(&mut world, &plan)?;
    converge(&mut world)?;
    keep_calm(&mut world)?;
    if plan.all_go {
        all_go(&mut world)?;
    } else if plan.fair_leave {
        leave(&mut world)?;
    }
    Ok(stats(&world))
}

/// What comes after a bad day.
#[derive(Debug)]
pub struct Plan {
    pub all_go: bool,
    pub fair_leave: bool,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        Self { all_go: rng.below(2) == 0, fair_leave: rng.below(2) == 0 }
    }
}

/// All sorts of things go wrong; then they do no more, and users rest.
pub fn bad_day(world: &mut World, plan: &Plan) -> Result<(), String> {
    world.note(|| ("drawn".into(), format!("{plan:?}")));
    world.settle_in();
    world.start_all();
    world.run_until(BAD)?;
    world.heal();
    world.users_rest();
    Ok(())
}

pub fn stats(world: &World) -> Stats {
    Stats {
        events: world.events,
        takeovers: world.takeovers + world.cloud.as_ref().map_or(0, |it| it.moves),
        simulated: world.now,
        fingerprint: world.fingerprint(),
    }
}

fn draw(seed: u64, log: Log) -> (World, Plan) {
    let mut rng = Rng::from_seed(seed ^ 0x5e17_1ce5);
    let fenced = rng.below(4) != 0;
    let drift = [0, 10_000, 50_000, 90_000][rng.below(4) as usize];
    let rates: Vec<_> = (0..3).map(|_| 1_000_000 - drift + rng.below(2 * drift + 1)).collect();
    let settings = Settings {
        lease: lease(&mut rng, &rates, fenced, None),
        fenced,
        label: rng.below(4) == 0,
        refresh: Duration::from_secs(3 + rng.below(10)),
        ..Settings::stock()
    };
    let faults = Faults::draw(&mut rng);
    let users = Users {
        pace: [200 * MS, SEC, 3 * SEC][rng.below(3) as usize],
        services: 2 + rng.below(9),
        pool: if rng.below(8) == 0 { 0 } else { 2 + rng.below(11) },
        shares: rng.below(3) == 0,
        ..Users::default()
    };
    let world_rng = Rng::from_seed(rng.next_u64());
    let mut world = World::new(settings, &rates, world_rng).with_log(log);
    let drawn = format!("{faults:?} {rates:?} {users:?} {:?}", world.settings);
    world.note(|| ("drawn".into(), drawn));
    world.faults = faults;
    world.fair_since = Nanos::MAX / 2;
    world.client.locks = rng.below(2) == 0;
    world.serve(rng.below(2) == 0, users);
    let plan = Plan::draw(&mut rng);
    (world, plan)
}

impl World {
    /// Processes serve Services; with VIPs of the control plane beside, or without.
    pub fn serve(&mut self, control: bool, users: Users) {
        let mut cloud = Cloud::new(self.procs.len(), control);
        cloud.users = users;
        if !control {
            self.vips.clear();
        }
        self.cloud = Some(Box::new(cloud));
    }
}

/// Leases run out, lists are read anew, what was freed has rested; then all have what can be
/// had. What somebody was heard on rests for longer.
pub fn converge(world: &mut World) -> Result<(), String> {
    let retry = world.settings.lease.retry_period.as_nanos() as Nanos;
    let bound = 2 * world.longest_lease + 4 * retry + 30 * SEC;
    world.run_for(bound + RESTED)?;
    if world.unserved().is_some() {
        world.run_for(FORGOTTEN)?;
    }
    check(world)
}

pub fn check(world: &World) -> Result<(), String> {
    if !world.vips.is_empty() {
        check_converged(world)?;
    }
    world.check_served()?;
    world.unserved().map_or(Ok(()), Err)
}

/// L4: nothing moves, nobody is told anything, nothing is written, but for small pokes.
pub fn keep_calm(world: &mut World) -> Result<(), String> {
    let kinds = [Kind::WatchCut, Kind::Compact, Kind::Edit, Kind::FlushAddress, Kind::FlushRules];
    for kind in kinds {
        if kind == Kind::FlushRules && !world.settings.fenced {
            continue;
        }
        let proc = world.rng.below(world.procs.len() as u64) as usize;
        world.inflict(kind, world.procs[proc].host, proc, MS);
        let pause = 3 * SEC + world.rng.below(SEC);
        world.run_for(pause)?;
        check(world).map_err(|it| format!("{it}, after {kind:?}"))?;
    }
    let told = |world: &World| world.procs.iter().map(|it| it.notices.len()).sum::<usize>();
    let said = |world: &World| {
        let cloud = world.cloud.as_ref();
        cloud.map_or((0, 0, 0, 0), |it| (it.writes, it.conflicts, it.events, it.moves))
    };
    let (said_before, told_before) = (said(world), told(world));
    let authors = [1, 2].map(|of| world.api_of(of).author());
    let own = |world: &World| world.cloud.as_ref().map(|it| it.own.authors());
    let own_before = own(world);
    world.run_for(40 * SEC)?;
    check(world)?;
    if said(world) != said_before {
        let now = said(world);
        return Err(format!("L4: writes, conflicts, Events, moves: {said_before:?}, then {now:?}"));
    }
    if told(world) > told_before {
        return Err(format!("L4: {} notices in calm weather", told(world) - told_before));
    }
    if [1, 2].map(|of| world.api_of(of).author()) != authors {
        return Err("L4: in calm weather a Lease of Services has another holder".into());
    }
    if own(world) != own_before {
        let now = own(world);
        return Err(format!("L4: in calm weather Leases change hands: {own_before:?}, {now:?}"));
    }
    Ok(())
}

/// All Services are deleted: nothing is left.
pub fn all_go(world: &mut World) -> Result<(), String> {
    world.delete_all();
    world.run_for(5 * SEC)?;
    check(world)?;
    let left = (0..world.hosts.len()).find(|it| world.held_of_services(*it).next().is_some());
    left.map_or(Ok(()), |it| Err(format!("C3: host-{it} has an address, and there is no Service")))
}

/// L5: an orderly stop of who carries Services costs their clients next to nothing.
pub fn leave(world: &mut World) -> Result<(), String> {
    let author = world.api_of(1).author();
    let each = world.elects_each();
    let some = if each { world.rng.below(world.procs.len() as u64) as usize } else { 0 };
    let carrier = world.procs.iter().position(|it| Some(it.author) == author);
    let Some(proc) = carrier.or(each.then_some(some)) else {
        return Ok(());
    };
    let moment = world.rng.below(SEC);
    world.run_for(moment)?;
    // What is served on one node only does not move.
    let global = |it: &Vip| {
        let users =
            world.objects().services().filter(|of| crate::objects::known_by(of).contains(&it.0));
        users.into_iter().all(|it| !it.local) && world.answering(*it) == [world.procs[proc].host]
    };
    let carried: Vec<_> = world.service_addresses().into_iter().filter(global).collect();
    world.stop(proc);
    world.run_for(2_600 * MS)?;
    for vip in carried {
        if world.answering(vip).len() != 1 {
            return Err(format!("L5: nobody took {vip} of a Service over from node-{proc}"));
        }
    }
    Ok(())
}
