//! Services that are to be reached through the site's gateway: which of their ports are wanted
//! there, and what is told of them. The node that answers for an address sees to its ports.
//!
//! Gateways map only whom they hear, so an address whose Service is gone, or that comes to hang on
//! the Lease of another or to be one's who is not served here, stays until the ports that nobody
//! wants any more are closed, or until that has taken too long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Known, Place, Services};
use crate::engine::mapping::{self, Mappings, Site, Standing};
use crate::engine::network::LinkChoice;
use crate::engine::{Action, Cx, Deadline, Notice};
use crate::model::{
    Exposed, GatewayRefusal, GatewayReply, Instant, LinkName, MappingStatus, ObjectCall,
    ObjectName, RequestId, ServicePort, Vip,
};

/// So long an address stays for its ports to be closed.
const LINGER: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Default)]
pub(super) struct Exposing {
    /// `None`: the setting is off.
    mappings: Option<Mappings>,
    /// Of these, something may be other than it was.
    open: BTreeSet<IpAddr>,
    /// What is nobody's here any more, and until when it stays.
    lingering: BTreeMap<IpAddr, Instant>,
    /// Whose place has to be decided anew.
    unsettled: BTreeSet<IpAddr>,
    told: BTreeMap<ObjectName, BTreeSet<Words>>,
}

/// Something that is told of a Service: its reason and what it is about make it the same.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Words {
    reason: &'static str,
    about: String,
}

/// What an Event says.
struct Telling {
    words: Words,
    code: Option<&'static str>,
    message: String,
}

impl Exposing {
    pub fn new(on: bool) -> Self {
        Self { mappings: on.then(Mappings::default), ..Self::default() }
    }

    /// Somebody else asks for the address than before, or for something else.
    pub fn look_at(&mut self, ip: IpAddr) {
        if self.mappings.is_some() {
            self.open.insert(ip);
        }
    }

    pub fn forget(&mut self, name: &ObjectName) {
        self.told.remove(name);
    }

    pub fn deadline(&self, now: Instant) -> Option<Deadline> {
        let asks = self.mappings.as_ref().and_then(Mappings::deadline);
        let unsettled = (!self.unsettled.is_empty())
            .then_some(Deadline { at: now, why: "an address is nobody's" });
        let lingers = self.lingering.values().min();
        let lingers = lingers.map(|at| Deadline { at: *at, why: "ports are not closed" });
        asks.into_iter().chain(unsettled).chain(lingers).min()
    }

    /// Whether the gateway may have ports of the address that are not among these.
    fn keeps_others(&self, vip: Vip, than: &BTreeMap<ServicePort, mapping::Wish>) -> bool {
        self.mappings.as_ref().is_some_and(|it| it.has_more(vip, than))
    }
}

impl Services {
    /// The place that an address had, as long as ports of those who had it are being closed:
    /// `next` is nobody's, or hangs on another Lease, by which this node need not answer, or is of
    /// somebody who is not served here.
    pub(super) fn lingering(
        &mut self,
        now: Instant,
        vip: Vip,
        next: Option<&Place>,
    ) -> Option<Place> {
        let lease = |it: &Place| it.elected_by.as_ref().map(|it| it.name.clone());
        let old = self.place(vip).filter(|_| self.answers(vip.0))?;
        let goes = next.is_none_or(|it| lease(it) != lease(old) || it.refusal(true).is_some());
        if !goes || !self.exposing.keeps_others(vip, &self.ports(vip.0)) {
            self.exposing.lingering.remove(&vip.0);
            return None;
        }
        let mut old = old.clone();
        // What was leased is soon another's.
        old.until = old.until.map(|until| until.min(now + LINGER));
        self.exposing.lingering.entry(vip.0).or_insert(now + LINGER);
        Some(old)
    }

    pub fn on_gateway(&mut self, cx: &mut Cx<'_>, request: RequestId, reply: &GatewayReply) {
        let Some(mappings) = &mut self.exposing.mappings else {
            return;
        };
        mappings.on_reply(cx, request, reply);
        if *reply == GatewayReply::Unmapped {
            // It gets on with them: those that wait for their turn wait for no dead gateway.
            self.exposing.lingering.values_mut().for_each(|at| *at = cx.now + LINGER);
        }
        let lingering = self.exposing.lingering.keys();
        let closed = lingering.filter(|ip| !mappings.is_closing(Vip(**ip)));
        self.exposing.unsettled.extend(closed);
    }

    /// Addresses that have stayed for their ports, and need not any longer.
    pub(super) fn end_lingering(&mut self, now: Instant) {
        let exposing = &mut self.exposing;
        let late: Vec<_> = exposing.lingering.iter().filter(|it| *it.1 <= now).collect();
        let late: Vec<_> = late.into_iter().map(|it| *it.0).collect();
        for ip in late {
            if let Some(mappings) = &mut exposing.mappings {
                mappings.leave(Vip(ip));
            }
            exposing.unsettled.insert(ip);
        }
        for ip in std::mem::take(&mut exposing.unsettled) {
            self.exposing.lingering.remove(&ip);
            self.settle(now, ip);
        }
    }

    /// Whether an address has become nobody's in this turn.
    pub fn is_unsettled(&self) -> bool {
        !self.exposing.unsettled.is_empty()
    }

    /// Makes what the gateway has equal to what is wanted. `link`: on which link a VIP is.
    pub fn expose(
        &mut self,
        cx: &mut Cx<'_>,
        link: &dyn Fn(Option<&LinkChoice>, Vip) -> Option<LinkName>,
    ) {
        for ip in std::mem::take(&mut self.exposing.open) {
            self.want_ports(cx.now, ip, link);
        }
        let Some(mappings) = &mut self.exposing.mappings else {
            return;
        };
        mappings.tick(cx);
        for vip in mappings.take_news() {
            let names = self.addresses.get(&vip.0).into_iter().flat_map(|it| it.by.iter());
            names.for_each(|it| self.telling.look_at(it));
        }
    }

    fn want_ports(
        &mut self,
        now: Instant,
        ip: IpAddr,
        link: &dyn Fn(Option<&LinkChoice>, Vip) -> Option<LinkName>,
    ) {
        let (vip, answers) = (Vip(ip), self.answers(ip));
        let mut ports = if answers { self.ports(ip) } else { BTreeMap::new() };
        let lingers = self.exposing.lingering.contains_key(&ip);
        let named = self.place(vip).and_then(|it| it.link.as_deref());
        let choice = named.or(self.link());
        let site = Site::of(vip, link(choice, vip));
        let Some(mappings) = &mut self.exposing.mappings else {
            return;
        };
        if !answers {
            // Whoever answers next goes on with them.
            mappings.leave(vip);
            if self.exposing.lingering.remove(&ip).is_some() {
                self.exposing.unsettled.insert(ip);
            }
            return;
        }
        if lingers {
            // Nothing is begun any more.
            ports.retain(|port, wish| mappings.has(Exposed { vip, port: *port }, wish));
        }
        mappings.want(now, vip, site, ports);
        if lingers && !mappings.is_closing(vip) {
            self.exposing.unsettled.insert(ip);
        }
    }

    /// What those who have the address want of the gateway.
    fn ports(&self, ip: IpAddr) -> BTreeMap<ServicePort, mapping::Wish> {
        let mut ports = BTreeMap::new();
        for name in self.claimants(ip) {
            let known = self.services.get(name).filter(|it| it.has().any(|it| it == ip));
            let service = known.map(|it| it.service());
            let Some(service) = service.filter(mapping::is_asked) else {
                continue;
            };
            for port in &service.ports {
                ports.insert(*port, mapping::wish(&service, ip, *port));
            }
        }
        ports
    }

    /// The gateway's addresses by which the Service is reached.
    pub(super) fn outside(&self, known: &Known) -> Vec<IpAddr> {
        let Some(mappings) = self.exposing.mappings.as_ref().filter(|_| is_asked(known)) else {
            return Vec::new();
        };
        let mut outside: Vec<_> = known.has().filter_map(|ip| mappings.external(Vip(ip))).collect();
        // What stands there stays until it is known better.
        if known.has().any(|ip| mappings.is_open(Vip(ip))) {
            let service = known.service();
            let stands = |ip: &IpAddr| service.status_names(*ip);
            outside.extend(mapping::outside(&service).filter(stands));
        }
        outside.sort();
        outside.dedup();
        outside
    }

    /// What an operator is told of its ports.
    pub(super) fn mapping_status(&self, now: Instant, known: &Known) -> Vec<MappingStatus> {
        let ports = self.standings(known);
        let one = |(exposed, standing): (Exposed, Standing<'_>)| {
            let mut it = MappingStatus {
                vip: exposed.vip,
                port: exposed.port.port,
                protocol: exposed.port.protocol.name().to_owned(),
                mapped: false,
                way: None,
                external: None,
                left_ms: None,
                code: None,
                why: None,
            };
            match standing {
                Standing::Asking => it.why = Some("the gateway is being asked".to_owned()),
                Standing::Refused(refusal) => {
                    it.code = Some(refusal.code().to_owned());
                    it.why = Some(refusal.to_string());
                }
                Standing::Held { way, external, until } => {
                    (it.mapped, it.external) = (true, external);
                    it.way = Some(way.name().to_owned());
                    let left = until.map(|it| it.saturating_since(now).as_millis());
                    it.left_ms = left.and_then(|it| u64::try_from(it).ok());
                    if let Some(why) = external.and_then(behind) {
                        it.code = Some(BEHIND.to_owned());
                        it.why = Some(why);
                    }
                }
            }
            it
        };
        ports.into_iter().map(one).collect()
    }

    fn standings<'a>(&'a self, known: &Known) -> Vec<(Exposed, Standing<'a>)> {
        let mut all = Vec::new();
        let service = known.service();
        if !mapping::is_asked(&service) {
            return all;
        }
        for ip in known.has().filter(|it| self.answers(*it)) {
            for port in &service.ports {
                let exposed = Exposed { vip: Vip(ip), port: *port };
                let standing = match &self.exposing.mappings {
                    None => Some(Standing::Refused(&GatewayRefusal::Off)),
                    Some(mappings) => mappings.standing(&exposed),
                };
                all.extend(standing.map(|it| (exposed, it)));
            }
        }
        all
    }

    /// Tells Events of what became of its ports. Returns whether there is nothing left to tell.
    pub(super) fn tell_exposed(&mut self, cx: &mut Cx<'_>, name: &ObjectName) -> bool {
        let Some(known) = self.services.get(name) else {
            return true;
        };
        let standings = self.standings(known);
        if standings.is_empty() {
            self.exposing.told.remove(name);
            return true;
        }
        if standings.iter().any(|it| it.1 == Standing::Asking) {
            return true;
        }
        let truth = told_of(&standings);
        let before = self.exposing.told.get(name);
        let is_new = |it: &&Telling| before.is_none_or(|before| !before.contains(&it.words));
        let news: Vec<_> = truth.iter().filter(is_new).collect();
        let mut said: BTreeSet<_> =
            truth.iter().filter(|it| !is_new(it)).map(|it| it.words.clone()).collect();
        let mut done = true;
        for it in news {
            if !self.telling.may_tell(cx.now) {
                done = false;
                break;
            }
            said.insert(it.words.clone());
            cx.ask(ObjectCall::ServiceEvent {
                name: name.clone(),
                uid: known.service().uid,
                node: self.me.clone(),
                warning: it.code.is_some(),
                reason: it.words.reason.to_owned(),
                message: it.message.clone(),
            });
            let (code, message) = (it.code.map(str::to_owned), it.message.clone());
            cx.act(Action::Tell(Notice::Gateway { service: name.clone(), code, message }));
        }
        self.exposing.told.insert(name.clone(), said);
        done
    }
}

fn is_asked(known: &Known) -> bool {
    mapping::is_asked(&known.service())
}

/// One Event for all ports of which the same is so.
fn told_of(standings: &[(Exposed, Standing<'_>)]) -> Vec<Telling> {
    type Said = (Option<&'static str>, String, Vec<String>);
    let mut all: BTreeMap<(&'static str, String), Said> = BTreeMap::new();
    for (exposed, standing) in standings {
        let vip = exposed.vip;
        let (reason, code, message) = match standing {
            Standing::Asking => continue,
            Standing::Refused(it) => (it.reason(), Some(it.code()), it.to_string()),
            Standing::Held { way, external: None, .. } => {
                let message = format!("the gateway lets them through to {vip}, by {}", way.name());
                ("PortsMapped", None, message)
            }
            Standing::Held { way, external: Some(ip), .. } => {
                let message = format!("{ip} leads to {vip}, by {}", way.name());
                ("PortsMapped", None, message)
            }
        };
        let port = format!("{}/{}", exposed.port.port, exposed.port.protocol.name());
        let said = all.entry((reason, message.clone())).or_insert((code, message, Vec::new()));
        said.2.push(port);
        if let Standing::Held { external: Some(ip), .. } = standing
            && let Some(why) = behind(*ip)
        {
            all.entry(("BehindNat", why.clone())).or_insert((Some(BEHIND), why, Vec::new()));
        }
    }
    let one = |((reason, _), (code, message, ports)): (_, Said)| {
        let ports = ports.join(", ");
        // What a gateway that is away is like may be said in many ways.
        let steady = if code.is_none() || ports.is_empty() { message.as_str() } else { "" };
        let about = format!("{ports} {steady}");
        let message = if ports.is_empty() { message } else { format!("{ports}: {message}") };
        Telling { words: Words { reason, about }, code, message }
    };
    all.into_iter().map(one).collect()
}

const BEHIND: &str = "behind-nat";

/// Why nobody outside reaches the gateway by this address of its, if that is so.
fn behind(ip: IpAddr) -> Option<String> {
    let IpAddr::V4(ip) = ip else {
        return None;
    };
    let [one, two, ..] = ip.octets();
    let what = match (one, two) {
        // RFC 6598.
        (100, 64..128) => "is shared among customers by the provider (RFC 6598)",
        _ if ip.is_private() => "is private (RFC 1918)",
        _ if ip.is_link_local() || ip.is_loopback() => "is of a link only",
        _ => return None,
    };
    Some(format!(
        "the gateway's own outside address {ip} {what}: it is behind another NAT, which would have \
         to lead to it too"
    ))
}
