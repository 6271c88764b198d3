//! How far a result is from the oracle's.

/// The largest errors of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// In units of the last place of the wanted value. A value under 1/256 of the tensor's largest
    /// is measured in the units of that 1/256: cancellation took its lower bits.
    pub max_ulp: f64,
    /// Relative to the tensor's largest wanted magnitude.
    pub max_rel: f64,
}

/// Compares `got` with `want`. A NaN, an infinity or another length is as far as can be.
pub fn compare(got: &[f32], want: &[f64]) -> Difference {
    // The largest number, not an infinity, which JSON does not have.
    const FAR: Difference = Difference { max_ulp: f64::MAX, max_rel: f64::MAX };
    let finite = got.iter().all(|x| x.is_finite()) && want.iter().all(|x| x.is_finite());
    if got.len() != want.len() || !finite {
        return FAR;
    }
    let scale = want.iter().fold(0f64, |a, x| a.max(x.abs()));
    let mut difference = Difference { max_ulp: 0.0, max_rel: 0.0 };
    for (&got, &want) in got.iter().zip(want) {
        let error = (f64::from(got) - want).abs();
        if error > 0.0 {
            let unit = ulp(want.abs().max(scale / 256.0));
            difference.max_ulp = difference.max_ulp.max(error / unit);
            difference.max_rel = difference.max_rel.max((error / scale).min(f64::MAX));
        }
    }
    difference
}

/// The distance from `x` ≥ 0, rounded to float32, to the next float32.
fn ulp(x: f64) -> f64 {
    let x = (x as f32).min(f32::MAX / 2.0);
    f64::from(f32::from_bits(x.to_bits() + 1)) - f64::from(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<f32>, Vec<f64>) {
        let want: Vec<f64> = (0..48).map(|i| (f64::from(i) * 0.73).sin()).collect();
        (want.iter().map(|&x| x as f32).collect(), want)
    }

    const BOUND: f64 = 1e-5;

    #[test]
    fn rounding_passes() {
        let (got, want) = sample();
        let difference = compare(&got, &want);
        assert!(difference.max_rel > 0.0 && difference.max_rel < 1e-7);
        assert!(difference.max_ulp <= 0.5);
        let same: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
        assert_eq!(compare(&got, &same), Difference { max_ulp: 0.0, max_rel: 0.0 });
    }

    #[test]
    fn planted_faults_are_noticed() {
        let (good, want) = sample();
        type Plant = fn(&mut Vec<f32>);
        let faults: [(&str, Plant); 8] = [
            ("a wrong sign", |x| x[7] = -x[7]),
            ("all signs", |x| x.iter_mut().for_each(|x| *x = -*x)),
            ("two gates of 12 swapped", |x| {
                let (a, b) = x.split_at_mut(12);
                a.swap_with_slice(&mut b[..12]);
            }),
            ("shifted by a step of 4", |x| x.rotate_right(4)),
            ("a NaN", |x| x[47] = f32::NAN),
            ("an infinity", |x| x[0] = f32::INFINITY),
            ("a value missing", |x| {
                x.pop();
            }),
            ("zeros", |x| x.fill(0.0)),
        ];
        for (name, plant) in faults {
            let mut got = good.clone();
            plant(&mut got);
            let difference = compare(&got, &want);
            let noticed = difference.max_rel > BOUND && difference.max_ulp > 100.0;
            assert!(noticed, "{name}: {difference:?}");
        }
    }

    #[test]
    fn a_wrong_oracle_is_noticed_too() {
        let (got, mut want) = sample();
        want[3] = f64::NAN;
        assert_eq!(compare(&got, &want).max_rel, f64::MAX);
        assert_eq!(compare(&[1e-30], &[0.0]).max_rel, f64::MAX);
    }
}
