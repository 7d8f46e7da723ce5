//! What is said of address pools: faults in what was written, refusals, and use.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{IpFamily, Mac, ObjectName};

/// A text of the ConfigMap that cannot be what was meant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PoolFault {
    /// Under which key.
    pub key: String,
    /// The text, or the part of it that is wrong; long ones are cut.
    pub value: String,
    /// What would be right, and what happens meanwhile.
    pub right: String,
}

impl fmt::Display for PoolFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} {}", self.key, self.value, self.right)
    }
}

/// Why a Service gets no address out of a pool.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PoolRefusal {
    /// Nothing is left.
    Exhausted {
        /// The Service's.
        namespace: String,
        /// The key of the pool.
        pool: String,
        /// Of the families that were asked for and have nothing left.
        families: Vec<FamilyUse>,
    },
    /// The pool has no addresses of a family that must be.
    FamilyMissing {
        /// The Service's.
        namespace: String,
        /// The key of the pool.
        pool: String,
        /// Those that it has not.
        families: Vec<IpFamily>,
        /// What it has of the other family is leased by DHCP.
        dhcp: bool,
    },
    /// The pool cannot be read.
    Malformed {
        /// The Service's.
        namespace: String,
        /// What is wrong.
        fault: PoolFault,
    },
    /// There is no pool for the namespace.
    NoPool {
        /// The Service's.
        namespace: String,
    },
    /// The address that the Service itself asks for is another's.
    Taken {
        /// The Service.
        service: ObjectName,
        /// The address.
        address: IpAddr,
        /// Who has it.
        by: String,
    },
}

impl PoolRefusal {
    /// The code that log, Event, metric and status share.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exhausted { .. } => "pool-exhausted",
            Self::FamilyMissing { .. } => "pool-family-missing",
            Self::Malformed { .. } => "pool-malformed",
            Self::NoPool { .. } => "no-pool",
            Self::Taken { .. } => "address-taken",
        }
    }
}

impl fmt::Display for PoolRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { namespace, pool, families } => {
                write!(f, "namespace {namespace}: pool {pool} is exhausted: ")?;
                let words: Vec<_> = families.iter().map(FamilyUse::words).collect();
                f.write_str(&words.join("; "))
            }
            Self::FamilyMissing { namespace, pool, families, dhcp } => {
                let names: Vec<_> = families.iter().map(|it| family_name(*it)).collect();
                let names = names.join(" and no ");
                write!(f, "namespace {namespace}: pool {pool} has no {names} addresses")?;
                match (dhcp, families.as_slice()) {
                    (true, [IpFamily::V6]) => write!(f, "; add ::/128 to lease them by DHCPv6"),
                    (true, [IpFamily::V4]) => write!(f, "; add 0.0.0.0/32 to lease them by DHCP"),
                    (_, _) => Ok(()),
                }
            }
            Self::Malformed { namespace, fault } => write!(f, "namespace {namespace}: {fault}"),
            Self::NoPool { namespace } => write!(
                f,
                "namespace {namespace} has no pool: none of cidr-{namespace}, cidr-global, \
                 range-{namespace} and range-global is in the ConfigMap"
            ),
            Self::Taken { service, address, by } => {
                write!(f, "{service} asks for {address}, which {by} has")
            }
        }
    }
}

/// What is written in the ConfigMap as a pool, and how much of it is used.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PoolUse {
    /// Its key.
    pub key: String,
    /// What is wrong with it, if something is: nothing comes out of it.
    pub fault: Option<PoolFault>,
    /// Families that are leased by DHCP.
    pub dhcp: Vec<IpFamily>,
    /// Families that it has addresses of.
    pub families: Vec<FamilyUse>,
    /// Its addresses that are not free, in order.
    pub held: Vec<HeldAddress>,
}

/// How much of one family of a pool is used.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FamilyUse {
    /// Which family.
    pub family: IpFamily,
    /// Addresses that may be given out; the largest number stands for more.
    pub total: u64,
    /// Those that Services, VIPs and nodes have.
    pub used: u64,
    /// Those that were freed a short time ago.
    pub quarantined: u64,
    /// Those that another host was found to answer for.
    pub strangers: u64,
}

impl FamilyUse {
    /// How many are left to give out; of more than can be counted, more than can be counted.
    pub fn free(&self) -> u64 {
        if self.total == u64::MAX {
            return u64::MAX;
        }
        let gone = self.used.saturating_add(self.quarantined).saturating_add(self.strangers);
        self.total.saturating_sub(gone)
    }

    fn words(&self) -> String {
        let Self { used, total, .. } = self;
        if *total == 0 {
            return format!("none of its {} addresses is ever given out", family_name(self.family));
        }
        let mut words = format!("{used} of {total} {} addresses in use", family_name(self.family));
        if self.quarantined > 0 {
            words += &format!(", {} freed a moment ago", self.quarantined);
        }
        if self.strangers > 0 {
            words += &format!(", {} answered for by other hosts", self.strangers);
        }
        words
    }
}

/// An address of a pool that is not free.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HeldAddress {
    /// Which.
    pub address: IpAddr,
    /// Why it is not.
    pub by: AddressUse,
}

/// Why an address is not free.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum AddressUse {
    /// It was freed a short time ago.
    Quarantined {
        /// By whom.
        last: ObjectName,
        /// Milliseconds until others may have it.
        left_ms: u64,
    },
    /// The cluster itself needs it.
    Reserved(Vec<String>),
    /// Services have it.
    Services(Vec<ObjectName>),
    /// Another host answers for it.
    Stranger {
        /// Its hardware address, where known.
        mac: Option<Mac>,
        /// Milliseconds until it is tried again.
        left_ms: u64,
    },
}

/// The name of a family.
pub fn family_name(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    }
}
