//! Kernels that multiply matrices in subgroups.

use crate::card::CARD;
use crate::interface::{Interface, short_bindings};
use crate::limits::{check_limits_with, workgroup_bytes};
use crate::permutations::{PROMISED, grids, title};
use crate::reading::{Checked, expect, read_with, to_msl, to_spirv};
use naga::Module;
use naga::proc::Layouter;
use naga::valid::Capabilities;
use recurra::cell::CellKind;
use recurra::conformance::{RecurrentCase, record_case, recurrent_cases};
use recurra::kernel::{GroupLimits, Kernel, Op, SequenceBackward, SequenceForward, shader};
use recurra::layer::Recurrent;
use recurra::tensor::{DType, Precision};
use std::collections::BTreeSet;

/// Products of matrices that subgroups multiply, over C in f32 and in f16. Only SPIR-V and MSL have such
/// matrices: naga refuses them in HLSL, and does not write them in WGSL. Devices that have them have 32 KiB
/// of workgroup memory, and some 48.
#[test]
fn cooperative_products_are_valid() {
    let capabilities = Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP;
    let listed = recurra::kernel::cooperative_permutations();
    let names: BTreeSet<String> = listed.iter().map(title).collect();
    assert_eq!(names.len(), listed.len());
    let mut complaints = Vec::new();
    for op in listed {
        for c in [DType::F32, DType::F16] {
            let mut interface = Interface::new(&op);
            interface.bindings[2].dtype = c;
            let source = shader::source_with(op.kernel(), &interface.bindings, 1, None).unwrap();
            let result = read_with(&source, capabilities).and_then(|(module, info)| {
                interface.check(&module, &info)?;
                let large = source.contains("const TILE_b = 256u;");
                // Devices with subgroups of 64 have workgroups of 1,024.
                let threads = if source.contains("const LANES = 64u;") { 512 } else { 256 };
                check_limits_with(&module, threads, if large { 49_152 } else { 32_768 })?;
                to_spirv(&module, &info)?;
                // Vectors in workgroup memory are for Vulkan alone.
                if source.contains("array<f16, SLAB_a>") {
                    to_msl(&module, &info, (2, 3))?;
                }
                Ok(())
            });
            complaints.extend(result.err().map(|e| format!("{}: {e}", title(&op))));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints[..complaints.len().min(3)].join("\n"));
}

/// The products of sequences and grids in cooperative matrices, with limits as above: a device with small matrices
/// and subgroups of eight, and two with large ones.
#[test]
fn recurrences_in_matrices_are_valid() {
    let capabilities = Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP;
    let mut complaints = Vec::new();
    for [matrix, lanes] in [[8, 8], [16, 32], [16, 64]] {
        let limits = GroupLimits { matrix, lanes, bytes: 32_768, resident: 64, ..PROMISED };
        let mut listed = grids(limits);
        // Backward, where the gradients of all gates at once are too many.
        let few_bytes = GroupLimits { bytes: 4096, ..limits };
        listed.extend(grids(few_bytes).into_iter().filter(goes_by_gate));
        assert!(listed.iter().filter(|op| goes_by_gate(op)).count() > 10);
        let mut seen = BTreeSet::new();
        for case in recurrent_cases() {
            for launch in record_case(&case).unwrap().launches() {
                let of: Option<Op> = match &launch.op {
                    Op::StepForward(step) => {
                        SequenceForward::new(step, 3, &limits).map(|op| op.into())
                    }
                    Op::StepBackward(step) => {
                        let initial = listed.len().is_multiple_of(2);
                        SequenceBackward::new(step, 3, initial, &limits).map(|op| op.into())
                    }
                    _ => None,
                };
                let steps = [true, false].map(|aligned| match &launch.op {
                    Op::StepForward(step) => step.in_matrices(aligned, &limits).map(Op::from),
                    Op::StepBackward(step) => step.in_matrices(aligned, &limits).map(Op::from),
                    _ => None,
                });
                let all = of.into_iter().chain(steps.into_iter().flatten());
                listed.extend(all.filter(|op| seen.insert(title(op))));
            }
        }
        assert!(listed.len() > 60, "only {} permutations", listed.len());
        for (number, op) in listed.iter().enumerate() {
            let bindings = short_bindings(op);
            let interface = Interface { bindings: bindings.clone(), ..Interface::new(op) };
            let members = 1 + number as u32 % 2;
            let source = shader::source_with(op.kernel(), &bindings, members, None).unwrap();
            let result = read_with(&source, capabilities).and_then(|(module, info)| {
                interface.check(&module, &info)?;
                check_limits_with(&module, 256, 32_768)?;
                few_registers(&module, &source, matrix * matrix / lanes)?;
                to_spirv(&module, &info)?;
                to_msl(&module, &info, (3, 2))
            });
            complaints.extend(result.err().map(|e| format!("{}: {e}", title(op))));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints[..complaints.len().min(3)].join("\n"));
}

/// Whether a kernel is a backward grid that takes one gate after another.
pub fn goes_by_gate(op: &Op) -> bool {
    let Op::SequenceBackward(op) = op else { return false };
    op.cut.matrices.is_some_and(|matrices| matrices.by_gate)
}

/// Layers of f16 whose weights one workgroup can't hold are grids of matrices on a large card, forward and backward:
/// no weight is read again at any step, and a step's barriers are a few.
#[test]
fn wide_layers_are_grids_of_matrices_on_a_card() {
    let capabilities = Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP;
    for (cell, hidden) in [
        (CellKind::Lstm, 512),
        (CellKind::Lstm, 768),
        (CellKind::Lstm, 1024),
        (CellKind::Gru, 768),
        (CellKind::Gru, 1024),
        (CellKind::RnnTanh, 1024),
    ] {
        let stack = Recurrent::new("rnn", cell, 8, hidden);
        let case = RecurrentCase { precision: Precision::F16, ..RecurrentCase::new(stack, 2, 16) };
        let recording = record_case(&case).unwrap();
        let grids = recording.launches().iter().filter_map(|launch| match &launch.op {
            Op::StepForward(step) => SequenceForward::grid(step, 2, &CARD).map(Op::from),
            Op::StepBackward(step) => SequenceBackward::grid(step, 2, false, &CARD).map(Op::from),
            _ => None,
        });
        let mut passes = BTreeSet::new();
        for op in grids {
            let (name, products) = match &op {
                Op::SequenceForward(op) => (op.name(), op.step.products()),
                Op::SequenceBackward(op) => (op.name(), op.step.products()),
                _ => unreachable!(),
            };
            let cut = match &op {
                Op::SequenceForward(op) => op.cut,
                Op::SequenceBackward(op) => op.cut,
                _ => unreachable!(),
            };
            let what = format!("{cell:?} of {hidden}, {name}: {cut:?}");
            assert!(cut.matrices.is_some() && cut.reread(products) == 0, "{what}");
            if passes.insert(name) {
                println!("{what}");
                let bindings = short_bindings(&op);
                let source = shader::source_with(op.kernel(), &bindings, 1, None).unwrap();
                let (module, info) = read_with(&source, capabilities).unwrap();
                assert!(workgroup_bytes(&module).unwrap() <= CARD.bytes as u32, "{what}");
                assert!(cut.threads() <= CARD.threads, "{what}");
                few_registers(&module, &source, 16 * 16 / 32).unwrap();
                to_spirv(&module, &info).unwrap();
                // One in every eighth step, two around who is late, one behind the products; a gate has its own two.
                let steps = source.split_once("for (var s = ").unwrap().1;
                let barriers = steps.matches("workgroupBarrier()").count()
                    + steps.matches("storageBarrier()").count()
                    + 2 * steps.matches("workgroupUniformLoad(").count();
                let by_gate = cut.matrices.is_some_and(|matrices| matrices.by_gate);
                let most = if by_gate { 3 + 2 * products } else { 4 };
                assert_eq!(barriers, most, "{what}");
            }
        }
        assert_eq!(passes.len(), 2, "{cell:?} of {hidden}");
    }
}

/// Sums of many rows and the weights beside them fit the registers that a multiprocessor of 65,536 gives a thread.
#[test]
fn many_rows_spill_nothing_on_a_card() {
    let limits = GroupLimits { matrix: 0, lanes: 0, ..CARD };
    let mut most_rows = 0;
    for (cell, hidden) in (16..=512)
        .step_by(16)
        .flat_map(|hidden| [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru].map(|c| (c, hidden)))
    {
        for batch in [32, 1200, 5000] {
            let case = RecurrentCase::new(Recurrent::new("rnn", cell, 8, hidden), 2, batch);
            for launch in record_case(&case).unwrap().launches() {
                let cut = match &launch.op {
                    Op::StepForward(step) => SequenceForward::new(step, 2, &limits)
                        .map(|op| (op.cut, op.step.products())),
                    Op::StepBackward(step) => SequenceBackward::new(step, 2, false, &limits)
                        .map(|op| (op.cut, op.step.products())),
                    _ => None,
                };
                let Some((cut, products)) = cut else { continue };
                most_rows = most_rows.max(cut.rows);
                let words = (cut.rows + cut.pinned) * products * cut.span;
                let most = (65_536 / cut.threads()).min(255) - 8;
                assert!(words <= most, "{cell:?} of {hidden}: {words} of {most} words: {cut:?}");
            }
        }
    }
    assert_eq!(most_rows, 8);
}

/// What a large card's driver is given fits into the workgroup memory that it told of, whatever the width: wgpu doesn't
/// check it, and a driver may refuse the pipeline or break.
#[test]
fn every_width_fits_a_cards_workgroups() {
    let capabilities = Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP;
    let (mut seen, mut widest, mut complaints) = (BTreeSet::new(), 0, Vec::new());
    let widths = (16..=528).step_by(16).chain((640..=2048).step_by(128));
    for (cell, hidden) in widths.flat_map(|hidden| {
        [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru, CellKind::Slstm].map(|c| (c, hidden))
    }) {
        let stack = Recurrent::new("rnn", cell, 8, hidden);
        let case = RecurrentCase { precision: Precision::F16, ..RecurrentCase::new(stack, 2, 32) };
        let recording = record_case(&case).unwrap();
        let threads = GroupLimits { matrix: 0, lanes: 0, ..CARD };
        let mut all: Vec<Op> = Vec::new();
        for launch in recording.launches() {
            for limits in [CARD, threads] {
                match &launch.op {
                    Op::StepForward(step) => {
                        all.extend(SequenceForward::new(step, 2, &limits).map(Op::from));
                        let grid = SequenceForward::grid(step, 2, &limits);
                        all.extend(
                            grid.iter().flat_map(|op| [op.clone().into(), op.rest().into()]),
                        );
                    }
                    Op::StepBackward(step) => {
                        all.extend(SequenceBackward::new(step, 2, false, &limits).map(Op::from));
                        let grid = SequenceBackward::grid(step, 2, false, &limits);
                        all.extend(
                            grid.iter().flat_map(|op| [op.clone().into(), op.rest().into()]),
                        );
                    }
                    _ => {}
                }
            }
        }
        for op in all.into_iter().filter(|op| seen.insert(title(op))) {
            let source = shader::source_with(op.kernel(), &short_bindings(&op), 1, None).unwrap();
            let (module, _) = read_with(&source, capabilities).unwrap();
            let bytes = workgroup_bytes(&module).unwrap();
            widest = widest.max(bytes);
            if bytes > CARD.bytes as u32 {
                complaints.push(format!("{cell:?} of {hidden}: {bytes} bytes: {}", title(&op)));
            }
        }
    }
    assert!(seen.len() > 200 && widest > 48_000, "{} kernels, {widest} bytes", seen.len());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// A thread's share of the matrices, so many words of f32 each, and what it keeps of its units fit the registers that a
/// multiprocessor of 65,536 gives it, with some to compute in. A step of a sequence has two barriers.
pub fn few_registers(module: &Module, source: &str, matrix: usize) -> Checked<()> {
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let main = &module.entry_points[0];
    let kept = main.function.local_variables.iter().map(|(_, local)| local);
    let kept = kept.filter(|local| local.name.as_ref().is_some_and(|n| n.starts_with("kept_")));
    let kept: usize = kept.map(|local| layouter[local.ty].size as usize / 4).sum();
    let count = |text: &str| source.matches(text).count();
    let words = kept + count("let w_") * matrix.div_ceil(2) + count("var sum_") * matrix;
    let threads = main.workgroup_size[0] as usize;
    let most = (65_536 / threads).min(255) - 8;
    expect(words <= most, || format!("{words} words a thread of {threads}"))?;
    if source.contains("const GATES_A_PASS") {
        return Ok(());
    }
    let (_, steps) = source.split_once("for (var s = ").ok_or("no loop over steps")?;
    let barriers = steps.matches("workgroupBarrier()").count();
    let sequence = !source.contains("const TILES");
    expect(!sequence || barriers == 2, || format!("{barriers} barriers a step"))
}
