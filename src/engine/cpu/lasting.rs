//! Which weights stay the same from run to run, so that what is made of them can be kept.

use super::panel::{MOST_TERMS, WIDTH, panel_words};
use super::{matmul, step, step_count};
use crate::engine::{KeptWeights, WeightFormat};
use crate::kernel::{Access, BufferId, Op, SequenceSide};
use crate::recording::{Launch, Recording, Role};
use std::collections::HashSet;

/// Where a launch's weights are, or what it has in their place.
pub fn weights_of(launch: &Launch) -> Option<BufferId> {
    let name = if let Op::Matmul(_) = &launch.op { "b" } else { "w" };
    let bindings = launch.op.kernel().bindings();
    bindings.iter().position(|b| b.name == name).map(|w| launch.buffers[w])
}

/// Which weights stay the same from run to run, as far as a recording can tell.
pub struct Lasting {
    /// Whoever asks for gradients will change the weights before the next run.
    trains: bool,
    written: HashSet<BufferId>,
}

impl Lasting {
    pub fn new(recording: &Recording) -> Self {
        let is_backward = |launch: &Launch| {
            matches!(launch.op, Op::StepBackward(_) | Op::SequenceBackward(_) | Op::ScanBackward(_))
        };
        Lasting {
            trains: recording.launches().iter().any(is_backward),
            written: recording.launches().iter().flat_map(writes_of).collect(),
        }
    }

    /// The program writes this buffer.
    pub fn is_written(&self, id: BufferId) -> bool {
        self.written.contains(&id)
    }

    /// A launch's weights, if they do.
    pub fn weights(&self, launch: &Launch) -> Option<BufferId> {
        weights_of(launch).filter(|id| !self.trains && !self.written.contains(id))
    }
}

/// Whether a recording computes gradients, or uses them.
pub fn has_gradients(recording: &Recording) -> bool {
    recording.launches().iter().any(|launch| match &launch.op {
        Op::Matmul(k) => k.side == Some(SequenceSide::Terms),
        Op::StepBackward(_) | Op::SequenceBackward(_) | Op::ScanBackward(_) => true,
        Op::EmbeddingBackward(_) | Op::NormBackward(_) | Op::InputNormBackward(_) => true,
        Op::Sgd(_) | Op::Adam(_) | Op::RmsProp(_) => true,
        _ => false,
    })
}

/// The format that the weights of a launch (of steps that go together, one launch) are kept in; or
/// why it is that of the store.
pub fn format_of(
    ops: &[Op],
    lasts: bool,
    wanted: WeightFormat,
) -> Result<WeightFormat, &'static str> {
    let terms = match &ops[0] {
        _ if wanted == WeightFormat::F32 => return Ok(wanted),
        _ if !lasts => return Err("they may be others at the next run"),
        Op::Matmul(k) if matmul::keeps_weights(k, wanted) => k.params.k as usize,
        Op::StepForward(k) if step::goes_together(ops, lasts) => k.params.hidden as usize,
        Op::StepForward(_) => return Err("steps of several phases, heads or masks"),
        _ => return Err("not a product of rows with weights"),
    };
    if wanted == WeightFormat::Int8 && terms > MOST_TERMS {
        return Err("sums of so many terms do not fit 32 bits");
    }
    Ok(wanted)
}

/// How the weights of each product are kept, each tensor and kernel once.
pub fn kept_weights(recording: &Recording, wanted: WeightFormat) -> Vec<KeptWeights> {
    let mut list: Vec<KeptWeights> = Vec::new();
    let mut rest = recording.launches();
    let lasting = Lasting::new(recording);
    while let Some(first) = rest.first() {
        let run;
        (run, rest) = rest.split_at(step_count(rest));
        let ops: Vec<Op> = run.iter().map(|launch| launch.op.clone()).collect();
        let Some(tensor) = weights_of(first).map(|id| recording.get(id)) else { continue };
        let is_product = matches!(first.op, Op::Matmul(_) | Op::StepForward(_));
        if !is_product || tensor.role != Role::Parameter {
            continue;
        }
        let found = format_of(&ops, lasting.weights(first).is_some(), wanted);
        let format = found.unwrap_or_default();
        let kept = KeptWeights {
            tensor: tensor.name.clone(),
            kernel: first.op.kernel().name(),
            format,
            bytes: weight_bytes(&first.op, format),
            reason: found.err(),
        };
        if !list.contains(&kept) {
            list.push(kept);
        }
    }
    list
}

/// Bytes that a product reads of its weights: of panels, with the columns that fill the last one,
/// if it is in fewer bits.
fn weight_bytes(op: &Op, format: WeightFormat) -> usize {
    // Panels are of the units of each gate.
    let [gates, columns, terms] = match op {
        Op::Matmul(k) => [1, k.params.n as usize, k.params.k as usize],
        Op::StepForward(k) => [k.products(), k.params.units as usize, k.params.depth as usize],
        _ => return 0,
    };
    let words = match format {
        WeightFormat::F32 => gates * columns * terms,
        _ => gates * columns.div_ceil(WIDTH) * panel_words(format, terms),
    };
    words * size_of::<f32>()
}

/// What a launch writes.
pub fn writes_of(launch: &Launch) -> Vec<BufferId> {
    let pairs = launch.op.kernel().bindings().into_iter().zip(&launch.buffers);
    pairs.filter(|(binding, _)| binding.access == Access::Write).map(|(_, id)| *id).collect()
}
