//! `slope`: gradients through an activation.

use super::cell::multiply_slopes;
use super::{Bound, Context, PARALLEL_CHUNK};
use crate::kernel::Slope;
use rayon::prelude::*;

pub fn slope(_: &Context, kernel: &Slope, mut bound: Bound) {
    let p = &kernel.params;
    let count = p.count as usize;
    let values = &bound.read("values")[p.values_offset as usize..][..count];
    let gradient = &mut bound.write("gradient")[p.gradient_offset as usize..][..count];
    let chunks = gradient.par_chunks_mut(PARALLEL_CHUNK).zip(values.par_chunks(PARALLEL_CHUNK));
    chunks.for_each(|(gradient, values)| multiply_slopes(kernel.activation, values, gradient));
}
