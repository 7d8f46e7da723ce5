//! The links that leases are spoken of on, and those that are made for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Ground, Key, LINK_AGAIN, look_at};
use crate::engine::network::{LinkChoice, Usable};
use crate::engine::services::wants::{AskedLease, Verdict};
use crate::engine::services::{Known, Services};
use crate::model::{DhcpRefusal, Instant, IpFamily, Make, ObjectName, Refusal};

impl Services {
    /// The links of Services that are made for a lease, where that has changed: `None`, if not
    /// here.
    pub fn take_link_news(&mut self) -> Vec<(ObjectName, Option<LinkChoice>)> {
        let news = self.leasing.take_link_news();
        let of = |name: &ObjectName| match &self.services.get(name)?.verdict {
            Verdict::Wanted(it) if it.lease.is_some() => it.link.as_deref().cloned(),
            Verdict::Addressless | Verdict::Others | Verdict::Refused(_) | Verdict::Wanted(_) => {
                None
            }
        };
        news.into_iter().map(|(name, here)| (name.clone(), of(&name).filter(|_| here))).collect()
    }

    /// The link that a lease is to be spoken of on, if there is one.
    pub(super) fn link_of(&self, ground: &Ground<'_>, (name, family): &Key) -> Option<Usable> {
        let known = self.services.get(name)?;
        let (_, link) = asked(known, *family)?;
        let has = self.leasing.address(&known.service(), *family);
        (ground.on)(link.as_ref(), has.unwrap_or(any(*family))).ok()
    }

    /// There is no link to ask on, or none yet.
    pub(super) fn wait_for_link(&mut self, now: Instant, key: &Key, refusal: &Refusal) -> bool {
        self.leasing.agenda.set(key.clone(), Some(look_at(now + LINK_AGAIN)));
        let told = match refusal {
            Refusal::LinkAwaited { .. } => None,
            why => Some(DhcpRefusal::NoLink { why: why.to_string() }),
        };
        if self.leasing.linkless.insert(key.clone(), told.clone()) != Some(told) {
            self.telling.look_at(&key.0);
        }
        false
    }
}

/// Any address of the family.
pub(super) fn any(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
        IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// What a Service asks for, if that is a lease of this family.
pub(super) fn asked(it: &Known, family: IpFamily) -> Option<(AskedLease, Option<LinkChoice>)> {
    match &it.verdict {
        Verdict::Wanted(it) => {
            let lease = it.lease.as_deref().filter(|it| it.families.contains(&family))?;
            let link = match (it.link.as_deref(), family) {
                // By DHCPv6 the link below speaks, by its own address.
                (Some(LinkChoice::Made(made)), IpFamily::V6)
                    if matches!(made.make, Make::Macvlan { .. }) =>
                {
                    Some(made.parent.clone())
                }
                (link, IpFamily::V4 | IpFamily::V6) => link.cloned(),
            };
            Some((lease.clone(), link))
        }
        Verdict::Addressless | Verdict::Others | Verdict::Refused(_) => None,
    }
}
