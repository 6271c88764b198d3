//! Recurrences whose products go in matrices that subgroups multiply together, where a device has them.
//! `tests/coop-in-chroot` runs this on a driver of the CPU that does.

mod common;

use common::seeded::{assert_equal, run};
use recurra::cell::CellKind;
use recurra::conformance::{
    RecurrentCase, random_case, record_case, recurrent_cases_in_f16, recurrent_reports,
};
use recurra::engine::{Cooperative, Engine, GpuEngine, Strategy};
use recurra::kernel::{GroupLimits, Matrices, Op, StepMatrices, shader::Fault};
use recurra::layer::{Direction, Merge, Recurrent};
use recurra::recording::{Launch, Recording};
use recurra::tensor::Precision;
use std::collections::BTreeMap;

/// The GPU engine with such products on request; else a line says that there are none, and with
/// `RECURRA_REQUIRE_COOPERATIVE=1` the test fails.
fn gpu() -> Option<GpuEngine> {
    if let Some(Engine::Gpu(gpu)) = common::gpu_engine()
        && let Some(&tile) = gpu.cooperative_tiles().first()
    {
        return Some(gpu.with_cooperative(Cooperative::Tile(tile)));
    }
    let required = std::env::var("RECURRA_REQUIRE_COOPERATIVE").is_ok_and(|v| v == "1");
    assert!(!required, "RECURRA_REQUIRE_COOPERATIVE=1, but no device has cooperative matrices");
    println!("SKIPPED: the device has no cooperative matrices of f16 and f32");
    None
}

fn sequences(gpu: &GpuEngine) -> Engine {
    Engine::Gpu(gpu.clone()).with_strategy(Strategy::Sequence).unwrap()
}

/// The device with grids, as if it kept so many workgroups at work. More than there are cores never meet, and then the
/// launch behind them makes all steps: two test the grid itself.
fn grids(gpu: &GpuEngine, resident: usize, spins: usize) -> Engine {
    let limits = GroupLimits { resident, spins, ..gpu.group_limits() };
    Engine::Gpu(gpu.with_group_limits(limits)).with_strategy(Strategy::Grid).unwrap()
}

/// The matrices of each kernel of a recurrence, as the engine launches it.
fn matrices(engine: &Engine, recording: &Recording) -> BTreeMap<&'static str, Matrices> {
    fn find(op: &Op, list: &mut BTreeMap<&'static str, Matrices>) {
        let cut = match op {
            Op::SequenceForward(op) => op.cut,
            Op::SequenceBackward(op) => op.cut,
            Op::Beside(beside) => return beside.ops().iter().for_each(|op| find(op, list)),
            _ => return,
        };
        list.extend(cut.matrices.map(|matrices| (op.kernel().name(), matrices)));
    }
    let mut list = BTreeMap::new();
    engine.arranged(recording).launches().iter().for_each(|launch| find(&launch.op, &mut list));
    list
}

/// Cases of f16 that neither a clip nor a rectifier puts on the other side of its border.
fn cases() -> impl Iterator<Item = RecurrentCase> {
    let random =
        (0..80).map(|seed| RecurrentCase { precision: Precision::F16, ..random_case(seed) });
    recurrent_cases_in_f16().into_iter().chain(random.filter(|case| {
        let cell = &case.stack.cell;
        cell.clip.is_none() && cell.cell_clip.is_none() && cell.kind != CellKind::RnnRelu
    }))
}

/// Reports on the cases that an engine serves so, and in how many each kernel was.
fn conforms(
    engine: &Engine,
    cases: impl Iterator<Item = RecurrentCase>,
) -> BTreeMap<&'static str, usize> {
    let (mut failed, mut counts) = (Vec::new(), BTreeMap::new());
    for case in cases {
        let found = matrices(engine, &record_case(&case).unwrap());
        if found.is_empty() {
            continue;
        }
        found.keys().for_each(|name| *counts.entry(*name).or_insert(0) += 1);
        for report in recurrent_reports(engine, &case).unwrap() {
            if !report.pass {
                failed.push(format!("{report:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {counts:?}:\n{}", failed.len(), failed.join("\n"));
    println!("{counts:?}");
    counts
}

#[test]
fn sequences_conform() {
    let Some(gpu) = gpu() else { return };
    let counts = conforms(&sequences(&gpu), cases());
    for name in ["sequence_forward", "sequence_backward"] {
        assert!(counts[name] > 30, "{counts:?}");
    }
}

#[test]
fn grids_conform() {
    let Some(gpu) = gpu() else { return };
    let counts = conforms(&grids(&gpu, 2, 20_000), cases().step_by(3));
    for name in ["grid_forward", "grid_backward"] {
        assert!(counts[name] > 4, "{counts:?}");
    }
}

/// The device as if its workgroups had so little memory that gate gradients go through it one gate after another, and
/// made so few steps that a sequence goes in several launches.
fn with_few_bytes(gpu: &GpuEngine) -> GpuEngine {
    gpu.with_group_limits(GroupLimits { bytes: 3072, steps: 12, ..gpu.group_limits() })
}

fn goes_by_gate(engine: &Engine, case: &RecurrentCase) -> bool {
    let found = matrices(engine, &record_case(case).unwrap());
    found.get("grid_backward").is_some_and(|matrices| matrices.by_gate)
}

#[test]
fn grids_conform_gate_by_gate() {
    let Some(gpu) = gpu() else { return };
    let engine = grids(&with_few_bytes(&gpu), 2, 20_000);
    // A driver of the CPU compiles those of more units for a minute each.
    let by_gate =
        cases().filter(|case| case.stack.hidden < 32 && goes_by_gate(&engine, case)).take(6);
    let counts = conforms(&engine, by_gate);
    assert_eq!(counts["grid_backward"], 6, "{counts:?}");
    for cell in [CellKind::Lstm, CellKind::Gru] {
        let case = one_mask(cell);
        assert!(goes_by_gate(&engine, &case) && is_right(&engine, &case), "{cell:?}");
    }
}

/// As [`odd`], with a mask that all gates share.
fn one_mask(cell: CellKind) -> RecurrentCase {
    let mut case = odd(cell);
    case.stack.per_gate = false;
    case
}

/// Cells, masks and flags at sizes that are no whole matrices.
fn odd(cell: CellKind) -> RecurrentCase {
    let mut stack = Recurrent::new("rnn", cell, 5, 27);
    (stack.recurrent_dropout, stack.per_gate) = (0.3, cell == CellKind::Gru);
    stack.zoneout = [0.2, 0.1];
    stack.direction = Direction::Both(Merge::Concat);
    let plain = RecurrentCase { precision: Precision::F16, ..RecurrentCase::new(stack, 6, 11) };
    RecurrentCase { given: true, lengths: true, resets: true, ..plain }
}

/// What a grid leaves to the launch behind it has the bits of what it makes itself.
#[test]
fn what_a_grid_misses_has_its_bits() {
    let Some(gpu) = gpu() else { return };
    for cell in [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru] {
        misses_and_keeps_bits(&gpu, &odd(cell), false);
    }
    misses_and_keeps_bits(&with_few_bytes(&gpu), &one_mask(CellKind::Gru), true);
}

fn misses_and_keeps_bits(gpu: &GpuEngine, case: &RecurrentCase, by_gate: bool) {
    let cell = case.stack.cell.kind;
    let recording = record_case(case).unwrap();
    let engine = grids(gpu, 2, 20_000);
    assert_eq!(matrices(&engine, &recording).len(), 2, "{cell:?}");
    assert_eq!(goes_by_gate(&engine, case), by_gate, "{cell:?}");
    let want = run(&engine, &recording, case.time, 2);
    // Gradients under a loss's scale may be beyond f16: most are not.
    let all: Vec<f32> = want.values().flatten().map(|bits| f32::from_bits(*bits)).collect();
    let finite = all.iter().filter(|value| value.is_finite()).count();
    assert!(2 * finite > all.len(), "{finite} of {}", all.len());
    for step in [0, 3, 6] {
        for stem in ["grid_forward", "grid_backward"] {
            let old = "(&late) != 0u {";
            let new = format!("(&late) != 0u || group.x == 1u && s == {step}u {{");
            let faulty = gpu.with_fault(Fault { stem, old, new: new.leak() });
            let got = run(&grids(&faulty, 2, 2000), &recording, case.time, 2);
            assert_equal(&format!("{cell:?}: {stem}, step {step}"), &want, &got);
        }
    }
}

/// Devices with few threads, whose subgroups have several columns, and with few registers, where the terms go in
/// slices.
fn cut_otherwise(gpu: &GpuEngine) -> [Engine; 3] {
    let limits = gpu.group_limits();
    let lanes = gpu.lanes();
    let few_threads = GroupLimits { threads: 10 * lanes, ..limits };
    let few_registers = GroupLimits { registers: 8, ..limits };
    [limits, few_threads, few_registers].map(|limits| sequences(&gpu.with_group_limits(limits)))
}

/// Whether a recurrence in matrices is right.
fn is_right(engine: &Engine, case: &RecurrentCase) -> bool {
    let reports = recurrent_reports(engine, case).unwrap();
    reports.iter().all(|report| report.pass)
}

/// Threads that settle several units.
fn wide(cell: CellKind) -> RecurrentCase {
    let mut case = odd(cell);
    (case.stack.hidden, case.stack.zoneout) = (40, [0.0, 0.0]);
    case
}

#[test]
fn columns_and_slices_conform() {
    let Some(gpu) = gpu() else { return };
    for cell in [CellKind::Lstm, CellKind::Gru] {
        let mut seen = Vec::new();
        for engine in cut_otherwise(&gpu) {
            assert!(is_right(&engine, &wide(cell)), "{cell:?}");
            let recording = record_case(&wide(cell)).unwrap();
            let found = matrices(&engine, &recording);
            seen.push(found["sequence_forward"]);
        }
        println!("{cell:?}: {seen:?}");
        // One column a subgroup and several; with few threads one slice, else several.
        let columns = |found: &Matrices| found.columns * found.subgroups;
        assert!(seen.iter().any(|found| found.columns == 1), "{seen:?}");
        assert!(seen.iter().any(|found| found.columns > 1), "{seen:?}");
        assert!(columns(&seen[0]) > columns(&seen[1]), "{seen:?}");
        assert!(columns(&seen[2]) > columns(&seen[1]), "{seen:?}");
    }
}

/// Steps that have a launch each, with their products in matrices.
fn steps(gpu: &GpuEngine) -> Engine {
    Engine::Gpu(gpu.clone()).with_strategy(Strategy::Step).unwrap()
}

/// How the steps of a recording go in matrices, by what they are.
fn steps_in_matrices(engine: &Engine, recording: &Recording) -> BTreeMap<String, StepMatrices> {
    let of = |launch: &Launch| match &launch.op {
        Op::StepForward(op) => Some((format!("forward {:?}", op.phase), op.kind.matrices?)),
        Op::StepBackward(op) => Some((format!("backward {:?}", op.phase), op.kind.matrices?)),
        _ => None,
    };
    engine.arranged(recording).launches().iter().filter_map(of).collect()
}

/// Cells whose steps are of every phase, and of weights that lie in whole matrices.
fn stepped() -> Vec<RecurrentCase> {
    let mut list = Vec::new();
    for hidden in [27, 32] {
        let mut of = |cell: CellKind, change: &dyn Fn(&mut RecurrentCase)| {
            let mut case = odd(cell);
            (case.stack.hidden, case.time) = (hidden, 4);
            change(&mut case);
            list.push(case);
        };
        for cell in [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru, CellKind::GruResetBefore] {
            of(cell, &|_| {});
            of(cell, &|case| case.stack.cell.layer_norm = Some(1e-3));
        }
        of(CellKind::Lstm, &|case| case.stack.cell.projection = Some(hidden / 2));
        of(CellKind::Lstm, &|case| {
            case.stack.cell.projection = Some(hidden / 2);
            case.stack.cell.layer_norm = Some(1e-3);
        });
        // Several rounds, of several matrices.
        of(CellKind::RnnTanh, &|case| case.stack.hidden += 256);
        // More rows than two matrices, and masks of each gate's own.
        of(CellKind::Lstm, &|case| (case.batch, case.stack.per_gate) = (37, true));
    }
    list
}

#[test]
fn steps_conform() {
    let Some(gpu) = gpu() else { return };
    let engine = steps(&gpu);
    let (mut failed, mut counts) = (Vec::new(), BTreeMap::new());
    let convolution = cases().filter(|case| case.stack.convolution.is_some()).take(2);
    for case in stepped().into_iter().chain(convolution) {
        let found = steps_in_matrices(&engine, &record_case(&case).unwrap());
        for (name, cut) in &found {
            *counts.entry((name.clone(), cut.whole)).or_insert(0) += 1;
        }
        if found.is_empty() {
            continue;
        }
        for report in recurrent_reports(&engine, &case).unwrap() {
            if !report.pass {
                failed.push(format!("{report:?}"));
            }
        }
    }
    println!("{counts:?}");
    assert!(failed.is_empty(), "{} of {counts:?}:\n{}", failed.len(), failed.join("\n"));
    let seen = |name: &str, whole| counts.get(&(name.to_string(), whole)).is_some_and(|&n| n > 0);
    for phase in ["Cell", "Candidate", "Project", "Product", "CandidateProduct"] {
        assert!(
            [true, false].iter().all(|&whole| seen(&format!("forward {phase}"), whole)),
            "{phase}"
        );
    }
    for phase in ["Cell", "Candidate", "Project", "Unproject", "Raw", "Initial"] {
        assert!(
            [true, false].iter().all(|&whole| seen(&format!("backward {phase}"), whole)),
            "{phase}"
        );
    }
}

/// Shaders of steps wrong in one place after another.
#[test]
fn faults_of_steps_are_noticed() {
    let Some(gpu) = gpu() else { return };
    let case = |cell, hidden| {
        let mut case = odd(cell);
        (case.stack.hidden, case.stack.direction, case.time) = (hidden, Direction::Forward, 3);
        case
    };
    // Slices and rounds, masks of each gate's own, weights that lie in whole matrices and others.
    let tried = [
        case(CellKind::Lstm, 40),
        case(CellKind::Lstm, 27),
        case(CellKind::Gru, 40),
        case(CellKind::RnnTanh, 136),
    ];
    let stem = "shared/step_matrices";
    let mut unnoticed = Vec::new();
    for (stem, old, new) in [
        (stem, "% MATRIX];\n    }", "% MATRIX];\n        break;\n    }"),
        (stem, "let slice_k = slice * rounds * ROUND;", "let slice_k = 0u;"),
        (stem, "(of_slice * rounds + round) * ROUND + i % ROUND", "of_slice * ROUND + i % ROUND"),
        (stem, "* ROUND * MATRIX + place]", "* ROUND * MATRIX + place ^ 1u]"),
        (stem, "slice * ROUND + #{K}u * MATRIX", "slice * ROUND"),
        (stem, "sum_#{R}_#{PLANE_#{G}})", "sum_#{R}_0)"),
        (stem, "source_of(#{Q}u,", "source_of(0u,"),
        ("shared/step_block", "group.x % tiles * MATRIX", "group.x % tiles"),
        ("step_forward", "at % MATRIX;\n        if", "at % MATRIX ^ 1u;\n        if"),
        ("step_backward", "let heard = p.later != NONE;", "let heard = p.later == NONE;"),
        ("f16", "coopLoad<", "coopLoadT<"),
        ("f16", "coopLoadT<coop_mat8x8<f16, B>>", "coopLoad<coop_mat8x8<f16, B>>"),
    ] {
        let faulty = steps(&gpu.with_fault(Fault { stem, old, new }));
        if tried.iter().all(|case| is_right(&faulty, case)) {
            unnoticed.push(format!("{stem}: {old}"));
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}

/// Shaders wrong in one place after another.
#[test]
fn faults_are_noticed() {
    let Some(gpu) = gpu() else { return };
    let stem = "shared/matrices";
    let state = "held_states = kept_states_#{E};\n            held_words";
    let carry = "kept_carry_#{E} = held_carry;\n#endif\n        }\n#end\n        p.later";
    for (stem, old, new) in [
        (stem, "first + i / MATRIX, k0 + i % MATRIX", "first + i % MATRIX, k0 + i / MATRIX"),
        (stem, "first + i % MATRIX, k0 + i / MATRIX", "first + i / MATRIX, k0 + i % MATRIX"),
        (stem, "column / UNIT_COLUMNS * PLANE", "(column + 1u) % 2u * PLANE"),
        (stem, "subgroup % TEAMS * COLUMN_COUNT", "subgroup % TEAMS"),
        (stem, "subgroup / TEAMS;", "0u;"),
        (stem, "return column / UNIT_COLUMNS * MASK;", "return 0u;"),
        ("shared/sequence_products", "from_#{C} + #{K}u * MATRIX", "from_#{C}"),
        ("shared/sequence_products", "from_0 + #{K}u * MATRIX", "from_0"),
        ("shared/sequence_weights", "share.first_k + #{K}u * MATRIX", "share.first_k"),
        ("shared/forward_terms", "mask * MASK + tile] = f16", "tile] = f16"),
        ("shared/forward_terms", "slice < SLICES", "slice < 1u"),
        (
            "shared/forward_terms",
            "return weight(gate, unit_of(group, place), k);",
            "return weight(gate, unit_of(group, place), k ^ 1u);",
        ),
        ("shared/backward_terms", "[gate * MASK + tile] = f16", "[tile] = f16"),
        ("shared/backward_terms", "slice < SLICES", "slice < 1u"),
        ("sequence_forward", state, "held_words"),
        ("sequence_backward", carry, "#endif\n        }\n#end\n        p.later"),
    ] {
        let faulty = cut_otherwise(&gpu.with_fault(Fault { stem, old, new }));
        let cells = [CellKind::Lstm, CellKind::Gru];
        let mut tried = faulty.iter().flat_map(|engine| cells.map(|cell| (engine, wide(cell))));
        assert!(tried.any(|(engine, case)| !is_right(engine, &case)), "{stem}: {old}");
    }
    let stem = "shared/gate_products";
    for (stem, old, new) in [
        (stem, "#{LEFT_BLOCK_#{C}}u", "0u"),
        (stem, "w_#{C}_#{K}", "w_0_#{K}"),
        (stem, "share.first_k + #{K}u * MATRIX", "share.first_k"),
        ("shared/matrices", "number * UNIT_COLUMNS", "0u"),
        (stem, "from_at += HANDED_PLANE;", ""),
        ("grid_backward", "vec2<f16>(values_of(word));", "vec2<f16>(values_of(word).xx);"),
    ] {
        let faulty = with_few_bytes(&gpu.with_fault(Fault { stem, old, new }));
        let right = |cell| is_right(&grids(&faulty, 2, 20_000), &one_mask(cell));
        assert!(![CellKind::Lstm, CellKind::Gru].into_iter().all(right), "{stem}: {old}");
    }
}

/// Operands of f32 are multiplied by threads, and so is everything where matrices were not asked for on a driver of
/// the CPU.
#[test]
fn matrices_are_of_f16_alone() {
    let Some(gpu) = gpu() else { return };
    let case = odd(CellKind::Lstm);
    let wide = record_case(&RecurrentCase { precision: Precision::F32, ..case.clone() }).unwrap();
    assert!(matrices(&sequences(&gpu), &wide).is_empty());
    let half = record_case(&case).unwrap();
    assert!(!matrices(&sequences(&gpu), &half).is_empty());
    let never = gpu.with_cooperative(Cooperative::Never);
    assert!(matrices(&sequences(&never), &half).is_empty());
    if gpu.info().software {
        let measured = gpu.with_cooperative(Cooperative::Measured);
        assert!(matrices(&sequences(&measured), &half).is_empty());
    }
}
