//! Products of some rows with all panels of a matrix, on all threads where they are worth it.

use super::{Panels, Product, Rounded, Rows, Sums, WIDTH};
use crate::engine::cpu::Context;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use smallvec::SmallVec;

/// The multiply-adds up to which one thread makes a product of weights that are kept.
pub const ALONE: usize = 1 << 20;

/// C\[m,n\] (+)= A\[m,k\]·B for B in panels, with the strides of A and C.
pub fn product_with_panels(
    context: &Context,
    [m, n, k]: [usize; 3],
    (a, a_stride): (&[f32], usize),
    panels: Panels,
    (c, c_stride): (&mut [f32], usize),
    accumulate: bool,
    room: &mut Room,
) {
    let alone = m * n * k < ALONE;
    if m == 1 && !alone {
        // Its columns are shared out.
        let columns = (n / context.threads).next_multiple_of(WIDTH);
        let words = columns / WIDTH * panels.each();
        let parts = c[..n].par_chunks_mut(columns).zip(panels.words.par_chunks(words));
        return parts.for_each(|(c, words)| {
            let panels = Panels { words, ..panels };
            add_panels(&a[..k], a_stride, panels, c, columns, &mut Default::default(), accumulate);
        });
    }
    let rows = m.div_ceil(if alone { 1 } else { context.threads }).min(ROWS_AT_ONCE);
    let last = (m - 1) * c_stride + n;
    let parts = |c: &mut [f32], number: usize, room: &mut Room| {
        let a = &a[number * rows * a_stride..];
        let count = (c.len() + c_stride - n) / c_stride;
        let a = &a[..(count - 1) * a_stride + k];
        add_panels(a, a_stride, panels, c, c_stride, room, accumulate);
    };
    if alone {
        let chunks = c[..last].chunks_mut(rows * c_stride).enumerate();
        chunks.for_each(|(number, c)| parts(c, number, room));
    } else {
        let chunks = c[..last].par_chunks_mut(rows * c_stride).enumerate();
        chunks.for_each_init(Room::default, |room, (number, c)| parts(c, number, room));
    }
}

/// Rows that meet a panel while it is in the first-level cache.
const ROWS_AT_ONCE: usize = 32;

/// What a product with panels needs: its sums, and its rows in fewer bits.
#[derive(Default)]
pub struct Room {
    sums: Vec<f32>,
    rounded: Rounded,
}

/// C (+)= A·B for some rows of A and C, of which the last ends with the slice, and all panels of B.
fn add_panels(
    a: &[f32],
    a_stride: usize,
    panels: Panels,
    c: &mut [f32],
    c_stride: usize,
    room: &mut Room,
    accumulate: bool,
) {
    let count = a.len().div_ceil(a_stride);
    let columns = c.len() - (count - 1) * c_stride;
    let rows: SmallVec<[&[f32]; ROWS_AT_ONCE]> =
        a.chunks(a_stride).map(|row| &row[..panels.terms]).collect();
    let stride = panels.words.len() / panels.each() * WIDTH;
    let Room { sums, rounded } = room;
    sums.clear();
    sums.resize(count * stride, 0.0);
    pulp::Arch::new().dispatch(WholeProduct { rows: &rows, panels, sums, stride, rounded });
    for (c, sums) in c.chunks_mut(c_stride).zip(sums.chunks(stride)) {
        let c = &mut c[..columns];
        if accumulate {
            c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
        } else {
            c.copy_from_slice(&sums[..columns]);
        }
    }
}

/// All rows' products with all panels, which lie one after another in the sums as the panels do.
struct WholeProduct<'a> {
    rows: &'a [&'a [f32]],
    panels: Panels<'a>,
    sums: &'a mut [f32],
    stride: usize,
    rounded: &'a mut Rounded,
}

impl WithSimd for WholeProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let WholeProduct { rows, panels, sums, stride, rounded } = self;
        let rows = Rows::new(simd, panels.format, rows, panels.terms, rounded);
        let (at, sums) = (|i| i * WIDTH, Sums { words: sums, stride });
        Product { rows, panels, count: stride / WIDTH, at, sums }.with_simd(simd);
    }
}
