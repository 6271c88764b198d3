//! Activations in plain arithmetic, so that the compiler vectorises loops over them.
//!
//! They neither overflow nor lose small values, and they pass NaN on; what
//! `shaders/shared/activations.wgsl` computes, with an exponential of our own. A chain of
//! multiply-adds is half as long where they are one instruction: the cells' functions come both
//! ways ([`Arithmetic`]).

/// How a·b + c is rounded.
pub trait Arithmetic: Copy + Default {
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// After the product and after the sum.
#[derive(Clone, Copy, Default)]
pub struct Plain;

/// Once, in one instruction: for code that is compiled for processors that have it.
#[derive(Clone, Copy, Default)]
pub struct Fused;

impl Arithmetic for Plain {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

impl Arithmetic for Fused {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// v and 2ⁿ, so that eˣ = (1 + v)·2ⁿ, for x in \[−87, 88\]. Range reduction by ln 2 in two parts
/// and a polynomial of degree 5 (S. Moshier, Cephes, expf).
#[inline(always)]
fn reduced<A: Arithmetic>(x: f32) -> [f32; 2] {
    // Adding 1.5·2²³ rounds to an integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = A::multiply_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = A::multiply_add(n, -0.693_359_4, x);
    let r = A::multiply_add(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = A::multiply_add(p, r, c);
    }
    let power = (shifted.to_bits().wrapping_sub(ROUND.to_bits())).wrapping_add(127) << 23;
    [A::multiply_add(p, r * r, r), f32::from_bits(power)]
}

/// eˣ for x in \[−87, 88\], within 2 ULP; smaller x give e⁻⁸⁷, larger e⁸⁸.
#[inline(always)]
pub fn exp<A: Arithmetic>(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let [v, power] = reduced::<A>(x);
    (v + 1.0) * power
}

/// e^−|x|.
#[inline(always)]
fn decay<A: Arithmetic>(x: f32) -> f32 {
    let a = x.abs();
    let [v, power] = reduced::<A>(-if a > 87.0 { 87.0 } else { a });
    (v + 1.0) * power
}

/// σ(x) = 1 / (1 + e⁻ˣ), with the exponential of −|x| only.
#[inline(always)]
pub fn sigmoid<A: Arithmetic>(x: f32) -> f32 {
    let e = decay::<A>(x);
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}

/// σ(x) and σ(−x) = 1 − σ(x), each with all its digits.
#[inline(always)]
pub fn sigmoids<A: Arithmetic>(x: f32) -> [f32; 2] {
    let e = decay::<A>(x);
    let [large, small] = [1.0 / (1.0 + e), e / (1.0 + e)];
    if x >= 0.0 { [large, small] } else { [small, large] }
}

/// tanh x: an odd polynomial under 0.625 (S. Moshier, Cephes, tanhf), beyond it
/// 1 − 2 / (e^2|x| + 1).
#[inline(always)]
pub fn tanh<A: Arithmetic>(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    for c in [2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = A::multiply_add(p, z, c);
    }
    let small = A::multiply_add(p * z, x, x);
    let [v, power] = reduced::<A>(2.0 * if a > 10.0 { 10.0 } else { a });
    let large = (1.0 - 2.0 / ((v + 1.0) * power + 1.0)).copysign(x);
    if a < 0.625 { small } else { large }
}

/// log(1 + x) for x in \[0, 1\], without losing a small x.
#[inline(always)]
pub fn log_one_plus(x: f32) -> f32 {
    // log(1+x) = 2·artanh(s), s = x/(2+x) ≤ 1/3, an odd series.
    let s = x / (2.0 + x);
    let z = s * s;
    let mut p = 1.0 / 13.0;
    for k in [11.0, 9.0, 7.0, 5.0, 3.0f32] {
        p = p * z + 1.0 / k;
    }
    2.0 * s * (p * z + 1.0)
}

/// eˣ − 1 for x ≤ 0, without losing a small x: a Taylor series near 0.
#[inline(always)]
pub fn exp_minus_one(x: f32) -> f32 {
    let near = x
        * (1.0
            + x * (0.5
                + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0))))));

    if x.abs() < 0.2 { near } else { exp::<Plain>(x) - 1.0 }
}

/// log σ(x) = min(x, 0) − log(1 + e⁻|ˣ|).
#[inline(always)]
pub fn log_sigmoid(x: f32) -> f32 {
    (if x >= 0.0 { 0.0 } else { x }) - log_one_plus(decay::<Plain>(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error in units of the last place of `want`.
    fn ulp(got: f32, want: f64) -> f64 {
        let next = f32::from_bits((want as f32).abs().to_bits() + 1) as f64;
        (got as f64 - want).abs() / (next - (want as f32).abs() as f64)
    }

    fn over_the_range<A: Arithmetic>() {
        let mut worst = [0f64; 3];
        for i in -1_000_000i32..=1_000_000 {
            let x = i as f32 * 3.1e-5;
            worst[0] = worst[0].max(ulp(exp::<A>(x), (x as f64).exp()));
            worst[1] = worst[1].max(ulp(sigmoid::<A>(x), 1.0 / (1.0 + (-x as f64).exp())));
            worst[2] = worst[2].max(ulp(tanh::<A>(x), (x as f64).tanh()));
        }
        assert!(worst.iter().all(|&w| w <= 4.0), "{worst:?}");
    }

    #[test]
    fn within_four_ulp_over_the_range() {
        over_the_range::<Plain>();
        over_the_range::<Fused>();
    }

    /// Of all f32 one in 1009, of every exponent: what is no subnormal result is within 4 ULP, the rest near 0.
    fn at_every_exponent<A: Arithmetic>() {
        let (mut worst, mut seen) = ([0f64; 3], [0usize; 3]);
        for bits in (0..u32::MAX).step_by(1009) {
            let x = f32::from_bits(bits);
            if !x.is_finite() {
                continue;
            }
            let wide = f64::from(x);
            let all = [
                (exp::<A>(x), wide.exp(), x <= 88.0),
                (sigmoid::<A>(x), 1.0 / (1.0 + (-wide).exp()), true),
                (tanh::<A>(x), wide.tanh(), true),
            ];
            for (k, (got, want, told)) in all.into_iter().enumerate() {
                // e⁻⁸⁷ is where range reduction ends; smaller arguments give that.
                let normal = k == 2 || x >= -87.0;
                if !told {
                    continue;
                }
                if normal && (want.abs() >= f64::from(f32::MIN_POSITIVE) || want == 0.0) {
                    worst[k] = worst[k].max(ulp(got, want));
                    seen[k] += 1;
                } else {
                    assert!((f64::from(got) - want).abs() < 2e-38, "{k} at {x}: {got} {want}");
                }
            }
        }
        assert!(worst.iter().all(|&w| w <= 4.0), "{worst:?}");
        assert!(seen.iter().all(|&n| n > 1_000_000), "{seen:?}");
    }

    #[test]
    fn within_four_ulp_at_every_exponent() {
        at_every_exponent::<Plain>();
        at_every_exponent::<Fused>();
    }

    #[test]
    fn logarithms_and_small_exponentials_are_within_some_ulp() {
        let mut worst = [0f64; 3];
        for i in 0..=200_000i32 {
            let x = i as f32 / 200_000.0;
            worst[0] =
                worst[0].max(if x > 0.0 { ulp(log_one_plus(x), (x as f64).ln_1p()) } else { 0.0 });
            let x = -20.0 * x;
            worst[1] = worst[1].max(if x < 0.0 {
                ulp(exp_minus_one(x), (x as f64).exp_m1())
            } else {
                0.0
            });
            worst[2] = worst[2].max(ulp(log_sigmoid(x), -(-x as f64).exp().ln_1p()));
        }
        assert!(worst.iter().all(|&w| w <= 6.0), "{worst:?}");
    }

    fn extremes<A: Arithmetic>() {
        for x in [50.0, 90.0, 1e4, f32::MAX, f32::INFINITY] {
            assert_eq!((tanh::<A>(x), tanh::<A>(-x)), (1.0, -1.0));
            assert_eq!(sigmoid::<A>(x), 1.0);
            assert!(sigmoid::<A>(-x) < 1e-20);
        }
        assert!(tanh::<A>(f32::NAN).is_nan() && sigmoid::<A>(f32::NAN).is_nan());
        assert_eq!(tanh::<A>(0.0), 0.0);
        assert_eq!(tanh::<A>(1e-30), 1e-30);
    }

    #[test]
    fn extremes_saturate_and_nan_passes() {
        extremes::<Plain>();
        extremes::<Fused>();
    }
}
