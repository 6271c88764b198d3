//! Counter-based random numbers, and the dropout multipliers made from them.

/// Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
/// 1, 2, 3", 2011), the same bits as Random123.
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    // Skein's parity constant, cut to 32 bits: k2 = C ^ k0 ^ k1.
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for round in 0..20 {
        // MIX: x0 ← x0 + x1;  x1 ← (x1 <<< R) ^ x0
        x[0] = x[0].wrapping_add(x[1]);
        x[1] = x[1].rotate_left(ROTATIONS[round % 8]) ^ x[0];
        // After every fourth round, the s-th injection: x0 += k(s), x1 += k(s+1) + s, modulo 3.
        if round % 4 == 3 {
            let s = round / 4 + 1;
            x[0] = x[0].wrapping_add(keys[s % 3]);
            x[1] = x[1].wrapping_add(keys[(s + 1) % 3]).wrapping_add(s as u32);
        }
    }
    x
}

/// `n` inverted-dropout multipliers (Srivastava et al. 2014): 1/keep with probability `keep`,
/// else 0. Two elements share a block: element e takes word e mod 2 of the block with key
/// (low half of `seed`, high half ^ `stream`) and counter (⌊e/2⌋, `step`), and is kept when the
/// word's upper 24 bits, as a fraction of 2^24, are below `keep`. Blocks repeat after 2^33
/// elements.
pub fn dropout_multipliers(seed: u64, stream: u32, step: u32, keep: f64, n: usize) -> Vec<f64> {
    let key = [seed as u32, (seed >> 32) as u32 ^ stream];
    let mut multipliers = Vec::new();
    for e in 0..n {
        let word = threefry2x32(key, [(e / 2) as u32, step])[e % 2];
        let u = f64::from(word >> 8) / f64::from(1u32 << 24);
        multipliers.push(if u < keep { 1.0 / keep } else { 0.0 });
    }
    multipliers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random123's own vectors (`kat_vectors`, threefry2x32 with 20 rounds).
    #[test]
    fn threefry_gives_the_published_answers() {
        let ones = [0xffff_ffff; 2];
        assert_eq!(threefry2x32([0; 2], [0; 2]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry2x32(ones, ones), [0x1cb9_96fc, 0xbb00_2be7]);
        let (counter, key) = ([0x243f_6a88, 0x85a3_08d3], [0x1319_8a2e, 0x0370_7344]);
        assert_eq!(threefry2x32(key, counter), [0xc492_3a9c, 0x483d_f7a0]);
    }

    /// The known answer for zeros, as uniform numbers: 0x6b2001 and 0x99ba4e over 2^24.
    #[test]
    fn the_first_two_multipliers_follow_the_known_answer() {
        let u0 = f64::from(0x6b_2001_u32) / 16_777_216.0;
        let u1 = f64::from(0x99_ba4e_u32) / 16_777_216.0;
        assert_eq!(dropout_multipliers(0, 0, 0, u0, 2), [0.0, 0.0], "kept only when u < keep");
        assert_eq!(dropout_multipliers(0, 0, 0, u0.next_up(), 2), [1.0 / u0.next_up(), 0.0]);
        assert_eq!(dropout_multipliers(0, 0, 0, u1.next_up(), 2), [1.0 / u1.next_up(); 2]);
        // All of the key and the counter are used: seed = pi's words, the stream folded in.
        let seed = 0x0370_7344_1319_8a2e ^ (0xabcd_u64 << 32);
        let multipliers = dropout_multipliers(seed, 0xabcd, 0x85a3_08d3, 0.5, 9);
        for (e, &multiplier) in multipliers.iter().enumerate() {
            let word = threefry2x32([0x1319_8a2e, 0x0370_7344], [e as u32 / 2, 0x85a3_08d3])[e % 2];
            assert_eq!(multiplier, if word < 0x8000_0000 { 2.0 } else { 0.0 });
        }
    }

    #[test]
    fn the_kept_share_is_keep_and_every_input_changes_the_mask() {
        let n = 100_000;
        for keep in [0.1, 0.5, 0.9] {
            let m = dropout_multipliers(7, 1, 2, keep, n);
            let kept = m.iter().filter(|&&v| v != 0.0).count() as f64 / n as f64;
            assert!((kept - keep).abs() < 0.006, "keep {keep}: {kept}");
            assert!(m.iter().all(|&v| v == 0.0 || v == 1.0 / keep));
        }
        let base = dropout_multipliers(7, 1, 2, 0.5, 64);
        assert_eq!(base[..33], dropout_multipliers(7, 1, 2, 0.5, 33)[..]);
        assert_ne!(base, dropout_multipliers(8, 1, 2, 0.5, 64));
        assert_ne!(base, dropout_multipliers(7 + (1 << 32), 1, 2, 0.5, 64));
        assert_ne!(base, dropout_multipliers(7, 3, 2, 0.5, 64));
        assert_ne!(base, dropout_multipliers(7, 1, 3, 0.5, 64));
        assert!(dropout_multipliers(7, 1, 2, 1.0, 64).iter().all(|&v| v == 1.0));
        assert!(dropout_multipliers(7, 1, 2, 0.0, 64).iter().all(|&v| v == 0.0));
    }
}
