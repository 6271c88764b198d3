//! Layers beside one another: the bits of one layer after another, and the diagonals counted.

mod common;

use common::seeded::{assert_equal, run};
use recurra::cell::{Cell, CellKind};
use recurra::conformance::{
    RecurrentCase, random_case, record_case, recurrent_cases, recurrent_cases_in_f16,
    recurrent_reports,
};
use recurra::engine::{Engine, GpuEngine, Strategy};
use recurra::kernel::Op;
use recurra::layer::{Direction, Merge, Recurrent};
use recurra::recording::Recording;

fn engines() -> Option<[Engine; 2]> {
    let auto = common::gpu_engine()?;
    let wavefront = auto.with_strategy(Strategy::Wavefront).unwrap();
    Some([auto, wavefront])
}

fn gpu(engine: &Engine) -> &GpuEngine {
    match engine {
        Engine::Gpu(gpu) => gpu,
        Engine::Cpu(_) => unreachable!("it was opened as a GPU"),
    }
}

/// Chains that go in parts.
fn chains(engine: &Engine, recording: &Recording) -> usize {
    let choices = engine.choices(recording).unwrap();
    choices.iter().filter(|choice| choice.strategy == Strategy::Wavefront).count()
}

/// Each case of several layers that has a chain has the bits of the whole.
#[test]
fn layers_beside_one_another_have_their_bits() {
    let Some([auto, wavefront]) = engines() else { return };
    let deep = |case: &RecurrentCase| case.stack.layers > 1 && case.stack.hidden <= 40;
    let half = gpu(&auto).has_f16().then(recurrent_cases_in_f16).into_iter().flatten();
    let cases = recurrent_cases().into_iter().filter(deep);
    let random = (0..300).map(random_case).filter(deep);
    let mut count = [0, 0];
    for case in cases.chain(random).chain(half.filter(deep).step_by(2)) {
        let recording = record_case(&case).unwrap();
        let found = chains(&wavefront, &recording);
        if found == 0 || count[0] > 40 {
            continue;
        }
        count[0] += 1;
        count[1] += found;
        let [want, got] = [&auto, &wavefront].map(|e| run(e, &recording, case.time, 2));
        assert_equal(&format!("{} {}", case.stack.cell.name(), case.name()), &want, &got);
    }
    println!("{count:?} cases and chains");
    assert!(count[0] > 9 && count[1] > count[0], "{count:?} cases and chains");
}

/// The numbers are the oracle's, for what makes chains of their own kind.
#[test]
fn wavefronts_conform() {
    let Some([_, wavefront]) = engines() else { return };
    let stack = |cell| Recurrent { layers: 3, ..Recurrent::new("rnn", cell, 5, 7) };
    // Steps of several phases. Backward the norm of the input product replaces what sums over all steps read: that
    // chain stays whole.
    let normed = Cell { layer_norm: Some(1e-5), ..Cell::from(CellKind::Lstm) };
    let projected = Cell { projection: Some(4), ..Cell::from(CellKind::Lstm) };
    for (cell, found) in [(normed, 1), (projected, 2), (CellKind::GruResetBefore.into(), 2)] {
        let stack = Recurrent { layers: 3, dropout: 0.2, ..Recurrent::new("rnn", cell, 5, 8) };
        let case = RecurrentCase { given: true, mask: true, ..RecurrentCase::new(stack, 8, 4) };
        let recording = record_case(&case).unwrap();
        assert_eq!(chains(&wavefront, &recording), found, "{}", case.name());
        for report in recurrent_reports(&wavefront, &case).unwrap() {
            assert!(report.pass, "{report:?}");
        }
    }
    for cell in [CellKind::Lstm, CellKind::Gru] {
        let plain = RecurrentCase { given: true, ..RecurrentCase::new(stack(cell), 9, 3) };
        let dropout = Recurrent { dropout: 0.3, ..stack(cell) };
        let residual = Recurrent { residual: true, ..stack(cell) };
        let reverse = Recurrent { direction: Direction::Reverse, ..stack(cell) };
        for case in [
            RecurrentCase { lengths: true, ..plain.clone() },
            RecurrentCase { mask: true, resets: true, ..plain.clone() },
            // An even number of words a step: two elements of a mask come from one draw.
            RecurrentCase { given: true, ..RecurrentCase::new(dropout, 8, 4) },
            RecurrentCase::new(residual, 9, 3),
            RecurrentCase { given: true, ..RecurrentCase::new(reverse, 9, 3) },
        ] {
            let name = case.name();
            let recording = record_case(&case).unwrap();
            assert_eq!(chains(&wavefront, &recording), 2, "{cell:?} {name}: forward and backward");
            for report in recurrent_reports(&wavefront, &case).unwrap() {
                assert!(report.pass, "{report:?}");
            }
        }
    }
}

/// L layers in C parts are C + L − 1 launches of steps forward; backward each layer's last part, which ends with the
/// initial states' gradient, is of another pipeline than the next layer's part beside it: L − 1 launches more.
#[test]
fn diagonals_meet_a_hand_count() {
    let Some([_, wavefront]) = engines() else { return };
    for (layers, time, parts) in [(2, 64, 8), (4, 64, 8), (3, 6, 3)] {
        let stack = Recurrent { layers, ..Recurrent::new("rnn", CellKind::Lstm, 16, 16) };
        let case = RecurrentCase { given: true, ..RecurrentCase::new(stack, time, 4) };
        let recording = record_case(&case).unwrap();
        let arranged = wavefront.arranged(&recording);
        let of = |name: &str| {
            let all = arranged.launches().iter().filter(|l| l.op.kernel().name() == name);
            all.map(|launch| match &launch.op {
                Op::Beside(op) => op.ops().len(),
                _ => 1,
            })
            .collect::<Vec<_>>()
        };
        for (name, more) in [("sequence_forward", 0), ("sequence_backward", layers - 1)] {
            let launches = of(name);
            let count = parts + layers - 1 + more;
            assert_eq!(launches.len(), count, "{name} L{layers}: {launches:?}");
            assert_eq!(launches.iter().sum::<usize>(), parts * layers, "{name}: {launches:?}");
            let most = launches.iter().max();
            assert!(more > 0 || most == Some(&layers.min(parts)), "{name}: {launches:?}");
        }
    }
}

/// Where memory was limited, or layers hear both ends of the sequence, one comes after another.
#[test]
fn what_can_not_be_cut_stays_whole() {
    let Some([auto, wavefront]) = engines() else { return };
    let stack = |layers| Recurrent { layers, ..Recurrent::new("rnn", CellKind::Gru, 6, 6) };
    let both = Recurrent { direction: Direction::Both(Merge::Concat), ..stack(2) };
    for stack in [stack(1), both] {
        let recording = record_case(&RecurrentCase::new(stack, 12, 2)).unwrap();
        assert_eq!(chains(&wavefront, &recording), 0);
    }
    for time in [1, 2, 3] {
        let recording = record_case(&RecurrentCase::new(stack(2), time, 2)).unwrap();
        assert_eq!(chains(&wavefront, &recording), 0);
    }
    // In halves, but not in eight parts: a part would begin with the second of two elements that come from one draw.
    let stack = Recurrent { layers: 2, dropout: 0.3, ..Recurrent::new("rnn", CellKind::Gru, 6, 7) };
    let recording = record_case(&RecurrentCase::new(stack, 20, 3)).unwrap();
    let choices = wavefront.choices(&recording).unwrap();
    let whole: Vec<_> = choices.iter().filter(|choice| choice.layers == 2).collect();
    assert!(!whole.is_empty() && chains(&wavefront, &recording) == 0, "{choices:?}");
    assert!(whole.iter().all(|choice| choice.reason.contains("can't be cut")), "{choices:?}");
    let count = |engine: &Engine| engine.arranged(&recording).launches().len();
    assert_eq!(count(&wavefront), count(&auto));
}

/// Chains are measured on request, the faster way is taken and told, and computes the same.
#[test]
fn chains_are_measured() {
    let Some([auto, _]) = engines() else { return };
    let engine = Engine::Gpu(gpu(&auto).with_measuring(true));
    let stack = Recurrent { layers: 2, ..Recurrent::new("rnn", CellKind::Gru, 5, 11) };
    let case = RecurrentCase { lengths: true, ..RecurrentCase::new(stack, 10, 3) };
    let recording = record_case(&case).unwrap();
    let choices = engine.choices(&recording).unwrap();
    let found: Vec<_> = choices.iter().filter(|choice| choice.layers == 2).collect();
    assert_eq!(found.len(), 2, "{choices:?}");
    for choice in found {
        let [whole, parts] = choice.measured_ms.unwrap();
        assert!(whole > 0.0 && parts > 0.0);
        let faster = parts < 0.98 * whole;
        assert_eq!(choice.strategy == Strategy::Wavefront, faster, "{choice:?}");
    }
    for report in recurrent_reports(&engine, &case).unwrap() {
        assert!(report.pass, "{report:?}");
    }
}
