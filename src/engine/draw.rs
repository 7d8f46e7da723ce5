//! Draws that come out the same on every machine.

/// FNV-1a, and the last step of SplitMix64, so that each bit of it depends on each byte.
pub(crate) fn draw(of: &[&[u8]]) -> u64 {
    let fold = |hash: u64, it: &u8| (hash ^ u64::from(*it)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut z = of.iter().copied().flatten().fold(0xcbf2_9ce4_8422_2325, fold);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
