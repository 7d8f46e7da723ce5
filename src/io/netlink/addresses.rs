//! Addresses of ours: added with an end, extended, removed. What is not ours is not touched.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::thread::sleep;
use std::time::Duration;

use log::{debug, info};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::super::clock;
use super::known::Known;
use super::message::Writer;
use super::parse::Found;
use super::socket::{Refused, Socket};
use super::{IFA_PROTO, OURS, name, survey};
use crate::model::{Instant, LinkIndex, Vip};

/// `IFA_F_NODAD | IFA_F_NOPREFIXROUTE`: we have probed, and the address is no route.
const FLAGS: u32 = libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE;
/// The kernel that first knows `IFA_PROTO`.
const FIRST_WITH_TAGS: (u32, u32) = (5, 18);

/// The kernel makes an IPv6 address known to its routing in a work queue of its own, which
/// waits for whoever changes links meanwhile: until then packets to the address are lost.
/// So long that is waited for in all, in one batch; half of what the last holder goes on serving.
const ROUTE_WITHIN: Duration = Duration::from_millis(500);
/// Between two looks.
const ROUTE_LOOK: Duration = Duration::from_micros(250);

/// Why an address is not held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unheld {
    /// It is there, and somebody else's.
    NotOurs(String),
    /// Its link is gone.
    NoLink,
    /// The kernel does not want to.
    Refused(String),
}

impl fmt::Display for Unheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink => f.write_str("the link is gone"),
            Self::NotOurs(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

/// The kernel's addresses, as far as they are ours.
#[derive(Debug)]
pub struct Addresses {
    socket: Socket,
    tagged: bool,
    lo_global_scope: bool,
    known: Known,
    /// Routes are waited for until then, however many addresses a batch adds.
    routes_by: Option<Instant>,
}

/// An address on a link.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The link.
    pub link: LinkIndex,
    /// The address.
    pub vip: Vip,
    /// Length of its prefix in bits.
    pub length: u8,
}

impl Addresses {
    /// Opens the way to the kernel.
    pub fn open(lo_global_scope: bool) -> io::Result<Self> {
        let tagged = nix::sys::utsname::uname()
            .ok()
            .and_then(|it| version(it.release().to_str()?))
            .is_none_or(|it| it >= FIRST_WITH_TAGS);
        let socket = Socket::open(SockProtocol::NetlinkRoute)?;
        Ok(Self { socket, tagged, lo_global_scope, known: Known::open()?, routes_by: None })
    }

    /// A batch begins: learns what has become of the kernel's addresses meanwhile.
    pub fn follow(&mut self) {
        self.routes_by = None;
        self.known.follow();
    }

    /// Adds the address, or extends it. Once it is there it can be reached.
    pub fn hold(&mut self, place: Place, seconds: u32) -> Result<(), Unheld> {
        let there = self.there(place)?;
        self.make(place, seconds, &there)
    }

    fn make(&mut self, place: Place, seconds: u32, there: &[Found]) -> Result<(), Unheld> {
        let same = there.iter().any(|it| it.length == place.length);
        let others = there.iter().filter(|it| it.length != place.length);
        // IPv6 keeps the old length of an address it has; IPv4 has room for both, so that
        // the address is there all the time.
        if place.vip.0.is_ipv6() {
            others.clone().try_for_each(|it| self.delete(it))?;
        }
        self.add(place, seconds, same)?;
        match place.vip.0 {
            IpAddr::V4(_) => others.clone().try_for_each(|it| self.delete(it))?,
            IpAddr::V6(ip) if !same => self.await_route(ip),
            IpAddr::V6(_) => {}
        }
        Ok(())
    }

    /// An address that cannot be reached yet is held all the same.
    fn await_route(&mut self, ip: Ipv6Addr) {
        let mut look = ROUTE_LOOK;
        let by = *self.routes_by.get_or_insert_with(|| clock::now() + ROUTE_WITHIN);
        while clock::now() < by {
            if survey::is_local(&mut self.socket, ip) {
                return;
            }
            sleep(look);
            look += ROUTE_LOOK;
        }
        debug!(vip:% = ip; "the kernel has no local route to it yet");
    }

    /// Removes the address, whatever its length; that it is not there is as good.
    pub fn remove(&mut self, place: Place) -> Result<(), String> {
        let there = self.there(place).map_err(|it| it.to_string())?;
        there.iter().try_for_each(|it| self.delete(it)).map_err(|it| it.to_string())
    }

    /// Removes those of `ips` that are ours, on all links.
    pub fn clean(&mut self, ips: &BTreeSet<IpAddr>) -> Result<(), String> {
        let mut found: Vec<_> = self.all()?.of(ips).collect();
        found.retain(|it| self.is_ours(it));
        for it in found {
            let how = if it.tag == OURS { "tag" } else { "limited lifetime" };
            info!(
                vip:% = it.ip,
                length = it.length,
                link:% = name(it.link),
                by = how;
                "removed an address that an earlier process left"
            );
            self.delete(&it).map_err(|it| it.to_string())?;
        }
        Ok(())
    }

    /// Whether any address that is there is ours, or may be.
    pub fn has_more(&mut self) -> bool {
        let all: Vec<_> = self.all().map(|it| it.all().collect()).unwrap_or_default();
        all.iter().any(|it| self.is_ours(it))
    }

    /// What is there of ours; an error if any of it is not ours.
    fn there(&mut self, place: Place) -> Result<Vec<Found>, Unheld> {
        if !self.known.is_sure(place.link, place.vip.0) {
            self.known.forget();
        }
        let all: Vec<_> =
            self.all().map_err(Unheld::Refused)?.at(place.link, place.vip.0).collect();
        match all.iter().find(|it| !self.is_ours(it)) {
            Some(it) => {
                let why = format!("{} is on {} already and is not ours", it.ip, name(it.link));
                Err(Unheld::NotOurs(why))
            }
            None => Ok(all),
        }
    }

    fn all(&mut self) -> Result<&Known, String> {
        if !self.known.is_read() {
            let all = survey::addresses(&mut self.socket)
                .map_err(|refused| format!("reading the addresses: {refused}"))?;
            self.known.read(all);
        }
        Ok(&self.known)
    }

    /// Where the kernel keeps no tags, the marks of a loan stand in for ours.
    fn is_ours(&self, it: &Found) -> bool {
        it.tag == OURS || (!self.tagged && it.tag == 0 && it.lent)
    }

    fn add(&mut self, place: Place, seconds: u32, replace: bool) -> Result<(), Unheld> {
        // To replace only what was seen to be ours: an address that another program adds
        // meanwhile is refused by the kernel.
        let how = if replace { libc::NLM_F_REPLACE } else { libc::NLM_F_EXCL };
        let scope = self.scope(place).map_err(Unheld::Refused)?;
        let mut writer = self.socket.compose();
        writer.message(libc::RTM_NEWADDR, (libc::NLM_F_CREATE | how) as u16, |it| {
            body(it, place, scope);
            it.attribute(libc::IFA_FLAGS, &FLAGS.to_ne_bytes());
            it.attribute(IFA_PROTO, &[OURS]);
            // Preferred for no time at all: never a source.
            let lifetimes = [0, seconds, 0, 0].map(u32::to_ne_bytes);
            it.attribute(libc::IFA_CACHEINFO, lifetimes.as_flattened());
        });
        self.write(writer, "adding", place)?;
        let Place { link, vip, length } = place;
        self.known.insert(Found { link, ip: vip.0, length, tag: OURS, scope, lent: true });
        Ok(())
    }

    fn delete(&mut self, found: &Found) -> Result<(), Unheld> {
        let place = Place { link: found.link, vip: Vip(found.ip), length: found.length };
        let mut writer = self.socket.compose();
        writer.message(libc::RTM_DELADDR, 0, |it| body(it, place, found.scope));
        self.write(writer, "removing", place)?;
        self.known.remove(found);
        Ok(())
    }

    fn write(&mut self, writer: Writer, what: &str, place: Place) -> Result<(), Unheld> {
        let Err(refused) = self.socket.request(writer) else { return Ok(()) };
        self.known.forget();
        // Gone with its link, or ended by itself: as good as removed.
        let gone = matches!(refused.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV);
        if what == "removing" && gone {
            return Ok(());
        }
        if refused.errno == Errno::ENODEV {
            return Err(Unheld::NoLink);
        }
        Err(Unheld::Refused(explain(what, place, &refused)))
    }

    /// Host scope keeps an IPv4 address from being a source; IPv6 has no such thing. But the
    /// kernel wants one scope for all of a subnet of a link: then the address comes second
    /// in it, and that keeps it from being a source, too.
    fn scope(&mut self, place: Place) -> Result<u8, String> {
        let Place { link, vip, length } = place;
        if vip.0.is_ipv6() || (self.lo_global_scope && link == LOOPBACK) {
            return Ok(libc::RT_SCOPE_UNIVERSE);
        }
        Ok(self.all()?.beside(link, vip.0, length).map_or(libc::RT_SCOPE_HOST, |it| it.scope))
    }
}

/// `LOOPBACK_IFINDEX`: the same in every network namespace.
const LOOPBACK: LinkIndex = LinkIndex(1);

fn explain(what: &str, place: Place, refused: &Refused) -> String {
    let Place { link, vip, length } = place;
    format!("{what} {vip}/{length} on {}: {refused}", name(link))
}

fn body(it: &mut Writer, place: Place, scope: u8) {
    let family = if place.vip.0.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    it.put(&[family as u8, place.length, 0, scope]);
    it.put(&place.link.0.to_ne_bytes());
    for attribute in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        match place.vip.0 {
            IpAddr::V4(ip) => it.attribute(attribute, &ip.octets()),
            IpAddr::V6(ip) => it.attribute(attribute, &ip.octets()),
        }
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_two_numbers() {
        let table = [
            ("6.18.44-fc-v595", Some((6, 18))),
            ("5.4.0-150-generic", Some((5, 4))),
            ("5.18", Some((5, 18))),
            ("6.1-rc3", Some((6, 1))),
            ("unknown", None),
        ];
        for (release, numbers) in table {
            assert_eq!(version(release), numbers, "{release}");
        }
    }

    #[test]
    fn the_marks_of_a_loan_stand_in_only_where_the_kernel_keeps_no_tags() {
        let mut addresses = Addresses::open(false).unwrap();
        let found = |tag, scope, lent, ip: &str| Found {
            link: LinkIndex(3),
            ip: ip.parse().unwrap(),
            length: 32,
            tag,
            scope,
            lent,
        };
        let host = libc::RT_SCOPE_HOST;
        let table = [
            ("tagged", found(OURS, 0, false, "10.0.0.1"), true, true),
            ("marked", found(0, host, true, "10.0.0.1"), false, true),
            ("marked, IPv6", found(0, 0, true, "fd00::1"), false, true),
            ("another's tag", found(4, host, true, "10.0.0.1"), false, false),
            ("endless", found(0, host, false, "10.0.0.1"), false, false),
        ];
        for (what, it, with_tags, without) in table {
            addresses.tagged = true;
            assert_eq!(addresses.is_ours(&it), with_tags, "{what}, tags kept");
            addresses.tagged = false;
            assert_eq!(addresses.is_ours(&it), without, "{what}, no tags kept");
        }
    }
}
