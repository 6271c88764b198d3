//! Products of some rows with all panels of a matrix, on all threads where they are worth it.

use super::{Base, Packed, PackedRows, Panels, Product, Sums, WIDTH};
use crate::engine::cpu::Context;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// The multiply-adds up to which one thread makes a product: what asking another takes, which may sleep, is as long.
const ALONE: usize = 1 << 20;

/// One thread makes a product of this shape.
pub fn is_for_one([m, n, k]: [usize; 3]) -> bool {
    m * n * k < ALONE
}

/// What the sums of a product begin with: what is there, if it accumulates, and a bias.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    pub accumulate: bool,
    pub bias: Option<&'a [f32]>,
}

impl Start<'_> {
    /// The same for columns from `first` on.
    fn from(self, first: usize) -> Self {
        Start { bias: self.bias.map(|bias| &bias[first..]), ..self }
    }

    fn set(self, row: &mut [f32]) {
        match (self.accumulate, self.bias) {
            (false, None) => row.fill(0.0),
            (false, Some(bias)) => row.copy_from_slice(&bias[..row.len()]),
            (true, None) => {}
            (true, Some(bias)) => row.iter_mut().zip(bias).for_each(|(c, b)| *c += b),
        }
    }
}

/// C\[m,n\] (+)= A\[m,k\]·B, with a bias if there is one, for B in panels, with the strides of A and C.
pub fn product_with_panels(
    context: &Context,
    [m, n, k]: [usize; 3],
    (a, a_stride): (&[f32], usize),
    panels: Panels,
    (c, c_stride): (&mut [f32], usize),
    start: Start,
    room: &mut ProductRoom,
) {
    let alone = is_for_one([m, n, k]);
    if m == 1 && !alone {
        // Its columns are shared out.
        let columns = n.div_ceil(context.threads).next_multiple_of(WIDTH);
        let words = columns / WIDTH * panels.each();
        let parts = c[..n].par_chunks_mut(columns).zip(panels.words.par_chunks(words));
        return parts.enumerate().for_each(|(number, (c, words))| {
            let (panels, start) = (Panels { words, ..panels }, start.from(number * columns));
            let n = c.len();
            add_panels((&a[..k], k), panels, (c, n), n, &mut ProductRoom::default(), start);
        });
    }
    // The last row ends with its columns.
    let (a, c) = (&a[..(m - 1) * a_stride + k], &mut c[..(m - 1) * c_stride + n]);
    let bands = |a: &[f32], c: &mut [f32], room: &mut ProductRoom| {
        let bands = a.chunks(PANEL_BAND * a_stride).zip(c.chunks_mut(PANEL_BAND * c_stride));
        bands.for_each(|(a, c)| add_panels((a, a_stride), panels, (c, c_stride), n, room, start));
    };
    if alone {
        bands(a, c, room);
    } else {
        let worth = ALONE.div_ceil(n * k).next_multiple_of(PANEL_BAND);
        let rows = m.div_ceil(context.threads).min(worth);
        let parts = a.par_chunks(rows * a_stride).zip(c.par_chunks_mut(rows * c_stride));
        parts.for_each_init(ProductRoom::default, |room, (a, c)| bands(a, c, room));
    }
}

/// Rows that meet a panel while it is in the first-level cache.
const PANEL_BAND: usize = 24;

/// What a product with panels needs: the sums of columns that are no whole panel, and its rows in fewer bits.
#[derive(Default)]
pub struct ProductRoom {
    sums: Vec<f32>,
    packed: Packed,
}

/// C (+)= A·B for some rows of A and C, n columns and all panels of B.
fn add_panels(
    (a, a_stride): (&[f32], usize),
    panels: Panels,
    (c, c_stride): (&mut [f32], usize),
    n: usize,
    room: &mut ProductRoom,
    start: Start,
) {
    // Before the product, so that its sums meet them in a cache.
    c.chunks_mut(c_stride).for_each(|row| start.set(&mut row[..n]));
    let ProductRoom { sums, packed } = room;
    let count = c.len().div_ceil(c_stride);
    let (whole, rest) = (n / WIDTH, n % WIDTH);
    sums.clear();
    sums.resize(if rest > 0 { count * WIDTH } else { 0 }, 0.0);
    let product =
        WholeProduct { a, a_stride, count, panels, whole, c, c_stride, tail: sums, packed };
    pulp::Arch::new().dispatch(product);
    if rest > 0 {
        for (c, sums) in c.chunks_mut(c_stride).zip(sums.chunks(WIDTH)) {
            c[whole * WIDTH..n].iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
        }
    }
}

/// All rows' products with all panels: those of whole panels are added to C, those of the last, if
/// it is none, to the tail.
struct WholeProduct<'a> {
    a: &'a [f32],
    a_stride: usize,
    count: usize,
    panels: Panels<'a>,
    whole: usize,
    c: &'a mut [f32],
    c_stride: usize,
    tail: &'a mut [f32],
    packed: &'a mut Packed,
}

impl WithSimd for WholeProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let WholeProduct { a, a_stride, count, panels, whole, c, c_stride, tail, packed } = self;
        let row = |r: usize| &a[r * a_stride..];
        let rows = PackedRows::new(simd, panels.format, [count, panels.terms], row, packed);
        let ends = !tail.is_empty();
        let all = [(0, whole, c, c_stride), (whole, usize::from(ends), tail, WIDTH)];
        for (first, count, words, stride) in all {
            let (panels, sums) = (panels.from(first), Sums { words, stride });
            Product { rows, panels, count, base: Base::There, at: &|i| i * WIDTH, sums }.add(simd);
        }
    }
}
