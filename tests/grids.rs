//! Grids: several workgroups make the steps of a layer, wait for one another, and what they have not made is made
//! up for.

mod common;

use common::seeded::{assert_equal, run};
use recurra::cell::CellKind;
use recurra::conformance::{
    RecurrentCase, random_case, record_case, recurrent_cases, recurrent_cases_in_f16,
    recurrent_reports,
};
use recurra::engine::{Engine, GpuEngine, Strategy};
use recurra::kernel::{GroupLimits, Op, shader::Fault};
use recurra::layer::Recurrent;
use std::collections::BTreeSet;

/// The device with grids wherever they serve, as if it kept so many workgroups at work.
fn grids(gpu: &GpuEngine, change: impl FnOnce(&mut GroupLimits)) -> Option<Engine> {
    let mut limits = gpu.group_limits();
    limits.resident = 2;
    change(&mut limits);
    match Engine::Gpu(gpu.with_group_limits(limits)).with_strategy(Strategy::Grid) {
        Ok(engine) => Some(engine),
        Err(error) => {
            assert!(error.to_string().contains("no memory that workgroups share"), "{error}");
            println!("SKIPPED: {error}");
            None
        }
    }
}

fn is_served(engine: &Engine, case: &RecurrentCase) -> bool {
    let recording = record_case(case).unwrap();
    engine.arranged(&recording).census().contains_key("grid_forward")
}

fn conforms(engine: &Engine, cases: impl IntoIterator<Item = RecurrentCase>) -> usize {
    let mut failed = Vec::new();
    let mut count = 0;
    for case in cases.into_iter().filter(|case| is_served(engine, case)) {
        for report in recurrent_reports(engine, &case).unwrap() {
            count += usize::from(report.kernel.starts_with("grid"));
            if !report.pass {
                failed.push(format!("{report:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
    count
}

#[test]
fn grids_conform() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let Some(engine) = grids(&gpu, |_| {}) else { return };
    let count = conforms(&engine, recurrent_cases().into_iter().chain((0..60).map(random_case)));
    assert!(count > 10, "only {count} reports");
}

#[test]
fn grids_conform_in_f16() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    if !gpu.has_f16() {
        println!("SKIPPED: {} lacks shader-f16", gpu.info().name);
        return;
    }
    let Some(engine) = grids(&gpu, |_| {}) else { return };
    let large = |case: &RecurrentCase| case.stack.hidden > 32;
    let count = conforms(&engine, recurrent_cases_in_f16().into_iter().filter(large).take(6));
    assert!(count > 2, "only {count} reports");
}

/// Every option that a cell of one phase has, at sizes that two tiles don't divide.
fn cases(cell: CellKind) -> Vec<RecurrentCase> {
    let stack = |hidden| Recurrent::new("rnn", cell, 5, hidden);
    let plain = RecurrentCase::new(stack(41), 7, 3);
    let mut masked = stack(50);
    (masked.recurrent_dropout, masked.zoneout) = (0.3, [0.2, 0.1]);
    vec![
        RecurrentCase { given: true, ..plain.clone() },
        RecurrentCase { lengths: true, resets: true, ..plain.clone() },
        RecurrentCase { stack: masked, given: true, mask: true, ..plain },
    ]
}

const STEPS: usize = 7;

/// A workgroup that never comes to a step, at each of them, forward and backward: what it should have made is made
/// up for, to the bits.
#[test]
fn a_workgroup_that_never_arrives_changes_nothing() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let Some(engine) = grids(&gpu, |_| {}) else { return };
    for cell in [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru] {
        for (number, case) in cases(cell).iter().enumerate() {
            let recording = record_case(case).unwrap();
            assert!(is_served(&engine, case), "{}", case.name());
            let want = run(&engine, &recording, case.time, 2);
            // One case at every step, the others at some.
            let every = if number == 1 && cell == CellKind::Lstm { 1 } else { 4 };
            for step in (0..=STEPS).step_by(every) {
                for stem in ["grid_forward", "grid_backward"] {
                    let new =
                        "if workgroupUniformLoad(&late) != 0u || group.x == 1u && s == STEPu {";
                    let new: &'static str = new.replace("STEP", &step.to_string()).leak();
                    let old = "if workgroupUniformLoad(&late) != 0u {";
                    let faulty = gpu.with_fault(Fault { stem, old, new });
                    // The others need not wait for long.
                    let Some(faulty) = grids(&faulty, |limits| limits.spins = 50) else { return };
                    let got = run(&faulty, &recording, case.time, 2);
                    let what = format!("{cell:?} {}: {stem}, step {step}", case.name());
                    assert_equal(&what, &want, &got);
                }
            }
        }
    }
}

/// Without the launch behind: two workgroups make all steps on a driver with two threads, three or more, of which
/// one starts when another is done, don't. That is what is made up for.
#[test]
fn what_is_not_made_is_made_up_for() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    // They have to meet but once, as the machine may be busy elsewhere.
    let case = RecurrentCase::new(Recurrent::new("rnn", CellKind::Gru, 5, 70), 2, 2);
    let recording = record_case(&case).unwrap();
    let old = "s = workgroupUniformLoad(&begin); s <";
    let new = "s = workgroupUniformLoad(&begin) + 99u; s <";
    let faulty = gpu.with_fault(Fault { stem: "grid_forward", old, new });
    // Long waits, for the same reason.
    let few = |limits: &mut GroupLimits| limits.spins = 60_000;
    let Some(whole) = grids(&gpu, few) else { return };
    let want = run(&whole, &recording, case.time, 1);
    let Some(two) = grids(&faulty, few) else { return };
    let alone = (0..200).any(|_| run(&two, &recording, case.time, 1) == want);
    assert!(alone, "two workgroups never made all steps");
    let many = |limits: &mut GroupLimits| (limits.resident, limits.spins) = (5, 1000);
    let Some(more) = grids(&gpu, many) else { return };
    let got = run(&more, &recording, case.time, 1);
    let error = |name: &str| {
        let pairs =
            want[name].iter().zip(&got[name]).map(|(a, b)| f32::from_bits(*a) - f32::from_bits(*b));
        pairs.fold(0f32, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d.abs()) })
    };
    for name in want.keys() {
        assert!(error(name) < 1e-5, "{name}: {}", error(name));
    }
    // Mesa's driver has a thread a core for workgroups; SwiftShader goes from one to the other.
    if gpu.info().name.starts_with("llvmpipe") {
        let Some(broken) = grids(&faulty, many) else { return };
        let got = run(&broken, &recording, case.time, 1);
        assert!(got != run(&more, &recording, case.time, 1), "five workgroups need no help here");
    }
}

/// Shaders in which the second workgroup never comes to step 3, and wrong in one place after another.
#[test]
fn faults_in_what_is_made_up_for_are_noticed() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let mut case = cases(CellKind::Lstm).remove(1);
    case.given = true;
    let recording = record_case(&case).unwrap();
    // So many steps that all places for words are taken twice.
    let long = RecurrentCase { time: 45, ..case.clone() };
    let long_recording = record_case(&long).unwrap();
    let results_within = |spins: usize, long: bool, fault: Option<Fault>| {
        let gpu = fault.map_or(gpu.clone(), |fault| gpu.with_fault(fault));
        let engine = grids(&gpu, |limits| limits.spins = spins)?;
        let (recording, time) = if long { (&long_recording, 45) } else { (&recording, case.time) };
        Some(run(&engine, recording, time, 1))
    };
    let results = |fault: Option<Fault>| results_within(20_000, false, fault);
    let Some(want) = results(None) else { return };
    let never = ("(&late) != 0u {", "(&late) != 0u || group.x == 1u && s == 3u {");
    let forward = include_str!("../shaders/grid_forward.wgsl");
    let backward = include_str!("../shaders/grid_backward.wgsl");
    let changed = |text: &str, changes: &[(&str, &str)]| {
        changes.iter().fold(text.to_string(), |text, (old, new)| {
            assert!(text.contains(old), "{old}");
            text.replacen(old, new, 1)
        })
    };
    // Not that of one gate after another, which is for matrices.
    let (text, odd) = ("index: u32) {\n    if p.later == NONE {", "p.later % 2u == 1u");
    let later: &str = &text.replace("p.later == NONE", odd);
    let gradients: &str = text;
    let made = "if workgroupUniformLoad(&made[tile]) > s {";
    let faults: [(&str, &'static str, (&str, &str)); 11] = [
        ("grid_forward", forward, (made, "if workgroupUniformLoad(&made[tile]) >= s {")),
        ("grid_forward", forward, (made, "if false {")),
        ("grid_forward", forward, ("group.y * ROWS + row, i", "group.y * ROWS, i")),
        ("grid_forward", forward, ("has_flag(p.t, at.row, RESET)", "false")),
        (
            "grid_forward",
            forward,
            ("= workgroupUniformLoad(&begin);", "= workgroupUniformLoad(&begin) + 1u;"),
        ),
        (
            "grid_forward",
            forward,
            ("TURNS + turn, group.z);\n            if", "TURNS, group.z);\n            if"),
        ),
        ("grid_backward", backward, ("#ifdef TAKES_TURNS\n#paste shared/grid_leave\n#endif\n", "")),
        ("grid_backward", backward, (made, "if false {")),
        ("grid_backward", backward, ("select(p.t + stride,", "select(p.t,")),
        ("grid_backward", backward, (gradients, later)),
        ("grid_backward", backward, ("given.count + TAIL; s++", "given.count; s++")),
    ];
    for (stem, old, fault) in faults {
        // Without the fault there is nothing wrong.
        for (changes, wrong) in [(vec![never], false), (vec![never, fault], true)] {
            let new: &'static str = changed(old, &changes).leak();
            // Workgroups that another one came too late for, as in the first run of a kernel, leave before it matters.
            let differs = || results(Some(Fault { stem, old, new })).is_some_and(|got| got != want);
            let differs = if wrong { (0..6).any(|_| differs()) } else { differs() };
            assert_eq!(differs, wrong, "{stem}: {changes:?}");
        }
    }
    let Some(long_want) = results_within(60_000, true, None) else { return };
    for report in recurrent_reports(&grids(&gpu, |_| {}).unwrap(), &long).unwrap() {
        assert!(report.pass, "{report:?}");
    }
    for (stem, old, new) in [
        (
            "shared/sequence",
            "return group.x * UNITS + place;",
            "return group.x * (UNITS - 1u) + place;",
        ),
        ("shared/write_carry", "held_carry[state];", "held_carry[0];"),
        ("shared/grid_forward_step", "own, held_states[0]", "own, held_states[1]"),
        ("shared/grid", "* AT_ONCE + index / LANE_WORDS;", "* AT_ONCE;"),
        ("shared/grid_backward_step", "s + 1u, #{G}u, own", "s + 1u, 3u - #{G}u, own"),
        ("shared/grid", "max(~bits, 1u)", "max(~bits ^ 65536u, 1u)"),
    ] {
        // With patience: a second workgroup that comes too late, as where cores have others to serve, makes no step, and
        // so none that is wrong.
        let wrong = |_| {
            let got = results_within(60_000, true, Some(Fault { stem, old, new }));
            got.is_none_or(|got| got != long_want)
        };
        assert!((0..6).any(wrong), "{stem}: {old}");
    }
}

/// A workgroup whose words come late is waited for, though its words of earlier steps had the same places: not where
/// those stay.
#[test]
fn words_of_earlier_steps_are_not_taken() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let stack = Recurrent::new("rnn", CellKind::Lstm, 5, 41);
    let case = RecurrentCase { given: true, ..RecurrentCase::new(stack, 45, 3) };
    let recording = record_case(&case).unwrap();
    let results = |fault: Option<Fault>| {
        let gpu = fault.map_or(gpu.clone(), |fault| gpu.with_fault(fault));
        let engine = grids(&gpu, |limits| limits.spins = 20_000)?;
        Some(run(&engine, &recording, case.time, 1))
    };
    let Some(want) = results(None) else { return };
    let old = "    atomicStore(&progress[handed_from(row_group, s + RING - 2u) + place], 0u);";
    // The second tile's units look around before they hand over.
    let late = "    if place % HANDED_LINE >= UNITS {
        for (var i = 0u; i < 100u; i++) {
            if atomicLoad(&progress[0]) == 12345u {
                break;
            }
        }
    }
";
    for (line, wrong) in [(old.to_string(), false), (old.replace(" + RING - 2u", ""), true)] {
        let new: &'static str = format!("{late}{line}").leak();
        let fault = || Fault { stem: "shared/grid", old, new };
        let differs = || results(Some(fault())).is_some_and(|got| got != want);
        let differs = if wrong { (0..6).any(|_| differs()) } else { differs() };
        assert_eq!(differs, wrong, "{line}");
    }
}

/// Unasked, a grid is tried where no workgroup holds all weights: one that computes other numbers than the steps is not
/// taken, however fast it is.
#[test]
fn grids_have_to_prove_themselves() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let (old, new) =
        ("let h = select(value, 0.0, has_flag(p.t, at.row, RESET));", "let h = 0.9 * value;");
    let wrong = gpu.with_fault(Fault { stem: "grid_forward", old, new });
    for (cell, gpu, refused) in [(CellKind::Lstm, &gpu, 0), (CellKind::Gru, &wrong, 1)] {
        let engine = Engine::Gpu(gpu.with_measuring(true));
        // Weights that take more than 64 words of each thread of a workgroup.
        let case = RecurrentCase::new(Recurrent::new("rnn", cell, 5, 150), 6, 2);
        let choices = engine.choices(&record_case(&case).unwrap()).unwrap();
        let tuning = gpu.tuning();
        match tuning.resident {
            Some(groups) if groups > 1 => {}
            _ => {
                println!("SKIPPED: the device keeps {:?} workgroups at work", tuning.resident);
                return;
            }
        }
        let cell_is = format!("CELL={} ", cell.name());
        let tried = tuning.strategies.iter().filter(|(of, _)| of.contains(&cell_is));
        let grids: Vec<_> = tried.filter(|(of, _)| of.starts_with("grid_")).collect();
        assert_eq!(grids.len(), 2, "{grids:?}");
        let failed = grids.iter().filter(|(_, ms)| ms[1] > 1e8);
        let failed: Vec<_> = failed.map(|(of, _)| of.split(' ').next()).collect();
        assert_eq!(failed, vec![Some("grid_forward"); refused]);
        let taken = |kernel: &str| choices.iter().any(|choice| choice.kernel == kernel);
        assert!(refused == 0 || !taken("grid_forward"), "{choices:?}");
        for report in recurrent_reports(&engine, &case).unwrap() {
            assert!(report.pass, "{report:?}");
        }
    }
}

/// Rows that don't all find a workgroup of their own take turns.
#[test]
fn rows_take_turns() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    for (resident, want) in [(2, [4, 2]), (4, [2, 2]), (8, [1, 2]), (16, [1, 1])] {
        // More than the driver has threads for: what they don't make soon is made up for.
        let spins = if resident > 2 { 50 } else { gpu.group_limits().spins };
        let limits = |limits: &mut GroupLimits| (limits.resident, limits.spins) = (resident, spins);
        let Some(engine) = grids(&gpu, limits) else { return };
        let stack = Recurrent::new("rnn", CellKind::Gru, 3, 24);
        let case = RecurrentCase { given: true, ..RecurrentCase::new(stack, 4, 7) };
        let arranged = engine.arranged(&record_case(&case).unwrap()).into_owned();
        let cuts = arranged.launches().iter().filter_map(|launch| match &launch.op {
            Op::SequenceForward(op) => Some(op.cut),
            Op::SequenceBackward(op) => Some(op.cut),
            _ => None,
        });
        let found: BTreeSet<[usize; 2]> = cuts.map(|cut| [cut.rows, cut.turns]).collect();
        assert_eq!(found, BTreeSet::from([want]), "{resident}");
        assert_eq!(conforms(&engine, [case]), 2);
    }
}

/// How many workgroups a device keeps at work is found out once, and kept.
#[test]
fn what_a_device_keeps_at_work_is_found() {
    let Some(engine) = common::gpu_engine() else { return };
    let Engine::Gpu(gpu) = &engine else { return };
    if let Err(error) = engine.with_strategy(Strategy::Grid) {
        assert!(error.to_string().contains("no memory that workgroups share"), "{error}");
        println!("SKIPPED: {error}");
        return;
    }
    let found = gpu.tuning().resident.unwrap();
    println!("{}: {found} workgroups", gpu.info().name);
    assert!((1..4096).contains(&found));
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(!gpu.info().software || found <= cores, "{found} workgroups on {cores} cores");
    assert_eq!(engine.with_strategy(Strategy::Grid).unwrap().strategy(), Strategy::Grid);
}

/// A layer is three launches, however long; a launch of long sequences ends where a driver's rounds would.
#[test]
fn launches_do_not_grow_with_time() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let Some(engine) = grids(&gpu, |limits| limits.rounds = usize::MAX) else { return };
    let counts = [9, 900].map(|time| {
        let case = RecurrentCase::new(Recurrent::new("rnn", CellKind::Lstm, 8, 64), time, 2);
        engine.arranged(&record_case(&case).unwrap()).census()
    });
    assert_eq!(counts[0]["grid_forward"], 2);
    assert_eq!(counts[0]["grid_backward"], 2);
    assert_eq!(counts[0], counts[1]);
    let Some(counted) = grids(&gpu, |limits| (limits.rounds, limits.spins) = (65_000, 15_000))
    else {
        return;
    };
    let stack = Recurrent::new("rnn", CellKind::Lstm, 2, 64);
    let case = RecurrentCase { inference: true, ..RecurrentCase::new(stack, 1200, 1) };
    let parts = counted.arranged(&record_case(&case).unwrap()).census()["grid_forward"];
    assert!(parts > 2 && parts < 12, "{parts} launches");
    assert_eq!(conforms(&counted, [case]), 1);
}

#[test]
fn the_cpu_runs_what_a_gpu_arranged() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let Some(engine) = grids(&gpu, |_| {}) else { return };
    let cpu = Engine::cpu(Some(2)).unwrap();
    for case in cases(CellKind::Gru) {
        let recording = record_case(&case).unwrap();
        let arranged = engine.arranged(&recording);
        let [want, got] = [&recording, &*arranged].map(|r| run(&cpu, r, case.time, 1));
        assert_equal(&case.name(), &want, &got);
    }
}
