//! Which elements one step touches, closer than its bindings tell: those of its own place in time.

use super::{BackwardPhase, ForwardPhase, NONE, StepParams};
use crate::kernel::{Access, Cell, Op};
use std::ops::Range;

/// Elements of a binding that a launch reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    /// The binding's place in the kernel's list.
    pub binding: usize,
    /// Elements.
    pub elements: Range<usize>,
    /// They are written.
    pub writes: bool,
}

impl Op {
    /// What a launch touches: of a step of a plain cell its own rows, else all that the bindings tell.
    pub(crate) fn touched(&self) -> Vec<Touched> {
        let mut list = Vec::new();
        for (binding, of) in self.kernel().bindings().iter().enumerate() {
            let own = match self {
                Op::StepForward(step) if step.phase == ForwardPhase::Cell => {
                    forward(&step.params, &step.kind.cell, of.name, of.extent)
                }
                Op::StepBackward(step) if step.phase == BackwardPhase::Cell => {
                    backward(&step.params, &step.kind.cell, of.name)
                }
                _ => None,
            };
            let all = || vec![(of.from..of.extent, of.access == Access::Write)];
            let own = own.unwrap_or_else(all).into_iter();
            list.extend(own.map(|(elements, writes)| Touched { binding, elements, writes }));
        }
        list
    }
}

fn rows(offset: usize, row: usize, words: usize) -> Range<usize> {
    offset + row * words..offset + (row + 1) * words
}

/// The gate rows of a step.
fn gates(p: &StepParams, cell: &Cell, t: u32) -> Range<usize> {
    let words = p.words(&[p.batch, cell.saved() as u32, p.hidden]);
    rows(p.gates_offset as usize, t as usize, words)
}

fn forward(
    p: &StepParams,
    cell: &Cell,
    name: &str,
    extent: usize,
) -> Option<Vec<(Range<usize>, bool)>> {
    match name {
        "gates" => Some(vec![(gates(p, cell, p.t), true)]),
        "states" => {
            // h before the step and behind it; the other states lie behind all of h.
            let h = |slot: u32| rows(0, slot as usize, p.words(&[p.batch, p.width]));
            let others = h(p.time).end..extent;
            Some(vec![(h(p.old_slot), false), (h(p.new_slot), true), (others, true)])
        }
        _ => None,
    }
}

fn backward(p: &StepParams, cell: &Cell, name: &str) -> Option<Vec<(Range<usize>, bool)>> {
    match name {
        "gates" => {
            let later = (p.later != NONE).then(|| (gates(p, cell, p.later), false));
            Some(std::iter::once((gates(p, cell, p.t), true)).chain(later).collect())
        }
        "d_output" => {
            let words = p.words(&[p.batch, p.width]);
            Some(vec![(rows(p.d_output_offset as usize, p.t as usize, words), false)])
        }
        _ => None,
    }
}
