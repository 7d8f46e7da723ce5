//! The value of a pool: a list of CIDRs, or a list of ranges.
//!
//! What kube-vip's cloud provider takes is taken, and what it does not take is a fault:
//! a value with a `/` in it is a list of CIDRs, any other a list of `first-last`; the comma
//! has no blanks around it; one bad element spoils the value. `0.0.0.0/32` stands for DHCP;
//! of our own is `::/128`, for DHCPv6. Of IPv6, scopes and what stands for IPv4
//! (`::ffff:0:0/96`) are left out.

use std::net::IpAddr;

use super::ranges::{ByFamily, Ranges, Span, number};
use crate::model::IpFamily;

/// What a pool has of one family.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Source {
    /// Nothing.
    #[default]
    Absent,
    /// Whatever a DHCP server leases.
    Dhcp,
    /// These.
    Ranges(Ranges),
}

/// An element that is wrong, and what would be right.
pub(super) type Wrong<'a> = (&'a str, &'static str);

const CIDR: &str = "is no CIDR: right is an address, a slash and a length of 0 to 32 (IPv4) or \
                    0 to 128 (IPv6), as in 192.168.0.200/29";
const RANGE: &str = "is no range: right is first-last, as in 192.168.0.10-192.168.0.20, or a CIDR";
const IN_CIDRS: &str =
    "stands beside CIDRs: a value with a slash in it is a list of CIDRs only, without ranges";
const BLANKS: &str = "has blanks: right is a list without any around the commas";
const EMPTY: &str = "is empty: right is at least one CIDR or range, and none after a last comma";
const INVERTED: &str = "is no range: its first address comes after its last";
const MIXED: &str = "is no range: its ends are of two families";
const MAPPED: &str = "stands for an IPv4 address: right is to write it as such";

/// Those that stand for IPv4 addresses (RFC 4291 §2.5.5.2).
const MAPPED_V4: Span = Span { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff };

/// Reads a value. `skip_ends`: CIDRs are without their first and last address.
pub(super) fn pool(value: &str, skip_ends: bool) -> Result<ByFamily<Source>, Wrong<'_>> {
    let cidrs = value.contains('/');
    let mut spans = ByFamily::<Vec<Span>>::default();
    for element in value.split(',') {
        let read = if cidrs { cidr(element) } else { range(element) };
        let (family, span) = read.map_err(|right| (element, blame(element, right)))?;
        spans.of_mut(family).push(span);
    }
    let v4: Ranges = spans.v4.into_iter().collect();
    let v6 = spans.v6.into_iter().collect::<Ranges>().without(MAPPED_V4);
    let v4 = if cidrs && skip_ends { v4.without_ends() } else { v4 };
    Ok(ByFamily { v4: source(v4, cidrs), v6: source(v6, cidrs) })
}

fn source(ranges: Ranges, cidrs: bool) -> Source {
    let unspecified = Ranges::from_iter([Span { first: 0, last: 0 }]);
    match ranges.is_empty() {
        true => Source::Absent,
        false if cidrs && ranges == unspecified => Source::Dhcp,
        false => Source::Ranges(ranges),
    }
}

fn cidr(element: &str) -> Result<(IpFamily, Span), &'static str> {
    if !element.contains('/') && element.contains('-') {
        return Err(IN_CIDRS);
    }
    let (ip, length) = element.rsplit_once('/').ok_or(CIDR)?;
    let (family, ip) = number(parse(ip).ok_or(CIDR)?);
    let digits = length.bytes().all(|it| it.is_ascii_digit());
    let plain = digits && (length == "0" || !length.starts_with('0'));
    let length: u32 = length.parse().ok().filter(|_| plain).ok_or(CIDR)?;
    let width = match family {
        IpFamily::V4 => 32,
        IpFamily::V6 => 128,
    };
    let host = width - Some(length).filter(|it| *it <= width).ok_or(CIDR)?;
    let mask = u128::MAX.checked_shr(128 - host).unwrap_or(0);
    not_mapped(family, Span { first: ip & !mask, last: ip | mask })
}

fn range(element: &str) -> Result<(IpFamily, Span), &'static str> {
    let (first, last) = element.split_once('-').ok_or(RANGE)?;
    let ends = parse(first).zip(parse(last)).ok_or(RANGE)?;
    let ((family, first), (other, last)) = (number(ends.0), number(ends.1));
    match (family == other, first <= last) {
        (false, _) => Err(MIXED),
        (true, false) => Err(INVERTED),
        (true, true) => not_mapped(family, Span { first, last }),
    }
}

fn not_mapped(family: IpFamily, span: Span) -> Result<(IpFamily, Span), &'static str> {
    let mapped = family == IpFamily::V6 && span.and(MAPPED_V4) == Some(span);
    if mapped { Err(MAPPED) } else { Ok((family, span)) }
}

fn parse(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn blame(element: &str, right: &'static str) -> &'static str {
    match element {
        "" => EMPTY,
        _ if element.contains(char::is_whitespace) => BLANKS,
        _ => right,
    }
}
