//! An input product that the steps make themselves: see `engine/cpu/input.rs`.

use super::forward::{Layout, pack};
use super::split::Split;
use super::{MemberRoom, Targets, padded};
use crate::engine::WeightFormat;
use crate::engine::cpu::Bound;
use crate::engine::cpu::input::first_row;
use crate::engine::cpu::panel::{Base, PackedRows, Panels, Product, Sums, WIDTH};
use crate::engine::cpu::step::{Few, Shared};
use crate::kernel::{Matmul, StepForward};
use pulp::Simd;
use std::ops::Range;

/// The product and what it reads.
pub struct Input<'a> {
    product: &'a Matmul,
    gates: usize,
    x: &'a [f32],
    weights: &'a [f32],
    bias: &'a [f32],
    /// Of each step, the row of x that is that of its first batch row.
    first_rows: Few<usize>,
    /// Of the weights, for as long as they stay.
    label: Option<u64>,
    pub format: WeightFormat,
}

impl<'a> Input<'a> {
    /// That of these steps, if they have one.
    pub fn new(bound: &Bound<'a>, steps: &[&StepForward]) -> Option<Self> {
        let (product, label, format) = bound.input?;
        let p = &product.params;
        Some(Input {
            product,
            gates: steps[0].kind.cell.gates(),
            x: &bound.read("x")[p.a_offset as usize..],
            weights: &bound.read("w_x")[p.b_offset as usize..],
            bias: &bound.read("b_x")[p.bias_offset as usize..],
            first_rows: steps.iter().map(|step| first_row(product, step).unwrap_or(0)).collect(),
            label,
            format,
        })
    }

    pub fn terms(&self) -> usize {
        self.product.params.k as usize
    }

    /// What a step's batch row hears.
    #[inline(always)]
    pub fn row(&self, step: usize, row: usize) -> &[f32] {
        let row = self.first_rows[step] + row;
        &self.x[row * self.product.params.a_stride as usize..][..self.terms()]
    }

    /// Packs the weights of a member's blocks of units, and its biases: that of x, and that of the
    /// recurrent product which goes into the same gate.
    #[inline(always)]
    pub fn pack(
        &self,
        room: &mut MemberRoom,
        split: &Split,
        blocks: &Range<usize>,
        targets: &Targets,
        step: &Shared,
    ) {
        let (hidden, gates, terms) = (split.hidden(), self.gates, self.terms());
        let first = self.product.params.b_offset;
        room.input.pack(self.label, first, blocks.clone(), |blocks, to| {
            pack(self.format, self.weights, hidden, [gates, terms], blocks, to);
        });
        let [before, behind] = &mut room.around;
        before.clear();
        behind.clear();
        for block in blocks.clone() {
            for gate in 0..gates {
                before.extend(padded(&self.bias[gate * hidden..][..hidden], block));
                let product = targets.iter().position(|&saved| saved == gate);
                let bias = product.and_then(|product| step.bias.get(product * hidden..));
                behind.extend(bias.map_or([0.0; WIDTH], |bias| padded(&bias[..hidden], block)));
            }
        }
    }

    /// What the gates have of x, (b_x + Σ) + b: the bits of a product of all steps to which the other bias is added.
    /// `blocks` are counted from the member's first.
    #[inline(always)]
    pub fn multiply<S: Simd>(
        &self,
        room: &MemberRoom,
        simd: S,
        layout: Layout,
        blocks: &Range<usize>,
        rows: PackedRows,
        sums: Sums,
    ) {
        let gates = self.gates;
        let first = blocks.start * gates;
        let panels = Panels::new(&room.input.words, self.format, self.terms()).from(first);
        let base = Base::Biases(room.around.each_ref().map(|bias| &bias[first * WIDTH..]));
        let at = |i: usize| i % gates * layout.block_words() + i / gates * WIDTH;
        Product { rows, panels, count: blocks.len() * gates, base, at: &at, sums }.add(simd);
    }
}
