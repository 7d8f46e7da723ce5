//! What a site has beside nodes: a DHCP server and a gateway, and what goes wrong with them.

use std::net::IpAddr;

use edgevip::engine::Action;
use edgevip::model::{Instant, KernelJob};

use crate::dhcp::Dhcp;
use crate::gateway::Router;
use crate::host::{MS, SEC};
use crate::world::World;

/// How Services are served, where it is not by one Lease and out of pools alone.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Each has a Lease.
    pub each: bool,
    /// Of each leased address, the hardware address is its own.
    pub own_mac: bool,
    /// Nothing reaches their addresses but their ports.
    pub guards: bool,
}

#[derive(Default)]
pub struct Site {
    pub dhcp: Option<Dhcp>,
    pub router: Option<Router>,
    /// How often something goes wrong, in a thousand, each second.
    pub often: u64,
}

impl Site {
    /// All that a client was ever given.
    pub fn leased_to(&self, uid: &str) -> Vec<IpAddr> {
        let ever = self.dhcp.iter().flat_map(|it| &it.ever);
        ever.filter(|it| it.1 == uid).map(|it| *it.0).collect()
    }

    /// Who was given it last.
    pub fn leased_by(&self, ip: IpAddr) -> Option<String> {
        self.dhcp.as_ref()?.ever.get(&ip).cloned()
    }

    pub fn heal(&mut self) {
        self.often = 0;
        self.dhcp.iter_mut().for_each(Dhcp::heal);
        self.router.iter_mut().for_each(Router::heal);
    }
}

impl World {
    /// Once a simulated second: maybe something goes wrong with the site.
    pub fn mischief_at_site(&mut self) {
        let Some(often) = self.cloud.as_ref().map(|it| it.site.often) else { return };
        if self.chance(often) {
            let span = self.some_trouble();
            let what = self.rng.below(6);
            let more = self.rng.below(900);
            self.trouble_dhcp(what, span, more);
        }
        if self.chance(often) {
            let span = self.some_trouble();
            let what = self.rng.below(6);
            let more = self.rng.below(900);
            self.trouble_router(what, span, more);
        }
    }

    fn some_trouble(&mut self) -> u64 {
        let most = [SEC, 10 * SEC, 60 * SEC][self.rng.below(3) as usize];
        100 * MS + self.rng.below(most)
    }

    /// D1 and G1 of what is ordered.
    pub fn check_site(&mut self, proc: usize, now: Instant, action: &Action) -> Option<String> {
        match action {
            Action::Gateway { call, .. } => self.check_mapped(proc, call),
            Action::Kernel { job: KernelJob::Answer { vips, until }, .. } => {
                self.check_leased(proc, now, vips, *until)
            }
            Action::Kernel { job: KernelJob::HoldAddress { vip, until, .. }, .. }
                if !self.settings.fenced =>
            {
                self.check_leased(proc, now, &[*vip], *until)
            }
            _ => None,
        }
    }

    fn trouble_dhcp(&mut self, what: u64, span: u64, more: u64) {
        let now = self.now;
        let Some(it) = self.cloud.as_mut().and_then(|it| it.site.dhcp.as_mut()) else { return };
        match what {
            0 => it.down_until = now + span,
            1 => it.slow = span / 4,
            2 => it.loss = more,
            3 => it.refuses = more,
            // It starts again, and has forgotten.
            4 => it.bound.clear(),
            _ => it.numbering += 1,
        }
        self.note(|| ("fault".into(), format!("dhcp {what} {:.3}s {more}", span as f64 / 1e9)));
    }

    fn trouble_router(&mut self, what: u64, span: u64, more: u64) {
        let now = self.now;
        let Some(it) = self.cloud.as_mut().and_then(|it| it.site.router.as_mut()) else { return };
        match what {
            0 => it.down_until = now + span,
            1 => it.slow = span / 8,
            2 => it.loss = more,
            3 => it.refuses_until = now + span,
            4 => it.lies = more / 2,
            _ => it.reboot(now, span / 4),
        }
        self.note(|| ("fault".into(), format!("router {what} {:.3}s {more}", span as f64 / 1e9)));
    }
}
