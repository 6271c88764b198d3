//! Dynamic loss scaling.

/// The exponent of the first scale.
const FIRST_EXPONENT: i32 = 16;
/// The largest one: beyond it, gradients that 16 bits can hold have no use of a larger one.
const LAST_EXPONENT: i32 = 24;
/// Updates without an infinity after which the scale is doubled.
const GROWTH: u32 = 2000;

/// The state of dynamic loss scaling, as it lies in the store: gradients of 16 bits are computed times a
/// power of two; a step whose gradients are not finite is left out and halves it, 2000 updates in a row
/// double it (Micikevicius 2018, "Mixed precision training", section 3.2; the constants are PyTorch's
/// `GradScaler`'s).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossScale {
    exponent: f32,
    streak: f32,
    /// Steps that were left out.
    pub skipped: f32,
    /// 1 − βⁿ of both moments after n updates.
    pub(crate) corrections: [f32; 2],
}

impl LossScale {
    /// Words of the state.
    pub const WORDS: usize = 5;

    /// Its name in the store.
    pub const NAME: &'static str = "optimizer.loss_scale";

    /// The words of a scale of 1, for those who seed gradients that are large enough for 16 bits and look
    /// at what becomes of them.
    pub const NEUTRAL: [f32; Self::WORDS] = [-FIRST_EXPONENT as f32, 0.0, 0.0, 0.0, 0.0];

    /// From the words of the state: all zeros at first.
    pub fn new(words: &[f32]) -> Self {
        let word = |i: usize| words.get(i).copied().unwrap_or(0.0);
        let [exponent, streak, skipped] = [0, 1, 2].map(word);
        LossScale { exponent, streak, skipped, corrections: [3, 4].map(word) }
    }

    /// The words of the state.
    pub fn words(&self) -> [f32; Self::WORDS] {
        let [one, two] = self.corrections;
        [self.exponent, self.streak, self.skipped, one, two]
    }

    /// What gradients are multiplied with.
    pub fn scale(&self) -> f32 {
        2f32.powi(FIRST_EXPONENT + self.exponent as i32)
    }

    /// After a step whose gradients were finite, or not.
    pub(crate) fn after(&self, finite: bool, betas: [f32; 2]) -> Self {
        let mut next = *self;
        let exponent = FIRST_EXPONENT + self.exponent as i32;
        let exponent = if finite {
            next.streak += 1.0;
            for (correction, beta) in next.corrections.iter_mut().zip(betas) {
                *correction = *correction * beta + (1.0 - beta);
            }
            let grows = next.streak >= GROWTH as f32;
            if grows { (exponent + 1).min(LAST_EXPONENT) } else { exponent }
        } else {
            next.skipped += 1.0;
            (exponent - 1).max(0)
        };
        if !finite || next.streak >= GROWTH as f32 {
            next.streak = 0.0;
        }
        next.exponent = (exponent - FIRST_EXPONENT) as f32;
        next
    }

    pub(super) fn defines() -> Vec<(&'static str, String)> {
        vec![
            ("SCALED", String::new()),
            ("FIRST_EXPONENT", FIRST_EXPONENT.to_string()),
            ("LAST_EXPONENT", LAST_EXPONENT.to_string()),
            ("GROWTH", GROWTH.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_follows_the_gradients() {
        assert_eq!(LossScale::new(&LossScale::NEUTRAL).scale(), 1.0);
        let mut state = LossScale::new(&[]);
        assert_eq!(state.scale(), 65_536.0);
        state = state.after(false, [0.9, 0.999]);
        assert_eq!((state.scale(), state.skipped, state.corrections), (32_768.0, 1.0, [0.0; 2]));
        for update in 1..=2 * GROWTH {
            state = state.after(true, [0.9, 0.999]);
            let doubled = 1 << (update / GROWTH);
            assert_eq!(state.scale(), 32_768.0 * doubled as f32);
            assert_eq!(LossScale::new(&state.words()), state);
        }
        let want = [0.9f64, 0.999].map(|beta: f64| 1.0 - beta.powi(2 * GROWTH as i32));
        for (got, want) in state.corrections.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 1e-5);
        }
        for _ in 0..100 {
            state = state.after(false, [0.0; 2]);
        }
        assert_eq!((state.scale(), state.skipped), (1.0, 101.0));
        for _ in 0..30 * GROWTH {
            state = state.after(true, [0.0; 2]);
        }
        assert_eq!(state.scale(), 2f32.powi(LAST_EXPONENT));
    }
}
