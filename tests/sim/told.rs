//! What a process was told of Services, kept by somebody who does not know what it makes of
//! that: an address that it was told of is not to be given to another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use edgevip::model::{Followed, Instant, Object, ObjectEvent, ObjectName, Service};

use crate::objects::{known_by, subject};

/// Nobody else gets an address for so long after it was freed.
pub const RESTS: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Told {
    pub services: BTreeMap<ObjectName, Service>,
    unseen: Option<BTreeSet<ObjectName>>,
    /// By whom, and when this process was told.
    pub freed: BTreeMap<IpAddr, (ObjectName, Instant)>,
    /// There have been pools: before that nobody keeps account of what is freed.
    pools: bool,
    /// What it has ordered to be given to whom, done or not.
    pub given: BTreeSet<(IpAddr, ObjectName)>,
}

impl Told {
    pub fn learn(&mut self, now: Instant, what: &Followed, events: &[ObjectEvent]) {
        if let Followed::ConfigMap(_) = what {
            let map = |it: &ObjectEvent| matches!(it, ObjectEvent::Changed(_));
            self.pools |= events.iter().any(map);
        }
        if !matches!(what, Followed::Services(_)) {
            return;
        }
        for event in events {
            if let (Some(name), Some(unseen)) = (subject(event), &mut self.unseen) {
                unseen.remove(&name);
            }
            match event {
                ObjectEvent::Changed(it) => {
                    if let Object::Service(it) = &**it {
                        self.put(now, &it.name, Some(it.clone()));
                    }
                }
                ObjectEvent::Deleted(name) => self.put(now, name, None),
                ObjectEvent::Listing => {
                    self.unseen = Some(self.services.keys().cloned().collect());
                }
                ObjectEvent::Listed(_) => {
                    for name in self.unseen.take().unwrap_or_default() {
                        self.put(now, &name, None);
                    }
                }
                _ => {}
            }
        }
    }

    /// The Services that are known by an address.
    pub fn users(&self, ip: IpAddr) -> impl Iterator<Item = &Service> {
        self.services.values().filter(move |it| known_by(it).contains(&ip))
    }

    fn put(&mut self, now: Instant, name: &ObjectName, it: Option<Service>) {
        let before = match it {
            Some(it) => self.services.insert(name.clone(), it),
            None => self.services.remove(name),
        };
        for ip in before.iter().flat_map(known_by) {
            if self.pools && self.users(ip).next().is_none() {
                self.freed.insert(ip, (name.clone(), now));
            }
        }
        for ip in self.services.get(name).map(known_by).unwrap_or_default() {
            self.freed.remove(&ip);
        }
    }
}
