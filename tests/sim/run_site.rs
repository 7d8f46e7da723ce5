//! One seed of Services at a site: a Lease for each or one for all, addresses of both families,
//! leased or out of pools, ports on the gateway; and all that goes wrong with those.

use std::time::Duration;

use edgevip::engine::Rng;
use edgevip::model::{IpFamily, WayKind};

use crate::checks_services::is_served;
use crate::dhcp::Dhcp;
use crate::faults::Faults;
use crate::gateway::Router;
use crate::host::{MS, Nanos, SEC};
use crate::objects::{asks_leases, leased};
use crate::run::{Stats, lease};
use crate::run_services::{Plan, all_go, bad_day, check, converge, keep_calm, leave, stats};
use crate::users::Users;
use crate::world::{Log, Settings, World};

/// Who was refused by the gateway, or heard no server, may ask again as late as that.
const PATIENCE: Nanos = 700 * SEC;

pub fn run(seed: u64, log: Log) -> Result<Stats, String> {
    let (mut world, plan) = draw(seed, log);
    bad_day(&mut world, &plan)?;
    settle(&mut world)?;
    keep_calm(&mut world)?;
    check_site(&world)?;
    if plan.all_go {
        all_go(&mut world)?;
        check_returned(&world)?;
    } else if plan.fair_leave {
        leave(&mut world)?;
    }
    Ok(stats(&world))
}

fn draw(seed: u64, log: Log) -> (World, Plan) {
    let mut rng = Rng::from_seed(seed ^ 0x0051_7e00);
    let fenced = rng.below(4) != 0;
    let drift = [0, 10_000, 50_000, 90_000][rng.below(4) as usize];
    let rates: Vec<_> = (0..3).map(|_| 1_000_000 - drift + rng.below(2 * drift + 1)).collect();
    let settings = Settings {
        lease: lease(&mut rng, &rates, fenced, None),
        fenced,
        refresh: Duration::from_secs(3 + rng.below(10)),
        ..Settings::stock()
    };
    let faults = match rng.below(3) {
        // What goes wrong with a site is to matter by itself as well.
        0 => Faults::none(),
        _ => Faults::draw(&mut rng),
    };
    let each = rng.below(2) == 0;
    let (leases, exposes) = (rng.below(2) == 0, rng.below(2) == 0);
    let users = Users {
        pace: [200 * MS, SEC, 3 * SEC][rng.below(3) as usize],
        services: 2 + rng.below(7),
        pool: if rng.below(8) == 0 { 0 } else { 2 + rng.below(11) },
        shares: !leases && rng.below(4) == 0,
        six: rng.below(2) == 0,
        leases,
        exposes,
        together: each && rng.below(2) == 0,
        ..Users::default()
    };
    let world_rng = Rng::from_seed(rng.next_u64());
    let mut world = World::new(settings, &rates, world_rng).with_log(log);
    world.faults = faults;
    world.fair_since = Nanos::MAX / 2;
    world.client.locks = rng.below(2) == 0;
    world.serve(rng.below(2) == 0, users.clone());
    if let Some(cloud) = &mut world.cloud {
        cloud.rules.each = each;
        cloud.rules.own_mac = rng.below(2) == 0;
        cloud.site.often = [0, 20, 100, 300][rng.below(4) as usize];
        cloud.site.dhcp = leases.then(|| {
            let mut it = Dhcp::new([40, 60, 120][rng.below(3) as usize]);
            it.authoritative = rng.below(3) != 0;
            it
        });
        cloud.site.router = exposes.then(|| router(&mut rng));
    }
    let drawn = format!(
        "{:?} {rates:?} {users:?} {:?} each {each} {:?} {:?}",
        world.faults,
        world.settings,
        world.cloud.as_ref().map(|it| &it.site.dhcp),
        world.cloud.as_ref().map(|it| &it.site.router),
    );
    world.note(|| ("drawn".into(), drawn));
    let plan = Plan::draw(&mut rng);
    (world, plan)
}

fn router(rng: &mut Rng) -> Router {
    use WayKind::{Igd, NatPmp, Pcp, Pinholes};
    let ways = match rng.below(5) {
        0 => vec![Igd, Pinholes],
        1 => vec![NatPmp],
        2 => vec![Pcp],
        3 => vec![Pcp, NatPmp, Igd, Pinholes],
        _ => vec![Igd],
    };
    let mut it = Router::new(ways);
    it.permanent = rng.below(4) == 0;
    it
}

/// All have what can be had; who was refused, or not answered, asks again later and later.
fn settle(world: &mut World) -> Result<(), String> {
    let soon = converge(world).and_then(|()| check_site(world));
    if let Err(why) = soon {
        if world.has_failed() || is_of_safety(&why) {
            return Err(why);
        }
        world.run_for(PATIENCE)?;
        check(world)?;
        check_site(world)?;
    }
    Ok(())
}

fn is_of_safety(why: &str) -> bool {
    why.split(": ").any(|it| it.starts_with('S') && it.len() < 4)
}

/// What servers and the gateway have is what is wanted of them.
pub fn check_site(world: &World) -> Result<(), String> {
    // What has been asked for since then was asked for in calm weather.
    world.check_ports(world.fair_since + 120 * SEC)?;
    let Some(cloud) = &world.cloud else { return Ok(()) };
    let Some(dhcp) = &cloud.site.dhcp else { return Ok(()) };
    let at = |why: String| Err(format!("at {:.3}s: {why}", world.now as f64 / 1e9));
    for it in cloud.objects.services().filter(|it| is_served(it)) {
        for family in asks_leases(it) {
            let told = leased(it).find(|it| it.0 == family).map(|it| it.1);
            let given = dhcp.bound.get(&(it.uid.clone(), family));
            let given = given.filter(|it| it.until > world.now).map(|it| it.ip);
            let orphaned = world.is_orphaned(it);
            if !world.is_refused(it) && !orphaned && (told.is_none() || told != given) {
                return at(format!("D2: {} says {told:?}, leased is {given:?}", it.name));
            }
        }
    }
    let asks = |uid: &str, family: IpFamily| {
        let mut all = cloud.objects.services().filter(|it| is_served(it));
        all.any(|it| it.uid == uid && asks_leases(it).contains(&family))
    };
    for (of, by) in &dhcp.askers {
        let late = by.iter().filter(|it| *it.1 + 20 * SEC > world.now && world.now > *it.1);
        if by.len() > 1 && late.count() > 1 {
            return at(format!("D4: several nodes ask for the lease of {of:?}: {by:?}"));
        }
    }
    let late = world.fair_since + 120 * SEC;
    for ((uid, family), it) in &dhcp.bound {
        if !asks(uid, *family) && it.given_at > late {
            return at(format!("D3: node-{} renews {} of {uid}, who is gone", it.by, it.ip));
        }
    }
    Ok(())
}

/// Services were deleted in fair weather: what they had is given back.
fn check_returned(world: &World) -> Result<(), String> {
    let Some(cloud) = &world.cloud else { return Ok(()) };
    let late = world.fair_since + 120 * SEC;
    if let Some(dhcp) = &cloud.site.dhcp {
        let mut kept = dhcp.bound.iter().filter(|it| it.1.given_at > late);
        if let Some((of, it)) = kept.find(|it| it.1.until > world.now) {
            return Err(format!("D3: {} of {of:?} is not given back", it.ip));
        }
    }
    if let Some(router) = &cloud.site.router {
        let mut kept = router.table.iter().filter(|it| it.1.renewed_at > late);
        if let Some((key, it)) = kept.find(|it| it.1.until.is_none_or(|it| it > world.now)) {
            return Err(format!("G3: {key:?} still leads to {}", it.client));
        }
    }
    Ok(())
}
