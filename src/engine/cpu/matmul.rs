//! `matmul`: the large products, on all threads.

use super::cell::activate;
use super::panel::{Column, Panels, Start, WIDTH, is_for_one, pack_panels, product_with_panels};
use super::product::{Strided, product};
use super::{Bound, Context, Scratch};
use crate::engine::WeightFormat;
use crate::kernel::{Matmul, SequenceSide, VALID};
use rayon::prelude::*;

/// Rows that a product with flags gathers at once.
const GATHER: usize = 512;

/// A product with rows of a sequence on one side goes block by block, so that every block has the same
/// bits wherever the sequence is cut.
pub fn matmul(context: &Context, kernel: &Matmul, mut bound: Bound, scratch: &mut Scratch) {
    let flags = bound.read("flags");
    let p = &kernel.params;
    let operands = Operands {
        a: &bound.read("a")[p.a_offset as usize..],
        b: &bound.read("b")[p.b_offset as usize..],
        bias: bound.read("bias").get(p.bias_offset as usize..).unwrap_or_default(),
    };
    let (version, format) = (bound.version, bound.format);
    let keeps = version.is_some() && keeps_weights(kernel, format);
    let c = &mut bound.write("c")[p.c_offset as usize..];
    let row_sum = bound.write("row_sum").get_mut(p.row_sum_offset as usize..).unwrap_or_default();
    let valid = |row: usize| match flags.get((p.first as usize + row) / p.places as usize) {
        Some(word) => word.to_bits() & VALID != 0,
        None => true,
    };
    let terms = kernel.side == Some(SequenceSide::Terms);
    let [count, block] = kernel.sequence_rows();
    let blocks = count.div_ceil(block);
    let mut is_packed = false;
    for number in 0..blocks {
        let first = block * if kernel.descending { blocks - 1 - number } else { number };
        let rows = first..count.min(first + block);
        let part = Part { first, rows: rows.len(), later: terms && number > 0 };
        if !kernel.flags || rows.clone().all(valid) {
            if keeps || packs_weights(kernel, rows.len()) {
                if !std::mem::replace(&mut is_packed, true) {
                    keep(kernel, &operands, version.filter(|_| keeps), format, scratch);
                }
                with_kept(context, kernel, &operands, c, format, part, scratch);
            } else {
                whole(context, kernel, &operands, c, row_sum, part);
            }
            continue;
        }
        let listed: Vec<usize> = rows.filter(|&row| valid(row)).collect();
        if terms {
            valid_terms(context, kernel, &operands, c, row_sum, &listed, part, scratch);
        } else {
            // Rows have the bits that they have without the others.
            let narrow = keeps && format != WeightFormat::F32;
            if narrow {
                keep(kernel, &operands, version, format, scratch);
            }
            let format = narrow.then_some(format);
            valid_rows(context, kernel, &operands, c, &listed, part, format, scratch);
        }
    }
    if let Some(activation) = kernel.activation {
        for row in c.chunks_mut(p.c_stride as usize).take(p.m as usize) {
            activate(activation, &mut row[..p.n as usize]);
        }
    }
}

/// A block of the sequence's rows.
#[derive(Clone, Copy)]
struct Part {
    first: usize,
    rows: usize,
    /// C has sums of earlier blocks.
    later: bool,
}

struct Operands<'a> {
    a: &'a [f32],
    b: &'a [f32],
    bias: &'a [f32],
}

/// Rows that are too few for a product that packs its weights each time; and terms of which a panel comes from the
/// second-level cache fast enough, so that panels are faster for any number of rows.
const FEW_ROWS: u32 = 512;
const FEW_TERMS: u32 = 1024;

/// B is worth keeping in panels, if it lasts; in any case where it has fewer bits there, so that
/// the bits don't depend on the number of rows.
pub fn keeps_weights(kernel: &Matmul, format: WeightFormat) -> bool {
    let (p, is_terms) = (&kernel.params, kernel.side == Some(SequenceSide::Terms));
    let is_served = !is_terms && !kernel.a_transposed && !kernel.row_sum;
    is_served && (format != WeightFormat::F32 || p.m <= FEW_ROWS || p.k <= FEW_TERMS)
}

/// Rows of a block, and terms, for which B is worth packing each time.
const PACKED_ROWS: usize = 256;
const PACKED_TERMS: std::ops::RangeInclusive<u32> = 256..=FEW_TERMS;

/// A product of so many rows is faster with B in panels, though it is packed each time: measured
/// with AVX-512 against crate gemm, of weights that lie output by output.
fn packs_weights(kernel: &Matmul, rows: usize) -> bool {
    let is_served = kernel.side == Some(SequenceSide::Rows) && !kernel.a_transposed;
    let is_served = is_served && kernel.b_transposed && !kernel.row_sum;
    let is_large = rows >= PACKED_ROWS && kernel.params.n > SMALL;
    let is_worth = is_large && PACKED_TERMS.contains(&kernel.params.k);
    is_served && is_worth && has_wide_vectors()
}

#[cfg(target_arch = "x86_64")]
fn has_wide_vectors() -> bool {
    matches!(pulp::Arch::new(), pulp::Arch::V4(_))
}

#[cfg(not(target_arch = "x86_64"))]
fn has_wide_vectors() -> bool {
    false
}

/// It never asks for other threads.
pub fn is_small(kernel: &Matmul) -> bool {
    let p = &kernel.params;
    is_for_one([p.m, p.n, p.k].map(|x| x as usize))
}

/// Sums have the same order whatever rows stand beside a row, but for products that crate gemm takes for vectors, dot
/// products or small: of one row, of 256 elements, of 64 columns.
const DOTS: usize = 16 * 16;
const SMALL: u32 = 64;

/// Whether a product of some of the rows has the bits that they have in the whole.
pub fn keeps_bits(whole: &Matmul, part: &Matmul, lasting: bool) -> bool {
    if whole.flags {
        // How many rows are multiplied together depends on the flags.
        return false;
    }
    // In fewer bits all that lasts is in panels.
    let [whole_kept, part_kept] =
        [whole, part].map(|kernel| lasting && keeps_weights(kernel, WeightFormat::F32));
    if whole_kept || part_kept {
        // Panels have the same bits for any rows.
        return whole_kept && part_kept;
    }
    let rows = |kernel: &Matmul| match kernel.sequence_rows() {
        [count, block] if count % block == 0 => block,
        [count, block] => count % block,
    };
    let [whole_packed, part_packed] =
        [whole, part].map(|kernel| packs_weights(kernel, rows(kernel)));
    if whole_packed || part_packed {
        return whole_packed && part_packed;
    }
    let is_large = |kernel: &Matmul| {
        let rows = rows(kernel);
        rows > 1 && rows * kernel.params.n as usize > DOTS && kernel.params.n > SMALL
    };
    is_large(whole) && is_large(part)
}

fn threads(context: &Context, shape: [usize; 3]) -> usize {
    if is_for_one(shape) { 1 } else { context.threads }
}

/// C is bias, or C + bias; returns whether the product is to be added.
fn set_bias(kernel: &Matmul, bias: &[f32], c: &mut [f32], rows: usize, part: Part) -> bool {
    if part.later || !kernel.bias {
        return part.later || kernel.accumulate;
    }
    for row in c.chunks_mut(kernel.params.c_stride as usize).take(rows) {
        for (c, b) in row.iter_mut().zip(&bias[..kernel.params.n as usize]) {
            *c = if kernel.accumulate { *c + b } else { *b };
        }
    }
    true
}

fn whole(
    context: &Context,
    kernel: &Matmul,
    on: &Operands,
    c: &mut [f32],
    row_sum: &mut [f32],
    part: Part,
) {
    let p = &kernel.params;
    let n = p.n as usize;
    let [a_stride, b_stride, c_stride] = [p.a_stride, p.b_stride, p.c_stride].map(|x| x as usize);
    let (a_major, a_minor) = if kernel.a_transposed { (1, a_stride) } else { (a_stride, 1) };
    let b_minor = if kernel.b_transposed { 1 } else { b_stride };
    // The block's rows are rows of A and C, or terms of the sums.
    let (shape, a, b, c, sums) = if kernel.side == Some(SequenceSide::Terms) {
        let (a, b) = (&on.a[part.first * a_minor..], &on.b[part.first * b_minor..]);
        ([p.m as usize, n, part.rows], a, b, c, row_sum)
    } else {
        let (a, c) = (&on.a[part.first * a_major..], &mut c[part.first * c_stride..]);
        let sums = row_sum.get_mut(part.first..).unwrap_or_default();
        ([part.rows, n, p.k as usize], a, on.b, c, sums)
    };
    let [m, _, k] = shape;
    let accumulate = set_bias(kernel, on.bias, c, m, part);
    product(
        shape,
        Strided::new(a, a_stride, kernel.a_transposed),
        Strided::new(b, b_stride, kernel.b_transposed),
        c,
        c_stride,
        accumulate,
        threads(context, shape),
    );
    if !kernel.row_sum {
        return;
    }
    let sums = &mut sums[..m];
    if !kernel.accumulate && !part.later {
        sums.fill(0.0);
    }
    if kernel.a_transposed {
        add_rows(threads(context, shape), sums, &a[..(k - 1) * a_stride + m], a_stride);
    } else {
        for (sum, row) in sums.iter_mut().zip(a.chunks(a_stride)) {
            *sum += row[..k].iter().sum::<f32>();
        }
    }
}

/// Packs B, where that is not what is there.
fn keep(
    kernel: &Matmul,
    on: &Operands,
    version: Option<u64>,
    format: WeightFormat,
    scratch: &mut Scratch,
) {
    let p = &kernel.params;
    let [n, k] = [p.n, p.k].map(|x| x as usize);
    let b = Strided::new(on.b, p.b_stride as usize, kernel.b_transposed);
    let column = |panel: usize, column: usize| {
        let column = panel * WIDTH + column;
        (column < n).then(|| Column { words: &b.data[column * b.column..], stride: b.row })
    };
    let panels = n.div_ceil(WIDTH);
    scratch.kept.pack(version, p.b_offset, 0..panels, |panels, to| {
        pack_panels(format, k, panels.len(), column, to);
    });
}

/// Some rows, with B in panels.
fn with_kept(
    context: &Context,
    kernel: &Matmul,
    on: &Operands,
    c: &mut [f32],
    format: WeightFormat,
    part: Part,
    scratch: &mut Scratch,
) {
    let p = &kernel.params;
    let (a_stride, c_stride) = (p.a_stride as usize, p.c_stride as usize);
    let shape = [part.rows, p.n as usize, p.k as usize];
    let a = &on.a[part.first * a_stride..];
    let c = &mut c[part.first * c_stride..];
    let bias = kernel.bias.then(|| &on.bias[..p.n as usize]);
    let start = Start { accumulate: kernel.accumulate, bias };
    let Scratch { kept, product, .. } = scratch;
    let panels = Panels::new(&kept.words, format, p.k as usize);
    product_with_panels(context, shape, (a, a_stride), panels, (c, c_stride), start, product);
}

/// The sums of all rows, each thread some columns.
fn add_rows(threads: usize, sums: &mut [f32], rows: &[f32], stride: usize) {
    let of_columns = |first: usize, sums: &mut [f32]| {
        for row in rows.chunks(stride) {
            sums.iter_mut().zip(&row[first..]).for_each(|(sum, value)| *sum += value);
        }
    };
    if threads == 1 {
        return of_columns(0, sums);
    }
    let each = sums.len().div_ceil(threads);
    let parts = sums.par_chunks_mut(each).enumerate();
    parts.for_each(|(part, sums)| of_columns(part * each, sums));
}

/// Room for so many words.
fn of(room: &mut Vec<f32>, words: usize) -> &mut [f32] {
    let words_now = room.len().max(words);
    room.resize(words_now, 0.0);
    &mut room[..words]
}

/// Rows of C that are valid, gathered, multiplied and put back; the others are 0. With a format, B is in panels of it.
#[allow(clippy::too_many_arguments, reason = "one caller, which has them all apart")]
fn valid_rows(
    context: &Context,
    kernel: &Matmul,
    on: &Operands,
    c: &mut [f32],
    rows: &[usize],
    part: Part,
    format: Option<WeightFormat>,
    scratch: &mut Scratch,
) {
    let p = &kernel.params;
    let [n, k] = [p.n, p.k].map(|x| x as usize);
    let (a_stride, c_stride) = (p.a_stride as usize, p.c_stride as usize);
    if !kernel.accumulate {
        let mut next = rows.iter().peekable();
        let block = c.chunks_mut(c_stride).enumerate().skip(part.first).take(part.rows);
        for (r, row) in block {
            if next.next_if(|&&valid| valid == r).is_none() {
                row[..n].fill(0.0);
            }
        }
    }
    let Scratch { rows: room, kept, product: sums, .. } = scratch;
    let (gathered, result) = of(room, GATHER * (k + n)).split_at_mut(GATHER * k);
    for rows in rows.chunks(GATHER) {
        for (i, &r) in rows.iter().enumerate() {
            let target = &mut gathered[i * k..][..k];
            if kernel.a_transposed {
                target.iter_mut().enumerate().for_each(|(j, t)| *t = on.a[j * a_stride + r]);
            } else {
                target.copy_from_slice(&on.a[r * a_stride..][..k]);
            }
        }
        let shape = [rows.len(), n, k];
        if let Some(format) = format {
            let panels = Panels::new(&kept.words, format, k);
            let start = Start { accumulate: false, bias: None };
            product_with_panels(context, shape, (gathered, k), panels, (result, n), start, sums);
        } else {
            let a = Strided::new(gathered, k, false);
            let b = Strided::new(on.b, p.b_stride as usize, kernel.b_transposed);
            product(shape, a, b, result, n, false, threads(context, shape));
        }
        for (i, &r) in rows.iter().enumerate() {
            let (target, sum) = (&mut c[r * c_stride..][..n], &mut result[i * n..][..n]);
            if kernel.bias {
                sum.iter_mut().zip(on.bias).for_each(|(s, b)| *s += b);
            }
            if kernel.accumulate {
                target.iter_mut().zip(&*sum).for_each(|(t, s)| *t += s);
            } else {
                target.copy_from_slice(sum);
            }
        }
    }
}

/// Sums over the valid terms alone: rows of both stored operands, gathered. A is transposed, as in
/// every weight gradient.
#[allow(clippy::too_many_arguments, reason = "one caller, which has them all apart")]
fn valid_terms(
    context: &Context,
    kernel: &Matmul,
    on: &Operands,
    c: &mut [f32],
    row_sum: &mut [f32],
    rows: &[usize],
    part: Part,
    scratch: &mut Scratch,
) {
    let p = &kernel.params;
    let [m, n] = [p.m, p.n].map(|x| x as usize);
    let [a_stride, b_stride, c_stride] = [p.a_stride, p.b_stride, p.c_stride].map(|x| x as usize);
    let mut accumulate = set_bias(kernel, on.bias, c, m, part);
    if kernel.row_sum && !kernel.accumulate && !part.later {
        row_sum[..m].fill(0.0);
    }
    if rows.is_empty() && !accumulate {
        c.chunks_mut(c_stride).take(m).for_each(|row| row[..n].fill(0.0));
    }
    let (left, right) = of(&mut scratch.rows, GATHER * (m + n)).split_at_mut(GATHER * m);
    for rows in rows.chunks(GATHER) {
        for (i, &r) in rows.iter().enumerate() {
            left[i * m..][..m].copy_from_slice(&on.a[r * a_stride..][..m]);
            right[i * n..][..n].copy_from_slice(&on.b[r * b_stride..][..n]);
        }
        let k = rows.len();
        product(
            [m, n, k],
            Strided::new(left, m, true),
            Strided::new(right, n, false),
            c,
            c_stride,
            accumulate,
            threads(context, [m, n, k]),
        );
        accumulate = true;
        if kernel.row_sum {
            add_rows(threads(context, [m, n, k]), &mut row_sum[..m], &left[..k * m], m);
        }
    }
}
