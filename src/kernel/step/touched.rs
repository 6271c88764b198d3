//! Which elements one step touches, closer than its bindings tell: those of its own place in time.

use super::{BackwardPhase, NONE, StepParams};
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
    /// What a launch touches: of a phase of a step its own rows of gates, states and gradients, else all that the
    /// bindings tell.
    pub(crate) fn touched(&self) -> Vec<Touched> {
        let step = match self {
            Op::StepForward(step) => Some((&step.params, &step.kind.cell, false)),
            Op::NormForward(step) => Some((&step.params, &step.kind.cell, false)),
            // The phase Initial comes behind all steps.
            Op::StepBackward(step) if step.phase == BackwardPhase::Initial => None,
            Op::StepBackward(step) => Some((&step.params, &step.kind.cell, true)),
            Op::NormBackward(step) => Some((&step.params, &step.kind.cell, true)),
            _ => None,
        };
        let mut list = Vec::new();
        for (binding, of) in self.kernel().bindings().iter().enumerate() {
            let writes = of.access == Access::Write;
            let own = step.and_then(|(p, cell, backward)| match (of.name, backward) {
                ("gates", _) => Some(gates(p, cell, writes, backward)),
                ("states", false) => Some(states(p, of.extent, writes)),
                ("d_output", true) => Some(vec![(d_output(p), false)]),
                _ => None,
            });
            let all = || vec![(of.from..of.extent, writes)];
            let own = own.unwrap_or_else(all).into_iter();
            list.extend(own.map(|(elements, writes)| Touched { binding, elements, writes }));
        }
        list
    }
}

/// Elements, and whether they are written.
type Part = (Range<usize>, bool);

fn rows(offset: usize, row: u32, words: usize) -> Range<usize> {
    offset + row as usize * words..offset + (row as usize + 1) * words
}

/// The gate rows of a step, and backward those of the step that it hears from.
fn gates(p: &StepParams, cell: &Cell, writes: bool, backward: bool) -> Vec<Part> {
    let words = p.words(&[p.batch, cell.saved() as u32, p.hidden]);
    let of = |t| rows(p.gates_offset as usize, t, words);
    let later = (backward && p.later != NONE).then(|| (of(p.later), false));
    std::iter::once((of(p.t), writes)).chain(later).collect()
}

/// h before a step and behind it, and all of the other states, which lie behind all of h.
fn states(p: &StepParams, extent: usize, writes: bool) -> Vec<Part> {
    let h = |slot: u32| rows(0, slot, p.words(&[p.batch, p.width]));
    vec![(h(p.old_slot), false), (h(p.new_slot), writes), (h(p.time).end..extent, writes)]
}

fn d_output(p: &StepParams) -> Range<usize> {
    rows(p.d_output_offset as usize, p.t, p.words(&[p.batch, p.width]))
}
