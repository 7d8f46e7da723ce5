//! The site's gateway: it maps ports for whom it hears, keeps them for a while, and forgets them
//! when it starts anew (RFC 6886, RFC 6887, WANIPConnection:2, WANIPv6FirewallControl:1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use edgevip::engine::Input;
use edgevip::model::{
    Exposed, GatewayCall, GatewayFault, GatewayNo, GatewayReply, Granted, IpFamily, MappingEntry,
    Nonce, Protocol, RequestId, UpnpControl, Vip, Way, WayKind,
};

use crate::checks_services::is_served;
use crate::host::{MS, Nanos, SEC};
use crate::objects::known_by;
use crate::world::{Event, World};

const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const ROUTER6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
/// Its address outside.
pub const EXTERNAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));
/// Nobody waits longer for an answer.
const WITHIN: Nanos = 4 * SEC;

/// What is mapped: of IPv4 a port of its one address, of IPv6 one of an address inside.
type Key = (Option<IpAddr>, u16, Protocol);

#[derive(Clone, Debug)]
pub struct Router {
    pub ways: Vec<WayKind>,
    /// It maps for good, or not.
    pub permanent: bool,
    pub down_until: Nanos,
    pub slow: Nanos,
    pub loss: u64,
    pub refuses_until: Nanos,
    /// In a thousand: says that it has done what it has not.
    pub lies: u64,
    started_at: Nanos,
    pub table: BTreeMap<Key, Mapping>,
    pinholes: u16,
    pub mapped: u64,
}

#[derive(Clone, Debug)]
pub struct Mapping {
    pub client: Vip,
    pub until: Option<Nanos>,
    pub renewed_at: Nanos,
    nonce: Nonce,
    id: u16,
}

impl Router {
    pub fn new(ways: Vec<WayKind>) -> Self {
        Self {
            ways,
            permanent: false,
            down_until: 0,
            slow: 0,
            loss: 0,
            refuses_until: 0,
            lies: 0,
            started_at: 0,
            table: BTreeMap::new(),
            pinholes: 0,
            mapped: 0,
        }
    }

    pub fn heal(&mut self) {
        (self.down_until, self.slow, self.loss, self.refuses_until, self.lies) = (0, 0, 0, 0, 0);
    }

    pub fn reboot(&mut self, now: Nanos, span: Nanos) {
        self.table.clear();
        self.down_until = now + span;
        self.started_at = self.down_until;
    }

    pub fn expire(&mut self, now: Nanos) {
        self.table.retain(|_, it| it.until.is_none_or(|until| until > now));
    }

    /// What it has for a port, whoever has it.
    pub fn find(&self, exposed: &Exposed) -> Option<&Mapping> {
        self.table.get(&key(exposed))
    }

    fn epoch(&self, now: Nanos) -> Option<u32> {
        Some((now.saturating_sub(self.started_at) / SEC) as u32)
    }

    fn answer(&mut self, now: Nanos, call: &GatewayCall, lies: bool, no: u64) -> GatewayReply {
        self.expire(now);
        let (way, exposed) = match call {
            GatewayCall::Find { from, without, .. } => {
                let family = IpFamily::of(from.0);
                let ways = self.ways.iter().copied().filter(|it| !without.contains(it));
                let way = ways.filter_map(|it| way_of(it, family)).next();
                let none = || GatewayReply::Failed("nobody answers".into());
                return way.map_or_else(none, GatewayReply::Found);
            }
            GatewayCall::Look { way, .. } => {
                let clock = matches!(way.kind(), WayKind::NatPmp | WayKind::Pcp);
                let external = Some(EXTERNAL).filter(|_| way.address().is_ipv4());
                let epoch = self.epoch(now).filter(|_| clock);
                return GatewayReply::Looked { external, epoch };
            }
            GatewayCall::Map { way, exposed, .. }
            | GatewayCall::Read { way, exposed }
            | GatewayCall::Unmap { way, exposed, .. } => (way.kind(), exposed),
        };
        if self.refuses_until > now {
            let no = [GatewayNo::Other, GatewayNo::NotAllowed, GatewayNo::Unsupported];
            return refused(no[(now / MS % 3) as usize], 501);
        }
        let found = self.table.get(&key(exposed)).cloned();
        let ours = found.as_ref().filter(|it| it.client == exposed.vip);
        match call {
            GatewayCall::Map { lease, nonce, .. } => {
                self.map(now, (way, exposed), *lease, *nonce, lies)
            }
            GatewayCall::Read { .. } if matches!(way, WayKind::Igd) => {
                GatewayReply::Read(found.map(|it| MappingEntry {
                    client: it.client.0.to_string(),
                    port: exposed.port.port,
                    enabled: true,
                    left: it.until.map_or(0, |it| (it.saturating_sub(now).div_ceil(SEC)) as u32),
                }))
            }
            GatewayCall::Read { .. } => refused(GatewayNo::Unsupported, 401),
            GatewayCall::Unmap { nonce, pinhole, .. } => {
                let may = match way {
                    // Some let anybody close anything.
                    WayKind::Igd => found.is_some() && (ours.is_some() || no == 0),
                    WayKind::NatPmp => ours.is_some(),
                    WayKind::Pcp => ours.is_some_and(|it| it.nonce == *nonce),
                    WayKind::Pinholes => ours.is_some_and(|it| Some(it.id) == *pinhole),
                };
                if may && !lies {
                    self.table.remove(&key(exposed));
                }
                GatewayReply::Unmapped
            }
            GatewayCall::Find { .. } | GatewayCall::Look { .. } => unreachable!("answered above"),
        }
    }

    fn map(
        &mut self,
        now: Nanos,
        (way, exposed): (WayKind, &Exposed),
        lease: u32,
        nonce: Nonce,
        lies: bool,
    ) -> GatewayReply {
        if self.permanent && lease > 0 && way == WayKind::Igd {
            return refused(GatewayNo::OnlyPermanent, 725);
        }
        let clock = matches!(way, WayKind::NatPmp | WayKind::Pcp);
        let mut granted = Granted {
            port: exposed.port.port,
            lease,
            external: Some(EXTERNAL).filter(|_| way == WayKind::Pcp && exposed.vip.0.is_ipv4()),
            epoch: self.epoch(now).filter(|_| clock),
            pinhole: None,
        };
        let found = self.table.get(&key(exposed));
        if let Some(other) = found.filter(|it| it.client != exposed.vip) {
            let _ = other;
            return match way {
                WayKind::Igd => refused(GatewayNo::Taken, 718),
                // Another port is given, which is not what was asked for.
                _ => {
                    granted.port += 10_000;
                    GatewayReply::Mapped(granted)
                }
            };
        }
        if found.is_some_and(|it| way == WayKind::Pcp && it.nonce != nonce) {
            return refused(GatewayNo::NotAllowed, 2);
        }
        // Without an end there is none of NAT-PMP and PCP: they take what is long.
        if lease == 0 && clock {
            granted.lease = 7_200;
        }
        let until = (granted.lease > 0).then(|| now + u64::from(granted.lease) * SEC);
        let id = found.map(|it| it.id).unwrap_or_else(|| {
            self.pinholes = self.pinholes.wrapping_add(1);
            self.pinholes
        });
        granted.pinhole = (way == WayKind::Pinholes).then_some(id);
        if !lies {
            self.mapped += 1;
            let it = Mapping { client: exposed.vip, until, renewed_at: now, nonce, id };
            self.table.insert(key(exposed), it);
        }
        GatewayReply::Mapped(granted)
    }
}

fn key(exposed: &Exposed) -> Key {
    let inside = Some(exposed.vip.0).filter(IpAddr::is_ipv6);
    (inside, exposed.port.port, exposed.port.protocol)
}

fn refused(no: GatewayNo, code: u16) -> GatewayReply {
    GatewayReply::Refused(GatewayFault { no, code, words: "no".into() })
}

fn way_of(kind: WayKind, family: IpFamily) -> Option<Way> {
    let address = if family == IpFamily::V4 { ROUTER } else { ROUTER6 };
    let control = |service: &str| UpnpControl {
        address: (address, 5_000).into(),
        path: "/control".into(),
        service: service.into(),
    };
    match (kind, family) {
        (WayKind::Igd, IpFamily::V4) => Some(Way::Igd(control("WANIPConnection:2"))),
        (WayKind::NatPmp, IpFamily::V4) => Some(Way::NatPmp((address, 5_351).into())),
        (WayKind::Pcp, _) => Some(Way::Pcp((address, 5_351).into())),
        (WayKind::Pinholes, IpFamily::V6) => {
            Some(Way::Pinholes(control("WANIPv6FirewallControl:1")))
        }
        (WayKind::Igd | WayKind::NatPmp, IpFamily::V6) | (WayKind::Pinholes, IpFamily::V4) => None,
    }
}

/// Who speaks.
fn from(call: &GatewayCall) -> Vip {
    match call {
        GatewayCall::Find { from, .. } | GatewayCall::Look { from, .. } => *from,
        GatewayCall::Map { exposed, .. }
        | GatewayCall::Read { exposed, .. }
        | GatewayCall::Unmap { exposed, .. } => exposed.vip,
    }
}

impl World {
    pub fn ask_gateway(&mut self, proc: usize, request: RequestId, call: GatewayCall) {
        let Some(cloud) = self.cloud.as_mut().filter(|it| it.site.router.is_some()) else {
            return self.fail(format!("node-{proc}: no gateway here, but {call:?}"));
        };
        let life = self.procs[proc].life;
        cloud.desks[proc].to_gateway.insert(request);
        let late = Box::new(GatewayReply::Failed("no answer".into()));
        self.schedule(WITHIN, Event::HearGateway { proc, life, request, reply: late });
        let delay = self.quick(2 * MS, self.faults.lan_tail);
        self.schedule(delay, Event::AskGateway { proc, life, request, call: Box::new(call) });
    }

    /// A request reaches the gateway; its answer, whoever answers for the address it came from.
    pub fn on_ask_gateway(&mut self, ask: Event) {
        let Event::AskGateway { proc, life, request, call } = ask else { return };
        let (now, host, vip) = (self.now, self.procs[proc].host, from(&call));
        let loud = self.hosts[host].can_send(now) && self.answers(host, vip);
        let router = self.cloud.as_ref().and_then(|it| it.site.router.as_ref());
        let Some((loss, lies, slow)) = router.map(|it| (it.loss, it.lies, it.slow)) else { return };
        let (lost, lies, no) = (self.chance(loss), self.chance(lies), self.rng.below(2));
        let router = self.cloud.as_mut().and_then(|it| it.site.router.as_mut());
        let Some(router) = router.filter(|it| loud && !lost && it.down_until <= now) else {
            return;
        };
        let reply = router.answer(now, &call, lies, no);
        self.note(|| ("gateway".into(), format!("node-{proc} {request:?} {call:?} -> {reply:?}")));
        let unheard = self.chance(loss) || !self.hosts[host].can_receive(now);
        if !unheard {
            let delay = self.quick(MS, self.faults.lan_tail) + self.rng.below(slow + 1);
            let reply = Box::new(reply);
            self.schedule(delay, Event::HearGateway { proc, life, request, reply });
        }
    }

    /// An answer comes, or the time for one is over: the first that does.
    pub fn on_hear_gateway(
        &mut self,
        (proc, life): (usize, u32),
        request: RequestId,
        reply: GatewayReply,
    ) {
        let lives = self.procs[proc].life == life;
        let Some(cloud) = self.cloud.as_mut().filter(|_| lives) else { return };
        if cloud.desks[proc].to_gateway.remove(&request) {
            self.deliver(proc, Input::Gateway { request, reply });
        }
    }

    /// G1, when a process decides: it opens what some Service wants that it was told of.
    pub fn check_mapped(&self, proc: usize, call: &GatewayCall) -> Option<String> {
        let GatewayCall::Map { exposed, .. } = call else { return None };
        let cloud = self.cloud.as_ref()?;
        let mut all = cloud.desks[proc].told.services.values();
        let wants = |it: &&edgevip::model::Service| {
            crate::users::is_exposed(it)
                && it.ports.contains(&exposed.port)
                && self.addresses_of(it).contains(&exposed.vip.0)
        };
        let none = all.find(wants).is_none();
        none.then(|| format!("G1: opens {exposed}, which nobody wants"))
    }

    /// G2 and G3: the gateway has what is wanted of it, and nothing else that anybody renews.
    pub fn check_ports(&self, calm_since: Nanos) -> Result<(), String> {
        let Some(cloud) = &self.cloud else { return Ok(()) };
        let Some(router) = &cloud.site.router else { return Ok(()) };
        let mut wanted: BTreeMap<Key, BTreeSet<Vip>> = BTreeMap::new();
        let mut known: BTreeMap<IpAddr, u32> = BTreeMap::new();
        let served = cloud.objects.services().filter(|it| is_served(it));
        served.flat_map(known_by).for_each(|ip| *known.entry(ip).or_default() += 1);
        // Of several one may have it, and it may be one that wants no ports.
        let contested = |vips: &BTreeSet<Vip>| vips.iter().all(|it| known.get(&it.0) > Some(&1));
        for it in cloud.objects.services().filter(|it| crate::users::is_exposed(it)) {
            // Of those that do not get what they ask for, nobody is to wait for anything.
            for ip in self.addresses_of(it) {
                if self.is_refused(it) {
                    continue;
                }
                let vip = Vip(ip);
                let stands = it.status_names(ip);
                if self.answering(vip).len() == 1 && stands {
                    for port in &it.ports {
                        let exposed = Exposed { vip, port: *port };
                        wanted.entry(key(&exposed)).or_default().insert(vip);
                    }
                }
            }
        }
        let speaks = |key: &Key| {
            let family = if key.0.is_none() { IpFamily::V4 } else { IpFamily::V6 };
            router.ways.iter().any(|it| way_of(*it, family).is_some())
        };
        let now = self.now;
        let lives = |it: &&Mapping| it.until.is_none_or(|until| until > now);
        for (key, vips) in wanted.iter().filter(|it| speaks(it.0)) {
            match router.table.get(key).filter(lives) {
                None if contested(vips) => {}
                None => {
                    return Err(format!(
                        "G2: {key:?} of {vips:?} is not on the gateway: {:?}",
                        router.table
                    ));
                }
                // It keeps that for whom it was until then.
                Some(it) if !vips.contains(&it.client) && it.renewed_at > calm_since => {
                    return Err(format!("G3: {key:?} leads to {}", it.client));
                }
                Some(_) => {}
            }
        }
        let mut all = router.table.iter().filter(|it| lives(&it.1));
        let nobodys =
            |it: &(&Key, &Mapping)| it.1.renewed_at > calm_since && !wanted.contains_key(it.0);
        match all.find(nobodys) {
            Some((key, it)) => {
                Err(format!("G3: {key:?} leads to {}, and nobody wants that", it.client))
            }
            None => Ok(()),
        }
    }
}
