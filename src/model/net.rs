use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A virtual IP: the address clients use, carried by one node at a time.
#[derive(Clone, Copy, Deserialize, Eq, PartialEq, Serialize)]
pub struct Vip(pub IpAddr);

// The order that would be derived, by numbers: everything is kept by VIP, and to compare bytes
// is what most of a turn with many of them is spent on.
impl Ord for Vip {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0, other.0) {
            (IpAddr::V4(one), IpAddr::V4(other)) => one.to_bits().cmp(&other.to_bits()),
            (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits().cmp(&other.to_bits()),
            (IpAddr::V4(_), IpAddr::V6(_)) => Ordering::Less,
            (IpAddr::V6(_), IpAddr::V4(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Vip {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Vip {
    /// Bits of an address of this family: 32 or 128.
    pub fn width(self) -> u8 {
        match self.0 {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet hardware address.
#[derive(Clone, Copy, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a link, such as `eth0`. It may change while the index stays.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct LinkName(pub String);

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kernel's number of a link, stable while the link lives.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct LinkIndex(pub u32);

/// What kind of hardware address a link has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Hardware {
    /// Ethernet and everything that looks like it, Wi-Fi included.
    Ethernet,
    /// IP over InfiniBand: 20-byte hardware addresses.
    InfiniBand,
    /// The loopback link: nothing to announce to.
    Loopback,
    /// The kernel's ARPHRD number of anything else.
    Other(u16),
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Link {
    /// Its number.
    pub index: LinkIndex,
    /// Its name.
    pub name: LinkName,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// What kind of link it is.
    pub hardware: Hardware,
    /// Administratively up.
    pub up: bool,
    /// Something answers at the other end of the cable.
    pub carrier: bool,
    /// What it is made of.
    #[serde(default)]
    pub kind: LinkKind,
    /// Tagged as one that this instance of edgevip made.
    #[serde(default)]
    pub ours: bool,
}

/// What a link is made of, as far as edgevip makes such.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum LinkKind {
    /// One more hardware address of another link.
    Macvlan {
        /// The other link.
        parent: LinkIndex,
    },
    /// Anything else.
    #[default]
    Other,
    /// What another link carries with an IEEE 802.1Q tag.
    Vlan {
        /// The other link.
        parent: LinkIndex,
        /// The tag.
        tag: u16,
    },
}

/// A link to be made on top of another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NewLink {
    /// Its name.
    pub name: LinkName,
    /// What it is made on.
    pub parent: LinkIndex,
    /// What it is to be.
    pub make: Make,
}

/// What a link that is made is to be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Make {
    /// One more hardware address of the link below.
    Macvlan {
        /// The address.
        mac: Mac,
        /// The kernel's `rp_filter` for it: 0, 1 or 2.
        rp_filter: u8,
    },
    /// What the link below carries with this tag.
    Vlan {
        /// 1 to 4094.
        tag: u16,
    },
}

/// An address as the kernel describes it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Address {
    /// The link it is on.
    pub link: LinkIndex,
    /// The address itself.
    pub ip: IpAddr,
    /// Length of its prefix in bits.
    pub length: u8,
    /// Tagged as one that edgevip added.
    pub ours: bool,
}

impl Address {
    /// Whether `ip` lies in the subnet of this address.
    pub fn covers(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.length.min(32));
                (u64::from(a.to_bits()) >> shift) == (u64::from(b.to_bits()) >> shift)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - u32::from(self.length.min(128));
                a.to_bits().checked_shr(shift) == b.to_bits().checked_shr(shift)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// A change of what the kernel has, as its notifications tell it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum NetworkChange {
    /// An address came, or changed.
    Address(Address),
    /// An address went.
    AddressGone(Address),
    /// The default route leaves by this link, or there is none. IPv4 first, else IPv6.
    DefaultLink(Option<LinkIndex>),
    /// A link came, or changed.
    Link(Link),
    /// A link went, and all its addresses with it.
    LinkGone(LinkIndex),
    /// Everything, read afresh: at start, and after notifications were lost.
    Snapshot {
        /// All links.
        links: Vec<Link>,
        /// All addresses.
        addresses: Vec<Address>,
        /// See [`NetworkChange::DefaultLink`].
        default_link: Option<LinkIndex>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_are_in_the_order_of_their_addresses() {
        let sorted = ["0.0.0.0", "9.255.255.255", "10.0.0.1", "200.0.0.1", "::", "fd00::1:0"];
        let sorted = sorted.map(|it| it.parse::<IpAddr>().unwrap());
        assert!(sorted.is_sorted());
        for (one, other) in sorted.iter().flat_map(|it| sorted.iter().map(move |other| (it, other)))
        {
            assert_eq!(Vip(*one).cmp(&Vip(*other)), one.cmp(other), "{one} {other}");
        }
    }

    #[test]
    fn a_subnet_covers_its_own_addresses_only() {
        let table = [
            ("10.0.0.1", 24, "10.0.0.200", true),
            ("10.0.0.1", 24, "10.0.1.1", false),
            ("10.0.0.1", 0, "192.0.2.1", true),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("fd00::1", 64, "fd00::2", true),
            ("fd00::1", 64, "fd00:0:0:1::2", false),
            ("fd00::1", 0, "2001:db8::1", true),
            ("fd00::1", 128, "fd00::1", true),
            ("10.0.0.1", 0, "fd00::1", false),
        ];
        for (own, length, other, covered) in table {
            let ip = own.parse().unwrap();
            let address = Address { link: LinkIndex(1), ip, length, ours: false };
            assert_eq!(address.covers(other.parse().unwrap()), covered, "{own}/{length} {other}");
        }
    }
}
