//! Steps that have a launch each, with their products in matrices that subgroups multiply together: where all that is
//! multiplied lies in f16, and the device was found to be faster so.

use super::sequences::{REFUSED, STEPS};
use super::{Context, Cooperative, GpuEngine};
use crate::engine::Strategy;
use crate::kernel::{COOPERATIVE_TILES, GroupLimits, Op, StepKind, StepParams};
use crate::recording::{Launch, Recording};
use crate::tensor::DType;

/// Launches of one kind, and the form that they take.
type Known = (Op, Option<Op>);

/// What was found of the launches of a recording: steps differ in little but their number.
#[derive(Default)]
pub(super) struct KnownSteps(Vec<Known>);

impl GpuEngine {
    /// A launch as it goes for itself.
    pub(super) fn alone_in_matrices(
        &self,
        recording: &Recording,
        launch: &Launch,
        known: &mut KnownSteps,
    ) -> Launch {
        if kind(&launch.op).is_none() {
            return launch.clone();
        }
        let found = known.0.iter().find(|(op, _)| alike(op, &launch.op));
        let form = match found {
            Some((_, form)) => form.clone(),
            None => {
                let candidate = in_matrices(&self.context, recording, launch);
                let form = candidate.filter(|op| self.takes_matrices(recording, launch, op));
                known.0.push((launch.op.clone(), form.clone()));
                form
            }
        };
        let op = form.map_or_else(|| launch.op.clone(), |form| with_matrices_of(&launch.op, &form));
        Launch { op, buffers: launch.buffers.clone() }
    }

    /// The same for all launches of a recording.
    pub(super) fn each_in_matrices(&self, recording: &Recording) -> Recording {
        let mut known = KnownSteps::default();
        let each = recording.launches().iter();
        let each = each.map(|launch| self.alone_in_matrices(recording, launch, &mut known));
        recording.with_launches(each.collect())
    }

    /// Whether a step goes in matrices: as asked for, or where it was measured.
    fn takes_matrices(&self, recording: &Recording, launch: &Launch, op: &Op) -> bool {
        match (self.context.cooperative, self.context.strategy) {
            (Cooperative::Tile(_), _) => true,
            (Cooperative::Measured, Strategy::Auto | Strategy::Wavefront) => {
                let measured = self.known(&self.step_key(recording, launch, op));
                measured.is_some_and(|[threads, matrices]| matrices <= threads)
            }
            _ => false,
        }
    }

    /// How a step that has a launch of its own is cut into matrices, or why it is not: nothing where it can't be.
    pub(super) fn step_in_words(&self, recording: &Recording, launch: &Launch) -> Option<String> {
        let op = in_matrices(&self.context, recording, launch)?;
        let cut = kind(&op)?.matrices?;
        let measured = self.known(&self.step_key(recording, launch, &op));
        let taken = self.takes_matrices(recording, launch, &op);
        let microseconds = |ms: f64| 1e3 * ms / STEPS as f64;
        Some(match measured {
            _ if !taken && self.context.strategy == Strategy::Step => return None,
            None => cut.to_string(),
            Some([_, ms]) if ms >= REFUSED => {
                format!("by threads: the device failed with {cut}, or computed other numbers")
            }
            Some([threads, matrices]) => {
                let taken = if taken { String::new() } else { "by threads, not in ".to_string() };
                let [threads, matrices] = [threads, matrices].map(microseconds);
                format!("{taken}{cut}: a step takes {threads:.2} us by threads, {matrices:.2} so")
            }
        })
    }

    /// What the time depends on, besides what [`GpuEngine::key`] has: the terms of the product.
    pub(super) fn step_key(&self, recording: &Recording, launch: &Launch, op: &Op) -> String {
        let terms = match op {
            Op::StepForward(op) => op.params.depth,
            Op::StepBackward(op) => op.params.terms,
            _ => 0,
        };
        format!("{} terms {terms}", self.key(recording, &launch.buffers, op))
    }
}

/// The form in matrices that a step may take.
pub(super) fn in_matrices(context: &Context, recording: &Recording, launch: &Launch) -> Option<Op> {
    let wanted = match context.cooperative {
        Cooperative::Measured => !context.info.software,
        Cooperative::Never => false,
        Cooperative::Tile(_) => true,
    };
    let source = match &launch.op {
        Op::StepForward(op) => op.source_name(),
        Op::StepBackward(op) => op.source_name()?,
        _ => return None,
    };
    let tile = context.offered().first().copied().filter(|_| wanted)?;
    let bound = recording.bindings(launch);
    let mut multiplied = bound.iter().filter(|binding| ["w", source].contains(&binding.name));
    if !multiplied.all(|binding| binding.dtype == DType::F16) {
        return None;
    }
    let weights = bound.iter().position(|binding| binding.name == "w")?;
    // Those of an ensemble's members follow one another.
    let words = recording.get(launch.buffers[weights]).words();
    let aligned = context.members() == 1 || words.is_multiple_of(8);
    let limits = GroupLimits {
        matrix: COOPERATIVE_TILES[tile].matrix,
        lanes: context.lanes(),
        ..context.group_limits
    };
    let op: Op = match &launch.op {
        Op::StepForward(op) => op.in_matrices(aligned, &limits)?.into(),
        Op::StepBackward(op) => op.in_matrices(aligned, &limits)?.into(),
        _ => return None,
    };
    let most = context.limits.max_compute_workgroups_per_dimension;
    op.kernel().groups().into_iter().all(|groups| groups <= most).then_some(op)
}

fn kind(op: &Op) -> Option<&StepKind> {
    match op {
        Op::StepForward(op) => Some(&op.kind),
        Op::StepBackward(op) => Some(&op.kind),
        _ => None,
    }
}

/// Another step of the kind, in the form of one.
pub(super) fn with_matrices_of(op: &Op, form: &Op) -> Op {
    let mut op = op.clone();
    let own = match &mut op {
        Op::StepForward(op) => &mut op.kind,
        Op::StepBackward(op) => &mut op.kind,
        _ => return op,
    };
    if let Some(kind) = kind(form) {
        *own = kind.clone();
    }
    op
}

/// Whether two launches of a recording differ in nothing but the step.
pub(super) fn alike(a: &Op, b: &Op) -> bool {
    let sizes = |p: &StepParams| [p.batch, p.hidden, p.units, p.head, p.depth, p.terms, p.w_offset];
    match (a, b) {
        (Op::StepForward(a), Op::StepForward(b)) => {
            a.phase == b.phase && sizes(&a.params) == sizes(&b.params) && a.kind == b.kind
        }
        (Op::StepBackward(a), Op::StepBackward(b)) => {
            let same = a.phase == b.phase && a.d_output == b.d_output;
            same && sizes(&a.params) == sizes(&b.params) && a.kind == b.kind
        }
        _ => false,
    }
}
