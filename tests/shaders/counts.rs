//! What can be counted of speed: instructions, private memory, barriers.

use crate::permutations::{for_all, title};
use crate::reading::{expect, read};
use naga::back::spv;
use naga::proc::Layouter;
use naga::{AddressSpace, TypeInner};
use recurra::cell::CellKind;
use recurra::conformance::record_case;
use recurra::kernel::{Matmul, Op, Operand, shader};
use recurra::layer::Recurrent;
use recurra::tensor::DType;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often a word and what follows it stand in the code of a text.
pub fn count(text: &str, what: &str) -> usize {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let longer = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let places = |line: &str| {
        let at = line.match_indices(what).map(|(at, _)| at);
        at.filter(|&at| !line[..at].chars().next_back().is_some_and(longer)).count()
    };
    code.map(places).sum()
}

/// The product's sums, and what is on its way into workgroup memory, are scalars and vectors: a private
/// array would lie in memory, not in registers.
#[test]
fn products_keep_their_sums_in_registers() {
    for_all(|op, module, _| {
        if op.kernel().name() != "matmul" {
            return Ok(());
        }
        let functions = module.functions.iter().map(|f| f.1);
        for function in functions.chain(module.entry_points.iter().map(|entry| &entry.function)) {
            for (_, local) in function.local_variables.iter() {
                let held = &module.types[local.ty].inner;
                let plain = matches!(held, TypeInner::Scalar(_) | TypeInner::Vector { .. });
                expect(plain, || format!("variable {:?} is no vector", local.name))?;
            }
        }
        let privates = module.global_variables.iter();
        let privates = privates.filter(|(_, g)| g.space == AddressSpace::Private).count();
        expect(privates == 0, || "there are private variables".into())
    });
}

/// The numbers of SPIR-V instructions of a shader: all, and the fused multiply-adds.
pub fn instructions(op: &Op) -> [usize; 2] {
    let (module, info) = read(&shader::source(op.kernel()).unwrap()).unwrap();
    // As shaders of this crate go to a device.
    let options = spv::Options { force_loop_bounding: false, ..Default::default() };
    let words = spv::write_vec(&module, &info, &options, None).unwrap();
    let (mut all, mut fma, mut at) = (0, 0, 5);
    while at < words.len() {
        let [length, code] = [words[at] >> 16, words[at] & 0xffff];
        all += 1;
        // OpExtInst with Fma of GLSL.std.450.
        fma += usize::from(code == 12 && words[at + 4] == 50);
        at += length as usize;
    }
    [all, fma]
}

/// What can be counted of speed without a device: the product's inner loop has one multiply-add of a
/// vector for each four sums and term and nothing twice, and no kernel of a step has grown.
#[test]
fn shaders_have_few_instructions() {
    let view = |len: usize| {
        let mut recording = recurra::recording::Recording::new();
        recording.buffer("x", len, DType::F32, recurra::recording::Role::Input).unwrap()
    };
    for tile in recurra::kernel::TILES {
        let operand = Operand::new(view(64), 8);
        let op = Matmul::new([8; 3], operand, operand, operand).with_tile(tile).into();
        let [all, fma] = instructions(&op);
        let sums = tile.thread_rows * tile.thread_columns;
        println!("{}: {all} instructions, {fma} of them fma", tile.name);
        assert_eq!(fma, 4 * sums / 4, "{}: four terms of the sums in vectors", tile.name);
        assert!(all < 700 + 14 * sums, "{}: {all} instructions", tile.name);
    }
    for cell in [CellKind::RnnTanh, CellKind::Gru, CellKind::Lstm] {
        let stack = Recurrent::new("rnn", cell, 4, 32);
        let case = recurra::conformance::RecurrentCase::new(stack, 3, 2);
        for launch in record_case(&case).unwrap().launches() {
            let most = match launch.kernel().name() {
                "step_forward" => 2100,
                "step_backward" => 2400,
                _ => continue,
            };
            let [all, _] = instructions(&launch.op);
            assert!(all < most, "{}: {all} instructions", title(&launch.op));
        }
    }
}

/// A sequence kernel keeps in private memory what stays from step to step, which is little: its weights are
/// values, not an array. It has two barriers a step, and one before the first.
#[test]
fn sequences_keep_little_beside_their_weights() {
    let seen = AtomicUsize::new(0);
    for_all(|op, module, _| {
        if !op.kernel().name().starts_with("sequence_") || op.kernel().name() == "sequence_flags" {
            return Ok(());
        }
        seen.fetch_add(1, Ordering::Relaxed);
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
        let globals = module.global_variables.iter();
        let private = globals.filter(|(_, global)| global.space == AddressSpace::Private);
        let words: u32 = private.map(|(_, global)| layouter[global.ty].size / 4).sum();
        // The parameters, four states and their gradients, five words, the output's gradient, unit and row.
        expect(words <= 28 + 8 + 5 + 3, || format!("{words} words in private memory"))?;
        let barriers = shader::source(op.kernel()).unwrap().matches("workgroupBarrier()").count();
        expect(barriers == 3, || format!("{barriers} barriers"))
    });
    assert!(seen.into_inner() > 100);
}
