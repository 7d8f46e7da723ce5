//! Draws that come out the same on every machine.

/// Where FNV-1a begins.
pub(crate) const BEGIN: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a of 64 bits.
pub(crate) fn fnv(begin: u64, bytes: &[u8]) -> u64 {
    let step = |sum: u64, it: &u8| (sum ^ u64::from(*it)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(begin, step)
}

/// FNV-1a, and the last step of SplitMix64, so that each bit of it depends on each byte.
pub(crate) fn draw(of: &[&[u8]]) -> u64 {
    let mut z = of.iter().fold(BEGIN, |sum, it| fnv(sum, it));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
