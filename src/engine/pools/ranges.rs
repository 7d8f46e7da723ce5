//! Sets of addresses as sorted ranges that neither touch nor overlap. Nothing is enumerated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::IpFamily;

/// An address as a number of its family.
pub(super) fn number(ip: IpAddr) -> (IpFamily, u128) {
    match ip {
        IpAddr::V4(ip) => (IpFamily::V4, u32::from(ip).into()),
        IpAddr::V6(ip) => (IpFamily::V6, ip.into()),
    }
}

/// What [`number`] made a number of.
pub(super) fn address(family: IpFamily, number: u128) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::from(number as u32).into(),
        IpFamily::V6 => Ipv6Addr::from(number).into(),
    }
}

/// One of each family.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ByFamily<T> {
    pub v4: T,
    pub v6: T,
}

impl<T> ByFamily<T> {
    pub fn of_mut(&mut self, family: IpFamily) -> &mut T {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }

    pub fn of(&self, family: IpFamily) -> &T {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }
}

/// Addresses from the first to the last, both included.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Span {
    pub first: u128,
    pub last: u128,
}

impl Span {
    /// The part that both have.
    pub fn and(self, other: Self) -> Option<Self> {
        let span = Self { first: self.first.max(other.first), last: self.last.min(other.last) };
        (span.first <= span.last).then_some(span)
    }

    /// How many are in it; the largest number stands for more.
    pub fn len(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// The largest prefixes that it is made of.
    fn prefixes(self) -> impl Iterator<Item = Self> {
        let mut next = Some(self.first);
        std::iter::from_fn(move || {
            let first = next?;
            let aligned = if first == 0 { 128 } else { first.trailing_zeros() };
            let fitting = (self.last - first).checked_add(1).map_or(128, u128::ilog2);
            let host = u128::MAX.checked_shr(128 - aligned.min(fitting)).unwrap_or(0);
            let last = first | host;
            next = last.checked_add(1).filter(|it| *it <= self.last);
            Some(Self { first, last })
        })
    }
}

/// A set of addresses of one family.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Ranges(Vec<Span>);

impl FromIterator<Span> for Ranges {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut spans: Vec<_> = spans.into_iter().collect();
        spans.sort_unstable();
        let mut merged: Vec<Span> = Vec::new();
        for span in spans {
            match merged.last_mut().filter(|it| span.first <= it.last.saturating_add(1)) {
                Some(before) => before.last = before.last.max(span.last),
                None => merged.push(span),
            }
        }
        Self(merged)
    }
}

impl Ranges {
    /// Without the first and the last address of each prefix of IPv4, but for those of one
    /// or two addresses (RFC 3021).
    pub fn without_ends(&self) -> Self {
        let inner = |it: Span| match it.len() {
            0..=2 => it,
            _ => Span { first: it.first + 1, last: it.last - 1 },
        };
        self.0.iter().flat_map(|it| it.prefixes()).map(inner).collect()
    }

    /// Without these.
    pub fn without(&self, gone: Span) -> Self {
        let cut = |it: &Span| {
            let before = gone.first.checked_sub(1).map(|last| Span { first: 0, last });
            let after = gone.last.checked_add(1).map(|first| Span { first, last: u128::MAX });
            [before, after].map(|left| left.and_then(|left| left.and(*it)))
        };
        Self(self.0.iter().flat_map(cut).flatten().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, number: u128) -> bool {
        let after = self.0.partition_point(|it| it.first <= number);
        after.checked_sub(1).is_some_and(|it| self.0[it].last >= number)
    }

    pub fn spans(&self) -> impl DoubleEndedIterator<Item = Span> + '_ {
        self.0.iter().copied()
    }
}
