//! Panels of every format against plain sums in float64, alone and in company, on every instruction set.

use super::*;
use crate::engine::cpu::Context;

/// The columns of a matrix \[columns, terms\] in panels.
fn pack(format: WeightFormat, weights: &[f32], terms: usize) -> Vec<f32> {
    let (columns, mut words) = (weights.len() / terms, Vec::new());
    let column = |panel: usize, column: usize| {
        let column = panel * WIDTH + column;
        let words = |column| &weights[column * terms..][..terms];
        (column < columns).then(|| Column { words: words(column), stride: 1 })
    };
    pack_panels(format, terms, columns.div_ceil(WIDTH), column, &mut words);
    words
}

struct Whole<'a, 'b> {
    rows: &'a [&'a [f32]],
    panels: Panels<'a>,
    base: Base<'a>,
    sums: &'b mut [f32],
}

impl WithSimd for Whole<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Whole { rows, panels, base, sums } = self;
        let (count, mut packed) = (panels.words.len() / panels.each(), Packed::default());
        let shape = [rows.len(), panels.terms];
        let rows = PackedRows::new(simd, panels.format, shape, |r| rows[r], &mut packed);
        let sums = Sums { words: sums, stride: count * WIDTH };
        Product { rows, panels, count, base, at: &|i| i * WIDTH, sums }.add(simd);
    }
}

/// Products of the rows with the panels, added to ones.
fn products(arch: impl Fn(Whole), rows: &[&[f32]], panels: Panels) -> Vec<f32> {
    let stride = panels.words.len() / panels.each() * WIDTH;
    let mut sums = vec![1.0; rows.len() * stride];
    arch(Whole { rows, panels, base: Base::There, sums: &mut sums });
    sums
}

fn best(work: Whole) {
    pulp::Arch::new().dispatch(work);
}

/// What the format makes of a vector, in double precision.
fn rounded(format: WeightFormat, values: &[f32]) -> Vec<f64> {
    let largest = values.iter().fold(0.0, |a: f64, &b| a.max(f64::from(b).abs()));
    let step = largest / 127.0;
    let round = |value: f64| match format {
        WeightFormat::F32 => value,
        WeightFormat::Bf16 => {
            let unit = 2f64.powf(value.abs().log2().floor() - 7.0);
            (value / unit).round_ties_even() * unit
        }
        WeightFormat::Int8 => (value / step).round_ties_even() * step,
    };
    let rounded = values.iter().map(|&value| round(f64::from(value)));
    rounded.map(|value| if value.is_nan() { 0.0 } else { value }).collect()
}

/// Columns whose sizes differ by six orders, and one of zeros; rows likewise.
fn numbers(count: usize, each: usize, step: f32) -> Vec<f32> {
    let scale = |i: usize| [1.0, 1e-3, 0.0, 1e3, 0.3, 0.1][i / each % 6];
    (0..count * each).map(|i| (i as f32 * step).sin() * scale(i)).collect()
}

#[test]
fn each_row_has_its_own_bits_in_any_company() {
    own_bits(best);
    own_bits(|work| work.with_simd(pulp::Scalar::new()));
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = pulp::x86::V3::try_new() {
        own_bits(|work| Simd::vectorize(v3, work));
    }
}

fn own_bits(arch: impl Fn(Whole) + Copy) {
    for format in WeightFormat::ALL {
        for (terms, columns) in [(1, 16), (2, 16), (3, 32), (4, 80), (7, 140), (33, 64)] {
            let weights = numbers(columns, terms, 0.37);
            let words = pack(format, &weights, terms);
            let panels = Panels::new(&words, format, terms);
            let words = numbers(30, terms, 0.71);
            let rows: Vec<&[f32]> = words.chunks(terms).collect();
            let alone: Vec<Vec<f32>> =
                rows.iter().map(|row| products(arch, &[row], panels)).collect();
            let columns: Vec<_> = weights.chunks(terms).map(|c| rounded(format, c)).collect();
            for (row, sums) in rows.iter().zip(&alone) {
                let row = match format {
                    WeightFormat::Int8 => rounded(format, row),
                    _ => rounded(WeightFormat::F32, row),
                };
                for (column, &got) in columns.iter().zip(sums) {
                    let products = row.iter().zip(column).map(|(a, b)| a * b);
                    let size: f64 = products.clone().map(f64::abs).sum();
                    let error = (f64::from(got) - 1.0 - products.sum::<f64>()).abs();
                    assert!(error <= 3e-7 * (1.0 + size), "{format:?} {terms}: {error}");
                }
            }
            for together in 0..=rows.len() {
                let sums = products(arch, &rows[..together], panels);
                assert_eq!(sums, alone[..together].concat(), "{format:?} {together} {terms}");
            }
        }
    }
}

/// Biases before and behind are those of the panel's columns, added in this order.
#[test]
fn sums_begin_with_biases() {
    let (terms, columns) = (37, 80);
    let [weights, before, behind] =
        [(terms, 0.37), (1, 0.91), (1, 0.53)].map(|(each, step)| numbers(columns, each, step));
    for format in WeightFormat::ALL {
        let words = pack(format, &weights, terms);
        let panels = Panels::new(&words, format, terms);
        let words = numbers(30, terms, 0.71);
        let rows: Vec<&[f32]> = words.chunks(terms).collect();
        for count in [1, 2, 3, 7, 12, 23, 30] {
            let of = |base| {
                let mut sums = vec![0.0; count * columns];
                best(Whole { rows: &rows[..count], panels, base, sums: &mut sums });
                sums
            };
            let plain = of(Base::There);
            let biases = before.iter().zip(&behind).cycle();
            let want: Vec<f32> = plain.iter().zip(biases).map(|(x, (a, b))| (a + x) + b).collect();
            assert_eq!(of(Base::Biases([&before, &behind])), want, "{format:?} {count}");
        }
    }
}

/// Sums of integers are the same whatever adds them up.
#[test]
fn integers_have_the_same_bits_on_every_instruction_set() {
    for terms in [1, 5, 64, 1030] {
        let (weights, words) = (numbers(48, terms, 0.37), numbers(13, terms, 0.71));
        let panels = pack(WeightFormat::Int8, &weights, terms);
        let panels = Panels::new(&panels, WeightFormat::Int8, terms);
        for count in [1, 2, 3, 13] {
            let rows: Vec<&[f32]> = words.chunks(terms).take(count).collect();
            let want = products(|work| work.with_simd(pulp::Scalar::new()), &rows, panels);
            assert_eq!(products(best, &rows, panels), want, "{terms} {count}");
            #[cfg(target_arch = "x86_64")]
            if let Some(v3) = pulp::x86::V3::try_new() {
                assert_eq!(products(|work| Simd::vectorize(v3, work), &rows, panels), want);
            }
        }
    }
}

/// bfloat16 has the bits of f32 with weights that are of eight significant bits.
#[test]
fn rounded_weights_have_the_bits_of_f32() {
    let terms = 37;
    let weights: Vec<f32> = (0..32 * terms).map(|i| (i * 7 % 255) as f32 / 64.0 - 1.9).collect();
    let weights: Vec<f32> = weights.iter().map(|w| (w * 64.0).round() / 64.0).collect();
    let (words, terms) = (numbers(7, terms, 0.71), terms);
    let rows: Vec<&[f32]> = words.chunks(terms).collect();
    let of = |format| {
        let words = pack(format, &weights, terms);
        products(best, &rows, Panels::new(&words, format, terms))
    };
    assert_eq!(of(WeightFormat::Bf16), of(WeightFormat::F32));
}

/// What is no number stays none, and reaches nobody else; whole rows of it, as their scale is none.
#[test]
fn no_number_becomes_one() {
    let (terms, columns) = (9, 16);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for format in WeightFormat::ALL {
            let mut rows = numbers(3, terms, 0.7);
            let mut weights = numbers(columns, terms, 0.3);
            rows[terms + 4] = bad;
            weights[5 * terms + 8] = bad;
            let words = pack(format, &weights, terms);
            let rows: Vec<&[f32]> = rows.chunks(terms).collect();
            let sums = products(best, &rows, Panels::new(&words, format, terms));
            for (i, sum) in sums.iter().enumerate() {
                let is_bad = i / columns == 1 || i % columns == 5;
                assert_eq!(sum.is_finite(), !is_bad, "{format:?} {bad} {i}: {sum}");
            }
        }
    }
}

/// C has rows of its own stride; what lies between them stays as it is.
#[test]
fn whole_products_begin_with_what_they_should() {
    let number = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
    // Of one thread, of some, and of so many rows that each thread has several bands of them.
    for [m, n, k] in [[1, 40, 9], [5, 33, 7], [1, 1100, 1000], [130, 96, 200], [61, 130, 150]] {
        let (a_stride, c_stride) = (k + 3, n + 5);
        let a: Vec<f32> = (0..m * a_stride).map(number).collect();
        let b: Vec<f32> = (0..n * k).map(|i| number(i + 5)).collect();
        let bias: Vec<f32> = (0..n).map(|i| number(i + 9)).collect();
        let words = pack(WeightFormat::F32, &b, k);
        let panels = Panels::new(&words, WeightFormat::F32, k);
        for threads in [1, 2, 3] {
            let context = Context::new(threads).unwrap();
            for (accumulate, with_bias) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let start = Start { accumulate, bias: with_bias.then_some(&bias[..]) };
                let mut c = vec![3.0; m * c_stride];
                let to = (&mut c[..], c_stride);
                let room = &mut ProductRoom::default();
                product_with_panels(&context, [m, n, k], (&a, a_stride), panels, to, start, room);
                for (i, c) in c.chunks(c_stride).enumerate() {
                    let row = &a[i * a_stride..][..k];
                    for (j, &got) in c.iter().enumerate() {
                        if j >= n {
                            assert_eq!(got, 3.0, "{m} {n} {k}: behind the row");
                            continue;
                        }
                        let terms = row.iter().zip(&b[j * k..]);
                        let terms = terms.map(|(a, b)| f64::from(*a) * f64::from(*b));
                        let size: f64 = 4.0 + terms.clone().map(f64::abs).sum::<f64>();
                        let sum: f64 = terms.sum();
                        let first = if accumulate { 3.0 } else { 0.0 };
                        let want = sum + first + if with_bias { f64::from(bias[j]) } else { 0.0 };
                        let error = (f64::from(got) - want).abs();
                        // A rounding a term, which lie either way.
                        let most = f64::from(f32::EPSILON) * (k as f64).sqrt() * size;
                        assert!(error < most, "{m} {n} {k}, {start:?}: {got} {want}");
                    }
                }
            }
        }
    }
}
