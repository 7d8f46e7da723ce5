//! Weighted rendezvous hashing with whole numbers only: the same on every machine.

use std::net::IpAddr;

use crate::engine::draw::draw;
use crate::model::{NodeName, Vip};

/// The weight of a member like any other.
pub(super) const EVEN: u64 = 1 << 8;
/// Binary places of a logarithm.
const PLACES: u32 = 24;

/// What it costs a member of this weight to carry the VIP: the cheapest of them is the
/// place of the VIP, and stays it when others come or go.
pub(super) fn cost(vip: Vip, name: &NodeName, weight: u64) -> (u64, u64) {
    let hash = hash(vip, name);
    let scaled = minus_log2(hash) << 16;
    (scaled / weight.max(1), !hash)
}

fn hash(vip: Vip, name: &NodeName) -> u64 {
    match vip.0 {
        IpAddr::V4(it) => draw(&[&it.octets(), name.0.as_bytes()]),
        IpAddr::V6(it) => draw(&[&it.octets(), name.0.as_bytes()]),
    }
}

/// Of `hash / 2^64`, which is taken for a number between nought and one.
fn minus_log2(hash: u64) -> u64 {
    let hash = hash.max(1);
    let zeros = hash.leading_zeros();
    let mut mantissa = hash << zeros;
    let mut fraction = 0;
    for _ in 0..PLACES {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let carries = square >> 64 != 0;
        fraction = fraction << 1 | u64::from(carries);
        mantissa = if carries { (square >> 1) as u64 } else { square as u64 };
    }
    (u64::from(zeros + 1) << PLACES) - fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithm_is_as_good_as_the_usual_one() {
        for hash in [1, 2, 3, 0xffff_ffff, 1 << 63, (1 << 63) + 12345, u64::MAX / 3, u64::MAX] {
            let usual = 64.0 - (hash as f64).log2();
            let ours = minus_log2(hash) as f64 / f64::from(1 << PLACES);
            assert!((usual - ours).abs() < 1e-6, "{hash}: {usual} {ours}");
        }
    }

    #[test]
    fn the_same_hash_in_every_build() {
        let vip = Vip("192.0.2.1".parse().unwrap());
        assert_eq!(hash(vip, &NodeName("n1".into())), PINNED.0);
        let vip = Vip("2001:db8::1".parse().unwrap());
        assert_eq!(hash(vip, &NodeName("n2".into())), PINNED.1);
    }

    /// Members of different builds need not agree, but a new leader must not find every
    /// VIP in the wrong place.
    const PINNED: (u64, u64) = (0x778f_64f8_fe50_886a, 0x31cc_d106_a5bf_5d38);

    #[test]
    fn twice_the_weight_gets_twice_the_vips() {
        let (light, heavy) = (NodeName("light".into()), NodeName("heavy".into()));
        let vips = (0..3000u32).map(|it| Vip(std::net::Ipv4Addr::from(it).into()));
        let heavier = vips.filter(|it| cost(*it, &heavy, 2 * EVEN) < cost(*it, &light, EVEN));
        let heavier = heavier.count();
        assert!((1900..2100).contains(&heavier), "{heavier}");
    }
}
