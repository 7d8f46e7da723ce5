//! A gateway that has what it was asked for, as far as its script says.

use super::*;

pub(super) struct Model {
    pub kind: Option<WayKind>,
    /// To whom ports lead, and when that ends.
    pub ports: BTreeMap<u16, (String, Option<Instant>)>,
    pub started: Instant,
    /// It answers this to whoever asks for a port.
    pub no: Option<(GatewayNo, u16)>,
    pub permanent_only: bool,
    /// It says yes, and does nothing.
    pub lies: bool,
    /// It gives another port instead.
    pub shifts: bool,
    /// It leaves the end of a lease as it was.
    pub never_extends: bool,
    pub dead: bool,
}

impl Model {
    pub fn answer(&mut self, now: Instant, call: &GatewayCall) -> GatewayReply {
        if self.dead {
            return GatewayReply::Failed("it does not answer".into());
        }
        self.ports.retain(|_, it| it.1.is_none_or(|it| it > now));
        let upnp = self.kind == Some(WayKind::Igd);
        let epoch = now.saturating_since(self.started).as_secs() as u32;
        match call {
            GatewayCall::Find { without, .. } => match self.kind {
                Some(kind) if !without.contains(&kind) => GatewayReply::Found(way(kind)),
                _ if !without.is_empty() => GatewayReply::Found(way(WayKind::Igd)),
                _ => GatewayReply::Failed("nobody answers".into()),
            },
            GatewayCall::Look { .. } => GatewayReply::Looked {
                external: OUTSIDE.parse().ok(),
                epoch: (!upnp).then_some(epoch),
            },
            GatewayCall::Map { way, exposed, lease, .. } => {
                self.map(now, way, exposed, *lease, (!upnp).then_some(epoch))
            }
            GatewayCall::Read { exposed, .. } => {
                let found = self.ports.get(&exposed.port.port);
                GatewayReply::Read(found.map(|(client, until)| MappingEntry {
                    client: client.clone(),
                    port: exposed.port.port,
                    enabled: true,
                    left: until.map_or(0, |it| it.saturating_since(now).as_secs() as u32),
                }))
            }
            GatewayCall::Unmap { exposed, .. } => {
                // By UPnP many let anybody close anything.
                let ours = self.ports.get(&exposed.port.port).map(|it| it.0 == VIP.to_string());
                if upnp || ours == Some(true) {
                    self.ports.remove(&exposed.port.port);
                }
                GatewayReply::Unmapped
            }
        }
    }

    pub fn map(
        &mut self,
        now: Instant,
        way: &Way,
        exposed: &Exposed,
        lease: u32,
        epoch: Option<u32>,
    ) -> GatewayReply {
        let refuse = |no, code| {
            GatewayReply::Refused(GatewayFault { no, code, words: "by the script".into() })
        };
        let port = exposed.port.port;
        let taken = self.ports.get(&port).is_some_and(|it| it.0 != exposed.vip.to_string());
        match self.no {
            // It would not by this way, but by UPnP.
            Some((no, code)) if Some(way.kind()) == self.kind => return refuse(no, code),
            Some(_) | None => {}
        }
        if taken {
            return refuse(GatewayNo::Taken, 718);
        }
        if self.permanent_only && lease > 0 {
            return refuse(GatewayNo::OnlyPermanent, 725);
        }
        let port = if self.shifts { port + 1 } else { port };
        let until = (lease > 0).then(|| now + Duration::from_secs(lease.into()));
        if !(self.lies || self.never_extends && self.ports.contains_key(&port)) {
            self.ports.insert(port, (exposed.vip.to_string(), until));
        }
        GatewayReply::Mapped(Granted { port, lease, epoch, ..Granted::default() })
    }

    pub fn forget(&mut self, now: Instant) {
        self.ports.clear();
        self.started = now;
    }
}

pub(super) fn way(kind: WayKind) -> Way {
    let address = "10.0.0.1:5351".parse().unwrap();
    let control = UpnpControl { address, path: "/ctl".into(), service: "s".into() };
    match kind {
        WayKind::Igd => Way::Igd(control),
        WayKind::NatPmp => Way::NatPmp(address),
        WayKind::Pcp => Way::Pcp(address),
        WayKind::Pinholes => Way::Pinholes(control),
    }
}
