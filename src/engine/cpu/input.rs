//! Input products that the steps behind them make themselves, in inference.
//!
//! A layer's input product for all steps would go to memory and come back, the largest buffer of a
//! recurrence. Where the rows are many enough that a panel of weights meets several of them in one
//! step, each step multiplies its own rows of x in its tile before it adds the recurrent product
//! there: the same sums in the same order, so the bits stay.

use super::lasting::Lasting;
use super::{step, step_count};
use crate::kernel::{BufferId, Matmul, Op, SequenceSide, StepForward};
use crate::recording::{Launch, Recording};

/// Rows of a batch from which on a step multiplies its own input: with fewer, a product of all steps reads the weights
/// less often.
const ROWS: u32 = 8;

/// Terms up to which its panels fit the first-level cache.
const TERMS: u32 = 512;

/// A unit's input product, if its steps make it themselves, and its steps, or its only launch.
pub fn apart(unit: &[Launch]) -> (Option<&Launch>, &[Launch]) {
    match unit {
        [first, steps @ ..] if !steps.is_empty() && matches!(first.op, Op::Matmul(_)) => {
            (Some(first), steps)
        }
        _ => (None, unit),
    }
}

/// Which products of a recording those are.
pub struct Inputs<'a> {
    recording: &'a Recording,
    lasting: Lasting,
    /// The last launch that touches a buffer.
    touched: Vec<usize>,
}

impl<'a> Inputs<'a> {
    pub fn new(recording: &'a Recording) -> Self {
        let mut touched = vec![0; recording.iter().count()];
        for (number, launch) in recording.launches().iter().enumerate() {
            launch.buffers.iter().for_each(|id| touched[id.0] = number);
        }
        Inputs { recording, lasting: Lasting::new(recording), touched }
    }

    /// How many launches from launch `at` on are one unit: a launch, steps that go together, or an
    /// input product with them.
    pub fn unit(&self, at: usize) -> usize {
        let launches = &self.recording.launches()[at..];
        match launches {
            [Launch { op: Op::Matmul(product), .. }, steps @ ..] if !steps.is_empty() => {
                let count = step_count(steps);
                let with = self.is_theirs(product, &launches[0], &steps[..count], at + count);
                if with { 1 + count } else { 1 }
            }
            _ => step_count(launches),
        }
    }

    /// Steps, the last of which is launch `last`, can make this product themselves, and nobody else reads it.
    fn is_theirs(&self, k: &Matmul, product: &Launch, steps: &[Launch], last: usize) -> bool {
        let Op::StepForward(first) = &steps[0].op else { return false };
        let lasts = |launch: &Launch| self.lasting.weights(launch).is_some();
        let [gates, c] = [(&steps[0], "gates"), (product, "c")].map(|(of, name)| bound(of, name));
        let flags = [&steps[0], product].map(|of| bound(of, "flags"));
        lasts(product)
            && lasts(&steps[0])
            && step::is_team(&steps[0].op, steps.len(), true)
            && first.params.batch >= ROWS
            && gates.is_some()
            && gates == c
            && flags[0] == flags[1]
            && gates.is_some_and(|gates| self.touched[gates.0] <= last)
            && k.bias
            && k.activation.is_none()
            && k.b_transposed
            && k.params.b_stride == k.params.k
            && k.side == Some(SequenceSide::Rows)
            && !k.accumulate
            && k.params.k <= TERMS
            && k.params.n as usize == first.kind.cell.gates() * first.params.hidden as usize
            && k.params.c_stride as usize == row_words(first)
            && steps.iter().all(|step| match &step.op {
                Op::StepForward(step) => first_row(k, step).is_some(),
                _ => false,
            })
    }
}

fn bound(launch: &Launch, name: &str) -> Option<BufferId> {
    let bindings = launch.op.kernel().bindings();
    bindings.iter().position(|binding| binding.name == name).map(|at| launch.buffers[at])
}

/// Words of a row of gates.
fn row_words(step: &StepForward) -> usize {
    step.kind.cell.saved() * step.params.hidden as usize
}

/// Which row of the product is that of the step's first batch row, if all of its rows are among them.
pub fn first_row(product: &Matmul, step: &StepForward) -> Option<usize> {
    let (p, words) = (&step.params, row_words(step));
    let [batch, t, first, begins] =
        [p.batch, p.t, p.gates_offset, product.params.c_offset].map(|x| x as usize);
    let before = (first + t * batch * words).checked_sub(begins)?;
    let is_among = before % words == 0 && before / words + batch <= product.params.m as usize;
    is_among.then_some(before / words)
}
