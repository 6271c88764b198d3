//! All permutations of shaders that recordings have.

use crate::reading::{Checked, read};
use naga::Module;
use naga::valid::ModuleInfo;
use recurra::cell::CellKind;
use recurra::conformance::{random_case, record_case, recurrent_cases};
use recurra::kernel::{
    GroupLimits, Op, Resident, ResidentParams, SequenceBackward, SequenceForward, shader,
};
use recurra::layer::{Embedding, InitialState, Linear, Recurrent};
use recurra::loss::cross_entropy;
use recurra::optim::Optimizer;
use recurra::schedule::Recorder;
use std::collections::BTreeSet;

/// Each permutation once: those beside the recurrence, and all that the stacks of the conformance
/// suite and 100 random ones record.
pub fn permutations() -> Vec<Op> {
    let mut list = recurra::kernel::permutations();
    let mut seen: BTreeSet<String> = list.iter().map(title).collect();
    let cases = recurrent_cases().into_iter().chain((0..100).map(random_case));
    let recordings = cases.map(|case| record_case(&case).unwrap()).chain(training_steps());
    for recording in recordings {
        for launch in recording.launches() {
            let sequences = in_sequence(&launch.op);
            for op in std::iter::once(launch.op.clone()).chain(sequences) {
                if seen.insert(title(&op)) {
                    list.push(op);
                }
            }
        }
    }
    list
}

/// What WebGPU promises a workgroup, and a device that keeps four at work.
pub const PROMISED: GroupLimits = GroupLimits {
    threads: 256,
    bytes: 16_384,
    registers: 64,
    spills: true,
    groups: 2,
    slices: 32,
    steps: 99,
    rounds: usize::MAX,
    resident: 4,
    spins: 9,
    matrix: 0,
    lanes: 0,
};

/// A step's sequence kernels, cut for what WebGPU promises: with all weights in registers, and with few.
pub fn in_sequence(op: &Op) -> Vec<Op> {
    let limits = PROMISED;
    let few = GroupLimits { registers: 16, groups: 1000, ..limits };
    match op {
        Op::StepForward(step) => [limits, few]
            .iter()
            .filter_map(|limits| Some(SequenceForward::new(step, 3, limits)?.into()))
            .collect(),
        Op::StepBackward(step) => [(limits, true), (few, false)]
            .iter()
            .filter_map(|(limits, initial)| {
                Some(SequenceBackward::new(step, 3, *initial, limits)?.into())
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The grids of steps and what comes behind them, and the probe of a device: kernels whose workgroups share memory.
pub fn shared_permutations() -> Vec<Op> {
    let resident = ResidentParams { groups: 2, spins: 9 };
    let probe = Resident { params: resident, threads: 64, bytes: 256 };
    std::iter::once(probe.into()).chain(grids(PROMISED)).collect()
}

/// The grids of steps within some limits, and what comes behind them.
pub fn grids(limits: GroupLimits) -> Vec<Op> {
    let mut seen = BTreeSet::new();
    let mut list: Vec<Op> = Vec::new();
    let cases = recurrent_cases().into_iter().chain((0..100).map(random_case));
    for recording in cases.map(|case| record_case(&case).unwrap()) {
        for launch in recording.launches() {
            let of: Vec<Op> = match &launch.op {
                Op::StepForward(step) => {
                    let grid = SequenceForward::grid(step, 3, &limits);
                    let both = grid.map(|grid| [grid.rest(), grid].map(Op::from));
                    both.into_iter().flatten().collect()
                }
                Op::StepBackward(step) => {
                    let grid =
                        SequenceBackward::grid(step, 3, list.len().is_multiple_of(3), &limits);
                    let both = grid.map(|grid| [grid.rest(), grid].map(Op::from));
                    both.into_iter().flatten().collect()
                }
                _ => Vec::new(),
            };
            list.extend(of.into_iter().filter(|op| seen.insert(title(op))));
        }
    }
    list
}

/// A readable name of a permutation.
pub fn title(op: &Op) -> String {
    let kernel = op.kernel();
    let defines = kernel.defines();
    let words = defines.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{}{}", kernel.name(), words.collect::<String>())
}

/// Applies a check to all permutations and fails with all complaints.
pub fn for_all(check: impl Fn(&Op, &Module, &ModuleInfo) -> Checked<()>) {
    let mut complaints = Vec::new();
    for op in permutations() {
        let source = shader::source(op.kernel()).unwrap();
        let result = read(&source).and_then(|(module, info)| check(&op, &module, &info));
        complaints.extend(result.err().map(|e| format!("{}: {e}", title(&op))));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Every file of a kernel belongs to one.
#[test]
fn every_file_is_some_kernels() {
    let all = permutations().into_iter().chain(shared_permutations());
    let used: BTreeSet<String> = all.map(|op| op.kernel().name().to_string()).collect();
    assert_eq!(shader::stems(), used.into_iter().collect::<Vec<_>>());
}

/// The permutations are all different, and there are many.
#[test]
fn permutations_are_listed_once() {
    let listed: Vec<String> = permutations().iter().map(title).collect();
    let distinct: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len());
    assert!(listed.len() > 300, "only {} permutations", listed.len());
}

/// Training steps with each optimizer, clipping, and given and carried states.
pub fn training_steps() -> Vec<recurra::recording::Recording> {
    let optimizers = [
        Optimizer::sgd(0.9),
        Optimizer::nesterov(0.9),
        Optimizer::rms_prop(),
        Optimizer::adam(),
        Optimizer::adamw(0.01),
    ];
    let mut list = Vec::new();
    for cell in CellKind::ALL {
        for optimizer in optimizers {
            for max_norm in [None, Some(1.0)] {
                for carried in [false, true] {
                    list.push(training_step(cell, optimizer, max_norm, carried));
                }
            }
        }
    }
    list
}

/// A language model with two stacks that share their table, so that gradients add up.
pub fn training_step(
    cell: CellKind,
    optimizer: Optimizer,
    max_norm: Option<f32>,
    carried: bool,
) -> recurra::recording::Recording {
    let mut rec = Recorder::training();
    let (vocabulary, width, shape) = (7, 5, [2, 3]);
    let table = Embedding { name: "embedding".into(), vocabulary, width };
    let rnn = Recurrent { layers: 2, dropout: 0.5, ..Recurrent::new("rnn", cell, width, width) };
    let linear = Linear::new("linear", width, vocabulary);
    for number in 0..2 {
        let ids = rec.input_ids(&format!("ids{number}"), 6).unwrap();
        let x = table.record(&mut rec, ids).unwrap();
        let x = rec.dropout(x, 0.25).unwrap();
        let initial = match carried {
            true => InitialState::Carried(format!("state{number}")),
            false => {
                let shape = rnn.state_shape(shape[1]);
                let name = |l| format!("initial{number}.{l}");
                let given = (0..2).map(|l| rec.input(&name(l), shape, true).unwrap());
                InitialState::Given(given.collect())
            }
        };
        let out = rnn.record(&mut rec, x, shape, &initial).unwrap();
        if number == 0 {
            let targets = rec.input_ids("targets", 6).unwrap();
            let logits = linear.record(&mut rec, out.output).unwrap();
            cross_entropy(&mut rec, logits, targets).unwrap();
        } else if let Some(&last) = out.finals.last() {
            let seed = rec.input("d_final", [last.rows, last.columns], false).unwrap();
            rec.seed_gradient(last, seed).unwrap();
        }
    }
    rec.backward().unwrap();
    optimizer.record(&mut rec, max_norm).unwrap();
    rec.finish()
}
