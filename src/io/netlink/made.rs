//! Links that are made on top of others, for Services that ask for one. Each bears the tag of
//! its instance from the moment that it is there: what makes it and what tags it are one
//! piece, by a number that is chosen before. What has no tag of ours is never removed.

use std::io;
use std::path::Path;

use log::{debug, info};
use nix::sys::socket::SockProtocol;

use super::links::head;
use super::message::Writer;
use super::socket::{Refused, Socket};
use super::{VLAN_ID, name, survey};
use crate::model::{Link, LinkIndex, Make, NewLink};

/// `IFLA_INET_CONF`, and `IPV4_DEVCONF_RP_FILTER` in it.
const INET_CONF: u16 = 1;
const RP_FILTER: u16 = 8;
/// `IFLA_INET6_ADDR_GEN_MODE`, and `IN6_ADDR_GEN_MODE_NONE`.
const ADDR_GEN_MODE: u16 = 8;
const NO_ADDRESSES: u8 = 1;

/// The links of one instance.
#[derive(Debug)]
pub struct Made {
    socket: Socket,
    tag: String,
}

impl Made {
    /// Opens the way to the kernel.
    pub fn open(tag: String) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(SockProtocol::NetlinkRoute)?, tag })
    }

    /// Makes a link, and turns it on. One of ours that is there is turned on.
    pub fn make(&mut self, new: &NewLink) -> Result<(), String> {
        let all = self.all()?;
        let there = all.iter().find(|it| it.name == new.name);
        let result = match there {
            Some(it) if it.ours => self.turn_on(it.index),
            Some(_) => return Ok(()),
            None => {
                if matches!(new.make, Make::Macvlan { .. }) && is_wireless(new.parent) {
                    let parent = name(new.parent);
                    return Err(format!(
                        "{parent} is Wi-Fi, which passes one hardware address; say \
                         edgevip_dhcp_mac=link"
                    ));
                }
                let highest = all.iter().map(|it| it.index.0).max().unwrap_or_default();
                self.create(LinkIndex(highest.saturating_add(1)), new)
            }
        };
        result.map_err(|it| it.to_string())
    }

    /// Removes a link, if it is ours.
    pub fn remove(&mut self, link: LinkIndex) -> Result<(), String> {
        let ours = self.all()?.iter().any(|it| it.index == link && it.ours);
        if ours { self.delete(link).map_err(|it| it.to_string()) } else { Ok(()) }
    }

    /// Removes all that are ours.
    pub fn clean(&mut self) -> Result<(), String> {
        // The last ones first: some may be made on top of others, and go with them.
        for it in self.all()?.iter().rev().filter(|it| it.ours) {
            info!(link:% = it.name; "removing a link that an earlier process made");
            self.remove(it.index)?;
        }
        Ok(())
    }

    fn all(&mut self) -> Result<Vec<Link>, String> {
        let all = survey::links(&mut self.socket, &self.tag);
        let mut all = all.map_err(|it| format!("reading the links: {it}"))?;
        all.sort_by_key(|it| it.index);
        Ok(all)
    }

    fn create(&mut self, link: LinkIndex, new: &NewLink) -> Result<(), Refused> {
        let mut writer = self.socket.compose();
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        writer.message(libc::RTM_NEWLINK, flags, |it| {
            head(it, libc::AF_UNSPEC, link, [0, 0]);
            it.text(libc::IFLA_IFNAME, &new.name.0);
            it.attribute(libc::IFLA_LINK, &new.parent.0.to_ne_bytes());
            if let Make::Macvlan { mac, .. } = new.make {
                it.attribute(libc::IFLA_ADDRESS, &mac.0);
            }
            it.nested(libc::IFLA_LINKINFO, |it| match new.make {
                Make::Macvlan { .. } => it.text(libc::IFLA_INFO_KIND, "macvlan"),
                Make::Vlan { tag } => {
                    it.text(libc::IFLA_INFO_KIND, "vlan");
                    it.nested(libc::IFLA_INFO_DATA, |it| {
                        it.attribute(VLAN_ID, &tag.to_ne_bytes());
                    });
                }
            });
        });
        writer.message(libc::RTM_NEWLINK, 0, |it| {
            head(it, libc::AF_UNSPEC, link, [0, 0]);
            it.attribute(libc::IFLA_IFALIAS, self.tag.as_bytes());
        });
        let mut of_less_weight = Vec::new();
        if let Make::Macvlan { rp_filter, .. } = new.make {
            of_less_weight = by_family(&mut writer, link, rp_filter);
        }
        writer.message(libc::RTM_NEWLINK, 0, |it| {
            head(it, libc::AF_UNSPEC, link, [libc::IFF_UP as u32; 2]);
        });
        let last = writer.ask_for_answer();
        for refused in self.socket.exchange(&writer, Some(last), &mut |_| ()) {
            if !of_less_weight.contains(&refused.number) {
                // What is there all the same is tagged, and so turned on the next time.
                return Err(refused);
            }
            debug!(link:% = new.name, why:% = refused; "the link is not quite as it should be");
        }
        info!(link:% = new.name, on:% = name(new.parent); "made the link");
        Ok(())
    }

    fn turn_on(&mut self, link: LinkIndex) -> Result<(), Refused> {
        let mut writer = self.socket.compose();
        writer.message(libc::RTM_NEWLINK, 0, |it| {
            head(it, libc::AF_UNSPEC, link, [libc::IFF_UP as u32; 2]);
        });
        self.socket.request(writer)
    }

    fn delete(&mut self, link: LinkIndex) -> Result<(), Refused> {
        let called = name(link);
        let mut writer = self.socket.compose();
        writer.message(libc::RTM_DELLINK, 0, |it| head(it, libc::AF_UNSPEC, link, [0, 0]));
        self.socket.request(writer)?;
        info!(link = called.as_str(); "removed the link");
        Ok(())
    }
}

/// An access point takes frames of one hardware address from each station.
fn is_wireless(link: LinkIndex) -> bool {
    let about = |it| Path::new("/sys/class/net").join(name(link)).join(it).exists();
    about("phy80211") || about("wireless")
}

/// A link that is one more hardware address is for what is put there only: it has no IPv6
/// address of its own, and takes what comes in although answers leave elsewhere. Returns the
/// numbers of the messages: a kernel may not know all of it.
fn by_family(writer: &mut Writer, link: LinkIndex, rp_filter: u8) -> Vec<u32> {
    let v4 = writer.message(libc::RTM_NEWLINK, 0, |it| {
        head(it, libc::AF_UNSPEC, link, [0, 0]);
        it.nested(libc::IFLA_AF_SPEC, |it| {
            it.nested(libc::AF_INET as u16, |it| {
                it.nested(INET_CONF, |it| {
                    it.attribute(RP_FILTER, &u32::from(rp_filter).to_ne_bytes());
                });
            });
        });
    });
    let v6 = writer.message(libc::RTM_NEWLINK, 0, |it| {
        head(it, libc::AF_UNSPEC, link, [0, 0]);
        it.nested(libc::IFLA_AF_SPEC, |it| {
            it.nested(libc::AF_INET6 as u16, |it| {
                it.attribute(ADDR_GEN_MODE, &[NO_ADDRESSES]);
            });
        });
    });
    vec![v4, v6]
}
