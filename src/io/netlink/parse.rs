//! What rtnetlink messages say about links, addresses and routes.

use std::net::IpAddr;

use super::message::{Attributes, Message, u16_at, u32_at};
use super::{IFA_PROTO, OURS, VLAN_ID};
use crate::model::{Address, Hardware, Link, LinkIndex, LinkKind, LinkName, Mac};

/// `IFA_CACHEINFO`'s word for a life without end.
const ENDLESS: u32 = u32::MAX;
/// `RTN_UNICAST`: a route that leads somewhere.
const UNICAST: u8 = 1;

/// An address, with what tells whose it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// The link it is on.
    pub link: LinkIndex,
    /// The address itself.
    pub ip: IpAddr,
    /// Length of its prefix in bits.
    pub length: u8,
    /// `IFA_PROTO`; 0 without.
    pub tag: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// It ends by itself, and is never chosen as a source.
    pub lent: bool,
}

impl From<Found> for Address {
    fn from(it: Found) -> Self {
        Self { link: it.link, ip: it.ip, length: it.length, ours: it.tag == OURS }
    }
}

/// A default route of table `main`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DefaultRoute {
    /// IPv6; sorts after IPv4.
    pub v6: bool,
    /// The lower, the better.
    pub metric: u32,
    /// Where it leaves; of several next hops, the first.
    pub link: LinkIndex,
}

/// The address a message is about.
pub fn address(message: &Message<'_>) -> Option<Found> {
    let (&[family, length, flags, scope, index @ ..], attributes) = message.split::<8>()?;
    let bytes = attributes.get(libc::IFA_LOCAL).or_else(|| attributes.get(libc::IFA_ADDRESS))?;
    let flags = attributes
        .get(libc::IFA_FLAGS)
        .and_then(|it| u32_at(it, 0))
        .unwrap_or_else(|| u32::from(flags));
    let valid = attributes.get(libc::IFA_CACHEINFO).and_then(|it| u32_at(it, 4));
    Some(Found {
        link: LinkIndex(u32::from_ne_bytes(index)),
        ip: ip(family, bytes)?,
        length,
        tag: attributes.get(IFA_PROTO).and_then(|it| it.first().copied()).unwrap_or(0),
        scope,
        lent: flags & libc::IFA_F_DEPRECATED != 0 && valid.is_some_and(|it| it != ENDLESS),
    })
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        libc::AF_INET6 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

/// The link a message is about. A bridge tells of its ports in messages of its own family,
/// which are not about the link.
/// `tag`: what this instance's links are tagged with.
pub fn link(message: &Message<'_>, tag: &str) -> Option<Link> {
    let (fixed, attributes) = message.split::<16>()?;
    if i32::from(fixed[0]) != libc::AF_UNSPEC {
        return None;
    }
    let flags = u32_at(fixed, 8)? as i32;
    let hardware = match u16_at(fixed, 2)? {
        libc::ARPHRD_ETHER => Hardware::Ethernet,
        libc::ARPHRD_INFINIBAND => Hardware::InfiniBand,
        libc::ARPHRD_LOOPBACK => Hardware::Loopback,
        other => Hardware::Other(other),
    };
    let mac = attributes.get(libc::IFLA_ADDRESS).and_then(|it| it.try_into().ok()).map(Mac);
    let name = attributes.get(libc::IFLA_IFNAME)?;
    Some(Link {
        index: LinkIndex(u32_at(fixed, 4)?),
        name: LinkName(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()),
        mac: mac.filter(|it| *it != Mac([0; 6])),
        hardware,
        up: flags & libc::IFF_UP != 0,
        carrier: flags & libc::IFF_RUNNING != 0,
        kind: kind(attributes).unwrap_or_default(),
        ours: attributes.get(libc::IFLA_IFALIAS).is_some_and(|it| text(it) == tag.as_bytes()),
    })
}

fn kind(attributes: Attributes<'_>) -> Option<LinkKind> {
    let info = Attributes(attributes.get(libc::IFLA_LINKINFO)?);
    let parent = LinkIndex(u32_at(attributes.get(libc::IFLA_LINK)?, 0)?);
    match text(info.get(libc::IFLA_INFO_KIND)?) {
        b"macvlan" => Some(LinkKind::Macvlan { parent }),
        b"vlan" => {
            let about = Attributes(info.get(libc::IFLA_INFO_DATA)?);
            Some(LinkKind::Vlan { parent, tag: u16_at(about.get(VLAN_ID)?, 0)? })
        }
        _ => None,
    }
}

/// Without the zero that ends it.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}

/// The default route a message is about, if it is about one of table `main`.
pub fn default_route(message: &Message<'_>) -> Option<DefaultRoute> {
    let (&[family, length, source_length, _, table, _, _, kind, ..], attributes) =
        message.split::<12>()?;
    if length != 0 || source_length != 0 || table != libc::RT_TABLE_MAIN || kind != UNICAST {
        return None;
    }
    let number = |kind| attributes.get(kind).and_then(|it| u32_at(it, 0));
    // A next hop begins with its length, flags and weight.
    let several = || attributes.get(libc::RTA_MULTIPATH).and_then(|it| u32_at(it, 4));
    Some(DefaultRoute {
        v6: i32::from(family) == libc::AF_INET6,
        metric: number(libc::RTA_PRIORITY).unwrap_or(0),
        link: LinkIndex(number(libc::RTA_OIF).or_else(several)?),
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::{Writer, messages};
    use super::*;

    fn parsed<T>(
        body: impl FnOnce(&mut Writer),
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Option<T> {
        let mut writer = Writer::new(1);
        writer.message(0, 0, body);
        parse(&messages(writer.bytes()).next().unwrap())
    }

    fn link_message(family: u8, hardware: u16, flags: i32, mac: &[u8]) -> Option<Link> {
        let body = |it: &mut Writer| {
            it.put(&[family, 0]);
            it.put(&hardware.to_ne_bytes());
            it.put(&7_u32.to_ne_bytes());
            it.put(&flags.to_ne_bytes());
            it.put(&[0; 4]);
            it.text(libc::IFLA_IFNAME, "ib0");
            it.attribute(libc::IFLA_ADDRESS, mac);
        };
        parsed(body, |it| link(it, "edgevip"))
    }

    #[test]
    fn infiniband_is_told_from_ethernet_and_has_no_mac_of_six_bytes() {
        let flags = libc::IFF_UP | libc::IFF_RUNNING;
        let it = link_message(0, 32, flags, &[9; 20]).unwrap();
        assert_eq!(
            (it.hardware, it.mac, it.up, it.carrier),
            (Hardware::InfiniBand, None, true, true)
        );
        let it = link_message(0, 1, libc::IFF_UP, &[9; 6]).unwrap();
        assert_eq!(it.hardware, Hardware::Ethernet);
        assert_eq!((it.mac, it.up, it.carrier), (Some(Mac([9; 6])), true, false));
        let it = link_message(0, 772, 0, &[0; 6]).unwrap();
        assert_eq!((it.hardware, it.mac), (Hardware::Loopback, None));
        assert_eq!(link_message(0, 65534, 0, &[]).unwrap().hardware, Hardware::Other(65534));
    }

    #[test]
    fn what_a_link_is_made_of_and_by_whom() {
        let made = |kind: &str, alias: &str| {
            let body = |it: &mut Writer| {
                it.put(&[0; 16]);
                it.text(libc::IFLA_IFNAME, "eth0.100");
                it.attribute(libc::IFLA_LINK, &2_u32.to_ne_bytes());
                it.text(libc::IFLA_IFALIAS, alias);
                it.nested(libc::IFLA_LINKINFO, |it| {
                    it.text(libc::IFLA_INFO_KIND, kind);
                    it.nested(libc::IFLA_INFO_DATA, |it| {
                        it.attribute(VLAN_ID, &100_u16.to_ne_bytes());
                    });
                });
            };
            let it = parsed(body, |it| link(it, "edgevip")).unwrap();
            (it.kind, it.ours)
        };
        let parent = LinkIndex(2);
        assert_eq!(made("vlan", "edgevip"), (LinkKind::Vlan { parent, tag: 100 }, true));
        assert_eq!(made("macvlan", "edgevip:b"), (LinkKind::Macvlan { parent }, false));
        assert_eq!(made("dummy", ""), (LinkKind::Other, false));
    }

    #[test]
    fn what_a_bridge_says_of_its_ports_is_not_about_links() {
        assert_eq!(link_message(libc::AF_BRIDGE as u8, 1, 0, &[9; 6]), None);
    }

    #[test]
    fn default_routes_are_those_of_table_main_without_a_destination() {
        let route = |fixed: [u8; 8], attribute: u16, value: &[u8]| {
            let body = |it: &mut Writer| {
                it.put(&fixed);
                it.put(&[0; 4]);
                it.attribute(libc::RTA_PRIORITY, &9_u32.to_ne_bytes());
                it.attribute(attribute, value);
            };
            parsed(body, default_route)
        };
        let oif = |fixed| route(fixed, libc::RTA_OIF, &3_u32.to_ne_bytes());
        let here = DefaultRoute { v6: false, metric: 9, link: LinkIndex(3) };
        assert_eq!(oif([2, 0, 0, 0, 254, 0, 0, 1]), Some(here));
        assert_eq!(oif([10, 0, 0, 0, 254, 0, 0, 1]), Some(DefaultRoute { v6: true, ..here }));
        assert_eq!(oif([2, 8, 0, 0, 254, 0, 0, 1]), None, "a destination");
        assert_eq!(oif([2, 0, 0, 0, 253, 0, 0, 1]), None, "another table");
        assert_eq!(oif([2, 0, 0, 0, 254, 0, 0, 7]), None, "unreachable");
        let hops = [16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let several = route([2, 0, 0, 0, 254, 0, 0, 1], libc::RTA_MULTIPATH, &hops);
        assert_eq!(several.map(|it| it.link), Some(LinkIndex(3)));
    }
}
