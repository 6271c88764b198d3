//! `sum_parts`: parts one after the other, in order.

use super::{Bound, Context};
use crate::kernel::SumParts;

pub fn sum_parts(_: &Context, kernel: &SumParts, mut bound: Bound) {
    let p = &kernel.params;
    let [len, count] = [p.len, p.parts].map(|x| x as usize);
    let parts = bound.read("parts");
    let sums = &mut bound.write("sums")[p.target_offset as usize..][..len];
    if !kernel.accumulate {
        sums.fill(0.0);
    }
    for i in 0..count {
        let part = &parts[len * if p.descending == 1 { count - 1 - i } else { i }..][..len];
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
}
