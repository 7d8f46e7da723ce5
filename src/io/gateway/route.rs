//! The router of a link, as the kernel's own tables name it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_nametoindex;

use crate::model::LinkName;

/// RTF_GATEWAY of `linux/route.h`.
const TO_GATEWAY: u32 = 2;

/// A default route.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Route {
    link: String,
    gateway: IpAddr,
    metric: u32,
}

/// The router that this address's family has on the link, or at all.
pub(super) fn gateway(of: IpAddr, link: Option<&LinkName>) -> Result<SocketAddr, String> {
    let path = match of {
        IpAddr::V4(_) => "/proc/thread-self/net/route",
        IpAddr::V6(_) => "/proc/thread-self/net/ipv6_route",
    };
    let text = fs::read_to_string(path).map_err(|it| format!("cannot read {path}: {it}"))?;
    let parse = if of.is_ipv4() { v4 } else { v6 };
    let here = |it: &Route| link.is_none_or(|link| it.link == link.0);
    let routes = text.lines().filter_map(parse).filter(here);
    let Some(route) = routes.min_by_key(|it| it.metric) else {
        return Err(match link {
            Some(link) => format!("no default route by {link}"),
            None => "no default route".to_owned(),
        });
    };
    Ok(match route.gateway {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            let scope = if_nametoindex(route.link.as_str()).unwrap_or(0);
            SocketAddrV6::new(ip, 0, 0, scope).into()
        }
        ip => SocketAddr::new(ip, 0),
    })
}

/// A line of `/proc/net/route`, if it is a default route to somebody.
fn v4(line: &str) -> Option<Route> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [link, to, gateway, flags, _, _, metric, mask, ..] = words[..] else {
        return None;
    };
    let hex = |it: &str| u32::from_str_radix(it, 16).ok();
    let default = hex(to)? == 0 && hex(mask)? == 0 && hex(flags)? & TO_GATEWAY != 0;
    // As the bytes stand in memory.
    let gateway = Ipv4Addr::from(hex(gateway)?.to_ne_bytes()).into();
    let metric = metric.parse().ok()?;
    default.then(|| Route { link: link.to_owned(), gateway, metric })
}

/// The same of `/proc/net/ipv6_route`.
fn v6(line: &str) -> Option<Route> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [to, length, _, _, gateway, metric, _, _, flags, link] = words[..] else {
        return None;
    };
    let address = |it: &str| u128::from_str_radix(it, 16).ok().map(Ipv6Addr::from);
    let hex = |it: &str| u32::from_str_radix(it, 16).ok();
    let default = address(to)?.is_unspecified() && hex(length)? == 0;
    let gateway = address(gateway)?.into();
    let metric = hex(metric)?;
    (default && hex(flags)? & TO_GATEWAY != 0).then(|| Route {
        link: link.to_owned(),
        gateway,
        metric,
    })
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others() {
        let lines = [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
            "eth0\t00000000\t01004D0A\t0003\t0\t0\t100\t00000000\t0\t0\t0",
            "eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
            "eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0",
        ];
        let found: Vec<_> = lines.into_iter().filter_map(v4).collect();
        let gateway = Ipv4Addr::new(10, 77, 0, 1).into();
        assert_eq!(found, [Route { link: "eth0".into(), gateway, metric: 100 }]);
        let zeros = "0".repeat(32);
        let lines = [
            format!(
                "{zeros} 00 {zeros} 00 fd770000000000000000000000000001 00000400 1 0 00000003 eth0"
            ),
            format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 1 0 00200200 lo"),
            format!(
                "fd770000000000000000000000000000 40 {zeros} 00 {zeros} 00000100 1 0 00000001 eth0"
            ),
        ];
        let found: Vec<_> = lines.iter().filter_map(|it| v6(it)).collect();
        let gateway = "fd77::1".parse().unwrap();
        assert_eq!(found, [Route { link: "eth0".into(), gateway, metric: 1_024 }]);
    }
}
