//! What is drawn from a run's seed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What is drawn: each has numbers of its own under the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Draw {
    /// Which sequences or windows come together, and in which order: by the pass.
    Order,
    /// Tokens that are not read: by the batch.
    Tokens,
}

/// Random numbers that depend on all three alone.
pub(crate) fn random(draw: Draw, seed: u64, number: u64) -> ChaCha8Rng {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
    let mut random = ChaCha8Rng::seed_from_u64(mixed);
    random.set_stream(draw as u64);
    random
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn nothing_is_drawn_twice() {
        let draw = |draw, seed, number| random(draw, seed, number).random::<[u32; 8]>();
        let all = [
            draw(Draw::Order, 1, 0),
            draw(Draw::Order, 1, 1),
            draw(Draw::Order, 2, 0),
            draw(Draw::Tokens, 1, 0),
            draw(Draw::Tokens, 1, 1),
        ];
        assert_eq!(all[0], draw(Draw::Order, 1, 0));
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| one != other), "{i}");
        }
    }
}
