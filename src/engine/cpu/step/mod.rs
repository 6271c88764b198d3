//! `step_forward` and `step_backward`: the recurrent product and the gates of one time step.
//!
//! Batch rows are independent, so a step is halved by rows until there is a part for each thread. A
//! product that needs nothing but h goes straight into the gate buffer; where rows are masked, reset
//! or dropped, those that take part are gathered first, so that the others cost nothing.

mod backward;
mod forward;
mod product;
mod sequence;

pub use backward::step_backward;
pub use forward::step_forward;
pub use sequence::{MemberRoom, goes_together, is_team, members, shared_by, steps_together, time};
use sequence::{sequence_backward, sequence_forward};

use super::cell::STATES;
use super::rows::row;
use super::zoneout::Zone;
use super::{Bound, Context, Scratch};
use crate::kernel::{Cell, NONE, Op, RESET, StepKind, StepParams, VALID};
use smallvec::SmallVec;

/// Lists that need no memory of their own for a single stream's step.
type Few<T> = SmallVec<[T; 1]>;

/// Steps that are made together: see [`goes_together`]. Inference does not keep the gates.
pub fn sequence(
    context: &Context,
    ops: &[Op],
    bound: Bound,
    scratch: &mut Scratch,
    keeps_gates: bool,
) {
    let forward = ops.iter().filter_map(|op| match op {
        Op::StepForward(k) => Some(k),
        _ => None,
    });
    let backward = ops.iter().filter_map(|op| match op {
        Op::StepBackward(k) => Some(k),
        _ => None,
    });
    if let Op::StepForward(_) = ops[0] {
        let kernels: Few<_> = forward.collect();
        sequence_forward(context, &kernels, bound, scratch, keeps_gates);
    } else {
        sequence_backward(context, &backward.collect::<Vec<_>>(), bound, scratch);
    }
}

/// What all rows of a step share.
pub(super) struct Shared<'a> {
    pub p: &'a StepParams,
    pub cell: &'a Cell,
    /// Flags of step t, of the later step; empty where every row takes part.
    pub flags: &'a [f32],
    pub later_flags: &'a [f32],
    /// Masks \[M,B,P\] of the recurrent dropout.
    masks: &'a [f32],
    mask_count: usize,
    pub zone: Zone,
    weights: &'a [f32],
    /// `weights` holds the transpose.
    transposed: bool,
    pub bias: &'a [f32],
    pub unit: &'a [f32],
    /// Zeros in place of states that a reset cleared.
    pub zeros: &'a [f32],
}

impl<'a> Shared<'a> {
    pub fn new(p: &'a StepParams, kind: &'a StepKind, bound: &Bound<'a>, zeros: &'a [f32]) -> Self {
        let maps = (p.batch / p.places) as usize;
        let flags = bound.read("flags");
        let of = |t: u32| match flags.is_empty() || t == NONE {
            true => &[][..],
            false => &flags[(p.first + t) as usize * maps..][..maps],
        };
        Shared {
            p,
            cell: &kind.cell,
            flags: of(p.t),
            later_flags: of(p.later),
            masks: bound.read("hidden_mask"),
            mask_count: if bound.read("hidden_mask").is_empty() { 0 } else { kind.masks },
            zone: Zone::new(p, kind.zoneout, bound.read("control")),
            weights: bound.read("w").get(p.w_offset as usize..).unwrap_or_default(),
            transposed: false,
            bias: bound.read("b").get(p.b_offset as usize..).unwrap_or_default(),
            unit: bound.read("unit_parameters"),
            zeros,
        }
    }

    pub fn has(&self, flags: &[f32], row: usize, flag: u32) -> bool {
        match flags.get(row / self.p.places as usize) {
            Some(word) => word.to_bits() & flag != 0,
            None => flag == VALID,
        }
    }

    pub fn valid(&self, row: usize) -> bool {
        self.has(self.flags, row, VALID)
    }

    pub fn reset(&self, row: usize) -> bool {
        self.has(self.flags, row, RESET)
    }

    /// Mask `gate` (or the only one) of batch row `row`.
    fn mask(&self, gate: usize, row: usize) -> &'a [f32] {
        if self.mask_count == 0 {
            return &[];
        }
        let (b, p) = (self.p.batch as usize, self.p.width as usize);
        &self.masks[(gate.min(self.mask_count - 1) * b + row) * p..][..p]
    }

    /// The mask of h in n's product of reset-before GRU.
    pub fn candidate_mask(&self, row: usize) -> &'a [f32] {
        self.mask(2, row)
    }

    /// The states of a row before the step.
    #[inline(always)]
    pub fn old<'r, const R: usize>(
        &self,
        states: &[(&'r [f32], usize); R],
        first: usize,
        b: usize,
    ) -> [&'r [f32]; STATES]
    where
        'a: 'r,
    {
        let reset = self.reset(first + b);
        std::array::from_fn(|s| {
            let old = row(states[s], b);
            if reset { &self.zeros[..old.len()] } else { old }
        })
    }
}

/// Each state's slots before the step (read) and behind it (written), with their words a row.
#[allow(clippy::type_complexity, reason = "one caller, which takes both apart at once")]
pub(super) fn slots<'a>(
    mut states: &'a mut [f32],
    p: &StepParams,
    cell: &Cell,
) -> ([(&'a [f32], usize); STATES], [(&'a mut [f32], usize); STATES]) {
    let mut old = [(&[][..], 0); STATES];
    let mut new: [(&mut [f32], usize); STATES] = std::array::from_fn(|_| Default::default());
    let [batch, slots] = [p.batch as usize, p.time as usize + 1];
    for s in 0..cell.states() {
        let width = if s == 0 { p.width } else { p.hidden } as usize;
        let words = batch * width;
        let (state, rest) = states.split_at_mut(slots * words);
        states = rest;
        let border = p.old_slot.max(p.new_slot) as usize * words;
        let (low, high) = state.split_at_mut(border);
        let (low, high) = (&mut low[border - words..], &mut high[..words]);
        let (before, behind) = if p.old_slot < p.new_slot { (low, high) } else { (high, low) };
        (old[s], new[s]) = ((&*before, width), (behind, width));
    }
    (old, new)
}

/// The slots before the step.
pub(super) fn old_slots<'a>(
    states: &'a [f32],
    p: &StepParams,
    cell: &Cell,
) -> [(&'a [f32], usize); STATES] {
    let mut old = [(&[][..], 0); STATES];
    let [batch, slots] = [p.batch as usize, p.time as usize + 1];
    let mut first = 0;
    for (s, old) in old.iter_mut().enumerate().take(cell.states().min(1 + states.len())) {
        let width = if s == 0 { p.width } else { p.hidden } as usize;
        let at = first + p.old_slot as usize * batch * width;
        *old = (states.get(at..at + batch * width).unwrap_or_default(), width);
        first += slots * batch * width;
    }
    old
}

/// Carries of all states, with their words a row.
pub(super) fn carries<'a>(
    mut carry: &'a mut [f32],
    p: &StepParams,
    cell: &Cell,
) -> [(&'a mut [f32], usize); STATES] {
    let mut parts: [(&mut [f32], usize); STATES] = std::array::from_fn(|_| Default::default());
    for (s, part) in parts.iter_mut().enumerate().take(cell.states()) {
        let width = if s == 0 { p.width } else { p.hidden } as usize;
        let (state, rest) = carry.split_at_mut((p.batch as usize * width).min(carry.len()));
        *part = (state, width);
        carry = rest;
    }
    parts
}

/// Which rows of a part take part.
enum Active {
    All(usize),
    Some(Vec<usize>),
}

impl Active {
    fn new(count: usize, flagged: bool, takes_part: impl Fn(usize) -> bool) -> Self {
        if !flagged {
            return Active::All(count);
        }
        let list: Vec<usize> = (0..count).filter(|&b| takes_part(b)).collect();
        if list.len() == count { Active::All(count) } else { Active::Some(list) }
    }

    fn len(&self) -> usize {
        match self {
            Active::All(n) => *n,
            Active::Some(list) => list.len(),
        }
    }

    fn all(&self) -> bool {
        matches!(self, Active::All(_))
    }

    fn get(&self, i: usize) -> usize {
        match self {
            Active::All(_) => i,
            Active::Some(list) => list[i],
        }
    }
}

/// Working rows of a part, with their words a row: gathered operands, and their products.
struct WorkingRows<'a> {
    sources: (&'a mut [f32], usize),
    sums: (&'a mut [f32], usize),
}

/// Words of a gate row that are the cell's own; an unprojected output lies behind them.
#[inline(always)]
pub(super) fn own_words(cell: &Cell, hidden: usize) -> usize {
    (cell.saved() - usize::from(cell.projection.is_some())) * hidden
}

/// `a` = a ⊙ b, where there is a b.
#[inline(always)]
fn multiply(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a *= b;
    }
}

#[inline(always)]
fn accumulate(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}
