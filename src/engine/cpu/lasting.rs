//! Which weights stay the same from run to run, so that what is made of them can be kept.

use crate::kernel::{Access, BufferId, Op};
use crate::recording::{Launch, Recording};
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

/// What a launch writes.
pub fn writes_of(launch: &Launch) -> Vec<BufferId> {
    let pairs = launch.op.kernel().bindings().into_iter().zip(&launch.buffers);
    pairs.filter(|(binding, _)| binding.access == Access::Write).map(|(_, id)| *id).collect()
}
