//! Addresses of Services that nothing reaches but the ports of those: a table of our own in
//! nftables for each family, which sees what is delivered to this machine. What kube-proxy sends
//! on to an endpoint is not, so these rules see what it does not: all else that is sent to the
//! address.
//!
//! ```text
//! table ip edgevip.ports {
//!     set guarded { type ipv4_addr }
//!     set open { type ipv4_addr . inet_proto . inet_service }
//!     chain input {
//!         type filter hook input priority 0; policy accept
//!         ip daddr . meta l4proto . th dport @open accept
//!         ct direction reply accept          # what this machine asked for
//!         ct state related accept            # what ICMP says of a connection
//!         icmpv6 type 133-137 accept         # neighbour discovery; in ip6 only
//!         ip daddr @guarded drop
//!     }
//! }
//! ```

mod table;

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use self::table::Family;
use super::netlink::socket::{Refused, Socket};
use super::nft::{Tables, table_name};
use crate::model::{Guarded, Protocol, ServicePort, Vip};

/// The port that DHCP servers answer to, which a VIP that is leased needs (RFC 2131 §4.1).
const DHCP: ServicePort = ServicePort { port: 68, protocol: Protocol::Udp };

/// The guard of this instance.
#[derive(Debug)]
pub struct Guard {
    tables: Tables,
    /// What stands in the tables.
    told: BTreeMap<Vip, Vec<ServicePort>>,
    /// The numbers of the tables as built.
    built: BTreeMap<Family, [u8; 8]>,
}

impl Guard {
    /// Opens the way to nftables.
    pub fn open(instance: Option<&str>) -> Option<Self> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter).ok()?;
        let tables = Tables::new(socket, &format!("{}.ports", table_name(instance)));
        Some(Self { tables, told: BTreeMap::new(), built: BTreeMap::new() })
    }

    /// Tries whether the kernel takes all of it.
    pub fn probe(&mut self) -> Result<(), String> {
        for family in Family::BOTH {
            let build = |it: &mut _| table::build(it, family);
            self.tables.probe(family.number(), build).map_err(explain)?;
        }
        Ok(())
    }

    /// Has all of these let through what they say from now on, in one piece for each family.
    pub fn set(&mut self, all: &[Guarded]) -> Result<(), String> {
        for family in Family::BOTH {
            let of: Vec<_> = all.iter().filter(|it| Family::of(it.vip) == family).collect();
            if !of.is_empty() {
                self.set_in(family, &of)?;
            }
        }
        Ok(())
    }

    /// Builds again what somebody else removed.
    pub fn verify(&mut self) -> Result<(), String> {
        for (family, built) in self.built.clone() {
            if !self.tables.stands(family.number(), built, family.rules()) {
                self.build(family)?;
            }
        }
        Ok(())
    }

    /// Removes what an earlier process left.
    pub fn clean(&mut self) -> Result<(), String> {
        self.told.clear();
        Family::BOTH.into_iter().try_for_each(|it| self.remove(it))
    }

    fn set_in(&mut self, family: Family, all: &[&Guarded]) -> Result<(), String> {
        let mut before = Vec::new();
        for it in all {
            let was = match it.on {
                true => self.told.insert(it.vip, with_dhcp(it)),
                false => self.told.remove(&it.vip),
            };
            before.push((it.vip, was));
        }
        let written = self.write(family, &before);
        if written.is_err() {
            for (vip, was) in before.into_iter().rev() {
                match was {
                    Some(ports) => drop(self.told.insert(vip, ports)),
                    None => drop(self.told.remove(&vip)),
                }
            }
        }
        written
    }

    /// Makes the table say what is told of these, which it said otherwise before.
    fn write(
        &mut self,
        family: Family,
        before: &[(Vip, Option<Vec<ServicePort>>)],
    ) -> Result<(), String> {
        // IPv4 comes first.
        let one = match family {
            Family::Ip4 => self.told.first_key_value(),
            Family::Ip6 => self.told.last_key_value(),
        };
        if one.is_none_or(|it| Family::of(*it.0) != family) {
            return self.remove(family);
        }
        if self.built.contains_key(&family) {
            let mut it = self.tables.transaction();
            for (vip, was) in before {
                was.iter().for_each(|ports| table::remove(&mut it, *vip, ports));
                self.told.get(vip).into_iter().for_each(|ports| table::add(&mut it, *vip, ports));
            }
            match self.tables.send(it) {
                Ok(()) => return Ok(()),
                // Somebody removed the table, or something in it.
                Err(refused) if refused.errno == Errno::ENOENT => {}
                Err(refused) => return Err(explain(refused)),
            }
        }
        self.build(family)
    }

    /// Builds the table anew, with all there is.
    fn build(&mut self, family: Family) -> Result<(), String> {
        let mut it = self.tables.transaction();
        table::build(&mut it, family);
        for (vip, ports) in self.told.iter().filter(|it| Family::of(*it.0) == family) {
            table::add(&mut it, *vip, ports);
        }
        self.tables.send(it).map_err(explain)?;
        let handle = self.tables.handle(family.number()).unwrap_or_default();
        self.built.insert(family, handle);
        Ok(())
    }

    fn remove(&mut self, family: Family) -> Result<(), String> {
        self.built.remove(&family);
        if self.tables.handle(family.number()).is_none() {
            return Ok(());
        }
        let mut it = self.tables.transaction();
        it.delete(family.number());
        self.tables.send(it).map_err(explain)
    }
}

fn with_dhcp(it: &Guarded) -> Vec<ServicePort> {
    let mut ports = it.ports.clone();
    ports.push(DHCP);
    ports.sort();
    ports.dedup();
    ports
}

fn explain(refused: Refused) -> String {
    match refused.errno {
        Errno::EPERM => "nftables needs CAP_NET_ADMIN".to_owned(),
        Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => {
            format!("it needs nftables with connection tracking (nf_tables, nft_ct): {refused}")
        }
        _ => format!("nftables says no: {refused}"),
    }
}
