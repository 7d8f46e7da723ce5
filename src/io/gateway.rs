//! The site's gateway: finds it and speaks with it, on a thread of its own that starts when it is
//! first asked something. Whatever is said comes from the VIP that it is about: gateways map
//! only whom they hear.

mod http;
mod route;
mod search;
mod udp;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::model::{
    Exposed, GatewayCall, GatewayFault, GatewayNo, GatewayReply, Granted, LinkName, Nonce,
    RequestId, UpnpControl, Vip, Way, WayKind,
};
use crate::wire::gateway::{natpmp, pcp, soap};

/// Where answers go. It must not block.
pub type DeliverReply = Arc<dyn Fn(RequestId, GatewayReply) + Send + Sync>;

/// What parsing a device's description takes, and then some.
const STACK: usize = 512 * 1024;

/// The desk of the thread.
pub struct Gateway {
    deliver: DeliverReply,
    orders: Option<Sender<(RequestId, GatewayCall)>>,
}

impl Gateway {
    /// Nothing is asked yet.
    pub fn start(deliver: DeliverReply) -> Self {
        Self { deliver, orders: None }
    }

    /// Asks; there is one answer, in the order of the questions.
    pub fn ask(&mut self, request: RequestId, call: GatewayCall) {
        if self.orders.is_none() {
            let (orders, queue) = channel();
            let deliver = self.deliver.clone();
            let thread = thread::Builder::new().name("gateway".into()).stack_size(STACK);
            if thread.spawn(move || work(&queue, &deliver)).is_ok() {
                self.orders = Some(orders);
            }
        }
        let sent = self.orders.as_ref().is_some_and(|it| it.send((request, call)).is_ok());
        if !sent {
            let why = "no thread can be started to ask it".to_owned();
            (self.deliver)(request, GatewayReply::Failed(why));
        }
    }
}

fn work(queue: &Receiver<(RequestId, GatewayCall)>, deliver: &DeliverReply) {
    for (request, call) in queue {
        deliver(request, answer(call).unwrap_or_else(GatewayReply::Failed));
    }
}

/// Does one call to its end.
pub fn answer(call: GatewayCall) -> Result<GatewayReply, String> {
    match call {
        GatewayCall::Find { from, link, without } => find(from, link.as_ref(), &without),
        GatewayCall::Look { way, from } => look(&way, from),
        GatewayCall::Map { way, exposed, lease, nonce, name } => {
            map(&way, &exposed, lease, &nonce, &name)
        }
        GatewayCall::Read { way, exposed } => read(&way, &exposed),
        GatewayCall::Unmap { way, exposed, nonce, pinhole } => {
            unmap(&way, &exposed, &nonce, pinhole)
        }
    }
}

/// PCP before NAT-PMP before UPnP.
fn find(
    from: Vip,
    link: Option<&LinkName>,
    without: &BTreeSet<WayKind>,
) -> Result<GatewayReply, String> {
    let mut whys = Vec::new();
    match route::gateway(from.0, link) {
        Err(why) => whys.push(why),
        Ok(router) => {
            let server = with_port(router);
            for (kind, question, is_answer) in [
                (WayKind::Pcp, pcp::announce(from.0), pcp::is_answer as fn(&[u8]) -> bool),
                (WayKind::NatPmp, natpmp::address(), natpmp::is_answer),
            ] {
                let spoken = kind == WayKind::Pcp || from.0.is_ipv4();
                if without.contains(&kind) || !spoken {
                    continue;
                }
                match udp::ask_briefly(from.0, server, &question, is_answer) {
                    Ok(_) if kind == WayKind::Pcp => {
                        return Ok(GatewayReply::Found(Way::Pcp(server)));
                    }
                    Ok(_) => return Ok(GatewayReply::Found(Way::NatPmp(server))),
                    Err(why) => whys.push(format!("{}: {why}", kind.name())),
                }
            }
        }
    }
    match search::upnp(from.0, link, without) {
        Ok(way) => Ok(GatewayReply::Found(way)),
        Err(why) => {
            whys.push(why);
            Err(whys.join("; "))
        }
    }
}

fn look(way: &Way, from: Vip) -> Result<GatewayReply, String> {
    let looked = |external, epoch| Ok(GatewayReply::Looked { external, epoch });
    match way {
        Way::Pcp(server) => {
            let bytes = udp::ask(from.0, *server, &pcp::announce(from.0), pcp::is_answer)?;
            let answer = pcp::read(&bytes).map_err(|it| it.to_string())?;
            looked(None, Some(answer.epoch))
        }
        Way::NatPmp(server) => {
            let bytes = udp::ask(from.0, *server, &natpmp::address(), natpmp::is_answer)?;
            let answer = natpmp::read(&bytes).map_err(|it| it.to_string())?;
            let external = match answer.said {
                Some(natpmp::Said::Address(ip)) if !ip.is_unspecified() => Some(ip.into()),
                Some(natpmp::Said::Address(_) | natpmp::Said::Mapped { .. }) | None => None,
            };
            looked(external, Some(answer.epoch))
        }
        Way::Igd(control) => match http::call(from.0, control, &soap::get_external_ip_address())? {
            soap::Answer::Done(document) => looked(soap::external(&document), None),
            soap::Answer::Fault(_) => looked(None, None),
        },
        Way::Pinholes(control) => {
            http::call(from.0, control, &soap::get_firewall_status())?;
            looked(None, None)
        }
    }
}

fn map(
    way: &Way,
    exposed: &Exposed,
    lease: u32,
    nonce: &Nonce,
    name: &str,
) -> Result<GatewayReply, String> {
    let from = exposed.vip.0;
    let lifetime = if lease == 0 { pcp::FOR_GOOD } else { lease };
    let port = exposed.port.port;
    match way {
        Way::Pcp(server) => {
            let Some(question) = pcp::map(exposed, nonce, lifetime) else {
                return Ok(GatewayReply::Refused(no_word()));
            };
            let answer = ask_pcp(exposed, nonce, *server, &question)?;
            let Some(map) = answer.map.filter(|_| answer.result == 0) else {
                return Ok(GatewayReply::Refused(pcp::fault(answer.result)));
            };
            let external = Some(map.address).filter(|it| !it.is_unspecified() && *it != from);
            let (port, lease, epoch) = (map.external, answer.lifetime, Some(answer.epoch));
            Ok(GatewayReply::Mapped(Granted { port, lease, external, epoch, pinhole: None }))
        }
        Way::NatPmp(server) => ask_natpmp(exposed, *server, lifetime),
        Way::Igd(control) => {
            let action = soap::add_port_mapping(exposed, lease, name);
            Ok(match http::call(from, control, &action)? {
                soap::Answer::Done(_) => {
                    GatewayReply::Mapped(Granted { port, lease, ..Granted::default() })
                }
                soap::Answer::Fault(fault) => GatewayReply::Refused(fault),
            })
        }
        Way::Pinholes(control) => {
            // WANIPv6FirewallControl:1 §2.3.4: a lease is from one second to a day.
            let lease = lifetime.min(DAY);
            let Some(action) = soap::add_pinhole(exposed, lease) else {
                return Ok(GatewayReply::Refused(no_word()));
            };
            Ok(match http::call(from, control, &action)? {
                soap::Answer::Done(document) => {
                    let pinhole = soap::text(&document, "UniqueID").and_then(|it| it.parse().ok());
                    GatewayReply::Mapped(Granted { port, lease, pinhole, ..Granted::default() })
                }
                soap::Answer::Fault(fault) => GatewayReply::Refused(fault),
            })
        }
    }
}

const DAY: u32 = 24 * 3_600;

fn read(way: &Way, exposed: &Exposed) -> Result<GatewayReply, String> {
    let Way::Igd(control) = way else {
        return Ok(GatewayReply::Refused(no_word()));
    };
    let action = soap::get_specific_port_mapping_entry(exposed);
    match http::call(exposed.vip.0, control, &action)? {
        soap::Answer::Done(document) => {
            let entry = soap::entry(&document).map_err(|it| it.to_string())?;
            Ok(GatewayReply::Read(Some(entry)))
        }
        soap::Answer::Fault(fault) if fault.no == GatewayNo::NotThere => {
            Ok(GatewayReply::Read(None))
        }
        soap::Answer::Fault(fault) => Ok(GatewayReply::Refused(fault)),
    }
}

fn unmap(
    way: &Way,
    exposed: &Exposed,
    nonce: &Nonce,
    pinhole: Option<u16>,
) -> Result<GatewayReply, String> {
    let by_upnp = |control: &UpnpControl, action: &soap::Action<'_>| {
        Ok(match http::call(exposed.vip.0, control, action)? {
            soap::Answer::Done(_) => GatewayReply::Unmapped,
            soap::Answer::Fault(it) if it.no == GatewayNo::NotThere => GatewayReply::Unmapped,
            soap::Answer::Fault(fault) => GatewayReply::Refused(fault),
        })
    };
    match (way, pinhole) {
        (Way::Pcp(server), _) => {
            let Some(question) = pcp::map(exposed, nonce, 0) else {
                return Ok(GatewayReply::Refused(no_word()));
            };
            let answer = ask_pcp(exposed, nonce, *server, &question)?;
            Ok(match answer.result {
                0 => GatewayReply::Unmapped,
                result => GatewayReply::Refused(pcp::fault(result)),
            })
        }
        (Way::NatPmp(server), _) => ask_natpmp(exposed, *server, 0),
        (Way::Igd(control), _) => by_upnp(control, &soap::delete_port_mapping(exposed)),
        (Way::Pinholes(control), Some(number)) => by_upnp(control, &soap::delete_pinhole(number)),
        (Way::Pinholes(_), None) => Ok(GatewayReply::Unmapped),
    }
}

fn ask_pcp(
    exposed: &Exposed,
    nonce: &Nonce,
    server: SocketAddr,
    question: &[u8],
) -> Result<pcp::Answer, String> {
    let of_this = |bytes: &[u8]| {
        let answer = pcp::read(bytes);
        answer.is_ok_and(|it| it.map.is_some_and(|it| it.is_of(exposed, nonce)))
    };
    let bytes = udp::ask(exposed.vip.0, server, question, of_this)?;
    pcp::read(&bytes).map_err(|it| it.to_string())
}

fn ask_natpmp(
    exposed: &Exposed,
    server: SocketAddr,
    lifetime: u32,
) -> Result<GatewayReply, String> {
    let Some(question) = natpmp::map(exposed, lifetime) else {
        return Ok(GatewayReply::Refused(no_word()));
    };
    let bytes = udp::ask(exposed.vip.0, server, &question, natpmp::is_answer)?;
    let answer = natpmp::read(&bytes).map_err(|it| it.to_string())?;
    let epoch = Some(answer.epoch);
    Ok(match answer.said {
        None => GatewayReply::Refused(natpmp::fault(answer.result)),
        Some(natpmp::Said::Mapped { .. }) if lifetime == 0 => GatewayReply::Unmapped,
        Some(natpmp::Said::Mapped { internal, external, lifetime, .. })
            if internal == exposed.port.port =>
        {
            let (port, lease) = (external, lifetime);
            GatewayReply::Mapped(Granted { port, lease, epoch, ..Granted::default() })
        }
        Some(natpmp::Said::Address(_) | natpmp::Said::Mapped { .. }) => {
            return Err("the answer is about something else".to_owned());
        }
    })
}

fn no_word() -> GatewayFault {
    let words = "there is no word for it".to_owned();
    GatewayFault { no: GatewayNo::Unsupported, code: 0, words }
}

fn with_port(mut router: SocketAddr) -> SocketAddr {
    router.set_port(pcp::PORT);
    router
}

/// A socket's own end: this address, any port.
fn end(from: IpAddr) -> SocketAddr {
    SocketAddr::new(from, 0)
}
