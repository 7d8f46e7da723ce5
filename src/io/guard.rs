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

use self::table::{Family, Transaction};
use super::fence::table::handle as number;
use super::fence::table_name;
use super::netlink::message::Message;
use super::netlink::socket::{Refused, Socket};
use crate::model::{Guarded, Protocol, ServicePort, Vip};

/// The port that DHCP servers answer to, which a VIP that is leased needs (RFC 2131 §4.1).
const DHCP: ServicePort = ServicePort { port: 68, protocol: Protocol::Udp };

/// The guard of this instance.
#[derive(Debug)]
pub struct Guard {
    socket: Socket,
    table: String,
    /// What stands in the tables.
    told: BTreeMap<Vip, Vec<ServicePort>>,
    /// The numbers of the tables as built.
    built: BTreeMap<Family, [u8; 8]>,
}

impl Guard {
    /// Opens the way to nftables.
    pub fn open(instance: Option<&str>) -> Option<Self> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter).ok()?;
        let table = format!("{}.ports", table_name(instance));
        Some(Self { socket, table, told: BTreeMap::new(), built: BTreeMap::new() })
    }

    /// Tries whether the kernel takes all of it: it is built under another name, and deleted in
    /// the same transaction.
    pub fn probe(&mut self) -> Result<(), String> {
        let name = format!("{}-probe", self.table);
        for family in Family::BOTH {
            let mut it = Transaction::new(self.socket.compose(), &name, family);
            it.build();
            it.delete();
            send(&mut self.socket, it).map_err(explain)?;
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
            if self.handle(family) != Some(built) || self.rules(family) != family.rules() {
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
        let mut wanted = self.told.clone();
        for it in all {
            match it.on {
                true => drop(wanted.insert(it.vip, with_dhcp(it))),
                false => drop(wanted.remove(&it.vip)),
            }
        }
        let before = std::mem::replace(&mut self.told, wanted);
        if !self.told.keys().any(|it| Family::of(*it) == family) {
            return self.remove(family);
        }
        let stands = self.built.contains_key(&family);
        if stands {
            let mut it = Transaction::new(self.socket.compose(), &self.table, family);
            for Guarded { vip, .. } in all {
                if let Some(ports) = before.get(vip) {
                    it.remove(*vip, ports);
                }
                if let Some(ports) = self.told.get(vip) {
                    it.add(*vip, ports);
                }
            }
            match send(&mut self.socket, it) {
                Ok(()) => return Ok(()),
                // Somebody removed the table, or something in it.
                Err(refused) if refused.errno == Errno::ENOENT => {}
                Err(refused) => {
                    self.told = before;
                    return Err(explain(refused));
                }
            }
        }
        self.build(family).inspect_err(|_| self.told = before)
    }

    /// Builds the table anew, with all there is.
    fn build(&mut self, family: Family) -> Result<(), String> {
        let mut it = Transaction::new(self.socket.compose(), &self.table, family);
        it.build();
        for (vip, ports) in self.told.iter().filter(|it| Family::of(*it.0) == family) {
            it.add(*vip, ports);
        }
        send(&mut self.socket, it).map_err(explain)?;
        let handle = self.handle(family).unwrap_or_default();
        self.built.insert(family, handle);
        Ok(())
    }

    fn remove(&mut self, family: Family) -> Result<(), String> {
        self.built.remove(&family);
        if self.handle(family).is_none() {
            return Ok(());
        }
        let mut it = Transaction::new(self.socket.compose(), &self.table, family);
        it.delete();
        send(&mut self.socket, it).map_err(explain)
    }

    /// The number of the table of our name, if there is one.
    fn handle(&mut self, family: Family) -> Option<[u8; 8]> {
        let mut writer = self.socket.compose();
        table::ask_for_table(&mut writer, family, &self.table);
        let mut handle = None;
        self.socket.exchange(&writer, None, &mut |it| handle = handle.or(number(&it)));
        handle
    }

    fn rules(&mut self, family: Family) -> usize {
        let name = self.table.clone();
        let body = |it: &mut _| table::about(it, family, &name);
        let one = |_: &Message<'_>| Some(());
        let rules = self.socket.dump(table::GET_RULES, &body, &one);
        rules.map_or(0, |it| it.len())
    }
}

fn with_dhcp(it: &Guarded) -> Vec<ServicePort> {
    let mut ports = it.ports.clone();
    ports.push(DHCP);
    ports.sort();
    ports.dedup();
    ports
}

fn send(socket: &mut Socket, it: Transaction<'_>) -> Result<(), Refused> {
    let (writer, awaited) = it.end();
    match socket.exchange(&writer, Some(awaited), &mut |_| ()).into_iter().next() {
        Some(refused) => Err(refused),
        None => Ok(()),
    }
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
